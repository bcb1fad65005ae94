"""The machine-readable description of the ABI, and the compatibility check that uses it."""

import copy
import json
import re
import subprocess
from typing import Any

import jsonschema
import pytest
from pycparser import c_ast

import c_declarations
from compare import additions, breaking_changes, by_name

Description = dict[str, Any]


@pytest.fixture(scope="module")
def description(root):
    found = json.loads((root / "include/dbss-abi.json").read_text())
    return found


@pytest.fixture(scope="module")
def baseline(root):
    found = json.loads((root / "tests/abi/baseline.json").read_text())
    return found


def test_abi_description_matches_schema(root, description):
    schema = json.loads((root / "include/dbss-abi.schema.json").read_text())
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    validator(schema).validate(description)
    # The schema itself is strict: it rejects an unknown property.
    for function in ("dbss_version", "dbss_report_download"):
        wrong = copy.deepcopy(description)
        by_name(wrong["functions"])[function]["colour"] = "blue"
        assert not validator(schema).is_valid(wrong)


def test_abi_description_lists_exactly_exported_functions(library, description):
    command = ["nm", "--dynamic", "--defined-only", library]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert {line.split()[-1] for line in lines} == set(by_name(description["functions"]))
    command = ["readelf", "--dynamic", "--wide", library]
    dynamic = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"soname: \[(.*)\]", dynamic) == [description["soname"]]


def signatures(types):
    """The functions and callbacks by name: their return types and parameters."""
    return {
        name: [
            c_declarations.c_type(one.type),
            [
                (arg.name, c_declarations.c_type(arg.type))
                for arg in c_declarations.named_parameters(one)
            ],
        ]
        for name, one in types.items()
        if isinstance(one, c_ast.FuncDecl)
    }


def header_types(header):
    """The types of all names of the library; for a callback, the type of the function."""
    return {
        one.name: one.type.type
        if isinstance(one.type, c_ast.PtrDecl) and isinstance(one.type.type, c_ast.FuncDecl)
        else one.type
        for one in c_declarations.declarations(header)
        if one.name and one.name.startswith("dbss_")
    }


def test_abi_description_matches_header_types(root, description):
    described = {
        one["name"]: [
            one["returns"]["c_type"],
            [(arg["name"], arg["c_type"]) for arg in one["parameters"]],
        ]
        for one in (*description["functions"], *description["callbacks"])
    }
    types = header_types(root / "include/dbss.h")
    assert described == signatures(types)
    others = ("aliases", "handles", "structs")
    named = {one["name"] for table in others for one in description[table]}
    assert {*described, *named} == set(types)


def test_abi_description_matches_header_constants(root, description):
    text = (root / "include/dbss.h").read_text()
    found = re.findall(r"^#define (DBSS_\w+) (\d+)$", text, re.MULTILINE)
    constants = {name: int(value) for name, value in found if not name.startswith("DBSS_VERSION_")}
    rows = (*description["statuses"], *description["constants"])
    assert {one["name"]: one["value"] for one in rows} == constants


def test_abi_description_references_are_defined(description):
    functions = by_name(description["functions"])
    constants = by_name(description["constants"])
    kinds = {
        kind: by_name(description[table])
        for kind, table in (("handle", "handles"), ("struct", "structs"), ("callback", "callbacks"))
    }
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


def test_abi_description_struct_layout_matches_compiler(root, tmp_path, environment, description):
    [struct] = description["structs"]
    fields = [field["name"] for field in struct["fields"]]
    offsets = ", ".join(f"offsetof({struct['name']}, {field})" for field in fields)
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <dbss.h>\n#include <stdio.h>\n"
        f"int main(void) {{ size_t all[] = {{sizeof(void *), sizeof({struct['name']}), {offsets}}};"
        ' for (size_t i = 0; i < sizeof all / sizeof *all; i++) printf("%zu ", all[i]);'
        " return 0; }\n"
    )
    compiler = [environment.get("CC", "cc"), f"-I{root / 'include'}", source, "-o"]
    subprocess.run([*compiler, tmp_path / "layout"], check=True, timeout=60)
    out = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, timeout=60).stdout
    pointer, size, *offsets_there = (int(one) for one in out.split())
    layout = {one["pointer"]: one for one in struct["layouts"]}[pointer]
    assert (layout["size"], layout["offsets"]) == (size, offsets_there)


def test_abi_description_has_facts_for_wrappers(description):
    functions = by_name(description["functions"])
    to_file = functions["dbss_report_download_to_file"]
    parameters = by_name(to_file["parameters"])
    assert parameters["flags"]["constants"] == ["DBSS_FILE_REPLACE"]
    assert parameters["path"]["encoding"] == "bytes"
    assert to_file["error"] == "operation"
    assert {"DBSS_ERR_NULL_ARGUMENT", "DBSS_ERR_FILE_EXISTS", "DBSS_ERR_STALLED"} <= set(
        to_file["statuses"]
    )
    assert functions["dbss_config_set"]["error"] == "thread"
    assert "DBSS_ERR_INVALID_TOKEN" in functions["dbss_config_set"]["statuses"]
    assert functions["dbss_operation_total"]["returns"]["none"] == -1
    assert functions["dbss_error_is_retryable"]["returns"]["boolean"] is True
    assert functions["dbss_error_retry_after_ms"]["returns"]["unit"] == "ms"
    index = by_name(functions["dbss_error_detail_code"]["parameters"])["index"]
    assert index["count"] == "dbss_error_detail_count"
    cursor = by_name(functions["dbss_reports_list"]["parameters"])["out_cursor"]
    assert "percentum" in by_name(description["items"][cursor["items"]])
    [timeout] = [
        one for one in description["options"]["config"] if one["key"] == "stall_timeout_ms"
    ]
    assert timeout["allows_none"]
    assert (timeout["type"], timeout["minimum"]) == ("milliseconds", 1)
    callbacks = by_name(description["callbacks"])
    assert callbacks["dbss_write_fn"]["returns"]["nonzero"] == "DBSS_ERR_CANCELLED"
    assert callbacks["dbss_token_provider_fn"]["calls"] == "any_without_token"
    assert [one["name"] for one in functions.values() if one["async_signal_safe"]] == [
        "dbss_operation_cancel"
    ]


# Compatibility


def test_abi_is_compatible_with_baseline(baseline, description):
    assert list(breaking_changes(baseline, description)) == []


def function(name):
    return lambda abi: by_name(abi["functions"])[name]


def parameter(name, which):
    return lambda abi: by_name(function(name)(abi)["parameters"])[which]


def status(name):
    return lambda abi: by_name(abi["statuses"])[name]


def change(place, **changes):
    return lambda abi: place(abi).update(changes)


def remove(table, name):
    return lambda abi: abi[table].remove(by_name(abi[table])[name])


def result(name):
    return lambda abi: function(name)(abi)["returns"]


BREAKING_CHANGES = [
    (remove("functions", "dbss_version"), "dbss_version: removed"),
    (remove("statuses", "DBSS_ERR_BUSY"), "DBSS_ERR_BUSY: removed"),
    (remove("handles", "dbss_page"), "dbss_page: removed"),
    (change(status("DBSS_ERR_BUSY"), value=199), "DBSS_ERR_BUSY.value: 111 became 199"),
    (change(status("DBSS_ERR_BUSY"), value=110), "statuses: two have the value 110"),
    (
        change(parameter("dbss_error_detail_code", "index"), c_type="int32_t"),
        "dbss_error_detail_code.parameters[index].c_type: 'size_t' became 'int32_t'",
    ),
    (
        change(parameter("dbss_report_download", "locale"), nullability="required"),
        "dbss_report_download.parameters[locale].nullability: 'optional' became 'required'",
    ),
    (
        change(parameter("dbss_report_download", "id"), name="report"),
        "dbss_report_download.parameters[id].name: 'id' became 'report'",
    ),
    (
        lambda abi: function("dbss_report_download")(abi)["parameters"].pop(),
        "dbss_report_download.parameters: 6 became 5",
    ),
    (
        change(result("dbss_version"), ownership={"kind": "owned", "free": "dbss_buffer_free"}),
        "dbss_version.returns.ownership.kind: 'static' became 'owned'",
    ),
    (
        change(result("dbss_error_message"), nullable=True),
        "dbss_error_message.returns.nullable: False became True",
    ),
    (
        change(result("dbss_page_total"), for_null=0),
        "dbss_page_total.returns.for_null: -1 became 0",
    ),
    (
        change(function("dbss_config_set"), blocks="files"),
        "dbss_config_set.blocks: 'never' became 'files'",
    ),
    (
        change(function("dbss_operation_cancel"), async_signal_safe=False),
        "dbss_operation_cancel.async_signal_safe: True became False",
    ),
    (
        lambda abi: abi["structs"][0]["fields"].reverse(),
        "dbss_buffer.fields[data].name: 'data' became 'len'",
    ),
    (
        lambda abi: abi["structs"][0]["layouts"][1].update(size=24),
        "dbss_buffer.layouts[1].size: 16 became 24",
    ),
    (
        lambda abi: by_name(abi["callbacks"])["dbss_write_fn"].update(concurrent=True),
        "dbss_write_fn.concurrent: False became True",
    ),
    (
        lambda abi: parameter("dbss_option_key", "set")(abi)["constants"].pop(0),
        "dbss_option_key.parameters[set].constants: without DBSS_OPTIONS_CONFIG",
    ),
    (lambda abi: abi["options"]["config"].pop(0), "region: removed"),
    (lambda abi: abi["items"]["report"].pop(0), "id: removed"),
    (
        lambda abi: by_name(abi["options"]["config"])["max_attempts"].update(default="4"),
        "max_attempts.default: '3' became '4'",
    ),
    (
        change(lambda abi: abi, soname="libdbss.so.1"),
        "soname: 'libdbss.so.0' became 'libdbss.so.1'",
    ),
    (change(function("dbss_version"), since="0.2.0"), "dbss_version.since: '0.1.0' became '0.2.0'"),
]


@pytest.mark.parametrize(
    ("apply_change", "problem"), BREAKING_CHANGES, ids=[problem for _, problem in BREAKING_CHANGES]
)
def test_compare_breaking_change_is_reported(baseline, apply_change, problem):
    changed = copy.deepcopy(baseline)
    apply_change(changed)
    assert problem in list(breaking_changes(baseline, changed))


def test_compare_addition_or_relaxed_contract_is_not_breaking(baseline):
    changed = copy.deepcopy(baseline)
    new = {**by_name(changed["functions"])["dbss_version"], "name": "dbss_new", "since": "0.2.0"}
    changed["functions"].insert(0, new)
    changed["statuses"].append({**changed["statuses"][-1], "name": "DBSS_ERR_NEW", "value": 799})
    changed["version"] = "0.2.0"
    parameter("dbss_report_download", "instance")(changed)["nullability"] = "optional"
    function("dbss_context_new")(changed).update(blocks="briefly", doc="In other words.")
    function("dbss_context_new")(changed)["statuses"].append("DBSS_ERR_NEW")
    assert list(breaking_changes(baseline, changed)) == []
    assert additions(baseline, changed) == ["DBSS_ERR_NEW", "dbss_new"]
