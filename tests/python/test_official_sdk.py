"""The official SDK works with the stand-in unchanged, and gets what libdbss gets.

So the stand-in's word on the protocol is not only our own.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import dbss
import pytest

with warnings.catch_warnings():
    # Those of the SDK's own code are no defects of ours.
    warnings.simplefilter("ignore")
    from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
    from huaweicloudsdkcore.auth.internal import MetadataAccessor
    from huaweicloudsdkcore.auth.provider import MetadataCredentialProvider
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException, SdkException
    from huaweicloudsdkcore.region.region import Region
    from huaweicloudsdkdbss.v1 import DbssClient, DownloadAuditReportRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from standin import Standin

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def no_memory() -> None:
    """The SDK remembers the projects it found; each test shall look for its own."""
    BasicCredentials._CACHE.clear()


def official(standin: Standin, secret_key: str) -> DbssClient:
    credentials = BasicCredentials(standin.access_key, secret_key, standin.project_id)
    builder = DbssClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(standin.http).build()


def in_region(standin: Standin, credentials: BasicCredentials) -> DbssClient:
    """A client that has to find its project, by the name of its region."""
    builder = DbssClient.new_builder().with_credentials(credentials.with_iam_endpoint(standin.iam))
    return builder.with_region(Region(standin.region, standin.http)).build()


def download(client: DbssClient, standin: Standin, report: str, locale: str | None = None) -> bytes:
    request = DownloadAuditReportRequest(standin.instance_id, report, locale)
    received = io.BytesIO()

    def consume(stream: object) -> None:
        for piece in stream.iter_content(65536):
            received.write(piece)

    answer = client.download_audit_report(request)
    answer.consume_download_stream(consume)
    return received.getvalue()


@pytest.mark.parametrize("locale", [None, "en-us", "zh-cn"])
@pytest.mark.parametrize("kind", ["pdf", "zip"])
def test_the_official_sdk_gets_the_same_bytes(
    standin: Standin, kind: str, locale: str | None
) -> None:
    report = standin.add_report(format=kind)
    client = official(standin, standin.secret_key)
    theirs = download(client, standin, report["id"], locale)
    assert hashlib.sha256(theirs).hexdigest() == report["sha256"][locale or "en-us"]

    with dbss.Client(endpoint=standin.http, token=standin.token) as client:
        ours = client.download_report(
            standin.project_id, standin.instance_id, report["id"], locale=locale
        )
    assert ours == theirs

    first, second = standin.requests(report["id"])
    # Up to the credentials it is one request.
    assert first["method"] == second["method"] == "GET"
    assert first["target"] == second["target"]
    sent = [{name.lower(): value for name, value in one["headers"]} for one in (first, second)]
    assert sent[0]["authorization"].startswith("SDK-HMAC-SHA256 Access=")
    assert "x-auth-token" not in sent[0]
    assert sent[1]["x-auth-token"] == standin.token
    assert "authorization" not in sent[1]


def test_a_wrong_secret_key_is_refused(standin: Standin) -> None:
    with pytest.raises(ClientRequestException) as caught:
        download(official(standin, standin.secret_key[::-1]), standin, standin.pdf["id"])
    assert caught.value.status_code == 401
    assert caught.value.error_code == "APIG.0301"


# IAM and the instance metadata service


@pytest.fixture
def calls(standin: Standin) -> Callable[[str], list[dict[str, Any]]]:
    """The requests of one call since the test began, with their headers as a dictionary."""
    before = len(standin.requests())

    def since(name: str) -> list[dict[str, Any]]:
        found = [one for one in standin.requests()[before:] if one["report"] == name]
        return [{**one, "headers": {k.lower(): v for k, v in one["headers"]}} for one in found]

    return since


def test_the_official_sdk_finds_its_project(
    standin: Standin, calls: Callable[[str], list[dict[str, Any]]]
) -> None:
    report = standin.add_report(format="pdf")
    client = in_region(standin, BasicCredentials(standin.access_key, standin.secret_key))
    theirs = download(client, standin, report["id"])
    assert hashlib.sha256(theirs).hexdigest() == report["sha256"]["en-us"]
    [lookup] = calls("@iam.projects")
    assert (lookup["listener"], lookup["method"], lookup["status"]) == ("iam", "GET", 200)
    assert lookup["target"] == "/v3/projects?name=cn-north-4"
    assert lookup["body"] == ""
    assert "x-project-id" not in lookup["headers"]
    assert lookup["headers"]["authorization"].startswith("SDK-HMAC-SHA256 Access=")
    [fetched] = calls(report["id"])
    assert fetched["headers"]["x-project-id"] == standin.project_id


def test_the_official_sdk_finds_no_project_or_too_many(standin: Standin) -> None:
    def find(secret_key: str) -> None:
        in_region(standin, BasicCredentials(standin.access_key, secret_key))

    second = standin.add_project(standin.region)
    try:
        with pytest.raises(SdkException, match="Multiple project ids found") as caught:
            find(standin.secret_key)
        assert f"{standin.project_id},{second['id']}" in str(caught.value)
    finally:
        standin.clear_projects()
    standin.fault("@iam.projects", json={"projects": [], "links": {}}, times=1)
    with pytest.raises(SdkException, match="Confirm that the project exists"):
        find(standin.secret_key)
    with pytest.raises(SdkException, match=r"IAM\.0101"):
        find(standin.secret_key[::-1])


def test_the_official_sdk_finds_its_domain(
    standin: Standin, calls: Callable[[str], list[dict[str, Any]]]
) -> None:
    credentials = GlobalCredentials(standin.access_key, standin.secret_key)
    credentials.with_iam_endpoint(standin.iam)
    client = (
        DbssClient.new_builder()
        .with_endpoint(standin.http)
        .with_credentials(BasicCredentials("any", "any", "any"))
    )
    credentials.process_auth_params(client.build().get_http_client(), standin.region)
    assert len(credentials.domain_id) == 32
    assert [one["status"] for one in calls("@iam.domains")] == [200]


def test_the_official_sdk_takes_its_keys_from_the_metadata(
    standin: Standin,
    calls: Callable[[str], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MetadataAccessor, "_METADATA_ENDPOINT", standin.metadata)
    report = standin.add_report(format="zip")
    client = in_region(standin, MetadataCredentialProvider.get_basic().get_credentials())
    theirs = download(client, standin, report["id"], "zh-cn")
    assert hashlib.sha256(theirs).hexdigest() == report["sha256"]["zh-cn"]
    [session] = calls("@metadata.token")
    assert (session["method"], session["status"]) == ("PUT", 200)
    assert session["headers"]["x-metadata-token-ttl-seconds"] == "21600"
    [key] = calls("@metadata.key")
    assert (key["method"], key["status"]) == ("GET", 200)
    for name in ("@iam.projects", report["id"]):
        [signed] = calls(name)
        assert signed["status"] == 200
        assert ";x-security-token" in signed["headers"]["authorization"]
        assert standin.access_key not in signed["headers"]["authorization"]

    standin.revoke_metadata_keys()
    with pytest.raises(ClientRequestException, match="unknown access key"):
        download(client, standin, report["id"])


@pytest.mark.parametrize(
    ("settings", "status"), [({"agency": False}, 404), ({"require_token": False}, None)]
)
def test_the_official_sdk_meets_other_instances(
    standin: Standin,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, bool],
    status: int | None,
) -> None:
    monkeypatch.setattr(MetadataAccessor, "_METADATA_ENDPOINT", standin.metadata)
    standin.set_metadata(**settings)
    # As where there are no session tokens yet.
    standin.fault("@metadata.token", status=404, times=1)
    try:
        provider = MetadataCredentialProvider.get_basic()
        if status is None:
            assert provider.get_credentials().security_token
        else:
            with pytest.raises(ClientRequestException) as caught:
                provider.get_credentials()
            assert caught.value.status_code == status
    finally:
        standin.set_metadata()
        standin.clear_faults()
