//! Checks of what a caller passes, before any traffic.

use std::fmt;
use std::ops::RangeInclusive;

use crate::error::{Error, Status};

pub(super) use crate::tables::PROJECT_OR_INSTANCE_ID;

/// The length of a report's id in characters, from the service's page of
/// DownloadAuditReport.
pub(super) const REPORT_ID: RangeInclusive<usize> = 16..=64;

/// The text that these bytes of a parameter are.
pub fn utf8<'a>(bytes: &'a [u8], parameter: &'static str) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|e| {
        Error::argument(
            Status::InvalidUtf8,
            parameter,
            format_args!("must be UTF-8, and is not at byte {}", e.valid_up_to()),
        )
    })
}

/// A character as it can stand in a message, whatever it is.
pub(super) struct SanitizedChar(pub(super) char);

impl fmt::Display for SanitizedChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ' ' => f.write_str("a space"),
            '\r' => f.write_str("a carriage return"),
            '\n' => f.write_str("a line feed"),
            '\0' => f.write_str("a NUL"),
            c => write!(f, "'{}'", c.escape_debug()),
        }
    }
}

/// Every id that the service gives is made of these characters; any other, in
/// a segment of a path, is a mistake or an attack.
pub(super) fn check_id(
    id: &str,
    parameter: &'static str,
    length: RangeInclusive<usize>,
) -> Result<(), Error> {
    let invalid = |what: fmt::Arguments<'_>| Err(Error::argument(Status::InvalidId, parameter, what));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let wrong = id.bytes().position(|b| !allowed(b));
    if let Some((position, c)) = wrong.and_then(|at| Some((at, id[at..].chars().next()?))) {
        return invalid(format_args!(
            "{} at byte {position} is not allowed; an id has only ASCII letters, digits, '-' and '_'",
            SanitizedChar(c)
        ));
    }
    if !length.contains(&id.len()) {
        return invalid(format_args!(
            "must have {} to {} characters, and has {}",
            length.start(),
            length.end(),
            id.len()
        ));
    }
    Ok(())
}

/// Checks a project's id, where a call is given one.
pub(super) fn check_project(project: Option<&str>) -> Result<(), Error> {
    project.map_or(Ok(()), |project| {
        check_id(project, "project", PROJECT_OR_INSTANCE_ID)
    })
}

/// The digits of a text, by which times are compared however they are written.
pub(super) fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_by_character_and_length() {
        let check =
            |id: &str| check_id(id, "id", REPORT_ID).map_err(|e| (e.status(), e.message().to_owned()));
        assert_eq!(check("aA0-_aA0-_aA0-_a"), Ok(()));
        assert_eq!(check(&"x".repeat(64)), Ok(()));
        for (id, says) in [
            ("x".repeat(15), "has 15"),
            ("x".repeat(65), "has 65"),
            (String::new(), "has 0"),
            (format!("{}/{}", "x".repeat(16), "y"), "'/' at byte 16"),
            ("..aaaaaaaaaaaaaa".into(), "'.' at byte 0"),
            ("%2Faaaaaaaaaaaaa".into(), "'%' at byte 0"),
            ("aaaaaaaaaaaaaaa\n".into(), "a line feed at byte 15"),
            ("aaaaaaaaaaaaaaaé".into(), "'é' at byte 15"),
        ] {
            let (status, message) = check(&id).expect_err(&id);
            assert_eq!(status, Status::InvalidId);
            assert!(message.starts_with("id: ") && message.contains(says), "{message}");
        }
    }
}
