"""The official SDK for Python. A request is in tests/sdk/README.md; the result is printed."""

from __future__ import annotations

import io
import json
import sys
import warnings
from typing import Any

with warnings.catch_warnings():
    # Warnings in the SDK's own code are not our defects.
    warnings.simplefilter("ignore")
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.auth.provider import CredentialProviderChain
    from huaweicloudsdkdbss.v1 import (
        CreateReportRequest,
        CreateReportRequestBody,
        DbssClient,
        DeleteAuditReportRequest,
        DownloadAuditReportRequest,
        ListAuditInstancesLastRequest,
        ListAuditInstancesNewRequest,
        ListAuditInstancesRequest,
        ListAuditReportsRequest,
        ListAuditReportTemplatesRequest,
        ReportGetReportsRequest,
    )
    from huaweicloudsdkdbss.v1.region.dbss_region import DbssRegion


def credentials_of(given: dict[str, str]) -> BasicCredentials:
    """The credentials of the arguments, or those that the chain finds."""
    if "access_key" in given:
        credentials = BasicCredentials(given["access_key"], given["secret_key"])
        credentials.with_security_token(given.get("security_token"))
    else:
        credentials = CredentialProviderChain.get_basic().get_credentials()
    if "project_id" in given:
        credentials.with_project_id(given["project_id"])
    if "iam_endpoint" in given:
        credentials.with_iam_endpoint(given["iam_endpoint"])
    return credentials


def client_of(given: dict[str, str], implicit: bool) -> DbssClient:
    builder = DbssClient.new_builder()
    if not implicit:
        builder.with_credentials(credentials_of(given))
    if "endpoint" in given:
        builder.with_endpoint(given["endpoint"])
    if "region" in given:
        builder.with_region(DbssRegion.value_of(given["region"]))
    return builder.build()


def instances_of(client: DbssClient, version: str) -> list[str]:
    if version == "v2":
        last = client.list_audit_instances_last(ListAuditInstancesLastRequest())
        return [one.id for one in last.instances]
    if version == "v1":
        new = client.list_audit_instances_new(ListAuditInstancesNewRequest())
        return [one.instance_id for one in new.instances]
    return [one.id for one in client.list_audit_instances(ListAuditInstancesRequest()).servers]


def reports_of(client: DbssClient, instance: str) -> list[str]:
    body = ReportGetReportsRequest(page=1, size=100)
    found = client.list_audit_reports(ListAuditReportsRequest(instance, body)).reports
    return [one.report.id for one in found]


def make_report(client: DbssClient, instance: str) -> dict[str, Any]:
    """Makes a report of the first template, downloads it and deletes it."""
    templates = client.list_audit_report_templates(ListAuditReportTemplatesRequest(instance))
    body = CreateReportRequestBody(
        template_id=templates.templates[0].template.id,
        start_time="2026-01-01 00:00:00",
        end_time="2026-01-02 00:00:00",
    )
    before = reports_of(client, instance)
    created = client.create_report(CreateReportRequest(instance, body)).result
    # It is complete with the third list that shows it.
    for _ in range(3):
        [made] = set(reports_of(client, instance)) - set(before)
    received = io.BytesIO()
    request = DownloadAuditReportRequest(instance, made, "zh-cn")
    client.download_audit_report(request).consume_download_stream(
        lambda stream: [received.write(piece) for piece in stream.iter_content(65536)]
    )
    deleted = client.delete_audit_report(DeleteAuditReportRequest(instance, made)).status
    return {
        "created": created,
        "report": made,
        "format": received.getvalue()[:5].decode("latin-1"),
        "length": len(received.getvalue()),
        "deleted": deleted,
        "left": reports_of(client, instance) == before,
    }


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Does what a request asks for."""
    warnings.simplefilter("ignore")
    try:
        client = client_of(request["arguments"], request["implicit"])
        result: dict[str, Any] = {"instances": instances_of(client, request["list"])}
        if request.get("report"):
            result |= make_report(client, result["instances"][0])
        return result
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
