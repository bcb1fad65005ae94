//! Downloads: copies a transfer to a sink.

pub(crate) mod format;
pub(crate) mod report;
pub(crate) mod stream;
mod transfer;

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::client::download::report::{ReportInfo, ReportRequest};
use crate::client::download::stream::ReportStream;
use crate::client::download::transfer::{Step, Transfer};
use crate::client::inner::ClientInner;
use crate::error::{Error, Status};
use crate::log::Level;
use crate::operation::ActiveOperation;
use crate::sink::{Callback, Descriptor, FileOptions, FileSink, Memory, Sink, Writer};

const READ_BUFFER: u64 = 128 * 1024;

impl ClientInner {
    /// Downloads a report into memory.
    pub(crate) fn download_to_memory(
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
    pub(crate) fn download_to_file(
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
    pub(crate) fn download_to_directory(
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
            .ok_or_else(|| Error::new(Status::Internal, "the file has no name"))
    }

    fn save(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        replace: bool,
        active: Option<ActiveOperation>,
        sink: impl FnOnce(FileOptions) -> Result<FileSink, Error>,
    ) -> Result<(FileSink, ReportInfo), Error> {
        self.run(active, request.subject(), |active| {
            // A cancelled call must not change the file system.
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
    pub(crate) fn download_to_descriptor(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        fd: BorrowedFd<'_>,
        active: Option<ActiveOperation>,
    ) -> Result<ReportInfo, Error> {
        // Checked first: if the descriptor is closed, a descriptor that the call opens
        // could get its number.
        let mut sink = Descriptor::new(fd)?;
        self.run(active, request.subject(), |active| {
            self.pump(active, request, &mut sink)
        })
    }

    /// Downloads a report to a writer.
    pub(crate) fn download_to_writer(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        writer: impl Write,
        active: Option<ActiveOperation>,
    ) -> Result<ReportInfo, Error> {
        self.run(active, request.subject(), |active| {
            self.pump(active, request, &mut Writer(writer))
        })
    }

    /// Downloads a report to a function, which can stop the call by returning false.
    pub(crate) fn download_to_callback(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        write: impl FnMut(&[u8]) -> bool,
        active: Option<ActiveOperation>,
    ) -> Result<(), Error> {
        self.run(active, request.subject(), |active| {
            self.pump(active, request, &mut Callback(write)).map(drop)
        })
    }

    /// Opens a report for reading by the caller.
    pub(crate) fn open_report(
        self: &Arc<ClientInner>,
        request: ReportRequest,
        active: Option<ActiveOperation>,
    ) -> Result<ReportStream, Error> {
        self.run(active, request.subject(), |active| {
            let transfer = Transfer::open(self, request, active, false)?;
            Ok(ReportStream::new(Arc::clone(self), transfer))
        })
    }

    pub(crate) fn pump(
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
            let spare = sink.spare_capacity().map_err(|e| transfer.with_context(e))?;
            let in_place = spare.is_some();
            let step = match spare {
                Some(spare) => transfer.read(spare)?,
                None => {
                    if buf.is_empty() {
                        let remaining = transfer.remaining().unwrap_or(u64::MAX);
                        let size = remaining.clamp(1, READ_BUFFER) as usize;
                        buf = self.http.buffer(size)?;
                    }
                    transfer.read(&mut buf)?
                }
            };
            let written = match step {
                Step::Bytes(n) if in_place => {
                    sink.advance(n);
                    Ok(())
                }
                Step::Bytes(n) => sink.write(&buf[..n], transfer.call()),
                Step::Restart => sink.restart().and_then(|()| sink.begin(transfer.info())),
                Step::End => break,
            };
            written.map_err(|e| transfer.with_context(e))?;
        }
        self.http.reuse_buffer(buf);
        // The progress callback gets its last chance to cancel; after this the call
        // succeeds.
        let finished = transfer
            .call()
            .check()
            .and_then(|()| transfer.operation().tick())
            .and_then(|()| sink.finish());
        finished.map_err(|e| transfer.with_context(e))?;
        if let [first, ..] = sink.limitations() {
            let message = || {
                let others = sink.limitations().iter().skip(1).map(|what| format!("; {what}"));
                let others: String = others.collect();
                format!(
                    "report {}: the file is saved, but the file system does not support everything: {first}{others}",
                    transfer.id()
                )
            };
            self.log(Level::Warning, || transfer.record(message()));
        }
        if let Some(path) = sink.path() {
            transfer.operation().set_path(path.into_os_string().into_vec());
        }
        transfer.log_end();
        Ok(transfer.into_report_info())
    }
}

pub(crate) fn check_path(path: &Path, parameter: &'static str) -> Result<(), Error> {
    if path.as_os_str().is_empty() {
        return Err(Error::argument(
            Status::InvalidValue,
            parameter,
            "must not be empty",
        ));
    }
    Ok(())
}
