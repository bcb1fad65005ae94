//! A report that the caller reads part by part.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use crate::client::download::report::ReportInfo;
use crate::client::download::transfer::{Step, Transfer};
use crate::client::inner::ClientInner;
use crate::error::{CancelledBy, Error, Status};
use crate::http::Call;
use crate::sys;

/// A report that you read part by part; [`Client::open`](crate::client::Client::open)
/// gives it.
///
/// It implements [`Read`], and so does a reference to it, so that an
/// `Arc<ReportStream>` can be read by one thread and closed by another. One thread
/// reads at a time; a second one gets [`Status::Busy`]. The end (0 bytes) is given
/// only when the report was whole and its length right. A failure stays: the next
/// read gives it again.
///
/// The [`std::io::Error`] of a read holds the [`Error`]: see
/// [`Error::from_io`].
///
/// A transfer that breaks is resumed where the service can; where it cannot, the
/// read fails, since what you have cannot be taken back. The stream goes on when
/// its client is dropped, and ends when that is closed. In a child of `fork` the
/// parent's streams are refused.
pub struct ReportStream {
    process: usize,
    client: Arc<ClientInner>,
    call: Arc<Call>,
    /// That of the stream among its operation's calls: once it is closed, the
    /// operation may serve another.
    number: u64,
    info: ReportInfo,
    closed: AtomicBool,
    /// Held by the thread that reads.
    reader: Mutex<Reader>,
}

/// What reads of a stream work on.
pub struct Reader {
    /// None once the stream is closed.
    transfer: Option<Transfer>,
    ended: bool,
    failed: Option<Error>,
}

impl ReportStream {
    pub(super) fn new(client: Arc<ClientInner>, transfer: Transfer) -> ReportStream {
        ReportStream {
            process: sys::process(),
            client,
            call: Arc::clone(transfer.call()),
            number: transfer.operation().number(),
            info: transfer.report_info(),
            closed: AtomicBool::new(false),
            reader: Mutex::new(Reader {
                transfer: Some(transfer),
                ended: false,
                failed: None,
            }),
        }
    }

    /// Runs what a read does, under the stream's operation, which keeps its
    /// failure.
    pub(crate) fn run(&self, read: impl FnOnce(&mut Reader) -> Result<usize, Error>) -> Result<usize, Error> {
        if self.process != sys::process() {
            return Err(Error::argument(
                Status::Argument,
                "stream",
                "belongs to the process that this one was forked from; open the report again here",
            ));
        }
        let mut reader = match self.reader.try_lock() {
            Ok(reader) => reader,
            // The stream that another thread closes is free in a moment.
            Err(TryLockError::WouldBlock) if self.closed.load(Ordering::SeqCst) => return Err(closed()),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::argument(
                    Status::Busy,
                    "stream",
                    "is being read by another thread",
                ));
            }
            Err(TryLockError::Poisoned(_)) => {
                return Err(Error::new(
                    Status::Internal,
                    "an earlier read of the stream failed internally",
                ));
            }
        };
        let outcome = self.check_open().and_then(|()| {
            let active = reader.transfer.as_ref().map(Transfer::active);
            let _signals = active.map(|active| self.client.signals(active)).transpose()?;
            read(&mut reader)
        });
        self.call.operation().finish(self.number, outcome.as_ref().err());
        drop(reader);
        // Whoever closed it meanwhile has left the rest to this thread.
        if self.closed.load(Ordering::SeqCst) {
            self.let_go();
        }
        outcome
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        self.client.check_open().map_err(|_| closed())
    }

    /// Ends a read under way with [`Status::Cancelled`] and later ones with
    /// [`Status::Closed`]. The stream's operation is free for another call, at once
    /// or when that read has ended. From any thread; it does not wait. Dropping the
    /// stream closes it too.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if self.process == sys::process() {
            self.call.cancel(CancelledBy::Close);
            self.let_go();
        }
    }

    /// Ends the transfer, unless a thread reads, which then does it.
    fn let_go(&self) {
        let transfer = match self.reader.try_lock() {
            Ok(mut reader) => reader.transfer.take(),
            Err(_) => None,
        };
        drop(transfer);
    }

    /// What is known of the report.
    pub fn info(&self) -> &ReportInfo {
        &self.info
    }
}

fn closed() -> Error {
    Error::argument(
        Status::Closed,
        "stream",
        "is closed, or its context is; open the report again to read it",
    )
}

impl Reader {
    /// Reads some of the report: 0 is its end, whole and checked. A failure
    /// stays.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        if buf.is_empty() {
            return Err(Error::argument(Status::Argument, "cap", "must not be 0"));
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(transfer) = &mut self.transfer else {
            return Err(closed());
        };
        let outcome = match transfer.read(buf) {
            Ok(Step::Bytes(n)) => return Ok(n),
            Ok(Step::End) if self.ended => return Ok(0),
            Ok(Step::End) => {
                self.ended = true;
                // The last word of the progress callback.
                transfer
                    .operation()
                    .tick()
                    .map(|()| 0)
                    .map_err(|e| transfer.with_context(e))
            }
            // Not before a byte was handed out, and not after: the transfer was
            // told that its reader cannot forget.
            Ok(Step::Restart) => return Err(Error::new(Status::Internal, "a stream began again")),
            Err(error) => Err(error),
        };
        self.failed = outcome.as_ref().err().cloned();
        outcome
    }
}

impl Read for &ReportStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        Ok(self.run(|reader| reader.read(buf))?)
    }
}

impl Read for ReportStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl fmt::Debug for ReportStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportStream")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Drop for ReportStream {
    fn drop(&mut self) {
        // In a child of `fork` the connection is the parent's.
        if self.process != sys::process()
            && let Ok(reader) = self.reader.get_mut()
        {
            std::mem::forget(reader.transfer.take());
        }
    }
}
