"""dbss-reports, the C program that lists, generates, deletes and mirrors reports."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import need_tool
from test_c import NO_RETRY, VALGRIND, DownloadProgram, environment, sha256, wait_until
from test_c_transfers import Terminal, visible_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mock_service import MockService

# Imported fixtures; this file does not use the names directly.
__all__ = ["environment"]

TIME_RANGE = ("--start", "2026-01-01 00:00:00", "--end", "2026-01-02 00:00:00")
FAST_POLL = ("--set", "poll_interval_ms=20")

# Terminal controls: C0, DEL, and C1 as UTF-8.
HOSTILE = (
    "\x1b]0;owned\x07 \x7f \x9b31m\r\nsecond line\t审计 "
    "\u202e \u061c \u2028 \xad \U000e0041 \ufeff é😀"
)
NO_CONTROLS = re.compile(
    r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u2028-\u202e\ufeff\U000e0000-\U000e0fff]*"
)


class ReportsProgram(DownloadProgram):
    """Runs dbss-reports with a new instance."""

    def __init__(self, program: Path, environment: dict[str, str], mock: MockService, cwd: Path):
        super().__init__(program, environment, mock, cwd)
        self.instance = mock.add_instance("mine")
        self.environment["DBSS_INSTANCE_ID"] = self.instance
        del self.environment["DBSS_REPORT_ID"]

    def succeeds(self, *arguments: str | Path, **options: Any) -> str:
        done = self(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        return done.stdout.decode()

    def fails(self, code: int, *arguments: str | Path, **options: Any) -> str:
        """Runs it, checks the exit code and that it prints only an error, and returns that."""
        done = self(*arguments, **options)
        err = done.stderr.decode()
        assert done.returncode == code, err
        assert done.stdout == b""
        assert err.startswith(("dbss-reports: ", "Try '", f"{self.program}: "))
        return err

    def add(self, mock: MockService, **report: Any) -> dict[str, Any]:
        return mock.add_report(**{"format": "pdf", "instance": self.instance, **report})

    def archive(self) -> list[str]:
        return sorted(path.name for path in self.cwd.glob(f"archive/{self.instance}/*/*"))


@pytest.fixture
def reports(
    build_dir: Path, environment: dict[str, str], mock: MockService, tmp_path: Path
) -> Iterator[ReportsProgram]:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    mock.clear_faults()
    mock.set_generation()
    running = ReportsProgram(build_dir / "bin/dbss-reports", environment, mock, cwd)
    yield running
    mock.clear_faults()
    mock.set_generation()
    mock.remove_instances([running.instance])


def columns(table: str) -> list[list[str]]:
    """The cells of a table, whose columns begin where their headings do."""
    heading, *rows = table.splitlines()
    starts = [found.start() for found in re.finditer(r"(?<!\S)\S+", heading)]
    ends = [*starts[1:], None]
    for row in rows:
        assert all(row[start - 2 : start] == "  " for start in starts[1:])
    return [
        [row[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        for row in [heading, *rows]
    ]


# Lists.


def test_instances_are_printed(reports: ReportsProgram, mock: MockService) -> None:
    heading, *rows = columns(reports.succeeds("instances"))
    assert heading == ["id", "status", "region", "version", "remain_days", "name"]
    assert [reports.instance, "ACTIVE", "cn-north-4", "25.10.0", "361", "mine"] in rows
    assert mock.instance_id in [row[0] for row in rows]
    # The command needs no instance.
    assert reports.succeeds("instances", env={"DBSS_INSTANCE_ID": None}) != ""
    [page] = reports.succeeds("instances", "--json").splitlines()
    listed = json.loads(page)
    assert listed["kind"] == "instances"
    assert listed["total"] == len(listed["items"]) == len(rows)
    # The fields that the table omits are there too.
    assert listed["items"][0]["port_id"]


def test_reports_are_printed(reports: ReportsProgram, mock: MockService) -> None:
    assert reports.succeeds("reports") == ""
    assert reports.succeeds("reports", "--json") == ""
    times = {"start_time": "2026-03-01 00:00:00", "end_time": "2026-03-02 00:00:00"}
    first = reports.add(mock, name="审计", type="AUDIT_REPORT_WEEK", **times)
    second = reports.add(mock, format="zip", name="another", percentum=7, omit=["start_time"])
    heading, *rows = columns(reports.succeeds("reports"))
    assert heading == ["id", "format", "percentum", "type", "start_time", "end_time", "name"]
    assert [row[0] for row in rows] == [second["id"], first["id"]]
    assert rows[1][1:] == ["pdf", "100", "AUDIT_REPORT_WEEK", *times.values(), "审计"]
    # A missing field keeps its place in the table.
    assert [rows[0][i] for i in (1, 2, 4, 6)] == ["zip", "7", "-", "another"]
    quiet = reports.succeeds("reports", "--quiet", "--name", "审")
    assert quiet.startswith(first["id"])
    assert quiet.count("\n") == 1
    instance = ("--instance", mock.instance_id)
    assert first["id"] not in reports.succeeds("reports", *instance)


def test_list_of_many_pages_is_complete(reports: ReportsProgram, mock: MockService) -> None:
    ids = mock.add_reports(230, instance=reports.instance, name="many")
    table = columns(reports.succeeds("reports"))
    assert [row[0] for row in table[1:]] == ids[::-1]
    pages = [json.loads(page) for page in reports.succeeds("reports", "--json").splitlines()]
    assert [len(page["items"]) for page in pages] == [100, 100, 30]
    assert [item["id"] for page in pages for item in page["items"]] == ids[::-1]


def test_templates_are_printed(reports: ReportsProgram, mock: MockService) -> None:
    heading, *rows = columns(reports.succeeds("templates"))
    assert heading == ["id", "type", "status", "name"]
    assert {(row[0], row[1], row[3]) for row in rows} == {
        (one["id"], one["type"], one["name"]) for one in mock.templates
    }
    assert json.loads(reports.succeeds("templates", "--json"))["kind"] == "templates"


def test_list_output_has_no_terminal_controls(reports: ReportsProgram, mock: MockService) -> None:
    hostile = {"type": HOSTILE, "start_time": HOSTILE, "extra": {HOSTILE: HOSTILE}}
    report = reports.add(mock, name=HOSTILE, **hostile)
    [_, row] = (table := reports.succeeds("reports")).splitlines()
    assert NO_CONTROLS.fullmatch(table)
    assert row.startswith(report["id"])
    [page] = (printed := reports.succeeds("reports", "--json")).splitlines()
    assert NO_CONTROLS.fullmatch(printed)
    [item] = json.loads(page)["items"]
    assert (item["name"], item[HOSTILE]) == (HOSTILE, HOSTILE)
    # Also when the service spreads the JSON over several lines.
    body = json.dumps({"reports": [{"report": item}], "total": 1}, indent=4, ensure_ascii=False)
    content = {"body": body, "headers": [["Content-Type", "application/json"]]}
    mock.fault("@reports.list", times=1, **content)
    printed = reports.succeeds("reports", "--json")
    assert NO_CONTROLS.fullmatch(printed)
    assert json.loads(printed)["items"] == [item]


def test_list_failing_midway_prints_no_partial_table(
    reports: ReportsProgram, mock: MockService
) -> None:
    mock.add_reports(150, instance=reports.instance)
    mock.fault("@reports.list", skip=1, times=1, status=500)
    # A table is printed at the end, JSON pages as they arrive.
    assert "HTTP 500" in reports.fails(5, "reports", *NO_RETRY)
    mock.fault("@reports.list", skip=1, times=1, status=500)
    done = reports("reports", "--json", *NO_RETRY)
    assert done.returncode == 5
    assert len(json.loads(done.stdout)["items"]) == 100


# Single reports.


def test_generate_prints_the_report_id(reports: ReportsProgram, mock: MockService) -> None:
    template = ("--template", mock.templates[2]["id"])
    printed = reports.succeeds("generate", *template, *TIME_RANGE, *FAST_POLL)
    [made] = mock.made()[-1:]
    assert printed == f"{made}\n"
    [sent] = mock.requests(report="@reports.create")[-1:]
    assert json.loads(sent["body"]) == {
        "template_id": mock.templates[2]["id"],
        "start_time": TIME_RANGE[1],
        "end_time": TIME_RANGE[3],
    }
    dates = ("--start-date", "2026-01-01", "--end-date", "2026-01-02", "--databases", "a,b")
    printed = reports.succeeds("generate", *template, *TIME_RANGE, *dates, *FAST_POLL, "--json")
    assert json.loads(printed) == {"id": mock.made()[-1]}
    body = json.loads(mock.requests(report="@reports.create")[-1]["body"])
    assert [body[name] for name in ("start_date", "end_date", "db_ids")] == list(dates[1::2])


@pytest.mark.parametrize("as_json", [False, True])
def test_generate_with_hostile_id_prints_no_terminal_controls(
    reports: ReportsProgram, mock: MockService, as_json: bool
) -> None:
    # The id comes from the service, and may be anything.
    hostile = 'x"\\ \x1b[31m\n\x9b\x7f'
    times = {"start_time": TIME_RANGE[1], "end_time": TIME_RANGE[3]}
    item = {"id": hostile, "name": "new", "percentum": 100, **times}
    mock.fault("@reports.list", skip=1, json={"reports": [{"report": item}], "total": 1})
    template = ("--template", mock.templates[0]["id"])
    form = ("--json",) if as_json else ()
    printed = reports.succeeds("generate", *template, *TIME_RANGE, *FAST_POLL, *form)
    assert NO_CONTROLS.fullmatch(printed)
    if as_json:
        assert json.loads(printed) == {"id": hostile}
    else:
        assert printed.count("\n") == 1


def test_signal_ends_waiting_command(reports: ReportsProgram, mock: MockService) -> None:
    template = ("--template", mock.templates[0]["id"])
    for call, command in (
        ("@reports.list", ["reports"]),
        ("@reports.create", ["generate", *template, *TIME_RANGE]),
        ("@reports.delete", ["delete", "0" * 32, "--yes"]),
    ):
        mock.clear_requests()
        mock.fault(call, no_answer=True, times=1)
        with subprocess.Popen(
            [str(reports.program), *command],
            cwd=reports.cwd,
            env=reports.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            try:
                wait_until(lambda call=call: mock.requests(report=call))
                running.send_signal(signal.SIGTERM)
                out, _ = running.communicate(timeout=30)
            finally:
                running.kill()
        assert (running.returncode, out) == (130, b""), call


def test_generate_failure_has_its_exit_code(reports: ReportsProgram, mock: MockService) -> None:
    template = ("--template", mock.templates[0]["id"])
    reports.fails(4, "generate", "--template", "0" * 32, *TIME_RANGE)
    mock.fault("@reports.create", json={"result": "failed"}, times=1)
    reports.fails(5, "generate", *template, *TIME_RANGE)
    mock.set_generation(percent_per_list=0)
    wait = (*FAST_POLL, "--set", "wait_timeout_ms=200")
    assert "wait_timeout_ms" in reports.fails(5, "generate", *template, *TIME_RANGE, *wait)


@pytest.mark.parametrize(
    "head", ["-ytjeZgBBt8O6JSx", "-hytjeZgBBt8O6JS", "--ytjeZgBBt8O6JS", "-qqqqqqqqqqqqqqq"]
)
@pytest.mark.parametrize(
    "order", [["ID", "--yes", "-q"], ["-q", "--yes", "ID"], ["-q", "--yes", "--", "ID"]]
)
def test_delete_id_with_leading_hyphen_succeeds(
    reports: ReportsProgram, mock: MockService, head: str, order: list[str]
) -> None:
    report = head + os.urandom(8).hex()
    mock.add_report(id=report, format="pdf", instance=reports.instance)
    arguments = [report if word == "ID" else word for word in order]
    reports.succeeds("delete", *arguments)
    reports.fails(4, "delete", *arguments)


def test_delete_needs_confirmation(reports: ReportsProgram, mock: MockService) -> None:
    ids = [reports.add(mock)["id"] for _ in range(3)]
    mock.clear_requests()
    assert "--yes" in reports.fails(2, "delete", ids[0])
    assert mock.requests(report="@reports.delete") == []
    done = reports("delete", ids[0], "--yes")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == f"deleted {ids[0]}\n"
    assert reports.succeeds("delete", "--yes", "-q", ids[1]) == ""
    assert json.loads(reports.succeeds("delete", ids[2], "--yes", "--json")) == {"deleted": ids[2]}
    assert reports.succeeds("reports") == ""
    reports.fails(4, "delete", ids[0], "--yes")


# The mirror.


def summary(printed: str) -> dict[str, int]:
    return {name: int(count) for name, count in (line.split() for line in printed.splitlines())}


def test_mirror_second_run_downloads_nothing(reports: ReportsProgram, mock: MockService) -> None:
    names = ["one", HOSTILE, "../../three"]
    made = [reports.add(mock, name=name) for name in names]
    first = reports.succeeds("mirror", "archive", "--success-file", "done")
    assert summary(first) == {
        **dict.fromkeys(["present", "not_ready", "vanished", "repaired", "failed"], 0),
        **dict.fromkeys(["listed", "downloaded"], 3),
    }
    assert reports.files() == ["archive", "done"]
    hashes = {sha256(path) for path in reports.cwd.glob(f"archive/{reports.instance}/*/*.pdf")}
    assert hashes == {report["sha256"]["en-us"] for report in made}
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"],
        check=True,
        cwd=reports.cwd / "archive",
    )
    assert all(NO_CONTROLS.fullmatch(name) for name in reports.archive())

    before = {report["id"]: len(mock.requests(report=report["id"])) for report in made}
    again = json.loads(reports.succeeds("mirror", "archive", "--json"))
    assert (again["downloaded"], again["present"]) == (0, 3)
    assert (again["failures"], again["gaps"]) == ([], [])
    assert before == {report: len(mock.requests(report=report)) for report in before}
    assert reports.succeeds("mirror", "archive", "--quiet") == ""


def test_mirror_nothing_new_is_detected_on_request(
    reports: ReportsProgram, mock: MockService
) -> None:
    reports.add(mock)
    detect = ("mirror", "archive", "--detect-nothing-new", "--quiet")
    assert reports(*detect).returncode == 0
    assert reports("mirror", "archive", "--quiet").returncode == 0
    done = reports(*detect, "--success-file", "done")
    assert (done.returncode, done.stdout, done.stderr) == (10, b"", b"")
    # "Nothing new" is not a failure.
    assert json.loads((reports.cwd / "done").read_text())["present"] == 1
    # A repaired file counts as new.
    [file] = reports.cwd.glob("archive/*/*/*.pdf")
    file.write_bytes(b"%PDF-" + file.read_bytes()[:-5])
    assert reports(*detect, "--verify").returncode == 0
    assert reports(*detect, "--verify").returncode == 10


def test_mirror_filters_select_reports(reports: ReportsProgram, mock: MockService) -> None:
    for day in range(1, 6):
        start = f"2026-03-{day:02} 00:00:00"
        reports.add(mock, name=f"day {day}", start_time=start, type="AUDIT_REPORT_DAY")
    reports.add(mock, name="special", type="AUDIT_REPORT_WEEK", template_type="SOX")
    for arguments, listed in (
        (("--since", "2026-03-02", "--until", "2026-03-03", "--type", "AUDIT_REPORT_DAY"), 2),
        (("--type", "AUDIT_REPORT_WEEK"), 1),
        (("--template", "SOX", "--parallel", "1"), 1),
        (("--name", "spec"), 1),
    ):
        printed = reports.succeeds("mirror", "archive", *arguments)
        assert summary(printed)["listed"] == listed, arguments
    reports.succeeds("mirror", "archive", "--name", "spec", env={"DBSS_LOCALE": "zh-cn"})
    assert len(reports.archive()) == 4
    assert sum("zh-cn" in name for name in reports.archive()) == 1
    # Without an instance it mirrors all of them.
    everything = summary(reports.succeeds("mirror", "all", env={"DBSS_INSTANCE_ID": None}))
    assert everything["listed"] >= 6 + len(mock.reports[:2])


def test_mirror_gaps_are_printed(reports: ReportsProgram, mock: MockService) -> None:
    for day in ("01", "04"):
        start = f"2026-03-{day} 00:00:00"
        reports.add(mock, start_time=start, type="AUDIT_REPORT_DAY")
    printed = reports.succeeds("mirror", "archive", "--gaps", "--quiet")
    assert printed.splitlines() == [
        f"gap  2026-03-{day}  AUDIT_REPORT_DAY  {reports.instance}" for day in ("02", "03")
    ]
    assert "gap" not in reports.succeeds("mirror", "archive")
    listed = json.loads(reports.succeeds("mirror", "archive", "--json"))["gaps"]
    assert [gap["period"] for gap in listed] == ["2026-03-02", "2026-03-03"]


def test_mirror_partial_failure_exits_with_11(reports: ReportsProgram, mock: MockService) -> None:
    good, bad = (reports.add(mock)["id"] for _ in range(2))
    message = "no \x1b[31m luck"
    mock.fault(bad, status=500, json={"error_code": "X.1", "error_msg": message})
    done = reports("mirror", "archive", "--success-file", "done", *NO_RETRY)
    assert done.returncode == 11
    assert summary(done.stdout.decode())["failed"] == 1
    err = done.stderr.decode()
    assert NO_CONTROLS.fullmatch(err)
    assert f"\ndbss-reports: {bad}: " in err
    assert [name for name in reports.archive() if good in name]
    # The file is only written by runs without a failure.
    assert reports.files() == ["archive"]
    result = json.loads(reports("mirror", "archive", "--json", *NO_RETRY).stdout)
    assert [failure["id"] for failure in result["failures"]] == [bad]
    mock.clear_faults()
    assert summary(reports.succeeds("mirror", "archive"))["downloaded"] == 1


def test_mirror_failed_list_of_instance_does_not_stop_others(
    reports: ReportsProgram, mock: MockService
) -> None:
    reports.add(mock)
    mock.fault("@reports.list", status=500, times=1)
    done = reports("mirror", "all", *NO_RETRY, env={"DBSS_INSTANCE_ID": None})
    assert done.returncode == 11
    # The oldest instance comes first; the others are mirrored.
    assert f"\ndbss-reports: {mock.instance_id}: " in done.stderr.decode()
    assert list(reports.cwd.glob(f"all/{reports.instance}/*/*.pdf"))


def test_success_file_is_replaced_atomically(reports: ReportsProgram, mock: MockService) -> None:
    reports.add(mock)
    mirror = ("mirror", "archive", "--quiet", "--success-file")
    umask = os.umask(0o022)
    try:
        reports.succeeds(*mirror, "done")
    finally:
        os.umask(umask)
    done = reports.cwd / "done"
    assert stat.S_IMODE(done.stat().st_mode) == 0o644
    assert done.read_text().endswith("}\n")
    first = done.stat().st_ino
    reports.succeeds(*mirror, "done")
    assert done.stat().st_ino != first
    assert json.loads(done.read_text())["present"] == 1
    # A link is replaced, and its target is unchanged.
    other = reports.cwd / "other"
    other.write_text("mine")
    done.unlink()
    done.symlink_to("other")
    reports.succeeds(*mirror, "done")
    assert (done.is_symlink(), other.read_text()) == (False, "mine")
    # If the file cannot be written, the run fails.
    reports.fails(7, *mirror, "no-such-directory/done")
    (reports.cwd / "directory").mkdir()
    reports.fails(7, *mirror, "directory")
    assert reports.files() == ["archive", "directory", "done", "other"]


def test_mirror_second_process_is_rejected(reports: ReportsProgram, mock: MockService) -> None:
    report = reports.add(mock)["id"]
    mock.fault(report, no_answer=True, times=1)
    arguments = [str(reports.program), "mirror", "archive", "--success-file", "done"]
    with subprocess.Popen(
        arguments, cwd=reports.cwd, env=reports.environment, stdout=subprocess.PIPE
    ) as first:
        try:
            wait_until(lambda: mock.requests(report=report))
            assert "archive" in reports.fails(12, "mirror", "archive", "--success-file", "done")
            first.send_signal(signal.SIGINT)
            out, _ = first.communicate(timeout=30)
        finally:
            first.kill()
    assert first.returncode == 130
    # The summary of an interrupted run.
    assert summary(out.decode())["listed"] == 1
    assert reports.files() == ["archive"]
    assert summary(reports.succeeds("mirror", "archive"))["downloaded"] == 1


def test_mirror_progress_is_shown_on_terminal(reports: ReportsProgram, mock: MockService) -> None:
    for _ in range(2):
        report = reports.add(mock, size=600_000)
        mock.fault(report["id"], drip={"bytes": 50_000, "every_ms": 60}, times=1)
    terminal = Terminal()
    try:
        done = reports("mirror", "archive", stderr=terminal.slave)
    finally:
        written = terminal.close()
    assert done.returncode == 0
    frames = [frame.rstrip() for frame in written.split("\r") if "iB/s" in frame]
    assert len(frames) >= 2
    for frame in frames:
        assert re.fullmatch(r"( *\d+%, )?[\d.]+ [KM]?i?B, [\d.]+ [KM]?i?B/s", frame), frame
    assert visible_text(written) == ""


# The command line.


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "a command is required"),
        (["list"], "there is no command 'list'"),
        (["reports", "more"], "unexpected argument 'more'"),
        (["instances", "--name", "x"], "--name is no option of instances"),
        (["delete", "x", "--yes", "--since", "2026-01-01"], "--since is no option of delete"),
        (["delete", "--yes"], "delete needs a REPORT"),
        (["mirror"], "mirror needs a DIRECTORY"),
        (["mirror", "a", "b"], "unexpected argument 'b'"),
        (["generate", "--start", "x", "--end", "y"], "generate needs --template"),
        (["mirror", "a", "--parallel", "17"], "parallel: "),
        (["mirror", "a", "--since", "yesterday"], "since: "),
        (["mirror", "a", "--locale", "de-de"], "locale: "),
        (["mirror", "a", "--no-such-option"], "no-such-option"),
        (["reports", "--instance", "a/b"], "instance: "),
        (["instances", "--set", "colour=red"], "colour"),
        (["instances", "--set", "colour"], "must be KEY=VALUE"),
    ],
)
def test_wrong_usage_exits_with_2(
    reports: ReportsProgram, mock: MockService, arguments: list[str], why: str
) -> None:
    before = len(mock.requests())
    assert why in reports.fails(2, *arguments)
    assert len(mock.requests()) == before
    assert reports.files() == []


def test_command_without_instance_names_the_option(reports: ReportsProgram) -> None:
    template = ("--template", "0" * 32, *TIME_RANGE)
    for command in (["reports"], ["templates"], ["generate", *template], ["delete", "x", "--yes"]):
        assert "--instance" in reports.fails(2, *command, env={"DBSS_INSTANCE_ID": None})


def test_secret_on_command_line_is_rejected(reports: ReportsProgram, mock: MockService) -> None:
    secrets = ("token", "secret_key", "security_token", "iam_password", "proxy")
    for secret in (
        ["--token", mock.token],
        [f"--token={mock.token}"],
        *(["--set", f"{key}={mock.token}"] for key in secrets),
    ):
        assert "everybody on this machine" in reports.fails(2, "instances", *secret)
    assert not any(f"  {key} (" in reports.succeeds("--help") for key in secrets)


def test_credentials_come_from_file_pipe_or_environment(
    reports: ReportsProgram, mock: MockService
) -> None:
    (reports.cwd / "token").write_text(f"{mock.token}\n")
    no_token = {"DBSS_TOKEN": "wrong"}
    reports.succeeds("instances", "--token-file", "token", env=no_token)
    reports.fails(3, "instances", env=no_token)
    read_end, write_end = os.pipe()
    os.write(write_end, mock.token.encode())
    os.close(write_end)
    try:
        reports.succeeds("instances", "--token-file", "-", env=no_token, stdin=read_end)
    finally:
        os.close(read_end)
    keys = {
        "DBSS_TOKEN": None,
        "HUAWEICLOUD_SDK_AK": mock.access_key,
        "HUAWEICLOUD_SDK_SK": mock.secret_key,
    }
    reports.succeeds("instances", env=keys)
    # The test never uses the metadata service of the real machine.
    nowhere = ("--set", "metadata_endpoint=http://127.0.0.1:1", *NO_RETRY)
    done = reports("instances", *nowhere, env={"DBSS_TOKEN": None})
    assert done.returncode == 2


def test_connection_options_are_applied(reports: ReportsProgram, mock: MockService) -> None:
    project = ("--project", mock.project_id, "--instance", reports.instance)
    where = ("--region", "cn-north-4", "--endpoint", mock.https, "--ca-file", mock.ca_file)
    wrong = dict.fromkeys(("DBSS_PROJECT_ID", "DBSS_INSTANCE_ID", "DBSS_ENDPOINT"), "x")
    reports.succeeds("reports", *project, *where, env=wrong)
    reports.fails(6, "instances", "--endpoint", "http://127.0.0.1:1", *NO_RETRY)
    done = reports("instances", "--verbose")
    assert done.returncode == 0
    assert done.stderr.startswith(b"dbss-reports: ")
    with Path("/dev/full").open("wb") as full:
        for command in (["instances"], ["templates", "--json"], ["mirror", "archive"]):
            done = reports(*command, stdout=full)
            assert done.returncode == 7
            assert b"No space left" in done.stderr


def test_help_and_version_fit_the_terminal(reports: ReportsProgram) -> None:
    text = reports.succeeds("--help")
    assert all(len(line) < 80 for line in text.splitlines())
    for word in ("instances", "--detect-nothing-new", "wait_timeout_ms", "  11  "):
        assert word in text
    assert reports.succeeds("mirror", "-h") == text
    assert re.fullmatch(
        r"dbss-reports (\d+\.\d+\.\d+) \(libdbss \1\)\n", reports.succeeds("--version")
    )


def test_readme_lists_all_exit_codes(reports: ReportsProgram, root: Path) -> None:
    readme = (root / "bindings/c/README.md").read_text()
    _, text = reports.succeeds("--help").split("Exit codes:\n")
    codes = re.findall(r"^ {2,4}(\d+)  ", text, re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "5", "6", "7", "10", "11", "12", "130"]
    for code in codes:
        assert f"| {code} | " in readme


def test_commands_under_valgrind_have_no_error(reports: ReportsProgram, mock: MockService) -> None:
    need_tool("valgrind")
    report = reports.add(mock, name=HOSTILE)["id"]
    template = ("--template", mock.templates[0]["id"])
    mock.fault(report, skip=1, times=1, status=500)
    for code, *command in (
        (0, "instances"),
        (0, "reports", "--json"),
        (0, "generate", *template, *TIME_RANGE, *FAST_POLL),
        (0, "mirror", "archive", "--gaps", "--success-file", "done"),
        (11, "mirror", "other", *NO_RETRY),
        (0, "delete", report, "--yes"),
        (2, "delete", report),
    ):
        done = reports(*command, wrap=VALGRIND)
        assert done.returncode == code, (command, done.stderr)
