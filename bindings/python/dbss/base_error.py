"""The base classes of the exceptions of this package."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from pathlib import Path

    from .mirror import MirrorResult


class Detail(NamedTuple):
    """One entry of the ``details`` in the service's response."""

    # Optional[...]: these annotations are evaluated by Python 3.9 too.
    code: Optional[str]  # noqa: UP045
    """Its error code; None if it has none."""
    message: Optional[str]  # noqa: UP045
    """Its message; None if it has none."""


class Error(Exception):
    """A call failed; the base of all exceptions of this package.

    ``str(error)`` is a sentence for people: what is wrong and what to do. The
    attributes are for programs. None of them holds a secret.
    """

    status: int = -1
    """The status of libdbss, such as 204."""
    status_name: str = "DBSS_ERR_UNKNOWN"
    """Its name in the header, such as "DBSS_ERR_NOT_FOUND"."""
    result: MirrorResult | None = None
    """The partial result of a failed mirror; None for every other call."""

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
        candidates: tuple[str, ...] = (),
        redirect_target: str | None = None,
        path: Path | None = None,
        cancelled_by: str | None = None,
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
        """The same as ``str(error)``."""
        self.parameter = parameter
        """The parameter at fault by its name here, such as "report_id" or "total_timeout"."""
        self.http_status = http_status
        """The HTTP status of the response; None if there was no response."""
        self.service_code = service_code
        """The service's own error code, such as "DBSS.10021004"."""
        self.service_message = service_message
        """The service's own message, including control characters."""
        self.request_id = request_id
        """The service's id of the request, for its support."""
        self.encoded_authorization_message = encoded_authorization_message
        """The encoded reason of a refused authorization."""
        self.details = details
        """The entries of ``details`` in the service's response."""
        self.candidates = candidates
        """The ids of the reports that may be the created one (AmbiguousError)."""
        self.redirect_target = redirect_target
        """The target of the service's redirect (RedirectedError)."""
        self.path = path
        """The file or directory at fault, such as a file that already exists."""
        self.cancelled_by = cancelled_by
        """What cancelled the call: "operation", "client", "close" or "callback"."""
        self.os_code = os_code
        """The errno of the operating system's error."""
        self.retryable = retryable
        """Whether the cause is transient."""
        self.retry_after = retry_after
        """The seconds to wait before the next attempt, from the service."""
        self.attempts = attempts
        """How many requests were made."""


class OSErrorMixin(OSError):
    """The attributes of an OSError, from those of an Error."""

    os_code: int | None
    path: Path | None

    @property
    def errno(self) -> int | None:  # type: ignore[override]
        """The same as ``os_code``."""
        return self.os_code

    @property
    def strerror(self) -> str | None:  # type: ignore[override]
        """The operating system's message for ``os_code``."""
        return None if self.os_code is None else os.strerror(self.os_code)

    @property
    def filename(self) -> str | None:
        """The same as ``path``, as text."""
        return None if self.path is None else str(self.path)

    def __str__(self) -> str:
        # OSError would format its own from errno and filename.
        return str(self.args[0])
