//! Generates the C declarations. Those of the header come from cbindgen.

use std::collections::HashMap;

use serde_json::Value;

use super::source::{CType, Declared, Function, Kind};

/// Generates the header: the opening, in which `@HANDLES@` is replaced by the names of
/// all handles, then each item with its comment under the banner of its section.
pub fn header(opening: &str, declared: &[Declared], declarations: &HashMap<String, String>) -> String {
    // Declared first, because a function may take a handle of a later section.
    let handles = declared.iter().filter(|one| matches!(one.kind, Kind::Handle));
    let handles: Vec<String> = handles.map(plain_declaration).collect();
    let mut text = opening.replace("@HANDLES@", &handles.join("\n"));
    let mut section = "";
    for one in declared {
        if one.section != section {
            section = one.section;
            let rule = "=".repeat(76);
            text += &format!("\n/* {rule}\n * {section}\n * {rule} */\n");
        }
        text.push('\n');
        text += &comment("", &one.doc.lines);
        text += &declaration(one, declarations);
        text.push('\n');
    }
    text + "\n#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n#endif /* DBSS_H */\n"
}

/// Generates only the declarations, without a preprocessor: each type before its uses,
/// and constants as enumerations.
pub fn cdef(version: &str, declared: &[Declared]) -> String {
    let rank = |one: &&Declared| match one.kind {
        Kind::Constant(_) => 0,
        Kind::Alias(_) => 1,
        Kind::Handle => 2,
        Kind::Struct(_) => 3,
        Kind::Callback(_) => 4,
        Kind::Function(_) => 5,
    };
    let mut sorted: Vec<&Declared> = declared.iter().collect();
    sorted.sort_by_key(rank);
    let mut text = format!(
        "/* The declarations of dbss.h of libdbss {version}, without lines for the\n * \
         preprocessor, for cffi, LuaJIT, PHP FFI and the like. Generated; do not edit. */\n"
    );
    let mut last = None;
    for one in sorted {
        if last.replace(rank(&one)) != Some(rank(&one)) {
            text.push('\n');
        }
        text += &plain_declaration(one);
        text.push('\n');
    }
    text
}

fn comment(indent: &str, lines: &[String]) -> String {
    let lines = lines
        .iter()
        .map(|line| format!("{indent} * {line}").trim_end().to_owned() + "\n");
    format!("{indent}/**\n{}{indent} */\n", lines.collect::<String>())
}

/// Returns the declaration for the header.
fn declaration(one: &Declared, declarations: &HashMap<String, String>) -> String {
    let of = |name: &str| {
        let made = declarations.get(name);
        made.unwrap_or_else(|| panic!("cbindgen made no declaration of {name}"))
    };
    match &one.kind {
        // In C99 a name can be declared only once.
        Kind::Handle => format!("struct {};", one.name),
        Kind::Function(function) if function.returns.is("dbss_status", 0) => {
            of(&one.name).replacen("DBSS_API", "DBSS_API DBSS_WARN_UNUSED", 1)
        }
        // cbindgen does not see the constants of the table.
        Kind::Constant(value) => format!("#define {} {value}", one.name),
        // With a tag, so that C code can use the name without the typedef.
        Kind::Struct(_) => {
            of(&one.name).replacen("typedef struct {", &format!("typedef struct {} {{", one.name), 1)
        }
        _ => of(&one.name).to_owned(),
    }
}

/// Returns a declaration on one line, without a preprocessor.
fn plain_declaration(one: &Declared) -> String {
    let name = &one.name;
    match &one.kind {
        Kind::Constant(value) => format!("enum {{ {name} = {value} }};"),
        Kind::Alias(c_type) => format!("typedef {};", with_name(c_type, name)),
        Kind::Handle => format!("typedef struct {name} {name};"),
        Kind::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|field| with_name(&field.c_type, &field.name) + "; ");
            format!(
                "typedef struct {name} {{ {}}} {name};",
                fields.collect::<String>()
            )
        }
        Kind::Callback(function) => format!("typedef {};", signature(function, &format!("(*{name})"))),
        Kind::Function(function) => format!("{};", signature(function, name)),
    }
}

fn with_name(c_type: &CType, name: &str) -> String {
    let c_type = c_type.to_string();
    let space = if c_type.ends_with('*') { "" } else { " " };
    format!("{c_type}{space}{name}")
}

fn signature(function: &Function, name: &str) -> String {
    let parameters = function.parameters.iter();
    let parameters: Vec<String> = parameters.map(|one| with_name(&one.c_type, &one.name)).collect();
    let parameters = if parameters.is_empty() {
        "void".to_owned()
    } else {
        parameters.join(", ")
    };
    with_name(&function.returns, &format!("{name}({parameters})"))
}

/// Formats the rows of a table as the lines of a list.
pub fn list(rows: &Value) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    for row in rows.as_array()? {
        let text = |key: &str| row[key].as_str();
        let name = text("key").or(text("name"))?;
        let values = row["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        let mut form = text("type")?.to_owned();
        if let Some(range) = text("range") {
            form += &format!(": {range}");
        } else if !values.is_empty() {
            form += &format!(": {}", values.join(", "));
        }
        if let Some(default) = text("default") {
            form += &format!("; default {default}");
        }
        if row["required"] == true {
            form += "; required";
        }
        let line = format!("- \"{name}\" ({form}): {}", text("help")?);
        lines.extend(wrapped(&line, "  "));
    }
    Some(lines)
}

/// Wraps text to comment lines, and indents those after the first.
pub fn wrapped(text: &str, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > 76 {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines
}
