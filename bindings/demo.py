"""Downloads reports with the command dbss and with Python, and prints a summary.

By default it uses a mock service on this machine. If the environment has DBSS_REGION or
DBSS_ENDPOINT, and DBSS_INSTANCE_ID and DBSS_REPORT_ID, it uses the real service. The
credentials are DBSS_TOKEN, or those that the official SDKs would find. `make demo` runs
it with the paths of the build. Its argument is the directory for the reports, which is
emptied first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dbss
from mock_service import MockService

BUILD = Path(os.environ["DBSS_BUILD_DIR"])
OUT = Path(sys.argv[1])

REPORT_VARIABLES = ("DBSS_INSTANCE_ID", "DBSS_REPORT_ID")


def download_with_command(environment: dict[str, str], path: Path) -> bytes:
    command = [str(BUILD / "bin/dbss"), "download", "--force", "--output", str(path)]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return path.read_bytes()


def download_with_python(environment: dict[str, str]) -> bytes:
    # An empty variable counts as unset, as in the command.
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value}
    token = variables.get("DBSS_TOKEN")
    with dbss.Client(
        endpoint=variables.get("DBSS_ENDPOINT"),
        region=variables.get("DBSS_REGION"),
        token=token,
        credentials="default" if token is None else None,
        ca_file=variables.get("DBSS_CA_FILE"),
    ) as client:
        return client.download_report(
            variables["DBSS_INSTANCE_ID"],
            variables["DBSS_REPORT_ID"],
            project_id=variables.get("DBSS_PROJECT_ID"),
            locale=variables.get("DBSS_LOCALE"),
        )


def compare_downloads(name: str, environment: dict[str, str], expected: str | None) -> None:
    path = OUT / name
    report = download_with_command(environment, path)
    if download_with_python(environment) != report:
        sys.exit("the command and Python got different bytes")
    digest = hashlib.sha256(report).hexdigest()
    if expected not in (None, digest):
        sys.exit(f"{path}: not the report that the service has")
    print(
        f"{path}\n    {len(report)} bytes, the same with the command and Python, SHA-256 {digest}"
    )


def print_summary(path: Path) -> None:
    if path.suffix == ".pdf" and shutil.which("pdfinfo"):
        lines = subprocess.run(["pdfinfo", path], check=True, capture_output=True, text=True).stdout
    elif path.suffix == ".zip":
        command = [sys.executable, "-m", "zipfile", "--list", str(path)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    else:
        return
    print(*(f"    {line}" for line in lines.splitlines()), sep="\n")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    print(f"libdbss {dbss.version()}")
    use_real_service = all(os.environ.get(name) for name in REPORT_VARIABLES)
    if use_real_service and (os.environ.get("DBSS_ENDPOINT") or os.environ.get("DBSS_REGION")):
        compare_downloads("audit-report", {}, None)
        return

    with MockService(BUILD / "bin/dbss-mock") as mock:
        print(f"the mock service listens at {mock.https}\n")
        for report, locale in ((mock.pdf, "en-us"), (mock.zip, "zh-cn")):
            environment = {
                "DBSS_ENDPOINT": mock.https,
                "DBSS_CA_FILE": mock.ca_file,
                "DBSS_TOKEN": mock.token,
                "DBSS_PROJECT_ID": mock.project_id,
                "DBSS_INSTANCE_ID": mock.instance_id,
                "DBSS_REPORT_ID": report["id"],
                "DBSS_LOCALE": locale,
            }
            name = f"audit-report-{locale}.{report['format']}"
            compare_downloads(name, environment, report["sha256"][locale])
            print_summary(OUT / name)


if __name__ == "__main__":
    main()
