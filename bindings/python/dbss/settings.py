"""Options of libdbss: what there are, and values of Python as their text."""

from __future__ import annotations

import enum
import math
import operator
from dataclasses import dataclass
from typing import Final, Union

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
    """"text", "url", "secret", "path", "milliseconds", "bytes", "number", "mode" or "boolean"."""
    default: str | None
    """Its default as text; None where it is unset by default."""
    help: str
    """What it does, and its range."""


def options() -> list[Option]:
    """All options that the loaded libdbss knows."""
    return [
        Option(
            ffi.decode(ffi.config_key_name(index)) or "",
            ffi.decode(ffi.config_key_type(index)) or "",
            ffi.decode(ffi.config_key_default(index)),
            ffi.decode(ffi.config_key_help(index)) or "",
        )
        for index in range(ffi.config_key_count())
    ]


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


def _integer(key: str, value: int) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{key}: must be int, not bool")
    return operator.index(value)


def flag(key: str, value: bool) -> bool:
    """A boolean and nothing that is only like one."""
    if not isinstance(value, bool):
        raise TypeError(f"{key}: must be bool, not {type(value).__name__}")
    return value
