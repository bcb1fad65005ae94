//! Descriptors, which are never those of the standard streams (0 to 2).

use socket2::{Domain, Protocol, Socket, Type};
use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;

/// Returns the descriptor with a number above 2: a host that closed the standard streams
/// and writes to them must not write into our files. Every descriptor that the library
/// makes is passed through here; [`LazyWake`](super::LazyWake) relies on 0 being unused.
pub(crate) fn beyond_standard<T: AsRawFd + From<OwnedFd>>(descriptor: T) -> io::Result<T> {
    if descriptor.as_raw_fd() > 2 {
        return Ok(descriptor);
    }
    // SAFETY: no pointers; the result is checked before it is owned.
    let higher = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if higher < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(descriptor);
    hold_standard_streams();
    // SAFETY: a descriptor that was just made and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(higher) }.into())
}

/// Opens 0, 1 and 2 if the process has closed them, for neither reading nor writing. A
/// new descriptor would have such a number for a moment, and what another thread prints
/// then would end in it. They stay open: a host that opens its own gets them by `dup2`.
pub(crate) fn hold_standard_streams() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const PLACEHOLDER: (&CStr, libc::c_int) = (c"/", libc::O_PATH | libc::O_CLOEXEC);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const PLACEHOLDER: (&CStr, libc::c_int) = (c"/dev/null", libc::O_RDONLY | libc::O_CLOEXEC);
    for fd in 0..=2 {
        // SAFETY: no pointers.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1 {
            continue;
        }
        // SAFETY: a constant text. The lowest free number is this one, unless another
        // thread took it meanwhile; then nobody else owns the new one.
        unsafe {
            let held = libc::open(PLACEHOLDER.0.as_ptr(), PLACEHOLDER.1);
            if held > 2 {
                libc::close(held);
            }
        }
    }
}

/// Duplicates the descriptor of a file.
pub(crate) fn duplicate(file: &File) -> io::Result<File> {
    hold_standard_streams();
    file.try_clone().and_then(beyond_standard)
}

/// Closes a file and returns the error, which dropping it would ignore.
pub(crate) fn close(file: File) -> io::Result<()> {
    // SAFETY: only this function owns the descriptor.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // It is closed nevertheless.
        e if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        e => Err(e),
    }
}

/// Opens a file; see [`beyond_standard`].
pub(crate) fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    hold_standard_streams();
    options.open(path).and_then(beyond_standard)
}

/// Opens a file to read it.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, File::options().read(true))
}

/// Makes a socket; see [`beyond_standard`].
pub(crate) fn socket(domain: Domain, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    hold_standard_streams();
    Socket::new(domain, kind, Some(protocol)).and_then(beyond_standard)
}

/// The properties of a descriptor that a caller passed.
pub(crate) struct DescriptorMode {
    pub(crate) regular: bool,
    pub(crate) socket: bool,
    pub(crate) writable: bool,
}

pub(crate) fn descriptor(fd: BorrowedFd<'_>) -> io::Result<DescriptorMode> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills in the structure when it returns 0, and only then is
    // it read; fcntl takes no pointer here.
    let (flags, mode) = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fstat(fd.as_raw_fd(), status.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        (flags, status.assume_init().st_mode)
    };
    Ok(DescriptorMode {
        regular: mode & libc::S_IFMT == libc::S_IFREG,
        socket: mode & libc::S_IFMT == libc::S_IFSOCK,
        writable: flags & libc::O_ACCMODE != libc::O_RDONLY,
    })
}

pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens the file behind a descriptor again, for non-blocking writes. The caller's
/// descriptor keeps its mode.
pub(crate) fn reopen_nonblocking(fd: BorrowedFd<'_>) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    open(Path::new(&proc_path(fd)), &options)
}
