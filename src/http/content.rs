//! Parses the headers that describe a body: its range, its entity tag and its file name.

use percent_encoding::percent_decode_str;

use crate::text::{is_deceptive, shorten};

/// Parses `Content-Range: bytes 10-99/100` into first, last and total length, if known.
/// Returns `None` if it is malformed or has another unit.
pub(crate) fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let number = |digits: &str| -> Option<u64> {
        let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        all_digits.then(|| digits.parse().ok()).flatten()
    };
    let (unit, rest) = value.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = match total {
        "*" => None,
        digits => Some(number(digits)?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

/// Parses the total length from `Content-Range: bytes */100` of a 416 response.
pub(crate) fn unsatisfied_range(value: &str) -> Option<u64> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let digits = rest.trim().strip_prefix("*/")?;
    let is_valid = unit.eq_ignore_ascii_case("bytes") && digits.bytes().all(|b| b.is_ascii_digit());
    is_valid.then(|| digits.parse().ok()).flatten()
}

/// Returns the entity tag if it is a strong one. Only strong tags prove that two
/// bodies are identical (RFC 9110, 8.8.3).
pub(crate) fn strong_etag(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let is_valid = inner.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b));
    (is_valid && !inner.is_empty()).then_some(value)
}

/// The longest file name that every common file system accepts, in bytes.
const NAME_LIMIT: usize = 255;

/// Returns the file name in a `Content-Disposition` (RFC 6266) as a safe name: one path
/// component, visible, not hidden. `filename*` has priority over `filename`.
pub(crate) fn safe_filename(disposition: &str) -> Option<String> {
    let parameters = parameters(disposition);
    let find = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    find("filename*")
        .and_then(decode_extended)
        .and_then(|name| safe_name(&name))
        .or_else(|| {
            find("filename")
                .filter(|name| !is_other_encoding(name))
                .and_then(safe_name)
        })
}

/// Whether a name looks like GBK or Big5 that was read as UTF-8. Little of such a name
/// survives, so two names could become one. Characters of these encodings have two
/// bytes; if such bytes happen to be valid UTF-8, they form two-byte characters, while
/// Chinese characters have three in UTF-8.
fn is_other_encoding(name: &str) -> bool {
    let two_bytes = |c: char| c.len_utf8() == 2;
    name.contains('\u{fffd}') || name.contains(two_bytes) && !name.contains(|c: char| c.len_utf8() > 2)
}

/// The most parameters that are parsed: real headers have fewer.
const MAX_PARAMETERS: usize = 32;

/// Parses `name=token` and `name="quoted \"string\""`, separated by semicolons.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut parsed = Vec::with_capacity(2);
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while parsed.len() < MAX_PARAMETERS
        && let Some((name, after)) = rest.split_once('=')
    {
        // Skip parameters without a value before this one.
        let name = name.rsplit(';').next().unwrap_or(name).trim().to_owned();
        let after = after.trim_start();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((i, c)) = characters.next() {
                match c {
                    '"' => {
                        end = i + 1;
                        break;
                    }
                    '\\' => value.extend(characters.next().map(|(_, c)| c)),
                    c => value.push(c),
                }
            }
            parsed.push((name, value));
            rest = quoted[end..].split_once(';').map_or("", |(_, rest)| rest);
        } else {
            let (value, after) = after.split_once(';').unwrap_or((after, ""));
            parsed.push((name, value.trim().to_owned()));
            rest = after;
        }
    }
    parsed
}

/// Decodes an extended value (RFC 8187): `UTF-8'language'percent-encoded`.
fn decode_extended(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let charset = parts.next()?;
    let _language = parts.next()?;
    let bytes = percent_decode_str(parts.next()?).collect::<Vec<u8>>();
    if charset.eq_ignore_ascii_case("utf-8") {
        String::from_utf8(bytes).ok()
    } else if charset.eq_ignore_ascii_case("iso-8859-1") {
        Some(bytes.iter().map(|b| char::from(*b)).collect())
    } else {
        None
    }
}

/// Makes a safe file name from one that the server chose.
pub(crate) fn safe_name(name: &str) -> Option<String> {
    // The name is what follows the last separator of either kind.
    let name = name.rsplit(['/', '\\']).next()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let outer = [name.bytes().next()?, name.bytes().next_back()?];
    if name.len() <= NAME_LIMIT && !outer.contains(&b'.') && name.bytes().all(plain) {
        // Nearly every name is already safe.
        return Some(name.to_owned());
    }
    let clean: String = name
        .chars()
        .filter(|c| !c.is_control() && !is_deceptive(*c) && *c != '\u{fffd}')
        .map(|c| match c {
            '<' | '>' | ':' | '"' | '|' | '?' | '*' => '_',
            c => c,
        })
        .collect();
    // Leading dots hide a file, and some systems drop trailing dots and blanks.
    let trimmed = |c: char| c == '.' || c.is_whitespace();
    let clean = clean.trim_matches(trimmed);
    if clean.is_empty() {
        return None;
    }
    Some(shorten_filename(clean, NAME_LIMIT))
}

/// Shortens a file name to at most `limit` bytes. It keeps the extension and cuts the
/// stem.
pub(crate) fn shorten_filename(name: &str, limit: usize) -> String {
    if name.len() <= limit {
        return name.to_owned();
    }
    let extension = name
        .rfind('.')
        .filter(|i| name.len() - i <= 16)
        .map_or("", |i| &name[i..]);
    let stem =
        shorten(name, limit - extension.len()).trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    format!("{stem}{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_content_range_is_ignored() {
        assert_eq!(content_range("bytes 10-99/100"), Some((10, 99, Some(100))));
        assert_eq!(content_range("Bytes 0-0/*"), Some((0, 0, None)));
        for wrong in [
            "",
            "bytes",
            "bytes */100",
            "bytes 10-9/100",
            "bytes 10-100/100",
            "bytes +1-9/100",
            "bytes 1-9",
            "bytes 1-/9",
            "items 1-2/3",
            "bytes 1-99999999999999999999/*",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn malformed_unsatisfied_range_is_ignored() {
        assert_eq!(unsatisfied_range("bytes */100"), Some(100));
        for wrong in [
            "bytes 0-1/100",
            "bytes */",
            "bytes */+1",
            "items */100",
            "*/100",
            "",
        ] {
            assert_eq!(unsatisfied_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn weak_or_malformed_etag_is_ignored() {
        assert_eq!(strong_etag("\"abc\""), Some("\"abc\""));
        for weak in ["W/\"abc\"", "abc", "\"\"", "\"a\"b\"", "\"", "\"a\r\n\"", ""] {
            assert_eq!(strong_etag(weak), None, "{weak}");
        }
    }

    #[test]
    fn filename_becomes_one_safe_path_component() {
        for (header, name) in [
            ("attachment; filename=report.pdf", Some("report.pdf")),
            ("attachment; filename=\"a \\\"b\\\".pdf\"", Some("a _b_.pdf")),
            (
                "attachment; FileName = \"x;y=z.pdf\" ; foo=bar",
                Some("x;y=z.pdf"),
            ),
            (
                "attachment; filename=\"e.pdf\"; filename*=UTF-8''%E5%AE%A1%E8%AE%A1.pdf",
                Some("审计.pdf"),
            ),
            (
                "attachment; filename*=UTF-8''%ff; filename=ok.zip",
                Some("ok.zip"),
            ),
            ("attachment; filename*=iso-8859-1'en'%e9.pdf", Some("é.pdf")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"..\\\\..\\\\x.pdf\"", Some("x.pdf")),
            ("attachment; filename*=UTF-8''..%2F..%2Fx.pdf", Some("x.pdf")),
            ("attachment; filename=\"...hidden\"", Some("hidden")),
            ("attachment; filename=\"a\u{1}b\u{202e}c.pdf\"", Some("abc.pdf")),
            ("attachment; filename=\"report.pdf. \"", Some("report.pdf")),
            ("attachment; filename=\". .bashrc\"", Some("bashrc")),
            (
                "attachment; filename=\"\u{3000}.\u{a0}.. a.pdf .\u{3000}.\"",
                Some("a.pdf"),
            ),
            ("attachment; filename=\"\u{fffd}\u{fffd}.pdf\"", None),
            ("attachment; filename=\"Ʊ.pdf\"", None),
            (
                "attachment; filename=\"\u{fffd}.pdf\"; filename*=UTF-8''%C6%B1.pdf",
                Some("Ʊ.pdf"),
            ),
            ("attachment; filename=\"审é.pdf\"", Some("审é.pdf")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"/\"", None),
            ("attachment; filename=", None),
            ("attachment", None),
            ("", None),
            ("attachment; x; filename=a.pdf", Some("a.pdf")),
            ("attachment; filename=\"unfinished", Some("unfinished")),
        ] {
            assert_eq!(safe_filename(header).as_deref(), name, "{header}");
        }
        let long = format!("attachment; filename=\"{}.pdf\"", "审".repeat(300));
        let name = safe_filename(&long).expect("a name");
        assert!(name.len() <= NAME_LIMIT && name.ends_with("审.pdf"));
        assert!(
            shorten_filename(&name, 143).ends_with("审.pdf") && shorten_filename(&name, 143).len() <= 143
        );
        let long = format!("attachment; filename=\"a{}b\"", " ".repeat(300));
        assert_eq!(safe_filename(&long).as_deref(), Some("a"));
    }
}
