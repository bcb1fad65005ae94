"""``python -m dbss``, and the package without its library."""

import importlib.util
import os
import re
import signal
import subprocess
import sys

import pytest

from support import BUILD, output, run, wait_until

MODULE = (sys.executable, "-m", "dbss")
NO_LIBRARY = {"DBSS_LIBRARY": "/no/such/libdbss.so"}


@pytest.fixture
def environment(environment):
    """With the program."""
    return {**environment, "PATH": f"{BUILD / 'bin'}:{os.environ['PATH']}"}


def test_module_runs_the_program(environment):
    assert re.fullmatch(r"dbss \d.*\n", output(*MODULE, "--version", env=environment))
    done = run(*MODULE, "reports", "--no-such-flag", code=2, env=environment)
    assert done.stdout == ""
    assert "--no-such-flag" in done.stderr


def test_module_passes_signals_to_the_program(service, mock):
    mock.fault(mock.pdf["id"], no_response=True)
    arguments = [*MODULE, "download", "--report", mock.pdf["id"]]
    with subprocess.Popen(arguments, env=service, stderr=subprocess.PIPE) as process:
        wait_until(mock.requests)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"PATH": "/no/such/directory"}, "dbss: the program 'dbss' is neither "),
        pytest.param(
            NO_LIBRARY,
            "dbss: cannot load.*/no/such/libdbss.so",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 10), reason="Python 3.9 does not tell how it was started"
            ),
        ),
    ],
)
def test_module_without_program_or_library_prints_one_line(environment, variables, says):
    done = run(*MODULE, "--help", code=7, env={**environment, **variables})
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert re.match(says, line)


def test_package_without_library_raises_import_error(environment, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/__init__.py").write_text("try: import dbss\nexcept ImportError: print(1)\n")
    (tmp_path / "other/__main__.py").write_text("print(2)\n")
    env = {**environment, **NO_LIBRARY}
    assert output(sys.executable, "-m", "other", env=env, cwd=tmp_path) == "1\n2\n"


def test_import_in_a_subinterpreter_is_an_import_error(environment):
    names = ("_interpreters", "_xxsubinterpreters")
    module = next((name for name in names if importlib.util.find_spec(name)), None)
    if module is None:
        pytest.skip("this Python has no module for subinterpreters")
    inside = "try: import dbss\nexcept ImportError as error: print(error, flush=True)\n"
    code = f"import {module} as interpreters; one = interpreters.create()\n"
    code += f"interpreters.run_string(one, {inside!r}); interpreters.destroy(one)"
    printed = output(sys.executable, "-c", code, env=environment)
    assert printed == "dbss cannot be used in a subinterpreter\n"
