"""Transfers: files, streams, progress, cancel, stalls, retries and resume, as Python sees them."""

from __future__ import annotations

import base64
import contextlib
import functools
import gc
import gzip
import hashlib
import io
import itertools
import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, c_int32, py_object
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest
from dbss import _abi as abi
from dbss import ffi
from dbss import log as log_module
from dbss import operation as operation_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mock_service import MockService

KIB = 1024
MIB = 1024 * 1024
# No wait here comes near; it only bounds what would hang.
BOUND = 60.0
# What the library promises is 100 ms for a cancel and 250 ms for a callback or a
# signal; the rest is for the machine's noise. The times are printed.
SOON = 1.0


@pytest.fixture
def client(mock: MockService) -> Iterator[dbss.Client]:
    with dbss.Client(endpoint=mock.http, token=mock.token) as one:
        yield one


@pytest.fixture(autouse=True)
def no_faults_left(mock: MockService) -> Iterator[None]:
    yield
    mock.clear_faults()
    mock.clear_listener_faults()


@pytest.fixture
def make(mock: MockService) -> Callable[..., Report]:
    def make_report(size: int = 300 * KIB, format: str = "bytes", **fault: Any) -> Report:
        facts = mock.add_report(format=format, size=size)
        report = Report(mock, facts)
        if fault:
            report.fault(**fault)
        return report

    return make_report


@dataclass
class Report:
    mock: MockService
    facts: dict[str, Any]

    @property
    def id(self) -> str:
        return self.facts["id"]

    @property
    def ids(self) -> tuple[str, str, str]:
        return self.mock.project_id, self.mock.instance_id, self.id

    @property
    def size(self) -> int:
        return self.facts["sizes"]["en-us"]

    @property
    def sha256(self) -> str:
        return self.facts["sha256"]["en-us"]

    def fault(self, **fault: Any) -> None:
        self.mock.fault(self.id, **fault)

    def change(self) -> None:
        self.facts = self.mock.new_version(self.id)

    def requests(self) -> list[dict[str, Any]]:
        return self.mock.requests(self.id)

    def headers(self, name: str) -> list[str | None]:
        """This header of each request."""
        return [
            next((value for key, value in one["headers"] if key.lower() == name), None)
            for one in self.requests()
        ]


def sha256(data: bytes | Path) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()


def python(code: str, environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of its own, which finds the package."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=BOUND,
    )


def told(report: Report) -> dict[str, str]:
    """What a program of its own is told of a report."""
    return {
        "ENDPOINT": report.mock.http,
        "TOKEN": report.mock.token,
        "IDS": ",".join(report.ids),
    }


# Ways to download, each of which gives the bytes in the end.


class Writer:
    """Takes bytes, and is no file."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        self.parts.append(data)


def to_bytes(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    return client.download_report(*report.ids, **more)


def to_file(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    path = directory / report.id
    try:
        assert client.download_report_to(*report.ids, path, **more) == path
    except BaseException:
        # No half file, whatever went wrong.
        assert list(directory.iterdir()) == []
        raise
    return path.read_bytes()


def to_directory(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    try:
        path = client.download_report_to(*report.ids, directory, **more)
    except BaseException:
        assert list(directory.iterdir()) == []
        raise
    assert path.parent == directory
    return path.read_bytes()


def to_descriptor(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    with tempfile.TemporaryFile() as file:
        assert client.download_report_to(*report.ids, file.fileno(), **more) is None
        file.seek(0)
        return file.read()


def to_writer(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    writer = Writer()
    assert client.download_report_to(*report.ids, writer, **more) is None
    return b"".join(writer.parts)


def by_stream(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    with client.open_report(*report.ids, **more) as stream:
        return stream.read()


WAYS = [to_bytes, to_file, to_directory, to_descriptor, to_writer, by_stream]
# What can forget what came, and so begin again.
FORGETFUL = [to_bytes, to_file, to_directory]

every_way = pytest.mark.parametrize("way", WAYS)


@every_way
@pytest.mark.parametrize("listener", ["http", "https"])
def test_a_report_arrives_right_to_the_byte(
    mock: MockService,
    make: Callable[..., Report],
    tmp_path: Path,
    way: Callable[..., bytes],
    listener: str,
) -> None:
    report = make(5 * MIB + 1, "pdf")
    with dbss.Client(
        endpoint=getattr(mock, listener), token=mock.token, ca_file=mock.ca_file
    ) as client:
        got = way(client, report, tmp_path, locale="zh-cn")
    assert sha256(got) == report.facts["sha256"]["zh-cn"]


# Broken transfers.


@every_way
def test_a_transfer_cut_at_random_places_is_whole_in_the_end(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    def download(seed: int) -> int:
        # Bytes of no format, and a length that is no multiple of anything.
        report = make(200_003)
        at = random.Random(seed).choice(([0, 10], [0, 200_003], [199_900, 200_003]))
        cut = {"seed": seed, "least": at[0], "most": at[1], "kind": "any"}
        report.fault(cut_random=cut, times=2, framing=("length", "chunked")[seed % 2])
        directory = tmp_path / str(seed)
        directory.mkdir()
        operation = dbss.Operation()
        got = way(client, report, directory, operation=operation)
        assert len(got) == report.size
        assert sha256(got) == report.sha256
        assert operation.received == report.size
        return operation.attempts

    with ThreadPoolExecutor(16) as pool:
        attempts = list(pool.map(download, range(48), timeout=BOUND))
    # A cut at the very end is none.
    assert sum(one >= 3 for one in attempts) > 20


@every_way
def test_a_transfer_that_is_cut_once_is_resumed(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make(3 * MIB, reset_after=1_234_567, times=1)
    operation = dbss.Operation()
    seen: list[dbss.Progress] = []
    got = way(client, report, tmp_path, operation=operation, progress=seen.append)
    assert sha256(got) == report.sha256
    assert report.headers("range") == [None, "bytes=1234567-"]
    assert [one["status"] for one in report.requests()] == [200, 206]
    assert sum(one["sent"] for one in report.requests()) <= report.size + 64 * KIB
    assert operation.attempts == 2
    assert operation.resumed == 1_234_567
    assert (operation.received, operation.total) == (report.size, report.size)
    assert operation.error is None
    assert seen[0] == dbss.Progress(0, None, 0, 0)
    assert seen[-1] == dbss.Progress(report.size, report.size, 1_234_567, 2)


@every_way
@pytest.mark.parametrize(
    "fault",
    [
        {"cut_after": 1000},
        {"reset_after": 1000},
        {"framing": "chunked", "cut_after": 1000},
        {"chunked_no_end": True},
        {"content_length": "400000"},
        {"extra_content_length": "7"},
        {"raw_base64": "AAAA"},
        {"endless_header": True},
        {"gzip": True},
        {"framing": "close"},
        {"status": 206},
        {"body": ""},
        {"json": {"error_code": "DBSS.1"}},
    ],
)
def test_what_is_not_whole_is_an_error_and_leaves_nothing(
    make: Callable[..., Report],
    mock: MockService,
    tmp_path: Path,
    way: Callable[..., bytes],
    fault: dict[str, Any],
) -> None:
    report = make(300 * KIB, **fault)
    with (
        dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=1) as client,
        pytest.raises((dbss.NetworkError, dbss.ServiceError)),
    ):
        way(client, report, tmp_path)


@every_way
def test_text_in_place_of_a_report_is_refused_and_leaves_nothing(
    make: Callable[..., Report], mock: MockService, tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make(300, body="<!-- confidential --><html>", times=1)
    with (
        dbss.Client(endpoint=mock.http, token=mock.token) as client,
        pytest.raises(dbss.UnexpectedResponseError) as caught,
    ):
        way(client, report, tmp_path)
    assert "web page" in caught.value.message
    assert "confidential" not in caught.value.message
    left = [one for one in tmp_path.rglob("*") if one.is_file() and one.stat().st_size]
    assert left == []


@pytest.mark.parametrize("blank", [5, 511, 512, 600, 1024, 5000])
def test_a_report_behind_white_space_is_one(
    mock: MockService, make: Callable[..., Report], blank: int
) -> None:
    body = "\n" * blank + "%PDF-1.7 and so on"
    report = make(300, body=body, times=1)
    with dbss.Client(endpoint=mock.http, token=mock.token) as client:
        got = client.download_report(mock.project_id, mock.instance_id, report.facts["id"])
    assert got == body.encode()


@pytest.mark.parametrize(("blank", "said"), [(600, "empty body"), (20_000, "text")])
def test_white_space_alone_is_no_report(
    mock: MockService, make: Callable[..., Report], blank: int, said: str
) -> None:
    report = make(300, body=" " * blank, times=1)
    with (
        dbss.Client(endpoint=mock.http, token=mock.token) as client,
        pytest.raises(dbss.UnexpectedResponseError) as caught,
    ):
        client.download_report(mock.project_id, mock.instance_id, report.facts["id"])
    assert said in caught.value.message


def change_in_the_midst(report: Report) -> Callable[[dbss.Progress], None]:
    """A progress function that changes the report as soon as some of it has come."""

    def progress(now: dbss.Progress) -> None:
        if now.received and report.facts["version"] == before:
            report.change()

    before = report.facts["version"]
    return progress


@every_way
def test_a_report_that_changed_meanwhile_is_never_mixed(
    mock: MockService, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make(300 * KIB, stall_after=100_000, times=1)
    old = report.sha256
    with dbss.Client(endpoint=mock.http, token=mock.token, stall_timeout=0.3) as client:
        call = (client, report, tmp_path)
        if way in FORGETFUL:
            got = way(*call, progress=change_in_the_midst(report))
            assert sha256(got) == report.sha256 != old
        else:
            with pytest.raises(dbss.NotResumableError):
                way(*call, progress=change_in_the_midst(report))
            assert report.sha256 != old


@every_way
@pytest.mark.parametrize(
    "fault",
    [
        {"content_range": "bytes 0-9/307200"},
        {"content_range": "bytes 100001-307199/307200"},
        {"content_range": "bytes 100000-307199/307201"},
        {"content_range": "nonsense"},
        {"ranges": False},
    ],
)
def test_another_part_than_asked_for_is_never_taken(
    client: dbss.Client,
    make: Callable[..., Report],
    tmp_path: Path,
    way: Callable[..., bytes],
    fault: dict[str, Any],
) -> None:
    report = make(300 * KIB, cut_after=100_000, times=1)
    report.fault(times=1, **fault)
    if way in FORGETFUL:
        assert sha256(way(client, report, tmp_path)) == report.sha256
    else:
        with pytest.raises(dbss.NotResumableError):
            way(client, report, tmp_path)


CUT = 100_000
OTHER = '"of-another-version"'


def version(report: Report) -> tuple[str, bytes]:
    """A report's entity tag and its bytes."""
    project, instance, _ = report.ids
    url = f"{report.mock.http}/v1/{project}/audit/{instance}/reports/{report.id}/download"
    request = urllib.request.Request(url, headers={"X-Auth-Token": report.mock.token})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=BOUND) as response:
        return response.headers["ETag"], response.read()


def raw(status: str, headers: list[tuple[str, str]], body: bytes) -> str:
    """A response with just these headers, for a fault."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    length = f"Content-Length: {len(body)}\r\n"
    return base64.b64encode(f"HTTP/1.1 {status}\r\n{lines}{length}\r\n".encode() + body).decode()


@every_way
@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("206 Partial Content", [("ETag", "$TAG"), ("ETag", OTHER), ("Content-Range", "$REST")]),
        ("206 Partial Content", [("ETag", OTHER), ("ETag", "$TAG"), ("Content-Range", "$REST")]),
        ("206 Partial Content", [("Content-Range", "$REST"), ("Content-Range", "bytes 0-9/10")]),
        ("206 Partial Content", [("Content-Range", "bytes 0-9/10"), ("Content-Range", "$REST")]),
        ("206 Partial Content", [("ETag", OTHER), ("Content-Range", "$REST")]),
        ("416 Range Not Satisfiable", [("ETag", OTHER), ("Content-Range", f"bytes */{CUT}")]),
        (
            "416 Range Not Satisfiable",
            [("ETag", "$TAG"), ("Content-Range", f"bytes */{CUT}"), ("Content-Range", "bytes */9")],
        ),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_part_that_may_be_of_another_version_is_never_taken(
    client: dbss.Client,
    make: Callable[..., Report],
    tmp_path: Path,
    way: Callable[..., bytes],
    status: str,
    headers: list[tuple[str, str]],
    framing: str,
) -> None:
    report = make()
    tag, data = version(report)
    values = {"$TAG": tag, "$REST": f"bytes {CUT}-{len(data) - 1}/{len(data)}"}
    given = [(name, values.get(value, value)) for name, value in headers]
    report.fault(cut_after=CUT, framing=framing, times=1)
    # As if it were the same: the library can tell by the headers alone.
    body = data[CUT:] if status.startswith("206") else b""
    report.fault(raw_base64=raw(status, given, body), times=1)
    if way in FORGETFUL:
        operation = dbss.Operation()
        assert sha256(way(client, report, tmp_path, operation=operation)) == report.sha256
        assert operation.resumed == 0
    else:
        with pytest.raises(dbss.NotResumableError):
            way(client, report, tmp_path)


@every_way
def test_a_version_with_two_tags_is_not_resumed(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make()
    tag, data = version(report)
    both = [("ETag", tag), ("ETag", OTHER)]
    cut = base64.b64decode(raw("200 OK", both, data))[: CUT - len(data)]
    report.fault(raw_base64=base64.b64encode(cut).decode(), times=1)
    if way in FORGETFUL:
        assert sha256(way(client, report, tmp_path)) == report.sha256
    else:
        with pytest.raises(dbss.TruncatedError):
            way(client, report, tmp_path)
    assert not any(report.headers("range"))


@every_way
@pytest.mark.parametrize("max_attempts", [2, 3])
def test_a_part_of_a_report_of_unknown_length_is_not_its_end(
    client: dbss.Client,
    make: Callable[..., Report],
    tmp_path: Path,
    way: Callable[..., bytes],
    max_attempts: int,
) -> None:
    report = make()
    tag, data = version(report)
    report.fault(cut_after=CUT, framing="chunked", times=1)
    for first in (CUT, CUT + 1000):
        headers = [("ETag", tag), ("Content-Range", f"bytes {first}-{first + 999}/*")]
        part = raw("206 Partial Content", headers, data[first : first + 1000])
        report.fault(raw_base64=part, times=1)
    operation = dbss.Operation(max_attempts=max_attempts)
    assert sha256(way(client, report, tmp_path, operation=operation)) == report.sha256
    ranges = [None, *(f"bytes={CUT + more}-" for more in (0, 1000, 2000))]
    assert report.headers("range")[1:] == ranges


@every_way
def test_the_end_of_a_report_of_unknown_length_is_asked_for(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make()
    tag, data = version(report)
    report.fault(cut_after=CUT, framing="chunked", times=1)
    headers = [("ETag", tag), ("Content-Range", f"bytes {CUT}-{len(data) - 1}/*")]
    report.fault(raw_base64=raw("206 Partial Content", headers, data[CUT:]), times=1)
    assert sha256(way(client, report, tmp_path)) == report.sha256
    assert report.headers("range")[-1] == f"bytes={len(data)}-"
    assert report.requests()[-1]["status"] == 416


@every_way
def test_a_report_in_endless_small_parts_ends(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make()
    tag, data = version(report)
    report.fault(cut_after=CUT, framing="chunked", times=1)
    for first in range(CUT, CUT + 50):
        headers = [("ETag", tag), ("Content-Range", f"bytes {first}-{first}/*")]
        part = raw("206 Partial Content", headers, data[first : first + 1])
        report.fault(raw_base64=part, times=1)
    with pytest.raises(dbss.TruncatedError):
        way(client, report, tmp_path)
    assert len(report.requests()) < 20


@pytest.mark.parametrize("scheme", ["HTTPS", "Https"])
def test_a_redirect_keeps_its_scheme_however_it_is_written(
    mock: MockService, make: Callable[..., Report], scheme: str
) -> None:
    """In capitals it was taken for plain http."""
    to = mock.https.replace("https", scheme, 1)
    target = make()
    report = make()
    path = f"/v1/{mock.project_id}/audit/{mock.instance_id}/reports/{target.id}/download"
    report.fault(status=302, headers=[["Location", to + path]], times=1)
    options = {"ca_file": mock.ca_file, "follow_redirects": True}
    with dbss.Client(endpoint=mock.https, token=mock.token, **options) as client:
        data = client.download_report(mock.project_id, mock.instance_id, report.id)
    assert hashlib.sha256(data).hexdigest() == target.sha256


@every_way
def test_a_part_that_is_longer_than_it_says_is_refused(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make(cut_after=CUT, framing="chunked", times=1)
    headers = [["Content-Range", f"bytes {CUT}-{CUT + 9}/*"]]
    report.fault(status=206, framing="chunked", headers=headers, body="x" * 1000, times=1)
    with pytest.raises(dbss.ProtocolError):
        way(client, report, tmp_path)


@every_way
def test_a_stalled_transfer_is_resumed_or_ends(
    mock: MockService, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make(300 * KIB, stall_after=100_000, times=2)
    with dbss.Client(endpoint=mock.http, token=mock.token, stall_timeout=0.25) as client:
        with pytest.raises(dbss.StalledError) as caught:
            way(client, report, tmp_path, operation=dbss.Operation(max_attempts=1))
        assert caught.value.attempts == 1
        assert isinstance(caught.value, TimeoutError)
        assert sha256(way(client, report, tmp_path)) == report.sha256
    assert report.headers("range")[-1] == "bytes=100000-"


def test_a_dripping_server_is_no_stalled_one(
    mock: MockService, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make(10_000, drip={"bytes": 1000, "every_ms": 60})
    with dbss.Client(endpoint=mock.http, token=mock.token, stall_timeout=0.5) as client:
        assert sha256(to_file(client, report, tmp_path)) == report.sha256


# Retries.


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_by_itself_is_tried_again(
    client: dbss.Client, make: Callable[..., Report], status: int
) -> None:
    report = make(1000, status=status, times=2, headers=[["Retry-After", "0"]])
    operation = dbss.Operation()
    assert sha256(client.download_report(*report.ids, operation=operation)) == report.sha256
    assert operation.attempts == len(report.requests()) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_does_not_is_not(
    client: dbss.Client, make: Callable[..., Report], status: int
) -> None:
    report = make(1000, status=status)
    with pytest.raises(dbss.ServiceError) as caught:
        client.download_report(*report.ids)
    assert caught.value.attempts == len(report.requests()) == 1


def test_attempts_end_with_the_last_error(mock: MockService, make: Callable[..., Report]) -> None:
    report = make(1000, status=503, headers=[["Retry-After", "0"]])
    with dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=2) as client:
        with pytest.raises(dbss.ServerError) as caught:
            client.download_report(*report.ids)
        assert caught.value.attempts == len(report.requests()) == 2
        operation = dbss.Operation(max_attempts=5)
        with pytest.raises(dbss.ServerError) as caught:
            client.download_report(*report.ids, operation=operation)
        assert caught.value.attempts == operation.attempts == 5
        assert isinstance(operation.error, dbss.ServerError)
        assert operation.error.http_status == 503


def test_retry_after_is_obeyed_up_to_its_limit(
    mock: MockService, make: Callable[..., Report]
) -> None:
    report = make(1000, status=503, times=2, headers=[["Retry-After", "1"]])
    begun = time.monotonic()
    with dbss.Client(endpoint=mock.http, token=mock.token, max_retry_after=1) as client:
        assert client.download_report(*report.ids)
        assert time.monotonic() - begun >= 2
        report.fault(status=429, headers=[["Retry-After", "2"]])
        begun = time.monotonic()
        with pytest.raises(dbss.ThrottledError) as caught:
            client.download_report(*report.ids)
        assert time.monotonic() - begun < SOON
        assert (caught.value.retry_after, caught.value.attempts) == (2.0, 1)


# Cancel, in every phase that a call can wait in.


@dataclass
class Phase:
    """A call that waits, and will for longer than any test."""

    report: Report
    endpoint: str
    ca_file: str
    reached: Callable[[], bool]
    more: dict[str, Any] = field(default_factory=dict)

    def client(self, **more: Any) -> dbss.Client:
        return dbss.Client(
            endpoint=self.endpoint, token=self.report.mock.token, ca_file=self.ca_file, **more
        )

    def wait(self, operation: dbss.Operation | None = None) -> None:
        """Until the call has got there."""
        until = time.monotonic() + BOUND
        while not self.reached() or (operation is not None and operation.attempts == 0):
            assert time.monotonic() < until
            time.sleep(0.005)


PHASES = ["connect", "handshake", "header", "body", "retry"]


@pytest.fixture(params=PHASES)
def phase(request: pytest.FixtureRequest, mock: MockService, make: Callable[..., Report]) -> Phase:
    endpoint = mock.http
    report = make(300 * KIB)

    def asked() -> bool:
        return bool(report.requests())

    reached = asked
    if request.param == "connect":
        endpoint = mock.never_accepts

        # Nothing to see from outside: the attempt is counted right before.
        def reached() -> bool:
            return True

    elif request.param == "handshake":
        endpoint = mock.https_other
        mock.listener_fault("https_other", "handshake_stall")
        before = mock.connections()["https_other"]

        def reached() -> bool:
            return mock.connections()["https_other"] > before

    elif request.param == "header":
        report.fault(no_answer=True)
    elif request.param == "body":
        report.fault(stall_after=100_000)

        def reached() -> bool:
            return any(one["sent"] >= 100_000 for one in report.requests())

    else:
        report.fault(status=503, headers=[["Retry-After", "50"]])
    return Phase(report, endpoint, mock.ca_file, reached)


def show(what: str, seconds: float) -> None:
    """For who looks how much of the bound is used (pytest -rP)."""
    print(f"{what}: {seconds * 1000:.1f} ms")


@every_way
def test_a_cancel_ends_a_call_in_every_phase(
    phase: Phase, tmp_path: Path, way: Callable[..., bytes]
) -> None:
    operation = dbss.Operation()
    with phase.client() as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(way, client, phase.report, tmp_path, operation=operation)
        try:
            phase.wait(operation)
        finally:
            begun = time.monotonic()
            operation.cancel()
        with pytest.raises(dbss.CancelledError) as caught:
            call.result(BOUND)
        took = time.monotonic() - begun
        show("cancel", took)
        assert took < SOON
        assert caught.type is dbss.CancelledError
        assert caught.value.cancelled_by == "operation"
        assert isinstance(operation.error, dbss.CancelledError)
        assert list(tmp_path.iterdir()) == []

        # It stays cancelled, without any traffic, until it is told otherwise.
        before = phase.report.mock.connections()["total"]
        with pytest.raises(dbss.CancelledError):
            way(client, phase.report, tmp_path, operation=operation)
        assert phase.report.mock.connections()["total"] == before
    phase.report.mock.clear_faults()
    operation.reset()
    assert (operation.received, operation.attempts, operation.error) == (0, 0, None)
    with dbss.Client(endpoint=phase.report.mock.http, token=phase.report.mock.token) as good:
        got = way(good, phase.report, tmp_path, operation=operation)
    assert sha256(got) == phase.report.sha256


def test_cancel_all_ends_every_call_and_no_later_one(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    reports = [make(300 * KIB, stall_after=100_000, times=1) for _ in WAYS]
    directories = [tmp_path / str(number) for number in range(len(WAYS))]
    for directory in directories:
        directory.mkdir()
    with ThreadPoolExecutor(len(WAYS)) as pool:
        calls = [
            pool.submit(way, client, report, directory)
            for way, report, directory in zip(WAYS, reports, directories, strict=True)
        ]
        while not all(any(one["sent"] for one in report.requests()) for report in reports):
            time.sleep(0.005)
        begun = time.monotonic()
        client.cancel_all()
        for call in calls:
            with pytest.raises(dbss.CancelledError):
                call.result(BOUND)
        took = time.monotonic() - begun
        show("cancel_all", took)
        assert took < SOON
    for report in reports:
        assert sha256(client.download_report(*report.ids)) == report.sha256
    client.close()
    # There is nothing left to cancel.
    client.cancel_all()


@every_way
def test_a_progress_function_ends_a_call_in_every_phase(
    phase: Phase, tmp_path: Path, way: Callable[..., bytes]
) -> None:
    told_at: list[float] = []

    def progress(now: dbss.Progress) -> bool:
        if now.attempts and not told_at and phase.reached():
            told_at.append(time.monotonic())
        return not told_at

    with phase.client() as client:
        with pytest.raises(dbss.CancelledError):
            way(client, phase.report, tmp_path, progress=progress)
        took = time.monotonic() - told_at[0]
    show("stop", took)
    assert took < SOON


# Signals and exceptions.


@contextlib.contextmanager
def signalled(phase: Phase, number: int, operation: dbss.Operation) -> Iterator[list[float]]:
    """Sends a signal to this process once the call of the operation waits."""
    sent: list[float] = []

    def send() -> None:
        phase.wait(operation)
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        thread.join(BOUND)


@every_way
def test_ctrl_c_ends_a_call_in_every_phase(
    phase: Phase, tmp_path: Path, way: Callable[..., bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    operation = dbss.Operation()
    with phase.client() as client:
        with (
            signalled(phase, signal.SIGINT, operation) as sent,
            pytest.raises(KeyboardInterrupt) as caught,
        ):
            way(client, phase.report, tmp_path, operation=operation)
        took = time.monotonic() - sent[0]
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    assert capfd.readouterr() == ("", "")
    show("Ctrl-C", took)
    assert took < SOON


def test_ctrl_c_needs_no_operation(mock: MockService, make: Callable[..., Report]) -> None:
    report = make(no_answer=True)
    phase = Phase(report, mock.http, mock.ca_file, lambda: bool(report.requests()))
    with phase.client() as client:
        timer = threading.Thread(target=lambda: (phase.wait(), os.kill(os.getpid(), signal.SIGINT)))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            client.download_report(*report.ids)
        timer.join(BOUND)


class Special(Exception):
    """Raised by the tests alone."""


@pytest.fixture
def on_usr1() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets what happens at SIGUSR1, for one test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda function: signal.signal(signal.SIGUSR1, lambda *_: function()) and None
    signal.signal(signal.SIGUSR1, before)


@every_way
def test_what_a_signals_handler_raises_comes_out_as_it_is(
    phase: Phase,
    tmp_path: Path,
    way: Callable[..., bytes],
    on_usr1: Callable[[Callable[[], None]], None],
) -> None:
    exception = Special("from the handler")

    def handler() -> None:
        raise exception

    on_usr1(handler)
    operation = dbss.Operation()
    with (
        phase.client() as client,
        signalled(phase, signal.SIGUSR1, operation),
        pytest.raises(Special) as caught,
    ):
        way(client, phase.report, tmp_path, operation=operation)
    assert caught.value is exception
    assert exception.__context__ is None
    assert "handler" in [one.name for one in traceback.extract_tb(exception.__traceback__)]


def test_a_handler_that_does_not_raise_runs_during_the_call_and_does_not_end_it(
    mock: MockService,
    make: Callable[..., Report],
    on_usr1: Callable[[Callable[[], None]], None],
) -> None:
    report = make(300 * KIB, delay_ms=700)
    phase = Phase(report, mock.http, mock.ca_file, lambda: bool(report.requests()))
    ran: list[float] = []
    on_usr1(lambda: ran.append(time.monotonic()))
    operation = dbss.Operation()
    with phase.client() as client, signalled(phase, signal.SIGUSR1, operation) as sent:
        got = client.download_report(*report.ids, operation=operation)
        ended = time.monotonic()
    assert sha256(got) == report.sha256
    show("handler", ran[0] - sent[0])
    assert ran[0] < ended


def test_a_signals_handler_may_cancel_and_call(
    client: dbss.Client,
    mock: MockService,
    make: Callable[..., Report],
    on_usr1: Callable[[Callable[[], None]], None],
) -> None:
    report = make(no_answer=True)
    other = make(1000)
    phase = Phase(report, mock.http, mock.ca_file, lambda: bool(report.requests()))
    operation = dbss.Operation()
    got: list[object] = []

    def handler() -> None:
        got.append(sha256(client.download_report(*other.ids)))
        try:
            client.download_report(*report.ids[:2], "x" * 16)
        except dbss.NotFoundError as error:
            got.append(error.service_code)
        operation.cancel()

    on_usr1(handler)
    with signalled(phase, signal.SIGUSR1, operation), pytest.raises(dbss.CancelledError):
        client.download_report(*report.ids, operation=operation)
    # Errors of calls in a callback are whole, too.
    assert got == [other.sha256, "DBSS.10021004"]


TRAMPOLINE = """
#include <signal.h>
#include <stdint.h>
int32_t tick(int32_t (*f)(void *, const void *), void *user_data)
{ raise(SIGINT); return f(user_data, 0); }
void message(void (*f)(void *, const void *), void *user_data)
{ raise(SIGINT); f(user_data, 0); }
"""


@pytest.fixture(scope="module")
def trampoline(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> CDLL:
    """Calls callbacks with a signal that has just come, and that nobody has seen yet."""
    path = tmp_path_factory.mktemp("trampoline") / "trampoline.so"
    command = [environment.get("CC", "cc"), "-shared", "-fPIC", "-o", path, "-x", "c", "-"]
    subprocess.run(command, input=TRAMPOLINE, check=True, text=True, timeout=BOUND)
    library = CDLL(str(path))
    library.tick.argtypes = (abi.ProgressFn, py_object)
    library.tick.restype = c_int32
    library.message.argtypes = (abi.LogFn, py_object)
    library.message.restype = None
    return library


def test_a_signal_right_before_a_tick_is_not_lost(trampoline: CDLL) -> None:
    monitor = operation_module.CallMonitor(operation_module.Control())
    assert trampoline.tick(ffi._TICK, monitor._ticks) == 1
    assert type(monitor._failed) is KeyboardInterrupt
    # It stops for good, even if somebody went on.
    assert [next(monitor._ticks), next(monitor._ticks)] == [1, 1]


def test_a_signal_right_before_a_log_record_is_not_lost(trampoline: CDLL) -> None:
    log = log_module.Log(lambda _: None)
    monitor = operation_module.CallMonitor(operation_module.Control(), log=log)
    held = functools.partial(log.relay)
    with pytest.raises(KeyboardInterrupt):
        monitor.run(trampoline.message, ffi._HAND_RECORD, held)
    # The call would have been stopped.
    assert next(monitor._ticks) == 1


@every_way
def test_what_a_progress_function_raises_comes_out_as_it_is(
    client: dbss.Client,
    make: Callable[..., Report],
    tmp_path: Path,
    way: Callable[..., bytes],
    capfd: pytest.CaptureFixture[str],
) -> None:
    for at in (1, 2):
        report = make(300 * KIB, stall_after=100_000)
        exception = Special(at)
        count: list[dbss.Progress] = []

        def inner(
            now: dbss.Progress, exception: Special = exception, at: int = at, count: Any = count
        ) -> None:
            count.append(now)
            if len(count) == at:
                raise exception

        with pytest.raises(Special) as caught:
            way(client, report, tmp_path, progress=inner)
        assert caught.value is exception
        assert (exception.__context__, exception.__cause__) == (None, None)
        names = [one.name for one in traceback.extract_tb(exception.__traceback__)]
        assert names[-1] == "inner"
        assert way.__name__ in names
        assert len(count) == at
    assert capfd.readouterr() == ("", "")


def test_what_a_write_raises_comes_out_as_it_is(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    report = make()
    exception = Special()

    class Refusing:
        def write(self, data: bytes) -> None:
            raise exception

    with pytest.raises(Special) as caught:
        client.download_report_to(*report.ids, Refusing())
    assert caught.value is exception
    assert (exception.__context__, exception.__cause__) == (None, None)
    # The connection and the operation are free again.
    assert sha256(client.download_report(*report.ids)) == report.sha256


def test_an_exception_that_is_kept_keeps_no_context_and_no_stream(
    mock: MockService, make: Callable[..., Report]
) -> None:
    report = make(300 * KIB, stall_after=100_000)
    kept = []

    def refuse(now: dbss.Progress) -> None:
        if now.received:
            raise Special

    client = dbss.Client(endpoint=mock.http, token=mock.token)
    context = weakref.ref(client._context)
    with client.open_report(*report.ids, progress=refuse) as stream:
        handle = weakref.ref(stream._handle)
        try:
            stream.read()
        except Special as error:
            kept.append(error)
    client.close()
    assert (context(), handle()) == (None, None)
    assert kept[0].__traceback__ is not None


# Progress.


@every_way
def test_progress_ticks_while_nothing_arrives(
    mock: MockService, make: Callable[..., Report], tmp_path: Path, way: Callable[..., bytes]
) -> None:
    report = make(300 * KIB, stall_after=100_000)
    times: list[float] = []
    seen: list[dbss.Progress] = []

    def progress(now: dbss.Progress) -> None:
        times.append(time.monotonic())
        seen.append(now)

    with (
        dbss.Client(
            endpoint=mock.http, token=mock.token, stall_timeout=1, max_attempts=1
        ) as client,
        pytest.raises(dbss.StalledError),
    ):
        way(client, report, tmp_path, progress=progress)
    waiting = [one for one in seen if one.received == 100_000]
    assert len(waiting) >= 9
    assert waiting[-1] == dbss.Progress(100_000, report.size, 0, 1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    show("longest gap", max(gaps))
    assert max(gaps) < SOON / 2


def test_progress_is_told_of_the_end_of_a_small_report(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    for way in WAYS:
        report = make(1000)
        seen: list[dbss.Progress] = []
        way(client, report, tmp_path, progress=seen.append)
        assert seen[-1] == dbss.Progress(1000, 1000, 0, 1), way


def test_what_is_no_function_is_refused(client: dbss.Client, make: Callable[..., Report]) -> None:
    report = make()
    operation = dbss.Operation()
    for call in (client.download_report, client.open_report):
        with pytest.raises(TypeError, match="progress"):
            call(*report.ids, progress=1, operation=operation)
    assert client.download_report(*report.ids, operation=operation)


def test_callbacks_are_let_go(client: dbss.Client, make: Callable[..., Report]) -> None:
    class Function:
        def __call__(self, now: dbss.Progress) -> None:
            pass

    before = len(ffi._kept)
    operation = dbss.Operation()
    functions = [Function() for _ in range(3)]
    references = [weakref.ref(one) for one in functions]
    report = make()
    client.download_report(*report.ids, operation=operation, progress=functions[0])
    client.open_report(*report.ids, operation=operation, progress=functions[1]).close()
    client.open_report(*report.ids, progress=functions[2]).close()
    functions.clear()
    assert [one() for one in references] == [None, None, None]
    with dbss.Client(endpoint=client._service, log=lambda *_: None):
        assert len(ffi._kept) == before + 1
    assert len(ffi._kept) == before


# Operations.


def test_an_operation_serves_one_call_at_a_time(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    waits, free = make(300 * KIB, stall_after=100_000), make()
    operation = dbss.Operation()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.download_report, *waits.ids, operation=operation)
        while operation.received < 100_000 or operation.filename is None:
            time.sleep(0.005)
        for way in WAYS:
            with pytest.raises(dbss.BusyError):
                way(client, free, tmp_path, operation=operation, progress=lambda now: None)
        with pytest.raises(dbss.BusyError):
            operation.reset()
        assert operation.filename == "audit-report.bin"
        assert operation.path is None
        operation.cancel()
        with pytest.raises(dbss.CancelledError):
            call.result(BOUND)
    operation.reset()

    # A stream is a call until it is closed.
    stream = client.open_report(*free.ids, operation=operation)
    with pytest.raises(dbss.BusyError):
        client.download_report(*free.ids, operation=operation)
    assert operation.filename == stream.filename
    assert sha256(stream.read()) == free.sha256
    with pytest.raises(dbss.BusyError):
        client.download_report(*free.ids, operation=operation)
    stream.close()
    assert sha256(client.download_report(*free.ids, operation=operation)) == free.sha256


def test_many_threads_with_one_operation_each_get_all_or_busy(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    report = make(10_000)
    operation = dbss.Operation()
    mine = threading.local()

    def progress(now: dbss.Progress) -> None:
        mine.ticks += 1

    def download(_: int) -> str:
        mine.ticks = 0
        try:
            got = client.download_report(*report.ids, operation=operation, progress=progress)
        except dbss.BusyError:
            assert mine.ticks == 0
            return "busy"
        assert mine.ticks >= 2
        return sha256(got)

    with ThreadPoolExecutor(8) as pool:
        got = set(pool.map(download, range(400), timeout=BOUND))
    assert report.sha256 in got
    assert got <= {report.sha256, "busy"}


def test_the_strings_of_an_operation_may_be_read_at_any_time(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    reports = [make(1000), make(1000)]
    operation = dbss.Operation()
    for one in reports:
        named = f'attachment; filename="{one.id}.bin"'
        one.fault(headers=[["Content-Disposition", named]])
    names = {f"{one.id}.bin" for one in reports}
    finished = threading.Event()

    def look() -> set[str | None]:
        seen: set[str | None] = set()
        while not finished.is_set():
            path = operation.path
            seen.update((operation.filename, None if path is None else path.name))
        return seen

    with ThreadPoolExecutor(2) as pool:
        lookers = [pool.submit(look) for _ in range(2)]
        try:
            for number in range(200):
                client.download_report_to(
                    *reports[number % 2].ids, tmp_path, replace=True, operation=operation
                )
        finally:
            finished.set()
        for looker in lookers:
            assert looker.result(BOUND) - {None} <= names


def test_an_operation_tells_its_result(
    mock: MockService, client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make(1000, headers=[["X-Request-Id", "req-7"]])
    with dbss.Operation() as operation:
        assert repr(operation) == "<dbss.Operation 0 of ? bytes>"
        assert (operation.path, operation.filename, operation.request_id) == (None, None, None)
        assert (operation.content_type, operation.format) == (None, None)
        path = client.download_report_to(*report.ids, tmp_path, operation=operation)
        assert operation.path == path == tmp_path / "audit-report.bin"
        assert operation.filename == path.name
        assert operation.request_id == "req-7"
        assert operation.content_type == "application/octet-stream"
        assert operation.format is None
        assert (operation.received, operation.total, operation.resumed) == (1000, 1000, 0)
        assert (operation.attempts, operation.error) == (1, None)
        assert repr(operation) == "<dbss.Operation 1000 of 1000 bytes>"
        with pytest.raises(dbss.NotFoundError):
            client.download_report(*report.ids[:2], "x" * 16, operation=operation)
        assert operation.path is None
        assert isinstance(operation.error, dbss.NotFoundError)
        assert operation.error.service_code == "DBSS.10021004"
        operation.reset()
        assert operation.error is None
        for kind, described in (("pdf", mock.pdf), ("zip", mock.zip)):
            client.download_report(*report.ids[:2], described["id"], operation=operation)
            assert operation.format == kind
            assert operation.content_type is not None
            assert kind in operation.content_type
    assert repr(operation) == "<dbss.Operation closed>"
    operation.cancel()
    operation.close()
    for use in (lambda: operation.received, lambda: operation.path, operation.reset):
        with pytest.raises(dbss.ClosedError, match=r"^the operation is closed$"):
            use()
    with pytest.raises(dbss.ClosedError, match=r"^the operation is closed$"):
        client.download_report(*report.ids, operation=operation)


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"connect_timeout": 0}, "connect_timeout_ms"),
        ({"stall_timeout": -1}, "stall_timeout_ms"),
        ({"total_timeout": float("nan")}, "total_timeout_ms"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_memory_bytes": 0}, "max_memory_bytes"),
        ({"file_mode": 0o1777}, "file_mode"),
        ({"file_mode": 0o077}, "file_mode"),
        ({"file_mode": -1}, "file_mode"),
    ],
)
def test_options_of_an_operation_are_checked(options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(dbss.InvalidValueError) as caught:
        dbss.Operation(**options)
    assert caught.value.parameter == parameter
    for value in ("1", True):
        with pytest.raises(TypeError):
            dbss.Operation(**{next(iter(options)): value})


def test_options_of_an_operation_outrank_the_clients(
    mock: MockService, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make(300 * KIB, stall_after=100_000, times=1)
    with dbss.Client(endpoint=mock.http, token=mock.token, max_memory_bytes=1000) as client:
        quick = dbss.Operation(stall_timeout=0.2, max_attempts=1, connect_timeout=None)
        with pytest.raises(dbss.StalledError):
            client.download_report_to(*report.ids, tmp_path / "a", operation=quick)
        with pytest.raises(dbss.LimitExceededError):
            client.download_report(*report.ids)
        large = dbss.Operation(max_memory_bytes=MIB, total_timeout=50)
        assert sha256(client.download_report(*report.ids, operation=large)) == report.sha256
        # To a file there is no such limit.
        mode = dbss.Operation(file_mode=0o644)
        umask = os.umask(0o077)
        try:
            client.download_report_to(*report.ids, tmp_path / "a", operation=mode)
        finally:
            os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


# Streams.


def test_a_stream_is_a_readable_file(client: dbss.Client, make: Callable[..., Report]) -> None:
    report = make(1_000_001, "pdf")
    with client.open_report(*report.ids, "zh-cn") as stream:
        assert isinstance(stream, io.BufferedIOBase)
        assert (stream.size, stream.format) == (report.facts["sizes"]["zh-cn"], "pdf")
        assert stream.filename == "审计报告.pdf"
        assert stream.content_type
        assert repr(stream) == f"<dbss.ReportStream {stream.filename}>"
        assert (stream.readable(), stream.writable(), stream.seekable()) == (True, False, False)
        assert stream.read(0) == b""
        digest = hashlib.sha256()
        head = stream.read(5)
        assert head == b"%PDF-"
        digest.update(head)
        one = stream.read1(10)
        assert 1 <= len(one) <= 10
        digest.update(one)
        room = bytearray(70_000)
        assert stream.readinto(room) == 70_000
        digest.update(room)
        assert stream.readinto(memoryview(room)[:0]) == 0
        length = stream.readinto1(memoryview(room))
        assert 1 <= length <= 70_000
        digest.update(room[:length])
        digest.update(stream.read(300_000))
        for chunk in stream:
            assert type(chunk) is bytes
            assert chunk
            digest.update(chunk)
        assert (stream.read(), stream.read(7), stream.readinto(room)) == (b"", b"", 0)
        assert digest.hexdigest() == report.facts["sha256"]["zh-cn"]
    assert repr(stream) == "<dbss.ReportStream closed>"
    assert stream.closed
    assert stream.format == "pdf"
    stream.close()
    for use in (stream.read, stream.read1, lambda: stream.readinto(room), stream.readable):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()


def test_a_stream_of_unknown_length_and_kind(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    report = make(
        10_000,
        framing="chunked",
        headers=[["X-Request-Id", "req-8"], ["Content-Type", None]],
    )
    with client.open_report(*report.ids) as stream:
        assert (stream.size, stream.format, stream.content_type) == (None, None, None)
        assert stream.request_id == "req-8"
        assert sha256(stream.read()) == report.sha256


def test_copyfileobj_and_zipfile_work_on_a_stream(
    mock: MockService, client: dbss.Client, tmp_path: Path
) -> None:
    ids = (mock.project_id, mock.instance_id, mock.zip["id"])
    with client.open_report(*ids) as stream, open(tmp_path / "copy", "wb") as copy:
        shutil.copyfileobj(stream, copy)
    assert sha256(tmp_path / "copy") == mock.zip["sha256"]["en-us"]
    with client.open_report(*ids) as stream, tempfile.SpooledTemporaryFile() as spooled:
        assert stream.format == "zip"
        shutil.copyfileobj(stream, spooled)
        with zipfile.ZipFile(spooled) as archive:
            assert archive.testzip() is None
            assert archive.namelist()


def test_the_end_is_only_told_of_a_whole_report_and_an_error_stays(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    report = make(300 * KIB, cut_after=100_000)
    operation = dbss.Operation(max_attempts=1)
    with client.open_report(*report.ids, operation=operation) as stream:
        got: list[bytes] = []
        with pytest.raises(dbss.TruncatedError):
            got.extend(iter(lambda: stream.read1(1000), b""))
        assert len(b"".join(got)) == 100_000
        for read in (stream.read, stream.read1, lambda: next(stream)):
            with pytest.raises(dbss.TruncatedError):
                read()
        assert isinstance(operation.error, dbss.TruncatedError)


def test_a_stream_outlives_its_client_but_not_its_end(
    mock: MockService, make: Callable[..., Report]
) -> None:
    report = make(3 * MIB, cut_after=MIB, times=1)
    messages: list[str] = []
    client = dbss.Client(
        endpoint=mock.http,
        token=mock.token,
        log=lambda record: messages.append(record.message),
    )
    stream = client.open_report(*report.ids)
    del client
    gc.collect()
    with stream:
        assert sha256(stream.read()) == report.sha256
    assert any("retrying" in message for message in messages)

    with dbss.Client(endpoint=mock.http, token=mock.token) as client:
        stream = client.open_report(*report.ids)
    with stream, pytest.raises((dbss.CancelledError, dbss.ClosedError)):
        stream.read()


def test_closing_a_stream_from_another_thread_ends_its_read(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    report = make(300 * KIB, stall_after=100_000)
    operation = dbss.Operation()
    stream = client.open_report(*report.ids, operation=operation)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(stream.read)
        while operation.received < 100_000:
            time.sleep(0.005)
        with pytest.raises(dbss.BusyError):
            stream.read(1)
        begun = time.monotonic()
        stream.close()
        with pytest.raises(dbss.CancelledError):
            read.result(BOUND)
        took = time.monotonic() - begun
    show("close", took)
    assert took < SOON
    for use in (stream.read, stream.read1, stream.readable, lambda: stream.readinto(bytearray(9))):
        with pytest.raises(dbss.ClosedError, match="closed"):
            use()
    # The operation is free, and was not cancelled itself.
    assert client.download_report(*make().ids, operation=operation)


def test_closing_while_others_read_is_safe(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    report = make(2 * MIB)
    for seed in range(30):
        stream = client.open_report(*report.ids)

        def read(stream: dbss.ReportStream = stream) -> str:
            try:
                while stream.read1(1000):
                    pass
            except (dbss.CancelledError, dbss.BusyError, ValueError) as error:
                return type(error).__name__
            return "end"

        with ThreadPoolExecutor(2) as pool:
            reads = [pool.submit(read) for _ in range(2)]
            time.sleep(random.Random(seed).uniform(0, 0.01))
            stream.close()
            assert all(one.result(BOUND) for one in reads)


def test_a_stream_that_is_forgotten_frees_its_operation(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    report = make()
    operation = dbss.Operation()
    client.open_report(*report.ids, operation=operation)
    assert sha256(client.download_report(*report.ids, operation=operation)) == report.sha256


def test_other_threads_run_while_a_stream_and_a_file_wait(
    mock: MockService, make: Callable[..., Report], tmp_path: Path
) -> None:
    for way in (to_file, by_stream):
        report = make(300 * KIB, stall_after=100_000)
        with (
            dbss.Client(
                endpoint=mock.http, token=mock.token, stall_timeout=0.5, max_attempts=1
            ) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            call = pool.submit(way, client, report, tmp_path)
            turns = 0
            while not call.done():
                turns += 1
            with pytest.raises(dbss.StalledError):
                call.result()
        # With the interpreter's lock held there would be none in that half second.
        assert turns > 5_000


# Files.


def test_an_existing_file_is_kept_or_replaced_in_one_step(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make()
    path = tmp_path / "report"
    path.write_text("old")
    os.link(path, tmp_path / "other")
    with pytest.raises(dbss.FileExistsError) as caught:
        client.download_report_to(*report.ids, path)
    assert isinstance(caught.value, FileExistsError)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == caught.value.os_code == 17
    assert caught.value.path == path
    assert caught.value.filename == str(path)
    assert str(caught.value) == caught.value.message
    assert report.requests() == []
    assert path.read_text() == "old"
    assert client.download_report_to(*report.ids, path, replace=True) == path
    assert sha256(path) == report.sha256
    assert (tmp_path / "other").read_text() == "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other", "report"]


def test_a_file_that_appears_meanwhile_is_kept(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make(300 * KIB, delay_ms=300)
    path = tmp_path / "report"

    def progress(now: dbss.Progress) -> None:
        if now.attempts and not path.exists():
            path.write_text("faster")

    with pytest.raises(dbss.FileExistsError):
        client.download_report_to(*report.ids, path, progress=progress)
    assert path.read_text() == "faster"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("kind", ["symlink", "fifo", "dangling"])
def test_what_is_no_regular_file_is_refused(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, kind: str, replace: bool
) -> None:
    report = make()
    path = tmp_path / "target"
    (tmp_path / "file").write_text("old")
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("file" if kind == "symlink" else "nowhere")
    with pytest.raises(dbss.NotRegularFileError):
        client.download_report_to(*report.ids, path, replace=replace)
    assert report.requests() == []
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "target"]


def test_paths_of_every_kind(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, monkeypatch: Any
) -> None:
    report = make(1000)
    monkeypatch.chdir(tmp_path)
    odd = os.fsencode(tmp_path) + b"/\xff report"
    (tmp_path / "sub").mkdir()
    name = "audit-report.bin"
    for path, expected in (
        ("plain", Path("plain")),
        (odd, Path(os.fsdecode(odd))),
        (Path("sub/file"), Path("sub/file")),
        ("sub", Path("sub") / name),
        (b".", Path(name)),
        ("sub/../sub/", Path("sub/../sub") / name),
    ):
        got = client.download_report_to(*report.ids, path, replace=True)
        assert got == expected
        assert sha256(got) == report.sha256
    for path, kind in (
        ("", dbss.InvalidValueError),
        ("a\0", dbss.InvalidValueError),
        ("no-such-directory/file", dbss.FileError),
        ("no-such-directory/", dbss.FileError),
        ("plain/file", dbss.FileError),
    ):
        before = len(report.requests())
        with pytest.raises(kind):
            client.download_report_to(*report.ids, path)
        assert len(report.requests()) == before


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="report 1.pdf"', "report 1.pdf"),
        ("attachment; filename*=UTF-8''%E5%AE%A1%E8%AE%A1.zip", "审计.zip"),
        ('attachment; filename="../../etc/passwd"', None),
        ('attachment; filename="/etc/passwd"', None),
        ('attachment; filename=".bashrc"', None),
        ('attachment; filename=".."', None),
        ('attachment; filename="a\\\\b"', None),
        ("attachment; filename*=UTF-8''..%2f..%2fx%00%0a", None),
        ('attachment; filename=""', None),
    ],
)
def test_a_hostile_name_stays_in_its_directory(
    client: dbss.Client,
    make: Callable[..., Report],
    tmp_path: Path,
    disposition: str,
    name: str | None,
) -> None:
    report = make(1000, headers=[["Content-Disposition", disposition]])
    directory = tmp_path / "here"
    directory.mkdir()
    path = client.download_report_to(*report.ids, directory)
    assert path.parent == directory
    assert os.listdir(directory) == [path.name]
    assert os.listdir(tmp_path) == ["here"]
    assert not path.name.startswith(".")
    assert not any(one in path.name for one in "/\\\0\n")
    assert name in (None, path.name)
    # The name is only known now, and kept then.
    with pytest.raises(dbss.FileExistsError):
        client.download_report_to(*report.ids, directory)


@pytest.mark.parametrize("encoding", ["gbk", "big5", "gb18030", "shift-jis"])
@pytest.mark.parametrize(
    "names", [("\u5be9\u8a08.pdf", "\u65e5\u5831.pdf"), ("\u7968.pdf", "\u7968\u7968.pdf")]
)
@pytest.mark.parametrize("quote", ['"', ""])
def test_names_in_other_encodings_never_collide(
    mock: MockService,
    client: dbss.Client,
    make: Callable[..., Report],
    tmp_path: Path,
    encoding: str,
    names: tuple[str, str],
    quote: str,
) -> None:
    """Little is left of them in UTF-8, and that may be the same."""
    saved = []
    for name in names:
        report = make(1000)
        body = b"%PDF-1.7\n" + name.encode() + b"\n%%EOF\n"
        disposition = b"attachment; filename=" + f"{quote}{name}{quote}".encode(encoding)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Disposition: %b\r\n\r\n"
        answer = head % (len(body), disposition) + body
        mock.fault(report.id, raw_base64=base64.b64encode(answer).decode(), times=1)
        path = client.download_report_to(*report.ids, tmp_path, replace=True)
        assert path.read_bytes() == body
        assert path.name == f"{report.id}.pdf"
        saved.append(path)
    assert sorted(tmp_path.iterdir()) == sorted(saved)


def test_a_full_disk_keeps_the_old_file(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    """A limit of the size of files stands for the disk."""
    report = make()
    path = tmp_path / "report"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(dbss.DiskFullError) as caught:
            client.download_report_to(*report.ids, path, replace=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(caught.value, dbss.FileError)
    assert caught.value.os_code == 27
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_keeps_the_old_file(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make()
    path = tmp_path / "report"
    path.write_text("old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(dbss.FileError) as caught:
            client.download_report_to(*report.ids, path, replace=True)
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.os_code == 13
    assert path.read_text() == "old"


def test_a_killed_process_leaves_the_old_file_or_the_new_one(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    """Processes of this interpreter, killed at moments that nobody chose."""
    fork = multiprocessing.get_context("fork")
    report = make(2 * MIB)
    target = tmp_path / "report"
    client.download_report_to(*report.ids, target)
    chance = random.Random(7)
    seen = []

    def download() -> None:
        client.download_report_to(*report.ids, target, replace=True)

    for _ in range(40):
        old = sha256(target)
        report.change()
        child = fork.Process(target=download)
        child.start()
        time.sleep(chance.uniform(0, 0.03))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(BOUND)
        now = sha256(target)
        assert now in (old, report.sha256)
        seen.append(now == old)
        leftovers = [one for one in os.listdir(tmp_path) if one != "report"]
        assert all(one.startswith(".dbss-") and one.endswith(".part") for one in leftovers)
    show(f"{seen.count(True)} old files and {seen.count(False)} new ones", 0)


# File objects and descriptors.


def test_file_objects_are_written_from_where_they_stand(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make()
    whole = client.download_report(*report.ids)
    path = tmp_path / "file"
    for mode, buffering in (("wb", -1), ("wb", 0), ("w+b", -1), ("ab", -1), ("xb", -1)):
        path.unlink(missing_ok=True)
        with open(path, mode, buffering=buffering) as file:
            file.write(b"before")
            assert client.download_report_to(*report.ids, file) is None
            assert not file.closed
            assert file.tell() == len(whole) + 6
            file.write(b"after")
        assert path.read_bytes() == b"before" + whole + b"after", mode
    with open(path, "r+b") as file:
        assert file.read(3) == b"bef"
        client.download_report_to(*report.ids, file)
        file.write(b"end")
    assert path.read_bytes()[: len(whole) + 6] == b"bef" + whole + b"end"


def test_objects_that_only_write_get_every_byte(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make()
    memory = io.BytesIO()
    client.download_report_to(*report.ids, memory)
    assert sha256(memory.getvalue()) == report.sha256
    # It has a descriptor too, which would be the wrong way in.
    with gzip.open(tmp_path / "packed", "wb") as packed:
        client.download_report_to(*report.ids, packed)
    with gzip.open(tmp_path / "packed") as packed:
        assert sha256(packed.read()) == report.sha256
    with tempfile.NamedTemporaryFile() as named:
        client.download_report_to(*report.ids, named)
        named.flush()
        assert sha256(Path(named.name)) == report.sha256
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        with archive.open("inside", "w") as inside:
            client.download_report_to(*report.ids, inside)
        assert sha256(archive.read("inside")) == report.sha256

    class Slow(io.RawIOBase):
        """Takes a little at a time."""

        got = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.got += bytes(data[:50_000])
            return min(len(data), 50_000)

    slow = Slow()
    client.download_report_to(*report.ids, slow)
    assert sha256(slow.got) == report.sha256

    class Full(Slow):
        def write(self, data: Any) -> Any:
            return None

    with pytest.raises(BlockingIOError):
        client.download_report_to(*report.ids, Full())


def test_what_cannot_be_written_to_is_refused(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make()
    for target in (None, 1.5, True, object(), io.StringIO(), []):
        with pytest.raises(TypeError, match="path"):
            client.download_report_to(*report.ids, target)
    with open(tmp_path / "text", "w") as text, pytest.raises(TypeError):
        client.download_report_to(*report.ids, text)
    with pytest.raises(ValueError, match="replace"):
        client.download_report_to(*report.ids, io.BytesIO(), replace=True)
    with pytest.raises(TypeError, match="replace"):
        client.download_report_to(*report.ids, tmp_path / "x", replace=1)
    with open(os.devnull, "rb") as reading:
        for descriptor in (reading.fileno(), -1, 2**31, 2**40, 999_999):
            with pytest.raises(dbss.ArgumentError) as caught:
                client.download_report_to(*report.ids, descriptor)
            assert caught.value.parameter == "fd"
    assert report.requests() == []


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_gets_the_report_however_slow_its_reader(
    client: dbss.Client, make: Callable[..., Report], blocking: bool
) -> None:
    report = make(2 * MIB)
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)

    def read() -> str:
        digest = hashlib.sha256()
        with open(reading, "rb", buffering=0) as pipe:
            while part := pipe.read(50_000):
                digest.update(part)
        return digest.hexdigest()

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            client.download_report_to(*report.ids, writing)
            assert os.get_blocking(writing) == blocking
        finally:
            os.close(writing)
        assert reader.result(BOUND) == report.sha256


def test_a_pipe_without_a_reader_is_an_error(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    report = make(2 * MIB)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(dbss.BrokenPipeError) as caught:
            client.download_report_to(*report.ids, writing)
    finally:
        os.close(writing)
    assert isinstance(caught.value, BrokenPipeError)
    assert caught.value.errno == 32


@pytest.mark.parametrize(
    "kind", ["TCP", "TCP with little room", "Unix", "pipe", "shared pipe", "FIFO"]
)
def test_a_descriptor_that_blocks_and_is_full_keeps_no_call(
    client: dbss.Client, make: Callable[..., Report], tmp_path: Path, kind: str
) -> None:
    report = make(8 * MIB)
    with contextlib.ExitStack() as opened:
        if kind.startswith("TCP"):
            listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            ours = opened.enter_context(socket.create_connection(listener.getsockname()))
            if "little" in kind:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
            opened.enter_context(listener.accept()[0])
            writing = ours.fileno()
        elif kind == "Unix":
            ours, _ = map(opened.enter_context, socket.socketpair())
            writing = ours.fileno()
        elif kind == "FIFO":
            os.mkfifo(tmp_path / "pipe")
            writing = os.open(tmp_path / "pipe", os.O_RDWR)
            opened.callback(os.close, writing)
        else:
            reading, writing = os.pipe()
            opened.callback(os.close, reading)
            opened.callback(os.close, writing)
        if kind == "shared pipe":
            filling = subprocess.Popen(
                [sys.executable, "-c", "import os\nwhile True: os.write(1, b'x' * 4096)"],
                stdout=writing,
            )
            opened.callback(filling.wait)
            opened.callback(filling.kill)
        assert os.get_blocking(writing)
        begun = time.monotonic()
        operation = dbss.Operation(total_timeout=0.3)
        with pytest.raises(dbss.TotalTimeoutError):
            client.download_report_to(*report.ids, writing, operation=operation)
        took = time.monotonic() - begun
        operation = dbss.Operation()

        def cancel(now: dbss.Progress) -> None:
            if now.received and not ended:
                ended.append(time.monotonic())
                operation.cancel()

        ended: list[float] = []
        with pytest.raises(dbss.CancelledError):
            client.download_report_to(*report.ids, writing, operation=operation, progress=cancel)
        late = time.monotonic() - ended[0]
    print(f"total timeout {took * 1000:.0f} ms, cancel {late * 1000:.0f} ms")
    assert took < 0.3 + SOON
    assert late < SOON


@pytest.mark.parametrize("blocking", [True, False])
def test_ctrl_c_and_cancel_end_the_wait_for_a_pipes_reader(
    client: dbss.Client, make: Callable[..., Report], blocking: bool
) -> None:
    report = make(2 * MIB)
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)

    def seen(now: dbss.Progress) -> None:
        # The same as at the last tick.
        if now.received and now in seen_before:
            full.set()
        seen_before.append(now)

    try:
        for end, kind in (
            (lambda: os.kill(os.getpid(), signal.SIGINT), KeyboardInterrupt),
            (client.cancel_all, dbss.CancelledError),
        ):
            full = threading.Event()
            seen_before: list[dbss.Progress] = []
            ended: list[float] = []

            def finish(
                end: Any = end, full: threading.Event = full, ended: list[float] = ended
            ) -> None:
                assert full.wait(BOUND)
                ended.append(time.monotonic())
                end()

            thread = threading.Thread(target=finish)
            thread.start()
            with pytest.raises(kind):
                client.download_report_to(*report.ids, writing, progress=seen)
            took = time.monotonic() - ended[0]
            thread.join(BOUND)
            show(kind.__name__, took)
            assert took < SOON
    finally:
        os.close(reading)
        os.close(writing)


# Log.


def test_the_log_tells_what_happened_and_no_secret(
    mock: MockService, make: Callable[..., Report], tmp_path: Path
) -> None:
    report = make(300 * KIB, cut_after=100_000, times=1, headers=[["X-Request-Id", "req-5"]])
    records: list[dbss.LogRecord] = []
    threads: set[int] = set()

    def log(record: dbss.LogRecord) -> None:
        records.append(record)
        threads.add(threading.get_ident())

    with dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client:
        client.download_report_to(*report.ids, tmp_path)
        saved = records[-1]
        with pytest.raises(dbss.NotFoundError):
            client.download_report(*report.ids[:2], "x" * 16)
        client.set_token("another-token")
        with pytest.raises(dbss.UnauthenticatedError):
            client.download_report(*report.ids)
    assert threads == {threading.get_ident()}
    levels = {one.level for one in records}
    assert {dbss.LOG_ERROR, dbss.LOG_WARNING, dbss.LOG_INFO} <= levels <= {1, 2, 3, 4}
    [warning] = [one for one in records if one.level == dbss.LOG_WARNING]
    assert report.id in warning.message
    assert warning.report_id == report.id
    assert warning.offset == 100_000
    assert warning.attempt == 1
    assert warning.retry_delay is not None
    assert 0 <= warning.retry_delay < 10
    assert warning.status == dbss.TruncatedError.status
    assert (saved.level, saved.status, saved.report_id) == (dbss.LOG_INFO, None, report.id)
    assert saved.bytes == report.size
    assert saved.duration is not None
    assert 0 < saved.duration < BOUND
    failures = [one for one in records if one.level == dbss.LOG_ERROR]
    statuses = [dbss.NotFoundError.status, dbss.UnauthenticatedError.status]
    assert [one.status for one in failures] == statuses
    assert [one.http_status for one in failures] == [404, 401]
    for one in records:
        assert type(one.message) is str
        assert "\n" not in one.message
        assert mock.token[:24] not in repr(one)
        assert "another-token" not in repr(one)


def test_a_logger_takes_the_log(
    mock: MockService, make: Callable[..., Report], caplog: pytest.LogCaptureFixture
) -> None:
    report = make(300 * KIB, cut_after=100_000, times=1)
    logger = logging.getLogger("reports")
    caplog.set_level(logging.INFO, "reports")
    adapter = logging.LoggerAdapter(logger, {})
    for given in (logger, adapter, logger.log, adapter.log):
        before = len(caplog.records)
        with dbss.Client(endpoint=mock.http, token=mock.token, log=given) as client:
            client.download_report(*report.ids)
            with pytest.raises(dbss.NotFoundError):
                client.download_report(*report.ids[:2], "x" * 16)
        assert len(caplog.records) > before
    assert {one.name for one in caplog.records} == {"reports"}
    assert {one.levelno for one in caplog.records} == {
        logging.ERROR,
        logging.WARNING,
        logging.INFO,
    }
    [warning] = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "100000" in warning.getMessage()
    assert vars(warning)["dbss_offset"] == 100_000
    assert vars(warning)["dbss_report_id"] == report.id
    for refused in ("a name", logging.ERROR):
        with pytest.raises(TypeError, match=r"logging\.Logger"):
            dbss.Client(endpoint=mock.http, log=refused)


def test_log_records_come_during_the_call(mock: MockService, make: Callable[..., Report]) -> None:
    report = make(300 * KIB, status=503, headers=[["Retry-After", "50"]])
    operation = dbss.Operation()
    came: list[str] = []

    def log(record: dbss.LogRecord) -> None:
        came.append(record.message)
        operation.cancel()

    with (
        dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client,
        ThreadPoolExecutor(1) as pool,
        pytest.raises(dbss.CancelledError),
    ):
        pool.submit(client.download_report, *report.ids, operation=operation).result(BOUND)
    assert "503" in came[0]


def test_a_log_function_may_call_and_gets_its_own_records(
    mock: MockService, make: Callable[..., Report]
) -> None:
    report, other = make(300 * KIB, cut_after=100_000, times=1), make(1000)
    seen: list[str | None] = []
    errors: list[dbss.Error] = []

    def log(record: dbss.LogRecord) -> None:
        seen.append(record.report_id)
        if record.level == dbss.LOG_WARNING:
            assert sha256(client.download_report(*other.ids)) == other.sha256
            try:
                client.download_report(*report.ids[:2], "x" * 16)
            except dbss.NotFoundError as error:
                errors.append(error)

    with dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client:
        assert sha256(client.download_report(*report.ids)) == report.sha256
    [error] = errors
    assert error.service_code == "DBSS.10021004"
    assert seen.index(other.id) > seen.index(report.id)
    assert seen[-1] == report.id
    assert "x" * 16 in seen


def test_what_a_log_function_raises_breaks_nothing(
    mock: MockService, make: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make(300 * KIB, cut_after=100_000, times=1)
    exception = Special()
    hooked: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: hooked.append(one.exc_value))

    def log(record: dbss.LogRecord) -> None:
        raise exception

    with dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client:
        assert sha256(client.download_report(*report.ids)) == report.sha256
    assert hooked
    assert set(hooked) == {exception}


def test_ctrl_c_in_a_log_function_ends_the_call(
    mock: MockService, make: Callable[..., Report]
) -> None:
    report = make(300 * KIB, cut_after=100_000, times=1)

    def log(record: dbss.LogRecord) -> None:
        if record.level == dbss.LOG_WARNING:
            signal.raise_signal(signal.SIGINT)

    with (
        dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client,
        pytest.raises(KeyboardInterrupt),
    ):
        client.download_report(*report.ids)


def test_many_threads_log_in_peace(mock: MockService, make: Callable[..., Report]) -> None:
    report = make(1000)
    lines: list[str] = []
    with (
        dbss.Client(
            endpoint=mock.http,
            token=mock.token,
            log=lambda record: lines.append(record.message),
        ) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        got = set(pool.map(lambda _: sha256(client.download_report(*report.ids)), range(200)))
    assert got == {report.sha256}
    assert sum(report.id in line for line in lines) >= 200


# Redirects and proxies.


def test_redirects_are_followed_when_allowed_and_drop_the_token(
    mock: MockService, make: Callable[..., Report]
) -> None:
    report = make(1000)
    path = f"/v1/{report.ids[0]}/audit/{report.ids[1]}/reports/{report.id}/download"
    location = f"{mock.http_other}{path}"
    report.fault(status=302, headers=[["Location", location]], times=1)
    report.fault(times=1)
    with (
        dbss.Client(endpoint=mock.http, token=mock.token) as client,
        pytest.raises(dbss.RedirectedError) as caught,
    ):
        client.download_report(*report.ids)
    assert caught.value.redirect_target == location
    mock.clear_faults()
    report.fault(status=302, headers=[["Location", location]], times=1)
    report.fault(times=1)
    with dbss.Client(endpoint=mock.http, token=mock.token, follow_redirects=True) as client:
        assert sha256(client.download_report(*report.ids)) == report.sha256
    assert report.headers("x-auth-token")[-2:] == [mock.token, None]


def test_a_proxy_is_used(mock: MockService, make: Callable[..., Report]) -> None:
    report = make(1000)
    mock.listener_fault("proxy", "proxy_auth")
    common: dict[str, Any] = {
        "endpoint": mock.https,
        "token": mock.token,
        "ca_file": mock.ca_file,
        "max_attempts": 1,
    }
    with (
        dbss.Client(proxy=mock.proxy, **common) as client,
        pytest.raises(dbss.Error) as caught,
    ):
        client.download_report(*report.ids)
    assert "407" in str(caught.value)
    proxy = mock.proxy.replace("//", "//proxy-user:proxy-pass@")
    with dbss.Client(proxy=proxy, **common) as client:
        assert sha256(client.download_report(*report.ids)) == report.sha256
        assert "proxy-pass" not in repr(client) + repr(vars(client))
    assert any(one["method"] == "CONNECT" for one in mock.requests())


def test_the_proxy_of_the_environment_is_used_when_asked(
    mock: MockService, make: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make(1000)
    # Nobody listens there.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    common: dict[str, Any] = {
        "endpoint": mock.https,
        "token": mock.token,
        "ca_file": mock.ca_file,
        "max_attempts": 1,
    }
    with dbss.Client(**common) as client:
        assert client.download_report(*report.ids)
    with (
        dbss.Client(proxy_from_environment=True, **common) as client,
        pytest.raises(dbss.ConnectError),
    ):
        client.download_report(*report.ids)


@pytest.mark.parametrize(
    ("exceptions", "past"),
    [
        ({"no_proxy": "127.0.0.0/8"}, True),
        ({"no_proxy": "10.0.0.0/8 127.0.0.1"}, True),
        ({"no_proxy": "elsewhere.example , 127.0.0.1"}, True),
        ({"no_proxy": "", "NO_PROXY": "127.0.0.1"}, True),
        ({"no_proxy": "elsewhere.example", "NO_PROXY": "127.0.0.1"}, False),
        ({"no_proxy": "0.1"}, False),
        ({"no_proxy": "128.0.0.0/8"}, False),
        ({"no_proxy": "*"}, True),
        ({}, False),
    ],
)
def test_exceptions_from_the_proxy_are_as_for_curl(
    mock: MockService,
    make: Callable[..., Report],
    monkeypatch: pytest.MonkeyPatch,
    exceptions: dict[str, str],
    past: bool,
) -> None:
    report = make(1000)
    # Nobody listens there.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in exceptions.items():
        monkeypatch.setenv(name, value)
    with dbss.Client(
        endpoint=mock.http,
        token=mock.token,
        max_attempts=1,
        allow_plaintext=True,
        proxy_from_environment=True,
    ) as client:
        if past:
            assert client.download_report(*report.ids)
        else:
            with pytest.raises(dbss.ConnectError):
                client.download_report(*report.ids)


# Processes.


def in_child(client: dbss.Client, report: Report, path: Path, stream: Any, operation: Any) -> Any:
    got: list[object] = []
    for refused in (
        lambda: stream.read(10),
        lambda: client.download_report(*report.ids, operation=operation),
        operation.reset,
    ):
        try:
            got.append(repr(refused()))
        except dbss.Error as error:
            got.append(type(error).__name__)
    # These would wait for ever for locks that nobody holds any more.
    got.append((operation.path, operation.error))
    operation.cancel()
    stream.close()
    got.extend(sha256(client.download_report_to(*report.ids, path, replace=True)) for _ in range(5))
    with client.open_report(*report.ids) as own:
        got.append(sha256(own.read()))
    return got


@pytest.mark.parametrize("listener", ["http", "https"])
def test_a_child_downloads_while_its_parent_does(
    mock: MockService, make: Callable[..., Report], tmp_path: Path, listener: str
) -> None:
    fork = multiprocessing.get_context("fork")
    slow, quick = make(300 * KIB), make(300 * KIB)
    slow.fault(drip={"bytes": 10_000, "every_ms": 20})
    results = fork.SimpleQueue()

    def child() -> None:
        try:
            results.put(in_child(client, quick, tmp_path / str(os.getpid()), stream, operation))
        except BaseException as error:
            results.put(repr(error))
            raise

    with (
        dbss.Client(
            endpoint=getattr(mock, listener), token=mock.token, ca_file=mock.ca_file
        ) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        operation = dbss.Operation()
        stream = client.open_report(*slow.ids, operation=operation)
        read = pool.submit(stream.read)
        children = [fork.Process(target=child) for _ in range(3)]
        for one in children:
            one.start()
        assert {sha256(client.download_report(*quick.ids)) for _ in range(5)} == {quick.sha256}
        for one in children:
            one.join(BOUND)
            assert one.exitcode == 0
        refused = ["ArgumentError", "ArgumentError", "ArgumentError", (None, None)]
        for _ in children:
            got = results.get()
            # The read is refused in one way or the other: somebody reads at the moment.
            assert got[0] in ("BusyError", "ArgumentError")
            assert got[1:4] == refused[1:]
            assert set(got[4:]) == {quick.sha256}
        # What the children did to it reached nobody.
        assert sha256(read.result(BOUND)) == slow.sha256
        stream.close()


@pytest.mark.parametrize("listener", ["http", "https"])
def test_processes_with_the_same_id_are_told_apart(
    mock: MockService,
    make: Callable[..., Report],
    environment: dict[str, str],
    tmp_path: Path,
    listener: str,
) -> None:
    """The first process of a PID namespace makes the first one of another: both are number 1."""
    code = """
import ctypes, hashlib, json, os, sys, dbss
settings, theirs, ours = json.loads(sys.argv[1])
NEW_PID_NAMESPACE, libc = 0x20000000, ctypes.CDLL(None, use_errno=True)
def fork():
    if libc.unshare(NEW_PID_NAMESPACE) != 0:
        print("unshare:", os.strerror(ctypes.get_errno()), flush=True)
        os._exit(0)
    return os.fork()
def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
def refused(call):
    try:
        call()
    except dbss.ArgumentError as error:
        return "forked" in str(error)
    return False
if outer := fork():
    sys.exit(ended(outer))
client, operation = dbss.Client(**settings), dbss.Operation()
get = lambda ids: hashlib.sha256(client.download_report(*ids)).hexdigest()
stream = client.open_report(*ours[0])
right = get(ours[0]) == ours[1]
child = fork()
ids, expected = ours if child else theirs
assert os.getpid() == 1
if not child:
    right &= refused(lambda: stream.read(1)) and refused(operation.reset)
    right &= operation.error is None
    right &= refused(lambda: client.download_report(*ids, operation=operation))
right &= {get(ids) for _ in range(200)} == {expected}
right = (not child or ended(child) == 0) and right
os._exit(not right)
"""
    theirs, ours = make(40_000), make(40_000)
    settings = {
        "endpoint": getattr(mock, listener),
        "token": mock.token,
        "ca_file": str(mock.ca_file),
    }
    told = json.dumps([settings, *([one.ids, one.sha256] for one in (theirs, ours))])
    done = subprocess.run(
        [sys.executable, "-c", code, told],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    if done.stdout.startswith("unshare:") and not (os.environ.get("CI") and os.geteuid() == 0):
        pytest.skip(f"no PID namespaces here: {done.stdout}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_stream_of_the_parent_that_nobody_reads_is_refused_in_a_child(
    client: dbss.Client, make: Callable[..., Report]
) -> None:
    fork = multiprocessing.get_context("fork")
    report = make()
    results = fork.SimpleQueue()
    with client.open_report(*report.ids) as stream:
        head = stream.read(10)

        def child() -> None:
            try:
                results.put(stream.read(10))
            except dbss.ArgumentError as error:
                results.put((error.parameter, str(error)))

        process = fork.Process(target=child)
        process.start()
        process.join(BOUND)
        parameter, message = results.get()
        assert parameter == "stream"
        assert "fork" in message
        assert sha256(head + stream.read()) == report.sha256


@pytest.mark.parametrize("listener", ["http", "https"])
def test_many_threads_at_once_leave_little_memory(
    mock: MockService, make: Callable[..., Report], environment: dict[str, str], listener: str
) -> None:
    report = make(10_000)
    code = """
import os, threading, dbss
def resident():
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmRSS:")]
    return int(line.split()[1])
client = dbss.Client(
    endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"], ca_file=os.environ["CA_FILE"]
)
ids = os.environ["IDS"].split(",")
def download(together):
    together.wait()
    right.append(len(client.download_report(*ids)) == 10_000)
    together.wait()
def run(count):
    together = threading.Barrier(count)
    threads = [threading.Thread(target=download, args=(together,)) for _ in range(count)]
    for one in threads: one.start()
    for one in threads: one.join()
right = []
run(1)
before = resident()
for _ in range(3):
    run(512)
assert all(right) and len(right) == 1 + 3 * 512
print(resident() - before)
"""
    more = {"ENDPOINT": getattr(mock, listener), "CA_FILE": str(mock.ca_file)}
    done = python(code, environment, **{**told(report), **more})
    assert (done.returncode, done.stderr) == (0, "")
    print(f"{done.stdout.strip()} KiB more")
    assert int(done.stdout) < 40 * 1024


def test_a_report_of_a_gibibyte_needs_no_memory(
    make: Callable[..., Report], environment: dict[str, str], tmp_path: Path
) -> None:
    report = make(1024 * MIB)
    code = """
import os, shutil, dbss
def peak():
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1])
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
ids = os.environ["IDS"].split(",")
before = peak()
path = client.download_report_to(*ids, os.environ["DIRECTORY"])
assert path.stat().st_size == 2**30
with client.open_report(*ids) as stream, open(os.devnull, "wb") as nowhere:
    shutil.copyfileobj(stream, nowhere)
client.download_report_to(*ids, type("Writer", (), {"write": lambda self, data: None})())
print(before, peak() - before)
"""
    try:
        done = python(code, environment, DIRECTORY=str(tmp_path), **told(report))
        assert (done.returncode, done.stderr) == (0, "")
        digest = hashlib.sha256()
        with open(tmp_path / "audit-report.bin", "rb") as file:
            while part := file.read(MIB):
                digest.update(part)
        assert digest.hexdigest() == report.sha256
    finally:
        shutil.rmtree(tmp_path)
    print(done.stdout)
    # In KiB.
    assert int(done.stdout.split()[1]) < 8 * KIB


def test_many_calls_leave_nothing(make: Callable[..., Report], environment: dict[str, str]) -> None:
    report = make(100 * KIB)
    code = """
import os, dbss
client = dbss.Client(
    endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"], log=lambda record: None
)
ids = os.environ["IDS"].split(",")
def used():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4, len(os.listdir("/proc/self/fd"))
class Stop(Exception): pass
def stop(now): raise Stop
def calls(times):
    for number in range(times):
        with client.open_report(*ids, progress=lambda now: None) as stream:
            stream.read(number)
        with dbss.Operation() as operation:
            client.download_report(*ids, operation=operation, progress=lambda now: None)
        try:
            client.download_report(*ids, progress=stop)
        except Stop:
            pass
calls(200)
before = used()
calls(1000)
after = used()
print(after[0] - before[0], after[1] - before[1])
"""
    done = python(code, environment, **told(report))
    assert (done.returncode, done.stderr) == (0, "")
    memory, descriptors = map(int, done.stdout.split())
    # Less than one KiB for each of 3000 calls, whose reports were 300 MiB.
    assert memory < 3000
    assert descriptors == 0


def test_what_is_part_of_a_cycle_is_freed_once_and_used_no_more(
    make: Callable[..., Report], environment: dict[str, str]
) -> None:
    """Python finalizes the parts in any order."""
    report = make()
    code = """
import gc, os, dbss
ids = os.environ["IDS"].split(",")
class Knot: pass
for turn in range(20):
    client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
    operation = dbss.Operation()
    stream = client.open_report(*ids, operation=operation, progress=lambda now: None)
    stream.read(10)
    reports = client.reports(ids[1], project_id=ids[0])
    next(reports)
    knot = Knot()
    knot.held = [knot, stream, stream._handle, client, client._context, operation, reports]
    stream.held = [stream, stream._monitor, stream._control, stream._handle]
    del client, operation, stream, reports, knot
    gc.collect()
print("end")
"""
    # What was freed is overwritten.
    done = python(code, environment, MALLOC_PERTURB_="85", **told(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


# The end of the interpreter.


def test_everything_open_at_the_interpreters_end_is_silent(
    make: Callable[..., Report], environment: dict[str, str]
) -> None:
    report = make(300 * KIB, stall_after=100_000)
    code = """
import builtins, os, dbss
client = dbss.Client(
    endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"], log=lambda record: None
)
ids = os.environ["IDS"].split(",")
operation = dbss.Operation()
stream = client.open_report(*ids, operation=operation, progress=lambda now: None)
print(len(stream.read(1000)))
class Late:
    def __init__(self, *held): self.me, self.held = self, held
late = Late(client, operation, stream)
builtins.held = (operation, stream, client)
"""
    done = python(code, environment, **told(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1000\n", "")


def test_a_daemon_thread_in_a_call_does_not_end_the_process(
    make: Callable[..., Report], environment: dict[str, str]
) -> None:
    """Python ends such threads on the spot when they want to run its code."""
    report = make(300 * KIB, stall_after=100_000)
    code = """
import builtins, os, threading, time, dbss
client = dbss.Client(
    endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"], log=lambda record: None
)
ids = os.environ["IDS"].split(",")
begun = threading.Barrier(5)
def tick(now):
    if now.received and threading.current_thread() not in seen:
        seen.add(threading.current_thread())
        begun.wait(30)
seen = set()
def stream():
    with client.open_report(*ids, progress=tick) as one:
        one.read()
def again():
    try:
        client.download_report(*ids, progress=tick)
    except dbss.CancelledError:
        client.download_report(*ids, progress=tick)
def quietly(call):
    try:
        call()
    except (dbss.CancelledError, RuntimeError):
        pass
for call in (stream, again, again, stream):
    threading.Thread(target=quietly, args=(call,), daemon=True).start()
begun.wait(30)
class Slow:
    # The interpreter's end takes long enough for several ticks.
    def __del__(self, sleep=time.sleep): sleep(0.5)
builtins.slow = Slow()
print("end")
"""
    done = python(code, environment, **told(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_the_interpreter_ends_no_thread_within_a_callback(
    make: Callable[..., Report], environment: dict[str, str]
) -> None:
    """Daemon threads go on with all kinds of calls while the main thread returns."""
    report = make(200_000)
    code = """
import os, sys, tempfile, threading, dbss
sys.setswitchinterval(1e-6)
settings = {"endpoint": os.environ["ENDPOINT"], "token": os.environ["TOKEN"]}
client = dbss.Client(**settings, log=lambda record: None)
ids = os.environ["IDS"].split(",")
directory = tempfile.mkdtemp()
inside = threading.Semaphore(0)
def tick(now):
    if now.received: inside.release()
def to_file():
    path = os.path.join(directory, str(threading.get_ident()))
    client.download_report_to(*ids, path, replace=True, progress=tick)
def stream():
    with client.open_report(*ids, progress=tick) as one:
        for _ in one: pass
def list_and_make():
    with dbss.Client(**settings, log=lambda record: None) as another:
        next(another.reports(ids[1], project_id=ids[0]))
    inside.release()
def work(call):
    while True:
        try:
            call()
        except dbss.CancelledError:
            pass
        except RuntimeError:
            return
for call in (to_file, stream, list_and_make) * 2:
    threading.Thread(target=work, args=(call,), daemon=True).start()
for _ in range(6): inside.acquire()
"""
    for _ in range(int(os.environ.get("DBSS_TEST_RUNS", "20"))):
        done = python(code, environment, **told(report))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_function_that_never_returns_does_not_keep_the_interpreter(
    make: Callable[..., Report], environment: dict[str, str]
) -> None:
    report = make()
    code = """
import os, threading, dbss, dbss.operation
dbss.operation.LAST_WAIT = 0.2
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
ids = os.environ["IDS"].split(",")
waiting, never = threading.Event(), threading.Event()
def tick(now):
    waiting.set()
    never.wait()
threading.Thread(
    target=client.download_report, args=ids, kwargs={"progress": tick}, daemon=True
).start()
waiting.wait(30)
print("end")
"""
    done = python(code, environment, **told(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_function_that_outlives_the_interpreter_does_not_end_the_process(
    make: Callable[..., Report], environment: dict[str, str]
) -> None:
    """Python ends its thread on the spot when it wants to go on."""
    report = make()
    code = """
import builtins, os, threading, time, dbss, dbss.operation
dbss.operation.LAST_WAIT = 0.05
settings = {"endpoint": os.environ["ENDPOINT"], "token": os.environ["TOKEN"]}
ids = os.environ["IDS"].split(",")
inside = threading.Barrier(4)
def wait(*arguments, sleep=time.sleep):
    inside.wait(30)
    while True:
        sleep(0.01)
class Writer:
    write = wait
plain, logging = dbss.Client(**settings), dbss.Client(**settings, log=wait)
for client, call, keywords in (
    (plain, "download_report", {"progress": wait}),
    (plain, "download_report_to", {"path": Writer()}),
    (logging, "download_report", {}),
):
    call = getattr(client, call)
    threading.Thread(target=call, args=ids, kwargs=keywords, daemon=True).start()
inside.wait(30)
class Slow:
    # The interpreter's end takes long enough for them to want to go on.
    def __del__(self, sleep=time.sleep): sleep(0.3)
builtins.slow = Slow()
print("end")
"""
    for _ in range(5):
        done = python(code, environment, **told(report))
        assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_child_that_ends_as_a_program_does_not_wait_for_its_parents_calls(
    make: Callable[..., Report], environment: dict[str, str]
) -> None:
    report = make(300 * KIB, stall_after=100_000)
    code = """
import os, sys, threading, time, dbss
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
ids = os.environ["IDS"].split(",")
operation = dbss.Operation()
waiting = threading.Event()
def tick(now):
    if now.received:
        waiting.set()
def call():
    try:
        client.download_report(*ids, operation=operation, progress=tick)
    except dbss.CancelledError:
        pass
thread = threading.Thread(target=call)
thread.start()
waiting.wait(30)
begun = time.monotonic()
child = os.fork()
if child == 0:
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
assert time.monotonic() - begun < 2
assert thread.is_alive()
operation.cancel()
thread.join(30)
print("end")
"""
    done = python(code, environment, **told(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_the_ready_line_is_known(mock: MockService) -> None:
    ready = json.loads(mock.raw_ready)
    for name in ("http_other", "https_other", "proxy", "never_accepts"):
        assert getattr(mock, name) == ready[name]


def test_a_callback_of_the_abi_takes_every_part(
    mock: MockService, make: Callable[..., Report]
) -> None:
    """The one function that the package itself has no use for."""
    report = make()
    parts: list[bytes] = []

    def write(user_data: object, data: Any, length: int) -> int:
        assert user_data is parts
        parts.append(bytes(data[:length]))
        return 0

    function = abi.WriteFn(write)
    with dbss.Client(endpoint=mock.http, token=mock.token) as client:
        assert client._context is not None
        names = [one.encode() for one in report.ids]
        operation = dbss.Operation()
        abi.report_download_to_callback(
            client._context.pointer, *names, None, function, parts, operation.control().pointer
        )
    assert sha256(b"".join(parts)) == report.sha256
