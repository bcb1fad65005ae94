//! The credentials that go with a request, and where they come from.
//!
//! A [`CredentialsProvider`] returns [`Credentials`], which sign requests. A
//! [`CachedProvider`] fetches them through a [`TokenFetcher`] (IAM, the metadata
//! service, the caller's token provider), for all threads at once by a
//! [`SingleFlight`], and refreshes them before they expire.

mod access_key;
mod cached;
mod callback;
mod chain;
mod expiry;
mod iam;
mod metadata;
mod profile;
mod secret;
mod signature;
mod single_flight;
mod source;
mod token;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;

pub(crate) use access_key::AccessKey;
pub(crate) use cached::{CachedProvider, TokenFetcher};
pub use callback::TokenRequest;
pub(crate) use callback::{CallbackProvider, TokenProvider};
pub(crate) use chain::{Environment, find};
pub(crate) use iam::{Login, Scope, find_project};
pub(crate) use metadata::Metadata;
#[cfg(fuzzing)]
pub(crate) use profile::parse as parse_profile;
pub(crate) use single_flight::{Completion, SingleFlight};
pub(crate) use source::{CredentialSource, SourceSelector};
pub(crate) use token::Token;

use crate::error::{Error, Status};
use crate::http::{Call, Http, Retry};
use crate::log::{Level, LogFn};

/// Returns credentials, again and again for as long as a client lives.
pub(crate) trait CredentialsProvider: fmt::Debug + Send + Sync {
    /// Credentials that are valid as far as is known. None if it has only those that
    /// the service has `rejected`.
    fn credentials(
        &self,
        context: &RequestContext<'_>,
        rejected: Option<&Arc<Credentials>>,
    ) -> Result<Option<Arc<Credentials>>, Error>;

    /// What it is.
    fn source(&self) -> CredentialSource;
}

/// How a provider sends requests on behalf of a call.
pub(crate) struct RequestContext<'a> {
    pub(crate) http: &'a Http,
    pub(crate) call: &'a Arc<Call>,
    pub(crate) retry: Retry,
    pub(crate) log: &'a LogFn<'a>,
}

/// Credentials are refreshed so long before they expire, or a tenth of their life
/// if that is shorter.
const REFRESHED_BEFORE: Duration = Duration::from_secs(300);

/// Credentials of this age that are rejected may have been revoked. Younger ones that
/// were never accepted were never valid.
const YOUNG: Duration = Duration::from_secs(60);

/// The pause after a refresh that failed, while the old credentials are used.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);

/// Proves to a service who sends a request.
///
/// A secret header that it adds is marked as sensitive: the rest of the library keeps
/// such headers out of errors, logs and other origins.
#[derive(Debug)]
pub(crate) enum RequestSigner {
    Token(Token),
    AccessKey(AccessKey),
}

/// What signs requests, and what is known of it.
#[derive(Debug)]
pub(crate) struct Credentials {
    signer: RequestSigner,
    /// A name to recognise it by, which is not secret.
    pub(crate) name: Option<String>,
    /// The id of the project that they are for, where it is known.
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

    /// Sets how long they are valid. Counted from now and not by a date, so that a
    /// clock that is set does not matter.
    pub(crate) fn with_lifetime(mut self, lifetime: Option<Duration>) -> Credentials {
        self.lifetime = lifetime;
        self.expires = lifetime.and_then(|life| SystemTime::now().checked_add(life));
        self
    }

    /// Adds the proof to a request that is otherwise final. `project` is the project
    /// that the request is about, if it is about one.
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

    /// Records that the service accepted them.
    pub(crate) fn accept(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    fn is_expired(&self) -> bool {
        self.lifetime.is_some_and(|life| self.obtained.elapsed() >= life)
    }

    /// Whether it is time to refresh them.
    fn is_due(&self) -> bool {
        let failed = self.refresh_failed.load();
        let pauses = failed
            .as_deref()
            .is_some_and(|failed| failed.elapsed() < REFRESH_PAUSE);
        let due = |life: Duration| self.obtained.elapsed() >= life - REFRESHED_BEFORE.min(life / 10);
        !pauses && self.lifetime.is_some_and(due)
    }

    /// Whether other credentials may be accepted by the service that rejected these.
    fn was_good(&self) -> bool {
        self.accepted.load(Ordering::Relaxed) || self.obtained.elapsed() >= YOUNG
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

/// The same credentials for ever.
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

/// The provider of a client, which may be replaced while calls use it.
///
/// Lock-free, because a child of `fork` must be able to read and replace what
/// it inherited, whatever the parent's threads were doing.
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
                "none are configured; set a token, an access key or a user before the call, or the option \
                 \"credentials\" to \"default\" to use those that the official SDKs find",
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

/// The credentials that a call begins with.
pub(crate) fn initial_credentials(
    provider: &dyn CredentialsProvider,
    context: &RequestContext<'_>,
) -> Result<Arc<Credentials>, Error> {
    provider
        .credentials(context, None)?
        .ok_or_else(|| Error::new(Status::Internal, "a provider without credentials"))
}

/// Makes an attempt, and a second one with other credentials if the first ones were
/// rejected and the provider has others. Rejected credentials are never sent again.
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
                format!("credentials were refused and replaced: {}", provider.source()).into()
            });
            attempt(&next)
        }
        None => result,
    }
}

/// A name with its middle masked, which must not be shown whole.
pub(crate) fn masked(name: &str) -> String {
    let shown = if name.len() >= 12 && name.is_ascii() { 4 } else { 0 };
    format!("{}***{}", &name[..shown], &name[name.len() - shown..])
}

/// The error of a search that found no credentials.
fn none_found(missing: &[String]) -> Error {
    Error::argument(
        Status::NotConfigured,
        "credentials",
        format_args!("none were found: {}", missing.join("; ")),
    )
}
