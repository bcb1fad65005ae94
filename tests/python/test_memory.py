"""The memory that calls of the Python package need and leave."""

import hashlib
import os
import shutil

from support import KIB, MIB


def test_report_of_two_gibibytes_uses_little_memory(new_report, run_python, tmp_path):
    """More than a signed 32-bit length can hold. DBSS_TEST_LARGE is the size in MiB."""
    size = int(os.environ.get("DBSS_TEST_LARGE", "2048")) * MIB
    report = new_report(size)
    code = """
client, operation = dbss.Client(**settings), dbss.Operation()
before = proc("VmHWM:")
client.download_report_to(*ids, os.environ["DIRECTORY"], operation=operation)
print(operation.received, operation.total, proc("VmHWM:") - before)
"""
    others = """
client, operation = dbss.Client(**settings), dbss.Operation()
before = proc("VmHWM:")
client.download_report_to(
    *ids, type("Writer", (), {"write": lambda self, data: None})(), operation=operation
)
with client.open_report(*ids) as stream, open(os.devnull, "wb") as nowhere:
    shutil.copyfileobj(stream, nowhere)
print(operation.received, operation.resumed, proc("VmHWM:") - before)
"""
    try:
        printed = run_python(code, report, DIRECTORY=str(tmp_path))
        received, total, saved = map(int, printed.split())
        digest = hashlib.sha256()
        with open(tmp_path / "audit-report.bin", "rb") as file:
            while part := file.read(MIB):
                digest.update(part)
    finally:
        shutil.rmtree(tmp_path)
    assert (received, total, digest.hexdigest()) == (size, size, report.sha256)
    # The second half comes in another attempt.
    report.fault(cut_after=size // 2, times=1)
    received, resumed, grown = map(int, run_python(others, report).split())
    assert (received, resumed) == (size, size // 2)
    # In KiB.
    assert max(saved, grown) < 8 * KIB


def test_many_calls_leak_nothing(new_report, run_python, tmp_path):
    code = """
client = dbss.Client(**settings, log=lambda record: None)
def used():
    return proc("VmRSS:"), len(os.listdir("/proc/self/fd"))
class Stop(Exception): pass
def stop(now): raise Stop
def calls(times):
    for number in range(times):
        with client.open_report(*ids, progress=lambda now: None) as stream:
            stream.read(number)
        with dbss.Operation() as operation:
            client.download_report(*ids, operation=operation, progress=lambda now: None)
        client.download_report_to(*ids, os.environ["DIRECTORY"], replace=True)
        try:
            client.download_report_to(*ids, os.environ["DIRECTORY"])
        except dbss.FileExistsError:
            pass
        try:
            client.download_report(*ids, progress=stop)
        except Stop:
            pass
calls(200)
before = used()
calls(600)
after = used()
print(after[0] - before[0], after[1] - before[1])
"""
    printed = run_python(code, new_report(100 * KIB), DIRECTORY=str(tmp_path))
    memory, descriptors = map(int, printed.split())
    # Less than one KiB for each of 3000 calls, whose reports were 240 MiB.
    assert memory < 3000
    assert descriptors == 0


def test_reference_cycle_is_freed_once_and_not_used_again(new_report, run_python):
    """Python finalizes the parts in any order."""
    code = """
class Knot: pass
for turn in range(20):
    client = dbss.Client(**settings)
    operation = dbss.Operation()
    stream = client.open_report(*ids, operation=operation, progress=lambda now: None)
    stream.read(10)
    reports = client.reports(ids[0])
    next(reports)
    knot = Knot()
    knot.held = [knot, stream, stream._handle, client, client._context, operation, reports]
    stream.held = [stream, stream._monitor, stream._control, stream._handle]
    del client, operation, stream, reports, knot
    gc.collect()
print("end")
"""
    # Freed memory is overwritten.
    assert run_python(code, new_report(), MALLOC_PERTURB_="85") == "end\n"
