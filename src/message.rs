//! The parts of a message that another language or a command says in other words.
//!
//! Inside the library a message is one text in which marks enclose these parts, so that
//! it can be formatted, shortened and redacted like any other text. [`split`] takes the
//! marks away.

use std::fmt;
use std::time::Duration;

use crate::text::{is_mark, shorten};

/// What a part of a message is; the values are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(i32)]
pub enum PartKind {
    /// Plain words.
    Text = 0,
    /// The name of a parameter or the key of an option.
    Name = 1,
    /// What was given for a parameter or an option, in quotes.
    Value = 2,
    /// A duration: a number of milliseconds, perhaps with " ms" behind it.
    Duration = 3,
    /// The permissions of a file, in octal digits.
    Mode = 4,
    /// How a value is written as text, such as "octal digits ". Left out where it has a
    /// type.
    Notation = 5,
    /// "NULL".
    Null = 6,
    /// The value for no limit, "-1".
    NoLimit = 7,
    /// The value for an unknown time, "-1".
    Unknown = 8,
    /// "allow replacing it".
    Replace = 9,
    /// What an object is called, such as "context".
    Object = 10,
}

impl PartKind {
    const ALL: [PartKind; 11] = [
        PartKind::Text,
        PartKind::Name,
        PartKind::Value,
        PartKind::Duration,
        PartKind::Mode,
        PartKind::Notation,
        PartKind::Null,
        PartKind::NoLimit,
        PartKind::Unknown,
        PartKind::Replace,
        PartKind::Object,
    ];

    // Characters that Unicode assigns to nobody.
    fn mark(self) -> char {
        char::from_u32(FIRST_MARK + self as u32).unwrap_or(END)
    }

    fn of_mark(c: char) -> Option<PartKind> {
        let index = u32::from(c).checked_sub(FIRST_MARK)?;
        PartKind::ALL.get(usize::try_from(index).ok()?).copied()
    }
}

const FIRST_MARK: u32 = 0xfdd0;
const END: char = '\u{fdef}';

/// Formats something as a part of a message.
pub struct Part<T>(pub PartKind, pub T);

impl<T: fmt::Display> fmt::Display for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{END}", self.0.mark(), self.1)
    }
}

/// The name of a parameter or an option.
pub(crate) fn name(key: &str) -> Part<&str> {
    Part(PartKind::Name, key)
}

/// A number of milliseconds.
pub(crate) fn milliseconds<T: fmt::Display>(number: T) -> Part<T> {
    Part(PartKind::Duration, number)
}

/// A duration with its unit.
pub(crate) fn duration(duration: Duration) -> Part<String> {
    Part(PartKind::Duration, format!("{} ms", duration.as_millis()))
}

/// The words after a range that also allows no limit, if it does.
pub(crate) fn no_limit(is_allowed: bool) -> String {
    match is_allowed {
        true => format!(", or {} for no limit", Part(PartKind::NoLimit, -1)),
        false => String::new(),
    }
}

/// The permissions of a file.
pub(crate) fn mode(mode: i64) -> Part<String> {
    Part(PartKind::Mode, format!("{mode:o}"))
}

/// What was given, which it puts in quotes; only its beginning, as it may be a secret in the
/// wrong place.
pub(crate) fn given(value: impl fmt::Display) -> Part<String> {
    let mut value = value.to_string();
    let start = shorten(&value, GIVEN_LIMIT).len();
    if start < value.len() {
        value.truncate(start);
        value.push('…');
    }
    Part(PartKind::Value, format!("\"{value}\""))
}

const GIVEN_LIMIT: usize = 32;

/// How a value is written as text.
pub(crate) fn notation(words: &str) -> Part<&str> {
    Part(PartKind::Notation, words)
}

/// What an object is called.
pub(crate) fn object(noun: &str) -> Part<&str> {
    Part(PartKind::Object, noun)
}

/// Calls `each` with every part of a text in turn. A mark without its end counts up to
/// the end of the text, which may have been shortened.
pub(crate) fn split<'a>(marked: &'a str, mut each: impl FnMut(PartKind, &'a str)) {
    let mut rest = marked;
    while let Some((at, kind)) = rest
        .char_indices()
        .find_map(|(at, c)| Some((at, PartKind::of_mark(c)?)))
    {
        let (before, part) = rest.split_at(at);
        let part = &part[kind.mark().len_utf8()..];
        let (part, after) = part.split_once(END).unwrap_or((part, ""));
        for (kind, text) in [(PartKind::Text, before), (kind, part)] {
            if !text.is_empty() {
                each(kind, text);
            }
        }
        rest = after;
    }
    if !rest.is_empty() {
        each(PartKind::Text, rest);
    }
}

/// Returns a text without marks; None if it has none.
pub(crate) fn without_marks(marked: &str) -> Option<String> {
    if !marked.contains(is_mark) {
        return None;
    }
    let mut plain = String::with_capacity(marked.len());
    split(marked, |_, text| plain.push_str(text));
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(marked: &str) -> Vec<(PartKind, String)> {
        let mut parts = Vec::new();
        split(marked, |kind, text| parts.push((kind, text.to_owned())));
        parts
    }

    #[test]
    fn marked_text_is_split_into_its_parts() {
        let marked = format!(
            "{}: must be from {} to {}",
            name("a"),
            milliseconds(1),
            milliseconds(2)
        );
        let text = |text: &str| (PartKind::Text, text.to_owned());
        let number = |text: &str| (PartKind::Duration, text.to_owned());
        assert_eq!(
            parts(&marked),
            [
                (PartKind::Name, "a".to_owned()),
                text(": must be from "),
                number("1"),
                text(" to "),
                number("2"),
            ]
        );
        assert_eq!(without_marks(&marked).as_deref(), Some("a: must be from 1 to 2"));
        assert_eq!(without_marks("é \u{ff01} plain"), None);
        assert_eq!(parts(""), []);
        // As after it was shortened.
        assert_eq!(
            parts("use \u{fdd1}reg"),
            [text("use "), (PartKind::Name, "reg".to_owned())]
        );
    }
}
