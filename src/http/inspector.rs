//! Checks what a connection receives before ureq parses it. ureq refuses interim
//! responses with header fields and more than 128 fields, and takes chunks that
//! are malformed.

use memchr::memchr;

use crate::error::{Error, Status};
use crate::memory;

/// As many as curl takes, in bytes.
pub(super) const HEADER_LIMIT: usize = 300 * 1024;

/// So many fields are left to ureq; of those behind them, those that matter.
const FIELDS: usize = 64;

/// No ordinary header has more bytes. Of a longer one only the fields that matter
/// remain, and what ureq copies of it must be there.
const ORDINARY: usize = 8 * 1024;

/// The most that the fields that matter may have in a longer header, but for a token:
/// nobody sends more.
const MATTERING: usize = 64 * 1024;

const TOKEN: &str = "x-subject-token";

/// ureq parses what is there of a header more than once, and copies it each time.
const COPIES: usize = 3;

/// The fields that ureq or this library reads.
const READ: [&str; 13] = [
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
    TOKEN,
];

const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";

/// The digits of a chunk's size that 64 bits have.
const SIZE_DIGITS: u32 = 16;

/// Where in a response a connection is.
#[derive(Debug, Default)]
pub(super) struct Inspector {
    place: Place,
    /// How many bytes of the line came that is not complete.
    pending: usize,
    header: Header,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    StatusLine,
    Fields,
    /// A body that is not in chunks, or what is for ureq to refuse.
    Unchecked,
    /// So many digits of a chunk's size have come.
    Size(u32),
    /// White space behind the size.
    SizeEnd,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// Trailers, at the start of a line or within one.
    Trailer {
        empty: bool,
    },
    TrailerLineFeed {
        empty: bool,
    },
    Ended,
}

/// What is known of a header, or of a chunk.
#[derive(Debug, Default)]
struct Header {
    interim: bool,
    http11: bool,
    bytes: usize,
    fields: usize,
    /// The bytes of those that matter, behind [`ORDINARY`] ones.
    mattering: usize,
    encodings: usize,
    chunked: bool,
    /// What is left of a chunk.
    left: u64,
}

impl Inspector {
    /// A request goes out: a response is next.
    pub(super) fn expect_response(&mut self) {
        *self = Inspector::default();
    }

    /// How many bytes from before belong to what comes next.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Looks at what came, behind [`Inspector::pending`] bytes that it gets once
    /// more. Gives how many of all these remain; the others are removed.
    pub(super) fn inspect(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let fresh = std::mem::take(&mut self.pending);
        // Where the line begins that is looked at, where its end is looked for, and
        // up to where bytes remain.
        let (mut start, mut from, mut kept) = (0, fresh, 0);
        let mut longest = 0;
        while matches!(self.place, Place::StatusLine | Place::Fields) {
            let Some(end) = memchr(b'\n', &bytes[from..]) else {
                bytes.copy_within(start.., kept);
                self.pending = bytes.len() - start;
                self.header_bytes(0, self.pending)?;
                probe(longest.max(self.header.bytes + self.pending))?;
                return Ok(kept + self.pending);
            };
            let end = from + end + 1;
            self.header_bytes(end - start, 0)?;
            longest = longest.max(self.header.bytes);
            if self.keeps(&bytes[start..end])? {
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

    fn header_bytes(&mut self, complete: usize, incomplete: usize) -> Result<(), Error> {
        self.header.bytes += complete;
        if self.header.bytes + incomplete > HEADER_LIMIT {
            return Err(malformed("its header is longer than 300 KiB"));
        }
        Ok(())
    }

    /// Takes note of a line of a header; false where it is to be removed.
    fn keeps(&mut self, line: &[u8]) -> Result<bool, Error> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let header = &mut self.header;
        if self.place == Place::StatusLine {
            // Empty lines before it are ureq's matter.
            if !text.is_empty() {
                header.interim = text.starts_with(b"HTTP/1.") && text.get(8..10) == Some(b" 1");
                // 101 is the last response that there is.
                header.interim &= text.get(9..12) != Some(b"101");
                header.http11 = text.starts_with(b"HTTP/1.1 ");
                self.place = Place::Fields;
            }
            return Ok(true);
        }
        if text.is_empty() {
            self.place = match () {
                () if header.interim => Place::StatusLine,
                () if header.http11 && header.chunked && header.encodings == 1 => Place::Size(0),
                () => Place::Unchecked,
            };
            self.header = Header::default();
            return Ok(true);
        }
        // Of nearly every line no more need be known.
        let encodes = matches!(text, [b't' | b'T', ..]);
        if !header.interim && !encodes && header.fields < FIELDS && header.bytes <= ORDINARY {
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
        let read = READ
            .iter()
            .find(|read| name.eq_ignore_ascii_case(read.as_bytes()));
        if header.bytes > ORDINARY && read.is_some_and(|read| *read != TOKEN) {
            header.mattering += line.len();
            if header.mattering > MATTERING {
                return Err(malformed("the fields of its header are longer than 64 KiB"));
            }
        }
        Ok(header.fields <= FIELDS && header.bytes <= ORDINARY || read.is_some())
    }

    /// Chunks as RFC 9112 has them, in chapter 7.1.
    fn check_body(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while let [byte, rest @ ..] = bytes {
            if self.place == Place::Data {
                let skipped = bytes
                    .len()
                    .min(usize::try_from(self.header.left).unwrap_or(usize::MAX));
                self.header.left -= skipped as u64;
                bytes = &bytes[skipped..];
                if self.header.left == 0 {
                    self.place = Place::DataReturn;
                }
                continue;
            }
            self.place = match (self.place, *byte) {
                (Place::Unchecked, _) => return Ok(()),
                (Place::Size(digits), byte) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
                    let digit = char::from(byte).to_digit(16).unwrap_or_default();
                    self.header.left = self.header.left << 4 | u64::from(digit);
                    Place::Size(digits + 1)
                }
                (Place::Size(1..) | Place::SizeEnd | Place::Extension, b'\r') => Place::SizeLineFeed,
                (Place::Size(1..) | Place::SizeEnd, b' ' | b'\t') => Place::SizeEnd,
                (Place::Size(1..) | Place::SizeEnd, b';') => Place::Extension,
                (Place::Extension, byte) if is_value(byte) => Place::Extension,
                (Place::SizeLineFeed, b'\n') if self.header.left == 0 => Place::Trailer { empty: true },
                (Place::SizeLineFeed, b'\n') => Place::Data,
                (Place::DataReturn, b'\r') => Place::DataLineFeed,
                (Place::DataLineFeed, b'\n') => Place::Size(0),
                (Place::Trailer { empty }, b'\r') => Place::TrailerLineFeed { empty },
                (Place::Trailer { .. }, byte) if is_value(byte) => Place::Trailer { empty: false },
                (Place::TrailerLineFeed { empty: true }, b'\n') => Place::Ended,
                (Place::TrailerLineFeed { empty: false }, b'\n') => Place::Trailer { empty: true },
                // What was sent ahead is found when the next request is about to go.
                (Place::Ended, _) => return Ok(()),
                _ => return Err(malformed("its chunks are malformed")),
            };
            bytes = rest;
        }
        Ok(())
    }

    /// An error where the connection ends before the body does.
    pub(super) fn check_end(&self) -> Result<(), Error> {
        match self.place {
            Place::StatusLine | Place::Fields | Place::Unchecked | Place::Ended => Ok(()),
            _ => Err(Error::new(
                Status::ConnectionLost,
                "the connection was closed before the last chunk's end",
            )),
        }
    }
}

/// An error where there is no memory for the copies of a header of so many bytes.
fn probe(bytes: usize) -> Result<(), Error> {
    if bytes <= ORDINARY {
        return Ok(());
    }
    memory::probe(COPIES * bytes)
}

pub(super) fn malformed(what: &str) -> Error {
    Error::new(
        Status::Protocol,
        format!("the response is not sound HTTP: {what}"),
    )
}

/// Name and value of a field that is well-formed.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let sound = !name.is_empty() && name.iter().all(is_name) && value.iter().all(|b| is_value(*b));
    sound.then_some((name, value))
}

/// What a field's value or an extension may have.
fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What remains of bytes that come in pieces of this size.
    fn inspected(bytes: &[u8], size: usize) -> Result<Vec<u8>, Error> {
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

    fn each_size(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let whole = inspected(bytes, bytes.len());
        for size in 1..bytes.len() {
            let parts = inspected(bytes, size);
            assert_eq!(parts.as_ref().ok(), whole.as_ref().ok(), "{size}");
        }
        whole
    }

    #[test]
    fn interim_responses_lose_their_fields_and_nothing_else_changes() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: \r\n\r\na\nb";
        assert_eq!(each_size(plain).expect("sound"), plain);
        let mut interim = b"HTTP/1.1 100 Continue\r\nVia: x\r\nDate: y\r\n\r\n".to_vec();
        interim.extend_from_slice(plain);
        let mut expected = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        expected.extend_from_slice(plain);
        assert_eq!(each_size(&interim).expect("sound"), expected);
        // What is malformed is for ureq to refuse.
        let folded = b"HTTP/1.1 100 Continue\r\nVia: x\r\n y\r\n\r\n";
        assert!(each_size(folded).expect("left").ends_with(b" y\r\n\r\n"));
        let switching = b"HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n";
        assert_eq!(each_size(switching).expect("left"), switching);
    }

    #[test]
    fn of_many_fields_those_that_matter_remain() {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        for i in 0..200 {
            bytes.extend_from_slice(format!("X-{i}: y\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"content-length: 2\r\nETag: \"x\"\r\nX bad: y\r\n\r\nab");
        let left = inspected(&bytes, 1000).expect("sound");
        let text = String::from_utf8(left).expect("ASCII");
        assert_eq!(text.lines().count(), 1 + FIELDS + 3 + 2);
        assert!(text.ends_with("content-length: 2\r\nETag: \"x\"\r\nX bad: y\r\n\r\nab"));
    }

    #[test]
    fn of_a_long_header_the_fields_that_matter_remain() {
        let long = format!("X-Long: {}\r\n", "y".repeat(3000));
        let etag = format!("ETag: \"{}\"\r\n", "y".repeat(9000));
        let bytes = format!("HTTP/1.1 200 OK\r\n{long}{long}{long}{long}{etag}\r\nab");
        let left = inspected(bytes.as_bytes(), 1000).expect("sound");
        let expected = format!("HTTP/1.1 200 OK\r\n{long}{long}{etag}\r\nab");
        assert!(left == expected.as_bytes());
        for (name, sound) in [("ETag", false), ("X-Subject-Token", true), ("X-Other", true)] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{name}: {}\r\n\r\nab", "y".repeat(70_000));
            assert_eq!(inspected(bytes.as_bytes(), 1000).is_ok(), sound, "{name}");
        }
    }

    #[test]
    fn chunks_are_as_the_standard_has_them() {
        let inspect = |body: &[u8]| {
            each_size(&[b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", body].concat())
        };
        for sound in [
            &b"0\r\n\r\n"[..],
            b"3\r\na\nb\r\n0\r\n\r\n",
            b"0000003;x=y \t\r\nabc\r\n000\r\nX: y\r\nZ: \r\n\r\n",
            b"3  \r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK",
        ] {
            assert!(inspect(sound).is_ok(), "{:?}", sound.escape_ascii().to_string());
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
