//! An existing report, and the spec of a new one.

use std::fmt;
use std::str::FromStr;

use crate::client::download::report::ReportRequest;
use crate::client::reports::manage::ReportSpec;
use crate::client::value::parse_locale;
use crate::error::Error;

/// Identifies a report: its audit instance, its id, and its language. Ids consist of
/// ASCII letters, digits, `-` and `_`. The call that uses the report checks them before
/// it sends a request.
///
/// ```
/// use dbss::{Locale, Report};
///
/// let report = Report::new("0123456789abcdef0123456789abcdef", "WN5vPZABfnhLbJrRsvAT")
///     .locale(Locale::EnUs);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    pub(super) instance: String,
    pub(super) id: String,
    locale: Option<Locale>,
}

impl Report {
    /// Identifies the report with this id (16 to 64 characters) of this instance (32 to
    /// 64).
    pub fn new(instance: impl Into<String>, id: impl Into<String>) -> Report {
        Report {
            instance: instance.into(),
            id: id.into(),
            locale: None,
        }
    }

    /// Sets the language. By default the service chooses en-us.
    #[must_use]
    pub fn locale(mut self, locale: Locale) -> Report {
        self.locale = Some(locale);
        self
    }

    pub(super) fn request(&self, project: Option<&str>) -> Result<ReportRequest, Error> {
        let locale = self.locale.map(Locale::as_str);
        ReportRequest::new(project, &self.instance, &self.id, locale)
    }
}

/// The language of a report.
///
/// It is parsed in any letter case, and with `_` instead of `-`:
///
/// ```
/// assert_eq!("zh_CN".parse().ok(), Some(dbss::Locale::ZhCn));
/// assert_eq!(dbss::Locale::ZhCn.to_string(), "zh-cn");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Locale {
    /// English.
    EnUs,
    /// Chinese.
    ZhCn,
}

impl Locale {
    /// The service's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Locale::EnUs => "en-us",
            Locale::ZhCn => "zh-cn",
        }
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Locale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Locale, Error> {
        Ok(match parse_locale(text)? {
            "zh-cn" => Locale::ZhCn,
            _ => Locale::EnUs,
        })
    }
}

/// Whether a file that exists may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and the call fails with [`FileExists`](crate::Status::FileExists).
    No,
    /// It is replaced atomically when the new one is complete.
    Yes,
}

impl ReportSpec {
    fn with(mut self, key: &str, value: &str) -> Result<ReportSpec, Error> {
        self.set(key, value)?;
        Ok(self)
    }

    /// Makes the spec of a report with a template and a time range. Times are texts in
    /// the service's notation, and are sent unchanged.
    pub fn new(template_id: &str, start_time: &str, end_time: &str) -> Result<ReportSpec, Error> {
        ReportSpec::default()
            .with("template_id", template_id)?
            .with("start_time", start_time)?
            .with("end_time", end_time)
    }

    /// The first day.
    pub fn start_date(self, date: &str) -> Result<ReportSpec, Error> {
        self.with("start_date", date)
    }

    /// The last day.
    pub fn end_date(self, date: &str) -> Result<ReportSpec, Error> {
        self.with("end_date", date)
    }

    /// The ids of the databases to report on, separated by commas.
    pub fn db_ids(self, ids: &str) -> Result<ReportSpec, Error> {
        self.with("db_ids", ids)
    }
}
