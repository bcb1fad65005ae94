"""The control of one call: its options, its progress, its cancel, its result."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, TypeVar

from . import _abi as abi
from . import errors, ffi, settings
from .credentials import Provider
from .log import Log
from .settings import DEFAULT, Default, Seconds

if TYPE_CHECKING:
    # A third of what an import of this package would cost; few calls need it.
    from pathlib import Path

Result = TypeVar("Result")

# How long the interpreter's end waits for functions that calls in daemon threads call.
LAST_WAIT = 5.0

# The strings of an operation, which its next call frees, and what reads them.
_STRINGS = {
    "filename": abi.operation_filename,
    "content_type": abi.operation_content_type,
    "request_id": abi.operation_request_id,
}

# How many forks led to this process. Process ids would not do: in PID namespaces
# a child may have its parent's.
_forks = 0

FORMATS = {abi.FORMAT_PDF: "pdf", abi.FORMAT_ZIP: "zip"}


class Progress(NamedTuple):
    """How a call goes, for a ``progress`` callable."""

    received: int
    """How many bytes of the report have arrived."""
    # Optional[...]: these annotations are evaluated by Python 3.9 too.
    total: Optional[int]  # noqa: UP045
    """The size of the report; None while it is not known."""
    resumed: int
    """How many bytes did not have to come again, as the transfer was resumed."""
    attempts: int
    """How many requests were made so far."""
    percent: Optional[int] = None  # noqa: UP045
    """How far a report is that the service makes, or a mirror; None while not known."""


ProgressFunction = Callable[[Progress], object]


class Control(ffi.Owned[abi.Operation]):
    """Owns an operation of libdbss."""

    def __init__(self) -> None:
        super().__init__(abi.Operation, abi.operation_free)
        abi.operation_new(ffi.byref(self.pointer))
        self._forks = _forks
        self._lock = threading.RLock()
        self._running = False
        self._texts: dict[str, str | None] = {}

    def begin(self) -> None:
        """Takes it for one call, until end().

        libdbss refuses a second call itself, but not in the moment between the
        setting of the ticks and the call.
        """
        if self._forks != _forks:
            # It refuses this one too, and says why.
            abi.operation_reset(self.pointer)
        with self._lock:
            if self._running:
                raise errors.BusyError(
                    "operation: serves another call at the moment; use one for each call",
                    parameter="operation",
                )
            self._running = True
            self._texts = {}

    def end(self) -> None:
        """Gives it back."""
        self._running = False

    def progress(self) -> Progress:
        """How its call goes."""
        return Progress(
            abi.operation_received(self.pointer),
            ffi.known(abi.operation_total(self.pointer)),
            abi.operation_resumed(self.pointer),
            abi.operation_attempts(self.pointer),
            ffi.known(abi.operation_percent(self.pointer)),
        )

    def snapshot(self) -> None:
        """Keeps the strings of its call, on the call's thread."""
        self._texts = {name: ffi.decode(get(self.pointer)) for name, get in _STRINGS.items()}

    # The next call would free a string of the last one while it is copied. So
    # strings are only read where no call can start.

    def text(self, name: str) -> str | None:
        """A string of its call."""
        with self._idle() as idle:
            if idle:
                self.snapshot()
            return self._texts.get(name)

    def path(self) -> Path | None:
        """Where the report was saved."""
        with self._idle() as idle:
            path = abi.operation_path(self.pointer) if idle else None
            return None if path is None else ffi.decode_path(path)

    def error(self) -> errors.Error | None:
        """Why its call failed."""
        return None if self._forks != _forks else ffi.error_of(self.pointer)

    @contextlib.contextmanager
    def _idle(self) -> Iterator[bool]:
        # In a child of fork() there may be locks that nobody will ever release.
        if self._forks != _forks:
            yield False
            return
        with self._lock:
            yield not self._running


class Operation:
    """Options, progress, cancel and result of one call.

    Pass it to a call of a Client, and read or cancel it from any thread while
    the call runs. It serves one call at a time (a stream is a call until it is
    closed), and any number one after the other. A child after os.fork() makes
    its own.

    Args:
        connect_timeout: seconds until a connection must stand.
        stall_timeout: seconds without a byte in or out.
        total_timeout: seconds for a whole call. For each of the three, None is
            no limit and DEFAULT what the client has.
        max_attempts: how many attempts a call makes; None for what the client
            has.
        max_memory_bytes: the largest report to take into memory; None for what
            the client has.
        file_mode: the permissions of a saved file, such as 0o640; None for
            what the client has.
        wait_timeout: seconds to wait for a report that the service makes; None
            is no limit and DEFAULT what the client has.
        poll_interval: seconds until such a report is looked at again; DEFAULT
            for what the client has.

    Raises:
        ArgumentError: an argument cannot be right.
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
        # First, so that __repr__ and close() work on one that failed.
        self._control: Control | None = None
        control = Control()
        given: dict[str, Any] = {
            "connect_timeout": connect_timeout,
            "stall_timeout": stall_timeout,
            "total_timeout": total_timeout,
            "max_attempts": max_attempts,
            "max_memory_bytes": max_memory_bytes,
            "file_mode": file_mode,
            "wait_timeout": wait_timeout,
            "poll_interval": poll_interval,
        }
        for key, value in settings.encoded("operation", given):
            abi.operation_set(control.pointer, key, value)
        self._control = control

    def cancel(self) -> None:
        """Cancels the call of this operation, and those to come until reset().

        The call ends with CancelledError within 100 ms, whatever it waits for
        but the file system and your own code; a call that starts later ends so
        without any traffic. From any thread, and from a signal's handler. It
        does nothing when the operation is closed.
        """
        control = self._control
        if control is not None:
            abi.operation_cancel(control.pointer)

    def reset(self) -> None:
        """Undoes a cancel and forgets the last call; the options stay.

        Raises:
            BusyError: a call is under way.
            ClosedError: the operation is closed.
        """
        abi.operation_reset(self.control().pointer)

    @property
    def received(self) -> int:
        """How many bytes of the report have arrived, those before a resumption included."""
        return self.control().progress().received

    @property
    def total(self) -> int | None:
        """The size of the report; None while or where it is not known."""
        return self.control().progress().total

    @property
    def resumed(self) -> int:
        """How many bytes did not have to come again, as broken transfers were resumed."""
        return self.control().progress().resumed

    @property
    def attempts(self) -> int:
        """How many requests were made so far."""
        return self.control().progress().attempts

    @property
    def percent(self) -> int | None:
        """How far a report is that the service makes, or a mirror; None while not known."""
        return self.control().progress().percent

    @property
    def path(self) -> Path | None:
        """Where the report was saved, once the call has succeeded."""
        return self.control().path()

    @property
    def filename(self) -> str | None:
        """The report's own name, made safe; None until it has begun to arrive."""
        return self.control().text("filename")

    @property
    def content_type(self) -> str | None:
        """The header Content-Type of the report; None until it has begun to arrive."""
        return self.control().text("content_type")

    @property
    def format(self) -> str | None:
        """By its first bytes, "pdf" or "zip"; None when it is neither, and until they are there."""
        return FORMATS.get(abi.operation_format(self.control().pointer))

    @property
    def request_id(self) -> str | None:
        """The service's id of the call; None until the report has begun to arrive."""
        return self.control().text("request_id")

    @property
    def error(self) -> errors.Error | None:
        """Why the last call failed, whatever the cause; None when it has not."""
        return self.control().error()

    def control(self) -> Control:
        """For the package itself."""
        control = self._control
        if control is None:
            raise errors.ClosedError("the operation is closed")
        return control

    def close(self) -> None:
        """Ends the operation; its call goes on. Closing it again does nothing."""
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


class Performer:
    """What makes the calls of a Client, for its parts in other files."""

    def _perform(
        self,
        call: Callable[[abi.Context, abi.Operation], Result],
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> Result:
        """Runs a call of libdbss from its beginning to its end."""
        raise NotImplementedError


class CallMonitor:
    """What Python does while a call of libdbss blocks.

    It sees to it that a token provider is there to answer, and hands over log
    records. About twenty times a second it calls the progress function, and lets
    Python run the handlers of signals. What these raise stops the call and comes
    out of it.
    """

    def __init__(
        self,
        control: Control | None,
        progress: ProgressFunction | None = None,
        log: Log | None = None,
        provider: Provider | None = None,
    ) -> None:
        if progress is not None and not callable(progress):
            raise TypeError("progress: must be callable")
        self._control = control
        self._progress = progress
        self._log = log
        self._provider = provider
        self._failed: BaseException | None = None
        self._attached = False
        self.is_calling_back = False
        """Whether a function of the package's user runs."""
        self._ticks = self._run()
        # As far as the inside of its `try`.
        next(self._ticks)

    def cancel(self) -> None:
        """Ends the call under way, if it can be."""
        if self._control is not None:
            abi.operation_cancel(self._control.pointer)

    def attach(self) -> None:
        """Begins with the next call of the operation."""
        if self._control is not None:
            ffi.set_ticks(self._control.pointer, self._ticks)
            self._attached = True

    def detach(self) -> None:
        """Ends with the last call."""
        if self._attached and self._control is not None and self._control.pointer:
            ffi.clear_ticks(self._control.pointer)
        # Its frame and this would keep each other.
        self._ticks.close()

    def _run(self) -> Generator[int, abi.LogRecord | None, None]:
        """Resumed by libdbss, with a log record or for a tick; 0 lets the call go on."""
        try:
            go_on = True
            while go_on:
                # A signal's handler raises here at the latest.
                self.is_calling_back = False
                record = yield 0
                self.is_calling_back = True
                if record is None:
                    go_on = self._tick()
                elif self._log is not None:
                    self._log.deliver(record)
        except GeneratorExit:
            return
        except BaseException as error:
            self._failed = error
        self.is_calling_back = False
        while True:
            yield 1

    def _tick(self) -> bool:
        if self._control is None:
            return True
        self._control.snapshot()
        if self._progress is None:
            return True
        return self._progress(self._control.progress()) is not False

    def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Calls a function that blocks. What was raised meanwhile comes out as it was."""
        with _under_way(self), self._logging():
            try:
                if self._provider is not None:
                    self._provider.start()
                result = function(*arguments)
                if self._failed is None:
                    return result
            except errors.Error as error:
                if self._failed is None:
                    if self._provider is not None:
                        self._provider.explain(error)
                    raise
        # Outside of the handler above, which would become a part of its story.
        failed, self._failed = self._failed, None
        try:
            raise failed
        finally:
            # Else it would keep this frame, and this frame it.
            del failed

    @contextlib.contextmanager
    def _logging(self) -> Iterator[None]:
        """Takes the log records of this thread, which a call within a callback may interrupt."""
        if self._log is None:
            yield
            return
        relay = self._log.relay
        before, relay.send = relay.send, self._ticks.send
        try:
            yield
        finally:
            relay.send = before


# The end of the interpreter.
#
# Python ends a daemon thread that wants to run Python code after that. In the
# midst of a call libdbss keeps the thread for ever instead, and whatever the call
# holds. So these calls are ended before, and new ones refused.

_calls: dict[object, CallMonitor] = {}
_over = False


@contextlib.contextmanager
def _under_way(monitor: CallMonitor) -> Iterator[None]:
    call = object()
    _calls[call] = monitor
    try:
        # After it is known: either this or _end_calls() sees the other.
        if _over and threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the interpreter is ending")
        yield
    finally:
        _calls.pop(call, None)


def _end_calls() -> None:
    global _over
    _over = True
    until = time.monotonic() + LAST_WAIT
    while left := list(_calls.values()):
        # A function that never returns would keep the interpreter for ever.
        if time.monotonic() > until and all(monitor.is_calling_back for monitor in left):
            return
        for monitor in left:
            monitor.cancel()
        time.sleep(0.001)


atexit.register(_end_calls)


def _forget_parent() -> None:
    """In a child of fork(): the calls of other threads are the parent's."""
    global _forks
    _forks += 1
    _calls.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_parent)
