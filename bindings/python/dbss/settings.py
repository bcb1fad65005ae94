"""Options of libdbss: what there are, and values of Python as their text."""

from __future__ import annotations

import enum
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


def encoded(options: str, given: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Options and their values for C, of those that are given.

    Their names are the keys of libdbss, but for the ``_ms`` of durations, which
    are in seconds here. None stands for what is not given, but for a duration,
    which then has no limit.
    """
    kinds = abi.OPTIONS[options]
    for name, value in given.items():
        key = name if name in kinds else f"{name}_ms"
        kind = kinds[key]
        if isinstance(value, Default) or (value is None and kind != "milliseconds"):
            continue
        # Not what it is anyway, which would outrank what is set otherwise.
        if kind == "boolean" and not flag(key, value):
            continue
        yield key.encode(), _ENCODERS.get(kind, ffi.encode)(key, value)


def text(options: str, key: str, value: Any) -> bytes:
    """The value of any option, given as text."""
    return (ffi.encode_path if abi.OPTIONS[options].get(key) == "path" else ffi.encode)(key, value)


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


def _boolean(key: str, value: bool) -> bytes:
    return b"true" if flag(key, value) else b"false"


_ENCODERS: dict[str, Any] = {
    "milliseconds": milliseconds,
    "number": number,
    "bytes": number,
    "mode": mode,
    "boolean": _boolean,
    "path": ffi.encode_path,
}
