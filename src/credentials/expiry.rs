//! Dates of expiry, as IAM and the metadata service send them.

use std::time::{Duration, SystemTime};

/// The time from `now`, which a server gave to the second, to a date of RFC 3339;
/// zero if that is past.
pub(super) fn remaining(date: &str, now: SystemTime) -> Option<Duration> {
    let date = humantime::parse_rfc3339_weak(date.trim()).ok()?;
    let left = date.duration_since(now).unwrap_or_default();
    Some(left.saturating_sub(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dates_that_iam_and_the_metadata_service_send_are_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_539_600); // 2026-11-24T17:00:00Z
        for (date, seconds) in [
            ("2026-11-24T17:01:00.000000Z", Some(59)),
            ("2026-11-24T17:01:00Z", Some(59)),
            ("2026-11-24T16:00:00Z", Some(0)),
            ("tomorrow", None),
        ] {
            assert_eq!(remaining(date, now), seconds.map(Duration::from_secs), "{date}");
        }
    }
}
