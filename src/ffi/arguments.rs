//! Checks and converts pointers and strings of the caller.

use std::ffi::{CStr, c_char};

use dbss::internal::Part;
use dbss::{Error, PartKind, Status};

pub(super) fn null(parameter: &'static str) -> Error {
    Error::argument(
        Status::NullArgument,
        parameter,
        format_args!("must not be {}", Part(PartKind::Null, "NULL")),
    )
}

/// Checks an out-parameter for NULL, and sets it to `empty`. Called before
/// anything else, so that it stays empty after every failure.
///
/// # Safety
/// `out` is NULL or points to writable memory for a `T`, which need not be
/// initialised.
pub(super) unsafe fn out<'a, T>(out: *mut T, empty: T, parameter: &'static str) -> Result<&'a mut T, Error> {
    if out.is_null() {
        return Err(null(parameter));
    }
    // SAFETY: not NULL, and by contract writable; `write` does not read or drop
    // the old value, and afterwards it is initialised.
    unsafe {
        out.write(empty);
        Ok(&mut *out)
    }
}

/// Returns the bytes of a required string.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that does not change during `'a`.
pub(super) unsafe fn bytes<'a>(text: *const c_char, parameter: &'static str) -> Result<&'a [u8], Error> {
    if text.is_null() {
        return Err(null(parameter));
    }
    // SAFETY: not NULL, and by contract NUL-terminated and stable.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// Returns a required string, which must be UTF-8.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn text<'a>(text: *const c_char, parameter: &'static str) -> Result<&'a str, Error> {
    // SAFETY: the same contract.
    dbss::internal::utf8(unsafe { bytes(text, parameter) }?, parameter)
}

/// Returns an optional string: none for NULL.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn optional_text<'a>(
    string: *const c_char,
    parameter: &'static str,
) -> Result<Option<&'a str>, Error> {
    if string.is_null() {
        return Ok(None);
    }
    // SAFETY: the same contract.
    unsafe { text(string, parameter) }.map(Some)
}
