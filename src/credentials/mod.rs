//! The credentials that go with a request, and where they come from.
//!
//! A [`CredentialsProvider`] returns [`Credentials`], which sign requests. A
//! [`CachedProvider`] fetches them through a [`TokenFetcher`]: a login at IAM, the caller's
//! token provider, or a [`KeyFetcher`] with the sources of temporary keys. It refreshes
//! them before they expire. A
//! [`SingleFlight`] makes one fetch serve all threads.

mod access_key;
mod agency;
mod cached;
mod callback;
mod chain;
mod exchange;
mod expiry;
mod federation;
mod iam;
mod id_token;
mod metadata;
mod oidc;
mod pod_identity;
mod profile;
mod secret;
mod signature;
mod single_flight;
mod source;
mod temporary_key;
mod token;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};

pub(crate) use access_key::AccessKey;
pub(crate) use agency::{Account, Agency};
pub(crate) use cached::{CachedProvider, TokenFetcher};
pub use callback::TokenRequest;
pub(crate) use callback::{CallbackProvider, TokenProvider};
pub(crate) use chain::{Environment, Purpose, find};
pub(crate) use iam::{Login, Mfa, Scope, find_project};
pub(crate) use metadata::Metadata;
#[cfg(fuzzing)]
pub(crate) use profile::{Identity, parse as parse_profile};
pub(crate) use single_flight::{Completion, SingleFlight};
pub(crate) use source::{CredentialSource, SourceSelector};
pub(crate) use temporary_key::KeyFetcher;
pub(crate) use token::Token;

use crate::error::{Error, Status};
use crate::http::{Call, Http, Retry};
use crate::log::{Level, LogFn};
use crate::message;

/// Provides credentials during the lifetime of a client.
pub(crate) trait CredentialsProvider: fmt::Debug + Send + Sync {
    /// Returns credentials that are believed to be valid, or none if the only ones
    /// available are those that the service `rejected`.
    fn credentials(
        &self,
        context: &RequestContext<'_>,
        rejected: Option<&Arc<Credentials>>,
    ) -> Result<Option<Arc<Credentials>>, Error>;

    /// Where the credentials come from.
    fn source(&self) -> CredentialSource;
}

/// How a provider sends requests on behalf of a call.
pub(crate) struct RequestContext<'a> {
    pub(crate) http: &'a Http,
    pub(crate) call: &'a Arc<Call>,
    pub(crate) retry: Retry,
    pub(crate) log: &'a LogFn<'a>,
}

/// How long before expiry a token is refreshed, but at most a tenth of its lifetime.
const TOKEN_MARGIN: Duration = Duration::from_secs(300);

/// How long before expiry a temporary key is refreshed, as in the official SDKs, but at
/// most half its lifetime.
const KEY_MARGIN: Duration = Duration::from_secs(40 * 60);

/// Rejected credentials that are older than this may have been revoked. Newer ones that
/// were never accepted were never valid.
const NEW_CREDENTIALS_AGE: Duration = Duration::from_secs(60);

/// How long the old credentials are used after a failed refresh, before the next one.
const REFRESH_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Authenticates requests to a service.
///
/// Secret headers are marked as sensitive. The rest of the library keeps such headers out
/// of errors and logs, and never sends them to another origin.
#[derive(Debug)]
pub(crate) enum RequestSigner {
    Token(Token),
    AccessKey(AccessKey),
}

/// A request signer with its metadata.
#[derive(Debug)]
pub(crate) struct Credentials {
    signer: RequestSigner,
    /// A name that identifies the credentials and is not secret.
    pub(crate) name: Option<String>,
    /// The id of the project that they are for, if known.
    pub(crate) project: Option<String>,
    /// When they expire, by the clock of this machine.
    pub(crate) expires: Option<SystemTime>,
    obtained: Instant,
    lifetime: Option<Duration>,
    accepted: AtomicBool,
    refresh_failed: ArcSwapOption<Instant>,
}

impl Credentials {
    pub(crate) fn new(signer: RequestSigner) -> Credentials {
        Credentials {
            signer,
            name: None,
            project: None,
            expires: None,
            obtained: Instant::now(),
            lifetime: None,
            accepted: AtomicBool::new(false),
            refresh_failed: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn with_name(mut self, name: Option<String>) -> Credentials {
        self.name = name;
        self
    }

    pub(crate) fn with_project(mut self, project: Option<String>) -> Credentials {
        self.project = project;
        self
    }

    /// Sets how long they are valid from now. A duration is used instead of a date, so
    /// that changes of the system clock do not matter.
    pub(crate) fn with_lifetime(mut self, lifetime: Option<Duration>) -> Credentials {
        self.lifetime = lifetime;
        self.expires = lifetime.and_then(|life| SystemTime::now().checked_add(life));
        self
    }

    /// Adds the authentication headers to a request that is otherwise complete. `project`
    /// is the project that the request is about, if any.
    pub(crate) fn sign(
        &self,
        request: &mut ::http::Request<&[u8]>,
        project: Option<&str>,
    ) -> Result<(), Error> {
        match &self.signer {
            RequestSigner::Token(token) => token.sign(request),
            RequestSigner::AccessKey(key) => key.sign(request, project, SystemTime::now())?,
        }
        Ok(())
    }

    /// Returns the token, if they are one.
    fn token(&self) -> Option<&str> {
        match &self.signer {
            RequestSigner::Token(token) => token.text(),
            RequestSigner::AccessKey(_) => None,
        }
    }

    /// Returns a hash by which to tell them from others.
    fn fingerprint(&self) -> [u8; 32] {
        let hash = Sha256::new();
        match &self.signer {
            RequestSigner::Token(token) => hash.chain_update(token.text().unwrap_or_default()),
            RequestSigner::AccessKey(key) => key.add_to(hash),
        }
        .finalize()
        .into()
    }

    /// Records that the service accepted the credentials.
    pub(crate) fn accept(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    fn is_expired(&self) -> bool {
        self.lifetime.is_some_and(|life| self.obtained.elapsed() >= life)
    }

    /// Whether the credentials are about to expire and no refresh failed recently.
    fn needs_refresh(&self) -> bool {
        let failed = self.refresh_failed.load();
        let recently_failed = failed
            .as_deref()
            .is_some_and(|failed| failed.elapsed() < REFRESH_RETRY_DELAY);
        let margin = |life: Duration| match &self.signer {
            RequestSigner::Token(_) => TOKEN_MARGIN.min(life / 10),
            RequestSigner::AccessKey(_) => KEY_MARGIN.min(life / 2),
        };
        let near_expiry = |life: Duration| self.obtained.elapsed() >= life - margin(life);
        !recently_failed && self.lifetime.is_some_and(near_expiry)
    }

    /// Whether the service accepted these credentials before, or may have. If it then
    /// rejects them, new ones may work.
    fn was_valid(&self) -> bool {
        self.accepted.load(Ordering::Relaxed) || self.obtained.elapsed() >= NEW_CREDENTIALS_AGE
    }
}

impl From<Token> for Credentials {
    fn from(token: Token) -> Credentials {
        Credentials::new(RequestSigner::Token(token))
    }
}

impl From<AccessKey> for Credentials {
    fn from(key: AccessKey) -> Credentials {
        Credentials::new(RequestSigner::AccessKey(key))
    }
}

/// Provides the same credentials for every request.
#[derive(Debug)]
pub(crate) struct StaticProvider {
    credentials: Arc<Credentials>,
    source: CredentialSource,
}

impl StaticProvider {
    pub(crate) fn new(credentials: Credentials, source: CredentialSource) -> StaticProvider {
        StaticProvider {
            credentials: Arc::new(credentials),
            source,
        }
    }
}

impl CredentialsProvider for StaticProvider {
    fn credentials(
        &self,
        _: &RequestContext<'_>,
        rejected: Option<&Arc<Credentials>>,
    ) -> Result<Option<Arc<Credentials>>, Error> {
        Ok(rejected.is_none().then(|| Arc::clone(&self.credentials)))
    }

    fn source(&self) -> CredentialSource {
        self.source.clone()
    }
}

/// The current provider of a client. It may be replaced while calls use it.
///
/// It is lock-free: a child of `fork` must be able to read and replace it, whatever the
/// parent's threads were doing.
pub(crate) struct CurrentProvider(ArcSwapOption<Arc<dyn CredentialsProvider>>);

impl CurrentProvider {
    pub(crate) fn new(provider: Option<Arc<dyn CredentialsProvider>>) -> CurrentProvider {
        CurrentProvider(ArcSwapOption::new(provider.map(Arc::new)))
    }

    pub(crate) fn replace(&self, provider: Arc<dyn CredentialsProvider>) {
        self.0.store(Some(Arc::new(provider)));
    }

    pub(crate) fn clear(&self) {
        self.0.store(None);
    }

    pub(crate) fn get(&self) -> Result<Arc<dyn CredentialsProvider>, Error> {
        self.0.load().as_deref().map(Arc::clone).ok_or_else(|| {
            Error::argument(
                Status::NotConfigured,
                "credentials",
                format_args!(
                    "none are configured; set a token, an access key or a user before the call, or {} to \
                     \"default\" to use those that the official SDKs find",
                    message::name("credentials")
                ),
            )
        })
    }
}

impl fmt::Debug for CurrentProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = if self.0.load().is_some() { "***" } else { "none" };
        write!(f, "CurrentProvider({set})")
    }
}

/// Returns the credentials for the first attempt of a call.
pub(crate) fn initial_credentials(
    provider: &dyn CredentialsProvider,
    context: &RequestContext<'_>,
) -> Result<Arc<Credentials>, Error> {
    provider
        .credentials(context, None)?
        .ok_or_else(|| Error::new(Status::Internal, "a provider returned no credentials"))
}

/// Makes an attempt. If the service rejects the credentials and the provider has others,
/// makes a second attempt with those.
pub(crate) fn with_credential_retry<T>(
    provider: &dyn CredentialsProvider,
    context: &RequestContext<'_>,
    attempt: impl Fn(&Credentials) -> Result<T, Error>,
    is_rejected: impl Fn(&Result<T, Error>) -> bool,
) -> Result<T, Error> {
    let credentials = initial_credentials(provider, context)?;
    let result = attempt(&credentials);
    if !is_rejected(&result) {
        return result;
    }
    match provider.credentials(context, Some(&credentials))? {
        Some(next) => {
            (context.log)(Level::Warning, &|| {
                format!("credentials were rejected and replaced: {}", provider.source()).into()
            });
            attempt(&next)
        }
        None => result,
    }
}

/// Returns a name that is safe to show: its first and last four characters, or only `***`
/// if it is short or not ASCII.
pub(crate) fn masked(name: &str) -> String {
    let shown = if name.len() >= 12 && name.is_ascii() { 4 } else { 0 };
    format!("{}***{}", &name[..shown], &name[name.len() - shown..])
}

/// Returns the error of a search that found no credentials.
fn none_found(missing: &[String]) -> Error {
    Error::argument(
        Status::NotConfigured,
        "credentials",
        format_args!("none were found: {}", missing.join("; ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_refreshed_in_time() {
        let token = || Credentials::from(Token::new(b"token").expect("a token"));
        let key = || Credentials::from(AccessKey::new(b"a", b"s", None).expect("a key"));
        for (credentials, life, refreshed_at) in [
            (token(), 24 * 3600, 24 * 3600 - 300),
            (token(), 600, 540),
            (key(), 24 * 3600, 24 * 3600 - 2400),
            (key(), 6 * 3600, 6 * 3600 - 2400),
            (key(), 3600, 1800),
            (key(), 900, 450),
        ] {
            let mut credentials = credentials.with_lifetime(Some(Duration::from_secs(life)));
            // Both ends are some seconds away, since time passes.
            for (age, needs) in [(refreshed_at - 5, false), (refreshed_at + 1, true)] {
                credentials.obtained = Instant::now()
                    .checked_sub(Duration::from_secs(age))
                    .expect("a machine that has run for some time");
                assert_eq!(credentials.needs_refresh(), needs, "{life} s at {age} s");
            }
            assert!(!credentials.is_expired());
        }
    }
}
