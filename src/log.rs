//! Log records, which contain no secrets.

use std::time::Duration;

use crate::error::{Error, Status};

/// How much a record of the log matters; the most important is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
#[non_exhaustive]
pub enum Level {
    /// A call failed.
    Error = 1,
    /// Something went wrong that the library dealt with.
    Warning = 2,
    /// What a call did.
    Info = 3,
    /// What went over the wire.
    Debug = 4,
}

impl Level {
    /// The level of this name, as the option "log_level" has it.
    pub(crate) fn parse(name: &str) -> Option<Level> {
        Some(match name {
            "error" => Level::Error,
            "warning" => Level::Warning,
            "info" => Level::Info,
            "debug" => Level::Debug,
            _ => return None,
        })
    }
}

/// A record for a client's [log](crate::ClientBuilder::log) function. Nothing in it is
/// secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogRecord {
    /// How much it matters.
    pub level: Level,
    /// One line for people.
    pub message: String,
    /// The status of the failure; [`Status::Ok`] if nothing failed.
    pub status: Status,
    /// The failure, with all its details.
    pub error: Option<Error>,
    /// The HTTP status of the response.
    pub http_status: Option<u16>,
    /// The number of the attempt that it is about, from 1; 0 if it is about none.
    pub attempt: u32,
    /// The service's id of the request.
    pub request_id: Option<String>,
    /// The report that the call is about.
    pub report_id: Option<String>,
    /// The size of the body, in bytes.
    pub bytes: Option<u64>,
    /// How long the call has taken.
    pub duration: Option<Duration>,
    /// Where in the body a transfer broke or resumes.
    pub offset: Option<u64>,
    /// How long the call waits before the next attempt.
    pub retry_delay: Option<Duration>,
}

impl LogRecord {
    pub(crate) fn new(message: impl Into<String>) -> LogRecord {
        LogRecord {
            level: Level::Debug,
            message: message.into(),
            status: Status::Ok,
            error: None,
            http_status: None,
            attempt: 0,
            request_id: None,
            report_id: None,
            bytes: None,
            duration: None,
            offset: None,
            retry_delay: None,
        }
    }

    /// Adds a failure, perhaps one of which the call does not know its attempts yet.
    pub(crate) fn about(self, failure: &Error) -> LogRecord {
        let attempts = failure.attempts().max(self.attempt);
        LogRecord {
            status: failure.status(),
            http_status: failure.http_status(),
            error: Some(failure.clone().with_attempts(attempts)),
            ..self
        }
    }
}

impl From<String> for LogRecord {
    fn from(message: String) -> LogRecord {
        LogRecord::new(message)
    }
}

/// Logs a record, which is made only if its level is logged.
pub(crate) type LogFn<'a> = dyn Fn(Level, &dyn Fn() -> LogRecord) + 'a;

/// A function that receives records, possibly on several threads at once.
pub(crate) type Log = dyn Fn(&LogRecord) + Send + Sync;
