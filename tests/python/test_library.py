"""The built library: its exports, its name, its size, linking and installation."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

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


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def header_functions(root: Path) -> set[str]:
    text = re.sub(r"/\*.*?\*/", "", (root / "include/dbss.h").read_text(), flags=re.DOTALL)
    return set(re.findall(r"\b(dbss_\w+)\(", text))


def test_library_exports_exactly_header_functions(root: Path, library: Path) -> None:
    lines = run("nm", "-D", "--defined-only", library).splitlines()
    exported = {line.split()[-1] for line in lines}
    assert exported == header_functions(root)
    assert len(exported) > 30


def test_shared_library_has_soname_and_stays_loaded(library: Path) -> None:
    dynamic = run("readelf", "--dynamic", "--wide", library)
    assert "Library soname: [libdbss.so.0]" in dynamic
    assert re.search(r"\(FLAGS_1\).*\bNODELETE\b", dynamic)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", dynamic))
    allowed = r"lib(c|m|pthread|dl|gcc_s)\.so\.\d+|ld-.*"
    assert all(re.fullmatch(allowed, name) for name in needed), needed


def test_stripped_library_is_small(library: Path) -> None:
    assert ".symtab" not in run("readelf", "--sections", "--wide", library)
    assert library.stat().st_size <= 3 * MIB


def test_program_links_the_static_library(
    root: Path, build_dir: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    source = tmp_path / "smoke.c"
    source.write_text(SMOKE)
    program = tmp_path / "smoke"
    libraries = re.search(r"Libs.private: (.*)", (root / "bindings/c/dbss.pc.in").read_text())
    assert libraries
    cc = environment.get("CC", "cc")
    archive = build_dir / "lib/libdbss.a"
    flags = [f"-I{root / 'include'}", "-o", program, source, archive, *libraries[1].split()]
    run(cc, *flags)
    assert "libdbss" not in run("readelf", "--dynamic", program)
    assert run(program).strip() == run_version(root)


def run_version(root: Path) -> str:
    version = re.search(r'^version = "(.*)"', (root / "Cargo.toml").read_text(), re.MULTILINE)
    assert version
    return version[1]


def test_installed_files_compile_link_and_run(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    prefix = tmp_path / "usr"
    run("make", "-C", root, "install", f"PREFIX={prefix}", env=environment)
    source = tmp_path / "smoke.c"
    source.write_text(SMOKE)
    pc = (prefix / "lib/pkgconfig/dbss.pc").read_text()
    assert f"Version: {run_version(root)}\n" in pc
    assert f"prefix={prefix}\n" in pc
    program = tmp_path / "smoke"
    cc = environment.get("CC", "cc")
    run(cc, f"-I{prefix / 'include'}", source, f"-L{prefix / 'lib'}", "-ldbss", "-o", program)
    loader = {**os.environ, "LD_LIBRARY_PATH": str(prefix / "lib")}
    assert run(program, env=loader).strip() == run_version(root)
    assert run(prefix / "bin/dbss", "--version")


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


def test_static_library_links_next_to_another_rust_library(
    root: Path, build_dir: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
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


def test_static_library_exports_only_header_functions(root: Path, build_dir: Path) -> None:
    defined = run("nm", "-g", "--defined-only", build_dir / "lib/libdbss.a").splitlines()
    assert {line.split()[-1] for line in defined if " " in line} == header_functions(root)


def test_install_builds_nothing(root: Path, tmp_path: Path, environment: dict[str, str]) -> None:
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


def test_cross_build_never_installs_the_native_library(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    foreign = {**environment, "CARGO_BUILD_TARGET": "riscv64gc-unknown-linux-musl"}
    build = ["make", "-C", root, "lib", f"BUILD={tmp_path / 'build'}", "CARGO=true"]
    refused = subprocess.run(build, env=foreign, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "target/riscv64gc-unknown-linux-musl/release/libdbss.so" in refused.stderr
    assert not list(tmp_path.glob("build/lib/*"))
