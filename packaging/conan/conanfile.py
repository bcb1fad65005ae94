"""A Conan 2 recipe for the archives of make dist.

    DBSS_ARCHIVES=build/dist/files conan create packaging/conan

DBSS_ARCHIVES is the directory with the archives and SHA256SUMS, by default that of
make dist.
"""

import os
import re
from pathlib import Path

from conan import ConanFile
from conan.errors import ConanException, ConanInvalidConfiguration
from conan.tools.files import check_sha256, copy, unzip

PROCESSORS = {"x86_64": "x86_64", "armv8": "aarch64"}
HERE = Path(__file__).parent


class Dbss(ConanFile):
    name = "dbss"
    package_type = "library"
    license = "Apache-2.0"
    description = "Downloads audit reports from Huawei Cloud's Database Security Service"
    topics = ("huawei-cloud", "dbss", "audit")
    settings = "os", "arch", "compiler"
    options = {"shared": [True, False]}  # noqa: RUF012
    default_options = {"shared": True}  # noqa: RUF012

    def set_version(self):
        if not self.version:
            text = (Path(self.recipe_folder).parents[1] / "Cargo.toml").read_text()
            self.version = re.search(r'^version = "(.+)"', text, re.MULTILINE)[1]

    def package_id(self):
        # The library is one for all compilers; for which C library it is must be told.
        del self.info.settings.compiler

    def validate(self):
        if self.settings.os != "Linux" or str(self.settings.arch) not in PROCESSORS:
            raise ConanInvalidConfiguration("there are archives for Linux on x86_64 and aarch64")

    def build(self):
        folder = Path(os.environ.get("DBSS_ARCHIVES", HERE.parents[1] / "build/dist/files"))
        libc = os.environ.get("DBSS_LIBC", "glibc")
        processor = PROCESSORS[str(self.settings.arch)]
        name = f"dbss-{self.version}-linux-{processor}-{libc}.tar.gz"
        archive = folder / name
        if not archive.exists():
            raise ConanException(f"{archive} does not exist; set DBSS_ARCHIVES to its directory")
        sums = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").open())
        if name not in sums:
            raise ConanException(f"{folder / 'SHA256SUMS'} does not name {name}")
        check_sha256(self, str(archive), sums[name])
        unzip(self, str(archive), strip_root=True)

    def package(self):
        source, package = self.build_folder, self.package_folder
        copy(self, "*", f"{source}/include", f"{package}/include")
        wanted = "libdbss.so*" if self.options.shared else "libdbss.a"
        copy(self, wanted, f"{source}/lib", f"{package}/lib")
        for name in ("LICENSE", "THIRD-PARTY-LICENSES"):
            copy(self, name, f"{source}/share/doc/dbss", f"{package}/licenses")
        # What the library is made of.
        copy(self, "libdbss.cdx.json", f"{source}/share/doc/dbss", f"{package}/res")

    def package_info(self):
        self.cpp_info.libs = ["dbss"]
        self.cpp_info.set_property("cmake_file_name", "dbss")
        kind = "dbss" if self.options.shared else "static"
        self.cpp_info.set_property("cmake_target_name", f"dbss::{kind}")
        if not self.options.shared:
            self.cpp_info.system_libs = ["pthread", "dl", "m"]
