//! Passes a body to the caller's function, part by part.

use super::{Info, Sink};
use crate::error::{CancelledBy, Error, Status};
use crate::http::Call;
use crate::operation::cancelled;
use crate::sys::SignalScope;

/// A function that receives bytes; false stops the call.
pub(crate) struct Callback<F>(pub(crate) F);

impl<F: FnMut(&[u8]) -> bool> Sink for Callback<F> {
    fn begin(&mut self, _: Info<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], _: &Call) -> Result<(), Error> {
        let go_on = bytes.is_empty() || {
            let _host = SignalScope::suspend();
            (self.0)(bytes)
        };
        if go_on {
            return Ok(());
        }
        Err(cancelled(CancelledBy::Callback))
    }

    fn can_restart(&self) -> bool {
        false
    }

    fn restart(&mut self) -> Result<(), Error> {
        Err(Error::new(
            Status::Internal,
            "a callback cannot undo the bytes that it received",
        ))
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
