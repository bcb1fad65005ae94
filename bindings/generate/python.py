"""Generates the low-level layer of the Python package from include/dbss-abi.json.

    python bindings/generate/python.py

It writes bindings/python/dbss/_abi.py (constants, types, functions, options),
_statuses.py (an exception for each status) and _items.py (the fields of list items,
and the counts of a mirror). `make abi` runs it.
"""

from __future__ import annotations

import builtins
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from common import ROOT, Item, base_type, filtered, write

PACKAGE = ROOT / "bindings/python/dbss"

GENERATED_NOTE = 'Generated from include/dbss-abi.json by bindings/generate/python.py.\n"""'

# The value types of C: the ctypes type and the Python type.
VALUE_TYPES = {
    "void": ("None", "None"),
    "int": ("c_int", "int"),
    "int32_t": ("c_int32", "int"),
    "uint32_t": ("c_uint32", "int"),
    "int64_t": ("c_int64", "int"),
    "size_t": ("c_size_t", "int"),
    "uint8_t": ("c_uint8", "int"),
    "dbss_status": ("c_int32", "int"),
}
# The ctypes types of pointers to memory.
POINTER_TYPES = {"char": "POINTER(c_char)", "void": "c_void_p", "uint8_t": "POINTER(c_uint8)"}

# Additional base classes of exceptions; the statuses of a group inherit them. A class
# with the name of a builtin exception derives from that exception too.
BUILTIN_BASES = {
    "DBSS_ERR_ARGUMENT": "ValueError",
    "DBSS_ERR_FILE": "OSErrorMixin",
    "DBSS_ERR_OUT_OF_MEMORY": "MemoryError",
    "DBSS_ERR_NOT_READY": "TimeoutError",
    "DBSS_ERR_CONNECT_TIMEOUT": "TimeoutError",
    "DBSS_ERR_STALLED": "TimeoutError",
    "DBSS_ERR_TOTAL_TIMEOUT": "TimeoutError",
}
FIELD_TYPES = {"text": "str", "integer": "int", "list": "list[Any]", "boolean": "bool"}
# The terms of C in summaries of statuses, and those of Python.
TERMS = {
    "pointer is NULL": "argument is missing",
    "option's value": "value",
    '; see the option "interruptible"': "",
    "context": "client",
    "by a callback": "by a function for progress",
}
CLASSES = {"context": "Client", "operation": "Operation", "report_stream": "ReportStream"}


def camel_case(name: str) -> str:
    """The class name for a name such as `dbss_report_stream` or `NOT_FOUND`."""
    return "".join(word.capitalize() for word in name.removeprefix("dbss_").split("_"))


def docstring(text: str, indent: str = "    ") -> str:
    lines = textwrap.wrap(text, 92 - len(indent))
    end = "" if len(lines) == 1 else f"\n{indent}"
    return f'{indent}"""' + f"\n{indent}".join(lines) + f'{end}"""'


# Types


def ctypes_type(value: Item) -> str:
    """The ctypes type of a value."""
    kind, name, pointers = value["kind"], base_type(value["c_type"]), value["c_type"].count("*")
    if kind == "user_data":
        return "py_object"
    if kind == "callback":
        return camel_case(name)
    if kind == "string":
        return "c_char_p"
    if kind == "bytes":
        return POINTER_TYPES[name]
    # The ctypes class of a handle is a pointer type already.
    target = camel_case(name) if kind in ("handle", "struct") else VALUE_TYPES[name][0]
    for _ in range(pointers - (kind == "handle")):
        target = f"POINTER({target})"
    return target


def python_type(value: Item) -> str:
    """The annotation of a parameter, for mypy."""
    kind = value["kind"]
    if kind == "user_data":
        return "object"
    if kind == "callback":
        return "Any"
    if kind == "handle" and value["c_type"].count("*") == 1:
        return ctypes_type(value)
    if kind == "string":
        return "bytes" if value.get("nullability") == "required" else "bytes | None"
    return "Any" if "*" in value["c_type"] else VALUE_TYPES[base_type(value["c_type"])][1]


def python_result_type(function: Item) -> str:
    returns = function["returns"]
    if function["fallible"]:
        return "None"
    never_null = not returns.get("nullable") and returns.get("for_null", "") is not None
    if returns["kind"] == "string" and never_null:
        return "bytes"
    return python_type(returns)


# The file _abi.py


def constants(description: Item) -> Iterator[str]:
    yield f"VERSION_NUMBER = {description['version_number']}"
    yield '"""The first version of the library that has all declarations here."""'
    yield f'SONAME = "{description["soname"]}"'
    for one in description["constants"]:
        yield f"{one['name'].removeprefix('DBSS_')} = {one['value']}"
        yield docstring(one["summary"], "")


def handles(description: Item) -> Iterator[str]:
    names = [camel_case(one["name"]) for one in description["handles"]]
    yield "# Handles: opaque structures, each of its own type, so that ctypes rejects a handle"
    yield "# of another type."
    for one in description["handles"]:
        yield f"class _{camel_case(one['name'])}(ctypes.Structure):"
        yield docstring(one["summary"])
    yield "if TYPE_CHECKING:"
    yield from (f"    {name} = ctypes._Pointer[_{name}]" for name in names)
    yield "else:"
    yield from (f"    {name} = POINTER(_{name})" for name in names)


def structures(description: Item) -> Iterator[str]:
    for one in description["structs"]:
        yield f"class {camel_case(one['name'])}(ctypes.Structure):"
        yield docstring(one["summary"])
        fields = ", ".join(f'("{field["name"]}", {ctypes_type(field)})' for field in one["fields"])
        yield f"    _fields_ = ({fields},)"


def callbacks(description: Item) -> Iterator[str]:
    yield "# Callbacks. `user_data` is a Python object. Only the release callback gets it as an"
    yield "# address."
    for one in description["callbacks"]:
        released = one["runs"] == "at_release"
        types = [
            "c_void_p" if released and value["kind"] == "user_data" else ctypes_type(value)
            for value in one["parameters"]
        ]
        types.insert(0, ctypes_type(one["returns"]))
        yield f"{camel_case(one['name'])} = CFUNCTYPE({', '.join(types)})"


def functions(description: Item) -> Iterator[str]:
    yield "# Functions. Those that never block hold the GIL (PyDLL), so that their callbacks"
    yield "# need not wait for it. Functions that free a buffer release it: that may take long."
    structs = {one["free"] for one in description["structs"]}
    yield "_blocking, _nonblocking = library.declare_blocking, library.declare_nonblocking"
    for one in description["functions"]:
        holds_gil = one["blocks"] == "never" and one["name"] not in structs
        parameters = one["parameters"]
        types = ", ".join(python_type(value) for value in parameters)
        result = "STATUS" if one["fallible"] else ctypes_type(one["returns"])
        declared = ", ".join([result, *map(ctypes_type, parameters)])
        name = one["name"].removeprefix("dbss_")
        yield (
            f"{name}: Callable[[{types}], {python_result_type(one)}] = "
            f'{"_nonblocking" if holds_gil else "_blocking"}("{one["name"]}", {declared})'
        )


def options(description: Item) -> Iterator[str]:
    values = {one["name"]: one["value"] for one in description["statuses"]}
    yield "OPTIONS: dict[str, dict[str, tuple[str, int]]] = {"
    for name, rows in description["options"].items():
        yield f'"{name}": {{'
        for row in rows:
            yield f'"{row["key"]}": ("{row["type"]}", {values[row["status"]]}),'
        yield "},"
    yield "}"
    yield '"""The type of each option, and the status of a wrong value, by option set and key."""'


def abi_module(description: Item) -> str:
    parts: list[Iterable[str]] = [
        (
            '"""The C ABI of libdbss in ctypes.',
            "",
            GENERATED_NOTE,
            "from __future__ import annotations",
            "import ctypes",
            "from ctypes import (",
            "CFUNCTYPE, POINTER, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint8,",
            "c_uint32, c_void_p, py_object,",
            ")",
            "from typing import TYPE_CHECKING, Any, Callable",
            "from .library import STATUS, Library",
        ),
        constants(description),
        ("library = Library(SONAME, VERSION_NUMBER)",),
        handles(description),
        structures(description),
        callbacks(description),
        functions(description),
        options(description),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


# The file _statuses.py


def class_name(status: str) -> str:
    return camel_case(status.removeprefix("DBSS_ERR_").lower()) + "Error"


def python_summary(summary: str) -> str:
    """The summary of a status in the header, in the terms of Python."""
    text = re.sub(r"^Group of \dxx: (.)", lambda match: match[1].upper(), summary)
    text = text.replace("dbss_error_candidate()", "dbss_error_candidates()")
    text = re.sub(r"\bdbss_error_(\w+?)(_ms)?\(\)", r"``\1``", text)
    for handle, name in CLASSES.items():
        text = re.sub(rf"\bdbss_{handle}_(\w+)\(\)", rf"``{name}.\1()``", text)
    for words, own in TERMS.items():
        text = text.replace(words, own)
    return re.sub(r'"(\w+?)(_ms)?"', r"``\1``", text)


def statuses_module(description: Item) -> str:
    errors = [one for one in description["statuses"] if one["value"] != 0]
    lines = [
        '"""An exception for each status of libdbss, derived from that of its group.',
        "",
        GENERATED_NOTE,
        "from __future__ import annotations",
        "import builtins",
        "from .base_error import Error, OSErrorMixin",
    ]
    for one in errors:
        name = class_name(one["name"])
        is_group = one["group"] == one["name"]
        bases = ["Error" if is_group else class_name(one["group"])]
        if one["name"] in BUILTIN_BASES:
            bases.append(BUILTIN_BASES[one["name"]])
        elif hasattr(builtins, name):
            bases.append(f"builtins.{name}")
        lines += [
            f"class {name}({', '.join(bases)}):",
            docstring(python_summary(one["summary"])),
            "",
            f"    status = {one['value']}",
            f'    status_name = "{one["name"]}"',
            "",
        ]
    names = [class_name(one["name"]) for one in errors]
    lines.append("STATUSES: dict[int, type[Error]] = {one.status: one for one in (")
    lines += [f"{name}," for name in names]
    lines += [")}", '"""The class of each status."""']
    lines += ["__all__ = ["] + [f'"{name}",' for name in sorted(names)] + ["]"]
    return "\n".join(lines)


# The file _items.py


def dataclass(
    name: str, summary: str, fields: Iterable[tuple[str, str, str]], options: str = ""
) -> Iterator[str]:
    """A frozen dataclass of fields: name, type with its default, help."""
    yield f"@dataclass(frozen=True{options})"
    yield f"class {name}:"
    yield docstring(summary)
    for field, kind, help in fields:
        yield f"    {field}: {kind}"
        yield docstring(help)


def item_fields(rows: list[Item]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        kind = FIELD_TYPES[row["type"]] + ("" if row["name"] == "id" else " | None")
        if row["type"] == "list":
            # A list is not hashable, but an item must be.
            kind += " = field(hash=False)"
        values = row.get("values")
        choices = f" One of {', '.join(values)}; there may be others." if values else ""
        yield row["name"], kind, row["help"] + choices
    summary = "All fields that the service sent, including those unknown to this package."
    yield "raw", "dict[str, Any] = field(repr=False, hash=False)", summary


def items_module(description: Item) -> str:
    lines = [
        '"""The fields of list items, and the counts of a mirror.',
        "",
        GENERATED_NOTE,
        "from __future__ import annotations",
        "from dataclasses import dataclass, field",
        "from typing import Any",
    ]
    for name, rows in description["items"].items():
        summary = f"The fields of {name}s that the service documents."
        lines.append(f"{name.upper()} = {{")
        lines += [f'"{row["name"]}": "{row["type"]}",' for row in rows] + ["}"]
        lines.append(f'"""The types of the fields of {name}s."""')
        aliases = {row["name"]: row["aliases"] for row in rows if "aliases" in row}
        if aliases:
            lines.append(f"{name.upper()}_ALIASES = {aliases!r}")
            lines.append(f'"""Other names of fields of {name}s, in older versions of the call."""')
        lines += dataclass(f"{camel_case(name)}Fields", summary, item_fields(rows))
    counts = [(row["name"], "int = 0", row["help"]) for row in description["counts"]]
    # The subclass MirrorResult generates the methods, for these fields and its own.
    no_methods = ", init=False, repr=False, eq=False"
    lines += dataclass("Counts", "Counts of the reports of a mirror.", counts, no_methods)
    return "\n".join(lines)


# Writing


def format_source(source: str, path: Path) -> str:
    """Formats a source with ruff, as `make lint` checks it."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
        source = filtered(ruff, source)
    return source


def generate(description: Item) -> dict[Path, str]:
    """The contents of the files by path."""
    sources = {"_abi.py": abi_module, "_statuses.py": statuses_module, "_items.py": items_module}
    builders = {PACKAGE / name: build for name, build in sources.items()}
    return {path: format_source(build(description), path) for path, build in builders.items()}


if __name__ == "__main__":
    write(generate)
