"""Mirrors: the idiom of Python, and limits of the process.

What a mirror does is in tests/conformance/mirror.json.
"""

import contextlib
import datetime
import errno
import json
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

from comparing import expect_archive, files_in
from support import KIB, MIB, TIME_RANGE, TIMEOUT, Child, CustomError, wait_until

# How often a mirror is killed; raise it for longer searches.
KILL_COUNT = int(os.environ.get("DBSS_TEST_KILLS") or 6)


class Archive:
    """A directory to mirror to, and its instance."""

    def __init__(self, mock, client, directory):
        self.mock, self.client, self.directory = mock, client, directory
        self.instance = mock.add_instance()
        self.manifest = directory / "manifest.jsonl"

    def add(self, **report):
        return self.mock.add_report(instance=self.instance, **report)["id"]

    def add_many(self, count, **reports):
        return self.mock.add_reports(count, instance=self.instance, **reports)

    def mirror(self, **more):
        return self.client.mirror(self.directory, **{"instance_id": self.instance, **more})

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

    def whole(self):
        """The files with their final names."""
        return {name for name in files_in(self.directory) if not name.endswith(".part")}

    def lines(self):
        return [json.loads(line) for line in self.manifest.read_text().splitlines()]

    def check(self, reports):
        """Checks that the archive has exactly these reports, and that all of it fits."""
        expect_archive({"archive": self.directory, "reports": reports, "contents": False}, None)


@pytest.fixture
def archive(mock, connect, tmp_path):
    with connect(max_attempts=1) as client:
        yield Archive(mock, client, tmp_path / "archive")


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
    failure = archive.fails(dbss.PartialError, instance_id=None).result.failures[0]
    assert failure.report_id is None


WRONG_TYPES = [
    *({"since": datetime.datetime(2026, 11, 24)}, {"until": 20261124}, {"type": b"a"}),
    *({"parallel": True}, {"parallel": "4"}, {"verify": 1}, {"progress": 1}),
]


@pytest.mark.parametrize("arguments", WRONG_TYPES)
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

    def stop(now):
        if now.received:
            raise CustomError

    with pytest.raises(CustomError) as caught:
        archive.mirror(progress=stop)
    assert isinstance(caught.value.__cause__, dbss.CancelledError)
    assert caught.value.__cause__.result.listed == 2
    error = archive.fails(dbss.CancelledError, progress=lambda now: now.received == 0)
    assert error.result.listed == 2
    archive.mock.clear_faults()
    archive.mirror()
    archive.check([slow, other])


# Kills, and limits.


def test_mirror_continues_after_kill(archive):
    """Kills child processes at random moments."""
    reports = archive.add_many(500)
    chance = random.Random(11)

    def size():
        return archive.manifest.stat().st_size if archive.manifest.exists() else 0

    killed, code = 0, None
    while code != 0:
        # A file with its final name is complete, even without a line in the manifest.
        whole = archive.whole()
        child = Child(lambda: archive.mirror() and None)
        if killed < KILL_COUNT:
            # Within the next reports, or before the first.
            until = size() + chance.randrange(2 * 500 // KILL_COUNT) * 350
            wait_until(lambda n=until, c=child: size() >= n or not c.is_alive())
            time.sleep(chance.uniform(0, 0.005))
            child.kill()
            killed += 1
        code = child.ended()
        assert code in (0, -signal.SIGKILL)
        assert not {one for one in archive.requested() for name in whole if one in name}
    assert len({one["id"] for one in archive.lines()}) == len(archive.lines()) == 500
    # Partial files remain, but never with the name of a report.
    for path in archive.directory.rglob("*.part"):
        path.unlink()
    archive.check(reports)


@pytest.mark.parametrize("start", [b"", b'{"id":"', b" "])
def test_manifest_endless_line_is_an_error(archive, start):
    archive.directory.mkdir(exist_ok=True)
    archive.manifest.write_bytes(start)
    os.truncate(archive.manifest, 3 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = archive.fails(dbss.FileError)
    assert f"line 1 of {archive.manifest} is longer than 1 MiB" in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * KIB
    assert archive.manifest.stat().st_size == 3 << 30


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_mirror_directory_without_permission_is_an_error(archive):
    archive.add()
    archive.directory.mkdir(0o500)
    assert archive.fails(dbss.PermissionError).os_code == 13
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
    with file_size_limit(1000):
        error = archive.fails(dbss.DiskFullError)
    assert "manifest.jsonl" in error.message
    # All lines are complete, but for a partial last one, which does not count.
    lines = archive.manifest.read_bytes().split(b"\n")
    assert all(json.loads(line) for line in lines[:-1])
    whole = archive.whole()
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


def test_mirror_file_size_limit_for_own_files_is_an_error(archive):
    reports = archive.add_many(40, size=6000)

    def mirror():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        with file_size_limit(7000):
            assert archive.fails(dbss.DiskFullError).os_code == errno.EFBIG
        return len(archive.lines())

    assert 0 < Child(mirror).result() == len(archive.lines()) < 40
    archive.mirror()
    archive.check(reports)


class EndlessListHandler(BaseHTTPRequestHandler):
    """Endless lists of reports: each page has a thousand new ones."""

    protocol_version = "HTTP/1.1"
    reports = lists = 0
    # The first list of reports is empty.
    begins_empty = False
    name = ""
    instances = ("0" * 32,)

    def respond(self, **body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if "templates" in self.path:
            self.respond(templates=[{"template": {"id": "t" * 16, "name": "daily"}}], total=1)
        else:
            self.respond(servers=[{"id": one} for one in self.instances], total=1)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = type(self)
        if self.path.endswith("/create"):
            return self.respond(result="success")
        kind.lists += 1
        if kind.begins_empty and kind.lists == 1:
            return self.respond(reports=[], total=0)
        kind.reports += 1000
        numbers = range(kind.reports - 999, kind.reports + 1)
        items = [{"id": f"{one:020}", "name": kind.name, "format": "pdf"} for one in numbers]
        return self.respond(reports=[{"report": one} for one in items], total=10**9)

    def log_message(self, *_):
        pass


def check_memory(call, url):
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 220 * KIB
    client = dbss.Client(endpoint=url, token="k" * 32, project_id="p" * 32)
    with client, pytest.raises(dbss.Error) as caught:
        call(client)
    error = caught.value
    if isinstance(error, dbss.PartialError):
        assert error.result.listed == 0
        error = error.result.failures[0].error
    assert isinstance(error, dbss.UnexpectedResponseError)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < limit


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
    calls = {
        "mirror": lambda client: client.mirror(tmp_path / "archive"),
        "generate": lambda client: client.generate_report("0" * 32, "t" * 16, *TIME_RANGE),
    }
    handler = type("Service", (EndlessListHandler,), settings)
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        # In a process of its own, too, so that its memory does not count.
        serving = Child(server.serve_forever)
        try:
            Child(check_memory, calls[call], f"http://127.0.0.1:{server.server_port}").result()
        finally:
            serving.kill()


def thread_names():
    for task in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield task.read_text()


def mirror_with_descriptor_limit(archive, count):
    """Mirrors in a process with few free descriptors; returns the outcome."""
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
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The system shows a thread for a moment after it has ended.
    wait_until(lambda: not any(name.startswith("dbss") for name in thread_names()))
    return ended


def test_mirror_with_few_descriptors_uses_fewer_threads(archive):
    archive.add_many(40)
    for count in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32):
        ended = Child(mirror_with_descriptor_limit, archive, count).result()
        assert ended == "refused" if count <= 4 else ended == "done" or count <= 6
        saved = archive.lines() if archive.directory.exists() else []
        assert len(saved) in (0, 40)
        if archive.directory.exists():
            own = {"manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock"}
            assert len(set(files_in(archive.directory)) - own) == len(saved)
            archive.directory.rename(archive.directory.with_name(f"with {count}"))


def test_mirror_large_reports_use_little_memory(archive, run_python):
    archive.add_many(6, format="bytes", size=48 * MIB)
    code = """
client = dbss.Client(**settings, max_attempts=1)
before = proc("VmHWM:")
directory, instance = os.environ["WHERE"].split(",")
print(client.mirror(directory, instance_id=instance).downloaded)
print(proc("VmHWM:") - before)
"""
    printed = run_python(code, WHERE=f"{archive.directory},{archive.instance}")
    downloaded, grown = map(int, printed.split())
    assert downloaded == 6
    assert grown < 12 * KIB
