"""Downloads a report, and shows its progress. Ctrl-C ends it; then there is no file.

    python download.py INSTANCE REPORT PATH

The service is that of DBSS_REGION or DBSS_ENDPOINT, and the credentials are those that
the official SDKs would find, such as HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK.
"""

import os
import sys

import dbss


def show(now: dbss.Progress) -> None:
    print(f"\r{now.received} of {now.total or '?'} bytes", end="", file=sys.stderr)


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("usage: download.py INSTANCE REPORT PATH")
    instance, report, path = sys.argv[1:]
    region, endpoint = os.environ.get("DBSS_REGION"), os.environ.get("DBSS_ENDPOINT")
    try:
        with dbss.Client(region=region, endpoint=endpoint, credentials="default") as client:
            saved = client.download_report_to(instance, report, path, progress=show)
    except FileExistsError as error:
        sys.exit(f"{error.filename} is there already")
    except dbss.Error as error:
        sys.exit(f"{error.status_name}: {error}")
    print(f"saved {saved}")


main()
