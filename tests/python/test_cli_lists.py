"""``python -m dbss`` with lists, and reports that are generated and deleted."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dbss import cli, commands

from mock_service import MockService

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 60.0
TIME_RANGE = ("--start-time", "2026-11-23 00:00:00", "--end-time", "2026-11-24 00:00:00")
ID = "0123456789abcdef0123456789abcdef"
CONTROL = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u2028-\u202e\u2066-\u2069\U000e0000-\U000e0fff]"
)


@pytest.fixture(scope="module")
def service(build_dir: Path) -> Iterator[MockService]:
    """A separate service, because a list of instances shows those of all tests."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


class Command:
    """Runs the command in an empty directory, with all settings in the environment."""

    def __init__(self, service: MockService, environment: dict[str, str], directory: Path) -> None:
        self.service = service
        self.directory = directory
        self.environment = {
            **environment,
            "HOME": str(directory),
            "DBSS_PROJECT_ID": service.project_id,
            "DBSS_ENDPOINT": service.http,
            "DBSS_TOKEN": service.token,
            "PYTHONIOENCODING": "utf-8",
        }

    def run(
        self, *arguments: str, stdin_data: bytes = b"", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "dbss", *arguments],
            env={**self.environment, **variables},
            cwd=self.directory,
            input=stdin_data,
            capture_output=True,
            timeout=TIMEOUT,
        )
        assert self.service.token.encode() not in done.stdout + done.stderr
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode()
        assert "Traceback" not in err
        assert not CONTROL.search(err)
        return subprocess.CompletedProcess(arguments, done.returncode, out, err)

    def prints(self, *arguments: str, **more: Any) -> str:
        done = self.run(*arguments, **more)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def fails(self, code: int, *arguments: str, **more: Any) -> str:
        done = self.run(*arguments, **more)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert done.stderr.startswith("dbss: ")
        return done.stderr


@pytest.fixture
def instance(service: MockService) -> Iterator[str]:
    added = service.add_instance("for a test")
    yield added
    service.remove_instances([added])


@pytest.fixture
def command(
    service: MockService, environment: dict[str, str], instance: str, tmp_path: Path
) -> Iterator[Command]:
    service.clear_requests()
    one = Command(service, environment, tmp_path)
    one.environment["DBSS_INSTANCE_ID"] = instance
    yield one
    service.clear_faults()
    service.set_generation()


def width(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def rows(table: str, names: tuple[str, ...]) -> list[list[str]]:
    """The cells of a table, whose columns begin where their headings do."""
    heading, *lines = table.splitlines()
    assert heading.split() == [name.upper() for name in names]
    starts = [heading.index(name.upper()) for name in names]
    found = []
    for line in lines:
        columns = [""] * len(starts)
        at = 0
        for one in line:
            last = max(n for n, start in enumerate(starts) if start <= at)
            columns[last] += one
            at += width(one)
        found.append([column.strip() for column in columns])
    return found


# Lists.


def test_instances_are_printed(service: MockService, command: Command, instance: str) -> None:
    odd = service.add_instance("审计", status="TELEPORTING", omit=["version"])
    try:
        table = command.prints("instances")
        found = {row[0]: row for row in rows(table, commands.INSTANCES)}
        assert list(found) == [service.instance_id, instance, odd]
        assert found[instance][1:3] == ["ACTIVE", "cn-north-4"]
        assert found[instance][-1] == "for a test"
        assert found[odd][1] == "TELEPORTING"
        assert found[odd][3] == "-"
        assert found[odd][-1] == "审计"
        items = [json.loads(line) for line in command.prints("instances", "--json").splitlines()]
        assert [one["id"] for one in items] == list(found)
        assert "version" not in items[-1]
        # Unchanged, including unknown fields.
        assert len(items[0]) > 20
    finally:
        service.remove_instances([odd])


def test_reports_are_printed(service: MockService, command: Command, instance: str) -> None:
    added = service.add_reports(250, instance=instance)[::-1]
    odd = service.add_report(format="zip", instance=instance, percentum=7, name="订单", type=None)
    table = command.prints("reports")
    found = rows(table, commands.REPORTS)
    assert [row[0] for row in found] == [odd["id"], *added]
    assert found[0][1:4] == ["7", "zip", "-"]
    assert found[0][-1] == "订单"
    assert found[1][1:3] == ["100", "pdf"]
    assert [
        row[0] for row in rows(command.prints("reports", "--name", "订"), commands.REPORTS)
    ] == [odd["id"]]
    lines = command.prints("reports", "--json", "--instance", instance).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [odd["id"], *added]
    assert json.loads(lines[0])["type"] is None
    assert all(line.isascii() for line in lines)


def test_templates_are_printed(service: MockService, command: Command) -> None:
    found = rows(command.prints("templates"), commands.TEMPLATES)
    assert [(row[0], row[1]) for row in found] == [
        (one["id"], one["type"]) for one in service.templates
    ]
    lines = command.prints("templates", "--json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [one["id"] for one in service.templates]


def test_empty_list_prints_only_the_heading(command: Command) -> None:
    assert rows(command.prints("reports"), commands.REPORTS) == []
    assert command.prints("reports", "--json") == ""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_list_output_has_no_terminal_controls(
    service: MockService, command: Command, instance: str, encoding: str
) -> None:
    name = "a\x1b[31m\r\n\x07\x9b\x7f\u202eb\u2028c\u061c\xad\U000e0041\ud800\t审"
    service.fault(
        "@reports.list",
        body=json.dumps(
            {
                "reports": [
                    {"report": {"id": ID, "name": name.replace("\ud800", ""), "more": [name]}}
                ],
                "total": 1,
            }
        ),
    )
    table = command.prints("reports", PYTHONIOENCODING=encoding)
    assert not CONTROL.search(table)
    assert len(table.splitlines()) == 2
    assert "[31m" in table
    line = command.prints("reports", "--json", PYTHONIOENCODING=encoding)
    assert not CONTROL.search(line)
    assert line.isascii()
    assert json.loads(line)["more"] == [name]


def test_json_lines_are_printed_page_by_page(
    service: MockService, command: Command, instance: str
) -> None:
    service.add_reports(150, instance=instance)
    service.fault("@reports.list", no_answer=True, skip=1)
    with subprocess.Popen(
        [sys.executable, "-m", "dbss", "reports", "--json"],
        env={**command.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(100)]
        assert all(json.loads(line)["id"] for line in lines)
        process.terminate()
        assert process.stdout.read() == b""
    assert process.returncode == 130


def test_stalled_list_is_not_reported_as_stdout_error(
    service: MockService, command: Command, instance: str
) -> None:
    """StalledError is a TimeoutError, and so an OSError, like the error of a closed pipe."""
    service.fault("@reports.list", no_answer=True)
    for more in ((), ("--json",)):
        words = command.fails(6, "reports", *more, "--stall-timeout", "0.1", "--max-attempts", "1")
        assert "standard output" not in words
        assert "stall_timeout_ms" in words


def test_closed_stdout_pipe_exits_with_7(
    service: MockService, command: Command, instance: str
) -> None:
    service.add_reports(1000, instance=instance)
    for more in ((), ("--json",)):
        with subprocess.Popen(
            [sys.executable, "-m", "dbss", "reports", *more],
            env=command.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.wait(TIMEOUT) == 7
            assert process.stderr.read() == b"dbss: cannot write to standard output: Broken pipe\n"


# Generate.


def test_generate_prints_the_report_id(service: MockService, command: Command) -> None:
    template = service.templates[0]["id"]
    done = command.prints(
        "generate", "--template", template, *TIME_RANGE, "--poll-interval", "0.01"
    )
    assert done == f"{service.made()[-1]}\n"
    command.prints(
        *("generate", "--template", template, *TIME_RANGE, "--poll-interval", "0.01"),
        *("--start-date", "2026-11-23", "--end-date", "2026-11-24", "--db-ids", "7,8"),
    )
    sent = json.loads(service.requests("@reports.create")[-1]["body"])
    assert sent == {
        "template_id": template,
        "start_time": "2026-11-23 00:00:00",
        "end_time": "2026-11-24 00:00:00",
        "start_date": "2026-11-23",
        "end_date": "2026-11-24",
        "db_ids": "7,8",
    }
    assert list(command.directory.iterdir()) == []


def test_generate_with_output_downloads_the_report(service: MockService, command: Command) -> None:
    service.set_generation(size=6000)
    generate = ("generate", "--template", service.templates[0]["id"], *TIME_RANGE)
    generate += ("--poll-interval", "0.01")
    done = command.run(*generate, "-o", "report.pdf")
    assert (done.returncode, done.stdout) == (0, f"{service.made()[-1]}\n")
    assert done.stderr == "saved report.pdf (6000 bytes)\n"
    assert len((command.directory / "report.pdf").read_bytes()) == 6000

    done = command.run(*generate, "--output", "-", "--locale", "zh-cn")
    assert done.returncode == 0
    assert done.stdout.startswith("%PDF-")
    made = service.made()[-1]
    assert done.stderr == f"made {made}\nsaved - (6000 bytes)\n"
    assert service.requests(made)[-1]["query"] == "local=zh-cn"

    # The id of the created report is printed, though the report cannot be saved.
    done = command.run(*generate, "-o", "report.pdf")
    assert (done.returncode, done.stdout) == (7, f"{service.made()[-1]}\n")
    assert "exists already" in done.stderr
    done = command.run(*generate, "-o", "report.pdf", "--force", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    # The variables for downloads have no effect here.
    assert (
        command.prints(*generate, DBSS_OUTPUT="x", DBSS_REPORT_ID="x") == f"{service.made()[-1]}\n"
    )
    assert [one.name for one in command.directory.iterdir()] == ["report.pdf"]


def test_generate_failure_has_its_exit_code(service: MockService, command: Command) -> None:
    template = service.templates[0]["id"]
    generate = ("generate", "--template", template, *TIME_RANGE, "--poll-interval", "0.01")
    assert ID in command.fails(4, *generate[:2], ID, *TIME_RANGE)
    service.fault("@reports.create", json={"result": "failed"}, times=1)
    command.fails(5, *generate)
    service.set_generation(foreign=[{}])
    message = command.fails(5, *generate)
    assert service.made()[-1] in message
    service.set_generation(percent_per_list=0)
    message = command.fails(5, *generate, "--wait-timeout", "0.2")
    assert "not ready" in message
    assert service.made()[-1] in message


# Delete.


def test_delete_needs_confirmation(service: MockService, command: Command, instance: str) -> None:
    report, other = service.add_reports(2, instance=instance)
    assert "--yes" in command.fails(2, "delete", "--report", report)
    # Confirmation needs a terminal.
    assert "--yes" in command.fails(2, "delete", "--report", report, stdin_data=b"y\n")
    assert service.requests("@reports.delete") == []
    done = command.run("delete", "--report", report, "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"deleted {report}\n")
    command.fails(4, "delete", "--report", report, "--yes")
    assert command.prints("delete", "--report", other, "--yes", "--quiet") == ""
    # It never uses the variable for downloads.
    assert "--report" in command.fails(2, "delete", "--yes", DBSS_REPORT_ID=report)
    service.fault("@reports.delete", json={"status": "FAILED"}, times=1)
    command.fails(5, "delete", "--report", report, "--yes")


@pytest.mark.parametrize("head", ["-ytjeZgBBt8O6JSx", "-hytjeZgBBt8O6JS"])
def test_delete_id_with_leading_hyphen_succeeds(
    service: MockService, command: Command, instance: str, head: str
) -> None:
    report = head + os.urandom(8).hex()
    service.add_report(id=report, format="pdf", instance=instance)
    done = command.run("delete", "--report", report, "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"deleted {report}\n")
    command.fails(4, "delete", "--yes", "--report", report)


@pytest.mark.parametrize(
    ("reply", "code"),
    [("y\n", 0), ("YES\n", 0), ("n\n", 130), ("\n", 130), ("\x04", 130), ("yea\n", 130)],
)
def test_delete_on_terminal_asks_first(
    service: MockService, command: Command, instance: str, reply: str, code: int
) -> None:
    [report] = service.add_reports(1, instance=instance)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dbss", "delete", "--report", report],
        env=command.environment,
        stdin=slave,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    seen = b""
    while b"[y/N] " not in seen:
        seen += os.read(master, 1000)
    assert report.encode() in seen
    assert service.requests("@reports.delete") == []
    os.write(master, reply.encode())
    assert process.wait(TIMEOUT) == code
    os.close(master)
    assert len(service.requests("@reports.delete")) == (1 if code == 0 else 0)


# All commands.

LISTS = ["instances", "reports", "templates"]
ALL_COMMANDS = {
    "instances": ["instances"],
    "reports": ["reports"],
    "templates": ["templates"],
    "generate": ["generate", "--template", ID, *TIME_RANGE],
    "delete": ["delete", "--report", ID, "--yes"],
}
SERVICE_CALLS = {
    "instances": "@instances",
    "reports": "@reports.list",
    "templates": "@templates",
    "generate": "@templates",
    "delete": "@reports.delete",
}


@pytest.mark.parametrize("name", ALL_COMMANDS)
@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (3, {"status": 401, "body": ""}),
        (3, {"status": 403, "body": ""}),
        (4, {"status": 404, "body": ""}),
        (5, {"status": 400, "body": ""}),
        (5, {"status": 500, "body": ""}),
        (5, {"body": "<html></html>"}),
        (5, {"json": {"error_code": "DBSS.1", "error_msg": "a\x1b[0m\nb\x9b"}}),
        (6, {"reset_before_answer": True}),
        (6, {"raw_base64": "Z2FyYmFnZQ0KDQo="}),
    ],
)
def test_exit_code_matches_response(
    service: MockService, command: Command, name: str, code: int, fault: dict[str, Any]
) -> None:
    service.fault(SERVICE_CALLS[name], **fault)
    command.fails(code, *ALL_COMMANDS[name], "--max-attempts", "1")


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_usage_errors_have_their_exit_codes(
    command: Command, service: MockService, name: str
) -> None:
    before = service.connections()["total"]
    wrong = ALL_COMMANDS[name]
    command.fails(2, *wrong, "--no-such-option")
    command.fails(2, *wrong, "--project", "x")
    command.fails(2, *wrong, "--set", "no_such_key=1")
    command.fails(2, *wrong, DBSS_ENDPOINT="http://192.0.2.1")
    command.fails(2, *wrong, f"--token={service.token}")
    command.fails(7, *wrong, "--ca-file", "/no/such/file")
    assert service.connections()["total"] == before
    command.fails(6, *wrong, "--max-attempts", "1", DBSS_ENDPOINT="http://127.0.0.1:1")
    if name != "instances":
        assert "--instance" in command.fails(2, *wrong, DBSS_INSTANCE_ID="")
        command.fails(2, *wrong, "--instance", "../" + ID)
    if name == "generate":
        for number in range(1, 7, 2):
            part = [*wrong[:number], *wrong[number + 2 :]]
            assert wrong[number] in command.fails(2, *part)
        command.fails(2, *wrong, "--poll-interval", "0")
        command.fails(2, *wrong, "--wait-timeout", "soon")


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_help_lists_options_and_exit_codes(command: Command, name: str) -> None:
    text = command.prints(name, "--help", DBSS_TOKEN="")
    assert all(len(line) <= 100 for line in text.splitlines())
    codes = re.findall(r"^ +(\d+)  \w", text.split("exit codes:")[1], re.MULTILINE)
    assert codes == re.findall(r"^ +(\d+)  \w", cli.EXIT_CODES, re.MULTILINE)
    assert "the report is saved" not in text
    assert name in command.prints("--help")


@pytest.mark.parametrize("name", LISTS)
def test_verbose_prints_warnings(service: MockService, command: Command, name: str) -> None:
    service.fault(SERVICE_CALLS[name], status=503, body="", times=1)
    done = command.run(name, "--verbose")
    assert done.returncode == 0
    assert "503" in done.stderr
    assert all(line.startswith("dbss: ") for line in done.stderr.splitlines())
    assert command.run(name, "--verbose", "--json").stdout != done.stdout
