"""The words of libdbss's errors, as the users of this package know them.

libdbss names parameters and options as in C, with durations in milliseconds. Here they
get the names and the units of this package.
"""

from __future__ import annotations

import re

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
_TYPES = {key: type for table in abi.OPTIONS.values() for key, (type, _) in table.items()}

_UNKNOWN_OPTION = re.compile(r'a \w+ has no option ("(.*)")', re.DOTALL)
_OUT_OF_RANGE = re.compile(
    r"must be a whole number from (\d+) to (\d+)(, or -1 for no limit)?, but is (\"(.*)\")",
    re.DOTALL,
)
_NO_MODE = re.compile(r'must be octal digits from (\d+) to (\d+), such as 640, but is "(-?[0-7]+)"')
_EXPIRED = re.compile(r"\bexpires_ms: (is in the past, .*; use) -1 if")
_TIMEOUT = re.compile(r"\b(longer than|within) (\w+_timeout)_ms\b(?: \((\d+) ms\))?")
_EXISTS = re.compile(r" exists already; allow replacing it, or ")


def own_name(name: str) -> str:
    """The name here of a parameter or an option of libdbss."""
    if _TYPES.get(name) == "milliseconds":
        return name[: -len("_ms")]
    return _NAMES.get(name, name)


def own_words(parameter: str | None, message: str) -> str:
    """The message of an error that libdbss wrote itself."""
    message = _EXPIRED.sub(r"expires_at: \1 None if", message)
    message = _TIMEOUT.sub(_timeout, message)
    message = _EXISTS.sub(" exists already; pass replace=True, or ", message)
    if parameter is None or not message.startswith(f"{parameter}: "):
        return message
    problem = message[len(parameter) + 2 :]
    if parameter == "ctx":
        # It says that the client is closed.
        return problem
    if parameter == "key":
        problem = _UNKNOWN_OPTION.sub(_unknown_option, problem)
    elif _TYPES.get(parameter) == "milliseconds":
        problem = _OUT_OF_RANGE.sub(_no_duration, problem)
    elif _TYPES.get(parameter) in ("number", "bytes"):
        problem = _OUT_OF_RANGE.sub(_no_number, problem)
    elif _TYPES.get(parameter) == "mode":
        problem = _NO_MODE.sub(_no_mode, problem)
    return f"{own_name(parameter)}: {problem}"


def _seconds(milliseconds: str) -> str:
    whole, rest = divmod(int(milliseconds), 1000)
    return str(whole) if rest == 0 else repr(int(milliseconds) / 1000)


def _timeout(found: re.Match[str]) -> str:
    words = f"{found[1]} {found[2]}"
    return words if found[3] is None else f"{words} ({_seconds(found[3])} s)"


def _unknown_option(found: re.Match[str]) -> str:
    # Imported late: only this error needs it.
    import difflib

    near = difflib.get_close_matches(found[2].lower(), abi.OPTIONS["config"], 1)
    return f"there is no option {found[1]}" + "".join(f'; did you mean "{key}"?' for key in near)


def _no_duration(found: re.Match[str]) -> str:
    least, most, or_none, quoted, value = found.groups()
    given = value[:-2] if value.endswith(" s") else None
    if re.fullmatch(r"-?\d+", value):
        # A negative number of seconds has its unit, see settings; this is None.
        given = "None" if value == "-1" else _seconds(value)
    if given is None:
        # Text, from the argument `options`.
        or_none = ', or "-1" for no limit' if or_none else ""
        return f"must be whole milliseconds from {least} to {most}{or_none}, but is {quoted}"
    limits = f"{_seconds(least)} to {_seconds(most)} seconds"
    return f"must be from {limits}{', or None for no limit' if or_none else ''}, but is {given}"


def _no_number(found: re.Match[str]) -> str:
    least, most, _, quoted, value = found.groups()
    given = value if re.fullmatch(r"-?\d+", value) else quoted
    return f"must be a whole number from {least} to {most}, but is {given}"


def _no_mode(found: re.Match[str]) -> str:
    least, most, given = found.groups()
    value = int(given, 8)
    decimal = str(value)
    # Such as 640, which is 0o1200.
    meant = re.fullmatch("[0-7]{3}", decimal) and least <= decimal <= most
    hint = f"; did you mean 0o{decimal}?" if meant else ""
    limits = f"0o{least} to 0o{most}, such as 0o640"
    return f"must be from {limits}, but is {value:#o}{hint}"
