"""Credentials in the Python package: arguments, providers, threads, forks and exceptions.

What holds for every language is in the conformance suite, credentials.json.
"""

import asyncio
import ctypes
import dataclasses
import gc
import json
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import dbss
import pytest
from dbss import _abi as abi
from dbss import ffi

# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
# No test connects to it successfully.
UNREACHABLE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def reset_mock(mock, monkeypatch, tmp_path):
    """Resets the mock service after each test; gives each test an empty home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    mock.clear_requests()
    yield
    mock.clear_faults()
    mock.set_iam()


@pytest.fixture
def report(mock):
    """A report that no other test requests."""
    added = mock.add_report(format="bytes", size=3000)["id"]
    return added


@pytest.fixture
def login(mock):
    """The arguments for a login at the mock service."""
    return {
        "endpoint": mock.http,
        "region": mock.region,
        "iam_endpoint": mock.iam,
        "iam_user": mock.user,
        "iam_password": mock.password,
        "iam_domain": mock.domain,
    }


def sent_headers(mock, report, header):
    """A header of each request for a report or a call."""
    return [
        {name.lower(): value for name, value in one["headers"]}.get(header)
        for one in mock.requests(report)
    ]


def python(code, environment, **more):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def all_text_of(error):
    """All visible text of an exception and of its chained exceptions."""
    seen = []
    todo = [error]
    while todo:
        one = todo.pop()
        if one is None:
            continue
        seen += [str(one), repr(one), repr(one.args), repr(vars(one))]
        todo += [one.__cause__, one.__context__]
    frames = traceback.TracebackException.from_exception(error, capture_locals=False)
    return "\n".join([*seen, *frames.format()])


# Arguments.


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
def test_credentials_of_two_kinds_are_rejected(first, second):
    if {*first, *second} <= {"iam_user", "iam_password", "iam_domain"} or set(first) == set(second):
        return
    with pytest.raises(TypeError, match="exclude each other"):
        dbss.Client(endpoint=UNREACHABLE, **first, **second)


NUL = "a" * 20 + "\0"
SURROGATE = "a" * 20 + "\udc80"


@pytest.mark.parametrize(
    ("arguments", "kind", "parameter"),
    [
        ({"project_id": NUL}, dbss.InvalidIdError, "project_id"),
        ({"iam_password": NUL}, dbss.InvalidValueError, "iam_password"),
        ({"iam_password": SURROGATE}, dbss.InvalidUtf8Error, "iam_password"),
        ({"metadata_endpoint": NUL}, dbss.InvalidEndpointError, "metadata_endpoint"),
        ({"access_key": "AK", "secret_key": NUL}, dbss.InvalidAccessKeyError, "secret_key"),
        ({"iam_user": "u", "region": "r"}, dbss.NotConfiguredError, "iam_password"),
        ({"endpoint": []}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": [UNREACHABLE, "/x"]}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": [f"{UNREACHABLE},{UNREACHABLE}"]}, dbss.InvalidEndpointError, "endpoint"),
    ],
)
def test_invalid_argument_is_rejected_at_once(arguments, kind, parameter):
    with pytest.raises(kind) as caught:
        dbss.Client(**{"endpoint": UNREACHABLE, **arguments})
    assert caught.value.parameter == parameter
    assert isinstance(caught.value, ValueError)
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
def test_argument_of_wrong_type_is_rejected(arguments):
    with pytest.raises(TypeError):
        dbss.Client(**{"endpoint": UNREACHABLE, **arguments})


def test_each_kind_of_credentials_is_an_argument(mock, login, report, monkeypatch):
    key = {"access_key": mock.access_key, "secret_key": mock.secret_key}
    agency = {"agency_name": mock.agency, "agency_domain": mock.agency_domain}
    iam = {"iam_endpoint": mock.iam, "region": mock.region}
    monkeypatch.setenv("HUAWEICLOUD_SDK_AK", mock.access_key)
    monkeypatch.setenv("HUAWEICLOUD_SDK_SK", mock.secret_key)
    for source, arguments in {
        "token": {"token": mock.token, **iam},
        "access_key": {**key, "security_token": "a-security-token", **iam},
        "iam_user": login,
        "environment": {"credentials": "default", **iam},
        "agency": {**key, **agency, **iam, "agency_duration": timedelta(minutes=30).seconds},
    }.items():
        with dbss.Client(**{"endpoint": mock.http, **arguments}) as client:
            assert len(client.download_report(None, mock.instance_id, report)) == 3000
            assert client.find_credentials().source == source
    assert sent_headers(mock, report, "x-security-token")[1] == "a-security-token"
    [body] = [json.loads(one["body"]) for one in mock.requests("@iam.keys")]
    assert body["auth"]["identity"]["assume_role"]["duration_seconds"] == 1800


def test_found_credentials_are_constant_and_without_secrets(mock, login):
    with dbss.Client(**login) as client:
        credentials = client.find_credentials()
        assert mock.password not in repr(credentials) + repr(client)
    assert credentials.project_id == mock.project_id
    assert credentials.expires_at is not None
    ahead = credentials.expires_at - datetime.now(timezone.utc)
    assert timedelta(hours=23) < ahead < timedelta(hours=25)
    with pytest.raises(dataclasses.FrozenInstanceError):
        credentials.source = "x"


@pytest.mark.parametrize("kind", [list, tuple, ",".join])
def test_endpoints_are_a_list_or_a_text(mock, report, kind):
    both = [UNREACHABLE, mock.http]
    with dbss.Client(endpoint=kind(both), token=mock.token) as client:
        assert client.download_report(mock.project_id, mock.instance_id, report)
        assert repr(client) == f"<dbss.Client {','.join(both)}>"


def test_check_of_wrong_type_or_of_a_closed_client_is_rejected(mock):
    with dbss.Client(endpoint=mock.http, token=mock.token) as client, pytest.raises(TypeError):
        client.check(1)
    for call in (client.check, client.find_credentials):
        with pytest.raises(ValueError, match="the client is closed"):
            call()


# No text of an exception has a secret, nor what its variables hold.


def test_wrong_password_is_nowhere_in_the_exception(mock, login):
    password = "wrong-wrong-wrong"
    with dbss.Client(**{**login, "iam_password": password}) as client:
        for call in (client.find_credentials, client.check):
            with pytest.raises(dbss.UnauthenticatedError) as caught:
                call()
            assert password not in all_text_of(caught.value) + repr(client)


def test_token_that_the_service_repeats_is_nowhere_in_the_exception(mock, report):
    with provider_client(mock, mock.token) as client:
        for fault in ({"status": 400, "json": {"error_msg": mock.token}}, {"no_answer": True}):
            mock.fault(report, times=1, **fault)
            with pytest.raises(dbss.Error) as caught:
                client.download_report(
                    *(None, mock.instance_id, report),
                    operation=dbss.Operation(max_attempts=1, stall_timeout=0.3),
                )
            assert mock.token not in all_text_of(caught.value) + repr(client)


# Token providers.


def provider_client(mock, provided, **more):
    """A client whose provider is a function, or returns a constant."""
    provider = provided if callable(provided) else lambda refused: provided
    return dbss.Client(
        endpoint=mock.http, project_id=mock.project_id, token_provider=provider, **more
    )


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
def test_provider_token_is_used(mock, report, make):
    with provider_client(mock, make(mock.token)) as client:
        for _ in range(3):
            assert len(client.download_report(None, mock.instance_id, report)) == 3000
        with client.open_report(None, mock.instance_id, report) as stream:
            assert len(stream.read()) == 3000
        assert client.find_credentials().source == "token_provider"
    assert sent_headers(mock, report, "x-auth-token") == [mock.token] * 4


def test_provider_expiry_is_found(mock):
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
def test_provider_exception_is_the_cause(mock, report, error, words, kind):
    async def asynchronous(refused):
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
def test_provider_invalid_token_is_reported_without_it(mock, report, provided, kind, words):
    messages = []
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


def test_provider_is_called_in_a_thread_of_its_own(mock):
    threads = []

    def provider(refused):
        assert refused is False
        threads.append(threading.current_thread())
        return mock.token

    with provider_client(mock, provider) as client:
        assert client.find_credentials()
    [thread] = threads
    assert thread.daemon
    assert thread is not threading.main_thread()


def test_provider_failure_is_the_cause_in_32_threads(mock, report):
    error = CustomError("nothing for anybody")
    barrier = threading.Barrier(32)

    def download(_):
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


def test_passcode_provider_exception_is_the_cause(mock, login):
    error = RuntimeError("the device is at home")

    def provider(refused):
        raise error

    with (
        dbss.Client(**login, iam_user_id=mock.user_id, passcode_provider=provider) as client,
        pytest.raises(dbss.NoTokenError, match="RuntimeError: the device is at home") as caught,
    ):
        client.check()
    assert caught.value.__cause__ is error
    with pytest.raises(dbss.NotConfiguredError) as half:
        dbss.Client(**login, passcode_provider=provider)
    assert half.value.parameter == "iam_user_id"


def test_coroutine_of_a_provider_hangs_calls_keep_their_own_limits(mock, report):
    done = threading.Event()

    async def provider(refused):
        await asyncio.get_running_loop().run_in_executor(None, done.wait, TIMEOUT)
        return mock.token

    with provider_client(mock, provider, max_attempts=1) as client:
        try:
            for limits, error in (
                ({"total_timeout": 0.2}, dbss.TotalTimeoutError),
                ({"stall_timeout": 0.2}, dbss.StalledError),
            ):
                with pytest.raises(error):
                    client.check(operation=dbss.Operation(**limits))
        finally:
            done.set()
        # Afterwards it returns a token as usual.
        assert client.download_report(None, mock.instance_id, report)


def test_provider_hangs_ctrl_c_ends_the_call(mock, report):
    done = threading.Event()
    interrupted = []

    def provider(refused):
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


def test_provider_request_interrupted_by_signal_is_not_lost(tmp_path, environment):
    path = tmp_path / "trampoline.so"
    command = [environment.get("CC", "cc"), "-shared", "-fPIC", "-o", path, "-x", "c", "-"]
    subprocess.run(command, input=TRAMPOLINE, check=True, text=True, timeout=TIMEOUT)
    request_token = ctypes.CDLL(str(path)).ask
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


def test_provider_thread_ends_with_the_context(mock, report):
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


def test_provider_is_not_called_after_close(mock, report):
    requested = []
    first, end = threading.Event(), threading.Event()

    def provider(refused):
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


def test_provider_is_released_when_client_creation_fails():
    class Function:
        def __call__(self, refused):
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
def test_provider_at_interpreter_exit_is_silent(mock, report, environment, state):
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
    expected = {"idle": ["3000"], "failed": ["NoTokenError"], "asked": ["CancelledError", ""]}
    # The exit may end the thread between the word and its line end.
    assert done.stdout.strip() in expected[state]


def env_for(mock, report):
    return {
        "ENDPOINT": mock.http,
        "TOKEN": mock.token,
        "PROJECT": mock.project_id,
        "INSTANCE": mock.instance_id,
        "REPORT": report,
    }


@pytest.mark.parametrize("before", ["unused", "used", "asked"])
def test_provider_works_in_forked_children(mock, report, before):
    """Whatever its thread did in the parent."""
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()
    parent = os.getpid()
    requested = threading.Event()
    done = threading.Event()

    inherited = f"{before}-" * 30
    mock.add_token(inherited)

    def provider(refused):
        if os.getpid() == parent and before == "asked":
            requested.set()
            assert done.wait(TIMEOUT)
        return mock.token if refused or os.getpid() != parent else inherited

    def child():
        try:
            results.put([download() for _ in range(3)])
        except BaseException as error:
            results.put(repr(error))
            raise

    def download():
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


def test_provider_many_requests_leak_nothing(mock, report, environment):
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


def test_login_in_forked_child_works(mock, login, report):
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()

    def child():
        try:
            results.put(len(client.download_report(None, mock.instance_id, report)))
        except BaseException as error:
            results.put(repr(error))
            raise

    def run():
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
