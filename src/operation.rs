//! The control of one call: its options, its progress, its cancel, its result.

use std::ffi::{CString, OsStr, c_char};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Format;
use crate::error::{CancelledBy, Error, Status};
use crate::memory;
use crate::sys::{self, LazyWake, SignalScope, Wake};

/// How often a progress callback hears, at least.
const TICK: Duration = Duration::from_millis(50);

/// Told how a call goes; false ends the call.
type Progress = dyn Fn(&Operation) -> bool + Send + Sync;

/// Asked whether a signal that was handled ends the call.
type Interrupt = dyn Fn() -> bool + Send + Sync;

/// Options of one call; none leaves the context's in force.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) connect_timeout: Option<Option<Duration>>,
    pub(crate) stall_timeout: Option<Option<Duration>>,
    pub(crate) total_timeout: Option<Option<Duration>>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) max_memory: Option<u64>,
    pub(crate) file_mode: Option<u32>,
    pub(crate) wait_timeout: Option<Option<Duration>>,
    pub(crate) poll_interval: Option<Duration>,
    pub(crate) interruptible: Option<bool>,
}

/// A text of the last call.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Text {
    Path,
    Filename,
    ContentType,
    RequestId,
}

#[derive(Default)]
struct CallResult {
    /// The number of the call among those of the operation.
    number: u64,
    error: Option<Error>,
    // The C ABI hands out pointers that stay valid until the next call, so a value
    // that an attempt replaces is kept before the new one.
    paths: Vec<CString>,
    filenames: Vec<CString>,
    content_types: Vec<CString>,
    request_ids: Vec<CString>,
    /// Of a mirror: how many reports it has dealt with, and of how many.
    reports: Option<(u64, u64)>,
    /// The name of the report that a mirror began last.
    report_name: Option<String>,
}

/// What is known of a report when it begins to arrive.
pub(crate) struct Description<'a> {
    pub(crate) filename: &'a str,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
    pub(crate) format: Format,
}

/// The control of one call: its options, progress, cancel and results.
///
/// Hand it to a call with [`Client::with_operation`](crate::Client::with_operation),
/// and read or cancel it from any thread while the call runs. It serves one call
/// at a time, else the second one is refused with [`Status::Busy`]; a
/// [stream](crate::ReportStream) is a call until it is closed. It may be used again
/// for the next call, which forgets the results of the last. In a child of `fork`
/// the parent's operations are refused.
///
/// ```no_run
/// use std::time::Duration;
/// use dbss::{Client, Operation, Overwrite, Report};
///
/// # fn example(client: &Client, report: &Report) -> Result<(), dbss::Error> {
/// let operation = Operation::new();
/// operation.set_total_timeout(Some(Duration::from_secs(600)))?;
/// operation.set_progress(|operation| {
///     eprintln!("{} of {:?} bytes", operation.received(), operation.total());
///     true
/// })?;
/// client
///     .with_operation(&operation)
///     .download_to_file(report, "report.pdf", Overwrite::No)?;
/// println!("{:?}, request {:?}", operation.path(), operation.request_id());
/// # Ok(())
/// # }
/// ```
pub struct Operation {
    process: usize,
    wake: LazyWake,
    /// Whether it is used again at once, so that its descriptor is worth keeping.
    keeps_wake: AtomicBool,
    cancelled: AtomicBool,
    busy: AtomicBool,
    received: AtomicI64,
    total: AtomicI64,
    resumed: AtomicI64,
    attempts: AtomicU32,
    percent: AtomicI32,
    format: AtomicI32,
    overrides: Mutex<Overrides>,
    progress: Mutex<Option<Arc<Progress>>>,
    /// Whether there is one: every step asks, and a lock would cost more.
    has_progress: AtomicBool,
    interrupt: Mutex<Option<Arc<Interrupt>>>,
    next_tick: Mutex<Option<Instant>>,
    result: Mutex<CallResult>,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operation")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operation {
    /// Makes an operation. It costs no descriptor until a call waits.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> Arc<Operation> {
        Arc::new(Operation {
            process: sys::process(),
            wake: LazyWake::default(),
            keeps_wake: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            received: AtomicI64::new(0),
            total: AtomicI64::new(-1),
            resumed: AtomicI64::new(0),
            attempts: AtomicU32::new(0),
            percent: AtomicI32::new(-1),
            format: AtomicI32::new(Format::Unknown as i32),
            overrides: Mutex::new(Overrides::default()),
            progress: Mutex::new(None),
            has_progress: AtomicBool::new(false),
            interrupt: Mutex::new(None),
            next_tick: Mutex::new(None),
            result: Mutex::new(CallResult::default()),
        })
    }

    /// Takes the operation for one call; the results of the last one go.
    pub(crate) fn begin(self: &Arc<Operation>) -> Result<ActiveOperation, Error> {
        self.check_process()?;
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(busy());
        }
        self.forget();
        Ok(ActiveOperation(Arc::new(Hold(Arc::clone(self)))))
    }

    /// Runs a call under an operation, or under none, and keeps its failure for
    /// [`Operation::error`]: every one but that the operation is busy, which
    /// belongs to the other call.
    pub(crate) fn scope<T>(
        operation: Option<&Arc<Operation>>,
        call: impl FnOnce(Option<ActiveOperation>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(operation) = operation else {
            return call(None);
        };
        /// Keeps that a call ended by a panic, for which there is no error yet.
        struct Panicked<'a>(&'a Operation);
        impl Drop for Panicked<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0
                        .fail(&Error::new(Status::Internal, "the call failed internally"));
                }
            }
        }
        let active = operation.begin()?;
        let _panicked = Panicked(operation);
        call(Some(active.clone())).inspect_err(|e| operation.fail(e))
    }

    /// What the last call left behind.
    fn forget(&self) {
        self.received.store(0, Ordering::Relaxed);
        self.total.store(-1, Ordering::Relaxed);
        self.resumed.store(0, Ordering::Relaxed);
        self.attempts.store(0, Ordering::Relaxed);
        self.percent.store(-1, Ordering::Relaxed);
        self.format.store(Format::Unknown as i32, Ordering::Relaxed);
        *lock(&self.next_tick) = None;
        let mut result = lock(&self.result);
        *result = CallResult {
            number: result.number + 1,
            ..CallResult::default()
        };
    }

    /// Changes what may only change between calls.
    fn while_idle<T>(&self, change: impl FnOnce() -> T) -> Result<T, Error> {
        self.check_process()?;
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(busy());
        }
        let changed = change();
        self.busy.store(false, Ordering::Release);
        Ok(changed)
    }

    fn check_process(&self) -> Result<(), Error> {
        if self.process == sys::process() {
            return Ok(());
        }
        Err(of_another_process())
    }

    /// Cancels the call of this operation, and those to come until
    /// [`Operation::reset`]. The call ends with [`Status::Cancelled`] within 100 ms
    /// (unless it is already over), whatever it waits for but the file system and
    /// your own code.
    ///
    /// From any thread; it does not block. It may be called from a signal handler.
    pub fn cancel(&self) {
        // Async-signal-safe: an atomic store and a wake-up that does not block.
        self.cancelled.store(true, Ordering::SeqCst);
        // A child of `fork` shares the parent's wake-up, and must not touch it.
        if self.process == sys::process() {
            self.wake.signal();
        }
    }

    /// Undoes a cancel and forgets the last call; options and functions stay.
    /// [`Status::Busy`] while a call runs.
    pub fn reset(&self) -> Result<(), Error> {
        self.while_idle(|| {
            self.wake.clear();
            self.cancelled.store(false, Ordering::Release);
            self.forget();
        })
    }

    pub(crate) fn change_overrides(
        &self,
        change: impl FnOnce(&mut Overrides) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.while_idle(|| change(&mut lock(&self.overrides)))?
    }

    pub(crate) fn overrides(&self) -> Overrides {
        *lock(&self.overrides)
    }

    pub(crate) fn replace_progress(&self, progress: Option<Arc<Progress>>) -> Result<(), Error> {
        let old = self.while_idle(|| {
            self.has_progress.store(progress.is_some(), Ordering::Release);
            std::mem::replace(&mut *lock(&self.progress), progress)
        })?;
        // What the caller drops with it is dropped here, outside of the lock.
        drop(old);
        Ok(())
    }

    pub(crate) fn replace_interrupt(&self, interrupt: Option<Arc<Interrupt>>) -> Result<(), Error> {
        let old = self.while_idle(|| std::mem::replace(&mut *lock(&self.interrupt), interrupt))?;
        drop(old);
        Ok(())
    }

    /// An error if a signal that was handled shall end the call.
    pub(crate) fn interrupted(&self) -> Result<(), Error> {
        match self.ask_interrupt() {
            Some(false) => Ok(()),
            _ => Err(interrupted()),
        }
    }

    /// The same for one that was handled before the call could notice it, as far as
    /// the host's function knows.
    pub(crate) fn interrupted_before(&self) -> Result<(), Error> {
        match self.ask_interrupt() {
            Some(true) => Err(interrupted()),
            _ => Ok(()),
        }
    }

    fn ask_interrupt(&self) -> Option<bool> {
        let interrupt = lock(&self.interrupt).clone()?;
        Some(interrupt())
    }

    /// What ends its waits. Whoever waits calls [`Operation::check`] after this.
    pub(crate) fn wake(&self) -> Result<Arc<Wake>, Error> {
        self.wake
            .get()
            .map_err(|e| Error::os(Status::Resource, "cannot make a descriptor to wait with", &e))
    }

    /// Whether to keep what ends its waits between calls.
    pub(crate) fn keep_wake(&self, keep: bool) {
        self.keeps_wake.store(keep, Ordering::Relaxed);
    }

    /// Ends a wait of the call, whose reason stands elsewhere.
    pub(crate) fn wake_up(&self) {
        if self.process == sys::process() {
            self.wake.signal();
        }
    }

    /// An error if the call is to stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.cancelled.load(Ordering::SeqCst) {
            return memory::check();
        }
        Err(cancelled(CancelledBy::Operation))
    }

    /// When the progress callback is due next; none where there is none.
    pub(crate) fn tick_due(&self) -> Option<Instant> {
        if !self.has_progress.load(Ordering::Acquire) {
            return None;
        }
        *lock(&self.next_tick)
    }

    /// Calls the progress callback now; an error if it says stop.
    pub(crate) fn tick(&self) -> Result<(), Error> {
        if !self.has_progress.load(Ordering::Acquire) {
            return Ok(());
        }
        let progress = lock(&self.progress).clone();
        let Some(progress) = progress else {
            return Ok(());
        };
        let go_on = {
            let _host = SignalScope::suspend();
            progress(self)
        };
        *lock(&self.next_tick) = Instant::now().checked_add(TICK);
        if go_on {
            return Ok(());
        }
        Err(cancelled(CancelledBy::Callback))
    }

    /// Calls the progress callback if it is due.
    pub(crate) fn tick_if_due(&self) -> Result<(), Error> {
        match self.tick_due() {
            Some(due) if due <= Instant::now() => self.tick(),
            _ => Ok(()),
        }
    }

    pub(crate) fn set_received(&self, bytes: u64) {
        self.received.store(saturate(bytes), Ordering::Relaxed);
    }

    pub(crate) fn set_total(&self, total: Option<u64>) {
        self.total.store(total.map_or(-1, saturate), Ordering::Relaxed);
    }

    pub(crate) fn add_resumed(&self, bytes: u64) {
        self.resumed.fetch_add(saturate(bytes), Ordering::Relaxed);
    }

    pub(crate) fn set_percent(&self, percent: u32) {
        let percent = i32::try_from(percent).unwrap_or(100);
        self.percent.store(percent, Ordering::Relaxed);
    }

    pub(crate) fn set_reports(&self, done: u64, total: u64) {
        lock(&self.result).reports = Some((done, total));
    }

    pub(crate) fn set_report_name(&self, name: String) {
        lock(&self.result).report_name = Some(name);
    }

    pub(crate) fn count_attempt(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what another operation, of a part of this one's call, has counted.
    pub(crate) fn add_counts(&self, part: &Operation) {
        self.attempts.fetch_add(part.attempts(), Ordering::Relaxed);
        self.add_resumed(part.resumed());
    }

    pub(crate) fn set_path(&self, path: Vec<u8>) {
        lock(&self.result).paths.extend(CString::new(path));
    }

    pub(crate) fn describe(&self, about: &Description<'_>) {
        self.format.store(about.format as i32, Ordering::Relaxed);
        let c_string = |text: &str| CString::new(text).ok();
        let mut result = lock(&self.result);
        result.filenames.extend(c_string(about.filename));
        result.content_types.extend(about.content_type.and_then(c_string));
        result.request_ids.extend(about.request_id.and_then(c_string));
    }

    fn fail(&self, error: &Error) {
        self.finish(self.number(), Some(error));
    }

    /// The number of its present or last call.
    pub(crate) fn number(&self) -> u64 {
        lock(&self.result).number
    }

    /// Keeps how a part of the call with this number ended, if no other call has
    /// begun since.
    pub(crate) fn finish(&self, number: u64, error: Option<&Error>) {
        let mut result = lock(&self.result);
        if result.number == number {
            result.error = error.cloned();
        }
    }

    /// How many bytes of the report have arrived, those before a resumption
    /// included; of a mirror, those of all its downloads.
    pub fn received(&self) -> u64 {
        known(self.received.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// The size of the report in bytes; none while or where it is not known.
    pub fn total(&self) -> Option<u64> {
        known(self.total.load(Ordering::Relaxed))
    }

    /// How many bytes did not have to come again because broken transfers were
    /// resumed.
    pub fn resumed(&self) -> u64 {
        known(self.resumed.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// How many requests were made so far.
    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// How far a report is that the service makes, or how many of its reports a
    /// mirror has dealt with, in percent; none while that is not known.
    pub fn percent(&self) -> Option<u32> {
        u32::try_from(self.percent.load(Ordering::Relaxed)).ok()
    }

    /// How many reports a mirror has dealt with, and how many there are to deal with;
    /// none before it has read the lists, and for other calls.
    pub fn reports(&self) -> Option<(u64, u64)> {
        lock(&self.result).reports
    }

    /// The name of the report that a mirror began to download last, as the service
    /// sent it, but for what is beyond 256 bytes; its id where it has none.
    pub fn report_name(&self) -> Option<String> {
        lock(&self.result).report_name.clone()
    }

    /// Where the report was saved, once the call has succeeded.
    pub fn path(&self) -> Option<PathBuf> {
        let result = lock(&self.result);
        let path = result.paths.last()?;
        Some(PathBuf::from(OsStr::from_bytes(path.to_bytes())))
    }

    /// The report's own name, made safe, once it has begun to arrive: see
    /// [`ReportInfo::filename`](crate::ReportInfo::filename).
    pub fn filename(&self) -> Option<String> {
        text(&lock(&self.result).filenames)
    }

    /// The service's id of the request (header X-Request-Id), once the report has
    /// begun to arrive.
    pub fn request_id(&self) -> Option<String> {
        text(&lock(&self.result).request_ids)
    }

    /// The header Content-Type of the report, once it has begun to arrive.
    pub fn content_type(&self) -> Option<String> {
        text(&lock(&self.result).content_types)
    }

    /// A text of the last call; valid until the next call, NULL for none.
    #[doc(hidden)]
    pub fn c_text(&self, which: Text) -> *const c_char {
        let result = lock(&self.result);
        let values = match which {
            Text::Path => &result.paths,
            Text::Filename => &result.filenames,
            Text::ContentType => &result.content_types,
            Text::RequestId => &result.request_ids,
        };
        values.last().map_or(ptr::null(), |value| value.as_ptr())
    }

    /// What the report is, by its first bytes, once it has begun to arrive.
    pub fn format(&self) -> Format {
        Format::from_value(self.format.load(Ordering::Relaxed))
    }

    /// Why the last call failed: every failure that the call returned, but
    /// [`Status::Busy`], which is about the operation's other call. None when it
    /// has not failed.
    pub fn error(&self) -> Option<Error> {
        // Its lock may be held by a thread that does not exist here.
        if self.process != sys::process() {
            return Some(of_another_process());
        }
        lock(&self.result).error.clone()
    }
}

fn text(values: &[CString]) -> Option<String> {
    values.last()?.to_str().ok().map(str::to_owned)
}

/// A count, where it is not -1.
fn known(count: i64) -> Option<u64> {
    u64::try_from(count).ok()
}

fn saturate(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn of_another_process() -> Error {
    Error::argument(
        Status::Argument,
        "operation",
        "belongs to the process that this one was forked from; make a new one here",
    )
}

pub(crate) fn cancelled(by: CancelledBy) -> Error {
    let message = match by {
        CancelledBy::Operation | CancelledBy::Client => "the call was cancelled",
        CancelledBy::Close => "the call was cancelled: what it used was closed",
        CancelledBy::Callback => "the call was cancelled by its callback",
    };
    Error::new(Status::Cancelled, message).with_cancelled_by(by)
}

fn interrupted() -> Error {
    Error::new(Status::Interrupted, "a signal that was handled ended the call")
}

fn busy() -> Error {
    Error::argument(
        Status::Busy,
        "operation",
        "serves another call at the moment; use one for each call",
    )
}

/// A call's hold on its operation, which is free again when the last of them is
/// dropped.
#[derive(Clone, Debug)]
pub struct ActiveOperation(Arc<Hold>);

#[derive(Debug)]
struct Hold(Arc<Operation>);

impl ActiveOperation {
    pub(crate) fn operation(&self) -> &Arc<Operation> {
        &self.0.0
    }

    /// Lets signals end the call on this thread until the value is dropped, if it
    /// is interruptible.
    pub(crate) fn signals(&self, interruptible: bool) -> Result<Option<SignalScope>, Error> {
        if !interruptible {
            return Ok(None);
        }
        let scope = SignalScope::enter();
        self.operation().interrupted_before()?;
        Ok(Some(scope))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.0.keeps_wake.load(Ordering::Relaxed) {
            self.0.wake.release();
        }
        self.0.busy.store(false, Ordering::Release);
    }
}
