//! Downloads: a transfer pumped into a sink, or pulled by the caller.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use super::context::Client;
use super::report::ReportRequest;
use super::transfer::{Format, Step, Transfer};
use crate::error::{Error, Status};
use crate::log::Level;
use crate::operation::{Operation, Running};
use crate::sink::{Callback, Descriptor, FileOptions, FileSink, Memory, Sink};
use crate::sys;

const READ_BUFFER: u64 = 128 * 1024;

impl Client {
    /// Downloads a report into memory.
    pub fn download_to_memory(
        self: &Arc<Client>,
        request: ReportRequest,
        operation: Option<Arc<Operation>>,
    ) -> Result<Box<[u8]>, Error> {
        self.run(operation, request.subject(), |running| {
            let limit = running
                .operation()
                .overrides()
                .max_memory
                .unwrap_or(self.max_memory);
            let mut sink = Memory::new(limit);
            self.pump(running, request, &mut sink)?;
            Ok(sink.into_bytes())
        })
    }

    /// Downloads a report to a file of this name.
    pub fn download_to_file(
        self: &Arc<Client>,
        request: ReportRequest,
        path: &[u8],
        replace: bool,
        operation: Option<Arc<Operation>>,
    ) -> Result<(), Error> {
        let path = as_path(path, "path")?;
        self.save(request, replace, operation, |options| FileSink::at(path, options))
    }

    /// Downloads a report into a directory, under its own name.
    pub fn download_to_directory(
        self: &Arc<Client>,
        request: ReportRequest,
        path: &[u8],
        replace: bool,
        operation: Option<Arc<Operation>>,
    ) -> Result<(), Error> {
        let path = as_path(path, "directory")?;
        self.save(request, replace, operation, |options| {
            FileSink::inside(path, options)
        })
    }

    fn save(
        self: &Arc<Client>,
        request: ReportRequest,
        replace: bool,
        operation: Option<Arc<Operation>>,
        sink: impl FnOnce(FileOptions) -> Result<FileSink, Error>,
    ) -> Result<(), Error> {
        self.run(operation, request.subject(), |running| {
            // A call that is cancelled already must not touch the file system.
            running.operation().check()?;
            let mode = running.operation().overrides().file_mode;
            let mut sink = sink(FileOptions {
                replace,
                mode: mode.unwrap_or(self.file_mode),
            })?;
            self.pump(running, request, &mut sink).map(drop)
        })
    }

    /// Downloads a report to a descriptor.
    pub fn download_to_descriptor(
        self: &Arc<Client>,
        request: ReportRequest,
        fd: BorrowedFd<'_>,
        operation: Option<Arc<Operation>>,
    ) -> Result<(), Error> {
        // Before anything else is opened, which could get the number of one that
        // is closed.
        let mut sink = Descriptor::new(fd)?;
        self.run(operation, request.subject(), |running| {
            self.pump(running, request, &mut sink).map(drop)
        })
    }

    /// Downloads a report to a function, which may stop the call with false.
    pub fn download_to_callback(
        self: &Arc<Client>,
        request: ReportRequest,
        write: impl FnMut(&[u8]) -> bool,
        operation: Option<Arc<Operation>>,
    ) -> Result<(), Error> {
        self.run(operation, request.subject(), |running| {
            self.pump(running, request, &mut Callback(write)).map(drop)
        })
    }

    /// Opens a report to be read by the caller.
    pub fn open_report(
        self: &Arc<Client>,
        request: ReportRequest,
        operation: Option<Arc<Operation>>,
    ) -> Result<ReportStream, Error> {
        self.run(operation, request.subject(), |running| {
            let transfer = Transfer::open(self, request, running, false)?;
            Ok(ReportStream {
                process: sys::process_id(),
                info: transfer.report_info(),
                transfer: Some(transfer),
                ended: false,
                failed: None,
            })
        })
    }

    pub(super) fn pump(
        self: &Arc<Client>,
        running: Running,
        request: ReportRequest,
        sink: &mut dyn Sink,
    ) -> Result<ReportInfo, Error> {
        let mut transfer = Transfer::open(self, request, running, sink.can_restart())?;
        sink.begin(transfer.info()).map_err(|e| transfer.explain(e))?;
        let mut buf = Vec::new();
        loop {
            let room = sink.room().map_err(|e| transfer.explain(e))?;
            let placed = room.is_some();
            let step = match room {
                Some(room) => transfer.read(room)?,
                None => {
                    if buf.is_empty() {
                        let left = transfer.left().unwrap_or(u64::MAX);
                        buf.resize(left.clamp(1, READ_BUFFER) as usize, 0);
                    }
                    transfer.read(&mut buf)?
                }
            };
            let taken = match step {
                Step::Bytes(n) if placed => {
                    sink.filled(n);
                    Ok(())
                }
                Step::Bytes(n) => sink.write(&buf[..n], transfer.call()),
                Step::Again => sink.restart().and_then(|()| sink.begin(transfer.info())),
                Step::End => break,
            };
            taken.map_err(|e| transfer.explain(e))?;
        }
        // The last word of the progress callback; after this the call succeeds.
        let finished = transfer
            .operation()
            .check()
            .and_then(|()| transfer.operation().tick())
            .and_then(|()| sink.finish());
        finished.map_err(|e| transfer.explain(e))?;
        if let Some(path) = sink.path() {
            transfer.operation().set_path(path.into_os_string().into_vec());
        }
        self.log(Level::Info, || {
            format!(
                "{}: {} bytes",
                transfer.subject(),
                transfer.operation().received()
            )
        });
        Ok(transfer.into_report_info())
    }
}

pub(super) fn as_path<'a>(bytes: &'a [u8], parameter: &'static str) -> Result<&'a Path, Error> {
    if bytes.is_empty() {
        return Err(Error::argument(
            Status::InvalidValue,
            parameter,
            "must not be empty",
        ));
    }
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// A report being read by the caller. See `dbss_report_stream`.
pub struct ReportStream {
    process: u32,
    info: ReportInfo,
    /// None once the stream is dropped.
    transfer: Option<Transfer>,
    ended: bool,
    failed: Option<Error>,
}

impl ReportStream {
    /// Reads some of the report: 0 is its end, whole and checked. A failure
    /// stays.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        self.check_process()?;
        if buf.is_empty() {
            return Err(Error::argument(Status::Argument, "cap", "must not be 0"));
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(transfer) = &mut self.transfer else {
            return Ok(0);
        };
        match transfer.read(buf) {
            Ok(Step::Bytes(n)) => Ok(n),
            Ok(Step::End) if self.ended => Ok(0),
            Ok(Step::End) => {
                self.ended = true;
                // The last word of the progress callback.
                let stopped = transfer.operation().tick().map_err(|e| transfer.explain(e));
                self.keep(stopped.map(|()| 0))
            }
            // Not before a byte was handed out, and not after: the transfer was
            // told that its reader cannot forget.
            Ok(Step::Again) => Err(Error::new(Status::Internal, "a stream began again")),
            Err(error) => self.keep(Err(error)),
        }
    }

    /// Keeps a failure, for the next reads and for the operation.
    fn keep(&mut self, outcome: Result<usize, Error>) -> Result<usize, Error> {
        if let (Err(error), Some(transfer)) = (&outcome, &self.transfer) {
            transfer.operation().fail(error);
            self.failed = Some(error.clone());
        }
        outcome
    }

    fn check_process(&self) -> Result<(), Error> {
        if self.process == sys::process_id() {
            return Ok(());
        }
        Err(Error::argument(
            Status::Argument,
            "stream",
            "belongs to the process that this one was forked from; open the report again here",
        ))
    }
}

impl Drop for ReportStream {
    fn drop(&mut self) {
        // In a child of `fork` the connection is the parent's.
        if self.process != sys::process_id() {
            std::mem::forget(self.transfer.take());
        }
    }
}

/// What is known of a stream's report from its answer's header and first bytes.
#[derive(Clone, Debug)]
pub struct ReportInfo {
    /// The size in bytes, where it is known.
    pub size: Option<u64>,
    /// What it is.
    pub format: Format,
    /// A safe name for a file of it.
    pub filename: String,
    /// The Content-Type header.
    pub content_type: Option<String>,
    /// The service's id of the call.
    pub request_id: Option<String>,
    /// When the service answered, by its own clock, as it wrote it.
    pub date: Option<String>,
}

impl ReportStream {
    /// What is known of the report.
    pub fn info(&self) -> ReportInfo {
        self.info.clone()
    }
}
