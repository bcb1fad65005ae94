"""Runs the steps of a case through a driver."""

from __future__ import annotations

import base64
import contextlib
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cases import CALLS, Case, Names, fill, kind_of, names_of
from comparing import (
    ABI,
    MATCHERS,
    STATUSES,
    TERMINAL_CONTROLS,
    Failure,
    as_list,
    bytes_of,
    exit_code,
    expect,
    expect_archive,
    expect_files,
    facts_of,
    in_own_names,
    mismatch,
    shown,
    strings_in,
)

if TYPE_CHECKING:
    from mock_service import MockService

SECRET_KEYS = {one["key"] for one in ABI["options"]["config"] if one["type"] == "secret"}
SECRET_HEADERS = ("x-auth-token", "x-security-token", "authorization")
UNREACHABLE = "http://127.0.0.1:1"
# The limit of every wait, in seconds; only a fault reaches it.
LIMIT = 30.0

# Calls that return items or an object, of which the driver is told the fields.
WITH_FIELDS = {"instances", "reports", "templates", "databases", "next_page", "schedule"}
# Calls whose bytes the driver writes to a file of the harness.
WRITERS = {
    *("download", "download_to_memory", "download_to_descriptor", "download_to_callback"),
    *("open_report", "read_stream"),
}
# Paths of the control address that set everything anew.
SETTINGS = {"/shapes", "/paging", "/undocumented", "/iam", "/metadata", "/generation"}
CONFIGURE_KEYS = {
    *("as", "endpoint", "ca", "credentials_in_settings", "max_attempts"),
    *("log", "token_provider", "passcodes", "fails", "error"),
}


def wait_for(what: str, condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"waited {LIMIT:.0f} seconds for {what}")
        time.sleep(0.003)


def is_running(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


class Driver:
    """A running driver: requests go to its standard input, responses and events come back."""

    def __init__(self, command: list[str], directory: Path, **options: Any) -> None:
        self._errors = open(directory / f"driver-{secrets.token_hex(4)}.log", "w+b")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            **{"cwd": directory, **options},
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
            raise Failure(f"no request can be sent: {self.state()}") from None
        return number

    def receive(self, number: int, limit: float = LIMIT) -> dict[str, Any]:
        with self._arrived:
            self._arrived.wait_for(lambda: number in self._responses or self._ended, limit)
            if number not in self._responses:
                raise Failure(f"no response within {limit:g} seconds: {self.state()}")
            response = self._responses.pop(number)
        if "unsupported" in response:
            raise Failure(f"the driver does not know: {response['unsupported']}")
        return response

    def ask(self, **request: Any) -> dict[str, Any]:
        return self.receive(self.send(**request))

    def state(self) -> str:
        """Whether and how the driver has ended, and the last lines of its standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1 if self._ended else 0)
        code = self._process.returncode
        ended = "still runs" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            ended = f"ended with signal {-code} ({signal.Signals(-code).name})"
        return f"the driver {ended}; its standard error: {self.errors() or 'nothing'}"

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]

    def kill(self) -> None:
        """Kills the driver; what it had started is gone, too, when this returns."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        children = [pid for thread in threads for pid in thread.read_text().split()]
        self._process.kill()
        self._process.wait()
        wait_for("the programs of a killed driver", lambda: not any(map(is_running, children)))

    def close(self) -> None:
        """Lets the driver end; it must do that by itself, and without complaint."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure("the driver did not end") from None
        self._reader.join()
        state, errors = self.state(), self.errors()
        self._process.stdout.close()
        self._errors.close()
        if self._process.returncode not in (0, -signal.SIGKILL):
            raise Failure(state)
        if errors:
            raise Failure(f"the driver wrote on standard error: {errors}")


@dataclass
class Runner:
    """Runs cases through one driver, with a mock service of its own."""

    command: list[str]
    environment: dict[str, str]
    directory: Path
    mock: MockService
    build: Path
    # How to build the driver.
    built_by: str
    # Errors, results and operations have only some of the fields.
    partial: bool = False
    # The listener of cases that name none.
    endpoint: str = "http"
    # The language's own names of parameters, by those of C.
    names: dict[str, Any] = field(default_factory=dict)
    driver: Driver | None = None

    def start(self, environment: dict[str, Any], **options: Any) -> Driver:
        for word in self.command:
            if os.path.isabs(word) and not os.path.exists(word):
                raise Failure(f"{word} is not built; try: {self.built_by}")
        merged = {**self.environment, **environment}
        merged = {name: value for name, value in merged.items() if value is not None}
        return Driver(self.command, self.directory, env=merged, **options)

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
        clock = runner.build / "tests/conformance/clock.so"
        self.names.update(DIR=str(self.directory), HOME=str(self.home), CLOCK=str(clock))
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
        self.forget_requests()
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
            with contextlib.suppress(Failure):
                driver.close()
        elif self.own_process:
            driver.close()
        else:
            for client in self.clients:
                driver.ask(do="free", client=client)

    def running(self) -> Driver:
        if self.driver is None and self.own_process:
            umask = int(self.fill(self.case.data.get("umask", "-1")), 8)
            environment = {"HOME": str(self.home), **self.environment}
            self.driver = self.runner.start(environment, cwd=self.directory, umask=umask)
        elif self.driver is None:
            self.driver = self.runner.driver or self.runner.start({"HOME": str(self.home)})
            self.runner.driver = self.driver
            self.driver.lines.clear()
        return self.driver

    def restore_mock(self) -> None:
        self.mock.clear_faults()
        for method, path, body in reversed(self.clean_up):
            self.mock.control_request(method, path, body)
        calls = {step.get("call") for step in self.case.steps}
        if {"create", "generate"} & calls or self.case.is_of_command():
            self.mock.remove("reports", self.mock.made())

    def check_secrets(self) -> None:
        if self.driver is None:
            return
        for request in self.mock.requests():
            for name, value in request["headers"]:
                if name.lower() in SECRET_HEADERS:
                    self.secrets.add(value[:24] if name.lower() == "x-auth-token" else value)
        found = {one for one in self.secrets if len(one) >= 8}
        for line in self.driver.lines:
            if line.get("event") == "log" and TERMINAL_CONTROLS.search(line["message"]):
                raise Failure(f"control characters in the log: {shown(line)}")
            if any(secret in text for text in strings_in(line) for secret in found):
                raise Failure(f"a secret is printed: {shown(line)}")

    # -- steps that prepare

    def step_configure(self, step: dict[str, Any]) -> None:
        given = step["configure"]
        endpoint = given.get("endpoint", self.runner.endpoint)
        if isinstance(endpoint, str):
            endpoint = {"dead": UNREACHABLE, **self.mock.ready}.get(endpoint, endpoint)
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
        client = given.get("as", "client")
        response = self.running().ask(
            do="configure",
            client=client,
            settings=[[key, as_text(value)] for key, value in settings],
            **{key: given.get(key) for key in ("log", "token_provider", "passcodes")},
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
        elif method == "POST" and path in ("/reports", "/instances"):
            undo(("DELETE", path, {"ids": response.get("ids") or [response["id"]]}))
        elif (method, path) == ("POST", "/projects"):
            undo(("DELETE", path, None))
        elif path == "/tokens" and "token" in body:
            undo(("DELETE" if method == "POST" else "POST", path, body))
        elif path == "/keys":
            undo(("DELETE", "/metadata/keys", None))

    def step_fault(self, step: dict[str, Any]) -> None:
        """A fault's response or body may be given as the bytes of a file are."""
        fault = dict(step["fault"])
        for key in ("raw", "body"):
            if (key == "raw" and key in fault) or isinstance(fault.get(key), dict | list):
                fault[f"{key}_base64"] = base64.b64encode(bytes_of(fault.pop(key))).decode()
        self.mock.set("faults", **fault)

    def step_faults(self, step: dict[str, Any]) -> None:
        for fault in step["are"]:
            times = step.get("times", 1)
            self.step_fault({"fault": {"report": step["faults"], "times": times, **fault}})

    def step_fetch(self, step: dict[str, Any]) -> None:
        instance = step.get("instance", self.mock.instance_id)
        data, tag = self.get_report({"instance": instance, "id": step["fetch"]})
        self.fetched[step["as"]] = data
        self.names[step["as"]] = {"etag": tag, **facts_of(data)}
        self.forget_requests()

    def get_report(self, of: dict[str, Any]) -> tuple[bytes, str | None]:
        """Gets a report without a driver: its bytes and its ETag."""
        path = f"/v1/{self.mock.project_id}/audit/{of['instance']}/reports/{of['id']}/download"
        query = f"?local={of['locale']}" if of.get("locale") else ""
        headers = {"X-Auth-Token": self.mock.token}
        request = urllib.request.Request(self.mock.http + path + query, headers=headers)
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
            if content is None:
                path.unlink()
                continue
            if isinstance(content, str):
                content = {"text": content}
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
        """Makes the call, so many times as the step says; in the background all at once."""
        what, client = step["call"], step.get("client", "client")
        if client not in self.clients:
            if client != "client":
                raise ValueError(f"no client {client} was configured")
            self.step_configure({"configure": {}})
        arguments = self.arguments_of(step)
        before = self.mock.connections()["total"]
        operation = self.operation_of(step.get("operation"))
        request = {"do": "call", "call": what, "client": client, "operation": operation}
        times, end = step.get("times", 1), time.monotonic() + LIMIT
        if step.get("background"):
            each = [arguments, *(self.arguments_of(step) for _ in range(times - 1))]
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
            self.complete(response, what, arguments, step.get("as"))
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

    def arguments_of(self, step: dict[str, Any]) -> dict[str, Any]:
        what, given = step["call"], step.get("with", {})
        if set(given) - set(CALLS[what]):
            raise ValueError(f"unknown arguments of {what}: {given}")
        arguments = {**fill(CALLS[what], self.names), **given}
        if what in WRITERS:
            arguments["into"] = str(next(self.into))
        if what in WITH_FIELDS:
            arguments["fields"] = self.fields_of(step)
        if "keep" in arguments:
            arguments["as"] = step.get("as")
        return arguments

    def operation_of(self, given: dict[str, Any] | None) -> dict[str, Any] | None:
        if given is None:
            return None
        own = {"progress", "cancelled", "of"}
        return {
            "of": self.numbers[given["of"]] if "of" in given else None,
            "settings": [[k, as_text(v)] for k, v in given.items() if k not in own],
            "progress": given.get("progress"),
            "cancelled": given.get("cancelled", False),
        }

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

    def complete(
        self, response: dict[str, Any], what: str, arguments: dict[str, Any], name: str | None
    ) -> None:
        """Adds what the harness finds in files and in events, and the ids of items; names it."""
        result = response.get("result") or {}
        if result.get("expires_ms") is not None:
            result["expires_in_ms"] = result["expires_ms"] - time.time() * 1000
        if "items" in result:
            result["ids"] = [one["id"] for one in result["items"]]
        path = arguments.get("into")
        if what in ("download_to_file", "download_to_directory"):
            path = result.get("path")
        if isinstance(path, str) and "result" in response and Path(path).exists():
            response["result"] |= facts_of(Path(path).read_bytes())
        if name is not None:
            self.names[name] = {**(response.get("result") or {}), "error": response.get("error")}

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
        if wanted != ["DBSS_OK"]:
            self.compare_error(error, step.get("error", {}))
        elif error is not None:
            raise Failure(f"success with an error: {shown(error)}")
        if "result" in step:
            result = response.get("result")
            expect(result, self.comparable(step["result"], result))
        if "after" in step:
            seen = [one for one in self.events("progress") if one["of"] == response["id"]]
            percents = itertools.groupby(one["percent"] for one in seen)
            progress = {"calls": len(seen), "percents": [one for one, _ in percents]}
            for name, at in (("first", 0), ("last", -1)) if seen else ():
                progress[name] = [seen[at]["received"], seen[at]["total"]]
            after = {**(response.get("operation") or {}), "progress": progress}
            expect(after, self.comparable(step["after"], after), "operation")
        if "partial" in step and (path := (arguments or {}).get("into")) is not None:
            # What arrived before a failure must be the beginning of the report.
            data = Path(path).read_bytes() if Path(path).exists() else b""
            expect(len(data), step["partial"]["bytes"], "bytes before the failure")
            if not self.fetched[step["partial"]["of"]].startswith(data):
                raise Failure("wrong bytes before the failure")

    def comparable(self, wanted: Any, actual: Any) -> Any:
        """What is wanted, of a driver that has only some of the fields without those it lacks."""
        if not self.runner.partial or not isinstance(actual, dict):
            return wanted
        return {key: want for key, want in wanted.items() if key in actual}

    def compare_error(self, error: Any, wanted: dict[str, Any]) -> None:
        if not isinstance(error, dict):
            raise Failure("no error")
        wanted = in_own_names(self.comparable(wanted, error), self.runner.names)
        expect(error, wanted, "error")
        if TERMINAL_CONTROLS.search(error.get("message") or ""):
            raise Failure(f"control characters in a message: {shown(error)}")
        if error.get("mistakes"):
            raise Failure(f"the driver found a mistake: {error['mistakes'][0]}")

    def step_finish(self, step: dict[str, Any]) -> None:
        numbers, what, each = self.calls.pop(step["finish"])
        for number, arguments in zip(numbers, each, strict=True):
            limit = step.get("within_ms", LIMIT * 1000) / 1000
            response = self.running().receive(number, limit)
            self.complete(response, what, arguments, step["finish"])
            self.compare(response, step, arguments)

    def step_cancel(self, step: dict[str, Any]) -> None:
        name = step["cancel"]
        for number in self.calls[name][0] if name in self.calls else [self.numbers[name]]:
            self.running().ask(do="cancel", of=number)

    def to_client(self, step: dict[str, Any]) -> None:
        [(what, client)] = step.items()
        self.running().ask(do=what, client=client)

    step_cancel_all = step_close = to_client

    def step_free(self, step: dict[str, Any]) -> None:
        self.to_client(step)
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
        return [(f"{k} {w}", lambda k=k, w=w: kinds[k](w)) for k, w in wanted.items()]

    def has_progressed(self, wanted: dict[str, Any]) -> bool:
        number = self.numbers[wanted["of"]]
        calls = [
            one
            for one in self.events("progress")
            if one["of"] == number
            and one["received"] >= wanted.get("received", 0)
            and one.get("percent") == wanted.get("percent", one.get("percent"))
        ]
        return len(calls) >= wanted.get("calls", 1)

    def have_come(self, wanted: dict[str, Any]) -> bool:
        come = self.mock.requests(None if wanted["of"] == "*" else wanted["of"])
        enough = sum(one["sent"] for one in come) >= wanted.get("sent", 0)
        return len(come) >= wanted.get("count", 1) and enough

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in list(self.running().lines) if one.get("event") == kind]

    # -- what is expected

    def step_files(self, step: dict[str, Any]) -> None:
        expect_files(Path(step["files"]), step.get("are"), step.get("have", {}))

    def step_archive(self, step: dict[str, Any]) -> None:
        expect_archive(step, lambda line: self.get_report(line)[0])
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
        wanted = [{key: step[key]} for key in ("count", "has", "lacks") if key in step]
        for want in [*wanted, *([step["are"]] if "are" in step else [])]:
            expect(found, want, f"requests for {which}")

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
            [*shell_of(step), str(self.runner.build / "bin/dbss"), *words],
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
        actual: dict[str, Any] = {"stdout": out, "stderr": errors, "json": []}
        if bytes_only:
            actual["stdout"] = facts_of(raw)
        if "json" in step:
            actual["json"] = [json.loads(line) for line in out.splitlines()]
            if not out.isascii() or not all(isinstance(one["kind"], str) for one in actual["json"]):
                raise Failure(f"not the lines of --json: {said}")
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
        self.step_until({"until": when})
        for _ in range(times):
            process.send_signal(signal.Signals[by])
        try:
            process.wait(20)
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
        # C functions and constants mean nothing to the user.
        if name := re.search(r"\bdbss_|\bDBSS_(ERR|FILE|LOG)_", errors):
            raise Failure(f"{name[0]} is printed: {errors}")


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


def as_text(value: Any) -> Any:
    """A setting's value as text; null and what is not UTF-8 stay."""
    return json.dumps(value) if isinstance(value, bool | int | float) else value
