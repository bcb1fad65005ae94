"""The samples in Python, and the code in the README of the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_service import MockService

SAMPLES = ("download", "generate", "mirror", "several", "stream")
# Runs a block in which the names of the README are defined.
PROGRAM = """
import ast, asyncio, dbss, inspect, logging, os, signal, sys
from datetime import date, datetime, time, timedelta, timezone

block, instance_id, report_id = sys.argv[1:]
client = dbss.Client(region="cn-north-4", credentials="default")
os.mkdir("reports")
running = eval(compile(block, "README", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
if inspect.iscoroutine(running):
    asyncio.run(running)
"""


@pytest.fixture
def mock(build_dir: Path) -> Iterator[MockService]:
    """A separate service, because the samples generate reports."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        running.set("generation", percent_per_list=100)
        yield running


@pytest.fixture
def service(mock: MockService, environment: dict[str, str]) -> dict[str, str]:
    """The variables of the official SDKs, for the mock service."""
    return {
        **environment,
        "DBSS_REGION": "cn-north-4",
        "HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4": mock.http,
        "HUAWEICLOUD_SDK_AK": mock.access_key,
        "HUAWEICLOUD_SDK_SK": mock.secret_key,
        "HUAWEICLOUD_SDK_PROJECT_ID": mock.project_id,
    }


def run(
    *arguments: str, service: dict[str, str], cwd: Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=service,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert service["HUAWEICLOUD_SDK_SK"] not in done.stdout + done.stderr
    return done


def test_python_samples_run(
    root: Path, mock: MockService, service: dict[str, str], tmp_path: Path
) -> None:
    directory = root / "bindings/python/samples"
    assert sorted(path.stem for path in directory.glob("*.py")) == list(SAMPLES)

    def sample(name: str, *arguments: str, code: int = 0) -> str:
        done = run(
            str(directory / f"{name}.py"), *arguments, service=service, cwd=tmp_path, code=code
        )
        return done.stderr if code else done.stdout

    pdf, instance = mock.pdf, mock.instance_id
    assert sample("download", instance, pdf["id"], "report.pdf") == "saved report.pdf\n"
    assert (tmp_path / "report.pdf").stat().st_size == pdf["sizes"]["en-us"]
    assert "report.pdf is there" in sample("download", instance, pdf["id"], "report.pdf", code=1)
    assert sample("stream", instance, pdf["id"]).split()[0] == pdf["sha256"]["zh-cn"]
    printed = sample("generate", instance, mock.templates[0]["id"], "new.pdf")
    assert printed == f"generated {mock.made()[-1]}\nsaved new.pdf\n"
    assert "no such" in sample("generate", instance, "0" * 32, "other.pdf", code=1)
    assert "reports/" in sample("several", instance, "reports", "2")
    assert "NOT_FOUND" in sample("several", "0" * 32, "reports", code=1)
    assert re.match(r"\d+ new, 0 already there\n", sample("mirror", "archive"))
    assert sample("mirror", "archive").startswith("0 new, ")
    assert "since" in sample("mirror", "archive", "soon", code=1)
    for name in SAMPLES:
        assert sample(name, code=1).startswith("usage: ")


def test_python_readme_blocks_run(
    root: Path, mock: MockService, service: dict[str, str], tmp_path: Path
) -> None:
    text = (root / "bindings/python/README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        directory = tmp_path / str(blocks.index(block))
        directory.mkdir()
        ids = (mock.instance_id, mock.pdf["id"])
        run("-c", PROGRAM, block, *ids, service=service, cwd=directory)
        saves = "reports/" in block
        assert bool(os.listdir(directory / "reports")) == saves, block
