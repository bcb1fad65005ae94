"""The memory that calls of the Python package need and leave."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from downloads import KIB, MIB, NewReport, new_report, run_program

__all__ = ["new_report"]


def test_report_of_a_gibibyte_uses_little_memory(
    new_report: NewReport, environment: dict[str, str], tmp_path: Path
) -> None:
    report = new_report(1024 * MIB)
    code = """
client = dbss.Client(**settings)
before = proc("VmHWM:")
path = client.download_report_to(*ids, os.environ["DIRECTORY"])
assert path.stat().st_size == 2**30
with client.open_report(*ids) as stream, open(os.devnull, "wb") as nowhere:
    shutil.copyfileobj(stream, nowhere)
client.download_report_to(*ids, type("Writer", (), {"write": lambda self, data: None})())
print(proc("VmHWM:") - before)
"""
    try:
        grown = run_program(code, report, environment, DIRECTORY=str(tmp_path))
        digest = hashlib.sha256()
        with open(tmp_path / "audit-report.bin", "rb") as file:
            while part := file.read(MIB):
                digest.update(part)
        assert digest.hexdigest() == report.sha256
    finally:
        shutil.rmtree(tmp_path)
    # In KiB.
    assert int(grown) < 8 * KIB


def test_many_calls_leak_nothing(new_report: NewReport, environment: dict[str, str]) -> None:
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
    memory, descriptors = map(int, run_program(code, new_report(100 * KIB), environment).split())
    # Less than one KiB for each of 3000 calls, whose reports were 300 MiB.
    assert memory < 3000
    assert descriptors == 0


def test_reference_cycle_is_freed_once_and_not_used_again(
    new_report: NewReport, environment: dict[str, str]
) -> None:
    """Python finalizes the parts in any order."""
    code = """
class Knot: pass
for turn in range(20):
    client = dbss.Client(**settings)
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
    assert run_program(code, new_report(), environment, MALLOC_PERTURB_="85") == "end\n"
