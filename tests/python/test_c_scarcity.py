"""Little memory through the C ABI: checks in C."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mock_service import MockService
from test_c import checking, checks_of, environment, expect_success, facts, programs, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Fixtures, which no name in this file uses.
__all__ = ["checking", "environment", "facts", "programs"]

CHECKS = checks_of("scarcity")


@pytest.fixture(scope="module")
def mock(build_dir: Path) -> Iterator[MockService]:
    """One of its own, in place of the one for all: instances are added, and stay."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


def test_scarcity_checks_are_all_run(programs: Path, environment: dict[str, str]) -> None:
    listed = expect_success(run([programs / "scarcity", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in CHECKS.items()]


@pytest.mark.parametrize("check", CHECKS)
def test_call_without_memory_does_not_end_the_process(
    programs: Path, checking: dict[str, str], facts: Path, check: str
) -> None:
    done = run([programs / "scarcity", facts, check], checking, 3600)
    assert f"ok {check}\n" in expect_success(done)
