"""Makes the npm packages: one in JavaScript, and one for each platform with the library.

    python packaging/npm.py OUT VERSION NAME=STAGE...

Each NAME, such as linux-x64-glibc, is a platform, and STAGE has its lib/libdbss.so.0, and
perhaps share/sbom. The addon is compiled with CC, which must be for that platform. The
JavaScript must have been built (make -C bindings/node). OUT gets what `npm pack` makes.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "bindings/node"
PLATFORMS = [f"linux-{cpu}-{libc}" for cpu in ("x64", "arm64") for libc in ("glibc", "musl")]
FLAGS = ("-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-s")
# The library lies beside the addon. Node has the functions of Node-API. A worker that ends
# would unload an addon whose threads still run.
LINK = ("-l:libdbss.so.0", "-pthread", "-Wl,-rpath,$ORIGIN", "-Wl,-z,nodelete")


def compile_addon(compiler: list[str], library: Path, out: Path) -> None:
    headers = (SOURCE / "node_modules/node-api-headers/include", ROOT / "include")
    command = [*compiler, *FLAGS, *(f"-I{path}" for path in headers)]
    command += [str(SOURCE / "addon" / name) for name in ("addon.c", "abi.c")]
    command += ["-o", str(out), f"-L{library.parent}", *LINK]
    subprocess.run(command, check=True)


def pack(folder: Path, out: Path) -> None:
    command = ["npm", "pack", "--silent", "--offline", "--pack-destination", str(out)]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def common(version: str) -> dict[str, object]:
    """What all package.json have."""
    manifest = json.loads((SOURCE / "package.json").read_text())
    keys = ("name", "version", "description", "license", "engines")
    return {**{key: manifest[key] for key in keys}, "version": version}


def write_manifest(folder: Path, manifest: dict[str, object]) -> None:
    (folder / "package.json").write_text(json.dumps(manifest, indent=2) + "\n")
    for name in ("LICENSE", "THIRD-PARTY-LICENSES"):
        shutil.copy(ROOT / name, folder)


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_platform(out: Path, version: str, name: str, stage: Path, compiler: list[str]) -> None:
    """Packs the addon and the library of a platform."""
    system, cpu, libc = name.split("-")
    folder = empty(out / "stages" / name)
    library = folder / "libdbss.so.0"
    shutil.copy(stage / "lib/libdbss.so.0", library)
    compile_addon(compiler, library, folder / "dbss.node")
    for sbom in (stage / "share/sbom").glob("libdbss.*"):
        shutil.copy(sbom, folder)
    text = f"# @dbss/{name}\n\nThe native part of the package dbss, which installs it.\n"
    (folder / "README.md").write_text(text)
    platform = {"os": [system], "cpu": [cpu], "libc": [libc], "main": "dbss.node"}
    write_manifest(folder, {**common(version), "name": f"@dbss/{name}", **platform})
    pack(folder, out)


def write_main(out: Path, version: str) -> None:
    """Packs the JavaScript."""
    manifest = json.loads((SOURCE / "package.json").read_text())
    folder = empty(out / "stages/main")
    for name in manifest["files"]:
        copy = shutil.copytree if (SOURCE / name).is_dir() else shutil.copy
        copy(SOURCE / name, folder / name)
    shutil.copy(SOURCE / "README.md", folder)
    kept = {key: manifest[key] for key in ("type", "main", "types", "exports")}
    platforms = {f"@dbss/{name}": version for name in PLATFORMS}
    write_manifest(folder, {**common(version), **kept, "optionalDependencies": platforms})
    pack(folder, out)


def main() -> None:
    out, version, *stages = sys.argv[1:]
    compiler = shlex.split(os.environ.get("CC", "cc"))
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, _, stage in (one.partition("=") for one in stages):
        write_platform(Path(out).resolve(), version, name, Path(stage), compiler)
    write_main(Path(out).resolve(), version)


if __name__ == "__main__":
    main()
