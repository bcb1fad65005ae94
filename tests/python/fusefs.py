"""A file system for tests: what a directory has, but for what it refuses.

`FuseMount` mounts it in a process of its own, which runs this file. The process ends
and unmounts it when its standard input is closed, also because the tests have died.
"""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import unicodedata

from mock_service import first_line

TIMEOUT = 30.0
READY = "ready\n"


class CannotMountError(Exception):
    """It cannot be mounted here, and why."""


class FuseMount:
    """A mounted file system, with these options:

    refused: the error that an operation gets, by the operation's name. rename_flags is
        a rename with flags.
    refused_to: the end of the paths that are refused that; all by default.
    room: in bytes; what is deleted gives none back.
    longest_name: in bytes.
    no_characters: those that no name may have.
    caseless: names are found whatever their case.
    decomposed: names have the normal form D, and are found in any.
    own_inodes: a file has the inode that it has in the directory, by whatever name; so
        by default.
    read_only: it is mounted so.
    """

    def __init__(self, source, target, **options):
        self._target = target
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(options), source, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "FUSE_LIBRARY_NAME": "fuse3"},
            text=True,
        )
        ready = first_line(self._process, TIMEOUT)
        if ready != READY:
            errors = self.close().splitlines()
            raise CannotMountError(errors[-1] if errors else "it did not get ready")

    def kill(self):
        """Ends its process, and leaves it mounted."""
        self._process.kill()
        self._process.wait()

    def close(self):
        """Unmounts it, whoever uses it; says what the process said of errors."""
        try:
            _, errors = self._process.communicate("", TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, errors = self._process.communicate()
        if self._process.returncode != 0:
            # It may be there still.
            unmount(self._target)
        return errors.strip()

    def __enter__(self):
        return self._target

    def __exit__(self, *_):
        end = (self.close(), self._process.returncode)
        assert end == ("", 0), end


def unmount(target):
    """Now, whoever uses it; nothing if it is not mounted."""
    subprocess.run(["fusermount3", "-u", "-z", target], capture_output=True)


def refusal(number):
    return OSError(number, os.strerror(number))


def serve(options, source, target):
    """Runs the file system until it is unmounted."""
    # Where there is no libfuse it cannot even be imported.
    import mfusepy

    refused = options.get("refused", {})
    room = options.get("room", sys.maxsize)
    caseless, decomposed = options.get("caseless", False), options.get("decomposed", False)

    def folded(name):
        """Names of one file are equal so."""
        name = unicodedata.normalize("NFD", name) if decomposed else name
        return name.casefold() if caseless else name

    def place(path):
        """Where a path is in the source."""
        found = source
        for name in path.split("/"):
            if len(os.fsencode(name)) > options.get("longest_name", 255):
                raise refusal(errno.ENAMETOOLONG)
            if set(name) & set(options.get("no_characters", "")):
                raise refusal(errno.EINVAL)
            if name and (caseless or decomposed):
                given = unicodedata.normalize("NFD", name) if decomposed else name
                there = os.listdir(found) if os.path.isdir(found) else []
                same = (one for one in there if folded(one) == folded(name))
                name = next(same, given)
            found = os.path.join(found, name)
        return found

    def refuse(function, path):
        """Refuses an operation if the options say so."""
        # A file that was deleted has no path.
        if function in refused and (path or "").endswith(options.get("refused_to", "")):
            raise refusal(refused[function])

    def simple(name, perform):
        """An operation of one line."""

        def call(self, path, *arguments):
            refuse(name, path)
            return perform(path, *arguments)

        return call

    def store(path, data, offset, fh):
        nonlocal room
        if len(data) > room:
            raise refusal(errno.ENOSPC)
        room -= len(data)
        return os.pwrite(fh, data, offset)

    def move(old, new):
        # With flags, the kernel has looked whether the new name is free.
        os.rename(place(old), place(new))

    def name_again(path, existing):
        os.link(place(existing), place(path), follow_symlinks=False)

    class Operations(mfusepy.Operations):
        use_ns = True

        def init(self, path):
            print(READY, end="", flush=True)

        def getattr(self, path, fh=None):
            found = os.lstat(place(path)) if fh is None else os.fstat(fh)
            names = ("mode", "ino", "nlink", "uid", "gid", "size", "blocks")
            times = ("atime", "mtime", "ctime")
            return {
                **{f"st_{name}": getattr(found, f"st_{name}") for name in names},
                **{f"st_{name}": getattr(found, f"st_{name}_ns") for name in times},
            }

        def readdir(self, path, fh):
            # A name without an inode would be left out.
            with os.scandir(place(path)) as found:
                inodes = {".": 1, "..": 1} | {one.name: one.inode() for one in found}
            return [(name, {"st_ino": inode}, 0) for name, inode in inodes.items()]

        # Of its parameters mfusepy asks how many there are.
        def create(self, path, mode, flags):
            refuse("create", path)
            return os.open(place(path), flags | os.O_CREAT, mode)

        mkdir = simple("mkdir", lambda path, mode: os.mkdir(place(path), mode))
        rmdir = simple("rmdir", lambda path: os.rmdir(place(path)))
        unlink = simple("unlink", lambda path: os.unlink(place(path)))
        link = simple("link", name_again)
        rename = simple("rename", move)
        rename_flags = simple("rename_flags", move)
        chmod = simple("chmod", lambda path, mode: os.chmod(place(path), mode))
        open = simple("open", lambda path, flags: os.open(place(path), flags))
        read = simple("read", lambda path, size, offset, fh: os.pread(fh, size, offset))
        write = simple("write", store)
        truncate = simple(
            "truncate",
            lambda path, length, fh=None: os.truncate(place(path) if fh is None else fh, length),
        )
        fsync = simple("fsync", lambda path, datasync, fh: os.fsync(fh))
        flush = simple("flush", lambda path, fh: None)
        flock = simple("flock", lambda path, fh, how: fcntl.flock(fh, how | fcntl.LOCK_NB))
        release = simple("release", lambda path, fh: os.close(fh))

    class Fuse(mfusepy.FUSE):
        def rename_fuse_3(self, old, new, flags):
            rename = self.operations.rename_flags if flags else self.operations.rename
            return rename(os.fsdecode(old), os.fsdecode(new))

    def end_with_the_tests():
        sys.stdin.read()
        unmount(target)
        # Who still has files open gets errors.
        os._exit(0)

    threading.Thread(target=end_with_the_tests, daemon=True).start()
    # What one name does to a file is seen by all that it has, at once.
    at_once = {"entry_timeout": 0, "attr_timeout": 0, "direct_io": True}
    try:
        Fuse(
            Operations(),
            target,
            foreground=True,
            nothreads=True,
            hard_remove=True,
            use_ino=options.get("own_inodes", True),
            ro=options.get("read_only", False),
            **at_once,
        )
    except RuntimeError:
        # libfuse has said why.
        sys.exit(1)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3])
