//! Lists of the service, page by page: instances, reports, templates.
//!
//! What the service says of an item is kept as it says it, fields that this
//! library has never heard of included.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, TryLockError};

use ::http::Method;
use ::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;

use super::arguments::{PROJECT_OR_INSTANCE_ID, check_id, check_project};
use super::context::{Client, Subject};
use super::document;
use crate::error::{Error, Status};
use crate::http::{Answer, Asked, Call, Endpoint, Object, Outgoing};
use crate::operation::Running;
use crate::tables::LONGEST_NAME;

/// The service's own default and bounds of `limit` (ListAuditInstances).
const DEFAULT_SIZE: u32 = 100;
const LARGEST_SIZE: u32 = 1000;

/// So often in a row a page is read again because items went meanwhile.
const STEPS_BACK: u32 = 16;

/// So many pages in a row that are the same are a list that does not move.
const SAME_PAGES: u32 = 3;

/// So many pages in a row without a new item are no list either.
const PAGES_WITHOUT_NEWS: u32 = 10_000;

pub(super) static JSON: [(HeaderName, HeaderValue); 1] =
    [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];

/// What is listed.
#[derive(Clone, Debug)]
pub enum List {
    /// ListAuditInstances: `GET /v1/{project_id}/audit/instances?offset=&limit=`
    Instances,
    /// `POST /v1/{project_id}/audit/{instance_id}/reports/list`
    Reports {
        /// The audit instance.
        instance: String,
        /// A name to look for.
        name: Option<String>,
    },
    /// `GET /v2/{project_id}/audit/{instance_id}/reports/templates`, all at once.
    Templates {
        /// The audit instance.
        instance: String,
    },
}

#[derive(Serialize)]
struct ReportsBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    page: u64,
    size: u32,
}

/// An answer of any of the three.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(
        borrow,
        alias = "servers",
        alias = "instances",
        alias = "reports",
        alias = "templates"
    )]
    items: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    total: Option<serde_json::Number>,
}

impl List {
    /// Checks an instance's id.
    pub fn reports(instance: &str, name: Option<&str>) -> Result<List, Error> {
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        if let Some(name) = name
            && (name.is_empty() || name.len() > LONGEST_NAME)
        {
            return Err(Error::argument(
                Status::InvalidValue,
                "name",
                format_args!("must have 1 to {LONGEST_NAME} bytes, and has {}", name.len()),
            ));
        }
        Ok(List::Reports {
            instance: instance.to_owned(),
            name: name.map(str::to_owned),
        })
    }

    /// Checks an instance's id.
    pub fn templates(instance: &str) -> Result<List, Error> {
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        Ok(List::Templates {
            instance: instance.to_owned(),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            List::Instances => "instances",
            List::Reports { .. } => "reports",
            List::Templates { .. } => "templates",
        }
    }

    /// What each item is wrapped in.
    fn wrapper(&self) -> Option<&'static str> {
        match self {
            List::Instances => None,
            List::Reports { .. } => Some("report"),
            List::Templates { .. } => Some("template"),
        }
    }

    fn asked(&self) -> Asked {
        Asked {
            who: "the service",
            missing: match self {
                List::Instances => ("knows no such project", "; check the region and the project"),
                _ => (
                    "knows no such instance",
                    "; check the project and the instance's id",
                ),
            },
        }
    }

    fn url(&self, endpoint: &Endpoint, project: &str, offset: u64, size: u32) -> Result<::http::Uri, Error> {
        match self {
            List::Instances => endpoint.url(
                &["v1", project, "audit", "instances"],
                &[("offset", &offset.to_string()), ("limit", &size.to_string())],
            ),
            List::Reports { instance, .. } => {
                endpoint.url(&["v1", project, "audit", instance, "reports", "list"], &[])
            }
            List::Templates { instance } => {
                endpoint.url(&["v2", project, "audit", instance, "reports", "templates"], &[])
            }
        }
    }

    fn body(&self, offset: u64, size: u32) -> Result<Vec<u8>, Error> {
        let List::Reports { name, .. } = self else {
            return Ok(Vec::new());
        };
        serde_json::to_vec(&ReportsBody {
            name: name.as_deref(),
            page: offset / u64::from(size) + 1,
            size,
        })
        .map_err(|e| Error::new(Status::Internal, format!("a request that is no JSON: {e}")))
    }

    /// The total, where the service tells it, and the items of a page; what is
    /// wrong with it otherwise.
    pub fn parse(&self, body: &[u8]) -> Result<(Option<u64>, Vec<Item>), String> {
        let Object(body) = serde_json::from_slice::<Object<Body<'_>>>(body).map_err(|e| e.to_string())?;
        let items = body
            .items
            .ok_or("it has no items, not even none")?
            .into_iter()
            .map(|raw| Item::parse(raw, self.wrapper()))
            .collect::<Result<Vec<_>, _>>()?;
        if items.iter().any(|item| item.id().is_empty()) {
            return Err("an item has no id".to_owned());
        }
        let total = match body.total {
            None => None,
            Some(total) => Some(total.as_u64().ok_or("its total is no count")?),
        };
        Ok((total, items))
    }

    /// The offset at which a page that holds this one begins.
    fn aligned(&self, offset: u64, size: u32) -> u64 {
        match self {
            List::Reports { .. } => offset - offset % u64::from(size),
            _ => offset,
        }
    }
}

/// One item, as the service describes it.
#[derive(Debug)]
pub struct Item {
    raw: Box<RawValue>,
    fields: HashMap<String, CString>,
}

impl Item {
    pub(super) fn parse(raw: &RawValue, wrapper: Option<&str>) -> Result<Item, String> {
        let object = |raw: &RawValue| -> Result<HashMap<String, Box<RawValue>>, String> {
            serde_json::from_str(raw.get()).map_err(|_| "an item is not an object".to_owned())
        };
        let mut inner = raw.to_owned();
        if let Some(wrapper) = wrapper {
            inner = object(raw)?
                .remove(wrapper)
                .ok_or_else(|| format!("an item has no \"{wrapper}\""))?;
        }
        let mut fields = HashMap::new();
        for (name, value) in object(&inner)? {
            // Text as it is, null as absent, anything else as its JSON.
            let text = match value.get() {
                "null" => continue,
                json if json.starts_with('"') => {
                    serde_json::from_str::<String>(json).map_err(|e| format!("\"{name}\": {e}"))?
                }
                json => json.to_owned(),
            };
            let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
            fields.insert(name, text);
        }
        // The service's page calls an instance's id "id"; its SDK expects this.
        if let (false, Some(id)) = (fields.contains_key("id"), fields.get("instance_id")) {
            fields.insert("id".to_owned(), id.clone());
        }
        Ok(Item { raw: inner, fields })
    }

    /// A field by the service's name for it; none where it is absent or null.
    pub fn field(&self, name: &str) -> Option<&CStr> {
        self.fields.get(name).map(CString::as_c_str)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.to_str().ok()
    }

    pub(super) fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    /// How much of a report is done, in percent.
    pub(super) fn percentum(&self) -> Option<u32> {
        // Whole percents are enough, so what stands behind a point is left.
        let text = self.text("percentum")?;
        let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
        whole.parse::<u32>().ok().map(|percent| percent.min(100))
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    list: &'static str,
    /// The items, without those that an earlier page had.
    pub items: Vec<Item>,
    /// How many items the list has, as the service says.
    pub total: Option<u64>,
}

impl Page {
    /// The page as a document: `{"kind", "total", "items"}`, each item as the
    /// service sent it.
    pub fn json(&self) -> Vec<u8> {
        let total = self.total.map_or("null".to_owned(), |total| total.to_string());
        let items: Vec<&str> = self.items.iter().map(|item| item.raw.get()).collect();
        format!(
            r#"{{"kind":"{}","total":{total},"items":[{}]}}"#,
            self.list,
            items.join(",")
        )
        .into_bytes()
    }
}

/// A list that is being read; see `dbss_cursor`.
pub struct Cursor {
    context: Arc<Client>,
    project: Option<String>,
    list: List,
    size: u32,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    /// How many items of the list were passed.
    offset: u64,
    total: Option<u64>,
    seen: HashSet<String>,
    without_news: u32,
    /// The last page, where it was, and how often it came again elsewhere.
    last_ids: Vec<String>,
    last_from: u64,
    same: u32,
    steps_back: u32,
    ended: bool,
}

impl Cursor {
    /// Begins a list; no request is sent. `size` 0 is the service's default.
    pub fn new(context: Arc<Client>, project: Option<&str>, list: List, size: u32) -> Result<Cursor, Error> {
        check_project(project)?;
        if size > LARGEST_SIZE {
            return Err(Error::argument(
                Status::InvalidValue,
                "page_size",
                format_args!("must be at most {LARGEST_SIZE}, or 0 for {DEFAULT_SIZE}, and is {size}"),
            ));
        }
        Ok(Cursor {
            context,
            project: project.map(str::to_owned),
            list,
            size: if size == 0 { DEFAULT_SIZE } else { size },
            place: Mutex::new(Place::default()),
        })
    }

    /// The next page that has something new; none at the end.
    pub fn next(&self, running: Option<Running>) -> Result<Option<Page>, Error> {
        let subject = Subject {
            text: format!("list of {}", self.list.name()),
            report_id: None,
        };
        self.context.run(running, subject, |running| {
            self.context.alone(&running, |call| self.next_in(call))
        })
    }

    /// The same within a call that does more.
    pub(super) fn next_in(&self, call: &Arc<Call>) -> Result<Option<Page>, Error> {
        let project = self.context.project(call, self.project.as_deref())?;
        // One page at a time: a second caller waits for its turn in no lock, but
        // is told.
        let Ok(mut place) = self.place.try_lock().or_else(|e| match e {
            TryLockError::Poisoned(e) => Ok(e.into_inner()),
            TryLockError::WouldBlock => Err(()),
        }) else {
            return Err(Error::argument(
                Status::Busy,
                "cursor",
                "is used by another call at the moment; use one for each thread",
            ));
        };
        while !place.ended {
            let asked_from = self.list.aligned(place.offset, self.size);
            let (total, items) = self.fetch(call, &project, asked_from)?;
            let count = items.len() as u64;
            let ids: Vec<String> = items.iter().map(|item| item.id().to_owned()).collect();
            let again = count > 0 && ids == place.last_ids && asked_from != place.last_from;
            place.same = if again { place.same + 1 } else { 0 };
            (place.last_ids, place.last_from) = (ids, asked_from);
            // Items that went meanwhile moved the others towards the front, and
            // some of them past the place: those are read once more.
            let gone = match (place.total, total) {
                (Some(before), Some(now)) => before.saturating_sub(now),
                _ => 0,
            };
            place.total = total.or(place.total);
            if gone > 0 && place.offset > 0 && place.steps_back < STEPS_BACK {
                place.offset = place.offset.saturating_sub(gone);
                place.steps_back += 1;
                continue;
            }
            place.steps_back = 0;
            place.offset = place.offset.max(asked_from + count);
            let past_the_end = total.is_some_and(|total| place.offset >= total);
            // A list that tells no total ends with a page that is not full.
            let not_full = total.is_none() && count < u64::from(self.size);
            let all_at_once = matches!(self.list, List::Templates { .. });
            place.ended = count == 0 || past_the_end || not_full || all_at_once;
            let mut new = Vec::new();
            for item in items {
                if place.seen.insert(item.id().to_owned()) {
                    new.push(item);
                }
            }
            if !new.is_empty() {
                place.without_news = 0;
                return Ok(Some(Page {
                    list: self.list.name(),
                    items: new,
                    total: total.or(all_at_once.then_some(count)),
                }));
            }
            place.without_news += 1;
            let stuck = place.same >= SAME_PAGES || place.without_news >= PAGES_WITHOUT_NEWS;
            if stuck && !place.ended {
                return Err(Error::new(
                    Status::UnexpectedResponse,
                    format!(
                        "the service's list of {} gives the same items again and again",
                        self.list.name()
                    ),
                ));
            }
        }
        Ok(None)
    }

    fn fetch(&self, call: &Arc<Call>, project: &str, offset: u64) -> Result<(Option<u64>, Vec<Item>), Error> {
        let body = self.list.body(offset, self.size)?;
        let outgoing = |endpoint: &Endpoint| {
            let url = self.list.url(endpoint, project, offset, self.size)?;
            Ok(match self.list {
                List::Reports { .. } => Outgoing {
                    method: Method::POST,
                    body: &body,
                    ..Outgoing::get(url, &JSON)
                },
                _ => Outgoing::get(url, &[]),
            })
        };
        self.context
            .ask(call, project, outgoing, |answer| self.read(answer))
    }

    fn read(&self, answer: &mut Answer) -> Result<(Option<u64>, Vec<Item>), Error> {
        let bytes = document::read(answer, &self.list.asked())?;
        self.list.parse(&bytes).map_err(|why| {
            let what = format!("list of {}", self.list.name());
            document::malformed(answer, &what, why)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_an_object_with_the_items_of_its_kind() {
        let count = |body: &str| {
            List::Instances
                .parse(body.as_bytes())
                .map(|(_, items)| items.len())
        };
        assert_eq!(count(r#"{"servers":[{"id":"a"},{"instance_id":"b"}]}"#), Ok(2));
        assert_eq!(count(r#"{"servers":[],"total":0}"#), Ok(0));
        for body in [
            "",
            "{}",
            "[[]]",
            r#"[[{"id":"a"}],1]"#,
            r#"{"servers":[["a"]]}"#,
            r#"{"servers":[{"name":"a"}]}"#,
            r#"{"servers":[],"total":-1}"#,
        ] {
            assert!(count(body).is_err(), "{body}");
        }
    }
}
