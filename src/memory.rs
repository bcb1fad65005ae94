//! Memory that may be refused: what a server or a caller sizes is reserved here,
//! and an allocator may say that the process has run out of it.

use std::hint::black_box;
use std::sync::OnceLock;

use crate::error::Error;
use crate::sys::{self, Pages};

static EXHAUSTED: OnceLock<fn() -> bool> = OnceLock::new();

/// Has every call ask, at each of its steps, whether memory has run out; if so,
/// it ends with [`Status::OutOfMemory`](crate::Status::OutOfMemory). For a program whose allocator keeps a
/// reserve that such a call can still end with. The first function stays.
pub fn on_exhaustion(exhausted: fn() -> bool) {
    let _ = EXHAUSTED.set(exhausted);
}

/// An error if memory has run out.
pub(crate) fn check() -> Result<(), Error> {
    match EXHAUSTED.get() {
        Some(exhausted) if exhausted() => Err(out_of_memory()),
        _ => Ok(()),
    }
}

/// The error of that.
pub fn out_of_memory() -> Error {
    Error::out_of_memory()
}

/// Makes room for `additional` more items.
pub(crate) fn reserve<T>(items: &mut Vec<T>, additional: usize) -> Result<(), Error> {
    items.try_reserve(additional).map_err(|_| out_of_memory())
}

/// An error if so many bytes cannot be had now. For code of others, which does
/// not expect that.
pub(crate) fn probe(bytes: usize) -> Result<(), Error> {
    let mut room = Vec::<u8>::new();
    reserve(&mut room, bytes)?;
    // Not to be optimised away: nothing else uses it.
    black_box(&room);
    // A reserve may have given it, which is there for small things.
    check()
}

/// The same for all that a parser may need beside a document of so many bytes: to
/// undo escapes, and for an error that quotes a value of the wrong type.
pub(crate) fn probe_document(bytes: usize) -> Result<(), Error> {
    probe(8 * bytes)
}

/// An error if a thread with such a stack cannot be started now. The C library
/// ends the process where a thread that has started gets no memory of its own, for
/// which it takes new pages.
pub(crate) fn probe_thread(stack: usize) -> Result<(), Error> {
    if sys::can_map(stack + 128 * 1024) {
        return Ok(());
    }
    Err(out_of_memory())
}

/// So many zeros, of which only those that are touched become resident.
pub(crate) fn pages(len: usize) -> Result<Pages, Error> {
    Pages::new(len).ok_or_else(out_of_memory)
}
