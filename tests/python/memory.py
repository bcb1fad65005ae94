"""How much memory a program in Python needs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mock_service import MockService

PROGRAM = """
import dbss, os
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"],
                     project_id=os.environ["PROJECT"], max_attempts=1)
before = peak()
"""


def run_and_measure(
    environment: dict[str, str], mock: MockService, code: str, **variables: str
) -> tuple[str, int]:
    """What the code prints, and by how many KiB its peak grew; it has a `client`."""
    more = {"ENDPOINT": mock.http, "TOKEN": mock.token, "PROJECT": mock.project_id}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{PROGRAM}{code}\nprint(peak() - before)\n"],
        env={**environment, **more, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed, grown = done.stdout.rsplit(maxsplit=1)
    return printed, int(grown)
