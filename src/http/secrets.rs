//! Redacts secrets that were sent from texts that the server returns.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use ::http::HeaderValue;
use ::http::header::{AUTHORIZATION, HeaderMap};
use arc_swap::ArcSwapOption;
use memchr::memmem;
use zeroize::{Zeroize, Zeroizing};

use super::content::{safe_filename, safe_name};
use crate::memory;
use crate::text::is_deceptive;

/// The shortest text that is redacted. Shorter ones occur by chance.
const MIN_SECRET: usize = 8;

/// The shortest part of a secret that is redacted anywhere.
const MIN_PART: usize = 32;

/// The longest text that is searched: the search takes many times the text's memory. A
/// longer text that may contain a secret is redacted completely.
const MAX_TEXT: usize = 16 * 1024;

/// The most memory that the search takes for each byte of text.
const MEMORY_PER_BYTE: usize = 64;

const REDACTED: &str = "***";

/// The secrets of a request: its sensitive headers, and those in its body. A server may
/// echo them, and its texts end up in errors and logs.
pub(crate) struct Secrets {
    headers: Vec<HeaderValue>,
    others: Vec<Zeroizing<String>>,
    token: Option<Arc<Token>>,
    /// The filter for all but the token. Boxed, since a call's stack may be small.
    filter: OnceLock<Box<Filter>>,
}

/// A token, with its filter.
struct Token {
    value: HeaderValue,
    filter: Filter,
}

/// A cache of the last token: nearly always the next request has the same.
#[derive(Default)]
pub(crate) struct LastToken(ArcSwapOption<Token>);

impl fmt::Debug for LastToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastToken(***)")
    }
}

impl LastToken {
    pub(crate) fn forget(&self) {
        self.0.store(None);
    }

    fn with_filter(&self, value: &HeaderValue) -> Arc<Token> {
        // Clones of one header value share their bytes, and this clone keeps them alive.
        let last = self.0.load();
        if let Some(token) = &*last
            && std::ptr::eq(token.value.as_bytes(), value.as_bytes())
        {
            return Arc::clone(token);
        }
        let token = Arc::new(Token {
            value: value.clone(),
            filter: Filter::of(&[value.as_bytes()]),
        });
        self.0.store(Some(Arc::clone(&token)));
        token
    }
}

impl Secrets {
    pub(crate) fn of(headers: &HeaderMap, others: &[Zeroizing<String>], last: &LastToken) -> Secrets {
        let mut token = None;
        let mut secret = Vec::new();
        for (name, value) in headers.iter().filter(|(_, value)| value.is_sensitive()) {
            // Signatures differ each time, so caching them is useless.
            if name == AUTHORIZATION || token.is_some() || value.len() < MIN_SECRET {
                secret.push(value.clone());
            } else {
                token = Some(last.with_filter(value));
            }
        }
        Secrets {
            headers: secret,
            others: others.to_vec(),
            token,
            filter: OnceLock::new(),
        }
    }

    /// Adds the secrets of another request of the same call.
    pub(crate) fn add(&mut self, headers: &HeaderMap) {
        let sensitive = headers
            .iter()
            .filter(|(name, value)| value.is_sensitive() && *name == AUTHORIZATION);
        self.headers.extend(sensitive.map(|(_, value)| value.clone()));
        self.filter = OnceLock::new();
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let token = self.token.iter().map(|token| token.value.as_bytes());
        token.chain(self.each_other())
    }

    fn each_other(&self) -> impl Iterator<Item = &[u8]> {
        let headers = self.headers.iter().map(HeaderValue::as_bytes);
        headers
            .chain(self.others.iter().map(|s| s.as_bytes()))
            .filter(|secret| secret.len() >= MIN_SECRET)
    }

    /// Whether a text may contain a secret. A quick test, which is false for nearly all texts.
    pub(crate) fn may_occur_in(&self, text: &str) -> bool {
        if text.len() < MIN_SECRET {
            return false;
        }
        let text = text.as_bytes();
        self.token
            .as_ref()
            .is_some_and(|token| token.filter.may_match(text))
            || self.each_other().next().is_some()
                && self
                    .filter
                    .get_or_init(|| Box::new(Filter::of(&self.each_other().collect::<Vec<_>>())))
                    .may_match(text)
    }

    /// Removes secrets from a text: also if they are percent-encoded, escaped as in JSON, or
    /// folded; also long parts of them, and the beginning of one at the end of the text.
    pub(crate) fn redact(&self, text: String) -> String {
        if !self.may_occur_in(&text) {
            return text;
        }
        let is_small = text.len() < MIN_SECRET * MIN_PART;
        if text.len() > MAX_TEXT || !is_small && memory::probe(text.len() * MEMORY_PER_BYTE).is_err() {
            return REDACTED.to_owned();
        }
        let mut found: Vec<Range<usize>> = Vec::new();
        for undo in undo_modes(text.as_bytes()) {
            let comparable = ComparableText::of(text.as_bytes(), *undo).stripped();
            for secret in self.each() {
                // The secret itself may contain escapes, which a server may undo.
                for undo_in_secret in undo_modes(secret) {
                    let form = ComparableText::of(secret, *undo_in_secret).stripped();
                    if form.bytes.len() >= MIN_SECRET {
                        find_secret(&comparable, &form.bytes, &mut found);
                    } else if *undo_in_secret == Undo::Nothing {
                        // The stripped form is too short, so search for the exact secret.
                        find_secret(&ComparableText::of(text.as_bytes(), *undo), secret, &mut found);
                    }
                }
            }
        }
        if found.is_empty() {
            return text;
        }
        found.sort_unstable_by_key(|part| part.start);
        let mut clean = String::with_capacity(text.len());
        let mut at = 0;
        for Range { mut start, mut end } in found {
            // A long part may begin and end inside a character.
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            while !text.is_char_boundary(end) {
                end += 1;
            }
            if start >= at {
                clean += text.get(at..start).unwrap_or_default();
                clean += REDACTED;
            }
            at = at.max(end);
        }
        clean + text.get(at..).unwrap_or_default()
    }

    /// Returns the redacted file name in a `Content-Disposition`. The header is redacted
    /// before decoding, since safe names replace some characters. The name is redacted
    /// after it, since decoding reveals other encodings.
    pub(super) fn filename(&self, disposition: &str) -> Option<String> {
        let name = if self.may_occur_in(disposition) {
            safe_filename(&self.redact(disposition.to_owned()))
        } else {
            safe_filename(disposition)
        };
        safe_name(&self.redact(name?))
    }
}

/// Which escapes to undo in a text.
#[derive(Clone, Copy, PartialEq)]
enum Undo {
    Nothing,
    Percent,
    Json,
    Both,
}

/// Returns the ways in which a text may have to be read. A text may contain what looks like
/// an escape of one kind and is none, beside escapes of the other.
fn undo_modes(text: &[u8]) -> &'static [Undo] {
    let has = |byte| memchr::memchr(byte, text).is_some();
    match (has(b'%'), has(b'\\')) {
        (false, false) => &[Undo::Nothing],
        (true, false) => &[Undo::Nothing, Undo::Percent],
        (false, true) => &[Undo::Nothing, Undo::Json],
        (true, true) => &[Undo::Nothing, Undo::Percent, Undo::Json, Undo::Both],
    }
}

/// A byte, or the up to four bytes of a decoded escape.
struct Unit {
    bytes: [u8; 4],
    len: usize,
    /// Its position in the text.
    position: Range<usize>,
}

/// Decodes a percent-encoded byte or a JSON escape. Returns its bytes, how many they are,
/// and the length of the escape.
fn escape(rest: &[u8], undo: Undo) -> Option<([u8; 4], usize, usize)> {
    let hex = |digits: &[u8]| {
        digits.iter().try_fold(0, |value, digit| {
            Some(value << 4 | char::from(*digit).to_digit(16)?)
        })
    };
    match rest {
        [b'%', ..] if undo == Undo::Json => None,
        [b'\\', ..] if undo == Undo::Percent => None,
        [b'%', one, two, ..] => {
            let value = u8::try_from(hex(&[*one, *two])?).ok()?;
            Some(([value, 0, 0, 0], 1, 3))
        }
        [b'\\', b'u', ..] => {
            let first = hex(rest.get(2..6)?)?;
            let second = match rest.get(6..12) {
                Some([b'\\', b'u', digits @ ..]) => hex(digits),
                _ => None,
            };
            let (code, len) = match (first, second) {
                (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                    (0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00), 12)
                }
                _ => (first, 6),
            };
            let mut bytes = [0; 4];
            // Half of a surrogate pair is not a character.
            let written = char::from_u32(code).map_or(0, |c| c.encode_utf8(&mut bytes).len());
            Some((bytes, written, len))
        }
        [b'\\', letter, ..] => {
            let value = match letter {
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 12,
                b'r' => b'\r',
                b'"' | b'\\' | b'/' => *letter,
                _ => return None,
            };
            Some(([value, 0, 0, 0], 1, 2))
        }
        _ => None,
    }
}

/// Iterates over the bytes of a text, with its escapes undone or not.
fn units(text: &[u8], undo: Undo) -> impl Iterator<Item = Unit> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = *text.get(at)?;
        let undone = if undo == Undo::Nothing {
            None
        } else {
            escape(&text[at..], undo)
        };
        let (bytes, len, taken) = undone.unwrap_or(([first, 0, 0, 0], 1, 1));
        let position = at..at + taken;
        at += taken;
        Some(Unit { bytes, len, position })
    })
}

/// A text in the form in which it is searched or compared.
struct ComparableText<'a> {
    bytes: Cow<'a, [u8]>,
    /// The position of each byte in the original text; `None` if they are the same.
    positions: Option<Vec<Range<usize>>>,
}

/// A text may be cut inside an escape, and a secret's beginning stand before that.
fn without_unfinished_escape(text: &[u8]) -> &[u8] {
    let start = text.len().saturating_sub("\\u000".len());
    let end = (start..text.len()).find(|at| match &text[*at..] {
        [b'%'] | [b'\\'] => true,
        [b'%', digit] => digit.is_ascii_hexdigit(),
        [b'\\', b'u', digits @ ..] => digits.len() < 4 && digits.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    });
    &text[..end.unwrap_or(text.len())]
}

impl ComparableText<'_> {
    fn of(text: &[u8], undo: Undo) -> ComparableText<'_> {
        if undo == Undo::Nothing {
            return ComparableText {
                bytes: Cow::Borrowed(text),
                positions: None,
            };
        }
        let text = without_unfinished_escape(text);
        let mut bytes = Vec::with_capacity(text.len());
        let mut positions = Vec::with_capacity(text.len());
        for unit in units(text, undo) {
            for byte in &unit.bytes[..unit.len] {
                bytes.push(*byte);
                positions.push(unit.position.clone());
            }
        }
        ComparableText {
            bytes: Cow::Owned(bytes),
            positions: Some(positions),
        }
    }

    fn position(&self, index: usize) -> Range<usize> {
        self.positions
            .as_ref()
            .map_or(index..index + 1, |positions| positions[index].clone())
    }

    /// Removes characters that may be added on the way: blanks, backslashes and invisible
    /// ones.
    fn stripped(self) -> Self {
        if self.bytes.iter().all(|b| is_visible(*b)) {
            return self;
        }
        let mut keep = Vec::with_capacity(self.bytes.len());
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                let kept = c != '\\' && !c.is_whitespace() && !c.is_control() && !is_deceptive(c);
                keep.extend(std::iter::repeat_n(kept, c.len_utf8()));
            }
            keep.extend(std::iter::repeat_n(true, chunk.invalid().len()));
        }
        let kept = || (0..self.bytes.len()).filter(|i| keep[*i]);
        // A vector that grows leaves copies in freed memory.
        let mut bytes = Vec::with_capacity(self.bytes.len());
        bytes.extend(kept().map(|i| self.bytes[i]));
        ComparableText {
            bytes: Cow::Owned(bytes),
            positions: Some(kept().map(|i| self.position(i)).collect()),
        }
    }
}

impl Drop for ComparableText<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(bytes) = &mut self.bytes {
            bytes.zeroize();
        }
    }
}

/// A Bloom filter of the secrets' 4-grams, for a quick test of texts.
struct Filter {
    /// A bit for each four adjacent bytes of a secret.
    ngrams: Vec<u64>,
    /// Whether a secret has too little plain ASCII for the filter, so all texts match.
    matches_all: bool,
}

/// The number of 4-grams in [`MIN_SECRET`] bytes.
const RUN_LENGTH: usize = MIN_SECRET - 3;

impl Filter {
    fn of(secrets: &[&[u8]]) -> Filter {
        // About one bit of 32 is set. With more than 8 KiB of secrets it is more, and then
        // more texts are searched in vain.
        let len = secrets.iter().map(|secret| secret.len()).sum::<usize>();
        let words = (len / 2).clamp(64, 4096).next_power_of_two();
        let mut filter = Filter {
            ngrams: Vec::new(),
            matches_all: false,
        };
        if memory::reserve(&mut filter.ngrams, words).is_err() {
            filter.matches_all = true;
            return filter;
        }
        filter.ngrams.resize(words, 0);
        for secret in secrets {
            for undo in undo_modes(secret) {
                let (mut last, mut len) = (0, 0);
                any_visible(secret, *undo, |byte| {
                    last = last << 8 | u32::from(byte);
                    let (word, bit) = filter.position(last);
                    filter.ngrams[word] |= bit;
                    len += 1;
                    false
                });
                let is_ascii = units(secret, *undo).all(|unit| unit.bytes.is_ascii());
                filter.matches_all |= !is_ascii || len < MIN_SECRET && *undo == Undo::Nothing;
            }
        }
        filter
    }

    /// Returns the word and the bit of a 4-gram.
    fn position(&self, ngrams: u32) -> (usize, u64) {
        let hash = ngrams.wrapping_mul(0x9e37_79b1) >> 14;
        // The length is a power of two.
        let word = (hash as usize / 64) & (self.ngrams.len() - 1);
        (word, 1 << (hash % 64))
    }

    fn has(&self, ngrams: u32) -> bool {
        let (word, bit) = self.position(ngrams);
        self.ngrams[word] & bit != 0
    }

    fn may_match(&self, text: &[u8]) -> bool {
        let has_run = |undo| self.may_have_run(text, undo) && self.has_run(text, undo);
        self.matches_all || undo_modes(text).iter().any(|undo| has_run(*undo))
    }

    /// Checks only some 4-grams, so that each run contains one of them.
    fn may_have_run(&self, text: &[u8], undo: Undo) -> bool {
        let (mut wait, mut last) = (RUN_LENGTH, 0);
        any_visible(text, undo, |byte| {
            last = last << 8 | u32::from(byte);
            wait -= 1;
            wait == 0 && {
                wait = RUN_LENGTH;
                self.has(last)
            }
        })
    }

    fn has_run(&self, text: &[u8], undo: Undo) -> bool {
        let (mut run, mut last) = (0, 0);
        any_visible(text, undo, |byte| {
            last = last << 8 | u32::from(byte);
            run = if self.has(last) { run + 1 } else { 0 };
            run == RUN_LENGTH
        })
    }
}

/// Whether `is_wanted` is true for any ASCII byte that [`ComparableText::stripped`] keeps.
fn any_visible(text: &[u8], undo: Undo, mut is_wanted: impl FnMut(u8) -> bool) -> bool {
    let mut take = |byte: &u8| is_visible(*byte) && is_wanted(*byte);
    if undo != Undo::Nothing {
        units(text, undo).any(|unit| unit.bytes[..unit.len].iter().any(&mut take))
    } else {
        text.iter().any(take)
    }
}

fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'\\'
}

/// Adds the positions of a secret, or of long enough parts of it.
fn find_secret(text: &ComparableText<'_>, secret: &[u8], found: &mut Vec<Range<usize>>) {
    let mut add = |part: Range<usize>| {
        found.push(text.position(part.start).start..text.position(part.end - 1).end);
    };
    let bytes = &text.bytes[..];
    for at in memmem::find_iter(bytes, secret) {
        add(at..at + secret.len());
    }
    if bytes.len() >= MIN_PART && secret.len() >= MIN_PART {
        find_parts(bytes, secret, &mut add);
    }
    // Find the beginning of the secret at the end of the text.
    let longest = secret.len().min(bytes.len());
    let cut = (MIN_SECRET..=longest)
        .rev()
        .find(|n| bytes.ends_with(&secret[..*n]));
    if let Some(n) = cut {
        add(bytes.len() - n..bytes.len());
    }
}

fn find_parts(text: &[u8], secret: &[u8], add: &mut impl FnMut(Range<usize>)) {
    // Every part of at least MIN_PART bytes contains a complete aligned block.
    const BLOCK: usize = MIN_PART / 2;
    let mut from = 0;
    while let Some(wanted) = text.get(from..from + BLOCK) {
        let finder = memmem::Finder::new(wanted);
        let mut next = 0;
        // Overlapping matches count too, which the crate's iterator skips.
        let positions = std::iter::from_fn(|| {
            let at = next + finder.find(secret.get(next..)?)?;
            next = at + 1;
            Some(at)
        });
        let parts = positions.filter_map(|at| {
            let back = common_prefix(text[..from].iter().rev(), secret[..at].iter().rev());
            let on = common_prefix(text[from..].iter(), secret[at..].iter());
            (back + on >= MIN_PART).then_some(from - back..from + on)
        });
        // A repetitive secret has many matches, and a few of them are enough.
        let part = parts.take(32).max_by_key(Range::len);
        from = part.as_ref().map_or(from + BLOCK, |part| part.end);
        part.into_iter().for_each(&mut *add);
    }
}

/// Returns the length of the common prefix.
fn common_prefix<'a>(one: impl Iterator<Item = &'a u8>, other: impl Iterator<Item = &'a u8>) -> usize {
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
        Secrets::of(
            &headers,
            &[Zeroizing::new("pässwörd one".to_owned())],
            &LastToken::default(),
        )
    }

    #[test]
    fn only_secrets_are_redacted() {
        let secrets = secrets(&["MIIabc+/=token", "another-secret"]);
        let redact = |text: &str| secrets.redact(text.to_owned());
        assert_eq!(redact("bad MIIabc+/=token, MIIabc+/=token!"), "bad ***, ***!");
        assert_eq!(redact("another-secretMIIabc+/=token"), "******");
        assert_eq!(redact("not-a-secret é"), "not-a-secret é");
        assert_eq!(redact("wrong: pässwörd one, pässwörd"), "wrong: ***, ***");
    }

    #[test]
    fn signature_of_a_later_request_is_redacted() {
        let signed = |signature| {
            let mut value = HeaderValue::from_static(signature);
            value.set_sensitive(true);
            HeaderMap::from_iter([(AUTHORIZATION, value)])
        };
        let mut secrets = Secrets::of(&signed("Signature=0123456789"), &[], &LastToken::default());
        let text = "bad Signature=0123456789 and Signature=abcdefghij";
        assert_eq!(
            secrets.redact(text.to_owned()),
            "bad *** and Signature=abcdefghij"
        );
        secrets.add(&signed("Signature=abcdefghij"));
        assert_eq!(secrets.redact(text.to_owned()), "bad *** and ***");
    }

    #[test]
    fn secret_cut_at_end_of_text_is_redacted() {
        let secrets = secrets(&["MIIabc+/=token"]);
        let redact = |text: &str| secrets.redact(text.to_owned());
        assert_eq!(redact("bad MIIabc+/=toke"), "bad ***");
        assert_eq!(redact("bad MIIabc+/"), "bad ***");
        assert_eq!(
            redact("bad MIIabc"),
            "bad MIIabc",
            "too short to be told from chance"
        );
        assert_eq!(redact(""), "");
    }

    #[test]
    fn secret_with_one_kind_of_escape_is_redacted_in_the_other() {
        let password = Zeroizing::new("Pa\\nss%20<word-longer".to_owned());
        let secrets = Secrets::of(&HeaderMap::new(), &[password], &LastToken::default());
        for form in [
            "Pa\\\\nss%20\\u003cword-longer",
            "Pa\\nss%20<word-longer",
            "Pa%5Cnss%2520%3Cword-longer",
        ] {
            assert_eq!(secrets.redact(format!("bad {form}!")), "bad ***!", "{form}");
        }
    }

    #[test]
    fn secret_cut_inside_an_escape_is_redacted() {
        let secrets = secrets(&["MIIabc+/=token-of-iam"]);
        for end in ["%", "%2", "\\", "\\u", "\\u00", "\\u002"] {
            let text = format!("bad MIIabc%2B/=tok{end}");
            assert_eq!(secrets.redact(text), format!("bad ***{end}"));
        }
    }

    #[test]
    fn encoded_secrets_and_long_parts_are_redacted() {
        let secrets = secrets(&["MIIabc+/=token", "0123456789abcdefghijklmnopqrstuvwxyz"]);
        let redact = |text: &str| secrets.redact(text.to_owned());
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
            assert_eq!(redact(text), "bad ***!", "{text}");
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
            assert_eq!(redact(text), kept);
        }
    }

    #[test]
    fn secret_with_repeated_beginning_is_redacted() {
        for secret in ["11111112", "aaaaaaaB", "abababac", "xyxyxyxyQ!", "aabaabaabaac"] {
            let secrets = secrets(&[secret]);
            for before in ["", "x", "xy", "xyz"] {
                let text = format!("{before}{secret}?");
                assert_eq!(secrets.redact(text), format!("{before}***?"));
            }
        }
        let token = "abcabcabd".repeat(20);
        let secrets = Secrets::of(
            &HeaderMap::new(),
            &[Zeroizing::new(token.clone())],
            &LastToken::default(),
        );
        for start in 0..9 {
            let text = format!("x{}", &token[start..start + 40]);
            assert_eq!(secrets.redact(text), "x***", "{start}");
        }
    }

    #[test]
    fn secret_of_any_characters_is_redacted_in_every_form() {
        let percent = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02X}")).collect() };
        let some = |text: &str| -> String {
            let is_plain = |b: &u8| b.is_ascii_alphanumeric();
            let byte = |b: u8| {
                if is_plain(&b) {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02x}")
                }
            };
            text.bytes().map(byte).collect()
        };
        let json = |text: &str| {
            let quoted = serde_json::to_string(text).expect("a text");
            quoted[1..quoted.len() - 1].to_owned()
        };
        let units = |text: &str| -> String { text.encode_utf16().map(|u| format!("\\u{u:04x}")).collect() };
        let folded = |text: &str| {
            let middle = text.char_indices().nth(1).map_or(0, |(at, _)| at);
            format!("{}\u{ad}\r\n {}", &text[..middle], &text[middle..])
        };
        for secret in [
            "correct horse battery",
            "pass\\word12",
            "DOM\\tword12",
            "Ab%20%21c!",
            "S3cret%41word",
            "%20%20%20",
            "abcd%2Fefghij",
            "a b c d e f",
            "a         b",
            "a\\u0041bcdefgh",
            "a\\\\u0041bcdefgh",
            "tab\tsecret99",
            "quote\"sec\"ret",
            "gehéim-wort",
            "пароль-секрет",
            "密码密码密码",
            "\u{1f600}\u{1f600}\u{1f600}",
        ] {
            let secrets = Secrets::of(
                &HeaderMap::new(),
                &[Zeroizing::new(secret.to_owned())],
                &LastToken::default(),
            );
            for (form, is_folded) in [
                (secret.to_owned(), false),
                (percent(secret), false),
                (some(secret), false),
                (json(secret), false),
                (units(secret), false),
                (folded(secret), true),
            ] {
                let seen = secrets.redact(format!("é: {form}!"));
                // A secret with few visible characters is searched in its exact form only.
                let visible = secret.bytes().filter(|b| *b != b' ').count();
                if !is_folded || visible >= MIN_SECRET {
                    assert_eq!(seen, "é: ***!", "{secret} as {form}");
                }
            }
            assert_eq!(
                secrets.redact("nothing of it here".to_owned()),
                "nothing of it here"
            );
        }
        let secrets = secrets(&["abcd%2Fefghij"]);
        assert_eq!(secrets.redact("undone: abcd/efghij".to_owned()), "undone: ***");
    }

    #[test]
    fn invalid_escapes_are_unchanged() {
        let others = ["0123456789", "pass\\word12"].map(|secret| Zeroizing::new(secret.to_owned()));
        let secrets = Secrets::of(&HeaderMap::new(), &others, &LastToken::default());
        for text in [
            "%+1%",
            "\\u+123",
            "\\ud800",
            "\\ud83d\\u0041",
            "\\",
            "%e9 \\x",
            "01234567 \\ud83d%",
        ] {
            let text = format!("é {text} word");
            assert_eq!(secrets.redact(text.clone()), text);
        }
        assert_eq!(secrets.redact("\\ud83d0123456789".to_owned()), "\\ud83d***");
        assert!(!secrets.may_occur_in("attachment; filename*=UTF-8''%E6%8A%A5%E5%91%8A.pdf"));
        assert!(!secrets.may_occur_in("Wed, 21 Oct 2026 07:28:00 GMT"));
        let long = "0123456789 ".repeat(MAX_TEXT / 8);
        assert_eq!(secrets.redact(long), "***");
    }

    #[test]
    fn part_that_splits_characters_is_redacted() {
        let secret = "é密é密é密é密é密é密é密é密é密é密é密";
        let secrets = Secrets::of(
            &HeaderMap::new(),
            &[Zeroizing::new(secret.to_owned())],
            &LastToken::default(),
        );
        // The last byte of the first character is one of the secret.
        let text = format!("x\u{3a9}{}\u{5bc7}y", &secret[2..37]);
        let seen = secrets.redact(text);
        assert!(
            seen.starts_with('x') && seen.ends_with('y') && seen.contains("***"),
            "{seen}"
        );
        assert!(seen.chars().count() < 8, "{seen}");
    }

    #[test]
    fn filename_with_encoded_secret_is_redacted() {
        let odd = secrets(&["MII:abc\"/token"]);
        for disposition in [
            "attachment; filename=a-MII:abc\"/token.pdf",
            "attachment; filename*=UTF-8''a-MII%3Aabc%22%2Ftoken.pdf",
        ] {
            assert_eq!(odd.filename(disposition).as_deref(), Some("a-___.pdf"));
        }
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
