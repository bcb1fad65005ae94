//! What is understood of an error body is what stands there, and never shows
//! the token.
#![no_main]

use dbss::fuzzing;
use dbss_fuzz::TOKEN;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The fields that make an object an error.
const ERRORS: &[&str] = FIELDS.split_at(6).0;

/// All that is read of one.
const FIELDS: &[&str] = &[
    "error_code",
    "error_msg",
    "errorCode",
    "errorMsg",
    "code",
    "message",
    "title",
    "request_id",
    "encoded_authorization_message",
    "details",
    "error",
];

/// Every text of a document, escapes undone, and every number.
fn words(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| words(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| words(field, found)),
        _ => {}
    }
}

fuzz_target!(|body: &[u8]| {
    let said = fuzzing::error_body(body, TOKEN);
    let texts: Vec<&String> = [
        &said.code,
        &said.message,
        &said.request_id,
        &said.encoded_authorization_message,
    ]
    .into_iter()
    .chain(said.details.iter().flat_map(|d| [&d.code, &d.message]))
    .flatten()
    .collect();
    for text in &texts {
        assert!(!text.contains(TOKEN), "the token shows: {text}");
        assert!(!text.is_empty(), "a text that is empty counts as none");
        // U+FFFD has three bytes and may stand for one.
        assert!(text.len() <= 3 * body.len(), "a text longer than the body");
    }
    if said.is_error_object {
        assert!(said.code.is_some() || said.message.is_some());
    } else if let Some(message) = &said.message {
        assert!(message.len() <= 1024, "{} bytes of prose", message.len());
    }

    let text = String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).into_owned();
    let Ok(document) = serde_json::from_str::<Value>(&text) else {
        // The library does not look at what it does not need.
        assert!(text.trim_ascii_start().starts_with('{') || !said.is_error_object);
        return;
    };
    assert!(document.is_object() || !said.is_error_object);
    let is_text = |value: Option<&Value>| value.is_some_and(|v| v.as_str().is_some_and(|t| !t.is_empty()));
    // An object that names a field twice is none of the service's.
    let twice = |name: &&str| text.matches(&format!("\"{name}\"")).count() > 1;
    if document.is_object() && !said.is_error_object && !text.contains("\\u") && !FIELDS.iter().any(twice) {
        for name in ERRORS {
            assert!(!is_text(document.get(name)), "an error that was missed: {text}");
        }
    }
    if said.is_error_object {
        let mut there = Vec::new();
        words(&document, &mut there);
        for text in texts {
            let changed = text.contains("***") || text.parse::<f64>().is_ok();
            assert!(changed || there.contains(text), "{text:?} stands nowhere");
        }
    }
});
