"""The log of a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Union

from . import _abi as abi
from . import ffi

if TYPE_CHECKING:
    import logging


@dataclass(frozen=True)
class LogRecord:
    """Something that happened in a call. Nothing in it is secret."""

    level: int
    """LOG_ERROR, LOG_WARNING, LOG_INFO or LOG_DEBUG."""
    message: str
    """One line for people; the wording may change between versions."""
    status: int | None
    """The status of the failure; None for other records."""
    http_status: int | None
    """The HTTP status of the response."""
    attempt: int | None
    """How many requests the call has made, including this one; None for other records."""
    request_id: str | None
    """The service's id of the request."""
    report_id: str | None
    """The id of the report."""
    bytes: int | None
    """The size of the body, in bytes."""
    duration: float | None
    """How long the call has taken, in seconds."""
    offset: int | None
    """Where in the body a transfer broke or resumes, in bytes from its start."""
    retry_delay: float | None
    """How long the call waits before its next attempt, in seconds."""


# Union[...]: evaluated by Python 3.9 too.
LogFunction = Union[Callable[[LogRecord], object], "logging.Logger"]


class LogForwarder:
    """Forwards the log records of a client to a function or a logger."""

    def __init__(self, target: LogFunction) -> None:
        self.relay = ffi.LogRelay()
        # The bound method `log` of a logger is treated like the logger itself.
        owner: Any = getattr(target, "__self__", None)
        if _is_logger(owner) and target == owner.log:
            target = owner
        is_logger = _is_logger(target)
        if not is_logger and not callable(target):
            raise TypeError(
                f"log: must be a function or a logging.Logger, not {type(target).__name__}"
            )
        if not is_logger:
            ffi.check_function("log", target)
        self._sink: Callable[[LogRecord], object] = _logger_sink(target) if is_logger else target  # type: ignore[arg-type, assignment]

    def forward(self, pointer: abi.LogRecord) -> None:
        """Forwards a record of libdbss, which is valid until this method returns."""
        try:
            self._sink(_record_from(pointer))
        except Exception as error:
            _Unraisable(error)


def _is_logger(target: object) -> bool:
    return callable(getattr(target, "isEnabledFor", None))


def _record_from(pointer: abi.LogRecord) -> LogRecord:
    return LogRecord(
        level=abi.log_record_level(pointer),
        message=ffi.log_message(pointer),
        status=abi.log_record_status(pointer) or None,
        http_status=abi.log_record_http_status(pointer) or None,
        attempt=abi.log_record_attempt(pointer) or None,
        request_id=ffi.decode(abi.log_record_request_id(pointer)),
        report_id=ffi.decode(abi.log_record_report_id(pointer)),
        bytes=ffi.optional_number(abi.log_record_bytes(pointer)),
        duration=ffi.optional_seconds(abi.log_record_duration_ms(pointer)),
        offset=ffi.optional_number(abi.log_record_offset(pointer)),
        retry_delay=ffi.optional_seconds(abi.log_record_retry_delay_ms(pointer)),
    )


def _logger_sink(logger: logging.Logger) -> Callable[[LogRecord], object]:
    import logging

    levels = {
        abi.LOG_ERROR: logging.ERROR,
        abi.LOG_WARNING: logging.WARNING,
        abi.LOG_INFO: logging.INFO,
    }

    def write(record: LogRecord) -> None:
        level = levels.get(record.level, logging.DEBUG)
        if logger.isEnabledFor(level):
            extra = {f"dbss_{name}": value for name, value in vars(record).items()}
            logger.log(level, "%s", record.message, extra=extra)

    return write


class _Unraisable:
    """Passes an exception that must not propagate to sys.unraisablehook."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __del__(self) -> None:
        error = self._error
        del self._error
        raise error
