"""Writes THIRD-PARTY-LICENSES: the licences of all that is linked into the library and
the command. ``--check`` only tells whether the file is current."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from targets import RUST_TARGETS

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "THIRD-PARTY-LICENSES"
# What the lock file does not tell of: the standard library, and what is linked statically.
OTHERS = ROOT / "packaging/third-party-notices.txt"
RULE = "-" * 78


def cargo(*arguments: str) -> str:
    done = subprocess.run(
        ["cargo", *arguments, "--locked"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def linked_crates() -> list[dict]:
    """The crates from elsewhere that are linked for any of the platforms."""
    linked = set()
    for target in RUST_TARGETS:
        tree = cargo(
            *("tree", "-p", "libdbss", "-p", "dbss-cli", "--edges", "normal,no-proc-macro"),
            *("--prefix", "none", "--format", "{p}", "--target", target),
        )
        linked |= {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    packages = json.loads(cargo("metadata", "--format-version", "1"))["packages"]
    return [
        package
        for package in sorted(packages, key=lambda package: (package["name"], package["version"]))
        if package["source"] and (package["name"], f"v{package['version']}") in linked
    ]


def license_files(package: dict) -> list[Path]:
    """The files with the licence: where there is a choice with MIT in it, that alone."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(
        file
        for file in folder.iterdir()
        if re.match(r"(li[cs]en[cs]e|copying|unlicense)", file.name, re.IGNORECASE)
    )
    if not files:
        raise SystemExit(f"{package['name']} {package['version']} has no file with its licence")
    mit = [file for file in files if re.search(r"\bMIT\b", file.name)]
    choice = re.split(r" OR |/", package["license"])
    notices = [f for f in folder.iterdir() if re.match("(notice|copyright)", f.name, re.IGNORECASE)]
    return (mit if mit and "MIT" in choice else files) + sorted(notices)


def text() -> str:
    crates = linked_crates()
    lines = [
        "Made by packaging/licenses.py from Cargo.lock. `make licenses` writes it anew.",
        "",
        *OTHERS.read_text().rstrip().splitlines(),
        "",
        RULE,
        "",
        "These crates are linked into the library, the command, or both:",
        "",
    ]
    users: dict[str, list[str]] = {}
    for package in crates:
        name = f"{package['name']} {package['version']}"
        where = package["repository"] or package["homepage"] or "https://crates.io"
        lines += [f"{name}: {package['license']}", f"    {where}"]
        for file in license_files(package):
            license_text = file.read_text().replace("\r\n", "\n").strip("\n")
            license_text = "\n".join(line.rstrip() for line in license_text.splitlines())
            users.setdefault(license_text, []).append(name)
    for license_text, names in users.items():
        lines += ["", RULE, "", *(f"{name}:" for name in names), "", license_text]
    return "\n".join(lines) + "\n"


def main() -> int:
    wanted = text()
    if sys.argv[1:] != ["--check"]:
        RESULT.write_text(wanted)
        return 0
    if not RESULT.exists() or RESULT.read_text() != wanted:
        print(f"{RESULT.name} is not that of Cargo.lock; run make licenses", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
