"""The C ABI: the header, the conformance cases, the rules of the ABI, and dbss-download."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import need_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from mock_service import MockService

ROOT = Path(__file__).parents[2]


def checks_in(program: str) -> dict[str, str]:
    """The checks of a C program, with their kinds.

    They come from the table in its source, because the program may not be built yet.
    """
    source = (ROOT / f"tests/c/{program}.c").read_text()
    return dict(re.findall(r'^    \{"(\w+)", \w+, (PLAIN|TLS|LOAD)\},$', source, re.MULTILINE))


ABI_CHECKS = checks_in("abi")

VALGRIND = [
    "valgrind",
    "--quiet",
    "--error-exitcode=99",
    "--leak-check=full",
    "--show-leak-kinds=definite,indirect,possible",
    "--errors-for-leak-kinds=definite,indirect",
    "--track-fds=no",
]
# Cryptography is in assembly, for which valgrind cannot track initialisation.
VALGRIND_TLS = [*VALGRIND, "--undef-value-errors=no"]


@pytest.fixture(scope="module")
def environment(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment without the credentials and endpoints of the user."""
    kept = {k: v for k, v in environment.items() if not k.startswith("HUAWEICLOUD_")}
    return {**kept, "HOME": str(tmp_path_factory.mktemp("home"))}


def run(
    command: list[str | Path],
    environment: dict[str, str],
    timeout: float = 120,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )


def expect_success(done: subprocess.CompletedProcess[str], silent: bool = True) -> str:
    failures = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert done.returncode == 0, "\n".join([*failures, done.stderr])
    assert done.stderr == "" or not silent
    return done.stdout


@pytest.fixture
def c_programs(build_dir: Path) -> Path:
    return build_dir / "tests/c"


@pytest.fixture
def check_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment for the check programs."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return {**environment, "TMPDIR": str(scratch)}


@pytest.fixture
def fixture_file(mock: MockService, tmp_path: Path) -> Path:
    """The fixture values for C, as lines of name=value."""
    ready = json.loads(mock.raw_ready)
    fixtures = {name: value for name, value in ready.items() if isinstance(value, str)}
    fixtures["control"] = ready["control"].removeprefix("http://").rstrip("/")
    fixtures["project"] = ready["project_id"]
    fixtures["instance"] = ready["instance_id"]
    fixtures["template"] = mock.templates[0]["id"]
    for name, report in (("pdf", mock.pdf), ("zip", mock.zip)):
        fixtures[name] = report["id"]
        fixtures[f"{name}_en"] = report["sha256"]["en-us"]
        fixtures[f"{name}_zh"] = report["sha256"]["zh-cn"]
    path = tmp_path / "fixture_file"
    path.write_text("".join(f"{name}={value}\n" for name, value in fixtures.items()))
    return path


# The header.


@pytest.mark.parametrize("program", ["header_c99", "header_c11", "header_cpp"])
def test_header_alone_compiles_as_strict_c_and_cpp(
    c_programs: Path, environment: dict[str, str], program: str
) -> None:
    expect_success(run([c_programs / program], environment))


@pytest.mark.parametrize(
    ("call", "compiles"),
    [
        ("dbss_context_free(ctx)", True),
        ("dbss_context_free(config)", False),
        ("dbss_config_free(ctx)", False),
        ("dbss_report_download(ctx, id, id, id, 0, &report)", True),
        ("dbss_report_download(config, id, id, id, 0, &report)", False),
        ("dbss_error_free(dbss_error_take())", True),
        ("dbss_error_free(dbss_last_error())", False),
    ],
)
@pytest.mark.parametrize("language", ["c", "c++"])
def test_wrong_handle_type_does_not_compile(
    root: Path, environment: dict[str, str], language: str, call: str, compiles: bool
) -> None:
    source = f"""
        #include <dbss.h>
        void use(dbss_config *config, dbss_context *ctx, const char *id, dbss_buffer report);
        void use(dbss_config *config, dbss_context *ctx, const char *id, dbss_buffer report)
        {{ {call}; (void)config; (void)ctx; (void)id; (void)report; }}
    """
    compiler = {"c": environment.get("CC", "cc"), "c++": environment.get("CXX", "c++")}[language]
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{root / 'include'}", "-fsyntax-only"]
    done = run([compiler, "-x", language, *flags, "-"], environment, input=source)
    assert (done.returncode == 0) == compiles, done.stderr


# The ABI.


@pytest.mark.parametrize("endpoint", ["http", "https"])
def test_conformance_cases_pass(
    root: Path, c_programs: Path, environment: dict[str, str], fixture_file: Path, endpoint: str
) -> None:
    cases = sorted((root / "tests/conformance").glob("*.cases"))
    names = [
        line
        for file in cases
        for line in file.read_text().splitlines()
        if line.startswith("case: ")
    ]
    assert len(names) == len(set(names))
    done = run([c_programs / "conformance", fixture_file, endpoint, *cases], environment)
    assert f"{len(names)} passed, 0 failed" in expect_success(done)


def test_abi_checks_are_all_run(c_programs: Path, environment: dict[str, str]) -> None:
    listed = expect_success(run([c_programs / "abi", "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in ABI_CHECKS.items()]
    assert len(listed) > 20


@pytest.mark.parametrize("check", ABI_CHECKS)
def test_abi_check_passes(
    c_programs: Path, environment: dict[str, str], fixture_file: Path, check: str
) -> None:
    done = run([c_programs / "abi", fixture_file, check], environment)
    assert f"ok {check}\n" in expect_success(done)


def test_unload_during_name_lookup_does_not_crash(
    c_programs: Path, library: Path, environment: dict[str, str]
) -> None:
    expect_success(run([c_programs / "dlclose", library], environment))


@pytest.mark.parametrize("tls", [False, True])
def test_conformance_cases_under_valgrind_pass(
    root: Path, c_programs: Path, environment: dict[str, str], fixture_file: Path, tls: bool
) -> None:
    need_tool("valgrind")
    every = sorted((root / "tests/conformance").glob("*.cases"))
    over_tls = {"tls.cases", "transfer.cases"}
    cases = [file for file in every if (file.name in over_tls) == tls]
    assert cases
    valgrind = VALGRIND_TLS if tls else VALGRIND
    done = run(
        [*valgrind, c_programs / "conformance", fixture_file, "http", *cases], environment, 600
    )
    # Memory that is only possibly lost is printed, but is not an error.
    assert " passed, 0 failed" in expect_success(done, silent=False)


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
def test_abi_checks_under_valgrind_pass(
    c_programs: Path, environment: dict[str, str], fixture_file: Path, kind: str
) -> None:
    need_tool("valgrind")
    checks = [name for name, its_kind in ABI_CHECKS.items() if its_kind == kind]
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, c_programs / "abi", fixture_file, *checks], environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)


# The program dbss-download.


class DownloadProgram:
    """Runs dbss-download in an empty directory, and checks that it prints no secret."""

    def __init__(self, program: Path, environment: dict[str, str], mock: MockService, cwd: Path):
        self.program = program
        self.cwd = cwd
        self.token = mock.token
        # No run may print these.
        self.secrets = {mock.token, mock.secret_key, mock.password}
        self.environment = {
            **{k: v for k, v in environment.items() if not k.startswith("DBSS_")},
            "DBSS_ENDPOINT": mock.http,
            "DBSS_TOKEN": mock.token,
            "DBSS_PROJECT_ID": mock.project_id,
            "DBSS_INSTANCE_ID": mock.instance_id,
            "DBSS_REPORT_ID": mock.pdf["id"],
        }

    def __call__(
        self,
        *arguments: str | Path,
        env: dict[str, str | None] | None = None,
        wrap: list[str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [*(wrap or []), str(self.program), *map(str, arguments)],
            check=False,
            cwd=self.cwd,
            env=self.env(env or {}),
            timeout=120,
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
        )
        for output in (done.stdout, done.stderr):
            for secret in self.secrets:
                assert secret.encode() not in (output or b"")
        return done

    def env(self, changes: dict[str, str | None]) -> dict[str, str]:
        return {k: v for k, v in {**self.environment, **changes}.items() if v is not None}

    def files(self) -> list[str]:
        return sorted(os.listdir(self.cwd))


@pytest.fixture
def download(
    build_dir: Path, environment: dict[str, str], mock: MockService, tmp_path: Path
) -> DownloadProgram:
    # Faults of a failed test must not affect the next one.
    mock.clear_faults()
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    return DownloadProgram(build_dir / "bin/dbss-download", environment, mock, cwd)


# A single attempt, so that one fault is enough.
NO_RETRY = ("--set", "max_attempts=1")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def connections(mock: MockService) -> int:
    counted = mock.connections()
    return counted["total"] if isinstance(counted, dict) else counted


def test_download_without_output_uses_report_name(
    download: DownloadProgram, mock: MockService
) -> None:
    name = "audit-report.pdf"
    done = download()
    size = mock.pdf["sizes"]["en-us"]
    assert done.stderr.decode() == f"saved {name} ({size} bytes)\n"
    assert (done.returncode, done.stdout) == (0, b"")
    assert download.files() == [name]
    assert sha256(download.cwd / name) == mock.pdf["sha256"]["en-us"]
    assert stat.S_IMODE((download.cwd / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("output", ["sub", "sub/", "link"])
def test_download_to_directory_uses_report_name(
    download: DownloadProgram, mock: MockService, output: str
) -> None:
    (download.cwd / "sub").mkdir()
    (download.cwd / "link").symlink_to("sub")
    done = download("-o", output, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert os.listdir(download.cwd / "sub") == ["audit-report.pdf"]
    assert sha256(download.cwd / "sub/audit-report.pdf") == mock.pdf["sha256"]["en-us"]
    done = download("-o", "no-such-directory/")
    assert done.returncode == 7
    assert download.files() == ["link", "sub"]


def test_options_override_environment(download: DownloadProgram, mock: MockService) -> None:
    wrong = {
        "DBSS_PROJECT_ID": "x",
        "DBSS_INSTANCE_ID": "x",
        "DBSS_LOCALE": "x",
        "DBSS_ENDPOINT": "x",
        "DBSS_CA_FILE": "/nowhere",
        "DBSS_REGION": "x/",
        "DBSS_OUTPUT": "/",
    }
    done = download(
        *("--project", mock.project_id, "--instance", mock.instance_id),
        *("--report", mock.zip["id"], "--locale", "zh-cn", "--region", "cn-north-4"),
        *(
            "--endpoint",
            mock.https,
            "--ca-file",
            mock.ca_file,
            "--output",
            "a.zip",
        ),
        *("--set", "stall_timeout_ms=5000", "--set", "user_agent_suffix=test/1=2"),
        env=wrong,
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert done.stderr.startswith(b"saved a.zip (")
    assert done.stderr.endswith(b" bytes)\n")
    assert download.files() == ["a.zip"]
    assert sha256(download.cwd / "a.zip") == mock.zip["sha256"]["zh-cn"]
    headers = mock.requests(report=mock.zip["id"])[-1]["headers"]
    agents = [value for name, value in headers if name.lower() == "user-agent"]
    assert len(agents) == 1
    assert agents[0].endswith(" test/1=2")


def test_environment_alone_suffices(download: DownloadProgram, mock: MockService) -> None:
    service = {
        "DBSS_ENDPOINT": mock.https,
        "DBSS_CA_FILE": mock.ca_file,
        "DBSS_LOCALE": "zh-cn",
        "DBSS_OUTPUT": "named-by-the-environment",
    }
    assert download(env=service).returncode == 0
    assert download.files() == ["named-by-the-environment"]
    [file] = download.cwd.iterdir()
    assert sha256(file) == mock.pdf["sha256"]["zh-cn"]


@pytest.mark.parametrize(
    ("body", "ending"), [("%PDF-1.7 ...", "pdf"), ("PK\3\4 ...", "zip"), ("\0\1\2" * 6, "bin")]
)
def test_report_without_name_is_named_by_id(
    download: DownloadProgram, mock: MockService, body: str, ending: str
) -> None:
    nameless = {"headers": [["Content-Disposition", None], ["Content-Type", None]]}
    mock.fault(mock.pdf["id"], body=body, times=1, **nameless)
    assert download().returncode == 0
    assert download.files() == [f"{mock.pdf['id']}.{ending}"]


def test_download_to_stdout_writes_only_the_report(
    download: DownloadProgram, mock: MockService
) -> None:
    done = download("-o", "-")
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).hexdigest() == mock.pdf["sha256"]["en-us"]
    assert done.stderr.startswith(b"saved - (")
    assert download.files() == []
    with Path("/dev/full").open("wb") as full:
        done = download("-o", "-", stdout=full)
    assert done.returncode == 7
    assert b"No space left" in done.stderr


def test_existing_file_with_report_name_is_kept(
    download: DownloadProgram, mock: MockService
) -> None:
    target = download.cwd / "audit-report.pdf"
    target.write_text("mine")
    done = download()
    assert done.returncode == 7
    assert target.name.encode() in done.stderr
    assert download.files() == [target.name]
    assert target.read_text() == "mine"
    assert download("--force").returncode == 0
    assert sha256(target) == mock.pdf["sha256"]["en-us"]


@pytest.mark.parametrize("kind", ["file", "fifo", "link", "dangling link"])
def test_existing_target_is_rejected_before_any_traffic(
    download: DownloadProgram, mock: MockService, kind: str
) -> None:
    target = download.cwd / "target"
    other = download.cwd.parent / "other"
    if kind == "file":
        target.write_text("mine")
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to(other)
        if kind == "link":
            other.write_text("mine")
    before = connections(mock)
    for force in ([], ["--force"]):
        if kind == "file" and force:
            continue
        done = download("-o", target, *force)
        assert done.returncode == 7
        assert done.stderr.startswith(b"dbss-download: ")
    assert connections(mock) == before
    assert download.files() == ["target"]
    assert other.exists() == (kind == "link")


def test_force_replaces_file_only_with_complete_report(
    download: DownloadProgram, mock: MockService
) -> None:
    target = download.cwd / "target"
    target.write_text("mine")
    mock.fault(mock.pdf["id"], cut_after=100, times=1)
    assert download("-o", target, "--force", *NO_RETRY).returncode == 6
    assert target.read_text() == "mine"
    assert download.files() == ["target"]
    assert download("-o", target, "--force").returncode == 0
    assert sha256(target) == mock.pdf["sha256"]["en-us"]
    assert download.files() == ["target"]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_two_downloads_at_once_only_one_creates_the_file(
    download: DownloadProgram, mock: MockService
) -> None:
    report = mock.pdf["id"]
    before = len(mock.requests(report=report))
    # Both see no file before either of them writes.
    mock.fault(report, delay_ms=1000, times=2)
    both = [
        subprocess.Popen(
            [download.program, "-o", "target"],
            cwd=download.cwd,
            env=download.environment,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    wait_until(lambda: len(mock.requests(report=report)) == before + 2)
    assert download.files() == []
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 7], errors
    assert download.files() == ["target"]
    assert sha256(download.cwd / "target") == mock.pdf["sha256"]["en-us"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_no_file_and_command_line_has_no_secret(
    download: DownloadProgram, mock: MockService, number: signal.Signals
) -> None:
    report = mock.pdf["id"]
    before = len(mock.requests(report=report))
    mock.fault(report, no_answer=True, times=1)
    token_file = download.cwd.parent / "token"
    token_file.write_text(mock.token + "\n")
    process = subprocess.Popen(
        [download.program, "-o", "target", "--token-file", token_file],
        cwd=download.cwd,
        env=download.env({"DBSS_TOKEN": None}),
    )
    try:
        wait_until(lambda: len(mock.requests(report=report)) == before + 1)
        proc = Path("/proc") / str(process.pid)
        assert b"--token-file" in (proc / "cmdline").read_bytes()
        for file in ("cmdline", "environ"):
            assert mock.token.encode() not in (proc / file).read_bytes()
    finally:
        process.send_signal(number)
        process.wait(timeout=30)
    assert process.returncode == 130
    assert download.files() == []


RESPONSE_FAULTS: list[tuple[int, dict[str, Any]]] = [
    (3, {"status": 401, "json": {"error_code": "APIG.0301", "error_msg": "expired"}}),
    (3, {"status": 403, "body": ""}),
    (4, {"status": 404, "body": ""}),
    (4, {"json": {"error_code": "DBSS.10021004", "error_msg": "under 200"}}),
    (5, {"status": 400, "body": ""}),
    (5, {"status": 409, "body": ""}),
    (5, {"status": 429, "body": ""}),
    (5, {"status": 500, "body": ""}),
    (
        5,
        {
            "status": 302,
            "body": "",
            "headers": [["Location", "https://elsewhere.example"]],
        },
    ),
    (5, {"body": ""}),
    (6, {"cut_after": 100}),
    (6, {"reset_before_answer": True}),
    (6, {"gzip": True}),
    (6, {"raw_base64": "Z2FyYmFnZQ0KDQo="}),
]


@pytest.mark.parametrize(("code", "fault"), RESPONSE_FAULTS)
def test_exit_code_matches_response(
    download: DownloadProgram, mock: MockService, code: int, fault: dict[str, Any]
) -> None:
    mock.fault(mock.pdf["id"], **fault, times=1)
    done = download("-o", "target", *NO_RETRY)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert done.stderr.startswith(b"dbss-download: ")
    assert len(done.stderr.splitlines()) == 1
    assert download.files() == []


def test_closed_standard_streams_keep_messages_out_of_the_report(
    download: DownloadProgram, mock: MockService
) -> None:
    shell = ["/bin/sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-']
    mock.fault(mock.pdf["id"], reset_after=1000, times=1)
    done = download("-o", "x.pdf", "--verbose", wrap=shell)
    assert done.returncode == 0
    assert sha256(download.cwd / "x.pdf") == mock.pdf["sha256"]["en-us"]
    # Output that cannot be written is still a failure.
    done = download("-o", "-", wrap=["/bin/sh", "-c", 'exec "$0" "$@" >&-'])
    assert done.returncode in (2, 7)
    assert done.stderr.startswith(b"dbss-download: ")


USAGE_ERRORS: list[tuple[int, list[str], dict[str, str | None]]] = [
    (2, ["--no-such-option"], {}),
    (2, ["unexpected"], {}),
    (2, ["--project"], {}),
    (2, [], {"DBSS_PROJECT_ID": None}),
    (2, [], {"DBSS_INSTANCE_ID": ""}),
    (2, [], {"DBSS_REPORT_ID": None}),
    (2, ["--set", "credentials=environment"], {"DBSS_TOKEN": None}),
    (2, ["--set", "credentials=profile"], {}),
    (2, ["--set", "credentials=elsewhere"], {}),
    (2, ["--set", "metadata_endpoint=http://127.0.0.1:1"], {"DBSS_TOKEN": ""}),
    (2, [], {"DBSS_TOKEN": "with space"}),
    (2, [], {"DBSS_ENDPOINT": None}),
    (2, ["--report", "../../../../etc/passwd"], {}),
    (2, ["--locale", "fr-fr"], {}),
    (2, ["--region", "no/region"], {}),
    (2, ["--endpoint", "http://192.0.2.1"], {}),
    (2, ["--set", "stall_timeout_ms"], {}),
    (2, ["--set", "stall_timeout_ms=soon"], {}),
    (2, ["--set", "no_such_key=1"], {}),
    (3, [], {"DBSS_TOKEN": "not-a-token-of-anybody"}),
    (4, ["--report", "0123456789abcdef"], {}),
    (6, ["--endpoint", "http://127.0.0.1:1"], {}),
    (7, ["--ca-file", "/no/such/file"], {}),
    (7, ["--token-file", "/no/such/file"], {}),
    (7, ["--token-file", "/"], {}),
    (7, ["--output", "no/such/directory/report.pdf"], {}),
    (7, ["--output", "no/such/directory/"], {}),
    (2, ["--output", ""], {}),
]


@pytest.mark.parametrize(("code", "arguments", "environment_changes"), USAGE_ERRORS)
def test_exit_code_matches_usage_error(
    download: DownloadProgram,
    code: int,
    arguments: list[str],
    environment_changes: dict[str, str | None],
) -> None:
    done = download(*arguments, env=environment_changes)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert b"dbss-download: " in done.stderr
    assert download.files() == []


@pytest.mark.parametrize("option", ["--token=", "--set=token="])
def test_token_on_command_line_is_rejected(
    download: DownloadProgram, mock: MockService, option: str
) -> None:
    before = connections(mock)
    done = download(option + mock.token, env={"DBSS_TOKEN": None})
    done_too = download(option + mock.token)
    for one in (done, done_too):
        assert one.returncode == 2
        assert b"--token-file" in one.stderr
    assert connections(mock) == before


@pytest.mark.parametrize("key", ["secret_key", "security_token", "iam_password", "proxy"])
def test_secret_option_on_command_line_is_rejected(download: DownloadProgram, key: str) -> None:
    done = download("--set", f"{key}=shown-to-everybody")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"shown-to-everybody" not in done.stderr
    assert download.files() == []


def test_service_message_is_printed_without_control_characters(
    download: DownloadProgram, mock: MockService
) -> None:
    details = [
        {"error_code": "DBSS.1", "error_msg": "first\r\n\x1b[31m\u009b\x7f"},
        {"error_code": None, "error_msg": "second"},
        {"error_code": "DBSS.3"},
    ]
    words = {
        "error_code": "DBSS.10000001",
        "error_msg": "wrong\n\x1b[0m",
        "details": details,
    }
    headers = [["X-Request-Id", "request-0001"]]
    mock.fault(mock.pdf["id"], status=400, json=words, headers=headers, times=1)
    done = download()
    assert done.returncode == 5
    lines = done.stderr.decode().split("\n")
    assert len(lines) == 5
    assert lines[0].startswith("dbss-download: ")
    assert "DBSS.10000001" in lines[0]
    assert "request-0001" in lines[0]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["DBSS.1:", "first"],
        ["-:", "second"],
        ["DBSS.3:", "-"],
    ]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stderr.decode())


@pytest.mark.parametrize(
    ("end", "code"),
    [(b"", 0), (b"\n", 0), (b"\r\n", 0), (b"\n\n", 2), (b" \n", 2), (b"\0", 2)],
)
def test_token_file_may_end_with_one_line_end(
    download: DownloadProgram, mock: MockService, end: bytes, code: int
) -> None:
    token_file = download.cwd.parent / "token"
    token_file.write_bytes(mock.token.encode() + end)
    without = {"DBSS_TOKEN": None}
    done = download("-o", "-", "--token-file", token_file, env=without)
    assert done.returncode == code, done.stderr
    with token_file.open("rb") as file:
        done = download("-o", "-", "--token-file", "-", stdin=file, env=without)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("length", "end", "code"),
    [
        (0, "", 2),
        (98304, "", 0),
        (98304, "\r\n", 0),
        (98305, "", 2),
        (98305, "\n", 2),
        (500000, "", 2),
    ],
)
@pytest.mark.usefixtures("long_headers")
def test_token_file_length_limit_is_enforced(
    download: DownloadProgram, mock: MockService, length: int, end: str, code: int
) -> None:
    token = "t" * length
    if code == 0:
        mock.add_token(token)
    token_file = download.cwd.parent / "token"
    token_file.write_text(token + end)
    done = download("-o", "-", "--token-file", token_file, env={"DBSS_TOKEN": "not-this-one"})
    assert done.returncode == code, done.stderr


def test_unwritable_file_leaves_nothing(download: DownloadProgram) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = download("-o", "target", preexec_fn=small_files_only)
    assert done.returncode == 7, done.stderr
    assert b"File too large" in done.stderr
    assert download.files() == []


def test_help_and_version_are_complete(
    root: Path, download: DownloadProgram, mock: MockService
) -> None:
    before = connections(mock)
    done = download("--help", env={"DBSS_TOKEN": None})
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    description = json.loads((root / "include/dbss-abi.json").read_text())
    options = {one["key"]: one for one in description["options"]["config"]}
    secrets = {key for key, one in options.items() if one["type"] == "secret"}
    assert secrets == {
        *("token", "access_key", "secret_key", "security_token", "iam_password", "proxy")
    }
    for key, option in options.items():
        assert (f"  {key} ({option['type']}, default " in text) == (key not in secrets)
    assert "\n      1 to 86400000, or -1 for no limit\n" in text
    for option in (
        "project",
        "output",
        "token-file",
        "check",
        "set",
        "force",
        "version",
        "help",
    ):
        assert f"--{option}" in text
    codes = re.findall(r"^ +(\d+)  \w", text.split("Exit codes:")[1], re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "5", "6", "7", "130"]
    assert max(map(len, text.splitlines())) <= 80

    version = re.search(r'^version = "(.*)"', (root / "Cargo.toml").read_text(), re.MULTILINE)
    assert version
    done = download("--version", env={"DBSS_TOKEN": None})
    line = f"dbss-download {version[1]} (libdbss {version[1]})\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, line, b"")
    assert connections(mock) == before


def test_download_program_under_valgrind_has_no_error(
    download: DownloadProgram, mock: MockService
) -> None:
    need_tool("valgrind")
    assert download("-o", "target", wrap=VALGRIND).returncode == 0
    mock.fault(mock.pdf["id"], cut_after=100, times=1)
    assert download("-o", "another", *NO_RETRY, wrap=VALGRIND).returncode == 6
    mock.fault(mock.pdf["id"], cut_after=100, times=1)
    assert download("-o", "target", "--force", "--verbose", wrap=VALGRIND).returncode == 0
    assert download("-o", "target", wrap=VALGRIND).returncode == 7
    assert download.files() == ["target"]
