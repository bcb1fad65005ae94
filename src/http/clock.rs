//! What a wrong clock of this machine does, in words.

use std::time::{Duration, SystemTime};

use humantime::{format_duration, format_rfc3339_seconds};

/// Signatures are good for 15 minutes; a `Date` may be from a cache on the way.
const TOLERANCE: Duration = Duration::from_secs(10 * 60);

/// The end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// How far this clock is from the server's, where that is too far for a signature.
pub(super) fn difference(here: SystemTime, server: SystemTime) -> Option<String> {
    let (by, direction) = match here.duration_since(server) {
        Ok(by) => (by, "ahead of"),
        Err(e) => (e.duration(), "behind"),
    };
    (by > TOLERANCE).then(|| {
        format!(
            "this machine's clock is {} {direction} the server's",
            span(by.as_secs())
        )
    })
}

/// A length of time, to the minute.
pub(super) fn span(seconds: u64) -> String {
    let exact = if seconds < 60 { seconds } else { seconds / 60 * 60 };
    format_duration(Duration::from_secs(exact)).to_string()
}

/// A time in UTC.
pub(super) fn date(seconds_since_1970: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds_since_1970.min(LATEST));
    format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_told_by_how_much() {
        let server = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let minutes = |n: u64| Duration::from_secs(n * 60 + 1);
        assert_eq!(difference(server, server), None);
        assert_eq!(difference(server + minutes(9), server), None);
        let says = |here| difference(here, server).expect("far");
        assert!(says(server + minutes(61)).contains("1h 1m ahead of"));
        assert!(says(server - minutes(11)).contains("11m behind"));
        assert!(says(SystemTime::UNIX_EPOCH).contains("11days 13h 46m behind"));
        assert_eq!(date(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
