//! Faults: misbehaviour that tests request.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use crate::calls;
use crate::content::random;
use crate::http::{Body, Response};
use crate::net::CloseKind;
use crate::request_log::Listener;

/// The report id that matches every report.
const EVERY_REPORT: &str = "*";

/// What to do instead of, or to, the response to a request for a report.
///
/// The default is no harm at all: the report's own bytes with status 200, whoever asks; for a
/// call that is not a download, the response it gets anyway. The fields have the same names in the
/// JSON of the control address, where each may be left out.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fault {
    report: String,
    times: Option<u64>,
    skip: u64,
    pub(crate) perform: bool,
    status: Option<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
    body: Option<String>,
    #[serde(deserialize_with = "base64")]
    body_base64: Option<Vec<u8>>,
    json: Option<Value>,
    fill: Option<Fill>,
    pub(crate) ranges: Option<bool>,
    pub(crate) weak_etag: bool,
    pub(crate) no_etag: bool,
    pub(crate) content_range: Option<String>,
    framing: Framing,
    pub(crate) content_length: Option<String>,
    pub(crate) extra_content_length: Option<String>,
    cut_after: Option<u64>,
    reset_after: Option<u64>,
    truncate_tls_after: Option<u64>,
    stall_after: Option<u64>,
    cut_random: Option<CutRandom>,
    pub(crate) drip: Option<Drip>,
    pub(crate) delay_ms: u64,
    /// How often all faults had been removed when this one was taken.
    #[serde(skip)]
    pub(crate) removals: u64,
    no_response: bool,
    close_before_response: bool,
    reset_before_response: bool,
    #[serde(deserialize_with = "base64")]
    raw_base64: Option<Vec<u8>>,
    endless_header: bool,
    pub(crate) chunked_no_end: bool,
    pub(crate) gzip: bool,
}

/// How the end of a body is marked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Framing {
    #[default]
    Length,
    Chunked,
    /// Only by the end of the connection.
    Close,
}

/// A body of one byte repeated.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fill {
    pub(crate) size: u64,
    pub(crate) byte: u8,
}

/// A slow body.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drip {
    pub(crate) bytes: u64,
    pub(crate) every_ms: u64,
}

/// An end, now with FIN and now with RST, after a number of bytes that depends on the seed and on
/// how often the fault was used before, and on nothing else.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct CutRandom {
    seed: u64,
    least: u64,
    most: u64,
}

/// What there is in place of a response.
pub(crate) enum Instead {
    End(CloseKind),
    Raw(Vec<u8>),
    EndlessHeader,
}

fn base64<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    text.map(|text| STANDARD.decode(text))
        .transpose()
        .map_err(D::Error::custom)
}

impl Fault {
    /// Refuses what cannot be done at once, or not at all.
    fn check(&self) -> Result<(), String> {
        let at_most_one = |names: &str, given: &[bool]| match given.iter().filter(|given| **given).count() {
            0 | 1 => Ok(()),
            _ => Err(format!("only one of {names} at once")),
        };
        let bodies = [
            self.body.is_some(),
            self.body_base64.is_some(),
            self.json.is_some(),
            self.fill.is_some(),
        ];
        at_most_one("body, body_base64, json and fill", &bodies)?;
        let ends = [
            self.ending().is_some(),
            self.cut_random.is_some(),
            self.instead().is_some(),
            self.chunked_no_end,
        ];
        at_most_one("the ends", &ends)?;
        let afters = [
            self.cut_after,
            self.reset_after,
            self.truncate_tls_after,
            self.stall_after,
        ];
        at_most_one("cut_after to stall_after", &afters.map(|after| after.is_some()))?;
        if self.report.is_empty() || self.report.starts_with('@') && !calls::is_call(&self.report) {
            return Err(format!("report: there is no call {}", self.report));
        }
        if self.times == Some(0) || self.drip.is_some_and(|drip| drip.bytes == 0) {
            return Err("times and drip.bytes must be at least 1".to_owned());
        }
        if self.cut_random.is_some_and(|cut| cut.least > cut.most) {
            return Err("cut_random.least must not exceed most".to_owned());
        }
        Ok(())
    }

    /// With nothing left to chance, for the use after `used` others.
    fn resolved(mut self, used: u64) -> Self {
        if let Some(cut) = self.cut_random.take() {
            let drawn = random(cut.seed, used);
            let bytes = Some(cut.least + drawn % (cut.most - cut.least).saturating_add(1));
            // Of a number of its own, or the kind of end would hang on the bytes.
            match random(drawn, used).is_multiple_of(2) {
                true => self.cut_after = bytes,
                false => self.reset_after = bytes,
            }
        }
        self
    }

    pub(crate) fn framing(&self) -> Framing {
        if self.chunked_no_end {
            Framing::Chunked
        } else {
            self.framing
        }
    }

    pub(crate) fn has_header(&self, name: &str) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|header| header.0.eq_ignore_ascii_case(name))
    }

    /// Whether the client can tell where the next response starts.
    pub(crate) fn end_is_certain(&self) -> bool {
        let framing = ["Content-Length", "Transfer-Encoding", "Connection"];
        !self.chunked_no_end
            && self.content_length.is_none()
            && self.extra_content_length.is_none()
            && !framing.iter().any(|name| self.has_header(name))
    }

    /// After how many bytes of the body the connection ends, and how.
    pub(crate) fn ending(&self) -> Option<(u64, CloseKind)> {
        let endings = [
            (self.cut_after, CloseKind::Close),
            (self.reset_after, CloseKind::Reset),
            (self.truncate_tls_after, CloseKind::Truncate),
            (self.stall_after, CloseKind::Stall),
        ];
        endings
            .into_iter()
            .find_map(|(after, ending)| Some((after?, ending)))
    }

    pub(crate) fn instead(&self) -> Option<Instead> {
        let ends = [
            (self.no_response, CloseKind::Stall),
            (self.close_before_response, CloseKind::Close),
            (self.reset_before_response, CloseKind::Reset),
        ];
        let end = ends.into_iter().find(|end| end.0).map(|end| Instead::End(end.1));
        let raw = || self.raw_base64.clone().map(Instead::Raw);
        end.or_else(raw)
            .or_else(|| self.endless_header.then_some(Instead::EndlessHeader))
    }

    /// The response; `own` makes the one that carries the report's own bytes, or of another call
    /// the ordinary one.
    pub(crate) fn response(&self, own: impl FnOnce() -> Response) -> Response {
        let status = self.status.unwrap_or(200);
        let new = || Response::new(status);
        let mut response = if let Some(text) = &self.body {
            new().with_bytes("text/plain; charset=utf-8", &**text)
        } else if let Some(bytes) = &self.body_base64 {
            new().with_bytes("application/octet-stream", &**bytes)
        } else if let Some(json) = &self.json {
            new().with_json(json)
        } else if let Some(fill) = self.fill {
            new()
                .with_bytes("application/octet-stream", "")
                .with_body(Body::Fill(fill))
        } else if status == 200 {
            own()
        } else {
            new()
        };
        if self.gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            let whole = response.body.for_each(|piece| encoder.write_all(piece));
            // Writing to memory does not fail.
            let packed = whole.and_then(|()| encoder.finish()).unwrap_or_default();
            response = response
                .header("Content-Encoding", "gzip")
                .with_body(Body::Bytes(packed));
        }
        response
    }
}

/// Counts one use; true when it was the last.
fn used_up(times: &mut Option<u64>) -> bool {
    if let Some(times) = times {
        *times = times.saturating_sub(1);
    }
    *times == Some(0)
}

/// The faults in the order they were set, each with how often it was used.
#[derive(Default)]
pub(crate) struct Faults {
    list: Vec<(Fault, u64)>,
    removals: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), String> {
        fault.check()?;
        self.list.push((fault, 0));
        Ok(())
    }

    pub(crate) fn clear(&mut self, report: Option<&str>) {
        self.removals += u64::from(report.is_none());
        self.list
            .retain(|(fault, _)| report.is_some_and(|report| report != fault.report));
    }

    /// Whether the delay of a fault still counts.
    pub(crate) fn delays(&self, fault: &Fault) -> bool {
        self.removals == fault.removals
    }

    /// The first fault that waits for this report, or else for every report; with the name of a
    /// call that is no download, for that call alone.
    pub(crate) fn take(&mut self, report: &str) -> Option<Fault> {
        let find = |id: &str| self.list.iter().position(|(fault, _)| fault.report == id);
        let every = || find(EVERY_REPORT).filter(|_| !report.starts_with('@'));
        let at = find(report).or_else(every)?;
        let (fault, used) = &mut self.list[at];
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.removals = self.removals;
        let taken = fault.clone().resolved(*used);
        *used += 1;
        if used_up(&mut fault.times) {
            self.list.remove(at);
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
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerFault {
    listener: Listener,
    mode: ListenerMode,
    times: Option<u64>,
}

#[derive(Default)]
pub(crate) struct ListenerFaults(Vec<ListenerFault>);

impl ListenerFaults {
    pub(crate) fn add(&mut self, fault: ListenerFault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn take(&mut self, listener: Listener) -> Option<ListenerMode> {
        let at = self.0.iter().position(|fault| fault.listener == listener)?;
        let fault = &mut self.0[at];
        let mode = fault.mode;
        if used_up(&mut fault.times) {
            self.0.remove(at);
        }
        Some(mode)
    }
}
