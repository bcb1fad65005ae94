"""The mock service as a child process, and its control interface (tests/mock/README.md)."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

READY_TIMEOUT = 30.0
CONTROL_TIMEOUT = 60.0
END_TIMEOUT = 10.0


def first_line(process: subprocess.Popen[str], timeout: float) -> str | None:
    """The first line of a process's output; after the timeout kills it and returns None."""
    lines: queue.Queue[str] = queue.Queue()
    # readline() has no timeout, so a thread calls it.
    read = process.stdout.readline  # type: ignore[union-attr]
    threading.Thread(target=lambda: lines.put(read()), daemon=True).start()
    try:
        return lines.get(timeout=timeout)
    except queue.Empty:
        process.kill()
        return None


class MockService:
    """A running mock service. The values of its ready line are attributes."""

    def __init__(self, program: str | os.PathLike[str]) -> None:
        if not Path(program).is_file():
            raise FileNotFoundError(f"{program} is not built; try: make mock")
        self._process = subprocess.Popen(
            [os.fspath(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        # A proxy of the environment cannot reach the loopback ports.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.ready: dict[str, Any] = {}
        line = first_line(self._process, READY_TIMEOUT)
        if not line:
            self.close()
            raise RuntimeError("the mock service did not get ready, or ended before")
        self.ready = json.loads(line)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["ready"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def pdf(self) -> dict[str, Any]:
        """The first PDF report."""
        return next(report for report in self.reports if report["format"] == "pdf")

    @property
    def zip(self) -> dict[str, Any]:
        """The first ZIP report."""
        return next(report for report in self.reports if report["format"] == "zip")

    def requests(self, report: str | None = None) -> list[dict[str, Any]]:
        """The requests so far: of all, or of one report or call (such as @iam.tokens)."""
        query = "" if report is None else f"?report={quote(report, safe='')}"
        return self.control_request("GET", f"/requests{query}")

    def clear_requests(self) -> None:
        """Clears the request log."""
        self.control_request("DELETE", "/requests")

    def connections(self) -> dict[str, int]:
        """The number of accepted connections, by listener and in total."""
        return self.control_request("GET", "/connections")

    def add_report(self, **report: Any) -> dict[str, Any]:
        """Adds a report, and returns its description."""
        return self.control_request("POST", "/reports", {"format": "pdf", **report})

    def add_reports(self, count: int, **reports: Any) -> list[str]:
        """Adds many reports at once, and returns their ids, oldest first."""
        return self.add_report(count=count, **reports)["ids"]

    def add_instance(self, name: str = "audit") -> str:
        """Adds an instance without reports, and returns its id."""
        return self.control_request("POST", "/instances", {"name": name})["ids"][0]

    def add_instances(self, count: int, **instances: Any) -> list[str]:
        """Adds many instances at once, and returns their ids in the order of the list."""
        return self.control_request("POST", "/instances", {"count": count, **instances})["ids"]

    def remove(self, kind: str, ids: list[str]) -> None:
        """Removes reports or instances."""
        self.control_request("DELETE", f"/{kind}", {"ids": ids})

    def set(self, what: str, **settings: Any) -> None:
        """Sets all of generation, shapes, undocumented, iam or metadata, or adds to the rest."""
        self.control_request("POST", f"/{what}", settings)

    def made(self) -> list[str]:
        """The ids of the reports that clients generated, in order."""
        return self.control_request("GET", "/made")["ids"]

    def fault(self, report: str, **fault: Any) -> None:
        """Injects a fault into requests for a report or a call (such as @iam.tokens)."""
        self.set("faults", report=report, **fault)

    def listener_fault(self, listener: str, mode: str) -> None:
        """Injects a fault into a listener: handshake_stall, accept_close, proxy_auth."""
        self.set("listener_faults", listener=listener, mode=mode)

    def clear_faults(self) -> None:
        """Removes all faults."""
        self.control_request("DELETE", "/faults")
        self.control_request("DELETE", "/listener_faults")

    def control_request(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request to the control address."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.control + path, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=CONTROL_TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()}") from error

    def close(self) -> None:
        """Stops the program."""
        try:
            # The end of its standard input stops it.
            self._process.communicate(timeout=END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_TIMEOUT)

    def __enter__(self) -> MockService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
