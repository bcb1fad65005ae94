"""The official SDK works with the stand-in unchanged, and gets what libdbss gets.

So the stand-in's word on the protocol is not only our own.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import TYPE_CHECKING

import dbss
import pytest

with warnings.catch_warnings():
    # Those of the SDK's own code are no defects of ours.
    warnings.simplefilter("ignore")
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkdbss.v1 import DbssClient, DownloadAuditReportRequest

if TYPE_CHECKING:
    from standin import Standin

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def official(standin: Standin, secret_key: str) -> DbssClient:
    credentials = BasicCredentials(standin.access_key, secret_key, standin.project_id)
    builder = DbssClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(standin.http).build()


def download(standin: Standin, report: str, locale: str | None, secret_key: str) -> bytes:
    request = DownloadAuditReportRequest(standin.instance_id, report, locale)
    received = io.BytesIO()

    def consume(stream: object) -> None:
        for piece in stream.iter_content(65536):
            received.write(piece)

    answer = official(standin, secret_key).download_audit_report(request)
    answer.consume_download_stream(consume)
    return received.getvalue()


@pytest.mark.parametrize("locale", [None, "en-us", "zh-cn"])
@pytest.mark.parametrize("kind", ["pdf", "zip"])
def test_the_official_sdk_gets_the_same_bytes(
    standin: Standin, kind: str, locale: str | None
) -> None:
    report = standin.add_report(format=kind)
    theirs = download(standin, report["id"], locale, standin.secret_key)
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
        download(standin, standin.pdf["id"], None, standin.secret_key[::-1])
    assert caught.value.status_code == 401
    assert caught.value.error_code == "APIG.0301"
