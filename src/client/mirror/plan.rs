//! What is to be done for each report of a list.

use std::collections::VecDeque;

use crate::client::reports::page::Item;
use crate::error::{Error, Status};
use crate::memory;
use crate::tables::Counts;

use super::archive::{self, Archive, Record, Sharing, too_many};
use super::gaps;
use super::options::MirrorOptions;
use super::result::MirrorResult;

/// So many bytes of ids, or of reports that are to be downloaded or looked at, are
/// kept in memory.
pub(super) const MAX_PENDING: usize = 128 * 1024 * 1024;

/// One report to be had.
pub(super) struct Job {
    pub(super) record: Record,
    /// Whether a file that is there has to be looked at, instead of a download.
    pub(super) kind: JobKind,
    /// A path of its own, where its file is that of other reports too: what is
    /// downloaded goes there.
    pub(super) elsewhere: Option<String>,
}

pub(super) enum JobKind {
    Download,
    /// The file is whole, as it has its name, and the manifest lacks it.
    Adopt,
    /// The file is to be compared with the manifest.
    Verify,
}

/// What the service's lists say, as far as a run needs it: how long they are must
/// not be seen in the memory that it takes.
#[derive(Default)]
pub(super) struct Listed {
    /// The reports that may have to be downloaded or looked at.
    pub(super) pending: Vec<Record>,
    /// What they take.
    pub(super) bytes: usize,
    pub(super) starts: Vec<gaps::Start>,
}

impl Listed {
    pub(super) fn add(
        &mut self,
        archive: &mut Archive,
        options: &MirrorOptions,
        (index, instance): (usize, &str),
        item: &Item,
        counts: &mut Counts,
    ) -> Result<(), Error> {
        let record = Record::of(instance, item, options);
        archive.claim(&record)?;
        if !options.wants(item) {
            return Ok(());
        }
        counts.listed += 1;
        if let Some(start) = gaps::Start::of(index, item, options) {
            memory::reserve(&mut self.starts, 1)?;
            self.starts.push(start);
        }
        if item.percentum().is_some_and(|percent| percent < 100) {
            counts.not_ready += 1;
            return Ok(());
        }
        if !options.verify && archive.has_own_file(&record) {
            counts.present += 1;
            return Ok(());
        }
        self.bytes += record.bytes();
        if self.bytes > MAX_PENDING {
            return Err(too_many("reports"));
        }
        memory::reserve(&mut self.pending, 1)?;
        self.pending.push(record);
        Ok(())
    }
}

/// Decides what is to be done for a report.
pub(super) fn plan(
    archive: &mut Archive,
    options: &MirrorOptions,
    record: Record,
    result: &mut MirrorResult,
    jobs: &mut VecDeque<Job>,
) -> Result<(), Error> {
    let known = archive.find(&record).cloned();
    let is_known = known.is_some();
    let mut record = known.unwrap_or(record);
    match decide(archive, options, &mut record, is_known) {
        Ok(Some((kind, elsewhere))) => jobs.push_back(Job {
            record,
            kind,
            elsewhere,
        }),
        Ok(None) => result.counts.present += 1,
        Err(e) if e.status() == Status::OutOfMemory => return Err(e),
        Err(e) => result.fail(record.instance, record.id, e),
    }
    Ok(())
}

/// How a report's file is got, and where it goes if not to its path; none where
/// it is there.
fn decide(
    archive: &mut Archive,
    options: &MirrorOptions,
    record: &mut Record,
    is_known: bool,
) -> Result<Option<(JobKind, Option<String>)>, Error> {
    let mut size = match archive.size(record) {
        Err(e) if !is_known && e.os_code() == Some(libc::ENAMETOOLONG) => {
            record.shorten();
            archive.claim(record)?;
            archive.size(record)?
        }
        size => size?,
    };
    if !is_known {
        // What is there may be the file of a report that the service's list lacks, as
        // it was left out or deleted.
        let doubtful = size.is_some() && (archive::is_ambiguous(record) || !archive.take_up(record)?);
        if doubtful || !archive.owns(record) {
            record.path = archive.unique_path(record)?;
            size = archive.size(record)?;
            if size.is_some() && !archive.take_up(record)? {
                return Err(Error::new(
                    Status::File,
                    format!(
                        "{} is the file of another report too; remove one of its names",
                        record.path
                    ),
                ));
            }
        }
        return Ok(Some((size.map_or(JobKind::Download, |_| JobKind::Adopt), None)));
    }
    let sharing = archive.sharing(record);
    let kind = match size {
        Some(_) if sharing == Sharing::Others => JobKind::Download,
        None => JobKind::Download,
        Some(size) if size == record.size && !options.verify => return Ok(None),
        Some(_) => JobKind::Verify,
    };
    let elsewhere = match sharing {
        Sharing::None => None,
        Sharing::First | Sharing::Others => Some(archive.unique_path(record)?),
    };
    Ok(Some((kind, elsewhere)))
}

/// Whether a failure would be that of all reports: what is refused to one is
/// refused to all, and asking on would lock the key; a full disk takes none.
pub(super) fn ends_all(error: &Error) -> bool {
    matches!(
        error.status(),
        Status::Unauthenticated
            | Status::NotConfigured
            | Status::NoToken
            | Status::Cancelled
            | Status::Closed
            | Status::Interrupted
            | Status::TotalTimeout
            | Status::OutOfMemory
            | Status::DiskFull
    )
}
