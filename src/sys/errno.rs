//! The address of the thread's errno.

#[cfg(any(target_os = "linux", target_os = "emscripten"))]
pub(super) fn errno() -> *mut libc::c_int {
    // SAFETY: gives the address of this thread's errno; touches nothing.
    unsafe { libc::__errno_location() }
}

#[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
pub(super) fn errno() -> *mut libc::c_int {
    // SAFETY: gives the address of this thread's errno; touches nothing.
    unsafe { libc::__errno() }
}

#[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
pub(super) fn errno() -> *mut libc::c_int {
    // SAFETY: gives the address of this thread's errno; touches nothing.
    unsafe { libc::__error() }
}
