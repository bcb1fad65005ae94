"""The command dbss on a terminal: progress, tables, help."""

import re
import time

import pytest

from command import FAST_POLL, NO_RETRY, TIME_RANGE, final_screen, frames, width
from support import MIB, sha256

COLUMNS = [10, 27, 40, 66, 80, 200]


@pytest.fixture
def slow_report(mock, command):
    report = mock.add_report(format="bytes", size=MIB)["id"]
    mock.fault(report, drip={"bytes": 20_000, "every_ms": 60})
    return report


@pytest.mark.parametrize("columns", COLUMNS)
def test_download_progress_fits_the_terminal(command, slow_report, columns):
    written = command.on_terminal("download", "--report", slow_report, columns=columns)
    drawn = [frame for frame in frames(written) if "%" in frame]
    assert len(drawn) > 3
    assert all(width(frame) < columns for frame in drawn)
    if columns >= 40:
        assert all("ETA" in frame for frame in drawn)
        assert all("B/s" in frame for frame in drawn)
    if columns >= 80:
        assert any("/1.00 MiB" in frame for frame in drawn)
    # The bar is gone in the end.
    assert final_screen(written) == [f"saved audit-report.bin ({MIB} bytes)"]


@pytest.mark.parametrize("columns", COLUMNS)
def test_progress_without_known_size_fits_the_terminal(mock, command, columns):
    report = mock.add_report(format="bytes", size=MIB)["id"]
    mock.fault(report, framing="chunked", drip={"bytes": 20_000, "every_ms": 60})
    written = command.on_terminal("download", "--report", report, columns=columns)
    drawn = [frame for frame in frames(written) if "saved" not in frame]
    assert all(width(frame) < columns for frame in drawn)
    assert "%" not in written
    assert columns < 40 or any("B/s" in frame for frame in drawn)


@pytest.mark.parametrize("columns", COLUMNS)
def test_generation_progress_fits_the_terminal(mock, command, own_instance, columns):
    mock.set("generation", percent_per_list=25)
    template = ("--template", mock.templates[0]["id"])
    arguments = ("generate", *template, *TIME_RANGE, "--poll-interval", "0.15")
    written = command.on_terminal(*arguments, columns=columns)
    drawn = [frame for frame in frames(written) if "%" in frame]
    assert drawn
    assert all(width(frame) < columns for frame in drawn)
    assert final_screen(written) == [mock.made()[-1]]


@pytest.mark.parametrize("columns", COLUMNS)
def test_mirror_progress_fits_the_terminal(mock, command, own_instance, columns):
    for i in range(6):
        name = f"审计 report {i}"
        report = mock.add_report(size=30_000, instance=own_instance, name=name)
        mock.fault(report["id"], drip={"bytes": 2500, "every_ms": 60})
    written = command.on_terminal("mirror", "archive", "--parallel", "1", columns=columns)
    drawn = [frame for frame in frames(written) if " of 6" in frame]
    assert len(drawn) > 6
    assert all(width(frame) < columns for frame in drawn)
    counts = [int(frame.split(" of ")[0]) for frame in drawn]
    assert counts == sorted(counts)
    assert set(range(1, 6)) <= set(counts)
    # Before the first report has come, nobody knows how long the others take.
    assert not any("ETA" in frame for frame in drawn if frame.startswith("0 of"))
    if columns >= 40:
        assert all("ETA" in frame for frame in drawn if not frame.startswith("0 of"))
        assert all("B/s" in frame and "审计" in frame for frame in drawn)
    # Nothing scrolls, and the bar is gone in the end.
    assert final_screen(written)[:2] == ["listed      6", "downloaded  6"]


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(["--quiet"], {}), (["-q"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})],
)
def test_nothing_is_drawn_where_that_is_asked_for(command, slow_report, arguments, env):
    written = command.on_terminal("download", "--report", slow_report, *arguments, env=env)
    saved = f"saved audit-report.bin ({MIB} bytes)\n"
    assert written == ("" if arguments else saved)
    # A failure is always printed.
    written = command.on_terminal(
        "download", "--report", slow_report, *arguments, env=env, code=7, columns=300
    )
    assert written.startswith("dbss: ")


def test_nothing_is_drawn_without_a_terminal(command, slow_report):
    done = command.run("download", "--report", slow_report)
    assert done.stderr == f"saved audit-report.bin ({MIB} bytes)\n"


def test_progress_grows_and_uses_one_line(command, slow_report):
    written = command.on_terminal("download", "--report", slow_report)
    percents = [int(frame.split("%")[0]) for frame in frames(written) if "%" in frame]
    assert percents == sorted(percents)
    assert 0 < percents[-1] <= 100
    # Nothing scrolls.
    assert written.count("\n") == 1


def test_progress_is_drawn_at_most_ten_times_a_second(mock, command):
    report = mock.add_report(format="bytes", size=MIB)["id"]
    mock.fault(report, drip={"bytes": 5000, "every_ms": 5})
    start = time.monotonic()
    written = command.on_terminal("download", "--report", report)
    elapsed = time.monotonic() - start
    drawn = [frame for frame in frames(written) if "%" in frame]
    # It may begin with a few more.
    assert 2 <= len(drawn) <= elapsed * 10 + 22


def test_attempts_and_warnings_are_shown_with_the_progress(mock, command):
    report = mock.add_report(format="pdf", size=4_000_000)
    mock.fault(report["id"], cut_after=2_000_000, times=1)
    mock.fault(report["id"], drip={"bytes": 200_000, "every_ms": 60}, times=1)
    written = command.on_terminal("download", "--report", report["id"], "-o", "x", "--verbose")
    drawn = [frame for frame in frames(written) if "attempt 2" in frame and "%" in frame]
    assert drawn
    percents = [int(frame.split("%")[0]) for frame in drawn]
    assert percents == sorted(percents)
    # Messages are on lines of their own, and nothing is left of the bar.
    *lines, saved = final_screen(written)
    assert saved == "saved x (4000000 bytes, 2 attempts)"
    text = "".join(lines)
    assert text.startswith("dbss: ")
    assert "dbss: warning: " in text
    assert "%" not in text
    assert sha256(command.directory / "x") == report["sha256"]["en-us"]


def test_progress_is_erased_before_an_error(mock, command):
    slow_end = {"drip": {"bytes": 100, "every_ms": 60}, "cut_after": 4000, "times": 1}
    mock.fault(command.report, **slow_end)
    arguments = ("download", "--report", command.report, *NO_RETRY)
    written = command.on_terminal(*arguments, columns=300, code=6)
    assert "B/s" in written
    [line] = final_screen(written)
    assert line.startswith("dbss: ")
    assert command.files() == []


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_table_fits_the_terminal(mock, command, own_instance, columns):
    times = {"start_time": "2026-03-01 00:00:00", "end_time": "2026-03-02 00:00:00"}
    names = ["short", "审计报告 of a very long name, which goes on and on", "-"]
    ids = [
        mock.add_report(
            format="pdf", instance=own_instance, name=name, type="AUDIT_REPORT_REAL_TIME", **times
        )["id"]
        for name in names
    ]
    # Not those of other tests, whose ids may be wider than the terminal.
    one = {
        "id": own_instance,
        "name": "a long name " * 9,
        "status": "ACTIVE",
        "region": "cn-north-4",
    }
    mock.fault("@instances", json={"instances": [one], "total": 1})
    for arguments in (["reports"], ["instances"], ["templates"]):
        written = command.on_terminal(*arguments, columns=columns)
        lines = written.splitlines()
        assert all(width(line) <= columns for line in lines), written
        assert not re.search(r" $", written, re.MULTILINE)
    written = command.on_terminal("reports", columns=columns)
    # An id is never cut.
    assert all(one in written for one in ids)
    if columns == 200:
        heading, first, *_ = written.splitlines()
        assert heading.split() == [*("ID", "%", "FORMAT", "TYPE", "START_TIME", "END_TIME", "NAME")]
        assert re.split(r"  +", first) == [
            ids[-1],
            *("100", "pdf", "AUDIT_REPORT_REAL_TIME", *times.values(), "-"),
        ]
    quiet = command.on_terminal("reports", "--quiet", columns=200)
    assert quiet.startswith(ids[-1])


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_fits_the_terminal(command, columns):
    for arguments in (["-h"], ["download", "-h"], ["mirror", "-h"]):
        written = command.on_terminal(*arguments, columns=columns)
        assert all(width(line) <= max(columns, 60) for line in written.splitlines())


def test_generate_to_a_file_draws_both_bars(mock, command, own_instance):
    mock.set("generation", percent_per_list=50, size=6000)
    template = ("--template", mock.templates[0]["id"])
    written = command.on_terminal("generate", *template, *TIME_RANGE, *FAST_POLL, "-o", "x.pdf")
    assert final_screen(written) == [mock.made()[-1], "saved x.pdf (6000 bytes)"]
