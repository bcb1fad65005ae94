//! `dbss_context`: a client of the service, with its credentials and
//! connections.

use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;

use super::arguments::{bytes, optional_text, out};
use super::call::ffi_status;
use super::config::{dbss_config, with_config};
use super::handle::Handle;
use super::panic::ffi_value;
use super::status::dbss_status;
use dbss::internal::{self, ActiveOperation};
use dbss::{Client, Error};

/// A client of the service, with its credentials and its connections, which
/// stay open between calls. Make one and share it.
///
/// Up to 64 idle connections are kept. One that was idle for longer than 15
/// seconds is not used again. The number of connections in use has no limit.
///
/// After fork() a child may use the contexts that it inherited. It opens its
/// own connections and does not use those of the parent.
///
/// @threads any.
pub struct dbss_context {
    _opaque: [u8; 0],
}

impl Handle for dbss_context {
    type Value = Client;
}

/// Returns a client for one call, with its operation and its project (NULL for
/// the context's default).
///
/// # Safety
/// `ctx` is as for [`Handle::borrow`]; `project` is NULL or NUL-terminated.
pub(super) unsafe fn client_of(
    ctx: *mut dbss_context,
    project: *const c_char,
    active: Option<ActiveOperation>,
) -> Result<Client, Error> {
    // SAFETY: the same contract.
    let (client, project) = unsafe {
        (
            dbss_context::borrow(ctx, "ctx")?,
            optional_text(project, "project")?,
        )
    };
    let client = internal::with_active_operation(&client, active);
    Ok(match project {
        Some(project) => client.with_project(project),
        None => client,
    })
}

/// Makes a context from a configuration. It sends no request, but reads files
/// and the environment: the trusted certificates, which are those of "ca_file"
/// if it is set, else the system's, else (if the system has none) the built-in
/// ones; the endpoint of a region, from the environment and the regions file,
/// unless an endpoint is set; and the credentials that the option "credentials"
/// names.
///
/// @param config required.
/// @param out_ctx required.
/// @errors NOT_CONFIGURED (no region or endpoint, an incomplete access key or
///   IAM user, or "credentials" names a source that has none);
///   INVALID_CREDENTIALS; INVALID_ENDPOINT (of a region); PLAINTEXT_REFUSED;
///   FILE (a file cannot be read); INVALID_VALUE (the CA file has no
///   certificate)
/// @blocks files.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_new(
    config: *const dbss_config,
    out_ctx: *mut *mut dbss_context,
) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_ctx, ptr::null_mut(), "out_ctx") };
    ffi_status(|| {
        let slot = slot?;
        // SAFETY: the header's rules are the contract of `with_config`.
        let config = unsafe { with_config(config, |c| Ok(c.clone())) }?;
        *slot = dbss_context::into_handle(Arc::new(internal::client(config)?));
        Ok(())
    })
}

/// Replaces the credentials by a token. Requests that start afterwards use the
/// token, also those of running calls: retries, and the rest of a list or a
/// mirror. On failure the old credentials stay.
///
/// @param ctx required.
/// @param token required, bytes, secret. As for dbss_config_set_token().
/// @errors INVALID_TOKEN, CLOSED
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_set_token(ctx: *mut dbss_context, token: *const c_char) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        let (context, token) = unsafe { (dbss_context::borrow(ctx, "ctx")?, bytes(token, "token")?) };
        context.set_token(token)
    })
}

/// Cancels all running calls on this context in this process, including open
/// streams: they end with DBSS_ERR_CANCELLED. Calls that start afterwards are
/// not affected, even under the same operations.
///
/// @blocks briefly.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_cancel_all(ctx: *mut dbss_context) {
    ffi_value((), || {
        // SAFETY: the header's rules are the contract of `borrow`.
        if let Ok(context) = unsafe { dbss_context::borrow(ctx, "ctx") } {
            context.cancel_all();
        }
    });
}

/// Closes a context. Running calls in this process, including open streams, end
/// with DBSS_ERR_CANCELLED, and later ones fail with DBSS_ERR_CLOSED. Idle
/// connections are closed. The log function and the token provider are
/// released: their destroy functions run now or when the last running call has
/// ended. Closing does not wait, may be called in a callback, and does nothing
/// the second time. The context still has to be freed when nothing uses it any
/// more. The operation and the connection of an open stream belong to the
/// stream until the stream is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_close(ctx: *mut dbss_context) {
    ffi_value((), || {
        // SAFETY: the header's rules are the contract of `borrow`.
        if let Ok(client) = unsafe { dbss_context::borrow(ctx, "ctx") } {
            client.close();
        }
    });
}

/// Frees a context: closes its idle connections and wipes its secrets. Running
/// calls are not affected: they keep what they need until they end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_free(ctx: *mut dbss_context) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_context::release(ctx) });
}
