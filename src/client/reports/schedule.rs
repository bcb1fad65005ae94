//! The schedule on which the service generates reports from a template.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::client::arguments::{PROJECT_OR_INSTANCE_ID, check_id, check_project};
use crate::client::document;
use crate::client::inner::ClientInner;
use crate::client::reports::manage::ERROR_CONTEXT;
use crate::client::reports::page::{Page, parse_page};
use crate::client::value::{Value, option_value, unhandled};
use crate::error::{Error, Status};
use crate::http::{Call, Endpoint, Object, Request, Response};
use crate::memory;
use crate::operation::ActiveOperation;
use crate::tables::OptionSet;

/// The length of a template's id in characters, from the documentation of the call that
/// shows a schedule.
const TEMPLATE_ID: RangeInclusive<usize> = 16..=64;

/// A real response has about a kilobyte, and more only with very many databases.
const MAX_RESPONSE: usize = 1024 * 1024;

/// What the service requires to set a schedule, with the values for a schedule that lacks
/// them: the format is documented to be ZIP by default.
const REQUIRED: [(&str, Option<&str>); 7] = [
    ("status", None),
    ("frequency", None),
    ("format", Some("ZIP")),
    ("mode", None),
    ("start_time", None),
    ("notice", None),
    ("topic_urn", None),
];

/// Changes of a schedule. What is not set here stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ScheduleChanges(BTreeMap<&'static str, String>);

impl ScheduleChanges {
    /// Sets any value by its key: status, frequency, format, mode, start_time, notice,
    /// topic_urn or db_ids.
    pub fn set(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let (key, value) = match option_value(OptionSet::Schedule, key, value.as_ref())? {
            (key, Value::Text(text)) => (key, text.to_owned()),
            (key, Value::Choice(word)) => (key, word.to_owned()),
            (key, _) => return Err(unhandled(key)),
        };
        self.0.insert(key, value);
        Ok(())
    }
}

/// A schedule with all fields that the service sent, each as its JSON.
type Fields = BTreeMap<String, Box<RawValue>>;

/// A template, and its instance.
struct Template<'a> {
    project: Option<&'a str>,
    instance: &'a str,
    id: &'a str,
}

impl<'a> Template<'a> {
    fn new(project: Option<&'a str>, instance: &'a str, id: &'a str) -> Result<Template<'a>, Error> {
        check_project(project)?;
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        check_id(id, "template_id", TEMPLATE_ID)?;
        Ok(Template {
            project,
            instance,
            id,
        })
    }
}

#[derive(Deserialize)]
struct ShowResponse<'a> {
    #[serde(borrow)]
    scheduler: Option<&'a RawValue>,
    #[serde(borrow)]
    smn_effective: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct SetBody<'a> {
    scheduler: &'a Fields,
}

impl ClientInner {
    /// Gets a template's schedule:
    /// `GET /v2/{project_id}/audit/{instance_id}/reports/tasks/{template_id}`. Returns a
    /// page with one item: the schedule's fields, and `smn_effective`.
    pub(crate) fn schedule(
        &self,
        project: Option<&str>,
        instance: &str,
        template_id: &str,
        active: Option<ActiveOperation>,
    ) -> Result<Page, Error> {
        let template = Template::new(project, instance, template_id)?;
        self.run(active, "schedule of a template".into(), |active| {
            self.with_call(&active, |call| {
                let project = self.project(call, template.project)?;
                self.fetch_schedule(call, &project, &template, |response, mut fields, smn| {
                    fields.extend(smn.map(|smn| ("smn_effective".to_owned(), smn)));
                    let body = serialize(&BTreeMap::from([("items", [fields])]))?;
                    let (_, items) = parse_page(body, None, &|text| response.redact(text))?;
                    Ok(Page {
                        list: "schedules",
                        items,
                        total: Some(1),
                    })
                })
            })
        })
    }

    /// Changes a template's schedule: gets it, and sets it with the changes,
    /// `POST /v1/{project_id}/audit/{instance_id}/reports/task`.
    pub(crate) fn update_schedule(
        &self,
        project: Option<&str>,
        instance: &str,
        template_id: &str,
        changes: &ScheduleChanges,
        active: Option<ActiveOperation>,
    ) -> Result<(), Error> {
        let template = Template::new(project, instance, template_id)?;
        if changes.0.is_empty() {
            return Err(Error::argument(
                Status::NotConfigured,
                "changes",
                "must set at least one value",
            ));
        }
        self.run(active, "change of a template's schedule".into(), |active| {
            self.with_call(&active, |call| {
                let project = self.project(call, template.project)?;
                let body = self.fetch_schedule(call, &project, &template, |response, mut fields, _| {
                    for (key, value) in &changes.0 {
                        fields.insert((*key).to_owned(), raw(value)?);
                    }
                    for (key, default) in REQUIRED {
                        fill(&mut fields, key, default).map_err(|e| response.with_context(e))?;
                    }
                    serialize(&SetBody { scheduler: &fields })
                })?;
                let segments = ["v1", &project, "audit", instance, "reports", "task"];
                let unknown = "the schedule may have been changed nevertheless: look at it";
                self.post_once(
                    call,
                    &project,
                    &segments,
                    &body,
                    "change of the schedule",
                    unknown,
                )
            })
        })
    }

    /// Fetches a schedule, with the template's id if it lacks one, and converts it.
    fn fetch_schedule<T>(
        &self,
        call: &Arc<Call>,
        project: &str,
        template: &Template<'_>,
        convert: impl Fn(&Response, Fields, Option<Box<RawValue>>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let segments = [
            "v2",
            project,
            "audit",
            template.instance,
            "reports",
            "tasks",
            template.id,
        ];
        let request = |endpoint: &Endpoint| Ok(Request::get(endpoint.url(&segments, &[])?, &[]));
        self.fetch(call, project, request, |response| {
            let bytes = document::read(response, &ERROR_CONTEXT)?;
            memory::probe_document(bytes.len())?;
            let (mut fields, smn) =
                parse(&bytes).map_err(|why| document::malformed(response, "schedule", why))?;
            fill(&mut fields, "id", Some(template.id))?;
            convert(response, fields, smn)
        })
    }
}

fn parse(body: &[u8]) -> Result<(Fields, Option<Box<RawValue>>), String> {
    if body.len() > MAX_RESPONSE {
        return Err(format!("it is larger than {MAX_RESPONSE} bytes"));
    }
    // Checked first, because a parser error would quote a value of another type.
    let is_object = |json: &[u8]| json.trim_ascii_start().starts_with(b"{");
    if !is_object(body) {
        return Err("it is not an object".to_owned());
    }
    let parsed = serde_json::from_slice::<Object<ShowResponse<'_>>>(body);
    let Object(document) = parsed.map_err(|e| e.to_string())?;
    let scheduler = document.scheduler.map_or("", RawValue::get);
    if !is_object(scheduler.as_bytes()) {
        return Err("its \"scheduler\" is not an object".to_owned());
    }
    let fields = serde_json::from_str(scheduler).map_err(|e| e.to_string())?;
    Ok((fields, document.smn_effective.map(ToOwned::to_owned)))
}

/// Sets a field that is missing or null, or empty though it has a default.
fn fill(fields: &mut Fields, key: &str, default: Option<&str>) -> Result<(), Error> {
    match fields.get(key).map(|value| value.get()) {
        None | Some("null") => {}
        Some("\"\"") if default.is_some() => {}
        Some(_) => return Ok(()),
    }
    let default = default.ok_or_else(|| {
        Error::new(
            Status::UnexpectedResponse,
            format!(
                "the template's present schedule has no \"{key}\", which the service requires: set it too"
            ),
        )
    })?;
    fields.insert(key.to_owned(), raw(default)?);
    Ok(())
}

fn internal(error: serde_json::Error) -> Error {
    Error::new(
        Status::Internal,
        format!("failed to serialize the request: {error}"),
    )
}

fn raw(text: &str) -> Result<Box<RawValue>, Error> {
    to_raw_value(text).map_err(internal)
}

fn serialize(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(internal)
}
