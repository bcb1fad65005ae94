"""libdbss and the official SDKs find the same credentials, project and hosts (tests/sdk).

The SDKs for Go and Java are built and run by make sdk alone.
"""

import subprocess

import pytest

import comparison
from comparison import OURS
from support import BUILD, need_tool, skip

COMBINATIONS = comparison.load_combinations()
SDKS = ["Python", *(pytest.param(name, marks=pytest.mark.sdk) for name in ("Go", "Java"))]
NAMES = [row["name"] for row in COMBINATIONS]


@pytest.fixture(scope="session")
def results(request):
    """What each SDK did in each combination."""
    for tool in ("ip", "mount", "unshare"):
        need_tool(tool)
    if subprocess.run([*comparison.namespace(), "true"], capture_output=True).returncode != 0:
        skip("this machine lets nobody make a network namespace")
    sdks = comparison.programs(BUILD)
    if not any(item.get_closest_marker("sdk") for item in request.session.items):
        sdks = {name: sdks[name] for name in (OURS, "Python")}
    return comparison.run(COMBINATIONS, sdks, BUILD)


def observed(results, name, sdk):
    if sdk not in results[name]:
        skip(f"the toolchain for {sdk} is missing")
    return results[name][sdk]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=NAMES)
@pytest.mark.parametrize("sdk", SDKS)
def test_sdk_differs_only_where_explained(results, sdk, combination):
    theirs = observed(results, combination["name"], sdk)
    ours = results[combination["name"]][OURS]
    assert theirs["wrong_server_names"] == ours["wrong_server_names"] == []
    different = comparison.differences(ours, theirs)
    explained = sdk in combination["differs"]
    assert bool(different) == explained, (different, ours, theirs)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("Reports: ")])
@pytest.mark.parametrize("sdk", [OURS, *SDKS])
def test_sdk_makes_downloads_and_deletes_report(results, sdk, name):
    done = observed(results, name, sdk)
    assert "error" not in done, done
    assert done["key"] == ("explicit" if name.endswith("with a key") else "metadata")
    assert (done["created"], done["deleted"], done["left"]) == ("success", "SUCCESS", True)
    assert done["format"] == "%PDF-"
    assert all(request.endswith((" 200", " 201")) for request in done["requests"])


@pytest.mark.sdk
def test_comparison_document_is_current(results):
    for sdk in comparison.versions():
        observed(results, NAMES[0], sdk)
    assert comparison.DOCUMENT.read_text() == comparison.document(COMBINATIONS, results), (
        "run: make sdk-comparison"
    )
