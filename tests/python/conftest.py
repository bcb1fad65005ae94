"""Fixtures for all Python tests: the build outputs and a mock service."""

import asyncio
import inspect
import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DBSS_BUILD_DIR") or ROOT / "build").resolve()
# Before the package is imported. Otherwise it would load the system's library.
os.environ.setdefault("DBSS_LIBRARY", str(BUILD / "lib/libdbss.so.0"))

pytest.register_assert_rewrite("support", "command")

import dbss  # noqa: E402

import support  # noqa: E402
from command import Command  # noqa: E402
from support import KIB, PRELUDE, Report  # noqa: E402

# A parent that starts the tests in the background may ignore these signals. Every program
# that a test starts would inherit that.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        is_int = _number == signal.SIGINT
        signal.signal(_number, signal.default_int_handler if is_int else signal.SIG_DFL)

# Credentials and regions of the user must not reach the tests, nor must files in the
# user's home directory. Cargo still needs its own directories.
for _name in [name for name in os.environ if name.startswith("HUAWEICLOUD_")]:
    del os.environ[_name]
for _name, _directory in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):
    os.environ.setdefault(_name, str(Path.home() / _directory))


def pytest_collection_modifyitems(items):
    for item in items:
        if "valgrind" in item.name:
            item.add_marker("valgrind")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs tests that are coroutine functions."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """An empty home directory, for this process and its children.

    What a child that is killed leaves in its temporary directory goes with this run's.
    """
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(directory))
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        yield directory


@pytest.fixture(scope="session")
def environment(home):
    """An environment for child processes, in which they find the library and the package."""
    # Settings of the user must not reach the programs.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DBSS_") or name.startswith("DBSS_TEST_")
    }
    return {
        **inherited,
        "LD_LIBRARY_PATH": str(BUILD / "lib"),
        "DBSS_LIBRARY": str(support.LIBRARY),
        "DBSS_BUILD_DIR": str(BUILD),
        "PYTHONPATH": str(ROOT / "bindings/python"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


# A mock service, shared by all tests.
mock = pytest.fixture(scope="session")(support.new_mock)


@pytest.fixture
def service(mock, environment):
    """The environment of a program with the settings of a client."""
    return support.service_of(mock, environment)


@pytest.fixture(autouse=True)
def reset(request):
    """Each test begins and ends without faults, settings and requests at the mock service."""
    if "mock" not in request.fixturenames:
        yield
        return
    mock = request.getfixturevalue("mock")
    yield
    mock.clear_faults()
    mock.clear_requests()
    for what in ("generation", "iam", "metadata", "shapes"):
        mock.set(what)


@pytest.fixture
def instance(mock):
    """An audit instance without reports."""
    added = mock.add_instance("for a test")
    yield added
    mock.remove("instances", [added])


@pytest.fixture
def connect(mock):
    """Makes a client of the mock service, with more options."""

    def new_client(**more):
        settings = {"endpoint": mock.http, "project_id": mock.project_id, "poll_interval": 0.01}
        if not {"token", "token_provider", "access_key", "iam_user", "credentials"} & set(more):
            settings["token"] = mock.token
        return dbss.Client(**{**settings, **more})

    return new_client


@pytest.fixture
def client(connect):
    with connect() as one:
        yield one


@pytest.fixture
def new_report(mock):
    """Makes reports; faults are given as keywords, and removed after the test."""

    def make_report(size=300 * KIB, format="bytes", **fault):
        report = Report(mock, mock.add_report(format=format, size=size))
        if fault:
            report.fault(**fault)
        return report

    return make_report


@pytest.fixture
def run_python(mock, environment):
    """Runs a program in Python, which must be silent on standard error; returns what it prints."""

    def run_program(code, report=None, **more):
        ids = (report or Report(mock, mock.pdf)).ids
        given = {
            "ENDPOINT": mock.http,
            "TOKEN": mock.token,
            "PROJECT": mock.project_id,
            "IDS": ",".join(ids),
            **more,
        }
        command = [sys.executable, "-W", "error", "-c", PRELUDE + code]
        return support.output(*command, env={**environment, **given})

    return run_program


@pytest.fixture
def command(mock, service, tmp_path):
    """The command with the mock service's first instance."""
    return Command(mock, service, tmp_path)


@pytest.fixture
def own_instance(command, instance):
    """A new instance, which the command uses."""
    command.environment["DBSS_INSTANCE_ID"] = instance
    return instance
