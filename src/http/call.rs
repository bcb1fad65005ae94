//! The call that a thread is in: its deadlines, which every wait obeys.
//!
//! The core blocks, one thread for each call. So a connection, wherever it was
//! made and whoever used it last, finds the call that uses it now on its own
//! thread.

use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::{Error, Status};
use crate::sys::{self, Interest};

/// How long a call may take; none is for ever. The defaults stand in the table
/// of options.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) connect: Option<Duration>,
    pub(crate) stall: Option<Duration>,
    pub(crate) total: Option<Duration>,
}

/// The most that a server may send without a byte of a body in it: headers,
/// interim answers, chunk sizes, trailers, TLS handshakes. Each of these is
/// bounded by nothing else when it comes in an endless row.
const OVERHEAD_LIMIT: u64 = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Call {
    limits: Limits,
    total_until: Option<Instant>,
    /// Set while a connection is being made.
    connect_until: Cell<Option<Instant>>,
    connecting: Cell<bool>,
    /// Tightens the total limit, for what is worth less waiting than a report.
    bound: Cell<Option<Instant>>,
    overhead: Cell<u64>,
    requests: Cell<u32>,
    /// Whether the request under way opened its connection.
    fresh: Cell<bool>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Call>>> = const { RefCell::new(None) };
}

/// Ends the call of this thread when dropped.
pub(super) struct Entered {
    call: Rc<Call>,
    outer: Option<Rc<Call>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| current.replace(self.outer.take()));
    }
}

impl std::ops::Deref for Entered {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

/// `from` + `limit`; none where that lies beyond what the clock can tell.
fn after(from: Instant, limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| from.checked_add(limit))
}

impl Call {
    /// Makes this the call of the thread until the value is dropped.
    pub(super) fn enter(limits: Limits) -> Entered {
        let call = Rc::new(Call {
            limits,
            total_until: after(Instant::now(), limits.total),
            connect_until: Cell::new(None),
            connecting: Cell::new(false),
            bound: Cell::new(None),
            overhead: Cell::new(0),
            requests: Cell::new(0),
            fresh: Cell::new(false),
        });
        let outer = CURRENT.with(|current| current.replace(Some(Rc::clone(&call))));
        Entered { call, outer }
    }

    /// The call of this thread. Transports are used inside of calls alone.
    pub(super) fn current() -> Result<Rc<Call>, Error> {
        CURRENT
            .with(|current| current.borrow().clone())
            .ok_or_else(|| Error::new(Status::Internal, "a connection was used outside of a call"))
    }

    /// A request begins, on a connection from the pool or a new one.
    pub(super) fn requesting(&self) {
        self.requests.set(self.requests.get() + 1);
        self.overhead.set(0);
        self.fresh.set(false);
    }

    /// How many requests this call has made.
    pub(super) fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// Whether the request under way went out on a kept connection and not one
    /// byte came back: then the server had closed it before it saw the request.
    pub(super) fn met_a_closed_connection(&self) -> bool {
        !self.fresh.get() && self.overhead.get() == 0
    }

    /// Counts the time until [`Call::connected`] against the connect timeout.
    pub(super) fn connecting(&self) {
        self.connect_until.set(after(Instant::now(), self.limits.connect));
        self.connecting.set(true);
        self.fresh.set(true);
    }

    pub(super) fn connected(&self) {
        self.connecting.set(false);
        self.connect_until.set(None);
    }

    /// From now on the call may take no longer than its stall timeout: for a
    /// body that is no report, a server that drips is as good as one that is
    /// silent.
    pub(super) fn bound_to_stall_timeout(&self) {
        self.bound.set(after(Instant::now(), self.limits.stall));
    }

    /// Counts bytes that came in, see [`OVERHEAD_LIMIT`], and looks at the
    /// clock: where bytes come without a pause, there is no wait to do it.
    pub(super) fn received(&self, bytes: usize) -> Result<(), Error> {
        self.overhead.set(self.overhead.get() + bytes as u64);
        if self.overhead.get() > OVERHEAD_LIMIT {
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
        self.overhead.set(0);
    }

    /// Waits for a socket as long as the call allows.
    pub(super) fn wait(&self, fd: BorrowedFd<'_>, interest: Interest) -> Result<(), Error> {
        let (until, expired) = self.next_limit();
        match sys::wait(fd, interest, until) {
            Ok(true) => Ok(()),
            Ok(false) => Err(expired()),
            Err(e) => Err(Error::os(Status::Network, "cannot wait for the connection", &e)),
        }
    }

    /// The limit that ends the next wait first, and the error that it gives.
    pub(super) fn next_limit(&self) -> (Option<Instant>, impl FnOnce() -> Error) {
        let now = Instant::now();
        let phase = if self.connecting.get() {
            (self.connect_until.get(), Status::ConnectTimeout)
        } else {
            (after(now, self.limits.stall), Status::Stalled)
        };
        let limits = [
            (self.total_until, Status::TotalTimeout),
            phase,
            (self.bound.get(), Status::Stalled),
        ];
        let (until, status) = limits
            .into_iter()
            .filter_map(|(until, status)| until.map(|until| (until, status)))
            .min_by_key(|(until, _)| *until)
            .map_or((None, Status::Internal), |(until, status)| (Some(until), status));
        let limits = self.limits;
        let expired = move || {
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
