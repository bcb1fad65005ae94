"""Between C and Python: errors, callbacks, strings. _abi declares the functions.

The functions of _abi are named as in dbss.h, without ``dbss_``. Those that return
the status of a call raise instead when it is not DBSS_OK.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char, c_size_t, c_uint8, py_object
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar, Union

from . import _abi as abi
from . import errors

if TYPE_CHECKING:
    from pathlib import Path

Handle = TypeVar("Handle", bound="ctypes._Pointer[Any]")

byref = ctypes.byref

# Handles.


class Owned(Generic[Handle]):
    """Owns a handle of libdbss. It is freed with the last reference to this."""

    def __init__(self, kind: type[Handle], free: Callable[[Handle], None]) -> None:
        self.pointer = kind()
        self._null = kind()
        # Kept here, as the modules may be gone when the interpreter ends.
        self._free = free

    def __del__(self) -> None:
        # Where this is part of a cycle, its users are finalized before it or after.
        pointer, self.pointer = self.pointer, self._null
        self._free(pointer)


@contextmanager
def made(
    kind: type[Handle], new: Callable[[Any], None], free: Callable[[Handle], None]
) -> Iterator[Handle]:
    """A handle that lives as long as the block."""
    pointer = kind()
    try:
        new(byref(pointer))
        yield pointer
    finally:
        free(pointer)


# Errors.


def error_of(operation: abi.Operation) -> errors.Error | None:
    """Why the last call of an operation failed."""
    return exception(abi.operation_error(operation))


def _error(status: int, operation: abi.Operation | None = None) -> errors.Error:
    """The exception for a status that a function has just returned on this thread.

    `operation` is the one that the call ran under. It keeps the error where a
    signal's handler has called libdbss since, but does not know that it was busy.
    """
    if operation and status != errors.BusyError.status:
        error = exception(abi.operation_error(operation))
    else:
        error = exception(abi.error_take())
    if error is not None and error.status == status:
        return error
    message = decode(abi.status_message(status)) or ""
    return _class(status)(message, status=status, status_name=decode(abi.status_name(status)))


def _class(status: int) -> type[errors.Error]:
    group = abi.status_group(status)
    return errors.STATUSES.get(status) or errors.GROUPS.get(group, errors.Error)


_CANCELLED_BY = {
    abi.CANCELLED_BY_OPERATION: "operation",
    abi.CANCELLED_BY_CONTEXT: "client",
    abi.CANCELLED_BY_CLOSE: "close",
    abi.CANCELLED_BY_CALLBACK: "callback",
}


def exception(pointer: abi.Error) -> errors.Error | None:
    """An error of libdbss as an exception; frees it."""
    if not pointer:
        return None
    try:
        status = abi.error_status(pointer)
        path = abi.error_path(pointer)
        return _class(status)(
            decode(abi.error_message(pointer)) or "",
            status=status,
            status_name=decode(abi.status_name(status)),
            parameter=decode(abi.error_parameter(pointer)),
            http_status=abi.error_http_status(pointer) or None,
            service_code=decode(abi.error_service_code(pointer)),
            service_message=decode(abi.error_service_message(pointer)),
            request_id=decode(abi.error_request_id(pointer)),
            encoded_authorization_message=decode(abi.error_encoded_authorization_message(pointer)),
            details=tuple(
                errors.Detail(
                    decode(abi.error_detail_code(pointer, index)),
                    decode(abi.error_detail_message(pointer, index)),
                )
                for index in range(abi.error_detail_count(pointer))
            ),
            candidates=tuple(
                decode(abi.error_candidate(pointer, index)) or ""
                for index in range(abi.error_candidate_count(pointer))
            ),
            redirect_target=decode(abi.error_redirect_target(pointer)),
            path=None if path is None else decode_path(path),
            cancelled_by=_CANCELLED_BY.get(abi.error_cancelled_by(pointer)),
            os_code=abi.error_os_code(pointer) or None,
            retryable=bool(abi.error_is_retryable(pointer)),
            retry_after=seconds(abi.error_retry_after_ms(pointer)),
            attempts=abi.error_attempts(pointer),
        )
    finally:
        abi.error_free(pointer)


def _fail(status: int, arguments: tuple[object, ...]) -> None:
    # An operation that is prepared, and not called under, comes first.
    operation: Any = next((one for one in arguments[1:] if type(one) is abi.Operation), None)
    # Who looks at the traceback's variables need not see the token.
    del arguments
    raise _error(status, operation)


abi.library.fail = _fail

# Callbacks.
#
# Python runs a signal's handler in the main thread wherever that next executes
# Python code: within a callback, at the very start of its function, where no
# `try` of that function can catch what the handler raises. ctypes would print it
# and forget it, and Ctrl-C with it. So what C calls here are functions that are
# themselves in C: `next` and `send`, which resume a generator inside of its
# `try`, and functions that only keep something, for others to find.
#
# Python ends daemon threads when the interpreter ends, as soon as they want its
# lock. In the midst of a callback libdbss keeps the thread for ever instead. So
# functions that let go of something keep the lock (see _abi), and what they let go
# of runs no code; the other calls are ended before (see operation).

_kept: dict[int, object] = {}
"""What C holds a pointer to, by its address, until C lets go of it."""

_TICK = abi.ProgressFn(next)
# A partial is of C as well, and can be told to call something else later.
_HAND_RECORD = abi.LogFn(functools.partial.__call__)
_PUT_REQUEST = abi.TokenProviderFn(functools.partial.__call__)
_RELEASE = abi.DestroyFn(_kept.pop)
# C may call them for longer than this module lives, so they are never freed.
for _function_for_c in (_TICK, _HAND_RECORD, _PUT_REQUEST, _RELEASE):
    ctypes.pythonapi.Py_IncRef(py_object(_function_for_c))


class LogRelay(threading.local):
    """Hands the log records of a client's calls to ``send``, which each thread has its own of."""

    send: Callable[[Any], object] = id
    """Takes a record; must be of C. `id` does nothing with it."""

    __call__ = property(operator.attrgetter("send"))


def set_log(config: abi.Config, relay: LogRelay) -> None:
    """Hands the log records of a configuration's contexts to this."""
    function: Any = relay
    held = functools.partial(function)
    _kept[id(held)] = held
    abi.config_set_log(config, _HAND_RECORD, held, _RELEASE)


if TYPE_CHECKING:
    Inlet = weakref.ref[functools.partial[None]]
    Requests = queue.SimpleQueue[Union[abi.TokenRequest, Inlet]]


def provide_tokens(config: abi.Config, requests: Requests) -> Inlet:
    """Puts the token requests of a configuration's contexts here.

    When there can be no more of them, what this returns is put here too, if it
    still lives: it is a weak reference to what C holds, and `put` its callback.
    """
    inlet = functools.partial(requests.put)
    _kept[id(inlet)] = inlet
    abi.config_set_token_provider(config, _PUT_REQUEST, inlet, _RELEASE)
    return weakref.ref(inlet, requests.put)


def redirect_tokens(inlet: Inlet, requests: Requests) -> Inlet:
    """Puts the token requests elsewhere from now on."""
    held: Any = inlet()
    if held is None:
        return inlet
    held.__setstate__((requests.put, (), {}, None))
    return weakref.ref(held, requests.put)


def set_ticks(operation: abi.Operation, ticks: Iterator[int]) -> None:
    """Resumes an iterator when an operation has progress; all but 0 stops the call.

    It must neither end nor raise, and live for longer than C holds it.
    """
    _kept[id(ticks)] = ticks
    abi.operation_set_progress(operation, _TICK, ticks, _RELEASE)


def clear_ticks(operation: abi.Operation) -> None:
    """Ends what set_ticks() began."""
    abi.operation_set_progress(operation, abi.ProgressFn(), py_object(), abi.DestroyFn())


def read(stream: abi.ReportStream, room: memoryview) -> int:
    """Reads some bytes of a stream into a writable view of bytes; 0 is the end."""
    # It keeps the memory from being freed or moved meanwhile.
    first = c_uint8.from_buffer(room)
    length = c_size_t()
    try:
        abi.report_stream_read(stream, byref(first), len(room), byref(length))
    finally:
        # Else an exception would keep it, and the memory locked.
        del first
    return length.value


# Strings, bytes, numbers.

# The exception for a value that C cannot be given, by parameter or option.
_REFUSED: dict[str, type[errors.Error]] = {
    "project": errors.InvalidIdError,
    "id": errors.InvalidIdError,
    "key": errors.UnknownKeyError,
    **{
        key: errors.STATUSES[status]
        for options in abi.OPTIONS.values()
        for key, (_, status) in options.items()
    },
}


def encode(parameter: str, value: str) -> bytes:
    """A string for C, which libdbss knows as this parameter or option."""
    if not isinstance(value, str):
        raise TypeError(f"{parameter}: must be str, not {type(value).__name__}")
    refused = _REFUSED.get(parameter, errors.InvalidValueError)
    # C would take the string to end at the first NUL.
    if "\0" in value:
        raise refused(f"{parameter}: must not hold the character U+0000", parameter=parameter)
    encoded = value.encode("utf-8", "replace")
    # Compared instead of caught: UnicodeEncodeError would keep a token.
    if encoded.decode("utf-8") != value:
        if refused not in (errors.InvalidTokenError, errors.InvalidAccessKeyError):
            refused = errors.InvalidUtf8Error
        raise refused(
            f"{parameter}: holds a lone surrogate, so it cannot be UTF-8", parameter=parameter
        )
    return encoded


def encode_path(parameter: str, path: str | bytes | os.PathLike[Any]) -> bytes:
    """A path for C."""
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise errors.InvalidValueError(
            f"{parameter}: must not hold a NUL byte", parameter=parameter
        )
    return encoded


def decode(value: bytes | None) -> str | None:
    """A string from C."""
    return None if value is None else value.decode("utf-8", "replace")


def decode_path(value: bytes) -> Path:
    """A path from C."""
    # A third of what an import of this package would cost; few calls need it.
    from pathlib import Path

    return Path(os.fsdecode(value))


def known(value: int) -> int | None:
    """A number from C, where -1 stands for none."""
    return None if value < 0 else value


def seconds(milliseconds: int) -> float | None:
    """A duration from C, where -1 stands for none."""
    return None if milliseconds < 0 else milliseconds / 1000


def room_for_id() -> Any:
    """Where C writes an id; its ``value`` is what was written."""
    return (c_char * abi.ID_SIZE)()


def copy(buffer: abi.Buffer) -> bytes:
    """The bytes of a buffer. string_at() would end at 2 GiB."""
    if not buffer.data:
        return b""
    address = ctypes.addressof(buffer.data.contents)
    copied: bytes = (c_char * buffer.len).from_address(address).raw
    return copied
