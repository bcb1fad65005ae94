"""The conformance driver for the command dbss; ../README.md describes the protocol.

Each call is a run of the program. Its argument is the program's path.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from serving import as_field, known, serve

PROGRAM = sys.argv[1]
# Settings with a flag that takes the value as it is; the others are for --set.
FLAGS = {
    "endpoint": "--endpoint",
    "region": "--region",
    "ca_file": "--ca-file",
    "max_attempts": "--max-attempts",
    "credentials": "--credentials",
}
# The variables for settings that are secret. A proxy's may hold a password.
SECRETS = {
    "access_key": "HUAWEICLOUD_SDK_AK",
    "secret_key": "HUAWEICLOUD_SDK_SK",
    "security_token": "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    "iam_password": "DBSS_IAM_PASSWORD",
    "proxy": "all_proxy",
}
# Only one of them sets the credentials.
CREDENTIALS = {"token", "access_key", "iam_user", "credentials"}
MIRROR_FLAGS = {"template": "--template-type", "utc_offset": "--utc-offset"}
# The flags of what a call is about.
SUBJECT = {"project": "--project", "instance": "--instance", "id": "--report"}
UNREACHABLE = "http://127.0.0.1:1"
# More than a variable of the environment can hold.
LONG = 100_000

Lines = list[dict[str, Any]]


@dataclass
class Client:
    """How to run the program."""

    words: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    project: str | None = None


clients: dict[str, Client] = {}
running: dict[int | None, subprocess.Popen[str]] = {}
libc = ctypes.CDLL(None)
directory = tempfile.TemporaryDirectory(prefix="driver-")


def client_of(settings: list[list[Any]], passcodes: list[dict[str, Any]]) -> Client:
    client = Client()
    last = next((key for key, _ in reversed(settings) if key in CREDENTIALS), None)
    keys = {key for key, _ in settings}
    for key, given in settings:
        value = text(given)
        if key == "token" and last == "token":
            set_token(client, value, CREDENTIALS & keys == {"token"})
        elif key in SECRETS:
            client.environment[SECRETS[key]] = value
            if key == "access_key" and last == "access_key":
                client.words += ["--credentials", "environment"]
            if key == "proxy":
                client.words.append("--proxy-from-environment")
        elif key == "project_id":
            client.project = value
        elif key in FLAGS:
            client.words += [FLAGS[key], value]
        elif key != "token":
            client.words += ["--set", f"{key}={value}"]
    if not keys & {*CREDENTIALS, "metadata_endpoint"}:
        # Without credentials the program looks for them everywhere, but not outside of here.
        client.words += ["--set", f"metadata_endpoint={UNREACHABLE}"]
    if passcodes:
        client.environment["DBSS_IAM_PASSCODE"] = passcodes[0]["passcode"]
    return client


def set_token(client: Client, token: str, by_variable: bool) -> None:
    """Gives the program a token by its variable, or by a file what that cannot hold."""
    if by_variable and 0 < len(token) < LONG:
        client.environment["DBSS_TOKEN"] = token
        return
    path = Path(directory.name, f"token-{len(os.listdir(directory.name))}")
    # The program takes one line end away.
    path.write_bytes(os.fsencode(token) + b"\n")
    client.words += ["--token-file", str(path)]


def run(
    number: int | None, client: Client, words: list[str], stdout: Any = subprocess.PIPE
) -> dict[str, Any]:
    """Runs the program; returns the response, with what it printed as "lines"."""
    words = [PROGRAM, *words[:1], *client.words, *words[1:]]
    if any("\0" in word for word in (*words, *client.environment.values())):
        raise NotImplementedError("NUL in an argument")
    process = subprocess.Popen(
        words,
        env={**os.environ, **client.environment},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        # A killed driver leaves nobody behind (PR_SET_PDEATHSIG).
        preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),
    )
    running[number] = process
    out, messages = process.communicate()
    running.pop(number, None)
    lines: Lines = [json.loads(line) for line in (out or "").splitlines()]
    code = process.returncode
    # The messages are only for the harness, which looks for secrets.
    response: dict[str, Any] = {"status": "DBSS_OK", "exit_code": code, "messages": messages}
    if any(f"unexpected argument '{flag}'" in messages for flag in SUBJECT.values()):
        raise NotImplementedError(messages)
    if lines and lines[-1]["kind"] == "error":
        error = lines.pop()
        response["status"] = error.get("status_name")
        response["error"] = error_fields(error)
        if error["exit_code"] != code:
            response["error"]["mistakes"] = [
                f"exit code {error['exit_code']} is printed, not {code}"
            ]
    elif code != 0:
        message = messages.removeprefix("dbss: ").splitlines()
        response |= {"status": None, "error": {"message": " ".join(message)}}
    return {**response, "lines": lines}


def error_fields(line: dict[str, Any]) -> dict[str, Any]:
    """What the program prints about an error, but for its words, which are for its flags."""
    return {name: line[name] for name in ("service_code", "request_id", "details") if name in line}


def common(client: Client, given: dict[str, Any]) -> list[str]:
    """The flags that name what a call is about."""
    words = ["--json"]
    project = given.get("project")
    given = {**given, "project": client.project if project is None else project}
    for name, flag in SUBJECT.items():
        value = given.get(name)
        if value is not None:
            words += [flag, text(value)]
    for name in ("locale", "name", "status", "template"):
        if given.get(name) is not None:
            words += [f"--{name}", text(given[name])]
    return words


def text(value: Any) -> str:
    """A word of the command line, which may be any bytes."""
    if isinstance(value, dict) and "hex" in value:
        return os.fsdecode(bytes.fromhex(value["hex"]))
    if isinstance(value, bool | int):
        return json.dumps(value)
    if not isinstance(value, str):
        raise NotImplementedError(f"the value {value!r}")
    return value


def flags(values: dict[str, str], names: dict[str, str] | None = None) -> list[str]:
    """A flag for each key."""
    words = []
    for key, value in values.items():
        words += [(names or {}).get(key, f"--{key.replace('_', '-')}"), text(value)]
    return words


def one_item(line: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    return {name: as_field(line.get(name)) for name in fields}


def the(kind: str, lines: Lines) -> dict[str, Any]:
    [found] = [line for line in lines if line["kind"] == kind]
    return found


def listed(lines: Lines, given: dict[str, Any]) -> dict[str, Any]:
    return {"items": [one_item(line, given["fields"]) for line in lines]}


def shown(lines: Lines, given: dict[str, Any]) -> dict[str, Any]:
    return one_item(the("schedule", lines), given.get("fields", []))


def identity(lines: Lines, _: dict[str, Any]) -> dict[str, Any]:
    found = the("check", lines)
    expires = found["expires"] and datetime.fromisoformat(found["expires"].replace("Z", "+00:00"))
    return {
        "source": found["source"],
        "name": found["who"],
        "project": found["project"],
        "expires_ms": expires and round(expires.timestamp() * 1000),
    }


def mirrored(lines: Lines, _: dict[str, Any]) -> dict[str, Any]:
    counts = the("mirror", lines)
    failures = [line for line in lines if line["kind"] == "failure"]
    gaps = [line for line in lines if line["kind"] == "gap"]
    return {
        **{name: n for name, n in counts.items() if name not in ("kind", "time", "gaps")},
        "failures": [
            {
                "id": one["id"],
                "instance": one["instance"],
                "error": {**error_fields(one), "status": one["status_name"]},
            }
            for one in failures
        ],
        "gaps": [{name: one[name] for name in ("period", "type", "instance")} for one in gaps],
    }


def nothing(_: Lines, __: dict[str, Any]) -> dict[str, Any]:
    return {}


def saved(lines: Lines, _: dict[str, Any]) -> dict[str, Any]:
    return {"path": the("download", lines)["path"]}


Reader = Callable[[Lines, dict[str, Any]], dict[str, Any]]


def plan(call: str, given: dict[str, Any]) -> tuple[list[str], Reader]:
    """The subcommand of a call with its own flags, and what reads its result."""
    if call == "download":
        return ["download", "--force", "--output", given["into"]], nothing
    if call in ("download_to_file", "download_to_directory"):
        where = given["path"] if call == "download_to_file" else f"{given['directory']}/"
        force = ["--force"] if given["replace"] else []
        return ["download", "--output", where, *force], saved
    if call == "check":
        return ["check"], nothing
    if call == "find_credentials":
        return ["check"], identity
    if call in ("instances", "reports", "templates", "databases"):
        return [call], listed
    if call == "schedule":
        return ["schedule"], shown
    if call == "update_schedule":
        return ["schedule", *flags(given["changes"])], nothing
    if call == "generate":
        return (
            ["generate", *flags(given["spec"], {"template_id": "--template"})],
            lambda lines, _: {"id": the("generated", lines)["id"]},
        )
    if call == "delete":
        return ["delete", "--yes"], nothing
    if call == "mirror":
        options = dict(given["options"])
        verify = ["--verify"] if options.pop("verify", "false") in ("true", True) else []
        return ["mirror", "--gaps", *verify, *flags(options, MIRROR_FLAGS)], mirrored
    raise NotImplementedError(f"the call {call}")


def perform(request: dict[str, Any]) -> dict[str, Any]:
    client, given = clients[request["client"]], request["arguments"]
    operation = request["operation"]
    more: list[str] = []
    if operation is not None:
        if operation["cancelled"] or operation["progress"]:
            raise NotImplementedError("an operation that the caller controls")
        for key, value in operation["settings"]:
            more += ["--set", f"{key}={value}"]
    if request["call"] == "download_to_descriptor":
        # Where the report is, there is no place for JSON.
        words = [word for word in common(client, given) if word != "--json"]
        with open(given["into"], "wb") as file:
            words = ["download", "--output", "-", *words, *more]
            response = run(request["id"], client, words, file)
        if response["status"] == "DBSS_OK":
            response["result"] = {}
    else:
        words, read = plan(request["call"], given)
        words += [*common(client, given), *more]
        if request["call"] == "mirror":
            words += ["--", given["directory"]]
        response = run(request["id"], client, words)
        lines = response["lines"]
        if request["call"] == "find_credentials" and lines:
            # They were found, even if the service does not accept them.
            response |= {"status": "DBSS_OK", "exit_code": 0}
            response.pop("error", None)
        if response["status"] == "DBSS_OK" or any(line["kind"] == "mirror" for line in lines):
            response["result"] = read(lines, given)
        if operation is not None:
            names = {"bytes": "received", "attempts": "attempts", "request_id": "request_id"}
            done = [line for line in lines if line["kind"] == "download"]
            response["operation"] = {
                ours: one[theirs] for one in done for theirs, ours in names.items()
            }
    del response["lines"]
    return response


def configure(request: dict[str, Any]) -> dict[str, Any]:
    client = client_of(request["settings"], request["passcodes"] or [])
    clients[request["client"]] = client
    # A report's id that is wrong is found only after the settings were, and before any
    # connection.
    words = ["download", "--output", directory.name, "--report", "?", "--instance", "x" * 32]
    response = run(None, client, [*words, *common(client, {})])
    lines = response.pop("lines")
    assert not lines, lines
    if "--report" in response["messages"]:
        return {"status": "DBSS_OK"}
    clients.pop(request["client"])
    return response


def cancel(request: dict[str, Any]) -> None:
    known(running, request["of"]).send_signal(signal.SIGINT)


def end() -> None:
    for process in list(running.values()):
        process.send_signal(signal.SIGINT)


if __name__ == "__main__":
    with directory:
        handlers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "call": perform,
            "configure": configure,
            "cancel": cancel,
            "free": lambda request: clients.pop(request["client"], None) and None,
        }
        serve(handlers, end)
