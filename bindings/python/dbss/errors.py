"""The exceptions: a class for each status of libdbss, derived from that of its group.

``except NotFoundError`` catches one status, ``except ServiceError`` a group, and
``except Error`` all of them. A status that is newer than this package raises the
class of its group. FileNotFoundError, NotADirectoryError and PermissionError are a
FileError that has the errno of the builtin exception of this name, from which they derive.
"""

from __future__ import annotations

import builtins
import errno

from ._statuses import *  # noqa: F403
from ._statuses import STATUSES, FileError
from .base_error import Detail, Error


class FileNotFoundError(FileError, builtins.FileNotFoundError):
    """A file or a directory does not exist."""


class NotADirectoryError(FileError, builtins.NotADirectoryError):
    """A part of the path is a file, and no directory."""


class PermissionError(FileError, builtins.PermissionError):
    """The operating system does not permit the use of a file or a directory."""


__all__ = [
    "FILE_ERRORS",
    "GROUPS",
    "STATUSES",
    "Detail",
    "Error",
    "FileNotFoundError",
    "NotADirectoryError",
    "PermissionError",
]

FILE_ERRORS: dict[int, type[FileError]] = {
    errno.ENOENT: FileNotFoundError,
    errno.ENOTDIR: NotADirectoryError,
    errno.EACCES: PermissionError,
    errno.EPERM: PermissionError,
}
"""The class of a FileError, by its errno, where Python has one of its own."""

# Tracebacks show the public name of a class.
for _class in (Error, *STATUSES.values(), *FILE_ERRORS.values()):
    _class.__module__ = "dbss"

GROUPS: dict[int, type[Error]] = {
    status: error_class
    for status, error_class in STATUSES.items()
    if Error in error_class.__bases__
}
"""The class of each group, by the status of the group."""
