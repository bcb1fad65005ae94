"""Downloads the newest reports of an instance, all at once, with asyncio.

python several.py INSTANCE DIRECTORY [COUNT]
"""

import asyncio
import os
import sys

import dbss
import dbss.aio


def path_of(report: dbss.Report, directory: str) -> str:
    # Several reports may have one name.
    return f"{directory}/{report.id}.{'zip' if report.format == 'zip' else 'pdf'}"


async def download_newest(instance: str, directory: str, count: int) -> int:
    os.makedirs(directory, exist_ok=True)
    async with dbss.aio.AsyncClient(
        region=os.environ.get("DBSS_REGION"),
        endpoint=os.environ.get("DBSS_ENDPOINT"),
        credentials="default",
    ) as client:
        reports = [report async for report in client.reports(instance) if report.ready]
        reports.sort(key=lambda report: report.finish_time or "", reverse=True)
        calls = [
            client.download_report_to(instance, report.id, path_of(report, directory))
            for report in reports[:count]
        ]
        # A report that cannot be downloaded does not stop the others.
        results = await asyncio.gather(*calls, return_exceptions=True)
    for report, result in zip(reports, results):
        print(f"{report.id}: {result}")
    return sum(isinstance(result, BaseException) for result in results)


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: several.py INSTANCE DIRECTORY [COUNT]")
    try:
        failed = asyncio.run(download_newest(*sys.argv[1:3], int((*sys.argv, "3")[3])))
    except dbss.Error as error:
        sys.exit(f"{error.status_name}: {error}")
    sys.exit(1 if failed else 0)


main()
