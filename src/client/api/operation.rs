//! Typed options of one call.

use std::sync::Arc;
use std::time::Duration;

use super::builder::milliseconds;
use crate::client::config::set_override;
use crate::error::Error;
use crate::operation::Operation;

/// Options, in place of the client's. [`Status::Busy`](crate::Status::Busy) while a
/// call runs.
impl Operation {
    /// Any option of a call by its key, with its value as for
    /// [`ClientBuilder::option`](crate::ClientBuilder::option): those below,
    /// `max_memory_bytes`, `file_mode`, `poll_interval_ms` and `interruptible`.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.change_overrides(|overrides| set_override(overrides, key, value.as_ref()))
    }

    /// See [`ClientBuilder::connect_timeout`](crate::ClientBuilder::connect_timeout).
    pub fn set_connect_timeout(&self, limit: Option<Duration>) -> Result<(), Error> {
        self.set("connect_timeout_ms", milliseconds(limit))
    }

    /// See [`ClientBuilder::stall_timeout`](crate::ClientBuilder::stall_timeout).
    pub fn set_stall_timeout(&self, limit: Option<Duration>) -> Result<(), Error> {
        self.set("stall_timeout_ms", milliseconds(limit))
    }

    /// See [`ClientBuilder::total_timeout`](crate::ClientBuilder::total_timeout).
    pub fn set_total_timeout(&self, limit: Option<Duration>) -> Result<(), Error> {
        self.set("total_timeout_ms", milliseconds(limit))
    }

    /// See [`ClientBuilder::wait_timeout`](crate::ClientBuilder::wait_timeout).
    pub fn set_wait_timeout(&self, limit: Option<Duration>) -> Result<(), Error> {
        self.set("wait_timeout_ms", milliseconds(limit))
    }

    /// See [`ClientBuilder::max_attempts`](crate::ClientBuilder::max_attempts).
    pub fn set_max_attempts(&self, attempts: u32) -> Result<(), Error> {
        self.set("max_attempts", attempts.to_string())
    }

    /// A function that is told how a call goes: when it starts, at least ten times a
    /// second while it runs, whether bytes arrive or not, and when all bytes are
    /// there. False ends the call with [`Cancelled`](crate::Status::Cancelled),
    /// within 250 ms.
    ///
    /// It runs on the thread of the call, with no lock held. It may read the operation
    /// and cancel it; other calls on it are refused.
    pub fn set_progress(
        &self,
        progress: impl Fn(&Operation) -> bool + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.replace_progress(Some(Arc::new(progress)))
    }

    /// Takes the progress function away.
    pub fn clear_progress(&self) -> Result<(), Error> {
        self.replace_progress(None)
    }

    /// A function that is asked whether a signal that was handled shall end the call
    /// with [`Interrupted`](crate::Status::Interrupted): when one was, and once when
    /// the call begins, for those that came before it could notice. It counts where
    /// the option `interruptible` is true; without a function every signal that the
    /// program handles ends the call.
    ///
    /// It runs on the thread of the call, with no lock held and signals blocked.
    pub fn set_interrupt(&self, ends_call: impl Fn() -> bool + Send + Sync + 'static) -> Result<(), Error> {
        self.replace_interrupt(Some(Arc::new(ends_call)))
    }

    /// Takes the interrupt function away.
    pub fn clear_interrupt(&self) -> Result<(), Error> {
        self.replace_interrupt(None)
    }
}
