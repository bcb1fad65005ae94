//! The identity of a process, across fork and PID namespaces.

use once_cell::race::OnceNonZeroUsize;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tells this process from those that it was forked from: each has another
/// number here. Its id cannot: in PID namespaces a child may have its parent's. It
/// is asked for several times in each call, so it is a system call only the first
/// time in each process. Async-signal-safe, but for that.
pub(crate) fn process() -> usize {
    /// As inherited, no less than what any process before this one got.
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let Some(known) = zeroed_by_fork() else {
        return std::process::id() as usize;
    };
    match known.load(Ordering::SeqCst) {
        0 => {
            let next = LAST.fetch_add(1, Ordering::SeqCst) + 1;
            match known.compare_exchange(0, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => next,
                Err(another_threads) => another_threads,
            }
        }
        number => number,
    }
}

/// A number that is 0 again in a child of `fork`; none where the system refuses
/// to see to it.
fn zeroed_by_fork() -> Option<&'static AtomicUsize> {
    // An address; 1 is none's.
    static NUMBER: OnceNonZeroUsize = OnceNonZeroUsize::new();
    const NONE: NonZeroUsize = NonZeroUsize::MIN;
    let number = NUMBER.get_or_init(|| {
        new_page_wiped_on_fork()
            .or_else(new_number_zeroed_by_handler)
            .unwrap_or(NONE)
    });
    // SAFETY: a page that is never unmapped, is aligned and zeroed, and is used
    // as this one number alone; or a static.
    (number != NONE).then(|| unsafe { &*(number.get() as *const AtomicUsize) })
}

#[cfg(target_os = "linux")]
fn new_page_wiped_on_fork() -> Option<NonZeroUsize> {
    const LENGTH: usize = 4096;
    // SAFETY: a new mapping, of which nothing else knows; the advice is about it
    // alone.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            LENGTH,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return None;
        }
        // An emulator may say yes to whatever it is advised, so it is asked for
        // what does not exist, too.
        if libc::madvise(page, LENGTH, -1) != 0 && libc::madvise(page, LENGTH, libc::MADV_WIPEONFORK) == 0 {
            return NonZeroUsize::new(page as usize);
        }
        libc::munmap(page, LENGTH);
    }
    None
}

#[cfg(not(target_os = "linux"))]
fn new_page_wiped_on_fork() -> Option<NonZeroUsize> {
    None
}

/// For systems that cannot wipe a page.
fn new_number_zeroed_by_handler() -> Option<NonZeroUsize> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn zero() {
        NUMBER.store(0, Ordering::SeqCst);
    }
    // SAFETY: the function is async-signal-safe, and the system forgets it with
    // this library.
    let refused = unsafe { libc::pthread_atfork(None, None, Some(zero)) } != 0;
    NonZeroUsize::new(NUMBER.as_ptr() as usize).filter(|_| !refused)
}
