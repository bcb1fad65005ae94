//! `dbss_mirror_options` and `dbss_mirror_result`: a local archive of audit reports.

use std::ffi::{CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::Arc;

use super::arguments::{bytes, out};
use super::buffer::dbss_buffer;
use super::call::{ffi_copy, ffi_status};
use super::context::{client_of, dbss_context};
use super::error::{c_string, dbss_error, owned_error};
use super::handle::Handle;
use super::operation::dbss_operation;
use super::operation::with_operation;
use super::panic::ffi_value;
use super::settings::{Settings, copy_settings, new_settings, set_value};
use super::status::dbss_status;
use dbss::mirror::{Counts, MirrorOptions, MirrorResult};

/// The options of a mirror, by key and value.
///
/// @threads any.
pub struct dbss_mirror_options {
    _opaque: [u8; 0],
}

impl Handle for dbss_mirror_options {
    type Value = Settings<MirrorOptions>;
}

/// The result of a mirror. It never changes.
///
/// @threads any.
pub struct dbss_mirror_result {
    _opaque: [u8; 0],
}

#[doc(hidden)]
pub struct MirrorResultTexts {
    result: MirrorResult,
    /// The ids of the failures, and the instances, types and periods of the gaps.
    failures: Vec<(CString, CString)>,
    gaps: Vec<(CString, CString, CString)>,
}

impl MirrorResultTexts {
    fn new(result: MirrorResult) -> MirrorResultTexts {
        let failures = result.failures.iter();
        let gaps = result.gaps.iter();
        MirrorResultTexts {
            failures: failures
                .map(|f| (c_string(&f.instance), c_string(&f.id)))
                .collect(),
            gaps: gaps
                .map(|gap| {
                    (
                        c_string(&gap.instance),
                        c_string(&gap.kind),
                        c_string(&gap.period),
                    )
                })
                .collect(),
            result,
        }
    }
}

impl Handle for dbss_mirror_result {
    type Value = MirrorResultTexts;
}

/// Makes options for a mirror, with every option at its default.
///
/// @param out_options required.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_options_new(out_options: *mut *mut dbss_mirror_options) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    unsafe { new_settings(out_options, "out_options") }
}

/// Sets an option of a mirror:
///
/// {OPTIONS mirror}
///
/// @param options required.
/// @param key required, option of mirror.
/// @param value required, bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_options_set(
    options: *mut dbss_mirror_options,
    key: *const c_char,
    value: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contract of `set_value`.
    unsafe {
        set_value(
            options,
            "options",
            key,
            value,
            |options: &mut MirrorOptions, key, value| options.set(key, value),
        )
    }
}

/// Frees options. Running mirrors are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_options_free(options: *mut dbss_mirror_options) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_mirror_options::release(options) });
}

/// Updates a local archive of reports: downloads every report that is ready and
/// not in the archive yet, several in parallel. Nothing in the archive is ever
/// deleted, even if the service deletes a report. The operation's bytes are the
/// sum of all downloads, and its percentage is that of finished reports.
///
/// The directory then contains:
///
/// - {instance}/{year}/{name}_{id}.pdf (or .zip): the reports. Each appears
///   only when it is complete and on the disk. With a locale, _{locale} comes
///   before the extension. If another report's file would have the same name on
///   some file system, 16 digits derived from the id come there too.
/// - manifest.jsonl: a line of JSON for each, with id, name, instance, locale,
///   format, type, start_time, end_time, path, size, sha256, and the request id
///   and date of its download (null for an existing file that was adopted). If
///   an id has several lines, the last counts.
/// - SHA256SUMS, for "sha256sum -c".
/// - .dbss-mirror.lock: allows only one mirror of a directory at a time. The
///   lock is released when its process ends.
///
/// After a mirror was cancelled or killed, the next call continues the work.
/// The failure of one report does not stop the others. Failures that would
/// affect all reports, such as rejected credentials and a full disk, end the
/// call.
///
/// @param ctx required.
/// @param project optional. The project's id; NULL for the context's.
/// @param directory required, bytes. It is created if it does not exist.
/// @param options optional. Selects the reports; NULL for all reports.
/// @param out_result required, set on failure. The result, possibly partial;
///   NULL if the mirror did not begin.
/// @errors INVALID_VALUE, INVALID_ID; MIRROR_LOCKED; PARTIAL (some reports
///   failed to download, see dbss_mirror_result_failure_count()); FILE*; as
///   dbss_cursor_next
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_reports_mirror(
    ctx: *mut dbss_context,
    project: *const c_char,
    directory: *const c_char,
    options: *const dbss_mirror_options,
    operation: *mut dbss_operation,
    out_result: *mut *mut dbss_mirror_result,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_result, ptr::null_mut(), "out_result") };
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_operation(operation, |active| {
                let slot = slot?;
                let client = client_of(ctx, project, active)?;
                let directory = OsStr::from_bytes(bytes(directory, "directory")?);
                let options = if options.is_null() {
                    MirrorOptions::default()
                } else {
                    copy_settings(options, "options")?
                };
                let (result, status) = match client.mirror(directory, &options) {
                    Ok(result) => (Some(result), Ok(())),
                    Err(e) => (e.result.map(|result| *result), Err(e.error)),
                };
                if let Some(result) = result {
                    *slot = dbss_mirror_result::into_handle(Arc::new(MirrorResultTexts::new(result)));
                }
                status
            })
        }
    })
}

/// Returns a count of a result.
///
/// # Safety
/// As for [`Handle::borrow`].
unsafe fn count(result: *const dbss_mirror_result, of: fn(&Counts) -> u64) -> i64 {
    let count = |result: &MirrorResultTexts| i64::try_from(of(&result.result.counts)).unwrap_or(i64::MAX);
    // SAFETY: the same contract.
    unsafe { dbss_mirror_result::read(result, 0, count) }
}

/// Reports in the service's lists that the options select.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_listed(result: *const dbss_mirror_result) -> i64 {
    // SAFETY: the header's rules are the contract of `count`.
    unsafe { count(result, |counts| counts.listed) }
}

/// Reports that were added to the archive by this run.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_downloaded(result: *const dbss_mirror_result) -> i64 {
    // SAFETY: the header's rules are the contract of `count`.
    unsafe { count(result, |counts| counts.downloaded) }
}

/// Reports that were in the archive before this run.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_present(result: *const dbss_mirror_result) -> i64 {
    // SAFETY: the header's rules are the contract of `count`.
    unsafe { count(result, |counts| counts.present) }
}

/// Reports that the service is still generating.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_not_ready(result: *const dbss_mirror_result) -> i64 {
    // SAFETY: the header's rules are the contract of `count`.
    unsafe { count(result, |counts| counts.not_ready) }
}

/// Reports that were deleted between the list and the download.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_vanished(result: *const dbss_mirror_result) -> i64 {
    // SAFETY: the header's rules are the contract of `count`.
    unsafe { count(result, |counts| counts.vanished) }
}

/// Reports, or lists of them, that failed; each has an error.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_failed(result: *const dbss_mirror_result) -> i64 {
    // SAFETY: the header's rules are the contract of `count`.
    unsafe { count(result, |counts| counts.failed) }
}

/// Files that differed from the manifest and were replaced.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_repaired(result: *const dbss_mirror_result) -> i64 {
    // SAFETY: the header's rules are the contract of `count`.
    unsafe { count(result, |counts| counts.repaired) }
}

/// The number of failures: reports, or lists of reports.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_failure_count(result: *const dbss_mirror_result) -> usize {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_mirror_result::read(result, 0, |result| result.failures.len()) }
}

/// The id of a report that failed to download, or "" if the list of an
/// instance's reports failed.
///
/// @param index index of dbss_mirror_result_failure_count.
/// @return borrowed, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_failure_id(
    result: *const dbss_mirror_result,
    index: usize,
) -> *const c_char {
    let id = |result: &MirrorResultTexts| result.failures.get(index).map_or(ptr::null(), |f| f.1.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_mirror_result::read(result, ptr::null(), id) }
}

/// The id of the instance of a report that failed to download.
///
/// @param index index of dbss_mirror_result_failure_count.
/// @return borrowed, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_failure_instance(
    result: *const dbss_mirror_result,
    index: usize,
) -> *const c_char {
    let id = |result: &MirrorResultTexts| result.failures.get(index).map_or(ptr::null(), |f| f.0.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_mirror_result::read(result, ptr::null(), id) }
}

/// The error of a report that failed to download. Each text from the service is
/// limited to 1 KiB, and so are its details together.
///
/// @param index index of dbss_mirror_result_failure_count.
/// @return owned, nullable. NULL past the last one, and if there is not enough
///   memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_failure_error(
    result: *const dbss_mirror_result,
    index: usize,
) -> *mut dbss_error {
    let error = |result: &MirrorResultTexts| result.result.failures.get(index).map(|f| f.error.clone());
    // SAFETY: the header's rules are the contract of `read`.
    ffi_copy(|| owned_error(unsafe { dbss_mirror_result::read(result, None, error) }))
}

/// The number of days, weeks and months without a report of an instance and a
/// type (AUDIT_REPORT_DAY, _WEEK, _MONTH), from "since" to "until", or without
/// these from the first to the last report. What has no report at all has gaps
/// only if "type" selects it, "since" and "until" are set, and it is not weekly:
/// only reports show with which day a week begins. At most 10000 of an instance
/// and a type are found, the latest ones.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_gap_count(result: *const dbss_mirror_result) -> usize {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_mirror_result::read(result, 0, |result| result.gaps.len()) }
}

/// The first day of a gap, such as "2026-11-24".
///
/// @param index index of dbss_mirror_result_gap_count.
/// @return borrowed, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_gap_period(
    result: *const dbss_mirror_result,
    index: usize,
) -> *const c_char {
    let period = |result: &MirrorResultTexts| result.gaps.get(index).map_or(ptr::null(), |g| g.2.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_mirror_result::read(result, ptr::null(), period) }
}

/// The type of the report that is missing in a gap.
///
/// @param index index of dbss_mirror_result_gap_count.
/// @return borrowed, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_gap_type(
    result: *const dbss_mirror_result,
    index: usize,
) -> *const c_char {
    let kind = |result: &MirrorResultTexts| result.gaps.get(index).map_or(ptr::null(), |g| g.1.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_mirror_result::read(result, ptr::null(), kind) }
}

/// The id of the instance of a gap.
///
/// @param index index of dbss_mirror_result_gap_count.
/// @return borrowed, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_gap_instance(
    result: *const dbss_mirror_result,
    index: usize,
) -> *const c_char {
    let instance = |result: &MirrorResultTexts| result.gaps.get(index).map_or(ptr::null(), |g| g.0.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_mirror_result::read(result, ptr::null(), instance) }
}

/// The whole result as a JSON document, for wrappers: the counts by their
/// names; "failures", each with instance, id, status, status_name, message;
/// "gaps", each with instance, type, period.
///
/// @param result required.
/// @param out_json required. UTF-8, without a NUL at its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_json(
    result: *const dbss_mirror_result,
    out_json: *mut dbss_buffer,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_json, dbss_buffer::EMPTY, "out_json") };
    ffi_status(|| {
        let slot = slot?;
        // SAFETY: the header's rules are the contract of `borrow`.
        let result = unsafe { dbss_mirror_result::borrow(result, "result") }?;
        *slot = dbss_buffer::from_bytes(result.result.json()?.into_boxed_slice());
        Ok(())
    })
}

/// Frees a result, and the strings that its getters returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_mirror_result_free(result: *mut dbss_mirror_result) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_mirror_result::release(result) });
}

#[cfg(test)]
mod tests {
    use dbss::internal::tables::COUNTS;

    #[test]
    fn every_count_in_table_has_a_getter() {
        let source = include_str!("mirror.rs");
        for row in COUNTS {
            let (name, help) = (row.name, row.help);
            let getter = format!(
                "/// {help}\n///\n/// @return count.\n#[unsafe(no_mangle)]\npub unsafe extern \"C\" fn dbss_mirror_result_{name}("
            );
            assert!(source.contains(&getter), "{name}");
            assert!(
                source.contains(&format!("count(result, |counts| counts.{name})")),
                "{name}"
            );
        }
    }
}
