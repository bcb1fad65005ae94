"""``python -m dbss`` as a child process: download and check."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import re
import resource
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest
from dbss import cli, cli_mirror, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mock_service import MockService

TIMEOUT = 60.0
MIB = 1024 * 1024


class Command:
    """Runs the command in a new directory, with settings that let it succeed."""

    def __init__(self, mock: MockService, environment: dict[str, str], directory: Path) -> None:
        self.directory = directory
        self.report: str = mock.pdf["id"]
        self.token = mock.token
        self.environment = {
            **environment,
            "DBSS_PROJECT_ID": mock.project_id,
            "DBSS_INSTANCE_ID": mock.instance_id,
            "DBSS_REPORT_ID": self.report,
            "DBSS_ENDPOINT": mock.http,
            "DBSS_TOKEN": self.token,
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "dbss", "download", *arguments],
            env={**self.environment, **variables},
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self, *arguments: str, stdin_data: bytes = b"", **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        with self.start(*arguments, **variables) as process:
            try:
                out, err = process.communicate(stdin_data, TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert b"Traceback" not in err
        assert self.token.encode() not in out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def files(self) -> list[str]:
        return sorted(one.name for one in self.directory.iterdir())

    def fails(self, code: int, *arguments: str, stdin_data: bytes = b"", **variables: str) -> str:
        """Runs it, checks the exit code, the error and that no file is left; returns the error."""
        before = self.files()
        done = self.run(*arguments, stdin_data=stdin_data, **variables)
        err = done.stderr.decode()
        assert done.returncode == code, err
        assert done.stdout == b""
        assert err.startswith("dbss: ")
        assert self.files() == before
        return err

    def saves(self, name: str, size: int, *arguments: str, **more: Any) -> None:
        done = self.run(*arguments, **more)
        assert (done.returncode, done.stdout) == (0, b""), done.stderr
        assert done.stderr.decode() == f"saved {name} ({size} bytes)\n"


@pytest.fixture
def command(mock: MockService, environment: dict[str, str], tmp_path: Path) -> Iterator[Command]:
    directory = tmp_path / "here"
    directory.mkdir()
    yield Command(mock, environment, directory)
    mock.clear_faults()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Exit code 0: saved.


@pytest.mark.parametrize("kind", ["pdf", "zip"])
def test_download_uses_report_name(mock: MockService, command: Command, kind: str) -> None:
    report = getattr(mock, kind)
    name = f"审计报告.{kind}"
    size = report["sizes"]["zh-cn"]
    command.saves(name, size, "--report", report["id"], "--locale", "zh-cn")
    assert command.files() == [name]
    assert sha256(command.directory / name) == report["sha256"]["zh-cn"]
    assert stat.S_IMODE((command.directory / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("output", ["sub", "sub/", "link"])
def test_download_to_directory_uses_report_name(
    mock: MockService, command: Command, output: str
) -> None:
    (command.directory / "sub").mkdir()
    (command.directory / "link").symlink_to("sub")
    name = f"{output.rstrip('/')}/audit-report.pdf"
    command.saves(name, mock.pdf["sizes"]["en-us"], "-o", output)
    assert sha256(command.directory / name) == mock.pdf["sha256"]["en-us"]
    assert "exists already" in command.fails(7, "-o", output)


def test_options_override_environment(mock: MockService, command: Command, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(mock.token)
    command.saves(
        "report.bin",
        mock.zip["sizes"]["zh-cn"],
        *("--project", mock.project_id, "--instance", mock.instance_id),
        *("--report", mock.zip["id"], "--locale", "zh-cn", "-o", "report.bin"),
        *("--region", "cn-north-4", "--endpoint", mock.https),
        *("--ca-file", mock.ca_file, "--token-file", str(tmp_path / "token")),
        *("--connect-timeout", "20", "--stall-timeout", "20.5", "--total-timeout", "none"),
        *("--allow-plaintext", "--max-attempts", "2", "--follow-redirects"),
        *("--proxy-from-environment", "--set", "file_mode=640", "--set", "max_retry_after_ms=1"),
        DBSS_PROJECT_ID="x",
        DBSS_INSTANCE_ID="x",
        DBSS_REPORT_ID="x",
        DBSS_LOCALE="x",
        DBSS_OUTPUT="x",
        DBSS_REGION="not a region",
        DBSS_ENDPOINT="x",
        DBSS_CA_FILE="/no/such/file",
        DBSS_TOKEN="x",
    )
    assert sha256(command.directory / "report.bin") == mock.zip["sha256"]["zh-cn"]
    assert stat.S_IMODE((command.directory / "report.bin").stat().st_mode) == 0o640


def test_environment_alone_suffices(mock: MockService, command: Command) -> None:
    command.saves(
        "sub-report",
        mock.pdf["sizes"]["zh-cn"],
        DBSS_ENDPOINT=mock.https,
        DBSS_CA_FILE=mock.ca_file,
        DBSS_LOCALE="zh-cn",
        DBSS_OUTPUT="sub-report",
        DBSS_REGION="cn-north-4",
    )
    assert sha256(command.directory / "sub-report") == mock.pdf["sha256"]["zh-cn"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_token_file_may_end_with_line_end(
    mock: MockService, command: Command, tmp_path: Path, end: bytes
) -> None:
    token = mock.token.encode() + end
    (tmp_path / "token").write_bytes(token)
    size = mock.pdf["sizes"]["en-us"]
    file = str(tmp_path / "token")
    command.saves("a", size, "-o", "a", "--token-file", file, DBSS_TOKEN="wrong")
    command.saves("b", size, "-o", "b", "--token-file", "-", stdin_data=token, DBSS_TOKEN="")
    assert command.files() == ["a", "b"]


@pytest.mark.usefixtures("long_headers")
def test_token_file_accepts_longest_token(mock: MockService, command: Command) -> None:
    token = "t" * cli.MAX_TOKEN
    mock.add_token(token)
    size = mock.pdf["sizes"]["en-us"]
    stdin_data = token.encode() + b"\r\n"
    command.saves("a", size, "-o", "a", "--token-file", "-", stdin_data=stdin_data)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_download_to_stdout_writes_only_the_report(
    mock: MockService, command: Command, unbuffered: str
) -> None:
    report = mock.add_report(format="pdf", size=8 * MIB)
    done = command.run("--report", report["id"], "--output", "-", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).hexdigest() == report["sha256"]["en-us"]
    size = report["sizes"]["en-us"]
    assert done.stderr.decode() == f"saved - ({size} bytes)\n"
    assert command.files() == []


def test_force_replaces_a_file(mock: MockService, command: Command) -> None:
    target = command.directory / "report"
    target.write_text("old")
    other = command.directory / "link"
    os.link(target, other)
    command.saves("report", mock.pdf["sizes"]["en-us"], "-o", "report", "--force")
    assert sha256(target) == mock.pdf["sha256"]["en-us"]
    # Replaced, not overwritten.
    assert other.read_text() == "old"
    assert command.files() == ["link", "report"]


def test_path_with_directory_and_non_utf8_bytes_is_saved(
    mock: MockService, command: Command
) -> None:
    (command.directory / "sub").mkdir()
    path = os.fsdecode(b"sub/\xff report")
    done = command.run("-o", path)
    assert done.returncode == 0
    assert sha256(command.directory / path) == mock.pdf["sha256"]["en-us"]
    assert [one.name for one in (command.directory / "sub").iterdir()] == [Path(path).name]


# Exit code 2: usage.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["surplus"], "surplus"),
        (["--project", "short"], "project: must have 32 to 64 characters"),
        (["--locale", "fr-fr"], "fr-fr"),
        (["--endpoint", "ftp://x"], "endpoint"),
        (["--endpoint", "http://192.0.2.1"], "allow_plaintext"),
        (["--stall-timeout", "0"], "stall_timeout_ms"),
        (["--stall-timeout", "-0.001"], "stall_timeout_ms"),
        (["--stall-timeout", "nan"], "stall_timeout_ms"),
        (["--stall-timeout", "soon"], "--stall-timeout"),
        (["--max-attempts", "0"], "max_attempts"),
        (["--max-attempts", "many"], "--max-attempts"),
        (["--set", "no_such_key=1"], "no_such_key"),
        (["--set", "file_mode=9"], "file_mode"),
        (["--set", "file_mode"], "must be KEY=VALUE"),
        (["--set", "token=secret"], "--token-file"),
        (["--set", "proxy=http://user:secret@x"], "secret on the command line"),
        (["--set", "secret_key=secret"], "HUAWEICLOUD_SDK_SK"),
        (["--set", "iam_password=secret"], "secret on the command line"),
        (["--set", "credentials=elsewhere"], "credentials"),
        (["--report"], "--report"),
        # Not a valid abbreviation.
        (["--proj", "x"], "--proj"),
    ],
)
def test_wrong_usage_exits_with_2(command: Command, arguments: list[str], words: str) -> None:
    assert words in command.fails(2, *arguments)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("DBSS_PROJECT_ID", "project: is not set"),
        ("DBSS_INSTANCE_ID", "DBSS_INSTANCE_ID"),
        ("DBSS_REPORT_ID", "DBSS_REPORT_ID"),
        ("DBSS_ENDPOINT", "endpoint"),
    ],
)
def test_missing_setting_is_named(command: Command, name: str, word: str) -> None:
    assert word in command.fails(2, **{name: ""})


@pytest.mark.parametrize(
    "arguments", [["--token", "SECRET-TOKEN"], ["--token=SECRET-TOKEN"], ["--token"]]
)
def test_token_on_command_line_is_rejected(command: Command, arguments: list[str]) -> None:
    err = command.fails(2, *arguments)
    assert "SECRET" not in err
    assert "--token" in err
    done = subprocess.run(
        [sys.executable, "-m", "dbss", *arguments],
        env=command.environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 2
    assert "SECRET" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (b"", "token"),
        (b"\n", "token"),
        (b"secret-secret secret", "token"),
        (b"secret-secret\n\n", "token"),
        (b"secret-secret\0secret", "token"),
        (b"secret-secret\xff", "token"),
        (b"s" * (cli.MAX_TOKEN + 1), "token"),
        (b"s" * (cli.MAX_TOKEN + 3), "longer than 98304 bytes"),
    ],
)
def test_invalid_token_is_not_printed(command: Command, token: bytes, words: str) -> None:
    err = command.fails(2, "--token-file", "-", stdin_data=token)
    assert words in err
    assert "secret" not in err
    assert "sss" not in err


def test_endless_token_file_is_rejected_early(command: Command) -> None:
    assert "longer than" in command.fails(2, "--token-file", "/dev/zero")


# Exit codes 3, 4, 5: the service.


def test_rejected_credentials_exit_with_3(mock: MockService, command: Command) -> None:
    err = command.fails(3, DBSS_TOKEN="not-the-token")
    assert "APIG.0301" in err
    assert mock.requests(command.report)[-1]["status"] == 401
    mock.fault(command.report, status=403, times=1)
    command.fails(3)


def test_missing_report_exits_with_4(command: Command) -> None:
    err = command.fails(4, "--report", "x" * 16)
    assert "DBSS.10021004" in err
    assert "request id" in err


# A single attempt, so that one fault is enough.
NO_RETRY = ("--max-attempts", "1")


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 400, "json": {"error_code": "DBSS.1", "error_msg": "one"}},
        {"status": 429},
        {"status": 500},
        {"status": 302, "headers": [["Location", "/x"]]},
        {"status": 200, "body": ""},
    ],
)
def test_service_failure_exits_with_5(
    mock: MockService, command: Command, fault: dict[str, Any]
) -> None:
    mock.fault(command.report, times=1, **fault)
    command.fails(5, *NO_RETRY)


def test_details_are_printed_without_control_characters(
    mock: MockService, command: Command
) -> None:
    details = [{"error_code": "C\x1b[31m\u009b", "error_msg": "one\ntwo"}, {}]
    mock.fault(command.report, status=400, json={"error_code": "A", "details": details}, times=1)
    lines = command.fails(5).split("\n")
    assert lines[1:] == ["  C [31m : one two", "  -: -", ""]


# Exit code 6: the network.


@pytest.mark.parametrize("fault", [{"cut_after": 100}, {"reset_before_answer": True}])
def test_network_failure_exits_with_6(
    mock: MockService, command: Command, fault: dict[str, Any]
) -> None:
    mock.fault(command.report, times=1, **fault)
    command.fails(6, *NO_RETRY)
    # With retries, a single fault is not a failure.
    mock.fault(command.report, times=1, **fault)
    done = command.run("--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_connection_refused_exits_with_6(command: Command) -> None:
    command.fails(6, "--endpoint", "http://127.0.0.1:1")


def test_untrusted_certificate_exits_with_6(mock: MockService, command: Command) -> None:
    assert "ca_file" in command.fails(6, "--endpoint", mock.https)


def test_stall_timeout_exits_with_6(mock: MockService, command: Command) -> None:
    mock.fault(command.report, no_answer=True, times=1)
    command.fails(6, "--stall-timeout", "0.2", *NO_RETRY)


# Exit code 7: this machine.


@pytest.mark.parametrize("kind", ["file", "fifo", "symlink"])
def test_existing_target_is_rejected_before_any_download(
    mock: MockService, command: Command, kind: str
) -> None:
    target = command.directory / "report"
    if kind == "file":
        target.write_text("old")
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to("nowhere")
    before = mock.connections()["total"]
    words = "exists already" if kind == "file" else "not a regular file"
    assert words in command.fails(7, "-o", "report")
    if kind != "file":
        assert "not a regular file" in command.fails(7, "-o", "report", "--force")
    else:
        assert target.read_text() == "old"
    assert mock.connections()["total"] == before


def test_target_created_during_download_is_kept(mock: MockService, command: Command) -> None:
    report = mock.add_report(format="pdf")["id"]
    mock.fault(report, delay_ms=500, times=1)
    with command.start("--report", report, "-o", "report") as process:
        while not mock.requests(report):
            assert process.poll() is None
        (command.directory / "report").write_text("faster")
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 7
    assert b"exists" in err
    assert (command.directory / "report").read_text() == "faster"
    assert command.files() == ["report"]


def test_missing_directory_exits_with_7(command: Command) -> None:
    assert "No such file or directory" in command.fails(7, "-o", "no-such-directory/report")
    command.fails(7, "-o", "new/")


def test_full_disk_leaves_no_file(command: Command) -> None:
    """RLIMIT_FSIZE simulates a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        err = command.fails(7, "-o", "report")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in err


def test_unreadable_file_exits_with_7(command: Command) -> None:
    assert "/no/such/token" in command.fails(7, "--token-file", "/no/such/token")
    command.fails(7, "--token-file", "/")
    assert "/no/such/ca.pem" in command.fails(7, "--ca-file", "/no/such/ca.pem")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_stdout_pipe_exits_with_7(
    mock: MockService, command: Command, unbuffered: str
) -> None:
    report = mock.add_report(format="bytes", size=8 * MIB)["id"]
    with command.start("--report", report, "-o", "-", PYTHONUNBUFFERED=unbuffered) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 7
    assert err.count(b"\n") == 1
    assert b"Broken pipe" in err


def test_closed_standard_streams_are_handled(command: Command, mock: MockService) -> None:
    def shell(line: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "{sys.executable}" -m dbss download {line}'],
            env=command.environment,
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
        )

    done = shell("-o - >&-")
    assert done.returncode == 7
    assert done.stderr == b"dbss: cannot write to standard output: it is closed\n"
    done = shell("-o - --token-file /no/such/file 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
    done = shell("-o - --token-file - <&-")
    assert done.returncode == 7
    assert command.files() == []
    # Messages never end up in the report.
    mock.fault(command.report, reset_after=1000, times=1)
    done = shell("-o x.pdf --verbose <&- >&- 2>&-")
    assert done.returncode == 0
    saved = hashlib.sha256((command.directory / "x.pdf").read_bytes()).hexdigest()
    assert saved == mock.pdf["sha256"]["en-us"]


# Exit code 130: interrupted.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("phase", ["connect", "handshake", "header", "body", "retry", "pipe"])
def test_signal_ends_download_in_every_phase(
    mock: MockService, command: Command, phase: str, number: signal.Signals
) -> None:
    report = mock.add_report(format="bytes", size=MIB)["id"]
    arguments = ["--report", report, "--ca-file", mock.ca_file]
    before = mock.connections()

    def reached() -> bool:
        if phase == "connect":
            return True
        if phase == "handshake":
            return mock.connections()["https_other"] > before["https_other"]
        least = 0 if phase in ("header", "retry") else 50_000
        return any(one["sent"] >= least for one in mock.requests(report))

    if phase == "connect":
        arguments += ["--endpoint", mock.never_accepts]
    elif phase == "handshake":
        arguments += ["--endpoint", mock.https_other]
        mock.listener_fault("https_other", "handshake_stall")
    elif phase == "header":
        mock.fault(report, no_answer=True)
    elif phase == "body":
        mock.fault(report, stall_after=100_000)
    elif phase == "retry":
        mock.fault(report, status=503, headers=[["Retry-After", "50"]])
    else:
        arguments += ["-o", "-"]
    try:
        with command.start(*arguments) as process:
            until = time.monotonic() + TIMEOUT
            while not reached() or not is_waiting(process.pid):
                assert process.poll() is None
                assert time.monotonic() < until
            process.send_signal(number)
            sent = time.monotonic()
            process.wait(TIMEOUT)
            elapsed = time.monotonic() - sent
            assert process.stderr is not None
            # In one phase, a warning about the failed attempt comes first.
            assert process.stderr.read().splitlines()[-1] == b"dbss: interrupted"
    finally:
        mock.clear_listener_faults()
    print(f"{number.name}: {elapsed * 1000:.1f} ms")
    assert process.returncode == 130
    assert elapsed < 1.5
    assert command.files() == []


def is_waiting(process: int) -> bool:
    """Whether a process waits in poll(), as libdbss does."""
    with open(f"/proc/{process}/syscall") as file:
        number = file.read().split()[0]
    # poll, or ppoll on platforms without it.
    return number in ("7", "73", "271")


def test_ignored_signal_stays_ignored(mock: MockService, command: Command) -> None:
    report = mock.add_report(format="pdf")
    mock.fault(report["id"], delay_ms=500)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = command.start("--report", report["id"])
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        while not mock.requests(report["id"]):
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


# Messages and progress.


def test_verbose_prints_warnings(mock: MockService, command: Command) -> None:
    mock.fault(command.report, times=1, cut_after=100)
    done = command.run("--verbose")
    assert done.returncode == 0
    lines = done.stderr.decode().splitlines()
    assert any(line.startswith("dbss: warning: ") and command.report in line for line in lines)
    size = mock.pdf["sizes"]["en-us"]
    assert lines[-1] == f"saved audit-report.pdf ({size} bytes, 2 attempts)"
    # An error is printed once.
    done = command.run("--verbose", "--report", "x" * 16)
    assert done.stderr.decode().count("DBSS.10021004") == 1


def on_terminal(command: Command, *arguments: str, **variables: str) -> tuple[int, str]:
    """Runs the command with a terminal as its standard error."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "dbss", "download", *arguments],
        env={**command.environment, "TERM": "xterm", **variables},
        cwd=command.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    seen = b""
    # On Linux, reading a closed terminal raises OSError.
    with contextlib.suppress(OSError):
        while part := os.read(master, 4096):
            seen += part
    os.close(master)
    return process.wait(TIMEOUT), seen.decode()


def test_terminal_with_tqdm_shows_progress_bar(
    mock: MockService, command: Command, tmp_path: Path
) -> None:
    pytest.importorskip("tqdm")
    report = mock.add_report(format="bytes", size=MIB)["id"]
    mock.fault(report, drip={"bytes": 100_000, "every_ms": 50})
    code, seen = on_terminal(command, "--report", report)
    assert code == 0
    assert "/1.00M" in seen
    assert f"saved audit-report.bin ({MIB} bytes)" in seen
    code, seen = on_terminal(command, "--report", report, "--quiet", "--force")
    assert (code, seen) == (0, "")
    # Without tqdm.
    (tmp_path / "tqdm.py").write_text("raise ImportError")
    path = f"{tmp_path}:{command.environment['PYTHONPATH']}"
    code, seen = on_terminal(command, "--report", report, "--force", PYTHONPATH=path)
    assert (code, seen) == (0, f"saved audit-report.bin ({MIB} bytes)\r\n")


# Credentials that are found.


class CommandWithoutToken(Command):
    """The command with a region, the ids, and credentials of the environment.

    It never looks for a real metadata service.
    """

    def __init__(self, mock: MockService, environment: dict[str, str], directory: Path) -> None:
        super().__init__(mock, environment, directory)
        self.secrets = [mock.secret_key]
        for name in ("DBSS_TOKEN", "DBSS_PROJECT_ID", "DBSS_ENDPOINT"):
            del self.environment[name]
        self.settings = {"iam_endpoint": mock.iam, "metadata_endpoint": mock.metadata}
        self.environment |= {
            "DBSS_REGION": mock.region,
            "HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4": mock.http,
        }
        self.key = {
            "HUAWEICLOUD_SDK_AK": mock.access_key,
            "HUAWEICLOUD_SDK_SK": mock.secret_key,
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        command, *others = arguments if arguments[:1] == ("check",) else ("download", *arguments)
        settings = [f"--set={key}={value}" for key, value in self.settings.items()]
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "dbss", command, *settings, *others],
            env={**self.environment, **variables},
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self, *arguments: str, stdin_data: bytes = b"", **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        done = super().run(*arguments, stdin_data=stdin_data, **variables)
        for secret in self.secrets:
            assert secret.encode() not in done.stdout + done.stderr
        return done

    def profile(self, mode: int = 0o600) -> dict[str, str]:
        """A profile with the access key."""
        path = self.directory.parent / "profile"
        ak, sk = self.key.values()
        path.write_text(f"[basic]\nak = {ak}\nsk = {sk}\n")
        path.chmod(mode)
        return {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(path)}

    def checks(self, *arguments: str, code: int = 0, **variables: str) -> dict[str, str]:
        """The lines that a check prints."""
        done = self.run("check", *arguments, **variables)
        assert done.returncode == code, done.stderr
        assert (done.stderr == b"") == (code == 0)
        assert self.files() == []
        lines = [line.split(": ", 1) for line in done.stdout.decode().splitlines()]
        assert [name for name, _ in lines] == ["source", "who", "project", "expires", "accepted"]
        return dict(lines)


@pytest.fixture
def command_without_token(
    mock: MockService, environment: dict[str, str], tmp_path: Path
) -> Iterator[CommandWithoutToken]:
    directory = tmp_path / "here"
    directory.mkdir()
    yield CommandWithoutToken(mock, environment, directory)
    mock.clear_faults()
    mock.set_metadata()


def masked(key: str) -> str:
    return f"{key[:4]}***{key[-4:]}"


@pytest.mark.parametrize("source", ["environment", "profile", "metadata"])
def test_region_and_ids_suffice(
    mock: MockService, command_without_token: CommandWithoutToken, source: str
) -> None:
    variables = {
        "environment": command_without_token.key,
        "profile": command_without_token.profile(),
        "metadata": {},
    }[source]
    size = mock.pdf["sizes"]["en-us"]
    command_without_token.saves("audit-report.pdf", size, **variables)
    assert (
        sha256(command_without_token.directory / "audit-report.pdf") == mock.pdf["sha256"]["en-us"]
    )


def test_missing_credentials_error_names_all_sources(
    mock: MockService, command_without_token: CommandWithoutToken
) -> None:
    mock.set_metadata(agency=False)
    err = command_without_token.fails(2)
    for words in ("HUAWEICLOUD_SDK_AK", ".huaweicloud/credentials", "agency"):
        assert words in err
    command_without_token.settings["metadata_endpoint"] = "http://127.0.0.1:1"
    assert "127.0.0.1:1" in command_without_token.fails(2)


def test_credential_sources_have_the_documented_precedence(
    mock: MockService, command_without_token: CommandWithoutToken, tmp_path: Path
) -> None:
    """The order is: a token file, --set, DBSS_TOKEN, credentials that are found."""
    file = tmp_path / "token"
    file.write_text(mock.token)
    wrong = {"DBSS_TOKEN": "not-a-token-of-anybody"}
    found = ("--set", "credentials=environment")
    command_without_token.fails(3, **command_without_token.key, **wrong)
    assert (
        command_without_token.run(
            *found, "-o", "a", **command_without_token.key, **wrong
        ).returncode
        == 0
    )
    command_without_token.fails(2, *found, **wrong)
    assert (
        command_without_token.run(*found, "--token-file", str(file), "-o", "b", **wrong).returncode
        == 0
    )
    assert command_without_token.files() == ["a", "b"]


def test_warning_is_printed_unless_quiet(command_without_token: CommandWithoutToken) -> None:
    profile = command_without_token.profile(0o644)
    done = command_without_token.run("-o", "a", **profile)
    assert done.returncode == 0
    [warning, saved] = done.stderr.decode().splitlines()
    assert warning.startswith("dbss: warning: ")
    assert profile["HUAWEICLOUD_SDK_CREDENTIALS_FILE"] in warning
    assert saved.startswith("saved a (")
    done = command_without_token.run("-o", "b", "--quiet", **profile)
    assert (done.returncode, done.stderr) == (0, b"")
    assert command_without_token.run(
        "-o", "c", **command_without_token.profile()
    ).stderr.startswith(b"saved c (")


def test_check_with_access_key_prints_its_source(
    mock: MockService, command_without_token: CommandWithoutToken
) -> None:
    # It needs no ids.
    key = {**command_without_token.key, "DBSS_INSTANCE_ID": "", "DBSS_REPORT_ID": ""}
    lines = command_without_token.checks(**key)
    assert lines.pop("source").startswith("environment, ")
    assert lines == {
        "who": masked(mock.access_key),
        "project": "looked up by the region's name",
        "expires": "not known",
        "accepted": "yes",
    }
    project = mock.project_id
    assert command_without_token.checks("--project", project, **key)["project"] == project
    assert (
        command_without_token.checks(HUAWEICLOUD_SDK_PROJECT_ID=project, **key)["project"]
        == project
    )
    path = command_without_token.profile()["HUAWEICLOUD_SDK_CREDENTIALS_FILE"]
    assert path in command_without_token.checks(**command_without_token.profile())["source"]


def test_check_with_token_prints_its_source(
    mock: MockService, command_without_token: CommandWithoutToken
) -> None:
    lines = command_without_token.checks(DBSS_TOKEN=mock.token)
    assert lines["source"].startswith("token, ")
    assert (lines["who"], lines["accepted"]) == ("not known", "yes")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "<+14>-14"])
def test_check_prints_expiry_in_utc(
    mock: MockService, command_without_token: CommandWithoutToken, zone: str
) -> None:
    mock.set_metadata(announced_key_lifetime_ms=3_600_000)
    lines = command_without_token.checks(TZ=zone)
    assert lines["source"].startswith("metadata, ")
    assert mock.metadata in lines["source"]
    assert re.fullmatch(r"....\*\*\*....", lines["who"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", lines["expires"])
    expires = datetime.fromisoformat(lines["expires"].replace("Z", "+00:00"))
    ahead = expires - datetime.now(timezone.utc)
    assert timedelta(minutes=55) < ahead < timedelta(minutes=61)


@pytest.mark.parametrize(
    ("code", "accepted", "changes"),
    [
        (3, "no", {"HUAWEICLOUD_SDK_SK": "not-the-secret-key"}),
        (3, "no", {"DBSS_PROJECT_ID": "no-project-0123456789-0123456789-x"}),
        (6, "not known", {"DBSS_ENDPOINT": "http://127.0.0.1:1"}),
        (2, "not known", {"DBSS_PROJECT_ID": "x"}),
    ],
)
def test_check_failure_has_its_exit_code(
    command_without_token: CommandWithoutToken, code: int, accepted: str, changes: dict[str, str]
) -> None:
    variables = {**command_without_token.key, **changes}
    lines = command_without_token.checks("--max-attempts", "1", code=code, **variables)
    assert lines["accepted"] == accepted
    done = command_without_token.run("check", "--quiet", "--max-attempts", "1", **variables)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"dbss: ")


@pytest.mark.parametrize(
    ("fault", "code", "accepted"),
    [
        ({"status": 403, "json": {"error_code": "APIG.0302", "error_msg": "no"}}, 3, "no"),
        ({"status": 404}, 4, "not known"),
        ({"status": 500}, 5, "not known"),
        ({"reset_before_answer": True}, 6, "not known"),
    ],
)
def test_check_with_service_error_has_its_exit_code(
    mock: MockService,
    command_without_token: CommandWithoutToken,
    fault: dict[str, Any],
    code: int,
    accepted: str,
) -> None:
    mock.fault("@instances", times=1, **fault)
    lines = command_without_token.checks(
        "--max-attempts", "1", code=code, **command_without_token.key
    )
    assert lines["accepted"] == accepted


@pytest.mark.parametrize("name", ["HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"])
def test_check_with_half_a_key_fails_first(
    command_without_token: CommandWithoutToken, name: str
) -> None:
    assert name in command_without_token.fails(
        2, "check", **{**command_without_token.key, name: ""}
    )


def test_check_quiet_prints_nothing_and_full_device_fails(
    command_without_token: CommandWithoutToken,
) -> None:
    done = command_without_token.run("check", "--quiet", **command_without_token.key)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    settings = " ".join(
        f"--set={key}={value}" for key, value in command_without_token.settings.items()
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -m dbss check {settings} >/dev/full'],
        env={**command_without_token.environment, **command_without_token.key},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 7
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


# Other tests.


@pytest.mark.parametrize("status", sorted(errors.STATUSES))
def test_status_has_its_exit_code(status: int) -> None:
    code = cli._exit_code(errors.STATUSES[status]("message"))
    # The last two are only for mirrors.
    special = {202: 3, 203: 3, 204: 4, 212: 11, 405: 12}
    groups = {1: 2, 2: 5, 3: 6, 4: 7, 5: 7, 6: 130, 7: 1}
    assert code == special.get(status, groups[status // 100])
    help_text = cli_mirror.EXIT_CODES if code in (11, 12) else cli.EXIT_CODES
    assert f"\n{code:>5}  " in help_text


def test_unknown_status_has_exit_code_of_its_group() -> None:
    assert cli._exit_code(errors.NetworkError("message", status=399)) == 6
    assert cli._exit_code(errors.Error("message", status=999)) == 1


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(
            ["-c", "import sys, dbss_command; sys.exit(dbss_command.main())"], id="command"
        ),
        pytest.param(
            ["-m", "dbss"],
            id="module",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 10), reason="Python 3.9 does not tell how it was started"
            ),
        ),
    ],
)
def test_command_without_library_prints_one_line(
    environment: dict[str, str], way: list[str]
) -> None:
    for library, status in (("/no/such/libdbss.so", 7), (environment["DBSS_LIBRARY"], 0)):
        done = subprocess.run(
            [sys.executable, *way, "--help"],
            env={**environment, "DBSS_LIBRARY": library},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == status, done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == (1 if status else 0)
        assert all(line.startswith("dbss: cannot load") and library in line for line in lines)


def test_package_without_library_raises_import_error(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/__init__.py").write_text("try: import dbss\nexcept ImportError: print(1)\n")
    (tmp_path / "other/__main__.py").write_text("print(2)\n")
    done = subprocess.run(
        [sys.executable, "-m", "other"],
        env={**environment, "DBSS_LIBRARY": "/no/such/libdbss.so"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n2\n", "")


@pytest.mark.parametrize(
    "head", ["-ytjeZgBBt8O6JSx", "-hytjeZgBBt8O6JS", "--ytjeZgBBt8O6JS", "-o" + "y" * 14]
)
def test_id_with_leading_hyphen_is_accepted(mock: MockService, command: Command, head: str) -> None:
    report = head + os.urandom(8).hex()
    mock.add_report(id=report, format="pdf", size=6000)
    command.saves("x.pdf", 6000, "--report", report, "-o", "x.pdf")
    command.saves("-y.pdf", 6000, "-o", "-y.pdf", f"--report={report}")
    command.saves("z.pdf", 6000, "-oz.pdf", "--report", report)
    assert "--report" in command.fails(2, "--report")


def test_help_and_version_are_complete(command: Command) -> None:
    done = command.run("--help")
    assert done.returncode == 0
    out = done.stdout.decode()
    assert cli.EXIT_CODES in out
    for name in ("PROJECT_ID", "INSTANCE_ID", "REPORT_ID", "LOCALE", "OUTPUT", "REGION"):
        assert f"DBSS_{name}" in out
    for name in ("ENDPOINT", "CA_FILE", "TOKEN"):
        assert f"DBSS_{name}" in out
    assert cli.CREDENTIALS in out
    done = subprocess.run(
        [sys.executable, "-m", "dbss", "check", "--help"],
        env=command.environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0
    assert cli.CREDENTIALS in done.stdout
    assert "--output" not in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "dbss", "--version"],
        env=command.environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.stdout == f"dbss {dbss.__version__} (libdbss {dbss.version()})\n"


def test_exit_codes_match_the_c_program(build_dir: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [build_dir / "bin/dbss-download", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    theirs = done.stdout.partition("Exit codes:\n")[2]
    assert theirs == cli.EXIT_CODES.partition("exit codes:\n")[2]
