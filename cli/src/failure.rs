//! What went wrong: the message, hints for the likely mistake, and the exit code.

use std::ffi::OsString;
use std::io::Write as _;
use std::sync::OnceLock;

use dbss::{Error, Status};

use crate::output::{columns, printable, wrap};

pub const DONE: u8 = 0;
pub const INTERNAL: u8 = 1;
pub const USAGE: u8 = 2;
pub const REFUSED: u8 = 3;
pub const NOT_FOUND: u8 = 4;
pub const SERVICE: u8 = 5;
pub const NETWORK: u8 = 6;
pub const LOCAL: u8 = 7;
pub const NOTHING_NEW: u8 = 10;
pub const PARTIAL: u8 = 11;
pub const LOCKED: u8 = 12;
pub const CANCELLED: u8 = 130;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub hints: Vec<String>,
    pub code: u8,
    /// The library's error, where it is one.
    pub error: Option<Error>,
    /// Whether it was printed already.
    pub printed: bool,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hints: Vec::new(),
            code,
            error: None,
            printed: false,
        }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(USAGE, message)
    }

    pub fn interrupted() -> Failure {
        Failure::new(CANCELLED, "interrupted")
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// Prints it on standard error.
    pub fn print(&self) {
        if self.printed {
            return;
        }
        let mut lines = vec![format!("dbss: {}", self.message)];
        for detail in self.error.iter().flat_map(|error| error.details()) {
            let [code, message] =
                [&detail.code, &detail.message].map(|part| printable(part.as_deref().unwrap_or("-")));
            lines.push(format!("  {code}: {message}"));
        }
        lines.extend(self.hints.iter().map(|hint| format!("  hint: {hint}")));
        let lines: Vec<_> = lines.iter().map(|line| without_long_words(line)).collect();
        // An argument may hold characters that drive the terminal.
        let lines = lines.iter().flat_map(|text| text.lines()).map(printable);
        let text = lines.collect::<Vec<_>>().join("\n");
        write_stderr(&match columns(std::io::stderr()) {
            Some(width) => text.lines().map(|line| wrapped(line, width)).collect(),
            None => text + "\n",
        });
    }
}

/// The words of the command line.
static WORDS: OnceLock<Vec<OsString>> = OnceLock::new();

pub fn remember_words(words: &[OsString]) {
    let _ = WORDS.set(words.to_vec());
}

/// A text to show, in which the words of the command line that are longer than any name or
/// id are shortened: one may be a secret in the wrong place.
pub fn without_long_words(text: &str) -> String {
    let mut text = text.to_owned();
    for word in WORDS.get().into_iter().flatten() {
        let word = word.to_string_lossy();
        for part in [&*word, word.split_once('=').map_or("", |(_, value)| value)] {
            text = shorten(&text, part);
        }
    }
    text
}

/// The longest part of a path, and the longest other word, that a message quotes whole.
const LONGEST_PART: usize = 255;
const LONGEST_WORD: usize = 64;

/// A text that quotes only the beginning of a word, if that is too long.
fn shorten(text: &str, word: &str) -> String {
    let longest = match word.contains('/') {
        true => LONGEST_PART,
        false => LONGEST_WORD,
    };
    if !word.split('/').any(|part| part.chars().count() > longest) {
        return text.to_owned();
    }
    // The message may have only its beginning.
    let beginning: String = word.chars().take(LONGEST_WORD).collect();
    let mut shortened = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(&beginning) {
        let (before, found) = rest.split_at(start);
        let len = found.len().min(word.len());
        let len = (0..=len).rev().find(|len| found.get(..*len) == word.get(..*len));
        shortened += before;
        shortened.extend(word.chars().take(8));
        shortened.push('…');
        rest = &found[len.unwrap_or(beginning.len())..];
    }
    shortened + rest
}

/// A line in as many as a terminal needs; those that follow the first are indented.
fn wrapped(line: &str, width: usize) -> String {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    let rest = indent + 2;
    if width < 20 {
        return format!("{line}\n");
    }
    let lines = wrap(text, width - rest);
    let start = |i| " ".repeat(if i == 0 { indent } else { rest });
    lines
        .iter()
        .enumerate()
        .map(|(i, line)| format!("{}{line}\n", start(i)))
        .collect()
}

/// Writes to standard error. Ignores its failures: there is nowhere to report them.
pub fn write_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The exit code for an error. New statuses may appear in a group, so it is the group
/// that decides.
pub fn exit_code(status: Status) -> u8 {
    match status {
        Status::Unauthenticated | Status::Forbidden => return REFUSED,
        Status::NotFound => return NOT_FOUND,
        Status::Partial => return PARTIAL,
        Status::MirrorLocked => return LOCKED,
        _ => {}
    }
    match status as i32 / 100 {
        1 => USAGE,
        2 => SERVICE,
        3 => NETWORK,
        4 | 5 => LOCAL,
        6 => CANCELLED,
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use dbss::Status;

    use super::exit_code;
    use crate::args::EXIT_CODES;

    #[test]
    fn each_status_has_its_exit_code() {
        for &status in Status::ALL.iter().filter(|one| **one != Status::Ok) {
            let expected = match status as i32 {
                202 | 203 => 3,
                204 => 4,
                212 => 11,
                405 => 12,
                100..200 => 2,
                200..300 => 5,
                300..400 => 6,
                400..600 => 7,
                600..700 => 130,
                700..800 => 1,
                other => panic!("{other} is in no known group"),
            };
            assert_eq!(exit_code(status), expected, "{status:?}");
            // The help has each of them.
            let line = format!("{expected:>5}  ");
            assert!(EXIT_CODES.lines().any(|one| one.starts_with(&line)), "{expected}");
        }
    }
}
