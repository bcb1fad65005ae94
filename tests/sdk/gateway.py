"""All hosts of the cloud at once: a TLS server that forwards to the mock service.

Runs in the network namespace of one worker. It writes each request to a log, with the
host that was asked for. A line of JSON on its standard input has the settings; it runs
until its standard input ends.
"""

from __future__ import annotations

import http.client
import http.server
import json
import re
import ssl
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

METADATA = "169.254.169.254"
# Where the node of a pod has its identities, in the combinations.
POD = "169.254.170.23"

# The calls whose responses have a temporary key, and its source.
SOURCES = {
    "/openstack/latest/securitykey": "metadata",
    "/v1/pod/credentials": "pod",
    "/v3.0/OS-CREDENTIAL/securitytokens": "federation",
    "/v5/agencies/assume-with-oidc": "oidc",
}


class Settings:
    """What the standard input said."""

    mock: dict[str, str]
    certificate: str
    key: str
    log: str


def write_log(entry: dict[str, Any]) -> None:
    with _lock, open(Settings.log, "a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")


_lock = threading.Lock()


def service_of(host: str) -> str:
    """The listener of the mock service for a host."""
    if host in (METADATA, POD):
        return Settings.mock["metadata"]
    return Settings.mock["iam" if host.startswith(("iam.", "sts.")) else "http"]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request of each connection."""

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        self.close_connection = True
        if not self.raw_requestline or not self.parse_request():
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        host = self.headers.get("Host", "")
        status, headers, answer = self.forward(host, body)
        source = SOURCES.get(urlsplit(self.path).path)
        issued = re.search(r'"access(?:_key_id|KeyId)?": *"([^"]+)"', answer.decode("latin-1"))
        if source is not None and issued is not None:
            write_log({"issued": issued[1], "source": source})
        tls = isinstance(self.connection, ssl.SSLSocket)
        write_log(
            {
                "host": host,
                "server_name": getattr(self.connection, "server_name", None) if tls else host,
                "method": self.command,
                "target": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "status": status,
            }
        )
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def forward(self, host: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Sends the request on as it came: its signature has all of it."""
        connection = http.client.HTTPConnection(urlsplit(service_of(host)).netloc)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        answer = response.read()
        framing = {"content-length", "transfer-encoding", "connection"}
        kept = {k: v for k, v in response.getheaders() if k.lower() not in framing}
        connection.close()
        return response.status, kept, answer


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that ends a connection early is no news."""


class TlsServer(Server):
    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        # The handshake is left to the thread of the connection.
        return _context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ), address


def note_server_name(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
    connection.server_name = name


_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def main() -> None:
    for name, value in json.loads(sys.stdin.readline()).items():
        setattr(Settings, name, value)
    _context.load_cert_chain(Settings.certificate, Settings.key)
    _context.sni_callback = note_server_name
    for server in (Server(("0.0.0.0", 80), Handler), TlsServer(("0.0.0.0", 443), Handler)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
