"""Forked processes, and the exit of the interpreter, with calls of the Python package."""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import dbss
import pytest

from support import TIMEOUT, Child, run, sha256

both_listeners = pytest.mark.parametrize("listener", ["http", "https"])


@pytest.fixture
def client(mock, connect, listener):
    with connect(endpoint=getattr(mock, listener), ca_file=mock.ca_file) as client:
        yield client


@both_listeners
@pytest.mark.parametrize("threads", [0, 3])
def test_forked_children_use_the_inherited_client(client, new_report, threads):
    """Also when other threads are inside calls at the moment of the fork."""
    report = new_report()
    finished = threading.Event()

    def download(times):
        return {sha256(client.download_report(*report.ids)) for _ in range(times)}

    def download_on():
        return set().union(*iter(lambda: set() if finished.is_set() else download(1), set()))

    def child():
        found = download(10)
        client.close()
        return found

    # To have an open connection that children inherit.
    assert download(1) == {report.sha256}
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        running = [pool.submit(download_on) for _ in range(threads)]
        try:
            children = [Child(child) for _ in range(5)]
            assert download(20) == {report.sha256}
            assert [one.result() for one in children] == [{report.sha256}] * 5
        finally:
            finished.set()
        assert all(one.result(TIMEOUT) <= {report.sha256} for one in running)
    assert download(1) == {report.sha256}


@both_listeners
def test_forked_child_downloads_during_parents_call(client, new_report, tmp_path):
    slow, quick = new_report(), new_report()
    slow.fault(drip={"bytes": 10_000, "every_ms": 20})
    operation = dbss.Operation()
    stream = client.open_report(*slow.ids, operation=operation)

    def use_in_child():
        got = []
        for rejected in (
            lambda: stream.read(10),
            lambda: client.download_report(*quick.ids, operation=operation),
            operation.reset,
        ):
            with pytest.raises(dbss.Error) as caught:
                rejected()
            got.append(caught.type.__name__)
        # These must not wait for locks whose owners do not exist in the child.
        assert (operation.path, operation.error) == (None, None)
        operation.cancel()
        stream.close()
        path = tmp_path / str(os.getpid())
        for _ in range(5):
            client.download_report_to(*quick.ids, path, replace=True)
            assert sha256(path) == quick.sha256
        with client.open_report(*quick.ids) as own:
            assert sha256(own.read()) == quick.sha256
        return got

    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(stream.read)
        children = [Child(use_in_child) for _ in range(3)]
        assert {sha256(client.download_report(*quick.ids)) for _ in range(5)} == {quick.sha256}
        for one in children:
            first, *others = one.result()
            # The error depends on whether another thread reads at the moment of the fork.
            assert first in ("BusyError", "ArgumentError")
            assert others == ["ArgumentError", "ArgumentError"]
        # The children have not affected the stream of the parent.
        assert sha256(read.result(TIMEOUT)) == slow.sha256
        stream.close()


@both_listeners
def test_processes_with_the_same_id_are_distinguished(mock, new_report, environment, listener):
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
    reports = new_report(40_000), new_report(40_000)
    settings = {
        "endpoint": getattr(mock, listener),
        "token": mock.token,
        "project_id": mock.project_id,
        "ca_file": mock.ca_file,
    }
    given = json.dumps([settings, *([one.ids, one.sha256] for one in reports)])
    done = run(sys.executable, "-c", code, given, env=environment)
    if done.stdout.startswith("unshare:") and not (os.environ.get("CI") and os.geteuid() == 0):
        pytest.skip(f"no PID namespaces here: {done.stdout}")
    assert (done.stdout, done.stderr) == ("", "")


# The exit of the interpreter. The class Slow makes it long enough for what runs elsewhere.

SLOW = """
class Slow:
    def __del__(self, sleep=time.sleep): sleep(0.3)
builtins.slow = Slow()
print("end")
"""


def test_forked_child_exit_does_not_wait_for_parents_calls(new_report, run_python):
    code = """
client = dbss.Client(**settings)
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
assert time.monotonic() - begun < 20
assert thread.is_alive()
operation.cancel()
thread.join(30)
print("end")
"""
    assert run_python(code, new_report(stall_after=100_000)) == "end\n"


def test_interpreter_exit_with_open_objects_is_silent(new_report, run_python):
    code = """
client = dbss.Client(**settings, log=lambda record: None)
operation = dbss.Operation()
stream = client.open_report(*ids, operation=operation, progress=lambda now: None)
print(len(stream.read(1000)))
class Late:
    def __init__(self, *held): self.me, self.held = self, held
late = Late(client, operation, stream)
builtins.held = (operation, stream, client)
"""
    assert run_python(code, new_report(stall_after=100_000)) == "1000\n"


def test_interpreter_exit_with_daemon_thread_in_call_succeeds(new_report, run_python):
    """Python ends such a thread as soon as it tries to run Python code."""
    code = """
client = dbss.Client(**settings, log=lambda record: None)
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
"""
    assert run_python(code + SLOW, new_report(stall_after=100_000)) == "end\n"


def test_interpreter_exit_ends_no_thread_inside_a_callback(new_report, run_python):
    """Daemon threads make all kinds of calls while the main thread returns."""
    report = new_report(200_000)
    code = """
sys.setswitchinterval(1e-6)
client = dbss.Client(**settings, log=lambda record: None)
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
        next(another.reports(ids[0]))
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
        assert run_python(code, report) == ""


def test_interpreter_exit_does_not_wait_for_function_that_never_returns(new_report, run_python):
    code = """
dbss.operation.EXIT_TIMEOUT = 0.2
client = dbss.Client(**settings)
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
    assert run_python(code, new_report()) == "end\n"


def test_interpreter_exit_with_running_user_function_succeeds(new_report, run_python):
    """Python ends the thread when the function continues."""
    report = new_report()
    code = """
dbss.operation.EXIT_TIMEOUT = 0.05
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
"""
    for _ in range(5):
        assert run_python(code + SLOW, report) == "end\n"
