//! Handles: opaque C types and the Rust values behind them.

use std::sync::Arc;

use super::arguments::null;
use super::panic::ffi_value;
use dbss::Error;

/// Connects an opaque C type with the Rust value behind it. A pointer can only
/// be converted to the type that it was made from; another cast does not
/// compile.
///
/// Handles are reference counted. A call takes its own reference first, so
/// another thread may free a handle while the call runs.
pub(super) trait Handle: Sized {
    type Value: Send + Sync;

    /// Passes the value to the caller, until [`Handle::release`].
    fn into_handle(value: Arc<Self::Value>) -> *mut Self {
        Arc::into_raw(value).cast::<Self>().cast_mut()
    }

    /// Returns a new reference to the value behind a caller's handle.
    ///
    /// # Safety
    /// `handle` is NULL, or came from [`Handle::into_handle`] of this type and
    /// was not released before this call.
    unsafe fn borrow(handle: *const Self, parameter: &'static str) -> Result<Arc<Self::Value>, Error> {
        if handle.is_null() {
            return Err(null(parameter));
        }
        let value = handle.cast::<Self::Value>();
        // SAFETY: by this function's contract the pointer came from
        // `Arc::into_raw` of the same type, and the caller's count still
        // holds, so the value lives while we add ours.
        unsafe {
            Arc::increment_strong_count(value);
            Ok(Arc::from_raw(value))
        }
    }

    /// Reads one field of the value. Returns `fallback` for NULL.
    ///
    /// # Safety
    /// As for [`Handle::borrow`].
    unsafe fn read<T>(handle: *const Self, fallback: T, field: impl FnOnce(&Self::Value) -> T) -> T {
        // SAFETY: the same contract. The parameter name is only for errors,
        // which getters do not report.
        let read = || {
            unsafe { Self::borrow(handle, "") }
                .ok()
                .map(|value| field(&value))
        };
        ffi_value(None, read).unwrap_or(fallback)
    }

    /// Ends the caller's ownership. Does nothing for NULL.
    ///
    /// # Safety
    /// As for [`Handle::borrow`]; the handle is not used afterwards.
    unsafe fn release(handle: *mut Self) {
        if !handle.is_null() {
            // SAFETY: by this function's contract this is the count that
            // `into_handle` gave away, and nobody will use it again.
            drop(unsafe { Arc::from_raw(handle.cast::<Self::Value>().cast_const()) });
        }
    }
}
