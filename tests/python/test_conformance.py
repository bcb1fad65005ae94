"""The cases of tests/conformance, through the driver of each language.

Select with -k: an area, a case, or a driver, as in -k "download and c-".
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import harness
import jsonschema
import pytest

from mock_service import MockService

DRIVERS = json.loads((harness.DIRECTORY / "drivers.json").read_text())
BUDGET = json.loads((harness.DIRECTORY / "skips.json").read_text())
CASES = harness.load_cases()


def lacking(driver: str, case: harness.Case) -> str | None:
    """The first feature that a driver lacks for a case."""
    lacks = DRIVERS[driver]["lacks"]
    return next((feature for feature in sorted(case.needs()) if feature in lacks), None)


RUNS = [
    pytest.param(driver, case, id=f"{driver}-{case.id}")
    for driver in DRIVERS
    for case in CASES
    if lacking(driver, case) is None
]


def skips() -> dict[str, dict[str, int]]:
    counts = {name: Counter(lacking(name, case) for case in CASES) for name in DRIVERS}
    return {
        name: {feature: n for feature, n in sorted(one.items(), key=str) if feature is not None}
        for name, one in counts.items()
    }


@pytest.fixture(scope="module")
def runners(
    build_dir: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, harness.Runner]]:
    running: dict[str, harness.Runner] = {}
    with MockService(build_dir / "bin/dbss-mock") as mock:
        for name, driver in DRIVERS.items():
            places = {
                "python": sys.executable,
                "directory": str(harness.DIRECTORY),
                "build": str(build_dir),
            }
            running[name] = harness.Runner(
                name,
                [part.format(**places) for part in driver["command"]],
                environment,
                tmp_path_factory.mktemp(name),
                mock,
                driver.get("partial", False),
                build_dir / "bin/dbss",
            )
        yield running
        for runner in running.values():
            runner.close()


@pytest.mark.parametrize(("driver", "case"), RUNS)
def test_conformance_case(
    driver: str, case: harness.Case, runners: dict[str, harness.Runner], tmp_path: Path
) -> None:
    runners[driver].run(case, tmp_path)


@pytest.mark.parametrize("path", harness.case_files(), ids=lambda path: path.stem)
def test_conformance_file_matches_the_schema(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), harness.SCHEMA)


def test_conformance_names_are_unique() -> None:
    names = Counter(case.id for case in CASES)
    assert [name for name, count in names.items() if count > 1] == []


def test_conformance_skips_are_those_of_the_budget() -> None:
    """Fewer skips than the budget has are to be written down there; more are a failure."""
    assert skips() == BUDGET
