"""File systems that lack something: files are whole there too, or refused at once.

System calls are refused by a seccomp filter of a child process, in the way in which
s3fs, CIFS, vfat and their like refuse them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import struct
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest

from mock_service import MockService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="the numbers of system calls are those of Linux on x86-64",
)

RENAME, LINK, FSYNC, FDATASYNC, FCHMOD = 82, 86, 74, 75, 91
OPENAT, RENAMEAT, LINKAT, RENAMEAT2 = 257, 264, 265, 316
O_TMPFILE = 0x400000
ANY = 0xFFFFFFFF

# A system call, the error that it gets, and bits of one of its arguments that must be
# set for that.
Rule = tuple[int, int, int, int]


def refuse(rules: list[Rule]) -> None:
    """Has the system calls of this process refused from now on."""
    load, jump_equal, jump_set, give = 0x20, 0x15, 0x45, 0x06
    errno_of_filter, allow = 0x00050000, 0x7FFF0000
    program: list[tuple[int, int, int, int]] = []
    for number, error, argument, bits in rules:
        program.append((load, 0, 0, 0))
        if bits == 0:
            program.append((jump_equal, 0, 1, number))
        else:
            program.append((jump_equal, 0, 3, number))
            program.append((load, 0, 0, 16 + 8 * argument))
            program.append((jump_set, 0, 1, bits))
        program.append((give, 0, 0, errno_of_filter | error))
    program.append((give, 0, 0, allow))
    code = b"".join(struct.pack("HBBI", *one) for one in program)
    filter_code = ctypes.create_string_buffer(code)
    whole = struct.pack("HxxxxxxP", len(program), ctypes.addressof(filter_code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.c_char_p(whole), 0, 0) != 0:
        os._exit(77)


def in_child(rules: list[Rule], body: Callable[[], None]) -> None:
    """Runs a function where the calls are refused; what it asserts holds here."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            refuse(rules)
            body()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 77:
        pytest.skip("there are no seccomp filters here")
    assert os.waitstatus_to_exitcode(status) == 0


def no_unnamed_files(error: int = errno.EOPNOTSUPP) -> list[Rule]:
    return [(OPENAT, error, 2, O_TMPFILE)]


def no_links(error: int = errno.EPERM) -> list[Rule]:
    return [(LINK, error, 0, 0), (LINKAT, error, 0, 0)]


def no_rename_flags(error: int = errno.EINVAL) -> list[Rule]:
    return [(RENAMEAT2, error, 4, ANY)]


def no_chmod(error: int = errno.EPERM) -> list[Rule]:
    return [(FCHMOD, error, 0, 0)]


def no_fsync(error: int = errno.EINVAL) -> list[Rule]:
    return [(FSYNC, error, 0, 0), (FDATASYNC, error, 0, 0)]


def no_renames(error: int = errno.EPERM) -> list[Rule]:
    return [(one, error, 0, 0) for one in (RENAME, RENAMEAT, RENAMEAT2)]


MODE, SYNC, RACE = "mode", "on the disk", "same moment"
LACKING: dict[str, tuple[list[Rule], list[str]]] = {
    "nothing": ([], []),
    "unnamed files": (no_unnamed_files(), []),
    "unnamed files, as an old kernel": (no_unnamed_files(errno.EISDIR), []),
    "links": (no_links(), []),
    "links, as some say it": (no_links(errno.EOPNOTSUPP), []),
    "links at all": (no_links(errno.ENOSYS), []),
    "rename flags": (no_rename_flags(), []),
    "modes": (no_chmod(), [MODE]),
    "modes, as some say it": (no_chmod(errno.EOPNOTSUPP), [MODE]),
    "fsync": (no_fsync(), [SYNC]),
    "fsync at all": (no_fsync(errno.ENOSYS), [SYNC]),
    "unnamed files and links": (no_unnamed_files() + no_links(), []),
    "links and rename flags": (no_links() + no_rename_flags(), [RACE]),
    "all": (
        no_unnamed_files() + no_links() + no_rename_flags() + no_chmod() + no_fsync(),
        [RACE, MODE, SYNC],
    ),
    "all, as some say it": (
        no_unnamed_files(errno.EINVAL)
        + no_links(errno.ENOSYS)
        + no_rename_flags(errno.ENOSYS)
        + no_chmod(errno.ENOSYS)
        + no_fsync(errno.EOPNOTSUPP),
        [RACE, MODE, SYNC],
    ),
}


@pytest.fixture(scope="module")
def service(build_dir: Path) -> Iterator[MockService]:
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


def open_client(service: MockService, **options: Any) -> dbss.Client:
    return dbss.Client(
        endpoint=service.http,
        token=service.token,
        project_id=service.project_id,
        **options,
    )


def names(directory: Path) -> list[str]:
    return sorted(str(one.relative_to(directory)) for one in directory.rglob("*") if one.is_file())


@pytest.mark.parametrize("lacking", LACKING)
def test_a_report_is_saved_whole_whatever_the_file_system_lacks(
    service: MockService, tmp_path: Path, lacking: str
) -> None:
    rules, warned = LACKING[lacking]
    told: list[str] = []
    report = service.pdf["id"]

    def body() -> None:
        with open_client(service, log=lambda record: told.append(record.message)) as client:
            expected = client.download_report(None, service.instance_id, report)
            client.download_report_to(None, service.instance_id, report, tmp_path / "new.pdf")
            assert (tmp_path / "new.pdf").read_bytes() == expected
            assert [
                what for what in (RACE, MODE, SYNC) if any(what in one for one in told)
            ] == warned
            with contextlib.suppress(FileExistsError):
                client.download_report_to(None, service.instance_id, report, tmp_path / "new.pdf")
                raise AssertionError("it was replaced")
            (tmp_path / "old.pdf").write_text("old")
            client.download_report_to(
                None, service.instance_id, report, tmp_path / "old.pdf", replace=True
            )
            assert (tmp_path / "old.pdf").read_bytes() == expected
            (tmp_path / "directory").mkdir()
            client.download_report_to(None, service.instance_id, report, tmp_path / "directory")

    in_child(rules, body)
    assert names(tmp_path) == ["directory/audit-report.pdf", "new.pdf", "old.pdf"]


@pytest.mark.parametrize("lacking", LACKING)
def test_an_archive_is_complete_whatever_the_file_system_lacks(
    service: MockService, tmp_path: Path, lacking: str
) -> None:
    rules, _ = LACKING[lacking]
    instance = service.add_instance()
    service.add_reports(5, instance=instance)

    def body() -> None:
        with open_client(service) as client:
            assert client.mirror(tmp_path, instance_id=instance).downloaded == 5
            assert client.mirror(tmp_path, instance_id=instance, verify=True).present == 5

    in_child(rules, body)
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    own = [".dbss-mirror.lock", "SHA256SUMS", "manifest.jsonl"]
    assert names(tmp_path) == sorted([*(one["path"] for one in lines), *own])
    assert len(lines) == 5


def test_a_file_system_that_cannot_rename_is_refused_before_any_request(
    service: MockService, tmp_path: Path
) -> None:
    report = service.add_report(format="pdf")["id"]

    def body() -> None:
        with open_client(service) as client, contextlib.suppress(dbss.FileError):
            client.download_report_to(None, service.instance_id, report, tmp_path / "new.pdf")
            raise AssertionError("it was saved")

    in_child(no_unnamed_files() + no_renames(), body)
    assert names(tmp_path) == []
    assert service.requests(report) == []


# File systems that can be mounted here.


def run(*command: str | Path) -> str:
    """What is wrong with a command, in its own words; nothing where it worked."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        return str(error)
    return done.stderr or f"exit code {done.returncode}" if done.returncode else ""


@pytest.fixture(params=["tmpfs", "overlay", "vfat"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    kind = request.param
    target = tmp_path / "mounted"
    for name in ("mounted", "lower", "upper", "work"):
        (tmp_path / name).mkdir()
    source, options, wrong = "none", [], ""
    if kind == "overlay":
        layers = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
        options = ["-o", layers]
    elif kind == "vfat":
        with open(tmp_path / "image", "wb") as image:
            image.truncate(32 << 20)
        source, options = str(tmp_path / "image"), ["-o", "loop,umask=077"]
        wrong = run("mkfs.vfat", source)
    wrong = wrong or run("mount", "-t", kind, *options, source, target)
    if wrong:
        pytest.skip(f"{kind} cannot be mounted here: {wrong.strip()}")
    yield target
    assert run("umount", target) == ""


def test_files_and_archives_on_a_mounted_file_system(service: MockService, mounted: Path) -> None:
    instance, report = service.add_instance(), service.pdf["id"]
    end = os.urandom(8).hex()
    for one in (f"Same-{end}", f"sAME-{end}"):
        service.add_report(format="pdf", instance=instance, name="x", id=one)
    with open_client(service) as client:
        names = (None, service.instance_id, report)
        expected = client.download_report(*names)
        client.download_report_to(*names, mounted / "new.pdf")
        with pytest.raises(FileExistsError):
            client.download_report_to(*names, mounted / "new.pdf")
        client.download_report_to(*names, mounted / "new.pdf", replace=True)
        assert (mounted / "new.pdf").read_bytes() == expected
        archive = mounted / "archive"
        assert client.mirror(archive, instance_id=instance).downloaded == 2
        assert client.mirror(archive, instance_id=instance, verify=True).present == 2
        assert len(list(archive.rglob("*.pdf"))) == 2


# Names that are too long. A path that is nearly as long as paths may be stands for a
# file system that takes only short names.


@pytest.fixture
def deep(tmp_path: Path) -> tuple[Path, int]:
    """A directory in which names may have so many bytes, by the length of its path."""
    longest = os.pathconf(tmp_path, "PC_PATH_MAX") - 1
    path = tmp_path
    while len(str(path)) < longest - 250 - 170:
        path /= "d" * 100
    path /= "e" * max(1, longest - 160 - len(str(path)) - 2)
    path.mkdir(parents=True)
    return path, longest - len(str(path)) - 1


def test_a_name_that_is_too_long_is_shortened(service: MockService, deep: tuple[Path, int]) -> None:
    directory, longest = deep
    name = "n" * 200 + ".pdf"
    assert 143 < longest < len(name)
    headers = [["Content-Disposition", f'attachment; filename="{name}"']]
    report = service.add_report(format="pdf")["id"]
    service.fault(report, headers=headers, times=1)
    with open_client(service) as client:
        client.download_report_to(None, service.instance_id, report, directory)
        [saved] = os.listdir(directory)
        assert saved == "n" * 139 + ".pdf"
        # One of the caller's own is not.
        with pytest.raises(dbss.FileError) as caught:
            client.download_report_to(None, service.instance_id, report, directory / name)
        assert caught.value.os_code == errno.ENAMETOOLONG


def test_a_report_of_an_archive_gets_a_short_name_where_it_must(
    service: MockService, tmp_path: Path
) -> None:
    instance = service.add_instance()
    longest = os.pathconf(tmp_path, "PC_PATH_MAX") - 1
    # Behind it: the instance, the year and the name.
    room = len(f"/{instance}/2026/") + 150
    path = tmp_path
    while len(str(path)) < longest - room - 110:
        path /= "d" * 100
    path /= "e" * (longest - room - len(str(path)) - 1)
    path.mkdir(parents=True)
    name = "审" * 60
    reports = [
        service.add_report(format="pdf", instance=instance, name=name, id=one)["id"]
        for one in ("Aa" * 25 + os.urandom(4).hex(), "aA" * 25 + os.urandom(4).hex())
    ]
    with open_client(service) as client:
        assert client.mirror(path, instance_id=instance).downloaded == 2
        assert client.mirror(path, instance_id=instance, verify=True).present == 2
        lines = [json.loads(one) for one in (path / "manifest.jsonl").read_text().splitlines()]
        assert {one["id"] for one in lines} == set(reports)
        assert all(one["name"] == name for one in lines)
        assert all(len(one["path"].split("/")[-1].encode()) <= 143 for one in lines)
        (path / "manifest.jsonl").unlink()
        assert client.mirror(path, instance_id=instance).present == 2
