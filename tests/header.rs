//! Checks that the committed files of `include` are those that `build.rs` generates, and
//! that incomplete comments are refused.

#[path = "../src/ffi/describe/mod.rs"]
#[allow(dead_code)]
mod describe;

use std::fs;
use std::path::Path;

use describe::{Description, Library, source};
use serde_json::{Value, json};

#[test]
fn committed_header_files_match_generated_files() {
    for name in ["dbss.h", "dbss.cdef.h", "dbss-abi.json"] {
        let read = |directory: &str| fs::read_to_string(Path::new(directory).join(name)).expect(name);
        let committed = read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../include"));
        let generated = read(env!("DBSS_GENERATED"));
        let line = committed
            .lines()
            .zip(generated.lines())
            .position(|(a, b)| a != b)
            .map_or("its end".to_owned(), |i| format!("line {}", i + 1));
        assert!(
            committed == generated,
            "include/{name} is stale from {line}: run make header"
        );
    }
}

/// A library of one handle, as small as the rules allow.
const SOURCE: &str = r#"
    /// How a call ended.
    pub type dbss_status = i32;
    /// Success.
    pub const DBSS_OK: dbss_status = 0;
    /// A wrong argument.
    pub const DBSS_ERR_ARGUMENT: dbss_status = 100;
    /// NULL.
    pub const DBSS_ERR_NULL_ARGUMENT: dbss_status = 101;
    /// Not UTF-8.
    pub const DBSS_ERR_INVALID_UTF8: dbss_status = 102;
    /// No memory.
    pub const DBSS_ERR_OUT_OF_MEMORY: dbss_status = 501;
    /// The group of 5xx.
    pub const DBSS_ERR_RESOURCE: dbss_status = 500;
    /// The group of 6xx.
    pub const DBSS_ERR_CANCELLED: dbss_status = 600;
    /// A defect.
    pub const DBSS_ERR_INTERNAL: dbss_status = 700;
    /// A small cup.
    pub const DBSS_CUP_SMALL: i32 = 1;
    /// A large cup.
    pub const DBSS_CUP_LARGE: i32 = 2;

    /// A thing.
    ///
    /// @threads any.
    pub struct dbss_thing {
        inside: u8,
    }

    /// Asks whether to go on.
    ///
    /// @param thing borrowed.
    /// @return nonzero CANCELLED.
    /// @runs in call.
    /// @calls any.
    pub type dbss_ask_fn =
        Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, thing: *const dbss_thing) -> i32>;

    /// Makes a thing. It is
    /// new.
    ///
    /// @param name required. What it is called,
    ///   in words.
    /// @param out_thing required.
    /// @errors ARGUMENT (no
    /// such name, or none); CANCELLED*
    /// @blocks files.
    pub unsafe extern "C" fn dbss_thing_new(name: *const c_char, out_thing: *mut *mut dbss_thing) -> dbss_status {}

    /// Asks about each cup.
    ///
    /// @param thing required.
    /// @param cup one of DBSS_CUP_.
    /// @param ask optional.
    /// @errors as dbss_thing_new
    pub unsafe extern "C" fn dbss_thing_ask(
        thing: *mut dbss_thing,
        cup: i32,
        ask: dbss_ask_fn,
        user_data: *mut c_void,
        destroy: dbss_destroy_fn,
    ) -> dbss_status {}

    /// Its age.
    ///
    /// @return unit ms, none -1. Of this life.
    pub unsafe extern "C" fn dbss_thing_age(thing: *const dbss_thing) -> i64 {}

    /// Its name.
    ///
    /// @return borrowed, nullable.
    pub unsafe extern "C" fn dbss_thing_name(thing: *const dbss_thing) -> *const c_char {}

    /// Ends it.
    pub unsafe extern "C" fn dbss_thing_free(thing: *mut dbss_thing) {}

    /// Called in the end.
    ///
    /// @runs at release.
    /// @calls any.
    pub type dbss_destroy_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;
"#;

fn described(source: &str) -> Result<Value, String> {
    let tables = json!({"options": {}, "items": {}});
    let library = Library {
        version: "0.2.0".to_owned(),
        soname: "libthing.so.0".to_owned(),
        tables: tables.as_object().cloned().unwrap_or_default(),
        last: json!({"functions": [{"name": "dbss_thing_new", "since": "0.1.0"}]}),
    };
    let declared = source::read("1. All", source)?;
    let text = Description::new(&library, &declared).json()?;
    Ok(serde_json::from_str(&text).expect("JSON"))
}

fn function<'a>(description: &'a Value, name: &str) -> &'a Value {
    let functions = description["functions"].as_array().expect("functions");
    functions.iter().find(|one| one["name"] == name).expect(name)
}

#[test]
fn tags_are_described_as_fields() {
    let all = described(SOURCE).expect("nothing is forgotten");
    let new = function(&all, "dbss_thing_new");
    assert_eq!(new["summary"], "Makes a thing.");
    assert_eq!(new["doc"], "Makes a thing. It is\nnew.");
    assert_eq!(new["blocks"], "files");
    assert_eq!(new["parameters"][0]["doc"], "What it is called, in words.");
    let free = json!({"kind": "owned", "free": "dbss_thing_free"});
    assert_eq!(new["parameters"][1]["ownership"], free);
    let statuses = [
        "DBSS_ERR_ARGUMENT",
        "DBSS_ERR_NULL_ARGUMENT",
        "DBSS_ERR_INVALID_UTF8",
        "DBSS_ERR_OUT_OF_MEMORY",
        "DBSS_ERR_CANCELLED",
        "DBSS_ERR_INTERNAL",
    ];
    assert_eq!(new["statuses"], json!(statuses));
    let ask = function(&all, "dbss_thing_ask");
    assert_eq!(ask["statuses"], json!(statuses));
    assert_eq!(ask["blocks"], "never");
    assert_eq!(
        ask["parameters"][1]["constants"],
        json!(["DBSS_CUP_SMALL", "DBSS_CUP_LARGE"])
    );
    assert_eq!(ask["callbacks"][0]["lifetime"], "until_destroy");
    let age = &function(&all, "dbss_thing_age")["returns"];
    assert_eq!(
        (&age["unit"], &age["none"], &age["for_null"]),
        (&json!("ms"), &json!(-1), &json!(-1))
    );
    assert_eq!(all["callbacks"][0]["returns"]["nonzero"], "DBSS_ERR_CANCELLED");
}

#[test]
fn new_items_get_current_version_and_others_keep_theirs() {
    let all = described(SOURCE).expect("nothing is forgotten");
    assert_eq!(function(&all, "dbss_thing_new")["since"], "0.1.0");
    assert_eq!(function(&all, "dbss_thing_age")["since"], "0.2.0");
}

#[test]
fn incomplete_comments_are_refused() {
    let wrong = [
        ("/// A thing.\n    ///\n", "", "dbss_thing: has no comment"),
        ("/// @threads any.", "///", "dbss_thing: has no @threads"),
        (
            "@param name required.",
            "@param name secret.",
            "dbss_thing_new: @param name: is it required or optional?",
        ),
        (
            "@param name required.",
            "@param name needed.",
            "dbss_thing_new: @param name: `needed` is not one of its words",
        ),
        (
            "@param name required.",
            "@param title required.",
            "dbss_thing_new: has no parameter `title`",
        ),
        (
            "@param out_thing required.",
            "@param name required.",
            "dbss_thing_new: has two @param for `name`",
        ),
        (
            "@param cup one of DBSS_CUP_.",
            "@param cup one of DBSS_MUG_.",
            "dbss_thing_ask: @param cup: no constants begin with DBSS_MUG_",
        ),
        (
            "@param cup one of DBSS_CUP_.",
            "@param cup required.",
            "dbss_thing_ask: @param cup: has a word on NULL, but is not a pointer of a function that can fail",
        ),
        (
            "@param ask optional.",
            "",
            "dbss_thing_ask: has no @param for `ask`",
        ),
        (
            "as dbss_thing_new",
            "as dbss_thing_free",
            "dbss_thing_ask: refers to dbss_thing_free, which is declared after it",
        ),
        (
            "such name, or none); CANCELLED*",
            "such name); TIRED",
            "dbss_thing_new: there is no status TIRED",
        ),
        (
            "@blocks files.",
            "@blocks sometimes.",
            "dbss_thing_new: @blocks: `sometimes` is not one of its words",
        ),
        (
            "@return unit ms, none -1. Of this life.",
            "",
            "dbss_thing_age: has no @return",
        ),
        (
            "unit ms, none -1.",
            "unit days.",
            "dbss_thing_age: @return: days is not a unit",
        ),
        (
            "@return borrowed, nullable.",
            "@return nullable.",
            "dbss_thing_name: @return: is it static, owned or borrowed?",
        ),
        (
            "@return borrowed, nullable.",
            "@returns borrowed.",
            "dbss_thing_name: has an unknown tag: @returns",
        ),
        (
            "fn dbss_thing_free",
            "fn dbss_thing_end",
            "dbss_thing: has no dbss_thing_free()",
        ),
        ("@runs in call.", "", "dbss_ask_fn: has no @runs"),
        (
            "@calls any.\n    pub type dbss_ask_fn",
            "\n    pub type dbss_ask_fn",
            "dbss_ask_fn: has no @calls",
        ),
        (
            "@param thing borrowed.",
            "",
            "dbss_ask_fn: has no @param for `thing`",
        ),
        ("@return nonzero CANCELLED.", "", "dbss_ask_fn: has no @return"),
    ];
    for (original, replacement, expected) in wrong {
        assert!(SOURCE.contains(original), "{original}");
        let error = described(&SOURCE.replacen(original, replacement, 1)).expect_err(expected);
        assert_eq!(error, expected);
    }
}
