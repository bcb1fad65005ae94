//! Faults: misbehaviour that tests request.

use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub(crate) use crate::http::Framing;
use crate::http::{Body, Delivery, Response};
use crate::net::CloseKind;
use crate::report::random;
use crate::request_log::Listener;

/// The report id that matches every report.
pub(crate) const EVERY_REPORT: &str = "*";

/// The names that take the place of a report's id in faults for calls that are not downloads.
pub(crate) const CALLS: [&str; 18] = [
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
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) times: Option<u64>,
    #[serde(default)]
    pub(crate) skip: u64,
    #[serde(default)]
    pub(crate) after_auth: bool,
    #[serde(default)]
    pub(crate) perform: bool,
    #[serde(default = "ok")]
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) body: Option<String>,
    pub(crate) body_base64: Option<String>,
    #[serde(default, deserialize_with = "some_or_null")]
    pub(crate) json: Option<Value>,
    pub(crate) fill: Option<Fill>,
    #[serde(default = "yes")]
    pub(crate) ranges: bool,
    #[serde(default)]
    pub(crate) weak_etag: bool,
    #[serde(default)]
    pub(crate) no_etag: bool,
    pub(crate) content_range: Option<String>,
    #[serde(default)]
    pub(crate) range_shift: i64,
    #[serde(default)]
    pub(crate) framing: Framing,
    pub(crate) content_length: Option<String>,
    pub(crate) extra_content_length: Option<String>,
    pub(crate) cut_after: Option<u64>,
    pub(crate) reset_after: Option<u64>,
    pub(crate) truncate_tls_after: Option<u64>,
    pub(crate) stall_after: Option<u64>,
    pub(crate) cut_random: Option<CutRandom>,
    pub(crate) drip: Option<Drip>,
    #[serde(default)]
    pub(crate) delay_ms: u64,
    #[serde(default)]
    pub(crate) no_answer: bool,
    #[serde(default)]
    pub(crate) close_before_answer: bool,
    #[serde(default)]
    pub(crate) reset_before_answer: bool,
    pub(crate) raw_base64: Option<String>,
    #[serde(default)]
    pub(crate) endless_header: bool,
    #[serde(default)]
    pub(crate) chunked_no_end: bool,
    #[serde(default)]
    pub(crate) gzip: bool,
}

/// A body of one byte repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fill {
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) byte: u8,
}

/// A slow body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drip {
    pub(crate) bytes: u64,
    pub(crate) every_ms: u64,
}

/// An end after a number of bytes that depends on the seed and on how often the fault was used
/// before, and on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CutRandom {
    pub(crate) seed: u64,
    pub(crate) least: u64,
    pub(crate) most: u64,
    #[serde(default)]
    pub(crate) kind: CutKind,
}

/// How a [`CutRandom`] ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CutKind {
    Cut,
    Reset,
    #[default]
    Any,
}

impl CutRandom {
    fn check(&self) -> Result<(), String> {
        if self.least > self.most {
            return Err("cut_random.least must not exceed most".to_owned());
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

fn ok() -> u16 {
    200
}

fn yes() -> bool {
    true
}

/// An explicit null is a body too.
fn some_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Fault {
    /// One that does no harm.
    pub(crate) fn none() -> Self {
        match Fault::from_json(serde_json::json!({})) {
            Ok(fault) => fault,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads a fault from JSON and checks it.
    pub(crate) fn from_json(value: Value) -> Result<Self, String> {
        let fault: Fault = serde_json::from_value(value).map_err(|error| error.to_string())?;
        fault.check()?;
        Ok(fault)
    }

    /// Refuses what cannot be done at once, or not at all.
    pub(crate) fn check(&self) -> Result<(), String> {
        let at_most_one = |given: &[(&str, bool)]| {
            let given: Vec<&str> = given.iter().filter(|one| one.1).map(|one| one.0).collect();
            match given.len() {
                0 | 1 => Ok(()),
                _ => Err(format!("only one of {} at once", given.join(", "))),
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
            return Err("times must be at least 1".to_owned());
        }
        if !(100..=999).contains(&self.status) {
            return Err("status must have three digits".to_owned());
        }
        if self.drip.is_some_and(|drip| drip.bytes == 0) {
            return Err("drip.bytes must be at least 1".to_owned());
        }
        for (name, text) in [
            ("body_base64", &self.body_base64),
            ("raw_base64", &self.raw_base64),
        ] {
            if let Some(text) = text {
                STANDARD
                    .decode(text)
                    .map_err(|error| format!("{name}: {error}"))?;
            }
        }
        Ok(())
    }

    /// Refuses also what does not suit the requests it would wait for.
    pub(crate) fn check_for(&self, report: &str) -> Result<(), String> {
        self.check()?;
        if !report.starts_with('@') {
            let perform = "perform: a download does nothing but answer".to_owned();
            return if self.perform { Err(perform) } else { Ok(()) };
        }
        if !CALLS.contains(&report) {
            return Err(format!("report: there is no call {report}"));
        }
        match self.first_report_field() {
            Some(name) => Err(format!("{name}: only for a report's own bytes")),
            None => Ok(()),
        }
    }

    /// These fields shape the response that carries the report's own bytes.
    fn check_ranges(&self) -> Result<(), String> {
        if self.weak_etag && self.no_etag {
            return Err("only one of weak_etag, no_etag at once".to_owned());
        }
        if let Some(name) = self.first_range_field()
            && (self.gzip || !self.ranges)
        {
            let message = format!("{name}: Range is ignored because of ranges false or gzip");
            return Err(message);
        }
        if let Some(name) = self.first_report_field()
            && !self.sends_report()
        {
            return Err(format!("{name}: the report's own bytes are not sent"));
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListenerMode {
    HandshakeStall,
    AcceptClose,
    ProxyAuth,
}

/// A fault of a listener: it strikes before any request is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerFault {
    pub(crate) listener: Listener,
    pub(crate) mode: ListenerMode,
    #[serde(default)]
    pub(crate) times: Option<u64>,
}

impl ListenerFault {
    /// Refuses what cannot be done.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.times == Some(0) {
            return Err("times must be at least 1".to_owned());
        }
        if self.mode == ListenerMode::ProxyAuth && self.listener != Listener::Proxy {
            return Err("proxy_auth: only for the listener proxy".to_owned());
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
