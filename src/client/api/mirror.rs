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

    /// The one audit instance to mirror; by default all.
    pub fn instance(self, id: &str) -> Result<MirrorOptions, Error> {
        self.with("instance", id)
    }

    /// The first day, such as 2026-11-24, on which the range of a report begins. A
    /// report that tells no day is taken.
    pub fn since(self, day: &str) -> Result<MirrorOptions, Error> {
        self.with("since", day)
    }

    /// The last such day.
    pub fn until(self, day: &str) -> Result<MirrorOptions, Error> {
        self.with("until", day)
    }

    /// The type of the reports, such as AUDIT_REPORT_DAY.
    pub fn report_type(self, kind: &str) -> Result<MirrorOptions, Error> {
        self.with("type", kind)
    }

    /// Their template_type.
    pub fn template(self, kind: &str) -> Result<MirrorOptions, Error> {
        self.with("template", kind)
    }

    /// A name that the service is asked to look for.
    pub fn name(self, name: &str) -> Result<MirrorOptions, Error> {
        self.with("name", name)
    }

    /// The language to have them in; by default the service's choice. Each language
    /// is a report of its own in the archive.
    pub fn locale(self, locale: Locale) -> Result<MirrorOptions, Error> {
        self.with("locale", locale.as_str())
    }

    /// The offset from UTC of the days that reports are of, such as `+08:00`; UTC by
    /// default.
    pub fn utc_offset(self, offset: &str) -> Result<MirrorOptions, Error> {
        self.with("utc_offset", offset)
    }

    /// How many are downloaded at once, 1 to 16, default 4.
    pub fn parallel(self, downloads: usize) -> Result<MirrorOptions, Error> {
        self.with("parallel", &downloads.to_string())
    }

    /// Whether the files that are there are read and compared with the manifest; one
    /// that differs is downloaded again and replaced when the new one is whole.
    pub fn verify(self, verify: bool) -> Result<MirrorOptions, Error> {
        self.with("verify", if verify { "true" } else { "false" })
    }
}

/// Why a mirror failed, and how it went as far as it went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MirrorError {
    /// Why it failed.
    pub error: Error,
    /// How it went; none where it did not begin.
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
