//! Generates the header in the order of `SECTIONS`, its declarations without a
//! preprocessor, and its description. Also sets the name of the shared library.

use std::collections::HashMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/ffi/describe/mod.rs"]
mod describe;
#[path = "src/tables/mod.rs"]
#[allow(dead_code, unused_imports)]
mod tables;

use describe::source::{self, Declared, Kind};
use describe::tags::Doc;
use describe::{Description, Library, header};
use serde_json::{Map, Value, json};

/// The name of the shared library for the loader. The version of the ABI is 0 until the
/// first stable release.
const SONAME: &str = "libdbss.so.0";

/// The sections of the header: a title, and the files of `src/ffi` in it.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "1. Version, features, statuses, options",
        &["version.rs", "status.rs", "options.rs"],
    ),
    ("2. Errors", &["error.rs"]),
    (
        "3. Configuration",
        &["callback.rs", "config.rs", "log.rs", "token.rs"],
    ),
    ("4. Context", &["context.rs", "credentials.rs"]),
    (
        "5. Download: memory, file, directory, descriptor, callback",
        &["buffer.rs", "report.rs"],
    ),
    ("6. Streaming, pulled by the caller", &["format.rs", "stream.rs"]),
    (
        "7. Operation: options, progress, cancel and result of one call",
        &["operation.rs"],
    ),
    (
        "8. Instances, reports, templates and databases",
        &["page.rs", "manage.rs", "schedule.rs"],
    ),
    ("9. Mirror: a local archive of reports", &["mirror.rs"]),
];

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = package
        .ancestors()
        .nth(2)
        .expect("src/ffi is two below")
        .to_owned();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for input in ["build.rs", "cbindgen.toml", "src/ffi", "src/tables", "include"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }

    // Generated in the output directory; a test compares the committed files with them.
    // `make header` also writes them to the source tree.
    println!("cargo::rustc-env=DBSS_GENERATED={}", out.display());
    println!("cargo::rerun-if-env-changed=DBSS_WRITE_HEADER");
    let write = env::var_os("DBSS_WRITE_HEADER").is_some();
    let generated = generate(&root).unwrap_or_else(|e| {
        println!("cargo::error=src/ffi: {e}");
        std::process::exit(1);
    });
    for (name, text) in generated {
        fs::write(out.join(name), &text).expect("the output directory is writable");
        if write {
            fs::write(root.join("include").join(name), &text).expect("include/ is writable");
        }
    }

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
        // A thread for a name look-up may still run after a dlclose.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

/// Generates the files of `include`, by their names.
fn generate(root: &Path) -> Result<[(&'static str, String); 3], String> {
    let ffi = root.join("src/ffi");
    let mut declared = Vec::new();
    let mut declarations = HashMap::new();
    for (title, files) in SECTIONS {
        for file in *files {
            declarations.extend(c_declarations(root, &ffi.join(file)));
            let source = fs::read_to_string(ffi.join(file)).expect("a source of the header");
            for one in source::read(title, &source).map_err(|e| format!("{file}: {e}"))? {
                let is_status = one.name == "dbss_status";
                declared.push(one);
                if is_status {
                    declared.extend(statuses(title));
                }
            }
        }
    }
    let previous = fs::read_to_string(root.join("include/dbss-abi.json")).unwrap_or_default();
    let library = Library {
        version: env::var("CARGO_PKG_VERSION").expect("cargo sets it"),
        soname: SONAME.to_owned(),
        tables: tables(),
        last: serde_json::from_str(&previous).unwrap_or_default(),
    };
    for one in &mut declared {
        one.doc.replace(|line| {
            let (table, name) = line.strip_prefix('{')?.strip_suffix('}')?.split_once(' ')?;
            let table = match table {
                "OPTIONS" => "options",
                "FIELDS" => "items",
                _ => return None,
            };
            header::list(&library.tables[table][name])
        });
    }
    let description = Description::new(&library, &declared).json()?;
    let opening = fs::read_to_string(ffi.join("opening.h")).expect("the opening of the header");
    let opening = opening.replace("@VERSION@", &version_macros());
    Ok([
        ("dbss.h", header::header(&opening, &declared, &declarations)),
        ("dbss.cdef.h", header::cdef(&library.version, &declared)),
        ("dbss-abi.json", description),
    ])
}

/// Returns cbindgen's declarations of a source file by their names, without their
/// comments, which the header takes from the source.
fn c_declarations(root: &Path, file: &Path) -> HashMap<String, String> {
    let bindings = cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_root_or_default(root))
        .with_src(file)
        .generate()
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).expect("the sources are UTF-8");
    text.split("\n/**\n")
        .filter_map(|item| item.split_once(" */\n"))
        .filter_map(|(_, item)| Some((declared_name(item)?.to_owned(), item.trim_end().to_owned())))
        .collect()
}

/// Returns the name that a declaration declares.
fn declared_name(declaration: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let declaration = declaration.trim_end().trim_end_matches(';');
    let head = match (declaration.split_once("(*"), declaration.strip_prefix("typedef ")) {
        (Some((_, callback)), _) => return callback.split(|c| !is_name(c)).next(),
        (None, Some(of_type)) => of_type,
        (None, None) => declaration.split_once('(')?.0,
    };
    head.rsplit(|c| !is_name(c)).next()
}

/// Returns the constants of the table of statuses.
fn statuses(section: &'static str) -> impl Iterator<Item = Declared> {
    tables::STATUSES.iter().map(move |row| Declared {
        name: text(row.name),
        section,
        doc: Doc::new(&header::wrapped(row.doc, "")),
        kind: Kind::Constant(row.value.into()),
    })
}

/// Returns the other tables in the format of the description.
fn tables() -> Map<String, Value> {
    let mut options = Map::new();
    for set in tables::OptionSet::ALL {
        let bound = |value: i64| (value >= 0).then_some(value);
        let rows = set.options().map(|row| {
            json!({
                "key": row.key(),
                "type": text(row.kind.name()),
                "default": row.default(*set).map(text),
                "minimum": bound(row.minimum),
                "maximum": bound(row.maximum),
                "allows_none": row.allows_none,
                "choices": row.choices.map(|_| row.choices().collect::<Vec<_>>()),
                "required": row.required,
                "range": row.range(),
                "status": row.status.name(),
                "help": text(row.help),
            })
        });
        options.insert(set.name().to_owned(), rows.collect());
    }
    let features = tables::FEATURES
        .iter()
        .map(|row| json!({"name": text(row.name), "help": text(row.help)}));
    let counts = tables::COUNTS
        .iter()
        .map(|row| json!({"name": row.name, "help": row.help}));
    let mut items = Map::new();
    for row in tables::FIELDS {
        let fields = items.entry(row.item).or_insert_with(|| json!([]));
        let mut field = json!({
            "name": row.name,
            "type": row.kind.name(),
            "values": row.values,
            "help": row.help,
        });
        if !row.aliases.is_empty() {
            field["aliases"] = json!(row.aliases);
        }
        fields.as_array_mut().expect("a list of fields").push(field);
    }
    let mut all = Map::new();
    all.insert("options".to_owned(), options.into());
    all.insert("features".to_owned(), features.collect());
    all.insert("counts".to_owned(), counts.collect());
    all.insert("items".to_owned(), items.into());
    all
}

fn text(text: &CStr) -> String {
    text.to_str().expect("the tables are text").to_owned()
}

fn version_macros() -> String {
    let part = |name: &str| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("cargo sets it");
    let (major, minor, patch) = (part("MAJOR"), part("MINOR"), part("PATCH"));
    format!(
        "/** The version of this header; dbss_version() returns that of the library. */\n\
         #define DBSS_VERSION \"{major}.{minor}.{patch}\"\n\
         /** The first part of the version. */\n\
         #define DBSS_VERSION_MAJOR {major}\n\
         /** The second part of the version. */\n\
         #define DBSS_VERSION_MINOR {minor}\n\
         /** The third part of the version. */\n\
         #define DBSS_VERSION_PATCH {patch}\n\
         /** The version as a number, for comparison in preprocessor lines. */\n\
         #define DBSS_VERSION_NUMBER \\\n    \
         (DBSS_VERSION_MAJOR * 10000 + DBSS_VERSION_MINOR * 100 + DBSS_VERSION_PATCH)\n\
         \n\
         /** The name of the shared library on Linux, for dlopen(). */\n\
         #define DBSS_SONAME \"{SONAME}\""
    )
}
