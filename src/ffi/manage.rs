//! Creating, generating, waiting for and deleting reports.

use std::ffi::c_char;
use std::ptr;

use super::arguments::{null, text};
use super::call::ffi_status;
use super::context::{client_of, dbss_context};
use super::handle::Handle;
use super::operation::dbss_operation;
use super::operation::with_operation;
use super::panic::ffi_value;
use super::settings::{Settings, copy_settings, new_settings, set_value};
use super::status::dbss_status;
use dbss::internal::ActiveOperation;
use dbss::{Client, Error, Report, ReportSpec, Status};

/// The size of a buffer for any id, including the NUL at its end.
pub const DBSS_ID_SIZE: usize = 65;

/// The specification of a report to create: options by key and value.
///
/// @threads any.
pub struct dbss_report_spec {
    _opaque: [u8; 0],
}

impl Handle for dbss_report_spec {
    type Value = Settings<ReportSpec>;
}

/// Makes an empty specification.
///
/// @param out_spec required.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_spec_new(out_spec: *mut *mut dbss_report_spec) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    unsafe { new_settings(out_spec, "out_spec") }
}

/// Sets one of the values of a specification:
///
/// {OPTIONS report_spec}
///
/// @param spec required.
/// @param key required, option of report_spec.
/// @param value required, bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_spec_set(
    spec: *mut dbss_report_spec,
    key: *const c_char,
    value: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contract of `set_value`.
    unsafe {
        set_value(spec, "spec", key, value, |spec: &mut ReportSpec, key, value| {
            spec.set(key, value)
        })
    }
}

/// Frees a specification. Running calls are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_spec_free(spec: *mut dbss_report_spec) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_report_spec::release(spec) });
}

/// Converts the parameters of a creation.
///
/// # Safety
/// The handles are as for [`Handle::borrow`]; each string is NULL or
/// NUL-terminated and does not change during the call.
unsafe fn creation<'a>(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    spec: *const dbss_report_spec,
    active: Option<ActiveOperation>,
) -> Result<(Client, &'a str, ReportSpec), Error> {
    // SAFETY: the same contract.
    unsafe {
        Ok((
            client_of(ctx, project, active)?,
            text(instance, "instance")?,
            copy_settings(spec, "spec")?,
        ))
    }
}

/// Starts the creation of a report. The service returns no id, and creation
/// takes time: dbss_report_generate() also finds the new report and waits.
///
/// The request is sent again only if it cannot have taken effect: if nothing of
/// it was sent, if the response was HTTP 429 or 503, or if the credentials were
/// rejected and could be renewed. After another failure, such as a lost
/// connection, it is not repeated, because the report may have been created.
///
/// @param ctx required.
/// @param project optional. The project's id; NULL for the context's.
/// @param instance required. The audit instance's id.
/// @param spec required. The specification of the report; it may be used again.
/// @errors INVALID_ID, INVALID_VALUE, NOT_CONFIGURED (a required value is not
///   set; dbss_error_parameter() names it); REJECTED; as
///   dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_create(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    spec: *const dbss_report_spec,
    operation: *mut dbss_operation,
) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_operation(operation, |active| {
                let (client, instance, spec) = creation(ctx, project, instance, spec, active)?;
                client.create(instance, &spec)
            })
        }
    })
}

/// Creates a report, finds it in the list, waits until it is ready, and returns
/// its id for the download. A report that was created is never deleted, also
/// after a failure. The operation's options "wait_timeout_ms" and
/// "poll_interval_ms" apply, and dbss_operation_percent() reports the progress.
///
/// The new report is the one that is new in the list and has this time range
/// and, if several do, this template. If several reports remain, the call does
/// not guess: it fails with DBSS_ERR_AMBIGUOUS.
///
/// @param ctx, project, instance, spec as dbss_report_create.
/// @param out_id required, room DBSS_ID_SIZE. Receives the id and a NUL, or ""
///   on failure.
/// @errors NOT_FOUND (also when there is no such template); AMBIGUOUS,
///   NOT_READY, UNEXPECTED_RESPONSE; as dbss_report_create
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_generate(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    spec: *const dbss_report_spec,
    operation: *mut dbss_operation,
    out_id: *mut c_char,
) -> dbss_status {
    if !out_id.is_null() {
        // SAFETY: not NULL, and by the header's rules writable.
        unsafe { out_id.write(0) };
    }
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these; the buffer has
        // DBSS_ID_SIZE bytes, and the id with its NUL has no more.
        unsafe {
            with_operation(operation, |active| {
                if out_id.is_null() {
                    return Err(null("out_id"));
                }
                let (client, instance, spec) = creation(ctx, project, instance, spec, active)?;
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

/// Waits until a report is ready (100 percent), by polling the list. The
/// operation's options "wait_timeout_ms" and "poll_interval_ms" apply, and
/// dbss_operation_percent() reports the progress.
///
/// @param ctx required.
/// @param project optional. The project's id; NULL for the context's.
/// @param instance required. The audit instance's id.
/// @param id required. The report's id.
/// @errors INVALID_ID; NOT_FOUND (also if the report is deleted meanwhile);
///   NOT_READY; as dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_wait(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    operation: *mut dbss_operation,
) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_operation(operation, |active| {
                let client = client_of(ctx, project, active)?;
                client.wait(&Report::new(text(instance, "instance")?, text(id, "id")?))
            })
        }
    })
}

/// Deletes a report at the service, permanently.
///
/// @param ctx, project, instance, id as dbss_report_wait.
/// @errors INVALID_ID; NOT_FOUND; REJECTED; as dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_delete(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    operation: *mut dbss_operation,
) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_operation(operation, |active| {
                let client = client_of(ctx, project, active)?;
                client.delete(&Report::new(text(instance, "instance")?, text(id, "id")?))
            })
        }
    })
}
