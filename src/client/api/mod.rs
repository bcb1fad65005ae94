//! The public API of a client.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | `Client`, and its calls |
//! | `builder.rs` | the builder of a client |
//! | `report.rs` | an existing report, and the spec of a new one |
//! | `items.rs` | lists as iterators |
//! | `mirror.rs` | typed options of a mirror, and its error |
//! | `operation.rs` | typed options of one call |

mod builder;
mod items;
mod mirror;
mod operation;
mod report;

use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::Identity;
use super::config::Config;
use super::inner::ClientInner;
use super::mirror::{MirrorOptions, MirrorResult};
use crate::client::download::report::ReportInfo;
use crate::client::download::stream::ReportStream;
use crate::client::reports::cursor::Cursor;
use crate::client::reports::list::List;
use crate::client::reports::manage::{NewReport, ReportSpec};
use crate::client::reports::page::{Item, Page};
use crate::client::reports::schedule::ScheduleChanges;
use crate::error::{Error, Status};
use crate::operation::{ActiveOperation, Operation};

pub use builder::ClientBuilder;
pub use items::Items;
pub use mirror::MirrorError;
pub use report::{Locale, Overwrite, Report};

/// A client of the service, with its credentials and its connections, which stay open
/// between calls.
///
/// Make one with [`Client::builder`] and share it: any number of threads may use it at
/// once, and a clone is another handle of the same client. Each call blocks until it is
/// done; an [`Operation`] controls it from other threads. After `fork` a child may use
/// the clients that it inherited. It opens its own connections and does not use those of
/// the parent.
///
/// [`with_operation`](Client::with_operation) and [`with_project`](Client::with_project)
/// return handles whose calls use an operation or another project:
///
/// ```no_run
/// # use dbss::{Client, Operation, Report};
/// # fn example(client: &Client, report: &Report) -> Result<(), dbss::Error> {
/// let operation = Operation::new();
/// let bytes = client
///     .with_project("0123456789abcdef0123456789abcdef")
///     .with_operation(&operation)
///     .download(report)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::status`] tells what failed. Every call may fail with
///
/// - [`Status::Argument`] and its group before any request, such as
///   [`Status::InvalidId`], and [`Status::NotConfigured`] without credentials;
/// - [`Status::Service`] and its group, such as [`Status::NotFound`] and
///   [`Status::Forbidden`];
/// - [`Status::Network`] and its group, when attempts and timeouts are used up;
/// - [`Status::Cancelled`], or [`Status::Closed`] after [`Client::close`].
///
/// Further statuses stand at each.
#[derive(Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
    project: Option<Arc<str>>,
    control: Control,
}

/// How the calls of a handle are controlled.
#[derive(Clone)]
enum Control {
    None,
    Operation(Arc<Operation>),
    /// A call that has begun already. The C ABI begins it early, so that the operation
    /// records errors in the arguments too.
    ActiveOperation(ActiveOperation),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Settings and lifetime.
impl Client {
    /// Begins the configuration of a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(config: Config) -> Result<Client, Error> {
        Ok(Client {
            inner: Arc::new(ClientInner::new(config)?),
            project: None,
            control: Control::None,
        })
    }

    /// Returns a handle of the same client whose calls run under an operation, one at a
    /// time.
    pub fn with_operation(&self, operation: &Arc<Operation>) -> Client {
        Client {
            control: Control::Operation(Arc::clone(operation)),
            ..self.clone()
        }
    }

    /// The same with a call that has begun already, or without an operation.
    pub(crate) fn with_active_operation(&self, active: Option<ActiveOperation>) -> Client {
        Client {
            control: active.map_or(Control::None, Control::ActiveOperation),
            ..self.clone()
        }
    }

    /// Returns a handle of the same client whose calls use this project, 32 to 64
    /// characters.
    ///
    /// Without it they use that of [`ClientBuilder::project_id`], else that of the
    /// credentials, else the one with the region's name, which is looked up at IAM once.
    pub fn with_project(&self, project: &str) -> Client {
        Client {
            project: Some(Arc::from(project)),
            ..self.clone()
        }
    }

    /// Replaces the credentials by a token. Requests that start afterwards use the token,
    /// also those of running calls: retries, and the rest of a list or a mirror. On failure
    /// the old credentials stay.
    ///
    /// # Errors
    ///
    /// [`Status::InvalidToken`]; [`Status::Closed`].
    pub fn set_token(&self, token: impl AsRef<[u8]>) -> Result<(), Error> {
        self.inner.set_token(token.as_ref())
    }

    /// Ends all running calls in this process with
    /// [`Cancelled`](crate::Status::Cancelled), including open streams. Calls that start
    /// afterwards are not affected, even under the same operations. It may be called from
    /// any thread.
    pub fn cancel_all(&self) {
        // It can only fail in a child process that has no connections yet, and so no
        // calls.
        let _ = self.inner.cancel_all();
    }

    /// Closes the client with all its handles. Running calls in this process, including
    /// open streams, end with [`Cancelled`](crate::Status::Cancelled), and later ones
    /// with [`Closed`](crate::Status::Closed). Idle connections are closed. It may be
    /// called from any thread, also in a callback, and does not wait.
    ///
    /// Closing is optional: dropping the last handle frees the client.
    pub fn close(&self) {
        self.inner.close();
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        self.inner.check_open()
    }

    pub(crate) fn cursor(&self, list: List, page_size: u32) -> Result<Cursor, Error> {
        Cursor::new(Arc::clone(&self.inner), self.project(), list, page_size)
    }

    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// Runs a call under the handle's operation, if it has one.
    fn call<T>(&self, body: impl FnOnce(Option<ActiveOperation>) -> Result<T, Error>) -> Result<T, Error> {
        match &self.control {
            Control::None => body(None),
            Control::Operation(operation) => Operation::scope(Some(operation), body),
            Control::ActiveOperation(active) => body(Some(active.clone())),
        }
    }
}

/// Downloads: the service's call DownloadAuditReport.
///
/// A report that does not arrive completely is an error. A broken transfer is resumed, if
/// it is certain that the bytes are the same, up to the option `max_attempts`.
impl Client {
    /// Downloads a report into memory. The memory grows with the received bytes, up to
    /// the option `max_memory_bytes`.
    ///
    /// # Errors
    ///
    /// [`Status::LimitExceeded`] if the report is larger.
    pub fn download(&self, report: &Report) -> Result<Vec<u8>, Error> {
        self.call(|active| {
            let request = report.request(self.project())?;
            let bytes = self.inner.download_to_memory(request, active)?;
            Ok(bytes.into_vec())
        })
    }

    /// Downloads a report to a writer, and flushes the writer.
    ///
    /// If the writer fails, the call fails, and the writer's error is the
    /// [source](std::error::Error::source) of the call's error. Bytes written before a
    /// failure cannot be taken back, so only a successful call has written a whole
    /// report. Cancellation and timeouts wait for the writer. For a pipe or a socket
    /// [`Client::download_to_fd`] is better.
    ///
    /// ```no_run
    /// # fn example(client: &dbss::Client, report: &dbss::Report) -> Result<(), dbss::Error> {
    /// let info = client.download_to_writer(report, std::io::stdout().lock())?;
    /// eprintln!("{}: {:?}", info.filename, info.format);
    /// # Ok(())
    /// # }
    /// ```
    pub fn download_to_writer(&self, report: &Report, writer: impl Write) -> Result<ReportInfo, Error> {
        self.call(|active| {
            let request = report.request(self.project())?;
            self.inner.download_to_writer(request, writer, active)
        })
    }

    /// Downloads a report to a descriptor: a file, from its current position, or a pipe,
    /// a socket, a terminal.
    ///
    /// It must be open for writing, blocking or not; its mode is not changed. The call writes
    /// to a copy, so that the descriptor may be closed meanwhile. If the
    /// reader has closed its end, the error is [`BrokenPipe`](crate::Status::BrokenPipe),
    /// and SIGPIPE is never raised. Bytes written before a failure cannot be taken back.
    pub fn download_to_fd(&self, report: &Report, fd: impl AsFd) -> Result<ReportInfo, Error> {
        self.call(|active| {
            let request = report.request(self.project())?;
            self.inner.download_to_descriptor(request, fd.as_fd(), active)
        })
    }

    pub(crate) fn download_to_callback(
        &self,
        report: &Report,
        write: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Error> {
        self.call(|active| {
            let request = report.request(self.project())?;
            self.inner.download_to_callback(request, write, active)
        })
    }

    /// Downloads a report to a file, with the permissions of the option `file_mode`.
    ///
    /// The file appears under its name only when it is complete and on the disk. Until
    /// then, and after every failure, cancellation or crash, an existing file stays
    /// unchanged. The directory must exist and be writable.
    ///
    /// # Errors
    ///
    /// [`Status::FileExists`] with [`Overwrite::No`]; [`Status::NotRegularFile`];
    /// [`Status::DiskFull`]; [`Status::File`], such as for a missing directory.
    pub fn download_to_file(
        &self,
        report: &Report,
        path: impl AsRef<Path>,
        overwrite: Overwrite,
    ) -> Result<ReportInfo, Error> {
        self.call(|active| {
            let request = report.request(self.project())?;
            let replace = overwrite == Overwrite::Yes;
            self.inner
                .download_to_file(request, path.as_ref(), replace, active)
        })
    }

    /// Downloads a report into an existing directory, under a safe form of the report's
    /// own name, and returns its path. Otherwise like [`Client::download_to_file`].
    pub fn download_to_directory(
        &self,
        report: &Report,
        directory: impl AsRef<Path>,
        overwrite: Overwrite,
    ) -> Result<PathBuf, Error> {
        self.call(|active| {
            let request = report.request(self.project())?;
            let replace = overwrite == Overwrite::Yes;
            self.inner
                .download_to_directory(request, directory.as_ref(), replace, active)
        })
    }

    /// Opens a report for reading in parts. Blocks until the first bytes have arrived. A
    /// handle's operation belongs to the stream until the stream is closed.
    ///
    /// ```no_run
    /// # fn example(client: &dbss::Client, report: &dbss::Report) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut stream = client.open(report)?;
    /// let mut archive = std::fs::File::create(&stream.info().filename)?;
    /// std::io::copy(&mut stream, &mut archive)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, report: &Report) -> Result<ReportStream, Error> {
        self.call(|active| {
            let request = report.request(self.project())?;
            self.inner.open_report(request, active)
        })
    }
}

/// Lists.
impl Client {
    /// Lists the audit instances of the project (ListAuditInstances), in the first of the
    /// call's three versions that the service has.
    ///
    /// Fields that the service documents: id, name, status, region, version,
    /// created, expired, remain_days, connect_ip.
    pub fn instances(&self) -> Items {
        Items::new(self, Ok(List::Instances))
    }

    /// Lists the reports of an instance. [`Items::name`] filters by name.
    ///
    /// Fields that the service documents: id, name, format (pdf or zip), percentum
    /// (0 to 100; at 100 it can be downloaded), type (AUDIT_REPORT_DAY, _WEEK,
    /// _MONTH, _YEAR, _REAL_TIME), template_type, start_time, end_time, finish_time,
    /// db_ids, db_names, url.
    pub fn reports(&self, instance: &str) -> Items {
        Items::new(self, List::reports(instance, None))
    }

    /// Lists the report templates of an instance.
    ///
    /// Fields that the service documents: id, name, type, group, status, desc,
    /// frequency, db_ids, db_names.
    pub fn templates(&self, instance: &str) -> Items {
        Items::new(self, List::templates(instance))
    }

    /// Lists the databases that an instance audits. [`Items::status`] filters by ON or
    /// OFF. Their ids are what `db_ids` of a report or a schedule means.
    ///
    /// Fields that the service documents: id, name, type, version, ip, port, status (ON
    /// or OFF), audit_status (ACTIVE, SHUTOFF, ERROR), instance_name,
    /// db_classification, charset, os, agent_url, rds_id and others.
    pub fn databases(&self, instance: &str) -> Items {
        Items::new(self, List::databases(instance, None))
    }
}

/// The schedules of templates.
impl Client {
    /// Gets the schedule on which the service generates reports from a template. The id
    /// of a template has 16 to 64 characters.
    ///
    /// Fields that the service documents: id (of the template), status and notice (ON or
    /// OFF), frequency (AUDIT_REPORT_DAY, _WEEK, _MONTH, _YEAR, _REAL_TIME), format,
    /// mode, start_time, topic_urn, db_ids; and smn_effective (true or false), which the
    /// service sends beside them. [`Item::json`] has all of them in one object.
    pub fn schedule(&self, instance: &str, template_id: &str) -> Result<Item, Error> {
        let mut page = self.schedule_page(instance, template_id, None)?;
        page.items
            .pop()
            .ok_or_else(|| Error::new(Status::Internal, "the schedule's page is empty"))
    }

    /// The same as a page with one item, for C; with changes, changes it then.
    pub(crate) fn schedule_page(
        &self,
        instance: &str,
        template_id: &str,
        changes: Option<&ScheduleChanges>,
    ) -> Result<Page, Error> {
        self.call(|active| {
            self.inner
                .schedule(self.project(), instance, template_id, changes, active)
        })
    }

    /// Changes the schedule of a template. What the changes do not set stays as it is:
    /// the call gets the present schedule, and sends all of it back with the changes,
    /// including fields that this library does not know. A change that somebody else
    /// makes between the two requests is lost.
    ///
    /// The second request is sent again only if it cannot have taken effect, as that of
    /// [`Client::create`]. After another failure, such as a lost connection, the schedule
    /// may have been changed.
    ///
    /// ```no_run
    /// use dbss::{Client, ScheduleChanges};
    ///
    /// # fn example(client: &Client, instance: &str, template: &str) -> Result<(), dbss::Error> {
    /// let mut changes = ScheduleChanges::default();
    /// changes.set("status", "OFF")?;
    /// client.update_schedule(instance, template, &changes)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Status::NotConfigured`] if there are no changes; [`Status::UnexpectedResponse`] if the
    /// present schedule lacks a field that the service requires; [`Status::Rejected`].
    pub fn update_schedule(
        &self,
        instance: &str,
        template_id: &str,
        changes: &ScheduleChanges,
    ) -> Result<(), Error> {
        self.schedule_page(instance, template_id, Some(changes)).map(drop)
    }
}

/// Creating, generating and deleting reports, and local archives.
impl Client {
    /// Starts the creation of a report. The service returns no id, and creation takes
    /// time: [`Client::generate`] also finds the new report and waits.
    ///
    /// The request is sent again only if it cannot have taken effect: if nothing of it was
    /// sent, if the response was HTTP 429 or 503, or if the credentials were rejected and
    /// could be renewed. After another failure, such as a lost connection, it is not
    /// repeated, because the report may have been created.
    ///
    /// # Errors
    ///
    /// [`Status::NotConfigured`] if a required value is missing; [`Status::Rejected`].
    pub fn create(&self, instance: &str, spec: &ReportSpec) -> Result<(), Error> {
        self.call(|active| {
            let report = NewReport::new(self.project(), instance, spec)?;
            self.inner.create_report(&report, active)
        })
    }

    /// Creates a report, finds it in the list, waits until it is ready, and returns its
    /// id.
    ///
    /// The new report is the one that is new in the list and has this time range and, if
    /// several do, this template. If several reports remain, the call does not guess: it
    /// fails with [`Ambiguous`](crate::Status::Ambiguous), and [`Error::candidates`] has
    /// their ids. A report that was created is never deleted. If the call fails after it found
    /// the report, such as when that is not ready in time, the only candidate is its id, for
    /// [`Client::wait`]. The options `wait_timeout_ms` and `poll_interval_ms` apply; [`Operation::percent`] reports the
    /// progress.
    ///
    /// ```no_run
    /// use dbss::{Client, Report, ReportSpec};
    ///
    /// # fn example(client: &Client, instance: &str, template: &str) -> Result<(), dbss::Error> {
    /// let spec = ReportSpec::new(template, "2026-11-24 00:00:00", "2026-11-25 00:00:00")?;
    /// let id = client.generate(instance, &spec)?;
    /// let pdf = client.download(&Report::new(instance, &id))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Client::create`]; [`Status::NotReady`] after `wait_timeout_ms`.
    pub fn generate(&self, instance: &str, spec: &ReportSpec) -> Result<String, Error> {
        self.call(|active| {
            let report = NewReport::new(self.project(), instance, spec)?;
            self.inner.generate_report(&report, active)
        })
    }

    /// Waits until a report is ready (100 percent), by polling the list. The options
    /// `wait_timeout_ms` and `poll_interval_ms` apply; [`Operation::percent`] reports the
    /// progress.
    ///
    /// # Errors
    ///
    /// [`Status::NotReady`] after `wait_timeout_ms`; [`Status::NotFound`], also if the report is
    /// deleted meanwhile.
    pub fn wait(&self, report: &Report) -> Result<(), Error> {
        self.call(|active| {
            let (instance, id) = (&report.instance, &report.id);
            self.inner.wait_for_report(self.project(), instance, id, active)
        })
    }

    /// Deletes a report at the service, permanently.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`]; [`Status::Rejected`].
    pub fn delete(&self, report: &Report) -> Result<(), Error> {
        self.call(|active| {
            let (instance, id) = (&report.instance, &report.id);
            self.inner.delete_report(self.project(), instance, id, active)
        })
    }

    /// Updates a local archive of reports: downloads every report that is ready and not
    /// in the archive yet, several in parallel. Nothing in the archive is ever deleted,
    /// even if the service deletes a report.
    ///
    /// The directory is created if it does not exist. It contains:
    ///
    /// - `{instance}/{year}/{name}_{id}.pdf` (or `.zip`): the reports. Each appears only
    ///   when it is complete and on the disk. With a locale, `_{locale}` comes before the
    ///   extension. If another report's file would have the same name on some file
    ///   system, 16 digits derived from the id come there too.
    /// - `manifest.jsonl`: a line of JSON for each, with id, name, instance, locale,
    ///   format, type, start_time, end_time, path, size, sha256, and the request id and
    ///   date of its download (null for an existing file that was adopted). If an id has
    ///   several lines, the last counts.
    /// - `SHA256SUMS`, for `sha256sum -c`.
    /// - `.dbss-mirror.lock`: allows only one mirror of a directory at a time. The lock
    ///   is released when its process ends.
    ///
    /// After a mirror was cancelled or killed, the next call continues the work. The
    /// failure of one report does not stop the others, and the call then fails with
    /// [`Partial`](crate::Status::Partial). Failures that would affect all reports, such
    /// as rejected credentials and a full disk, end it. The [`MirrorError`] has the
    /// partial result, and converts to an [`Error`] with `?`.
    ///
    /// ```no_run
    /// use dbss::Client;
    /// use dbss::mirror::MirrorOptions;
    ///
    /// # fn example(client: &Client) -> Result<(), dbss::Error> {
    /// let options = MirrorOptions::default().since("2026-11-01")?;
    /// match client.mirror("/srv/audit", &options) {
    ///     Ok(result) => println!("{} new reports", result.counts.downloaded),
    ///     Err(e) => {
    ///         for failure in e.result.iter().flat_map(|result| &result.failures) {
    ///             eprintln!("{}: {}", failure.id, failure.error);
    ///         }
    ///         return Err(e.into());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Status::Partial`], [`Status::MirrorLocked`] if another mirror uses the directory,
    /// [`Status::File`] and its group.
    pub fn mirror(
        &self,
        directory: impl AsRef<Path>,
        options: &MirrorOptions,
    ) -> Result<MirrorResult, MirrorError> {
        let mut result = None;
        let outcome = self.call(|active| {
            let outcome;
            (result, outcome) = self
                .inner
                .mirror(self.project(), directory.as_ref(), options, active);
            outcome
        });
        match outcome {
            Ok(()) => Ok(result.unwrap_or_default()),
            Err(error) => Err(MirrorError::new(error, result)),
        }
    }
}

/// Credentials.
impl Client {
    /// Finds the credentials that a call would use now, in the same way as a call: if
    /// necessary, it calls the token provider, logs in, or queries the metadata service.
    /// [`Client::check`] checks whether the service accepts them.
    ///
    /// # Errors
    ///
    /// [`Status::NotConfigured`] if there are none; [`Status::NoToken`] if the provider failed.
    pub fn find_credentials(&self) -> Result<Identity, Error> {
        self.call(|active| self.inner.find_credentials(active))
    }

    /// Checks whether the service accepts the credentials, by listing one instance of the
    /// project. Nothing is downloaded or changed.
    ///
    /// # Errors
    ///
    /// [`Status::Unauthenticated`] if it rejects them; [`Status::Forbidden`] if they lack the
    /// permission.
    pub fn check(&self) -> Result<(), Error> {
        self.call(|active| self.inner.check(self.project(), active))
    }
}
