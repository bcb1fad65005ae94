"""The C ABI of libdbss in ctypes.

Generated from include/dbss-abi.json by bindings/generate/python.py.
"""

from __future__ import annotations

import ctypes
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
from typing import TYPE_CHECKING, Any, Callable

from .library import STATUS, Library

VERSION_NUMBER = 100
"""The first version of the library that has all declarations here."""
SONAME = "libdbss.so.0"
OPTIONS_CONFIG = 1
"""The options of a configuration: dbss_config_set()."""
OPTIONS_OPERATION = 2
"""The options of an operation: dbss_operation_set()."""
OPTIONS_REPORT_SPEC = 3
"""The options of a report spec: dbss_report_spec_set()."""
OPTIONS_MIRROR = 4
"""The options of a mirror: dbss_mirror_options_set()."""
OPTIONS_SCHEDULE = 5
"""The values of the changes of a schedule: dbss_schedule_changes_set()."""
PART_TEXT = 0
"""Words of the message that are the same in every language."""
PART_NAME = 1
"""The name of a parameter of a function, or the key of an option."""
PART_VALUE = 2
"""What was given for a parameter or an option."""
PART_DURATION = 3
"""A duration in milliseconds, such as "250", or with its unit "250 ms"."""
PART_MODE = 4
"""The permissions of a file in octal digits, such as "640"."""
PART_NOTATION = 5
"""How a value is written as text, such as "octal digits "."""
PART_NULL = 6
""""NULL", or what another language calls it."""
PART_NO_LIMIT = 7
"""The value that means no limit, "-1" here."""
PART_UNKNOWN = 8
"""The value for a time that is not known, "-1" here."""
PART_REPLACE = 9
""""allow replacing it", or how a language does that."""
PART_OBJECT = 10
"""What an object is called, such as "context" or "cursor"."""
CANCELLED_BY_OPERATION = 1
"""dbss_operation_cancel() cancelled the call."""
CANCELLED_BY_CONTEXT = 2
"""dbss_context_cancel_all() cancelled the call."""
CANCELLED_BY_CLOSE = 3
"""The context or the stream was closed."""
CANCELLED_BY_CALLBACK = 4
"""A callback ended the call."""
LOG_ERROR = 1
"""The level of a record about a call that failed."""
LOG_WARNING = 2
"""The level of a record about a problem that libdbss handled, such as a broken transfer that
was resumed.
"""
LOG_INFO = 3
"""The level of a record about what a call did."""
LOG_DEBUG = 4
"""The level of a record about a request and its response."""
FILE_REPLACE = 1
"""A flag of the file functions: an existing file may be replaced, atomically, when the new one
is complete.
"""
FORMAT_UNKNOWN = 0
"""The report is neither of these."""
FORMAT_PDF = 1
"""A PDF: the first bytes are "%PDF-"."""
FORMAT_ZIP = 2
"""A ZIP archive: the first bytes are "PK" and the signature of a ZIP record."""
ID_SIZE = 65
"""The size of a buffer for any id, including the NUL at its end."""

library = Library(SONAME, VERSION_NUMBER)


# Handles: opaque structures, each of its own type, so that ctypes rejects a handle
# of another type.
class _Error(ctypes.Structure):
    """Why a call failed: a status, a message, and the details from the service and the
    operating system.
    """


class _Config(ctypes.Structure):
    """A configuration under construction."""


class _LogRecord(ctypes.Structure):
    """A log record."""


class _TokenRequest(ctypes.Structure):
    """A request for a token."""


class _Context(ctypes.Structure):
    """A client of the service, with its credentials and its connections, which stay open
    between calls.
    """


class _Credentials(ctypes.Structure):
    """A description of credentials, for people and logs."""


class _ReportStream(ctypes.Structure):
    """A report that is read in parts, as from a file."""


class _Operation(ctypes.Structure):
    """The options, progress, cancellation and result of one call."""


class _Cursor(ctypes.Structure):
    """The position in a list of the service, which is read page by page."""


class _Page(ctypes.Structure):
    """A page of a list."""


class _ReportSpec(ctypes.Structure):
    """The specification of a report to create: options by key and value."""


class _ScheduleChanges(ctypes.Structure):
    """Changes of a schedule: values by key."""


class _MirrorOptions(ctypes.Structure):
    """The options of a mirror, by key and value."""


class _MirrorResult(ctypes.Structure):
    """The result of a mirror."""


if TYPE_CHECKING:
    Error = ctypes._Pointer[_Error]
    Config = ctypes._Pointer[_Config]
    LogRecord = ctypes._Pointer[_LogRecord]
    TokenRequest = ctypes._Pointer[_TokenRequest]
    Context = ctypes._Pointer[_Context]
    Credentials = ctypes._Pointer[_Credentials]
    ReportStream = ctypes._Pointer[_ReportStream]
    Operation = ctypes._Pointer[_Operation]
    Cursor = ctypes._Pointer[_Cursor]
    Page = ctypes._Pointer[_Page]
    ReportSpec = ctypes._Pointer[_ReportSpec]
    ScheduleChanges = ctypes._Pointer[_ScheduleChanges]
    MirrorOptions = ctypes._Pointer[_MirrorOptions]
    MirrorResult = ctypes._Pointer[_MirrorResult]
else:
    Error = POINTER(_Error)
    Config = POINTER(_Config)
    LogRecord = POINTER(_LogRecord)
    TokenRequest = POINTER(_TokenRequest)
    Context = POINTER(_Context)
    Credentials = POINTER(_Credentials)
    ReportStream = POINTER(_ReportStream)
    Operation = POINTER(_Operation)
    Cursor = POINTER(_Cursor)
    Page = POINTER(_Page)
    ReportSpec = POINTER(_ReportSpec)
    ScheduleChanges = POINTER(_ScheduleChanges)
    MirrorOptions = POINTER(_MirrorOptions)
    MirrorResult = POINTER(_MirrorResult)


class Buffer(ctypes.Structure):
    """Bytes that libdbss allocated, and their number."""

    _fields_ = (
        ("data", POINTER(c_uint8)),
        ("len", c_size_t),
    )


# Callbacks. `user_data` is a Python object. Only the release callback gets it as an
# address.
DestroyFn = CFUNCTYPE(None, c_void_p)
LogFn = CFUNCTYPE(None, py_object, LogRecord)
TokenProviderFn = CFUNCTYPE(None, py_object, TokenRequest)
WriteFn = CFUNCTYPE(c_int32, py_object, POINTER(c_uint8), c_size_t)
ProgressFn = CFUNCTYPE(c_int32, py_object, Operation)
InterruptFn = CFUNCTYPE(c_int32, py_object)

# Functions. Those that never block hold the GIL (PyDLL), so that their callbacks
# need not wait for it. Functions that free a buffer release it: that may take long.
_blocking, _nonblocking = library.declare_blocking, library.declare_nonblocking
version: Callable[[], bytes] = _nonblocking("dbss_version", c_char_p)
version_number: Callable[[], int] = _nonblocking("dbss_version_number", c_uint32)
has_feature: Callable[[bytes | None], int] = _nonblocking("dbss_has_feature", c_int32, c_char_p)
feature_count: Callable[[], int] = _nonblocking("dbss_feature_count", c_size_t)
feature_name: Callable[[int], bytes | None] = _nonblocking("dbss_feature_name", c_char_p, c_size_t)
feature_help: Callable[[int], bytes | None] = _nonblocking("dbss_feature_help", c_char_p, c_size_t)
status_name: Callable[[int], bytes] = _nonblocking("dbss_status_name", c_char_p, c_int32)
status_message: Callable[[int], bytes] = _nonblocking("dbss_status_message", c_char_p, c_int32)
status_group: Callable[[int], int] = _nonblocking("dbss_status_group", c_int32, c_int32)
status_count: Callable[[], int] = _nonblocking("dbss_status_count", c_size_t)
status_value: Callable[[int], int] = _nonblocking("dbss_status_value", c_int32, c_size_t)
option_count: Callable[[int], int] = _nonblocking("dbss_option_count", c_size_t, c_int32)
option_key: Callable[[int, int], bytes | None] = _nonblocking(
    "dbss_option_key", c_char_p, c_int32, c_size_t
)
option_type: Callable[[int, int], bytes | None] = _nonblocking(
    "dbss_option_type", c_char_p, c_int32, c_size_t
)
option_default: Callable[[int, int], bytes | None] = _nonblocking(
    "dbss_option_default", c_char_p, c_int32, c_size_t
)
option_help: Callable[[int, int], bytes | None] = _nonblocking(
    "dbss_option_help", c_char_p, c_int32, c_size_t
)
option_choices: Callable[[int, int], bytes | None] = _nonblocking(
    "dbss_option_choices", c_char_p, c_int32, c_size_t
)
option_minimum: Callable[[int, int], int] = _nonblocking(
    "dbss_option_minimum", c_int64, c_int32, c_size_t
)
option_maximum: Callable[[int, int], int] = _nonblocking(
    "dbss_option_maximum", c_int64, c_int32, c_size_t
)
option_allows_none: Callable[[int, int], int] = _nonblocking(
    "dbss_option_allows_none", c_int32, c_int32, c_size_t
)
last_error: Callable[[], Error] = _nonblocking("dbss_last_error", Error)
error_take: Callable[[], Error] = _nonblocking("dbss_error_take", Error)
error_free: Callable[[Error], None] = _nonblocking("dbss_error_free", None, Error)
error_status: Callable[[Error], int] = _nonblocking("dbss_error_status", c_int32, Error)
error_message: Callable[[Error], bytes] = _nonblocking("dbss_error_message", c_char_p, Error)
error_part_count: Callable[[Error], int] = _nonblocking("dbss_error_part_count", c_size_t, Error)
error_part_kind: Callable[[Error, int], int] = _nonblocking(
    "dbss_error_part_kind", c_int32, Error, c_size_t
)
error_part_text: Callable[[Error, int], bytes | None] = _nonblocking(
    "dbss_error_part_text", c_char_p, Error, c_size_t
)
error_parameter: Callable[[Error], bytes | None] = _nonblocking(
    "dbss_error_parameter", c_char_p, Error
)
error_http_status: Callable[[Error], int] = _nonblocking("dbss_error_http_status", c_int32, Error)
error_service_code: Callable[[Error], bytes | None] = _nonblocking(
    "dbss_error_service_code", c_char_p, Error
)
error_service_message: Callable[[Error], bytes | None] = _nonblocking(
    "dbss_error_service_message", c_char_p, Error
)
error_request_id: Callable[[Error], bytes | None] = _nonblocking(
    "dbss_error_request_id", c_char_p, Error
)
error_encoded_authorization_message: Callable[[Error], bytes | None] = _nonblocking(
    "dbss_error_encoded_authorization_message", c_char_p, Error
)
error_detail_count: Callable[[Error], int] = _nonblocking(
    "dbss_error_detail_count", c_size_t, Error
)
error_detail_code: Callable[[Error, int], bytes | None] = _nonblocking(
    "dbss_error_detail_code", c_char_p, Error, c_size_t
)
error_detail_message: Callable[[Error, int], bytes | None] = _nonblocking(
    "dbss_error_detail_message", c_char_p, Error, c_size_t
)
error_cancelled_by: Callable[[Error], int] = _nonblocking("dbss_error_cancelled_by", c_int32, Error)
error_candidate_count: Callable[[Error], int] = _nonblocking(
    "dbss_error_candidate_count", c_size_t, Error
)
error_candidate: Callable[[Error, int], bytes | None] = _nonblocking(
    "dbss_error_candidate", c_char_p, Error, c_size_t
)
error_redirect_target: Callable[[Error], bytes | None] = _nonblocking(
    "dbss_error_redirect_target", c_char_p, Error
)
error_path: Callable[[Error], bytes | None] = _nonblocking("dbss_error_path", c_char_p, Error)
error_os_code: Callable[[Error], int] = _nonblocking("dbss_error_os_code", c_int32, Error)
error_is_retryable: Callable[[Error], int] = _nonblocking("dbss_error_is_retryable", c_int32, Error)
error_retry_after_ms: Callable[[Error], int] = _nonblocking(
    "dbss_error_retry_after_ms", c_int64, Error
)
error_attempts: Callable[[Error], int] = _nonblocking("dbss_error_attempts", c_uint32, Error)
config_new: Callable[[Any], None] = _nonblocking("dbss_config_new", STATUS, POINTER(Config))
config_free: Callable[[Config], None] = _nonblocking("dbss_config_free", None, Config)
config_set_region: Callable[[Config, bytes], None] = _nonblocking(
    "dbss_config_set_region", STATUS, Config, c_char_p
)
config_set_endpoint: Callable[[Config, bytes], None] = _nonblocking(
    "dbss_config_set_endpoint", STATUS, Config, c_char_p
)
config_set_token: Callable[[Config, bytes], None] = _nonblocking(
    "dbss_config_set_token", STATUS, Config, c_char_p
)
config_set_access_key: Callable[[Config, bytes, bytes, bytes | None], None] = _nonblocking(
    "dbss_config_set_access_key", STATUS, Config, c_char_p, c_char_p, c_char_p
)
config_set_iam_user: Callable[[Config, bytes, bytes, bytes], None] = _nonblocking(
    "dbss_config_set_iam_user", STATUS, Config, c_char_p, c_char_p, c_char_p
)
config_set: Callable[[Config, bytes, bytes], None] = _nonblocking(
    "dbss_config_set", STATUS, Config, c_char_p, c_char_p
)
config_set_log: Callable[[Config, Any, object, Any], None] = _nonblocking(
    "dbss_config_set_log", STATUS, Config, LogFn, py_object, DestroyFn
)
log_record_copy: Callable[[LogRecord], LogRecord] = _nonblocking(
    "dbss_log_record_copy", LogRecord, LogRecord
)
log_record_free: Callable[[LogRecord], None] = _nonblocking("dbss_log_record_free", None, LogRecord)
log_record_level: Callable[[LogRecord], int] = _nonblocking(
    "dbss_log_record_level", c_int32, LogRecord
)
log_record_message: Callable[[LogRecord], bytes] = _nonblocking(
    "dbss_log_record_message", c_char_p, LogRecord
)
log_record_status: Callable[[LogRecord], int] = _nonblocking(
    "dbss_log_record_status", c_int32, LogRecord
)
log_record_attempt: Callable[[LogRecord], int] = _nonblocking(
    "dbss_log_record_attempt", c_uint32, LogRecord
)
log_record_request_id: Callable[[LogRecord], bytes | None] = _nonblocking(
    "dbss_log_record_request_id", c_char_p, LogRecord
)
log_record_report_id: Callable[[LogRecord], bytes | None] = _nonblocking(
    "dbss_log_record_report_id", c_char_p, LogRecord
)
log_record_bytes: Callable[[LogRecord], int] = _nonblocking(
    "dbss_log_record_bytes", c_int64, LogRecord
)
log_record_duration_ms: Callable[[LogRecord], int] = _nonblocking(
    "dbss_log_record_duration_ms", c_int64, LogRecord
)
log_record_offset: Callable[[LogRecord], int] = _nonblocking(
    "dbss_log_record_offset", c_int64, LogRecord
)
log_record_retry_delay_ms: Callable[[LogRecord], int] = _nonblocking(
    "dbss_log_record_retry_delay_ms", c_int64, LogRecord
)
log_record_error: Callable[[LogRecord], Error] = _nonblocking(
    "dbss_log_record_error", Error, LogRecord
)
log_record_http_status: Callable[[LogRecord], int] = _nonblocking(
    "dbss_log_record_http_status", c_int32, LogRecord
)
config_set_token_provider: Callable[[Config, Any, object, Any], None] = _nonblocking(
    "dbss_config_set_token_provider", STATUS, Config, TokenProviderFn, py_object, DestroyFn
)
config_set_passcode_provider: Callable[[Config, Any, object, Any], None] = _nonblocking(
    "dbss_config_set_passcode_provider", STATUS, Config, TokenProviderFn, py_object, DestroyFn
)
token_request_refused: Callable[[TokenRequest], int] = _nonblocking(
    "dbss_token_request_refused", c_int32, TokenRequest
)
token_request_is_wanted: Callable[[TokenRequest], int] = _nonblocking(
    "dbss_token_request_is_wanted", c_int32, TokenRequest
)
token_request_set: Callable[[TokenRequest, bytes, int], None] = _nonblocking(
    "dbss_token_request_set", STATUS, TokenRequest, c_char_p, c_int64
)
token_request_fail: Callable[[TokenRequest, bytes | None], None] = _nonblocking(
    "dbss_token_request_fail", STATUS, TokenRequest, c_char_p
)
token_request_free: Callable[[TokenRequest], None] = _nonblocking(
    "dbss_token_request_free", None, TokenRequest
)
context_new: Callable[[Config, Any], None] = _blocking(
    "dbss_context_new", STATUS, Config, POINTER(Context)
)
context_set_token: Callable[[Context, bytes], None] = _nonblocking(
    "dbss_context_set_token", STATUS, Context, c_char_p
)
context_cancel_all: Callable[[Context], None] = _blocking("dbss_context_cancel_all", None, Context)
context_close: Callable[[Context], None] = _nonblocking("dbss_context_close", None, Context)
context_free: Callable[[Context], None] = _nonblocking("dbss_context_free", None, Context)
context_find_credentials: Callable[[Context, Operation, Any], None] = _blocking(
    "dbss_context_find_credentials", STATUS, Context, Operation, POINTER(Credentials)
)
context_check: Callable[[Context, bytes | None, Operation], None] = _blocking(
    "dbss_context_check", STATUS, Context, c_char_p, Operation
)
credentials_source: Callable[[Credentials], bytes | None] = _nonblocking(
    "dbss_credentials_source", c_char_p, Credentials
)
credentials_description: Callable[[Credentials], bytes | None] = _nonblocking(
    "dbss_credentials_description", c_char_p, Credentials
)
credentials_name: Callable[[Credentials], bytes | None] = _nonblocking(
    "dbss_credentials_name", c_char_p, Credentials
)
credentials_project: Callable[[Credentials], bytes | None] = _nonblocking(
    "dbss_credentials_project", c_char_p, Credentials
)
credentials_expires_ms: Callable[[Credentials], int] = _nonblocking(
    "dbss_credentials_expires_ms", c_int64, Credentials
)
credentials_free: Callable[[Credentials], None] = _nonblocking(
    "dbss_credentials_free", None, Credentials
)
buffer_free: Callable[[Any], None] = _blocking("dbss_buffer_free", None, POINTER(Buffer))
report_download: Callable[[Context, bytes | None, bytes, bytes, bytes | None, Any], None] = (
    _blocking(
        "dbss_report_download",
        STATUS,
        Context,
        c_char_p,
        c_char_p,
        c_char_p,
        c_char_p,
        POINTER(Buffer),
    )
)
report_download_to_memory: Callable[
    [Context, bytes | None, bytes, bytes, bytes | None, Operation, Any], None
] = _blocking(
    "dbss_report_download_to_memory",
    STATUS,
    Context,
    c_char_p,
    c_char_p,
    c_char_p,
    c_char_p,
    Operation,
    POINTER(Buffer),
)
report_download_to_file: Callable[
    [Context, bytes | None, bytes, bytes, bytes | None, bytes, int, Operation], None
] = _blocking(
    "dbss_report_download_to_file",
    STATUS,
    Context,
    c_char_p,
    c_char_p,
    c_char_p,
    c_char_p,
    c_char_p,
    c_uint32,
    Operation,
)
report_download_to_directory: Callable[
    [Context, bytes | None, bytes, bytes, bytes | None, bytes, int, Operation], None
] = _blocking(
    "dbss_report_download_to_directory",
    STATUS,
    Context,
    c_char_p,
    c_char_p,
    c_char_p,
    c_char_p,
    c_char_p,
    c_uint32,
    Operation,
)
report_download_to_fd: Callable[
    [Context, bytes | None, bytes, bytes, bytes | None, int, Operation], None
] = _blocking(
    "dbss_report_download_to_fd",
    STATUS,
    Context,
    c_char_p,
    c_char_p,
    c_char_p,
    c_char_p,
    c_int,
    Operation,
)
report_download_to_callback: Callable[
    [Context, bytes | None, bytes, bytes, bytes | None, Any, object, Operation], None
] = _blocking(
    "dbss_report_download_to_callback",
    STATUS,
    Context,
    c_char_p,
    c_char_p,
    c_char_p,
    c_char_p,
    WriteFn,
    py_object,
    Operation,
)
report_open: Callable[[Context, bytes | None, bytes, bytes, bytes | None, Operation, Any], None] = (
    _blocking(
        "dbss_report_open",
        STATUS,
        Context,
        c_char_p,
        c_char_p,
        c_char_p,
        c_char_p,
        Operation,
        POINTER(ReportStream),
    )
)
report_stream_read: Callable[[ReportStream, Any, int, Any], None] = _blocking(
    "dbss_report_stream_read", STATUS, ReportStream, c_void_p, c_size_t, POINTER(c_size_t)
)
report_stream_size: Callable[[ReportStream], int] = _nonblocking(
    "dbss_report_stream_size", c_int64, ReportStream
)
report_stream_format: Callable[[ReportStream], int] = _nonblocking(
    "dbss_report_stream_format", c_int32, ReportStream
)
report_stream_filename: Callable[[ReportStream], bytes | None] = _nonblocking(
    "dbss_report_stream_filename", c_char_p, ReportStream
)
report_stream_content_type: Callable[[ReportStream], bytes | None] = _nonblocking(
    "dbss_report_stream_content_type", c_char_p, ReportStream
)
report_stream_request_id: Callable[[ReportStream], bytes | None] = _nonblocking(
    "dbss_report_stream_request_id", c_char_p, ReportStream
)
report_stream_close: Callable[[ReportStream], None] = _nonblocking(
    "dbss_report_stream_close", None, ReportStream
)
report_stream_free: Callable[[ReportStream], None] = _nonblocking(
    "dbss_report_stream_free", None, ReportStream
)
operation_new: Callable[[Any], None] = _nonblocking(
    "dbss_operation_new", STATUS, POINTER(Operation)
)
operation_free: Callable[[Operation], None] = _nonblocking("dbss_operation_free", None, Operation)
operation_set: Callable[[Operation, bytes, bytes], None] = _nonblocking(
    "dbss_operation_set", STATUS, Operation, c_char_p, c_char_p
)
operation_set_progress: Callable[[Operation, Any, object, Any], None] = _nonblocking(
    "dbss_operation_set_progress", STATUS, Operation, ProgressFn, py_object, DestroyFn
)
operation_set_interrupt: Callable[[Operation, Any, object, Any], None] = _nonblocking(
    "dbss_operation_set_interrupt", STATUS, Operation, InterruptFn, py_object, DestroyFn
)
operation_cancel: Callable[[Operation], None] = _nonblocking(
    "dbss_operation_cancel", None, Operation
)
operation_reset: Callable[[Operation], None] = _nonblocking(
    "dbss_operation_reset", STATUS, Operation
)
operation_received: Callable[[Operation], int] = _nonblocking(
    "dbss_operation_received", c_int64, Operation
)
operation_total: Callable[[Operation], int] = _nonblocking(
    "dbss_operation_total", c_int64, Operation
)
operation_resumed: Callable[[Operation], int] = _nonblocking(
    "dbss_operation_resumed", c_int64, Operation
)
operation_attempts: Callable[[Operation], int] = _nonblocking(
    "dbss_operation_attempts", c_uint32, Operation
)
operation_percent: Callable[[Operation], int] = _nonblocking(
    "dbss_operation_percent", c_int32, Operation
)
operation_path: Callable[[Operation], bytes | None] = _nonblocking(
    "dbss_operation_path", c_char_p, Operation
)
operation_filename: Callable[[Operation], bytes | None] = _nonblocking(
    "dbss_operation_filename", c_char_p, Operation
)
operation_request_id: Callable[[Operation], bytes | None] = _nonblocking(
    "dbss_operation_request_id", c_char_p, Operation
)
operation_content_type: Callable[[Operation], bytes | None] = _nonblocking(
    "dbss_operation_content_type", c_char_p, Operation
)
operation_format: Callable[[Operation], int] = _nonblocking(
    "dbss_operation_format", c_int32, Operation
)
operation_error: Callable[[Operation], Error] = _nonblocking(
    "dbss_operation_error", Error, Operation
)
instances_list: Callable[[Context, bytes | None, int, Any], None] = _nonblocking(
    "dbss_instances_list", STATUS, Context, c_char_p, c_uint32, POINTER(Cursor)
)
reports_list: Callable[[Context, bytes | None, bytes, bytes | None, int, Any], None] = _nonblocking(
    "dbss_reports_list", STATUS, Context, c_char_p, c_char_p, c_char_p, c_uint32, POINTER(Cursor)
)
templates_list: Callable[[Context, bytes | None, bytes, Any], None] = _nonblocking(
    "dbss_templates_list", STATUS, Context, c_char_p, c_char_p, POINTER(Cursor)
)
databases_list: Callable[[Context, bytes | None, bytes, bytes | None, int, Any], None] = (
    _nonblocking(
        "dbss_databases_list",
        STATUS,
        Context,
        c_char_p,
        c_char_p,
        c_char_p,
        c_uint32,
        POINTER(Cursor),
    )
)
cursor_next: Callable[[Cursor, Operation, Any], None] = _blocking(
    "dbss_cursor_next", STATUS, Cursor, Operation, POINTER(Page)
)
cursor_free: Callable[[Cursor], None] = _nonblocking("dbss_cursor_free", None, Cursor)
page_count: Callable[[Page], int] = _nonblocking("dbss_page_count", c_size_t, Page)
page_total: Callable[[Page], int] = _nonblocking("dbss_page_total", c_int64, Page)
page_field: Callable[[Page, int, bytes | None], bytes | None] = _nonblocking(
    "dbss_page_field", c_char_p, Page, c_size_t, c_char_p
)
page_json: Callable[[Page, Any], None] = _nonblocking(
    "dbss_page_json", STATUS, Page, POINTER(Buffer)
)
page_free: Callable[[Page], None] = _nonblocking("dbss_page_free", None, Page)
report_spec_new: Callable[[Any], None] = _nonblocking(
    "dbss_report_spec_new", STATUS, POINTER(ReportSpec)
)
report_spec_set: Callable[[ReportSpec, bytes, bytes], None] = _nonblocking(
    "dbss_report_spec_set", STATUS, ReportSpec, c_char_p, c_char_p
)
report_spec_free: Callable[[ReportSpec], None] = _nonblocking(
    "dbss_report_spec_free", None, ReportSpec
)
report_create: Callable[[Context, bytes | None, bytes, ReportSpec, Operation], None] = _blocking(
    "dbss_report_create", STATUS, Context, c_char_p, c_char_p, ReportSpec, Operation
)
report_generate: Callable[[Context, bytes | None, bytes, ReportSpec, Operation, Any], None] = (
    _blocking(
        "dbss_report_generate",
        STATUS,
        Context,
        c_char_p,
        c_char_p,
        ReportSpec,
        Operation,
        POINTER(c_char),
    )
)
report_wait: Callable[[Context, bytes | None, bytes, bytes, Operation], None] = _blocking(
    "dbss_report_wait", STATUS, Context, c_char_p, c_char_p, c_char_p, Operation
)
report_delete: Callable[[Context, bytes | None, bytes, bytes, Operation], None] = _blocking(
    "dbss_report_delete", STATUS, Context, c_char_p, c_char_p, c_char_p, Operation
)
schedule_changes_new: Callable[[Any], None] = _nonblocking(
    "dbss_schedule_changes_new", STATUS, POINTER(ScheduleChanges)
)
schedule_changes_set: Callable[[ScheduleChanges, bytes, bytes], None] = _nonblocking(
    "dbss_schedule_changes_set", STATUS, ScheduleChanges, c_char_p, c_char_p
)
schedule_changes_free: Callable[[ScheduleChanges], None] = _nonblocking(
    "dbss_schedule_changes_free", None, ScheduleChanges
)
schedule_show: Callable[[Context, bytes | None, bytes, bytes, Operation, Any], None] = _blocking(
    "dbss_schedule_show", STATUS, Context, c_char_p, c_char_p, c_char_p, Operation, POINTER(Page)
)
schedule_update: Callable[
    [Context, bytes | None, bytes, bytes, ScheduleChanges, Operation], None
] = _blocking(
    "dbss_schedule_update",
    STATUS,
    Context,
    c_char_p,
    c_char_p,
    c_char_p,
    ScheduleChanges,
    Operation,
)
mirror_options_new: Callable[[Any], None] = _nonblocking(
    "dbss_mirror_options_new", STATUS, POINTER(MirrorOptions)
)
mirror_options_set: Callable[[MirrorOptions, bytes, bytes], None] = _nonblocking(
    "dbss_mirror_options_set", STATUS, MirrorOptions, c_char_p, c_char_p
)
mirror_options_free: Callable[[MirrorOptions], None] = _nonblocking(
    "dbss_mirror_options_free", None, MirrorOptions
)
reports_mirror: Callable[[Context, bytes | None, bytes, MirrorOptions, Operation, Any], None] = (
    _blocking(
        "dbss_reports_mirror",
        STATUS,
        Context,
        c_char_p,
        c_char_p,
        MirrorOptions,
        Operation,
        POINTER(MirrorResult),
    )
)
mirror_result_listed: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_listed", c_int64, MirrorResult
)
mirror_result_downloaded: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_downloaded", c_int64, MirrorResult
)
mirror_result_present: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_present", c_int64, MirrorResult
)
mirror_result_not_ready: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_not_ready", c_int64, MirrorResult
)
mirror_result_vanished: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_vanished", c_int64, MirrorResult
)
mirror_result_failed: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_failed", c_int64, MirrorResult
)
mirror_result_repaired: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_repaired", c_int64, MirrorResult
)
mirror_result_failure_count: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_failure_count", c_size_t, MirrorResult
)
mirror_result_failure_id: Callable[[MirrorResult, int], bytes | None] = _nonblocking(
    "dbss_mirror_result_failure_id", c_char_p, MirrorResult, c_size_t
)
mirror_result_failure_instance: Callable[[MirrorResult, int], bytes | None] = _nonblocking(
    "dbss_mirror_result_failure_instance", c_char_p, MirrorResult, c_size_t
)
mirror_result_failure_error: Callable[[MirrorResult, int], Error] = _nonblocking(
    "dbss_mirror_result_failure_error", Error, MirrorResult, c_size_t
)
mirror_result_gap_count: Callable[[MirrorResult], int] = _nonblocking(
    "dbss_mirror_result_gap_count", c_size_t, MirrorResult
)
mirror_result_gap_period: Callable[[MirrorResult, int], bytes | None] = _nonblocking(
    "dbss_mirror_result_gap_period", c_char_p, MirrorResult, c_size_t
)
mirror_result_gap_type: Callable[[MirrorResult, int], bytes | None] = _nonblocking(
    "dbss_mirror_result_gap_type", c_char_p, MirrorResult, c_size_t
)
mirror_result_gap_instance: Callable[[MirrorResult, int], bytes | None] = _nonblocking(
    "dbss_mirror_result_gap_instance", c_char_p, MirrorResult, c_size_t
)
mirror_result_json: Callable[[MirrorResult, Any], None] = _nonblocking(
    "dbss_mirror_result_json", STATUS, MirrorResult, POINTER(Buffer)
)
mirror_result_free: Callable[[MirrorResult], None] = _nonblocking(
    "dbss_mirror_result_free", None, MirrorResult
)

OPTIONS: dict[str, dict[str, tuple[str, int]]] = {
    "config": {
        "region": ("text", 106),
        "endpoint": ("url", 106),
        "project_id": ("id", 103),
        "token": ("secret", 105),
        "access_key": ("secret", 112),
        "secret_key": ("secret", 112),
        "security_token": ("secret", 112),
        "iam_user": ("text", 108),
        "iam_password": ("secret", 108),
        "iam_domain": ("text", 108),
        "iam_user_id": ("text", 108),
        "agency_name": ("text", 108),
        "agency_domain": ("text", 108),
        "agency_domain_id": ("text", 108),
        "agency_duration_ms": ("milliseconds", 108),
        "credentials": ("choice", 108),
        "iam_endpoint": ("url", 106),
        "sts_endpoint": ("url", 106),
        "metadata_endpoint": ("url", 106),
        "ca_file": ("path", 108),
        "connect_timeout_ms": ("milliseconds", 108),
        "stall_timeout_ms": ("milliseconds", 108),
        "total_timeout_ms": ("milliseconds", 108),
        "max_attempts": ("number", 108),
        "max_retry_after_ms": ("milliseconds", 108),
        "allow_plaintext": ("boolean", 108),
        "allow_close_delimited": ("boolean", 108),
        "follow_redirects": ("boolean", 108),
        "proxy": ("secret", 106),
        "proxy_from_environment": ("boolean", 108),
        "file_mode": ("mode", 108),
        "max_memory_bytes": ("bytes", 108),
        "wait_timeout_ms": ("milliseconds", 108),
        "poll_interval_ms": ("milliseconds", 108),
        "interruptible": ("boolean", 108),
        "log_level": ("choice", 108),
        "user_agent_suffix": ("text", 108),
    },
    "operation": {
        "connect_timeout_ms": ("milliseconds", 108),
        "stall_timeout_ms": ("milliseconds", 108),
        "total_timeout_ms": ("milliseconds", 108),
        "max_attempts": ("number", 108),
        "file_mode": ("mode", 108),
        "max_memory_bytes": ("bytes", 108),
        "wait_timeout_ms": ("milliseconds", 108),
        "poll_interval_ms": ("milliseconds", 108),
        "interruptible": ("boolean", 108),
    },
    "report_spec": {
        "template_id": ("id", 103),
        "start_time": ("text", 108),
        "end_time": ("text", 108),
        "start_date": ("text", 108),
        "end_date": ("text", 108),
        "db_ids": ("text", 108),
    },
    "mirror": {
        "instance": ("id", 103),
        "since": ("day", 108),
        "until": ("day", 108),
        "type": ("text", 108),
        "template": ("text", 108),
        "name": ("text", 108),
        "locale": ("choice", 104),
        "utc_offset": ("text", 108),
        "parallel": ("number", 108),
        "verify": ("boolean", 108),
    },
    "schedule": {
        "status": ("choice", 108),
        "frequency": ("choice", 108),
        "format": ("choice", 108),
        "mode": ("text", 108),
        "start_time": ("text", 108),
        "notice": ("choice", 108),
        "topic_urn": ("text", 108),
        "db_ids": ("text", 108),
    },
}
"""The type of each option, and the status of a wrong value, by option set and key."""
