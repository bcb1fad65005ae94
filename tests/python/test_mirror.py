"""Local archives: Client.mirror() and ``python -m dbss mirror``."""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import multiprocessing
import os
import random
import re
import resource
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest
from dbss import cli

from mock_service import MockService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB = 1024
MIB = 1024 * 1024
# No wait here comes near; it only bounds what would hang.
BOUND = 60.0
# How often a mirror is killed; for longer searches.
KILLS = int(os.environ.get("DBSS_TEST_KILLS") or 6)
OWN_FILES = {"manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock"}


@pytest.fixture(scope="module")
def service(build_dir: Path) -> Iterator[MockService]:
    """A mock service of this file alone, whose request log may be emptied."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


@dataclass
class Archive:
    """A directory to mirror to, and the one instance that it is of."""

    mock: MockService
    client: dbss.Client
    directory: Path
    instance: str = field(init=False)

    def __post_init__(self) -> None:
        self.instance = self.mock.add_instance()

    def add(self, **report: Any) -> str:
        given = {"format": "pdf", "instance": self.instance, **report}
        return self.mock.add_report(**given)["id"]

    def add_many(self, count: int, **reports: Any) -> list[str]:
        given = {"instance": self.instance, **reports}
        return self.mock.add_reports(count, **given)

    def mirror(self, **more: Any) -> dbss.MirrorResult:
        given = {"project_id": self.mock.project_id, "instance_id": self.instance, **more}
        return self.client.mirror(self.directory, **given)

    def fails(self, kind: type[dbss.Error], **more: Any) -> Any:
        """The exception, of exactly this class."""
        with pytest.raises(kind) as caught:
            self.mirror(**more)
        assert caught.type is kind
        return caught.value

    def requested(self) -> Counter[str]:
        """How many downloads were asked for, by report; forgets them."""
        found = Counter(
            one["report"]
            for one in self.mock.requests()
            if one["report"] and not one["report"].startswith("@")
        )
        self.mock.clear_requests()
        return found

    def expected(self, report: str, locale: str | None = None) -> bytes:
        return self.client.download_report(self.mock.project_id, self.instance, report, locale)

    def files(self) -> list[str]:
        """All files but the archive's own, by their paths in it."""
        found = (one for one in self.directory.rglob("*") if not one.is_dir() or one.is_symlink())
        names = {str(one.relative_to(self.directory)) for one in found}
        return sorted(names - OWN_FILES)

    def lines(self) -> list[dict[str, Any]]:
        text = (self.directory / "manifest.jsonl").read_text()
        assert text == "" or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def records(self) -> dict[tuple[str, str | None], dict[str, Any]]:
        return {(one["id"], one["locale"]): one for one in self.lines()}

    def path(self, report: str, locale: str | None = None) -> Path:
        return self.directory / self.records()[report, locale]["path"]

    def check(self, reports: list[str], locale: str | None = None, contents: bool = True) -> None:
        """The archive has exactly these reports, each of them right, and says so."""
        records = self.records()
        assert set(records) == {(report, locale) for report in reports}
        assert self.files() == sorted(one["path"] for one in records.values())
        for (report, _), record in records.items():
            data = (self.directory / record["path"]).read_bytes()
            assert record["instance"] == self.instance
            assert record["size"] == len(data)
            assert record["sha256"] == sha256(data)
            if contents:
                assert data == self.expected(report, locale)
        self.check_sums(len(reports))

    def check_sums(self, count: int) -> None:
        done = subprocess.run(
            ["sha256sum", "--strict", "-c", "SHA256SUMS"],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=BOUND,
            env={**os.environ, "LC_ALL": "C"},
        )
        if count == 0:
            # It takes no file without lines.
            assert (self.directory / "SHA256SUMS").read_bytes() == b""
            return
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(re.findall(r": OK$", done.stdout, re.MULTILINE)) == count


@pytest.fixture
def archive(service: MockService, tmp_path: Path) -> Iterator[Archive]:
    with dbss.Client(endpoint=service.http, token=service.token, max_attempts=1) as client:
        service.clear_requests()
        yield Archive(service, client, tmp_path / "archive")
    service.clear_faults()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + BOUND
    while not true():
        assert time.monotonic() < until
        time.sleep(0.002)


def counts(result: dbss.MirrorResult) -> dict[str, int]:
    """Those that are not 0."""
    names = ("listed", "downloaded", "present", "not_ready", "vanished", "failed", "repaired")
    return {name: getattr(result, name) for name in names if getattr(result, name)}


def tree(directory: Path) -> dict[str, bytes | None]:
    return {
        str(one.relative_to(directory)): one.read_bytes() if one.is_file() else None
        for one in directory.rglob("*")
    }


# What a run brings.


def test_a_run_brings_all_reports_and_the_next_one_none(archive: Archive) -> None:
    times = {"start_time": "2026-03-04 00:00:00", "end_time": "2026-03-04 23:59:59"}
    pdf = archive.add(name="daily", type="AUDIT_REPORT_DAY", **times)
    zipped = archive.add(name="monthly", format="zip", type="AUDIT_REPORT_MONTH", **times)
    many = archive.add_many(40)
    reports = [pdf, zipped, *many]
    seen: list[dbss.Progress] = []
    with dbss.Operation() as operation:
        result = archive.mirror(progress=seen.append, operation=operation)
        whole = sum(one["size"] for one in archive.lines())
        assert operation.received == whole
        assert operation.percent == 100
    assert counts(result) == {"listed": 42, "downloaded": 42}
    assert result.failures == ()
    assert archive.requested() == Counter(reports)
    archive.check(reports)
    received = [one.received for one in seen]
    assert received == sorted(received)
    assert received[-1] == whole
    assert seen[-1].percent == 100

    record = archive.records()[pdf, None]
    assert {name: record[name] for name in ("id", "name", "format", "type", *times)} == {
        **times,
        "id": pdf,
        "name": "daily",
        "format": "pdf",
        "type": "AUDIT_REPORT_DAY",
    }
    assert record["path"] == f"{archive.instance}/2026/daily_{pdf}.pdf"
    assert (
        archive.records()[zipped, None]["path"] == f"{archive.instance}/2026/monthly_{zipped}.zip"
    )
    archive.requested()
    archive.directory.joinpath("SHA256SUMS").unlink()
    before = tree(archive.directory)

    result = archive.mirror()
    assert counts(result) == {"listed": 42, "present": 42}
    assert archive.requested() == Counter()
    after = tree(archive.directory)
    assert set(after) - set(before) == {"SHA256SUMS"}
    assert before.items() <= after.items()

    new = archive.add()
    assert counts(archive.mirror()) == {"listed": 43, "downloaded": 1, "present": 42}
    assert archive.requested() == Counter([new])
    archive.check([*reports, new])


def test_a_line_of_the_manifest_says_of_which_answer_a_report_is(archive: Archive) -> None:
    report = archive.add()
    identity = "0123456789abcdef0123456789abcdef"
    archive.mock.fault(report, headers=[["X-Request-Id", identity]])
    archive.mirror()
    record = archive.records()[report, None]
    assert record["request_id"] == identity
    date = datetime.datetime.strptime(record["date"], "%a, %d %b %Y %H:%M:%S GMT")
    assert abs(date - datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)) < (
        datetime.timedelta(minutes=5)
    )


def test_files_are_for_their_owner_alone(archive: Archive) -> None:
    archive.add()
    archive.mirror()
    for one in [archive.directory, *archive.directory.rglob("*")]:
        assert one.stat().st_mode & 0o077 == 0, one
    with dbss.Operation(file_mode=0o640) as operation:
        report = archive.add()
        archive.mirror(operation=operation)
    assert archive.path(report).stat().st_mode & 0o777 == 0o640


def test_an_empty_instance_makes_an_empty_archive(archive: Archive) -> None:
    assert archive.mirror() == dbss.MirrorResult()
    assert archive.files() == []
    archive.check([])


def test_all_instances_are_mirrored_without_a_word(build_dir: Path, tmp_path: Path) -> None:
    with MockService(build_dir / "bin/dbss-mock") as mock:
        others = mock.add_instances(3)
        for other in others[:2]:
            mock.add_reports(3, instance=other)
        with dbss.Client(
            endpoint=mock.http, token=mock.token, project_id=mock.project_id
        ) as client:
            result = client.mirror(tmp_path)
        assert counts(result) == {"listed": 8, "downloaded": 8}
        directories = {one.name for one in tmp_path.iterdir() if one.is_dir()}
        assert directories == {mock.instance_id, *others[:2]}


def test_an_instance_that_goes_meanwhile_does_not_stop_the_others(
    build_dir: Path, tmp_path: Path
) -> None:
    with MockService(build_dir / "bin/dbss-mock") as mock:
        gone, other = mock.add_instances(2)
        mock.add_reports(3, instance=other)
        mock.delete_after(1, [gone])
        with dbss.Client(
            endpoint=mock.http, token=mock.token, project_id=mock.project_id
        ) as client:
            result = client.mirror(tmp_path)
        assert counts(result) == {"listed": 5, "downloaded": 5}


def test_an_instance_without_a_list_does_not_stop_the_others(
    build_dir: Path, tmp_path: Path
) -> None:
    with MockService(build_dir / "bin/dbss-mock") as mock:
        mock.fault("@reports.list", status=500, times=1)
        mock.add_reports(3, instance=mock.add_instance())
        with (
            dbss.Client(
                endpoint=mock.http,
                token=mock.token,
                project_id=mock.project_id,
                max_attempts=1,
            ) as client,
            pytest.raises(dbss.PartialError) as caught,
        ):
            client.mirror(tmp_path)
        assert counts(caught.value.result) == {"listed": 3, "downloaded": 3, "failed": 1}
        [failure] = caught.value.result.failures
        assert (failure.instance_id, failure.report_id) == (mock.instance_id, None)
        assert type(failure.error) is dbss.ServerError


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, "abcdef"),
        ({"since": "2026-02-01"}, "bcdef"),
        ({"since": datetime.date(2026, 2, 1)}, "bcdef"),
        ({"until": datetime.date(2026, 2, 1)}, "abef"),
        ({"since": "2026-02-01", "until": "2026-02-28"}, "bef"),
        ({"type": "AUDIT_REPORT_DAY"}, "ab"),
        ({"type": "AUDIT_REPORT"}, ""),
        ({"template": "SOX"}, "bc"),
        ({"type": "AUDIT_REPORT_DAY", "template": "SOX"}, "b"),
        ({"name": "week"}, "cd"),
        ({"name": "week", "since": "2027-01-01"}, "d"),
    ],
)
def test_filters(archive: Archive, filters: dict[str, Any], wanted: str) -> None:
    day, week = "AUDIT_REPORT_DAY", "AUDIT_REPORT_WEEK"
    reports = {
        "a": archive.add(start_time="2026-01-31 00:00:00", type=day, name="daily"),
        "b": archive.add(
            start_time="2026-02-01 23:59:59", type=day, template_type="SOX", name="daily"
        ),
        "c": archive.add(
            start_time="2026-03-01T00:00:00Z", type=week, template_type="SOX", name="weekly"
        ),
        "d": archive.add(start_time="2027-01-01 00:00:00", type=week, name="weekly"),
        # What tells no day is of no day that was not asked for.
        "e": archive.add(start_time=None, finish_time=None, name="undated", type=week),
        "f": archive.add(start_time="soon", finish_time="later", omit=["type"], name="undated"),
    }
    result = archive.mirror(**filters)
    found = {one["id"] for one in archive.lines()}
    assert found == {reports[letter] for letter in wanted}
    assert counts(result).get("downloaded", 0) == result.listed == len(wanted)


def test_both_languages_stand_side_by_side(archive: Archive) -> None:
    reports = [archive.add(name="报告")]
    for locale in ("en-us", "zh-cn"):
        assert counts(archive.mirror(locale=locale)) == {"listed": 1, "downloaded": 1}
    assert counts(archive.mirror()) == {"listed": 1, "downloaded": 1}
    for locale in ("en-us", "zh-cn"):
        assert counts(archive.mirror(locale=locale)) == {"listed": 1, "present": 1}
    [report] = reports
    for locale, end in (("en-us", "_en-us.pdf"), ("zh-cn", "_zh-cn.pdf"), (None, ".pdf")):
        path = archive.path(report, locale)
        assert path.name == f"报告_{report}{end}"
        assert path.read_bytes() == archive.expected(report, locale)
    assert archive.path(report, "en-us").read_bytes() != archive.path(report, "zh-cn").read_bytes()
    archive.check_sums(3)


def test_gaps_are_told(archive: Archive) -> None:
    for day in ("2026-02-27", "2026-03-02"):
        archive.add(start_time=f"{day} 00:00:00", type="AUDIT_REPORT_DAY")
    for day in ("2025-12-01", "2026-02-01"):
        archive.add(start_time=f"{day} 00:00:00", type="AUDIT_REPORT_MONTH")
    # It will be there.
    archive.add(start_time="2026-02-28 00:00:00", type="AUDIT_REPORT_DAY", percentum=10)
    result = archive.mirror()
    assert set(result.gaps) == {
        dbss.Gap(archive.instance, "AUDIT_REPORT_DAY", datetime.date(2026, 3, 1)),
        dbss.Gap(archive.instance, "AUDIT_REPORT_MONTH", datetime.date(2026, 1, 1)),
    }
    result = archive.mirror(type="AUDIT_REPORT_DAY", since="2026-02-26", until="2026-03-03")
    assert [str(gap.period) for gap in result.gaps] == ["2026-02-26", "2026-03-01", "2026-03-03"]


BEIJING_JANUARY = [
    "2025-12-31 16:00:00",
    "2025-12-31T16:00:00.000Z",
    "2026-01-01T00:00:00+08:00",
    1767196800000,
    "1767196800",
]


@pytest.mark.parametrize("time", BEIJING_JANUARY)
def test_a_month_that_begins_in_beijing_is_that_month(archive: Archive, time: str | int) -> None:
    months = {"type": "AUDIT_REPORT_MONTH", "name": "monthly"}
    january = archive.add(start_time=time, **months)
    march = archive.add(start_time="2026-02-28 16:00:00", **months)
    days = {"since": "2026-01-01", "until": "2026-03-31"}
    result = archive.mirror(utc_offset="+08:00", **days)
    assert counts(result) == {"listed": 2, "downloaded": 2}
    assert [str(gap.period) for gap in result.gaps] == ["2026-02-01"]
    assert {one["path"].split("/")[1] for one in archive.lines()} == {"2026"}
    archive.check([january, march])
    # Without it days are those of UTC.
    assert archive.mirror(**days).listed == 1
    result = archive.mirror(until="2025-12-31")
    assert result.listed == 1
    assert archive.mirror(since="2026-02-28", until="2026-02-28").listed == 1


@pytest.mark.parametrize("offset", ["", "8", "+25:00", "Asia/Shanghai", "+08:00:00"])
def test_an_offset_that_is_none_is_refused(archive: Archive, offset: str) -> None:
    assert archive.fails(dbss.InvalidValueError, utc_offset=offset).parameter == "utc_offset"
    assert not archive.directory.exists()


@pytest.mark.parametrize("time", ["soon", "", "31/12/2025", "99999999999999999999", [2026]])
def test_a_time_that_cannot_be_read_excludes_nothing(archive: Archive, time: Any) -> None:
    report = archive.add(start_time=time, omit=["finish_time", "end_time"])
    assert counts(archive.mirror(since="2026-03-01", until="2026-03-02")) == {
        "listed": 1,
        "downloaded": 1,
    }
    assert archive.path(report).parent.name == "undated"


def test_a_report_in_the_making_comes_when_it_is_ready(archive: Archive) -> None:
    ready, later = archive.add(), archive.add(percentum=99)
    assert counts(archive.mirror()) == {"listed": 2, "downloaded": 1, "not_ready": 1}
    assert archive.requested() == Counter([ready])
    archive.mock.remove_reports([later])
    archive.add(id=later, percentum=100)
    assert counts(archive.mirror()) == {"listed": 2, "downloaded": 1, "present": 1}
    archive.check([ready, later])


def test_what_the_service_deletes_stays_and_what_vanishes_meanwhile_is_no_failure(
    archive: Archive,
) -> None:
    old = archive.add()
    archive.mirror()
    archive.mock.remove_reports([old])
    kept, gone = archive.add(), archive.add()
    archive.mock.delete_after(1, [gone])
    assert counts(archive.mirror()) == {"listed": 2, "downloaded": 1, "vanished": 1}
    assert {one["id"] for one in archive.lines()} == {old, kept}
    archive.check_sums(2)


@pytest.mark.parametrize("parallel", [1, 16])
def test_so_many_are_downloaded_at_once_as_asked_for(archive: Archive, parallel: int) -> None:
    reports = archive.add_many(40)
    archive.mock.fault("*", stall_after=100)
    with dbss.Operation() as operation, ThreadPoolExecutor() as pool:
        call = pool.submit(archive.mirror, parallel=parallel, operation=operation)
        try:
            wait_until(lambda: len(downloads(archive.mock)) >= parallel or call.done())
        finally:
            operation.cancel()
        with pytest.raises(dbss.CancelledError):
            call.result(BOUND)
    assert len(archive.requested()) == parallel
    assert archive.files() == []
    archive.mock.clear_faults()
    assert archive.mirror(parallel=parallel).downloaded == 40
    archive.check(reports)


def downloads(mock: MockService) -> list[str]:
    return [one["report"] for one in mock.requests() if one["report"][0] != "@"]


@pytest.mark.parametrize(
    ("arguments", "kind", "parameter"),
    [
        ({"since": "yesterday"}, dbss.InvalidValueError, "since"),
        ({"until": "2026-13-01"}, dbss.InvalidValueError, "until"),
        ({"until": "2026-11-24\0"}, dbss.InvalidValueError, "until"),
        ({"type": ""}, dbss.InvalidValueError, "type"),
        ({"template": "a" * 257}, dbss.InvalidValueError, "template"),
        ({"name": "\udc80"}, dbss.InvalidUtf8Error, "name"),
        ({"locale": "de-de"}, dbss.InvalidLocaleError, "locale"),
        ({"parallel": 0}, dbss.InvalidValueError, "parallel"),
        ({"parallel": 17}, dbss.InvalidValueError, "parallel"),
        ({"instance_id": "../.."}, dbss.InvalidIdError, "instance"),
        ({"project_id": "../.."}, dbss.InvalidIdError, "project"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once(
    archive: Archive, arguments: dict[str, Any], kind: type[dbss.Error], parameter: str
) -> None:
    error = archive.fails(kind, **arguments)
    assert error.parameter == parameter
    assert not archive.directory.exists()
    assert archive.mock.requests() == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"since": datetime.datetime(2026, 11, 24)},
        {"until": 20261124},
        {"type": b"a"},
        {"parallel": True},
        {"parallel": "4"},
        {"verify": 1},
        {"progress": 1},
    ],
)
def test_values_of_another_type_are_refused(archive: Archive, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        archive.mirror(**arguments)
    with pytest.raises(TypeError):
        archive.client.mirror(None)  # type: ignore[arg-type]
    assert not archive.directory.exists()


# What goes wrong.


def test_one_failure_does_not_stop_the_others(archive: Archive) -> None:
    reports = archive.add_many(30)
    bad = reports[11]
    body = {"error_code": "DBSS.10000000", "error_msg": "sorry"}
    archive.mock.fault(bad, status=500, json=body)
    error = archive.fails(dbss.PartialError)
    assert isinstance(error, dbss.ServiceError)
    assert "sorry" in error.message
    assert counts(error.result) == {"listed": 30, "downloaded": 29, "failed": 1}
    [failure] = error.result.failures
    assert (failure.instance_id, failure.report_id) == (archive.instance, bad)
    assert type(failure.error) is dbss.ServerError
    assert (failure.error.http_status, failure.error.service_code) == (500, "DBSS.10000000")
    archive.check([one for one in reports if one != bad])
    archive.requested()
    archive.mock.clear_faults()
    assert counts(archive.mirror()) == {"listed": 30, "downloaded": 1, "present": 29}
    assert archive.requested() == Counter([bad])
    archive.check(reports)


def test_a_cut_transfer_is_no_report(archive: Archive) -> None:
    good, bad = archive.add(size=200 * KIB), archive.add(size=200 * KIB)
    archive.mock.fault(bad, cut_after=100 * KIB)
    error = archive.fails(dbss.PartialError)
    assert type(error.result.failures[0].error) is dbss.TruncatedError
    archive.check([good])


def test_refused_credentials_stop_the_run_after_few_requests(archive: Archive) -> None:
    reports = archive.add_many(200)
    body = {"error_code": "APIG.0301", "error_msg": "Incorrect IAM authentication information"}
    archive.mock.fault("*", skip=20, status=401, json=body)
    error = archive.fails(dbss.UnauthenticatedError)
    assert error.service_code == "APIG.0301"
    assert error.result.listed == 200
    assert 17 <= error.result.downloaded <= 20
    # Twenty, and one for each that was under way.
    assert 21 <= sum(archive.requested().values()) <= 24
    archive.mock.clear_faults()
    assert archive.mirror().present >= error.result.downloaded
    archive.check(reports)


def test_a_list_that_cannot_be_had_is_an_error_and_harms_nothing(archive: Archive) -> None:
    reports = archive.add_many(3)
    archive.mirror()
    archive.add()
    archive.mock.fault("@reports.list", status=503)
    error = archive.fails(dbss.ServerError)
    assert counts(error.result) == {}
    archive.check(reports)


def test_the_sums_hide_no_other_error(archive: Archive) -> None:
    (archive.directory / "SHA256SUMS").mkdir(parents=True)
    report = archive.add()
    assert "SHA256SUMS" in archive.fails(dbss.NotRegularFileError).message
    assert {one["id"] for one in archive.lines()} == {report}
    archive.mock.fault("@reports.list", status=401, times=1)
    archive.fails(dbss.UnauthenticatedError)


def test_one_mirror_at_a_time(archive: Archive, environment: dict[str, str]) -> None:
    slow, other = archive.add(), archive.add()
    archive.mock.fault(slow, stall_after=100)
    with dbss.Operation() as operation, ThreadPoolExecutor() as pool:
        call = pool.submit(archive.mirror, operation=operation)
        try:
            wait_until(lambda: slow in downloads(archive.mock))
            error = archive.fails(dbss.MirrorLockedError)
            assert isinstance(error, dbss.FileError)
            assert str(archive.directory) in error.message
            done = run(archive, environment)
            assert (done.returncode, done.stdout) == (12, "")
            assert re.fullmatch(r"dbss: .*another mirror is using .*\n", done.stderr)
            # Another directory is another archive.
            archive.client.mirror(
                archive.directory.with_name("other"),
                project_id=archive.mock.project_id,
                instance_id=archive.mock.instance_id,
            )
        finally:
            operation.cancel()
        with pytest.raises(dbss.CancelledError):
            call.result(BOUND)
    archive.mock.clear_faults()
    archive.mirror()
    archive.check([slow, other])


def test_a_cancelled_mirror_goes_on_where_it_was(archive: Archive) -> None:
    reports = archive.add_many(50)
    slow = reports[0]
    archive.mock.fault(slow, stall_after=100)
    manifest = archive.directory / "manifest.jsonl"
    with dbss.Operation() as operation, ThreadPoolExecutor() as pool:
        call = pool.submit(archive.mirror, operation=operation)
        try:
            wait_until(lambda: manifest.exists() and manifest.read_bytes().count(b"\n") == 49)
        finally:
            operation.cancel()
        with pytest.raises(dbss.CancelledError) as caught:
            call.result(BOUND)
        assert counts(caught.value.result) == {"listed": 50, "downloaded": 49}
        assert operation.error is not None
    archive.check(reports[1:], contents=False)
    archive.mock.clear_faults()
    archive.requested()
    assert counts(archive.mirror()) == {"listed": 50, "downloaded": 1, "present": 49}
    assert archive.requested() == Counter([slow])
    archive.check(reports)


def test_ctrl_c_and_a_progress_function_end_a_mirror(archive: Archive) -> None:
    slow, other = archive.add(), archive.add()
    archive.mock.fault(slow, stall_after=100)

    def interrupt() -> None:
        wait_until(lambda: slow in downloads(archive.mock))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        archive.mirror()
    thread.join(BOUND)

    class Stop(Exception):
        pass

    def stop(now: dbss.Progress) -> None:
        if now.received:
            raise Stop

    with pytest.raises(Stop):
        archive.mirror(progress=stop)
    error = archive.fails(dbss.CancelledError, progress=lambda now: now.received == 0)
    assert error.result.listed == 2
    archive.mock.clear_faults()
    archive.mirror()
    archive.check([slow, other])


def test_killed_mirrors_go_on_where_they_were(archive: Archive) -> None:
    """Processes of this interpreter, killed at moments that nobody chose."""
    reports = archive.add_many(500)
    fork = multiprocessing.get_context("fork")
    chance = random.Random(11)
    manifest = archive.directory / "manifest.jsonl"

    def size() -> int:
        return manifest.stat().st_size if manifest.exists() else 0

    killed = 0
    for _ in range(1000):
        # What has its name is whole, whether the manifest has it or not.
        whole = {name for name in archive.files() if not name.endswith(".part")}
        child = fork.Process(target=archive.mirror)
        child.start()
        if killed < KILLS:
            # Somewhere within the next reports, or before the first.
            until = size() + chance.randrange(2 * 500 // KILLS) * 350
            wait_until(lambda n=until, c=child: size() >= n or not c.is_alive())
            time.sleep(chance.uniform(0, 0.005))
            child.kill()
            killed += 1
        child.join(BOUND)
        assert child.exitcode in (0, -signal.SIGKILL)
        again = {report for report in archive.requested() for name in whole if report in name}
        assert again == set()
        if child.exitcode == 0:
            break
    assert child.exitcode == 0
    assert len(archive.lines()) == 500
    assert len({one["id"] for one in archive.lines()}) == 500
    # What was being written then is nobody's; it has no report's name.
    for name in archive.files():
        if name.endswith(".part"):
            (archive.directory / name).unlink()
    archive.check(reports)


# The manifest and the files.


def test_a_torn_last_line_is_mended(archive: Archive) -> None:
    reports = archive.add_many(5)
    archive.mirror()
    archive.requested()
    manifest = archive.directory / "manifest.jsonl"
    whole = manifest.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in (last + 1, len(whole) - 20, len(whole) - 1):
        manifest.write_bytes(whole[:cut])
        assert counts(archive.mirror()) == {"listed": 5, "present": 5}
        assert archive.requested() == Counter()
        archive.check(reports, contents=False)
    assert manifest.read_bytes()[:last] == whole[:last]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"{}",
        b"\xff\xfe",
        b"null",
        b'{"id":"a","instance":"b","path":"../../x","size":1,"sha256":"' + b"0" * 64 + b'"}',
        b'{"id":"a","instance":"b","path":"/etc/x","size":1,"sha256":"' + b"0" * 64 + b'"}',
        b'{"id":"a","instance":"b","path":"a","size":-1,"sha256":"' + b"0" * 64 + b'"}',
        b'{"id":"a","instance":"b","path":"a","size":1,"sha256":"0"}',
    ],
)
def test_a_line_that_is_none_is_a_clear_error_and_changes_nothing(
    archive: Archive, line: bytes
) -> None:
    archive.add_many(3)
    archive.mirror()
    manifest = archive.directory / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines()
    lines.insert(1, line)
    manifest.write_bytes(b"\n".join(lines) + b"\n")
    archive.add()
    archive.requested()
    before = tree(archive.directory)
    error = archive.fails(dbss.FileError)
    assert f"line 2 of {manifest}" in error.message
    assert tree(archive.directory) == before
    assert archive.mock.requests() == []


def logged(archive: Archive) -> list[str]:
    """Mirrors with a client that has a log, and returns the warnings."""
    found: list[str] = []

    def log(record: dbss.LogRecord) -> None:
        if record.level == dbss.LOG_WARNING:
            found.append(record.message)

    mock = archive.mock
    with dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client:
        client.mirror(archive.directory, project_id=mock.project_id, instance_id=archive.instance)
    return found


def test_a_torn_last_line_is_warned_of(archive: Archive) -> None:
    archive.add_many(2)
    assert logged(archive) == []
    manifest = archive.directory / "manifest.jsonl"
    whole = manifest.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in (last + 1, last + 5, len(whole) - 20):
        manifest.write_bytes(whole[:cut])
        [warning] = logged(archive)
        assert f"last line of {manifest}, number 2, " in warning
        assert f"({cut - last} bytes)" in warning


def test_a_last_line_without_its_end_is_kept(archive: Archive) -> None:
    archive.add_many(3)
    archive.mirror()
    manifest = archive.directory / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-1])
    assert logged(archive) == []
    assert manifest.read_bytes() == whole
    reports = [*(one["id"] for one in archive.lines()), archive.add()]
    manifest.write_bytes(whole[:-1])
    archive.mirror()
    assert manifest.read_bytes().startswith(whole)
    archive.check(reports)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "end",
    [
        b'{"my":"only copy"}',
        b'{"id":"only copy"}',
        b'{"id":"a","instance":"b","path":"../x","size":1,"sha256":"' + b"0" * 64 + b'"}',
        b'{"id": "with a blank',
        b'{"id":"cut" and changed',
        b"notes",
        b'"',
        b"\0\0\0\0",
    ],
)
def test_a_last_line_that_is_of_others_is_an_error_and_stays(
    archive: Archive, end: bytes, known: bool
) -> None:
    archive.directory.mkdir(exist_ok=True)
    archive.add_many(2)
    if known:
        archive.mirror()
    manifest = archive.directory / "manifest.jsonl"
    before = (manifest.read_bytes() if known else b"") + end
    manifest.write_bytes(before)
    archive.requested()
    error = archive.fails(dbss.FileError)
    assert f"line {3 if known else 1} of {manifest}" in error.message
    assert "fix it, remove it or move the file away" in error.message
    assert manifest.read_bytes() == before
    assert archive.mock.requests() == []


@pytest.mark.parametrize("start", [b"", b'{"id":"', b" "])
def test_a_line_without_bounds_is_an_error(archive: Archive, start: bytes) -> None:
    archive.directory.mkdir(exist_ok=True)
    manifest = archive.directory / "manifest.jsonl"
    manifest.write_bytes(start)
    os.truncate(manifest, 3 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = archive.fails(dbss.FileError)
    assert f"line 1 of {manifest} is longer than 1 MiB" in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * KIB
    assert manifest.stat().st_size == 3 << 30


def test_what_has_no_line_is_taken_up_again(archive: Archive) -> None:
    reports = archive.add_many(6)
    archive.mirror()
    archive.requested()
    (archive.directory / "manifest.jsonl").unlink()
    (archive.directory / "SHA256SUMS").unlink()
    assert counts(archive.mirror()) == {"listed": 6, "present": 6}
    assert archive.requested() == Counter()
    assert all(one["request_id"] is one["date"] is None for one in archive.lines())
    archive.check(reports)


# Two reports, each by its name and its id, whose files would have the same name, or
# one that some file systems do not tell from the other's.
# In the ids, ONE and TWO stand for what no other test has.
SAME_NAMES = [
    (("x", "ONE_TWO"), ("x_ONE", "TWO")),
    (("x", "Case-ONE"), ("x", "cASE-ONE")),
    (("Straße", "Case-ONE"), ("STRASSE", "case-ONE")),
    (("\u00e9", "ONE_TWO"), ("e\u0301_ONE", "TWO")),
]


@pytest.fixture(params=SAME_NAMES, ids=["underscore", "case", "case of names", "normal forms"])
def two(request: pytest.FixtureRequest) -> list[dict[str, str]]:
    one, other = secrets.token_hex(8), secrets.token_hex(8)

    def fresh(text: str) -> str:
        return text.replace("ONE", one).replace("TWO", other)

    return [{"name": fresh(name), "id": fresh(report)} for name, report in request.param]


def own_files(archive: Archive, reports: list[str], locale: str | None = None) -> None:
    """Every report has a file that no other has, on any file system."""
    archive.check(reports, locale)
    names = {unicodedata.normalize("NFC", name).lower() for name in archive.files()}
    assert len(names) == len(reports)


@pytest.mark.parametrize("order", [1, -1])
def test_reports_whose_files_would_have_one_name_have_their_own(
    archive: Archive, two: list[dict[str, str]], order: int
) -> None:
    reports = [archive.add(**one) for one in two[::order]]
    assert counts(archive.mirror()) == {"listed": 2, "downloaded": 2}
    own_files(archive, reports)
    assert counts(archive.mirror(verify=True)) == {"listed": 2, "present": 2}
    # Also where nothing but the files is left.
    (archive.directory / "manifest.jsonl").unlink()
    archive.mirror()
    own_files(archive, reports)


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_of_another_report_is_never_taken(
    archive: Archive, two: list[dict[str, str]], order: int
) -> None:
    reports = [archive.add(**two[::order][0])]
    archive.mirror()
    before = archive.path(reports[0]).read_bytes()
    reports.append(archive.add(**two[::order][1]))
    assert counts(archive.mirror()) == {"listed": 2, "downloaded": 1, "present": 1}
    assert archive.path(reports[0]).read_bytes() == before
    own_files(archive, reports)


def test_a_file_without_a_line_is_not_taken_for_another_report(
    archive: Archive, two: list[dict[str, str]]
) -> None:
    """One was killed before its line, and the other is all that is asked for."""
    archive.add(**two[0])
    archive.mirror()
    (archive.directory / "manifest.jsonl").unlink()
    archive.add(**two[1])
    archive.mirror(name=two[1]["name"])
    for (report, _), record in archive.records().items():
        data = (archive.directory / record["path"]).read_bytes()
        assert data == archive.expected(report)


def right(archive: Archive, locale: str | None = None) -> None:
    """Each line's file is that report's."""
    for (report, said), record in archive.records().items():
        if said == locale:
            data = (archive.directory / record["path"]).read_bytes()
            assert data == archive.expected(report, locale)


def test_a_file_of_a_deleted_report_is_not_taken_for_another(archive: Archive) -> None:
    one, other = secrets.token_hex(8), secrets.token_hex(8)
    archive.add(name="x", id=f"{one}_{other}")
    archive.mirror()
    [left] = archive.files()
    before = (archive.directory / left).read_bytes()
    (archive.directory / "manifest.jsonl").unlink()
    archive.mock.remove_reports([f"{one}_{other}"])
    archive.add(name=f"x_{one}", id=other)
    assert counts(archive.mirror()) == {"listed": 1, "downloaded": 1}
    right(archive)
    assert (archive.directory / left).read_bytes() == before
    assert counts(archive.mirror(verify=True)) == {"listed": 1, "present": 1}


@pytest.mark.parametrize("locale", ["en-us", "zh-cn"])
def test_a_file_in_a_language_is_not_taken_for_another_report(
    archive: Archive, locale: str
) -> None:
    plain = archive.add(name="x")
    archive.mirror(locale=locale)
    (archive.directory / "manifest.jsonl").unlink()
    archive.add(name="x", id=f"{plain}_{locale}")
    archive.mirror()
    right(archive)


def test_a_file_that_a_line_has_is_not_taken_up(archive: Archive) -> None:
    """As where a file system takes two names for one."""
    first = archive.add(name="\u00e9")
    archive.mirror()
    path = archive.path(first)
    data = path.read_bytes()
    second = archive.add(name="e\u0301")
    third = archive.add(name="e\u0301e\u0301")
    for name, report in (("e\u0301", second), ("e\u0301e\u0301", third)):
        os.link(path, path.parent / f"{name}_{report}.pdf")
    assert counts(archive.mirror()) == {"listed": 3, "downloaded": 2, "present": 1}
    right(archive)
    assert path.read_bytes() == data
    assert len({(archive.directory / one["path"]).stat().st_ino for one in archive.lines()}) == 3


@pytest.mark.parametrize("downloaded", [0, 1, None])
def test_a_file_that_several_lines_have_is_repaired(
    archive: Archive, two: list[dict[str, str]], downloaded: int | None
) -> None:
    """As earlier versions left it: one report's line tells of another's file."""
    reports = [archive.add(**two[0])]
    archive.mirror()
    manifest = archive.directory / "manifest.jsonl"
    reports.append(archive.add(**two[1]))
    line = archive.lines()[0]
    path = archive.path(reports[0])
    # Where case does not count, both names are those of one file.
    shared = path.parent / f"{two[1]['name']}_{two[1]['id']}.pdf"
    if path != shared:
        os.link(path, shared)
    other = {"id": two[1]["id"], "name": two[1]["name"]}
    other["path"] = str(shared.relative_to(archive.directory))
    found = [line, {**line, **other}]
    for index, one in enumerate(found):
        if index != downloaded:
            one["date"] = one["request_id"] = None
    # The one that was downloaded is the one that is in the file.
    if downloaded == 1:
        path.write_bytes(archive.expected(reports[1]))
        data = path.read_bytes()
        found = [{**one, "size": len(data), "sha256": sha256(data)} for one in found]
    manifest.write_text("".join(json.dumps(one) + "\n" for one in found))
    result = archive.mirror(verify=True)
    repaired = 2 if downloaded is None else 1
    assert counts(result) == {"listed": 2, "repaired": repaired} | (
        {"present": 1} if repaired == 1 else {}
    )
    records = archive.records()
    assert len({record["path"].lower() for record in records.values()}) == 2
    for (report, _), record in records.items():
        data = (archive.directory / record["path"]).read_bytes()
        assert data == archive.expected(report)
        assert record["sha256"] == sha256(data)
    assert counts(archive.mirror(verify=True)) == {"listed": 2, "present": 2}
    archive.check_sums(2)


def test_an_id_that_ends_with_a_language_is_not_that_language(archive: Archive) -> None:
    plain = archive.add(name="x")
    other = archive.add(name="x", id=f"{plain}_en-us")
    archive.mirror(name="x")
    archive.mirror(locale="en-us")
    for (report, locale), record in archive.records().items():
        data = (archive.directory / record["path"]).read_bytes()
        assert data == archive.expected(report, locale)
    assert len(archive.lines()) == 4 == len(archive.files())
    assert {plain, other} == {report for report, _ in archive.records()}


def test_a_missing_file_is_downloaded_again(archive: Archive) -> None:
    reports = archive.add_many(4)
    archive.mirror()
    archive.requested()
    archive.path(reports[2]).unlink()
    assert counts(archive.mirror()) == {"listed": 4, "downloaded": 1, "present": 3}
    assert archive.requested() == Counter([reports[2]])
    archive.check(reports)


def test_a_damaged_file_is_repaired(archive: Archive) -> None:
    reports = archive.add_many(4)
    archive.mirror()
    archive.requested()
    same, shorter = archive.path(reports[1]), archive.path(reports[2])
    good = same.read_bytes()
    same.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    damaged = same.read_bytes()
    shorter.write_bytes(shorter.read_bytes()[:-1])
    # Without a look inside only the size tells.
    assert counts(archive.mirror()) == {"listed": 4, "present": 3, "repaired": 1}
    assert archive.requested() == Counter([reports[2]])
    assert same.read_bytes() == damaged
    # What cannot be repaired stays.
    archive.mock.fault(reports[1], status=500, times=1)
    error = archive.fails(dbss.PartialError, verify=True)
    assert counts(error.result) == {"listed": 4, "present": 3, "failed": 1}
    assert same.read_bytes() == damaged
    archive.requested()
    assert counts(archive.mirror(verify=True)) == {"listed": 4, "present": 3, "repaired": 1}
    assert archive.requested() == Counter([reports[1]])
    archive.check(reports)
    archive.requested()
    assert counts(archive.mirror(verify=True)) == {"listed": 4, "present": 4}
    assert archive.requested() == Counter()


PAGE = b"<!-- a login page --><html>"


@pytest.mark.parametrize("body", [PAGE, b"Access denied", b"", b"\0\1\2\3"])
def test_what_was_filed_and_is_no_report_is_found_by_verify_and_repaired(
    archive: Archive, body: bytes
) -> None:
    reports = archive.add_many(3)
    archive.mirror()
    # As an older library filed it, under a hash that is right.
    archive.path(reports[1]).write_bytes(body)
    records = archive.records()
    records[reports[1], None] |= {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    lines = "".join(json.dumps(record) + "\n" for record in records.values())
    (archive.directory / "manifest.jsonl").write_text(lines)
    assert counts(archive.mirror()) == {"listed": 3, "present": 3}
    assert counts(archive.mirror(verify=True)) == {"listed": 3, "present": 2, "repaired": 1}
    archive.check(reports)
    # Without its line in the manifest it is not taken up either.
    path = archive.path(reports[1])
    path.write_bytes(body)
    del records[reports[1], None]
    lines = "".join(json.dumps(record) + "\n" for record in records.values())
    (archive.directory / "manifest.jsonl").write_text(lines)
    assert counts(archive.mirror()) == {"listed": 3, "present": 2, "repaired": 1}
    archive.check(reports)


@pytest.mark.parametrize("body", [PAGE, b"Access denied", b"\0\1\2\3"])
def test_what_is_no_report_is_not_filed(archive: Archive, body: bytes) -> None:
    reports = archive.add_many(3)
    archive.mock.fault(reports[1], body=body.decode(), times=1)
    error = archive.fails(dbss.PartialError)
    assert counts(error.result) == {"listed": 3, "downloaded": 2, "failed": 1}
    [failure] = error.result.failures
    assert isinstance(failure.error, dbss.UnexpectedResponseError)
    archive.check([reports[0], reports[2]])
    assert counts(archive.mirror()) == {"listed": 3, "downloaded": 1, "present": 2}
    archive.check(reports)


# Hostile answers, and directories that are none.

NAMES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "..",
    ".",
    "",
    " ",
    ".hidden",
    "-rf",
    "a\nb\r\0\x1b[31mc\x7f",
    "\u202egpj.exe",
    "x" * 300,
    "审" * 200,
    "审计报告 2026",
    "a  b",
    "manifest.jsonl",
    '*?"<>|:',
]


def test_hostile_names_stay_in_the_directory(archive: Archive) -> None:
    reports = [archive.add(name=name) for name in NAMES]
    reports.append(archive.add(name=None))
    reports.append(archive.add(extra={"name": ["a", "../b"], "start_time": "../../x"}))
    archive.mirror()
    archive.check(reports)
    assert os.listdir(archive.directory.parent) == [archive.directory.name]
    for record in archive.lines():
        parts = record["path"].split("/")
        assert len(parts) == 3
        assert parts[0] == archive.instance
        assert re.fullmatch(r"\d{4}|undated", parts[1])
        assert len(os.fsencode(parts[2])) <= 255
        assert parts[2].isprintable()
        assert record["id"] in parts[2]
        assert parts[2][0] != "."
    names = {one["name"] for one in archive.lines()}
    # No string of C can hold the first character.
    assert names >= {name.replace("\0", "\ufffd") for name in NAMES}


def test_a_hostile_report_id_is_that_reports_failure(archive: Archive) -> None:
    good = archive.add()
    archive.add(extra={"id": "../../../../escape"})
    archive.add(extra={"id": "a/../../b"})
    error = archive.fails(dbss.PartialError)
    assert counts(error.result) == {"listed": 3, "downloaded": 1, "failed": 2}
    assert {type(one.error) for one in error.result.failures} == {dbss.InvalidIdError}
    assert os.listdir(archive.directory.parent) == [archive.directory.name]
    archive.check([good])


def test_a_token_that_a_list_repeats_is_in_no_file_name_and_no_message(archive: Archive) -> None:
    token = archive.mock.token
    part = token[100:160]
    # Where a name is cut, none of it may be left either.
    for name in (f"a-{part}-b", f"a-%{ord(part[0]):02x}{part[1:]}-b", "x" * 200 + part):
        archive.add(name=name)
    archive.add(extra={"id": part})
    archive.add(extra={"id": f"{part}!", "format": part, "type": part, "start_time": part})
    seen: list[str] = []
    with dbss.Client(
        endpoint=archive.mock.http,
        token=token,
        project_id=archive.mock.project_id,
        log=lambda record: seen.append(repr(record)),
    ) as archive.client:
        error = archive.fails(dbss.PartialError)
        assert counts(error.result) == {"listed": 5, "downloaded": 3, "failed": 2}
        seen.append(str(error) + repr(error.result))
        items = [{"id": one, "name": "x", "status": "ACTIVE"} for one in (part, archive.instance)]
        archive.mock.fault("@instances", json={"servers": items, "total": 2}, times=1)
        error = archive.fails(dbss.PartialError, instance_id=None)
        seen.append(str(error) + repr(error.result))
    for directory, directories, files in os.walk(archive.directory):
        seen += directories + files
        seen += [(Path(directory) / name).read_text("latin-1") for name in files]
    assert any("a-___-b" in text for text in seen)
    assert not any(part[i : i + 32] in text for text in seen for i in range(len(part) - 32))


@pytest.mark.parametrize("instance", ["../../../escape", ".", "short", "a" * 65, "/etc"])
def test_an_instance_with_a_wrong_id_is_a_failure_of_its_own(
    instance: str, archive: Archive
) -> None:
    reports = archive.add_many(2)
    items = [{"id": one, "name": "x", "status": "ACTIVE"} for one in (instance, archive.instance)]
    archive.mock.fault("@instances", json={"servers": items, "total": 2}, times=1)
    error = archive.fails(dbss.PartialError, instance_id=None)
    assert counts(error.result) == {"listed": 2, "downloaded": 2, "failed": 1}
    [failure] = error.result.failures
    assert (failure.instance_id, failure.report_id) == (instance, None)
    assert type(failure.error) is dbss.InvalidIdError
    assert os.listdir(archive.directory.parent) == [archive.directory.name]
    archive.check(reports)


def test_an_instance_without_an_id_is_an_error(archive: Archive) -> None:
    item = {"id": "", "name": "x", "status": "ACTIVE"}
    archive.mock.fault("@instances", json={"servers": [item], "total": 1}, times=1)
    archive.fails(dbss.UnexpectedResponseError, instance_id=None)
    assert set(os.listdir(archive.directory)) <= OWN_FILES


def test_a_name_that_is_no_text_keeps_no_report_away(archive: Archive) -> None:
    """Escapes that are no characters, and bytes that are no UTF-8 cannot be."""
    good = archive.add()
    body = b'{"reports":[{"report":{"id":"%b","name":"a\\ud800b","format":"pdf"}}],"total":1}'
    archive.mock.fault("@reports.list", body=(body % good.encode()).decode(), times=1)
    assert counts(archive.mirror()) == {"listed": 1, "downloaded": 1}
    archive.check([good])


def test_a_file_is_no_archive(archive: Archive) -> None:
    archive.add()
    archive.directory.write_text("mine")
    assert archive.fails(dbss.FileError).os_code == 17
    assert archive.directory.read_text() == "mine"
    archive.directory.unlink()
    archive.directory.symlink_to("nowhere")
    archive.fails(dbss.FileError)
    assert os.listdir(archive.directory.parent) == [archive.directory.name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_an_error(archive: Archive) -> None:
    archive.add()
    archive.directory.mkdir(0o500)
    assert archive.fails(dbss.FileError).os_code == 13
    assert os.listdir(archive.directory) == []


@pytest.mark.parametrize("name", sorted(OWN_FILES))
def test_a_link_in_the_place_of_an_own_file_is_not_followed(archive: Archive, name: str) -> None:
    archive.add()
    outside = archive.directory.parent / "outside"
    outside.write_text("mine")
    archive.directory.mkdir()
    (archive.directory / name).symlink_to(outside)
    if name == "SHA256SUMS":
        archive.fails(dbss.NotRegularFileError)
    else:
        assert archive.fails(dbss.FileError).os_code == 40
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("known", [False, True])
def test_a_link_in_the_place_of_a_report_is_that_reports_failure(
    archive: Archive, known: bool
) -> None:
    reports = [archive.add(start_time="2026-01-01", name="x") for _ in range(3)]
    outside = archive.directory.parent / "outside"
    outside.write_text("mine")
    path = archive.directory / archive.instance / "2026" / f"x_{reports[1]}.pdf"
    if known:
        archive.mirror()
        path.unlink()
        reports.append(archive.add())
    else:
        path.parent.mkdir(parents=True)
    path.symlink_to(outside)
    error = archive.fails(dbss.PartialError)
    [failure] = error.result.failures
    assert type(failure.error) is dbss.NotRegularFileError
    assert failure.report_id == reports[1]
    assert {one["id"] for one in archive.lines()} >= {reports[0], reports[-1]}
    assert outside.read_text() == "mine"
    path.unlink()
    archive.mirror()
    archive.check(reports)


# Limits.


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A limit of the size of files stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_stops_the_run(archive: Archive) -> None:
    small = archive.add_many(3)
    archive.mirror()
    big = archive.add_many(60, format="bytes", size=64 * KIB)
    archive.requested()
    with largest_file(16 * KIB):
        error = archive.fails(dbss.DiskFullError)
    assert error.result.present == 3
    assert 1 <= sum(archive.requested().values()) <= 8
    archive.check(small, contents=False)
    assert archive.mirror().downloaded == 60
    archive.check([*small, *big])


def test_a_disk_that_is_full_for_the_manifest_leaves_a_sound_one(archive: Archive) -> None:
    reports = archive.add_many(30, format="bytes", size=200)
    limit = 1000
    with largest_file(limit):
        error = archive.fails(dbss.DiskFullError)
    assert "manifest.jsonl" in error.message
    kept = archive.directory / "manifest.jsonl"
    # Whole lines, but for the end of one that does not count.
    lines = kept.read_bytes().split(b"\n")
    assert all(json.loads(line) for line in lines[:-1])
    whole = {name for name in archive.files() if not name.endswith(".part")}
    archive.requested()
    archive.mirror()
    assert not [one for one in archive.requested() if any(one in name for name in whole)]
    archive.check(reports)


def test_a_disk_that_has_room_again_leaves_a_sound_manifest(archive: Archive) -> None:
    """As when the parts of downloads that were cancelled have gone."""
    reports = archive.add_many(60, format="bytes", size=200)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    over = threading.Event()

    def make_room(manifest: Path) -> None:
        # Half a line fills it.
        while not over.is_set() and not (manifest.exists() and manifest.stat().st_size == 1000):
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    parent = archive.directory
    for turn in range(5):
        archive.directory = parent / str(turn)
        over.clear()
        thread = threading.Thread(target=make_room, args=(archive.directory / "manifest.jsonl",))
        thread.start()
        # There may be room in time.
        with largest_file(1000), contextlib.suppress(dbss.DiskFullError):
            archive.mirror()
        over.set()
        thread.join(BOUND)
        archive.mirror()
        archive.check(reports, contents=False)


def with_small_files(archive: Archive, limit: int) -> None:
    """A mirror of a process that may write no larger files; exits with 0 if all is told."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    error = archive.fails(dbss.DiskFullError)
    assert error.os_code == errno.EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(archive.lines()) > 0
    os._exit(0)


def test_a_limit_for_files_is_an_error_for_the_archives_own_too(archive: Archive) -> None:
    reports = archive.add_many(40, size=6000)
    child = multiprocessing.get_context("fork").Process(
        target=with_small_files, args=(archive, 7000)
    )
    child.start()
    child.join(BOUND)
    assert child.exitcode == 0
    assert 0 < len(archive.lines()) < 40
    archive.mirror()
    archive.check(reports)


class Endless(BaseHTTPRequestHandler):
    """Lists of reports that never end: each page has a thousand new ones."""

    protocol_version = "HTTP/1.1"
    reports = 0
    lists = 0
    # The first list of reports has none.
    begins_empty = False
    name = ""
    instances = ("0" * 32,)

    def answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if "templates" in self.path:
            template = {"id": "t" * 16, "name": "daily"}
            self.answer({"templates": [{"template": template}], "total": 1})
        else:
            self.answer({"servers": [{"id": one} for one in self.instances], "total": 1})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = type(self)
        if self.path.endswith("/create"):
            self.answer({"result": "success"})
            return
        kind.lists += 1
        if kind.begins_empty and kind.lists == 1:
            self.answer({"reports": [], "total": 0})
            return
        items = [
            {"report": {"id": f"{kind.reports + one:020}", "name": kind.name, "format": "pdf"}}
            for one in range(1000)
        ]
        kind.reports += 1000
        self.answer({"reports": items, "total": 10**9})

    def log_message(self, *_: Any) -> None:
        pass


def endless(tmp_path: Path, call: str, **settings: Any) -> None:
    """Makes a call that reads an endless list, and exits with 0 where memory was flat."""
    service = type("Service", (Endless,), settings)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with HTTPServer(("127.0.0.1", 0), service) as server:
            os.write(writing, str(server.server_port).encode())
            server.serve_forever()
    try:
        port = os.read(reading, 10).decode()
        with dbss.Client(
            endpoint=f"http://127.0.0.1:{port}", token="k" * 32, project_id="p" * 32
        ) as client:
            if call == "mirror":
                client.mirror(tmp_path / "archive")
            else:
                client.generate_report(
                    "0" * 32, "t" * 16, "2026-11-23 00:00:00", "2026-11-24 00:00:00"
                )
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def measured(tmp_path: Path, call: str, **settings: Any) -> None:
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 220 * KIB
    with pytest.raises(dbss.Error) as caught:
        endless(tmp_path, call, **settings)
    error = caught.value
    if isinstance(error, dbss.PartialError):
        assert error.result.listed == 0
        error = error.result.failures[0].error
    assert isinstance(error, dbss.UnexpectedResponseError)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < limit
    os._exit(0)


@pytest.mark.parametrize(
    ("call", "settings"),
    [
        ("mirror", {"name": "x" * 2000}),
        ("mirror", {"name": "x" * 2000, "instances": ("0" * 32, "1" * 32, "2" * 32)}),
        ("generate", {"name": "x" * 2000, "begins_empty": True}),
        ("generate", {"name": "x"}),
    ],
)
def test_a_list_that_never_ends_takes_bounded_memory(
    tmp_path: Path, call: str, settings: dict[str, Any]
) -> None:
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=measured, args=(tmp_path, call), kwargs=settings)
    child.start()
    child.join(2 * BOUND)
    assert child.exitcode == 0


def with_descriptors(archive: Archive, count: int) -> None:
    """A mirror of a process that has so many descriptors left; exits with what it saw."""
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while os.dup(0) < highest:
        pass
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, hard))
    ended = "done"
    try:
        archive.mirror(parallel=16)
    except dbss.PartialError as error:
        ended = "partial"
        for failure in error.result.failures:
            assert type(failure.error) is dbss.ResourceError, failure
    except dbss.ResourceError:
        ended = "refused"
    before = len(archive.files())
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threads = [
        Path(f"/proc/self/task/{one}/comm").read_text() for one in os.listdir("/proc/self/task")
    ]
    assert not any(one.startswith("dbss") for one in threads)
    assert len(archive.lines()) == before
    os._exit(["done", "partial", "refused"].index(ended))


def test_a_mirror_with_few_descriptors_uses_fewer_threads(archive: Archive) -> None:
    archive.add_many(40)
    fork = multiprocessing.get_context("fork")
    ended = {}
    for count in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32):
        child = fork.Process(target=with_descriptors, args=(archive, count))
        child.start()
        child.join(BOUND)
        ended[count] = child.exitcode
        assert len(archive.lines()) in (0, 40)
        if archive.directory.exists():
            archive.directory.rename(archive.directory.with_name(f"with {count}"))
    assert {count: code for count, code in ended.items() if count > 6} == {
        count: 0 for count in ended if count > 6
    }
    assert {code for count, code in ended.items() if count <= 4} == {2}


def test_big_reports_need_no_memory(archive: Archive, environment: dict[str, str]) -> None:
    for _ in range(6):
        archive.add(format="bytes", size=48 * MIB)
    code = """
import os, dbss
def peak():
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1])
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
before = peak()
result = client.mirror(os.environ["DIRECTORY"], project_id=os.environ["PROJECT"],
                       instance_id=os.environ["INSTANCE"])
print(result.downloaded, peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={
            **environment,
            "ENDPOINT": archive.mock.http,
            "TOKEN": archive.mock.token,
            "PROJECT": archive.mock.project_id,
            "INSTANCE": archive.instance,
            "DIRECTORY": str(archive.directory),
        },
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert (done.returncode, done.stderr) == (0, "")
    archive.check_sums(6)
    print(done.stdout)
    downloaded, grown = map(int, done.stdout.split())
    assert downloaded == 6
    # In KiB.
    assert grown < 12 * KIB


# The command.


def run(
    archive: Archive, environment: dict[str, str], *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "dbss", "mirror", str(archive.directory), *arguments],
        env={
            **environment,
            "DBSS_ENDPOINT": archive.mock.http,
            "DBSS_TOKEN": archive.mock.token,
            "DBSS_PROJECT_ID": archive.mock.project_id,
            "DBSS_INSTANCE_ID": archive.instance,
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert "Traceback" not in done.stderr
    assert archive.mock.token not in done.stdout + done.stderr
    return done


def test_the_command_tells_what_it_did(archive: Archive, environment: dict[str, str]) -> None:
    for day in ("2026-02-27", "2026-03-01"):
        archive.add(start_time=f"{day} 00:00:00", type="AUDIT_REPORT_DAY")
    done = run(archive, environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        f"{archive.directory}: 2 reports: 2 downloaded, 0 there before, 1 gaps\n"
    )
    # Nobody need be woken when there is nothing new.
    done = run(archive, environment, "--gaps", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"gap: {archive.instance} AUDIT_REPORT_DAY 2026-02-28\n"
    assert run(archive, environment, "--detect-nothing-new").returncode == 10
    archive.add()
    assert run(archive, environment, "--detect-nothing-new").returncode == 0
    done = run(archive, environment, "--json", "--since", "2026-03-01", "--verify")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found.pop("listed") >= 1
    assert (found["downloaded"], found["failures"], found["error"]) == (0, [], None)


def test_the_commands_filters_reach_the_library(
    archive: Archive, environment: dict[str, str]
) -> None:
    given = {"start_time": "2026-03-01 00:00:00", "type": "T", "template_type": "SOX"}
    wanted = archive.add(name="right", **given)
    for other in (
        {"start_time": "2026-02-28 00:00:00"},
        {"start_time": "2026-03-02 00:00:00"},
        {"type": "U"},
        {"template_type": "PCI"},
        {"name": "wrong"},
    ):
        archive.add(**{"name": "right", **given, **other})
    arguments = (
        *("--since", "2026-03-01", "--until", "2026-03-01", "--type", "T", "--template", "SOX"),
        *("--name", "right", "--locale", "zh-cn", "--parallel", "1", "--instance"),
    )
    done = run(archive, environment, *arguments, archive.instance, DBSS_INSTANCE_ID="")
    assert done.returncode == 0, done.stderr
    assert set(archive.records()) == {(wanted, "zh-cn")}


def test_the_commands_exit_codes(
    archive: Archive, environment: dict[str, str], tmp_path: Path
) -> None:
    good, bad = archive.add(), archive.add()
    success = tmp_path / "success.json"
    more = ("--success-file", str(success), "--max-attempts", "1")
    body = {"error_code": "DBSS.1", "error_msg": "a \x1b[31mred\x1b[0m one"}
    archive.mock.fault(bad, status=500, json=body)
    done = run(archive, environment, "--json", *more)
    assert done.returncode == 11
    found = json.loads(done.stdout)
    assert (found["downloaded"], found["failed"]) == (1, 1)
    [failure] = found["failures"]
    assert (failure["instance"], failure["id"]) == (archive.instance, bad)
    assert (failure["status"], failure["status_name"]) == (206, "DBSS_ERR_SERVER")
    assert found["error"]["status_name"] == "DBSS_ERR_PARTIAL"
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"dbss: {archive.instance} {bad}: ")
    assert lines[1].endswith("2 reports: 1 downloaded, 0 there before, 1 failed")
    assert re.match(r"dbss: 1 of \d+ .*failed to download", lines[2])
    assert "\x1b" not in done.stderr
    assert not success.exists()

    for code, arguments, variables in (
        (2, ["--since", "soon"], {}),
        (2, ["--parallel", "99"], {}),
        (2, ["--no-such-option"], {}),
        (3, [], {"DBSS_TOKEN": "wrong"}),
        (4, ["--instance", "0" * 36], {}),
        (6, [], {"DBSS_ENDPOINT": "http://127.0.0.1:1"}),
    ):
        done = run(archive, environment, *more, *arguments, **variables)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("dbss: ")
        assert not success.exists()
    archive.mock.fault("@reports.list", status=500, times=1)
    done = run(archive, environment, "--json", *more)
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["status_name"] == "DBSS_ERR_SERVER"
    archive.mock.clear_faults()

    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    assert run(archive, environment, *more).returncode == 0
    told = json.loads(success.read_text())
    assert datetime.datetime.fromisoformat(told.pop("time").replace("Z", "+00:00")) >= before
    assert {name: count for name, count in told.items() if count} == {
        "listed": 2,
        "downloaded": 1,
        "present": 1,
    }
    assert success.stat().st_mode & 0o777 == 0o644
    archive.check([good, bad])
    # A run that fails leaves the last success as it was.
    old = success.read_bytes()
    assert run(archive, environment, *more, DBSS_TOKEN="wrong").returncode == 3
    assert success.read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["archive", "success.json"]
    done = run(archive, environment, "--success-file", str(tmp_path / "no/such/file"))
    assert done.returncode == 7
    assert "cannot write" in done.stderr


def test_a_file_in_place_of_the_directory_is_told(
    archive: Archive, environment: dict[str, str]
) -> None:
    archive.directory.write_text("mine")
    done = run(archive, environment)
    assert done.returncode == 7
    assert str(archive.directory) in done.stderr


def test_the_service_that_systemd_runs(root: Path) -> None:
    text = (root / "bindings/systemd/dbss-mirror.service").read_text()
    [command] = re.findall(r"^ExecStart=(.*)$", text.replace("\\\n", " "), re.MULTILINE)
    words = shlex.split(command)
    start = words.index("dbss")
    assert words[start - 1] == "-m"
    given = cli._parser().parse_args(words[start + 1 :])
    assert given.command == "mirror"
    assert given.directory.startswith("%S/")
    assert given.success_file.startswith("%S/")


def test_a_range_that_ends_before_it_begins_is_refused(archive: Archive) -> None:
    with pytest.raises(dbss.InvalidValueError) as caught:
        archive.mirror(since="2026-12-01", until="2026-11-01")
    assert caught.value.parameter == "until"
