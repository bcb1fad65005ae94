//! Reports: what they contain, in which language, and how large they are.

mod blob;
mod pdf;
mod table;
mod zip;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use blob::{Blob, Filler, mix};

pub(crate) use blob::random;

const DEFAULT_BYTES: u64 = 64 * 1024;

/// What kind of file a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Pdf,
    Zip,
    Bytes,
}

impl Format {
    /// The media type the service announces.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Pdf => "application/pdf",
            Format::Zip => "application/zip",
            Format::Bytes => "application/octet-stream",
        }
    }

    /// The usual ending of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Pdf => "pdf",
            Format::Zip => "zip",
            Format::Bytes => "bin",
        }
    }
}

/// The language of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locale {
    EnUs,
    ZhCn,
}

impl Locale {
    /// Every language a report comes in.
    pub const ALL: [Locale; 2] = [Locale::EnUs, Locale::ZhCn];

    /// The value of the query parameter `local`.
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

impl Locale {
    /// The language of this name.
    pub fn of(name: &str) -> Option<Locale> {
        Locale::ALL.into_iter().find(|locale| locale.as_str() == name)
    }
}

fn too_small(least: u64) -> String {
    format!("size must be at least {least} bytes")
}

/// A report the mock service serves: a handle, cheap to clone.
#[derive(Debug, Clone)]
pub struct ReportInfo {
    pub id: String,
    pub name: String,
    pub format: Format,
    pub version: u64,
    size: Option<u64>,
    // Made when first needed: thousands of reports are listed whose bytes nobody asks for.
    contents: [Arc<OnceLock<Content>>; 2],
}

#[derive(Debug)]
struct Content {
    blob: Blob,
    etag: String,
}

/// What tells the content of one report from that of another.
#[derive(Debug, Clone, Copy)]
struct Origin {
    seed: u64,
    version: u64,
}

impl Origin {
    fn filler(self, len: u64) -> Filler {
        // The first version is 0, which `mix` maps to 0.
        let seed = self.seed ^ mix(self.version);
        Filler { seed, len }
    }
}

impl ReportInfo {
    /// Makes a report whose content depends on nothing but id, language, format and size.
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        format: Format,
        size: Option<u64>,
    ) -> Result<Self, String> {
        ReportInfo::of_version(id.into(), name.into(), format, size, 0)
    }

    fn of_version(
        id: String,
        name: String,
        format: Format,
        size: Option<u64>,
        version: u64,
    ) -> Result<Self, String> {
        let report = ReportInfo {
            id,
            name,
            format,
            version,
            size,
            contents: Default::default(),
        };
        if size.is_some() {
            for locale in Locale::ALL {
                let content = report.make(locale)?;
                report.contents[locale as usize].get_or_init(|| content);
            }
        }
        Ok(report)
    }

    /// The report after one more change: other bytes, as many of them, and another `ETag`.
    pub(crate) fn next_version(&self) -> Result<Self, String> {
        let (id, name) = (self.id.clone(), self.name.clone());
        ReportInfo::of_version(id, name, self.format, self.size, self.version + 1)
    }

    fn make(&self, locale: Locale) -> Result<Content, String> {
        Content::new(&self.id, locale, self.format, self.size, self.version)
    }

    fn content(&self, locale: Locale) -> &Content {
        self.contents[locale as usize].get_or_init(|| match self.make(locale) {
            Ok(content) => content,
            Err(_) => unreachable!("only a size can be too small, and those are made at once"),
        })
    }

    /// The size in one language.
    pub fn size(&self, locale: Locale) -> u64 {
        self.content(locale).blob.size()
    }

    /// The SHA-256 in one language, in hexadecimal; reads the whole content the first time.
    pub fn sha256(&self, locale: Locale) -> &str {
        self.content(locale).blob.sha256()
    }

    /// The strong validator sent as `ETag`, quotes included.
    pub fn etag(&self, locale: Locale) -> &str {
        &self.content(locale).etag
    }

    /// All the bytes in one language: for small reports.
    pub fn bytes(&self, locale: Locale) -> Vec<u8> {
        self.content(locale).blob.bytes()
    }

    /// Fills as much of `buf` as there is from `offset` on; returns 0 only at the end.
    pub fn read_at(&self, locale: Locale, offset: u64, buf: &mut [u8]) -> usize {
        self.content(locale).blob.read_at(offset, buf)
    }

    /// The size in each language.
    pub fn sizes(&self) -> BTreeMap<&'static str, u64> {
        let entry = |locale: Locale| (locale.as_str(), self.size(locale));
        Locale::ALL.into_iter().map(entry).collect()
    }

    /// The SHA-256 in each language, computed side by side.
    pub fn sha256s(&self) -> BTreeMap<&'static str, &str> {
        std::thread::scope(|scope| {
            scope.spawn(|| self.sha256(Locale::ZhCn));
            self.sha256(Locale::EnUs);
        });
        let entry = |locale: Locale| (locale.as_str(), self.sha256(locale));
        Locale::ALL.into_iter().map(entry).collect()
    }

    /// The report as the ready line and the control address show it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id,
            "name": self.name,
            "format": self.format,
            "version": self.version,
            "sizes": self.sizes(),
            "sha256": self.sha256s(),
        })
    }
}

impl Content {
    fn new(
        id: &str,
        locale: Locale,
        format: Format,
        size: Option<u64>,
        version: u64,
    ) -> Result<Self, String> {
        // The size is left out: the rows, and so the least size, must not depend on it.
        let digest = Sha256::digest(format!("{id}|{locale}|{format:?}"));
        let mut seed = [0; 8];
        seed.copy_from_slice(&digest[..8]);
        let seed = u64::from_le_bytes(seed);
        let origin = Origin { seed, version };
        let blob = match format {
            Format::Pdf => pdf::build(origin, locale, size)?,
            Format::Zip => zip::build(origin, locale, size)?,
            Format::Bytes => {
                let len = size.unwrap_or(DEFAULT_BYTES);
                // A first byte that no text has.
                let first = vec![0; len.min(1) as usize];
                Blob::new(first, origin.filler(len.saturating_sub(1)), Vec::new())
            }
        };
        let tag = Sha256::digest(format!("{}|{}|{version}", hex::encode(digest), blob.size()));
        Ok(Content {
            blob,
            etag: format!("\"{}\"", hex::encode(&tag[..16])),
        })
    }
}
