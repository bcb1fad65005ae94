"""Fixtures for all Python tests: the build outputs and a mock service."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import java_package
import pytest

from mock_service import MockService

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DBSS_BUILD_DIR") or ROOT / "build").resolve()
LIBRARY = BUILD / "lib/libdbss.so.0"

# For tests that import the package. Otherwise they would load the system's library.
os.environ.setdefault("DBSS_LIBRARY", str(LIBRARY))


# A parent that starts the tests in the background may ignore these signals. Every program
# that a test starts would inherit that.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        is_int = _number == signal.SIGINT
        signal.signal(_number, signal.default_int_handler if is_int else signal.SIG_DFL)


def need_tool(name: str) -> str:
    """The path of a program that a test needs; without it the test is skipped."""
    path = shutil.which(name)
    if path is None:
        # A skip in CI would hide that the test never runs.
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return path


def need_jdk(first: int) -> Path:
    """The home of a JDK from 11 to 21, or of 22 or newer; without it the test is skipped."""
    home = java_package.jdk(first)
    if home is None:
        # Debian has none for FFM.
        if os.environ.get("CI") == "true" and first < java_package.FFM:
            pytest.fail("no JDK from 11 to 21 is installed")
        pytest.skip(f"no JDK from {first} on is installed for {'JNA' if first == 11 else 'FFM'}")
    return home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "valgrind" in item.name:
            item.add_marker("valgrind")


@pytest.fixture(scope="session", name="need_tool")
def need_tool_fixture() -> Callable[[str], str]:
    """The function above as a fixture."""
    return need_tool


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
    return LIBRARY


# Credentials and regions of the user must not reach the tests, nor must files in the
# user's home directory. Cargo still needs its own directories.
for _name in [name for name in os.environ if name.startswith("HUAWEICLOUD_")]:
    del os.environ[_name]
for _name, _directory in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):
    os.environ.setdefault(_name, str(Path.home() / _directory))


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home directory, for this process and its children."""
    directory = tmp_path_factory.mktemp("home")
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(directory)
    yield directory
    if before is not None:
        os.environ["HOME"] = before


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
        "DBSS_LIBRARY": str(LIBRARY),
        "DBSS_BUILD_DIR": str(BUILD),
        "PYTHONPATH": str(ROOT / "bindings/python"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="session")
def mock() -> Iterator[MockService]:
    """A mock service, shared by all tests."""
    with MockService(BUILD / "bin/dbss-mock") as running:
        yield running


@pytest.fixture
def instance(mock: MockService) -> Iterator[str]:
    """An audit instance without reports."""
    added = mock.add_instance("for a test")
    yield added
    mock.remove_instances([added])


@pytest.fixture
def long_headers(mock: MockService) -> Iterator[None]:
    """Lets the mock service take headers that are longer than the gateway's limit."""
    mock.set_undocumented(long_headers=True)
    yield
    mock.set_undocumented()
