"""The C ABI of libdbss as Python sees it. Only this file knows ctypes.

The functions are named as in dbss.h, without ``dbss_``. Those that return a
dbss_status raise instead when it is not DBSS_OK.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import queue
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_void_p,
    py_object,
)
from typing import TYPE_CHECKING, Any, Callable, Union

from . import errors

NAME = "libdbss.so.0"
OLDEST = 100
"""The oldest version, as a number, that has all the functions declared here."""

LOG_ERROR = 1
LOG_WARNING = 2
LOG_INFO = 3
LOG_DEBUG = 4

FILE_REPLACE = 1

FORMAT_UNKNOWN = 0
FORMAT_PDF = 1
FORMAT_ZIP = 2

ID_SIZE = 65

# Handles: structures without an inside, each its own type, so that ctypes
# refuses one in place of another.


class _Error(ctypes.Structure):
    pass


class _Config(ctypes.Structure):
    pass


class _TokenRequest(ctypes.Structure):
    pass


class _Context(ctypes.Structure):
    pass


class _Credentials(ctypes.Structure):
    pass


class _Operation(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


class _Cursor(ctypes.Structure):
    pass


class _Page(ctypes.Structure):
    pass


class _Mirror(ctypes.Structure):
    pass


class _MirrorResult(ctypes.Structure):
    pass


if TYPE_CHECKING:
    ErrorPointer = ctypes._Pointer[_Error]
    Config = ctypes._Pointer[_Config]
    TokenRequest = ctypes._Pointer[_TokenRequest]
    Context = ctypes._Pointer[_Context]
    Credentials = ctypes._Pointer[_Credentials]
    Operation = ctypes._Pointer[_Operation]
    Stream = ctypes._Pointer[_Stream]
    Cursor = ctypes._Pointer[_Cursor]
    Page = ctypes._Pointer[_Page]
    Mirror = ctypes._Pointer[_Mirror]
    MirrorResult = ctypes._Pointer[_MirrorResult]
else:
    ErrorPointer = POINTER(_Error)
    Config = POINTER(_Config)
    TokenRequest = POINTER(_TokenRequest)
    Context = POINTER(_Context)
    Credentials = POINTER(_Credentials)
    Operation = POINTER(_Operation)
    Stream = POINTER(_Stream)
    Cursor = POINTER(_Cursor)
    Page = POINTER(_Page)
    Mirror = POINTER(_Mirror)
    MirrorResult = POINTER(_MirrorResult)


class Buffer(ctypes.Structure):
    """dbss_buffer: bytes that libdbss allocated."""

    _fields_ = (("data", POINTER(c_uint8)), ("len", c_size_t))


class Level(c_int32):
    """A log level as its callback is given it: each one an object, for it is a key below."""

    __hash__ = object.__hash__


# The types of callbacks. `user_data` is a Python object, but for its end, where
# it is only known by its address.
DestroyFunction = CFUNCTYPE(None, c_void_p)
LogFunction = CFUNCTYPE(None, py_object, Level, c_char_p)
TokenProviderFunction = CFUNCTYPE(None, py_object, TokenRequest)
ProgressFunction = CFUNCTYPE(c_int32, py_object, Operation)
WriteFunction = CFUNCTYPE(c_int32, py_object, POINTER(c_uint8), c_size_t)

# Loading.


def _load() -> ctypes.CDLL:
    """Finds the library; ImportError says where it was looked for."""
    given = os.environ.get("DBSS_LIBRARY")
    beside = os.path.join(os.path.dirname(__file__), NAME)
    if given:
        place, description = os.path.abspath(given), f"DBSS_LIBRARY={given}"
    elif os.path.exists(beside):
        place, description = beside, beside
    else:
        place = NAME
        description = f"DBSS_LIBRARY (not set), {beside} (not there) and the system's loader"
    try:
        # CDLL, not PyDLL: other threads of Python run while a call lasts.
        loaded = ctypes.CDLL(place)
    except OSError as error:
        raise ImportError(
            f"cannot load {NAME}: looked for it by {description}: {error}", name=NAME, path=place
        ) from error
    try:
        loaded.dbss_version_number.restype = c_uint32
        version = loaded.dbss_version_number()
    except AttributeError:
        raise ImportError(f"{place} is not libdbss", name=NAME, path=place) from None
    check_version(version, place)
    return loaded


def check_version(version: int, place: str) -> None:
    """Raises ImportError unless a library of this version number can be used."""
    if version < OLDEST or version // 10000 != OLDEST // 10000:
        raise ImportError(
            f"{place} is libdbss {_dotted(version)}; this package needs "
            f"{_dotted(OLDEST)} or a newer one of the same major version",
            name=NAME,
            path=place,
        )


def _dotted(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


# Errors.


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _error(status: int, operation: Operation | None = None) -> errors.Error:
    """The exception for a status that a function has just returned on this thread.

    `operation` is the one that the call ran under.
    """
    pointer = error_take()
    if operation and error_status(pointer) != status:
        # A call within a callback leaves no error on the thread.
        error_free(pointer)
        pointer = operation_error(operation)
    return _from_pointer(pointer, status)


def error_of(operation: Operation) -> errors.Error | None:
    """Why the last call of an operation failed."""
    pointer = operation_error(operation)
    return _from_pointer(pointer, error_status(pointer)) if pointer else None


def mirror_error(result: MirrorResult, index: int) -> errors.Error | None:
    """Why a mirror could not have a report: that of the failure `index`."""
    pointer = mirror_result_failure_error(result, index)
    return _from_pointer(pointer, error_status(pointer)) if pointer else None


def _from_pointer(pointer: ErrorPointer, status: int) -> errors.Error:
    """An error of libdbss as an exception; frees it."""
    known = errors.STATUSES.get(status) or errors.GROUPS.get(status_group(status), errors.Error)
    name = _text(status_name(status))
    try:
        if error_status(pointer) != status:
            # Python may run a signal handler between the call and this, and
            # that may have called libdbss too. The status is true all the same.
            message = _text(status_message(status)) or ""
            return known(message, status=status, status_name=name)
        retry_after_ms = error_retry_after_ms(pointer)
        return known(
            _text(error_message(pointer)) or "",
            status=status,
            status_name=name,
            parameter=_text(error_parameter(pointer)),
            http_status=error_http_status(pointer) or None,
            service_code=_text(error_service_code(pointer)),
            service_message=_text(error_service_message(pointer)),
            request_id=_text(error_request_id(pointer)),
            encoded_authorization_message=_text(error_encoded_authorization_message(pointer)),
            details=tuple(
                errors.Detail(
                    _text(error_detail_code(pointer, index)),
                    _text(error_detail_message(pointer, index)),
                )
                for index in range(error_detail_count(pointer))
            ),
            os_code=error_os_code(pointer) or None,
            retryable=bool(error_is_retryable(pointer)),
            retry_after=None if retry_after_ms < 0 else retry_after_ms / 1000,
            attempts=error_attempts(pointer),
        )
    finally:
        error_free(pointer)


def _check(status: int, function: object, arguments: tuple[object, ...]) -> None:
    """Raises, as ctypes calls it on the calling thread right after the function."""
    if status != 0:
        operation: Any = next((one for one in arguments if type(one) is Operation), None)
        # Who looks at the traceback's variables need not see the token.
        del arguments
        raise _error(status, operation)


# Declarations.

FUNCTIONS: dict[str, Any] = {}
"""Every function that is declared below, by its name in dbss.h."""

_library = _load()


def _function(name: str, result: Any, *parameters: Any) -> Callable[..., Any]:
    try:
        function = getattr(_library, name)
    except AttributeError:
        raise ImportError(f"{_library._name} has no function {name}", name=NAME) from None
    function.restype = result
    function.argtypes = parameters
    FUNCTIONS[name] = function
    return function  # type: ignore[no-any-return]


def _fallible(name: str, *parameters: Any) -> Callable[..., Any]:
    function = _function(name, c_int32, *parameters)
    function.errcheck = _check  # type: ignore[attr-defined]
    return function


version = _function("dbss_version", c_char_p)
version_number = _function("dbss_version_number", c_uint32)
has_feature = _function("dbss_has_feature", c_int32, c_char_p)
status_name = _function("dbss_status_name", c_char_p, c_int32)
status_message = _function("dbss_status_message", c_char_p, c_int32)
status_group = _function("dbss_status_group", c_int32, c_int32)

last_error = _function("dbss_last_error", ErrorPointer)
error_take = _function("dbss_error_take", ErrorPointer)
error_free = _function("dbss_error_free", None, ErrorPointer)
error_status = _function("dbss_error_status", c_int32, ErrorPointer)
error_message = _function("dbss_error_message", c_char_p, ErrorPointer)
error_parameter = _function("dbss_error_parameter", c_char_p, ErrorPointer)
error_http_status = _function("dbss_error_http_status", c_int32, ErrorPointer)
error_service_code = _function("dbss_error_service_code", c_char_p, ErrorPointer)
error_service_message = _function("dbss_error_service_message", c_char_p, ErrorPointer)
error_request_id = _function("dbss_error_request_id", c_char_p, ErrorPointer)
error_encoded_authorization_message = _function(
    "dbss_error_encoded_authorization_message", c_char_p, ErrorPointer
)
error_detail_count = _function("dbss_error_detail_count", c_size_t, ErrorPointer)
error_detail_code = _function("dbss_error_detail_code", c_char_p, ErrorPointer, c_size_t)
error_detail_message = _function("dbss_error_detail_message", c_char_p, ErrorPointer, c_size_t)
error_os_code = _function("dbss_error_os_code", c_int32, ErrorPointer)
error_is_retryable = _function("dbss_error_is_retryable", c_int32, ErrorPointer)
error_retry_after_ms = _function("dbss_error_retry_after_ms", c_int64, ErrorPointer)
error_attempts = _function("dbss_error_attempts", c_uint32, ErrorPointer)

config_new = _fallible("dbss_config_new", POINTER(Config))
config_free = _function("dbss_config_free", None, Config)
config_set_region = _fallible("dbss_config_set_region", Config, c_char_p)
config_set_endpoint = _fallible("dbss_config_set_endpoint", Config, c_char_p)
config_set_token = _fallible("dbss_config_set_token", Config, c_char_p)
config_set_access_key = _fallible(
    "dbss_config_set_access_key", Config, c_char_p, c_char_p, c_char_p
)
config_set_iam_user = _fallible("dbss_config_set_iam_user", Config, c_char_p, c_char_p, c_char_p)
config_set = _fallible("dbss_config_set", Config, c_char_p, c_char_p)
config_set_log = _fallible("dbss_config_set_log", Config, LogFunction, py_object, DestroyFunction)
config_key_count = _function("dbss_config_key_count", c_size_t)
config_key_name = _function("dbss_config_key_name", c_char_p, c_size_t)
config_key_type = _function("dbss_config_key_type", c_char_p, c_size_t)
config_key_help = _function("dbss_config_key_help", c_char_p, c_size_t)
config_key_default = _function("dbss_config_key_default", c_char_p, c_size_t)

config_set_token_provider = _fallible(
    "dbss_config_set_token_provider", Config, TokenProviderFunction, py_object, DestroyFunction
)
token_request_refused = _function("dbss_token_request_refused", c_int32, TokenRequest)
token_request_set = _fallible("dbss_token_request_set", TokenRequest, c_char_p, c_int64)
token_request_fail = _fallible("dbss_token_request_fail", TokenRequest, c_char_p)
token_request_free = _function("dbss_token_request_free", None, TokenRequest)

context_new = _fallible("dbss_context_new", Config, POINTER(Context))
context_set_token = _fallible("dbss_context_set_token", Context, c_char_p)
context_cancel_all = _function("dbss_context_cancel_all", None, Context)
context_free = _function("dbss_context_free", None, Context)
context_find_credentials = _fallible(
    "dbss_context_find_credentials", Context, Operation, POINTER(Credentials)
)
context_check = _fallible("dbss_context_check", Context, c_char_p, Operation)
credentials_source = _function("dbss_credentials_source", c_char_p, Credentials)
credentials_description = _function("dbss_credentials_description", c_char_p, Credentials)
credentials_name = _function("dbss_credentials_name", c_char_p, Credentials)
credentials_project = _function("dbss_credentials_project", c_char_p, Credentials)
credentials_expires_ms = _function("dbss_credentials_expires_ms", c_int64, Credentials)
credentials_free = _function("dbss_credentials_free", None, Credentials)

# The context, and the ids of project, instance and report, and the locale.
_CALL = (Context, c_char_p, c_char_p, c_char_p, c_char_p)

buffer_free = _function("dbss_buffer_free", None, POINTER(Buffer))
report_download = _fallible("dbss_report_download", *_CALL, POINTER(Buffer))
report_download_to_memory = _fallible(
    "dbss_report_download_to_memory", *_CALL, Operation, POINTER(Buffer)
)
report_download_to_file = _fallible(
    "dbss_report_download_to_file", *_CALL, c_char_p, c_uint32, Operation
)
report_download_to_directory = _fallible(
    "dbss_report_download_to_directory", *_CALL, c_char_p, c_uint32, Operation
)
report_download_to_fd = _fallible("dbss_report_download_to_fd", *_CALL, c_int, Operation)
report_download_to_callback = _fallible(
    "dbss_report_download_to_callback", *_CALL, WriteFunction, py_object, Operation
)

report_open = _fallible("dbss_report_open", *_CALL, Operation, POINTER(Stream))
report_stream_read = _fallible(
    "dbss_report_stream_read", Stream, c_void_p, c_size_t, POINTER(c_size_t)
)
report_stream_size = _function("dbss_report_stream_size", c_int64, Stream)
report_stream_format = _function("dbss_report_stream_format", c_int32, Stream)
report_stream_filename = _function("dbss_report_stream_filename", c_char_p, Stream)
report_stream_content_type = _function("dbss_report_stream_content_type", c_char_p, Stream)
report_stream_request_id = _function("dbss_report_stream_request_id", c_char_p, Stream)
report_stream_free = _function("dbss_report_stream_free", None, Stream)

operation_new = _fallible("dbss_operation_new", POINTER(Operation))
operation_free = _function("dbss_operation_free", None, Operation)
operation_set = _fallible("dbss_operation_set", Operation, c_char_p, c_char_p)
operation_set_progress = _fallible(
    "dbss_operation_set_progress", Operation, ProgressFunction, py_object, DestroyFunction
)
operation_cancel = _function("dbss_operation_cancel", None, Operation)
operation_reset = _fallible("dbss_operation_reset", Operation)
operation_received = _function("dbss_operation_received", c_int64, Operation)
operation_total = _function("dbss_operation_total", c_int64, Operation)
operation_resumed = _function("dbss_operation_resumed", c_int64, Operation)
operation_attempts = _function("dbss_operation_attempts", c_uint32, Operation)
operation_percent = _function("dbss_operation_percent", c_int32, Operation)
operation_path = _function("dbss_operation_path", c_char_p, Operation)
operation_filename = _function("dbss_operation_filename", c_char_p, Operation)
operation_request_id = _function("dbss_operation_request_id", c_char_p, Operation)
operation_error = _function("dbss_operation_error", ErrorPointer, Operation)

instances_list = _fallible("dbss_instances_list", Context, c_char_p, c_uint32, POINTER(Cursor))
reports_list = _fallible(
    "dbss_reports_list", Context, c_char_p, c_char_p, c_char_p, c_uint32, POINTER(Cursor)
)
templates_list = _fallible("dbss_templates_list", Context, c_char_p, c_char_p, POINTER(Cursor))
cursor_next = _fallible("dbss_cursor_next", Cursor, Operation, POINTER(Page))
cursor_free = _function("dbss_cursor_free", None, Cursor)
page_count = _function("dbss_page_count", c_size_t, Page)
page_total = _function("dbss_page_total", c_int64, Page)
page_field = _function("dbss_page_field", c_char_p, Page, c_size_t, c_char_p)
page_json = _fallible("dbss_page_json", Page, POINTER(Buffer))
page_free = _function("dbss_page_free", None, Page)
# The context, and the project, the instance, the template, and the rest.
_CREATE = (Context, *(c_char_p,) * 8, Operation)
report_create = _fallible("dbss_report_create", *_CREATE)
report_generate = _fallible("dbss_report_generate", *_CREATE, POINTER(c_char))
report_wait = _fallible("dbss_report_wait", Context, c_char_p, c_char_p, c_char_p, Operation)
report_delete = _fallible("dbss_report_delete", Context, c_char_p, c_char_p, c_char_p, Operation)

mirror_new = _fallible("dbss_mirror_new", POINTER(Mirror))
mirror_set = _fallible("dbss_mirror_set", Mirror, c_char_p, c_char_p)
mirror_free = _function("dbss_mirror_free", None, Mirror)
reports_mirror = _fallible(
    "dbss_reports_mirror", Context, c_char_p, c_char_p, Mirror, Operation, POINTER(MirrorResult)
)
mirror_result_count = _function("dbss_mirror_result_count", c_int64, MirrorResult, c_char_p)
mirror_result_failure_count = _function("dbss_mirror_result_failure_count", c_size_t, MirrorResult)
mirror_result_failure_id = _function(
    "dbss_mirror_result_failure_id", c_char_p, MirrorResult, c_size_t
)
mirror_result_failure_instance = _function(
    "dbss_mirror_result_failure_instance", c_char_p, MirrorResult, c_size_t
)
mirror_result_failure_error = _function(
    "dbss_mirror_result_failure_error", ErrorPointer, MirrorResult, c_size_t
)
mirror_result_gap_count = _function("dbss_mirror_result_gap_count", c_size_t, MirrorResult)
mirror_result_gap_period = _function(
    "dbss_mirror_result_gap_period", c_char_p, MirrorResult, c_size_t
)
mirror_result_gap_type = _function("dbss_mirror_result_gap_type", c_char_p, MirrorResult, c_size_t)
mirror_result_gap_instance = _function(
    "dbss_mirror_result_gap_instance", c_char_p, MirrorResult, c_size_t
)
mirror_result_json = _fallible("dbss_mirror_result_json", MirrorResult, POINTER(Buffer))
mirror_result_free = _function("dbss_mirror_result_free", None, MirrorResult)

byref = ctypes.byref


# Callbacks.
#
# Python runs a signal's handler in the main thread wherever that next executes
# Python code: within a callback, at the very start of its function, where no
# `try` of that function can catch what the handler raises. ctypes would print it
# and forget it, and Ctrl-C with it. So what C calls here are functions that are
# themselves in C: `next`, which resumes a generator inside of its `try`, and
# functions that only keep something, for others to find.

_kept: dict[int, object] = {}
"""What C holds a pointer to, by its address, until C lets go of it."""

_TICK = ProgressFunction(next)
_KEEP_MESSAGE = LogFunction(operator.setitem)
# A partial is of C as well, and can be told to call something else later.
_PUT_REQUEST = TokenProviderFunction(functools.partial.__call__)
_LET_GO = DestroyFunction(_kept.pop)
# C may call them for longer than this module lives, so they are never freed.
for _function_for_c in (_TICK, _KEEP_MESSAGE, _PUT_REQUEST, _LET_GO):
    ctypes.pythonapi.Py_IncRef(py_object(_function_for_c))

Messages = OrderedDict[Level, bytes]
"""Log messages that came and were not looked at yet, the oldest first."""


def keep_messages(config: Config, messages: Messages) -> None:
    """Puts the log messages of a configuration's contexts here."""
    _kept[id(messages)] = messages
    config_set_log(config, _KEEP_MESSAGE, messages, _LET_GO)


if TYPE_CHECKING:
    Inlet = weakref.ref[functools.partial[None]]
    Requests = queue.SimpleQueue[Union[TokenRequest, Inlet]]


def provide_tokens(config: Config, requests: Requests) -> Inlet:
    """Puts the token requests of a configuration's contexts here.

    When there can be no more of them, what this returns is put here too, if it
    still lives: it is a weak reference to what C holds, and `put` its callback.
    """
    inlet = functools.partial(requests.put)
    _kept[id(inlet)] = inlet
    config_set_token_provider(config, _PUT_REQUEST, inlet, _LET_GO)
    return weakref.ref(inlet, requests.put)


def redirect_tokens(inlet: Inlet, requests: Requests) -> Inlet:
    """Puts the token requests elsewhere from now on."""
    held: Any = inlet()
    if held is None:
        return inlet
    held.__setstate__((requests.put, (), {}, None))
    return weakref.ref(held, requests.put)


def set_ticks(operation: Operation, ticks: Iterator[int]) -> None:
    """Resumes an iterator when an operation has progress; all but 0 stops the call.

    It must neither end nor raise.
    """
    _kept[id(ticks)] = ticks
    operation_set_progress(operation, _TICK, ticks, _LET_GO)


def clear_ticks(operation: Operation) -> None:
    """Ends what set_ticks() began."""
    operation_set_progress(operation, ProgressFunction(), py_object(), DestroyFunction())


def read(stream: Stream, room: memoryview) -> int:
    """Reads some bytes of a stream into a writable view of bytes; 0 is the end."""
    # It keeps the memory from being freed or moved meanwhile.
    first = c_uint8.from_buffer(room)
    length = c_size_t()
    try:
        report_stream_read(stream, byref(first), len(room), byref(length))
    finally:
        # Else an exception would keep it, and the memory locked.
        del first
    return length.value


# Strings and bytes.

_REFUSED: dict[str, type[errors.ArgumentError]] = {
    "project": errors.InvalidIdError,
    "project_id": errors.InvalidIdError,
    "instance": errors.InvalidIdError,
    "id": errors.InvalidIdError,
    "template_id": errors.InvalidIdError,
    "locale": errors.InvalidLocaleError,
    "token": errors.InvalidTokenError,
    "access_key": errors.InvalidAccessKeyError,
    "secret_key": errors.InvalidAccessKeyError,
    "security_token": errors.InvalidAccessKeyError,
    "endpoint": errors.InvalidEndpointError,
    "region": errors.InvalidEndpointError,
    "proxy": errors.InvalidEndpointError,
    "iam_endpoint": errors.InvalidEndpointError,
    "metadata_endpoint": errors.InvalidEndpointError,
    "key": errors.UnknownKeyError,
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
    return _text(value)


def room_for_id() -> Any:
    """Where C writes an id; its ``value`` is what was written."""
    return (c_char * ID_SIZE)()


def copy(buffer: Buffer) -> bytes:
    """The bytes of a buffer. string_at() would end at 2 GiB."""
    if not buffer.data:
        return b""
    address = ctypes.addressof(buffer.data.contents)
    copied: bytes = (c_char * buffer.len).from_address(address).raw
    return copied
