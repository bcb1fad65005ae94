"""Downloads audit reports from Huawei Cloud's Database Security Service (DBSS).

    import dbss

    with dbss.Client(region="cn-north-4", credentials="default") as client:
        path = client.download_report_to(instance_id, report_id, "reports/")

A binding of libdbss. It loads the shared library from the path in the environment
variable DBSS_LIBRARY, else libdbss.so.0 from this directory, else from the system.
"""

import sys as _sys
from typing import Final as _Final

try:
    from . import _abi
except ImportError as error:
    # `python -m dbss` imports this first. Python 3.9 has no sys.orig_argv.
    _arguments = getattr(_sys, "orig_argv", [])
    if _sys.argv[:1] != ["-m"] or ("-m", "dbss") not in zip(_arguments, _arguments[1:]):
        raise
    if _sys.stderr is not None:
        print(f"dbss: {error}", file=_sys.stderr)
    # The exit code for any local file that cannot be used.
    _sys.exit(7)

from . import _statuses, settings
from ._statuses import *  # noqa: F403
from .base_error import Detail, Error
from .client import Client, features, has_feature, version
from .credentials import Credentials, Token
from .errors import FileNotFoundError, NotADirectoryError, PermissionError
from .lists import Database, Instance, Items, Report, Schedule, Template
from .log import LogRecord
from .mirror import Gap, MirrorFailure, MirrorResult
from .operation import Operation, Progress
from .settings import Option, options
from .stream import ReportStream

__version__ = "0.1.0"

DEFAULT: _Final = settings.DEFAULT
"""Stands for the default of libdbss; see options()."""
LOG_ERROR: _Final = _abi.LOG_ERROR
"""The level of log records about calls that failed."""
LOG_WARNING: _Final = _abi.LOG_WARNING
"""The level of log records about problems that libdbss handled, such as a broken transfer."""
LOG_INFO: _Final = _abi.LOG_INFO
"""The level of log records about what a call did."""
LOG_DEBUG: _Final = _abi.LOG_DEBUG
"""The level of log records about requests and their responses."""

__all__ = [
    "DEFAULT",
    "LOG_DEBUG",
    "LOG_ERROR",
    "LOG_INFO",
    "LOG_WARNING",
    "Client",
    "Credentials",
    "Database",
    "Detail",
    "Error",
    "FileNotFoundError",
    "Gap",
    "Instance",
    "Items",
    "LogRecord",
    "MirrorFailure",
    "MirrorResult",
    "NotADirectoryError",
    "Operation",
    "Option",
    "PermissionError",
    "Progress",
    "Report",
    "ReportStream",
    "Schedule",
    "Template",
    "Token",
    "__version__",
    "features",
    "has_feature",
    "options",
    "version",
]
__all__ += _statuses.__all__
