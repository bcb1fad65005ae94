//! The result of a run.

use serde::{Serialize, Serializer};

use crate::error::{Error, Status};
use crate::memory;
use crate::tables::Counts;

use super::gaps::Gap;

/// A report that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The id of its instance.
    pub instance: String,
    /// The id of the report. Empty if the list of the instance's reports failed.
    pub id: String,
    /// The error. Each text from the service is limited to 1 KiB, and so are its details
    /// together.
    pub error: Error,
}

/// The result of a mirror, possibly partial.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MirrorResult {
    /// The numbers of reports by outcome.
    pub counts: Counts,
    /// The reports that failed.
    pub failures: Vec<Failure>,
    /// The days, weeks and months without a report: between the first and the last report
    /// of an instance and a type, or between [`since`](super::MirrorOptions::since) and
    /// [`until`](super::MirrorOptions::until).
    pub gaps: Vec<Gap>,
}

#[derive(Serialize)]
struct FailureJson<'a> {
    instance: &'a str,
    id: &'a str,
    status: i32,
    status_name: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct ResultJson<'a> {
    #[serde(flatten, serialize_with = "counts_by_name")]
    counts: &'a Counts,
    failures: Vec<FailureJson<'a>>,
    gaps: &'a [Gap],
}

fn counts_by_name<S: Serializer>(counts: &&Counts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.named())
}

impl MirrorResult {
    pub(super) fn fail(&mut self, instance: String, id: String, error: Error) {
        self.counts.failed += 1;
        let error = error.shortened();
        self.failures.push(Failure { instance, id, error });
    }

    /// Says what failed, in one line.
    #[doc(hidden)]
    pub fn what_failed(&self) -> String {
        let lists = self.failures.iter().filter(|one| one.id.is_empty()).count();
        let reports = self.failures.len() - lists;
        let plural = if lists == 1 { "" } else { "s" };
        let not_saved = format!("{reports} of {} reports failed to download", self.counts.listed);
        let not_listed = format!("the reports of {lists} instance{plural} could not be listed");
        match (reports, lists) {
            (_, 0) => not_saved,
            (0, _) => not_listed,
            _ => format!("{not_saved}, and {not_listed}"),
        }
    }

    /// Returns the result as JSON: the counts by their names; "failures", each with
    /// instance, id, status, status_name, message; "gaps", each with instance, type,
    /// period.
    pub fn json(&self) -> Result<Vec<u8>, Error> {
        memory::probe(self.failures.len() * 4096)?;
        let failures = self.failures.iter().map(|failure| FailureJson {
            instance: &failure.instance,
            id: &failure.id,
            status: failure.error.status() as i32,
            status_name: failure.error.status().name(),
            message: failure.error.message(),
        });
        serde_json::to_vec(&ResultJson {
            counts: &self.counts,
            failures: failures.collect(),
            gaps: &self.gaps,
        })
        .map_err(|e| Error::new(Status::Internal, format!("failed to serialize the result: {e}")))
    }
}
