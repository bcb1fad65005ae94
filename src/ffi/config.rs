//! `dbss_config`: a configuration under construction.

use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;

use super::arguments::{bytes, out, text};
use super::call::ffi_status;
use super::handle::Handle;
use super::panic::ffi_value;
use super::settings::Settings;
use super::status::dbss_status;
use dbss::Error;
use dbss::internal::Config;

/// A configuration under construction. dbss_context_new() copies it, so it can
/// be changed or freed afterwards, and used for several contexts.
///
/// Each setter checks its value immediately. When it fails, the configuration
/// is not changed.
///
/// @threads any.
pub struct dbss_config {
    _opaque: [u8; 0],
}

impl Handle for dbss_config {
    type Value = Settings<Config>;
}

/// Runs `change` on the configuration behind `config`.
///
/// # Safety
/// As for [`Handle::borrow`].
pub(super) unsafe fn with_config<T>(
    config: *const dbss_config,
    change: impl FnOnce(&mut Config) -> Result<T, Error>,
) -> Result<T, Error> {
    // SAFETY: the same contract.
    let config = unsafe { dbss_config::borrow(config, "config") }?;
    let mut config = config.lock("config")?;
    let result = change(&mut config);
    let discarded = config.take_discarded();
    drop(config);
    // The caller's destroy functions run here, outside of the lock.
    drop(discarded);
    result
}

/// Makes a configuration with every option at its default.
///
/// @param out_config required.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_new(out_config: *mut *mut dbss_config) -> dbss_status {
    // SAFETY: by the header's rules NULL or writable.
    let slot = unsafe { out(out_config, ptr::null_mut(), "out_config") };
    ffi_status(|| {
        let slot = slot?;
        *slot = dbss_config::into_handle(Arc::new(Settings::new(Config::default())));
        Ok(())
    })
}

/// Frees a configuration and wipes its secrets. Contexts made from it are not
/// affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_free(config: *mut dbss_config) {
    // SAFETY: the header's rules are the contract of `release`.
    ffi_value((), || unsafe { dbss_config::release(config) });
}

/// Sets the region, such as "cn-north-4". Unless an endpoint is set too, it is
/// determined when the context is made, as in the official SDKs: from the
/// variable HUAWEICLOUD_SDK_REGION_DBSS_{REGION} (upper case, "_" for "-");
/// else from the service DBSS in the regions file
/// (HUAWEICLOUD_SDK_REGIONS_FILE, or ~/.huaweicloud/regions.yaml); else it is
/// https://dbss.{region}.myhuaweicloud.com. If no project is set, the project
/// with the region's name is looked up.
///
/// @param config required.
/// @param region required. 1 to 63 characters of a-z, 0-9 and "-". Regions that
///   this library does not know are accepted too.
/// @errors INVALID_ENDPOINT
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_region(
    config: *mut dbss_config,
    region: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    ffi_status(|| unsafe { with_config(config, |c| c.set_region(text(region, "region")?)) })
}

/// Sets the URL of the service, such as "https://dbss.example.com" or
/// "https://gateway.example.com:8443/dbss". It takes precedence over the
/// region's.
///
/// @param config required.
/// @param endpoint required. https or http, with a host and optionally a port
///   and a path, but no user, query or fragment. Without a scheme it is https.
///   Up to 16 URLs, separated by commas, in the order of preference. If one
///   cannot be reached (no such host, no connection), the next one is tried, and
///   used from then on. Plain http to a host other than this machine also needs
///   the option "allow_plaintext".
/// @errors INVALID_ENDPOINT
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_endpoint(
    config: *mut dbss_config,
    endpoint: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    ffi_status(|| unsafe { with_config(config, |c| c.set_endpoint(text(endpoint, "endpoint")?)) })
}

/// Sets the IAM token that is sent with each request (X-Auth-Token), instead of
/// other credentials. The credentials that were set last count. Tokens are
/// valid for 24 hours: dbss_context_set_token() replaces it later.
///
/// @param config required.
/// @param token required, bytes, secret. 1 to 98304 (96 KiB) visible ASCII
///   characters, so no space and no line ending. The library wipes its copy
///   when it is no longer needed; wipe your own.
/// @errors INVALID_TOKEN
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_token(
    config: *mut dbss_config,
    token: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    ffi_status(|| unsafe { with_config(config, |c| c.set_token(bytes(token, "token")?)) })
}

/// Sets an access key (AK and SK) that signs each request (SDK-HMAC-SHA256),
/// instead of other credentials. Unlike a token, a permanent key does not
/// expire.
///
/// A call does not repeat a request whose signature was rejected, but the next
/// call signs with the same key again. Stop after DBSS_ERR_UNAUTHENTICATED:
/// five wrong signatures in a row lock a key for five minutes.
///
/// @param config required.
/// @param access_key required, bytes. 1 to 1024 visible ASCII characters.
/// @param secret_key required, bytes, secret. 1 to 1024 visible ASCII
///   characters.
/// @param security_token optional, bytes, secret. The security token of a
///   temporary key, up to 98304 characters; NULL for a permanent key.
/// @errors INVALID_ACCESS_KEY
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_access_key(
    config: *mut dbss_config,
    access_key: *const c_char,
    secret_key: *const c_char,
    security_token: *const c_char,
) -> dbss_status {
    ffi_status(|| {
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

/// Sets the IAM user who logs in for a token, instead of other credentials. The
/// first call that needs a token logs in for all threads. The token is cached,
/// and refreshed before it expires, and once for each call when the service
/// rejects it. It is for the project of "project_id", else for that of the
/// region. The option "iam_endpoint" sets the URL of IAM.
///
/// After IAM rejects a login, the same context does not repeat it, because
/// several wrong logins lock a user. Later calls then fail with the same error.
/// With a passcode provider it is different: the next call logs in again with a
/// new passcode, so a wrong password is sent again.
///
/// @param config required.
/// @param user required. 1 to 1024 bytes.
/// @param password required, secret. 1 to 1024 bytes.
/// @param domain required. The account's name, 1 to 1024 bytes.
/// @errors INVALID_VALUE
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set_iam_user(
    config: *mut dbss_config,
    user: *const c_char,
    password: *const c_char,
    domain: *const c_char,
) -> dbss_status {
    ffi_status(|| {
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

/// Sets any option by its key. These are the options, which dbss_option_key()
/// and related functions also list at run time:
///
/// {OPTIONS config}
///
/// A value is text in the format of its option's type: "text", "id", "url",
/// "secret" and "path" unchanged (a path need not be UTF-8); "milliseconds",
/// "bytes" and "number" in decimal digits, or "-1" for no limit if the option
/// allows it; "mode" in octal digits; "boolean" as true or false; "day" such as
/// 2026-11-24; "choice" as one of its words.
///
/// @param config required.
/// @param key required, option of config.
/// @param value required, bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_config_set(
    config: *mut dbss_config,
    key: *const c_char,
    value: *const c_char,
) -> dbss_status {
    // SAFETY: the header's rules are the contracts of these.
    ffi_status(|| unsafe { with_config(config, |c| c.set(text(key, "key")?, bytes(value, "value")?)) })
}
