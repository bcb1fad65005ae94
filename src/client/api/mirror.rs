//! Typed options of a mirror, and its error.

use std::fmt;

use super::Locale;
use crate::client::mirror::{MirrorOptions, MirrorResult};
use crate::error::Error;

impl MirrorOptions {
    fn with(mut self, key: &str, value: &str) -> Result<MirrorOptions, Error> {
        self.set(key, value)?;
        Ok(self)
    }

    /// Mirrors only this audit instance; by default all.
    pub fn instance(self, id: &str) -> Result<MirrorOptions, Error> {
        self.with("instance", id)
    }

    /// Mirrors only reports whose time range begins on this day or later, such as
    /// 2026-11-24. Reports without a date are included.
    pub fn since(self, day: &str) -> Result<MirrorOptions, Error> {
        self.with("since", day)
    }

    /// Mirrors only reports whose time range begins on this day or earlier.
    pub fn until(self, day: &str) -> Result<MirrorOptions, Error> {
        self.with("until", day)
    }

    /// The type of the reports, such as AUDIT_REPORT_DAY.
    pub fn report_type(self, kind: &str) -> Result<MirrorOptions, Error> {
        self.with("type", kind)
    }

    /// The template_type of the reports.
    pub fn template(self, kind: &str) -> Result<MirrorOptions, Error> {
        self.with("template", kind)
    }

    /// The name of the reports. The service does the filtering.
    pub fn name(self, name: &str) -> Result<MirrorOptions, Error> {
        self.with("name", name)
    }

    /// The language of the reports; by default the service's choice. Each language of a
    /// report is a separate report in the archive.
    pub fn locale(self, locale: Locale) -> Result<MirrorOptions, Error> {
        self.with("locale", locale.as_str())
    }

    /// The offset from UTC that determines the day of a report, such as `+08:00`; UTC by
    /// default.
    pub fn utc_offset(self, offset: &str) -> Result<MirrorOptions, Error> {
        self.with("utc_offset", offset)
    }

    /// The number of parallel downloads, 1 to 16, default 4.
    pub fn parallel(self, downloads: usize) -> Result<MirrorOptions, Error> {
        self.with("parallel", &downloads.to_string())
    }

    /// Whether existing files are read and compared with the manifest. A file that
    /// differs is downloaded again, and replaced when the new one is complete.
    pub fn verify(self, verify: bool) -> Result<MirrorOptions, Error> {
        self.with("verify", if verify { "true" } else { "false" })
    }
}

/// Why a mirror failed, with its partial result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MirrorError {
    /// Why it failed.
    pub error: Error,
    /// The partial result. None if the mirror did not begin.
    pub result: Option<Box<MirrorResult>>,
}

impl MirrorError {
    pub(super) fn new(error: Error, result: Option<MirrorResult>) -> MirrorError {
        MirrorError {
            error,
            result: result.map(Box::new),
        }
    }
}

impl fmt::Display for MirrorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for MirrorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<MirrorError> for Error {
    fn from(e: MirrorError) -> Error {
        e.error
    }
}
