//! Waits for descriptors.

use super::signals::{SignalScope, poll_with_signals};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitResult {
    /// A descriptor is ready, or has an error, which the next call on it returns.
    Ready,
    /// The wake-up was signalled.
    Woken,
    /// The deadline has passed.
    TimedOut,
    /// A signal was handled, inside a [`SignalScope`].
    Interrupted,
}

/// The most descriptors in one wait.
pub(crate) const MAX_WAIT_FDS: usize = 8;

/// Waits for any of these descriptors, a wake-up, or a deadline. A signal ends the wait
/// only inside a [`SignalScope`]; elsewhere it has no effect.
pub(crate) fn wait(
    fds: &[(BorrowedFd<'_>, Interest)],
    wake: Option<BorrowedFd<'_>>,
    until: Option<Instant>,
) -> io::Result<WaitResult> {
    // poll ignores negative descriptors.
    let entry = |fd: Option<BorrowedFd<'_>>, interest| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: match interest {
            Interest::Writable => libc::POLLOUT,
            Interest::Readable => libc::POLLIN,
        },
        revents: 0,
    };
    let mut entries = [entry(wake, Interest::Readable); MAX_WAIT_FDS + 1];
    let count = fds.len().min(MAX_WAIT_FDS);
    for (slot, (fd, interest)) in entries[1..].iter_mut().zip(fds) {
        *slot = entry(Some(*fd), *interest);
    }
    let entries = &mut entries[..=count];
    let scope = SignalScope::mask();
    loop {
        let ready = match &scope {
            None => poll(entries, until),
            Some(mask) => poll_with_signals(entries, until, mask),
        };
        match ready {
            0 if until.is_some_and(|until| until <= Instant::now()) => return Ok(WaitResult::TimedOut),
            // The timeout was longer than poll supports.
            0 => {}
            n if n > 0 && entries[0].revents != 0 => return Ok(WaitResult::Woken),
            n if n > 0 => return Ok(WaitResult::Ready),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
                if scope.is_some() {
                    return Ok(WaitResult::Interrupted);
                }
            }
        }
    }
}

fn poll(entries: &mut [libc::pollfd], until: Option<Instant>) -> libc::c_int {
    let timeout = match until {
        None => -1,
        Some(until) => {
            let remaining = until.saturating_duration_since(Instant::now());
            // Round up, or the loop would spin in the last millisecond.
            let ms = remaining.saturating_add(Duration::from_micros(999)).as_millis();
            libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
        }
    };
    // SAFETY: the entries are valid and borrowed exclusively during the call.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) }
}
