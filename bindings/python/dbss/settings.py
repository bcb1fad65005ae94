"""Options of libdbss, and the conversion of Python values to their text."""

from __future__ import annotations

import enum
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any, Final, Union

from . import _abi as abi
from . import errors, ffi, wording


class Default(enum.Enum):
    """The type of DEFAULT."""

    DEFAULT = "DEFAULT"

    def __repr__(self) -> str:
        return "dbss.DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""Stands for the default of libdbss; see options()."""

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
    """Its default as text; None if it has none."""
    help: str
    """What it does."""
    choices: tuple[str, ...]
    """The values of a choice."""
    minimum: int | None
    """The smallest value of a number, or the minimum length of a text in bytes."""
    maximum: int | None
    """The largest value of a number, or the maximum length of a text in bytes."""
    allows_none: bool
    """Whether "-1", for no limit, is a valid value."""


def options() -> list[Option]:
    """The options of a Client that the loaded libdbss knows."""
    option_set = abi.OPTIONS_CONFIG
    return [
        Option(
            key=ffi.decode(abi.option_key(option_set, index)) or "",
            type=ffi.decode(abi.option_type(option_set, index)) or "",
            default=ffi.decode(abi.option_default(option_set, index)),
            help=ffi.decode(abi.option_help(option_set, index)) or "",
            choices=_split_choices(abi.option_choices(option_set, index)),
            minimum=ffi.optional_number(abi.option_minimum(option_set, index)),
            maximum=ffi.optional_number(abi.option_maximum(option_set, index)),
            allows_none=bool(abi.option_allows_none(option_set, index)),
        )
        for index in range(abi.option_count(option_set))
    ]


def _split_choices(joined: bytes | None) -> tuple[str, ...]:
    return tuple((ffi.decode(joined) or "").split(",")) if joined else ()


def encode_options(options: str, values: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Encodes the keys and values of options for C.

    Names are the keys of libdbss, but durations lack ``_ms`` and are in seconds. None
    means "not set". For a duration it means "no limit". A flag is never None.
    """
    types = abi.OPTIONS[options]
    for name, value in values.items():
        key = name if name in types else f"{name}_ms"
        type, _ = types[key]
        own = wording.own_name(key)
        if isinstance(value, Default) or (
            value is None and type not in ("milliseconds", "boolean")
        ):
            continue
        # False is the default; to set it would override the ``options`` argument.
        if type == "boolean" and not check_bool(own, value):
            continue
        yield key.encode(), _ENCODERS.get(type, ffi.encode)(own, value)


def encode_text(options: str, key: str, value: Any) -> bytes:
    """Encodes the value of an option that is text."""
    type, _ = abi.OPTIONS[options].get(key, ("text", 0))
    if type != "path" and not isinstance(value, str):
        raise TypeError(f'options: "{key}" must be str, not {value.__class__.__name__}')
    encode = ffi.encode_path if type == "path" else ffi.encode
    return ffi.OptionText(encode(wording.own_name(key), value))


def encode_milliseconds(key: str, seconds: float | None) -> bytes:
    """Encodes a duration; None is no limit."""
    if seconds is None:
        return b"-1"
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{key}: must be a number of seconds, not {type(seconds).__name__}")
    try:
        exact = float(seconds) * 1000
    except OverflowError:
        exact = seconds = math.inf
    # libdbss rejects this, and names the range. As -1 ms, -0.001 s would be no limit.
    if not math.isfinite(exact) or exact < 0:
        return f"{seconds} s".encode()
    # A duration above zero must not become zero.
    return b"%d" % (max(1, round(exact)) if exact else 0)


def encode_number(key: str, value: int) -> bytes:
    """Encodes a count or a size."""
    # Python writes no number of thousands of digits; libdbss refuses all of these.
    return b"%d" % max(-(2**64), min(to_int(key, value), 2**64))


def encode_mode(key: str, value: int) -> bytes:
    """Encodes the permissions of a file, such as 0o640."""
    return b"%o" % to_int(key, value)


def encode_day(key: str, value: date | str) -> bytes:
    """Encodes a day."""
    # A datetime is a day only in some time zone, and that of the service is unknown.
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat().encode()
    if isinstance(value, str):
        return ffi.encode(key, value)
    raise TypeError(f"{key}: must be datetime.date or str, not {type(value).__name__}")


def format_time(key: str, value: datetime | str) -> str:
    """A time as the service writes it, in UTC."""
    if isinstance(value, str):
        return value
    if not isinstance(value, datetime):
        raise TypeError(f"{key}: must be datetime.datetime or str, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise ValueError(f"{key}: has no time zone; give it one, such as datetime.timezone.utc")
    try:
        in_utc = value.astimezone(timezone.utc).replace(tzinfo=None)
    except OverflowError:
        raise errors.InvalidValueError(
            f"{key}: is not between the years 1 and 9999 in UTC", parameter=key
        ) from None
    return in_utc.isoformat(sep=" ", timespec="seconds")


def parse_time(text: str | None) -> datetime | None:
    """A time of the service; None for other notations."""
    # More would depend on the version of Python.
    if text is None or len(text) != len("2026-11-24 16:00:00"):
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def to_int(key: str, value: int) -> int:
    """Returns a value that must be an int, or of another type of integers."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{key}: must be int, not {type(value).__name__}")
    return operator.index(value)


def check_bool(key: str, value: bool) -> bool:
    """Returns a value that must be a bool, and not merely truthy or falsy."""
    if not isinstance(value, bool):
        raise TypeError(f"{key}: must be bool, not {type(value).__name__}")
    return value


def _encode_bool(key: str, value: bool) -> bytes:
    return b"true" if check_bool(key, value) else b"false"


_ENCODERS: dict[str, Any] = {
    "milliseconds": encode_milliseconds,
    "number": encode_number,
    "bytes": encode_number,
    "mode": encode_mode,
    "day": encode_day,
    "boolean": _encode_bool,
    "path": ffi.encode_path,
}
