//! Resolves and checks redirects, which are followed only if the caller allows it.

use ::http::Uri;
use ::http::header::{HeaderMap, LOCATION};
use ::http::uri::{Authority, Scheme};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use super::endpoint::Endpoint;
use crate::error::{Error, Status};

const MAX_REDIRECTS: u32 = 5;

/// The longest Location that is read, in bytes: no URL is longer.
pub(super) const LOCATION_LIMIT: usize = 16 * 1024;

/// Characters that a URL must not contain unencoded.
const MUST_ENCODE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Resolves the Location of a response (RFC 3986, 5.2); `None` if it is missing or invalid.
pub(crate) fn target(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let location = headers.get(LOCATION)?.as_bytes().trim_ascii();
    if location.is_empty() {
        return None;
    }
    let location = location.split(|b| *b == b'#').next()?;
    let location = percent_encode(location, MUST_ENCODE).to_string();
    let (scheme, rest) = match location.split_once(':') {
        // Other code compares schemes in lower case.
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme.to_ascii_lowercase()), rest),
        _ => (None, location.as_str()),
    };
    let (authority, rest) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), rest)
        }
        None => (None, rest),
    };
    if scheme.is_some() && authority.is_none() {
        return None;
    }
    let (path, query) = rest
        .split_once('?')
        .map_or((rest, None), |(path, query)| (path, Some(query)));
    let (mut path, query) = match path {
        "" if authority.is_some() => ("/".to_owned(), query),
        "" => (from.path().to_owned(), query.or(from.query())),
        path if path.starts_with('/') => (remove_dot_segments(path), query),
        path => {
            let directory = from
                .path()
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            (remove_dot_segments(&format!("{directory}/{path}")), query)
        }
    };
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    Uri::builder()
        .scheme(scheme.as_deref().or(from.scheme_str())?)
        .authority(authority.or(from.authority().map(Authority::as_str))?)
        .path_and_query(path)
        .build()
        .ok()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Resolves the segments `.` and `..` of a path that begins with `/`.
fn remove_dot_segments(path: &str) -> String {
    let mut segments = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => {
                segments.push(segment);
                continue;
            }
        }
        if rest.peek().is_none() {
            segments.push("");
        }
    }
    format!("/{}", segments.join("/"))
}

/// Returns an error if this redirect must not be followed.
pub(crate) fn check(to: &Uri, from: &Uri, count: u32, allow_plaintext: bool) -> Result<(), Error> {
    let refused = |why: &str| {
        Err(Error::new(
            Status::Redirected,
            format!("a redirect was refused: {why}"),
        ))
    };
    if count > MAX_REDIRECTS {
        return refused("there were more than 5 in a row");
    }
    let origin = format!(
        "{}://{}",
        to.scheme_str().unwrap_or_default(),
        to.authority().map_or("", |a| a.as_str())
    );
    let Ok(endpoint) = Endpoint::parse(&origin, "redirect") else {
        return refused("its target is not a valid endpoint URL");
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

/// Returns the scheme and the authority (host and port).
pub(crate) fn origin(uri: &Uri) -> (Option<Scheme>, Option<Authority>) {
    (uri.scheme().cloned(), uri.authority().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;

    fn resolve(location: &[u8]) -> Option<String> {
        let from = "https://dbss.example.com/v1/p/download?local=en-us";
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(location).expect("a value"));
        Some(target(&from.parse().expect("a URL"), &headers)?.to_string())
    }

    #[test]
    fn location_is_resolved_per_rfc_3986() {
        for (location, to) in [
            ("x.pdf", "https://dbss.example.com/v1/p/x.pdf"),
            ("./x.pdf?a=b", "https://dbss.example.com/v1/p/x.pdf?a=b"),
            ("../x", "https://dbss.example.com/v1/x"),
            ("../../../../x", "https://dbss.example.com/x"),
            ("..", "https://dbss.example.com/v1/"),
            ("/a/./b/../c", "https://dbss.example.com/a/c"),
            ("?x", "https://dbss.example.com/v1/p/download?x"),
            ("?", "https://dbss.example.com/v1/p/download?"),
            ("#f", "https://dbss.example.com/v1/p/download?local=en-us"),
            ("./a:b", "https://dbss.example.com/v1/p/a:b"),
            ("//host.example/x", "https://host.example/x"),
            ("//host.example:8443", "https://host.example:8443/"),
            ("//host.example?x", "https://host.example/?x"),
            ("http://host.example/a b", "http://host.example/a%20b"),
            ("审计.pdf", "https://dbss.example.com/v1/p/%E5%AE%A1%E8%AE%A1.pdf"),
            ("/%E5?a=\u{e9}", "https://dbss.example.com/%E5?a=%C3%A9"),
            ("HTTPS://Host.example/x", "https://Host.example/x"),
            ("HttP://host.example:81/x", "http://host.example:81/x"),
            ("", ""),
            ("a:b", ""),
            ("https:x", ""),
            ("///x", ""),
            ("https://", ""),
            ("//a b/x", ""),
        ] {
            assert_eq!(resolve(location.as_bytes()).unwrap_or_default(), to, "{location}");
        }
    }
}
