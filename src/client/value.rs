//! Parses option values and checks them against the table of options.

use std::fmt;
use std::time::Duration;

use once_cell::race::OnceBox;

use super::arguments::{SanitizedChar, check_id, digits, utf8};
use crate::error::{Error, Status};
use crate::message::{given, milliseconds, mode, name, no_limit, notation, object};
use crate::tables::{Kind, OptionRow, OptionSet};

/// A checked value, of the option's kind and in its range.
pub(super) enum Value<'a> {
    /// A text, an id or a URL.
    Text(&'a str),
    /// A secret or a path.
    Bytes(&'a [u8]),
    /// A number or a size.
    Number(u64),
    /// A duration. None means no limit.
    Time(Option<Duration>),
    Flag(bool),
    Mode(u32),
    /// A day, as eight digits.
    Day(String),
    Choice(&'static str),
}

/// Finds the option of a key, and parses its value.
pub(super) fn option_value<'a>(
    set: OptionSet,
    key: &str,
    value: &'a [u8],
) -> Result<(&'static str, Value<'a>), Error> {
    let row = set.find(key).ok_or_else(|| unknown_key(set, key))?;
    Ok((row.key(), check(row, value)?))
}

fn unknown_key(set: OptionSet, key: &str) -> Error {
    let hint = if set == OptionSet::Operation && OptionSet::Config.find(key).is_some() {
        format!("; it is an option of a {}, not of one call", object("context"))
    } else {
        nearest_key(set, key).map_or_else(String::new, |near| format!("; did you mean {}?", name(near)))
    };
    Error::argument(
        Status::UnknownKey,
        "key",
        format_args!("there is no option {}{hint}", given(key.escape_debug())),
    )
}

/// Returns the key that was perhaps meant, in any notation and with up to two typing
/// mistakes.
fn nearest_key(set: OptionSet, key: &str) -> Option<&'static str> {
    let plain = |key: &str| {
        let letters = key.chars().filter(char::is_ascii_alphanumeric);
        let plain: String = letters.map(|c| c.to_ascii_lowercase()).take(64).collect();
        plain.trim_end_matches("ms").to_owned()
    };
    let given = plain(key);
    let distances = set
        .options()
        .map(|row| (strsim::osa_distance(&given, &plain(row.key())), row.key()));
    let (distance, nearest) = distances.min()?;
    (distance <= 2.min(given.len() / 3)).then_some(nearest)
}

/// Returns the error for an option that no code handles. A test ensures that there is
/// none.
pub(super) fn unhandled(key: &'static str) -> Error {
    Error::argument(
        Status::Internal,
        key,
        "is an option that libdbss does not implement",
    )
}

fn check<'a>(row: &'static OptionRow, value: &'a [u8]) -> Result<Value<'a>, Error> {
    let key = row.key();
    let must = |what: fmt::Arguments<'_>| {
        let given = given(value.escape_ascii());
        Error::argument(row.status, key, format_args!("must be {what}, but is {given}"))
    };
    let number = || {
        let in_range = |n: &u64| i64::try_from(*n).is_ok_and(|n| (row.minimum..=row.maximum).contains(&n));
        parse_digits(value, 10)
            .filter(in_range)
            .ok_or_else(|| match row.kind {
                Kind::Milliseconds => must(format_args!(
                    "{}from {} to {}{}",
                    notation("a whole number "),
                    milliseconds(row.minimum),
                    milliseconds(row.maximum),
                    no_limit(row.allows_none)
                )),
                _ => must(format_args!(
                    "a whole number from {} to {}",
                    row.minimum, row.maximum
                )),
            })
    };
    match row.kind {
        Kind::Text | Kind::Url => {
            check_length(row, value.len())?;
            let text = utf8(value, key)?;
            if let Some((position, c)) = text.char_indices().find(|(_, c)| c.is_control()) {
                return Err(Error::argument(
                    row.status,
                    key,
                    format_args!("{} at byte {} is not allowed", SanitizedChar(c), position + 1),
                ));
            }
            Ok(Value::Text(text))
        }
        Kind::Id => {
            let length = |bound| usize::try_from(bound).unwrap_or_default();
            let text = utf8(value, key)?;
            check_id(text, key, length(row.minimum)..=length(row.maximum))?;
            Ok(Value::Text(text))
        }
        Kind::Secret | Kind::Path => {
            check_length(row, value.len())?;
            Ok(Value::Bytes(value))
        }
        Kind::Number | Kind::Bytes => number().map(Value::Number),
        Kind::Milliseconds if row.allows_none && value == b"-1" => Ok(Value::Time(None)),
        Kind::Milliseconds => number().map(|ms| Value::Time(Some(Duration::from_millis(ms)))),
        Kind::Boolean => match value {
            b"true" => Ok(Value::Flag(true)),
            b"false" => Ok(Value::Flag(false)),
            _ => Err(must(format_args!("true or false"))),
        },
        Kind::Mode => parse_digits(value, 8)
            .and_then(|mode| u32::try_from(mode).ok())
            .filter(|mode| (row.minimum..=row.maximum).contains(&i64::from(*mode)))
            .map(Value::Mode)
            .ok_or_else(|| {
                must(format_args!(
                    "{}from {} to {}, such as {}",
                    notation("octal digits "),
                    mode(row.minimum),
                    mode(row.maximum),
                    mode(0o640)
                ))
            }),
        Kind::Day => day(value)
            .map(Value::Day)
            .ok_or_else(|| must(format_args!("a day such as 2026-11-24"))),
        Kind::Choice => {
            // Accepts the common notations of locales: any letter case, and '_' for '-'.
            let plain = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
            let same = |word: &&str| value.iter().copied().map(plain).eq(word.bytes().map(plain));
            let word = row.choices().find(same);
            word.map(Value::Choice)
                .ok_or_else(|| must(format_args!("one of {}", row.range().unwrap_or_default())))
        }
    }
}

/// Checks the length. The error does not quote the value, which may be a secret.
fn check_length(row: &'static OptionRow, length: usize) -> Result<(), Error> {
    let fits = i64::try_from(length).is_ok_and(|n| row.minimum <= n && (row.maximum < 0 || n <= row.maximum));
    if fits {
        return Ok(());
    }
    let must = row.range().map_or("must not be empty".to_owned(), |range| {
        format!("must have {range}, but has {length}")
    });
    Err(Error::argument(row.status, row.key(), must))
}

/// Parses digits. Checked first, because `from_str_radix` accepts a sign.
fn parse_digits(value: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| u64::from_str_radix(text, radix).ok()).flatten()
}

fn day(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let is_valid =
        text.len() == "2026-11-24".len() && humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok();
    is_valid.then(|| digits(text))
}

/// Parses a locale to the value of the query parameter `local`.
pub(super) fn parse_locale(locale: &str) -> Result<&'static str, Error> {
    // Cached for speed, since nearly every call has a locale.
    static KNOWN: OnceBox<Vec<&str>> = OnceBox::new();
    let known = KNOWN.get_or_init(|| Box::new(locales().collect()));
    if let Some(known) = known.iter().find(|known| **known == locale) {
        return Ok(known);
    }
    match option_value(OptionSet::Mirror, "locale", locale.as_bytes())? {
        (_, Value::Choice(locale)) => Ok(locale),
        (key, _) => Err(unhandled(key)),
    }
}

/// Returns all locales.
pub(super) fn locales() -> impl Iterator<Item = &'static str> {
    let row = OptionSet::Mirror.find("locale");
    row.into_iter().flat_map(OptionRow::choices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::config::set_override;
    use crate::client::{Config, MirrorOptions, ReportSpec, ScheduleChanges};
    use crate::operation::Overrides;

    fn set(set: OptionSet, key: &str, value: &[u8]) -> Result<(), Error> {
        match set {
            OptionSet::Config => Config::default().set(key, value),
            OptionSet::Operation => set_override(&mut Overrides::default(), key, value),
            OptionSet::ReportSpec => ReportSpec::default().set(key, value),
            OptionSet::Mirror => MirrorOptions::default().set(key, value),
            OptionSet::Schedule => ScheduleChanges::default().set(key, value),
        }
    }

    /// Returns values that an option must accept.
    fn samples(row: &OptionRow) -> Vec<Vec<u8>> {
        let numbers = || vec![row.minimum, row.maximum];
        let texts = |text: &str| vec![text.as_bytes().to_vec()];
        let mut samples = match row.kind {
            _ if row.key() == "proxy" => texts("http://u:p@proxy.example:3128"),
            _ if row.key() == "utc_offset" => texts("-03:30"),
            Kind::Text | Kind::Secret => texts("text"),
            Kind::Id => texts("0123456789abcdef0123456789abcdef"),
            Kind::Url => texts("https://dbss.example.com"),
            Kind::Path => vec![b"/etc/\xff".to_vec()],
            Kind::Milliseconds | Kind::Bytes | Kind::Number => {
                numbers().iter().map(|n| n.to_string().into()).collect()
            }
            Kind::Mode => numbers().iter().map(|n| format!("{n:o}").into()).collect(),
            Kind::Boolean => [texts("true"), texts("false")].concat(),
            Kind::Day => texts("2026-11-24"),
            Kind::Choice => row.choices().flat_map(texts).collect(),
        };
        if row.allows_none {
            samples.push(b"-1".to_vec());
        }
        samples
    }

    /// Returns values that an option must refuse.
    fn wrong(row: &OptionRow) -> Vec<Vec<u8>> {
        let of_length = |n: i64| vec![b'a'; usize::try_from(n).expect("a length")];
        let mut wrong = match row.kind {
            Kind::Text | Kind::Url | Kind::Secret | Kind::Path | Kind::Id => {
                let too_long = (row.maximum > 0).then(|| of_length(row.maximum + 1));
                let too_short = (row.minimum > 0).then(|| of_length(row.minimum - 1));
                too_long.into_iter().chain(too_short).collect()
            }
            Kind::Milliseconds | Kind::Bytes | Kind::Number => {
                let beyond = i128::from(row.maximum) + 1;
                let below = i128::from(row.minimum) - 1;
                let below = if below == -1 && row.allows_none { -2 } else { below };
                [
                    "+5",
                    "1e3",
                    "",
                    "99999999999999999999",
                    &beyond.to_string(),
                    &below.to_string(),
                ]
                .map(Vec::from)
                .to_vec()
            }
            Kind::Mode => ["400", "577", "1777", "68", "0x1", ""].map(Vec::from).to_vec(),
            Kind::Boolean => ["yes", "True", ""].map(Vec::from).to_vec(),
            Kind::Day => [
                "",
                "2026-13-01",
                "2026-02-30",
                "20261124",
                "2026-11-24 00:00:00",
                "yesterday",
            ]
            .map(Vec::from)
            .to_vec(),
            Kind::Choice => ["everywhere", "en", ""].map(Vec::from).to_vec(),
        };
        if matches!(row.kind, Kind::Text | Kind::Url | Kind::Id) {
            wrong.push(b"a\tb".to_vec());
            wrong.push(b"\xff".to_vec());
        }
        wrong
    }

    #[test]
    fn every_option_accepts_valid_and_refuses_invalid_values() {
        for option_set in OptionSet::ALL {
            for row in option_set.options() {
                let key = row.key();
                for value in samples(row) {
                    set(*option_set, key, &value).unwrap_or_else(|e| panic!("{key}: {e}"));
                }
                if let Some(default) = row.default(*option_set) {
                    set(*option_set, key, default.to_bytes()).expect(key);
                }
                for value in wrong(row) {
                    let error = set(*option_set, key, &value).expect_err(key);
                    let expected = match error.status() {
                        Status::InvalidUtf8 => Status::InvalidUtf8,
                        _ => row.status,
                    };
                    assert_eq!((error.status(), error.parameter()), (expected, Some(key)));
                    assert!(error.message().starts_with(key), "{error}");
                }
            }
            let error = set(*option_set, "no_such", b"1").expect_err("unknown");
            assert_eq!(
                (error.status(), error.parameter()),
                (Status::UnknownKey, Some("key"))
            );
            assert!(error.message().contains("no_such"));
        }
    }

    #[test]
    fn invalid_value_error_shows_value_and_range_but_no_secret() {
        let message_of =
            |option_set, key, value: &[u8]| set(option_set, key, value).expect_err(key).message().to_owned();
        assert_eq!(
            message_of(OptionSet::Config, "stall_timeout_ms", b"soon"),
            "stall_timeout_ms: must be a whole number from 1 to 86400000, or -1 for no limit, but is \"soon\""
        );
        assert_eq!(
            message_of(OptionSet::Operation, "file_mode", b"400"),
            "file_mode: must be octal digits from 600 to 777, such as 640, but is \"400\""
        );
        assert_eq!(
            message_of(OptionSet::Mirror, "locale", b"fr-fr"),
            "locale: must be one of en-us, zh-cn, but is \"fr-fr\""
        );
        let long = b"hush-hush".repeat(20_000);
        for key in [
            "token",
            "access_key",
            "secret_key",
            "security_token",
            "iam_password",
        ] {
            let message = message_of(OptionSet::Config, key, &long);
            assert!(
                message.contains("has 180000") && !message.contains("hush"),
                "{message}"
            );
        }
    }

    #[test]
    fn choice_notations_are_accepted() {
        for form in ["en-us", "EN_US", "en-US"] {
            let value = option_value(OptionSet::Mirror, "locale", form.as_bytes());
            assert!(matches!(value, Ok((_, Value::Choice("en-us")))), "{form}");
        }
    }

    #[test]
    fn locale_notations_are_accepted() {
        for (given, known) in [
            ("en-us", "en-us"),
            ("EN_US", "en-us"),
            ("zh-CN", "zh-cn"),
            ("zh_cn", "zh-cn"),
        ] {
            assert_eq!(parse_locale(given).ok(), Some(known));
        }
        for wrong in ["", "fr-fr", "en", "zh-cn ", "en-us\n", "zh-hk"] {
            let error = parse_locale(wrong).expect_err(wrong);
            assert_eq!(error.status(), Status::InvalidLocale);
            assert_eq!(error.parameter(), Some("locale"));
        }
    }
}
