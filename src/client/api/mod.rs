//! The public face of a client.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | `Client`, and its calls |
//! | `builder.rs` | what a client is made from |
//! | `report.rs` | what a call is about: a report, or one to be created |
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
use crate::error::Error;
use crate::operation::{ActiveOperation, Operation};

pub use builder::ClientBuilder;
pub use items::Items;
pub use mirror::MirrorError;
pub use report::{Locale, Overwrite, Report};

/// A service, the credentials for it and the connections to it, which stay open
/// between calls.
///
/// Make one with [`Client::builder`] and share it: any number of threads may use it
/// at once, and a clone is another handle of the same client. Each call blocks until
/// it is done; an [`Operation`] controls it from elsewhere. After `fork` a child may
/// go on using the clients that it inherited: it opens connections of its own and
/// leaves the parent's alone.
///
/// [`with_operation`](Client::with_operation) and
/// [`with_project`](Client::with_project) give handles whose calls have an operation
/// or another project:
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
#[derive(Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
    project: Option<Arc<str>>,
    control: Control,
}

/// What a handle's calls run under.
#[derive(Clone)]
enum Control {
    None,
    Operation(Arc<Operation>),
    /// A call that has begun: the C ABI begins it, since a wrong pointer is a
    /// failure of the call too.
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

    /// A handle of the same client whose calls run under an operation, one at a
    /// time.
    pub fn with_operation(&self, operation: &Arc<Operation>) -> Client {
        Client {
            control: Control::Operation(Arc::clone(operation)),
            ..self.clone()
        }
    }

    /// The same with a call that has begun, or without any.
    pub(crate) fn with_active_operation(&self, active: Option<ActiveOperation>) -> Client {
        Client {
            control: active.map_or(Control::None, Control::ActiveOperation),
            ..self.clone()
        }
    }

    /// A handle of the same client whose calls are about this project, 32 to 64
    /// characters.
    ///
    /// Without it they are about that of [`ClientBuilder::project_id`], else that of
    /// the credentials, else the one that has the region's name, which is looked up
    /// at IAM once.
    pub fn with_project(&self, project: &str) -> Client {
        Client {
            project: Some(Arc::from(project)),
            ..self.clone()
        }
    }

    /// Replaces the credentials by a token. Calls that start afterwards use the new
    /// one; calls that are under way finish with the old ones. On failure the old
    /// ones stay.
    pub fn set_token(&self, token: impl AsRef<[u8]>) -> Result<(), Error> {
        self.inner.set_token(token.as_ref())
    }

    /// Ends all calls that are under way in this process with
    /// [`Cancelled`](crate::Status::Cancelled), open streams included. Calls that
    /// start afterwards run, under the same operations too. From any thread.
    pub fn cancel_all(&self) {
        // What can fail is making connections for a child process, which then has
        // no calls.
        let _ = self.inner.cancel_all();
    }

    /// Closes the client, with all its handles: ends its calls under way in this
    /// process with [`Cancelled`](crate::Status::Cancelled), open streams included,
    /// and later ones with [`Closed`](crate::Status::Closed); closes its idle
    /// connections. From any thread, also in a callback; it does not wait.
    ///
    /// A client need not be closed: dropping its last handle frees it.
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

    /// Runs a call under what the handle has for it.
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
/// A report that did not arrive whole is a failure. A transfer that breaks is
/// resumed, where that can be proved to give the same bytes, as often as the option
/// `max_attempts` says.
impl Client {
    /// Downloads a report into memory, which grows with what arrives, up to the
    /// option `max_memory_bytes`.
    pub fn download(&self, report: &Report) -> Result<Vec<u8>, Error> {
        self.call(|active| {
            let request = report.request(self.project())?;
            let bytes = self.inner.download_to_memory(request, active)?;
            Ok(bytes.into_vec())
        })
    }

    /// Downloads a report to a writer, and flushes that.
    ///
    /// A writer that fails ends the call: its error is the
    /// [source](std::error::Error::source) of the call's. What was written before a
    /// failure cannot be taken back: only a call that succeeded has written a report.
    /// A cancel and the timeouts wait for the writer; where it is a pipe or a socket
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

    /// Downloads a report to a descriptor: a file, from where it stands; a pipe, a
    /// socket, a terminal.
    ///
    /// It must be open for writing, blocking or not; its mode is not changed. A
    /// reader that has gone is [`BrokenPipe`](crate::Status::BrokenPipe), never
    /// SIGPIPE. What was written before a failure cannot be taken back.
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
    /// The file appears under its name only when it is whole and on the disk; until
    /// then, and after every failure, cancel or crash, what stood there stands there
    /// still. Its directory must exist and be writable.
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

    /// Downloads a report into a directory that exists, under the report's own name
    /// made safe; gives its path. Otherwise as [`Client::download_to_file`].
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

    /// Opens a report to be read part by part: blocks until its first bytes are
    /// there. A handle's operation belongs to the stream until that is closed.
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
    /// The audit instances of the project (ListAuditInstances).
    ///
    /// Fields that the service documents: id, name, status, region, version,
    /// created, expired, remain_days, connect_ip.
    pub fn instances(&self) -> Items {
        Items::new(self, Ok(List::Instances))
    }

    /// The reports of an instance; [`Items::name`] looks for a name.
    ///
    /// Fields that the service documents: id, name, format (pdf or zip), percentum
    /// (0 to 100; at 100 it can be downloaded), type (AUDIT_REPORT_DAY, _WEEK,
    /// _MONTH, _YEAR, _REAL_TIME), template_type, start_time, end_time, finish_time,
    /// db_ids, db_names, url.
    pub fn reports(&self, instance: &str) -> Items {
        Items::new(self, List::reports(instance, None))
    }

    /// The report templates of an instance.
    ///
    /// Fields that the service documents: id, name, type, group, status, desc,
    /// frequency, db_ids, db_names.
    pub fn templates(&self, instance: &str) -> Items {
        Items::new(self, List::templates(instance))
    }
}

/// Reports that the service makes, and archives of them.
impl Client {
    /// Has the service create a report. The service gives no id and takes its time:
    /// [`Client::generate`] finds the new report and waits.
    ///
    /// A request that may have reached the service is not sent again, so a lost
    /// connection ends the call though the report may have been created.
    pub fn create(&self, instance: &str, spec: &ReportSpec) -> Result<(), Error> {
        self.call(|active| {
            let report = NewReport::new(self.project(), instance, spec)?;
            self.inner.create_report(&report, active)
        })
    }

    /// Has the service create a report, finds the new one, waits until it is ready,
    /// and gives its id.
    ///
    /// The new report is the one that the list did not have before and that is of
    /// this range, and where several are, of this template. Where several remain the
    /// call fails with [`Ambiguous`](crate::Status::Ambiguous), and
    /// [`Error::candidates`] has their ids: it does not guess. What was created
    /// stays, whatever happens. The options `wait_timeout_ms` and `poll_interval_ms`
    /// count; [`Operation::percent`] tells how far it is.
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
    pub fn generate(&self, instance: &str, spec: &ReportSpec) -> Result<String, Error> {
        self.call(|active| {
            let report = NewReport::new(self.project(), instance, spec)?;
            self.inner.generate_report(&report, active)
        })
    }

    /// Waits until a report is ready (100 percent), by looking at the list now and
    /// then. The options `wait_timeout_ms` and `poll_interval_ms` count;
    /// [`Operation::percent`] tells how far it is.
    pub fn wait(&self, report: &Report) -> Result<(), Error> {
        self.call(|active| {
            let (instance, id) = (&report.instance, &report.id);
            self.inner.wait_for_report(self.project(), instance, id, active)
        })
    }

    /// Deletes a report at the service, for ever.
    pub fn delete(&self, report: &Report) -> Result<(), Error> {
        self.call(|active| {
            let (instance, id) = (&report.instance, &report.id);
            self.inner.delete_report(self.project(), instance, id, active)
        })
    }

    /// Brings a local archive of reports up to date: downloads every report that is
    /// ready and not there yet, several at once. What is there stays: nothing is
    /// ever deleted, also not what the service has deleted.
    ///
    /// The directory is made if it does not exist. It then holds:
    ///
    /// - `{instance}/{year}/{name}_{id}.pdf` (or `.zip`): the reports, each of which
    ///   appears only when it is whole and on the disk; with a locale, `_{locale}`
    ///   stands before the ending. Where another report's file would have the same
    ///   name on some file system, 16 digits made of the id do too.
    /// - `manifest.jsonl`: a line of JSON for each, with id, name, instance, locale,
    ///   format, type, start_time, end_time, path, size, sha256, and the request id
    ///   and date of its download (null for one that was found whole). Where an id
    ///   has several lines, the last counts.
    /// - `SHA256SUMS`, which `sha256sum -c` takes.
    /// - `.dbss-mirror.lock`: one mirror at a time works on a directory, and the lock
    ///   dies with its process.
    ///
    /// A mirror that was cancelled or killed goes on where it was when it is called
    /// again. One report's failure does not stop the others, but for those that
    /// would fail them all, such as refused credentials and a full disk; the call
    /// then ends with [`Partial`](crate::Status::Partial). The [`MirrorError`] has
    /// the result as far as it went, and becomes an [`Error`] with `?`.
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

/// Who the client is.
impl Client {
    /// Finds the credentials that a call would use now, as it would: by asking the
    /// token provider, logging in, or asking the metadata service, where that is
    /// configured and has not been done yet. Whether the service takes them,
    /// [`Client::check`] tells.
    pub fn find_credentials(&self) -> Result<Identity, Error> {
        self.call(|active| self.inner.find_credentials(active))
    }

    /// Asks the service whether it takes the credentials, by asking it for an
    /// instance of the project; nothing is downloaded or changed.
    pub fn check(&self) -> Result<(), Error> {
        self.call(|active| self.inner.check(self.project(), active))
    }
}
