"""The client: what a program uses."""

from __future__ import annotations

import enum
import math
import operator
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Callable, Final, Union

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
    """"text", "url", "secret", "path", "milliseconds", "bytes" or "boolean"."""
    default: str | None
    """Its default as text; None where it is unset by default."""
    help: str
    """What it does, and its range."""


def version() -> str:
    """The version of libdbss that is loaded, such as "0.1.0"."""
    return ffi.decode(ffi.version()) or ""


def has_feature(name: str) -> bool:
    """Whether the loaded libdbss has a feature, such as "download"."""
    if not isinstance(name, str):
        raise TypeError(f"name: must be str, not {type(name).__name__}")
    # No feature has a name that C could not be given whole.
    encoded = name.encode("utf-8", "replace")
    return b"\0" not in encoded and bool(ffi.has_feature(encoded))


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


class _Context:
    """Owns a context of libdbss. It is freed with the last reference to this.

    Each call holds a reference while it lasts. So the context outlives every
    call that uses it without a lock, which a fork could leave locked for ever.
    """

    def __init__(self, config: ffi.Config) -> None:
        self.pointer = ffi.Context()
        ffi.context_new(config, ffi.byref(self.pointer))

    # A default, as the module may be gone when the interpreter ends.
    def __del__(self, _free: Callable[[ffi.Context], None] = ffi.context_free) -> None:
        _free(self.pointer)


@contextmanager
def _new_config() -> Iterator[ffi.Config]:
    config = ffi.Config()
    try:
        ffi.config_new(ffi.byref(config))
        yield config
    finally:
        ffi.config_free(config)


def _milliseconds(key: str, seconds: float | None) -> bytes:
    if seconds is None:
        return b"-1"
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{key}: must be a number of seconds, not {type(seconds).__name__}")
    try:
        milliseconds = float(seconds) * 1000
    except OverflowError:
        milliseconds = math.inf
    # Refused here: -0.001 s would be -1 ms, which to libdbss is no limit.
    if not math.isfinite(milliseconds) or milliseconds < 0:
        raise errors.InvalidValueError(f"{key}: {seconds} s is not a duration", parameter=key)
    # A time above zero must not become zero.
    return b"%d" % (max(1, round(milliseconds)) if milliseconds else 0)


class Client:
    """A connection to the Database Security Service with an IAM token.

    Make one and share it: any number of threads may use it at once, and a
    child process may go on using it after os.fork(). It keeps connections open
    between calls; close() or a ``with`` block ends them.

    Args:
        region: such as "cn-north-4"; gives the service's public endpoint.
        endpoint: the URL of the service, in place of the region's.
        token: the IAM token (X-Auth-Token). It may also come later, through
            set_token().
        ca_file: a PEM file of the certificates to trust, in place of the
            system's and the built-in ones.
        connect_timeout: seconds until a connection must stand.
        stall_timeout: seconds without a byte in or out.
        total_timeout: seconds for a whole call. For each of the three, None
            is no limit and DEFAULT the default of libdbss.
        allow_plaintext: allow plain http to another host, which shows the
            token and the report to the network.
        max_memory_bytes: the largest report to take into memory; None for the
            default of libdbss, 1 GiB.
        user_agent_suffix: text after "libdbss/VERSION" in User-Agent.
        options: any other option of libdbss, as text; options() lists them.

    Raises:
        ArgumentError: an argument cannot be right.
        FileError: the CA file cannot be read.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        token: str | None = None,
        ca_file: str | bytes | os.PathLike[str] | None = None,
        connect_timeout: Seconds = DEFAULT,
        stall_timeout: Seconds = DEFAULT,
        total_timeout: Seconds = DEFAULT,
        allow_plaintext: bool = False,
        max_memory_bytes: int | None = None,
        user_agent_suffix: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        # First, so that __repr__ and close() work on a client that failed.
        self._context: _Context | None = None
        self._service = endpoint if endpoint is not None else region
        if not isinstance(allow_plaintext, bool):
            raise TypeError("allow_plaintext: must be bool")
        if isinstance(max_memory_bytes, bool):
            raise TypeError("max_memory_bytes: must be int, not bool")
        with _new_config() as config:
            for key, value in (options or {}).items():
                encoded_key = ffi.encode("key", key)
                is_path = key == "ca_file"
                encoded = ffi.encode_path(key, value) if is_path else ffi.encode(key, value)
                ffi.config_set(config, encoded_key, encoded)
            if region is not None:
                ffi.config_set_region(config, ffi.encode("region", region))
            if endpoint is not None:
                ffi.config_set_endpoint(config, ffi.encode("endpoint", endpoint))
            if token is not None:
                ffi.config_set_token(config, ffi.encode("token", token))
            if ca_file is not None:
                ffi.config_set(config, b"ca_file", ffi.encode_path("ca_file", ca_file))
            for key, seconds in (
                ("connect_timeout_ms", connect_timeout),
                ("stall_timeout_ms", stall_timeout),
                ("total_timeout_ms", total_timeout),
            ):
                if not isinstance(seconds, Default):
                    ffi.config_set(config, key.encode(), _milliseconds(key, seconds))
            if allow_plaintext:
                ffi.config_set(config, b"allow_plaintext", b"true")
            if max_memory_bytes is not None:
                ffi.config_set(
                    config, b"max_memory_bytes", b"%d" % operator.index(max_memory_bytes)
                )
            if user_agent_suffix is not None:
                suffix = ffi.encode("user_agent_suffix", user_agent_suffix)
                ffi.config_set(config, b"user_agent_suffix", suffix)
            self._context = _Context(config)

    def download_report(
        self, project_id: str, instance_id: str, report_id: str, locale: str | None = None
    ) -> bytes:
        """Downloads an audit report (the service's call DownloadAuditReport).

        Args:
            project_id: the id of the project.
            instance_id: the id of the audit instance.
            report_id: the id of the report.
            locale: its language, "en-us" or "zh-cn"; None leaves the choice to
                the service, which takes en-us.

        Returns:
            The whole report, a PDF or a ZIP file. Anything less is an error.

        Raises:
            Error: the call failed. Its class and attributes say why.
            ValueError: the client is closed.

        Other threads run while it waits for the network. A signal, such as that
        of Ctrl-C, is handled by Python when the call has ended.
        """
        context = self._open_context()
        buffer = ffi.Buffer()
        try:
            ffi.report_download(
                context.pointer,
                ffi.encode("project", project_id),
                ffi.encode("instance", instance_id),
                ffi.encode("id", report_id),
                None if locale is None else ffi.encode("locale", locale),
                ffi.byref(buffer),
            )
            return ffi.copy(buffer)
        finally:
            ffi.buffer_free(ffi.byref(buffer))
            # Else whoever keeps the exception would keep the context, too.
            del context

    def set_token(self, token: str) -> None:
        """Replaces the token.

        Calls that start afterwards use the new one, calls under way finish
        with the old one. On failure the old one stays.

        Raises:
            InvalidTokenError: no header could hold it.
            ValueError: the client is closed.
        """
        context = self._open_context()
        try:
            ffi.context_set_token(context.pointer, ffi.encode("token", token))
        finally:
            del context

    def _open_context(self) -> _Context:
        context = self._context
        if context is None:
            raise ValueError("the client is closed")
        return context

    def close(self) -> None:
        """Ends the client; calls under way in other threads finish undisturbed.

        Closing it again does nothing.
        """
        self._context = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._context is None else self._service or "open"
        return f"<dbss.Client {state}>"
