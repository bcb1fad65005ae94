"""The same as small_dbss.py, with the official SDK."""

import json
import resource
import sys
import time

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkdbss.v1 import DbssClient, DownloadAuditReportRequest

PROJECT, INSTANCE = (
    "0123456789abcdef0123456789abcdef",
    "00000000-1111-2222-3333-444444444444",
)


def main() -> None:
    endpoint, report, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    credentials = BasicCredentials("BENCHMARK", "x" * 40, PROJECT)
    builder = (
        DbssClient.new_builder().with_credentials(credentials).with_endpoint(endpoint)
    )
    client = builder.build()

    def download() -> int:
        pieces = []
        request = DownloadAuditReportRequest(INSTANCE, report, "en-us")
        response = client.download_audit_report(request)
        response.consume_download_stream(
            lambda stream: pieces.extend(stream.iter_content(64 * 1024))
        )
        return len(b"".join(pieces))

    download()
    wall, cpu = time.perf_counter(), time.process_time()
    received = sum(download() for _ in range(count))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"wall_s": wall, "cpu_s": cpu, "bytes": received, "peak_kib": peak})
    )


main()
