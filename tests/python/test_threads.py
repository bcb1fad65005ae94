"""Threads in the Python package: one client, operation or stream used by several."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dbss
import pytest

from support import MIB, TIMEOUT, sha256, to_bytes, to_file, wait_until, with_stream


@pytest.mark.parametrize("method", [to_bytes, to_file, with_stream])
def test_other_threads_run_while_a_call_waits(connect, new_report, tmp_path, method):
    report = new_report(stall_after=100_000)
    with (
        connect() as client,
        dbss.Operation() as operation,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(method, client, report, tmp_path, operation=operation)
        wait_until(lambda: sum(one["sent"] for one in report.requests()) >= 100_000)
        # If the GIL were held, there would be no turn before the call ends.
        for _ in range(5_000):
            assert not call.done()
        operation.cancel()
        with pytest.raises(dbss.CancelledError):
            call.result(TIMEOUT)


def test_operation_shared_by_threads_succeeds_or_is_busy(client, new_report):
    report = new_report(10_000)
    operation = dbss.Operation()
    mine = threading.local()

    def progress(now):
        mine.ticks += 1

    def download(_):
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


def test_operation_strings_can_be_read_at_any_time(client, new_report, tmp_path):
    reports = [new_report(1000), new_report(1000)]
    operation = dbss.Operation()
    for one in reports:
        named = f'attachment; filename="{one.id}.bin"'
        one.fault(headers=[["Content-Disposition", named]])
    names = {f"{one.id}.bin" for one in reports}
    finished = threading.Event()

    def read_strings():
        seen = set()
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


def test_stream_close_during_reads_is_safe(client, new_report):
    report = new_report(2 * MIB)
    for seed in range(30):
        stream = client.open_report(*report.ids)

        def read(stream=stream):
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


def test_log_from_many_threads_is_complete(connect, new_report):
    report = new_report(1000)
    records = []
    with connect(log=records.append) as client, ThreadPoolExecutor(8) as pool:
        got = set(pool.map(lambda _: sha256(client.download_report(*report.ids)), range(200)))
    assert got == {report.sha256}
    assert sum(report.id in one.message for one in records) >= 200


@pytest.mark.parametrize("listener", ["http", "https"])
def test_many_threads_leave_little_memory(mock, new_report, run_python, listener):
    code = """
client = dbss.Client(**settings, ca_file=os.environ["CA_FILE"], connect_timeout=120)
def download(together):
    together.wait()
    right.append(len(client.download_report(*ids)) == 10_000)
    together.wait()
def run(count):
    together = threading.Barrier(count, timeout=120)
    threads = [threading.Thread(target=download, args=(together,)) for _ in range(count)]
    for one in threads: one.start()
    for one in threads: one.join()
right = []
run(1)
before = proc("VmRSS:")
for _ in range(3):
    run(512)
assert all(right) and len(right) == 1 + 3 * 512
print(proc("VmRSS:") - before)
"""
    more = {"ENDPOINT": getattr(mock, listener), "CA_FILE": str(mock.ca_file)}
    assert int(run_python(code, new_report(10_000), **more)) < 40 * 1024
