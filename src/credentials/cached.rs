//! Credentials that are fetched, cached, and refreshed before they expire.

use std::sync::Arc;
use std::time::Instant;

use super::{Completion, CredentialSource, Credentials, CredentialsProvider, RequestContext, SingleFlight};
use crate::error::{Error, Status};
use crate::log::{Level, LogRecord};

/// Fetches new credentials.
pub(crate) trait TokenFetcher: std::fmt::Debug + Send + Sync {
    /// Fetches credentials and completes the fetch, now or later. `rejected` is true if
    /// the service rejected the previous ones.
    fn fetch(&self, context: &RequestContext<'_>, rejected: bool, completion: Completion<Credentials>);

    /// Where the credentials come from.
    fn source(&self) -> CredentialSource;

    /// Whether the fetcher may return the previous credentials again, although they are
    /// stale.
    fn may_return_stale(&self) -> bool {
        false
    }
}

/// Caches the credentials of a [`TokenFetcher`] until they are about to expire.
#[derive(Debug)]
pub(crate) struct CachedProvider {
    fetcher: Box<dyn TokenFetcher>,
    credentials: SingleFlight<Credentials>,
}

impl CachedProvider {
    pub(crate) fn new(fetcher: impl TokenFetcher + 'static) -> CachedProvider {
        CachedProvider {
            fetcher: Box::new(fetcher),
            credentials: SingleFlight::new(),
        }
    }

    fn refresh(
        &self,
        context: &RequestContext<'_>,
        usable: impl Fn(&Credentials) -> bool,
        rejected: Option<&Credentials>,
    ) -> Result<Arc<Credentials>, Error> {
        self.credentials
            .get(context.call, usable, |completion| {
                (context.log)(Level::Info, &|| {
                    format!("fetching credentials: {}", self.fetcher.source()).into()
                });
                // No other fetch can change the cached credentials at this point.
                let last = self.credentials.value();
                let rejected = last.as_deref().zip(rejected);
                let rejected = rejected.is_some_and(|(last, rejected)| std::ptr::eq(last, rejected));
                self.fetcher.fetch(context, rejected, completion);
            })
            .map_err(|e| match e.status() {
                // Another attempt of the same call would only wait again.
                Status::Stalled => e
                    .with_message(|message| {
                        format!(
                            "timed out waiting for credentials from {}: {message}",
                            self.fetcher.source()
                        )
                    })
                    .no_retry(),
                _ => e,
            })
    }
}

impl CredentialsProvider for CachedProvider {
    fn credentials(
        &self,
        context: &RequestContext<'_>,
        rejected: Option<&Arc<Credentials>>,
    ) -> Result<Option<Arc<Credentials>>, Error> {
        let rejected = rejected.map(Arc::as_ref);
        let usable = |credentials: &Credentials| {
            !credentials.is_expired() && rejected.is_none_or(|rejected| !std::ptr::eq(credentials, rejected))
        };
        let Some(last) = self.credentials.value().filter(|last| usable(last)) else {
            if rejected.is_some_and(|rejected| !rejected.was_valid()) && !self.fetcher.may_return_stale() {
                return Ok(None);
            }
            return self.refresh(context, usable, rejected).map(Some);
        };
        if !last.needs_refresh() || self.credentials.is_fetching() {
            return Ok(Some(last));
        }
        let newer = |credentials: &Credentials| !std::ptr::eq(credentials, last.as_ref());
        match self.refresh(context, newer, None) {
            Ok(new) => Ok(Some(new)),
            Err(e) if e.status() == Status::Cancelled => Err(e),
            Err(e) => {
                last.refresh_failed.store(Some(Arc::new(Instant::now())));
                (context.log)(Level::Warning, &|| {
                    LogRecord::new(format!(
                        "failed to refresh the credentials, which are still valid: {e}"
                    ))
                    .about(&e)
                });
                Ok(Some(last))
            }
        }
    }

    fn source(&self) -> CredentialSource {
        self.fetcher.source()
    }
}
