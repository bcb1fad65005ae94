"""The C ABI: the header, the conformance cases, and the rules of the ABI."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from conftest import need_tool

ROOT = Path(__file__).parents[2]


def checks_in(program):
    """The checks of a C program, with their kinds.

    They come from the table in its source, because the program may not be built yet.
    """
    source = (ROOT / f"tests/c/{program}.c").read_text()
    return dict(re.findall(r'^    \{"(\w+)", \w+, (PLAIN|TLS|LOAD)\},$', source, re.MULTILINE))


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
def environment(environment, tmp_path_factory):
    """The environment without the credentials and endpoints of the user."""
    kept = {k: v for k, v in environment.items() if not k.startswith("HUAWEICLOUD_")}
    return {**kept, "HOME": str(tmp_path_factory.mktemp("home"))}


def run(command, environment, timeout=120, **options):
    return subprocess.run(
        [str(part) for part in command],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )


def expect_success(done, silent=True):
    failures = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert done.returncode == 0, "\n".join([*failures, done.stderr])
    assert done.stderr == "" or not silent
    return done.stdout


@pytest.fixture
def c_programs(build_dir):
    return build_dir / "tests/c"


@pytest.fixture
def check_environment(environment, tmp_path):
    """An environment for the check programs."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return {**environment, "TMPDIR": str(scratch)}


@pytest.fixture
def fixture_file(mock, tmp_path):
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
def test_header_alone_compiles_as_strict_c_and_cpp(c_programs, environment, program):
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
def test_wrong_handle_type_does_not_compile(root, environment, language, call, compiles):
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


def test_abi_checks_are_all_run(c_programs, environment):
    listed = expect_success(run([c_programs / "abi", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in ABI_CHECKS.items()]
    assert len(listed) > 20


@pytest.mark.parametrize("check", ABI_CHECKS)
def test_abi_check_passes(c_programs, environment, fixture_file, check):
    done = run([c_programs / "abi", fixture_file, check], environment)
    assert f"ok {check}\n" in expect_success(done)


def test_unload_during_name_lookup_does_not_crash(c_programs, library, environment):
    expect_success(run([c_programs / "dlclose", library], environment))


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
def test_abi_checks_under_valgrind_pass(c_programs, environment, fixture_file, kind):
    need_tool("valgrind")
    checks = [name for name, its_kind in ABI_CHECKS.items() if its_kind == kind]
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, c_programs / "abi", fixture_file, *checks], environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)
