//! Where the bytes of a body go.

mod callback;
mod descriptor;
mod file;
mod hashing;
mod memory;
mod writer;

pub(crate) use callback::Callback;
pub(crate) use descriptor::Descriptor;
pub(crate) use file::{FileOptions, FileSink, SHORT_NAME, failure};
pub(crate) use hashing::Hashing;
pub(crate) use memory::Memory;
pub(crate) use writer::Writer;

use std::path::PathBuf;

use crate::error::Error;
use crate::http::Call;

/// What is known of a body before its first byte is handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info<'a> {
    /// The length that the server announced, where it did. It may be a lie.
    pub(crate) announced: Option<u64>,
    /// A safe name for a file of it.
    pub(crate) filename: &'a str,
}

/// Takes the bytes of one body in order.
pub(crate) trait Sink {
    /// Told before the first byte, and again after each restart.
    fn begin(&mut self, info: Info<'_>) -> Result<(), Error>;

    /// Takes the next bytes; waits, where it must, as the call allows.
    fn write(&mut self, bytes: &[u8], call: &Call) -> Result<(), Error>;

    /// Where the next bytes may be put, instead of being written; then
    /// [`Sink::advance`] tells how many. None where they must be written.
    fn spare_capacity(&mut self) -> Result<Option<&mut [u8]>, Error> {
        Ok(None)
    }

    /// So many bytes were put where the last [`Sink::spare_capacity`] was.
    fn advance(&mut self, _: usize) {}

    /// Whether [`Sink::restart`] could work, so that a body may be begun again
    /// when it cannot be resumed.
    fn can_restart(&self) -> bool;

    /// Forgets the bytes that it took.
    fn restart(&mut self) -> Result<(), Error>;

    /// The body is whole.
    fn finish(&mut self) -> Result<(), Error>;

    /// The file that it went to, where it is one.
    fn path(&self) -> Option<PathBuf> {
        None
    }

    /// What the system could not do for the file, though it is saved.
    fn given_up(&self) -> &[&'static str] {
        &[]
    }
}
