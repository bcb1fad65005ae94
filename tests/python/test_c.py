"""The C ABI: the header, the conformance cases, and the rules of the ABI."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import need_tool

if TYPE_CHECKING:
    from mock_service import MockService

ROOT = Path(__file__).parents[2]


def checks_in(program: str) -> dict[str, str]:
    """The checks of a C program, with their kinds.

    They come from its source, because the program may not be built yet.
    """
    source = (ROOT / f"tests/c/{program}.c").read_text()
    found = re.findall(r"^NAMED_\w+\((\w+), ([A-Z]+)(?:, ([A-Z]+)\)$)?", source, re.MULTILINE)
    kinds = {}
    for name, kind, kind_tls in found:
        kinds[name] = kind
        if kind_tls:
            kinds[f"{name}_tls"] = kind_tls
    return kinds


ABI_CHECKS = checks_in("abi")

VALGRIND = [
    "valgrind",
    "--quiet",
    "--error-exitcode=99",
    "--leak-check=full",
    "--show-leak-kinds=definite,indirect,possible",
    "--errors-for-leak-kinds=definite,indirect",
    "--track-fds=no",
    f"--suppressions={ROOT / 'tests/c/valgrind.supp'}",
]
# Cryptography is in assembly, for which valgrind cannot track initialisation.
VALGRIND_TLS = [*VALGRIND, "--undef-value-errors=no"]


@pytest.fixture(scope="module")
def environment(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment without the credentials and endpoints of the user."""
    kept = {k: v for k, v in environment.items() if not k.startswith("HUAWEICLOUD_")}
    return {**kept, "HOME": str(tmp_path_factory.mktemp("home"))}


def run(
    command: list[str | Path],
    environment: dict[str, str],
    timeout: float = 120,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )


def expect_success(done: subprocess.CompletedProcess[str], silent: bool = True) -> str:
    failures = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert done.returncode == 0, "\n".join([*failures, done.stderr])
    assert done.stderr == "" or not silent
    return done.stdout


@pytest.fixture
def c_programs(build_dir: Path) -> Path:
    return build_dir / "tests/c"


@pytest.fixture
def check_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment for the check programs."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return {**environment, "TMPDIR": str(scratch)}


@pytest.fixture
def fixture_file(mock: MockService, tmp_path: Path) -> Path:
    """The fixture values for C, as lines of name=value."""
    ready = json.loads(mock.raw_ready)
    fixtures = {name: value for name, value in ready.items() if isinstance(value, str)}
    fixtures["control"] = ready["control"].removeprefix("http://").rstrip("/")
    fixtures["project"] = ready["project_id"]
    fixtures["instance"] = ready["instance_id"]
    fixtures["template"] = mock.templates[0]["id"]
    for name, report in (("pdf", mock.pdf), ("zip", mock.zip)):
        fixtures[name] = report["id"]
        fixtures[f"{name}_en"] = report["sha256"]["en-us"]
        fixtures[f"{name}_zh"] = report["sha256"]["zh-cn"]
    path = tmp_path / "fixture_file"
    path.write_text("".join(f"{name}={value}\n" for name, value in fixtures.items()))
    return path


# The header.


@pytest.mark.parametrize("program", ["header_c99", "header_c11", "header_cpp"])
def test_header_alone_compiles_as_strict_c_and_cpp(
    c_programs: Path, environment: dict[str, str], program: str
) -> None:
    expect_success(run([c_programs / program], environment))


@pytest.mark.parametrize(
    ("call", "compiles"),
    [
        ("dbss_context_free(ctx)", True),
        ("dbss_context_free(config)", False),
        ("dbss_config_free(ctx)", False),
        ("dbss_report_download(ctx, id, id, id, 0, &report)", True),
        ("dbss_report_download(config, id, id, id, 0, &report)", False),
        ("dbss_error_free(dbss_error_take())", True),
        ("dbss_error_free(dbss_last_error())", False),
    ],
)
@pytest.mark.parametrize("language", ["c", "c++"])
def test_wrong_handle_type_does_not_compile(
    root: Path, environment: dict[str, str], language: str, call: str, compiles: bool
) -> None:
    source = f"""
        #include <dbss.h>
        void use(dbss_config *config, dbss_context *ctx, const char *id, dbss_buffer report);
        void use(dbss_config *config, dbss_context *ctx, const char *id, dbss_buffer report)
        {{ {call}; (void)config; (void)ctx; (void)id; (void)report; }}
    """
    compiler = {"c": environment.get("CC", "cc"), "c++": environment.get("CXX", "c++")}[language]
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{root / 'include'}", "-fsyntax-only"]
    done = run([compiler, "-x", language, *flags, "-"], environment, input=source)
    assert (done.returncode == 0) == compiles, done.stderr


# The ABI.


def test_abi_checks_are_all_run(c_programs: Path, environment: dict[str, str]) -> None:
    listed = expect_success(run([c_programs / "abi", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in ABI_CHECKS.items()]
    assert listed


@pytest.mark.parametrize("check", ABI_CHECKS)
def test_abi_check_passes(
    c_programs: Path, environment: dict[str, str], fixture_file: Path, check: str
) -> None:
    done = run([c_programs / "abi", fixture_file, check], environment)
    assert f"ok {check}\n" in expect_success(done)


UNLOAD = """
import ctypes, os, sys, time
from _ctypes import dlclose
ID = b"0123456789abcdef0123456789abcdef"
OPTIONS = {
    b"endpoint": b"http://no-such-host.invalid",
    b"allow_plaintext": b"true",
    b"connect_timeout_ms": b"1",
    b"token": b"token",
}
for _ in range(3):
    library = ctypes.CDLL(sys.argv[1])
    config, ctx, report = ctypes.c_void_p(), ctypes.c_void_p(), (ctypes.c_void_p * 2)()
    assert library.dbss_config_new(ctypes.byref(config)) == 0
    for key, value in OPTIONS.items():
        assert library.dbss_config_set(config, key, value) == 0
    assert library.dbss_context_new(config, ctypes.byref(ctx)) == 0
    status = library.dbss_report_download(ctx, ID, ID, ID, None, report)
    assert str(status) in sys.argv[2:], status
    library.dbss_context_free(ctx)
    library.dbss_config_free(config)
    dlclose(library._handle)
# The remaining look-ups must be able to end without the handle.
while len(os.listdir("/proc/self/task")) > 1:
    time.sleep(0.005)
"""


def test_unload_during_name_lookup_does_not_crash(
    root: Path, library: Path, environment: dict[str, str]
) -> None:
    statuses = json.loads((root / "include/dbss-abi.json").read_text())["statuses"]
    # Which of them depends on the speed of the system's resolver.
    expected = {"DBSS_ERR_CONNECT_TIMEOUT", "DBSS_ERR_RESOLVE"}
    values = [str(one["value"]) for one in statuses if one["name"] in expected]
    assert len(values) == 2
    expect_success(run([sys.executable, "-c", UNLOAD, library, *values], environment))


def test_abi_checks_under_valgrind_pass(
    c_programs: Path, environment: dict[str, str], fixture_file: Path
) -> None:
    need_tool("valgrind")
    checks = [name for name, kind in ABI_CHECKS.items() if kind == "PLAIN"]
    done = run([*VALGRIND, c_programs / "abi", fixture_file, *checks], environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)
