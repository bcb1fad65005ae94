//! Typed options of one call.

use std::sync::Arc;
use std::time::Duration;

use super::builder::milliseconds;
use crate::client::config::set_override;
use crate::error::Error;
use crate::operation::Operation;

/// Options that override the client's. The setters fail with
/// [`Status::Busy`](crate::Status::Busy) while a call runs.
impl Operation {
    /// Sets any option of a call by its key, with its value as for
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

    /// Sets a function that is called to report the progress of a call: when it starts,
    /// at least ten times a second while it runs, even if no bytes arrive, before each
    /// request that is not a GET, and when all bytes have arrived. If it returns false,
    /// the call ends with
    /// [`Cancelled`](crate::Status::Cancelled) within 250 ms.
    ///
    /// It runs on the thread of the call, with no lock held. It may read and cancel the
    /// operation; other calls on the operation fail.
    pub fn set_progress(
        &self,
        progress: impl Fn(&Operation) -> bool + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.replace_progress(Some(Arc::new(progress)))
    }

    /// Removes the progress function.
    pub fn clear_progress(&self) -> Result<(), Error> {
        self.replace_progress(None)
    }

    /// Sets a function that decides whether a handled signal ends the call with
    /// [`Interrupted`](crate::Status::Interrupted). It is called after each handled
    /// signal, and once when the call begins, for signals that came just before. It is
    /// only used if the option `interruptible` is true. Without a function every signal
    /// that the program handles ends the call.
    ///
    /// It runs on the thread of the call, with no lock held and signals blocked.
    pub fn set_interrupt(&self, ends_call: impl Fn() -> bool + Send + Sync + 'static) -> Result<(), Error> {
        self.replace_interrupt(Some(Arc::new(ends_call)))
    }

    /// Removes the interrupt function.
    pub fn clear_interrupt(&self) -> Result<(), Error> {
        self.replace_interrupt(None)
    }
}
