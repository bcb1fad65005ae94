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

/// The options, progress, cancellation and result of one call. Pass it to the
/// call, and read or cancel it from any thread while the call runs.
///
/// It may be used again for the next call, and freed at any time, also during
/// its call. A stream is a running call until it is closed or freed. A child of
/// fork() cannot use the parent's operations.
///
/// The strings of dbss_operation_path(), dbss_operation_filename(),
/// dbss_operation_request_id() and dbss_operation_content_type() are freed when
/// the next call of the operation begins, by dbss_operation_reset() and by
/// dbss_operation_free(). A thread may read them only as long as no other
/// thread can do one of these; otherwise it reads freed memory. The numbers may
/// be read at any time.
///
/// @threads one call at a time.
pub struct dbss_operation {
    _opaque: [u8; 0],
}

impl Handle for dbss_operation {
    type Value = Operation;
}

/// Called to report the progress of a call: when it starts, at least ten times
/// a second while it runs, even if no bytes arrive, before each request that
/// is not a GET, and when all bytes have arrived. The getters of the operation
/// return the details.
///
/// @param operation borrowed.
/// @return nonzero CANCELLED. 0 to continue; anything else ends the call within
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
        // during the call, since the running call keeps the operation.
        self.call(|tick, data| unsafe { tick(data, handle) == 0 })
    }
}

/// Called to decide whether a handled signal ends the call: after each handled
/// signal, and once when the call begins, for signals that came just before.
/// Signals are blocked while it runs.
///
/// @return nonzero INTERRUPTED. 0 to continue; anything else ends the call.
/// @runs in call.
/// @calls getters.
pub type dbss_interrupt_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void) -> i32>;

type InterruptFunction = unsafe extern "C-unwind" fn(user_data: *mut c_void) -> i32;

impl Callback<InterruptFunction> {
    fn ends_call(&self) -> bool {
        // SAFETY: the caller's function with its own data.
        self.call(|interrupt, data| unsafe { interrupt(data) != 0 })
    }
}

/// Returns the operation of a call, or none for NULL.
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

/// Makes an operation. It uses a descriptor only while a call under it runs and
/// has waited.
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

/// Frees an operation, and all strings that its getters returned. A running
/// call continues; it can no longer be cancelled through this handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_free(operation: *mut dbss_operation) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_operation::release(operation) });
}

/// Sets an option for the calls of this operation, which overrides the
/// context's. Values are as for dbss_config_set():
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

/// Sets the progress callback, and replaces the previous one.
///
/// `destroy` is called when the callback is replaced, when the operation is
/// freed, or immediately when this function fails.
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

/// Sets the function that decides whether a handled signal ends the call, and
/// replaces the previous one. It is only used if the option "interruptible" is
/// true. Without a function every signal that the program handles ends the
/// call.
///
/// `destroy` is called when the function is replaced, when the operation is
/// freed, or immediately when this function fails.
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

/// Cancels the call of this operation, and later calls until
/// dbss_operation_reset(). Unless it is already over, the call ends with
/// DBSS_ERR_CANCELLED within 100 ms, or when the file system or your own code
/// returns, if it waits for them. A call that starts afterwards ends in the
/// same way before it sends a request.
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

/// Undoes a cancellation, and clears the results of the last call, including
/// its strings. Options and callbacks stay.
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

/// The number of bytes of the report that have arrived, including those before
/// a resumption.
///
/// @return unit bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_received(operation: *const dbss_operation) -> i64 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, 0, |o| number(Some(o.received()))) }
}

/// The size of the report.
///
/// @return unit bytes, none -1. -1 if it is not known, or not yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_total(operation: *const dbss_operation) -> i64 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, -1, |o| number(o.total())) }
}

/// The number of bytes that did not have to be transferred again because broken
/// transfers were resumed.
///
/// @return unit bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_resumed(operation: *const dbss_operation) -> i64 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, 0, |o| number(Some(o.resumed()))) }
}

/// The number of requests so far.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_attempts(operation: *const dbss_operation) -> u32 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, 0, Operation::attempts) }
}

/// The progress of the service in generating a report (dbss_report_generate(),
/// dbss_report_wait()), or the percentage of finished reports of a mirror
/// (dbss_reports_mirror()).
///
/// @return unit percent, none -1. -1 while it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_percent(operation: *const dbss_operation) -> i32 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, -1, |o| o.percent().map_or(-1, |p| p as i32)) }
}

/// Where the report was saved, once the call has succeeded.
///
/// @return borrowed until next call, nullable, bytes. NULL if nothing was
///   saved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_path(operation: *const dbss_operation) -> *const c_char {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, ptr::null(), |o| o.c_text(Text::Path)) }
}

/// A safe form of the report's own name: one path component, not hidden. It
/// comes from the header Content-Disposition. If that is missing or not UTF-8,
/// it is made of the report's id and format.
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
///   to arrive, and if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_request_id(operation: *const dbss_operation) -> *const c_char {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, ptr::null(), |o| o.c_text(Text::RequestId)) }
}

/// The header Content-Type of the report.
///
/// @return borrowed until next call, nullable. NULL until the report has begun
///   to arrive, and if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_content_type(operation: *const dbss_operation) -> *const c_char {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, ptr::null(), |o| o.c_text(Text::ContentType)) }
}

/// The format of the report, determined from its first bytes;
/// DBSS_FORMAT_UNKNOWN until it has begun to arrive.
///
/// @return one of DBSS_FORMAT_.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_format(operation: *const dbss_operation) -> i32 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_operation::read(operation, DBSS_FORMAT_UNKNOWN, |o| o.format() as i32) }
}

/// The error of the last call of this operation, readable from any thread. It
/// is set for every failure that the call returned, including invalid
/// arguments, except DBSS_ERR_BUSY, which is about the operation's other call.
/// dbss_operation_set() and the other functions that prepare an operation do
/// not change it.
///
/// @return owned, nullable. NULL if the call has not failed, and if there is
///   not enough memory for the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_operation_error(operation: *const dbss_operation) -> *mut dbss_error {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    ffi_copy(|| owned_error(unsafe { dbss_operation::read(operation, None, |o| o.error()) }))
}

/// Runs a call under an operation, or under none (NULL). The operation records
/// every failure except DBSS_ERR_BUSY.
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
