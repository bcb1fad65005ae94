//! The calls that list, make and delete reports, and set the schedules of templates.

use serde_json::{Map, Value, json};

use crate::Shared;
use crate::calls::{Call, InstancesVersion, Kind};
use crate::http::{Fields, Request, Response};
use crate::net::lock;
use crate::service::{BAD_REQUEST, Refusal, admit, allow, no_such_api, not_found};
use crate::store::{InstanceList, UnknownTemplate};

const MOST: usize = 1000;
const DEFAULT_LIMIT: usize = 100;
const MOST_DATABASES: usize = 10_000;

/// What is answered where no fault waits: what is wrong with the request comes before what its
/// sender may not do, and that before what there is not.
pub(crate) fn respond(shared: &Shared, request: &Request, call: &Call) -> Result<Response, Refusal> {
    if let Kind::Instances(version) = call.row.kind
        && !lock(&shared.store).shapes.has(version)
    {
        return Err(Box::new(no_such_api()));
    }
    let caller = admit(shared, request, call)?;
    let allowed = || {
        allow(shared, &caller, call)?;
        let is_list = matches!(call.row.kind, Kind::Instances(_));
        match is_list || lock(&shared.store).has_instance(call.instance()) {
            true => Ok(()),
            false => Err(Box::new(not_found())),
        }
    };
    let store = || lock(&shared.store);
    let json = match call.row.kind {
        Kind::Instances(version) => {
            let offset = number(request, "offset", 0..=usize::MAX, 0)?;
            let limit = number(request, "limit", 1..=MOST, DEFAULT_LIMIT)?;
            allowed()?;
            instances(shared, offset, limit, version)
        }
        Kind::List => {
            let body = body(request, "page# size# name?")?;
            let (page, size) = (body.number("page") as usize, body.number("size") as usize);
            if page == 0 || size == 0 {
                return Err(malformed("page and size must be at least 1"));
            }
            allowed()?;
            let skip = (page - 1).saturating_mul(size);
            store().list(call.instance(), body.text("name"), skip, size)
        }
        Kind::Templates => {
            allowed()?;
            json!({"os_type": "LINUX", "templates": store().template_items()})
        }
        Kind::Databases => {
            let offset = number(request, "offset", 0..=usize::MAX, 0)?;
            let limit = number(request, "limit", 1..=MOST_DATABASES, DEFAULT_LIMIT)?;
            let pairs = request.pairs();
            let status = pairs.iter().find(|pair| pair.0 == "status").map(|pair| &*pair.1);
            if status.is_some_and(|status| status != "ON" && status != "OFF") {
                return Err(malformed("status is neither ON nor OFF"));
            }
            allowed()?;
            store().databases(status, offset, limit)
        }
        Kind::ShowSchedule => {
            allowed()?;
            let schedule = store().schedule(call.instance(), call.id());
            let schedule = schedule.ok_or_else(|| Box::new(not_found()))?;
            json!({"scheduler": schedule, "smn_effective": true})
        }
        Kind::SetSchedule => {
            let scheduler = scheduler(request)?;
            allowed()?;
            if !store().set_schedule(call.instance(), scheduler) {
                return Err(Box::new(not_found()));
            }
            json!({"status": "success"})
        }
        Kind::Create => {
            let body = body(
                request,
                "template_id start_time end_time start_date? end_date? db_ids?",
            )?;
            allowed()?;
            create(shared, call.instance(), &body)?
        }
        _ => {
            allowed()?;
            if !store().remove_from(call.instance(), call.id()) {
                return Err(Box::new(not_found()));
            }
            json!({"status": "SUCCESS"})
        }
    };
    Ok(Response::json(200, &json))
}

fn instances(shared: &Shared, offset: usize, limit: usize, version: InstancesVersion) -> Value {
    let mut store = lock(&shared.store);
    let mut page = store.list_instances(offset, limit);
    let as_sdks = version == InstancesVersion::V1 && store.shapes.instances == InstanceList::Instances;
    if version != InstancesVersion::V2 && !as_sdks {
        page["servers"] = page["instances"].take();
        page.as_object_mut().map(|page| page.remove("instances"));
        return page;
    }
    for item in page["instances"].as_array_mut().into_iter().flatten() {
        item["supported_feature"] = json!(["report"]);
        let Value::Object(item) = item else { continue };
        if as_sdks {
            for (name, other) in [("id", "instance_id"), ("connect_ipv6", "connectIpv6")] {
                if let Some(value) = item.remove(name) {
                    item.insert(other.to_owned(), value);
                }
            }
            item.insert("timezone".to_owned(), json!("GMT+08:00"));
        }
    }
    page
}

fn create(shared: &Shared, instance: &str, body: &Fields) -> Result<Value, Refusal> {
    let mut store = lock(&shared.store);
    let Some(template) = store.template(body.text("template_id")) else {
        return match store.generation.unknown_template {
            UnknownTemplate::Error => Err(malformed("there is no such template")),
            UnknownTemplate::Failed => Ok(json!({"result": "failed"})),
        };
    };
    let mut fields = Map::new();
    for name in ["start_time", "end_time", "db_ids"] {
        fields.insert(name.to_owned(), json!(body.get(name)));
    }
    fields.insert("db_names".to_owned(), Value::Null);
    let made = store.make(instance, &template, &fields);
    made.map_err(|error| Response::error(500, "DBSS.11000000", &error))?;
    Ok(json!({"result": "success"}))
}

/// The schedule of a request, which has the documented fields, and perhaps others.
fn scheduler(request: &Request) -> Result<Value, Refusal> {
    let body = request
        .is_json()
        .then(|| serde_json::from_slice::<Value>(&request.body).ok());
    let mut body = body.flatten().ok_or_else(|| malformed("no JSON"))?;
    let schedule = body["scheduler"].take();
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
        let Some(text) = schedule[name].as_str() else {
            return Err(malformed(&format!("scheduler.{name} is not a text")));
        };
        let known = match name {
            "notice" | "status" => ["ON", "OFF"].contains(&text),
            "frequency" => ["DAY", "WEEK", "MONTH", "YEAR", "REAL_TIME"]
                .iter()
                .any(|word| text == format!("AUDIT_REPORT_{word}")),
            _ => true,
        };
        if !known {
            return Err(malformed(&format!(
                "scheduler.{name} is not one of the documented words"
            )));
        }
    }
    Ok(schedule)
}

fn malformed(message: &str) -> Refusal {
    let message = format!("Invalid request message: {message}");
    Box::new(Response::error(400, BAD_REQUEST, &message))
}

fn body(request: &Request, known: &str) -> Result<Fields, Refusal> {
    if !request.is_json() {
        return Err(malformed("the Content-Type is not application/json"));
    }
    request.fields(known).map_err(|error| malformed(&error))
}

fn number(
    request: &Request,
    name: &str,
    range: std::ops::RangeInclusive<usize>,
    default: usize,
) -> Result<usize, Refusal> {
    let pairs = request.pairs();
    let mut values = pairs.iter().filter(|pair| pair.0 == name).map(|pair| &pair.1);
    let number = match (values.next(), values.next()) {
        (None, _) => Some(default),
        (Some(value), None) => value.parse().ok().filter(|number| range.contains(number)),
        _ => None,
    };
    number.ok_or_else(|| malformed(&format!("{name} is not a number from {range:?}")))
}
