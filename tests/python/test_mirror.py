"""Mirrors: Client.mirror()."""

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

from mock_service import MockService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB = 1024
MIB = 1024 * 1024
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
# How often a mirror is killed; raise it for longer searches.
KILL_COUNT = int(os.environ.get("DBSS_TEST_KILLS") or 6)
ARCHIVE_FILES = {"manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock"}


@pytest.fixture(scope="module")
def service(build_dir: Path) -> Iterator[MockService]:
    """A separate service for this file, whose request log can be cleared."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


@dataclass
class Archive:
    """A directory to mirror to, and its instance."""

    mock: MockService
    client: dbss.Client
    directory: Path
    instance: str = field(init=False)

    def __post_init__(self) -> None:
        self.instance = self.mock.add_instance()

    def add(self, **report: Any) -> str:
        values = {"format": "pdf", "instance": self.instance, **report}
        return self.mock.add_report(**values)["id"]

    def add_many(self, count: int, **reports: Any) -> list[str]:
        values = {"instance": self.instance, **reports}
        return self.mock.add_reports(count, **values)

    def mirror(self, **more: Any) -> dbss.MirrorResult:
        values = {"project_id": self.mock.project_id, "instance_id": self.instance, **more}
        return self.client.mirror(self.directory, **values)

    def fails(self, kind: type[dbss.Error], **more: Any) -> Any:
        """Mirrors, and returns the exception, which has exactly this class."""
        with pytest.raises(kind) as caught:
            self.mirror(**more)
        assert caught.type is kind
        return caught.value

    def requested(self) -> Counter[str]:
        """The number of downloads by report; clears the request log."""
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
        """The paths of all files but the archive's own, relative to the archive."""
        found = (one for one in self.directory.rglob("*") if not one.is_dir() or one.is_symlink())
        names = {str(one.relative_to(self.directory)) for one in found}
        return sorted(names - ARCHIVE_FILES)

    def lines(self) -> list[dict[str, Any]]:
        text = (self.directory / "manifest.jsonl").read_text()
        assert text == "" or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def records(self) -> dict[tuple[str, str | None], dict[str, Any]]:
        return {(one["id"], one["locale"]): one for one in self.lines()}

    def path(self, report: str, locale: str | None = None) -> Path:
        return self.directory / self.records()[report, locale]["path"]

    def check(self, reports: list[str], locale: str | None = None, contents: bool = True) -> None:
        """Checks that the archive has exactly these reports, with the right content and records."""
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
            timeout=TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
        if count == 0:
            # sha256sum rejects a file without lines.
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
    until = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < until
        time.sleep(0.002)


def nonzero_counts(result: dbss.MirrorResult) -> dict[str, int]:
    """The counts that are not 0."""
    names = ("listed", "downloaded", "present", "not_ready", "vanished", "failed", "repaired")
    return {name: getattr(result, name) for name in names if getattr(result, name)}


def directory_contents(directory: Path) -> dict[str, bytes | None]:
    return {
        str(one.relative_to(directory)): one.read_bytes() if one.is_file() else None
        for one in directory.rglob("*")
    }


# Successful runs.


def test_mirror_second_run_downloads_nothing(archive: Archive) -> None:
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
    assert nonzero_counts(result) == {"listed": 42, "downloaded": 42}
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
    before = directory_contents(archive.directory)

    result = archive.mirror()
    assert nonzero_counts(result) == {"listed": 42, "present": 42}
    assert archive.requested() == Counter()
    after = directory_contents(archive.directory)
    assert set(after) - set(before) == {"SHA256SUMS"}
    assert before.items() <= after.items()

    new = archive.add()
    assert nonzero_counts(archive.mirror()) == {"listed": 43, "downloaded": 1, "present": 42}
    assert archive.requested() == Counter([new])
    archive.check([*reports, new])


def test_manifest_line_identifies_the_response(archive: Archive) -> None:
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


def test_mirror_files_are_private_to_owner(archive: Archive) -> None:
    archive.add()
    archive.mirror()
    for one in [archive.directory, *archive.directory.rglob("*")]:
        assert one.stat().st_mode & 0o077 == 0, one
    with dbss.Operation(file_mode=0o640) as operation:
        report = archive.add()
        archive.mirror(operation=operation)
    assert archive.path(report).stat().st_mode & 0o777 == 0o640


def test_mirror_of_empty_instance_creates_empty_archive(archive: Archive) -> None:
    assert archive.mirror() == dbss.MirrorResult()
    assert archive.files() == []
    archive.check([])


def test_mirror_without_instance_mirrors_all(build_dir: Path, tmp_path: Path) -> None:
    with MockService(build_dir / "bin/dbss-mock") as mock:
        others = mock.add_instances(3)
        for other in others[:2]:
            mock.add_reports(3, instance=other)
        with dbss.Client(
            endpoint=mock.http, token=mock.token, project_id=mock.project_id
        ) as client:
            result = client.mirror(tmp_path)
        assert nonzero_counts(result) == {"listed": 8, "downloaded": 8}
        directories = {one.name for one in tmp_path.iterdir() if one.is_dir()}
        assert directories == {mock.instance_id, *others[:2]}


def test_mirror_instance_deleted_meanwhile_does_not_stop_others(
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
        assert nonzero_counts(result) == {"listed": 5, "downloaded": 5}


def test_mirror_failed_list_of_instance_does_not_stop_others(
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
        assert nonzero_counts(caught.value.result) == {"listed": 3, "downloaded": 3, "failed": 1}
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
def test_mirror_filters_select_reports(
    archive: Archive, filters: dict[str, Any], wanted: str
) -> None:
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
        # A report without a known day matches every day.
        "e": archive.add(start_time=None, finish_time=None, name="undated", type=week),
        "f": archive.add(start_time="soon", finish_time="later", omit=["type"], name="undated"),
    }
    result = archive.mirror(**filters)
    found = {one["id"] for one in archive.lines()}
    assert found == {reports[letter] for letter in wanted}
    assert nonzero_counts(result).get("downloaded", 0) == result.listed == len(wanted)


def test_mirror_keeps_both_languages(archive: Archive) -> None:
    reports = [archive.add(name="报告")]
    for locale in ("en-us", "zh-cn"):
        assert nonzero_counts(archive.mirror(locale=locale)) == {"listed": 1, "downloaded": 1}
    assert nonzero_counts(archive.mirror()) == {"listed": 1, "downloaded": 1}
    for locale in ("en-us", "zh-cn"):
        assert nonzero_counts(archive.mirror(locale=locale)) == {"listed": 1, "present": 1}
    [report] = reports
    for locale, end in (("en-us", "_en-us.pdf"), ("zh-cn", "_zh-cn.pdf"), (None, ".pdf")):
        path = archive.path(report, locale)
        assert path.name == f"报告_{report}{end}"
        assert path.read_bytes() == archive.expected(report, locale)
    assert archive.path(report, "en-us").read_bytes() != archive.path(report, "zh-cn").read_bytes()
    archive.check_sums(3)


def test_mirror_gaps_are_reported(archive: Archive) -> None:
    for day in ("2026-02-27", "2026-03-02"):
        archive.add(start_time=f"{day} 00:00:00", type="AUDIT_REPORT_DAY")
    for day in ("2025-12-01", "2026-02-01"):
        archive.add(start_time=f"{day} 00:00:00", type="AUDIT_REPORT_MONTH")
    # It is not ready yet, so it is not a gap.
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
def test_mirror_utc_offset_assigns_month(archive: Archive, time: str | int) -> None:
    months = {"type": "AUDIT_REPORT_MONTH", "name": "monthly"}
    january = archive.add(start_time=time, **months)
    march = archive.add(start_time="2026-02-28 16:00:00", **months)
    days = {"since": "2026-01-01", "until": "2026-03-31"}
    result = archive.mirror(utc_offset="+08:00", **days)
    assert nonzero_counts(result) == {"listed": 2, "downloaded": 2}
    assert [str(gap.period) for gap in result.gaps] == ["2026-02-01"]
    assert {one["path"].split("/")[1] for one in archive.lines()} == {"2026"}
    archive.check([january, march])
    # Without an offset, days are in UTC.
    assert archive.mirror(**days).listed == 1
    result = archive.mirror(until="2025-12-31")
    assert result.listed == 1
    assert archive.mirror(since="2026-02-28", until="2026-02-28").listed == 1


@pytest.mark.parametrize("offset", ["", "8", "+25:00", "Asia/Shanghai", "+08:00:00"])
def test_mirror_invalid_utc_offset_is_rejected(archive: Archive, offset: str) -> None:
    assert archive.fails(dbss.InvalidValueError, utc_offset=offset).parameter == "utc_offset"
    assert not archive.directory.exists()


@pytest.mark.parametrize("time", ["soon", "", "31/12/2025", "99999999999999999999", [2026]])
def test_mirror_unreadable_time_excludes_nothing(archive: Archive, time: Any) -> None:
    report = archive.add(start_time=time, omit=["finish_time", "end_time"])
    assert nonzero_counts(archive.mirror(since="2026-03-01", until="2026-03-02")) == {
        "listed": 1,
        "downloaded": 1,
    }
    assert archive.path(report).parent.name == "undated"


def test_mirror_downloads_report_when_it_is_ready(archive: Archive) -> None:
    ready, later = archive.add(), archive.add(percentum=99)
    assert nonzero_counts(archive.mirror()) == {"listed": 2, "downloaded": 1, "not_ready": 1}
    assert archive.requested() == Counter([ready])
    archive.mock.remove_reports([later])
    archive.add(id=later, percentum=100)
    assert nonzero_counts(archive.mirror()) == {"listed": 2, "downloaded": 1, "present": 1}
    archive.check([ready, later])


def test_mirror_keeps_deleted_reports_and_counts_vanished_ones(
    archive: Archive,
) -> None:
    old = archive.add()
    archive.mirror()
    archive.mock.remove_reports([old])
    kept, gone = archive.add(), archive.add()
    archive.mock.delete_after(1, [gone])
    assert nonzero_counts(archive.mirror()) == {"listed": 2, "downloaded": 1, "vanished": 1}
    assert {one["id"] for one in archive.lines()} == {old, kept}
    archive.check_sums(2)


@pytest.mark.parametrize("parallel", [1, 16])
def test_mirror_downloads_as_many_in_parallel_as_requested(archive: Archive, parallel: int) -> None:
    reports = archive.add_many(40)
    archive.mock.fault("*", stall_after=100)
    with dbss.Operation() as operation, ThreadPoolExecutor() as pool:
        call = pool.submit(archive.mirror, parallel=parallel, operation=operation)
        try:
            wait_until(lambda: len(downloads(archive.mock)) >= parallel or call.done())
        finally:
            operation.cancel()
        with pytest.raises(dbss.CancelledError):
            call.result(TIMEOUT)
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
def test_mirror_invalid_argument_is_rejected_at_once(
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
def test_mirror_argument_of_wrong_type_is_rejected(
    archive: Archive, arguments: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        archive.mirror(**arguments)
    with pytest.raises(TypeError):
        archive.client.mirror(None)  # type: ignore[arg-type]
    assert not archive.directory.exists()


# Failures.


def test_mirror_one_failed_report_does_not_stop_others(archive: Archive) -> None:
    reports = archive.add_many(30)
    bad = reports[11]
    body = {"error_code": "DBSS.10000000", "error_msg": "sorry"}
    archive.mock.fault(bad, status=500, json=body)
    error = archive.fails(dbss.PartialError)
    assert isinstance(error, dbss.ServiceError)
    assert "sorry" in error.message
    assert nonzero_counts(error.result) == {"listed": 30, "downloaded": 29, "failed": 1}
    [failure] = error.result.failures
    assert (failure.instance_id, failure.report_id) == (archive.instance, bad)
    assert type(failure.error) is dbss.ServerError
    assert (failure.error.http_status, failure.error.service_code) == (500, "DBSS.10000000")
    archive.check([one for one in reports if one != bad])
    archive.requested()
    archive.mock.clear_faults()
    assert nonzero_counts(archive.mirror()) == {"listed": 30, "downloaded": 1, "present": 29}
    assert archive.requested() == Counter([bad])
    archive.check(reports)


def test_mirror_cut_transfer_is_not_stored(archive: Archive) -> None:
    good, bad = archive.add(size=200 * KIB), archive.add(size=200 * KIB)
    archive.mock.fault(bad, cut_after=100 * KIB)
    error = archive.fails(dbss.PartialError)
    assert type(error.result.failures[0].error) is dbss.TruncatedError
    archive.check([good])


def test_mirror_rejected_credentials_stop_the_run(archive: Archive) -> None:
    reports = archive.add_many(200)
    body = {"error_code": "APIG.0301", "error_msg": "Incorrect IAM authentication information"}
    archive.mock.fault("*", skip=20, status=401, json=body)
    error = archive.fails(dbss.UnauthenticatedError)
    assert error.service_code == "APIG.0301"
    assert error.result.listed == 200
    assert 17 <= error.result.downloaded <= 20
    # Twenty, and one for each running download.
    assert 21 <= sum(archive.requested().values()) <= 24
    archive.mock.clear_faults()
    assert archive.mirror().present >= error.result.downloaded
    archive.check(reports)


def test_mirror_failed_list_is_an_error_and_changes_nothing(archive: Archive) -> None:
    reports = archive.add_many(3)
    archive.mirror()
    archive.add()
    archive.mock.fault("@reports.list", status=503)
    error = archive.fails(dbss.ServerError)
    assert nonzero_counts(error.result) == {}
    archive.check(reports)


def test_mirror_checksum_file_error_does_not_hide_others(archive: Archive) -> None:
    (archive.directory / "SHA256SUMS").mkdir(parents=True)
    report = archive.add()
    assert "SHA256SUMS" in archive.fails(dbss.NotRegularFileError).message
    assert {one["id"] for one in archive.lines()} == {report}
    archive.mock.fault("@reports.list", status=401, times=1)
    archive.fails(dbss.UnauthenticatedError)


def test_mirror_second_call_is_rejected(archive: Archive) -> None:
    slow, other = archive.add(), archive.add()
    archive.mock.fault(slow, stall_after=100)
    with dbss.Operation() as operation, ThreadPoolExecutor() as pool:
        call = pool.submit(archive.mirror, operation=operation)
        try:
            wait_until(lambda: slow in downloads(archive.mock))
            error = archive.fails(dbss.MirrorLockedError)
            assert isinstance(error, dbss.FileError)
            assert str(archive.directory) in error.message
            # Another directory is another archive.
            archive.client.mirror(
                archive.directory.with_name("other"),
                project_id=archive.mock.project_id,
                instance_id=archive.mock.instance_id,
            )
        finally:
            operation.cancel()
        with pytest.raises(dbss.CancelledError):
            call.result(TIMEOUT)
    archive.mock.clear_faults()
    archive.mirror()
    archive.check([slow, other])


def test_mirror_continues_after_cancel(archive: Archive) -> None:
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
            call.result(TIMEOUT)
        assert nonzero_counts(caught.value.result) == {"listed": 50, "downloaded": 49}
        assert operation.error is not None
    archive.check(reports[1:], contents=False)
    archive.mock.clear_faults()
    archive.requested()
    assert nonzero_counts(archive.mirror()) == {"listed": 50, "downloaded": 1, "present": 49}
    assert archive.requested() == Counter([slow])
    archive.check(reports)


def test_mirror_is_ended_by_ctrl_c_and_progress_function(archive: Archive) -> None:
    slow, other = archive.add(), archive.add()
    archive.mock.fault(slow, stall_after=100)

    def interrupt() -> None:
        wait_until(lambda: slow in downloads(archive.mock))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        archive.mirror()
    thread.join(TIMEOUT)

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


def test_mirror_continues_after_kill(archive: Archive) -> None:
    """Kills child processes at random moments."""
    reports = archive.add_many(500)
    fork = multiprocessing.get_context("fork")
    chance = random.Random(11)
    manifest = archive.directory / "manifest.jsonl"

    def size() -> int:
        return manifest.stat().st_size if manifest.exists() else 0

    killed = 0
    for _ in range(1000):
        # A file with its final name is complete, even without a line in the manifest.
        whole = {name for name in archive.files() if not name.endswith(".part")}
        child = fork.Process(target=archive.mirror)
        child.start()
        if killed < KILL_COUNT:
            # Within the next reports, or before the first.
            until = size() + chance.randrange(2 * 500 // KILL_COUNT) * 350
            wait_until(lambda n=until, c=child: size() >= n or not c.is_alive())
            time.sleep(chance.uniform(0, 0.005))
            child.kill()
            killed += 1
        child.join(TIMEOUT)
        assert child.exitcode in (0, -signal.SIGKILL)
        again = {report for report in archive.requested() for name in whole if report in name}
        assert again == set()
        if child.exitcode == 0:
            break
    assert child.exitcode == 0
    assert len(archive.lines()) == 500
    assert len({one["id"] for one in archive.lines()}) == 500
    # Partial files remain, but never with the name of a report.
    for name in archive.files():
        if name.endswith(".part"):
            (archive.directory / name).unlink()
    archive.check(reports)


# The manifest and the files.


def test_manifest_torn_last_line_is_repaired(archive: Archive) -> None:
    reports = archive.add_many(5)
    archive.mirror()
    archive.requested()
    manifest = archive.directory / "manifest.jsonl"
    whole = manifest.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in (last + 1, len(whole) - 20, len(whole) - 1):
        manifest.write_bytes(whole[:cut])
        assert nonzero_counts(archive.mirror()) == {"listed": 5, "present": 5}
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
def test_manifest_invalid_line_is_an_error_and_changes_nothing(
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
    before = directory_contents(archive.directory)
    error = archive.fails(dbss.FileError)
    assert f"line 2 of {manifest}" in error.message
    assert directory_contents(archive.directory) == before
    assert archive.mock.requests() == []


def mirror_warnings(archive: Archive) -> list[str]:
    """Mirrors with a logging client, and returns the warnings."""
    found: list[str] = []

    def log(record: dbss.LogRecord) -> None:
        if record.level == dbss.LOG_WARNING:
            found.append(record.message)

    mock = archive.mock
    with dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client:
        client.mirror(archive.directory, project_id=mock.project_id, instance_id=archive.instance)
    return found


def test_manifest_torn_last_line_logs_warning(archive: Archive) -> None:
    archive.add_many(2)
    assert mirror_warnings(archive) == []
    manifest = archive.directory / "manifest.jsonl"
    whole = manifest.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in (last + 1, last + 5, len(whole) - 20):
        manifest.write_bytes(whole[:cut])
        [warning] = mirror_warnings(archive)
        assert f"last line of {manifest}, number 2, " in warning
        assert f"({cut - last} bytes)" in warning


def test_manifest_last_line_without_newline_is_kept(archive: Archive) -> None:
    archive.add_many(3)
    archive.mirror()
    manifest = archive.directory / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-1])
    assert mirror_warnings(archive) == []
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
def test_manifest_foreign_last_line_is_an_error_and_stays(
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
def test_manifest_endless_line_is_an_error(archive: Archive, start: bytes) -> None:
    archive.directory.mkdir(exist_ok=True)
    manifest = archive.directory / "manifest.jsonl"
    manifest.write_bytes(start)
    os.truncate(manifest, 3 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = archive.fails(dbss.FileError)
    assert f"line 1 of {manifest} is longer than 1 MiB" in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * KIB
    assert manifest.stat().st_size == 3 << 30


def test_mirror_adopts_files_without_manifest(archive: Archive) -> None:
    reports = archive.add_many(6)
    archive.mirror()
    archive.requested()
    (archive.directory / "manifest.jsonl").unlink()
    (archive.directory / "SHA256SUMS").unlink()
    assert nonzero_counts(archive.mirror()) == {"listed": 6, "present": 6}
    assert archive.requested() == Counter()
    assert all(one["request_id"] is one["date"] is None for one in archive.lines())
    archive.check(reports)


# Pairs of reports, by name and id, whose file names are the same or differ only in case.
# In ids, ONE and TWO are replaced by unique values.
COLLIDING_NAMES = [
    (("x", "ONE_TWO"), ("x_ONE", "TWO")),
    (("x", "Case-ONE"), ("x", "cASE-ONE")),
    (("Straße", "Case-ONE"), ("STRASSE", "case-ONE")),
    (("\u00e9", "ONE_TWO"), ("e\u0301_ONE", "TWO")),
]


@pytest.fixture(params=COLLIDING_NAMES, ids=["underscore", "case", "case of names", "normal forms"])
def colliding_reports(request: pytest.FixtureRequest) -> list[dict[str, str]]:
    one, other = secrets.token_hex(8), secrets.token_hex(8)

    def fresh(text: str) -> str:
        return text.replace("ONE", one).replace("TWO", other)

    return [{"name": fresh(name), "id": fresh(report)} for name, report in request.param]


def check_distinct_files(archive: Archive, reports: list[str], locale: str | None = None) -> None:
    """Checks that each report has its own file, on any file system."""
    archive.check(reports, locale)
    names = {unicodedata.normalize("NFC", name).lower() for name in archive.files()}
    assert len(names) == len(reports)


@pytest.mark.parametrize("order", [1, -1])
def test_mirror_reports_with_colliding_names_get_distinct_files(
    archive: Archive, colliding_reports: list[dict[str, str]], order: int
) -> None:
    reports = [archive.add(**one) for one in colliding_reports[::order]]
    assert nonzero_counts(archive.mirror()) == {"listed": 2, "downloaded": 2}
    check_distinct_files(archive, reports)
    assert nonzero_counts(archive.mirror(verify=True)) == {"listed": 2, "present": 2}
    # Also if only the files remain.
    (archive.directory / "manifest.jsonl").unlink()
    archive.mirror()
    check_distinct_files(archive, reports)


@pytest.mark.parametrize("order", [1, -1])
def test_mirror_never_reuses_file_of_another_report(
    archive: Archive, colliding_reports: list[dict[str, str]], order: int
) -> None:
    reports = [archive.add(**colliding_reports[::order][0])]
    archive.mirror()
    before = archive.path(reports[0]).read_bytes()
    reports.append(archive.add(**colliding_reports[::order][1]))
    assert nonzero_counts(archive.mirror()) == {"listed": 2, "downloaded": 1, "present": 1}
    assert archive.path(reports[0]).read_bytes() == before
    check_distinct_files(archive, reports)


def test_mirror_file_without_manifest_line_is_not_used_for_another_report(
    archive: Archive, colliding_reports: list[dict[str, str]]
) -> None:
    """A run was killed before it wrote the line, and then only the other report is requested."""
    archive.add(**colliding_reports[0])
    archive.mirror()
    (archive.directory / "manifest.jsonl").unlink()
    archive.add(**colliding_reports[1])
    archive.mirror(name=colliding_reports[1]["name"])
    for (report, _), record in archive.records().items():
        data = (archive.directory / record["path"]).read_bytes()
        assert data == archive.expected(report)


def check_contents(archive: Archive, locale: str | None = None) -> None:
    """Checks that the file of each line is that report's."""
    for (report, line_locale), record in archive.records().items():
        if line_locale == locale:
            data = (archive.directory / record["path"]).read_bytes()
            assert data == archive.expected(report, locale)


def test_mirror_file_of_deleted_report_is_not_used_for_another(archive: Archive) -> None:
    one, other = secrets.token_hex(8), secrets.token_hex(8)
    archive.add(name="x", id=f"{one}_{other}")
    archive.mirror()
    [left] = archive.files()
    before = (archive.directory / left).read_bytes()
    (archive.directory / "manifest.jsonl").unlink()
    archive.mock.remove_reports([f"{one}_{other}"])
    archive.add(name=f"x_{one}", id=other)
    assert nonzero_counts(archive.mirror()) == {"listed": 1, "downloaded": 1}
    check_contents(archive)
    assert (archive.directory / left).read_bytes() == before
    assert nonzero_counts(archive.mirror(verify=True)) == {"listed": 1, "present": 1}


@pytest.mark.parametrize("locale", ["en-us", "zh-cn"])
def test_mirror_file_with_locale_is_not_used_for_another_report(
    archive: Archive, locale: str
) -> None:
    plain = archive.add(name="x")
    archive.mirror(locale=locale)
    (archive.directory / "manifest.jsonl").unlink()
    archive.add(name="x", id=f"{plain}_{locale}")
    archive.mirror()
    check_contents(archive)


def test_mirror_file_in_manifest_is_not_adopted_by_another_report(archive: Archive) -> None:
    """As on a file system that treats two names as the same."""
    first = archive.add(name="\u00e9")
    archive.mirror()
    path = archive.path(first)
    data = path.read_bytes()
    second = archive.add(name="e\u0301")
    third = archive.add(name="e\u0301e\u0301")
    for name, report in (("e\u0301", second), ("e\u0301e\u0301", third)):
        os.link(path, path.parent / f"{name}_{report}.pdf")
    assert nonzero_counts(archive.mirror()) == {"listed": 3, "downloaded": 2, "present": 1}
    check_contents(archive)
    assert path.read_bytes() == data
    assert len({(archive.directory / one["path"]).stat().st_ino for one in archive.lines()}) == 3


@pytest.mark.parametrize("downloaded", [0, 1, None])
def test_mirror_file_shared_by_manifest_lines_is_repaired(
    archive: Archive, colliding_reports: list[dict[str, str]], downloaded: int | None
) -> None:
    """As earlier versions left it: the line of one report names the file of another."""
    reports = [archive.add(**colliding_reports[0])]
    archive.mirror()
    manifest = archive.directory / "manifest.jsonl"
    reports.append(archive.add(**colliding_reports[1]))
    line = archive.lines()[0]
    path = archive.path(reports[0])
    # On a case-insensitive file system both names are the same file.
    shared = path.parent / f"{colliding_reports[1]['name']}_{colliding_reports[1]['id']}.pdf"
    if path != shared:
        os.link(path, shared)
    other = {"id": colliding_reports[1]["id"], "name": colliding_reports[1]["name"]}
    other["path"] = str(shared.relative_to(archive.directory))
    found = [line, {**line, **other}]
    for index, one in enumerate(found):
        if index != downloaded:
            one["date"] = one["request_id"] = None
    # The file has the report whose line has a download date.
    if downloaded == 1:
        path.write_bytes(archive.expected(reports[1]))
        data = path.read_bytes()
        found = [{**one, "size": len(data), "sha256": sha256(data)} for one in found]
    manifest.write_text("".join(json.dumps(one) + "\n" for one in found))
    result = archive.mirror(verify=True)
    repaired = 2 if downloaded is None else 1
    assert nonzero_counts(result) == {"listed": 2, "repaired": repaired} | (
        {"present": 1} if repaired == 1 else {}
    )
    records = archive.records()
    assert len({record["path"].lower() for record in records.values()}) == 2
    for (report, _), record in records.items():
        data = (archive.directory / record["path"]).read_bytes()
        assert data == archive.expected(report)
        assert record["sha256"] == sha256(data)
    assert nonzero_counts(archive.mirror(verify=True)) == {"listed": 2, "present": 2}
    archive.check_sums(2)


def test_mirror_id_ending_with_locale_is_not_that_locale(archive: Archive) -> None:
    plain = archive.add(name="x")
    other = archive.add(name="x", id=f"{plain}_en-us")
    archive.mirror(name="x")
    archive.mirror(locale="en-us")
    for (report, locale), record in archive.records().items():
        data = (archive.directory / record["path"]).read_bytes()
        assert data == archive.expected(report, locale)
    assert len(archive.lines()) == 4 == len(archive.files())
    assert {plain, other} == {report for report, _ in archive.records()}


def test_mirror_missing_file_is_downloaded_again(archive: Archive) -> None:
    reports = archive.add_many(4)
    archive.mirror()
    archive.requested()
    archive.path(reports[2]).unlink()
    assert nonzero_counts(archive.mirror()) == {"listed": 4, "downloaded": 1, "present": 3}
    assert archive.requested() == Counter([reports[2]])
    archive.check(reports)


def test_mirror_damaged_file_is_repaired(archive: Archive) -> None:
    reports = archive.add_many(4)
    archive.mirror()
    archive.requested()
    same, shorter = archive.path(reports[1]), archive.path(reports[2])
    good = same.read_bytes()
    same.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    damaged = same.read_bytes()
    shorter.write_bytes(shorter.read_bytes()[:-1])
    # Without verify, only the sizes are compared.
    assert nonzero_counts(archive.mirror()) == {"listed": 4, "present": 3, "repaired": 1}
    assert archive.requested() == Counter([reports[2]])
    assert same.read_bytes() == damaged
    # A file that cannot be repaired is unchanged.
    archive.mock.fault(reports[1], status=500, times=1)
    error = archive.fails(dbss.PartialError, verify=True)
    assert nonzero_counts(error.result) == {"listed": 4, "present": 3, "failed": 1}
    assert same.read_bytes() == damaged
    archive.requested()
    assert nonzero_counts(archive.mirror(verify=True)) == {"listed": 4, "present": 3, "repaired": 1}
    assert archive.requested() == Counter([reports[1]])
    archive.check(reports)
    archive.requested()
    assert nonzero_counts(archive.mirror(verify=True)) == {"listed": 4, "present": 4}
    assert archive.requested() == Counter()


PAGE = b"<!-- a login page --><html>"


@pytest.mark.parametrize("body", [PAGE, b"Access denied", b"", b"\0\1\2\3"])
def test_mirror_stored_non_report_is_repaired_by_verify(archive: Archive, body: bytes) -> None:
    reports = archive.add_many(3)
    archive.mirror()
    # As an older library stored it, with a matching hash.
    archive.path(reports[1]).write_bytes(body)
    records = archive.records()
    records[reports[1], None] |= {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    lines = "".join(json.dumps(record) + "\n" for record in records.values())
    (archive.directory / "manifest.jsonl").write_text(lines)
    assert nonzero_counts(archive.mirror()) == {"listed": 3, "present": 3}
    assert nonzero_counts(archive.mirror(verify=True)) == {"listed": 3, "present": 2, "repaired": 1}
    archive.check(reports)
    # Without its line in the manifest it is not adopted either.
    path = archive.path(reports[1])
    path.write_bytes(body)
    del records[reports[1], None]
    lines = "".join(json.dumps(record) + "\n" for record in records.values())
    (archive.directory / "manifest.jsonl").write_text(lines)
    assert nonzero_counts(archive.mirror()) == {"listed": 3, "present": 2, "repaired": 1}
    archive.check(reports)


@pytest.mark.parametrize("body", [PAGE, b"Access denied", b"\0\1\2\3"])
def test_mirror_non_report_is_not_stored(archive: Archive, body: bytes) -> None:
    reports = archive.add_many(3)
    archive.mock.fault(reports[1], body=body.decode(), times=1)
    error = archive.fails(dbss.PartialError)
    assert nonzero_counts(error.result) == {"listed": 3, "downloaded": 2, "failed": 1}
    [failure] = error.result.failures
    assert isinstance(failure.error, dbss.UnexpectedResponseError)
    archive.check([reports[0], reports[2]])
    assert nonzero_counts(archive.mirror()) == {"listed": 3, "downloaded": 1, "present": 2}
    archive.check(reports)


# Hostile responses, and invalid directories.

HOSTILE_NAMES = [
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


def test_mirror_hostile_names_stay_in_directory(archive: Archive) -> None:
    reports = [archive.add(name=name) for name in HOSTILE_NAMES]
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
    # A C string cannot hold the first character.
    assert names >= {name.replace("\0", "\ufffd") for name in HOSTILE_NAMES}


def test_mirror_hostile_report_id_fails_only_that_report(archive: Archive) -> None:
    good = archive.add()
    archive.add(extra={"id": "../../../../escape"})
    archive.add(extra={"id": "a/../../b"})
    error = archive.fails(dbss.PartialError)
    assert nonzero_counts(error.result) == {"listed": 3, "downloaded": 1, "failed": 2}
    assert {type(one.error) for one in error.result.failures} == {dbss.InvalidIdError}
    assert os.listdir(archive.directory.parent) == [archive.directory.name]
    archive.check([good])


def test_mirror_token_in_list_appears_in_no_file_name_or_message(archive: Archive) -> None:
    token = archive.mock.token
    part = token[100:160]
    # A truncated name must not contain a part of the token either.
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
        assert nonzero_counts(error.result) == {"listed": 5, "downloaded": 3, "failed": 2}
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
def test_mirror_invalid_instance_id_fails_only_that_instance(
    instance: str, archive: Archive
) -> None:
    reports = archive.add_many(2)
    items = [{"id": one, "name": "x", "status": "ACTIVE"} for one in (instance, archive.instance)]
    archive.mock.fault("@instances", json={"servers": items, "total": 2}, times=1)
    error = archive.fails(dbss.PartialError, instance_id=None)
    assert nonzero_counts(error.result) == {"listed": 2, "downloaded": 2, "failed": 1}
    [failure] = error.result.failures
    assert (failure.instance_id, failure.report_id) == (instance, None)
    assert type(failure.error) is dbss.InvalidIdError
    assert os.listdir(archive.directory.parent) == [archive.directory.name]
    archive.check(reports)


def test_mirror_instance_without_id_is_an_error(archive: Archive) -> None:
    item = {"id": "", "name": "x", "status": "ACTIVE"}
    archive.mock.fault("@instances", json={"servers": [item], "total": 1}, times=1)
    archive.fails(dbss.UnexpectedResponseError, instance_id=None)
    assert set(os.listdir(archive.directory)) <= ARCHIVE_FILES


def test_mirror_name_with_invalid_escape_is_downloaded(archive: Archive) -> None:
    """An escape without a character. The body cannot hold invalid UTF-8."""
    good = archive.add()
    body = b'{"reports":[{"report":{"id":"%b","name":"a\\ud800b","format":"pdf"}}],"total":1}'
    archive.mock.fault("@reports.list", body=(body % good.encode()).decode(), times=1)
    assert nonzero_counts(archive.mirror()) == {"listed": 1, "downloaded": 1}
    archive.check([good])


def test_mirror_directory_that_is_a_file_is_an_error(archive: Archive) -> None:
    archive.add()
    archive.directory.write_text("mine")
    assert archive.fails(dbss.FileError).os_code == 17
    assert archive.directory.read_text() == "mine"
    archive.directory.unlink()
    archive.directory.symlink_to("nowhere")
    archive.fails(dbss.FileError)
    assert os.listdir(archive.directory.parent) == [archive.directory.name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_mirror_directory_without_permission_is_an_error(archive: Archive) -> None:
    archive.add()
    archive.directory.mkdir(0o500)
    assert archive.fails(dbss.FileError).os_code == 13
    assert os.listdir(archive.directory) == []


@pytest.mark.parametrize("name", sorted(ARCHIVE_FILES))
def test_mirror_symlink_in_place_of_own_file_is_not_followed(archive: Archive, name: str) -> None:
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
def test_mirror_symlink_in_place_of_report_fails_only_that_report(
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
def file_size_limit(size: int) -> Iterator[None]:
    """RLIMIT_FSIZE simulates a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_mirror_full_disk_stops_the_run(archive: Archive) -> None:
    small = archive.add_many(3)
    archive.mirror()
    big = archive.add_many(60, format="bytes", size=64 * KIB)
    archive.requested()
    with file_size_limit(16 * KIB):
        error = archive.fails(dbss.DiskFullError)
    assert error.result.present == 3
    assert 1 <= sum(archive.requested().values()) <= 8
    archive.check(small, contents=False)
    assert archive.mirror().downloaded == 60
    archive.check([*small, *big])


def test_mirror_full_disk_for_manifest_leaves_valid_manifest(archive: Archive) -> None:
    reports = archive.add_many(30, format="bytes", size=200)
    limit = 1000
    with file_size_limit(limit):
        error = archive.fails(dbss.DiskFullError)
    assert "manifest.jsonl" in error.message
    kept = archive.directory / "manifest.jsonl"
    # All lines are complete, but for a partial last one, which does not count.
    lines = kept.read_bytes().split(b"\n")
    assert all(json.loads(line) for line in lines[:-1])
    whole = {name for name in archive.files() if not name.endswith(".part")}
    archive.requested()
    archive.mirror()
    assert not [one for one in archive.requested() if any(one in name for name in whole)]
    archive.check(reports)


def test_mirror_disk_space_freed_meanwhile_leaves_valid_manifest(archive: Archive) -> None:
    """As when the partial files of cancelled downloads are deleted."""
    reports = archive.add_many(60, format="bytes", size=200)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    over = threading.Event()

    def make_room(manifest: Path) -> None:
        # The limit is reached within a line.
        while not over.is_set() and not (manifest.exists() and manifest.stat().st_size == 1000):
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    parent = archive.directory
    for turn in range(5):
        archive.directory = parent / str(turn)
        over.clear()
        thread = threading.Thread(target=make_room, args=(archive.directory / "manifest.jsonl",))
        thread.start()
        # The space may be freed in time.
        with file_size_limit(1000), contextlib.suppress(dbss.DiskFullError):
            archive.mirror()
        over.set()
        thread.join(TIMEOUT)
        archive.mirror()
        archive.check(reports, contents=False)


def mirror_with_file_size_limit(archive: Archive, limit: int) -> None:
    """Mirrors in a process with a file size limit; exits with 0 if the error is right."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    error = archive.fails(dbss.DiskFullError)
    assert error.os_code == errno.EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(archive.lines()) > 0
    os._exit(0)


def test_mirror_file_size_limit_for_own_files_is_an_error(archive: Archive) -> None:
    reports = archive.add_many(40, size=6000)
    child = multiprocessing.get_context("fork").Process(
        target=mirror_with_file_size_limit, args=(archive, 7000)
    )
    child.start()
    child.join(TIMEOUT)
    assert child.exitcode == 0
    assert 0 < len(archive.lines()) < 40
    archive.mirror()
    archive.check(reports)


class EndlessListHandler(BaseHTTPRequestHandler):
    """Endless lists of reports: each page has a thousand new ones."""

    protocol_version = "HTTP/1.1"
    reports = 0
    lists = 0
    # The first list of reports is empty.
    begins_empty = False
    name = ""
    instances = ("0" * 32,)

    def respond(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if "templates" in self.path:
            template = {"id": "t" * 16, "name": "daily"}
            self.respond({"templates": [{"template": template}], "total": 1})
        else:
            self.respond({"servers": [{"id": one} for one in self.instances], "total": 1})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = type(self)
        if self.path.endswith("/create"):
            self.respond({"result": "success"})
            return
        kind.lists += 1
        if kind.begins_empty and kind.lists == 1:
            self.respond({"reports": [], "total": 0})
            return
        items = [
            {"report": {"id": f"{kind.reports + one:020}", "name": kind.name, "format": "pdf"}}
            for one in range(1000)
        ]
        kind.reports += 1000
        self.respond({"reports": items, "total": 10**9})

    def log_message(self, *_: Any) -> None:
        pass


def call_with_endless_list(tmp_path: Path, call: str, **settings: Any) -> None:
    """Makes a call that reads an endless list of a server in a child process."""
    service = type("Service", (EndlessListHandler,), settings)
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


def check_memory(tmp_path: Path, call: str, **settings: Any) -> None:
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 220 * KIB
    with pytest.raises(dbss.Error) as caught:
        call_with_endless_list(tmp_path, call, **settings)
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
def test_endless_list_uses_bounded_memory(
    tmp_path: Path, call: str, settings: dict[str, Any]
) -> None:
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=check_memory, args=(tmp_path, call), kwargs=settings)
    child.start()
    child.join(2 * TIMEOUT)
    assert child.exitcode == 0


def mirror_with_descriptor_limit(archive: Archive, count: int) -> None:
    """Mirrors in a process with few free descriptors; the exit code is the outcome."""
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


def test_mirror_with_few_descriptors_uses_fewer_threads(archive: Archive) -> None:
    archive.add_many(40)
    fork = multiprocessing.get_context("fork")
    ended = {}
    for count in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32):
        child = fork.Process(target=mirror_with_descriptor_limit, args=(archive, count))
        child.start()
        child.join(TIMEOUT)
        ended[count] = child.exitcode
        assert len(archive.lines()) in (0, 40)
        if archive.directory.exists():
            archive.directory.rename(archive.directory.with_name(f"with {count}"))
    assert {count: code for count, code in ended.items() if count > 6} == {
        count: 0 for count in ended if count > 6
    }
    assert {code for count, code in ended.items() if count <= 4} == {2}


def test_mirror_large_reports_use_little_memory(
    archive: Archive, environment: dict[str, str]
) -> None:
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
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    archive.check_sums(6)
    print(done.stdout)
    downloaded, grown = map(int, done.stdout.split())
    assert downloaded == 6
    # In KiB.
    assert grown < 12 * KIB


def test_mirror_until_before_since_is_rejected(archive: Archive) -> None:
    with pytest.raises(dbss.InvalidValueError) as caught:
        archive.mirror(since="2026-12-01", until="2026-11-01")
    assert caught.value.parameter == "until"
