//! `dbss_buffer`: bytes that the library allocated.

use std::ptr;

use super::panic::ffi_value;

/// Bytes that libdbss allocated, and their number. The only structure of this
/// library whose fields are public.
///
/// A function that fills one overwrites it on entry and never reads it, so it
/// need not be initialised. Free it with dbss_buffer_free(), not with free().
#[repr(C)]
pub struct dbss_buffer {
    /// The first byte; NULL when the buffer is empty.
    /// @field nullable, size len.
    pub data: *mut u8,
    /// The number of bytes.
    pub len: usize,
}

impl dbss_buffer {
    pub(super) const EMPTY: dbss_buffer = dbss_buffer {
        data: ptr::null_mut(),
        len: 0,
    };

    /// Passes the ownership of `bytes` to the caller, until
    /// [`dbss_buffer_free`].
    pub(super) fn from_bytes(bytes: Box<[u8]>) -> dbss_buffer {
        if bytes.is_empty() {
            return dbss_buffer::EMPTY;
        }
        let len = bytes.len();
        dbss_buffer {
            data: Box::into_raw(bytes).cast::<u8>(),
            len,
        }
    }
}

/// Frees the bytes of a buffer and sets it to { NULL, 0 }, so freeing it twice
/// is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_buffer_free(buffer: *mut dbss_buffer) {
    ffi_value((), || {
        // SAFETY: by the header's rules NULL, or a buffer that a function of
        // this library filled and that nobody else uses now.
        let Some(buffer) = (unsafe { buffer.as_mut() }) else {
            return;
        };
        let dbss_buffer { data, len } = std::mem::replace(buffer, dbss_buffer::EMPTY);
        if !data.is_null() {
            // SAFETY: `from_bytes` made these two from a boxed slice of that length.
            drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(data, len)) });
        }
    });
}
