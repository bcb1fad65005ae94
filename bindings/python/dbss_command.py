"""The command ``dbss``. It is outside of the package, whose import fails without the library."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command and returns its exit code."""
    try:
        from dbss import cli
    except ImportError as error:
        print(f"dbss: {error}", file=sys.stderr)
        # The exit code for any local file that cannot be used.
        return 7
    return cli.main()
