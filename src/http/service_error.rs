//! What a service says when it refuses: all the shapes in which the endpoint,
//! its gateway and its neighbours say it.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny};
use serde_json::value::RawValue;

use super::object::Object;
use crate::error::{Detail, Error, ServiceText};
use crate::memory;
use crate::text::shorten;

/// No sound error is larger; the rest is not read.
pub(crate) const ERROR_BODY_LIMIT: usize = 64 * 1024;

/// The longest plain text that is kept as the service's words.
const TEXT_LIMIT: usize = 1024;

/// The longest text of a JSON error that is kept.
const FIELD_LIMIT: usize = 16 * 1024;

/// How much of all `details` together is kept.
const DETAILS_LIMIT: usize = 8 * 1024;

/// How many error objects may stand one inside another; the service's have two.
/// They are followed in a loop: how deep a server nests its JSON costs no stack.
const MAX_NESTED: usize = 8;

/// A larger body is read only where there is memory for the copies of it.
const ORDINARY: usize = 4096;

/// How many entries of `details` are kept.
const MAX_DETAILS: usize = 64;

/// Every field by which some part of the service names some part of an error.
/// The values are still JSON: serde_json passes over a value in a loop, however
/// deep it is, and nothing is copied before it is known to be wanted.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Shape<'a> {
    error_code: Json<'a>,
    error_msg: Json<'a>,
    #[serde(rename = "errorCode")]
    camel_code: Json<'a>,
    #[serde(rename = "errorMsg")]
    camel_msg: Json<'a>,
    code: Json<'a>,
    message: Json<'a>,
    title: Json<'a>,
    request_id: Json<'a>,
    encoded_authorization_message: Json<'a>,
    details: Json<'a>,
    error: Json<'a>,
}

/// A value of any type, or none.
type Json<'a> = Option<&'a RawValue>;

/// A scalar as text; anything else, null and "" included, as none.
fn text(value: Json<'_>) -> Option<String> {
    let json = value?.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok().map(|Beginning(text)| text),
        b'-' | b'0'..=b'9' => Some(json[..json.len().min(FIELD_LIMIT)].to_owned()),
        _ => None,
    }
    .filter(|text: &String| !text.is_empty())
}

/// A text's first [`FIELD_LIMIT`] bytes.
struct Beginning(String);

impl<'de> Deserialize<'de> for Beginning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Beginning, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Beginning;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Beginning, E> {
                Ok(Beginning(shorten(text, FIELD_LIMIT).to_owned()))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

fn first(candidates: &[Json<'_>]) -> Option<String> {
    candidates.iter().find_map(|value| text(*value))
}

fn object<'a>(value: Json<'a>) -> Option<Shape<'a>> {
    // An error of the parser would quote another value.
    let json = value?.get();
    let Object(shape) = serde_json::from_str(json.strip_prefix('{').map(|_| json)?).ok()?;
    Some(shape)
}

/// The entries of an array of details that are objects.
struct Details(Vec<Detail>);

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Details, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Details;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Details, A::Error> {
                let mut details = Vec::new();
                let mut kept = 0;
                while details.len() < MAX_DETAILS {
                    let Some(value) = seq.next_element::<&RawValue>()? else {
                        return Ok(Details(details));
                    };
                    let Some(entry) = object(Some(value)) else {
                        continue;
                    };
                    let detail = Detail {
                        code: first(&[entry.error_code, entry.camel_code]),
                        message: first(&[entry.error_msg, entry.camel_msg]),
                    };
                    kept += detail.len();
                    if kept > DETAILS_LIMIT {
                        break;
                    }
                    details.push(detail);
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Details(details))
            }
        }

        deserializer.deserialize_seq(Visitor)
    }
}

/// An error body, understood as far as possible.
#[derive(Default)]
pub(crate) struct ServiceError {
    pub(crate) text: ServiceText,
    /// Whether the body is one of the service's JSON error objects.
    pub(crate) is_error_object: bool,
}

impl ServiceError {
    /// Reads the first part of a body of any kind. `redact` takes secrets out of
    /// a text. An error where there is no memory for it.
    pub(crate) fn parse(body: &[u8], redact: impl Fn(String) -> String) -> Result<ServiceError, Error> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if body.len() > ORDINARY {
            memory::probe_document(body.len().min(ERROR_BODY_LIMIT))?;
        }
        let mut mended = String::new();
        let text = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(_) => {
                // Each byte may become U+FFFD, which has three.
                mended
                    .try_reserve(3 * body.len())
                    .map_err(|_| memory::out_of_memory())?;
                for chunk in body.utf8_chunks() {
                    mended.push_str(chunk.valid());
                    mended.push_str(if chunk.invalid().is_empty() {
                        ""
                    } else {
                        "\u{fffd}"
                    });
                }
                &mended
            }
        };
        let parsed = if text.trim_start().starts_with('{') {
            serde_json::from_str::<Object<Shape<'_>>>(text).ok()
        } else {
            None
        };
        Ok(match parsed {
            Some(Object(shape)) => {
                let mut text = shape.into_text();
                // After unescaping, or an escaped secret would pass.
                text.map_text(redact);
                ServiceError {
                    is_error_object: text.code.is_some() || text.message.is_some(),
                    text,
                }
            }
            None => ServiceError {
                text: ServiceText {
                    // Before the last shortening, or a shortened secret would pass.
                    message: prose(text).map(|said| {
                        let mut said = redact(shorten(said, 4 * TEXT_LIMIT).to_owned());
                        said.truncate(shorten(&said, TEXT_LIMIT).len());
                        said
                    }),
                    ..ServiceText::default()
                },
                is_error_object: false,
            },
        })
    }
}

impl<'a> Shape<'a> {
    /// What it says, and where it is silent what the error objects inside of it
    /// say, the outermost first.
    fn into_text(self) -> ServiceText {
        let mut said = ServiceText::default();
        let mut titles = Vec::new();
        let mut has_details = false;
        let mut shape = self;
        for _ in 0..MAX_NESTED {
            let or = |said: &mut Option<String>, candidates: &[Json<'a>]| {
                if said.is_none() {
                    *said = first(candidates);
                }
            };
            or(&mut said.code, &[shape.error_code, shape.camel_code, shape.code]);
            or(
                &mut said.message,
                &[shape.error_msg, shape.camel_msg, shape.message],
            );
            or(&mut said.request_id, &[shape.request_id]);
            or(
                &mut said.encoded_authorization_message,
                &[shape.encoded_authorization_message],
            );
            titles.push(shape.title);
            let is_array = |json: &&RawValue| json.get().starts_with('[');
            if let Some(details) = shape.details.filter(|_| !has_details).filter(is_array)
                && let Ok(Details(details)) = serde_json::from_str(details.get())
            {
                said.details = details;
                has_details = true;
            }
            match object(shape.error) {
                Some(inner) => shape = inner,
                None => {
                    or(&mut said.message, &[shape.error]);
                    break;
                }
            }
        }
        // A title is said only where nothing better is, the innermost first.
        titles.reverse();
        said.message = said.message.or_else(|| first(&titles));
        said
    }
}

/// What a body that is not JSON says: a page's title, or the text itself.
fn prose(body: &str) -> Option<&str> {
    let body = body.trim();
    let said = if body.starts_with('<') {
        let start = find(body, "<title")?;
        let start = start + body[start..].find('>')? + 1;
        let end = start + find(&body[start..], "</title")?;
        body[start..end].trim()
    } else if body.starts_with(['{', '[']) {
        // JSON that broke off or is none.
        return None;
    } else {
        body
    };
    Some(said).filter(|said| !said.is_empty())
}

/// Where a text has a tag, in small or capital letters.
fn find(text: &str, tag: &str) -> Option<usize> {
    let mut windows = text.as_bytes().windows(tag.len());
    windows.position(|part| part.eq_ignore_ascii_case(tag.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> (Option<String>, Option<String>, bool) {
        let error = ServiceError::parse(body.as_bytes(), |text| text).expect("memory");
        (error.text.code, error.text.message, error.is_error_object)
    }

    fn says(code: &str, message: &str) -> (Option<String>, Option<String>, bool) {
        (Some(code.into()), Some(message.into()), true)
    }

    #[test]
    fn every_shape_that_the_service_and_its_neighbours_send() {
        for (body, expected) in [
            (
                r#"{"error_code":"DBSS.1","error_msg":"m","details":null}"#,
                says("DBSS.1", "m"),
            ),
            (
                r#"{"error_msg":"m","error_code":"APIG.0301","request_id":"r"}"#,
                says("APIG.0301", "m"),
            ),
            (
                r#"{"error":{"error_code":"DBSS.1","error_msg":"m"}}"#,
                says("DBSS.1", "m"),
            ),
            (
                r#"{"error":{"code":401,"message":"m","title":"Unauthorized"}}"#,
                says("401", "m"),
            ),
            (r#"{"errorCode":"X","errorMsg":"m"}"#, says("X", "m")),
            (r#"{"code":"X","message":"m"}"#, says("X", "m")),
            (
                r#"{"error_code":10000001,"error_msg":"m"}"#,
                says("10000001", "m"),
            ),
            (r#"{"error_code":-5,"error_msg":"m"}"#, says("-5", "m")),
            (
                r#"{"error_code":null,"errorCode":"X","error_msg":["no"],"message":"m"}"#,
                says("X", "m"),
            ),
            ("\u{feff}{\"code\":\"X\",\"message\":\"m\"}", says("X", "m")),
            (
                r#"{"error":"invalid_token"}"#,
                (None, Some("invalid_token".into()), true),
            ),
            (
                r#"{"error":{"title":"Unauthorized"}}"#,
                (None, Some("Unauthorized".into()), true),
            ),
            (
                r#"{"error_code":"X","details":{"a":1}}"#,
                (Some("X".into()), None, true),
            ),
            ("{}", (None, None, false)),
            (r#"{"result":"success"}"#, (None, None, false)),
            ("[1,2]", (None, None, false)),
            ("null", (None, Some("null".into()), false)),
            (r#"{"error_code":"X"#, (None, None, false)),
            ("", (None, None, false)),
            (
                "  upstream timed out\n",
                (None, Some("upstream timed out".into()), false),
            ),
            (
                "<html><head><TITLE>502 Bad Gateway</TITLE></head></html>",
                (None, Some("502 Bad Gateway".into()), false),
            ),
            ("<html><body>no title</body></html>", (None, None, false)),
        ] {
            assert_eq!(parse(body), expected, "{body}");
        }
    }

    #[test]
    fn details_and_the_authorization_message_are_kept() {
        let body = br#"{"error_code":"DBSS.1","error_msg":"m","encoded_authorization_message":"enc",
            "request_id":"r","details":[{"error_code":"A","error_msg":"a"},{"error_msg":null},7,{"errorCode":"B"}]}"#;
        let text = ServiceError::parse(body, |text| text).expect("memory").text;
        assert_eq!(text.encoded_authorization_message.as_deref(), Some("enc"));
        assert_eq!(text.request_id.as_deref(), Some("r"));
        let details: Vec<_> = text
            .details
            .iter()
            .map(|d| (d.code.as_deref(), d.message.as_deref()))
            .collect();
        assert_eq!(details, [(Some("A"), Some("a")), (None, None), (Some("B"), None)]);
    }

    #[test]
    fn an_error_is_found_in_others_up_to_a_depth_and_no_depth_is_a_danger() {
        let nested = |depth: usize, inner: &str| {
            let tail = format!("{inner}{}", ",\"details\":[[[]]]}".repeat(depth));
            format!("{}{tail}", "{\"error\":".repeat(depth))
        };
        let inner = r#"{"error_code":"X","error_msg":"m"}"#;
        assert_eq!(parse(&nested(MAX_NESTED - 1, inner)), says("X", "m"));
        for depth in [MAX_NESTED, 120, 2000] {
            assert_eq!(parse(&nested(depth, inner)), (None, None, false), "{depth}");
        }
        // What stands around it is understood all the same.
        let outer = format!(r#"{{"error_code":"Y","error":{}}}"#, nested(2000, inner));
        assert_eq!(parse(&outer), (Some("Y".into()), None, true));
        let arrays = format!(
            r#"{{"error_code":"Y","x":{}{}}}"#,
            "[".repeat(9000),
            "]".repeat(9000)
        );
        assert_eq!(parse(&arrays), (Some("Y".into()), None, true));
    }

    #[test]
    fn details_without_end_are_bounded() {
        let body = format!(
            r#"{{"code":"X","details":[{}{{}}]}}"#,
            r#"{"code":"Y"},"#.repeat(4000)
        );
        let text = ServiceError::parse(body.as_bytes(), |text| text)
            .expect("memory")
            .text;
        assert_eq!(
            (text.code.as_deref(), text.details.len()),
            (Some("X"), MAX_DETAILS)
        );
    }

    #[test]
    fn long_details_are_bounded_together() {
        let long = format!(r#"{{"error_msg":"{}"}}"#, "x".repeat(1000));
        let body = format!(r#"{{"details":[{}]}}"#, [long.as_str(); 60].join(","));
        let text = ServiceError::parse(body.as_bytes(), |text| text)
            .expect("memory")
            .text;
        assert_eq!(text.details.len(), DETAILS_LIMIT / 1000);
    }

    #[test]
    fn text_that_is_not_utf8_and_text_without_end_are_bounded() {
        let error = ServiceError::parse(b"{\"error_code\":\"X\",\"error_msg\":\"\xff\xfe!\"}", |text| text)
            .expect("memory");
        assert_eq!(error.text.message.as_deref(), Some("\u{fffd}\u{fffd}!"));
        let long = "é".repeat(ERROR_BODY_LIMIT);
        assert_eq!(parse(&long).1.map(|m| m.len()), Some(TEXT_LIMIT));
        let deep = "{\"error\":".repeat(5000);
        assert_eq!(parse(&deep), (None, None, false));
    }
}
