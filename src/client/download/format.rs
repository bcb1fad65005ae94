//! Determines the format of a body from its first bytes and its content type.

/// The number of bytes that distinguish a PDF from a ZIP archive.
pub(crate) const MAGIC: usize = 5;

/// The number of bytes that distinguish text from binary data.
pub(crate) const SNIFFED: usize = 512;

/// The maximum leading white space; no report has so much.
pub(crate) const MAX_LEADING_BLANK: usize = 16 * 1024;

/// A smaller body that is neither a PDF nor a ZIP archive is not a report.
const MIN_REPORT_SIZE: usize = 16;

/// The format of a report, determined from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[non_exhaustive]
pub enum Format {
    /// Neither of these, and not text.
    Unknown = 0,
    /// `%PDF-`.
    Pdf = 1,
    /// `PK`, and a signature of a ZIP archive.
    Zip = 2,
}

impl Format {
    pub(crate) fn from_value(value: i32) -> Format {
        match value {
            1 => Format::Pdf,
            2 => Format::Zip,
            _ => Format::Unknown,
        }
    }

    pub(crate) fn of(head: &[u8]) -> Format {
        // PDF readers accept leading white space.
        if trim_body_start(head).starts_with(b"%PDF-") {
            Format::Pdf
        } else if matches!(
            head,
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..]
        ) {
            Format::Zip
        } else {
            Format::Unknown
        }
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Format::Unknown => "bin",
            Format::Pdf => "pdf",
            Format::Zip => "zip",
        }
    }
}

/// The kind of a body that is not a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Empty,
    Page,
    Xml,
    Json,
    Text,
    /// Compressed with gzip or zlib.
    Compressed,
    /// Neither text nor a report.
    Other,
}

impl Document {
    /// Classifies a body that is not a report, from its first [`SNIFFED`] bytes and its
    /// content type. Leading white space is skipped if little else would be left. Returns
    /// none if the body can be a report. With `only_known` only PDF and ZIP can be.
    pub(crate) fn of(head: &[u8], content_type: Option<&str>, only_known: bool) -> Option<Document> {
        if Format::of(head) != Format::Unknown {
            return None;
        }
        let body = trim_body_start(head);
        if body.is_empty() {
            return Some(if head.len() < MAX_LEADING_BLANK {
                Document::Empty
            } else {
                Document::Text
            });
        }
        let blank = head.len() - body.len();
        let head = if blank + MIN_REPORT_SIZE <= SNIFFED {
            head
        } else {
            body
        };
        let head = &head[..head.len().min(SNIFFED)];
        if matches!(head, [0x1f, 0x8b, ..] | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]) && !is_text(head) {
            return Some(Document::Compressed);
        }
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        let typed = ["text/", "json", "xml", "html", "javascript"]
            .iter()
            .any(|part| content_type.contains(part));
        // The ASCII part of UTF-16 and UTF-32 becomes ASCII.
        let text: String = trim_body_start(head)
            .iter()
            .filter(|b| !b.is_ascii_control() || b.is_ascii_whitespace())
            .map(|b| char::from(b.to_ascii_lowercase()))
            .collect();
        if !typed && !is_text(head) && !has_markup(&text) {
            let is_short = head.len() < MIN_REPORT_SIZE;
            return (only_known || is_short).then_some(Document::Other);
        }
        let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || !c.is_ascii());
        let has_page = PAGE_TAGS.iter().any(|tag| text.contains(tag));
        Some(match text.chars().next() {
            Some('<') if has_page => Document::Page,
            _ if content_type.contains("html") => Document::Page,
            Some('<') => Document::Xml,
            Some('{' | '[') => Document::Json,
            _ => Document::Text,
        })
    }

    /// Returns the error message for a response with such a body.
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Document::Empty => "the service returned success with an empty body, which is not a report",
            Document::Page => "the response is a web page instead of a report; is the endpoint right?",
            Document::Xml => {
                "the service returned an XML document instead of a report; is the endpoint right?"
            }
            Document::Json => "the service returned a JSON document instead of a report",
            Document::Text => "the service returned text instead of a report; is the endpoint right?",
            Document::Compressed => {
                "the service returned compressed bytes, which are neither a PDF nor a ZIP archive"
            }
            Document::Other => "the service returned bytes that are neither a PDF nor a ZIP archive",
        }
    }
}

/// Removes the byte order mark and leading white space.
pub(crate) fn trim_body_start(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(body)
        .trim_ascii_start()
}

/// Tags that identify web pages, in lower case.
const PAGE_TAGS: [&str; 5] = ["<!doctype html", "<html", "<head", "<body", "<title"];

/// Whether lower-case text has a tag of a web page or XML, or the start of a JSON object:
/// `{"name":`. Shorter patterns can occur in binary data by chance.
fn has_markup(text: &str) -> bool {
    let begins_object = |at: usize| {
        let rest = text[at + 1..].trim_ascii_start().strip_prefix('"');
        rest.and_then(|rest| rest.split_once('"'))
            .is_some_and(|(name, rest)| {
                !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
                    && rest.trim_ascii_start().starts_with(':')
            })
    };
    PAGE_TAGS
        .iter()
        .chain(&["<?xml", "<error"])
        .any(|tag| text.contains(tag))
        || text.match_indices('{').any(|(at, _)| begins_object(at))
}

/// Whether bytes are text in any encoding. Text has no binary control characters (as in
/// the WHATWG's MIME sniffing), or is UTF-8 with few of them, or is UTF-16 or UTF-32.
fn is_text(head: &[u8]) -> bool {
    let is_binary = |b: &&u8| matches!(**b, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    let binary = head.iter().filter(is_binary).count();
    let has_mark = [&b"\xff\xfe"[..], b"\xfe\xff", b"\0\0\xfe\xff"]
        .iter()
        .any(|mark| head.starts_with(mark));
    has_mark || binary == 0 || binary * MIN_REPORT_SIZE <= head.len() && is_utf8(head) || is_wide(head)
}

/// Whether bytes are UTF-8, apart from a truncated last character.
fn is_utf8(head: &[u8]) -> bool {
    str::from_utf8(head).map_or_else(|e| e.error_len().is_none(), |_| true)
}

/// Whether bytes are text in UTF-16 or UTF-32 without a byte order mark. It starts with
/// ASCII, or is in English and Chinese, the service's languages.
fn is_wide(head: &[u8]) -> bool {
    const ASCII: usize = 4;
    const CHINESE: usize = 64;
    let is_ascii = |c: u32| matches!(c, 9 | 10 | 12 | 13 | 0x20..=0x7e);
    let is_chinese = |c: u32| {
        is_ascii(c)
            || matches!(c, 0xb7 | 0x2010..=0x2027 | 0x3000..=0x303f | 0x4e00..=0x9fff | 0xff00..=0xffef)
    };
    [2, 4].into_iter().any(|width| {
        let little = |unit: &[u8]| unit.iter().rev().fold(0, |c, b| c << 8 | u32::from(*b));
        let big = |unit: &[u8]| unit.iter().fold(0, |c, b| c << 8 | u32::from(*b));
        let units = || head.chunks_exact(width);
        let are = |c: &dyn Fn(&[u8]) -> u32| {
            units().take(ASCII).all(|unit| is_ascii(c(unit)))
                || units().take(CHINESE).all(|unit| is_chinese(c(unit)))
        };
        head.len() >= 2 * width && (are(&little) || are(&big))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_determined_from_first_bytes() {
        for (head, format) in [
            (&b"%PDF-1.7"[..], Format::Pdf),
            (b"\r\n%PDF-1.7", Format::Pdf),
            (b"PK\x03\x04", Format::Zip),
            (b"PK\x05\x06", Format::Zip),
            (
                b"\0\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1{\"\xff\x01\x02\x03\x9f\xc0\xfe",
                Format::Unknown,
            ),
        ] {
            assert_eq!(Format::of(head), format);
            for content_type in [None, Some("application/octet-stream")] {
                assert_eq!(Document::of(head, content_type, false), None);
            }
            let typed = Document::of(head, Some("application/json"), false);
            assert_eq!(typed.is_some(), format == Format::Unknown, "{head:?}");
            let known = Document::of(head, None, true);
            assert_eq!(known.is_some(), format == Format::Unknown, "{head:?}");
        }
    }

    #[test]
    fn text_body_is_not_a_report() {
        for (head, document) in [
            (&b""[..], Document::Empty),
            (b"\xef\xbb\xbf \r\n\t", Document::Empty),
            (b"{", Document::Json),
            (b"\xef\xbb\xbf\n [1", Document::Json),
            (
                b"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied",
                Document::Xml,
            ),
            (b"<Error>", Document::Xml),
            (b"<?xml version=\"1.0\"?><!DOCTYPE html>", Document::Page),
            (b"<!-- x -->\n<HTML>", Document::Page),
            (b"<head>", Document::Page),
            (b"<\0h\0t\0m\0l\0>\0", Document::Page),
            (b"\0{\0\"\0e\0r", Document::Json),
            (b"\xff\xfe{\0\"\0", Document::Json),
            (
                b"\0\0\xfe\xff\0\0\0<\0\0\0h\0\0\0t\0\0\0m\0\0\0l\0\0\0>",
                Document::Page,
            ),
            (b"Access denied", Document::Text),
            (b"PKIX path building failed", Document::Text),
            (b"%PDF", Document::Text),
            (b"P", Document::Text),
            // "Access denied" in Chinese, in GBK.
            (b"\xb7\xc3\xce\xca\xb1\xbb\xbe\xdc\xbe\xf8", Document::Text),
            ("\u{8bbf}\u{95ee}".as_bytes(), Document::Text),
        ] {
            assert_eq!(Document::of(head, None, false), Some(document), "{head:?}");
        }
    }
}
