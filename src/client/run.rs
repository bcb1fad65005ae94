//! Runs a call with its operation, signals and limits, and logs its failure.

use std::sync::Arc;
use std::time::Instant;

use super::inner::{ClientInner, write_record};
use crate::credentials::RequestContext;
use crate::error::{Error, Status};
use crate::host::HostCallback;
use crate::http::{Call, Retry};
use crate::log::{Level, Log, LogRecord};
use crate::operation::{ActiveOperation, Overrides};

/// What a call is about, for the log.
pub(super) struct Subject {
    pub(super) text: String,
    pub(super) report_id: Option<String>,
}

impl From<&str> for Subject {
    fn from(text: &str) -> Subject {
        Subject {
            text: text.to_owned(),
            report_id: None,
        }
    }
}

/// The level of the record of a call that failed.
pub(super) fn failure_level(error: &Error) -> Level {
    match error.status() {
        // Somebody wanted it to end.
        Status::Cancelled | Status::Closed | Status::Interrupted => Level::Info,
        _ => Level::Error,
    }
}

#[cold]
#[inline(never)]
fn log_failure(
    log: Option<&Arc<HostCallback<Log>>>,
    log_level: Level,
    subject: &Subject,
    started: Instant,
    error: &Error,
) {
    let level = failure_level(error);
    if let Some(log) = log.filter(|_| level <= log_level) {
        let record = LogRecord {
            attempt: error.attempts(),
            request_id: error.request_id().map(str::to_owned),
            report_id: subject.report_id.clone(),
            duration: Some(started.elapsed()),
            ..LogRecord::new(format!("{}: {error}", subject.text)).about(error)
        };
        write_record(log, level, record);
    }
}

impl ClientInner {
    /// Runs one call under the given operation, or an idle one of the client's, and logs its failure.
    pub(super) fn run<T>(
        &self,
        active: Option<ActiveOperation>,
        subject: Subject,
        body: impl FnOnce(ActiveOperation) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(active) = active {
            return self.run_under(active, subject, body);
        }
        let operation = self.http.operation()?;
        let outcome = self.run_under(operation.begin()?, subject, body);
        self.http.reuse(operation);
        outcome
    }

    fn run_under<T>(
        &self,
        active: ActiveOperation,
        subject: Subject,
        body: impl FnOnce(ActiveOperation) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        // Loaded now, because the client may be closed during the call.
        let log = self.log.load_full();
        let signals = self.handle_signals(&active);
        signals.and_then(|_signals| body(active)).inspect_err(|e| {
            log_failure(log.as_ref(), self.log_level, &subject, started, e);
        })
    }

    /// Lets signals end the call on this thread, if it is interruptible, until the returned
    /// guard is dropped.
    pub(super) fn handle_signals(&self, active: &ActiveOperation) -> Result<impl Sized + use<>, Error> {
        let overridden = active.operation().overrides().interruptible;
        active.signals(overridden.unwrap_or(self.interruptible))
    }

    /// Runs a call that is not a transfer.
    pub(super) fn with_call<T>(
        &self,
        active: &ActiveOperation,
        body: impl FnOnce(&Arc<Call>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let operation = active.operation();
        operation.check()?;
        let call = self.http.call(&operation.overrides(), operation)?;
        operation.tick()?;
        body(&call).map_err(|e| e.with_attempts(operation.attempts()))
    }

    /// Returns the retry state of one call.
    pub(super) fn retry(&self, overrides: &Overrides) -> Retry {
        let max_attempts = overrides.max_attempts.unwrap_or(self.max_attempts);
        Retry::new(max_attempts, self.max_retry_after)
    }

    /// Runs `body` with what a credentials provider needs for its own requests.
    pub(super) fn with_request_context<T>(
        &self,
        call: &Arc<Call>,
        body: impl FnOnce(&RequestContext<'_>) -> T,
    ) -> T {
        body(&RequestContext {
            http: &self.http,
            call,
            retry: self.retry(&call.operation().overrides()),
            log: &|level, record| self.log(level, record),
        })
    }
}
