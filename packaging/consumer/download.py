"""Downloads the report that the environment names, with the installed package."""

import hashlib
import os

import dbss

with dbss.Client(
    endpoint=os.environ["DBSS_ENDPOINT"],
    token=os.environ["DBSS_TOKEN"],
    ca_file=os.environ["DBSS_CA_FILE"],
) as client:
    report = client.download_report(
        os.environ["DBSS_INSTANCE_ID"],
        os.environ["DBSS_REPORT_ID"],
        project_id=os.environ["DBSS_PROJECT_ID"],
        locale=os.environ["DBSS_LOCALE"],
    )
if hashlib.sha256(report).hexdigest() != os.environ["REPORT_SHA256"]:
    raise SystemExit("not the report that the service has")
