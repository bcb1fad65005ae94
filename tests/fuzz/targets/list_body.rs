//! A page of a list holds the items of the body, all of them and no others,
//! with their texts as they stand there.
#![no_main]

use dbss::fuzzing::{self, ListKind};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else {
        return;
    };
    let (kind, wrapper) = match kind {
        b'i' => (ListKind::Instances, None),
        b't' => (ListKind::Templates, Some("template")),
        _ => (ListKind::Reports, Some("report")),
    };
    let document = serde_json::from_slice::<Value>(body).ok();
    let (total, items) = match fuzzing::list_body(kind, body) {
        Ok(page) => page,
        Err(why) => {
            assert!(!why.is_empty());
            return;
        }
    };
    // The library does not look at what it does not need, where the other may
    // find something wrong.
    let Some(document) = document else {
        return;
    };
    let there = ["items", "servers", "instances", "reports", "templates"]
        .iter()
        .find_map(|name| document.get(name)?.as_array());
    let there = there.expect("a list was read from a document without one");
    assert_eq!(items.len(), there.len());
    match document.get("total") {
        None | Some(Value::Null) => assert_eq!(total, None),
        Some(number) => assert_eq!(total, number.as_u64()),
    }
    for (item, there) in items.iter().zip(there) {
        let there = wrapper.map_or(Some(there), |name| there.get(name));
        let there = there.and_then(Value::as_object).expect("an item is an object");
        for (name, value) in there {
            let said = item(name);
            match value {
                Value::Null if name == "id" => {}
                Value::Null => assert_eq!(said, None),
                Value::String(text) => assert_eq!(said, Some(text.replace('\0', "\u{fffd}"))),
                Value::Bool(truth) => assert_eq!(said, Some(truth.to_string())),
                _ => assert!(said.is_some()),
            }
        }
        assert!(
            item("id").is_some_and(|id| !id.is_empty()),
            "an item without an id"
        );
    }
});
