"""The official SDK gets from the unmodified mock service what libdbss gets.

So the mock service follows the real protocol, and not only our reading of it. How both find
credentials, project and hosts, and make and delete reports, is compared in tests/sdk.
"""

import dataclasses
import io
import itertools
import json
import os
import random
import warnings
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from support import ROOT, new_mock, run, sha256

with warnings.catch_warnings():
    # Warnings in the SDK's own code are not our defects.
    warnings.simplefilter("ignore")
    from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkcore.region.region import Region
    from huaweicloudsdkcore.sdk_request import SdkRequest
    from huaweicloudsdkcore.signer.signer import Signer
    from huaweicloudsdkdbss import v1 as sdk

pytestmark = pytest.mark.filterwarnings("ignore")
FIELDS = {
    "name": "Wöchentlich",
    "format": "zip",
    "percentum": 73,
    "type": "AUDIT_REPORT_WEEK",
    "template_type": "PCI",
    "start_time": "2026-01-01 00:00:00",
    "finish_time": None,
    "db_ids": "7,8",
    "db_names": "订单",
    "url": "/somewhere",
}


@pytest.fixture
def theirs(mock, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return sdk_client(mock, mock.secret_key)


@pytest.fixture
def ours(client):
    return client


# Lists show the reports and instances of all tests.
mock = pytest.fixture(new_mock)


def sdk_client(mock, secret_key):
    credentials = BasicCredentials(mock.access_key, secret_key, mock.project_id)
    builder = sdk.DbssClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(mock.http).build()


def download(client, instance, report, locale=None):
    received = io.BytesIO()
    response = client.download_audit_report(
        sdk.DownloadAuditReportRequest(instance, report, locale)
    )
    response.consume_download_stream(
        lambda stream: [received.write(piece) for piece in stream.iter_content(65536)]
    )
    return received.getvalue()


def list_page(client, instance, page=1, size=1000, name=None):
    body = sdk.ReportGetReportsRequest(name=name, page=page, size=size)
    response = client.list_audit_reports(sdk.ListAuditReportsRequest(instance, body))
    return [one.report for one in response.reports], response.total


def expect_refused(call, status, code):
    with pytest.raises(ClientRequestException) as caught:
        call()
    assert (caught.value.status_code, caught.value.error_code) == (status, code)


@pytest.mark.parametrize("locale", [None, "en-us", "zh-cn"])
@pytest.mark.parametrize("kind", ["pdf", "zip"])
def test_official_sdk_downloads_the_same_bytes(mock, theirs, ours, kind, locale):
    report = mock.add_report(format=kind)
    data = download(theirs, mock.instance_id, report["id"], locale)
    assert sha256(data) == report["sha256"][locale or "en-us"]
    assert ours.download_report(mock.instance_id, report["id"], locale=locale) == data
    # Apart from the credentials the requests are the same.
    first, second = mock.requests(report["id"])
    assert [first[key] for key in ("method", "target")] == [
        second[key] for key in ("method", "target")
    ]
    sent = [{name.lower(): value for name, value in one["headers"]} for one in (first, second)]
    assert sent[0]["authorization"].startswith("SDK-HMAC-SHA256 Access=")
    assert ("x-auth-token" in sent[0], "authorization" in sent[1]) == (False, False)


def test_official_sdk_finds_its_domain(mock, theirs):
    before = len(mock.requests("@iam.domains"))
    credentials = GlobalCredentials(mock.access_key, mock.secret_key)
    credentials.with_iam_endpoint(mock.iam)
    credentials.process_auth_params(theirs.get_http_client(), mock.region)
    assert len(credentials.domain_id) == 32
    assert [one["status"] for one in mock.requests("@iam.domains")[before:]] == [200]


@pytest.mark.parametrize(("count", "size"), [(0, 100), (1, 1), (250, 7), (250, 100), (1100, 1000)])
def test_official_sdk_lists_the_same_pages(mock, theirs, ours, count, size):
    if count:
        mock.add_reports(count, instance=mock.instance_id)
        mock.add_instances(count)
    reports, instances = ours.reports(mock.instance_id), ours.instances()
    wanted = [one.id for one in reports]
    seen = []
    # The page after the last one must be empty.
    for page in range(1, -(-len(wanted) // size) + 2):
        found, total = list_page(theirs, mock.instance_id, page, size)
        assert total == reports.total
        seen += [one.id for one in found]
    assert seen == wanted
    wanted = [one.id for one in instances]
    seen = []
    for offset in range(0, count + 2, size):
        response = theirs.list_audit_instances(sdk.ListAuditInstancesRequest(offset, size))
        assert response.total == instances.total == count + 1
        seen += [one.id for one in response.servers]
    assert seen == wanted
    # libdbss uses this path too; the SDK expects this response format there.
    mock.set("shapes", instances="instances", versions=["v1"])
    new = theirs.list_audit_instances_new(sdk.ListAuditInstancesNewRequest())
    assert [one.instance_id for one in new.instances] == wanted[:100]


def test_official_sdk_reads_the_same_fields(mock, theirs, ours, instance):
    mock.add_report(instance=instance, **FIELDS)
    template = mock.templates[0]["id"]
    schedule = theirs.show_audit_topic_report_scheduler_config(
        sdk.ShowAuditTopicReportSchedulerConfigRequest(instance, template)
    )
    instances = theirs.list_audit_instances(sdk.ListAuditInstancesRequest(limit="1000")).servers
    templates = theirs.list_audit_report_templates(sdk.ListAuditReportTemplatesRequest(instance))
    databases = theirs.list_audit_databases_new(sdk.ListAuditDatabasesNewRequest(instance))
    [report], _ = list_page(theirs, instance)
    assert report.to_dict().items() >= FIELDS.items()
    [server] = [one for one in instances if one.id == instance]
    assert (server.name, server.status) == ("for a test", "ACTIVE")
    # The other fields are null.
    assert len([value for value in server.to_dict().values() if value is not None]) == 26
    pairs = [
        (ours.reports(instance), [report]),
        (ours.templates(instance), [one.template for one in templates.templates]),
        (ours.databases(instance), [one.database for one in databases.databases]),
        ([ours.schedule(instance, template)], [schedule.scheduler]),
    ]
    for own, their in [pair for lists in pairs for pair in zip(*lists, strict=True)]:
        assert own == dataclasses.replace(own, **their.to_dict())
    assert [list_page(theirs, instance, name=name)[1] for name in ("öchent", "x")] == [1, 0]
    # Both set the schedule with the same known fields.
    ours.update_schedule(instance, template, notice="ON", db_ids="7")
    body = sdk.ConfigReportTopicRequest(
        sdk.SchedulerBean(**{**schedule.scheduler.to_dict(), "status": "OFF"})
    )
    request = sdk.UpdateAuditTopicReportSchedulerConfigRequest(instance, body)
    assert theirs.update_audit_topic_report_scheduler_config(request).status == "success"
    assert ours.schedule(instance, template).status == "OFF"
    first, second = [json.loads(one["body"]) for one in mock.requests("@schedule.set")[-2:]]
    assert second["scheduler"].keys() == first["scheduler"].keys() - {"retention"}


def test_official_sdk_makes_a_report(mock, theirs, instance):
    template = next(one for one in mock.templates if one["type"] == "SOX")
    body = sdk.CreateReportRequestBody(
        template_id=template["id"],
        start_time="2026-01-01 00:00:00",
        end_time="2026-01-02 00:00:00",
        start_date=datetime(2026, 1, 1),
        db_ids="7,8",
    )
    assert theirs.create_report(sdk.CreateReportRequest(instance, body)).result == "success"
    made = mock.made()[-1]
    for percent in (0, 50, 100):
        [report], total = list_page(theirs, instance)
        assert (report.id, report.percentum, total) == (made, percent, 1)
        assert (report.finish_time is None) == (percent < 100)
        if percent < 100:
            expect_refused(lambda: download(theirs, instance, made), 400, "DBSS.10000001")
    assert (report.template_type, report.type) == ("SOX", "AUDIT_REPORT_REAL_TIME")
    assert (report.start_time, report.end_time) == (body.start_time, body.end_time)
    assert download(theirs, instance, made).startswith(b"%PDF-")
    delete = sdk.DeleteAuditReportRequest(instance, made)
    mock.fault("@reports.delete", json={"status": "FAILED"}, times=1)
    for status in ("FAILED", "SUCCESS"):
        assert theirs.delete_audit_report(delete).status == status
    assert list_page(theirs, instance) == ([], 0)
    expect_refused(lambda: theirs.delete_audit_report(delete), 404, "DBSS.10021004")
    expect_refused(lambda: download(theirs, instance, made), 404, "DBSS.10021004")


def test_official_sdk_gets_error_responses(mock, theirs, instance):
    stranger = sdk_client(mock, mock.secret_key[::-1])
    expect_refused(lambda: download(stranger, mock.instance_id, mock.pdf["id"]), 401, "APIG.0301")
    body = sdk.CreateReportRequestBody(template_id="x" * 32, start_time="s", end_time="e")
    create = sdk.CreateReportRequest(instance, body)
    mock.set("generation", unknown_template="failed")
    assert theirs.create_report(create).result == "failed"
    mock.set("generation")
    for wrong in (
        lambda: theirs.create_report(create),
        lambda: list_page(theirs, instance, page=0),
        lambda: theirs.list_audit_instances(sdk.ListAuditInstancesRequest(limit=1001)),
    ):
        expect_refused(wrong, 400, "DBSS.10000001")


# Signatures match, byte for byte.


def sdk_authorization(key, method, url, headers, body=""):
    class Key:
        ak, sk = key

    parts = urlsplit(url)
    request = SdkRequest(
        method=method,
        schema=parts.scheme,
        host=parts.netloc,
        resource_path=parts.path,
        query_params=parse_qsl(parts.query, keep_blank_values=True),
        header_params=dict(headers),
        body=body,
    )
    return Signer(Key).sign(request).header_params["Authorization"]


def signature_table():
    """Requests whose paths and queries need encoding, with and without a body and a token."""
    keys = [("AKEXAMPLE", "secret"), ("HPUA0123456789ABCDEF", "k+/=~" * 12)]
    dates = ["20250910T080000Z", "19700101T000000Z", "20991231T235959Z"]
    paths = [
        "/",
        "/v1/p/audit/i/reports/r/download",
        "/a b/c~d/e%2Bf",
        "/审计/x",
        "/end/",
        "/a+b@c:d",
    ]
    queries = ["", "local=zh-cn", "b=2&a=1&a=0", "q=a b&z=%26&y=+", "名=值", "empty=&x=~-._"]
    bodies = ["", '{"page":1,"size":10}', "审计报告"]
    tokens = [None, "token+/=" * 100]
    every = list(itertools.product(keys, dates, paths, queries, bodies, tokens))
    table = []
    for key, date, path, query, body, token in random.Random(1).sample(every, 200):
        encoded = "&".join(
            "=".join(quote(part, safe="") for part in pair.split("=")) for pair in query.split("&")
        )
        url = "https://dbss.example.com" + quote(path, safe="/%") + ("?" + encoded if query else "")
        headers = {"host": "dbss.example.com", "x-sdk-date": date, "x-project-id": "p" * 32}
        if token is not None:
            headers["x-security-token"] = token
        if body:
            headers["content-type"] = "application/json"
        method = "POST" if body else "GET"
        table.append(
            {
                "key_id": key[0],
                "secret": key[1],
                "method": method,
                "uri": url,
                "headers": headers,
                "body": body,
                "date": date,
                "authorization": sdk_authorization(key, method, url, headers, body),
            }
        )
    return table


def test_signatures_match_the_official_sdk(tmp_path):
    table = tmp_path / "table.json"
    table.write_text(json.dumps(signature_table()))
    test = "credentials::signature::tests::signatures_match_official_sdk_table"
    cargo = ("cargo", "test", "--lib", "--locked", "--quiet", "--", "--ignored", "--exact", test)
    env = {**os.environ, "DBSS_SIGNATURE_TABLE": str(table)}
    assert "1 passed" in run(*cargo, cwd=ROOT, env=env, timeout=600).stdout


def signed_again(request, key, url):
    """The names of the headers that a request signs; the SDK signs it so, too."""
    sent = dict(request["headers"])
    names = sent["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    headers = {name: sent[name] for name in names}
    assert sdk_authorization(key, "GET", url, headers) == sent["authorization"]
    return names


def test_sent_signature_matches_the_official_sdk(mock, connect, new_report):
    key = (mock.access_key, mock.secret_key)
    for locale, token in itertools.product((None, "zh-cn"), (None, "a-security-token")):
        report = new_report(1000)
        with connect(access_key=key[0], secret_key=key[1], security_token=token) as client:
            client.download_report(*report.ids, locale=locale)
        [request] = report.requests()
        names = signed_again(request, key, mock.http + request["target"])
        assert {"host", "x-project-id", "x-sdk-date"} <= set(names)
        assert ("x-security-token" in names) == (token is not None)


def test_project_lookup_matches_the_official_sdk(mock, connect, new_report, theirs):
    """With an access key, a region and no project, both send the same request."""
    BasicCredentials._CACHE.clear()
    report = new_report(1000)
    key = (mock.access_key, mock.secret_key)
    hosts = {"region": mock.region, "iam_endpoint": mock.iam, "project_id": None}
    with connect(access_key=key[0], secret_key=key[1], **hosts) as client:
        client.download_report(*report.ids)
    credentials = BasicCredentials(*key).with_iam_endpoint(mock.iam)
    builder = sdk.DbssClient.new_builder().with_credentials(credentials)
    theirs = builder.with_region(Region(mock.region, mock.http)).build()
    theirs.download_audit_report(sdk.DownloadAuditReportRequest(*report.ids))

    requests = mock.requests()
    assert [one["report"] for one in requests] == ["@iam.projects", report.id] * 2
    assert {one["status"] for one in requests} == {200}
    assert requests[0]["target"] == requests[2]["target"]
    assert requests[1]["path"] == requests[3]["path"]
    signed_again(requests[0], key, mock.iam + requests[0]["target"])
