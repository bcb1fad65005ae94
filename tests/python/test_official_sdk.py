"""The official SDK works with the unmodified mock service, and gets what libdbss gets.

So the mock service follows the real protocol, and not only our reading of it.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dbss
import pytest

from mock_service import MockService

with warnings.catch_warnings():
    # Warnings in the SDK's own code are not our defects.
    warnings.simplefilter("ignore")
    from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
    from huaweicloudsdkcore.auth.internal import MetadataAccessor
    from huaweicloudsdkcore.auth.provider import MetadataCredentialProvider
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException, SdkException
    from huaweicloudsdkcore.region.region import Region
    from huaweicloudsdkdbss.v1 import (
        CreateReportRequest,
        CreateReportRequestBody,
        DbssClient,
        DeleteAuditReportRequest,
        DownloadAuditReportRequest,
        ListAuditInstancesNewRequest,
        ListAuditInstancesRequest,
        ListAuditReportsRequest,
        ListAuditReportTemplatesRequest,
        ReportGetReportsRequest,
    )

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def clear_sdk_cache() -> None:
    """The SDK caches projects; each test must look up its own."""
    BasicCredentials._CACHE.clear()


def sdk_client(mock: MockService, secret_key: str) -> DbssClient:
    credentials = BasicCredentials(mock.access_key, secret_key, mock.project_id)
    builder = DbssClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(mock.http).build()


def sdk_client_in_region(mock: MockService, credentials: BasicCredentials) -> DbssClient:
    """A client that looks up its project by the name of the region."""
    builder = DbssClient.new_builder().with_credentials(credentials.with_iam_endpoint(mock.iam))
    return builder.with_region(Region(mock.region, mock.http)).build()


def download(
    client: DbssClient,
    mock: MockService,
    report: str,
    locale: str | None = None,
    instance: str | None = None,
) -> bytes:
    request = DownloadAuditReportRequest(instance or mock.instance_id, report, locale)
    received = io.BytesIO()

    def consume(stream: object) -> None:
        for piece in stream.iter_content(65536):
            received.write(piece)

    response = client.download_audit_report(request)
    response.consume_download_stream(consume)
    return received.getvalue()


@pytest.mark.parametrize("locale", [None, "en-us", "zh-cn"])
@pytest.mark.parametrize("kind", ["pdf", "zip"])
def test_official_sdk_downloads_the_same_bytes(
    mock: MockService, kind: str, locale: str | None
) -> None:
    report = mock.add_report(format=kind)
    client = sdk_client(mock, mock.secret_key)
    theirs = download(client, mock, report["id"], locale)
    assert hashlib.sha256(theirs).hexdigest() == report["sha256"][locale or "en-us"]

    with dbss.Client(endpoint=mock.http, token=mock.token) as client:
        ours = client.download_report(
            mock.project_id, mock.instance_id, report["id"], locale=locale
        )
    assert ours == theirs

    first, second = mock.requests(report["id"])
    # Apart from the credentials the requests are the same.
    assert first["method"] == second["method"] == "GET"
    assert first["target"] == second["target"]
    sent = [{name.lower(): value for name, value in one["headers"]} for one in (first, second)]
    assert sent[0]["authorization"].startswith("SDK-HMAC-SHA256 Access=")
    assert "x-auth-token" not in sent[0]
    assert sent[1]["x-auth-token"] == mock.token
    assert "authorization" not in sent[1]


def test_official_sdk_wrong_secret_key_is_rejected(mock: MockService) -> None:
    with pytest.raises(ClientRequestException) as caught:
        download(sdk_client(mock, mock.secret_key[::-1]), mock, mock.pdf["id"])
    assert caught.value.status_code == 401
    assert caught.value.error_code == "APIG.0301"


# IAM and the instance metadata service.


@pytest.fixture
def calls(mock: MockService) -> Callable[[str], list[dict[str, Any]]]:
    """The requests of one call since the test began, with their headers as a dictionary."""
    before = len(mock.requests())

    def since(name: str) -> list[dict[str, Any]]:
        found = [one for one in mock.requests()[before:] if one["report"] == name]
        return [{**one, "headers": {k.lower(): v for k, v in one["headers"]}} for one in found]

    return since


def test_official_sdk_finds_its_project(
    mock: MockService, calls: Callable[[str], list[dict[str, Any]]]
) -> None:
    report = mock.add_report(format="pdf")
    client = sdk_client_in_region(mock, BasicCredentials(mock.access_key, mock.secret_key))
    theirs = download(client, mock, report["id"])
    assert hashlib.sha256(theirs).hexdigest() == report["sha256"]["en-us"]
    [lookup] = calls("@iam.projects")
    assert (lookup["listener"], lookup["method"], lookup["status"]) == ("iam", "GET", 200)
    assert lookup["target"] == "/v3/projects?name=cn-north-4"
    assert lookup["body"] == ""
    assert "x-project-id" not in lookup["headers"]
    assert lookup["headers"]["authorization"].startswith("SDK-HMAC-SHA256 Access=")
    [fetched] = calls(report["id"])
    assert fetched["headers"]["x-project-id"] == mock.project_id


def test_official_sdk_missing_or_ambiguous_project_is_an_error(mock: MockService) -> None:
    def find(secret_key: str) -> None:
        sdk_client_in_region(mock, BasicCredentials(mock.access_key, secret_key))

    second = mock.add_project(mock.region)
    try:
        with pytest.raises(SdkException, match="Multiple project ids found") as caught:
            find(mock.secret_key)
        assert f"{mock.project_id},{second['id']}" in str(caught.value)
    finally:
        mock.clear_projects()
    mock.fault("@iam.projects", json={"projects": [], "links": {}}, times=1)
    with pytest.raises(SdkException, match="Confirm that the project exists"):
        find(mock.secret_key)
    with pytest.raises(SdkException, match=r"IAM\.0101"):
        find(mock.secret_key[::-1])


def test_official_sdk_finds_its_domain(
    mock: MockService, calls: Callable[[str], list[dict[str, Any]]]
) -> None:
    credentials = GlobalCredentials(mock.access_key, mock.secret_key)
    credentials.with_iam_endpoint(mock.iam)
    client = (
        DbssClient.new_builder()
        .with_endpoint(mock.http)
        .with_credentials(BasicCredentials("any", "any", "any"))
    )
    credentials.process_auth_params(client.build().get_http_client(), mock.region)
    assert len(credentials.domain_id) == 32
    assert [one["status"] for one in calls("@iam.domains")] == [200]


def test_official_sdk_gets_keys_from_metadata(
    mock: MockService,
    calls: Callable[[str], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MetadataAccessor, "_METADATA_ENDPOINT", mock.metadata)
    report = mock.add_report(format="zip")
    client = sdk_client_in_region(mock, MetadataCredentialProvider.get_basic().get_credentials())
    theirs = download(client, mock, report["id"], "zh-cn")
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
        assert mock.access_key not in signed["headers"]["authorization"]

    mock.revoke_metadata_keys()
    with pytest.raises(ClientRequestException, match="unknown access key"):
        download(client, mock, report["id"])


@pytest.mark.parametrize(
    ("settings", "status"), [({"agency": False}, 404), ({"require_token": False}, None)]
)
def test_official_sdk_handles_metadata_without_agency_or_token(
    mock: MockService,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, bool],
    status: int | None,
) -> None:
    monkeypatch.setattr(MetadataAccessor, "_METADATA_ENDPOINT", mock.metadata)
    mock.set_metadata(**settings)
    # As on instances without session tokens.
    mock.fault("@metadata.token", status=404, times=1)
    try:
        provider = MetadataCredentialProvider.get_basic()
        if status is None:
            assert provider.get_credentials().security_token
        else:
            with pytest.raises(ClientRequestException) as caught:
                provider.get_credentials()
            assert caught.value.status_code == status
    finally:
        mock.set_metadata()
        mock.clear_faults()


# Report management.


@pytest.fixture
def client(mock: MockService) -> DbssClient:
    return sdk_client(mock, mock.secret_key)


@pytest.fixture
def instance(mock: MockService) -> Iterator[str]:
    """An instance without reports."""
    added = mock.add_instance("for a test")
    yield added
    mock.remove_instances([added])


def list_page(
    client: DbssClient, instance: str, page: int = 1, size: int = 1000, name: str | None = None
) -> tuple[list[Any], int]:
    body = ReportGetReportsRequest(name=name, page=page, size=size)
    response = client.list_audit_reports(ListAuditReportsRequest(instance, body))
    return [one.report for one in response.reports], response.total


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
@pytest.mark.parametrize("count", [0, 1, 250, 2500])
def test_official_sdk_lists_reports(
    mock: MockService, client: DbssClient, instance: str, count: int, size: int
) -> None:
    added = mock.add_reports(count, instance=instance) if count else []
    ids = []
    # The page after the last one must be empty.
    for page in range(1, -(-count // size) + 2):
        reports, total = list_page(client, instance, page, size)
        assert total == count
        assert len(reports) == max(0, min(size, count - size * (page - 1)))
        ids += [report.id for report in reports]
    assert ids == added[::-1]


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
@pytest.mark.parametrize("count", [1, 250, 2500])
def test_official_sdk_lists_instances(build_dir: Path, count: int, size: int) -> None:
    # A separate service, because the list shows the instances of all tests.
    with MockService(build_dir / "bin/dbss-mock") as other:
        client = sdk_client(other, other.secret_key)
        expected = [other.instance_id, *(other.add_instances(count - 1) if count > 1 else [])]
        ids = []
        for offset in range(0, count + 1, size):
            response = client.list_audit_instances(ListAuditInstancesRequest(offset, size))
            assert response.total == count
            ids += [one.id for one in response.servers]
        assert ids == expected
        # libdbss uses this path; the SDK expects this response format there.
        other.set_shapes(instances="instances")
        response = client.list_audit_instances_new(ListAuditInstancesNewRequest())
        assert [one.instance_id for one in response.instances] == expected[:100]
        other.remove_instances(expected)
        response = client.list_audit_instances(ListAuditInstancesRequest())
        assert (response.servers, response.total) == ([], 0)


def test_official_sdk_reads_every_field(
    mock: MockService, client: DbssClient, instance: str
) -> None:
    fields_sent = {
        "name": "Wöchentlich",
        "format": "zip",
        "percentum": 73,
        "type": "AUDIT_REPORT_WEEK",
        "template_type": "PCI",
        "start_time": "2026-01-01 00:00:00",
        "end_time": "2026-01-08 00:00:00",
        "finish_time": None,
        "db_ids": "7,8",
        "db_names": "订单",
        "url": "/somewhere",
    }
    added = mock.add_report(instance=instance, **fields_sent)
    [report], _ = list_page(client, instance)
    assert {name: getattr(report, name) for name in fields_sent} == fields_sent
    assert report.id == added["id"]
    assert list_page(client, instance, name="öchent")[1] == 1
    assert list_page(client, instance, name="x")[1] == 0

    servers = client.list_audit_instances(ListAuditInstancesRequest(limit="1000")).servers
    [server] = [one for one in servers if one.id == instance]
    assert (server.name, server.status) == ("for a test", "ACTIVE")
    # The other fields are null.
    assert len([value for value in server.to_dict().values() if value is not None]) == 26


def test_official_sdk_creates_and_deletes_a_report(
    mock: MockService, client: DbssClient, instance: str
) -> None:
    response = client.list_audit_report_templates(ListAuditReportTemplatesRequest(instance))
    templates = [one.template for one in response.templates]
    assert [one.id for one in templates] == [one["id"] for one in mock.templates]
    template = next(one for one in templates if one.type == "SOX")
    body = CreateReportRequestBody(
        template_id=template.id,
        start_time="2026-01-01 00:00:00",
        end_time="2026-01-02 00:00:00",
        start_date=datetime(2026, 1, 1),
        db_ids="7,8",
    )
    assert client.create_report(CreateReportRequest(instance, body)).result == "success"
    [made] = mock.made()[-1:]
    for percent in (0, 50, 100):
        [report], total = list_page(client, instance)
        assert (report.id, report.percentum, total) == (made, percent, 1)
        if percent < 100:
            assert report.finish_time is None
            with pytest.raises(ClientRequestException, match=r"DBSS\.10000001"):
                download(client, mock, made, instance=instance)
    assert report.name.startswith(f"{template.name}_20")
    assert (report.template_type, report.type) == ("SOX", "AUDIT_REPORT_REAL_TIME")
    assert (report.start_time, report.end_time) == (body.start_time, body.end_time)
    assert report.finish_time
    assert download(client, mock, made, instance=instance).startswith(b"%PDF-")

    delete = DeleteAuditReportRequest(instance, made)
    mock.fault("@reports.delete", json={"status": "FAILED"}, times=1)
    assert client.delete_audit_report(delete).status == "FAILED"
    assert client.delete_audit_report(delete).status == "SUCCESS"
    assert list_page(client, instance) == ([], 0)
    for gone in (
        lambda: client.delete_audit_report(delete),
        lambda: download(client, mock, made, instance=instance),
    ):
        with pytest.raises(ClientRequestException) as caught:
            gone()
        assert (caught.value.status_code, caught.value.error_code) == (404, "DBSS.10021004")


def test_official_sdk_gets_error_responses(
    mock: MockService, client: DbssClient, instance: str
) -> None:
    unknown_body = CreateReportRequestBody(template_id="x" * 32, start_time="s", end_time="e")
    mock.set_generation(unknown_template="failed")
    try:
        assert client.create_report(CreateReportRequest(instance, unknown_body)).result == "failed"
    finally:
        mock.set_generation()
    for wrong in (
        lambda: client.create_report(CreateReportRequest(instance, unknown_body)),
        lambda: list_page(client, instance, page=0),
        lambda: list_page(client, instance, size=1001),
        lambda: client.list_audit_instances(ListAuditInstancesRequest(limit=1001)),
    ):
        with pytest.raises(ClientRequestException) as caught:
            wrong()
        assert (caught.value.status_code, caught.value.error_code) == (400, "DBSS.10000001")
