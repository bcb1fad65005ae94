//! The days, weeks and months between a type's first and last report that have
//! none.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::options::MirrorOptions;
use crate::client::arguments::digits;
use crate::client::pages::Item;

const DAY: u64 = 86_400;

/// More gaps than anybody reads; a report that is dated wrong makes many.
const MOST_GAPS: usize = 10_000;

/// A period without a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Gap {
    /// The id of the instance.
    pub instance: String,
    /// The type of the reports, such as AUDIT_REPORT_DAY.
    #[serde(rename = "type")]
    pub kind: String,
    /// The first day of the period, such as 2026-11-24.
    pub period: String,
}

/// The day of a time of eight digits or more, counted since 1970.
fn day_number(digits: &str) -> Option<u64> {
    let (year, month, day) = (digits.get(..4)?, digits.get(4..6)?, digits.get(6..8)?);
    let time = humantime::parse_rfc3339(&format!("{year}-{month}-{day}T00:00:00Z")).ok()?;
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs() / DAY)
}

fn day_name(number: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(number * DAY);
    let mut name = humantime::format_rfc3339_seconds(time).to_string();
    name.truncate(10);
    name
}

/// A month as a number, and back.
fn month_number(digits: &str) -> Option<u64> {
    let (year, month): (u64, u64) = (digits.get(..4)?.parse().ok()?, digits.get(4..6)?.parse().ok()?);
    (1..=12).contains(&month).then_some(year * 12 + month - 1)
}

fn month_name(number: u64) -> String {
    format!("{:04}-{:02}-01", number / 12, number % 12 + 1)
}

/// The gaps of all instances and types. Where a range of days was asked for, it
/// counts from its first day to its last, where both are given.
pub(super) fn gaps(reports: &[(String, Item)], options: &MirrorOptions) -> Vec<Gap> {
    let mut groups: HashMap<(&str, &str), Vec<String>> = HashMap::new();
    for (instance, item) in reports {
        if let (Some(kind), Some(start)) = (item.get("type"), item.get("start_time")) {
            groups.entry((instance, kind)).or_default().push(digits(start));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort();
    let mut gaps = Vec::new();
    for ((instance, kind), starts) in groups {
        type Number = fn(&str) -> Option<u64>;
        let (number, name, step): (Number, fn(u64) -> String, u64) = match kind {
            "AUDIT_REPORT_DAY" => (day_number, day_name, 1),
            "AUDIT_REPORT_WEEK" => (day_number, day_name, 7),
            "AUDIT_REPORT_MONTH" => (month_number, month_name, 1),
            _ => continue,
        };
        let mut there: Vec<u64> = starts.iter().filter_map(|start| number(start)).collect();
        there.sort_unstable();
        let (Some(first), Some(last)) = (there.first().copied(), there.last().copied()) else {
            continue;
        };
        let bound = |bound: &Option<String>| bound.as_deref().and_then(number);
        let (first, last) = match step {
            // Which day a week begins with only the reports tell.
            7 => (first, last),
            _ => (
                bound(&options.since).unwrap_or(first),
                bound(&options.until).unwrap_or(last),
            ),
        };
        let mut expected = first;
        while expected <= last && gaps.len() < MOST_GAPS {
            // A report covers the period in which it begins.
            let next = there.partition_point(|start| *start < expected);
            if there.get(next).is_none_or(|start| *start >= expected + step) {
                gaps.push(Gap {
                    instance: instance.to_owned(),
                    kind: kind.to_owned(),
                    period: name(expected),
                });
            }
            expected += step;
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(kind: &str, starts: &[&str]) -> Vec<(String, Item)> {
        let item = |start: &&str| {
            let json = format!(r#"{{"id":"x","type":"{kind}","start_time":"{start}"}}"#);
            ("i".to_owned(), Item::of(&json))
        };
        starts.iter().map(item).collect()
    }

    fn periods(kind: &str, starts: &[&str], options: &MirrorOptions) -> Vec<String> {
        let found = gaps(&items(kind, starts), options);
        assert!(found.iter().all(|gap| gap.kind == kind && gap.instance == "i"));
        found.into_iter().map(|gap| gap.period).collect()
    }

    #[test]
    fn days_weeks_and_months_without_a_report_are_told() {
        let all = MirrorOptions::default();
        let days = ["2026-02-27 00:00:00", "2026-03-02T00:00:00Z"];
        assert_eq!(
            periods("AUDIT_REPORT_DAY", &days, &all),
            ["2026-02-28", "2026-03-01"]
        );
        let weeks = ["2026-11-02", "2026-11-23"];
        assert_eq!(
            periods("AUDIT_REPORT_WEEK", &weeks, &all),
            ["2026-11-09", "2026-11-16"]
        );
        let months = ["2025-11-01", "2026-02-01"];
        assert_eq!(
            periods("AUDIT_REPORT_MONTH", &months, &all),
            ["2025-12-01", "2026-01-01"]
        );
        assert_eq!(periods("AUDIT_REPORT_REAL_TIME", &months, &all), [""; 0]);
        let mut range = MirrorOptions::default();
        range.set("since", b"2026-02-26").expect("a day");
        range.set("until", b"2026-02-28").expect("a day");
        assert_eq!(
            periods("AUDIT_REPORT_DAY", &["2026-02-27"], &range),
            ["2026-02-26", "2026-02-28"]
        );
    }
}
