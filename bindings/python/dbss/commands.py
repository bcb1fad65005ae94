"""The commands that list, make and delete reports; see cli."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Callable

from . import DEFAULT, Client, Instance, Operation, Progress, Report, Template
from .cli import (
    EXIT_CODES,
    INTERRUPTED,
    LOCAL,
    USAGE,
    Failure,
    Parser,
    _add,
    _add_common,
    _add_project,
    _client,
    _print_message,
    _Screen,
    _seconds,
)

# The columns of the tables, by the service's names. What may be long is last.
INSTANCES = ("id", "status", "region", "version", "connect_ip", "remain_days", "name")
REPORTS = ("id", "percentum", "format", "type", "start_time", "end_time", "name")
TEMPLATES = ("id", "type", "status", "frequency", "name")

_JSON = (
    "--json prints each as JSON on a line of its own, as the service sent it, and as it comes. "
    "Without it they are a table, when all are there; - stands for what the service does not say."
)


def add(add_command: Callable[[str, str, str], Parser]) -> None:
    """Adds the commands, each through a function that takes its name and what it does."""

    def command(name: str, meaning: str, description: str) -> Parser:
        return add_command(name, meaning, textwrap.fill(description, 80))

    instances = command(
        "instances", "list the audit instances", f"Lists the audit instances of a project. {_JSON}"
    )
    reports = command(
        "reports", "list audit reports", f"Lists the audit reports of an instance. {_JSON}"
    )
    templates = command(
        "templates",
        "list the templates of reports",
        f"Lists the templates that reports of an instance are made from. {_JSON}",
    )
    generate = command(
        "generate",
        "have the service make a report, and wait for it",
        "Has the service make a report, waits until it can be downloaded, and prints its id; "
        "with --output it downloads it too.",
    )
    delete = command(
        "delete", "delete a report at the service", "Deletes a report at the service, for ever."
    )
    for parser in (instances, reports, templates, generate, delete):
        codes = EXIT_CODES.replace("the report is saved", "it did what it should")
        what = "project, instance, template or report"
        parser.epilog = (parser.epilog or "").replace(
            EXIT_CODES, codes.replace("there is no such report", f"there is no such {what}")
        )
        _add_project(parser)
    for parser in (reports, templates, generate, delete):
        _add(
            parser,
            "--instance",
            variable="DBSS_INSTANCE_ID",
            meaning="the audit instance",
            metavar="ID",
        )
    reports.add_argument("--name", help="a name to look for", metavar="TEXT")
    # Never from the environment, where it may stand for a download.
    delete.add_argument("--report", help="the report", metavar="ID")
    delete.add_argument("--yes", action="store_true", help="do not ask, as a terminal is asked")
    _add_order(generate)
    for parser in (instances, reports, templates, generate, delete):
        _add_common(parser)
        parser.add_argument(
            "--quiet", "-q", action="store_true", help="say nothing but what went wrong"
        )
        parser.add_argument("--verbose", "-v", action="store_true", help="say what happens")
    for parser in (instances, reports, templates):
        parser.add_argument("--json", action="store_true", help="print JSON, one item a line")


def _add_order(generate: Parser) -> None:
    for name, meaning, metavar in (
        ("--template", "the template, see the command templates", "ID"),
        ("--start-time", "where the range begins, in the form that the service takes", "TIME"),
        ("--end-time", "where the range ends", "TIME"),
        ("--start-date", "passed on to the service", "DATE"),
        ("--end-date", "passed on to the service", "DATE"),
        ("--db-ids", "the ids of the databases, joined by commas", "IDS"),
    ):
        generate.add_argument(name, help=meaning, metavar=metavar)
    for name, meaning in (
        ("--wait-timeout", "to wait for it, or none for no limit (default: 3600)"),
        ("--poll-interval", "until it is looked at again, more each time (default: 2)"),
    ):
        generate.add_argument(
            name, type=_seconds, default=DEFAULT, help=f"seconds {meaning}", metavar="SECONDS"
        )
    generate.add_argument(
        "--output",
        "-o",
        help="download it too: to a file, or a directory for a file of the report's own name; "
        "- is standard output, in place of its id",
        metavar="PATH",
    )
    generate.add_argument(
        "--locale", help="the downloaded report's language: en-us or zh-cn", metavar="LOCALE"
    )
    generate.add_argument("--force", action="store_true", help="replace an existing file")


# Output.


def _print(lines: Iterable[str]) -> None:
    """Writes to standard output."""
    if sys.stdout is None:
        raise Failure("cannot write to standard output: it is closed", LOCAL)
    for line in lines:
        _print_line(line)
    _print_line(None)


def _print_line(line: str | None) -> None:
    """Writes a line; without one, what has not been written yet."""
    try:
        if line is None:
            sys.stdout.flush()
        else:
            encoding = sys.stdout.encoding or "utf-8"
            # What its encoding lacks is no reason to fail.
            print(line.encode(encoding, "replace").decode(encoding))
    except OSError as error:
        # Else Python would try once more when it ends, and complain in its own way.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Failure(f"cannot write to standard output: {error.strerror}", LOCAL) from None


def _cell(value: object) -> str:
    """A value without what could drive a terminal or reorder a line."""
    text = "" if value is None else str(value)
    return "".join(one if one.isprintable() else " " for one in text) or "-"


def _width(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


def _table(names: Sequence[str], items: Iterable[object]) -> list[str]:
    rows = [[_cell(getattr(item, name)) for name in names] for item in items]
    rows.insert(0, [name.upper() for name in names])
    widths = [max(map(_width, column)) for column in zip(*rows)]
    return [
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]


class _Generation(_Screen):
    """How far a report is that the service makes."""

    def percent(self, now: Progress) -> None:
        """Draws it."""
        if self._tqdm is None or now.percent is None:
            return
        if self._bar is None:
            self._bar = self._tqdm(
                file=sys.stderr,
                desc="the service makes the report",
                total=100,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}",
                dynamic_ncols=True,
                leave=False,
            )
        self._bar.n = now.percent
        self._bar.refresh()


# The commands.


def _required(given: argparse.Namespace, *names: str) -> None:
    missing = [f"--{name.replace('_', '-')}" for name in names if not getattr(given, name)]
    if missing:
        raise Failure(f"{', '.join(missing)} required; try --help", USAGE)


def _show(
    given: argparse.Namespace,
    names: Sequence[str],
    items: Callable[[Client], Iterable[Instance] | Iterable[Report] | Iterable[Template]],
) -> None:
    screen = _Screen(True, given.verbose)
    with _client(given, screen) as client:
        found = items(client)
        if given.json:
            # In ASCII, where a terminal and every encoding are safe.
            _print(json.dumps(one.raw) for one in found)
        else:
            _print(_table(names, found))


def _instances(given: argparse.Namespace) -> None:
    _show(given, INSTANCES, lambda client: client.instances(given.project))


def _reports(given: argparse.Namespace) -> None:
    _required(given, "instance")
    _show(
        given,
        REPORTS,
        lambda client: client.reports(given.instance, name=given.name, project_id=given.project),
    )


def _templates(given: argparse.Namespace) -> None:
    _required(given, "instance")
    _show(
        given,
        TEMPLATES,
        lambda client: client.templates(given.instance, project_id=given.project),
    )


def _generate(given: argparse.Namespace) -> None:
    _required(given, "instance", "template", "start_time", "end_time")
    if sys.stdout is None:
        raise Failure("cannot write to standard output: it is closed", LOCAL)
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(contextlib.closing(_Generation(given.quiet, given.verbose)))
        client = stack.enter_context(_client(given, screen))
        operation = stack.enter_context(
            Operation(wait_timeout=given.wait_timeout, poll_interval=given.poll_interval)
        )
        report = client.generate_report(
            *(given.instance, given.template, given.start_time, given.end_time),
            start_date=given.start_date,
            end_date=given.end_date,
            db_ids=given.db_ids,
            project_id=given.project,
            operation=operation,
            progress=screen.percent,
        )
        screen.close()
        to_stdout = given.output == "-"
        if not to_stdout:
            # Before the download, which may fail.
            _print([report])
        elif not given.quiet:
            _print_message(f"made {report}")
        if given.output is None:
            return
        more: Any = {"locale": given.locale, "operation": operation, "progress": screen.progress}
        names = (given.project, given.instance, report)
        name: object = "-"
        if to_stdout:
            client.download_report_to(*names, sys.stdout.fileno(), **more)
        else:
            name = client.download_report_to(*names, given.output, replace=given.force, **more)
        screen.close()
        if not given.quiet:
            _print_message(f"saved {name} ({operation.received} bytes)")


def _delete(given: argparse.Namespace) -> None:
    _required(given, "instance", "report")
    if not given.yes:
        _confirm(given)
    with _client(given, _Screen(True, given.verbose)) as client:
        client.delete_report(given.instance, given.report, project_id=given.project)
    if not given.quiet:
        _print_message(f"deleted {given.report}")


def _confirm(given: argparse.Namespace) -> None:
    streams = (sys.stdin, sys.stderr)
    if not all(stream is not None and stream.isatty() for stream in streams):
        raise Failure("there is nobody to ask whether to delete it: give --yes", USAGE)
    question = f"Delete the report {given.report} of {given.instance} for ever? [y/N] "
    print(_cell(question), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was deleted", INTERRUPTED)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "instances": _instances,
    "reports": _reports,
    "templates": _templates,
    "generate": _generate,
    "delete": _delete,
}
