"""Credentials in the Python package: their sources and their renewal."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import hashlib
import json
import multiprocessing
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest
from dbss import _abi as abi
from dbss import ffi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mock_service import MockService

# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
# No test connects to it successfully.
UNREACHABLE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def reset_mock(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Resets the mock service after each test; gives each test an empty home directory."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    yield
    mock.clear_faults()
    mock.clear_projects()
    mock.set_iam()
    mock.set_metadata()


@pytest.fixture
def report(mock: MockService) -> str:
    """A report that no other test requests."""
    added: str = mock.add_report(format="bytes", size=3000)["id"]
    return added


@pytest.fixture
def login(mock: MockService) -> dict[str, Any]:
    """The arguments for a login at the mock service."""
    return {
        "endpoint": mock.http,
        "region": mock.region,
        "iam_endpoint": mock.iam,
        "iam_user": mock.user,
        "iam_password": mock.password,
        "iam_domain": mock.domain,
    }


@pytest.fixture
def found(mock: MockService) -> dict[str, Any]:
    """The arguments for credentials that are found; none uses the real metadata service."""
    return {
        "endpoint": mock.http,
        "region": mock.region,
        "iam_endpoint": mock.iam,
        "metadata_endpoint": mock.metadata,
    }


def sent_headers(mock: MockService, report: str, header: str) -> list[str | None]:
    """A header of each request for a report or a call."""
    return [
        {name.lower(): value for name, value in one["headers"]}.get(header)
        for one in mock.requests(report)
    ]


def python(code: str, environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def all_text_of(error: BaseException) -> str:
    """All visible text of an exception and of its chained exceptions."""
    seen = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None:
            continue
        seen += [str(one), repr(one), repr(one.args), repr(vars(one))]
        todo += [one.__cause__, one.__context__]
    frames = traceback.TracebackException.from_exception(error, capture_locals=False)
    return "\n".join([*seen, *frames.format()])


# Kinds of credentials.


@pytest.mark.parametrize(
    "second",
    [
        {"access_key": "a", "secret_key": "s"},
        {"security_token": "t"},
        {"iam_user": "u"},
        {"iam_password": "p"},
        {"credentials": "default"},
        {"token_provider": lambda refused: "token"},
    ],
)
@pytest.mark.parametrize(
    "first", [{"token": "t"}, {"iam_domain": "d"}, {"credentials": "environment"}]
)
def test_credentials_of_two_kinds_are_rejected(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    if {*first, *second} <= {"iam_user", "iam_password", "iam_domain"} or set(first) == set(second):
        return
    with pytest.raises(TypeError, match="exclude each other"):
        dbss.Client(endpoint=UNREACHABLE, **first, **second)


NUL = "a" * 20 + "\0"
SURROGATE = "a" * 20 + "\udc80"


@pytest.mark.parametrize(
    ("arguments", "kind", "parameter"),
    [
        ({"project_id": "short"}, dbss.InvalidIdError, "project_id"),
        ({"project_id": NUL}, dbss.InvalidIdError, "project_id"),
        ({"iam_user": ""}, dbss.InvalidValueError, "iam_user"),
        ({"iam_password": NUL}, dbss.InvalidValueError, "iam_password"),
        ({"iam_password": SURROGATE}, dbss.InvalidUtf8Error, "iam_password"),
        ({"iam_user": "u", "region": "r"}, dbss.NotConfiguredError, "iam_password"),
        ({"iam_endpoint": "ftp://x"}, dbss.InvalidEndpointError, "iam_endpoint"),
        ({"metadata_endpoint": NUL}, dbss.InvalidEndpointError, "metadata_endpoint"),
        ({"credentials": "elsewhere"}, dbss.InvalidValueError, "credentials"),
        ({"endpoint": []}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": [UNREACHABLE, "/x"]}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": [f"{UNREACHABLE},{UNREACHABLE}"]}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": [UNREACHABLE] * 17}, dbss.InvalidEndpointError, "endpoint"),
    ],
)
def test_invalid_argument_is_rejected_at_once(
    arguments: dict[str, Any], kind: type[dbss.Error], parameter: str
) -> None:
    with pytest.raises(kind) as caught:
        dbss.Client(**{"endpoint": UNREACHABLE, **arguments})
    assert caught.value.parameter == parameter
    assert isinstance(caught.value, ValueError)
    if "iam_password" in arguments:
        assert "a" * 20 not in all_text_of(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"project_id": b"a" * 32},
        {"iam_user": 1},
        {"credentials": True},
        {"token_provider": "token"},
        {"endpoint": [b"http://127.0.0.1"]},
        {"endpoint": 1},
    ],
)
def test_argument_of_wrong_type_is_rejected(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        dbss.Client(**{"endpoint": UNREACHABLE, **arguments})


# Token providers.


def provider_client(mock: MockService, provided: Any, **more: Any) -> dbss.Client:
    """A client whose provider is a function, or returns a constant."""
    provider = provided if callable(provided) else lambda refused: provided
    return dbss.Client(
        endpoint=mock.http, project_id=mock.project_id, token_provider=provider, **more
    )


async def coroutine(token: str) -> str:
    await asyncio.sleep(0)
    return token


class Asynchronous:
    def __init__(self, token: str) -> None:
        self.token = token

    async def __call__(self, refused: bool) -> dbss.Token:
        return dbss.Token(await coroutine(self.token))


def in_1h() -> datetime:
    return datetime.now(timezone.utc) + timedelta(hours=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda token: lambda refused: token,
        lambda token: lambda refused: dbss.Token(token),
        lambda token: lambda refused: dbss.Token(token, in_1h()),
        lambda token: lambda refused: (token, in_1h().astimezone(timezone(timedelta(hours=8)))),
        lambda token: lambda refused: (token, None),
        lambda token: lambda refused: (token, datetime.max.replace(tzinfo=timezone.utc)),
        lambda token: lambda refused: coroutine(token),
        Asynchronous,
    ],
)
def test_provider_token_is_used(mock: MockService, report: str, make: Callable[..., Any]) -> None:
    with provider_client(mock, make(mock.token)) as client:
        for _ in range(3):
            assert len(client.download_report(None, mock.instance_id, report)) == 3000
        with client.open_report(None, mock.instance_id, report) as stream:
            assert len(stream.read()) == 3000
        assert client.find_credentials().source == "token_provider"
    assert sent_headers(mock, report, "x-auth-token") == [mock.token] * 4


def test_provider_expiry_is_found(mock: MockService) -> None:
    expires = in_1h()
    with provider_client(mock, (mock.token, expires)) as client:
        credentials = client.find_credentials()
    assert credentials.expires_at is not None
    assert credentials.expires_at.tzinfo is timezone.utc
    assert abs(credentials.expires_at - expires) < timedelta(seconds=5)
    with provider_client(mock, (mock.token, datetime.max.replace(tzinfo=timezone.utc))) as client:
        found = client.find_credentials().expires_at
        assert found is not None
        assert found.year == 9999


class CustomError(Exception):
    pass


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def provider_that_raises(error: BaseException) -> Callable[[bool], str]:
    def inner(refused: bool) -> str:
        raise error

    return inner


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CustomError("no vault\r\n\x1b[31m"), "CustomError: no vault"),
        (CustomError(), "CustomError"),
        (CustomError("ü" * 3000), "CustomError: üüü"),
        (CustomError("a\0b\udc80"), "CustomError: a b"),
        (UnprintableError(), "UnprintableError"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
@pytest.mark.parametrize("kind", ["function", "coroutine function"])
def test_provider_exception_is_the_cause(
    mock: MockService, report: str, error: BaseException, words: str, kind: str
) -> None:
    async def asynchronous(refused: bool) -> str:
        await asyncio.sleep(0)
        raise error

    error.__traceback__ = None
    provider = provider_that_raises(error) if kind == "function" else asynchronous
    with provider_client(mock, provider) as client:
        for _ in range(2):
            with pytest.raises(dbss.NoTokenError) as caught:
                client.download_report(None, mock.instance_id, report)
            assert words in caught.value.message
            assert "\n" not in caught.value.message
            cause = caught.value.__cause__
            # asyncio creates a new exception of the same type for some.
            assert cause is error or type(cause) is type(error)
            assert caught.value.attempts == 0
    assert mock.requests(report) == []
    if kind == "function":
        # Only the frame of the provider, and none of the package.
        names = [one.name for one in traceback.extract_tb(error.__traceback__)]
        assert set(names) == {"inner"}


SECRET = "secret-secret-secret"


@pytest.mark.parametrize(
    ("provided", "kind", "words"),
    [
        (None, TypeError, "NoneType"),
        (SECRET.encode(), TypeError, "bytes"),
        ([SECRET], TypeError, "list"),
        ((SECRET,), TypeError, "1 values"),
        ((SECRET, in_1h(), 1), TypeError, "3 values"),
        ((SECRET, 1700000000), TypeError, "expires_at: must be datetime, not int"),
        ((SECRET, datetime(2100, 1, 1)), ValueError, "no time zone"),
        ((SECRET, datetime(2020, 1, 1, tzinfo=timezone.utc)), dbss.InvalidTokenError, "past"),
        ((SECRET, datetime(1900, 1, 1, tzinfo=timezone.utc)), dbss.InvalidTokenError, "past"),
        ("", dbss.InvalidTokenError, "token"),
        (SECRET + " ", dbss.InvalidTokenError, "token"),
        (SECRET + "\0", dbss.InvalidTokenError, "U+0000"),
        (SECRET + "\udc80", dbss.InvalidTokenError, "surrogate"),
        (SECRET * 6000, dbss.InvalidTokenError, "token"),
    ],
)
def test_provider_invalid_token_is_reported_without_it(
    mock: MockService, report: str, provided: Any, kind: type[Exception], words: str
) -> None:
    messages: list[str] = []
    with provider_client(
        mock, provided, log=lambda record: messages.append(record.message)
    ) as client:
        with pytest.raises(dbss.NoTokenError) as caught:
            client.download_report(None, mock.instance_id, report)
        assert words in caught.value.message
        assert type(caught.value.__cause__) is kind
        assert words in str(caught.value.__cause__)
        # Nor the frames, whose variables hold it.
        assert caught.value.__cause__.__traceback__ is None
        assert SECRET not in all_text_of(caught.value) + repr(client) + "".join(messages)
    assert mock.requests(report) == []
    assert SECRET not in repr(dbss.Token(SECRET, in_1h()))


def test_provider_is_called_again_after_failure(mock: MockService, report: str) -> None:
    outcomes: list[Any] = [CustomError("one"), mock.token]

    def provider(refused: bool) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with provider_client(mock, provider) as client:
        with pytest.raises(dbss.NoTokenError, match="one"):
            client.download_report(None, mock.instance_id, report)
        assert client.download_report(None, mock.instance_id, report)


def test_provider_is_called_once_for_32_threads(mock: MockService, report: str) -> None:
    barrier = threading.Barrier(32)
    requested: list[tuple[bool, threading.Thread]] = []
    waiting = threading.Event()

    def provider(refused: bool) -> str:
        requested.append((refused, threading.current_thread()))
        # Wait until all threads have requested it.
        assert waiting.wait(TIMEOUT)
        return mock.token

    def download(_: int) -> int:
        if barrier.wait(TIMEOUT) == 0:
            waiting.set()
        return len(client.download_report(None, mock.instance_id, report))

    with provider_client(mock, provider) as client, ThreadPoolExecutor(32) as pool:
        assert list(pool.map(download, range(32), timeout=TIMEOUT)) == [3000] * 32
    [(refused, thread)] = requested
    assert refused is False
    assert thread.daemon
    assert thread is not threading.main_thread()


def test_provider_failure_is_the_cause_in_32_threads(mock: MockService, report: str) -> None:
    error = CustomError("nothing for anybody")
    barrier = threading.Barrier(32)

    def download(_: int) -> BaseException | None:
        barrier.wait(TIMEOUT)
        try:
            client.download_report(None, mock.instance_id, report)
        except dbss.NoTokenError as caught:
            return caught.__cause__
        return None

    with (
        provider_client(mock, provider_that_raises(error)) as client,
        ThreadPoolExecutor(32) as pool,
    ):
        assert set(pool.map(download, range(32), timeout=TIMEOUT)) == {error}


def test_provider_rejected_token_is_replaced_once(mock: MockService, report: str) -> None:
    requested: list[bool] = []

    def provider(refused: bool) -> str:
        requested.append(refused)
        return mock.token if refused else "a-token-of-nobody"

    with provider_client(mock, provider) as client:
        assert client.download_report(None, mock.instance_id, report)
        assert client.download_report(None, mock.instance_id, report)
    assert requested == [False, True]
    assert sent_headers(mock, report, "x-auth-token") == ["a-token-of-nobody", *[mock.token] * 2]


def test_provider_with_only_rejected_tokens_fails(mock: MockService, report: str) -> None:
    requested: list[bool] = []

    def provider(refused: bool) -> str:
        requested.append(refused)
        return "a-token-of-nobody"

    with (
        provider_client(mock, provider) as client,
        pytest.raises(dbss.UnauthenticatedError) as caught,
    ):
        client.download_report(None, mock.instance_id, report)
    assert requested == [False, True]
    assert "a-token-of-nobody" not in all_text_of(caught.value)


def test_provider_token_is_renewed_before_expiry(mock: MockService, report: str) -> None:
    requested: list[bool] = []

    def provider(refused: bool) -> dbss.Token:
        requested.append(refused)
        # At the second call only a tenth of the lifetime may remain.
        return dbss.Token(mock.token, datetime.now(timezone.utc) + timedelta(milliseconds=50))

    with provider_client(mock, provider) as client:
        until = time.monotonic() + TIMEOUT
        while len(requested) < 3:
            assert client.download_report(None, mock.instance_id, report)
            assert time.monotonic() < until
    assert not any(requested)


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
def test_provider_hangs_calls_keep_their_own_limits(
    mock: MockService, report: str, kind: str
) -> None:
    requested = threading.Event()
    done = threading.Event()

    def provider(refused: bool) -> str:
        requested.set()
        assert done.wait(TIMEOUT)
        return mock.token

    async def asynchronous(refused: bool) -> str:
        return await asyncio.get_running_loop().run_in_executor(None, provider, refused)

    function: Any = provider if kind == "function" else asynchronous
    with provider_client(mock, function, max_attempts=1) as client:
        try:
            for option, error in (
                ("total_timeout", dbss.TotalTimeoutError),
                ("stall_timeout", dbss.StalledError),
            ):
                limits: dict[str, Any] = {option: 0.2}
                started = time.monotonic()
                with pytest.raises(error):
                    client.download_report(
                        None, mock.instance_id, report, operation=dbss.Operation(**limits)
                    )
                assert time.monotonic() - started < 5
            operation = dbss.Operation()
            assert requested.wait(TIMEOUT)
            with ThreadPoolExecutor(1) as pool:
                call = pool.submit(
                    client.download_report,
                    *(None, mock.instance_id, report),
                    operation=operation,
                )
                operation.cancel()
                with pytest.raises(dbss.CancelledError):
                    call.result(TIMEOUT)
        finally:
            done.set()
        # Afterwards it returns a token as usual.
        assert client.download_report(None, mock.instance_id, report)


def test_provider_hangs_ctrl_c_ends_the_call(mock: MockService, report: str) -> None:
    done = threading.Event()
    interrupted: list[float] = []

    def provider(refused: bool) -> str:
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
        assert done.wait(TIMEOUT)
        return mock.token

    with provider_client(mock, provider) as client:
        try:
            with pytest.raises(KeyboardInterrupt):
                client.download_report(None, mock.instance_id, report)
            # The limit is 250 ms on an idle machine.
            assert time.monotonic() - interrupted[0] < 1.5
        finally:
            done.set()
        interrupted.clear()
        client.set_token(mock.token)
        assert client.download_report(None, mock.instance_id, report)


TRAMPOLINE = """
#include <signal.h>
void ask(void (*f)(void *, void *), void *user_data, void *request)
{ raise(SIGINT); f(user_data, request); }
"""


def test_provider_request_interrupted_by_signal_is_not_lost(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    path = tmp_path / "trampoline.so"
    command = [environment.get("CC", "cc"), "-shared", "-fPIC", "-o", path, "-x", "c", "-"]
    subprocess.run(command, input=TRAMPOLINE, check=True, text=True, timeout=TIMEOUT)
    request_token = ctypes.CDLL(str(path)).ask
    request_token.argtypes = (abi.TokenProviderFn, ctypes.py_object, abi.TokenRequest)
    request_token.restype = None
    requests: ffi.RequestQueue = queue.SimpleQueue()
    config = abi.Config()
    abi.config_new(ffi.byref(config))
    try:
        sender = ffi.set_token_provider(config, requests)
        with pytest.raises(KeyboardInterrupt):
            request_token(ffi._TOKEN_CALLBACK, sender(), abi.TokenRequest())
        assert isinstance(requests.get_nowait(), abi.TokenRequest)
    finally:
        abi.config_free(config)
    # The release is signalled in the same way.
    assert requests.get_nowait() is sender
    assert sender() is None


def provider_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "dbss token provider"]


def test_provider_thread_ends_with_the_context(mock: MockService, report: str) -> None:
    assert provider_threads() == []
    client = provider_client(mock, mock.token)
    # No thread before the first request.
    assert provider_threads() == []
    assert client.download_report(None, mock.instance_id, report)
    [thread] = provider_threads()
    stream = client.open_report(None, mock.instance_id, report)
    del client
    gc.collect()
    # A stream may need another token.
    assert len(stream.read()) == 3000
    assert thread.is_alive()
    stream.close()
    thread.join(TIMEOUT)
    assert not thread.is_alive()

    client = provider_client(mock, mock.token)
    assert client.find_credentials()
    [thread] = provider_threads()
    reference = weakref.ref(client)
    del client
    gc.collect()
    assert reference() is None
    thread.join(TIMEOUT)
    assert not thread.is_alive()

    with provider_client(mock, mock.token) as client:
        assert client.find_credentials()
        [thread] = provider_threads()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_provider_is_not_called_after_close(mock: MockService, report: str) -> None:
    requested: list[bool] = []
    first, end = threading.Event(), threading.Event()

    def provider(refused: bool) -> str:
        requested.append(refused)
        first.set()
        end.wait(TIMEOUT)
        return mock.token

    client = provider_client(mock, provider, stall_timeout=0.1, max_attempts=1)
    with pytest.raises(dbss.StalledError):
        client.check()
    assert first.wait(TIMEOUT)
    # A second request waits in the queue.
    with pytest.raises(dbss.StalledError):
        client.check()
    [thread] = provider_threads()
    client.close()
    end.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert requested == [False]


def test_provider_is_released_when_client_creation_fails() -> None:
    class Function:
        def __call__(self, refused: bool) -> str:
            return "token"

    function = Function()
    reference = weakref.ref(function)
    kept = len(ffi._held_by_c)
    with pytest.raises(dbss.FileError):
        dbss.Client(endpoint="https://127.0.0.1:1", token_provider=function, ca_file="/no/such")
    del function
    gc.collect()
    assert reference() is None
    assert len(ffi._held_by_c) == kept


@pytest.mark.parametrize("state", ["idle", "asked", "failed"])
def test_provider_at_interpreter_exit_is_silent(
    mock: MockService, report: str, environment: dict[str, str], state: str
) -> None:
    code = """
import asyncio, os, sys, threading, dbss
asked = threading.Event()
async def provider(refused):
    if os.environ["STATE"] == "asked":
        asked.set()
        await asyncio.sleep(1000)
    if os.environ["STATE"] == "failed":
        raise RuntimeError("failed")
    return os.environ["TOKEN"]
client = dbss.Client(
    endpoint=os.environ["ENDPOINT"], project_id=os.environ["PROJECT"], token_provider=provider
)
def call():
    try:
        print(len(client.download_report(None, os.environ["INSTANCE"], os.environ["REPORT"])))
    except dbss.Error as error:
        print(type(error).__name__)
if os.environ["STATE"] == "asked":
    threading.Thread(target=call, daemon=True).start()
    asked.wait(60)
else:
    call()
"""
    done = python(code, environment, STATE=state, **env_for(mock, report))
    assert (done.returncode, done.stderr) == (0, "")
    expected = {"idle": ["3000\n"], "failed": ["NoTokenError\n"], "asked": ["CancelledError\n", ""]}
    assert done.stdout in expected[state]


def env_for(mock: MockService, report: str) -> dict[str, str]:
    return {
        "ENDPOINT": mock.http,
        "TOKEN": mock.token,
        "PROJECT": mock.project_id,
        "INSTANCE": mock.instance_id,
        "REPORT": report,
    }


@pytest.mark.parametrize("before", ["unused", "used", "asked"])
def test_provider_works_in_forked_children(mock: MockService, report: str, before: str) -> None:
    """Whatever its thread did in the parent."""
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()
    parent = os.getpid()
    requested = threading.Event()
    done = threading.Event()

    inherited = f"{before}-" * 30
    mock.add_token(inherited)

    def provider(refused: bool) -> str:
        if os.getpid() == parent and before == "asked":
            requested.set()
            assert done.wait(TIMEOUT)
        return mock.token if refused or os.getpid() != parent else inherited

    def child() -> None:
        try:
            results.put([download() for _ in range(3)])
        except BaseException as error:
            results.put(repr(error))
            raise

    def download() -> int:
        return len(client.download_report(None, mock.instance_id, report))

    with provider_client(mock, provider) as client, ThreadPoolExecutor(1) as pool:
        waiting = None
        if before == "used":
            assert download() == 3000
            # So that the children need a token, too.
            mock.revoke_token(inherited)
        if before == "asked":
            waiting = pool.submit(download)
            assert requested.wait(TIMEOUT)
        children = [fork.Process(target=child) for _ in range(3)]
        for one in children:
            one.start()
        for one in children:
            one.join(TIMEOUT)
            assert one.exitcode == 0
        assert [results.get() for _ in children] == [[3000] * 3] * 3
        done.set()
        if waiting is not None:
            assert waiting.result(TIMEOUT) == 3000
        assert download() == 3000


def test_provider_many_requests_leak_nothing(
    mock: MockService, report: str, environment: dict[str, str]
) -> None:
    code = """
import gc, os, threading, dbss
from dbss import ffi
def provider(refused):
    calls.append(refused)
    if len(calls) % 2:
        raise RuntimeError("x" * 1000)
    return os.environ["TOKEN"]
calls = []
def use():
    with dbss.Client(endpoint=os.environ["ENDPOINT"], token_provider=provider) as client:
        for _ in range(2):
            try:
                client.find_credentials()
            except dbss.NoTokenError:
                pass
def left(times):
    for _ in range(times):
        use()
    gc.collect()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(60)
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[1])
    return len(os.listdir("/proc/self/fd")), len(ffi._held_by_c), memory
before = left(50)
after = left(500)
print(len(calls), threading.active_count(), [b - a for a, b in zip(before, after)][:2])
print(after[2] - before[2])
"""
    done = python(code, environment, **env_for(mock, report))
    assert (done.returncode, done.stderr) == (0, "")
    first, pages = done.stdout.splitlines()
    assert first == "1100 1 [0, 0]"
    assert int(pages) < 2000


# Logins.


def test_login_is_the_only_extra_request(
    mock: MockService, login: dict[str, Any], report: str
) -> None:
    mock.clear_requests()
    with dbss.Client(**login) as client:
        for _ in range(3):
            assert client.download_report(None, mock.instance_id, report)
        credentials = client.find_credentials()
    assert [one["report"] for one in mock.requests()] == ["@iam.tokens", *[report] * 3]
    assert credentials.source == "iam_user"
    assert credentials.name == mock.user
    assert mock.iam in credentials.description
    assert credentials.project_id == mock.project_id
    assert credentials.expires_at is not None
    ahead = credentials.expires_at - datetime.now(timezone.utc)
    assert timedelta(hours=23) < ahead < timedelta(hours=25)
    with pytest.raises(dataclasses.FrozenInstanceError):
        credentials.source = "x"  # type: ignore[misc]
    assert mock.password not in repr(credentials) + repr(client)


def test_login_is_repeated_once_when_token_is_revoked(
    mock: MockService, login: dict[str, Any], report: str
) -> None:
    barrier = threading.Barrier(33)
    halves = threading.Barrier(33)

    def download(_: int) -> list[int]:
        lengths = []
        for number in range(6):
            if number == 3:
                halves.wait(TIMEOUT)
                halves.wait(TIMEOUT)
            lengths.append(len(client.download_report(None, mock.instance_id, report)))
        barrier.wait(TIMEOUT)
        return lengths

    with dbss.Client(**login) as client, ThreadPoolExecutor(32) as pool:
        mock.clear_requests()
        calls = [pool.submit(download, number) for number in range(32)]
        halves.wait(TIMEOUT)
        mock.revoke_issued_tokens()
        halves.wait(TIMEOUT)
        barrier.wait(TIMEOUT)
        for call in calls:
            assert call.result(TIMEOUT) == [3000] * 6
    # The first login, and the one after the rejections.
    assert len(mock.requests("@iam.tokens")) == 2


def test_login_of_another_call_that_stalls_is_repeated(
    mock: MockService, login: dict[str, Any], report: str
) -> None:
    def download(stall_timeout: float) -> bytes:
        with dbss.Operation(stall_timeout=stall_timeout) as operation:
            return client.download_report(None, mock.instance_id, report, operation=operation)

    mock.clear_requests()
    mock.fault("@iam.tokens", no_answer=True, times=1)
    with dbss.Client(**login, max_attempts=1) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(download, 1)
        while not mock.requests("@iam.tokens"):
            time.sleep(0.01)
        second = pool.submit(download, 30)
        with pytest.raises(dbss.StalledError):
            first.result(TIMEOUT)
        assert len(second.result(TIMEOUT)) == 3000
    assert len(mock.requests("@iam.tokens")) == 2


def test_login_wrong_password_is_sent_once(
    mock: MockService, login: dict[str, Any], report: str
) -> None:
    mock.clear_requests()
    password = "wrong-wrong-wrong"
    messages: list[str] = []
    with dbss.Client(
        **{**login, "iam_password": password},
        log=lambda record: messages.append(record.message),
    ) as client:
        for call in (
            lambda: client.download_report(None, mock.instance_id, report),
            client.find_credentials,
            client.check,
        ):
            with pytest.raises(dbss.UnauthenticatedError) as caught:
                call()
            assert "The username or password is wrong" in caught.value.message
            assert caught.value.service_message == "The username or password is wrong."
            assert mock.user in caught.value.message
            assert caught.value.request_id
            assert password not in all_text_of(caught.value) + repr(client) + "".join(messages)
    assert len(mock.requests("@iam.tokens")) == 1
    assert len(mock.requests()) == 1


def test_login_transient_iam_failure_is_retried(
    mock: MockService, login: dict[str, Any], report: str
) -> None:
    mock.fault("@iam.tokens", status=503, times=1)
    with dbss.Client(**login) as client:
        assert client.download_report(None, mock.instance_id, report)
    mock.fault("@iam.tokens", status=503, times=1)
    with dbss.Client(**login, max_attempts=1) as client:
        with pytest.raises(dbss.ServerError, match="IAM"):
            client.download_report(None, mock.instance_id, report)
        # The password was not the cause.
        assert client.download_report(None, mock.instance_id, report)


def test_login_in_forked_child_works(mock: MockService, login: dict[str, Any], report: str) -> None:
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()

    def child() -> None:
        try:
            results.put(len(client.download_report(None, mock.instance_id, report)))
        except BaseException as error:
            results.put(repr(error))
            raise

    def run() -> None:
        process = fork.Process(target=child)
        process.start()
        process.join(TIMEOUT)
        assert process.exitcode == 0
        assert results.get() == 3000

    with dbss.Client(**login) as client:
        mock.clear_requests()
        run()
        assert client.download_report(None, mock.instance_id, report)
        assert len(mock.requests("@iam.tokens")) == 2
        run()
        assert len(mock.requests("@iam.tokens")) == 2


# Credentials that are found.


def set_key(monkeypatch: pytest.MonkeyPatch, mock: MockService, **more: str) -> None:
    monkeypatch.setenv("HUAWEICLOUD_SDK_AK", mock.access_key)
    monkeypatch.setenv("HUAWEICLOUD_SDK_SK", mock.secret_key)
    for name, value in more.items():
        monkeypatch.setenv(f"HUAWEICLOUD_SDK_{name}", value)


def write_profile(mock: MockService, path: Path | None = None, **more: str) -> Path:
    keys = {"ak": mock.access_key, "sk": mock.secret_key, **more}
    lines = ["[basic]", *(f"{key} = {value}" for key, value in keys.items() if value)]
    path = path or Path.home() / ".huaweicloud/credentials"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def masked(key: str) -> str:
    return f"{key[:4]}***{key[-4:]}"


def test_credentials_in_environment_need_three_lines(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a key in the environment; endpoints come from a variable and a file."""
    set_key(monkeypatch, mock, REGION_DBSS_CN_NORTH_4=mock.http)
    write_profile(mock, ak="AK-OF-ANOTHER-ONE", iam_endpoint=mock.iam)
    monkeypatch.setenv("HUAWEICLOUD_SDK_PROJECT_ID", mock.project_id)
    reports = f"{tmp_path}/"
    with dbss.Client(region="cn-north-4", credentials="default") as client:
        path = client.download_report_to(None, mock.instance_id, mock.pdf["id"], reports)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == mock.pdf["sha256"]["en-us"]


def test_credentials_default_tries_sources_in_order(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], report: str
) -> None:
    seen = []

    def use() -> None:
        with dbss.Client(credentials="default", **found) as client:
            assert client.download_report(None, mock.instance_id, report)
            seen.append(client.find_credentials())

    use()
    profile = write_profile(mock)
    use()
    set_key(monkeypatch, mock)
    use()
    monkeypatch.setenv("HUAWEICLOUD_SDK_AK", "")
    monkeypatch.setenv("HUAWEICLOUD_SDK_SK", "")
    use()
    assert [one.source for one in seen] == ["metadata", "profile", "environment", "profile"]
    assert mock.metadata in seen[0].description
    assert str(profile) in seen[1].description
    assert "HUAWEICLOUD_SDK_AK" in seen[2].description
    assert seen[0].expires_at is not None
    assert [one.expires_at for one in seen[1:]] == [None] * 3
    assert [one.name for one in seen[1:]] == [masked(mock.access_key)] * 3
    assert mock.secret_key not in repr(seen)


@pytest.mark.parametrize("source", ["environment", "profile", "metadata"])
def test_credentials_single_source_is_used(
    mock: MockService,
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, Any],
    report: str,
    source: str,
) -> None:
    if source == "environment":
        write_profile(mock, ak="")
        set_key(monkeypatch, mock, PROJECT_ID=mock.project_id)
    elif source == "profile":
        monkeypatch.setenv("HUAWEICLOUD_SDK_AK", "a half")
        write_profile(mock, project_id=mock.project_id)
    else:
        monkeypatch.setenv("HUAWEICLOUD_SDK_AK", "a half")
        write_profile(mock, ak="")
    mock.clear_requests()
    with dbss.Client(credentials=source, **found) as client:
        assert client.download_report(None, mock.instance_id, report)
        credentials = client.find_credentials()
        client.check()
    assert credentials.source == source
    assert credentials.project_id == (None if source == "metadata" else mock.project_id)
    assert len(mock.requests("@metadata.key")) == (source == "metadata")
    assert len(mock.requests("@iam.projects")) == (source == "metadata")


def test_profile_path_and_iam_endpoint_are_configurable(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, report: str
) -> None:
    path = write_profile(mock, tmp_path / "my profile", iam_endpoint=mock.iam)
    monkeypatch.setenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE", str(path))
    with dbss.Client(endpoint=mock.http, region=mock.region, credentials="profile") as client:
        assert client.download_report(None, mock.instance_id, report)
        assert str(path) in client.find_credentials().description


def test_environment_temporary_key_is_used(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, report: str
) -> None:
    set_key(monkeypatch, mock, SECURITY_TOKEN="the-security-token")
    with dbss.Client(endpoint=mock.http, credentials="environment") as client:
        assert client.download_report(mock.project_id, mock.instance_id, report)
    assert sent_headers(mock, report, "x-security-token") == ["the-security-token"]


def test_profile_readable_by_others_logs_warning(mock: MockService) -> None:
    path = write_profile(mock)
    path.chmod(0o644)
    messages: list[tuple[int, str]] = []
    client = dbss.Client(
        endpoint=mock.http,
        credentials="profile",
        log=lambda record: messages.append((record.level, record.message)),
    )
    # The warning comes before any call.
    [warning] = [text for level, text in messages if level == dbss.LOG_WARNING]
    assert str(path) in warning
    assert mock.secret_key not in warning
    client.close()


@pytest.mark.parametrize(
    ("variables", "profile", "credentials", "kind", "words"),
    [
        ({"AK": "x"}, None, "default", dbss.InvalidCredentialsError, "HUAWEICLOUD_SDK_SK"),
        ({"SK": "secret"}, None, "default", dbss.InvalidCredentialsError, "HUAWEICLOUD_SDK_AK"),
        (
            {"AK": "x", "SK": "secret secret"},
            None,
            "environment",
            dbss.InvalidCredentialsError,
            "HUAWEICLOUD_SDK_SK",
        ),
        ({}, None, "environment", dbss.NotConfiguredError, "HUAWEICLOUD_SDK_AK"),
        ({}, None, "profile", dbss.NotConfiguredError, ".huaweicloud/credentials"),
        ({}, "[basic]\nak = x\n", "default", dbss.InvalidCredentialsError, "credentials"),
        ({}, "[basic]\nsk = secret\n", "default", dbss.InvalidCredentialsError, "credentials"),
        ({}, "ak = x\nsk = secret\n", "profile", dbss.InvalidCredentialsError, "credentials"),
        ({}, "[basic]\nsecret secret\n", "profile", dbss.InvalidCredentialsError, "credentials"),
        (
            {"CREDENTIALS_FILE": "/no/such/profile"},
            None,
            "default",
            dbss.InvalidCredentialsError,
            "/no/such/profile",
        ),
    ],
)
def test_malformed_credentials_are_reported_at_once(
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, Any],
    variables: dict[str, str],
    profile: str | None,
    credentials: str,
    kind: type[dbss.Error],
    words: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"HUAWEICLOUD_SDK_{name}", value)
    if profile is not None:
        path = Path.home() / ".huaweicloud/credentials"
        path.parent.mkdir()
        path.write_text(profile)
    with pytest.raises(kind) as caught:
        dbss.Client(credentials=credentials, **found)
    assert words in caught.value.message
    assert isinstance(caught.value, ValueError)
    assert "secret" not in all_text_of(caught.value)


@pytest.mark.parametrize("where", ["nobody", "never_accepts", "silent"])
def test_unreachable_metadata_is_given_up_soon(
    mock: MockService, found: dict[str, Any], where: str
) -> None:
    if where == "silent":
        mock.fault("@metadata.token", no_answer=True)
    else:
        found["metadata_endpoint"] = UNREACHABLE if where == "nobody" else mock.never_accepts
    with dbss.Client(credentials="default", **found) as client:
        started = time.monotonic()
        with pytest.raises(dbss.NotConfiguredError) as caught:
            client.find_credentials()
        assert time.monotonic() - started < 3
    for words in ("HUAWEICLOUD_SDK_AK", ".huaweicloud/credentials"):
        assert words in caught.value.message


def test_agency_key_is_renewed(mock: MockService, found: dict[str, Any], report: str) -> None:
    mock.clear_requests()
    with dbss.Client(credentials="metadata", **found) as client:
        assert client.download_report(mock.project_id, mock.instance_id, report)
        assert mock.revoke_metadata_keys() >= 1
        assert client.download_report(mock.project_id, mock.instance_id, report)
    assert len(mock.requests("@metadata.key")) == 2
    statuses = [one["status"] for one in mock.requests(report)]
    assert statuses == [200, 401, 200]


# Projects and endpoints.


@pytest.mark.parametrize("where", ["option", "profile", "variable"])
def test_iam_endpoint_comes_from_option_profile_or_variable(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, report: str, where: str
) -> None:
    monkeypatch.setenv(
        "HUAWEICLOUD_SDK_IAM_ENDPOINT", mock.iam if where == "variable" else UNREACHABLE
    )
    provided: dict[str, Any] = {"credentials": "profile"}
    write_profile(mock, **({"iam_endpoint": mock.iam} if where == "profile" else {}))
    if where == "option":
        provided["iam_endpoint"] = mock.iam
    mock.clear_requests()
    with dbss.Client(endpoint=mock.http, region=mock.region, **provided) as client:
        assert client.download_report(None, mock.instance_id, report)
    assert len(mock.requests("@iam.projects")) == 1


@pytest.mark.parametrize("where", ["profile", "variable"])
def test_iam_endpoint_without_scheme_is_https(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, report: str, where: str
) -> None:
    host = mock.iam_https.removeprefix("https://")
    write_profile(mock, **({"iam_endpoint": host} if where == "profile" else {}))
    if where == "variable":
        monkeypatch.setenv("HUAWEICLOUD_SDK_IAM_ENDPOINT", host)
    mock.clear_requests()
    more = {"region": mock.region, "ca_file": mock.ca_file, "credentials": "profile"}
    with dbss.Client(endpoint=mock.http, **more) as client:
        assert client.download_report(None, mock.instance_id, report)
    assert [one["listener"] for one in mock.requests("@iam.projects")] == ["iam_https"]


@pytest.mark.parametrize("where", ["variable", "file", "option"])
def test_endpoint_without_scheme_is_https(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, report: str, where: str
) -> None:
    host = mock.https.removeprefix("https://")
    options = {"region": "cn-north-4", "token": mock.token, "ca_file": mock.ca_file}
    if where == "option":
        options["endpoint"] = host
    elif where == "variable":
        monkeypatch.setenv("HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4", host)
    else:
        file = tmp_path / "regions.yaml"
        file.write_text(f"DBSS:\n  - id: cn-north-4\n    endpoint: {host}\n")
        monkeypatch.setenv("HUAWEICLOUD_SDK_REGIONS_FILE", str(file))
    mock.clear_requests()
    with dbss.Client(**options) as client:
        assert client.download_report(mock.project_id, mock.instance_id, report)
    assert [one["listener"] for one in mock.requests(report)] == ["https"]


@pytest.mark.parametrize("refused", ["permission", "with a code"])
def test_project_is_found_without_the_permission_to_list_all(
    mock: MockService, report: str, refused: str
) -> None:
    mock.add_project("xx-other-1")
    if refused == "permission":
        mock.set_iam(may_list_projects=False)
    else:
        mock.fault("@iam.projects", status=403, json={"error_code": "IAM.0003"})
    mock.clear_requests()
    iam = {"endpoint": mock.http, "iam_endpoint": mock.iam, "token": mock.token}
    with dbss.Client(region=mock.region, **iam) as client:
        for _ in range(2):
            assert client.download_report(None, mock.instance_id, report)
    targets = [one["target"] for one in mock.requests() if one["listener"] == "iam"]
    assert targets == [f"/v3/projects?name={mock.region}", "/v3/auth/projects"]
    with (
        dbss.Client(region="xx-none-1", **iam) as client,
        pytest.raises(dbss.NotConfiguredError, match="no project named xx-none-1"),
    ):
        client.check()
    mock.add_project("xx-other-1")
    with (
        dbss.Client(region="xx-other-1", **iam) as client,
        pytest.raises(dbss.NotConfiguredError, match="several projects named"),
    ):
        client.check()
    mock.fault("@iam.auth_projects", status=403, json={"error_msg": "never"})
    with (
        dbss.Client(region=mock.region, **iam) as client,
        pytest.raises(dbss.ForbiddenError, match="never"),
    ):
        client.check()


def test_login_uses_iam_endpoint_of_environment(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, login: dict[str, Any], report: str
) -> None:
    del login["iam_endpoint"]
    monkeypatch.setenv("HUAWEICLOUD_SDK_IAM_ENDPOINT", mock.iam)
    with dbss.Client(**login) as client:
        assert client.download_report(mock.project_id, mock.instance_id, report)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("http://iam.example.com", dbss.PlaintextRefusedError),
        ("ftp://iam.example.com", dbss.InvalidEndpointError),
        ("https://user:password@iam.example.com", dbss.InvalidEndpointError),
    ],
)
def test_environment_iam_endpoint_invalid_is_reported(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, value: str, kind: type[dbss.Error]
) -> None:
    monkeypatch.setenv("HUAWEICLOUD_SDK_IAM_ENDPOINT", value)
    with pytest.raises(kind) as caught:
        dbss.Client(endpoint=mock.http, region=mock.region, token=mock.token)
    assert caught.value.parameter == "HUAWEICLOUD_SDK_IAM_ENDPOINT"
    # The variable has no effect if IAM is not used.
    dbss.Client(endpoint=mock.http, token=mock.token).close()
    assert "password" not in caught.value.message.replace("no user or password", "")


def test_project_of_region_is_looked_up_once(mock: MockService, report: str) -> None:
    mock.clear_requests()
    with dbss.Client(
        endpoint=mock.http,
        region=mock.region,
        iam_endpoint=mock.iam,
        token=mock.token,
    ) as client:
        with ThreadPoolExecutor(8) as pool:
            calls = [
                pool.submit(client.download_report, None, mock.instance_id, report)
                for _ in range(8)
            ]
            assert all(len(call.result(TIMEOUT)) == 3000 for call in calls)
        client.check()
        assert client.find_credentials().project_id is None
    assert len(mock.requests("@iam.projects")) == 1


def test_project_has_the_documented_precedence(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], report: str
) -> None:
    """The order is: the call, the client, the credentials."""
    other = "other-project-0123456789-0123456789"
    set_key(monkeypatch, mock, PROJECT_ID=other)
    with dbss.Client(credentials="default", **found) as client:
        with pytest.raises(dbss.ForbiddenError):
            client.download_report(None, mock.instance_id, report)
        with pytest.raises(dbss.ForbiddenError):
            client.check()
        assert client.download_report(mock.project_id, mock.instance_id, report)
        client.check(mock.project_id)
        assert client.find_credentials().project_id == other
    with dbss.Client(credentials="default", project_id=mock.project_id, **found) as client:
        assert client.download_report(None, mock.instance_id, report)
        assert client.find_credentials().project_id == mock.project_id
        with pytest.raises(dbss.ForbiddenError):
            client.download_report(other, mock.instance_id, report)


def test_project_unknown_or_ambiguous_is_an_error(mock: MockService, report: str) -> None:
    with (
        dbss.Client(endpoint=mock.http, token=mock.token) as client,
        pytest.raises(dbss.NotConfiguredError) as caught,
    ):
        client.download_report(None, mock.instance_id, report)
    assert caught.value.parameter == "project"
    mock.add_project(mock.region)
    with (
        dbss.Client(
            endpoint=mock.http,
            region=mock.region,
            iam_endpoint=mock.iam,
            token=mock.token,
        ) as client,
        pytest.raises(dbss.Error) as ambiguous,
    ):
        client.download_report(None, mock.instance_id, report)
    assert "project" in ambiguous.value.message


@pytest.mark.parametrize("kind", [list, tuple, ",".join])
def test_endpoint_unreachable_fails_over_and_stays(
    mock: MockService, report: str, kind: Callable[..., Any]
) -> None:
    messages: list[str] = []
    with dbss.Client(
        endpoint=kind([UNREACHABLE, mock.http, mock.http_other]),
        token=mock.token,
        log=lambda record: record.level == dbss.LOG_WARNING and messages.append(record.message),
    ) as client:
        for _ in range(3):
            assert client.download_report(mock.project_id, mock.instance_id, report)
        assert repr(client) == f"<dbss.Client {UNREACHABLE},{mock.http},{mock.http_other}>"
    assert {one["listener"] for one in mock.requests(report)} == {"http"}
    # The failover happened once.
    [warning] = messages
    assert UNREACHABLE in warning
    assert mock.http in warning


def test_endpoint_of_region_comes_from_variable_or_file(
    mock: MockService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, report: str
) -> None:
    def listener() -> str:
        mock.clear_requests()
        with dbss.Client(region="cn-north-4", token=mock.token) as client:
            assert client.download_report(mock.project_id, mock.instance_id, report)
        [request] = mock.requests(report)
        name: str = request["listener"]
        return name

    def regions(endpoint: str) -> str:
        return f"DBSS:\n  - id: 'cn-north-4'\n    endpoint: '{endpoint}'\n"

    file = Path.home() / ".huaweicloud/regions.yaml"
    file.parent.mkdir()
    file.write_text(regions(mock.http))
    assert listener() == "http"
    named = tmp_path / "regions.yaml"
    named.write_text(regions(mock.http_other))
    monkeypatch.setenv("HUAWEICLOUD_SDK_REGIONS_FILE", str(named))
    assert listener() == "http_other"
    monkeypatch.setenv("HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4", mock.http)
    assert listener() == "http"


# Checks and secrets.


def test_check_accepted_rejected_and_forbidden(mock: MockService, found: dict[str, Any]) -> None:
    with dbss.Client(token=mock.token, **found) as client:
        client.check()
        operation = dbss.Operation()
        client.check(mock.project_id, operation=operation)
        assert operation.attempts == 1
        with pytest.raises(dbss.ForbiddenError) as caught:
            client.check("other-project-0123456789-0123456789")
        assert caught.value.service_code is None
        with pytest.raises(dbss.InvalidIdError):
            client.check("short")
        with pytest.raises(TypeError):
            client.check(1)  # type: ignore[arg-type]
        operation.cancel()
        for call in (client.check, client.find_credentials):
            with pytest.raises(dbss.CancelledError):
                call(operation=operation)
        client.set_token("a-token-of-nobody")
        with pytest.raises(dbss.UnauthenticatedError):
            client.check()
        assert client.find_credentials().source == "token"
    with pytest.raises(ValueError, match="the client is closed"):
        client.check()
    with pytest.raises(ValueError, match="the client is closed"):
        client.find_credentials()


def test_client_without_credentials_raises_not_configured(
    mock: MockService, found: dict[str, Any]
) -> None:
    with dbss.Client(**found) as client:
        for call in (client.check, client.find_credentials):
            with pytest.raises(dbss.NotConfiguredError) as caught:
                call()
            assert caught.value.parameter == "credentials"


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(lambda token: "".join(f"%{ord(c):02X}" for c in token), id="percent-encoded"),
        pytest.param(
            lambda token: token[:9] + "".join(f"%{ord(c):02x}" for c in token[9:]), id="half"
        ),
        pytest.param(lambda token: token.replace("/", "\\/"), id="escaped"),
        pytest.param(
            lambda token: "\r\n ".join(token[i : i + 20] for i in range(0, len(token), 20)),
            id="folded",
        ),
        pytest.param(lambda token: "\u200b".join(token), id="hidden characters"),
        pytest.param(lambda token: token[100:200], id="cut on both sides"),
        pytest.param(
            lambda token: f"{token[:40]} and {token[50:90]} and {token[-40:]}", id="pieces"
        ),
    ],
)
@pytest.mark.parametrize("form", ["json", "body"])
def test_token_repeated_by_server_is_redacted_in_every_encoding(
    mock: MockService, report: str, disguise: Callable[[str], str], form: str
) -> None:
    token = mock.token.replace("MII", "MII/+=")
    secret = disguise(token)
    echoed = (
        {"error_code": "E", "error_msg": f"no {secret} here"}
        if form == "json"
        else f"no {secret} here"
    )
    mock.fault(report, status=400, times=1, **{form: echoed})
    with (
        dbss.Client(endpoint=mock.http, token=token) as client,
        pytest.raises(dbss.BadRequestError) as caught,
    ):
        client.download_report(mock.project_id, mock.instance_id, report)
    message = str(caught.value) + str(caught.value.service_message)
    assert "no ***" in message
    plain = re.sub(r"[^0-9A-Za-z/+=]", "", urllib.parse.unquote(message))
    assert not any(token[i : i + 32] in plain for i in range(len(token) - 32))


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(lambda secret: secret, id="as it is"),
        pytest.param(lambda secret: urllib.parse.quote(secret, safe=""), id="percent-encoded"),
        pytest.param(lambda secret: json.dumps(secret)[1:-1], id="as JSON"),
        pytest.param(
            lambda secret: "".join(f"\\u{ord(c):04x}" for c in secret), id="as JSON, all of it"
        ),
    ],
)
@pytest.mark.parametrize(
    "password",
    [
        "11111112",
        "aaaaaaaB",
        "abababac",
        "correct horse battery",
        "pass\\word12",
        "Ab%20%21c!",
        "S3cret%41word",
        "a b c d e f",
        "geh\xe9im-wort",
        "tab\tsecret99",
        'quote"sec"ret',
        "a\\u0041bcdefgh",
    ],
)
def test_password_repeated_by_server_is_redacted_in_every_encoding(
    mock: MockService, login: dict[str, Any], password: str, disguise: Callable[[str], str]
) -> None:
    for form in ("json", "body"):
        echoed = f"no xy{disguise(password)} here"
        fault = {"json": {"error_code": "E", "error_msg": echoed}, "body": echoed}[form]
        mock.fault("@iam.tokens", status=400, times=1, **{form: fault})
        messages: list[str] = []
        with (
            dbss.Client(
                **{**login, "iam_password": password},
                log=lambda record, messages=messages: messages.append(record.message),
            ) as client,
            pytest.raises(dbss.BadRequestError) as caught,
        ):
            client.check()
        assert caught.value.service_message == "no xy*** here"
        seen = all_text_of(caught.value) + "".join(messages)
        assert not any(one in seen for one in (password, disguise(password)))


@pytest.mark.parametrize("kind", ["iam_user", "token_provider", "environment", "metadata"])
def test_secret_appears_nowhere(
    mock: MockService,
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, Any],
    login: dict[str, Any],
    report: str,
    kind: str,
) -> None:
    messages: list[str] = []
    arguments: dict[str, Any] = {**found, "credentials": kind}
    if kind == "iam_user":
        arguments = login
    elif kind == "token_provider":
        arguments = {**found, "token_provider": lambda refused: mock.token}
    elif kind == "environment":
        set_key(monkeypatch, mock, SECURITY_TOKEN="the-security-token")
    mock.clear_requests()
    seen = []
    with dbss.Client(**arguments, log=lambda record: messages.append(record.message)) as client:
        assert client.download_report(None, mock.instance_id, report)
        # The service knows these, and may repeat them.
        echoed = {
            value
            for header in ("x-auth-token", "x-security-token")
            for value in sent_headers(mock, report, header)
            if value
        }
        own = (
            echoed
            | {
                "iam_user": {mock.password},
                "token_provider": {mock.token},
                "environment": {mock.secret_key, "the-security-token"},
                "metadata": set(),
            }[kind]
        )
        assert own
        echo = " ".join(sorted(echoed))
        for fault in (
            {"status": 400, "json": {"error_code": "A", "error_msg": echo}},
            {"status": 403, "body": echo},
            {"status": 302, "headers": [["Location", "/elsewhere"]]},
            {"no_answer": True},
        ):
            mock.fault(report, times=1, **fault)
            with pytest.raises(dbss.Error) as caught:
                client.download_report(
                    *(None, mock.instance_id, report),
                    operation=dbss.Operation(max_attempts=1, stall_timeout=0.5),
                )
            seen.append(all_text_of(caught.value))
        seen += [repr(client.find_credentials()), repr(client)]
    everything = "\n".join([*seen, *messages])
    for secret in own:
        assert secret not in everything


@pytest.mark.parametrize("kind", ["iam_user", "token_provider", "environment", "metadata"])
def test_credentials_are_not_sent_to_another_origin(
    mock: MockService,
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, Any],
    login: dict[str, Any],
    report: str,
    kind: str,
) -> None:
    arguments: dict[str, Any] = {**found, "credentials": kind}
    if kind == "iam_user":
        arguments = login
    elif kind == "token_provider":
        arguments = {**found, "token_provider": lambda refused: "x" if refused else mock.token}
    elif kind == "environment":
        set_key(monkeypatch, mock, SECURITY_TOKEN="the-security-token")
    mock.clear_requests()
    path = f"/v1/{mock.project_id}/audit/{mock.instance_id}/reports/{report}/download"
    mock.fault(report, status=302, headers=[["Location", mock.http_other + path]], times=1)
    with dbss.Client(**arguments, follow_redirects=True) as client:
        with pytest.raises(dbss.UnauthenticatedError):
            client.download_report(None, mock.instance_id, report)
        mock.clear_faults()
        assert client.download_report(None, mock.instance_id, report)
    # The rejection by the other origin does not affect the credentials.
    requests = mock.requests(report)
    assert [one["listener"] for one in requests] == ["http", "http_other", "http"]
    names = [{name.lower() for name, _ in one["headers"]} for one in requests]
    credentials = {"x-auth-token", "authorization", "x-security-token"}
    assert [bool(one & credentials) for one in names] == [True, False, True]
    assert len(mock.requests("@iam.tokens")) == (kind == "iam_user")
    assert len(mock.requests("@metadata.key")) == (kind == "metadata")
