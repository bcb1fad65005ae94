"""The command dbss: download and check."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import resource
import signal
import stat
import struct
import subprocess
import termios
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from command import (
    CLOSED_STREAMS,
    FAST_POLL,
    HOSTILE,
    MIB,
    NO_RETRY,
    SIGNALS,
    TIME_RANGE,
    TIMEOUT,
    Command,
    Terminal,
    command,
    json_lines,
    sha256,
    wait_until,
)
from conftest import need_tool
from test_c import VALGRIND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mock_service import MockService

# An imported fixture; this file does not use the name directly.
__all__ = ["command"]

LONGEST_TOKEN = 96 * 1024


# Exit code 0: saved.


@pytest.mark.parametrize("kind", ["pdf", "zip"])
def test_download_uses_report_name(mock: MockService, command: Command, kind: str) -> None:
    report = getattr(mock, kind)
    name = f"审计报告.{kind}"
    command.report = report["id"]
    command.saves(name, report["sizes"]["zh-cn"], "--locale", "zh-cn")
    assert command.files() == [name]
    assert sha256(command.directory / name) == report["sha256"]["zh-cn"]
    assert stat.S_IMODE((command.directory / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("output", ["sub", "sub/", "link", "."])
def test_download_to_directory_uses_report_name(
    mock: MockService, command: Command, output: str
) -> None:
    (command.directory / "sub").mkdir()
    (command.directory / "link").symlink_to("sub")
    name = f"{output.rstrip('/')}/audit-report.pdf".removeprefix("./")
    command.saves(name, mock.pdf["sizes"]["en-us"], "-o", output)
    target = command.directory / name
    assert sha256(target) == mock.pdf["sha256"]["en-us"]
    target.write_text("mine")
    error = command.download_fails(7, "-o", output)
    assert "exists already" in error
    assert target.name in error
    assert target.read_text() == "mine"
    assert command.download("-o", output, "--force").returncode == 0
    assert sha256(target) == mock.pdf["sha256"]["en-us"]
    assert [one.name for one in target.parent.iterdir() if one.is_file()] == [target.name]


@pytest.mark.parametrize(
    ("body", "ending"), [("%PDF-1.7 ...", "pdf"), ("PK\3\4 ...", "zip"), ("\0\1\2" * 6, "bin")]
)
def test_report_without_name_is_named_by_id(
    mock: MockService, command: Command, body: str, ending: str
) -> None:
    nameless = {"headers": [["Content-Disposition", None], ["Content-Type", None]]}
    mock.fault(command.report, body=body, times=1, **nameless)
    assert command.download().returncode == 0
    assert command.files() == [f"{command.report}.{ending}"]


def test_options_override_environment(mock: MockService, command: Command, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(mock.token)
    names = ("PROJECT_ID", "INSTANCE_ID", "REPORT_ID", "LOCALE", "OUTPUT", "ENDPOINT", "TOKEN")
    wrong: dict[str, str | None] = {f"DBSS_{name}": "x" for name in names}
    wrong |= {"DBSS_REGION": "not a region", "DBSS_CA_FILE": "/no/such/file"}
    command.report = mock.zip["id"]
    command.saves(
        "report.bin",
        mock.zip["sizes"]["zh-cn"],
        *("--project", mock.project_id, "--instance", mock.instance_id, "--locale", "zh-cn"),
        *("-o", "report.bin", "--region", "cn-north-4", "--endpoint", mock.https),
        *("--ca-file", mock.ca_file, "--token-file", tmp_path / "token"),
        *("--connect-timeout", "20", "--stall-timeout", "20.5", "--total-timeout", "none"),
        *("--allow-plaintext", "--max-attempts", "2", "--follow-redirects"),
        *("--proxy-from-environment", "--set", "file_mode=640", "--set", "max_retry_after_ms=1"),
        *("--set", "user_agent_suffix=test/1=2"),
        env=wrong,
    )
    assert sha256(command.directory / "report.bin") == mock.zip["sha256"]["zh-cn"]
    assert stat.S_IMODE((command.directory / "report.bin").stat().st_mode) == 0o640
    headers = mock.requests(report=mock.zip["id"])[-1]["headers"]
    [agent] = [value for name, value in headers if name.lower() == "user-agent"]
    assert agent.endswith(" test/1=2")


def test_environment_alone_suffices(mock: MockService, command: Command) -> None:
    done = command.run(
        "download",
        env={
            "DBSS_REPORT_ID": command.report,
            "DBSS_ENDPOINT": mock.https,
            "DBSS_CA_FILE": mock.ca_file,
            "DBSS_LOCALE": "zh-cn",
            "DBSS_OUTPUT": "named",
            "DBSS_REGION": "cn-north-4",
        },
    )
    size = mock.pdf["sizes"]["zh-cn"]
    assert (done.returncode, done.stderr) == (0, f"saved named ({size} bytes)\n")
    assert sha256(command.directory / "named") == mock.pdf["sha256"]["zh-cn"]


@pytest.mark.parametrize(
    ("end", "code"),
    [(b"", 0), (b"\n", 0), (b"\r\n", 0), (b"\n\n", 2), (b" \n", 2), (b"\0", 2)],
)
def test_token_file_may_end_with_one_line_end(
    mock: MockService, command: Command, tmp_path: Path, end: bytes, code: int
) -> None:
    token = mock.token.encode() + end
    (tmp_path / "token").write_bytes(token)
    for given, more in ((tmp_path / "token", {}), ("-", {"stdin_data": token})):
        done = command.download(
            *("-o", "x", "--force", "--token-file", given), env={"DBSS_TOKEN": "wrong"}, **more
        )
        assert done.returncode == code, done.stderr
        if end == b"\n\n":
            assert "hint: the token ends with a line end" in done.stderr


@pytest.mark.parametrize(
    ("length", "end", "code"),
    [
        (LONGEST_TOKEN, "", 0),
        (LONGEST_TOKEN, "\r\n", 0),
        (LONGEST_TOKEN + 1, "", 2),
        (LONGEST_TOKEN + 1, "\n", 2),
        (500_000, "", 2),
    ],
)
@pytest.mark.usefixtures("long_headers")
def test_token_file_length_limit_is_enforced(
    mock: MockService, command: Command, tmp_path: Path, length: int, end: str, code: int
) -> None:
    token = "t" * length
    if code == 0:
        mock.add_token(token)
    (tmp_path / "token").write_text(token + end)
    for given, more in (
        (tmp_path / "token", {}),
        ("-", {"stdin_data": (token + end).encode()}),
    ):
        done = command.download("--force", "--token-file", given, **more)
        assert done.returncode == code, done.stderr
        assert "ttt" not in done.stderr


def test_download_to_stdout_writes_only_the_report(mock: MockService, command: Command) -> None:
    report = mock.add_report(format="pdf", size=8 * MIB)
    done = command.run_bytes("download", "--report", report["id"], "--output", "-")
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).hexdigest() == report["sha256"]["en-us"]
    size = report["sizes"]["en-us"]
    assert done.stderr.decode() == f"saved - ({size} bytes)\n"
    assert command.files() == []
    with Path("/dev/full").open("wb") as full:
        err = command.download("-o", "-", stdout=full)
    assert err.returncode == 7
    assert "No space left" in err.stderr
    both = command.download("-o", "-", "--json")
    assert both.returncode == 2
    assert "--json and --output -" in both.stderr


def test_force_replaces_file_only_with_complete_report(mock: MockService, command: Command) -> None:
    target = command.directory / "target"
    target.write_text("mine")
    other = command.directory / "other"
    os.link(target, other)
    error = command.download_fails(7, "-o", "target")
    assert "exists already" in error
    assert "use --force" in error
    mock.fault(command.report, cut_after=100, times=1)
    command.download_fails(6, "-o", "target", "--force", *NO_RETRY)
    assert target.read_text() == "mine"
    command.saves("target", mock.pdf["sizes"]["en-us"], "-o", "target", "--force")
    assert sha256(target) == mock.pdf["sha256"]["en-us"]
    # Replaced, not overwritten.
    assert other.read_text() == "mine"
    assert command.files() == ["other", "target"]


def test_path_with_non_utf8_bytes_is_saved(mock: MockService, command: Command) -> None:
    (command.directory / "sub").mkdir()
    path = os.fsdecode(b"sub/\xff report")
    assert command.download("-o", path).returncode == 0
    assert sha256(command.directory / path) == mock.pdf["sha256"]["en-us"]
    assert os.listdir(command.directory / "sub") == [Path(path).name]


@pytest.mark.parametrize(
    "head", ["-ytjeZgBBt8O6JSx", "-hytjeZgBBt8O6JS", "--ytjeZgBBt8O6JS", "-o" + "y" * 14]
)
def test_id_with_leading_hyphen_is_accepted(mock: MockService, command: Command, head: str) -> None:
    report = head + os.urandom(8).hex()
    mock.add_report(id=report, format="pdf", size=6000)
    command.report = report
    command.saves("x.pdf", 6000, "-o", "x.pdf")
    done = command.run("download", "-o", "-y.pdf", f"--report={report}")
    assert (done.returncode, done.stderr) == (0, "saved -y.pdf (6000 bytes)\n")
    done = command.run("download", "-oz.pdf", "--report", report)
    assert (done.returncode, done.stderr) == (0, "saved z.pdf (6000 bytes)\n")


def test_last_of_repeated_options_counts(mock: MockService, command: Command) -> None:
    size = mock.pdf["sizes"]["en-us"]
    command.saves("b", size, "-o", "a", "-o", "b", "--max-attempts", "x", "--max-attempts", "2")


def test_download_json_has_path_and_size(mock: MockService, command: Command) -> None:
    [line] = json_lines(
        command.prints("download", "--report", command.report, "--json", "-o", "x.pdf")
    )
    assert line.pop("request_id")
    size = mock.pdf["sizes"]["en-us"]
    assert line == {"kind": "download", "path": "x.pdf", "bytes": size, "attempts": 1}
    done = command.download("--json", "-o", "x.pdf")
    assert done.returncode == 7
    [line] = json_lines(done.stdout)
    assert line["kind"] == "error"
    assert (line["exit_code"], line["status_name"]) == (7, "DBSS_ERR_FILE_EXISTS")
    assert line["message"] in done.stderr
    done = command.run("download", "--json", env={"DBSS_REPORT_ID": None})
    [line] = json_lines(done.stdout)
    assert (line["kind"], line["exit_code"]) == ("error", 2)


# Exit code 2: usage.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["surplus"], "surplus"),
        (["0123456789abcdef"], "--report"),
        # Not a call for help, which would exit with 0.
        (["-hytjeZgBBt8O6JSx"], "a report's id is given with --report"),
        (["-qhytjeZgBBt8O6JS"], "a report's id is given with --report"),
        (["-ytjeZgBBt8O6JSxI"], "a report's id is given with --report"),
        (["--", "-ytjeZgBBt8O6JSx"], "a report's id is given with --report"),
        (["--project", "short"], "--project: must have 32 to 64 characters"),
        (
            ["--project", "0123456789abcdef0123"],
            "hint: the id of a report is as long",
        ),
        (["--project", "cn-north-4"], "--region"),
        (["--instance", "a name of somebody"], "there is a space in it"),
        (["--locale", "fr-fr"], "fr-fr"),
        (["--endpoint", "ftp://x"], "--endpoint"),
        (["--endpoint", "http://192.0.2.1"], "--allow-plaintext"),
        (["--stall-timeout", "0"], "--stall-timeout"),
        (["--stall-timeout", "-0.001"], "--stall-timeout"),
        (["--stall-timeout", "nan"], "--stall-timeout"),
        (["--stall-timeout", "soon"], "--stall-timeout"),
        (["--max-attempts", "0"], "--max-attempts"),
        (["--max-attempts", "many"], "--max-attempts"),
        (["--set", "no_such_key=1"], "no_such_key"),
        (["--set", "max_attempt=1"], "did you mean max_attempts?"),
        (["--set", "file_mode=9"], "--set file_mode"),
        (["--set", "stall_timeout_ms=soon"], "--set stall_timeout_ms"),
        (["--set", "file_mode"], "must be KEY=VALUE"),
        (["--set", "credentials=elsewhere"], "credentials"),
        (["--set", "credentials=profile"], "credentials"),
        (["--region", "no/region"], "--region"),
        (["--report"], "--report"),
        (["--report", "../../../../etc/passwd"], "--report"),
        (["--output", ""], "--output"),
        (["--token-file", "/dev/zero"], "longer than"),
        # Not a valid abbreviation.
        (["--proj", "x"], "--proj"),
    ],
)
def test_wrong_usage_exits_with_2(
    mock: MockService, command: Command, arguments: list[str], words: str
) -> None:
    before = mock.connections()["total"]
    assert words in command.download_fails(2, *arguments)
    assert mock.connections()["total"] == before


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("DBSS_PROJECT_ID", "--project is not set, and there is no region"),
        ("DBSS_INSTANCE_ID", "--instance"),
        ("DBSS_REPORT_ID", "--report"),
        ("DBSS_ENDPOINT", "--region"),
    ],
)
def test_missing_setting_is_named(command: Command, name: str, word: str) -> None:
    variables = {"DBSS_REPORT_ID": command.report, name: ""}
    assert word in command.fails(2, "download", env=variables)


def test_value_of_environment_is_blamed_on_its_variable(command: Command) -> None:
    error = command.download_fails(2, env={"DBSS_PROJECT_ID": "short"})
    assert "--project: must have 32 to 64 characters" in error
    assert "hint: the value is from the variable DBSS_PROJECT_ID" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--token", "SECRET-VALUE"],
        ["--token=SECRET-VALUE"],
        ["--token"],
        ["--secret-key=SECRET-VALUE"],
        ["--set=token=SECRET-VALUE"],
        *(
            ["--set", f"{key}=SECRET-VALUE"]
            for key in ("token", "secret_key", "security_token", "iam_password", "proxy")
        ),
    ],
)
def test_secret_on_command_line_is_rejected(
    mock: MockService, command: Command, arguments: list[str]
) -> None:
    before = mock.connections()["total"]
    for error in (
        command.download_fails(2, *arguments),
        command.fails(2, *arguments),
        command.fails(2, "instances", *arguments),
    ):
        assert "SECRET" not in error
    error = command.download_fails(2, *arguments)
    assert "everybody on this machine" in error
    for way in ("--token-file", "HUAWEICLOUD_SDK_SK", "DBSS_IAM_PASSWORD"):
        assert way in error
    assert "--proxy-from-environment" in error
    assert mock.connections()["total"] == before


def test_long_argument_is_not_printed_whole(mock: MockService, command: Command) -> None:
    # It is most likely a token.
    token = "MIIT" + "x" * 3000
    error = command.download_fails(2, token)
    assert "xxxxxxxxxx" not in error
    assert "MIIT" in error


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (b"", "the token is empty"),
        (b"\n", "token"),
        (b"secret-secret secret", "there is a space in the token"),
        (b"secret-secret\n\n", "line end"),
        (b"secret\nsecret", "line end"),
        (b"secret-secret\0secret", "token"),
        (b"secret-secret\xff", "token"),
        (b'{"token": {"secret": 1}}', "X-Subject-Token"),
        (b"s" * (LONGEST_TOKEN + 3), "longer than 98304 bytes"),
    ],
)
def test_invalid_token_is_not_printed(command: Command, token: bytes, words: str) -> None:
    error = command.download_fails(2, "--token-file", "-", stdin_data=token)
    assert words in error
    assert "secret" not in error
    assert "sss" not in error


def test_rejected_token_that_is_json_is_explained(command: Command) -> None:
    error = command.download_fails(3, env={"DBSS_TOKEN": '{"token":{"expires_at":"x"}}'})
    assert "X-Subject-Token" in error
    assert "expires_at" not in error


def test_token_with_line_end_in_environment_is_explained(
    mock: MockService, command: Command
) -> None:
    error = command.download_fails(2, env={"DBSS_TOKEN": mock.token + "\n"})
    assert "hint: the token ends with a line end" in error
    error = command.download_fails(2, env={"DBSS_TOKEN": "with space"})
    assert "there is a space in the token" in error


# Exit codes 3 to 6: the service and the network.


RESPONSE_FAULTS: list[tuple[int, dict[str, Any]]] = [
    (3, {"status": 401, "json": {"error_code": "APIG.0301", "error_msg": "expired"}}),
    (3, {"status": 403, "body": ""}),
    (4, {"status": 404, "body": ""}),
    (4, {"json": {"error_code": "DBSS.10021004", "error_msg": "under 200"}}),
    (5, {"status": 400, "body": ""}),
    (5, {"status": 409, "body": ""}),
    (5, {"status": 429, "body": ""}),
    (5, {"status": 500, "body": ""}),
    (5, {"status": 302, "body": "", "headers": [["Location", "https://elsewhere.example"]]}),
    (5, {"body": ""}),
    (6, {"cut_after": 100}),
    (6, {"reset_before_answer": True}),
    (6, {"gzip": True}),
    (6, {"raw_base64": "Z2FyYmFnZQ0KDQo="}),
]


@pytest.mark.parametrize(("code", "fault"), RESPONSE_FAULTS)
def test_exit_code_matches_response(
    mock: MockService, command: Command, code: int, fault: dict[str, Any]
) -> None:
    mock.fault(command.report, **fault, times=1)
    lines = command.download_fails(code, "-o", "target", *NO_RETRY).splitlines()
    assert all(line.startswith("  hint: ") for line in lines[1:])


def test_rejected_token_exits_with_3(mock: MockService, command: Command) -> None:
    error = command.download_fails(3, env={"DBSS_TOKEN": "not-the-token"})
    assert "APIG.0301" in error
    assert "DBSS_TOKEN" in error
    assert mock.requests(command.report)[-1]["status"] == 401


def test_missing_report_exits_with_4(command: Command) -> None:
    command.report = "x" * 16
    error = command.download_fails(4)
    assert "DBSS.10021004" in error
    assert "request id" in error


def test_connection_failures_exit_with_6(mock: MockService, command: Command) -> None:
    command.download_fails(6, "--endpoint", "http://127.0.0.1:1", *NO_RETRY)
    assert "use --ca-file" in command.download_fails(6, "--endpoint", mock.https)
    mock.fault(command.report, no_answer=True, times=1)
    error = command.download_fails(6, "--stall-timeout", "0.2", *NO_RETRY)
    assert "--stall-timeout" in error
    # With retries, a single fault is not a failure.
    mock.fault(command.report, times=1, cut_after=100)
    done = command.download("--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_unknown_region_has_a_suggestion(command: Command) -> None:
    # Where there is no network no name can be resolved.
    offline = (need_tool("unshare"), "--map-root-user", "--net")
    if subprocess.run([*offline, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody make a network namespace")
    for region, hint in (
        ("cn-nroth-4", "did you mean cn-north-4?"),
        ("elsewhere", "'elsewhere' is no region that dbss knows, such as cn-north-4"),
        ("cn-north-4", None),
    ):
        error = command.download_fails(
            *(6, "--region", region, *NO_RETRY), env={"DBSS_ENDPOINT": None}, wrap=offline
        )
        assert (hint in error) if hint else ("hint" not in error)


def test_service_message_is_printed_without_control_characters(
    mock: MockService, command: Command
) -> None:
    details = [
        {"error_code": "DBSS.1\x1b[31m\u009b", "error_msg": "first\r\n\x1b[31m\u009b\x7f"},
        {"error_code": None, "error_msg": "second"},
        {},
    ]
    words = {"error_code": "DBSS.10000001", "error_msg": "wrong\n\x1b[0m", "details": details}
    headers = [["X-Request-Id", "request-0001"]]
    mock.fault(command.report, status=400, json=words, headers=headers, times=1)
    lines = command.download_fails(5).split("\n")
    assert len(lines) == 5
    assert "DBSS.10000001" in lines[0]
    assert "request-0001" in lines[0]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["DBSS.1", "[31m"],
        ["-:", "second"],
        ["-:", "-"],
    ]


# Exit code 7: this machine.


@pytest.mark.parametrize("kind", ["file", "fifo", "link", "dangling link"])
def test_existing_target_is_rejected_before_any_traffic(
    mock: MockService, command: Command, tmp_path: Path, kind: str
) -> None:
    target = command.directory / "target"
    other = tmp_path / "other"
    if kind == "file":
        target.write_text("mine")
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to(other)
        if kind == "link":
            other.write_text("mine")
    before = mock.connections()["total"]
    words = "exists already" if kind == "file" else "not a regular file"
    assert words in command.download_fails(7, "-o", "target")
    if kind != "file":
        assert words in command.download_fails(7, "-o", "target", "--force")
    else:
        assert target.read_text() == "mine"
    assert mock.connections()["total"] == before
    assert other.exists() == (kind == "link")


def test_two_downloads_at_once_only_one_creates_the_file(
    mock: MockService, command: Command
) -> None:
    before = len(mock.requests(command.report))
    # Both see no file before either of them writes.
    mock.fault(command.report, delay_ms=1000, times=2)
    both = [command.start("download", "--report", command.report, "-o", "target") for _ in range(2)]
    wait_until(lambda: len(mock.requests(command.report)) == before + 2)
    assert command.files() == []
    errors = [process.communicate(timeout=TIMEOUT)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 7], errors
    assert command.files() == ["target"]
    assert sha256(command.directory / "target") == mock.pdf["sha256"]["en-us"]


def test_target_created_during_download_is_kept(mock: MockService, command: Command) -> None:
    report = mock.add_report(format="pdf")["id"]
    mock.fault(report, delay_ms=500, times=1)
    with command.start("download", "--report", report, "-o", "target") as process:
        wait_until(lambda: mock.requests(report))
        (command.directory / "target").write_text("faster")
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 7
    assert b"exists" in err
    assert (command.directory / "target").read_text() == "faster"
    assert command.files() == ["target"]


def test_unusable_files_exit_with_7(command: Command) -> None:
    assert "No such file or directory" in command.download_fails(7, "-o", "no-such-directory/x")
    command.download_fails(7, "-o", "new/")
    command.download_fails(7, "-o", "no/such/directory/")
    assert "/no/such/token" in command.download_fails(7, "--token-file", "/no/such/token")
    command.download_fails(7, "--token-file", "/")
    assert "/no/such/ca.pem" in command.download_fails(7, "--ca-file", "/no/such/ca.pem")


def test_full_disk_leaves_no_file(command: Command) -> None:
    """RLIMIT_FSIZE simulates a full disk."""

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    error = command.download_fails(7, "-o", "target", preexec_fn=small_files_only)
    assert "File too large" in error


def test_closed_stdout_pipe_exits_with_7(mock: MockService, command: Command) -> None:
    report = mock.add_report(format="bytes", size=8 * MIB)["id"]
    with command.start("download", "--report", report, "-o", "-") as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 7
    assert err.count(b"\n") == 1
    assert b"Broken pipe" in err


def test_closed_standard_streams_are_handled(mock: MockService, command: Command) -> None:
    def shell(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        wrap = ("/bin/sh", "-c", f'exec "$0" "$@" {redirections}')
        return command.download(*arguments, wrap=wrap)

    done = shell(">&-", "-o", "-")
    assert (done.returncode, done.stderr) == (
        7,
        "dbss: cannot write to standard output: it is closed\n",
    )
    done = shell("2>&-", "-o", "-", "--token-file", "/no/such/file")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    done = shell("<&-", "-o", "-", "--token-file", "-")
    assert done.returncode == 7
    assert "it is closed" in done.stderr
    for subcommand in (["instances"], ["--help"], ["options"], ["completions", "bash"]):
        wrap = ("/bin/sh", "-c", 'exec "$0" "$@" >&-')
        assert "it is closed" in command.fails(7, *subcommand, wrap=wrap)
    assert command.files() == []


@pytest.mark.parametrize("closed", CLOSED_STREAMS)
def test_messages_never_end_up_in_the_report(
    mock: MockService, command: Command, closed: str
) -> None:
    wrap = ("/bin/sh", "-c", f'exec "$0" "$@" {closed}')
    mock.fault(command.report, reset_after=1000, times=1)
    assert command.download("-o", "x.pdf", "--verbose", wrap=wrap).returncode == 0
    assert sha256(command.directory / "x.pdf") == mock.pdf["sha256"]["en-us"]
    mock.fault(command.report, reset_after=1000, times=1)
    download = ("download", "--report", command.report, "-o", "-", "--verbose")
    done = command.run_bytes(*download, wrap=wrap)
    if ">&-" in closed.replace("2>&-", ""):
        assert (done.returncode, done.stdout) == (7, b"")
    else:
        assert done.returncode == 0
        assert hashlib.sha256(done.stdout).hexdigest() == mock.pdf["sha256"]["en-us"]
    assert ("2>&-" in closed) == (done.stderr == b"")
    assert command.files() == ["x.pdf"]


def test_saved_file_has_the_configured_mode(command: Command) -> None:
    def no_mask() -> None:
        os.umask(0)

    for name, more in (("a", ()), ("b", ("--set", "file_mode=640"))):
        assert command.download("-o", name, *more, preexec_fn=no_mask).returncode == 0
    modes = [stat.S_IMODE((command.directory / name).stat().st_mode) for name in ("a", "b")]
    assert modes == [0o600, 0o640]


def test_cut_transfer_is_resumed(mock: MockService, command: Command) -> None:
    report = mock.add_report(format="zip", size=900_000)
    mock.fault(report["id"], cut_after=500_000, times=1)
    done = command.run("download", "--report", report["id"], "-o", "x")
    assert done.returncode == 0
    [warning, saved] = done.stderr.splitlines()
    assert warning.startswith("dbss: warning: ")
    assert saved == "saved x (900000 bytes, 2 attempts)"
    assert sha256(command.directory / "x") == report["sha256"]["en-us"]
    headers = dict(mock.requests(report=report["id"])[-1]["headers"])
    assert {name.lower(): value for name, value in headers.items()}["range"] == "bytes=500000-"


# Exit code 130: cancelled.


def system_call(process: int) -> str:
    """The number of the system call that a process is in."""
    return Path(f"/proc/{process}/syscall").read_text().split()[0]


def is_waiting(process: int) -> bool:
    """Whether a process waits in poll(), as the library does."""
    # poll, or ppoll on platforms without it.
    return system_call(process) in ("7", "73", "271")


def bytes_in_pipe(pipe: int) -> int:
    [count] = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))
    return count


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "phase", ["connect", "handshake", "header", "body", "tls body", "retry", "pipe"]
)
def test_signal_ends_download_in_every_phase(
    mock: MockService, command: Command, phase: str, number: signal.Signals
) -> None:
    report = mock.add_report(format="bytes", size=MIB)["id"]
    arguments = ["download", "--report", report, "--ca-file", mock.ca_file]
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
    elif phase.endswith("body"):
        mock.fault(report, stall_after=100_000)
        arguments += ["--endpoint", mock.https if phase == "tls body" else mock.http]
    elif phase == "retry":
        mock.fault(report, status=503, headers=[["Retry-After", "50"]])
    else:
        arguments += ["-o", "-"]
    try:
        with command.start(*arguments) as process:
            wait_until(lambda: reached() and is_waiting(process.pid))
            process.send_signal(number)
            sent = time.monotonic()
            process.wait(TIMEOUT)
            elapsed = time.monotonic() - sent
            assert process.stderr is not None
            err = process.stderr.read().decode()
    finally:
        mock.clear_listener_faults()
    assert process.returncode == 130, err
    assert elapsed < 1.5
    # A warning about a failed attempt may come first, and a hint follows.
    assert re.search(r"^dbss: .*\bcancelled\b", err, re.MULTILINE)
    assert ("standard output" in err) == (phase == "pipe")
    assert command.files() == []


@pytest.mark.parametrize("times", [1, 3])
def test_cancelled_download_keeps_the_old_file(
    mock: MockService, command: Command, times: int
) -> None:
    target = command.directory / "target"
    target.write_text("mine")
    before = len(mock.requests(command.report))
    mock.fault(command.report, stall_after=2000)
    arguments = ("download", "--report", command.report, "-o", "target", "--force")
    with command.start(*arguments) as process:
        wait_until(lambda: len(mock.requests(command.report)) == before + 1)
        for _ in range(times):
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"cancelled" in err
    assert target.read_text() == "mine"
    assert command.files() == ["target"]


def test_signal_ends_command_whose_output_is_not_read(mock: MockService, command: Command) -> None:
    large = mock.add_instance("large")
    mock.add_reports(2000, instance=large, name="n" * 200)
    with command.start("reports", "--instance", large) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        wait_until(lambda: bytes_in_pipe(pipe) >= 60_000)
        process.send_signal(signal.SIGINT)
        # It is not read before.
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b"dbss: interrupted\n"
    mock.remove_instances([large])


def test_second_signal_ends_the_program_at_once(command: Command) -> None:
    # Opening a pipe that nobody writes to waits for ever, whatever signal comes.
    pipe = command.directory.parent / "pipe"
    os.mkfifo(pipe)
    with command.start("instances", "--token-file", pipe) as process:
        # openat
        wait_until(lambda: system_call(process.pid) in ("257", "56"))
        # A parent may forward the signal of the same key press.
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        time.sleep(0.4)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_ignored_signal_stays_ignored(mock: MockService, command: Command) -> None:
    report = mock.add_report(format="pdf")
    mock.fault(report["id"], delay_ms=500)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = command.start("download", "--report", report["id"])
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        wait_until(lambda: mock.requests(report["id"]))
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


def test_command_line_and_environment_of_process_have_no_secret(
    mock: MockService, command: Command, tmp_path: Path
) -> None:
    before = len(mock.requests(command.report))
    mock.fault(command.report, no_answer=True, times=1)
    (tmp_path / "token").write_text(mock.token + "\n")
    arguments = ("download", "--report", command.report, "--token-file", tmp_path / "token")
    with command.start(*arguments, env={"DBSS_TOKEN": None}) as process:
        wait_until(lambda: len(mock.requests(command.report)) == before + 1)
        for file in ("cmdline", "environ"):
            assert mock.token.encode() not in Path(f"/proc/{process.pid}/{file}").read_bytes()
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert process.returncode == 130


# Messages.


def test_verbose_prints_warnings(mock: MockService, command: Command) -> None:
    mock.fault(command.report, times=1, cut_after=100)
    done = command.download("--verbose")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert any(line.startswith("dbss: warning: ") and command.report in line for line in lines)
    size = mock.pdf["sizes"]["en-us"]
    assert lines[-1] == f"saved audit-report.pdf ({size} bytes, 2 attempts)"
    # An error is printed once.
    command.report = "x" * 16
    assert command.download("--verbose").stderr.count("DBSS.10021004") == 1


def test_command_under_valgrind_has_no_error(mock: MockService, command: Command) -> None:
    need_tool("valgrind")
    for code, *arguments in (
        (0, "-o", "target"),
        (7, "-o", "target"),
        (0, "-o", "target", "--force", "--verbose"),
        (0, "-o", "-"),
    ):
        download = ("download", "--report", command.report, *arguments)
        assert command.run_bytes(*download, wrap=tuple(VALGRIND)).returncode == code
    mock.fault(command.report, cut_after=100, times=1)
    template = ("--template", mock.templates[0]["id"])
    key: dict[str, str | None] = {"DBSS_TOKEN": None}
    key |= {"HUAWEICLOUD_SDK_AK": mock.access_key, "HUAWEICLOUD_SDK_SK": mock.secret_key}
    agency = ("--set", "credentials=metadata", "--set", f"metadata_endpoint={mock.metadata}")
    for code, env, *arguments in (
        (6, {}, "download", "--report", command.report, "-o", "other", *NO_RETRY),
        (0, {}, "check"),
        (0, key, "check"),
        (0, {"DBSS_TOKEN": None}, "check", *agency),
        (0, {}, "instances", "--json"),
        (0, {}, "reports"),
        (0, {}, "generate", *template, *TIME_RANGE, *FAST_POLL),
        (0, {}, "mirror", "archive", "--gaps", "--success-file", "done"),
        (2, {}, "delete", "--report", command.report),
        (4, {}, "delete", "--report", "x" * 16, "--yes"),
    ):
        done = command.run_bytes(*arguments, env=env, wrap=tuple(VALGRIND))
        assert done.returncode == code, (arguments, done.stderr)


# Credentials that are found.


class CommandWithoutToken:
    """The command with a region, and credentials of the environment.

    It never looks for a real metadata service.
    """

    def __init__(self, mock: MockService, command: Command) -> None:
        self.command = command
        for name in ("DBSS_TOKEN", "DBSS_PROJECT_ID", "DBSS_ENDPOINT"):
            del command.environment[name]
        self.settings = {"iam_endpoint": mock.iam, "metadata_endpoint": mock.metadata}
        command.environment |= {
            "DBSS_REGION": mock.region,
            "HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4": mock.http,
        }
        self.key: dict[str, str | None] = {
            "HUAWEICLOUD_SDK_AK": mock.access_key,
            "HUAWEICLOUD_SDK_SK": mock.secret_key,
        }

    def options(self) -> list[str]:
        return [f"--set={key}={value}" for key, value in self.settings.items()]

    def download(self, *arguments: str | Path, **env: Any) -> subprocess.CompletedProcess[str]:
        return self.command.download(*self.options(), *arguments, env=env)

    def fails(self, code: int, *arguments: str | Path, **env: Any) -> str:
        return self.command.download_fails(code, *self.options(), *arguments, env=env)

    def check(self, *arguments: str, **env: Any) -> subprocess.CompletedProcess[str]:
        return self.command.run("check", *self.options(), *arguments, env=env)

    def checks(self, *arguments: str, code: int = 0, **env: Any) -> dict[str, str]:
        """The lines that a check prints."""
        done = self.check(*arguments, **env)
        assert done.returncode == code, done.stderr
        assert (done.stderr == "") == (code == 0)
        assert self.command.files() == []
        lines = [line.split(": ", 1) for line in done.stdout.splitlines()]
        assert [name for name, _ in lines] == ["source", "who", "project", "expires", "accepted"]
        return dict(lines)

    def profile(self, mode: int = 0o600) -> dict[str, str]:
        """A credentials file with the access key."""
        path = self.command.directory.parent / "credentials"
        ak, sk = self.key.values()
        path.write_text(f"[basic]\nak = {ak}\nsk = {sk}\n")
        path.chmod(mode)
        return {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(path)}


@pytest.fixture
def without_token(mock: MockService, command: Command) -> CommandWithoutToken:
    mock.set_metadata()
    return CommandWithoutToken(mock, command)


def masked(key: str) -> str:
    return f"{key[:4]}***{key[-4:]}"


@pytest.mark.parametrize("source", ["environment", "profile", "metadata"])
def test_region_and_ids_suffice(
    mock: MockService, without_token: CommandWithoutToken, source: str
) -> None:
    env: dict[str, Any] = {
        "environment": without_token.key,
        "profile": without_token.profile(),
        "metadata": {},
    }[source]
    assert without_token.download(**env).returncode == 0
    saved = without_token.command.directory / "audit-report.pdf"
    assert sha256(saved) == mock.pdf["sha256"]["en-us"]


def test_missing_credentials_error_names_all_sources(
    mock: MockService, without_token: CommandWithoutToken
) -> None:
    mock.set_metadata(agency=False)
    error = without_token.fails(2)
    for words in ("HUAWEICLOUD_SDK_AK", ".huaweicloud/credentials", "agency"):
        assert words in error
    without_token.settings["metadata_endpoint"] = "http://127.0.0.1:1"
    assert "127.0.0.1:1" in without_token.fails(2)


def test_credential_sources_have_the_documented_precedence(
    mock: MockService, without_token: CommandWithoutToken, tmp_path: Path
) -> None:
    """The order is: a token file, --set, DBSS_TOKEN, credentials that are found."""
    (tmp_path / "token").write_text(mock.token)
    wrong = {"DBSS_TOKEN": "not-a-token-of-anybody"}
    found = ("--set", "credentials=environment")
    without_token.fails(3, **without_token.key, **wrong)
    done = without_token.download(*found, "-o", "a", **without_token.key, **wrong)
    assert done.returncode == 0
    without_token.fails(2, *found, **wrong)
    file = ("--token-file", tmp_path / "token")
    assert without_token.download(*found, *file, "-o", "b", **wrong).returncode == 0
    assert without_token.command.files() == ["a", "b"]


def test_iam_user_logs_in_with_password_of_environment(
    mock: MockService, without_token: CommandWithoutToken
) -> None:
    user = ("--set", f"iam_user={mock.user}", "--set", f"iam_domain={mock.domain}")
    lines = without_token.checks(*user, DBSS_IAM_PASSWORD=mock.password)
    assert lines["source"].startswith("iam_user, ")
    assert lines["accepted"] == "yes"
    assert "DBSS_IAM_PASSWORD" in without_token.fails(2, *user)
    without_token.fails(3, *user, DBSS_IAM_PASSWORD="wrong")


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_credentials_flag_selects_the_source(
    mock: MockService, without_token: CommandWithoutToken, tmp_path: Path, how: str
) -> None:
    (tmp_path / "id-token").write_text(mock.id_token)
    env = {
        "HUAWEICLOUD_OIDC_PROVIDER_URN": mock.provider_urn,
        "HUAWEICLOUD_OIDC_AGENCY_URN": mock.agency_urn,
        "HUAWEICLOUD_OIDC_TOKEN_FILE": str(tmp_path / "id-token"),
        **without_token.key,
    }
    without_token.settings["sts_endpoint"] = mock.iam
    assert without_token.checks(**env)["source"].startswith("oidc, ")
    flag = ["--credentials", "environment"] if how == "flag" else []
    variable = {"DBSS_CREDENTIALS": "environment" if how == "variable" else "profile"}
    assert without_token.checks(*flag, **variable, **env)["source"].startswith("environment, ")
    without_token.fails(2, "--credentials", "elsewhere", **env)
    without_token.fails(2, "--credentials", "default", "--token-file", "x", **env)


def test_agency_of_another_account_is_assumed(
    mock: MockService, without_token: CommandWithoutToken
) -> None:
    agency = (f"--set=agency_name={mock.agency}", f"--set=agency_domain={mock.agency_domain}")
    lines = without_token.checks(*agency, **without_token.key)
    assert lines["source"].startswith("agency, ")


@pytest.fixture
def mfa_login(mock: MockService) -> Iterator[list[str]]:
    """The arguments of a user who logs in with the passcode 123456."""
    mock.set_iam(passcodes=["123456"])
    keys = {"iam_user": mock.user, "iam_domain": mock.domain, "iam_user_id": mock.user_id}
    yield [f"--set={key}={value}" for key, value in keys.items()]
    mock.set_iam()


def test_passcode_of_variable_is_sent(
    mock: MockService, without_token: CommandWithoutToken, mfa_login: list[str]
) -> None:
    password = {"DBSS_IAM_PASSWORD": mock.password}
    error = without_token.fails(2, *mfa_login, **password)
    assert "set DBSS_IAM_PASSCODE" in error
    without_token.fails(3, *mfa_login, **password, DBSS_IAM_PASSCODE="654321")
    lines = without_token.checks(*mfa_login, **password, DBSS_IAM_PASSCODE="123456")
    assert lines["source"].startswith("iam_user, ")


def test_passcode_is_asked_for_on_the_terminal(
    mock: MockService, without_token: CommandWithoutToken, mfa_login: list[str]
) -> None:
    without_token.command.environment["DBSS_IAM_PASSWORD"] = mock.password
    terminal = Terminal()
    arguments = ("check", *without_token.options(), *mfa_login)
    streams = {"stdin": terminal.slave, "stdout": None, "stderr": terminal.slave}
    try:
        with without_token.command.start(*arguments, **streams) as process:
            wait_until(lambda: b"Passcode of the MFA device: " in terminal.written)
            terminal.type("123456\n")
            assert process.wait(TIMEOUT) == 0
    finally:
        terminal.close()


def test_warning_is_printed_unless_quiet(without_token: CommandWithoutToken) -> None:
    named = without_token.profile(0o644)
    done = without_token.download("-o", "a", **named)
    assert done.returncode == 0
    [warning, saved] = done.stderr.splitlines()
    assert warning.startswith("dbss: warning: ")
    assert named["HUAWEICLOUD_SDK_CREDENTIALS_FILE"] in warning
    assert saved.startswith("saved a (")
    done = without_token.download("-o", "b", "--quiet", **named)
    assert (done.returncode, done.stderr) == (0, "")
    done = without_token.download("-o", "c", **without_token.profile())
    assert done.stderr.startswith("saved c (")


def test_check_with_access_key_prints_its_source(
    mock: MockService, without_token: CommandWithoutToken
) -> None:
    # It needs no ids.
    key = {**without_token.key, "DBSS_INSTANCE_ID": None}
    lines = without_token.checks(**key)
    source = lines.pop("source")
    assert source.startswith("environment, ")
    assert "HUAWEICLOUD_SDK_AK" in source
    assert lines == {
        "who": masked(mock.access_key),
        "project": "looked up by the region's name",
        "expires": "not known",
        "accepted": "yes",
    }
    project = mock.project_id
    assert without_token.checks("--project", project, **key)["project"] == project
    assert without_token.checks(HUAWEICLOUD_SDK_PROJECT_ID=project, **key)["project"] == project
    path = without_token.profile()["HUAWEICLOUD_SDK_CREDENTIALS_FILE"]
    assert path in without_token.checks(**without_token.profile())["source"]
    lines = without_token.checks(DBSS_TOKEN=mock.token)
    assert lines["source"].startswith("token, ")
    assert (lines["who"], lines["accepted"]) == ("not known", "yes")


def test_check_json_has_the_same_facts(
    mock: MockService, without_token: CommandWithoutToken
) -> None:
    done = without_token.check("--json", **without_token.key)
    [line] = json_lines(done.stdout)
    assert "HUAWEICLOUD_SDK_AK" in line.pop("description")
    assert line == {
        "kind": "check",
        "source": "environment",
        "who": masked(mock.access_key),
        "project": None,
        "expires": None,
        "accepted": True,
    }
    done = without_token.check("--json", **{**without_token.key, "HUAWEICLOUD_SDK_SK": "wrong"})
    check, error = json_lines(done.stdout)
    assert (check["accepted"], error["kind"], error["exit_code"]) == (False, "error", 3)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "<+14>-14"])
def test_check_prints_expiry_in_utc(
    mock: MockService, without_token: CommandWithoutToken, zone: str
) -> None:
    mock.set_metadata(announced_key_lifetime_ms=3_600_000)
    lines = without_token.checks(TZ=zone)
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
    ],
)
def test_check_failure_has_its_exit_code(
    without_token: CommandWithoutToken, code: int, accepted: str, changes: dict[str, str]
) -> None:
    env = {**without_token.key, **changes}
    assert without_token.checks(*NO_RETRY, code=code, **env)["accepted"] == accepted
    done = without_token.check("--quiet", *NO_RETRY, **env)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("dbss: ")


@pytest.mark.parametrize(
    ("fault", "code", "accepted"),
    [
        ({"status": 403, "json": {"error_code": "APIG.0302", "error_msg": "no"}}, 3, "no"),
        ({"status": 404}, 4, "not known"),
        ({"status": 500}, 5, "not known"),
        ({"body": "<html>Welcome to the hotel</html>"}, 5, "not known"),
        ({"body": "{}"}, 5, "not known"),
        ({"reset_before_answer": True}, 6, "not known"),
    ],
)
def test_check_with_service_error_has_its_exit_code(
    mock: MockService,
    without_token: CommandWithoutToken,
    fault: dict[str, Any],
    code: int,
    accepted: str,
) -> None:
    mock.fault("@instances", **fault)
    lines = without_token.checks(*NO_RETRY, code=code, **without_token.key)
    assert lines["accepted"] == accepted


@pytest.mark.parametrize("name", ["HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"])
def test_check_with_half_a_key_fails_first(without_token: CommandWithoutToken, name: str) -> None:
    done = without_token.check(**{**without_token.key, name: ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert name in done.stderr
    done = without_token.check(**{**without_token.key, "DBSS_REGION": None})
    assert (done.returncode, done.stdout) == (2, "")
    assert "--region" in done.stderr


def test_check_quiet_prints_nothing_and_full_device_fails(
    without_token: CommandWithoutToken,
) -> None:
    done = without_token.check("--quiet", **without_token.key)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Path("/dev/full").open("wb") as full:
        done = without_token.command.run(
            "check", *without_token.options(), env=without_token.key, stdout=full
        )
    assert done.returncode == 7
    assert "No space left" in done.stderr


# Arguments in the wrong place, and odd ones.


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--token-file", "SECRET"], ["--profile", "SECRET"], ["--set", "SECRET"]),
        *(["--set", "token:SECRET"], ["--region", "SECRET"], ["--max-attempts=SECRET"]),
        *(["--token-file=SECRET"], ["--json", "--endpoint", "SECRET"], ["SECRET"]),
    ],
)
def test_token_in_the_wrong_place_is_not_printed(command: Command, arguments: list[str]) -> None:
    secret = "MIIT" + "x1y2z3w4" * 200
    words = [word.replace("SECRET", secret) for word in arguments]
    name = "mirror" if arguments == ["SECRET"] else "templates"
    done = command.run(name, *words)
    assert done.returncode != 0
    assert secret[:65] not in done.stdout + done.stderr


def test_arguments_are_printed_without_control_characters(command: Command) -> None:
    for words in (["--token-file", HOSTILE], ["--set", HOSTILE], ["--what" + HOSTILE]):
        # run() checks what is printed.
        assert command.run("templates", *words).returncode in (2, 7)


def test_delete_of_two_reports_is_rejected(mock: MockService, command: Command) -> None:
    words = ("--report", "a" * 16, "--report", "b" * 16, "--yes")
    mock.clear_requests()
    assert "--report" in command.fails(2, "delete", *words)
    assert mock.requests("@reports.delete") == []


@pytest.mark.parametrize(
    "fault",
    [
        {"perform": True, "reset_before_answer": True},
        {"perform": True, "status": 500},
        {"perform": True, "body": "x"},
    ],
)
def test_deletion_with_unknown_outcome_says_so(
    mock: MockService, command: Command, fault: dict[str, Any]
) -> None:
    [report] = mock.add_reports(1)
    mock.fault("@reports.delete", times=1, **fault)
    error = command.fails(
        {500: 5}.get(fault.get("status", 0), 6 if "reset_before_answer" in fault else 5),
        *("delete", "--report", report, "--yes", *NO_RETRY),
    )
    assert "may have deleted the report" in error


def test_report_is_not_written_to_a_terminal(command: Command) -> None:
    written = command.on_terminal("download", "--report", command.report, "--output", "-", code=2)
    assert "--output -: standard output is a terminal" in written


def test_file_over_the_limit_of_its_size_exits_with_7(command: Command) -> None:
    with (command.directory / "out").open("wb") as out:
        done = command.run("options", wrap=("prlimit", "--fsize=100"), stdout=out)
    assert done.returncode == 7
    assert "cannot write to standard output" in done.stderr


def test_pipe_that_does_not_block_gets_everything(command: Command) -> None:
    expected = command.prints("options")
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    assert len(expected) > 4096
    with command.start("options", stdout=writer) as process, open(reader) as output:
        os.close(writer)
        assert output.read() == expected
        process.communicate(timeout=60)
    assert process.returncode == 0
