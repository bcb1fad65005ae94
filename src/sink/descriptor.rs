//! Writes a body to a descriptor of the caller's: a file, pipe, socket or terminal.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use super::{Info, Sink};
use crate::error::{Error, Status};
use crate::http::Call;
use crate::sys::{self, Interest};
use crate::text::os_message;

/// How many bytes a ready pipe accepts without blocking, in any mode.
const MAX_PART: usize = 4096;

pub(crate) struct Descriptor {
    /// A copy: if the caller closes its own during the call, another file may get its number.
    /// None when it is closed at the end.
    fd: Option<File>,
    /// The same terminal, opened again in non-blocking mode: a write to a stopped terminal
    /// may block after some bytes.
    terminal: Option<File>,
    write_mode: WriteMode,
}

/// How to write without blocking longer than the call allows.
#[derive(Clone, Copy)]
enum WriteMode {
    /// write(2): for a regular file, which poll does not support, or the reopened terminal.
    Plain,
    Socket,
    /// A write that does not block, whatever the descriptor's mode, which another process may
    /// change. Waiting first is not enough: another process may fill a pipe meanwhile.
    NonBlocking,
    /// The fallback: wait until it is writable, then write at most [`MAX_PART`] bytes.
    AfterWait,
}

impl Descriptor {
    /// Fails if it is not open for writing.
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Result<Descriptor, Error> {
        let invalid_fd = |what: &str, cause: &io::Error| {
            Error::argument(
                Status::Argument,
                "fd",
                format_args!("{what}: {}", os_message(cause)),
            )
            .with_os_code(cause.raw_os_error().unwrap_or(0))
        };
        let flags = sys::descriptor(fd).map_err(|e| invalid_fd("is not an open descriptor", &e))?;
        if !flags.writable {
            return Err(invalid_fd(
                "is not open for writing",
                &io::Error::from_raw_os_error(libc::EBADF),
            ));
        }
        let fd = fd
            .try_clone_to_owned()
            .map(File::from)
            .map_err(|e| super::file::failure("cannot copy the descriptor", &e))?;
        let terminal = fd
            .is_terminal()
            .then(|| sys::reopen_nonblocking(fd.as_fd()).ok())
            .flatten();
        let write_mode = if flags.regular || terminal.is_some() {
            WriteMode::Plain
        } else if flags.socket {
            WriteMode::Socket
        } else {
            WriteMode::NonBlocking
        };
        Ok(Descriptor {
            fd: Some(fd),
            terminal,
            write_mode,
        })
    }
}

impl Sink for Descriptor {
    fn begin(&mut self, _: Info<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], call: &Call) -> Result<(), Error> {
        let Some(fd) = self.terminal.as_ref().or(self.fd.as_ref()).map(AsFd::as_fd) else {
            return Err(Error::new(Status::Internal, "the descriptor is closed"));
        };
        while !bytes.is_empty() {
            let part = &bytes[..bytes.len().min(MAX_PART)];
            let written = match self.write_mode {
                WriteMode::Plain => sys::write_quietly(fd, bytes),
                // A message socket may refuse longer messages.
                WriteMode::Socket => sys::send_quietly(fd, part),
                WriteMode::NonBlocking => sys::write_quietly_nonblocking(fd, bytes),
                WriteMode::AfterWait => {
                    call.wait_for_sink(fd, Interest::Writable)?;
                    sys::write_quietly(fd, part)
                }
            };
            match written {
                Ok(0) => {
                    let cause = io::ErrorKind::WriteZero.into();
                    return Err(super::file::failure("cannot write to the descriptor", &cause));
                }
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    call.wait_for_sink(fd, Interest::Writable)?;
                }
                Err(e)
                    if e.kind() == io::ErrorKind::Unsupported
                        && matches!(self.write_mode, WriteMode::NonBlocking) =>
                {
                    self.write_mode = WriteMode::AfterWait;
                }
                Err(e) => return Err(super::file::failure("cannot write to the descriptor", &e)),
            }
        }
        Ok(())
    }

    fn can_restart(&self) -> bool {
        false
    }

    fn restart(&mut self) -> Result<(), Error> {
        Err(Error::new(
            Status::Internal,
            "a descriptor cannot undo what was written",
        ))
    }

    fn finish(&mut self) -> Result<(), Error> {
        // Some file systems store a file when the first of its descriptors is closed, and tell
        // only then that they cannot. The caller's close would not tell it again.
        match self.fd.take().map(sys::close) {
            Some(Err(e)) => Err(super::file::failure("cannot close the descriptor", &e)),
            _ => Ok(()),
        }
    }
}
