//! A redirect that is followed leads where another parser says, never out of
//! https, and credentials go with it only to the same scheme, host and port.
#![no_main]

use dbss::fuzzing;
use dbss_fuzz::{another_reading, host_and_port, is_loopback};
use libfuzzer_sys::fuzz_target;
use url::Url;

const FROM: [&str; 2] = [
    "https://dbss.example.com/v1/p/audit/i/reports/r/download?local=en-us",
    "http://127.0.0.1:8080/v1/p/audit/i/reports/r/download",
];

fuzz_target!(|location: &[u8]| {
    for from in FROM {
        let Some((to, stays)) = fuzzing::redirect(&from.parse().expect("a URL"), location) else {
            continue;
        };
        let base = Url::parse(from).expect("a URL");
        // Others read what is not UTF-8 in another way.
        let Ok(text) = std::str::from_utf8(location) else {
            continue;
        };
        let Some(to_seen) = another_reading(&to.to_string()) else {
            continue;
        };
        let same = host_and_port(&to_seen) == host_and_port(&base) && to_seen.scheme() == base.scheme();
        assert!(same || !stays, "credentials would go from {base} to {to_seen}");
        match to_seen.scheme() {
            "https" => {}
            "http" => assert!(base.scheme() == "http" && is_loopback(&to_seen), "{to_seen}"),
            other => panic!("a redirect to {other}"),
        }
        assert!(
            to_seen.username().is_empty() && to_seen.password().is_none(),
            "{to_seen}"
        );
        // What browsers read in another way (a backslash, a tab) is never sent
        // to another host than the one that gave it.
        if text.contains(['\\', '\t', ' ']) {
            continue;
        }
        let seen = base
            .join(text)
            .unwrap_or_else(|e| panic!("{text:?} is taken as {to}: {e}"));
        assert_eq!(host_and_port(&to_seen), host_and_port(&seen), "{text:?}");
        assert_eq!(to_seen.scheme(), seen.scheme(), "{text:?}");
    }
});
