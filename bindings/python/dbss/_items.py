"""The fields of list items, and the counts of a mirror.

Generated from include/dbss-abi.json by bindings/generate/python.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

INSTANCE = {
    "id": "text",
    "name": "text",
    "status": "text",
    "region": "text",
    "version": "text",
    "created": "text",
    "expired": "text",
    "remain_days": "text",
    "connect_ip": "text",
    "connect_ipv6": "text",
    "charge_model": "text",
    "comment": "text",
    "keep_days": "text",
    "new_version": "text",
    "port_id": "text",
    "resource_id": "text",
    "resource_spec_code": "text",
    "scene": "text",
    "security_group_id": "text",
    "specification": "text",
    "subnet_id": "text",
    "task": "text",
    "vpc_id": "text",
    "zone": "text",
    "config_num": "integer",
    "cpu": "integer",
    "database_limit": "integer",
    "effect": "integer",
    "ram": "integer",
    "supported_feature": "list",
    "binding_db_type": "text",
    "enterprise_project_id": "text",
    "failed_reason": "text",
    "timezone": "text",
    "upgrade_log": "text",
}
"""The types of the fields of instances."""
INSTANCE_ALIASES = {"id": ["instance_id"], "connect_ipv6": ["connectIpv6"]}
"""Other names of fields of instances, in older versions of the call."""


@dataclass(frozen=True)
class InstanceFields:
    """The fields of instances that the service documents."""

    id: str
    """The id of the instance."""
    name: str | None
    """Its name."""
    status: str | None
    """Its state. One of ACTIVE, SHUTOFF, BUILD, DELETING, DELETED, ERROR, HAWAIT, FROZEN,
    UPGRADING; there may be others.
    """
    region: str | None
    """Its region."""
    version: str | None
    """The version of its software."""
    created: str | None
    """When it was created."""
    expired: str | None
    """When it expires."""
    remain_days: str | None
    """How many days remain until it expires."""
    connect_ip: str | None
    """Its IPv4 address."""
    connect_ipv6: str | None
    """Its IPv6 address."""
    charge_model: str | None
    """Its billing mode."""
    comment: str | None
    """The customer's comment."""
    keep_days: str | None
    """How many days remain until a frozen instance is deleted."""
    new_version: str | None
    """The version that it can be upgraded to."""
    port_id: str | None
    """The id of its network port."""
    resource_id: str | None
    """The id of its resource at the service."""
    resource_spec_code: str | None
    """The code of its specification."""
    scene: str | None
    """The scenario for which it is used."""
    security_group_id: str | None
    """The id of its security group."""
    specification: str | None
    """Its specification."""
    subnet_id: str | None
    """The id of its subnet."""
    task: str | None
    """Its current task."""
    vpc_id: str | None
    """The id of its VPC."""
    zone: str | None
    """Its availability zone."""
    config_num: int | None
    """The number of its settings."""
    cpu: int | None
    """The number of its virtual CPUs."""
    database_limit: int | None
    """The maximum number of databases that it audits."""
    effect: int | None
    """Whether it is in effect."""
    ram: int | None
    """Its memory in GB."""
    supported_feature: list[Any] | None = field(hash=False)
    """The features that it supports."""
    binding_db_type: str | None
    """The type of the databases that it is bound to."""
    enterprise_project_id: str | None
    """The id of its enterprise project."""
    failed_reason: str | None
    """Why its last task failed."""
    timezone: str | None
    """Its time zone."""
    upgrade_log: str | None
    """The log of its upgrade."""
    raw: dict[str, Any] = field(repr=False, hash=False)
    """All fields that the service sent, including those unknown to this package."""


REPORT = {
    "id": "text",
    "name": "text",
    "format": "text",
    "percentum": "integer",
    "type": "text",
    "template_type": "text",
    "start_time": "text",
    "end_time": "text",
    "finish_time": "text",
    "db_ids": "text",
    "db_names": "text",
    "url": "text",
}
"""The types of the fields of reports."""


@dataclass(frozen=True)
class ReportFields:
    """The fields of reports that the service documents."""

    id: str
    """The id of the report."""
    name: str | None
    """Its name."""
    format: str | None
    """The format of its file. One of pdf, zip; there may be others."""
    percentum: int | None
    """Its progress, 0 to 100; at 100 it can be downloaded."""
    type: str | None
    """How often such a report is generated. One of AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK,
    AUDIT_REPORT_MONTH, AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME; there may be others.
    """
    template_type: str | None
    """The type of the template that it was made from."""
    start_time: str | None
    """The beginning of its time range."""
    end_time: str | None
    """The end of its time range."""
    finish_time: str | None
    """When it was ready."""
    db_ids: str | None
    """The ids of the databases that it covers, separated by commas."""
    db_names: str | None
    """The names of the databases that it covers."""
    url: str | None
    """Its location at the service."""
    raw: dict[str, Any] = field(repr=False, hash=False)
    """All fields that the service sent, including those unknown to this package."""


TEMPLATE = {
    "id": "text",
    "name": "text",
    "type": "text",
    "group": "text",
    "status": "text",
    "desc": "text",
    "frequency": "text",
    "db_ids": "text",
    "db_names": "text",
}
"""The types of the fields of templates."""


@dataclass(frozen=True)
class TemplateFields:
    """The fields of templates that the service documents."""

    id: str
    """The id of the template."""
    name: str | None
    """Its name."""
    type: str | None
    """The content of its reports. One of COMPREHENSIVE, COMPLIANCE, SOX, PCI, DB_ANALYSIS,
    CLIENT_IP_ANALYSIS, SQL_DCL_COMMAND, SQL_DDL_COMMAND, SQL_DML_COMMAND; there may be
    others.
    """
    group: str | None
    """The group of its type. One of COMPREHENSIVE, COMPLIANCE, DB_SPECIAL, CLIENT_SPECIAL,
    SQL_SPECIAL; there may be others.
    """
    status: str | None
    """Whether its schedule is on. One of ON, OFF; there may be others."""
    desc: str | None
    """Its description."""
    frequency: str | None
    """How often its schedule generates a report."""
    db_ids: str | None
    """The ids of the databases that it covers, separated by commas."""
    db_names: str | None
    """The names of the databases that it covers."""
    raw: dict[str, Any] = field(repr=False, hash=False)
    """All fields that the service sent, including those unknown to this package."""


DATABASE = {
    "id": "text",
    "name": "text",
    "type": "text",
    "version": "text",
    "ip": "text",
    "port": "text",
    "status": "text",
    "audit_status": "text",
    "instance_name": "text",
    "db_classification": "text",
    "charset": "text",
    "os": "text",
    "agent_url": "list",
    "rds_id": "text",
    "rds_obj_info": "text",
    "dws_obj_info": "text",
    "clouddb_obj_info": "text",
    "rds_audit_switch_mismatch": "boolean",
}
"""The types of the fields of databases."""


@dataclass(frozen=True)
class DatabaseFields:
    """The fields of databases that the service documents."""

    id: str
    """The id of the database."""
    name: str | None
    """Its name."""
    type: str | None
    """The database system. One of MYSQL, ORACLE, POSTGRESQL, SQLSERVER, DAMENG, TAURUS, DWS,
    KINGBASE, GAUSSDBOPENGAUSS, GREENPLUM, HIGHGO, SHENTONG, GBASE8A, GBASE8S, GBASEXDM,
    MONGODB, DDS; there may be others.
    """
    version: str | None
    """The version of the database system."""
    ip: str | None
    """Its IP address."""
    port: str | None
    """Its port."""
    status: str | None
    """Whether it is audited. One of ON, OFF; there may be others."""
    audit_status: str | None
    """The state of its audit. One of ACTIVE, SHUTOFF, ERROR; there may be others."""
    instance_name: str | None
    """The name of its database instance."""
    db_classification: str | None
    """Whether it is a managed database or the customer's own. One of RDS, ECS; there may be
    others.
    """
    charset: str | None
    """Its character set. One of GBK, UTF8; there may be others."""
    os: str | None
    """The operating system of its host."""
    agent_url: list[Any] | None = field(hash=False)
    """The ids of its audit agents."""
    rds_id: str | None
    """The id of the managed database."""
    rds_obj_info: str | None
    """Information on the RDS database."""
    dws_obj_info: str | None
    """Information on the DWS database."""
    clouddb_obj_info: str | None
    """Deprecated by the service."""
    rds_audit_switch_mismatch: bool | None
    """Whether its audit is on, but RDS does not upload its logs."""
    raw: dict[str, Any] = field(repr=False, hash=False)
    """All fields that the service sent, including those unknown to this package."""


SCHEDULE = {
    "id": "text",
    "status": "text",
    "frequency": "text",
    "format": "text",
    "mode": "text",
    "start_time": "text",
    "notice": "text",
    "topic_urn": "text",
    "db_ids": "text",
    "smn_effective": "boolean",
}
"""The types of the fields of schedules."""


@dataclass(frozen=True)
class ScheduleFields:
    """The fields of schedules that the service documents."""

    id: str
    """The id of the template."""
    status: str | None
    """Whether the service generates reports on this schedule. One of ON, OFF; there may be
    others.
    """
    frequency: str | None
    """How often it generates a report. One of AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK,
    AUDIT_REPORT_MONTH, AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME; there may be others.
    """
    format: str | None
    """The format of the reports. One of ZIP, PDF; there may be others."""
    mode: str | None
    """The mode of scheduling."""
    start_time: str | None
    """When the schedule begins."""
    notice: str | None
    """Whether the service sends a notification when a report is ready. One of ON, OFF; there
    may be others.
    """
    topic_urn: str | None
    """The URN of the topic of SMN (Simple Message Notification) that receives the
    notifications.
    """
    db_ids: str | None
    """The ids of the databases that the reports cover, separated by commas."""
    smn_effective: bool | None
    """Whether notifications by SMN are supported."""
    raw: dict[str, Any] = field(repr=False, hash=False)
    """All fields that the service sent, including those unknown to this package."""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Counts:
    """Counts of the reports of a mirror."""

    listed: int = 0
    """Reports in the service's lists that the options select."""
    downloaded: int = 0
    """Reports that were added to the archive by this run."""
    present: int = 0
    """Reports that were in the archive before this run."""
    not_ready: int = 0
    """Reports that the service is still generating."""
    vanished: int = 0
    """Reports that were deleted between the list and the download."""
    failed: int = 0
    """Reports, or lists of them, that failed; each has an error."""
    repaired: int = 0
    """Files that differed from the manifest and were replaced."""
