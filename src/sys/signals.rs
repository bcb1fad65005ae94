//! Signals that end a call, and signals that a thread must not receive.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// Blocks this thread's signals while it lives, except during [`wait`](super::wait). So
/// each signal that the host handles ends a wait, whenever it arrives.
///
/// Signals of faults and of the C library itself are never blocked.
pub(crate) struct SignalScope {
    _mask: SignalMask,
    /// The mask of the surrounding scope, for a call inside of a callback.
    outer: Option<libc::sigset_t>,
}

thread_local! {
    static SCOPE: Cell<Option<libc::sigset_t>> = const { Cell::new(None) };
    static SUSPENDED: Cell<bool> = const { Cell::new(false) };
}

/// See [`SignalScope::suspend`].
pub(crate) struct Suspended {
    mask: libc::sigset_t,
    /// Blocks signals again when it is dropped.
    blocked: Option<SignalMask>,
}

impl Drop for Suspended {
    fn drop(&mut self) {
        self.blocked = None;
        SCOPE.set(Some(self.mask));
        SUSPENDED.set(true);
    }
}

/// Signals of faults: if they were blocked, a fault would end the process.
const FAULT_SIGNALS: [libc::c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];

impl SignalScope {
    pub(crate) fn enter() -> SignalScope {
        let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the set, and sigdelset takes numbers of
        // signals.
        let blocked = unsafe {
            libc::sigfillset(blocked.as_mut_ptr());
            for fault in FAULT_SIGNALS {
                libc::sigdelset(blocked.as_mut_ptr(), fault);
            }
            blocked.assume_init()
        };
        let outer = SCOPE.get();
        let mask = SignalMask::set(&blocked);
        // Inside another scope, the host's mask is that of the outer one.
        SCOPE.set(Some(outer.unwrap_or(mask.0)));
        SignalScope { _mask: mask, outer }
    }

    /// Suspends the scope until the value is dropped, to run code of the host with the
    /// host's own mask.
    pub(crate) fn suspend() -> Option<Suspended> {
        let mask = SCOPE.take()?;
        Some(Suspended {
            mask,
            blocked: Some(SignalMask::set(&mask)),
        })
    }

    /// Whether it was suspended since the last call of this function.
    pub(crate) fn was_suspended() -> bool {
        SUSPENDED.take()
    }

    /// Returns the mask to wait with; `None` outside of a scope.
    pub(super) fn mask() -> Option<libc::sigset_t> {
        SCOPE.get()
    }

    /// Handles pending signals now; returns whether there was one. Always false outside of
    /// a scope.
    pub(crate) fn deliver() -> bool {
        Self::mask().is_some_and(|mask| {
            poll_with_signals(&mut [], Some(Instant::now()), &mask) < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        })
    }
}

impl Drop for SignalScope {
    fn drop(&mut self) {
        SCOPE.set(self.outer);
    }
}

/// Sets a signal mask, and restores the previous one when dropped.
struct SignalMask(libc::sigset_t);

impl SignalMask {
    fn set(mask: &libc::sigset_t) -> SignalMask {
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: it fails only for a wrong first argument, so it initialises `before`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, mask, before.as_mut_ptr());
            SignalMask(before.assume_init())
        }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: pthread_sigmask itself filled in this mask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Signals blocked in this thread.
pub(super) struct BlockedSignals {
    signals: libc::sigset_t,
    before: libc::sigset_t,
    /// Whether one was pending before: it is the host's, and stays pending.
    was_pending: bool,
}

impl BlockedSignals {
    pub(super) fn block(numbers: &[libc::c_int]) -> BlockedSignals {
        let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        let mut was_pending = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the first call with each set initialises it, and none of the calls can fail
        // with these arguments.
        unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            for number in numbers {
                libc::sigaddset(signals.as_mut_ptr(), *number);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), before.as_mut_ptr());
            let is_in = |set: &MaybeUninit<libc::sigset_t>| {
                numbers.iter().any(|n| libc::sigismember(set.as_ptr(), *n) == 1)
            };
            // Only blocked signals can be pending.
            let was_pending = is_in(&before) && {
                libc::sigpending(was_pending.as_mut_ptr());
                is_in(&was_pending)
            };
            BlockedSignals {
                signals: signals.assume_init(),
                before: before.assume_init(),
                was_pending,
            }
        }
    }

    /// Discards the signals that were raised since then.
    pub(super) fn discard_raised(&self) {
        let no_wait = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `block` initialised the set. Both signals are sent to the thread that
        // wrote, so they are pending here.
        while !self.was_pending
            && unsafe { libc::sigtimedwait(&self.signals, std::ptr::null_mut(), &no_wait) } > 0
        {}
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `block` initialised the set.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// Runs `start` with all signals blocked in this thread. A thread that it starts
/// inherits the mask, so no handler of the host ever runs there.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set.
    let all = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    };
    let _mask = SignalMask::set(&all);
    start()
}

/// Like poll, with this signal mask during the wait. The kernel sets the mask and waits
/// atomically, so no signal is missed in between.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
pub(super) fn poll_with_signals(
    entries: &mut [libc::pollfd],
    until: Option<Instant>,
    mask: &libc::sigset_t,
) -> libc::c_int {
    const MAX_TIMEOUT: Duration = Duration::from_secs(1 << 20);
    let timeout = until.map(|until| {
        let remaining = until.saturating_duration_since(Instant::now()).min(MAX_TIMEOUT);
        libc::timespec {
            tv_sec: remaining.as_secs() as _,
            tv_nsec: remaining.subsec_nanos() as libc::c_long,
        }
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the entries are valid and borrowed exclusively; the time, if any, and the
    // mask live during the call.
    unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout, mask) }
}

/// The fallback without ppoll: it sets the mask before the wait, and limits the wait, so
/// that a signal in between is noticed soon.
#[cfg(any(target_os = "macos", target_os = "ios"))]
pub(super) fn poll_with_signals(
    entries: &mut [libc::pollfd],
    until: Option<Instant>,
    mask: &libc::sigset_t,
) -> libc::c_int {
    let soon = Instant::now() + Duration::from_millis(50);
    let _mask = SignalMask::set(mask);
    poll(entries, Some(until.map_or(soon, |until| until.min(soon))))
}
