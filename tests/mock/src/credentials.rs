//! Who may make a call: tokens, access keys, and until when.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::http::Request;
use crate::net::lock;
use crate::signature::{self, Key};
use crate::{Shared, random_hex};

const TOKEN: &str = "X-Auth-Token";

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
    if let Some(token) = request.header(TOKEN) {
        let token = std::str::from_utf8(token).map_err(|_| NotAuthentic::Token)?;
        return shared.tokens.find(token).ok_or(NotAuthentic::Token);
    }
    if request.header("Authorization").is_none() {
        return Err(NotAuthentic::Missing);
    }
    let key = |access: &str| {
        let identity = &shared.identity;
        if access == identity.access_key {
            return Some(Key {
                secret: identity.secret_key.clone(),
                token: None,
            });
        }
        shared.keys.find(access)
    };
    signature::verify(request, key, project, SystemTime::now()).map_err(NotAuthentic::Signature)?;
    Ok(Caller { project: None })
}

/// None: later than the clock can tell.
fn after(lifetime: Duration) -> Option<Instant> {
    Instant::now().checked_add(lifetime)
}

fn over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| until <= Instant::now())
}

/// The tokens that are valid.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<String, Token>>,
}

struct Token {
    issued: bool,
    project: Option<String>,
    until: Option<Instant>,
}

impl Tokens {
    /// Makes a token valid for ever; says how many there are.
    pub(crate) fn add(&self, token: &str) -> usize {
        let forever = Token {
            issued: false,
            project: None,
            until: None,
        };
        self.insert(token, forever)
    }

    /// Makes a token of IAM valid for a time.
    pub(crate) fn issue(&self, token: &str, project: Option<&str>, lifetime: Duration) {
        let issued = Token {
            issued: true,
            project: project.map(str::to_owned),
            until: after(lifetime),
        };
        self.insert(token, issued);
    }

    fn insert(&self, name: &str, token: Token) -> usize {
        let mut known = lock(&self.known);
        known.insert(name.to_owned(), token);
        known.retain(|_, token| !over(token.until));
        known.len()
    }

    pub(crate) fn is_valid(&self, token: &str) -> bool {
        self.find(token).is_some()
    }

    fn find(&self, token: &str) -> Option<Caller> {
        let known = lock(&self.known);
        let token = known.get(token).filter(|token| !over(token.until))?;
        let project = token.project.clone();
        Some(Caller { project })
    }

    /// Makes a token invalid; says how many are left, and nothing if it was not valid.
    pub(crate) fn revoke(&self, token: &str) -> Option<usize> {
        let mut known = lock(&self.known);
        known.retain(|_, token| !over(token.until));
        known.remove(token)?;
        Some(known.len())
    }

    /// Makes every token that IAM has issued invalid; says how many are left.
    pub(crate) fn revoke_issued(&self) -> usize {
        let mut known = lock(&self.known);
        known.retain(|_, token| !token.issued);
        known.len()
    }
}

/// The access keys that are valid, beside the fixed one.
#[derive(Default)]
pub(crate) struct Keys {
    known: Mutex<HashMap<String, (Key, Option<Instant>)>>,
}

impl Keys {
    /// Makes a key; the metadata service says of it that it is good until `announced`.
    pub(crate) fn issue(&self, lifetime: Duration, announced: OffsetDateTime) -> Value {
        let access = random_hex(10).to_uppercase();
        let key = Key {
            secret: random_hex(20),
            token: Some(random_token(600)),
        };
        let credential = json!({
            "access": access,
            "secret": key.secret,
            "securitytoken": key.token,
            "expires_at": timestamp(announced),
        });
        lock(&self.known).insert(access, (key, after(lifetime)));
        credential
    }

    /// Makes a key valid, with any security token or none.
    pub(crate) fn add(&self, access: String, secret: String) {
        let key = Key { secret, token: None };
        lock(&self.known).insert(access, (key, None));
    }

    fn find(&self, access: &str) -> Option<Key> {
        let known = lock(&self.known);
        let (key, until) = known.get(access)?;
        (!over(*until)).then(|| key.clone())
    }

    /// Makes every key invalid; says how many were valid.
    pub(crate) fn revoke(&self) -> usize {
        let known = std::mem::take(&mut *lock(&self.known));
        known.values().filter(|(_, until)| !over(*until)).count()
    }
}

/// Characters of base64, for so many random bytes.
pub(crate) fn random_token(bytes: usize) -> String {
    use base64::Engine;
    let mut buf = vec![0; bytes];
    crate::random(&mut buf);
    base64::engine::general_purpose::STANDARD.encode(buf)
}

/// When something is said to end: at its true end, unless told otherwise.
pub(crate) fn announced(lifetime_ms: u64, announced_ms: Option<i64>) -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    let ms = announced_ms.unwrap_or_else(|| i64::try_from(lifetime_ms).unwrap_or(i64::MAX));
    let end = now.checked_add(time::Duration::milliseconds(ms));
    // A date beyond the calendar is as good as one a century off.
    end.unwrap_or(now + time::Duration::days(36_525))
}

/// A time as IAM writes it.
pub(crate) fn timestamp(time: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}
