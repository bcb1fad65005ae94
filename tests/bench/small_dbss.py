"""Downloads small reports with the Python package; prints the cost as JSON."""

import json
import resource
import sys
import time

import dbss

PROJECT, INSTANCE = (
    "0123456789abcdef0123456789abcdef",
    "00000000-1111-2222-3333-444444444444",
)


def main() -> None:
    endpoint, report, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with dbss.Client(
        endpoint=endpoint, access_key="BENCHMARK", secret_key="x" * 40
    ) as client:
        client.download_report(INSTANCE, report, project_id=PROJECT, locale="en-us")
        wall, cpu = time.perf_counter(), time.process_time()
        received = 0
        for _ in range(count):
            received += len(
                client.download_report(
                    INSTANCE, report, project_id=PROJECT, locale="en-us"
                )
            )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"wall_s": wall, "cpu_s": cpu, "bytes": received, "peak_kib": peak})
    )


main()
