"""Downloads a report COUNT times over one connection and prints what that cost, as JSON.

    peers.py PEER SINK ENDPOINT REPORT COUNT

PEER is libdbss, requests, httpx or sdk; SINK is memory or stream, which discards the bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT, INSTANCE = (
    "0123456789abcdef0123456789abcdef",
    "00000000-1111-2222-3333-444444444444",
)
# As long as those of IAM.
TOKEN = "t" * 4096
CHUNK = 64 * 1024

# Downloads a report, and returns the number of its bytes.
Download = "Callable[[str], int]"


def count(chunks: Iterable[bytes]) -> int:
    return sum(map(len, chunks))


def with_dbss(endpoint: str, stream: bool) -> Download:
    import dbss

    client = dbss.Client(endpoint=endpoint, token=TOKEN, project_id=PROJECT)

    def download(report: str) -> int:
        if not stream:
            return len(client.download_report(INSTANCE, report))
        with client.open_report(INSTANCE, report) as opened:
            return count(opened)

    return download


def url(endpoint: str, report: str) -> str:
    return f"{endpoint}/v1/{PROJECT}/audit/{INSTANCE}/reports/{report}/download"


HEADERS = {"X-Auth-Token": TOKEN, "Content-Type": "application/json"}


def with_requests(endpoint: str, stream: bool) -> Download:
    import requests

    session = requests.Session()

    def download(report: str) -> int:
        with session.get(url(endpoint, report), headers=HEADERS, stream=stream) as got:
            got.raise_for_status()
            return count(got.iter_content(CHUNK)) if stream else len(got.content)

    return download


def with_httpx(endpoint: str, stream: bool) -> Download:
    import httpx

    client = httpx.Client()

    def download(report: str) -> int:
        if not stream:
            return len(
                client.get(url(endpoint, report), headers=HEADERS)
                .raise_for_status()
                .content
            )
        with client.stream("GET", url(endpoint, report), headers=HEADERS) as got:
            return count(got.raise_for_status().iter_bytes())

    return download


def with_sdk(endpoint: str, stream: bool) -> Download:
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkdbss.v1 import DbssClient, DownloadAuditReportRequest

    credentials = BasicCredentials("BENCHMARK", "x" * 40, PROJECT)
    builder = DbssClient.new_builder().with_credentials(credentials)
    client = builder.with_endpoint(endpoint).build()

    def download(report: str) -> int:
        sizes = []
        request = DownloadAuditReportRequest(INSTANCE, report, "en-us")

        def consume(got: object) -> None:
            chunks = got.iter_content(CHUNK)
            sizes.append(count(chunks) if stream else len(b"".join(chunks)))

        client.download_audit_report(request).consume_download_stream(consume)
        return sizes[0]

    return download


PEERS = {
    "libdbss": with_dbss,
    "requests": with_requests,
    "httpx": with_httpx,
    "sdk": with_sdk,
}


def peak() -> int:
    """The peak of resident memory in KiB; that of getrusage includes the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    peer, sink, endpoint, report, times = sys.argv[1:]
    download = PEERS[peer](endpoint, sink == "stream")
    download("benchmark-warm-up")
    idle = peak()
    if sink != "stream":
        download(report)
    wall, before = time.perf_counter(), cpu()
    received = sum(download(report) for _ in range(int(times)))
    figures = {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": cpu() - before,
        "bytes": received,
        "idle_kib": idle,
        "peak_kib": peak(),
    }
    print(json.dumps(figures))


main()
