//! Objects that a caller fills in by key and value: the options of a mirror, the
//! specification of a report, the changes of a schedule.

use std::ffi::c_char;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use super::arguments::{bytes, out, text};
use super::call::ffi_status;
use super::handle::Handle;
use super::status::dbss_status;
use dbss::Error;

/// Makes an object in which nothing is set.
///
/// # Safety
/// `out_handle` is NULL or writable.
pub(super) unsafe fn new_settings<H, T>(out_handle: *mut *mut H, parameter: &'static str) -> dbss_status
where
    H: Handle<Value = Mutex<T>>,
    T: Default,
{
    // SAFETY: the same contract.
    let slot = unsafe { out(out_handle, ptr::null_mut(), parameter) };
    ffi_status(|| {
        // First: an assignment evaluates its right side first, which NULL would leak.
        let slot = slot?;
        *slot = H::into_handle(Arc::new(Mutex::new(T::default())));
        Ok(())
    })
}

/// Sets a value by its key.
///
/// # Safety
/// The handle is as for [`Handle::borrow`]; the strings are as for [`bytes`].
pub(super) unsafe fn set_value<H, T>(
    handle: *mut H,
    parameter: &'static str,
    key: *const c_char,
    value: *const c_char,
    set: impl FnOnce(&mut T, &str, &[u8]) -> Result<(), Error>,
) -> dbss_status
where
    H: Handle<Value = Mutex<T>>,
{
    ffi_status(|| {
        // SAFETY: the same contracts.
        let (settings, key, value) = unsafe {
            (
                H::borrow(handle, parameter)?,
                text(key, "key")?,
                bytes(value, "value")?,
            )
        };
        let mut settings = settings.lock().unwrap_or_else(PoisonError::into_inner);
        set(&mut settings, key, value)
    })
}

/// Copies what is set, for a call.
///
/// # Safety
/// As for [`Handle::borrow`].
pub(super) unsafe fn copy_settings<H, T>(handle: *const H, parameter: &'static str) -> Result<T, Error>
where
    H: Handle<Value = Mutex<T>>,
    T: Clone,
{
    // SAFETY: the same contract.
    let settings = unsafe { H::borrow(handle, parameter) }?;
    Ok(settings.lock().unwrap_or_else(PoisonError::into_inner).clone())
}
