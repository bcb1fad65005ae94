//! The one error type of the library, and the statuses that classify it.

use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
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
    InvalidAccessKey = 112,
    InvalidCredentials = 113,
    NoToken = 114,
    Closed = 115,

    Service = 200,
    BadRequest = 201,
    Unauthenticated = 202,
    Forbidden = 203,
    NotFound = 204,
    Throttled = 205,
    ServerError = 206,
    Redirected = 207,
    UnexpectedAnswer = 208,
    NotDone = 209,
    NotReady = 210,
    Ambiguous = 211,
    Partial = 212,

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
    MirrorLocked = 405,

    Resource = 500,
    OutOfMemory = 501,
    LimitExceeded = 502,

    Cancelled = 600,
    Interrupted = 601,

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
        Status::InvalidAccessKey,
        Status::InvalidCredentials,
        Status::NoToken,
        Status::Closed,
        Status::Service,
        Status::BadRequest,
        Status::Unauthenticated,
        Status::Forbidden,
        Status::NotFound,
        Status::Throttled,
        Status::ServerError,
        Status::Redirected,
        Status::UnexpectedAnswer,
        Status::NotDone,
        Status::NotReady,
        Status::Ambiguous,
        Status::Partial,
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
        Status::MirrorLocked,
        Status::Resource,
        Status::OutOfMemory,
        Status::LimitExceeded,
        Status::Cancelled,
        Status::Interrupted,
        Status::Internal,
    ];

    /// The status with this value.
    pub fn from_value(value: i32) -> Option<Status> {
        Status::ALL.iter().copied().find(|s| *s as i32 == value)
    }

    /// The C name and the meaning in general.
    const fn texts(self) -> (&'static CStr, &'static CStr) {
        match self {
            Status::Ok => (c"DBSS_OK", c"success"),
            Status::Argument => (c"DBSS_ERR_ARGUMENT", c"an argument is wrong"),
            Status::NullArgument => (c"DBSS_ERR_NULL_ARGUMENT", c"a required pointer is NULL"),
            Status::InvalidUtf8 => (c"DBSS_ERR_INVALID_UTF8", c"a string is not UTF-8"),
            Status::InvalidId => (c"DBSS_ERR_INVALID_ID", c"an id is malformed"),
            Status::InvalidLocale => (
                c"DBSS_ERR_INVALID_LOCALE",
                c"the locale is not one of en-us, zh-cn",
            ),
            Status::InvalidToken => (c"DBSS_ERR_INVALID_TOKEN", c"the token is malformed"),
            Status::InvalidEndpoint => (
                c"DBSS_ERR_INVALID_ENDPOINT",
                c"the endpoint or region is malformed",
            ),
            Status::UnknownKey => (c"DBSS_ERR_UNKNOWN_KEY", c"there is no option with this key"),
            Status::InvalidValue => (
                c"DBSS_ERR_INVALID_VALUE",
                c"an option's value is malformed or out of range",
            ),
            Status::PlaintextRefused => (
                c"DBSS_ERR_PLAINTEXT_REFUSED",
                c"plain http to another host is not allowed",
            ),
            Status::NotConfigured => (
                c"DBSS_ERR_NOT_CONFIGURED",
                c"an endpoint or credentials are missing",
            ),
            Status::Busy => (c"DBSS_ERR_BUSY", c"the operation serves another call"),
            Status::InvalidAccessKey => (c"DBSS_ERR_INVALID_ACCESS_KEY", c"the access key is malformed"),
            Status::InvalidCredentials => (
                c"DBSS_ERR_INVALID_CREDENTIALS",
                c"credentials that were found are incomplete or malformed",
            ),
            Status::NoToken => (c"DBSS_ERR_NO_TOKEN", c"the token provider gave no token"),
            Status::Service => (c"DBSS_ERR_SERVICE", c"the service reported an error"),
            Status::BadRequest => (
                c"DBSS_ERR_BAD_REQUEST",
                c"the service refused the request as malformed",
            ),
            Status::Unauthenticated => (
                c"DBSS_ERR_UNAUTHENTICATED",
                c"the service refused the credentials",
            ),
            Status::Forbidden => (c"DBSS_ERR_FORBIDDEN", c"the credentials do not allow this"),
            Status::NotFound => (
                c"DBSS_ERR_NOT_FOUND",
                c"there is no such project, instance or report",
            ),
            Status::Throttled => (c"DBSS_ERR_THROTTLED", c"the service asks for fewer requests"),
            Status::ServerError => (c"DBSS_ERR_SERVER", c"the service failed"),
            Status::Redirected => (c"DBSS_ERR_REDIRECTED", c"the service redirected the request"),
            Status::UnexpectedAnswer => (
                c"DBSS_ERR_UNEXPECTED_ANSWER",
                c"the service's answer is not a report",
            ),
            Status::NotDone => (
                c"DBSS_ERR_NOT_DONE",
                c"the service did not do what it was asked to do",
            ),
            Status::NotReady => (
                c"DBSS_ERR_NOT_READY",
                c"the report was not ready in the time to wait",
            ),
            Status::Ambiguous => (
                c"DBSS_ERR_AMBIGUOUS",
                c"several reports may be the one that was created",
            ),
            Status::Partial => (c"DBSS_ERR_PARTIAL", c"some reports could not be had"),
            Status::Network => (c"DBSS_ERR_NETWORK", c"the network failed"),
            Status::Resolve => (c"DBSS_ERR_RESOLVE", c"the host's name could not be looked up"),
            Status::Connect => (c"DBSS_ERR_CONNECT", c"no connection could be made"),
            Status::Tls => (c"DBSS_ERR_TLS", c"the TLS session failed"),
            Status::Certificate => (c"DBSS_ERR_CERTIFICATE", c"the server's certificate was refused"),
            Status::ConnectTimeout => (c"DBSS_ERR_CONNECT_TIMEOUT", c"connecting took too long"),
            Status::Stalled => (c"DBSS_ERR_STALLED", c"the transfer stood still for too long"),
            Status::TotalTimeout => (c"DBSS_ERR_TOTAL_TIMEOUT", c"the call took too long"),
            Status::ConnectionLost => (
                c"DBSS_ERR_CONNECTION_LOST",
                c"the connection broke before the answer",
            ),
            Status::Truncated => (c"DBSS_ERR_TRUNCATED", c"the body ended before its end"),
            Status::Protocol => (c"DBSS_ERR_PROTOCOL", c"the answer is not sound HTTP"),
            Status::ContentEncoding => (c"DBSS_ERR_CONTENT_ENCODING", c"the body is compressed, unasked"),
            Status::NotResumable => (
                c"DBSS_ERR_NOT_RESUMABLE",
                c"the transfer broke and cannot be resumed",
            ),
            Status::File => (c"DBSS_ERR_FILE", c"a local file could not be used"),
            Status::FileExists => (c"DBSS_ERR_FILE_EXISTS", c"the file exists already"),
            Status::NotRegularFile => (c"DBSS_ERR_NOT_REGULAR_FILE", c"the target is not a regular file"),
            Status::DiskFull => (c"DBSS_ERR_DISK_FULL", c"the disk or a limit is full"),
            Status::BrokenPipe => (c"DBSS_ERR_BROKEN_PIPE", c"the reader of the pipe has gone"),
            Status::MirrorLocked => (
                c"DBSS_ERR_MIRROR_LOCKED",
                c"another mirror works on the directory",
            ),
            Status::Resource => (c"DBSS_ERR_RESOURCE", c"the process ran out of a resource"),
            Status::OutOfMemory => (c"DBSS_ERR_OUT_OF_MEMORY", c"out of memory"),
            Status::LimitExceeded => (c"DBSS_ERR_LIMIT_EXCEEDED", c"the report is larger than the limit"),
            Status::Closed => (c"DBSS_ERR_CLOSED", c"the context or stream was closed"),
            Status::Interrupted => (c"DBSS_ERR_INTERRUPTED", c"a signal ended the call"),
            Status::Cancelled => (c"DBSS_ERR_CANCELLED", c"the call was cancelled"),
            Status::Internal => (c"DBSS_ERR_INTERNAL", c"libdbss failed internally"),
        }
    }

    pub fn c_name(self) -> &'static CStr {
        self.texts().0
    }

    pub fn c_message(self) -> &'static CStr {
        self.texts().1
    }

    /// The name of the header's constant.
    pub fn name(self) -> &'static str {
        self.texts().0.to_str().unwrap_or_default()
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
    candidates: Vec<String>,
    redirect_target: Option<String>,
    path: Option<PathBuf>,
    /// A cause that does not pass by itself, whatever the status says of others.
    lasting: bool,
    /// The attempts that make sense within the call have been made.
    spent: bool,
}

/// The longest message that an error carries, in bytes: what the service says
/// is quoted in it, and the service may say a lot.
const MESSAGE_LIMIT: usize = 1024;

impl Error {
    pub fn new(status: Status, message: impl AsRef<str>) -> Error {
        Error(Box::new(Fields {
            status,
            message: printable(message.as_ref(), MESSAGE_LIMIT).into_owned(),
            parameter: None,
            http_status: None,
            service: ServiceText::default(),
            os_code: None,
            retry_after: None,
            attempts: 0,
            candidates: Vec::new(),
            redirect_target: None,
            path: None,
            lasting: false,
            spent: false,
        }))
    }

    /// An argument that cannot be right; `what` continues the parameter's name.
    pub fn argument(status: Status, parameter: &'static str, what: impl fmt::Display) -> Error {
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

    pub(crate) fn lasting(mut self) -> Error {
        self.0.lasting = true;
        self
    }

    /// Says that the call has tried often enough.
    pub(crate) fn spent(mut self) -> Error {
        self.0.spent = true;
        self
    }

    /// The same about a value that was not passed but found, under this name.
    pub(crate) fn found_in(mut self, status: Status, name: &'static str) -> Error {
        let message = std::mem::take(&mut self.0.message);
        let what = message
            .split_once(": ")
            .map_or(message.as_str(), |(_, what)| what);
        Error::argument(status, name, what)
    }

    /// The same with another message.
    pub(crate) fn amend(mut self, message: impl FnOnce(&str) -> String) -> Error {
        self.0.message = printable(&message(&self.0.message), MESSAGE_LIMIT).into_owned();
        self
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

    pub(crate) fn with_candidates(mut self, candidates: Vec<String>) -> Error {
        self.0.candidates = candidates;
        self
    }

    pub(crate) fn with_redirect_target(mut self, target: Option<String>) -> Error {
        self.0.redirect_target = target;
        self
    }

    pub(crate) fn with_path(mut self, path: impl Into<PathBuf>) -> Error {
        self.0.path = Some(path.into());
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
        self.0.redirect_target = self.0.redirect_target.take().map(&change);
        for candidate in &mut self.0.candidates {
            *candidate = change(std::mem::take(candidate));
        }
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

    /// The ids of the reports that may be the one that was created, for
    /// [`Status::Ambiguous`].
    pub fn candidates(&self) -> &[String] {
        &self.0.candidates
    }

    /// Where the service redirected to, for [`Status::Redirected`].
    pub fn redirect_target(&self) -> Option<&str> {
        self.0.redirect_target.as_deref()
    }

    /// The file or directory at fault, for a status of the group
    /// [`Status::File`].
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// How many requests were made before the call gave up.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Whether it is the call's own end, which says nothing about what it did.
    pub(crate) fn ends_its_call(&self) -> bool {
        matches!(
            self.0.status,
            Status::Cancelled | Status::Closed | Status::Interrupted | Status::TotalTimeout
        )
    }

    /// Whether another attempt within the same call makes sense.
    pub(crate) fn is_transient(&self) -> bool {
        self.is_retryable()
            && !self.0.spent
            && !matches!(self.0.status, Status::TotalTimeout | Status::NotResumable)
    }

    /// Whether the cause is one that passes by itself, so that the same call
    /// may succeed later.
    pub fn is_retryable(&self) -> bool {
        if self.0.lasting {
            return false;
        }
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

/// Characters that reorder or hide text, so that it can look like another.
pub(crate) fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `text` as one line of at most `limit` bytes: it may come from a hostile
/// server and ends in terminals and logs, so it must not start a new line or
/// an escape sequence there, nor turn the text around it.
pub(crate) fn printable(text: &str, limit: usize) -> Cow<'_, str> {
    // The C1 range (U+0080 to U+009F) holds escape introducers too.
    let drives = |c: char| c.is_control() || is_deceptive(c);
    if text.len() <= limit && !text.chars().any(drives) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len().min(limit) + '…'.len_utf8());
    for c in text.chars() {
        if line.len() + c.len_utf8() > limit {
            line.push('…');
            break;
        }
        line.push(if drives(c) { ' ' } else { c });
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
        let error = Error::new(Status::Service, "a\r\nb\u{1b}[31m\u{9b}c\u{202e}d");
        assert_eq!(error.message(), "a  b [31m c d");
        let long = Error::new(Status::Service, "ü".repeat(2000));
        assert!(long.message().len() <= MESSAGE_LIMIT + '…'.len_utf8());
        assert!(long.message().ends_with('…'));
    }
}
