"""Credentials: who the client is, and tokens that code of Python gives when asked."""

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

# Of what a token provider raises so many bytes are told; libdbss cuts at 512.
_LONGEST_REASON = 500


@dataclass(frozen=True)
class Credentials:
    """The credentials of a client, as find_credentials() found them; none of it is secret."""

    source: str
    """"token", "access_key", "token_provider", "iam_user", "environment", "profile" or
    "metadata"; a newer libdbss may have more."""
    description: str
    """The same in words, with the variable, file or address."""
    name: str | None
    """The user's name, or the access key with its middle left out; None where they do not tell."""
    project_id: str | None
    """The project of calls that are given none, as far as it is known without looking it up."""
    expires_at: datetime | None
    """When they expire, in UTC; None where that is not known or they do not."""


class Token(NamedTuple):
    """A token and when it expires, for a ``token_provider`` to return."""

    token: str
    """The IAM token."""
    # Optional[...]: these annotations are evaluated by Python 3.9 too.
    expires_at: Optional[datetime] = None  # noqa: UP045
    """When it expires, with a time zone; None where that is not known."""

    def __repr__(self) -> str:
        return f"Token('***', expires_at={self.expires_at!r})"


# Union[...]: evaluated by Python 3.9 too.
Given = Union[str, Token, tuple[str, Optional[datetime]]]
TokenProvider = Callable[[bool], Union[Given, Awaitable[Given]]]
"""Gives a token; called with whether the service has refused the last one."""


def found(pointer: abi.Credentials) -> Credentials:
    """What libdbss found."""
    expires_ms = abi.credentials_expires_ms(pointer)
    return Credentials(
        source=ffi.decode(abi.credentials_source(pointer)) or "",
        description=ffi.decode(abi.credentials_description(pointer)) or "",
        name=ffi.decode(abi.credentials_name(pointer)),
        project_id=ffi.decode(abi.credentials_project(pointer)),
        expires_at=None if expires_ms < 0 else _date(expires_ms),
    )


def _date(milliseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc)


class Provider:
    """Asks a function for the tokens of one context of libdbss.

    libdbss asks in the midst of a call, where no code of Python may run; see ffi.
    So requests only wait here, for a thread that answers them. The first call
    starts it; it ends with the context, and does not keep the interpreter.
    """

    def __init__(self, config: abi.Config, function: TokenProvider) -> None:
        self._function = function
        self._begin()
        self._inlet = ffi.provide_tokens(config, self._requests)
        _providers.add(self)

    def _begin(self) -> None:
        self._requests: ffi.Requests = queue.SimpleQueue()
        self._failure = _Failure()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin_anew(self) -> None:
        """In a child of fork(): what waits are the parent's requests, and its thread is gone."""
        self._begin()
        self._inlet = ffi.redirect_tokens(self._inlet, self._requests)

    def start(self) -> None:
        """Sees to it that requests are answered."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            thread = threading.Thread(
                target=_answer_all,
                # Not this, which would keep itself alive.
                args=(self._requests, self._inlet, self._function, self._failure),
                name="dbss token provider",
                daemon=True,
            )
            thread.start()
            self._thread = thread

    def explain(self, error: errors.Error) -> None:
        """Gives an error its cause, where that is what the function raised."""
        if isinstance(error, errors.NoTokenError):
            cause = self._failure.of(error.message)
            if cause is not None:
                error.__cause__ = cause


_providers: weakref.WeakSet[Provider] = weakref.WeakSet()


def _begin_anew() -> None:
    for provider in list(_providers):
        provider.begin_anew()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_anew)


class _Failure:
    """What went wrong with the last request."""

    def __init__(self) -> None:
        # Held while a request is answered: whoever hears of it finds this right.
        self.lock = threading.Lock()
        self.reason = ""
        self.error: BaseException | None = None

    def of(self, message: str) -> BaseException | None:
        """The failure that a message tells of; none where another one came meanwhile."""
        with self.lock:
            return self.error if self.reason in message else None


def _answer_all(
    requests: ffi.Requests, inlet: ffi.Inlet, function: TokenProvider, failure: _Failure
) -> None:
    """Runs until the inlet's end, which is told in place of a request."""
    while True:
        request = requests.get()
        if not isinstance(request, abi.TokenRequest):
            # For another thread, where Ctrl-C made the start of this one look failed.
            requests.put(request)
            return
        try:
            # The calls that waited for it may have ended, and the client with them.
            if abi.token_request_is_wanted(request):
                _answer(request, function, failure)
        finally:
            abi.token_request_free(request)


def _answer(request: abi.TokenRequest, function: TokenProvider, failure: _Failure) -> None:
    try:
        given: Any = function(bool(abi.token_request_refused(request)))
        if inspect.isawaitable(given):
            given = _run(given)
    except BaseException as error:
        # Of any kind: whoever waits must hear of it, and this thread goes on.
        traceback = error.__traceback__
        # Without this frame, where there is nothing to see.
        error.__traceback__ = traceback.tb_next if traceback is not None else None
        _fail(request, failure, error, _one_line(error))
        return
    try:
        token, expires_ms = _checked(given)
        with failure.lock:
            failure.reason, failure.error = "", None
            try:
                abi.token_request_set(request, token, expires_ms)
            except errors.Error as error:
                # libdbss has told all who wait.
                failure.reason = error.message
                failure.error = error.with_traceback(None)
    except errors.Error as error:
        # Without its frames, which know the token.
        _fail(request, failure, error.with_traceback(None), error.message)
    except (TypeError, ValueError) as error:
        _fail(request, failure, error.with_traceback(None), str(error))


def _fail(request: abi.TokenRequest, failure: _Failure, error: BaseException, reason: str) -> None:
    with failure.lock:
        failure.reason, failure.error = reason, error
        abi.token_request_fail(request, reason.encode("utf-8", "replace"))


def _run(awaitable: Awaitable[Given]) -> Given:
    # Imported here: it is much for who does not need it.
    import asyncio

    async def wait() -> Given:
        return await awaitable

    return asyncio.run(wait())


def _checked(given: object) -> tuple[bytes, int]:
    """The token and its time for C; else an exception without the token in its words."""
    expires_at: object = None
    if isinstance(given, tuple):
        if len(given) != 2:
            raise TypeError(f"must give a token and when it expires, not {len(given)} values")
        given, expires_at = given
    if not isinstance(given, str):
        raise TypeError(f"must give a str or a dbss.Token, not {type(given).__name__}")
    token = ffi.encode("token", given)
    if expires_at is None:
        return token, -1
    if not isinstance(expires_at, datetime):
        raise TypeError(f"expires_at: must be datetime, not {type(expires_at).__name__}")
    if expires_at.utcoffset() is None:
        raise ValueError("expires_at: has no time zone; give it one, such as datetime.timezone.utc")
    # Before 1970 is as good as 1970, and -1 would mean something else.
    return token, max(0, (expires_at - _EPOCH) // timedelta(milliseconds=1))


def _one_line(error: BaseException) -> str:
    """An exception in words, as libdbss will pass them on."""
    kind = type(error).__name__
    try:
        words = "".join(c if c.isprintable() else " " for c in str(error)).strip()
    except Exception:
        words = ""
    line = f"{kind}: {words}" if words else kind
    raw = line.encode("utf-8", "replace")
    return raw[:_LONGEST_REASON].decode("utf-8", "ignore")
