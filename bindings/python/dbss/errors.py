"""The exceptions: a class for each status of libdbss, derived from that of its group.

``except NotFoundError`` catches one status, ``except ServiceError`` a group, and
``except Error`` all of them. A status that is newer than this package raises the
class of its group.
"""

from __future__ import annotations

from ._statuses import *  # noqa: F403
from ._statuses import STATUSES
from .base_error import Detail, Error

__all__ = ["GROUPS", "STATUSES", "Detail", "Error"]

# Tracebacks show the public name of a class.
for _class in (Error, *STATUSES.values()):
    _class.__module__ = "dbss"

GROUPS: dict[int, type[Error]] = {
    status: error_class
    for status, error_class in STATUSES.items()
    if Error in error_class.__bases__
}
"""The class of each group, by the status of the group."""
