"""Fixtures for all Python tests: the build outputs and a mock service."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DBSS_BUILD_DIR") or ROOT / "build").resolve()
# Before the package is imported. Otherwise it would load the system's library.
os.environ.setdefault("DBSS_LIBRARY", str(BUILD / "lib/libdbss.so.0"))

pytest.register_assert_rewrite("support", "command")

import dbss  # noqa: E402

import support  # noqa: E402
from command import Command  # noqa: E402
from mock_service import MockService  # noqa: E402
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "valgrind" in item.name:
            item.add_marker("valgrind")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root directory of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def build_dir() -> Path:
    """The build directory."""
    return BUILD


@pytest.fixture(scope="session")
def library() -> Path:
    """The shared library."""
    return support.LIBRARY


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home directory, for this process and its children."""
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(directory))
        yield directory


@pytest.fixture(scope="session")
def environment(home: Path) -> dict[str, str]:
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
def service(mock: MockService, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a program with the settings of a client."""
    return support.service_of(mock, environment)


@pytest.fixture(autouse=True)
def reset(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test begins and ends without faults, settings and requests at the mock service."""
    if "mock" not in request.fixturenames:
        yield
        return
    mock: MockService = request.getfixturevalue("mock")
    yield
    mock.clear_faults()
    mock.clear_requests()
    for what in ("generation", "iam", "metadata", "shapes"):
        mock.set(what)


@pytest.fixture
def instance(mock: MockService) -> Iterator[str]:
    """An audit instance without reports."""
    added = mock.add_instance("for a test")
    yield added
    mock.remove("instances", [added])


@pytest.fixture
def connect(mock: MockService) -> Callable[..., dbss.Client]:
    """Makes a client of the mock service, with more options."""

    def new_client(**more: Any) -> dbss.Client:
        settings = {"endpoint": mock.http, "project_id": mock.project_id, "poll_interval": 0.01}
        if not {"token", "token_provider", "access_key", "iam_user", "credentials"} & set(more):
            settings["token"] = mock.token
        return dbss.Client(**{**settings, **more})

    return new_client


@pytest.fixture
def client(connect: Callable[..., dbss.Client]) -> Iterator[dbss.Client]:
    with connect() as one:
        yield one


@pytest.fixture
def new_report(mock: MockService) -> Callable[..., Report]:
    """Makes reports; faults are given as keywords, and removed after the test."""

    def make_report(size: int = 300 * KIB, format: str = "bytes", **fault: Any) -> Report:
        report = Report(mock, mock.add_report(format=format, size=size))
        if fault:
            report.fault(**fault)
        return report

    return make_report


@pytest.fixture
def run_python(mock: MockService, environment: dict[str, str]) -> Callable[..., str]:
    """Runs a program in Python, which must be silent on standard error; returns what it prints."""

    def run_program(code: str, report: Report | None = None, **more: str) -> str:
        ids = (report or Report(mock, mock.pdf)).ids
        given = {"ENDPOINT": mock.http, "TOKEN": mock.token, "IDS": ",".join(ids), **more}
        command = [sys.executable, "-W", "error", "-c", PRELUDE + code]
        return support.output(*command, env={**environment, **given}, timeout=support.TIMEOUT)

    return run_program


@pytest.fixture
def command(mock: MockService, service: dict[str, str], tmp_path: Path) -> Command:
    """The command with the mock service's first instance."""
    return Command(mock, service, tmp_path)


@pytest.fixture
def own_instance(command: Command, instance: str) -> str:
    """A new instance, which the command uses."""
    command.environment["DBSS_INSTANCE_ID"] = instance
    return instance
