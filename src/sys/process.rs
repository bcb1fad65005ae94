//! The identity of a process, across fork and PID namespaces.

use once_cell::race::OnceNonZeroUsize;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns a number that differs between this process and those that it was forked
/// from. Process ids may not differ: in a PID namespace a child may have its parent's id.
/// Only the first use in each process makes system calls; later ones are
/// async-signal-safe.
pub(crate) fn process() -> usize {
    /// The last number; inherited, so at least that of every ancestor.
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

/// Returns a number that `fork` resets to 0 in the child; `None` if the system does not
/// support that.
fn zeroed_by_fork() -> Option<&'static AtomicUsize> {
    // An address; 1 means that there is none.
    static NUMBER: OnceNonZeroUsize = OnceNonZeroUsize::new();
    const NONE: NonZeroUsize = NonZeroUsize::MIN;
    let number = NUMBER.get_or_init(|| {
        new_page_wiped_on_fork()
            .or_else(new_number_zeroed_by_handler)
            .unwrap_or(NONE)
    });
    // SAFETY: a static, or a zeroed and aligned page that is never unmapped and used only
    // for this number.
    (number != NONE).then(|| unsafe { &*(number.get() as *const AtomicUsize) })
}

#[cfg(target_os = "linux")]
fn new_page_wiped_on_fork() -> Option<NonZeroUsize> {
    const LENGTH: usize = 4096;
    // SAFETY: a new mapping, which nothing else refers to; the advice affects only it.
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
        // An emulator may accept any advice without effect, so check first that it rejects
        // one that does not exist.
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

/// The fallback for systems that cannot wipe a page.
fn new_number_zeroed_by_handler() -> Option<NonZeroUsize> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn zero() {
        NUMBER.store(0, Ordering::SeqCst);
    }
    // SAFETY: the function is async-signal-safe, and the C library removes it when this
    // library is unloaded.
    let refused = unsafe { libc::pthread_atfork(None, None, Some(zero)) } != 0;
    NonZeroUsize::new(NUMBER.as_ptr() as usize).filter(|_| !refused)
}
