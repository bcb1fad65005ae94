//! Checked allocation: memory whose size a server or caller chooses is reserved here, and
//! a host's allocator may report that memory is exhausted.

use std::hint::black_box;
use std::sync::OnceLock;

use crate::error::Error;
use crate::sys::{self, Pages};

static EXHAUSTED: OnceLock<fn() -> bool> = OnceLock::new();

/// Sets a function that each call uses to check, at each step, whether memory is
/// exhausted. If so, the call ends with
/// [`Status::OutOfMemory`](crate::Status::OutOfMemory). For an allocator with a reserve
/// that is enough to end such a call. Only the first function is used.
pub fn on_exhaustion(exhausted: fn() -> bool) {
    let _ = EXHAUSTED.set(exhausted);
}

/// Returns an error if memory is exhausted.
pub(crate) fn check() -> Result<(), Error> {
    match EXHAUSTED.get() {
        Some(exhausted) if exhausted() => Err(out_of_memory()),
        _ => Ok(()),
    }
}

/// Returns the error for missing memory.
pub fn out_of_memory() -> Error {
    Error::out_of_memory()
}

/// Reserves capacity for `additional` more items.
pub(crate) fn reserve<T>(items: &mut Vec<T>, additional: usize) -> Result<(), Error> {
    items.try_reserve(additional).map_err(|_| out_of_memory())
}

/// Returns an error if this much memory is not available now. For use before code of
/// dependencies that cannot handle a failed allocation.
pub(crate) fn probe(bytes: usize) -> Result<(), Error> {
    let mut block = Vec::<u8>::new();
    reserve(&mut block, bytes)?;
    // Keep the compiler from removing the unused allocation.
    black_box(&block);
    // The memory may have come from the allocator's reserve, which is for small objects.
    check()
}

/// Like [`probe`], for what a parser needs besides a document of this size: buffers for
/// escapes, and an error that quotes a value of the wrong type.
pub(crate) fn probe_document(bytes: usize) -> Result<(), Error> {
    probe(8 * bytes)
}

/// Returns an error if a thread with this stack cannot be started now. The C library
/// aborts the process if a started thread gets no memory for thread-local data, for which
/// it maps new pages.
pub(crate) fn probe_thread(stack: usize) -> Result<(), Error> {
    if sys::can_map(stack + 128 * 1024) {
        return Ok(());
    }
    Err(out_of_memory())
}

/// Maps `len` zero bytes, whose pages become resident only when they are used.
pub(crate) fn pages(len: usize) -> Result<Pages, Error> {
    Pages::new(len).ok_or_else(out_of_memory)
}
