//! Downloading reports.

use std::ffi::c_char;

use super::buffer::dbss_buffer;
use super::context::dbss_context;
use super::guard::{Handle, guarded, optional_text, out, text};
use super::status::dbss_status;
use crate::client::ReportRequest;

/// Downloads an audit report (PDF or ZIP) into memory: the service's call
/// DownloadAuditReport. Blocks until the whole report is there or the call has
/// failed; a report that did not arrive whole is a failure.
///
/// `ctx` (required) may be in use by other threads at the same time.
/// `project` and `instance` (required): the ids of the project and of the audit
/// instance, 32 to 64 characters. `id` (required): the report's id, 16 to 64
/// characters. Ids are made of ASCII letters, digits, "-" and "_".
/// `locale`: the language of the report, "en-us" or "zh-cn", in any letter
/// case, "_" for "-" accepted; NULL leaves the choice to the service, which
/// takes en-us.
/// `out_buf` (required) receives the report, or { NULL, 0 } on failure; it is
/// yours: end it with dbss_buffer_free().
///
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID,
/// DBSS_ERR_INVALID_LOCALE and DBSS_ERR_NOT_CONFIGURED (no token), all before
/// any traffic; every status of the groups DBSS_ERR_SERVICE and
/// DBSS_ERR_NETWORK; DBSS_ERR_RESOURCE; DBSS_ERR_OUT_OF_MEMORY, also for a
/// report that the system cannot hold; DBSS_ERR_LIMIT_EXCEEDED for one that is
/// larger than the option "max_memory_bytes".
/// Memory grows with what arrives, not with what the server announces.
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_download(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    locale: *const c_char,
    out_buf: *mut dbss_buffer,
) -> dbss_status {
    guarded(|| {
        // SAFETY: by the header's rules NULL or writable.
        let slot = unsafe { out(out_buf, dbss_buffer::EMPTY, "out_buf") }?;
        // SAFETY: by the header's rules a context of ours, and strings that
        // stay as they are until this function returns.
        let (context, request) = unsafe {
            (
                dbss_context::borrow(ctx, "ctx")?,
                ReportRequest::new(
                    text(project, "project")?,
                    text(instance, "instance")?,
                    text(id, "id")?,
                    optional_text(locale, "locale")?,
                )?,
            )
        };
        *slot = dbss_buffer::give(context.download_to_memory(&request)?);
        Ok(())
    })
}
