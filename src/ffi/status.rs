//! `dbss_status`: the result of a call. Its constants come from the table of
//! statuses; `build.rs` writes them into the header.

use std::ffi::{CStr, c_char};

use dbss::Status;
use dbss::internal::tables::STATUSES;

/// The result of a call: DBSS_OK, or one of the DBSS_ERR_ values below.
///
/// Values never change their meaning. New ones may appear inside a group (a
/// range of one hundred), so treat an unknown value like its group: see
/// dbss_status_group().
pub type dbss_status = i32;

fn describe(status: dbss_status) -> (&'static CStr, &'static CStr) {
    let Some(status) = Status::from_value(status) else {
        return (
            c"DBSS_ERR_UNKNOWN",
            c"a status that this version of libdbss does not know",
        );
    };
    (status.c_name(), status.c_message())
}

/// The name of a status in this header, such as "DBSS_ERR_NOT_FOUND", or
/// "DBSS_ERR_UNKNOWN" for a value that this version does not know.
///
/// @return static.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_status_name(status: dbss_status) -> *const c_char {
    describe(status).0.as_ptr()
}

/// The general meaning of a status. dbss_error_message() describes the
/// particular error.
///
/// @return static.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_status_message(status: dbss_status) -> *const c_char {
    describe(status).1.as_ptr()
}

/// The status of the group of a status: DBSS_OK, DBSS_ERR_ARGUMENT,
/// DBSS_ERR_SERVICE, DBSS_ERR_NETWORK, DBSS_ERR_FILE, DBSS_ERR_RESOURCE,
/// DBSS_ERR_CANCELLED or DBSS_ERR_INTERNAL. Values that are newer than this
/// library have a group too. A value outside of all ranges counts as
/// DBSS_ERR_INTERNAL.
///
/// @return status.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_status_group(status: dbss_status) -> dbss_status {
    match status {
        0 => 0,
        100..700 => status / 100 * 100,
        _ => Status::Internal as dbss_status,
    }
}

/// The number of statuses in this version, including DBSS_OK.
///
/// @return count.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_status_count() -> usize {
    STATUSES.len()
}

/// One of the statuses.
///
/// @param index index of dbss_status_count.
/// @return status, none -1. -1 past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_status_value(index: usize) -> dbss_status {
    STATUSES.get(index).map_or(-1, |row| row.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_in_the_list_once_and_its_group_is_a_status() {
        let values: Vec<dbss_status> = (0..dbss_status_count())
            .map(|index| dbss_status_value(index))
            .collect();
        assert!(values.is_sorted_by(|a, b| a < b));
        assert_eq!(dbss_status_value(values.len()), -1);
        for (row, value) in STATUSES.iter().zip(values) {
            assert_eq!(describe(value).0, row.name);
            assert_eq!(dbss_status_group(value), row.group());
            assert!(Status::from_value(row.group()).is_some());
        }
    }

    #[test]
    fn unknown_values_have_a_name_and_a_group() {
        for (value, group) in [(299, 200), (399, 300), (-1, 700), (1, 700), (i32::MAX, 700)] {
            assert_eq!(describe(value).0, c"DBSS_ERR_UNKNOWN");
            assert_eq!(dbss_status_group(value), group);
        }
    }
}
