"""Operations, progress and callbacks in the Python package."""

import functools
import traceback
import weakref

import dbss
import pytest
from dbss import _abi as abi
from dbss import ffi

from support import MIB, CustomError, every_method, sha256, wait_until


@every_method
def test_operation_and_progress_describe_the_transfer(client, new_report, tmp_path, method):
    report = new_report(3 * MIB, reset_after=1_234_567, times=1)
    operation = dbss.Operation()
    seen = []
    got = method(client, report, tmp_path, operation=operation, progress=seen.append)
    assert sha256(got) == report.sha256
    assert (operation.attempts, operation.resumed) == (2, 1_234_567)
    assert (operation.received, operation.total) == (report.size, report.size)
    assert operation.error is None
    assert seen[0] == dbss.Progress(0, None, 0, 0)
    assert seen[-1] == dbss.Progress(report.size, report.size, 1_234_567, 2)


@every_method
@pytest.mark.parametrize("at", [1, 2])
def test_progress_exception_is_raised_unchanged(client, new_report, tmp_path, method, at, capfd):
    report = new_report(stall_after=100_000)
    exception = CustomError(at)
    seen = []

    def inner(now):
        seen.append(now)
        if len(seen) == at:
            raise exception

    with pytest.raises(CustomError) as caught:
        method(client, report, tmp_path, progress=inner)
    assert caught.value is exception
    assert (exception.__context__, exception.__cause__) == (None, None)
    names = [one.name for one in traceback.extract_tb(exception.__traceback__)]
    assert names[-1] == "inner"
    assert method.__name__ in names
    assert len(seen) == at
    assert capfd.readouterr() == ("", "")


def test_file_mode_in_decimal_is_told():
    with pytest.raises(dbss.InvalidValueError) as caught:
        dbss.Operation(file_mode=640)
    assert str(caught.value) == (
        "file_mode: must be from 0o600 to 0o777, such as 0o640, but is 0o1200; did you mean 0o640?"
    )


async def coroutine_function(_):
    pass


class Coroutine:
    async def __call__(self, _):
        pass


@pytest.mark.parametrize(
    "wrong", [1, "x", coroutine_function, functools.partial(coroutine_function), Coroutine()]
)
def test_progress_that_is_no_plain_function_is_rejected(client, new_report, wrong):
    report = new_report()
    operation = dbss.Operation()
    for call in (client.download_report, client.open_report):
        with pytest.raises(TypeError, match=r"^progress: must be a "):
            call(*report.ids, progress=wrong, operation=operation)
    with pytest.raises(TypeError, match=r"^log: must be a "):
        dbss.Client(endpoint="http://127.0.0.1:9", log=wrong)
    assert report.requests() == []
    assert client.download_report(*report.ids, operation=operation)


@pytest.mark.parametrize("wrong", ["x", 1, dbss.Operation, {}])
def test_operation_of_another_type_is_rejected(client, new_report, wrong):
    report = new_report()
    for call in (client.download_report, client.open_report, client.wait_for_report):
        with pytest.raises(TypeError, match=r"^operation: must be dbss\.Operation, not "):
            call(*report.ids, operation=wrong)
    with pytest.raises(TypeError, match=r"^operation: "):
        client.reports(report.ids[0], operation=wrong)
    assert report.requests() == []


def test_timeout_is_told_in_seconds(connect, mock, new_report):
    report = new_report()
    mock.fault(report.id, no_response=True)
    records = []
    with connect(log=records.append) as client, dbss.Operation(total_timeout=0.25) as operation:
        with pytest.raises(dbss.TotalTimeoutError) as caught:
            client.download_report(*report.ids, operation=operation)
        assert str(operation.error) == str(caught.value)
    words = "the call took longer than total_timeout (0.25 s)"
    assert str(caught.value) == words
    assert any(words in one.message for one in records)


def test_operation_is_shown_and_closed(client, new_report, tmp_path):
    report = new_report(1000)
    with dbss.Operation() as operation:
        assert repr(operation) == "<dbss.Operation 0 of ? bytes>"
        path = client.download_report_to(*report.ids, tmp_path, operation=operation)
        assert operation.path == path == tmp_path / "audit-report.bin"
        assert repr(operation) == "<dbss.Operation 1000 of 1000 bytes>"
        with pytest.raises(dbss.NotFoundError):
            client.download_report(*report.ids[:1], "x" * 16, operation=operation)
        assert isinstance(operation.error, dbss.NotFoundError)
        assert operation.error.service_code == "DBSS.10021004"
        operation.reset()
        assert operation.error is None
    assert repr(operation) == "<dbss.Operation closed>"
    operation.cancel()
    operation.close()
    for use in (
        lambda: operation.received,
        lambda: operation.path,
        operation.reset,
        lambda: client.download_report(*report.ids, operation=operation),
    ):
        with pytest.raises(dbss.ClosedError, match=r"^the operation is closed$"):
            use()


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"stall_timeout": -1}, "stall_timeout"),
        ({"total_timeout": float("nan")}, "total_timeout"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_memory_bytes": 0}, "max_memory_bytes"),
        ({"file_mode": 0o1777}, "file_mode"),
        ({"file_mode": 0o077}, "file_mode"),
        ({"file_mode": -1}, "file_mode"),
        ({"file_mode": 640}, "file_mode"),
        ({"wait_timeout": -1}, "wait_timeout"),
        ({"wait_timeout": float("nan")}, "wait_timeout"),
        ({"poll_interval": 90000}, "poll_interval"),
    ],
)
def test_operation_options_are_validated(options, parameter):
    with pytest.raises(dbss.InvalidValueError) as caught:
        dbss.Operation(**options)
    assert caught.value.parameter == parameter
    assert caught.value.message.startswith(f"{parameter}: must be ")
    for value in ("1", True):
        with pytest.raises(TypeError, match=f"^{parameter}: "):
            dbss.Operation(**{parameter: value})
    dbss.Operation(wait_timeout=None, poll_interval=86400).close()


def test_operation_options_are_applied(connect, new_report, tmp_path):
    report = new_report(stall_after=100_000, times=1)
    with connect(max_memory_bytes=1000) as client:
        quick = dbss.Operation(stall_timeout=0.2, max_attempts=1, connect_timeout=None)
        with pytest.raises(dbss.StalledError) as caught:
            client.download_report_to(*report.ids, tmp_path / "a", operation=quick)
        # The fault was for it.
        wait_until(report.requests)
        assert isinstance(caught.value, TimeoutError)
        large = dbss.Operation(max_memory_bytes=MIB, total_timeout=50, file_mode=0o644)
        assert sha256(client.download_report(*report.ids, operation=large)) == report.sha256
        client.download_report_to(*report.ids, tmp_path / "a", operation=large)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


# References.


def test_callbacks_are_released(client, new_report):
    class Function:
        def __call__(self, now):
            pass

    before = len(ffi._held_by_c)
    operation = dbss.Operation()
    functions = [Function() for _ in range(3)]
    references = [weakref.ref(one) for one in functions]
    report = new_report()
    client.download_report(*report.ids, operation=operation, progress=functions[0])
    client.open_report(*report.ids, operation=operation, progress=functions[1]).close()
    client.open_report(*report.ids, progress=functions[2]).close()
    functions.clear()
    assert [one() for one in references] == [None, None, None]
    with dbss.Client(endpoint=client._label, log=lambda *_: None):
        assert len(ffi._held_by_c) == before + 1
    assert len(ffi._held_by_c) == before


def test_kept_exception_keeps_no_context_and_no_stream(connect, new_report):
    report = new_report(stall_after=100_000)
    kept = []

    def refuse(now):
        if now.received:
            raise CustomError

    client = connect()
    context = weakref.ref(client._context)
    with client.open_report(*report.ids, progress=refuse) as stream:
        handle = weakref.ref(stream._handle)
        try:
            stream.read()
        except CustomError as error:
            kept.append(error)
    client.close()
    # Nothing is left to cancel.
    client.cancel_all()
    assert (context(), handle()) == (None, None)
    assert kept[0].__traceback__ is not None


def test_write_callback_gets_every_part(client, new_report):
    """The only function that the package itself does not use."""
    report = new_report()
    parts = []

    def write(user_data, data, length):
        assert user_data is parts
        parts.append(bytes(data[:length]))
        return 0

    names = [one.encode() for one in (report.mock.project_id, *report.ids)]
    operation = dbss.Operation()
    callback = (abi.WriteFn(write), parts, operation._open_control().pointer)
    abi.report_download_to_callback(client._context.pointer, *names, None, *callback)
    assert sha256(b"".join(parts)) == report.sha256
