"""Makes the Go module, with the library for each platform in it, as a Go proxy serves it.

    python packaging/go_module.py OUT VERSION NAME=ARCHIVE...

Each NAME, such as linux_amd64_glibc, is a platform, and ARCHIVE its libdbss.a. OUT becomes
the root of a proxy: `GOPROXY=file://OUT go get example.com/dbss@vVERSION` gets the module.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "bindings/go"
MODULE = "example.com/dbss"
ABI = "internal/abi"
# What zip writes for the oldest time that it knows; Go gives files no time.
TIME = (1980, 1, 1, 0, 0, 0)


def contents(archives: dict[str, Path], bill: Path | None) -> dict[str, Path]:
    """The files of the module, by their paths in it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "."]
    listed = subprocess.run(command, cwd=SOURCE, check=True, stdout=subprocess.PIPE, text=True)
    files = {
        name: SOURCE / name
        for name in listed.stdout.splitlines()
        # The tests need the mock service, and this file the repository.
        if not name.endswith(("_test.go", "/link_repository.go"))
    }
    files[f"{ABI}/dbss.h"] = ROOT / "include/dbss.h"
    for name in ("LICENSE", "THIRD-PARTY-LICENSES"):
        files[name] = ROOT / name
    for name, archive in archives.items():
        files[f"{ABI}/libdbss_{name}.a"] = archive
    if bill:
        files[bill.name] = bill
    return files


def write_module(
    out: Path, version: str, archives: dict[str, Path], time: str, bill: Path | None = None
) -> None:
    """Writes what a proxy serves of one version; `time` is that of the version (RFC 3339),
    and `bill` says what the library is made of."""
    folder = out / MODULE / "@v"
    folder.mkdir(parents=True, exist_ok=True)
    version = f"v{version}"
    (folder / "list").write_text(f"{version}\n")
    (folder / f"{version}.info").write_text(json.dumps({"Version": version, "Time": time}) + "\n")
    (folder / f"{version}.mod").write_bytes((SOURCE / "go.mod").read_bytes())
    with zipfile.ZipFile(folder / f"{version}.zip", "w", zipfile.ZIP_DEFLATED) as module:
        for name, path in sorted(contents(archives, bill).items()):
            entry = zipfile.ZipInfo(f"{MODULE}@{version}/{name}", TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            module.writestr(entry, path.read_bytes())


def main() -> None:
    out, version, *archives = sys.argv[1:]
    paths = {name: Path(path) for name, _, path in (one.partition("=") for one in archives)}
    write_module(Path(out), version, paths, "1980-01-01T00:00:00Z")


if __name__ == "__main__":
    main()
