"""Mirrors through the C ABI: checks in C."""

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
    from mock_service import MockService

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "check_environment", "environment", "fixture_file"]

CHECKS = checks_in("mirror")


@pytest.fixture(autouse=True)
def clear_faults(mock: MockService) -> None:
    # Faults of a failed test must not affect the next one.
    mock.clear_faults()


def test_mirror_checks_are_all_run(c_programs: Path, environment: dict[str, str]) -> None:
    listed = expect_success(run([c_programs / "mirror", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in CHECKS.items()]
    assert len(listed) > 20


@pytest.mark.parametrize("check", CHECKS)
def test_mirror_check_passes(
    c_programs: Path,
    check_environment: dict[str, str],
    fixture_file: Path,
    tmp_path: Path,
    check: str,
) -> None:
    done = run([c_programs / "mirror", fixture_file, check], check_environment, cwd=tmp_path)
    assert f"ok {check}\n" in expect_success(done)
    assert not any(Path(check_environment["TMPDIR"]).iterdir())


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
def test_mirror_checks_under_valgrind_pass(
    c_programs: Path,
    check_environment: dict[str, str],
    fixture_file: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    need_tool("valgrind")
    checks = [name for name, its_kind in CHECKS.items() if its_kind == kind]
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run(
        [*valgrind, c_programs / "mirror", fixture_file, *checks],
        check_environment,
        600,
        cwd=tmp_path,
    )
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)
