"""Many calls in C: no growth, and no data of other calls. `make soak` makes many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_c import (
    c_programs,
    check_environment,
    checks_in,
    environment,
    expect_success,
    fixture_file,
    run,
)

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "check_environment", "environment", "fixture_file"]

CHECKS = [
    *(("soak", name) for name in checks_in("soak")),
    *(("download", name) for name in checks_in("download") if name.startswith("tenants")),
]
TIMEOUT_HOURS = 3


@pytest.mark.parametrize(("program", "check"), CHECKS)
def test_many_calls_leak_nothing_and_mix_nothing(
    c_programs: Path,
    check_environment: dict[str, str],
    fixture_file: Path,
    program: str,
    check: str,
) -> None:
    done = run([c_programs / program, fixture_file, check], check_environment, TIMEOUT_HOURS * 3600)
    print(done.stdout)
    assert f"ok {check}\n" in expect_success(done)
