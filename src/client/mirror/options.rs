//! What a mirror is to have.

use crate::client::arguments::{PROJECT_OR_INSTANCE_ID, check_id, digits, parse_locale, utf8};
use crate::client::pages::Item;
use crate::error::{Error, Status};

const MOST_THREADS: usize = 16;

/// The longest text of a filter, in bytes.
const LONGEST_TEXT: usize = 256;

/// See `dbss_mirror_set`.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    pub(super) instance: Option<String>,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
    kind: Option<String>,
    template: Option<String>,
    pub(super) name: Option<String>,
    pub(super) locale: Option<&'static str>,
    pub(super) parallel: usize,
    pub(super) verify: bool,
}

impl Default for MirrorOptions {
    fn default() -> MirrorOptions {
        MirrorOptions {
            instance: None,
            since: None,
            until: None,
            kind: None,
            template: None,
            name: None,
            locale: None,
            parallel: 4,
            verify: false,
        }
    }
}

impl MirrorOptions {
    /// Sets an option by its key.
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        match key {
            "instance" => {
                let id = utf8(value, "instance")?;
                check_id(id, "instance", PROJECT_OR_INSTANCE_ID)?;
                self.instance = Some(id.to_owned());
            }
            "since" => self.since = Some(day("since", value)?),
            "until" => self.until = Some(day("until", value)?),
            "type" => self.kind = Some(text("type", value)?),
            "template" => self.template = Some(text("template", value)?),
            "name" => self.name = Some(text("name", value)?),
            "locale" => self.locale = Some(parse_locale(utf8(value, "locale")?)?),
            "parallel" => {
                let count = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                self.parallel = count.filter(|n| (1..=MOST_THREADS).contains(n)).ok_or_else(|| {
                    invalid("parallel", &format!("must be a number from 1 to {MOST_THREADS}"))
                })?;
            }
            "verify" => {
                self.verify = match value {
                    b"true" => true,
                    b"false" => false,
                    _ => return Err(invalid("verify", "must be true or false")),
                }
            }
            _ => {
                return Err(Error::argument(
                    Status::UnknownKey,
                    "key",
                    format_args!("a mirror has no option \"{}\"", key.escape_debug()),
                ));
            }
        }
        Ok(())
    }

    /// Whether a report is wanted. What a report does not tell excludes it from
    /// no filter but those that ask for it by name.
    pub(super) fn wants(&self, item: &Item) -> bool {
        let equals = |field: &str, wanted: &Option<String>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| item.text(field) == Some(wanted))
        };
        let time = item
            .text("start_time")
            .or_else(|| item.text("finish_time"))
            .map(digits)
            .filter(|time| time.len() >= 8);
        let in_range = time.is_none_or(|time| {
            let day = &time[..8];
            self.since.as_deref().is_none_or(|since| day >= since)
                && self.until.as_deref().is_none_or(|until| day <= until)
        });
        in_range && equals("type", &self.kind) && equals("template_type", &self.template)
    }
}

fn invalid(key: &'static str, what: &str) -> Error {
    Error::argument(Status::InvalidValue, key, what)
}

fn text(key: &'static str, value: &[u8]) -> Result<String, Error> {
    let text = utf8(value, key)?;
    if !(1..=LONGEST_TEXT).contains(&text.len()) {
        return Err(invalid(key, &format!("must have 1 to {LONGEST_TEXT} bytes")));
    }
    Ok(text.to_owned())
}

/// A day, as eight digits.
fn day(key: &'static str, value: &[u8]) -> Result<String, Error> {
    let text = utf8(value, key)?;
    let day = digits(text);
    let sound =
        text.len() == "2026-11-24".len() && humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok();
    if !sound {
        return Err(invalid(
            key,
            &format!(
                "must be a day such as 2026-11-24, and is \"{}\"",
                text.escape_debug()
            ),
        ));
    }
    Ok(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        assert_eq!(day("since", b"2026-11-24").ok().as_deref(), Some("20261124"));
        for wrong in [
            "",
            "2026-13-01",
            "2026-11-32",
            "2026-02-30",
            "20261124",
            "2026-11-24 00:00:00",
            "yesterday",
        ] {
            let error = day("since", wrong.as_bytes()).expect_err(wrong);
            assert_eq!(error.parameter(), Some("since"));
        }
    }
}
