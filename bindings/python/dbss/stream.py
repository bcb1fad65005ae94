"""A report that is read part by part."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

from . import _abi as abi
from . import errors, ffi
from .operation import FORMATS, CallMonitor, Control

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# How much is read at once where the caller does not say.
CHUNK = 256 * 1024

Handle = ffi.Owned[abi.ReportStream]


class ReportStream(io.BufferedIOBase):
    """A report, read as a file that is open for binary reading; see Client.open_report().

    Iteration gives chunks of bytes, not lines. The end of the file comes only
    when the report was whole and its length right; everything else is an
    exception, which stays: the next read raises it again. One thread reads at a
    time. close(), from any thread, also ends a read under way, which then raises
    CancelledError; later ones raise ClosedError. It cannot seek.
    """

    size: int | None
    """The size in bytes, as the service announced it; None where it did not."""
    format: str | None
    """"pdf" or "zip", by its first bytes; None when it is neither."""
    filename: str
    """The report's own name, made safe for a file."""
    content_type: str | None
    """The header Content-Type."""
    request_id: str | None
    """The service's id of the call."""

    # For close() on one that never came to be.
    _handle: Handle | None = None

    def __init__(self, handle: Handle, control: Control, monitor: CallMonitor) -> None:
        """For the package itself."""
        pointer = handle.pointer
        self.size = ffi.known(abi.report_stream_size(pointer))
        self.format = FORMATS.get(abi.report_stream_format(pointer))
        self.filename = ffi.decode(abi.report_stream_filename(pointer)) or ""
        self.content_type = ffi.decode(abi.report_stream_content_type(pointer))
        self.request_id = ffi.decode(abi.report_stream_request_id(pointer))
        control.snapshot()
        self._control = control
        self._monitor = monitor
        self._turn = threading.Lock()
        self._handle = handle

    def readable(self) -> bool:
        """True, until it is closed."""
        self._check_open()
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads so many bytes, or all that are left; fewer only at the end."""
        left = None if size is None or size < 0 else size
        self._check_open()
        parts = []
        while left is None or left > 0:
            part = self.read1(-1 if left is None else left)
            if not part:
                break
            parts.append(part)
            if left is not None:
                left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        """Reads as many bytes as there are, at least one, at most ``size``; none at the end."""
        room = bytearray(CHUNK if size < 0 else min(size, CHUNK))
        length = self.readinto1(room)
        return bytes(memoryview(room)[:length])

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills a buffer; returns how many bytes were read, fewer only at the end."""
        with memoryview(buffer) as view, view.cast("B") as room:
            filled = 0
            while filled < len(room):
                with room[filled:] as rest:
                    length = self._read(rest)
                if length == 0:
                    break
                filled += length
            if not room:
                self._check_open()
            return filled

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Reads as many bytes as there are into a buffer, at least one; 0 at the end."""
        with memoryview(buffer) as view, view.cast("B") as room:
            if not room:
                self._check_open()
                return 0
            return self._read(room)

    def _read(self, room: memoryview) -> int:
        self._check_open()
        if not self._turn.acquire(blocking=False):
            # Whoever closes it takes the last turn.
            self._check_open()
            raise errors.BusyError("stream: is being read by another thread", parameter="stream")
        handle = None
        try:
            # After the turn is taken: now close() knows of this read.
            handle = self._handle
            if handle is None:
                raise _closed()
            return self._monitor.run(ffi.read, handle.pointer, room)
        finally:
            # Else whoever keeps the exception would keep the stream, too.
            del handle
            self._turn.release()
            if self._handle is None:
                self._end()

    def __next__(self) -> bytes:
        chunk = self.read1()
        if not chunk:
            raise StopIteration
        return chunk

    def _check_open(self) -> None:
        if self._handle is None:
            raise _closed()

    def close(self) -> None:
        """Ends the stream, read to its end or not. Closing it again does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            abi.report_stream_close(handle.pointer)
            del handle
            self._end()
        super().close()

    def _end(self) -> None:
        """Lets go of the operation, but for a read under way, which does it when it ends."""
        if self._turn.acquire(blocking=False):
            self._monitor.detach()
            self._control.end()

    def __repr__(self) -> str:
        state = "closed" if self._handle is None else self.filename
        return f"<dbss.ReportStream {state}>"


def _closed() -> errors.ClosedError:
    return errors.ClosedError("the stream is closed", parameter="stream")
