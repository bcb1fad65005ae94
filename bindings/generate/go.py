"""Generates the low-level layer of the Go package from include/dbss-abi.json.

    python bindings/generate/go.py

It writes bindings/go/internal/abi (the functions of the ABI in cgo) and, in the package
itself, statuses.go, options.go and items.go. `make abi` runs it; it needs gofmt.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from common import getters
from go_tables import NOTE, Item, camel, items_file, options_file, statuses_file

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = ROOT / "include/dbss-abi.json"
PACKAGE = ROOT / "bindings/go"

NUMBERS = {
    "int": "int",
    "int32_t": "int32",
    "uint32_t": "uint32",
    "int64_t": "int64",
    "size_t": "int",
    "dbss_status": "int32",
}
# Names that stand for other things in Go.
RENAMED = {"error": "handle", "type": "kind"}


def local(name: str) -> str:
    """The name of a parameter or variable."""
    name = RENAMED.get(name, name)
    first, _, rest = name.partition("_")
    return first + camel(rest) if rest else first


# The package internal/abi


def wrapped(description: Item) -> list[Item]:
    """The functions that have a wrapper of their own: neither these getters, nor what
    takes the error of a thread or frees a buffer, which the wrappers do."""
    read = {id(one) for h in description["handles"] for one in getters(description, h["name"])}
    structs = {one["free"] for one in description["structs"]}
    return [
        one
        for one in description["functions"]
        if id(one) not in read
        and one["name"] not in structs
        and (one["returns"]["kind"] != "handle" or one["parameters"])
    ]


def callback_of(function: Item) -> Item:
    """The names of the parameters of its callback."""
    return function["callbacks"][0] if function["callbacks"] else {}


def shim_function(function: Item) -> Iterator[str]:
    """In C: the call, and then its error, so that no other thread comes between."""
    callback = callback_of(function)
    name = function["name"].removeprefix("dbss_")
    parameters, arguments = [], []
    for one in function["parameters"]:
        c_type, of = one["c_type"], one["name"]
        if of == callback.get("fn"):
            parameters.append(f"uintptr_t {of}")
            arguments.append(f"{of} ? dbss_go_{one['of'].removeprefix('dbss_')} : NULL")
        elif of == callback.get("user_data"):
            arguments.append(f"(void *){callback['fn']}")
        elif of == callback.get("destroy"):
            arguments.append(f"{callback['fn']} ? dbss_go_destroy_fn : NULL")
        else:
            # cgo checks nothing behind a pointer to bytes.
            c_type = "uint8_t *" if c_type == "void *" else c_type
            parameters.append(f"{c_type} {of}".replace("* ", "*"))
            arguments.append(of)
    blocks = function["blocks"] != "never"
    first = ["uintptr_t go_call"] if blocks else []
    yield f"static inline dbss_status dbss_go_{name}({', '.join([*first, *parameters])},"
    yield "    dbss_error **go_failure)"
    yield "{"
    if blocks:
        yield "    uintptr_t go_outer = dbss_go_call;"
        yield "    dbss_go_call = go_call;"
    yield f"    dbss_status go_status = {function['name']}({', '.join(arguments)});"
    if blocks:
        yield "    dbss_go_call = go_outer;"
    yield "    *go_failure = go_status == DBSS_OK ? NULL : dbss_error_take();"
    yield "    return go_status;"
    yield "}"


def shim_reader(description: Item, handle: str) -> Iterator[str]:
    found = getters(description, handle)
    if not found:
        return
    short = handle.removeprefix("dbss_")
    yield "typedef struct {"
    for one in found:
        field = one["name"].removeprefix(f"{handle}_")
        yield f"    {one['returns']['c_type']} {field};".replace("* ", "*")
    yield f"}} dbss_go_{short}_fields;"
    yield f"static inline dbss_go_{short}_fields dbss_go_read_{short}(const {handle} *handle)"
    yield "{"
    yield f"    return (dbss_go_{short}_fields){{"
    yield from (f"        {one['name']}(handle)," for one in found)
    yield "    };"
    yield "}"


def callback_parameters(callback: Item) -> str:
    named = (f"{one['c_type']} {one['name']}" for one in callback["parameters"])
    return ", ".join(named).replace("* ", "*")


def shim_header(description: Item) -> str:
    lines = [f"/* {NOTE} */", "#include <dbss.h>", "#include <stdint.h>", ""]
    lines += ["/* What the blocking call of this thread was given as `call`, for its callbacks. */"]
    lines += ["extern __thread uintptr_t dbss_go_call;", "uintptr_t dbss_go_current_call(void);"]
    for one in description["callbacks"]:
        name = one["name"].removeprefix("dbss_")
        lines.append(f"{one['returns']['c_type']} dbss_go_{name}({callback_parameters(one)});")
    for one in description["handles"]:
        lines += ["", *shim_reader(description, one["name"])]
    for one in wrapped(description):
        if one["fallible"]:
            lines += ["", *shim_function(one)]
    return "\n".join(lines) + "\n"


def shim_source(description: Item) -> str:
    """The callbacks in C, which pass on to those in Go."""
    lines = [f"/* {NOTE} */", '#include "shim.h"', '#include "_cgo_export.h"', ""]
    lines += ["__thread uintptr_t dbss_go_call;", ""]
    lines += ["uintptr_t dbss_go_current_call(void)", "{", "    return dbss_go_call;", "}"]
    for one in description["callbacks"]:
        name = one["name"].removeprefix("dbss_")
        arguments = [f"({p['c_type'].replace('const ', '')}){p['name']}" for p in one["parameters"]]
        arguments[0] = "(uintptr_t)user_data"
        result = "" if one["returns"]["kind"] == "void" else "return "
        lines += ["", f"{one['returns']['c_type']} dbss_go_{name}({callback_parameters(one)})", "{"]
        lines += [f"    {result}dbssGo{camel(name)}({', '.join(arguments)});", "}"]
    return "\n".join(lines) + "\n"


def go_callbacks(description: Item) -> str:
    lines = [f"// {NOTE}", "", "package abi", "", "// #include <dbss.h>", "// #include <stdint.h>"]
    lines += ['import "C"', "", 'import ("runtime/cgo"; "unsafe")', ""]
    for one in description["callbacks"]:
        name = camel(one["name"])
        result = "" if one["returns"]["kind"] == "void" else "int32"
        c_result = result and "C.int32_t"
        given, types, arguments = [], [], []
        for value in one["parameters"][1:]:
            c_type = value["c_type"].replace("const ", "")
            if value["kind"] == "bytes":
                given.append(f"{value['name']} *C.uint8_t, {value['size']} C.size_t")
                types.append(f"{value['name']} []byte")
                data, length = value["name"], value["size"]
                arguments.append(f"unsafe.Slice((*byte)({data}), int({length}))")
            elif value["kind"] == "handle":
                given.append(f"{value['name']} *C.{c_type.rstrip('* ')}")
                types.append(f"{value['name']} {camel(value['of'])}")
                arguments.append(value["name"])
        parameters = ", ".join(["userData C.uintptr_t", *given])
        if one["runs"] != "at_release":
            lines += [f"type {name} func({', '.join(types)}) {result}", ""]
            body = f"cgo.Handle(userData).Value().({name})({', '.join(arguments)})"
        else:
            body = "cgo.Handle(userData).Delete()"
        body = f"return C.int32_t({body})" if result else body
        lines += [f"//export dbssGo{name}", f"func dbssGo{name}({parameters}) {c_result} {{"]
        lines += [body, "}", ""]
    return "\n".join(lines)


def go_result(returns: Item, expression: str) -> tuple[str, str]:
    """The type in Go of a value from C, and the expression that converts it."""
    kind = returns["kind"]
    if kind == "string":
        return "string", f"C.GoString({expression})"
    if kind == "handle":
        return camel(returns["of"]), expression
    if kind == "void":
        return "", expression
    return NUMBERS[returns["c_type"]], f"{NUMBERS[returns['c_type']]}({expression})"


def go_reader(description: Item, handle: str) -> Iterator[str]:
    found = getters(description, handle)
    if not found:
        return
    short, name = handle.removeprefix("dbss_"), camel(handle)
    fields = [(one, one["name"].removeprefix(f"{handle}_")) for one in found]
    yield f"// {name}Fields has the values of a handle; a string that is NULL is empty."
    yield f"type {name}Fields struct {{"
    for one, field in fields:
        yield f"{camel(field)} {go_result(one['returns'], '')[0]}"
    yield "}"
    yield f"// Read{name} reads all of them."
    yield f"func Read{name}(handle {name}) {name}Fields {{"
    yield f"c := C.dbss_go_read_{short}(handle)"
    yield f"return {name}Fields{{"
    for one, field in fields:
        yield f"{camel(field)}: {go_result(one['returns'], f'c.{field}')[1]},"
    yield "}"
    yield "}"


def go_function(function: Item) -> Iterator[str]:
    name, fallible, callback = function["name"], function["fallible"], callback_of(function)
    given, inputs, outputs, arguments, results = [], [], [], [], []
    if fallible and function["blocks"] != "never":
        given.append("call Call")
        arguments.append("C.uintptr_t(call)")
    by_key = any("options" in one for one in function["parameters"])
    sized = {one["size"]: one for one in function["parameters"] if "size" in one}
    for one in function["parameters"]:
        kind, word, out = one["kind"], local(one["name"]), one.get("direction") == "out"
        if one["name"] == callback.get("fn"):
            given.append(f"{word} {camel(one['of'])}")
            inputs.append(f"callback := newCallback({word}, {word} == nil)")
            arguments.append("callback")
            if callback["lifetime"] == "call":
                inputs.append("defer deleteCallback(callback)")
        elif kind in ("user_data", "callback"):
            continue
        elif kind == "string":
            optional = one.get("nullability") == "optional"
            given.append(f"{word} {'*' if optional else ''}string")
            parameter = "key" if by_key and one["name"] == "value" else f'"{one["name"]}"'
            check = f"in.{'optional' if optional else 'required'}({parameter}, {word})"
            inputs.append(f"{word}C := {check}")
            arguments.append(f"{word}C")
        elif kind == "bytes" and one["size"].isupper():
            outputs.append(f"var {word} [C.{one['size']}]C.char")
            arguments.append(f"&{word}[0]")
            results.append(("string", f"C.GoString(&{word}[0])", '""'))
        elif kind == "bytes":
            given.append(f"{word} []byte")
            arguments.append(f"(*C.uint8_t)(unsafe.SliceData({word}))")
        elif one["name"] in sized:
            arguments.append(f"C.size_t(len({local(sized[one['name']]['name'])}))")
        elif kind == "struct":
            outputs.append(f"var {word} C.{one['of']}")
            arguments.append(f"&{word}")
            results.append(("[]byte", f"takeBuffer(&{word})", "nil"))
        elif out:
            target = camel(one["of"]) if kind == "handle" else f"C.{one['c_type'].rstrip('* ')}"
            outputs.append(f"var {word} {target}")
            arguments.append(f"&{word}")
            result = (target, word, "nil") if kind == "handle" else ("int", f"int({word})", "0")
            results.append(result)
        elif kind == "handle":
            given.append(f"{word} {camel(one['of'])}")
            arguments.append(word)
        else:
            given.append(f"{word} {NUMBERS[one['c_type']]}")
            arguments.append(f"C.{one['c_type']}({word})")
    checked = any(": in." in line or ":= in." in line for line in inputs)
    if fallible:
        types = [*(result[0] for result in results), "*Failure"]
        zero = [*(result[2] for result in results), "in.failure"]
        yield f"func {camel(name)}({', '.join(given)}) ({', '.join(types)}) {{"
    else:
        call = f"C.{name}({', '.join(arguments)})"
        result_type, expression = go_result(function["returns"], call)
        zero = [{"string": '""', "": ""}.get(result_type, "0")]
        yield f"func {camel(name)}({', '.join(given)}) {result_type} {{"
    if checked:
        yield "var in inputs"
    yield from inputs
    if checked:
        yield f"if in.failure != nil {{ return {', '.join(zero)} }}"
    yield from outputs
    if fallible:
        short = name.removeprefix("dbss_")
        yield "var failure Error"
        yield f"code := C.dbss_go_{short}({', '.join([*arguments, '&failure'])})"
        yield f"return {', '.join([*(r[1] for r in results), 'failureOf(code, failure)'])}"
    else:
        yield f"{'return ' if result_type else ''}{expression}"
    yield "}"


def go_functions(description: Item) -> str:
    statuses = {one["name"]: one["value"] for one in description["statuses"]}
    default = "DBSS_ERR_INVALID_VALUE"
    invalid = {"project": "DBSS_ERR_INVALID_ID", "id": "DBSS_ERR_INVALID_ID"}
    invalid["key"] = "DBSS_ERR_UNKNOWN_KEY"
    for rows in description["options"].values():
        invalid.update({row["key"]: row["status"] for row in rows if row["status"] != default})
    lines = [f"// {NOTE}", "", "package abi", "", '// #include "shim.h"', 'import "C"', ""]
    lines += ['import "unsafe"', "", "// The constants of the ABI.", "const ("]
    for one in description["constants"]:
        lines.append(f"{camel(one['name'])} = {one['value']}")
    lines += [")", "", "// Statuses that this package needs.", "const ("]
    lines += [f"{camel(name)} = {statuses[name]}" for name in (default, "DBSS_ERR_INTERNAL")]
    lines += [")", "", "// The status of a text that C cannot have, by its parameter or option."]
    lines += ["var invalid = map[string]int32{"]
    lines += [f'"{key}": {statuses[status]},' for key, status in invalid.items()]
    lines += ["}", "", "// The handles.", "type ("]
    for one in description["handles"]:
        lines.append(f"{camel(one['name'])} = *C.{one['name']}")
    lines.append(")")
    for one in description["handles"]:
        lines += ["", *go_reader(description, one["name"])]
    for one in wrapped(description):
        lines += ["", *go_function(one)]
    return "\n".join(lines)


# Writing


def format_source(source: str) -> str:
    done = subprocess.run(["gofmt"], input=source, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def generate(description: Item) -> dict[Path, str]:
    """The contents of the files by path."""
    if description["format"] != 2:
        raise SystemExit(f"{DESCRIPTION}: format {description['format']} is not known here")
    abi = PACKAGE / "internal/abi"
    sources = {
        PACKAGE / "statuses.go": statuses_file(description),
        PACKAGE / "options.go": options_file(description),
        PACKAGE / "items.go": items_file(description),
        abi / "functions.go": go_functions(description),
        abi / "callbacks.go": go_callbacks(description),
        abi / "shim.h": shim_header(description),
        abi / "shim.c": shim_source(description),
    }
    return {p: format_source(text) if p.suffix == ".go" else text for p, text in sources.items()}


if __name__ == "__main__":
    for path, text in generate(json.loads(DESCRIPTION.read_text())).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
