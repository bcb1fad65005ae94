"""Runs in its own network namespace, as on an instance: only the metadata service, at
169.254.169.254, exists. Prints the results of calls as JSON."""

from __future__ import annotations

import http.server
import json
import os
import socket
import sys
import threading
from typing import ClassVar

import dbss

from mock_service import MockService

ADDRESS = "169.254.169.254"


def copy_data(source, target):
    """Copies all data from one socket to another."""
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def forward(listener, url):
    """Forwards connections to the host of a URL."""
    host, port = url.removeprefix("http://").split(":")
    while True:
        here, _ = listener.accept()
        there = socket.create_connection((host, int(port)))
        for pair in ((here, there), (there, here)):
            threading.Thread(target=copy_data, args=pair, daemon=True).start()


class Proxy(http.server.BaseHTTPRequestHandler):
    """Rejects and counts every request."""

    requests: ClassVar[list[str]] = []

    def do_CONNECT(self):
        self.requests.append(self.path)
        self.send_error(403)

    do_GET = do_PUT = do_CONNECT


def attempt(mock, report, options):
    """The result of a download."""
    try:
        with dbss.Client(**{"endpoint": mock.http, "max_attempts": 1, **options}) as client:
            client.download_report(mock.instance_id, report, project_id=mock.project_id)
            return {"source": client.find_credentials().source}
    except dbss.Error as error:
        return {"error": type(error).__name__, "message": error.message}


def main():
    listener = socket.create_server((ADDRESS, 80))
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    proxy_url = f"http://127.0.0.1:{proxy.server_address[1]}"
    os.environ["ALL_PROXY"] = proxy_url
    with MockService(os.environ["DBSS_BUILD_DIR"] + "/bin/dbss-mock") as mock:
        threading.Thread(target=forward, args=(listener, mock.metadata), daemon=True).start()
        report = mock.add_report()["id"]
        there = f"http://{ADDRESS}"
        given, found = {"token": mock.token}, {"credentials": "metadata"}
        options = {
            "metadata": found,
            "default": {"credentials": "default"},
            "given": {**found, "metadata_endpoint": there},
            "proxy_of_environment": {**found, "proxy_from_environment": True},
            "proxy": {**found, "proxy": proxy_url},
            "endpoint": {**given, "endpoint": there},
            "iam": {**given, "iam_endpoint": there},
            "other_address": {**found, "metadata_endpoint": "http://192.0.2.1"},
            "mapped": {**found, "metadata_endpoint": f"http://[::ffff:{ADDRESS}]"},
        }
        results = {k: attempt(mock, report, v) for k, v in options.items()}
        mock.fault(report, status=302, headers=[["Location", f"{there}/x"]], body="")
        results["redirect"] = attempt(mock, report, {**given, "follow_redirects": True})
        json.dump({**results, "proxied": Proxy.requests}, sys.stdout)


main()
