//! `dbss_report_stream`: a report that the caller reads in parts.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

use super::arguments::{null, out};
use super::call::ffi_status;
use super::context::dbss_context;
use super::error::c_string;
use super::format::DBSS_FORMAT_UNKNOWN;
use super::handle::Handle;
use super::operation::dbss_operation;
use super::operation::with_operation;
use super::panic::ffi_value;
use super::report::{Ids, report_call};
use super::status::dbss_status;
use dbss::ReportStream;
use dbss::internal;

/// A report that is read in parts, as from a file. Any thread may close it or
/// cancel its operation while another one reads.
///
/// It still works after its context is freed, and ends when the context is
/// closed. A child of fork() cannot use the parent's streams.
///
/// @threads one call at a time.
pub struct dbss_report_stream {
    _opaque: [u8; 0],
}

pub(super) struct Stream {
    stream: ReportStream,
    size: i64,
    format: i32,
    filename: CString,
    content_type: Option<CString>,
    request_id: Option<CString>,
}

impl Stream {
    fn new(stream: ReportStream) -> Stream {
        let info = stream.info();
        Stream {
            size: info
                .size
                .map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)),
            format: info.format as i32,
            filename: c_string(&info.filename),
            content_type: info.content_type.as_deref().map(c_string),
            request_id: info.request_id.as_deref().map(c_string),
            stream,
        }
    }
}

impl Handle for dbss_report_stream {
    type Value = Stream;
}

/// Opens a report. Blocks until its first bytes have arrived. The operation
/// belongs to the stream until the stream is closed or freed.
///
/// A transfer that breaks later is resumed if the service supports it.
/// Otherwise the read fails, because bytes that were already read cannot be
/// taken back.
///
/// @param ctx, project, instance, id, locale as dbss_report_download.
/// @param out_stream required.
/// @errors INVALID_ID, INVALID_LOCALE; as dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_open(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    locale: *const c_char,
    operation: *mut dbss_operation,
    out_stream: *mut *mut dbss_report_stream,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_stream, ptr::null_mut(), "out_stream") };
    ffi_status(|| {
        let ids = Ids {
            project,
            instance,
            id,
            locale,
        };
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_operation(operation, |active| {
                let slot = slot?;
                let call = report_call(ctx, ids, active)?;
                let stream = call.client.open(&call.report)?;
                *slot = dbss_report_stream::into_handle(Arc::new(Stream::new(stream)));
                Ok(())
            })
        }
    })
}

/// Reads the next bytes. Blocks until at least one has arrived. After a failure
/// of the transfer, the next reads fail with the same error.
///
/// @param stream required.
/// @param buf required, room cap. Up to `cap` bytes may be written, also past
///   the bytes read; their values are unspecified.
/// @param cap unit bytes. At least 1.
/// @param out_len required, unit bytes. The number of bytes read. 0 with
///   DBSS_OK is the end, and is returned only if the report was complete and
///   its length correct.
/// @errors ARGUMENT (`cap` is 0, or the stream belongs to the parent process);
///   BUSY (another thread is reading); as dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_stream_read(
    stream: *mut dbss_report_stream,
    buf: *mut c_void,
    cap: usize,
    out_len: *mut usize,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_len, 0, "out_len") };
    ffi_status(|| {
        // SAFETY: the header's rules are the contract of `borrow`.
        let stream = unsafe { dbss_report_stream::borrow(stream, "stream") };
        let (slot, stream) = match (slot, stream) {
            (slot, Ok(stream)) => (slot, stream),
            (Err(e), _) | (_, Err(e)) => return Err(e),
        };
        internal::read(&stream.stream, |reader| {
            let slot = slot?;
            if buf.is_null() {
                return Err(null("buf"));
            }
            // A slice must have initialised bytes and at most isize::MAX of
            // them. The caller's buffer need not be initialised and may have
            // any size.
            let cap = cap.min(READ_LIMIT);
            // SAFETY: by the header's rules writable for `cap` bytes, which
            // nobody else uses during the call; they are initialised with
            // zeroes.
            let buffer = unsafe {
                ptr::write_bytes(buf.cast::<u8>(), 0, cap);
                std::slice::from_raw_parts_mut(buf.cast::<u8>(), cap)
            };
            *slot = reader.read(buffer)?;
            Ok(*slot)
        })?;
        Ok(())
    })
}

/// The maximum number of bytes of one read: about what arrives at once, because all of
/// them are first filled with zeroes.
const READ_LIMIT: usize = 64 * 1024;

/// The size of the report that the service announced.
///
/// @return unit bytes, none -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_stream_size(stream: *const dbss_report_stream) -> i64 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_report_stream::read(stream, -1, |s| s.size) }
}

/// The format of the report, determined from its first bytes.
///
/// @return one of DBSS_FORMAT_.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_stream_format(stream: *const dbss_report_stream) -> i32 {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_report_stream::read(stream, DBSS_FORMAT_UNKNOWN, |s| s.format) }
}

/// A safe form of the report's own name, as from dbss_operation_filename().
///
/// @return borrowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_stream_filename(stream: *const dbss_report_stream) -> *const c_char {
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe { dbss_report_stream::read(stream, ptr::null(), |s| s.filename.as_ptr()) }
}

/// The header Content-Type.
///
/// @return borrowed, nullable. NULL if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_stream_content_type(stream: *const dbss_report_stream) -> *const c_char {
    let pointer = |text: &CString| text.as_ptr();
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe {
        dbss_report_stream::read(stream, ptr::null(), |s| {
            s.content_type.as_ref().map_or(ptr::null(), pointer)
        })
    }
}

/// The service's id of the call (header X-Request-Id).
///
/// @return borrowed, nullable. NULL if the service sent none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_stream_request_id(stream: *const dbss_report_stream) -> *const c_char {
    let pointer = |text: &CString| text.as_ptr();
    // SAFETY: the header's rules are the contract of `Handle::read`.
    unsafe {
        dbss_report_stream::read(stream, ptr::null(), |s| {
            s.request_id.as_ref().map_or(ptr::null(), pointer)
        })
    }
}

/// Closes a stream, also before its end. A running read in another thread ends
/// with DBSS_ERR_CANCELLED, and later ones fail with DBSS_ERR_CLOSED. Its
/// operation is free for another call, immediately or when that read has ended.
/// The getters work until the stream is freed. Closing does not wait, may be
/// called in a callback, and does nothing the second time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_stream_close(stream: *mut dbss_report_stream) {
    ffi_value((), || {
        // SAFETY: the header's rules are the contract of `borrow`.
        if let Ok(stream) = unsafe { dbss_report_stream::borrow(stream, "stream") } {
            stream.stream.close();
        }
    });
}

/// Closes a stream as dbss_report_stream_close() does, and frees it and all
/// strings that its getters returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_stream_free(stream: *mut dbss_report_stream) {
    ffi_value((), || {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            if let Ok(stream) = dbss_report_stream::borrow(stream, "stream") {
                stream.stream.close();
            }
            dbss_report_stream::release(stream);
        }
    });
}
