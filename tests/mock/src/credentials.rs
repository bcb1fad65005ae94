//! Who may make a call: tokens, access keys, and until when.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::http::Request;
use crate::net::lock;
use crate::signature::{self, Key};
use crate::{Shared, random_hex};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Why nobody is let in.
pub(crate) enum NotAuthentic {
    Missing,
    Token,
    Signature(String),
}

/// Whoever makes a call.
pub(crate) struct Caller {
    /// The project their token is good for; none: any.
    pub(crate) project: Option<String>,
}

/// Checks the token of a request, or else its signature, which may name no project but this.
pub(crate) fn authenticate(
    shared: &Shared,
    request: &Request,
    project: Option<&str>,
) -> Result<Caller, NotAuthentic> {
    if let Some(token) = request.header("X-Auth-Token") {
        let token = std::str::from_utf8(token).map_err(|_| NotAuthentic::Token)?;
        return shared.tokens.find(token).ok_or(NotAuthentic::Token);
    }
    if request.header("Authorization").is_none() {
        return Err(NotAuthentic::Missing);
    }
    let own = &shared.identity;
    let key = |access: &str| match access == own["access_key"] {
        true => Some(Key {
            secret: own["secret_key"].clone(),
            token: None,
        }),
        false => shared.keys.find(access),
    };
    signature::verify(request, key, project, SystemTime::now()).map_err(NotAuthentic::Signature)?;
    Ok(Caller { project: None })
}

/// How long something is valid, and how long it is said to be.
pub(crate) struct Lifetime {
    real: u64,
    announced: Option<i64>,
}

impl Lifetime {
    /// In milliseconds: a day unless told otherwise, and announced as it is.
    pub(crate) fn new(real: Option<u64>, announced: Option<i64>) -> Self {
        let real = real.unwrap_or(DAY_MS);
        Lifetime { real, announced }
    }

    /// None: later than the clock can tell.
    fn end(&self) -> Option<Instant> {
        Instant::now().checked_add(Duration::from_millis(self.real))
    }

    /// The end that is announced, as IAM writes it.
    pub(crate) fn announced(&self) -> String {
        let now = OffsetDateTime::now_utc();
        let ms = self
            .announced
            .unwrap_or_else(|| i64::try_from(self.real).unwrap_or(i64::MAX));
        let end = now.checked_add(time::Duration::milliseconds(ms));
        // A date beyond the calendar is as good as one a century off.
        let end = end.unwrap_or(now + time::Duration::days(36_525));
        let (hour, minute, second, micros) = end.to_hms_micro();
        format!("{}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z", end.date())
    }
}

/// What is valid, and until when.
struct Valid<T>(Mutex<HashMap<String, (T, Option<Instant>)>>);

impl<T> Default for Valid<T> {
    fn default() -> Self {
        Valid(Mutex::default())
    }
}

impl<T: Clone> Valid<T> {
    fn insert(&self, name: &str, value: T, until: Option<Instant>) {
        lock(&self.0).insert(name.to_owned(), (value, until));
    }

    fn find(&self, name: &str) -> Option<T> {
        let known = lock(&self.0);
        let (value, until) = known.get(name)?;
        let over = until.is_some_and(|until| until <= Instant::now());
        (!over).then(|| value.clone())
    }
}

/// The tokens that are valid: whether IAM has issued them, and for which project.
#[derive(Default)]
pub(crate) struct Tokens(Valid<(bool, Option<String>)>);

impl Tokens {
    /// Makes a token valid for ever.
    pub(crate) fn add(&self, token: &str) {
        self.0.insert(token, (false, None), None);
    }

    /// Makes a token of IAM valid for a time.
    pub(crate) fn issue(&self, token: &str, project: Option<&str>, lifetime: &Lifetime) {
        let issued = (true, project.map(str::to_owned));
        self.0.insert(token, issued, lifetime.end());
    }

    pub(crate) fn find(&self, token: &str) -> Option<Caller> {
        let (_, project) = self.0.find(token)?;
        Some(Caller { project })
    }

    /// Makes a token invalid, or without one every token that IAM has issued.
    pub(crate) fn revoke(&self, token: Option<&str>) {
        lock(&self.0.0).retain(|known, ((issued, _), _)| match token {
            Some(token) => known != token,
            None => !*issued,
        });
    }
}

/// The access keys that are valid, beside the fixed one.
#[derive(Default)]
pub(crate) struct Keys(Valid<Key>);

impl Keys {
    pub(crate) fn issue(&self, lifetime: &Lifetime) -> Value {
        let access = random_hex(10).to_uppercase();
        let key = Key {
            secret: random_hex(20),
            token: Some(random_token(600)),
        };
        self.0.insert(&access, key.clone(), lifetime.end());
        json!({
            "access": access,
            "secret": key.secret,
            "securitytoken": key.token,
            "expires_at": lifetime.announced(),
        })
    }

    /// Makes a key valid, with any security token or none.
    pub(crate) fn add(&self, access: &str, secret: &str) {
        let secret = secret.to_owned();
        self.0.insert(access, Key { secret, token: None }, None);
    }

    fn find(&self, access: &str) -> Option<Key> {
        self.0.find(access)
    }

    /// Makes every key invalid.
    pub(crate) fn revoke(&self) {
        lock(&self.0.0).clear();
    }
}

/// Characters of base64, for so many random bytes.
pub(crate) fn random_token(bytes: usize) -> String {
    let mut buf = vec![0; bytes];
    crate::random(&mut buf);
    STANDARD.encode(buf)
}
