//! `dbss_context`: a service, its credentials and connections.

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

/// A service, the credentials for it and the connections to it, which stay open
/// between calls. Make one and share it.
///
/// After fork() a child may go on using the contexts that it inherited: it
/// opens connections of its own and leaves the parent's alone.
///
/// @threads any.
pub struct dbss_context {
    _opaque: [u8; 0],
}

impl Handle for dbss_context {
    type Value = Client;
}

/// A client for one call: with its project, NULL for the context's, and what it runs
/// under.
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

/// Makes a context from a configuration. No request is sent, but files and the
/// environment are read now. The trusted certificates are those of "ca_file"
/// where that is set, else the system's, else (where the system has none) those
/// built in. For a region without an endpoint, the environment and the regions
/// file are read. With the option "credentials", the credentials that it names.
///
/// @param config required.
/// @param out_ctx required.
/// @errors NOT_CONFIGURED (no region or endpoint, a half of an access key, a
///   part of an IAM user, or "credentials" names a place that has none);
///   INVALID_CREDENTIALS; INVALID_ENDPOINT (a region's); PLAINTEXT_REFUSED;
///   FILE (a file cannot be read); INVALID_VALUE (the CA file holds no
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

/// Replaces the credentials by a token. Calls that start afterwards use the new
/// one; calls under way finish with the old ones. When it fails, the old ones
/// stay.
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

/// Cancels all calls on this context that are under way in this process, open
/// streams included: they end with DBSS_ERR_CANCELLED. Calls that start
/// afterwards run, under the same operations too.
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

/// Closes a context: ends its calls under way in this process with
/// DBSS_ERR_CANCELLED, open streams included, and later ones with
/// DBSS_ERR_CLOSED; closes its idle connections; releases its log function and
/// its token provider, whose destroy functions run now or when the last call under
/// way has ended. It waits for nothing and may be called in a callback. Closing it
/// again does nothing. The context still has to be freed, when nothing can use it
/// any more. The operation of an open stream is the stream's until that is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_close(ctx: *mut dbss_context) {
    ffi_value((), || {
        // SAFETY: the header's rules are the contract of `borrow`.
        if let Ok(client) = unsafe { dbss_context::borrow(ctx, "ctx") } {
            client.close();
        }
    });
}

/// Frees a context: closes its idle connections and wipes its secrets. Calls
/// under way are not disturbed: they hold what they need until they end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_context_free(ctx: *mut dbss_context) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_context::release(ctx) });
}
