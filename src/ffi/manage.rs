//! Creating, awaiting and deleting reports.

use std::ffi::c_char;
use std::sync::Arc;

use super::context::dbss_context;
use super::guard::{Handle, guarded, null, optional_text, text, under};
use super::operation::dbss_operation;
use super::status::dbss_status;
use dbss::internal::{Client, NewReport};
use dbss::{Error, Status};

/// The room that an id takes, with the NUL at its end.
pub const DBSS_ID_SIZE: usize = 65;

/// What a call that creates a report has.
struct Creation {
    client: Arc<Client>,
    report: NewReport,
}

/// The strings that say what to create, as they come in.
struct Wanted {
    project: *const c_char,
    instance: *const c_char,
    template_id: *const c_char,
    start_time: *const c_char,
    end_time: *const c_char,
    start_date: *const c_char,
    end_date: *const c_char,
    db_ids: *const c_char,
}

/// Takes the parameters of a creation.
///
/// # Safety
/// The handles are as for [`Handle::borrow`]; each string is NULL or
/// NUL-terminated and stays as it is during the call.
unsafe fn creation(ctx: *mut dbss_context, wanted: Wanted) -> Result<Creation, Error> {
    // SAFETY: the same contract.
    unsafe {
        Ok(Creation {
            client: dbss_context::borrow(ctx, "ctx")?,
            report: NewReport::new(
                optional_text(wanted.project, "project")?,
                text(wanted.instance, "instance")?,
                text(wanted.template_id, "template_id")?,
                [
                    text(wanted.start_time, "start_time")?,
                    text(wanted.end_time, "end_time")?,
                ],
                [
                    optional_text(wanted.start_date, "start_date")?,
                    optional_text(wanted.end_date, "end_date")?,
                ],
                optional_text(wanted.db_ids, "db_ids")?,
            )?,
        })
    }
}

/// Has the service create a report. The service says that it will, gives no id,
/// and takes its time: dbss_report_generate() finds the new report and waits.
///
/// `ctx` (required). `project`: NULL for the context's, as for
/// dbss_report_download(). `instance` and `template_id` (required): ids, see
/// dbss_templates_list(). `start_time` and `end_time` (required): the range
/// that the report covers, as text in the form that the service takes, which is
/// passed on as it is. `start_date`, `end_date` and `db_ids` (ids of databases,
/// joined by commas): NULL for none. `operation` may be NULL.
///
/// A request that may have reached the service is not sent again, so a lost
/// connection ends the call though the report may have been created.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID,
/// DBSS_ERR_INVALID_VALUE, all before any traffic; DBSS_ERR_NOT_DONE; every
/// status of the groups DBSS_ERR_SERVICE and DBSS_ERR_NETWORK; those of
/// dbss_context_find_credentials(); DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. Uses the
/// network. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_create(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    template_id: *const c_char,
    start_time: *const c_char,
    end_time: *const c_char,
    start_date: *const c_char,
    end_date: *const c_char,
    db_ids: *const c_char,
    operation: *mut dbss_operation,
) -> dbss_status {
    guarded(|| {
        let wanted = Wanted {
            project,
            instance,
            template_id,
            start_time,
            end_time,
            start_date,
            end_date,
            db_ids,
        };
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            under(operation, |running| {
                let call = creation(ctx, wanted)?;
                call.client.create_report(&call.report, running)
            })
        }
    })
}

/// Has the service create a report, finds the new one, waits until it is ready,
/// and gives its id, with which it can be downloaded.
///
/// The first nine parameters as for dbss_report_create(). `operation` may be
/// NULL; its dbss_operation_percent() tells how far the report is, and its
/// options "wait_timeout_ms" and "poll_interval_ms" count. `out_id` (required):
/// room for DBSS_ID_SIZE bytes, which receives the id and a NUL, or "" on
/// failure.
///
/// The new report is the one that the list did not have before and that is of
/// this range, and where several are, of this template. Where several remain
/// the call fails with DBSS_ERR_AMBIGUOUS: it does not guess.
/// Errors: those of dbss_report_create(), among them DBSS_ERR_NULL_ARGUMENT;
/// DBSS_ERR_NOT_FOUND, also when there is no such template; DBSS_ERR_AMBIGUOUS,
/// DBSS_ERR_NOT_READY; DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. What was created
/// stays. Uses the network. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_generate(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    template_id: *const c_char,
    start_time: *const c_char,
    end_time: *const c_char,
    start_date: *const c_char,
    end_date: *const c_char,
    db_ids: *const c_char,
    operation: *mut dbss_operation,
    out_id: *mut c_char,
) -> dbss_status {
    guarded(|| {
        let wanted = Wanted {
            project,
            instance,
            template_id,
            start_time,
            end_time,
            start_date,
            end_date,
            db_ids,
        };
        if !out_id.is_null() {
            // SAFETY: not NULL, and by the header's rules writable.
            unsafe { out_id.write(0) };
        }
        // SAFETY: the header's rules are the contracts of these; there is room for
        // DBSS_ID_SIZE bytes, and the id with its NUL has no more.
        unsafe {
            under(operation, |running| {
                if out_id.is_null() {
                    return Err(null("out_id"));
                }
                let call = creation(ctx, wanted)?;
                let id = call.client.generate_report(&call.report, running)?;
                if id.len() >= DBSS_ID_SIZE || id.contains('\0') {
                    return Err(Error::new(
                        Status::UnexpectedAnswer,
                        format!("the service gave the new report an id that is none: {id}"),
                    ));
                }
                std::ptr::copy_nonoverlapping(id.as_ptr().cast(), out_id, id.len());
                out_id.add(id.len()).write(0);
                Ok(())
            })
        }
    })
}

/// Waits until a report is ready (100 percent), by looking at the list now and
/// then.
///
/// `ctx`, `instance` and `id` (required). `project`: NULL for the context's.
/// `operation` may be NULL; its dbss_operation_percent() tells how far the
/// report is, and its options "wait_timeout_ms" and "poll_interval_ms" count.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID;
/// DBSS_ERR_NOT_FOUND, also when the report goes meanwhile; DBSS_ERR_NOT_READY;
/// every other status of the groups DBSS_ERR_SERVICE and DBSS_ERR_NETWORK;
/// those of dbss_context_find_credentials(); DBSS_ERR_BUSY, DBSS_ERR_CANCELLED.
/// Uses the network. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_wait(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    operation: *mut dbss_operation,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            under(operation, |running| {
                let client = dbss_context::borrow(ctx, "ctx")?;
                let project = optional_text(project, "project")?;
                let (instance, id) = (text(instance, "instance")?, text(id, "id")?);
                client.wait_for_report(project, instance, id, running)
            })
        }
    })
}

/// Deletes a report at the service, for ever.
///
/// `ctx`, `instance` and `id` (required). `project`: NULL for the context's.
/// `operation` may be NULL.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID,
/// all before any traffic; DBSS_ERR_NOT_FOUND; DBSS_ERR_NOT_DONE; every other
/// status of the groups DBSS_ERR_SERVICE and DBSS_ERR_NETWORK; those of
/// dbss_context_find_credentials(); DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. Uses the
/// network. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_delete(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    operation: *mut dbss_operation,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            under(operation, |running| {
                let client = dbss_context::borrow(ctx, "ctx")?;
                let project = optional_text(project, "project")?;
                let (instance, id) = (text(instance, "instance")?, text(id, "id")?);
                client.delete_report(project, instance, id, running)
            })
        }
    })
}
