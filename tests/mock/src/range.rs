//! The range of a report that a request asks for (RFC 9110, sections 13.1.5 and 14).

use crate::http::Request;

/// The part of a report to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestedRange {
    Whole,
    /// From `first` to `last`, both included and both within the report.
    Bytes {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
}

/// The part asked for of a report of this size that is sent with this `ETag`.
pub(crate) fn requested_range(request: &Request, size: u64, tag: Option<&str>) -> RequestedRange {
    if request.method != "GET" {
        return RequestedRange::Whole;
    }
    let mut conditions = request.all("If-Range");
    let holds = match (conditions.next(), conditions.next()) {
        (None, _) => true,
        (Some(condition), None) => tag.is_some_and(|tag| equals_strongly(condition, tag)),
        _ => false,
    };
    let mut ranges = request.all("Range");
    match (ranges.next(), ranges.next()) {
        (Some(range), None) if holds => part(range, size).unwrap_or(RequestedRange::Whole),
        _ => RequestedRange::Whole,
    }
}

/// Weak tags and dates never match.
fn equals_strongly(condition: &[u8], tag: &str) -> bool {
    tag.starts_with('"') && condition == tag.as_bytes()
}

/// Returns `None` if the header is malformed, in another unit, or names several ranges.
fn part(range: &[u8], size: u64) -> Option<RequestedRange> {
    let (unit, range) = std::str::from_utf8(range).ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim_matches([' ', '\t']).split_once('-')?;
    let (first, end) = match (first, last) {
        ("", count) => (size.saturating_sub(number(count)?), u64::MAX),
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if end < first {
        return None;
    }
    if first >= size {
        return Some(RequestedRange::Unsatisfiable);
    }
    let last = end.min(size - 1);
    Some(RequestedRange::Bytes { first, last })
}

/// Parses a number; one that is too large becomes the largest: no report is larger.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}
