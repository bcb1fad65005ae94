//! Downloads: a transfer pumped into a sink, or pulled by the caller.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use super::inner::ClientInner;
use super::report::{ReportInfo, ReportRequest};
use super::transfer::{Step, Transfer};
use crate::error::{CancelledBy, Error, Status};
use crate::http::Call;
use crate::log::{Level, LogRecord};
use crate::operation::ActiveOperation;
use crate::sink::{Callback, Descriptor, FileOptions, FileSink, Memory, Sink, Writer};
use crate::sys;

const READ_BUFFER: u64 = 128 * 1024;

impl ClientInner {
    /// Downloads a report into memory.
    pub(super) fn download_to_memory(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        active: Option<ActiveOperation>,
    ) -> Result<Box<[u8]>, Error> {
        self.run(active, request.subject(), |active| {
            let limit = active
                .operation()
                .overrides()
                .max_memory
                .unwrap_or(self.max_memory);
            let mut sink = Memory::new(limit);
            self.pump(active, request, &mut sink)?;
            Ok(sink.into_bytes())
        })
    }

    /// Downloads a report to a file of this name.
    pub(super) fn download_to_file(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        path: &Path,
        replace: bool,
        active: Option<ActiveOperation>,
    ) -> Result<ReportInfo, Error> {
        check_path(path, "path")?;
        self.save(request, replace, active, |options| FileSink::at(path, options))
            .map(|(_, info)| info)
    }

    /// Downloads a report into a directory, under its own name.
    pub(super) fn download_to_directory(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        path: &Path,
        replace: bool,
        active: Option<ActiveOperation>,
    ) -> Result<PathBuf, Error> {
        check_path(path, "directory")?;
        let (file, _) = self.save(request, replace, active, |options| {
            FileSink::inside(path, options)
        })?;
        file.path()
            .ok_or_else(|| Error::new(Status::Internal, "a file without a name"))
    }

    fn save(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        replace: bool,
        active: Option<ActiveOperation>,
        sink: impl FnOnce(FileOptions) -> Result<FileSink, Error>,
    ) -> Result<(FileSink, ReportInfo), Error> {
        self.run(active, request.subject(), |active| {
            // A call that is cancelled already must not touch the file system.
            active.operation().check()?;
            let mode = active.operation().overrides().file_mode;
            let mut sink = sink(FileOptions {
                replace,
                mode: mode.unwrap_or(self.file_mode),
            })?;
            let info = self.pump(active, request, &mut sink)?;
            Ok((sink, info))
        })
    }

    /// Downloads a report to a descriptor.
    pub(super) fn download_to_descriptor(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        fd: BorrowedFd<'_>,
        active: Option<ActiveOperation>,
    ) -> Result<ReportInfo, Error> {
        // Before anything else is opened, which could get the number of one that
        // is closed.
        let mut sink = Descriptor::new(fd)?;
        self.run(active, request.subject(), |active| {
            self.pump(active, request, &mut sink)
        })
    }

    /// Downloads a report to a writer.
    pub(super) fn download_to_writer(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        writer: impl Write,
        active: Option<ActiveOperation>,
    ) -> Result<ReportInfo, Error> {
        self.run(active, request.subject(), |active| {
            self.pump(active, request, &mut Writer(writer))
        })
    }

    /// Downloads a report to a function, which may stop the call with false.
    pub(super) fn download_to_callback(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        write: impl FnMut(&[u8]) -> bool,
        active: Option<ActiveOperation>,
    ) -> Result<(), Error> {
        self.run(active, request.subject(), |active| {
            self.pump(active, request, &mut Callback(write)).map(drop)
        })
    }

    /// Opens a report to be read by the caller.
    pub(super) fn open_report(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        active: Option<ActiveOperation>,
    ) -> Result<ReportStream, Error> {
        self.run(active, request.subject(), |active| {
            let transfer = Transfer::open(self, request, active, false)?;
            Ok(ReportStream {
                process: sys::process(),
                client: Arc::clone(self),
                call: Arc::clone(transfer.call()),
                number: transfer.operation().number(),
                info: transfer.report_info(),
                closed: AtomicBool::new(false),
                reader: Mutex::new(Reader {
                    transfer: Some(transfer),
                    ended: false,
                    failed: None,
                }),
            })
        })
    }

    pub(super) fn pump(
        self: &Arc<ClientInner>,
        active: ActiveOperation,
        request: ReportRequest,
        sink: &mut dyn Sink,
    ) -> Result<ReportInfo, Error> {
        let mut transfer = Transfer::open(self, request, active, sink.can_restart())?;
        sink.begin(transfer.info())
            .map_err(|e| transfer.with_context(e))?;
        let mut buf = Vec::new();
        loop {
            let room = sink.spare_capacity().map_err(|e| transfer.with_context(e))?;
            let placed = room.is_some();
            let step = match room {
                Some(room) => transfer.read(room)?,
                None => {
                    if buf.is_empty() {
                        let remaining = transfer.remaining().unwrap_or(u64::MAX);
                        let size = remaining.clamp(1, READ_BUFFER) as usize;
                        buf = self.http.buffer(size)?;
                    }
                    transfer.read(&mut buf)?
                }
            };
            let taken = match step {
                Step::Bytes(n) if placed => {
                    sink.advance(n);
                    Ok(())
                }
                Step::Bytes(n) => sink.write(&buf[..n], transfer.call()),
                Step::Restart => sink.restart().and_then(|()| sink.begin(transfer.info())),
                Step::End => break,
            };
            taken.map_err(|e| transfer.with_context(e))?;
        }
        self.http.reuse_buffer(buf);
        // The last word of the progress callback; after this the call succeeds.
        let finished = transfer
            .call()
            .check()
            .and_then(|()| transfer.operation().tick())
            .and_then(|()| sink.finish());
        finished.map_err(|e| transfer.with_context(e))?;
        if let [first, ..] = sink.given_up() {
            let message = || {
                let others = sink.given_up().iter().skip(1).map(|what| format!("; {what}"));
                let others: String = others.collect();
                format!(
                    "report {}: the file is saved, but the file system cannot do all that it should: {first}{others}",
                    transfer.id()
                )
            };
            self.log(Level::Warning, || transfer.record(message()));
        }
        if let Some(path) = sink.path() {
            transfer.operation().set_path(path.into_os_string().into_vec());
        }
        self.log(Level::Info, || {
            let received = transfer.operation().received();
            LogRecord {
                bytes: Some(received),
                ..transfer.record(format!("report {}: {received} bytes", transfer.id()))
            }
        });
        Ok(transfer.into_report_info())
    }
}

pub(super) fn check_path(path: &Path, parameter: &'static str) -> Result<(), Error> {
    if path.as_os_str().is_empty() {
        return Err(Error::argument(
            Status::InvalidValue,
            parameter,
            "must not be empty",
        ));
    }
    Ok(())
}

/// A report that you read part by part; [`Client::open`](super::Client::open)
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
