//! `dbss_config`: a configuration under construction.

use std::ffi::c_char;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use super::guard::{Handle, bytes, guarded, out, plain, text};
use super::status::dbss_status;
use dbss::Error;
use dbss::internal::Config;

/// A configuration under construction. dbss_context_new() copies it, so it can
/// be changed or freed afterwards, and used for several contexts.
///
/// Each setter checks its value at once and, when it fails, leaves the
/// configuration as it was. Any thread may use it.
pub struct dbss_config {
    _opaque: [u8; 0],
}

impl Handle for dbss_config {
    type Value = Mutex<Config>;
}

/// Lets `change` work on the configuration behind `config`.
///
/// # Safety
/// As for [`Handle::borrow`].
pub(super) unsafe fn with_config<T>(
    config: *const dbss_config,
    change: impl FnOnce(&mut Config) -> Result<T, Error>,
) -> Result<T, Error> {
    // SAFETY: the same contract.
    let config = unsafe { dbss_config::borrow(config, "config") }?;
    // A setter assigns last, so a panic leaves nothing half-set.
    let mut config = config.lock().unwrap_or_else(PoisonError::into_inner);
    let result = change(&mut config);
    let discarded = config.take_discarded();
    drop(config);
    // The caller's destructors run here, outside of the lock.
    drop(discarded);
    result
}

/// Makes a configuration with every option at its default.
///
/// `out_config` (required) receives it, or NULL on failure; it is yours: end
/// it with dbss_config_free(). Errors: DBSS_ERR_NULL_ARGUMENT. Never blocks.
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_new(out_config: *mut *mut dbss_config) -> dbss_status {
    guarded(|| {
        // SAFETY: by the header's rules NULL or writable.
        let slot = unsafe { out(out_config, ptr::null_mut(), "out_config") }?;
        *slot = dbss_config::into_handle(Arc::new(Mutex::new(Config::default())));
        Ok(())
    })
}

/// Frees a configuration and wipes the secrets in it. Contexts made from it
/// are not touched. NULL does nothing. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_free(config: *mut dbss_config) {
    // SAFETY: the header's rules are the contract of `release`.
    plain((), || unsafe { dbss_config::release(config) });
}

/// Sets the region, such as "cn-north-4". The endpoint is then, unless one is
/// set too, and as for the official SDKs: what the variable
/// HUAWEICLOUD_SDK_REGION_DBSS_{REGION} (upper case, "_" for "-") says when the
/// context is made; else what the regions file (HUAWEICLOUD_SDK_REGIONS_FILE,
/// or ~/.huaweicloud/regions.yaml) has for the service DBSS; else
/// https://dbss.{region}.myhuaweicloud.com. The region's name is also that of
/// the project that is looked up where none is given.
///
/// `config` (required). `region` (required): 1 to 63 characters of a-z, 0-9 and
/// "-"; it is copied. A region that this library has never heard of is as good
/// as any.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8,
/// DBSS_ERR_INVALID_ENDPOINT. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_region(
    config: *mut dbss_config,
    region: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    guarded(|| unsafe { with_config(config, |c| c.set_region(text(region, "region")?)) })
}

/// Sets the URL at which the service answers, such as
/// "https://dbss.example.com" or "https://gateway.example.com:8443/dbss". It
/// outranks the region's.
///
/// `config` (required). `endpoint` (required): https, or http, with a host, and
/// maybe a port and a path; no user, query or fragment; it is copied. It may be
/// up to 16 URLs, separated by commas, in the order of preference: where one
/// cannot be reached (no such host, no connection) the next is tried, and used
/// from then on. Plain http to a host other than this machine also needs the
/// option "allow_plaintext".
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8,
/// DBSS_ERR_INVALID_ENDPOINT. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_endpoint(
    config: *mut dbss_config,
    endpoint: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    guarded(|| unsafe { with_config(config, |c| c.set_endpoint(text(endpoint, "endpoint")?)) })
}

/// Sets the IAM token that is sent with each request (X-Auth-Token), in place
/// of other credentials: of those that are set, the last counts. Tokens live 24
/// hours: dbss_context_set_token() replaces it later.
///
/// `config` (required). `token` (required): 1 to 98304 (96 KiB) visible ASCII
/// characters, so no space and no line end; it is copied, and the copy wiped
/// when it is no longer needed. Wipe your own.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_TOKEN. Never blocks. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_token(
    config: *mut dbss_config,
    token: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    guarded(|| unsafe { with_config(config, |c| c.set_token(bytes(token, "token")?)) })
}

/// Sets an access key (AK and SK), with which each request is signed
/// (SDK-HMAC-SHA256), in place of other credentials. Unlike a token a permanent
/// key does not expire.
///
/// `config` (required). `access_key` and `secret_key` (required): 1 to 1024
/// visible ASCII characters. `security_token`: that of a temporary key, up to
/// 98304 characters; NULL for a permanent one. They are copied, and the copies
/// wiped when they are no longer needed. A refused signature is never tried
/// again: five wrong ones in a row lock a key for five minutes.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_ACCESS_KEY. Never blocks.
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_access_key(
    config: *mut dbss_config,
    access_key: *const c_char,
    secret_key: *const c_char,
    security_token: *const c_char,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_config(config, |c| {
                c.set_access_key(
                    bytes(access_key, "access_key")?,
                    bytes(secret_key, "secret_key")?,
                    (!security_token.is_null())
                        .then(|| bytes(security_token, "security_token"))
                        .transpose()?,
                )
            })
        }
    })
}

/// Sets the IAM user who logs in for a token, in place of other credentials.
/// The login is made by the first call that needs it, for all threads, and its
/// token kept; it is renewed before it expires, and once for each call that it
/// is refused to. It is for the project of "project_id", else for that of the
/// region. IAM is where the option "iam_endpoint" says.
///
/// `config` (required). `user`, `password` and `domain` (required; the last is
/// the account's name): 1 to 1024 bytes of UTF-8; they are copied, and the
/// password wiped when it is no longer needed. A login that IAM has refused is
/// not made again by the same context, since several wrong ones lock a user;
/// its calls then fail with the same error.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8,
/// DBSS_ERR_INVALID_VALUE. Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_iam_user(
    config: *mut dbss_config,
    user: *const c_char,
    password: *const c_char,
    domain: *const c_char,
) -> dbss_status {
    guarded(|| {
        // SAFETY: the header's rules are the contracts of these.
        unsafe {
            with_config(config, |c| {
                c.set_iam_user(
                    text(user, "user")?,
                    text(password, "password")?,
                    text(domain, "domain")?,
                )
            })
        }
    })
}

/// Sets any option by its key; dbss_option_key() lists them at run time:
///
/// @OPTIONS@
///
/// `config` and `key` (required). `value` (required, bytes). They are copied. A
/// value is text in the form of its option's type: "text", "id", "url", "secret"
/// and "path" as they are (a path is bytes, it need not be UTF-8);
/// "milliseconds", "bytes" and "number" in decimal digits, or "-1" for no limit
/// where the option says so; "mode" in octal digits; "boolean" as true or false;
/// "day" such as 2026-11-24; "choice" as one of its words.
/// Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_UNKNOWN_KEY,
/// DBSS_ERR_INVALID_VALUE, and those of the typed setter where there is one.
/// Never blocks. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set(
    config: *mut dbss_config,
    key: *const c_char,
    value: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    guarded(|| unsafe { with_config(config, |c| c.set(text(key, "key")?, bytes(value, "value")?)) })
}
