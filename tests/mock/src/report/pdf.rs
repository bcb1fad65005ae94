//! PDF reports: one page with a table, and a stream object that makes up the size.

use std::collections::BTreeMap;

use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Date, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::blob::Blob;
use super::{Locale, Origin, table, too_small};

const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const PAGE: Ref = Ref::new(3);
const CONTENT: Ref = Ref::new(4);
const INFO: Ref = Ref::new(5);
const LATIN: Ref = Ref::new(6);
const HAN: Ref = Ref::new(7);
const HAN_CID: Ref = Ref::new(8);
const HAN_DESCRIPTOR: Ref = Ref::new(9);
const HAN_UNICODE: Ref = Ref::new(10);
const FILLER: i32 = 11;

const LATIN_NAME: Name<'_> = Name(b"F1");
const HAN_NAME: Name<'_> = Name(b"F2");
const HAN_FONT: Name<'_> = Name(b"STSong-Light");
const SYSTEM: SystemInfo<'_> = SystemInfo {
    registry: Str(b"Adobe"),
    ordering: Str(b"Identity"),
    supplement: 0,
};

const ROWS: u64 = 12;
const COLUMNS: [f32; 5] = [60.0, 190.0, 290.0, 390.0, 490.0];

/// Builds a report; with a size it is exactly that large.
pub(super) fn build(origin: Origin, locale: Locale, size: Option<u64>) -> Result<Blob, String> {
    let base = document(origin, locale);
    let Some(size) = size else {
        return Ok(Blob::new(base, origin.filler(0), Vec::new()));
    };
    let previous = last_xref(&base);
    let prefix = |len: u64| {
        // Fixed width, so that the number does not change the size it is computed from.
        let object = format!("{FILLER} 0 obj\n<< /Length {len:012} >>\nstream\n");
        [base.as_slice(), object.as_bytes()].concat()
    };
    let suffix = |xref: u64| {
        let at = base.len();
        let end = "\nendstream\nendobj\n";
        let xref = xref + end.len() as u64;
        format!(
            "{end}xref\n{FILLER} 1\n{at:010} 00000 n \ntrailer\n\
             << /Size {} /Root {} 0 R /Info {} 0 R /Prev {previous} >>\n\
             startxref\n{xref:012}\n%%EOF\n",
            FILLER + 1,
            CATALOG.get(),
            INFO.get(),
        )
        .into_bytes()
    };
    let least = (prefix(0).len() + suffix(0).len()) as u64;
    let len = size.checked_sub(least).ok_or_else(|| too_small(least))?;
    let head = prefix(len);
    let tail = suffix(head.len() as u64 + len);
    Ok(Blob::new(head, origin.filler(len), tail))
}

/// Where the cross-reference table of a finished document starts.
fn last_xref(document: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(document);
    text.rsplit("startxref")
        .next()
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

fn document(origin: Origin, locale: Locale) -> Vec<u8> {
    let mut writer = PageText {
        content: Content::new(),
        glyphs: BTreeMap::new(),
    };
    writer.show(60.0, 780.0, 18.0, table::title(locale));
    writer.row(740.0, &table::heads(locale).map(str::to_owned));
    for (line, row) in table::rows(origin, locale, ROWS).enumerate() {
        writer.row(718.0 - 18.0 * line as f32, &row);
    }
    writer.rule(734.0);
    writer.rule(718.0 - 18.0 * ROWS as f32 + 8.0);

    let mut pdf = Pdf::new();
    pdf.set_version(1, 5);
    pdf.catalog(CATALOG).pages(PAGES);
    pdf.pages(PAGES).kids([PAGE]).count(1);
    let mut page = pdf.page(PAGE);
    page.media_box(Rect::new(0.0, 0.0, 595.0, 842.0));
    page.parent(PAGES);
    page.contents(CONTENT);
    let mut resources = page.resources();
    let mut fonts = resources.fonts();
    fonts.pair(LATIN_NAME, LATIN);
    fonts.pair(HAN_NAME, HAN);
    fonts.finish();
    resources.finish();
    page.finish();
    pdf.stream(CONTENT, &writer.content.finish());
    pdf.document_info(INFO)
        .title(TextStr(table::title(locale)))
        .author(TextStr("Database Security Service"))
        .producer(TextStr("dbss-mock"))
        .creation_date(
            Date::new(2025)
                .month(9)
                .day(10)
                .hour(8)
                .minute(0)
                .second(0)
                .utc_offset_hour(8)
                .utc_offset_minute(0),
        );
    pdf.type1_font(LATIN)
        .base_font(Name(b"Helvetica"))
        .encoding_predefined(Name(b"WinAnsiEncoding"));

    // Every reader has Helvetica; none is sure to have a Chinese font, so the map to Unicode is
    // what lets text be found and copied.
    pdf.type0_font(HAN)
        .base_font(HAN_FONT)
        .encoding_predefined(Name(b"Identity-H"))
        .descendant_font(HAN_CID)
        .to_unicode(HAN_UNICODE);
    pdf.cid_font(HAN_CID)
        .subtype(CidFontType::Type2)
        .base_font(HAN_FONT)
        .system_info(SYSTEM)
        .font_descriptor(HAN_DESCRIPTOR)
        .default_width(1000.0)
        .cid_to_gid_map_predefined(Name(b"Identity"));
    pdf.font_descriptor(HAN_DESCRIPTOR)
        .name(HAN_FONT)
        .flags(FontFlags::SYMBOLIC)
        .bbox(Rect::new(0.0, -200.0, 1000.0, 900.0))
        .italic_angle(0.0)
        .ascent(880.0)
        .descent(-120.0)
        .cap_height(880.0)
        .stem_v(90.0);
    let mut unicode = UnicodeCmap::new(Name(b"Report-UTF16"), SYSTEM);
    for (&character, &glyph) in &writer.glyphs {
        unicode.pair(glyph, character);
    }
    pdf.cmap(HAN_UNICODE, &unicode.finish());
    pdf.finish()
}

struct PageText {
    content: Content,
    glyphs: BTreeMap<char, u16>,
}

impl PageText {
    fn show(&mut self, x: f32, y: f32, size: f32, text: &str) {
        self.content.begin_text();
        if text.is_ascii() {
            self.content.set_font(LATIN_NAME, size);
            self.content.next_line(x, y);
            self.content.show(Str(text.as_bytes()));
        } else {
            self.content.set_font(HAN_NAME, size);
            self.content.next_line(x, y);
            let mut glyphs = Vec::new();
            for character in text.chars() {
                let next = self.glyphs.len() as u16 + 1;
                let glyph = *self.glyphs.entry(character).or_insert(next);
                glyphs.extend(glyph.to_be_bytes());
            }
            self.content.show(Str(&glyphs));
        }
        self.content.end_text();
    }

    fn row(&mut self, y: f32, cells: &[String; 5]) {
        for (x, cell) in COLUMNS.into_iter().zip(cells) {
            self.show(x, y, 10.0, cell);
        }
    }

    fn rule(&mut self, y: f32) {
        self.content.move_to(60.0, y);
        self.content.line_to(535.0, y);
        self.content.stroke();
    }
}
