//! Calls from the host into the library, and from the library into the host.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use super::error::{clear_last_error, dbss_error, set_last_error, swap_last_error};
use super::memory;
use super::panic::{HostCode, catch_panic, ffi_value, hold_thread, panic_text};
use super::status::dbss_status;
use dbss::{Error, Status};

thread_local! {
    /// Whether the memory for the thread's last error is allocated.
    static READY: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of a function that returns a status: clears the thread's last
/// error, and turns an error or a panic into a status and a last error. What must
/// be done in any case, such as clearing out-parameters, is done before.
pub(super) fn ffi_status(body: impl FnOnce() -> Result<(), Error>) -> dbss_status {
    let memory = memory::begin_call();
    if !memory.is_enough() {
        if !READY.get() {
            // Even the error cannot be stored: the C library ends the process
            // if there is no memory for a thread's first thread-local data.
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

/// Runs the body of a getter that returns a copy. Returns NULL if there is no
/// memory for it, or after a panic.
pub(super) fn ffi_copy<T>(body: impl FnOnce() -> *mut T) -> *mut T {
    if memory::has_enough() {
        ffi_value(ptr::null_mut(), body)
    } else {
        ptr::null_mut()
    }
}

/// Runs a callback of the host. The callback may call functions of the library,
/// so the error of the surrounding call is saved and restored. It must not own
/// anything that needs to be dropped (see [`hold_thread`]).
pub(super) fn call_host<T>(callback: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arc<dbss_error>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            drop(swap_last_error(self.0.take()));
        }
    }
    if !READY.get() {
        // The thread has no error to save.
        return hold_thread(callback);
    }
    let _restore = Restore(swap_last_error(None));
    let _host = HostCode::enter();
    hold_thread(callback)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn panic_becomes_internal_status_with_panic_text() {
        let status = ffi_status(|| panic!("deliberate {}", 7));
        assert_eq!(status, Status::Internal as dbss_status);
        let error = super::super::error::last_error().expect("a last error");
        assert!(error.message().contains("deliberate 7"), "{error}");
        assert_eq!(ffi_value(-5, || panic!("again")), -5);
    }

    #[test]
    fn only_panic_outside_call_writes_to_stderr() {
        // The module path without the name of the test program.
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
