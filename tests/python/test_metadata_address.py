"""Instance credentials from the real metadata address."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import need_tool, skip_unless_in_ci

DIRECTORY = Path(__file__).parent
SETUP = 'ip link set lo up && ip addr add 169.254.169.254/32 dev lo && exec "$@"'


@pytest.fixture(scope="module")
def results(environment: dict[str, str]) -> dict[str, Any]:
    """The results of calls on such a machine, by name."""
    need_tool("ip")
    namespace = [need_tool("unshare"), "--map-root-user", "--net"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        skip_unless_in_ci("this machine lets nobody make a network namespace")
    path = f"{environment['PYTHONPATH']}:{DIRECTORY}"
    run = subprocess.run(
        [*namespace, "sh", "-c", SETUP, "sh", sys.executable, str(DIRECTORY / "instance.py")],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


@pytest.mark.parametrize("how", ["metadata", "default", "given", "proxy_of_environment", "proxy"])
def test_instance_credentials_come_from_metadata_address(results: dict[str, Any], how: str) -> None:
    assert results[how].get("source") == "metadata", results[how]
    assert results["proxied"] == []


@pytest.mark.parametrize("what", ["endpoint", "iam", "other_address", "mapped"])
def test_plain_http_to_metadata_address_is_rejected_for_other_uses(
    results: dict[str, Any], what: str
) -> None:
    assert results[what].get("error") == "PlaintextRefusedError", results[what]


def test_redirect_to_metadata_address_is_rejected(results: dict[str, Any]) -> None:
    assert results["redirect"].get("error") == "RedirectedError", results["redirect"]
    assert "plain http on another host" in results["redirect"]["message"]
