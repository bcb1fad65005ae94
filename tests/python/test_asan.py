"""The C tests under AddressSanitizer, LeakSanitizer and, for C code, UndefinedBehaviorSanitizer.

`make asan` builds and runs them.
"""

import json
import os
import re

import pytest

from test_c import check_environment, checks_in, environment, fixture_file, run
from test_c_transfers import PROGRAMS as OTHER_PROGRAMS

# Imported fixtures; this file does not use the names directly.
__all__ = ["check_environment", "environment", "fixture_file"]

PROGRAMS = ("abi", *OTHER_PROGRAMS)

# Checks that cannot run under a sanitizer, because of its memory use or its slowness.
UNSUPPORTED_CHECKS = {
    # They search the memory of the process, of which the sanitizer maps terabytes.
    "token_is_wiped",
    "token_is_wiped_tls",
    "password_is_wiped",
    "issued_token_is_wiped",
    "access_key_is_wiped",
    "profile_key_is_wiped",
    "metadata_key_is_wiped",
    "pod_identity_is_wiped",
    "id_token_is_wiped",
    "provided_token_is_wiped",
    # It limits the address space (RLIMIT_AS), which the sanitizer exceeds.
    "report_larger_than_memory_fails",
    # It limits the resident memory, in which the sanitizer keeps freed memory.
    "large_report_needs_little_memory",
    # It measures short durations.
    "progress_called_in_every_phase",
}
# They mostly wait several seconds for a timer, and exercise no other code.
SLOW_CHECKS = {
    "login_renewed_before_expiry",
    "login_renewal_failure_keeps_token",
    "metadata_key_renewed_before_expiry",
    "provider_called_before_expiry",
    "stalled_attempt_is_resumed",
}


# The C library tells by the address of a variable whether a frame that a thread's end
# unwinds is that of a clean-up handler, so variables must be on the real stack.
OPTIONS = "exitcode=66:detect_stack_use_after_return=0"


def selected_checks(program, *kinds):
    return [
        name
        for name, kind in checks_in(program).items()
        if kind in kinds and name not in UNSUPPORTED_CHECKS | SLOW_CHECKS
    ]


def run_sanitized(build_dir, environment, program, *arguments, **options):
    built = build_dir / "asan" / program
    if not built.exists():
        pytest.skip("AddressSanitizer: not built; make asan builds and runs it")
    return run([built, *arguments], {**environment, "ASAN_OPTIONS": OPTIONS}, 300, **options)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("read_past_the_end", "AddressSanitizer: heap-buffer-overflow"),
        ("leak", "LeakSanitizer: detected memory leaks"),
        ("overflow", "runtime error: signed integer overflow"),
    ],
)
def test_sanitizer_detects_deliberate_fault(build_dir, environment, fault, found):
    done = run_sanitized(build_dir, environment, "faulty", fault)
    assert done.returncode == 66
    assert found in done.stderr
    assert run_sanitized(build_dir, environment, "faulty", "nothing").returncode == 0


def expect_no_fault(done, passed):
    assert done.returncode == 0, done.stdout + done.stderr[:20000]
    assert f"{passed} passed, 0 failed" in done.stdout


@pytest.mark.parametrize(
    "program", [one for one in PROGRAMS if selected_checks(one, "PLAIN", "TLS")]
)
def test_checks_have_no_fault(build_dir, check_environment, fixture_file, tmp_path, program):
    names = selected_checks(program, "PLAIN", "TLS")
    done = run_sanitized(build_dir, check_environment, program, fixture_file, *names, cwd=tmp_path)
    expect_no_fault(done, len(names))


# Checks that fork, set limits or send signals run in a separate process.
@pytest.mark.parametrize(
    ("program", "check"),
    [(program, check) for program in PROGRAMS for check in selected_checks(program, "LOAD")],
)
def test_isolated_checks_have_no_fault(
    build_dir, check_environment, fixture_file, tmp_path, program, check
):
    done = run_sanitized(build_dir, check_environment, program, fixture_file, check, cwd=tmp_path)
    skipped = re.match(rf"skip {check}: (.*)", done.stdout)
    if skipped and os.environ.get("CI") != "true":
        pytest.skip(skipped[1])
    expect_no_fault(done, 1)


def test_null_arguments_have_no_fault(root, build_dir, check_environment, fixture_file):
    description = json.loads((root / "include/dbss-abi.json").read_text())
    done = run_sanitized(build_dir, check_environment, "nulls", fixture_file)
    expect_no_fault(done, len(description["functions"]))
