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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        request.method = "GET".to_owned();
        let headers = headers.iter();
        request.headers = headers
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        request
    }

    #[test]
    fn single_range_is_honoured_others_ignored() {
        let of = |range: &str, size| requested_range(&request(&[("range", range)]), size, None);
        let bytes = |first, last| RequestedRange::Bytes { first, last };
        assert_eq!(of("bytes=0-", 100), bytes(0, 99));
        assert_eq!(of("bytes=99-", 100), bytes(99, 99));
        assert_eq!(of("bytes=10-19", 100), bytes(10, 19));
        assert_eq!(of("BYTES= 10-10 ", 100), bytes(10, 10));
        assert_eq!(of("bytes=10-1000", 100), bytes(10, 99));
        assert_eq!(of("bytes=10-99999999999999999999999", 100), bytes(10, 99));
        assert_eq!(of("bytes=-10", 100), bytes(90, 99));
        assert_eq!(of("bytes=-1000", 100), bytes(0, 99));
        let beyond = [
            "bytes=100-",
            "bytes=100-200",
            "bytes=-0",
            "bytes=99999999999999999999999-",
        ];
        for range in beyond {
            assert_eq!(of(range, 100), RequestedRange::Unsatisfiable, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), RequestedRange::Unsatisfiable);
        assert_eq!(of("bytes=-5", 0), RequestedRange::Unsatisfiable);
        let ignored = [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-",
            "bytes=1-b",
            "bytes=+1-2",
            "bytes=5-4",
            "bytes=1--2",
            "bytes=0-1,5-6",
            "bytes=0-1,",
            "lines=0-1",
            "bytes 0-1",
            "bytes=1 - 2",
        ];
        for range in ignored {
            assert_eq!(of(range, 100), RequestedRange::Whole, "{range}");
        }
        let twice = request(&[("Range", "bytes=1-"), ("Range", "bytes=1-")]);
        assert_eq!(requested_range(&twice, 100, None), RequestedRange::Whole);
    }

    #[test]
    fn if_range_uses_strong_comparison() {
        let part = RequestedRange::Bytes { first: 1, last: 99 };
        let of = |condition, tag| {
            let request = request(&[("Range", "bytes=1-"), ("If-Range", condition)]);
            requested_range(&request, 100, tag)
        };
        assert_eq!(of("\"a\"", Some("\"a\"")), part);
        let others = [
            "\"b\"",
            "a",
            "W/\"a\"",
            "\"A\"",
            "",
            "Sun, 06 Nov 1994 08:49:37 GMT",
        ];
        for condition in others {
            assert_eq!(of(condition, Some("\"a\"")), RequestedRange::Whole, "{condition}");
        }
        for condition in ["\"a\"", "W/\"a\""] {
            assert_eq!(
                of(condition, Some("W/\"a\"")),
                RequestedRange::Whole,
                "{condition}"
            );
            assert_eq!(of(condition, None), RequestedRange::Whole, "{condition}");
        }
        let twice = [
            ("Range", "bytes=1-"),
            ("If-Range", "\"a\""),
            ("If-Range", "\"a\""),
        ];
        assert_eq!(
            requested_range(&request(&twice), 100, Some("\"a\"")),
            RequestedRange::Whole
        );
        let mut other = request(&[("Range", "bytes=1-")]);
        other.method = "HEAD".to_owned();
        assert_eq!(requested_range(&other, 100, None), RequestedRange::Whole);
    }
}
