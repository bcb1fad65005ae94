//! Temporary access keys: the documents that have one, in the notations of the metadata
//! service, IAM, STS and the pod identity agent, and the providers that fetch them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use serde::Deserialize;
use zeroize::Zeroize;

use super::exchange::RESPONSE_LIMIT;
use super::{
    AccessKey, Completion, CredentialSource, Credentials, RequestContext, TokenFetcher, expiry, masked,
    none_found,
};
use crate::error::{Error, Status};
use crate::http::{Object, Response};
use crate::log::{Level, LogRecord};
use crate::memory;

#[derive(Deserialize)]
struct Document {
    #[serde(alias = "credentials")]
    credential: Option<Key>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(alias = "access_key_id", alias = "accessKeyId")]
    access: Option<String>,
    #[serde(alias = "secret_access_key", alias = "secretAccessKey")]
    secret: Option<String>,
    #[serde(alias = "security_token", alias = "securityToken")]
    securitytoken: Option<String>,
    #[serde(alias = "expiration")]
    expires_at: Option<String>,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.securitytoken.zeroize();
    }
}

/// Parses a document. None if it has no usable key: a parser's message could quote the
/// secret.
fn parse(bytes: &[u8], now: SystemTime) -> Option<Credentials> {
    let document = serde_json::from_slice::<Object<Document>>(bytes).ok()?;
    let key = match document.0.credential {
        Some(key) => key,
        None => serde_json::from_slice::<Key>(bytes).ok()?,
    };
    let (access, secret) = (key.access.as_deref()?, key.secret.as_deref()?);
    let token = key.securitytoken.as_deref().filter(|token| !token.is_empty());
    let access_key = AccessKey::new(access.as_bytes(), secret.as_bytes(), token.map(str::as_bytes)).ok()?;
    let life = key
        .expires_at
        .as_deref()
        .and_then(|date| expiry::remaining(date, now));
    Some(
        Credentials::from(access_key)
            .with_name(Some(masked(access)))
            .with_lifetime(life),
    )
}

/// Reads a temporary key from a response.
pub(super) fn read(response: &mut Response, server: &str) -> Result<Credentials, Error> {
    let bytes = response.read_document(RESPONSE_LIMIT)?;
    memory::probe_document(bytes.len())?;
    let now = response.date().unwrap_or_else(SystemTime::now);
    parse(&bytes, now).ok_or_else(|| {
        response.with_context(Error::new(
            Status::UnexpectedResponse,
            format!("{server} returned a document without a usable access key"),
        ))
    })
}

/// A source of temporary keys.
pub(crate) trait KeySource: std::fmt::Debug + Send + Sync {
    /// Fetches a new key.
    fn obtain(&self, context: &RequestContext<'_>) -> Result<Credentials, Error>;

    /// Where the keys come from.
    fn source(&self) -> CredentialSource;
}

/// Fetches keys from the first source that has one. The choice is made once.
#[derive(Debug)]
pub(crate) struct KeyFetcher {
    sources: Vec<Box<dyn KeySource>>,
    chosen: AtomicUsize,
    /// Why the sources that were tried before have no credentials.
    missing: Vec<String>,
    /// The project that the configuration of the source names.
    project: Option<String>,
}

const NOT_CHOSEN: usize = usize::MAX;

impl KeyFetcher {
    pub(crate) fn new(sources: Vec<Box<dyn KeySource>>) -> KeyFetcher {
        KeyFetcher {
            sources,
            chosen: AtomicUsize::new(NOT_CHOSEN),
            missing: Vec::new(),
            project: None,
        }
    }

    pub(crate) fn with_missing(self, missing: Vec<String>) -> KeyFetcher {
        KeyFetcher { missing, ..self }
    }

    pub(crate) fn with_project(self, project: Option<String>) -> KeyFetcher {
        KeyFetcher { project, ..self }
    }

    fn obtain(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        let chosen = self.chosen.load(Ordering::Relaxed);
        if chosen != NOT_CHOSEN {
            return self.sources[chosen].obtain(context);
        }
        let mut sources = self.sources.iter().enumerate();
        loop {
            let Some((index, source)) = sources.next() else {
                return Err(none_found(&self.missing));
            };
            match source.obtain(context) {
                Ok(credentials) => {
                    self.chosen.store(index, Ordering::Relaxed);
                    return Ok(credentials);
                }
                Err(e) if e.is_end_of_call() => return Err(e),
                Err(e) if index + 1 < self.sources.len() => (context.log)(Level::Info, &|| {
                    LogRecord::new(format!("no credentials from {}: {e}", source.source())).about(&e)
                }),
                Err(e) if index > 0 || self.missing.is_empty() => return Err(e),
                Err(e) => {
                    let mut missing = self.missing.clone();
                    missing.push(e.problem().to_owned());
                    return Err(none_found(&missing));
                }
            }
        }
    }
}

impl TokenFetcher for KeyFetcher {
    fn fetch(&self, context: &RequestContext<'_>, _: bool, completion: Completion<Credentials>) {
        let key = self.obtain(context).map_err(Error::no_retry);
        completion.complete(key.map(|key| key.with_project(self.project.clone())));
    }

    fn source(&self) -> CredentialSource {
        let chosen = self.chosen.load(Ordering::Relaxed);
        self.sources[if chosen == NOT_CHOSEN { 0 } else { chosen }].source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_every_notation_are_parsed() {
        let now = SystemTime::UNIX_EPOCH;
        for document in [
            r#"{"credential":{"access":"AKID00001234","secret":"s","securitytoken":"t","expires_at":"1970-01-01T01:00:00.000000Z"}}"#,
            r#"{"credentials":{"access_key_id":"AKID00001234","secret_access_key":"s","security_token":"t","expiration":"1970-01-01T01:00:00Z"},"assumed_agency":{}}"#,
            r#"{"accessKeyId":"AKID00001234","secretAccessKey":"s","securityToken":"t","expiration":"1970-01-01T01:00:00.000Z","x":1}"#,
            r#"{"access_key_id":"AKID00001234","secret_access_key":"s","security_token":null,"credential":null,"expiration":"1970-01-01T01:00:00Z"}"#,
        ] {
            let credentials = parse(document.as_bytes(), now).expect(document);
            assert_eq!(credentials.name.as_deref(), Some("AKID***1234"));
            assert!(credentials.expires.is_some());
        }
        for document in [
            "",
            "[]",
            "{}",
            r#"["AKID",null]"#,
            r#"{"credential":{"access":"a"}}"#,
            r#"{"access_key_id":"a","secret_access_key":""}"#,
            r#"{"access_key_id":"a b","secret_access_key":"s"}"#,
            r#"{"error_code":"PAP5.0012","error_msg":"no"}"#,
        ] {
            assert!(parse(document.as_bytes(), now).is_none(), "{document}");
        }
    }
}
