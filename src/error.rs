//! The one error type of the library, and the statuses that classify it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

/// What went wrong, as a number that never changes its meaning.
///
/// Statuses come in groups of one hundred; the group of a status tells what
/// kind of reaction fits even where the status itself is newer than the
/// program that reads it. The C names and their documentation stand in
/// `ffi/status.rs`.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Ok = 0,

    Argument = 100,
    NullArgument = 101,
    InvalidUtf8 = 102,
    InvalidId = 103,
    InvalidLocale = 104,
    InvalidToken = 105,
    InvalidEndpoint = 106,
    UnknownKey = 107,
    InvalidValue = 108,
    PlaintextRefused = 109,
    NotConfigured = 110,
    Busy = 111,

    Service = 200,
    BadRequest = 201,
    Unauthenticated = 202,
    Forbidden = 203,
    NotFound = 204,
    Throttled = 205,
    ServerError = 206,
    Redirected = 207,
    UnexpectedAnswer = 208,

    Network = 300,
    Resolve = 301,
    Connect = 302,
    Tls = 303,
    Certificate = 304,
    ConnectTimeout = 305,
    Stalled = 306,
    TotalTimeout = 307,
    ConnectionLost = 308,
    Truncated = 309,
    Protocol = 310,
    ContentEncoding = 311,
    NotResumable = 312,

    File = 400,
    FileExists = 401,
    NotRegularFile = 402,
    DiskFull = 403,
    BrokenPipe = 404,

    Resource = 500,
    OutOfMemory = 501,
    LimitExceeded = 502,

    Cancelled = 600,

    Internal = 700,
}

impl Status {
    /// Every status, in the order of its value.
    pub const ALL: &'static [Status] = &[
        Status::Ok,
        Status::Argument,
        Status::NullArgument,
        Status::InvalidUtf8,
        Status::InvalidId,
        Status::InvalidLocale,
        Status::InvalidToken,
        Status::InvalidEndpoint,
        Status::UnknownKey,
        Status::InvalidValue,
        Status::PlaintextRefused,
        Status::NotConfigured,
        Status::Busy,
        Status::Service,
        Status::BadRequest,
        Status::Unauthenticated,
        Status::Forbidden,
        Status::NotFound,
        Status::Throttled,
        Status::ServerError,
        Status::Redirected,
        Status::UnexpectedAnswer,
        Status::Network,
        Status::Resolve,
        Status::Connect,
        Status::Tls,
        Status::Certificate,
        Status::ConnectTimeout,
        Status::Stalled,
        Status::TotalTimeout,
        Status::ConnectionLost,
        Status::Truncated,
        Status::Protocol,
        Status::ContentEncoding,
        Status::NotResumable,
        Status::File,
        Status::FileExists,
        Status::NotRegularFile,
        Status::DiskFull,
        Status::BrokenPipe,
        Status::Resource,
        Status::OutOfMemory,
        Status::LimitExceeded,
        Status::Cancelled,
        Status::Internal,
    ];

    /// The status with this value.
    pub fn from_value(value: i32) -> Option<Status> {
        Status::ALL.iter().copied().find(|s| *s as i32 == value)
    }
}

/// One entry of an error body's `details`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// The service's code, such as `DBSS.10000001`.
    pub code: Option<String>,
    /// The service's words.
    pub message: Option<String>,
}

/// What the service said about a failure, as far as it said anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceText {
    pub code: Option<String>,
    pub message: Option<String>,
    pub request_id: Option<String>,
    pub encoded_authorization_message: Option<String>,
    pub details: Vec<Detail>,
}

impl ServiceText {
    pub(crate) fn map_text(&mut self, change: impl Fn(String) -> String) {
        let details = self
            .details
            .iter_mut()
            .flat_map(|d| [&mut d.code, &mut d.message]);
        let fields = [
            &mut self.code,
            &mut self.message,
            &mut self.request_id,
            &mut self.encoded_authorization_message,
        ];
        for text in fields.into_iter().chain(details) {
            *text = text.take().map(&change);
        }
    }
}

/// A failure: its status, a sentence for a person, and all that is known.
#[derive(Clone)]
pub struct Error(Box<Fields>);

#[derive(Clone)]
struct Fields {
    status: Status,
    message: String,
    parameter: Option<&'static str>,
    http_status: Option<u16>,
    service: ServiceText,
    os_code: Option<i32>,
    retry_after: Option<Duration>,
    attempts: u32,
}

/// The longest message that an error carries, in bytes: what the service says
/// is quoted in it, and the service may say a lot.
const MESSAGE_LIMIT: usize = 1024;

impl Error {
    pub(crate) fn new(status: Status, message: impl AsRef<str>) -> Error {
        Error(Box::new(Fields {
            status,
            message: printable(message.as_ref(), MESSAGE_LIMIT).into_owned(),
            parameter: None,
            http_status: None,
            service: ServiceText::default(),
            os_code: None,
            retry_after: None,
            attempts: 0,
        }))
    }

    /// An argument that cannot be right; `what` continues the parameter's name.
    pub(crate) fn argument(status: Status, parameter: &'static str, what: impl fmt::Display) -> Error {
        let mut error = Error::new(status, format!("{parameter}: {what}"));
        error.0.parameter = Some(parameter);
        error
    }

    /// A failure that the operating system reported.
    pub(crate) fn os(status: Status, context: impl fmt::Display, cause: &io::Error) -> Error {
        let mut error = Error::new(status, format!("{context}: {cause}"));
        error.0.os_code = cause.raw_os_error();
        error
    }

    pub(crate) fn with_os_code(mut self, code: i32) -> Error {
        self.0.os_code = Some(code);
        self
    }

    pub(crate) fn with_service(mut self, http_status: u16, service: ServiceText) -> Error {
        self.0.http_status = Some(http_status);
        self.0.service = service;
        self
    }

    pub(crate) fn with_retry_after(mut self, after: Option<Duration>) -> Error {
        self.0.retry_after = after;
        self
    }

    /// What was known of the answer when its body failed.
    pub(crate) fn with_answer(mut self, http_status: u16, request_id: Option<String>) -> Error {
        self.0.http_status.get_or_insert(http_status);
        if self.0.service.request_id.is_none() {
            self.0.service.request_id = request_id;
        }
        self
    }

    /// Every text in the error, changed.
    pub(crate) fn map_text(mut self, change: impl Fn(String) -> String) -> Error {
        self.0.message = change(std::mem::take(&mut self.0.message));
        self.0.service.map_text(change);
        self
    }

    pub(crate) fn with_attempts(mut self, attempts: u32) -> Error {
        self.0.attempts = attempts;
        self
    }

    /// The status that classifies this failure.
    pub fn status(&self) -> Status {
        self.0.status
    }

    /// One sentence for a person: what was wrong and what to do.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The parameter or option at fault, where the fault is an argument's.
    pub fn parameter(&self) -> Option<&'static str> {
        self.0.parameter
    }

    /// The HTTP status of the answer; none where no answer came.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// The service's error code.
    pub fn service_code(&self) -> Option<&str> {
        self.0.service.code.as_deref()
    }

    /// The service's words.
    pub fn service_message(&self) -> Option<&str> {
        self.0.service.message.as_deref()
    }

    /// The service's id of this call, which its support asks for.
    pub fn request_id(&self) -> Option<&str> {
        self.0.service.request_id.as_deref()
    }

    /// The encoded message that explains a refused authorization.
    pub fn encoded_authorization_message(&self) -> Option<&str> {
        self.0.service.encoded_authorization_message.as_deref()
    }

    /// The entries of the error body's `details`.
    pub fn details(&self) -> &[Detail] {
        &self.0.service.details
    }

    /// `errno`, where the operating system reported the failure.
    pub fn os_code(&self) -> Option<i32> {
        self.0.os_code
    }

    /// How long the service asked to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// How many requests were made before the call gave up.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Whether another attempt within the same call makes sense.
    pub(crate) fn is_transient(&self) -> bool {
        self.is_retryable() && !matches!(self.0.status, Status::TotalTimeout | Status::NotResumable)
    }

    /// Whether the cause is one that passes by itself, so that the same call
    /// may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self.0.status {
            Status::Throttled
            | Status::Network
            | Status::Resolve
            | Status::Connect
            | Status::ConnectTimeout
            | Status::Stalled
            | Status::TotalTimeout
            | Status::ConnectionLost
            | Status::Truncated
            | Status::NotResumable => true,
            Status::ServerError => matches!(self.0.http_status, Some(500 | 502 | 503 | 504)),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("status", &self.0.status)
            .field("message", &self.0.message)
            .field("http_status", &self.0.http_status)
            .field("service", &self.0.service)
            .field("os_code", &self.0.os_code)
            .field("retry_after", &self.0.retry_after)
            .field("attempts", &self.0.attempts)
            .finish()
    }
}

impl std::error::Error for Error {}

/// `text` as one line of at most `limit` bytes: it may come from a hostile
/// server and ends in terminals and logs, so it must not start a new line or
/// an escape sequence there.
pub(crate) fn printable(text: &str, limit: usize) -> Cow<'_, str> {
    // The C1 range (U+0080 to U+009F) holds escape introducers too.
    if text.len() <= limit && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len().min(limit) + '…'.len_utf8());
    for c in text.chars() {
        if line.len() + c.len_utf8() > limit {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_listed_once_and_in_order() {
        let values: Vec<i32> = Status::ALL.iter().map(|s| *s as i32).collect();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(values, sorted);
        assert_eq!(Status::from_value(204), Some(Status::NotFound));
        assert_eq!(Status::from_value(199), None);
    }

    #[test]
    fn a_message_is_one_bounded_line() {
        let error = Error::new(Status::Service, "a\r\nb\u{1b}[31m\u{9b}c");
        assert_eq!(error.message(), "a  b [31m c");
        let long = Error::new(Status::Service, "ü".repeat(2000));
        assert!(long.message().len() <= MESSAGE_LIMIT + '…'.len_utf8());
        assert!(long.message().ends_with('…'));
    }
}
