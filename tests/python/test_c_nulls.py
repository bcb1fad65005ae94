"""Every function of the ABI with every combination of NULL and valid pointers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import need_tool
from test_c import VALGRIND, checking, environment, expect_success, facts, programs, run

__all__ = ["checking", "environment", "facts", "programs"]


def test_null_program_calls_every_function(
    root: Path, programs: Path, environment: dict[str, str]
) -> None:
    listed = expect_success(run([programs / "nulls", "--list"], environment)).splitlines()
    description = json.loads((root / "include/dbss-abi.json").read_text())
    assert listed == [f"{one['name']} plain" for one in description["functions"]]


@pytest.mark.parametrize("tool", ["", "valgrind"])
def test_null_argument_behaves_as_documented(
    programs: Path, checking: dict[str, str], facts: Path, tool: str
) -> None:
    command = [need_tool(tool), *VALGRIND[1:]] if tool else []
    done = run([*command, programs / "nulls", facts], checking, 300)
    assert " passed, 0 failed" in expect_success(done, silent=not tool)
