//! The panic boundary: no panic and no end of a thread crosses it.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// Whether the thread runs code of the library, and not of the host.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of a function that returns a value and touches no last error;
/// a panic becomes `fallback`.
pub(super) fn ffi_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_panic(body).unwrap_or(fallback)
}

/// Runs code of the library; a panic is returned, with what it said.
pub(super) fn catch_panic<T>(body: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    silence_panics();
    let _thread = CancellationOff::new();
    let outer = INSIDE.replace(true);
    // The values that a panic may leave half-changed are dropped with the
    // call, or guard themselves (ureq's pool refuses to go on when poisoned).
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

/// Runs a function of the host that may end its thread, as Python does with those
/// that want to run its code after its end. That would unwind Rust code, which ends
/// the process: such a thread stays here for ever instead.
///
/// The system runs the handler as soon as it has unwound this frame, so neither this
/// nor what it calls may have anything to drop: that would be unwound before.
#[cfg(target_os = "linux")]
#[inline(never)]
pub(super) fn hold_thread<T>(callback: impl FnOnce() -> T) -> T {
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
pub(super) fn hold_thread<T>(callback: impl FnOnce() -> T) -> T {
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

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
