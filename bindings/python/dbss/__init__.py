"""Downloads audit reports from Huawei Cloud's Database Security Service (DBSS).

    import dbss

    with dbss.Client(region="cn-north-4", credentials="default") as client:
        path = client.download_report_to(None, instance_id, report_id, "reports/")

A binding of libdbss, whose shared library it needs: that of the environment's
DBSS_LIBRARY, else a libdbss.so.0 in this directory, else the system's.
"""

import sys as _sys

try:
    from ._abi import LOG_DEBUG, LOG_ERROR, LOG_INFO, LOG_WARNING
except ImportError as error:
    # What `python -m dbss` imports first. Python 3.9 does not tell how it was started.
    _words = getattr(_sys, "orig_argv", [])
    if _sys.argv[:1] != ["-m"] or ("-m", "dbss") not in zip(_words, _words[1:]):
        raise
    if _sys.stderr is not None:
        print(f"dbss: {error}", file=_sys.stderr)
    # As for any other file of this machine that cannot be used.
    _sys.exit(7)

from . import _statuses
from ._statuses import *  # noqa: F403
from .client import Client, features, has_feature, version
from .credentials import Credentials, Token
from .error import Detail, Error
from .lists import Instance, Items, Report, Template
from .log import LogRecord
from .mirror import Gap, MirrorFailure, MirrorResult
from .operation import Operation, Progress
from .settings import DEFAULT, Option, options
from .stream import ReportStream

__version__ = "0.1.0"

__all__ = [
    "DEFAULT",
    "LOG_DEBUG",
    "LOG_ERROR",
    "LOG_INFO",
    "LOG_WARNING",
    "Client",
    "Credentials",
    "Detail",
    "Error",
    "Gap",
    "Instance",
    "Items",
    "LogRecord",
    "MirrorFailure",
    "MirrorResult",
    "Operation",
    "Option",
    "Progress",
    "Report",
    "ReportStream",
    "Template",
    "Token",
    "__version__",
    "features",
    "has_feature",
    "options",
    "version",
]
__all__ += _statuses.__all__
