//! `dbss_log_record`: the log records of a context.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

use super::call::{ffi_copy, ffi_status};
use super::callback::{Callback, dbss_destroy_fn};
use super::config::{dbss_config, with_config};
use super::error::{c_string, dbss_error, owned_error};
use super::panic::ffi_value;
use super::status::dbss_status;
use dbss::{LogRecord, Status};

/// The level of a record about a call that failed. Invalid arguments that end a
/// call before it begins are not logged, and a call that was cancelled is logged
/// as DBSS_LOG_INFO.
pub const DBSS_LOG_ERROR: i32 = 1;
/// The level of a record about a problem that libdbss handled, such as a broken
/// transfer that was resumed.
pub const DBSS_LOG_WARNING: i32 = 2;
/// The level of a record about what a call did.
pub const DBSS_LOG_INFO: i32 = 3;
/// The level of a record about a request and its response.
pub const DBSS_LOG_DEBUG: i32 = 4;

/// A log record. The record that a callback receives is valid until the
/// callback returns, and so are the strings of its getters.
/// dbss_log_record_copy() makes a copy that is valid until it is freed. A
/// record does not change and contains no secrets.
///
/// @threads any.
#[derive(Clone)]
pub struct dbss_log_record {
    record: LogRecord,
    message: CString,
    request_id: Option<CString>,
    report_id: Option<CString>,
}

/// Receives the log records. Records of a mirror's own threads are passed to it
/// on the thread of the call.
///
/// @param record borrowed.
/// @runs in call, concurrently.
/// @calls any.
pub type dbss_log_fn =
    Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, record: *const dbss_log_record)>;

type LogFunction = unsafe extern "C-unwind" fn(user_data: *mut c_void, record: *const dbss_log_record);

impl Callback<LogFunction> {
    fn log(&self, record: &LogRecord) {
        let record = dbss_log_record {
            message: c_string(&record.message),
            request_id: record.request_id.as_deref().map(c_string),
            report_id: record.report_id.as_deref().map(c_string),
            record: record.clone(),
        };
        // SAFETY: the caller's function with its own data, and a record that lives
        // until it returns.
        self.call(|log, data| unsafe { log(data, &record) });
    }
}

/// Sets the log callback of the contexts made from this configuration. Without
/// one nothing is logged.
///
/// `destroy` is called when the callback is replaced and the configuration and
/// all contexts made from it are freed, or closed without a running call. It is
/// called immediately when this function fails.
///
/// @param config required.
/// @param log optional. NULL for none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_log(
    config: *mut dbss_config,
    log: dbss_log_fn,
    user_data: *mut c_void,
    destroy: dbss_destroy_fn,
) -> dbss_status {
    let callback = Callback::new(log, user_data, destroy);
    ffi_status(|| {
        let log = callback
            .with_function()
            .map(|c| Arc::new(move |record: &LogRecord| c.log(record)) as Arc<_>);
        // SAFETY: the header's rules are the contract of `with_config`.
        let old = unsafe { with_config(config, |c| Ok(c.set_log(log))) }?;
        // The caller's destroy function runs here, outside of the lock.
        drop(old);
        Ok(())
    })
}

/// Copies a record, for example to pass it to another thread.
///
/// @return owned, nullable. NULL for NULL, and if there is not enough memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_copy(record: *const dbss_log_record) -> *mut dbss_log_record {
    ffi_copy(|| {
        // SAFETY: by the header's rules NULL or alive, and records do not change.
        let record = unsafe { record.as_ref() }.cloned();
        record.map_or(ptr::null_mut(), |record| Box::into_raw(Box::new(record)))
    })
}

/// Frees a record that dbss_log_record_copy() made, and all strings that its
/// getters returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_free(record: *mut dbss_log_record) {
    ffi_value((), || {
        if !record.is_null() {
            // SAFETY: not NULL, and by the header's rules `dbss_log_record_copy` made
            // it and nobody uses it any more.
            drop(unsafe { Box::from_raw(record) });
        }
    });
}

/// Reads one field; `fallback` for a NULL record.
///
/// # Safety
/// `record` is NULL or the record of a callback that has not returned.
unsafe fn read<T: Copy>(
    record: *const dbss_log_record,
    fallback: T,
    field: impl FnOnce(&dbss_log_record) -> T,
) -> T {
    ffi_value(fallback, || {
        // SAFETY: by contract NULL or alive, and records do not change.
        unsafe { record.as_ref() }.map_or(fallback, field)
    })
}

fn number(value: Option<impl TryInto<i64>>) -> i64 {
    value.map_or(-1, |value| value.try_into().unwrap_or(i64::MAX))
}

/// The level of the record. Newer versions may add levels.
///
/// @return one of DBSS_LOG_.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_level(record: *const dbss_log_record) -> i32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, 0, |r| r.record.level as i32) }
}

/// The message of the record: one line for people, without a line ending. The
/// wording may change between versions.
///
/// @return borrowed, for NULL "".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_message(record: *const dbss_log_record) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, c"".as_ptr(), |r| r.message.as_ptr()) }
}

/// The status of the failed call, or of the failure that caused another
/// attempt. DBSS_OK if the record is not about a failure.
///
/// @return status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_status(record: *const dbss_log_record) -> dbss_status {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe {
        read(record, Status::Ok as dbss_status, |r| {
            r.record.status as dbss_status
        })
    }
}

/// The number of the request within the call, counted from 1.
///
/// @return none 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_attempt(record: *const dbss_log_record) -> u32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, 0, |r| r.record.attempt) }
}

/// The service's id of the request (header X-Request-Id).
///
/// @return borrowed, nullable. NULL if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_request_id(record: *const dbss_log_record) -> *const c_char {
    let id = |r: &dbss_log_record| r.request_id.as_ref().map_or(ptr::null(), |id| id.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, ptr::null(), id) }
}

/// The id of the report that the call is about.
///
/// @return borrowed, nullable. NULL if it is not about a report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_report_id(record: *const dbss_log_record) -> *const c_char {
    let id = |r: &dbss_log_record| r.report_id.as_ref().map_or(ptr::null(), |id| id.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, ptr::null(), id) }
}

/// The size of the body.
///
/// @return unit bytes, none -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_bytes(record: *const dbss_log_record) -> i64 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, -1, |r| number(r.record.bytes)) }
}

/// How long the call has taken so far.
///
/// @return unit ms, none -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_duration_ms(record: *const dbss_log_record) -> i64 {
    let duration = |r: &dbss_log_record| number(r.record.duration.map(|d| d.as_millis()));
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, -1, duration) }
}

/// The offset in the body at which a transfer broke or continues.
///
/// @return unit bytes, none -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_offset(record: *const dbss_log_record) -> i64 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, -1, |r| number(r.record.offset)) }
}

/// How long the call waits before its next attempt.
///
/// @return unit ms, none -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_retry_delay_ms(record: *const dbss_log_record) -> i64 {
    let delay = |r: &dbss_log_record| number(r.record.retry_delay.map(|d| d.as_millis()));
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, -1, delay) }
}

/// The failure that the record is about, with all its details.
///
/// @return owned, nullable. NULL if the record is not about a failure, and if
///   there is not enough memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_error(record: *const dbss_log_record) -> *mut dbss_error {
    // SAFETY: the header's rules are the contract of `read`.
    ffi_copy(|| unsafe { read(record, ptr::null_mut(), |r| owned_error(r.record.error.clone())) })
}

/// The HTTP status of the response that the record is about, such as 200.
///
/// @return none 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_log_record_http_status(record: *const dbss_log_record) -> i32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(record, 0, |r| r.record.http_status.map_or(0, i32::from)) }
}
