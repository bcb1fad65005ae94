"""Operations: the options, progress, cancel and result of one call."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Collection, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, TypeVar

from . import _abi as abi
from . import errors, ffi, settings
from .credentials import CallbackProvider
from .log import LogForwarder
from .settings import DEFAULT, Default, Seconds

if TYPE_CHECKING:
    # Importing pathlib takes a third of this package's import time; few calls need it.
    from pathlib import Path

Result = TypeVar("Result")

# How long the interpreter's exit waits for user functions that run in daemon threads.
EXIT_TIMEOUT = 5.0

# The strings of an operation, which its next call frees, and their getters.
_STRING_GETTERS = {
    "filename": abi.operation_filename,
    "content_type": abi.operation_content_type,
    "request_id": abi.operation_request_id,
}

# How many forks led to this process. Process ids are not enough: with PID namespaces
# a child can have the same id as its parent.
_forks = 0

FORMATS = {abi.FORMAT_PDF: "pdf", abi.FORMAT_ZIP: "zip"}


class Progress(NamedTuple):
    """The progress of a call, for a ``progress`` callable."""

    received: int
    """How many bytes of the report have arrived."""
    # Optional[...]: these annotations are evaluated by Python 3.9 too.
    total: Optional[int]  # noqa: UP045
    """The size of the report; None while it is unknown."""
    resumed: int
    """How many bytes were not sent again, because the transfer was resumed."""
    attempts: int
    """How many requests were made so far."""
    percent: Optional[int] = None  # noqa: UP045
    """The percentage of a report that the service makes, or of a mirror; None if unknown."""


ProgressFunction = Callable[[Progress], object]


def _nobody() -> None:
    """The holder of what is free."""


class Reservation:
    """Something that one call at a time may use.

    A call uses it while it holds a lock of its own, which it passes to take(). It holds
    the lock in a ``with`` statement, or is a stream that has the only reference to it.
    So what a signal handler raises, at any moment, cannot leave this reserved for ever.
    """

    def __init__(self) -> None:
        # Reentrant, because a signal handler may call take() inside of take().
        self.lock = threading.RLock()
        self._holder: Callable[[], threading.Lock | None] = _nobody
        self._forks = _forks

    def is_taken(self) -> bool:
        """Whether a call uses it."""
        holder = self._holder()
        return holder is not None and holder.locked()

    def take(self, holder: threading.Lock) -> bool:
        """Reserves it until this lock, which is locked, is released; False if it is taken."""
        if self._forks != _forks:
            # In this child of fork(), the threads that held the locks do not exist.
            self.lock, self._holder, self._forks = threading.RLock(), _nobody, _forks
        with self.lock:
            if self.is_taken():
                return False
            self._holder = weakref.ref(holder)
            return True

    def pass_on(self, holder: threading.Lock) -> None:
        """Lets another lock hold it; for the call that uses it."""
        self._holder = weakref.ref(holder)


class Control(ffi.OwnedHandle[abi.Operation]):
    """Owns an operation of libdbss."""

    def __init__(self) -> None:
        super().__init__(abi.Operation, abi.operation_free)
        abi.operation_new(ffi.byref(self.pointer))
        self._forks = _forks
        self.reservation = Reservation()
        self._strings: dict[str, str | None] = {}
        self.early_error: errors.Error | None = None
        """Why the last call failed before libdbss had it."""
        self.is_shared = False
        """Whether it is that of an Operation, so that others read it during a call."""

    def acquire(self, call: threading.Lock) -> None:
        """Reserves the operation for one call, until this lock is released.

        libdbss rejects a second call itself, but not between set_progress() and the
        start of the call.
        """
        if self._forks != _forks:
            # libdbss rejects this function in a forked child, with the reason.
            abi.operation_reset(self.pointer)
        if not self.reservation.take(call):
            raise errors.BusyError(
                "operation: serves another call at the moment; use one for each call",
                parameter="operation",
            )
        self._strings = {}
        self.early_error = None

    def release(self, call: threading.Lock, monitor: CallMonitor) -> None:
        """Ends the reservation of a stream; a second time it does nothing."""
        if self._forks != _forks:
            return
        with self.reservation.lock:
            if call.locked():
                monitor.detach()
                call.release()

    def progress(self) -> Progress:
        """The progress of its call."""
        return Progress(
            abi.operation_received(self.pointer),
            ffi.optional_number(abi.operation_total(self.pointer)),
            abi.operation_resumed(self.pointer),
            abi.operation_attempts(self.pointer),
            ffi.optional_number(abi.operation_percent(self.pointer)),
        )

    def snapshot(self) -> None:
        """Copies the strings of its call; runs on the thread of the call."""
        self._strings = {
            name: ffi.decode(get(self.pointer)) for name, get in _STRING_GETTERS.items()
        }

    # The next call frees the strings of the last one. So strings are only read while
    # no call can start.

    def string(self, name: str) -> str | None:
        """A string of its call."""
        # In a child of fork() the lock may be held by a thread that no longer exists.
        if self._forks == _forks:
            with self.reservation.lock:
                if not self.reservation.is_taken():
                    self.snapshot()
        return self._strings.get(name)

    def path(self) -> Path | None:
        """Where the report was saved."""
        if self._forks != _forks:
            return None
        with self.reservation.lock:
            taken = self.reservation.is_taken()
            path = None if taken else abi.operation_path(self.pointer)
        return None if path is None else ffi.decode_path(path)

    def error(self) -> errors.Error | None:
        """The error of its call."""
        if self._forks != _forks:
            return None
        return self.early_error or ffi.operation_error(self.pointer)


class Operation(ffi.Uncopyable):
    """Options, progress, cancel and result of one call.

    Pass it to a call of a Client, and read or cancel it from any thread while
    the call runs. It serves one call at a time, and can be reused. A stream is a
    call until it is closed. A child after os.fork() must create its own.

    Args:
        connect_timeout: seconds to establish a connection, 0.001 to 86400.
        stall_timeout: seconds without a byte in or out, 0.001 to 86400.
        total_timeout: seconds for a whole call, 0.001 to 2592000. For each of the
            three, None is no limit and DEFAULT the client's value.
        max_attempts: how many attempts a call makes, 1 to 1000; None for the
            client's value.
        max_memory_bytes: the largest report to download into memory; None for the
            client's value.
        file_mode: the permissions of a saved file, such as 0o640, 0o600 to 0o777;
            None for the client's value.
        wait_timeout: seconds to wait for a report that the service makes, 0.001 to
            2592000; None is no limit and DEFAULT the client's value.
        poll_interval: seconds between checks for such a report, 0.001 to 86400;
            DEFAULT for the client's value.

    Raises:
        ArgumentError: an argument is invalid.
    """

    def __init__(
        self,
        *,
        connect_timeout: Seconds = DEFAULT,
        stall_timeout: Seconds = DEFAULT,
        total_timeout: Seconds = DEFAULT,
        max_attempts: int | None = None,
        max_memory_bytes: int | None = None,
        file_mode: int | None = None,
        wait_timeout: Seconds = DEFAULT,
        poll_interval: float | Default = DEFAULT,
    ) -> None:
        # First, so that __repr__ and close() work if __init__ fails.
        self._control: Control | None = None
        control = Control()
        control.is_shared = True
        options: dict[str, Any] = {
            "connect_timeout": connect_timeout,
            "stall_timeout": stall_timeout,
            "total_timeout": total_timeout,
            "max_attempts": max_attempts,
            "max_memory_bytes": max_memory_bytes,
            "file_mode": file_mode,
            "wait_timeout": wait_timeout,
            "poll_interval": poll_interval,
        }
        for key, value in settings.encode_options("operation", options):
            abi.operation_set(control.pointer, key, value)
        # For the calls of dbss.aio that wait for a thread: what ends them.
        self._waiting: list[Callable[[errors.Error], object]] = []
        self._is_cancelled = False
        self._total_timeout = total_timeout
        self._control = control

    def cancel(self) -> None:
        """Cancels the call of this operation, and later calls until reset().

        The call ends with CancelledError within 100 ms. Only the file system and
        your own code can delay that. A call that starts later fails in the same
        way without any traffic. You may use it in any thread and in a signal
        handler. It does nothing when the operation is closed.
        """
        control = self._control
        if control is not None:
            abi.operation_cancel(control.pointer)
            self._is_cancelled = True
            end_waiting(self._waiting, "operation")

    def reset(self) -> None:
        """Clears a cancel and the state of the last call; the options stay.

        Raises:
            BusyError: a call is running.
            ClosedError: the operation is closed.
        """
        control = self._open_control()
        abi.operation_reset(control.pointer)
        control.early_error = None
        self._is_cancelled = False

    @property
    def received(self) -> int:
        """How many bytes of the report have arrived, including those before a resume."""
        return self._open_control().progress().received

    @property
    def total(self) -> int | None:
        """The size of the report; None if it is unknown."""
        return self._open_control().progress().total

    @property
    def resumed(self) -> int:
        """How many bytes were not sent again, because broken transfers were resumed."""
        return self._open_control().progress().resumed

    @property
    def attempts(self) -> int:
        """How many requests were made so far."""
        return self._open_control().progress().attempts

    @property
    def percent(self) -> int | None:
        """The percentage of a report that the service makes, or of a mirror; None if unknown."""
        return self._open_control().progress().percent

    @property
    def path(self) -> Path | None:
        """Where the report was saved, once the call has succeeded."""
        return self._open_control().path()

    @property
    def filename(self) -> str | None:
        """The sanitized name of the report; None until the report begins to arrive."""
        return self._open_control().string("filename")

    @property
    def content_type(self) -> str | None:
        """The Content-Type header; None until the report begins to arrive."""
        return self._open_control().string("content_type")

    @property
    def format(self) -> str | None:
        """The detected format, "pdf" or "zip"; None for others, and before the first bytes."""
        return FORMATS.get(abi.operation_format(self._open_control().pointer))

    @property
    def request_id(self) -> str | None:
        """The service's id of the request; None until the report begins to arrive."""
        return self._open_control().string("request_id")

    @property
    def error(self) -> errors.Error | None:
        """The error of the last call; None if it did not fail."""
        return self._open_control().error()

    def _open_control(self) -> Control:
        """The control; ClosedError if the operation is closed."""
        control = self._control
        if control is None:
            raise errors.ClosedError("the operation is closed", parameter="operation")
        return control

    def close(self) -> None:
        """Closes the operation; its call continues. Closing it again does nothing."""
        self._control = None

    def __enter__(self) -> Operation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        control = self._control
        if control is None:
            return "<dbss.Operation closed>"
        at = control.progress()
        total = "?" if at.total is None else at.total
        return f"<dbss.Operation {at.received} of {total} bytes>"


def cancelled_error(cancelled_by: str) -> errors.CancelledError:
    """The error of a call that is cancelled before libdbss has it, in its words."""
    message = "the call was cancelled"
    if cancelled_by == "close":
        message += ": its client or stream was closed"
    return errors.CancelledError(message, cancelled_by=cancelled_by)


def end_waiting(waiting: Collection[Callable[[errors.Error], object]], cancelled_by: str) -> None:
    """Cancels calls of dbss.aio that wait for a thread."""
    for end in list(waiting):
        # Each has an exception of its own, which gets a traceback.
        end(cancelled_error(cancelled_by))


# Used controls of calls without an operation. To free one runs Python code, in which a signal
# handler could raise, and its exception would be lost.
_spare_controls: list[Control] = []
_MAX_SPARE_CONTROLS = 64


def keep_control(control: Control) -> None:
    """Keeps the control of a call that has succeeded, for another call without an operation."""
    if not control.is_shared and len(_spare_controls) < _MAX_SPARE_CONTROLS:
        _spare_controls.append(control)


def control_for(operation: Operation | None) -> Control:
    """The control of a call: that of its operation, or one that no other call uses."""
    if operation is None:
        with contextlib.suppress(IndexError):
            return _spare_controls.pop()
        return Control()
    if not isinstance(operation, Operation):
        raise TypeError(f"operation: must be dbss.Operation, not {type(operation).__name__}")
    return operation._open_control()


class CallRunner(ffi.Uncopyable):
    """The base of the mixins of Client, which run their calls through it."""

    def _run_call(
        self,
        call: Callable[[abi.Context, abi.Operation], Result],
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> Result:
        """Runs a call of libdbss with an operation, a log and a progress function."""
        raise NotImplementedError


class CallMonitor:
    """Runs Python code while a call of libdbss blocks.

    It starts the token provider's thread, and forwards log records. About twenty
    times a second it calls the progress function, and lets Python run signal
    handlers. An exception that these raise ends the call, which then raises it.
    """

    def __init__(
        self,
        control: Control | None,
        progress: ProgressFunction | None = None,
        log: LogForwarder | None = None,
        provider: CallbackProvider | None = None,
    ) -> None:
        if progress is not None:
            ffi.check_function("progress", progress)
        self._control = control
        self._progress = progress
        self._log = log
        self._provider = provider
        self._raised: BaseException | None = None
        self._attached = False
        self.in_user_code = False
        """Whether a function of the user is running."""
        self._callback_loop = self._run_callbacks()
        # Advance it into its `try`.
        next(self._callback_loop)

    def cancel(self) -> None:
        """Cancels the running call, if it has an operation."""
        if self._control is not None:
            abi.operation_cancel(self._control.pointer)

    def attach(self) -> None:
        """Installs the progress callback for the next call of the operation."""
        if self._control is not None:
            ffi.set_progress(self._control.pointer, self._callback_loop)
            self._attached = True

    def detach(self) -> None:
        """Removes the progress callback after the last call."""
        if self._attached and self._control is not None and self._control.pointer:
            ffi.clear_progress(self._control.pointer)
        # Otherwise its frame and this object would be a reference cycle.
        self._callback_loop.close()

    def _run_callbacks(self) -> Generator[int, abi.LogRecord | None, None]:
        """libdbss resumes it with a log record or for progress; 0 continues the call."""
        try:
            keep_going = True
            while keep_going:
                # A signal handler raises here at the latest.
                self.in_user_code = False
                record = yield 0
                self.in_user_code = True
                if record is None:
                    keep_going = self._on_progress()
                elif self._log is not None:
                    self._log.forward(record)
        except GeneratorExit:
            return
        except BaseException as error:
            self._raised = error
        # The call ends, and has records of that.
        while True:
            self.in_user_code = False
            try:
                record = yield 1
                self.in_user_code = True
                if record is not None and self._log is not None:
                    self._log.forward(record)
            except GeneratorExit:
                return
            except BaseException as error:
                self._raised = self._raised or error

    def _on_progress(self) -> bool:
        if self._control is None:
            return True
        if self._control.is_shared:
            self._control.snapshot()
        if self._progress is None:
            return True
        return self._progress(self._control.progress()) is not False

    def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Calls a function that blocks. Raises what callbacks raised meanwhile, unchanged."""
        relay = previous = cause = None
        running = threading.Lock()
        # Locks and `finally` here, and no context managers that are written in Python:
        # a signal handler could raise inside of these.
        with running:
            try:
                _running_calls[running] = self
                # After the call is registered: either this or the exit handler sees the other.
                if _exiting and threading.current_thread() is not threading.main_thread():
                    raise RuntimeError("the interpreter is ending")
                if self._log is not None:
                    # The log records of this thread; calls inside callbacks may nest.
                    relay = self._log.relay
                    previous, relay.send = relay.send, self._callback_loop.send
                if self._provider is not None:
                    self._provider.start()
                result = function(*arguments)
                if self._raised is None:
                    return result
            except errors.Error as error:
                if self._raised is None:
                    if self._provider is not None:
                        self._provider.attach_cause(error)
                    raise
                # It has the id of a report that was created, or the result of a mirror.
                cause = error if error.candidates or error.result else None
            finally:
                if relay is not None and previous is not None:
                    relay.send = previous
                _running_calls.pop(running, None)
        # Outside of the handler above, which would become its __context__.
        error_to_raise, self._raised = self._raised, None
        if cause is not None and error_to_raise.__cause__ is None:
            error_to_raise.__cause__ = cause
        try:
            raise error_to_raise
        finally:
            # Otherwise the exception and this frame would be a reference cycle.
            del cause, error_to_raise


# The exit of the interpreter.
#
# After it, Python ends a daemon thread that tries to run Python code. During a call
# libdbss blocks that thread for ever instead, with all resources of the call. So the
# calls are cancelled before the exit, and new ones are rejected.

_running_calls: dict[threading.Lock, CallMonitor] = {}
"""The running calls, by a lock of each, which is locked while the call runs."""
_exiting = False


def _cancel_calls_at_exit() -> None:
    global _exiting
    _exiting = True
    deadline = time.monotonic() + EXIT_TIMEOUT
    while monitors := [one for call, one in list(_running_calls.items()) if call.locked()]:
        # A user's function that never returns must not block the exit for ever.
        if time.monotonic() > deadline and all(monitor.in_user_code for monitor in monitors):
            return
        for monitor in monitors:
            monitor.cancel()
        time.sleep(0.001)


atexit.register(_cancel_calls_at_exit)


def _reset_after_fork() -> None:
    """Resets the state in a child of fork(); the running calls are the parent's."""
    global _forks
    _forks += 1
    _running_calls.clear()
    _spare_controls.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_reset_after_fork)
