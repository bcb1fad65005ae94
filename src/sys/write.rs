//! Writes without raising signals.

use super::signals::BlockedSignals;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Like write(2), without SIGPIPE (no reader) and SIGXFSZ (file size limit), which end a
/// process by default.
pub(crate) fn write_quietly(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live during the call.
    quietly(bytes.len(), || unsafe {
        libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len())
    })
}

/// Like [`write_quietly`] for a socket; never blocks, whatever its mode.
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

/// Like [`write_quietly`], but never blocks, whatever the descriptor's mode.
/// `ErrorKind::Unsupported` if the descriptor or the system has no such write.
pub(crate) fn write_quietly_nonblocking(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        let part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // Use the descriptor's own position, in two halves.
        let here: libc::c_long = -1;
        // SAFETY: the part and the bytes live during the call, which only reads them.
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

/// Runs a write of `len` bytes and discards the signals that it raises.
fn quietly(len: usize, write: impl FnOnce() -> isize) -> io::Result<usize> {
    let blocked = BlockedSignals::block(&[libc::SIGPIPE, libc::SIGXFSZ]);
    let n = write();
    let error = io::Error::last_os_error();
    // A complete write raises no signal.
    if n < 0 || (n as usize) < len {
        blocked.discard_raised();
    }
    if n >= 0 {
        return Ok(n as usize);
    }
    Err(error)
}

/// Like [`write_quietly`], for all of the bytes, to a blocking descriptor.
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
