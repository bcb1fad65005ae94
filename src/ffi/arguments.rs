//! Pointers and strings that the host passes.

use std::ffi::{CStr, c_char};

use dbss::{Error, Status};

pub(super) fn null(parameter: &'static str) -> Error {
    Error::argument(Status::NullArgument, parameter, "must not be NULL")
}

/// An out-parameter: checked for NULL and set to `empty` before anything else,
/// so that every failure leaves it so.
///
/// # Safety
/// `out` is NULL or points to writable memory for a `T`, which need not be
/// initialised.
pub(super) unsafe fn out<'a, T>(out: *mut T, empty: T, parameter: &'static str) -> Result<&'a mut T, Error> {
    if out.is_null() {
        return Err(null(parameter));
    }
    // SAFETY: not NULL, and by contract writable; `write` does not read or
    // drop what stood there, and afterwards it is initialised.
    unsafe {
        out.write(empty);
        Ok(&mut *out)
    }
}

/// The bytes of a required string.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that stays as it is during `'a`.
pub(super) unsafe fn bytes<'a>(text: *const c_char, parameter: &'static str) -> Result<&'a [u8], Error> {
    if text.is_null() {
        return Err(null(parameter));
    }
    // SAFETY: not NULL, and by contract NUL-terminated and stable.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A required string, which must be UTF-8.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn text<'a>(text: *const c_char, parameter: &'static str) -> Result<&'a str, Error> {
    // SAFETY: the same contract.
    dbss::internal::utf8(unsafe { bytes(text, parameter) }?, parameter)
}

/// An optional string: NULL is none.
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
