//! Generates the header, section by section in the order in which a reader
//! should meet it, and names the shared library.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/tables/mod.rs"]
#[allow(dead_code, unused_imports)]
mod tables;

/// The name of the shared library to the loader: the version of the ABI is 0
/// until the first stable release.
const SONAME: &str = "libdbss.so.0";

/// The sections of the header: a title, and the files of `src/ffi` in it.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "1. Version, features, statuses",
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
    ("6. Streaming, pulled by the caller", &["stream.rs"]),
    (
        "7. Operation: options, progress, cancel and result of one call",
        &["operation.rs"],
    ),
    ("8. Instances, reports and templates", &["page.rs", "manage.rs"]),
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
    for input in [
        "build.rs",
        "cbindgen.toml",
        "src/ffi",
        "src/tables",
        "include/dbss.h",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }

    // Written here and compared with the committed one by a test; written to
    // the source tree only when asked, as `make header` does.
    let header = header(&root);
    let generated = out.join("dbss.h");
    fs::write(&generated, &header).expect("the output directory is writable");
    println!("cargo::rustc-env=DBSS_GENERATED_HEADER={}", generated.display());
    println!("cargo::rerun-if-env-changed=DBSS_WRITE_HEADER");
    if env::var_os("DBSS_WRITE_HEADER").is_some() {
        fs::write(root.join("include/dbss.h"), &header).expect("include/ is writable");
    }

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
        // A look-up thread that a caller left behind may outlive a dlclose.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

fn header(root: &Path) -> String {
    let ffi = root.join("src/ffi");
    let opening = fs::read_to_string(ffi.join("opening.h")).expect("the opening of the header");
    let mut header = String::new();
    for (title, files) in SECTIONS {
        let rule = "=".repeat(76);
        write!(header, "\n/* {rule}\n * {title}\n * {rule} */\n\n").expect("a string takes text");
        for file in *files {
            header += &section(root, &ffi.join(file));
        }
    }
    // A function may take a handle that a later section explains, so all are
    // named before the first; C99 lets a name be declared once only, so each
    // explanation stands at the bare structure.
    let mut handles = String::new();
    for line in header.clone().lines() {
        let name = line
            .strip_prefix("typedef struct ")
            .and_then(|rest| rest.split(' ').next());
        if let Some(name) = name.filter(|name| line == format!("typedef struct {name} {name};")) {
            writeln!(handles, "{line}").expect("a string takes text");
            header = header.replace(line, &format!("struct {name};"));
        }
    }
    let opening = opening
        .replace("@VERSION@", &version_macros())
        .replace("@HANDLES@", handles.trim_end());
    opening + &header + "\n#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n#endif /* DBSS_H */\n"
}

fn section(root: &Path, file: &Path) -> String {
    let config = cbindgen::Config::from_root_or_default(root);
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(file)
        .generate()
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).expect("the sources are UTF-8");
    // Doc comments begin with a space, and empty lines of them should not.
    let text = text.replace("@OPTIONS@", &option_list()).replace(
        "typedef int32_t dbss_status;\n",
        &format!("typedef int32_t dbss_status;\n{}", statuses()),
    );
    text.lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect::<String>()
        + "\n"
}

fn statuses() -> String {
    let mut list = String::new();
    for row in tables::STATUSES {
        let name = row.name.to_str().expect("names are text");
        list += &format!(
            "\n/**\n * {}\n */\n#define {name} {}\n",
            wrapped(row.doc, ""),
            row.value
        );
    }
    list
}

fn option_list() -> String {
    let mut list = String::new();
    let set = tables::OptionSet::Config;
    for option in set.options() {
        let text = |s: &std::ffi::CStr| s.to_str().expect("options are text").to_owned();
        let default = option.default(set).map_or("unset".to_owned(), text);
        let range = option.range().map_or(String::new(), |range| format!(" {range}."));
        let line = format!(
            "\"{}\" ({}, default {default}): {}{range}",
            option.key(),
            text(option.kind.name()),
            text(option.help)
        );
        list += &wrapped(&line, "   ");
        list += "\n * ";
    }
    list.trim_end_matches("\n * ").to_owned()
}

/// A paragraph of a comment, its lines after the first indented.
fn wrapped(text: &str, indent: &str) -> String {
    let mut wrapped = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        if width > 0 && width + 1 + word.len() > 76 {
            wrapped += "\n * ";
            wrapped += indent;
            width = indent.len();
        } else if width > 0 {
            wrapped.push(' ');
            width += 1;
        }
        wrapped += word;
        width += word.len();
    }
    wrapped
}

fn version_macros() -> String {
    let part = |name: &str| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("cargo sets it");
    let (major, minor, patch) = (part("MAJOR"), part("MINOR"), part("PATCH"));
    format!(
        "#define DBSS_VERSION_MAJOR {major}\n\
         #define DBSS_VERSION_MINOR {minor}\n\
         #define DBSS_VERSION_PATCH {patch}\n\
         #define DBSS_VERSION \"{major}.{minor}.{patch}\"\n\
         #define DBSS_VERSION_NUMBER \\\n    \
         (DBSS_VERSION_MAJOR * 10000 + DBSS_VERSION_MINOR * 100 + DBSS_VERSION_PATCH)\n\
         \n\
         /* The name of the shared library on Linux, for dlopen(). */\n\
         #define DBSS_SONAME \"{SONAME}\""
    )
}
