"""The words of libdbss's errors, as the users of this package know them.

libdbss names parameters and options as in C, with durations in milliseconds. Here they
get the names, the units and the values of this package.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import _abi as abi

# The parameters that have other names here.
_NAMES = {
    "ctx": "client",
    "cursor": "list",
    "expires_ms": "expires_at",
    "fd": "path",
    "id": "report_id",
    "instance": "instance_id",
    "key": "options",
    "project": "project_id",
}
_OBJECTS = {"context": "client", "cursor": "list"}
_TYPES = {key: type for table in abi.OPTIONS.values() for key, (type, _) in table.items()}


def own_name(name: str) -> str:
    """The name here of a parameter or an option of libdbss."""
    if _TYPES.get(name) == "milliseconds":
        return name[: -len("_ms")]
    return _NAMES.get(name, name)


def own_words(
    parameter: str | None, parts: Iterable[tuple[int, str]], is_text: bool = False
) -> str:
    """The message of an error of which these are the parts.

    An item of the argument `options` is text, as in C.
    """
    type = _TYPES.get(parameter or "")
    words = []
    for kind, text in parts:
        if kind == abi.PART_NAME:
            # One that was perhaps meant is a key of `options`.
            is_key = parameter == "key" != text
            text = f'"{text}"' if is_key else own_name(text)
        elif kind == abi.PART_DURATION and (text.endswith(" ms") or not is_text):
            text = f"{_seconds(text)} s"
        elif kind == abi.PART_MODE and not is_text:
            text = f"0o{text}"
        elif kind == abi.PART_NOTATION and not is_text:
            text = ""
        elif kind == abi.PART_NOTATION and type == "milliseconds":
            text = "whole milliseconds "
        elif kind == abi.PART_VALUE and not is_text:
            text = _value(type, text)
        elif kind == abi.PART_NO_LIMIT:
            text = f'"{text}"' if is_text else "None"
        elif kind in (abi.PART_NULL, abi.PART_UNKNOWN):
            text = "None"
        elif kind == abi.PART_REPLACE:
            text = "pass replace=True"
        elif kind == abi.PART_OBJECT:
            text = _OBJECTS.get(text, text)
        words.append(text)
    return "".join(words)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _seconds(milliseconds: str) -> str:
    number = int(milliseconds.split(" ")[0])
    whole, rest = divmod(number, 1000)
    return str(whole) if rest == 0 else repr(number / 1000)


def _value(type: str | None, quoted: str) -> str:
    """A value of one of the types that libdbss takes as text."""
    text = quoted.strip('"')
    if type == "milliseconds" and (_is_number(text) or text.endswith(" s")):
        # A negative number of seconds has its unit, see settings; this is None.
        return text[:-2] if text.endswith(" s") else "None" if text == "-1" else _seconds(text)
    if type in ("number", "bytes"):
        return text
    if type != "mode" or not _is_octal(text):
        return quoted
    mode = int(text, 8)
    # Such as 640 in place of 0o640.
    meant = str(mode)
    is_meant = len(meant) == 3 and _is_octal(meant) and meant >= "600"
    return f"{mode:#o}" + (f"; did you mean 0o{meant}?" if is_meant else "")


def _is_octal(text: str) -> bool:
    return _is_number(text) and not set(text) & set("89")
