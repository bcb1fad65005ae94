"""Prints the SHA-256 of a report while it arrives, in little memory.

python stream.py INSTANCE REPORT
"""

import hashlib
import os
import sys

import dbss


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: stream.py INSTANCE REPORT")
    instance, report = sys.argv[1:]
    region, endpoint = os.environ.get("DBSS_REGION"), os.environ.get("DBSS_ENDPOINT")
    digest = hashlib.sha256()
    try:
        client = dbss.Client(region=region, endpoint=endpoint, credentials="default")
        with client, client.open_report(instance, report, locale="zh-cn") as stream:
            for chunk in stream:
                digest.update(chunk)
    except dbss.Error as error:
        # The end of a stream comes only when the report is complete.
        sys.exit(f"{error.status_name}: {error}")
    print(f"{digest.hexdigest()}  {stream.filename}")


main()
