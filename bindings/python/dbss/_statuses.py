"""An exception for each status of libdbss, derived from that of its group.

Generated from include/dbss-abi.json by bindings/generate/python.py.
"""

from __future__ import annotations

import builtins

from .base_error import Error, OSErrorMixin


class ArgumentError(Error, ValueError):
    """An argument or an option is at fault."""

    status = 100
    status_name = "DBSS_ERR_ARGUMENT"


class NullArgumentError(ArgumentError):
    """A required argument is missing."""

    status = 101
    status_name = "DBSS_ERR_NULL_ARGUMENT"


class InvalidUtf8Error(ArgumentError):
    """A string is not UTF-8."""

    status = 102
    status_name = "DBSS_ERR_INVALID_UTF8"


class InvalidIdError(ArgumentError):
    """A project, instance or report id has an invalid length or character."""

    status = 103
    status_name = "DBSS_ERR_INVALID_ID"


class InvalidLocaleError(ArgumentError):
    """The locale is neither en-us nor zh-cn."""

    status = 104
    status_name = "DBSS_ERR_INVALID_LOCALE"


class InvalidTokenError(ArgumentError):
    """The token is empty, too long, or has a character that is not allowed in a header."""

    status = 105
    status_name = "DBSS_ERR_INVALID_TOKEN"


class InvalidEndpointError(ArgumentError):
    """The endpoint is not a usable URL, or the region is not a region's name."""

    status = 106
    status_name = "DBSS_ERR_INVALID_ENDPOINT"


class UnknownKeyError(ArgumentError):
    """There is no option with this key."""

    status = 107
    status_name = "DBSS_ERR_UNKNOWN_KEY"


class InvalidValueError(ArgumentError):
    """The value is not of its type or out of its range."""

    status = 108
    status_name = "DBSS_ERR_INVALID_VALUE"


class PlaintextRefusedError(ArgumentError):
    """The endpoint is plain http on another host, and ``allow_plaintext`` is not set."""

    status = 109
    status_name = "DBSS_ERR_PLAINTEXT_REFUSED"


class NotConfiguredError(ArgumentError):
    """A required setting is missing: an endpoint or region, credentials, or a required key of
    a report spec.
    """

    status = 110
    status_name = "DBSS_ERR_NOT_CONFIGURED"


class BusyError(ArgumentError):
    """The operation is in use by another call."""

    status = 111
    status_name = "DBSS_ERR_BUSY"


class InvalidAccessKeyError(ArgumentError):
    """An access key, its secret or its security token is empty, too long, or has a character
    that is not allowed.
    """

    status = 112
    status_name = "DBSS_ERR_INVALID_ACCESS_KEY"


class InvalidCredentialsError(ArgumentError):
    """Credentials in the environment or the profile file are incomplete or malformed, or the
    profile file is malformed.
    """

    status = 113
    status_name = "DBSS_ERR_INVALID_CREDENTIALS"


class NoTokenError(ArgumentError):
    """The token or passcode provider failed, or returned something invalid."""

    status = 114
    status_name = "DBSS_ERR_NO_TOKEN"


class ClosedError(ArgumentError):
    """The client or the stream was closed before the call."""

    status = 115
    status_name = "DBSS_ERR_CLOSED"


class ServiceError(Error):
    """The service responded, but not with the requested result."""

    status = 200
    status_name = "DBSS_ERR_SERVICE"


class BadRequestError(ServiceError):
    """HTTP 400: the service refused the request as malformed."""

    status = 201
    status_name = "DBSS_ERR_BAD_REQUEST"


class UnauthenticatedError(ServiceError):
    """HTTP 401: the service rejected the credentials (expired, of another region, wrong)."""

    status = 202
    status_name = "DBSS_ERR_UNAUTHENTICATED"


class ForbiddenError(ServiceError):
    """HTTP 403: the credentials are valid, but do not allow this."""

    status = 203
    status_name = "DBSS_ERR_FORBIDDEN"


class NotFoundError(ServiceError):
    """HTTP 404: no such project, instance or report."""

    status = 204
    status_name = "DBSS_ERR_NOT_FOUND"


class ThrottledError(ServiceError):
    """HTTP 429: too many requests; see ``retry_after``."""

    status = 205
    status_name = "DBSS_ERR_THROTTLED"


class ServerError(ServiceError):
    """HTTP 5xx: the service failed."""

    status = 206
    status_name = "DBSS_ERR_SERVER"


class RedirectedError(ServiceError):
    """HTTP 3xx: the service redirected the request, and the redirect was not followed; see
    ``redirect_target``.
    """

    status = 207
    status_name = "DBSS_ERR_REDIRECTED"


class UnexpectedResponseError(ServiceError):
    """A successful response that is not a report (an empty body, a JSON document, a web page),
    or an HTTP status that is not expected for this call.
    """

    status = 208
    status_name = "DBSS_ERR_UNEXPECTED_RESPONSE"


class RejectedError(ServiceError):
    """The service reported that it did not create or delete the report, or did not change the
    schedule.
    """

    status = 209
    status_name = "DBSS_ERR_REJECTED"


class NotReadyError(ServiceError, TimeoutError):
    """The report was not ready within ``wait_timeout``."""

    status = 210
    status_name = "DBSS_ERR_NOT_READY"


class AmbiguousError(ServiceError):
    """Several new reports may be the created one; ``candidates`` returns their ids."""

    status = 211
    status_name = "DBSS_ERR_AMBIGUOUS"


class PartialError(ServiceError):
    """Some reports of a mirror failed to download; the others are in the archive."""

    status = 212
    status_name = "DBSS_ERR_PARTIAL"


class NetworkError(Error):
    """The network failed, or the data from it is invalid."""

    status = 300
    status_name = "DBSS_ERR_NETWORK"


class ResolveError(NetworkError):
    """The host's name could not be looked up."""

    status = 301
    status_name = "DBSS_ERR_RESOLVE"


class ConnectError(NetworkError):
    """No address of the host accepted a connection."""

    status = 302
    status_name = "DBSS_ERR_CONNECT"


class TlsError(NetworkError):
    """The TLS handshake or session failed."""

    status = 303
    status_name = "DBSS_ERR_TLS"


class CertificateError(NetworkError):
    """The server's certificate is not trusted, not valid now, or of another host."""

    status = 304
    status_name = "DBSS_ERR_CERTIFICATE"


class ConnectTimeoutError(NetworkError, TimeoutError):
    """``connect_timeout`` elapsed before the connection was established."""

    status = 305
    status_name = "DBSS_ERR_CONNECT_TIMEOUT"


class StalledError(NetworkError, TimeoutError):
    """``stall_timeout`` elapsed without a byte sent or received."""

    status = 306
    status_name = "DBSS_ERR_STALLED"


class TotalTimeoutError(NetworkError, TimeoutError):
    """``total_timeout`` elapsed."""

    status = 307
    status_name = "DBSS_ERR_TOTAL_TIMEOUT"


class ConnectionLostError(NetworkError):
    """The connection broke before the response's header was complete."""

    status = 308
    status_name = "DBSS_ERR_CONNECTION_LOST"


class TruncatedError(NetworkError):
    """The body ended or broke before its end."""

    status = 309
    status_name = "DBSS_ERR_TRUNCATED"


class ProtocolError(NetworkError):
    """The response is not valid HTTP."""

    status = 310
    status_name = "DBSS_ERR_PROTOCOL"


class ContentEncodingError(NetworkError):
    """The body is compressed, although libdbss did not request compression."""

    status = 311
    status_name = "DBSS_ERR_CONTENT_ENCODING"


class NotResumableError(NetworkError):
    """The transfer broke and cannot be resumed: the report changed meanwhile, or the service
    does not support resuming, and bytes that were already passed on cannot be taken back.
    """

    status = 312
    status_name = "DBSS_ERR_NOT_RESUMABLE"


class FileError(Error, OSErrorMixin):
    """A local file could not be read or written."""

    status = 400
    status_name = "DBSS_ERR_FILE"


class FileExistsError(FileError, builtins.FileExistsError):
    """A file with this name exists, and may not be replaced."""

    status = 401
    status_name = "DBSS_ERR_FILE_EXISTS"


class NotRegularFileError(FileError):
    """The target is a directory, a link or a device, and not a regular file."""

    status = 402
    status_name = "DBSS_ERR_NOT_REGULAR_FILE"


class DiskFullError(FileError):
    """The disk is full, or a quota or size limit is reached."""

    status = 403
    status_name = "DBSS_ERR_DISK_FULL"


class BrokenPipeError(FileError, builtins.BrokenPipeError):
    """The reader of the pipe or socket has closed it."""

    status = 404
    status_name = "DBSS_ERR_BROKEN_PIPE"


class MirrorLockedError(FileError):
    """Another mirror is using the directory."""

    status = 405
    status_name = "DBSS_ERR_MIRROR_LOCKED"


class ResourceError(Error):
    """This process ran out of something, such as threads."""

    status = 500
    status_name = "DBSS_ERR_RESOURCE"


class OutOfMemoryError(ResourceError, MemoryError):
    """There is not enough memory."""

    status = 501
    status_name = "DBSS_ERR_OUT_OF_MEMORY"


class LimitExceededError(ResourceError):
    """The report is larger than ``max_memory_bytes``."""

    status = 502
    status_name = "DBSS_ERR_LIMIT_EXCEEDED"


class CancelledError(Error):
    """The call was cancelled, by ``Operation.cancel()``, by ``Client.cancel_all()``, by
    closing its client or stream, or by a function for progress.
    """

    status = 600
    status_name = "DBSS_ERR_CANCELLED"


class InterruptedError(CancelledError, builtins.InterruptedError):
    """A signal that the program handled ended the call."""

    status = 601
    status_name = "DBSS_ERR_INTERRUPTED"


class InternalError(Error):
    """Libdbss has a defect."""

    status = 700
    status_name = "DBSS_ERR_INTERNAL"


STATUSES: dict[int, type[Error]] = {
    one.status: one
    for one in (
        ArgumentError,
        NullArgumentError,
        InvalidUtf8Error,
        InvalidIdError,
        InvalidLocaleError,
        InvalidTokenError,
        InvalidEndpointError,
        UnknownKeyError,
        InvalidValueError,
        PlaintextRefusedError,
        NotConfiguredError,
        BusyError,
        InvalidAccessKeyError,
        InvalidCredentialsError,
        NoTokenError,
        ClosedError,
        ServiceError,
        BadRequestError,
        UnauthenticatedError,
        ForbiddenError,
        NotFoundError,
        ThrottledError,
        ServerError,
        RedirectedError,
        UnexpectedResponseError,
        RejectedError,
        NotReadyError,
        AmbiguousError,
        PartialError,
        NetworkError,
        ResolveError,
        ConnectError,
        TlsError,
        CertificateError,
        ConnectTimeoutError,
        StalledError,
        TotalTimeoutError,
        ConnectionLostError,
        TruncatedError,
        ProtocolError,
        ContentEncodingError,
        NotResumableError,
        FileError,
        FileExistsError,
        NotRegularFileError,
        DiskFullError,
        BrokenPipeError,
        MirrorLockedError,
        ResourceError,
        OutOfMemoryError,
        LimitExceededError,
        CancelledError,
        InterruptedError,
        InternalError,
    )
}
"""The class of each status."""
__all__ = [
    "AmbiguousError",
    "ArgumentError",
    "BadRequestError",
    "BrokenPipeError",
    "BusyError",
    "CancelledError",
    "CertificateError",
    "ClosedError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "ContentEncodingError",
    "DiskFullError",
    "FileError",
    "FileExistsError",
    "ForbiddenError",
    "InternalError",
    "InterruptedError",
    "InvalidAccessKeyError",
    "InvalidCredentialsError",
    "InvalidEndpointError",
    "InvalidIdError",
    "InvalidLocaleError",
    "InvalidTokenError",
    "InvalidUtf8Error",
    "InvalidValueError",
    "LimitExceededError",
    "MirrorLockedError",
    "NetworkError",
    "NoTokenError",
    "NotConfiguredError",
    "NotFoundError",
    "NotReadyError",
    "NotRegularFileError",
    "NotResumableError",
    "NullArgumentError",
    "OutOfMemoryError",
    "PartialError",
    "PlaintextRefusedError",
    "ProtocolError",
    "RedirectedError",
    "RejectedError",
    "ResolveError",
    "ResourceError",
    "ServerError",
    "ServiceError",
    "StalledError",
    "ThrottledError",
    "TlsError",
    "TotalTimeoutError",
    "TruncatedError",
    "UnauthenticatedError",
    "UnexpectedResponseError",
    "UnknownKeyError",
]
