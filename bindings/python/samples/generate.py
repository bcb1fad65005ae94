"""Has the service generate a report of the last day, waits for it, and saves it.

python generate.py INSTANCE TEMPLATE PATH
"""

import os
import sys
from datetime import datetime, timedelta, timezone

import dbss


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("usage: generate.py INSTANCE TEMPLATE PATH")
    instance, template, path = sys.argv[1:]
    region, endpoint = os.environ.get("DBSS_REGION"), os.environ.get("DBSS_ENDPOINT")
    end = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0)
    try:
        with dbss.Client(region=region, endpoint=endpoint, credentials="default") as client:
            report = client.generate_report(instance, template, end - timedelta(days=1), end)
            # From here on the report is at the service, also if the download fails.
            print(f"generated {report}")
            print(f"saved {client.download_report_to(instance, report, path)}")
    except dbss.NotFoundError as error:
        sys.exit(f"no such instance or template: {error}")
    except dbss.AmbiguousError as error:
        sys.exit(f"one of these is the report: {', '.join(error.candidates)}")
    except dbss.Error as error:
        sys.exit(f"{error.status_name}: {error}")


main()
