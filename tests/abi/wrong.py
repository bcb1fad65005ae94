"""Generates C calls of each function that takes an operation, with one invalid argument each.

The output is for tests/c/errors.c, and comes from include/dbss-abi.json. It includes new
functions automatically. A new parameter needs a valid value in nulls.py. Invalid values
other than NULL and invalid UTF-8 are listed below. Each expected status must be among the
statuses that the description lists for the function.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from nulls import DESCRIPTION, value

# An invalid value as C code, the status, and the parameter that the error names (None: the
# parameter itself; "": none). In the table below a key with a function name has precedence.
Wrong = tuple[str, str, "str | None"]

ID: list[Wrong] = [
    ('"short"', "DBSS_ERR_INVALID_ID", None),
    ('"0123456789abcdef0123456789abcd/f"', "DBSS_ERR_INVALID_ID", None),
    (f'"{"0123456789abcdef" * 4}0"', "DBSS_ERR_INVALID_ID", None),
]
WAYS: dict[str, list[Wrong]] = {
    "cap": [("0", "DBSS_ERR_ARGUMENT", None)],
    "ctx": [
        ("handles.closed", "DBSS_ERR_CLOSED", None),
        ("handles.unreachable", "DBSS_ERR_CONNECT", ""),
        ("handles.without_token", "DBSS_ERR_NOT_CONFIGURED", "credentials"),
        ("handles.unauthenticated", "DBSS_ERR_UNAUTHENTICATED", ""),
    ],
    "changes": [("handles.empty_changes", "DBSS_ERR_NOT_CONFIGURED", None)],
    "cursor": [
        ("handles.cursor_of_closed", "DBSS_ERR_CLOSED", "ctx"),
        ("cursor_of(handles.unreachable)", "DBSS_ERR_CONNECT", ""),
        ("cursor_of(handles.unauthenticated)", "DBSS_ERR_UNAUTHENTICATED", ""),
    ],
    # This call does not send the token, so a wrong one does not fail.
    "dbss_context_find_credentials.ctx": [
        ("handles.closed", "DBSS_ERR_CLOSED", None),
        ("handles.without_token", "DBSS_ERR_NOT_CONFIGURED", "credentials"),
    ],
    "dbss_reports_mirror.directory": [
        ('""', "DBSS_ERR_INVALID_VALUE", None),
        ('"/dev/null/archive"', "DBSS_ERR_FILE", ""),
    ],
    "directory": [
        ('""', "DBSS_ERR_INVALID_VALUE", None),
        ('"/no/such/directory"', "DBSS_ERR_FILE", ""),
        ('"/dev/null"', "DBSS_ERR_FILE", ""),
    ],
    "fd": [
        *(
            (fd, "DBSS_ERR_ARGUMENT", None)
            for fd in ("-1", "-2", "INT32_MAX", "handles.reading_end")
        ),
        ("closed_descriptor()", "DBSS_ERR_ARGUMENT", None),
        ("handles.read_only", "DBSS_ERR_ARGUMENT", None),
    ],
    "flags": [("2", "DBSS_ERR_INVALID_VALUE", None), ("1u << 31", "DBSS_ERR_INVALID_VALUE", None)],
    "id": [*ID, ("handles.unknown_id", "DBSS_ERR_NOT_FOUND", "")],
    "instance": ID,
    "locale": [('"fr-fr"', "DBSS_ERR_INVALID_LOCALE", None)],
    "path": [
        ('""', "DBSS_ERR_INVALID_VALUE", None),
        ('"/no/such/directory/report"', "DBSS_ERR_FILE", ""),
        ('"/dev/null"', "DBSS_ERR_NOT_REGULAR_FILE", ""),
        ("taken_file()", "DBSS_ERR_FILE_EXISTS", ""),
    ],
    "project": ID,
    "spec": [("handles.empty_spec", "DBSS_ERR_NOT_CONFIGURED", "template_id")],
    "template_id": [*ID, ("handles.unknown_id", "DBSS_ERR_NOT_FOUND", "")],
    "stream": [
        ("closed(stream)", "DBSS_ERR_CLOSED", None),
        ("of_closed_context(stream)", "DBSS_ERR_CANCELLED", ""),
    ],
}

# Valid arguments that differ from those of nulls.py, because these calls may succeed.
VALID = {
    "dbss_report_delete.id": "add_report(6000)",
    "directory": "handles.directory",
    "dbss_report_download_to_directory.flags": "DBSS_FILE_REPLACE",
    "path": "fresh_file()",
    "template_id": 'fixture("template")',
}


class Call:
    """Generates a C function that makes one call, with at most one invalid argument."""

    def __init__(self, function: dict[str, Any]) -> None:
        self.name: str = function["name"]
        self.parameters: list[dict[str, Any]] = function["parameters"]
        self.statuses: list[str] = function["statuses"]
        self.before: list[str] = []
        self.after: list[str] = []
        self.ways = [(one["name"], *way) for one in self.parameters for way in self.ways_of(one)]

    def ways_of(self, one: dict[str, Any]) -> list[Wrong]:
        name = one["name"]
        ways: list[Wrong] = []
        # The operation belongs to the stream, so it must not be NULL.
        if one.get("nullability") == "required" and name != "stream":
            ways.append(("NULL", "DBSS_ERR_NULL_ARGUMENT", None))
        if one.get("encoding") == "utf-8":
            ways.append(('"\\xff"', "DBSS_ERR_INVALID_UTF8", None))
        ways += WAYS.get(f"{self.name}.{name}", WAYS.get(name, []))
        for wrong, status, _ in ways:
            if status not in self.statuses:
                sys.exit(f"wrong.py: {self.name} with {wrong}: {status} is not among its statuses")
        return ways

    def declare(self, one: dict[str, Any]) -> None:
        name, c_type = one["name"], one["c_type"]
        if one["direction"] == "out":
            self.declare_result(one)
        space = "" if c_type.endswith("*") else " "
        self.before.append(f"{c_type}{space}{name} = {self.valid(one)};")

    def declare_result(self, one: dict[str, Any]) -> None:
        """Declares the variable of an out-parameter, and the check of its value."""
        name, kind = one["name"], one["kind"]
        if kind == "bytes":
            self.before.append('char bytes[DBSS_ID_SIZE] = "garbage";')
            if name.startswith("out_"):
                self.after.append(f"CHECK(status == DBSS_OK || {name} == NULL || *bytes == '\\0');")
            return
        garbage, empty = {
            "handle": ("garbage", "value == NULL"),
            "struct": ("{garbage, 1}", "value.data == NULL && value.len == 0"),
            "integer": ("77", "value == 0"),
        }[kind]
        base = one["c_type"].removesuffix("*").strip()
        self.before.append(f"{base}{'' if base.endswith('*') else ' '}value = {garbage};")
        free = one.get("ownership", {}).get("free")
        if one["set_on_failure"]:
            self.after.append(f"if ({name} != NULL) {free}(value);")
            return
        end = f"{free}({'&' if kind == 'struct' else ''}value)" if free else "(void)value"
        self.after.append(f"if (status == DBSS_OK) {end};")
        self.after.append(f"else if ({name} != NULL) CHECK({empty});")

    def valid(self, one: dict[str, Any]) -> str:
        name, kind = one["name"], one["kind"]
        if one["direction"] == "out":
            return "bytes" if kind == "bytes" else "&value"
        if kind == "callback":
            return f"a_{one['of']}"
        if kind == "user_data":
            return "NULL"
        if name == "stream":
            # The stream is opened with the operation.
            self.after.append("free_stream(stream);")
            return "valid_stream(operation)"
        if name in ("options", "spec", "changes"):
            return f"handles.{name}"
        if kind == "handle":
            return f"valid_{one['of'].removeprefix('dbss_')}()"
        for known in (f"{self.name}.{name}", name):
            if known in VALID:
                return VALID[known]
        return value(self.name, name)

    def text(self) -> str:
        for one in self.parameters:
            if one["name"] != "operation":
                self.declare(one)
        cases = [
            f"case {index}: {name} = {wrong}; break;"
            for index, (name, wrong, _, _) in enumerate(self.ways)
        ]
        lines = "\n    ".join(
            [
                *self.before,
                "dbss_status status;",
                "switch (wrong) {",
                *cases,
                "default: break;",
                "}",
                f"status = {self.name}({', '.join(one['name'] for one in self.parameters)});",
                *self.after,
                "return status;",
            ]
        )
        return f"""static dbss_status call_{self.name}(int wrong, dbss_operation *operation)
{{
    {lines}
}}
"""

    def rows(self) -> list[str]:
        rows = [f'{{"{self.name}", "all is right", DBSS_OK, NULL, -1, call_{self.name}}},']
        for index, (name, wrong, status, parameter) in enumerate(self.ways):
            what = f"{name} = {wrong}".replace("\\", "\\\\").replace('"', '\\"')
            named = {None: f'"{name}"', "": "NULL"}.get(parameter, f'"{parameter}"')
            row = f'"{self.name}", "{what}", {status}, {named}, {index}, call_{self.name}'
            rows.append(f"{{{row}}},")
        return rows


def main() -> None:
    functions = json.loads(DESCRIPTION.read_text())["functions"]
    calls = [Call(one) for one in functions if one["error"] == "operation"]
    print("/* Written by tests/abi/wrong.py. */\n")
    for call in calls:
        print(call.text())
    print("static const struct wrong wrongs[] = {")
    for call in calls:
        print("    " + "\n    ".join(call.rows()))
    print("};")


if __name__ == "__main__":
    main()
