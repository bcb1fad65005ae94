"""Mirrors: the idiom of Python, and limits of the process.

What a mirror does is in tests/conformance/mirror.json.
"""

import contextlib
import datetime
import errno
import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dbss
import pytest

from memory import run_and_measure

KIB = 1024
MIB = 1024 * 1024
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
# How often a mirror is killed; raise it for longer searches.
KILL_COUNT = int(os.environ.get("DBSS_TEST_KILLS") or 6)
ARCHIVE_FILES = {"manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock"}


class Archive:
    """A directory to mirror to, and its instance."""

    def __init__(self, mock, client, directory):
        self.mock, self.client, self.directory = mock, client, directory
        self.instance = mock.add_instance()

    def add(self, **report):
        return self.mock.add_report(**{"format": "pdf", "instance": self.instance, **report})["id"]

    def add_many(self, count, **reports):
        return self.mock.add_reports(count, instance=self.instance, **reports)

    def mirror(self, **more):
        values = {"project_id": self.mock.project_id, "instance_id": self.instance, **more}
        return self.client.mirror(self.directory, **values)

    def fails(self, kind, **more):
        """Mirrors, and returns the exception, which has exactly this class."""
        with pytest.raises(kind) as caught:
            self.mirror(**more)
        assert caught.type is kind
        return caught.value

    def requested(self):
        """The number of downloads by report; clears the request log."""
        found = Counter(one["report"] for one in self.mock.requests() if one["report"][:1] != "@")
        self.mock.clear_requests()
        return found

    def files(self):
        """The paths of all files but the archive's own, relative to the archive."""
        found = (one for one in self.directory.rglob("*") if not one.is_dir())
        return sorted({str(one.relative_to(self.directory)) for one in found} - ARCHIVE_FILES)

    def lines(self):
        text = (self.directory / "manifest.jsonl").read_text()
        assert text == "" or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def check(self, reports):
        """Checks that the archive has exactly these reports, and that all of it fits."""
        records = {one["id"]: one for one in self.lines()}
        assert set(records) == set(reports)
        assert self.files() == sorted(one["path"] for one in records.values())
        sums = (self.directory / "SHA256SUMS").read_text().splitlines()
        assert len(sums) == len(records)
        for record in records.values():
            data = (self.directory / record["path"]).read_bytes()
            assert (record["size"], record["sha256"]) == (len(data), sha256(data))
            assert f"{record['sha256']}  {record['path']}" in sums


@pytest.fixture
def archive(mock, tmp_path):
    with dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=1) as client:
        mock.clear_requests()
        yield Archive(mock, client, tmp_path / "archive")
    mock.clear_faults()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wait_until(true):
    until = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < until
        time.sleep(0.002)


# Values and exceptions.


def test_mirror_result_is_a_value(archive):
    assert archive.mirror() == dbss.MirrorResult()
    for day in ("2026-02-28", "2026-03-02"):
        archive.add(start_time=f"{day} 00:00:00", type="AUDIT_REPORT_DAY")
    result = archive.mirror(since=datetime.date(2026, 3, 1), until=datetime.date(2026, 3, 2))
    gap = dbss.Gap(archive.instance, "AUDIT_REPORT_DAY", datetime.date(2026, 3, 1))
    assert result == dbss.MirrorResult(listed=1, downloaded=1, gaps=(gap,))


def test_mirror_partial_error_has_the_result(archive):
    archive.add_many(2)
    bad = archive.add()
    archive.mock.fault(bad, status=500)
    error = archive.fails(dbss.PartialError)
    assert isinstance(error, dbss.ServiceError)
    assert (error.result.downloaded, error.result.failed) == (2, 1)
    [failure] = error.result.failures
    assert (failure.instance_id, failure.report_id) == (archive.instance, bad)
    assert type(failure.error) is dbss.ServerError
    archive.mock.fault("@reports.list", status=500)
    [failure] = archive.fails(dbss.PartialError, instance_id=None).result.failures[:1]
    assert failure.report_id is None


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
def test_mirror_argument_of_wrong_type_is_rejected(archive, arguments):
    with pytest.raises(TypeError):
        archive.mirror(**arguments)
    with pytest.raises(TypeError):
        archive.client.mirror(None)
    assert not archive.directory.exists()


def test_mirror_text_that_is_no_unicode_is_rejected(archive):
    assert archive.fails(dbss.InvalidUtf8Error, name="\udc80").parameter == "name"
    assert archive.fails(dbss.InvalidValueError, until="2026-11-24\0").parameter == "until"


def test_mirror_is_ended_by_ctrl_c_and_progress_function(archive):
    slow, other = archive.add(), archive.add()
    archive.mock.fault(slow, stall_after=100)

    def interrupt():
        wait_until(lambda: archive.mock.requests(slow))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        archive.mirror()
    thread.join(TIMEOUT)

    class Stop(Exception):
        pass

    def stop(now):
        if now.received:
            raise Stop

    with pytest.raises(Stop):
        archive.mirror(progress=stop)
    error = archive.fails(dbss.CancelledError, progress=lambda now: now.received == 0)
    assert error.result.listed == 2
    archive.mock.clear_faults()
    archive.mirror()
    archive.check([slow, other])


# Kills, and limits.


def test_mirror_continues_after_kill(archive):
    """Kills child processes at random moments."""
    reports = archive.add_many(500)
    fork = multiprocessing.get_context("fork")
    chance = random.Random(11)
    manifest = archive.directory / "manifest.jsonl"

    def size():
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


@pytest.mark.parametrize("start", [b"", b'{"id":"', b" "])
def test_manifest_endless_line_is_an_error(archive, start):
    archive.directory.mkdir(exist_ok=True)
    manifest = archive.directory / "manifest.jsonl"
    manifest.write_bytes(start)
    os.truncate(manifest, 3 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = archive.fails(dbss.FileError)
    assert f"line 1 of {manifest} is longer than 1 MiB" in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * KIB
    assert manifest.stat().st_size == 3 << 30


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_mirror_directory_without_permission_is_an_error(archive):
    archive.add()
    archive.directory.mkdir(0o500)
    assert archive.fails(dbss.FileError).os_code == 13
    assert os.listdir(archive.directory) == []


@contextlib.contextmanager
def file_size_limit(size):
    """RLIMIT_FSIZE simulates a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_mirror_full_disk_stops_the_run(archive):
    small = archive.add_many(3)
    archive.mirror()
    big = archive.add_many(60, format="bytes", size=64 * KIB)
    archive.requested()
    with file_size_limit(16 * KIB):
        error = archive.fails(dbss.DiskFullError)
    assert error.result.present == 3
    assert 1 <= sum(archive.requested().values()) <= 8
    archive.check(small)
    assert archive.mirror().downloaded == 60
    archive.check([*small, *big])


def test_mirror_full_disk_for_manifest_leaves_valid_manifest(archive):
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


def test_mirror_disk_space_freed_meanwhile_leaves_valid_manifest(archive):
    """As when the partial files of cancelled downloads are deleted."""
    reports = archive.add_many(60, format="bytes", size=200)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    over = threading.Event()

    def make_room(manifest):
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
        archive.check(reports)


def mirror_with_file_size_limit(archive, limit):
    """Mirrors in a process with a file size limit; exits with 0 if the error is right."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    error = archive.fails(dbss.DiskFullError)
    assert error.os_code == errno.EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(archive.lines()) > 0
    os._exit(0)


def test_mirror_file_size_limit_for_own_files_is_an_error(archive):
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

    def respond(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if "templates" in self.path:
            template = {"id": "t" * 16, "name": "daily"}
            self.respond({"templates": [{"template": template}], "total": 1})
        else:
            self.respond({"servers": [{"id": one} for one in self.instances], "total": 1})

    def do_POST(self):
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

    def log_message(self, *_):
        pass


def call_with_endless_list(tmp_path, call, **settings):
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


def check_memory(tmp_path, call, **settings):
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
def test_endless_list_uses_bounded_memory(tmp_path, call, settings):
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=check_memory, args=(tmp_path, call), kwargs=settings)
    child.start()
    child.join(2 * TIMEOUT)
    assert child.exitcode == 0


def mirror_with_descriptor_limit(archive, count):
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


def test_mirror_with_few_descriptors_uses_fewer_threads(archive):
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


def test_mirror_large_reports_use_little_memory(archive, environment):
    for _ in range(6):
        archive.add(format="bytes", size=48 * MIB)
    code = "print(client.mirror(os.environ['TO'], instance_id=os.environ['FROM']).downloaded)"
    variables = {"FROM": archive.instance, "TO": str(archive.directory)}
    downloaded, grown = run_and_measure(environment, archive.mock, code, **variables)
    assert downloaded == "6"
    assert grown < 12 * KIB
