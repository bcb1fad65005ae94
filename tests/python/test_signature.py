"""Signatures match those of the official SDK, byte for byte."""

import itertools
import json
import os
import random
import subprocess
import warnings
from urllib.parse import parse_qsl, quote, urlsplit

import dbss
import pytest

with warnings.catch_warnings():
    # Warnings in the SDK's own code are not our defects.
    warnings.simplefilter("ignore")
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.region.region import Region
    from huaweicloudsdkcore.sdk_request import SdkRequest
    from huaweicloudsdkcore.signer.signer import Signer
    from huaweicloudsdkdbss.v1 import DbssClient, DownloadAuditReportRequest


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
    signed = Signer(Key).sign(request).header_params["Authorization"]
    return signed


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


def test_signatures_match_the_official_sdk(root, tmp_path):
    table = tmp_path / "table.json"
    table.write_text(json.dumps(signature_table()))
    test = "credentials::signature::tests::signatures_match_official_sdk_table"
    done = subprocess.run(
        ["cargo", "test", "--lib", "--locked", "--quiet", "--", "--ignored", "--exact", test],
        cwd=root,
        env={**os.environ, "DBSS_SIGNATURE_TABLE": str(table)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_sent_signature_matches_the_official_sdk(mock):
    for locale, token in itertools.product((None, "zh-cn"), (None, "a-security-token")):
        report = mock.add_report(format="bytes", size=1000)
        with dbss.Client(
            endpoint=mock.http,
            access_key=mock.access_key,
            secret_key=mock.secret_key,
            security_token=token,
        ) as client:
            client.download_report(mock.project_id, mock.instance_id, report["id"], locale=locale)
        [request] = mock.requests(report["id"])
        sent = dict(request["headers"])
        names = sent["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        assert {"host", "x-project-id", "x-sdk-date"} <= set(names)
        assert ("x-security-token" in names) == (token is not None)
        key = (mock.access_key, mock.secret_key)
        url = mock.http + request["target"]
        again = sdk_authorization(key, "GET", url, {name: sent[name] for name in names})
        assert again == sent["authorization"]


@pytest.mark.filterwarnings("ignore")
def test_project_lookup_matches_the_official_sdk(mock, monkeypatch):
    """With an access key, a region and no project, both send the same request."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    BasicCredentials._CACHE.clear()
    report = mock.add_report(format="bytes", size=1000)["id"]
    before = len(mock.requests())
    key = (mock.access_key, mock.secret_key)
    with dbss.Client(
        endpoint=mock.http,
        region=mock.region,
        iam_endpoint=mock.iam,
        access_key=key[0],
        secret_key=key[1],
    ) as client:
        client.download_report(None, mock.instance_id, report)
    builder = DbssClient.new_builder().with_credentials(
        BasicCredentials(*key).with_iam_endpoint(mock.iam)
    )
    theirs = builder.with_region(Region(mock.region, mock.http)).build()
    theirs.download_audit_report(DownloadAuditReportRequest(mock.instance_id, report))

    requests = mock.requests()[before:]
    assert [one["report"] for one in requests] == ["@iam.projects", report] * 2
    assert {one["status"] for one in requests} == {200}
    assert requests[0]["target"] == requests[2]["target"]
    assert requests[1]["path"] == requests[3]["path"]
    sent = dict(requests[0]["headers"])
    names = sent["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    url = mock.iam + requests[0]["target"]
    again = sdk_authorization(key, "GET", url, {name: sent[name] for name in names})
    assert again == sent["authorization"]
