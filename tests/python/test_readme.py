"""The programs printed in the README and in the header compile and run as printed."""

import hashlib
import re
import subprocess
import sys

import pytest

from test_cpp import compile_cpp


@pytest.fixture
def service(mock, environment):
    return {
        **environment,
        "DBSS_ENDPOINT": mock.http,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
        "DBSS_INSTANCE_ID": mock.instance_id,
        "DBSS_REPORT_ID": mock.pdf["id"],
    }


def code_blocks(root, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (root / "README.md").read_text(), re.M | re.S)


def compile_program(root, build_dir, environment, source):
    program = source.with_suffix("")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{root / 'include'}"]
    link = [f"-L{build_dir / 'lib'}", "-ldbss", "-o", program]
    subprocess.run([environment.get("CC", "cc"), *flags, source, *link], check=True, timeout=60)
    return program


def test_readme_c_program_runs(root, build_dir, tmp_path, service, mock):
    source = tmp_path / "readme.c"
    [text] = code_blocks(root, "c")
    source.write_text(text)
    program = compile_program(root, build_dir, service, source)
    done = subprocess.run([program], env=service, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).hexdigest() == mock.pdf["sha256"]["en-us"]

    refused = {**service, "DBSS_TOKEN": "not-the-token"}
    done = subprocess.run([program], env=refused, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"DBSS_ERR_UNAUTHENTICATED: ")


def test_readme_cpp_program_runs(root, build_dir, tmp_path, service, mock):
    [text] = code_blocks(root, "cpp")
    program = compile_cpp(root, build_dir, service, tmp_path, text)
    done = subprocess.run([program], env=service, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).hexdigest() == mock.pdf["sha256"]["en-us"]
    refused = {**service, "DBSS_TOKEN": "not-the-token"}
    done = subprocess.run([program], env=refused, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"DBSS_ERR_UNAUTHENTICATED: ")


def test_readme_python_programs_run(root, service, mock):
    plain, with_asyncio = code_blocks(root, "python")
    assert output(plain, service) == f"{mock.pdf['sizes']['zh-cn']} bytes\n"
    *listed, last = output(with_asyncio, service).splitlines()
    assert mock.pdf["id"] in [line.split()[0] for line in listed]
    assert last == f"{mock.pdf['sizes']['en-us']} bytes"


def output(program, service):
    done = subprocess.run(
        [sys.executable, "-c", program], env=service, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_header_example_program_runs(root, build_dir, tmp_path, environment):
    opening = (root / "include/dbss.h").read_text().split("*/")[0]
    lines = re.findall(r"^ \*     (.*)$|^ \*$", opening, re.MULTILINE)
    program = "\n".join(lines[: lines.index("}") + 1]).strip() + "\n"
    assert program.startswith("#include <dbss.h>")
    assert 15 <= len(program.splitlines()) <= 30
    source = tmp_path / "header.c"
    source.write_text(program)
    binary = compile_program(root, build_dir, environment, source)
    # It uses a real region, so here the call must fail before any traffic.
    done = subprocess.run(
        [binary, "not-an-id", "b", "c"],
        env={**environment, "DBSS_TOKEN": "a-token"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("no report: project: must have 32 to 64 characters, but has 9")
