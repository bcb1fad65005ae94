"""Which certificates are trusted, the errors for the others, and which files may be read."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import dbss
import pytest

from conftest import need_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mock_service import MockService

REPORT = b"%PDF-1.7\n" + bytes(1000) + b"\n%%EOF\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(REPORT)
IDS = ("0123456789abcdef0123456789abcdef", "a" * 32, "b" * 32)
CA = ("-addext", "basicConstraints=critical,CA:TRUE")
NOT_CA = ("-addext", "basicConstraints=critical,CA:FALSE")
FOR_LOCALHOST = ("-addext", "subjectAltName=IP:127.0.0.1")
P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256")
P521 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-sha512")
SHA1 = ("-newkey", "rsa:2048", "-sha1")


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[..., Path]:
    """Creates a self-signed certificate and its key."""
    openssl = need_tool("openssl")

    def make(*settings: str) -> Path:
        path, key = tmp_path / "certificate.pem", tmp_path / "certificate.key"
        subject = ("-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(path))
        command = [openssl, "req", "-x509", "-nodes", "-days", "30", *subject, *settings]
        subprocess.run(command, check=True, capture_output=True)
        return path

    return make


@contextlib.contextmanager
def tls_server(certificate: Path) -> Iterator[str]:
    """Serves a report for every request; yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
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


def download(endpoint: str, ca_file: Path | str) -> bytes:
    with dbss.Client(endpoint=endpoint, token="token", ca_file=ca_file) as client:
        return client.download_report(*IDS)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((*P256, *CA, *FOR_LOCALHOST), id="of an authority"),
        pytest.param(
            (*P256, "-addext", "basicConstraints=CA:TRUE,pathlen:0", *FOR_LOCALHOST),
            id="not critical",
        ),
        pytest.param(
            (*P256, *CA, *FOR_LOCALHOST, "-addext", "extendedKeyUsage=serverAuth"), id="for servers"
        ),
        pytest.param((*P256, *NOT_CA, *FOR_LOCALHOST), id="of no authority"),
        pytest.param(("-newkey", "rsa:2048", "-sha256", *CA, *FOR_LOCALHOST), id="RSA"),
    ],
)
def test_certificate_in_ca_file_is_accepted(
    certificate: Callable[..., Path], settings: tuple[str, ...]
) -> None:
    path = certificate(*settings)
    with tls_server(path) as url:
        assert download(url, path) == REPORT


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param((*P256, *CA), "names no host in its subject alternative names", id="no name"),
        pytest.param(
            (*P256, *CA, "-addext", "subjectAltName=DNS:other.example,IP:10.0.0.1"),
            "it is for other.example, 10.0.0.1, and not for 127.0.0.1",
            id="another name",
        ),
        pytest.param((*SHA1, *CA, *FOR_LOCALHOST), "SHA-1", id="SHA-1"),
        pytest.param((*SHA1, *NOT_CA, *FOR_LOCALHOST), "SHA-1", id="SHA-1 of no authority"),
        pytest.param((*P521, *CA, *FOR_LOCALHOST), "P-521", id="P-521"),
        pytest.param((*P521, *NOT_CA, *FOR_LOCALHOST), "P-521", id="P-521 of no authority"),
        pytest.param(
            (*P256, *CA, *FOR_LOCALHOST, "-addext", "extendedKeyUsage=clientAuth"),
            "purpose",
            id="for clients",
        ),
    ],
)
def test_unsound_certificate_in_ca_file_is_rejected_with_reason(
    certificate: Callable[..., Path], settings: tuple[str, ...], says: str
) -> None:
    path = certificate(*settings)
    with tls_server(path) as url, pytest.raises((dbss.CertificateError, dbss.TlsError)) as caught:
        download(url, path)
    message = str(caught.value)
    assert says in message
    assert "give it" not in message
    assert len(message) < 400
    assert "ObjectIdentifier" not in message
    assert "[" not in message


def test_certificate_of_unknown_authority_is_rejected(
    certificate: Callable[..., Path], mock: MockService
) -> None:
    with (
        tls_server(certificate(*P256, *CA, *FOR_LOCALHOST)) as url,
        pytest.raises(dbss.CertificateError, match=r"give it with ca_file \(CaUsedAsEndEntity\)"),
    ):
        download(url, mock.ca_file)


@pytest.mark.parametrize(
    ("listener", "says"),
    [
        (
            "https_self_signed",
            r"for a private authority, give its certificate with ca_file \(UnknownIssuer\)",
        ),
        (
            "https_expired",
            r"has expired: it was valid until .*, and here it is .* clock is wrong, set it",
        ),
        ("https_wrong_name", r"it is for [^ ]*, and not for localhost; .* \(NotValidForName\)"),
    ],
)
def test_rejected_certificate_error_has_the_reason(
    mock: MockService, listener: str, says: str
) -> None:
    with pytest.raises(dbss.CertificateError, match=says):
        download(getattr(mock, listener), mock.ca_file)


def test_server_without_tls_error_has_the_reason(mock: MockService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def respond() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(65536)

        thread = threading.Thread(target=respond)
        thread.start()
        with pytest.raises(dbss.TlsError, match="is this the server's port for https"):
            download(f"https://127.0.0.1:{listener.getsockname()[1]}", mock.ca_file)
        thread.join()


# Files.

SECRET = "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQC7"


@pytest.mark.parametrize(
    "text",
    [
        f"-----BEGIN PRIVATE KEY-----{SECRET}-----END PRIVATE KEY-----",
        f"-----BEGIN {SECRET}\n",
        f"-----BEGIN CERTIFICATE-----\n{SECRET}",
        f"-----BEGIN {SECRET}-----\n{SECRET}\n-----END CERTIFICATE-----\n",
        f"-----BEGIN CERTIFICATE-----\n{SECRET}\n-----END CERTIFICATE-----\n",
        f"-----BEGIN CERTIFICATE-----\n{SECRET}!\n-----END CERTIFICATE-----\n",
        f"{SECRET}\n",
    ],
)
def test_error_never_quotes_the_ca_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(text)
    with pytest.raises(dbss.InvalidValueError) as caught:
        download("https://127.0.0.1:1", path)
    assert not any(SECRET[at : at + 4] in str(caught.value) for at in range(len(SECRET) - 4))


@pytest.mark.parametrize("text", [f"{SECRET}: [", f'"{SECRET}\\q"', "DBSS: @\u4e01"])
def test_error_never_quotes_the_regions_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "regions.yaml"
    path.write_text(text)
    monkeypatch.setenv("HUAWEICLOUD_SDK_REGIONS_FILE", str(path))
    with pytest.raises(dbss.InvalidEndpointError, match=r"YAML at line|is not a map") as caught:
        dbss.Client(region="cn-north-4", token="token")
    assert SECRET[:4] not in str(caught.value)
    assert "\u4e01" not in str(caught.value)


PROGRAM = """
import os, sys, dbss
with dbss.Client(endpoint=sys.argv[1], token=sys.argv[2]) as client:
    try:
        print(len(client.download_report(*sys.argv[3:])))
    except dbss.CertificateError as error:
        print(error.status_name)
"""


@pytest.mark.parametrize(
    ("variable", "kind"),
    [
        ("SSL_CERT_FILE", "/dev/zero"),
        ("SSL_CERT_FILE", "pipe"),
        ("SSL_CERT_FILE", "huge"),
        ("SSL_CERT_DIR", "/proc"),
        ("SSL_CERT_DIR", "/proc/self"),
        ("SSL_CERT_DIR", "/dev"),
        ("SSL_CERT_DIR", "directory"),
        ("SSL_CERT_DIR", "missing:directory"),
    ],
)
def test_openssl_variables_with_unusual_files_do_not_hang(
    mock: MockService, environment: dict[str, str], tmp_path: Path, variable: str, kind: str
) -> None:
    """The directory has special files and the good certificate."""
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 40)
    directory = tmp_path / "directory"
    directory.mkdir()
    for name in ("pipe", "huge"):
        (directory / name).symlink_to(tmp_path / name)
    (directory / "zero").symlink_to("/dev/zero")
    shutil.copy(mock.ca_file, directory / "good.pem")
    value = ":".join(
        part if part.startswith("/") else str(tmp_path / part) for part in kind.split(":")
    )
    report = mock.add_report(format="pdf", size=6000)
    arguments = [
        mock.https,
        mock.token,
        mock.project_id,
        mock.instance_id,
        report["id"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**environment, variable: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    expected = "6000" if "directory" in kind else "DBSS_ERR_CERTIFICATE"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")
