//! The calls that the services know.

use crate::http::decode;
use crate::request_log::Listener;

/// Which service is behind a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Dbss,
    Iam,
    Metadata,
}

impl Service {
    pub(crate) fn at(listener: Listener) -> Service {
        match listener {
            Listener::Iam | Listener::IamHttps => Service::Iam,
            Listener::Metadata => Service::Metadata,
            _ => Service::Dbss,
        }
    }
}

/// A version of the list of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstancesVersion {
    V2,
    V1,
    V1Dbss,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Instances(InstancesVersion),
    List,
    Templates,
    Databases,
    ShowSchedule,
    SetSchedule,
    Create,
    Download,
    Delete,
    Tokens,
    Projects,
    AuthProjects,
    Domains,
    IdToken,
    Keys,
    Oidc,
    MetadataToken,
    MetadataKey,
    Pod,
}

/// A call: what it is named in faults and in the request log, but for a download, and what a
/// policy would have to allow. `*` in its path stands for an id: of the project, of the instance,
/// and of a report or template.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) service: Service,
    pub(crate) kind: Kind,
    pub(crate) method: &'static str,
    path: &'static str,
    pub(crate) name: &'static str,
    pub(crate) action: &'static str,
}

#[rustfmt::skip]
macro_rules! rows {
    ($(($service:ident, $kind:expr, $method:literal, $path:literal, $name:literal, $action:literal),)*) => {
        &[$(Row {
            service: Service::$service, kind: $kind, method: $method, path: $path, name: $name, action: $action,
        }),*]
    };
}

#[rustfmt::skip]
const ROWS: &[Row] = rows![
    (Dbss, Kind::Instances(InstancesVersion::V2), "GET", "/v2/*/audit/instances", "@instances", "list"),
    (Dbss, Kind::Instances(InstancesVersion::V1), "GET", "/v1/*/audit/instances", "@instances", "list"),
    (Dbss, Kind::Instances(InstancesVersion::V1Dbss), "GET", "/v1/*/dbss/audit/instances", "@instances", "list"),
    (Dbss, Kind::List, "POST", "/v1/*/audit/*/reports/list", "@reports.list", "listReports"),
    (Dbss, Kind::Templates, "GET", "/v2/*/audit/*/reports/templates", "@templates", "listReportTemplates"),
    (Dbss, Kind::Databases, "GET", "/v2/*/audit/*/databases", "@databases", "listDatabases"),
    (Dbss, Kind::ShowSchedule, "GET", "/v2/*/audit/*/reports/tasks/*", "@schedule.show", "getReportScheduler"),
    (Dbss, Kind::SetSchedule, "POST", "/v1/*/audit/*/reports/task", "@schedule.set", "updateReportScheduler"),
    (Dbss, Kind::Create, "POST", "/v1/*/audit/*/reports/create", "@reports.create", "createReport"),
    (Dbss, Kind::Download, "GET", "/v1/*/audit/*/reports/*/download", "", "downloadReport"),
    (Dbss, Kind::Delete, "DELETE", "/v1/*/audit/*/reports/*", "@reports.delete", "deleteReport"),
    (Iam, Kind::Tokens, "POST", "/v3/auth/tokens", "@iam.tokens", ""),
    (Iam, Kind::Projects, "GET", "/v3/projects", "@iam.projects", ""),
    (Iam, Kind::AuthProjects, "GET", "/v3/auth/projects", "@iam.auth_projects", ""),
    (Iam, Kind::Domains, "GET", "/v3/auth/domains", "@iam.domains", ""),
    (Iam, Kind::IdToken, "POST", "/v3.0/OS-AUTH/id-token/tokens", "@iam.id_token", ""),
    (Iam, Kind::Keys, "POST", "/v3.0/OS-CREDENTIAL/securitytokens", "@iam.keys", ""),
    (Iam, Kind::Oidc, "POST", "/v5/agencies/assume-with-oidc", "@sts.oidc", ""),
    (Metadata, Kind::MetadataToken, "PUT", "/meta-data/latest/api/token", "@metadata.token", ""),
    (Metadata, Kind::MetadataKey, "GET", "/openstack/latest/securitykey", "@metadata.key", ""),
    (Metadata, Kind::Pod, "POST", "/v1/pod/credentials", "@pod.key", ""),
];

/// Whether a call has this name.
pub(crate) fn is_call(name: &str) -> bool {
    ROWS.iter().any(|row| row.name == name)
}

/// A call, with the ids of its path, decoded.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) row: &'static Row,
    ids: Vec<String>,
}

impl Call {
    /// The call of a path, whatever the method.
    pub(crate) fn of(service: Service, path: &str) -> Option<Call> {
        let mut rows = ROWS.iter().filter(|row| row.service == service);
        rows.find_map(|row| {
            let (mut wanted, mut given) = (row.path.split('/'), path.split('/'));
            let mut ids = Vec::new();
            loop {
                match (wanted.next(), given.next()) {
                    (None, None) => return Some(Call { row, ids }),
                    (Some("*"), Some(id)) => ids.push(decode(id)),
                    (wanted, given) if wanted == given => {}
                    _ => return None,
                }
            }
        })
    }

    /// What faults wait for and the request log shows: a report's id, or the name of the call.
    pub(crate) fn subject(&self) -> &str {
        if self.row.name.is_empty() {
            self.id()
        } else {
            self.row.name
        }
    }

    pub(crate) fn project(&self) -> &str {
        &self.ids[0]
    }

    pub(crate) fn instance(&self) -> &str {
        &self.ids[1]
    }

    /// Of a report, or of a template.
    pub(crate) fn id(&self) -> &str {
        &self.ids[2]
    }

    /// The first id that is malformed: its name.
    pub(crate) fn malformed_id(&self) -> Option<&'static str> {
        let known = [("project_id", 32), ("instance_id", 32), ("id", 16)];
        let well_formed = |id: &str, least: usize| {
            let mut bytes = id.bytes();
            (least..=64).contains(&id.len())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let mut ids = known.iter().zip(&self.ids);
        let found = ids.find(|((_, least), id)| !well_formed(id, *least));
        found.map(|((name, _), _)| *name)
    }
}
