"""The built library: its exports, its name, its size, linking and installation."""

import os
import re
import subprocess

import pytest

from conftest import need_tool

MIB = 1024 * 1024

SMOKE = """
#include <dbss.h>
#include <stdio.h>
int main(void)
{
    dbss_config *config = NULL;
    if (dbss_config_new(&config) != DBSS_OK) return 1;
    dbss_config_free(config);
    puts(dbss_version());
    return 0;
}
"""


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def header_functions(root):
    text = re.sub(r"/\*.*?\*/", "", (root / "include/dbss.h").read_text(), flags=re.DOTALL)
    return set(re.findall(r"\b(dbss_\w+)\(", text))


def test_library_exports_exactly_header_functions(root, library):
    lines = run("nm", "-D", "--defined-only", library).splitlines()
    exported = {line.split()[-1] for line in lines}
    assert exported == header_functions(root)
    assert len(exported) > 30


def test_shared_library_has_soname_and_stays_loaded(library):
    dynamic = run("readelf", "--dynamic", "--wide", library)
    assert "Library soname: [libdbss.so.0]" in dynamic
    assert re.search(r"\(FLAGS_1\).*\bNODELETE\b", dynamic)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", dynamic))
    allowed = r"lib(c|m|pthread|dl|gcc_s)\.so\.\d+|ld-.*"
    assert all(re.fullmatch(allowed, name) for name in needed), needed


def test_stripped_library_is_small(library):
    assert ".symtab" not in run("readelf", "--sections", "--wide", library)
    assert library.stat().st_size <= 3 * MIB


def test_program_links_the_static_library(root, build_dir, tmp_path, environment):
    source = tmp_path / "smoke.c"
    source.write_text(SMOKE)
    program = tmp_path / "smoke"
    libraries = re.search(r"STATIC_LIBRARIES := (.*)", (root / "Makefile").read_text())
    assert libraries
    cc = environment.get("CC", "cc")
    archive = build_dir / "lib/libdbss.a"
    flags = [f"-I{root / 'include'}", "-o", program, source, archive, *libraries[1].split()]
    run(cc, *flags)
    assert "libdbss" not in run("readelf", "--dynamic", program)
    assert run(program).strip() == run_version(root)


def run_version(root):
    version = re.search(r'^version = "(.*)"', (root / "Cargo.toml").read_text(), re.MULTILINE)
    assert version
    return version[1]


CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.13)
project(smoke C)
find_package(dbss 0.1 REQUIRED)
foreach(kind dbss static)
    add_executable(${kind} smoke.c)
    target_link_libraries(${kind} dbss::${kind})
endforeach()
"""


@pytest.fixture
def installed(root, tmp_path, environment):
    """The variables of an installation with a directory of its own for each kind of file."""
    prefix = tmp_path / "usr"
    variables = {
        "PREFIX": prefix,
        "LIBDIR": prefix / "lib/some-machine",
        "INCLUDEDIR": prefix / "include/more",
    }
    make(root, environment, "install", variables)
    return variables


def make(root, environment, target, variables):
    words = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.run(
        ["make", "-C", root, target, *words],
        check=True,
        capture_output=True,
        env=environment,
        text=True,
    )


def test_installed_files_compile_link_and_run(root, tmp_path, installed, environment):
    need_tool("pkg-config")
    source = tmp_path / "smoke.c"
    source.write_text(SMOKE)
    program = tmp_path / "smoke"
    config = {**environment, "PKG_CONFIG_PATH": str(installed["LIBDIR"] / "pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "dbss", env=config).split()
    assert f"-I{installed['INCLUDEDIR']}" in flags
    assert run("pkg-config", "--modversion", "dbss", env=config).strip() == run_version(root)
    run(environment.get("CC", "cc"), source, *flags, "-o", program)
    loader = {**os.environ, "LD_LIBRARY_PATH": str(installed["LIBDIR"])}
    assert run(program, env=loader).strip() == run_version(root)
    assert run(installed["PREFIX"] / "bin/dbss", "--version")


def test_installed_cmake_package_is_found(root, tmp_path, installed, environment):
    need_tool("cmake")
    (tmp_path / "smoke.c").write_text(SMOKE)
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_PROJECT)
    build = tmp_path / "cmake"
    configure = ["cmake", "-S", tmp_path, "-B", build]
    prefixes = f"-DCMAKE_PREFIX_PATH={installed['PREFIX']}"
    where = f"-Ddbss_DIR={installed['LIBDIR']}/cmake/dbss"
    run(*configure, prefixes, where, env=environment)
    run("cmake", "--build", build, env=environment)
    for kind in ("dbss", "static"):
        assert run(build / kind).strip() == run_version(root)
        linked = "libdbss.so.0" in run("readelf", "--dynamic", build / kind)
        assert linked == (kind == "dbss")
    # Another version is refused.
    text = CMAKE_PROJECT.replace("dbss 0.1", "dbss 9.0")
    (tmp_path / "CMakeLists.txt").write_text(text)
    done = subprocess.run(
        [*map(str, configure), prefixes, where, "--fresh"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode != 0
    assert "version: " in done.stderr


def test_uninstall_leaves_nothing(root, installed, environment):
    def files():
        return [path for path in installed["PREFIX"].rglob("*") if not path.is_dir()]

    before = files()
    assert len(before) > 25
    mine = installed["PREFIX"] / "bin/mine"
    mine.write_text("")
    make(root, environment, "uninstall", installed)
    assert files() == [mine]
    for directory in ("share/dbss", "lib/some-machine/cmake/dbss"):
        assert not (installed["PREFIX"] / directory).exists()
    # With nothing there it does nothing.
    make(root, environment, "uninstall", installed)


def test_installed_programs_are_hardened(installed):
    for path in (installed["PREFIX"] / "bin/dbss", installed["LIBDIR"] / "libdbss.so.0"):
        assert "DYN (" in run("readelf", "--file-header", path)
        assert "GNU_RELRO" in run("readelf", "--program-headers", path)
        dynamic = run("readelf", "--dynamic", path)
        assert "BIND_NOW" in dynamic
        assert "RUNPATH" not in dynamic
        assert "RPATH" not in dynamic


OTHER = """
#[unsafe(no_mangle)]
pub extern "C" fn other(n: i32) -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    std::panic::catch_unwind(|| assert!(n == 0)).map_or(1, |()| 2)
}
"""
BOTH_LIBRARIES = """
#include <dbss.h>
#include <stdio.h>
int other(int);
int main(void) { printf("%d %d %s", other(0), other(1), dbss_version()); return 0; }
"""


def test_static_library_links_next_to_another_rust_library(root, build_dir, tmp_path, environment):
    (tmp_path / "other.rs").write_text(OTHER)
    (tmp_path / "both.c").write_text(BOTH_LIBRARIES)
    archive, other, program = (
        build_dir / "lib/libdbss.a",
        tmp_path / "libother.a",
        tmp_path / "both",
    )
    rustc = ["rustc", "--edition=2024", "--crate-type=staticlib", "-Cpanic=unwind"]
    run(*rustc, tmp_path / "other.rs", "-o", other, env=environment)
    cc = environment.get("CC", "cc")
    include = f"-I{root / 'include'}"
    for libraries in ((archive, other), (other, archive)):
        last = ["-lpthread", "-ldl", "-lm"]
        run(cc, include, tmp_path / "both.c", *libraries, *last, "-o", program, env=environment)
        assert run(program, env=environment) == f"2 1 {run_version(root)}"


def test_static_library_exports_only_header_functions(root, build_dir):
    defined = run("nm", "-g", "--defined-only", build_dir / "lib/libdbss.a").splitlines()
    assert {line.split()[-1] for line in defined if " " in line} == header_functions(root)


def test_install_builds_nothing(root, tmp_path, environment):
    """The installing user is root, and often has no Rust."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cargo", "cc"):
        (tools / name).write_text("#!/bin/sh\necho built >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    path = {**environment, "PATH": f"{tools}:{os.environ['PATH']}"}
    run("make", "-C", root, "install", f"DESTDIR={tmp_path / 'root'}", env=path)
    assert (tmp_path / "root/usr/local/lib/libdbss.so").exists()
    empty = ["make", "-C", root, "install", f"DESTDIR={tmp_path}", f"BUILD={tmp_path / 'nothing'}"]
    refused = subprocess.run(empty, env=path, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "run make all first" in refused.stderr


def test_cross_build_never_installs_the_native_library(root, tmp_path, environment):
    foreign = {**environment, "CARGO_BUILD_TARGET": "riscv64gc-unknown-linux-musl"}
    build = ["make", "-C", root, "lib", f"BUILD={tmp_path / 'build'}", "CARGO=true"]
    refused = subprocess.run(build, env=foreign, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "target/riscv64gc-unknown-linux-musl/release/libdbss.so" in refused.stderr
    assert not list(tmp_path.glob("build/lib/*"))
