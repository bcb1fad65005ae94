//! The one error type of the library, and the statuses that classify it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::message::{self, PartKind};
pub use crate::tables::Status;
use crate::text::{os_message, sanitize_message, shorten, subject};

/// One entry of an error body's `details`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detail {
    /// The service's code, such as `DBSS.10000001`.
    pub code: Option<String>,
    /// The service's words.
    pub message: Option<String>,
}

impl Detail {
    /// Returns the total length of its texts, in bytes.
    pub(crate) fn len(&self) -> usize {
        [&self.code, &self.message]
            .into_iter()
            .flatten()
            .map(String::len)
            .sum()
    }
}

/// The service's texts about a failure, as far as it sent any.
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

/// What cancelled a call; the values are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(i32)]
pub enum CancelledBy {
    /// [`Operation::cancel`](crate::Operation::cancel).
    Operation = 1,
    /// [`Client::cancel_all`](crate::Client::cancel_all).
    Client = 2,
    /// The client or the stream was closed.
    Close = 3,
    /// A callback of the caller's stopped the call.
    Callback = 4,
}

/// A failure: its status, a message for people, and further details.
///
/// A program should branch on [`Error::status`]; its [group](crate#errors) tells what
/// kind of reaction fits. Nothing in an error is secret: tokens and keys that the
/// service repeats are redacted.
///
/// The [source](std::error::Error::source) is the [`io::Error`] of a
/// [writer](crate::Client::download_to_writer) that failed; other causes are in the
/// message and in [`Error::os_code`].
#[derive(Clone)]
pub struct Error(Arc<Fields>);

#[derive(Clone)]
struct Fields {
    status: Status,
    message: String,
    /// The message with its marks, if it has any.
    marked: Option<String>,
    parameter: Option<&'static str>,
    http_status: Option<u16>,
    service: ServiceText,
    os_code: Option<i32>,
    retry_after: Option<Duration>,
    attempts: u32,
    cancelled_by: Option<CancelledBy>,
    candidates: Vec<String>,
    redirect_target: Option<String>,
    path: Option<PathBuf>,
    cause: Option<Arc<io::Error>>,
    /// Whether a retry is useless even if the status is otherwise retryable.
    permanent: bool,
    /// Whether the call must not try again.
    no_retry: bool,
}

impl Fields {
    fn set_message(&mut self, marked: String) {
        (self.message, self.marked) = match message::without_marks(&marked) {
            Some(plain) => (plain, Some(marked)),
            None => (marked, None),
        };
    }

    fn marked(&self) -> &str {
        self.marked.as_ref().unwrap_or(&self.message)
    }
}

/// How many bytes of each text, and of all details together, remain in an error that is
/// kept with many others.
const SHORTENED_LIMIT: usize = 1024;

/// The longest message of an error, in bytes. Messages quote the service's texts, which
/// may be long.
const MESSAGE_LIMIT: usize = 1024;

impl Error {
    /// Makes an error with only a status and a message, for example for tests.
    pub fn new(status: Status, message: impl AsRef<str>) -> Error {
        let marked = sanitize_message(message.as_ref(), MESSAGE_LIMIT).into_owned();
        let mut fields = Fields {
            status,
            message: String::new(),
            marked: None,
            parameter: None,
            http_status: None,
            service: ServiceText::default(),
            os_code: None,
            retry_after: None,
            attempts: 0,
            cancelled_by: None,
            candidates: Vec::new(),
            redirect_target: None,
            path: None,
            cause: None,
            permanent: false,
            no_retry: false,
        };
        fields.set_message(marked);
        Error(Arc::new(fields))
    }

    /// Returns the shared error for missing memory. It exists in advance, since it could not
    /// be allocated when it is needed.
    pub(crate) fn out_of_memory() -> Error {
        static SHARED: OnceBox<Error> = OnceBox::new();
        let made = || Error::new(Status::OutOfMemory, "there is not enough memory for this call");
        SHARED.get_or_init(|| Box::new(made())).clone()
    }

    /// Whether it is [`Error::out_of_memory`].
    #[doc(hidden)]
    pub fn is_shared(&self) -> bool {
        self.0.status == Status::OutOfMemory && Arc::ptr_eq(&self.0, &Error::out_of_memory().0)
    }

    /// Changes the fields, except those of the shared error.
    fn changed(mut self, change: impl FnOnce(&mut Fields)) -> Error {
        if !self.is_shared() {
            change(Arc::make_mut(&mut self.0));
        }
        self
    }

    /// Makes the error for an invalid argument; `what` follows the parameter's name.
    #[doc(hidden)]
    pub fn argument(status: Status, parameter: &'static str, what: impl fmt::Display) -> Error {
        let name = message::name(parameter);
        Error::new(status, format!("{name}: {what}")).changed(|e| e.parameter = Some(parameter))
    }

    /// Makes the error for a failure of the operating system with what a parameter names.
    pub(crate) fn os_argument(
        status: Status,
        parameter: &'static str,
        context: impl fmt::Display,
        cause: &io::Error,
    ) -> Error {
        let context = format_args!("{}: {context}", message::name(parameter));
        Error::os(status, context, cause).changed(|e| e.parameter = Some(parameter))
    }

    /// Makes the error for a failure that the operating system reported.
    pub(crate) fn os(status: Status, context: impl fmt::Display, cause: &io::Error) -> Error {
        let status = exhausted(cause).unwrap_or(status);
        Error::new(status, format!("{}: {}", subject(context), os_message(cause)))
            .changed(|e| e.os_code = cause.raw_os_error())
    }

    pub(crate) fn permanent(self) -> Error {
        self.changed(|e| e.permanent = true)
    }

    /// Marks that the call must not try again.
    pub(crate) fn no_retry(self) -> Error {
        self.changed(|e| e.no_retry = true)
    }

    /// Replaces the parameter and status, for a value that came from elsewhere, such as an
    /// environment variable of this name.
    pub(crate) fn with_parameter(self, status: Status, name: &'static str) -> Error {
        Error::argument(status, name, self.problem())
    }

    /// Replaces the message.
    pub(crate) fn with_message(self, message: impl FnOnce(&str) -> String) -> Error {
        self.map_message(|text| sanitize_message(&message(text), MESSAGE_LIMIT).into_owned())
    }

    /// Shortens the texts, for keeping it with many others: a server chooses their length.
    pub(crate) fn shortened(self) -> Error {
        let mut total = 0;
        let fewer_details = self.changed(|e| {
            e.service.details.retain(|detail| {
                total += detail.len();
                total <= SHORTENED_LIMIT
            });
            e.service.details.shrink_to_fit();
        });
        fewer_details.map_text(|mut text| {
            let len = shorten(&text, SHORTENED_LIMIT).len();
            // Messages of this library may be longer by an ellipsis.
            if text.len() > SHORTENED_LIMIT + '…'.len_utf8() {
                text.truncate(len);
            }
            text.shrink_to_fit();
            text
        })
    }

    pub(crate) fn with_os_code(self, code: i32) -> Error {
        self.changed(|e| e.os_code = Some(code))
    }

    pub(crate) fn with_service(self, http_status: u16, service: ServiceText) -> Error {
        self.changed(|e| {
            e.http_status = Some(http_status);
            e.service = service;
        })
    }

    pub(crate) fn with_cancelled_by(self, by: CancelledBy) -> Error {
        self.changed(|e| e.cancelled_by = Some(by))
    }

    pub(crate) fn with_candidates(self, candidates: Vec<String>) -> Error {
        self.changed(|e| e.candidates = candidates)
    }

    pub(crate) fn with_redirect_target(self, target: Option<String>) -> Error {
        self.changed(|e| e.redirect_target = target)
    }

    pub(crate) fn with_path(self, path: impl Into<PathBuf>) -> Error {
        self.changed(|e| e.path = Some(path.into()))
    }

    pub(crate) fn with_cause(self, cause: io::Error) -> Error {
        self.changed(|e| e.cause = Some(Arc::new(cause)))
    }

    pub(crate) fn with_retry_after(self, after: Option<Duration>) -> Error {
        self.changed(|e| e.retry_after = after)
    }

    /// Adds the HTTP status and the request id of the response.
    pub(crate) fn with_response(self, http_status: u16, request_id: Option<String>) -> Error {
        self.changed(|e| {
            e.http_status.get_or_insert(http_status);
            if e.service.request_id.is_none() {
                e.service.request_id = request_id;
            }
        })
    }

    pub(crate) fn map_message(self, change: impl FnOnce(&str) -> String) -> Error {
        self.changed(|e| e.set_message(change(e.marked())))
    }

    /// Applies a function to every text in the error.
    pub(crate) fn map_text(self, change: impl Fn(String) -> String) -> Error {
        self.changed(|e| {
            let marked = e.marked.take().unwrap_or_else(|| std::mem::take(&mut e.message));
            e.set_message(change(marked));
            e.redirect_target = e.redirect_target.take().map(&change);
            for candidate in &mut e.candidates {
                *candidate = change(std::mem::take(candidate));
            }
            e.service.map_text(change);
        })
    }

    pub(crate) fn with_attempts(self, attempts: u32) -> Error {
        self.changed(|e| e.attempts = attempts)
    }

    /// Returns the error inside an [`io::Error`] of this library, such as one of a stream's
    /// read; [`None`] for any other.
    pub fn from_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    /// The status that classifies this failure.
    pub fn status(&self) -> Status {
        self.0.status
    }

    /// One line for people: what was wrong and what to do.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Calls `each` with the parts of the [message](Error::message) in turn, which together
    /// are the message: so a program that has other names and units, such as flags, can
    /// say it in its own words.
    pub fn parts<'a>(&'a self, each: impl FnMut(PartKind, &'a str)) {
        message::split(self.0.marked(), each);
    }

    /// The message with the marks of its parts, for the message of another error.
    pub(crate) fn marked(&self) -> &str {
        self.0.marked()
    }

    /// The same without the name of the parameter before it.
    pub(crate) fn problem(&self) -> &str {
        let marked = self.0.marked();
        let name = self.0.parameter.map(|name| format!("{}: ", message::name(name)));
        name.and_then(|name| marked.strip_prefix(&name)).unwrap_or(marked)
    }

    /// The parameter or option at fault, if an argument was wrong.
    pub fn parameter(&self) -> Option<&'static str> {
        self.0.parameter
    }

    /// The HTTP status of the response; [`None`] if there was no response.
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

    /// The service's id of this request, for its support.
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

    /// `errno`, if the operating system reported the failure.
    pub fn os_code(&self) -> Option<i32> {
        self.0.os_code
    }

    /// How long the service asked to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What cancelled the call, for [`Status::Cancelled`].
    pub fn cancelled_by(&self) -> Option<CancelledBy> {
        self.0.cancelled_by
    }

    /// The ids of the reports that may be the one that was created: several for
    /// [`Status::Ambiguous`], one if the generation failed after it was found.
    pub fn candidates(&self) -> &[String] {
        &self.0.candidates
    }

    /// Where the service redirected to, for [`Status::Redirected`].
    pub fn redirect_target(&self) -> Option<&str> {
        self.0.redirect_target.as_deref()
    }

    /// The file or directory at fault, such as the file that exists already
    /// ([`Status::FileExists`]).
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// How many requests were made before the call failed; 0 if an argument was wrong.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Whether the call itself was ended, which says nothing about the request it made.
    pub(crate) fn is_end_of_call(&self) -> bool {
        matches!(
            self.0.status,
            Status::Cancelled | Status::Closed | Status::Interrupted | Status::TotalTimeout
        )
    }

    /// Whether another attempt within the same call makes sense.
    pub(crate) fn is_transient(&self) -> bool {
        self.is_retryable()
            && !self.0.no_retry
            && !matches!(self.0.status, Status::TotalTimeout | Status::NotResumable)
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        if self.0.permanent {
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
            | Status::NotResumable
            | Status::MirrorLocked => true,
            Status::ServerError => matches!(self.0.http_status, Some(500 | 502 | 503 | 504)),
            _ => false,
        }
    }
}

/// The status for a failure because the process lacks memory or descriptors, whatever it was
/// about.
pub(crate) fn exhausted(cause: &io::Error) -> Option<Status> {
    match (cause.kind(), cause.raw_os_error()) {
        (io::ErrorKind::OutOfMemory, _) => Some(Status::OutOfMemory),
        (_, Some(libc::EMFILE | libc::ENFILE)) => Some(Status::Resource),
        _ => None,
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
            .field("parameter", &self.0.parameter)
            .field("http_status", &self.0.http_status)
            .field("service", &self.0.service)
            .field("os_code", &self.0.os_code)
            .field("retry_after", &self.0.retry_after)
            .field("attempts", &self.0.attempts)
            .field("candidates", &self.0.candidates)
            .field("redirect_target", &self.0.redirect_target)
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

impl From<Error> for io::Error {
    /// Makes an [`io::Error`] of the nearest kind, which [contains](Error::from_io) this one.
    fn from(error: Error) -> io::Error {
        use io::ErrorKind;
        let kind = match error.status() {
            Status::NotFound => ErrorKind::NotFound,
            Status::Unauthenticated | Status::Forbidden => ErrorKind::PermissionDenied,
            Status::ConnectTimeout | Status::Stalled | Status::TotalTimeout => ErrorKind::TimedOut,
            Status::ConnectionLost => ErrorKind::ConnectionAborted,
            Status::Truncated => ErrorKind::UnexpectedEof,
            Status::UnexpectedResponse | Status::Protocol | Status::ContentEncoding => ErrorKind::InvalidData,
            Status::FileExists => ErrorKind::AlreadyExists,
            Status::DiskFull => ErrorKind::StorageFull,
            Status::BrokenPipe => ErrorKind::BrokenPipe,
            Status::OutOfMemory => ErrorKind::OutOfMemory,
            status if (100..200).contains(&(status as i32)) => ErrorKind::InvalidInput,
            // Never `Interrupted`, not even for a cancel: std would read again.
            _ => ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_memory_and_descriptors_is_told_from_other_failures() {
        let status = |cause: io::Error| Error::os(Status::File, "cannot read", &cause).status();
        // Also without a number of the system.
        assert_eq!(status(io::ErrorKind::OutOfMemory.into()), Status::OutOfMemory);
        for (code, expected) in [
            (libc::ENOMEM, Status::OutOfMemory),
            (libc::EMFILE, Status::Resource),
            (libc::ENFILE, Status::Resource),
            (libc::EACCES, Status::File),
        ] {
            assert_eq!(status(io::Error::from_raw_os_error(code)), expected);
        }
    }

    #[test]
    fn statuses_are_unique_and_sorted() {
        let values: Vec<i32> = Status::ALL.iter().map(|s| *s as i32).collect();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(values, sorted);
        assert_eq!(Status::from_value(204), Some(Status::NotFound));
        assert_eq!(Status::from_value(199), None);
    }

    #[test]
    fn shortened_error_keeps_little_of_server_texts() {
        let long = || Some("é".repeat(20_000));
        let detail = |len| Detail {
            code: None,
            message: Some("x".repeat(len)),
        };
        let service = ServiceText {
            code: long(),
            message: long(),
            request_id: long(),
            encoded_authorization_message: long(),
            details: vec![detail(1000), detail(1000), detail(1)],
        };
        let error = Error::new(Status::Service, "é".repeat(20_000))
            .with_service(400, service)
            .with_redirect_target(long());
        let message = error.message().to_owned();
        let kept = error.shortened();
        assert_eq!(kept.message(), message);
        assert_eq!(kept.details(), [detail(1000)]);
        for text in [
            kept.service_code(),
            kept.service_message(),
            kept.request_id(),
            kept.encoded_authorization_message(),
            kept.redirect_target(),
        ] {
            assert_eq!(text.map(str::len), Some(SHORTENED_LIMIT));
        }
    }

    #[test]
    fn message_is_one_line_of_bounded_length() {
        let error = Error::new(Status::Service, "a\r\nb\u{1b}[31m\u{9b}c\u{202e}d");
        assert_eq!(error.message(), "a  b [31m c d");
        let hidden = Error::new(Status::Service, "a\u{61c}b\u{2028}c\u{2029}d\u{ad}e\u{e0041}f");
        assert_eq!(hidden.message(), "a b c d e f");
        let long = Error::new(Status::Service, "ü".repeat(2000));
        assert!(long.message().len() <= MESSAGE_LIMIT + '…'.len_utf8());
        assert!(long.message().ends_with('…'));
    }
}
