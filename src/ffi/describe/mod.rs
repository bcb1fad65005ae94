//! The ABI in C, and its description for programs that generate wrappers.
//!
//! The types come from the sources, the rest from the tags in their comments and from the
//! tables. tests/abi/README.md documents the tags.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

pub mod header;
pub mod source;
pub mod tags;

use source::{CType, Declared, Function, Kind, Parameter};
use tags::{Doc, Words};

/// The format of dbss-abi.json.
const FORMAT: u32 = 2;

const PARAMETER: &[&str] = &[
    "as *",
    "boolean",
    "bytes",
    "descriptor",
    "feature",
    "field",
    "flags *",
    "index of *",
    "items *",
    "none *",
    "one of *",
    "option of *",
    "optional",
    "range *",
    "required",
    "room *",
    "secret",
    "set on failure",
    "size *",
    "unit *",
];
const RESULT: &[&str] = &[
    "boolean",
    "borrowed",
    "borrowed until next call",
    "borrowed until next error",
    "bytes",
    "count",
    "for NULL *",
    "none *",
    "nullable",
    "number",
    "one of *",
    "owned",
    "secret",
    "static",
    "status",
    "unit *",
];
const UNITS: &[&str] = &["bytes", "ms", "percent", "unix-ms"];

type Result<T> = std::result::Result<T, String>;
type Object = Map<String, Value>;

/// The properties of the whole library.
pub struct Library {
    pub version: String,
    pub soname: String,
    /// The options, features and items of the tables, as in the description.
    pub tables: Object,
    /// The previous description. Its items keep their `since`.
    pub last: Value,
}

pub struct Description<'a> {
    library: &'a Library,
    declared: &'a [Declared],
    since: BTreeMap<String, String>,
}

fn is_status(name: &str) -> bool {
    name == "DBSS_OK" || name.starts_with("DBSS_ERR_")
}

/// Adds the name of an item to an error.
fn of<T>(item: &str, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        if e.starts_with("dbss_") {
            e
        } else {
            format!("{item}: {e}")
        }
    })
}

impl<'a> Description<'a> {
    pub fn new(library: &'a Library, declared: &'a [Declared]) -> Description<'a> {
        let tables = library.last.as_object().into_iter().flat_map(Map::values);
        let since = tables
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(|one| {
                Some((
                    one["name"].as_str()?.to_owned(),
                    one["since"].as_str()?.to_owned(),
                ))
            })
            .collect();
        Description {
            library,
            declared,
            since,
        }
    }

    /// Generates dbss-abi.json.
    pub fn json(&self) -> Result<String> {
        let mut number = 0;
        for part in self.library.version.split('.') {
            number = number * 100 + part.parse::<u32>().map_err(|e| e.to_string())?;
        }
        let mut whole = json!({
            "$schema": "dbss-abi.schema.json",
            "format": FORMAT,
            "library": "dbss",
            "version": self.library.version,
            "version_number": number,
            "soname": self.library.soname,
        });
        let tables = [
            "aliases",
            "statuses",
            "constants",
            "handles",
            "structs",
            "callbacks",
            "functions",
        ];
        for table in tables {
            let mut rows = Vec::new();
            for one in self.declared {
                let row = match &one.kind {
                    Kind::Alias(c_type) if table == "aliases" => Ok(json!({ "c_type": c_type.to_string() })),
                    Kind::Constant(value) if table == "statuses" && is_status(&one.name) => {
                        self.status(*value)
                    }
                    Kind::Constant(value) if table == "constants" && !is_status(&one.name) => {
                        Ok(json!({ "value": value }))
                    }
                    Kind::Handle if table == "handles" => self.handle(one),
                    Kind::Struct(fields) if table == "structs" => self.structure(one, fields),
                    Kind::Callback(function) if table == "callbacks" => self.callback(one, function),
                    Kind::Function(function) if table == "functions" => self.function(one, function),
                    _ => continue,
                };
                rows.push(self.with_head(one, of(&one.name, row)?));
            }
            whole[table] = rows.into();
        }
        for (name, table) in &self.library.tables {
            whole[name] = table.clone();
        }
        let mut text = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
        serde::Serialize::serialize(&whole, &mut writer).map_err(|e| e.to_string())?;
        text.push(b'\n');
        String::from_utf8(text).map_err(|e| e.to_string())
    }

    /// Adds the properties that every item has.
    fn with_head(&self, one: &Declared, rest: Value) -> Value {
        let since = self.since.get(&one.name).unwrap_or(&self.library.version);
        let mut all = json!({
            "name": one.name,
            "since": since,
            "section": one.section,
            "summary": one.doc.summary(),
            "doc": one.doc.prose,
        });
        for (key, value) in rest.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        all
    }

    fn find(&self, name: &str) -> Option<&'a Declared> {
        self.declared.iter().find(|one| one.name == name)
    }

    fn function_of(&self, name: &str) -> Result<(&'a Declared, &'a Function)> {
        match self.find(name) {
            Some(one) => match &one.kind {
                Kind::Function(function) => Ok((one, function)),
                _ => Err(format!("refers to {name}, which is not a function")),
            },
            None => Err(format!("refers to {name}, which does not exist")),
        }
    }

    /// Finds a function that a comment refers to. It must be declared before the item, so
    /// that references have no circles and readers know it already.
    fn earlier(&self, item: &Declared, name: &str) -> Result<(&'a Declared, &'a Function)> {
        let position = |name: &str| self.declared.iter().position(|one| one.name == name);
        let found = self.function_of(name)?;
        if position(name) >= position(&item.name) {
            return Err(format!("refers to {name}, which is declared after it"));
        }
        Ok(found)
    }

    fn constants(&self, prefix: &str) -> Result<Vec<&'a str>> {
        let of_prefix =
            |one: &&Declared| matches!(one.kind, Kind::Constant(_)) && one.name.starts_with(prefix);
        let names: Vec<&str> = self
            .declared
            .iter()
            .filter(of_prefix)
            .map(|one| one.name.as_str())
            .collect();
        if names.is_empty() || !prefix.ends_with('_') {
            return Err(format!("no constants begin with {prefix}"));
        }
        Ok(names)
    }

    fn status(&self, value: i64) -> Result<Value> {
        let group = |one: &&Declared| {
            is_status(&one.name) && matches!(one.kind, Kind::Constant(group) if group == value / 100 * 100)
        };
        let group = self.declared.iter().find(group).ok_or("has no group")?;
        Ok(json!({ "value": value, "group": group.name }))
    }

    /// Returns which threads may use a handle.
    fn threads(&self, handle: &Declared) -> Result<&'static str> {
        let known = ["any", "callback", "one call at a time"];
        let words = handle.doc.words("threads", &known)?.ok_or("has no @threads")?;
        let word = known.into_iter().find(|word| words.has(word));
        word.ok_or_else(|| "@threads says nothing".to_owned())
    }

    /// Returns the function that frees a handle or a structure. None for a handle that is
    /// only valid during a callback.
    fn free(&self, name: &str) -> Result<Option<String>> {
        let one = self.find(name).ok_or_else(|| format!("there is no {name}"))?;
        if matches!(one.kind, Kind::Handle) && of(name, self.threads(one))? == "callback" {
            return Ok(None);
        }
        let free = format!("{name}_free");
        of(
            name,
            self.function_of(&free).map_err(|_| format!("has no {free}()")),
        )?;
        Ok(Some(free))
    }

    fn handle(&self, one: &Declared) -> Result<Value> {
        one.doc.only(&["threads"])?;
        Ok(json!({ "free": self.free(&one.name)?, "threads": self.threads(one)?.replace(' ', "_") }))
    }

    fn structure(&self, one: &Declared, fields: &[Parameter]) -> Result<Value> {
        let mut described = Vec::new();
        for field in fields {
            let mut description = self.kind(field);
            description.insert("doc".to_owned(), field.doc.prose.clone().into());
            let words = field.doc.words("field", &["nullable", "size *"])?;
            if field.c_type.pointers > 0 && words.is_none() {
                return Err(format!("has no @field for `{}`", field.name));
            }
            if let Some(words) = words {
                description.insert("nullable".to_owned(), words.has("nullable").into());
                self.size(&words, "size", fields, &mut description)?;
            }
            described.push(description);
        }
        let layouts: Vec<Value> = [4, 8]
            .into_iter()
            .map(|pointer| layout(fields, pointer))
            .collect();
        Ok(json!({ "free": self.free(&one.name)?, "fields": described, "layouts": layouts }))
    }

    /// Describes the kind of a parameter, field or result.
    fn kind(&self, parameter: &Parameter) -> Object {
        let c_type = &parameter.c_type;
        let declared = self.find(&c_type.base).map(|one| &one.kind);
        let (kind, has_name) = match (declared, c_type.base.as_str(), c_type.pointers) {
            (Some(Kind::Callback(_)), ..) => ("callback", true),
            (Some(Kind::Handle), ..) => ("handle", true),
            (Some(Kind::Struct(_)), ..) => ("struct", true),
            (_, "dbss_status", _) => ("status", false),
            (_, "void", 0) => ("void", false),
            (_, "char", _) if c_type.is_const => ("string", false),
            (_, "void", _) if parameter.name == "user_data" => ("user_data", false),
            (_, "char" | "void" | "uint8_t", 1) => ("bytes", false),
            _ => ("integer", false),
        };
        let mut description = Object::new();
        if !parameter.name.is_empty() {
            description.insert("name".to_owned(), parameter.name.clone().into());
        }
        description.insert("c_type".to_owned(), c_type.to_string().into());
        description.insert("kind".to_owned(), kind.into());
        if has_name {
            description.insert("of".to_owned(), c_type.base.clone().into());
        }
        description
    }

    /// Adds the parameter or constant with the size of a buffer.
    fn size(
        &self,
        words: &Words,
        word: &str,
        parameters: &[Parameter],
        description: &mut Object,
    ) -> Result<()> {
        let Some(size) = words.get(word) else {
            return Ok(());
        };
        let constant = self
            .find(size)
            .is_some_and(|one| matches!(one.kind, Kind::Constant(_)));
        if !constant && !parameters.iter().any(|one| one.name == size) {
            return Err(format!("`{word} {size}`: there is no such parameter or constant"));
        }
        description.insert("size".to_owned(), size.into());
        Ok(())
    }

    /// Adds the words about the value of a parameter or a result.
    fn value(&self, words: &Words, description: &mut Object) -> Result<()> {
        let mut put = |key: &str, value: Value| description.insert(key.to_owned(), value);
        let number = |text: &str| text.parse::<i64>().map_err(|_| format!("{text} is not a number"));
        for word in ["one of", "flags"] {
            if let Some(prefix) = words.get(word) {
                put("constants", self.constants(prefix)?.into());
            }
        }
        for word in ["flags", "boolean", "secret", "descriptor"] {
            if words.has(word) {
                put(word, true.into());
            }
        }
        if let Some(unit) = words.get("unit") {
            if !UNITS.contains(&unit) {
                return Err(format!("{unit} is not a unit"));
            }
            put("unit", unit.into());
        }
        if words.has("count") {
            put("unit", "count".into());
        }
        if let Some(none) = words.get("none") {
            put("none", number(none)?.into());
        }
        if let Some(range) = words.get("range") {
            let (minimum, maximum) = range.split_once(" to ").ok_or("a range is `range MIN to MAX`")?;
            put("minimum", number(minimum)?.into());
            put("maximum", number(maximum)?.into());
        }
        if let Some(set) = words.get("option of") {
            if self.library.tables["options"].get(set).is_none() {
                return Err(format!("{set} is not a set of options"));
            }
            put("options", set.into());
        }
        if let Some(kind) = words.get("items") {
            if self.library.tables["items"].get(kind).is_none() {
                return Err(format!("there are no items of the kind {kind}"));
            }
            put("items", kind.into());
        }
        for word in ["feature", "field"] {
            if words.has(word) {
                put("names", word.into());
            }
        }
        if let Some(count) = words.get("index of") {
            self.function_of(count)?;
            put("count", count.into());
        }
        if !words.prose.is_empty() {
            put("doc", words.prose.clone().into());
        }
        Ok(())
    }

    /// Returns the words about a parameter, from the comment or the function that it
    /// refers to.
    fn parameter_words(&self, item: &Declared, name: &str, known: &[&'static str]) -> Result<Option<Words>> {
        let mut found = None;
        for tag in item.doc.tags("param") {
            let (names, text) = parameter_names(tag);
            if names.contains(&name) {
                let words = Words::new(text, known).map_err(|e| format!("@param {name}: {e}"))?;
                if found.replace(words).is_some() {
                    return Err(format!("has two @param for `{name}`"));
                }
            }
        }
        let Some(words) = found else { return Ok(None) };
        let Some(other) = words.get("as") else {
            return Ok(Some(words));
        };
        let (other, _) = self.earlier(item, other)?;
        let there = of(&other.name, self.parameter_words(other, name, known))?;
        there
            .map(Some)
            .ok_or_else(|| format!("has `{name}` as {}, which does not describe it", other.name))
    }

    /// Checks that every `@param` is about a parameter.
    fn check_parameters(&self, item: &Declared, function: &Function) -> Result<()> {
        for tag in item.doc.tags("param") {
            for name in parameter_names(tag).0 {
                if !function.parameters.iter().any(|one| one.name == name) {
                    return Err(format!("has no parameter `{name}`"));
                }
            }
        }
        Ok(())
    }

    fn callback(&self, item: &Declared, function: &Function) -> Result<Value> {
        item.doc.only(&["calls", "param", "return", "runs"])?;
        self.check_parameters(item, function)?;
        let runs = item
            .doc
            .words("runs", &["at release", "concurrently", "in call"])?
            .ok_or("has no @runs")?;
        let calls = ["any", "any without token", "getters"];
        let stated = item.doc.words("calls", &calls)?.ok_or("has no @calls")?;
        let calls = calls
            .into_iter()
            .find(|word| stated.has(word))
            .ok_or("@calls says nothing")?;
        let mut parameters = Vec::new();
        for one in &function.parameters {
            let mut description = self.kind(one);
            if one.c_type.pointers > 0 && description["kind"] != "user_data" {
                let words = self
                    .parameter_words(item, &one.name, &["borrowed", "owned", "size *"])?
                    .ok_or_else(|| format!("has no @param for `{}`", one.name))?;
                let ownership = match (words.has("owned"), words.has("borrowed")) {
                    (true, false) => json!({ "kind": "owned", "free": self.free(&one.c_type.base)? }),
                    (false, true) => json!({ "kind": "borrowed", "until": ["return"] }),
                    _ => {
                        return Err(format!(
                            "does not say whether `{}` is owned or borrowed",
                            one.name
                        ));
                    }
                };
                description.insert("ownership".to_owned(), ownership);
                self.size(&words, "size", &function.parameters, &mut description)?;
                self.value(&words, &mut description)?;
            }
            parameters.push(description);
        }
        let mut returns = self.kind(&unnamed(&function.returns));
        if returns["kind"] != "void" {
            let words = item
                .doc
                .words("return", &["nonzero *"])?
                .ok_or("has no @return")?;
            let status = words.get("nonzero").ok_or("does not describe its result")?;
            returns.insert("nonzero".to_owned(), self.named_status(status)?.into());
            self.value(&words, &mut returns)?;
        }
        Ok(json!({
            "runs": if runs.has("at release") { "at_release" } else { "in_call" },
            "concurrent": runs.has("concurrently"),
            "calls": calls.replace(' ', "_"),
            "returns": returns,
            "parameters": parameters,
        }))
    }

    fn function(&self, item: &Declared, function: &Function) -> Result<Value> {
        item.doc
            .only(&["blocks", "errors", "param", "return", "signal-safe"])?;
        self.check_parameters(item, function)?;
        let fallible = is_fallible(item, function);
        let blocks = self.blocks(item)?;
        let parameters = function.parameters.iter().enumerate();
        let parameters: Vec<Object> = parameters
            .map(|(i, one)| self.parameter(item, function, i, one))
            .collect::<Result<_>>()?;
        let under_operation = has_operation(function);
        if under_operation && blocks != "network" {
            return Err("takes an operation, and has no `@blocks network.`".to_owned());
        }
        let of_stream = function
            .parameters
            .first()
            .is_some_and(|one| one.c_type.is("dbss_report_stream", 1));
        let error = match (fallible, under_operation || of_stream) {
            (false, _) => Value::Null,
            (true, true) => "operation".into(),
            (true, false) => "thread".into(),
        };
        let mut description = json!({
            "fallible": fallible,
            "error": error,
            "blocks": blocks,
            "async_signal_safe": item.doc.tag("signal-safe")?.is_some(),
            "returns": self.result(item, function)?,
            "parameters": parameters,
            "callbacks": callback_groups(&parameters)?,
        });
        if fallible {
            let statuses = self.statuses(item, function)?;
            let names = self
                .declared
                .iter()
                .filter(|one| statuses.contains(one.name.as_str()));
            description["statuses"] = names.map(|one| one.name.clone()).collect::<Vec<_>>().into();
            if let Some(errors) = item.doc.tag("errors")? {
                description["errors"] = errors.into();
            }
        } else if item.doc.tag("errors")?.is_some() {
            return Err("has @errors, but cannot fail".to_owned());
        }
        Ok(description)
    }

    fn blocks(&self, item: &Declared) -> Result<&'static str> {
        let known = ["briefly", "files", "network"];
        let words = item.doc.words("blocks", &known)?;
        Ok(words.map_or("never", |words| {
            known.into_iter().find(|word| words.has(word)).unwrap_or("never")
        }))
    }

    fn parameter(
        &self,
        item: &Declared,
        function: &Function,
        place: usize,
        one: &Parameter,
    ) -> Result<Object> {
        let mut description = self.kind(one);
        let kind = description["kind"].as_str().unwrap_or_default().to_owned();
        let is_pointer = one.c_type.pointers > 0 || kind == "callback";
        let fallible = is_fallible(item, function);
        let stated = self.parameter_words(item, &one.name, PARAMETER)?;
        let implied = matches!(one.name.as_str(), "user_data" | "destroy")
            || place > 0 && one.c_type.is("dbss_operation", 1);
        if fallible && is_pointer && stated.is_none() && !implied {
            return Err(format!("has no @param for `{}`", one.name));
        }
        let words = stated.unwrap_or_default();
        let room = words.has("room");
        let is_out = one.name.starts_with("out_") || room;
        let direction = match (is_out, fallible || kind != "struct") {
            (true, _) => "out",
            (false, false) => "inout",
            (false, true) => "in",
        };
        description.insert("direction".to_owned(), direction.into());
        let marks = (words.has("required"), words.has("optional"));
        let nullability = match marks {
            _ if !is_pointer || !fallible => {
                if marks != (false, false) {
                    return Err(format!(
                        "@param {}: has a word on NULL, but is not a pointer of a function that can fail",
                        one.name
                    ));
                }
                is_pointer.then_some("ignored")
            }
            (true, false) => Some("required"),
            (false, true) => Some("optional"),
            (false, false) if implied => Some("optional"),
            _ => return Err(format!("@param {}: is it required or optional?", one.name)),
        };
        if let Some(nullability) = nullability {
            description.insert("nullability".to_owned(), nullability.into());
        }
        if kind == "string" {
            description.insert("encoding".to_owned(), encoding(&words).into());
        }
        if is_out {
            description.insert("set_on_failure".to_owned(), words.has("set on failure").into());
            if matches!(kind.as_str(), "handle" | "struct") {
                let owned = json!({ "kind": "owned", "free": self.free(&one.c_type.base)? });
                description.insert("ownership".to_owned(), owned);
            }
        }
        for word in ["room", "size"] {
            self.size(&words, word, &function.parameters, &mut description)?;
        }
        of(
            &format!("@param {}", one.name),
            self.value(&words, &mut description),
        )?;
        Ok(description)
    }

    fn result(&self, item: &Declared, function: &Function) -> Result<Object> {
        let mut description = self.kind(&unnamed(&function.returns));
        let fallible = is_fallible(item, function);
        if fallible || description["kind"] == "void" {
            if !fallible && item.doc.tag("return")?.is_some() {
                return Err("has @return, but returns nothing".to_owned());
            }
            return Ok(description);
        }
        let words = item.doc.words("return", RESULT)?.ok_or("has no @return")?;
        let is_pointer = function.returns.pointers > 0;
        if function.parameters.iter().any(|one| one.c_type.pointers > 0) {
            let for_null: Value = match words.get("for NULL").or(words.get("none")) {
                Some("\"\"") => "".into(),
                Some(number) => number
                    .parse::<i64>()
                    .map_err(|_| format!("{number} is not a number"))?
                    .into(),
                None if is_pointer => Value::Null,
                None => 0.into(),
            };
            description.insert("for_null".to_owned(), for_null);
        }
        if is_pointer {
            description.insert("nullable".to_owned(), words.has("nullable").into());
            description.insert("ownership".to_owned(), self.ownership(function, &words)?);
            if description["kind"] == "string" {
                description.insert("encoding".to_owned(), encoding(&words).into());
            }
        }
        of("@return", self.value(&words, &mut description))?;
        Ok(description)
    }

    fn ownership(&self, function: &Function, words: &Words) -> Result<Value> {
        let kinds = RESULT
            .iter()
            .filter(|word| ["static", "owned"].contains(word) || word.starts_with("borrowed"));
        let stated: Vec<&str> = kinds.copied().filter(|word| words.has(word)).collect();
        let [stated] = stated[..] else {
            return Err("@return: is it static, owned or borrowed?".to_owned());
        };
        if stated == "static" {
            return Ok(json!({ "kind": stated }));
        }
        if stated == "owned" {
            return Ok(json!({ "kind": stated, "free": self.free(&function.returns.base)? }));
        }
        if stated == "borrowed until next error" {
            return Ok(json!({
                "kind": "borrowed", "from": null, "until": ["next_call_on_thread", "dbss_error_take"],
            }));
        }
        let lender = function
            .parameters
            .first()
            .ok_or("@return: borrowed from what?")?;
        let free = self
            .free(&lender.c_type.base)?
            .unwrap_or_else(|| "return".to_owned());
        let until = match stated {
            // A handle that a callback receives is valid until the callback returns.
            "borrowed" if self.is_lent(&lender.c_type.base) && free != "return" => json!(["return", free]),
            "borrowed" => json!([free]),
            _ => json!(["next_call_on_handle", "dbss_operation_reset", free]),
        };
        Ok(json!({ "kind": "borrowed", "from": lender.name, "until": until }))
    }

    /// Whether callbacks receive handles of this type that are only valid while they run.
    fn is_lent(&self, handle: &str) -> bool {
        self.declared.iter().any(|one| match &one.kind {
            Kind::Callback(function) => function
                .parameters
                .iter()
                .any(|parameter| parameter.c_type.is_const && parameter.c_type.is(handle, 1)),
            _ => false,
        })
    }

    /// Finds the constant of a status by its name without DBSS_ERR_.
    fn named_status(&self, name: &str) -> Result<&'a str> {
        let found = self.find(&format!("DBSS_ERR_{name}"));
        found
            .map(|one| one.name.as_str())
            .ok_or_else(|| format!("there is no status {name}"))
    }

    /// Returns the statuses of a function, except DBSS_OK.
    fn statuses(&self, item: &Declared, function: &Function) -> Result<BTreeSet<&'a str>> {
        let mut found = BTreeSet::new();
        let mut names = vec!["INTERNAL", "OUT_OF_MEMORY"];
        for (i, one) in function.parameters.iter().enumerate() {
            let description = self.parameter(item, function, i, one)?;
            if description
                .get("nullability")
                .is_some_and(|stated| stated == "required")
            {
                names.push("NULL_ARGUMENT");
            }
            if description
                .get("encoding")
                .is_some_and(|stated| stated == "utf-8")
            {
                names.push("INVALID_UTF8");
            }
            if let Some(set) = description.get("options").and_then(Value::as_str) {
                names.push("UNKNOWN_KEY");
                let options = self.library.tables["options"][set]
                    .as_array()
                    .into_iter()
                    .flatten();
                let statuses = options.filter_map(|option| option["status"].as_str());
                names.extend(statuses.filter_map(|status| status.strip_prefix("DBSS_ERR_")));
            }
        }
        if has_operation(function) {
            names.extend(["ARGUMENT", "BUSY"]);
        }
        if self.blocks(item)? == "network" {
            names.extend([
                "CANCELLED",
                "CLOSED",
                "INTERRUPTED",
                "PLAINTEXT_REFUSED",
                "RESOURCE",
            ]);
        }
        let errors = without_brackets(item.doc.tag("errors")?.unwrap_or_default());
        for entry in errors
            .split([',', ';'])
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            if let Some(other) = entry.strip_prefix("as ") {
                let (other, function) = self.earlier(item, other)?;
                found.extend(self.statuses(other, function)?);
            } else if let Some(group) = entry.strip_suffix('*') {
                let group = self.named_status(group)?;
                let in_group = |one: &&Declared| match one.kind {
                    Kind::Constant(value) if is_status(&one.name) => {
                        self.status(value).is_ok_and(|status| status["group"] == group)
                    }
                    _ => false,
                };
                found.extend(self.declared.iter().filter(in_group).map(|one| one.name.as_str()));
            } else {
                names.push(entry);
            }
        }
        for name in names {
            found.insert(self.named_status(name)?);
        }
        Ok(found)
    }
}

fn unnamed(c_type: &CType) -> Parameter {
    Parameter {
        name: String::new(),
        c_type: c_type.clone(),
        doc: Doc::default(),
    }
}

fn encoding(words: &Words) -> &'static str {
    if words.has("bytes") { "bytes" } else { "utf-8" }
}

fn is_fallible(item: &Declared, function: &Function) -> bool {
    function.returns.is("dbss_status", 0) && item.doc.tags("return").is_empty()
}

fn has_operation(function: &Function) -> bool {
    let others = function.parameters.iter().skip(1);
    others.into_iter().any(|one| one.c_type.is("dbss_operation", 1))
}

/// Splits a `@param` into the names at its beginning and the rest.
fn parameter_names(tag: &str) -> (Vec<&str>, &str) {
    let mut names = Vec::new();
    let mut rest = tag;
    loop {
        let (name, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after.trim_start();
        names.push(name.trim_end_matches(','));
        if !name.ends_with(',') {
            return (names, rest);
        }
    }
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0;
    let outside = |c: &char| {
        depth += i32::from(*c == '(');
        let keep = depth == 0;
        depth -= i32::from(*c == ')');
        keep
    };
    text.trim_end_matches('.').chars().filter(outside).collect()
}

/// Groups the parameters of each callback: the function, its data and its destroy
/// function.
fn callback_groups(parameters: &[Object]) -> Result<Vec<Value>> {
    let mut groups = Vec::new();
    for (i, one) in parameters.iter().enumerate() {
        if one["kind"] != "callback" || one["of"] == "dbss_destroy_fn" {
            continue;
        }
        let next =
            |offset: usize, name: &str| parameters.get(i + offset).is_some_and(|one| one["name"] == name);
        if !next(1, "user_data") {
            return Err(format!("has no user_data after `{}`", one["name"]));
        }
        let kept = next(2, "destroy");
        groups.push(json!({
            "fn": one["name"],
            "user_data": "user_data",
            "destroy": kept.then_some("destroy"),
            "lifetime": if kept { "until_destroy" } else { "call" },
        }));
    }
    Ok(groups)
}

fn layout(fields: &[Parameter], pointer: usize) -> Value {
    let (mut offset, mut alignment, mut offsets) = (0_usize, 1, Vec::new());
    for field in fields {
        let size = match field.c_type.base.as_str() {
            _ if field.c_type.pointers > 0 => pointer,
            "size_t" => pointer,
            "uint8_t" => 1,
            "int64_t" => 8,
            _ => 4,
        };
        offset = offset.next_multiple_of(size);
        offsets.push(offset);
        offset += size;
        alignment = alignment.max(size);
    }
    json!({
        "pointer": pointer,
        "size": offset.next_multiple_of(alignment),
        "alignment": alignment,
        "offsets": offsets,
    })
}
