//! Standard output: lines, JSON, tables.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use dbss::Item;
use dbss::internal::os_message;
use dbss::internal::tables::FIELDS;
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
        _ => os_message(error),
    };
    Failure::new(LOCAL, format!("cannot write to standard output: {why}"))
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

    /// Writes all of it, unless a signal comes while nobody reads.
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.0.write(rest) {
                Ok(0) => return Err(cannot_write(&ErrorKind::WriteZero.into())),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    system::wait_until_writable(self.0.as_fd());
                }
                Err(e) => return Err(cannot_write(&e)),
            }
            // A signal ends a write early.
            if !rest.is_empty() && system::is_cancelled() {
                return Err(Failure::interrupted());
            }
        }
        Ok(())
    }

    /// Prints an object on a line of its own.
    pub fn json(&mut self, object: &Map<String, Value>) -> Result<(), Failure> {
        let text = serde_json::to_string(object).unwrap_or_default();
        self.write(&(ascii(&text) + "\n"))
    }

    /// Prints an item of a list as the service sent it, with its kind. A field of the service
    /// with that name does not count. Fields with the names of older versions of the service
    /// get those of the current one.
    pub fn item(&mut self, kind: &str, item: &Item) -> Result<(), Failure> {
        let renamed = FIELDS.iter().filter(|row| row.item == kind);
        let renamed: Vec<_> = renamed
            .flat_map(|row| row.aliases.iter().map(|alias| (*alias, row.name)))
            .filter(|(alias, _)| item.get(alias).is_some())
            .collect();
        if item.get("kind").is_some() || !renamed.is_empty() {
            let parsed: Map<String, Value> = serde_json::from_str(item.json()).unwrap_or_default();
            let mut fields = object(kind, []);
            for (name, value) in parsed.iter().filter(|(name, _)| *name != "kind") {
                let current = renamed.iter().find(|(alias, _)| *alias == name.as_str());
                let name = current
                    .map(|(_, current)| *current)
                    .filter(|current| !parsed.contains_key(*current))
                    .unwrap_or(name);
                fields.insert(name.to_owned(), value.clone());
            }
            return self.json(&fields);
        }
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
    /// The columns with the highest are left out first where a terminal is too narrow;
    /// those with 0 never are.
    pub rank: u8,
}

const fn column(name: &'static str, heading: &'static str, rank: u8) -> Column {
    Column { name, heading, rank }
}

pub const INSTANCES: &[Column] = &[
    column("id", "ID", 0),
    column("status", "STATUS", 0),
    column("region", "REGION", 1),
    column("version", "VERSION", 4),
    column("connect_ip", "CONNECT_IP", 3),
    column("remain_days", "DAYS", 2),
    column("name", "NAME", 0),
];

pub const REPORTS: &[Column] = &[
    column("id", "ID", 0),
    column("percentum", "%", 0),
    column("format", "FORMAT", 4),
    column("type", "TYPE", 2),
    column("start_time", "START_TIME", 1),
    column("end_time", "END_TIME", 3),
    column("name", "NAME", 0),
];

pub const TEMPLATES: &[Column] = &[
    column("id", "ID", 0),
    column("type", "TYPE", 0),
    column("status", "STATUS", 1),
    column("frequency", "FREQUENCY", 2),
    column("name", "NAME", 0),
];

pub const DATABASES: &[Column] = &[
    column("id", "ID", 0),
    column("status", "STATUS", 0),
    column("type", "TYPE", 2),
    column("version", "VERSION", 4),
    column("ip", "IP", 1),
    column("port", "PORT", 3),
    column("name", "NAME", 0),
];

pub const SCHEDULE: &[Column] = &[
    column("id", "ID", 0),
    column("status", "STATUS", 0),
    column("frequency", "FREQUENCY", 0),
    column("format", "FORMAT", 0),
    column("mode", "MODE", 0),
    column("start_time", "START_TIME", 0),
    column("notice", "NOTICE", 0),
    column("topic_urn", "TOPIC_URN", 0),
    column("db_ids", "DB_IDS", 0),
];

/// The cell of a field; "-" where the service says nothing.
fn cell(item: &Item, column: &Column) -> String {
    let text = printable(item.get(column.name).unwrap_or_default().trim()).into_owned();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Prints a list: as a table on a terminal, as tab-separated values elsewhere. Returns
/// the headings of the columns that the terminal has no room for.
pub fn print_list(
    output: &mut Output,
    columns: &[Column],
    items: &[Item],
    headings: bool,
) -> Result<Vec<&'static str>, Failure> {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| columns.iter().map(|column| cell(item, column)).collect())
        .collect();
    let stdout = io::stdout();
    let (text, left_out) = match stdout.is_terminal() {
        true => {
            let rows: Vec<Vec<_>> = rows
                .iter()
                .map(|row| row.iter().map(|cell| shortened(cell)).collect())
                .collect();
            render(columns, &rows, headings, self::columns(&stdout).unwrap_or(80))
        }
        false => (tab_separated(columns, &rows, headings), Vec::new()),
    };
    output.write(&text)?;
    Ok(left_out)
}

/// The longest text in a cell of a table: to break a longer one takes long.
const LONGEST_CELL: usize = 500;

fn shortened(cell: &str) -> String {
    match cell.char_indices().nth(LONGEST_CELL) {
        Some((end, _)) => format!("{}…", &cell[..end]),
        None => cell.to_owned(),
    }
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

/// The least that is left of the last column, which is wrapped.
const NARROWEST: usize = 16;

/// The gap between two columns.
const GAP: usize = 2;

/// A table that fits so many columns, and the headings of those that were left out for
/// that; where that is not enough, a block of lines for each row.
fn render(
    columns: &[Column],
    rows: &[Vec<String>],
    headings: bool,
    width: usize,
) -> (String, Vec<&'static str>) {
    let longest = |i: usize| {
        let cells = rows.iter().map(|row| row[i].width());
        cells
            .chain(headings.then(|| columns[i].heading.width()))
            .max()
            .unwrap_or_default()
    };
    let last = columns.len() - 1;
    let least = |i: usize| match i == last {
        true => longest(i).min(NARROWEST),
        false => longest(i) + GAP,
    };
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    while shown.iter().map(|i| least(*i)).sum::<usize>() > width {
        let place = (0..shown.len()).max_by_key(|place| columns[shown[*place]].rank);
        match place {
            Some(place) if columns[shown[place]].rank > 0 => shown.remove(place),
            _ => return (records(columns, rows, width), Vec::new()),
        };
    }
    let left_out = (0..columns.len())
        .filter(|i| !shown.contains(i))
        .map(|i| columns[i].heading)
        .collect();

    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    if headings {
        table.set_header(shown.iter().map(|i| columns[*i].heading));
    }
    table.add_rows(rows.iter().map(|row| shown.iter().map(|i| &row[*i])));
    for (place, i) in shown.into_iter().enumerate() {
        let Some(layout) = table.column_mut(place) else {
            continue;
        };
        let least = u16::try_from(least(i)).unwrap_or(u16::MAX);
        layout.set_constraint(match i == last {
            true => ColumnConstraint::LowerBoundary(Width::Fixed(least)),
            false => ColumnConstraint::ContentWidth,
        });
        layout.set_padding((0, if i == last { 0 } else { GAP as u16 }));
        if matches!(columns[i].heading, "%" | "DAYS") {
            layout.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text += line.trim_end();
        text.push('\n');
    }
    (text, left_out)
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
            if column.name == "id" && cell.width() > room {
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
