//! What the user sees meanwhile: progress on a terminal, and the log.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use dbss::{Level, LogRecord, Operation};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::failure::write_stderr;
use crate::output::{columns, printable};
use crate::settings::Settings;

/// What a progress bar shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressKind {
    /// The bytes of a report.
    Download,
    /// The percent of a report that the service makes.
    Generation,
    /// The reports of a mirror.
    Mirror,
}

/// The terminal that standard error is. A line never takes its last column: there are
/// terminals on which a full line begins the next.
#[derive(Debug)]
struct Terminal;

fn width() -> usize {
    columns(io::stderr()).unwrap_or(80).saturating_sub(1).max(1)
}

fn write(text: &str) -> io::Result<()> {
    io::stderr().write_all(text.as_bytes())
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        u16::try_from(width()).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        write(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        write(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        write("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn move_cursor(n: usize, direction: char) -> io::Result<()> {
    match n {
        0 => Ok(()),
        _ => write(&format!("\x1b[{n}{direction}")),
    }
}

pub struct Screen {
    draws: bool,
    quiet: bool,
    verbose: bool,
    bar: Mutex<Option<Bar>>,
}

/// What a style is made for: the columns, and whether the remaining time is known.
type Shape = (ProgressKind, usize, bool);

struct Bar {
    bar: ProgressBar,
    shape: Shape,
}

/// Whether something may be drawn: on a terminal that nobody has asked to be plain.
fn may_draw() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !is_set("NO_COLOR") && !dumb
}

/// From how many columns on a mirror's line has room for a bar.
const WIDE_MIRROR: usize = 75;

/// The form of a bar for so many columns. Each has room for rates and sizes such as
/// 1023.99 MiB, and for counts of five digits.
fn style((kind, width, has_end): Shape) -> ProgressStyle {
    let template = match (kind, has_end, width) {
        (ProgressKind::Download, false, 0..12) => "{spinner}",
        (ProgressKind::Download, false, 12..36) => "{binary_bytes}",
        (ProgressKind::Download, false, _) => "{binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
        (ProgressKind::Download, true, 0..30) => "{percent:>3}%",
        (ProgressKind::Download, true, 30..68) => {
            "{percent:>3}% [{wide_bar}] {binary_bytes_per_sec} ETA {eta}"
        }
        (ProgressKind::Download, true, _) => {
            "{percent:>3}% [{wide_bar}] {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}{msg}"
        }
        (ProgressKind::Generation, _, 0..25) => "{percent:>3}%",
        (ProgressKind::Generation, _, 25..60) => "{percent:>3}% [{wide_bar}] {elapsed}",
        (ProgressKind::Generation, _, _) => {
            "the service makes the report {percent:>3}% [{wide_bar}] {elapsed}"
        }
        (ProgressKind::Mirror, _, 0..38) => "{pos} of {len}",
        (ProgressKind::Mirror, false, _) => "{pos} of {len} {prefix} {wide_msg}",
        (ProgressKind::Mirror, _, 38..WIDE_MIRROR) => "{pos} of {len} {prefix} ETA {eta} {wide_msg}",
        (ProgressKind::Mirror, _, _) => "{pos} of {len} [{bar:20}] {prefix}  ETA {eta}  {wide_msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// How many bytes a mirror received, where there is room, and how fast.
fn rate(width: usize, received: u64, seconds: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let rate = (received as f64 / seconds.max(0.1)) as u64;
    match width {
        0..WIDE_MIRROR => format!("{}/s", HumanBytes(rate)),
        _ => format!("{}  {}/s", HumanBytes(received), HumanBytes(rate)),
    }
}

impl Screen {
    pub fn new(settings: &Settings) -> Arc<Screen> {
        Arc::new(Screen {
            draws: !settings.quiet && may_draw(),
            quiet: settings.quiet,
            verbose: settings.verbose,
            bar: Mutex::new(None),
        })
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<Bar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows how far an operation is from now on, where that can be seen.
    pub fn show_progress(
        self: &Arc<Screen>,
        operation: &Arc<Operation>,
        kind: ProgressKind,
    ) -> Result<(), dbss::Error> {
        if !self.draws {
            return Ok(());
        }
        let screen = Arc::clone(self);
        operation.set_progress(move |operation| {
            screen.draw(operation, kind);
            true
        })
    }

    fn draw(&self, operation: &Operation, kind: ProgressKind) {
        let (position, total) = match kind {
            ProgressKind::Download => (operation.received(), operation.total()),
            ProgressKind::Generation => (u64::from(operation.percent().unwrap_or(0)), Some(100)),
            ProgressKind::Mirror => match operation.reports() {
                Some((done, total)) => (done, Some(total)),
                None => return,
            },
        };
        let mut shown = self.bar();
        if position == 0 && shown.is_none() && kind == ProgressKind::Download {
            return;
        }
        let width = width();
        let has_end = total.is_some() && (kind != ProgressKind::Mirror || position > 0);
        let shape = (kind, width, has_end);
        let received = operation.received();
        let attempts = operation.attempts();
        let message = match kind {
            ProgressKind::Mirror => printable(&operation.report_name().unwrap_or_default()).into_owned(),
            ProgressKind::Download if attempts > 1 => format!("  attempt {attempts}"),
            _ => String::new(),
        };
        let Bar { bar, shape: before } = shown.get_or_insert_with(|| {
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(Terminal), 10);
            let bar = ProgressBar::with_draw_target(total, target)
                .with_style(style(shape))
                .with_prefix(rate(width, received, 0.0))
                .with_message(message.clone());
            Bar { bar, shape }
        });
        if *before != shape {
            bar.set_style(style(shape));
            *before = shape;
        }
        // At once: each draws, and the style is for both.
        bar.update(|state| {
            state.set_pos(position);
            if let Some(total) = total {
                state.set_len(total);
            }
        });
        if kind == ProgressKind::Mirror {
            bar.set_prefix(rate(width, received, bar.elapsed().as_secs_f64()));
        }
        bar.set_message(message);
        bar.tick();
    }

    /// Takes the progress away, before anything else is written.
    pub fn clear(&self) {
        if let Some(Bar { bar, .. }) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    /// Prints a record of the log, in the words of the command line. Warnings are for
    /// everybody, the rest is for who asks.
    pub fn log(&self, record: &LogRecord, message: &str) {
        // The error that ends the call is printed in any case.
        let (wanted, prefix) = match record.level {
            Level::Error => (false, ""),
            Level::Warning => (self.verbose || !self.quiet, "warning: "),
            _ => (self.verbose, ""),
        };
        if !wanted {
            return;
        }
        let line = format!("dbss: {prefix}{message}\n");
        match &*self.bar() {
            Some(shown) => shown.bar.suspend(|| write_stderr(&line)),
            None => write_stderr(&line),
        }
    }
}
