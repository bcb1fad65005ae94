"""Lists and generated reports through the C ABI: checks in C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import need_tool
from mock_service import MockService
from test_c import (
    VALGRIND,
    VALGRIND_TLS,
    c_programs,
    checks_in,
    environment,
    expect_success,
    fixture_file,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "environment", "fixture_file"]

CHECKS = checks_in("lists")


@pytest.fixture(scope="module")
def mock(build_dir: Path) -> Iterator[MockService]:
    """A separate service, because the tests add instances permanently."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


@pytest.fixture(autouse=True)
def reset_mock(mock: MockService) -> None:
    # Faults of a failed test must not affect the next one.
    mock.clear_faults()
    mock.set_generation()


def test_lists_checks_are_all_run(c_programs: Path, environment: dict[str, str]) -> None:
    listed = expect_success(run([c_programs / "lists", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in CHECKS.items()]
    assert len(listed) > 15


@pytest.mark.parametrize("check", CHECKS)
def test_lists_check_passes(
    c_programs: Path, environment: dict[str, str], fixture_file: Path, check: str
) -> None:
    done = run([c_programs / "lists", fixture_file, check], environment)
    assert f"ok {check}\n" in expect_success(done)


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
def test_lists_checks_under_valgrind_pass(
    c_programs: Path, environment: dict[str, str], fixture_file: Path, kind: str
) -> None:
    need_tool("valgrind")
    checks = [name for name, its_kind in CHECKS.items() if its_kind == kind]
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, c_programs / "lists", fixture_file, *checks], environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)
