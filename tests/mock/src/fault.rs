//! Faults: misbehaviour that tests request.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use crate::http::Framing;
use crate::http::{Body, Delivery, Response};
use crate::net::CloseKind;
use crate::report::random;
use crate::request_log::Listener;

/// The report id that matches every report.
pub const EVERY_REPORT: &str = "*";

/// The names that take the place of a report's id in faults for calls that are not downloads.
pub const CALLS: [&str; 18] = [
    "@iam.tokens",
    "@iam.projects",
    "@iam.auth_projects",
    "@iam.domains",
    "@iam.id_token",
    "@iam.keys",
    "@sts.oidc",
    "@pod.key",
    "@metadata.token",
    "@metadata.key",
    "@instances",
    "@reports.list",
    "@reports.create",
    "@reports.delete",
    "@templates",
    "@databases",
    "@schedule.show",
    "@schedule.set",
];

/// What to do instead of, or to, the response to a request for a report.
///
/// The default is no harm at all: the report's own bytes with status 200, whoever asks; for a
/// call that is not a download, the response it gets anyway. The fields have the same names in the
/// JSON of the control address, where each may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// How many matching requests it applies to before it is gone; `None`: without limit.
    pub times: Option<u64>,
    /// How many matching requests it skips first.
    pub skip: u64,
    /// Authentication is checked first, and a request refused there does not use the fault up.
    pub after_auth: bool,
    /// Do what the request asks for, as if there were no fault, and only then answer as the fault
    /// says. Not for downloads.
    pub perform: bool,
    /// The status. Only with 200 and none of the bodies below are the report's bytes sent: all
    /// of them, or with 206 the part that `Range` asks for.
    pub status: u16,
    /// The reason phrase in place of the usual one.
    pub reason: Option<String>,
    /// Headers to add. A name given here replaces the default header of that name; with no value
    /// it removes it.
    pub headers: Vec<(String, Option<String>)>,
    /// A body of text.
    pub body: Option<String>,
    /// A body of bytes, in base64.
    pub body_base64: Option<String>,
    /// A body of JSON, sent as `application/json`.
    #[serde(deserialize_with = "some_or_null")]
    pub json: Option<Value>,
    /// A body of one byte repeated, generated as it is sent.
    pub fill: Option<Fill>,
    /// Whether `Range` is honoured: else the report is sent whole with 200.
    pub ranges: bool,
    /// Send a weak `ETag`, which `If-Range` never matches.
    pub weak_etag: bool,
    /// Send no `ETag`, so that `If-Range` never matches.
    pub no_etag: bool,
    /// The value of `Content-Range` in place of the true one, in a 206.
    pub content_range: Option<String>,
    /// How many bytes after the first one asked for a 206 really starts; past the report's end it
    /// goes on at its beginning.
    pub range_shift: i64,
    /// How the end of the body is marked.
    pub framing: Framing,
    /// The value of `Content-Length` in place of the true one, whatever it is.
    pub content_length: Option<String>,
    /// The value of a second `Content-Length` line.
    pub extra_content_length: Option<String>,
    /// Close orderly after this many bytes of the body. This and every other number of
    /// bytes counts those of one response, which for a 206 are those of the part.
    pub cut_after: Option<u64>,
    /// Reset after this many bytes of the body; all of them arrive first.
    pub reset_after: Option<u64>,
    /// End the TCP connection without the `close_notify` of TLS after this many bytes of the body.
    pub truncate_tls_after: Option<u64>,
    /// Fall silent after this many bytes of the body, until the client closes.
    pub stall_after: Option<u64>,
    /// End after a number of bytes of the body that looks random.
    pub cut_random: Option<CutRandom>,
    /// Send the body slowly.
    pub drip: Option<Drip>,
    /// Wait this long before the status line.
    pub delay_ms: u64,
    /// Say nothing until the client closes.
    pub no_answer: bool,
    /// Close without a byte.
    pub close_before_answer: bool,
    /// Reset without a byte.
    pub reset_before_answer: bool,
    /// Bytes, in base64, to send in place of any response; then close.
    pub raw_base64: Option<String>,
    /// Send header lines until the client closes, 64 MiB at most.
    pub endless_header: bool,
    /// Chunks, but not the last one; then close.
    pub chunked_no_end: bool,
    /// Compress the body and say so; `Range` is ignored. The compressed body is held in memory.
    pub gzip: bool,
}

/// A body of one byte repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// How many bytes.
    pub size: u64,
    /// Which byte; 0 when left out.
    #[serde(default)]
    pub byte: u8,
}

/// A slow body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    /// How many bytes at once, at least 1.
    pub bytes: u64,
    /// How long to wait between two pieces.
    pub every_ms: u64,
}

/// An end after a number of bytes that depends on the seed and on how often the fault was used
/// before, and on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutRandom {
    /// Tells one sequence of numbers from another.
    pub seed: u64,
    /// The smallest number of bytes.
    pub least: u64,
    /// The largest number of bytes; a body that is no longer than the number drawn is sent whole
    /// before the end comes.
    pub most: u64,
    /// How the connection ends.
    #[serde(default)]
    pub kind: CutKind,
}

/// How a [`CutRandom`] ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutKind {
    /// As with [`Fault::cut_after`].
    Cut,
    /// As with [`Fault::reset_after`].
    Reset,
    /// Now the one, now the other.
    #[default]
    Any,
}

impl CutRandom {
    fn check(&self) -> Result<(), InvalidFault> {
        if self.least > self.most {
            return Err(InvalidFault("cut_random.least must not exceed most".to_owned()));
        }
        Ok(())
    }

    /// The end of the use after `used` others.
    fn draw(&self, used: u64) -> (u64, CutKind) {
        let drawn = random(self.seed, used);
        let span = self.most.saturating_sub(self.least);
        let bytes = match span.checked_add(1) {
            Some(count) => self.least + drawn % count,
            None => drawn,
        };
        // Of a number of its own, or the kind would hang on the bytes.
        let kind = match self.kind {
            CutKind::Any if random(drawn, used).is_multiple_of(2) => CutKind::Cut,
            CutKind::Any => CutKind::Reset,
            kind => kind,
        };
        (bytes, kind)
    }
}

/// Why a fault is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidFault(pub(crate) String);

impl fmt::Display for InvalidFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidFault {}

/// An explicit null is a body too.
fn some_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Default for Fault {
    fn default() -> Self {
        Fault {
            times: None,
            skip: 0,
            after_auth: false,
            perform: false,
            status: 200,
            reason: None,
            headers: Vec::new(),
            body: None,
            body_base64: None,
            json: None,
            fill: None,
            ranges: true,
            weak_etag: false,
            no_etag: false,
            content_range: None,
            range_shift: 0,
            framing: Framing::Length,
            content_length: None,
            extra_content_length: None,
            cut_after: None,
            reset_after: None,
            truncate_tls_after: None,
            stall_after: None,
            cut_random: None,
            drip: None,
            delay_ms: 0,
            no_answer: false,
            close_before_answer: false,
            reset_before_answer: false,
            raw_base64: None,
            endless_header: false,
            chunked_no_end: false,
            gzip: false,
        }
    }
}

impl Fault {
    /// An empty response with this status.
    pub fn response(status: u16) -> Self {
        Fault {
            status,
            ..Fault::default()
        }
    }

    /// A response with this status and a body of JSON.
    pub fn response_json(status: u16, json: Value) -> Self {
        Fault {
            json: Some(json),
            ..Fault::response(status)
        }
    }

    /// A response with this status and a body of text.
    pub fn response_text(status: u16, body: impl Into<String>) -> Self {
        Fault {
            body: Some(body.into()),
            ..Fault::response(status)
        }
    }

    /// A response sent as these bytes, whatever they are.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Fault {
            raw_base64: Some(STANDARD.encode(bytes)),
            ..Fault::default()
        }
    }

    /// The same fault with one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// The same fault without the default header of this name.
    #[must_use]
    pub fn without_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// The same fault after it has left this many matching requests alone.
    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// The same fault for the next matching request only.
    #[must_use]
    pub fn once(self) -> Self {
        self.next(1)
    }

    /// The same fault for the next `times` matching requests only.
    #[must_use]
    pub fn next(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Reads a fault from JSON and checks it.
    pub fn from_json(value: Value) -> Result<Self, InvalidFault> {
        let fault: Fault = serde_json::from_value(value).map_err(|error| InvalidFault(error.to_string()))?;
        fault.check()?;
        Ok(fault)
    }

    /// Refuses what cannot be done at once, or not at all.
    pub fn check(&self) -> Result<(), InvalidFault> {
        let at_most_one = |given: &[(&str, bool)]| {
            let given: Vec<&str> = given.iter().filter(|one| one.1).map(|one| one.0).collect();
            match given.len() {
                0 | 1 => Ok(()),
                _ => Err(InvalidFault(format!("only one of {} at once", given.join(", ")))),
            }
        };
        at_most_one(&[
            ("body", self.body.is_some()),
            ("body_base64", self.body_base64.is_some()),
            ("json", self.json.is_some()),
            ("fill", self.fill.is_some()),
        ])?;
        at_most_one(&[
            ("cut_after", self.cut_after.is_some()),
            ("reset_after", self.reset_after.is_some()),
            ("truncate_tls_after", self.truncate_tls_after.is_some()),
            ("stall_after", self.stall_after.is_some()),
            ("cut_random", self.cut_random.is_some()),
            ("no_answer", self.no_answer),
            ("close_before_answer", self.close_before_answer),
            ("reset_before_answer", self.reset_before_answer),
            ("raw_base64", self.raw_base64.is_some()),
            ("endless_header", self.endless_header),
            ("chunked_no_end", self.chunked_no_end),
        ])?;
        at_most_one(&[
            ("framing close", self.framing == Framing::Close),
            ("chunked_no_end", self.chunked_no_end),
        ])?;
        self.check_ranges()?;
        self.cut_random.map_or(Ok(()), |cut| cut.check())?;
        if self.times == Some(0) {
            return Err(InvalidFault("times must be at least 1".to_owned()));
        }
        if !(100..=999).contains(&self.status) {
            return Err(InvalidFault("status must have three digits".to_owned()));
        }
        if self.drip.is_some_and(|drip| drip.bytes == 0) {
            return Err(InvalidFault("drip.bytes must be at least 1".to_owned()));
        }
        for (name, text) in [
            ("body_base64", &self.body_base64),
            ("raw_base64", &self.raw_base64),
        ] {
            if let Some(text) = text {
                STANDARD
                    .decode(text)
                    .map_err(|error| InvalidFault(format!("{name}: {error}")))?;
            }
        }
        Ok(())
    }

    /// Refuses also what does not suit the requests it would wait for.
    pub(crate) fn check_for(&self, report: &str) -> Result<(), InvalidFault> {
        self.check()?;
        if !report.starts_with('@') {
            let perform = "perform: a download does nothing but answer".to_owned();
            return if self.perform {
                Err(InvalidFault(perform))
            } else {
                Ok(())
            };
        }
        if !CALLS.contains(&report) {
            return Err(InvalidFault(format!("report: there is no call {report}")));
        }
        match self.first_report_field() {
            Some(name) => Err(InvalidFault(format!("{name}: only for a report's own bytes"))),
            None => Ok(()),
        }
    }

    /// These fields shape the response that carries the report's own bytes.
    fn check_ranges(&self) -> Result<(), InvalidFault> {
        if self.weak_etag && self.no_etag {
            return Err(InvalidFault("only one of weak_etag, no_etag at once".to_owned()));
        }
        if let Some(name) = self.first_range_field()
            && (self.gzip || !self.ranges)
        {
            let message = format!("{name}: Range is ignored because of ranges false or gzip");
            return Err(InvalidFault(message));
        }
        if let Some(name) = self.first_report_field()
            && !self.sends_report()
        {
            return Err(InvalidFault(format!(
                "{name}: the report's own bytes are not sent"
            )));
        }
        Ok(())
    }

    /// The first field given that shapes a part of a report.
    fn first_range_field(&self) -> Option<&'static str> {
        if self.content_range.is_some() {
            return Some("content_range");
        }
        (self.range_shift != 0).then_some("range_shift")
    }

    /// The first field given that shapes a report, or a part of it.
    fn first_report_field(&self) -> Option<&'static str> {
        let whole = [
            ("weak_etag", self.weak_etag),
            ("no_etag", self.no_etag),
            ("ranges false", !self.ranges),
        ];
        let of_whole = || whole.iter().find(|one| one.1).map(|one| one.0);
        self.first_range_field().or_else(of_whole)
    }

    fn sends_report(&self) -> bool {
        self.status == 200
            && self.body.is_none()
            && self.body_base64.is_none()
            && self.json.is_none()
            && self.fill.is_none()
            && self.raw_base64.is_none()
            && !self.no_answer
            && !self.close_before_answer
            && !self.reset_before_answer
            && !self.endless_header
    }

    /// The fault with nothing left to chance, for the use after `used` others.
    fn resolved(mut self, used: u64) -> Self {
        if let Some(cut) = self.cut_random.take() {
            let (bytes, kind) = cut.draw(used);
            match kind {
                CutKind::Reset => self.reset_after = Some(bytes),
                _ => self.cut_after = Some(bytes),
            }
        }
        self
    }

    /// What to do; `own` makes the response that carries the report's own bytes, or of another call
    /// the ordinary one.
    pub(crate) fn script(&self, own: impl FnOnce() -> Response) -> Script {
        let act = if self.no_answer {
            Action::End(CloseKind::Stall)
        } else if self.close_before_answer {
            Action::End(CloseKind::Close)
        } else if self.reset_before_answer {
            Action::End(CloseKind::Reset)
        } else if let Some(raw) = &self.raw_base64 {
            Action::Raw(STANDARD.decode(raw).unwrap_or_default())
        } else if self.endless_header {
            Action::EndlessHeader
        } else {
            Action::Response(Box::new((self.shape(own), self.delivery())))
        };
        Script {
            delay: Duration::from_millis(self.delay_ms),
            act,
        }
    }

    fn shape(&self, own: impl FnOnce() -> Response) -> Response {
        let new = || Response::new(self.status);
        let bytes =
            |kind: &str, bytes: Vec<u8>| new().header("Content-Type", kind).with_body(Body::Bytes(bytes));
        let mut response = if let Some(text) = &self.body {
            bytes("text/plain; charset=utf-8", text.clone().into_bytes())
        } else if let Some(text) = &self.body_base64 {
            let decoded = STANDARD.decode(text).unwrap_or_default();
            bytes("application/octet-stream", decoded)
        } else if let Some(json) = &self.json {
            new().with_json(json)
        } else if let Some(Fill { size, byte }) = self.fill {
            new()
                .header("Content-Type", "application/octet-stream")
                .with_body(Body::Fill { size, byte })
        } else if self.status == 200 {
            own()
        } else {
            new()
        };
        if self.gzip {
            response = compressed(response);
        }
        response.reason = self.reason.clone();
        response
    }

    fn delivery(&self) -> Delivery {
        let endings = [
            (self.cut_after, CloseKind::Close),
            (self.reset_after, CloseKind::Reset),
            (self.truncate_tls_after, CloseKind::Truncate),
            (self.stall_after, CloseKind::Stall),
        ];
        Delivery {
            framing: if self.chunked_no_end {
                Framing::Chunked
            } else {
                self.framing
            },
            headers: self.headers.clone(),
            content_length: self.content_length.clone(),
            extra_content_length: self.extra_content_length.clone(),
            ending: endings
                .into_iter()
                .find_map(|(after, ending)| Some((after?, ending))),
            drip: self
                .drip
                .map(|drip| (drip.bytes, Duration::from_millis(drip.every_ms))),
            no_last_chunk: self.chunked_no_end,
            close: false,
        }
    }
}

fn compressed(response: Response) -> Response {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = response
        .body
        .for_each(|piece| encoder.write_all(piece))
        .and_then(|()| encoder.finish());
    match packed {
        Ok(packed) => response
            .header("Content-Encoding", "gzip")
            .with_body(Body::Bytes(packed)),
        // Writing to memory does not fail.
        Err(_) => response,
    }
}

/// What happens after a request was read.
pub(crate) struct Script {
    pub(crate) delay: Duration,
    pub(crate) act: Action,
}

impl From<Response> for Script {
    /// The response, and nothing done to it.
    fn from(response: Response) -> Self {
        Script {
            delay: Duration::ZERO,
            act: Action::Response(Box::new((response, Delivery::default()))),
        }
    }
}

pub(crate) enum Action {
    Response(Box<(Response, Delivery)>),
    Raw(Vec<u8>),
    EndlessHeader,
    End(CloseKind),
}

/// Counts one use; true when it was the last.
fn used_up(times: &mut Option<u64>) -> bool {
    if let Some(times) = times {
        *times = times.saturating_sub(1);
    }
    *times == Some(0)
}

/// The faults in the order they were set, by the report they wait for.
#[derive(Default)]
pub(crate) struct Faults {
    queue: Vec<Waiting>,
}

struct Waiting {
    report: String,
    fault: Fault,
    used: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, report: String, fault: Fault) {
        self.queue.push(Waiting {
            report,
            fault,
            used: 0,
        });
    }

    pub(crate) fn clear(&mut self, report: Option<&str>) {
        self.queue
            .retain(|waiting| report.is_some_and(|report| report != waiting.report));
    }

    /// The first fault that waits for this report, or else for every report; with the name of a
    /// call that is no download, for that call alone.
    pub(crate) fn take(&mut self, report: &str, authorised: impl FnOnce() -> bool) -> Option<Fault> {
        let find = |id: &str| self.queue.iter().position(|waiting| waiting.report == id);
        let every = || find(EVERY_REPORT).filter(|_| !CALLS.contains(&report));
        let at = find(report).or_else(every)?;
        let Waiting { fault, used, .. } = &mut self.queue[at];
        if fault.after_auth && !authorised() {
            return None;
        }
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        let taken = fault.clone().resolved(*used);
        *used += 1;
        if used_up(&mut fault.times) {
            self.queue.remove(at);
        }
        Some(taken)
    }
}

/// What a listener does to the connections it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerMode {
    /// Accept and never speak, not even the TLS handshake.
    HandshakeStall,
    /// Accept and close at once.
    AcceptClose,
    /// The proxy demands [`PROXY_USER`](crate::PROXY_USER) and
    /// [`PROXY_PASSWORD`](crate::PROXY_PASSWORD).
    ProxyAuth,
}

/// A fault of a listener: it strikes before any request is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerFault {
    /// Which listener.
    pub listener: Listener,
    /// What it does.
    pub mode: ListenerMode,
    /// For how many connections; `None`: without limit.
    #[serde(default)]
    pub times: Option<u64>,
}

impl ListenerFault {
    /// Refuses what cannot be done.
    pub fn check(&self) -> Result<(), InvalidFault> {
        if self.times == Some(0) {
            return Err(InvalidFault("times must be at least 1".to_owned()));
        }
        if self.mode == ListenerMode::ProxyAuth && self.listener != Listener::Proxy {
            return Err(InvalidFault("proxy_auth: only for the listener proxy".to_owned()));
        }
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct ListenerFaults {
    queue: Vec<ListenerFault>,
}

impl ListenerFaults {
    pub(crate) fn add(&mut self, fault: ListenerFault) {
        self.queue.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(crate) fn take(&mut self, listener: Listener) -> Option<ListenerMode> {
        let at = self.queue.iter().position(|fault| fault.listener == listener)?;
        let fault = &mut self.queue[at];
        let mode = fault.mode;
        if used_up(&mut fault.times) {
            self.queue.remove(at);
        }
        Some(mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empty_json_equals_default_fault() {
        assert_eq!(Fault::from_json(json!({})).unwrap(), Fault::default());
        let fault = Fault::from_json(json!({
            "times": 2, "status": 503, "json": null,
            "headers": [["Retry-After", "1"], ["X-Request-Id", null]],
        }))
        .unwrap();
        let built = Fault::response_json(503, Value::Null)
            .header("Retry-After", "1")
            .without_header("X-Request-Id")
            .next(2);
        assert_eq!(fault, built);
    }

    #[test]
    fn errors_name_the_cause() {
        let wrong = |value: Value| Fault::from_json(value).unwrap_err().0;
        assert!(wrong(json!({"cut_afer": 1})).contains("cut_afer"));
        assert!(wrong(json!({"cut_after": 1, "stall_after": 2})).contains("cut_after, stall_after"));
        assert!(wrong(json!({"body": "", "fill": {"size": 1}})).contains("body, fill"));
        assert!(wrong(json!({"raw_base64": "?"})).contains("raw_base64"));
        assert!(wrong(json!({"times": 0})).contains("times"));
        assert!(wrong(json!({"framing": "none"})).contains("none"));
        let cut = |least: u64, kind: &str| json!({"seed": 1, "least": least, "most": 5, "kind": kind});
        assert!(wrong(json!({"cut_random": cut(6, "cut")})).contains("least"));
        assert!(wrong(json!({"cut_random": cut(1, "bite")})).contains("bite"));
        assert!(
            wrong(json!({"cut_random": cut(1, "any"), "cut_after": 1})).contains("cut_after, cut_random")
        );
        assert!(wrong(json!({"weak_etag": true, "no_etag": true})).contains("weak_etag, no_etag"));
        assert!(wrong(json!({"ranges": false, "range_shift": 1})).contains("range_shift"));
        assert!(wrong(json!({"gzip": true, "content_range": "x"})).contains("content_range"));
        assert!(wrong(json!({"status": 206, "content_range": "x"})).contains("content_range"));
        assert!(wrong(json!({"body": "", "no_etag": true})).contains("no_etag"));
        assert!(wrong(json!({"no_answer": true, "ranges": false})).contains("ranges"));
        assert!(wrong(json!({"skip": -1})).contains("-1"));
    }

    #[test]
    fn faults_apply_in_order_until_used_up() {
        let mut faults = Faults::default();
        faults.add("a".to_owned(), Fault::response(500).next(2));
        faults.add("a".to_owned(), Fault::response(502).once());
        faults.add(EVERY_REPORT.to_owned(), Fault::response(503).once());
        let mut next = |id: &str| faults.take(id, || true).map(|fault| fault.status);
        assert_eq!(next("a"), Some(500));
        assert_eq!(next("b"), Some(503));
        assert_eq!(next("b"), None);
        assert_eq!(next("a"), Some(500));
        assert_eq!(next("a"), Some(502));
        assert_eq!(next("a"), None);
    }

    #[test]
    fn skipped_requests_are_not_counted() {
        let mut faults = Faults::default();
        faults.add("a".to_owned(), Fault::response(500).after(2).next(2));
        faults.add(EVERY_REPORT.to_owned(), Fault::response(503));
        let mut next = || faults.take("a", || true).map(|fault| fault.status);
        let statuses: Vec<_> = (0..5).map(|_| next()).collect();
        assert_eq!(statuses, [None, None, Some(500), Some(500), Some(503)]);
    }

    #[test]
    fn random_cuts_are_reproducible_and_bounded() {
        let ends = |seed: u64, kind: &str| {
            let cut = json!({"seed": seed, "least": 10, "most": 30, "kind": kind});
            let mut faults = Faults::default();
            let fault = Fault::from_json(json!({"cut_random": cut, "times": 200})).unwrap();
            faults.add("a".to_owned(), fault);
            let ends: Vec<_> = std::iter::from_fn(|| faults.take("a", || true))
                .map(|fault| (fault.cut_after, fault.reset_after))
                .collect();
            assert_eq!(ends.len(), 200);
            assert!(ends.iter().all(|end| {
                end.0.is_some() != end.1.is_some() && (10..=30).contains(&end.0.or(end.1).unwrap())
            }));
            ends
        };
        let any = ends(1, "any");
        assert_eq!(any, ends(1, "any"));
        assert_ne!(any, ends(2, "any"));
        for bytes in 10..=30 {
            assert!(any.iter().any(|end| end.0.or(end.1) == Some(bytes)), "{bytes}");
        }
        let cuts = any.iter().filter(|end| end.0.is_some()).count();
        assert!((50..150).contains(&cuts), "{cuts}");
        assert!(ends(1, "cut").iter().all(|end| end.0.is_some()));
        assert!(ends(1, "reset").iter().all(|end| end.1.is_some()));
        let widest = CutRandom {
            seed: 1,
            least: 0,
            most: u64::MAX,
            kind: CutKind::Cut,
        };
        assert_ne!(widest.draw(0), widest.draw(1));
    }

    #[test]
    fn refused_request_does_not_consume_fault() {
        let mut faults = Faults::default();
        let fault = Fault {
            after_auth: true,
            ..Fault::response(500).once()
        };
        faults.add("a".to_owned(), fault);
        assert!(faults.take("a", || false).is_none());
        assert!(faults.take("a", || true).is_some());
    }
}
