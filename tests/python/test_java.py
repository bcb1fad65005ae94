"""The Java package: its README and samples, and the built jar in an empty Maven project.

`make test-java` runs the tests that are written in Java.
"""

import json
import os
import platform
import re
import shutil
import zipfile
from pathlib import Path

import java_package
import pytest

import support
from support import (
    BUILD,
    LIBRARY,
    ROOT,
    expect_samples_work,
    need_jdk,
    need_tool,
    service_of,
    sha256,
)

VERSION = "0.1.0"
# As outside of the tests, whose home directory is empty.
REPOSITORY = Path.home() / ".m2/repository"
SAMPLES = ("Download", "Generate", "Mirror", "Stream")
FENCE = re.compile(r"^```java\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROJECT = ROOT / "packaging/consumer/pom.xml"
README = """
import com.example.dbss.*;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

final class Readme {{
  interface Secret {{
    String value();

    Instant expiresAt();
  }}

  interface Vault {{
    Secret read(String name, boolean refused);
  }}

  // What the README takes for granted.
  static Vault vault;

  {functions}

  public static void main(String[] arguments) throws Exception {{
    try (DbssClient client =
        DbssClient.builder()
            .endpoint(System.getenv("DBSS_ENDPOINT"))
            .token(System.getenv("DBSS_TOKEN"))
            .projectId(System.getenv("DBSS_PROJECT_ID"))
            .build()) {{
      {calls}
    }}
  }}
}}
"""


def local_repository(place):
    """What Maven has downloaded before, without this package of an earlier run."""
    own = place / "com"
    own.mkdir(parents=True)
    for folder, links in ((REPOSITORY, place), (REPOSITORY / "com", own)):
        for one in folder.iterdir():
            if one.name not in ("com", "example"):
                (links / one.name).symlink_to(one)
    return place


class Project:
    """An empty project, which gets the package from a repository in a directory."""

    def __init__(self, directory, repository, sources, home):
        self.directory = directory
        code = directory / "src/main/java"
        code.mkdir(parents=True)
        for one in sources:
            (code / one.name).write_text(one.read_text())
        shutil.copy(PROJECT, directory)
        settings = {
            "maven.repo.local": local_repository(directory / "local"),
            "dbss.repository": repository.as_uri(),
            "dbss.version": VERSION,
            "outputDirectory": "libraries",
        }
        support.run(
            *("mvn", "-q", "-B", "compile", "dependency:copy-dependencies"),
            *(f"-D{name}={value}" for name, value in settings.items()),
            cwd=directory,
            env={**os.environ, "JAVA_HOME": str(home)},
        )
        jars = sorted((directory / "libraries").glob("*.jar"))
        assert len(jars) == 2, jars
        self.classpath = ":".join(map(str, [directory / "target/classes", *jars]))


@pytest.fixture(scope="module")
def repository():
    """The repository that `make java` has made."""
    need_tool("mvn")
    need_tool("javac")
    made = BUILD / "java/repository"
    if not made.is_dir():
        pytest.fail("the Java package is not built; try: make java")
    return made


def blocks_of():
    return FENCE.findall((ROOT / "bindings/java/README.md").read_text())


def readme_program(blocks):
    functions, calls = [], []
    for index, block in enumerate(blocks):
        # These need a region, so they only compile; the client is their own.
        own = "region(" in block
        parameters = ["String instance", "String report", "String template"]
        parameters[:0] = [] if own else ["DbssClient client"]
        functions.append(
            f"static void block{index}({', '.join(parameters)}) throws Exception {{\n{block}\n}}"
        )
        if not own:
            calls.append(f"block{index}(client, arguments[0], arguments[1], arguments[2]);")
    return README.format(functions="\n".join(functions), calls="\n".join(calls))


@pytest.fixture(scope="module")
def project(repository, tmp_path_factory):
    """A project with the samples, the blocks of the README and the program of the other one."""
    readme = tmp_path_factory.mktemp("readme") / "Readme.java"
    readme.write_text(readme_program(blocks_of()))
    [program] = FENCE.findall((ROOT / "README.md").read_text())
    main = readme.with_name("Main.java")
    main.write_text(program)
    samples = [ROOT / f"bindings/java/samples/{name}.java" for name in SAMPLES]
    home = java_package.jdk(22) or java_package.jdk(11)
    directory = tmp_path_factory.mktemp("project")
    return Project(directory, repository, [*samples, readme, main], Path(home))


@pytest.fixture(params=[11, 22], ids=["jna", "ffm"])
def java(request, project):
    """How a program of the project is run, on each kind of Java."""
    home = need_jdk(request.param)
    deny = []
    if request.param == 22:
        deny = ["--illegal-native-access=deny", "--enable-native-access=ALL-UNNAMED"]
        if max(java_package.jdks()) < 24:
            del deny[0]
    return [str(home / "bin/java"), *deny, "-XX:TieredStopAtLevel=1", "-cp", project.classpath]


@pytest.fixture
def service(mock, environment):
    """The environment of a program, which takes the library in the jar."""
    given = service_of(mock, environment)
    return {key: value for key, value in given.items() if key != "DBSS_LIBRARY"}


def test_java_calls_every_function_of_the_abi():
    description = json.loads((ROOT / "include/dbss-abi.json").read_text())
    code = ROOT / "bindings/java/src/main/java/com/example/dbss"
    text = "".join(path.read_text() for path in code.glob("*.java"))
    text += (code / "internal/Fields.java").read_text()
    called = set(re.findall(r"\b(?:ABI|abi)(?:\.|::)(dbss_\w+)", text))
    # Options are set by their keys, and listed in the documentation.
    by_key = re.compile(r"dbss_config_set_(region|endpoint|token|access_key|iam_user)$")
    tables = re.compile(r"dbss_(option|feature|status)_(?!message)")
    others = {
        *("dbss_last_error", "dbss_version_number", "dbss_report_download"),
        *("dbss_report_download_to_fd", "dbss_operation_set_interrupt", "dbss_operation_reset"),
        *("dbss_log_record_copy", "dbss_log_record_free", "dbss_token_request_is_wanted"),
        *("dbss_page_count", "dbss_page_field", "dbss_mirror_result_json"),
    }
    missing = {one["name"] for one in description["functions"]} - called - others
    assert {name for name in missing if not by_key.match(name) and not tables.match(name)} == set()


def test_java_package_has_the_version_of_the_product(repository):
    cargo = (ROOT / "Cargo.toml").read_text()
    assert f'\nversion = "{VERSION}"\n' in cargo
    files = {path.name for path in (repository / "com/example/dbss" / VERSION).iterdir()}
    kinds = (".pom", ".jar", "-sources.jar", "-javadoc.jar")
    assert {f"dbss-{VERSION}{kind}" for kind in kinds} <= files
    sources = repository / f"com/example/dbss/{VERSION}/dbss-{VERSION}-sources.jar"
    names = set(zipfile.ZipFile(sources).namelist())
    newer = "META-INF/versions/22/com/example/dbss/internal/FfmAbi.java"
    assert {"com/example/dbss/DbssClient.java", newer} <= names
    assert (repository / "README.md").is_file()
    assert {path.stem for path in (repository / "samples").iterdir()} == set(SAMPLES)


def test_java_jar_has_both_implementations_and_the_licences(repository):
    jar = zipfile.ZipFile(repository / f"com/example/dbss/{VERSION}/dbss-{VERSION}.jar")
    names = set(jar.namelist())
    machine = f"linux-{platform.machine()}-glibc"
    assert {
        *("module-info.class", "META-INF/LICENSE", "META-INF/THIRD-PARTY-LICENSES"),
        "com/example/dbss/internal/JnaAbi.class",
        f"com/example/dbss/native/{machine}/libdbss.so.0",
    } <= names
    need_jdk(22)
    assert "META-INF/versions/22/com/example/dbss/internal/FfmAbi.class" in names


def run(java, name, *arguments, env, cwd, code=0):
    text = {"encoding": "utf-8", "errors": "replace"}
    done = support.run(*java, name, *arguments, env=env, cwd=cwd, code=code, **text)
    assert env["DBSS_TOKEN"] not in done.stdout + done.stderr
    return done


def test_java_readme_blocks_run(java, mock, service, tmp_path):
    assert len(blocks_of()) >= 8
    mock.set("generation", percent_per_list=100)
    (tmp_path / "reports").mkdir()
    arguments = [mock.instance_id, mock.pdf["id"], mock.templates[0]["id"]]
    done = run(java, "Readme", *arguments, env=service, cwd=tmp_path)
    mock.set("generation")
    assert done.stderr == ""
    assert done.stdout.startswith("%PDF-")
    assert f"{mock.pdf['id']} {mock.pdf['name']}\n" in done.stdout
    [saved] = (tmp_path / "reports").iterdir()
    assert saved.read_bytes().startswith(b"%PDF-")


def test_readme_java_program_runs(java, mock, service, tmp_path):
    report = {"DBSS_INSTANCE_ID": mock.instance_id, "DBSS_REPORT_ID": mock.pdf["id"]}
    run(java, "Main", env={**service, **report}, cwd=tmp_path)
    assert sha256(tmp_path / "report.pdf") == mock.pdf["sha256"]["en-us"]


def test_java_samples_are_short():
    found = sorted((ROOT / "bindings/java/samples").glob("*.java"))
    assert [path.stem for path in found] == list(SAMPLES)
    for path in found:
        assert len(path.read_text().splitlines()) < 100


def test_java_samples_run(java, mock, service, tmp_path):
    def sample(name, *arguments, code=0):
        done = run(java, name.title(), *arguments, env=service, cwd=tmp_path, code=code)
        return done.stderr if code else done.stdout

    expect_samples_work(sample, mock, tmp_path, "no such")


def test_java_module_is_found_on_the_module_path(java, mock, service, tmp_path, project):
    jars = str(project.directory / "libraries")
    options = [one.replace("ALL-UNNAMED", "com.example.dbss") for one in java[:-2]]
    if options == java[:-2]:
        options += ["--add-modules", "com.sun.jna"]
    else:
        # FFM needs no JNA.
        jars = str(next(Path(jars).glob("dbss-*.jar")))
    modules = [*options, "-p", jars, "--add-modules", "com.example.dbss"]
    classes = str(project.directory / "target/classes")
    done = run(
        [*modules, "-cp", classes],
        "Stream",
        mock.instance_id,
        mock.pdf["id"],
        env=service,
        cwd=tmp_path,
    )
    assert done.stdout.split()[0] == mock.pdf["sha256"]["zh-cn"]
    assert done.stderr == ""


def test_java_relative_path_counts_from_its_own_working_directory(java, mock, service, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    given = [java[0], f"-Duser.dir={elsewhere}", *java[1:]]
    report = mock.pdf["id"]
    done = run(given, "Download", mock.instance_id, report, "r", env=service, cwd=tmp_path)
    assert done.stdout == f"saved {elsewhere / 'r'}\n"
    assert (elsewhere / "r").stat().st_size > 0


def test_java_library_comes_from_the_property_if_it_is_set(java, mock, service, tmp_path):
    arguments = [mock.instance_id, mock.pdf["id"]]
    empty = tmp_path / "no-files"
    empty.mkdir()
    for path in (LIBRARY, LIBRARY.parent):
        # Nothing can be written there, and nothing has to be.
        options = [f"-Ddbss.library.path={path}", "-Djava.io.tmpdir=/no/such/directory"]
        given = [java[0], *options, *java[1:]]
        run(given, "Stream", *arguments, env=service, cwd=tmp_path)
    given = [java[0], f"-Ddbss.library.path={tmp_path / 'none'}", *java[1:]]
    done = run(given, "Stream", *arguments, env=service, cwd=tmp_path, code=1)
    assert f"there is no {tmp_path}/none, which the system property" in done.stderr
    text = tmp_path / "text"
    text.write_text("no library")
    # A library, but another one.
    for other in (text, next(Path("/usr/lib").glob("*/libm.so.6"))):
        given = [java[0], f"-Ddbss.library.path={other}", *java[1:]]
        done = run(given, "Stream", *arguments, env=service, cwd=tmp_path, code=1)
        assert "UnsatisfiedLinkError" in done.stderr
        assert f"cannot load {other}, which the system property" in done.stderr
        assert other != text or "file too short" in done.stderr
    # Of what was written into the directory for temporary files, nothing is left.
    given = [java[0], f"-Djava.io.tmpdir={empty}", "-Djna.tmpdir=/tmp", *java[1:]]
    run(given, "Stream", *arguments, env=service, cwd=tmp_path)
    assert [path for path in empty.iterdir() if path.name != "hsperfdata_root"] == []


def test_java_says_what_is_missing_to_call_the_library(project, service, tmp_path):
    start = ["-XX:TieredStopAtLevel=1", "-cp"]
    if max(java_package.jdks()) >= 24:
        program = [f"{need_jdk(22)}/bin/java", "--illegal-native-access=deny", *start]
        program.append(project.classpath)
        done = run(program, "Stream", "I", "R", env=service, cwd=tmp_path, code=1)
        assert "--enable-native-access=ALL-UNNAMED" in done.stderr
    without_jna = ":".join(one for one in project.classpath.split(":") if "jna" not in one)
    program = [f"{need_jdk(11)}/bin/java", *start, without_jna]
    done = run(program, "Stream", "I", "R", env=service, cwd=tmp_path, code=1)
    assert "dbss needs JNA (net.java.dev.jna:jna-jpms)" in done.stderr
