//! Wakes a waiting thread.

use super::descriptors::beyond_standard;
use super::errno::errno;
use super::process::process;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A descriptor to end a [`wait`](super::wait) from another thread or a signal handler.
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
        // SAFETY: a new descriptor, which nothing else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Wake {
            event: beyond_standard(event)?,
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn sender(&self) -> BorrowedFd<'_> {
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

    fn sender(&self) -> BorrowedFd<'_> {
        self.pair.1.as_fd()
    }
}

impl Wake {
    /// Ends current and future waits, until [`Wake::clear`]. Async-signal-safe: one system
    /// call that does not block, and errno is preserved.
    pub(crate) fn signal(&self) {
        signal_descriptor(self.sender().as_raw_fd());
    }

    /// Undoes [`Wake::signal`].
    pub(crate) fn clear(&self) {
        let mut bytes = [0u8; 64];
        // SAFETY: the bytes are ours and writable; the descriptor does not block.
        while unsafe { libc::read(self.as_fd().as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) } == 64 {}
    }
}

/// Makes the other end of a wake-up readable. It does not use write(2), which is a
/// cancellation point (pthread_cancel).
fn signal_descriptor(fd: libc::c_int) {
    let one = 1u64.to_ne_bytes();
    let errno = errno();
    // SAFETY: errno is this thread's; the eight bytes live during the call. The result does
    // not matter: a full counter or pipe wakes as well.
    unsafe {
        let saved = *errno;
        #[cfg(target_os = "linux")]
        libc::syscall(libc::SYS_write, fd, one.as_ptr(), one.len());
        #[cfg(not(target_os = "linux"))]
        libc::write(fd, one.as_ptr().cast(), one.len());
        *errno = saved;
    }
}

/// The most that are kept: as many as a program may reasonably have threads.
const MAX_IDLE_WAKES: usize = 64;

/// Wake-ups that nothing uses, for the next waits: to make and to close one costs more than
/// to wait with it. A late signal may still reach one: a waiter clears it, checks its
/// condition and waits again.
#[derive(Debug)]
pub(crate) struct IdleWakes {
    /// A thread that holds the lock may not exist after `fork`, so only this process uses it.
    process: usize,
    wakes: Mutex<Vec<Arc<Wake>>>,
    is_closed: AtomicBool,
}

impl IdleWakes {
    pub(crate) fn new() -> Arc<IdleWakes> {
        Arc::new(IdleWakes {
            process: process(),
            wakes: Mutex::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Locks them; None in another process.
    fn wakes(&self) -> Option<MutexGuard<'_, Vec<Arc<Wake>>>> {
        (self.process == process()).then(|| self.wakes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> Option<Arc<Wake>> {
        self.wakes()?.pop()
    }

    /// Keeps it, unless something waits with it, which would take the signals of the next
    /// waiter.
    fn keep(&self, mut wake: Arc<Wake>) {
        if Arc::get_mut(&mut wake).is_some()
            && let Some(mut wakes) = self.wakes()
            && wakes.len() < MAX_IDLE_WAKES
            && !self.is_closed.load(Ordering::SeqCst)
        {
            wakes.push(wake);
        }
    }

    /// Closes the idle ones.
    pub(crate) fn clear(&self) {
        let wakes = self.wakes().map(|mut wakes| std::mem::take(&mut *wakes));
        drop(wakes);
    }

    /// Closes them, and keeps no others.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.clear();
    }
}

/// A [`Wake`] that exists only while something waits, so that it costs no descriptor
/// otherwise. An earlier signal is lost: a waiter must check its condition after
/// [`LazyWake::get`] and before the wait.
#[derive(Debug, Default)]
pub(crate) struct LazyWake {
    /// With what keeps it afterwards.
    wake: Mutex<Option<(Arc<Wake>, Weak<IdleWakes>)>>,
    /// The descriptor to signal, or 0; readable in a signal handler.
    sender: AtomicI32,
    /// How many threads are signalling it.
    signallers: AtomicU32,
}

impl LazyWake {
    fn wake(&self) -> MutexGuard<'_, Option<(Arc<Wake>, Weak<IdleWakes>)>> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, idle: &Arc<IdleWakes>) -> io::Result<Arc<Wake>> {
        let mut wake = self.wake();
        let wake = match &*wake {
            Some((wake, _)) => Arc::clone(wake),
            None => {
                let own = idle.take().map_or_else(|| Wake::new().map(Arc::new), Ok)?;
                *wake = Some((Arc::clone(&own), Arc::downgrade(idle)));
                own
            }
        };
        self.sender.store(wake.sender().as_raw_fd(), Ordering::SeqCst);
        Ok(wake)
    }

    /// Async-signal-safe.
    pub(crate) fn signal(&self) {
        self.signallers.fetch_add(1, Ordering::SeqCst);
        match self.sender.load(Ordering::SeqCst) {
            0 => {}
            fd => signal_descriptor(fd),
        }
        self.signallers.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn clear(&self) {
        if let Some((wake, _)) = &*self.wake() {
            wake.clear();
        }
    }

    /// Gives its descriptor away when nothing waits. Waits a moment for what is signalling it,
    /// since the descriptor's number might be reused before that, and then keeps it: after
    /// `fork` a signalling thread may not exist.
    pub(crate) fn release(&self) {
        self.sender.store(0, Ordering::SeqCst);
        for _ in 0..1000 {
            if self.signallers.load(Ordering::SeqCst) == 0 {
                break;
            }
            std::thread::yield_now();
        }
        if self.signallers.load(Ordering::SeqCst) == 0
            && let Some((wake, idle)) = self.wake().take()
            && let Some(idle) = idle.upgrade()
        {
            idle.keep(wake);
        }
    }
}
