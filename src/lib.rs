//! Downloads the audit reports of Huawei Cloud's Database Security Service (DBSS).
//!
//! ```
//! use dbss::{Client, Locale, Overwrite, Report};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let service = dbss_mock::MockService::start()?;
//! # let directory = tempfile::tempdir()?;
//! # let (endpoint, token) = (service.value("http"), service.value("token"));
//! # let (project, instance) = (service.value("project_id"), service.value("instance_id"));
//! # let id = service.ready()["reports"][0]["id"].as_str().unwrap_or_default();
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
//! [templates](Client::templates), [databases](Client::databases)); the
//! [schedules](Client::schedule) of templates; reports that the service makes
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
//! - **Complete or not at all.** An incomplete report is an error. A file appears under
//!   its name only when it is complete and on the disk.
//! - **Arguments** are copied. Ids are made of ASCII letters, digits, `-` and `_`: those
//!   of projects and instances have 32 to 64 characters, those of reports 16 to 64.
//! - **[`None`]** means no limit, a value that is not set, or a fact that is not known;
//!   each item says which.
//! - **Units.** Sizes and positions are in bytes. Times are
//!   [`Duration`](std::time::Duration) here, and milliseconds in options that are set by
//!   their keys. Times of the service, as in [`ReportSpec`], are its unchanged texts.
//! - **Secrets** never appear in errors or log records, and are wiped after use.
//!
//! # Errors
//!
//! Every call that fails returns an [`Error`]. Its [`status`](Error::status) is one of
//! the [`Status`] values, in groups of one hundred. The group tells what to do even if
//! the status is newer than your program:
//!
//! | group | what is at fault |
//! | --- | --- |
//! | 1xx [`Argument`](Status::Argument) | an argument or an option; no request was sent, unless a token was refused and the provider has no other |
//! | 2xx [`Service`](Status::Service) | the service: it responded, but with no report |
//! | 3xx [`Network`](Status::Network) | the network, or the data received over it |
//! | 4xx [`File`](Status::File) | a local file, or your writer |
//! | 5xx [`Resource`](Status::Resource) | this process: it ran out of a resource |
//! | 6xx [`Cancelled`](Status::Cancelled) | nothing: the call was cancelled or interrupted |
//! | 7xx [`Internal`](Status::Internal) | this library |
//!
//! Calls already retry if that makes sense; [`is_retryable`](Error::is_retryable) tells
//! whether the same call may succeed later.
//!
//! # Threads, fork and signals
//!
//! All types are [`Send`] and [`Sync`]. Calls block, and run on the thread that makes
//! them. Your functions (log, progress, token provider, writer) run on the threads that
//! make the calls, with no lock held. They never run on a thread of the library: the
//! worker threads of a mirror pass their work to the thread of the call. Your functions
//! may make other calls. A panic in one unwinds through the call, which then ends.
//!
//! A child of `fork` may use inherited clients, and opens its own connections. It must
//! not use the operations and streams of its parent, which return an error there.
//!
//! The library sets no signal handler, and never raises SIGPIPE. A signal that your
//! program handles does not end a call, unless the option `interruptible` is true: see
//! [`Operation::set_interrupt`]. A handler may call [`Operation::cancel`].
//!
//! # Sources
//!
//! The library follows the service's API reference (DownloadAuditReport,
//! ListAuditInstances, CreateAuditReport and related pages) and the official SDKs for
//! Python, Go and Java. Comments in the code name the call for each fact; if the two
//! disagree, the library accepts both forms.

// docs/architecture.md describes the layout of the sources.

#![deny(unsafe_code)]
#![warn(missing_docs)]
// Dependencies for other tests, such as the mock service, are unused in unit tests.
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
mod message;
mod operation;
mod sink;
mod sys;
mod tables;
mod text;
mod thread;

// Only for its features, see Cargo.toml.
use ::log as _;

pub use client::{
    Client, ClientBuilder, Format, Identity, Item, Items, Locale, Overwrite, Report, ReportInfo, ReportSpec,
    ReportStream, ScheduleChanges,
};
pub use credentials::TokenRequest;
pub use error::{CancelledBy, Detail, Error, Status};
pub use log::{Level, LogRecord};
pub use message::PartKind;
pub use operation::Operation;

/// A local archive of reports: [`Client::mirror`].
pub mod mirror {
    pub use crate::client::{Failure, Gap, MirrorError, MirrorOptions, MirrorResult};
    pub use crate::tables::Counts;
}

#[doc(hidden)]
pub mod internal;

// Compiles the README's example as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
