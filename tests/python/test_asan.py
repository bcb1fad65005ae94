"""The C tests under AddressSanitizer, LeakSanitizer and, in what is C, UndefinedBehaviorSanitizer.

`make asan` builds and runs them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from test_c import checking, checks_of, environment, facts, run
from test_c_lists import clean, mock

# Fixtures, which no name in this file uses.
__all__ = ["checking", "clean", "environment", "facts", "mock"]

PROGRAMS = (
    *("abi", "errors", "records", "transfers", "control", "signals", "threads", "closing"),
    *("files", "credentials", "sources", "lists", "mirror"),
)

# What a sanitizer's own memory and slowness make impossible.
IMPOSSIBLE = {
    # They search all of the process's memory, of which the sanitizer maps terabytes.
    "token_is_wiped",
    "token_is_wiped_tls",
    "password_is_wiped",
    "issued_token_is_wiped",
    "access_key_is_wiped",
    "profile_key_is_wiped",
    "metadata_key_is_wiped",
    "provided_token_is_wiped",
    # It limits the address space (RLIMIT_AS), which those terabytes exceed.
    "report_larger_than_memory_fails",
    # It limits the resident memory, which holds what was freed lately.
    "large_report_needs_little_memory",
    # It measures short times.
    "progress_called_in_every_phase",
    # It ends a thread in a callback: frames of this build are not those that let it stay.
    "thread_exit_in_callback_leaves_process_alive",
}
# They wait for clocks, most of them several seconds, and do nothing else that is new.
WAITING = {
    "login_renewed_before_expiry",
    "login_renewal_failure_keeps_token",
    "metadata_key_renewed_before_expiry",
    "provider_called_before_expiry",
    "stalled_attempt_is_resumed",
}


def checks(program: str, *kinds: str) -> list[str]:
    return [
        name
        for name, kind in checks_of(program).items()
        if kind in kinds and name not in IMPOSSIBLE | WAITING
    ]


def sanitized(
    build_dir: Path,
    environment: dict[str, str],
    program: str,
    *arguments: Path | str,
    **options: Path,
) -> subprocess.CompletedProcess[str]:
    built = build_dir / "asan" / program
    if not built.exists():
        pytest.skip("AddressSanitizer: not built; make asan builds and runs it")
    return run([built, *arguments], {**environment, "ASAN_OPTIONS": "exitcode=66"}, 300, **options)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("read_past_the_end", "AddressSanitizer: heap-buffer-overflow"),
        ("leak", "LeakSanitizer: detected memory leaks"),
        ("overflow", "runtime error: signed integer overflow"),
    ],
)
def test_a_fault_is_found(
    build_dir: Path, environment: dict[str, str], fault: str, found: str
) -> None:
    done = sanitized(build_dir, environment, "faulty", fault)
    assert done.returncode == 66
    assert found in done.stderr
    assert sanitized(build_dir, environment, "faulty", "nothing").returncode == 0


def expect_no_fault(done: subprocess.CompletedProcess[str], passed: int) -> None:
    assert done.returncode == 0, done.stdout + done.stderr[:20000]
    assert f"{passed} passed, 0 failed" in done.stdout


@pytest.mark.parametrize("program", [one for one in PROGRAMS if checks(one, "PLAIN", "TLS")])
def test_no_fault(
    build_dir: Path, checking: dict[str, str], facts: Path, tmp_path: Path, program: str
) -> None:
    names = checks(program, "PLAIN", "TLS")
    done = sanitized(build_dir, checking, program, facts, *names, cwd=tmp_path)
    expect_no_fault(done, len(names))


# Those that fork, limit or signal have a process of their own.
@pytest.mark.parametrize(
    ("program", "check"),
    [(program, check) for program in PROGRAMS for check in checks(program, "LOAD")],
)
def test_no_fault_alone(
    build_dir: Path,
    checking: dict[str, str],
    facts: Path,
    tmp_path: Path,
    program: str,
    check: str,
) -> None:
    done = sanitized(build_dir, checking, program, facts, check, cwd=tmp_path)
    skipped = re.match(rf"skip {check}: (.*)", done.stdout)
    if skipped and os.environ.get("CI") != "true":
        pytest.skip(skipped[1])
    expect_no_fault(done, 1)


def test_no_fault_with_null(
    root: Path, build_dir: Path, checking: dict[str, str], facts: Path
) -> None:
    description = json.loads((root / "include/dbss-abi.json").read_text())
    done = sanitized(build_dir, checking, "nulls", facts)
    expect_no_fault(done, len(description["functions"]))


def test_no_fault_in_the_conformance_cases(
    root: Path, build_dir: Path, environment: dict[str, str], facts: Path
) -> None:
    cases = sorted((root / "tests/conformance").glob("*.cases"))
    lines = [line for file in cases for line in file.read_text().splitlines()]
    done = sanitized(build_dir, environment, "conformance", facts, "https", *cases)
    expect_no_fault(done, sum(line.startswith("case: ") for line in lines))
