"""The Go package: its README, and the built module in an empty project.

`make test-go` runs the tests that are written in Go.
"""

import json
import os
import platform
import re
import sys
from pathlib import Path

import pytest

from support import BUILD, ROOT, need_tool, output, run

VERSION = "0.1.0"
# As outside of the tests, whose home directory is empty.
GOCACHE = os.environ.get("GOCACHE") or str(Path.home() / ".cache/go-build")
PLATFORM = {"x86_64": "linux_amd64_glibc", "aarch64": "linux_arm64_glibc"}[platform.machine()]
GO_SAMPLES = ("download", "generate", "mirror", "stream")
PROJECT = f"module example.org/project\n\ngo 1.23\n\nrequire example.com/dbss v{VERSION}\n"
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

    def __init__(self, directory, proxy, environment):
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
        (directory / "go.mod").write_text(PROJECT)
        (directory / "main.go").write_text('package main\n\nimport _ "example.com/dbss"\n')
        self.run("get", f"example.com/dbss@v{VERSION}")

    def run(self, *arguments):
        return run(need_tool("go"), *arguments, cwd=self.directory, env=self.environment).stdout

    def build(self, name, text=None):
        """The program of a package in the project, or of a sample."""
        package = f"example.com/dbss/samples/{name}"
        if text is not None:
            package = f"./{name}"
            (self.directory / name).mkdir()
            (self.directory / name / "main.go").write_text(text)
        self.run("build", "-o", f"program-{name}", package)
        return self.directory / f"program-{name}"


@pytest.fixture(scope="module")
def go_module(environment, tmp_path_factory):
    need_tool("go")
    proxy = tmp_path_factory.mktemp("proxy")
    library = f"{PLATFORM}={BUILD / 'lib/libdbss.a'}"
    run(sys.executable, ROOT / "packaging/go_module.py", proxy, VERSION, library)
    return Project(tmp_path_factory.mktemp("project"), proxy, environment)


@pytest.fixture(scope="module")
def go_samples(go_module):
    return {name: go_module.build(name) for name in GO_SAMPLES}


def test_go_calls_every_function_of_the_abi():
    description = json.loads((ROOT / "include/dbss-abi.json").read_text())
    folder = ROOT / "bindings/go/internal/abi"
    text = "".join(path.read_text() for path in folder.iterdir())
    called = set(re.findall(r"\b(dbss_\w+)\(", text))
    # The error of a thread is taken with the call.
    assert {one["name"] for one in description["functions"]} - called == {"dbss_last_error"}


def test_go_module_has_the_version_of_the_product(go_module):
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "Cargo.toml").read_text()
    listed = json.loads(go_module.run("list", "-m", "-json", "example.com/dbss"))
    assert listed["Version"] == f"v{VERSION}"
    files = {path.name for path in Path(listed["Dir"]).rglob("*")}
    assert {"LICENSE", "THIRD-PARTY-LICENSES", "README.md", "dbss.h"} <= files
    assert not {name for name in files if name.endswith("_test.go")}


@pytest.fixture
def blocks():
    text = (ROOT / "bindings/go/README.md").read_text()
    return re.findall(r"^```go\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_go_readme_blocks_run(go_module, mock, service, tmp_path, blocks):
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
    imports = "\n".join(dict.fromkeys([*imports, '"os"', '"time"']))
    text = PROGRAM.format(imports=imports, functions=body, blocks=", ".join(runs))
    program = go_module.build("readme", text)
    mock.set("generation", percent_per_list=100)
    (tmp_path / "reports").mkdir()
    arguments = [mock.instance_id, mock.pdf["id"], mock.templates[0]["id"]]
    printed = output(program, *arguments, env=service, cwd=tmp_path, text=False)
    assert printed.startswith(b"%PDF-")
    assert f"\n{mock.pdf['id']} {mock.pdf['name']}\n".encode() in printed
    [saved] = (tmp_path / "reports").iterdir()
    assert saved.read_bytes().startswith(b"%PDF-")


def test_go_readme_fragments_are_formatted(blocks):
    for block in blocks:
        assert output(need_tool("gofmt"), input=block) == block
