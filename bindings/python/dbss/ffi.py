"""Converts errors, callbacks and strings between C and Python.

_abi declares the C functions, with the names of dbss.h without ``dbss_``. A function
that returns the status of a call raises an exception unless it is DBSS_OK.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import operator
import os
import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char, c_size_t, c_uint8, py_object
from typing import TYPE_CHECKING, Any, Callable, Generic, NoReturn, TypeVar, Union

from . import _abi as abi
from . import errors, wording

if TYPE_CHECKING:
    from pathlib import Path

Handle = TypeVar("Handle", bound="ctypes._Pointer[Any]")

byref = ctypes.byref

# Handles.


class Uncopyable:
    """The base of what uses a handle: to close a copy would close the original."""

    __slots__ = ()

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError(f"cannot copy or pickle a {type(self).__name__}")


class OwnedHandle(Uncopyable, Generic[Handle]):
    """Owns a handle of libdbss, and frees it with the last reference to this object."""

    def __init__(self, kind: type[Handle], free: Callable[[Handle], None]) -> None:
        self.pointer = kind()
        self._null = kind()
        # A reference of its own: modules may be gone when the interpreter exits.
        self._free = free

    def __del__(self) -> None:
        # An exception of a signal handler may have ended __init__.
        if not hasattr(self, "_free"):
            return
        # In a reference cycle, users of this object may be finalized after it. They
        # then see a null handle.
        pointer, self.pointer = self.pointer, self._null
        self._free(pointer)


@contextmanager
def temporary_handle(
    kind: type[Handle], new: Callable[[Any], None], free: Callable[[Handle], None]
) -> Iterator[Handle]:
    """A handle that is freed at the end of the block."""
    pointer = kind()
    try:
        new(byref(pointer))
        yield pointer
    finally:
        free(pointer)


# Errors.


class OptionText(bytes):
    """The value of an option that the user gave as text."""


def operation_error(operation: abi.Operation) -> errors.Error | None:
    """Why the last call of an operation failed."""
    return exception_from(abi.operation_error(operation))


def _exception_for_status(
    status: int, operation: abi.Operation | None = None, is_text: bool = False
) -> errors.Error:
    """The exception for a status that a function has just returned on this thread.

    `operation` is the operation of the call. It still has the error after a signal
    handler has called libdbss. It does not record that it was busy.
    """
    if operation and status != errors.BusyError.status:
        error = exception_from(abi.operation_error(operation))
    else:
        error = exception_from(abi.error_take(), is_text)
    if error is not None and error.status == status:
        return error
    message = decode(abi.status_message(status)) or ""
    return _exception_class(status)(
        message, status=status, status_name=decode(abi.status_name(status))
    )


def _exception_class(status: int, os_code: int | None = None) -> type[errors.Error]:
    group = abi.status_group(status)
    found = errors.STATUSES.get(status) or errors.GROUPS.get(group, errors.Error)
    return errors.FILE_ERRORS.get(os_code or 0, found) if found is errors.FileError else found


_CANCELLED_BY = {
    abi.CANCELLED_BY_OPERATION: "operation",
    abi.CANCELLED_BY_CONTEXT: "client",
    abi.CANCELLED_BY_CLOSE: "close",
    abi.CANCELLED_BY_CALLBACK: "callback",
}


def exception_from(pointer: abi.Error, is_text: bool = False) -> errors.Error | None:
    """Converts an error of libdbss to an exception and frees it; None for NULL.

    ``is_text`` says that it may be about an option that was given as text.
    """
    if not pointer:
        return None
    try:
        status = abi.error_status(pointer)
        parameter = decode(abi.error_parameter(pointer))
        path = abi.error_path(pointer)
        os_code = abi.error_os_code(pointer) or None
        return _exception_class(status, os_code)(
            _own_message(pointer, is_text),
            status=status,
            status_name=decode(abi.status_name(status)),
            parameter=None if parameter is None else wording.own_name(parameter),
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
            os_code=os_code,
            retryable=bool(abi.error_is_retryable(pointer)),
            retry_after=optional_seconds(abi.error_retry_after_ms(pointer)),
            attempts=abi.error_attempts(pointer),
        )
    finally:
        abi.error_free(pointer)


def _own_message(pointer: abi.Error, is_text: bool = False) -> str:
    parts = (
        (abi.error_part_kind(pointer, index), decode(abi.error_part_text(pointer, index)) or "")
        for index in range(abi.error_part_count(pointer))
    )
    return wording.own_words(decode(abi.error_parameter(pointer)), parts, is_text)


def log_message(record: abi.LogRecord) -> str:
    """The message of a log record, with the words of the exception that it is about."""
    message = decode(abi.log_record_message(record)) or ""
    pointer = abi.log_record_error(record)
    if not pointer:
        return message
    try:
        of_error = decode(abi.error_message(pointer)) or ""
        return message.replace(of_error, _own_message(pointer)) if of_error else message
    finally:
        abi.error_free(pointer)


def _raise_for_status(status: int, arguments: tuple[object, ...]) -> None:
    # Skip the first argument: an operation there is being configured. It is not the
    # operation of a call.
    operation: Any = next((one for one in arguments[1:] if type(one) is abi.Operation), None)
    is_text = any(type(one) is OptionText for one in arguments)
    # The arguments may hold a token, which must not be visible in the traceback.
    del arguments
    raise _exception_for_status(status, operation, is_text)


abi.library.raise_for_status = _raise_for_status

# Callbacks.
#
# Python runs a signal handler in the main thread as soon as that thread executes
# Python code. In a Python callback that is the very start of the function, where no
# `try` of the function catches what the handler raises. ctypes would print the
# exception and drop it, and Ctrl-C would be lost. Therefore the callbacks are
# functions implemented in C: `next` and `send`, which resume a generator inside its
# `try`, and functions that only store a value.
#
# When the interpreter exits, Python ends a daemon thread as soon as it tries to
# acquire the GIL. Inside a callback libdbss blocks that thread for ever instead. Therefore
# functions that release something hold the GIL (see _abi), and what they release
# runs no Python code. Other calls are cancelled before the exit (see operation).

_held_by_c: dict[int, object] = {}
"""The objects that C has a pointer to, by address, until C releases them."""

_PROGRESS_CALLBACK = abi.ProgressFn(next)
# A partial is implemented in C too, and its target can be replaced later.
_LOG_CALLBACK = abi.LogFn(functools.partial.__call__)
_TOKEN_CALLBACK = abi.TokenProviderFn(functools.partial.__call__)
_RELEASE = abi.DestroyFn(_held_by_c.pop)
_NO_PROGRESS, _NO_RELEASE = abi.ProgressFn(), abi.DestroyFn()
# C may call them after this module is gone, so they are never freed.
for _callback in (_PROGRESS_CALLBACK, _LOG_CALLBACK, _TOKEN_CALLBACK, _RELEASE):
    ctypes.pythonapi.Py_IncRef(py_object(_callback))


class LogRelay(threading.local):
    """Passes the log records of a client's calls to ``send``, which is thread-local."""

    send: Callable[[Any], object] = id
    """Called with a record; must be implemented in C. The default, `id`, ignores it."""

    __call__ = property(operator.attrgetter("send"))


def set_log(config: abi.Config, relay: LogRelay) -> None:
    """Passes the log records of a configuration's contexts to this relay."""
    function: Any = relay
    held = functools.partial(function)
    _held_by_c[id(held)] = held
    abi.config_set_log(config, _LOG_CALLBACK, held, _RELEASE)


if TYPE_CHECKING:
    RequestSender = weakref.ref[functools.partial[None]]
    RequestQueue = queue.SimpleQueue[Union[abi.TokenRequest, RequestSender]]


def set_token_provider(
    config: abi.Config, requests: RequestQueue, for_passcodes: bool = False
) -> RequestSender:
    """Makes the contexts of a configuration put their requests for tokens into a queue.

    Or those for passcodes.

    Returns a weak reference to the object that C holds. When C releases the object,
    no more requests come, and the weak reference itself is put into the queue.
    """
    sender = functools.partial(requests.put)
    _held_by_c[id(sender)] = sender
    if for_passcodes:
        abi.config_set_passcode_provider(config, _TOKEN_CALLBACK, sender, _RELEASE)
    else:
        abi.config_set_token_provider(config, _TOKEN_CALLBACK, sender, _RELEASE)
    return weakref.ref(sender, requests.put)


def redirect_token_requests(sender: RequestSender, requests: RequestQueue) -> RequestSender:
    """Makes a sender put its requests into another queue from now on."""
    held: Any = sender()
    if held is None:
        return sender
    held.__setstate__((requests.put, (), {}, None))
    return weakref.ref(held, requests.put)


def set_progress(operation: abi.Operation, iterator: Iterator[int]) -> None:
    """Resumes an iterator on each progress callback; a value other than 0 stops the call.

    The iterator must neither end nor raise, and must outlive the call.
    """
    _held_by_c[id(iterator)] = iterator
    abi.operation_set_progress(operation, _PROGRESS_CALLBACK, iterator, _RELEASE)


def clear_progress(operation: abi.Operation) -> None:
    """Removes the progress callback that set_progress() installed."""
    abi.operation_set_progress(operation, _NO_PROGRESS, py_object(), _NO_RELEASE)


def read_stream(stream: abi.ReportStream, view: memoryview) -> int:
    """Reads bytes of a stream into a writable view; returns 0 at the end."""
    # This object keeps the memory from being freed or moved during the call.
    first = c_uint8.from_buffer(view)
    length = c_size_t()
    try:
        abi.report_stream_read(stream, byref(first), len(view), byref(length))
    finally:
        # Otherwise an exception would keep it, and the memory locked.
        del first
    return length.value


# Strings, bytes, numbers.

# The exception class for a value that cannot be passed to C, by parameter or option.
_ERROR_CLASSES: dict[str, type[errors.Error]] = {
    "instance_id": errors.InvalidIdError,
    "report_id": errors.InvalidIdError,
    "options": errors.UnknownKeyError,
    **{
        wording.own_name(key): errors.STATUSES[status]
        for options in abi.OPTIONS.values()
        for key, (_, status) in options.items()
    },
}


def check_function(name: str, function: object) -> None:
    """Raises TypeError unless it can be called, and does its work before it returns."""
    if not callable(function):
        raise TypeError(f"{name}: must be a function, not {type(function).__name__}")
    call: Any = type(function).__call__
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        raise TypeError(f"{name}: must be a plain function; nothing awaits a coroutine function")


def encode(parameter: str, value: str) -> bytes:
    """Encodes a string for C; `parameter` is its name here, for errors."""
    if not isinstance(value, str):
        raise TypeError(f"{parameter}: must be str, not {type(value).__name__}")
    error_class = _ERROR_CLASSES.get(parameter, errors.InvalidValueError)
    # In C the string would end at the first NUL.
    if "\0" in value:
        raise error_class(f"{parameter}: must not hold the character U+0000", parameter=parameter)
    encoded = value.encode("utf-8", "replace")
    # Compare instead of catching UnicodeEncodeError, which would hold the token.
    if encoded.decode("utf-8") != value:
        if error_class not in (errors.InvalidTokenError, errors.InvalidAccessKeyError):
            error_class = errors.InvalidUtf8Error
        raise error_class(
            f"{parameter}: holds a lone surrogate, so it cannot be UTF-8", parameter=parameter
        )
    return encoded


def encode_path(parameter: str, path: str | bytes | os.PathLike[Any]) -> bytes:
    """Encodes a path for C."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{parameter}: must be a path, not {type(path).__name__}")
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise errors.InvalidValueError(
            f"{parameter}: must not hold a NUL byte", parameter=parameter
        )
    return encoded


def decode(value: bytes | None) -> str | None:
    """Decodes a string from C."""
    return None if value is None else value.decode("utf-8", "replace")


def decode_path(value: bytes) -> Path:
    """Decodes a path from C."""
    # Importing pathlib takes a third of this package's import time; few calls need it.
    from pathlib import Path

    return Path(os.fsdecode(value))


def optional_number(value: int) -> int | None:
    """A number from C; None for a negative one."""
    return None if value < 0 else value


def optional_seconds(milliseconds: int) -> float | None:
    """A duration from C in seconds; None for a negative one."""
    return None if milliseconds < 0 else milliseconds / 1000


def id_buffer() -> Any:
    """A buffer for an id that C writes; its ``value`` is the id."""
    return (c_char * abi.ID_SIZE)()


def buffer_bytes(buffer: abi.Buffer) -> bytes:
    """The bytes of a buffer. string_at() is limited to 2 GiB."""
    if not buffer.data:
        return b""
    address = ctypes.addressof(buffer.data.contents)
    copied: bytes = (c_char * buffer.len).from_address(address).raw
    return copied
