"""Streams in the Python package, as files."""

import gc
import hashlib
import io
import shutil
import tempfile
import zipfile

import dbss
import pytest

from support import MIB, sha256


def test_stream_is_a_readable_file(client, new_report):
    report = new_report(1_000_001, "pdf")
    with client.open_report(*report.ids, locale="zh-cn") as stream:
        assert isinstance(stream, io.BufferedIOBase)
        assert repr(stream) == f"<dbss.ReportStream {stream.filename}>"
        assert (stream.readable(), stream.writable(), stream.seekable()) == (True, False, False)
        assert stream.read(0) == b""
        head = stream.read(5)
        assert head == b"%PDF-"
        digest = hashlib.sha256(head)
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
        with pytest.raises(ValueError, match="closed") as caught:
            use()
        assert isinstance(caught.value, dbss.ClosedError)
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()


@pytest.mark.parametrize("size", ["x", [], 1.5, True])
def test_stream_rejects_a_size_of_the_wrong_type(client, new_report, size):
    report = new_report()
    with client.open_report(*report.ids) as stream:
        for read in (stream.read, stream.read1):
            with pytest.raises(TypeError, match="size: must be int"):
                read(size)
        assert sha256(stream.read(None)) == report.sha256


def test_stream_works_with_copyfileobj_and_zipfile(mock, client):
    ids = (mock.instance_id, mock.zip["id"])
    with client.open_report(*ids) as stream, tempfile.SpooledTemporaryFile() as spooled:
        shutil.copyfileobj(stream, spooled)
        spooled.seek(0)
        assert sha256(spooled.read()) == mock.zip["sha256"]["en-us"]
        with zipfile.ZipFile(spooled) as archive:
            assert archive.testzip() is None
            assert archive.namelist()


def test_stream_outlives_its_forgotten_client(connect, new_report):
    report = new_report(3 * MIB, cut_after=MIB, times=1)
    records = []
    client = connect(log=records.append)
    stream = client.open_report(*report.ids)
    del client
    gc.collect()
    with stream:
        assert sha256(stream.read()) == report.sha256
    assert any("retrying" in one.message for one in records)


def test_forgotten_stream_frees_its_operation(client, new_report):
    report = new_report()
    operation = dbss.Operation()
    client.open_report(*report.ids, operation=operation)
    assert sha256(client.download_report(*report.ids, operation=operation)) == report.sha256
