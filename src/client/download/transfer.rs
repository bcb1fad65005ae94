//! The transfer of one report: attempts, resumption, and checking that the body is
//! complete.

use std::sync::Arc;

use ::http::StatusCode;
use ::http::header::{CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderName, HeaderValue, IF_RANGE, RANGE};

use crate::client::download::format::{Document, Format, MAGIC, MAX_LEADING_BLANK, SNIFFED, trim_body_start};
use crate::client::download::report::{ReportInfo, ReportRequest, error_object, expect_report};
use crate::client::inner::ClientInner;
use crate::client::run::failure_level;
use crate::error::{Error, Status};
use crate::http::{
    Call, ERROR_BODY_LIMIT, JSON, Request, Response, Retry, VALUE_LIMIT, content_range, strong_etag,
    unsatisfied_range,
};
use crate::log::{Level, LogRecord};
use crate::memory;
use crate::operation::{ActiveOperation, Description, Operation};
use crate::sink::Info;

/// An attempt that received this many bytes resets the count of attempts.
const MIN_PROGRESS: u64 = 1024 * 1024;

/// The maximum number of parts in a row without such progress, if the total length is not
/// known.
const MAX_SHORT_PARTS: u32 = 8;

/// The result of a read.
pub(crate) enum Step {
    Bytes(usize),
    /// The body starts again from its first byte. Discard the bytes read so far.
    Restart,
    /// The body is complete.
    End,
}

pub(crate) struct Transfer {
    client: Arc<ClientInner>,
    request: ReportRequest,
    active: ActiveOperation,
    call: Arc<Call>,
    /// The project's id; empty until it is known.
    project: String,
    /// Counts the failures in a row.
    retry: Retry,
    /// Whether the reader can discard the bytes that it has and start again.
    can_restart: bool,
    response: Option<Response>,
    /// Bytes that were read to determine the format, and how many of them the reader has.
    head: Vec<u8>,
    head_taken: usize,
    /// Whether the response was read to its end. `head` may still have bytes for the reader.
    body_received: bool,
    /// Whether the reader has bytes of this body.
    reader_has_bytes: bool,
    /// Whether the reader has bytes of an abandoned body, and must be told to restart
    /// before it gets others.
    needs_restart: bool,
    /// The number of bytes received: those that the reader has, and those in `head`.
    offset: u64,
    total: Option<u64>,
    /// The end of the part that is being read. None for a whole body.
    part_end: Option<u64>,
    /// The number of parts since the last progress.
    parts: u32,
    /// The offset at that progress.
    parts_from: u64,
    /// The strong entity tag, if the server sent one.
    validator: Option<String>,
    /// The maximum offset that any attempt reached.
    furthest: u64,
    format: Format,
    filename: String,
    content_type: Option<String>,
    request_id: Option<String>,
    date: Option<String>,
}

impl Transfer {
    /// Begins a call and waits for the first bytes of the report.
    pub(crate) fn open(
        client: &Arc<ClientInner>,
        request: ReportRequest,
        active: ActiveOperation,
        can_restart: bool,
    ) -> Result<Transfer, Error> {
        let operation = active.operation();
        operation.check()?;
        let overrides = operation.overrides();
        let call = client.http.call(&overrides, operation)?;
        call.set_report_id(request.id());
        let mut transfer = Transfer {
            project: String::new(),
            retry: client.retry(&overrides),
            client: Arc::clone(client),
            request,
            call,
            active,
            can_restart,
            response: None,
            head: Vec::new(),
            head_taken: 0,
            body_received: false,
            reader_has_bytes: false,
            needs_restart: false,
            offset: 0,
            total: None,
            part_end: None,
            parts: 0,
            parts_from: 0,
            validator: None,
            furthest: 0,
            format: Format::Unknown,
            filename: String::new(),
            content_type: None,
            request_id: None,
            date: None,
        };
        transfer.operation().tick()?;
        transfer.first_attempt().map_err(|e| transfer.with_context(e))?;
        Ok(transfer)
    }

    fn first_attempt(&mut self) -> Result<(), Error> {
        self.project = self.client.project(&self.call, self.request.project())?;
        self.attempt().or_else(|e| self.recover(e))
    }

    pub(crate) fn operation(&self) -> &Arc<Operation> {
        self.active.operation()
    }

    pub(crate) fn active(&self) -> &ActiveOperation {
        &self.active
    }

    /// Makes a log record about this transfer.
    pub(crate) fn record(&self, message: String) -> LogRecord {
        LogRecord {
            report_id: Some(self.request.id().to_owned()),
            request_id: self.request_id.clone(),
            attempt: self.operation().attempts(),
            duration: Some(self.call.elapsed()),
            http_status: self.response.as_ref().map(|response| response.status().as_u16()),
            ..LogRecord::new(message)
        }
    }

    /// Logs that all bytes have arrived.
    pub(crate) fn log_end(&self) {
        self.client.log(Level::Info, || {
            let received = self.operation().received();
            LogRecord {
                bytes: Some(received),
                ..self.record(format!("report {}: {received} bytes", self.id()))
            }
        });
    }

    /// Logs why they do not.
    pub(crate) fn log_failure(&self, failure: &Error) {
        self.client.log(failure_level(failure), || {
            let message = format!("report {}: {failure}", self.id());
            self.record(message).about(failure)
        });
    }

    pub(crate) fn id(&self) -> &str {
        self.request.id()
    }

    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }

    /// Returns the number of bytes that are still to be read, if known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        let buffered = (self.head.len() - self.head_taken) as u64;
        Some(self.total?.saturating_sub(self.offset) + buffered)
    }

    pub(crate) fn info(&self) -> Info<'_> {
        Info {
            announced: self.total,
            filename: &self.filename,
        }
    }

    pub(crate) fn report_info(&self) -> ReportInfo {
        ReportInfo {
            size: self.total,
            format: self.format,
            filename: self.filename.clone(),
            content_type: self.content_type.clone(),
            request_id: self.request_id.clone(),
            date: self.date.clone(),
        }
    }

    /// The same, for a transfer that has ended.
    pub(crate) fn into_report_info(self) -> ReportInfo {
        ReportInfo {
            size: self.total,
            format: self.format,
            filename: self.filename,
            content_type: self.content_type,
            request_id: self.request_id,
            date: self.date,
        }
    }

    /// Reads the next bytes of the body. Makes new attempts as needed.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<Step, Error> {
        self.call.advance()?;
        loop {
            if self.head_taken < self.head.len() {
                let buffered = &self.head[self.head_taken..];
                let n = buffered.len().min(buf.len());
                buf[..n].copy_from_slice(&buffered[..n]);
                self.head_taken += n;
                self.reader_has_bytes = true;
                return Ok(Step::Bytes(n));
            }
            if self.body_received {
                return Ok(Step::End);
            }
            let outcome = match self.read_response(buf) {
                // A part has ended, and the total length is not known.
                Ok(0) if self.total.is_none() && self.part_end.is_some() => self.next_part(),
                Ok(0) => {
                    self.body_received = true;
                    Ok(())
                }
                Ok(n) => return Ok(Step::Bytes(n)),
                Err(e) => Err(e),
            };
            outcome
                .or_else(|e| self.recover(e))
                .map_err(|e| self.with_context(e))?;
            if std::mem::take(&mut self.needs_restart) {
                return Ok(Step::Restart);
            }
        }
    }

    fn next_part(&mut self) -> Result<(), Error> {
        if self.offset >= self.parts_from.saturating_add(MIN_PROGRESS) {
            (self.parts, self.parts_from) = (0, self.offset);
        }
        self.parts += 1;
        if self.parts > MAX_SHORT_PARTS {
            return Err(Error::new(
                Status::Truncated,
                "the report arrived in many small parts without a total length, and did not end",
            ));
        }
        self.attempt()
    }

    /// Adds the context of the call to an error.
    pub(crate) fn with_context(&self, error: Error) -> Error {
        let error = error.with_attempts(self.operation().attempts());
        match &self.response {
            Some(response) => response.with_context(error),
            None => error,
        }
    }

    /// Reads from the response and counts the bytes. Returns 0 only at the end of a
    /// complete part or body.
    fn read_response(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let response = self
            .response
            .as_mut()
            .ok_or_else(|| Error::new(Status::Internal, "the transfer has no response"))?;
        let n = response.read(buf)?;
        if n == 0 {
            // Without a total, only the end of the part can be checked.
            let expected = self.total.or(self.part_end);
            if let Some(expected) = expected.filter(|expected| *expected != self.offset) {
                return Err(response.with_context(Error::new(
                    Status::Truncated,
                    format!(
                        "the body has {} bytes, but {expected} were announced",
                        self.offset
                    ),
                )));
            }
            return Ok(0);
        }
        let offset = self.offset + n as u64;
        if self.part_end.is_some_and(|end| offset > end) {
            return Err(response.with_context(Error::new(
                Status::Protocol,
                "the response is not valid HTTP: a part is longer than its Content-Range",
            )));
        }
        self.offset = offset;
        self.active.operation().set_received(self.offset);
        Ok(n)
    }

    /// Makes attempts after a failure, until one succeeds. Returns the last failure if
    /// none does.
    fn recover(&mut self, mut failure: Error) -> Result<(), Error> {
        loop {
            self.response = None;
            // Only bytes that no earlier attempt reached are progress. Otherwise a body
            // that restarts each time would be retried for ever.
            if self.offset >= self.furthest.saturating_add(MIN_PROGRESS) {
                self.retry.reset();
            }
            self.furthest = self.furthest.max(self.offset);
            let possible = !self.reader_has_bytes || self.validator.is_some() || self.can_restart;
            let Some(pause) = self.retry.pause_after(&mut failure) else {
                return Err(failure);
            };
            if !possible {
                return Err(failure.map_message(|text| {
                    format!("{text}; it cannot be resumed, because the service gave no strong entity tag")
                }));
            }
            if !self.call.has_time_for(pause) {
                return Err(self.call.out_of_time(failure));
            }
            self.client.log(Level::Warning, || LogRecord {
                offset: Some(self.offset),
                retry_delay: Some(pause),
                ..self
                    .record(format!(
                        "attempt {} of report {} failed at byte {}: {failure}; retrying in {} ms",
                        self.operation().attempts(),
                        self.request.id(),
                        self.offset,
                        pause.as_millis(),
                    ))
                    .about(&failure)
            });
            if !self.call.pause(pause)? {
                return Err(self.call.out_of_time(failure));
            }
            match self.attempt() {
                Ok(()) => return Ok(()),
                Err(e) => failure = e,
            }
        }
    }

    /// Sends a request: for the rest of the body if the reader has bytes and a validator can
    /// prove that it is the same body, else for the whole body.
    fn attempt(&mut self) -> Result<(), Error> {
        let validator = self.validator.clone().filter(|_| self.reader_has_bytes);
        let Some(validator) = validator else {
            return self.start_body(None);
        };
        let header = |value: &str| {
            HeaderValue::from_str(value)
                .map_err(|_| Error::new(Status::Internal, "the range is not a valid header value"))
        };
        let mut response = self.get(&[
            JSON[0].clone(),
            (RANGE, header(&format!("bytes={}-", self.offset))?),
            (IF_RANGE, header(&validator)?),
        ])?;
        let range = response.raw_header(CONTENT_RANGE);
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE
            && is_same_version(&response, &validator)
            && self.total.is_none_or(|total| total == self.offset)
            && range.as_deref().and_then(unsatisfied_range) == Some(self.offset)
        {
            // It is the same body, and all its bytes have arrived.
            self.body_received = true;
            return Ok(());
        }
        if response.status() == StatusCode::OK || response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // Another version, or a server without range support.
            if !self.can_restart {
                return Err(response.with_context(Error::new(
                    Status::NotResumable,
                    "the transfer broke, and the service now has another version of the report, or does not support resuming",
                )));
            }
            let whole = (response.status() == StatusCode::OK).then_some(response);
            return self.start_body(whole);
        }
        expect_report(&mut response, true)?;
        if !self.continues(&response, &validator) {
            if self.can_restart {
                return self.start_body(None);
            }
            return Err(response.with_context(Error::new(
                Status::NotResumable,
                "the service returned a different part of the report from the one requested",
            )));
        }
        self.active.operation().add_resumed(self.offset);
        self.request_id = response.request_id();
        self.response = Some(response);
        self.describe();
        self.client.log(Level::Info, || LogRecord {
            offset: Some(self.offset),
            ..self.record(format!(
                "report {} resumes at byte {}",
                self.request.id(),
                self.offset
            ))
        });
        Ok(())
    }

    /// Sends one request and waits for the header of its response.
    fn get(&self, headers: &[(HeaderName, HeaderValue)]) -> Result<Response, Error> {
        self.client.send(&self.call, Some(&self.project), |endpoint| {
            Ok(Request::get(self.request.url(endpoint, &self.project)?, headers))
        })
    }

    /// Whether a 206 is the rest of the interrupted body.
    fn continues(&mut self, response: &Response, validator: &str) -> bool {
        let Some((first, last, total)) = response
            .raw_header(CONTENT_RANGE)
            .as_deref()
            .and_then(content_range)
        else {
            return false;
        };
        let multipart = response
            .header(CONTENT_TYPE)
            .is_some_and(|t| t.to_ascii_lowercase().starts_with("multipart/"));
        let same_total = match (self.total, total) {
            (Some(known), Some(total)) => known == total,
            _ => true,
        };
        let total = self.total.or(total);
        let to_the_end = total.is_none_or(|total| last.checked_add(1) == Some(total));
        let length = (last - first).saturating_add(1);
        let continues = !multipart
            && is_same_version(response, validator)
            && same_total
            && to_the_end
            && first == self.offset
            && response.announced().is_none_or(|announced| announced == length);
        if continues {
            self.part_end = Some(last.saturating_add(1));
            self.total = total;
            self.active.operation().set_total(self.total);
        }
        continues
    }

    /// Begins the body at its first byte, with the given response or a new one, and
    /// determines its format.
    fn start_body(&mut self, response: Option<Response>) -> Result<(), Error> {
        self.head.clear();
        self.head_taken = 0;
        self.body_received = false;
        self.needs_restart |= std::mem::take(&mut self.reader_has_bytes);
        self.offset = 0;
        self.active.operation().set_received(0);
        let mut response = match response {
            Some(response) => response,
            None => self.get(&JSON)?,
        };
        expect_report(&mut response, false)?;
        self.total = response.announced();
        self.part_end = None;
        self.active.operation().set_total(self.total);
        self.validator = response
            .raw_header(ETAG)
            .filter(|_| !response.is_repeated(ETAG))
            // A truncated tag would not identify the version.
            .filter(|tag| tag.len() < VALUE_LIMIT)
            .and_then(|tag| strong_etag(&tag).map(str::to_owned));
        self.request_id = response.request_id();
        self.date = response.header(DATE);
        self.content_type = response.header(CONTENT_TYPE);
        let named = response.filename();
        self.response = Some(response);
        self.sniff_format()?;
        self.filename = named.unwrap_or_else(|| format!("{}.{}", self.request.id(), self.format.extension()));
        self.describe();
        Ok(())
    }

    fn describe(&self) {
        self.active.operation().describe(&Description {
            filename: &self.filename,
            content_type: self.content_type.as_deref(),
            request_id: self.request_id.as_deref(),
            format: self.format,
        });
    }

    /// Reads enough of the body to determine its [`Format`]. If it is an error text,
    /// reads more of it for the error message.
    fn sniff_format(&mut self) -> Result<(), Error> {
        let mut head = Vec::new();
        self.read_head(&mut head, MAGIC, SNIFFED)?;
        if Format::of(&head) == Format::Unknown {
            self.read_head(&mut head, SNIFFED, SNIFFED)?;
            // The bytes after leading white space determine the format.
            while !self.body_received && head.len() < MAX_LEADING_BLANK && trim_body_start(&head).is_empty() {
                let more = head.len() + SNIFFED;
                self.read_head(&mut head, more, more)?;
            }
            let blank = head.len() - trim_body_start(&head).len();
            if (1..MAX_LEADING_BLANK).contains(&blank) {
                self.read_head(&mut head, blank + SNIFFED, blank + SNIFFED)?;
            }
            let only_known = self.request.only_known_formats();
            if let Some(document) = Document::of(&head, self.content_type.as_deref(), only_known) {
                self.call.limit_to_stall_timeout();
                self.read_head(&mut head, ERROR_BODY_LIMIT, ERROR_BODY_LIMIT)?;
                return Err(self.not_a_report(document, &head));
            }
        }
        self.format = Format::of(&head);
        self.head = head;
        Ok(())
    }

    /// Reads the body's first bytes: at least `min` unless the body is shorter, and at
    /// most `max`.
    fn read_head(&mut self, head: &mut Vec<u8>, min: usize, max: usize) -> Result<(), Error> {
        let mut filled = head.len();
        while !self.body_received && filled < min {
            // The buffer grows only when it is full.
            let until = max.min((2 * filled).max(SNIFFED));
            memory::reserve(head, until.saturating_sub(head.len()))?;
            head.resize(until, 0);
            match self.read_response(&mut head[filled..])? {
                0 => self.body_received = true,
                n => filled += n,
            }
            head.truncate(filled);
        }
        Ok(())
    }

    /// Returns the error for a body of status 200 that is not a report.
    fn not_a_report(&self, document: Document, body: &[u8]) -> Error {
        let Some(response) = &self.response else {
            return Error::new(Status::Internal, "the body has no response");
        };
        if document == Document::Json {
            let service_error = match response.service_error(body) {
                Ok(service_error) => service_error,
                Err(e) => return e,
            };
            if service_error.is_error_object {
                return error_object(response, service_error);
            }
        }
        response.with_context(Error::new(Status::UnexpectedResponse, document.explanation()))
    }
}

/// Whether a 206 or 416 can be of the same version of the body: it has at most one ETag and
/// one Content-Range, and the tag is the same. Without a tag the server's answer to
/// If-Range is trusted (RFC 9110, 13.1.5).
fn is_same_version(response: &Response, validator: &str) -> bool {
    !response.is_repeated(ETAG)
        && !response.is_repeated(CONTENT_RANGE)
        && response.raw_header(ETAG).is_none_or(|tag| tag == validator)
}
