"""``python -m dbss``, and the package without its library."""

import os
import re
import signal
import subprocess
import sys

import pytest

from command import wait_until

MODULE = (sys.executable, "-m", "dbss")


def run(environment, *arguments):
    return subprocess.run(
        [*MODULE, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def with_program(build_dir, environment):
    return {**environment, "PATH": f"{build_dir / 'bin'}:{os.environ['PATH']}"}


def test_module_runs_the_program(with_program):
    done = run(with_program, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"dbss \d.*\n", done.stdout)
    done = run(with_program, "reports", "--no-such-flag")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--no-such-flag" in done.stderr


def test_module_passes_signals_to_the_program(with_program, mock):
    mock.fault(mock.pdf["id"], no_answer=True)
    mock.clear_requests()
    service = {
        **with_program,
        "DBSS_ENDPOINT": mock.http,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
        "DBSS_INSTANCE_ID": mock.instance_id,
    }
    arguments = [*MODULE, "download", "--report", mock.pdf["id"]]
    with subprocess.Popen(arguments, env=service, stderr=subprocess.PIPE) as process:
        wait_until(mock.requests)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    mock.clear_faults()
    assert process.returncode == 130


def test_module_without_program_prints_one_line(environment):
    done = run({**environment, "PATH": "/no/such/directory"}, "--help")
    assert (done.returncode, done.stdout) == (7, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("dbss: the program 'dbss' is neither ")


@pytest.mark.skipif(
    sys.version_info < (3, 10), reason="Python 3.9 does not tell how it was started"
)
def test_module_without_library_prints_one_line(with_program):
    library = "/no/such/libdbss.so"
    done = run({**with_program, "DBSS_LIBRARY": library}, "--help")
    assert (done.returncode, done.stdout) == (7, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("dbss: cannot load")
    assert library in line


def test_package_without_library_raises_import_error(environment, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/__init__.py").write_text("try: import dbss\nexcept ImportError: print(1)\n")
    (tmp_path / "other/__main__.py").write_text("print(2)\n")
    done = subprocess.run(
        [sys.executable, "-m", "other"],
        env={**environment, "DBSS_LIBRARY": "/no/such/libdbss.so"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n2\n", "")
