//! The state that all handles of one client share: endpoints, credentials, connections,
//! log.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};

use super::config::{Config, metadata_address};
use super::failover::Endpoints;
use super::project::ProjectLookup;
use crate::credentials::{
    CredentialSource, Credentials, CurrentProvider, Environment, Metadata, StaticProvider, Token,
};
use crate::error::Error;
use crate::host::HostCallback;
use crate::http::{Endpoint, Http, Setup};
use crate::log::{Level, Log, LogRecord};
use crate::text::sanitize;

const MAX_LOG_MESSAGE: usize = 2048;

/// The shared state of a client.
pub(crate) struct ClientInner {
    pub(super) endpoints: Endpoints,
    pub(super) project: ProjectLookup,
    pub(super) provider: CurrentProvider,
    pub(super) http: Http,
    pub(super) max_memory: u64,
    pub(super) max_attempts: u32,
    pub(super) max_retry_after: Duration,
    pub(super) file_mode: u32,
    pub(super) wait_timeout: Option<Duration>,
    pub(super) poll_interval: Duration,
    pub(super) interruptible: bool,
    pub(super) log: ArcSwapOption<HostCallback<Log>>,
    pub(super) log_level: Level,
}

impl fmt::Debug for ClientInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.endpoints.preferred().origin())
    }
}

#[inline(never)]
pub(super) fn write_record(log: &HostCallback<Log>, level: Level, mut record: LogRecord) {
    record.level = level;
    record.message = sanitize(&record.message, MAX_LOG_MESSAGE).into_owned();
    log.run(move |log| log(&record));
}

fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

impl ClientInner {
    /// Makes a client. Reads the trusted certificates and, if configured, the environment
    /// and files of the official SDKs. Sends no request.
    pub(super) fn new(config: Config) -> Result<ClientInner, Error> {
        let log = config.log.clone().map(|log| Arc::new(HostCallback::new(log)));
        let log_record = |level, record: &dyn Fn() -> LogRecord| {
            if let Some(log) = log.as_ref().filter(|_| level <= config.log_level) {
                write_record(log, level, record());
            }
        };
        let endpoints = config.endpoints(&environment, &log_record)?;
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
                plaintext_address: metadata_address(&endpoint),
                ..setup(None)
            };
            Ok(Metadata::new(
                endpoint.clone(),
                Http::new(endpoint.is_https(), setup)?,
            ))
        };
        let agent = |endpoint: &Endpoint| {
            // An agent on the same node is never behind a proxy.
            let proxy = match endpoint.is_https() {
                true => config.proxy(true)?,
                false => None,
            };
            let setup = Setup {
                follow_redirects: false,
                allow_plaintext: false,
                plaintext_address: endpoint.link_local_address(),
                ..setup(proxy)
            };
            Http::new(endpoint.is_https(), setup)
        };
        let resolved = config.credentials(&Environment {
            variable: &environment,
            log: &log_record,
            metadata: &metadata,
            agent: &agent,
        })?;
        let iam = resolved.iam;
        let https = endpoints.iter().any(Endpoint::is_https) || resolved.uses_https;
        let http = Http::new(https, setup(config.proxy(endpoints[0].is_https())?))?;
        Ok(ClientInner {
            endpoints: Endpoints::new(endpoints),
            project: ProjectLookup::new(config.project_id.clone(), config.region().map(str::to_owned), iam),
            provider: CurrentProvider::new(resolved.provider),
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

    /// Makes a token the credentials of calls that start from now on.
    pub(super) fn set_token(&self, token: &[u8]) -> Result<(), Error> {
        self.check_open()?;
        let credentials = Credentials::from(Token::new(token)?);
        let provider = StaticProvider::new(credentials, CredentialSource::Token);
        self.provider.replace(Arc::new(provider));
        self.http.forget_token();
        self.project.reset();
        Ok(())
    }

    /// Cancels all running calls.
    pub(super) fn cancel_all(&self) -> Result<(), Error> {
        self.http.cancel_all()
    }

    /// Closes idle connections.
    pub(super) fn release_idle(&self) {
        self.http.release_idle();
    }

    /// Ends all running calls with [`Status::Cancelled`] and later ones with
    /// [`Status::Closed`], and closes the connections. It may be called from any thread
    /// and does not wait.
    pub(super) fn close(&self) {
        self.http.close();
        // The caller's functions are dropped when the last call that uses them ends.
        self.log.store(None);
        self.provider.clear();
        self.project.reset();
    }

    /// Fails if the client was closed.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        self.http.check_open()
    }

    pub(super) fn log<R: Into<LogRecord>>(&self, level: Level, record: impl FnOnce() -> R) {
        if level <= self.log_level
            && let Some(log) = &*self.current_log()
        {
            write_record(log, level, record().into());
        }
    }

    #[inline(never)]
    fn current_log(&self) -> Guard<Option<Arc<HostCallback<Log>>>> {
        self.log.load()
    }
}
