//! A sink that also computes the SHA-256 of the bytes.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{Info, Sink};
use crate::error::Error;
use crate::http::Call;

pub(crate) struct Hashing<S> {
    sink: S,
    hash: Sha256,
}

impl<S: Sink> Hashing<S> {
    pub(crate) fn new(sink: S) -> Hashing<S> {
        Hashing {
            sink,
            hash: Sha256::new(),
        }
    }

    /// Returns the SHA-256 in hexadecimal digits.
    pub(crate) fn sha256(self) -> String {
        hex::encode(self.hash.finalize())
    }
}

impl<S: Sink> Sink for Hashing<S> {
    fn begin(&mut self, info: Info<'_>) -> Result<(), Error> {
        self.sink.begin(info)
    }

    fn write(&mut self, bytes: &[u8], call: &Call) -> Result<(), Error> {
        self.hash.update(bytes);
        self.sink.write(bytes, call)
    }

    fn can_restart(&self) -> bool {
        self.sink.can_restart()
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.hash = Sha256::new();
        self.sink.restart()
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.sink.finish()
    }

    fn path(&self) -> Option<PathBuf> {
        self.sink.path()
    }

    fn limitations(&self) -> &[&'static str] {
        self.sink.limitations()
    }
}
