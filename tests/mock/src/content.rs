//! The bytes of reports, of any size without memory: a head, a generated middle and a tail.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::report::{Format, Locale};

const BLOCK: u64 = 4096;
// Wider than the window of gzip (32 KiB), so that the filler does not shrink when compressed.
const TABLE: usize = 256 * 1024;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const DEFAULT_BYTES: u64 = 64 * 1024;

const USERS: [&str; 5] = ["app_reader", "root", "backup", "etl_loader", "j.doe"];
const STATEMENTS: [&str; 6] = ["SELECT", "UPDATE", "DELETE", "INSERT", "DROP TABLE", "GRANT"];

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The `number`th value of the sequence that starts with `seed`.
pub(crate) fn random(seed: u64, number: u64) -> u64 {
    mix(seed.wrapping_add(number.wrapping_add(1).wrapping_mul(GOLDEN)))
}

fn table() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        (1..=TABLE as u64 / 8)
            .flat_map(|word| mix(word.wrapping_mul(GOLDEN)).to_le_bytes())
            .collect()
    })
}

/// The content of a report in one language: readable at any offset, never whole in memory.
#[derive(Debug)]
pub(crate) struct Blob {
    head: Vec<u8>,
    seed: u64,
    filler: u64,
    tail: Vec<u8>,
    sha256: OnceLock<String>,
}

impl Blob {
    pub(crate) fn size(&self) -> u64 {
        self.head.len() as u64 + self.filler + self.tail.len() as u64
    }

    /// Fills as much of `buf` as there is from `offset` on; returns 0 only at the end.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let head = self.head.len() as u64;
        let tail = head + self.filler;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let rest = &mut buf[done..];
            let read = if at < head {
                copy(&self.head[at as usize..], rest)
            } else if at < tail {
                self.fill(at - head, rest)
            } else {
                copy(self.tail.get((at - tail) as usize..).unwrap_or_default(), rest)
            };
            if read == 0 {
                break;
            }
            done += read;
        }
        done
    }

    /// Pseudo-random bytes, to the end of a block of 4 KiB. Each block is a window of one random
    /// table, chosen by the seed and the block's number, with a stamp of the same two at its
    /// start: no two blocks agree, and copying keeps an unoptimised build fast.
    fn fill(&self, at: u64, buf: &mut [u8]) -> usize {
        let within = at % BLOCK;
        let key = mix(self.seed ^ (at / BLOCK + 1).wrapping_mul(GOLDEN));
        let start = (key % (TABLE as u64 - BLOCK) + within) as usize;
        let count = (BLOCK - within).min(self.filler - at).min(buf.len() as u64) as usize;
        let read = copy(&table()[start..start + count], buf);
        if let Some(stamp) = mix(key).to_le_bytes().get(within as usize..) {
            copy(stamp, &mut buf[..count]);
        }
        read
    }

    /// The SHA-256 in hexadecimal, computed when it is first asked for.
    pub(crate) fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let mut hasher = Sha256::new();
            let mut buf = vec![0; 64 * 1024];
            let mut at = 0;
            while at < self.size() {
                let read = self.read_at(at, &mut buf);
                hasher.update(&buf[..read]);
                at += read as u64;
            }
            hex::encode(hasher.finalize())
        })
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
    count
}

/// The end of a document, for where it starts and how long what was filled in before it is.
type Tail = Box<dyn Fn(u64, u64) -> Vec<u8>>;

/// The content of a report; with a size it is exactly that large.
///
/// What makes up the size stands before the table at the end by which readers find the rest.
pub(crate) fn document(
    format: Format,
    locale: Locale,
    seed: u64,
    version: u64,
    size: Option<u64>,
) -> Result<Blob, String> {
    let title = match locale {
        Locale::EnUs => "Database audit report",
        Locale::ZhCn => "数据库审计报告",
    };
    let rows: Vec<String> = (0..72)
        .map(|row| {
            let pick = |from: &[&'static str], way| {
                let drawn = random(seed, row + way) % from.len() as u64;
                from[drawn as usize]
            };
            // As long in every version.
            let second = (random(seed, row) % 60 + version) % 60;
            let (user, statement) = (pick(&USERS, 100), pick(&STATEMENTS, 200));
            let (hour, minute) = (row / 3, row % 60);
            format!("2025-09-09 {hour:02}:{minute:02}:{second:02},{user},orders,{statement},low")
        })
        .collect();
    let (head, tail): (Vec<u8>, Tail) = match format {
        Format::Pdf => pdf(title, &rows),
        Format::Zip => {
            let text = format!("{title}\r\n{}\r\n", rows.join("\r\n"));
            zip(&[("details.csv", text), (&format!("{title}.csv"), rows[0].clone())])
        }
        // A first byte that no text has.
        Format::Bytes => match size {
            Some(0) => (Vec::new(), Box::new(|_, _| Vec::new())),
            _ => (vec![0], Box::new(|_, _| Vec::new())),
        },
    };
    let at = head.len() as u64;
    let least = at + tail(at, 0).len() as u64;
    let default = if format == Format::Bytes {
        DEFAULT_BYTES
    } else {
        least
    };
    let filler = size.unwrap_or(default).checked_sub(least);
    let filler = filler.ok_or_else(|| format!("size must be at least {least} bytes"))?;
    Ok(Blob {
        tail: tail(at + filler, filler),
        head,
        // The first version is 0, which `mix` maps to 0.
        seed: seed ^ mix(version),
        filler,
        sha256: OnceLock::new(),
    })
}

/// A page of lines, and a stream that no page shows.
fn pdf(title: &str, rows: &[String]) -> (Vec<u8>, Tail) {
    let lines: String = rows.iter().map(|row| format!("({row}) Tj T*\n")).collect();
    let page = format!("BT /F1 10 Tf 14 TL 60 780 Td\n{lines}ET\n");
    let title: String = title.encode_utf16().map(|unit| format!("{unit:04X}")).collect();
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{page}endstream", page.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
        format!("<< /Title <FEFF{title}> /Producer (dbss-mock) >>"),
    ];
    let mut head = "%PDF-1.7\n".to_owned();
    let mut table = String::new();
    for (number, object) in (1..).zip(&objects) {
        table += &format!("{:010} 00000 n \n", head.len());
        head += &format!("{number} 0 obj\n{object}\nendobj\n");
    }
    head += "7 0 obj\n<< /Length 8 0 R >>\nstream\n";
    let tail = move |at: u64, filler: u64| {
        // Of fixed width, so that the numbers do not change the size they are computed from.
        let end = format!("\nendstream\nendobj\n8 0 obj\n{filler:012}\nendobj\n");
        let trailer = "trailer\n<< /Size 7 /Root 1 0 R /Info 6 0 R >>";
        let start = at + end.len() as u64;
        format!("{end}xref\n0 7\n0000000000 65535 f \n{table}{trailer}\nstartxref\n{start:012}\n%%EOF\n")
            .into_bytes()
    };
    (head.into_bytes(), Box::new(tail))
}

/// An archive of files that are stored as they are, with the ZIP64 end that has room for any size.
fn zip(files: &[(&str, String)]) -> (Vec<u8>, Tail) {
    // Version, UTF-8 names, no compression, and 2025-09-10 08:00:00 in the form of MS-DOS.
    const COMMON: [u16; 5] = [45, 1 << 11, 0, 8 << 11, ((2025 - 1980) << 9) | (9 << 5) | 10];
    let (mut head, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let mut common = COMMON.map(u16::to_le_bytes).concat();
        let len = text.len() as u32;
        common.extend(
            [crc32fast::hash(text.as_bytes()), len, len]
                .map(u32::to_le_bytes)
                .concat(),
        );
        common.extend((name.len() as u32).to_le_bytes());
        let offset = (head.len() as u32).to_le_bytes();
        directory.extend(
            [
                b"PK\x01\x02\x2d\0",
                &common[..],
                &[0; 10],
                &offset,
                name.as_bytes(),
            ]
            .concat(),
        );
        head.extend([b"PK\x03\x04", &common[..], name.as_bytes(), text.as_bytes()].concat());
    }
    let count = files.len() as u16;
    let tail = move |at: u64, _| {
        let size = directory.len() as u64;
        let longs = |values: &[u64]| {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let counts = longs(&[count.into(), count.into(), size, at]);
        let (end, own) = (longs(&[at + size]), longs(&[44]));
        let count = count.to_le_bytes();
        [
            &directory[..],
            &[
                b"PK\x06\x06",
                &own[..],
                &[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                &counts,
            ]
            .concat(),
            &[b"PK\x06\x07\0\0\0\0", &end[..], &[1, 0, 0, 0]].concat(),
            &[
                b"PK\x05\x06\0\0\0\0",
                &count[..],
                &count,
                &(size as u32).to_le_bytes(),
            ]
            .concat(),
            &[0xFF; 4],
            &[0, 0],
        ]
        .concat()
    };
    (head, Box::new(tail))
}
