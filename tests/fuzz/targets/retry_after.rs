//! A wait that a server asks for is the one that stands there, and no longer
//! than the caller allows.
#![no_main]

use std::time::Duration;

use dbss::fuzzing;
use libfuzzer_sys::fuzz_target;

/// The server's clock in the headers that are tried: 2026-11-24.
const NOW: u64 = 1_795_478_400;
/// The last second of the last year that a date has room for.
const LAST: u64 = 253_402_300_799;

fuzz_target!(|input: &[u8]| {
    let Some((longest, value)) = input.split_first() else {
        return;
    };
    let longest = Duration::from_secs(u64::from(*longest));
    let value = String::from_utf8_lossy(value);
    let value = value.trim();
    let (asked, pause) = fuzzing::retry_after(value, Duration::from_secs(NOW), longest);
    match asked {
        None => assert!(value.parse::<u64>().is_err(), "{value} was not understood"),
        Some(asked) => match value.parse::<u64>() {
            Ok(seconds) => assert_eq!(asked, Duration::from_secs(seconds)),
            Err(_) => assert!(asked <= Duration::from_secs(LAST - NOW), "{value}: {asked:?}"),
        },
    }
    match (asked, pause) {
        (Some(asked), Some(pause)) => assert_eq!(asked, pause, "a wait other than the one asked for"),
        (Some(asked), None) => assert!(asked > longest, "{asked:?} were not waited"),
        (None, pause) => assert!(pause.is_some(), "no attempt though nothing was asked for"),
    }
    assert!(
        pause.is_none_or(|pause| pause <= longest || asked.is_none()),
        "{value}: {pause:?}"
    );
});
