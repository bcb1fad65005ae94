"""The C tests with many threads, under ThreadSanitizer. `make tsan` builds and runs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from test_c import fixture_file, run

__all__ = ["fixture_file"]

SUPPRESSIONS = Path(__file__).parents[1] / "sanitizers/thread.suppressions"

CHECKS = [
    ("abi", "many_threads"),
    ("abi", "token_swap"),
    ("abi", "free_during_call"),
    ("transfers", "many_threads_with_faults"),
    ("transfers", "many_threads_with_faults_tls"),
    ("control", "cancel_all"),
    ("control", "free_operation_during_call"),
    ("control", "stream_freed_during_read"),
    ("threads", "callbacks_run_on_the_callers_thread"),
    ("threads", "a_replaced_provider_ends_on_the_callers_thread"),
    ("threads", "a_cancelled_thread_ends_after_its_call"),
    ("closing", "under_many_threads"),
    ("closing", "under_many_threads_tls"),
    ("closing", "stream_closed_during_read"),
    ("closing", "operation_of_a_closed_stream"),
    ("closing", "waiting_for_a_token"),
    ("closing", "during_mirrors"),
    ("closing", "callbacks_are_released"),
    ("mirror", "many_runs"),
    ("mirror", "freed_during_a_run"),
    ("mirror", "cancelled_by_its_operation"),
    ("mirror", "result_shared_and_freed_elsewhere"),
]


def run_sanitized(
    build_dir: Path, environment: dict[str, str], program: str, *arguments: Path | str
) -> subprocess.CompletedProcess[str]:
    built = build_dir / "tsan" / program
    if not built.exists():
        pytest.skip("ThreadSanitizer: not built; make tsan builds and runs it")
    options = f"exitcode=66 halt_on_error=1 suppressions={SUPPRESSIONS}"
    return run([built, *arguments], {**environment, "TSAN_OPTIONS": options}, 600)


def test_sanitizer_detects_deliberate_race(build_dir: Path, environment: dict[str, str]) -> None:
    done = run_sanitized(build_dir, environment, "racy")
    assert done.returncode == 66
    assert "data race" in done.stderr


@pytest.mark.parametrize(("program", "check"), CHECKS)
def test_checks_have_no_data_race(
    build_dir: Path, environment: dict[str, str], fixture_file: Path, program: str, check: str
) -> None:
    done = run_sanitized(build_dir, environment, program, fixture_file, check)
    assert done.returncode == 0, done.stdout + done.stderr[:20000]
    assert f"ok {check}\n" in done.stdout
