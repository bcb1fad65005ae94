//! Texts of others, made safe to show.

use std::borrow::Cow;

/// Characters that reorder or hide text, or break its line, so that it can look
/// like another: what Unicode calls formats, line ends, blank, and ignorable by default.
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

/// `text` as one line of at most `limit` bytes: it may come from a hostile
/// server and ends in terminals and logs, so it must not start a new line or
/// an escape sequence there, nor turn the text around it.
pub(crate) fn sanitize(text: &str, limit: usize) -> Cow<'_, str> {
    // The C1 range (U+0080 to U+009F) holds escape introducers too.
    let drives = |c: char| c.is_control() || is_deceptive(c);
    if text.len() <= limit && !text.chars().any(drives) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len().min(limit) + '…'.len_utf8());
    for c in text.chars() {
        if line.len() + c.len_utf8() > limit {
            line.push('…');
            break;
        }
        line.push(if drives(c) { ' ' } else { c });
    }
    Cow::Owned(line)
}

/// A text's beginning of at most so many bytes.
pub(crate) fn shorten(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
