"""Calls with little memory through the C ABI: checks in C."""

import pytest

from mock_service import MockService
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

CHECKS = checks_in("scarcity")


@pytest.fixture(scope="module")
def mock(build_dir):
    """A separate service, because the tests add instances permanently."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


def test_scarcity_checks_are_all_run(c_programs, environment):
    listed = expect_success(run([c_programs / "scarcity", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in CHECKS.items()]


@pytest.mark.parametrize("check", CHECKS)
def test_call_without_memory_does_not_end_the_process(
    c_programs, check_environment, fixture_file, check
):
    done = run([c_programs / "scarcity", fixture_file, check], check_environment, 3600)
    assert f"ok {check}\n" in expect_success(done)
