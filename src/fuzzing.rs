//! Internal functions for the fuzz targets (`tests/fuzz`). Exists only with
//! `cfg(fuzzing)`, and is not a public interface.

use std::time::{Duration, UNIX_EPOCH};

use ::http::header::{HeaderMap, HeaderValue, LOCATION};
use ::http::{HeaderName, Uri};

use crate::client::{List, parse_regions};
use crate::credentials::{Identity, parse_profile};
use crate::error::{Error, ServiceText, Status};
use crate::http::{self, Endpoint, LastToken, Proxy, Retry, Secrets, ServiceError};

/// Returns the file name in a `Content-Disposition`.
pub fn content_disposition(value: &str) -> Option<String> {
    http::safe_filename(value)
}

/// Makes a file name from a report's name.
pub fn file_name(name: &str) -> Option<String> {
    http::safe_name(name)
}

/// Parses the first and the last byte of a range, and the total length.
pub fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    http::content_range(value)
}

/// Parses the total length for a range that cannot be satisfied.
pub fn unsatisfied_range(value: &str) -> Option<u64> {
    http::unsatisfied_range(value)
}

/// Whether an entity tag is strong.
pub fn is_strong_etag(value: &str) -> bool {
    http::strong_etag(value).is_some()
}

/// A parsed error body.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct ParsedError {
    pub is_error_object: bool,
    pub code: Option<String>,
    pub message: Option<String>,
    pub request_id: Option<String>,
    pub encoded_authorization_message: Option<String>,
    pub details: Vec<crate::Detail>,
}

/// Parses an error body, as of the response to a request with this token.
pub fn error_body(body: &[u8], token: &'static str) -> ParsedError {
    let mut value = HeaderValue::from_static(token);
    value.set_sensitive(true);
    let sent = HeaderMap::from_iter([(HeaderName::from_static("x-auth-token"), value)]);
    let secrets = Secrets::of(&sent, &[], &LastToken::default());
    let error = ServiceError::parse(body, |text| secrets.redact(text)).unwrap_or_default();
    let ServiceText {
        code,
        message,
        request_id,
        encoded_authorization_message,
        details,
    } = error.text;
    ParsedError {
        is_error_object: error.is_error_object,
        code,
        message,
        request_id,
        encoded_authorization_message,
        details,
    }
}

/// Which list a body is of.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum ListKind {
    Instances,
    Reports,
    Templates,
}

/// An item of a list: returns a field by its name.
pub type Item = Box<dyn Fn(&str) -> Option<String>>;

/// Parses a page of a list into its total and its items.
pub fn list_body(kind: ListKind, body: &[u8]) -> Result<(Option<u64>, Vec<Item>), String> {
    let instance = String::new();
    let list = match kind {
        ListKind::Instances => List::Instances,
        ListKind::Reports => List::Reports { instance, name: None },
        ListKind::Templates => List::Templates { instance },
    };
    let (total, items) = list
        .parse(body.to_vec(), &|_| None)
        .map_err(|e| e.message().to_owned())?;
    let item = |item: crate::client::Item| -> Item {
        Box::new(move |name| {
            let text = item.field(&name.replace('\0', "\u{fffd}"))?;
            Some(text.to_string_lossy().into_owned())
        })
    };
    Ok((total, items.into_iter().map(item).collect()))
}

/// Parses `Retry-After`, and returns it with the pause after a throttled attempt: `None`
/// if there is no other attempt.
pub fn retry_after(value: &str, date: Duration, longest: Duration) -> (Option<Duration>, Option<Duration>) {
    let asked = http::retry_after(value, UNIX_EPOCH.checked_add(date));
    let failure = Error::new(Status::Throttled, "throttled").with_retry_after(asked);
    (asked, Retry::new(2, longest).pause_after(&mut failure.clone()))
}

/// A parsed endpoint.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct ParsedEndpoint {
    pub is_https: bool,
    pub is_loopback: bool,
    pub origin: String,
    /// The URL of a resource with these segments and this query.
    pub url: Uri,
}

/// Parses an endpoint.
pub fn endpoint(url: &str, segments: &[&str], query: &[(&str, &str)]) -> Result<ParsedEndpoint, Error> {
    let endpoint = Endpoint::parse(url, "endpoint")?;
    Ok(ParsedEndpoint {
        is_https: endpoint.is_https(),
        is_loopback: endpoint.is_loopback(),
        origin: endpoint.origin(),
        url: endpoint.url(segments, query)?,
    })
}

/// Parses a proxy's URL into its host and port.
pub fn proxy(url: &str) -> Result<(String, u16), Error> {
    Proxy::parse(url, "proxy").map(|proxy| (proxy.host, proxy.port))
}

/// Resolves and checks a redirect; returns its target and whether the origin is the same.
pub fn redirect(from: &Uri, location: &[u8]) -> Option<(Uri, bool)> {
    let value = HeaderValue::from_bytes(location).ok()?;
    let to = http::target(from, &HeaderMap::from_iter([(LOCATION, value)]))?;
    http::check(&to, from, 1, false).ok()?;
    let same_origin = http::origin(&to) == http::origin(from);
    Some((to, same_origin))
}

/// The content of a profile file.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Profile {
    pub access_key: String,
    pub secret_key: String,
    pub security_token: Option<String>,
    pub project_id: Option<String>,
    pub iam_endpoint: Option<String>,
}

/// Parses a profile file.
pub fn profile(file: &[u8]) -> Result<Profile, String> {
    let profile = parse_profile(file)?;
    let (access_key, secret_key, security_token) = match profile.identity {
        Identity::Federation {
            idp_id,
            id_token_file,
        } => (idp_id, id_token_file, None),
        Identity::Key {
            access_key,
            secret_key,
            security_token,
        } => (
            access_key,
            secret_key.to_string(),
            security_token.map(|token| token.to_string()),
        ),
    };
    Ok(Profile {
        access_key,
        secret_key,
        security_token,
        project_id: profile.project_id,
        iam_endpoint: profile.iam_endpoint,
    })
}

/// Parses a regions file; returns the URLs of a region.
pub fn regions(file: &[u8], region: &str) -> Result<Option<Vec<String>>, String> {
    parse_regions(file, region)
}
