"""The command dbss: lists, and reports that are generated and deleted."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from command import (
    CONTROL,
    FAST_POLL,
    HOSTILE,
    NO_RETRY,
    TIME_RANGE,
    TIMEOUT,
    Command,
    Terminal,
    command,
    instance,
    json_lines,
    wait_until,
)

if TYPE_CHECKING:
    from mock_service import MockService

# Imported fixtures; this file does not use the names directly.
__all__ = ["command", "instance"]

ID = "0123456789abcdef0123456789abcdef"
INSTANCES = ["id", "status", "region", "version", "connect_ip", "remain_days", "name"]
REPORTS = ["id", "percentum", "format", "type", "start_time", "end_time", "name"]
TEMPLATES = ["id", "type", "status", "frequency", "name"]
DATABASES = ["id", "status", "type", "version", "ip", "port", "name"]
SCHEDULE = [
    *("id", "status", "frequency", "format", "mode", "start_time"),
    *("notice", "topic_urn", "db_ids"),
]


def rows(text: str, names: list[str]) -> list[list[str]]:
    """The cells of tab-separated values, without the headings."""
    heading, *lines = text.splitlines()
    assert heading.split("\t") == names
    cells = [line.split("\t") for line in lines]
    assert all(len(row) == len(names) for row in cells)
    return cells


# Lists.


def test_instances_are_printed(mock: MockService, command: Command, instance: str) -> None:
    odd = mock.add_instance("审计", status="TELEPORTING", omit=["version"])
    try:
        # The command needs no instance.
        printed = command.prints("instances", env={"DBSS_INSTANCE_ID": None})
        found = {row[0]: row for row in rows(printed, INSTANCES)}
        assert mock.instance_id in found
        assert found[instance][1:4] == ["ACTIVE", "cn-north-4", "25.10.0"]
        assert found[instance][5] == "361"
        # The oldest comes first.
        assert list(found)[-2:] == [instance, odd]
        assert found[instance][-1] == "mine"
        assert (found[odd][1], found[odd][3], found[odd][-1]) == ("TELEPORTING", "-", "审计")
        items = json_lines(command.prints("instances", "--json"))
        assert [one["id"] for one in items] == list(found)
        assert {one["kind"] for one in items} == {"instance"}
        # Unchanged, including unknown fields, and without those that are missing.
        assert len(items[0]) > 20
        assert items[0]["port_id"]
        assert "version" not in next(one for one in items if one["id"] == odd)
    finally:
        mock.remove_instances([odd])


def test_reports_are_printed(mock: MockService, command: Command, instance: str) -> None:
    added = mock.add_reports(230, instance=instance, name="many")[::-1]
    times = {"start_time": "2026-03-01 00:00:00", "end_time": "2026-03-02 00:00:00"}
    odd = mock.add_report(
        format="zip", instance=instance, percentum=7, name="订单", type=None, **times
    )
    bare = mock.add_report(format="pdf", instance=instance, name="bare", omit=["start_time"])
    found = rows(command.prints("reports"), REPORTS)
    assert [row[0] for row in found] == [bare["id"], odd["id"], *added]
    # A missing field keeps its place.
    assert (found[0][4], found[0][6]) == ("-", "bare")
    assert found[1][1:] == ["7", "zip", "-", *times.values(), "订单"]
    assert found[2][1:3] == ["100", "pdf"]
    quiet = command.prints("reports", "--quiet", "--name", "订")
    assert quiet.startswith(odd["id"])
    assert quiet.count("\n") == 1
    items = json_lines(command.prints("reports", "--json", "--instance", instance))
    assert [one["id"] for one in items] == [bare["id"], odd["id"], *added]
    assert items[1]["type"] is None
    assert "start_time" not in items[0]
    assert odd["id"] not in command.prints("reports", "--instance", mock.instance_id)


def test_templates_are_printed(mock: MockService, command: Command, instance: str) -> None:
    found = rows(command.prints("templates"), TEMPLATES)
    assert [(row[0], row[1], row[4]) for row in found] == [
        (one["id"], one["type"], one["name"]) for one in mock.templates
    ]
    items = json_lines(command.prints("templates", "--json"))
    assert [(one["kind"], one["id"]) for one in items] == [("template", row[0]) for row in found]


def test_databases_are_printed(mock: MockService, command: Command, instance: str) -> None:
    found = rows(command.prints("databases"), DATABASES)
    assert [(row[1], row[2], row[5], row[6]) for row in found] == [
        ("ON", "MYSQL", "3306", "orders"),
        ("ON", "MYSQL", "3306", "billing 账单"),
        ("OFF", "MYSQL", "3306", "archive"),
    ]
    items = json_lines(command.prints("databases", "--json", "--status", "OFF"))
    assert [(one["kind"], one["id"]) for one in items] == [("database", found[2][0])]
    assert items[0]["kernel"] == {"undocumented": True}
    assert "--status" in command.fails(2, "databases", "--status", "ACTIVE")


def test_schedule_is_printed_and_changed(
    mock: MockService, command: Command, instance: str
) -> None:
    template = mock.templates[1]["id"]
    call = ("schedule", "--template", template)
    [first] = rows(command.prints(*call), SCHEDULE)
    week = [template, "ON", "AUDIT_REPORT_WEEK", "ZIP", "AUTO", "2026-11-23 00:00:00", "OFF"]
    assert first == [*week, "-", "-"]
    assert mock.requests("@schedule.set") == []
    [item] = json_lines(command.prints(*call, "--json", "--status", "OFF"))
    assert (item["kind"], item["id"], item["status"]) == ("schedule", template, "OFF")
    assert (item["smn_effective"], item["retention"]["days"]) == (True, 30)
    changes = {
        "--status": "ON",
        "--frequency": "AUDIT_REPORT_DAY",
        "--format": "PDF",
        "--mode": "MANUAL",
        "--start-time": "2026-12-01 00:00:00",
        "--notice": "ON",
        "--topic-urn": "urn:smn",
        "--db-ids": "7,8",
    }
    flags = [word for pair in changes.items() for word in pair]
    [changed] = rows(command.prints(*call, *flags), SCHEDULE)
    assert changed == [template, *changes.values()]
    [cleared] = rows(command.prints(*call, "--db-ids=", "--topic-urn="), SCHEDULE)
    assert cleared[-2:] == ["-", "-"]
    before = mock.connections()["total"]
    for flag in ("--status", "--frequency", "--format", "--notice"):
        assert flag in command.fails(2, *call, flag, "NO")
    assert "--template" in command.fails(2, "schedule", "--template", "short")
    assert mock.connections()["total"] == before
    mock.fault("@schedule.set", json={"status": "fail"}, times=1)
    command.fails(5, *call, "--status", "OFF")
    mock.fault("@schedule.show", skip=1, status=403, times=1)
    assert "was changed" in command.fails(3, *call, "--status", "OFF")


@pytest.mark.parametrize(
    ("version", "shape", "requests"),
    [("v2", "servers", 1), ("v1", "servers", 2), ("v1", "instances", 2), ("v1_dbss", "servers", 3)],
)
def test_every_call_works_with_each_version_of_instances(
    mock: MockService, command: Command, instance: str, version: str, shape: str, requests: int
) -> None:
    mock.set_shapes(versions=[version], instances=shape)
    try:
        assert command.run("check").returncode == 0
        assert len(mock.requests("@instances")) == requests
        found = {row[0]: row for row in rows(command.prints("instances"), INSTANCES)}
        assert found[instance][1:5] == ["ACTIVE", "cn-north-4", "25.10.0", "192.168.0.10"]
        template = rows(command.prints("templates"), TEMPLATES)[0][0]
        generate = ("generate", "--template", template, *TIME_RANGE, *FAST_POLL)
        report = command.prints(*generate).strip()
        assert [row[0] for row in rows(command.prints("reports"), REPORTS)] == [report]
        every = command.prints("mirror", "archive", "--json", env={"DBSS_INSTANCE_ID": None})
        summary = json_lines(every)[-1]
        assert summary["failed"] == 0
        assert summary["listed"] > 0
        assert list(command.directory.glob(f"archive/{instance}/*/*.pdf"))
        command.prints("delete", "--report", report, "--yes", "--quiet")
        assert rows(command.prints("reports"), REPORTS) == []
    finally:
        mock.set_shapes()


def test_instances_in_no_version_are_one_clear_error(
    mock: MockService, command: Command, instance: str
) -> None:
    mock.set_shapes(versions=[])
    try:
        for call in ("check", "instances"):
            done = command.run(call)
            error = done.stderr
            assert done.returncode == 4
            assert "all three versions of the list of instances were tried" in error
            assert "check the endpoint or region" in error
    finally:
        mock.set_shapes()


def test_empty_list_prints_only_the_heading(command: Command, instance: str) -> None:
    assert rows(command.prints("reports"), REPORTS) == []
    assert command.prints("reports", "--quiet") == ""
    assert command.prints("reports", "--json") == ""


def test_list_output_has_no_terminal_controls(
    mock: MockService, command: Command, instance: str
) -> None:
    hostile = {"type": HOSTILE, "start_time": HOSTILE, "extra": {HOSTILE: HOSTILE}}
    report = mock.add_report(format="pdf", instance=instance, name=HOSTILE, **hostile)
    [row] = rows(command.prints("reports"), REPORTS)
    assert row[0] == report["id"]
    assert "31m" in row[-1]
    assert "é😀" in row[-1]
    [item] = json_lines(command.prints("reports", "--json"))
    assert (item["name"], item[HOSTILE]) == (HOSTILE, HOSTILE)
    # Also when the service spreads the JSON over several lines.
    item.pop("kind")
    body = json.dumps({"reports": [{"report": item}], "total": 1}, indent=4, ensure_ascii=False)
    content = {"body": body, "headers": [["Content-Type", "application/json"]]}
    mock.fault("@reports.list", times=1, **content)
    [again] = json_lines(command.prints("reports", "--json"))
    assert again == {"kind": "report", **item}
    terminal = command.on_terminal("reports", columns=200)
    assert not CONTROL.search(terminal)


def test_list_failing_midway_prints_no_partial_table(
    mock: MockService, command: Command, instance: str
) -> None:
    mock.add_reports(150, instance=instance)
    mock.fault("@reports.list", skip=1, times=1, status=500)
    # A table is printed at the end, JSON as it arrives.
    assert "HTTP 500" in command.fails(5, "reports", *NO_RETRY)
    mock.fault("@reports.list", skip=1, times=1, status=500)
    done = command.run("reports", "--json", *NO_RETRY)
    assert done.returncode == 5
    *items, error = json_lines(done.stdout)
    assert len(items) == 100
    assert (error["kind"], error["exit_code"]) == ("error", 5)


def test_json_lines_are_printed_page_by_page(
    mock: MockService, command: Command, instance: str
) -> None:
    mock.add_reports(150, instance=instance)
    mock.fault("@reports.list", no_answer=True, skip=1)
    with command.start("reports", "--json") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(100)]
        assert all(json.loads(line)["id"] for line in lines)
        process.terminate()
        [error] = json_lines(process.stdout.read().decode())
        process.wait(TIMEOUT)
    assert (process.returncode, error["exit_code"]) == (130, 130)


def test_stalled_list_names_the_flag(mock: MockService, command: Command, instance: str) -> None:
    mock.fault("@reports.list", no_answer=True)
    error = command.fails(6, "reports", "--stall-timeout", "0.1", *NO_RETRY)
    assert "standard output" not in error
    assert "--stall-timeout" in error
    done = command.run("reports", "--json", "--stall-timeout", "0.1", *NO_RETRY)
    assert (done.returncode, done.stderr) == (6, error)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_closed_stdout_pipe_exits_with_7(
    mock: MockService, command: Command, instance: str, more: tuple[str, ...]
) -> None:
    mock.add_reports(1000, instance=instance)
    with command.start("reports", *more) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(TIMEOUT) == 7
        assert process.stderr.read() == b"dbss: cannot write to standard output: Broken pipe\n"


def test_closed_stdout_prevents_deletion_with_json(
    mock: MockService, command: Command, instance: str
) -> None:
    [report] = mock.add_reports(1, instance=instance)
    wrap = ("/bin/sh", "-c", 'exec "$0" "$@" >&-')
    delete = ("delete", "--report", report, "--yes")
    assert "it is closed" in command.fails(7, *delete, "--json", wrap=wrap)
    assert mock.requests("@reports.delete") == []
    assert command.run(*delete, wrap=wrap).returncode == 0


@pytest.mark.parametrize("name", ["reports", "templates", "generate", "delete", "mirror"])
def test_ids_with_leading_hyphen_are_accepted(
    mock: MockService, command: Command, name: str
) -> None:
    other = "-y" + "0" * 34
    arguments = ["mirror", "archive"] if name == "mirror" else ALL_COMMANDS[name]
    for flag in (["--instance", other], [f"--instance={other}"]):
        done = command.run(*arguments, *flag)
        assert done.returncode == 4, done.stderr
        assert any(other in one["target"] for one in mock.requests()[-3:])


@pytest.mark.parametrize(
    "arguments",
    [
        ["-hytjeZgBBt8O6JS", "--yes"],
        ["--yes", "-hytjeZgBBt8O6JS"],
        ["-yhtjeZgBBt8O6JSx"],
        ["-ytjeZgBBt8O6JSx", "--yes"],
        ["--", "-ytjeZgBBt8O6JSx"],
        ["--report", "--yes"],
        ["--report", "-h"],
        ["--yes", "--report", "--help"],
    ],
)
def test_delete_exits_with_0_only_when_it_deleted(
    mock: MockService, command: Command, instance: str, arguments: list[str]
) -> None:
    command.fails(2, "delete", *arguments)
    assert mock.requests("@reports.delete") == []


def test_full_device_exits_with_7(command: Command, instance: str) -> None:
    for arguments in (["instances"], ["templates", "--json"], ["options"], ["mirror", "archive"]):
        with open("/dev/full", "wb") as full:
            done = command.run(*arguments, stdout=full)
        assert done.returncode == 7, arguments
        assert "No space left" in done.stderr


# Generate.


def test_generate_prints_the_report_id(mock: MockService, command: Command, instance: str) -> None:
    template = mock.templates[2]["id"]
    generate = ("generate", "--template", template, *TIME_RANGE, *FAST_POLL)
    assert command.prints(*generate) == f"{mock.made()[-1]}\n"
    sent = json.loads(mock.requests("@reports.create")[-1]["body"])
    times = {"start_time": TIME_RANGE[1], "end_time": TIME_RANGE[3]}
    assert sent == {"template_id": template, **times}
    dates = ("--start-date", "2026-01-01", "--end-date", "2026-01-02", "--db-ids", "7,8")
    [line] = json_lines(command.prints(*generate, *dates, "--json"))
    assert line == {"kind": "generated", "id": mock.made()[-1]}
    sent = json.loads(mock.requests("@reports.create")[-1]["body"])
    assert [sent[name] for name in ("start_date", "end_date", "db_ids")] == list(dates[1::2])
    assert command.files() == []


def test_generate_with_output_downloads_the_report(
    mock: MockService, command: Command, instance: str
) -> None:
    mock.set_generation(size=6000)
    generate = ("generate", "--template", mock.templates[0]["id"], *TIME_RANGE, *FAST_POLL)
    done = command.run(*generate, "-o", "report.pdf")
    assert (done.returncode, done.stdout) == (0, f"{mock.made()[-1]}\n")
    assert done.stderr == "saved report.pdf (6000 bytes)\n"
    assert len((command.directory / "report.pdf").read_bytes()) == 6000

    raw = command.run_bytes(*generate, "--output", "-", "--locale", "zh-cn")
    assert raw.returncode == 0
    assert raw.stdout.startswith(b"%PDF-")
    made = mock.made()[-1]
    assert raw.stderr.decode() == f"made {made}\nsaved - (6000 bytes)\n"
    assert mock.requests(made)[-1]["query"] == "local=zh-cn"

    # Nothing is generated that could not be saved.
    for path, words in (("report.pdf", "--force"), ("no/such", " in no: "), ("no/", " in no/: ")):
        assert words in command.fails(7, *generate, "-o", path)
    assert mock.made()[-1] == made
    # If the download fails, the id of the report is printed.
    done = command.run(*generate, "-o", "other.pdf", wrap=("prlimit", "--fsize=1000"))
    assert (done.returncode, done.stdout) == (7, f"{mock.made()[-1]}\n")
    assert f"--report {mock.made()[-1]}" in done.stderr
    done = command.run(*generate, "-o", "report.pdf", "--force", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    kinds = [
        one["kind"]
        for one in json_lines(command.prints(*generate, "-o", "report.pdf", "--force", "--json"))
    ]
    assert kinds == ["generated", "download"]
    # The variables for downloads have no effect here.
    env: dict[str, str | None] = {"DBSS_OUTPUT": "x", "DBSS_REPORT_ID": "x"}
    assert command.prints(*generate, env=env) == f"{mock.made()[-1]}\n"
    assert command.files() == ["report.pdf"]


@pytest.mark.parametrize("as_json", [False, True])
def test_generate_with_hostile_id_prints_no_terminal_controls(
    mock: MockService, command: Command, instance: str, as_json: bool
) -> None:
    # The id comes from the service, and may be anything.
    hostile = 'x"\\ \x1b[31m\n\x9b\x7f'
    times = {"start_time": TIME_RANGE[1], "end_time": TIME_RANGE[3]}
    item = {"id": hostile, "name": "new", "percentum": 100, **times}
    mock.fault("@reports.list", skip=1, json={"reports": [{"report": item}], "total": 1})
    template = ("--template", mock.templates[0]["id"])
    form = ("--json",) if as_json else ()
    printed = command.prints("generate", *template, *TIME_RANGE, *FAST_POLL, *form)
    assert printed.count("\n") == 1
    if as_json:
        assert json.loads(printed)["id"] == hostile


def test_generate_failure_has_its_exit_code(
    mock: MockService, command: Command, instance: str
) -> None:
    generate = ("generate", "--template", mock.templates[0]["id"], *TIME_RANGE, *FAST_POLL)
    assert ID in command.fails(4, *generate[:2], ID, *TIME_RANGE)
    mock.fault("@reports.create", json={"result": "failed"}, times=1)
    command.fails(5, *generate)
    mock.set_generation(foreign=[{}])
    error = command.fails(5, *generate)
    assert mock.made()[-1] in error
    mock.set_generation(percent_per_list=0)
    error = command.fails(5, *generate, "--wait-timeout", "0.2")
    assert "--wait-timeout" in error
    assert "not ready" in error
    assert mock.made()[-1] in error
    assert f"dbss reports --instance {instance}" in error


@pytest.mark.parametrize("phase", ["creating", "waiting"])
def test_cancelled_generate_says_where_the_report_may_be(
    mock: MockService, command: Command, instance: str, phase: str
) -> None:
    def reached() -> bool:
        if phase == "creating":
            return bool(mock.requests("@reports.create"))
        return bool(mock.made()) and len(mock.requests("@reports.list")) > 1

    mock.set_generation(percent_per_list=0)
    if phase == "creating":
        mock.fault("@reports.create", no_answer=True, times=1)
    with command.start("generate", "--template", mock.templates[0]["id"], *TIME_RANGE) as process:
        wait_until(reached)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert f"dbss reports --instance {instance}" in err.decode()


# Delete.


def test_delete_needs_confirmation(mock: MockService, command: Command, instance: str) -> None:
    report, other, third = mock.add_reports(3, instance=instance)
    assert "--yes" in command.fails(2, "delete", "--report", report)
    # Confirmation needs a terminal.
    assert "--yes" in command.fails(2, "delete", "--report", report, stdin_data=b"y\n")
    assert mock.requests("@reports.delete") == []
    done = command.run("delete", "--report", report, "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"deleted {report}\n")
    command.fails(4, "delete", "--report", report, "--yes")
    assert command.prints("delete", "--report", other, "--yes", "--quiet") == ""
    [line] = json_lines(command.prints("delete", "--report", third, "--yes", "--json"))
    assert line == {"kind": "deleted", "id": third}
    assert command.prints("reports", "--quiet") == ""
    # It never uses the variable for downloads.
    assert "--report" in command.fails(2, "delete", "--yes", env={"DBSS_REPORT_ID": report})
    mock.fault("@reports.delete", json={"status": "FAILED"}, times=1)
    command.fails(5, "delete", "--report", report, "--yes")


@pytest.mark.parametrize(
    "head", ["-ytjeZgBBt8O6JSx", "-hytjeZgBBt8O6JS", "--ytjeZgBBt8O6JS", "-qqqqqqqqqqqqqqq"]
)
def test_delete_id_with_leading_hyphen_succeeds(
    mock: MockService, command: Command, instance: str, head: str
) -> None:
    for order in (["--report", "ID", "--yes", "-q"], ["-q", "--yes", "--report=ID"]):
        report = head + os.urandom(8).hex()
        mock.add_report(id=report, format="pdf", instance=instance)
        arguments = [word.replace("ID", report) for word in order]
        assert command.prints("delete", *arguments) == ""
        command.fails(4, "delete", *arguments)


@pytest.mark.parametrize(
    ("reply", "code"),
    [("y\n", 0), ("YES\n", 0), ("n\n", 130), ("\n", 130), ("\x04", 130), ("yea\n", 130)],
)
def test_delete_on_terminal_asks_first(
    mock: MockService, command: Command, instance: str, reply: str, code: int
) -> None:
    [report] = mock.add_reports(1, instance=instance)
    terminal = Terminal()
    try:
        with command.start(
            "delete", "--report", report, stdin=terminal.slave, stdout=None, stderr=terminal.slave
        ) as process:
            wait_until(lambda: b"[y/N] " in terminal.written)
            assert report.encode() in terminal.written
            assert mock.requests("@reports.delete") == []
            terminal.type(reply)
            assert process.wait(TIMEOUT) == code
    finally:
        terminal.close()
    assert len(mock.requests("@reports.delete")) == (1 if code == 0 else 0)


# All of them.

LISTS = ["instances", "reports", "templates", "databases"]
ALL_COMMANDS = {
    "instances": ["instances"],
    "reports": ["reports"],
    "templates": ["templates"],
    "databases": ["databases"],
    "schedule": ["schedule", "--template", ID],
    "generate": ["generate", "--template", ID, *TIME_RANGE],
    "delete": ["delete", "--report", ID, "--yes"],
}
SERVICE_CALLS = {
    "instances": "@instances",
    "reports": "@reports.list",
    "templates": "@templates",
    "databases": "@databases",
    "schedule": "@schedule.show",
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
    mock: MockService,
    command: Command,
    instance: str,
    name: str,
    code: int,
    fault: dict[str, Any],
) -> None:
    mock.fault(SERVICE_CALLS[name], **fault)
    command.fails(code, *ALL_COMMANDS[name], *NO_RETRY)


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_usage_errors_have_their_exit_codes(
    mock: MockService, command: Command, instance: str, name: str
) -> None:
    before = mock.connections()["total"]
    right = ALL_COMMANDS[name]
    command.fails(2, *right, "--no-such-option")
    command.fails(2, *right, "surplus")
    # An option of another subcommand.
    assert "--since" in command.fails(2, *right, "--since", "2026-01-01")
    command.fails(2, *right, "--project", "x")
    command.fails(2, *right, "--set", "no_such_key=1")
    command.fails(2, *right, env={"DBSS_ENDPOINT": "http://192.0.2.1"})
    command.fails(2, *right, f"--token={mock.token}")
    command.fails(7, *right, "--ca-file", "/no/such/file")
    assert mock.connections()["total"] == before
    command.fails(6, *right, *NO_RETRY, env={"DBSS_ENDPOINT": "http://127.0.0.1:1"})
    if name != "instances":
        assert "--instance" in command.fails(2, *right, env={"DBSS_INSTANCE_ID": ""})
        command.fails(2, *right, "--instance", "../" + ID)
    if name == "generate":
        for number in range(1, 7, 2):
            part = [*right[:number], *right[number + 2 :]]
            assert right[number] in command.fails(2, *part)
        command.fails(2, *right, "--poll-interval", "0")
        command.fails(2, *right, "--wait-timeout", "soon")
        assert "fr-fr" in command.fails(2, *right, "-o", "x", "--locale", "fr-fr")
        command.fails(2, *right, "--force")


@pytest.mark.parametrize("name", LISTS)
def test_verbose_prints_warnings(
    mock: MockService, command: Command, instance: str, name: str
) -> None:
    mock.fault(SERVICE_CALLS[name], status=503, body="", times=1)
    done = command.run(name, "--verbose")
    assert done.returncode == 0
    assert "503" in done.stderr
    assert all(line.startswith("dbss: ") for line in done.stderr.splitlines())


def test_signal_ends_waiting_command(mock: MockService, command: Command, instance: str) -> None:
    for name, arguments in ALL_COMMANDS.items():
        mock.clear_requests()
        mock.fault(SERVICE_CALLS[name], no_answer=True, times=1)
        with command.start(*arguments) as process:
            wait_until(lambda name=name: mock.requests(SERVICE_CALLS[name]))
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, b""), name
        assert re.match(rb"dbss: ", err)


def test_kind_of_the_service_does_not_replace_that_of_dbss(
    mock: MockService, command: Command, instance: str
) -> None:
    item = {"id": instance, "kind": "deleted", "name": "x"}
    mock.fault("@instances", json={"instances": [item], "total": 1}, times=1)
    line = command.prints("instances", "--json")
    assert line.startswith('{"kind":"instance"')
    assert "deleted" not in line


def test_long_name_is_shortened_on_a_terminal(
    mock: MockService, command: Command, instance: str
) -> None:
    item = {"id": instance, "name": "x" * 1_000_000}
    mock.fault("@instances", json={"instances": [item], "total": 1}, times=2)
    written = command.on_terminal("instances")
    assert "…" in written
    assert len(written) < 5000
    assert "x" * 1_000_000 in command.prints("instances")
