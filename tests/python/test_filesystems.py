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
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dbss
import pytest

from conftest import need_tool
from fusefs import CannotMountError, FuseMount
from mock_service import MockService

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


def refuse(rules):
    """Has the system calls of this process refused from now on."""
    load, jump_equal, jump_set, give = 0x20, 0x15, 0x45, 0x06
    errno_of_filter, allow = 0x00050000, 0x7FFF0000
    program = []
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


def in_child(rules, body):
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


def no_unnamed_files(error=errno.EOPNOTSUPP):
    return [(OPENAT, error, 2, O_TMPFILE)]


def no_links(error=errno.EPERM):
    return [(LINK, error, 0, 0), (LINKAT, error, 0, 0)]


def no_rename_flags(error=errno.EINVAL):
    return [(RENAMEAT2, error, 4, ANY)]


def no_chmod(error=errno.EPERM):
    return [(FCHMOD, error, 0, 0)]


def no_fsync(error=errno.EINVAL):
    return [(FSYNC, error, 0, 0), (FDATASYNC, error, 0, 0)]


def no_renames(error=errno.EPERM):
    return [(one, error, 0, 0) for one in (RENAME, RENAMEAT, RENAMEAT2)]


MODE, SYNC, RACE = "mode", "on the disk", "same moment"
LACKING = {
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
def service(build_dir):
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


def open_client(service, **options):
    return dbss.Client(
        endpoint=service.http, token=service.token, project_id=service.project_id, **options
    )


def names(directory):
    return sorted(str(one.relative_to(directory)) for one in directory.rglob("*") if one.is_file())


@pytest.mark.parametrize("lacking", LACKING)
def test_a_report_is_saved_whole_whatever_the_file_system_lacks(service, tmp_path, lacking):
    rules, warned = LACKING[lacking]
    told = []
    report = service.pdf["id"]

    def body():
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
def test_an_archive_is_complete_whatever_the_file_system_lacks(service, tmp_path, lacking):
    rules, _ = LACKING[lacking]
    instance = service.add_instance()
    service.add_reports(5, instance=instance)

    def body():
        with open_client(service) as client:
            assert client.mirror(tmp_path, instance_id=instance).downloaded == 5
            assert client.mirror(tmp_path, instance_id=instance, verify=True).present == 5

    in_child(rules, body)
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    own = [".dbss-mirror.lock", "SHA256SUMS", "manifest.jsonl"]
    assert names(tmp_path) == sorted([*(one["path"] for one in lines), *own])
    assert len(lines) == 5


def test_a_file_system_that_cannot_rename_is_refused_before_any_request(service, tmp_path):
    report = service.add_report(format="pdf")["id"]

    def body():
        with open_client(service) as client, contextlib.suppress(dbss.FileError):
            client.download_report_to(None, service.instance_id, report, tmp_path / "new.pdf")
            raise AssertionError("it was saved")

    in_child(no_unnamed_files() + no_renames(), body)
    assert names(tmp_path) == []
    assert service.requests(report) == []


# File systems that can be mounted here.

# What FUSE has, and the warnings that it makes.
FUSE = {
    "plain": ({}, []),
    "links": ({"refused": {"link": errno.EPERM}}, []),
    "links, as some say it": ({"refused": {"link": errno.EOPNOTSUPP}}, []),
    "links at all": ({"refused": {"link": errno.ENOSYS}}, []),
    "rename flags": ({"refused": {"rename_flags": errno.EINVAL}}, []),
    "modes": ({"refused": {"chmod": errno.EPERM}}, [MODE]),
    "fsync": ({"refused": {"fsync": errno.EINVAL}}, [SYNC]),
    "long names": ({"longest_name": 143}, []),
    "case": ({"caseless": True}, []),
    "normal forms": ({"decomposed": True}, []),
    "case and normal forms": ({"caseless": True, "decomposed": True}, []),
    "case and normal forms, with an inode for each name": (
        {"caseless": True, "decomposed": True, "own_inodes": False},
        [],
    ),
    "all, as vfat": (
        {
            "refused": {"link": errno.EPERM, "chmod": errno.EPERM},
            "caseless": True,
            "no_characters": '"*:<>?|\\',
        },
        [MODE],
    ),
    # The kernel takes an fsync at all for one that has nothing to do.
    "all, as object stores": (
        {
            "refused": {
                "link": errno.EPERM,
                "chmod": errno.EPERM,
                "rename_flags": errno.EINVAL,
                "fsync": errno.ENOSYS,
            }
        },
        [RACE, MODE],
    ),
}


def run(*command):
    """What is wrong with a command, in its own words; nothing where it worked."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        return str(error)
    return done.stderr or f"exit code {done.returncode}" if done.returncode else ""


@contextlib.contextmanager
def mount(kind, directory):
    target = directory / "mounted"
    for name in ("mounted", "lower", "upper", "work"):
        (directory / name).mkdir()
    source, options, wrong = "none", [], ""
    if kind == "overlay":
        layers = ",".join(f"{name}dir={directory / name}" for name in ("lower", "upper", "work"))
        options = ["-o", layers]
    elif kind == "vfat":
        with open(directory / "image", "wb") as image:
            image.truncate(32 << 20)
        source, options = str(directory / "image"), ["-o", "loop,umask=077"]
        wrong = run("mkfs.vfat", source)
    wrong = wrong or run("mount", "-t", kind, *options, source, target)
    if wrong:
        pytest.skip(f"{kind} cannot be mounted here: {wrong.strip()}")
    try:
        yield target
    finally:
        # Also if a test that failed has files open.
        assert run("umount", "--lazy", target) == ""


def start_fuse(directory, **options):
    """What is mounted has the files of a directory beside it, "stored"."""
    need_tool("fusermount3")
    for name in ("mounted", "stored"):
        (directory / name).mkdir(exist_ok=True)
    try:
        return FuseMount(directory / "stored", directory / "mounted", **options)
    except CannotMountError as error:
        # A skip in CI would hide for ever that the test never runs.
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"FUSE cannot be mounted here: {error}")


@dataclass
class Mounted:
    directory: Path
    warned: list[str]


@pytest.fixture(params=["tmpfs", "overlay", "vfat", *(f"fuse: {kind}" for kind in FUSE)])
def mounted(request, tmp_path):
    kind = request.param
    if kind in ("tmpfs", "overlay", "vfat"):
        with mount(kind, tmp_path) as directory:
            yield Mounted(directory, [])
        return
    options, warned = FUSE[kind.removeprefix("fuse: ")]
    with start_fuse(tmp_path, **options) as directory:
        yield Mounted(directory, warned)


ACCENTS = "Pr\u00fcfung \u00e9 \ud55c\uae00"


def test_files_on_a_mounted_file_system(service, mounted):
    report = service.add_report(format="pdf")["id"]
    named = service.add_report(format="pdf")["id"]
    name = f"{ACCENTS}.pdf"
    headers = [["Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}"]]
    service.fault(named, headers=headers)
    path = mounted.directory / "new.pdf"
    told = []
    with open_client(service, log=lambda record: told.append(record.message)) as client:
        what = (None, service.instance_id, report)
        expected = client.download_report(*what)
        client.download_report_to(*what, path)
        assert path.read_bytes() == expected
        for other in (RACE, MODE, SYNC):
            assert any(other in one for one in told) == (other in mounted.warned)
        path.write_text("old")
        with pytest.raises(FileExistsError):
            client.download_report_to(*what, path)
        assert path.read_text() == "old"
        client.download_report_to(*what, path, replace=True)
        assert path.read_bytes() == expected
        # Into a directory, under its own name.
        what = (None, service.instance_id, named)
        into = mounted.directory / "directory"
        into.mkdir()
        client.download_report_to(*what, into)
        assert (into / name).read_bytes() == client.download_report(*what)
        with pytest.raises(FileExistsError):
            client.download_report_to(*what, into)
        client.download_report_to(*what, into, replace=True)
    found = [unicodedata.normalize("NFC", one) for one in names(mounted.directory)]
    assert found == sorted([f"directory/{name}", "new.pdf"])


def test_an_archive_on_a_mounted_file_system(service, mounted):
    instance = service.add_instance()
    one, other = os.urandom(8).hex(), os.urandom(8).hex()
    reports = [
        ("x", f"Same-{one}"),
        ("x", f"sAME-{one}"),
        (ACCENTS, f"Accents-{one}"),
        ("\u5ba1" * 100, f"Long-{one}"),
        *(("\u5ba1" * 60, begin * 20 + one) for begin in ("Aa", "aA")),
        ('12:00 <"a|b?">*', f"Characters-{one}"),
        # These names are one in several normal forms.
        ("\u00e9", f"{one}_{other}"),
        (f"e\u0301_{one}", other),
    ]
    for name, report in reports:
        service.add_report(format="pdf", instance=instance, name=name, id=report)

    def check():
        text = (archive / "manifest.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert {(line["name"], line["id"]) for line in lines} == set(reports)
        for line in lines:
            expected = client.download_report(None, instance, line["id"])
            assert (archive / line["path"]).read_bytes() == expected
        assert len({(archive / line["path"]).stat().st_ino for line in lines}) == len(reports)
        assert run("sh", "-c", f"cd '{archive}' && sha256sum --strict -c SHA256SUMS") == ""

    archive = mounted.directory / "archive"
    with open_client(service) as client:
        assert client.mirror(archive, instance_id=instance).downloaded == len(reports)
        check()
        service.clear_requests()
        assert client.mirror(archive, instance_id=instance, verify=True).present == len(reports)
        assert not [sent for sent in service.requests() if sent["report"] in dict(reports).values()]
        check()
        assert len(names(archive)) == len(reports) + 3
        # Also where nothing but the files is left.
        (archive / "manifest.jsonl").unlink()
        client.mirror(archive, instance_id=instance)
        check()


# File systems in trouble.


@dataclass
class Trouble:
    code: int
    # Those of FUSE.
    options: dict[str, Any]

    def check(self, error):
        is_full = self.code in (errno.ENOSPC, errno.EDQUOT)
        assert type(error) is (dbss.DiskFullError if is_full else dbss.FileError)
        assert error.os_code == self.code


def refusing(code, *operations, **options):
    return Trouble(code, {"refused": dict.fromkeys(operations, code), **options})


TROUBLE = {
    "full": Trouble(errno.ENOSPC, {"room": 100_000}),
    "over a quota": refusing(errno.EDQUOT, "write"),
    "broken": refusing(errno.EIO, "write"),
    "broken at fsync": refusing(errno.EIO, "fsync"),
    "broken at close": refusing(errno.EIO, "flush"),
    "full at close": refusing(errno.ENOSPC, "flush"),
    "broken at rename": refusing(errno.EIO, "rename", "rename_flags"),
    "read only": Trouble(errno.EROFS, {"read_only": True}),
}
TROUBLE_OF_MANIFEST = {
    "at write": refusing(errno.EIO, "write", refused_to="manifest.jsonl"),
    "at fsync": refusing(errno.EIO, "fsync", refused_to="manifest.jsonl"),
    "at close": refusing(errno.ENOSPC, "flush", refused_to="manifest.jsonl"),
}


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("name", TROUBLE)
def test_a_file_system_in_trouble_gets_no_file(service, tmp_path, name, replace):
    trouble = TROUBLE[name]
    report = service.add_report(format="bytes", size=1 << 20)["id"]
    stored = tmp_path / "stored"
    stored.mkdir()
    if replace:
        (stored / "new.bin").write_text("old")
    with start_fuse(tmp_path, **trouble.options) as directory, open_client(service) as client:
        with pytest.raises(dbss.FileError) as caught:
            client.download_report_to(
                None, service.instance_id, report, directory / "new.bin", replace=replace
            )
        trouble.check(caught.value)
        assert str(directory) in caught.value.message
    if name == "read only":
        assert service.requests(report) == []
    if replace:
        assert (stored / "new.bin").read_text() == "old"
    assert names(stored) == ["new.bin"] * replace


@pytest.mark.parametrize("name", TROUBLE)
def test_an_archive_goes_on_when_a_file_systems_trouble_is_over(service, tmp_path, name):
    trouble = TROUBLE[name]
    instance = service.add_instance()
    reports = service.add_reports(6, instance=instance, format="bytes", size=30_000)
    archive = tmp_path / "stored/archive"
    archive.mkdir(parents=True)
    with open_client(service) as client:
        with start_fuse(tmp_path, **trouble.options) as directory:
            with pytest.raises(dbss.Error) as caught:
                client.mirror(directory / "archive", instance_id=instance)
            if caught.type is dbss.PartialError:
                errors = [failure.error for failure in caught.value.result.failures]
            else:
                errors = [caught.value]
            for error in errors:
                trouble.check(error)
        for name in names(archive):
            if name.endswith(".bin"):
                [report] = [one for one in reports if one in name]
                whole = client.download_report(None, instance, report)
                assert (archive / name).read_bytes() == whole
        result = client.mirror(archive, instance_id=instance)
        assert result.downloaded + result.present == len(reports)
        assert client.mirror(archive, instance_id=instance, verify=True).present == len(reports)
    assert len(names(archive)) == len(reports) + 3
    assert not [name for name in names(archive) if name.endswith(".part")]


@pytest.mark.parametrize("name", TROUBLE_OF_MANIFEST)
def test_a_manifest_that_cannot_be_written_is_an_error(service, tmp_path, name):
    trouble = TROUBLE_OF_MANIFEST[name]
    instance = service.add_instance()
    service.add_reports(3, instance=instance)
    with open_client(service) as client:
        with start_fuse(tmp_path, **trouble.options) as directory:
            with pytest.raises(dbss.FileError) as caught:
                client.mirror(directory, instance_id=instance)
            trouble.check(caught.value)
            assert "manifest.jsonl" in caught.value.message
        stored = tmp_path / "stored"
        client.mirror(stored, instance_id=instance)
        assert client.mirror(stored, instance_id=instance, verify=True).present == 3


def test_a_file_system_whose_process_has_ended_is_told(service, tmp_path):
    mounted = start_fuse(tmp_path)
    directory = tmp_path / "mounted"
    report = service.add_report(format="pdf")["id"]
    try:
        mounted.kill()
        service.clear_requests()
        with open_client(service) as client:
            for path in (directory, directory / "new.pdf"):
                with pytest.raises(dbss.FileError) as caught:
                    client.download_report_to(None, service.instance_id, report, path)
                assert caught.value.os_code == errno.ENOTCONN
            for path in (directory, directory / "archive"):
                with pytest.raises(dbss.FileError) as caught:
                    client.mirror(path)
                assert caught.value.os_code == errno.ENOTCONN
        assert service.requests() == []
    finally:
        mounted.close()


def test_a_file_system_without_locks_has_no_archive(service, tmp_path):
    instance = service.add_instance()
    with start_fuse(tmp_path, refused={"flock": errno.ENOSYS}) as directory:
        service.clear_requests()
        with open_client(service) as client, pytest.raises(dbss.FileError) as caught:
            client.mirror(directory, instance_id=instance)
        assert "cannot lock" in caught.value.message
        assert service.requests() == []


def test_a_name_is_shortened_where_only_short_ones_are_taken(service, tmp_path):
    name = "\u5ba1" * 60 + ".pdf"
    headers = [["Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}"]]
    report = service.add_report(format="pdf")["id"]
    service.fault(report, headers=headers)
    with start_fuse(tmp_path, longest_name=143) as directory, open_client(service) as client:
        client.download_report_to(None, service.instance_id, report, directory)
        assert os.listdir(directory) == ["\u5ba1" * 46 + ".pdf"]
        with pytest.raises(FileExistsError):
            client.download_report_to(None, service.instance_id, report, directory)
        # One of the caller's own is not.
        service.clear_requests()
        with pytest.raises(dbss.FileError) as caught:
            client.download_report_to(None, service.instance_id, report, directory / name)
        assert caught.value.os_code == errno.ENAMETOOLONG
        assert service.requests(report) == []
