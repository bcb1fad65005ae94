//! Keeps what was sent in confidence out of what is said about it.

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

/// Below this, a text is no secret, and blotting it out would only destroy the
/// text around it.
const SHORTEST: usize = 8;

/// So much of a secret is a secret itself.
const LONG_PART: usize = 32;

/// A longer text in which a secret may be is not shown at all: to look for it
/// takes many times the text's memory.
const LONGEST_TEXT: usize = 16 * 1024;

/// So much memory the search takes for each byte, at most.
const ROOM: usize = 64;

const REDACTED: &str = "***";

/// The values that a request carried in headers marked as sensitive, and those
/// in its body. A server may echo them, and its words end in errors and logs.
pub(crate) struct Secrets {
    headers: Vec<HeaderValue>,
    others: Vec<Zeroizing<String>>,
    token: Option<Arc<Token>>,
    /// Of all but the token. Not in place: a call's stack is small.
    filter: OnceLock<Box<Filter>>,
}

/// A token that was sent, with its filter.
struct Token {
    value: HeaderValue,
    filter: Filter,
}

/// The token that was sent last, which nearly always is the next one too.
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
        // Copies of one header share their bytes, and this keeps them where they
        // are.
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
            // A signature is never the same twice.
            if name == AUTHORIZATION || token.is_some() || value.len() < SHORTEST {
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

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let token = self.token.iter().map(|token| token.value.as_bytes());
        token.chain(self.each_other())
    }

    fn each_other(&self) -> impl Iterator<Item = &[u8]> {
        let headers = self.headers.iter().map(HeaderValue::as_bytes);
        headers
            .chain(self.others.iter().map(|s| s.as_bytes()))
            .filter(|secret| secret.len() >= SHORTEST)
    }

    /// Whether a text must be looked at closely, which nearly none must.
    pub(crate) fn may_occur_in(&self, text: &str) -> bool {
        if text.len() < SHORTEST {
            return false;
        }
        let text = text.as_bytes();
        self.token
            .as_ref()
            .is_some_and(|token| token.filter.lets_pass(text))
            || self.each_other().next().is_some()
                && self
                    .filter
                    .get_or_init(|| Box::new(Filter::of(&self.each_other().collect::<Vec<_>>())))
                    .lets_pass(text)
    }

    /// `text` without the secrets: also where they are percent-encoded, escaped as
    /// in JSON, or folded; long parts of them; and the beginning of one at its end,
    /// where it was cut.
    pub(crate) fn redact(&self, text: String) -> String {
        if !self.may_occur_in(&text) {
            return text;
        }
        let is_small = text.len() < SHORTEST * LONG_PART;
        if text.len() > LONGEST_TEXT || !is_small && memory::probe(text.len() * ROOM).is_err() {
            return REDACTED.to_owned();
        }
        let mut found: Vec<Range<usize>> = Vec::new();
        for undo in ways(text.as_bytes()) {
            let plain = Plain::of(text.as_bytes(), *undo).stripped();
            for secret in self.each() {
                // A secret may have escapes of its own, which a server may undo.
                for undo_its_own in ways(secret) {
                    let form = Plain::of(secret, *undo_its_own).stripped();
                    if form.bytes.len() >= SHORTEST {
                        find(&plain, &form.bytes, &mut found);
                    } else if !undo_its_own {
                        // Too little is left of it, so what it lost counts too.
                        find(&Plain::of(text.as_bytes(), *undo), secret, &mut found);
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

    /// The file name in a `Content-Disposition`. Some encodings of a secret show in
    /// the name alone; others no longer do, as some characters are replaced there.
    pub(super) fn filename(&self, disposition: &str) -> Option<String> {
        let name = if self.may_occur_in(disposition) {
            safe_filename(&self.redact(disposition.to_owned()))
        } else {
            safe_filename(disposition)
        };
        safe_name(&self.redact(name?))
    }
}

/// Whether to undo escapes: both ways where there may be some.
fn ways(text: &[u8]) -> &'static [bool] {
    let has_escapes = memchr::memchr2(b'%', b'\\', text).is_some();
    if has_escapes { &[false, true] } else { &[false] }
}

/// A byte as it is, or an escape, which stands for up to four.
struct Unit {
    bytes: [u8; 4],
    len: usize,
    /// Where it stands in the text.
    place: Range<usize>,
}

/// Reads percent-encoding and the escapes of JSON: what they stand for, how many
/// bytes that has, and how many the escape has.
fn escape(rest: &[u8]) -> Option<([u8; 4], usize, usize)> {
    let hex = |digits: &[u8]| {
        digits.iter().try_fold(0, |value, digit| {
            Some(value << 4 | char::from(*digit).to_digit(16)?)
        })
    };
    match rest {
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
            // Half of a pair is no character.
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

/// The bytes of a text, with its escapes undone or not.
fn units(text: &[u8], undo: bool) -> impl Iterator<Item = Unit> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = *text.get(at)?;
        let undone = if undo { escape(&text[at..]) } else { None };
        let (bytes, len, taken) = undone.unwrap_or(([first, 0, 0, 0], 1, 1));
        let place = at..at + taken;
        at += taken;
        Some(Unit { bytes, len, place })
    })
}

/// A text in the form in which it is compared.
struct Plain<'a> {
    bytes: Cow<'a, [u8]>,
    /// Where each byte stands in the text; none where it is the text itself.
    places: Option<Vec<Range<usize>>>,
}

impl Plain<'_> {
    fn of(text: &[u8], undo: bool) -> Plain<'_> {
        if !undo {
            return Plain {
                bytes: Cow::Borrowed(text),
                places: None,
            };
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut places = Vec::with_capacity(text.len());
        for unit in units(text, undo) {
            for byte in &unit.bytes[..unit.len] {
                bytes.push(*byte);
                places.push(unit.place.clone());
            }
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

    /// Without what may be put into a text on the way: blanks, backslashes and what
    /// cannot be seen.
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
        // A vector that grows by itself leaves copies.
        let mut bytes = Vec::with_capacity(self.bytes.len());
        bytes.extend(kept().map(|i| self.bytes[i]));
        Plain {
            bytes: Cow::Owned(bytes),
            places: Some(kept().map(|i| self.place(i)).collect()),
        }
    }
}

impl Drop for Plain<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(bytes) = &mut self.bytes {
            bytes.zeroize();
        }
    }
}

/// A quick test of texts.
struct Filter {
    /// A bit for each four neighbours in a secret: a part has all of its from it.
    neighbours: Vec<u64>,
    /// Whether there is a secret of which too little is plain ASCII.
    lets_all_pass: bool,
}

/// So many neighbours a run of [`SHORTEST`] has.
const LONGEST_RUN: usize = SHORTEST - 3;

impl Filter {
    fn of(secrets: &[&[u8]]) -> Filter {
        // One bit of 32 is set. A secret of more than 8 KiB has more, and then more
        // texts are looked at closely.
        let len = secrets.iter().map(|secret| secret.len()).sum::<usize>();
        let words = (len / 2).clamp(64, 4096).next_power_of_two();
        let mut filter = Filter {
            neighbours: Vec::new(),
            lets_all_pass: false,
        };
        if memory::reserve(&mut filter.neighbours, words).is_err() {
            filter.lets_all_pass = true;
            return filter;
        }
        filter.neighbours.resize(words, 0);
        for secret in secrets {
            for undo in ways(secret) {
                let (mut last, mut len) = (0, 0);
                any_visible(secret, *undo, |byte| {
                    last = last << 8 | u32::from(byte);
                    let (word, bit) = filter.place(last);
                    filter.neighbours[word] |= bit;
                    len += 1;
                    false
                });
                let is_ascii = units(secret, *undo).all(|unit| unit.bytes.is_ascii());
                filter.lets_all_pass |= !is_ascii || len < SHORTEST && !undo;
            }
        }
        filter
    }

    /// The place of four neighbours.
    fn place(&self, neighbours: u32) -> (usize, u64) {
        let hash = neighbours.wrapping_mul(0x9e37_79b1) >> 14;
        // A power of two.
        let word = (hash as usize / 64) & (self.neighbours.len() - 1);
        (word, 1 << (hash % 64))
    }

    fn has(&self, neighbours: u32) -> bool {
        let (word, bit) = self.place(neighbours);
        self.neighbours[word] & bit != 0
    }

    fn lets_pass(&self, text: &[u8]) -> bool {
        let has_run = |undo| self.may_have_run(text, undo) && self.has_run(text, undo);
        self.lets_all_pass || ways(text).iter().any(|undo| has_run(*undo))
    }

    /// Looks at so few places that one of them is in each run.
    fn may_have_run(&self, text: &[u8], undo: bool) -> bool {
        let (mut wait, mut last) = (LONGEST_RUN, 0);
        any_visible(text, undo, |byte| {
            last = last << 8 | u32::from(byte);
            wait -= 1;
            wait == 0 && {
                wait = LONGEST_RUN;
                self.has(last)
            }
        })
    }

    fn has_run(&self, text: &[u8], undo: bool) -> bool {
        let (mut run, mut last) = (0, 0);
        any_visible(text, undo, |byte| {
            last = last << 8 | u32::from(byte);
            run = if self.has(last) { run + 1 } else { 0 };
            run == LONGEST_RUN
        })
    }
}

/// Whether any is wanted of the bytes that [`Plain::stripped`] leaves of a text's
/// ASCII.
fn any_visible(text: &[u8], undo: bool, mut is_wanted: impl FnMut(u8) -> bool) -> bool {
    let mut take = |byte: &u8| is_visible(*byte) && is_wanted(*byte);
    if undo {
        units(text, true).any(|unit| unit.bytes[..unit.len].iter().any(&mut take))
    } else {
        text.iter().any(take)
    }
}

fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'\\'
}

/// Adds where a text holds a secret, or enough of it.
fn find(text: &Plain<'_>, secret: &[u8], found: &mut Vec<Range<usize>>) {
    let mut add = |part: Range<usize>| {
        found.push(text.place(part.start).start..text.place(part.end - 1).end);
    };
    let bytes = &text.bytes[..];
    for at in memmem::find_iter(bytes, secret) {
        add(at..at + secret.len());
    }
    if bytes.len() >= LONG_PART && secret.len() >= LONG_PART {
        find_long_parts(bytes, secret, &mut add);
    }
    // The beginning of the secret at the end of the text.
    let longest = secret.len().min(bytes.len());
    let cut = (SHORTEST..=longest)
        .rev()
        .find(|n| bytes.ends_with(&secret[..*n]));
    if let Some(n) = cut {
        add(bytes.len() - n..bytes.len());
    }
}

fn find_long_parts(text: &[u8], secret: &[u8], add: &mut impl FnMut(Range<usize>)) {
    // Every part that is so long has a whole block of this length in it.
    const BLOCK: usize = LONG_PART / 2;
    let mut from = 0;
    while let Some(wanted) = text.get(from..from + BLOCK) {
        let finder = memmem::Finder::new(wanted);
        let mut next = 0;
        // Those that overlap too, which the crate's iterator leaves out.
        let places = std::iter::from_fn(|| {
            let at = next + finder.find(secret.get(next..)?)?;
            next = at + 1;
            Some(at)
        });
        let parts = places.filter_map(|at| {
            let back = same(text[..from].iter().rev(), secret[..at].iter().rev());
            let on = same(text[from..].iter(), secret[at..].iter());
            (back + on >= LONG_PART).then_some(from - back..from + on)
        });
        // A secret that repeats itself has several, and few of them are enough.
        let part = parts.take(32).max_by_key(Range::len);
        from = part.as_ref().map_or(from + BLOCK, |part| part.end);
        part.into_iter().for_each(&mut *add);
    }
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
        Secrets::of(
            &headers,
            &[Zeroizing::new("pässwörd one".to_owned())],
            &LastToken::default(),
        )
    }

    #[test]
    fn each_secret_goes_wherever_it_stands_and_nothing_else_does() {
        let secrets = secrets(&["MIIabc+/=token", "another-secret"]);
        let redact = |text: &str| secrets.redact(text.to_owned());
        assert_eq!(redact("bad MIIabc+/=token, MIIabc+/=token!"), "bad ***, ***!");
        assert_eq!(redact("another-secretMIIabc+/=token"), "******");
        assert_eq!(redact("not-a-secret é"), "not-a-secret é");
        assert_eq!(redact("wrong: pässwörd one, pässwörd"), "wrong: ***, ***");
    }

    #[test]
    fn a_text_that_was_cut_inside_a_secret_shows_no_part_of_it() {
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
    fn a_secret_goes_however_it_is_written_and_so_does_a_long_part_of_it() {
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
    fn a_secret_whose_beginning_repeats_goes_too() {
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
    fn a_secret_of_any_characters_goes_in_every_form() {
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
                // A secret with few visible characters is looked for as it is.
                let visible = secret.bytes().filter(|b| *b != b' ').count();
                if !is_folded || visible >= SHORTEST {
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
    fn what_is_no_escape_stays() {
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
        let long = "0123456789 ".repeat(LONGEST_TEXT / 8);
        assert_eq!(secrets.redact(long), "***");
    }

    #[test]
    fn a_long_part_may_begin_and_end_inside_a_character() {
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
    fn a_file_name_shows_no_secret_however_it_is_encoded() {
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
