"""The samples, and the programs that the READMEs and headers print: they are short, and work.

More of Go, whose module comes from a proxy, is in test_go.py.
"""

import os
import re
import shlex
import signal
import sys
import zipfile

import pytest

from command import Process
from support import (
    BUILD,
    ROOT,
    TIME_RANGE,
    need_tool,
    new_mock,
    output,
    run,
    service_of,
    sha256,
    wait_until,
)
from test_c import VALGRIND
from test_go import GO_SAMPLES, go_module, go_samples

# Imported fixtures; this file does not use the names directly.
__all__ = ["go_module", "go_samples"]

# The tests add reports.
mock = pytest.fixture(scope="module")(new_mock)
fresh = pytest.fixture(new_mock)

SAMPLES = {
    "c": ("download", "generate", "mirror"),
    "cpp": ("download", "generate", "mirror", "stream"),
    "go": GO_SAMPLES,
}
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
WRONG_TOKEN = {"DBSS_TOKEN": "not-the-token"}


@pytest.fixture
def sample(request, service, mock, tmp_path):
    """Runs a sample in an empty directory: its exit code, and what it printed."""
    mock.set("generation", percent_per_list=100)
    where = {"c": BUILD / "samples", "cpp": BUILD / "samples/cpp"}

    def start(language, name, *arguments, wrap=(), bare=False, **variables):
        target = "report.pdf" if language == "go" else "."
        report = [mock.instance_id, mock.pdf["id"]]
        usual = {
            "download": [*report, target],
            "generate": [mock.instance_id, mock.templates[0]["id"], *TIME_RANGE, "new.pdf"],
            "mirror": ["archive"],
            "stream": report,
        }[name]
        programs = request.getfixturevalue("go_samples") if language == "go" else {}
        program = programs.get(name) or where[language] / name
        words = map(str, [*wrap, program, *(arguments or ([] if bare else usual))])
        env = {**service, **variables}
        return Process(list(words), env=env, cwd=tmp_path, stdout=-1, stderr=-1)

    def run_sample(*words, **options):
        with start(*words, **options) as process:
            out, err = (part.decode("latin-1") for part in process.communicate(timeout=120))
        for secret in (mock.token, mock.secret_key, *WRONG_TOKEN.values()):
            assert secret not in out + err
        # valgrind prints the thread-local memory of the standard library.
        lines = [line for line in err.splitlines(keepends=True) if not line.startswith("==")]
        return process.returncode, out, "".join(lines)

    run_sample.start, run_sample.directory = start, tmp_path
    return run_sample


EACH = [(language, name) for language, names in SAMPLES.items() for name in names]
each_sample = pytest.mark.parametrize(("language", "name"), EACH)


def test_samples_are_short():
    found = [
        *(("c", path) for path in (ROOT / "bindings/c").glob("*.c")),
        *(("cpp", path) for path in (ROOT / "bindings/cpp").glob("*.cpp")),
        *(("go", path) for path in (ROOT / "bindings/go/samples").glob("*/main.go")),
    ]
    names = [(kind, path.parent.name if kind == "go" else path.stem) for kind, path in found]
    assert sorted(names) == sorted(EACH)
    assert all(len(path.read_text().splitlines()) < 100 for _, path in found)


@pytest.mark.parametrize(
    ("language", "name", "wrap"),
    [*((*one, []) for one in EACH), *(("c", name, VALGRIND) for name in SAMPLES["c"])],
    ids=lambda value: ("valgrind" if value else "plain") if isinstance(value, list) else value,
)
def test_sample_works(mock, sample, language, name, wrap):
    if wrap:
        need_tool(wrap[0])
    code, out, err = sample(language, name, wrap=wrap)
    assert code == 0, err
    pdf = mock.pdf
    if name == "download":
        assert re.fullmatch(r"saved (\./)?(audit-)?report\.pdf.*\n", out)
        [path] = sample.directory.iterdir()
        assert sha256(path) == pdf["sha256"]["en-us"]
        size = pdf["sizes"]["en-us"]
        assert language != "c" or f"{size} of {size} bytes " in err
        # The file is kept.
        code, out, err = sample(language, name)
        assert (code, out) == (1, "")
        assert "exist" in err.lower()
    elif name == "generate":
        assert out == f"saved {mock.made()[-1]} as new.pdf\n"
        assert (sample.directory / "new.pdf").read_bytes().startswith(b"%PDF-")
        if language == "c":
            steps = re.findall(r"^generated (\d+)%$", err, re.MULTILINE)
            assert len(err.splitlines()) == len(steps)
            assert steps == sorted(steps, key=int)
    elif name == "mirror":
        assert err == ""
        [new] = re.findall(r"^(\d+) new, 0 already there, ", out)
        assert int(new) >= 2
        output("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=sample.directory / "archive")
        code, out, err = sample(language, name)
        assert (code, err) == (0, "")
        assert out.startswith(f"0 new, {new} already there, ")
    elif language == "go":
        assert out.split()[0] == pdf["sha256"]["zh-cn"]
    else:
        assert out.startswith("%PDF-")
        assert len(out) == pdf["sizes"]["en-us"]


@each_sample
def test_sample_prints_its_errors(sample, language, name):
    code, out, err = sample(language, name, **WRONG_TOKEN)
    assert (code, out) == (1, "") or (code, name) == (1, "mirror")
    assert not list(sample.directory.rglob("*.pdf"))
    assert re.search("token|refused", err)
    if name == "mirror" and language != "cpp":
        code, _, err = sample(language, name, "archive", "soon")
        assert code == 1
        assert "since" in err.lower()
    code, out, err = sample(language, name, bare=True)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ")


def test_download_sample_prints_the_details_of_an_error(mock, sample):
    detail = {"error_code": "DBSS.10020021", "error_msg": "a detail"}
    body = {"error_code": "DBSS.10000001", "error_msg": "malformed", "details": [detail]}
    mock.fault(mock.pdf["id"], status=400, json=body)
    code, out, err = sample("c", "download")
    assert (code, out) == (1, "")
    assert "DBSS_ERR_BAD_REQUEST: " in err
    assert err.endswith("  DBSS.10020021: a detail\n")
    assert not os.listdir(sample.directory)


def test_download_sample_is_cancelled_by_ctrl_c(mock, sample):
    mock.fault(mock.pdf["id"], stall_after=10)
    with sample.start("c", "download") as process:
        wait_until(mock.requests)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b"")
    assert b"DBSS_ERR_CANCELLED: " in err
    assert not os.listdir(sample.directory)


@pytest.mark.parametrize("language", SAMPLES)
def test_generate_sample_prints_the_error(mock, sample, language):
    def fails(*arguments, **variables):
        code, out, err = sample(language, "generate", *arguments, **variables)
        assert (code, out) == (1, "")
        assert not (sample.directory / "new.pdf").exists()
        return err

    right = [mock.instance_id, mock.templates[0]["id"], *TIME_RANGE]
    unknown = [right[0], "0" * 32, *TIME_RANGE, "new.pdf"]
    assert re.search("no template|no such", fails(*unknown))
    assert "https" in fails(DBSS_ENDPOINT="http://192.0.2.1").lower()
    if language == "c":
        # The report is generated, and the error names its id.
        (sample.directory / "taken").touch()
        message = fails(*right, "taken").splitlines()[-1]
        assert message.startswith(f"{mock.made()[-1]}: taken exists already")


def test_mirror_sample_prints_failures(mock, sample):
    mock.fault(mock.pdf["id"], status=403, json={"error_msg": "not yours"})
    code, out, err = sample("c", "mirror")
    assert code == 1
    assert " new, 0 already there, " in out
    [failure] = [line for line in err.splitlines() if mock.pdf["id"] in line]
    assert failure.startswith(f"instance {mock.instance_id}, report ")
    assert "not yours" in failure
    assert re.search(r"^mirror: .*failed", err, re.MULTILINE)


def test_samples_compile_as_the_readme_prints(environment, tmp_path):
    """With a pkg-config that names the library here as if it were installed."""
    readme = (ROOT / "bindings/c/README.md").read_text()
    commands = re.findall(r"^cc -o .*$", readme, re.MULTILINE)
    assert len(commands) == len(SAMPLES["c"])
    tool = tmp_path / "pkg-config"
    flags = f"-I{ROOT / 'include'} -L{BUILD / 'lib'} -ldbss"
    tool.write_text(f"#!/bin/sh\necho {shlex.quote(flags)}\n")
    tool.chmod(0o755)
    path = {**environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name in SAMPLES["c"]:
        [command] = [one for one in commands if one.split()[2] == name]
        (tmp_path / f"{name}.c").symlink_to(ROOT / f"bindings/c/{name}.c")
        run("sh", "-c", command, cwd=tmp_path, env=path)
        done = run(tmp_path / name, code=2, env=environment)
        assert done.stdout == ""
        assert done.stderr.startswith(f"usage: {name} ")


@pytest.mark.parametrize("name", SAMPLES["c"])
@pytest.mark.parametrize("standard", ["c99", "c11"])
def test_samples_compile_without_extensions(name, standard):
    strict = (f"-std={standard}", "-pedantic-errors", *WARNINGS, "-I", ROOT / "include")
    output("cc", *strict, "-fsyntax-only", ROOT / f"bindings/c/{name}.c")


# The programs in READMEs and headers.


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / path).read_text(), re.M | re.S)


@pytest.fixture
def compile_program(environment, tmp_path):
    def compile(language, text):
        source = tmp_path / f"program.{language}"
        source.write_text(text)
        link = [f"-L{BUILD / 'lib'}", "-ldbss", "-pthread", "-o", source.with_suffix("")]
        compiler, more = {"c": ("CC", ["-std=c99"]), "cpp": ("CXX", ["-std=c++20"])}[language]
        more += ["-Wconversion", "-Wshadow"] if language == "cpp" else []
        command = environment.get(compiler, {"c": "cc", "cpp": "c++"}[language])
        include = f"-I{ROOT / 'include'}"
        output(command, *more, *WARNINGS, include, source, *link)
        return source.with_suffix("")

    return compile


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_readme_program_runs(mock, service, tmp_path, compile_program, language):
    [text] = blocks("README.md", language)
    program = compile_program(language, text)
    (tmp_path / "report").write_bytes(output(program, env=service, text=False))
    assert sha256(tmp_path / "report") == mock.pdf["sha256"]["en-us"]
    done = run(program, code=1, env={**service, **WRONG_TOKEN})
    assert done.stdout == ""
    assert done.stderr.startswith("DBSS_ERR_UNAUTHENTICATED: ")


def test_readme_python_programs_run(mock, service):
    plain, with_asyncio = (
        output(sys.executable, "-c", text, env=service) for text in blocks("README.md", "python")
    )
    assert plain == f"{mock.pdf['sizes']['zh-cn']} bytes\n"
    *listed, last = with_asyncio.splitlines()
    assert mock.pdf["id"] in [line.split()[0] for line in listed]
    assert last == f"{mock.pdf['sizes']['en-us']} bytes"


def test_readme_go_program_runs(mock, service, tmp_path, go_module):
    [text] = blocks("README.md", "go")
    output(go_module.build("root", text), env=service, cwd=tmp_path)
    assert sha256(tmp_path / "report.pdf") == mock.pdf["sha256"]["en-us"]


def test_cpp_readme_programs_run(fresh, environment, tmp_path, compile_program):
    fresh.add_reports(5)
    service = service_of(fresh, environment)
    outputs = []
    for number, block in enumerate(blocks("bindings/cpp/README.md", "cpp")):
        place = tmp_path / str(number)
        place.mkdir()
        program = compile_program("cpp", block)
        outputs.append(run(program, env=service, cwd=place).stdout)
        if number == 0:
            run(program, code=2, env={**service, **WRONG_TOKEN}, cwd=place)
            assert len(list(place.glob("*.report"))) == 7
    assert len(outputs[0].splitlines()) == 7
    assert outputs[1] == f"{fresh.pdf['sizes']['en-us']} bytes\n"
    assert len(outputs[2].splitlines()) == 2


def test_header_example_programs_run(environment, compile_program):
    opening = (ROOT / "include/dbss.h").read_text().split("*/")[0]
    lines = re.findall(r"^ \*     (.*)$|^ \*$", opening, re.MULTILINE)
    program = "\n".join(lines[: lines.index("}") + 1]).strip() + "\n"
    assert program.startswith("#include <dbss.h>")
    assert 15 <= len(program.splitlines()) <= 30
    # It uses a real region, so here the call must fail before any traffic.
    token = {**environment, "DBSS_TOKEN": "a-token"}
    done = run(compile_program("c", program), "not-an-id", "b", "c", code=1, env=token)
    assert done.stdout == ""
    assert done.stderr.startswith("no report: project: must have 32 to 64 characters, but has 9")

    opening = (ROOT / "include/dbss.hpp").read_text().split("// These rules")[0]
    program = "\n".join(re.findall(r"^//     (.*)$", opening, re.MULTILINE))
    assert program.startswith("#include <dbss.hpp>")
    binary = compile_program("cpp", program)
    assert run(binary, "cn-north-4", "a", "b", code=1, env=environment).stdout == ""
    run(binary, code=2, env=environment)


def test_links_between_files_lead_somewhere(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "packaging")
    from contents import dead_links

    files = set(output("git", "ls-files", cwd=ROOT).splitlines())
    pages = [name for name in files if name.endswith(".md")]
    dead = {name: list(dead_links(name, (ROOT / name).read_text(), files)) for name in pages}
    assert not any(dead.values()), dead


# make demo.


@pytest.mark.parametrize("service_of", ["none", "token", "found"])
def test_demo_saves_reports(environment, mock, tmp_path, service_of):
    service = {
        "DBSS_ENDPOINT": mock.https,
        "DBSS_CA_FILE": mock.ca_file,
        "DBSS_INSTANCE_ID": mock.instance_id,
        "DBSS_REPORT_ID": mock.zip["id"],
        "DBSS_LOCALE": "en-us",
    }
    credentials = {
        "none": {},
        "token": {**service, "DBSS_TOKEN": mock.token, "DBSS_PROJECT_ID": mock.project_id},
        "found": {
            **service,
            "HUAWEICLOUD_SDK_AK": mock.access_key,
            "HUAWEICLOUD_SDK_SK": mock.secret_key,
            "HUAWEICLOUD_SDK_PROJECT_ID": mock.project_id,
        },
    }[service_of]
    given = {**environment, "PYTHON": sys.executable, **credentials}
    # What other tests use at the same time is not built again.
    words = (f"BUILD={tmp_path / 'build'}", f"DEMO_DIR={tmp_path / 'demo'}")
    out = run("make", "-C", ROOT, "demo", *words, env=given).stdout
    files = sorted((tmp_path / "demo").iterdir())
    for file in files:
        assert str(file) in out
        assert sha256(file) in out
    if credentials:
        assert [sha256(file) for file in files] == [mock.zip["sha256"]["en-us"]]
        return
    assert [f.name for f in files] == ["audit-report-en-us.pdf", "audit-report-zh-cn.zip"]
    with zipfile.ZipFile(files[1]) as archive:
        assert archive.testzip() is None
        assert any(not name.isascii() for name in archive.namelist())
    assert "Pages:" in output(need_tool("pdfinfo"), files[0])
