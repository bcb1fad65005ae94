//! A hand-written HTTP/1.1 server, which can break every rule of the protocol.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::fault::{Fault, Fill, Framing};
use crate::net::{CloseKind, Stop, Transport};
use crate::report::{Locale, ReportInfo};
use crate::request_log::Sent;

/// The documented limits of the gateway: all headers; one of them, or the URL; the body.
const HEAD_LIMIT: usize = 128 * 1024;
const LINE_LIMIT: usize = 32 * 1024;
const HEADER_LIMIT: usize = 1024;
const GATEWAY_BODY_LIMIT: usize = 12 * 1024 * 1024;
/// The limit of bodies at the control address, and of all that is read.
const BODY_LIMIT: usize = 64 * 1024 * 1024;
const BUFFER: usize = 64 * 1024;
const ENDLESS_LIMIT: usize = 64 * 1024 * 1024;

/// A request as it arrived.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    old: bool,
}

impl Request {
    pub(crate) fn of(method: &str, target: &str, body: String) -> Self {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            body: body.into_bytes(),
            ..Request::default()
        }
    }

    /// The path, still encoded; a proxy's absolute target loses its origin.
    pub(crate) fn path(&self) -> &str {
        let target = self.target.split('?').next().unwrap_or_default();
        match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        }
    }

    /// The query, still encoded.
    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The query's pairs, decoded, in the order sent.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        self.query()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name), decode(value))
            })
            .collect()
    }

    /// The values of a header, in the order sent.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.0.eq_ignore_ascii_case(name))
            .map(|header| header.1.trim_ascii())
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    fn has_token(&self, name: &str, word: &str) -> bool {
        self.all(name).any(|value| {
            value
                .split(|byte| *byte == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        })
    }

    /// The gateway's answer to a part that is too long.
    pub(crate) fn too_long(&self) -> Option<(u16, &'static str)> {
        if self.target.len() > LINE_LIMIT {
            return Some((414, "Request URI too large"));
        }
        if self.body.len() > GATEWAY_BODY_LIMIT {
            return Some((413, "request body too large"));
        }
        let too_long = |(name, value): &(String, Vec<u8>)| name.len() + value.len() > LINE_LIMIT;
        let found = self.headers.iter().any(too_long);
        found.then_some((494, "Request headers too large"))
    }

    pub(crate) fn is_json(&self) -> bool {
        let kind = self.header("Content-Type").unwrap_or_default();
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
    }

    /// The body, which must have just these values, with spaces between: `a.b` is `{"a": {"b":
    /// …}}`. After the name of a number is `#`, of a list `[]`, of one that may be missing `?`.
    pub(crate) fn fields(&self, known: &str) -> Result<Fields, String> {
        let mut fields = Fields(BTreeMap::new());
        let body = serde_json::from_slice(&self.body).map_err(|error| format!("body: {error}"))?;
        fields.take(body, "");
        let mut count = 0;
        for known in known.split(' ') {
            let name = known.trim_end_matches(['?', '#', '[', ']']);
            match fields.0.get(name) {
                None if known.ends_with('?') => continue,
                Some(Value::Number(_)) if known.contains('#') => {}
                Some(Value::Array(_)) if known.contains('[') => {}
                Some(Value::String(_)) if !known.contains(['#', '[']) => {}
                _ => return Err(format!("body: {name} is needed")),
            }
            count += 1;
        }
        match fields.0.len() == count {
            true => Ok(fields),
            false => Err(format!("body: something besides {known}")),
        }
    }

    fn keeps_alive(&self) -> bool {
        !self.old && !self.has_token("Connection", "close")
    }
}

/// The values of a body by their paths.
pub(crate) struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn take(&mut self, value: Value, path: &str) {
        match value {
            Value::Object(object) => object.into_iter().for_each(|(name, value)| {
                self.take(value, format!("{path}.{name}").trim_start_matches('.'));
            }),
            value => drop(self.0.insert(path.to_owned(), value)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    pub(crate) fn optional(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.optional(name).unwrap_or_default()
    }
}

/// Undoes percent-encoding.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Why there is no request to answer.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The client has closed the connection.
    Gone,
    /// What it sent is refused with this status and text.
    Refused(u16, &'static str),
}

impl From<io::Error> for RequestError {
    fn from(_: io::Error) -> Self {
        RequestError::Gone
    }
}

/// Takes requests out of a connection, however they are cut into segments.
#[derive(Default)]
pub(crate) struct Requests {
    buf: Vec<u8>,
}

impl Requests {
    pub(crate) fn next(&mut self, conn: &mut (impl Read + Write)) -> Result<Request, RequestError> {
        let mut searched = 0;
        let end = loop {
            if let Some(end) = head_end(&self.buf, searched) {
                break end;
            }
            if self.buf.len() > HEAD_LIMIT {
                return Err(RequestError::Refused(494, "Request headers too large"));
            }
            searched = self.buf.len().saturating_sub(3);
            self.fill(conn)?;
        };
        let mut request = parse(&self.buf[..end])?;
        self.buf.drain(..end);
        if request.has_token("Expect", "100-continue") {
            conn.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            conn.flush()?;
        }
        request.body = if request.has_token("Transfer-Encoding", "chunked") {
            self.chunks(conn)?
        } else {
            let len = match request.header("Content-Length") {
                Some(text) => std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or(RequestError::Refused(400, "bad Content-Length"))?,
                None => 0,
            };
            self.take(conn, len)?
        };
        Ok(request)
    }

    /// What was read beyond the last request.
    pub(crate) fn rest(self) -> Vec<u8> {
        self.buf
    }

    fn fill(&mut self, conn: &mut impl Read) -> Result<(), RequestError> {
        let mut piece = [0; 16 * 1024];
        match conn.read(&mut piece)? {
            0 => Err(RequestError::Gone),
            n => {
                self.buf.extend(&piece[..n]);
                Ok(())
            }
        }
    }

    fn take(&mut self, conn: &mut impl Read, len: usize) -> Result<Vec<u8>, RequestError> {
        if len > BODY_LIMIT {
            return Err(RequestError::Refused(413, "request body too large"));
        }
        while self.buf.len() < len {
            self.fill(conn)?;
        }
        Ok(self.buf.drain(..len).collect())
    }

    fn chunks(&mut self, conn: &mut impl Read) -> Result<Vec<u8>, RequestError> {
        const BAD: RequestError = RequestError::Refused(400, "bad chunk");
        let mut body = Vec::new();
        loop {
            let (line, size) = loop {
                match httparse::parse_chunk_size(&self.buf).map_err(|_| BAD)? {
                    httparse::Status::Complete(found) => break found,
                    httparse::Status::Partial => self.fill(conn)?,
                }
            };
            self.buf.drain(..line);
            let size = usize::try_from(size).map_err(|_| BAD)?;
            let piece = self.take(conn, size.saturating_add(2))?;
            if size == 0 {
                // Trailers are not expected of any client here.
                return if piece == b"\r\n" { Ok(body) } else { Err(BAD) };
            }
            body.extend(&piece[..size]);
            if body.len() > BODY_LIMIT {
                return Err(RequestError::Refused(413, "request body too large"));
            }
        }
    }
}

/// Just past the empty line that ends a header block.
fn head_end(buf: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += buf[at..].iter().position(|byte| *byte == b'\n')? + 1;
        match buf[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

fn parse(head: &[u8]) -> Result<Request, RequestError> {
    let mut headers = vec![httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(RequestError::Refused(494, "too many headers"));
        }
        _ => return Err(RequestError::Refused(400, "malformed request")),
    }
    Ok(Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        old: parsed.version == Some(0),
        headers: parsed
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.to_vec()))
            .collect(),
        body: Vec::new(),
    })
}

/// Where the bytes of a response come from.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// Part of a report, from `start` on.
    Report {
        report: ReportInfo,
        locale: Locale,
        start: u64,
        len: u64,
    },
    Fill(Fill),
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Report { len, .. } => *len,
            Body::Fill(fill) => fill.size,
        }
    }

    /// Fills `buf`, which must lie within the body.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) {
        match self {
            Body::Bytes(bytes) => {
                let offset = offset as usize;
                buf.copy_from_slice(&bytes[offset..offset + buf.len()]);
            }
            Body::Report {
                report,
                locale,
                start,
                ..
            } => {
                report.read_at(*locale, start + offset, buf);
            }
            Body::Fill(fill) => buf.fill(fill.byte),
        }
    }

    /// Hands the whole body to `take`, piece by piece.
    pub(crate) fn for_each(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buf = vec![0; BUFFER];
        let mut at = 0;
        while at < self.len() {
            let piece = &mut buf[..(self.len() - at).min(BUFFER as u64) as usize];
            self.read_at(at, piece);
            take(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

/// A response before anything is done to it on its way.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) request_id: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    pub(crate) close: bool,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Response {
            status,
            request_id: crate::random_hex(16),
            headers: Vec::new(),
            body: Body::Bytes(Vec::new()),
            close: false,
        }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Response::new(status).with_json(value)
    }

    /// An error in the form of most services.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Response::json(status, &json!({"error_code": code, "error_msg": message}))
    }

    pub(crate) fn with_json(self, value: &Value) -> Self {
        self.with_bytes("application/json", value.to_string())
    }

    pub(crate) fn with_bytes(self, kind: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", kind)
            .with_body(Body::Bytes(bytes.into()))
    }

    pub(crate) fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn has_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }

    fn head(&self, fault: &Fault, closing: bool) -> Vec<u8> {
        let mut headers = vec![
            ("Date".to_owned(), httpdate::fmt_http_date(SystemTime::now())),
            ("X-Request-Id".to_owned(), self.request_id.clone()),
        ];
        headers.extend(self.headers.iter().cloned());
        let mut framed = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        match (&fault.content_length, fault.framing()) {
            (Some(raw), _) => framed("Content-Length", raw),
            (None, Framing::Length) if self.has_body() => {
                framed("Content-Length", &self.body.len().to_string());
            }
            _ => {}
        }
        if let Some(raw) = &fault.extra_content_length {
            framed("Content-Length", raw);
        }
        if fault.framing() == Framing::Chunked {
            framed("Transfer-Encoding", "chunked");
        }
        if closing {
            framed("Connection", "close");
        }
        headers.retain(|header| !fault.has_header(&header.0));
        let own = fault
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        headers.extend(own.map(|(name, value)| (name.clone(), value.clone())));
        let known = ::http::StatusCode::from_u16(self.status).ok();
        let known = known.and_then(|status| status.canonical_reason());
        let reason = fault.reason.as_deref().or(known).unwrap_or("Unknown");
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        head.into_bytes()
    }
}

/// Sends a response with what a fault does to it on its way; says how the connection goes on,
/// `None` meaning with the next request.
pub(crate) fn deliver(
    conn: &mut Transport,
    stop: &Stop,
    request: &Request,
    response: &Response,
    fault: &Fault,
    request_log: &Sent,
) -> io::Result<Option<CloseKind>> {
    let closing = !request.keeps_alive() || response.close || fault.framing() == Framing::Close;
    let chunked = fault.framing() == Framing::Chunked;
    let silent = request.method == "HEAD" || !response.has_body();
    let total = if silent { 0 } else { response.body.len() };
    let ending = fault.ending();
    let limit = ending.map_or(total, |(at, _)| at.min(total));
    let step = fault
        .drip
        .map_or(BUFFER as u64, |drip| drip.bytes.min(BUFFER as u64));
    // The head leaves with the first piece of the body: a small response takes one segment.
    let mut out = response.head(fault, closing);
    let mut sent = 0;
    while sent < limit {
        let piece = (total - sent).min(step) as usize;
        let allowed = (limit - sent).min(piece as u64) as usize;
        if chunked {
            out.extend(format!("{piece:x}\r\n").into_bytes());
        }
        let start = out.len();
        out.resize(start + allowed, 0);
        response.body.read_at(sent, &mut out[start..]);
        if chunked && allowed == piece {
            out.extend(b"\r\n");
        }
        sent += allowed as u64;
        // Before it leaves: whoever has read it finds it counted.
        request_log.add(allowed as u64);
        if sent == limit {
            break;
        }
        conn.write_all(&out)?;
        out.clear();
        if let Some(drip) = fault.drip {
            conn.flush()?;
            stop.pause(Duration::from_millis(drip.every_ms))?;
        }
    }
    if chunked && !silent && ending.is_none() && !fault.chunked_no_end {
        out.extend(b"0\r\n\r\n");
    }
    conn.write_all(&out)?;
    conn.flush()?;
    Ok(match ending {
        Some((_, ending)) => Some(ending),
        None if closing || !fault.end_is_certain() => Some(CloseKind::Close),
        None => None,
    })
}

/// Sends header lines until the client closes.
pub(crate) fn endless_header(conn: &mut Transport) -> io::Result<()> {
    conn.write_all(b"HTTP/1.1 200 OK\r\n")?;
    let lines = format!("X-Padding: {}\r\n", "x".repeat(1000)).repeat(16);
    for _ in 0..ENDLESS_LIMIT / lines.len() {
        conn.write_all(lines.as_bytes())?;
    }
    conn.flush()
}
