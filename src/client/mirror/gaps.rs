//! The days, weeks and months between a type's first and last report that have
//! none.

use serde::Serialize;

use super::options::MirrorOptions;
use crate::client::reports::page::Item;
use crate::client::time::date;

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

/// How often reports of a type are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Day,
    Month,
    Week,
}

impl Step {
    fn of(kind: &str) -> Option<Step> {
        [Step::Day, Step::Month, Step::Week]
            .into_iter()
            .find(|step| step.kind() == kind)
    }

    fn kind(self) -> &'static str {
        match self {
            Step::Day => "AUDIT_REPORT_DAY",
            Step::Month => "AUDIT_REPORT_MONTH",
            Step::Week => "AUDIT_REPORT_WEEK",
        }
    }

    /// The number of the period that a day is in, or begins.
    fn number(self, day: i64) -> i64 {
        match self {
            Step::Day | Step::Week => day,
            Step::Month => {
                let (year, month, _) = date(day);
                year * 12 + month - 1
            }
        }
    }

    /// The first day of a period.
    fn name(self, number: i64) -> String {
        let (year, month, day) = match self {
            Step::Day | Step::Week => date(number),
            Step::Month => (number.div_euclid(12), number.rem_euclid(12) + 1, 1),
        };
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// When a report of such a type begins: its instance's index, and the number of
/// the period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    instance: usize,
    step: Step,
    number: i64,
}

impl Start {
    /// None for reports that are not made regularly, or tell no day.
    pub(super) fn of(instance: usize, item: &Item, options: &MirrorOptions) -> Option<Start> {
        let step = Step::of(item.get("type")?)?;
        let day = options.day(item.get("start_time")?)?;
        Some(Start {
            instance,
            step,
            number: step.number(day),
        })
    }
}

/// The gaps of all instances and types. Where a range of days was asked for, it
/// counts from its first day to its last, where both are given.
pub(super) fn gaps(mut starts: Vec<Start>, instances: &[String], options: &MirrorOptions) -> Vec<Gap> {
    let name = |start: &Start| instances.get(start.instance).map_or("", String::as_str);
    starts.sort_unstable_by(|a, b| (name(a), a.step, a.number).cmp(&(name(b), b.step, b.number)));
    let mut gaps = Vec::new();
    for there in starts.chunk_by(|a, b| (a.instance, a.step) == (b.instance, b.step)) {
        let (Some(first), Some(last)) = (there.first(), there.last()) else {
            continue;
        };
        let step = first.step;
        let bound = |bound: Option<i64>| bound.map(|day| step.number(day));
        let (from, to) = match step {
            // Which day a week begins with only the reports tell.
            Step::Week => (first.number, last.number),
            _ => (
                bound(options.since).unwrap_or(first.number),
                bound(options.until).unwrap_or(last.number),
            ),
        };
        let width = if step == Step::Week { 7 } else { 1 };
        let mut expected = from;
        while expected <= to && gaps.len() < MOST_GAPS {
            // A report covers the period in which it begins.
            let next = there.partition_point(|start| start.number < expected);
            if there
                .get(next)
                .is_none_or(|start| start.number >= expected + width)
            {
                gaps.push(Gap {
                    instance: name(first).to_owned(),
                    kind: step.kind().to_owned(),
                    period: step.name(expected),
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
