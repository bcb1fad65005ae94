//! Header values that wipe themselves.

use ::http::HeaderValue;
use bytes::Bytes;
use zeroize::Zeroizing;

use crate::error::{Error, Status};
use crate::tables::LONGEST_TOKEN;

/// A header value of a secret: never shown, and wiped with its last copy.
pub(super) fn header(secret: &[u8], status: Status, parameter: &'static str) -> Result<HeaderValue, Error> {
    check(secret, status, parameter, LONGEST_TOKEN)?;
    // All copies of the header share this one allocation, which wipes itself.
    let wiped = Bytes::from_owner(Zeroizing::new(secret.to_vec()));
    let mut value = HeaderValue::from_maybe_shared(wiped)
        .map_err(|_| Error::argument(status, parameter, "cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error if a secret is not made of visible ASCII characters. What is wrong
/// with it is part of it, so it is described, not shown.
pub(super) fn check(
    secret: &[u8],
    status: Status,
    parameter: &'static str,
    longest: usize,
) -> Result<(), Error> {
    let invalid = |what: std::fmt::Arguments<'_>| Err(Error::argument(status, parameter, what));
    if secret.is_empty() {
        return invalid(format_args!("must not be empty"));
    }
    if secret.len() > longest {
        return invalid(format_args!(
            "must have at most {longest} bytes, and has {}",
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
    invalid(format_args!(
        "holds {what} at byte {position} of {}, which none has; was it read with its line end?",
        secret.len()
    ))
}
