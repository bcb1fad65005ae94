//! A local archive of audit reports: downloads the reports that are missing, and keeps
//! the others.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | a run: the lists, the plan, the threads, the gaps |
//! | `options.rs` | the options that select reports |
//! | `plan.rs` | decides what to do for each report |
//! | `workers.rs` | the threads that download |
//! | `archive.rs` | the directory: its lock, manifest and checksums |
//! | `gaps.rs` | the days, weeks and months that have no report |
//! | `result.rs` | the result of a run |

mod archive;
mod gaps;
mod options;
mod plan;
mod result;
mod workers;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::arguments::check_project;
use super::inner::ClientInner;
use crate::client::reports::list::List;
use crate::error::{Error, Status};
use crate::http::Call;
use crate::log::Level;
use crate::memory;
use crate::message::name;
use crate::operation::{ActiveOperation, Operation};

use archive::{Archive, make_directory, too_many};
pub use gaps::Gap;
pub use options::MirrorOptions;
use plan::{Listed, MAX_PENDING, is_fatal, plan};
pub use result::{Failure, MirrorResult};

/// The maximum memory per report while gaps are searched.
const BYTES_PER_DAY: usize = 256;

/// The maximum memory per id in addition to its text.
const BYTES_PER_ID: usize = 64;

fn check_arguments(project: Option<&str>, directory: &Path, options: &MirrorOptions) -> Result<(), Error> {
    super::download::check_path(directory, "directory")?;
    check_project(project)?;
    match (options.since, options.until) {
        (Some(since), Some(until)) if until < since => {
            let what = format_args!("is before {}", name("since"));
            Err(Error::argument(Status::InvalidValue, "until", what))
        }
        _ => Ok(()),
    }
}

impl ClientInner {
    /// Updates an archive. Returns a result even after a failure, if the run began.
    pub(super) fn mirror(
        self: &Arc<ClientInner>,
        project: Option<&str>,
        directory: &Path,
        options: &MirrorOptions,
        active: Option<ActiveOperation>,
    ) -> (Option<MirrorResult>, Result<(), Error>) {
        let mut result = None;
        if let Err(e) = check_arguments(project, directory, options) {
            return (None, Err(e));
        }
        let outcome = self.run(active, "mirror".into(), |active| {
            self.with_call(&active, |call| {
                let project = self.project(call, project)?;
                make_directory(directory)?;
                let directory = std::path::absolute(directory).map_err(|e| {
                    Error::os(Status::File, "cannot determine the directory's absolute path", &e)
                })?;
                let mut archive = Archive::open(&directory)?;
                if let Some(repair_message) = archive.repair_message.take() {
                    self.log(Level::Warning, || repair_message);
                }
                let result = result.insert(MirrorResult::default());
                let operation = active.operation();
                let outcome = self.fill(call, operation, &project, &mut archive, options, result);
                // Also after a failure, so that the existing files can be checked.
                outcome.and(archive.finish())
            })
        });
        (result, outcome)
    }

    /// Lists the ids of all instances.
    fn instances(self: &Arc<ClientInner>, call: &Arc<Call>, project: &str) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        let mut bytes = 0;
        self.each_page(call, project, List::Instances, |items| {
            memory::reserve(&mut ids, items.len())?;
            bytes += items
                .iter()
                .map(|item| item.id().len() + BYTES_PER_ID)
                .sum::<usize>();
            if bytes > MAX_PENDING {
                return Err(too_many("instances"));
            }
            ids.extend(items.iter().map(|item| item.id().to_owned()));
            Ok(())
        })?;
        Ok(ids)
    }

    fn fill(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        operation: &Arc<Operation>,
        project: &str,
        archive: &mut Archive,
        options: &MirrorOptions,
        result: &mut MirrorResult,
    ) -> Result<(), Error> {
        let instances = match &options.instance {
            Some(instance) => vec![instance.clone()],
            None => self.instances(call, project)?,
        };
        let mut listed = Listed::default();
        let mut complete = Vec::new();
        for (index, instance) in instances.iter().enumerate() {
            let before = (listed.pending.len(), listed.bytes, listed.starts.len());
            let counts = result.counts.clone();
            let read = List::reports(instance, options.name.as_deref()).and_then(|list| {
                self.each_page(call, project, list, |items| {
                    items.iter().try_for_each(|item| {
                        call.check()?;
                        listed.add(archive, options, (index, instance), item, &mut result.counts)
                    })
                })
            });
            let Err(e) = read else {
                complete.push(index);
                continue;
            };
            // An incomplete list does not count.
            listed.pending.truncate(before.0);
            listed.bytes = before.1;
            listed.starts.truncate(before.2);
            result.counts = counts;
            match e.status() {
                // The instance was deleted after the instances were listed.
                Status::NotFound if options.instance.is_none() => {}
                _ if is_fatal(&e) || options.instance.is_some() => return Err(e),
                _ => result.fail(instance.clone(), String::new(), e),
            }
        }
        let mut jobs = VecDeque::new();
        if jobs.try_reserve(listed.pending.len()).is_err() {
            return Err(memory::out_of_memory());
        }
        // Planned only when the paths of all reports are known.
        for record in listed.pending {
            call.check()?;
            plan(archive, options, record, result, &mut jobs)?;
        }
        memory::probe(listed.starts.len() * BYTES_PER_DAY)?;
        result.gaps = gaps::gaps(listed.starts, &instances, &complete, options);
        let total = jobs.len();
        self.work(call, operation, project, archive, options, jobs, result)?;
        self.log(Level::Info, || {
            let counts = &result.counts;
            format!(
                "mirror: {} reports listed, {total} of them to download or to verify",
                counts.listed
            )
        });
        // The progress callback gets its last chance to cancel.
        operation.set_percent(100);
        operation.tick()?;
        if result.counts.failed > 0 {
            return Err(Error::new(
                Status::Partial,
                format!(
                    "{}; the result has all failures, of which the first is: {}",
                    result.what_failed(),
                    result.failures[0].error.marked()
                ),
            ));
        }
        Ok(())
    }
}
