"""The command of the systemd service runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from command import Command, command

if TYPE_CHECKING:
    from mock_service import MockService

# Imported fixtures; this file does not use the names directly.
__all__ = ["command"]


def test_command_of_service_updates_an_archive(
    root: Path, mock: MockService, command: Command, tmp_path: Path
) -> None:
    unit = (root / "packaging/systemd/dbss-mirror.service").read_text().replace("\\\n", " ")
    [line] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    (state / "dbss-mirror").mkdir(parents=True)
    credentials.write_text(f"[basic]\nak = {mock.access_key}\nsk = {mock.secret_key}\n")
    credentials.chmod(0o600)
    program, *arguments = shlex.split(line.replace("%S", str(state)))
    assert program == "/usr/bin/dbss"
    [variable] = re.findall(r"^Environment=(\w+)=%d/credentials$", unit, re.MULTILINE)
    done = command.run(*arguments, env={variable: str(credentials), "DBSS_TOKEN": None})
    assert done.returncode == 0, done.stderr
    assert (state / "dbss-mirror/reports/SHA256SUMS").exists()
    assert json.loads((state / "dbss-mirror/success.json").read_text())["failed"] == 0
