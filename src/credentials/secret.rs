//! Secret header values that are wiped from memory when dropped.

use ::http::HeaderValue;
use bytes::Bytes;
use zeroize::Zeroizing;

use crate::error::{Error, Status};
use crate::tables::MAX_TOKEN_LENGTH;

/// Makes a header value from a secret. It is never shown, and is wiped when its last copy
/// is dropped.
pub(super) fn header(secret: &[u8], status: Status, parameter: &'static str) -> Result<HeaderValue, Error> {
    check(secret, status, parameter, MAX_TOKEN_LENGTH)?;
    // All copies of the header share this allocation, which is wiped when dropped.
    let wiped = Bytes::from_owner(Zeroizing::new(secret.to_vec()));
    let mut value = HeaderValue::from_maybe_shared(wiped)
        .map_err(|_| Error::argument(status, parameter, "is not a valid header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Checks that a secret has only visible ASCII characters. The error describes the wrong
/// character and does not show it, because it is part of the secret.
pub(super) fn check(
    secret: &[u8],
    status: Status,
    parameter: &'static str,
    max_length: usize,
) -> Result<(), Error> {
    let invalid = |what: std::fmt::Arguments<'_>| Err(Error::argument(status, parameter, what));
    if secret.is_empty() {
        return invalid(format_args!("must not be empty"));
    }
    if secret.len() > max_length {
        return invalid(format_args!(
            "must have at most {max_length} bytes, and has {}",
            secret.len()
        ));
    }
    let Some(position) = secret.iter().position(|b| !b.is_ascii_graphic()) else {
        return Ok(());
    };
    let what = match secret[position] {
        b'\r' => "a carriage return",
        b'\n' => "a line feed",
        b' ' | b'\t' => "a space or tab",
        0x00..=0x1f | 0x7f => "a control character",
        _ => "a byte that is not ASCII",
    };
    let advice = match secret[position] {
        b'\r' | b'\n' => "; was it read with its line ending?",
        _ => "",
    };
    invalid(format_args!(
        "contains {what} at byte {} of {}, which is not allowed{advice}",
        position + 1,
        secret.len()
    ))
}
