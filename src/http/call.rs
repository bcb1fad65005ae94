//! A call: its deadlines and its cancel, which every wait obeys.
//!
//! The core blocks, one thread for each call. So a connection, wherever it was
//! made and whoever used it last, finds the call that uses it now on its own
//! thread.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{CancelledBy, Error, Status};
use crate::operation::{Operation, cancelled};
use crate::sys::{self, Ended, Interest, SignalScope};

/// How long a call may take; none is for ever. The defaults stand in the table
/// of options.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) connect: Option<Duration>,
    pub(crate) stall: Option<Duration>,
    pub(crate) total: Option<Duration>,
}

/// The most that a server may send without a byte of a body in it: headers,
/// interim responses, chunk sizes, trailers, TLS handshakes. Each of these is
/// bounded by nothing else when it comes in an endless row.
const OVERHEAD_LIMIT: u64 = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Call {
    limits: Limits,
    started: Instant,
    total_until: Option<Instant>,
    operation: Arc<Operation>,
    /// By its context or stream; a cancel of the operation is the operation's.
    cancelled: AtomicI32,
    report_id: OnceLock<String>,
    state: Mutex<State>,
}

/// Changed by the one thread that the call is on at a time.
#[derive(Debug, Default)]
struct State {
    connecting: bool,
    /// Set while a connection is being made.
    connect_until: Option<Instant>,
    /// Tightens the total limit, for what is worth less waiting than a report.
    bound: Option<Instant>,
    overhead: u64,
    /// Whether the request under way opened its connection.
    fresh: bool,
    /// Whether its connection was found closed before anything was sent.
    unsent: bool,
    /// Whether something is done that is not the call's own work, and until
    /// when.
    aside: bool,
    aside_until: Option<Instant>,
    aside_limit: Option<Duration>,
}

/// Ends what a call does aside when dropped.
pub(crate) struct AuxiliaryRequest(Arc<Call>);

impl Drop for AuxiliaryRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.aside = false;
        state.aside_until = None;
        state.aside_limit = None;
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Call>>> = const { RefCell::new(None) };
}

/// Ends the call's stay on this thread when dropped.
pub(super) struct Entered(Option<Arc<Call>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| current.replace(self.0.take()));
    }
}

/// `from` + `limit`; none where that lies beyond what the clock can tell.
fn after(from: Instant, limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| from.checked_add(limit))
}

impl Call {
    /// The total limit counts from now.
    pub(super) fn new(limits: Limits, operation: Arc<Operation>) -> Arc<Call> {
        let started = Instant::now();
        Arc::new(Call {
            limits,
            started,
            total_until: after(started, limits.total),
            operation,
            cancelled: AtomicI32::new(0),
            report_id: OnceLock::new(),
            state: Mutex::new(State::default()),
        })
    }

    /// Makes this the call of the thread until the value is dropped.
    pub(super) fn enter(self: &Arc<Call>) -> Entered {
        Entered(CURRENT.with(|current| current.replace(Some(Arc::clone(self)))))
    }

    /// The call of this thread. Transports are used inside of calls alone.
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

    /// Says which report it is about, for the log.
    pub(crate) fn set_report_id(&self, id: &str) {
        let _ = self.report_id.set(id.to_owned());
    }

    pub(crate) fn report_id(&self) -> Option<&String> {
        self.report_id.get()
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Cancels this call alone: its operation serves the next one.
    pub(crate) fn cancel(&self, by: CancelledBy) {
        let _ = self
            .cancelled
            .compare_exchange(0, by as i32, Ordering::SeqCst, Ordering::SeqCst);
        self.operation.wake_up();
    }

    /// An error if the call is to stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.cancelled.load(Ordering::SeqCst) {
            0 => self.operation.check(),
            by if by == CancelledBy::Close as i32 => Err(cancelled(CancelledBy::Close)),
            _ => Err(cancelled(CancelledBy::Client)),
        }
    }

    /// Does what is due in a call that goes on: looks for its end, lets signals be
    /// handled, calls the progress callback.
    pub(crate) fn advance(&self) -> Result<(), Error> {
        self.check()?;
        if SignalScope::deliver() {
            self.operation.interrupted()?;
        }
        self.operation.tick_if_due()?;
        self.interrupted_in_callback()
    }

    /// An error if a signal that was handled in a callback shall end the call.
    fn interrupted_in_callback(&self) -> Result<(), Error> {
        if SignalScope::was_suspended() {
            self.operation.interrupted_before()?;
        }
        Ok(())
    }

    /// Until the value is dropped, what is done is not the call's own work, such
    /// as a login: its requests are no attempts, and they take no longer than
    /// this.
    pub(crate) fn auxiliary_request(self: &Arc<Call>, limit: Option<Duration>) -> AuxiliaryRequest {
        let mut state = self.state();
        state.aside = true;
        state.aside_until = after(Instant::now(), limit);
        state.aside_limit = limit;
        drop(state);
        AuxiliaryRequest(Arc::clone(self))
    }

    /// A request begins, on a connection from the pool or a new one.
    pub(super) fn requesting(&self) {
        let mut state = self.state();
        let again = std::mem::take(&mut state.unsent);
        if !state.aside && !again {
            self.operation.count_attempt();
        }
        state.overhead = 0;
        state.fresh = false;
        state.bound = None;
    }

    /// The request under way did not go out: the server had closed the kept
    /// connection that it was for.
    pub(super) fn found_closed(&self) {
        self.state().unsent = true;
    }

    /// Whether the request under way is to be made once more, whatever it is.
    pub(super) fn was_not_sent(&self) -> bool {
        self.state().unsent
    }

    /// Whether the request under way went out on a kept connection and not one
    /// byte came back: then the server had closed it before it saw the request.
    pub(super) fn is_stale_connection(&self) -> bool {
        let state = self.state();
        !state.fresh && state.overhead == 0
    }

    /// Counts the time until [`Call::connected`] against the connect timeout.
    pub(super) fn connecting(&self) {
        let mut state = self.state();
        state.connect_until = after(Instant::now(), self.limits.connect);
        state.connecting = true;
        state.fresh = true;
    }

    pub(super) fn connected(&self) {
        let mut state = self.state();
        state.connecting = false;
        state.connect_until = None;
    }

    /// From now on the request may take no longer than its stall timeout: for a
    /// body that is no report, a server that drips is as good as one that is
    /// silent.
    pub(crate) fn bound_to_stall_timeout(&self) {
        self.state().bound = after(Instant::now(), self.limits.stall);
    }

    /// Counts bytes that came in, see [`OVERHEAD_LIMIT`], and looks at the
    /// clock: where bytes come without a pause, there is no wait to do it.
    pub(super) fn received(&self, bytes: usize) -> Result<(), Error> {
        self.advance()?;
        let overhead = {
            let mut state = self.state();
            state.overhead += bytes as u64;
            state.overhead
        };
        if overhead > OVERHEAD_LIMIT {
            return Err(Error::new(
                Status::Protocol,
                "the server sent a megabyte that is no part of a body; it does not speak HTTP soundly",
            ));
        }
        match self.next_limit() {
            (Some(until), expired) if until <= Instant::now() => Err(expired()),
            _ => Ok(()),
        }
    }

    /// A part of a body came out of what was received.
    pub(super) fn delivered(&self) {
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

    /// Waits for what another thread does, as long as the call allows.
    pub(crate) fn wait_for_another(&self, fd: BorrowedFd<'_>) -> Result<(), Error> {
        self.wait(fd, Interest::Readable)
    }

    /// Waits for any of some descriptors until a time that is not the call's own:
    /// false when it has come.
    pub(super) fn wait_until(
        &self,
        fds: &[(BorrowedFd<'_>, Interest)],
        until: Option<Instant>,
    ) -> Result<bool, Error> {
        let wake = self.operation.wake()?;
        loop {
            self.check()?;
            self.operation.tick_if_due()?;
            self.interrupted_in_callback()?;
            let next = [until, self.operation.tick_due()].into_iter().flatten().min();
            match sys::wait(fds, Some(wake.as_fd()), next) {
                Ok(Ended::Ready) => return Ok(true),
                Ok(Ended::Woken) => {
                    // Where it was no cancel, it must not keep the wait awake.
                    wake.clear();
                    self.check()?;
                }
                Ok(Ended::Interrupted) => {
                    self.operation.interrupted()?;
                    // Where signals come faster than this asks, no wait ever times out.
                    if until.is_some_and(|until| until <= Instant::now()) {
                        return Ok(false);
                    }
                }
                Ok(Ended::TimedOut) if until.is_some_and(|until| until <= Instant::now()) => {
                    return Ok(false);
                }
                Ok(Ended::TimedOut) => {}
                Err(e) => return Err(Error::os(Status::Network, "cannot wait for the connection", &e)),
            }
        }
    }

    /// Waits for a descriptor that the body goes to. That may take as long as
    /// its reader likes: the stall timeout is about the network.
    pub(crate) fn wait_for_sink(&self, fd: BorrowedFd<'_>, interest: Interest) -> Result<(), Error> {
        if self.wait_until(&[(fd, interest)], self.total_until)? {
            return Ok(());
        }
        Err(self.next_limit().1())
    }

    /// Waits before another attempt; an error if the call is over before that,
    /// none otherwise.
    pub(crate) fn pause(&self, pause: Duration) -> Result<bool, Error> {
        let until = after(Instant::now(), Some(pause));
        // No attempt would be left to make.
        if self
            .total_until
            .is_some_and(|total| until.is_none_or(|until| until >= total))
        {
            return Ok(false);
        }
        self.wait_until(&[], until).map(|_| true)
    }

    /// The limit that ends the next wait first, and the error that it gives.
    pub(super) fn next_limit(&self) -> (Option<Instant>, impl FnOnce() -> Error + use<>) {
        let state = self.state();
        let phase = if state.connecting {
            (state.connect_until, Status::ConnectTimeout)
        } else {
            (after(Instant::now(), self.limits.stall), Status::Stalled)
        };
        let limits = [
            (self.total_until, Status::TotalTimeout),
            phase,
            (state.bound, Status::Stalled),
        ];
        let (mut until, status) = limits
            .into_iter()
            .filter_map(|(until, status)| until.map(|until| (until, status)))
            .min_by_key(|(until, _)| *until)
            .map_or((None, Status::Internal), |(until, status)| (Some(until), status));
        let aside = state
            .aside_limit
            .filter(|_| until.is_none_or(|until| state.aside_until.is_some_and(|aside| aside < until)));
        if aside.is_some() {
            until = state.aside_until;
        }
        let limits = self.limits;
        let expired = move || {
            if let Some(limit) = aside {
                let ms = limit.as_millis();
                return Error::new(Status::Stalled, format!("no response came within {ms} ms"));
            }
            let (what, key, limit) = match status {
                Status::TotalTimeout => ("the call took longer than", "total_timeout_ms", limits.total),
                Status::ConnectTimeout => {
                    ("no connection stood within", "connect_timeout_ms", limits.connect)
                }
                _ => ("nothing moved for longer than", "stall_timeout_ms", limits.stall),
            };
            let ms = limit.unwrap_or_default().as_millis();
            Error::new(status, format!("{what} {key} ({ms} ms)"))
        };
        (until, expired)
    }
}
