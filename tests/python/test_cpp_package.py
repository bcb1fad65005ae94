"""The C++ header as a user gets it: the README, the samples, the installed files."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import need_tool
from test_c import environment, expect_success, run
from test_cpp import compile_cpp, mock, service

# Imported fixtures; this file does not use the names directly.
__all__ = ["environment", "mock", "service"]

SAMPLES = ("download", "generate", "mirror", "stream")
TIME_RANGE = ("2026-11-23 00:00:00", "2026-11-24 00:00:00")


def test_cpp_readme_programs_run(root, build_dir, service, mock, tmp_path):
    text = (root / "bindings/cpp/README.md").read_text()
    blocks = re.findall(r"^```cpp\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    outputs = []
    for number, block in enumerate(blocks):
        place = tmp_path / str(number)
        place.mkdir()
        program = compile_cpp(root, build_dir, service, place, block)
        done = run([program], service, cwd=place)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
        if number == 0:
            refused = {**service, "DBSS_TOKEN": "not-the-token"}
            assert run([program], refused, cwd=place).returncode == 2
            assert len(list(place.glob("*.report"))) == 7
    assert len(outputs[0].splitlines()) == 7
    assert outputs[1] == f"{mock.pdf['sizes']['en-us']} bytes\n"
    assert len(outputs[2].splitlines()) == 2


@pytest.mark.parametrize("sample", SAMPLES)
def test_cpp_sample_works_and_prints_its_errors(root, build_dir, service, mock, tmp_path, sample):
    assert len((root / f"bindings/cpp/{sample}.cpp").read_text().splitlines()) < 100
    arguments = {
        "download": [mock.instance_id, mock.pdf["id"], "."],
        "generate": [mock.instance_id, mock.templates[0]["id"], *TIME_RANGE, "report.pdf"],
        "mirror": ["archive"],
        "stream": [mock.instance_id, mock.pdf["id"]],
    }[sample]
    program = build_dir / "samples/cpp" / sample
    done = subprocess.run(
        [program, *arguments], env=service, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    if sample == "stream":
        assert len(done.stdout) == mock.pdf["sizes"]["en-us"]
    else:
        starts = b"7 new, 0 already there" if sample == "mirror" else b"saved "
        assert done.stdout.startswith(starts)
        assert list(tmp_path.rglob("*.pdf"))
    assert run([program], service).returncode == 2
    failed = run([program, *arguments], {**service, "DBSS_TOKEN": "not-the-token"}, cwd=tmp_path)
    assert failed.returncode == 1
    assert "token" in failed.stderr
    assert "not-the-token" not in failed.stdout + failed.stderr


@pytest.fixture
def installed(root, build_dir, tmp_path):
    """The prefix of an installed library, from which nothing leads back to the sources."""
    # As a package would: into another directory first.
    stage = ["make", "-C", root, "install", f"BUILD={build_dir}"]
    prefix = tmp_path / "prefix"
    run_quietly([*stage, f"DESTDIR={tmp_path / 'stage'}", f"PREFIX={prefix}"])
    shutil.move(f"{tmp_path / 'stage'}{prefix}", prefix)
    return prefix


def run_quietly(command, **options):
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_installed_header_serves_an_empty_project(root, installed, service, mock, tmp_path):
    for tool in ("pkg-config", "cmake"):
        need_tool(tool)
    project = tmp_path / "project"
    # The samples are a whole project of somebody else's.
    shutil.copytree(root / "bindings/cpp", project)
    outside = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CPLUS")},
        "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig"),
        "CMAKE_PREFIX_PATH": str(installed),
    }
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "dbss"],
        env=outside,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.split()
    run_quietly(
        ["c++", "-std=c++17", "stream.cpp", "-o", "stream", *flags], cwd=project, env=outside
    )
    run_quietly(["cmake", "-S", ".", "-B", "made"], cwd=project, env=outside)
    run_quietly(["cmake", "--build", "made", "--target", "download"], cwd=project, env=outside)
    runs = {**service, "LD_LIBRARY_PATH": str(installed / "lib")}
    done = subprocess.run(
        [project / "stream", mock.instance_id, mock.pdf["id"]],
        env=runs,
        capture_output=True,
        timeout=60,
    )
    assert len(done.stdout) == mock.pdf["sizes"]["en-us"], done.stderr
    download = [project / "made/download", mock.instance_id, mock.pdf["id"], "."]
    expect_success(run(download, runs, cwd=project), silent=False)
