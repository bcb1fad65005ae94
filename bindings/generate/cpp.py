"""Generates the mechanical layer of the C++ header from include/dbss-abi.json.

    python bindings/generate/cpp.py

It writes include/dbss_raw.hpp: enumerations, the exception of each status, who frees
which handle, getters of handles, setters of options, and the fields of list items.
`make abi` runs it. include/dbss.hpp is written by hand, and includes it.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from common import ROOT, Item, filtered, write

HEADER = ROOT / "include/dbss_raw.hpp"

OPENING = """\
// The mechanical layer of dbss.hpp.
// Generated from include/dbss-abi.json by bindings/generate/cpp.py.

#ifndef DBSS_RAW_HPP
#define DBSS_RAW_HPP

#ifndef DBSS_HPP
#error "include dbss.hpp, which includes this header"
#endif

namespace dbss {
inline namespace v0 {
"""

CLOSING = """\
} // namespace v0
} // namespace dbss

#endif // DBSS_RAW_HPP
"""

# The enumerations, and the constants that belong to each.
ENUMERATIONS = {
    "option_set": ("DBSS_OPTIONS_", "A set of options, for options()."),
    "cancel_source": (
        "DBSS_CANCELLED_BY_",
        "What cancelled a call. Newer versions may add values.",
    ),
    "log_level": ("DBSS_LOG_", "The level of a log record. Newer versions may add values."),
    "part_kind": ("DBSS_PART_", "What a part of the message of an error is."),
    "report_format": ("DBSS_FORMAT_", "The format of a report, by its first bytes."),
}

STATUS = {"status_code": "DBSS_(?:ERR_)?"}

# Names that C++ does not allow.
KEYWORDS = {"template": "template_"}

# What C++ calls a function of C that is not a getter.
FUNCTIONS = {
    "context_cancel_all": "client::cancel_all",
    "context_check": "client::check_credentials",
    "operation_set_interrupt": "operation::on_interrupt",
    "report_generate": "client::generate_report",
    "report_wait": "client::wait_for_report",
    "reports_mirror": "client::mirror",
    "error_candidate": "error::candidates",
    "error_retry_after_ms": "error::retry_after",
}
# What dbss.hpp writes by hand: in C these have the names and the values of C.
BY_HAND = (
    "dbss_error_message",
    "dbss_error_parameter",
    "dbss_error_status",
    "dbss_log_record_message",
)
# What C calls the objects and values of C++. Between quotes it is data of C.
TERMS = {"context": "client", "cursor": "list", "NULL": "null"}
OPTION_TYPES = {
    "path": "const std::filesystem::path &",
    "milliseconds": "std::chrono::milliseconds",
    "bytes": "std::int64_t",
    "number": "std::int64_t",
    "boolean": "bool",
    "mode": "std::filesystem::perms",
}
FIELDS = {
    "text": ("std::string", "optional_text"),
    "list": ("std::string", "optional_text"),
    "integer": ("std::int64_t", "optional_integer"),
    "boolean": ("bool", "optional_boolean"),
}


def comment(*paragraphs: str) -> str:
    """A documentation comment."""
    text = " ".join(cpp_text(paragraph) for paragraph in paragraphs if paragraph)
    return "\n".join(f"/// {line}" for line in textwrap.wrap(text, 106))


def cpp_text(text: str) -> str:
    """A text of the header in the terms of C++."""
    text = re.sub(r"^Group of \dxx: (.)", lambda match: match[1].upper(), " ".join(text.split()))
    text = re.sub(r"\bdbss_(\w+)\(\)", cpp_function, text)
    for name, prefix in {**{name: row[0] for name, row in ENUMERATIONS.items()}, **STATUS}.items():
        text = re.sub(
            rf"\b{prefix}([A-Z_]+)", lambda match, name=name: f"{name}::{match[1].lower()}", text
        )
    for term, own in TERMS.items():
        text = re.sub(rf'(?<!")\b{term}\b(?!")', own, text)
    return re.sub(r'"(\w+?)_ms"', r'"\1"', text)


def cpp_function(match: re.Match[str]) -> str:
    name = FUNCTIONS.get(match[1], "")
    if not name:
        name = re.sub(
            r"^([a-z]+(?:_(?:record|request|stream|spec|changes|options|result))?)_",
            r"\1::",
            match[1],
        )
    return f"{name}()"


# Statuses and constants


def statuses(description: Item) -> Iterator[str]:
    yield comment(
        "The result of a call.", "Newer versions may add values in each group of a hundred."
    )
    yield "enum class status_code : std::int32_t {"
    for one in description["statuses"]:
        yield f"{comment(one['summary'])}\n{status_name(one)} = {one['name']},"
    yield "};"
    for name, (prefix, summary) in ENUMERATIONS.items():
        yield comment(summary)
        yield f"enum class {name} : std::int32_t {{"
        for one in description["constants"]:
            if one["name"].startswith(prefix):
                value = one["name"].removeprefix(prefix).lower()
                yield f"{comment(one['summary'])}\n{value} = {one['name']},"
        yield "};"


def status_name(status: Item) -> str:
    return status["name"].removeprefix("DBSS_").removeprefix("ERR_").lower()


def exceptions(description: Item) -> Iterator[str]:
    names = [(status_name(one), one["summary"]) for one in description["statuses"] if one["value"]]
    yield comment("The exception of a status, which derives from that of its group.")
    yield "template <status_code Code> class error_of;"
    for name, summary in names:
        yield comment(summary)
        yield f"using {name}_error = error_of<status_code::{name}>;"
    yield "namespace detail {"
    yield comment(
        "Throws the exception of a status.",
        "A status that is newer than this header throws that of its group.",
    )
    yield "template <template <status_code> class Exception, class Cause>"
    yield "[[noreturn]] void throw_error(status_code code, const Cause &cause) {"
    yield "switch (code) {"
    for name, _ in names:
        yield f"case status_code::{name}: throw Exception<status_code::{name}>(cause);"
    yield "default: break;"
    yield "}"
    yield "const dbss_status group = dbss_status_group(static_cast<dbss_status>(code));"
    # A group that only a newer library knows.
    yield "if (group == static_cast<dbss_status>(code))"
    yield "throw Exception<status_code::internal>(cause);"
    yield "throw_error<Exception>(static_cast<status_code>(group), cause);"
    yield "}"
    yield "} // namespace detail"


# Handles


def handles(description: Item) -> Iterator[str]:
    yield comment("Frees the handles and the buffers of C.")
    yield "struct deleter {"
    for one in description["handles"]:
        if one.get("free"):
            yield comment(f"Frees a {one['name']}.")
            yield f"void operator()({one['name']} *handle) const noexcept"
            yield f"{{ {one['free']}(handle); }}"
    yield "};"
    yield comment("A handle of C that frees itself.")
    yield "template <class Handle> using unique_handle = std::unique_ptr<Handle, deleter>;"


def getters(description: Item) -> Iterator[str]:
    """For each handle a base class with its getters."""
    indexed = {
        value["count"]
        for one in description["functions"]
        for value in one["parameters"]
        if "count" in value
    }
    for handle in description["handles"]:
        found = [
            one
            for one in description["functions"]
            if one["parameters"]
            and one["parameters"][0].get("of") == handle["name"]
            and len(one["parameters"]) == 1
            and one["name"] not in (*indexed, *BY_HAND)
            and one["returns"]["kind"] in ("string", "integer", "status")
            and not one["fallible"]
        ]
        if found:
            name = handle["name"].removeprefix("dbss_")
            yield from base_class(f"{name}_getters", f"The getters of a {handle['name']}.")
            for one in found:
                result, value = conversion(one)
                yield comment(one["doc"], result_doc(one["returns"]))
                getter = re.sub(r"_ms$", "", one["name"].removeprefix(f"{handle['name']}_"))
                yield f"[[nodiscard]] {result} {getter}() const {{ return {value}; }}"
            yield "private:"
            yield f"const {handle['name']} *native() const noexcept"
            yield "{ return static_cast<const Self &>(*this).native_handle(); }"
            yield "};"


def base_class(name: str, summary: str) -> Iterator[str]:
    yield comment(summary, "Only the class Self can derive from it.")
    yield f"template <class Self> class {name} {{"
    yield f"friend Self; {name}() = default;"
    yield "public:"


def result_doc(returns: Item) -> str:
    unit = {"bytes": "In bytes.", "percent": "In percent."}.get(returns.get("unit", ""), "")
    # Without an explanation, "none" needs none.
    missing = "None if there is none." if "none" in returns else ""
    doc = re.sub(r"^(NULL|-1|0)(?= )", "None", returns.get("doc", missing))
    return f"{unit} {doc}".strip()


def conversion(function: Item) -> tuple[str, str]:
    """The type of a getter's result in C++, and the expression that makes it."""
    returns, call = function["returns"], f"{function['name']}(native())"
    if returns["kind"] == "status":
        return "status_code", f"static_cast<status_code>({call})"
    if returns["kind"] == "string":
        if returns["encoding"] == "bytes":
            return "std::optional<std::filesystem::path>", f"detail::optional_path({call})"
        if returns["nullable"]:
            return "std::optional<std::string>", f"detail::optional_text({call})"
        return "std::string", f"detail::text({call})"
    if returns.get("boolean"):
        return "bool", f"{call} != 0"
    if returns.get("unit") == "unix-ms":
        return (
            "std::optional<std::chrono::system_clock::time_point>",
            f"detail::optional_time({call})",
        )
    kind = "std::" + returns["c_type"]
    if "constants" in returns:
        prefix = returns["constants"][0]
        kind = next(name for name, (start, _) in ENUMERATIONS.items() if prefix.startswith(start))
    elif returns.get("unit") == "ms":
        kind = "std::chrono::milliseconds"
    if "none" in returns:
        none = f"{returns['c_type']}{{{returns['none']}}}"
        return f"std::optional<{kind}>", f"detail::optional<{kind}>({call}, std::{none})"
    return kind, call if kind.startswith("std::") else f"static_cast<{kind}>({call})"


# Options and fields


def options(description: Item) -> Iterator[str]:
    set_by = {
        value["options"]: one["name"]
        for one in description["functions"]
        for value in one["parameters"]
        if one["fallible"] and "options" in value
    }
    for name, rows in description["options"].items():
        yield from base_class(
            f"{name}_option_setters",
            f"The options of the set option_set::{name}, each with a setter.",
        )
        for row in rows:
            setter = re.sub(r"_ms$", "", row["key"])
            kind = OPTION_TYPES.get(row["type"], "text_view")
            yield comment(row["help"], option_range(row))
            yield f"Self &{KEYWORDS.get(setter, setter)}({kind} value)"
            yield f'{{ return put("{row["key"]}", detail::option_text(value)); }}'
            if kind == "bool":
                yield comment('Not text, such as "false": it would be true.')
                yield f"Self &{KEYWORDS.get(setter, setter)}(const void *) = delete;"
        yield "private:"
        yield "Self &put(const char *key, text_view value) {"
        yield "Self &self = static_cast<Self &>(*this);"
        yield f"detail::set_option({set_by[name]}, self, key, value, detail::wording::typed);"
        yield "return self;"
        yield "}"
        yield "};"


def option_range(row: Item) -> str:
    def shown(number: str) -> str:
        if row["type"] == "milliseconds":
            return "no_limit" if number == "-1" else f"{number} ms"
        return f"0{number}" if row["type"] == "mode" else number

    parts = []
    if row["choices"]:
        parts.append(f"One of {row['range']}.")
    elif row["range"]:
        limit = row["range"].replace("-1 for no limit", "no_limit")
        parts.append(re.sub(r"\d+", lambda match: shown(match[0]), limit) + ".")
    if row["required"]:
        parts.append("Required.")
    if row["default"] not in (None, ""):
        parts.append(f"The default is {shown(row['default'])}.")
    return " ".join(parts)


def items(description: Item) -> Iterator[str]:
    for name, rows in description["items"].items():
        article = "an" if name[0] in "aeiou" else "a"
        yield from base_class(
            f"{name}_fields", f"The fields of {article} {name} that the service documents."
        )
        for row in rows:
            kind, convert = FIELDS[row["type"]]
            values = (
                f"One of {', '.join(row['values'])}; there may be others." if row["values"] else ""
            )
            json = "As JSON." if row["type"] == "list" else ""
            yield comment(row["help"], values, json)
            if row["name"] == "id":
                yield '[[nodiscard]] std::string id() const { return detail::text(native("id")); }'
            else:
                yield f"[[nodiscard]] std::optional<{kind}> {row['name']}() const"
                yield f'{{ return detail::{convert}(native("{row["name"]}")); }}'
        yield "private:"
        yield "const char *native(const char *name) const noexcept"
        yield "{ return static_cast<const Self &>(*this).native_field(name); }"
        yield "};"


def header(description: Item) -> str:
    parts = (statuses, exceptions, handles, getters, options, items)
    made = ["\n".join(part(description)) for part in parts]
    return "\n\n".join([OPENING, *made, CLOSING])


def generate(description: Item) -> dict[Path, str]:
    """The contents of the files by path."""
    clang_format = str(Path(sys.executable).parent / "clang-format")
    style = [f"--assume-filename={HEADER}"]
    return {HEADER: filtered([clang_format, *style], header(description))}


if __name__ == "__main__":
    write(generate)
