"""``python -m dbss download`` as a program of its own."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import resource
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest
from dbss import cli, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from standin import Standin

BOUND = 60.0
MIB = 1024 * 1024


class Command:
    """Runs the command in a directory of its own, where it has nothing to do but succeed."""

    def __init__(self, standin: Standin, environment: dict[str, str], directory: Path) -> None:
        self.directory = directory
        self.report: str = standin.pdf["id"]
        self.token = standin.token
        self.environment = {
            **environment,
            "DBSS_PROJECT_ID": standin.project_id,
            "DBSS_INSTANCE_ID": standin.instance_id,
            "DBSS_REPORT_ID": self.report,
            "DBSS_ENDPOINT": standin.http,
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
        self, *arguments: str, given: bytes = b"", **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        with self.start(*arguments, **variables) as process:
            try:
                out, err = process.communicate(given, BOUND)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert b"Traceback" not in err
        assert self.token.encode() not in out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def files(self) -> list[str]:
        return sorted(one.name for one in self.directory.iterdir())

    def fails(self, code: int, *arguments: str, given: bytes = b"", **variables: str) -> str:
        """It ends with this code, says why in one place, and leaves nothing behind."""
        before = self.files()
        done = self.run(*arguments, given=given, **variables)
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
def command(standin: Standin, environment: dict[str, str], tmp_path: Path) -> Iterator[Command]:
    directory = tmp_path / "here"
    directory.mkdir()
    yield Command(standin, environment, directory)
    standin.clear_faults()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# 0: saved.


@pytest.mark.parametrize("kind", ["pdf", "zip"])
def test_it_saves_under_the_reports_own_name(standin: Standin, command: Command, kind: str) -> None:
    report = getattr(standin, kind)
    name = f"审计报告.{kind}"
    size = report["sizes"]["zh-cn"]
    command.saves(name, size, "--report", report["id"], "--locale", "zh-cn")
    assert command.files() == [name]
    assert sha256(command.directory / name) == report["sha256"]["zh-cn"]
    assert stat.S_IMODE((command.directory / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("output", ["sub", "sub/", "link"])
def test_a_directory_gets_the_reports_own_name(
    standin: Standin, command: Command, output: str
) -> None:
    (command.directory / "sub").mkdir()
    (command.directory / "link").symlink_to("sub")
    name = f"{output.rstrip('/')}/audit-report.pdf"
    command.saves(name, standin.pdf["sizes"]["en-us"], "-o", output)
    assert sha256(command.directory / name) == standin.pdf["sha256"]["en-us"]
    assert "exists already" in command.fails(7, "-o", output)


def test_options_outrank_the_environment(
    standin: Standin, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(standin.token)
    command.saves(
        "report.bin",
        standin.zip["sizes"]["zh-cn"],
        *("--project", standin.project_id, "--instance", standin.instance_id),
        *("--report", standin.zip["id"], "--locale", "zh-cn", "-o", "report.bin"),
        *("--region", "cn-north-4", "--endpoint", standin.https),
        *("--ca-file", standin.ca_file, "--token-file", str(tmp_path / "token")),
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
    assert sha256(command.directory / "report.bin") == standin.zip["sha256"]["zh-cn"]
    assert stat.S_IMODE((command.directory / "report.bin").stat().st_mode) == 0o640


def test_the_environment_is_enough(standin: Standin, command: Command) -> None:
    command.saves(
        "sub-report",
        standin.pdf["sizes"]["zh-cn"],
        DBSS_ENDPOINT=standin.https,
        DBSS_CA_FILE=standin.ca_file,
        DBSS_LOCALE="zh-cn",
        DBSS_OUTPUT="sub-report",
        DBSS_REGION="cn-north-4",
    )
    assert sha256(command.directory / "sub-report") == standin.pdf["sha256"]["zh-cn"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_token_file_may_end_with_a_line_end(
    standin: Standin, command: Command, tmp_path: Path, end: bytes
) -> None:
    token = standin.token.encode() + end
    (tmp_path / "token").write_bytes(token)
    size = standin.pdf["sizes"]["en-us"]
    file = str(tmp_path / "token")
    command.saves("a", size, "-o", "a", "--token-file", file, DBSS_TOKEN="wrong")
    command.saves("b", size, "-o", "b", "--token-file", "-", given=token, DBSS_TOKEN="")
    assert command.files() == ["a", "b"]


def test_the_longest_token_fits_into_a_file(standin: Standin, command: Command) -> None:
    token = "t" * cli.MAX_TOKEN
    standin.add_token(token)
    size = standin.pdf["sizes"]["en-us"]
    given = token.encode() + b"\r\n"
    command.saves("a", size, "-o", "a", "--token-file", "-", given=given)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_gets_the_report_and_nothing_else(
    standin: Standin, command: Command, unbuffered: str
) -> None:
    report = standin.add_report(format="pdf", size=8 * MIB)
    done = command.run("--report", report["id"], "--output", "-", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).hexdigest() == report["sha256"]["en-us"]
    size = report["sizes"]["en-us"]
    assert done.stderr.decode() == f"saved - ({size} bytes)\n"
    assert command.files() == []


def test_force_replaces_a_file(standin: Standin, command: Command) -> None:
    target = command.directory / "report"
    target.write_text("old")
    other = command.directory / "link"
    os.link(target, other)
    command.saves("report", standin.pdf["sizes"]["en-us"], "-o", "report", "--force")
    assert sha256(target) == standin.pdf["sha256"]["en-us"]
    # Replaced, not written over.
    assert other.read_text() == "old"
    assert command.files() == ["link", "report"]


def test_a_path_with_a_directory_and_odd_bytes(standin: Standin, command: Command) -> None:
    (command.directory / "sub").mkdir()
    path = os.fsdecode(b"sub/\xff report")
    done = command.run("-o", path)
    assert done.returncode == 0
    assert sha256(command.directory / path) == standin.pdf["sha256"]["en-us"]
    assert [one.name for one in (command.directory / "sub").iterdir()] == [Path(path).name]


# 2: usage.


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
        (["--report"], "--report"),
        # Not an abbreviation of anything.
        (["--proj", "x"], "--proj"),
    ],
)
def test_wrong_usage(command: Command, arguments: list[str], words: str) -> None:
    assert words in command.fails(2, *arguments)


@pytest.mark.parametrize(
    "name", ["DBSS_PROJECT_ID", "DBSS_INSTANCE_ID", "DBSS_REPORT_ID", "DBSS_ENDPOINT", "DBSS_TOKEN"]
)
def test_what_is_missing_is_named(command: Command, name: str) -> None:
    word = "endpoint" if name == "DBSS_ENDPOINT" else name
    assert word in command.fails(2, **{name: ""})


@pytest.mark.parametrize(
    "arguments", [["--token", "SECRET-TOKEN"], ["--token=SECRET-TOKEN"], ["--token"]]
)
def test_a_token_on_the_command_line_is_refused(command: Command, arguments: list[str]) -> None:
    err = command.fails(2, *arguments)
    assert "SECRET" not in err
    assert "--token" in err
    done = subprocess.run(
        [sys.executable, "-m", "dbss", *arguments],
        env=command.environment,
        capture_output=True,
        text=True,
        timeout=BOUND,
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
def test_a_token_that_cannot_be_one_is_not_shown(
    command: Command, token: bytes, words: str
) -> None:
    err = command.fails(2, "--token-file", "-", given=token)
    assert words in err
    assert "secret" not in err
    assert "sss" not in err


def test_a_token_file_without_end_is_not_read_to_its_end(command: Command) -> None:
    assert "longer than" in command.fails(2, "--token-file", "/dev/zero")


# 3, 4, 5: the service.


def test_refused_credentials(standin: Standin, command: Command) -> None:
    err = command.fails(3, DBSS_TOKEN="not-the-token")
    assert "APIG.0301" in err
    assert standin.requests(command.report)[-1]["status"] == 401
    standin.fault(command.report, status=403, times=1)
    command.fails(3)


def test_no_such_report(command: Command) -> None:
    err = command.fails(4, "--report", "x" * 16)
    assert "DBSS.10021004" in err
    assert "request id" in err


# So that one fault is enough.
ONCE = ("--max-attempts", "1")


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
def test_the_service_failed(standin: Standin, command: Command, fault: dict[str, Any]) -> None:
    standin.fault(command.report, times=1, **fault)
    command.fails(5, *ONCE)


def test_the_details_are_shown_without_control_characters(
    standin: Standin, command: Command
) -> None:
    details = [{"error_code": "C\x1b[31m\u009b", "error_msg": "one\ntwo"}, {}]
    standin.fault(command.report, status=400, json={"error_code": "A", "details": details}, times=1)
    lines = command.fails(5).split("\n")
    assert lines[1:] == ["  C [31m : one two", "  -: -", ""]


# 6: the network.


@pytest.mark.parametrize("fault", [{"cut_after": 100}, {"reset_before_answer": True}])
def test_the_network_failed(standin: Standin, command: Command, fault: dict[str, Any]) -> None:
    standin.fault(command.report, times=1, **fault)
    command.fails(6, *ONCE)
    # And once is not enough to fail where it is tried again.
    standin.fault(command.report, times=1, **fault)
    done = command.run("--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_nobody_listens(command: Command) -> None:
    command.fails(6, "--endpoint", "http://127.0.0.1:1")


def test_a_certificate_that_is_not_trusted(standin: Standin, command: Command) -> None:
    assert "ca_file" in command.fails(6, "--endpoint", standin.https)


def test_a_timeout(standin: Standin, command: Command) -> None:
    standin.fault(command.report, no_answer=True, times=1)
    command.fails(6, "--stall-timeout", "0.2", *ONCE)


# 7: this machine.


@pytest.mark.parametrize("kind", ["file", "fifo", "symlink"])
def test_an_existing_target_is_refused_before_any_download(
    standin: Standin, command: Command, kind: str
) -> None:
    target = command.directory / "report"
    if kind == "file":
        target.write_text("old")
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to("nowhere")
    before = standin.connections()["total"]
    words = "exists already" if kind == "file" else "not a regular file"
    assert words in command.fails(7, "-o", "report")
    if kind != "file":
        assert "not a regular file" in command.fails(7, "-o", "report", "--force")
    else:
        assert target.read_text() == "old"
    assert standin.connections()["total"] == before


def test_a_target_that_appears_during_the_download_is_kept(
    standin: Standin, command: Command
) -> None:
    report = standin.add_report(format="pdf")["id"]
    standin.fault(report, delay_ms=500, times=1)
    with command.start("--report", report, "-o", "report") as process:
        while not standin.requests(report):
            assert process.poll() is None
        (command.directory / "report").write_text("faster")
        _, err = process.communicate(timeout=BOUND)
    assert process.returncode == 7
    assert b"exists" in err
    assert (command.directory / "report").read_text() == "faster"
    assert command.files() == ["report"]


def test_a_directory_that_is_not_there(command: Command) -> None:
    assert "No such file or directory" in command.fails(7, "-o", "no-such-directory/report")
    command.fails(7, "-o", "new/")


def test_a_full_disk_leaves_nothing(command: Command) -> None:
    """A limit of the size of files stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        err = command.fails(7, "-o", "report")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in err


def test_files_that_cannot_be_read(command: Command) -> None:
    assert "/no/such/token" in command.fails(7, "--token-file", "/no/such/token")
    command.fails(7, "--token-file", "/")
    assert "/no/such/ca.pem" in command.fails(7, "--ca-file", "/no/such/ca.pem")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away(standin: Standin, command: Command, unbuffered: str) -> None:
    report = standin.add_report(format="bytes", size=8 * MIB)["id"]
    with command.start("--report", report, "-o", "-", PYTHONUNBUFFERED=unbuffered) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=BOUND)
    assert process.returncode == 7
    assert err.count(b"\n") == 1
    assert b"Broken pipe" in err


def test_closed_standard_streams(command: Command) -> None:
    def shell(line: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "{sys.executable}" -m dbss download {line}'],
            env=command.environment,
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BOUND,
        )

    done = shell("-o - >&-")
    assert done.returncode == 7
    assert done.stderr == b"dbss: cannot write to standard output: it is closed\n"
    done = shell("-o - --token-file /no/such/file 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
    done = shell("-o - --token-file - <&-")
    assert done.returncode == 7
    assert command.files() == []


# 130: interrupted.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("phase", ["connect", "handshake", "header", "body", "retry", "pipe"])
def test_a_signal_ends_a_download_in_every_phase(
    standin: Standin, command: Command, phase: str, number: signal.Signals
) -> None:
    report = standin.add_report(format="bytes", size=MIB)["id"]
    arguments = ["--report", report, "--ca-file", standin.ca_file]
    before = standin.connections()

    def reached() -> bool:
        if phase == "connect":
            return True
        if phase == "handshake":
            return standin.connections()["https_other"] > before["https_other"]
        least = 0 if phase in ("header", "retry") else 50_000
        return any(one["sent"] >= least for one in standin.requests(report))

    if phase == "connect":
        arguments += ["--endpoint", standin.never_accepts]
    elif phase == "handshake":
        arguments += ["--endpoint", standin.https_other]
        standin.listener_fault("https_other", "handshake_stall")
    elif phase == "header":
        standin.fault(report, no_answer=True)
    elif phase == "body":
        standin.fault(report, stall_after=100_000)
    elif phase == "retry":
        standin.fault(report, status=503, headers=[["Retry-After", "50"]])
    else:
        arguments += ["-o", "-"]
    try:
        with command.start(*arguments) as process:
            until = time.monotonic() + BOUND
            while not reached() or not waits(process.pid):
                assert process.poll() is None
                assert time.monotonic() < until
            process.send_signal(number)
            sent = time.monotonic()
            process.wait(BOUND)
            took = time.monotonic() - sent
            assert process.stderr is not None
            assert process.stderr.read() == b"dbss: interrupted\n"
    finally:
        standin.clear_listener_faults()
    print(f"{number.name}: {took * 1000:.1f} ms")
    assert process.returncode == 130
    assert took < 1.5
    assert command.files() == []


def waits(process: int) -> bool:
    """Whether a process is in the wait of libdbss."""
    with open(f"/proc/{process}/syscall") as file:
        number = file.read().split()[0]
    # poll, and ppoll where there is no other.
    return number in ("7", "73", "271")


def test_a_signal_that_is_ignored_stays_so(standin: Standin, command: Command) -> None:
    report = standin.add_report(format="pdf")
    standin.fault(report["id"], delay_ms=500)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = command.start("--report", report["id"])
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        while not standin.requests(report["id"]):
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=BOUND)
    assert process.returncode == 0


# What is seen meanwhile.


def test_verbose_tells_what_happens(standin: Standin, command: Command) -> None:
    standin.fault(command.report, times=1, cut_after=100)
    done = command.run("--verbose")
    assert done.returncode == 0
    lines = done.stderr.decode().splitlines()
    assert any(line.startswith("dbss: warning: ") and command.report in line for line in lines)
    size = standin.pdf["sizes"]["en-us"]
    assert lines[-1] == f"saved audit-report.pdf ({size} bytes, 2 attempts)"
    # An error is told once.
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
    # The end of a terminal is an error on Linux.
    with contextlib.suppress(OSError):
        while part := os.read(master, 4096):
            seen += part
    os.close(master)
    return process.wait(BOUND), seen.decode()


def test_a_terminal_shows_a_bar_where_tqdm_is_installed(
    standin: Standin, command: Command, tmp_path: Path
) -> None:
    pytest.importorskip("tqdm")
    report = standin.add_report(format="bytes", size=MIB)["id"]
    standin.fault(report, drip={"bytes": 100_000, "every_ms": 50})
    code, seen = on_terminal(command, "--report", report)
    assert code == 0
    assert "/1.00M" in seen
    assert f"saved audit-report.bin ({MIB} bytes)" in seen
    code, seen = on_terminal(command, "--report", report, "--quiet", "--force")
    assert (code, seen) == (0, "")
    # Not installed.
    (tmp_path / "tqdm.py").write_text("raise ImportError")
    path = f"{tmp_path}:{command.environment['PYTHONPATH']}"
    code, seen = on_terminal(command, "--report", report, "--force", PYTHONPATH=path)
    assert (code, seen) == (0, f"saved audit-report.bin ({MIB} bytes)\r\n")


# The rest.


@pytest.mark.parametrize("status", sorted(errors.STATUSES))
def test_every_status_has_its_exit_code(status: int) -> None:
    code = cli._exit_code(errors.STATUSES[status]("message"))
    special = {202: 3, 203: 3, 204: 4}
    groups = {1: 2, 2: 5, 3: 6, 4: 7, 5: 7, 6: 130, 7: 1}
    assert code == special.get(status, groups[status // 100])
    assert f"\n{code:>5}  " in cli.EXIT_CODES


def test_a_new_status_has_the_exit_code_of_its_group() -> None:
    assert cli._exit_code(errors.NetworkError("message", status=399)) == 6
    assert cli._exit_code(errors.Error("message", status=999)) == 1


def test_help_and_version(command: Command) -> None:
    done = command.run("--help")
    assert done.returncode == 0
    out = done.stdout.decode()
    assert cli.EXIT_CODES in out
    for name in ("PROJECT_ID", "INSTANCE_ID", "REPORT_ID", "LOCALE", "OUTPUT", "REGION"):
        assert f"DBSS_{name}" in out
    for name in ("ENDPOINT", "CA_FILE", "TOKEN"):
        assert f"DBSS_{name}" in out
    done = subprocess.run(
        [sys.executable, "-m", "dbss", "--version"],
        env=command.environment,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert done.stdout == f"dbss {dbss.__version__} (libdbss {dbss.version()})\n"


def test_both_programs_have_the_same_exit_codes(
    build_dir: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [build_dir / "bin/dbss-download", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    theirs = done.stdout.partition("Exit codes:\n")[2]
    assert theirs == cli.EXIT_CODES.partition("exit codes:\n")[2]
