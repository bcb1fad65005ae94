"""dbss.Client and the functions of the package."""

import copy
import ctypes
import ctypes.util
import gc
import math
import os
import pickle
import shutil
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dbss
import pytest
from dbss import _abi as abi
from dbss import aio, errors, ffi, settings

from support import (
    LIBRARY,
    MIB,
    NUL,
    PROMPT,
    SURROGATE,
    TIMEOUT,
    UNREACHABLE,
    compiled,
    output,
    run,
    sha256,
)


@pytest.fixture
def ids(mock):
    return mock.instance_id, mock.pdf["id"]


def test_ca_file_accepts_any_path(mock, connect, ids, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/ca-\xff.pem")
    shutil.copyfile(mock.ca_file, odd)
    forms = ({"ca_file": one} for one in (os.fsencode(odd), odd, Path(odd)))
    for more in ({"options": {"ca_file": odd}}, *forms):
        with connect(endpoint=mock.https, **more) as client:
            assert type(client.download_report(*ids)) is bytes


# Arguments.


@pytest.mark.parametrize(
    ("parameter", "kind"),
    [
        *((name, dbss.InvalidIdError) for name in ("project_id", "instance_id", "report_id")),
        ("locale", dbss.InvalidLocaleError),
    ],
)
def test_argument_that_c_cannot_represent_is_rejected(mock, client, ids, parameter, kind):
    before = mock.connections()["total"]
    instance, report = ids
    given = {"project_id": mock.project_id, "instance_id": instance, "report_id": report}
    given["locale"] = "en-us"

    def download(**more):
        return client.download_report(**{**given, **more})

    for value, expected in ((NUL, kind), (SURROGATE, dbss.InvalidUtf8Error)):
        # A valid id before the bad character, so that truncating it would succeed.
        with pytest.raises(expected) as caught:
            download(**{parameter: given[parameter] + value[20:]})
        assert caught.type is expected
        assert (caught.value.parameter, caught.value.status) == (parameter, expected.status)
    may_be_none = parameter in ("project_id", "locale")
    for value in (b"bytes", 1, [], *(() if may_be_none else (None,))):
        with pytest.raises(TypeError, match=parameter):
            download(**{parameter: value})
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
        ({"endpoint": []}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": [UNREACHABLE, "/x"]}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": [f"{UNREACHABLE},{UNREACHABLE}"]}, dbss.InvalidEndpointError, "endpoint"),
        ({"endpoint": None}, dbss.NotConfiguredError, None),
        ({"ca_file": NUL}, dbss.InvalidValueError, "ca_file"),
        ({"ca_file": b"a\0"}, dbss.InvalidValueError, "ca_file"),
        ({"user_agent_suffix": NUL}, dbss.InvalidValueError, "user_agent_suffix"),
        ({"user_agent_suffix": SURROGATE}, dbss.InvalidUtf8Error, "user_agent_suffix"),
        ({"options": {"ca_file\0": "a"}}, dbss.UnknownKeyError, "options"),
        ({"options": {"token": NUL}}, dbss.InvalidTokenError, "token"),
        ({"options": {"stall_timeout_ms": "1\0"}}, dbss.InvalidValueError, "stall_timeout"),
        ({"stall_timeout": -0.001}, dbss.InvalidValueError, "stall_timeout"),
        ({"stall_timeout": -1}, dbss.InvalidValueError, "stall_timeout"),
        ({"total_timeout": math.nan}, dbss.InvalidValueError, "total_timeout"),
        ({"total_timeout": math.inf}, dbss.InvalidValueError, "total_timeout"),
        ({"total_timeout": 10**400}, dbss.InvalidValueError, "total_timeout"),
        ({"total_timeout": 1e300}, dbss.InvalidValueError, "total_timeout"),
        ({"wait_timeout": -1}, dbss.InvalidValueError, "wait_timeout"),
        ({"wait_timeout": math.nan}, dbss.InvalidValueError, "wait_timeout"),
        ({"poll_interval": 90000}, dbss.InvalidValueError, "poll_interval"),
        ({"max_memory_bytes": -1}, dbss.InvalidValueError, "max_memory_bytes"),
        ({"max_memory_bytes": 2**63}, dbss.InvalidValueError, "max_memory_bytes"),
        ({"max_retry_after": -1}, dbss.InvalidValueError, "max_retry_after"),
        ({"proxy": NUL}, dbss.InvalidEndpointError, "proxy"),
        ({"project_id": NUL}, dbss.InvalidIdError, "project_id"),
        ({"iam_password": NUL}, dbss.InvalidValueError, "iam_password"),
        ({"iam_password": SURROGATE}, dbss.InvalidUtf8Error, "iam_password"),
        ({"metadata_endpoint": NUL}, dbss.InvalidEndpointError, "metadata_endpoint"),
        ({"access_key": "AK", "secret_key": NUL}, dbss.InvalidAccessKeyError, "secret_key"),
        ({"iam_user": "u", "region": "r"}, dbss.NotConfiguredError, "iam_password"),
    ],
)
def test_invalid_argument_is_rejected_at_once(arguments, kind, parameter):
    with pytest.raises(kind) as caught:
        dbss.Client(**{"endpoint": UNREACHABLE, **arguments})
    assert caught.type is kind
    assert isinstance(caught.value, ValueError)
    assert (caught.value.parameter, caught.value.status) == (parameter, kind.status)
    # Nor in chained exceptions.
    assert "a" * 20 not in "".join(traceback.format_exception(caught.value))
    assert "token" not in arguments or caught.value.__context__ is None


WRONG_TYPES = [
    *({"token": b"token"}, {"region": 1}, {"endpoint": b"http://127.0.0.1"}, {"ca_file": 1}),
    *({"user_agent_suffix": b"a"}, {"options": {"stall_timeout_ms": 1}}, {"options": {1: "1"}}),
    *({"connect_timeout": "1"}, {"connect_timeout": True}, {"max_retry_after": "1"}),
    *({"max_memory_bytes": wrong} for wrong in (1.5, True, "1")),
    *({"allow_plaintext": 1}, {"allow_plaintext": "false"}, {"follow_redirects": 1}),
    *({"proxy_from_environment": None}, {"proxy": b"http://127.0.0.1"}, {"log": 1}),
    *({"max_attempts": 1.0}, {"max_attempts": True}, {"project_id": b"a" * 32}, {"iam_user": 1}),
    *({"credentials": True}, {"token_provider": "token"}, {"endpoint": 1}),
    *({"endpoint": [b"http://127.0.0.1"]}, {"endpoint": [None]}, {"options": "token"}),
    *({"max_attempts": "3"}, {"poll_interval": "1"}, {"passcode_provider": "123456"}),
]
MESSAGES = [
    ({"total_timeout": 0}, "must be from 0.001 s to 2592000 s, or None for no limit, but is 0"),
    ({"stall_timeout": -1.5}, "but is -1.5"),
    ({"stall_timeout": -0.001}, "but is -0.001"),
    ({"connect_timeout": 86400.5}, "to 86400 s, or None for no limit, but is 86400.5"),
    ({"total_timeout": math.inf}, "but is inf"),
    ({"poll_interval": None}, "must be from 0.001 s to 86400 s, but is None"),
    ({"agency_duration": 60}, "must be from 900 s to 86400 s, but is 60"),
    ({"max_attempts": 0}, "must be a whole number from 1 to 1000, but is 0"),
    ({"options": {"stall_timeout": "5"}}, r'no option "stall_timeout"; .* "stall_timeout_ms"\?'),
    ({"options": {"MAX_ATTEMPTS": "5"}}, r'no option "MAX_ATTEMPTS"; .* "max_attempts"\?'),
    ({"options": {"\n": "5"}}, r'there is no option "\\n"'),
    ({"project_id": "a"}, "must have 32 to 64 characters, but has 1"),
]
KINDS_OF_CREDENTIALS = [
    *({"access_key": "a", "secret_key": "s"}, {"security_token": "t"}, {"iam_user": "u"}),
    *({"iam_password": "p"}, {"credentials": "default"}, {"token_provider": lambda _: "token"}),
]


@pytest.mark.parametrize("arguments", WRONG_TYPES)
def test_argument_of_wrong_type_is_rejected(arguments):
    [name] = arguments
    with pytest.raises(TypeError, match=f"^{name}: "):
        dbss.Client(**{"endpoint": UNREACHABLE, **arguments})


@pytest.mark.parametrize(("arguments", "words"), MESSAGES)
def test_message_has_the_names_and_units_of_python(arguments, words):
    [name] = arguments
    with pytest.raises(dbss.ArgumentError, match=f"^{name}: .*{words}$") as caught:
        dbss.Client(**{"endpoint": UNREACHABLE, **arguments})
    assert caught.value.parameter == name


def test_value_of_options_keeps_its_text_and_unit():
    with pytest.raises(dbss.InvalidValueError) as caught:
        dbss.Client(endpoint=UNREACHABLE, options={"stall_timeout_ms": "1.5"})
    assert str(caught.value) == (
        'stall_timeout: must be whole milliseconds from 1 to 86400000, or "-1" for no limit, '
        'but is "1.5"'
    )


@pytest.mark.parametrize("second", KINDS_OF_CREDENTIALS)
@pytest.mark.parametrize(
    "first", [{"token": "t"}, {"iam_domain": "d"}, {"credentials": "environment"}]
)
def test_credentials_of_two_kinds_are_rejected(first, second):
    if {*first, *second} <= {"iam_user", "iam_password", "iam_domain"} or set(first) == set(second):
        return
    with pytest.raises(TypeError, match="exclude each other"):
        dbss.Client(endpoint=UNREACHABLE, **first, **second)


def test_seconds_are_encoded_as_milliseconds():
    given = {None: -1, 0: 0, 1: 1000, 1.1: 1100, 0.0001: 1, 5e-324: 1, 86400: 86400000}
    for seconds, milliseconds in given.items():
        encoded = settings.encode_milliseconds("stall_timeout_ms", seconds)
        assert encoded == str(milliseconds).encode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("stall_timeout", dbss.StalledError), ("total_timeout", dbss.TotalTimeoutError)],
)
def test_timeout_in_seconds_raises_timeout_error(mock, connect, ids, name, kind):
    mock.fault(ids[1], no_response=True)
    limits = {"stall_timeout": None, "total_timeout": None, name: 0.2}
    with connect(max_attempts=1, **limits) as client, pytest.raises(TimeoutError) as caught:
        client.download_report(*ids)
    assert caught.type is kind
    assert isinstance(caught.value, dbss.NetworkError)
    assert caught.value.retryable is True


# Closing.


def test_closed_client_raises_closed_error(client, ids):
    items = client.reports(ids[0], page_size=1)
    next(items)
    client.close()
    client.close()
    for call in (
        lambda: client.download_report(*ids),
        lambda: client.open_report(*ids),
        lambda: client.set_token("token"),
        *(client.check, client.find_credentials, client.instances),
        lambda: client.create_report(ids[0], ids[0], "s", "e"),
        lambda: client.delete_report(*ids),
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
    context_free = abi.context_free
    free = lambda pointer: (count.append(1), context_free(pointer))  # noqa: E731
    monkeypatch.setattr(abi, "context_free", free)
    return count


def test_context_is_freed_once_by_close_or_collection(freed_contexts):
    client = dbss.Client(endpoint=UNREACHABLE)
    client.close()
    assert len(freed_contexts) == 1
    client.close()
    del client
    gc.collect()
    assert len(freed_contexts) == 1
    client = dbss.Client(endpoint=UNREACHABLE)
    del client
    gc.collect()
    assert len(freed_contexts) == 2


def test_kept_exception_does_not_keep_the_context(freed_contexts):
    kept = []
    with dbss.Client(endpoint=UNREACHABLE, token="token") as client:
        try:
            client.download_report("a" * 32, "a" * 16, project_id="a" * 32)
        except dbss.ConnectError as error:
            kept.append(error)
        assert freed_contexts == []
    assert len(freed_contexts) == 1
    assert kept[0].__traceback__ is not None


def test_close_ends_calls_and_streams_of_other_threads(
    connect, new_report, freed_contexts, client, ids
):
    report = new_report(no_response=True)
    stream = client.open_report(*ids)
    operation = dbss.Operation()
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(client.download_report, *report.ids, operation=operation)
        while not report.requests():
            assert not download.done()
        started = time.monotonic()
        client.close()
        with pytest.raises(dbss.CancelledError) as caught:
            download.result(TIMEOUT)
        assert (caught.type, caught.value.cancelled_by) == (dbss.CancelledError, "close")
        assert time.monotonic() - started < PROMPT
    assert isinstance(operation.error, dbss.CancelledError)
    assert len(freed_contexts) == 1
    with pytest.raises((dbss.CancelledError, dbss.ClosedError)):
        stream.read()
    # The operation is free, and was not cancelled itself.
    with connect() as another:
        assert another.download_report(*ids, operation=operation)


def test_close_while_threads_start_downloads_is_safe(mock, connect, ids):
    """Each call succeeds, is cancelled, or raises ClosedError."""

    def call(client, barrier):
        seen = set()
        barrier.wait(TIMEOUT)
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            try:
                seen.add(sha256(client.download_report(*ids)))
            except dbss.CancelledError:
                pass
            except dbss.ClosedError:
                return seen
        raise AssertionError("the client was never closed")

    for _ in range(20):
        client, barrier = connect(), threading.Barrier(5)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call, client, barrier) for _ in range(4)]
            barrier.wait(TIMEOUT)
            client.download_report(*ids)
            client.close()
            for one in calls:
                assert one.result(TIMEOUT) <= {mock.pdf["sha256"]["en-us"]}


# Memory.

CALLS = """
client = dbss.Client(**settings, max_memory_bytes=2**63 - 1, max_attempts=1)
report, error, warm, times = os.environ["CALLS"].split(",")
def calls(times):
    for _ in range(times):
        try:
            client.download_report(*ids[:1], report)
        except dbss.Error as found:
            assert type(found).__name__ == error, found
        else:
            assert error == ""
calls(int(warm))
before = proc("VmHWM:")
calls(int(times))
print(proc("VmHWM:") - before)
"""


@pytest.mark.parametrize(
    ("kind", "calls", "kib"),
    [
        # A length is announced; the report is far smaller.
        ("announced", "TruncatedError,0,1", 16 * 1024),
        # The reports are 200 MiB.
        ("large", ",10,100", 20 * 1024),
        ("missing", "NotFoundError,10,500", 5000),
        # Less than a tenth of a KiB for each.
        ("invalid", "InvalidIdError,1000,50000", 5000),
    ],
)
def test_calls_use_bounded_memory(new_report, run_python, kind, calls, kib):
    fault = {"content_length": str(2**62)} if kind == "announced" else {}
    report = new_report(2 * MIB, **fault).id
    report = {"missing": "x" * 16, "invalid": "short"}.get(kind, report)
    assert int(run_python(CALLS, CALLS=f"{report},{calls}")) < kib


def test_out_of_memory_is_an_error_without_crash(new_report, run_python):
    code = """
client = dbss.Client(**settings)
small = client.download_report(*ids)
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 64 * 2**20, -1))
try:
    client.download_report(*ids[:1], os.environ["LARGE"])
except MemoryError as error:
    assert type(error) is dbss.OutOfMemoryError, error
    print("out of memory")
assert client.download_report(*ids) == small
print("and on")
"""
    assert run_python(code, LARGE=new_report(200 * MIB).id) == "out of memory\nand on\n"


# Errors.

ERROR_FIELDS = {
    "message": "a message",
    "status": 2**31 - 1,
    "status_name": "DBSS_ERR_NEW",
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


async def test_objects_with_handles_are_not_copied(mock, client, new_report):
    """To close or forget a copy would close the original."""
    report = new_report()
    settings = {"endpoint": mock.http, "token": mock.token, "project_id": mock.project_id}
    async with (
        aio.AsyncClient(**settings) as async_client,
        await async_client.open_report(*report.ids) as async_stream,
    ):
        with client.open_report(*report.ids) as stream, dbss.Operation() as operation:
            of_async = (async_client, async_stream, async_client.instances())
            for one in (client, stream, operation, client.instances(), *of_async):
                for way in (copy.copy, copy.deepcopy, pickle.dumps):
                    with pytest.raises(TypeError, match=f"copy or pickle a {type(one).__name__}"):
                        way(one)
            assert sha256(stream.read()) == report.sha256


@pytest.mark.parametrize("kind", [*errors.STATUSES.values(), dbss.Error])
@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_error_survives_pickle_and_copy(kind, way):
    fields = dict(ERROR_FIELDS)
    error = kind(fields.pop("message"), **fields)
    again = way(error)
    assert type(again) is kind
    assert str(again) == str(error) == "a message"
    assert repr(again) == repr(error) == f"{kind.__name__}('a message')"
    assert {name: getattr(again, name) for name in ERROR_FIELDS} == ERROR_FIELDS


GROUPS = [
    *(dbss.ArgumentError, dbss.ServiceError, dbss.NetworkError, dbss.FileError),
    *(dbss.ResourceError, dbss.CancelledError, dbss.InternalError),
]


@pytest.mark.parametrize(
    ("status", "kind"),
    [*((n * 100 + 99, kind) for n, kind in enumerate(GROUPS, 1)), (12345, dbss.InternalError)],
)
def test_unknown_status_raises_its_group(status, kind):
    error = ffi._exception_for_status(status)
    assert (type(error), error.status) == (kind, status)
    assert error.status_name == "DBSS_ERR_UNKNOWN"
    assert error.message


def test_error_of_other_call_on_the_thread_is_not_used(client, ids):
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
            client.download_report(*ids[:1], "x" * 16, operation=operation)
        assert unchecked(config, b"") == dbss.InvalidTokenError.status
        error = ffi._exception_for_status(
            dbss.NotFoundError.status, operation._open_control().pointer
        )
    assert (type(error), error.http_status) == (dbss.NotFoundError, 404)


def test_token_appears_in_no_output_or_exception(mock, environment, ids):
    code = """
import os, sys, traceback, dbss
endpoint, token, project, *ids = os.environ["GIVEN"].split(",")
client = dbss.Client(endpoint=endpoint, token=token, project_id=project)
print(client, vars(client), len(client.download_report(*ids)))
for call in (
    lambda: client.download_report(*ids[:1], "x" * 16),
    lambda: client.download_report(*ids[:1], "x"),
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
    given = {**environment, "GIVEN": ",".join((mock.http, mock.token, mock.project_id, *ids))}
    done = run(sys.executable, "-W", "error", "-c", code, code=1, env=given)
    assert done.stderr.endswith("dbss.ClosedError: the client is closed\n")
    assert done.stderr.count("Traceback") == 8
    assert mock.token not in done.stdout + done.stderr


def test_traceback_holds_no_secret_in_local_variables(mock, connect):
    """Reports of errors may include the local variables of each frame."""
    secret = "a-secret-of-this-test"
    client, other = connect(), aio.AsyncClient(endpoint=mock.http, token=mock.token)
    made = {"endpoint": mock.http, "project_id": mock.project_id}
    calls = [
        lambda: dbss.Client(**made, token=secret, max_attempts=0),
        lambda: dbss.Client(**made, token=secret, max_attempts="1"),
        lambda: dbss.Client(**made, token=secret + "\n"),
        lambda: dbss.Client(**made, token=secret + "\0"),
        lambda: dbss.Client(**made, secret_key=secret),
        lambda: dbss.Client(**made, iam_user="u", iam_password=secret),
        lambda: dbss.Client(**made, options={"token": secret + "\n"}),
        lambda: aio.AsyncClient(**made, token=secret + "\n"),
        lambda: client.set_token(secret + "\n"),
        lambda: client.set_token(secret + "\udc80"),
        lambda: other.set_token(secret + "\n"),
    ]
    for call in calls:
        with pytest.raises((dbss.Error, TypeError)) as caught:
            call()
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        inside = [frame for frame in frames if frame.f_code.co_filename != __file__]
        assert inside
        assert not any(secret in repr(frame.f_locals) for frame in inside)
        assert caught.value.__context__ is None


# Other parts of the package.


def test_options_match_the_library():
    options = {one.key: one for one in dbss.options()}
    assert len(options) == len(dbss.options()) == abi.option_count(abi.OPTIONS_CONFIG) >= 10
    stall, endpoint, attempts = (
        options[key] for key in ("stall_timeout_ms", "endpoint", "max_attempts")
    )
    assert (stall.type, stall.default) == ("milliseconds", "60000")
    assert (endpoint.default, endpoint.choices) == (None, ())
    assert options["token"].type == "secret"
    assert all(one.type and one.help for one in options.values())
    choices = "default oidc environment federation profile metadata pod_identity"
    assert set(options["credentials"].choices) == set(choices.split())
    assert (attempts.minimum, attempts.maximum, attempts.allows_none) == (1, 1000, False)
    assert options["total_timeout_ms"].allows_none is True
    assert options["interruptible"].default == "false"


def test_features_and_version_match_the_library():
    assert dbss.has_feature("download") is dbss.has_feature("token") is True
    assert all(dbss.has_feature(name) and help for name, help in dbss.features().items())
    assert "mirror" in dbss.features()
    for name in ("no-such-feature", "download\0", "\udc80"):
        assert dbss.has_feature(name) is False
    with pytest.raises(TypeError):
        dbss.has_feature(None)
    assert dbss.version() == abi.version().decode()


def test_public_names_are_documented():
    own = [getattr(dbss, name) for name in dbss.__all__]
    kinds = (dbss.Client, dbss.Operation, dbss.ReportStream)
    members = [vars(kind)[name] for kind in kinds for name in vars(kind) if name[0] != "_"]
    assert [one for one in own if callable(one) and not one.__doc__] == []
    assert [one for one in members if not one.__doc__] == []


# Loading.

VERSION_ONLY = "#include <stdint.h>\nuint32_t dbss_version_number(void) { return %d; }\n"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("int dbss_other;", "is not libdbss"),
        (VERSION_ONLY % 99, "is libdbss 0.0.99; this package needs 0.1.0"),
        (VERSION_ONLY % 10000, "is libdbss 1.0.0; this package needs 0.1.0"),
        (VERSION_ONLY % 100, "has no function dbss_version"),
    ],
)
def test_unusable_library_is_rejected(environment, tmp_path, source, words):
    path = compiled(source, tmp_path / "other.so")
    last = import_error(environment, DBSS_LIBRARY=str(path))
    assert last.startswith(f"ImportError: {path} ")
    assert words in last


def import_error(environment, **more):
    """The last line of what Python says when the package cannot be imported."""
    done = run(sys.executable, "-c", "import dbss", code=1, env={**environment, **more})
    return done.stderr.splitlines()[-1]


def test_missing_library_error_names_the_path(environment, tmp_path):
    last = import_error(environment, DBSS_LIBRARY="/no/such/libdbss.so")
    assert last.startswith("ImportError: ")
    assert "DBSS_LIBRARY=/no/such/libdbss.so" in last
    if ctypes.util.find_library("dbss"):
        pytest.skip("libdbss is installed in the system")
    last = import_error(environment, DBSS_LIBRARY="", LD_LIBRARY_PATH=str(tmp_path))
    bundled = Path(ffi.__file__).resolve().with_name("libdbss.so.0")
    for place in ("DBSS_LIBRARY (not set)", f"{bundled} (not there)", "the system's loader"):
        assert place in last


def test_library_is_found_in_package_or_by_loader(environment, tmp_path):
    def path(**more):
        code = "import dbss; from dbss import _abi as abi; print(abi.library.path)"
        return output(sys.executable, "-c", code, env={**environment, "DBSS_LIBRARY": "", **more})

    assert path() == "libdbss.so.0\n"
    package = tmp_path / "dbss"
    package.mkdir()
    for file in Path(ffi.__file__).parent.glob("*.py"):
        shutil.copy(file, package)
    (package / LIBRARY.name).symlink_to(LIBRARY)
    assert path(PYTHONPATH=str(tmp_path)) == f"{package / LIBRARY.name}\n"


def test_import_needs_no_other_package(environment):
    code = """
import sys
import dbss
extra = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(sorted(extra - {"dbss", "__main__", "sitecustomize", "usercustomize"}))
"""
    assert output(sys.executable, "-S", "-c", code, env=environment) == "[]\n"
