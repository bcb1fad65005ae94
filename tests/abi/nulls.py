"""Generates a C check for each function: all combinations of NULL and valid pointers.

The output is for tests/c/nulls.c, and comes from include/dbss-abi.json. It includes new
functions automatically. If no valid value is known for a parameter, this program or the
C compiler fails. With the argument "values" it generates functions that make handles, for
tests/c/errors.c too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DESCRIPTION = Path(__file__).resolve().parents[2] / "include/dbss-abi.json"

# Valid values by parameter name; a key with a function name has precedence.
VALUES = {
    "dbss_databases_list.status": '"ON"',
    "dbss_mirror_options_set.key": '"parallel"',
    "dbss_mirror_options_set.value": '"1"',
    "dbss_report_spec_set.key": '"start_time"',
    "dbss_schedule_changes_set.key": '"mode"',
    "dbss_has_feature.name": '"download"',
    "access_key": '"AKEXAMPLE"',
    "cap": "DBSS_ID_SIZE",
    "directory": "scratch_directory()",
    "domain": '"domain"',
    "endpoint": 'fixture("http")',
    "expires_ms": "-1",
    "fd": "null_device()",
    "field": '"id"',
    "flags": "0",
    "id": 'fixture("pdf")',
    "index": "0",
    "instance": 'fixture("instance")',
    "key": '"max_attempts"',
    "locale": '"en-us"',
    "message": '"no reason"',
    "name": '"report"',
    "page_size": "0",
    "password": '"password"',
    "path": 'text("%s/report", scratch_directory())',
    "project": 'fixture("project")',
    "region": '"cn-north-4"',
    "set": "DBSS_OPTIONS_CONFIG",
    "secret_key": '"secret"',
    "security_token": '"temporary"',
    "status": "DBSS_OK",
    "template_id": 'fixture("instance")',
    "token": 'fixture("token")',
    "user": '"user"',
    "value": '"2"',
}

# How handles are made that a function without other parameters makes: what is set in them,
# and what follows. A call with a cancelled operation ends at once.
MADE = {
    "config": ['set(made, "endpoint", fixture("http"))'],
    "operation": ["cancel(made)"],
    "mirror_options": [
        'set(made, "instance", fixture("instance"))',
        'set(made, "template", "of no report")',
    ],
    "report_spec": [
        'set(made, "template_id", fixture("template"))',
        'set(made, "start_time", "2026-11-23 00:00:00")',
        'set(made, "end_time", "2026-11-24 00:00:00")',
    ],
    "schedule_changes": ['set(made, "status", "ON")'],
}

# Handles that are slow to create. All calls share one, unless they free or close it.
SHARED = {
    "dbss_context",
    "dbss_credentials",
    "dbss_mirror_result",
    "dbss_page",
    "dbss_report_stream",
}


def value(function: str, parameter: str) -> str:
    for name in (f"{function}.{parameter}", parameter):
        if name in VALUES:
            return VALUES[name]
    sys.exit(f"nulls.py: what is a valid `{parameter}` of {function}?")


class Check:
    """The check of one function."""

    def __init__(self, function: dict[str, Any], unmakable: set[str]) -> None:
        # Handles that exist only in callbacks.
        self.unmakable = unmakable
        self.function = function
        self.name: str = function["name"]
        self.parameters: list[dict[str, Any]] = function["parameters"]
        self.pointers = [one for one in self.parameters if "nullability" in one]
        self.before: list[str] = []
        self.after: list[str] = []

    def is_null(self, parameter: dict[str, Any]) -> str:
        if parameter.get("of") in self.unmakable:
            return "1"
        return f"(mask & {1 << self.pointers.index(parameter)}) != 0"

    def first(self, nullability: str) -> str:
        """C code for the name of the first parameter of this nullability that is NULL."""
        found = "NULL"
        # The library checks out-parameters first.
        order = sorted(self.pointers, key=lambda one: not one["name"].startswith("out_"))
        for one in reversed([one for one in order if one["nullability"] == nullability]):
            found = f'{self.is_null(one)} ? "{one["name"]}" : {found}'
        return found

    def argument(self, one: dict[str, Any]) -> str:
        """C code for the argument, if it is not NULL."""
        name, kind, of = one["name"], one["kind"], one.get("of", "")
        if one["direction"] == "out" and kind != "bytes":
            base = one["c_type"].removesuffix("*").strip()
            self.before.append(f"{base} {name} = {self.garbage(kind)};")
            self.after.append(self.emptiness(one))
            return f"&{name}"
        if kind == "bytes":
            self.before.append('char bytes[DBSS_ID_SIZE] = "garbage";')
            if name.startswith("out_"):
                expected = f"({self.is_null(one)} ? 'g' : '\\0')"
                self.after.append(f"CHECK(status == DBSS_OK || *bytes == {expected});")
            return "bytes"
        if kind == "callback":
            return f"a_{of}"
        if kind == "user_data":
            return "&mark"
        if one.get("of") in self.unmakable:
            return "NULL"
        if kind in ("handle", "struct"):
            return self.handle(one)
        return value(self.name, name)

    def handle(self, one: dict[str, Any]) -> str:
        kind = one["of"].removeprefix("dbss_")
        name = one["name"]
        ends = self.name == f"{one['of']}_free"
        closes = self.name == f"{one['of']}_close"
        if one["of"] in SHARED and not ends and not closes:
            return f"shared.{kind}{'[missing != NULL]' if kind == 'context' else ''}"
        if one["of"] == "dbss_buffer":
            self.before.append("dbss_buffer valid_buffer = make_buffer();")
            self.after.append("dbss_buffer_free(&valid_buffer);")
            return "&valid_buffer"
        self.before.append(f"{one['of']} *valid_{name} = make_{kind}();")
        condition = f"if ({self.is_null(one)}) " if ends else ""
        self.after.append(f"{condition}{one['of']}_free(valid_{name});")
        return f"valid_{name}"

    @staticmethod
    def garbage(kind: str) -> str:
        return {"handle": "garbage", "struct": "{garbage, 1}", "integer": "77"}[kind]

    def emptiness(self, one: dict[str, Any]) -> str:
        """C code that checks an out-parameter after a failure, and frees its value."""
        name, kind = one["name"], one["kind"]
        empty = {
            "handle": f"{name} == NULL",
            "struct": f"{name}.data == NULL && {name}.len == 0",
            "integer": f"{name} == 0",
        }[kind]
        untouched = {
            "handle": f"{name} == garbage",
            "struct": f"{name}.len == 1",
            "integer": f"{name} == 77",
        }[kind]
        checked = "missing != NULL" if one["set_on_failure"] else "status != DBSS_OK"
        free = one.get("ownership", {}).get("free")
        end = "" if free is None else f" else {free}({'&' if kind == 'struct' else ''}{name});"
        return f"""if ({self.is_null(one)}) {{
            CHECK({untouched});
        }} else if ({checked}) {{
            CHECK({empty});
        }}{end}"""

    def call(self) -> str:
        arguments = []
        for one in self.parameters:
            argument = self.argument(one)
            if "nullability" in one:
                argument = f"{self.is_null(one)} ? NULL : {argument}"
            arguments.append(argument)
        return f"{self.name}({', '.join(arguments)})"

    def fallible(self, call: str) -> list[str]:
        network = int(self.function["blocks"] == "network")
        return [f"dbss_status status = {call};", f"expect_status(status, missing, {network});"]

    def other(self, call: str) -> list[str]:
        returns = self.function["returns"]
        if returns["kind"] == "void":
            return [f"{call};"]
        base = returns["c_type"]
        lines = [f"{base}{'' if base.endswith('*') else ' '}result = {call};"]
        if "for_null" in returns:
            known = returns["for_null"]
            if known is None:
                lines.append("if (missing != NULL) CHECK(result == NULL);")
            elif isinstance(known, str):
                lines.append(f'if (missing != NULL) expect_text(__LINE__, "{known}", result);')
            else:
                lines.append(f"if (missing != NULL) CHECK(result == {known});")
        if returns.get("nullable") is False:
            lines.append("CHECK(missing != NULL || result != NULL);")
        if returns["kind"] == "string":
            lines.append("read_string(result);")
        if returns.get("ownership", {}).get("kind") == "owned":
            lines.append(f"{returns['ownership']['free']}(result);")
        return [*lines, "(void)result;"]

    def destroyed(self) -> list[str]:
        """C code that checks that each destroy function has run once."""
        lines = []
        for group in self.function["callbacks"]:
            if group["destroy"] is not None:
                [one] = [p for p in self.pointers if p["name"] == group["destroy"]]
                lines.append(f"CHECK(times_destroyed == ({self.is_null(one)} ? 0 : 1));")
        return lines

    def text(self) -> str:
        call = self.call()
        fallible = self.function["fallible"]
        called = self.fallible(call) if fallible else self.other(call)
        nullability = "required" if fallible else "ignored"
        loop = [
            f"const char *missing = {self.first(nullability)};",
            *self.before,
            "times_destroyed = 0;",
            *called,
            *self.after,
            *self.destroyed(),
            "(void)missing;",
            'add_failure_context("combination %#x", mask);',
        ]
        body = "\n        ".join(loop)
        # Only failing calls must not connect; other functions may need handles of the service.
        before, after = "\n    make_shared();", ""
        if fallible:
            before = "\n    make_shared();\n    long connections = count_connections();"
            after = "\n    CHECK(connections == count_connections());"
        return f"""static void check_{self.name}(void);
ADD_CHECK({self.name}, check_{self.name}, PLAIN)
static void check_{self.name}(void)
{{
    unsigned mask;{before}
    for (mask = 0; mask < {1 << len(self.pointers)}; mask++) {{
        {body}
    }}{after}
}}
"""


def maker(kind: str, steps: list[str]) -> str:
    calls = [f"dbss_{kind}_{step}" for step in steps]
    made = [f"require_ok({call});" if "_set(" in call else f"{call};" for call in calls]
    body = "\n    ".join([f"require_ok(dbss_{kind}_new(&made));", *made, "return made;"])
    return f"""static inline dbss_{kind} *make_{kind}(void)
{{
    dbss_{kind} *made;
    {body}
}}
"""


def stub(callback: dict[str, Any]) -> str:
    """A callback that does nothing."""
    parameters = ", ".join(f"{one['c_type']} {one['name']}" for one in callback["parameters"])
    returned = "" if callback["returns"]["kind"] == "void" else " return 0; "
    head = f"static {callback['returns']['c_type']} a_{callback['name']}({parameters})"
    return f"{head} {{{returned}}}\n"


def main() -> None:
    description = json.loads(DESCRIPTION.read_text())
    functions = description["functions"]
    unmakable = {one["name"] for one in description["handles"] if one["free"] is None}
    print("/* Written by tests/abi/nulls.py. */\n")
    if sys.argv[1:] == ["values"]:
        for kind, steps in MADE.items():
            print(maker(kind, steps))
        return
    for callback in description["callbacks"]:
        # The others do something in nulls.c.
        if callback["name"] not in ("dbss_destroy_fn", "dbss_token_provider_fn"):
            print(stub(callback))
    for function in functions:
        print(Check(function, unmakable).text())


if __name__ == "__main__":
    main()
