"""Calls on a machine whose clock is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import need_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from mock_service import MockService

HOUR = 3600
PROGRAM = """
import json, sys, dbss
ids, options = json.loads(sys.stdin.read())
try:
    with dbss.Client(max_attempts=1, **options) as client:
        print(json.dumps(["ok", len(client.download_report(*ids))]))
except dbss.Error as error:
    print(json.dumps([type(error).__name__, error.message]))
"""


@pytest.fixture(scope="module")
def clock_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the clock of a process."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = [need_tool("cc"), "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return library


@pytest.fixture
def download(
    clock_library: Path, mock: MockService, environment: dict[str, str]
) -> Callable[..., tuple[str, Any]]:
    """Downloads in a process whose clock is shifted by some seconds; returns the outcome."""

    def run(offset: int, **options: Any) -> tuple[str, Any]:
        ids = (mock.project_id, mock.instance_id, mock.pdf["id"])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**environment, "LD_PRELOAD": str(clock_library), "CLOCK_OFFSET": str(offset)},
            input=json.dumps([ids, options]),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        kind, detail = json.loads(done.stdout)
        return kind, detail

    return run


def before_1970() -> int:
    return -int(time.time()) - 1000


@pytest.mark.parametrize(
    ("offset", "words"),
    [(HOUR + 30, "1h ahead of"), (-HOUR - 30, "1h behind"), (90_030, "1day 1h ahead of")],
)
def test_signature_with_wrong_clock_error_has_the_difference(
    download: Callable[..., tuple[str, Any]], mock: MockService, offset: int, words: str
) -> None:
    keys = {"access_key": mock.access_key, "secret_key": mock.secret_key}
    kind, message = download(offset, endpoint=mock.http, **keys)
    assert kind == "UnauthenticatedError"
    assert f"this machine's clock is {words} the server's" in message
    assert "wrong, or of another region" not in message
    # The service tolerates a small difference.
    assert download(60, endpoint=mock.http, **keys)[0] == "ok"
    kind, message = download(0, endpoint=mock.http, **{**keys, "secret_key": "another"})
    assert kind == "UnauthenticatedError"
    assert "clock" not in message


def test_token_with_wrong_clock_is_accepted(
    download: Callable[..., tuple[str, Any]], mock: MockService
) -> None:
    for offset in (HOUR, before_1970()):
        arguments = {"endpoint": mock.http, "token": mock.token}
        assert download(offset, **arguments)[0] == "ok"
        kind, message = download(offset, **{**arguments, "token": "another-token"})
        assert kind == "UnauthenticatedError"
        assert "clock" not in message


def test_certificate_with_wrong_clock_error_has_the_times(
    download: Callable[..., tuple[str, Any]], mock: MockService
) -> None:
    arguments = {"endpoint": mock.https, "ca_file": mock.ca_file, "token": mock.token}
    assert download(0, **arguments)[0] == "ok"
    kind, message = download(50 * 365 * 24 * HOUR, **arguments)
    assert kind == "CertificateError"
    for words in ("has expired: it was valid until 20", " later", "clock"):
        assert words in message
    assert "ca_file" not in message
    kind, message = download(-10 * 365 * 24 * HOUR, **arguments)
    assert kind == "CertificateError"
    for words in ("is not valid yet: it is valid from 20", " earlier", "clock"):
        assert words in message
    assert "ca_file" not in message


def test_clock_before_1970_is_reported(
    download: Callable[..., tuple[str, Any]], mock: MockService
) -> None:
    arguments = {"endpoint": mock.https, "ca_file": mock.ca_file, "token": mock.token}
    kind, message = download(before_1970(), **arguments)
    assert kind == "CertificateError"
    assert "clock is before 1970" in message
    keys = {"access_key": mock.access_key, "secret_key": mock.secret_key}
    kind, message = download(before_1970(), endpoint=mock.http, **keys)
    assert kind == "UnauthenticatedError"
    assert "behind the server's" in message
