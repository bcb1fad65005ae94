"""The built library: its exports, its name, its size, linking and installation."""

import os
import re
import shutil

import pytest

from support import BUILD, LIBRARY, MIB, ROOT, need_tool, run

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
ARCHIVE = BUILD / "lib/libdbss.a"
INCLUDE = f"-I{ROOT / 'include'}"
CC = os.environ.get("CC", "cc")


def printed(*command, **options):
    return run(*command, **options).stdout


@pytest.fixture(scope="module")
def version():
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^version = "(.*)"', text, re.MULTILINE)[1]


@pytest.fixture
def smoke(tmp_path):
    (tmp_path / "smoke.c").write_text(SMOKE)
    return tmp_path / "smoke.c"


def test_libraries_export_exactly_header_functions():
    text = re.sub(r"/\*.*?\*/", "", (ROOT / "include/dbss.h").read_text(), flags=re.DOTALL)
    functions = set(re.findall(r"\b(dbss_\w+)\(", text))
    assert len(functions) > 30
    for flags, path in (("-D", LIBRARY), ("-g", ARCHIVE)):
        lines = printed("nm", flags, "--defined-only", path).splitlines()
        assert {line.split()[-1] for line in lines if " " in line} == functions


def test_shared_library_has_soname_and_stays_loaded():
    dynamic = printed("readelf", "--dynamic", "--wide", LIBRARY)
    assert "Library soname: [libdbss.so.0]" in dynamic
    assert re.search(r"\(FLAGS_1\).*\bNODELETE\b", dynamic)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", dynamic))
    allowed = r"lib(c|m|pthread|dl|gcc_s)\.so\.\d+|ld-.*"
    assert all(re.fullmatch(allowed, name) for name in needed), needed


def test_stripped_library_is_small():
    assert ".symtab" not in printed("readelf", "--sections", "--wide", LIBRARY)
    assert LIBRARY.stat().st_size <= 3 * MIB


def test_program_links_the_static_library(smoke, version):
    program = smoke.with_suffix("")
    libraries = re.search(r"STATIC_LIBRARIES := (.*)", (ROOT / "Makefile").read_text())
    run(CC, INCLUDE, "-o", program, smoke, ARCHIVE, *libraries[1].split())
    assert "libdbss" not in printed("readelf", "--dynamic", program)
    assert printed(program).strip() == version


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
def installed(tmp_path, environment):
    """The variables of an installation with a directory of its own for each kind of file."""
    prefix = tmp_path / "usr"
    lib, include = prefix / "lib/some-machine", prefix / "include/more"
    variables = {"PREFIX": prefix, "LIBDIR": lib, "INCLUDEDIR": include}
    make("install", environment, variables)
    return variables


def make(target, environment, variables, **more):
    words = [f"{name}={value}" for name, value in variables.items()]
    return run("make", "-C", ROOT, target, *words, env=environment, **more)


def test_installed_files_compile_link_and_run(smoke, installed, environment, version):
    need_tool("pkg-config")
    program = smoke.with_suffix("")
    config = {**environment, "PKG_CONFIG_PATH": str(installed["LIBDIR"] / "pkgconfig")}
    flags = printed("pkg-config", "--cflags", "--libs", "dbss", env=config).split()
    assert f"-I{installed['INCLUDEDIR']}" in flags
    assert printed("pkg-config", "--modversion", "dbss", env=config).strip() == version
    run(CC, smoke, *flags, "-o", program)
    loader = {**os.environ, "LD_LIBRARY_PATH": str(installed["LIBDIR"])}
    assert printed(program, env=loader).strip() == version
    assert printed(installed["PREFIX"] / "bin/dbss", "--version")


def test_installed_cmake_package_is_found(tmp_path, smoke, installed, environment, version):
    need_tool("cmake")
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_PROJECT)
    build = tmp_path / "cmake"
    where = (
        f"-DCMAKE_PREFIX_PATH={installed['PREFIX']}",
        f"-Ddbss_DIR={installed['LIBDIR']}/cmake/dbss",
    )
    configure = ("cmake", "-S", tmp_path, "-B", build, *where)
    run(*configure, env=environment)
    run("cmake", "--build", build, env=environment)
    for kind in ("dbss", "static"):
        assert printed(build / kind).strip() == version
        linked = "libdbss.so.0" in printed("readelf", "--dynamic", build / kind)
        assert linked == (kind == "dbss")
    for wanted, is_found in {
        "9.0": False,
        "0.0...0.5": True,
        "0.0...<1.0": True,
        f"0.0...<{version}": False,
        "0.2...9": False,
    }.items():
        text = CMAKE_PROJECT.replace("dbss 0.1", f"dbss {wanted}").replace("3.13)", "3.13...3.19)")
        (tmp_path / "CMakeLists.txt").write_text(text)
        told = run(*configure, "--fresh", code=0 if is_found else 1, env=environment).stderr
        assert is_found or "version: " in told


def test_installed_cpp_header_serves_an_empty_project(mock, service, tmp_path, environment):
    """Nothing leads back to the sources."""
    for tool in ("pkg-config", "cmake"):
        need_tool(tool)
    # As a package would: into another directory first.
    prefix, project = tmp_path / "prefix", tmp_path / "project"
    stage = {"DESTDIR": tmp_path / "stage", "PREFIX": prefix, "BUILD": BUILD}
    make("install", environment, stage)
    shutil.move(f"{tmp_path / 'stage'}{prefix}", prefix)
    # The samples are a whole project of somebody else's.
    shutil.copytree(ROOT / "bindings/cpp", project)
    outside = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CPLUS")},
        "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig"),
        "CMAKE_PREFIX_PATH": str(prefix),
    }
    flags = printed("pkg-config", "--cflags", "--libs", "dbss", env=outside).split()
    for command in (
        ("c++", "-std=c++17", "stream.cpp", "-o", "stream", *flags),
        ("cmake", "-S", ".", "-B", "made"),
        ("cmake", "--build", "made", "--target", "download"),
    ):
        run(*command, cwd=project, env=outside)
    runs = {"env": {**service, "LD_LIBRARY_PATH": str(prefix / "lib")}, "cwd": project}
    report = (mock.instance_id, mock.pdf["id"])
    data = run(project / "stream", *report, text=False, **runs).stdout
    assert len(data) == mock.pdf["sizes"]["en-us"]
    run(project / "made/download", *report, ".", **runs)


def test_uninstall_leaves_nothing(installed, environment):
    def files():
        return [path for path in installed["PREFIX"].rglob("*") if not path.is_dir()]

    assert len(files()) > 25
    mine = installed["PREFIX"] / "bin/mine"
    mine.touch()
    make("uninstall", environment, installed)
    assert files() == [mine]
    for directory in ("share/dbss", "lib/some-machine/cmake/dbss"):
        assert not (installed["PREFIX"] / directory).exists()
    # With nothing there it does nothing.
    make("uninstall", environment, installed)


def test_install_takes_any_destination_and_replaces_what_is_there(tmp_path, environment):
    destination = tmp_path / "a 'quoted' ä destination"
    library = destination / "usr/lib/libdbss.so.0"
    # As an earlier version could have left it.
    library.parent.mkdir(parents=True)
    library.symlink_to("libdbss.so.0.0.1")
    where = {"DESTDIR": destination, "PREFIX": "/usr"}
    make("install", environment, where, umask=0o077)
    first = {path: path.lstat().st_mode for path in destination.rglob("*")}
    make("install", environment, where, umask=0o077)
    assert {path: path.lstat().st_mode for path in destination.rglob("*")} == first
    assert not library.is_symlink()
    # No other name of it, which ldconfig could prefer.
    assert {path.name for path in library.parent.glob("*.so*")} == {"libdbss.so", "libdbss.so.0"}
    for path, mode in first.items():
        # For everybody, whatever the umask.
        assert mode & 0o444 == 0o444, path
    assert printed(destination / "usr/bin/dbss", "--version")
    other = destination / "usr/share/doc/dbss/other"
    other.touch()
    make("uninstall", environment, where, umask=0o077)
    assert [path for path in destination.rglob("*") if not path.is_dir()] == [other]


@pytest.mark.parametrize("variable", ["PREFIX", "LIBDIR", "DOCDIR"])
@pytest.mark.parametrize("path", ["relative/path", "/a path", "/a /path"])
@pytest.mark.parametrize("target", ["install", "uninstall"])
def test_install_refuses_a_path_that_it_cannot_use(tmp_path, environment, target, variable, path):
    refused = make(target, environment, {"DESTDIR": tmp_path, variable: path}, code=2)
    assert f"{variable}='{path}': use a path that starts with / and has no space" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_installed_programs_are_hardened(installed):
    for path in (installed["PREFIX"] / "bin/dbss", installed["LIBDIR"] / "libdbss.so.0"):
        assert "DYN (" in printed("readelf", "--file-header", path)
        assert "GNU_RELRO" in printed("readelf", "--program-headers", path)
        dynamic = printed("readelf", "--dynamic", path)
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


def test_static_library_links_next_to_another_rust_library(tmp_path, environment, version):
    (tmp_path / "other.rs").write_text(OTHER)
    (tmp_path / "both.c").write_text(BOTH_LIBRARIES)
    other, program = tmp_path / "libother.a", tmp_path / "both"
    rustc = ["rustc", "--edition=2024", "--crate-type=staticlib", "-Cpanic=unwind"]
    run(*rustc, tmp_path / "other.rs", "-o", other, env=environment)
    for libraries in ((ARCHIVE, other), (other, ARCHIVE)):
        last = ["-lpthread", "-ldl", "-lm", "-o", program]
        run(CC, INCLUDE, tmp_path / "both.c", *libraries, *last, env=environment)
        assert printed(program, env=environment) == f"2 1 {version}"


def test_install_builds_nothing(tmp_path, environment):
    """The installing user is root, and often has no Rust."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cargo", "cc"):
        (tools / name).write_text("#!/bin/sh\necho built >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    path = {**environment, "PATH": f"{tools}:{os.environ['PATH']}"}
    make("install", path, {"DESTDIR": tmp_path / "root"})
    assert (tmp_path / "root/usr/local/lib/libdbss.so").exists()
    empty = {"DESTDIR": tmp_path, "BUILD": tmp_path / "nothing"}
    assert "run make all first" in make("install", path, empty, code=2).stderr


def test_cross_build_never_installs_the_native_library(tmp_path, environment):
    foreign = {**environment, "CARGO_BUILD_TARGET": "riscv64gc-unknown-linux-musl"}
    refused = make("lib", foreign, {"BUILD": tmp_path / "build", "CARGO": "true"}, code=2)
    assert "target/riscv64gc-unknown-linux-musl/release/libdbss.so" in refused.stderr
    assert not list(tmp_path.glob("build/lib/*"))
