//! The panic boundary: stops panics and the ends of threads.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// Whether the thread runs code of the library and not of the host.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of a function that returns a value and does not change the
/// last error. Returns `fallback` after a panic.
pub(super) fn ffi_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_panic(body).unwrap_or(fallback)
}

/// Runs code of the library. Returns the payload of a panic.
pub(super) fn catch_panic<T>(body: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    silence_panics();
    let _thread = CancellationOff::new();
    let outer = INSIDE.replace(true);
    // Values that a panic may leave inconsistent are dropped with the call, or
    // protect themselves (ureq's pool fails when poisoned).
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(outer);
    result
}

/// Marks the thread as running code of the host, until this is dropped.
pub(super) struct HostCode(bool);

impl HostCode {
    pub(super) fn enter() -> HostCode {
        HostCode(INSIDE.replace(false))
    }
}

impl Drop for HostCode {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// Runs a function of the host that may end its thread. Python ends threads
/// that call it after its shutdown. That would unwind Rust code and end the
/// process, so such a thread is kept here for ever instead.
///
/// The system runs the handler after it has unwound this frame. So neither this
/// function nor its callees may have anything to drop, because that would be
/// unwound before.
#[cfg(target_os = "linux")]
#[inline(never)]
pub(super) fn hold_thread<T>(callback: impl FnOnce() -> T) -> T {
    /// Memory for the C library's handler record.
    type Handler = [*mut c_void; 4];
    unsafe extern "C" {
        fn _pthread_cleanup_push(
            handler_record: *mut Handler,
            handler: extern "C" fn(*mut c_void),
            data: *mut c_void,
        );
        fn _pthread_cleanup_pop(handler_record: *mut Handler, run: c_int);
    }
    extern "C" fn stay(_: *mut c_void) {
        loop {
            // SAFETY: it only waits.
            unsafe { libc::pause() };
        }
    }
    let mut handler_record: Handler = [ptr::null_mut(); 4];
    // SAFETY: the record does not move, and is removed before it goes out of
    // scope.
    unsafe { _pthread_cleanup_push(&raw mut handler_record, stay, ptr::null_mut()) };
    let result = callback();
    // SAFETY: this is the last handler that was pushed and not popped.
    unsafe { _pthread_cleanup_pop(&raw mut handler_record, 0) };
    result
}

/// Other systems do not unwind, or have no such handlers.
#[cfg(not(target_os = "linux"))]
pub(super) fn hold_thread<T>(callback: impl FnOnce() -> T) -> T {
    callback()
}

/// Disables pthread_cancel() until it is dropped: a thread that ends inside
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

    /// Android has no cancellation of threads.
    #[cfg(target_os = "android")]
    fn new() -> CancellationOff {
        CancellationOff(0)
    }
}

impl Drop for CancellationOff {
    fn drop(&mut self) {
        // Some systems do not accept NULL.
        #[cfg(not(target_os = "android"))]
        pthread_setcancelstate(self.0, Some(&mut 0));
    }
}

/// Replaces the panic hook. The default hook writes to the host's stderr, which
/// a library must not do. Inside a call, the text becomes part of the error
/// instead.
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

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
