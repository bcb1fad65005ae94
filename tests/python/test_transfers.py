"""Transfers in the Python package: files, streams, progress, cancel, retries and resume."""

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
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
# The library promises 100 ms for a cancel and 250 ms for a callback or a signal; the rest
# allows for a busy machine. The tests print the times.
PROMPT = 1.0


@pytest.fixture
def client(mock: MockService) -> Iterator[dbss.Client]:
    with dbss.Client(endpoint=mock.http, token=mock.token) as one:
        yield one


@pytest.fixture(autouse=True)
def clear_faults_after_test(mock: MockService) -> Iterator[None]:
    yield
    mock.clear_faults()
    mock.clear_listener_faults()


@pytest.fixture
def new_report(mock: MockService) -> Callable[..., Report]:
    def make_report(size: int = 300 * KIB, format: str = "bytes", **fault: Any) -> Report:
        info = mock.add_report(format=format, size=size)
        report = Report(mock, info)
        if fault:
            report.fault(**fault)
        return report

    return make_report


@dataclass
class Report:
    mock: MockService
    info: dict[str, Any]

    @property
    def id(self) -> str:
        return self.info["id"]

    @property
    def ids(self) -> tuple[str, str, str]:
        return self.mock.project_id, self.mock.instance_id, self.id

    @property
    def size(self) -> int:
        return self.info["sizes"]["en-us"]

    @property
    def sha256(self) -> str:
        return self.info["sha256"]["en-us"]

    def fault(self, **fault: Any) -> None:
        self.mock.fault(self.id, **fault)

    def change(self) -> None:
        self.info = self.mock.new_version(self.id)

    def requests(self) -> list[dict[str, Any]]:
        return self.mock.requests(self.id)

    def headers(self, name: str) -> list[str | None]:
        """The value of a header in each request."""
        return [
            next((value for key, value in one["headers"] if key.lower() == name), None)
            for one in self.requests()
        ]


def sha256(data: bytes | Path) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()


def python(code: str, environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a child process that finds the package."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def env_for(report: Report) -> dict[str, str]:
    """The variables of such a program, for a report."""
    return {
        "ENDPOINT": report.mock.http,
        "TOKEN": report.mock.token,
        "IDS": ",".join(report.ids),
    }


# Download methods; each returns the bytes.


class Writer:
    """An object with a write method that is not a file."""

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
        # No partial file, whatever the failure.
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


def with_stream(client: dbss.Client, report: Report, directory: Path, **more: Any) -> bytes:
    with client.open_report(*report.ids, **more) as stream:
        return stream.read()


DOWNLOAD_METHODS = [to_bytes, to_file, to_directory, to_descriptor, to_writer, with_stream]
# These can discard the received bytes and restart.
RESTARTABLE_METHODS = [to_bytes, to_file, to_directory]

every_method = pytest.mark.parametrize("method", DOWNLOAD_METHODS)


@every_method
@pytest.mark.parametrize("listener", ["http", "https"])
def test_download_matches_hash(
    mock: MockService,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
    listener: str,
) -> None:
    report = new_report(5 * MIB + 1, "pdf")
    with dbss.Client(
        endpoint=getattr(mock, listener), token=mock.token, ca_file=mock.ca_file
    ) as client:
        got = method(client, report, tmp_path, locale="zh-cn")
    assert sha256(got) == report.info["sha256"]["zh-cn"]


# Broken transfers.


@every_method
def test_transfer_cut_at_random_offsets_completes(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    def download(seed: int) -> int:
        # Bytes of no known format, and an odd length.
        report = new_report(200_003)
        at = random.Random(seed).choice(([0, 10], [0, 200_003], [199_900, 200_003]))
        cut = {"seed": seed, "least": at[0], "most": at[1], "kind": "any"}
        report.fault(cut_random=cut, times=2, framing=("length", "chunked")[seed % 2])
        directory = tmp_path / str(seed)
        directory.mkdir()
        operation = dbss.Operation()
        got = method(client, report, directory, operation=operation)
        assert len(got) == report.size
        assert sha256(got) == report.sha256
        assert operation.received == report.size
        return operation.attempts

    with ThreadPoolExecutor(16) as pool:
        attempts = list(pool.map(download, range(48), timeout=TIMEOUT))
    # A cut at the very end has no effect.
    assert sum(one >= 3 for one in attempts) > 20


@every_method
def test_transfer_cut_once_is_resumed(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report(3 * MIB, reset_after=1_234_567, times=1)
    operation = dbss.Operation()
    seen: list[dbss.Progress] = []
    got = method(client, report, tmp_path, operation=operation, progress=seen.append)
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


@every_method
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
def test_incomplete_response_is_an_error_and_leaves_nothing(
    new_report: Callable[..., Report],
    mock: MockService,
    tmp_path: Path,
    method: Callable[..., bytes],
    fault: dict[str, Any],
) -> None:
    report = new_report(300 * KIB, **fault)
    with (
        dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=1) as client,
        pytest.raises((dbss.NetworkError, dbss.ServiceError)),
    ):
        method(client, report, tmp_path)


@every_method
def test_text_response_is_rejected_and_leaves_nothing(
    new_report: Callable[..., Report],
    mock: MockService,
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report(300, body="<!-- confidential --><html>", times=1)
    with (
        dbss.Client(endpoint=mock.http, token=mock.token) as client,
        pytest.raises(dbss.UnexpectedResponseError) as caught,
    ):
        method(client, report, tmp_path)
    assert "web page" in caught.value.message
    assert "confidential" not in caught.value.message
    left = [one for one in tmp_path.rglob("*") if one.is_file() and one.stat().st_size]
    assert left == []


@pytest.mark.parametrize("blank", [5, 511, 512, 600, 1024, 5000])
def test_report_after_white_space_is_accepted(
    mock: MockService, new_report: Callable[..., Report], blank: int
) -> None:
    body = "\n" * blank + "%PDF-1.7 and so on"
    report = new_report(300, body=body, times=1)
    with dbss.Client(endpoint=mock.http, token=mock.token) as client:
        got = client.download_report(mock.project_id, mock.instance_id, report.info["id"])
    assert got == body.encode()


@pytest.mark.parametrize(("blank", "expected_words"), [(600, "empty body"), (20_000, "text")])
def test_response_of_white_space_is_rejected(
    mock: MockService, new_report: Callable[..., Report], blank: int, expected_words: str
) -> None:
    report = new_report(300, body=" " * blank, times=1)
    with (
        dbss.Client(endpoint=mock.http, token=mock.token) as client,
        pytest.raises(dbss.UnexpectedResponseError) as caught,
    ):
        client.download_report(mock.project_id, mock.instance_id, report.info["id"])
    assert expected_words in caught.value.message


def change_during_transfer(report: Report) -> Callable[[dbss.Progress], None]:
    """A progress function that changes the report when some bytes have arrived."""

    def progress(now: dbss.Progress) -> None:
        if now.received and report.info["version"] == before:
            report.change()

    before = report.info["version"]
    return progress


@every_method
def test_report_changed_during_transfer_is_never_mixed(
    mock: MockService,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report(300 * KIB, stall_after=100_000, times=1)
    old = report.sha256
    with dbss.Client(endpoint=mock.http, token=mock.token, stall_timeout=0.3) as client:
        call = (client, report, tmp_path)
        if method in RESTARTABLE_METHODS:
            got = method(*call, progress=change_during_transfer(report))
            assert sha256(got) == report.sha256 != old
        else:
            with pytest.raises(dbss.NotResumableError):
                method(*call, progress=change_during_transfer(report))
            assert report.sha256 != old


@every_method
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
def test_resume_with_wrong_range_is_rejected(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
    fault: dict[str, Any],
) -> None:
    report = new_report(300 * KIB, cut_after=100_000, times=1)
    report.fault(times=1, **fault)
    if method in RESTARTABLE_METHODS:
        assert sha256(method(client, report, tmp_path)) == report.sha256
    else:
        with pytest.raises(dbss.NotResumableError):
            method(client, report, tmp_path)


CUT = 100_000
OTHER_TAG = '"of-another-version"'


def tag_and_body(report: Report) -> tuple[str, bytes]:
    """The entity tag and the bytes of a report."""
    project, instance, _ = report.ids
    url = f"{report.mock.http}/v1/{project}/audit/{instance}/reports/{report.id}/download"
    request = urllib.request.Request(url, headers={"X-Auth-Token": report.mock.token})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT) as response:
        return response.headers["ETag"], response.read()


def raw_response(status: str, headers: list[tuple[str, str]], body: bytes) -> str:
    """A response with exactly these headers, for a fault."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    length = f"Content-Length: {len(body)}\r\n"
    return base64.b64encode(f"HTTP/1.1 {status}\r\n{lines}{length}\r\n".encode() + body).decode()


@every_method
@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (
            "206 Partial Content",
            [("ETag", "$TAG"), ("ETag", OTHER_TAG), ("Content-Range", "$REST")],
        ),
        (
            "206 Partial Content",
            [("ETag", OTHER_TAG), ("ETag", "$TAG"), ("Content-Range", "$REST")],
        ),
        ("206 Partial Content", [("Content-Range", "$REST"), ("Content-Range", "bytes 0-9/10")]),
        ("206 Partial Content", [("Content-Range", "bytes 0-9/10"), ("Content-Range", "$REST")]),
        ("206 Partial Content", [("ETag", OTHER_TAG), ("Content-Range", "$REST")]),
        ("416 Range Not Satisfiable", [("ETag", OTHER_TAG), ("Content-Range", f"bytes */{CUT}")]),
        (
            "416 Range Not Satisfiable",
            [("ETag", "$TAG"), ("Content-Range", f"bytes */{CUT}"), ("Content-Range", "bytes */9")],
        ),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_resume_with_doubtful_version_is_rejected(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
    status: str,
    headers: list[tuple[str, str]],
    framing: str,
) -> None:
    report = new_report()
    tag, data = tag_and_body(report)
    values = {"$TAG": tag, "$REST": f"bytes {CUT}-{len(data) - 1}/{len(data)}"}
    supplied = [(name, values.get(value, value)) for name, value in headers]
    report.fault(cut_after=CUT, framing=framing, times=1)
    # The body is of the same version: the library must decide by the headers.
    body = data[CUT:] if status.startswith("206") else b""
    report.fault(raw_base64=raw_response(status, supplied, body), times=1)
    if method in RESTARTABLE_METHODS:
        operation = dbss.Operation()
        assert sha256(method(client, report, tmp_path, operation=operation)) == report.sha256
        assert operation.resumed == 0
    else:
        with pytest.raises(dbss.NotResumableError):
            method(client, report, tmp_path)


@every_method
def test_response_with_two_entity_tags_is_not_resumed(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report()
    tag, data = tag_and_body(report)
    both = [("ETag", tag), ("ETag", OTHER_TAG)]
    cut = base64.b64decode(raw_response("200 OK", both, data))[: CUT - len(data)]
    report.fault(raw_base64=base64.b64encode(cut).decode(), times=1)
    if method in RESTARTABLE_METHODS:
        assert sha256(method(client, report, tmp_path)) == report.sha256
    else:
        with pytest.raises(dbss.TruncatedError):
            method(client, report, tmp_path)
    assert not any(report.headers("range"))


@every_method
@pytest.mark.parametrize("max_attempts", [2, 3])
def test_resume_of_unknown_length_continues_after_partial_range(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
    max_attempts: int,
) -> None:
    report = new_report()
    tag, data = tag_and_body(report)
    report.fault(cut_after=CUT, framing="chunked", times=1)
    for first in (CUT, CUT + 1000):
        headers = [("ETag", tag), ("Content-Range", f"bytes {first}-{first + 999}/*")]
        part = raw_response("206 Partial Content", headers, data[first : first + 1000])
        report.fault(raw_base64=part, times=1)
    operation = dbss.Operation(max_attempts=max_attempts)
    assert sha256(method(client, report, tmp_path, operation=operation)) == report.sha256
    ranges = [None, *(f"bytes={CUT + more}-" for more in (0, 1000, 2000))]
    assert report.headers("range")[1:] == ranges


@every_method
def test_resume_of_unknown_length_requests_the_end(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report()
    tag, data = tag_and_body(report)
    report.fault(cut_after=CUT, framing="chunked", times=1)
    headers = [("ETag", tag), ("Content-Range", f"bytes {CUT}-{len(data) - 1}/*")]
    report.fault(raw_base64=raw_response("206 Partial Content", headers, data[CUT:]), times=1)
    assert sha256(method(client, report, tmp_path)) == report.sha256
    assert report.headers("range")[-1] == f"bytes={len(data)}-"
    assert report.requests()[-1]["status"] == 416


@every_method
def test_resume_in_endless_small_parts_ends(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report()
    tag, data = tag_and_body(report)
    report.fault(cut_after=CUT, framing="chunked", times=1)
    for first in range(CUT, CUT + 50):
        headers = [("ETag", tag), ("Content-Range", f"bytes {first}-{first}/*")]
        part = raw_response("206 Partial Content", headers, data[first : first + 1])
        report.fault(raw_base64=part, times=1)
    with pytest.raises(dbss.TruncatedError):
        method(client, report, tmp_path)
    assert len(report.requests()) < 20


@pytest.mark.parametrize("scheme", ["HTTPS", "Https"])
def test_redirect_with_uppercase_scheme_keeps_https(
    mock: MockService, new_report: Callable[..., Report], scheme: str
) -> None:
    """An uppercase scheme was once treated as plain http."""
    to = mock.https.replace("https", scheme, 1)
    target = new_report()
    report = new_report()
    path = f"/v1/{mock.project_id}/audit/{mock.instance_id}/reports/{target.id}/download"
    report.fault(status=302, headers=[["Location", to + path]], times=1)
    options = {"ca_file": mock.ca_file, "follow_redirects": True}
    with dbss.Client(endpoint=mock.https, token=mock.token, **options) as client:
        data = client.download_report(mock.project_id, mock.instance_id, report.id)
    assert hashlib.sha256(data).hexdigest() == target.sha256


@every_method
def test_resume_longer_than_its_range_is_rejected(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report(cut_after=CUT, framing="chunked", times=1)
    headers = [["Content-Range", f"bytes {CUT}-{CUT + 9}/*"]]
    report.fault(status=206, framing="chunked", headers=headers, body="x" * 1000, times=1)
    with pytest.raises(dbss.ProtocolError):
        method(client, report, tmp_path)


@every_method
def test_stalled_transfer_is_resumed_or_fails(
    mock: MockService,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report(300 * KIB, stall_after=100_000, times=2)
    with dbss.Client(endpoint=mock.http, token=mock.token, stall_timeout=0.25) as client:
        with pytest.raises(dbss.StalledError) as caught:
            method(client, report, tmp_path, operation=dbss.Operation(max_attempts=1))
        assert caught.value.attempts == 1
        assert isinstance(caught.value, TimeoutError)
        assert sha256(method(client, report, tmp_path)) == report.sha256
    assert report.headers("range")[-1] == "bytes=100000-"


def test_slow_steady_transfer_does_not_stall(
    mock: MockService, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report(10_000, drip={"bytes": 1000, "every_ms": 60})
    with dbss.Client(endpoint=mock.http, token=mock.token, stall_timeout=0.5) as client:
        assert sha256(to_file(client, report, tmp_path)) == report.sha256


# Retries.


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_retry_transient_status_is_retried(
    client: dbss.Client, new_report: Callable[..., Report], status: int
) -> None:
    report = new_report(1000, status=status, times=2, headers=[["Retry-After", "0"]])
    operation = dbss.Operation()
    assert sha256(client.download_report(*report.ids, operation=operation)) == report.sha256
    assert operation.attempts == len(report.requests()) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_retry_permanent_status_fails_at_once(
    client: dbss.Client, new_report: Callable[..., Report], status: int
) -> None:
    report = new_report(1000, status=status)
    with pytest.raises(dbss.ServiceError) as caught:
        client.download_report(*report.ids)
    assert caught.value.attempts == len(report.requests()) == 1


def test_retry_attempts_end_with_the_last_error(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(1000, status=503, headers=[["Retry-After", "0"]])
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


def test_retry_after_longer_than_limit_fails_at_once(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(1000, status=503, times=2, headers=[["Retry-After", "1"]])
    started = time.monotonic()
    with dbss.Client(endpoint=mock.http, token=mock.token, max_retry_after=1) as client:
        assert client.download_report(*report.ids)
        assert time.monotonic() - started >= 2
        report.fault(status=429, headers=[["Retry-After", "2"]])
        started = time.monotonic()
        with pytest.raises(dbss.ThrottledError) as caught:
            client.download_report(*report.ids)
        assert time.monotonic() - started < PROMPT
        assert (caught.value.retry_after, caught.value.attempts) == (2.0, 1)


# Cancel, in every phase in which a call can wait.


@dataclass
class Phase:
    """A call that waits longer than any test."""

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
        """Waits until the call has reached the phase."""
        until = time.monotonic() + TIMEOUT
        while not self.reached() or (operation is not None and operation.attempts == 0):
            assert time.monotonic() < until
            time.sleep(0.005)


PHASES = ["connect", "handshake", "header", "body", "retry"]


@pytest.fixture(params=PHASES)
def phase(
    request: pytest.FixtureRequest, mock: MockService, new_report: Callable[..., Report]
) -> Phase:
    endpoint = mock.http
    report = new_report(300 * KIB)

    def is_requested() -> bool:
        return bool(report.requests())

    reached = is_requested
    if request.param == "connect":
        endpoint = mock.never_accepts

        # Not visible from outside: the attempt is counted right before.
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


def print_duration(what: str, seconds: float) -> None:
    """Prints a duration, to compare it with the limit (pytest -rP)."""
    print(f"{what}: {seconds * 1000:.1f} ms")


@every_method
def test_cancel_ends_call_in_every_phase(
    phase: Phase, tmp_path: Path, method: Callable[..., bytes]
) -> None:
    operation = dbss.Operation()
    with phase.client() as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(method, client, phase.report, tmp_path, operation=operation)
        try:
            phase.wait(operation)
        finally:
            started = time.monotonic()
            operation.cancel()
        with pytest.raises(dbss.CancelledError) as caught:
            call.result(TIMEOUT)
        elapsed = time.monotonic() - started
        print_duration("cancel", elapsed)
        assert elapsed < PROMPT
        assert caught.type is dbss.CancelledError
        assert caught.value.cancelled_by == "operation"
        assert isinstance(operation.error, dbss.CancelledError)
        assert list(tmp_path.iterdir()) == []

        # The operation stays cancelled, without any traffic, until reset().
        before = phase.report.mock.connections()["total"]
        with pytest.raises(dbss.CancelledError):
            method(client, phase.report, tmp_path, operation=operation)
        assert phase.report.mock.connections()["total"] == before
    phase.report.mock.clear_faults()
    operation.reset()
    assert (operation.received, operation.attempts, operation.error) == (0, 0, None)
    with dbss.Client(endpoint=phase.report.mock.http, token=phase.report.mock.token) as good:
        got = method(good, phase.report, tmp_path, operation=operation)
    assert sha256(got) == phase.report.sha256


def test_cancel_all_ends_running_calls_only(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    reports = [new_report(300 * KIB, stall_after=100_000, times=1) for _ in DOWNLOAD_METHODS]
    directories = [tmp_path / str(number) for number in range(len(DOWNLOAD_METHODS))]
    for directory in directories:
        directory.mkdir()
    with ThreadPoolExecutor(len(DOWNLOAD_METHODS)) as pool:
        calls = [
            pool.submit(method, client, report, directory)
            for method, report, directory in zip(
                DOWNLOAD_METHODS, reports, directories, strict=True
            )
        ]
        while not all(any(one["sent"] for one in report.requests()) for report in reports):
            time.sleep(0.005)
        started = time.monotonic()
        client.cancel_all()
        for call in calls:
            with pytest.raises(dbss.CancelledError):
                call.result(TIMEOUT)
        elapsed = time.monotonic() - started
        print_duration("cancel_all", elapsed)
        assert elapsed < PROMPT
    for report in reports:
        assert sha256(client.download_report(*report.ids)) == report.sha256
    client.close()
    # Nothing is left to cancel.
    client.cancel_all()


@every_method
def test_progress_false_ends_call_in_every_phase(
    phase: Phase, tmp_path: Path, method: Callable[..., bytes]
) -> None:
    stopped_at: list[float] = []

    def progress(now: dbss.Progress) -> bool:
        if now.attempts and not stopped_at and phase.reached():
            stopped_at.append(time.monotonic())
        return not stopped_at

    with phase.client() as client:
        with pytest.raises(dbss.CancelledError):
            method(client, phase.report, tmp_path, progress=progress)
        elapsed = time.monotonic() - stopped_at[0]
    print_duration("stop", elapsed)
    assert elapsed < PROMPT


# Signals and exceptions.


@contextlib.contextmanager
def send_signal_when_waiting(
    phase: Phase, number: int, operation: dbss.Operation
) -> Iterator[list[float]]:
    """Sends a signal to this process when the call of the operation waits."""
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
        thread.join(TIMEOUT)


@every_method
def test_ctrl_c_ends_call_in_every_phase(
    phase: Phase, tmp_path: Path, method: Callable[..., bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    operation = dbss.Operation()
    with phase.client() as client:
        with (
            send_signal_when_waiting(phase, signal.SIGINT, operation) as sent,
            pytest.raises(KeyboardInterrupt) as caught,
        ):
            method(client, phase.report, tmp_path, operation=operation)
        elapsed = time.monotonic() - sent[0]
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    assert capfd.readouterr() == ("", "")
    print_duration("Ctrl-C", elapsed)
    assert elapsed < PROMPT


def test_ctrl_c_without_operation_ends_call(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(no_answer=True)
    phase = Phase(report, mock.http, mock.ca_file, lambda: bool(report.requests()))
    with phase.client() as client:
        timer = threading.Thread(target=lambda: (phase.wait(), os.kill(os.getpid(), signal.SIGINT)))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            client.download_report(*report.ids)
        timer.join(TIMEOUT)


class CustomError(Exception):
    """Only the tests raise it."""


@pytest.fixture
def set_usr1_handler() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets the handler of SIGUSR1 for one test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda function: signal.signal(signal.SIGUSR1, lambda *_: function()) and None
    signal.signal(signal.SIGUSR1, before)


@every_method
def test_signal_handler_exception_is_raised_unchanged(
    phase: Phase,
    tmp_path: Path,
    method: Callable[..., bytes],
    set_usr1_handler: Callable[[Callable[[], None]], None],
) -> None:
    exception = CustomError("from the handler")

    def handler() -> None:
        raise exception

    set_usr1_handler(handler)
    operation = dbss.Operation()
    with (
        phase.client() as client,
        send_signal_when_waiting(phase, signal.SIGUSR1, operation),
        pytest.raises(CustomError) as caught,
    ):
        method(client, phase.report, tmp_path, operation=operation)
    assert caught.value is exception
    assert exception.__context__ is None
    assert "handler" in [one.name for one in traceback.extract_tb(exception.__traceback__)]


def test_signal_handler_that_returns_does_not_end_the_call(
    mock: MockService,
    new_report: Callable[..., Report],
    set_usr1_handler: Callable[[Callable[[], None]], None],
) -> None:
    report = new_report(300 * KIB, delay_ms=700)
    phase = Phase(report, mock.http, mock.ca_file, lambda: bool(report.requests()))
    ran: list[float] = []
    set_usr1_handler(lambda: ran.append(time.monotonic()))
    operation = dbss.Operation()
    with (
        phase.client() as client,
        send_signal_when_waiting(phase, signal.SIGUSR1, operation) as sent,
    ):
        got = client.download_report(*report.ids, operation=operation)
        ended = time.monotonic()
    assert sha256(got) == report.sha256
    print_duration("handler", ran[0] - sent[0])
    assert ran[0] < ended


def test_signal_handler_may_cancel_and_call(
    client: dbss.Client,
    mock: MockService,
    new_report: Callable[..., Report],
    set_usr1_handler: Callable[[Callable[[], None]], None],
) -> None:
    report = new_report(no_answer=True)
    other = new_report(1000)
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

    set_usr1_handler(handler)
    with (
        send_signal_when_waiting(phase, signal.SIGUSR1, operation),
        pytest.raises(dbss.CancelledError),
    ):
        client.download_report(*report.ids, operation=operation)
    # Errors of calls inside a callback are complete, too.
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
    """Calls callbacks with a pending signal that Python has not handled yet."""
    path = tmp_path_factory.mktemp("trampoline") / "trampoline.so"
    command = [environment.get("CC", "cc"), "-shared", "-fPIC", "-o", path, "-x", "c", "-"]
    subprocess.run(command, input=TRAMPOLINE, check=True, text=True, timeout=TIMEOUT)
    library = CDLL(str(path))
    library.tick.argtypes = (abi.ProgressFn, py_object)
    library.tick.restype = c_int32
    library.message.argtypes = (abi.LogFn, py_object)
    library.message.restype = None
    return library


def test_signal_right_before_progress_callback_is_not_lost(trampoline: CDLL) -> None:
    monitor = operation_module.CallMonitor(operation_module.Control())
    assert trampoline.tick(ffi._PROGRESS_CALLBACK, monitor._callback_loop) == 1
    assert type(monitor._raised) is KeyboardInterrupt
    # It keeps stopping the call, even if it is resumed.
    assert [next(monitor._callback_loop), next(monitor._callback_loop)] == [1, 1]


def test_signal_right_before_log_callback_is_not_lost(trampoline: CDLL) -> None:
    log = log_module.LogForwarder(lambda _: None)
    monitor = operation_module.CallMonitor(operation_module.Control(), log=log)
    held = functools.partial(log.relay)
    with pytest.raises(KeyboardInterrupt):
        monitor.run(trampoline.message, ffi._LOG_CALLBACK, held)
    # The call would have been stopped.
    assert next(monitor._callback_loop) == 1


@every_method
def test_progress_exception_is_raised_unchanged(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
    capfd: pytest.CaptureFixture[str],
) -> None:
    for at in (1, 2):
        report = new_report(300 * KIB, stall_after=100_000)
        exception = CustomError(at)
        count: list[dbss.Progress] = []

        def inner(
            now: dbss.Progress, exception: CustomError = exception, at: int = at, count: Any = count
        ) -> None:
            count.append(now)
            if len(count) == at:
                raise exception

        with pytest.raises(CustomError) as caught:
            method(client, report, tmp_path, progress=inner)
        assert caught.value is exception
        assert (exception.__context__, exception.__cause__) == (None, None)
        names = [one.name for one in traceback.extract_tb(exception.__traceback__)]
        assert names[-1] == "inner"
        assert method.__name__ in names
        assert len(count) == at
    assert capfd.readouterr() == ("", "")


def test_write_exception_is_raised_unchanged(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report()
    exception = CustomError()

    class FailingWriter:
        def write(self, data: bytes) -> None:
            raise exception

    with pytest.raises(CustomError) as caught:
        client.download_report_to(*report.ids, FailingWriter())
    assert caught.value is exception
    assert (exception.__context__, exception.__cause__) == (None, None)
    # The connection and the operation are free again.
    assert sha256(client.download_report(*report.ids)) == report.sha256


def test_kept_exception_keeps_no_context_and_no_stream(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(300 * KIB, stall_after=100_000)
    kept = []

    def refuse(now: dbss.Progress) -> None:
        if now.received:
            raise CustomError

    client = dbss.Client(endpoint=mock.http, token=mock.token)
    context = weakref.ref(client._context)
    with client.open_report(*report.ids, progress=refuse) as stream:
        handle = weakref.ref(stream._handle)
        try:
            stream.read()
        except CustomError as error:
            kept.append(error)
    client.close()
    assert (context(), handle()) == (None, None)
    assert kept[0].__traceback__ is not None


# Progress.


@every_method
def test_progress_is_called_while_nothing_arrives(
    mock: MockService,
    new_report: Callable[..., Report],
    tmp_path: Path,
    method: Callable[..., bytes],
) -> None:
    report = new_report(300 * KIB, stall_after=100_000)
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
        method(client, report, tmp_path, progress=progress)
    waiting = [one for one in seen if one.received == 100_000]
    assert len(waiting) >= 9
    assert waiting[-1] == dbss.Progress(100_000, report.size, 0, 1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    print_duration("longest gap", max(gaps))
    assert max(gaps) < PROMPT / 2


def test_progress_reports_the_end_of_a_small_report(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    for method in DOWNLOAD_METHODS:
        report = new_report(1000)
        seen: list[dbss.Progress] = []
        method(client, report, tmp_path, progress=seen.append)
        assert seen[-1] == dbss.Progress(1000, 1000, 0, 1), method


def test_progress_that_is_not_callable_is_rejected(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report()
    operation = dbss.Operation()
    for call in (client.download_report, client.open_report):
        with pytest.raises(TypeError, match="progress"):
            call(*report.ids, progress=1, operation=operation)
    assert client.download_report(*report.ids, operation=operation)


def test_callbacks_are_released(client: dbss.Client, new_report: Callable[..., Report]) -> None:
    class Function:
        def __call__(self, now: dbss.Progress) -> None:
            pass

    before = len(ffi._held_by_c)
    operation = dbss.Operation()
    functions = [Function() for _ in range(3)]
    references = [weakref.ref(one) for one in functions]
    report = new_report()
    client.download_report(*report.ids, operation=operation, progress=functions[0])
    client.open_report(*report.ids, operation=operation, progress=functions[1]).close()
    client.open_report(*report.ids, progress=functions[2]).close()
    functions.clear()
    assert [one() for one in references] == [None, None, None]
    with dbss.Client(endpoint=client._label, log=lambda *_: None):
        assert len(ffi._held_by_c) == before + 1
    assert len(ffi._held_by_c) == before


# Operations.


def test_operation_serves_one_call_at_a_time(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    waits, free = new_report(300 * KIB, stall_after=100_000), new_report()
    operation = dbss.Operation()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.download_report, *waits.ids, operation=operation)
        while operation.received < 100_000 or operation.filename is None:
            time.sleep(0.005)
        for method in DOWNLOAD_METHODS:
            with pytest.raises(dbss.BusyError):
                method(client, free, tmp_path, operation=operation, progress=lambda now: None)
        with pytest.raises(dbss.BusyError):
            operation.reset()
        assert operation.filename == "audit-report.bin"
        assert operation.path is None
        operation.cancel()
        with pytest.raises(dbss.CancelledError):
            call.result(TIMEOUT)
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


def test_operation_shared_by_threads_succeeds_or_is_busy(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report(10_000)
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
        got = set(pool.map(download, range(400), timeout=TIMEOUT))
    assert report.sha256 in got
    assert got <= {report.sha256, "busy"}


def test_operation_strings_can_be_read_at_any_time(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    reports = [new_report(1000), new_report(1000)]
    operation = dbss.Operation()
    for one in reports:
        named = f'attachment; filename="{one.id}.bin"'
        one.fault(headers=[["Content-Disposition", named]])
    names = {f"{one.id}.bin" for one in reports}
    finished = threading.Event()

    def read_strings() -> set[str | None]:
        seen: set[str | None] = set()
        while not finished.is_set():
            path = operation.path
            seen.update((operation.filename, None if path is None else path.name))
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_strings) for _ in range(2)]
        try:
            for number in range(200):
                client.download_report_to(
                    *reports[number % 2].ids, tmp_path, replace=True, operation=operation
                )
        finally:
            finished.set()
        for reader in readers:
            assert reader.result(TIMEOUT) - {None} <= names


def test_operation_has_the_result_of_its_call(
    mock: MockService, client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report(1000, headers=[["X-Request-Id", "req-7"]])
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
def test_operation_options_are_validated(options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(dbss.InvalidValueError) as caught:
        dbss.Operation(**options)
    assert caught.value.parameter == parameter
    for value in ("1", True):
        with pytest.raises(TypeError):
            dbss.Operation(**{next(iter(options)): value})


def test_operation_options_override_client_options(
    mock: MockService, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report(300 * KIB, stall_after=100_000, times=1)
    with dbss.Client(endpoint=mock.http, token=mock.token, max_memory_bytes=1000) as client:
        quick = dbss.Operation(stall_timeout=0.2, max_attempts=1, connect_timeout=None)
        with pytest.raises(dbss.StalledError):
            client.download_report_to(*report.ids, tmp_path / "a", operation=quick)
        with pytest.raises(dbss.LimitExceededError):
            client.download_report(*report.ids)
        large = dbss.Operation(max_memory_bytes=MIB, total_timeout=50)
        assert sha256(client.download_report(*report.ids, operation=large)) == report.sha256
        # For a file there is no such limit.
        mode = dbss.Operation(file_mode=0o644)
        umask = os.umask(0o077)
        try:
            client.download_report_to(*report.ids, tmp_path / "a", operation=mode)
        finally:
            os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


# Streams.


def test_stream_is_a_readable_file(client: dbss.Client, new_report: Callable[..., Report]) -> None:
    report = new_report(1_000_001, "pdf")
    with client.open_report(*report.ids, "zh-cn") as stream:
        assert isinstance(stream, io.BufferedIOBase)
        assert (stream.size, stream.format) == (report.info["sizes"]["zh-cn"], "pdf")
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
        buffer = bytearray(70_000)
        assert stream.readinto(buffer) == 70_000
        digest.update(buffer)
        assert stream.readinto(memoryview(buffer)[:0]) == 0
        length = stream.readinto1(memoryview(buffer))
        assert 1 <= length <= 70_000
        digest.update(buffer[:length])
        digest.update(stream.read(300_000))
        for chunk in stream:
            assert type(chunk) is bytes
            assert chunk
            digest.update(chunk)
        assert (stream.read(), stream.read(7), stream.readinto(buffer)) == (b"", b"", 0)
        assert digest.hexdigest() == report.info["sha256"]["zh-cn"]
    assert repr(stream) == "<dbss.ReportStream closed>"
    assert stream.closed
    assert stream.format == "pdf"
    stream.close()
    for use in (stream.read, stream.read1, lambda: stream.readinto(buffer), stream.readable):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()


def test_stream_of_unknown_length_and_format_is_read(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report(
        10_000,
        framing="chunked",
        headers=[["X-Request-Id", "req-8"], ["Content-Type", None]],
    )
    with client.open_report(*report.ids) as stream:
        assert (stream.size, stream.format, stream.content_type) == (None, None, None)
        assert stream.request_id == "req-8"
        assert sha256(stream.read()) == report.sha256


def test_stream_works_with_copyfileobj_and_zipfile(
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


def test_stream_ends_only_when_complete_and_repeats_its_error(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report(300 * KIB, cut_after=100_000)
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


def test_stream_outlives_its_client_until_close(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(3 * MIB, cut_after=MIB, times=1)
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


def test_stream_closed_by_other_thread_ends_its_read(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report(300 * KIB, stall_after=100_000)
    operation = dbss.Operation()
    stream = client.open_report(*report.ids, operation=operation)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(stream.read)
        while operation.received < 100_000:
            time.sleep(0.005)
        with pytest.raises(dbss.BusyError):
            stream.read(1)
        started = time.monotonic()
        stream.close()
        with pytest.raises(dbss.CancelledError):
            read.result(TIMEOUT)
        elapsed = time.monotonic() - started
    print_duration("close", elapsed)
    assert elapsed < PROMPT
    for use in (stream.read, stream.read1, stream.readable, lambda: stream.readinto(bytearray(9))):
        with pytest.raises(dbss.ClosedError, match="closed"):
            use()
    # The operation is free, and was not cancelled itself.
    assert client.download_report(*new_report().ids, operation=operation)


def test_stream_close_during_reads_is_safe(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report(2 * MIB)
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
            assert all(one.result(TIMEOUT) for one in reads)


def test_forgotten_stream_frees_its_operation(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report()
    operation = dbss.Operation()
    client.open_report(*report.ids, operation=operation)
    assert sha256(client.download_report(*report.ids, operation=operation)) == report.sha256


def test_other_threads_run_while_stream_and_file_wait(
    mock: MockService, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    for method in (to_file, with_stream):
        report = new_report(300 * KIB, stall_after=100_000)
        with (
            dbss.Client(
                endpoint=mock.http, token=mock.token, stall_timeout=0.5, max_attempts=1
            ) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            call = pool.submit(method, client, report, tmp_path)
            turns = 0
            while not call.done():
                turns += 1
            with pytest.raises(dbss.StalledError):
                call.result()
        # If the GIL were held, there would be no turns in that half second.
        assert turns > 5_000


# Files.


def test_existing_file_is_kept_or_replaced_atomically(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report()
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


def test_file_created_during_download_is_kept(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report(300 * KIB, delay_ms=300)
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
def test_target_that_is_no_regular_file_is_rejected(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path, kind: str, replace: bool
) -> None:
    report = new_report()
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


def test_path_of_every_type_is_accepted(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path, monkeypatch: Any
) -> None:
    report = new_report(1000)
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
def test_hostile_file_name_stays_in_directory(
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    disposition: str,
    name: str | None,
) -> None:
    report = new_report(1000, headers=[["Content-Disposition", disposition]])
    directory = tmp_path / "here"
    directory.mkdir()
    path = client.download_report_to(*report.ids, directory)
    assert path.parent == directory
    assert os.listdir(directory) == [path.name]
    assert os.listdir(tmp_path) == ["here"]
    assert not path.name.startswith(".")
    assert not any(one in path.name for one in "/\\\0\n")
    assert name in (None, path.name)
    # The name is only known now, and the existing file is kept.
    with pytest.raises(dbss.FileExistsError):
        client.download_report_to(*report.ids, directory)


@pytest.mark.parametrize("encoding", ["gbk", "big5", "gb18030", "shift-jis"])
@pytest.mark.parametrize(
    "names", [("\u5be9\u8a08.pdf", "\u65e5\u5831.pdf"), ("\u7968.pdf", "\u7968\u7968.pdf")]
)
@pytest.mark.parametrize("quote", ['"', ""])
def test_file_names_in_other_encodings_never_collide(
    mock: MockService,
    client: dbss.Client,
    new_report: Callable[..., Report],
    tmp_path: Path,
    encoding: str,
    names: tuple[str, str],
    quote: str,
) -> None:
    """Little of them is valid UTF-8, and that part may be the same."""
    saved = []
    for name in names:
        report = new_report(1000)
        body = b"%PDF-1.7\n" + name.encode() + b"\n%%EOF\n"
        disposition = b"attachment; filename=" + f"{quote}{name}{quote}".encode(encoding)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Disposition: %b\r\n\r\n"
        response = head % (len(body), disposition) + body
        mock.fault(report.id, raw_base64=base64.b64encode(response).decode(), times=1)
        path = client.download_report_to(*report.ids, tmp_path, replace=True)
        assert path.read_bytes() == body
        assert path.name == f"{report.id}.pdf"
        saved.append(path)
    assert sorted(tmp_path.iterdir()) == sorted(saved)


def test_full_disk_keeps_the_old_file(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    """RLIMIT_FSIZE simulates a full disk."""
    report = new_report()
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
def test_directory_without_permission_keeps_the_old_file(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report()
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


def test_killed_process_leaves_old_or_new_file(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    """Kills child processes at random moments."""
    fork = multiprocessing.get_context("fork")
    report = new_report(2 * MIB)
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
        child.join(TIMEOUT)
        now = sha256(target)
        assert now in (old, report.sha256)
        seen.append(now == old)
        leftovers = [one for one in os.listdir(tmp_path) if one != "report"]
        assert all(one.startswith(".dbss-") and one.endswith(".part") for one in leftovers)
    print_duration(f"{seen.count(True)} old files and {seen.count(False)} new ones", 0)


# File objects and descriptors.


def test_file_object_is_written_from_its_position(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report()
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


def test_write_only_object_gets_every_byte(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report()
    memory = io.BytesIO()
    client.download_report_to(*report.ids, memory)
    assert sha256(memory.getvalue()) == report.sha256
    # It has a descriptor too, which must not be used.
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
        """Writes only a part at a time."""

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


def test_unwritable_target_is_rejected(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report()
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
def test_pipe_with_slow_reader_gets_the_report(
    client: dbss.Client, new_report: Callable[..., Report], blocking: bool
) -> None:
    report = new_report(2 * MIB)
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
        assert reader.result(TIMEOUT) == report.sha256


def test_pipe_without_reader_is_an_error(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    report = new_report(2 * MIB)
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
def test_full_blocking_descriptor_obeys_timeout_and_cancel(
    client: dbss.Client, new_report: Callable[..., Report], tmp_path: Path, kind: str
) -> None:
    report = new_report(8 * MIB)
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
        started = time.monotonic()
        operation = dbss.Operation(total_timeout=0.3)
        with pytest.raises(dbss.TotalTimeoutError):
            client.download_report_to(*report.ids, writing, operation=operation)
        elapsed = time.monotonic() - started
        operation = dbss.Operation()

        def cancel(now: dbss.Progress) -> None:
            if now.received and not ended:
                ended.append(time.monotonic())
                operation.cancel()

        ended: list[float] = []
        with pytest.raises(dbss.CancelledError):
            client.download_report_to(*report.ids, writing, operation=operation, progress=cancel)
        cancel_delay = time.monotonic() - ended[0]
    print(f"total timeout {elapsed * 1000:.0f} ms, cancel {cancel_delay * 1000:.0f} ms")
    assert elapsed < 0.3 + PROMPT
    assert cancel_delay < PROMPT


@pytest.mark.parametrize("blocking", [True, False])
def test_full_pipe_wait_is_ended_by_ctrl_c_and_cancel(
    client: dbss.Client, new_report: Callable[..., Report], blocking: bool
) -> None:
    report = new_report(2 * MIB)
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)

    def seen(now: dbss.Progress) -> None:
        # No progress since the last callback.
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
                assert full.wait(TIMEOUT)
                ended.append(time.monotonic())
                end()

            thread = threading.Thread(target=finish)
            thread.start()
            with pytest.raises(kind):
                client.download_report_to(*report.ids, writing, progress=seen)
            elapsed = time.monotonic() - ended[0]
            thread.join(TIMEOUT)
            print_duration(kind.__name__, elapsed)
            assert elapsed < PROMPT
    finally:
        os.close(reading)
        os.close(writing)


# Log.


def test_log_has_all_events_and_no_secret(
    mock: MockService, new_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = new_report(300 * KIB, cut_after=100_000, times=1, headers=[["X-Request-Id", "req-5"]])
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
    assert 0 < saved.duration < TIMEOUT
    failures = [one for one in records if one.level == dbss.LOG_ERROR]
    statuses = [dbss.NotFoundError.status, dbss.UnauthenticatedError.status]
    assert [one.status for one in failures] == statuses
    assert [one.http_status for one in failures] == [404, 401]
    for one in records:
        assert type(one.message) is str
        assert "\n" not in one.message
        assert mock.token[:24] not in repr(one)
        assert "another-token" not in repr(one)


def test_log_to_logger_has_attributes(
    mock: MockService, new_report: Callable[..., Report], caplog: pytest.LogCaptureFixture
) -> None:
    report = new_report(300 * KIB, cut_after=100_000, times=1)
    logger = logging.getLogger("reports")
    caplog.set_level(logging.INFO, "reports")
    adapter = logging.LoggerAdapter(logger, {})
    for supplied in (logger, adapter, logger.log, adapter.log):
        before = len(caplog.records)
        with dbss.Client(endpoint=mock.http, token=mock.token, log=supplied) as client:
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
    for rejected in ("a name", logging.ERROR):
        with pytest.raises(TypeError, match=r"logging\.Logger"):
            dbss.Client(endpoint=mock.http, log=rejected)


def test_log_records_come_during_the_call(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(300 * KIB, status=503, headers=[["Retry-After", "50"]])
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
        pool.submit(client.download_report, *report.ids, operation=operation).result(TIMEOUT)
    assert "503" in came[0]


def test_log_function_may_call_and_gets_its_own_records(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report, other = new_report(300 * KIB, cut_after=100_000, times=1), new_report(1000)
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


def test_log_exception_does_not_end_the_call(
    mock: MockService, new_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = new_report(300 * KIB, cut_after=100_000, times=1)
    exception = CustomError()
    hooked: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: hooked.append(one.exc_value))

    def log(record: dbss.LogRecord) -> None:
        raise exception

    with dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client:
        assert sha256(client.download_report(*report.ids)) == report.sha256
    assert hooked
    assert set(hooked) == {exception}


def test_log_function_with_ctrl_c_ends_the_call(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(300 * KIB, cut_after=100_000, times=1)

    def log(record: dbss.LogRecord) -> None:
        if record.level == dbss.LOG_WARNING:
            signal.raise_signal(signal.SIGINT)

    with (
        dbss.Client(endpoint=mock.http, token=mock.token, log=log) as client,
        pytest.raises(KeyboardInterrupt),
    ):
        client.download_report(*report.ids)


def test_log_from_many_threads_is_complete(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(1000)
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


def test_redirect_is_followed_when_allowed_and_drops_the_token(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    report = new_report(1000)
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


def test_proxy_with_password_is_used(mock: MockService, new_report: Callable[..., Report]) -> None:
    report = new_report(1000)
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


def test_proxy_of_environment_is_used_on_request(
    mock: MockService, new_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = new_report(1000)
    # No server listens there.
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
def test_no_proxy_matches_curl(
    mock: MockService,
    new_report: Callable[..., Report],
    monkeypatch: pytest.MonkeyPatch,
    exceptions: dict[str, str],
    past: bool,
) -> None:
    report = new_report(1000)
    # No server listens there.
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


def use_in_child(
    client: dbss.Client, report: Report, path: Path, stream: Any, operation: Any
) -> Any:
    got: list[object] = []
    for rejected in (
        lambda: stream.read(10),
        lambda: client.download_report(*report.ids, operation=operation),
        operation.reset,
    ):
        try:
            got.append(repr(rejected()))
        except dbss.Error as error:
            got.append(type(error).__name__)
    # These must not wait for locks whose owners do not exist in the child.
    got.append((operation.path, operation.error))
    operation.cancel()
    stream.close()
    got.extend(sha256(client.download_report_to(*report.ids, path, replace=True)) for _ in range(5))
    with client.open_report(*report.ids) as own:
        got.append(sha256(own.read()))
    return got


@pytest.mark.parametrize("listener", ["http", "https"])
def test_forked_child_downloads_during_parents_call(
    mock: MockService, new_report: Callable[..., Report], tmp_path: Path, listener: str
) -> None:
    fork = multiprocessing.get_context("fork")
    slow, quick = new_report(300 * KIB), new_report(300 * KIB)
    slow.fault(drip={"bytes": 10_000, "every_ms": 20})
    results = fork.SimpleQueue()

    def child() -> None:
        try:
            results.put(use_in_child(client, quick, tmp_path / str(os.getpid()), stream, operation))
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
            one.join(TIMEOUT)
            assert one.exitcode == 0
        rejected = ["ArgumentError", "ArgumentError", "ArgumentError", (None, None)]
        for _ in children:
            got = results.get()
            # The error depends on whether another thread reads at the moment of the fork.
            assert got[0] in ("BusyError", "ArgumentError")
            assert got[1:4] == rejected[1:]
            assert set(got[4:]) == {quick.sha256}
        # The children have not affected the stream of the parent.
        assert sha256(read.result(TIMEOUT)) == slow.sha256
        stream.close()


@pytest.mark.parametrize("listener", ["http", "https"])
def test_processes_with_the_same_id_are_distinguished(
    mock: MockService,
    new_report: Callable[..., Report],
    environment: dict[str, str],
    tmp_path: Path,
    listener: str,
) -> None:
    """Each PID namespace has a process with the number 1."""
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
    theirs, ours = new_report(40_000), new_report(40_000)
    settings = {
        "endpoint": getattr(mock, listener),
        "token": mock.token,
        "ca_file": str(mock.ca_file),
    }
    env_for = json.dumps([settings, *([one.ids, one.sha256] for one in (theirs, ours))])
    done = subprocess.run(
        [sys.executable, "-c", code, env_for],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.stdout.startswith("unshare:") and not (os.environ.get("CI") and os.geteuid() == 0):
        pytest.skip(f"no PID namespaces here: {done.stdout}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_idle_stream_of_parent_is_rejected_in_child(
    client: dbss.Client, new_report: Callable[..., Report]
) -> None:
    fork = multiprocessing.get_context("fork")
    report = new_report()
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
        process.join(TIMEOUT)
        parameter, message = results.get()
        assert parameter == "stream"
        assert "fork" in message
        assert sha256(head + stream.read()) == report.sha256


@pytest.mark.parametrize("listener", ["http", "https"])
def test_many_threads_leave_little_memory(
    mock: MockService, new_report: Callable[..., Report], environment: dict[str, str], listener: str
) -> None:
    report = new_report(10_000)
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
    done = python(code, environment, **{**env_for(report), **more})
    assert (done.returncode, done.stderr) == (0, "")
    print(f"{done.stdout.strip()} KiB more")
    assert int(done.stdout) < 40 * 1024


def test_report_of_a_gibibyte_uses_little_memory(
    new_report: Callable[..., Report], environment: dict[str, str], tmp_path: Path
) -> None:
    report = new_report(1024 * MIB)
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
        done = python(code, environment, DIRECTORY=str(tmp_path), **env_for(report))
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


def test_many_calls_leak_nothing(
    new_report: Callable[..., Report], environment: dict[str, str]
) -> None:
    report = new_report(100 * KIB)
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
    done = python(code, environment, **env_for(report))
    assert (done.returncode, done.stderr) == (0, "")
    memory, descriptors = map(int, done.stdout.split())
    # Less than one KiB for each of 3000 calls, whose reports were 300 MiB.
    assert memory < 3000
    assert descriptors == 0


def test_reference_cycle_is_freed_once_and_not_used_again(
    new_report: Callable[..., Report], environment: dict[str, str]
) -> None:
    """Python finalizes the parts in any order."""
    report = new_report()
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
    # Freed memory is overwritten.
    done = python(code, environment, MALLOC_PERTURB_="85", **env_for(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


# The exit of the interpreter.


def test_interpreter_exit_with_open_objects_is_silent(
    new_report: Callable[..., Report], environment: dict[str, str]
) -> None:
    report = new_report(300 * KIB, stall_after=100_000)
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
    done = python(code, environment, **env_for(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1000\n", "")


def test_interpreter_exit_with_daemon_thread_in_call_succeeds(
    new_report: Callable[..., Report], environment: dict[str, str]
) -> None:
    """Python ends such a thread as soon as it tries to run Python code."""
    report = new_report(300 * KIB, stall_after=100_000)
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
    # The exit takes long enough for several progress callbacks.
    def __del__(self, sleep=time.sleep): sleep(0.5)
builtins.slow = Slow()
print("end")
"""
    done = python(code, environment, **env_for(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_interpreter_exit_ends_no_thread_inside_a_callback(
    new_report: Callable[..., Report], environment: dict[str, str]
) -> None:
    """Daemon threads make all kinds of calls while the main thread returns."""
    report = new_report(200_000)
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
        done = python(code, environment, **env_for(report))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_interpreter_exit_does_not_wait_for_function_that_never_returns(
    new_report: Callable[..., Report], environment: dict[str, str]
) -> None:
    report = new_report()
    code = """
import os, threading, dbss, dbss.operation
dbss.operation.EXIT_TIMEOUT = 0.2
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
    done = python(code, environment, **env_for(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_interpreter_exit_with_running_user_function_succeeds(
    new_report: Callable[..., Report], environment: dict[str, str]
) -> None:
    """Python ends the thread when the function continues."""
    report = new_report()
    code = """
import builtins, os, threading, time, dbss, dbss.operation
dbss.operation.EXIT_TIMEOUT = 0.05
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
    # The exit takes long enough for the functions to continue.
    def __del__(self, sleep=time.sleep): sleep(0.3)
builtins.slow = Slow()
print("end")
"""
    for _ in range(5):
        done = python(code, environment, **env_for(report))
        assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_forked_child_exit_does_not_wait_for_parents_calls(
    new_report: Callable[..., Report], environment: dict[str, str]
) -> None:
    report = new_report(300 * KIB, stall_after=100_000)
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
    done = python(code, environment, **env_for(report))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_ready_line_has_all_listeners(mock: MockService) -> None:
    ready = json.loads(mock.raw_ready)
    for name in ("http_other", "https_other", "proxy", "never_accepts"):
        assert getattr(mock, name) == ready[name]


def test_write_callback_gets_every_part(
    mock: MockService, new_report: Callable[..., Report]
) -> None:
    """The only function that the package itself does not use."""
    report = new_report()
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
