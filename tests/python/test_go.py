"""The Go package: its README and samples, and the built module in an empty project.

`make test-go` runs the tests that are written in Go.
"""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from command import sha256

VERSION = "0.1.0"
# As outside of the tests, whose home directory is empty.
GOCACHE = os.environ.get("GOCACHE") or str(Path.home() / ".cache/go-build")
PLATFORM = {"x86_64": "linux_amd64_glibc", "aarch64": "linux_arm64_glibc"}[platform.machine()]
SAMPLES = ("download", "generate", "mirror", "stream")
PROJECT = """module example.org/project

go 1.23

require example.com/dbss v{version}
"""

PROGRAM = """package main

import (
{imports}
)

{functions}
func main() {{
	ctx := context.Background()
	client, err := dbss.NewClient(dbss.WithEndpoint(os.Getenv("DBSS_ENDPOINT")),
		dbss.WithToken(os.Getenv("DBSS_TOKEN")), dbss.WithProjectID(os.Getenv("DBSS_PROJECT_ID")))
	if err != nil {{
		panic(err)
	}}
	instanceID, reportID, templateID := os.Args[1], os.Args[2], os.Args[3]
	for _, run := range []block{{ {blocks} }} {{
		if err := run(ctx, client, instanceID, reportID, templateID); err != nil {{
			panic(err)
		}}
	}}
}}

type block func(context.Context, *dbss.Client, string, string, string) error

// What the README takes for granted.
var vault secrets

type secrets struct{{}}

func (secrets) Read(context.Context, string, bool) (string, time.Time, error) {{
	return "", time.Time{{}}, nil
}}
"""
PACKAGES = {
    **{name: name for name in ("context", "errors", "fmt", "io", "os", "time")},
    "dbss": "example.com/dbss",
}


class Project:
    """An empty project, which has got the module from a proxy in a directory."""

    def __init__(self, go, directory, proxy, environment):
        self.go = go
        self.directory = directory
        self.environment = {
            **environment,
            "GOPROXY": f"file://{proxy}",
            "GONOSUMDB": "example.com",
            "GOMODCACHE": str(directory / "modules"),
            "GOFLAGS": "-modcacherw",
            "GOCACHE": GOCACHE,
            "GOTOOLCHAIN": "local",
        }
        (directory / "go.mod").write_text(PROJECT.format(version=VERSION))
        (directory / "main.go").write_text('package main\n\nimport _ "example.com/dbss"\n')
        self.run("get", f"example.com/dbss@v{VERSION}")

    def run(self, *arguments):
        done = subprocess.run(
            [self.go, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done

    def build(self, package, name):
        self.run("vet", package)
        self.run("build", "-o", name, package)
        return self.directory / name


@pytest.fixture(scope="module")
def project(root, build_dir, environment, tmp_path_factory, need_tool):
    go = need_tool("go")
    proxy = tmp_path_factory.mktemp("proxy")
    library = f"{PLATFORM}={build_dir / 'lib/libdbss.a'}"
    command = [sys.executable, root / "packaging/go_module.py", proxy, VERSION, library]
    subprocess.run(command, check=True)
    return Project(go, tmp_path_factory.mktemp("project"), proxy, environment)


@pytest.fixture
def service(mock, environment):
    return {
        **environment,
        "DBSS_ENDPOINT": mock.http,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
    }


def test_go_calls_every_function_of_the_abi(root):
    description = json.loads((root / "include/dbss-abi.json").read_text())
    folder = root / "bindings/go/internal/abi"
    text = "".join(path.read_text() for path in folder.iterdir())
    called = set(re.findall(r"\b(dbss_\w+)\(", text))
    # The error of a thread is taken with the call.
    assert {one["name"] for one in description["functions"]} - called == {"dbss_last_error"}


def test_go_module_has_the_version_of_the_product(root, project):
    cargo = (root / "Cargo.toml").read_text()
    assert f'\nversion = "{VERSION}"\n' in cargo
    listed = json.loads(project.run("list", "-m", "-json", "example.com/dbss").stdout)
    assert listed["Version"] == f"v{VERSION}"
    files = {path.name for path in Path(listed["Dir"]).rglob("*")}
    assert {"LICENSE", "THIRD-PARTY-LICENSES", "README.md", "dbss.h"} <= files
    assert not {name for name in files if name.endswith("_test.go")}


def test_go_readme_blocks_run(root, project, mock, service, tmp_path):
    text = (root / "bindings/go/README.md").read_text()
    blocks = re.findall(r"^```go\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 7
    functions = []
    for index, block in enumerate(blocks):
        # A fragment need not use what it makes.
        made = re.findall(r"^(?:var (\w+)|(\w+)(?:, (\w+))? :=)", block, re.MULTILINE)
        used = {name for names in made for name in names if name and name != "_"}
        functions.append(
            f"func block{index}(ctx context.Context, client *dbss.Client, "
            f"instanceID, reportID, templateID string) error {{\n{block}\n"
            + "".join(f"_ = {name}\n" for name in sorted(used))
            # The error is the last that the block had; those of other blocks are shown.
            + ("return err\n}\n" if "err" in used and "switch" not in block else "return nil\n}\n")
        )
    # These two need a region, so they only compile.
    runs = [f"block{i}" for i, block in enumerate(blocks) if "WithRegion" not in block]
    body = "\n".join(functions)
    imports = [f'"{PACKAGES[name]}"' for name in PACKAGES if re.search(rf"\b{name}\.", body)]
    program = PROGRAM.format(
        imports="\n".join(dict.fromkeys([*imports, '"os"', '"time"'])),
        functions=body,
        blocks=", ".join(runs),
    )
    (project.directory / "readme").mkdir()
    (project.directory / "readme/main.go").write_text(program)
    binary = project.build("./readme", "readme-program")
    mock.set_generation(percent_per_list=100)
    (tmp_path / "reports").mkdir()
    arguments = [binary, mock.instance_id, mock.pdf["id"], mock.templates[0]["id"]]
    done = subprocess.run(
        arguments, env=service, cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    mock.set_generation()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"%PDF-")
    assert f"\n{mock.pdf['id']} {mock.pdf['name']}\n".encode() in done.stdout
    [saved] = (tmp_path / "reports").iterdir()
    assert saved.read_bytes().startswith(b"%PDF-")


def test_readme_go_program_runs(root, project, mock, service, tmp_path):
    text = (root / "README.md").read_text()
    [program] = re.findall(r"^```go\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (project.directory / "root").mkdir()
    (project.directory / "root/main.go").write_text(program)
    binary = project.build("./root", "root-program")
    report = {"DBSS_INSTANCE_ID": mock.instance_id, "DBSS_REPORT_ID": mock.pdf["id"]}
    subprocess.run([binary], env={**service, **report}, cwd=tmp_path, check=True, timeout=60)
    assert sha256(tmp_path / "report.pdf") == mock.pdf["sha256"]["en-us"]


def test_go_readme_fragments_are_formatted(root, project):
    text = (root / "bindings/go/README.md").read_text()
    for block in re.findall(r"^```go\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        gofmt = Path(project.go).with_name("gofmt")
        done = subprocess.run([gofmt], input=block, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == (block, "")


@pytest.fixture(scope="module")
def samples(project):
    return {
        name: project.build(f"example.com/dbss/samples/{name}", f"sample-{name}")
        for name in SAMPLES
    }


def test_go_samples_are_short(root):
    found = sorted((root / "bindings/go/samples").glob("*/main.go"))
    assert [path.parent.name for path in found] == list(SAMPLES)
    for path in found:
        assert len(path.read_text().splitlines()) < 100


def test_go_samples_run(samples, mock, service, tmp_path):
    def run(name, *arguments, code=0):
        done = subprocess.run(
            [samples[name], *arguments],
            env=service,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        assert mock.token not in done.stdout + done.stderr
        return done.stderr if code else done.stdout

    pdf, instance = mock.pdf, mock.instance_id
    assert run("download", instance, pdf["id"], "report.pdf") == "saved report.pdf\n"
    assert sha256(tmp_path / "report.pdf") == pdf["sha256"]["en-us"]
    assert "exists" in run("download", instance, pdf["id"], "report.pdf", code=1)
    printed = run("stream", instance, pdf["id"])
    assert printed.split()[0] == pdf["sha256"]["zh-cn"]
    mock.set_generation(percent_per_list=100)
    times = ("2026-11-23 00:00:00", "2026-11-24 00:00:00")
    printed = run("generate", instance, mock.templates[0]["id"], *times, "new.pdf")
    assert printed == f"saved {mock.made()[-1]} as new.pdf\n"
    assert "no such" in run("generate", instance, "0" * 32, *times, "other.pdf", code=1)
    mock.set_generation()
    assert re.match(r"\d+ new, 0 already there, ", run("mirror", "archive"))
    assert run("mirror", "archive").startswith("0 new, ")
    assert "since" in run("mirror", "archive", "soon", code=1)
    for name in SAMPLES:
        assert run(name, code=2).startswith("usage: ")
