"""Installs what make dist and make deb have built, in clean roots, and uses it there.

``make dist-check`` runs it. Each root has no compiler and no Rust. There each package is
installed, downloads a report from the mock service, and is removed; nothing may be left.
Projects in C, C++ and CMake build against the archives. The end is a table of all
results, and one of the sizes; what could not be tried stands there with its reason.
A root for another processor takes minutes; DIST_ROOTS="bookworm-amd64 ..." names those that
are wanted, and DIST_TARGETS of make the platforms, as for make dist.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path

import contents
import java_package
from targets import GLIBC, TARGETS, Target, targets_named

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/python"))
from mock_service import MockService  # noqa: E402

SUITES = ("bullseye", "bookworm", "trixie")
MIRROR = "http://deb.debian.org/debian"
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
HERE = platform.machine()
# How the kernel recognises programs for a processor, as qemu's own tables say it.
MAGIC = {
    "aarch64": r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
}
NO_BINFMT = 79
CONSUMER = ROOT / "packaging/consumer"

# Downloads a report with the command, and compares it; $DBSS is the command.
DOWNLOAD = """
"$DBSS" --version
"$DBSS" download --quiet --output /tmp/report.pdf
echo "$REPORT_SHA256  /tmp/report.pdf" | sha256sum -c -
rm /tmp/report.pdf
"""

START = """
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
for tool in cc gcc clang rustc cargo; do
    if command -v $tool; then echo "this root has $tool" >&2; exit 1; fi
done
files() {
    find / -xdev | grep -vE '^/(proc|dev|check|var/lib/dpkg|var/log|var/cache)(/|$)' | sort
}
files > /var/log/before
"""

END = """
files > /var/log/after
diff /var/log/before /var/log/after
"""

# A path as people have them, and another library of the same name that must not be taken.
WHEEL = """
venv="/opt/a vénv"
python3 -m venv "$venv"
find "$venv" | sort > /var/log/venv-before
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-cache-dir "$@"; }
wheel="--no-index --only-binary dbss --find-links /check/files dbss"
pip install $wheel
pip install --force-reinstall $wheel
DBSS="$venv/bin/dbss"
$DOWNLOAD
cd /
mkdir /tmp/other
echo "not a library" > /tmp/other/libdbss.so.0
export LD_LIBRARY_PATH=/tmp/other
"$venv/bin/python" -m dbss --version
"$venv/bin/python" /check/download.py
pip uninstall --yes dbss
find "$venv" | sort > /var/log/venv-after
diff /var/log/venv-before /var/log/venv-after
pip install --target /opt/target $wheel
PYTHONPATH=/opt/target python3 /check/download.py
PYTHONPATH=/opt/target python3 -m dbss --version
# A library cannot be loaded out of an archive; the error says what to do.
zip=$(echo /check/files/dbss-*-manylinux_*_$PROCESSOR.whl)
if PYTHONPATH=$zip python3 -c "import dbss; dbss.version()" 2> /tmp/error; then exit 1; fi
grep "DBSS_LIBRARY" /tmp/error
# By the platform's older name too, which is all that an older pip knows.
for platform in manylinux2014 manylinux_2_17; do
    pip download --quiet --no-deps $wheel --dest /tmp/$platform --platform ${platform}_$PROCESSOR
    rm -r /tmp/$platform
done
# Neither wheel is taken where the other C library is.
refuses() {
    if pip "$@" > /tmp/error 2>&1; then exit 1; fi
    grep "not a supported wheel on this platform" /tmp/error
}
for musl in /check/files/dbss-*-musllinux_*_$PROCESSOR.whl; do
    test -e "$musl" || continue
    refuses install --no-index "$musl"
    download="download --no-index --no-deps --dest /tmp/musl --platform musllinux_1_2_$PROCESSOR"
    pip $download "$musl"
    refuses $download "$zip"
    rm -r /tmp/musl
done
rm -r "$venv" /opt/target /tmp/other /tmp/error
"""

# Systemd does not run in a root: a command notes what the packages would tell it.
DEB = """
install_packages() {
    dpkg --install $1/libdbss0_*_$ARCHITECTURE.deb $1/libdbss-dev_*_$ARCHITECTURE.deb \
        $1/dbss_*_$ARCHITECTURE.deb $1/python3-dbss_*_all.deb
}
mkdir -p /run/systemd/system
cat > /usr/bin/systemctl << 'EOF'
#!/bin/sh
echo "$@" >> /var/log/systemctl
case "$*" in
    *is-enabled*) cat /var/log/enabled ;;
esac
EOF
chmod 755 /usr/bin/systemctl
echo disabled > /var/log/enabled
install_packages /check/older
if grep -wE "start|restart" /var/log/systemctl; then
    echo "started before it was enabled"; exit 1
fi
echo enabled > /var/log/enabled
: > /var/log/systemctl
install_packages /check/files
if grep -w stop /var/log/systemctl; then echo "stopped by an upgrade"; exit 1; fi
DBSS=dbss
$DOWNLOAD
cd /
python3 /check/download.py
python3 -m dbss --version
python3 -c "
import dbss, importlib.metadata
assert importlib.metadata.version('dbss') == dbss.__version__"
python3 -m venv --system-site-packages /opt/venv
/opt/venv/bin/python -m pip list | grep "^dbss "
rm -r /opt/venv
: > /var/log/systemctl
dpkg --remove dbss
grep -w "stop.*dbss-mirror.timer" /var/log/systemctl
dpkg --purge python3-dbss dbss libdbss-dev libdbss0
rm -r /run/systemd /usr/bin/systemctl
"""

ARCHIVE = """
tar -xzf /check/files/dbss-*-$NAME.tar.gz -C /opt
DBSS=$(echo /opt/dbss-*/bin/dbss)
$DOWNLOAD
export PYTHONPATH=/check/python DBSS_LIBRARY=$(echo /opt/dbss-*/lib/libdbss.so.0)
python3 /check/download.py
rm -r /opt/dbss-*
"""

# What an image is built of, and what runs in it, without an engine for containers.
IMAGE = """
mkdir /archives
cp /check/files/SHA256SUMS /check/files/dbss-*-musl.tar.gz /archives
( $STEPS )
cp /check/ca.pem /image/
# As an engine does.
cp /etc/hosts /image/etc/
export DBSS_CA_FILE=/ca.pem
run="chroot --userspec=65534:65534 /image /dbss"
$run download --quiet --output /archive/report.pdf
echo "$REPORT_SHA256  /image/archive/report.pdf" | sha256sum -c -
$run mirror /archive/reports --success-file /archive/success.json
test -s /image/archive/success.json
test -s /image/usr/share/doc/dbss/LICENSE
test -s /image/usr/share/doc/dbss/dbss.cdx.json
rm -r /image /archives /opt/*
"""

# There is no Python with musl: programs in C and C++ that were built elsewhere use it.
MUSL = """
tar -xzf /check/files/dbss-*-$NAME.tar.gz -C /opt
unzip -q /check/files/dbss-*-musllinux_*_$PROCESSOR.whl -d /opt/wheel
try() {
    mkdir /tmp/reports
    LD_LIBRARY_PATH=$1 /check/musl-$2-$PROCESSOR $DBSS_INSTANCE_ID $DBSS_REPORT_ID /tmp/reports
    echo "$REPORT_SHA256  $(echo /tmp/reports/*)" | sha256sum -c -
    rm -r /tmp/reports
}
try /opt/dbss-*/lib c-shared
try /opt/dbss-*/lib cpp-shared
try /nowhere c-static
try /nowhere cpp-static
try /opt/wheel/dbss c-shared
rm -r /opt/wheel
DBSS=$(echo /opt/dbss-*/bin/dbss)
$DOWNLOAD
rm -r /opt/dbss-*
"""


class NotTried(Exception):
    """Something is missing on this machine; the message says what."""


class Failed(Exception):
    pass


class Checks:
    def __init__(self, dist: Path, roots: Path, mock: MockService, targets: list[Target]) -> None:
        self.targets = targets
        self.dist = dist
        self.files = dist / "files"
        self.roots = roots
        self.work = dist / "check"
        self.mock = mock
        self.results: list[tuple[str, str]] = []

    def run(self) -> bool:
        shutil.rmtree(self.work, ignore_errors=True)
        self.shared_folder()
        for target in TARGETS:
            self.check(f"{target.name}: symbols and floor", self.symbols, target)
            self.check(f"{target.name}: C, C++ and CMake projects", self.projects, target)
        self.check("the same symbols for all processors", self.same_symbols)
        self.check("the symbols of the baseline", self.baseline)
        self.check("SHA256SUMS", self.sums)
        self.check("licences, bills of materials, links", self.contents)
        for target in TARGETS:
            self.check(f"{target.name}: symbols for a debugger", self.debug_symbols, target)
        self.check("the units of systemd", self.units)
        self.check("versions", self.versions)
        for kind in ("shared", "static"):
            self.check(f"Meson, {kind}", self.meson, kind)
            self.check(f"Conan, {kind}", self.conan, kind)
            self.check(f"vcpkg, {kind}", self.vcpkg, kind)
        self.check("Go, as docs/installing.md says", self.go, ROOT / "docs/installing.md", "Go")
        go_readme = ROOT / "bindings/go/README.md"
        self.check("Go, as its README says", self.go, go_readme, "Install")
        for first in (11, java_package.FFM):
            self.check(f"Java, {first} or the next that is installed", self.java, first)
        self.check("source distribution without Rust", self.source_without_rust)
        self.check("source distribution", self.source)
        self.check("npm packages", self.npm)
        self.check("the steps of the Containerfile", self.container)
        for processor in DEBIAN:
            for suite in SUITES:
                for kind, script in (("wheel", WHEEL), ("deb", DEB), ("archive", ARCHIVE)):
                    name = f"{suite} {DEBIAN[processor]}: {kind}"
                    self.check(name, self.in_debian, suite, Target(processor, "gnu"), script)
            target = Target(processor, "musl")
            self.check(f"musl root {processor}: archive, wheel", self.in_musl, target)
        return self.report()

    def check(self, name: str, function: Callable[..., None], *arguments: object) -> None:
        print(f"== {name}", flush=True)
        try:
            function(*arguments)
            result = "passed"
        except NotTried as error:
            result = f"not tried: {error}"
        except (Failed, OSError, subprocess.CalledProcessError) as error:
            result = f"FAILED: {error}"
        print(result, flush=True)
        self.results.append((name, result))

    def report(self) -> bool:
        print(f"\n{'check':<50} result")
        for name, result in self.results:
            print(f"{name:<50} {result}")
        print(f"\n{'file':<75} {'bytes':>10}")
        for file in sorted(self.files.iterdir()):
            print(f"{file.name:<75} {file.stat().st_size:>10,}")
        print(f"\n{'built':<60} {'bytes':>10}  needs")
        for target in TARGETS:
            stage = self.dist / "stages" / target.name
            for name in ("lib/libdbss.so.0", "lib/libdbss.a", "bin/dbss", "debian/bin/dbss"):
                file = stage / name
                if file.exists():
                    needs = "" if name.endswith(".a") else ", ".join(needed(file)) or "nothing"
                    print(f"{target.name + ' ' + name:<60} {file.stat().st_size:>10,}  {needs}")
        return not any(result.startswith("FAILED") for _, result in self.results)

    # What the roots and the projects share

    def shared_folder(self) -> None:
        """Makes the directory that each root has as /check."""
        folder = self.work / "shared"
        folder.mkdir(parents=True)
        shutil.copy(self.mock.ca_file, folder / "ca.pem")
        shutil.copy(CONSUMER / "download.py", folder)
        shutil.copytree(ROOT / "bindings/python/dbss", folder / "python/dbss")
        (folder / "files").mkdir()
        self.older_packages(folder / "older")

    def older_packages(self, folder: Path) -> None:
        """The Debian packages with a lower version, from which those of this one upgrade."""
        folder.mkdir()
        for package in self.files.glob("*.deb"):
            tree = self.work / "older" / package.stem
            tree.parent.mkdir(exist_ok=True)
            run("dpkg-deb", "--raw-extract", package, tree)
            control = tree / "DEBIAN/control"
            text = re.sub(r"^(Version: |.*\(= )", r"\g<0>0~", control.read_text(), flags=re.M)
            control.write_text(text.replace("libdbss0 (>= ", "libdbss0 (>= 0~"))
            run("dpkg-deb", "--root-owner-group", "--build", tree, folder / package.name)

    def environment(self) -> dict[str, str]:
        mock = self.mock
        return {
            "DBSS_ENDPOINT": mock.https,
            "DBSS_TOKEN": mock.token,
            "DBSS_PROJECT_ID": mock.project_id,
            "DBSS_INSTANCE_ID": mock.instance_id,
            "DBSS_REPORT_ID": mock.pdf["id"],
            "DBSS_LOCALE": "en-us",
            "DBSS_CA_FILE": "/check/ca.pem",
            "REPORT_SHA256": mock.pdf["sha256"]["en-us"],
        }

    def archive(self, target: Target) -> Path:
        if target not in self.targets:
            raise NotTried("not in DIST_TARGETS")
        return self.file(f"dbss-*-{target.name}.tar.gz")

    def file(self, pattern: str) -> Path:
        found = list(self.files.glob(pattern))
        if len(found) != 1:
            raise Failed(f"there are {len(found)} files {pattern}; run make dist and make deb")
        return found[0]

    def unpacked(self, target: Target) -> Path:
        """The directory where an archive is unpacked, with a path as people have them."""
        place = self.work / "unpacked in ä directory"
        archive = self.archive(target)
        shutil.unpack_archive(archive, place, filter="data")
        return place / archive.name.removesuffix(".tar.gz")

    # The archives

    def symbols(self, target: Target) -> None:
        tree = self.unpacked(target)
        functions = header_functions()
        library = tree / "lib/libdbss.so.0"
        if exported(library) != functions:
            raise Failed(f"other symbols than in the header: {exported(library) ^ functions}")
        nm = f"{target.processor}-linux-gnu-nm"
        lines = output(nm, "-g", "--defined-only", tree / "lib/libdbss.a")
        static = {line.split()[-1] for line in lines.splitlines() if " " in line}
        if static != functions:
            raise Failed(f"the static library shows {static ^ functions}")
        for file in (library, tree / "bin/dbss"):
            header = output("readelf", "--file-header", "--program-headers", "--dynamic", file)
            for mark in ("DYN (", "GNU_RELRO", "BIND_NOW" if file == library else "NOW"):
                if mark not in header:
                    raise Failed(f"{file.name} has no {mark}")
            if re.search("RPATH|RUNPATH", header):
                raise Failed(f"{file.name} has a path for libraries in it")
            if re.search(rb"/tmp/|/root/|/home/|" + re.escape(bytes(ROOT)), file.read_bytes()):
                raise Failed(f"{file.name} has a path of this machine in it")
            floor = glibc(file)
            if floor and version_of(floor) > version_of(GLIBC):
                raise Failed(f"{file.name} needs glibc {floor}")
            if ".dep-v0" not in output("readelf", "--sections", "--wide", file):
                raise Failed(f"{file.name} has no list of its crates")

    def projects(self, target: Target) -> None:
        """Projects in C, C++ and CMake build with the archive, shared and static, and run."""
        tree = self.unpacked(target)
        place = self.work / "projects" / target.name
        shutil.copytree(CONSUMER, place)
        for source in ("c/download.c", "cpp/download.cpp", "cpp/settings.hpp"):
            shutil.copy(ROOT / "bindings" / source, place)
        suffix = f".{GLIBC}" if target.libc == "gnu" else ""
        # Its sanitizer, which is on unless told, needs a newer musl than a program does.
        zig = f"-target {target.processor}-linux-{target.libc}{suffix} -fno-sanitize=all"
        for name, command in (("cc", "cc"), ("c++", "c++")):
            wrapper = place / name
            native = target == Target(HERE, "gnu")
            command = command if native else f"{sys.executable} -m ziglang {command} {zig}"
            wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            wrapper.chmod(0o755)
        environment = {
            **os.environ,
            "PKG_CONFIG_PATH": str(tree / "lib/pkgconfig"),
            "CC": str(place / "cc"),
            "CXX": str(place / "c++"),
        }
        # Zig gives its unwinder only to those who ask.
        unwinder = [] if target == Target(HERE, "gnu") else ["-lunwind"]
        programs = []
        for kind in ("shared", "static"):
            words = ["pkg-config", "--cflags", "--libs", "dbss"]
            if kind == "static":
                words.append("--static")
            flags = shlex.split(output(*words, env=environment))
            if kind == "static":
                flags[flags.index("-ldbss")] = str(tree / "lib/libdbss.a")
                flags += unwinder
            sources = (("cc", "download.c", "-std=c11"), ("c++", "download.cpp", "-std=c++17"))
            for compiler, source, standard in sources:
                program = place / f"{source}-{kind}"
                words = [place / compiler, standard, place / source, "-o", program, *flags]
                run(*words, env=environment)
                programs.append(program)
        build = place / "cmake"
        link = [f"-DCMAKE_EXE_LINKER_FLAGS={' '.join(unwinder)}"] if unwinder else []
        processor = [f"-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR={target.processor}"]
        processor = processor[0].split() if target.processor != HERE else []
        prefix = f"-DCMAKE_PREFIX_PATH={tree}"
        run("cmake", "-S", place, "-B", build, prefix, *link, *processor, env=environment)
        run("cmake", "--build", build, env=environment)
        made = ("c_dbss", "c_static", "cxx_dbss", "cxx_static")
        programs += [build / name for name in made]
        if target.libc == "musl":
            # They run in the root that has musl.
            for source, kind in product(("c", "cpp"), ("shared", "static")):
                copy = self.work / f"shared/musl-{source}-{kind}-{target.processor}"
                shutil.copy(place / f"download.{source}-{kind}", copy)
            return
        for program in programs:
            self.run_program(target, program, tree)

    def run_program(self, target: Target, program: Path, tree: Path) -> None:
        command: list[object] = [program]
        if target.processor != HERE:
            emulator = shutil.which(f"qemu-{target.processor}-static")
            libraries = Path(f"/usr/{target.processor}-linux-gnu")
            if not emulator or not (libraries / "lib/libc.so.6").exists():
                cross = f"libc6-{DEBIAN[target.processor]}-cross"
                raise NotTried(f"built, but no qemu-user-static or no {cross} to run it")
            command = [emulator, "-L", libraries, "-E", f"LD_LIBRARY_PATH={tree / 'lib'}", program]
        environment = {**os.environ, **self.environment(), "LD_LIBRARY_PATH": str(tree / "lib")}
        environment["DBSS_CA_FILE"] = self.mock.ca_file
        if target.processor != HERE:
            del environment["LD_LIBRARY_PATH"]
        with tempfile.TemporaryDirectory() as folder:
            run(*command, self.mock.instance_id, self.mock.pdf["id"], folder, env=environment)
            [report] = Path(folder).iterdir()
            self.compare(report)

    def compare(self, report: Path) -> None:
        digest = hashlib.sha256(report.read_bytes()).hexdigest()
        if digest not in self.mock.pdf["sha256"].values():
            raise Failed("another report than the service has was saved")

    def same_symbols(self) -> None:
        """abidiff finds no difference but the processor."""
        if len(self.targets) == 1:
            raise NotTried("one platform alone in DIST_TARGETS")
        libraries = [self.unpacked(target) / "lib/libdbss.so.0" for target in self.targets]
        for one, other in pairwise(libraries):
            abidiff(one, other)

    def baseline(self) -> None:
        """No symbol of the recorded ABI is missing; make abi-check compares the types."""
        for target in self.targets:
            library = self.unpacked(target) / "lib/libdbss.so.0"
            abidiff("--no-added-syms", ROOT / "tests/abi/baseline.abi", library)

    def sums(self) -> None:
        run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=self.files)

    def contents(self) -> None:
        """Each package has what goes with it; packaging/contents.py says what."""
        packages = [
            file
            for file in sorted(self.files.iterdir())
            if file.suffix != ".wrap" and file.name != "SHA256SUMS"
        ]
        if found := [problem for file in packages for problem in contents.problems(file)]:
            print(*found, sep="\n")
            raise Failed(f"{len(found)} problems")

    def debug_symbols(self, target: Target) -> None:
        """Those of each program and library in the packages are in the archive for them."""
        self.archive(target)
        symbols = contents.files_in(self.file(f"dbss-*-{target.name}-debug.tar.gz"))
        packages = [self.archive(target), self.file(f"dbss-*-{target.wheel}.whl")]
        if target.libc == "gnu":
            packages += sorted(self.files.glob(f"*_{DEBIAN[target.processor]}.deb"))
        for package in packages:
            for name, data in contents.files_in(package).items():
                if not data.startswith(contents.ELF):
                    continue
                with tempfile.NamedTemporaryFile() as file:
                    file.write(data)
                    file.flush()
                    notes = output("readelf", "--notes", file.name)
                [build_id] = re.findall("Build ID: ([0-9a-f]+)", notes)
                if not any(f"/{build_id[:2]}/{build_id[2:]}." in one for one in symbols):
                    raise Failed(f"there are none for {name} in {package.name}")

    def units(self) -> None:
        if not shutil.which("systemd-analyze"):
            raise NotTried("no systemd-analyze; install systemd")
        place = self.work / "units"
        shutil.copytree(ROOT / "packaging/systemd", place)
        service = place / "dbss-mirror.service"
        # The command is not installed here.
        service.write_text(service.read_text().replace("/usr/bin/dbss", "/bin/true"))
        words = ["systemd-analyze", "verify", "--man=no", *map(str, place.glob("dbss-mirror.*"))]
        done = subprocess.run(words, capture_output=True, text=True)
        if told := [line for line in done.stderr.splitlines() if "dbss-mirror" in line]:
            raise Failed("; ".join(told))
        if done.returncode:
            raise Failed(done.stderr)

    def versions(self) -> None:
        """What states the version of the release states that of Cargo.toml."""
        version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
        assert version
        for file, text in (
            ("bindings/python/dbss/__init__.py", '__version__ = "{}"'),
            ("bindings/java/pom.xml", "<version>{}</version>"),
            ("bindings/node/package.json", '"version": "{}"'),
            ("docs/installing.md", "dbss-{}-linux-x86_64-glibc.tar.gz"),
            ("packaging/container/Containerfile", "ARG VERSION={}\n"),
            ("packaging/debian/changelog", "dbss ({}"),
            ("packaging/vcpkg/dbss/vcpkg.json", '"version": "{}"'),
        ):
            if text.format(version[1]) not in (ROOT / file).read_text():
                raise Failed(f"{file} does not have {text.format(version[1])!r}")

    # Package managers of C and C++

    def meson(self, kind: str) -> None:
        target = Target(HERE, "gnu")
        place = self.work / f"meson-{kind}"
        (place / "subprojects/packagefiles").mkdir(parents=True)
        archive = self.archive(target)
        shutil.copy(archive, place / "subprojects/packagefiles")
        wrap = archive.with_name(archive.name.replace(".tar.gz", ".wrap"))
        shutil.copy(wrap, place / "subprojects/dbss.wrap")
        for name in ("meson.build", "version.cpp"):
            shutil.copy(CONSUMER / name, place)
        run("meson", "setup", f"-Ddefault_library={kind}", place / "build", place)
        run("meson", "compile", "-C", place / "build")
        run(place / "build/version")

    def conan(self, kind: str) -> None:
        self.archive(Target(HERE, "gnu"))
        place = self.work / f"conan-{kind}"
        for name in ("conan", "consumer"):
            shutil.copytree(ROOT / "packaging" / name, place / "packaging" / name)
        shutil.copy(ROOT / "Cargo.toml", place)
        environment = {
            **os.environ,
            "CONAN_HOME": str(place / "home"),
            "DBSS_ARCHIVES": str(self.files),
        }
        # make exports cc and c++, which Conan does not know for compilers.
        for name in ("CC", "CXX"):
            environment.pop(name, None)
        run("conan", "profile", "detect", env=environment)
        option = f"dbss/*:shared={kind == 'shared'}"
        run("conan", "create", place / "packaging/conan", "--options", option, env=environment)

    def vcpkg(self, kind: str) -> None:
        """The port installs, and a project with vcpkg's toolchain builds and runs."""
        self.archive(Target(HERE, "gnu"))
        program = shutil.which("vcpkg")
        if not program:
            raise NotTried("no vcpkg")
        top = Path(os.environ.get("VCPKG_ROOT") or Path(program).resolve().parent)
        environment = {
            **os.environ,
            "DBSS_ARCHIVES": str(self.files),
            "VCPKG_KEEP_ENV_VARS": "DBSS_ARCHIVES",
        }
        place = self.work / f"vcpkg-{kind}"
        processor = {"x86_64": "x64", "aarch64": "arm64"}[HERE]
        triplet = f"{processor}-linux{'-dynamic' if kind == 'shared' else ''}"
        ports = f"--overlay-ports={ROOT / 'packaging/vcpkg'}"
        words = [f"dbss:{triplet}", ports, f"--x-install-root={place}", "--binarysource=clear"]
        run("vcpkg", "install", *words, env=environment)
        settings = {
            "KIND": "dbss" if kind == "shared" else "static",
            "CMAKE_TOOLCHAIN_FILE": top / "scripts/buildsystems/vcpkg.cmake",
            "VCPKG_INSTALLED_DIR": place,
            "VCPKG_TARGET_TRIPLET": triplet,
        }
        build = place / "build"
        options = [f"-D{name}={value}" for name, value in settings.items()]
        run("cmake", "-S", ROOT / "packaging/conan/test_package", "-B", build, *options)
        run("cmake", "--build", build)
        run(build / "version")

    # The Go module

    def go(self, document: Path, heading: str) -> None:
        """Each of the ways to get the module that a document shows leads to a program."""
        self.archive(Target(HERE, "gnu"))
        for tool in ("go", "unzip"):
            if not shutil.which(tool):
                raise NotTried(f"no {tool}")
        text = document.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
        for number, block in enumerate(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)):
            place = self.work / f"go-{heading}-{number}"
            (place / "opt").mkdir(parents=True)
            shutil.copy(self.file("dbss-go-*.tar.gz"), place)
            block = block.replace("/opt", str(place / "opt"))
            if "go mod init" not in block:
                block = f"go mod init example.com/program\n{block}"
            sample = "go run example.com/dbss/samples/download INSTANCE_ID REPORT_ID report.pdf\n"
            block = block.removesuffix(sample) + sample
            script = f"set -e\n{block}mv report.pdf {place}/downloaded\n"
            for name in ("INSTANCE_ID", "REPORT_ID"):
                script = script.replace(f" {name}", f" $DBSS_{name}")
            environment = {
                **clean_environment(),
                **self.environment(),
                # The sample takes no authority of its own.
                "DBSS_ENDPOINT": self.mock.http,
                "GOMODCACHE": str(place / "modules"),
                "GOFLAGS": "-modcacherw",
            }
            run("bash", "-c", script, cwd=place, env=environment)
            self.compare(place / "downloaded")

    def java(self, first: int) -> None:
        """A Maven project gets the package from the archive, and downloads."""
        self.archive(Target(HERE, "gnu"))
        home = java_package.jdk(first)
        if not home or not shutil.which("mvn"):
            raise NotTried(f"no JDK from {first} on, or no Maven")
        place = self.work / f"java-{first}"
        code = place / "src/main/java"
        code.mkdir(parents=True)
        shutil.copy(CONSUMER / "pom.xml", place)
        shutil.copy(ROOT / "bindings/java/samples/Download.java", code)
        shutil.unpack_archive(self.file("dbss-java-*.tar.gz"), place, filter="data")
        [repository] = place.glob("dbss-java-*")
        settings = {
            "dbss.repository": repository.as_uri(),
            "dbss.version": repository.name.removeprefix("dbss-java-"),
            "maven.repo.local": place / "local",
            "outputDirectory": place / "libraries",
        }
        words = [f"-D{name}={value}" for name, value in settings.items()]
        environment = {**clean_environment(), **self.environment(), "JAVA_HOME": str(home)}
        # The sample takes no authority of its own.
        environment["DBSS_ENDPOINT"] = self.mock.http
        goals = ("compile", "dependency:copy-dependencies")
        run("mvn", "-q", "-B", *goals, *words, cwd=place, env=environment)
        native = ["--enable-native-access=ALL-UNNAMED"] if first == java_package.FFM else []
        classpath = ("-cp", f"{place}/target/classes:{place}/libraries/*")
        report = place / "downloaded"
        ids = (self.mock.instance_id, self.mock.pdf["id"])
        program = (*native, *classpath, "Download", *ids, report)
        run(home / "bin/java", *program, cwd=place, env=environment)
        self.compare(report)

    def npm(self) -> None:
        """They install without a compiler and without a registry, and download."""
        target = Target(HERE, "gnu")
        self.archive(target)
        if not shutil.which("npm"):
            raise NotTried("no npm")
        place = self.work / "npm"
        place.mkdir()
        (place / "package.json").write_text('{"private": true}\n')
        packages = [self.file(f"dbss-{name}.tgz") for name in (f"{target.npm}-*", "[0-9]*")]
        options = ("--offline", "--omit=optional", "--no-audit", "--no-fund")
        run("npm", "install", *options, *packages, cwd=place)
        shutil.copy(CONSUMER / "download.mjs", place)
        environment = {**clean_environment(), **self.environment()}
        environment["DBSS_CA_FILE"] = self.mock.ca_file
        run("node", "download.mjs", cwd=place, env=environment)

    # The source distribution

    def source(self) -> None:
        """It builds in a clean virtual environment, and leaves nothing there."""
        if self.targets != TARGETS:
            raise NotTried("needs minutes, so only without DIST_TARGETS")
        if not shutil.which("cargo"):
            raise NotTried("no cargo")
        environment = {**clean_environment(), **self.environment()}
        environment["DBSS_CA_FILE"] = self.mock.ca_file
        venv = self.work / "source/venv"
        run(sys.executable, "-m", "venv", venv)
        before = sorted(venv.rglob("*"))
        self.install_source(venv, environment)
        run(venv / "bin/dbss", "--version", cwd=venv, env=environment)
        run(venv / "bin/python", CONSUMER / "download.py", cwd=venv, env=environment)
        pip = [venv / "bin/python", "-m", "pip", "--disable-pip-version-check"]
        run(*pip, "uninstall", "--quiet", "--yes", "dbss", env=environment)
        left = set(venv.rglob("*")) - set(before)
        if left:
            raise Failed(f"still there: {', '.join(map(str, sorted(left)))}")

    def source_without_rust(self) -> None:
        """The error says what it needs."""
        venv = self.work / "source/no-rust"
        run(sys.executable, "-m", "venv", venv)
        environment = {**clean_environment(), "PATH": str(venv / "bin")}
        try:
            self.install_source(venv, environment, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            if "needs Rust" not in error.stdout + error.stderr:
                print(error.stdout + error.stderr)
                raise Failed("it does not say that it needs Rust") from None
        else:
            raise Failed("it was built, though there is no cargo")

    def install_source(self, venv: Path, environment: dict[str, str], **options: object) -> None:
        archive = self.file("dbss-[0-9]*[0-9].tar.gz")
        pip = [venv / "bin/python", "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
        run(*pip, "install", "--quiet", archive, cwd=venv, env=environment, **options)

    # Roots

    def in_debian(self, suite: str, target: Target, script: str) -> None:
        self.archive(target)
        root = self.debian_root(suite, target)
        self.in_root(root, target, START + script + END)

    def container(self) -> None:
        self.archive(Target(HERE, "musl"))
        text = (ROOT / "packaging/container/Containerfile").read_text()
        step = re.search(r"^RUN (.*?[^\\])\n", text, re.MULTILINE | re.DOTALL)
        version = re.search(r"^ARG (VERSION=.*)", text, re.MULTILINE)
        assert step
        assert version
        # The root has the certificates already.
        steps = re.sub(r"apt-get [^&]*", "true ", step[1])
        script = IMAGE.replace("$STEPS", f"{version[1]}\n{steps}")
        self.in_debian("bookworm", Target(HERE, "gnu"), script)

    def debian_root(self, suite: str, target: Target) -> Path:
        """A minimal Debian, made at the first call."""
        architecture = DEBIAN[target.processor]
        wanted = os.environ.get("DIST_ROOTS", "").split()
        if wanted and f"{suite}-{architecture}" not in wanted:
            raise NotTried("not in DIST_ROOTS")
        root = self.roots / (suite if target.processor == HERE else f"{suite}-{architecture}")
        if root.exists():
            return root
        if not shutil.which("debootstrap"):
            raise NotTried("no debootstrap")
        part = root.with_name(f"{root.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        options = [f"--arch={architecture}", "--include=ca-certificates,python3,python3-venv"]
        # The last suite where /lib need not be /usr/lib.
        options.append("--no-merged-usr" if suite == "bullseye" else "--merged-usr")
        if target.processor != HERE:
            options.append("--foreign")
        run("debootstrap", "--variant=minbase", *options, suite, part, MIRROR)
        # In a container it makes a symbolic link, which leads nowhere after a chroot.
        if (part / "proc").is_symlink():
            (part / "proc").unlink()
            (part / "proc").mkdir()
        if target.processor != HERE:
            # It may make no devices in a user namespace; as in lxc it need not.
            second = f"container=lxc chroot {part} /debootstrap/debootstrap --second-stage"
            in_namespace(target, f"mount -t proc proc {part}/proc && {second}")
        part.rename(root)
        return root

    def in_musl(self, target: Target) -> None:
        self.archive(target)
        root = self.roots / ("musl" if target.processor == HERE else f"musl-{target.processor}")
        if not root.exists():
            self.make_musl_root(target, root)
        self.in_root(root, target, START + MUSL + END)

    def make_musl_root(self, target: Target, root: Path) -> None:
        """A root of BusyBox and musl alone, from Debian's packages of these."""
        packages = self.work / "shared/packages"
        shutil.rmtree(packages, ignore_errors=True)
        packages.mkdir(mode=0o777)
        download = "cd /check/packages && apt-get update && apt-get download busybox-static musl"
        debian = self.debian_root("bookworm", target)
        self.in_root(debian, target, f"export PATH=/usr/bin:/bin; {download}")
        part = root.with_name(f"{root.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for folder in ("proc", "dev", "tmp", "opt", "etc", "var/log", "check", "usr"):
            (part / folder).mkdir(parents=True)
        for archive in packages.glob("*.deb"):
            run("dpkg-deb", "--extract", archive, part)
        in_namespace(target, f"chroot {part} /bin/busybox --install -s /bin")
        part.rename(root)

    def in_root(self, root: Path, target: Target, script: str) -> None:
        """Runs a script in a root, of which a copy is thrown away."""
        script = script.replace("$DOWNLOAD", DOWNLOAD)
        names = {
            "NAME": target.name,
            "PROCESSOR": target.processor,
            "ARCHITECTURE": DEBIAN[target.processor],
        }
        environment = {**self.environment(), **names, "PATH": os.environ["PATH"]}
        # Another processor's root is in a user namespace, where overlays have this option.
        option = "" if target.processor == HERE else ",userxattr"
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            for name in ("upper", "work", "merged"):
                Path(folder, name).mkdir()
            mounts = f"""set -e
                cd {folder}
                layers=lowerdir={root},upperdir=upper,workdir=work{option}
                mount -t overlay -o $layers overlay merged
                mkdir -p merged/check
                echo 127.0.0.1 localhost > merged/etc/hosts
                mount --bind {self.work}/shared merged/check
                mount --bind {self.files} merged/check/files
                mount -t proc proc merged/proc
                mount --rbind /dev merged/dev
                cp /etc/resolv.conf merged/etc/
                exec chroot merged /bin/sh -c "$SCRIPT" """
            in_namespace(target, mounts, env={**environment, "SCRIPT": script})


def in_namespace(target: Target, script: str, **options: object) -> None:
    """Runs a script with mounts of its own; for another processor, through qemu.

    The kernel learns of qemu in a user namespace, and for that one alone.
    """
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    if target.processor == HERE:
        if code := subprocess.call([*unshare, "sh", "-c", script], **options):
            raise Failed(f"exit code {code}")
        return
    emulator = shutil.which(f"qemu-{target.processor}-static")
    if not emulator or target.processor not in MAGIC:
        raise NotTried(f"no qemu-{target.processor}-static; install qemu-user-static")
    register = f":{target.processor}:M::{MAGIC[target.processor]}:{emulator}:FP"
    binfmt = "/proc/sys/fs/binfmt_misc"
    script = f"""set -e
        echo >&3
        read -r mapped
        mount -t binfmt_misc binfmt_misc {binfmt} || exit {NO_BINFMT}
        printf %s '{register}' > {binfmt}/register || exit {NO_BINFMT}
        {script}"""
    started_out, started_in = os.pipe()
    command = [*unshare, "--user", "sh", "-c", f"exec 3>&{started_in}; {script}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, pass_fds=[started_in], **options
    ) as process:
        os.close(started_in)
        with os.fdopen(started_out, "rb") as started:
            started.readline()
        # All users, so that files in the root may belong to any of them.
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 0 65536\n")
        process.communicate(b"mapped\n")
    if process.returncode == NO_BINFMT:
        raise NotTried("the kernel takes no binfmt_misc in a user namespace")
    if process.returncode:
        raise Failed(f"exit code {process.returncode}")


def clean_environment() -> dict[str, str]:
    """That of this process without what names the repository and its builds."""
    own = ("DBSS_", "PYTHON", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "MAKE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def abidiff(*arguments: object) -> None:
    if not shutil.which("abidiff"):
        raise NotTried("no abidiff; install abigail-tools")
    words = ["abidiff", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True)
    print(done.stdout + done.stderr)
    # The bits 1 and 2 of its exit code are failures; another processor is a difference to it.
    if done.returncode & 3:
        raise Failed(f"{' '.join(words)} failed")
    if re.search(r"\b[1-9]\d* (Added|Removed|Changed) |SONAME", done.stdout):
        raise Failed(f"{' '.join(words)} finds differences")


def header_functions() -> set[str]:
    text = (ROOT / "include/dbss.h").read_text()
    return set(re.findall(r"\b(dbss_\w+)\(", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)))


def exported(library: Path) -> set[str]:
    lines = output("nm", "-D", "--defined-only", library).splitlines()
    return {line.split()[-1] for line in lines}


def needed(file: Path) -> Iterator[str]:
    """The libraries that a file needs, and the glibc."""
    yield from re.findall(r"\(NEEDED\).*\[(.*?)\]", output("readelf", "--dynamic", "--wide", file))
    if floor := glibc(file):
        yield f"glibc {floor}"


def glibc(file: Path) -> str | None:
    """The newest version of glibc that a file has symbols of."""
    versions = re.findall(r"GLIBC_([\d.]+)", output("readelf", "--version-info", "--wide", file))
    return max(versions, key=version_of, default=None)


def version_of(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def run(*command: object, **options: object) -> None:
    subprocess.run([str(word) for word in command], check=True, **options)


def output(*command: object, **options: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, **options)
    # pkg-config puts a backslash before each byte of a letter that is not in ASCII.
    return os.fsdecode(done.stdout)


def main() -> int:
    dist, roots, program = (Path(argument).absolute() for argument in sys.argv[1:4])
    targets = targets_named(sys.argv[4:])
    mock = MockService(program)
    try:
        return 0 if Checks(dist, roots, mock, targets).run() else 1
    finally:
        mock.close()


if __name__ == "__main__":
    sys.exit(main())
