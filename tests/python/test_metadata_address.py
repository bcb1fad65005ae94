"""Instance credentials from the real metadata address."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need_tool

DIRECTORY = Path(__file__).parent
SETUP = 'ip link set lo up && ip addr add 169.254.169.254/32 dev lo && exec "$@"'


@pytest.fixture(scope="module")
def results(environment):
    """The results of calls on such a machine, by name."""
    need_tool("ip")
    namespace = [need_tool("unshare"), "--map-root-user", "--net"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody make a network namespace")
    path = f"{environment['PYTHONPATH']}:{DIRECTORY}"
    run = subprocess.run(
        [*namespace, "sh", "-c", SETUP, "sh", sys.executable, str(DIRECTORY / "instance.py")],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    return result


@pytest.mark.parametrize("how", ["metadata", "default", "given", "proxy_of_environment", "proxy"])
def test_instance_credentials_come_from_metadata_address(results, how):
    assert results[how].get("source") == "metadata", results[how]
    assert results["proxied"] == []


@pytest.mark.parametrize("what", ["endpoint", "iam", "other_address", "mapped"])
def test_plain_http_to_metadata_address_is_rejected_for_other_uses(results, what):
    assert results[what].get("error") == "PlaintextRefusedError", results[what]


def test_redirect_to_metadata_address_is_rejected(results):
    assert results["redirect"].get("error") == "RedirectedError", results["redirect"]
    assert "plain http on another host" in results["redirect"]["message"]
