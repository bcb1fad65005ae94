"""The promises of SECURITY.md: each names existing tests, some of which are here."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mock_service import MockService

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def clear_faults_after_test(mock: MockService) -> Iterator[None]:
    yield
    mock.clear_faults()


@pytest.fixture
def report(mock: MockService) -> tuple[str, str, str]:
    """The ids of a report that no other test requests."""
    added = mock.add_report(format="bytes", size=3000)
    return mock.project_id, mock.instance_id, added["id"]


# A response that is a complete report, apart from the given parts.
def response(
    *headers: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"%PDF-1.7"
) -> bytes:
    return b"\r\n".join([start, *headers, b"", body])


LENGTH = b"Content-Length: 8"
CHUNKED = b"Transfer-Encoding: chunked"


def chunked_response(first: bytes, rest: bytes = b"\r\n%PDF-1.7\r\n0\r\n\r\n") -> bytes:
    """A chunked response with a given first size and rest."""
    return response(CHUNKED, body=first + rest)


INVALID_RESPONSES: dict[str, bytes] = {
    "HTTP/0.9": b"%PDF-1.7",
    "HTTP/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
    "HTTP/2.0 in the status line": response(LENGTH, start=b"HTTP/2.0 200 OK"),
    "HTTP/1.2": response(LENGTH, start=b"HTTP/1.2 200 OK"),
    "a status of two digits": response(LENGTH, start=b"HTTP/1.1 20 OK"),
    "a status of four digits": response(LENGTH, start=b"HTTP/1.1 2000 OK"),
    "a status below 100": response(LENGTH, start=b"HTTP/1.1 099 OK"),
    "a status with a letter": response(LENGTH, start=b"HTTP/1.1 2O0 OK"),
    "another protocol": response(LENGTH, start=b"ICY 200 OK"),
    "a NUL in a header": response(LENGTH, b"X-Request-Id: a\0b"),
    "a carriage return in a header": response(LENGTH, b"X-Request-Id: a\rContent-Length: 3"),
    "an escape in a header": response(LENGTH, b"X-Request-Id: \x1b[31m"),
    "a folded header": response(LENGTH, b"X-Request-Id: a", b" Content-Length: 3"),
    "a header without a colon": response(LENGTH, b"X-Request-Id"),
    "a space before the colon": response(b"Content-Length : 8", LENGTH),
    "a header without a name": response(LENGTH, b": x"),
    "100000 headers": response(LENGTH, *[b"X-%d: y" % i for i in range(100_000)]),
    "a header of a megabyte": response(LENGTH, b"X-Long: " + b"y" * MIB),
    "a header of 301 KiB": response(
        LENGTH, *[b"X-Long: " + b"y" * 86 * 1024] * 3 + [b"X: " + b"y" * 44000]
    ),
    "129 lengths": response(*[LENGTH] * 129),
    "a folded header in an interim response": b"HTTP/1.1 100 Continue\r\nVia: x\r\n y\r\n\r\n"
    + response(LENGTH),
    "a name of a megabyte": response(LENGTH, b"x" * MIB + b": y"),
    "a reason of a megabyte": response(LENGTH, start=b"HTTP/1.1 200 " + b"x" * MIB),
    "a length beyond 64 bits": response(b"Content-Length: 18446744073709551616"),
    "a length that overflows to 8": response(b"Content-Length: 18446744073709551624"),
    "a length in hexadecimal": response(b"Content-Length: 0x8"),
    "a length in non-ASCII digits": response(b"Content-Length: \xd9\xa8"),
    "a length that is a fraction": response(b"Content-Length: 8.0"),
    "a list of lengths": response(b"Content-Length: 8, 8"),
    "an empty length": response(b"Content-Length:"),
    "two lengths": response(LENGTH, b"Content-Length: 3"),
    "two lengths, one with a sign": response(LENGTH, b"Content-Length: +8"),
    "chunked in two headers": response(CHUNKED, CHUNKED, body=b"8\r\n%PDF-1.7\r\n0\r\n\r\n"),
    "chunked twice in a header": response(b"Transfer-Encoding: chunked, chunked"),
    "chunked before gzip, with a length": response(b"Transfer-Encoding: chunked, gzip", LENGTH),
    "an encoding that resembles chunked": response(b"Transfer-Encoding: xchunked", LENGTH),
    "the encoding identity": response(b"Transfer-Encoding: identity", LENGTH),
    "chunked in HTTP/1.0": response(CHUNKED, LENGTH, start=b"HTTP/1.0 200 OK"),
    "a negative chunk size": chunked_response(b"-8"),
    "a chunk size of 0x8": chunked_response(b"0x8"),
    "a chunk size with a sign": chunked_response(b"+8"),
    "white space before a chunk size": chunked_response(b" 8"),
    "a word after a chunk size": chunked_response(b"8 x"),
    "a chunk size of 17 digits": chunked_response(b"00000000000000008"),
    "a line feed in an extension": chunked_response(b"8;x\ny"),
    "a carriage return in an extension": chunked_response(b"8;x\ry"),
    "a control character in an extension": chunked_response(b"8;x=\0"),
    "a bare line feed after a chunk size": chunked_response(b"8", b"\n%PDF-1.7\r\n0\r\n\r\n"),
    "a bare line feed after a chunk": chunked_response(b"8", b"\r\n%PDF-1.7\n0\r\n\r\n"),
    "a bare line feed after the last chunk": chunked_response(b"8", b"\r\n%PDF-1.7\r\n0\n\r\n"),
    "a bare line feed at the end": chunked_response(b"8", b"\r\n%PDF-1.7\r\n0\r\n\n"),
    "a control character in a trailer": chunked_response(
        b"8", b"\r\n%PDF-1.7\r\n0\r\nX: \0\r\n\r\n"
    ),
    "a chunk without a size": chunked_response(b""),
    "a chunk size beyond 64 bits": chunked_response(b"10000000000000008"),
    "a chunk that is longer than its size": chunked_response(b"7"),
    "an extension of a megabyte": chunked_response(b"8;x=" + b"y" * MIB),
    "a megabyte of trailers": chunked_response(
        b"8", b"\r\n%PDF-1.7\r\n0\r\nX: " + b"y" * MIB + b"\r\n\r\n"
    ),
    "200000 trailers": chunked_response(
        b"8", b"\r\n%PDF-1.7\r\n0\r\n" + b"X: y\r\n" * 200_000 + b"\r\n"
    ),
    "a megabyte of interim responses": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 50_000
    + response(LENGTH),
}


@pytest.mark.parametrize("what", INVALID_RESPONSES)
def test_malformed_http_response_is_rejected(
    mock: MockService, report: tuple[str, str, str], what: str
) -> None:
    raw = base64.b64encode(INVALID_RESPONSES[what]).decode()
    mock.fault(report[2], raw_base64=raw)
    mock.fault("@instances", raw_base64=raw)
    with dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=1) as client:
        with pytest.raises(dbss.ProtocolError) as caught:
            client.download_report(*report)
        assert len(str(caught.value)) < 2000
        with pytest.raises(dbss.ProtocolError):
            next(client.instances(report[0]))
    # Without the defect the response is accepted, so the defect caused the rejection.
    mock.clear_faults()
    for sound in (response(LENGTH), chunked_response(b"8"), chunked_response(b"8;x=y")):
        mock.fault(report[2], raw_base64=base64.b64encode(sound).decode(), times=1)
        with dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=1) as client:
            assert client.download_report(*report) == b"%PDF-1.7"


FILE = b"%PDF-1.7"
VALID_RESPONSES: dict[str, bytes] = {
    "an interim response": b"HTTP/1.1 100 Continue\r\n\r\n" + response(LENGTH),
    "an interim response with fields": b"HTTP/1.1 100 Continue\r\nVia: x\r\nDate: y\r\n\r\n"
    + response(LENGTH),
    "several interim responses with fields": b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + response(LENGTH),
    "an interim response with many fields": b"HTTP/1.1 103 Early Hints\r\n"
    + b"Link: x\r\n" * 300
    + b"\r\n"
    + response(LENGTH),
    "129 fields": response(*[b"X-%d: y" % i for i in range(128)], LENGTH),
    "5000 fields": response(
        *[b"X-%d: y" % i for i in range(5000)], CHUNKED, body=b"8\r\n%PDF-1.7\r\n0\r\n\r\n"
    ),
    "a field of 90 KiB": response(b"X-Long: " + b"y" * 90 * 1024, LENGTH),
    "a header of 290 KiB": response(*[b"X-Long: " + b"y" * 96 * 1024] * 3, LENGTH),
    "white space after a chunk size": chunked_response(b"8  "),
    "zeros before a chunk size": chunked_response(b"0000008"),
    "trailers": chunked_response(b"8", b"\r\n%PDF-1.7\r\n000\r\nX: y\r\nZ:\r\n\r\n"),
    "an empty content encoding": response(LENGTH, b"Content-Encoding:"),
    "identity twice": response(LENGTH, b"Content-Encoding: identity, Identity"),
    "identity in two fields": response(
        LENGTH, b"Content-Encoding: identity", b"Content-Encoding: ,"
    ),
}


@pytest.mark.parametrize("what", VALID_RESPONSES)
@pytest.mark.parametrize("pieces", [False, True])
def test_unusual_valid_http_response_is_accepted(what: str, pieces: bool) -> None:
    """As curl accepts it, in one piece or byte by byte."""
    raw = VALID_RESPONSES[what]

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        if not pieces:
            connection.sendall(raw)
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw[:400]:
            connection.sendall(bytes([byte]))
        connection.sendall(raw[400:])

    with RawServer(serve) as listener, listener.client() as client:
        assert client.download_report(*IDS) == FILE


@pytest.mark.parametrize(
    "end",
    [b"", b"0", b"0\r\n", b"0\r\n\r", b"0\r\nX: y\r\n"],
    ids=lambda end: end.decode("unicode_escape"),
)
def test_chunked_body_without_last_line_end_is_truncated(
    mock: MockService, report: tuple[str, str, str], end: bytes
) -> None:
    raw = base64.b64encode(chunked_response(b"8", b"\r\n%PDF-1.7\r\n" + end)).decode()
    mock.fault(report[2], raw_base64=raw)
    with (
        dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=1) as client,
        pytest.raises(dbss.TruncatedError),
    ):
        client.download_report(*report)


class RawServer:
    """A server that sends raw bytes: `serve` handles the connections one by one."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.serve = serve
        self.closing = False
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.connections = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            with connection:
                if self.closing:
                    return
                self.connections += 1
                connection.settimeout(TIMEOUT)
                # A client may disconnect early.
                with contextlib.suppress(ConnectionError):
                    self.serve(connection)

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing = True
        # Wakes the thread.
        socket.create_connection(("127.0.0.1", self.port), TIMEOUT).close()
        self.thread.join(TIMEOUT)
        self.socket.close()

    def client(self, scheme: str = "http", **options: Any) -> dbss.Client:
        arguments = {"token": "a-token-of-the-test", "max_attempts": 1, **options}
        return dbss.Client(endpoint=f"{scheme}://127.0.0.1:{self.port}", **arguments)


def read_request(connection: socket.socket) -> bytes:
    """Reads a request without a body; empty if the client has disconnected."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        part = connection.recv(65536)
        if not part:
            return b""
        received += part
    return received


IDS = ("p" * 32, "i" * 32, "r" * 16)


@pytest.mark.parametrize("moment", ["with the response", "after the response", "after an error"])
def test_unsolicited_response_is_not_used(moment: str) -> None:
    """An extra response must not be used for the next request."""
    extra = response(b"Content-Length: 5", body=b"ahead")
    first = threading.Event()
    received = threading.Event()
    sent = threading.Event()

    def serve(connection: socket.socket) -> None:
        while read_request(connection):
            begins = not first.is_set()
            first.set()
            refused = begins and moment == "after an error"
            start = b"HTTP/1.1 404 Not Found" if refused else b"HTTP/1.1 200 OK"
            body = b"{}      " if refused else b"%PDF-1.7"
            own = response(LENGTH, start=start, body=body)
            if begins and moment != "after the response":
                connection.sendall(own + extra)
                sent.set()
                continue
            connection.sendall(own)
            if begins:
                received.wait(TIMEOUT)
                connection.sendall(extra)
                sent.set()

    with RawServer(serve) as listener, listener.client() as client:
        if moment == "after an error":
            with pytest.raises(dbss.NotFoundError):
                client.download_report(*IDS)
        else:
            assert client.download_report(*IDS) == b"%PDF-1.7"
        received.set()
        assert sent.wait(TIMEOUT)
        assert client.download_report(*IDS) == b"%PDF-1.7"
        # The connection was not reused; the client closed it, so the server accepted the next.
        assert listener.connections == 2


def test_slow_header_ends_with_total_timeout() -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        for byte in response(LENGTH, *[b"X-Slow: y"] * 1000):
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    with RawServer(serve) as listener, listener.client(total_timeout=0.5) as client:
        began = time.monotonic()
        with pytest.raises(dbss.TotalTimeoutError):
            client.download_report(*IDS)
        assert time.monotonic() - began < 5


# Too deep for a recursive parser on any stack.
NESTING_DEPTH = 1_000_000


@pytest.mark.parametrize("nested", ['{"error":', '{"details":[', "[", '{"error_code":', '{"a":'])
@pytest.mark.parametrize("status", [200, 403])
def test_deeply_nested_json_is_rejected(
    mock: MockService, report: tuple[str, str, str], nested: str, status: int
) -> None:
    with dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=1) as client:
        mock.fault(report[2], status=status, body=nested * NESTING_DEPTH)
        mock.fault("@instances", status=status, body=nested * NESTING_DEPTH)
        with pytest.raises(dbss.ServiceError):
            next(client.instances(report[0]))
        if status == 200:
            # It exceeds the size of any error body, and it is not a report.
            with pytest.raises(dbss.UnexpectedResponseError):
                client.download_report(*report)
        else:
            with pytest.raises(dbss.ForbiddenError):
                client.download_report(*report)


BAD_LOCATIONS = [
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "javascript:alert(1)",
    "data:application/pdf;base64,JVBERi0xLjc=",
    "///HOST/x",
    "http://HOST@127.0.0.1:1/x",
    "http://token:word@HOST/x",
    "http://HOST:99999/x",
    "http://HOST\\@example.com/x",
    "http://ho st/x",
    "http://2130706433/x",
    "http://10.0.0.1/x",
    "",
]


@pytest.mark.parametrize("bad_location", BAD_LOCATIONS)
def test_redirect_to_bad_location_is_rejected(
    mock: MockService, report: tuple[str, str, str], bad_location: str
) -> None:
    other = mock.http_other.removeprefix("http://")
    location = bad_location.replace("HOST", other)
    mock.fault(report[2], status=302, headers=[["Location", location]], times=1)
    before = mock.connections()["total"]
    with (
        dbss.Client(
            endpoint=mock.http, token=mock.token, follow_redirects=True, max_attempts=1
        ) as client,
        pytest.raises(dbss.RedirectedError) as caught,
    ):
        client.download_report(*report)
    assert mock.connections()["total"] - before == 1
    assert "word" not in str(caught.value)


# C0, DEL, C1 as UTF-8, and characters that change the text direction.
HOSTILE = "\x1b]0;owned\x07\x7f\x9b31m\u202efdp.exe\u2066"
TERMINAL_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_message_has_no_terminal_controls(mock: MockService, report: tuple[str, str, str]) -> None:
    lines: list[str] = []

    def client(**options: Any) -> dbss.Client:
        arguments = {"endpoint": mock.http, "token": mock.token, "max_attempts": 1}
        return dbss.Client(
            log=lambda record: lines.append(record.message), **{**arguments, **options}
        )

    messages: list[str] = []
    body = {
        "error_code": HOSTILE,
        "error_msg": f"a{HOSTILE}b\r\nsecond line",
        "request_id": HOSTILE,
        "details": [{"error_code": HOSTILE, "error_msg": HOSTILE}],
    }
    name = HOSTILE.replace("\x1b", "").replace("\x07", "").replace("\x7f", "")
    faults: list[dict[str, Any]] = [
        {"status": 403, "json": body, "headers": [["X-Request-Id", None]]},
        {"status": 500, "body": HOSTILE},
        {"status": 404, "headers": [["X-Request-Id", name]]},
        {"status": 302, "headers": [["Location", f"https://{name}/"]]},
        {"headers": [["Content-Encoding", name]]},
        {"headers": [["Content-Range", name]], "status": 206},
    ]
    with client() as one:
        for fault in faults:
            mock.fault(report[2], times=1, **fault)
            with pytest.raises(dbss.Error) as caught:
                one.download_report(*report)
            messages.append(str(caught.value))
        mock.fault("@instances", json={"servers": [{"id": HOSTILE, HOSTILE: 1}, HOSTILE]})
        with pytest.raises(dbss.Error) as caught:
            list(one.instances(report[0]))
        messages.append(str(caught.value))

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(f"HTTP/1.1 403 {HOSTILE}\r\n\r\n".encode())

    with RawServer(serve) as proxy:
        options = {"endpoint": mock.https, "ca_file": mock.ca_file}
        with (
            client(proxy=f"http://127.0.0.1:{proxy.port}", **options) as one,
            pytest.raises(dbss.ConnectError) as caught,
        ):
            one.download_report(*report)
        messages.append(str(caught.value))
    assert len(messages) == len(faults) + 2
    assert any("owned" in line for line in lines)
    for text in messages + lines:
        assert not TERMINAL_CONTROLS.search(text), repr(text)


def test_proxy_password_repeated_by_proxy_is_redacted(mock: MockService) -> None:
    seen: list[bytes] = []
    lines: list[str] = []
    forms: list[Callable[[bytes], bytes]] = [
        lambda value: value,
        lambda value: value.split()[1],
        lambda value: base64.b64decode(value.split()[1]).split(b":")[1],
    ]

    def serve(connection: socket.socket) -> None:
        value = re.search(rb"Proxy-Authorization: (.*)\r\n", read_request(connection))
        assert value
        seen.append(value[1])
        connection.sendall(b"HTTP/1.1 403 no " + forms[len(seen) - 1](value[1]) + b"\r\n\r\n")

    with RawServer(serve) as proxy:
        for _ in forms:
            with (
                dbss.Client(
                    endpoint=mock.https,
                    token=mock.token,
                    ca_file=mock.ca_file,
                    max_attempts=1,
                    proxy=f"http://proxy-user:correct-horse@127.0.0.1:{proxy.port}",
                    log=lambda record: lines.append(record.message),
                ) as client,
                pytest.raises(dbss.ConnectError, match="403") as caught,
            ):
                client.download_report(*IDS)
            lines.append(str(caught.value))
    assert len(seen) == len(forms)
    output = "\n".join(lines)
    assert "correct-horse" not in output
    assert base64.b64encode(b"proxy-user:correct-horse").decode() not in output


def server_hello(version: int) -> bytes:
    """TLS: the first message of a server that chooses this version."""
    body = struct.pack(">H32sBHB", version, bytes(range(32)), 0, 0xC02F, 0)
    handshake = b"\x02" + len(body).to_bytes(3, "big") + body
    return struct.pack(">BHH", 22, version, len(handshake)) + handshake


def offered_versions(hello: bytes) -> set[int]:
    """TLS: the versions in the first message of a client (RFC 8446, 4.2.1)."""
    found = re.search(rb"\x00\x2b\x00(.)(.)((?:\x03.)+)", hello, re.DOTALL)
    assert found
    assert found[1][0] == found[2][0] + 1
    listed = found[3][: found[2][0]]
    return {int.from_bytes(listed[i : i + 2], "big") for i in range(0, len(listed), 2)}


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302])
def test_old_tls_versions_are_neither_offered_nor_accepted(version: int) -> None:
    hellos: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        hellos.append(connection.recv(65536))
        connection.sendall(server_hello(version))
        # The alert of the client.
        connection.recv(65536)

    with (
        RawServer(serve) as listener,
        listener.client("https") as client,
        pytest.raises(dbss.TlsError),
    ):
        client.download_report(*IDS)
    assert offered_versions(hellos[0]) == {0x0303, 0x0304}


def test_environment_cannot_enable_key_log_or_trace(
    mock: MockService, environment: dict[str, str], tmp_path: Path
) -> None:
    """It enables neither a TLS key log nor a trace, whatever other libraries do."""
    program = f"""
import dbss
with dbss.Client(endpoint="{mock.https}", token="{mock.token}",
                 ca_file="{mock.ca_file}") as client:
    print(len(client.download_report("{mock.project_id}", "{mock.instance_id}",
                                     "{mock.pdf["id"]}")))
"""
    keys = tmp_path / "keys"
    nobody = "http://127.0.0.1:1"
    tracing = {
        "SSLKEYLOGFILE": str(keys),
        "RUST_LOG": "trace",
        "RUST_BACKTRACE": "full",
        # Including HTTP_PROXY, which a client of a CGI program can set.
        "https_proxy": nobody,
        "HTTP_PROXY": nobody,
        "ALL_PROXY": nobody,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **tracing},
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert done.stderr == b""
    assert done.stdout.strip().isdigit()
    assert not keys.exists()


def test_python_package_has_no_dependencies_and_tools_are_pinned() -> None:
    project = (ROOT / "bindings/python/pyproject.toml").read_text()
    table = re.search(r"^\[project\]\n(.*?)^\[", project, re.DOTALL | re.MULTILINE)
    assert table
    assert "dependencies" not in table[1]
    required = (ROOT / "tests/python/requirements.txt").read_text().splitlines()
    required = [line for line in required if line and not line.startswith("#")]
    assert required
    assert [line for line in required if not re.fullmatch(r"[\w-]+==[\w.]+", line)] == []


def test_chunked_body_with_wrong_content_length_is_rejected(
    mock: MockService, report: tuple[str, str, str]
) -> None:
    body = b"8\r\n%PDF-1.7\r\n0\r\n\r\n"
    with dbss.Client(endpoint=mock.http, token=mock.token, max_attempts=1) as client:
        for length in (0, 3, 9, len(body)):
            raw = response(CHUNKED, b"Content-Length: %d" % length, body=body)
            mock.fault(report[2], raw_base64=base64.b64encode(raw).decode(), times=1)
            with pytest.raises(dbss.TruncatedError):
                client.download_report(*report)


# A forged name lookup. The address belongs to this machine, but is not loopback.
FAKE_GETADDRINFO = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node != NULL && strcmp(node, "localhost") == 0)
        node = "0.0.0.0";
    return real(node, service, hints, found);
}
"""


@pytest.mark.parametrize("allowed", [False, True])
def test_plain_http_to_name_of_another_host_is_rejected(
    environment: dict[str, str], tmp_path: Path, allowed: bool
) -> None:
    source = tmp_path / "astray.c"
    source.write_text(FAKE_GETADDRINFO)
    preloaded = source.with_suffix(".so")
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run(
        [*compiler, "-shared", "-fPIC", "-o", preloaded, source, "-ldl"],
        check=True,
        timeout=TIMEOUT,
    )

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(response(LENGTH))

    with RawServer(serve) as listener:
        program = f"""
import dbss
with dbss.Client(endpoint="http://localhost:{listener.port}", token="a-token-of-the-test",
                 allow_plaintext={allowed}, max_attempts=1) as client:
    try:
        print(client.download_report(*{IDS}).decode())
    except dbss.PlaintextRefusedError as refused:
        print(refused.parameter)
"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**environment, "LD_PRELOAD": str(preloaded)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert (done.stdout.strip(), done.stderr) == ("%PDF-1.7" if allowed else "endpoint", "")
        assert listener.connections == int(allowed)


def test_options_cannot_disable_certificate_verification() -> None:
    names = [one.key for one in dbss.options()]
    assert "ca_file" in names
    for name in names:
        assert not re.search("insecure|verif|skip|unsafe|self_signed|hostname", name)


def test_unsafe_code_is_only_in_two_folders() -> None:
    library = (ROOT / "src/lib.rs").read_text()
    assert "#![deny(unsafe_code)]" in library
    allowing = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*.rs")
        if re.search(r"(allow|expect|warn)\(.*unsafe_code", path.read_text())
    }
    assert allowing == {"ffi/lib.rs", "sys/mod.rs"}


def test_descriptors_are_opened_in_one_folder() -> None:
    """In sys, which keeps them away from the standard streams."""
    makes = re.compile(
        r"File::(open|create)|(^\s*|[Oo]ptions(\(\))?)\.open\(|fs::(read|write|copy|File::)|read_dir|Socket::new|"
        r"(Tcp|Unix)(Stream|Listener|Datagram)::(connect|bind|pair)|\.try_clone\(|io::pipe|Command::new"
    )
    # sys::open opens them; tests are exempt.
    found = {
        f"{path.relative_to(ROOT / 'src')}: {line.strip()}"
        for path in (ROOT / "src").rglob("*.rs")
        if path.parent.name != "sys" and path.name != "fuzzing.rs"
        for line in path.read_text().split("#[cfg(test)]\nmod tests")[0].splitlines()
        if makes.search(line) and not line.lstrip().startswith("//") and "sys::open" not in line
    }
    assert found == set()


# The document.

SECURITY = (ROOT / "SECURITY.md").read_text()


def promises() -> dict[str, list[str]]:
    """Each promise with the tests that it names."""
    _, rest = SECURITY.split("## What is promised\n")
    promised, _ = rest.split("## What is not promised\n")
    found: dict[str, list[str]] = {}
    for item in re.split(r"^- ", promised, flags=re.MULTILINE)[1:]:
        lines = re.split(r"\n\n|\n#", item)[0].splitlines()
        held = [line.strip() for line in lines if re.fullmatch(r"  `.+(::.+|deny)`", line)]
        words = " ".join(line.strip() for line in lines if line.strip() not in held)
        found[words] = [one.strip("`") for one in held]
    return found


def find_test_names(path: Path) -> set[str]:
    """The names of the tests in a file, for each kind of file."""
    if not path.is_file():
        return set()
    text = path.read_text()
    pattern = {
        ".py": r"^def (test_\w+)\(",
        ".rs": r"#\[test\]\n(?:\s*#\[.*\]\n)*\s*fn (\w+)\(",
        ".c": r'^    \{"(\w+)", \w+, (?:PLAIN|TLS|LOAD)\},$',
        ".json": r'^  {"name": "(\w+)",$',
    }[path.suffix]
    return set(re.findall(pattern, text, re.MULTILINE))


def test_security_promises_name_existing_tests() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = promises()
    assert len(found) > 30
    for promise, held in found.items():
        assert held, f"nothing holds: {promise}"
        # Each line is text or a reference, so that a malformed reference is not taken for text.
        assert "::" not in promise, promise
        for one in held:
            file, _, name = one.partition("::")
            if one.startswith("make "):
                assert one.removeprefix("make ") in targets, one
            else:
                assert name in find_test_names(ROOT / file), f"there is no test {one}"
