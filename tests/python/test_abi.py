"""The description of the ABI, the header, the package's declarations, and compatibility."""

import builtins
import copy
import ctypes
import inspect
import json
import re
import runpy
from pathlib import Path

import dbss
import jsonschema
import pytest
from dbss import _abi as abi
from dbss import errors, ffi
from pycparser import CParser, c_ast, c_generator

import c_declarations
from compare import additions, breaking_changes, by_name
from support import LIBRARY, ROOT, need_tool, output, run

HEADER = ROOT / "include/dbss.h"
CDEF = ROOT / "include/dbss.cdef.h"


@pytest.fixture(scope="module")
def description():
    return json.loads((ROOT / "include/dbss-abi.json").read_text())


@pytest.fixture(scope="module")
def baseline():
    return json.loads((ROOT / "tests/abi/baseline.json").read_text())


@pytest.fixture
def generate(monkeypatch):
    """Generates the files of a language from a description."""
    monkeypatch.syspath_prepend(ROOT / "bindings/generate")

    def files(language, description):
        return runpy.run_path(ROOT / f"bindings/generate/{language}.py")["generate"](description)

    return files


@pytest.mark.parametrize("language", ["cpp", "go", "java", "node", "python"])
def test_generated_files_are_up_to_date(generate, language, description):
    if language == "go":
        need_tool("gofmt")
    for path, text in generate(language, description).items():
        assert path.read_text() == text, f"{path.name} is stale: run make abi"


# The description and the header.


def test_abi_description_matches_schema(description):
    schema = json.loads((ROOT / "include/dbss-abi.schema.json").read_text())
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    validator(schema).validate(description)
    # The schema itself is strict: it rejects an unknown property.
    for function in ("dbss_version", "dbss_report_download"):
        wrong = copy.deepcopy(description)
        by_name(wrong["functions"])[function]["colour"] = "blue"
        assert not validator(schema).is_valid(wrong)


def test_abi_description_lists_exactly_exported_functions(description):
    lines = output("nm", "--dynamic", "--defined-only", LIBRARY).splitlines()
    assert {line.split()[-1] for line in lines} == set(by_name(description["functions"]))
    dynamic = output("readelf", "--dynamic", "--wide", LIBRARY)
    assert re.findall(r"soname: \[(.*)\]", dynamic) == [description["soname"]]


def header_types():
    """The types of all names of the library; for a callback, the type of the function."""
    return {
        one.name: one.type.type
        if isinstance(one.type, c_ast.PtrDecl) and isinstance(one.type.type, c_ast.FuncDecl)
        else one.type
        for one in c_declarations.declarations(HEADER)
        if one.name and one.name.startswith("dbss_")
    }


def test_abi_description_matches_header_types(description):
    described = {
        one["name"]: [
            one["returns"]["c_type"],
            [(arg["name"], arg["c_type"]) for arg in one["parameters"]],
        ]
        for one in (*description["functions"], *description["callbacks"])
    }
    types, c_type = header_types(), c_declarations.c_type
    parameters = c_declarations.named_parameters
    assert described == {
        name: [c_type(one.type), [(arg.name, c_type(arg.type)) for arg in parameters(one)]]
        for name, one in types.items()
        if isinstance(one, c_ast.FuncDecl)
    }
    others = ("aliases", "handles", "structs")
    named = {one["name"] for table in others for one in description[table]}
    assert {*described, *named} == set(types)


def header_constants(names):
    found = re.findall(rf"^#define ({names}) (\d+)$", HEADER.read_text(), re.MULTILINE)
    return {name: int(value) for name, value in found}


def test_constants_match_header(description):
    rows = (*description["statuses"], *description["constants"])
    constants = header_constants(r"DBSS_(?!VERSION_)\w+")
    assert {one["name"]: one["value"] for one in rows} == constants
    own = header_constants(r"DBSS_(?:LOG|FILE|FORMAT|OPTIONS|ID)_\w+")
    assert {name: getattr(abi, name.removeprefix("DBSS_")) for name in own} == own
    assert len(own) == 14


def test_abi_description_references_are_defined(description):
    functions = by_name(description["functions"])
    constants = by_name(description["constants"])
    tables = (("handle", "handles"), ("struct", "structs"), ("callback", "callbacks"))
    kinds = {kind: by_name(description[table]) for kind, table in tables}
    for one in (*functions.values(), *kinds["callback"].values()):
        names = {parameter["name"] for parameter in one["parameters"]}
        for part in (*one["parameters"], one["returns"]):
            if part["kind"] in kinds:
                assert part["of"] in kinds[part["kind"]]
            ownership = part.get("ownership", {})
            assert ownership.get("free", "dbss_error_free") in functions
            for end in ownership.get("until", []):
                assert end in functions or not end.startswith("dbss_")
            assert part.get("size", "DBSS_ID_SIZE") in {*names, *constants}
            assert set(part.get("constants", [])) <= set(constants)
            assert part.get("count", "dbss_page_count") in functions
            assert part.get("options", "config") in description["options"]
            assert part.get("items", "report") in description["items"]
        assert set(one.get("statuses", [])) <= set(by_name(description["statuses"]))
    for one in (*kinds["handle"].values(), *kinds["struct"].values()):
        if one["free"] is None:
            assert one["threads"] == "callback"
            continue
        [parameter] = functions[one["free"]]["parameters"]
        assert (parameter["of"], parameter["nullability"]) == (one["name"], "ignored")


def test_struct_layout_matches_compiler(tmp_path, environment, description):
    [struct] = description["structs"]
    fields = [field["name"] for field in struct["fields"]]
    offsets = ", ".join(f"offsetof({struct['name']}, {field})" for field in fields)
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text(
        "#include <dbss.h>\n#include <stdio.h>\n"
        f"int main(void) {{ size_t all[] = {{sizeof(void *), sizeof({struct['name']}), {offsets}}};"
        ' for (size_t i = 0; i < sizeof all / sizeof *all; i++) printf("%zu ", all[i]);'
        " return 0; }\n"
    )
    run(environment.get("CC", "cc"), f"-I{HEADER.parent}", source, "-o", program)
    pointer, *found = map(int, output(program).split())
    layout = {one["pointer"]: one for one in struct["layouts"]}[pointer]
    assert [layout["size"], *layout["offsets"]] == found
    offsets = [getattr(abi.Buffer, field).offset for field in fields]
    assert [ctypes.sizeof(abi.Buffer), *offsets] == found


def test_abi_description_has_facts_for_wrappers(description):
    functions = by_name(description["functions"])
    to_file = functions["dbss_report_download_to_file"]
    parameters = by_name(to_file["parameters"])
    assert parameters["flags"]["constants"] == ["DBSS_FILE_REPLACE"]
    assert parameters["path"]["encoding"] == "bytes"
    assert to_file["error"] == "operation"
    statuses = {"DBSS_ERR_NULL_ARGUMENT", "DBSS_ERR_FILE_EXISTS", "DBSS_ERR_STALLED"}
    assert statuses <= set(to_file["statuses"])
    assert functions["dbss_config_set"]["error"] == "thread"
    assert "DBSS_ERR_INVALID_TOKEN" in functions["dbss_config_set"]["statuses"]
    assert functions["dbss_operation_total"]["returns"]["none"] == -1
    assert functions["dbss_error_is_retryable"]["returns"]["boolean"] is True
    assert functions["dbss_error_retry_after_ms"]["returns"]["unit"] == "ms"
    index = by_name(functions["dbss_error_detail_code"]["parameters"])["index"]
    assert index["count"] == "dbss_error_detail_count"
    cursor = by_name(functions["dbss_reports_list"]["parameters"])["out_cursor"]
    assert "percentum" in by_name(description["items"][cursor["items"]])
    timeout = by_name(description["options"]["config"])["stall_timeout_ms"]
    assert timeout["allows_none"]
    assert (timeout["type"], timeout["minimum"]) == ("milliseconds", 1)
    callbacks = by_name(description["callbacks"])
    assert callbacks["dbss_write_fn"]["returns"]["nonzero"] == "DBSS_ERR_CANCELLED"
    assert callbacks["dbss_token_provider_fn"]["calls"] == "any_without_token"
    safe = [name for name, one in functions.items() if one["async_signal_safe"]]
    assert safe == ["dbss_operation_cancel"]


# The declarations of the Python package.

VALUE_TYPES = {
    "uint8_t": ctypes.c_uint8,
    "int32_t": ctypes.c_int32,
    "dbss_status": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "int": ctypes.c_int,
    "void": None,
    "void *": ctypes.c_void_p,
    # c_char_p is only right for strings that are not written to.
    "const char *": ctypes.c_char_p,
    "char *": ctypes.POINTER(ctypes.c_char),
}


def expected_type(name):
    """The ctypes type for a C type."""
    if name in VALUE_TYPES:
        return VALUE_TYPES[name]
    if name.endswith("*"):
        return ctypes.POINTER(expected_type(name.removesuffix("*").strip()))
    name = name.removeprefix("const ")
    if name in VALUE_TYPES:
        return VALUE_TYPES[name]
    camel = "".join(word.capitalize() for word in name.removeprefix("dbss_").split("_"))
    # The attribute with a handle's own name is the pointer type.
    return getattr(abi, f"_{camel}", None) or getattr(abi, camel)


def has_types(returns, arguments, described):
    # Both are pointers: in the package, `user_data` is a Python object.
    found = [ctypes.c_void_p if one is ctypes.py_object else one for one in (returns, *arguments)]
    parts = (described["returns"], *described["parameters"])
    return found == [expected_type(part["c_type"]) for part in parts]


def test_package_declares_the_functions_and_callbacks_of_the_header(description):
    functions = by_name(description["functions"])
    assert set(abi.library.functions) == set(functions)
    assert len(functions) > 100
    for name, one in abi.library.functions.items():
        assert getattr(abi, name.removeprefix("dbss_")) is one
        assert has_types(one.restype, one.argtypes, functions[name]), name
    assert len(description["callbacks"]) >= 6
    for described in description["callbacks"]:
        one = expected_type(described["name"])
        assert has_types(one._restype_, one._argtypes_, described), described["name"]
    [struct] = description["structs"]
    fields = [(one["name"], expected_type(one["c_type"])) for one in struct["fields"]]
    assert list(abi.Buffer._fields_) == fields


def test_fallible_functions_and_only_those_are_checked(description):
    check = abi.library._check_status
    checked = {name for name, one in abi.library.functions.items() if one.errcheck == check}
    # Others return a status as a value, not as the outcome of a call.
    assert checked == {
        one["name"]
        for one in description["functions"]
        if one["returns"]["c_type"] == "dbss_status"
        and not re.search(r"_(status|group|value)$", one["name"])
    }


def test_statuses_of_header_have_exactly_one_class_each():
    statuses = header_constants(r"DBSS_ERR_\w+")
    assert {one.status_name: status for status, one in errors.STATUSES.items()} == statuses
    assert all(one.status == status for status, one in errors.STATUSES.items())
    assert len(statuses) > 30
    members = [one for _, one in inspect.getmembers(errors, inspect.isclass)]
    classes = {one for one in members if issubclass(one, errors.Error)}
    assert classes == {*errors.STATUSES.values(), *errors.FILE_ERRORS.values(), errors.Error}
    for one in classes:
        assert getattr(dbss, one.__name__) is one
        assert one.__name__ in dbss.__all__


@pytest.mark.parametrize("status", sorted(errors.STATUSES))
def test_exception_class_has_group_and_name_of_its_status(status):
    one = errors.STATUSES[status]
    assert issubclass(one, errors.GROUPS[abi.status_group(status)])
    assert abi.status_name(status) == one.status_name.encode()
    words = one.__name__.removesuffix("Error")
    spelled = re.sub(r"(?<!^)(?=[A-Z])", "_", words).upper()
    assert one.status_name == f"DBSS_ERR_{spelled}"
    assert one.__module__ == "dbss"
    # A class with the name of a builtin exception derives from that exception.
    builtin = getattr(builtins, one.__name__, Exception)
    assert issubclass(one, builtin)


def test_versions_agree_in_all_files(description):
    # A Rust test compares the version of the pkg-config file with Cargo.toml.
    parts = [*header_constants(r"DBSS_VERSION_(?:MAJOR|MINOR|PATCH)").values()]
    version = ".".join(map(str, parts))
    [package] = re.findall(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert f'#define DBSS_VERSION "{version}"\n' in HEADER.read_text()
    assert {package, description["version"], dbss.__version__, dbss.version()} == {version}
    number = parts[0] * 10000 + parts[1] * 100 + parts[2]
    assert abi.version_number() == description["version_number"] == number


def test_handle_of_wrong_type_is_rejected():
    with ffi.temporary_handle(abi.Config, abi.config_new, abi.config_free) as config:
        for call, arguments in (
            (abi.context_set_token, (config, b"token")),
            (abi.error_free, (config,)),
            (abi.config_new, (ffi.byref(abi.Context()),)),
        ):
            with pytest.raises(ctypes.ArgumentError):
                call(*arguments)


def test_gil_is_released_only_by_blocking_functions(description):
    """A function that releases a callback must not wait for the GIL."""
    blocking = {one["name"] for one in description["functions"] if one["blocks"] != "never"}
    # Freeing a large buffer may take long.
    blocking.add("dbss_buffer_free")
    functions = abi.library.functions
    holding = {n for n, one in functions.items() if one._flags_ & ctypes._FUNCFLAG_PYTHONAPI}
    assert holding == set(functions) - blocking


def test_ctypes_is_imported_only_by_low_level_modules():
    imports = re.compile(r"^\s*(import|from) ctypes\b", re.MULTILINE)
    package = Path(ffi.__file__).parent.glob("*.py")
    users = {one.name for one in package if imports.search(one.read_text())}
    assert users == {"_abi.py", "ffi.py", "library.py"}


# include/dbss.cdef.h, for C parsers without a preprocessor.

LUA = """
local ffi = require('ffi')
ffi.cdef(io.open(arg[1]):read('*a'))
local dbss = ffi.load(arg[2])
local config, operation = ffi.new('dbss_config *[1]'), ffi.new('dbss_operation *[1]')
assert(dbss.dbss_config_new(config) == dbss.DBSS_OK)
assert(dbss.dbss_operation_new(operation) == dbss.DBSS_OK)
assert(dbss.dbss_config_set(config[0], 'nonsense', '1') == dbss.DBSS_ERR_UNKNOWN_KEY)
print(ffi.string(dbss.dbss_version()))
print(ffi.string(dbss.dbss_status_name(dbss.DBSS_ERR_CLOSED)))
print(ffi.string(dbss.dbss_error_parameter(dbss.dbss_last_error())))
dbss.dbss_operation_free(operation[0])
dbss.dbss_config_free(config[0])
"""
PHP = """<?php
$dbss = FFI::cdef(file_get_contents($argv[1]), $argv[2]);
$config = $dbss->new('dbss_config *');
$operation = $dbss->new('dbss_operation *');
if ($dbss->dbss_config_new(FFI::addr($config)) !== $dbss->DBSS_OK) exit(2);
if ($dbss->dbss_operation_new(FFI::addr($operation)) !== $dbss->DBSS_OK) exit(3);
if ($dbss->dbss_config_set($config, 'nonsense', '1') !== $dbss->DBSS_ERR_UNKNOWN_KEY) exit(4);
echo $dbss->dbss_version(), "\\n";
echo $dbss->dbss_status_name($dbss->DBSS_ERR_CLOSED), "\\n";
echo $dbss->dbss_error_parameter($dbss->dbss_last_error()), "\\n";
$dbss->dbss_operation_free($operation);
$dbss->dbss_config_free($config);
"""


@pytest.mark.parametrize(("command", "script"), [("luajit", LUA), ("php", PHP)], ids=["lua", "php"])
def test_interpreter_loads_cdef_unmodified(tmp_path, command, script):
    (tmp_path / "script").write_text(script)
    printed = output(need_tool(command), tmp_path / "script", CDEF, LIBRARY)
    version, status, parameter = printed.splitlines()
    assert version.count(".") == 2
    assert (status, parameter) == ("DBSS_ERR_CLOSED", "key")


def test_cdef_declares_what_the_header_declares():
    text = CDEF.read_text()
    assert "#" not in text
    # The parser supports neither comments nor the types of the system headers.
    types = "\n".join(c_declarations.STUBS.values()).replace("#define NULL ((void *)0)", "")
    generator = c_generator.CGenerator()

    def declarations(all_of):
        own = [one for one in all_of if isinstance(one, c_ast.Decl | c_ast.Typedef)]
        return {generator.visit(one) for one in own if (one.name or "").startswith("dbss_")}

    parsed = CParser().parse(types + text.partition("*/")[2]).ext
    assert declarations(parsed) == declarations(c_declarations.declarations(HEADER))


# Compatibility


def test_abi_is_compatible_with_baseline(baseline, description):
    assert list(breaking_changes(baseline, description)) == []


def at(abi, path):
    """A part of a description: names of rows, keys and numbers, with dots between."""
    for name in path.split(".") if path else ():
        if isinstance(abi, dict):
            abi = abi[name]
        else:
            abi = abi[int(name)] if name.isdigit() else by_name(abi)[name]
    return abi


def change(path, **changes):
    return lambda abi: at(abi, path).update(changes)


def remove(path, name=0):
    return lambda abi: at(abi, path).remove(at(abi, f"{path}.{name}"))


DOWNLOAD = "functions.dbss_report_download"
# Changes, and the problem that each is.
BREAKING_CHANGES = {
    "dbss_version: removed": remove("functions", "dbss_version"),
    "DBSS_ERR_BUSY: removed": remove("statuses", "DBSS_ERR_BUSY"),
    "dbss_page: removed": remove("handles", "dbss_page"),
    "DBSS_ERR_BUSY.value: 111 became 199": change("statuses.DBSS_ERR_BUSY", value=199),
    "statuses: two have the value 110": change("statuses.DBSS_ERR_BUSY", value=110),
    "dbss_error_detail_code.parameters[index].c_type: 'size_t' became 'int32_t'": change(
        "functions.dbss_error_detail_code.parameters.index", c_type="int32_t"
    ),
    "dbss_report_download.parameters[locale].nullability: 'optional' became 'required'": change(
        f"{DOWNLOAD}.parameters.locale", nullability="required"
    ),
    "dbss_report_download.parameters[id].name: 'id' became 'report'": change(
        f"{DOWNLOAD}.parameters.id", name="report"
    ),
    "dbss_report_download.parameters: 6 became 5": remove(f"{DOWNLOAD}.parameters", 5),
    "dbss_version.returns.ownership.kind: 'static' became 'owned'": change(
        "functions.dbss_version.returns", ownership={"kind": "owned", "free": "dbss_buffer_free"}
    ),
    "dbss_error_message.returns.nullable: False became True": change(
        "functions.dbss_error_message.returns", nullable=True
    ),
    "dbss_page_total.returns.for_null: -1 became 0": change(
        "functions.dbss_page_total.returns", for_null=0
    ),
    "dbss_config_set.blocks: 'never' became 'files'": change(
        "functions.dbss_config_set", blocks="files"
    ),
    "dbss_operation_cancel.async_signal_safe: True became False": change(
        "functions.dbss_operation_cancel", async_signal_safe=False
    ),
    "dbss_buffer.fields[data].name: 'data' became 'len'": (
        lambda abi: at(abi, "structs.0.fields").reverse()
    ),
    "dbss_buffer.layouts[1].size: 16 became 24": change("structs.0.layouts.1", size=24),
    "dbss_write_fn.concurrent: False became True": change(
        "callbacks.dbss_write_fn", concurrent=True
    ),
    "dbss_option_key.parameters[set].constants: without DBSS_OPTIONS_CONFIG": (
        lambda abi: at(abi, "functions.dbss_option_key.parameters.set.constants").pop(0)
    ),
    "region: removed": remove("options.config"),
    "id: removed": remove("items.report"),
    "max_attempts.default: '3' became '4'": change("options.config.max_attempts", default="4"),
    "soname: 'libdbss.so.0' became 'libdbss.so.1'": change("", soname="libdbss.so.1"),
    "dbss_version.since: '0.1.0' became '0.2.0'": change("functions.dbss_version", since="0.2.0"),
}


@pytest.mark.parametrize("problem", BREAKING_CHANGES)
def test_compare_breaking_change_is_reported(baseline, problem):
    changed = copy.deepcopy(baseline)
    BREAKING_CHANGES[problem](changed)
    assert problem in list(breaking_changes(baseline, changed))


def test_compare_addition_or_relaxed_contract_is_not_breaking(baseline):
    changed = copy.deepcopy(baseline)
    new = {**at(changed, "functions.dbss_version"), "name": "dbss_new", "since": "0.2.0"}
    changed["functions"].insert(0, new)
    changed["statuses"].append({**changed["statuses"][-1], "name": "DBSS_ERR_NEW", "value": 799})
    changed["version"] = "0.2.0"
    at(changed, f"{DOWNLOAD}.parameters.instance")["nullability"] = "optional"
    changed_new = at(changed, "functions.dbss_context_new")
    changed_new.update(blocks="briefly", doc="In other words.")
    changed_new["statuses"].append("DBSS_ERR_NEW")
    assert list(breaking_changes(baseline, changed)) == []
    assert additions(baseline, changed) == ["DBSS_ERR_NEW", "dbss_new"]
