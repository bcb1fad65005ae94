"""The client for asyncio, dbss.aio."""

import asyncio
import hashlib
import inspect
import io
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dbss
import pytest
from dbss import aio

from mock_service import MockService

KIB = 1024
MIB = 1024 * 1024
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
# Far less than the default stall timeout of 60 seconds.
PROMPT = 5.0
TIME_RANGE = ("2026-11-23 00:00:00", "2026-11-24 00:00:00")


@pytest.fixture(scope="module")
def service(build_dir):
    """A separate service, because lists show the reports of all tests."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


@pytest.fixture(autouse=True)
def reset_mock(service):
    service.clear_requests()
    yield
    service.clear_faults()
    service.set_generation()
    for thread in threading.enumerate():
        if thread.name == "dbss async call":
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def connect(service, **more):
    settings = {"token": service.token, "project_id": service.project_id, "poll_interval": 0.01}
    return aio.AsyncClient(**{"endpoint": service.http, **settings, **more})


def run(service, body, **more):
    """Runs a coroutine function with a client."""

    async def main():
        async with connect(service, **more) as client:
            return await body(client)

    return asyncio.run(main())


async def wait_until(condition):
    """Waits for another thread or process."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def sha256(report):
    return hashlib.sha256(report).hexdigest()


def run_program(code, service, environment):
    """The output of a child process that runs a program."""
    variables = {
        "ENDPOINT": service.http,
        "TOKEN": service.token,
        "PROJECT": service.project_id,
        "INSTANCE": service.instance_id,
        "REPORT": service.pdf["id"],
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# The interface.


def test_async_client_has_all_client_methods_with_same_parameters():
    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(dbss.Client) - {"close"} == public(aio.AsyncClient) - {"aclose"}
    for name in public(dbss.Client) - {"close"}:
        theirs = inspect.signature(getattr(dbss.Client, name))
        ours = inspect.signature(getattr(aio.AsyncClient, name))
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
        assert getattr(aio.AsyncClient, name).__doc__


def test_aio_is_imported_only_on_demand(service, environment):
    code = "import sys, dbss; print({'asyncio', 'dbss.aio'} & set(sys.modules))"
    assert run_program(code, service, environment) == "set()\n"


def test_async_download_methods_return_the_report(service, tmp_path):
    names = (service.project_id, service.instance_id, service.pdf["id"])

    async def body(client):
        assert await client.check() is None
        assert (await client.find_credentials()).source == "token"
        expected = service.pdf["sha256"]["zh-cn"]
        assert sha256(await client.download_report(*names, "zh-cn")) == expected
        path = await client.download_report_to(*names, f"{tmp_path}/", locale="zh-cn")
        assert sha256(path.read_bytes()) == expected
        into = io.BytesIO()
        assert await client.download_report_to(*names, into, locale="zh-cn") is None
        assert sha256(into.getvalue()) == expected
        async with await client.open_report(*names, "zh-cn") as stream:
            assert stream.size == service.pdf["sizes"]["zh-cn"]
            assert (stream.format, stream.filename) == ("pdf", path.name)
            read = await stream.read(10)
            assert len(read) == 10
            read += await stream.read1()
            async for chunk in stream:
                read += chunk
            assert sha256(read) == expected
        with pytest.raises(dbss.ClosedError):
            await stream.read()

    run(service, body)


def test_async_lists_fetch_page_by_page(service):
    instance = service.add_instance("for lists")
    ids = service.add_reports(25, instance=instance)

    async def body(client):
        items = client.reports(instance, page_size=10)
        assert items.total is None
        found = [(await items.__anext__()).id]
        assert items.total == 25
        assert len(service.requests("@reports.list")) == 1
        found += [report.id async for report in items]
        assert sorted(found) == sorted(ids)
        assert instance in [one.id async for one in client.instances()]
        assert [one.id async for one in client.templates(instance)]
        items = client.reports(instance)
        await items.aclose()
        assert [one async for one in items] == []

    run(service, body)


def test_async_report_is_generated_mirrored_and_deleted(service, tmp_path):
    instance = service.add_instance("for reports")
    service.set_generation(percent_per_list=50)

    async def body(client):
        template = await client.templates(instance).__anext__()
        seen = []
        id = await client.generate_report(instance, template.id, *TIME_RANGE, progress=seen.append)
        assert seen[-1].percent == 100
        await client.wait_for_report(instance, id)
        await client.create_report(instance, template.id, *TIME_RANGE)
        result = await client.mirror(tmp_path, instance_id=instance)
        assert result.downloaded >= 1
        await client.delete_report(instance, id)
        with pytest.raises(dbss.NotFoundError):
            await client.delete_report(instance, id)

    run(service, body)


def test_async_errors_have_the_same_classes(service, tmp_path):
    names = (service.project_id, service.instance_id, service.pdf["id"])

    async def body(client):
        with pytest.raises(dbss.NotFoundError) as caught:
            await client.download_report(*names[:2], "no-such-report-at-all")
        assert caught.value.http_status == 404
        with pytest.raises(dbss.InvalidIdError):
            await client.open_report(*names[:2], "\0")
        with pytest.raises(dbss.InvalidValueError):
            client.reports(names[1], page_size=-1)
        with pytest.raises(TypeError, match="nonsense"):
            await client.check(nonsense=1)
        path = tmp_path / "report.pdf"
        path.write_bytes(b"")
        with pytest.raises(FileExistsError):
            await client.download_report_to(*names, path)
        with pytest.raises(ZeroDivisionError):
            await client.download_report(*names, progress=lambda _: 1 // 0)
        # Not asyncio.CancelledError: the task was not cancelled.
        with pytest.raises(dbss.CancelledError):
            await client.download_report(*names, progress=lambda _: False)
        client.set_token("not-the-token")
        with pytest.raises(dbss.UnauthenticatedError):
            await client.check()
        with pytest.raises(dbss.UnauthenticatedError):
            await client.instances().__anext__()

    run(service, body)
    for wrong in (True, 1.0, "1"):
        with pytest.raises(TypeError, match="max_threads"):
            connect(service, max_threads=wrong)
    with pytest.raises(dbss.InvalidValueError, match="max_threads"):
        connect(service, max_threads=0)
    with pytest.raises(dbss.InvalidEndpointError):
        aio.AsyncClient(endpoint="")


def test_async_many_calls_share_the_threads(service):
    reports = [service.add_report(format="bytes", size=20_000 + n) for n in range(300)]

    async def body(client):
        got = await asyncio.gather(
            *(client.download_report(None, service.instance_id, one["id"]) for one in reports)
        )
        assert [sha256(one) for one in got] == [one["sha256"]["en-us"] for one in reports]
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("dbss async call") == 8

    run(service, body, max_threads=8)


# Cancelled tasks.


CALLS = {
    "download_report": ("", lambda c, i, r, _: c.download_report(None, i, r)),
    "download_report_to": ("", lambda c, i, r, d: c.download_report_to(None, i, r, f"{d}/")),
    "a writer": ("", lambda c, i, r, _: c.download_report_to(None, i, r, io.BytesIO())),
    "open_report": ("", lambda c, i, r, _: c.open_report(None, i, r)),
    "mirror": ("", lambda c, i, _, d: c.mirror(d / "archive", instance_id=i)),
    "check": ("@instances", lambda c, *_: c.check()),
    "instances": ("@instances", lambda c, *_: c.instances().__anext__()),
    "reports": ("@reports.list", lambda c, i, *_: c.reports(i).__anext__()),
    "templates": ("@templates", lambda c, i, *_: c.templates(i).__anext__()),
    "databases": ("@databases", lambda c, i, *_: c.databases(i).__anext__()),
    "schedule": ("@schedule.show", lambda c, i, *_: c.schedule(i, "a" * 32)),
    "update_schedule": (
        "@schedule.show",
        lambda c, i, *_: c.update_schedule(i, "a" * 32, status="ON"),
    ),
    "create_report": (
        "@reports.create",
        lambda c, i, *_: c.create_report(i, "a" * 32, *TIME_RANGE),
    ),
    "generate_report": ("@templates", lambda c, i, *_: c.generate_report(i, "a" * 32, *TIME_RANGE)),
    "wait_for_report": ("@reports.list", lambda c, i, r, _: c.wait_for_report(i, r)),
    "delete_report": ("@reports.delete", lambda c, i, r, _: c.delete_report(i, r)),
}


@pytest.mark.parametrize("name", CALLS)
def test_async_cancelled_task_cancels_its_call(service, name, tmp_path):
    instance = service.add_instance("for a cancel")
    report = service.add_report(format="pdf", size=5 * MIB, instance=instance)["id"]
    place, call = CALLS[name]
    # For calls that write bytes, some have arrived.
    is_file = name in ("download_report_to", "mirror", "a writer")
    fault = {"stall_after": MIB} if is_file else {"no_answer": True}
    service.fault(place or report, **fault)

    async def body(client):
        task = asyncio.ensure_future(call(client, instance, report, tmp_path))
        await wait_until(lambda: service.requests(place or report))
        if is_file:
            await wait_until(lambda: service.requests(report)[0]["sent"] >= MIB)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < PROMPT
        # The call has ended; it does not continue in the background.
        assert client._pool._futures == set()

    run(service, body)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"manifest.jsonl", "SHA256SUMS", ".dbss-mirror.lock"}


def test_async_cancelled_read_ends_the_stream(service):
    report = service.add_report(format="pdf", size=5 * MIB)["id"]
    service.fault(report, stall_after=MIB)

    async def body(client):
        async with await client.open_report(None, service.instance_id, report) as stream:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.read(), 0.2)
            with pytest.raises(dbss.CancelledError):
                await stream.read()

    started = time.monotonic()
    run(service, body)
    assert time.monotonic() - started < PROMPT


def test_async_stream_opened_during_cancel_is_closed(service, monkeypatch):
    opened = threading.Event()
    may_continue = threading.Event()
    streams = []
    open_report = dbss.Client.open_report

    def open_slowly(*args, **more):
        streams.append(open_report(*args, **more))
        opened.set()
        assert may_continue.wait(TIMEOUT)
        return streams[0]

    monkeypatch.setattr(dbss.Client, "open_report", open_slowly)

    async def body(client):
        call = client.open_report(None, service.instance_id, service.pdf["id"])
        task = asyncio.ensure_future(call)
        await wait_until(opened.is_set)
        task.cancel()
        await asyncio.sleep(0)
        may_continue.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert streams[0].closed

    run(service, body)


def test_async_list_continues_after_cancel(service):
    instance = service.add_instance("for a list")
    ids = service.add_reports(15, instance=instance)

    async def body(client):
        items = client.reports(instance, page_size=10)
        found = [(await items.__anext__()).id for _ in range(10)]
        service.fault("@reports.list", no_answer=True)
        waiting = asyncio.ensure_future(items.__anext__())
        await wait_until(lambda: len(service.requests("@reports.list")) == 2)
        with pytest.raises(dbss.BusyError):
            await items.__anext__()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        service.clear_faults()
        found += [report.id async for report in items]
        assert sorted(found) == sorted(ids)

    run(service, body)


def test_async_cancel_of_queued_call_leaves_running_call_alone(service):
    report = service.add_report(format="pdf")["id"]
    service.fault(report, delay_ms=500)

    async def body(client):
        call = client.download_report(None, service.instance_id, report)
        first = asyncio.ensure_future(call)
        await wait_until(lambda: service.requests(report))
        with dbss.Operation() as operation:
            second = asyncio.ensure_future(client.check(operation=operation))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert not first.done()
            assert await first
            # It never ran, so its operation can be used again.
            await client.check(operation=operation)

    run(service, body, max_threads=1)


def test_async_operation_argument_controls_the_call(service):
    report = service.add_report(format="pdf", size=5 * MIB)["id"]
    service.fault(report, stall_after=MIB)

    async def body(client):
        with dbss.Operation() as operation:
            names = (None, service.instance_id, report)
            task = asyncio.ensure_future(client.download_report(*names, operation=operation))
            await wait_until(lambda: operation.received >= MIB)
            operation.cancel()
            with pytest.raises(dbss.CancelledError):
                await task
            operation.reset()
            call = client.download_report(*names, operation=operation)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(call, 0.2)
            assert isinstance(operation.error, dbss.CancelledError)
            with pytest.raises(dbss.CancelledError):
                await client.check(operation=operation)
            operation.reset()
            await client.check(operation=operation)

    run(service, body)


# Closing.


def test_async_close_ends_calls_and_threads(service):
    report = service.add_report(format="pdf")["id"]
    service.fault(report, no_answer=True)

    async def main():
        client = connect(service, max_threads=2)
        names = (None, service.instance_id, report)
        tasks = [asyncio.ensure_future(client.download_report(*names)) for _ in range(3)]
        await wait_until(lambda: len(service.requests(report)) == 2)
        started = time.monotonic()
        await client.aclose()
        assert time.monotonic() - started < PROMPT
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in outcomes] == [dbss.CancelledError] * 2 + [dbss.ClosedError]
        await client.aclose()
        with pytest.raises(dbss.ClosedError):
            await client.check()
        with pytest.raises(dbss.ClosedError):
            client.instances()

    asyncio.run(main())


def test_async_unreferenced_client_ends_its_threads(service):
    async def main():
        await connect(service).check()

    # The fixture waits for the threads to end.
    asyncio.run(main())


def test_async_client_serves_several_loops_in_turn(service):
    client = connect(service)
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(lambda: asyncio.run(client.check())) for _ in range(4)]:
            one.result(TIMEOUT)
    asyncio.run(client.aclose())


def test_async_interpreter_exit_during_call_succeeds(service, environment):
    """The loop is abandoned, without the cancellation of asyncio.run()."""
    service.fault(service.pdf["id"], no_answer=True)
    code = """
import asyncio, os, warnings
import dbss.aio
client = dbss.aio.AsyncClient(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
ids = [os.environ[name] for name in ("PROJECT", "INSTANCE", "REPORT")]
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
    assert run_program(code, service, environment) == "left\n"
    assert time.monotonic() - started < 2 * PROMPT


def test_async_client_works_in_forked_child(service, environment):
    code = """
import asyncio, os
import dbss.aio
client = dbss.aio.AsyncClient(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
ids = [os.environ[name] for name in ("PROJECT", "INSTANCE", "REPORT")]
first = asyncio.run(client.download_report(*ids))
import warnings; warnings.simplefilter("ignore")
child = os.fork()
assert asyncio.run(client.download_report(*ids)) == first
if child == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
asyncio.run(client.aclose())
"""
    assert run_program(code, service, environment) == "7\n"
