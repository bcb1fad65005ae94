//! Writes a body to a writer of the caller's.

use std::io::Write;

use super::{Info, Sink};
use crate::error::{Error, Status};
use crate::http::Call;
use crate::sys::SignalScope;

pub(crate) struct Writer<W>(pub(crate) W);

impl<W: Write> Sink for Writer<W> {
    fn begin(&mut self, _: Info<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], _: &Call) -> Result<(), Error> {
        let _host = SignalScope::suspend();
        self.0
            .write_all(bytes)
            .map_err(|e| super::failure("cannot write to the writer", &e).with_cause(e))
    }

    fn can_restart(&self) -> bool {
        false
    }

    fn restart(&mut self) -> Result<(), Error> {
        Err(Error::new(
            Status::Internal,
            "a writer cannot undo what was written",
        ))
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.0
            .flush()
            .map_err(|e| super::failure("cannot flush the writer", &e).with_cause(e))
    }
}
