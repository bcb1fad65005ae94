//! `dbss_token_request`: a request for a token to the caller's token provider.

use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::arguments::{bytes, optional_text};
use super::call::ffi_status;
use super::callback::{Callback, dbss_destroy_fn};
use super::config::{dbss_config, with_config};
use super::handle::Handle;
use super::panic::ffi_value;
use super::status::dbss_status;
use dbss::internal::{Config, Part};
use dbss::{Error, PartKind, Status, TokenRequest};

/// A request for a token. Complete it once, with dbss_token_request_set() or
/// dbss_token_request_fail(), and then free it. This may be done immediately or
/// later, from any thread.
///
/// @threads any.
pub struct dbss_token_request {
    _opaque: [u8; 0],
}

impl Handle for dbss_token_request {
    type Value = TokenRequest;
}

/// Called to provide a token: when the first call needs one, before a token
/// expires, and after the service rejected it.
///
/// Only one request is pending at a time, and all calls wait for its token.
/// Each of them still has its own cancellation and timeouts. After one has
/// waited for its "stall_timeout_ms", the next call makes a new request. The
/// call on whose thread the function runs cannot be cancelled until the
/// function returns.
///
/// @param request owned. Complete it now or later, then free it.
/// @runs in call.
/// @calls any without token.
pub type dbss_token_provider_fn =
    Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, request: *mut dbss_token_request)>;

type ProviderFunction = unsafe extern "C-unwind" fn(user_data: *mut c_void, request: *mut dbss_token_request);

impl Callback<ProviderFunction> {
    fn provide(&self, request: TokenRequest) {
        let request = dbss_token_request::into_handle(Arc::new(request));
        // SAFETY: the caller's function with its own data; it takes ownership
        // of the handle.
        self.call(|provide, data| unsafe { provide(data, request) });
    }
}

/// Sets a function of yours that provides tokens, instead of other credentials,
/// for the contexts made from this configuration.
///
/// `destroy` is called when the provider is replaced and the configuration and
/// all contexts made from it are freed, or closed without a running call. It is
/// called immediately when this function fails.
///
/// @param config required.
/// @param provider optional. NULL removes the provider.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_token_provider(
    config: *mut dbss_config,
    provider: dbss_token_provider_fn,
    user_data: *mut c_void,
    destroy: dbss_destroy_fn,
) -> dbss_status {
    // SAFETY: the header's rules are the contract of `set_provider`.
    unsafe { set_provider(config, provider, user_data, destroy, Config::set_token_provider) }
}

/// Sets a function of yours that provides the passcodes of the MFA device of
/// the option "iam_user", for the contexts made from this configuration. It
/// needs the option "iam_user_id".
///
/// The function is called before each login, and completes the request with
/// the passcode. dbss_token_request_refused() tells whether IAM refused the
/// last login. A passcode is sent once and then wiped; after a failed login
/// the next call requests another one. `destroy` is called as for
/// dbss_config_set_token_provider().
///
/// @param config required.
/// @param provider optional. NULL removes the provider.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_passcode_provider(
    config: *mut dbss_config,
    provider: dbss_token_provider_fn,
    user_data: *mut c_void,
    destroy: dbss_destroy_fn,
) -> dbss_status {
    // SAFETY: the header's rules are the contract of `set_provider`.
    unsafe {
        set_provider(
            config,
            provider,
            user_data,
            destroy,
            Config::set_passcode_provider,
        )
    }
}

type Provider = Arc<dyn Fn(TokenRequest) + Send + Sync>;

/// Gives a function of the caller to the configuration.
///
/// # Safety
///
/// As for `with_config`.
unsafe fn set_provider(
    config: *mut dbss_config,
    provider: dbss_token_provider_fn,
    user_data: *mut c_void,
    destroy: dbss_destroy_fn,
    set: fn(&mut Config, Option<Provider>),
) -> dbss_status {
    let callback = Callback::new(provider, user_data, destroy);
    ffi_status(|| {
        let provider = callback
            .with_function()
            .map(|c| Arc::new(move |request| c.provide(request)) as Arc<_>);
        // SAFETY: the caller's obligation.
        unsafe {
            with_config(config, |c| {
                set(c, provider);
                Ok(())
            })
        }
    })
}

/// Whether the service rejected the previous token. It would reject the same
/// one again.
///
/// @return boolean.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_token_request_refused(request: *const dbss_token_request) -> i32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_token_request::read(request, 0, |request| request.is_after_refusal().into()) }
}

/// Whether a call or the context may still use the token. It is false once the
/// request is completed, once the context was closed or freed and the
/// requesting call has ended, and once another request was made. Completing the
/// request anyway does no harm.
///
/// @return boolean.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_token_request_is_wanted(request: *const dbss_token_request) -> i32 {
    // SAFETY: the header's rules are the contract of `read`.
    unsafe { dbss_token_request::read(request, 0, |request| request.is_wanted().into()) }
}

/// Completes a request with a token, or with a passcode.
///
/// DBSS_OK and DBSS_ERR_INVALID_TOKEN complete the request; after
/// DBSS_ERR_INVALID_TOKEN the waiting calls fail with DBSS_ERR_NO_TOKEN. After
/// DBSS_ERR_NULL_ARGUMENT and DBSS_ERR_INVALID_VALUE the request is still open:
/// complete it with another call.
///
/// @param request required.
/// @param token required, bytes, secret. As for dbss_config_set_token(). For a
///   passcode provider, the passcode.
/// @param expires_ms unit unix-ms, none -1. When it expires, by the clock of
///   this machine, so that the next one is requested in time; -1 if it is not
///   known, and for a passcode, which is sent at once. A time in the past is
///   DBSS_ERR_INVALID_TOKEN.
/// @errors INVALID_TOKEN (malformed, or expired); INVALID_VALUE (expires_ms is
///   negative and not -1); ARGUMENT (the request was completed before)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_token_request_set(
    request: *mut dbss_token_request,
    token: *const c_char,
    expires_ms: i64,
) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        let (request, token) = unsafe {
            (
                dbss_token_request::borrow(request, "request")?,
                bytes(token, "token")?,
            )
        };
        let expires = match u64::try_from(expires_ms) {
            Ok(ms) => Some(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
            Err(_) if expires_ms == -1 => None,
            Err(_) => {
                return Err(Error::argument(
                    Status::InvalidValue,
                    "expires_ms",
                    format_args!(
                        "must be a time since 1970, or {} if it is not known, but is {}",
                        Part(PartKind::Unknown, -1),
                        Part(PartKind::Value, expires_ms)
                    ),
                ));
            }
        };
        request.set(token, expires)
    })
}

/// Completes a request without a token. The waiting calls fail with
/// DBSS_ERR_NO_TOKEN, and the next call makes a new request. After
/// DBSS_ERR_INVALID_UTF8 the request is still open.
///
/// @param request required.
/// @param message optional. The reason, for the error message, which includes
///   at most 512 bytes of it. It must not contain secrets.
/// @errors ARGUMENT (the request was completed before)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_token_request_fail(
    request: *mut dbss_token_request,
    message: *const c_char,
) -> dbss_status {
    ffi_status(|| {
        // SAFETY: the header's rules are the contracts of these.
        let (request, message) = unsafe {
            (
                dbss_token_request::borrow(request, "request")?,
                optional_text(message, "message")?,
            )
        };
        request.fail(message.unwrap_or_default())
    })
}

/// Frees a request. A request that was not completed counts as failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_token_request_free(request: *mut dbss_token_request) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_token_request::release(request) });
}
