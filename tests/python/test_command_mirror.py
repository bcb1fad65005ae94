"""The command dbss: mirror."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from command import (
    CLOSED_STREAMS,
    CONTROL,
    HOSTILE,
    NO_RETRY,
    Command,
    command,
    final_screen,
    frames,
    instance,
    json_lines,
    sha256,
    wait_until,
    width,
)

if TYPE_CHECKING:
    from mock_service import MockService

# Imported fixtures; this file does not use the names directly.
__all__ = ["command", "instance"]


def summary(printed: str) -> dict[str, int]:
    return {name: int(count) for name, count in (line.split("\t") for line in printed.splitlines())}


def archive(command: Command) -> list[str]:
    return sorted(path.name for path in command.directory.glob("archive/*/*/*"))


def add(mock: MockService, instance: str, **report: Any) -> dict[str, Any]:
    return mock.add_report(**{"format": "pdf", "instance": instance, **report})


def test_mirror_second_run_downloads_nothing(
    mock: MockService, command: Command, instance: str
) -> None:
    made = [add(mock, instance, name=name) for name in ("one", HOSTILE, "../../three")]
    first = command.prints("mirror", "archive", "--success-file", "done")
    assert summary(first) == {
        **dict.fromkeys(["present", "not_ready", "vanished", "repaired", "failed"], 0),
        **dict.fromkeys(["listed", "downloaded"], 3),
    }
    assert command.files() == ["archive", "done"]
    hashes = {sha256(path) for path in command.directory.glob(f"archive/{instance}/*/*.pdf")}
    assert hashes == {report["sha256"]["en-us"] for report in made}
    assert not any(CONTROL.search(name) for name in archive(command))
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"],
        check=True,
        cwd=command.directory / "archive",
    )

    before = {report["id"]: len(mock.requests(report=report["id"])) for report in made}
    [again] = json_lines(command.prints("mirror", "archive", "--json"))
    assert (again["kind"], again["downloaded"], again["present"]) == ("mirror", 0, 3)
    assert (again["failed"], again["gaps"]) == (0, 0)
    assert before == {report: len(mock.requests(report=report)) for report in before}
    assert command.prints("mirror", "archive", "--quiet") == ""


def test_mirror_nothing_new_is_detected_on_request(
    mock: MockService, command: Command, instance: str
) -> None:
    add(mock, instance)
    detect = ("mirror", "archive", "--detect-nothing-new", "--quiet")
    assert command.run(*detect).returncode == 0
    assert command.run("mirror", "archive", "--quiet").returncode == 0
    done = command.run(*detect, "--success-file", "done")
    assert (done.returncode, done.stdout, done.stderr) == (10, "", "")
    # "Nothing new" is not a failure.
    assert json.loads((command.directory / "done").read_text())["present"] == 1
    # A repaired file counts as new.
    [file] = command.directory.glob("archive/*/*/*.pdf")
    file.write_bytes(b"%PDF-" + file.read_bytes()[:-5])
    assert command.run(*detect, "--verify").returncode == 0
    assert command.run(*detect, "--verify").returncode == 10


def test_mirror_filters_select_reports(mock: MockService, command: Command, instance: str) -> None:
    for day in range(1, 6):
        start = f"2026-03-{day:02} 00:00:00"
        add(mock, instance, name=f"day {day}", start_time=start, type="AUDIT_REPORT_DAY")
    add(mock, instance, name="special", type="AUDIT_REPORT_WEEK", template_type="SOX")
    for arguments, listed in (
        (("--since", "2026-03-02", "--until", "2026-03-03", "--type", "AUDIT_REPORT_DAY"), 2),
        (("--type", "AUDIT_REPORT_WEEK"), 1),
        (("--template-type", "SOX", "--parallel", "1"), 1),
        (("--name", "spec"), 1),
        (("--utc-offset", "+08:00"), 6),
    ):
        printed = command.prints("mirror", "archive", *arguments)
        assert summary(printed)["listed"] == listed, arguments
    command.prints("mirror", "archive", "--name", "spec", env={"DBSS_LOCALE": "zh-cn"})
    assert sum("zh-cn" in name for name in archive(command)) == 1
    assert len(archive(command)) == 7
    flags = ("--name", "spec", "--locale", "zh-cn", "--instance", instance)
    counts = summary(command.prints("mirror", "archive", *flags, env={"DBSS_INSTANCE_ID": ""}))
    assert (counts["listed"], counts["present"]) == (1, 1)
    # Without an instance it mirrors all of them.
    everything = summary(command.prints("mirror", "all", env={"DBSS_INSTANCE_ID": None}))
    assert everything["listed"] >= 6 + len(mock.reports[:2])


def test_mirror_gaps_are_printed(mock: MockService, command: Command, instance: str) -> None:
    for day in ("01", "04"):
        add(mock, instance, start_time=f"2026-03-{day} 00:00:00", type="AUDIT_REPORT_DAY")
    printed = command.prints("mirror", "archive", "--gaps", "--quiet")
    assert printed.splitlines() == [
        f"gap\t2026-03-{day}\tAUDIT_REPORT_DAY\t{instance}" for day in ("02", "03")
    ]
    assert "gap" not in command.prints("mirror", "archive")
    *gaps, result = json_lines(command.prints("mirror", "archive", "--json", "--gaps"))
    assert gaps == [
        {
            "kind": "gap",
            "instance": instance,
            "type": "AUDIT_REPORT_DAY",
            "period": f"2026-03-{day}",
        }
        for day in ("02", "03")
    ]
    assert result["gaps"] == 2
    [result] = json_lines(command.prints("mirror", "archive", "--json"))
    assert result["gaps"] == 2


def test_mirror_partial_failure_exits_with_11(
    mock: MockService, command: Command, instance: str
) -> None:
    good, bad = (add(mock, instance)["id"] for _ in range(2))
    mock.fault(bad, status=500, json={"error_code": "X.1", "error_msg": "no \x1b[31m luck"})
    done = command.run("mirror", "archive", "--success-file", "done", *NO_RETRY)
    assert done.returncode == 11
    assert summary(done.stdout)["failed"] == 1
    first, second = done.stderr.splitlines()
    assert re.match(r"dbss: 1 of 2 .*failed to download", first)
    assert second.startswith(f"dbss: {bad}: ")
    assert [name for name in archive(command) if good in name]
    # The file is only written by runs without a failure.
    assert command.files() == ["archive"]
    done = command.run("mirror", "archive", "--json", *NO_RETRY)
    failure, result, error = json_lines(done.stdout)
    assert (failure["kind"], failure["id"], failure["service_code"]) == ("failure", bad, "X.1")
    assert failure["instance"] == instance
    assert (failure["status"], failure["status_name"]) == (206, "DBSS_ERR_SERVER")
    assert (result["kind"], result["failed"]) == ("mirror", 1)
    assert (error["kind"], error["exit_code"]) == ("error", 11)
    assert error["status_name"] == "DBSS_ERR_PARTIAL"
    mock.clear_faults()
    assert summary(command.prints("mirror", "archive"))["downloaded"] == 1


def test_mirror_failed_list_of_instance_does_not_stop_others(
    mock: MockService, command: Command, instance: str
) -> None:
    add(mock, instance)
    mock.fault("@reports.list", status=500, times=1)
    done = command.run("mirror", "all", *NO_RETRY, env={"DBSS_INSTANCE_ID": None})
    assert done.returncode == 11
    # The oldest instance comes first; the others are mirrored.
    assert f"\ndbss: {mock.instance_id}: " in done.stderr
    assert list(command.directory.glob(f"all/{instance}/*/*.pdf"))


def test_success_file_is_replaced_atomically(
    mock: MockService, command: Command, instance: str
) -> None:
    add(mock, instance)
    mirror = ("mirror", "archive", "--quiet", "--success-file")
    umask = os.umask(0o022)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    try:
        command.prints(*mirror, "done")
    finally:
        os.umask(umask)
    done = command.directory / "done"
    assert stat.S_IMODE(done.stat().st_mode) == 0o644
    assert done.read_text().endswith("}\n")
    result = json.loads(done.read_text())
    assert datetime.fromisoformat(result.pop("time").replace("Z", "+00:00")) >= before
    assert result.pop("kind") == "mirror"
    assert {name: n for name, n in result.items() if n} == {"listed": 1, "downloaded": 1}
    first = done.stat().st_ino
    command.prints(*mirror, "done")
    assert done.stat().st_ino != first
    result = json.loads(done.read_text())
    assert (result["kind"], result["present"]) == ("mirror", 1)
    # If the file cannot be written, the run fails.
    error = command.fails(7, *mirror, "no-such-directory/done")
    assert "cannot write no-such-directory/done" in error
    # Only a regular file outside of the archive is replaced.
    other = command.directory / "other"
    other.write_text("mine")
    done.unlink()
    done.symlink_to("other")
    os.mkfifo(command.directory / "pipe")
    (command.directory / "directory").mkdir()
    mock.clear_requests()
    for path in ("done", "pipe", "directory", "/dev/null"):
        assert "is not a regular file" in command.fails(7, *mirror, path)
    for path in ("manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock", f"{instance}/new"):
        assert "inside the archive" in command.fails(7, *mirror, f"archive/{path}")
    assert mock.requests() == []
    assert (done.is_symlink(), other.read_text()) == (True, "mine")
    assert command.files() == ["archive", "directory", "done", "other", "pipe"]


def test_mirror_second_process_is_rejected(
    mock: MockService, command: Command, instance: str
) -> None:
    report = add(mock, instance)["id"]
    mock.fault(report, no_answer=True, times=1)
    with command.start("mirror", "archive", "--success-file", "done") as first:
        wait_until(lambda: mock.requests(report=report))
        assert "archive" in command.fails(12, "mirror", "archive", "--success-file", "done")
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=30)
    assert first.returncode == 130
    # The summary of an interrupted run.
    assert summary(out.decode())["listed"] == 1
    assert b"run the command again" in err
    assert command.files() == ["archive"]
    assert summary(command.prints("mirror", "archive"))["downloaded"] == 1


def test_mirror_failure_has_its_exit_code(
    mock: MockService, command: Command, instance: str
) -> None:
    good = add(mock, instance)["id"]
    more = ("--success-file", "done", *NO_RETRY)
    assert command.run("mirror", "archive", *more).returncode == 0
    before = (command.directory / "done").read_bytes()
    for code, arguments, env in (
        (3, (), {"DBSS_TOKEN": "wrong"}),
        (4, ("--instance", "0" * 36), {}),
        (6, (), {"DBSS_ENDPOINT": "http://127.0.0.1:1"}),
    ):
        done = command.run("mirror", "archive", *more, *arguments, env=env)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("dbss: ")
    mock.fault("@reports.list", status=500, times=1)
    done = command.run("mirror", "archive", "--json", *more)
    assert done.returncode == 5
    assert json_lines(done.stdout)[-1]["status_name"] == "DBSS_ERR_SERVER"
    # A failed run does not change the file of the last success.
    assert (command.directory / "done").read_bytes() == before
    assert archive(command) == [name for name in archive(command) if good in name]
    (command.directory / "file").write_text("mine")
    assert "file" in command.fails(7, "mirror", "file")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "<DIRECTORY>"),
        (["a", "b"], "unexpected argument 'b'"),
        (["a", "--parallel", "17"], "--parallel: "),
        (["a", "--since", "yesterday"], "--since: "),
        (["a", "--since", "2026-12-01", "--until", "2026-11-01"], "--until: "),
        # A name with a hyphen needs -- before it, or ./
        (["-archive"], "'-a'"),
        (["a", "--locale", "de-de"], "--locale: "),
        (["a", "--template-type", ""], "--template-type: "),
        (["a", "--no-such-option"], "no-such-option"),
        (["a", "--report", "x"], "--report"),
    ],
)
def test_wrong_usage_exits_with_2(
    mock: MockService, command: Command, arguments: list[str], why: str
) -> None:
    before = mock.connections()["total"]
    assert why in command.fails(2, "mirror", *arguments)
    assert mock.connections()["total"] == before


@pytest.mark.parametrize("closed", CLOSED_STREAMS)
def test_closed_standard_streams_keep_the_archive_clean(
    mock: MockService, command: Command, instance: str, closed: str
) -> None:
    report = add(mock, instance)["id"]
    mock.fault(report, reset_after=1000, times=1)
    wrap = ("/bin/sh", "-c", f'exec "$0" "$@" {closed}')
    if ">&-" in closed.replace("2>&-", ""):
        # Its summary cannot be printed.
        for more in ((), ("--json",), ("--gaps", "--quiet")):
            assert command.run("mirror", "archive", *more, wrap=wrap).returncode == 7
        assert command.files() == []
    # With --quiet nothing is printed.
    quiet = ("--quiet",) if ">&-" in closed else ()
    more = (*quiet, "--verbose", "--success-file", "done")
    assert command.run("mirror", "archive", *more, wrap=wrap).returncode == 0
    assert json.loads((command.directory / "done").read_text())["downloaded"] == 1
    for line in (command.directory / "archive/manifest.jsonl").read_text().splitlines():
        assert json.loads(line)["id"]
    assert summary(command.prints("mirror", "archive"))["present"] == 1


@pytest.mark.parametrize("columns", [10, 26, 40, 61, 80, 200])
def test_mirror_progress_fits_the_terminal(
    mock: MockService, command: Command, instance: str, columns: int
) -> None:
    for number in range(3):
        report = add(mock, instance, size=300_000, name=f"审计报告 {number}" * 4)
        mock.fault(report["id"], drip={"bytes": 30_000, "every_ms": 60}, times=1)
    written = command.on_terminal("mirror", "archive", "--parallel", "1", columns=columns)
    drawn = [frame for frame in frames(written) if " of 3" in frame]
    assert len(drawn) > 5
    assert all(width(frame) < columns for frame in drawn)
    assert any(frame.startswith("2 of 3") for frame in drawn)
    if columns >= 40:
        assert any("审" in frame for frame in drawn)
        assert any("ETA" in frame for frame in drawn)
    assert [line.split()[0] for line in final_screen(written)] == [
        *("listed", "downloaded", "present", "not_ready", "vanished", "failed", "repaired")
    ]


def test_systemd_service_command_works(
    mock: MockService, command: Command, instance: str, root: Path
) -> None:
    text = (root / "packaging/systemd/dbss-mirror.service").read_text()
    [line] = re.findall(r"^ExecStart=(.*)$", text.replace("\\\n", " "), re.MULTILINE)
    words = shlex.split(line)
    start = words.index("mirror")
    assert words[start - 1] == "/usr/bin/dbss"
    arguments = [word.replace("%S", str(command.directory)) for word in words[start:]]
    # systemd creates it.
    (command.directory / "dbss-mirror").mkdir()
    credentials = command.directory.parent / "credentials"
    credentials.write_text(f"[basic]\nak = {mock.access_key}\nsk = {mock.secret_key}\n")
    credentials.chmod(0o600)
    report = add(mock, instance)
    env = {"DBSS_TOKEN": None, "HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(credentials)}
    assert summary(command.prints(*arguments, env=env))["downloaded"] == 1
    made = command.directory / "dbss-mirror"
    assert sorted(os.listdir(made)) == ["reports", "success.json"]
    [file] = made.glob("reports/*/*/*.pdf")
    assert sha256(file) == report["sha256"]["en-us"]
