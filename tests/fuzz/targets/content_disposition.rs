//! A name that a server chose is the name of one visible file, whatever it is.
#![no_main]

use std::path::{Component, Path};

use dbss::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let value = String::from_utf8_lossy(value);
    let names = [fuzzing::content_disposition(&value), fuzzing::file_name(&value)];
    for name in names.into_iter().flatten() {
        let mut components = Path::new(&name).components();
        assert!(
            matches!(components.next(), Some(Component::Normal(only)) if only == name.as_str()),
            "{name:?} is no name of a file"
        );
        assert_eq!(components.next(), None, "{name:?} leads elsewhere");
        assert!(name.len() <= 255, "{} bytes", name.len());
        assert!(!name.starts_with(['.', ' ']), "{name:?} is hidden");
        assert!(
            !name.ends_with(['.', ' ']),
            "{name:?} ends in what some systems drop"
        );
        assert_eq!(name.trim(), name, "{name:?} has space around it");
        let wrong = |c: char| {
            c.is_control()
                || r#"/\<>:"|?*"#.contains(c)
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fffd}')
        };
        assert!(!name.chars().any(wrong), "{name:?}");
        // Safe is safe: there is nothing left to change.
        assert_eq!(fuzzing::file_name(&name).as_ref(), Some(&name));
    }
});
