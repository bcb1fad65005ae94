"""What can go wrong: one class for each status of libdbss, under one for its group.

``except NotFoundError`` catches one status, ``except ServiceError`` a group, and
``except Error`` all of them. A status that is newer than this package comes as
its group.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from .mirror import MirrorResult


class Detail(NamedTuple):
    """One entry of the ``details`` in the service's answer."""

    # Optional[...]: these annotations are evaluated by Python 3.9 too.
    code: Optional[str]  # noqa: UP045
    message: Optional[str]  # noqa: UP045


class Error(Exception):
    """A call failed; the base of all exceptions of this package.

    ``str(error)`` is a sentence for people: what was wrong and what to do. The
    attributes are for programs. None of them holds a secret.
    """

    status: int = -1
    """The status of libdbss, such as 204."""
    status_name: str = "DBSS_ERR_UNKNOWN"
    """Its name in the header, such as "DBSS_ERR_NOT_FOUND"."""
    result: MirrorResult | None = None
    """How far a mirror went that failed so; None for every other call."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        status_name: str | None = None,
        parameter: str | None = None,
        http_status: int | None = None,
        service_code: str | None = None,
        service_message: str | None = None,
        request_id: str | None = None,
        encoded_authorization_message: str | None = None,
        details: tuple[Detail, ...] = (),
        os_code: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status
        if status_name is not None:
            self.status_name = status_name
        self.message = message
        self.parameter = parameter
        """The parameter or option at fault, by its name in libdbss."""
        self.http_status = http_status
        """The HTTP status of the answer; None when no answer came."""
        self.service_code = service_code
        """The service's own error code, such as "DBSS.10021004"."""
        self.service_message = service_message
        """The service's own words, control characters and all."""
        self.request_id = request_id
        """The service's id of this call, for its support."""
        self.encoded_authorization_message = encoded_authorization_message
        """The encoded reason of a refused authorization."""
        self.details = details
        """The entries of ``details`` in the service's answer."""
        self.os_code = os_code
        """The errno with which the operating system refused."""
        self.retryable = retryable
        """Whether the cause is one that passes by itself."""
        self.retry_after = retry_after
        """How many seconds the service asks to wait before the next attempt."""
        self.attempts = attempts
        """How many requests were made."""


# The groups.


class ArgumentError(Error, ValueError):
    """An argument or an option is at fault; no request was sent."""

    status = 100
    status_name = "DBSS_ERR_ARGUMENT"


class ServiceError(Error):
    """The service answered, and the answer is not a report."""

    status = 200
    status_name = "DBSS_ERR_SERVICE"


class NetworkError(Error):
    """The network, or what came over it, failed."""

    status = 300
    status_name = "DBSS_ERR_NETWORK"


class FileError(Error):
    """A local file could not be read or written."""

    status = 400
    status_name = "DBSS_ERR_FILE"

    @property
    def errno(self) -> int | None:
        """The same as ``os_code``, by its name in OSError."""
        return self.os_code


class ResourceError(Error):
    """This process ran out of something, such as threads."""

    status = 500
    status_name = "DBSS_ERR_RESOURCE"


class CancelledError(Error):
    """The call was cancelled: by its operation, its client, its callback or its stream's end."""

    status = 600
    status_name = "DBSS_ERR_CANCELLED"


class InternalError(Error):
    """libdbss has a defect."""

    status = 700
    status_name = "DBSS_ERR_INTERNAL"


# Arguments.


class NullArgumentError(ArgumentError):
    """A required pointer is NULL."""

    status = 101
    status_name = "DBSS_ERR_NULL_ARGUMENT"


class InvalidUtf8Error(ArgumentError):
    """A string cannot be UTF-8."""

    status = 102
    status_name = "DBSS_ERR_INVALID_UTF8"


class InvalidIdError(ArgumentError):
    """A project, instance or report id has a length or a character that no id has."""

    status = 103
    status_name = "DBSS_ERR_INVALID_ID"


class InvalidLocaleError(ArgumentError):
    """The locale is neither en-us nor zh-cn."""

    status = 104
    status_name = "DBSS_ERR_INVALID_LOCALE"


class InvalidTokenError(ArgumentError):
    """The token is empty, too long, or holds a character that a header cannot."""

    status = 105
    status_name = "DBSS_ERR_INVALID_TOKEN"


class InvalidEndpointError(ArgumentError):
    """The endpoint is not a usable URL, or the region not a region's name."""

    status = 106
    status_name = "DBSS_ERR_INVALID_ENDPOINT"


class UnknownKeyError(ArgumentError):
    """There is no option with this key."""

    status = 107
    status_name = "DBSS_ERR_UNKNOWN_KEY"


class InvalidValueError(ArgumentError):
    """An option's value is not of its type or out of its range."""

    status = 108
    status_name = "DBSS_ERR_INVALID_VALUE"


class PlaintextRefusedError(ArgumentError):
    """The endpoint is plain http on another host, and that was not allowed."""

    status = 109
    status_name = "DBSS_ERR_PLAINTEXT_REFUSED"


class NotConfiguredError(ArgumentError):
    """An endpoint or region, or the credentials, were never given."""

    status = 110
    status_name = "DBSS_ERR_NOT_CONFIGURED"


class BusyError(ArgumentError):
    """The operation serves another call at the moment, or the stream another read."""

    status = 111
    status_name = "DBSS_ERR_BUSY"


class InvalidAccessKeyError(ArgumentError):
    """The access key, its secret key or its security token is malformed."""

    status = 112
    status_name = "DBSS_ERR_INVALID_ACCESS_KEY"


class InvalidCredentialsError(ArgumentError):
    """Credentials of the environment or the profile file, or that file, are malformed."""

    status = 113
    status_name = "DBSS_ERR_INVALID_CREDENTIALS"


class NoTokenError(ArgumentError):
    """The token provider gave no token; what it raised is the ``__cause__``."""

    status = 114
    status_name = "DBSS_ERR_NO_TOKEN"


# Answers of the service.


class BadRequestError(ServiceError):
    """HTTP 400: the service refused the request as malformed."""

    status = 201
    status_name = "DBSS_ERR_BAD_REQUEST"


class UnauthenticatedError(ServiceError):
    """HTTP 401: the credentials were refused (expired, of another region, wrong)."""

    status = 202
    status_name = "DBSS_ERR_UNAUTHENTICATED"


class ForbiddenError(ServiceError):
    """HTTP 403: the credentials are good, but not for this."""

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
    """HTTP 3xx: the service pointed elsewhere, and libdbss did not follow."""

    status = 207
    status_name = "DBSS_ERR_REDIRECTED"


class UnexpectedResponseError(ServiceError):
    """A success that is not a report."""

    status = 208
    status_name = "DBSS_ERR_UNEXPECTED_RESPONSE"


class RejectedError(ServiceError):
    """The service answered that it did not create or delete the report."""

    status = 209
    status_name = "DBSS_ERR_REJECTED"


class NotReadyError(ServiceError, TimeoutError):
    """The report was not ready in time."""

    status = 210
    status_name = "DBSS_ERR_NOT_READY"


class AmbiguousError(ServiceError):
    """Several new reports may be the one that was created; the message names them."""

    status = 211
    status_name = "DBSS_ERR_AMBIGUOUS"


class PartialError(ServiceError):
    """Some reports of a mirror could not be had; the others are there."""

    status = 212
    status_name = "DBSS_ERR_PARTIAL"


# The network.


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
    """The server's certificate is not trusted, not valid now, or another host's."""

    status = 304
    status_name = "DBSS_ERR_CERTIFICATE"


class ConnectTimeoutError(NetworkError, TimeoutError):
    """The connect timeout ran out before the connection stood."""

    status = 305
    status_name = "DBSS_ERR_CONNECT_TIMEOUT"


class StalledError(NetworkError, TimeoutError):
    """The stall timeout went by without a byte in or out."""

    status = 306
    status_name = "DBSS_ERR_STALLED"


class TotalTimeoutError(NetworkError, TimeoutError):
    """The total timeout ran out."""

    status = 307
    status_name = "DBSS_ERR_TOTAL_TIMEOUT"


class ConnectionLostError(NetworkError):
    """The connection broke before the answer's header was whole."""

    status = 308
    status_name = "DBSS_ERR_CONNECTION_LOST"


class TruncatedError(NetworkError):
    """The body ended or broke before its end."""

    status = 309
    status_name = "DBSS_ERR_TRUNCATED"


class ProtocolError(NetworkError):
    """What came is not a sound HTTP answer."""

    status = 310
    status_name = "DBSS_ERR_PROTOCOL"


class ContentEncodingError(NetworkError):
    """The body is compressed, though libdbss asked for it as it is."""

    status = 311
    status_name = "DBSS_ERR_CONTENT_ENCODING"


class NotResumableError(NetworkError):
    """The transfer broke and cannot go on, and what was handed out cannot be taken back.

    The report changed meanwhile, or the service resumes none.
    """

    status = 312
    status_name = "DBSS_ERR_NOT_RESUMABLE"


# Local files. The names say what their builtin counterparts say, and hide none.


class TargetExistsError(FileError, builtins.FileExistsError):  # type: ignore[override]
    """A file of this name exists, and may not be replaced."""

    status = 401
    status_name = "DBSS_ERR_FILE_EXISTS"


class NotRegularFileError(FileError):
    """The name is that of a directory, a link, a device: no regular file."""

    status = 402
    status_name = "DBSS_ERR_NOT_REGULAR_FILE"


class DiskFullError(FileError):
    """The disk is full, or a quota or size limit is reached."""

    status = 403
    status_name = "DBSS_ERR_DISK_FULL"


class PipeClosedError(FileError, builtins.BrokenPipeError):  # type: ignore[override]
    """Whoever reads from the pipe or socket has gone."""

    status = 404
    status_name = "DBSS_ERR_BROKEN_PIPE"


class MirrorLockedError(FileError):
    """Another mirror works on the directory at the moment."""

    status = 405
    status_name = "DBSS_ERR_MIRROR_LOCKED"


# Resources of this process.


class OutOfMemoryError(ResourceError, MemoryError):
    """The memory for the report could not be had."""

    status = 501
    status_name = "DBSS_ERR_OUT_OF_MEMORY"


class LimitExceededError(ResourceError):
    """The report is larger than ``max_memory_bytes``."""

    status = 502
    status_name = "DBSS_ERR_LIMIT_EXCEEDED"


GROUPS: dict[int, type[Error]] = {
    group.status: group
    for group in (
        ArgumentError,
        ServiceError,
        NetworkError,
        FileError,
        ResourceError,
        CancelledError,
        InternalError,
    )
}
"""Each group's status and its class."""

STATUSES: dict[int, type[Error]] = {
    **GROUPS,
    **{error.status: error for group in GROUPS.values() for error in group.__subclasses__()},
}
"""Each status and its class."""
