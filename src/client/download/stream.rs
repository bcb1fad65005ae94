//! A report that the caller reads in parts.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, TryLockError};

use crate::client::download::report::ReportInfo;
use crate::client::download::transfer::{Step, Transfer};
use crate::client::inner::ClientInner;
use crate::error::{CancelledBy, Error, Status};
use crate::http::Call;
use crate::operation::cancelled;
use crate::sys;

/// A report that is read in parts; see [`Client::open`](crate::client::Client::open).
///
/// It implements [`Read`], and so does a reference to it, so that an `Arc<ReportStream>`
/// can be read by one thread and closed by another. Only one thread can read at a time; a
/// second one gets [`Status::Busy`]. The end (0 bytes) is returned only if the report was
/// complete and its length correct. After a failure, the next reads return the same
/// error.
///
/// The [`std::io::Error`] of a read contains the [`Error`]: see [`Error::from_io`].
///
/// A broken transfer is resumed if the service supports it. Otherwise the read fails,
/// because bytes that were already read cannot be taken back. The stream still works
/// after its client is dropped, and ends when the client is closed. A child of `fork`
/// cannot use the parent's streams.
pub struct ReportStream {
    process: usize,
    client: Arc<ClientInner>,
    call: Arc<Call>,
    /// The number of this call of the operation. After the stream is closed, the
    /// operation may run another call.
    number: u64,
    info: ReportInfo,
    closed: AtomicBool,
    /// Locked by the thread that reads.
    reader: Mutex<Reader>,
}

/// The state of a stream that reads use.
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

    /// Runs a read under the stream's operation, which records its error.
    pub(crate) fn run(&self, read: impl FnOnce(&mut Reader) -> Result<usize, Error>) -> Result<usize, Error> {
        if self.process != sys::process() {
            return Err(Error::argument(
                Status::Argument,
                "stream",
                "was opened before this process was forked; open the report again in this process",
            ));
        }
        let mut reader = match self.reader.try_lock() {
            Ok(reader) => reader,
            // Another thread is closing the stream at the moment.
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
            let _signals = active
                .map(|active| self.client.handle_signals(active))
                .transpose()?;
            read(&mut reader)
        });
        self.call.operation().finish(self.number, outcome.as_ref().err());
        drop(reader);
        // If another thread closed the stream meanwhile, this thread ends the transfer. The
        // fences order what each writes before what it reads, so that one sees the other.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            self.drop_transfer();
        }
        outcome
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        match self.client.http.is_closed() {
            true => Err(cancelled(CancelledBy::Close)),
            false => Ok(()),
        }
    }

    /// Closes the stream. A running read ends with [`Status::Cancelled`], and later ones
    /// with [`Status::Closed`]. The stream's operation is free for another call,
    /// immediately or when the running read has ended. It may be called from any thread
    /// and does not wait. Dropping the stream closes it too.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.process == sys::process() {
            self.call.cancel(CancelledBy::Close);
            self.drop_transfer();
        }
    }

    /// Ends the transfer. If a thread is reading, that thread ends it.
    fn drop_transfer(&self) {
        let transfer = match self.reader.try_lock() {
            Ok(mut reader) => reader.transfer.take(),
            Err(_) => None,
        };
        drop(transfer);
    }

    /// Returns the properties of the report.
    pub fn info(&self) -> &ReportInfo {
        &self.info
    }
}

fn closed() -> Error {
    Error::argument(
        Status::Closed,
        "stream",
        "is closed; open the report again to read it",
    )
}

impl Reader {
    /// Reads the next bytes. Returns 0 at the end, after the length was checked. After a
    /// failure, the next reads return the same error.
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
                // The progress callback gets its last chance to cancel.
                transfer
                    .operation()
                    .tick()
                    .map(|()| 0)
                    .map_err(|e| transfer.with_context(e))
            }
            // Cannot happen: the transfer was opened with `can_restart` false.
            Ok(Step::Restart) => {
                return Err(Error::new(Status::Internal, "the transfer of a stream restarted"));
            }
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(_) => transfer.log_end(),
            Err(failure) => transfer.log_failure(failure),
        }
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
        // In a child of `fork` the connection belongs to the parent.
        if self.process != sys::process()
            && let Ok(reader) = self.reader.get_mut()
        {
            std::mem::forget(reader.transfer.take());
        }
    }
}
