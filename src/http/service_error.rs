//! What a service says when it refuses: all the shapes in which the endpoint,
//! its gateway and its neighbours say it.

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, de};
use std::fmt;

use super::object::Object;
use crate::error::{Detail, ServiceText};

/// No sound error is larger; the rest is not read.
pub(crate) const ERROR_BODY_LIMIT: usize = 64 * 1024;

/// The longest plain text that is kept as the service's words.
const TEXT_LIMIT: usize = 1024;

/// A scalar of any type as text; anything else, null and "" included, as none.
#[derive(Default)]
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> de::Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned()).filter(|t| !t.is_empty())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
        Ok(Text(Some(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
        Ok(Text(Some(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Text, E> {
        Ok(Text(Some(number.to_string())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

/// Every field by which some part of the service names some part of an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shape {
    error_code: Text,
    error_msg: Text,
    #[serde(rename = "errorCode")]
    camel_code: Text,
    #[serde(rename = "errorMsg")]
    camel_msg: Text,
    code: Text,
    message: Text,
    title: Text,
    request_id: Text,
    encoded_authorization_message: Text,
    details: Lenient<Vec<Lenient<Object<Entry>>>>,
    error: Lenient<Box<Object<Shape>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    error_code: Text,
    error_msg: Text,
    #[serde(rename = "errorCode")]
    camel_code: Text,
    #[serde(rename = "errorMsg")]
    camel_msg: Text,
}

/// A value of the type that it should have, or nothing.
enum Lenient<T> {
    Right(T),
    Wrong(Text),
}

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Lenient::Wrong(Text(None))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lenient<T>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Right(T),
            Wrong(Text),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Right(value) => Lenient::Right(value),
            Either::Wrong(text) => Lenient::Wrong(text),
        })
    }
}

fn first(candidates: impl IntoIterator<Item = Text>) -> Option<String> {
    candidates.into_iter().find_map(|text| text.0)
}

/// An error body, understood as far as possible.
pub(crate) struct ServiceError {
    pub(crate) text: ServiceText,
    /// Whether the body is one of the service's JSON error objects.
    pub(crate) is_error_object: bool,
}

impl ServiceError {
    /// Reads the first part of a body of any kind. `blot` takes secrets out of
    /// a text.
    pub(crate) fn parse(body: &[u8], blot: impl Fn(String) -> String) -> ServiceError {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let text = String::from_utf8_lossy(body);
        match serde_json::from_str::<Object<Shape>>(&text) {
            Ok(Object(shape)) => {
                let mut text = shape.into_text();
                // After unescaping, or an escaped secret would pass.
                text.map_text(blot);
                ServiceError {
                    is_error_object: text.code.is_some() || text.message.is_some(),
                    text,
                }
            }
            Err(_) => ServiceError {
                text: ServiceText {
                    // Before shortening, or a shortened secret would pass.
                    message: prose(&blot(text.into_owned())),
                    ..ServiceText::default()
                },
                is_error_object: false,
            },
        }
    }
}

impl Shape {
    fn into_text(self) -> ServiceText {
        let inner = match self.error {
            Lenient::Right(inner) => inner.0.into_text(),
            Lenient::Wrong(text) => ServiceText {
                message: text.0,
                ..ServiceText::default()
            },
        };
        let details = match self.details {
            Lenient::Right(entries) => entries
                .into_iter()
                .filter_map(|entry| match entry {
                    Lenient::Right(Object(e)) => Some(Detail {
                        code: first([e.error_code, e.camel_code]),
                        message: first([e.error_msg, e.camel_msg]),
                    }),
                    Lenient::Wrong(_) => None,
                })
                .collect(),
            Lenient::Wrong(_) => inner.details,
        };
        ServiceText {
            code: first([self.error_code, self.camel_code, self.code]).or(inner.code),
            message: first([self.error_msg, self.camel_msg, self.message])
                .or(inner.message)
                .or(self.title.0),
            request_id: self.request_id.0.or(inner.request_id),
            encoded_authorization_message: self
                .encoded_authorization_message
                .0
                .or(inner.encoded_authorization_message),
            details,
        }
    }
}

/// What a body that is not JSON says: a page's title, or the text itself.
fn prose(body: &str) -> Option<String> {
    let body = body.trim();
    let said = if body.starts_with('<') {
        let lower = body.to_ascii_lowercase();
        let start = lower.find("<title")?;
        let start = start + lower[start..].find('>')? + 1;
        let end = start + lower[start..].find("</title")?;
        body[start..end].trim()
    } else if body.starts_with(['{', '[']) {
        // JSON that broke off or is none.
        return None;
    } else {
        body
    };
    let end = (0..=TEXT_LIMIT.min(said.len()))
        .rev()
        .find(|i| said.is_char_boundary(*i))?;
    Some(said[..end].to_owned()).filter(|s| !s.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> (Option<String>, Option<String>, bool) {
        let error = ServiceError::parse(body.as_bytes(), |text| text);
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
        let text = ServiceError::parse(body, |text| text).text;
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
    fn text_that_is_not_utf8_and_text_without_end_are_bounded() {
        let error = ServiceError::parse(b"{\"error_code\":\"X\",\"error_msg\":\"\xff\xfe!\"}", |text| text);
        assert_eq!(error.text.message.as_deref(), Some("\u{fffd}\u{fffd}!"));
        let long = "é".repeat(ERROR_BODY_LIMIT);
        assert_eq!(parse(&long).1.map(|m| m.len()), Some(TEXT_LIMIT));
        let deep = "{\"error\":".repeat(5000);
        assert_eq!(parse(&deep), (None, None, false));
    }
}
