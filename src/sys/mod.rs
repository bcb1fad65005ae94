//! System calls that std does not offer. Only here and in `ffi` is there `unsafe` code.

#![allow(unsafe_code)]

mod descriptors;
mod errno;
mod files;
mod lock;
mod pages;
mod poll;
mod process;
mod signals;
mod wake;
mod write;

pub(crate) use descriptors::*;
pub(crate) use files::*;
pub(crate) use lock::*;
pub(crate) use pages::*;
pub(crate) use poll::*;
pub(crate) use process::*;
pub(crate) use signals::*;
pub(crate) use wake::*;
pub(crate) use write::*;

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn wait_ends_at_deadline_or_when_descriptor_is_ready() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let waiting = |interest, until| wait(&[(ours.as_fd(), interest)], None, until).expect("poll works");
        let until = Instant::now() + Duration::from_millis(30);
        assert_eq!(waiting(Interest::Readable, Some(until)), WaitResult::TimedOut);
        assert!(Instant::now() >= until);
        assert_eq!(waiting(Interest::Writable, None), WaitResult::Ready);
        drop(theirs);
        assert_eq!(waiting(Interest::Readable, None), WaitResult::Ready);
    }

    #[test]
    fn wake_ends_waits_until_cleared() {
        let wake = Wake::new().expect("a descriptor");
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(
            wait(&[], Some(wake.as_fd()), soon()).expect("poll works"),
            WaitResult::TimedOut
        );
        wake.signal();
        wake.signal();
        assert_eq!(
            wait(&[], Some(wake.as_fd()), None).expect("poll works"),
            WaitResult::Woken
        );
        assert_eq!(
            wait(&[], Some(wake.as_fd()), None).expect("poll works"),
            WaitResult::Woken
        );
        wake.clear();
        assert_eq!(
            wait(&[], Some(wake.as_fd()), soon()).expect("poll works"),
            WaitResult::TimedOut
        );
    }

    #[test]
    fn thread_started_with_signals_blocked_inherits_mask() {
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
