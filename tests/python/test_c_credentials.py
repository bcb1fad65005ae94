"""Credentials through the C ABI: checks in C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import need_tool
from test_c import (
    VALGRIND,
    VALGRIND_TLS,
    c_programs,
    check_environment,
    checks_in,
    environment,
    expect_success,
    fixture_file,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mock_service import MockService

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "check_environment", "environment", "fixture_file"]

CHECKS = [
    (program, name, kind)
    for program in ("credentials", "sources")
    for name, kind in checks_in(program).items()
]


@pytest.fixture(autouse=True)
def reset_mock(mock: MockService) -> Iterator[None]:
    """Resets the mock service before and after each test."""

    def reset() -> None:
        mock.clear_faults()
        mock.clear_projects()
        mock.set_iam()
        mock.set_metadata()

    reset()
    yield
    reset()


@pytest.mark.parametrize("program", ["credentials", "sources"])
def test_credentials_checks_are_all_run(
    c_programs: Path, environment: dict[str, str], program: str
) -> None:
    listed = expect_success(run([c_programs / program, "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for owner, name, kind in CHECKS if owner == program]
    assert len(listed) > 20


@pytest.mark.parametrize(("program", "check", "kind"), CHECKS)
def test_credentials_check_passes(
    c_programs: Path,
    check_environment: dict[str, str],
    fixture_file: Path,
    program: str,
    check: str,
    kind: str,
) -> None:
    done = run([c_programs / program, fixture_file, check], check_environment, 300)
    assert f"ok {check}\n" in expect_success(done)
    assert not any(Path(check_environment["TMPDIR"]).iterdir())


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
@pytest.mark.parametrize("program", ["credentials", "sources"])
def test_credentials_checks_under_valgrind_pass(
    c_programs: Path, check_environment: dict[str, str], fixture_file: Path, program: str, kind: str
) -> None:
    need_tool("valgrind")
    checks = [name for owner, name, its_kind in CHECKS if (owner, its_kind) == (program, kind)]
    if not checks:
        return
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, c_programs / program, fixture_file, *checks], check_environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)
