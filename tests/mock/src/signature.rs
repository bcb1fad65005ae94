//! The AK/SK signature, checked over what was really received.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use crate::http::{Request, decode};

const ALGORITHM: &str = "SDK-HMAC-SHA256";
const DATE: &str = "X-Sdk-Date";
const CONTENT_HASH: &str = "X-Sdk-Content-Sha256";
const UNSIGNED: &[u8] = b"UNSIGNED-PAYLOAD";
const TOLERANCE: Duration = Duration::minutes(15);
const DATE_FORMAT: StaticFormatDescription =
    format_description!("[year][month][day]T[hour][minute][second]Z");
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What belongs to an access key id.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) secret: String,
    /// The token that must come with it; none: any or no token may.
    pub(crate) token: Option<String>,
}

/// Checks the `Authorization` header of a request; the error says what was wrong. `key` finds the
/// key of an id; a project that is sent must be `project`.
pub(crate) fn verify(
    request: &Request,
    key: impl FnOnce(&str) -> Option<Key>,
    project: Option<&str>,
    now: SystemTime,
) -> Result<(), String> {
    let header = request
        .header("Authorization")
        .and_then(|value| std::str::from_utf8(value).ok())
        .ok_or("authorization header is not text")?;
    let fields = header
        .strip_prefix(ALGORITHM)
        .ok_or("unknown authorization algorithm")?;
    let mut access = None;
    let mut signed = None;
    let mut signature = None;
    for field in fields.split(',') {
        match field.trim().split_once('=') {
            Some(("Access", value)) => access = Some(value),
            Some(("SignedHeaders", value)) => signed = Some(value),
            Some(("Signature", value)) => signature = Some(value),
            _ => return Err("malformed authorization header".to_owned()),
        }
    }
    let (Some(access), Some(signed), Some(signature)) = (access, signed, signature) else {
        return Err("incomplete authorization header".to_owned());
    };
    let key = key(access).ok_or("unknown access key")?;
    let date = check_date(request, now)?;
    let names: Vec<&str> = signed.split(';').collect();
    if names
        .iter()
        .any(|name| name.chars().any(|c| c.is_ascii_uppercase()))
        || !names.is_sorted_by(|a, b| a < b)
    {
        return Err("signed headers are not lower case, sorted and distinct".to_owned());
    }
    // Not the host: the SDK for Go does not sign it.
    if !names.contains(&"x-sdk-date") {
        return Err("x-sdk-date is not signed".to_owned());
    }
    for needed in ["x-security-token", "x-project-id", "x-domain-id"] {
        if request.header(needed).is_some() && !names.contains(&needed) {
            return Err(format!("{needed} is sent but not signed"));
        }
    }
    if let Some(token) = &key.token
        && request.header("X-Security-Token") != Some(token.as_bytes())
    {
        return Err("x-security-token is not that of the access key".to_owned());
    }
    let canonical = canonical_request(request, &names, signed)?;
    let to_sign = format!("{ALGORITHM}\n{date}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.secret.as_bytes()).map_err(|error| error.to_string())?;
    mac.update(to_sign.as_bytes());
    let expected = hex::encode(mac.finalize().into_bytes());
    if expected != signature {
        return Err("signature does not match".to_owned());
    }
    match (request.header("X-Project-Id"), project) {
        (Some(sent), Some(project)) if sent != project.as_bytes() => {
            Err("x-project-id is not the project of the path".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_date(request: &Request, now: SystemTime) -> Result<&str, String> {
    let date = request
        .header(DATE)
        .and_then(|value| std::str::from_utf8(value).ok())
        .ok_or("x-sdk-date is missing")?;
    let time = PrimitiveDateTime::parse(date, DATE_FORMAT)
        .map_err(|_| "x-sdk-date is not a date")?
        .assume_utc();
    if (OffsetDateTime::from(now) - time).abs() > TOLERANCE {
        return Err("x-sdk-date is too far from the clock".to_owned());
    }
    Ok(date)
}

fn canonical_request(request: &Request, names: &[&str], signed: &str) -> Result<Vec<u8>, String> {
    let mut path: String = request
        .path()
        .split('/')
        .map(|segment| encode(&decode(segment)))
        .collect::<Vec<_>>()
        .join("/");
    if !path.ends_with('/') {
        path.push('/');
    }
    let mut pairs = request.pairs();
    pairs.sort();
    let query = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect::<Vec<_>>()
        .join("&");
    let mut canonical = format!("{}\n{path}\n{query}\n", request.method).into_bytes();
    for name in names {
        let mut values = request.all(name);
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(format!("signed header {name} is not there exactly once"));
        };
        canonical.extend(name.as_bytes());
        canonical.push(b':');
        canonical.extend(value);
        canonical.push(b'\n');
    }
    let hash = match request.header(CONTENT_HASH) {
        Some(UNSIGNED) if !request.body.is_empty() => String::from_utf8_lossy(UNSIGNED).into_owned(),
        _ => hex::encode(Sha256::digest(&request.body)),
    };
    canonical.extend(format!("\n{signed}\n{hash}").as_bytes());
    Ok(canonical)
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}
