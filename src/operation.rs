//! The control of one call: options, progress, cancellation and results.

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
use crate::sys::{self, IdleWakes, LazyWake, SignalScope, Wake};

/// The longest time between calls of a progress callback.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// A progress callback; false ends the call.
type Progress = dyn Fn(&Operation) -> bool + Send + Sync;

/// A function that decides whether a handled signal ends the call.
type Interrupt = dyn Fn() -> bool + Send + Sync;

/// Options of one call; `None` keeps the context's value.
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
    // The C ABI returns pointers that stay valid until the next call. So a value that a
    // later attempt replaces must be kept.
    paths: Vec<CString>,
    filenames: Vec<CString>,
    content_types: Vec<CString>,
    request_ids: Vec<CString>,
    /// Of a mirror: how many reports it has dealt with, and of how many.
    reports: Option<(u64, u64)>,
    /// The name of the report that a mirror began last.
    report_name: Option<String>,
}

/// The facts about a report that are known when it begins to arrive.
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
    /// Whether `progress` is set: checked at each step, where a lock would cost more.
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

    /// Begins a call; clears the results of the last one.
    pub(crate) fn begin(self: &Arc<Operation>) -> Result<ActiveOperation, Error> {
        self.check_process()?;
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(busy());
        }
        self.clear_results();
        Ok(ActiveOperation(Arc::new(OperationGuard(Arc::clone(self)))))
    }

    /// Runs a call with or without an operation, and keeps its failure for
    /// [`Operation::error`]: every failure except that the operation is busy, since it
    /// belongs to the other call then.
    pub(crate) fn scope<T>(
        operation: Option<&Arc<Operation>>,
        call: impl FnOnce(Option<ActiveOperation>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(operation) = operation else {
            return call(None);
        };
        /// Records a failure if the call ends by a panic.
        struct FailOnPanic<'a>(&'a Operation);
        impl Drop for FailOnPanic<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0
                        .fail(&Error::new(Status::Internal, "the call failed internally"));
                }
            }
        }
        let active = operation.begin()?;
        let _panicked = FailOnPanic(operation);
        call(Some(active.clone())).inspect_err(|e| operation.fail(e))
    }

    /// Clears the results of the last call.
    fn clear_results(&self) {
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

    /// Makes a change that is allowed only between calls.
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
        Err(other_process_error())
    }

    /// Cancels the call of this operation, and those to come until
    /// [`Operation::reset`]. The call ends with [`Status::Cancelled`] within 100 ms
    /// (unless it is already over), whatever it waits for but the file system and
    /// your own code.
    ///
    /// From any thread; it does not block. It may be called from a signal handler.
    pub fn cancel(&self) {
        // Async-signal-safe: an atomic store, and a wake-up that does not block.
        self.cancelled.store(true, Ordering::SeqCst);
        // A child of `fork` shares the parent's wake-up and must not use it.
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
            self.clear_results();
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
        // Dropped outside of the lock: it may run code of the caller.
        drop(old);
        Ok(())
    }

    pub(crate) fn replace_interrupt(&self, interrupt: Option<Arc<Interrupt>>) -> Result<(), Error> {
        let old = self.while_idle(|| std::mem::replace(&mut *lock(&self.interrupt), interrupt))?;
        drop(old);
        Ok(())
    }

    /// Returns an error if a handled signal must end the call: also if there is no function
    /// to decide.
    pub(crate) fn interrupted(&self) -> Result<(), Error> {
        match self.call_interrupt() {
            Some(false) => Ok(()),
            _ => Err(interrupted()),
        }
    }

    /// Like [`Operation::interrupted`], for a signal that may have been handled before the
    /// call could notice. Only the host's function can tell.
    pub(crate) fn interrupted_before(&self) -> Result<(), Error> {
        match self.call_interrupt() {
            Some(true) => Err(interrupted()),
            _ => Ok(()),
        }
    }

    fn call_interrupt(&self) -> Option<bool> {
        let interrupt = lock(&self.interrupt).clone()?;
        Some(interrupt())
    }

    /// Returns the wake-up that ends waits. A waiter must call [`Operation::check`] after
    /// this.
    pub(crate) fn wake(&self, idle: &Arc<IdleWakes>) -> Result<Arc<Wake>, Error> {
        self.wake
            .get(idle)
            .map_err(|e| Error::os(Status::Resource, "cannot make a descriptor to wait with", &e))
    }

    /// Ends a wait of the call, so that it checks its state.
    pub(crate) fn wake_up(&self) {
        if self.process == sys::process() {
            self.wake.signal();
        }
    }

    /// Returns an error if the call must stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.cancelled.load(Ordering::SeqCst) {
            return memory::check();
        }
        Err(cancelled(CancelledBy::Operation))
    }

    /// Returns when the progress callback is due next; `None` if there is none.
    pub(crate) fn tick_due(&self) -> Option<Instant> {
        if !self.has_progress.load(Ordering::Acquire) {
            return None;
        }
        *lock(&self.next_tick)
    }

    /// Calls the progress callback now; returns an error if it stops the call.
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
        *lock(&self.next_tick) = Instant::now().checked_add(PROGRESS_INTERVAL);
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

    /// Adds the counts of another operation, which is for a part of this call.
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

    /// Returns the number of the current or last call.
    pub(crate) fn number(&self) -> u64 {
        lock(&self.result).number
    }

    /// Stores the result of the call with this number, unless another call has begun since.
    pub(crate) fn finish(&self, number: u64, error: Option<&Error>) {
        let mut result = lock(&self.result);
        if result.number == number {
            result.error = error.cloned();
        }
    }

    /// How many bytes of the report have arrived, including those before a resumption; for
    /// a mirror, the bytes of all its downloads.
    pub fn received(&self) -> u64 {
        if_known(self.received.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// The size of the report in bytes; [`None`] if it is not known (yet).
    pub fn total(&self) -> Option<u64> {
        if_known(self.total.load(Ordering::Relaxed))
    }

    /// How many bytes were not transferred again, because broken transfers were resumed.
    pub fn resumed(&self) -> u64 {
        if_known(self.resumed.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// How many requests were made so far.
    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// The progress in percent: of a report that the service makes, or of a mirror, by the
    /// reports that it has processed. [`None`] if it is not known yet.
    pub fn percent(&self) -> Option<u32> {
        u32::try_from(self.percent.load(Ordering::Relaxed)).ok()
    }

    /// How many reports a mirror has dealt with, and how many there are to deal with;
    /// none before it has read the lists, and for other calls.
    pub fn reports(&self) -> Option<(u64, u64)> {
        self.read_result(|result| result.reports)
    }

    /// The name of the report that a mirror began to download last, as the service
    /// sent it, but for what is beyond 256 bytes; its id where it has none.
    pub fn report_name(&self) -> Option<String> {
        self.read_result(|result| result.report_name.clone())
    }

    /// Where the report was saved, once the call has succeeded.
    pub fn path(&self) -> Option<PathBuf> {
        self.read_result(|result| {
            let path = result.paths.last()?;
            Some(PathBuf::from(OsStr::from_bytes(path.to_bytes())))
        })
    }

    /// The report's own name, made safe, once it has begun to arrive: see
    /// [`ReportInfo::filename`](crate::ReportInfo::filename).
    pub fn filename(&self) -> Option<String> {
        self.read_result(|result| text(&result.filenames))
    }

    /// The service's id of the request (header X-Request-Id), once the report has
    /// begun to arrive.
    pub fn request_id(&self) -> Option<String> {
        self.read_result(|result| text(&result.request_ids))
    }

    /// The header Content-Type of the report, once it has begun to arrive.
    pub fn content_type(&self) -> Option<String> {
        self.read_result(|result| text(&result.content_types))
    }

    /// A text of the last call, valid until the next call; NULL if there is none.
    #[doc(hidden)]
    pub fn c_text(&self, which: Text) -> *const c_char {
        let text = self.read_result(|result| {
            let values = match which {
                Text::Path => &result.paths,
                Text::Filename => &result.filenames,
                Text::ContentType => &result.content_types,
                Text::RequestId => &result.request_ids,
            };
            values.last().map(|value| value.as_ptr())
        });
        text.unwrap_or(ptr::null())
    }

    /// Reads the result of the last call. In a child of `fork` it is none: a thread that does
    /// not exist there may hold the lock.
    fn read_result<T>(&self, read: impl FnOnce(&CallResult) -> Option<T>) -> Option<T> {
        self.check_process().ok()?;
        read(&lock(&self.result))
    }

    /// The format of the report, by its first bytes, once it has begun to arrive.
    pub fn format(&self) -> Format {
        Format::from_value(self.format.load(Ordering::Relaxed))
    }

    /// Why the last call failed: the error that it returned, except [`Status::Busy`], which
    /// is about the operation's other call. [`None`] if it has not failed.
    pub fn error(&self) -> Option<Error> {
        // A thread that does not exist in this process may hold its lock.
        if self.process != sys::process() {
            return Some(other_process_error());
        }
        lock(&self.result).error.clone()
    }
}

fn text(values: &[CString]) -> Option<String> {
    values.last()?.to_str().ok().map(str::to_owned)
}

/// Returns a count, unless it is -1 (unknown).
fn if_known(count: i64) -> Option<u64> {
    u64::try_from(count).ok()
}

fn saturate(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn other_process_error() -> Error {
    Error::argument(
        Status::Argument,
        "operation",
        "belongs to the process that this one was forked from; make a new one here",
    )
}

pub(crate) fn cancelled(by: CancelledBy) -> Error {
    let message = match by {
        CancelledBy::Operation | CancelledBy::Client => "the call was cancelled",
        CancelledBy::Close => "the call was cancelled: its client or stream was closed",
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

/// A reference of a running call to its operation, which is free again when the last one
/// is dropped.
#[derive(Clone, Debug)]
pub struct ActiveOperation(Arc<OperationGuard>);

#[derive(Debug)]
struct OperationGuard(Arc<Operation>);

impl ActiveOperation {
    pub(crate) fn operation(&self) -> &Arc<Operation> {
        &self.0.0
    }

    /// Lets signals end the call on this thread until the value is dropped, if the call is
    /// interruptible.
    pub(crate) fn signals(&self, interruptible: bool) -> Result<Option<SignalScope>, Error> {
        if !interruptible {
            return Ok(None);
        }
        let scope = SignalScope::enter();
        self.operation().interrupted_before()?;
        Ok(Some(scope))
    }
}

impl Drop for OperationGuard {
    fn drop(&mut self) {
        self.0.wake.release();
        self.0.busy.store(false, Ordering::Release);
    }
}
