"""dbss.Client and the functions of the package."""

import copy
import ctypes
import gc
import hashlib
import math
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dbss
import pytest
from dbss import _abi as abi
from dbss import errors, ffi, settings

MIB = 1024 * 1024
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0


@pytest.fixture
def client(mock):
    with dbss.Client(endpoint=mock.http, token=mock.token) as one:
        yield one


@pytest.fixture
def ids(mock):
    return mock.project_id, mock.instance_id, mock.pdf["id"]


@pytest.fixture(autouse=True)
def clear_faults_after_test(mock):
    yield
    mock.clear_faults()


def sha256(report):
    return hashlib.sha256(report).hexdigest()


def python(code, environment, flags=("-W", "error"), **more):
    """Runs a program in a child process that finds the package."""
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def env_for(mock):
    """The variables of the programs below."""
    return {
        "ENDPOINT": mock.http,
        "TOKEN": mock.token,
        "PROJECT": mock.project_id,
        "INSTANCE": mock.instance_id,
        "REPORT": mock.pdf["id"],
    }


# Reports.


def test_ca_file_accepts_any_path(mock, ids, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/ca-\xff.pem")
    Path(odd).write_bytes(Path(mock.ca_file).read_bytes())
    forms = [os.fsencode(odd), odd, Path(odd)]
    for more in ({"options": {"ca_file": odd}}, *({"ca_file": one} for one in forms)):
        with dbss.Client(endpoint=mock.https, token=mock.token, **more) as client:
            assert type(client.download_report(*ids)) is bytes


# Arguments.

NUL = "a" * 20 + "\0" + "a" * 20
SURROGATE = "a" * 20 + "\udc80" + "a" * 20


@pytest.mark.parametrize(
    ("position", "parameter", "kind"),
    [
        (0, "project", dbss.InvalidIdError),
        (1, "instance", dbss.InvalidIdError),
        (2, "id", dbss.InvalidIdError),
        (3, "locale", dbss.InvalidLocaleError),
    ],
)
def test_argument_that_c_cannot_represent_is_rejected(mock, client, ids, position, parameter, kind):
    before = mock.connections()["total"]
    for value, expected in ((NUL, kind), (SURROGATE, dbss.InvalidUtf8Error)):
        arguments = [*ids, "en-us"]
        # A valid id before the bad character, so that truncating it would succeed.
        arguments[position] += value[20:]
        with pytest.raises(expected) as caught:
            client.download_report(*arguments)
        assert caught.type is expected
        assert caught.value.parameter == parameter
        assert caught.value.status == expected.status
    for value in (b"bytes", 1, [], None):
        if value is None and parameter in ("project", "locale"):
            continue
        arguments = [*ids, "en-us"]
        arguments[position] = value
        with pytest.raises(TypeError, match=parameter):
            client.download_report(*arguments)
    assert mock.connections()["total"] == before


@pytest.mark.parametrize(
    ("arguments", "kind", "parameter"),
    [
        ({"token": NUL}, dbss.InvalidTokenError, "token"),
        ({"token": SURROGATE}, dbss.InvalidTokenError, "token"),
        ({"region": NUL}, dbss.InvalidEndpointError, "region"),
        ({"region": SURROGATE}, dbss.InvalidUtf8Error, "region"),
        ({"endpoint": "http://127.0.0.1\0"}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": SURROGATE}, dbss.InvalidUtf8Error, "endpoint"),
        ({"ca_file": NUL}, dbss.InvalidValueError, "ca_file"),
        ({"ca_file": b"a\0"}, dbss.InvalidValueError, "ca_file"),
        ({"user_agent_suffix": NUL}, dbss.InvalidValueError, "user_agent_suffix"),
        ({"user_agent_suffix": SURROGATE}, dbss.InvalidUtf8Error, "user_agent_suffix"),
        ({"options": {"ca_file\0": "a"}}, dbss.UnknownKeyError, "key"),
        ({"options": {"token": NUL}}, dbss.InvalidTokenError, "token"),
        ({"options": {"stall_timeout_ms": "1\0"}}, dbss.InvalidValueError, "stall_timeout_ms"),
        ({"stall_timeout": -0.001}, dbss.InvalidValueError, "stall_timeout_ms"),
        ({"stall_timeout": -1}, dbss.InvalidValueError, "stall_timeout_ms"),
        ({"total_timeout": math.nan}, dbss.InvalidValueError, "total_timeout_ms"),
        ({"total_timeout": math.inf}, dbss.InvalidValueError, "total_timeout_ms"),
        ({"total_timeout": 10**400}, dbss.InvalidValueError, "total_timeout_ms"),
        ({"total_timeout": 1e300}, dbss.InvalidValueError, "total_timeout_ms"),
        ({"max_memory_bytes": -1}, dbss.InvalidValueError, "max_memory_bytes"),
        ({"max_memory_bytes": 2**63}, dbss.InvalidValueError, "max_memory_bytes"),
        ({"max_retry_after": -1}, dbss.InvalidValueError, "max_retry_after_ms"),
        ({"proxy": NUL}, dbss.InvalidEndpointError, "proxy"),
        ({"endpoint": None}, dbss.NotConfiguredError, None),
    ],
)
def test_invalid_argument_is_rejected_at_once(arguments, kind, parameter):
    with pytest.raises(kind) as caught:
        dbss.Client(**{"endpoint": "http://127.0.0.1:1", **arguments})
    assert caught.type is kind
    assert caught.value.parameter == parameter
    assert caught.value.status == kind.status
    assert isinstance(caught.value, ValueError)
    secret = arguments.get("token")
    if secret:
        # Nor in chained exceptions.
        assert secret not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None


WRONG_TYPES = [
    *({"token": b"token"}, {"region": 1}, {"endpoint": b"http://127.0.0.1"}, {"ca_file": 1}),
    *({"user_agent_suffix": b"a"}, {"options": {"stall_timeout_ms": 1}}, {"options": {1: "1"}}),
    *({"connect_timeout": "1"}, {"connect_timeout": True}, {"max_retry_after": "1"}),
    *({"max_memory_bytes": wrong} for wrong in (1.5, True, "1")),
    *({"allow_plaintext": 1}, {"allow_plaintext": "false"}, {"follow_redirects": 1}),
    *({"proxy_from_environment": None}, {"proxy": b"http://127.0.0.1"}, {"log": 1}),
    *({"max_attempts": 1.0}, {"max_attempts": True}),
]


@pytest.mark.parametrize("arguments", WRONG_TYPES)
def test_argument_of_wrong_type_is_rejected(arguments):
    with pytest.raises(TypeError):
        dbss.Client(**{"endpoint": "http://127.0.0.1:1", **arguments})


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (None, b"-1"),
        (0, b"0"),
        (1, b"1000"),
        (1.1, b"1100"),
        (0.0001, b"1"),
        (5e-324, b"1"),
        (86400, b"86400000"),
    ],
)
def test_seconds_are_encoded_as_milliseconds(seconds, milliseconds):
    assert settings.encode_milliseconds("stall_timeout_ms", seconds) == milliseconds


def test_timeout_in_seconds_raises_timeout_error(mock, ids):
    mock.fault(ids[2], no_answer=True)
    for name, kind in (
        ("stall_timeout", dbss.StalledError),
        ("total_timeout", dbss.TotalTimeoutError),
    ):
        arguments = {"stall_timeout": None, "total_timeout": None, name: 0.2}
        arguments["max_attempts"] = 1
        with dbss.Client(endpoint=mock.http, token=mock.token, **arguments) as client:
            with pytest.raises(TimeoutError) as caught:
                client.download_report(*ids)
            assert caught.type is kind
            assert isinstance(caught.value, dbss.NetworkError)
            assert caught.value.retryable is True


# Closing.


def test_closed_client_raises_closed_error(client, ids):
    items = client.reports(ids[1])
    client.close()
    client.close()
    for call in (
        lambda: client.download_report(*ids),
        lambda: client.open_report(*ids),
        lambda: client.set_token("token"),
        client.check,
        client.instances,
        lambda: next(items),
    ):
        with pytest.raises(dbss.ClosedError, match=r"^the client is closed$") as caught:
            call()
        assert isinstance(caught.value, ValueError)
    client.cancel_all()


def test_repr_contains_no_secret(mock):
    client = dbss.Client(endpoint=mock.http, token=mock.token)
    assert repr(client) == f"<dbss.Client {mock.http}>"
    client.close()
    assert repr(client) == "<dbss.Client closed>"
    assert repr(dbss.Client(region="cn-north-4")) == "<dbss.Client cn-north-4>"
    assert mock.token not in repr(vars(client))


@pytest.fixture
def freed_contexts(monkeypatch):
    """Records each freed context."""
    # Contexts of earlier tests that are in a reference cycle.
    gc.collect()
    count = []

    def free(pointer):
        count.append(1)
        context_free(pointer)

    context_free = abi.context_free
    monkeypatch.setattr(abi, "context_free", free)
    return count


def test_context_is_freed_once_by_close_or_collection(freed_contexts):
    client = dbss.Client(endpoint="http://127.0.0.1:1")
    client.close()
    assert len(freed_contexts) == 1
    client.close()
    del client
    gc.collect()
    assert len(freed_contexts) == 1
    client = dbss.Client(endpoint="http://127.0.0.1:1")
    del client
    gc.collect()
    assert len(freed_contexts) == 2


def test_kept_exception_does_not_keep_the_context(freed_contexts):
    kept = []
    with dbss.Client(endpoint="http://127.0.0.1:1", token="token") as client:
        try:
            client.download_report("a" * 32, "a" * 32, "a" * 16)
        except dbss.ConnectError as error:
            kept.append(error)
        assert freed_contexts == []
    assert len(freed_contexts) == 1
    assert kept[0].__traceback__ is not None


def test_close_ends_calls_and_streams_of_other_threads(mock, freed_contexts, client, ids):
    report = mock.add_report(format="pdf")["id"]
    mock.fault(report, no_answer=True)
    stream = client.open_report(*ids)
    operation = dbss.Operation()
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(client.download_report, *ids[:2], report, operation=operation)
        while not mock.requests(report):
            assert not download.done()
        started = time.monotonic()
        client.close()
        with pytest.raises(dbss.CancelledError) as caught:
            download.result(TIMEOUT)
        assert caught.type is dbss.CancelledError
        assert caught.value.cancelled_by == "close"
        assert time.monotonic() - started < 1
    assert isinstance(operation.error, dbss.CancelledError)
    assert len(freed_contexts) == 1
    with pytest.raises((dbss.CancelledError, dbss.ClosedError)):
        stream.read()
    # The operation is free, and was not cancelled itself.
    with dbss.Client(endpoint=mock.http, token=mock.token) as another:
        assert another.download_report(*ids, operation=operation)


def test_close_while_threads_start_downloads_is_safe(mock, ids):
    """Each call succeeds, is cancelled, or raises ClosedError."""
    for _ in range(20):
        client = dbss.Client(endpoint=mock.http, token=mock.token)
        barrier = threading.Barrier(5)

        def call(client=client, barrier=barrier):
            seen = set()
            barrier.wait(TIMEOUT)
            for _ in range(1000):
                try:
                    seen.add(sha256(client.download_report(*ids)))
                except dbss.CancelledError:
                    pass
                except dbss.ClosedError:
                    return seen
            raise AssertionError("the client was never closed")

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call) for _ in range(4)]
            barrier.wait(TIMEOUT)
            client.download_report(*ids)
            client.close()
            for one in calls:
                assert one.result(TIMEOUT) <= {mock.pdf["sha256"]["en-us"]}


def test_interpreter_exit_with_open_client_is_silent(mock, environment):
    code = """
import os, sys, dbss
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
ids = [os.environ[name] for name in ("PROJECT", "INSTANCE", "REPORT")]
sys.stdout.write(str(len(client.download_report(*ids))))
class Late:
    def __init__(self): self.me, self.client = self, client
late = Late()
import builtins; builtins.client = client
"""
    done = python(code, environment, **env_for(mock))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == str(mock.pdf["sizes"]["en-us"])


# Threads and processes.


def test_other_threads_run_during_a_call(mock, ids):
    report = mock.add_report(format="pdf")["id"]
    mock.fault(report, no_answer=True, times=1)
    errors_seen = queue.Queue()

    def download(client):
        try:
            client.download_report(*ids[:2], report)
        except dbss.Error as error:
            errors_seen.put(error)

    with dbss.Client(
        endpoint=mock.http, token=mock.token, stall_timeout=1, max_attempts=1
    ) as client:
        thread = threading.Thread(target=download, args=(client,))
        thread.start()
        # This thread only runs if the other one releases the GIL while it waits.
        while not mock.requests(report):
            assert thread.is_alive()
        turns = 0
        while errors_seen.empty():
            turns += 1
        thread.join(TIMEOUT)
    assert isinstance(errors_seen.get(timeout=TIMEOUT), dbss.StalledError)
    # If the GIL were held, there would be no turns in that second.
    assert turns > 10_000


@pytest.mark.parametrize("listener", ["http", "https"])
@pytest.mark.parametrize("threads", [0, 3])
def test_forked_children_use_the_inherited_client(mock, ids, listener, threads):
    """Also when other threads are inside calls at the moment of the fork."""
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()
    endpoint, expected = getattr(mock, listener), {mock.pdf["sha256"]["en-us"]}
    finished = threading.Event()

    def download(times):
        return {sha256(client.download_report(*ids)) for _ in range(times)}

    def download_on():
        return set().union(*iter(lambda: set() if finished.is_set() else download(1), set()))

    def child():
        results.put(download(10))
        client.close()

    with (
        dbss.Client(endpoint=endpoint, token=mock.token, ca_file=mock.ca_file) as client,
        ThreadPoolExecutor(max(threads, 1)) as pool,
    ):
        # To have an open connection that children inherit.
        assert download(1) == expected
        running = [pool.submit(download_on) for _ in range(threads)]
        children = [fork.Process(target=child) for _ in range(5)]
        try:
            for one in children:
                one.start()
            assert download(20) == expected
            for one in children:
                one.join(TIMEOUT)
                assert one.exitcode == 0
                assert results.get() == expected
        finally:
            finished.set()
        assert all(one.result(TIMEOUT) <= expected for one in running)
        assert download(1) == expected


# Memory.

# For the programs below. Not getrusage(), whose maximum is inherited from this process,
# which may have been larger.
# Not getrusage(), whose maximum is inherited from this process, which may have been larger.
MEMORY = """
import os, dbss
client = dbss.Client(
    endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"], max_memory_bytes=2**63 - 1,
    max_attempts=1,
)
ids = [os.environ[name] for name in ("PROJECT", "INSTANCE", "REPORT")]
def peak():
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1])
def calls(times):
    for _ in range(times):
        try:
            client.download_report(*ids)
        except dbss.Error as error:
            assert type(error).__name__ == os.environ["ERROR"], error
        else:
            assert os.environ["ERROR"] == ""
calls(int(os.environ["WARM"]))
before = peak()
calls(int(os.environ["TIMES"]))
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("kind", "error", "warm", "times", "kib"),
    [
        # A length is announced; the report is far smaller.
        ("announced", "TruncatedError", 0, 1, 16 * 1024),
        # The reports are 200 MiB.
        ("large", "", 10, 100, 20 * 1024),
        ("missing", "NotFoundError", 10, 500, 5000),
        # Less than a tenth of a KiB for each.
        ("invalid", "InvalidIdError", 1000, 50_000, 5000),
    ],
)
def test_calls_use_bounded_memory(mock, environment, kind, error, warm, times, kib):
    report = {"missing": "x" * 16, "invalid": "short"}.get(kind, mock.pdf["id"])
    if kind == "announced":
        mock.fault(report, content_length=str(2**62))
    if kind == "large":
        report = mock.add_report(format="bytes", size=2 * MIB)["id"]
    more = {"REPORT": report, "ERROR": error, "WARM": str(warm), "TIMES": str(times)}
    done = python(MEMORY, {**environment, **env_for(mock)}, **more)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < kib


def test_out_of_memory_is_an_error_without_crash(mock, environment):
    report = mock.add_report(format="bytes", size=200 * MIB)
    code = """
import os, resource, dbss
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
ids = [os.environ[name] for name in ("PROJECT", "INSTANCE", "REPORT")]
small = client.download_report(*ids)
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 64 * 2**20, -1))
try:
    client.download_report(*ids[:2], os.environ["LARGE"])
except MemoryError as error:
    assert type(error) is dbss.OutOfMemoryError, error
    print("out of memory")
assert client.download_report(*ids) == small
print("and on")
"""
    done = python(code, environment, LARGE=report["id"], **env_for(mock))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "out of memory\nand on\n"


# Errors.


def error_fields():
    return {
        "parameter": "id",
        "http_status": 429,
        "service_code": "DBSS.1",
        "service_message": "words",
        "request_id": "req",
        "encoded_authorization_message": "enc",
        "details": (dbss.Detail("a", None), dbss.Detail(None, "b")),
        "candidates": ("a", "b"),
        "redirect_target": "https://example.com/",
        "path": Path("/a/b"),
        "cancelled_by": "close",
        "os_code": 5,
        "retryable": True,
        "retry_after": 1.5,
        "attempts": 2,
    }


@pytest.mark.parametrize("kind", [*errors.STATUSES.values(), dbss.Error])
@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_error_survives_pickle_and_copy(kind, way):
    error = kind("a message", status=2**31 - 1, status_name="DBSS_ERR_NEW", **error_fields())
    again = way(error)
    assert type(again) is kind
    assert str(again) == str(error) == "a message"
    assert repr(again) == repr(error) == f"{kind.__name__}('a message')"
    for name, value in {"message": "a message", "status_name": "DBSS_ERR_NEW"}.items():
        assert getattr(again, name) == value
    assert again.status == 2**31 - 1
    for name, value in error_fields().items():
        assert getattr(again, name) == value


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        *((1, dbss.ArgumentError), (2, dbss.ServiceError), (3, dbss.NetworkError)),
        *((4, dbss.FileError), (5, dbss.ResourceError), (6, dbss.CancelledError)),
        (7, dbss.InternalError),
    ],
)
def test_unknown_status_raises_its_group(group, kind):
    for status in (group * 100 + 99, *([12345] if kind is dbss.InternalError else [])):
        error = ffi._exception_for_status(status)
        assert type(error) is kind
        assert error.status == status
        assert error.status_name == "DBSS_ERR_UNKNOWN"
        assert error.message


def test_error_of_other_call_on_the_thread_is_not_used(mock, client, ids):
    """As when Python runs a signal handler between a call and the reading of its error."""
    with ffi.temporary_handle(abi.Config, abi.config_new, abi.config_free) as config:
        unchecked = ctypes.CDLL(abi.library.path).dbss_config_set_token
        unchecked.argtypes = (abi.Config, ctypes.c_char_p)
        assert unchecked(config, b"") == dbss.InvalidTokenError.status
        error = ffi._exception_for_status(dbss.NotFoundError.status)
        assert type(error) is dbss.NotFoundError
        assert error.parameter is None
        assert "token" not in error.message

        # An operation keeps the error of its call.
        operation = dbss.Operation()
        with pytest.raises(dbss.NotFoundError):
            client.download_report(*ids[:2], "x" * 16, operation=operation)
        assert unchecked(config, b"") == dbss.InvalidTokenError.status
        error = ffi._exception_for_status(dbss.NotFoundError.status, operation.control().pointer)
    assert (type(error), error.http_status) == (dbss.NotFoundError, 404)


def test_token_appears_in_no_output_or_exception(mock, environment):
    code = """
import os, sys, traceback, dbss
token = os.environ["TOKEN"]
ids = [os.environ[name] for name in ("PROJECT", "INSTANCE", "REPORT")]
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=token)
print(client, vars(client), len(client.download_report(*ids)))
for call in (
    lambda: client.download_report(*ids[:2], "x" * 16),
    lambda: client.download_report(*ids[:2], "x"),
    lambda: client.set_token(token + " "),
    lambda: client.set_token(token + "\\0"),
    lambda: client.set_token(token + "\\udc80"),
    lambda: dbss.Client(endpoint="ftp://x", token=token),
    lambda: dbss.Client(endpoint="http://127.0.0.1:1", token=token).download_report(*ids),
):
    try:
        call()
    except dbss.Error:
        traceback.print_exc()
    else:
        raise SystemExit("no error")
client.close()
client.download_report(*ids)
"""
    done = python(code, environment, **env_for(mock))
    assert done.returncode == 1
    assert done.stderr.endswith("dbss.ClosedError: the client is closed\n")
    assert done.stderr.count("Traceback") == 8
    assert mock.token not in done.stdout + done.stderr


# Other parts of the package.


def test_options_match_the_library():
    options = {one.key: one for one in dbss.options()}
    assert len(options) == len(dbss.options()) == abi.option_count(abi.OPTIONS_CONFIG) >= 10
    assert options["stall_timeout_ms"].type == "milliseconds"
    assert options["stall_timeout_ms"].default == "60000"
    assert options["endpoint"].default is None
    assert options["token"].type == "secret"
    assert all(one.type and one.help for one in options.values())
    choices = {
        *("default", "oidc", "environment", "federation", "profile", "metadata"),
        "pod_identity",
    }
    assert set(options["credentials"].choices) == choices
    assert options["endpoint"].choices == ()
    attempts = options["max_attempts"]
    assert (attempts.minimum, attempts.maximum, attempts.allows_none) == (1, 1000, False)
    assert options["total_timeout_ms"].allows_none is True
    assert options["interruptible"].default == "false"


def test_features_and_version_match_the_library():
    assert dbss.has_feature("download") is True
    assert dbss.has_feature("token") is True
    assert all(dbss.has_feature(name) and help for name, help in dbss.features().items())
    assert "mirror" in dbss.features()
    assert dbss.has_feature("no-such-feature") is False
    assert dbss.has_feature("download\0") is False
    assert dbss.has_feature("\udc80") is False
    with pytest.raises(TypeError):
        dbss.has_feature(None)
    assert dbss.version() == abi.version().decode()


def test_public_names_are_documented():
    for name in dbss.__all__:
        one = getattr(dbss, name)
        if callable(one):
            assert one.__doc__, name
    for kind in (dbss.Client, dbss.Operation, dbss.ReportStream):
        for name, one in vars(kind).items():
            if not name.startswith("_"):
                assert one.__doc__, name


# Loading.

VERSION_ONLY = """
#include <stdint.h>
uint32_t dbss_version_number(void) { return VERSION; }
"""


@pytest.fixture
def make_library(tmp_path, environment):
    def make(source):
        path = tmp_path / "other.so"
        cc = environment.get("CC", "cc")
        command = [cc, "-shared", "-fPIC", "-o", path, "-x", "c", "-"]
        subprocess.run(command, input=source, check=True, text=True, timeout=TIMEOUT)
        return path

    return make


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("int dbss_other;", "is not libdbss"),
        (VERSION_ONLY.replace("VERSION", "99"), "is libdbss 0.0.99; this package needs 0.1.0"),
        (VERSION_ONLY.replace("VERSION", "10000"), "is libdbss 1.0.0; this package needs 0.1.0"),
        (VERSION_ONLY.replace("VERSION", "100"), "has no function dbss_version"),
    ],
)
def test_unusable_library_is_rejected(make_library, environment, source, words):
    path = make_library(source)
    done = python("import dbss", environment, DBSS_LIBRARY=str(path))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {path} ")
    assert words in last


def test_missing_library_error_names_the_path(environment, tmp_path):
    done = python("import dbss", environment, DBSS_LIBRARY="/no/such/libdbss.so")
    assert "ImportError: " in done.stderr
    assert "DBSS_LIBRARY=/no/such/libdbss.so" in done.stderr
    done = python("import dbss", environment, DBSS_LIBRARY="", LD_LIBRARY_PATH=str(tmp_path))
    if done.returncode == 0:
        pytest.skip("libdbss is installed in the system")
    bundled = Path(ffi.__file__).resolve().with_name("libdbss.so.0")
    for place in ("DBSS_LIBRARY (not set)", f"{bundled} (not there)", "the system's loader"):
        assert place in done.stderr.splitlines()[-1]


def test_library_is_found_in_package_or_by_loader(environment, tmp_path, library):
    code = "import dbss; from dbss import _abi as abi; print(abi.library.path)"
    done = python(code, environment, DBSS_LIBRARY="")
    assert done.stdout == "libdbss.so.0\n", done.stderr

    package = tmp_path / "dbss"
    package.mkdir()
    for file in Path(ffi.__file__).parent.glob("*.py"):
        (package / file.name).write_bytes(file.read_bytes())
    (package / library.name).symlink_to(library)
    done = python(code, environment, DBSS_LIBRARY="", PYTHONPATH=str(tmp_path))
    assert done.stdout == f"{package / library.name}\n", done.stderr


def test_import_needs_no_other_package(environment):
    code = """
import sys
import dbss
extra = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(sorted(extra - {"dbss", "__main__", "sitecustomize", "usercustomize"}))
"""
    done = python(code, environment, flags=("-S",))
    assert (done.stdout, done.stderr) == ("[]\n", "")
