"""Which certificates are trusted, and the errors for the others; more is in tls.json."""

import dbss
import pytest

from support import ID, REPORT, Server, new_certificate, serve_report, tls_with


def extension(text):
    return ("-addext", text)


CA = extension("basicConstraints=critical,CA:TRUE")
NOT_CA = extension("basicConstraints=critical,CA:FALSE")
FOR_LOCALHOST = extension("subjectAltName=IP:127.0.0.1")
OTHER_NAMES = extension("subjectAltName=DNS:other.example,IP:10.0.0.1")
P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256")
P521 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-sha512")
SHA1 = ("-newkey", "rsa:2048", "-sha1")

SOUND = {
    "of an authority": (*P256, *CA, *FOR_LOCALHOST),
    "not critical": (*P256, *extension("basicConstraints=CA:TRUE,pathlen:0"), *FOR_LOCALHOST),
    "for servers": (*P256, *CA, *FOR_LOCALHOST, *extension("extendedKeyUsage=serverAuth")),
    "of no authority": (*P256, *NOT_CA, *FOR_LOCALHOST),
    "RSA": ("-newkey", "rsa:2048", "-sha256", *CA, *FOR_LOCALHOST),
}
# With what the error says.
UNSOUND = [
    ("names no host in its subject alternative names", (*P256, *CA)),
    ("it is for other.example, 10.0.0.1, and not for 127.0.0.1", (*P256, *CA, *OTHER_NAMES)),
    ("SHA-1", (*SHA1, *CA, *FOR_LOCALHOST)),
    ("SHA-1", (*SHA1, *NOT_CA, *FOR_LOCALHOST)),
    ("P-521", (*P521, *CA, *FOR_LOCALHOST)),
    ("P-521", (*P521, *NOT_CA, *FOR_LOCALHOST)),
    ("purpose", (*P256, *CA, *FOR_LOCALHOST, *extension("extendedKeyUsage=clientAuth"))),
]


@pytest.fixture
def download(tmp_path):
    """Gets a report from a server with a new certificate, which is trusted unless another is."""

    def get(*settings, ca_file=None):
        path = new_certificate(tmp_path / "certificate.pem", "127.0.0.1", *settings)
        with (
            Server(serve_report, tls_with(path, path.with_suffix(".key"))) as server,
            dbss.Client(endpoint=server.url, token="token", ca_file=ca_file or path) as client,
        ):
            return client.download_report("a" * 32, "b" * 32, project_id=ID)

    return get


@pytest.mark.parametrize("kind", SOUND)
def test_certificate_in_ca_file_is_accepted(download, kind):
    assert download(*SOUND[kind]) == REPORT


@pytest.mark.parametrize(("says", "settings"), UNSOUND)
def test_unsound_certificate_in_ca_file_is_rejected_with_reason(download, settings, says):
    with pytest.raises((dbss.CertificateError, dbss.TlsError)) as caught:
        download(*settings)
    message = str(caught.value)
    assert says in message
    assert not any(words in message for words in ("give it", "ObjectIdentifier", "["))
    assert len(message) < 400


def test_certificate_of_unknown_authority_is_rejected(download, mock):
    says = r"give it with ca_file \(CaUsedAsEndEntity\)"
    with pytest.raises(dbss.CertificateError, match=says):
        download(*SOUND["of an authority"], ca_file=mock.ca_file)


def test_server_without_tls_error_has_the_reason():
    def respond(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(65536)

    with Server(respond) as server:
        endpoint = server.url.replace("http", "https")
        with (
            dbss.Client(endpoint=endpoint, token="token") as client,
            pytest.raises(dbss.TlsError, match="is this the server's port for https"),
        ):
            client.download_report("a" * 32, "b" * 32, project_id=ID)
