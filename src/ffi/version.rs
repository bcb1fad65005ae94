//! The version and the features of this library.

use std::ffi::{CStr, c_char};
use std::ptr;

use super::panic::ffi_value;
use dbss::internal::tables::FEATURES;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("the package's version has no NUL"),
};

/// The version of the loaded library, such as "0.1.0". Compare it with
/// DBSS_VERSION, the version of the header.
///
/// @return static.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version as a number, for comparison: major * 10000 + minor * 100 +
/// patch, as in DBSS_VERSION_NUMBER.
///
/// @return number.
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

/// Whether the loaded library has a feature. dbss_feature_name() lists the
/// features of this version.
///
/// @param name feature.
/// @return boolean.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dbss_has_feature(name: *const c_char) -> i32 {
    ffi_value(0, || {
        if name.is_null() {
            return 0;
        }
        // SAFETY: not NULL, and by the header's rules NUL-terminated.
        let name = unsafe { CStr::from_ptr(name) };
        FEATURES.iter().any(|f| f.name == name).into()
    })
}

/// The number of features in this version.
///
/// @return count.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_feature_count() -> usize {
    FEATURES.len()
}

/// The name of a feature, for dbss_has_feature().
///
/// @param index index of dbss_feature_count.
/// @return static, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_feature_name(index: usize) -> *const c_char {
    FEATURES.get(index).map_or(ptr::null(), |f| f.name.as_ptr())
}

/// The description of a feature.
///
/// @param index index of dbss_feature_count.
/// @return static, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_feature_help(index: usize) -> *const c_char {
    FEATURES.get(index).map_or(ptr::null(), |f| f.help.as_ptr())
}
