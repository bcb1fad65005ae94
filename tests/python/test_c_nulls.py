"""Every function of the ABI with every combination of NULL and valid pointers."""

import json

import pytest

from conftest import need_tool
from test_c import (
    VALGRIND,
    c_programs,
    check_environment,
    environment,
    expect_success,
    fixture_file,
    run,
)

__all__ = ["c_programs", "check_environment", "environment", "fixture_file"]


def test_null_program_calls_every_function(root, c_programs, environment):
    listed = expect_success(run([c_programs / "nulls", "--list"], environment)).splitlines()
    description = json.loads((root / "include/dbss-abi.json").read_text())
    assert listed == [f"{one['name']} plain" for one in description["functions"]]


@pytest.mark.parametrize("tool", ["", "valgrind"])
def test_null_argument_behaves_as_documented(c_programs, check_environment, fixture_file, tool):
    command = [need_tool(tool), *VALGRIND[1:]] if tool else []
    done = run([*command, c_programs / "nulls", fixture_file], check_environment, 300)
    assert " passed, 0 failed" in expect_success(done, silent=not tool)
