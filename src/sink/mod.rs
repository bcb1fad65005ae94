//! Sinks: the destinations of a body.

mod callback;
mod descriptor;
mod file;
mod hashing;
mod memory;
mod writer;

pub(crate) use callback::Callback;
pub(crate) use descriptor::Descriptor;
pub(crate) use file::{FileOptions, FileSink, SHORT_NAME_LIMIT, failure};
pub(crate) use hashing::Hashing;
pub(crate) use memory::Memory;
pub(crate) use writer::Writer;

use std::path::PathBuf;

use crate::error::Error;
use crate::http::Call;

/// What is known of a body before its first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info<'a> {
    /// The length that the server announced, if any. It may be wrong.
    pub(crate) announced: Option<u64>,
    /// A safe file name for the body.
    pub(crate) filename: &'a str,
}

/// Receives the bytes of one body in order.
pub(crate) trait Sink {
    /// Called before the first byte, and again after each restart.
    fn begin(&mut self, info: Info<'_>) -> Result<(), Error>;

    /// Writes the next bytes; may wait as long as the call allows.
    fn write(&mut self, bytes: &[u8], call: &Call) -> Result<(), Error>;

    /// Returns a buffer for the next bytes, as a faster way than [`Sink::write`];
    /// [`Sink::advance`] then says how many there are. `None` if they must be written.
    fn spare_capacity(&mut self) -> Result<Option<&mut [u8]>, Error> {
        Ok(None)
    }

    /// Adds this many bytes, which are in the last [`Sink::spare_capacity`].
    fn advance(&mut self, _: usize) {}

    /// Whether [`Sink::restart`] can work, for a body that cannot be resumed.
    fn can_restart(&self) -> bool;

    /// Discards all bytes so far.
    fn restart(&mut self) -> Result<(), Error>;

    /// Called when the body is complete.
    fn finish(&mut self) -> Result<(), Error>;

    /// Returns the path of the file, if it is one.
    fn path(&self) -> Option<PathBuf> {
        None
    }

    /// Returns what the file system did not support, although the file is saved.
    fn limitations(&self) -> &[&'static str] {
        &[]
    }
}
