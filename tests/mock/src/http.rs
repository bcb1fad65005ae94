//! A hand-written HTTP/1.1 server, which can break every rule of the protocol.

use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode_str;

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

    fn keeps_alive(&self) -> bool {
        !self.old && !self.has_token("Connection", "close")
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
    /// Part of a report, from `start` on; past the report's end it goes on at its beginning.
    Report {
        report: ReportInfo,
        locale: Locale,
        start: u64,
        len: u64,
    },
    Fill {
        size: u64,
        byte: u8,
    },
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Report { len, .. } => *len,
            Body::Fill { size, .. } => *size,
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
                let (size, mut at, mut left) = (report.size(*locale), start + offset, buf);
                while !left.is_empty() {
                    let read = report.read_at(*locale, at % size, left);
                    left = &mut left[read..];
                    at += read as u64;
                }
            }
            Body::Fill { byte, .. } => buf.fill(*byte),
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
    pub(crate) reason: Option<String>,
    pub(crate) request_id: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Response {
            status,
            reason: None,
            request_id: crate::random_hex(16),
            headers: Vec::new(),
            body: Body::Bytes(Vec::new()),
        }
    }

    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        Response::new(status).with_json(value)
    }

    pub(crate) fn with_json(self, value: &serde_json::Value) -> Self {
        self.header("Content-Type", "application/json")
            .with_body(Body::Bytes(value.to_string().into_bytes()))
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
}

/// How the end of a body is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// By `Content-Length`.
    #[default]
    Length,
    /// By chunks.
    Chunked,
    /// Only by the end of the connection.
    Close,
}

/// What happens to a response on its way.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) framing: Framing,
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) content_length: Option<String>,
    pub(crate) extra_content_length: Option<String>,
    pub(crate) ending: Option<(u64, CloseKind)>,
    pub(crate) drip: Option<(u64, Duration)>,
    pub(crate) no_last_chunk: bool,
    pub(crate) close: bool,
}

impl Delivery {
    fn names(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|header| header.0.eq_ignore_ascii_case(name))
    }

    /// Whether the client can tell where the next response starts.
    fn keeps_alive(&self) -> bool {
        !self.close
            && self.framing != Framing::Close
            && self.ending.is_none()
            && !self.no_last_chunk
            && self.content_length.is_none()
            && self.extra_content_length.is_none()
            && !["Content-Length", "Transfer-Encoding", "Connection"]
                .iter()
                .any(|name| self.names(name))
    }

    fn head(&self, response: &Response, closing: bool) -> Vec<u8> {
        let mut headers = vec![
            ("Date".to_owned(), httpdate::fmt_http_date(SystemTime::now())),
            ("X-Request-Id".to_owned(), response.request_id.clone()),
        ];
        headers.extend(response.headers.iter().cloned());
        let mut framed = |name: &str, value: &str| {
            headers.push((name.to_owned(), value.to_owned()));
        };
        match (&self.content_length, self.framing) {
            (Some(raw), _) => framed("Content-Length", raw),
            (None, Framing::Length) if response.has_body() => {
                framed("Content-Length", &response.body.len().to_string());
            }
            _ => {}
        }
        if let Some(raw) = &self.extra_content_length {
            framed("Content-Length", raw);
        }
        if self.framing == Framing::Chunked {
            framed("Transfer-Encoding", "chunked");
        }
        if closing {
            framed("Connection", "close");
        }
        headers.retain(|header| !self.names(&header.0));
        for (name, value) in &self.headers {
            if let Some(value) = value {
                headers.push((name.clone(), value.clone()));
            }
        }
        let reason = response.reason.as_deref().unwrap_or(reason(response.status));
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", response.status);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        head.into_bytes()
    }
}

/// Sends a response; says how the connection goes on, `None` meaning with the next request.
pub(crate) fn deliver(
    conn: &mut Transport,
    stop: &Stop,
    request: &Request,
    response: &Response,
    delivery: &Delivery,
    request_log: &Sent,
) -> io::Result<Option<CloseKind>> {
    let closing = !request.keeps_alive() || delivery.close || delivery.framing == Framing::Close;
    let chunked = delivery.framing == Framing::Chunked;
    let silent = request.method == "HEAD" || !response.has_body();
    let total = if silent { 0 } else { response.body.len() };
    let limit = delivery.ending.map_or(total, |(at, _)| at.min(total));
    let step = delivery
        .drip
        .map_or(BUFFER as u64, |drip| drip.0.min(BUFFER as u64));
    // The head leaves with the first piece of the body: a small response takes one segment.
    let mut out = delivery.head(response, closing);
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
        if let Some((_, time)) = delivery.drip {
            conn.flush()?;
            stop.pause(time)?;
        }
    }
    if chunked && !silent && delivery.ending.is_none() && !delivery.no_last_chunk {
        out.extend(b"0\r\n\r\n");
    }
    conn.write_all(&out)?;
    conn.flush()?;
    Ok(match delivery.ending {
        Some((_, ending)) => Some(ending),
        None if closing || !delivery.keeps_alive() => Some(CloseKind::Close),
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

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        414 => "URI Too Long",
        494 => "Request Headers Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
