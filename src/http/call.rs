//! A call: its deadlines and its cancellation, which every wait obeys.
//!
//! Calls block, each on its own thread. So a connection finds the call that uses it
//! in a variable of the current thread.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{CancelledBy, Error, Status};
use crate::message::{duration, name};
use crate::operation::{Operation, cancelled};
use crate::sys::{self, IdleWakes, Interest, SignalScope, WaitResult};

/// How long a call may take; `None` is no limit. The defaults are in the table of
/// options.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) connect: Option<Duration>,
    pub(crate) stall: Option<Duration>,
    pub(crate) total: Option<Duration>,
}

/// The most bytes that a server may send without any byte of a body: headers, interim
/// responses, chunk sizes, trailers, TLS handshakes. Nothing else bounds their number.
const OVERHEAD_LIMIT: u64 = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Call {
    limits: Limits,
    started: Instant,
    total_until: Option<Instant>,
    operation: Arc<Operation>,
    wakes: Arc<IdleWakes>,
    /// The `CancelledBy` of its context or stream, or 0; the operation has its own.
    cancelled: AtomicI32,
    report_id: OnceLock<String>,
    state: Mutex<State>,
}

/// Changed only by the thread that the call is on.
#[derive(Debug, Default)]
struct State {
    is_connecting: bool,
    /// Set while a connection is opened.
    connect_until: Option<Instant>,
    /// An earlier deadline, for a body that is not a report.
    body_until: Option<Instant>,
    overhead: u64,
    /// Whether the current request opened its connection.
    opened_connection: bool,
    /// Whether its connection was already closed, so nothing was sent.
    unsent: bool,
    /// Whether its connection ended before any of the response.
    without_response: bool,
    /// Whether an auxiliary request runs, such as a login, and its deadline.
    auxiliary: bool,
    auxiliary_until: Option<Instant>,
    auxiliary_limit: Option<Duration>,
}

/// Ends the auxiliary request of a call when dropped.
pub(crate) struct AuxiliaryRequest(Arc<Call>);

impl Drop for AuxiliaryRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.auxiliary = false;
        state.auxiliary_until = None;
        state.auxiliary_limit = None;
    }
}

thread_local! {
    /// Without a destructor, so that calls work after that of the thread's data: in a
    /// static destructor of the host. It is empty when the thread ends.
    static CURRENT: ManuallyDrop<RefCell<Option<Arc<Call>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Restores the thread's previous call when dropped.
pub(super) struct EnteredCall(Option<Arc<Call>>);

impl Drop for EnteredCall {
    fn drop(&mut self) {
        CURRENT.with(|current| current.replace(self.0.take()));
    }
}

/// `from` + `limit`; `None` if there is no limit or the sum is out of range.
fn deadline(from: Instant, limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| from.checked_add(limit))
}

impl Call {
    /// Makes a call; its total limit counts from now.
    pub(super) fn new(limits: Limits, operation: Arc<Operation>, wakes: Arc<IdleWakes>) -> Arc<Call> {
        let started = Instant::now();
        Arc::new(Call {
            limits,
            started,
            total_until: deadline(started, limits.total),
            operation,
            wakes,
            cancelled: AtomicI32::new(0),
            report_id: OnceLock::new(),
            state: Mutex::new(State::default()),
        })
    }

    /// Makes this the thread's current call until the value is dropped.
    pub(super) fn enter(self: &Arc<Call>) -> EnteredCall {
        EnteredCall(CURRENT.with(|current| current.replace(Some(Arc::clone(self)))))
    }

    /// Returns the thread's current call. Transports are used only inside of calls.
    pub(crate) fn current() -> Result<Arc<Call>, Error> {
        CURRENT
            .with(|current| current.borrow().clone())
            .ok_or_else(|| Error::new(Status::Internal, "a connection was used outside of a call"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Sets the id of its report, for the log.
    pub(crate) fn set_report_id(&self, id: &str) {
        let _ = self.report_id.set(id.to_owned());
    }

    pub(crate) fn report_id(&self) -> Option<&String> {
        self.report_id.get()
    }

    /// Returns how long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Cancels only this call: its operation stays usable for the next one.
    pub(crate) fn cancel(&self, by: CancelledBy) {
        let _ = self
            .cancelled
            .compare_exchange(0, by as i32, Ordering::SeqCst, Ordering::SeqCst);
        self.operation.wake_up();
    }

    /// Returns an error if the call must stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.cancelled.load(Ordering::SeqCst) {
            0 => self.operation.check(),
            by if by == CancelledBy::Close as i32 => Err(cancelled(CancelledBy::Close)),
            _ => Err(cancelled(CancelledBy::Client)),
        }
    }

    /// Does the periodic work of a call: checks whether it must stop, handles signals and
    /// calls the progress callback.
    pub(crate) fn advance(&self) -> Result<(), Error> {
        self.check()?;
        if SignalScope::deliver() {
            self.operation.interrupted()?;
        }
        self.operation.tick_if_due()?;
        self.interrupted_in_callback()
    }

    /// Returns an error if a signal that was handled in a callback must end the call.
    fn interrupted_in_callback(&self) -> Result<(), Error> {
        if SignalScope::was_suspended() {
            self.operation.interrupted_before()?;
        }
        Ok(())
    }

    /// Begins an auxiliary request, such as a login, which lasts until the value is dropped.
    /// Its requests do not count as attempts, and `limit` bounds their time.
    pub(crate) fn auxiliary_request(self: &Arc<Call>, limit: Option<Duration>) -> AuxiliaryRequest {
        let mut state = self.state();
        state.auxiliary = true;
        state.auxiliary_until = deadline(Instant::now(), limit);
        state.auxiliary_limit = limit;
        drop(state);
        AuxiliaryRequest(Arc::clone(self))
    }

    /// Begins a request, on a connection from the pool or a new one.
    pub(super) fn begin_request(&self) {
        let mut state = self.state();
        let is_resent = std::mem::take(&mut state.unsent);
        if !state.auxiliary && !is_resent {
            self.operation.count_attempt();
        }
        state.overhead = 0;
        state.opened_connection = false;
        state.without_response = false;
        state.body_until = None;
    }

    /// Records that the current request was not sent: the server had closed its idle
    /// connection.
    pub(super) fn mark_unsent(&self) {
        self.state().unsent = true;
    }

    /// Whether the current request was not sent, so that any kind may be sent again.
    pub(super) fn is_unsent(&self) -> bool {
        self.state().unsent
    }

    /// Records that the connection ended before any of the response.
    pub(super) fn mark_without_response(&self) {
        self.state().without_response = true;
    }

    /// Whether the current request was sent on a reused connection and no response came.
    /// Then the server had probably closed it before it saw the request.
    pub(super) fn is_stale_connection(&self) -> bool {
        let state = self.state();
        !state.opened_connection && state.without_response
    }

    /// Starts the connect timeout, which [`Call::end_connecting`] ends.
    pub(super) fn begin_connecting(&self) {
        let mut state = self.state();
        state.connect_until = deadline(Instant::now(), self.limits.connect);
        state.is_connecting = true;
        state.opened_connection = true;
    }

    pub(super) fn end_connecting(&self) {
        let mut state = self.state();
        state.is_connecting = false;
        state.connect_until = None;
    }

    /// Bounds the rest of the request by the stall timeout: a body that is not a report is
    /// not worth waiting for a slow server.
    pub(crate) fn limit_to_stall_timeout(&self) {
        self.state().body_until = deadline(Instant::now(), self.limits.stall);
    }

    /// Counts received bytes (see [`OVERHEAD_LIMIT`]) and checks the limits: if bytes
    /// arrive without a pause, no wait checks them.
    pub(super) fn count_received(&self, bytes: usize) -> Result<(), Error> {
        self.advance()?;
        let overhead = {
            let mut state = self.state();
            state.overhead += bytes as u64;
            state.overhead
        };
        if overhead > OVERHEAD_LIMIT {
            return Err(Error::new(
                Status::Protocol,
                "the server sent more than 1 MiB that is not part of a body; its HTTP is not valid",
            ));
        }
        match self.next_limit() {
            (Some(until), expired) if until <= Instant::now() => Err(expired()),
            _ => Ok(()),
        }
    }

    /// Resets the overhead: a part of a body has arrived.
    pub(super) fn reset_overhead(&self) {
        self.state().overhead = 0;
    }

    /// Waits for a descriptor as long as the call allows.
    pub(super) fn wait(&self, fd: BorrowedFd<'_>, interest: Interest) -> Result<(), Error> {
        let (until, expired) = self.next_limit();
        if self.wait_until(&[(fd, interest)], until)? {
            return Ok(());
        }
        Err(expired())
    }

    /// Waits for another thread, as long as the call allows.
    pub(crate) fn wait_for_thread(&self, fd: BorrowedFd<'_>) -> Result<(), Error> {
        self.wait(fd, Interest::Readable)
    }

    /// Waits for any of these descriptors until a time that the caller chose; returns
    /// false when that time has come.
    pub(super) fn wait_until(
        &self,
        fds: &[(BorrowedFd<'_>, Interest)],
        until: Option<Instant>,
    ) -> Result<bool, Error> {
        let wake = self.operation.wake(&self.wakes)?;
        loop {
            self.check()?;
            self.operation.tick_if_due()?;
            self.interrupted_in_callback()?;
            let next = [until, self.operation.tick_due()].into_iter().flatten().min();
            match sys::wait(fds, Some(wake.as_fd()), next) {
                Ok(WaitResult::Ready) => return Ok(true),
                Ok(WaitResult::Woken) => {
                    // If it was not a cancel, it must not end the next wait.
                    wake.clear();
                    self.check()?;
                }
                Ok(WaitResult::Interrupted) => {
                    self.operation.interrupted()?;
                    // If signals arrive all the time, the wait itself never times out.
                    if until.is_some_and(|until| until <= Instant::now()) {
                        return Ok(false);
                    }
                }
                Ok(WaitResult::TimedOut) if until.is_some_and(|until| until <= Instant::now()) => {
                    return Ok(false);
                }
                Ok(WaitResult::TimedOut) => {}
                Err(e) => return Err(Error::os(Status::Network, "cannot wait for the connection", &e)),
            }
        }
    }

    /// Waits for a descriptor that the body is written to. The stall timeout does not
    /// apply: it is about the network.
    pub(crate) fn wait_for_sink(&self, fd: BorrowedFd<'_>, interest: Interest) -> Result<(), Error> {
        if self.wait_until(&[(fd, interest)], self.total_until)? {
            return Ok(());
        }
        Err(self.next_limit().1())
    }

    /// Waits before another attempt. Returns false, without waiting, if the total limit
    /// leaves no time for one.
    pub(crate) fn pause(&self, pause: Duration) -> Result<bool, Error> {
        if !self.has_time_for(pause) {
            return Ok(false);
        }
        let until = deadline(Instant::now(), Some(pause));
        self.wait_until(&[], until).map(|_| true)
    }

    pub(crate) fn total_limit(&self) -> Option<Duration> {
        self.limits.total
    }

    /// Whether the total limit leaves time for an attempt after this pause.
    pub(crate) fn has_time_for(&self, pause: Duration) -> bool {
        let until = deadline(Instant::now(), Some(pause));
        self.total_until
            .is_none_or(|total| until.is_some_and(|until| until < total))
    }

    /// Adds to a failure that there is no time for another attempt.
    pub(crate) fn out_of_time(&self, failure: Error) -> Error {
        let limit = duration(self.limits.total.unwrap_or_default());
        failure.map_message(|text| {
            let option = name("total_timeout_ms");
            format!("{text}; {option} ({limit}) leaves no time for another attempt")
        })
    }

    /// Returns the earliest limit of the next wait, and a function that makes its error.
    pub(super) fn next_limit(&self) -> (Option<Instant>, impl FnOnce() -> Error + use<>) {
        let state = self.state();
        let phase = if state.is_connecting {
            (state.connect_until, Status::ConnectTimeout)
        } else {
            (deadline(Instant::now(), self.limits.stall), Status::Stalled)
        };
        let limits = [
            (self.total_until, Status::TotalTimeout),
            phase,
            (state.body_until, Status::Stalled),
        ];
        let (mut until, status) = limits
            .into_iter()
            .filter_map(|(until, status)| until.map(|until| (until, status)))
            .min_by_key(|(until, _)| *until)
            .map_or((None, Status::Internal), |(until, status)| (Some(until), status));
        let auxiliary = state.auxiliary_limit.filter(|_| {
            until.is_none_or(|until| state.auxiliary_until.is_some_and(|auxiliary| auxiliary < until))
        });
        if auxiliary.is_some() {
            until = state.auxiliary_until;
        }
        let limits = self.limits;
        let expired = move || {
            if let Some(limit) = auxiliary {
                let text = format!("no response came within {}", duration(limit));
                return Error::new(Status::Stalled, text);
            }
            let (what, key, limit) = match status {
                Status::TotalTimeout => ("the call took longer than", "total_timeout_ms", limits.total),
                Status::ConnectTimeout => (
                    "no connection was made within",
                    "connect_timeout_ms",
                    limits.connect,
                ),
                _ => (
                    "no data was transferred for longer than",
                    "stall_timeout_ms",
                    limits.stall,
                ),
            };
            let limit = duration(limit.unwrap_or_default());
            Error::new(status, format!("{what} {} ({limit})", name(key)))
        };
        (until, expired)
    }
}
