"""The stack use of the calls of the C ABI: checks in C."""

import contextlib
import socket
import ssl
import subprocess
import threading

import pytest

from conftest import need_tool
from mock_service import MockService
from test_c import c_programs, checks_in, environment, fixture_file, run

# Imported fixtures; this file does not use the names directly.
__all__ = ["c_programs", "environment", "fixture_file"]

CHECKS = checks_in("stack")
KEY = "rsa:4096"
REPORT = b"%PDF-1.7\n" + b"x" * 100000
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(REPORT)


@pytest.fixture(scope="module")
def mock(build_dir):
    """A separate service, because the tests add instances permanently."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


# The longest chain that is verified on the calling thread, and the longest allowed.
@pytest.fixture(scope="module", params=[2, 6])
def certificates(request, tmp_path_factory):
    """A root, a chain of authorities below it, and a server certificate."""
    openssl = need_tool("openssl")
    directory = tmp_path_factory.mktemp("certificates")
    authority = ["-addext", "basicConstraints=critical,CA:TRUE"]
    server = [
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
    ]
    names = ["root", *(f"authority{i}" for i in range(request.param)), "server"]
    for issuer, name in zip([None, *names], names, strict=False):
        signed = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
        subprocess.run(
            [
                openssl,
                "req",
                "-x509",
                "-newkey",
                KEY,
                "-nodes",
                "-sha384",
                "-days",
                "30",
                "-subj",
                f"/CN={name} of a check",
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.pem",
                *signed,
                *(server if name == "server" else authority),
            ],
            check=True,
            capture_output=True,
            cwd=directory,
        )
    chain = [(directory / f"{name}.pem").read_text() for name in names[:0:-1]]
    (directory / "chain.pem").write_text("".join(chain))
    return directory


@contextlib.contextmanager
def tls_server(certificates, version):
    """Serves a report for every request, with this version of TLS; yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificates / "chain.pem", certificates / "server.key")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # A client that does not trust the certificate disconnects.
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                with context.wrap_socket(connection, server_side=True) as session:
                    request = b""
                    while b"\r\n\r\n" not in request and (more := session.recv(65536)):
                        request += more
                    session.sendall(RESPONSE + REPORT)
                    session.unwrap()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def fixture_file_with_servers(certificates, fixture_file):
    """The fixture file, with servers that have long RSA keys."""
    versions = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    with contextlib.ExitStack() as running:
        tls12, tls13 = (running.enter_context(tls_server(certificates, v)) for v in versions)
        more = {"tls12": tls12, "tls13": tls13, "ca_rsa": certificates / "root.pem"}
        with fixture_file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in more.items())
        yield fixture_file


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check != "stack_of_handshakes_is_bounded"]
)
def test_call_stays_within_documented_stack(c_programs, environment, fixture_file, check):
    expect_documented_stack(c_programs, environment, fixture_file, check)


def test_certificate_verification_stays_within_documented_stack(
    c_programs, environment, fixture_file_with_servers
):
    expect_documented_stack(
        c_programs, environment, fixture_file_with_servers, "stack_of_handshakes_is_bounded"
    )


def expect_documented_stack(c_programs, environment, fixture_file, check):
    done = run([c_programs / "stack", fixture_file, check], environment)
    failures = [line for line in done.stdout.splitlines() if not line.startswith("stack ")]
    assert failures == [f"ok {check}", "1 passed, 0 failed"], done.stderr
