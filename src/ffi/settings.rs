//! Objects that a caller fills in by key and value: the options of a mirror, the
//! specification of a report, the changes of a schedule.

use std::ffi::c_char;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use super::arguments::{bytes, out, text};
use super::call::ffi_status;
use super::handle::Handle;
use super::status::dbss_status;
use dbss::internal::process;
use dbss::{Error, Status};

/// How often a child of `fork` tries to lock what it has inherited, and the pause between.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// What an object has that functions fill in.
pub(super) struct Settings<T> {
    process: usize,
    values: Mutex<T>,
}

impl<T> Settings<T> {
    pub(super) fn new(values: T) -> Settings<T> {
        Settings {
            process: process(),
            values: Mutex::new(values),
        }
    }

    /// Locks the values. It fails in a child of `fork` if another thread of the parent had
    /// locked them at that moment: that thread does not exist in the child.
    pub(super) fn lock(&self, parameter: &'static str) -> Result<MutexGuard<'_, T>, Error> {
        // Setters assign last, so the values are consistent even after a panic.
        if self.process == process() {
            return Ok(self.values.lock().unwrap_or_else(PoisonError::into_inner));
        }
        for _ in 0..TRIES {
            match self.values.try_lock() {
                Ok(values) => return Ok(values),
                Err(TryLockError::Poisoned(e)) => return Ok(e.into_inner()),
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            }
        }
        let what = "was in use by another thread when this process was forked; make a new one here";
        Err(Error::argument(Status::Argument, parameter, what))
    }
}

/// Makes an object in which nothing is set.
///
/// # Safety
/// `out_handle` is NULL or writable.
pub(super) unsafe fn new_settings<H, T>(out_handle: *mut *mut H, parameter: &'static str) -> dbss_status
where
    H: Handle<Value = Settings<T>>,
    T: Default,
{
    // SAFETY: the same contract.
    let slot = unsafe { out(out_handle, ptr::null_mut(), parameter) };
    ffi_status(|| {
        // First: an assignment evaluates its right side first, which NULL would leak.
        let slot = slot?;
        *slot = H::into_handle(Arc::new(Settings::new(T::default())));
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
    H: Handle<Value = Settings<T>>,
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
        let mut settings = settings.lock(parameter)?;
        set(&mut settings, key, value)
    })
}

/// Copies what is set, for a call.
///
/// # Safety
/// As for [`Handle::borrow`].
pub(super) unsafe fn copy_settings<H, T>(handle: *const H, parameter: &'static str) -> Result<T, Error>
where
    H: Handle<Value = Settings<T>>,
    T: Clone,
{
    // SAFETY: the same contract.
    let settings = unsafe { H::borrow(handle, parameter) }?;
    Ok(settings.lock(parameter)?.clone())
}
