//! The control of one call: its options, its progress, its cancel, its result.

use std::ffi::{CString, c_char};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Format;
use crate::error::{Error, Status};
use crate::memory;
use crate::sys::{self, LazyWake, SignalScope, Wake};

/// How often a progress callback hears, at least.
const TICK: Duration = Duration::from_millis(50);

/// Told how a call goes.
pub trait Progress: Send + Sync {
    /// False ends the call.
    fn tick(&self, operation: &Operation) -> bool;
}

/// Asked when a signal was handled.
pub trait Interrupt: Send + Sync {
    /// Whether it shall end the call.
    fn ends_call(&self) -> bool;
}

/// Options of one call; none leaves the context's in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    pub connect_timeout: Option<Option<Duration>>,
    pub stall_timeout: Option<Option<Duration>>,
    pub total_timeout: Option<Option<Duration>>,
    pub max_attempts: Option<u32>,
    pub max_memory: Option<u64>,
    pub file_mode: Option<u32>,
    pub wait_timeout: Option<Option<Duration>>,
    pub poll_interval: Option<Duration>,
    pub interruptible: Option<bool>,
}

#[derive(Default)]
struct Outcome {
    error: Option<Error>,
    // The getters hand out pointers that stay valid until the next call, so a
    // value that an attempt replaces is kept behind the new one.
    paths: Vec<CString>,
    filenames: Vec<CString>,
    content_types: Vec<CString>,
    request_ids: Vec<CString>,
}

/// What is known of a report when it begins to arrive.
pub(crate) struct Description<'a> {
    pub(crate) filename: &'a str,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
    pub(crate) format: Format,
}

/// See `dbss_operation`.
pub struct Operation {
    process: u32,
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
    progress: Mutex<Option<Arc<dyn Progress>>>,
    interrupt: Mutex<Option<Arc<dyn Interrupt>>>,
    next_tick: Mutex<Option<Instant>>,
    outcome: Mutex<Outcome>,
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
    /// Costs no descriptor until a call waits.
    pub fn new() -> Arc<Operation> {
        Arc::new(Operation {
            process: sys::process_id(),
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
            interrupt: Mutex::new(None),
            next_tick: Mutex::new(None),
            outcome: Mutex::new(Outcome::default()),
        })
    }

    /// Takes the operation for one call; the results of the last one go.
    pub fn begin(self: &Arc<Operation>) -> Result<Running, Error> {
        self.check_process()?;
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(busy());
        }
        self.forget();
        Ok(Running(Arc::new(Hold(Arc::clone(self)))))
    }

    /// Runs a call under an operation, or under none, and keeps its failure for
    /// [`Operation::error`]: every one but that the operation is busy, which
    /// belongs to the other call.
    pub fn scope<T>(
        operation: Option<&Arc<Operation>>,
        call: impl FnOnce(Option<Running>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(operation) = operation else {
            return call(None);
        };
        let running = operation.begin()?;
        call(Some(running.clone())).inspect_err(|e| operation.fail(e))
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
        *lock(&self.outcome) = Outcome::default();
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
        if self.process == sys::process_id() {
            return Ok(());
        }
        Err(of_another_process())
    }

    /// Async-signal-safe: an atomic store and a wake-up that does not block.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        // A child of `fork` shares the parent's wake-up, and must not touch it.
        if self.process == sys::process_id() {
            self.wake.signal();
        }
    }

    /// Undoes a cancel and forgets the last call.
    pub fn reset(&self) -> Result<(), Error> {
        self.while_idle(|| {
            self.wake.clear();
            self.cancelled.store(false, Ordering::Release);
            self.forget();
        })
    }

    pub fn change_overrides(
        &self,
        change: impl FnOnce(&mut Overrides) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.while_idle(|| change(&mut lock(&self.overrides)))?
    }

    pub fn overrides(&self) -> Overrides {
        *lock(&self.overrides)
    }

    /// Sets who is told how a call goes.
    pub fn set_progress(&self, progress: Option<Arc<dyn Progress>>) -> Result<(), Error> {
        let old = self.while_idle(|| std::mem::replace(&mut *lock(&self.progress), progress))?;
        // The caller's destructor runs here, outside of the lock.
        drop(old);
        Ok(())
    }

    /// Sets who is asked whether a signal ends a call that is interruptible.
    pub fn set_interrupt(&self, interrupt: Option<Arc<dyn Interrupt>>) -> Result<(), Error> {
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
        Some(interrupt.ends_call())
    }

    /// What ends its waits. Whoever waits calls [`Operation::check`] after this.
    pub(crate) fn wake(&self) -> Result<&Wake, Error> {
        self.wake
            .get()
            .map_err(|e| Error::os(Status::Resource, "cannot make a descriptor to wait with", &e))
    }

    /// Ends a wait of the call, whose reason stands elsewhere.
    pub(crate) fn wake_up(&self) {
        if self.process == sys::process_id() {
            self.wake.signal();
        }
    }

    /// An error if the call is to stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.cancelled.load(Ordering::SeqCst) {
            return memory::check();
        }
        Err(cancelled())
    }

    /// When the progress callback is due next; none where there is none.
    pub(crate) fn tick_due(&self) -> Option<Instant> {
        *lock(&self.next_tick)
    }

    /// Calls the progress callback now; an error if it says stop.
    pub(crate) fn tick(&self) -> Result<(), Error> {
        let progress = lock(&self.progress).clone();
        let Some(progress) = progress else {
            return Ok(());
        };
        let go_on = progress.tick(self);
        *lock(&self.next_tick) = Instant::now().checked_add(TICK);
        if go_on {
            return Ok(());
        }
        Err(Error::new(
            Status::Cancelled,
            "the call was cancelled by its progress callback",
        ))
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

    pub(crate) fn count_attempt(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_path(&self, path: Vec<u8>) {
        lock(&self.outcome).paths.extend(CString::new(path));
    }

    pub(crate) fn describe(&self, about: &Description<'_>) {
        self.format.store(about.format as i32, Ordering::Relaxed);
        let c_string = |text: &str| CString::new(text).ok();
        let mut outcome = lock(&self.outcome);
        outcome.filenames.extend(c_string(about.filename));
        outcome
            .content_types
            .extend(about.content_type.and_then(c_string));
        outcome.request_ids.extend(about.request_id.and_then(c_string));
    }

    pub(crate) fn fail(&self, error: &Error) {
        self.finish(Some(error));
    }

    /// Keeps how a part of a call ended.
    pub(crate) fn finish(&self, error: Option<&Error>) {
        let old = std::mem::replace(&mut lock(&self.outcome).error, error.cloned());
        drop(old);
    }

    /// The body's bytes that have arrived, those of earlier attempts included
    /// where they still count.
    pub fn received(&self) -> i64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The body's length; -1 while it is not known.
    pub fn total(&self) -> i64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The bytes that did not have to come again after a transfer broke.
    pub fn resumed(&self) -> i64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// The requests made so far.
    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// How much of a report's making is done, in percent; -1 while it is not
    /// known.
    pub fn percent(&self) -> i32 {
        self.percent.load(Ordering::Relaxed)
    }

    /// Where a file was saved; valid until the next call, NULL for none.
    pub fn path(&self) -> *const c_char {
        last(&lock(&self.outcome).paths)
    }

    /// The report's safe name; valid until the next call, NULL for none.
    pub fn filename(&self) -> *const c_char {
        last(&lock(&self.outcome).filenames)
    }

    /// The service's id of the call; valid until the next call, NULL for none.
    pub fn request_id(&self) -> *const c_char {
        last(&lock(&self.outcome).request_ids)
    }

    /// The header Content-Type; valid until the next call, NULL for none.
    pub fn content_type(&self) -> *const c_char {
        last(&lock(&self.outcome).content_types)
    }

    /// What the report is, by its first bytes.
    pub fn format(&self) -> Format {
        Format::from_value(self.format.load(Ordering::Relaxed))
    }

    /// Why the last call failed; none when it has not.
    pub fn error(&self) -> Option<Error> {
        // Its lock may be held by a thread that does not exist here.
        if self.process != sys::process_id() {
            return Some(of_another_process());
        }
        lock(&self.outcome).error.clone()
    }
}

fn last(values: &[CString]) -> *const c_char {
    values.last().map_or(ptr::null(), |value| value.as_ptr())
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

pub(crate) fn cancelled() -> Error {
    Error::new(Status::Cancelled, "the call was cancelled")
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
pub struct Running(Arc<Hold>);

#[derive(Debug)]
struct Hold(Arc<Operation>);

impl Running {
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
        self.0.busy.store(false, Ordering::Release);
    }
}
