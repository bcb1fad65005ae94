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
use crate::tables::FIELDS;

/// More items than any real page has. Pages have up to a thousand items, but templates
/// come all on one page.
pub(super) const MAX_ITEMS_PER_PAGE: usize = 100_000;

/// Returns a text without its secrets, or none if it has no secrets.
pub type Redact<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The body of a page, and the decoded fields of its items.
struct Texts {
    /// The name of an item in the table of fields.
    item: &'static str,
    body: Vec<u8>,
    /// Names and values alternately, each with a NUL at its end. This keeps the memory
    /// per item small, even if a body has very many.
    fields: Vec<u8>,
}

/// Marks a field whose value is null. It cannot be a text, because texts are UTF-8.
const NULL: &[u8] = b"\xff";

/// The position of an item in the texts of its page, which are smaller than 4 GiB.
struct ItemRange {
    body: Range<u32>,
    fields: Range<u32>,
}

/// An item of a list, with the fields that the service sent.
pub struct Item {
    texts: Arc<Texts>,
    range: ItemRange,
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

/// Parses a non-negative whole number.
fn parse_count(value: &RawValue) -> Option<u64> {
    let digits = value.get();
    let is_count = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| is_count)
}

/// Reads a page's array of items.
struct PageReader<'a> {
    body: &'a str,
    fields: &'a mut Vec<u8>,
    ranges: Vec<ItemRange>,
    wrapper: Option<&'static str>,
    redact: Redact<'a>,
    /// A failure of this library, which a parser error cannot represent.
    failure: Option<Error>,
}

impl<'de> de::Visitor<'de> for &mut PageReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of items")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let invalid = |why: &str| <A::Error as de::Error>::custom(why);
        while let Some(mut item) = seq.next_element::<&RawValue>()? {
            if self.ranges.len() == MAX_ITEMS_PER_PAGE {
                return Err(invalid("it has too many items"));
            }
            if let Some(wrapper) = self.wrapper {
                let mut found = None;
                let unwrap = Unwrap {
                    wrapper,
                    names: self.fields,
                    found: &mut found,
                };
                if !is_object(item)
                    || serde_json::Deserializer::from_str(item.get())
                        .deserialize_map(unwrap)
                        .is_err()
                {
                    return Err(invalid("an item is not an object"));
                }
                item = found.ok_or_else(|| invalid(&format!("an item has no \"{wrapper}\"")))?;
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
                return Err(invalid("an item is not an object"));
            }
            // The item is a slice of the body, so this is its offset there.
            let at = item.get().as_ptr().addr() - self.body.as_ptr().addr();
            if let Err(e) = memory::reserve(&mut self.ranges, 1) {
                self.failure = Some(e);
                return Err(invalid(""));
            }
            self.ranges.push(ItemRange {
                body: u32_range(at, at + item.get().len()),
                fields: u32_range(begin, self.fields.len()),
            });
        }
        Ok(())
    }
}

/// A whole number without the fraction that some serializers add, such as 100.0.
fn without_zeros(json: &str) -> &str {
    match json.split_once('.') {
        Some((whole, fraction))
            if whole.bytes().all(|b| b.is_ascii_digit()) && fraction.bytes().all(|b| b == b'0') =>
        {
            whole
        }
        _ => json,
    }
}

/// Finds the wrapped item in an object.
struct Unwrap<'a, 'de> {
    wrapper: &'static str,
    /// A buffer with capacity for any name.
    names: &'a mut Vec<u8>,
    found: &'a mut Option<&'de RawValue>,
}

impl<'de> de::Visitor<'de> for Unwrap<'_, 'de> {
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

/// Reads an item's fields: text unchanged, null as [`NULL`], anything else as its JSON, but
/// whole numbers without a fraction.
/// Removes secrets.
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
                    self.texts.extend_from_slice(without_zeros(json).as_bytes());
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

/// Appends a text and a NUL, with U+FFFD for every U+0000 and for invalid escapes.
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
    /// Makes a single item from JSON.
    #[cfg(test)]
    pub(crate) fn of(json: &str) -> Item {
        let body = format!("{{\"items\":[{json}]}}");
        let (_, mut items) = parse_page(body.into_bytes(), None, &|_| None).expect("an item");
        items.remove(0)
    }

    fn raw(&self) -> &[u8] {
        &self.texts.body[usize_range(&self.range.body)]
    }

    fn find(&self, wanted: &str) -> Option<&CStr> {
        let mut rest = &self.texts.fields[usize_range(&self.range.fields)];
        let mut next = || {
            let text = CStr::from_bytes_until_nul(rest).ok()?;
            rest = &rest[text.count_bytes() + 1..];
            Some(text)
        };
        let mut found = None;
        while let Some((name, value)) = next().and_then(|name| Some((name, next()?))) {
            // As in other JSON parsers, the last one counts.
            if name.to_bytes() == wanted.as_bytes() {
                found = Some(value).filter(|value| value.to_bytes() != NULL);
            }
        }
        found
    }

    /// The same as [`Item::get`] for C.
    #[doc(hidden)]
    pub fn field(&self, name: &str) -> Option<&CStr> {
        self.find(name).or_else(|| {
            let row = FIELDS
                .iter()
                .find(|row| row.item == self.texts.item && row.name == name)?;
            row.aliases.iter().find_map(|alias| self.find(alias))
        })
    }

    /// Returns a field by its name in the current version of the service, such as `id`;
    /// older versions have other names for some. Text is unchanged, except for
    /// U+FFFD instead of U+0000 and `***` instead of a secret of the request. Numbers,
    /// booleans, arrays and objects are returned as JSON, whole numbers without a
    /// fraction. None if the field is missing or null.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.field(name)?.to_str().ok()
    }

    /// Returns the item's id.
    pub fn id(&self) -> &str {
        self.get("id").unwrap_or_default()
    }

    /// Returns the whole item, as the JSON object that the service sent.
    pub fn json(&self) -> &str {
        std::str::from_utf8(self.raw()).unwrap_or_default()
    }

    /// Returns the size of its page in bytes. The item keeps the page in memory.
    pub(crate) fn page_bytes(&self) -> usize {
        self.texts.body.len() + self.texts.fields.capacity()
    }

    /// Returns the progress of a report in percent.
    pub(crate) fn percentum(&self) -> Option<u32> {
        // Whole percents are enough, so the fraction is ignored.
        let text = self.get("percentum")?;
        let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
        whole.parse::<u32>().ok().map(|percent| percent.min(100))
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    pub(super) list: &'static str,
    /// The items, without those of earlier pages.
    pub items: Vec<Item>,
    /// The number of items in the list, if the service reports it.
    pub total: Option<u64>,
}

impl Page {
    /// Returns the page as JSON: `{"kind", "total", "items"}`, each item unchanged.
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

/// The response of any list.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(
        borrow,
        alias = "servers",
        alias = "instances",
        alias = "reports",
        alias = "templates",
        alias = "databases"
    )]
    items: Option<&'a RawValue>,
    #[serde(borrow, default)]
    total: Option<&'a RawValue>,
}

/// Parses a page: the total, if the service reports it, and the items, each in an object
/// named `wrapper` if the list has one.
pub(super) fn parse_page(
    body: Vec<u8>,
    wrapper: Option<&'static str>,
    redact: Redact<'_>,
) -> Result<(Option<u64>, Vec<Item>), Error> {
    let invalid = |why: &str| Error::new(Status::UnexpectedResponse, why);
    let body = String::from_utf8(body).map_err(|_| invalid("it is not UTF-8"))?;
    // The parser may need this much to decode escapes.
    memory::probe(3 * body.len())?;
    let mut texts = Texts {
        item: wrapper.unwrap_or("instance"),
        body: Vec::new(),
        fields: Vec::new(),
    };
    // An escape of six bytes can become three times U+FFFD.
    memory::reserve(&mut texts.fields, body.len() + body.len() / 2)?;
    let mut page = PageReader {
        body: &body,
        fields: &mut texts.fields,
        ranges: Vec::new(),
        wrapper,
        redact,
        failure: None,
    };
    // Checked first, because a parser error would quote a value of another type, however
    // long.
    if !body.trim_start().starts_with('{') {
        return Err(invalid("it is not an object"));
    }
    let parsed = serde_json::from_str::<Object<Body<'_>>>(&body);
    let Object(document) = parsed.map_err(|e| invalid(&e.to_string()))?;
    let items = document
        .items
        .ok_or_else(|| invalid("it has no array of items"))?;
    if !items.get().starts_with('[') {
        return Err(invalid("its items are not an array"));
    }
    let read = serde_json::Deserializer::from_str(items.get()).deserialize_seq(&mut page);
    if let Err(e) = read {
        return Err(page.failure.unwrap_or_else(|| invalid(&e.to_string())));
    }
    let ranges = page.ranges;
    let total = match document.total {
        None => None,
        Some(total) => Some(parse_count(total).ok_or_else(|| invalid("its total is not a count"))?),
    };
    texts.body = body.into_bytes();
    let texts = Arc::new(texts);
    let mut items = Vec::new();
    memory::reserve(&mut items, ranges.len())?;
    items.extend(ranges.into_iter().map(|range| Item {
        texts: Arc::clone(&texts),
        range,
    }));
    if items.iter().any(|item| item.id().is_empty()) {
        return Err(invalid("an item has no id"));
    }
    Ok((total, items))
}
