"""Checks that an ABI is compatible with an older one: only additions are allowed.

compare.py OLD NEW             compares two descriptions (dbss-abi.json)
compare.py --record NEW OLD    writes a description as the old one: what is compared of it
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Texts for people, and properties that each version has of its own.
IGNORED_KEYS = {
    "$schema",
    "format",
    "version",
    "version_number",
    "section",
    "summary",
    "doc",
    "errors",
    "help",
    "range",
}

# Other lists to which values may be added.
EXTENSIBLE_LISTS = {"constants", "values", "choices"}

# Compatible changes: a function requires less of its caller, or guarantees more.
COMPATIBLE_CHANGES: dict[str, set[tuple[object, object]]] = {
    "nullability": {("required", "optional")},
    "nullable": {(True, False)},
    "blocks": {
        (worse, better)
        for worse, better in itertools.combinations(("network", "files", "briefly", "never"), 2)
    },
    "async_signal_safe": {(False, True)},
    "concurrent": {(True, False)},
    "calls": {("getters", "any"), ("getters", "any_without_token"), ("any_without_token", "any")},
    "threads": {("one_call_at_a_time", "any")},
}


def by_name(items: list[Any]) -> dict[str, Any]:
    """The rows of a table by name; an option has a key instead."""
    return {one["name"] if "name" in one else one["key"]: one for one in items}


def is_table(place: str) -> bool:
    """Whether a list has named entries, to which entries may be added."""
    return "." not in place or place.startswith(("options.", "items."))


def tables(description: dict[str, Any], place: str = "") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for key, value in description.items():
        if isinstance(value, dict):
            found |= tables(value, f"{key}.")
        elif isinstance(value, list) and is_table(f"{place}{key}"):
            found[f"{place}{key}"] = value
    return found


def breaking_changes(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Yields a line for each change that may break a program."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            # A program treats an unexpected status like the status of its group.
            if key in IGNORED_KEYS or (key == "statuses" and place):
                continue
            if key not in new:
                yield f"{place}.{key}: removed"
            elif key not in COMPATIBLE_CHANGES or (value, new[key]) not in COMPATIBLE_CHANGES[key]:
                yield from breaking_changes(value, new[key], f"{place}.{key}" if place else key)
    elif isinstance(old, list) and isinstance(new, list):
        if is_table(place):
            yield from breaking_table_changes(old, new, place)
        elif place.rpartition(".")[2] in EXTENSIBLE_LISTS:
            yield from (f"{place}: without {one}" for one in old if one not in new)
        elif len(old) != len(new):
            yield f"{place}: {len(old)} became {len(new)}"
        else:
            for i, (one, other) in enumerate(zip(old, new, strict=True)):
                name = one["name"] if isinstance(one, dict) and "name" in one else i
                yield from breaking_changes(one, other, f"{place}[{name}]")
    elif old != new:
        yield f"{place}: {old!r} became {new!r}"


def breaking_table_changes(old: list[Any], new: list[Any], place: str) -> Iterator[str]:
    """The same for a list of named entries."""
    now = by_name(new)
    for name, one in by_name(old).items():
        if name not in now:
            yield f"{name}: removed"
        else:
            yield from breaking_changes(one, now[name], name)
    values = [one["value"] for one in new] if place == "statuses" else []
    for value in sorted({one for one in values if values.count(one) > 1}):
        yield f"{place}: two have the value {value}"


def additions(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    # An older description lacks newer tables.
    known = tables(old)
    return [
        name
        for table, rows in tables(new).items()
        for name in by_name(rows)
        if name not in by_name(known.get(table, []))
    ]


def compared(value: Any) -> Any:
    """A description without what is not compared."""
    if isinstance(value, dict):
        return {key: compared(one) for key, one in value.items() if key not in IGNORED_KEYS}
    return [compared(one) for one in value] if isinstance(value, list) else value


def written(value: Any, depth: int = 0) -> str:
    """As JSON, with a line for each named entry."""
    if isinstance(value, dict) and depth < 2:
        parts = (f"{json.dumps(key)}: {written(one, depth + 1)}" for key, one in value.items())
        return "{\n" + ",\n".join(parts) + "}"
    if isinstance(value, list):
        return "[\n  " + ",\n  ".join(json.dumps(one) for one in value) + "]"
    return json.dumps(value)


def main(old_path: str, new_path: str) -> None:
    old, new = (json.loads(Path(path).read_text()) for path in (old_path, new_path))
    problems = list(breaking_changes(old, new))
    for name in additions(old, new):
        print(f"added: {name}")
    for problem in problems:
        print(f"BROKEN: {problem}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    if sys.argv[1] == "--record":
        new = json.loads(Path(sys.argv[2]).read_text())
        Path(sys.argv[3]).write_text(written(compared(new)) + "\n")
    else:
        main(*sys.argv[1:])
