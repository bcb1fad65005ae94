//! Who we are: the credentials that go with a request.

mod access_key;
mod secret;
mod signature;
mod token;

use std::fmt;
use std::sync::Arc;

use ::http::Request;
use arc_swap::ArcSwapOption;

pub(crate) use access_key::AccessKey;
pub(crate) use token::Token;

use crate::error::{Error, Status};

/// Proves to the service who sends a request.
///
/// What it adds and must not be seen it marks as sensitive: the rest of the
/// library keeps such headers out of errors, logs and other origins.
pub(crate) trait Credential: fmt::Debug + Send + Sync {
    /// Adds its proof to a request that is otherwise final. `project` is the
    /// project that the request is about.
    fn authorize(&self, request: &mut Request<()>, project: &str) -> Result<(), Error>;
}

/// The credential of a context, which may be replaced while calls use it.
///
/// Lock-free, because a child of `fork` must be able to read and replace what
/// it inherited, whatever the parent's threads were doing.
pub(crate) struct Current(ArcSwapOption<Arc<dyn Credential>>);

impl Current {
    pub(crate) fn new(credential: Option<Arc<dyn Credential>>) -> Current {
        Current(ArcSwapOption::new(credential.map(Arc::new)))
    }

    pub(crate) fn replace(&self, credential: Arc<dyn Credential>) {
        self.0.store(Some(Arc::new(credential)));
    }

    pub(crate) fn get(&self) -> Result<Arc<dyn Credential>, Error> {
        self.0.load().as_deref().map(Arc::clone).ok_or_else(|| {
            Error::argument(
                Status::NotConfigured,
                "token",
                "neither a token nor an access key is configured; set one before the call",
            )
        })
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = if self.0.load().is_some() { "***" } else { "none" };
        write!(f, "Current({known})")
    }
}
