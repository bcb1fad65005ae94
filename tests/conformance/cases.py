"""The cases of the conformance suite, and the values in them; README.md describes both."""

from __future__ import annotations

import functools
import itertools
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from comparing import ABI, STATUSES, as_list, shown

if TYPE_CHECKING:
    from mock_service import MockService

DIRECTORY = Path(__file__).parent
DRIVERS = json.loads((DIRECTORY / "drivers.json").read_text())
SCHEMA = json.loads((DIRECTORY / "schema.json").read_text())
STEPS = {one["$ref"].rpartition("/")[2] for one in SCHEMA["$defs"]["step"]["oneOf"]}

INSTANCE = {"project": "$PROJECT", "instance": "$INSTANCE"}
REPORT = {**INSTANCE, "id": "$PDF"}
DOWNLOAD = {**REPORT, "locale": None}
LIST = {"page_size": 0, "keep": False}
# The calls, with their arguments and the defaults of these.
CALLS: dict[str, dict[str, Any]] = {
    "check": {"project": "$PROJECT"},
    "find_credentials": {},
    "set_token": {"token": "$TOKEN"},
    "download": DOWNLOAD,
    "download_to_memory": DOWNLOAD,
    "download_to_file": {**DOWNLOAD, "path": "$DIR/report", "replace": False},
    "download_to_directory": {**DOWNLOAD, "directory": "$DIR", "replace": False},
    "download_to_descriptor": {**DOWNLOAD, "open": None},
    "download_to_callback": {**DOWNLOAD, "fail_after": None},
    "open_report": {**DOWNLOAD, "keep": False, "read_size": 65536},
    "read_stream": {"stream": None, "size": None},
    "close_stream": {"stream": None},
    "reset": {},
    "look": {},
    "instances": {"project": "$PROJECT", **LIST},
    "reports": {**INSTANCE, "name": None, **LIST},
    "templates": {**INSTANCE, "keep": False},
    "databases": {**INSTANCE, "status": None, **LIST},
    "next_page": {"list": None},
    "schedule": {**INSTANCE, "template": "$TEMPLATE"},
    "update_schedule": {**INSTANCE, "template": "$TEMPLATE", "changes": {}},
    "create": {**INSTANCE, "spec": {}},
    "generate": {**INSTANCE, "spec": {}},
    "wait": REPORT,
    "delete": REPORT,
    "mirror": {"project": "$PROJECT", "directory": "$DIR/archive", "options": {}},
}
# Arguments for which null is a value of its own.
OPTIONAL = {"project", "locale", "name", "status", "fail_after", "size", "open"}


def own_names(driver: dict[str, Any]) -> dict[str, Any]:
    """How a language names parameters and options, by their names in C.

    The row "names" of a driver has the names themselves, and the style of those of options:
    "style" is a pattern of how a key's words become a name; "drop" an end that they lose. With
    "or_key" the parameter at fault may also be the key itself, by which it was set as text.
    """
    names = dict(driver.get("names", {}))
    style, drop = names.pop("style", None), names.pop("drop", "")
    or_key = names.pop("or_key", False)
    if style is None:
        return names
    keys = {option["key"] for options in ABI["options"].values() for option in options}
    styled = {key: in_style(style, key.removesuffix(drop)) for key in sorted(keys)}
    return {key: [name, key] if or_key else name for key, name in styled.items()} | names


def in_style(style: str, key: str) -> str:
    words = key.split("_")
    tail = "".join(word.capitalize() for word in words[1:])
    return {
        "snake_case": key,
        "camelCase": words[0] + tail,
        "WithPascalCase": f"With{words[0].capitalize()}{tail}",
    }[style]


@dataclass
class Case:
    area: str
    data: dict[str, Any]
    names: dict[str, Any] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    # The names of the file, for all of its cases.
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        shown = ",".join(self.labels or [f"{value}"[:40] for value in self.names.values()])
        return f"{self.area}/{self.data['name']}" + (f"[{shown}]" if shown else "")

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.data["steps"]

    @functools.cached_property
    def needs(self) -> frozenset[str]:
        """The features that a driver must have."""
        limits = "took_ms|within_ms|stall_timeout_ms|total_timeout_ms"
        signs = {
            "preload": "LD_PRELOAD" in self.data.get("environment", {}),
            "time": re.search(f'"({limits})"', json.dumps(self.data)),
            # An own process is what a variable, or the home directory, needs.
            "environment": self.own_process(),
        }
        found = {*self.data.get("needs", []), *(name for name, is_so in signs.items() if is_so)}
        return frozenset(found.union(*map(self._needs_of, self.steps)))

    def _needs_of(self, step: dict[str, Any]) -> set[str]:
        kind = kind_of(step)
        found = {kind} & {"cancel", "cancel_all", "close", "free", "kill", "run"}
        if kind in ("answer", "asked") or "asked" in step.get("until", {}):
            found.add("asked")
        if kind == "configure":
            settings = fill(step["configure"], {**self.shared, **self.names}, partial=True)
            signs = {
                "several_clients": settings.get("as", "client") != "client",
                "raw_bytes": any(isinstance(v, dict) and "hex" in v for v in settings.values()),
                "null_arguments": None in settings.values(),
            }
            found |= set(settings)
        elif kind == "call":
            given = fill(step.get("with", {}), self.names, partial=True)
            operation = step.get("operation", {})
            signs = {
                "kept_operation": "of" in operation,
                "null_arguments": any(v is None and k not in OPTIONAL for k, v in given.items()),
                "raw_bytes": '{"hex": ' in json.dumps(given),
                **{key: given.get(key) for key in ("keep", "fail_after", "page_size", "open")},
            }
            found.add(fill(step["call"], self.names, partial=True))
            found |= ({"operation", "background"} & set(step)) | (
                {"progress", "cancelled"} & set(operation)
            )
        else:
            return found
        return found | {name for name, is_so in signs.items() if is_so}

    def is_of_command(self) -> bool:
        """Whether it runs the command, which no language does."""
        return any("run" in step for step in self.steps)

    def own_process(self) -> bool:
        steps = fill(self.steps, {**self.shared, **self.names}, partial=True)
        return bool({"environment", "umask"} & set(self.data)) or "$HOME" in json.dumps(steps)


def kind_of(step: dict[str, Any]) -> str:
    """What a step does, by the only key that is the name of a step."""
    kinds = STEPS & set(step)
    if len(kinds) != 1:
        raise ValueError(f"no step, or several in one: {shown(step)}")
    return kinds.pop()


@functools.cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/$defs/{kind}", "$defs": {**SCHEMA["$defs"], "step": {}}}
    )


def check(data: dict[str, Any], where: str) -> None:
    """Refuses what a case may not have, before anything runs."""
    parts = [("case", data), *((kind_of(step), step) for step in data.get("steps", []))]
    for kind, part in parts:
        for error in validator(kind).iter_errors(part):
            raise ValueError(f"{where}: {data.get('name')}: {kind}: {error.message}")
        call = part.get("call", "$") if kind == "call" else "$"
        for name in [*as_list(part.get("fails", [])), *as_list(call)]:
            if "$" not in name and name not in (*STATUSES, "DBSS_OK", *CALLS):
                raise ValueError(f"{where}: {data['name']}: {kind}: there is no {name}")


def combinations(
    each: Any, tables: dict[str, dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The values of each run, and what its id shows of them if that is not the values."""
    if isinstance(each, list):
        for number, names in enumerate(each):
            names = fill(names, names, partial=True)
            plain = [f"{one}"[:40] for one in names.values() if not isinstance(one, dict | list)]
            yield names, [] if len(plain) == len(names) else [f"{number}", *plain]
        return
    for name, values in each.items():
        if isinstance(values, str):
            table, *rows = values.split()
            chosen = {row: tables[table][row] for row in rows or tables[table]}
            each = {**each, name: chosen}
    labelled = any(isinstance(values, dict) for values in each.values())
    rows = [
        values.items() if isinstance(values, dict) else [(f"{one}"[:40], one) for one in values]
        for values in each.values()
    ]
    for row in itertools.product(*rows):
        names = {name: value for name, (_, value) in zip(each, row, strict=True)}
        names |= names.pop("", {})
        yield names, [label for label, _ in row] if labelled else []


def case_files() -> list[Path]:
    others = ("schema", "drivers", "skips")
    return [path for path in sorted(DIRECTORY.glob("*.json")) if path.stem not in others]


def load_cases() -> list[Case]:
    cases = []
    for path in case_files():
        file = json.loads(path.read_text())
        for data in file["cases"]:
            check(data, path.name)
            rows = combinations(data.get("each", {}), file.get("tables", {}))
            cases += [Case(path.stem, data, *row, file.get("names", {})) for row in rows]
    return cases


def lacking(driver: str, case: Case) -> str | None:
    """The first feature that a driver lacks for a case."""
    lacks = DRIVERS[driver]["lacks"]
    if case.is_of_command() and not DRIVERS[driver].get("partial"):
        return "run"
    if case.area not in DRIVERS[driver].get("areas", [case.area]):
        return "areas"
    return next((feature for feature in sorted(case.needs) if feature in lacks), None)


def skips() -> dict[str, dict[str, int]]:
    """How many cases each driver skips, by the feature that it lacks."""
    cases = [case for case in load_cases() if not case.is_of_command()]
    counts = {name: Counter(lacking(name, case) for case in cases) for name in DRIVERS}
    return {
        name: {feature: n for feature, n in sorted(one.items(), key=str) if feature is not None}
        for name, one in counts.items()
    }


# Values.

NAME = re.compile(
    r"\$(?:\$|REPEAT\((.),(\d+)\)|([A-Z][A-Z0-9_]*)|\{([A-Za-z0-9_.:-]+)\})", re.DOTALL
)


def fill(value: Any, names: dict[str, Any], partial: bool = False) -> Any:
    """The value with the names in it replaced; with `partial`, only those that are there."""

    def look_up(match: re.Match[str]) -> Any:
        if match[0] == "$$":
            return "$$" if partial else "$"
        if match[2]:
            return match[1] * int(match[2])
        found: Any = names
        for part in (match[3] or match[4]).split("."):
            try:
                if isinstance(found, list | str):
                    at = [int(one) if one else None for one in part.split(":")]
                    found = found[slice(*at)] if len(at) > 1 else found[at[0]]
                else:
                    found = found[part]
            except (KeyError, IndexError, TypeError):
                if partial:
                    return match[0]
                raise ValueError(f"{match[0]} is unknown") from None
        return found

    if isinstance(value, dict):
        filled = {fill(k, names, partial): fill(v, names, partial) for k, v in value.items()}
        # A name that is not known yet stays.
        if isinstance(filled.get(""), dict):
            filled = {**filled.pop(""), **filled}
        return filled
    if isinstance(value, list):
        return [fill(one, names, partial) for one in value]
    if not isinstance(value, str):
        return value
    whole = NAME.fullmatch(value)
    return look_up(whole) if whole else NAME.sub(lambda m: str(look_up(m)), value)


class Names(dict[str, Any]):
    """The values of $NAME; those that start with FRESH are made when they are used."""

    def __missing__(self, name: str) -> Any:
        if not name.startswith("FRESH"):
            raise KeyError(name)
        self[name] = secrets.token_hex(16)
        return self[name]


def names_of(mock: MockService) -> dict[str, Any]:
    ready = {name.upper(): value for name, value in mock.ready.items()}
    urls = {name: one for name, one in ready.items() if isinstance(one, str) and "://" in one}
    reports = (("PDF", mock.pdf), ("ZIP", mock.zip))
    return {
        **ready,
        **{f"{name}_HOST": url.partition("://")[2] for name, url in urls.items()},
        "PROJECT": mock.project_id,
        "INSTANCE": mock.instance_id,
        "TEMPLATE": mock.templates[0]["id"],
        **{name: report["id"] for name, report in reports},
        **{f"{name}_EN": report["sha256"]["en-us"] for name, report in reports},
        **{f"{name}_ZH": report["sha256"]["zh-cn"] for name, report in reports},
    }
