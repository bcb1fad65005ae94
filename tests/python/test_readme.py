"""The programs printed in the README and in the header compile and run as printed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from test_cpp import compile_cpp

sys.path.insert(0, str(Path(__file__).parents[2] / "packaging"))
from contents import dead_links

if TYPE_CHECKING:
    from mock_service import MockService


@pytest.fixture
def service(mock: MockService, environment: dict[str, str]) -> dict[str, str]:
    return {
        **environment,
        "DBSS_ENDPOINT": mock.http,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
        "DBSS_INSTANCE_ID": mock.instance_id,
        "DBSS_REPORT_ID": mock.pdf["id"],
    }


def code_blocks(root: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (root / "README.md").read_text(), re.M | re.S)


def compile_program(root: Path, build_dir: Path, environment: dict[str, str], source: Path) -> Path:
    program = source.with_suffix("")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{root / 'include'}"]
    link = [f"-L{build_dir / 'lib'}", "-ldbss", "-o", program]
    subprocess.run([environment.get("CC", "cc"), *flags, source, *link], check=True, timeout=60)
    return program


def test_links_between_files_lead_somewhere(root: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=root, check=True, stdout=subprocess.PIPE)
    files = set(listed.stdout.decode().splitlines())
    dead = {
        name: links
        for name in files
        if name.endswith(".md")
        and (links := list(dead_links(name, (root / name).read_text(), files)))
    }
    assert not dead


def test_readme_c_program_runs(
    root: Path, build_dir: Path, tmp_path: Path, service: dict[str, str], mock: MockService
) -> None:
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


def test_readme_cpp_program_runs(
    root: Path, build_dir: Path, tmp_path: Path, service: dict[str, str], mock: MockService
) -> None:
    [text] = code_blocks(root, "cpp")
    program = compile_cpp(root, build_dir, service, tmp_path, text)
    done = subprocess.run([program], env=service, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).hexdigest() == mock.pdf["sha256"]["en-us"]
    refused = {**service, "DBSS_TOKEN": "not-the-token"}
    done = subprocess.run([program], env=refused, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"DBSS_ERR_UNAUTHENTICATED: ")


def test_readme_python_programs_run(root: Path, service: dict[str, str], mock: MockService) -> None:
    plain, with_asyncio = code_blocks(root, "python")
    assert output(plain, service) == f"{mock.pdf['sizes']['zh-cn']} bytes\n"
    *listed, last = output(with_asyncio, service).splitlines()
    assert mock.pdf["id"] in [line.split()[0] for line in listed]
    assert last == f"{mock.pdf['sizes']['en-us']} bytes"


def output(program: str, service: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], env=service, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_header_example_program_runs(
    root: Path, build_dir: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
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
