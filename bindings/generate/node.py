"""Generates the low-level layer of the Node package from include/dbss-abi.json.

    python bindings/generate/node.py

It writes the table of functions and the readers of handles for the addon in C, the types of
both in TypeScript, and those of statuses, options and list items. `make abi` runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

from common import ROOT, Item, base_type, write
from node_tables import NOTE, camel, doc, items_file, options_file, statuses_file

ADDON = ROOT / "bindings/node/addon"
SOURCE = ROOT / "bindings/node/src/generated"

# The addon sets these on the operation of a call itself.
CALL_CALLBACKS = ("dbss_operation_set_progress", "dbss_operation_set_interrupt")
# The parameters of a function that reads a handle.
READER = "napi_env env, const void *pointer, napi_value object"
# Only in the addon: what frees, and what the addon does at the end of a call.
ON_THREADS = ("dbss_error_take", "dbss_last_error", "dbss_buffer_free")


def only_getter(function: Item, handle: str) -> bool:
    """Whether a function only returns a value of a handle; a reader reads all of them."""
    return (
        not function["fallible"]
        and function["returns"]["kind"] in ("string", "integer", "status")
        and [(p["kind"], p.get("of")) for p in function["parameters"]] == [("handle", handle)]
    )


def readers(description: Item) -> dict[str, list[Item]]:
    """The getters of each handle that has some."""
    found = {
        one["name"]: [f for f in description["functions"] if only_getter(f, one["name"])]
        for one in description["handles"]
    }
    return {name: getters for name, getters in found.items() if getters}


def lists(description: Item, getters: list[Item]) -> dict[str, tuple[str, list[Item]]]:
    """The getters with an index, by the name of their list, with that of the count."""
    made = {}
    for one in getters:
        name = one["name"]
        members = [
            f
            for f in description["functions"]
            if any(p.get("count") == name for p in f["parameters"]) and len(f["parameters"]) == 2
        ]
        if members:
            made[name.removesuffix("_count")] = (name, members)
    return made


def exported(description: Item) -> list[Item]:
    """The functions that JavaScript calls by name."""
    read = {one["name"] for getters in readers(description).values() for one in getters}
    frees = {one["free"] for one in description["handles"]}
    return [
        one
        for one in description["functions"]
        if one["name"] not in {*read, *frees, *ON_THREADS, *CALL_CALLBACKS}
        and one["returns"]["kind"] != "handle"
        and not any(
            p["kind"] == "callback" and p["of"] == "dbss_write_fn" for p in one["parameters"]
        )
        # Those of a list, which a reader reads too, and page_field, whose page is read as JSON.
        and not (
            one["parameters"]
            and one["parameters"][0]["kind"] == "handle"
            and any("count" in p for p in one["parameters"])
        )
    ]


def short(name: str) -> str:
    return name.removeprefix("dbss_")


def member(handle: str, function: str) -> str:
    """The name of a field in JavaScript."""
    field = function.removeprefix(f"{handle}_").removeprefix("is_")
    return camel("value" if field == "json" else field)


def constant_words(description: Item, returns: Item) -> dict[int, str]:
    """The words for the constants that a value is one of."""
    names = returns.get("constants", [])
    prefix = names[0].rpartition("_")[0] + "_" if names else ""
    return {
        one["value"]: one["name"].removeprefix(prefix).lower()
        for one in description["constants"]
        if one["name"] in names
    }


# The addon in C


def parameter_kinds(function: Item) -> Iterator[tuple[str, str, Item]]:
    """For each parameter its kind in the addon, the number of its handle's type, and itself."""
    by_callback = {one: c for c in function["callbacks"] for one in c.values() if one}
    for one in function["parameters"]:
        kind, out = one["kind"], one.get("direction") == "out"
        handle = f"HANDLE_{short(one['of']).upper()}" if kind == "handle" else "0"
        if kind == "handle" and out:
            yield "OUT_HANDLE", handle, one
        elif handle == "HANDLE_OPERATION" and one["nullability"] == "optional":
            yield "OPERATION", handle, one
        elif kind == "handle":
            yield "OPTIONAL_HANDLE" if one["nullability"] == "optional" else "HANDLE", handle, one
        elif kind == "string":
            yield "OPTIONAL_TEXT" if one["nullability"] == "optional" else "TEXT", "0", one
        elif kind == "bytes":
            yield "OUT_ID" if one["size"].isupper() else "OUT_BYTES", "0", one
        elif kind == "struct":
            yield "OUT_BUFFER", "0", one
        elif kind == "callback" and one["name"] == by_callback[one["name"]]["fn"]:
            yield "CALLBACK", "0", one
        elif kind in ("callback", "user_data"):
            yield "UNUSED", "0", one
        elif out:
            yield "OUT_LENGTH", "0", one
        else:
            yield "NUMBER", "0", one


def c_call(function: Item) -> Iterator[str]:
    """A function that makes the call with an array of values; the first is the result."""
    arguments, callback = [], 0
    for index, (kind, _, one) in enumerate(parameter_kinds(function), start=1):
        value, c_type = f"v[{index}]", one["c_type"]
        if kind == "CALLBACK":
            callback = index
            arguments.append(f"{value}.handle ? dbss_node_{short(one['of'])} : NULL")
        elif kind == "UNUSED" and one["kind"] == "user_data":
            arguments.append(f"v[{callback}].handle")
        elif kind == "UNUSED":
            arguments.append(f"v[{callback}].handle ? dbss_node_destroy_fn : NULL")
        elif kind == "OUT_HANDLE":
            arguments.append(f"({base_type(c_type)} **)&{value}.handle")
        elif kind == "OUT_LENGTH":
            arguments.append(f"&{value}.length")
        else:
            field = {
                **{"HANDLE": "handle", "OPTIONAL_HANDLE": "handle", "OPERATION": "handle"},
                **{"TEXT": "text", "OPTIONAL_TEXT": "text", "OUT_ID": "id", "OUT_BYTES": "handle"},
                **{"OUT_BUFFER": "buffer", "NUMBER": "number"},
            }[kind]
            cast = f"({c_type})" if kind == "NUMBER" else ""
            arguments.append(f"{'&' if kind == 'OUT_BUFFER' else ''}{cast}{value}.{field}")
    result = {"string": "v[0].text = ", "void": ""}.get(
        function["returns"]["kind"], "v[0].number = "
    )
    yield f"static void call_{short(function['name'])}(dbss_node_value *v)"
    yield "{"
    if not arguments and not result:
        yield "    (void)v;"
    yield f"    {result}{function['name']}({', '.join(arguments)});"
    yield "}"


def c_row(function: Item) -> Iterator[str]:
    returns = {"string": "RETURNS_TEXT", "void": "RETURNS_NOTHING"}.get(
        function["returns"]["kind"], "RETURNS_NUMBER"
    )
    returns = "RETURNS_STATUS" if function["fallible"] else returns
    blocks = int(function["blocks"] == "network")
    rows = [
        f'{{{kind}, {handle}, "{one["name"]}"}}' for kind, handle, one in parameter_kinds(function)
    ]
    name = short(function["name"])
    yield f'    {{"{camel(name)}", call_{name}, {returns}, {blocks}, {len(rows)},'
    yield f"     {{{', '.join(rows) or '{UNUSED, 0, NULL}'}}}}},"


def c_setter(description: Item, one: Item, item: str, name: str, handle: str = "handle") -> str:
    """The statements that set a field of an item from a getter."""
    returns, call = one["returns"], f"{one['name']}({handle})"
    if returns["kind"] == "handle":
        return f'dbss_node_set_error(env, {item}, "{name}", {call});'
    if returns["kind"] == "string":
        kind = "bytes" if returns["encoding"] == "bytes" else "text"
        return f'dbss_node_set_{kind}(env, {item}, "{name}", {call});'
    if returns.get("boolean"):
        return f'dbss_node_set_boolean(env, {item}, "{name}", {call});'
    if words := constant_words(description, returns):
        pairs = ", ".join(f'[{value}] = "{word}"' for value, word in words.items())
        return (
            f"static const char *const {name}[] = {{{pairs}}};\n"
            f'dbss_node_set_word(env, {item}, "{name}", {call}, '
            f"{name}, sizeof {name} / sizeof *{name});"
        )
    none = returns.get("none", "DBSS_NODE_ALWAYS")
    return f'dbss_node_set_number(env, {item}, "{name}", {call}, {none});'


def c_reader(description: Item, handle: str, getters: list[Item]) -> Iterator[str]:
    counted = lists(description, getters)
    counts = {name for name, _ in counted.values()}
    yield f"void dbss_node_read_{short(handle)}({READER})"
    yield "{"
    yield f"    const {handle} *handle = pointer;"
    for one in getters:
        if one["name"] not in counts:
            name = member(handle, one["name"])
            yield indent(c_setter(description, one, "object", name), " " * 4)
    for base, (count, members) in counted.items():
        name = short(base)
        yield f'    napi_value {name} = dbss_node_list(env, object, "{member(handle, base)}s");'
        yield f"    for (size_t i = 0; i < {count}(handle); i++) {{"
        item = "NULL"
        if members[0]["name"] != base:
            yield f"        napi_value item = dbss_node_item(env, {name}, i);"
            item = "item"
        for one in members:
            if item == "NULL":
                yield f"        dbss_node_add_text(env, {name}, i, {one['name']}(handle, i));"
                continue
            field = camel(one["name"].removeprefix(f"{base}_"))
            yield indent(c_setter(description, one, item, field, "handle, i"), " " * 8)
        yield "    }"
    yield "}"


def c_source(description: Item) -> str:
    lines = [f"/* {NOTE} */", '#include "addon.h"', ""]
    for one in description["handles"]:
        lines += [f"static void free_{short(one['name'])}(void *handle)", "{"]
        lines += [f"    {one['free']}(handle);", "}"]
    lines.append("")
    for handle, getters in readers(description).items():
        lines += [*c_reader(description, handle, getters), ""]
    read = readers(description)
    lines += ["const dbss_node_handle_type dbss_node_handle_types[] = {"]
    for one in description["handles"]:
        name = short(one["name"])
        reader = f"dbss_node_read_{name}" if one["name"] in read else "NULL"
        lines.append(f'    [HANDLE_{name.upper()}] = {{"{name}", free_{name}, {reader}}},')
    lines += ["};", ""]
    functions = exported(description)
    for one in functions:
        lines += c_call(one)
    lines += ["", "const dbss_node_function dbss_node_functions[] = {"]
    for one in functions:
        lines += c_row(one)
    lines += ["};", "", f"const size_t dbss_node_function_count = {len(functions)};", ""]
    lines += ["/* The status of a text that C cannot have, by its parameter or option. */"]
    statuses = {
        "project": "DBSS_ERR_INVALID_ID",
        "id": "DBSS_ERR_INVALID_ID",
        "key": "DBSS_ERR_UNKNOWN_KEY",
    }
    for rows in description["options"].values():
        statuses.update(
            {row["key"]: row["status"] for row in rows if row["status"] != "DBSS_ERR_INVALID_VALUE"}
        )
    lines += ["const dbss_node_invalid dbss_node_invalids[] = {"]
    lines += [f'    {{"{key}", {status}}},' for key, status in statuses.items()]
    lines += ["    {NULL, DBSS_ERR_INVALID_VALUE},", "};", ""]
    return "\n".join(lines)


def c_header(description: Item) -> str:
    lines = [f"/* {NOTE} */", "#ifndef DBSS_NODE_ABI_H", "#define DBSS_NODE_ABI_H", ""]
    lines += ["/* The types of handles. */", "enum {"]
    lines += [
        f"    HANDLE_{short(one['name']).upper()} = {index},"
        for index, one in enumerate(description["handles"], start=1)
    ]
    lines += ["};", ""]
    for handle in readers(description):
        lines.append(f"void dbss_node_read_{short(handle)}({READER});")
    return "\n".join([*lines, "", "#endif", ""])


# The types in TypeScript


def handle_type(name: str) -> str:
    camel_name = camel(short(name))
    return camel_name[0].upper() + camel_name[1:] + "Handle"


def field_type(description: Item, returns: Item) -> tuple[str, bool]:
    """The type of a field, and whether it may be missing."""
    if returns["kind"] == "handle":
        return "ErrorFields", returns.get("nullable", False)
    if returns["kind"] == "string":
        kind = "string | Buffer" if returns["encoding"] == "bytes" else "string"
        return kind, returns.get("nullable", False)
    if returns.get("boolean"):
        return "boolean", False
    if words := constant_words(description, returns):
        return " | ".join(f"'{word}'" for word in words.values()), returns.get("none") is not None
    return "number", returns.get("none") is not None


def ts_reader(description: Item, handle: str, getters: list[Item]) -> Iterator[str]:
    counted = lists(description, getters)
    counts = {name for name, _ in counted.values()}
    yield f"export interface {handle_type(handle).removesuffix('Handle')}Fields {{"
    for one in getters:
        if one["name"] in counts:
            continue
        kind, missing = field_type(description, one["returns"])
        yield from doc(one["summary"])
        yield f"  {member(handle, one['name'])}{'?' if missing else ''}: {kind};"
    for base, (_, members) in counted.items():
        if members[0]["name"] == base:
            yield f"  {member(handle, base)}s: string[];"
            continue
        fields = []
        for one in members:
            kind, missing = field_type(description, one["returns"])
            name = camel(one["name"].removeprefix(f"{base}_"))
            fields.append(f"{name}{'?' if missing else ''}: {kind}")
        yield f"  {member(handle, base)}s: {{ {'; '.join(fields)} }}[];"
    yield "}"


def ts_function(function: Item) -> Iterator[str]:
    given = (
        ["callId: number", "how: number", "settings: Settings"]
        if function["blocks"] == "network"
        else []
    )
    result = {"string": "string | undefined", "void": "void"}.get(
        function["returns"]["kind"], "number"
    )
    out = "void" if function["fallible"] else result
    for kind, _, one in parameter_kinds(function):
        types = {
            **{"HANDLE": "", "OPTIONAL_HANDLE": " | undefined", "TEXT": "Text"},
            **{"OPTIONAL_TEXT": "Text | undefined", "NUMBER": "number"},
            **{"CALLBACK": "number | undefined"},
        }
        if kind in types:
            base = handle_type(one["of"]) if "HANDLE" in kind else ""
            given.append(f"{camel(one['name'])}: {base}{types[kind]}")
        elif kind == "OUT_HANDLE":
            out = handle_type(one["of"])
        elif kind in ("OUT_BUFFER", "OUT_BYTES"):
            out = "Buffer"
        elif kind == "OUT_ID":
            out = "string"
    yield from doc(function["summary"])
    if function["blocks"] == "network":
        yield f"  {camel(short(function['name']))}({', '.join(given)}): Started<{out}>;"
    else:
        yield f"  {camel(short(function['name']))}({', '.join(given)}): {out};"


def ts_abi(description: Item) -> str:
    lines = [f"// {NOTE}", ""]
    lines += ["import type { Settings, Started, Text } from '../native.js';", ""]
    for one in description["handles"]:
        name = handle_type(one["name"])
        lines.append(f"export interface {name} {{ readonly [{name[0].lower()}{name[1:]}]: true }}")
        lines.append(f"declare const {name[0].lower()}{name[1:]}: unique symbol;")
    for one in description["constants"]:
        lines.append(f"export const {short(one['name'].lower()).upper()} = {one['value']};")
    for handle, getters in readers(description).items():
        lines += ["", *ts_reader(description, handle, getters)]
    lines += ["", "/** The functions of libdbss. They throw, or end with, an error. */"]
    lines.append("export interface Functions {")
    for one in exported(description):
        lines += ts_function(one)
    return "\n".join([*lines, "}", ""])


def generate(description: Item) -> dict[Path, str]:
    """The contents of the files by path."""
    return {
        ADDON / "abi.c": c_source(description),
        ADDON / "abi.h": c_header(description),
        SOURCE / "abi.ts": ts_abi(description),
        SOURCE / "statuses.ts": statuses_file(description),
        SOURCE / "options.ts": options_file(description),
        SOURCE / "items.ts": items_file(description),
    }


if __name__ == "__main__":
    write(generate)
