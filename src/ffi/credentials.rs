//! `dbss_credentials`: credentials that were found, without what is secret.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;
use std::time::SystemTime;

use super::context::client_of;
use super::context::dbss_context;
use super::error::c_string;
use super::guard::{Handle, guarded, out, plain, under};
use super::operation::dbss_operation;
use super::status::dbss_status;
use dbss::internal;

/// Credentials that were found, for people and logs: nothing in it is secret.
pub struct dbss_credentials {
    _opaque: [u8; 0],
}

#[doc(hidden)]
pub struct Found {
    source: CString,
    description: CString,
    name: Option<CString>,
    project: Option<CString>,
    expires_ms: i64,
}

impl Handle for dbss_credentials {
    type Value = Found;
}

/// Finds the credentials that a call would use now, as it would: by asking the
/// token provider, logging in, or asking the metadata service, where that is
/// configured and has not been done yet. Whether the service takes them,
/// dbss_context_check() tells.
///
/// `ctx` and `out_credentials` (required); the latter receives what was found,
/// or NULL on failure; it is yours: end it with dbss_credentials_free().
/// `operation` may be NULL.
/// Errors: DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_NOT_CONFIGURED when there are none;
/// DBSS_ERR_NO_TOKEN; every status of the groups DBSS_ERR_SERVICE (of IAM and
/// the metadata service) and DBSS_ERR_NETWORK; DBSS_ERR_BUSY,
/// DBSS_ERR_CANCELLED. Uses the network. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_find_credentials(
    ctx: *mut dbss_context,
    operation: *mut dbss_operation,
    out_credentials: *mut *mut dbss_credentials,
) -> dbss_status {
    guarded(|| {
        // SAFETY: by the header's rules NULL or writable.
        let slot = unsafe { out(out_credentials, ptr::null_mut(), "out_credentials") };
        // SAFETY: the header's rules are the contracts of these.
        let (slot, found) = unsafe {
            under(operation, |running| {
                let slot = slot?;
                let client = dbss_context::borrow(ctx, "ctx")?;
                Ok((slot, internal::with_running(&client, running).find_credentials()?))
            })
        }?;
        let since_1970 = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        *slot = dbss_credentials::into_handle(Arc::new(Found {
            source: c_string(found.source),
            description: c_string(&found.description),
            name: found.name.as_deref().map(c_string),
            project: found.project.as_deref().map(c_string),
            expires_ms: found.expires.map_or(-1, since_1970),
        }));
        Ok(())
    })
}

/// Asks the service whether it takes the credentials, by asking it for an
/// instance of the project; nothing is downloaded or changed.
///
/// `ctx` (required). `project`: the project's id; NULL for the context's.
/// `operation` may be NULL.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID;
/// DBSS_ERR_UNAUTHENTICATED when it does not; DBSS_ERR_FORBIDDEN when it knows
/// them and does not allow that; those of dbss_context_find_credentials(). Uses
/// the network. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_check(
    ctx: *mut dbss_context,
    project: *const c_char,
    operation: *mut dbss_operation,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe { under(operation, |running| client_of(ctx, project, running)?.check()) }
    })
}

/// Where they are from: "token", "access_key", "token_provider", "iam_user",
/// "environment", "profile" or "metadata". Newer versions may have more.
///
/// Returns a static string; NULL for NULL. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_source(credentials: *const dbss_credentials) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, ptr::null(), |found| found.source.as_ptr()) }
}

/// The same in words, with the variable, file or address.
///
/// Returns a string that is valid until dbss_credentials_free(); NULL for NULL.
/// Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_description(credentials: *const dbss_credentials) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, ptr::null(), |found| found.description.as_ptr()) }
}

/// Whose they are: the user's name, or the access key with its middle left out.
///
/// Returns a string that is valid until dbss_credentials_free(); NULL where
/// they do not tell, and for NULL. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_name(credentials: *const dbss_credentials) -> *const c_char {
    let name = |found: &Found| found.name.as_ref().map_or(ptr::null(), |name| name.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, ptr::null(), name) }
}

/// The id of the project that calls use when they are given none, as far as it
/// is known without looking it up.
///
/// Returns a string that is valid until dbss_credentials_free(); NULL where it
/// is not known, and for NULL. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_project(credentials: *const dbss_credentials) -> *const c_char {
    let project = |found: &Found| found.project.as_ref().map_or(ptr::null(), |id| id.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, ptr::null(), project) }
}

/// When they expire, in milliseconds since 1970 UTC; -1 where that is not
/// known, when they do not, and for NULL. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_expires_ms(credentials: *const dbss_credentials) -> i64 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, -1, |found| found.expires_ms) }
}

/// Frees what was found. NULL does nothing. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_free(credentials: *mut dbss_credentials) {
    // SAFETY: the header's rules are the contract of `release`.
    plain((), || unsafe { dbss_credentials::release(credentials) });
}
