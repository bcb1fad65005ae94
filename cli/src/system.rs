//! What std does not offer: standard streams that are closed, and signals. The only
//! file with `unsafe`.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use dbss::Operation;

/// The C library calls it. Not the `main` of std, which opens /dev/null where a standard
/// stream is closed: then nobody can tell any more that it was. It starts sooner, too.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    hold_standard_streams();
    // SAFETY: it only sets what a broken pipe and a file over the limit of its size do: they
    // are errors of the write.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let words: Vec<OsString> = (0..usize::try_from(count).unwrap_or_default())
        .map(|i| {
            // SAFETY: `main` gets an array of `count` strings, which live as long as
            // the process.
            let word = unsafe { CStr::from_ptr(*words.add(i)) };
            OsStr::from_bytes(word.to_bytes()).to_owned()
        })
        .collect();
    // A panic must not unwind into C.
    let code = std::panic::catch_unwind(|| crate::run(&words));
    c_int::from(code.unwrap_or(crate::failure::INTERNAL))
}

/// Opens /dev/null where a standard stream is closed, so that no other file gets its
/// number. The wrong way round: what is read or written there fails, as before.
fn hold_standard_streams() {
    for fd in 0..3 {
        let mode = if fd == 0 { libc::O_WRONLY } else { libc::O_RDONLY };
        // SAFETY: system calls that take no pointer but that of a constant string.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) == -1 {
                libc::open(c"/dev/null".as_ptr(), mode);
            }
        }
    }
}

/// Waits until a descriptor that does not block takes more, or a signal comes.
pub fn wait_until_writable(fd: std::os::fd::BorrowedFd<'_>) {
    use std::os::fd::AsRawFd;
    let mut fd = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one valid structure, for as long as the call.
    unsafe { libc::poll(&raw mut fd, 1, -1) };
}

/// Opens a file to read it. Unlike std, it fails with EINTR when a signal comes: a named
/// pipe may have no writer yet.
pub fn open(path: &Path) -> io::Result<File> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a string that ends with NUL and lives as long as the call. What
    // is returned belongs to nobody else.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        match fd {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(OwnedFd::from_raw_fd(fd).into()),
        }
    }
}

/// Checks that files can be created in a directory, as far as its permissions tell.
pub fn check_writable(directory: &Path) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    let mode = libc::W_OK | libc::X_OK;
    // SAFETY: the path is a string that ends with NUL and lives as long as the call.
    match unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A variable of the environment; one that is empty counts as absent.
pub fn variable_os(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

static RUNNING: OnceLock<Arc<Operation>> = OnceLock::new();
/// When the first signal came, in milliseconds; 0 before.
static CANCELLED: AtomicI64 = AtomicI64::new(0);

/// A second signal that comes sooner is the same key press: a parent may have forwarded
/// what the terminal sends to all of its group.
const SAME_MS: i64 = 200;

/// Whether a signal has asked the program to end.
pub fn is_cancelled() -> bool {
    CANCELLED.load(Ordering::SeqCst) != 0
}

extern "C" fn on_signal(_: c_int) {
    // SAFETY: all zeros is a valid time, and the call, which is allowed in a handler,
    // only fills it in.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
        (now.tv_sec * 1000 + now.tv_nsec / 1_000_000).max(1)
    };
    match CANCELLED.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {
            if let Some(operation) = RUNNING.get() {
                operation.cancel();
            }
        }
        Err(first) if now - first < SAME_MS => {}
        // SAFETY: it ends the process, and is allowed in a handler.
        Err(_) => unsafe { libc::_exit(c_int::from(crate::failure::CANCELLED)) },
    }
}

/// From now on the first signal that asks the program to end cancels the operation,
/// and the second one ends the program at once. One that is ignored, as by nohup,
/// stays so.
pub fn cancel_on_signals(operation: &Arc<Operation>) {
    if RUNNING.set(Arc::clone(operation)).is_err() {
        return;
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // SAFETY: both structures are valid for the calls; all zeros is a valid
        // sigaction. The handler only stores a flag, wakes the operation up through
        // a function that is safe in handlers, and ends the process.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(c_int) = on_signal;
            action.sa_sigaction = handler as libc::sighandler_t;
            if libc::sigaction(signal, std::ptr::null(), &raw mut before) == 0
                && before.sa_sigaction != libc::SIG_IGN
            {
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
        }
    }
}
