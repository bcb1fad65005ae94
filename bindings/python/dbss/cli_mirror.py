"""What is particular to ``python -m dbss mirror``: its arguments, and how it tells what it did."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import tempfile
from datetime import datetime, timezone
from typing import Any

from . import errors
from ._items import Counts
from .mirror import MirrorResult

# Beside those of the other commands.
NOTHING_NEW = 10
PARTIAL = 11
LOCKED = 12

EXIT_CODES = """\
exit codes:
    0  all reports are there, new ones or none; see --detect-nothing-new
    1  internal error of libdbss
    2  wrong usage, argument or configuration
    3  the credentials were refused, or do not allow this
    4  there is no such project or instance
    5  the service failed
    6  the network failed
    7  a local file, memory or another resource of this machine
   10  no report was new, with --detect-nothing-new
   11  some reports could not be had; the others are there
   12  another mirror works on the directory
  130  cancelled, by Ctrl-C for example
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that only this command has."""
    parser.add_argument(
        "directory", help="the archive; it is made if it does not exist", metavar="DIRECTORY"
    )
    for name, meaning, metavar in (
        ("--since", "the first day, as 2026-11-24, on which the range of a report begins", "DAY"),
        ("--until", "the last such day", "DAY"),
        ("--utc-offset", "of these days, such as +08:00 (default: UTC)", "OFFSET"),
        ("--type", "only reports of this type, such as AUDIT_REPORT_DAY", "TYPE"),
        ("--template", "only reports of this template_type", "TYPE"),
        ("--name", "a name that the service is asked to look for", "NAME"),
    ):
        parser.add_argument(name, help=meaning, metavar=metavar)
    parser.add_argument(
        "--parallel",
        type=int,
        help="how many reports are downloaded at once, 1 to 16 (default: 4)",
        metavar="NUMBER",
    )
    for name, meaning in (
        ("--verify", "read the files that are there, and download again what was changed"),
        ("--gaps", "print the days, weeks and months that have no report"),
        ("--json", "print how it went as JSON, failures and gaps included"),
        ("--detect-nothing-new", f"end with {NOTHING_NEW} when no report was new"),
    ):
        parser.add_argument(name, action="store_true", help=meaning)
    parser.add_argument(
        "--success-file",
        help="a file for monitoring, replaced after each run without failure: time and counts",
        metavar="PATH",
    )


def counts(result: MirrorResult) -> dict[str, int]:
    """The counts by their names."""
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(Counts)}


def _error(error: errors.Error) -> dict[str, Any]:
    return {
        "status": error.status,
        "status_name": error.status_name,
        "message": error.message,
        "service_code": error.service_code,
        "request_id": error.request_id,
    }


def document(result: MirrorResult, error: errors.Error | None) -> str:
    """How it went, as JSON; ``error`` is why the run as a whole failed."""
    return json.dumps(
        {
            **counts(result),
            "failures": [
                {"instance": one.instance_id, "id": one.report_id, **_error(one.error)}
                for one in result.failures
            ],
            "gaps": [
                {"instance": one.instance_id, "type": one.type, "period": one.period.isoformat()}
                for one in result.gaps
            ],
            "error": None if error is None else _error(error),
        },
        indent=2,
    )


def summary(result: MirrorResult) -> str:
    """How it went, in a line."""
    parts = [f"{result.downloaded} downloaded", f"{result.present} there before"]
    for count, words in (
        (result.repaired, "repaired"),
        (result.not_ready, "not ready"),
        (result.vanished, "vanished"),
        (result.failed, "failed"),
        (len(result.gaps), "gaps"),
    ):
        if count:
            parts.append(f"{count} {words}")
    return f"{result.listed} reports: {', '.join(parts)}"


def write_success(path: str, result: MirrorResult) -> None:
    """Writes the file that monitoring looks at, in one step."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = json.dumps({"time": now, **counts(result)}) + "\n"
    descriptor, temporary = tempfile.mkstemp(
        prefix=".dbss-", suffix=".part", dir=os.path.dirname(path) or "."
    )
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            # Whoever looks at it is seldom who writes it, and it tells no secret.
            os.fchmod(descriptor, 0o644)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
