//! Checks and filters received bytes before ureq parses them. ureq rejects interim
//! responses with header fields and headers of more than 128 fields, and accepts
//! malformed chunks.

use memchr::memchr;

use crate::error::{Error, Status};
use crate::memory;

/// The largest header that is accepted, in bytes: the limit of curl.
pub(super) const HEADER_LIMIT: usize = 300 * 1024;

/// How many fields are passed to ureq; later ones are passed only if they are used.
const MAX_FIELDS: usize = 64;

/// The size of an ordinary header. Behind it only fields that are used remain, and
/// there must be enough memory for ureq's copies of the header.
const ORDINARY_HEADER: usize = 8 * 1024;

/// The most bytes of used fields behind an ordinary header, tokens excluded.
const MAX_USED_BYTES: usize = 64 * 1024;

const TOKEN_FIELD: &str = "x-subject-token";

/// How often ureq may copy a header: it parses an incomplete one more than once.
const UREQ_COPIES: usize = 3;

/// The header fields that ureq or this library uses.
const USED_FIELDS: [&str; 13] = [
    "connection",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "location",
    "retry-after",
    "transfer-encoding",
    "x-request-id",
    TOKEN_FIELD,
];

/// How a server that expects TLS begins its response to anything else.
const TLS_ALERT: [u8; 2] = [21, 3];

const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";

/// The most hexadecimal digits of a chunk's size: 64 bits.
const MAX_SIZE_DIGITS: u32 = 16;

/// Follows a response as it arrives.
#[derive(Debug, Default)]
pub(super) struct Inspector {
    state: State,
    /// How many bytes of an incomplete line have arrived.
    pending: usize,
    header: Header,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    StatusLine,
    Fields,
    /// A body without chunks, or data that ureq will reject.
    Unchecked,
    /// The number of digits of a chunk's size so far.
    Size(u32),
    /// White space after the size.
    SizeEnd,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// Trailers. `empty`: at the start of a line.
    Trailer {
        empty: bool,
    },
    TrailerLineFeed {
        empty: bool,
    },
    Ended,
}

/// The state of the current header or chunk.
#[derive(Debug, Default)]
struct Header {
    interim: bool,
    http11: bool,
    bytes: usize,
    fields: usize,
    /// The bytes of used fields behind the first [`ORDINARY_HEADER`] bytes.
    used_bytes: usize,
    encodings: usize,
    chunked: bool,
    /// The bytes of the chunk that have not arrived.
    remaining: u64,
}

impl Inspector {
    /// Prepares for the response to a new request.
    pub(super) fn expect_response(&mut self) {
        *self = Inspector::default();
    }

    /// How many earlier bytes [`Inspector::inspect`] needs again.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Checks received bytes, which follow the [`Inspector::pending`] earlier ones. Removes
    /// fields that ureq must not see, and returns how many of all these bytes remain.
    pub(super) fn inspect(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let searched = std::mem::take(&mut self.pending);
        if self.state == State::StatusLine && self.header.bytes == 0 && bytes.starts_with(&TLS_ALERT) {
            return Err(malformed("it is TLS; use https"));
        }
        // The start of the current line, where to search for its end, and the end of the
        // bytes that remain.
        let (mut start, mut from, mut kept) = (0, searched, 0);
        let mut longest = 0;
        while matches!(self.state, State::StatusLine | State::Fields) {
            let Some(end) = memchr(b'\n', &bytes[from..]) else {
                bytes.copy_within(start.., kept);
                self.pending = bytes.len() - start;
                self.count_header_bytes(0, self.pending)?;
                probe(longest.max(self.header.bytes + self.pending))?;
                return Ok(kept + self.pending);
            };
            let end = from + end + 1;
            self.count_header_bytes(end - start, 0)?;
            longest = longest.max(self.header.bytes);
            if self.keep_line(&bytes[start..end])? {
                if kept < start {
                    bytes.copy_within(start..end, kept);
                }
                kept += end - start;
            }
            (start, from) = (end, end);
        }
        probe(longest)?;
        self.check_body(&bytes[start..])?;
        if kept < start {
            bytes.copy_within(start.., kept);
        }
        Ok(kept + bytes.len() - start)
    }

    fn count_header_bytes(&mut self, complete: usize, incomplete: usize) -> Result<(), Error> {
        self.header.bytes += complete;
        if self.header.bytes + incomplete > HEADER_LIMIT {
            return Err(malformed("its header is longer than 300 KiB"));
        }
        Ok(())
    }

    /// Reads a line of a header; returns false if it must be removed.
    fn keep_line(&mut self, line: &[u8]) -> Result<bool, Error> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let header = &mut self.header;
        if self.state == State::StatusLine {
            // ureq handles empty lines before it.
            if !text.is_empty() {
                header.interim = text.starts_with(b"HTTP/1.") && text.get(8..10) == Some(b" 1");
                // No response follows a 101.
                header.interim &= text.get(9..12) != Some(b"101");
                header.http11 = text.starts_with(b"HTTP/1.1 ");
                self.state = State::Fields;
            }
            return Ok(true);
        }
        if text.is_empty() {
            self.state = match () {
                () if header.interim => State::StatusLine,
                () if header.http11 && header.chunked && header.encodings == 1 => State::Size(0),
                () => State::Unchecked,
            };
            self.header = Header::default();
            return Ok(true);
        }
        // Fast path: nearly every line needs no further check.
        let may_be_transfer_encoding = matches!(text, [b't' | b'T', ..]);
        if !header.interim
            && !may_be_transfer_encoding
            && header.fields < MAX_FIELDS
            && header.bytes <= ORDINARY_HEADER
        {
            header.fields += 1;
            return Ok(true);
        }
        let Some((name, value)) = field(text) else {
            return Ok(true);
        };
        if header.interim {
            return Ok(false);
        }
        if name.eq_ignore_ascii_case(TRANSFER_ENCODING) {
            header.encodings += 1;
            header.chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
        }
        header.fields += 1;
        let read = USED_FIELDS
            .iter()
            .find(|read| name.eq_ignore_ascii_case(read.as_bytes()));
        if header.bytes > ORDINARY_HEADER && read.is_some_and(|read| *read != TOKEN_FIELD) {
            header.used_bytes += line.len();
            if header.used_bytes > MAX_USED_BYTES {
                return Err(malformed("the fields of its header are longer than 64 KiB"));
            }
        }
        Ok(header.fields <= MAX_FIELDS && header.bytes <= ORDINARY_HEADER || read.is_some())
    }

    /// Checks chunks (RFC 9112, 7.1).
    fn check_body(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while let [byte, rest @ ..] = bytes {
            if self.state == State::Data {
                let skipped = bytes
                    .len()
                    .min(usize::try_from(self.header.remaining).unwrap_or(usize::MAX));
                self.header.remaining -= skipped as u64;
                bytes = &bytes[skipped..];
                if self.header.remaining == 0 {
                    self.state = State::DataReturn;
                }
                continue;
            }
            self.state = match (self.state, *byte) {
                (State::Unchecked, _) => return Ok(()),
                (State::Size(digits), byte) if byte.is_ascii_hexdigit() && digits < MAX_SIZE_DIGITS => {
                    let digit = char::from(byte).to_digit(16).unwrap_or_default();
                    self.header.remaining = self.header.remaining << 4 | u64::from(digit);
                    State::Size(digits + 1)
                }
                (State::Size(1..) | State::SizeEnd | State::Extension, b'\r') => State::SizeLineFeed,
                (State::Size(1..) | State::SizeEnd, b' ' | b'\t') => State::SizeEnd,
                (State::Size(1..) | State::SizeEnd, b';') => State::Extension,
                (State::Extension, byte) if is_value(byte) => State::Extension,
                (State::SizeLineFeed, b'\n') if self.header.remaining == 0 => State::Trailer { empty: true },
                (State::SizeLineFeed, b'\n') => State::Data,
                (State::DataReturn, b'\r') => State::DataLineFeed,
                (State::DataLineFeed, b'\n') => State::Size(0),
                (State::Trailer { empty }, b'\r') => State::TrailerLineFeed { empty },
                (State::Trailer { .. }, byte) if is_value(byte) => State::Trailer { empty: false },
                (State::TrailerLineFeed { empty: true }, b'\n') => State::Ended,
                (State::TrailerLineFeed { empty: false }, b'\n') => State::Trailer { empty: true },
                // Surplus data is detected before the next request is sent.
                (State::Ended, _) => return Ok(()),
                _ => return Err(malformed("its chunks are malformed")),
            };
            bytes = rest;
        }
        Ok(())
    }

    /// Returns an error if the connection ended before the body did.
    pub(super) fn check_end(&self) -> Result<(), Error> {
        match self.state {
            State::StatusLine | State::Fields | State::Unchecked | State::Ended => Ok(()),
            _ => Err(Error::new(
                Status::ConnectionLost,
                "the connection was closed before the last chunk's end",
            )),
        }
    }
}

/// Returns an error if there is not enough memory for ureq's copies of a header.
fn probe(bytes: usize) -> Result<(), Error> {
    if bytes <= ORDINARY_HEADER {
        return Ok(());
    }
    memory::probe(UREQ_COPIES * bytes)
}

pub(super) fn malformed(what: &str) -> Error {
    Error::new(
        Status::Protocol,
        format!("the response is not valid HTTP: {what}"),
    )
}

/// Splits a well-formed field into name and value.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let valid = !name.is_empty() && name.iter().all(is_name) && value.iter().all(|b| is_value(*b));
    valid.then_some((name, value))
}

/// Whether a field's value or a chunk extension may contain this byte.
fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what remains of bytes that arrive in pieces of this size.
    fn inspect_in_pieces(bytes: &[u8], size: usize) -> Result<Vec<u8>, Error> {
        let mut inspector = Inspector::default();
        let mut out: Vec<u8> = Vec::new();
        for piece in bytes.chunks(size) {
            let start = out.len() - inspector.pending();
            out.extend_from_slice(piece);
            let kept = inspector.inspect(&mut out[start..])?;
            out.truncate(start + kept);
        }
        inspector.check_end()?;
        Ok(out)
    }

    fn inspect_in_all_sizes(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let whole = inspect_in_pieces(bytes, bytes.len());
        for size in 1..bytes.len() {
            let parts = inspect_in_pieces(bytes, size);
            assert_eq!(parts.as_ref().ok(), whole.as_ref().ok(), "{size}");
        }
        whole
    }

    #[test]
    fn interim_responses_lose_only_their_fields() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: \r\n\r\na\nb";
        assert_eq!(inspect_in_all_sizes(plain).expect("valid"), plain);
        let mut interim = b"HTTP/1.1 100 Continue\r\nVia: x\r\nDate: y\r\n\r\n".to_vec();
        interim.extend_from_slice(plain);
        let mut expected = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        expected.extend_from_slice(plain);
        assert_eq!(inspect_in_all_sizes(&interim).expect("valid"), expected);
        // Malformed data is passed on, and ureq rejects it.
        let folded = b"HTTP/1.1 100 Continue\r\nVia: x\r\n y\r\n\r\n";
        assert!(
            inspect_in_all_sizes(folded)
                .expect("remaining")
                .ends_with(b" y\r\n\r\n")
        );
        let switching = b"HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n";
        assert_eq!(inspect_in_all_sizes(switching).expect("remaining"), switching);
    }

    #[test]
    fn header_with_many_fields_keeps_used_ones() {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        for i in 0..200 {
            bytes.extend_from_slice(format!("X-{i}: y\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"content-length: 2\r\nETag: \"x\"\r\nX bad: y\r\n\r\nab");
        let remaining = inspect_in_pieces(&bytes, 1000).expect("valid");
        let text = String::from_utf8(remaining).expect("ASCII");
        assert_eq!(text.lines().count(), 1 + MAX_FIELDS + 3 + 2);
        assert!(text.ends_with("content-length: 2\r\nETag: \"x\"\r\nX bad: y\r\n\r\nab"));
    }

    #[test]
    fn long_header_keeps_used_fields_up_to_a_limit() {
        let long = format!("X-Long: {}\r\n", "y".repeat(3000));
        let etag = format!("ETag: \"{}\"\r\n", "y".repeat(9000));
        let bytes = format!("HTTP/1.1 200 OK\r\n{long}{long}{long}{long}{etag}\r\nab");
        let remaining = inspect_in_pieces(bytes.as_bytes(), 1000).expect("valid");
        let expected = format!("HTTP/1.1 200 OK\r\n{long}{long}{etag}\r\nab");
        assert!(remaining == expected.as_bytes());
        for (name, valid) in [("ETag", false), ("X-Subject-Token", true), ("X-Other", true)] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{name}: {}\r\n\r\nab", "y".repeat(70_000));
            assert_eq!(inspect_in_pieces(bytes.as_bytes(), 1000).is_ok(), valid, "{name}");
        }
    }

    #[test]
    fn malformed_chunks_are_rejected() {
        let inspect = |body: &[u8]| {
            inspect_in_all_sizes(&[b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", body].concat())
        };
        for valid in [
            &b"0\r\n\r\n"[..],
            b"3\r\na\nb\r\n0\r\n\r\n",
            b"0000003;x=y \t\r\nabc\r\n000\r\nX: y\r\nZ: \r\n\r\n",
            b"3  \r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK",
        ] {
            assert!(inspect(valid).is_ok(), "{:?}", valid.escape_ascii().to_string());
        }
        for wrong in [
            &b"+3\r\nabc\r\n0\r\n\r\n"[..],
            b"-3\r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"3;x\ny\r\nabc\r\n0\r\n\r\n",
            b"3;x\ry\r\nabc\r\n0\r\n\r\n",
            b"3 x\r\nabc\r\n0\r\n\r\n",
            b"00000000000000003\r\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\r\n0\r\n\n",
            b"3\r\nabc\r\n0\r\n",
            b"3\r\nabc\r\n0\r\nX: y\r\n",
            b"3\r\nabc\r\n",
            b"\r\n",
        ] {
            assert!(inspect(wrong).is_err(), "{:?}", wrong.escape_ascii().to_string());
        }
    }
}
