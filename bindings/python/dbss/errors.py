"""What can go wrong: one class for each status of libdbss, under one for its group.

``except NotFoundError`` catches one status, ``except ServiceError`` a group, and
``except Error`` all of them. A status that is newer than this package comes as
its group.
"""

from __future__ import annotations

from ._statuses import *  # noqa: F403
from ._statuses import STATUSES
from .error import Detail, Error

__all__ = ["GROUPS", "STATUSES", "Detail", "Error"]

# In tracebacks they are named as their users know them.
for _class in (Error, *STATUSES.values()):
    _class.__module__ = "dbss"

GROUPS: dict[int, type[Error]] = {
    status: one for status, one in STATUSES.items() if Error in one.__bases__
}
"""Each group's status and its class."""
