"""Runs combinations in a network namespace of its own, where the hosts of the cloud are the
gateway. Its standard input is a line of JSON; it prints a line of JSON for each combination and
SDK."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any

import gateway
from mock_service import MockService, first_line

# The address of all hosts.
CLOUD = "192.0.2.1"
TIMEOUT = 60
NO_AGENCY = "Please configure Cloud Service Agency first"

KEYS = ("explicit", "environment", "profile")
VALUES = {
    f"{name.upper()}_{part}": f"{name.upper():X<20}" if part == "AK" else f"{name:-<40}"
    for name in KEYS
    for part in ("AK", "SK")
}
# What the mock service takes, of its ready line.
TAKEN = ("project_id", "id_token", "idp_id", "provider_urn", "agency_urn", "pod_token")

Run = Callable[[dict[str, Any], dict[str, str]], dict[str, Any]]


def set_up_network(hosts: list[str], directory: Path) -> None:
    files = {
        "/etc/hosts": "127.0.0.1 localhost\n" + "".join(f"{CLOUD} {host}\n" for host in hosts),
        # What the machine's own resolver would say must not matter.
        "/etc/nsswitch.conf": "hosts: files\n",
    }
    for place, text in files.items():
        file = directory / Path(place).name
        file.write_text(text)
        if Path(place).exists():
            subprocess.run(["mount", "--bind", str(file), place], check=True)
    for command in (
        "ip link set lo up",
        f"ip address add {CLOUD}/32 dev lo",
        f"ip address add {gateway.POD}/32 dev lo",
    ):
        subprocess.run(command.split(), check=True)


def program(command: list[str]) -> Run:
    """An SDK that is a program of its own."""

    def run(request: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
        values = {"HOME": environment["HOME"]}
        arguments = [Template(part).safe_substitute(values) for part in command]
        done = subprocess.run(
            [*arguments, json.dumps(request)],
            env=environment,
            cwd=environment["HOME"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {"error": "crash", "message": done.stderr}

    return run


def module(path: str) -> Run:
    """An SDK in Python. It is imported once; each run has a process of its own."""
    loaded = runpy.run_path(path)

    def run(request: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(TIMEOUT)
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(environment["HOME"])
            with open(writing, "w") as out:
                json.dump(loaded["run"](request), out)
            os._exit(0)
        os.close(writing)
        with open(reading) as out:
            text = out.read()
        os.waitpid(child, 0)
        return json.loads(text or '{"error": "crash"}')

    return run


class Worker:
    def __init__(self, settings: dict[str, Any], mock: MockService, directory: Path) -> None:
        self.settings = settings
        self.mock = mock
        self.home = directory / "home"
        self.log = directory / "log"
        taken = {name.upper(): getattr(mock, name) for name in TAKEN}
        self.values = {**VALUES, **taken, "HOME": str(self.home)}
        self.keys = {VALUES[f"{name.upper()}_AK"]: name for name in KEYS}
        for name in KEYS:
            key = {"access_key": "AK", "secret_key": "SK"}
            mock.set("keys", **{k: VALUES[f"{name.upper()}_{v}"] for k, v in key.items()})
        self.sdks = {
            name: program(sdk["command"]) if "command" in sdk else module(sdk["module"])
            for name, sdk in settings["sdks"].items()
        }
        self.has_metadata = False

    def prepare(self, combination: dict[str, Any]) -> None:
        """What the combination says of the cloud and of the home directory."""
        mock, metadata = self.mock, combination["metadata"]
        mock.clear_faults()
        mock.control_request("DELETE", "/projects")
        for name in combination["projects"]:
            mock.set("projects", name=name, id=mock.project_id)
        for name in combination["other_projects"]:
            mock.set("projects", name=name)
        mock.set("shapes", **combination["shapes"])
        for call, fault in combination["faults"].items():
            mock.fault(call, **fault)
        if self.has_metadata != (metadata is not None):
            action = "del" if self.has_metadata else "add"
            address = f"{gateway.METADATA}/32"
            subprocess.run(["ip", "address", action, address, "dev", "lo"], check=True)
            self.has_metadata = not self.has_metadata
        if metadata is not None:
            tokens = metadata.get("tokens", 200)
            mock.set("metadata", require_token=tokens == 200)
            if tokens != 200:
                mock.fault("@metadata.token", status=tokens)
            if not metadata.get("agency", True):
                mock.fault("@metadata.key", status=401, body=NO_AGENCY)
        shutil.rmtree(self.home, ignore_errors=True)
        for name, text in combination["files"].items():
            file = self.home / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o600)
        self.home.mkdir(exist_ok=True)
        self.log.write_text("")

    def observe(self, combination: dict[str, Any], sdk: str) -> dict[str, Any]:
        """Runs an SDK, and tells what it did."""
        combination = json.loads(Template(json.dumps(combination)).safe_substitute(self.values))
        self.prepare(combination)
        environment = {
            **self.settings["environment"],
            **combination["environment"],
            "HOME": str(self.home),
        }
        request = {
            "arguments": combination["arguments"],
            "implicit": combination["implicit"],
            "list": combination["list"],
            "report": combination["report"],
            "ca_file": self.settings["ca_file"],
        }
        result = self.sdks[sdk](request, environment)
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return {**result, **self.requests(entries)}

    def requests(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        """What the requests tell of the credentials, the project and the hosts."""
        keys = self.keys | {one["issued"]: one["source"] for one in entries if "issued" in one}
        requests = [one for one in entries if "host" in one]
        calls = [one for one in requests if "/audit/" in one["target"]]
        signed = [one for one in requests if "authorization" in one["headers"]]
        signed = [one for one in signed if "Access=" in one["headers"]["authorization"]]
        seen: dict[str, Any] = {"key": None, "security_token": None, "project": None, "host": None}
        if signed:
            headers = signed[-1]["headers"]
            [access] = re.findall("Access=([^, ]+)", headers["authorization"])
            seen["key"] = keys.get(access, access)
            seen["security_token"] = "x-security-token" in headers
        if calls:
            project = calls[-1]["target"].split("/")[2]
            seen["project"] = "own" if project == self.mock.project_id else "other"
            seen["host"] = calls[-1]["host"]
        others = [one["host"] for one in requests if one["host"].startswith(("iam.", "sts."))]
        seen["iam"] = list(dict.fromkeys(others))
        seen["requests"] = [
            f"{one['method']} {one['host']}{one['target']} {one['status']}" for one in requests
        ]
        seen["wrong_server_names"] = [
            one["host"] for one in requests if one["server_name"] not in (one["host"], None)
        ]
        seen["domain_id"] = any("x-domain-id" in one["headers"] for one in requests)
        return seen


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    directory = Path(settings["directory"])
    set_up_network(settings["hosts"], directory)
    with MockService(settings["mock"]) as mock:
        started = subprocess.Popen(
            [sys.executable, gateway.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert started.stdin is not None
        line = {
            "mock": {name: getattr(mock, name) for name in ("http", "iam", "metadata")},
            "certificate": settings["certificate"],
            "key": settings["key"],
            "log": str(directory / "log"),
        }
        started.stdin.write(json.dumps(line) + "\n")
        started.stdin.flush()
        assert first_line(started, 30) == "ready\n"
        worker = Worker(settings, mock, directory)
        for combination in settings["combinations"]:
            for sdk in settings["sdks"]:
                observed = worker.observe(combination, sdk)
                found = {"combination": combination["name"], "sdk": sdk, "observed": observed}
                print(json.dumps(found), flush=True)
        started.stdin.close()
        started.wait(10)


if __name__ == "__main__":
    main()
