"""Many calls in C: no growth, and no data of other calls. `make soak` makes many more."""

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

CHECKS = checks_in("soak")
TIMEOUT_HOURS = 3


@pytest.mark.parametrize("check", CHECKS)
def test_many_calls_leak_nothing_and_mix_nothing(
    c_programs, check_environment, fixture_file, check
):
    done = run([c_programs / "soak", fixture_file, check], check_environment, TIMEOUT_HOURS * 3600)
    print(done.stdout)
    assert f"ok {check}\n" in expect_success(done)
