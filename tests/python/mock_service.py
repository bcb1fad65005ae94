"""The mock service as a child process, and its control interface."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

READY_TIMEOUT = 30.0
CONTROL_TIMEOUT = 60.0
END_TIMEOUT = 10.0


def first_line(process: subprocess.Popen[str], timeout: float) -> str | None:
    """The first line of a process's output; after the timeout kills it and returns None."""
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    # readline() has no timeout, so a thread calls it.
    threading.Thread(
        target=lambda stream: lines.put(stream.readline()),
        args=(process.stdout,),
        daemon=True,
    ).start()
    try:
        return lines.get(timeout=timeout)
    except queue.Empty:
        process.kill()
        return None


class MockService:
    """A running mock service. The values of its ready line are attributes."""

    http: str
    https: str
    https_self_signed: str
    https_expired: str
    https_wrong_name: str
    http_other: str
    https_other: str
    proxy: str
    never_accepts: str
    iam: str
    iam_https: str
    metadata: str
    control: str
    ca_file: str
    token: str
    access_key: str
    secret_key: str
    user: str
    password: str
    domain: str
    user_id: str
    id_token: str
    idp_id: str
    provider_urn: str
    agency_urn: str
    agency: str
    agency_domain: str
    agency_domain_id: str
    pod_token: str
    region: str
    project_id: str
    instance_id: str
    reports: list[dict[str, Any]]
    templates: list[dict[str, str]]

    def __init__(self, program: str | os.PathLike[str]) -> None:
        if not Path(program).is_file():
            raise FileNotFoundError(f"{program} is not built; try: make mock")
        self._process = subprocess.Popen(
            [os.fspath(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        # A proxy of the environment cannot reach the loopback ports.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            self.raw_ready = self._first_line()
            for name, value in json.loads(self.raw_ready).items():
                setattr(self, name, value)
        except BaseException:
            self.close()
            raise

    def _first_line(self) -> str:
        line = first_line(self._process, READY_TIMEOUT)
        if line is None:
            raise TimeoutError("the mock service did not get ready")
        if not line:
            raise RuntimeError("the mock service ended before it was ready")
        return line

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
        """Adds a report (format, and optionally size, id, name) and returns its description.

        Also accepts its fields in lists, and instance, extra, omit, after_lists.
        """
        return self.control_request("POST", "/reports", report)

    def add_reports(self, count: int, format: str = "pdf", **reports: Any) -> list[str]:
        """Adds many reports at once, and returns their ids, oldest first."""
        body = {"count": count, "format": format, **reports}
        return self.control_request("POST", "/reports", body)["ids"]

    def remove_reports(self, ids: list[str]) -> int:
        """Removes reports; returns how many existed."""
        return self.control_request("DELETE", "/reports", {"ids": ids})["removed"]

    def add_instance(self, name: str = "audit", **instance: Any) -> str:
        """Adds an instance without reports (id, status, extra, omit) and returns its id."""
        [added] = self.control_request("POST", "/instances", {"name": name, **instance})["ids"]
        return added

    def add_instances(self, count: int, **instances: Any) -> list[str]:
        """Adds many instances at once, and returns their ids in the order of the list."""
        return self.control_request("POST", "/instances", {"count": count, **instances})["ids"]

    def remove_instances(self, ids: list[str]) -> int:
        """Removes instances; returns how many existed."""
        return self.control_request("DELETE", "/instances", {"ids": ids})["removed"]

    def delete_after(self, lists: int, ids: list[str]) -> None:
        """Deletes reports and instances right after the given number of list responses."""
        self.control_request("POST", "/deletions", {"after_lists": lists, "ids": ids})

    def set_generation(self, **settings: Any) -> None:
        """Sets how the service generates reports from now on.

        percent_per_list, duration_ms, steps, appear_after_lists, format, size, foreign,
        unknown_template. Omitted settings return to their defaults.
        """
        self.control_request("POST", "/generation", settings)

    def set_shapes(self, **shapes: Any) -> None:
        """Sets the format (instances) and the versions of the list of instances.

        Omitted settings return to their defaults.
        """
        self.control_request("POST", "/shapes", shapes)

    def set_paging(self, **paging: Any) -> None:
        """Sets what the service does with pages from now on.

        cap, first_page_only, last_page_again, shuffle, empty_page, total. Omitted settings
        return to their defaults.
        """
        self.control_request("POST", "/paging", paging)

    def set_undocumented(self, **settings: Any) -> None:
        """Sets what the service does where its documents say nothing.

        long_headers. Omitted settings return to their defaults.
        """
        self.control_request("POST", "/undocumented", settings)

    def made(self) -> list[str]:
        """The ids of the reports that clients generated, in order."""
        return self.control_request("GET", "/made")["ids"]

    def new_version(self, report: str) -> dict[str, Any]:
        """Changes a report, and returns its description with the new hashes."""
        return self.control_request("POST", "/versions", {"report": report})

    def add_token(self, token: str) -> None:
        """Adds a valid token."""
        self.control_request("POST", "/tokens", {"token": token})

    def revoke_token(self, token: str) -> None:
        """Invalidates a token."""
        self.control_request("DELETE", "/tokens", {"token": token})

    def set_iam(self, **settings: Any) -> None:
        """Sets how IAM, STS and the pod identity agent behave from now on.

        token_lifetime_ms, announced_lifetime_ms, key_lifetime_ms,
        announced_key_lifetime_ms, id_token, passcodes, may_list_projects. Omitted settings
        return to their defaults.
        """
        self.control_request("POST", "/iam", settings)

    def add_key(self, **key: str) -> None:
        """Makes an access key valid (access_key, secret_key)."""
        self.control_request("POST", "/keys", key)

    def add_project(self, name: str, id: str | None = None) -> dict[str, Any]:
        """Adds a project, and returns its description; names and ids may repeat.

        It has no instances, unless it has the id of the one that has.
        """
        return self.control_request("POST", "/projects", {"name": name, "id": id})

    def clear_projects(self) -> None:
        """Removes the added projects."""
        self.control_request("DELETE", "/projects")

    def set_metadata(self, **settings: Any) -> None:
        """Sets how the metadata service behaves from now on.

        require_token, agency, key_lifetime_ms, announced_key_lifetime_ms. Omitted settings
        return to their defaults.
        """
        self.control_request("POST", "/metadata", settings)

    def fault(self, report: str, **fault: Any) -> None:
        """Injects a fault into requests for a report or a call (such as @iam.tokens)."""
        self.control_request("POST", "/faults", {"report": report, **fault})

    def clear_faults(self) -> None:
        """Removes all faults."""
        self.control_request("DELETE", "/faults")

    def listener_fault(self, listener: str, mode: str, **more: Any) -> None:
        """Injects a fault into a listener: handshake_stall, accept_close, proxy_auth."""
        self.control_request(
            "POST", "/listener_faults", {"listener": listener, "mode": mode, **more}
        )

    def clear_listener_faults(self) -> None:
        """Removes all faults of listeners."""
        self.control_request("DELETE", "/listener_faults")

    def control_request(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request to the control address."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.control + path,
            data,
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=CONTROL_TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()}") from error

    def close(self) -> None:
        """Stops the program."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            # Closing its standard input stops it.
            stream.close()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_TIMEOUT)

    def __enter__(self) -> MockService:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
