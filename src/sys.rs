//! System calls that std does not offer. With `ffi`, the only place with
//! `unsafe`.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

/// Waits until the descriptor is ready (or broken, which the next call on it
/// will tell): true; or until `until` has come: false. A signal neither ends
/// nor lengthens the wait.
pub(crate) fn wait(fd: BorrowedFd<'_>, interest: Interest, until: Option<Instant>) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: match interest {
            Interest::Readable => libc::POLLIN,
            Interest::Writable => libc::POLLOUT,
        },
        revents: 0,
    };
    loop {
        let timeout = match until {
            None => -1,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                // Rounded up, or the last fraction of a millisecond would spin.
                let ms = left.saturating_add(Duration::from_micros(999)).as_millis();
                libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
            }
        };
        // SAFETY: one valid entry, alive and ours alone during the call.
        match unsafe { libc::poll(&mut entry, 1, timeout) } {
            0 if until.is_some_and(|until| until <= Instant::now()) => return Ok(false),
            // The timeout was cut to what poll can express.
            0 => {}
            n if n > 0 => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Runs `start` with all signals blocked in this thread. A thread that it
/// starts inherits that, so no handler of the host ever runs there.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: a mask that pthread_sigmask itself filled in.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }

    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises `all`; pthread_sigmask reads it and, as
    // it can fail only for a wrong first argument, initialises `before`.
    let _restore = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        Restore(before.assume_init())
    };
    start()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_wait_ends_at_its_time_or_when_the_descriptor_is_ready() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let start = Instant::now();
        let until = start + Duration::from_millis(30);
        assert!(!wait(ours.as_fd(), Interest::Readable, Some(until)).expect("poll works"));
        assert!(Instant::now() >= until);
        assert!(wait(ours.as_fd(), Interest::Writable, None).expect("poll works"));
        drop(theirs);
        assert!(wait(ours.as_fd(), Interest::Readable, None).expect("poll works"));
    }

    #[test]
    fn a_thread_started_with_signals_blocked_has_them_blocked() {
        let blocked = || {
            let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: with no new mask, the call only fills in the old one.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), mask.as_mut_ptr());
                libc::sigismember(mask.as_ptr(), libc::SIGTERM)
            }
        };
        let before = blocked();
        let inside = with_signals_blocked(|| std::thread::spawn(blocked).join().expect("no panic"));
        assert_eq!((inside, blocked()), (1, before));
    }
}
