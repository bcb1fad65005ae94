"""Files, file objects and descriptors as targets in the Python package."""

import contextlib
import errno
import gzip
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import dbss
import pytest

from support import MIB, PROMPT, CustomError, sha256


def test_file_errors_are_those_of_the_language(client, new_report, tmp_path):
    report = new_report(2 * MIB)
    path = tmp_path / "report"
    path.write_text("old")
    with pytest.raises(dbss.FileExistsError) as caught:
        client.download_report_to(*report.ids, path)
    assert isinstance(caught.value, FileExistsError)
    assert caught.value.errno == caught.value.os_code == 17
    assert caught.value.path == path
    assert caught.value.filename == str(path)
    assert str(caught.value) == caught.value.message
    assert path.read_text() == "old"
    assert client.download_report_to(*report.ids, path, replace=True) == path
    assert sha256(path) == report.sha256

    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError) as broken:
        client.download_report_to(*report.ids, pipe.fileno())
    assert isinstance(broken.value, dbss.BrokenPipeError)
    assert broken.value.errno == 32

    with open("/dev/full", "wb") as full, pytest.raises(dbss.DiskFullError) as no_space:
        client.download_report_to(*report.ids, full.fileno())
    assert isinstance(no_space.value, (dbss.FileError, OSError))


def test_path_of_every_type_is_accepted(client, new_report, tmp_path, monkeypatch):
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
    before = len(report.requests())
    for path, kind in (
        ("", dbss.InvalidValueError),
        ("a\0", dbss.InvalidValueError),
        ("no-such-directory/", dbss.FileError),
    ):
        with pytest.raises(kind):
            client.download_report_to(*report.ids, path)
    assert len(report.requests()) == before


def test_file_object_is_written_from_its_position(client, new_report, tmp_path):
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


class Slow(io.RawIOBase):
    """Writes only a part at a time."""

    got = b""

    def writable(self):
        return True

    def write(self, data):
        self.got += bytes(data[:50_000])
        return min(len(data), 50_000)


class Full(Slow):
    def write(self, data):
        return None


def test_write_only_object_gets_every_byte(client, new_report, tmp_path):
    report = new_report()
    memory, slow = io.BytesIO(), Slow()
    client.download_report_to(*report.ids, memory)
    client.download_report_to(*report.ids, slow)
    assert sha256(memory.getvalue()) == sha256(slow.got) == report.sha256
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
    with pytest.raises(BlockingIOError):
        client.download_report_to(*report.ids, Full())


def test_write_exception_is_raised_unchanged(client, new_report):
    report = new_report()
    exception = CustomError()

    class FailingWriter:
        def write(self, data):
            raise exception

    with pytest.raises(CustomError) as caught:
        client.download_report_to(*report.ids, FailingWriter())
    assert caught.value is exception
    assert (exception.__context__, exception.__cause__) == (None, None)
    # The connection and the operation are free again.
    assert sha256(client.download_report(*report.ids)) == report.sha256


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("missing/x", FileNotFoundError),
        ("missing/x/", FileNotFoundError),
        ("file/x", NotADirectoryError),
        ("file", FileExistsError),
    ],
)
def test_file_error_is_the_builtin_exception_too(client, new_report, tmp_path, place, kind):
    report = new_report()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(kind) as caught:
        client.download_report_to(*report.ids, f"{tmp_path}/{place}")
    assert isinstance(caught.value, dbss.FileError)
    assert type(caught.value) is getattr(dbss, kind.__name__)
    if kind is FileExistsError:
        assert "exists already; pass replace=True, or choose another name" in str(caught.value)


def test_refused_permission_is_the_builtin_exception_too(client, new_report, tmp_path):
    report, user = new_report(), os.geteuid()
    tmp_path.chmod(0o500)
    if user == 0:
        # Root may write everywhere.
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError) as caught:
            client.download_report_to(*report.ids, tmp_path / "report")
    finally:
        os.seteuid(user)
    assert type(caught.value) is dbss.PermissionError
    assert caught.value.errno == errno.EACCES
    with pytest.raises(FileNotFoundError):
        dbss.Client(endpoint="http://127.0.0.1:9", ca_file=tmp_path / "missing")


def test_unwritable_target_is_rejected(client, new_report, tmp_path):
    report = new_report()
    for target in (None, 1.5, True, object(), io.StringIO(), []):
        with pytest.raises(TypeError, match="path"):
            client.download_report_to(*report.ids, target)
    with open(tmp_path / "text", "w") as text, pytest.raises(TypeError):
        client.download_report_to(*report.ids, text)

    class AsyncWriter:
        async def write(self, data):
            raise AssertionError

    with pytest.raises(TypeError, match="path"):
        client.download_report_to(*report.ids, AsyncWriter())
    for buffering in (0, -1):
        with open(os.devnull, "rb", buffering) as file, pytest.raises(ValueError, match="path"):
            client.download_report_to(*report.ids, file)
    with pytest.raises(ValueError, match="replace"):
        client.download_report_to(*report.ids, io.BytesIO(), replace=True)
    with pytest.raises(TypeError, match="replace"):
        client.download_report_to(*report.ids, tmp_path / "x", replace=1)
    with open(os.devnull, "rb") as reading:
        for descriptor in (reading.fileno(), -1, 2**31, 2**40, 999_999):
            with pytest.raises(dbss.ArgumentError) as caught:
                client.download_report_to(*report.ids, descriptor)
            assert caught.value.parameter == "path"
    assert report.requests() == []


@pytest.mark.parametrize(
    "kind", ["TCP", "TCP with little room", "Unix", "pipe", "shared pipe", "FIFO"]
)
def test_full_blocking_descriptor_obeys_timeout_and_cancel(client, new_report, tmp_path, kind):
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
        with pytest.raises(dbss.TotalTimeoutError):
            client.download_report_to(
                *report.ids, writing, operation=dbss.Operation(total_timeout=0.3)
            )
        assert time.monotonic() - started < 0.3 + PROMPT
        operation = dbss.Operation()
        ended = []

        def cancel(now):
            if now.received and not ended:
                ended.append(time.monotonic())
                operation.cancel()

        with pytest.raises(dbss.CancelledError):
            client.download_report_to(*report.ids, writing, operation=operation, progress=cancel)
        assert time.monotonic() - ended[0] < PROMPT
