"""Lists and generated reports through the C ABI: checks in C, and the sample program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import need_tool
from mock_service import MockService
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

if TYPE_CHECKING:
    from collections.abc import Iterator

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "environment", "fixture_file"]

CHECKS = checks_in("lists")
TIME_RANGE = ("2026-11-23 00:00:00", "2026-11-24 00:00:00")


@pytest.fixture(scope="module")
def mock(build_dir: Path) -> Iterator[MockService]:
    """A separate service, because the tests add instances permanently."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


@pytest.fixture(autouse=True)
def reset_mock(mock: MockService) -> None:
    # Faults of a failed test must not affect the next one.
    mock.clear_faults()
    mock.set_generation()


def test_lists_checks_are_all_run(c_programs: Path, environment: dict[str, str]) -> None:
    listed = expect_success(run([c_programs / "lists", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in CHECKS.items()]
    assert len(listed) > 15


@pytest.mark.parametrize("check", CHECKS)
def test_lists_check_passes(
    c_programs: Path, environment: dict[str, str], fixture_file: Path, check: str
) -> None:
    done = run([c_programs / "lists", fixture_file, check], environment)
    assert f"ok {check}\n" in expect_success(done)


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
def test_lists_checks_under_valgrind_pass(
    c_programs: Path, environment: dict[str, str], fixture_file: Path, kind: str
) -> None:
    need_tool("valgrind")
    checks = [name for name, its_kind in CHECKS.items() if its_kind == kind]
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, c_programs / "lists", fixture_file, *checks], environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)


# The sample program.


@pytest.fixture
def service(environment: dict[str, str], mock: MockService) -> dict[str, str]:
    return {
        **environment,
        "DBSS_ENDPOINT": mock.http,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
    }


@pytest.fixture
def arguments(mock: MockService, tmp_path: Path) -> list[str]:
    template = mock.templates[0]["id"]
    return [mock.instance_id, template, *TIME_RANGE, str(tmp_path / "report.pdf")]


def test_sample_program_is_short(root: Path) -> None:
    assert len((root / "bindings/c/generate.c").read_text().splitlines()) < 70


@pytest.mark.parametrize("wrap", [[], VALGRIND], ids=["plain", "valgrind"])
def test_sample_program_generates_and_saves_a_report(
    build_dir: Path,
    mock: MockService,
    service: dict[str, str],
    arguments: list[str],
    tmp_path: Path,
    wrap: list[str],
) -> None:
    if wrap:
        need_tool("valgrind")
    mock.set_generation(percent_per_list=100)
    done = run([*wrap, build_dir / "bin/dbss-generate", *arguments], service)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"saved {mock.made()[-1]} as {arguments[-1]}\n"
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
    steps = re.findall(r"^the report is at (\d+)%$", done.stderr, re.MULTILINE)
    # valgrind prints the thread-local memory of the standard library.
    messages = [line for line in done.stderr.splitlines() if not line.startswith("==")]
    assert len(messages) == len(steps)
    assert steps == sorted(steps, key=int)


def test_sample_program_reports_the_error(
    build_dir: Path,
    mock: MockService,
    service: dict[str, str],
    arguments: list[str],
    tmp_path: Path,
) -> None:
    program = build_dir / "bin/dbss-generate"

    def fails(*arguments: str, **variables: str) -> str:
        done = run([program, *arguments], {**service, **variables})
        assert (done.returncode, done.stdout) == (1, "")
        assert not (tmp_path / "report.pdf").exists()
        return done.stderr

    assert fails().startswith("usage: dbss-generate ")
    assert fails(*arguments, "more").startswith("usage: ")
    assert "no template" in fails(arguments[0], "0" * 32, *arguments[2:])
    assert "refused" in fails(*arguments, DBSS_TOKEN="a-token-of-nobody")
    assert "HTTPS" in fails(*arguments, DBSS_ENDPOINT="http://192.0.2.1").upper()
    # The report is created, and the error names its id.
    mock.set_generation(percent_per_list=100)
    (tmp_path / "taken").write_text("")
    message = fails(*arguments[:-1], str(tmp_path / "taken"))
    assert f"dbss-generate: {mock.made()[-1]}: " in message


def test_sample_program_compiles_as_c11_without_extensions(root: Path) -> None:
    for standard in ("c99", "c11"):
        subprocess.run(
            [
                *("cc", f"-std={standard}", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"),
                *("-I", root / "include", "-fsyntax-only", root / "bindings/c/generate.c"),
            ],
            check=True,
        )
