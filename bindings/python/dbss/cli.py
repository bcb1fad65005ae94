"""The command ``python -m dbss``. Nothing here knows more than the package's users do."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from types import FrameType, ModuleType
from typing import Any, Callable, NoReturn

from . import (
    DEFAULT,
    LOG_ERROR,
    LOG_WARNING,
    Client,
    LogRecord,
    Operation,
    Progress,
    __version__,
    cli_mirror,
    errors,
    options,
    version,
)
from .mirror import MirrorResult

# The exit codes, as of dbss-download, the program in C.
DONE = 0
INTERNAL = 1
USAGE = 2
REFUSED = 3
NO_SUCH_REPORT = 4
SERVICE = 5
NETWORK = 6
LOCAL = 7
INTERRUPTED = 130

EXIT_CODES = """\
exit codes:
    0  the report is saved
    1  internal error of libdbss
    2  wrong usage, argument or configuration
    3  the credentials were refused, or do not allow this
    4  there is no such report
    5  the service failed, or its answer is no report
    6  the network failed
    7  a local file, memory or another resource of this machine; also when
       the file exists already
  130  cancelled, by Ctrl-C for example
"""

CREDENTIALS = """\
credentials: the token of --token-file or DBSS_TOKEN; without one, those that
the official SDKs find, in this order:
    the variables HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK (and
        HUAWEICLOUD_SDK_SECURITY_TOKEN and HUAWEICLOUD_SDK_PROJECT_ID)
    the file that HUAWEICLOUD_SDK_CREDENTIALS_FILE names, else
        ~/.huaweicloud/credentials
    the temporary key of this instance's agency
--set credentials=... looks at one of them; "dbss options" lists them.
"""

# The longest token that libdbss takes.
MAX_TOKEN = 96 * 1024


class Failure(Exception):
    """The command ends with this message and exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """Complains in the way of the rest of the command, and takes any value of an option."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Joins options and values: those that begin with a hyphen would be taken for options."""
        takes_one = {
            name
            for action in self._actions
            if action.nargs is None
            for name in action.option_strings
        }
        joined: list[str] = []
        words = iter(sys.argv[1:] if args is None else args)
        for word in words:
            joined.append(word)
            if word == "--":
                joined += words
            elif word in takes_one and (value := next(words, None)) is not None:
                if value.startswith("-") and value != "-":
                    joined[-1] += f"={value}" if word.startswith("--") else value
                else:
                    joined.append(value)
        return super().parse_known_args(joined, namespace)

    def error(self, message: str) -> NoReturn:
        raise Failure(f"{message}; try --help", USAGE)


class RefuseToken(argparse.Action):
    """Refuses a token on the command line, and does not print it."""

    def __call__(self, *_: Any) -> NoReturn:
        raise Failure(
            "a token on the command line could be read by everybody on this machine; "
            "use --token-file or DBSS_TOKEN",
            USAGE,
        )


def _from_environment(name: str) -> str | None:
    """A variable of the environment; one that is empty counts as absent."""
    return os.environ.get(name) or None


def _seconds(text: str) -> float | None:
    return None if text == "none" else float(text)


def _print_message(text: str) -> None:
    # print() would take standard output for a closed standard error.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr)


def _parser() -> Parser:
    # Abbreviations would make --token mean --token-file.
    main = Parser(
        prog="python -m dbss",
        description="Audit reports of the Database Security Service.",
        allow_abbrev=False,
    )
    main.add_argument(
        "--version", action="version", version=f"dbss {__version__} (libdbss {version()})"
    )
    main.add_argument("--token", action=RefuseToken, help=argparse.SUPPRESS)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, meaning: str, description: str, exit_codes: str = EXIT_CODES) -> Parser:
        return commands.add_parser(
            name,
            help=meaning,
            description=description,
            epilog=f"{CREDENTIALS}\n{exit_codes}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    download = command(
        "download",
        "save an audit report",
        "Saves an audit report of the Database Security Service.",
    )
    check = command(
        "check",
        "tell which credentials are found, and whether the service takes them",
        "Tells which credentials are found, and whether the service takes them. Saves nothing.",
    )
    mirror = command(
        "mirror",
        "bring a local archive of reports up to date",
        "Brings a local archive of audit reports up to date: downloads every report that is "
        "ready and not there yet, and deletes nothing.",
        cli_mirror.EXIT_CODES,
    )
    cli_mirror.add_arguments(mirror)
    for parser in (download, check, mirror):
        _add_project(parser)
    _add(
        download,
        "--instance",
        variable="DBSS_INSTANCE_ID",
        meaning="the audit instance",
        metavar="ID",
    )
    _add(
        mirror,
        "--instance",
        variable="DBSS_INSTANCE_ID",
        meaning="the audit instance (default: all)",
        metavar="ID",
    )
    _add(download, "--report", variable="DBSS_REPORT_ID", meaning="the report", metavar="ID")
    for parser in (download, mirror):
        _add(
            parser,
            "--locale",
            variable="DBSS_LOCALE",
            meaning="the report's language: en-us or zh-cn",
            metavar="LOCALE",
        )
    _add(
        download,
        "--output",
        "-o",
        variable="DBSS_OUTPUT",
        meaning="where to save it: a file, or a directory for a file of the report's own name; "
        "- is standard output (default: the current directory)",
        metavar="PATH",
    )
    for parser in (download, check, mirror):
        _add_common(parser)
    download.add_argument("--force", action="store_true", help="replace an existing file")
    for parser in (download, check, mirror):
        parser.add_argument(
            "--quiet", "-q", action="store_true", help="say nothing but what went wrong"
        )
        parser.add_argument("--verbose", "-v", action="store_true", help="say what happens")
    _more_commands().add(command)
    return main


def _more_commands() -> ModuleType:
    # Here, as it uses what stands in this file.
    from . import commands

    return commands


def _add(parser: Parser, *names: str, variable: str, meaning: str, metavar: str) -> None:
    """Adds an option that can also stand in the environment."""
    parser.add_argument(
        *names,
        default=_from_environment(variable),
        help=f"{meaning} (environment: {variable})",
        metavar=metavar,
    )


def _add_project(parser: Parser) -> None:
    _add(
        parser,
        "--project",
        variable="DBSS_PROJECT_ID",
        meaning="the project (default: that of the credentials, else of the region's name)",
        metavar="ID",
    )


def _add_common(parser: Parser) -> None:
    """Adds what the client is made of."""
    _add(parser, "--region", variable="DBSS_REGION", meaning="such as cn-north-4", metavar="REGION")
    _add(
        parser,
        "--endpoint",
        variable="DBSS_ENDPOINT",
        meaning="where the service answers, in place of the region's; several with commas",
        metavar="URL",
    )
    _add(
        parser,
        "--ca-file",
        variable="DBSS_CA_FILE",
        meaning="the certificates to trust (PEM)",
        metavar="PATH",
    )
    parser.add_argument(
        "--token-file",
        help="a file with the IAM token, - is standard input (environment: DBSS_TOKEN, itself)",
        metavar="PATH",
    )
    parser.add_argument("--token", action=RefuseToken, help=argparse.SUPPRESS)
    for name, meaning in (
        ("--connect-timeout", "until a connection must stand"),
        ("--stall-timeout", "without a byte in or out"),
        ("--total-timeout", "for everything"),
    ):
        parser.add_argument(
            name,
            type=_seconds,
            default=DEFAULT,
            help=f"seconds {meaning}, or none for no limit",
            metavar="SECONDS",
        )
    parser.add_argument(
        "--allow-plaintext",
        action="store_true",
        help="allow plain http to another host, which shows the token to the network",
    )
    parser.add_argument(
        "--max-attempts",
        type=int,
        help="how many attempts to make when the network or the service fails (default: 3)",
        metavar="NUMBER",
    )
    parser.add_argument(
        "--follow-redirects", action="store_true", help="follow redirects of the service"
    )
    parser.add_argument(
        "--proxy-from-environment",
        action="store_true",
        help="use the proxy of https_proxy, http_proxy, all_proxy and no_proxy",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        help="any option of libdbss, as dbss.options() lists them; repeatable",
        metavar="KEY=VALUE",
    )


def _settings(given: list[str]) -> dict[str, str]:
    """The options of --set."""
    secret = {one.key for one in options() if one.type == "secret"}
    found = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if key in secret:
            raise Failure(
                f"--set {key}: a secret on the command line could be read by everybody on this "
                "machine; for the token use --token-file or DBSS_TOKEN, for an access key "
                "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK or a profile file, for a proxy "
                "--proxy-from-environment",
                USAGE,
            )
        if not equals:
            raise Failure(f"--set {setting}: must be KEY=VALUE", USAGE)
        found[key] = value
    return found


def _read_token(path: str) -> str:
    """The token of a file, without one line end at its end."""
    limit = MAX_TOKEN + len("\r\n")
    try:
        if path == "-" and sys.stdin is None:
            raise Failure("cannot read the token from -: standard input is closed", LOCAL)
        if path == "-":
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with open(path, "rb") as file:
                raw = file.read(limit + 1)
    except OSError as error:
        raise Failure(f"cannot read the token from {path}: {error.strerror}", LOCAL) from None
    if len(raw) > limit:
        raise Failure(f"the token in {path} is longer than {MAX_TOKEN} bytes", USAGE)
    # What is not UTF-8 is refused as a part of the token later.
    return re.sub(r"\r?\n\Z", "", raw.decode("utf-8", "surrogateescape"))


class _Screen:
    """What the user sees meanwhile: log messages, and a progress bar on a terminal."""

    def __init__(self, quiet: bool, verbose: bool) -> None:
        self._bar: Any = None
        self._tqdm: Any = None
        self._verbose = verbose
        if not quiet and sys.stderr is not None and sys.stderr.isatty():
            # Only where it is installed: the package's extra "progress".
            with contextlib.suppress(ImportError):
                self._tqdm = importlib.import_module("tqdm").tqdm
                # Its thread would only look for bars that nobody updates.
                self._tqdm.monitor_interval = 0

    def progress(self, now: Progress) -> None:
        """Draws how far the download is."""
        if self._tqdm is None or (now.received == 0 and self._bar is None):
            return
        if self._bar is None:
            self._bar = self._tqdm(
                file=sys.stderr,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                dynamic_ncols=True,
                leave=False,
            )
        self._bar.total = now.total
        self._bar.n = now.received
        if now.percent is not None:
            self._bar.set_postfix_str(f"{now.percent} % done", refresh=False)
        self._bar.refresh()

    def log(self, record: LogRecord) -> None:
        """Prints a record, above the bar: warnings, and what happens where that is wanted."""
        # What ends the call is told in any case.
        is_warning = record.level == LOG_WARNING
        if record.level == LOG_ERROR or not (self._verbose or is_warning):
            return
        if self._bar is not None:
            self._bar.clear()
        _print_message(f"dbss: {'warning: ' if is_warning else ''}{record.message}")

    def close(self) -> None:
        """Takes the bar away."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Makes of signals that end the program what Python makes of Ctrl-C."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {}
    for number in (signal.SIGHUP, signal.SIGTERM):
        # One that is ignored, as by nohup, stays so.
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _client(given: argparse.Namespace, screen: _Screen) -> Client:
    found = {} if given.token_file is not None else {"credentials": "default"}
    token = _from_environment("DBSS_TOKEN")
    if found and token is not None:
        found = {"token": token}
    return Client(
        region=given.region,
        endpoint=given.endpoint,
        token=None if given.token_file is None else _read_token(given.token_file),
        ca_file=given.ca_file,
        connect_timeout=given.connect_timeout,
        stall_timeout=given.stall_timeout,
        total_timeout=given.total_timeout,
        allow_plaintext=given.allow_plaintext,
        max_attempts=given.max_attempts,
        follow_redirects=given.follow_redirects,
        proxy_from_environment=given.proxy_from_environment,
        log=screen.log if given.verbose or not given.quiet else None,
        # Of the credentials that are set the last count, so those of --set outrank
        # the environment's.
        options={**found, **_settings(given.set)},
    )


def _download(given: argparse.Namespace) -> None:
    if not (given.instance and given.report):
        raise Failure(
            "--instance and --report (or DBSS_INSTANCE_ID and DBSS_REPORT_ID) are required; "
            "try --help",
            USAGE,
        )
    to_stdout = given.output == "-"
    if to_stdout and sys.stdout is None:
        raise Failure("cannot write to standard output: it is closed", LOCAL)
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(contextlib.closing(_Screen(given.quiet, given.verbose)))
        client = stack.enter_context(_client(given, screen))
        operation = stack.enter_context(Operation())
        names = (given.project, given.instance, given.report)
        more: Any = {
            "locale": given.locale,
            "operation": operation,
            "progress": screen.progress,
        }
        name: object = "-"
        if to_stdout:
            client.download_report_to(*names, sys.stdout.fileno(), **more)
        else:
            path = given.output or "./"
            name = client.download_report_to(*names, path, replace=given.force, **more)
        screen.close()
        if not given.quiet:
            tries = f", {operation.attempts} attempts" if operation.attempts > 1 else ""
            _print_message(f"saved {name} ({operation.received} bytes{tries})")


def _check(given: argparse.Namespace) -> None:
    screen = _Screen(True, given.verbose)
    with _client(given, screen) as client:
        found = client.find_credentials()
        _print_field(given, "source", f"{found.source}, {found.description}")
        _print_field(given, "who", found.name or "not known")
        project = given.project or found.project_id or "looked up by the region's name"
        _print_field(given, "project", project)
        _print_field(given, "expires", _date(found.expires_at))
        accepted = "not known"
        try:
            client.check(given.project)
            accepted = "yes"
        except (errors.UnauthenticatedError, errors.ForbiddenError):
            accepted = "no"
            raise
        finally:
            _print_field(given, "accepted", accepted)


def _print_field(given: argparse.Namespace, name: str, value: str) -> None:
    if given.quiet or sys.stdout is None:
        return
    try:
        print(f"{name}: {_sanitize(value)}", flush=True)
    except OSError as error:
        raise Failure(f"cannot write to standard output: {error.strerror}", LOCAL) from None


def _date(expires_at: datetime | None) -> str:
    """As the program in C writes it: in UTC, without fractions."""
    if expires_at is None:
        return "not known"
    return expires_at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _mirror(given: argparse.Namespace) -> int:
    if sys.stdout is None and (given.json or given.gaps):
        raise Failure("cannot write to standard output: it is closed", LOCAL)
    error = None
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(contextlib.closing(_Screen(given.quiet, given.verbose)))
        client = stack.enter_context(_client(given, screen))
        try:
            result = client.mirror(
                given.directory,
                project_id=given.project,
                instance_id=given.instance,
                since=given.since,
                until=given.until,
                utc_offset=given.utc_offset,
                type=given.type,
                template=given.template,
                name=given.name,
                locale=given.locale,
                parallel=given.parallel,
                verify=given.verify,
                progress=screen.progress,
            )
        except errors.Error as failed:
            error, result = failed, failed.result or MirrorResult()
    try:
        if given.json:
            print(cli_mirror.document(result, error), flush=True)
        elif given.gaps:
            for gap in result.gaps:
                print(f"gap: {gap.instance_id} {_sanitize(gap.type)} {gap.period}", flush=True)
    except OSError as refused:
        raise Failure(f"cannot write to standard output: {refused.strerror}", LOCAL) from None
    for one in result.failures:
        report = "" if one.report_id is None else f" {_sanitize(one.report_id)}"
        _print_message(f"dbss: {one.instance_id}{report}: {one.error.message}")
    if not given.quiet and (error is None or result.listed):
        _print_message(f"{given.directory}: {cli_mirror.summary(result)}")
    if error is not None:
        raise error
    if given.success_file:
        try:
            cli_mirror.write_success(given.success_file, result)
        except OSError as refused:
            raise Failure(f"cannot write {given.success_file}: {refused.strerror}", LOCAL) from None
    if given.detect_nothing_new and not (result.downloaded or result.repaired):
        return cli_mirror.NOTHING_NEW
    return DONE


# Control characters, and those that reorder or hide text or break its line, as
# libdbss leaves them out of messages.
_UNPRINTABLE = re.compile(
    "["
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]"
)


def _sanitize(text: str | None) -> str:
    """Text of somebody else, without what could drive a terminal or deceive its reader."""
    return "-" if text is None else _UNPRINTABLE.sub(" ", text)


def _exit_code(error: errors.Error) -> int:
    """New statuses may appear in a group, so it is the group that decides."""
    if isinstance(error, (errors.UnauthenticatedError, errors.ForbiddenError)):
        return REFUSED
    if isinstance(error, errors.NotFoundError):
        return NO_SUCH_REPORT
    for group, code in (
        (errors.PartialError, cli_mirror.PARTIAL),
        (errors.MirrorLockedError, cli_mirror.LOCKED),
        (errors.ArgumentError, USAGE),
        (errors.ServiceError, SERVICE),
        (errors.NetworkError, NETWORK),
        (errors.FileError, LOCAL),
        (errors.ResourceError, LOCAL),
        (errors.CancelledError, INTERRUPTED),
    ):
        if isinstance(error, group):
            return code
    return INTERNAL


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "download": _download,
    "check": _check,
    "mirror": _mirror,
}


def _hold_standard_streams() -> None:
    """Opens the null device where one is closed, so that no other file gets its number.

    The wrong way round: what is written or read there fails, as before.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == 0 else os.O_RDONLY)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    _hold_standard_streams()
    try:
        given = _parser().parse_args(arguments)
        with _ended_by_signals():
            known = {**_COMMANDS, **_more_commands().COMMANDS}
            return known[given.command](given) or DONE
    except Failure as failure:
        lines, code = [str(failure)], failure.code
    except errors.Error as error:
        lines = [error.message]
        lines += [f"  {_sanitize(one.code)}: {_sanitize(one.message)}" for one in error.details]
        code = _exit_code(error)
    except MemoryError:
        lines, code = ["out of memory"], LOCAL
    except KeyboardInterrupt:
        lines, code = ["interrupted"], INTERRUPTED
    _print_message("\n".join([f"dbss: {lines[0]}", *lines[1:]]))
    return code
