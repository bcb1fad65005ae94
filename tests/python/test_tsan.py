"""The C tests with many threads, under ThreadSanitizer. `make tsan` builds and runs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from test_c import fixture_file, run

__all__ = ["fixture_file"]

SUPPRESSIONS = Path(__file__).parents[1] / "sanitizers/thread.suppressions"

CHECKS = [
    ("abi", "token_replaced_during_downloads"),
    ("download", "tenants_get_only_their_bytes"),
    ("download", "tenants_get_only_their_bytes_tls"),
    ("operation", "every_phase_can_be_ended"),
    ("operation", "operation_freed_during_call_lets_it_finish"),
    ("operation", "stream_freed_during_read_cancels_it"),
    ("threads", "callbacks_run_on_calling_thread"),
    ("threads", "replaced_provider_destroyed_on_calling_thread"),
    ("threads", "cancelled_thread_ends_after_call"),
    ("closing", "context_closed_under_many_threads"),
    ("closing", "context_closed_under_many_threads_tls"),
    ("closing", "stream_closed_in_its_callback_ends"),
    ("closing", "token_request_is_no_longer_wanted"),
    ("closing", "context_close_releases_callbacks"),
    ("mirror", "context_closed_during_run"),
    ("mirror", "run_keeps_client_and_options"),
    ("mirror", "cancelled_run_leaves_nothing_open"),
    ("mirror", "result_shared_by_threads"),
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
