"""Options of libdbss: what there are, and values of Python as their text."""

from __future__ import annotations

import enum
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Union

from . import _abi as abi
from . import errors, ffi


class Default(enum.Enum):
    """The type of DEFAULT."""

    DEFAULT = "DEFAULT"

    def __repr__(self) -> str:
        return "dbss.DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""The default of libdbss, whatever it is; see options()."""

# Union[...]: evaluated by Python 3.9 too.
Seconds = Union[float, None, Default]


@dataclass(frozen=True)
class Option:
    """An option that libdbss knows, for the ``options`` of a Client."""

    key: str
    """Its name, such as "stall_timeout_ms"."""
    type: str
    """"text", "id", "url", "secret", "path", "milliseconds", "bytes", "number", "mode",
    "boolean", "day" or "choice"; a newer libdbss may have more."""
    default: str | None
    """Its default as text; None where it is unset by default."""
    help: str
    """What it does."""
    choices: tuple[str, ...]
    """The values of a choice."""
    minimum: int | None
    """The smallest value of a number, or the least length of a text, in bytes."""
    maximum: int | None
    """The largest value of a number, or the greatest length of a text, in bytes."""
    allows_none: bool
    """Whether "-1", no limit, is a value too."""


def options() -> list[Option]:
    """All options that the loaded libdbss knows."""
    of = abi.OPTIONS_CONFIG
    return [
        Option(
            key=ffi.decode(abi.option_key(of, index)) or "",
            type=ffi.decode(abi.option_type(of, index)) or "",
            default=ffi.decode(abi.option_default(of, index)),
            help=ffi.decode(abi.option_help(of, index)) or "",
            choices=_words(abi.option_choices(of, index)),
            minimum=ffi.known(abi.option_minimum(of, index)),
            maximum=ffi.known(abi.option_maximum(of, index)),
            allows_none=bool(abi.option_allows_none(of, index)),
        )
        for index in range(abi.option_count(of))
    ]


def _words(joined: bytes | None) -> tuple[str, ...]:
    return tuple((ffi.decode(joined) or "").split(",")) if joined else ()


def encoded(options: str, given: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Options and their values for C, of those that are given.

    Their names are the keys of libdbss, but for the ``_ms`` of durations, which
    are in seconds here. None stands for what is not given, but for a duration,
    which then has no limit, and for a flag, which is never None.
    """
    kinds = abi.OPTIONS[options]
    for name, value in given.items():
        key = name if name in kinds else f"{name}_ms"
        kind, _ = kinds[key]
        if isinstance(value, Default) or (
            value is None and kind not in ("milliseconds", "boolean")
        ):
            continue
        # Not what it is anyway, which would outrank what is set otherwise.
        if kind == "boolean" and not flag(key, value):
            continue
        yield key.encode(), _ENCODERS.get(kind, ffi.encode)(key, value)


def text(options: str, key: str, value: Any) -> bytes:
    """The value of any option, given as text."""
    kind, _ = abi.OPTIONS[options].get(key, ("text", 0))
    return (ffi.encode_path if kind == "path" else ffi.encode)(key, value)


def milliseconds(key: str, seconds: float | None) -> bytes:
    """A duration; None is no limit."""
    if seconds is None:
        return b"-1"
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{key}: must be a number of seconds, not {type(seconds).__name__}")
    try:
        exact = float(seconds) * 1000
    except OverflowError:
        exact = math.inf
    # Refused here: -0.001 s would be -1 ms, which to libdbss is no limit.
    if not math.isfinite(exact) or exact < 0:
        raise errors.InvalidValueError(f"{key}: {seconds} s is not a duration", parameter=key)
    # A time above zero must not become zero.
    return b"%d" % (max(1, round(exact)) if exact else 0)


def number(key: str, value: int) -> bytes:
    """A count or a size."""
    return b"%d" % _integer(key, value)


def mode(key: str, value: int) -> bytes:
    """The permissions of a file, such as 0o640."""
    return b"%o" % _integer(key, value)


def day(key: str, value: date | str) -> bytes:
    """A day."""
    # A time would be a day only in some time zone, and the service's is not known.
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat().encode()
    if isinstance(value, str):
        return ffi.encode(key, value)
    raise TypeError(f"{key}: must be datetime.date or str, not {type(value).__name__}")


def _integer(key: str, value: int) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{key}: must be int, not bool")
    return operator.index(value)


def flag(key: str, value: bool) -> bool:
    """A boolean and nothing that is only like one."""
    if not isinstance(value, bool):
        raise TypeError(f"{key}: must be bool, not {type(value).__name__}")
    return value


def _boolean(key: str, value: bool) -> bytes:
    return b"true" if flag(key, value) else b"false"


_ENCODERS: dict[str, Any] = {
    "milliseconds": milliseconds,
    "number": number,
    "bytes": number,
    "mode": mode,
    "day": day,
    "boolean": _boolean,
    "path": ffi.encode_path,
}
