//! The files of the official SDKs: what is taken from them stands in them, and
//! what is wrong with a profile is told without what stands there.
#![no_main]

use dbss::fuzzing;
use dbss_fuzz::check_error;
use libfuzzer_sys::fuzz_target;

/// Stands for keys in the corpus.
const SECRET: &str = "s3cr3t-0123456789";

fn profile(file: &[u8]) {
    let profile = match fuzzing::profile(file) {
        Ok(profile) => profile,
        Err(what) => {
            assert!(!what.contains(SECRET), "{what}");
            return check_error(&what);
        }
    };
    let text = std::str::from_utf8(file).expect("a profile is UTF-8");
    for key in [
        Some(&profile.access_key),
        Some(&profile.secret_key),
        profile.security_token.as_ref(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()),
            "{key:?}"
        );
        // It is what follows the first separator of a line.
        let whole = text.lines().any(|line| {
            let at = line.find(['=', ':']);
            at.is_some_and(|at| line[at + 1..].trim() == key)
        });
        assert!(whole, "{key:?} is no line's value");
    }
    for other in [profile.project_id, profile.iam_endpoint].into_iter().flatten() {
        assert!(
            !other.is_empty() && text.contains(other.lines().next().unwrap_or_default()),
            "{other:?}"
        );
    }
}

fn regions(file: &[u8]) {
    match fuzzing::regions(file, "cn-north-4") {
        Err(what) => check_error(&what),
        Ok(None) => {}
        Ok(Some(urls)) => {
            assert!(!urls.is_empty() && urls.len() <= file.len());
            let text = std::str::from_utf8(file).expect("a regions file is UTF-8");
            // Where nothing can be spelt in another way, or folded.
            let plain = |url: &&String| !text.contains(['\\', '"', '\'', '|', '>']) && !url.contains(' ');
            for url in urls.iter().filter(plain) {
                assert!(text.contains(url.as_str()), "{url:?} stands nowhere");
            }
            assert!(urls.iter().map(String::len).sum::<usize>() <= 4 * file.len());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    match input.strip_prefix(b"profile\n") {
        Some(file) => profile(file),
        None => regions(input.strip_prefix(b"regions\n").unwrap_or(input)),
    }
});
