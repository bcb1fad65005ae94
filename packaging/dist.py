"""Builds the release archives, the wheels and the source distribution of Python, the Go
module, the Java package and the npm packages.

``make dist`` runs it with the tools that packaging/tools installs. Its argument is the
directory for the results; further arguments name the targets to build (all by default).
Two runs give the same bytes, wherever the sources are.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

import java_package
from go_module import write_module
from npm import write_main, write_platform
from targets import GLIBC, Target, targets_named

ROOT = Path(__file__).parents[1]
# What the command needs beside Python's files to be built from the source distribution:
# all members of the workspace, as cargo reads them even if it builds only two. Their
# READMEs stay out: they lead to what is in the repository alone.
SOURCES = (
    *("Cargo.toml", "Cargo.lock", "LICENSE", "build.rs", "cbindgen.toml"),
    *("cli", "include", "src", "tests/header.rs", "tests/mock", "tests/rust"),
    "tests/conformance/drivers/rust",
    ":!*.md",
)


# Where a build sees the sources, the results and the tools, wherever they are: Zig writes
# paths into what it compiles of the C library, which no option changes.
SEEN_ROOT = Path("/tmp/libdbss-dist/sources")
SEEN_OUT = Path("/tmp/libdbss-dist/results")
SEEN_TOOLS = Path("/tmp/libdbss-dist/tools")


class Dist:
    def __init__(self, out: Path, targets: list[Target]) -> None:
        self.out = out
        self.targets = targets
        self.results = out / "files"
        self.stages = out / "stages"
        self.version = self._version()
        self.time = int(
            os.environ.get("SOURCE_DATE_EPOCH")
            or output("git", "log", "-1", "--format=%ct", cwd=ROOT)
        )

    def run(self) -> None:
        os.umask(0o022)
        # What an earlier run left could hide that a file is not made any more.
        for folder in (self.results, self.stages):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        # The program of this machine's processor writes the manual pages for all.
        self.targets.sort(key=lambda target: target.processor != platform.machine())
        for target in self.targets:
            self._build(target)
            self._archive(target)
        source = self._source_distribution()
        for target in self.targets:
            self._wheel(target, source)
        self._go_module()
        self._java_package()
        self._npm_packages()
        write_sums(self.results)

    def stage(self, target: Target) -> Path:
        """Where a target's files are, in the layout of the Makefile's BUILD."""
        return self.stages / target.name

    def debian_stage(self, target: Target) -> Path:
        """The same with a program that uses the system's C library."""
        return self.stage(target) / "debian"

    @property
    def bills(self) -> Path:
        """The directory with what the library and the command are made of."""
        return self.stage(self.targets[0]) / "share/sbom"

    def _version(self) -> str:
        manifest = json.loads(output("cargo", "read-manifest", cwd=ROOT))
        return manifest["version"]

    # Building

    def _build(self, target: Target) -> None:
        stage = self.stage(target)
        self._make("lib", target, stage, dynamic=True)
        self._split(target, stage / "lib/libdbss.so.0", stage)
        self._make("cli", target._replace(libc="musl"), stage, dynamic=False)
        self._split(target, stage / "bin/dbss", stage)
        if target.libc == "gnu":
            debian = self.debian_stage(target)
            self._make("cli", target, debian, dynamic=True)
            self._split(target, debian / "bin/dbss", stage)
        share = self.stage(self.targets[0]) / "share"
        if target is self.targets[0]:
            self._make("man", target, stage, dynamic=False, only_run=True)
            self._bill_of_materials(target, share)
        else:
            shutil.copytree(share, stage / "share")
        if target.libc == "gnu":
            for name in ("lib", "share"):
                (debian / name).symlink_to(f"../{name}")

    def _make(
        self, what: str, target: Target, stage: Path, *, dynamic: bool, only_run: bool = False
    ) -> None:
        """Runs make with Zig as the compiler, and its C library."""
        suffix = f".{GLIBC}" if target.libc == "gnu" else ""
        cargo = f"cargo auditable zigbuild --target {target.rust}{suffix}"
        # Each has flags of its own, and would build the other's crates anew.
        cargo_target = SEEN_OUT / "target" / ("dynamic" if dynamic else "static")
        prefix = f"{target.processor}-linux-gnu-"
        variables = {
            "BUILD": SEEN_OUT / stage.relative_to(self.out),
            "CARGO_BUILD": cargo,
            "MADE": cargo_target / target.rust,
            "LD": f"{prefix}ld",
            "NM": f"{prefix}nm",
            "OBJCOPY": f"{prefix}objcopy",
            # The symbols are put aside later.
            "STRIP": "",
        }
        # The rest of the recipe of `man` runs what is there already.
        arguments = [what, "-o", "cli"] if only_run else [what]
        arguments += [f"{key}={value}" for key, value in variables.items()]
        tools = shutil.which("cargo-zigbuild")
        if not tools:
            raise SystemExit("no cargo-zigbuild in PATH; make dist sets it")
        places = {
            SEEN_ROOT: ROOT,
            SEEN_OUT: self.out,
            SEEN_TOOLS: Path(tools).parents[2],
        }
        mounts = []
        for seen, place in places.items():
            seen.mkdir(parents=True, exist_ok=True)
            mounts.append(f"mount --bind {shlex.quote(str(place))} {seen}")
        # Mounts that this command alone sees. Who is not root is root in its namespace.
        namespace = ["unshare", "--mount"]
        if os.geteuid() != 0:
            namespace += ["--user", "--map-root-user"]
        # Clang believes PWD, where it names the same directory by another path.
        steps = [*mounts, f"cd {SEEN_ROOT}", "export PWD", 'exec make "$@"']
        run(
            *(*namespace, "sh", "-c", " && ".join(steps), "sh", *arguments),
            env=self._environment(target, cargo_target, dynamic),
        )

    def _environment(self, target: Target, cargo_target: Path, dynamic: bool) -> dict[str, str]:
        cargo_home = os.environ.get("CARGO_HOME") or Path.home() / ".cargo"
        # The last one that fits counts.
        places = {SEEN_ROOT: "/libdbss", cargo_home: "/cargo", cargo_target: "/target"}
        flags = [f"--remap-path-prefix={path}={name}" for path, name in places.items()]
        flags.append("-Clink-arg=-Wl,--build-id=sha1")
        if not dynamic:
            # Without the second, Zig makes programs that are loaded at a fixed address.
            flags += ["-Ctarget-feature=+crt-static", "-Clink-arg=-pie"]
        elif target.libc == "musl":
            flags.append("-Ctarget-feature=-crt-static")
        return {
            **os.environ,
            "RUSTFLAGS": " ".join(flags),
            "CFLAGS": " ".join(f"-ffile-prefix-map={path}={name}" for path, name in places.items()),
            "CARGO_TARGET_DIR": str(cargo_target),
            "CARGO_INCREMENTAL": "0",
            # Enough for the function and the line of each frame.
            "CARGO_PROFILE_RELEASE_DEBUG": "line-tables-only",
            "ZIG_GLOBAL_CACHE_DIR": str(SEEN_OUT / "zig"),
            "PATH": f"{SEEN_TOOLS}/python/bin:{SEEN_TOOLS}/bin:{os.environ['PATH']}",
        }

    def _split(self, target: Target, file: Path, stage: Path) -> None:
        """Moves the symbols of a file to where a debugger looks for its build id."""
        tool = f"{target.processor}-linux-gnu-"
        notes = output(f"{tool}readelf", "--notes", file)
        build_id = notes.split("Build ID: ")[1].split()[0]
        debug = stage / "debug/lib/debug/.build-id" / build_id[:2] / f"{build_id[2:]}.debug"
        debug.parent.mkdir(parents=True, exist_ok=True)
        run(f"{tool}objcopy", "--only-keep-debug", "--compress-debug-sections", file, debug)
        debug.chmod(0o644)
        run(f"{tool}strip", file)

    def _bill_of_materials(self, target: Target, share: Path) -> None:
        """Writes what the library and the command are made of, as CycloneDX."""
        folder = share / "sbom"
        folder.mkdir()
        # In a copy, as it writes beside each manifest.
        sources = self.out / "sbom"
        shutil.rmtree(sources, ignore_errors=True)
        copy_tracked(SOURCES, sources)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(self.time)}
        run(
            *("cargo", "cyclonedx", "--format", "json", "--spec-version", "1.5"),
            *("--target", target.rust, "--override-filename", "sbom", "--no-build-deps"),
            cwd=sources,
            env=environment,
        )
        for package, name in (("src/ffi", "libdbss"), ("cli", "dbss")):
            text = (sources / package / "sbom.json").read_text()
            (folder / f"{name}.cdx.json").write_text(text.replace(str(sources), "/libdbss"))

    # Packages

    def _archive(self, target: Target) -> None:
        name = f"dbss-{self.version}-{target.name}"
        root = self.out / "root"
        shutil.rmtree(root, ignore_errors=True)
        tree = root / name
        # pkg-config finds the files wherever the archive is unpacked.
        variables = {"DESTDIR": root, "PREFIX": f"/{name}", "PCPREFIX": "$${pcfiledir}/../.."}
        run(
            *("make", "-C", ROOT, "install", f"BUILD={self.stage(target)}"),
            *(f"{key}={value}" for key, value in variables.items()),
        )
        units = ("packaging/examples", "packaging/systemd")
        copy_tracked(units, tree / "share/doc/dbss", strip="packaging/")
        meson = ROOT / "packaging/meson"
        build = (meson / "meson.build.in").read_text().replace("@VERSION@", self.version)
        (tree / "meson.build").write_text(build)
        archive = self.results / f"{name}.tar.gz"
        self._pack(tree, archive)
        wrap = (meson / "dbss.wrap.in").read_text().replace("@NAME@", name)
        wrap = wrap.replace("@SHA256@", sha256(archive))
        (self.results / f"{name}.wrap").write_text(wrap)
        debug = self.stage(target) / "debug"
        for file in ("LICENSE", "THIRD-PARTY-LICENSES"):
            shutil.copy(ROOT / file, debug)
        self._pack(debug, self.results / f"{name}-debug.tar.gz", f"{name}-debug")

    def _pack(self, tree: Path, archive: Path, name: str | None = None) -> None:
        """Writes an archive with nothing in it of this machine, its user or its clock."""

        def anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = self.time
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            return info

        with (
            archive.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=self.time) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            # It adds what is in a directory in the order of names.
            tar.add(tree, name or tree.name, filter=anonymous)

    def _source_distribution(self) -> Path:
        """Makes the source distribution, and returns the directory with its content."""
        sources, made = self.out / "python", self.out / "sdist"
        for folder in (sources, made):
            shutil.rmtree(folder, ignore_errors=True)
        copy_tracked(["bindings/python"], sources, strip="bindings/python/")
        copy_tracked(SOURCES, sources / "libdbss")
        shutil.copytree(self.bills, sources / "sboms")
        run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", made, sources)
        (archive,) = made.glob("*.tar.gz")
        shutil.unpack_archive(archive, made, filter="data")
        unpacked = made / archive.name.removesuffix(".tar.gz")
        self._pack(unpacked, self.results / archive.name)
        return unpacked

    def _wheel(self, target: Target, source: Path) -> None:
        environment = {
            **os.environ,
            "DBSS_PREBUILT": str(self.stage(target)),
            "DBSS_WHEEL_PLATFORM": target.wheel,
            "SOURCE_DATE_EPOCH": str(self.time),
        }
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
        shutil.rmtree(source / "build", ignore_errors=True)
        run(*build, "--outdir", self.results, source, env=environment)
        wheel = self.results / f"dbss-{self.version}-py3-none-{target.wheel}.whl"
        # Not with the libraries of this machine, which may be of another kind.
        show = output("auditwheel", "show", "--json", "--ldpaths", "/nonexistent", wheel)
        audit = json.loads(show)
        found, wanted = audit["sym_tag"], target.wheel
        external = set(audit["external_libs"])
        if target.libc == "musl":
            # Its own name, for which auditwheel knows only that of Alpine.
            external.discard("libc.so")
        same_kind = found.split("_")[0] == wanted.split("_")[0]
        # Runs with an older C library than it must: as good.
        too_new = version_of(found) > version_of(wanted) or audit["unsupported_isa"]
        if not same_kind or too_new or external:
            raise SystemExit(f"auditwheel finds {wheel.name} to be {found}, {external}")

    def _go_module(self) -> None:
        """Writes the Go module as a proxy serves it, with the libraries of all targets."""
        tree = self.out / f"dbss-go-{self.version}"
        shutil.rmtree(tree, ignore_errors=True)
        archives = {one.go: self.stage(one) / "lib/libdbss.a" for one in self.targets}
        time = datetime.fromtimestamp(self.time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        write_module(tree, self.version, archives, time, self.bills / "libdbss.cdx.json")
        self._pack(tree, self.results / f"{tree.name}.tar.gz")

    def _java_package(self) -> None:
        """Writes the Java package as a Maven repository, with the libraries of all targets."""
        tree = self.out / f"dbss-java-{self.version}"
        shutil.rmtree(tree, ignore_errors=True)
        libraries = {one.name: self.stage(one) / "lib/libdbss.so.0" for one in self.targets}
        bill = self.bills / "libdbss.cdx.json"
        jar = java_package.build(self.out / "java", libraries, release=True, bill=bill)
        java_package.write_repository(tree, jar)
        for file in ("LICENSE", "THIRD-PARTY-LICENSES"):
            shutil.copy(ROOT / file, tree)
        self._pack(tree, self.results / f"{tree.name}.tar.gz")

    def _npm_packages(self) -> None:
        """Packs the JavaScript, and for each target its library and the addon."""
        run("make", "-C", ROOT / "bindings/node", "dist/index.js")
        os.environ["ZIG_GLOBAL_CACHE_DIR"] = str(self.out / "zig")
        place = self.out / "npm"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for target in self.targets:
            compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target.zig]
            write_platform(place, self.version, target.npm, self.stage(target), compiler)
        write_main(place, self.version)
        for package in place.glob("*.tgz"):
            shutil.copy(package, self.results)


def copy_tracked(paths: Iterable[str], destination: Path, strip: str = "") -> None:
    """Copies files and directories of the repository, without what git does not know."""
    for file in output("git", "ls-files", "--", *paths, cwd=ROOT).splitlines():
        copy = destination / file.removeprefix(strip)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy)


def write_sums(folder: Path) -> None:
    lines = []
    for file in sorted(folder.iterdir()):
        if file.name != "SHA256SUMS":
            lines.append(f"{sha256(file)}  {file.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))


def version_of(tag: str) -> tuple[int, int]:
    """The version in the tag of a platform, such as manylinux_2_17_x86_64."""
    major, minor = tag.split("_")[1:3]
    return int(major), int(minor)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run(*command: object, **options: object) -> None:
    subprocess.run([str(word) for word in command], check=True, **options)


def output(*command: object, **options: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **options)
    return done.stdout.strip()


def main() -> None:
    out, *names = sys.argv[1:]
    Dist(Path(out).absolute(), targets_named(names)).run()


if __name__ == "__main__":
    main()
