//! A service, the credentials for it, and the connections to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::log::{Level, Log};
use crate::auth::{Current, Token};
use crate::error::{Error, printable};
use crate::http::{Endpoint, Http, Setup};

const LOG_LINE: usize = 2048;

/// See `dbss_context`.
pub struct Context {
    pub(super) endpoint: Endpoint,
    pub(super) credential: Current,
    pub(super) http: Http,
    pub(super) max_memory: u64,
    pub(super) max_attempts: u32,
    pub(super) max_retry_after: Duration,
    pub(super) file_mode: u32,
    log: Option<Arc<dyn Log>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.endpoint.origin())
    }
}

impl Context {
    /// Makes a context; reads the trusted certificates, sends nothing.
    pub fn new(config: Config) -> Result<Context, Error> {
        let endpoint = config.endpoint()?;
        let setup = Setup {
            limits: config.limits,
            ca_file: config.ca_file.as_deref(),
            user_agent_suffix: config.user_agent_suffix.as_deref(),
            allow_plaintext: config.allow_plaintext,
            allow_unframed: config.allow_unframed,
            follow_redirects: config.follow_redirects,
            proxy: config.proxy(endpoint.is_https())?,
        };
        let http = Http::new(&endpoint, setup)?;
        Ok(Context {
            endpoint,
            credential: Current::new(config.credential()?),
            http,
            max_memory: config.max_memory,
            max_attempts: config.max_attempts,
            max_retry_after: config.max_retry_after,
            file_mode: config.file_mode,
            log: config.log,
        })
    }

    /// Makes a token the credential of the calls that start from now on.
    pub fn set_token(&self, token: &[u8]) -> Result<(), Error> {
        self.credential.replace(Arc::new(Token::new(token)?));
        Ok(())
    }

    /// Cancels all calls under way.
    pub fn cancel_all(&self) -> Result<(), Error> {
        self.http.cancel_all()
    }

    pub(super) fn log(&self, level: Level, message: impl FnOnce() -> String) {
        if let Some(log) = &self.log {
            log.log(level, &printable(&message(), LOG_LINE));
        }
    }
}
