"""Signals in the Python package: Ctrl-C and handlers, in every phase of a call."""

import contextlib
import functools
import itertools
import os
import signal
import sys
import threading
import time
import traceback
from ctypes import CDLL, c_int32, py_object

import dbss
import pytest
from dbss import _abi as abi
from dbss import ffi
from dbss import log as log_module
from dbss import operation as operation_module

from support import MIB, PROMPT, TIMEOUT, CustomError, compiled, every_method, sha256, wait_until

RETRY = {"status": 503, "headers": [["Retry-After", "50"]]}


@pytest.fixture(params=["connect", "handshake", "header", "body", "retry"])
def phase(request, mock, new_report):
    """A call that waits longer than any test: its report, its endpoint, and whether it waits."""
    report = new_report()
    if request.param == "connect":
        # Not visible from outside: the attempt is counted right before.
        return report, mock.never_accepts, lambda: True
    if request.param == "handshake":
        mock.listener_fault("https_other", "handshake_stall")
        before = mock.connections()["https_other"]
        return report, mock.https_other, lambda: mock.connections()["https_other"] > before
    if request.param == "body":
        report.fault(stall_after=100_000)
        has_sent = lambda: any(one["sent"] >= 100_000 for one in report.requests())  # noqa: E731
        return report, mock.http, has_sent
    report.fault(**({"no_response": True} if request.param == "header" else RETRY))
    return report, mock.http, report.requests


@contextlib.contextmanager
def signal_sent(number, reached, operation=None):
    """Sends a signal to this process as soon as its call waits; gives the time."""
    sent = []

    def send():
        wait_until(lambda: reached() and (operation is None or operation.attempts))
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        thread.join(TIMEOUT)


@pytest.fixture
def set_usr1_handler():
    """Sets the handler of SIGUSR1 for one test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda function: signal.signal(signal.SIGUSR1, lambda *_: function())
    signal.signal(signal.SIGUSR1, before)


@every_method
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_signal_handler_exception_ends_call_in_every_phase(
    mock, connect, phase, tmp_path, method, number, set_usr1_handler, capfd
):
    """The handler of Ctrl-C is that of Python."""
    exception = CustomError("from the handler")

    def handler():
        raise exception

    set_usr1_handler(handler)
    report, endpoint, reached = phase
    operation = dbss.Operation()
    with (
        connect(endpoint=endpoint, ca_file=mock.ca_file) as client,
        signal_sent(number, reached, operation) as sent,
        pytest.raises(KeyboardInterrupt if number == signal.SIGINT else CustomError) as caught,
    ):
        method(client, report, tmp_path, operation=operation)
    assert time.monotonic() - sent[0] < PROMPT
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    if number == signal.SIGUSR1:
        assert caught.value is exception
        assert "handler" in [one.name for one in traceback.extract_tb(exception.__traceback__)]


def test_ctrl_c_without_operation_ends_call(client, new_report):
    report = new_report(no_response=True)
    with signal_sent(signal.SIGINT, report.requests), pytest.raises(KeyboardInterrupt):
        client.download_report(*report.ids)


def test_signal_handler_that_returns_does_not_end_the_call(
    mock, client, new_report, set_usr1_handler
):
    # The report comes only when the handler has run.
    report = new_report(delay_ms=3_600_000)
    set_usr1_handler(mock.clear_faults)
    with signal_sent(signal.SIGUSR1, report.requests):
        got = client.download_report(*report.ids)
    assert sha256(got) == report.sha256


def test_signal_handler_may_cancel_and_call(client, new_report, set_usr1_handler):
    report, other = new_report(no_response=True), new_report(1000)
    operation = dbss.Operation()
    got = []

    def handler():
        got.append(sha256(client.download_report(*other.ids)))
        with pytest.raises(dbss.NotFoundError) as caught:
            client.download_report(*report.ids[:1], "x" * 16)
        got.append(caught.value.service_code)
        operation.cancel()

    set_usr1_handler(handler)
    with signal_sent(signal.SIGUSR1, report.requests), pytest.raises(dbss.CancelledError):
        client.download_report(*report.ids, operation=operation)
    # Errors of calls inside a callback are complete, too.
    assert got == [other.sha256, "DBSS.10021004"]


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, dbss.CancelledError])
def test_full_pipe_wait_is_ended_by_ctrl_c_and_cancel(client, new_report, blocking, kind):
    report = new_report(2 * MIB)
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    seen = []

    def end():
        # No progress since the last callback.
        wait_until(lambda: len(seen) > 1 and seen[-1].received > 0 and seen[-1] == seen[-2])
        if kind is KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            client.cancel_all()

    thread = threading.Thread(target=end)
    thread.start()
    try:
        with pytest.raises(kind):
            client.download_report_to(*report.ids, writing, progress=seen.append)
    finally:
        thread.join(TIMEOUT)
        os.close(reading)
        os.close(writing)


def test_log_function_with_ctrl_c_ends_the_call(connect, new_report):
    report = new_report(cut_after=100_000, times=1)

    def log(record):
        if record.level == dbss.LOG_WARNING:
            signal.raise_signal(signal.SIGINT)

    with connect(log=log) as client, pytest.raises(KeyboardInterrupt):
        client.download_report(*report.ids)


def interruptions(function):
    """Runs a function again and again, and raises CustomError in each run, at a later place
    each time, as a signal handler may: where a function in Python begins, and after a call of
    a function in C. Gives the result, or None for a run that was ended, of each run.
    """
    for place in itertools.count():
        left = place

        def profile(frame, event, _):
            nonlocal left
            # Python has no way to end a finalizer early without a leak.
            code = frame.f_code
            if event not in ("call", "c_return") or code.co_name == "__del__":
                return
            if code.co_filename != __file__:
                left -= 1
                if left < 0:
                    raise CustomError

        try:
            sys.setprofile(profile)
            result = function()
        except CustomError:
            result = None
        finally:
            sys.setprofile(None)
        yield result
        if left >= 0:
            return


# Python reports those that end a finalizer; the collector may run one anywhere.
in_finalizers = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@in_finalizers
def test_signal_handler_exception_at_any_place_frees_the_operation(connect, new_report):
    report = new_report(1000)
    operation = dbss.Operation()
    with connect(log=lambda _: None) as client:

        def download():
            with client.open_report(*report.ids, operation=operation) as stream:
                return stream.read()

        runs = (
            lambda: client.download_report(*report.ids, operation=operation),
            download,
            # Closed by its finalizer.
            lambda: client.open_report(*report.ids, operation=operation).read(),
        )
        for run in runs:
            for result in interruptions(run):
                assert result is None or sha256(result) == report.sha256
                # Neither busy nor cancelled.
                operation.reset()
                client.check(operation=operation)
            assert result
    assert not any(call.locked() for call in operation_module._running_calls)


def into(stream, method):
    """Reads with a method that fills a buffer."""
    buffer = bytearray(400)
    return bytes(buffer[: method(stream, buffer)])


@in_finalizers
@pytest.mark.parametrize(
    "read",
    [
        lambda stream: stream.read(),
        lambda stream: stream.read(400),
        lambda stream: stream.read1(400),
        lambda stream: next(stream, b""),
        lambda stream: into(stream, dbss.ReportStream.readinto),
        lambda stream: into(stream, dbss.ReportStream.readinto1),
    ],
    ids=["all", "part", "read1", "next", "readinto", "readinto1"],
)
def test_signal_handler_exception_at_any_place_makes_no_stream_shorter(client, new_report, read):
    report = new_report(1000)
    opening = functools.partial(client.open_report, *report.ids)
    opened = [opening()]
    complete = 0
    for part in interruptions(lambda: read(opened[0])):
        with opened.pop() as stream:
            parts = [part or b""]
            try:
                parts.append(stream.read())
            except dbss.CancelledError:
                assert part is None
                # For ever, and not the end.
                with pytest.raises(dbss.CancelledError):
                    stream.read1()
            else:
                assert sha256(b"".join(parts)) == report.sha256
                complete += 1
        opened.append(opening())
    opened.pop().close()
    # Before the read, and after it.
    assert complete >= 2


@in_finalizers
def test_signal_handler_exception_at_any_place_loses_no_item(mock, client, instance):
    added = mock.add_reports(3, instance=instance)[::-1]
    begin = functools.partial(client.reports, instance, page_size=1)
    items = [begin()]
    for item in interruptions(lambda: next(items[0])):
        rest = list(items.pop())
        assert [one.id for one in ([item] if item else []) + rest] == added
        items.append(begin())


TRAMPOLINE = """
#include <signal.h>
#include <stdint.h>
int32_t tick(int32_t (*f)(void *, const void *), void *user_data)
{ raise(SIGINT); return f(user_data, 0); }
void message(void (*f)(void *, const void *), void *user_data)
{ raise(SIGINT); f(user_data, 0); }
"""


@pytest.fixture
def trampoline(tmp_path):
    """Calls callbacks with a pending signal that Python has not handled yet."""
    library = CDLL(str(compiled(TRAMPOLINE, tmp_path / "trampoline.so")))
    library.tick.argtypes, library.tick.restype = (abi.ProgressFn, py_object), c_int32
    library.message.argtypes, library.message.restype = (abi.LogFn, py_object), None
    return library


def test_signal_right_before_progress_callback_is_not_lost(trampoline):
    monitor = operation_module.CallMonitor(operation_module.Control())
    assert trampoline.tick(ffi._PROGRESS_CALLBACK, monitor._callback_loop) == 1
    assert type(monitor._raised) is KeyboardInterrupt
    # It keeps stopping the call, even if it is resumed.
    assert [next(monitor._callback_loop), next(monitor._callback_loop)] == [1, 1]


def test_signal_right_before_log_callback_is_not_lost(trampoline):
    log = log_module.LogForwarder(lambda _: None)
    monitor = operation_module.CallMonitor(operation_module.Control(), log=log)
    held = functools.partial(log.relay)
    with pytest.raises(KeyboardInterrupt):
        monitor.run(trampoline.message, ffi._LOG_CALLBACK, held)
    # The call would have been stopped.
    assert next(monitor._callback_loop) == 1
