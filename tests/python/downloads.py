"""Shared by the tests of one call: reports, every way to download, phases of a call."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dbss
import pytest

from mock_service import MockService

KIB = 1024
MIB = 1024 * 1024
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
# The library promises 100 ms for a cancel and 250 ms for a callback or a signal; the rest
# allows for a busy machine.
PROMPT = 1.0


class CustomError(Exception):
    """Only the tests raise it."""


@dataclass
class Report:
    mock: MockService
    info: dict[str, Any]

    @property
    def id(self) -> str:
        return self.info["id"]

    @property
    def ids(self) -> tuple[str, str, str]:
        return self.mock.project_id, self.mock.instance_id, self.id

    @property
    def size(self) -> int:
        return self.info["sizes"]["en-us"]

    @property
    def sha256(self) -> str:
        return self.info["sha256"]["en-us"]

    def fault(self, **fault: Any) -> None:
        self.mock.fault(self.id, **fault)

    def requests(self) -> list[dict[str, Any]]:
        return self.mock.requests(self.id)


NewReport = Callable[..., Report]


@pytest.fixture
def client(mock: MockService) -> Iterator[dbss.Client]:
    with dbss.Client(endpoint=mock.http, token=mock.token) as one:
        yield one


@pytest.fixture
def new_report(mock: MockService) -> Iterator[NewReport]:
    """Makes reports; faults are given as keywords, and removed after the test."""

    def make_report(size: int = 300 * KIB, format: str = "bytes", **fault: Any) -> Report:
        report = Report(mock, mock.add_report(format=format, size=size))
        if fault:
            report.fault(**fault)
        return report

    yield make_report
    mock.clear_faults()
    mock.clear_listener_faults()


def sha256(data: bytes | Path) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


# The first lines of a program in a child process.
PROGRAM = """
import builtins, gc, hashlib, os, shutil, sys, tempfile, threading, time
import dbss, dbss.operation
settings = {"endpoint": os.environ["ENDPOINT"], "token": os.environ["TOKEN"]}
ids = os.environ["IDS"].split(",")
def proc(name):
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith(name)]
    return int(line.split()[1])
"""


def run_program(code: str, report: Report, environment: dict[str, str], **more: str) -> str:
    """Runs a program that must be silent on standard error; returns what it prints."""
    given = {"ENDPOINT": report.mock.http, "TOKEN": report.mock.token, "IDS": ",".join(report.ids)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + code],
        env={**environment, **given, **more},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# Every way to download; each returns the bytes.


class Writer:
    """An object with a write method that is not a file."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        self.parts.append(data)


def to_bytes(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    return client.download_report(*report.ids, **more)


def to_file(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    path = directory / report.id
    assert client.download_report_to(*report.ids, path, **more) == path
    return path.read_bytes()


def to_directory(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    path = client.download_report_to(*report.ids, directory, **more)
    assert path.parent == directory
    return path.read_bytes()


def to_descriptor(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    with tempfile.TemporaryFile() as file:
        assert client.download_report_to(*report.ids, file.fileno(), **more) is None
        file.seek(0)
        return file.read()


def to_writer(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    writer = Writer()
    assert client.download_report_to(*report.ids, writer, **more) is None
    return b"".join(writer.parts)


def with_stream(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    with client.open_report(*report.ids, **more) as stream:
        return stream.read()


METHODS = [to_bytes, to_file, to_directory, to_descriptor, to_writer, with_stream]
every_method = pytest.mark.parametrize("method", METHODS)
