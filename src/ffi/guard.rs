//! The panic boundary, handles, and the conversion of pointers and strings.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{clear_last_error, dbss_error, set_last_error, swap_last_error};
use super::memory;
use super::operation::{dbss_operation, optional};
use super::status::dbss_status;
use dbss::internal::{self, ActiveOperation};
use dbss::{Error, Status};

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Whether the thread's last error has its place.
    static READY: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of a function that returns a status: clears the thread's last
/// error, and turns an error or a panic into a status and a last error. What must
/// be done in any case, such as clearing out-parameters, is done before.
pub(super) fn ffi_status(body: impl FnOnce() -> Result<(), Error>) -> dbss_status {
    let memory = memory::begin_call();
    if !memory.is_enough() {
        if !READY.get() {
            // Not even an error could be kept: the C library ends a process that
            // has no memory for a thread's first.
            return Status::OutOfMemory as dbss_status;
        }
        memory.mark();
    }
    clear_last_error();
    if !READY.replace(true) {
        memory::prepare_thread();
    }
    let error = match catch_panic(body) {
        Ok(Ok(())) => return Status::Ok as dbss_status,
        Ok(Err(error)) => error,
        Err(payload) => Error::new(
            Status::Internal,
            format!(
                "libdbss failed internally ({}); the call was abandoned; please report this",
                panic_text(payload.as_ref())
            ),
        ),
    };
    let status = error.status() as dbss_status;
    set_last_error(error);
    status
}

/// The same for a call under an operation, or under none (NULL): the operation
/// keeps every failure but that it is busy.
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

/// Runs the body of a function that returns a value and touches no last error;
/// a panic becomes `fallback`.
pub(super) fn ffi_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_panic(body).unwrap_or(fallback)
}

/// Runs the body of a getter that returns a copy: NULL where there is no memory
/// for it, or a panic.
pub(super) fn ffi_copy<T>(body: impl FnOnce() -> *mut T) -> *mut T {
    if memory::has_least() {
        ffi_value(ptr::null_mut(), body)
    } else {
        ptr::null_mut()
    }
}

fn catch_panic<T>(body: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    silence_panics();
    let _thread = CancellationOff::new();
    let outer = INSIDE.replace(true);
    // The values that a panic may leave half-changed are dropped with the
    // call, or guard themselves (ureq's pool refuses to go on when poisoned).
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(outer);
    result
}

/// Runs a callback of the host. What it calls here it may call as from outside:
/// the error of the call around it is put aside. It owns nothing that needs to be
/// dropped (see [`hold_thread`]).
pub(super) fn call_host<T>(callback: impl FnOnce() -> T) -> T {
    struct Restore(bool, Option<Arc<dbss_error>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            INSIDE.set(self.0);
            drop(swap_last_error(self.1.take()));
        }
    }
    if !READY.get() {
        // The thread has no error to put aside.
        return hold_thread(callback);
    }
    let _restore = Restore(INSIDE.replace(false), swap_last_error(None));
    hold_thread(callback)
}

/// Runs a function of the host that may end its thread, as Python does with those
/// that want to run its code after its end. That would unwind Rust code, which ends
/// the process: such a thread stays here for ever instead.
///
/// The system runs the handler as soon as it has unwound this frame, so neither this
/// nor what it calls may have anything to drop: that would be unwound before.
#[cfg(target_os = "linux")]
#[inline(never)]
fn hold_thread<T>(callback: impl FnOnce() -> T) -> T {
    /// Room for what the C library keeps there.
    type Handler = [*mut c_void; 4];
    unsafe extern "C" {
        fn _pthread_cleanup_push(place: *mut Handler, handler: extern "C" fn(*mut c_void), data: *mut c_void);
        fn _pthread_cleanup_pop(place: *mut Handler, run: c_int);
    }
    extern "C" fn stay(_: *mut c_void) {
        loop {
            // SAFETY: it only waits.
            unsafe { libc::pause() };
        }
    }
    let mut place: Handler = [ptr::null_mut(); 4];
    // SAFETY: the place does not move, and the handler is taken out before it goes.
    unsafe { _pthread_cleanup_push(&raw mut place, stay, ptr::null_mut()) };
    let result = callback();
    // SAFETY: the last handler that was put in and is still there.
    unsafe { _pthread_cleanup_pop(&raw mut place, 0) };
    result
}

/// Other systems unwind nothing, or have no such handlers.
#[cfg(not(target_os = "linux"))]
fn hold_thread<T>(callback: impl FnOnce() -> T) -> T {
    callback()
}

/// While it lives, pthread_cancel() waits: a thread that ended in the midst of
/// Rust code would end the process.
struct CancellationOff(c_int);

unsafe extern "C" {
    #[cfg(not(target_os = "android"))]
    safe fn pthread_setcancelstate(state: c_int, old: Option<&mut c_int>) -> c_int;
}

impl CancellationOff {
    #[cfg(not(target_os = "android"))]
    fn new() -> CancellationOff {
        const DISABLE: c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };
        let mut before = DISABLE;
        pthread_setcancelstate(DISABLE, Some(&mut before));
        CancellationOff(before)
    }

    /// There threads cannot be cancelled.
    #[cfg(target_os = "android")]
    fn new() -> CancellationOff {
        CancellationOff(0)
    }
}

impl Drop for CancellationOff {
    fn drop(&mut self) {
        // Some systems do not take NULL.
        #[cfg(not(target_os = "android"))]
        pthread_setcancelstate(self.0, Some(&mut 0));
    }
}

/// The default hook writes the panic's text to the host's stderr. A library
/// must not: inside a call, the text goes into the error instead.
fn silence_panics() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Ordering::Relaxed) || DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    let host = panic::take_hook();
    panic::set_hook(Box::new(move |info: &PanicHookInfo| {
        if !INSIDE.try_with(Cell::get).unwrap_or(false) {
            host(info);
        }
    }));
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Ties an opaque C type to the Rust value behind it, so that a pointer can
/// only become the value that it was made from: another cast does not compile.
///
/// Handles are reference counted. A call takes its own reference first, so a
/// handle may be freed by another thread while the call runs.
pub(super) trait Handle: Sized {
    type Value: Send + Sync;

    /// Gives the value to the caller, until [`Handle::release`].
    fn into_handle(value: Arc<Self::Value>) -> *mut Self {
        Arc::into_raw(value).cast::<Self>().cast_mut()
    }

    /// A reference of our own to the value behind a caller's handle.
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

    /// Reads one field of the value; `fallback` for NULL.
    ///
    /// # Safety
    /// As for [`Handle::borrow`].
    unsafe fn read<T>(handle: *const Self, fallback: T, field: impl FnOnce(&Self::Value) -> T) -> T {
        // SAFETY: the same contract. The name would only serve an error, which
        // no getter sets.
        let read = || {
            unsafe { Self::borrow(handle, "") }
                .ok()
                .map(|value| field(&value))
        };
        ffi_value(None, read).unwrap_or(fallback)
    }

    /// Ends the caller's ownership. NULL does nothing.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_panic_becomes_a_status_with_the_panics_text() {
        let status = ffi_status(|| panic!("deliberate {}", 7));
        assert_eq!(status, Status::Internal as dbss_status);
        let error = super::super::error::last_error().expect("a last error");
        assert!(error.message().contains("deliberate 7"), "{error}");
        assert_eq!(ffi_value(-5, || panic!("again")), -5);
    }

    #[test]
    fn a_contained_panic_writes_nothing_to_stderr_and_others_still_do() {
        // Without the name of the test program.
        let (_, module) = module_path!().split_once("::").expect("a module of a program");
        let run = |child: &str| {
            let child = &format!("{module}::{child}");
            Command::new(std::env::current_exe().expect("this test program"))
                .args([child, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
                .output()
                .expect("the test program runs again")
        };
        let contained = run("child_contained");
        assert!(contained.status.success());
        assert_eq!(String::from_utf8_lossy(&contained.stderr), "");
        let outside = run("child_outside");
        assert!(!outside.status.success());
        assert!(String::from_utf8_lossy(&outside.stderr).contains("outside a call"));
    }

    #[test]
    #[ignore = "run in a child process by the test above"]
    fn child_contained() {
        assert_ne!(ffi_status(|| panic!("inside a call")), 0);
    }

    #[test]
    #[ignore = "run in a child process by the test above"]
    fn child_outside() {
        assert_eq!(ffi_status(|| Ok(())), 0);
        panic!("outside a call");
    }
}
