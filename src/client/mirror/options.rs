//! The options of a mirror.

use crate::client::reports::page::Item;
use crate::client::time;
use crate::client::value::{Value, option_value, unhandled};
use crate::error::{Error, Status};
use crate::tables::OptionSet;

/// Selects the reports of a mirror; by default all reports.
///
/// ```
/// use dbss::Locale;
/// use dbss::mirror::MirrorOptions;
///
/// # fn main() -> Result<(), dbss::Error> {
/// let options = MirrorOptions::default()
///     .since("2026-11-01")?
///     .report_type("AUDIT_REPORT_DAY")?
///     .locale(Locale::EnUs)?
///     .parallel(8)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    pub(super) instance: Option<String>,
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    kind: Option<String>,
    template: Option<String>,
    pub(super) name: Option<String>,
    pub(super) locale: Option<&'static str>,
    pub(super) parallel: usize,
    pub(super) verify: bool,
    /// The offset that determines the day of a report, in minutes.
    utc_offset: i64,
}

impl Default for MirrorOptions {
    fn default() -> MirrorOptions {
        let mut options = MirrorOptions {
            instance: None,
            since: None,
            until: None,
            kind: None,
            template: None,
            name: None,
            locale: None,
            parallel: 0,
            verify: false,
            utc_offset: 0,
        };
        for option in OptionSet::Mirror.options() {
            if let Some(value) = option.default(OptionSet::Mirror) {
                options
                    .set(option.key(), value.to_bytes())
                    .expect("the default of an option is valid");
            }
        }
        options
    }
}

impl MirrorOptions {
    /// Sets any option by its key, with its value as text.
    pub fn set(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        match option_value(OptionSet::Mirror, key, value.as_ref())? {
            ("instance", Value::Text(id)) => self.instance = Some(id.to_owned()),
            ("since", Value::Day(day)) => self.since = time::day(&day, 0),
            ("until", Value::Day(day)) => self.until = time::day(&day, 0),
            (key @ "utc_offset", Value::Text(text)) => {
                self.utc_offset = time::parse_offset(text).ok_or_else(|| {
                    let shown = text.escape_debug();
                    let what = format_args!("must be an offset from UTC such as +08:00, but is \"{shown}\"");
                    Error::argument(Status::InvalidValue, key, what)
                })?;
            }
            ("type", Value::Text(kind)) => self.kind = Some(kind.to_owned()),
            ("template", Value::Text(kind)) => self.template = Some(kind.to_owned()),
            ("name", Value::Text(name)) => self.name = Some(name.to_owned()),
            ("locale", Value::Choice(locale)) => self.locale = Some(locale),
            ("parallel", Value::Number(count)) => {
                self.parallel = usize::try_from(count).unwrap_or(usize::MAX);
            }
            ("verify", Value::Flag(verify)) => self.verify = verify,
            (key, _) => return Err(unhandled(key)),
        }
        Ok(())
    }

    /// The type of the reports, if only those of one are wanted.
    pub(super) fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// Converts a time of the service to a day since 1970. None if it cannot be parsed.
    pub(super) fn day(&self, time: &str) -> Option<i64> {
        time::day(time, self.utc_offset).filter(|day| time::DAYS.contains(day))
    }

    /// Whether the options select a report. A report without a date matches every range
    /// of days, but a missing field does not match a value.
    pub(super) fn wants(&self, item: &Item) -> bool {
        let equals = |field: &str, wanted: &Option<String>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| item.get(field) == Some(wanted))
        };
        let day = item
            .get("start_time")
            .or_else(|| item.get("finish_time"))
            .and_then(|time| self.day(time));
        let in_range = day.is_none_or(|day| {
            self.since.is_none_or(|since| day >= since) && self.until.is_none_or(|until| day <= until)
        });
        in_range && equals("type", &self.kind) && equals("template_type", &self.template)
    }
}
