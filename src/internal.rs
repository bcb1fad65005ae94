//! What the C ABI and the command need beyond the public API. Not a public interface: it
//! may change with any version.

#![allow(missing_docs)]

use std::path::Path;
use std::sync::Arc;

pub use crate::client::{Config, Cursor, KNOWN_REGIONS, List, Page, Reader, utf8};
pub use crate::memory::{on_exhaustion, out_of_memory};
pub use crate::message::Part;
pub use crate::operation::{ActiveOperation, Text};
use crate::sink::{FileOptions, FileSink};
pub use crate::text::{is_deceptive, os_message};
pub use crate::thread::prepare_thread;
use crate::{Client, Error, Operation, Overwrite, Report, ReportStream};

pub mod tables {
    pub use crate::tables::*;
}

/// Returns a number that differs between this process and those that it was forked from.
pub fn process() -> usize {
    crate::sys::process()
}

/// Makes a client from a configuration that may be used again.
pub fn client(config: Config) -> Result<Client, Error> {
    Client::new(config)
}

/// Returns a handle whose calls are part of a call that has begun.
pub fn with_active_operation(client: &Client, active: Option<ActiveOperation>) -> Client {
    client.with_active_operation(active)
}

/// Returns an error if the client was closed.
pub fn check_open(client: &Client) -> Result<(), Error> {
    client.check_open()
}

/// Returns a cursor to get the pages of a list.
pub fn cursor(client: &Client, list: List, page_size: u32) -> Result<Cursor, Error> {
    client.cursor(list, page_size)
}

/// Checks that a report can be saved at this path, as a download does before any request.
pub fn check_output(path: &Path, is_directory: bool, overwrite: Overwrite) -> Result<(), Error> {
    let options = FileOptions {
        replace: overwrite == Overwrite::Yes,
        mode: 0o600,
    };
    match is_directory {
        true => FileSink::inside(path, options).map(drop),
        false => FileSink::at(path, options).map(drop),
    }
}

/// Gets a template's schedule as a page with one item.
pub fn schedule_page(client: &Client, instance: &str, template_id: &str) -> Result<Page, Error> {
    client.schedule_page(instance, template_id, None)
}

/// Downloads a report to a function, which returns false to stop the call.
pub fn download_to_callback(
    client: &Client,
    report: &Report,
    write: impl FnMut(&[u8]) -> bool,
) -> Result<(), Error> {
    client.download_to_callback(report, write)
}

/// Runs a read of a stream; the stream's operation keeps its failure.
pub fn read(
    stream: &ReportStream,
    read: impl FnOnce(&mut Reader) -> Result<usize, Error>,
) -> Result<usize, Error> {
    stream.run(read)
}

/// Runs a call with or without an operation, which keeps its failure.
pub fn scope<T>(
    operation: Option<&Arc<Operation>>,
    call: impl FnOnce(Option<ActiveOperation>) -> Result<T, Error>,
) -> Result<T, Error> {
    Operation::scope(operation, call)
}
