"""Formats the cases: one line for each step and each row of a table. Writes skips.json anew.

With --check it only compares.

python tests/conformance/format.py [--check]
"""

from __future__ import annotations

import json
import sys
from typing import Any

import cases

# Where a line is too long.
LONG = 600


def line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def rows(value: Any) -> str:
    """A list of objects has a line for each, and so have values of a name that are long."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n      " + ",\n      ".join(line(one) for one in value) + "]"
    if isinstance(value, dict) and len(line(value)) > LONG:
        return "{" + ",\n      ".join(f"{line(k)}: {named(v)}" for k, v in value.items()) + "}"
    return line(value)


def named(values: Any) -> str:
    if isinstance(values, dict) and len(line(values)) > LONG:
        lines = (f"{line(key)}: {line(one)}" for key, one in values.items())
        return "{\n      " + ",\n      ".join(lines) + "}"
    return line(values)


def formatted(data: dict[str, Any]) -> str:
    parts = []
    for case in data["cases"]:
        head = [f"{line(key)}: {rows(value)}" for key, value in case.items() if key != "steps"]
        steps = ",\n      ".join(line(step) for step in case["steps"])
        parts.append("  {" + ",\n   ".join([*head, f'"steps": [\n      {steps}]']) + "}")
    tables = [
        f"   {line(name)}: {{\n"
        + ",\n".join(f"      {line(key)}: {line(value)}" for key, value in table.items())
        + "}"
        for name, table in data.get("tables", {}).items()
    ]
    names = [f"   {line(name)}: {line(value)}" for name, value in data.get("names", {}).items()]
    head = "{" + ('"names": {\n' + ",\n".join(names) + "},\n " if names else "")
    head += '"tables": {\n' + ",\n".join(tables) + "},\n " if tables else ""
    return head + '"cases": [\n' + ",\n".join(parts) + "\n]}\n"


def main() -> int:
    different = []
    wanted = {path: formatted(json.loads(path.read_text())) for path in cases.case_files()}
    wanted[cases.DIRECTORY / "skips.json"] = json.dumps(cases.skips(), indent=2) + "\n"
    for path, text in wanted.items():
        if path.read_text() != text:
            different.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if different and "--check" in sys.argv:
        print(f"not formatted: {', '.join(different)}; run tests/conformance/format.py")
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as mistake:
        sys.exit(str(mistake))
