//! The schedule on which the service generates reports from a template.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, Deserializer};
use serde_json::value::RawValue;

use crate::client::arguments::{PROJECT_OR_INSTANCE_ID, check_id, check_project};
use crate::client::document;
use crate::client::inner::ClientInner;
use crate::client::reports::manage::TEMPLATE_CONTEXT;
use crate::client::reports::page::{Page, parse_page};
use crate::client::value::{Value, option_value, unhandled};
use crate::error::{Error, Status};
use crate::http::{Endpoint, Request, Response};
use crate::memory;
use crate::message::name;
use crate::operation::ActiveOperation;
use crate::tables::OptionSet;

/// The length of a template's id in characters, from the documentation of the call that
/// shows a schedule.
const TEMPLATE_ID: RangeInclusive<usize> = 16..=64;

/// A real response has about a kilobyte, and more only with very many databases.
const MAX_RESPONSE: usize = 1024 * 1024;

/// More fields than any real schedule has.
const MAX_FIELDS: usize = 1000;

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

/// The fields of a JSON object in their order, each value as its JSON.
#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl<'de> de::Visitor<'de> for &mut Fields {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if self.0.len() == MAX_FIELDS {
                return Err(de::Error::custom("it has too many fields"));
            }
            let value = map.next_value::<&RawValue>()?.get().to_owned();
            self.set(&name, value);
        }
        Ok(())
    }
}

impl Fields {
    fn parse(json: &str) -> Result<Fields, String> {
        let mut fields = Fields::default();
        // Checked first, because a parser error would quote a value of another type.
        if !json.trim_start().starts_with('{') {
            return Err("it is not an object".to_owned());
        }
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let parsed = deserializer.deserialize_map(&mut fields);
        parsed
            .and_then(|()| deserializer.end())
            .map_err(|e| e.to_string())?;
        Ok(fields)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|field| field.0 == name);
        found.map(|field| field.1.as_str())
    }

    /// Sets a field to a JSON value, in place of the one that is there.
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|field| field.0 == name) {
            Some(field) => field.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Sets a field that is missing or null, or empty though it has a default.
    fn fill(&mut self, key: &str, default: Option<&str>) -> Result<(), Error> {
        match self.get(key) {
            None | Some("null") => {}
            Some("\"\"") if default.is_some() => {}
            Some(_) => return Ok(()),
        }
        let default = default.ok_or_else(|| {
            Error::new(
                Status::UnexpectedResponse,
                format!(
                    "the template's present schedule has no {}, which the service requires: set it too",
                    name(key)
                ),
            )
        })?;
        self.set(key, quote(default)?);
        Ok(())
    }

    /// Appends the object, with one more field if there is one.
    fn write(&self, json: &mut String, last: Option<(&str, &str)>) -> Result<(), Error> {
        let fields = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut separator = '{';
        for (name, value) in fields.chain(last) {
            json.push(separator);
            *json += &quote(name)?;
            json.push(':');
            *json += value;
            separator = ',';
        }
        json.push('}');
        Ok(())
    }
}

/// Returns a text as JSON.
fn quote(text: &str) -> Result<String, Error> {
    serde_json::to_string(text)
        .map_err(|e| Error::new(Status::Internal, format!("failed to serialize the request: {e}")))
}

impl ClientInner {
    /// Gets a template's schedule:
    /// `GET /v2/{project_id}/audit/{instance_id}/reports/tasks/{template_id}`. Returns a
    /// page with one item: the schedule's fields, and `smn_effective`. With changes, sets
    /// it then, with all that was got:
    /// `POST /v1/{project_id}/audit/{instance_id}/reports/task`.
    pub(crate) fn schedule(
        &self,
        project: Option<&str>,
        instance: &str,
        template_id: &str,
        changes: Option<&ScheduleChanges>,
        active: Option<ActiveOperation>,
    ) -> Result<Page, Error> {
        check_project(project)?;
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        check_id(template_id, "template_id", TEMPLATE_ID)?;
        if changes.is_some_and(|changes| changes.0.is_empty()) {
            return Err(Error::argument(
                Status::NotConfigured,
                "changes",
                "must set at least one value",
            ));
        }
        self.run(active, "schedule of a template".into(), |active| {
            self.with_call(&active, |call| {
                let project = self.project(call, project)?;
                let segments = ["v2", &project, "audit", instance, "reports", "tasks", template_id];
                let request = |endpoint: &Endpoint| Ok(Request::get(endpoint.url(&segments, &[])?, &[]));
                let (mut fields, page) =
                    self.fetch(call, &project, request, |response| read(response, template_id))?;
                let Some(changes) = changes else {
                    return Ok(page);
                };
                for (name, value) in &changes.0 {
                    fields.set(name, quote(value)?);
                }
                for (name, default) in REQUIRED {
                    fields.fill(name, default)?;
                }
                let mut body = "{\"scheduler\":".to_owned();
                fields.write(&mut body, None)?;
                body.push('}');
                let segments = ["v1", &project, "audit", instance, "reports", "task"];
                let unknown = "the schedule may have been changed nevertheless: look at it";
                let action = "change of the schedule";
                self.post_once(call, &project, &segments, body.as_bytes(), action, unknown)?;
                Ok(page)
            })
        })
    }
}

/// Reads a schedule, with the template's id if it lacks one.
fn read(response: &mut Response, template_id: &str) -> Result<(Fields, Page), Error> {
    let body = document::read(response, &TEMPLATE_CONTEXT)?;
    memory::probe_document(body.len())?;
    let malformed = |why: &str| document::malformed(response, "schedule", why);
    if body.len() > MAX_RESPONSE {
        return Err(malformed(&format!("it is larger than {MAX_RESPONSE} bytes")));
    }
    let body = std::str::from_utf8(&body).map_err(|_| malformed("it is not UTF-8"))?;
    let document = Fields::parse(body).map_err(|e| malformed(&e))?;
    let scheduler = document.get("scheduler").unwrap_or_default();
    let mut fields = Fields::parse(scheduler).map_err(|e| malformed(&format!("its \"scheduler\": {e}")))?;
    fields.fill("id", Some(template_id))?;
    let smn = document.get("smn_effective").map(|smn| ("smn_effective", smn));
    let mut page = "{\"items\":[".to_owned();
    fields.write(&mut page, smn)?;
    page += "]}";
    let (_, items) = parse_page(page.into_bytes(), None, &|text| response.redact(text))?;
    let page = Page {
        list: "schedules",
        items,
        total: Some(1),
    };
    Ok((fields, page))
}
