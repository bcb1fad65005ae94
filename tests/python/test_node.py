"""The Node package: its README and samples, and the built packages in an empty project.

`make test-node` runs the tests that are written in JavaScript.
"""

import json
import os
import platform
import re
import shutil
import sys
import tarfile
import threading
from base64 import b64encode
from hashlib import sha512
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import support
from support import BUILD, ROOT, expect_samples_work, need_tool, sha256

VERSION = "0.1.0"
PLATFORM = {"x86_64": "linux-x64-glibc", "aarch64": "linux-arm64-glibc"}[platform.machine()]
SAMPLES = ("download", "generate", "mirror", "stream")
TYPESCRIPT = {
    "compilerOptions": {
        "target": "es2022",
        "module": "node16",
        "strict": True,
        "exactOptionalPropertyTypes": True,
        "types": ["node"],
    },
    "include": ["*.mts", "*.cts"],
}
PROGRAM = """import {{ createWriteStream }} from 'node:fs';
import {{ pipeline }} from 'node:stream/promises';
import {{ Client, DbssError, NetworkError, type SavedReport }} from 'dbss';

const {{ DBSS_ENDPOINT: endpoint, DBSS_TOKEN: token, DBSS_PROJECT_ID: projectId }} = process.env;
const [, , instanceId = '', reportId = '', templateId = ''] = process.argv;
// What the README takes for granted.
declare const vault: {{
  read(name: string, how: object): Promise<{{ value: string; expires: Date }}>;
}};

{functions}
const client = new Client({{ endpoint, token, projectId }});
for (const block of [{blocks}]) await block(client);
const file: string | undefined = process.env['NO_FILE'];
const either: SavedReport | Buffer = await client.download({{ instanceId, reportId, file }});
if (!Buffer.isBuffer(either)) throw new Error(`${{either.path}}`);
client.close();
"""
COMMONJS = """import dbss = require('dbss');
const { DBSS_ENDPOINT: endpoint = '', DBSS_TOKEN: token = '' } = process.env;
const { DBSS_PROJECT_ID: projectId = '' } = process.env;
const [, , instanceId = '', reportId = ''] = process.argv;
const client = new dbss.Client({ endpoint, token, projectId });
const call: Promise<Buffer> = client.download({ instanceId, reportId });
call.then(async (bytes) => {
  const module = await import('dbss');
  console.log(bytes.length, module.Client === dbss.Client);
  client.close();
});
"""


# What compiles, and what does not.
TYPES = """import { Client, DbssError, type CallResult, type Report, type SavedReport } from 'dbss';

declare const client: Client;
declare const ids: { instanceId: string; reportId: string };
declare const file: string | undefined;
declare const fd: number | undefined;
const saved: Promise<SavedReport> = client.download({ ...ids, file: 'x', replace: true });
const either = { ...ids, directory: file, replace: true };
const perhaps: Promise<SavedReport | Buffer> = client.download(either);
const written: Promise<CallResult | Buffer> = client.download({ ...ids, fd });
const undefinedFile: Promise<Buffer> = client.download({ ...ids, file: undefined });
// @ts-expect-error Two targets.
void client.download({ ...ids, file: 'x', directory: 'y' });
// @ts-expect-error Two targets.
void client.download({ ...ids, file: 'x', fd: 1 });
// @ts-expect-error Nothing to replace.
void client.download({ ...ids, replace: true });
// @ts-expect-error It is replaced only where it is saved.
void client.download({ ...ids, fd: 1, replace: true });
// @ts-expect-error The credentials are not of a project.
void client.findCredentials({ projectId: 'x' });
// A field without a value is undefined.
const report: Report = (await client.reports(ids).toArray())[0]!;
const copy: { name: string | undefined } = report;
const parameter: string | undefined = new Error() instanceof DbssError ? '' : undefined;
void [saved, perhaps, written, undefinedFile, copy, parameter];
"""


class Registry(BaseHTTPRequestHandler):
    """A registry of npm with the packages in a directory."""

    packages: Path

    def do_GET(self):
        name = self.path.strip("/").replace("%2f", "/").replace("%2F", "/")
        path = self.packages / name.rpartition("/")[2]
        if name.endswith(".tgz") and path.exists():
            self.answer(path.read_bytes())
            return
        path = self.packages / f"{name.removeprefix('@').replace('/', '-')}-{VERSION}.tgz"
        if not path.exists():
            self.send_error(404)
            return
        with tarfile.open(path) as package:
            manifest = json.load(package.extractfile("package/package.json"))  # type: ignore[arg-type]
        integrity = b64encode(sha512(path.read_bytes()).digest()).decode()
        address = f"http://{self.headers['Host']}/{path.name}"
        manifest["dist"] = {"tarball": address, "integrity": f"sha512-{integrity}"}
        versions = {"versions": {VERSION: manifest}, "dist-tags": {"latest": VERSION}}
        self.answer(json.dumps({"name": name, **versions}).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Project:
    """An empty project, which has installed the packages from a registry."""

    def __init__(self, directory, registry, source, environment):
        self.directory = directory
        self.source = source
        self.environment = {**environment, "PATH": os.environ["PATH"]}
        (directory / "package.json").write_text('{"name": "project", "private": true}\n')
        self.npm("install", "--registry", registry, "--no-audit", "--no-fund", "dbss")

    def npm(self, *arguments):
        cache = ("--cache", str(self.directory / "cache"))
        return self.run("npm", *arguments, *cache)

    def run(self, *command, code=0, cwd=None):
        place = cwd or self.directory
        done = support.run(*command, cwd=place, env=self.environment, code=code)
        return done.stderr if code else done.stdout

    def compile(self, **programs):
        """Compiles programs in TypeScript; the names are those of files with _ for a dot."""
        for name, text in programs.items():
            (self.directory / name.replace("_", ".")).write_text(text)
        (self.directory / "tsconfig.json").write_text(json.dumps(TYPESCRIPT))
        types = self.directory / "node_modules/@types"
        if not types.exists():
            types.mkdir()
            for name in ("@types/node", "undici-types"):
                link = self.directory / "node_modules" / name
                link.symlink_to(self.source / "node_modules" / name)
        self.run(self.source / "node_modules/.bin/tsc", "-p", ".")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    need_tool("npm")
    if not (ROOT / "bindings/node/dist").exists():
        pytest.fail("bindings/node is not built; try: make node")
    out = tmp_path_factory.mktemp("packages")
    command = [sys.executable, ROOT / "packaging/npm.py", out, VERSION, f"{PLATFORM}={BUILD}"]
    support.run(*command)
    return out


@pytest.fixture(scope="module")
def project(packages, environment, tmp_path_factory):
    handler = type("Handler", (Registry,), {"packages": packages})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        place = tmp_path_factory.mktemp("project")
        yield Project(place, address, ROOT / "bindings/node", environment)
        server.shutdown()


@pytest.fixture
def service(project, mock):
    before = dict(project.environment)
    project.environment |= {
        "DBSS_ENDPOINT": mock.http,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
    }
    yield
    project.environment.clear()
    project.environment |= before


def test_node_calls_every_function_of_the_abi():
    description = json.loads((ROOT / "include/dbss-abi.json").read_text())
    text = "".join(
        (ROOT / f"bindings/node/addon/{name}.c").read_text() for name in ("addon", "abi")
    )
    called = set(re.findall(r"\b(dbss_\w+)\(", text))
    unused = {
        # The error of a thread is taken with the call.
        *("dbss_last_error", "dbss_operation_error"),
        # Streams and pages have other ways to read the same.
        *("dbss_report_download_to_callback", "dbss_page_field"),
        # The threads of the package get no signals.
        "dbss_operation_set_interrupt",
    }
    assert {one["name"] for one in description["functions"]} - called == unused


def test_node_package_is_one_for_all_platforms(project):
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "Cargo.toml").read_text()
    modules = project.directory / "node_modules"
    manifest = json.loads((modules / "dbss/package.json").read_text())
    assert manifest["version"] == VERSION
    assert set(manifest["optionalDependencies"].values()) == {VERSION}
    assert len(manifest["optionalDependencies"]) == 4
    files = {path.name for path in (modules / "dbss").iterdir()}
    documents = {"LICENSE", "THIRD-PARTY-LICENSES", "README.md", "package.json"}
    assert files == {*documents, "dist", "index.mjs", "index.d.mts", "samples"}
    assert [path.name for path in (modules / "@dbss").iterdir()] == [PLATFORM]
    native = json.loads((modules / "@dbss" / PLATFORM / "package.json").read_text())
    assert (native["os"], native["libc"], native["version"]) == (["linux"], ["glibc"], VERSION)
    files = {path.name for path in (modules / "@dbss" / PLATFORM).iterdir()}
    assert files == {*documents, "dbss.node", "libdbss.so.0"}


def test_node_package_without_its_library_says_so(project):
    modules = project.directory / "node_modules"
    (modules / "@dbss").rename(modules / "@away")
    try:
        printed = project.run("node", "-e", "require('dbss')", code=1)
    finally:
        (modules / "@away").rename(modules / "@dbss")
    assert "no prebuilt package for this platform is installed" in printed


def test_node_lock_file_has_no_addresses():
    files = list(ROOT.glob("bindings/node/package-lock.json"))
    files += ROOT.glob("tests/bench/node/package-lock.json")
    assert len(files) == 2
    for path in files:
        assert re.findall(r'"resolved": "(?!https://registry\.npmjs\.org/)', path.read_text()) == []


def blocks_of(path):
    return re.findall(r"^```ts\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("service")
def test_node_readme_blocks_run(project, mock, tmp_path):
    blocks = blocks_of(ROOT / "bindings/node/README.md")
    assert len(blocks) >= 7
    functions = []
    for index, block in enumerate(blocks):
        made = "" if "new Client" in block else "client: Client"
        functions.append(f"async function block{index}({made}): Promise<void> {{\n{block}}}\n")
    # These need a region, so they only compile.
    runs = [f"block{i}" for i, block in enumerate(blocks) if "new Client" not in block]
    used = "\n".join(f"void block{i};" for i in range(len(blocks)))
    program = PROGRAM.format(functions="\n".join(functions) + used, blocks=", ".join(runs))
    project.compile(readme_mts=program)
    mock.set("generation", percent_per_list=100)
    (tmp_path / "reports").mkdir()
    (tmp_path / "node_modules").symlink_to(project.directory / "node_modules")
    arguments = (mock.instance_id, mock.pdf["id"], mock.templates[0]["id"])
    printed = project.run("node", project.directory / "readme.mjs", *arguments, cwd=tmp_path)
    mock.set("generation")
    assert f"\n{mock.pdf['id']} {mock.pdf['name']}\n" in f"\n{printed}"
    assert printed.endswith("no such report\n")
    [saved] = (tmp_path / "reports").iterdir()
    assert saved.read_bytes().startswith(b"%PDF-")


def test_node_types_refuse_what_the_package_refuses(project):
    project.compile(types_mts=TYPES)


@pytest.mark.usefixtures("service")
def test_node_package_works_from_commonjs(project, mock):
    project.compile(common_cts=COMMONJS)
    arguments = (mock.instance_id, mock.pdf["id"])
    printed = project.run("node", "common.cjs", *arguments)
    assert printed == f"{mock.pdf['sizes']['en-us']} true\n"


@pytest.mark.usefixtures("service")
def test_readme_node_program_runs(project, mock):
    text = (ROOT / "README.md").read_text()
    [program] = re.findall(r"^```js\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (project.directory / "root.mjs").write_text(program)
    project.environment |= {"DBSS_INSTANCE_ID": mock.instance_id, "DBSS_REPORT_ID": mock.pdf["id"]}
    project.run("node", "root.mjs")
    assert sha256(project.directory / "report.pdf") == mock.pdf["sha256"]["en-us"]


def test_node_samples_are_short():
    found = sorted((ROOT / "bindings/node/samples").glob("*.mjs"))
    assert [path.stem for path in found] == list(SAMPLES)
    for path in found:
        assert len(path.read_text().splitlines()) < 100


@pytest.mark.usefixtures("service")
def test_node_samples_run(project, mock, tmp_path):
    def run(name, *arguments, code=0):
        sample = project.directory / f"node_modules/dbss/samples/{name}.mjs"
        printed = project.run("node", sample, *arguments, code=code, cwd=tmp_path)
        assert mock.token not in printed
        return printed

    expect_samples_work(run, mock, tmp_path, "has no template")


@pytest.mark.parametrize("name", ["client", "copies", "lists", "streams", "torture"])
def test_node_addon_with_address_sanitizer_passes(name, tmp_path):
    if not (BUILD / "asan").exists():
        pytest.skip("AddressSanitizer: make asan runs it")
    gcc, source = need_tool("gcc"), ROOT / "bindings/node"
    for part in ("dist", "test"):
        shutil.copytree(source / part, tmp_path / part)
    shutil.copy(source / "index.mjs", tmp_path)
    (tmp_path / "build").mkdir()
    command = [gcc, "-std=c11", "-g", "-O1", "-fPIC", "-shared", "-fsanitize=address,undefined"]
    command += ["-fno-sanitize-recover=undefined", f"-I{ROOT / 'include'}"]
    command += [f"-I{source / 'node_modules/node-api-headers/include'}", "-Wl,-z,nodelete"]
    command += [str(source / "addon" / part) for part in ("addon.c", "abi.c")]
    command += [f"-L{BUILD / 'lib'}", "-ldbss", f"-Wl,-rpath,{BUILD / 'lib'}"]
    support.run(*command, "-o", tmp_path / "build/dbss.node")
    libraries = [
        support.output(gcc, f"-print-file-name={library}").strip()
        for library in ("libasan.so", "libubsan.so")
    ]
    # Node itself keeps memory until its end. The sanitizer keeps freed memory for a while: little,
    # so that it soon does not grow any more.
    options = "detect_leaks=0:quarantine_size_mb=8:thread_local_quarantine_size_kb=64"
    preload = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": options}
    support.run(
        *("node", "--test", tmp_path / f"test/{name}.test.mjs"),
        env={**os.environ, **preload, "DBSS_BUILD_DIR": str(BUILD)},
        timeout=300,
    )
