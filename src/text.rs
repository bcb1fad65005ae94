//! Makes texts from elsewhere safe to show.

use std::borrow::Cow;
use std::{fmt, io};

/// Whether a character may reorder or hide text, or break its line: what Unicode calls
/// format characters, line ends, blanks, and default ignorable ones.
pub fn is_deceptive(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns `text` as one line of at most `limit` bytes. It may come from a hostile server
/// and go to terminals and logs. So it must not contain a new line or an escape
/// sequence, nor reorder the text around it.
pub(crate) fn sanitize(text: &str, limit: usize) -> Cow<'_, str> {
    replace_unsafe(text, limit, |c| is_unsafe(c) || is_mark(c))
}

/// The same for a message of this library, whose marks stay.
pub(crate) fn sanitize_message(text: &str, limit: usize) -> Cow<'_, str> {
    replace_unsafe(text, limit, is_unsafe)
}

/// What a message is about, such as a path, so short that the rest of the message stays.
pub(crate) fn subject(what: impl fmt::Display) -> String {
    sanitize_message(&what.to_string(), 768).into_owned()
}

/// Whether it is one of the characters that Unicode leaves to programs: the marks of messages
/// are of these. No text from elsewhere has a use for one.
pub(crate) fn is_mark(c: char) -> bool {
    ('\u{fdd0}'..='\u{fdef}').contains(&c)
}

fn is_unsafe(c: char) -> bool {
    // The C1 range (U+0080 to U+009F) contains escape introducers, too.
    c.is_control() || is_deceptive(c)
}

fn replace_unsafe(text: &str, limit: usize, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.len() <= limit && !text.chars().any(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len().min(limit) + '…'.len_utf8());
    for c in text.chars() {
        if line.len() + c.len_utf8() > limit {
            line.push('…');
            break;
        }
        line.push(if is_unsafe(c) { ' ' } else { c });
    }
    Cow::Owned(line)
}

/// The operating system's message, without the number that the standard library adds.
pub fn os_message(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(code) = error.raw_os_error()
        && let Some(message) = text.strip_suffix(&format!(" (os error {code})"))
    {
        text.truncate(message.len());
    }
    text
}

/// Returns the beginning of a text, at most `limit` bytes.
pub(crate) fn shorten(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
