"""The harness of the conformance suite: it runs the steps of a case through a driver.

README.md describes cases, steps and drivers.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import functools
import hashlib
import itertools
import json
import os
import re
import secrets
import signal
import stat
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

if TYPE_CHECKING:
    from mock_service import MockService

DIRECTORY = Path(__file__).parent
ABI = json.loads((DIRECTORY / "../../include/dbss-abi.json").read_text())
STATUSES = {one["name"]: one for one in ABI["statuses"]}
SECRET_KEYS = {one["key"] for one in ABI["options"]["config"] if one["type"] == "secret"}

# The exit codes of statuses, and of the other statuses by their group.
EXIT_CODES = {202: 3, 203: 3, 204: 4, 212: 11, 405: 12}
GROUP_EXIT_CODES = {0: 0, 1: 2, 2: 5, 3: 6, 4: 7, 5: 7, 6: 130, 7: 1}

UNREACHABLE = "http://127.0.0.1:1"
LISTENERS = (
    *("http", "https", "https_self_signed", "https_expired", "https_wrong_name"),
    *("http_other", "https_other", "never_accepts"),
)
# The limit of every wait, in seconds; only a fault reaches it.
LIMIT = 30.0

REPORT = {"project": "$PROJECT", "instance": "$INSTANCE", "id": "$PDF"}
DOWNLOAD = {**REPORT, "locale": None}
INSTANCE = {"project": "$PROJECT", "instance": "$INSTANCE"}
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
# The files of an archive that are no reports.
ARCHIVE_FILES = {"manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock"}
# Arguments for which null is a value of its own.
OPTIONAL = {"project", "locale", "name", "status", "fail_after", "size", "open"}
LISTS = {"instances", "reports", "templates", "databases", "next_page"}
OBJECTS = {"schedule"}
# Calls whose bytes the driver writes to a file of the harness.
WRITERS = {
    "download",
    "download_to_memory",
    "download_to_descriptor",
    "download_to_callback",
    "open_report",
    "read_stream",
}
# Paths of the control address that set everything anew, and those that are removed.
SETTINGS = {"/shapes", "/paging", "/undocumented", "/iam", "/metadata", "/generation"}

SCHEMA = json.loads((DIRECTORY / "schema.json").read_text())
STEPS = {one["$ref"].rpartition("/")[2] for one in SCHEMA["$defs"]["step"]["oneOf"]}
CONFIGURE_KEYS = {
    *("as", "endpoint", "ca", "credentials_in_settings", "max_attempts"),
    *("log", "token_provider", "passcodes", "fails", "error"),
}


class Failure(AssertionError):
    """What a case expects did not happen."""


# ---------------------------------------------------------------------------
# Cases
# ---------------------------------------------------------------------------


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
        found = set(self.data.get("needs", []))
        if "LD_PRELOAD" in self.data.get("environment", {}):
            found.add("preload")
        if re.search(
            '"(took_ms|within_ms|stall_timeout_ms|total_timeout_ms)"', json.dumps(self.data)
        ):
            found.add("time")
        # An own process is what a variable, or the home directory, needs.
        if self.own_process():
            found.add("environment")
        known = {**self.shared, **self.names}
        for step in self.steps:
            if "configure" in step:
                step = {"configure": fill(step["configure"], known, partial=True)}
            kind = kind_of(step)
            found |= {kind} & {"cancel", "cancel_all", "close", "free", "kill", "run"}
            if kind in ("answer", "asked") or "asked" in step.get("until", {}):
                found.add("asked")
            if kind == "configure":
                settings = step["configure"]
                found |= set(settings)
                if settings.get("as", "client") != "client":
                    found.add("several_clients")
                if any(isinstance(one, dict) and "hex" in one for one in settings.values()):
                    found.add("raw_bytes")
                if None in settings.values():
                    found.add("null_arguments")
            if kind == "call":
                given = fill(step.get("with", {}), self.names, partial=True)
                found.add(fill(step["call"], self.names, partial=True))
                found |= {"operation", "background"} & set(step)
                operation = step.get("operation", {})
                found |= {"progress", "cancelled"} & set(operation)
                found |= {"kept_operation"} if "of" in operation else set()
                if any(v is None and k not in OPTIONAL for k, v in given.items()):
                    found.add("null_arguments")
                if '{"hex": ' in json.dumps(given):
                    found.add("raw_bytes")
                flags = ("keep", "fail_after", "page_size", "open")
                found |= {key for key in flags if given.get(key)}
        return frozenset(found)

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


DRIVERS = json.loads((DIRECTORY / "drivers.json").read_text())


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


# ---------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------

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
    ready = {name.upper(): value for name, value in json.loads(mock.raw_ready).items()}
    hosts = {
        f"{name}_HOST": value.partition("://")[2]
        for name, value in ready.items()
        if isinstance(value, str) and "://" in value
    }
    return {
        **ready,
        **hosts,
        "PROJECT": mock.project_id,
        "INSTANCE": mock.instance_id,
        "TEMPLATE": mock.templates[0]["id"],
        "PDF": mock.pdf["id"],
        "ZIP": mock.zip["id"],
        "PDF_EN": mock.pdf["sha256"]["en-us"],
        "PDF_ZH": mock.pdf["sha256"]["zh-cn"],
        "ZIP_EN": mock.zip["sha256"]["en-us"],
        "ZIP_ZH": mock.zip["sha256"]["zh-cn"],
    }


# ---------------------------------------------------------------------------
# Comparing
# ---------------------------------------------------------------------------


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
    if isinstance(wanted, dict) and isinstance(actual, dict):
        for key, want in wanted.items():
            problem = mismatch(actual.get(key), want, f"{at}.{key}" if at else key)
            if problem:
                return problem
        return None
    if isinstance(wanted, list) and isinstance(actual, list) and len(wanted) == len(actual):
        for index, want in enumerate(wanted):
            problem = mismatch(actual[index], want, f"{at}[{index}]")
            if problem:
                return problem
        return None
    if actual == wanted and isinstance(actual, bool) == isinstance(wanted, bool):
        return None
    return f"{at or 'value'} is {shown(actual)}, wanted {shown(wanted)}"


def exit_code(status: str) -> int:
    """That of the command dbss for a status; cli/README.md lists them."""
    value = STATUSES[status]["value"]
    return EXIT_CODES.get(value, GROUP_EXIT_CODES[value // 100])


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) < 2000 else f"{text[:2000]}…"


def expect(actual: Any, wanted: Any, at: str = "") -> None:
    problem = mismatch(actual, wanted, at)
    if problem:
        raise Failure(problem)


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings_in(one)


def wait_for(what: str, condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"waited {LIMIT:.0f} seconds for {what}")
        time.sleep(0.003)


# ---------------------------------------------------------------------------
# Drivers
# ---------------------------------------------------------------------------


class Driver:
    """A running driver: requests go to its standard input, responses and events come back."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        directory: Path,
        work: Path | None = None,
        umask: int = -1,
    ) -> None:
        self._errors = open(directory / f"driver-{secrets.token_hex(4)}.log", "w+b")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            cwd=work or directory,
            umask=umask,
        )
        self._ids = itertools.count(1)
        self._arrived = threading.Condition()
        self._responses: dict[int, dict[str, Any]] = {}
        self._ended = False
        self.lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                parsed = json.loads(line)
            except ValueError:
                self._errors.write(b"no JSON on standard output: " + line)
                break
            with self._arrived:
                self.lines.append(parsed)
                if "event" not in parsed:
                    self._responses[parsed["id"]] = parsed
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    def send(self, **request: Any) -> int:
        number = next(self._ids)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failure(f"the driver has ended: {self.errors()}") from None
        return number

    def receive(self, number: int, limit: float = LIMIT) -> dict[str, Any]:
        with self._arrived:
            self._arrived.wait_for(lambda: number in self._responses or self._ended, limit)
            if number not in self._responses:
                raise Failure(f"no response: {self.errors() or 'the driver is silent'}")
            response = self._responses.pop(number)
        if "unsupported" in response:
            raise Failure(f"the driver does not know: {response['unsupported']}")
        return response

    def ask(self, **request: Any) -> dict[str, Any]:
        return self.receive(self.send(**request))

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Lets the driver end; it must do that by itself, and without complaint."""
        assert self._process.stdin is not None
        if self._process.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failure("the driver did not end") from None
        self._reader.join()
        code, errors = self._process.returncode, self.errors()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                if file is not None:
                    file.close()
        if code not in (0, -signal.SIGKILL):
            raise Failure(f"the driver ended with {code}: {errors}")
        if errors:
            raise Failure(f"the driver wrote on standard error: {errors}")


@dataclass
class Runner:
    """Runs cases through one driver, with a mock service of its own."""

    name: str
    command: list[str]
    environment: dict[str, str]
    directory: Path
    mock: MockService
    # Errors, results and operations have only some of the fields.
    partial: bool = False
    # The listener of cases that name none.
    endpoint: str = "http"
    program: Path | None = None
    clock: Path | None = None
    driver: Driver | None = None

    def start(
        self,
        environment: dict[str, Any] | None,
        home: Path,
        work: Path | None = None,
        umask: int = -1,
    ) -> Driver:
        merged = {**self.environment, "HOME": str(home), **(environment or {})}
        return Driver(
            self.command,
            {name: value for name, value in merged.items() if value is not None},
            self.directory,
            work,
            umask,
        )

    def close(self) -> None:
        driver, self.driver = self.driver, None
        if driver is not None:
            driver.close()

    def run(self, case: Case, directory: Path) -> None:
        Run(self, case, directory).run()


class Run:
    """One run of a case."""

    def __init__(self, runner: Runner, case: Case, directory: Path) -> None:
        self.runner, self.case, self.mock = runner, case, runner.mock
        self.names = Names(names_of(runner.mock))
        self.directory, self.home = directory / "dir", directory / "home"
        for path in (self.directory, self.home):
            path.mkdir()
        self.names.update(DIR=str(self.directory), HOME=str(self.home), CLOCK=str(runner.clock))
        # They may refer to one another.
        for names in (case.shared, case.names):
            self.names.update(names)
            for name, value in names.items():
                self.names[name] = fill(value, self.names, partial=True)
        self.own_process = case.own_process()
        self.environment = {
            name: os.fsdecode(bytes.fromhex(value["hex"])) if isinstance(value, dict) else value
            for name, value in self.fill(case.data.get("environment", {})).items()
        }
        self.clients: set[str] = set()
        mock = runner.mock
        self.secrets = {one[:24] for one in (mock.token, mock.id_token, mock.pod_token)}
        self.secrets |= {mock.secret_key, mock.password}
        self.calls: dict[str, tuple[list[int], str, list[dict[str, Any]]]] = {}
        # The number of the (first) call of a name, and reports by name.
        self.numbers: dict[str, int] = {}
        self.fetched: dict[str, bytes] = {}
        self.clean_up: list[tuple[str, str, Any]] = []
        self.into = (directory / f"into-{number}" for number in itertools.count())
        self.driver: Driver | None = None

    def fill(self, value: Any) -> Any:
        """The value with its names replaced; those of `each` may have others in them."""
        known = {**self.case.shared, **self.case.names}
        return fill(fill(value, known, partial=True), self.names)

    # -- the life of a case

    def run(self) -> None:
        self.mock.clear_requests()
        self.first_connections = self.mock.connections()
        for name, value in self.environment.items():
            if re.search(r"SK$|TOKEN$|PASSWORD$|PASSCODE$", name) and value:
                self.secrets.add(value)
        try:
            for number, step in enumerate(self.case.steps, 1):
                kind = kind_of(step)
                try:
                    getattr(self, f"step_{kind}")(self.fill(step))
                except Failure as failure:
                    raise Failure(f"step {number}, {kind}: {failure}") from None
                except (LookupError, TypeError, ValueError) as error:
                    raise Failure(f"step {number}, {kind}: wrong case: {error!r}") from error
            self.check_secrets()
        except BaseException:
            # A driver with a call under way, or in an unknown state, is not used again.
            self.end_driver(kill=True)
            raise
        finally:
            self.restore_mock()
        self.end_driver()

    def end_driver(self, kill: bool = False) -> None:
        driver, self.driver = self.driver, None
        if driver is None:
            return
        if kill:
            if not self.own_process:
                self.runner.driver = None
            driver.kill()
            driver.close()
        elif self.own_process:
            driver.close()
        else:
            for client in self.clients:
                driver.ask(do="free", client=client)

    def running(self) -> Driver:
        if self.driver is None:
            if self.own_process:
                umask = int(self.fill(self.case.data.get("umask", "-1")), 8)
                self.driver = self.runner.start(self.environment, self.home, self.directory, umask)
            else:
                if self.runner.driver is None:
                    self.runner.driver = self.runner.start(None, self.home)
                self.driver = self.runner.driver
                self.driver.lines.clear()
        return self.driver

    def restore_mock(self) -> None:
        self.mock.clear_faults()
        for method, path, body in reversed(self.clean_up):
            self.mock.control_request(method, path, body)
        calls = {step.get("call") for step in self.case.steps}
        if {"create", "generate"} & calls or self.case.is_of_command():
            self.mock.remove_reports(self.mock.made())

    def check_secrets(self) -> None:
        if self.driver is None:
            return
        for request in self.mock.requests():
            for name, value in request["headers"]:
                if name.lower() in (
                    "x-auth-token",
                    "x-security-token",
                    "authorization",
                ):
                    self.secrets.add(value[:24] if name.lower() == "x-auth-token" else value)
        found = {one for one in self.secrets if len(one) >= 8}
        for line in self.driver.lines:
            if line.get("event") == "log" and TERMINAL_CONTROLS.search(line["message"]):
                raise Failure(f"control characters in the log: {shown(line)}")
            for text in strings_in(line):
                if any(secret in text for secret in found):
                    raise Failure(f"a secret is printed: {shown(line)}")

    # -- steps that prepare

    def step_configure(self, step: dict[str, Any]) -> None:
        self.configure(step["configure"])

    def configure(self, given: dict[str, Any]) -> None:
        client = given.get("as", "client")
        endpoint = given.get("endpoint", self.runner.endpoint)
        if endpoint == "dead":
            endpoint = UNREACHABLE
        elif endpoint in LISTENERS:
            endpoint = getattr(self.mock, endpoint)
        settings: list[list[Any]] = [["max_attempts", given.get("max_attempts", 1)]]
        if endpoint is not None:
            settings.append(["endpoint", endpoint])
        if given.get("ca", True) and "ca_file" not in given:
            settings.append(["ca_file", self.mock.ca_file])
        settings += [[k, v] for k, v in given.items() if k not in CONFIGURE_KEYS]
        if not given.get("credentials_in_settings") and "token" not in given:
            settings.append(["token", self.mock.token])
        for key, value in settings:
            if key in SECRET_KEYS and isinstance(value, str):
                self.secrets.add(value[:24] if key == "token" else value)
        for answer in (given.get("token_provider") or []) + (given.get("passcodes") or []):
            self.watch(answer)
        response = self.running().ask(
            do="configure",
            client=client,
            settings=[[key, as_text(value)] for key, value in settings],
            log=given.get("log"),
            token_provider=given.get("token_provider"),
            passcodes=given.get("passcodes"),
        )
        if response["status"] == "DBSS_OK":
            self.clients.add(client)
        self.compare(response, given)

    def watch(self, answer: dict[str, Any]) -> None:
        """What a provider gives is secret."""
        self.secrets |= {answer[key][:24] for key in ("token", "passcode") if key in answer}

    def step_answer(self, step: dict[str, Any]) -> None:
        self.watch(step["answer"])
        self.running().ask(do="answer", answer=step["answer"])

    def step_asked(self, step: dict[str, Any]) -> None:
        expect(self.asked(step["asked"]), step["are"], "requests of the provider")

    def asked(self, client: str) -> list[bool]:
        """What a provider was asked: whether the secret before was refused."""
        return [one["refused"] for one in self.events("asked") if one["client"] == client]

    def step_control(self, step: dict[str, Any]) -> None:
        method, path = step["control"].split(" ")
        body = step.get("body", {})
        response = self.mock.control_request(method, path, body)
        if "as" in step:
            self.names[step["as"]] = response
        undo = self.clean_up.append
        if method == "POST" and path in SETTINGS:
            undo(("POST", path, {}))
        elif method == "POST" and path == "/reports":
            undo(("DELETE", path, {"ids": response.get("ids") or [response["id"]]}))
        elif method == "POST" and path == "/instances":
            undo(("DELETE", path, {"ids": response["ids"]}))
        elif path == "/listener_faults" or (method, path) == ("POST", "/projects"):
            undo(("DELETE", path, None))
        elif path == "/tokens" and "token" in body:
            undo(("DELETE" if method == "POST" else "POST", path, body))
        elif path == "/keys":
            undo(("DELETE", "/metadata/keys", None))

    def step_fault(self, step: dict[str, Any]) -> None:
        self.mock.control_request("POST", "/faults", fault_of(step["fault"]))

    def step_faults(self, step: dict[str, Any]) -> None:
        for fault in step["are"]:
            body = {"report": step["faults"], "times": step.get("times", 1), **fault}
            self.mock.control_request("POST", "/faults", fault_of(body))

    def step_fetch(self, step: dict[str, Any]) -> None:
        data, tag = self.get_report(step.get("instance", self.mock.instance_id), step["fetch"])
        self.fetched[step["as"]] = data
        sha256 = hashlib.sha256(data).hexdigest()
        self.names[step["as"]] = {"etag": tag, "bytes": len(data), "sha256": sha256}
        self.forget_requests()

    def get_report(
        self, instance: str, report: str, locale: str | None = None
    ) -> tuple[bytes, str | None]:
        """Gets a report without a driver: its bytes and its ETag."""
        mock = self.mock
        path = f"/v1/{mock.project_id}/audit/{instance}/reports/{report}/download"
        query = f"?local={locale}" if locale else ""
        headers = {"X-Auth-Token": mock.token}
        request = urllib.request.Request(mock.http + path + query, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=LIMIT) as response:
            return response.read(), response.headers["ETag"]

    def forget_requests(self) -> None:
        self.mock.clear_requests()
        self.first_connections = self.mock.connections()

    def step_write(self, step: dict[str, Any]) -> None:
        for name, content in step["write"].items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                content = {"text": content}
            if content is None:
                path.unlink()
                continue
            if content.get("directory"):
                path.mkdir(exist_ok=True)
            elif "link" in content:
                path.symlink_to(content["link"])
            elif "hard_link" in content:
                os.link(content["hard_link"], path)
            elif "special" in content:
                kind = {"p": stat.S_IFIFO, "s": stat.S_IFSOCK}[content["special"]]
                os.mknod(path, kind | 0o600)
            else:
                data = bytes_of(content)
                if "keep" in content:
                    # In place: what other names the file has stay those of the same file.
                    old = path.read_bytes()
                    first, last = content["keep"]
                    data = old[:first] + data + (old[last:] if last is not None else b"")
                path.write_bytes(data)
            if "size" in content:
                os.truncate(path, content["size"])
            if "mode" in content:
                path.chmod(int(content["mode"], 8))
            if "age_s" in content:
                then = time.time() - content["age_s"]
                os.utime(path, (then, then))

    # -- calls

    def step_call(self, step: dict[str, Any]) -> None:
        what, client = step["call"], step.get("client", "client")
        if client not in self.clients:
            if client != "client":
                raise ValueError(f"no client {client} was configured")
            self.configure({})
        given = step.get("with", {})
        if set(given) - set(CALLS[what]):
            raise ValueError(f"unknown arguments of {what}: {given}")
        arguments = {**fill(CALLS[what], self.names), **given}
        if what in WRITERS:
            arguments["into"] = str(next(self.into))
        if what in LISTS or what in OBJECTS:
            arguments["fields"] = self.fields_of(step)
        if "keep" in arguments:
            arguments["as"] = step.get("as")
        operation = step.get("operation")
        if operation is not None:
            own = {"progress", "cancelled", "of"}
            operation = {
                "of": self.numbers[operation["of"]] if "of" in operation else None,
                "settings": [[k, as_text(v)] for k, v in operation.items() if k not in own],
                "progress": operation.get("progress"),
                "cancelled": operation.get("cancelled", False),
            }
        self.perform(step, what, client, arguments, operation)

    def perform(
        self,
        step: dict[str, Any],
        what: str,
        client: str,
        arguments: dict[str, Any],
        operation: Any,
    ) -> None:
        """Makes the call, so many times as the step says; in the background all at once."""
        before = self.mock.connections()["total"]
        request = {"do": "call", "call": what, "client": client, "operation": operation}
        times, end = step.get("times", 1), time.monotonic() + LIMIT
        if step.get("background"):
            each = [dict(arguments) for _ in range(times)]
            for one in each[1:]:
                if "into" in one:
                    one["into"] = str(next(self.into))
            sent = [self.running().send(**request, arguments=a, background=True) for a in each]
            self.calls[step["as"]] = (sent, what, each)
            self.numbers[step["as"]] = sent[0]
            return
        while times > 0:
            driver = self.running()
            begun = time.monotonic()
            number = driver.send(**request, arguments=arguments, background=False)
            self.numbers[step.get("as", "")] = number
            response = driver.receive(number)
            took = (time.monotonic() - begun) * 1000
            self.complete(response, what, arguments)
            if "as" in step:
                self.names[step["as"]] = self.named(response)
            self.compare(response, step, arguments)
            if "took_ms" in step:
                expect(took, step["took_ms"], "took_ms")
            if "repeat_until" not in step:
                times -= 1
            elif all(check() for _, check in self.conditions(step["repeat_until"])):
                break
            elif time.monotonic() > end:
                raise Failure(f"repeated for {LIMIT:.0f} seconds: {step['repeat_until']}")
            group = STATUSES.get(response["status"] or "", {}).get("group")
            silent = group == "DBSS_ERR_ARGUMENT" and not step.get("connects")
            if silent and self.mock.connections()["total"] != before:
                raise Failure("a connection was made, although an argument is wrong")

    @staticmethod
    def named(response: dict[str, Any]) -> dict[str, Any]:
        return {**(response.get("result") or {}), "error": response.get("error")}

    @staticmethod
    def fields_of(step: dict[str, Any]) -> list[str]:
        """The fields that the case compares, of list items or of an object."""
        text = step.get("result", {})
        found = {"id"}
        stack = [text.get("items", []) if "items" in text else text]
        while stack:
            one = stack.pop()
            if isinstance(one, dict):
                found |= set(one) - set(MATCHERS)
                stack += one.values()
            elif isinstance(one, list):
                stack += one
        return sorted(found)

    def complete(self, response: dict[str, Any], what: str, arguments: dict[str, Any]) -> None:
        """Adds what the harness finds in files and in events, and the ids of items."""
        result = response.get("result") or {}
        if result.get("expires_ms") is not None:
            result["expires_in_ms"] = result["expires_ms"] - time.time() * 1000
        if "items" in result:
            response["result"]["ids"] = [one["id"] for one in response["result"]["items"]]
        path = arguments.get("into")
        if what in ("download_to_file", "download_to_directory") and "result" in response:
            path = response["result"].get("path")
        found = isinstance(path, str) and "result" in response and Path(path).exists()
        if not found:
            return
        data = Path(path).read_bytes()
        response["result"] |= {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }

    def compare(
        self,
        response: dict[str, Any],
        step: dict[str, Any],
        arguments: dict[str, Any] | None = None,
    ) -> None:
        wanted, error = as_list(step.get("fails", "DBSS_OK")), response.get("error")
        status = response["status"]
        # The command prints no status where it takes the command line for wrong, and beside
        # a report.
        if status not in wanted and not (status is None and "exit_code" in response):
            raise Failure(f"{status}, wanted {wanted}: {shown(error)}")
        if "exit_code" in response and response["exit_code"] not in map(exit_code, wanted):
            raise Failure(f"exit code {response['exit_code']}, wanted that of {wanted}")
        if wanted == ["DBSS_OK"]:
            if error is not None:
                raise Failure(f"success with an error: {shown(error)}")
        else:
            self.compare_error(error, step.get("error", {}))
        if "result" in step:
            result = response.get("result")
            expect(result, self.comparable(step["result"], result))
        if "after" in step:
            seen = [one for one in self.events("progress") if one["of"] == response["id"]]
            percents = itertools.groupby(one["percent"] for one in seen)
            progress = {"calls": len(seen), "percents": [one for one, _ in percents]}
            if seen:
                progress |= {
                    name: [one["received"], one["total"]]
                    for name, one in (("first", seen[0]), ("last", seen[-1]))
                }
            after = {**(response.get("operation") or {}), "progress": progress}
            expect(after, self.comparable(step["after"], after), "operation")
        if "partial" in step:
            self.compare_partial(step["partial"], (arguments or {}).get("into"))

    def compare_partial(self, wanted: dict[str, Any], path: str | None) -> None:
        """What arrived before a failure must be the beginning of the report."""
        if path is None:
            return
        data = Path(path).read_bytes() if Path(path).exists() else b""
        expect(len(data), wanted["bytes"], "bytes before the failure")
        if not self.fetched[wanted["of"]].startswith(data):
            raise Failure("wrong bytes before the failure")

    def comparable(self, wanted: Any, actual: Any) -> Any:
        """What is wanted, of a driver that has only some of the fields without those it lacks."""
        if not self.runner.partial or not isinstance(actual, dict):
            return wanted
        return {key: want for key, want in wanted.items() if key in actual}

    def compare_error(self, error: Any, wanted: dict[str, Any]) -> None:
        if not isinstance(error, dict):
            raise Failure("no error")
        expect(error, self.comparable(wanted, error), "error")
        if TERMINAL_CONTROLS.search(error.get("message") or ""):
            raise Failure(f"control characters in a message: {shown(error)}")
        for detail in error.get("mistakes", []):
            raise Failure(f"the driver found a mistake: {detail}")

    def step_finish(self, step: dict[str, Any]) -> None:
        numbers, what, each = self.calls.pop(step["finish"])
        for number, arguments in zip(numbers, each, strict=True):
            limit = step.get("within_ms", LIMIT * 1000) / 1000
            response = self.running().receive(number, limit)
            self.complete(response, what, arguments)
            self.names[step["finish"]] = self.named(response)
            self.compare(response, step, arguments)

    def step_cancel(self, step: dict[str, Any]) -> None:
        name = step["cancel"]
        for number in self.calls[name][0] if name in self.calls else [self.numbers[name]]:
            self.running().ask(do="cancel", of=number)

    def step_cancel_all(self, step: dict[str, Any]) -> None:
        self.running().ask(do="cancel_all", client=step["cancel_all"])

    def step_close(self, step: dict[str, Any]) -> None:
        self.running().ask(do="close", client=step["close"])

    def step_free(self, step: dict[str, Any]) -> None:
        self.running().ask(do="free", client=step["free"])
        self.clients.discard(step["free"])

    def step_kill(self, step: dict[str, Any]) -> None:
        self.check_secrets()
        self.end_driver(kill=True)
        self.clients.clear()
        self.calls.clear()

    def step_until(self, step: dict[str, Any]) -> None:
        for what, condition in self.conditions(step["until"]):
            wait_for(what, condition)

    def conditions(self, wanted: dict[str, Any]) -> list[tuple[str, Callable[[], Any]]]:
        """Each condition, and its words."""
        kinds: dict[str, Callable[[Any], Any]] = {
            "requests": self.have_come,
            "log": lambda w: any(mismatch(one, w) is None for one in self.events("log")),
            "progress": self.has_progressed,
            "connections": lambda w: self.new_connections()[w["of"]] >= w["count"],
            "file": lambda w: Path(w).exists(),
            "lines": lambda w: (
                Path(w["of"]).exists() and Path(w["of"]).read_bytes().count(b"\n") >= w["count"]
            ),
            "asked": lambda w: len(self.asked(w.get("client", "client"))) >= w["count"],
        }
        return [(f"{k} {w}", functools.partial(kinds[k], w)) for k, w in wanted.items()]

    def has_progressed(self, wanted: dict[str, Any]) -> bool:
        number = self.numbers[wanted["of"]]
        calls = [one for one in self.events("progress") if one["of"] == number]
        return len(calls) >= wanted.get("calls", 1) and any(
            one["received"] >= wanted.get("received", 0)
            and one.get("percent") == wanted.get("percent", one.get("percent"))
            for one in calls
        )

    def have_come(self, wanted: dict[str, Any]) -> bool:
        come = self.mock.requests(None if wanted["of"] == "*" else wanted["of"])
        sent = wanted.get("sent", 0)
        return len(come) >= wanted.get("count", 1) and (
            sent == 0 or sum(one["sent"] for one in come) >= sent
        )

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in list(self.running().lines) if one.get("event") == kind]

    # -- what is expected

    def step_files(self, step: dict[str, Any]) -> None:
        top = Path(step["files"])
        names = files_in(top)
        if "are" in step:
            patterns = [name for name in step["are"] if "*" in name]
            others = [n for n in names if not any(fnmatch.fnmatch(n, p) for p in patterns)]
            plain = [name for name in step["are"] if "*" not in name]
            expect(others, {"in_any_order": plain}, f"files in {top}")
        given = {**step.get("are", {}), **step.get("have", {})}
        facts = [
            (one, wanted)
            for name, wanted in given.items()
            for one in (fnmatch.filter(names, name) if "*" in name else [name])
        ]
        for name, wanted in facts:
            path = top / name
            if wanted is None:
                if name in names or os.path.lexists(path):
                    raise Failure(f"{path} exists")
            elif not os.path.lexists(path):
                raise Failure(f"there is no {path}; there are {names}")
            else:
                expect(describe(path, wanted), wanted, str(path))

    def step_archive(self, step: dict[str, Any]) -> None:
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
        files = set(files_in(top)) - ARCHIVE_FILES
        own = {one["path"] for one in lines}
        if len(own) != len(lines) or (files != own and not step.get("other_files")):
            raise Failure(f"the files are {sorted(files)}, those of the lines {sorted(own)}")
        sums = []
        for line in lines:
            data = (top / line["path"]).read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            expect(line, {"size": len(data), "sha256": sha256}, line["path"])
            sums.append(f"{sha256}  {line['path']}")
            if step.get("contents", True):
                report, _ = self.get_report(line["instance"], line["id"], line["locale"])
                if data != report:
                    raise Failure(f"{line['path']} is not the report {line['id']}")
        expect((top / "SHA256SUMS").read_text().splitlines(), {"in_any_order": sums})
        self.forget_requests()

    def step_requests(self, step: dict[str, Any]) -> None:
        which = step["requests"]
        found = self.mock.requests(None if which == "*" else which)
        for request in found:
            request["headers"] = {name.lower(): value for name, value in request["headers"]}
            with contextlib.suppress(ValueError, TypeError):
                request["json"] = json.loads(request["body"])
        if "as" in step:
            self.names[step["as"]] = found
        if "count" in step:
            expect(len(found), step["count"], f"requests for {which}")
        for key in ("has", "lacks"):
            if key in step:
                expect(found, {key: step[key]}, f"requests for {which}")
        if "are" in step:
            expect(found, step["are"], f"requests for {which}")

    def new_connections(self) -> dict[str, int]:
        """How many came since the case began, by listener."""
        now = self.mock.connections()
        return {name: now[name] - self.first_connections.get(name, 0) for name in now}

    def step_connections(self, step: dict[str, Any]) -> None:
        expect(self.new_connections(), step["connections"], "connections")

    def step_log(self, step: dict[str, Any]) -> None:
        expect(self.events("log"), step["log"], "log")

    def step_compare(self, step: dict[str, Any]) -> None:
        expect(step["compare"], step["with"])

    # -- the command

    def step_run(self, step: dict[str, Any]) -> None:
        words = [word_of(one) for one in flatten(step["run"])]
        before = sorted(path.name for path in self.directory.iterdir())
        process = subprocess.Popen(
            [*shell_of(step), str(self.runner.program), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self.command_environment(step.get("environment", {})),
        )
        try:
            if "interrupt" in step:
                self.interrupt(process, **step["interrupt"])
            raw, raw_errors = process.communicate(bytes_of(step.get("stdin", "")), LIMIT * 4)
        finally:
            process.kill()
        code = process.returncode
        out, errors = (one.decode(errors="replace") for one in (raw, raw_errors))
        said = f"it printed {shown(out)} and {shown(errors)}"
        if problem := mismatch(code, step.get("exit", 0), "exit code"):
            raise Failure(f"{problem}: {said}")
        bytes_only = isinstance(step.get("stdout"), dict) and "sha256" in step["stdout"]
        self.check_output("" if bytes_only else out, errors)
        # C functions and constants mean nothing to the user.
        if name := re.search(r"\bdbss_|\bDBSS_(ERR|FILE|LOG)_", errors):
            raise Failure(f"{name[0]} is printed: {errors}")
        actual: dict[str, Any] = {"stdout": out, "stderr": errors, "json": []}
        if bytes_only:
            hashed = hashlib.sha256(raw).hexdigest()
            actual["stdout"] = {"bytes": len(raw), "sha256": hashed}
        if "json" in step:
            lines = [json.loads(line) for line in out.splitlines()]
            if not out.isascii() or not all(isinstance(one["kind"], str) for one in lines):
                raise Failure(f"not the lines of --json: {said}")
            actual["json"] = lines
        if "rows" in step:
            actual["rows"] = [line.split("\t") for line in out.splitlines()]
        silent = "stderr" if code == 0 else "stdout" if "json" not in step else None
        for key, found in actual.items():
            if key in step or key == silent:
                expect(found, step.get(key, ""), key)
        if code and "stderr" not in step and not errors.startswith("dbss: "):
            raise Failure(f"no message: {said}")
        # What a mirror has saved stays.
        if code and words[:1] != ["mirror"]:
            expect(sorted(path.name for path in self.directory.iterdir()), before, "files")
        if "as" in step:
            self.names[step["as"]] = actual

    def interrupt(
        self, process: subprocess.Popen[bytes], when: dict[str, Any], by: str, times: int = 1
    ) -> None:
        """Sends signals when something is so; the process then ends soon, unread or not."""
        for what, condition in self.conditions(when):
            wait_for(what, condition)
        for _ in range(times):
            process.send_signal(signal.Signals[by])
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            raise Failure(f"{by} did not end it") from None

    def command_environment(self, own: dict[str, Any]) -> dict[str, str]:
        """The service and its report are set, unless the case sets them."""
        merged = {
            **self.runner.environment,
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": None,
            "NO_COLOR": None,
            "TERM": "xterm",
            "DBSS_ENDPOINT": self.mock.http,
            "DBSS_TOKEN": self.mock.token,
            "DBSS_PROJECT_ID": self.mock.project_id,
            "DBSS_INSTANCE_ID": self.mock.instance_id,
            **self.environment,
            **own,
        }
        return {name: value for name, value in merged.items() if value is not None}

    def check_output(self, out: str, errors: str) -> None:
        for secret in {*self.secrets, self.mock.token, self.mock.secret_key, self.mock.password}:
            if len(secret) >= 8 and secret in out + errors:
                raise Failure("a secret is printed")
        if found := TERMINAL_CONTROLS.search(re.sub(r"[\t\n]", "", out + errors)):
            raise Failure(f"a control character is printed: {found[0]!r}")
        if "panicked" in errors:
            raise Failure(f"it panicked: {errors}")


# What drives a terminal or reorders a line.
TERMINAL_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u2028-\u202e\u2066-\u2069\ufeff"
    r"\U000e0000-\U000e0fff]"
)


def shell_of(step: dict[str, Any]) -> list[str]:
    """The shell that starts the command, if the step needs one."""
    if "shell" not in step:
        return []
    return ["/bin/sh", "-c", step["shell"].replace("RUN", 'exec "$0" "$@"')]


def flatten(words: Any) -> Iterator[Any]:
    for one in words:
        if isinstance(one, list):
            yield from flatten(one)
        else:
            yield one


def word_of(value: Any) -> str:
    """A word of the command line, which may be any bytes."""
    return value if isinstance(value, str) else os.fsdecode(bytes_of(value))


def bytes_of(content: Any) -> bytes:
    """The bytes of a file, an input or a body."""
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, list):
        return b"".join(map(bytes_of, content))
    character, count = content.get("repeat", ("", 0))
    text = content.get("text", "") + character * count
    return text.encode() + bytes.fromhex(content.get("hex", ""))


def fault_of(given: dict[str, Any]) -> dict[str, Any]:
    """A fault, whose response or body may be given as the bytes of a file are."""
    fault = dict(given)
    for key in ("raw", "body"):
        if (key == "raw" and key in fault) or isinstance(fault.get(key), dict | list):
            fault[f"{key}_base64"] = base64.b64encode(bytes_of(fault.pop(key))).decode()
    return fault


def as_text(value: Any) -> Any:
    """A setting's value as text; null and what is not UTF-8 stay."""
    return json.dumps(value) if isinstance(value, bool | int | float) else value


def files_in(top: Path) -> list[str]:
    """The paths below a directory, of all that are no directories."""
    return [
        str(path.relative_to(top))
        for path in sorted(top.rglob("*"))
        if not path.is_dir() or path.is_symlink()
    ]


def describe(path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The facts of a file that are wanted."""
    facts: dict[str, Callable[[], Any]] = {
        "bytes": lambda: path.stat().st_size,
        "sha256": lambda: hashlib.sha256(path.read_bytes()).hexdigest(),
        "text": lambda: path.read_bytes().decode(errors="replace"),
        "mode": lambda: f"{stat.S_IMODE(path.lstat().st_mode):o}",
        "type": lambda: stat.filemode(path.lstat().st_mode)[0],
        "json": lambda: json.loads(path.read_bytes()),
        "lines": lambda: [json.loads(line) for line in path.read_bytes().splitlines()],
    }
    return {name: facts[name]() for name in wanted}
