//! Waiting for descriptors.

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
pub(crate) enum Ended {
    /// A descriptor is ready, or broken, which the next call on it will tell.
    Ready,
    /// Somebody signalled the wake-up.
    Woken,
    /// The time has come.
    TimedOut,
    /// A signal was handled, inside a [`SignalScope`].
    Interrupted,
}

/// How many descriptors one wait can be for.
pub(crate) const MAX_WAITED: usize = 8;

/// Waits for any of some descriptors, a wake-up, and a time. A signal ends the
/// wait inside a [`SignalScope`]; elsewhere it neither ends nor lengthens it.
pub(crate) fn wait(
    fds: &[(BorrowedFd<'_>, Interest)],
    wake: Option<BorrowedFd<'_>>,
    until: Option<Instant>,
) -> io::Result<Ended> {
    // A negative descriptor is one that poll passes over.
    let entry = |fd: Option<BorrowedFd<'_>>, interest| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: match interest {
            Interest::Writable => libc::POLLOUT,
            Interest::Readable => libc::POLLIN,
        },
        revents: 0,
    };
    let mut entries = [entry(wake, Interest::Readable); MAX_WAITED + 1];
    let count = fds.len().min(MAX_WAITED);
    for (place, (fd, interest)) in entries[1..].iter_mut().zip(fds) {
        *place = entry(Some(*fd), *interest);
    }
    let entries = &mut entries[..=count];
    let scope = SignalScope::mask();
    loop {
        let ready = match &scope {
            None => poll(entries, until),
            Some(mask) => poll_with_signals(entries, until, mask),
        };
        match ready {
            0 if until.is_some_and(|until| until <= Instant::now()) => return Ok(Ended::TimedOut),
            // The timeout was cut to what poll can express.
            0 => {}
            n if n > 0 && entries[0].revents != 0 => return Ok(Ended::Woken),
            n if n > 0 => return Ok(Ended::Ready),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
                if scope.is_some() {
                    return Ok(Ended::Interrupted);
                }
            }
        }
    }
}

fn poll(entries: &mut [libc::pollfd], until: Option<Instant>) -> libc::c_int {
    let timeout = match until {
        None => -1,
        Some(until) => {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, or the last fraction of a millisecond would spin.
            let ms = left.saturating_add(Duration::from_micros(999)).as_millis();
            libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
        }
    };
    // SAFETY: valid entries, alive and ours alone during the call.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) }
}
