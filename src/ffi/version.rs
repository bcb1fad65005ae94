//! What this library is and can do.

use std::ffi::{CStr, c_char};

use super::guard::plain;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("the package's version has no NUL"),
};

/// What this build can do, by the names that `dbss_has_feature` takes.
const FEATURES: &[&str] = &[
    "download",
    "token",
    "https",
    "file",
    "stream",
    "operation",
    "resume",
    "log",
    "redirect",
    "proxy",
    "access_key",
    "iam_user",
    "token_provider",
    "credentials",
    "project",
    "endpoints",
    "list",
    "manage",
    "mirror",
];

/// The version of the library that is loaded, such as "0.1.0"; compare with
/// DBSS_VERSION, which is the version of the header.
///
/// Returns a static string, never NULL. Never blocks. Any thread, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The same as a number, to compare: major * 10000 + minor * 100 + patch, as
/// in DBSS_VERSION_NUMBER. Never blocks. Any thread, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_version_number() -> u32 {
    const fn number(text: &str) -> u32 {
        let bytes = text.as_bytes();
        let mut value = 0;
        let mut i = 0;
        while i < bytes.len() {
            value = value * 10 + (bytes[i] - b'0') as u32;
            i += 1;
        }
        value
    }
    const NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    NUMBER
}

/// Whether the loaded library has a feature: 1; 0 when it has not, when
/// the name is unknown to it, and for NULL. The features of this version are
/// "download" (reports into memory), "token" (a fixed IAM token), "https" (TLS
/// 1.2 and 1.3), "file" (to files, directories, descriptors and callbacks),
/// "stream" (dbss_report_open), "operation" (progress and cancel), "resume"
/// (retries and resumption), "log", "redirect", "proxy", "access_key" (AK/SK
/// signatures), "iam_user" (logins), "token_provider", "credentials" (found
/// where the official SDKs find them), "project" (found where none is given),
/// "endpoints" (several, and those of regions), "list" (instances, reports,
/// templates), "manage" (create, generate, wait, delete) and "mirror".
///
/// Nothing is kept of `name`. Never blocks. Any thread, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_has_feature(name: *const c_char) -> i32 {
    plain(0, || {
        if name.is_null() {
            return 0;
        }
        // SAFETY: not NULL, and by the header's rules NUL-terminated.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes();
        FEATURES.iter().any(|f| f.as_bytes() == name).into()
    })
}
