//! Checks of the caller's arguments, before any request is sent.

use std::fmt;
use std::ops::RangeInclusive;

use crate::error::{Error, Status};

pub(super) use crate::tables::PROJECT_OR_INSTANCE_ID;

/// The length of a report's id in characters, from the documentation of
/// DownloadAuditReport.
pub(super) const REPORT_ID: RangeInclusive<usize> = 16..=64;

/// Decodes the bytes of a parameter as UTF-8.
pub fn utf8<'a>(bytes: &'a [u8], parameter: &'static str) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|e| {
        Error::argument(
            Status::InvalidUtf8,
            parameter,
            format_args!("must be UTF-8, but is not at byte {}", e.valid_up_to() + 1),
        )
    })
}

/// Formats any character so that it is safe in a message.
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

/// Checks an id. All ids of the service consist of these characters; any other in a path
/// segment is a mistake or an attack.
pub(super) fn check_id(
    id: &str,
    parameter: &'static str,
    length: RangeInclusive<usize>,
) -> Result<(), Error> {
    let invalid = |what: fmt::Arguments<'_>| Err(Error::argument(Status::InvalidId, parameter, what));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let invalid_character = id.bytes().position(|b| !allowed(b));
    if let Some((position, c)) = invalid_character.and_then(|at| Some((at, id[at..].chars().next()?))) {
        return invalid(format_args!(
            "{} at byte {} is not allowed; an id has only ASCII letters, digits, '-' and '_'",
            SanitizedChar(c),
            position + 1
        ));
    }
    if !length.contains(&id.len()) {
        return invalid(format_args!(
            "must have {} to {} characters, but has {}",
            length.start(),
            length.end(),
            id.len()
        ));
    }
    Ok(())
}

/// Checks a project's id, if there is one.
pub(super) fn check_project(project: Option<&str>) -> Result<(), Error> {
    project.map_or(Ok(()), |project| {
        check_id(project, "project", PROJECT_OR_INSTANCE_ID)
    })
}

/// Returns the digits of a text. Times in different notations are compared by their
/// digits.
pub(super) fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_ids_are_refused() {
        let check =
            |id: &str| check_id(id, "id", REPORT_ID).map_err(|e| (e.status(), e.message().to_owned()));
        assert_eq!(check("aA0-_aA0-_aA0-_a"), Ok(()));
        assert_eq!(check(&"x".repeat(64)), Ok(()));
        for (id, expected) in [
            ("x".repeat(15), "has 15"),
            ("x".repeat(65), "has 65"),
            (String::new(), "has 0"),
            (format!("{}/{}", "x".repeat(16), "y"), "'/' at byte 17"),
            ("..aaaaaaaaaaaaaa".into(), "'.' at byte 1"),
            ("%2Faaaaaaaaaaaaa".into(), "'%' at byte 1"),
            ("aaaaaaaaaaaaaaa\n".into(), "a line feed at byte 16"),
            ("aaaaaaaaaaaaaaaé".into(), "'é' at byte 16"),
        ] {
            let (status, message) = check(&id).expect_err(&id);
            assert_eq!(status, Status::InvalidId);
            assert!(
                message.starts_with("id: ") && message.contains(expected),
                "{message}"
            );
        }
    }
}
