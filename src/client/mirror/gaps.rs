//! Finds the days, weeks and months without a report between a type's first and last
//! report.

use serde::Serialize;

use super::options::MirrorOptions;
use crate::client::reports::page::Item;
use crate::client::time::date;

/// The maximum number of gaps. A report with a wrong date can cause very many.
const MAX_GAPS: usize = 10_000;

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

/// The interval of the regular reports of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Interval {
    Day,
    Month,
    Week,
}

impl Interval {
    fn of(kind: &str) -> Option<Interval> {
        [Interval::Day, Interval::Month, Interval::Week]
            .into_iter()
            .find(|interval| interval.kind() == kind)
    }

    fn kind(self) -> &'static str {
        match self {
            Interval::Day => "AUDIT_REPORT_DAY",
            Interval::Month => "AUDIT_REPORT_MONTH",
            Interval::Week => "AUDIT_REPORT_WEEK",
        }
    }

    /// Returns the number of the period that contains a day, or begins with it.
    fn number(self, day: i64) -> i64 {
        match self {
            Interval::Day | Interval::Week => day,
            Interval::Month => {
                let (year, month, _) = date(day);
                year * 12 + month - 1
            }
        }
    }

    /// Returns the first day of a period.
    fn first_day(self, number: i64) -> String {
        let (year, month, day) = match self {
            Interval::Day | Interval::Week => date(number),
            Interval::Month => (number.div_euclid(12), number.rem_euclid(12) + 1, 1),
        };
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// The period in which a report begins, and the index of its instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    instance: usize,
    interval: Interval,
    number: i64,
}

impl Start {
    /// Returns none for reports that are not regular, or have no date.
    pub(super) fn of(instance: usize, item: &Item, options: &MirrorOptions) -> Option<Start> {
        let interval = Interval::of(item.get("type")?)?;
        let day = options.day(item.get("start_time")?)?;
        Some(Start {
            instance,
            interval,
            number: interval.number(day),
        })
    }
}

/// Finds the gaps of all instances and types. If the options limit the days, the limits
/// count instead of the first and last report.
pub(super) fn gaps(mut starts: Vec<Start>, instances: &[String], options: &MirrorOptions) -> Vec<Gap> {
    let name = |start: &Start| instances.get(start.instance).map_or("", String::as_str);
    starts.sort_unstable_by(|a, b| (name(a), a.interval, a.number).cmp(&(name(b), b.interval, b.number)));
    let mut gaps = Vec::new();
    for group in starts.chunk_by(|a, b| (a.instance, a.interval) == (b.instance, b.interval)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let interval = first.interval;
        let bound = |bound: Option<i64>| bound.map(|day| interval.number(day));
        let (from, to) = match interval {
            // Only the reports show with which day a week begins.
            Interval::Week => (first.number, last.number),
            _ => (
                bound(options.since).unwrap_or(first.number),
                bound(options.until).unwrap_or(last.number),
            ),
        };
        let width = if interval == Interval::Week { 7 } else { 1 };
        let mut expected = from;
        while expected <= to && gaps.len() < MAX_GAPS {
            // A report covers the period in which it begins.
            let next = group.partition_point(|start| start.number < expected);
            if group
                .get(next)
                .is_none_or(|start| start.number >= expected + width)
            {
                gaps.push(Gap {
                    instance: name(first).to_owned(),
                    kind: interval.kind().to_owned(),
                    period: interval.first_day(expected),
                });
            }
            expected += width;
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn periods(kind: &str, starts: &[&str], options: &MirrorOptions) -> Vec<String> {
        let start = |start: &&str| {
            let json = format!(r#"{{"id":"x","type":"{kind}","start_time":"{start}"}}"#);
            Start::of(0, &Item::of(&json), options)
        };
        let starts = starts.iter().filter_map(start).collect();
        let found = gaps(starts, &["i".to_owned()], options);
        assert!(found.iter().all(|gap| gap.kind == kind && gap.instance == "i"));
        found.into_iter().map(|gap| gap.period).collect()
    }

    #[test]
    fn periods_without_report_are_gaps() {
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
