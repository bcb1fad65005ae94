//! A page of a list, and its items.

use std::ffi::CStr;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer};
use serde_json::value::RawValue;

use crate::error::{Error, Status};
use crate::http::Object;
use crate::memory;

/// More than a page of any list has: the largest that can be asked for has a
/// thousand, and templates come all at once.
pub(super) const MAX_ITEMS_OF_A_PAGE: usize = 100_000;

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
    pub(crate) fn of(json: &str) -> Item {
        let body = format!("{{\"items\":[{json}]}}");
        let (_, mut items) = parse_page(body.into_bytes(), None, &|_| None).expect("an item");
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
    pub(crate) fn page_bytes(&self) -> usize {
        self.texts.body.len() + self.texts.fields.capacity()
    }

    /// How much of a report is done, in percent.
    pub(crate) fn percentum(&self) -> Option<u32> {
        // Whole percents are enough, so what stands behind a point is left.
        let text = self.get("percentum")?;
        let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
        whole.parse::<u32>().ok().map(|percent| percent.min(100))
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    pub(super) list: &'static str,
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

/// Reads a page: the total, if the service gives it, and the items, each in an object
/// of the name `wrapper`, if the list has one.
pub(super) fn parse_page(
    body: Vec<u8>,
    wrapper: Option<&'static str>,
    redact: Redact<'_>,
) -> Result<(Option<u64>, Vec<Item>), Error> {
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
        wrapper,
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
