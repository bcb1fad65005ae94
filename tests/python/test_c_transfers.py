"""Transfers through the C ABI: checks in C.

These variables make some checks longer: DBSS_TEST_ROUNDS (random cuts, 120) and DBSS_TEST_KILLS
(kills during a save, 80).
"""

import os
from pathlib import Path

import pytest

from conftest import need_tool
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

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "environment", "fixture_file"]

PROGRAMS = (
    *("download", "errors", "lists", "log", "operation", "network", "fork", "signals"),
    *("threads", "closing"),
    *("files", "mirror", "credentials"),
)

CHECKS = [
    (program, name, kind) for program in PROGRAMS for name, kind in checks_in(program).items()
]


@pytest.fixture
def check_environment(environment, tmp_path):
    """An environment for the check programs."""
    test_variables = ("DBSS_TEST_ROUNDS", "DBSS_TEST_KILLS")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return {
        **environment,
        **{name: os.environ[name] for name in test_variables if name in os.environ},
        "TMPDIR": str(scratch),
    }


@pytest.fixture(autouse=True)
def clear_faults(mock):
    # Faults of a failed test must not affect the next one.
    mock.clear_faults()


@pytest.mark.parametrize("program", PROGRAMS)
def test_transfer_checks_are_all_run(c_programs, environment, program):
    listed = expect_success(run([c_programs / program, "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for owner, name, kind in CHECKS if owner == program]
    assert listed


@pytest.mark.parametrize(("program", "check", "kind"), CHECKS)
def test_transfer_check_passes(c_programs, check_environment, fixture_file, program, check, kind):
    done = run([c_programs / program, fixture_file, check], check_environment, 1000)
    assert f"ok {check}\n" in expect_success(done)
    assert not any(Path(check_environment["TMPDIR"]).iterdir())


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_transfer_checks_under_valgrind_pass(
    c_programs, check_environment, fixture_file, program, kind
):
    need_tool("valgrind")
    checks = [name for owner, name, its_kind in CHECKS if (owner, its_kind) == (program, kind)]
    if not checks:
        return
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, c_programs / program, fixture_file, *checks], check_environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)
