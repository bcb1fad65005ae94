"""What a client tells of its calls."""

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
    """The status of the failure that it is about; None where it is about none."""
    http_status: int | None
    """The HTTP status of the response that it is about."""
    attempt: int | None
    """How many requests the call had made, this one included; None where it is about none."""
    request_id: str | None
    """The service's id of the request."""
    report_id: str | None
    """The id of the report."""
    bytes: int | None
    """The size of the body."""
    duration: float | None
    """How long the call has taken, in seconds."""
    offset: int | None
    """Where in the body a transfer broke or goes on."""
    retry_delay: float | None
    """How long the call waits before its next attempt, in seconds."""


# Union[...]: evaluated by Python 3.9 too.
LogFunction = Union[Callable[[LogRecord], object], "logging.Logger"]


class Log:
    """Hands the log records of a client to a function or a logger."""

    def __init__(self, given: LogFunction) -> None:
        self.relay = ffi.LogRelay()
        # Else logging was not imported here, and what is given is none of its loggers.
        owner: Any = getattr(given, "__self__", None)
        if _is_logger(owner) and given == owner.log:
            # Which wants a level and a message.
            given = owner
        is_logger = _is_logger(given)
        if not is_logger and not callable(given):
            raise TypeError("log: must be callable or a logging.Logger")
        self._take: Callable[[LogRecord], object] = _to_logger(given) if is_logger else given  # type: ignore[arg-type, assignment]

    def deliver(self, pointer: abi.LogRecord) -> None:
        """Hands over a record of libdbss, which is valid until this returns."""
        try:
            self._take(_read(pointer))
        except Exception as error:
            _Unraisable(error)


def _is_logger(given: object) -> bool:
    return callable(getattr(given, "isEnabledFor", None))


def _read(pointer: abi.LogRecord) -> LogRecord:
    return LogRecord(
        level=abi.log_record_level(pointer),
        message=ffi.decode(abi.log_record_message(pointer)) or "",
        status=abi.log_record_status(pointer) or None,
        http_status=abi.log_record_http_status(pointer) or None,
        attempt=abi.log_record_attempt(pointer) or None,
        request_id=ffi.decode(abi.log_record_request_id(pointer)),
        report_id=ffi.decode(abi.log_record_report_id(pointer)),
        bytes=ffi.known(abi.log_record_bytes(pointer)),
        duration=ffi.seconds(abi.log_record_duration_ms(pointer)),
        offset=ffi.known(abi.log_record_offset(pointer)),
        retry_delay=ffi.seconds(abi.log_record_retry_delay_ms(pointer)),
    )


def _to_logger(logger: logging.Logger) -> Callable[[LogRecord], object]:
    import logging

    levels = {
        abi.LOG_ERROR: logging.ERROR,
        abi.LOG_WARNING: logging.WARNING,
        abi.LOG_INFO: logging.INFO,
    }

    def take(record: LogRecord) -> None:
        level = levels.get(record.level, logging.DEBUG)
        if logger.isEnabledFor(level):
            extra = {f"dbss_{name}": value for name, value in vars(record).items()}
            logger.log(level, "%s", record.message, extra=extra)

    return take


class _Unraisable:
    """Hands an exception that must not get further to sys.unraisablehook."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __del__(self) -> None:
        error = self._error
        del self._error
        raise error
