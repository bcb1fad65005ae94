//! Parses error bodies: all the formats of the endpoint, its gateway and related services.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny};
use serde_json::value::RawValue;

use super::object::Object;
use crate::error::{Detail, Error, ServiceText};
use crate::memory;
use crate::text::shorten;

/// How much of an error body is read. Real ones are smaller.
pub(crate) const ERROR_BODY_LIMIT: usize = 64 * 1024;

/// The longest plain text that is kept as the service's message.
const TEXT_LIMIT: usize = 1024;

/// The longest text of a JSON error that is kept.
const FIELD_LIMIT: usize = 16 * 1024;

/// How many bytes of all `details` together are kept.
const DETAILS_LIMIT: usize = 8 * 1024;

/// How many nested error objects are read; the service nests two. The code is a loop,
/// so deeply nested JSON costs no stack.
const MAX_NESTED: usize = 8;

/// A larger body is parsed only if there is memory for the copies of it.
const PROBE_THRESHOLD: usize = 4096;

/// How many entries of `details` are kept.
const MAX_DETAILS: usize = 64;

/// All fields of the known error formats. The values stay raw JSON: serde_json skips raw
/// values in a loop, however deep they are, and only the values that are used are copied.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct ErrorBody<'a> {
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

/// A raw JSON value, if the field is present.
type Json<'a> = Option<&'a RawValue>;

/// Returns a scalar as text; `None` for anything else, null and "" included.
fn text(value: Json<'_>) -> Option<String> {
    let json = value?.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok().map(|Shortened(text)| text),
        b'-' | b'0'..=b'9' => Some(json[..json.len().min(FIELD_LIMIT)].to_owned()),
        _ => None,
    }
    .filter(|text: &String| !text.is_empty())
}

/// The first [`FIELD_LIMIT`] bytes of a text.
struct Shortened(String);

impl<'de> Deserialize<'de> for Shortened {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shortened, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Shortened;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Shortened, E> {
                Ok(Shortened(shorten(text, FIELD_LIMIT).to_owned()))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

fn first_text(candidates: &[Json<'_>]) -> Option<String> {
    candidates.iter().find_map(|value| text(*value))
}

fn parse_object<'a>(value: Json<'a>) -> Option<ErrorBody<'a>> {
    // For any other value, the parser would make an error that quotes it.
    let json = value?.get();
    let Object(body) = serde_json::from_str(json.strip_prefix('{').map(|_| json)?).ok()?;
    Some(body)
}

/// The objects in an array of details.
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
                let mut total_len = 0;
                while details.len() < MAX_DETAILS {
                    let Some(value) = seq.next_element::<&RawValue>()? else {
                        return Ok(Details(details));
                    };
                    let Some(entry) = parse_object(Some(value)) else {
                        continue;
                    };
                    let detail = Detail {
                        code: first_text(&[entry.error_code, entry.camel_code]),
                        message: first_text(&[entry.error_msg, entry.camel_msg]),
                    };
                    total_len += detail.len();
                    if total_len > DETAILS_LIMIT {
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

/// An error body, parsed as far as possible.
#[derive(Default)]
pub(crate) struct ServiceError {
    pub(crate) text: ServiceText,
    /// Whether the body is a JSON error object.
    pub(crate) is_error_object: bool,
}

impl ServiceError {
    /// Parses the beginning of a body of any kind. `redact` removes secrets from a text.
    /// Fails only if there is not enough memory.
    pub(crate) fn parse(body: &[u8], redact: impl Fn(String) -> String) -> Result<ServiceError, Error> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if body.len() > PROBE_THRESHOLD {
            memory::probe_document(body.len().min(ERROR_BODY_LIMIT))?;
        }
        let mut lossy = String::new();
        let text = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(_) => {
                // Each byte may become U+FFFD, which has three bytes.
                lossy
                    .try_reserve(3 * body.len())
                    .map_err(|_| memory::out_of_memory())?;
                for chunk in body.utf8_chunks() {
                    lossy.push_str(chunk.valid());
                    lossy.push_str(if chunk.invalid().is_empty() {
                        ""
                    } else {
                        "\u{fffd}"
                    });
                }
                &lossy
            }
        };
        let parsed = if text.trim_start().starts_with('{') {
            serde_json::from_str::<Object<ErrorBody<'_>>>(text).ok()
        } else {
            None
        };
        Ok(match parsed {
            Some(Object(body)) => {
                let mut text = body.into_text();
                // Redact after unescaping, or an escaped secret would remain.
                text.map_text(redact);
                ServiceError {
                    is_error_object: text.code.is_some() || text.message.is_some(),
                    text,
                }
            }
            None if text.contains("<Error>") => {
                let mut text = xml_text(text);
                text.map_text(redact);
                ServiceError {
                    text,
                    is_error_object: false,
                }
            }
            None => ServiceError {
                text: ServiceText {
                    // Redact before the last cut, or the beginning of a secret would remain.
                    message: plain_text(text).map(|text| {
                        let mut text = redact(shorten(text, 4 * TEXT_LIMIT).to_owned());
                        text.truncate(shorten(&text, TEXT_LIMIT).len());
                        text
                    }),
                    ..ServiceText::default()
                },
                is_error_object: false,
            },
        })
    }
}

impl<'a> ErrorBody<'a> {
    /// Collects the error's texts. Nested error objects fill in missing fields, the
    /// outermost first.
    fn into_text(self) -> ServiceText {
        let mut text = ServiceText::default();
        let mut titles = Vec::new();
        let mut has_details = false;
        let mut body = self;
        for _ in 0..MAX_NESTED {
            let fill = |text: &mut Option<String>, candidates: &[Json<'a>]| {
                if text.is_none() {
                    *text = first_text(candidates);
                }
            };
            fill(&mut text.code, &[body.error_code, body.camel_code, body.code]);
            fill(&mut text.message, &[body.error_msg, body.camel_msg, body.message]);
            fill(&mut text.request_id, &[body.request_id]);
            fill(
                &mut text.encoded_authorization_message,
                &[body.encoded_authorization_message],
            );
            titles.push(body.title);
            let is_array = |json: &&RawValue| json.get().starts_with('[');
            if let Some(details) = body.details.filter(|_| !has_details).filter(is_array)
                && let Ok(Details(details)) = serde_json::from_str(details.get())
            {
                text.details = details;
                has_details = true;
            }
            match parse_object(body.error) {
                Some(inner) => body = inner,
                None => {
                    fill(&mut text.message, &[body.error]);
                    break;
                }
            }
        }
        // A title is used only if there is no message, the innermost first.
        titles.reverse();
        text.message = text.message.or_else(|| first_text(&titles));
        text
    }
}

/// Returns the message of a body that is not JSON: an HTML page's title, or the text.
fn plain_text(body: &str) -> Option<&str> {
    let body = body.trim();
    let text = if body.starts_with('<') {
        let start = find_tag(body, "<title")?;
        let start = start + body[start..].find('>')? + 1;
        let end = start + find_tag(&body[start..], "</title")?;
        body[start..end].trim()
    } else if body.starts_with(['{', '[']) {
        // Truncated or invalid JSON.
        return None;
    } else {
        body
    };
    Some(text).filter(|text| !text.is_empty())
}

/// Returns the texts of an XML error, which storage and gateways send.
fn xml_text(body: &str) -> ServiceText {
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        let mut text = shorten(text.trim(), FIELD_LIMIT).to_owned();
        for (escape, c) in [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&apos;", "'"),
            ("&amp;", "&"),
        ] {
            text = text.replace(escape, c);
        }
        Some(text).filter(|text| !text.is_empty())
    };
    ServiceText {
        code: element("Code"),
        message: element("Message"),
        request_id: element("RequestId"),
        ..ServiceText::default()
    }
}

/// Finds a tag in a text, in lower or upper case.
fn find_tag(text: &str, tag: &str) -> Option<usize> {
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

    fn error_object(code: &str, message: &str) -> (Option<String>, Option<String>, bool) {
        (Some(code.into()), Some(message.into()), true)
    }

    #[test]
    fn every_known_error_format_is_parsed() {
        for (body, expected) in [
            (
                r#"{"error_code":"DBSS.1","error_msg":"m","details":null}"#,
                error_object("DBSS.1", "m"),
            ),
            (
                r#"{"error_msg":"m","error_code":"APIG.0301","request_id":"r"}"#,
                error_object("APIG.0301", "m"),
            ),
            (
                r#"{"error":{"error_code":"DBSS.1","error_msg":"m"}}"#,
                error_object("DBSS.1", "m"),
            ),
            (
                r#"{"error":{"code":401,"message":"m","title":"Unauthorized"}}"#,
                error_object("401", "m"),
            ),
            (r#"{"errorCode":"X","errorMsg":"m"}"#, error_object("X", "m")),
            (r#"{"code":"X","message":"m"}"#, error_object("X", "m")),
            (
                r#"{"error_code":10000001,"error_msg":"m"}"#,
                error_object("10000001", "m"),
            ),
            (r#"{"error_code":-5,"error_msg":"m"}"#, error_object("-5", "m")),
            (
                r#"{"error_code":null,"errorCode":"X","error_msg":["no"],"message":"m"}"#,
                error_object("X", "m"),
            ),
            (
                "\u{feff}{\"code\":\"X\",\"message\":\"m\"}",
                error_object("X", "m"),
            ),
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
            (
                "<?xml version=\"1.0\"?><Error><Code>X</Code><Message> a &lt;b&gt; &amp;lt; </Message></Error>",
                (Some("X".into()), Some("a <b> &lt;".into()), false),
            ),
            ("<Error><Code></Code><Message>cut", (None, None, false)),
        ] {
            assert_eq!(parse(body), expected, "{body}");
        }
    }

    #[test]
    fn details_and_authorization_message_are_kept() {
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
    fn deeply_nested_errors_are_read_up_to_a_limit() {
        let nested = |depth: usize, inner: &str| {
            let tail = format!("{inner}{}", ",\"details\":[[[]]]}".repeat(depth));
            format!("{}{tail}", "{\"error\":".repeat(depth))
        };
        let inner = r#"{"error_code":"X","error_msg":"m"}"#;
        assert_eq!(parse(&nested(MAX_NESTED - 1, inner)), error_object("X", "m"));
        for depth in [MAX_NESTED, 120, 2000] {
            assert_eq!(parse(&nested(depth, inner)), (None, None, false), "{depth}");
        }
        // The fields around it are still parsed.
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
    fn number_of_details_is_bounded() {
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
    fn total_length_of_details_is_bounded() {
        let long = format!(r#"{{"error_msg":"{}"}}"#, "x".repeat(1000));
        let body = format!(r#"{{"details":[{}]}}"#, [long.as_str(); 60].join(","));
        let text = ServiceError::parse(body.as_bytes(), |text| text)
            .expect("memory")
            .text;
        assert_eq!(text.details.len(), DETAILS_LIMIT / 1000);
    }

    #[test]
    fn invalid_utf8_and_long_text_are_bounded() {
        let error = ServiceError::parse(b"{\"error_code\":\"X\",\"error_msg\":\"\xff\xfe!\"}", |text| text)
            .expect("memory");
        assert_eq!(error.text.message.as_deref(), Some("\u{fffd}\u{fffd}!"));
        let long = "é".repeat(ERROR_BODY_LIMIT);
        assert_eq!(parse(&long).1.map(|m| m.len()), Some(TEXT_LIMIT));
        let deep = "{\"error\":".repeat(5000);
        assert_eq!(parse(&deep), (None, None, false));
    }
}
