"""The promises of SECURITY.md: each names existing tests, some of which are here."""

import base64
import json
import re
import socket
import struct
import sys
import threading
import time

import dbss
import pytest

from comparing import TERMINAL_CONTROLS, bytes_of
from support import ID, ROOT, TIMEOUT, Server, compiled, output, read_request
from test_c import checks_in

IDS = ("i" * 32, "r" * 16)
VALID = json.loads((ROOT / "tests/conformance/security.json").read_text())["tables"]["VALID"]
LENGTH = b"Content-Length: 8"


# A response that is a complete report, apart from the given parts.
def response(*headers, start=b"HTTP/1.1 200 OK", body=b"%PDF-1.7"):
    return b"\r\n".join([start, *headers, b"", body])


def client_of(server, **options):
    arguments = {"token": "a-token-of-the-test", "project_id": ID, "max_attempts": 1, **options}
    return dbss.Client(**{"endpoint": server.url, **arguments})


def send_slowly(connection, data, seconds=0):
    read_request(connection)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(seconds)


@pytest.mark.parametrize("name", VALID)
def test_response_that_arrives_byte_by_byte_is_accepted(name):
    raw = bytes_of(VALID[name])

    def serve(connection):
        send_slowly(connection, raw[:400])
        connection.sendall(raw[400:])

    with Server(serve) as server, client_of(server) as client:
        assert client.download_report(*IDS) == b"%PDF-1.7"


@pytest.mark.parametrize("moment", ["with the response", "after the response", "after an error"])
def test_unsolicited_response_is_not_used(moment):
    """An extra response must not be used for the next request."""
    extra = response(b"Content-Length: 5", body=b"ahead")
    received, sent = threading.Event(), threading.Event()

    def serve(connection):
        while read_request(connection):
            begins = not sent.is_set()
            own = response(LENGTH)
            if begins and moment == "after an error":
                own = response(LENGTH, start=b"HTTP/1.1 404 Not Found", body=b"{}      ")
            if begins and moment == "after the response":
                connection.sendall(own)
                received.wait(TIMEOUT)
                own = b""
            connection.sendall(own + extra if begins else own)
            sent.set()

    with Server(serve) as server, client_of(server) as client:
        if moment == "after an error":
            with pytest.raises(dbss.NotFoundError):
                client.download_report(*IDS)
        else:
            assert client.download_report(*IDS) == b"%PDF-1.7"
        received.set()
        assert sent.wait(TIMEOUT)
        assert client.download_report(*IDS) == b"%PDF-1.7"
        # The connection was not reused; the client closed it, so the server accepted the next.
        assert server.connections == 2


def test_slow_header_ends_with_total_timeout():
    slow = response(LENGTH, *[b"X-Slow: y"] * 1000)
    with (
        Server(lambda connection: send_slowly(connection, slow, 0.02)) as server,
        client_of(server, total_timeout=0.5) as client,
    ):
        began = time.monotonic()
        with pytest.raises(dbss.TotalTimeoutError):
            client.download_report(*IDS)
        assert time.monotonic() - began < 18


@pytest.mark.parametrize(
    "form",
    [
        lambda value: value,
        lambda value: value.split()[1],
        lambda value: base64.b64decode(value.split()[1]).split(b":")[1],
        # Characters that drive a terminal.
        lambda _: b"\x1b]0;owned\x07\x7f\xc2\x9b31m\xe2\x80\xaefdp",
    ],
)
def test_proxy_password_repeated_by_proxy_is_redacted(mock, form):
    records = []

    def serve(connection):
        value = re.search(rb"Proxy-Authorization: (.*)\r\n", read_request(connection))
        connection.sendall(b"HTTP/1.1 403 no " + form(value[1]) + b"\r\n\r\n")

    with Server(serve) as server:
        proxy = f"http://proxy-user:correct-horse@127.0.0.1:{server.port}"
        more = {"endpoint": mock.https, "ca_file": mock.ca_file, "log": records.append}
        with (
            client_of(server, proxy=proxy, **more) as client,
            pytest.raises(dbss.ConnectError, match="403") as caught,
        ):
            client.download_report(*IDS)
    for text in (*(one.message for one in records), str(caught.value)):
        assert not TERMINAL_CONTROLS.search(text)
        assert "correct-horse" not in text
        assert base64.b64encode(b"proxy-user:correct-horse").decode() not in text


def server_hello(version):
    """TLS: the first message of a server that chooses this version."""
    body = struct.pack(">H32sBHB", version, bytes(range(32)), 0, 0xC02F, 0)
    handshake = b"\x02" + len(body).to_bytes(3, "big") + body
    return struct.pack(">BHH", 22, version, len(handshake)) + handshake


def offered_versions(hello):
    """TLS: the versions in the first message of a client (RFC 8446, 4.2.1)."""
    found = re.search(rb"\x00\x2b\x00(.)(.)((?:\x03.)+)", hello, re.DOTALL)
    assert found[1][0] == found[2][0] + 1
    listed = found[3][: found[2][0]]
    return {int.from_bytes(listed[i : i + 2], "big") for i in range(0, len(listed), 2)}


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302])
def test_old_tls_versions_are_neither_offered_nor_accepted(version):
    hellos = []

    def serve(connection):
        hellos.append(connection.recv(65536))
        connection.sendall(server_hello(version))
        # The alert of the client.
        connection.recv(65536)

    with Server(serve) as server:
        endpoint = server.url.replace("http", "https")
        with client_of(server, endpoint=endpoint) as client, pytest.raises(dbss.TlsError):
            client.download_report(*IDS)
    assert offered_versions(hellos[0]) == {0x0303, 0x0304}


def test_plain_response_to_tls_is_refused():
    def serve(connection):
        connection.recv(65536)
        connection.sendall(response(LENGTH, start=b"HTTP/1.1 400 Bad Request"))
        connection.recv(65536)

    with Server(serve) as server:
        endpoint = server.url.replace("http", "https")
        with client_of(server, endpoint=endpoint) as client, pytest.raises(dbss.TlsError):
            client.download_report(*IDS)


def test_python_package_has_no_dependencies_and_tools_are_pinned():
    project = (ROOT / "bindings/python/pyproject.toml").read_text()
    table = re.search(r"^\[project\]\n(.*?)^\[", project, re.DOTALL | re.MULTILINE)
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
def test_plain_http_to_name_of_another_host_is_rejected(environment, tmp_path, allowed):
    preloaded = compiled(FAKE_GETADDRINFO, tmp_path / "astray.so", "-ldl")

    def serve(connection):
        read_request(connection)
        connection.sendall(response(LENGTH))

    with Server(serve) as server:
        program = f"""
import dbss
with dbss.Client(endpoint="http://localhost:{server.port}", token="a-token-of-the-test",
                 project_id="{ID}", allow_plaintext={allowed}, max_attempts=1) as client:
    try:
        print(client.download_report(*{IDS}).decode())
    except dbss.PlaintextRefusedError as refused:
        print(refused.parameter)
"""
        env = {**environment, "LD_PRELOAD": str(preloaded)}
        printed = output(sys.executable, "-c", program, env=env)
        assert printed.strip() == ("%PDF-1.7" if allowed else "endpoint")
        assert server.connections == int(allowed)


def test_options_cannot_disable_certificate_verification():
    names = [one.key for one in dbss.options()]
    assert "ca_file" in names
    wrong = "insecure|verif|skip|unsafe|self_signed|hostname"
    assert [name for name in names if re.search(wrong, name)] == []


def test_unsafe_code_is_only_in_two_folders():
    assert "#![deny(unsafe_code)]" in (ROOT / "src/lib.rs").read_text()
    allowing = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*.rs")
        if re.search(r"(allow|expect|warn)\(.*unsafe_code", path.read_text())
    }
    assert allowing == {"ffi/lib.rs", "sys/mod.rs"}


def test_descriptors_are_opened_in_one_folder():
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


def promises():
    """Each promise with the tests that it names."""
    _, rest = (ROOT / "SECURITY.md").read_text().split("## What is promised\n")
    promised, _ = rest.split("## What is not promised\n")
    found = {}
    for item in re.split(r"^- ", promised, flags=re.MULTILINE)[1:]:
        lines = re.split(r"\n\n|\n#", item)[0].splitlines()
        held = [line.strip() for line in lines if re.fullmatch(r"  `.+(::.+|deny)`", line)]
        words = " ".join(line.strip() for line in lines if line.strip() not in held)
        found[words] = [one.strip("`") for one in held]
    return found


# How the tests in a file of each kind are named.
TESTS = {
    ".py": r"^def (test_\w+)\(",
    ".rs": r"#\[test\]\n(?:\s*#\[.*\]\n)*\s*fn (\w+)\(",
    ".go": r"^func (Test\w+)\(",
    ".java": r"^  void (\w+)\(\)",
    ".mjs": r"^test\('(.+?)', ",
    ".json": r'^  {"name": "(\w+)",$',
}


def names_in(path):
    return re.findall(TESTS[path.suffix], path.read_text(), re.MULTILINE)


def test_security_promises_name_existing_tests():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = promises()
    assert len(found) > 30
    for promise, held in found.items():
        assert held, f"nothing holds: {promise}"
        # Each line is text or a reference, so that a malformed reference is not taken for text.
        assert "::" not in promise, promise
        for one in held:
            file, _, name = one.partition("::")
            path = ROOT / file
            if one.startswith("make "):
                assert one.removeprefix("make ") in targets, one
            else:
                tests = checks_in(path.stem) if path.suffix == ".c" else names_in(path)
                assert name in tests, f"there is no test {one}"
