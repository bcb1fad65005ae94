"""The cases of tests/conformance, through the driver of each language.

Select with -k: an area, a case, or a driver, as in -k "download and c-".
"""

import itertools
import json
import sys
from collections import Counter

import jsonschema
import pytest

import cases
from cases import DRIVERS
from comparing import Failure
from running import Runner
from support import BUILD, need_jdk, need_tool, new_mock
from test_c import ASAN, VALGRIND, VALGRIND_TLS

CASES = cases.load_cases()
RUNS = [
    pytest.param(driver, case, id=f"{driver}-{case.id}")
    for driver in DRIVERS
    for case in CASES
    if cases.lacking(driver, case) is None
]
# Only the cases use it: they clear what it has received.
own_mock = pytest.fixture(scope="module")(new_mock)


@pytest.fixture(scope="module")
def new_runner(own_mock, environment, tmp_path_factory):
    runners = []

    def make(name, build=BUILD, wrapper=(), **more):
        driver = DRIVERS[name]
        places = {"python": sys.executable, "directory": cases.DIRECTORY, "build": build}
        command = [*wrapper, *(part.format(**places) for part in driver["command"])]
        options = {key: driver[key] for key in ("partial", "endpoint") if key in driver}
        options["names"] = cases.own_names(driver)
        place = (tmp_path_factory.mktemp(name), own_mock, BUILD, driver["build"])
        runners.append(Runner(command, {**environment, **more}, *place, **options))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


@pytest.fixture(scope="module")
def runners(new_runner):
    return {name: new_runner(name) for name in DRIVERS}


@pytest.mark.parametrize(("driver", "case"), RUNS)
def test_conformance_case(driver, case, runners, tmp_path):
    if first := DRIVERS[driver].get("jdk"):
        need_jdk(first)
    runners[driver].run(case, tmp_path)


# In parts, which can run side by side.
PARTS = 8
in_parts = pytest.mark.parametrize("part", range(PARTS))


def run_part(runner, chosen, part, directory):
    """Runs cases one after the other through one driver, which must end without complaint."""
    failures = []
    for number, case in enumerate(chosen[part::PARTS]):
        (directory / f"{number}").mkdir()
        try:
            runner.run(case, directory / f"{number}")
        except Failure as failure:
            failures.append(f"{case.id}: {failure}")
    try:
        runner.close()
    except Failure as failure:
        failures.append(str(failure))
    assert failures == []


def first_of(rows):
    """All rows of a case, but only the first of one that starts the driver: that takes seconds."""
    found = list(rows)
    return found[:1] if found[0].own_process() else found


@in_parts
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_conformance_cases_under_valgrind_pass(part, tls, new_runner, tmp_path):
    need_tool("valgrind")
    chosen = [case for case in CASES if ("https" in json.dumps(case.data).lower()) == tls]
    groups = itertools.groupby(chosen, lambda case: (case.area, case.data["name"]))
    chosen = [case for _, rows in groups for case in first_of(rows)]
    chosen = [one for one in chosen if not one.needs & {"run", "time", "preload", "no_valgrind"}]
    runner = new_runner("c", wrapper=VALGRIND_TLS if tls else VALGRIND)
    run_part(runner, chosen, part, tmp_path)


@in_parts
def test_conformance_cases_with_address_sanitizer_pass(part, new_runner, tmp_path):
    if not (BUILD / "asan/tests/conformance/driver").exists():
        pytest.skip("AddressSanitizer: not built; make asan builds and runs it")
    chosen = [case for case in CASES if not case.needs & {"run", "preload"}]
    run_part(new_runner("c", BUILD / "asan", **ASAN), chosen, part, tmp_path)


@pytest.mark.parametrize("path", cases.case_files(), ids=lambda path: path.stem)
def test_conformance_file_matches_the_schema(path):
    jsonschema.validate(json.loads(path.read_text()), cases.SCHEMA)


def test_conformance_names_are_unique():
    data = [one for path in cases.case_files() for one in json.loads(path.read_text())["cases"]]
    names = Counter(one["name"] for one in data)
    assert [name for name, count in names.items() if count > 1] == []


def test_conformance_skips_are_those_on_record():
    """Another number of skipped cases is a change that a review must see."""
    recorded = json.loads((cases.DIRECTORY / "skips.json").read_text())
    assert cases.skips() == recorded, "run tests/conformance/format.py"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("import os; print('why', file=os.sys.stderr); os.abort()", r"signal 6 \(SIGABRT\).*why"),
        ("print('why', file=__import__('sys').stderr); raise SystemExit(3)", "exit code 3.*why"),
        (None, "/no/such/driver is not built; try: make drivers"),
    ],
)
def test_driver_that_dies_or_is_missing_is_told(own_mock, environment, tmp_path, command, says):
    words = [sys.executable, "-c", command] if command else ["/no/such/driver"]
    runner = Runner(words, environment, tmp_path, own_mock, BUILD, "make drivers")
    with pytest.raises(Failure, match=f"(?s){says}"):
        runner.run(cases.Case("client", {"steps": [{"call": "check"}]}), tmp_path)
