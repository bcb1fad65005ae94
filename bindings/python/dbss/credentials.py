"""Credentials of a client, and token providers that are Python functions."""

from __future__ import annotations

import inspect
import os
import queue
import sys
import threading
import weakref
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, NamedTuple, Optional, Union

from . import _abi as abi
from . import errors, ffi

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# The most bytes of a provider's exception that are reported; libdbss truncates at 512.
_MAX_REASON_BYTES = 500


@dataclass(frozen=True)
class Credentials:
    """The credentials of a client, as find_credentials() found them; none of it is secret."""

    source: str
    """"token", "access_key", "token_provider", "iam_user", "environment", "profile",
    "metadata", "oidc", "federation", "pod_identity" or "agency"; a newer libdbss may have
    more."""
    description: str
    """The same in words, with the variable, file or address."""
    name: str | None
    """The user's name, or the access key without its middle part; None where it is unknown."""
    project_id: str | None
    """The default project of calls; None where it is unknown without a lookup."""
    expires_at: datetime | None
    """When they expire, in UTC; None if they do not expire or the time is unknown."""


class Token(NamedTuple):
    """A token and when it expires, for a ``token_provider`` to return."""

    token: str
    """The IAM token."""
    # Optional[...]: these annotations are evaluated by Python 3.9 too.
    expires_at: Optional[datetime] = None  # noqa: UP045
    """When it expires, with a time zone; None if the time is unknown."""

    def __repr__(self) -> str:
        return f"Token('***', expires_at={self.expires_at!r})"


# Union[...]: evaluated by Python 3.9 too.
ProviderResult = Union[str, Token, tuple[str, Optional[datetime]]]
TokenProvider = Callable[[bool], Union[ProviderResult, Awaitable[ProviderResult]]]
"""Returns a token; its argument is whether the service refused the last one."""
PasscodeProvider = Callable[[bool], Union[str, Awaitable[str]]]
"""Returns a passcode; its argument is whether IAM refused the last login."""


def credentials_from(pointer: abi.Credentials) -> Credentials:
    """Converts credentials of libdbss."""
    expires_ms = abi.credentials_expires_ms(pointer)
    return Credentials(
        source=ffi.decode(abi.credentials_source(pointer)) or "",
        description=ffi.decode(abi.credentials_description(pointer)) or "",
        name=ffi.decode(abi.credentials_name(pointer)),
        project_id=ffi.decode(abi.credentials_project(pointer)),
        expires_at=None if expires_ms < 0 else _datetime_from(expires_ms),
    )


def _datetime_from(milliseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc)


# What checks and encodes the result of a provider.
_Encode = Callable[[object], tuple[bytes, int]]


class CallbackProvider:
    """Gets the tokens or passcodes of one context of libdbss from a function.

    libdbss requests one during a call, where no Python code may run; see ffi.
    Therefore requests go into a queue, which a thread serves. The first call starts
    this thread. It ends with the context, and does not delay the interpreter's exit.
    """

    def __init__(
        self,
        config: abi.Config,
        function: TokenProvider | PasscodeProvider,
        for_passcodes: bool = False,
    ) -> None:
        self._function = function
        self._encode = _encode_passcode if for_passcodes else _encode_token
        self._init_state()
        self._sender = ffi.set_token_provider(config, self._requests, for_passcodes)
        _providers.add(self)

    def _init_state(self) -> None:
        self._requests: ffi.RequestQueue = queue.SimpleQueue()
        self._failure = _LastFailure()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def restart_after_fork(self) -> None:
        """Resets the state in a child of fork(), which has no thread and no requests."""
        self._init_state()
        self._sender = ffi.redirect_token_requests(self._sender, self._requests)

    def start(self) -> None:
        """Starts the thread that serves requests, unless it runs."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            thread = threading.Thread(
                target=_serve_requests,
                # Not self, which the thread would keep alive.
                args=(self._requests, self._sender, self._function, self._encode, self._failure),
                name="dbss token provider",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError as error:
                raise errors.ResourceError(
                    f"cannot start the thread of the provider: {error}"
                ) from error
            self._thread = thread

    def check_caller(self) -> None:
        """Raises BusyError in the thread that serves requests, where a call would wait for it."""
        if threading.current_thread() is self._thread:
            raise errors.BusyError(
                "the provider calls its own client, which waits for it", parameter="client"
            )

    def attach_cause(self, error: errors.Error) -> None:
        """Sets the cause of an error to what the function raised, if that caused it."""
        if isinstance(error, errors.NoTokenError):
            cause = self._failure.matching(error.message)
            if cause is not None:
                error.__cause__ = cause


_providers: weakref.WeakSet[CallbackProvider] = weakref.WeakSet()


def _restart_providers_after_fork() -> None:
    for provider in list(_providers):
        provider.restart_after_fork()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_restart_providers_after_fork)


class _LastFailure:
    """The failure of the last request."""

    def __init__(self) -> None:
        # Held while a request is completed, so that callers see the matching failure.
        self.lock = threading.Lock()
        self.reason = ""
        self.error: BaseException | None = None

    def matching(self, message: str) -> BaseException | None:
        """The failure that a message reports; None if a later one has replaced it."""
        with self.lock:
            return self.error if self.reason in message else None


def _serve_requests(
    requests: ffi.RequestQueue,
    sender: ffi.RequestSender,
    function: TokenProvider | PasscodeProvider,
    encode: _Encode,
    failure: _LastFailure,
) -> None:
    """Serves requests until C releases the sender, which is then in the queue itself."""
    while True:
        request = requests.get()
        if not isinstance(request, abi.TokenRequest):
            # Put it back: a second thread may run, if Ctrl-C interrupted start().
            requests.put(request)
            return
        try:
            # The waiting calls, and the client, may have ended.
            if abi.token_request_is_wanted(request):
                _serve_request(request, function, encode, failure)
        finally:
            abi.token_request_free(request)


def _serve_request(
    request: abi.TokenRequest,
    function: TokenProvider | PasscodeProvider,
    encode: _Encode,
    failure: _LastFailure,
) -> None:
    try:
        result: Any = function(bool(abi.token_request_refused(request)))
        if inspect.isawaitable(result):
            result = _run_awaitable(result)
    except BaseException as error:
        # Any kind: report it to the waiting calls, and keep this thread running.
        traceback = error.__traceback__
        # Drop this frame, which does not help the reader.
        error.__traceback__ = traceback.tb_next if traceback is not None else None
        _report_failure(request, failure, error, _describe(error))
        return
    try:
        token, expires_ms = encode(result)
        with failure.lock:
            failure.reason, failure.error = "", None
            try:
                abi.token_request_set(request, token, expires_ms)
            except errors.Error as error:
                # libdbss has already reported it to the waiting calls.
                failure.reason = error.message
                failure.error = error.with_traceback(None)
    except errors.Error as error:
        # Drop the frames, whose variables hold the token.
        _report_failure(request, failure, error.with_traceback(None), error.message)
    except (TypeError, ValueError) as error:
        _report_failure(request, failure, error.with_traceback(None), str(error))


def _report_failure(
    request: abi.TokenRequest, failure: _LastFailure, error: BaseException, reason: str
) -> None:
    with failure.lock:
        failure.reason, failure.error = reason, error
        abi.token_request_fail(request, reason.encode("utf-8", "replace"))


def _run_awaitable(awaitable: Awaitable[ProviderResult]) -> ProviderResult:
    # Imported late: asyncio is large, and most users do not need it here.
    import asyncio

    async def wait() -> ProviderResult:
        return await awaitable

    return asyncio.run(wait())


def _encode_token(result: object) -> tuple[bytes, int]:
    """The token and its expiry for C. No exception contains the token."""
    expires_at: object = None
    if isinstance(result, tuple):
        if len(result) != 2:
            raise TypeError(f"must give a token and when it expires, not {len(result)} values")
        result, expires_at = result
    if not isinstance(result, str):
        raise TypeError(f"must give a str or a dbss.Token, not {type(result).__name__}")
    token = ffi.encode("token", result)
    if expires_at is None:
        return token, -1
    if not isinstance(expires_at, datetime):
        raise TypeError(f"expires_at: must be datetime, not {type(expires_at).__name__}")
    if expires_at.utcoffset() is None:
        raise ValueError("expires_at: has no time zone; give it one, such as datetime.timezone.utc")
    # A time before 1970 has expired like 1970 itself; -1 would mean unknown.
    return token, max(0, (expires_at - _EPOCH) // timedelta(milliseconds=1))


def _encode_passcode(result: object) -> tuple[bytes, int]:
    """The passcode for C, which has no expiry. No exception contains the passcode."""
    if not isinstance(result, str):
        raise TypeError(f"must give a str, not {type(result).__name__}")
    # libdbss would speak of a token.
    if not result or not all("!" <= one <= "~" for one in result):
        wrong = "holds a character other than visible ASCII" if result else "must not be empty"
        raise errors.InvalidValueError(f"passcode: {wrong}", parameter="passcode")
    return result.encode(), -1


def _describe(error: BaseException) -> str:
    """Describes an exception in one line, for the message of libdbss."""
    kind = type(error).__name__
    try:
        words = "".join(c if c.isprintable() else " " for c in str(error)).strip()
    except Exception:
        words = ""
    line = f"{kind}: {words}" if words else kind
    raw = line.encode("utf-8", "replace")
    return raw[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
