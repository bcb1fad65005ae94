//! A service, the credentials for it, and the connections to it.

use crate::auth::FixedToken;
use crate::error::Error;
use crate::http::{Endpoint, Http};

use super::config::Config;

/// See `dbss_context`.
#[derive(Debug)]
pub struct Context {
    pub(super) endpoint: Endpoint,
    pub(super) credential: FixedToken,
    pub(super) http: Http,
    pub(super) max_memory: u64,
}

impl Context {
    /// Makes a context; reads the trusted certificates, sends nothing.
    pub fn new(config: Config) -> Result<Context, Error> {
        let endpoint = config.endpoint()?;
        let http = Http::new(
            &endpoint,
            config.limits,
            config.ca_file.as_deref(),
            config.user_agent_suffix.as_deref(),
        )?;
        Ok(Context {
            endpoint,
            credential: FixedToken::new(config.token),
            http,
            max_memory: config.max_memory,
        })
    }

    /// Replaces the token for the calls that start from now on.
    pub fn set_token(&self, token: &[u8]) -> Result<(), Error> {
        self.credential.replace(token)
    }
}
