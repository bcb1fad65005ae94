"""All hosts of the cloud at once: a TLS server that forwards to the mock service.

Runs in the network namespace of one worker. It writes each request to a log, with the
host that was asked for. A line of JSON on its standard input has the settings; it runs
until its standard input ends.
"""

from __future__ import annotations

import http.client
import http.server
import json
import secrets
import ssl
import sys
import threading
import urllib.request
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

METADATA = "169.254.169.254"
# Where the node of a pod has its identities, in the combinations.
POD = "169.254.170.23"

# What the sources of temporary keys accept.
ID_TOKEN = "eyJhbGciOiJSUzI1NiJ9.id-token"
POD_TOKEN = "eyJhbGciOiJSUzI1NiJ9.pod-token"
IDENTITY_PROVIDER = "provider"
UNSCOPED_TOKEN = "unscoped-token"


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


def new_key(source: str) -> tuple[str, str, str, str]:
    """A temporary key that the mock service accepts, and when it expires."""
    key = (secrets.token_hex(10).upper(), secrets.token_hex(20), secrets.token_hex(300))
    names = ("access_key", "secret_key", "security_token")
    request = urllib.request.Request(
        Settings.mock["control"] + "/keys",
        json.dumps(dict(zip(names, key, strict=True))).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()
    write_log({"issued": key[0], "source": source})
    expires = datetime.now(timezone.utc) + timedelta(hours=6)
    return (*key, expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def assume_with_oidc(headers: Any, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    wanted = {"provider_urn", "agency_urn", "agency_session_name", "id_token", "duration_seconds"}
    if set(body) != wanted or body["id_token"] != ID_TOKEN:
        return 400, {}, {"error_code": "STS.0001", "error_msg": "wrong body"}
    names = ("access_key_id", "secret_access_key", "security_token", "expiration")
    return 200, {}, {"credentials": dict(zip(names, new_key("oidc"), strict=True))}


def token_of_id_token(headers: Any, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    right = body == {"auth": {"id_token": {"id": ID_TOKEN}}}
    if not right or headers["X-Idp-Id"] != IDENTITY_PROVIDER:
        return 401, {}, {"error": {"code": 401, "message": "wrong id token", "title": "x"}}
    expires = datetime.now(timezone.utc) + timedelta(hours=6)
    token = {"expires_at": expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "methods": ["mapped"]}
    sent = {"X-Subject-Token": UNSCOPED_TOKEN, "X-Request-Id": secrets.token_hex(16)}
    return 201, sent, {"token": token}


def key_of_token(headers: Any, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    identity = body["auth"]["identity"]
    if identity["methods"] != ["token"] or identity["token"]["id"] != UNSCOPED_TOKEN:
        return 401, {}, {"error": {"code": 401, "message": "wrong token", "title": "x"}}
    names = ("access", "secret", "securitytoken", "expires_at")
    return 201, {}, {"credential": dict(zip(names, new_key("federation"), strict=True))}


def pod_identity(headers: Any, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    if headers["Authorization"] != POD_TOKEN:
        return 401, {}, {"error": "wrong token"}
    names = ("accessKeyId", "secretAccessKey", "securityToken", "expiration")
    return 200, {}, {"credentials": dict(zip(names, new_key("pod"), strict=True))}


# What the mock service has not: the calls that exchange a token for a temporary key.
EXCHANGES = {
    "/v5/agencies/assume-with-oidc": assume_with_oidc,
    "/v3.0/OS-AUTH/id-token/tokens": token_of_id_token,
    "/v3.0/OS-CREDENTIAL/securitytokens": key_of_token,
    "/v1/credentials": pod_identity,
}


def service_of(host: str) -> str:
    """The listener of the mock service for a host."""
    if host == METADATA:
        return Settings.mock["metadata"]
    return Settings.mock["iam" if host.startswith("iam.") else "http"]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request of each connection."""

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        self.close_connection = True
        if not self.raw_requestline or not self.parse_request():
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        host = self.headers.get("Host", "")
        path = urlsplit(self.path).path
        exchange = EXCHANGES.get(path)
        if exchange is not None and host != METADATA:
            status, headers, document = exchange(self.headers, json.loads(body or b"{}"))
            answer = json.dumps(document).encode()
            headers["Content-Type"] = "application/json"
        else:
            status, headers, answer = self.forward(host, body)
        if path == "/openstack/latest/securitykey" and status == 200:
            access = json.loads(answer)["credential"]["access"]
            write_log({"issued": access, "source": "metadata"})
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
