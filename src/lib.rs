//! Downloads the audit reports of Huawei Cloud's Database Security Service (DBSS).
//!
//! ```
//! use dbss::{Client, Locale, Overwrite, Report};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let service = dbss_mock::MockService::start()?;
//! # let directory = tempfile::tempdir()?;
//! # let (endpoint, token, project) = (service.http_url(), service.token(), service.project_id());
//! # let (instance, id) = (service.instance_id(), &service.pdf().id);
//! # let path = directory.path().join("report.pdf");
//! let client = Client::builder()
//!     .endpoint(endpoint) // or .region("cn-north-4")
//!     .token(token)       // or .access_key(…), .iam_user(…), .credentials("default")
//!     .project_id(project)
//!     .build()?;
//!
//! let report = Report::new(instance, id).locale(Locale::EnUs);
//! client.download_to_file(&report, &path, Overwrite::No)?;
//! # assert!(std::fs::read(&path)?.starts_with(b"%PDF-"));
//! # Ok(())
//! # }
//! ```
//!
//! [`Client`] has the calls: downloads into [memory](Client::download), to a
//! [file](Client::download_to_file), a [directory](Client::download_to_directory), any
//! [writer](Client::download_to_writer), a [descriptor](Client::download_to_fd), or as a
//! [stream](Client::open) that implements [`Read`](std::io::Read); lists as iterators
//! ([instances](Client::instances), [reports](Client::reports),
//! [templates](Client::templates)); reports that the service makes
//! ([`create`](Client::create), [`generate`](Client::generate),
//! [`wait`](Client::wait), [`delete`](Client::delete)); and a local archive of them all
//! ([`mirror`](Client::mirror)). An [`Operation`] gives one call its own options,
//! progress and cancel.
//!
//! The C library libdbss is a layer on this crate, and so are the packages for other
//! languages. The crate itself exports no symbols, and sets no allocator and no panic
//! hook.
//!
//! # What holds everywhere
//!
//! - **Whole or not at all.** A report that did not arrive whole is an error. A file
//!   appears under its name only when it is whole and on the disk.
//! - **Arguments** are copied. Ids are made of ASCII letters, digits, `-` and `_`: those
//!   of projects and instances have 32 to 64 characters, those of reports 16 to 64.
//! - **[`None`]** is a limit that there is not, a value that nobody set, or a fact that
//!   is not known; each item says which.
//! - **Units.** Sizes and positions are bytes. Times are [`Duration`](std::time::Duration)
//!   here and milliseconds in options that are set by their keys. Times of the service,
//!   as in [`ReportSpec`], are its texts, passed on as they are.
//! - **Secrets** are in no error and no record of the log, and are wiped after use.
//!
//! # Errors
//!
//! Every call gives an [`Error`]. Its [`status`](Error::status) is one of the
//! [`Status`] values, which come in groups of one hundred; the group of a status that
//! is newer than your program still tells what to do:
//!
//! | group | what is at fault |
//! | --- | --- |
//! | 1xx [`Argument`](Status::Argument) | an argument or an option; no request was sent for it, but where a token was refused and the provider has no other |
//! | 2xx [`Service`](Status::Service) | the service answered, and with no report |
//! | 3xx [`Network`](Status::Network) | the network, or what came over it |
//! | 4xx [`File`](Status::File) | a local file, or a writer of yours |
//! | 5xx [`Resource`](Status::Resource) | this process ran out of something |
//! | 6xx [`Cancelled`](Status::Cancelled) | nothing: the call was cancelled or interrupted |
//! | 7xx [`Internal`](Status::Internal) | this library |
//!
//! Calls already try again where that makes sense;
//! [`is_retryable`](Error::is_retryable) tells whether the same call may succeed later.
//!
//! # Threads, fork and signals
//!
//! All types are [`Send`] and [`Sync`]. Calls block, and run on the thread that makes
//! them. Your functions (log, progress, token provider, writer) run on the threads that
//! make the calls, with no lock held, never on one of the library: what a mirror's own
//! threads have for them waits for the thread of the call. They may make other calls.
//! A panic in one unwinds through the call, which is then abandoned.
//!
//! A child of `fork` may use the clients that it inherited, and opens connections of its
//! own; it is refused the operations and streams of its parent.
//!
//! The library sets no signal handler, and never raises SIGPIPE. A signal that your
//! program handles ends no call, unless the option `interruptible` is true: see
//! [`Operation::set_interrupt`]. [`Operation::cancel`] may be called in a handler.
//!
//! # Where the facts are from
//!
//! What the library knows of the service comes from the service's own API reference
//! (the pages of DownloadAuditReport, ListAuditInstances, CreateAuditReport and their
//! sisters) and from the official SDKs for Python, Go and Java. The sources name the
//! call beside each fact; where the two disagree both forms are taken.

// How the sources are laid out, in the direction in which a call travels:
//
// | folder | what happens there |
// | --- | --- |
// | `client` | what a client can do: checked arguments, configuration, the calls of the service; `client/api` is the public face |
// | `credentials` | what signs a request, and where it comes from |
// | `http` | how bytes move: connections, TLS, timeouts, the service's error bodies |
// | `sink` | where the bytes of a report go |
// | `operation` | the control of one call: options, progress, cancel, result |
// | `error` | the error type that all folders share |
// | `log` | what a client tells its log function |
// | `memory` | memory that may be refused |
// | `fork` | what each process has for itself |
// | `sys` | system calls that std does not offer |
// | `tables` | one table for each fact: statuses, options, features, counts, fields |
// | `text` | texts of others, made safe to show |
// | `thread` | what the library has for each thread |
// | `internal` | what the C ABI and the command need beyond the public API |
//
// `unsafe` is in `sys` alone, and in the package `libdbss` (`src/ffi`), the C ABI.

#![deny(unsafe_code)]
#![warn(missing_docs)]
// The unit tests have the mock service beside them, which they do not use.
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

#[cfg(not(unix))]
compile_error!("dbss needs a POSIX system: it waits on sockets with poll(2)");

mod client;
mod credentials;
mod error;
mod fork;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod http;
mod log;
mod memory;
mod operation;
mod sink;
mod sys;
mod tables;
mod text;
mod thread;

// For its features alone, see Cargo.toml.
use ::log as _;

pub use client::{
    Client, ClientBuilder, Format, Identity, Item, Items, Locale, Overwrite, Report, ReportInfo, ReportSpec,
    ReportStream,
};
pub use credentials::TokenRequest;
pub use error::{CancelledBy, Detail, Error, Status};
pub use log::{Level, LogRecord};
pub use operation::Operation;

/// A local archive of reports: [`Client::mirror`].
pub mod mirror {
    pub use crate::client::{Failure, Gap, MirrorError, MirrorOptions, MirrorResult};
    pub use crate::tables::Counts;
}

#[doc(hidden)]
pub mod internal;

// The README's example is compiled with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
