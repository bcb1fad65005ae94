"""Brings a local archive of reports up to date, for a nightly job.

    python mirror.py DIRECTORY [SINCE]

SINCE is a day such as 2026-11-24.
"""

import logging
import os
import sys

import dbss


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: mirror.py DIRECTORY [SINCE]")
    logging.basicConfig(level=logging.WARNING)
    client = dbss.Client(
        region=os.environ.get("DBSS_REGION"),
        endpoint=os.environ.get("DBSS_ENDPOINT"),
        credentials="default",
        log=logging.getLogger("dbss"),
    )
    failure = None
    with client:
        try:
            result = client.mirror(sys.argv[1], since=(*sys.argv, None)[2])
        except dbss.Error as error:
            failure, result = error, error.result
    if result is not None:
        print(f"{result.downloaded} new, {result.present} already there")
        for one in result.failures:
            print(f"instance {one.instance_id}, report {one.report_id}: {one.error}")
        for gap in result.gaps:
            print(f"no {gap.type} of {gap.period} for instance {gap.instance_id}")
    if failure is not None:
        sys.exit(f"{failure.status_name}: {failure}")


main()
