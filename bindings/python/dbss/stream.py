"""Report streams: reports that are read in parts."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

from . import _abi as abi
from . import errors, ffi, settings
from .operation import FORMATS, CallMonitor, Control, Reservation

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# How many bytes a read gets at most; libdbss gives no more.
CHUNK = 64 * 1024

Handle = ffi.OwnedHandle[abi.ReportStream]


class ReportStream(ffi.Uncopyable, io.BufferedIOBase):
    """A report as a file that is open for binary reading; see Client.open_report().

    Iteration yields chunks of bytes, not lines. The end of the file comes only when
    the report is complete and has the right length. Any other end is an exception,
    which later reads raise again. If an exception of a signal handler, such as
    KeyboardInterrupt, ends a read, bytes may be lost. Therefore later reads raise
    CancelledError then. One thread reads at a time. close(), from any
    thread, also ends a running read, which raises CancelledError. Later reads raise
    ClosedError. The stream cannot seek.
    """

    size: int | None
    """The size in bytes that the service announced; None if it announced none."""
    format: str | None
    """"pdf" or "zip", by its first bytes; None when it is neither."""
    filename: str
    """The name of the report, sanitized for use as a file name."""
    content_type: str | None
    """The header Content-Type."""
    request_id: str | None
    """The service's id of the request."""

    # For close() after a failed __init__.
    _handle: Handle | None = None
    _call: threading.Lock | None = None

    def __init__(self, handle: Handle, control: Control, monitor: CallMonitor) -> None:
        """Internal; Client creates it."""
        pointer = handle.pointer
        self.size = ffi.optional_number(abi.report_stream_size(pointer))
        self.format = FORMATS.get(abi.report_stream_format(pointer))
        self.filename = ffi.decode(abi.report_stream_filename(pointer)) or ""
        self.content_type = ffi.decode(abi.report_stream_content_type(pointer))
        self.request_id = ffi.decode(abi.report_stream_request_id(pointer))
        control.snapshot()
        self._control = control
        self._monitor = monitor
        self._reading = Reservation()
        # Whether bytes were read that the caller did not get.
        self._has_gap = False
        # One, or none while it is in use: pop() is atomic.
        self._buffers: list[bytearray] = []
        self._handle = handle
        call = threading.Lock()
        call.acquire()
        self._call = call
        control.reservation.pass_on(call)

    def readable(self) -> bool:
        """True, until it is closed."""
        self._check_open()
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads ``size`` bytes, or all that remain; fewer only at the end."""
        remaining = check_size(size)
        self._check_open()
        parts = []
        begun: list[bool] = []
        try:
            while remaining is None or remaining > 0:
                part = self._read_chunk(CHUNK if remaining is None else remaining, begun)
                if not part:
                    break
                parts.append(part)
                if remaining is not None:
                    remaining -= len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except BaseException:
            if begun:
                self._has_gap = True
            raise

    def read1(self, size: int = -1, /) -> bytes:
        """Reads the available bytes, at least one and at most ``size``; none at the end."""
        remaining = check_size(size)
        begun: list[bool] = []
        try:
            return self._read_chunk(CHUNK if remaining is None else remaining, begun)
        except BaseException:
            if begun:
                self._has_gap = True
            raise

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills a buffer and returns the number of bytes; it is smaller only at the end."""
        begun: list[bool] = []
        try:
            with memoryview(buffer) as original, original.cast("B") as view:
                filled = 0
                while filled < len(view):
                    with view[filled:] as rest:
                        length = self._read(rest, begun)
                    if length == 0:
                        break
                    filled += length
                if not view:
                    self._check_open()
            return filled
        except BaseException:
            if begun:
                self._has_gap = True
            raise

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Reads the available bytes into a buffer, at least one; returns 0 at the end."""
        begun: list[bool] = []
        try:
            with memoryview(buffer) as original, original.cast("B") as view:
                if not view:
                    self._check_open()
                    return 0
                length = self._read(view, begun)
            return length
        except BaseException:
            if begun:
                self._has_gap = True
            raise

    # A method that gives bytes to the caller has a list, `begun`, which is not empty once
    # libdbss has begun to read. What a signal handler raises after that, up to the
    # `return`, would lose bytes silently.

    def _read_chunk(self, size: int, begun: list[bool]) -> bytes:
        if size == 0:
            self._check_open()
            return b""
        # A new buffer for each read would be filled with zeros first.
        try:
            data = self._buffers.pop()
        except IndexError:
            data = bytearray(CHUNK)
        with memoryview(data) as view, view[: min(size, CHUNK)] as wanted:
            length = self._read(wanted, begun)
            chunk = bytes(view[:length])
        self._buffers.append(data)
        return chunk

    def _read(self, view: memoryview, begun: list[bool]) -> int:
        self._check_open()
        handle = None
        reading = threading.Lock()
        try:
            with reading:
                if not self._reading.take(reading):
                    raise errors.BusyError(
                        "stream: is being read by another thread", parameter="stream"
                    )
                # After the reservation, so that close() sees this read.
                handle = self._handle
                if handle is None:
                    raise _closed_error()
                if self._has_gap:
                    raise self._control.error() or errors.CancelledError(
                        "an exception has ended a read of the stream, so bytes may be missing; "
                        "open the report again",
                        cancelled_by="callback",
                    )
                begun.append(True)
                return self._monitor.run(ffi.read_stream, handle.pointer, view)
        finally:
            # Otherwise the exception would keep the stream alive.
            del handle
            if self._handle is None:
                self._release_operation()

    def __next__(self) -> bytes:
        begun: list[bool] = []
        try:
            chunk = self._read_chunk(CHUNK, begun)
        except BaseException:
            if begun:
                self._has_gap = True
            raise
        if not chunk:
            raise StopIteration
        return chunk

    def _check_open(self) -> None:
        if self._handle is None:
            raise _closed_error()

    def close(self) -> None:
        """Closes the stream, read to its end or not. Closing it again does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            abi.report_stream_close(handle.pointer)
            del handle
        # Also if an exception of a signal handler has ended an earlier close().
        self._release_operation()
        super().close()

    def _release_operation(self) -> None:
        """Releases the operation; a running read does it when it ends."""
        if self._call is not None and not self._reading.is_taken():
            self._control.release(self._call, self._monitor)

    def __repr__(self) -> str:
        state = "closed" if self._handle is None else self.filename
        return f"<dbss.ReportStream {state}>"


def check_size(size: int | None) -> int | None:
    """How many bytes to read at most; None for all."""
    wanted = -1 if size is None else settings.to_int("size", size)
    return None if wanted < 0 else wanted


def _closed_error() -> errors.ClosedError:
    return errors.ClosedError("the stream is closed", parameter="stream")
