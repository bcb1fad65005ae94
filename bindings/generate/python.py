"""Writes the raw layer of the Python package from include/dbss-abi.json.

    python bindings/generate/python.py

It writes bindings/python/dbss/_abi.py (constants, types, functions, options),
_statuses.py (an exception for each status) and _items.py (what lists have, and
the counts of a mirror). `make abi` runs it.
"""

from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = ROOT / "include/dbss-abi.json"
PACKAGE = ROOT / "bindings/python/dbss"

Item = dict[str, Any]

GENERATED = 'Generated from include/dbss-abi.json by bindings/generate/python.py.\n"""'

# C's values: in ctypes, and as Python sees them.
VALUES = {
    "void": ("None", "None"),
    "int": ("c_int", "int"),
    "int32_t": ("c_int32", "int"),
    "uint32_t": ("c_uint32", "int"),
    "int64_t": ("c_int64", "int"),
    "size_t": ("c_size_t", "int"),
    "uint8_t": ("c_uint8", "int"),
    "dbss_status": ("c_int32", "int"),
}
# Pointers to memory, by whether it is the caller's to write to.
MEMORY = {"char": "POINTER(c_char)", "void": "c_void_p", "uint8_t": "POINTER(c_uint8)"}

# What an exception is besides an Error. A status whose class has the name of a
# builtin exception is that one too, and what is under these is so as well.
BUILTINS = {
    "DBSS_ERR_ARGUMENT": "ValueError",
    "DBSS_ERR_FILE": "SystemFailure",
    "DBSS_ERR_OUT_OF_MEMORY": "MemoryError",
    "DBSS_ERR_NOT_READY": "TimeoutError",
    "DBSS_ERR_CONNECT_TIMEOUT": "TimeoutError",
    "DBSS_ERR_STALLED": "TimeoutError",
    "DBSS_ERR_TOTAL_TIMEOUT": "TimeoutError",
}
FIELD_TYPES = {"text": "str", "integer": "int", "list": "list[Any]"}
CLASSES = {"context": "Client", "operation": "Operation", "report_stream": "ReportStream"}


def camel(name: str) -> str:
    """`dbss_report_stream` or `NOT_FOUND` as a class is named."""
    return "".join(word.capitalize() for word in name.removeprefix("dbss_").split("_"))


def docstring(text: str, indent: str = "    ") -> str:
    lines = textwrap.wrap(text, 92 - len(indent))
    end = "" if len(lines) == 1 else f"\n{indent}"
    return f'{indent}"""' + f"\n{indent}".join(lines) + f'{end}"""'


# Types


def base(c_type: str) -> str:
    return c_type.replace("const ", "").rstrip("* ")


def in_ctypes(value: Item) -> str:
    """The type that ctypes is told."""
    kind, name, pointers = value["kind"], base(value["c_type"]), value["c_type"].count("*")
    if kind == "user_data":
        return "py_object"
    if kind == "callback":
        return camel(name)
    if kind == "string":
        return "c_char_p"
    if kind == "bytes":
        return MEMORY[name]
    # The type of a handle is that of a pointer to it.
    target = camel(name) if kind in ("handle", "struct") else VALUES[name][0]
    for _ in range(pointers - (kind == "handle")):
        target = f"POINTER({target})"
    return target


def in_python(value: Item) -> str:
    """The type that mypy is told of a parameter."""
    kind = value["kind"]
    if kind == "user_data":
        return "object"
    if kind == "callback":
        return "Any"
    if kind == "handle" and value["c_type"].count("*") == 1:
        return in_ctypes(value)
    if kind == "string":
        return "bytes" if value.get("nullability") == "required" else "bytes | None"
    return "Any" if "*" in value["c_type"] else VALUES[base(value["c_type"])][1]


def result_in_python(function: Item) -> str:
    returns = function["returns"]
    if function["fallible"]:
        return "None"
    is_always = not returns.get("nullable") and returns.get("for_null", "") is not None
    if returns["kind"] == "string" and is_always:
        return "bytes"
    return in_python(returns)


# The file _abi.py


def constants(description: Item) -> Iterator[str]:
    yield f"VERSION_NUMBER = {description['version_number']}"
    yield '"""The version of the library that has all that is declared here."""'
    yield f'SONAME = "{description["soname"]}"'
    for one in description["constants"]:
        yield f"{one['name'].removeprefix('DBSS_')} = {one['value']}"
        yield docstring(one["summary"], "")


def handles(description: Item) -> Iterator[str]:
    names = [camel(one["name"]) for one in description["handles"]]
    yield "# Handles: structures without an inside, each its own type, so that ctypes"
    yield "# refuses one in place of another."
    for one in description["handles"]:
        yield f"class _{camel(one['name'])}(ctypes.Structure):"
        yield docstring(one["summary"])
    yield "if TYPE_CHECKING:"
    yield from (f"    {name} = ctypes._Pointer[_{name}]" for name in names)
    yield "else:"
    yield from (f"    {name} = POINTER(_{name})" for name in names)


def structures(description: Item) -> Iterator[str]:
    for one in description["structs"]:
        yield f"class {camel(one['name'])}(ctypes.Structure):"
        yield docstring(one["summary"])
        fields = ", ".join(f'("{field["name"]}", {in_ctypes(field)})' for field in one["fields"])
        yield f"    _fields_ = ({fields},)"


def callbacks(description: Item) -> Iterator[str]:
    yield "# Callbacks. `user_data` is a Python object, but for its end, where it is only"
    yield "# known by its address."
    for one in description["callbacks"]:
        released = one["runs"] == "at_release"
        types = [
            "c_void_p" if released and value["kind"] == "user_data" else in_ctypes(value)
            for value in one["parameters"]
        ]
        types.insert(0, in_ctypes(one["returns"]))
        yield f"{camel(one['name'])} = CFUNCTYPE({', '.join(types)})"


def functions(description: Item) -> Iterator[str]:
    yield "# Functions. Those that never block keep Python's lock (PyDLL), so that what they"
    yield "# call back need not wait for it. Freeing much memory takes its time."
    structs = {one["free"] for one in description["structs"]}
    yield "_call, _hold = library.call, library.hold"
    for one in description["functions"]:
        held = one["blocks"] == "never" and one["name"] not in structs
        parameters = one["parameters"]
        types = ", ".join(in_python(value) for value in parameters)
        result = "STATUS" if one["fallible"] else in_ctypes(one["returns"])
        declared = ", ".join([result, *map(in_ctypes, parameters)])
        name = one["name"].removeprefix("dbss_")
        yield (
            f"{name}: Callable[[{types}], {result_in_python(one)}] = "
            f'{"_hold" if held else "_call"}("{one["name"]}", {declared})'
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
    yield '"""The types of all options, and the status of a wrong value, by their set and key."""'


def abi(description: Item) -> str:
    parts: list[Iterable[str]] = [
        (
            '"""The C ABI of libdbss as ctypes sees it.',
            "",
            GENERATED,
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


def class_of(status: str) -> str:
    return camel(status.removeprefix("DBSS_ERR_").lower()) + "Error"


def explained(summary: str) -> str:
    """A sentence of the header about a status, for Python."""
    text = re.sub(r"^Group of \dxx: (.)", lambda found: found[1].upper(), summary)
    text = re.sub(r"\bdbss_error_(\w+?)(_ms)?\(\)", r"``\1``", text)
    for handle, name in CLASSES.items():
        text = re.sub(rf"\bdbss_{handle}_(\w+)\(\)", rf"``{name}.\1()``", text)
    return re.sub(r'"(\w+?)(_ms)?"', r"``\1``", text)


def statuses(description: Item) -> str:
    found = [one for one in description["statuses"] if one["value"] != 0]
    lines = [
        '"""An exception for each status of libdbss, under that of its group.',
        "",
        GENERATED,
        "from __future__ import annotations",
        "import builtins",
        "from .error import Error, SystemFailure",
    ]
    for one in found:
        name = class_of(one["name"])
        is_group = one["group"] == one["name"]
        bases = ["Error" if is_group else class_of(one["group"])]
        if one["name"] in BUILTINS:
            bases.append(BUILTINS[one["name"]])
        elif hasattr(builtins, name):
            bases.append(f"builtins.{name}")
        lines += [
            f"class {name}({', '.join(bases)}):",
            docstring(explained(one["summary"])),
            "",
            f"    status = {one['value']}",
            f'    status_name = "{one["name"]}"',
            "",
        ]
    names = [class_of(one["name"]) for one in found]
    lines.append("STATUSES: dict[int, type[Error]] = {one.status: one for one in (")
    lines += [f"{name}," for name in names]
    lines += [")}", '"""Each status and its class."""']
    lines += ["__all__ = ["] + [f'"{name}",' for name in sorted(names)] + ["]"]
    return "\n".join(lines)


# The file _items.py


def dataclass(
    name: str, about: str, fields: Iterable[tuple[str, str, str]], options: str = ""
) -> Iterator[str]:
    """A frozen dataclass of fields: name, type with its default, help."""
    yield f"@dataclass(frozen=True{options})"
    yield f"class {name}:"
    yield docstring(about)
    for field, kind, help in fields:
        yield f"    {field}: {kind}"
        yield docstring(help)


def item_fields(rows: list[Item]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        kind = FIELD_TYPES[row["type"]] + ("" if row["name"] == "id" else " | None")
        if row["type"] == "list":
            # A list has no hash, and an item has one.
            kind += " = field(hash=False)"
        values = row.get("values")
        known = f" One of {', '.join(values)}; there may be others." if values else ""
        yield row["name"], kind, row["help"] + known
    about = "All that the service sent, also what this package does not know."
    yield "raw", "dict[str, Any] = field(repr=False, hash=False)", about


def items(description: Item) -> str:
    lines = [
        '"""The fields of list items, and the counts of a mirror.',
        "",
        GENERATED,
        "from __future__ import annotations",
        "from dataclasses import dataclass, field",
        "from typing import Any",
    ]
    for name, rows in description["items"].items():
        about = f"The fields of {name}s that the service documents."
        lines.append(f"{name.upper()} = {{")
        lines += [f'"{row["name"]}": "{row["type"]}",' for row in rows] + ["}"]
        lines.append(f'"""The types of the fields of {name}s."""')
        lines += dataclass(f"{camel(name)}Fields", about, item_fields(rows))
    counts = [(row["name"], "int = 0", row["help"]) for row in description["counts"]]
    # What else a dataclass has, MirrorResult makes of these fields and its own.
    without = ", init=False, repr=False, eq=False"
    lines += dataclass("Counts", "How many reports a mirror dealt with, and how.", counts, without)
    return "\n".join(lines)


# Writing


def formatted(source: str, path: Path) -> str:
    """A source as `make lint` wants it."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
        source = subprocess.run(
            ruff, input=source, check=True, capture_output=True, text=True, timeout=60
        ).stdout
    return source


def generate(description: Item) -> dict[Path, str]:
    """The files by their paths."""
    if description["format"] != 2:
        raise SystemExit(f"{DESCRIPTION}: format {description['format']} is not known here")
    sources = {"_abi.py": abi, "_statuses.py": statuses, "_items.py": items}
    paths = {PACKAGE / name: make for name, make in sources.items()}
    return {path: formatted(make(description), path) for path, make in paths.items()}


if __name__ == "__main__":
    for path, text in generate(json.loads(DESCRIPTION.read_text())).items():
        path.write_text(text)
