//! A service, the credentials for it, and the connections to it.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::arguments::{PROJECT_OR_INSTANCE_ID, check_id};
use super::config::Config;
use crate::auth::{
    Current, Fixed, Grant, Metadata, Origin, Outcome, Shared, Source, Surroundings, Token, Wire, find_project,
};
use crate::error::{CancelledBy, Error, Status, printable};
use crate::host::Hosted;
use crate::http::{Answer, Call, Endpoint, Http, Outgoing, Retry, Setup};
use crate::log::{Level, Log, LogRecord};
use crate::operation::{Overrides, Running, cancelled};

const LOG_LINE: usize = 2048;

/// What the handles of one client share.
pub(crate) struct ClientInner {
    /// In the order of preference.
    endpoints: Vec<Endpoint>,
    /// The one that was reachable last.
    reachable: AtomicUsize,
    iam: Endpoint,
    region: Option<String>,
    /// The project that was given.
    project: Option<String>,
    /// The project that was looked up.
    found_project: ArcSwap<Shared<String>>,
    credential: Current,
    pub(super) http: Http,
    pub(super) max_memory: u64,
    max_attempts: u32,
    max_retry_after: Duration,
    pub(super) file_mode: u32,
    pub(super) wait_timeout: Option<Duration>,
    pub(super) poll_interval: Duration,
    interruptible: bool,
    log: ArcSwapOption<Hosted<Log>>,
    log_level: Level,
}

/// What a call is about, for the log.
pub(super) struct Subject {
    pub(super) text: String,
    pub(super) report_id: Option<String>,
}

impl From<&str> for Subject {
    fn from(text: &str) -> Subject {
        Subject {
            text: text.to_owned(),
            report_id: None,
        }
    }
}

impl fmt::Debug for ClientInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.endpoints[0].origin())
    }
}

fn tell<R: Into<LogRecord>>(log: Option<&Arc<Hosted<Log>>>, level: Level, record: impl FnOnce() -> R) {
    if let Some(log) = log {
        let mut record = record().into();
        record.level = level;
        record.message = printable(&record.message, LOG_LINE).into_owned();
        log.run(move |log| log(&record));
    }
}

fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

impl ClientInner {
    /// Makes a client; reads the trusted certificates, and, where that is
    /// configured, the environment and files of the official SDKs. Sends
    /// nothing.
    pub(super) fn new(config: Config) -> Result<ClientInner, Error> {
        let log = config.log.clone().map(|log| Arc::new(Hosted::new(log)));
        let say = |level, message: &dyn Fn() -> String| {
            tell(log.as_ref().filter(|_| level <= config.log_level), level, message);
        };
        let endpoints = config.endpoints(&environment, &say)?;
        let setup = |proxy| Setup {
            limits: config.limits,
            ca_file: config.ca_file.as_deref(),
            user_agent_suffix: config.user_agent_suffix.as_deref(),
            allow_plaintext: config.allow_plaintext,
            plaintext_address: None,
            allow_close_delimited: config.allow_close_delimited,
            follow_redirects: config.follow_redirects,
            proxy,
        };
        let metadata = || {
            let endpoint = config.metadata_endpoint()?;
            let setup = Setup {
                ca_file: None,
                follow_redirects: false,
                plaintext_address: endpoint.metadata_address(),
                ..setup(None)
            };
            Ok(Metadata::new(
                endpoint.clone(),
                Http::new(endpoint.is_https(), setup)?,
            ))
        };
        let found = config.credentials(&Surroundings {
            environment: &environment,
            log: &say,
            metadata: &metadata,
        })?;
        let iam = found.iam;
        let https = endpoints.iter().any(Endpoint::is_https) || config.asks_iam() && iam.is_https();
        let http = Http::new(https, setup(config.proxy(endpoints[0].is_https())?))?;
        Ok(ClientInner {
            endpoints,
            reachable: AtomicUsize::new(0),
            iam,
            region: config.region().map(str::to_owned),
            project: config.project_id.clone(),
            found_project: ArcSwap::from_pointee(Shared::new()),
            credential: Current::new(found.source),
            http,
            max_memory: config.max_memory,
            max_attempts: config.max_attempts,
            max_retry_after: config.max_retry_after,
            file_mode: config.file_mode,
            wait_timeout: config.wait_timeout,
            poll_interval: config.poll_interval,
            interruptible: config.interruptible,
            log: ArcSwapOption::new(log.clone()),
            log_level: config.log_level,
        })
    }

    /// Makes a token the credential of the calls that start from now on.
    pub(super) fn set_token(&self, token: &[u8]) -> Result<(), Error> {
        self.check_open()?;
        let grant = Grant::new(Token::new(token)?);
        self.credential
            .replace(Arc::new(Fixed::new(grant, Origin::Token)));
        // It may be another account's.
        self.found_project.store(Arc::new(Shared::new()));
        Ok(())
    }

    /// Cancels all calls under way.
    pub(super) fn cancel_all(&self) -> Result<(), Error> {
        self.http.cancel_all()
    }

    /// Closes the connections that nobody uses.
    pub(super) fn release_idle(&self) {
        self.http.release_idle();
    }

    /// Ends all calls under way with [`Status::Cancelled`] and later ones with
    /// [`Status::Closed`], and closes the connections. From any thread; it does
    /// not wait.
    pub(super) fn close(&self) {
        self.http.close();
        // Code of the host goes with the calls that use it.
        self.log.store(None);
        self.credential.clear();
        self.found_project.store(Arc::new(Shared::new()));
    }

    /// Where credentials come from.
    fn source(&self) -> Result<Arc<dyn Source>, Error> {
        self.credential.get().map_err(|e| match self.http.is_closed() {
            true => cancelled(CancelledBy::Close),
            false => e,
        })
    }

    /// An error if it was closed.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        self.http.check_open()
    }

    pub(super) fn log<R: Into<LogRecord>>(&self, level: Level, record: impl FnOnce() -> R) {
        if level <= self.log_level {
            tell(self.log.load().as_ref(), level, record);
        }
    }

    /// Runs one call under its operation, or one of its own, and logs its failure.
    pub(super) fn run<T>(
        &self,
        running: Option<Running>,
        subject: Subject,
        body: impl FnOnce(Running) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(running) = running {
            return self.run_under(running, subject, body);
        }
        let operation = self.http.operation()?;
        let outcome = self.run_under(operation.begin()?, subject, body);
        self.http.reuse(operation);
        outcome
    }

    fn run_under<T>(
        &self,
        running: Running,
        subject: Subject,
        body: impl FnOnce(Running) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        // Also where it is closed meanwhile.
        let log = self.log.load_full();
        let signals = self.signals(&running);
        signals.and_then(|_signals| body(running)).inspect_err(|e| {
            tell(log.as_ref(), Level::Error, || LogRecord {
                attempt: e.attempts(),
                request_id: e.request_id().map(str::to_owned),
                report_id: subject.report_id.clone(),
                duration: Some(started.elapsed()),
                ..LogRecord::new(format!("{}: {}: {e}", subject.text, e.status().name())).about(e)
            });
        })
    }

    /// Lets signals end a call on this thread, if it is interruptible.
    pub(super) fn signals(&self, running: &Running) -> Result<impl Sized + use<>, Error> {
        let own = running.operation().overrides().interruptible;
        running.signals(own.unwrap_or(self.interruptible))
    }

    /// Runs a call that is no transfer.
    pub(super) fn alone<T>(
        &self,
        running: &Running,
        body: impl FnOnce(&Arc<Call>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let operation = running.operation();
        operation.check()?;
        let call = self.http.call(&operation.overrides(), operation)?;
        operation.tick()?;
        body(&call).map_err(|e| e.with_attempts(operation.attempts()))
    }

    /// The attempts of one call.
    pub(super) fn retry(&self, overrides: &Overrides) -> Retry {
        let max_attempts = overrides.max_attempts.unwrap_or(self.max_attempts);
        Retry::new(max_attempts, self.max_retry_after)
    }

    /// The credentials of a call that begins now, and where they are from.
    pub(super) fn obtain(&self, call: &Arc<Call>) -> Result<(Origin, Arc<Grant>), Error> {
        let source = self.source()?;
        let grant = self.with_wire(call, |wire| first(source.as_ref(), wire))?;
        Ok((source.origin(), grant))
    }

    /// The project that was given to the context.
    pub(super) fn own_project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// The id of a call's project: the one given with it, else the context's,
    /// else that of the credentials, else the one of the region's name.
    pub(super) fn project(&self, call: &Arc<Call>, given: Option<&str>) -> Result<String, Error> {
        if let Some(project) = given.or(self.project.as_deref()) {
            return Ok(project.to_owned());
        }
        let source = self.source()?;
        self.with_wire(call, |wire| {
            let project = authorized(
                source.as_ref(),
                wire,
                |grant| {
                    if let Some(project) = &grant.project {
                        return Ok(project.clone());
                    }
                    self.look_up_project(wire, grant)
                },
                |outcome| matches!(outcome, Err(e) if e.status() == Status::Unauthenticated),
            )?;
            check_id(&project, "project", PROJECT_OR_INSTANCE_ID)?;
            Ok(project)
        })
    }

    fn look_up_project(&self, wire: &Wire<'_>, grant: &Grant) -> Result<String, Error> {
        let Some(region) = &self.region else {
            return Err(Error::argument(
                Status::NotConfigured,
                "project",
                "none was given, and there is no region whose project could be looked up; give its id",
            ));
        };
        let shared = self.found_project.load_full();
        let found = shared.get(
            wire.call,
            |_| true,
            |promise| {
                let _aside = wire.call.aside(None);
                (wire.log)(Level::Info, &|| {
                    format!(
                        "looks up the project of the region {region} at {}",
                        self.iam.origin()
                    )
                });
                promise.keep(match find_project(wire, &self.iam, region, grant) {
                    Ok(id) => {
                        grant.accept();
                        Outcome::Known(Arc::new(id))
                    }
                    Err(e) => Outcome::of_call(e.spent()),
                });
            },
        )?;
        Ok(String::clone(&found))
    }

    fn with_wire<T>(&self, call: &Arc<Call>, body: impl FnOnce(&Wire<'_>) -> T) -> T {
        body(&Wire {
            http: &self.http,
            call,
            retry: self.retry(&call.operation().overrides()),
            log: &|level, message| self.log(level, message),
        })
    }

    /// Sends a request with the context's credentials and waits for the header
    /// of its answer. Credentials that are refused and can be renewed are
    /// renewed, once; others never go out again.
    pub(super) fn send<'a>(
        &self,
        call: &Arc<Call>,
        project: Option<&str>,
        outgoing: impl Fn(&Endpoint) -> Result<Outgoing<'a>, Error>,
    ) -> Result<Answer, Error> {
        let source = self.source()?;
        self.with_wire(call, |wire| {
            authorized(
                source.as_ref(),
                wire,
                |grant| {
                    let answer = self.reach(call, project, grant, &outgoing)?;
                    if answer.accepts_credentials() {
                        grant.accept();
                    }
                    Ok(answer)
                },
                |outcome| matches!(outcome, Ok(answer) if answer.refuses_credentials()),
            )
        })
    }

    /// Asks for a document: sends a request, as often as the call allows, and
    /// reads the answer.
    pub(super) fn ask<'a, T>(
        &self,
        call: &Arc<Call>,
        project: &str,
        outgoing: impl Fn(&Endpoint) -> Result<Outgoing<'a>, Error>,
        read: impl Fn(&mut Answer) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.retry(&call.operation().overrides()).run(call, || {
            let mut answer = self.send(call, Some(project), &outgoing)?;
            read(&mut answer)
        })
    }

    /// Sends a request to the first endpoint that can be reached.
    fn reach<'a>(
        &self,
        call: &Arc<Call>,
        project: Option<&str>,
        grant: &Grant,
        outgoing: &dyn Fn(&Endpoint) -> Result<Outgoing<'a>, Error>,
    ) -> Result<Answer, Error> {
        let count = self.endpoints.len();
        let first = self.reachable.load(Ordering::Relaxed);
        let mut tried = 0;
        loop {
            let index = (first + tried) % count;
            let outgoing = outgoing(&self.endpoints[index])?;
            let authorize = |request: &mut ::http::Request<&[u8]>| grant.authorize(request, project);
            match self.http.send(call, &outgoing, &authorize) {
                Ok(answer) => {
                    self.reachable.store(index, Ordering::Relaxed);
                    self.log(Level::Debug, || {
                        let id = answer.request_id();
                        let message = format!(
                            "{} {}: HTTP {}, {} bytes announced, request id {}",
                            outgoing.method,
                            outgoing.url,
                            answer.status().as_u16(),
                            answer.announced().map_or("no".to_owned(), |n| n.to_string()),
                            id.as_deref().unwrap_or("none"),
                        );
                        LogRecord {
                            attempt: call.operation().attempts(),
                            report_id: call.report_id().cloned(),
                            http_status: Some(answer.status().as_u16()),
                            request_id: id,
                            bytes: answer.announced(),
                            duration: Some(call.elapsed()),
                            ..LogRecord::new(message)
                        }
                    });
                    return Ok(answer);
                }
                Err(e) => {
                    tried += 1;
                    let unreachable = matches!(
                        e.status(),
                        Status::Resolve | Status::Connect | Status::ConnectTimeout
                    );
                    if !unreachable || tried == count {
                        return Err(e);
                    }
                    self.log(Level::Warning, || {
                        let next = self.endpoints[(first + tried) % count].origin();
                        LogRecord {
                            report_id: call.report_id().cloned(),
                            attempt: call.operation().attempts(),
                            ..LogRecord::new(format!("{}: {e}; tries {next}", self.endpoints[index].origin()))
                                .about(&e)
                        }
                    });
                }
            }
        }
    }
}

/// The credential to begin with.
fn first(source: &dyn Source, wire: &Wire<'_>) -> Result<Arc<Grant>, Error> {
    source
        .obtain(wire, None)?
        .ok_or_else(|| Error::new(Status::Internal, "a source without credentials"))
}

/// Tries with a credential, and once more with another where the first was
/// refused and there is another to be had.
fn authorized<T>(
    source: &dyn Source,
    wire: &Wire<'_>,
    attempt: impl Fn(&Grant) -> Result<T, Error>,
    is_refused: impl Fn(&Result<T, Error>) -> bool,
) -> Result<T, Error> {
    let grant = first(source, wire)?;
    let outcome = attempt(&grant);
    if !is_refused(&outcome) {
        return outcome;
    }
    match source.obtain(wire, Some(&grant))? {
        Some(next) => {
            (wire.log)(Level::Warning, &|| {
                format!("credentials were refused and replaced: {}", source.origin())
            });
            attempt(&next)
        }
        None => outcome,
    }
}
