"""The description of the ABI for wrappers, and the lock on the ABI that it makes."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import describe
from compare import added, broken, by_name

Description = dict[str, Any]


@pytest.fixture(scope="module")
def description(root: Path) -> Description:
    found: Description = json.loads((root / "include/dbss-abi.json").read_text())
    return found


@pytest.fixture(scope="module")
def baseline(root: Path) -> Description:
    found: Description = json.loads((root / "tests/abi/baseline.json").read_text())
    return found


def test_the_committed_description_is_up_to_date(root: Path) -> None:
    now = describe.text_of(describe.describe())
    assert (root / "include/dbss-abi.json").read_text() == now, "stale: run make abi"


def test_the_description_is_of_its_schema(root: Path, description: Description) -> None:
    schema = json.loads((root / "include/dbss-abi.schema.json").read_text())
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    validator(schema).validate(description)
    # The schema's own rules hold: what is no fact of the format is refused.
    for function in ("dbss_version", "dbss_report_download"):
        wrong = copy.deepcopy(description)
        by_name(wrong["functions"])[function]["colour"] = "blue"
        assert not validator(schema).is_valid(wrong)


def test_the_library_exports_exactly_what_is_described(
    library: Path, description: Description
) -> None:
    command = ["nm", "--dynamic", "--defined-only", library]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert {line.split()[-1] for line in lines} == set(by_name(description["functions"]))
    command = ["readelf", "--dynamic", "--wide", library]
    dynamic = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"soname: \[(.*)\]", dynamic) == [description["soname"]]


def test_all_that_the_description_names_is_described(description: Description) -> None:
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
    for one in (*kinds["handle"].values(), *kinds["struct"].values()):
        [parameter] = functions[one["free"]]["parameters"]
        assert (parameter["of"], parameter["nullability"]) == (one["name"], "ignored")


def test_the_layout_is_the_compilers(
    root: Path, tmp_path: Path, environment: dict[str, str], description: Description
) -> None:
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


# The lock


def test_the_abi_is_what_it_was(baseline: Description, description: Description) -> None:
    assert list(broken(baseline, description)) == []


def function(name: str) -> Callable[[Description], Any]:
    return lambda abi: by_name(abi["functions"])[name]


def parameter(name: str, which: str) -> Callable[[Description], Any]:
    return lambda abi: by_name(function(name)(abi)["parameters"])[which]


def status(name: str) -> Callable[[Description], Any]:
    return lambda abi: by_name(abi["statuses"])[name]


def setting(place: Callable[[Description], Any], **changes: Any) -> Callable[[Description], None]:
    return lambda abi: place(abi).update(changes)


def removing(table: str, name: str) -> Callable[[Description], None]:
    return lambda abi: abi[table].remove(by_name(abi[table])[name])


def result(name: str) -> Callable[[Description], Any]:
    return lambda abi: function(name)(abi)["returns"]


BREAKS: list[tuple[Callable[[Description], Any], str]] = [
    (removing("functions", "dbss_version"), "dbss_version: removed"),
    (removing("statuses", "DBSS_ERR_BUSY"), "DBSS_ERR_BUSY: removed"),
    (removing("handles", "dbss_page"), "dbss_page: removed"),
    (setting(status("DBSS_ERR_BUSY"), value=199), "DBSS_ERR_BUSY.value: 111 became 199"),
    (setting(status("DBSS_ERR_BUSY"), value=110), "statuses: two have the value 110"),
    (
        setting(parameter("dbss_error_detail_code", "index"), c_type="int32_t"),
        "dbss_error_detail_code.parameters[index].c_type: 'size_t' became 'int32_t'",
    ),
    (
        setting(parameter("dbss_report_download", "locale"), nullability="required"),
        "dbss_report_download.parameters[locale].nullability: 'optional' became 'required'",
    ),
    (
        setting(parameter("dbss_report_download", "id"), name="report"),
        "dbss_report_download.parameters[id].name: 'id' became 'report'",
    ),
    (
        lambda abi: function("dbss_report_download")(abi)["parameters"].pop(),
        "dbss_report_download.parameters: 6 became 5",
    ),
    (
        setting(result("dbss_version"), ownership={"kind": "owned", "free": "dbss_buffer_free"}),
        "dbss_version.returns.ownership.kind: 'static' became 'owned'",
    ),
    (
        setting(result("dbss_error_message"), nullable=True),
        "dbss_error_message.returns.nullable: False became True",
    ),
    (
        setting(result("dbss_page_total"), for_null=0),
        "dbss_page_total.returns.for_null: -1 became 0",
    ),
    (
        setting(function("dbss_config_set"), blocks=True),
        "dbss_config_set.blocks: False became True",
    ),
    (
        setting(function("dbss_operation_cancel"), async_signal_safe=False),
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
        lambda abi: by_name(abi["callbacks"])["dbss_write_fn"].update(thread="any"),
        "dbss_write_fn.thread: 'calling' became 'any'",
    ),
    (
        setting(lambda abi: abi, soname="libdbss.so.1"),
        "soname: 'libdbss.so.0' became 'libdbss.so.1'",
    ),
    (
        setting(function("dbss_version"), since="0.2.0"),
        "dbss_version.since: '0.1.0' became '0.2.0'",
    ),
]


@pytest.mark.parametrize(("change", "problem"), BREAKS, ids=[problem for _, problem in BREAKS])
def test_a_break_is_found(
    baseline: Description, change: Callable[[Description], Any], problem: str
) -> None:
    changed = copy.deepcopy(baseline)
    change(changed)
    assert problem in list(broken(baseline, changed))


def test_additions_and_larger_promises_are_none(baseline: Description) -> None:
    changed = copy.deepcopy(baseline)
    new = {**by_name(changed["functions"])["dbss_version"], "name": "dbss_new", "since": "0.2.0"}
    changed["functions"].insert(0, new)
    changed["statuses"].append({**changed["statuses"][-1], "name": "DBSS_ERR_NEW", "value": 799})
    changed["version"] = "0.2.0"
    parameter("dbss_report_download", "instance")(changed)["nullability"] = "optional"
    function("dbss_context_new")(changed).update(blocks=False, doc="In other words.")
    assert list(broken(baseline, changed)) == []
    assert added(baseline, changed) == ["DBSS_ERR_NEW", "dbss_new"]


def test_what_is_new_is_of_this_version_and_the_rest_as_it_was(
    root: Path, tmp_path: Path, description: Description
) -> None:
    last = copy.deepcopy(description)
    removing("functions", "dbss_page_total")(last)
    setting(function("dbss_version"), since="0.0.9")(last)
    path = tmp_path / "last.json"
    path.write_text(json.dumps(last))
    now = by_name(describe.describe(root / "include/dbss.h", path)["functions"])
    assert now["dbss_page_total"]["since"] == description["version"]
    assert now["dbss_version"]["since"] == "0.0.9"


def without(header: str, item: str, words: str) -> str:
    """The header without these words in the comment of an item."""
    pattern = rf"/\*\*\n((?: \*(?!/).*\n)+) \*/\n(?=.*\b{item}\)?\()"
    [comment] = re.finditer(pattern, header)
    flat = " ".join(line.removeprefix(" *").strip() for line in comment[1].splitlines())
    assert words in flat
    return header.replace(comment[0], f"/**\n * {flat.replace(words, '')}\n */\n")


# Each is what the comment of a new function could forget.
FORGOTTEN = [
    ("dbss_page_total", "Never blocks. ", "whether it blocks"),
    ("dbss_page_total", "Any thread.", "on which threads it may be called"),
    ("dbss_page_total", ", and for NULL", "what it is for NULL"),
    ("dbss_page_free", "NULL does nothing. ", "that NULL does nothing"),
    ("dbss_page_field", "Returns a string that is valid until dbss_page_free();", "who frees what"),
    ("dbss_version", ", never NULL", "when it is NULL"),
    ("dbss_mirror_new", "they are yours: end them with dbss_mirror_free(). ", "`out_mirror`"),
    ("dbss_mirror_set", "`mirror`, ", "whether `mirror` may be NULL"),
    ("dbss_report_open", " as for dbss_report_download()", "whether `ctx` may be NULL"),
    ("dbss_log_fn", "Runs on any thread, on several at once, with no lock held. ", "which thread"),
    ("dbss_log_fn", ", valid until it returns", "how long `message` is valid"),
]


@pytest.mark.parametrize(("item", "words", "complaint"), FORGOTTEN)
def test_a_comment_without_a_fact_is_refused(
    root: Path, tmp_path: Path, item: str, words: str, complaint: str
) -> None:
    header = tmp_path / "dbss.h"
    header.write_text(without((root / "include/dbss.h").read_text(), item, words))
    with pytest.raises(describe.UnclearError, match=re.escape(complaint)) as unclear:
        describe.describe(header)
    assert str(unclear.value).startswith(item)
