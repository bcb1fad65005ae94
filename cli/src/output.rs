//! Standard output: lines, JSON, tables.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use dbss::Item;
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use crate::failure::{Failure, LOCAL};
use crate::system;

/// Text of somebody else, without characters that could drive a terminal or deceive its
/// reader.
pub fn printable(text: &str) -> Cow<'_, str> {
    let drives = |c: char| c.is_control() || dbss::internal::is_deceptive(c);
    if !text.chars().any(drives) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|c| if drives(c) { ' ' } else { c })
        .collect::<String>()
        .into()
}

/// The columns of the terminal that a stream is; none where it is no terminal.
pub fn columns(stream: impl AsFd) -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(stream)?;
    Some(usize::from(width.0)).filter(|columns| *columns > 0)
}

fn cannot_write(error: &io::Error) -> Failure {
    // As opened in place of a closed one.
    let why = match error.raw_os_error() {
        Some(libc::EBADF) => "it is closed".to_owned(),
        _ => words(error),
    };
    Failure::new(LOCAL, format!("cannot write to standard output: {why}"))
}

/// The operating system's words, without the number that Rust adds.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Standard output. Not std's own, to which writing in vain is no error where it is
/// closed.
pub struct Output(File);

impl Output {
    pub fn open() -> Result<Output, Failure> {
        let fd = io::stdout().as_fd().try_clone_to_owned();
        let mut file = fd.map(File::from).map_err(|e| cannot_write(&e))?;
        // Nothing is written; it fails where it could not be.
        file.write(&[]).map_err(|e| cannot_write(&e))?;
        Ok(Output(file))
    }

    /// Writes all of it, unless a signal comes.
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.0.write(rest) {
                Ok(0) => return Err(cannot_write(&ErrorKind::WriteZero.into())),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {
                    if system::is_cancelled() {
                        return Err(Failure::interrupted());
                    }
                }
                Err(e) => return Err(cannot_write(&e)),
            }
        }
        Ok(())
    }

    /// Prints an object on a line of its own.
    pub fn json(&mut self, object: &Map<String, Value>) -> Result<(), Failure> {
        let text = serde_json::to_string(object).unwrap_or_default();
        self.write(&(ascii(&text) + "\n"))
    }

    /// Prints an item of a list as the service sent it, with its kind.
    pub fn item(&mut self, kind: &str, item: &Item) -> Result<(), Failure> {
        // Outside of strings, line ends are only for show.
        let fields = item.json().trim().trim_start_matches('{').trim_start();
        let comma = if fields.starts_with('}') { "" } else { "," };
        self.write(&(ascii(&format!(r#"{{"kind":"{kind}"{comma}{fields}"#)) + "\n"))
    }
}

/// JSON in ASCII on one line: no character in it can drive a terminal.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Only between values, as strings have these escaped.
            '\0'..='\x1f' => text.push(' '),
            ' '..='~' => text.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

/// An object with its kind.
pub fn object<const N: usize>(kind: &str, fields: [(&str, Value); N]) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("kind".to_owned(), kind.into());
    object.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    object
}

/// A column of a table.
pub struct Column {
    /// The service's name for it.
    pub name: &'static str,
    /// Its heading on a terminal.
    pub heading: &'static str,
    /// What its text may be wrapped at; none for text that stays whole, as an id.
    pub wraps: Option<char>,
}

const fn whole(name: &'static str, heading: &'static str) -> Column {
    let wraps = None;
    Column { name, heading, wraps }
}

const fn wrapped(name: &'static str, heading: &'static str, at: char) -> Column {
    let wraps = Some(at);
    Column { name, heading, wraps }
}

pub const INSTANCES: &[Column] = &[
    whole("id", "ID"),
    whole("status", "STATUS"),
    whole("region", "REGION"),
    whole("version", "VERSION"),
    whole("connect_ip", "CONNECT_IP"),
    whole("remain_days", "DAYS"),
    wrapped("name", "NAME", ' '),
];

pub const REPORTS: &[Column] = &[
    whole("id", "ID"),
    whole("percentum", "%"),
    whole("format", "FORMAT"),
    wrapped("type", "TYPE", '_'),
    wrapped("start_time", "START_TIME", ' '),
    wrapped("end_time", "END_TIME", ' '),
    wrapped("name", "NAME", ' '),
];

pub const TEMPLATES: &[Column] = &[
    whole("id", "ID"),
    whole("type", "TYPE"),
    whole("status", "STATUS"),
    whole("frequency", "FREQUENCY"),
    wrapped("name", "NAME", ' '),
];

/// The cell of a field; "-" where the service says nothing.
fn cell(item: &Item, column: &Column) -> String {
    let text = printable(item.get(column.name).unwrap_or_default().trim()).into_owned();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Prints a list: as a table on a terminal, as tab-separated values elsewhere.
pub fn print_list(
    output: &mut Output,
    columns: &[Column],
    items: &[Item],
    headings: bool,
) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| columns.iter().map(|column| cell(item, column)).collect())
        .collect();
    let stdout = io::stdout();
    let text = match stdout.is_terminal() {
        true => render(columns, &rows, headings, self::columns(&stdout).unwrap_or(80)),
        false => tab_separated(columns, &rows, headings),
    };
    output.write(&text)
}

fn tab_separated(columns: &[Column], rows: &[Vec<String>], headings: bool) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.name.to_owned()).collect();
    let mut text = String::new();
    for row in headings.then_some(&names).into_iter().chain(rows) {
        text += &row.join("\t");
        text.push('\n');
    }
    text
}

/// The least that is left of a text that is wrapped.
const NARROWEST: usize = 10;

/// A table that fits so many columns; where that cannot be, a block of lines for each
/// row.
fn render(columns: &[Column], rows: &[Vec<String>], headings: bool, width: usize) -> String {
    let longest = |i: usize| {
        let cells = rows.iter().map(|row| row[i].width());
        cells
            .chain(headings.then(|| columns[i].heading.width()))
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(longest).collect();
    let least = |(column, width): (&Column, &usize)| match column.wraps {
        Some(_) => (*width).min(NARROWEST),
        None => *width,
    };
    let gaps = 2 * (columns.len() - 1);
    let needed: usize = columns.iter().zip(&widths).map(least).sum();
    if needed + gaps > width {
        return records(columns, rows, width);
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    if headings {
        table.set_header(columns.iter().map(|column| column.heading));
    }
    table.add_rows(rows);
    for (i, column) in columns.iter().enumerate() {
        if let Some(layout) = table.column_mut(i) {
            let gap = if i + 1 < columns.len() { 2 } else { 0 };
            layout.set_padding((0, gap));
            if column.heading == "%" || column.heading == "DAYS" {
                layout.set_cell_alignment(CellAlignment::Right);
            }
            let least = u16::try_from(widths[i].min(NARROWEST)).unwrap_or(u16::MAX);
            match column.wraps {
                Some(at) => {
                    layout.set_delimiter(at);
                    layout.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least + gap)));
                }
                None => {
                    layout.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A text in lines of at most so many columns, broken between words where it can be.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_inclusive(' ') {
        if !line.is_empty() && line.width() + word.trim_end().width() > width {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            if c != ' ' && line.width() + c.to_string().width() > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Each row as a block of lines, a field a line.
fn records(columns: &[Column], rows: &[Vec<String>], width: usize) -> String {
    let label = columns
        .iter()
        .map(|column| column.heading.width())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (n, row) in rows.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        for (column, cell) in columns.iter().zip(row).filter(|(_, cell)| *cell != "-") {
            let room = width.saturating_sub(label + 1);
            if column.wraps.is_none() && cell.width() > room {
                // An id may take the whole line, and is not cut.
                let _ = writeln!(text, "{} {cell}", column.heading);
                continue;
            }
            for (i, line) in wrap(cell, room.max(8)).iter().enumerate() {
                let heading = if i == 0 { column.heading } else { "" };
                let _ = writeln!(text, "{heading:label$} {line}");
            }
        }
    }
    text
}
