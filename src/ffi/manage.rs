//! Creating, awaiting and deleting reports.

use std::ffi::c_char;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use super::arguments::{bytes, null, out, text};
use super::call::ffi_status;
use super::context::{client_of, dbss_context};
use super::handle::Handle;
use super::operation::dbss_operation;
use super::operation::with_operation;
use super::panic::ffi_value;
use super::status::dbss_status;
use dbss::internal::ActiveOperation;
use dbss::{Client, Error, Report, ReportSpec, Status};

/// The room that an id takes, with the NUL at its end.
pub const DBSS_ID_SIZE: usize = 65;

/// What a report that is to be created shall cover: options by key and value.
///
/// @threads any.
pub struct dbss_report_spec {
    _opaque: [u8; 0],
}

impl Handle for dbss_report_spec {
    type Value = Mutex<ReportSpec>;
}

/// Makes a specification without any value.
///
/// @param out_spec required.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_spec_new(out_spec: *mut *mut dbss_report_spec) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_spec, ptr::null_mut(), "out_spec") };
    ffi_status(|| {
        let slot = slot?;
        *slot = dbss_report_spec::into_handle(Arc::new(Mutex::new(ReportSpec::default())));
        Ok(())
    })
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
    ffi_status(|| {
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

/// Frees a specification. Calls under way are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_spec_free(spec: *mut dbss_report_spec) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_report_spec::release(spec) });
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
    active: Option<ActiveOperation>,
) -> Result<(Client, &'a str, ReportSpec), Error> {
    // SAFETY: the same contract.
    let (client, instance, spec) = unsafe {
        (
            client_of(ctx, project, active)?,
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
/// @param project optional. The project's id; NULL for the context's.
/// @param instance required. The audit instance's id.
/// @param spec required. What the report shall cover; it may be used again.
/// @errors INVALID_ID, INVALID_VALUE, NOT_CONFIGURED (a value that is needed
///   was not set; dbss_error_parameter() names it); REJECTED; as
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

/// Has the service create a report, finds the new one, waits until it is ready,
/// and gives its id, with which it can be downloaded. What was created stays,
/// also after a failure. The operation's options "wait_timeout_ms" and
/// "poll_interval_ms" count, and dbss_operation_percent() tells how far the
/// report is.
///
/// The new report is the one that the list did not have before and that is of
/// this range, and where several are, of this template. Where several remain
/// the call fails with DBSS_ERR_AMBIGUOUS: it does not guess.
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
        // SAFETY: the header's rules are the contracts of these; there is room for
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

/// Waits until a report is ready (100 percent), by looking at the list now and
/// then. The operation's options "wait_timeout_ms" and "poll_interval_ms"
/// count, and dbss_operation_percent() tells how far the report is.
///
/// @param ctx required.
/// @param project optional. The project's id; NULL for the context's.
/// @param instance required. The audit instance's id.
/// @param id required. The report's id.
/// @errors INVALID_ID; NOT_FOUND (also when the report disappears meanwhile);
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

/// Deletes a report at the service, for ever.
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
