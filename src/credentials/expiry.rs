//! Expiry dates from IAM and the metadata service.

use std::time::{Duration, SystemTime};

/// Returns the time from `now`, as the server reported it to the second, to an RFC 3339
/// date. None if the date is in the past: new credentials are valid, and each call would
/// fetch others.
pub(super) fn remaining(date: &str, now: SystemTime) -> Option<Duration> {
    let date = humantime::parse_rfc3339_weak(date.trim()).ok()?;
    let remaining = date.duration_since(now).unwrap_or_default();
    let remaining = remaining.saturating_sub(Duration::from_secs(1));
    (!remaining.is_zero()).then_some(remaining)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_of_service_dates_is_computed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_539_600); // 2026-11-24T17:00:00Z
        for (date, seconds) in [
            ("2026-11-24T17:01:00.000000Z", Some(59)),
            ("2026-11-24T17:01:00Z", Some(59)),
            ("2026-11-24T16:00:00Z", None),
            ("tomorrow", None),
        ] {
            assert_eq!(remaining(date, now), seconds.map(Duration::from_secs), "{date}");
        }
    }
}
