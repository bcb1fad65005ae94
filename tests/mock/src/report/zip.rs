//! ZIP reports: a few stored entries, the last of which can be of any size.

use super::blob::Blob;
use super::{Locale, Origin, table, too_small};

const LOCAL_HEADER: u32 = 0x0403_4B50;
const CENTRAL_HEADER: u32 = 0x0201_4B50;
const END: u32 = 0x0605_4B50;
const ZIP64_END: u32 = 0x0606_4B50;
const ZIP64_LOCATOR: u32 = 0x0706_4B50;
const ZIP64_EXTRA: u16 = 1;
const UTF8_NAME: u16 = 1 << 11;
const NEEDS_PLAIN: u16 = 20;
const NEEDS_ZIP64: u16 = 45;
// 2025-09-10 08:00:00, in the form of MS-DOS.
const DATE: u16 = ((2025 - 1980) << 9) | (9 << 5) | 10;
const TIME: u16 = 8 << 11;
// Some readers take the highest 32-bit values for the ZIP64 mark: keep well away from them.
const ZIP64_FROM: u64 = 0xFFF0_0000;
const FILLER_NAME: &str = "evidence.bin";

struct Entry<'a> {
    name: &'a str,
    crc: u32,
    size: u64,
    offset: u64,
    zip64: bool,
}

impl Entry<'_> {
    fn needs(&self) -> u16 {
        if self.zip64 { NEEDS_ZIP64 } else { NEEDS_PLAIN }
    }

    fn short_size(&self) -> u32 {
        if self.zip64 { u32::MAX } else { self.size as u32 }
    }

    fn common(&self, out: &mut Vec<u8>) {
        put16(out, self.needs());
        put16(out, UTF8_NAME);
        put16(out, 0);
        put16(out, TIME);
        put16(out, DATE);
        put32(out, self.crc);
        put32(out, self.short_size());
        put32(out, self.short_size());
        put16(out, self.name.len() as u16);
        put16(out, if self.zip64 { 20 } else { 0 });
    }

    fn extra(&self, out: &mut Vec<u8>) {
        if self.zip64 {
            put16(out, ZIP64_EXTRA);
            put16(out, 16);
            put64(out, self.size);
            put64(out, self.size);
        }
    }

    fn local(&self, out: &mut Vec<u8>) {
        put32(out, LOCAL_HEADER);
        self.common(out);
        out.extend(self.name.as_bytes());
        self.extra(out);
    }

    fn central(&self, out: &mut Vec<u8>) {
        put32(out, CENTRAL_HEADER);
        put16(out, (3 << 8) | self.needs());
        self.common(out);
        put16(out, 0);
        put16(out, 0);
        put16(out, 0);
        put32(out, 0o100_644 << 16);
        put32(out, self.offset as u32);
        out.extend(self.name.as_bytes());
        self.extra(out);
    }
}

/// Builds a report; with a size it is exactly that large.
pub(super) fn build(origin: Origin, locale: Locale, size: Option<u64>) -> Result<Blob, String> {
    let mut prefix = Vec::new();
    let mut entries = Vec::new();
    let files = files(origin, locale);
    for (name, text) in &files {
        let entry = Entry {
            name,
            crc: crc32fast::hash(text.as_bytes()),
            size: text.len() as u64,
            offset: prefix.len() as u64,
            zip64: false,
        };
        entry.local(&mut prefix);
        prefix.extend(text.as_bytes());
        entries.push(entry);
    }
    let Some(size) = size else {
        let tail = tail(&entries, prefix.len() as u64, false);
        return Ok(Blob::new(prefix, origin.filler(0), tail));
    };

    let zip64 = size >= ZIP64_FROM;
    let offset = prefix.len() as u64;
    let filler = |crc, size| Entry {
        name: FILLER_NAME,
        crc,
        size,
        offset,
        zip64,
    };
    let own = {
        let mut bytes = Vec::new();
        filler(0, 0).local(&mut bytes);
        filler(0, 0).central(&mut bytes);
        bytes.len() + tail(&entries, 0, zip64).len()
    };
    let least = offset + own as u64;
    let len = size.checked_sub(least).ok_or_else(|| too_small(least))?;

    let content = origin.filler(len);
    let mut crc = crc32fast::Hasher::new();
    content.for_each(|piece| crc.update(piece));
    let entry = filler(crc.finalize(), len);
    entry.local(&mut prefix);
    entries.push(entry);
    let tail = tail(&entries, prefix.len() as u64 + len, zip64);
    Ok(Blob::new(prefix, content, tail))
}

fn files(origin: Origin, locale: Locale) -> Vec<(&'static str, String)> {
    let details = csv(locale, table::rows(origin, locale, 40));
    let summary = csv(locale, table::rows(origin, locale, 5));
    let mut files = vec![("summary.csv", summary), ("details.csv", details)];
    if locale == Locale::ZhCn {
        let all = csv(locale, table::rows(origin, locale, 20));
        files.push(("审计报告.csv", all));
    }
    files
}

fn csv(locale: Locale, rows: impl Iterator<Item = [String; 5]>) -> String {
    let mut text = table::heads(locale).join(",") + "\r\n";
    for row in rows {
        text += &(row.join(",") + "\r\n");
    }
    text
}

fn tail(entries: &[Entry<'_>], at: u64, zip64: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        entry.central(&mut out);
    }
    let count = entries.len();
    let size = out.len() as u64;
    if zip64 {
        put32(&mut out, ZIP64_END);
        put64(&mut out, 44);
        put16(&mut out, (3 << 8) | NEEDS_ZIP64);
        put16(&mut out, NEEDS_ZIP64);
        put32(&mut out, 0);
        put32(&mut out, 0);
        put64(&mut out, count as u64);
        put64(&mut out, count as u64);
        put64(&mut out, size);
        put64(&mut out, at);
        put32(&mut out, ZIP64_LOCATOR);
        put32(&mut out, 0);
        put64(&mut out, at + size);
        put32(&mut out, 1);
    }
    put32(&mut out, END);
    put16(&mut out, 0);
    put16(&mut out, 0);
    put16(&mut out, count as u16);
    put16(&mut out, count as u16);
    put32(&mut out, size as u32);
    put32(&mut out, if zip64 { u32::MAX } else { at as u32 });
    put16(&mut out, 0);
    out
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_le_bytes());
}
