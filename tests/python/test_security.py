"""The promises of SECURITY.md: each names existing tests, some of which are here."""

from __future__ import annotations

import base64
import contextlib
import json
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

import harness

if TYPE_CHECKING:
    from collections.abc import Callable

    from mock_service import MockService

ROOT = Path(__file__).parents[2]
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0


# A response that is a complete report, apart from the given parts.
def response(
    *headers: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"%PDF-1.7"
) -> bytes:
    return b"\r\n".join([start, *headers, b"", body])


LENGTH = b"Content-Length: 8"


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
VALID = json.loads((ROOT / "tests/conformance/security.json").read_text())["tables"]["VALID"]


@pytest.mark.parametrize("name", VALID)
def test_response_that_arrives_byte_by_byte_is_accepted(name: str) -> None:
    raw = harness.bytes_of(VALID[name])

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw[:400]:
            connection.sendall(bytes([byte]))
        connection.sendall(raw[400:])

    with RawServer(serve) as listener, listener.client() as client:
        assert client.download_report(*IDS) == b"%PDF-1.7"


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


PASSWORD_FORMS: list[Callable[[bytes], bytes]] = [
    lambda value: value,
    lambda value: value.split()[1],
    lambda value: base64.b64decode(value.split()[1]).split(b":")[1],
    # Characters that drive a terminal.
    lambda _: b"\x1b]0;owned\x07\x7f\xc2\x9b31m\xe2\x80\xaefdp",
]


@pytest.mark.parametrize("form", PASSWORD_FORMS)
def test_proxy_password_repeated_by_proxy_is_redacted(
    mock: MockService, form: Callable[[bytes], bytes]
) -> None:
    lines: list[str] = []

    def serve(connection: socket.socket) -> None:
        value = re.search(rb"Proxy-Authorization: (.*)\r\n", read_request(connection))
        assert value
        connection.sendall(b"HTTP/1.1 403 no " + form(value[1]) + b"\r\n\r\n")

    with (
        RawServer(serve) as proxy,
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
    for text in (*lines, str(caught.value)):
        assert not harness.TERMINAL_CONTROLS.search(text)
        assert "correct-horse" not in text
        assert base64.b64encode(b"proxy-user:correct-horse").decode() not in text


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


def test_python_package_has_no_dependencies_and_tools_are_pinned() -> None:
    project = (ROOT / "bindings/python/pyproject.toml").read_text()
    table = re.search(r"^\[project\]\n(.*?)^\[", project, re.DOTALL | re.MULTILINE)
    assert table
    assert "dependencies" not in table[1]
    required = (ROOT / "tests/python/requirements.txt").read_text().splitlines()
    required = [line for line in required if line and not line.startswith("#")]
    assert required
    assert [line for line in required if not re.fullmatch(r"[\w-]+==[\w.]+", line)] == []


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
        ".go": r"^func (Test\w+)\(",
        ".mjs": r"^test\('(.+?)', ",
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
