//! Lists of the service, page by page: instances, reports, templates.
//!
//! What the service says of an item is kept as it says it, fields that this
//! library has never heard of included.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, Mutex, TryLockError};

use ::http::Method;
use ::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::de::{self, DeserializeSeed, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::arguments::{PROJECT_OR_INSTANCE_ID, check_id, check_project};
use super::document;
use super::executor::Subject;
use super::inner::ClientInner;
use crate::error::{Error, Status};
use crate::http::{Call, Endpoint, ErrorContext, Object, Request, Response};
use crate::memory;
use crate::operation::ActiveOperation;
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

/// More items than any list has. One that never ends comes to an end here.
const MAX_ITEMS: usize = 1_000_000;

/// More than a page of any list has: the largest that can be asked for has a
/// thousand, and templates come all at once.
const MAX_ITEMS_OF_A_PAGE: usize = 100_000;

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

/// A response of any of the three.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(
        borrow,
        alias = "servers",
        alias = "instances",
        alias = "reports",
        alias = "templates"
    )]
    items: Option<&'a RawValue>,
    #[serde(borrow, default)]
    total: Option<&'a RawValue>,
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

    fn error_context(&self) -> ErrorContext {
        ErrorContext {
            server: "the service",
            not_found: match self {
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

    fn body(&self, offset: u64, width: u64, size: u32) -> Result<Vec<u8>, Error> {
        let List::Reports { name, .. } = self else {
            return Ok(Vec::new());
        };
        serde_json::to_vec(&ReportsBody {
            name: name.as_deref(),
            page: offset / width + 1,
            size,
        })
        .map_err(|e| Error::new(Status::Internal, format!("a request that is no JSON: {e}")))
    }

    /// The total, where the service tells it, and the items of a page; an error
    /// that says what is wrong with it otherwise. `redact` gives a text without the
    /// secrets in it, where there are some: items end in file names and messages.
    pub fn parse(&self, body: Vec<u8>, redact: Redact<'_>) -> Result<(Option<u64>, Vec<Item>), Error> {
        let wrong = |why: &str| Error::new(Status::UnexpectedResponse, why);
        let body = String::from_utf8(body).map_err(|_| wrong("it is not UTF-8"))?;
        // What the parser may need to undo escapes.
        memory::probe(3 * body.len())?;
        let mut texts = Texts {
            body: Vec::new(),
            fields: Vec::new(),
        };
        // An escape of six bytes may become three times U+FFFD.
        memory::reserve(&mut texts.fields, body.len() + body.len() / 2)?;
        let mut page = PageReader {
            body: &body,
            fields: &mut texts.fields,
            places: Vec::new(),
            wrapper: self.wrapper(),
            redact,
            failure: None,
        };
        // An error of the parser would quote a value of another type, however long.
        if !body.trim_start().starts_with('{') {
            return Err(wrong("it is not an object"));
        }
        let parsed = serde_json::from_str::<Object<Body<'_>>>(&body);
        let Object(document) = parsed.map_err(|e| wrong(&e.to_string()))?;
        let items = document
            .items
            .ok_or_else(|| wrong("it has no items, not even none"))?;
        if !items.get().starts_with('[') {
            return Err(wrong("its items are not an array"));
        }
        let read = serde_json::Deserializer::from_str(items.get()).deserialize_seq(&mut page);
        if let Err(e) = read {
            return Err(page.failure.unwrap_or_else(|| wrong(&e.to_string())));
        }
        let places = page.places;
        let total = match document.total {
            None => None,
            Some(total) => Some(count(total).ok_or_else(|| wrong("its total is no count"))?),
        };
        texts.body = body.into_bytes();
        let texts = Arc::new(texts);
        let mut items = Vec::new();
        memory::reserve(&mut items, places.len())?;
        items.extend(places.into_iter().map(|place| Item {
            texts: Arc::clone(&texts),
            place,
        }));
        if items.iter().any(|item| item.id().is_empty()) {
            return Err(wrong("an item has no id"));
        }
        Ok((total, items))
    }

    /// The offset at which a page that holds this one begins.
    fn aligned(&self, offset: u64, width: u64) -> u64 {
        match self {
            List::Reports { .. } => offset - offset % width,
            _ => offset,
        }
    }
}

/// A text without the secrets in it; none where it has none.
pub type Redact<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A page's body, and the texts of its items' fields.
struct Texts {
    body: Vec<u8>,
    /// Names and values in turn, each with a NUL at its end. An item costs few
    /// bytes beside them, however many a server puts into a body.
    fields: Vec<u8>,
}

/// The value of a field that is null: no text, as those are UTF-8.
const NULL: &[u8] = b"\xff";

/// Where an item stands in the texts of its page, of which no part has 4 GiB.
struct Place {
    body: Range<u32>,
    fields: Range<u32>,
}

/// An item of a list, as the service describes it.
pub struct Item {
    texts: Arc<Texts>,
    place: Place,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({})", self.id())
    }
}

fn usize_range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn u32_range(start: usize, end: usize) -> Range<u32> {
    u32::try_from(start).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX)
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// A number that is a count.
fn count(value: &RawValue) -> Option<u64> {
    let digits = value.get();
    let is_count = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| is_count)
}

/// Reads a page's array of items.
struct PageReader<'a> {
    body: &'a str,
    fields: &'a mut Vec<u8>,
    places: Vec<Place>,
    wrapper: Option<&'static str>,
    redact: Redact<'a>,
    /// What is the matter, where it is more than a text can say.
    failure: Option<Error>,
}

impl<'de> de::Visitor<'de> for &mut PageReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of items")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let wrong = |why: &str| <A::Error as de::Error>::custom(why);
        while let Some(mut item) = seq.next_element::<&RawValue>()? {
            if self.places.len() == MAX_ITEMS_OF_A_PAGE {
                return Err(wrong("it has more items than any page"));
            }
            if let Some(wrapper) = self.wrapper {
                let mut found = None;
                let wanted = Wanted {
                    wrapper,
                    names: self.fields,
                    found: &mut found,
                };
                if !is_object(item)
                    || serde_json::Deserializer::from_str(item.get())
                        .deserialize_map(wanted)
                        .is_err()
                {
                    return Err(wrong("an item is not an object"));
                }
                item = found.ok_or_else(|| wrong(&format!("an item has no \"{wrapper}\"")))?;
            }
            let begin = self.fields.len();
            if !is_object(item)
                || serde_json::Deserializer::from_str(item.get())
                    .deserialize_map(Fields {
                        texts: self.fields,
                        redact: self.redact,
                    })
                    .is_err()
            {
                return Err(wrong("an item is not an object"));
            }
            // The item is a part of the body, so this is where it stands there.
            let at = item.get().as_ptr().addr() - self.body.as_ptr().addr();
            if let Err(e) = memory::reserve(&mut self.places, 1) {
                self.failure = Some(e);
                return Err(wrong(""));
            }
            self.places.push(Place {
                body: u32_range(at, at + item.get().len()),
                fields: u32_range(begin, self.fields.len()),
            });
        }
        Ok(())
    }
}

/// Looks for what an item is wrapped in.
struct Wanted<'a, 'de> {
    wrapper: &'static str,
    /// Has room for any name.
    names: &'a mut Vec<u8>,
    found: &'a mut Option<&'de RawValue>,
}

impl<'de> de::Visitor<'de> for Wanted<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let begin = self.names.len();
        while map.next_key_seed(Append(self.names))?.is_some() {
            let value = map.next_value::<&RawValue>()?;
            if self.names[begin..].strip_suffix(b"\0") == Some(self.wrapper.as_bytes()) {
                *self.found = Some(value);
            }
            self.names.truncate(begin);
        }
        Ok(())
    }
}

/// Reads an item's fields: text as it is, null as [`NULL`], anything else as its
/// JSON, and all without secrets.
struct Fields<'a> {
    texts: &'a mut Vec<u8>,
    redact: Redact<'a>,
}

impl<'de> de::Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Append(self.texts))?.is_some() {
            let begin = self.texts.len();
            match map.next_value::<&RawValue>()?.get() {
                "null" => {
                    self.texts.extend_from_slice(NULL);
                    self.texts.push(0);
                }
                json if json.starts_with('"') => {
                    Append(self.texts)
                        .deserialize(&mut serde_json::Deserializer::from_str(json))
                        .map_err(de::Error::custom)?;
                }
                json => {
                    self.texts.extend_from_slice(json.as_bytes());
                    self.texts.push(0);
                }
            }
            let text = std::str::from_utf8(&self.texts[begin..self.texts.len() - 1]);
            if let Some(clean) = text.ok().and_then(self.redact) {
                self.texts.truncate(begin);
                self.texts.extend_from_slice(clean.as_bytes());
                self.texts.push(0);
            }
        }
        Ok(())
    }
}

/// Appends a text and a NUL, with U+FFFD for every U+0000 and for escapes that
/// are no characters.
struct Append<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl de::Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<(), E> {
        for chunk in text.utf8_chunks() {
            for (i, part) in chunk.valid().split('\0').enumerate() {
                self.0
                    .extend_from_slice(if i > 0 { "\u{fffd}" } else { "" }.as_bytes());
                self.0.extend_from_slice(part.as_bytes());
            }
            if !chunk.invalid().is_empty() {
                self.0.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        self.0.push(0);
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.visit_bytes(text.as_bytes())
    }
}

impl Item {
    /// An item that is alone.
    #[cfg(test)]
    pub(super) fn of(json: &str) -> Item {
        let body = format!("{{\"items\":[{json}]}}");
        let (_, mut items) = List::Instances
            .parse(body.into_bytes(), &|_| None)
            .expect("an item");
        items.remove(0)
    }

    fn raw(&self) -> &[u8] {
        &self.texts.body[usize_range(&self.place.body)]
    }

    fn find(&self, wanted: &str) -> Option<&CStr> {
        let mut rest = &self.texts.fields[usize_range(&self.place.fields)];
        let mut next = || {
            let text = CStr::from_bytes_until_nul(rest).ok()?;
            rest = &rest[text.count_bytes() + 1..];
            Some(text)
        };
        let mut found = None;
        while let Some((name, value)) = next().and_then(|name| Some((name, next()?))) {
            // As in other readers of JSON the last one counts.
            if name.to_bytes() == wanted.as_bytes() {
                found = Some(value).filter(|value| value.to_bytes() != NULL);
            }
        }
        found
    }

    /// The same as [`Item::get`] for C.
    #[doc(hidden)]
    pub fn field(&self, name: &str) -> Option<&CStr> {
        // The service's page calls an instance's id "id"; its SDK expects the other.
        self.find(name)
            .or_else(|| (name == "id").then(|| self.find("instance_id")).flatten())
    }

    /// A field by the service's name for it, such as `id`: text as it is, with U+FFFD
    /// for U+0000 and `***` for a secret that the request had; a number, true, false,
    /// an array or an object as its JSON. None where it is absent or null.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.field(name)?.to_str().ok()
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.get("id").unwrap_or_default()
    }

    /// All of it, as the JSON object that the service sent.
    pub fn json(&self) -> &str {
        std::str::from_utf8(self.raw()).unwrap_or_default()
    }

    /// How many bytes its page has, which it keeps.
    pub(super) fn page_bytes(&self) -> usize {
        self.texts.body.len() + self.texts.fields.capacity()
    }

    /// How much of a report is done, in percent.
    pub(super) fn percentum(&self) -> Option<u32> {
        // Whole percents are enough, so what stands behind a point is left.
        let text = self.get("percentum")?;
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
    pub fn json(&self) -> Result<Vec<u8>, Error> {
        let total = self.total.map_or("null".to_owned(), |total| total.to_string());
        let head = format!(r#"{{"kind":"{}","total":{total},"items":["#, self.list);
        let items: usize = self.items.iter().map(|item| item.raw().len() + 1).sum();
        let mut json = Vec::new();
        memory::reserve(&mut json, head.len() + items + 2)?;
        json.extend_from_slice(head.as_bytes());
        for (i, item) in self.items.iter().enumerate() {
            json.extend_from_slice(if i > 0 { b"," } else { b"" });
            json.extend_from_slice(item.raw());
        }
        json.extend_from_slice(b"]}");
        Ok(json)
    }
}

/// A list that is being read; see `dbss_cursor`.
pub struct Cursor {
    client: Arc<ClientInner>,
    project: Option<String>,
    list: List,
    size: u32,
    position: Mutex<Position>,
}

#[derive(Default)]
struct Position {
    /// How many items of the list were passed.
    offset: u64,
    /// How many a page has that is asked for by its number, where that is less than
    /// was asked for.
    width: Option<u64>,
    total: Option<u64>,
    hasher: RandomState,
    /// Hashes of the ids that have come: a few bytes for each. With random keys,
    /// two of a million have the same one in one list of 40 million.
    seen: HashSet<u64>,
    without_news: u32,
    /// A hash of the last page's ids, where it was, and how often it came again
    /// elsewhere.
    last_ids: u64,
    last_from: u64,
    same: u32,
    steps_back: u32,
    ended: bool,
}

impl Cursor {
    /// Begins a list; no request is sent. `size` 0 is the service's default.
    pub(super) fn new(
        client: Arc<ClientInner>,
        project: Option<&str>,
        list: List,
        size: u32,
    ) -> Result<Cursor, Error> {
        check_project(project)?;
        if size > LARGEST_SIZE {
            return Err(Error::argument(
                Status::InvalidValue,
                "page_size",
                format_args!("must be at most {LARGEST_SIZE}, or 0 for {DEFAULT_SIZE}, and is {size}"),
            ));
        }
        Ok(Cursor {
            client,
            project: project.map(str::to_owned),
            list,
            size: if size == 0 { DEFAULT_SIZE } else { size },
            position: Mutex::new(Position::default()),
        })
    }

    /// The next page that has something new; none at the end.
    pub fn next(&self, active: Option<ActiveOperation>) -> Result<Option<Page>, Error> {
        let subject = Subject {
            text: format!("list of {}", self.list.name()),
            report_id: None,
        };
        self.client.run(active, subject, |active| {
            self.client.run_request(&active, |call| self.next_in(call))
        })
    }

    /// The same within a call that does more.
    pub(super) fn next_in(&self, call: &Arc<Call>) -> Result<Option<Page>, Error> {
        let project = self.client.project(call, self.project.as_deref())?;
        // One page at a time: a second caller waits for its turn in no lock, but
        // is told.
        let Ok(mut place) = self.position.try_lock().or_else(|e| match e {
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
            let by_number = matches!(self.list, List::Reports { .. });
            let width = place.width.unwrap_or(self.size.into());
            let asked_from = self.list.aligned(place.offset, width);
            let (total, items) = self.fetch(call, &project, asked_from, width)?;
            // Before anything is remembered: the page may be asked for again.
            if place.seen.try_reserve(items.len()).is_err() {
                return Err(memory::out_of_memory());
            }
            let count = items.len() as u64;
            let mut ids = place.hasher.build_hasher();
            items.iter().for_each(|item| item.id().hash(&mut ids));
            let ids = ids.finish();
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
            let is_short = count > 0 && count < width && total.is_none_or(|total| asked_from + count < total);
            let passed = match is_short && by_number {
                // The service gives fewer than it was asked for, and counts pages of
                // that size.
                true if asked_from == 0 => {
                    place.width = Some(count);
                    count
                }
                true => width,
                false => count,
            };
            place.offset = place.offset.max(asked_from + passed);
            let past_the_end = total.is_some_and(|total| place.offset >= total);
            // A list that tells no total ends with a page that is not full.
            let not_full = total.is_none() && count < u64::from(self.size.min(DEFAULT_SIZE));
            let all_at_once = matches!(self.list, List::Templates { .. });
            place.ended = count == 0 || past_the_end || not_full || all_at_once;
            let mut new = items;
            let Position { seen, hasher, .. } = &mut *place;
            new.retain(|item| seen.insert(hasher.hash_one(item.id())));
            if place.seen.len() > MAX_ITEMS {
                return Err(Error::new(
                    Status::UnexpectedResponse,
                    format!(
                        "the service's list of {} has more than {MAX_ITEMS} items, which none has",
                        self.list.name()
                    ),
                ));
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

    fn fetch(
        &self,
        call: &Arc<Call>,
        project: &str,
        offset: u64,
        width: u64,
    ) -> Result<(Option<u64>, Vec<Item>), Error> {
        let body = self.list.body(offset, width, self.size)?;
        let request = |endpoint: &Endpoint| {
            let url = self.list.url(endpoint, project, offset, self.size)?;
            Ok(match self.list {
                List::Reports { .. } => Request {
                    method: Method::POST,
                    body: &body,
                    ..Request::get(url, &JSON)
                },
                _ => Request::get(url, &[]),
            })
        };
        self.client
            .fetch(call, project, request, |response| self.read(response))
    }

    fn read(&self, response: &mut Response) -> Result<(Option<u64>, Vec<Item>), Error> {
        let bytes = document::read(response, &self.list.error_context())?;
        self.list
            .parse(bytes, &|text| response.redact(text))
            .map_err(|e| match e.status() {
                Status::UnexpectedResponse => {
                    let what = format!("list of {}", self.list.name());
                    document::malformed(response, &what, e.message())
                }
                _ => e,
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
                .parse(body.as_bytes().to_vec(), &|_| None)
                .map(|(_, items)| items.len())
                .map_err(|e| e.status())
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
            assert_eq!(count(body), Err(Status::UnexpectedResponse), "{body}");
        }
        let many = |n: usize| format!(r#"{{"items":[{}]}}"#, vec![r#"{"id":1}"#; n].join(","));
        assert_eq!(count(&many(MAX_ITEMS_OF_A_PAGE)), Ok(MAX_ITEMS_OF_A_PAGE));
        assert_eq!(
            count(&many(MAX_ITEMS_OF_A_PAGE + 1)),
            Err(Status::UnexpectedResponse)
        );
    }

    #[test]
    fn fields_are_the_service_s_text_whatever_they_hold() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let item = Item::of(&format!(
            r#"{{"instance_id":"a","name":"\u00e9\u0000\ud800!","n":1.50,"gone":null,"n\u0061me2":"b","twice":1,"twice":null,"deep":{deep}}}"#
        ));
        for (name, text) in [
            ("id", Some("a")),
            ("name", Some("é\u{fffd}\u{fffd}\u{fffd}\u{fffd}!")),
            ("n", Some("1.50")),
            ("gone", None),
            ("name2", Some("b")),
            ("twice", None),
            ("deep", Some(&deep)),
            ("missing", None),
        ] {
            assert_eq!(item.get(name), text, "{name}");
        }
    }
}
