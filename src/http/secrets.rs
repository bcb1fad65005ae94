//! Keeps what was sent in confidence out of what is said about it.

use std::borrow::Cow;
use std::ops::Range;

use ::http::HeaderValue;
use ::http::header::HeaderMap;
use memchr::memmem;
use zeroize::Zeroizing;

use super::content::{safe_filename, safe_name};
use crate::error::{is_deceptive, shorten};

/// Below this, a text is no secret, and blotting it out would only destroy the
/// text around it.
const SHORTEST: usize = 8;

/// A text that is not plain is decoded with the place of each byte, which takes 17
/// times its size: the rest of a longer one is left out.
const DECODED_LIMIT: usize = 4096;

/// So much of a secret is a secret itself.
const LONG_PART: usize = 32;

const BLOT: &str = "***";

/// The values that a request carried in headers marked as sensitive, and those
/// in its body. A server may echo them, and its words end in errors and logs.
pub(crate) struct Secrets {
    headers: Vec<HeaderValue>,
    others: Vec<Zeroizing<String>>,
}

impl Secrets {
    pub(crate) fn of(headers: &HeaderMap, others: &[Zeroizing<String>]) -> Secrets {
        Secrets {
            headers: headers.values().filter(|v| v.is_sensitive()).cloned().collect(),
            others: others.to_vec(),
        }
    }

    /// `text` without the secrets: also where they are percent-encoded, escaped as
    /// in JSON, or folded; long parts of them; and the beginning of one at its end,
    /// where it was cut.
    pub(crate) fn blot(&self, mut text: String) -> String {
        let headers = self.headers.iter().map(HeaderValue::as_bytes);
        let secrets = headers.chain(self.others.iter().map(|s| s.as_bytes()));
        let secrets: Vec<&[u8]> = secrets
            .filter(|secret| secret.len() >= SHORTEST && may_hold(text.as_bytes(), secret))
            .collect();
        if secrets.is_empty() {
            return text;
        }
        if !is_plain(text.as_bytes()) {
            text.truncate(shorten(&text, DECODED_LIMIT).len());
        }
        let is_short = |secret: &[u8]| text.len() < secret.len().min(LONG_PART);
        let plain = Plain::of(text.as_bytes());
        let mut found: Vec<Range<usize>> = Vec::new();
        for secret in secrets {
            if is_short(secret) {
                find_cut(&plain.bytes, secret, &mut found);
            } else {
                find_parts(&plain.bytes, &Plain::of(secret).bytes, &mut found);
            }
        }
        if found.is_empty() {
            return text;
        }
        found.sort_unstable_by_key(|part| part.start);
        let mut clean = String::with_capacity(text.len());
        let mut at = 0;
        for part in found {
            let (start, end) = (plain.place(part.start).start, plain.place(part.end - 1).end);
            if start >= at {
                clean += text.get(at..start).unwrap_or_default();
                clean += BLOT;
            }
            at = at.max(end);
        }
        clean + text.get(at..).unwrap_or_default()
    }

    /// The file name in a `Content-Disposition`. A secret that is encoded there
    /// shows in the name alone.
    pub(super) fn filename(&self, disposition: &str) -> Option<String> {
        safe_name(&self.blot(safe_filename(disposition)?))
    }
}

/// Whether nothing in a text can be an escape or a blank.
fn is_plain(text: &[u8]) -> bool {
    text.iter()
        .all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'\\'))
}

/// A text without what may be put into it on the way: escapes and blanks.
struct Plain<'a> {
    bytes: Cow<'a, [u8]>,
    /// Where each byte stands in the text; none where it is the text itself.
    places: Option<Vec<Range<usize>>>,
}

impl Plain<'_> {
    fn of(text: &[u8]) -> Plain<'_> {
        if is_plain(text) {
            let (bytes, places) = (Cow::Borrowed(text), None);
            return Plain { bytes, places };
        }
        let (mut bytes, mut places) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()));
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let mut at = 0;
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars() {
                let (start, len) = (at, c.len_utf8());
                at += len;
                // A part of what was just decoded.
                if places.last().is_some_and(|last: &Range<usize>| last.end > start) {
                    continue;
                }
                let rest = &text[start..];
                let decoded = match rest {
                    [b'%', one, two, ..] => hex(&[*one, *two]).map(|byte| (byte, 3)),
                    [b'\\', b'u', b'0', b'0', one, two, ..] => hex(&[*one, *two]).map(|byte| (byte, 6)),
                    _ => None,
                };
                if let Some((byte, len)) = decoded {
                    bytes.push(byte);
                    places.push(start..start + len);
                } else if c != '\\' && !c.is_whitespace() && !c.is_control() && !is_deceptive(c) {
                    bytes.extend_from_slice(&rest[..len]);
                    places.extend(std::iter::repeat_n(start..start + len, len));
                }
            }
            let invalid = chunk.invalid();
            bytes.extend_from_slice(invalid);
            places.extend((at..at + invalid.len()).map(|i| i..i + 1));
            at += invalid.len();
        }
        Plain {
            bytes: Cow::Owned(bytes),
            places: Some(places),
        }
    }

    fn place(&self, index: usize) -> Range<usize> {
        self.places
            .as_ref()
            .map_or(index..index + 1, |places| places[index].clone())
    }
}

/// Whether a text can hold enough of a secret to be looked at closely, which nearly
/// none does: a part has all its pairs of neighbours from the secret.
fn may_hold(text: &[u8], secret: &[u8]) -> bool {
    let is_simple = |b: &u8| b.is_ascii() && !matches!(b, b'%' | b'\\');
    if !text.iter().chain(secret).all(is_simple) {
        return true;
    }
    let pair = |one: u8, other: u8| usize::from(one).wrapping_mul(37) ^ usize::from(other) << 2;
    let mut known = [false; 1024];
    let mut last = 0;
    for byte in secret.iter().filter(|b| b.is_ascii_graphic()) {
        known[pair(last, *byte) % known.len()] = true;
        last = *byte;
    }
    let mut run = 0;
    last = 0;
    text.iter().filter(|b| b.is_ascii_graphic()).any(|byte| {
        run = if known[pair(last, *byte) % known.len()] {
            run + 1
        } else {
            0
        };
        last = *byte;
        run + 1 >= SHORTEST
    })
}

/// Adds where a text holds the secret, or enough of it.
fn find_parts(text: &[u8], secret: &[u8], found: &mut Vec<Range<usize>>) {
    let least = secret.len().clamp(SHORTEST, LONG_PART);
    // Every part that is so long has a whole block of this length in it.
    let block = least.div_ceil(2);
    let mut from = 0;
    while let Some(wanted) = text.get(from..from + block) {
        let part = memmem::find_iter(secret, wanted).find_map(|at| {
            let back = same(text[..from].iter().rev(), secret[..at].iter().rev());
            let on = same(text[from..].iter(), secret[at..].iter());
            (back + on >= least).then_some(from - back..from + on)
        });
        from = part.as_ref().map_or(from + block, |part| part.end);
        found.extend(part);
    }
    find_cut(text, secret, found);
}

/// Adds where a text ends with the beginning of the secret.
fn find_cut(text: &[u8], secret: &[u8], found: &mut Vec<Range<usize>>) {
    let longest = secret.len().min(text.len());
    let cut = (SHORTEST..=longest).rev().find(|n| text.ends_with(&secret[..*n]));
    found.extend(cut.map(|n| text.len() - n..text.len()));
}

/// How many are the same at the beginning.
fn same<'a>(one: impl Iterator<Item = &'a u8>, other: impl Iterator<Item = &'a u8>) -> usize {
    one.zip(other).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&'static str]) -> Secrets {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("not-a-secret"));
        for value in values {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(true);
            headers.append("x-auth-token", value);
        }
        Secrets::of(&headers, &[Zeroizing::new("pässwörd one".to_owned())])
    }

    #[test]
    fn each_secret_goes_wherever_it_stands_and_nothing_else_does() {
        let secrets = secrets(&["MIIabc+/=token", "another-secret"]);
        let blot = |text: &str| secrets.blot(text.to_owned());
        assert_eq!(blot("bad MIIabc+/=token, MIIabc+/=token!"), "bad ***, ***!");
        assert_eq!(blot("another-secretMIIabc+/=token"), "******");
        assert_eq!(blot("not-a-secret é"), "not-a-secret é");
        assert_eq!(blot("wrong: pässwörd one, pässwörd"), "wrong: ***, ***");
    }

    #[test]
    fn a_text_that_was_cut_inside_a_secret_shows_no_part_of_it() {
        let secrets = secrets(&["MIIabc+/=token"]);
        let blot = |text: &str| secrets.blot(text.to_owned());
        assert_eq!(blot("bad MIIabc+/=toke"), "bad ***");
        assert_eq!(blot("bad MIIabc+/"), "bad ***");
        assert_eq!(
            blot("bad MIIabc"),
            "bad MIIabc",
            "too short to be told from chance"
        );
        assert_eq!(blot(""), "");
    }

    #[test]
    fn a_secret_goes_however_it_is_written_and_so_does_a_long_part_of_it() {
        let secrets = secrets(&["MIIabc+/=token", "0123456789abcdefghijklmnopqrstuvwxyz"]);
        let blot = |text: &str| secrets.blot(text.to_owned());
        for text in [
            "bad MIIabc%2B%2f%3Dtoken!",
            "bad MIIabc+\\/=token!",
            "bad \\u004dIIabc\\u002b/=token!",
            "bad MIIabc+/\r\n =to\tken!",
            "bad MII\u{200b}abc+/=\u{ad}token!",
            "bad 23456789abcdefghijklmnopqrstuvwxy!",
            "bad 0123456789abcdefghijklmnopqrstuv!",
            "bad 456789abcdefghijklmnopqrstuvwxyz!",
            "bad 0123456789ab cdefghijklmno%70qrstuvwxyz!",
        ] {
            assert_eq!(blot(text), "bad ***!", "{text}");
        }
        for text in [
            "bad 100% é\\ \u{2028}",
            "bad MIIabc+/= token?",
            "bad 0123456789abcdefghijklm!",
            "%",
            "\\u00",
            "é",
        ] {
            let kept = if text.contains("token") { "bad ***?" } else { text };
            assert_eq!(blot(text), kept);
        }
    }

    #[test]
    fn a_long_text_is_cut_where_it_may_hold_a_secret_in_disguise() {
        let secrets = secrets(&["MIIabc+/=token"]);
        let long = format!("MIIabc%2B/=token{}", " é".repeat(20_000));
        let clean = secrets.blot(long);
        assert!(clean.starts_with("*** é") && clean.len() < DECODED_LIMIT);
        let plain = "x".repeat(20_000);
        assert_eq!(secrets.blot(plain.clone()), plain);
    }

    #[test]
    fn a_file_name_shows_no_secret_however_it_is_encoded() {
        let secrets = secrets(&["MIIabc-token"]);
        for disposition in [
            "attachment; filename=a-MIIabc-token.pdf",
            "attachment; filename*=UTF-8''a-%4DIIabc%2Dtoken.pdf",
            "attachment; filename=\"a-MIIabc\\-token.pdf\"",
            "attachment; filename=\"a-MII\u{200b}abc-token.pdf\"",
        ] {
            assert_eq!(secrets.filename(disposition).as_deref(), Some("a-___.pdf"));
        }
    }
}
