"""What is in a package: whether it has its licences, says what it is made of, and has no
link that leads nowhere.

    python packaging/contents.py FILE...
"""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ELF = b"\x7fELF"
ARCHIVE = b"!<arch>\n"
# Text in Markdown, where links are; these are shown on a page of their own, without files.
METADATA = ("METADATA", "PKG-INFO")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def files_in(package: Path) -> dict[str, bytes]:
    """The content of a package by its paths; a compressed text has its plain name."""
    if package.suffix == ".deb":
        command = ["dpkg-deb", "--fsys-tarfile", package]
        data = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    else:
        data = package.read_bytes()
    return unpack(data)


def unpack(data: bytes) -> dict[str, bytes]:
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {one: archive.read(one) for one in archive.namelist()}
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if file := archive.extractfile(member) if member.isfile() else None:
                files[posixpath.normpath(member.name)] = file.read()
    # As Debian compresses what is long.
    for name in [name for name in files if name.endswith(".gz")]:
        files[name.removesuffix(".gz")] = gzip.decompress(files.pop(name))
    return files


def problems(package: Path) -> Iterator[str]:
    files = files_in(package)
    # A Go proxy and a Maven repository have their packages inside.
    inner = [name for name in files if name.endswith((".zip", ".jar"))]
    for name in inner:
        for problem in problems_of(unpack(files[name]), is_debug=False):
            yield f"{package.name}: {name}: {problem}"
    if not inner:
        for problem in problems_of(files, is_debug="-debug." in package.name):
            yield f"{package.name}: {problem}"


def problems_of(files: dict[str, bytes], *, is_debug: bool) -> Iterator[str]:
    names = {posixpath.basename(name) for name in files}
    if not names & {"LICENSE", "copyright"}:
        yield "no licence"
    built = any(data.startswith((ELF, ARCHIVE)) for data in files.values())
    if built or "Cargo.lock" in names:
        if "THIRD-PARTY-LICENSES" not in names:
            yield "no licences of what is linked into it"
        if not is_debug and not any(name.endswith(".cdx.json") for name in names):
            yield "it does not say what it is made of"
    for name, data in files.items():
        if name.endswith(".cdx.json"):
            yield from (f"{name}: {problem}" for problem in bill_problems(data.decode()))
        elif name.endswith((".md", *METADATA)):
            for link in dead_links(name, data.decode(), set(files)):
                yield f"{name}: the link {link} leads nowhere"


def bill_problems(text: str) -> Iterator[str]:
    bill = json.loads(text)
    if bill.get("bomFormat") != "CycloneDX" or not bill.get("components"):
        yield "not a list of components"
    if re.search(r"/(tmp|root|home|work)/", text):
        yield "a path of the machine that built it"


def dead_links(name: str, text: str, files: set[str]) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for link in LINK.findall(text):
        path = link.split("#")[0]
        if re.match(r"[a-z]+:", link) or not path:
            continue
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        there = target in files or any(file.startswith(f"{target}/") for file in files)
        if name.endswith(METADATA) or not there:
            yield link


def main() -> int:
    found = [problem for name in sys.argv[1:] for problem in problems(Path(name))]
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
