"""Many calls in C: nothing grows, and nobody gets a byte of another. `make soak` makes very
many."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_c import checking, checks_of, environment, expect_success, facts, programs, run

# Fixtures, which no name in this file uses.
__all__ = ["checking", "environment", "facts", "programs"]

CHECKS = checks_of("soak")
HOURS = 3


@pytest.mark.parametrize("check", CHECKS)
def test_many_calls_leak_nothing_and_mix_nothing(
    programs: Path, checking: dict[str, str], facts: Path, check: str
) -> None:
    done = run([programs / "soak", facts, check], checking, HOURS * 3600)
    print(done.stdout)
    assert f"ok {check}\n" in expect_success(done)
