//! Who we are: the credentials that go with a request, and where they come
//! from.

mod access_key;
mod chain;
mod iam;
mod metadata;
mod profile;
mod provider;
mod renewing;
mod secret;
mod shared;
mod signature;
mod token;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ::http::Request;
use arc_swap::ArcSwapOption;

pub(crate) use access_key::AccessKey;
pub(crate) use chain::{Origin, Surroundings, Which, find};
pub(crate) use iam::{Login, Scope, find_project};
pub(crate) use metadata::Metadata;
#[cfg(fuzzing)]
pub(crate) use profile::parse as parse_profile;
pub use provider::TokenRequest;
pub(crate) use provider::{Provided, TokenProvider};
pub(crate) use renewing::Renewing;
pub(crate) use shared::{Outcome, Shared};
pub(crate) use token::Token;

use crate::error::{Error, Status};
use crate::http::{Call, Http, Retry};
use crate::log::Level;

/// Proves to a service who sends a request.
///
/// What it adds and must not be seen it marks as sensitive: the rest of the
/// library keeps such headers out of errors, logs and other origins.
pub(crate) trait Credential: fmt::Debug + Send + Sync {
    /// Adds its proof to a request that is otherwise final. `project` is the
    /// project that the request is about, where it is about one.
    fn authorize(&self, request: &mut Request<&[u8]>, project: Option<&str>) -> Result<(), Error>;
}

/// Where credentials come from, again and again for as long as a context lives.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// A credential that is good as far as is known; none where all that can be
    /// had is the one that the service has `refused`.
    fn obtain(&self, wire: &Wire<'_>, refused: Option<&Arc<Grant>>) -> Result<Option<Arc<Grant>>, Error>;

    /// What it is.
    fn origin(&self) -> Origin;
}

/// How a source can ask somebody over the network, on behalf of a call.
pub(crate) struct Wire<'a> {
    pub(crate) http: &'a Http,
    pub(crate) call: &'a Arc<Call>,
    pub(crate) retry: Retry,
    pub(crate) log: &'a dyn Fn(Level, &dyn Fn() -> String),
}

/// Shortly before it expires a credential is replaced: so long before, or a
/// tenth of its life where that is shorter.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// A credential of this age or more that is refused may have been revoked; a
/// younger one that was never accepted was never any good.
const YOUNG: Duration = Duration::from_secs(60);

/// After a renewal that failed, how long the old credential is used before the
/// next.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// A credential, and what is known of it.
#[derive(Debug)]
pub(crate) struct Grant {
    credential: Box<dyn Credential>,
    /// Something to recognise it by that is no secret.
    pub(crate) name: Option<String>,
    /// The project that it is for, where it tells.
    pub(crate) project: Option<String>,
    /// When it expires, by the clock of this machine.
    pub(crate) expires: Option<SystemTime>,
    obtained: Instant,
    life: Option<Duration>,
    /// Counted up by the source.
    number: u64,
    accepted: AtomicBool,
    renewal_failed: ArcSwapOption<Instant>,
}

impl Grant {
    pub(crate) fn new(credential: impl Credential + 'static) -> Grant {
        Grant {
            credential: Box::new(credential),
            name: None,
            project: None,
            expires: None,
            obtained: Instant::now(),
            life: None,
            number: 0,
            accepted: AtomicBool::new(false),
            renewal_failed: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn named(mut self, name: Option<String>) -> Grant {
        self.name = name;
        self
    }

    pub(crate) fn for_project(mut self, project: Option<String>) -> Grant {
        self.project = project;
        self
    }

    /// Says how long it is good. Counted from now and not by a date, so that a
    /// clock that is set does not matter.
    pub(crate) fn living(mut self, life: Option<Duration>) -> Grant {
        self.life = life;
        self.expires = life.and_then(|life| SystemTime::now().checked_add(life));
        self
    }

    pub(crate) fn authorize(&self, request: &mut Request<&[u8]>, project: Option<&str>) -> Result<(), Error> {
        self.credential.authorize(request, project)
    }

    /// The service has let it pass.
    pub(crate) fn accept(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    fn is_expired(&self) -> bool {
        self.life.is_some_and(|life| self.obtained.elapsed() >= life)
    }

    fn is_due(&self) -> bool {
        let rest = self
            .renewal_failed
            .load()
            .as_deref()
            .is_some_and(|failed| failed.elapsed() < RENEWAL_PAUSE);
        let due = |life: Duration| self.obtained.elapsed() >= life - RENEWED_BEFORE.min(life / 10);
        !rest && self.life.is_some_and(due)
    }

    /// Whether another one may fare better with the service that refused this.
    fn was_good(&self) -> bool {
        self.accepted.load(Ordering::Relaxed) || self.obtained.elapsed() >= YOUNG
    }
}

/// The source of a context, which may be replaced while calls use it.
///
/// Lock-free, because a child of `fork` must be able to read and replace what
/// it inherited, whatever the parent's threads were doing.
pub(crate) struct Current(ArcSwapOption<Arc<dyn Source>>);

impl Current {
    pub(crate) fn new(source: Option<Arc<dyn Source>>) -> Current {
        Current(ArcSwapOption::new(source.map(Arc::new)))
    }

    pub(crate) fn replace(&self, source: Arc<dyn Source>) {
        self.0.store(Some(Arc::new(source)));
    }

    pub(crate) fn clear(&self) {
        self.0.store(None);
    }

    pub(crate) fn get(&self) -> Result<Arc<dyn Source>, Error> {
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

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = if self.0.load().is_some() { "***" } else { "none" };
        write!(f, "Current({known})")
    }
}

/// One credential for ever.
#[derive(Debug)]
pub(crate) struct Fixed {
    grant: Arc<Grant>,
    origin: Origin,
}

impl Fixed {
    pub(crate) fn new(grant: Grant, origin: Origin) -> Fixed {
        Fixed {
            grant: Arc::new(grant),
            origin,
        }
    }
}

impl Source for Fixed {
    fn obtain(&self, _: &Wire<'_>, refused: Option<&Arc<Grant>>) -> Result<Option<Arc<Grant>>, Error> {
        Ok(refused.is_none().then(|| Arc::clone(&self.grant)))
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }
}

/// What remains of a name that should not be shown whole.
pub(crate) fn masked(name: &str) -> String {
    let shown = if name.len() >= 12 && name.is_ascii() { 4 } else { 0 };
    format!("{}***{}", &name[..shown], &name[name.len() - shown..])
}
