//! Where the bytes of a report go.

mod memory;

pub(crate) use memory::Memory;

use crate::error::Error;

/// Takes the bytes of one body in order.
pub(crate) trait Sink {
    /// Told once, before the first byte: the length that the server announced,
    /// where it did. It may be a lie.
    fn begin(&mut self, announced: Option<u64>) -> Result<(), Error>;

    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;
}
