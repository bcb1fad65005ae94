"""``python -m dbss`` runs the program ``dbss``."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig


def find_program() -> str | None:
    """The path of the program: among this Python's scripts, else in the PATH."""
    places = [
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", f"{os.name}_user"),
        # Where `pip install --target` puts scripts.
        os.path.join(os.path.dirname(os.path.dirname(__file__)), "bin"),
        os.environ.get("PATH", os.defpath),
    ]
    return shutil.which("dbss", path=os.pathsep.join(places))


def main() -> int:
    program = find_program()
    if program is None:
        print(
            "dbss: the program 'dbss' is neither among the scripts of this Python nor in the "
            "PATH; install a wheel of dbss, or the program with 'make install'",
            file=sys.stderr,
        )
        # The exit code for any local file that cannot be used.
        return 7
    os.execv(program, [program, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
