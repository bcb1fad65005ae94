//! A URL that is taken leads to the host that another parser sees in it, and
//! nowhere else whatever is put behind it.
#![no_main]

use dbss::fuzzing;
use dbss_fuzz::{another_reading, check_error, host_and_port, is_loopback};
use libfuzzer_sys::fuzz_target;

fn proxy(text: &str) {
    let (host, port) = match fuzzing::proxy(text) {
        Ok(place) => place,
        Err(e) => return check_error(e.message()),
    };
    // Where browsers take a backslash for a slash.
    if text.contains('\\') {
        return;
    }
    let with_scheme = match text.split_once("://") {
        Some(_) => text.to_owned(),
        None => format!("http://{text}"),
    };
    let Some(seen) = another_reading(&with_scheme) else {
        return;
    };
    assert_eq!((dbss_fuzz::host(&host), port), host_and_port(&seen), "{text:?}");
}

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(3, '\n');
    let url = lines.next().unwrap_or_default();
    let (segment, value) = (lines.next().unwrap_or("a"), lines.next().unwrap_or("b"));

    proxy(url);

    let place = match fuzzing::endpoint(url, &["v1", segment], &[("local", value)]) {
        Ok(place) => place,
        Err(e) => {
            if let Some((_, password)) = url.split_once("hunter2") {
                assert!(password.is_empty() || !e.message().contains("hunter2"), "{e}");
            }
            return check_error(e.message());
        }
    };
    let Some(seen) = another_reading(url) else {
        return;
    };
    assert_eq!(place.is_https, seen.scheme() == "https");
    assert!(matches!(seen.scheme(), "http" | "https"), "{url:?}");
    assert!(seen.username().is_empty() && seen.password().is_none(), "{url:?}");
    assert_eq!(place.is_loopback, is_loopback(&seen), "{url:?}");

    // The URL that is asked for, by the parser that ureq has, and by the other.
    let built = place.url.to_string();
    let again = another_reading(&built).expect("it was read before");
    assert_eq!(
        host_and_port(&again),
        host_and_port(&seen),
        "{url:?} and {built:?}"
    );
    assert_eq!(again.scheme(), seen.scheme());
    assert_eq!(again.fragment(), None);
    let last = again.query_pairs().collect::<Vec<_>>();
    assert_eq!(last, [("local".into(), value.into())], "{built:?}");
    let base = seen
        .path_segments()
        .into_iter()
        .flatten()
        .filter(|s| !s.is_empty())
        .count();
    // A "." is no name, and ids may not be one.
    if !matches!(segment, "." | "..") {
        assert_eq!(
            again.path_segments().map_or(0, Iterator::count),
            base + 2,
            "{built:?}"
        );
    }

    let once_more = fuzzing::endpoint(&place.origin, &[], &[]).expect("an origin is an endpoint");
    assert_eq!(once_more.origin, place.origin);
    assert_eq!(
        (once_more.is_https, once_more.is_loopback),
        (place.is_https, place.is_loopback)
    );
});
