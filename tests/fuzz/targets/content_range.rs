//! A part that is taken lies within the whole, and is the one that stands there.
#![no_main]

use dbss::fuzzing;
use libfuzzer_sys::fuzz_target;

/// The value without its spaces, its unit in lower case.
fn bare(value: &str) -> String {
    let value: String = value.split_whitespace().collect();
    value.to_ascii_lowercase()
}

/// A number as somebody may have written it, with zeros before it.
fn is_number(text: &str, number: u64) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
        && text.trim_start_matches('0') == number.to_string().trim_start_matches('0')
}

fuzz_target!(|value: &[u8]| {
    let value = String::from_utf8_lossy(value);
    if let Some((first, last, total)) = fuzzing::content_range(&value) {
        assert!(first <= last, "{value}");
        assert!(total.is_none_or(|total| last < total), "{value}");
        let bare = bare(&value);
        let rest = bare.strip_prefix("bytes").expect("no other unit is taken");
        let (range, whole) = rest.split_once('/').expect("a slash");
        let (from, to) = range.split_once('-').expect("a hyphen");
        assert!(is_number(from, first) && is_number(to, last), "{value}");
        match total {
            Some(total) => assert!(is_number(whole, total), "{value}"),
            None => assert_eq!(whole, "*"),
        }
        assert_eq!(fuzzing::unsatisfied_range(&value), None, "{value}");
    }
    if let Some(total) = fuzzing::unsatisfied_range(&value) {
        let bare = bare(&value);
        let whole = bare.strip_prefix("bytes*/").expect("no other form is taken");
        assert!(is_number(whole, total), "{value}");
    }
    if fuzzing::is_strong_etag(&value) {
        assert!(
            value.len() > 2 && value.starts_with('"') && value.ends_with('"'),
            "{value}"
        );
        assert!(!value.contains(char::is_whitespace), "{value}");
        assert_eq!(value.matches('"').count(), 2, "{value}");
    }
});
