"""Credentials through the C ABI: checks in C, and dbss-download."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import need_tool
from test_c import (
    NO_RETRY,
    VALGRIND,
    VALGRIND_TLS,
    DownloadProgram,
    c_programs,
    check_environment,
    checks_in,
    download,
    environment,
    expect_success,
    fixture_file,
    run,
    sha256,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mock_service import MockService

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "check_environment", "download", "environment", "fixture_file"]

CHECKS = [
    (program, name, kind)
    for program in ("credentials", "sources")
    for name, kind in checks_in(program).items()
]


@pytest.fixture(autouse=True)
def reset_mock(mock: MockService) -> Iterator[None]:
    """Resets the mock service before and after each test."""

    def reset() -> None:
        mock.clear_faults()
        mock.clear_projects()
        mock.set_iam()
        mock.set_metadata()

    reset()
    yield
    reset()


@pytest.mark.parametrize("program", ["credentials", "sources"])
def test_credentials_checks_are_all_run(
    c_programs: Path, environment: dict[str, str], program: str
) -> None:
    listed = expect_success(run([c_programs / program, "--list"], environment)).splitlines()
    assert listed == [f"{name} {kind.lower()}" for owner, name, kind in CHECKS if owner == program]
    assert len(listed) > 20


@pytest.mark.parametrize(("program", "check", "kind"), CHECKS)
def test_credentials_check_passes(
    c_programs: Path,
    check_environment: dict[str, str],
    fixture_file: Path,
    program: str,
    check: str,
    kind: str,
) -> None:
    done = run([c_programs / program, fixture_file, check], check_environment, 300)
    assert f"ok {check}\n" in expect_success(done)
    assert not any(Path(check_environment["TMPDIR"]).iterdir())


@pytest.mark.parametrize("kind", ["PLAIN", "TLS"])
@pytest.mark.parametrize("program", ["credentials", "sources"])
def test_credentials_checks_under_valgrind_pass(
    c_programs: Path, check_environment: dict[str, str], fixture_file: Path, program: str, kind: str
) -> None:
    need_tool("valgrind")
    checks = [name for owner, name, its_kind in CHECKS if (owner, its_kind) == (program, kind)]
    if not checks:
        return
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    done = run([*valgrind, c_programs / program, fixture_file, *checks], check_environment, 600)
    assert f"{len(checks)} passed, 0 failed" in expect_success(done, silent=False)


# The program dbss-download.


@pytest.fixture
def download_without_token(download: DownloadProgram, mock: MockService) -> DownloadProgram:
    """The program with a region, and credentials of the environment, as most users run it.

    It never looks for a real metadata service.
    """
    for name in ("DBSS_TOKEN", "DBSS_PROJECT_ID", "DBSS_ENDPOINT"):
        del download.environment[name]
    download.environment |= {
        "DBSS_REGION": mock.region,
        "HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4": mock.http,
        "HUAWEICLOUD_SDK_AK": mock.access_key,
        "HUAWEICLOUD_SDK_SK": mock.secret_key,
    }
    return download


def options(mock: MockService, **more: str) -> list[str]:
    settings = {"iam_endpoint": mock.iam, "metadata_endpoint": mock.metadata, **more}
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def masked(key: str) -> str:
    return f"{key[:4]}***{key[-4:]}"


def test_region_and_ids_suffice(download_without_token: DownloadProgram, mock: MockService) -> None:
    done = download_without_token(*options(mock))
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert done.stderr.startswith(b"saved audit-report.pdf (")
    assert sha256(download_without_token.cwd / "audit-report.pdf") == mock.pdf["sha256"]["en-us"]


def test_agency_credentials_are_used(
    download_without_token: DownloadProgram, mock: MockService
) -> None:
    without = {"HUAWEICLOUD_SDK_AK": None, "HUAWEICLOUD_SDK_SK": None}
    assert download_without_token(*options(mock), env=without).returncode == 0
    mock.set_metadata(agency=False)
    done = download_without_token(*options(mock), "-o", "x", env=without)
    assert (done.returncode, download_without_token.files()) == (2, ["audit-report.pdf"])
    for words in (b"HUAWEICLOUD_SDK_AK", b".huaweicloud/credentials", b"agency"):
        assert words in done.stderr


def test_credential_sources_have_the_documented_precedence(
    download_without_token: DownloadProgram, mock: MockService
) -> None:
    """The order is: a token file, --set, DBSS_TOKEN, credentials that are found."""
    token_file = download_without_token.cwd.parent / "token"
    token_file.write_text(mock.token)
    wrong_token = {"DBSS_TOKEN": "not-a-token-of-anybody"}
    found = options(mock, credentials="environment")
    assert download_without_token(*options(mock), env=wrong_token).returncode == 3
    assert download_without_token(*found, "-o", "a", env=wrong_token).returncode == 0
    unset = {"HUAWEICLOUD_SDK_AK": None, "HUAWEICLOUD_SDK_SK": None}
    assert download_without_token(*found, "-o", "b", env=unset).returncode == 2
    file = ("--token-file", token_file)
    assert (
        download_without_token(*found, *file, "-o", "b", env={**wrong_token, **unset}).returncode
        == 0
    )
    assert download_without_token.files() == ["a", "b"]


def test_warning_is_printed_unless_quiet(
    download_without_token: DownloadProgram, mock: MockService, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    profile.write_text(f"[basic]\nak = {mock.access_key}\nsk = {mock.secret_key}\n")
    profile.chmod(0o644)
    named = {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(profile)}
    call = options(mock, credentials="profile")
    done = download_without_token(*call, "-o", "a", env=named)
    assert done.returncode == 0
    [warning, saved] = done.stderr.decode().splitlines()
    assert warning.startswith("dbss-download: warning: ")
    assert str(profile) in warning
    assert saved.startswith("saved a (")
    done = download_without_token(*call, "-o", "b", "--quiet", env=named)
    assert (done.returncode, done.stderr) == (0, b"")
    profile.chmod(0o600)
    assert download_without_token(*call, "-o", "c", env=named).stderr.startswith(b"saved c (")


# --check


def check_lines(output: bytes) -> dict[str, str]:
    pairs = [line.split(": ", 1) for line in output.decode().splitlines()]
    assert [name for name, _ in pairs] == ["source", "who", "project", "expires", "accepted"]
    return dict(pairs)


def test_check_with_access_key_prints_its_source(
    download_without_token: DownloadProgram, mock: MockService
) -> None:
    # It needs no ids, and saves nothing.
    without = {"DBSS_INSTANCE_ID": None, "DBSS_REPORT_ID": None}
    done = download_without_token("--check", *options(mock), env=without)
    assert (done.returncode, done.stderr) == (0, b"")
    printed = check_lines(done.stdout)
    assert printed["source"].startswith("environment, ")
    assert "HUAWEICLOUD_SDK_AK" in printed["source"]
    assert printed["who"] == masked(mock.access_key)
    assert printed["project"] == "looked up by the region's name"
    assert printed["expires"] == "not known"
    assert printed["accepted"] == "yes"
    assert download_without_token.files() == []

    done = download_without_token("--check", *options(mock), "--project", mock.project_id)
    assert check_lines(done.stdout)["project"] == mock.project_id
    own = {"HUAWEICLOUD_SDK_PROJECT_ID": mock.project_id}
    assert (
        check_lines(download_without_token("--check", *options(mock), env=own).stdout)["project"]
        == own["HUAWEICLOUD_SDK_PROJECT_ID"]
    )


def test_check_quiet_prints_nothing(
    download_without_token: DownloadProgram, mock: MockService
) -> None:
    done = download_without_token("--check", "--quiet", *options(mock))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    wrong = {"HUAWEICLOUD_SDK_SK": "not-the-secret-key"}
    done = download_without_token("--check", "-q", *options(mock), env=wrong)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "<+14>-14"])
def test_check_prints_expiry_in_utc(
    download_without_token: DownloadProgram, mock: MockService, zone: str
) -> None:
    mock.set_metadata(announced_key_lifetime_ms=3_600_000)
    call = options(mock, credentials="metadata")
    done = download_without_token("--check", *call, env={"TZ": zone, "LC_ALL": "zh_CN.UTF-8"})
    assert done.returncode == 0
    printed = check_lines(done.stdout)
    assert printed["source"].startswith("metadata, ")
    assert mock.metadata in printed["source"]
    assert re.fullmatch(r"....\*\*\*....", printed["who"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", printed["expires"])
    from datetime import datetime, timedelta, timezone

    expires = datetime.fromisoformat(printed["expires"].replace("Z", "+00:00"))
    ahead = expires - datetime.now(timezone.utc)
    assert timedelta(minutes=55) < ahead < timedelta(minutes=61)


CHECK_FAILURES: list[tuple[int, str | None, dict[str, str | None]]] = [
    (3, "no", {"HUAWEICLOUD_SDK_SK": "not-the-secret-key"}),
    (3, "no", {"DBSS_PROJECT_ID": "no-project-0123456789-0123456789-x"}),
    (6, "not known", {"DBSS_ENDPOINT": "http://127.0.0.1:1"}),
    (2, None, {"HUAWEICLOUD_SDK_SK": None}),
    (2, None, {"DBSS_REGION": None, "DBSS_ENDPOINT": None}),
    (2, "not known", {"DBSS_PROJECT_ID": "x"}),
]


@pytest.mark.parametrize(("code", "accepted", "changes"), CHECK_FAILURES)
def test_check_failure_has_its_exit_code(
    download_without_token: DownloadProgram,
    mock: MockService,
    code: int,
    accepted: str | None,
    changes: dict[str, Any],
) -> None:
    done = download_without_token("--check", *options(mock), *NO_RETRY, env=changes)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(b"dbss-download: ")
    if accepted is None:
        assert done.stdout == b""
    else:
        assert check_lines(done.stdout)["accepted"] == accepted


def test_check_to_full_device_fails(
    download_without_token: DownloadProgram, mock: MockService
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = download_without_token("--check", *options(mock), stdout=full)
    assert done.returncode == 7
    assert b"No space left" in done.stderr


def test_check_under_valgrind_has_no_error(
    download_without_token: DownloadProgram, mock: MockService
) -> None:
    need_tool("valgrind")
    assert download_without_token("--check", *options(mock), wrap=VALGRIND).returncode == 0
    call = options(mock, credentials="metadata")
    assert download_without_token("--check", *call, wrap=VALGRIND).returncode == 0
    assert os.listdir(download_without_token.cwd) == []
