//! Waking a thread that waits.

use super::descriptors::beyond_standard;
use super::errno::errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A descriptor that ends a [`wait`] from another thread or a signal handler.
#[derive(Debug)]
pub(crate) struct Wake {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    event: OwnedFd,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pair: (std::os::unix::net::UnixStream, std::os::unix::net::UnixStream),
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Wake {
            event: beyond_standard(event)?,
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn sending(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        let pair = (beyond_standard(one)?, beyond_standard(other)?);
        pair.0.set_nonblocking(true)?;
        pair.1.set_nonblocking(true)?;
        Ok(Wake { pair })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pair.0.as_fd()
    }

    fn sending(&self) -> BorrowedFd<'_> {
        self.pair.1.as_fd()
    }
}

impl Wake {
    /// Ends the present and the future waits, until [`Wake::clear`].
    /// Async-signal-safe: one system call that does not block, errno kept.
    pub(crate) fn signal(&self) {
        signal_descriptor(self.sending().as_raw_fd());
    }

    /// Lets waits wait again.
    pub(crate) fn clear(&self) {
        let mut bytes = [0u8; 64];
        // SAFETY: the bytes are ours and writable; the descriptor does not block.
        while unsafe { libc::read(self.as_fd().as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) } == 64 {}
    }
}

/// Makes the other end of a wake-up readable. Not by write(2), where a thread
/// could be cancelled (pthread_cancel).
fn signal_descriptor(fd: libc::c_int) {
    let one = 1u64.to_ne_bytes();
    let errno = errno();
    // SAFETY: errno's place is this thread's; the eight bytes live during the
    // call. A full counter or pipe wakes as well, so the result says nothing.
    unsafe {
        let kept = *errno;
        #[cfg(target_os = "linux")]
        libc::syscall(libc::SYS_write, fd, one.as_ptr(), one.len());
        #[cfg(not(target_os = "linux"))]
        libc::write(fd, one.as_ptr().cast(), one.len());
        *errno = kept;
    }
}

/// A [`Wake`] that is made when somebody first waits and let go when nobody does
/// any more, so that it costs no descriptor otherwise. A signal that comes earlier
/// is not kept: whoever waits looks at the reason after [`LazyWake::get`] and
/// before the wait.
#[derive(Debug, Default)]
pub(crate) struct LazyWake {
    made: Mutex<Option<Arc<Wake>>>,
    /// Where to signal it, or 0; readable in a signal handler.
    sending: AtomicI32,
    /// How many are about to signal it.
    signalling: AtomicU32,
}

impl LazyWake {
    fn made(&self) -> MutexGuard<'_, Option<Arc<Wake>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> io::Result<Arc<Wake>> {
        let mut made = self.made();
        let wake = match &*made {
            Some(wake) => Arc::clone(wake),
            None => Arc::clone(made.insert(Arc::new(Wake::new()?))),
        };
        self.sending.store(wake.sending().as_raw_fd(), Ordering::SeqCst);
        Ok(wake)
    }

    /// Async-signal-safe.
    pub(crate) fn signal(&self) {
        self.signalling.fetch_add(1, Ordering::SeqCst);
        match self.sending.load(Ordering::SeqCst) {
            0 => {}
            fd => signal_descriptor(fd),
        }
        self.signalling.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn clear(&self) {
        if let Some(wake) = &*self.made() {
            wake.clear();
        }
    }

    /// Closes its descriptor, as nobody waits. Not while somebody is about to
    /// signal it: the number could be another's by then, and it is kept.
    pub(crate) fn release(&self) {
        self.sending.store(0, Ordering::SeqCst);
        if self.signalling.load(Ordering::SeqCst) == 0 {
            self.made().take();
        }
    }
}
