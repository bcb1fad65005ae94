"""The sample programs in C: they are short, compile as their README says, and work."""

import os
import re
import shlex
import signal
import subprocess

import pytest

from command import sha256, wait_until
from conftest import need_tool
from mock_service import MockService
from test_c import VALGRIND

SAMPLES = ("download", "generate", "mirror")
TIME_RANGE = ("2026-11-23 00:00:00", "2026-11-24 00:00:00")


@pytest.fixture(scope="module")
def mock(build_dir):
    """A separate service, because the tests add reports."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


class Samples:
    """Runs the samples in an empty directory, against the mock service."""

    def __init__(self, build_dir, environment, mock, directory):
        self.programs = build_dir / "samples"
        self.directory = directory
        self.mock = mock
        self.environment = {
            **environment,
            "DBSS_ENDPOINT": mock.http,
            "DBSS_TOKEN": mock.token,
            "DBSS_PROJECT_ID": mock.project_id,
        }
        self.arguments = {
            "download": [mock.instance_id, mock.pdf["id"], "."],
            "generate": [mock.instance_id, mock.templates[0]["id"], *TIME_RANGE, "report.pdf"],
            "mirror": ["archive"],
        }

    def start(self, name, *arguments, **options):
        streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        program = self.programs / name
        return subprocess.Popen(
            [*options.pop("wrap", ()), program, *(arguments or self.arguments[name])],
            env={**self.environment, **options.pop("env", {})},
            cwd=self.directory,
            text=True,
            **streams,
        )

    def run(self, name, *arguments, **options):
        with self.start(name, *arguments, **options) as process:
            out, err = process.communicate(timeout=120)
        for secret in (self.mock.token, self.mock.secret_key):
            assert secret not in out + err
        # valgrind prints the thread-local memory of the standard library.
        lines = [line for line in err.splitlines(keepends=True) if not line.startswith("==")]
        return process.returncode, out, "".join(lines)


@pytest.fixture
def samples(build_dir, environment, mock, tmp_path):
    # Faults of a failed test must not affect the next one.
    mock.clear_faults()
    mock.set_generation(percent_per_list=100)
    (tmp_path / "here").mkdir()
    return Samples(build_dir, environment, mock, tmp_path / "here")


@pytest.fixture(params=["plain", "valgrind"])
def wrap(request):
    if request.param == "plain":
        return []
    need_tool("valgrind")
    return VALGRIND


def test_samples_are_short(root):
    found = sorted((root / "bindings/c").glob("*.c"))
    assert [path.stem for path in found] == list(SAMPLES)
    for path in found:
        assert len(path.read_text().splitlines()) < 100


def test_samples_compile_as_the_readme_prints(root, build_dir, environment, tmp_path):
    """With a pkg-config that names the library here as if it were installed."""
    readme = (root / "bindings/c/README.md").read_text()
    commands = re.findall(r"^cc -o .*$", readme, re.MULTILINE)
    assert len(commands) == len(SAMPLES)
    tool = tmp_path / "pkg-config"
    flags = f"-I{root / 'include'} -L{build_dir / 'lib'} -ldbss"
    tool.write_text(f"#!/bin/sh\necho {shlex.quote(flags)}\n")
    tool.chmod(0o755)
    path = {**environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name in SAMPLES:
        [command] = [one for one in commands if one.split()[2] == name]
        (tmp_path / f"{name}.c").symlink_to(root / f"bindings/c/{name}.c")
        subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path, env=path)
        done = subprocess.run(
            [tmp_path / name], env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"usage: {name} ")


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("standard", ["c99", "c11"])
def test_samples_compile_without_extensions(root, name, standard):
    strict = (f"-std={standard}", "-pedantic-errors", "-Wall", "-Wextra", "-Werror")
    source = root / f"bindings/c/{name}.c"
    subprocess.run(["cc", *strict, "-I", root / "include", "-fsyntax-only", source], check=True)


def test_download_sample_saves_a_report(samples, wrap):
    code, out, err = samples.run("download", wrap=wrap)
    assert (code, out) == (0, "saved audit-report.pdf\n"), err
    size = samples.mock.pdf["sizes"]["en-us"]
    assert f"{size} of {size} bytes " in err
    path = samples.directory / "audit-report.pdf"
    assert sha256(path) == samples.mock.pdf["sha256"]["en-us"]
    # The file is kept.
    code, out, err = samples.run("download")
    assert (code, out) == (1, "")
    assert "DBSS_ERR_FILE_EXISTS: " in err


def test_download_sample_prints_the_details_of_an_error(samples):
    body = {
        "error_code": "DBSS.10000001",
        "error_msg": "malformed",
        "details": [{"error_code": "DBSS.10020021", "error_msg": "a detail"}],
    }
    samples.mock.fault(samples.mock.pdf["id"], status=400, json=body)
    code, out, err = samples.run("download")
    assert (code, out) == (1, "")
    assert "DBSS_ERR_BAD_REQUEST: " in err
    assert err.endswith("  DBSS.10020021: a detail\n")
    assert not os.listdir(samples.directory)


def test_download_sample_is_cancelled_by_ctrl_c(samples):
    samples.mock.fault(samples.mock.pdf["id"], stall_after=10)
    seen = samples.mock.requests()
    with samples.start("download") as process:
        wait_until(lambda: samples.mock.requests() != seen)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "DBSS_ERR_CANCELLED: " in err
    assert not os.listdir(samples.directory)


def test_generate_sample_saves_a_report(samples, wrap):
    code, out, err = samples.run("generate", wrap=wrap)
    assert code == 0, err
    assert out == f"saved {samples.mock.made()[-1]} as report.pdf\n"
    assert (samples.directory / "report.pdf").read_bytes().startswith(b"%PDF-")
    steps = re.findall(r"^generated (\d+)%$", err, re.MULTILINE)
    assert len(err.splitlines()) == len(steps)
    assert steps == sorted(steps, key=int)


def test_generate_sample_prints_the_error(samples):
    def fails(*arguments, **variables):
        code, out, err = samples.run("generate", *arguments, env=variables)
        assert (code, out) == (1, "")
        assert not (samples.directory / "report.pdf").exists()
        return err

    right = samples.arguments["generate"]
    assert "no template" in fails(right[0], "0" * 32, *right[2:])
    assert "refused" in fails(DBSS_TOKEN="a-token-of-nobody")
    assert "https" in fails(DBSS_ENDPOINT="http://192.0.2.1").lower()
    # The report is generated, and the error names its id.
    (samples.directory / "taken").write_text("")
    message = fails(*right[:-1], "taken").splitlines()[-1]
    assert message.startswith(f"{samples.mock.made()[-1]}: taken exists already")


def test_mirror_sample_brings_an_archive_up_to_date(samples, wrap):
    code, out, err = samples.run("mirror", wrap=wrap)
    assert (code, err) == (0, "")
    [new] = re.findall(r"^(\d+) new, 0 already there, \d+ not ready yet$", out, re.MULTILINE)
    assert int(new) >= 2
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"],
        check=True,
        cwd=samples.directory / "archive",
    )
    code, out, err = samples.run("mirror", wrap=wrap)
    assert (code, err) == (0, "")
    assert out.startswith(f"0 new, {new} already there, ")


def test_mirror_sample_prints_failures(samples):
    samples.mock.fault(samples.mock.pdf["id"], status=403, json={"error_msg": "not yours"})
    code, out, err = samples.run("mirror")
    assert code == 1
    assert " new, 0 already there, " in out
    [failure] = [line for line in err.splitlines() if samples.mock.pdf["id"] in line]
    assert failure.startswith(f"instance {samples.mock.instance_id}, report ")
    assert "not yours" in failure
    assert re.search(r"^mirror: 1 of \d+ .*failed", err, re.MULTILINE)
    assert samples.run("mirror", "archive", "soon")[0] == 1
