"""Instance credentials from the real metadata address."""

import json
import sys
from pathlib import Path

import pytest

from support import isolated, need_tool, output

DIRECTORY = Path(__file__).parent
SETUP = 'ip link set lo up && ip addr add 169.254.169.254/32 dev lo && exec "$@"'


@pytest.fixture(scope="module")
def results(environment):
    """The results of calls on such a machine, by name."""
    need_tool("ip")
    path = f"{environment['PYTHONPATH']}:{DIRECTORY}"
    program = ("sh", "-c", SETUP, "sh", sys.executable, DIRECTORY / "instance.py")
    return json.loads(output(*isolated(), *program, env={**environment, "PYTHONPATH": path}))


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
