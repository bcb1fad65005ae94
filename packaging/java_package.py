"""Makes the jar of the Java package, with the library for each platform in it.

    python packaging/java_package.py BUILD NAME=LIBRARY...
    python packaging/java_package.py BUILD --repository OUT NAME=LIBRARY...
    python packaging/java_package.py --jdk 11|22

Each NAME, such as linux-x86_64-glibc, is a platform, and LIBRARY its libdbss.so.0; a LIBRARY
alone is of this machine. The jar is made in BUILD, by Maven; with --repository there are also
the jars of the sources and of the documentation, and OUT becomes a Maven repository of them,
with the README and the samples.
The last form prints the home of a JDK from 11 to 21, or of 22 or newer; nothing if there is
none. Without the latter the jar has no FFM part.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "bindings/java"
GROUP = "com/example/dbss"
PLATFORMS = [f"linux-{p}-{c}" for p in ("x86_64", "aarch64") for c in ("glibc", "musl")]
# The first version of Java with FFM.
FFM = 22


@lru_cache
def jdks() -> dict[int, Path]:
    """The homes of the JDKs of this machine, by their versions."""
    found = {}
    places = [*Path("/usr/lib/jvm").glob("*"), *(ROOT / "build/tools").glob("jdk*")]
    if java := shutil.which("javac"):
        places.append(Path(java).resolve().parents[1])
    if home := os.environ.get("JAVA_HOME"):
        places.append(Path(home))
    for place in sorted(places):
        release = place / "release"
        if (place / "bin/javac").is_file() and release.is_file():
            version = re.search(r'JAVA_VERSION="(\d+)', release.read_text())
            if version:
                found[int(version[1])] = place
    return found


def jdk(first: int) -> Path | None:
    """The newest JDK from 22 on, or the newest from 11 before it."""
    wanted = [v for v in jdks() if v >= first and (first >= FFM or v < FFM)]
    return jdks()[max(wanted)] if wanted else None


def local_platform() -> str:
    libc = "glibc" if platform.libc_ver()[0] == "glibc" else "musl"
    return f"linux-{platform.machine()}-{libc}"


def build(
    out: Path, libraries: dict[str, Path], *, release: bool, bill: Path | None = None
) -> Path:
    """Makes the jars, and returns that of the package; bill says what the library is made of."""
    home = jdk(FFM) or jdk(11)
    if home is None:
        raise SystemExit("no JDK is installed; Java 11 or newer is needed")
    if home != jdk(FFM):
        print(f"no JDK from {FFM} on: the jar has no FFM part", file=sys.stderr)
    out = out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    for name in PLATFORMS:
        if name in libraries:
            (out / "natives" / name).mkdir(parents=True)
            shutil.copyfile(libraries[name], out / "natives" / name / "libdbss.so.0")
        else:
            print(f"the jar has no library for {name}", file=sys.stderr)
    (out / "bills").mkdir()
    if bill:
        shutil.copy(bill, out / "bills")
    command = ["mvn", "-q", "-B", f"-Ddbss.build={out}", *(["-Prelease"] if release else [])]
    # Newer Java complains about what Maven itself uses.
    quiet = "--sun-misc-unsafe-memory-access=allow" if home == jdk(FFM) else ""
    environment = {**os.environ, "JAVA_HOME": str(home), "MAVEN_OPTS": quiet}
    subprocess.run([*command, "package"], cwd=SOURCE, env=environment, check=True)
    (jar,) = (path for path in out.glob("dbss-*.jar") if path.stem.count("-") == 1)
    return jar


def write_repository(out: Path, jar: Path) -> None:
    """Writes the files of a version as a Maven repository has them."""
    version = jar.stem.partition("-")[2]
    folder = out / GROUP / version
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SOURCE / "pom.xml", folder / f"dbss-{version}.pom")
    for one in jar.parent.glob("dbss-*.jar"):
        shutil.copyfile(one, folder / one.name)
    # Maven adds only the sources of the oldest Java, and no licence.
    newer = SOURCE / "src/main/java22"
    more = {"META-INF/LICENSE": ROOT / "LICENSE"}
    for one in sorted(newer.rglob("*.java")):
        more[f"META-INF/versions/{FFM}/{one.relative_to(newer)}"] = one
    with zipfile.ZipFile(folder / f"dbss-{version}-sources.jar", "a") as sources:
        for name, file in more.items():
            sources.writestr(zipfile.ZipInfo(name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    for one in sorted(folder.iterdir()):
        digest = hashlib.sha1(one.read_bytes(), usedforsecurity=False).hexdigest()
        one.with_name(f"{one.name}.sha1").write_text(digest)
    shutil.copy(SOURCE / "README.md", out)
    shutil.copytree(SOURCE / "samples", out / "samples", dirs_exist_ok=True)


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] == "--jdk":
        print(jdk(int(arguments[1])) or "")
        return
    out, *rest = arguments
    repository = Path(rest[1]) if rest[0] == "--repository" else None
    libraries = {}
    for one in rest[2:] if repository else rest:
        name, equals, path = one.partition("=")
        libraries[name if equals else local_platform()] = Path(path if equals else name)
    jar = build(Path(out), libraries, release=repository is not None)
    if repository:
        write_repository(repository, jar)


if __name__ == "__main__":
    main()
