"""A local archive of reports through the C ABI: checks in C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import need_tool
from test_c import (
    VALGRIND,
    VALGRIND_TLS,
    checking,
    checks_of,
    environment,
    expect_success,
    facts,
    programs,
    run,
)

if TYPE_CHECKING:
    from mock_service import MockService

# Fixtures, which no name in this file uses.
__all__ = ["checking", "environment", "facts", "programs"]

CHECKS = checks_of("mirror")


@pytest.fixture(autouse=True)
def no_faults(mock: MockService) -> None:
    # What a test that failed left behind must not fail the next one.
    mock.clear_faults()


def test_mirror_checks_are_all_run(programs: Path, environment: dict[str, str]) -> None:
    listed = expect_success(run([programs / "mirror", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in CHECKS.items()]
    assert len(listed) > 20


@pytest.mark.parametrize("check", CHECKS)
def test_mirror_check_passes(
    programs: Path, checking: dict[str, str], facts: Path, tmp_path: Path, check: str
) -> None:
    done = run([programs / "mirror", facts, check], checking, cwd=tmp_path)
    assert f"ok {check}\n" in expect_success(done)
    assert not any(Path(checking["TMPDIR"]).iterdir())


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
def test_mirror_checks_under_valgrind_pass(
    programs: Path, checking: dict[str, str], facts: Path, tmp_path: Path, kind: str
) -> None:
    need_tool("valgrind")
    checks = [name for name, its_kind in CHECKS.items() if its_kind == kind]
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, programs / "mirror", facts, *checks], checking, 600, cwd=tmp_path)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)
