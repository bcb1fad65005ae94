"""The client for asyncio, dbss.aio."""

import asyncio
import contextlib
import gc
import inspect
import io
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dbss
import pytest
from dbss import aio

import support
from support import MIB, PROMPT, TIME_RANGE, TIMEOUT, sha256

# Lists show the reports of all tests, so the service is one of its own.
mock = pytest.fixture(scope="module")(support.new_mock)


@pytest.fixture(autouse=True)
def ended_threads(mock):
    yield
    for thread in threading.enumerate():
        if thread.name == "dbss async call":
            thread.join(TIMEOUT)
            assert not thread.is_alive()


@pytest.fixture
def connect(mock):
    settings = {"token": mock.token, "project_id": mock.project_id, "poll_interval": 0.01}
    return lambda **more: aio.AsyncClient(**{"endpoint": mock.http, **settings, **more})


@pytest.fixture
def client(connect):
    one = connect()
    yield one
    asyncio.run(one.aclose())


async def wait_until(condition):
    """Waits for another thread or process."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


# The interface.


def test_async_client_has_all_client_methods_with_same_parameters():
    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(dbss.Client) - {"close"} == public(aio.AsyncClient) - {"aclose"}
    for name in public(dbss.Client) - {"close"}:
        theirs, ours = (getattr(kind, name) for kind in (dbss.Client, aio.AsyncClient))
        theirs, ours = inspect.signature(theirs), inspect.signature(ours)
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
        assert getattr(aio.AsyncClient, name).__doc__
    theirs, ours = (inspect.signature(kind).parameters for kind in (dbss.Client, aio.AsyncClient))
    assert list(ours) == ["max_threads", *theirs]
    assert list(ours.values())[1:] == list(theirs.values())


def test_aio_is_imported_only_on_demand(environment):
    code = "import sys, dbss; print({'asyncio', 'dbss.aio'} & set(sys.modules))"
    assert support.output(sys.executable, "-c", code, env=environment) == "set()\n"


async def test_async_download_methods_return_the_report(mock, client, tmp_path):
    names = (mock.instance_id, mock.pdf["id"])
    assert await client.check() is None
    assert (await client.find_credentials()).source == "token"
    expected = mock.pdf["sha256"]["zh-cn"]
    assert sha256(await client.download_report(*names, locale="zh-cn")) == expected
    path = await client.download_report_to(*names, f"{tmp_path}/", locale="zh-cn")
    assert sha256(path) == expected
    into = io.BytesIO()
    assert await client.download_report_to(*names, into, locale="zh-cn") is None
    assert sha256(into.getvalue()) == expected
    async with await client.open_report(*names, locale="zh-cn") as stream:
        assert stream.size == mock.pdf["sizes"]["zh-cn"]
        assert (stream.format, stream.filename) == ("pdf", path.name)
        read = await stream.read(10)
        assert len(read) == 10
        read += await stream.read1()
        async for chunk in stream:
            read += chunk
        assert sha256(read) == expected
    with pytest.raises(dbss.ClosedError):
        await stream.read()


async def test_async_lists_fetch_page_by_page(mock, client, instance):
    ids = mock.add_reports(25, instance=instance)
    items = client.reports(instance, page_size=10)
    assert items.total is None
    found = [(await items.__anext__()).id]
    assert items.total == 25
    assert len(mock.requests("@reports.list")) == 1
    found += [report.id async for report in items]
    assert sorted(found) == sorted(ids)
    assert instance in [one.id async for one in client.instances()]
    assert [one.id async for one in client.templates(instance)]
    items = client.reports(instance)
    await items.aclose()
    assert [one async for one in items] == []


async def test_async_report_is_generated_mirrored_and_deleted(mock, client, instance, tmp_path):
    mock.set("generation", percent_per_list=50)
    template = (await client.templates(instance).__anext__()).id
    seen = []
    id = await client.generate_report(instance, template, *TIME_RANGE, progress=seen.append)
    assert seen[-1].percent == 100
    await client.wait_for_report(instance, id)
    await client.create_report(instance, template, *TIME_RANGE)
    result = await client.mirror(tmp_path, instance_id=instance)
    assert result.downloaded >= 1
    await client.delete_report(instance, id)
    with pytest.raises(dbss.NotFoundError):
        await client.delete_report(instance, id)


async def test_async_errors_have_the_same_classes(mock, connect, client, tmp_path):
    names = (mock.instance_id, mock.pdf["id"])
    path = tmp_path / "report.pdf"
    path.touch()
    for call, kind in {
        lambda: client.open_report(*names[:1], "\0"): dbss.InvalidIdError,
        lambda: client.download_report_to(*names, path): FileExistsError,
        lambda: client.download_report(*names, progress=lambda _: 1 // 0): ZeroDivisionError,
        # Not asyncio.CancelledError: the task was not cancelled.
        lambda: client.download_report(*names, progress=lambda _: False): dbss.CancelledError,
    }.items():
        with pytest.raises(kind):
            await call()
    with pytest.raises(dbss.NotFoundError) as caught:
        await client.download_report(*names[:1], "no-such-report-at-all")
    assert caught.value.http_status == 404
    with pytest.raises(dbss.InvalidValueError):
        client.reports(names[1], page_size=-1)
    with pytest.raises(TypeError, match="nonsense"):
        await client.check(nonsense=1)
    client.set_token("not-the-token")
    for call in (client.check, client.instances().__anext__):
        with pytest.raises(dbss.UnauthenticatedError):
            await call()
    for wrong in (True, 1.0, "1"):
        with pytest.raises(TypeError, match="max_threads"):
            connect(max_threads=wrong)
    with pytest.raises(dbss.InvalidValueError, match="max_threads"):
        connect(max_threads=0)
    with pytest.raises(dbss.InvalidEndpointError):
        aio.AsyncClient(endpoint="")


async def test_async_wrong_arguments_are_reported_without_a_thread(new_report, connect):
    report = new_report(no_response=True)
    async with connect(max_threads=1) as client:
        first = asyncio.ensure_future(client.download_report(*report.ids))
        await wait_until(report.requests)
        instance = report.ids[0]
        for call, kind, words in (
            (lambda: client.check(nonsense=1), TypeError, "nonsense"),
            (lambda: client.download_report(instance), TypeError, "report_id"),
            (lambda: client.download_report(instance, 1), TypeError, "report_id"),
            (lambda: client.delete_report(instance, None), TypeError, "report_id"),
            (lambda: client.delete_report(instance, "\0"), dbss.InvalidIdError, "report_id"),
            (lambda: client.open_report(None, report.id), TypeError, "instance_id"),
            (lambda: client.open_report(*report.ids, progress=1), TypeError, "progress"),
            (lambda: client.mirror("reports", progress=1), TypeError, "progress"),
            (lambda: client.schedule(instance, ID, project_id=1), TypeError, "project_id"),
        ):
            with pytest.raises(kind, match=words):
                await call()
        assert not first.done()
        client.cancel_all()
        with pytest.raises(dbss.CancelledError):
            await first


async def test_async_many_calls_share_the_threads(new_report, connect):
    reports = [new_report(20_000 + n) for n in range(300)]
    held, go = set(), threading.Event()

    def hold(_):
        held.add(threading.get_ident())
        assert go.wait(TIMEOUT)

    async with connect(max_threads=8) as client:
        calls = [
            asyncio.ensure_future(client.download_report(*one.ids, progress=hold))
            for one in reports
        ]
        await wait_until(lambda: len(held) == 8)
        go.set()
        got = await asyncio.gather(*calls)
        assert [sha256(one) for one in got] == [one.sha256 for one in reports]
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("dbss async call") == 8


# Cancelled tasks.


ID = "a" * 32
# The calls of a client, with an instance, a report and a directory; where they are held.
CALLS = {
    "download_report": ("", lambda c, i, r, _: c.download_report(i, r)),
    "download_report_to": ("", lambda c, i, r, d: c.download_report_to(i, r, f"{d}/")),
    "a writer": ("", lambda c, i, r, _: c.download_report_to(i, r, io.BytesIO())),
    "open_report": ("", lambda c, i, r, _: c.open_report(i, r)),
    "mirror": ("", lambda c, i, _, d: c.mirror(d / "archive", instance_id=i)),
    "check": ("@instances", lambda c, *_: c.check()),
    "instances": ("@instances", lambda c, *_: c.instances().__anext__()),
    "reports": ("@reports.list", lambda c, i, *_: c.reports(i).__anext__()),
    "templates": ("@templates", lambda c, i, *_: c.templates(i).__anext__()),
    "databases": ("@databases", lambda c, i, *_: c.databases(i).__anext__()),
    "schedule": ("@schedule.show", lambda c, i, *_: c.schedule(i, ID)),
    "update_schedule": ("@schedule.show", lambda c, i, *_: c.update_schedule(i, ID, status="ON")),
    "create_report": ("@reports.create", lambda c, i, *_: c.create_report(i, ID, *TIME_RANGE)),
    "generate_report": ("@templates", lambda c, i, *_: c.generate_report(i, ID, *TIME_RANGE)),
    "wait_for_report": ("@reports.list", lambda c, i, r, _: c.wait_for_report(i, r)),
    "delete_report": ("@reports.delete", lambda c, i, r, _: c.delete_report(i, r)),
}


async def test_async_call_leaves_no_reference_cycle(mock, client):
    """Otherwise its report stays in memory until the collector runs."""

    async def call(report_id):
        with contextlib.suppress(dbss.NotFoundError):
            await client.download_report(mock.instance_id, report_id)

    for report_id in (mock.pdf["id"], "e" * 32):
        await call(report_id)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await call(report_id)
            assert gc.collect() < 20
        finally:
            gc.enable()


@pytest.mark.parametrize("name", CALLS)
async def test_async_cancelled_task_cancels_its_call(mock, client, instance, name, tmp_path):
    report = mock.add_report(size=5 * MIB, instance=instance)["id"]
    place, call = CALLS[name]
    # For calls that write bytes, some have arrived.
    is_file = name in ("download_report_to", "mirror", "a writer")
    mock.fault(place or report, **({"stall_after": MIB} if is_file else {"no_response": True}))
    task = asyncio.ensure_future(call(client, instance, report, tmp_path))
    await wait_until(lambda: mock.requests(place or report))
    if is_file:
        await wait_until(lambda: mock.requests(report)[0]["sent"] >= MIB)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < PROMPT
    # The call has ended; it does not continue in the background.
    assert client._pool._futures == set()
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock"}


async def test_async_cancelled_read_ends_the_stream(new_report, client):
    report = new_report(5 * MIB, stall_after=MIB)
    started = time.monotonic()
    async with await client.open_report(*report.ids) as stream:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.read(), 0.2)
        with pytest.raises(dbss.CancelledError):
            await stream.read()
    assert time.monotonic() - started < PROMPT


async def test_async_cancelled_generate_keeps_the_id_of_its_report(mock, client, instance):
    mock.set("generation", percent_per_list=1)
    template = mock.templates[0]["id"]
    with dbss.Operation(poll_interval=0.05) as operation:
        call = client.generate_report(instance, template, *TIME_RANGE, operation=operation)
        task = asyncio.ensure_future(call)
        # The id is known from the list.
        await wait_until(lambda: operation.percent)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert operation.error.candidates == (mock.made()[-1],)
        assert caught.value.__cause__.candidates == (mock.made()[-1],)


async def test_async_stream_is_read_by_one_task(new_report, client):
    report = new_report(5 * MIB, stall_after=MIB)
    async with await client.open_report(*report.ids) as stream:
        first = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        with pytest.raises(dbss.BusyError, match="another task"):
            await stream.read()
        await stream.aclose()
        with pytest.raises(dbss.CancelledError):
            await first


async def test_async_stream_opened_during_cancel_is_closed(new_report, client, monkeypatch):
    opened, may_continue = threading.Event(), threading.Event()
    streams = []
    open_report = dbss.Client.open_report

    def open_slowly(*args, **more):
        streams.append(open_report(*args, **more))
        opened.set()
        assert may_continue.wait(TIMEOUT)
        return streams[0]

    monkeypatch.setattr(dbss.Client, "open_report", open_slowly)
    task = asyncio.ensure_future(client.open_report(*new_report().ids))
    await wait_until(opened.is_set)
    task.cancel()
    await asyncio.sleep(0)
    may_continue.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert streams[0].closed


async def test_async_list_continues_after_cancel(mock, client, instance):
    ids = mock.add_reports(15, instance=instance)
    items = client.reports(instance, page_size=10)
    found = [(await items.__anext__()).id for _ in range(10)]
    mock.fault("@reports.list", no_response=True)
    waiting = asyncio.ensure_future(items.__anext__())
    await wait_until(lambda: len(mock.requests("@reports.list")) == 2)
    with pytest.raises(dbss.BusyError):
        await items.__anext__()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    mock.clear_faults()
    found += [report.id async for report in items]
    assert sorted(found) == sorted(ids)


async def test_async_cancel_of_queued_call_leaves_running_call_alone(new_report, connect):
    report, began, go = new_report(), threading.Event(), threading.Event()

    def hold(_):
        began.set()
        assert go.wait(TIMEOUT)

    async with connect(max_threads=1) as client:
        first = asyncio.ensure_future(client.download_report(*report.ids, progress=hold))
        await wait_until(began.is_set)
        with dbss.Operation() as operation:
            second = asyncio.ensure_future(client.check(operation=operation))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert not first.done()
            go.set()
            assert await first
            # It never ran, so its operation can be used again.
            await client.check(operation=operation)


async def test_async_queued_call_ends_without_a_thread(new_report, connect):
    report, other = new_report(no_response=True), new_report(5 * MIB)
    async with connect(max_threads=1) as client:
        stream = await client.open_report(*other.ids)
        first = asyncio.ensure_future(client.download_report(*report.ids))
        await wait_until(report.requests)
        started = time.monotonic()
        with dbss.Operation(total_timeout=0.05) as operation:
            with pytest.raises(dbss.TotalTimeoutError) as caught:
                await client.check(operation=operation)
            assert operation.error is caught.value
            operation.reset()
            assert operation.error is None
        # A cancel before the call, and one during its wait.
        with dbss.Operation() as operation:
            operation.cancel()
            with pytest.raises(dbss.CancelledError):
                await client.check(operation=operation)
            operation.reset()
            second = asyncio.ensure_future(client.check(operation=operation))
            await asyncio.sleep(0)
            threading.Thread(target=operation.cancel).start()
            with pytest.raises(dbss.CancelledError) as caught:
                await second
            assert caught.value.cancelled_by == "operation"
        third = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(dbss.CancelledError) as caught:
            await third
        assert caught.value.cancelled_by == "close"
        with pytest.raises(dbss.ClosedError):
            await stream.read()
        fourth = asyncio.ensure_future(client.check())
        await asyncio.sleep(0)
        assert not first.done()
        client.cancel_all()
        for task in (first, fourth):
            with pytest.raises(dbss.CancelledError) as caught:
                await task
            assert caught.value.cancelled_by == "client"
        assert time.monotonic() - started < PROMPT


@pytest.mark.parametrize(
    "timeout", [{"total_timeout": 0.2}, {"options": {"total_timeout_ms": "200"}}]
)
async def test_async_queued_call_has_the_timeout_of_its_client(new_report, connect, timeout):
    report = new_report(no_response=True)
    async with connect(max_threads=1, **timeout) as client:
        # It keeps the only thread for longer.
        with dbss.Operation(total_timeout=None) as operation:
            call = client.download_report(*report.ids, operation=operation)
            first = asyncio.ensure_future(call)
            await wait_until(report.requests)
            with pytest.raises(dbss.TotalTimeoutError, match=r"0\.2 s for a thread"):
                await client.check()
            first.cancel()


async def test_async_call_without_a_thread(new_report, connect, monkeypatch):
    def start(thread):
        if thread.name == "dbss async call":
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    start_thread = threading.Thread.start
    report = new_report(no_response=True)
    client = connect()
    first = asyncio.ensure_future(client.download_report(*report.ids))
    await wait_until(report.requests)
    monkeypatch.setattr(threading.Thread, "start", start)
    # It waits for the thread of the other.
    with dbss.Operation() as operation:
        second = asyncio.ensure_future(client.check(operation=operation))
        await asyncio.sleep(0)
        operation.cancel()
        with pytest.raises(dbss.CancelledError):
            await second
        assert isinstance(operation.error, dbss.CancelledError)
    await client.aclose()
    with pytest.raises(dbss.CancelledError):
        await first
    async with connect() as client:
        with pytest.raises(dbss.ResourceError, match="cannot start a thread") as caught:
            await client.check()
        assert isinstance(caught.value.__cause__, RuntimeError)
        monkeypatch.undo()
        assert await client.check() is None


async def test_async_operation_argument_controls_the_call(new_report, client):
    report = new_report(5 * MIB, stall_after=MIB)
    with dbss.Operation() as operation:
        task = asyncio.ensure_future(client.download_report(*report.ids, operation=operation))
        await wait_until(lambda: operation.received >= MIB)
        operation.cancel()
        with pytest.raises(dbss.CancelledError):
            await task
        operation.reset()
        call = client.download_report(*report.ids, operation=operation)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.2)
        assert isinstance(operation.error, dbss.CancelledError)
        with pytest.raises(dbss.CancelledError):
            await client.check(operation=operation)
        operation.reset()
        await client.check(operation=operation)


# Closing.


async def test_async_close_ends_calls_and_threads(new_report, connect):
    report = new_report(no_response=True)
    client = connect(max_threads=2)
    tasks = [asyncio.ensure_future(client.download_report(*report.ids)) for _ in range(3)]
    await wait_until(lambda: len(report.requests()) == 2)
    started = time.monotonic()
    await client.aclose()
    assert time.monotonic() - started < PROMPT
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in outcomes] == [dbss.CancelledError] * 3
    assert {end.cancelled_by for end in outcomes} == {"close"}
    await client.aclose()
    with pytest.raises(dbss.ClosedError):
        await client.check()
    with pytest.raises(dbss.ClosedError):
        client.instances()


async def test_async_close_cancels_calls_that_have_just_begun(mock, client):
    mock.fault("@instances", no_response=True)
    tasks = [asyncio.ensure_future(client.check()) for _ in range(20)]
    await asyncio.sleep(0)
    await client.aclose()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in outcomes} == {dbss.CancelledError}
    assert {end.cancelled_by for end in outcomes} == {"close"}


async def test_async_close_cancels_idle_streams(new_report, client):
    stream = await client.open_report(*new_report(5 * MIB).ids)
    assert len(await stream.read(10)) == 10
    await client.aclose()
    for read in (stream.read, stream.read1):
        with pytest.raises(dbss.CancelledError) as caught:
            await read()
        assert caught.value.cancelled_by == "close"
    await stream.aclose()
    with pytest.raises(dbss.ClosedError):
        await stream.read()


async def test_async_unreferenced_client_ends_its_threads(connect):
    # The fixture waits for the threads to end.
    await connect().check()


def test_async_client_serves_several_loops_in_turn(connect):
    client = connect()
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(lambda: asyncio.run(client.check())) for _ in range(4)]:
            one.result(TIMEOUT)
    asyncio.run(client.aclose())


def test_async_interpreter_exit_during_call_succeeds(new_report, run_python):
    """The loop is abandoned, without the cancellation of asyncio.run()."""
    code = """
import dbss.aio, warnings
client = dbss.aio.AsyncClient(**settings)
operation = dbss.Operation()
async def main():
    task = asyncio.ensure_future(client.download_report(*ids, operation=operation))
    while operation.attempts == 0:
        await asyncio.sleep(0.01)
    return task
loop = asyncio.new_event_loop()
# What asyncio says of a loop and a task that are left so is not of interest.
loop.set_exception_handler(lambda *_: None)
warnings.simplefilter("ignore")
task = loop.run_until_complete(main())
print("left")
"""
    started = time.monotonic()
    assert run_python(code, new_report(no_response=True)) == "left\n"
    assert time.monotonic() - started < 2 * PROMPT


def test_async_client_works_in_forked_child(run_python):
    code = """
import dbss.aio, warnings
client = dbss.aio.AsyncClient(**settings)
first = asyncio.run(client.download_report(*ids))
warnings.simplefilter("ignore")
child = os.fork()
assert asyncio.run(client.download_report(*ids)) == first
if child == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
asyncio.run(client.aclose())
"""
    assert run_python(code) == "7\n"
