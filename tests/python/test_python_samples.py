"""The samples in Python, and the code in the README of the package."""

import contextlib
import os
import re
import sys

import pytest

import support
from support import ROOT

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
def mock():
    """A separate service, because the samples generate reports."""
    with contextlib.contextmanager(support.new_mock)() as running:
        running.set("generation", percent_per_list=100)
        yield running


@pytest.fixture
def run(mock, environment):
    """Runs a program with the variables of the official SDKs, for the mock service."""
    service = {
        **environment,
        "DBSS_REGION": "cn-north-4",
        "HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4": mock.http,
        "HUAWEICLOUD_SDK_AK": mock.access_key,
        "HUAWEICLOUD_SDK_SK": mock.secret_key,
        "HUAWEICLOUD_SDK_PROJECT_ID": mock.project_id,
    }

    def start(*arguments, cwd, code=0):
        command = (sys.executable, "-W", "error", *arguments)
        done = support.run(*command, env=service, cwd=cwd, code=code)
        assert mock.secret_key not in done.stdout + done.stderr
        return done.stderr if code else done.stdout

    return start


def test_python_samples_run(mock, run, tmp_path):
    directory = ROOT / "bindings/python/samples"
    assert sorted(path.stem for path in directory.glob("*.py")) == list(SAMPLES)

    def sample(name, *arguments, code=0):
        return run(directory / f"{name}.py", *arguments, cwd=tmp_path, code=code)

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


def test_python_readme_blocks_run(mock, run, tmp_path):
    text = (ROOT / "bindings/python/README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        directory = tmp_path / str(blocks.index(block))
        directory.mkdir()
        ids = (mock.instance_id, mock.pdf["id"])
        run("-c", PROGRAM, block, *ids, cwd=directory)
        saves = "reports/" in block
        assert bool(os.listdir(directory / "reports")) == saves, block
