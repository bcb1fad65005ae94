//! Describes times, and a wrong clock of this machine, for messages.

use std::time::{Duration, SystemTime};

use humantime::{format_duration, format_rfc3339_seconds};

/// The difference that is not reported: signatures are valid for 15 minutes, and a
/// `Date` may come from a cache.
const TOLERANCE: Duration = Duration::from_secs(10 * 60);

/// The end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// Describes the difference between this clock and the server's, if it is too large for
/// a signature.
pub(super) fn difference(here: SystemTime, server: SystemTime) -> Option<String> {
    let (skew, direction) = match here.duration_since(server) {
        Ok(skew) => (skew, "ahead of"),
        Err(e) => (e.duration(), "behind"),
    };
    (skew > TOLERANCE).then(|| {
        format!(
            "this machine's clock is {} {direction} the server's",
            span(skew.as_secs())
        )
    })
}

/// Formats a duration, to the minute.
pub(super) fn span(seconds: u64) -> String {
    let exact = if seconds < 60 { seconds } else { seconds / 60 * 60 };
    let text = format_duration(Duration::from_secs(exact)).to_string();
    ["year", "month", "day"]
        .iter()
        .fold(text, |text, unit| text.replace(unit, &format!(" {unit}")))
}

/// Formats a time in UTC.
pub(super) fn date(seconds_since_1970: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds_since_1970.min(LATEST));
    format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_clock_difference_is_described() {
        let server = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let minutes = |n: u64| Duration::from_secs(n * 60 + 1);
        assert_eq!(difference(server, server), None);
        assert_eq!(difference(server + minutes(9), server), None);
        let describe = |here| difference(here, server).expect("far");
        assert!(describe(server + minutes(61)).contains("1h 1m ahead of"));
        assert!(describe(server - minutes(11)).contains("11m behind"));
        assert!(describe(SystemTime::UNIX_EPOCH).contains("11 days 13h 46m behind"));
        assert_eq!(date(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
