"""The cases of tests/conformance, through the driver of each language.

Select with -k: an area, a case, or a driver, as in -k "download and c-".
"""

import itertools
import json
import sys
from collections import Counter

import jsonschema
import pytest

import harness
from conftest import BUILD, need_tool
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


def new_runner(name, mock, environment, build, directory, wrapper=()):
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
def own_mock():
    """A mock service that only the cases use: they clear what it has received."""
    with MockService(BUILD / "bin/dbss-mock") as running:
        yield running


@pytest.fixture(scope="module")
def runners(own_mock, environment, tmp_path_factory):
    running = {
        name: new_runner(name, own_mock, environment, BUILD, tmp_path_factory.mktemp(name))
        for name in harness.DRIVERS
    }
    yield running
    for runner in running.values():
        runner.close()


@pytest.mark.parametrize(("driver", "case"), RUNS)
def test_conformance_case(driver, case, runners, tmp_path):
    runners[driver].run(case, tmp_path)


# In parts, which can run side by side.
PARTS = 8


def run_part(runner, cases, directory):
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


def name_of(case):
    return case.area, case.data["name"]


def first_of(rows):
    """All rows of a case, but only the first of one that starts the driver: that takes seconds."""
    found = list(rows)
    return found[:1] if found[0].own_process() else found


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_conformance_cases_under_valgrind_pass(part, tls, own_mock, environment, tmp_path):
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
def test_conformance_cases_with_address_sanitizer_pass(part, own_mock, environment, tmp_path):
    if not (BUILD / "asan/tests/conformance/driver").exists():
        pytest.skip("AddressSanitizer: not built; make asan builds and runs it")
    runner = new_runner(
        "c", own_mock, {**environment, "ASAN_OPTIONS": ASAN_OPTIONS}, BUILD / "asan", tmp_path
    )
    cases = [case for case in CASES if not case.needs & {"run", "preload"}]
    run_part(runner, cases[part::PARTS], tmp_path)


@pytest.mark.parametrize("path", harness.case_files(), ids=lambda path: path.stem)
def test_conformance_file_matches_the_schema(path):
    jsonschema.validate(json.loads(path.read_text()), harness.SCHEMA)


def test_conformance_names_are_unique():
    data = [one for path in harness.case_files() for one in json.loads(path.read_text())["cases"]]
    names = Counter(one["name"] for one in data)
    assert [name for name, count in names.items() if count > 1] == []


def test_conformance_skips_are_those_on_record():
    """Another number of skipped cases is a change that a review must see."""
    recorded = json.loads((harness.DIRECTORY / "skips.json").read_text())
    assert harness.skips() == recorded, "run tests/conformance/format.py"
