//! `dbss_cursor` and `dbss_page`: the service's lists.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;

use super::arguments::{optional_text, out, text};
use super::buffer::dbss_buffer;
use super::call::ffi_status;
use super::context::{client_of, dbss_context};
use super::handle::Handle;
use super::operation::dbss_operation;
use super::operation::with_operation;
use super::panic::ffi_value;
use super::status::dbss_status;
use dbss::Error;
use dbss::internal::{self, Cursor, List, Page};

/// The position in a list of the service, which is read page by page. It keeps
/// what it needs of its context.
///
/// @threads one call at a time.
pub struct dbss_cursor {
    _opaque: [u8; 0],
}

impl Handle for dbss_cursor {
    type Value = Cursor;
}

/// A page of a list. It never changes.
///
/// @threads any.
pub struct dbss_page {
    _opaque: [u8; 0],
}

impl Handle for dbss_page {
    type Value = Page;
}

/// Begins a list.
///
/// # Safety
/// The handles are as for [`Handle::borrow`], `out_cursor` is NULL or writable,
/// `project` is NULL or NUL-terminated.
unsafe fn begin(
    ctx: *mut dbss_context,
    project: *const c_char,
    list: impl FnOnce() -> Result<List, Error>,
    page_size: u32,
    out_cursor: *mut *mut dbss_cursor,
) -> dbss_status {
    // SAFETY: the same contract.
    let slot = unsafe { out(out_cursor, ptr::null_mut(), "out_cursor") };
    ffi_status(|| {
        let slot = slot?;
        // SAFETY: the same contract.
        let client = unsafe { client_of(ctx, project, None) }?;
        internal::check_open(&client)?;
        *slot = dbss_cursor::into_handle(Arc::new(internal::cursor(&client, list()?, page_size)?));
        Ok(())
    })
}

/// Begins the list of the project's audit instances (ListAuditInstances). It
/// sends no request: dbss_cursor_next() fetches the pages.
///
/// The service has this call in three versions: /v2/{project}/audit/instances,
/// /v1/{project}/audit/instances and /v1/{project}/dbss/audit/instances. The
/// first that does not answer with HTTP 404 or APIG.0101 is used, and remembered
/// for the context. If none is there, the error is DBSS_ERR_NOT_FOUND.
///
/// Fields that the service documents:
///
/// {FIELDS instance}
///
/// @param ctx required.
/// @param project optional. The project's id; NULL for the context's.
/// @param page_size range 1 to 1000, none 0. The number of items per request; 0
///   for 100.
/// @param out_cursor required, items instance.
/// @errors INVALID_ID, INVALID_VALUE (page_size), CLOSED
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_instances_list(
    ctx: *mut dbss_context,
    project: *const c_char,
    page_size: u32,
    out_cursor: *mut *mut dbss_cursor,
) -> dbss_status {
    // SAFETY: the header's rules are the contract of `begin`.
    unsafe { begin(ctx, project, || Ok(List::Instances), page_size, out_cursor) }
}

/// Begins the list of an instance's reports. Otherwise like
/// dbss_instances_list().
///
/// Fields that the service documents:
///
/// {FIELDS report}
///
/// @param ctx, project, page_size as dbss_instances_list.
/// @param instance required. The audit instance's id.
/// @param name optional. A part of the name, as the service searches, 1 to 256
///   bytes; NULL for all reports.
/// @param out_cursor required, items report.
/// @errors as dbss_instances_list
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_reports_list(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    name: *const c_char,
    page_size: u32,
    out_cursor: *mut *mut dbss_cursor,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    unsafe {
        let list = || List::reports(text(instance, "instance")?, optional_text(name, "name")?);
        begin(ctx, project, list, page_size, out_cursor)
    }
}

/// Begins the list of an instance's report templates, which has only one page.
/// Otherwise like dbss_instances_list().
///
/// Fields that the service documents:
///
/// {FIELDS template}
///
/// @param ctx, project as dbss_instances_list.
/// @param instance required. The audit instance's id.
/// @param out_cursor required, items template.
/// @errors as dbss_instances_list
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_templates_list(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    out_cursor: *mut *mut dbss_cursor,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    unsafe {
        let list = || List::templates(text(instance, "instance")?);
        begin(ctx, project, list, 0, out_cursor)
    }
}

/// Begins the list of the databases that an instance audits. Otherwise like
/// dbss_instances_list(). Their ids are what "db_ids" of a report spec or a
/// schedule means.
///
/// Fields that the service documents:
///
/// {FIELDS database}
///
/// @param ctx, project as dbss_instances_list.
/// @param instance required. The audit instance's id.
/// @param status optional. "ON" or "OFF" to filter by; NULL for all databases.
/// @param page_size range 1 to 10000, none 0. The number of items per request;
///   0 for 100.
/// @param out_cursor required, items database.
/// @errors INVALID_VALUE (also status); as dbss_instances_list
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_databases_list(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    status: *const c_char,
    page_size: u32,
    out_cursor: *mut *mut dbss_cursor,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    unsafe {
        let list = || List::databases(text(instance, "instance")?, optional_text(status, "status")?);
        begin(ctx, project, list, page_size, out_cursor)
    }
}

/// Fetches the next page, with at least one item. After a failure, call it
/// again for the same page.
///
/// A list may change while it is read. No item is returned twice. If items are
/// deleted meanwhile, the part of the list that moved is read again, so that no
/// item is missed. This can only go unnoticed if as many items are added at the
/// same moment.
///
/// @param cursor required.
/// @param out_page required. NULL with DBSS_OK at the end of the list.
/// @errors INVALID_ID (the project of the credentials); UNEXPECTED_RESPONSE
///   (the list is malformed, a page is larger than 16 MiB, or the list has more
///   than 1000000 items); as dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_cursor_next(
    cursor: *mut dbss_cursor,
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
                if let Some(page) = dbss_cursor::borrow(cursor, "cursor")?.next(active)? {
                    *slot = dbss_page::into_handle(Arc::new(page));
                }
                Ok(())
            })
        }
    })
}

/// Ends a list. Its pages are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_cursor_free(cursor: *mut dbss_cursor) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_cursor::release(cursor) });
}

/// The number of items in the page.
///
/// @return count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_count(page: *const dbss_page) -> usize {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_page::read(page, 0, |page| page.items.len()) }
}

/// The number of items in the whole list, as the service reported it with this
/// page.
///
/// @return count, none -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_total(page: *const dbss_page) -> i64 {
    let total = |page: &Page| {
        page.total
            .map_or(-1, |total| i64::try_from(total).unwrap_or(i64::MAX))
    };
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_page::read(page, -1, total) }
}

/// A field of an item, by its name in the service's current version, such as
/// "id"; its names in older versions count as the same. Text is unchanged,
/// except for U+FFFD instead of U+0000 and "***" instead of a credential of the
/// request. Numbers, booleans, arrays and objects are returned as JSON, whole
/// numbers without a fraction.
///
/// @param index index of dbss_page_count.
/// @param field field.
/// @return borrowed, nullable. NULL if the field is missing or null, and past
///   the last item.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_field(
    page: *const dbss_page,
    index: usize,
    field: *const c_char,
) -> *const c_char {
    // SAFETY: the header's rules are the contracts of these.
    unsafe {
        dbss_page::read(page, ptr::null(), |page| {
            if field.is_null() {
                return ptr::null();
            }
            let item = page.items.get(index);
            let field = CStr::from_ptr(field).to_str().ok();
            item.zip(field)
                .and_then(|(item, field)| item.field(field))
                .map_or(ptr::null(), CStr::as_ptr)
        })
    }
}

/// The page as a JSON document, for wrappers: {"kind": "instances", "reports",
/// "templates", "databases" or "schedules", "total": a number or null, "items":
/// [...]}. Each item is the object that the service sent, including fields that
/// this library does not know.
///
/// @param page required.
/// @param out_json required. UTF-8, without a NUL at its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_json(page: *const dbss_page, out_json: *mut dbss_buffer) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_json, dbss_buffer::EMPTY, "out_json") };
    ffi_status(|| {
        let slot = slot?;
        // SAFETY: the header's rules are the contract of `borrow`.
        let page = unsafe { dbss_page::borrow(page, "page") }?;
        *slot = dbss_buffer::from_bytes(page.json()?.into_boxed_slice());
        Ok(())
    })
}

/// Frees a page, and the strings that dbss_page_field() returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_free(page: *mut dbss_page) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_page::release(page) });
}
