"""The cases of tests/conformance, through the driver of each language.

Select with -k: an area, a case, or a driver, as in -k "download and c-".
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jsonschema
import pytest

import harness
from conftest import BUILD, need_jdk, need_tool
from mock_service import MockService
from test_asan import OPTIONS as ASAN_OPTIONS
from test_c import VALGRIND, VALGRIND_TLS

CASES = harness.load_cases()


RUNS = [
    pytest.param(driver, case, id=f"{driver}-{case.id}")
    for driver in harness.DRIVERS
    for case in CASES
    if harness.lacking(driver, case) is None
]


def new_runner(
    name: str,
    mock: MockService,
    environment: dict[str, str],
    build: Path,
    directory: Path,
    wrapper: Sequence[str] = (),
) -> harness.Runner:
    driver = harness.DRIVERS[name]
    places = {"python": sys.executable, "directory": harness.DIRECTORY, "build": build}
    return harness.Runner(
        name,
        [*wrapper, *(part.format(**places) for part in driver["command"])],
        environment,
        directory,
        mock,
        driver.get("partial", False),
        driver.get("endpoint", "http"),
        BUILD / "bin/dbss",
        BUILD / "tests/conformance/clock.so",
    )


@pytest.fixture(scope="module")
def own_mock() -> Iterator[MockService]:
    """A mock service that only the cases use: they clear what it has received."""
    with MockService(BUILD / "bin/dbss-mock") as running:
        yield running


@pytest.fixture(scope="module")
def runners(
    own_mock: MockService, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, harness.Runner]]:
    running = {
        name: new_runner(name, own_mock, environment, BUILD, tmp_path_factory.mktemp(name))
        for name in harness.DRIVERS
    }
    yield running
    for runner in running.values():
        runner.close()


@pytest.mark.parametrize(("driver", "case"), RUNS)
def test_conformance_case(
    driver: str, case: harness.Case, runners: dict[str, harness.Runner], tmp_path: Path
) -> None:
    if first := harness.DRIVERS[driver].get("jdk"):
        need_jdk(first)
    runners[driver].run(case, tmp_path)


# In parts, which can run side by side.
PARTS = 8


def run_part(runner: harness.Runner, cases: list[harness.Case], directory: Path) -> None:
    """Runs cases one after the other through one driver, which must end without complaint."""
    failures = []
    for number, case in enumerate(cases):
        (directory / f"{number}").mkdir()
        try:
            runner.run(case, directory / f"{number}")
        except harness.Failure as failure:
            failures.append(f"{case.id}: {failure}")
    try:
        runner.close()
    except harness.Failure as failure:
        failures.append(str(failure))
    assert failures == []


def name_of(case: harness.Case) -> tuple[str, str]:
    return case.area, case.data["name"]


def first_of(rows: Iterable[harness.Case]) -> list[harness.Case]:
    """All rows of a case, but only the first of one that starts the driver: that takes seconds."""
    found = list(rows)
    return found[:1] if found[0].own_process() else found


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_conformance_cases_under_valgrind_pass(
    part: int, tls: bool, own_mock: MockService, environment: dict[str, str], tmp_path: Path
) -> None:
    need_tool("valgrind")
    cases = [case for case in CASES if ("https" in json.dumps(case.data).lower()) == tls]
    cases = [case for _, same in itertools.groupby(cases, name_of) for case in first_of(same)]
    wrapper = VALGRIND_TLS if tls else VALGRIND
    runner = new_runner("c", own_mock, environment, BUILD, tmp_path, wrapper)
    run_part(
        runner,
        [case for case in cases if not case.needs & {"run", "time", "preload", "no_valgrind"}][
            part::PARTS
        ],
        tmp_path,
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_conformance_cases_with_address_sanitizer_pass(
    part: int, own_mock: MockService, environment: dict[str, str], tmp_path: Path
) -> None:
    if not (BUILD / "asan/tests/conformance/driver").exists():
        pytest.skip("AddressSanitizer: not built; make asan builds and runs it")
    runner = new_runner(
        "c", own_mock, {**environment, "ASAN_OPTIONS": ASAN_OPTIONS}, BUILD / "asan", tmp_path
    )
    cases = [case for case in CASES if not case.needs & {"run", "preload"}]
    run_part(runner, cases[part::PARTS], tmp_path)


@pytest.mark.parametrize("path", harness.case_files(), ids=lambda path: path.stem)
def test_conformance_file_matches_the_schema(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), harness.SCHEMA)


def test_conformance_names_are_unique() -> None:
    data = [one for path in harness.case_files() for one in json.loads(path.read_text())["cases"]]
    names = Counter(one["name"] for one in data)
    assert [name for name, count in names.items() if count > 1] == []


def test_conformance_skips_are_those_on_record() -> None:
    """Another number of skipped cases is a change that a review must see."""
    recorded = json.loads((harness.DIRECTORY / "skips.json").read_text())
    assert harness.skips() == recorded, "run tests/conformance/format.py"
