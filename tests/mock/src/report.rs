//! Reports: what they contain, in which language, and how large they are.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use strum::VariantArray;

use crate::content::{Blob, document};

/// What kind of file a report is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Pdf,
    Zip,
    Bytes,
}

impl Format {
    /// The media type the service announces, and the usual ending of a file's name.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Format::Pdf => ("application/pdf", "pdf"),
            Format::Zip => ("application/zip", "zip"),
            Format::Bytes => ("application/octet-stream", "bin"),
        }
    }
}

/// The language of a report; as text the value of the query parameter `local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray, strum::EnumString, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum Locale {
    EnUs,
    ZhCn,
}

/// A report the mock service serves: a handle, cheap to clone.
#[derive(Debug, Clone)]
pub struct ReportInfo {
    pub id: String,
    pub name: String,
    pub format: Format,
    version: u64,
    size: Option<u64>,
    // Made when first needed: thousands of reports are listed whose bytes nobody asks for.
    contents: [Arc<OnceLock<Content>>; 2],
}

#[derive(Debug)]
struct Content {
    blob: Blob,
    etag: String,
}

impl ReportInfo {
    /// Makes a report whose content depends on nothing but id, language, format and size.
    pub fn new(id: &str, name: &str, format: Format, size: Option<u64>) -> Result<Self, String> {
        ReportInfo {
            id: id.to_owned(),
            name: name.to_owned(),
            format,
            version: 0,
            size,
            contents: Default::default(),
        }
        .checked()
    }

    /// The report after one more change: other bytes, as many of them, and another `ETag`.
    pub(crate) fn next_version(&self) -> Result<Self, String> {
        ReportInfo {
            version: self.version + 1,
            contents: Default::default(),
            ..self.clone()
        }
        .checked()
    }

    /// Only a size can be too small, so a report that has one is made at once.
    fn checked(self) -> Result<Self, String> {
        if self.size.is_some() {
            for locale in Locale::VARIANTS {
                let content = self.make(*locale)?;
                self.contents[*locale as usize].get_or_init(|| content);
            }
        }
        Ok(self)
    }

    fn make(&self, locale: Locale) -> Result<Content, String> {
        let version = self.version;
        let digest = Sha256::digest(format!("{}|{locale}|{:?}", self.id, self.format));
        let mut seed = [0; 8];
        seed.copy_from_slice(&digest[..8]);
        let blob = document(self.format, locale, u64::from_le_bytes(seed), version, self.size)?;
        let tag = Sha256::digest(format!("{}|{}|{version}", hex::encode(digest), blob.size()));
        let etag = format!("\"{}\"", hex::encode(&tag[..16]));
        Ok(Content { blob, etag })
    }

    fn content(&self, locale: Locale) -> &Content {
        self.contents[locale as usize].get_or_init(|| match self.make(locale) {
            Ok(content) => content,
            Err(error) => unreachable!("{error}"),
        })
    }

    /// The size in one language.
    pub fn size(&self, locale: Locale) -> u64 {
        self.content(locale).blob.size()
    }

    /// The strong validator sent as `ETag`, quotes included.
    pub fn etag(&self, locale: Locale) -> &str {
        &self.content(locale).etag
    }

    /// All the bytes in one language: for small reports.
    pub fn bytes(&self, locale: Locale) -> Vec<u8> {
        let mut bytes = vec![0; self.size(locale) as usize];
        self.read_at(locale, 0, &mut bytes);
        bytes
    }

    /// Fills as much of `buf` as there is from `offset` on; returns 0 only at the end.
    pub fn read_at(&self, locale: Locale, offset: u64, buf: &mut [u8]) -> usize {
        self.content(locale).blob.read_at(offset, buf)
    }

    /// The report as the ready line and the control address show it, with the SHA-256 of each
    /// language, computed side by side.
    pub fn to_json(&self) -> Value {
        std::thread::scope(|scope| {
            scope.spawn(|| self.content(Locale::ZhCn).blob.sha256());
            self.content(Locale::EnUs).blob.sha256();
        });
        let each = |of: &dyn Fn(&Blob) -> Value| -> Map<String, Value> {
            let one = |locale: &Locale| (locale.to_string(), of(&self.content(*locale).blob));
            Locale::VARIANTS.iter().map(one).collect()
        };
        json!({
            "id": self.id,
            "name": self.name,
            "format": self.format,
            "version": self.version,
            "sizes": each(&|blob| json!(blob.size())),
            "sha256": each(&|blob| json!(blob.sha256())),
        })
    }
}
