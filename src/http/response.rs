//! A response: checks its header, and reads its body to the end.

use std::borrow::Cow;
use std::hint::black_box;
use std::io::Read;
use std::time::{Duration, SystemTime};

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{StatusCode, Version};
use ureq::{Body, BodyReader};
use zeroize::Zeroizing;

use std::sync::Arc;

use super::call::Call;
use super::clock;
use super::secrets::Secrets;
use super::service_error::{ERROR_BODY_LIMIT, ServiceError};
use crate::error::{Error, Status};
use crate::memory;

/// The size of one read of a document.
const READ_SIZE: usize = 16 * 1024;

/// How many bytes of a header's value are read. Only tokens are longer.
pub(crate) const VALUE_LIMIT: usize = 4096;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A response whose header has arrived and tells validly how its body ends.
pub(crate) struct Response {
    call: Arc<Call>,
    status: StatusCode,
    headers: HeaderMap,
    body: BodyReader<'static>,
    secrets: Secrets,
    /// Whether it is from the request's origin, and not from another one that a redirect
    /// led to, without credentials.
    at_origin: bool,
    /// Whether the request's signature contained a date.
    has_signed_date: bool,
    /// Why it was not followed, if it is a redirect.
    not_followed: Cow<'static, str>,
    /// The length that the server announced.
    announced: Option<u64>,
    received: u64,
}

impl Response {
    pub(super) fn new(
        call: &Arc<Call>,
        response: ::http::Response<Body>,
        allow_close_delimited: bool,
        secrets: Secrets,
    ) -> Result<Response, Error> {
        let (parts, body) = response.into_parts();
        let response = Response {
            call: Arc::clone(call),
            status: parts.status,
            secrets,
            at_origin: true,
            has_signed_date: false,
            not_followed: Cow::Borrowed(""),
            announced: None,
            received: 0,
            body: body.into_reader(),
            headers: parts.headers,
        };
        // Other statuses are errors or have no body, so an unclear end does no harm.
        if !response.status.is_success() || response.status == StatusCode::NO_CONTENT {
            return Ok(response);
        }
        match framing(&response.headers, parts.version, allow_close_delimited) {
            Ok(announced) => Ok(Response {
                announced,
                ..response
            }),
            Err(e) => Err(response.with_context(e)),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn with_same_origin(self, at_origin: bool) -> Response {
        Response { at_origin, ..self }
    }

    pub(super) fn with_signed_date(self, has_signed_date: bool) -> Response {
        Response {
            has_signed_date,
            ..self
        }
    }

    /// Describes what is wrong with this machine's clock, if the request was signed and
    /// the response has a date.
    pub(super) fn clock_difference(&self) -> Option<String> {
        let server = self.date().filter(|_| self.has_signed_date)?;
        clock::difference(SystemTime::now(), server)
    }

    pub(super) fn with_redirect_failure(self, not_followed: Cow<'static, str>) -> Response {
        Response { not_followed, ..self }
    }

    pub(super) fn redirect_failure(&self) -> &str {
        &self.not_followed
    }

    /// Whether it rejects the credentials that were sent.
    pub(crate) fn refuses_credentials(&self) -> bool {
        self.at_origin && self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether it proves that the credentials that were sent are valid.
    pub(crate) fn accepts_credentials(&self) -> bool {
        self.at_origin && self.status != StatusCode::UNAUTHORIZED && !self.status.is_server_error()
    }

    /// Returns the body's length as the server announced it, which may be wrong.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Returns a header's value as text, redacted.
    pub(crate) fn header(&self, name: HeaderName) -> Option<String> {
        Some(self.secrets.redact(self.raw_header(name)?))
    }

    /// Returns a header's value as text, not redacted: it must not be shown.
    pub(crate) fn raw_header(&self, name: HeaderName) -> Option<String> {
        let value = readable_part(self.headers.get(name)?);
        // Fast path: nearly always it is valid UTF-8.
        Some(match std::str::from_utf8(value) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => String::from_utf8_lossy(value).trim().to_owned(),
        })
    }

    /// Whether there is more than one header of this name, so that its value is ambiguous.
    pub(crate) fn is_repeated(&self, name: HeaderName) -> bool {
        self.headers.get_all(name).iter().nth(1).is_some()
    }

    /// Redacts a text of its body; `None` if it contains no secret.
    pub(crate) fn redact(&self, text: &str) -> Option<String> {
        let is_suspicious = self.secrets.may_occur_in(text);
        is_suspicious.then(|| self.secrets.redact(text.to_owned()))
    }

    /// Returns the safe file name of the body, from Content-Disposition.
    pub(crate) fn filename(&self) -> Option<String> {
        let disposition = self.headers.get(header::CONTENT_DISPOSITION)?;
        self.secrets
            .filename(String::from_utf8_lossy(readable_part(disposition)).trim())
    }

    /// Removes and returns a secret header's value.
    pub(crate) fn take_secret_header(
        &mut self,
        name: HeaderName,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let Some(value) = self.headers.remove(name) else {
            return Ok(None);
        };
        let mut taken = Zeroizing::new(Vec::new());
        memory::reserve(&mut taken, value.len())?;
        taken.extend_from_slice(value.as_bytes());
        // A HeaderValue cannot be wiped. But allocators reuse the block that was freed last,
        // so overwrite it through an allocation of the same size.
        drop(value);
        let mut other = Vec::new();
        memory::reserve(&mut other, taken.len())?;
        other.resize(taken.len(), 0xff_u8);
        drop(black_box(other));
        Ok(Some(taken))
    }

    pub(crate) fn request_id(&self) -> Option<String> {
        self.header(REQUEST_ID).filter(|id| !id.is_empty())
    }

    /// Returns the time by the server's clock, if the response has it.
    pub(crate) fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(&self.header(header::DATE)?).ok()
    }

    /// Returns how long the server asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.header(header::RETRY_AFTER)?, self.date())
    }

    /// Returns an error if the body is compressed or otherwise encoded. The request asked
    /// for none, and decompression could fill a disk from a small response.
    pub(crate) fn check_encoding(&self) -> Result<(), Error> {
        let mut encodings = self
            .headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','));
        let is_none = |name: &[u8]| name.is_empty() || name.eq_ignore_ascii_case(b"identity");
        if encodings.all(|name| is_none(name.trim_ascii())) {
            return Ok(());
        }
        let encoding = self.header(header::CONTENT_ENCODING).unwrap_or_default();
        Err(self.with_context(Error::new(
            Status::ContentEncoding,
            format!(
                "the body has the Content-Encoding \"{encoding}\", which was not requested; is a proxy in between?"
            ),
        )))
    }

    /// Adds this response's status and request id to an error, and redacts it.
    pub(crate) fn with_context(&self, error: Error) -> Error {
        error
            .map_text(|text| self.secrets.redact(text))
            .with_response(self.status.as_u16(), self.request_id())
    }

    /// Reads some of the body; 0 at its end. Fails if the length is not as announced.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let _entered = self.call.enter();
        let n = self
            .body
            .read(buf)
            .map_err(|e| self.with_context(self.body_error(ureq::Error::from(e))))?;
        self.received += n as u64;
        let wrong = match self.announced {
            Some(announced) if n == 0 => self.received != announced,
            Some(announced) => self.received > announced,
            None => false,
        };
        if wrong {
            return Err(self.with_context(self.wrong_length()));
        }
        self.call.reset_overhead();
        Ok(n)
    }

    /// Reads a complete body into memory. Fails if it is longer than `limit`.
    pub(crate) fn read_document(&mut self, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.check_encoding()?;
        let mut bytes = Zeroizing::new(Vec::new());
        loop {
            let more = self.read_into(&mut bytes, limit.saturating_add(1));
            if !more.map_err(|e| self.with_context(e))? {
                return Ok(bytes);
            }
            if bytes.len() > limit {
                return Err(self.with_context(Error::new(
                    Status::UnexpectedResponse,
                    format!("the response is longer than {limit} bytes, the most that is accepted here"),
                )));
            }
        }
    }

    /// Appends some of the body to `bytes`, at most up to `limit`; returns false at its end.
    fn read_into(&mut self, bytes: &mut Zeroizing<Vec<u8>>, limit: usize) -> Result<bool, Error> {
        let held = bytes.len();
        let most = limit.min(held + READ_SIZE);
        if most > bytes.capacity() {
            // A vector that grows leaves copies in freed memory.
            let mut larger = Zeroizing::new(Vec::new());
            memory::reserve(&mut larger, (2 * held).clamp(most, limit))?;
            larger.extend_from_slice(bytes);
            *bytes = larger;
        }
        bytes.resize(most, 0);
        let read = self.read(&mut bytes[held..]);
        bytes.truncate(held + read.as_ref().copied().unwrap_or_default());
        Ok(read? > 0)
    }

    /// Reads and parses an error body: at most [`ERROR_BODY_LIMIT`] bytes, within the stall
    /// timeout, even if it is truncated. Fails only if the call is cancelled or there is not
    /// enough memory.
    pub(crate) fn read_service_error(&mut self) -> Result<ServiceError, Error> {
        self.call.limit_to_stall_timeout();
        let mut body = Zeroizing::new(Vec::new());
        let readable = self.check_encoding().is_ok();
        while readable && body.len() < ERROR_BODY_LIMIT {
            match self.read_into(&mut body, ERROR_BODY_LIMIT) {
                Err(e) if matches!(e.status(), Status::Cancelled | Status::OutOfMemory) => return Err(e),
                Ok(false) | Err(_) => break,
                Ok(true) => {}
            }
        }
        self.service_error(&body)
    }

    /// Parses a body that was already read as an error body. Fails only if there is not
    /// enough memory.
    pub(crate) fn service_error(&self, body: &[u8]) -> Result<ServiceError, Error> {
        ServiceError::parse(body, |text| self.secrets.redact(text))
    }

    fn wrong_length(&self) -> Error {
        Error::new(
            Status::Truncated,
            format!(
                "the body has {} bytes, but {} were announced",
                self.received,
                self.announced.unwrap_or_default()
            ),
        )
    }

    fn body_error(&self, error: ureq::Error) -> Error {
        let received = self.received;
        let of = self
            .announced
            .map_or(String::new(), |total| format!(" of {total}"));
        let broken = |why: &str, cause: Option<&Error>| {
            let error = Error::new(
                Status::Truncated,
                format!("the body broke off after {received}{of} bytes ({why})"),
            );
            match cause.and_then(Error::os_code) {
                Some(code) => error.with_os_code(code),
                None => error,
            }
        };
        match own_error(error) {
            Ok(ours) if ours.status() == Status::ConnectionLost => broken(ours.message(), Some(&ours)),
            Ok(ours) => ours,
            Err(ureq::Error::Io(_)) => broken("the connection was closed", None),
            Err(other) => invalid_http(&other),
        }
    }
}

/// Returns the part of a header's value that is read.
fn readable_part(value: &HeaderValue) -> &[u8] {
    let value = value.as_bytes().trim_ascii();
    &value[..value.len().min(VALUE_LIMIT)]
}

/// Returns the announced length; `None` if chunks or the end of the connection end the
/// body. Fails if its end would be unclear.
fn framing(headers: &HeaderMap, version: Version, allow_close_delimited: bool) -> Result<Option<u64>, Error> {
    let wrong = |what: &str| {
        Err(Error::new(
            Status::Protocol,
            format!("the response is not valid HTTP: {what}"),
        ))
    };
    let mut announced = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let digits = value.as_bytes();
        let length = std::str::from_utf8(digits)
            .ok()
            .filter(|_| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
            .and_then(|text| text.parse::<u64>().ok());
        match (length, announced) {
            (None, _) => return wrong("Content-Length is not a number"),
            (Some(length), Some(other)) if length != other => return wrong("two lengths are announced"),
            (length, _) => announced = length,
        }
    }
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => {}
        (Some(only), None)
            if only.as_bytes().eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11 =>
        {
            return Ok(announced);
        }
        _ => return wrong("its Transfer-Encoding is not plain chunks"),
    }
    if announced.is_none() && !allow_close_delimited {
        return wrong(
            "it has neither a Content-Length nor chunks, so a truncated body could not be detected",
        );
    }
    Ok(announced)
}

/// Parses `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which is compared with
/// the server's clock if the response has its date.
pub(crate) fn retry_after(value: &str, date: Option<SystemTime>) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = date.unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or_default())
}

/// Returns the library's own error, if ureq passed one on.
fn own_error(error: ureq::Error) -> Result<Error, ureq::Error> {
    match error {
        ureq::Error::Other(inner) => inner.downcast::<Error>().map(|e| *e).map_err(ureq::Error::Other),
        other => Err(other),
    }
}

fn invalid_http(error: &ureq::Error) -> Error {
    Error::new(
        Status::Protocol,
        format!("the response is not valid HTTP: {error}"),
    )
}

pub(super) fn header_error(error: ureq::Error) -> Error {
    match own_error(error) {
        Ok(ours) => ours,
        Err(ureq::Error::Io(_)) => Error::new(
            Status::ConnectionLost,
            "the server closed the connection before the response's header was complete",
        ),
        Err(other) => invalid_http(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_framing(
        headers: &[(&'static str, &str)],
        version: Version,
        https: bool,
    ) -> Result<Option<u64>, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header value"));
        }
        framing(&map, version, https).map_err(|e| {
            assert_eq!(e.status(), Status::Protocol);
            e.message().to_owned()
        })
    }

    #[test]
    fn body_without_clear_end_is_rejected() {
        let v11 = Version::HTTP_11;
        assert_eq!(
            check_framing(&[("content-length", "12")], v11, false),
            Ok(Some(12))
        );
        assert_eq!(
            check_framing(&[("content-length", "12"), ("content-length", "12")], v11, false),
            Ok(Some(12))
        );
        assert_eq!(
            check_framing(&[("transfer-encoding", "Chunked")], v11, false),
            Ok(None)
        );
        assert_eq!(check_framing(&[], v11, true), Ok(None));
        for (headers, version) in [
            (&[][..], v11),
            (&[("content-length", "")], v11),
            (&[("content-length", "+5")], v11),
            (&[("content-length", "-1")], v11),
            (&[("content-length", "5, 5")], v11),
            (&[("content-length", "99999999999999999999")], v11),
            (&[("content-length", "12"), ("content-length", "13")], v11),
            (&[("transfer-encoding", "gzip, chunked")], v11),
            (
                &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                v11,
            ),
            (&[("transfer-encoding", "chunked")], Version::HTTP_10),
        ] {
            assert!(check_framing(headers, version, false).is_err(), "{headers:?}");
        }
    }
}
