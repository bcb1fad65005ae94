"""Transfers through the C ABI: checks in C, and dbss-download on a terminal.

These variables make some checks longer: DBSS_TEST_ROUNDS (random cuts, 120), DBSS_TEST_KILLS
(kills during a save, 80), DBSS_TEST_LARGE (the size of the large report in MiB, 2048).
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import need_tool
from test_c import (
    NO_RETRY,
    VALGRIND,
    VALGRIND_TLS,
    DownloadProgram,
    c_programs,
    checks_in,
    download,
    environment,
    expect_success,
    fixture_file,
    run,
    sha256,
    wait_until,
)

if TYPE_CHECKING:
    from mock_service import MockService

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "download", "environment", "fixture_file"]

PROGRAMS = ("transfers", "errors", "records", "control", "signals", "threads", "closing", "files")

CHECKS = [
    (program, name, kind) for program in PROGRAMS for name, kind in checks_in(program).items()
]


@pytest.fixture
def check_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment for the check programs."""
    test_variables = ("DBSS_TEST_ROUNDS", "DBSS_TEST_KILLS", "DBSS_TEST_LARGE")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return {
        **environment,
        **{name: os.environ[name] for name in test_variables if name in os.environ},
        "TMPDIR": str(scratch),
    }


@pytest.fixture(autouse=True)
def clear_faults(mock: MockService) -> None:
    # Faults of a failed test must not affect the next one.
    mock.clear_faults()


@pytest.mark.parametrize("program", PROGRAMS)
def test_transfer_checks_are_all_run(
    c_programs: Path, environment: dict[str, str], program: str
) -> None:
    listed = expect_success(run([c_programs / program, "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for owner, name, kind in CHECKS if owner == program]
    assert len(listed) >= 4


@pytest.mark.parametrize(("program", "check", "kind"), CHECKS)
def test_transfer_check_passes(
    c_programs: Path,
    check_environment: dict[str, str],
    fixture_file: Path,
    program: str,
    check: str,
    kind: str,
) -> None:
    done = run([c_programs / program, fixture_file, check], check_environment, 1000)
    skipped = re.match(rf"skip {check}: (.*)", done.stdout)
    if skipped:
        if os.environ.get("CI") == "true":
            pytest.fail(skipped[1])
        pytest.skip(skipped[1])
    assert f"ok {check}\n" in expect_success(done)
    assert not any(Path(check_environment["TMPDIR"]).iterdir())


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_transfer_checks_under_valgrind_pass(
    c_programs: Path, check_environment: dict[str, str], fixture_file: Path, program: str, kind: str
) -> None:
    need_tool("valgrind")
    checks = [name for owner, name, its_kind in CHECKS if (owner, its_kind) == (program, kind)]
    if not checks:
        return
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, c_programs / program, fixture_file, *checks], check_environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)


# dbss-download on a terminal.


class Terminal:
    """A terminal for the standard error of a program, which records everything written to it."""

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

    def close(self) -> str:
        """Closes it; returns everything."""
        os.close(self.slave)
        self._reader.join(30)
        os.close(self.master)
        return self.written.decode().replace("\r\n", "\n")


def on_terminal(
    download: DownloadProgram, *arguments: str, columns: int = 80, **options: Any
) -> tuple[subprocess.CompletedProcess[bytes], str]:
    terminal = Terminal(columns)
    try:
        done = download(*arguments, stderr=terminal.slave, **options)
    finally:
        written = terminal.close()
    assert download.token not in written
    return done, written


def visible_text(line: str) -> str:
    """The text that a terminal line finally shows. A progress bar never leaves its line."""
    cells: list[str] = []
    at = 0
    for character in line:
        if character == "\r":
            at = 0
            continue
        cells[at : at + 1] = character
        at += 1
    assert all(len(part) < 80 for part in line.split("\r")[:-1])
    return "".join(cells).rstrip()


def split_lines(written: str) -> list[str]:
    # Not splitlines(), which splits at carriage returns too.
    return written.rstrip("\n").split("\n")


@pytest.mark.parametrize("columns", [10, 40, 200])
def test_progress_bar_fits_terminal_width(
    download: DownloadProgram, mock: MockService, columns: int
) -> None:
    report = mock.add_report(format="pdf", size=1_200_000)
    mock.fault(report["id"], drip={"bytes": 100_000, "every_ms": 60}, times=1)
    done, written = on_terminal(download, "--report", report["id"], "-o", "x", columns=columns)
    assert done.returncode == 0, written
    frames = [frame for frame in written.split("\r") if "%" in frame]
    assert frames
    assert {len(frame) for frame in frames} == {min(columns, 80) - 1}
    if columns > 10:
        assert any(re.search(r"% of 1\.1 MiB, \d:\d\d left, ", frame) for frame in frames)


def test_progress_bar_is_shown_and_erased(download: DownloadProgram, mock: MockService) -> None:
    report = mock.add_report(format="pdf", size=1_200_000)
    mock.fault(report["id"], drip={"bytes": 100_000, "every_ms": 60}, times=1)
    start = time.monotonic()
    done, written = on_terminal(download, "--report", report["id"], "-o", "x")
    elapsed = time.monotonic() - start
    assert done.returncode == 0, written
    assert done.stdout == b""
    frames = [frame.rstrip() for frame in written.split("\r") if "/s" in frame]
    assert 2 <= len(frames) <= elapsed * 10 + 1
    for frame in frames:
        assert re.fullmatch(
            r" *\d+% of 1\.1 MiB, (\d+:\d\d left, )?[\d.]+ [KM]?i?B, [\d.]+ [KM]?i?B/s", frame
        ), frame
    percents = [int(frame.split("%")[0]) for frame in frames]
    assert percents == sorted(percents)
    assert 0 < percents[-1] <= 100
    # The bar uses one line, and is erased.
    assert [visible_text(line) for line in split_lines(written)] == ["saved x (1200000 bytes)"]
    assert "\x1b" not in written
    assert sha256(download.cwd / "x") == report["sha256"]["en-us"]


def test_progress_bar_shows_attempts(download: DownloadProgram, mock: MockService) -> None:
    report = mock.add_report(format="pdf", size=4_000_000)
    mock.fault(report["id"], cut_after=2_000_000, times=1)
    mock.fault(report["id"], drip={"bytes": 200_000, "every_ms": 60}, times=1)
    done, written = on_terminal(download, "--report", report["id"], "-o", "x", "--verbose")
    assert done.returncode == 0, written
    assert re.search(r"\d+% of 3\.8 MiB, .*/s, attempt 2, 1\.9 MiB resumed", written)
    # Log messages are on separate lines.
    lines = [visible_text(line) for line in split_lines(written)]
    assert lines[-1] == "saved x (4000000 bytes, 2 attempts)"
    assert all(line.startswith("dbss-download: ") for line in lines[:-1])
    assert [line for line in lines if line.startswith("dbss-download: warning: ")]
    assert sha256(download.cwd / "x") == report["sha256"]["en-us"]


def test_progress_bar_without_size_has_no_percentage(
    download: DownloadProgram, mock: MockService
) -> None:
    report = mock.add_report(format="pdf", size=500_000)
    mock.fault(report["id"], drip={"bytes": 50_000, "every_ms": 50}, framing="chunked", times=1)
    done, written = on_terminal(download, "--report", report["id"], "-o", "x")
    assert done.returncode == 0, written
    assert "/s" in written
    assert "%" not in written


@pytest.mark.parametrize("quiet", ["--quiet", "-q"])
def test_progress_bar_is_absent_when_quiet_or_not_a_terminal(
    download: DownloadProgram, mock: MockService, quiet: str
) -> None:
    slow = {"drip": {"bytes": 1000, "every_ms": 60}, "times": 1}
    mock.fault(mock.pdf["id"], **slow)
    done, written = on_terminal(download, quiet)
    assert (done.returncode, done.stdout, written) == (0, b"", "")
    # A failure is always printed.
    done, written = on_terminal(download, quiet)
    assert done.returncode == 7
    assert written.startswith("dbss-download: ")
    # Here standard error is not a terminal.
    mock.fault(mock.pdf["id"], **slow)
    done = download("--force")
    assert done.returncode == 0
    assert re.fullmatch(rb"saved audit-report.pdf \(\d+ bytes\)\n", done.stderr)


def test_progress_bar_is_erased_before_an_error(
    download: DownloadProgram, mock: MockService
) -> None:
    slow_end = {"drip": {"bytes": 1000, "every_ms": 60}, "cut_after": 4000, "times": 1}
    mock.fault(mock.pdf["id"], **slow_end)
    done, written = on_terminal(download, *NO_RETRY)
    assert done.returncode == 6
    assert "/s" in written
    [line] = split_lines(written)
    assert re.search(r"\r +\rdbss-download: ", line)
    assert download.files() == []


# Signals.


STALLS: list[tuple[str, dict[str, Any]]] = [
    ("http", {"no_answer": True}),
    ("http", {"stall_after": 2000}),
    ("https", {"stall_after": 2000}),
    ("http", {"status": 503, "headers": [["Retry-After", "50"]]}),
    ("never_accepts", {}),
]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(("endpoint", "fault"), STALLS)
def test_signal_ends_the_program_at_once(
    download: DownloadProgram, mock: MockService, endpoint: str, fault: dict[str, Any], times: int
) -> None:
    report = mock.pdf["id"]
    before = len(mock.requests(report=report))
    if fault:
        mock.fault(report, **fault)
    target = download.cwd / "target"
    target.write_text("mine")
    process = subprocess.Popen(
        [download.program, "-o", "target", "--force", "--ca-file", mock.ca_file, "--verbose"],
        cwd=download.cwd,
        env=download.env({"DBSS_ENDPOINT": getattr(mock, endpoint)}),
        stderr=subprocess.PIPE,
    )
    if fault:
        wait_until(lambda: len(mock.requests(report=report)) == before + 1)
    else:
        # It has a socket, and waits for it.
        wait_until(lambda: has_socket(process.pid))
    start = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert time.monotonic() - start < 1
    assert process.returncode == 130, errors
    assert b"cancelled" in errors
    assert download.files() == ["target"]
    assert target.read_text() == "mine"
    mock.clear_faults()


def has_socket(pid: int) -> bool:
    directory = Path("/proc") / str(pid) / "fd"
    try:
        return any("socket:" in os.readlink(fd) for fd in directory.iterdir())
    except OSError:
        return False


def test_ignored_signal_stays_ignored(download: DownloadProgram, mock: MockService) -> None:
    report = mock.pdf["id"]
    before = len(mock.requests(report=report))
    mock.fault(report, delay_ms=300, times=1)
    process = subprocess.Popen(
        [download.program, "-o", "target"],
        cwd=download.cwd,
        env=download.environment,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_until(lambda: len(mock.requests(report=report)) == before + 1)
    process.send_signal(signal.SIGHUP)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == 0, errors
    assert download.files() == ["target"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signal_while_stdout_is_not_read_ends_the_program(
    download: DownloadProgram, mock: MockService, number: signal.Signals
) -> None:
    report = mock.add_report(format="pdf", size=2_000_000)
    process = subprocess.Popen(
        [download.program, "--report", report["id"], "-o", "-"],
        cwd=download.cwd,
        env=download.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    wait_until(lambda: bytes_in_pipe(process.stdout.fileno()) >= 60_000)
    process.send_signal(number)
    # Not communicate(), which would read.
    assert process.wait(timeout=10) == 130
    process.stdout.close()
    assert process.stderr
    process.stderr.close()
    assert download.files() == []


def bytes_in_pipe(pipe: int) -> int:
    [count] = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))
    return count


def test_closed_stdout_pipe_is_an_error_without_sigpipe(
    download: DownloadProgram, mock: MockService
) -> None:
    report = mock.add_report(format="pdf", size=2_000_000)
    process = subprocess.Popen(
        [download.program, "--report", report["id"], "-o", "-"],
        cwd=download.cwd,
        env=download.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.read(5) == b"%PDF-"
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 7
    assert b"Broken pipe" in errors


def test_saved_file_has_the_configured_mode(download: DownloadProgram) -> None:
    def no_mask() -> None:
        os.umask(0)

    assert download("-o", "a", preexec_fn=no_mask).returncode == 0
    assert download("-o", "b", "--set", "file_mode=640", preexec_fn=no_mask).returncode == 0
    modes = [stat.S_IMODE((download.cwd / name).stat().st_mode) for name in ("a", "b")]
    assert modes == [0o600, 0o640]


def test_cut_transfer_is_resumed(download: DownloadProgram, mock: MockService) -> None:
    report = mock.add_report(format="zip", size=900_000)
    mock.fault(report["id"], cut_after=500_000, times=1)
    done = download("--report", report["id"], "-o", "x")
    assert done.returncode == 0
    [warning, saved] = done.stderr.splitlines()
    assert warning.startswith(b"dbss-download: warning: ")
    assert saved == b"saved x (900000 bytes, 2 attempts)"
    assert sha256(download.cwd / "x") == report["sha256"]["en-us"]
    headers = dict(mock.requests(report=report["id"])[-1]["headers"])
    assert {name.lower(): value for name, value in headers.items()}["range"] == "bytes=500000-"
