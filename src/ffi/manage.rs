//! Creating, awaiting and deleting reports.

use std::ffi::c_char;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use super::context::{client_of, dbss_context};
use super::guard::{Handle, bytes, guarded, null, out, plain, text, under};
use super::operation::dbss_operation;
use super::status::dbss_status;
use dbss::internal::Running;
use dbss::{Client, Error, Report, ReportSpec, Status};

/// The room that an id takes, with the NUL at its end.
pub const DBSS_ID_SIZE: usize = 65;

/// What a report is to be: options by key and value.
///
/// @threads any.
pub struct dbss_report_spec {
    _opaque: [u8; 0],
}

impl Handle for dbss_report_spec {
    type Value = Mutex<ReportSpec>;
}

/// Makes a report spec, in which nothing is set.
///
/// @param out_spec required. Receives it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_spec_new(out_spec: *mut *mut dbss_report_spec) -> dbss_status {
    guarded(|| {
        // SAFETY: by the header's rules NULL or writable.
        let slot = unsafe { out(out_spec, ptr::null_mut(), "out_spec") }?;
        *slot = dbss_report_spec::into_handle(Arc::new(Mutex::new(ReportSpec::default())));
        Ok(())
    })
}

/// Sets an option of a report spec. "template_id", "start_time" and "end_time"
/// are required before it is used.
///
/// @param spec required.
/// @param key required, option of report_spec.
/// @param value required, bytes. It is copied.
/// @errors UNKNOWN_KEY, INVALID_VALUE, INVALID_ID
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_spec_set(
    spec: *mut dbss_report_spec,
    key: *const c_char,
    value: *const c_char,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        let (spec, key, value) = unsafe {
            (
                dbss_report_spec::borrow(spec, "spec")?,
                text(key, "key")?,
                bytes(value, "value")?,
            )
        };
        let mut spec = spec.lock().unwrap_or_else(PoisonError::into_inner);
        spec.set(key, value)
    })
}

/// Frees a report spec. Calls under way are not touched. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_spec_free(spec: *mut dbss_report_spec) {
    // SAFETY: the header's rules are the contract of `release`.
    plain((), || unsafe { dbss_report_spec::release(spec) });
}

/// Takes the parameters of a creation.
///
/// # Safety
/// The handles are as for [`Handle::borrow`]; each string is NULL or
/// NUL-terminated and stays as it is during the call.
unsafe fn creation<'a>(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    spec: *const dbss_report_spec,
    running: Option<Running>,
) -> Result<(Client, &'a str, ReportSpec), Error> {
    // SAFETY: the same contract.
    let (client, instance, spec) = unsafe {
        (
            client_of(ctx, project, running)?,
            text(instance, "instance")?,
            dbss_report_spec::borrow(spec, "spec")?,
        )
    };
    let spec = spec.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((client, instance, spec))
}

/// Has the service create a report. The service says that it will, gives no id,
/// and takes its time: dbss_report_generate() finds the new report and waits.
///
/// A request that may have reached the service is not sent again, so a lost
/// connection ends the call though the report may have been created.
///
/// @param ctx required.
/// @param project as dbss_report_download
/// @param instance required. The audit instance's id.
/// @param spec required. What the report is to be.
/// @errors INVALID_ID, NOT_CONFIGURED (the spec lacks a required option), all
/// before any traffic; REJECTED; SERVICE*, NETWORK*; as
/// dbss_context_find_credentials
/// @blocks network
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_create(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    spec: *const dbss_report_spec,
    operation: *mut dbss_operation,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            under(operation, |running| {
                let (client, instance, spec) = creation(ctx, project, instance, spec, running)?;
                client.create(instance, &spec)
            })
        }
    })
}

/// Has the service create a report, finds the new one, waits until it is ready,
/// and gives its id, with which it can be downloaded. dbss_operation_percent()
/// tells how far the report is; the options "wait_timeout_ms" and
/// "poll_interval_ms" count.
///
/// The new report is the one that the list did not have before and that is of
/// this range, and where several are, of this template. Where several remain
/// the call fails with DBSS_ERR_AMBIGUOUS: it does not guess. What was created
/// stays.
///
/// @param ctx required.
/// @param project as dbss_report_download
/// @param instance required. The audit instance's id.
/// @param spec required. What the report is to be.
/// @param out_id required, room DBSS_ID_SIZE. Receives the id and a NUL, or "" on
/// failure.
/// @errors as dbss_report_create; NOT_FOUND (also when there is no such
/// template), AMBIGUOUS, NOT_READY
/// @blocks network
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_generate(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    spec: *const dbss_report_spec,
    operation: *mut dbss_operation,
    out_id: *mut c_char,
) -> dbss_status {
    guarded(|| {
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
                let (client, instance, spec) = creation(ctx, project, instance, spec, running)?;
                let id = client.generate(instance, &spec)?;
                if id.len() >= DBSS_ID_SIZE || id.contains('\0') {
                    return Err(Error::new(
                        Status::UnexpectedResponse,
                        format!("the service gave the new report an id that is none: {id}"),
                    ));
                }
                ptr::copy_nonoverlapping(id.as_ptr().cast(), out_id, id.len());
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
                let client = client_of(ctx, project, running)?;
                client.wait(&Report::new(text(instance, "instance")?, text(id, "id")?))
            })
        }
    })
}

/// Deletes a report at the service, for ever.
///
/// `ctx`, `instance` and `id` (required). `project`: NULL for the context's.
/// `operation` may be NULL.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID,
/// all before any traffic; DBSS_ERR_NOT_FOUND; DBSS_ERR_REJECTED; every other
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
                let client = client_of(ctx, project, running)?;
                client.delete(&Report::new(text(instance, "instance")?, text(id, "id")?))
            })
        }
    })
}
