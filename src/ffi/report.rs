//! Downloading reports.

use std::ffi::{OsStr, c_char, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use super::arguments::{bytes, null, optional_text, out, text};
use super::buffer::dbss_buffer;
use super::call::{call_host, ffi_status};
use super::context::{client_of, dbss_context};
use super::operation::dbss_operation;
use super::operation::with_operation;
use super::status::dbss_status;
use dbss::internal::{self, ActiveOperation};
use dbss::{Client, Error, Overwrite, Report, Status};

/// The strings that identify a report, as the caller passes them.
pub(super) struct Ids {
    pub(super) project: *const c_char,
    pub(super) instance: *const c_char,
    pub(super) id: *const c_char,
    pub(super) locale: *const c_char,
}

/// The converted parameters of a call on a report.
pub(super) struct ReportCall {
    pub(super) client: Client,
    pub(super) report: Report,
}

/// Converts the parameters of a call on a report.
///
/// # Safety
/// The handles are as for [`Handle::borrow`]; each string is NULL or
/// NUL-terminated and does not change during the call.
pub(super) unsafe fn report_call(
    ctx: *mut dbss_context,
    ids: Ids,
    active: Option<ActiveOperation>,
) -> Result<ReportCall, Error> {
    // SAFETY: the same contract.
    unsafe {
        let client = client_of(ctx, ids.project, active)?;
        let report = Report::new(text(ids.instance, "instance")?, text(ids.id, "id")?);
        Ok(ReportCall {
            client,
            report: match optional_text(ids.locale, "locale")? {
                Some(locale) => report.locale(locale.parse()?),
                None => report,
            },
        })
    }
}

/// A flag of the file functions: an existing file may be replaced, atomically,
/// when the new one is complete. Without it an existing file is kept and the
/// call fails with DBSS_ERR_FILE_EXISTS.
pub const DBSS_FILE_REPLACE: u32 = 1;

fn overwrite(flags: u32) -> Result<Overwrite, Error> {
    if flags & !DBSS_FILE_REPLACE != 0 {
        return Err(Error::argument(
            Status::InvalidValue,
            "flags",
            format_args!("has unknown bits: {:#x}", flags & !DBSS_FILE_REPLACE),
        ));
    }
    Ok(match flags & DBSS_FILE_REPLACE {
        0 => Overwrite::No,
        _ => Overwrite::Yes,
    })
}

/// Downloads an audit report (PDF or ZIP) into memory: the service's call
/// DownloadAuditReport. Blocks until the whole report has arrived or the call
/// has failed. A report that does not arrive completely is an error. Memory
/// grows with the received bytes, not with the announced size.
///
/// @param ctx required. Other threads may use it at the same time.
/// @param project optional. The project's id, 32 to 64 characters; NULL for the
///   context's: that of the option "project_id", else that of the credentials,
///   else that of the project with the region's name, which is looked up at IAM
///   once.
/// @param instance required. The audit instance's id, 32 to 64 characters.
/// @param id required. The report's id, 16 to 64 characters. Ids consist of
///   ASCII letters, digits, "-" and "_".
/// @param locale optional. The language of the report: "en-us" or "zh-cn", in
///   any letter case, also with "_" instead of "-"; NULL for the service's
///   default, which is en-us.
/// @param out_buf required. Receives the report.
/// @errors INVALID_ID, INVALID_LOCALE; NOT_CONFIGURED (no credentials, no
///   project); LIMIT_EXCEEDED (larger than the option "max_memory_bytes"); as
///   dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_download(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    locale: *const c_char,
    out_buf: *mut dbss_buffer,
) -> dbss_status {
    let none = std::ptr::null_mut();
    // SAFETY: the same contract, with no operation.
    unsafe { dbss_report_download_to_memory(ctx, project, instance, id, locale, none, out_buf) }
}

/// Like dbss_report_download(), under an operation.
///
/// @param ctx, project, instance, id, locale, out_buf as dbss_report_download.
/// @errors as dbss_report_download
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_download_to_memory(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    locale: *const c_char,
    operation: *mut dbss_operation,
    out_buf: *mut dbss_buffer,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_buf, dbss_buffer::EMPTY, "out_buf") };
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
                *slot = dbss_buffer::from_bytes(call.client.download(&call.report)?.into_boxed_slice());
                Ok(())
            })
        }
    })
}

/// Downloads a report to a file. The file appears under its name only when it
/// is complete and on the disk. Until then, and after every failure,
/// cancellation or crash, an existing file stays unchanged. Its permissions are
/// those of the option "file_mode". Afterwards dbss_operation_path() returns
/// its path.
///
/// While it arrives, the report is in a file without a name in the target's
/// directory, which disappears with the process. If the file system does not
/// support such files (and for a moment before it replaces another), it is in a
/// hidden file ".dbss-XXXXXX.part", which stays only if the process is killed
/// or the machine stops.
///
/// @param ctx, project, instance, id, locale as dbss_report_download.
/// @param path required, bytes. Its directory must exist and be writable.
/// @param flags flags DBSS_FILE_.
/// @errors INVALID_VALUE (path, flags); FILE_EXISTS, NOT_REGULAR_FILE (also for
///   a symbolic link), FILE (no such directory, no permission; these three
///   before any request); DISK_FULL; INVALID_ID, INVALID_LOCALE; as
///   dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_download_to_file(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    locale: *const c_char,
    path: *const c_char,
    flags: u32,
    operation: *mut dbss_operation,
) -> dbss_status {
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
                let (call, path) = (report_call(ctx, ids, active)?, bytes(path, "path")?);
                let path = OsStr::from_bytes(path);
                call.client
                    .download_to_file(&call.report, path, overwrite(flags)?)
                    .map(drop)
            })
        }
    })
}

/// Downloads a report into a directory, under a safe form of the report's own
/// name. Afterwards dbss_operation_path() returns its path. Otherwise like
/// dbss_report_download_to_file().
///
/// @param ctx, project, instance, id, locale, flags as
///   dbss_report_download_to_file.
/// @param directory required, bytes. It must exist.
/// @errors as dbss_report_download_to_file (FILE_EXISTS only after the service
///   has sent the name)
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_download_to_directory(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    locale: *const c_char,
    directory: *const c_char,
    flags: u32,
    operation: *mut dbss_operation,
) -> dbss_status {
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
                let (call, directory) = (report_call(ctx, ids, active)?, bytes(directory, "directory")?);
                let directory = OsStr::from_bytes(directory);
                call.client
                    .download_to_directory(&call.report, directory, overwrite(flags)?)
                    .map(drop)
            })
        }
    })
}

/// Downloads a report to a descriptor: a file, from its current offset, or a
/// pipe, a socket, a terminal. POSIX only. Bytes written before a failure
/// cannot be taken back, so only a call that returned DBSS_OK has written a
/// whole report.
///
/// @param ctx, project, instance, id, locale as dbss_report_download.
/// @param fd descriptor. Open for writing, blocking or not; it is never closed,
///   and its mode is not changed. The call writes to a copy, so you may close it
///   meanwhile; a reader then sees the end when the call ends. As with every
///   close, that of the copy gives back the record locks of the process on the
///   file (F_SETLK, lockf(); not flock()).
/// @errors ARGUMENT (not open for writing); BROKEN_PIPE (its reader closed it;
///   never SIGPIPE); DISK_FULL, FILE; INVALID_ID, INVALID_LOCALE; as
///   dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_download_to_fd(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    locale: *const c_char,
    fd: c_int,
    operation: *mut dbss_operation,
) -> dbss_status {
    ffi_status(|| {
        let ids = Ids {
            project,
            instance,
            id,
            locale,
        };
        // SAFETY: the header's rules are the contracts of these; the caller
        // keeps the descriptor open during the call, and a closed one only
        // causes errors.
        unsafe {
            with_operation(operation, |active| {
                let call = report_call(ctx, ids, active)?;
                if fd < 0 {
                    return Err(Error::argument(
                        Status::Argument,
                        "fd",
                        "is not an open descriptor",
                    ));
                }
                let fd = BorrowedFd::borrow_raw(fd);
                call.client.download_to_fd(&call.report, fd).map(drop)
            })
        }
    })
}

/// Receives the next bytes of a report, in order.
///
/// @param data borrowed, size len. At least 1 byte.
/// @return nonzero CANCELLED. 0 to continue; anything else ends the call.
/// @runs in call.
/// @calls any.
pub type dbss_write_fn =
    Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, data: *const u8, len: usize) -> i32>;

/// Downloads a report to a function of yours, in parts. Bytes passed before a
/// failure cannot be taken back, so only a call that returned DBSS_OK has
/// passed a whole report.
///
/// @param ctx, project, instance, id, locale as dbss_report_download.
/// @param write required.
/// @errors INVALID_ID, INVALID_LOCALE; as dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_report_download_to_callback(
    ctx: *mut dbss_context,
    project: *const c_char,
    instance: *const c_char,
    id: *const c_char,
    locale: *const c_char,
    write: dbss_write_fn,
    user_data: *mut c_void,
    operation: *mut dbss_operation,
) -> dbss_status {
    ffi_status(|| {
        let ids = Ids {
            project,
            instance,
            id,
            locale,
        };
        // SAFETY: the header's rules are the contracts of these; the function
        // is the caller's, with its own data and bytes that are valid until it
        // returns.
        unsafe {
            with_operation(operation, |active| {
                let call = report_call(ctx, ids, active)?;
                let write = write.ok_or_else(|| null("write"))?;
                let take = |bytes: &[u8]| call_host(|| write(user_data, bytes.as_ptr(), bytes.len()) == 0);
                internal::download_to_callback(&call.client, &call.report, take)
            })
        }
    })
}
