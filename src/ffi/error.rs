//! `dbss_error`: why a call failed.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use once_cell::race::OnceBox;

use super::panic::ffi_value;
use super::status::dbss_status;
use dbss::{Error, PartKind, Status};

/// Why a call failed: a status, a message, and the details from the service and
/// the operating system. It never changes.
///
/// There are two ways to get one: dbss_last_error() lends the thread's last
/// error, and dbss_error_take() passes it to you.
///
/// @threads any.
pub struct dbss_error {
    error: Error,
    // The getters return these strings, which live as long as the error.
    message: CString,
    /// The parts of the message.
    parts: Vec<(PartKind, CString)>,
    parameter: Option<CString>,
    service_code: Option<CString>,
    service_message: Option<CString>,
    request_id: Option<CString>,
    encoded_authorization_message: Option<CString>,
    details: Vec<(Option<CString>, Option<CString>)>,
    candidates: Vec<CString>,
    redirect_target: Option<CString>,
    path: Option<CString>,
}

thread_local! {
    /// Without a destructor, so that there are errors after that of the thread's data: in
    /// a static destructor of the host.
    static LAST: ManuallyDrop<RefCell<Option<Arc<dbss_error>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
    static FREES_LAST: FreesLast = const { FreesLast };
}

/// Frees the last error of a thread when it ends.
struct FreesLast;

impl Drop for FreesLast {
    fn drop(&mut self) {
        clear_last_error();
    }
}

/// Has the thread free its last error when it ends.
pub(super) fn prepare_thread() {
    let _ = FREES_LAST.try_with(|_| ());
}

pub(super) fn clear_last_error() {
    drop(swap_last_error(None));
}

pub(super) fn set_last_error(error: Error) {
    drop(swap_last_error(Some(dbss_error::of(error))));
}

pub(super) fn swap_last_error(error: Option<Arc<dbss_error>>) -> Option<Arc<dbss_error>> {
    LAST.with(|last| last.replace(error))
}

#[cfg(test)]
pub(super) fn last_error() -> Option<Error> {
    LAST.with(|last| last.borrow().as_ref().map(|e| e.error.clone()))
}

/// Makes a C string. A NUL inside a text of the service becomes U+FFFD.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

impl dbss_error {
    /// Makes an error for C. The error for a lack of memory is shared, and made
    /// in advance.
    pub(super) fn of(error: Error) -> Arc<dbss_error> {
        static SHARED: OnceBox<Arc<dbss_error>> = OnceBox::new();
        if !error.is_shared() {
            return Arc::new(dbss_error::new(error));
        }
        Arc::clone(SHARED.get_or_init(|| Box::new(Arc::new(dbss_error::new(error)))))
    }

    fn new(error: Error) -> dbss_error {
        let optional = |text: Option<&str>| text.map(c_string);
        let mut parts = Vec::new();
        error.parts(|kind, text| parts.push((kind, c_string(text))));
        dbss_error {
            message: c_string(error.message()),
            parts,
            parameter: optional(error.parameter()),
            service_code: optional(error.service_code()),
            service_message: optional(error.service_message()),
            request_id: optional(error.request_id()),
            encoded_authorization_message: optional(error.encoded_authorization_message()),
            details: error
                .details()
                .iter()
                .map(|d| (optional(d.code.as_deref()), optional(d.message.as_deref())))
                .collect(),
            candidates: error.candidates().iter().map(|id| c_string(id)).collect(),
            redirect_target: optional(error.redirect_target()),
            path: error
                .path()
                .and_then(|path| CString::new(path.as_os_str().as_encoded_bytes()).ok()),
            error,
        }
    }
}

fn into_raw(error: Arc<dbss_error>) -> *mut dbss_error {
    Arc::into_raw(error).cast_mut()
}

/// Passes an error to the caller, or NULL for none.
pub(super) fn owned_error(error: Option<Error>) -> *mut dbss_error {
    error.map_or(ptr::null_mut(), |e| into_raw(dbss_error::of(e)))
}

/// Reads one field; `fallback` for a NULL error.
///
/// # Safety
/// `error` is NULL or an error of this library that is not freed yet.
unsafe fn read<T: Copy>(error: *const dbss_error, fallback: T, field: impl FnOnce(&dbss_error) -> T) -> T {
    ffi_value(fallback, || {
        // SAFETY: by contract NULL or alive, and errors are immutable.
        unsafe { error.as_ref() }.map_or(fallback, field)
    })
}

/// Reads one string field. NULL if it is missing.
///
/// # Safety
/// As for [`read`].
unsafe fn read_text(
    error: *const dbss_error,
    field: impl FnOnce(&dbss_error) -> Option<&CString>,
) -> *const c_char {
    let pointer = |text: &CString| text.as_ptr();
    // SAFETY: the same contract.
    unsafe { read(error, ptr::null(), |e| field(e).map_or(ptr::null(), pointer)) }
}

/// The error of this thread's last call of a function that can fail. Other
/// functions, such as getters, neither set nor clear it. Do not free it or pass
/// it to another thread; use dbss_error_take() for that.
///
/// @return borrowed until next error, nullable. NULL when that call succeeded,
///   or when there was no call.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_last_error() -> *const dbss_error {
    ffi_value(ptr::null(), || {
        LAST.try_with(|last| last.borrow().as_deref().map_or(ptr::null(), ptr::from_ref))
            .unwrap_or(ptr::null())
    })
}

/// Takes the same error: it is yours until you free it, on any thread.
/// Afterwards dbss_last_error() is NULL on this thread.
///
/// @return owned, nullable. NULL when there is no error.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_error_take() -> *mut dbss_error {
    ffi_value(ptr::null_mut(), || {
        LAST.try_with(|last| last.borrow_mut().take().map_or(ptr::null_mut(), into_raw))
            .unwrap_or(ptr::null_mut())
    })
}

/// Frees an error, and all strings that its getters returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_free(error: *mut dbss_error) {
    ffi_value((), || {
        if !error.is_null() {
            // SAFETY: not NULL, and by the header's rules it came from
            // `dbss_error_take` and was not freed before.
            drop(unsafe { Arc::from_raw(error.cast_const()) });
        }
    });
}

/// The status that the failed call returned.
///
/// @return status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_status(error: *const dbss_error) -> dbss_status {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe {
        read(error, Status::Ok as dbss_status, |e| {
            e.error.status() as dbss_status
        })
    }
}

/// One line for people: what was wrong and what to do, with the service's
/// message and request id if there are any. It contains no secrets and no
/// control characters. The wording may change between versions, so programs
/// should use the other getters.
///
/// @return borrowed, for NULL "".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_message(error: *const dbss_error) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, c"".as_ptr(), |e| e.message.as_ptr()) }
}

/// Words of the message that are the same in every language.
pub const DBSS_PART_TEXT: i32 = 0;
/// The name of a parameter of a function, or the key of an option. A language
/// with other names has its own here.
pub const DBSS_PART_NAME: i32 = 1;
/// What was given for a parameter or an option. Options are in quotes, as they
/// are given as text here: a language in which they have types has the value as
/// its users wrote it.
pub const DBSS_PART_VALUE: i32 = 2;
/// A duration in milliseconds, such as "250", or with its unit "250 ms". A
/// language that has other units has them here.
pub const DBSS_PART_DURATION: i32 = 3;
/// The permissions of a file in octal digits, such as "640".
pub const DBSS_PART_MODE: i32 = 4;
/// How a value is written as text, such as "octal digits ". A language in which
/// the value has a type leaves it out.
pub const DBSS_PART_NOTATION: i32 = 5;
/// "NULL", or what another language calls it.
pub const DBSS_PART_NULL: i32 = 6;
/// The value that means no limit, "-1" here.
pub const DBSS_PART_NO_LIMIT: i32 = 7;
/// The value for a time that is not known, "-1" here.
pub const DBSS_PART_UNKNOWN: i32 = 8;
/// "allow replacing it", or how a language does that.
pub const DBSS_PART_REPLACE: i32 = 9;
/// What an object is called, such as "context" or "cursor".
pub const DBSS_PART_OBJECT: i32 = 10;
const _: () = assert!(DBSS_PART_OBJECT == PartKind::Object as i32);

/// The number of parts of the message. Together their texts are the message. A
/// package for another language makes the message of its own error of them, with
/// its own names, units and values; a program in C has no use for them.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_part_count(error: *const dbss_error) -> usize {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, 0, |e| e.parts.len()) }
}

/// What a part of the message is. Newer versions may add values: they are used
/// as DBSS_PART_TEXT.
///
/// @param index index of dbss_error_part_count.
/// @return one of DBSS_PART_.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_part_kind(error: *const dbss_error, index: usize) -> i32 {
    let kind = |e: &dbss_error| e.parts.get(index).map_or(DBSS_PART_TEXT, |part| part.0 as i32);
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, DBSS_PART_TEXT, kind) }
}

/// The text of a part of the message, as a program in C shows it.
///
/// @param index index of dbss_error_part_count.
/// @return borrowed, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_part_text(error: *const dbss_error, index: usize) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| Some(&e.parts.get(index)?.1)) }
}

/// The name of the parameter or option at fault. It is always set for a status
/// of the group DBSS_ERR_ARGUMENT that is about one, and rarely for others.
///
/// @return borrowed, nullable. NULL if no parameter is at fault.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_parameter(error: *const dbss_error) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.parameter.as_ref()) }
}

/// The HTTP status of the response, such as 404.
///
/// @return none 0. 0 when there was no response.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_http_status(error: *const dbss_error) -> i32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, 0, |e| e.error.http_status().map_or(0, i32::from)) }
}

/// The service's own error code, such as "DBSS.10021004" or "APIG.0301". A code
/// that was sent as a number is in decimal.
///
/// @return borrowed, nullable. NULL if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_service_code(error: *const dbss_error) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.service_code.as_ref()) }
}

/// The service's own error message, unchanged except that bytes that are not
/// UTF-8, and U+0000, are replaced by U+FFFD, and the secrets of the request
/// by "***". It may contain control characters.
///
/// @return borrowed, nullable. NULL if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_service_message(error: *const dbss_error) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.service_message.as_ref()) }
}

/// The service's id of this call (header X-Request-Id, or request_id in the
/// body). Quote it to the service's support.
///
/// @return borrowed, nullable. NULL if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_request_id(error: *const dbss_error) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.request_id.as_ref()) }
}

/// The encoded message that explains a refused authorization. An API of the
/// service can decode it.
///
/// @return borrowed, nullable. NULL if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_encoded_authorization_message(error: *const dbss_error) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.encoded_authorization_message.as_ref()) }
}

/// The number of entries in the "details" of the error body.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_detail_count(error: *const dbss_error) -> usize {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, 0, |e| e.details.len()) }
}

/// The error code of one of the "details".
///
/// @param index index of dbss_error_detail_count.
/// @return borrowed, nullable. NULL if the entry has none, or past the last
///   one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_detail_code(error: *const dbss_error, index: usize) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.details.get(index)?.0.as_ref()) }
}

/// The message of one of the "details".
///
/// @param index index of dbss_error_detail_count.
/// @return borrowed, nullable. NULL if the entry has none, or past the last
///   one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_detail_message(error: *const dbss_error, index: usize) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.details.get(index)?.1.as_ref()) }
}

/// dbss_operation_cancel() cancelled the call.
pub const DBSS_CANCELLED_BY_OPERATION: i32 = 1;
/// dbss_context_cancel_all() cancelled the call.
pub const DBSS_CANCELLED_BY_CONTEXT: i32 = 2;
/// The context or the stream was closed.
pub const DBSS_CANCELLED_BY_CLOSE: i32 = 3;
/// A callback ended the call.
pub const DBSS_CANCELLED_BY_CALLBACK: i32 = 4;

/// What cancelled the call, for DBSS_ERR_CANCELLED. Newer versions may add
/// values.
///
/// @return one of DBSS_CANCELLED_BY_, none 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_cancelled_by(error: *const dbss_error) -> i32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, 0, |e| e.error.cancelled_by().map_or(0, |by| by as i32)) }
}

/// The number of reports that may be the created one, after a failure of
/// dbss_report_generate(): several for DBSS_ERR_AMBIGUOUS; one if the report was
/// found before the failure, so that dbss_report_wait() can go on.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_candidate_count(error: *const dbss_error) -> usize {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, 0, |e| e.candidates.len()) }
}

/// The id of a report that may be the created one.
///
/// @param index index of dbss_error_candidate_count.
/// @return borrowed, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_candidate(error: *const dbss_error, index: usize) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.candidates.get(index)) }
}

/// Where the service redirected to, for DBSS_ERR_REDIRECTED: the header
/// Location without user information, query and fragment, which may hold secrets.
///
/// @return borrowed, nullable. NULL if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_redirect_target(error: *const dbss_error) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.redirect_target.as_ref()) }
}

/// The file or directory at fault, such as the file that exists already
/// (DBSS_ERR_FILE_EXISTS).
///
/// @return borrowed, nullable, bytes. NULL if no file is at fault.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_path(error: *const dbss_error) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read_text`.
    unsafe { read_text(error, |e| e.path.as_ref()) }
}

/// The value of errno that the operating system returned.
///
/// @return none 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_os_code(error: *const dbss_error) -> i32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, 0, |e| e.error.os_code().unwrap_or(0)) }
}

/// Whether the cause is temporary (throttling, a failing server, a broken or
/// stalled connection, a timeout), so that the same call may succeed later.
///
/// @return boolean.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_is_retryable(error: *const dbss_error) -> i32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, 0, |e| e.error.is_retryable().into()) }
}

/// The wait before the next attempt that the service requests (header
/// Retry-After, in seconds or as a date).
///
/// @return unit ms, none -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_retry_after_ms(error: *const dbss_error) -> i64 {
    let milliseconds = |e: &dbss_error| {
        e.error
            .retry_after()
            .map_or(-1, |after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
    };
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, -1, milliseconds) }
}

/// The number of requests before the call gave up, without those for
/// credentials and projects.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_error_attempts(error: *const dbss_error) -> u32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { read(error, 0, |e| e.error.attempts()) }
}
