"""Which certificates are trusted, and the errors for the others; more is in tls.json."""

import contextlib
import socket
import ssl
import subprocess
import threading

import dbss
import pytest

from conftest import need_tool

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
def certificate(tmp_path):
    """Creates a self-signed certificate and its key."""
    openssl = need_tool("openssl")

    def make(*settings):
        path, key = tmp_path / "certificate.pem", tmp_path / "certificate.key"
        subject = ("-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(path))
        command = [openssl, "req", "-x509", "-nodes", "-days", "30", *subject, *settings]
        subprocess.run(command, check=True, capture_output=True)
        return path

    return make


@contextlib.contextmanager
def tls_server(certificate):
    """Serves a report for every request; yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
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


def download(endpoint, ca_file):
    with dbss.Client(endpoint=endpoint, token="token", ca_file=ca_file) as client:
        return client.download_report(*IDS)


SOUND = {
    "of an authority": (*P256, *CA, *FOR_LOCALHOST),
    "not critical": (*P256, "-addext", "basicConstraints=CA:TRUE,pathlen:0", *FOR_LOCALHOST),
    "for servers": (*P256, *CA, *FOR_LOCALHOST, "-addext", "extendedKeyUsage=serverAuth"),
    "of no authority": (*P256, *NOT_CA, *FOR_LOCALHOST),
    "RSA": ("-newkey", "rsa:2048", "-sha256", *CA, *FOR_LOCALHOST),
}
OTHER_NAMES = ("-addext", "subjectAltName=DNS:other.example,IP:10.0.0.1")
# With what the error says.
UNSOUND = [
    ("names no host in its subject alternative names", (*P256, *CA)),
    ("it is for other.example, 10.0.0.1, and not for 127.0.0.1", (*P256, *CA, *OTHER_NAMES)),
    ("SHA-1", (*SHA1, *CA, *FOR_LOCALHOST)),
    ("SHA-1", (*SHA1, *NOT_CA, *FOR_LOCALHOST)),
    ("P-521", (*P521, *CA, *FOR_LOCALHOST)),
    ("P-521", (*P521, *NOT_CA, *FOR_LOCALHOST)),
    ("purpose", (*P256, *CA, *FOR_LOCALHOST, "-addext", "extendedKeyUsage=clientAuth")),
]


@pytest.mark.parametrize("kind", SOUND)
def test_certificate_in_ca_file_is_accepted(certificate, kind):
    path = certificate(*SOUND[kind])
    with tls_server(path) as url:
        assert download(url, path) == REPORT


@pytest.mark.parametrize(("says", "settings"), UNSOUND)
def test_unsound_certificate_in_ca_file_is_rejected_with_reason(certificate, settings, says):
    path = certificate(*settings)
    with tls_server(path) as url, pytest.raises((dbss.CertificateError, dbss.TlsError)) as caught:
        download(url, path)
    message = str(caught.value)
    assert says in message
    assert "give it" not in message
    assert len(message) < 400
    assert "ObjectIdentifier" not in message
    assert "[" not in message


def test_certificate_of_unknown_authority_is_rejected(certificate, mock):
    with (
        tls_server(certificate(*P256, *CA, *FOR_LOCALHOST)) as url,
        pytest.raises(dbss.CertificateError, match=r"give it with ca_file \(CaUsedAsEndEntity\)"),
    ):
        download(url, mock.ca_file)


def test_server_without_tls_error_has_the_reason(mock):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def respond():
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
