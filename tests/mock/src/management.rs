//! The calls that list, make and delete reports, and set the schedules of templates.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::Shared;
use crate::credentials::Caller;
use crate::http::{Request, Response, decode};
use crate::net::lock;
use crate::service::{
    BAD_REQUEST, INTERNAL, admit, check_ids, forbidden, is_foreign, no_such_api, not_found, service_error,
};
use crate::store::{CreateRequest, InstanceList, InstancesVersion, UnknownTemplate};

const MOST: usize = 1000;
const DEFAULT_LIMIT: usize = 100;
const MOST_DATABASES: usize = 10_000;

/// The calls there are, with the ids of their paths, decoded.
pub(crate) enum Call {
    Instances {
        project: String,
        version: InstancesVersion,
    },
    List {
        project: String,
        instance: String,
    },
    Templates {
        project: String,
        instance: String,
    },
    Databases {
        project: String,
        instance: String,
    },
    ShowSchedule {
        project: String,
        instance: String,
        template: String,
    },
    SetSchedule {
        project: String,
        instance: String,
    },
    Create {
        project: String,
        instance: String,
    },
    Delete {
        project: String,
        instance: String,
        report: String,
    },
}

impl Call {
    pub(crate) fn of(segments: &[&str]) -> Option<Call> {
        let call = match *segments {
            ["", "v2", project, "audit", "instances"] => Call::Instances {
                project: decode(project),
                version: InstancesVersion::V2,
            },
            ["", "v1", project, "audit", "instances"] => Call::Instances {
                project: decode(project),
                version: InstancesVersion::V1,
            },
            ["", "v1", project, "dbss", "audit", "instances"] => Call::Instances {
                project: decode(project),
                version: InstancesVersion::V1Dbss,
            },
            ["", "v1", project, "audit", instance, "reports", "list"] => Call::List {
                project: decode(project),
                instance: decode(instance),
            },
            ["", "v2", project, "audit", instance, "reports", "templates"] => Call::Templates {
                project: decode(project),
                instance: decode(instance),
            },
            ["", "v2", project, "audit", instance, "databases"] => Call::Databases {
                project: decode(project),
                instance: decode(instance),
            },
            ["", "v2", project, "audit", instance, "reports", "tasks", template] => Call::ShowSchedule {
                project: decode(project),
                instance: decode(instance),
                template: decode(template),
            },
            ["", "v1", project, "audit", instance, "reports", "task"] => Call::SetSchedule {
                project: decode(project),
                instance: decode(instance),
            },
            ["", "v1", project, "audit", instance, "reports", "create"] => Call::Create {
                project: decode(project),
                instance: decode(instance),
            },
            ["", "v1", project, "audit", instance, "reports", report] => Call::Delete {
                project: decode(project),
                instance: decode(instance),
                report: decode(report),
            },
            _ => return None,
        };
        Some(call)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Call::Instances { .. } => "@instances",
            Call::List { .. } => "@reports.list",
            Call::Templates { .. } => "@templates",
            Call::Databases { .. } => "@databases",
            Call::ShowSchedule { .. } => "@schedule.show",
            Call::SetSchedule { .. } => "@schedule.set",
            Call::Create { .. } => "@reports.create",
            Call::Delete { .. } => "@reports.delete",
        }
    }

    pub(crate) fn method(&self) -> &'static str {
        match self {
            Call::Instances { .. }
            | Call::Templates { .. }
            | Call::Databases { .. }
            | Call::ShowSchedule { .. } => "GET",
            Call::List { .. } | Call::Create { .. } | Call::SetSchedule { .. } => "POST",
            Call::Delete { .. } => "DELETE",
        }
    }

    pub(crate) fn project(&self) -> &str {
        match self {
            Call::Instances { project, .. }
            | Call::List { project, .. }
            | Call::Templates { project, .. }
            | Call::Databases { project, .. }
            | Call::ShowSchedule { project, .. }
            | Call::SetSchedule { project, .. }
            | Call::Create { project, .. }
            | Call::Delete { project, .. } => project,
        }
    }

    /// What a policy would have to allow.
    fn action(&self) -> &'static str {
        match self {
            Call::Instances { .. } => "dbss:auditInstance:list",
            Call::List { .. } => "dbss:auditInstance:listReports",
            Call::Templates { .. } => "dbss:auditInstance:listReportTemplates",
            Call::Databases { .. } => "dbss:auditInstance:listDatabases",
            Call::ShowSchedule { .. } => "dbss:auditInstance:getReportScheduler",
            Call::SetSchedule { .. } => "dbss:auditInstance:updateReportScheduler",
            Call::Create { .. } => "dbss:auditInstance:createReport",
            Call::Delete { .. } => "dbss:auditInstance:deleteReport",
        }
    }

    fn ids(&self) -> Vec<(&'static str, &str, usize)> {
        let mut ids = vec![("project_id", self.project(), 32)];
        match self {
            Call::Instances { .. } => {}
            Call::List { instance, .. }
            | Call::Templates { instance, .. }
            | Call::Databases { instance, .. }
            | Call::SetSchedule { instance, .. }
            | Call::Create { instance, .. } => {
                ids.push(("instance_id", instance, 32));
            }
            Call::ShowSchedule {
                instance, template, ..
            } => {
                ids.push(("instance_id", instance, 32));
                ids.push(("id", template, 16));
            }
            Call::Delete { instance, report, .. } => {
                ids.push(("instance_id", instance, 32));
                ids.push(("id", report, 16));
            }
        }
        ids
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListBody {
    name: Option<String>,
    page: usize,
    size: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    template_id: String,
    start_time: String,
    end_time: String,
    // The model has no use for the dates.
    #[serde(rename = "start_date")]
    _start_date: Option<String>,
    #[serde(rename = "end_date")]
    _end_date: Option<String>,
    db_ids: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleBody {
    scheduler: Map<String, Value>,
}

/// What is answered where no fault waits.
pub(crate) fn respond(shared: &Shared, request: &Request, call: &Call) -> Response {
    if let Call::Instances { version, .. } = call
        && !lock(&shared.store).shapes().versions.contains(version)
    {
        return no_such_api();
    }
    let response = admit(shared, request, call.method(), call.project())
        .and_then(|caller| act(shared, request, call, &caller));
    response.unwrap_or_else(|refusal| *refusal)
}

fn act(shared: &Shared, request: &Request, call: &Call, caller: &Caller) -> Result<Response, Box<Response>> {
    check_ids(&call.ids())?;
    let allowed = || match is_foreign(shared, caller, call.project()) {
        true => Err(Box::new(forbidden(shared, call.action()))),
        false => Ok(()),
    };
    let known = |instance: &str| match lock(&shared.store).has_instance(instance) {
        true => Ok(()),
        false => Err(Box::new(not_found())),
    };
    match call {
        Call::Instances { version, .. } => {
            let offset = number(request, "offset", 0..=usize::MAX, 0)?;
            let limit = number(request, "limit", 1..=MOST, DEFAULT_LIMIT)?;
            allowed()?;
            Ok(instances(shared, offset, limit, *version))
        }
        Call::List { instance, .. } => {
            let body: ListBody = body(request)?;
            if body.page == 0 {
                return Err(malformed("page must be at least 1"));
            }
            if body.size == 0 {
                return Err(malformed("size must be at least 1"));
            }
            allowed()?;
            known(instance)?;
            Ok(list(shared, instance, &body))
        }
        Call::Templates { instance, .. } => {
            allowed()?;
            known(instance)?;
            let templates = lock(&shared.store).template_items();
            Ok(Response::json(
                200,
                &json!({"os_type": "LINUX", "templates": templates}),
            ))
        }
        Call::Databases { instance, .. } => {
            let offset = number(request, "offset", 0..=usize::MAX, 0)?;
            let limit = number(request, "limit", 1..=MOST_DATABASES, DEFAULT_LIMIT)?;
            let pairs = request.pairs();
            let status = pairs
                .iter()
                .find(|pair| pair.0 == "status")
                .map(|pair| pair.1.as_str());
            if status.is_some_and(|status| status != "ON" && status != "OFF") {
                return Err(malformed("status is neither ON nor OFF"));
            }
            allowed()?;
            known(instance)?;
            let (items, total) = lock(&shared.store).databases(status, offset, limit);
            Ok(Response::json(200, &json!({"databases": items, "total": total})))
        }
        Call::ShowSchedule {
            instance, template, ..
        } => {
            allowed()?;
            known(instance)?;
            let store = lock(&shared.store);
            let template = store.template(template).ok_or_else(|| Box::new(not_found()))?;
            let schedule = store.schedule(instance, &template);
            Ok(Response::json(
                200,
                &json!({"scheduler": schedule, "smn_effective": true}),
            ))
        }
        Call::SetSchedule { instance, .. } => {
            let ScheduleBody { scheduler } = body(request)?;
            let id = check_schedule(&scheduler)?;
            allowed()?;
            known(instance)?;
            let mut store = lock(&shared.store);
            if store.template(&id).is_none() {
                return Err(Box::new(not_found()));
            }
            store.set_schedule(instance, &id, scheduler);
            Ok(Response::json(200, &json!({"status": "success"})))
        }
        Call::Create { instance, .. } => {
            let body: CreateBody = body(request)?;
            allowed()?;
            known(instance)?;
            create(shared, instance, body)
        }
        Call::Delete { instance, report, .. } => {
            allowed()?;
            known(instance)?;
            match lock(&shared.store).remove_from(instance, report) {
                true => Ok(Response::json(200, &json!({"status": "SUCCESS"}))),
                false => Err(Box::new(not_found())),
            }
        }
    }
}

fn instances(shared: &Shared, offset: usize, limit: usize, version: InstancesVersion) -> Response {
    let mut store = lock(&shared.store);
    let page = store.list_instances(offset, limit);
    let with_features = |item: &mut Map<String, Value>| {
        item.insert("supported_feature".to_owned(), json!(["report"]));
    };
    let json = match (version, store.shapes().instances) {
        (InstancesVersion::V2, _) => page.json("instances", |mut item| {
            item.as_object_mut().map(with_features);
            item
        }),
        (InstancesVersion::V1, InstanceList::Instances) => page.json("instances", |mut item| {
            if let Value::Object(item) = &mut item {
                with_features(item);
                for (name, other) in [("id", "instance_id"), ("connect_ipv6", "connectIpv6")] {
                    if let Some(value) = item.remove(name) {
                        item.insert(other.to_owned(), value);
                    }
                }
                for (name, value) in [
                    ("binding_db_type", "MYSQL"),
                    ("enterprise_project_id", "0"),
                    ("failed_reason", ""),
                    ("timezone", "GMT+08:00"),
                    ("upgrade_log", ""),
                ] {
                    item.insert(name.to_owned(), json!(value));
                }
            }
            item
        }),
        _ => page.json("servers", |item| item),
    };
    Response::json(200, &json)
}

fn list(shared: &Shared, instance: &str, body: &ListBody) -> Response {
    let name = body.name.as_deref().unwrap_or_default();
    let skip = (body.page - 1).saturating_mul(body.size);
    let page = lock(&shared.store).list(instance, name, skip, body.size);
    Response::json(200, &page.json("reports", |item| item))
}

fn create(shared: &Shared, instance: &str, body: CreateBody) -> Result<Response, Box<Response>> {
    let mut store = lock(&shared.store);
    let Some(template) = store.template(&body.template_id) else {
        return match store.unknown_template() {
            UnknownTemplate::Error => Err(malformed("there is no such template")),
            UnknownTemplate::Failed => Ok(Response::json(200, &json!({"result": "failed"}))),
        };
    };
    let mut fields = Map::new();
    fields.insert("start_time".to_owned(), json!(body.start_time));
    fields.insert("end_time".to_owned(), json!(body.end_time));
    fields.insert("db_ids".to_owned(), json!(body.db_ids));
    fields.insert("db_names".to_owned(), Value::Null);
    let order = CreateRequest {
        instance,
        template,
        fields,
    };
    match store.make(&order) {
        Ok(()) => Ok(Response::json(200, &json!({"result": "success"}))),
        Err(error) => Err(Box::new(service_error(500, INTERNAL, &error.to_string()))),
    }
}

/// Checks that a schedule has the documented fields, and returns the id of its template.
fn check_schedule(schedule: &Map<String, Value>) -> Result<String, Box<Response>> {
    let text = |name: &str| schedule.get(name).and_then(Value::as_str);
    for name in [
        "format",
        "frequency",
        "id",
        "mode",
        "notice",
        "start_time",
        "status",
        "topic_urn",
    ] {
        if text(name).is_none() {
            return Err(malformed(&format!("scheduler.{name} is not a text")));
        }
    }
    let one_of = |name: &str, words: &[&str]| match text(name).is_some_and(|word| words.contains(&word)) {
        true => Ok(()),
        false => Err(malformed(&format!("scheduler.{name} is none of {words:?}"))),
    };
    one_of("notice", &["ON", "OFF"])?;
    one_of("status", &["ON", "OFF"])?;
    one_of(
        "frequency",
        &[
            "AUDIT_REPORT_DAY",
            "AUDIT_REPORT_WEEK",
            "AUDIT_REPORT_MONTH",
            "AUDIT_REPORT_YEAR",
            "AUDIT_REPORT_REAL_TIME",
        ],
    )?;
    Ok(text("id").unwrap_or_default().to_owned())
}

fn malformed(message: &str) -> Box<Response> {
    Box::new(service_error(
        400,
        BAD_REQUEST,
        &format!("Invalid request message: {message}"),
    ))
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Box<Response>> {
    if !request.is_json() {
        return Err(malformed("the Content-Type is not application/json"));
    }
    serde_json::from_slice(&request.body).map_err(|error| malformed(&error.to_string()))
}

fn number(
    request: &Request,
    name: &str,
    range: std::ops::RangeInclusive<usize>,
    default: usize,
) -> Result<usize, Box<Response>> {
    let pairs = request.pairs();
    let mut values = pairs.iter().filter(|pair| pair.0 == name).map(|pair| &pair.1);
    let number = match (values.next(), values.next()) {
        (None, _) => Some(default),
        (Some(value), None) => value.parse().ok().filter(|number| range.contains(number)),
        _ => None,
    };
    number.ok_or_else(|| malformed(&format!("{name} is not a number from {range:?}")))
}
