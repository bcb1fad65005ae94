//! A body written to a descriptor of the caller's: file, pipe, socket,
//! terminal.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use super::{Info, Sink};
use crate::error::{Error, Status};
use crate::http::Call;
use crate::sys::{self, Interest};

/// What a pipe that is ready takes without blocking, whatever its mode.
const PART: usize = 4096;

pub(crate) struct Descriptor<'a> {
    fd: BorrowedFd<'a>,
    /// The same terminal, opened once more so as not to block: a terminal that
    /// was stopped takes part of what it was given, and keeps the caller for the
    /// rest.
    terminal: Option<File>,
    way: Way,
}

/// How to write so as to be kept from going on no longer than the call allows.
#[derive(Clone, Copy)]
enum Way {
    /// A regular file, of which poll says nothing, or a descriptor that does not block.
    Plain,
    Socket,
    /// Something else that blocks, which may be told not to. To ask it first is not
    /// enough: another process may fill a pipe meanwhile.
    AtOnce,
    /// One that cannot: it is asked first, and then given no more than it surely takes.
    ErrorContext,
}

impl<'a> Descriptor<'a> {
    /// An error if it is not open for writing.
    pub(crate) fn new(fd: BorrowedFd<'a>) -> Result<Descriptor<'a>, Error> {
        let wrong = |what: &str, cause: &io::Error| {
            Error::argument(Status::Argument, "fd", format_args!("{what}: {cause}"))
                .with_os_code(cause.raw_os_error().unwrap_or(0))
        };
        let mode = sys::descriptor(fd).map_err(|e| wrong("is not an open descriptor", &e))?;
        if !mode.writable {
            return Err(wrong(
                "is not open for writing",
                &io::Error::from_raw_os_error(libc::EBADF),
            ));
        }
        let terminal = fd
            .is_terminal()
            .then(|| sys::reopen_nonblocking(fd).ok())
            .flatten();
        let way = if mode.regular || mode.nonblocking || terminal.is_some() {
            Way::Plain
        } else if mode.socket {
            Way::Socket
        } else {
            Way::AtOnce
        };
        Ok(Descriptor { fd, terminal, way })
    }
}

impl Sink for Descriptor<'_> {
    fn begin(&mut self, _: Info<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], call: &Call) -> Result<(), Error> {
        let fd = self.terminal.as_ref().map_or(self.fd, AsFd::as_fd);
        while !bytes.is_empty() {
            let part = &bytes[..bytes.len().min(PART)];
            let written = match self.way {
                Way::Plain => sys::write_quietly(fd, bytes),
                // One of messages may take no longer ones.
                Way::Socket => sys::send_quietly(fd, part),
                Way::AtOnce => sys::write_quietly_at_once(fd, bytes),
                Way::ErrorContext => {
                    call.wait_for_sink(fd, Interest::Writable)?;
                    sys::write_quietly(fd, part)
                }
            };
            match written {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    call.wait_for_sink(fd, Interest::Writable)?;
                }
                Err(e) if e.kind() == io::ErrorKind::Unsupported && matches!(self.way, Way::AtOnce) => {
                    self.way = Way::ErrorContext;
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
            "a descriptor cannot take back what was written",
        ))
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
