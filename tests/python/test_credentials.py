"""Credentials in the Python package: arguments, providers, threads and exceptions.

What holds for every language is in the conformance suite, credentials.json.
"""

import asyncio
import ctypes
import dataclasses
import gc
import json
import os
import queue
import signal
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import dbss
import pytest
from dbss import _abi as abi
from dbss import aio, ffi

from support import PROMPT, TIMEOUT, UNREACHABLE, Child, CustomError, compiled, wait_until


@pytest.fixture
def report(new_report):
    return new_report(3000)


@pytest.fixture
def login(mock):
    """The arguments for a login at the mock service."""
    return {
        "project_id": None,
        "region": mock.region,
        "iam_endpoint": mock.iam,
        "iam_user": mock.user,
        "iam_password": mock.password,
        "iam_domain": mock.domain,
    }


@pytest.fixture
def provider_client(connect):
    """A client whose provider is a function, or returns a constant."""

    def new_client(provided, **more):
        provider = provided if callable(provided) else lambda refused: provided
        return connect(token_provider=provider, **more)

    return new_client


def sent_headers(requests, header):
    return [{name.lower(): value for name, value in one["headers"]}.get(header) for one in requests]


def all_text_of(error):
    """All visible text of an exception and of its chained exceptions."""
    seen, todo = [], [error]
    while todo:
        if (one := todo.pop()) is not None:
            seen += [str(one), repr(one), repr(one.args), repr(vars(one))]
            todo += [one.__cause__, one.__context__]
    frames = traceback.TracebackException.from_exception(error, capture_locals=False)
    return "\n".join([*seen, *frames.format()])


# Arguments.


def test_each_kind_of_credentials_is_an_argument(mock, connect, login, report, monkeypatch):
    key = {"access_key": mock.access_key, "secret_key": mock.secret_key}
    agency = {"agency_name": mock.agency, "agency_domain": mock.agency_domain}
    iam = {"iam_endpoint": mock.iam, "region": mock.region, "project_id": None}
    monkeypatch.setenv("HUAWEICLOUD_SDK_AK", mock.access_key)
    monkeypatch.setenv("HUAWEICLOUD_SDK_SK", mock.secret_key)
    for source, arguments in {
        "token": {"token": mock.token, **iam},
        "access_key": {**key, "security_token": "a-security-token", **iam},
        "iam_user": login,
        "environment": {"credentials": "default", **iam},
        "agency": {**key, **agency, **iam, "agency_duration": timedelta(minutes=30).seconds},
    }.items():
        with connect(**arguments) as client:
            assert len(client.download_report(*report.ids)) == 3000
            assert client.find_credentials().source == source
    assert sent_headers(report.requests(), "x-security-token")[1] == "a-security-token"
    [body] = [json.loads(one["body"]) for one in mock.requests("@iam.keys")]
    assert body["auth"]["identity"]["assume_role"]["duration_seconds"] == 1800


def test_found_credentials_are_constant_and_without_secrets(mock, connect, login):
    with connect(**login) as client:
        credentials = client.find_credentials()
        assert mock.password not in repr(credentials) + repr(client)
    assert credentials.project_id == mock.project_id
    ahead = credentials.expires_at - datetime.now(timezone.utc)
    assert timedelta(hours=23) < ahead < timedelta(hours=25)
    with pytest.raises(dataclasses.FrozenInstanceError):
        credentials.source = "x"


@pytest.mark.parametrize("kind", [list, tuple, ",".join])
def test_endpoints_are_a_list_or_a_text(mock, report, kind):
    both = [UNREACHABLE, mock.http]
    with dbss.Client(endpoint=kind(both), token=mock.token, project_id=mock.project_id) as client:
        assert client.download_report(*report.ids)
        assert repr(client) == f"<dbss.Client {','.join(both)}>"


# No text of an exception has a secret, nor what its variables hold.


def test_wrong_password_is_nowhere_in_the_exception(connect, login):
    password = "wrong-wrong-wrong"
    with connect(**{**login, "iam_password": password}) as client:
        for call in (client.find_credentials, client.check):
            with pytest.raises(dbss.UnauthenticatedError) as caught:
                call()
            assert password not in all_text_of(caught.value) + repr(client)


def test_token_that_the_service_repeats_is_nowhere_in_the_exception(mock, provider_client, report):
    limits = {"max_attempts": 1, "stall_timeout": 2}
    with provider_client(mock.token) as client:
        for fault in ({"status": 400, "json": {"error_msg": mock.token}}, {"no_response": True}):
            report.fault(times=1, **fault)
            with pytest.raises(dbss.Error) as caught:
                client.download_report(*report.ids, operation=dbss.Operation(**limits))
            assert mock.token not in all_text_of(caught.value) + repr(client)


# Token providers.


async def coroutine(token):
    await asyncio.sleep(0)
    return token


class Asynchronous:
    def __init__(self, token):
        self.token = token

    async def __call__(self, refused):
        return dbss.Token(await coroutine(self.token))


def in_1h():
    return datetime.now(timezone.utc) + timedelta(hours=1)


LATEST = datetime.max.replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "make",
    [
        lambda token: lambda refused: token,
        lambda token: lambda refused: dbss.Token(token),
        lambda token: lambda refused: dbss.Token(token, in_1h()),
        lambda token: lambda refused: (token, in_1h().astimezone(timezone(timedelta(hours=8)))),
        lambda token: lambda refused: (token, None),
        lambda token: lambda refused: (token, LATEST),
        lambda token: lambda refused: coroutine(token),
        Asynchronous,
    ],
)
def test_provider_token_is_used(mock, provider_client, report, make):
    with provider_client(make(mock.token)) as client:
        for _ in range(3):
            assert len(client.download_report(*report.ids)) == 3000
        with client.open_report(*report.ids) as stream:
            assert len(stream.read()) == 3000
        assert client.find_credentials().source == "token_provider"
    assert sent_headers(report.requests(), "x-auth-token") == [mock.token] * 4


def test_provider_expiry_is_found(mock, provider_client):
    expires = in_1h()
    with provider_client((mock.token, expires)) as client:
        found = client.find_credentials().expires_at
    assert found.tzinfo is timezone.utc
    assert abs(found - expires) < timedelta(seconds=5)
    with provider_client((mock.token, LATEST)) as client:
        assert client.find_credentials().expires_at.year == 9999


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError


def provider_that_raises(error):
    def inner(refused):
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
def test_provider_exception_is_the_cause(provider_client, report, error, words, kind):
    async def asynchronous(refused):
        await asyncio.sleep(0)
        raise error

    error.__traceback__ = None
    provider = provider_that_raises(error) if kind == "function" else asynchronous
    with provider_client(provider) as client:
        for _ in range(2):
            with pytest.raises(dbss.NoTokenError) as caught:
                client.download_report(*report.ids)
            assert words in caught.value.message
            assert "\n" not in caught.value.message
            cause = caught.value.__cause__
            # asyncio creates a new exception of the same type for some.
            assert cause is error or type(cause) is type(error)
            assert caught.value.attempts == 0
    assert report.requests() == []
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
        (
            (SECRET, datetime(2020, 1, 1, tzinfo=timezone.utc)),
            dbss.InvalidTokenError,
            "; use None if",
        ),
        ((SECRET, datetime(1900, 1, 1, tzinfo=timezone.utc)), dbss.InvalidTokenError, "past"),
        ("", dbss.InvalidTokenError, "token"),
        (SECRET + " ", dbss.InvalidTokenError, "token"),
        (SECRET + "\0", dbss.InvalidTokenError, "U+0000"),
        (SECRET + "\udc80", dbss.InvalidTokenError, "surrogate"),
        (SECRET * 6000, dbss.InvalidTokenError, "token"),
    ],
)
def test_provider_invalid_token_is_reported_without_it(
    provider_client, report, provided, kind, words
):
    records = []
    with provider_client(provided, log=records.append) as client:
        with pytest.raises(dbss.NoTokenError) as caught:
            client.download_report(*report.ids)
        assert words in caught.value.message
        cause = caught.value.__cause__
        assert type(cause) is kind
        assert words in str(cause)
        # Nor the frames, whose variables hold it.
        assert cause.__traceback__ is None
        assert SECRET not in all_text_of(caught.value) + repr(client)
        assert not any(SECRET in one.message for one in records)
    assert report.requests() == []
    assert SECRET not in repr(dbss.Token(SECRET, in_1h()))


def test_provider_is_called_in_a_thread_of_its_own(mock, provider_client):
    threads = []

    def provider(refused):
        assert refused is False
        threads.append(threading.current_thread())
        return mock.token

    with provider_client(provider) as client:
        assert client.find_credentials()
    [thread] = threads
    assert thread.daemon
    assert thread is not threading.main_thread()


def test_provider_failure_is_the_cause_in_32_threads(provider_client, report):
    error = CustomError("nothing for anybody")
    barrier = threading.Barrier(32)

    def download(_):
        barrier.wait(TIMEOUT)
        with pytest.raises(dbss.NoTokenError) as caught:
            client.download_report(*report.ids)
        return caught.value.__cause__

    provider = provider_that_raises(error)
    with provider_client(provider) as client, ThreadPoolExecutor(32) as pool:
        assert set(pool.map(download, range(32), timeout=TIMEOUT)) == {error}


def test_passcode_provider_exception_is_the_cause(mock, connect, login):
    error = RuntimeError("the device is at home")
    more = {**login, "passcode_provider": provider_that_raises(error)}
    with (
        connect(**more, iam_user_id=mock.user_id) as client,
        pytest.raises(dbss.NoTokenError, match="RuntimeError: the device is at home") as caught,
    ):
        client.check()
    assert caught.value.__cause__ is error
    with pytest.raises(dbss.NotConfiguredError) as half:
        connect(**more)
    assert half.value.parameter == "iam_user_id"


@pytest.mark.parametrize(
    ("provided", "kind", "words"),
    [
        ("", dbss.InvalidValueError, "passcode: must not be empty"),
        ("123456\n", dbss.InvalidValueError, "passcode: holds a character"),
        ("\udc80", dbss.InvalidValueError, "passcode: holds a character"),
        (123456, TypeError, "must give a str, not int"),
        (dbss.Token("123456"), TypeError, "must give a str, not Token"),
        (("123456", None), TypeError, "must give a str, not tuple"),
    ],
)
def test_wrong_passcode_is_reported_as_one(mock, connect, login, provided, kind, words):
    more = {**login, "iam_user_id": mock.user_id, "passcode_provider": lambda _: provided}
    with connect(**more) as client, pytest.raises(dbss.NoTokenError, match=words) as caught:
        client.check()
    assert type(caught.value.__cause__) is kind
    assert "token" not in caught.value.message
    assert "123456" not in caught.value.message


def test_coroutine_of_a_provider_hangs_calls_keep_their_own_limits(mock, provider_client, report):
    done = threading.Event()

    async def provider(refused):
        await asyncio.get_running_loop().run_in_executor(None, done.wait, TIMEOUT)
        return mock.token

    limits = {"total_timeout": dbss.TotalTimeoutError, "stall_timeout": dbss.StalledError}
    with provider_client(provider, max_attempts=1) as client:
        try:
            for name, error in limits.items():
                with pytest.raises(error):
                    client.check(operation=dbss.Operation(**{name: 0.2}))
        finally:
            done.set()
        # Afterwards it returns a token as usual.
        assert client.download_report(*report.ids)


def test_provider_hangs_ctrl_c_ends_the_call(mock, provider_client, report):
    done = threading.Event()
    interrupted = []

    def provider(refused):
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
        assert done.wait(TIMEOUT)
        return mock.token

    with provider_client(provider) as client:
        try:
            with pytest.raises(KeyboardInterrupt):
                client.download_report(*report.ids)
            # The limit is 250 ms on an idle machine.
            assert time.monotonic() - interrupted[0] < PROMPT
        finally:
            done.set()
        interrupted.clear()
        client.set_token(mock.token)
        assert client.download_report(*report.ids)


def test_provider_that_calls_its_own_client_fails_at_once(mock, provider_client, report):
    def provider(refused):
        return str(client.download_report(*report.ids))

    with provider_client(provider) as client:
        for call in (client.check, lambda: client.open_report(*report.ids)):
            with pytest.raises(dbss.NoTokenError, match="its own client") as caught:
                call()
            assert isinstance(caught.value.__cause__, dbss.BusyError)


def test_coroutine_of_a_provider_that_calls_its_own_client_fails_at_once(mock, report):
    async def provider(refused):
        return str(await client.download_report(*report.ids))

    async def call():
        async with client:
            await client.check()

    settings = {"endpoint": mock.http, "project_id": mock.project_id}
    client = aio.AsyncClient(**settings, token_provider=provider)
    with pytest.raises(dbss.NoTokenError, match="its own client"):
        asyncio.run(call())


def test_provider_may_call_a_client_that_needs_it_no_more(mock, provider_client, report):
    def provider(refused):
        client.set_token(mock.token)
        client.check()
        return mock.token

    with provider_client(provider) as client:
        assert client.download_report(*report.ids)


TRAMPOLINE = """
#include <signal.h>
void ask(void (*f)(void *, void *), void *user_data, void *request)
{ raise(SIGINT); f(user_data, request); }
"""


def test_provider_request_interrupted_by_signal_is_not_lost(tmp_path):
    request_token = ctypes.CDLL(compiled(TRAMPOLINE, tmp_path / "trampoline.so")).ask
    request_token.argtypes = (abi.TokenProviderFn, ctypes.py_object, abi.TokenRequest)
    request_token.restype = None
    requests = queue.SimpleQueue()
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


def provider_threads():
    return [one for one in threading.enumerate() if one.name == "dbss token provider"]


def expect_end(thread):
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_provider_thread_ends_with_the_context(mock, provider_client, report):
    # Those of tests before may be about to end.
    wait_until(lambda: provider_threads() == [])
    client = provider_client(mock.token)
    # No thread before the first request.
    assert provider_threads() == []
    assert client.download_report(*report.ids)
    [thread] = provider_threads()
    stream = client.open_report(*report.ids)
    del client
    gc.collect()
    # A stream may need another token.
    assert len(stream.read()) == 3000
    assert thread.is_alive()
    stream.close()
    expect_end(thread)

    client = provider_client(mock.token)
    assert client.find_credentials()
    [thread] = provider_threads()
    reference = weakref.ref(client)
    del client
    gc.collect()
    assert reference() is None
    expect_end(thread)

    with provider_client(mock.token) as client:
        assert client.find_credentials()
        [thread] = provider_threads()
    expect_end(thread)


def test_provider_without_a_thread(mock, provider_client, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with provider_client(mock.token) as client:
        with pytest.raises(dbss.ResourceError, match="cannot start the thread") as caught:
            client.check()
        assert isinstance(caught.value.__cause__, RuntimeError)
        monkeypatch.undo()
        client.check()


def test_provider_is_not_called_after_close(mock, provider_client):
    requested = []
    first, end = threading.Event(), threading.Event()

    def provider(refused):
        requested.append(refused)
        first.set()
        end.wait(TIMEOUT)
        return mock.token

    client = provider_client(provider, stall_timeout=0.1, max_attempts=1)
    # The second request waits in the queue.
    for _ in range(2):
        with pytest.raises(dbss.StalledError):
            client.check()
        assert first.wait(TIMEOUT)
    [thread] = provider_threads()
    client.close()
    end.set()
    expect_end(thread)
    assert requested == [False]


def test_provider_is_released_when_client_creation_fails():
    def function(refused):
        return "token"

    reference = weakref.ref(function)
    kept = len(ffi._held_by_c)
    with pytest.raises(dbss.FileError):
        dbss.Client(endpoint="https://127.0.0.1:1", token_provider=function, ca_file="/no/such")
    del function
    gc.collect()
    assert reference() is None
    assert len(ffi._held_by_c) == kept


@pytest.mark.parametrize(
    # The exit may end the thread between the word and its line end.
    ("state", "printed"),
    [("idle", ["3000"]), ("failed", ["NoTokenError"]), ("asked", ["CancelledError", ""])],
)
def test_provider_at_interpreter_exit_is_silent(run_python, report, state, printed):
    code = """
asked, state = threading.Event(), os.environ["STATE"]
async def provider(refused):
    if state == "asked":
        asked.set()
        await asyncio.sleep(1000)
    if state == "failed":
        raise RuntimeError("failed")
    return os.environ["TOKEN"]
client = dbss.Client(**{**settings, "token": None}, token_provider=provider)
def call():
    try:
        print(len(client.download_report(*ids)))
    except dbss.Error as error:
        print(type(error).__name__)
if state == "asked":
    threading.Thread(target=call, daemon=True).start()
    asked.wait(60)
else:
    call()
"""
    assert run_python(code, report, STATE=state).strip() in printed


@pytest.mark.parametrize("before", ["unused", "used", "asked"])
def test_provider_works_in_forked_children(mock, provider_client, report, before):
    """Whatever its thread did in the parent."""
    parent = os.getpid()
    requested, done = threading.Event(), threading.Event()
    inherited = f"{before}-" * 30
    mock.set("tokens", token=inherited)

    def provider(refused):
        if os.getpid() == parent and before == "asked":
            requested.set()
            assert done.wait(TIMEOUT)
        return mock.token if refused or os.getpid() != parent else inherited

    def download(times=1):
        return [len(client.download_report(*report.ids)) for _ in range(times)]

    with provider_client(provider) as client, ThreadPoolExecutor(1) as pool:
        if before == "used":
            assert download() == [3000]
            # So that the children need a token, too.
            mock.control_request("DELETE", "/tokens", {"token": inherited})
        if before == "asked":
            waiting = pool.submit(download)
            assert requested.wait(TIMEOUT)
        children = [Child(download, 3) for _ in range(3)]
        assert [one.result() for one in children] == [[3000] * 3] * 3
        done.set()
        if before == "asked":
            assert waiting.result(TIMEOUT) == [3000]
        assert download() == [3000]


def test_provider_many_requests_leak_nothing(run_python):
    code = """
from dbss import aio, ffi
def provider(refused):
    calls.append(refused)
    if len(calls) % 2:
        raise RuntimeError("x" * 1000)
    return os.environ["TOKEN"]
calls = []
def use():
    with dbss.Client(**{**settings, "token": None}, token_provider=provider) as client:
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
    return len(os.listdir("/proc/self/fd")), len(ffi._held_by_c), proc("VmRSS:")
before = left(50)
after = left(500)
print(len(calls), threading.active_count(), *(b - a for a, b in zip(before, after)))
"""
    *counts, grown = map(int, run_python(code).split())
    assert counts == [1100, 1, 0, 0]
    assert grown < 8 * 1000


def test_login_in_forked_child_works(mock, connect, login, report):
    def download():
        return len(client.download_report(*report.ids))

    with connect(**login) as client:
        assert Child(download).result() == 3000
        assert download() == 3000
        assert len(mock.requests("@iam.tokens")) == 2
        assert Child(download).result() == 3000
        assert len(mock.requests("@iam.tokens")) == 2
