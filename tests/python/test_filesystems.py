"""File systems that lack something: files are whole there too, or refused at once.

System calls are refused by a seccomp filter of a child process, in the way in which
s3fs, CIFS, vfat and their like refuse them.
"""

import contextlib
import ctypes
import errno
import json
import os
import platform
import struct
import subprocess
import sys
import unicodedata
from urllib.parse import quote

import dbss
import pytest

from comparing import files_in
from fusefs import CannotMountError, FuseMount
from support import Child, Report, need_tool, output

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="the numbers of system calls are those of Linux on x86-64",
)

RENAME, LINK, FSYNC, FDATASYNC, FCHMOD = 82, 86, 74, 75, 91
OPENAT, RENAMEAT, LINKAT, RENAMEAT2 = 257, 264, 265, 316
O_TMPFILE = 0x400000
ANY = 0xFFFFFFFF


def refuse(rules):
    """Has the system calls of this process refused from now on.

    A rule is a system call, the error that it gets, and bits of one of its arguments that
    must be set for that.
    """
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
    return libc.prctl(38, 1, 0, 0, 0) == libc.prctl(22, 2, ctypes.c_char_p(whole), 0, 0) == 0


def in_child(rules, body):
    """Runs a function where the calls are refused; what it asserts holds here."""

    def run():
        if not refuse(rules):
            return "there are no seccomp filters here"
        return body()

    if why := Child(run).result():
        pytest.skip(why)


def every(error, *calls):
    """The calls get this error, whatever their arguments are."""
    return [(one, error, 0, 0) for one in calls]


def no_unnamed_files(error=errno.EOPNOTSUPP):
    return [(OPENAT, error, 2, O_TMPFILE)]


def no_links(error=errno.EPERM):
    return every(error, LINK, LINKAT)


def no_rename_flags(error=errno.EINVAL):
    return [(RENAMEAT2, error, 4, ANY)]


def no_chmod(error=errno.EPERM):
    return every(error, FCHMOD)


def no_fsync(error=errno.EINVAL):
    return every(error, FSYNC, FDATASYNC)


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
        + every(errno.ENOSYS, LINK, LINKAT, FCHMOD)
        + no_rename_flags(errno.ENOSYS)
        + no_fsync(errno.EOPNOTSUPP),
        [RACE, MODE, SYNC],
    ),
}


def named_report(mock, name):
    """A report that has this name."""
    report = Report(mock, mock.add_report())
    disposition = f"attachment; filename*=UTF-8''{quote(name)}"
    report.fault(headers=[["Content-Disposition", disposition]])
    return report


@pytest.fixture
def saving(connect):
    """Saves reports at all kinds of paths; a warning says what the file system lacks."""

    def check(directory, report, named, name, warned):
        records = []
        path, into = directory / "new.pdf", directory / "directory"
        with connect(log=records.append) as client:
            expected = client.download_report(*report.ids)
            client.download_report_to(*report.ids, path)
            assert path.read_bytes() == expected
            for what in (RACE, MODE, SYNC):
                assert any(what in one.message for one in records) == (what in warned)
            path.write_text("old")
            with pytest.raises(FileExistsError):
                client.download_report_to(*report.ids, path)
            assert path.read_text() == "old"
            client.download_report_to(*report.ids, path, replace=True)
            assert path.read_bytes() == expected
            # Into a directory, under its own name.
            into.mkdir()
            client.download_report_to(*named.ids, into)
            assert (into / name).read_bytes() == client.download_report(*named.ids)
            with pytest.raises(FileExistsError):
                client.download_report_to(*named.ids, into)
            client.download_report_to(*named.ids, into, replace=True)
        found = [unicodedata.normalize("NFC", one) for one in files_in(directory)]
        assert found == [f"directory/{name}", "new.pdf"]

    return check


@pytest.mark.parametrize("lacking", LACKING)
def test_a_report_is_saved_whole_whatever_the_file_system_lacks(mock, saving, tmp_path, lacking):
    rules, warned = LACKING[lacking]
    report = Report(mock, mock.pdf)
    in_child(rules, lambda: saving(tmp_path, report, report, "audit-report.pdf", warned))


@pytest.mark.parametrize("lacking", LACKING)
def test_an_archive_is_complete_whatever_the_file_system_lacks(
    mock, connect, instance, tmp_path, lacking
):
    mock.add_reports(5, instance=instance)

    def body():
        with connect() as client:
            assert client.mirror(tmp_path, instance_id=instance).downloaded == 5
            assert client.mirror(tmp_path, instance_id=instance, verify=True).present == 5

    in_child(LACKING[lacking][0], body)
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    own = [".dbss-mirror.lock", "SHA256SUMS", "manifest.jsonl"]
    assert sorted(files_in(tmp_path)) == sorted([*(one["path"] for one in lines), *own])
    assert len(lines) == 5


def test_a_file_system_that_cannot_rename_is_refused_before_any_request(
    new_report, connect, tmp_path
):
    report = new_report()

    def body():
        with connect() as client, pytest.raises(dbss.FileError):
            client.download_report_to(*report.ids, tmp_path / "new.pdf")

    in_child(no_unnamed_files() + every(errno.EPERM, RENAME, RENAMEAT, RENAMEAT2), body)
    assert files_in(tmp_path) == []
    assert report.requests() == []


# File systems that can be mounted here.


def refusing(**refused):
    return {"refused": refused}


# What FUSE has, and the warnings that it makes.
FUSE = {
    "plain": ({}, []),
    "links": (refusing(link=errno.EPERM), []),
    "links, as some say it": (refusing(link=errno.EOPNOTSUPP), []),
    "links at all": (refusing(link=errno.ENOSYS), []),
    "rename flags": (refusing(rename_flags=errno.EINVAL), []),
    "modes": (refusing(chmod=errno.EPERM), [MODE]),
    "fsync": (refusing(fsync=errno.EINVAL), [SYNC]),
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
            **refusing(link=errno.EPERM, chmod=errno.EPERM),
            "caseless": True,
            "no_characters": '"*:<>?|\\',
        },
        [MODE],
    ),
    # The kernel takes an fsync at all for one that has nothing to do.
    "all, as object stores": (
        refusing(
            **dict.fromkeys(("link", "chmod"), errno.EPERM),
            rename_flags=errno.EINVAL,
            fsync=errno.ENOSYS,
        ),
        [RACE, MODE],
    ),
}


def failure_of(*command):
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
        source, options = str(directory / "image"), ["-o", "loop,umask=077"]
        (directory / "image").touch()
        os.truncate(source, 32 << 20)
        wrong = failure_of("mkfs.vfat", source)
    wrong = wrong or failure_of("mount", "-t", kind, *options, source, target)
    if wrong:
        pytest.skip(f"{kind} cannot be mounted here: {wrong.strip()}")
    try:
        yield target
    finally:
        # Also if a test that failed has files open.
        assert failure_of("umount", "--lazy", target) == ""


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


@pytest.fixture(params=["tmpfs", "overlay", "vfat", *FUSE])
def mounted(request, tmp_path):
    """The directory, and the warnings that it makes."""
    options, warned = FUSE.get(request.param, ({}, []))
    is_fuse = request.param in FUSE
    with (
        start_fuse(tmp_path, **options) if is_fuse else mount(request.param, tmp_path) as directory
    ):
        yield directory, warned


ACCENTS = "Pr\u00fcfung \u00e9 \ud55c\uae00"


def test_files_on_a_mounted_file_system(mock, new_report, saving, mounted):
    named = named_report(mock, f"{ACCENTS}.pdf")
    saving(mounted[0], new_report(), named, f"{ACCENTS}.pdf", mounted[1])


def test_an_archive_on_a_mounted_file_system(mock, client, instance, mounted):
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
        mock.add_report(instance=instance, name=name, id=report)
    archive = mounted[0] / "archive"

    def check():
        text = (archive / "manifest.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert {(line["name"], line["id"]) for line in lines} == set(reports)
        for line in lines:
            expected = client.download_report(instance, line["id"])
            assert (archive / line["path"]).read_bytes() == expected
        assert len({(archive / line["path"]).stat().st_ino for line in lines}) == len(reports)
        output("sha256sum", "--strict", "-c", "SHA256SUMS", cwd=archive)

    assert client.mirror(archive, instance_id=instance).downloaded == len(reports)
    check()
    mock.clear_requests()
    assert client.mirror(archive, instance_id=instance, verify=True).present == len(reports)
    assert not [sent for sent in mock.requests() if sent["report"] in dict(reports).values()]
    check()
    assert len(files_in(archive)) == len(reports) + 3
    # Also where nothing but the files is left.
    (archive / "manifest.jsonl").unlink()
    client.mirror(archive, instance_id=instance)
    check()


# File systems in trouble: their errors, and the options of FUSE.


def failing(code, *operations, **options):
    return code, {"refused": dict.fromkeys(operations, code), **options}


TROUBLE = {
    "full": (errno.ENOSPC, {"room": 100_000}),
    "over a quota": failing(errno.EDQUOT, "write"),
    "broken": failing(errno.EIO, "write"),
    "broken at fsync": failing(errno.EIO, "fsync"),
    "broken at close": failing(errno.EIO, "flush"),
    "full at close": failing(errno.ENOSPC, "flush"),
    "broken at rename": failing(errno.EIO, "rename", "rename_flags"),
    "read only": (errno.EROFS, {"read_only": True}),
}
WHILE_WRITING = ("full", "over a quota", "broken", "broken at close", "full at close")
TROUBLE_OF_MANIFEST = {
    "at write": failing(errno.EIO, "write", refused_to="manifest.jsonl"),
    "at fsync": failing(errno.EIO, "fsync", refused_to="manifest.jsonl"),
    "at close": failing(errno.ENOSPC, "flush", refused_to="manifest.jsonl"),
}


def expect_code(error, code):
    is_full = code in (errno.ENOSPC, errno.EDQUOT)
    assert type(error) is (dbss.DiskFullError if is_full else dbss.FileError)
    assert error.os_code == code


@pytest.mark.parametrize("name", WHILE_WRITING)
def test_a_descriptor_of_a_file_system_in_trouble_is_an_error(client, new_report, tmp_path, name):
    code, options = TROUBLE[name]
    report = new_report(1 << 20)
    (tmp_path / "stored").mkdir()
    with start_fuse(tmp_path, **options) as directory:
        descriptor = os.open(directory / "new.bin", os.O_CREAT | os.O_WRONLY)
        with pytest.raises(dbss.FileError) as caught:
            client.download_report_to(*report.ids, descriptor)
        expect_code(caught.value, code)
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("name", TROUBLE)
def test_a_file_system_in_trouble_gets_no_file(client, new_report, tmp_path, name, replace):
    code, options = TROUBLE[name]
    report = new_report(1 << 20)
    stored = tmp_path / "stored"
    stored.mkdir()
    if replace:
        (stored / "new.bin").write_text("old")
    with start_fuse(tmp_path, **options) as directory:
        with pytest.raises(dbss.FileError) as caught:
            client.download_report_to(*report.ids, directory / "new.bin", replace=replace)
        expect_code(caught.value, code)
        assert str(directory) in caught.value.message
    if name == "read only":
        assert report.requests() == []
    if replace:
        assert (stored / "new.bin").read_text() == "old"
    assert files_in(stored) == ["new.bin"] * replace


@pytest.mark.parametrize("name", TROUBLE)
def test_an_archive_goes_on_when_a_file_systems_trouble_is_over(
    mock, client, instance, tmp_path, name
):
    code, options = TROUBLE[name]
    reports = mock.add_reports(6, instance=instance, format="bytes", size=30_000)
    archive = tmp_path / "stored/archive"
    archive.mkdir(parents=True)
    with start_fuse(tmp_path, **options) as directory, pytest.raises(dbss.Error) as caught:
        client.mirror(directory / "archive", instance_id=instance)
    error = caught.value
    failures = error.result.failures if caught.type is dbss.PartialError else ()
    for one in [failure.error for failure in failures] or [error]:
        expect_code(one, code)
    for path in archive.rglob("*.bin"):
        [report] = [one for one in reports if one in path.name]
        assert path.read_bytes() == client.download_report(instance, report)
    result = client.mirror(archive, instance_id=instance)
    assert result.downloaded + result.present == len(reports)
    assert client.mirror(archive, instance_id=instance, verify=True).present == len(reports)
    assert len(files_in(archive)) == len(reports) + 3
    assert not list(archive.rglob("*.part"))


@pytest.mark.parametrize("name", TROUBLE_OF_MANIFEST)
def test_a_manifest_that_cannot_be_written_is_an_error(mock, client, instance, tmp_path, name):
    code, options = TROUBLE_OF_MANIFEST[name]
    mock.add_reports(3, instance=instance)
    with start_fuse(tmp_path, **options) as directory, pytest.raises(dbss.FileError) as caught:
        client.mirror(directory, instance_id=instance)
    expect_code(caught.value, code)
    assert "manifest.jsonl" in caught.value.message
    stored = tmp_path / "stored"
    client.mirror(stored, instance_id=instance)
    assert client.mirror(stored, instance_id=instance, verify=True).present == 3


def test_a_file_system_whose_process_has_ended_is_told(mock, client, new_report, tmp_path):
    mounted, directory = start_fuse(tmp_path), tmp_path / "mounted"
    report = new_report()
    try:
        mounted.kill()
        for call, ids, name in (
            (client.download_report_to, report.ids, "new.pdf"),
            (client.mirror, (), "archive"),
        ):
            for path in (directory, directory / name):
                with pytest.raises(dbss.FileError) as caught:
                    call(*ids, path)
                assert caught.value.os_code == errno.ENOTCONN
        assert mock.requests() == []
    finally:
        mounted.close()


def test_a_file_system_without_locks_has_no_archive(mock, client, instance, tmp_path):
    with start_fuse(tmp_path, **refusing(flock=errno.ENOSYS)) as directory:
        with pytest.raises(dbss.FileError) as caught:
            client.mirror(directory, instance_id=instance)
        assert "cannot lock" in caught.value.message
        assert mock.requests() == []


def test_a_name_is_shortened_where_only_short_ones_are_taken(mock, client, tmp_path):
    name = "\u5ba1" * 60 + ".pdf"
    report = named_report(mock, name)
    with start_fuse(tmp_path, longest_name=143) as directory:
        client.download_report_to(*report.ids, directory)
        assert os.listdir(directory) == ["\u5ba1" * 46 + ".pdf"]
        with pytest.raises(FileExistsError):
            client.download_report_to(*report.ids, directory)
        # One of the caller's own is not.
        mock.clear_requests()
        with pytest.raises(dbss.FileError) as caught:
            client.download_report_to(*report.ids, directory / name)
        assert caught.value.os_code == errno.ENAMETOOLONG
        assert report.requests() == []
