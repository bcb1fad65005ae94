//! Decides what to do for each report of a list.

use std::collections::VecDeque;

use crate::client::reports::page::Item;
use crate::error::{Error, Status};
use crate::memory;
use crate::tables::Counts;

use super::archive::{self, Archive, Record, Sharing, too_many};
use super::gaps;
use super::options::MirrorOptions;
use super::result::MirrorResult;

/// The maximum memory for ids, or for reports that may have to be downloaded or verified,
/// in bytes.
pub(super) const MAX_PENDING: usize = 128 * 1024 * 1024;

/// A report to download or to check.
pub(super) struct Job {
    pub(super) record: Record,
    /// Whether to download the report, or to check an existing file.
    pub(super) kind: JobKind,
    /// A separate path for the download, if the report shares its file with other
    /// reports.
    pub(super) separate_path: Option<String>,
}

pub(super) enum JobKind {
    Download,
    /// Add an existing file to the manifest. It is complete, because it has its final
    /// name.
    Adopt,
    /// Compare the file with the manifest.
    Verify,
}

/// The content of the service's lists that a run needs. It is limited, so that long lists
/// do not use much memory.
#[derive(Default)]
pub(super) struct Listed {
    /// The reports that may have to be downloaded or verified.
    pub(super) pending: Vec<Record>,
    /// The memory that they use.
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
        archive.register_path(&record)?;
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

/// Adds the job for a report, if there is anything to do.
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
        Ok(Some((kind, separate_path))) => jobs.push_back(Job {
            record,
            kind,
            separate_path,
        }),
        Ok(None) => result.counts.present += 1,
        Err(e) if e.status() == Status::OutOfMemory => return Err(e),
        Err(e) => result.fail(record.instance, record.id, e),
    }
    Ok(())
}

/// Decides what to do for a report, and a separate path if needed. None if its file is
/// present.
fn decide(
    archive: &mut Archive,
    options: &MirrorOptions,
    record: &mut Record,
    is_known: bool,
) -> Result<Option<(JobKind, Option<String>)>, Error> {
    let mut size = match archive.size(record) {
        Err(e) if !is_known && e.os_code() == Some(libc::ENAMETOOLONG) => {
            record.shorten();
            archive.register_path(record)?;
            archive.size(record)?
        }
        size => size?,
    };
    if !is_known {
        // The existing file may belong to a report that is not in the service's list,
        // because it was omitted or deleted.
        let may_be_foreign =
            size.is_some() && (archive::is_ambiguous(record) || !archive.reserve_file(record)?);
        if may_be_foreign || !archive.owns(record) {
            record.path = archive.unique_path(record)?;
            size = archive.size(record)?;
            if size.is_some() && !archive.reserve_file(record)? {
                return Err(Error::new(
                    Status::File,
                    format!(
                        "{} is also the file of another report; remove one of its names",
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
    let separate_path = match sharing {
        Sharing::None => None,
        Sharing::First | Sharing::Others => Some(archive.unique_path(record)?),
    };
    Ok(Some((kind, separate_path)))
}

/// Whether a failure would affect all reports. More requests with rejected credentials
/// could lock the key, and a full disk cannot store any report.
pub(super) fn is_fatal(error: &Error) -> bool {
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
