//! Finds the days, weeks and months without a report.

use std::collections::HashSet;

use serde::Serialize;

use super::options::MirrorOptions;
use crate::client::reports::page::Item;
use crate::client::time::date;

/// The maximum number of gaps of one instance and type, and of all together.
const MAX_GAPS_OF_SERIES: usize = 10_000;
const MAX_GAPS: usize = 1_000_000;

const DAYS_OF_WEEK: i64 = 7;

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

/// The reports of one instance and type, in order.
struct Series<'a> {
    instance: usize,
    interval: Interval,
    starts: &'a [Start],
}

impl Series<'_> {
    /// Returns the first and the last period that should have a report; none if neither
    /// reports nor options tell.
    fn range(&self, options: &MirrorOptions) -> Option<(i64, i64)> {
        let bound = |bound: Option<i64>| bound.map(|day| self.interval.number(day));
        let (since, until) = (bound(options.since), bound(options.until));
        match (self.starts.first(), self.starts.last()) {
            (Some(first), Some(last)) if self.interval == Interval::Week => {
                // Only the reports show with which day a week begins.
                let before = since.map_or(0, |since| (first.number - since).max(0) / DAYS_OF_WEEK);
                let after = until.map_or(0, |until| (until - last.number).max(0) / DAYS_OF_WEEK);
                Some((
                    first.number - before * DAYS_OF_WEEK,
                    last.number + after * DAYS_OF_WEEK,
                ))
            }
            (Some(first), Some(last)) => Some((since.unwrap_or(first.number), until.unwrap_or(last.number))),
            _ if self.interval == Interval::Week => None,
            _ => since.zip(until),
        }
    }

    /// Whether no report begins in this period.
    fn is_gap(&self, begin: i64, width: i64) -> bool {
        let next = self.starts.partition_point(|start| start.number < begin);
        self.starts
            .get(next)
            .is_none_or(|start| start.number >= begin + width)
    }
}

/// Finds the gaps of all instances and types. `listed` has the instances whose lists are
/// complete. Of the type that the options select, an instance without any report has gaps too.
pub(super) fn gaps(
    mut starts: Vec<Start>,
    instances: &[String],
    listed: &[usize],
    options: &MirrorOptions,
) -> Vec<Gap> {
    let name = |index: usize| instances.get(index).map_or("", String::as_str);
    starts.sort_unstable_by_key(|start| (start.instance, start.interval, start.number));
    let mut series: Vec<Series<'_>> = starts
        .chunk_by(|a, b| (a.instance, a.interval) == (b.instance, b.interval))
        .filter_map(|starts| {
            starts.first().map(|first| Series {
                instance: first.instance,
                interval: first.interval,
                starts,
            })
        })
        .collect();
    if let Some(interval) = options.kind().and_then(Interval::of) {
        let known: HashSet<usize> = series.iter().map(|one| one.instance).collect();
        let missing = listed.iter().filter(|index| !known.contains(index));
        series.extend(missing.map(|index| Series {
            instance: *index,
            interval,
            starts: &[],
        }));
    }
    series.sort_by_key(|one| (name(one.instance), one.interval));
    let most = (MAX_GAPS / series.len().max(1)).clamp(1, MAX_GAPS_OF_SERIES);
    let mut gaps = Vec::new();
    for one in &series {
        let Some((from, to)) = one.range(options) else {
            continue;
        };
        let width = match one.interval {
            Interval::Week => DAYS_OF_WEEK,
            Interval::Day | Interval::Month => 1,
        };
        let before = gaps.len();
        // The latest first: a report with a wrong date can cause very many earlier ones.
        let periods = (0..=(to - from).div_euclid(width)).rev();
        let missing = periods
            .map(|count| from + count * width)
            .filter(|begin| one.is_gap(*begin, width))
            .take(most);
        gaps.extend(missing.map(|begin| Gap {
            instance: name(one.instance).to_owned(),
            kind: one.interval.kind().to_owned(),
            period: one.interval.first_day(begin),
        }));
        gaps[before..].reverse();
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
        let found = gaps(starts, &["i".to_owned()], &[0], options);
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
        // A week begins with the day of its reports.
        range.set("until", b"2026-03-14").expect("a day");
        assert_eq!(
            periods("AUDIT_REPORT_WEEK", &["2026-03-06"], &range),
            ["2026-02-27", "2026-03-13"]
        );
        assert_eq!(periods("AUDIT_REPORT_DAY", &[], &range), [""; 0]);
        range.set("until", b"2026-02-27").expect("a day");
        range.set("type", b"AUDIT_REPORT_DAY").expect("a type");
        assert_eq!(
            periods("AUDIT_REPORT_DAY", &[], &range),
            ["2026-02-26", "2026-02-27"]
        );
    }

    #[test]
    fn latest_gaps_are_kept() {
        let far = ["1970-01-01", "2026-01-01", "2026-01-03"];
        let found = periods("AUDIT_REPORT_DAY", &far, &MirrorOptions::default());
        assert_eq!(found.len(), MAX_GAPS_OF_SERIES);
        assert_eq!(found.last().map(String::as_str), Some("2026-01-02"));
    }
}
