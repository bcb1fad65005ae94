"""Puts the library and the command into the wheel.

They are built here, which needs Rust and a C compiler; or DBSS_PREBUILT names a directory
that has them already (``lib/libdbss.so.0``, ``bin/dbss``), and DBSS_WHEEL_PLATFORM the
platform that they are for. There is no wheel without them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
NEEDS = (
    "building dbss needs Rust 1.89 or newer (the command cargo) and a C compiler. "
    "A wheel for your platform needs neither: pip install --only-binary dbss dbss"
)


def built() -> Path:
    """The directory with the library and the command, which are built if there is none."""
    prebuilt = os.environ.get("DBSS_PREBUILT")
    if prebuilt:
        return Path(prebuilt)
    # In a source distribution the sources are beside this file, else it is among them.
    sources = HERE / "libdbss" if (HERE / "libdbss").is_dir() else HERE.parents[1]
    result = HERE / "build/native"
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "build/cargo"))
    environment = {
        "CARGO_PROFILE_RELEASE_STRIP": "symbols",
        **os.environ,
        "CARGO_TARGET_DIR": str(target),
    }
    for package, made, name in (
        ("libdbss", "libdbss.so", "lib/libdbss.so.0"),
        ("dbss-cli", "dbss", "bin/dbss"),
    ):
        build = ["cargo", "build", "--release", "--locked", "-p", package]
        try:
            subprocess.run(build, cwd=sources, env=environment, check=True)
        except FileNotFoundError:
            raise SystemExit(NEEDS) from None
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"{NEEDS}\n{' '.join(build)} failed: {error.returncode}") from None
        (result / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(target / "release" / made, result / name)
    return result


class PackageWithLibrary(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            library = Path(self.build_lib, "dbss/libdbss.so.0")
            shutil.copy(built() / "lib/libdbss.so.0", library)
            library.chmod(0o755)


class ScriptsWithProgram(Distribution().get_command_class("build_scripts")):
    def get_source_files(self) -> list[str]:
        return []

    def run(self) -> None:
        Path(self.build_dir).mkdir(parents=True, exist_ok=True)
        program = Path(self.build_dir, "dbss")
        shutil.copy(built() / "bin/dbss", program)
        program.chmod(0o755)


class PlatformWheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        platform = os.environ.get("DBSS_WHEEL_PLATFORM") or super().get_tag()[2]
        if platform == "any":
            raise SystemExit("a wheel of dbss is for one platform, as it has the library inside")
        # Any Python 3: the package loads the library by ctypes.
        return "py3", "none", platform

    def write_wheelfile(self, wheelfile_base: str, **options: str) -> None:
        super().write_wheelfile(wheelfile_base, **options)
        # A source distribution says what its library and command are made of.
        bills = HERE / "sboms"
        if bills.is_dir():
            shutil.copytree(bills, Path(wheelfile_base, "sboms"))


class WithLibrary(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(
    distclass=WithLibrary,
    # Only so that there are scripts at all: ScriptsWithProgram makes the one.
    scripts=["dbss"],
    cmdclass={
        "bdist_wheel": PlatformWheel,
        "build_py": PackageWithLibrary,
        "build_scripts": ScriptsWithProgram,
    },
)
