//! Writing without a signal.

use super::signals::Blocked;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// write(2) that never sends the host a signal: neither SIGPIPE for a reader
/// that has gone nor SIGXFSZ for a file at its size limit, both of which end a
/// process by default.
pub(crate) fn write_quietly(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live during the call.
    quietly(bytes.len(), || unsafe {
        libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len())
    })
}

/// The same for a socket, which takes at once what it can, whatever its mode.
pub(crate) fn send_quietly(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live during the call.
    quietly(bytes.len(), || unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
        )
    })
}

/// The same for what else can take at once what it can; ErrorKind::Unsupported
/// where it, or the system, has no such thing.
pub(crate) fn write_quietly_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        let part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // The position of the descriptor itself, in two halves.
        let here: libc::c_long = -1;
        // SAFETY: the part and the bytes live during the call, which only reads
        // them.
        let written = quietly(bytes.len(), || unsafe {
            libc::syscall(
                libc::SYS_pwritev2,
                libc::c_long::from(fd.as_raw_fd()),
                &raw const part,
                1usize,
                here,
                here,
                libc::c_long::from(libc::RWF_NOWAIT),
            ) as isize
        });
        match written {
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM)
                ) => {}
            written => return written,
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (fd, bytes);
    Err(io::ErrorKind::Unsupported.into())
}

/// Calls what writes so many bytes, without the signals that it may raise.
fn quietly(len: usize, write: impl FnOnce() -> isize) -> io::Result<usize> {
    let blocked = Blocked::these(&[libc::SIGPIPE, libc::SIGXFSZ]);
    let n = write();
    let error = io::Error::last_os_error();
    // What was taken whole raised nothing.
    if n < 0 || (n as usize) < len {
        blocked.take_back();
    }
    if n >= 0 {
        return Ok(n as usize);
    }
    Err(error)
}

/// The same for all of the bytes, to a descriptor that blocks.
pub(crate) fn write_all_quietly(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_quietly(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
