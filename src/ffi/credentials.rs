//! `dbss_credentials`: a description of credentials, without their secrets.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;
use std::time::SystemTime;

use super::arguments::out;
use super::call::ffi_status;
use super::context::client_of;
use super::context::dbss_context;
use super::error::c_string;
use super::handle::Handle;
use super::operation::dbss_operation;
use super::operation::with_operation;
use super::panic::ffi_value;
use super::status::dbss_status;
use dbss::internal;

/// A description of credentials, for people and logs. It contains no secrets.
///
/// @threads any.
pub struct dbss_credentials {
    _opaque: [u8; 0],
}

#[doc(hidden)]
pub struct CredentialsInfo {
    source: CString,
    description: CString,
    name: Option<CString>,
    project: Option<CString>,
    expires_ms: i64,
}

impl Handle for dbss_credentials {
    type Value = CredentialsInfo;
}

/// Finds the credentials that a call would use now, in the same way as a call:
/// if necessary, it calls the token provider, logs in, or fetches a temporary
/// key. dbss_context_check() checks whether the service accepts them.
///
/// @param ctx required.
/// @param out_credentials required.
/// @errors NOT_CONFIGURED (there are none); NO_TOKEN; INVALID_CREDENTIALS;
///   SERVICE, BAD_REQUEST, UNAUTHENTICATED, FORBIDDEN, NOT_FOUND, THROTTLED,
///   SERVER, REDIRECTED, UNEXPECTED_RESPONSE (from IAM or another source of
///   keys); FILE (a token file); NETWORK*
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_find_credentials(
    ctx: *mut dbss_context,
    operation: *mut dbss_operation,
    out_credentials: *mut *mut dbss_credentials,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_credentials, ptr::null_mut(), "out_credentials") };
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        let (slot, found) = unsafe {
            with_operation(operation, |active| {
                let slot = slot?;
                let client = dbss_context::borrow(ctx, "ctx")?;
                Ok((
                    slot,
                    internal::with_active_operation(&client, active).find_credentials()?,
                ))
            })
        }?;
        let since_1970 = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        *slot = dbss_credentials::into_handle(Arc::new(CredentialsInfo {
            source: c_string(found.source),
            description: c_string(&found.description),
            name: found.name.as_deref().map(c_string),
            project: found.project.as_deref().map(c_string),
            expires_ms: found.expires.map_or(-1, since_1970),
        }));
        Ok(())
    })
}

/// Checks that the service accepts the credentials, by listing one instance of
/// the project. Nothing is downloaded or changed.
///
/// @param ctx required.
/// @param project optional. The project's id; NULL for the context's.
/// @errors INVALID_ID; UNAUTHENTICATED (it does not accept them); FORBIDDEN (it
///   accepts them, but does not allow this); as dbss_context_find_credentials
/// @blocks network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_check(
    ctx: *mut dbss_context,
    project: *const c_char,
    operation: *mut dbss_operation,
) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe { with_operation(operation, |active| client_of(ctx, project, active)?.check()) }
    })
}

/// Where the credentials come from: "token", "access_key", "token_provider",
/// "iam_user", "environment", "profile", "metadata", "oidc", "federation",
/// "pod_identity" or "agency". Newer versions may add more.
///
/// @return static.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_source(credentials: *const dbss_credentials) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, ptr::null(), |info| info.source.as_ptr()) }
}

/// A description of the source, with the variable, file or address.
///
/// @return borrowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_description(credentials: *const dbss_credentials) -> *const c_char {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, ptr::null(), |info| info.description.as_ptr()) }
}

/// The user's name, or the access key with its middle masked.
///
/// @return borrowed, nullable. NULL if it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_name(credentials: *const dbss_credentials) -> *const c_char {
    let name = |info: &CredentialsInfo| info.name.as_ref().map_or(ptr::null(), |name| name.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, ptr::null(), name) }
}

/// The id of the default project of calls, if it is known without a look-up.
///
/// @return borrowed, nullable. NULL if it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_project(credentials: *const dbss_credentials) -> *const c_char {
    let project = |info: &CredentialsInfo| info.project.as_ref().map_or(ptr::null(), |id| id.as_ptr());
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, ptr::null(), project) }
}

/// When the credentials expire.
///
/// @return unit unix-ms, none -1. -1 if they do not expire, or if it is not
///   known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_expires_ms(credentials: *const dbss_credentials) -> i64 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_credentials::read(credentials, -1, |info| info.expires_ms) }
}

/// Frees the description.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_credentials_free(credentials: *mut dbss_credentials) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_credentials::release(credentials) });
}
