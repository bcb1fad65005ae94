"""The command dbss as a child process, for its tests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import TERMINAL_CONTROLS
from mock_service import MockService

TIMEOUT = 60.0
MIB = 1024 * 1024

# A single attempt, so that one fault is enough.
NO_RETRY = ("--max-attempts", "1")
FAST_POLL = ("--poll-interval", "0.02")
TIME_RANGE = ("--start-time", "2026-01-01 00:00:00", "--end-time", "2026-01-02 00:00:00")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def json_lines(text: str) -> list[dict[str, Any]]:
    """The objects of --json, each of which has its kind."""
    assert text.isascii()
    objects = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(one["kind"], str) for one in objects)
    return objects


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


class Process(subprocess.Popen[bytes]):
    """A child process, which does not outlive a test that fails."""

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)


class Command:
    """Runs dbss in an empty directory, with a new instance, and checks that it prints no secret."""

    def __init__(
        self, program: Path, mock: MockService, environment: dict[str, str], directory: Path
    ) -> None:
        self.program = program
        self.mock = mock
        self.directory = directory / "here"
        self.directory.mkdir()
        self.report: str = mock.pdf["id"]
        self.secrets = [mock.token, mock.secret_key, mock.password]
        self.environment = {
            **{name: value for name, value in environment.items() if name != "NO_COLOR"},
            "HOME": str(directory),
            "TERM": "xterm",
            "DBSS_PROJECT_ID": mock.project_id,
            "DBSS_INSTANCE_ID": mock.instance_id,
            "DBSS_ENDPOINT": mock.http,
            "DBSS_TOKEN": mock.token,
        }
        self.environment.pop("XDG_CONFIG_HOME", None)

    def env(self, changes: dict[str, str | None]) -> dict[str, str]:
        return {k: v for k, v in {**self.environment, **changes}.items() if v is not None}

    def start(
        self,
        *arguments: str | Path,
        env: dict[str, str | None] | None = None,
        wrap: tuple[str, ...] = (),
        **options: Any,
    ) -> Process:
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return Process(
            [*wrap, str(self.program), *map(str, arguments)],
            env=self.env(env or {}),
            cwd=self.directory,
            **{**streams, **options},
        )

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, **options) as process:
            printed = process.communicate(b"" if process.stdin else None, TIMEOUT)
        out, err = ((stream or b"").decode() for stream in printed)
        assert not any(secret in out + err for secret in self.secrets)
        assert not TERMINAL_CONTROLS.search(re.sub(r"[\t\n]", "", out + err))
        assert "panicked" not in err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def prints(self, *arguments: str | Path, **options: Any) -> str:
        """Runs it; it succeeds, and prints only to standard output."""
        done = self.run(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def files(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def on_terminal(
        self,
        *arguments: str | Path,
        columns: int = 80,
        code: int = 0,
        stdin: bool = False,
        **options: Any,
    ) -> str:
        """Runs it with a terminal as its output; returns everything that it wrote there."""
        terminal = Terminal(columns)
        streams = {"stdin": terminal.slave if stdin else subprocess.DEVNULL}
        try:
            done = self.run(
                *arguments,
                **{**streams, "stdout": terminal.slave, "stderr": terminal.slave, **options},
            )
        finally:
            written = terminal.close()
        assert done.returncode == code, written
        for secret in self.secrets:
            assert secret not in written
        return written


class Terminal:
    """A terminal, which records everything that is written to it."""

    def __init__(self, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.written = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.master, 4096)
            except OSError:
                return
            if not part:
                return
            self.written += part

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> str:
        """Closes it; returns everything."""
        os.close(self.slave)
        self._reader.join(30)
        os.close(self.master)
        return self.written.decode().replace("\r\n", "\n")


ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


def frames(written: str) -> list[str]:
    """The lines that a progress bar drew one over the other."""
    parts = re.split(r"\r|\n|\x1b\[2K", written)
    return [text for text in (ESCAPE.sub("", part).rstrip() for part in parts) if text]


def final_screen(written: str) -> list[str]:
    """The lines that are left in the end; the bar has one line, and is wiped."""
    lines: list[str] = []
    for line in written.split("\n"):
        wiped = re.split(r"\x1b\[2K", line)[-1]
        cells: list[str] = []
        at = 0
        for one in ESCAPE.sub("", wiped):
            if one == "\r":
                at = 0
                continue
            cells[at : at + 1] = one
            at += 1
        lines.append("".join(cells).rstrip())
    return [line for line in lines if line]


@pytest.fixture
def command(
    build_dir: Path, mock: MockService, environment: dict[str, str], tmp_path: Path
) -> Iterator[Command]:
    """The command with the mock service's first instance."""
    mock.clear_faults()
    yield Command(build_dir / "bin/dbss", mock, environment, tmp_path)
    mock.clear_faults()
    mock.set_generation()
    mock.set_metadata()


@pytest.fixture
def instance(command: Command, mock: MockService) -> Iterator[str]:
    """A new instance, which the command uses."""
    added = mock.add_instance("mine")
    command.environment["DBSS_INSTANCE_ID"] = added
    mock.clear_requests()
    mock.set_generation()
    yield added
    mock.remove_instances([added])
