//! `dbss_operation`: the control of one call.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Arc;

use super::arguments::{bytes, out, text};
use super::call::{ffi_copy, ffi_status};
use super::callback::{Callback, dbss_destroy_fn};
use super::error::{dbss_error, owned_error};
use super::format::DBSS_FORMAT_UNKNOWN;
use super::handle::Handle;
use super::panic::ffi_value;
use super::status::dbss_status;
use dbss::internal::{self, ActiveOperation, Text};
use dbss::{Error, Operation};

/// Options, progress, cancel and result of one call: pass it to the call, and
/// read or cancel it from any thread while the call runs.
///
/// It may be used again for the next call, and freed at any time, also during
/// its call. A stream is a call until it is closed or freed. In a child of
/// fork() the parent's operations are refused.
///
/// @threads one call at a time.
pub struct dbss_operation {
    _opaque: [u8; 0],
}

impl Handle for dbss_operation {
    type Value = Operation;
}

/// Called to report how a call goes: when it starts, at least ten times a
/// second while it runs, whether bytes arrive or not, and when all bytes are
/// there. The getters of the operation tell the rest.
///
/// @param operation borrowed.
/// @return nonzero CANCELLED. 0 to go on; anything else ends the call, within
///   250 ms.
/// @runs in call.
/// @calls any.
pub type dbss_progress_fn =
    Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, operation: *const dbss_operation) -> i32>;

type ProgressFunction =
    unsafe extern "C-unwind" fn(user_data: *mut c_void, operation: *const dbss_operation) -> i32;

impl Callback<ProgressFunction> {
    fn tick(&self, operation: &Operation) -> bool {
        let handle = ptr::from_ref(operation).cast::<dbss_operation>();
        // SAFETY: the caller's function with its own data; the handle is valid
        // during the call, since the running call holds the operation.
        self.call(|tick, data| unsafe { tick(data, handle) == 0 })
    }
}

/// Called to ask whether a signal that was handled shall end the call: when one
/// was, and once when the call begins, for those that came before it could
/// notice. Signals are blocked while it runs.
///
/// @return nonzero INTERRUPTED. 0 to go on; anything else ends the call.
/// @runs in call.
/// @calls getters.
pub type dbss_interrupt_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void) -> i32>;

type InterruptFunction = unsafe extern "C-unwind" fn(user_data: *mut c_void) -> i32;

impl Callback<InterruptFunction> {
    fn ends_call(&self) -> bool {
        // SAFETY: the caller's function with its own data.
        self.call(|ask, data| unsafe { ask(data) != 0 })
    }
}

/// The operation of a call: none for NULL.
///
/// # Safety
/// As for [`Handle::borrow`].
pub(super) unsafe fn optional(operation: *mut dbss_operation) -> Result<Option<Arc<Operation>>, Error> {
    if operation.is_null() {
        return Ok(None);
    }
    // SAFETY: the same contract.
    unsafe { dbss_operation::borrow(operation, "operation") }.map(Some)
}

/// Makes an operation. It holds a descriptor only while a call under it is under
/// way and has waited.
///
/// @param out_operation required.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_new(out_operation: *mut *mut dbss_operation) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_operation, ptr::null_mut(), "out_operation") };
    ffi_status(|| {
        let slot = slot?;
        *slot = dbss_operation::into_handle(Operation::new());
        Ok(())
    })
}

/// Frees an operation, and all strings that its getters returned. A call under
/// way goes on; it can no longer be cancelled through this handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_free(operation: *mut dbss_operation) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_operation::release(operation) });
}

/// Sets an option for the calls of this operation, in place of the context's;
/// values are as for dbss_config_set():
///
/// {OPTIONS operation}
///
/// @param operation required.
/// @param key required, option of operation.
/// @param value required, bytes.
/// @errors BUSY
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_set(
    operation: *mut dbss_operation,
    key: *const c_char,
    value: *const c_char,
) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        let (operation, key, value) = unsafe {
            (
                dbss_operation::borrow(operation, "operation")?,
                text(key, "key")?,
                bytes(value, "value")?,
            )
        };
        operation.set(key, value)
    })
}

/// Sets the progress callback, in place of the one before.
///
/// `destroy` is called when the callback is replaced, when the operation is
/// gone, or at once when this function fails.
///
/// @param operation required.
/// @param progress optional. NULL for none.
/// @errors BUSY
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_set_progress(
    operation: *mut dbss_operation,
    progress: dbss_progress_fn,
    user_data: *mut c_void,
    destroy: dbss_destroy_fn,
) -> dbss_status {
    let callback = Callback::new(progress, user_data, destroy);
    ffi_status(|| {
        // SAFETY: the header's rules are the contract of `borrow`.
        let operation = unsafe { dbss_operation::borrow(operation, "operation") }?;
        match callback.with_function() {
            Some(callback) => operation.set_progress(move |operation| callback.tick(operation)),
            None => operation.clear_progress(),
        }
    })
}

/// Sets the function that is asked whether a signal ends the call, in place of
/// the one before. It counts where the option "interruptible" is true; without
/// a function every signal that the host handles ends the call.
///
/// `destroy` is called when the function is replaced, when the operation is
/// gone, or at once when this function fails.
///
/// @param operation required.
/// @param interrupt optional. NULL for none.
/// @errors BUSY
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_set_interrupt(
    operation: *mut dbss_operation,
    interrupt: dbss_interrupt_fn,
    user_data: *mut c_void,
    destroy: dbss_destroy_fn,
) -> dbss_status {
    let callback = Callback::new(interrupt, user_data, destroy);
    ffi_status(|| {
        // SAFETY: the header's rules are the contract of `borrow`.
        let operation = unsafe { dbss_operation::borrow(operation, "operation") }?;
        match callback.with_function() {
            Some(callback) => operation.set_interrupt(move || callback.ends_call()),
            None => operation.clear_interrupt(),
        }
    })
}

/// Cancels the call of this operation, and those to come until
/// dbss_operation_reset(). The call ends with DBSS_ERR_CANCELLED within 100 ms
/// (unless it is already over), whatever it waits for but the file system and
/// your own code. A call that starts after this ends so without any traffic.
///
/// @signal-safe
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_cancel(operation: *const dbss_operation) {
    // No guard here: a signal handler must not allocate or lock.
    // SAFETY: by the header's rules NULL or an operation that is not freed yet;
    // the handle points at the value itself.
    if let Some(operation) = unsafe { operation.cast::<Operation>().as_ref() } {
        operation.cancel();
    }
}

/// Undoes a cancel and forgets the last call, its strings included; options and
/// callbacks stay.
///
/// @param operation required.
/// @errors BUSY
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_reset(operation: *mut dbss_operation) -> dbss_status {
    // SAFETY: the header's rules are the contract of `borrow`.
    ffi_status(|| unsafe { dbss_operation::borrow(operation, "operation") }?.reset())
}

/// -1 for none.
fn number(value: Option<u64>) -> i64 {
    value.map_or(-1, |value| i64::try_from(value).unwrap_or(i64::MAX))
}

/// How many bytes of the report have arrived, those before a resumption
/// included.
///
/// @return unit bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_received(operation: *const dbss_operation) -> i64 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, 0, |o| number(Some(o.received()))) }
}

/// The size of the report.
///
/// @return unit bytes, none -1. -1 while or where it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_total(operation: *const dbss_operation) -> i64 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, -1, |o| number(o.total())) }
}

/// How many bytes did not have to come again because broken transfers were
/// resumed.
///
/// @return unit bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_resumed(operation: *const dbss_operation) -> i64 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, 0, |o| number(Some(o.resumed()))) }
}

/// How many requests were made so far.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_attempts(operation: *const dbss_operation) -> u32 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, 0, Operation::attempts) }
}

/// How far the service is with a report that it makes (dbss_report_generate(),
/// dbss_report_wait()), or with how many of its reports a mirror is done
/// (dbss_reports_mirror()).
///
/// @return unit percent, none -1. -1 while that is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_percent(operation: *const dbss_operation) -> i32 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, -1, |o| o.percent().map_or(-1, |p| p as i32)) }
}

/// Where the report was saved, once the call has succeeded.
///
/// @return borrowed until next call, nullable, bytes. NULL where nothing was
///   saved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_path(operation: *const dbss_operation) -> *const c_char {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, ptr::null(), |o| o.c_text(Text::Path)) }
}

/// The report's own name, made safe: one component of a path, not hidden. From
/// the header Content-Disposition, else made of the report's id and format, as it is
/// where the header's name is in another encoding than UTF-8.
///
/// @return borrowed until next call, nullable. NULL until the report has begun
///   to arrive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_filename(operation: *const dbss_operation) -> *const c_char {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, ptr::null(), |o| o.c_text(Text::Filename)) }
}

/// The service's id of the call (header X-Request-Id).
///
/// @return borrowed until next call, nullable. NULL until the report has begun
///   to arrive, and where the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_request_id(operation: *const dbss_operation) -> *const c_char {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, ptr::null(), |o| o.c_text(Text::RequestId)) }
}

/// The header Content-Type of the report.
///
/// @return borrowed until next call, nullable. NULL until the report has begun
///   to arrive, and where the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_content_type(operation: *const dbss_operation) -> *const c_char {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, ptr::null(), |o| o.c_text(Text::ContentType)) }
}

/// What the report is, by its first bytes; DBSS_FORMAT_UNKNOWN until it has
/// begun to arrive.
///
/// @return one of DBSS_FORMAT_.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_format(operation: *const dbss_operation) -> i32 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, DBSS_FORMAT_UNKNOWN, |o| o.format() as i32) }
}

/// Why the last call of this operation failed, from any thread: every failure
/// that the call returned, wrong arguments included, but DBSS_ERR_BUSY, which
/// is about the operation's other call. dbss_operation_set() and the other
/// functions that prepare an operation are no calls and do not change it.
///
/// @return owned, nullable. NULL when the call has not failed, and where there is no
///   memory for the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_error(operation: *const dbss_operation) -> *mut dbss_error {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    ffi_copy(|| owned_error(unsafe { dbss_operation::read(operation, None, |o| o.error()) }))
}

/// Runs a call under an operation, or under none (NULL). The operation keeps every
/// failure but that it is busy.
///
/// # Safety
/// `operation` is NULL or a live handle.
pub(super) unsafe fn with_operation<T>(
    operation: *mut dbss_operation,
    body: impl FnOnce(Option<ActiveOperation>) -> Result<T, Error>,
) -> Result<T, Error> {
    // SAFETY: the same contract.
    let operation = unsafe { optional(operation) }?;
    internal::scope(operation.as_ref(), body)
}
