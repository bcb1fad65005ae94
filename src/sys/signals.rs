//! Signals that end a call, and those that a thread must not receive.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// While it lives, this thread's signals are blocked but where [`wait`] waits:
/// each that the host handles ends a wait, however it falls.
///
/// What faults raise is never blocked, nor are signals inside of the C library.
pub(crate) struct SignalScope {
    _mask: SignalMask,
    /// That of a call within a callback of the call.
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

/// Raised by a fault of the thread itself: blocked, they would end the process.
const FAULTS: [libc::c_int; 7] = [
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
            for fault in FAULTS {
                libc::sigdelset(blocked.as_mut_ptr(), fault);
            }
            blocked.assume_init()
        };
        let outer = SCOPE.get();
        let mask = SignalMask::set(&blocked);
        // Inside another scope the host's mask is the one that this found.
        SCOPE.set(Some(outer.unwrap_or(mask.0)));
        SignalScope { _mask: mask, outer }
    }

    /// Leaves the scope until the value is dropped, for code of the host: it runs
    /// with the host's own mask, and its calls are none of this scope.
    pub(crate) fn suspend() -> Option<Suspended> {
        let mask = SCOPE.take()?;
        Some(Suspended {
            mask,
            blocked: Some(SignalMask::set(&mask)),
        })
    }

    /// Whether it was left since this was last asked.
    pub(crate) fn was_suspended() -> bool {
        SUSPENDED.take()
    }

    /// The mask to wait with; none outside of a scope.
    pub(super) fn mask() -> Option<libc::sigset_t> {
        SCOPE.get()
    }

    /// Lets signals that wait be handled now: true where one was. Always false
    /// outside of a scope.
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

/// Sets a signal mask, and the one before when it is dropped.
struct SignalMask(libc::sigset_t);

impl SignalMask {
    fn set(mask: &libc::sigset_t) -> SignalMask {
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: it can fail only for a wrong first argument, so it initialises
        // `before`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, mask, before.as_mut_ptr());
            SignalMask(before.assume_init())
        }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: a mask that pthread_sigmask itself filled in.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Signals blocked in this thread.
pub(super) struct Blocked {
    signals: libc::sigset_t,
    before: libc::sigset_t,
    /// Whether one was pending already: then it is the host's, and stays.
    pending: bool,
}

impl Blocked {
    pub(super) fn these(numbers: &[libc::c_int]) -> Blocked {
        let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        let mut pending = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: each set is initialised by the call that takes it first, and
        // none of the calls can fail with these arguments.
        unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            for number in numbers {
                libc::sigaddset(signals.as_mut_ptr(), *number);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), before.as_mut_ptr());
            let is_in = |set: &MaybeUninit<libc::sigset_t>| {
                numbers.iter().any(|n| libc::sigismember(set.as_ptr(), *n) == 1)
            };
            // Only what is blocked can be pending.
            let pending = is_in(&before) && {
                libc::sigpending(pending.as_mut_ptr());
                is_in(&pending)
            };
            Blocked {
                signals: signals.assume_init(),
                before: before.assume_init(),
                pending,
            }
        }
    }

    /// Takes those back that arose meanwhile.
    pub(super) fn take_back(&self) {
        let none = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: a set that `these` initialised. Both signals are sent to the
        // thread that wrote, so they are here.
        while !self.pending && unsafe { libc::sigtimedwait(&self.signals, std::ptr::null_mut(), &none) } > 0 {
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: a set that `these` initialised.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// Runs `start` with all signals blocked in this thread. A thread that it
/// starts inherits that, so no handler of the host ever runs there.
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

/// The same with this signal mask while it waits. The kernel changes the mask
/// and begins to wait in one step, so no signal falls between the two.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
pub(super) fn poll_with_signals(
    entries: &mut [libc::pollfd],
    until: Option<Instant>,
    mask: &libc::sigset_t,
) -> libc::c_int {
    const LONGEST: Duration = Duration::from_secs(1 << 20);
    let timeout = until.map(|until| {
        let left = until.saturating_duration_since(Instant::now()).min(LONGEST);
        libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos() as libc::c_long,
        }
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: valid entries, ours alone during the call; the time, where there is
    // one, and the mask live during it.
    unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout, mask) }
}

/// These systems have no ppoll: the mask is changed before, and the wait is cut
/// short, so that a signal that falls between is noticed soon.
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
