"""The C tests with many threads, under ThreadSanitizer. `make tsan` builds and runs them."""

from pathlib import Path

import pytest

from test_c import fixture_file, run

__all__ = ["fixture_file"]

SUPPRESSIONS = Path(__file__).parents[1] / "sanitizers/thread.suppressions"

CHECKS = [
    ("abi", "context_shared_by_threads_downloads_right_bytes"),
    ("abi", "token_replaced_during_downloads"),
    ("abi", "context_freed_during_call_lets_it_finish"),
    ("download", "faults_on_many_threads_give_right_bytes"),
    ("download", "faults_on_many_threads_give_right_bytes_tls"),
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
    ("closing", "context_closed_during_mirror"),
    ("closing", "context_close_releases_callbacks"),
    ("mirror", "concurrent_runs_are_independent"),
    ("mirror", "run_keeps_client_and_options"),
    ("mirror", "cancelled_run_leaves_nothing_open"),
    ("mirror", "result_shared_by_threads"),
]


def run_sanitized(build_dir, environment, program, *arguments):
    built = build_dir / "tsan" / program
    if not built.exists():
        pytest.skip("ThreadSanitizer: not built; make tsan builds and runs it")
    options = f"exitcode=66 halt_on_error=1 suppressions={SUPPRESSIONS}"
    return run([built, *arguments], {**environment, "TSAN_OPTIONS": options}, 600)


def test_sanitizer_detects_deliberate_race(build_dir, environment):
    done = run_sanitized(build_dir, environment, "racy")
    assert done.returncode == 66
    assert "data race" in done.stderr


@pytest.mark.parametrize(("program", "check"), CHECKS)
def test_checks_have_no_data_race(build_dir, environment, fixture_file, program, check):
    done = run_sanitized(build_dir, environment, program, fixture_file, check)
    assert done.returncode == 0, done.stdout + done.stderr[:20000]
    assert f"ok {check}\n" in done.stdout
