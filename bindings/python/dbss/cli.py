"""The command ``python -m dbss``. Nothing here knows more than the package's users do."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from . import __version__, client, errors

# The exit codes, as of dbss-download, the program in C.
SAVED = 0
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
  130  interrupted
"""

# The longest token that libdbss takes.
MAX_TOKEN = 96 * 1024


class Failure(Exception):
    """The command ends with this message and exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """Complains in the way of the rest of the command."""

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


def _say(text: str) -> None:
    # print() would take standard output for a closed standard error.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr)


def _parser() -> Parser:
    # Abbreviations would make --token mean --token-file.
    main = Parser(
        prog="python -m dbss",
        description="Downloads audit reports of the Database Security Service.",
        allow_abbrev=False,
    )
    main.add_argument(
        "--version", action="version", version=f"dbss {__version__} (libdbss {client.version()})"
    )
    main.add_argument("--token", action=RefuseToken, help=argparse.SUPPRESS)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    download = commands.add_parser(
        "download",
        help="save an audit report",
        description="Saves an audit report of the Database Security Service.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def add(*names: str, variable: str, meaning: str, metavar: str) -> None:
        download.add_argument(
            *names,
            default=_from_environment(variable),
            help=f"{meaning} (environment: {variable})",
            metavar=metavar,
        )

    add("--project", variable="DBSS_PROJECT_ID", meaning="the project", metavar="ID")
    add("--instance", variable="DBSS_INSTANCE_ID", meaning="the audit instance", metavar="ID")
    add("--report", variable="DBSS_REPORT_ID", meaning="the report", metavar="ID")
    add(
        "--locale",
        variable="DBSS_LOCALE",
        meaning="the report's language: en-us or zh-cn",
        metavar="LOCALE",
    )
    add(
        "--output",
        "-o",
        variable="DBSS_OUTPUT",
        meaning="where to save it; - is standard output; else REPORT_ID.pdf or .zip",
        metavar="PATH",
    )
    add("--region", variable="DBSS_REGION", meaning="such as cn-north-4", metavar="REGION")
    add(
        "--endpoint",
        variable="DBSS_ENDPOINT",
        meaning="where the service answers, in place of the region's",
        metavar="URL",
    )
    add(
        "--ca-file",
        variable="DBSS_CA_FILE",
        meaning="the certificates to trust (PEM)",
        metavar="PATH",
    )
    download.add_argument(
        "--token-file",
        help="a file with the IAM token, - is standard input (environment: DBSS_TOKEN, itself)",
        metavar="PATH",
    )
    download.add_argument("--token", action=RefuseToken, help=argparse.SUPPRESS)
    for name, meaning in (
        ("--connect-timeout", "until a connection must stand"),
        ("--stall-timeout", "without a byte in or out"),
        ("--total-timeout", "for everything"),
    ):
        download.add_argument(
            name,
            type=_seconds,
            default=client.DEFAULT,
            help=f"seconds {meaning}, or none for no limit",
            metavar="SECONDS",
        )
    download.add_argument(
        "--allow-plaintext",
        action="store_true",
        help="allow plain http to another host, which shows the token to the network",
    )
    download.add_argument(
        "--max-memory-bytes", type=int, help="the largest report to take", metavar="BYTES"
    )
    download.add_argument("--force", action="store_true", help="replace an existing file")
    return main


def _read_token(path: str | None) -> str:
    """The token, of a file without one line end at its end, or of the environment."""
    if path is None:
        token = _from_environment("DBSS_TOKEN")
        if token is None:
            raise Failure("no token: give --token-file, or set DBSS_TOKEN", USAGE)
        return token
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


def _check_target(path: str, force: bool) -> None:
    """Refuses what may not be replaced, as far as that can be told beforehand."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not force:
        raise Failure(f"{path} exists already; --force would replace it", LOCAL)
    if not stat.S_ISREG(mode):
        raise Failure(f"{path} is not a regular file, and is not replaced", LOCAL)


def _format(report: bytes) -> str | None:
    if report.startswith(b"%PDF-"):
        return "pdf"
    return "zip" if report.startswith(b"PK\x03\x04") else None


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Lets signals that end the program wait. Nothing here waits for the network."""
    ending = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _save(report: bytes, path: str, force: bool) -> None:
    """Saves the report under a name that it gets only when it is whole.

    It is written beside it first, under a name of its own. What stands under
    the name is replaced with `force`, else kept, with no moment between the
    check and the act.
    """
    directory = os.path.dirname(path) or "."
    what = "create a file beside"
    temporary = None
    with _uninterrupted():
        try:
            # Of mode 0600.
            descriptor, temporary = tempfile.mkstemp(prefix=".dbss-download.", dir=directory)
            what = "write"
            with open(descriptor, "wb") as file:
                file.write(report)
                file.flush()
                os.fsync(file.fileno())
            if force:
                what = "replace"
                os.replace(temporary, path)
                temporary = None
            else:
                what = "create"
                os.link(temporary, path)
        except OSError as error:
            hint = ""
            if isinstance(error, PermissionError) and what == "create":
                hint = "; does this file system have hard links? --force needs none"
            raise Failure(f"cannot {what} {path}: {error.strerror}{hint}", LOCAL) from None
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
        # So that the name outlives a loss of power. Not all file systems can do
        # it, and the file is whole in any case.
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _write_stdout(report: bytes) -> None:
    if sys.stdout is None:
        raise Failure("cannot write to standard output: it is closed", LOCAL)
    rest = memoryview(report)
    try:
        # Not through sys.stdout, which writes a part and says nothing when it
        # is not buffered (python -u).
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
    except OSError as error:
        raise Failure(f"cannot write to standard output: {error.strerror}", LOCAL) from None


def _interruptibly(options: argparse.Namespace, token: str) -> bytes:
    """Downloads on another thread, as Ctrl-C would have to wait for a call on this one."""
    results: list[bytes] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with client.Client(
                region=options.region,
                endpoint=options.endpoint,
                token=token,
                ca_file=options.ca_file,
                connect_timeout=options.connect_timeout,
                stall_timeout=options.stall_timeout,
                total_timeout=options.total_timeout,
                allow_plaintext=options.allow_plaintext,
                max_memory_bytes=options.max_memory_bytes,
            ) as service:
                results.append(
                    service.download_report(
                        options.project, options.instance, options.report, locale=options.locale
                    )
                )
        except BaseException as failure:
            failures.append(failure)

    # A daemon, so that an interrupted command ends without waiting for it.
    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise Failure(str(error), LOCAL) from None
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _download(options: argparse.Namespace) -> None:
    if not (options.project and options.instance and options.report):
        raise Failure(
            "--project, --instance and --report (or DBSS_PROJECT_ID, DBSS_INSTANCE_ID and "
            "DBSS_REPORT_ID) are required; try --help",
            USAGE,
        )
    to_stdout = options.output == "-"
    if not to_stdout:
        names = (
            [options.output]
            if options.output is not None
            else [options.report + ending for ending in (".pdf", ".zip", "")]
        )
        for name in names:
            _check_target(name, options.force)

    report = _interruptibly(options, _read_token(options.token_file))
    kind = _format(report)
    name = options.output
    if name is None:
        name = options.report if kind is None else f"{options.report}.{kind}"
    if to_stdout:
        _write_stdout(report)
    else:
        _save(report, name, options.force)
    _say(f"saved {name} ({len(report)} bytes, {kind or 'unknown format'})")


def _printable(text: str | None) -> str:
    """Text that the service sent, without what could drive a terminal."""
    return "-" if text is None else re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)


def _exit_code(error: errors.Error) -> int:
    """New statuses may appear in a group, so it is the group that decides."""
    if isinstance(error, (errors.UnauthenticatedError, errors.ForbiddenError)):
        return REFUSED
    if isinstance(error, errors.NotFoundError):
        return NO_SUCH_REPORT
    for group, code in (
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    try:
        _download(_parser().parse_args(arguments))
        return SAVED
    except Failure as failure:
        lines, code = [str(failure)], failure.code
    except errors.Error as error:
        lines = [error.message]
        lines += [f"  {_printable(one.code)}: {_printable(one.message)}" for one in error.details]
        code = _exit_code(error)
    except MemoryError:
        lines, code = ["out of memory"], LOCAL
    except KeyboardInterrupt:
        lines, code = ["interrupted"], INTERRUPTED
    _say("\n".join([f"dbss: {lines[0]}", *lines[1:]]))
    return code
