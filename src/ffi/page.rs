//! `dbss_cursor` and `dbss_page`: the service's lists.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;

use super::buffer::dbss_buffer;
use super::context::{client_of, dbss_context};
use super::guard::{Handle, guarded, optional_text, out, plain, text, under};
use super::operation::dbss_operation;
use super::status::dbss_status;
use dbss::Error;
use dbss::internal::{self, Cursor, List, Page};

/// A list of the service that is being read, page by page. It holds what it
/// needs of its context. For one thread at a time, else DBSS_ERR_BUSY.
pub struct dbss_cursor {
    _opaque: [u8; 0],
}

impl Handle for dbss_cursor {
    type Value = Cursor;
}

/// A page of a list. It does not change, and any number of threads may read it.
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
) -> Result<(), Error> {
    // SAFETY: the same contract.
    unsafe {
        let slot = out(out_cursor, ptr::null_mut(), "out_cursor")?;
        let client = client_of(ctx, project, None)?;
        internal::check_open(&client)?;
        *slot = dbss_cursor::into_handle(Arc::new(internal::cursor(&client, list()?, page_size)?));
        Ok(())
    }
}

/// Begins the list of the project's audit instances (ListAuditInstances). No
/// request is sent: dbss_cursor_next() gives its pages.
///
/// `ctx` (required). `project`: the project's id; NULL for the context's, as
/// for dbss_report_download(). `page_size`: how many a request asks for, 1 to
/// 1000; 0 for 100. `out_cursor` (required) receives the list, or NULL on
/// failure; it is yours: end it with dbss_cursor_free().
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID,
/// DBSS_ERR_INVALID_VALUE (page_size). Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_instances_list(
    ctx: *mut dbss_context,
    project: *const c_char,
    page_size: u32,
    out_cursor: *mut *mut dbss_cursor,
) -> dbss_status {
    // SAFETY: the header's rules are the contract of `begin`.
    guarded(|| unsafe { begin(ctx, project, || Ok(List::Instances), page_size, out_cursor) })
}

/// Begins the list of an instance's reports; otherwise as
/// dbss_instances_list().
///
/// `instance` (required): the audit instance's id. `name`: the name to look
/// for, 1 to 256 bytes; NULL for all reports.
/// Errors: those of dbss_instances_list(), among them DBSS_ERR_NULL_ARGUMENT.
/// Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_reports_list(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    name: *const c_char,
    page_size: u32,
    out_cursor: *mut *mut dbss_cursor,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            let list = || List::reports(text(instance, "instance")?, optional_text(name, "name")?);
            begin(ctx, project, list, page_size, out_cursor)
        }
    })
}

/// Begins the list of an instance's report templates, which comes in one page;
/// otherwise as dbss_instances_list().
///
/// `instance` (required): the audit instance's id.
/// Errors: those of dbss_instances_list(), among them DBSS_ERR_NULL_ARGUMENT.
/// Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_templates_list(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    out_cursor: *mut *mut dbss_cursor,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            let list = || List::templates(text(instance, "instance")?);
            begin(ctx, project, list, 0, out_cursor)
        }
    })
}

/// Gives the next page, with at least one item.
///
/// `cursor` and `out_page` (required); the latter receives the page, which is
/// yours: end it with dbss_page_free(); or NULL at the end of the list, with
/// DBSS_OK, and on failure. After a failure the same page can be asked for
/// again. `operation` may be NULL.
///
/// A list may change while it is read. No item comes twice; where items were
/// deleted meanwhile, the part of the list that moved is read again, so that
/// none is left out; only where as many were added in the same moment can that
/// go unnoticed.
/// Errors: DBSS_ERR_NULL_ARGUMENT; every status of the groups DBSS_ERR_SERVICE
/// and DBSS_ERR_NETWORK, DBSS_ERR_UNEXPECTED_RESPONSE for a list that is
/// malformed or larger than 16 MiB a page; those of
/// dbss_context_find_credentials(); DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. Uses the
/// network. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_cursor_next(
    cursor: *mut dbss_cursor,
    operation: *mut dbss_operation,
    out_page: *mut *mut dbss_page,
) -> dbss_status {
    guarded(|| {
        // SAFETY: by the header's rules NULL or writable.
        let slot = unsafe { out(out_page, ptr::null_mut(), "out_page") };
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            under(operation, |running| {
                let slot = slot?;
                if let Some(page) = dbss_cursor::borrow(cursor, "cursor")?.next(running)? {
                    *slot = dbss_page::into_handle(Arc::new(page));
                }
                Ok(())
            })
        }
    })
}

/// Ends a list. Its pages are not touched. NULL does nothing. Never blocks. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_cursor_free(cursor: *mut dbss_cursor) {
    // SAFETY: the header's rules are the contract of `release`.
    plain((), || unsafe { dbss_cursor::release(cursor) });
}

/// How many items the page has; 0 for NULL. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_count(page: *const dbss_page) -> usize {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_page::read(page, 0, |page| page.items.len()) }
}

/// How many items the whole list has, as the service said with this page; -1
/// where it did not say, and for NULL. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_total(page: *const dbss_page) -> i64 {
    let total = |page: &Page| {
        page.total
            .map_or(-1, |total| i64::try_from(total).unwrap_or(i64::MAX))
    };
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_page::read(page, -1, total) }
}

/// A field of the item `index`, counted from 0, by the service's name for it,
/// such as "id": text as it is, with U+FFFD for U+0000; a number, true, false,
/// an array or an object as its JSON.
///
/// Returns a string that is valid until dbss_page_free(); NULL where the item
/// has no such field or it is null, past the last item, and for NULL. Never
/// blocks. Any thread.
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

/// The page as a JSON document, for wrappers: {"kind": "instances", "reports"
/// or "templates", "total": a number or null, "items": [...]}, where each item
/// is an object as the service sent it, fields that this library does not know
/// included.
///
/// `page` and `out_json` (required); the latter receives UTF-8 without a NUL at
/// its end, or { NULL, 0 } on failure; it is yours: end it with
/// dbss_buffer_free(). Errors: DBSS_ERR_NULL_ARGUMENT. Never blocks. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_json(page: *const dbss_page, out_json: *mut dbss_buffer) -> dbss_status {
    guarded(|| {
        // SAFETY: by the header's rules NULL or writable.
        let slot = unsafe { out(out_json, dbss_buffer::EMPTY, "out_json") }?;
        // SAFETY: the header's rules are the contract of `borrow`.
        let page = unsafe { dbss_page::borrow(page, "page") }?;
        *slot = dbss_buffer::give(page.json()?.into_boxed_slice());
        Ok(())
    })
}

/// Frees a page, and the strings that dbss_page_field() returned. NULL does
/// nothing. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_page_free(page: *mut dbss_page) {
    // SAFETY: the header's rules are the contract of `release`.
    plain((), || unsafe { dbss_page::release(page) });
}
