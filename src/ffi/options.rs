//! The lists of all options, for programs that generate wrappers, help texts or
//! settings.

use std::ffi::{CStr, c_char};
use std::ptr;

use dbss::internal::tables::{OptionRow, OptionSet};

/// The options of a configuration: dbss_config_set().
pub const DBSS_OPTIONS_CONFIG: i32 = 1;
/// The options of an operation: dbss_operation_set().
pub const DBSS_OPTIONS_OPERATION: i32 = 2;
/// The options of a report spec: dbss_report_spec_set().
pub const DBSS_OPTIONS_REPORT_SPEC: i32 = 3;
/// The options of a mirror: dbss_mirror_options_set().
pub const DBSS_OPTIONS_MIRROR: i32 = 4;
/// The values of the changes of a schedule: dbss_schedule_changes_set().
pub const DBSS_OPTIONS_SCHEDULE: i32 = 5;

fn option(set: i32, index: usize) -> Option<(OptionSet, &'static OptionRow)> {
    let set = OptionSet::from_value(set)?;
    set.options().nth(index).map(|row| (set, row))
}

fn text(
    set: i32,
    index: usize,
    field: impl FnOnce(OptionSet, &'static OptionRow) -> Option<&'static CStr>,
) -> *const c_char {
    let text = option(set, index).and_then(|(set, row)| field(set, row));
    text.map_or(ptr::null(), CStr::as_ptr)
}

/// The number of options in a set. 0 for a set that the loaded library does not
/// know.
///
/// @param set one of DBSS_OPTIONS_.
/// @return count.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_count(set: i32) -> usize {
    OptionSet::from_value(set).map_or(0, |set| set.options().count())
}

/// The key of an option.
///
/// @param set one of DBSS_OPTIONS_.
/// @param index index of dbss_option_count.
/// @return static, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_key(set: i32, index: usize) -> *const c_char {
    text(set, index, |_, row| Some(row.key))
}

/// The type of an option: "text", "id", "url", "secret", "path",
/// "milliseconds", "bytes", "boolean", "number", "mode", "day" or "choice".
/// Newer versions may add types. A "secret" must not appear on a command line
/// or in a log.
///
/// @param set one of DBSS_OPTIONS_.
/// @param index index of dbss_option_count.
/// @return static, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_type(set: i32, index: usize) -> *const c_char {
    text(set, index, |_, row| Some(row.kind.name()))
}

/// The default of an option, as text. The options of an operation have none,
/// because they default to the context's.
///
/// @param set one of DBSS_OPTIONS_.
/// @param index index of dbss_option_count.
/// @return static, nullable. NULL if the option is unset by default, and past
///   the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_default(set: i32, index: usize) -> *const c_char {
    text(set, index, |set, row| row.default(set))
}

/// A description of an option, in a sentence or two. The other getters return
/// its type, default and range.
///
/// @param set one of DBSS_OPTIONS_.
/// @param index index of dbss_option_count.
/// @return static, nullable. NULL past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_help(set: i32, index: usize) -> *const c_char {
    text(set, index, |_, row| Some(row.help))
}

/// The values of an option of the type "choice", separated by commas, such as
/// "en-us,zh-cn".
///
/// @param set one of DBSS_OPTIONS_.
/// @param index index of dbss_option_count.
/// @return static, nullable. NULL for other types, and past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_choices(set: i32, index: usize) -> *const c_char {
    text(set, index, |_, row| row.choices)
}

/// The minimum of an option of the type "number", "milliseconds", "bytes" or
/// "mode" (384 for the octal 600), or the minimum length of a text in bytes.
///
/// @param set one of DBSS_OPTIONS_.
/// @param index index of dbss_option_count.
/// @return none -1. -1 if there is none, and past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_minimum(set: i32, index: usize) -> i64 {
    option(set, index).map_or(-1, |(_, row)| row.minimum)
}

/// The maximum of an option, or the maximum length of a text, as for
/// dbss_option_minimum().
///
/// @param set one of DBSS_OPTIONS_.
/// @param index index of dbss_option_count.
/// @return none -1. -1 if there is none, and past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_maximum(set: i32, index: usize) -> i64 {
    option(set, index).map_or(-1, |(_, row)| row.maximum)
}

/// Whether an option also accepts "-1", which means no limit.
///
/// @param set one of DBSS_OPTIONS_.
/// @param index index of dbss_option_count.
/// @return boolean. 0 past the last one.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_option_allows_none(set: i32, index: usize) -> i32 {
    option(set, index).is_some_and(|(_, row)| row.allows_none).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_sets_have_options() {
        let sets = [
            (DBSS_OPTIONS_CONFIG, OptionSet::Config),
            (DBSS_OPTIONS_OPERATION, OptionSet::Operation),
            (DBSS_OPTIONS_REPORT_SPEC, OptionSet::ReportSpec),
            (DBSS_OPTIONS_MIRROR, OptionSet::Mirror),
            (DBSS_OPTIONS_SCHEDULE, OptionSet::Schedule),
        ];
        assert_eq!(sets.len(), OptionSet::ALL.len());
        for (value, set) in sets {
            assert_eq!(OptionSet::from_value(value), Some(set));
            let count = dbss_option_count(value);
            assert!(count > 0);
            assert!((0..count).all(|i| !dbss_option_key(value, i).is_null()));
            assert!(dbss_option_key(value, count).is_null());
        }
        for value in [-1, 0, 6] {
            assert_eq!(dbss_option_count(value), 0);
            assert!(dbss_option_key(value, 0).is_null());
            assert_eq!(dbss_option_minimum(value, 0), -1);
        }
    }
}
