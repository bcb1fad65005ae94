//! What a client tells its log callback. Never a secret.

use std::time::Duration;

use crate::error::Status;

/// How much a record matters; the values are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
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

/// Something that a client tells, with the facts in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogRecord {
    /// How much it matters.
    pub level: Level,
    /// One line for people.
    pub message: String,
    /// What failed; [`Status::Ok`] where nothing did.
    pub status: Status,
    /// The number of the attempt that it is about, from 1; 0 where it is about none.
    pub attempt: u32,
    /// The service's id of the request.
    pub request_id: Option<String>,
    /// The report that the call is about.
    pub report_id: Option<String>,
    /// The size of the body, in bytes.
    pub bytes: Option<u64>,
    /// How long the call has taken.
    pub duration: Option<Duration>,
    /// Where in the body a transfer broke or goes on.
    pub offset: Option<u64>,
    /// How long the next attempt is waited for.
    pub retry_delay: Option<Duration>,
}

impl LogRecord {
    pub(crate) fn new(message: impl Into<String>) -> LogRecord {
        LogRecord {
            level: Level::Debug,
            message: message.into(),
            status: Status::Ok,
            attempt: 0,
            request_id: None,
            report_id: None,
            bytes: None,
            duration: None,
            offset: None,
            retry_delay: None,
        }
    }
}

impl From<String> for LogRecord {
    fn from(message: String) -> LogRecord {
        LogRecord::new(message)
    }
}

/// Takes records: on the threads of calls, on several at once.
pub trait Log: Send + Sync {
    /// Takes one record.
    fn log(&self, record: &LogRecord);
}
