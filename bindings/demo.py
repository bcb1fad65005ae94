"""Downloads reports through the C program and through Python, and shows them.

From a mock service of the service on this machine; or from the real service, when
DBSS_REGION or DBSS_ENDPOINT, DBSS_INSTANCE_ID and DBSS_REPORT_ID are in the
environment; with the credentials of DBSS_TOKEN, or those that the official SDKs
would find. `make demo` runs it, and tells it where the built things are.
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
OUT = BUILD / "demo"

SERVICE = ("DBSS_INSTANCE_ID", "DBSS_REPORT_ID")


def through_c(environment: dict[str, str], path: Path) -> bytes:
    command = [str(BUILD / "bin/dbss-download"), "--force", "--output", str(path)]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return path.read_bytes()


def through_python(environment: dict[str, str]) -> bytes:
    # Empty counts as absent, as for the C program.
    given = {name: value for name, value in {**os.environ, **environment}.items() if value}
    token = given.get("DBSS_TOKEN")
    with dbss.Client(
        endpoint=given.get("DBSS_ENDPOINT"),
        region=given.get("DBSS_REGION"),
        token=token,
        credentials="default" if token is None else None,
        ca_file=given.get("DBSS_CA_FILE"),
    ) as client:
        return client.download_report(
            given.get("DBSS_PROJECT_ID"),
            given["DBSS_INSTANCE_ID"],
            given["DBSS_REPORT_ID"],
            locale=given.get("DBSS_LOCALE"),
        )


def fetch(name: str, environment: dict[str, str], expected: str | None) -> None:
    path = OUT / name
    from_c = through_c(environment, path)
    if through_python(environment) != from_c:
        sys.exit("the C program and Python got different bytes")
    digest = hashlib.sha256(from_c).hexdigest()
    if expected not in (None, digest):
        sys.exit(f"{path}: not the report that the service has")
    print(f"{path}\n    {len(from_c)} bytes through C and through Python alike, SHA-256 {digest}")


def show(path: Path) -> None:
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
    real = all(os.environ.get(name) for name in SERVICE)
    if real and (os.environ.get("DBSS_ENDPOINT") or os.environ.get("DBSS_REGION")):
        fetch("audit-report", {}, None)
        return

    with MockService(BUILD / "bin/dbss-mock") as mock:
        print(f"a mock service for the service answers at {mock.https}\n")
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
            fetch(name, environment, report["sha256"][locale])
            show(OUT / name)


if __name__ == "__main__":
    main()
