"""libdbss through Python. A request is in tests/sdk/README.md; the result is printed."""

from __future__ import annotations

import json
import sys
from typing import Any

import dbss


def reports_of(client: dbss.Client, instance: str) -> list[str]:
    return [one.id for one in client.reports(instance)]


def make_report(client: dbss.Client, instance: str) -> dict[str, Any]:
    """Makes a report of the first template, downloads it and deletes it."""
    template = next(iter(client.templates(instance)))
    before = reports_of(client, instance)
    times = ("2026-01-01 00:00:00", "2026-01-02 00:00:00")
    made = client.generate_report(instance, template.id, *times)
    data = client.download_report(instance, made, locale="zh-cn")
    client.delete_report(instance, made)
    return {
        "created": "success",
        "report": made,
        "format": data[:5].decode("latin-1"),
        "length": len(data),
        "deleted": "SUCCESS",
        "left": reports_of(client, instance) == before,
    }


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Does what a request asks for. libdbss itself chooses the list of instances."""
    given = dict(request["arguments"])
    if "access_key" not in given:
        given["credentials"] = "default"
    try:
        with dbss.Client(ca_file=request["ca_file"], poll_interval=0.01, **given) as client:
            result: dict[str, Any] = {"instances": [one.id for one in client.instances()]}
            if request.get("report"):
                result |= make_report(client, result["instances"][0])
            return result
    except dbss.Error as error:
        return {"error": type(error).__name__, "message": error.message}


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
