"""What is expected of values, files and texts, and what differs."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ABI = json.loads((Path(__file__).parent / "../../include/dbss-abi.json").read_text())
STATUSES = {one["name"]: one for one in ABI["statuses"]}

# The exit codes of statuses, and of the other statuses by their group.
EXIT_CODES = {202: 3, 203: 3, 204: 4, 212: 11, 405: 12}
GROUP_EXIT_CODES = {0: 0, 1: 2, 2: 5, 3: 6, 4: 7, 5: 7, 6: 130, 7: 1}

# What drives a terminal or reorders a line.
TERMINAL_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u2028-\u202e\u2066-\u2069\ufeff"
    r"\U000e0000-\U000e0fff]"
)


class Failure(AssertionError):
    """What a case expects did not happen."""


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def contains(actual: Any, wanted: Any) -> bool:
    of_rows = isinstance(actual, list) and any(isinstance(one, list) for one in actual)
    if isinstance(wanted, list) and not of_rows:
        return all(contains(actual, one) for one in wanted)
    if isinstance(actual, str) or (isinstance(wanted, str) and wanted in (actual or [])):
        return wanted in actual
    return any(mismatch(one, wanted) is None for one in actual or [])


def any_order(actual: Any, wanted: list[Any]) -> bool:
    left = list(actual or [])
    for want in wanted:
        found = next((one for one in left if mismatch(one, want) is None), None)
        if found is None:
            return False
        left.remove(found)
    return not left


MATCHERS: dict[str, Callable[[Any, Any], bool]] = {
    "any": lambda actual, _: actual is not None and actual != 0,
    "has": lambda actual, want: all(contains(actual, one) for one in as_list(want)),
    "lacks": lambda actual, want: not any(contains(actual, one) for one in as_list(want)),
    "matches": lambda actual, want: (
        isinstance(actual, str) and re.search(want, actual, re.DOTALL) is not None
    ),
    "least": lambda actual, want: actual is not None and actual >= want,
    "most": lambda actual, want: actual is not None and actual <= want,
    "first": lambda actual, want: bool(actual) and mismatch(actual[0], want) is None,
    "count": lambda actual, want: mismatch(len(actual), want) is None,
    "rising": lambda actual, _: (
        actual == sorted(set(actual), key=lambda one: (one is not None, one))
    ),
    "unique": lambda actual, _: len(actual) == len({shown(one) for one in actual}),
    "in_any_order": any_order,
    "not": lambda actual, want: mismatch(actual, want) is not None,
}


def mismatch(actual: Any, wanted: Any, at: str = "") -> str | None:
    """None if the value is as wanted, else what differs."""
    if isinstance(wanted, dict) and wanted and set(wanted) <= set(MATCHERS):
        for name, want in wanted.items():
            if not MATCHERS[name](actual, want):
                return f"{at or 'value'} is {shown(actual)}, wanted {name} {shown(want)}"
        return None
    pairs: list[tuple[str, Any, Any]]
    if isinstance(wanted, dict) and isinstance(actual, dict):
        pairs = [(f"{at}.{k}" if at else k, actual.get(k), want) for k, want in wanted.items()]
    elif isinstance(wanted, list) and isinstance(actual, list) and len(wanted) == len(actual):
        pairs = [(f"{at}[{i}]", actual[i], want) for i, want in enumerate(wanted)]
    elif actual == wanted and isinstance(actual, bool) == isinstance(wanted, bool):
        return None
    else:
        return f"{at or 'value'} is {shown(actual)}, wanted {shown(wanted)}"
    problems = (mismatch(found, want, where) for where, found, want in pairs)
    return next((problem for problem in problems if problem), None)


def expect(actual: Any, wanted: Any, at: str = "") -> None:
    if problem := mismatch(actual, wanted, at):
        raise Failure(problem)


def in_own_names(wanted: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """What is wanted of an error, with a language's own names of parameters and options."""

    def name(word: re.Match[str]) -> str:
        # In a message it is the first one of several.
        found = names.get(word[0], word[0])
        return str(found[0] if isinstance(found, list) else found)

    def translated(value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\b[a-z]+(_[a-z]+)+\b", name, value)
        if isinstance(value, dict):
            return {key: translated(one) for key, one in value.items()}
        return [translated(one) for one in value] if isinstance(value, list) else value

    own = dict(wanted)
    if isinstance(wanted.get("parameter"), str):
        own_name = names.get(wanted["parameter"], wanted["parameter"])
        if isinstance(own_name, list):
            own_name = {"matches": f"^({'|'.join(own_name)})$"}
        own["parameter"] = own_name
    if "message" in wanted:
        own["message"] = translated(wanted["message"])
    return own


def exit_code(status: str) -> int:
    """That of the command dbss for a status; cli/README.md lists them."""
    value = STATUSES[status]["value"]
    return EXIT_CODES.get(value, GROUP_EXIT_CODES[value // 100])


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) < 2000 else f"{text[:2000]}…"


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings_in(one)


# Bytes and files.


def facts_of(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def bytes_of(content: Any) -> bytes:
    """The bytes of a file, an input or a body."""
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, list):
        return b"".join(map(bytes_of, content))
    character, count = content.get("repeat", ("", 0))
    text = content.get("text", "") + character * count
    return text.encode() + bytes.fromhex(content.get("hex", ""))


def files_in(top: Path) -> list[str]:
    """The paths below a directory, of all that are no directories."""
    return [
        str(path.relative_to(top))
        for path in sorted(top.rglob("*"))
        if not path.is_dir() or path.is_symlink()
    ]


FILE_FACTS: dict[str, Callable[[Path], Any]] = {
    # As the size may be that of a file with holes.
    "bytes": lambda path: path.stat().st_size,
    "sha256": lambda path: facts_of(path.read_bytes())["sha256"],
    "text": lambda path: path.read_bytes().decode(errors="replace"),
    "mode": lambda path: f"{stat.S_IMODE(path.lstat().st_mode):o}",
    "type": lambda path: stat.filemode(path.lstat().st_mode)[0],
    "json": lambda path: json.loads(path.read_bytes()),
    "lines": lambda path: [json.loads(line) for line in path.read_bytes().splitlines()],
}


def expect_files(top: Path, are: dict[str, Any] | None, have: dict[str, Any]) -> None:
    """What is in a directory: all of it, and some of it."""
    names = files_in(top)
    if are is not None:
        patterns = [name for name in are if "*" in name]
        others = [n for n in names if not any(fnmatch.fnmatch(n, p) for p in patterns)]
        expect(others, {"in_any_order": [one for one in are if "*" not in one]}, f"files in {top}")
    for pattern, wanted in {**(are or {}), **have}.items():
        for name in fnmatch.filter(names, pattern) if "*" in pattern else [pattern]:
            path = top / name
            if os.path.lexists(path) != (wanted is not None):
                raise Failure(f"{path}, wanted {shown(wanted)}; there are {names}")
            if wanted is not None:
                facts = {fact: FILE_FACTS[fact](path) for fact in wanted}
                expect(facts, wanted, str(path))


def expect_archive(step: dict[str, Any], report: Callable[[dict[str, Any]], bytes]) -> None:
    """A mirror's directory: lines of the manifest, checksums and files fit one another."""
    top = Path(step["archive"])
    text = (top / "manifest.jsonl").read_text()
    if text and not text.endswith("\n"):
        raise Failure("the last line of the manifest is cut")
    parsed = [json.loads(line) for line in text.splitlines()]
    # The last line of a report counts.
    lines = list({(one["id"], one["locale"]): one for one in parsed}.values())
    wanted = [
        one if isinstance(one, dict) else {"id": one, "locale": step.get("locale")}
        for some in step["reports"]
        for one in as_list(some)
    ]
    expect(lines, {"in_any_order": wanted}, "lines of the manifest")
    if "lines" in step:
        expect(lines, step["lines"], "lines of the manifest")
    # All but the archive's own.
    files = set(files_in(top)) - {"manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock"}
    own = {one["path"] for one in lines}
    if len(own) != len(lines) or (files != own and not step.get("other_files")):
        raise Failure(f"the files are {sorted(files)}, those of the lines {sorted(own)}")
    for line in lines:
        data = (top / line["path"]).read_bytes()
        facts = facts_of(data)
        expect(line, {"size": facts["bytes"], "sha256": facts["sha256"]}, line["path"])
        if step.get("contents", True) and data != report(line):
            raise Failure(f"{line['path']} is not the report {line['id']}")
    sums = [f"{line['sha256']}  {line['path']}" for line in lines]
    expect((top / "SHA256SUMS").read_text().splitlines(), {"in_any_order": sums})
