//! Following a redirect, where the caller allows it.

use ::http::Uri;
use ::http::header::{HeaderMap, LOCATION};
use ::http::uri::{Authority, PathAndQuery, Scheme};

use super::endpoint::Endpoint;
use crate::error::{Error, Status};

const MAX_REDIRECTS: u32 = 5;

/// Where an answer points: a whole URL, or a path on the same host.
pub(crate) fn target(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let location = headers.get(LOCATION)?.to_str().ok()?.split('#').next()?;
    if let Some(path) = location.strip_prefix('/').filter(|rest| !rest.starts_with('/')) {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(format!("/{path}").parse::<PathAndQuery>().ok()?);
        return Uri::from_parts(parts).ok();
    }
    let uri: Uri = location.parse().ok()?;
    uri.authority()?;
    uri.scheme().is_some().then_some(uri)
}

/// An error if the library must not go there.
pub(crate) fn check(to: &Uri, from: &Uri, count: u32, allow_plaintext: bool) -> Result<(), Error> {
    let refused = |why: &str| {
        Err(Error::new(
            Status::Redirected,
            format!("a redirect was refused: {why}"),
        ))
    };
    if count > MAX_REDIRECTS {
        return refused("they do not end");
    }
    let origin = format!(
        "{}://{}",
        to.scheme_str().unwrap_or_default(),
        to.authority().map_or("", |a| a.as_str())
    );
    let Ok(endpoint) = Endpoint::parse(&origin, "redirect") else {
        return refused("it leads to a URL that is no endpoint");
    };
    if endpoint.is_https() {
        return Ok(());
    }
    if from.scheme() == Some(&Scheme::HTTPS) {
        return refused("it leads from https to plain http");
    }
    if !endpoint.is_loopback() && !allow_plaintext {
        return refused("it leads to plain http on another host");
    }
    Ok(())
}

/// Scheme, host and port.
pub(crate) fn origin(uri: &Uri) -> (Option<Scheme>, Option<Authority>) {
    (uri.scheme().cloned(), uri.authority().cloned())
}
