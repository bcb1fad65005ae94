//! The documented fields of list items. A page also has undocumented fields of the
//! service.

use FieldKind::{Boolean, Integer, List, Text};

/// The form of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A JSON array.
    List,
    /// true or false.
    Boolean,
}

impl FieldKind {
    /// Its name in descriptions.
    pub const fn name(self) -> &'static str {
        match self {
            Text => "text",
            Integer => "integer",
            List => "list",
            Boolean => "boolean",
        }
    }
}

/// One field of one kind of item.
pub struct FieldRow {
    /// The kind of item: "instance", "report", "template", "database" or "schedule".
    pub item: &'static str,
    /// The service's name of the field.
    pub name: &'static str,
    /// The form of its value.
    pub kind: FieldKind,
    /// A description.
    pub help: &'static str,
    /// The documented values; there may be others.
    pub values: &'static [&'static str],
    /// Other names of the field, in older versions of the service's call.
    pub aliases: &'static [&'static str],
}

impl FieldRow {
    const fn or(self, aliases: &'static [&'static str]) -> FieldRow {
        FieldRow { aliases, ..self }
    }
}

const fn field(
    item: &'static str,
    name: &'static str,
    kind: FieldKind,
    help: &'static str,
    values: &'static [&'static str],
) -> FieldRow {
    FieldRow {
        item,
        name,
        kind,
        help,
        values,
        aliases: &[],
    }
}

/// Every documented field, the most useful first.
pub static FIELDS: &[FieldRow] = &[
    field("instance", "id", Text, "The id of the instance.", &[]).or(&["instance_id"]),
    field("instance", "name", Text, "Its name.", &[]),
    field(
        "instance",
        "status",
        Text,
        "Its state.",
        &[
            "ACTIVE",
            "SHUTOFF",
            "BUILD",
            "DELETING",
            "DELETED",
            "ERROR",
            "HAWAIT",
            "FROZEN",
            "UPGRADING",
        ],
    ),
    field("instance", "region", Text, "Its region.", &[]),
    field("instance", "version", Text, "The version of its software.", &[]),
    field("instance", "created", Text, "When it was created.", &[]),
    field("instance", "expired", Text, "When it expires.", &[]),
    field(
        "instance",
        "remain_days",
        Text,
        "How many days remain until it expires.",
        &[],
    ),
    field("instance", "connect_ip", Text, "Its IPv4 address.", &[]),
    field("instance", "connect_ipv6", Text, "Its IPv6 address.", &[]).or(&["connectIpv6"]),
    field("instance", "charge_model", Text, "Its billing mode.", &[]),
    field("instance", "comment", Text, "The customer's comment.", &[]),
    field(
        "instance",
        "keep_days",
        Text,
        "How many days remain until a frozen instance is deleted.",
        &[],
    ),
    field(
        "instance",
        "new_version",
        Text,
        "The version that it can be upgraded to.",
        &[],
    ),
    field("instance", "port_id", Text, "The id of its network port.", &[]),
    field(
        "instance",
        "resource_id",
        Text,
        "The id of its resource at the service.",
        &[],
    ),
    field(
        "instance",
        "resource_spec_code",
        Text,
        "The code of its specification.",
        &[],
    ),
    field(
        "instance",
        "scene",
        Text,
        "The scenario for which it is used.",
        &[],
    ),
    field(
        "instance",
        "security_group_id",
        Text,
        "The id of its security group.",
        &[],
    ),
    field("instance", "specification", Text, "Its specification.", &[]),
    field("instance", "subnet_id", Text, "The id of its subnet.", &[]),
    field("instance", "task", Text, "Its current task.", &[]),
    field("instance", "vpc_id", Text, "The id of its VPC.", &[]),
    field("instance", "zone", Text, "Its availability zone.", &[]),
    field(
        "instance",
        "config_num",
        Integer,
        "The number of its settings.",
        &[],
    ),
    field("instance", "cpu", Integer, "The number of its virtual CPUs.", &[]),
    field(
        "instance",
        "database_limit",
        Integer,
        "The maximum number of databases that it audits.",
        &[],
    ),
    field("instance", "effect", Integer, "Whether it is in effect.", &[]),
    field("instance", "ram", Integer, "Its memory in GB.", &[]),
    field(
        "instance",
        "supported_feature",
        List,
        "The features that it supports.",
        &[],
    ),
    field(
        "instance",
        "binding_db_type",
        Text,
        "The type of the databases that it is bound to.",
        &[],
    ),
    field(
        "instance",
        "enterprise_project_id",
        Text,
        "The id of its enterprise project.",
        &[],
    ),
    field(
        "instance",
        "failed_reason",
        Text,
        "Why its last task failed.",
        &[],
    ),
    field("instance", "timezone", Text, "Its time zone.", &[]),
    field("instance", "upgrade_log", Text, "The log of its upgrade.", &[]),
    field("report", "id", Text, "The id of the report.", &[]),
    field("report", "name", Text, "Its name.", &[]),
    field(
        "report",
        "format",
        Text,
        "The format of its file.",
        &["pdf", "zip"],
    ),
    field(
        "report",
        "percentum",
        Integer,
        "Its progress, 0 to 100; at 100 it can be downloaded.",
        &[],
    ),
    field(
        "report",
        "type",
        Text,
        "How often such a report is generated.",
        &[
            "AUDIT_REPORT_DAY",
            "AUDIT_REPORT_WEEK",
            "AUDIT_REPORT_MONTH",
            "AUDIT_REPORT_YEAR",
            "AUDIT_REPORT_REAL_TIME",
        ],
    ),
    field(
        "report",
        "template_type",
        Text,
        "The type of the template that it was made from.",
        &[],
    ),
    field(
        "report",
        "start_time",
        Text,
        "The beginning of its time range.",
        &[],
    ),
    field("report", "end_time", Text, "The end of its time range.", &[]),
    field("report", "finish_time", Text, "When it was ready.", &[]),
    field(
        "report",
        "db_ids",
        Text,
        "The ids of the databases that it covers, separated by commas.",
        &[],
    ),
    field(
        "report",
        "db_names",
        Text,
        "The names of the databases that it covers.",
        &[],
    ),
    field("report", "url", Text, "Its location at the service.", &[]),
    field("template", "id", Text, "The id of the template.", &[]),
    field("template", "name", Text, "Its name.", &[]),
    field(
        "template",
        "type",
        Text,
        "The content of its reports.",
        &[
            "COMPREHENSIVE",
            "COMPLIANCE",
            "SOX",
            "PCI",
            "DB_ANALYSIS",
            "CLIENT_IP_ANALYSIS",
            "SQL_DCL_COMMAND",
            "SQL_DDL_COMMAND",
            "SQL_DML_COMMAND",
        ],
    ),
    field(
        "template",
        "group",
        Text,
        "The group of its type.",
        &[
            "COMPREHENSIVE",
            "COMPLIANCE",
            "DB_SPECIAL",
            "CLIENT_SPECIAL",
            "SQL_SPECIAL",
        ],
    ),
    field(
        "template",
        "status",
        Text,
        "Whether its schedule is on.",
        &["ON", "OFF"],
    ),
    field("template", "desc", Text, "Its description.", &[]),
    field(
        "template",
        "frequency",
        Text,
        "How often its schedule generates a report.",
        &[],
    ),
    field(
        "template",
        "db_ids",
        Text,
        "The ids of the databases that it covers, separated by commas.",
        &[],
    ),
    field(
        "template",
        "db_names",
        Text,
        "The names of the databases that it covers.",
        &[],
    ),
    field("database", "id", Text, "The id of the database.", &[]),
    field("database", "name", Text, "Its name.", &[]),
    field(
        "database",
        "type",
        Text,
        "The database system.",
        &[
            "MYSQL",
            "ORACLE",
            "POSTGRESQL",
            "SQLSERVER",
            "DAMENG",
            "TAURUS",
            "DWS",
            "KINGBASE",
            "GAUSSDBOPENGAUSS",
            "GREENPLUM",
            "HIGHGO",
            "SHENTONG",
            "GBASE8A",
            "GBASE8S",
            "GBASEXDM",
            "MONGODB",
            "DDS",
        ],
    ),
    field(
        "database",
        "version",
        Text,
        "The version of the database system.",
        &[],
    ),
    field("database", "ip", Text, "Its IP address.", &[]),
    field("database", "port", Text, "Its port.", &[]),
    field(
        "database",
        "status",
        Text,
        "Whether it is audited.",
        &["ON", "OFF"],
    ),
    field(
        "database",
        "audit_status",
        Text,
        "The state of its audit.",
        &["ACTIVE", "SHUTOFF", "ERROR"],
    ),
    field(
        "database",
        "instance_name",
        Text,
        "The name of its database instance.",
        &[],
    ),
    field(
        "database",
        "db_classification",
        Text,
        "Whether it is a managed database or the customer's own.",
        &["RDS", "ECS"],
    ),
    field(
        "database",
        "charset",
        Text,
        "Its character set.",
        &["GBK", "UTF8"],
    ),
    field("database", "os", Text, "The operating system of its host.", &[]),
    field("database", "agent_url", List, "The ids of its audit agents.", &[]),
    field("database", "rds_id", Text, "The id of the managed database.", &[]),
    field(
        "database",
        "rds_obj_info",
        Text,
        "Information on the RDS database.",
        &[],
    ),
    field(
        "database",
        "dws_obj_info",
        Text,
        "Information on the DWS database.",
        &[],
    ),
    field(
        "database",
        "clouddb_obj_info",
        Text,
        "Deprecated by the service.",
        &[],
    ),
    field(
        "database",
        "rds_audit_switch_mismatch",
        Boolean,
        "Whether its audit is on, but RDS does not upload its logs.",
        &[],
    ),
    field("schedule", "id", Text, "The id of the template.", &[]),
    field(
        "schedule",
        "status",
        Text,
        "Whether the service generates reports on this schedule.",
        &["ON", "OFF"],
    ),
    field(
        "schedule",
        "frequency",
        Text,
        "How often it generates a report.",
        &[
            "AUDIT_REPORT_DAY",
            "AUDIT_REPORT_WEEK",
            "AUDIT_REPORT_MONTH",
            "AUDIT_REPORT_YEAR",
            "AUDIT_REPORT_REAL_TIME",
        ],
    ),
    field(
        "schedule",
        "format",
        Text,
        "The format of the reports.",
        &["ZIP", "PDF"],
    ),
    field("schedule", "mode", Text, "The mode of scheduling.", &[]),
    field("schedule", "start_time", Text, "When the schedule begins.", &[]),
    field(
        "schedule",
        "notice",
        Text,
        "Whether the service sends a notification when a report is ready.",
        &["ON", "OFF"],
    ),
    field(
        "schedule",
        "topic_urn",
        Text,
        "The URN of the topic of SMN (Simple Message Notification) that receives the notifications.",
        &[],
    ),
    field(
        "schedule",
        "db_ids",
        Text,
        "The ids of the databases that the reports cover, separated by commas.",
        &[],
    ),
    field(
        "schedule",
        "smn_effective",
        Boolean,
        "Whether notifications by SMN are supported.",
        &[],
    ),
];
