//! The schedules of templates.

use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;

use super::arguments::{out, text};
use super::call::ffi_status;
use super::context::{client_of, dbss_context};
use super::handle::Handle;
use super::operation::dbss_operation;
use super::operation::with_operation;
use super::page::dbss_page;
use super::panic::ffi_value;
use super::settings::{Settings, copy_settings, new_settings, set_value};
use super::status::dbss_status;
use dbss::{ScheduleChanges, internal};

/// Changes of a schedule: values by key.
///
/// @threads any.
pub struct dbss_schedule_changes {
    _opaque: [u8; 0],
}

impl Handle for dbss_schedule_changes {
    type Value = Settings<ScheduleChanges>;
}

/// Makes changes that set nothing yet.
///
/// @param out_changes required.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_schedule_changes_new(
    out_changes: *mut *mut dbss_schedule_changes,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    unsafe { new_settings(out_changes, "out_changes") }
}

/// Sets one of the values to change:
///
/// {OPTIONS schedule}
///
/// @param changes required.
/// @param key required, option of schedule.
/// @param value required, bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_schedule_changes_set(
    changes: *mut dbss_schedule_changes,
    key: *const c_char,
    value: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contract of `set_value`.
    unsafe {
        set_value(
            changes,
            "changes",
            key,
            value,
            |changes: &mut ScheduleChanges, key, value| changes.set(key, value),
        )
    }
}

/// Frees changes. Running calls are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_schedule_changes_free(changes: *mut dbss_schedule_changes) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_schedule_changes::release(changes) });
}

/// Gets the schedule on which the service generates reports from a template: a
/// page with one item. dbss_page_field(page, 0, "status") returns a field, and
/// dbss_page_json() all of them, with those that this library does not know.
///
/// Fields that the service documents:
///
/// {FIELDS schedule}
///
/// "smn_effective" stands beside the others in the service's response.
///
/// @param ctx required.
/// @param project optional. The project's id; NULL for the context's.
/// @param instance required. The audit instance's id.
/// @param template_id required. The template's id, 16 to 64 characters.
/// @param out_page required, items schedule.
/// @errors INVALID_ID; NOT_FOUND; UNEXPECTED_RESPONSE (the schedule is
///   malformed, or larger than 1 MiB); as dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_schedule_show(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    template_id: *const c_char,
    operation: *mut dbss_operation,
    out_page: *mut *mut dbss_page,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_page, ptr::null_mut(), "out_page") };
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_operation(operation, |active| {
                let slot = slot?;
                let client = client_of(ctx, project, active)?;
                let (instance, id) = (text(instance, "instance")?, text(template_id, "template_id")?);
                let page = internal::schedule_page(&client, instance, id)?;
                *slot = dbss_page::into_handle(Arc::new(page));
                Ok(())
            })
        }
    })
}

/// Changes the schedule of a template. What the changes do not set stays as it
/// is: the call gets the present schedule, and sends all of it back with the
/// changes, including fields that this library does not know. A change that
/// somebody else makes between these two requests is lost.
///
/// The second request is sent again only if it cannot have taken effect, as
/// that of dbss_report_create(). After another failure, such as a lost
/// connection, the schedule may have been changed: dbss_schedule_show() tells.
///
/// @param ctx, project, instance, template_id as dbss_schedule_show.
/// @param changes required. They set at least one value, and may be used again.
/// @errors NOT_CONFIGURED (the changes set nothing); UNEXPECTED_RESPONSE (also
///   if the present schedule lacks a field that the service requires: then set
///   it too); REJECTED; as dbss_schedule_show
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_schedule_update(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    template_id: *const c_char,
    changes: *const dbss_schedule_changes,
    operation: *mut dbss_operation,
) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_operation(operation, |active| {
                let client = client_of(ctx, project, active)?;
                let (instance, id) = (text(instance, "instance")?, text(template_id, "template_id")?);
                let changes = copy_settings(changes, "changes")?;
                client.update_schedule(instance, id, &changes)
            })
        }
    })
}
