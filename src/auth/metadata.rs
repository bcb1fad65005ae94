//! The temporary access key of the machine's own role, from the metadata
//! service that every instance in the cloud can reach.

use std::time::{Duration, SystemTime};

use ::http::header::{HeaderName, HeaderValue};
use ::http::{Method, StatusCode};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::iam::remaining;
use super::renewing::{Grantor, Ticket};
use super::{AccessKey, Grant, Origin, Wire, chain, masked, secret};
use crate::error::{Error, Status};
use crate::http::{Answer, Endpoint, Http, Object, Outgoing};
use crate::memory;

const TOKEN_TTL: HeaderName = HeaderName::from_static("x-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-metadata-token");

/// How long the token is to be good that the next request needs.
const TTL: &str = "60";

/// It is next door, or it is not there. The first of the two requests tells.
const PATIENCE: Duration = Duration::from_millis(1500);

const ANSWER_LIMIT: usize = 256 * 1024;

/// The metadata service.
#[derive(Debug)]
pub(crate) struct Metadata {
    endpoint: Endpoint,
    /// Its own connections: no proxy stands in between.
    http: Http,
    /// Where credentials were looked for before, in vain.
    missing: Vec<String>,
}

#[derive(Deserialize)]
struct KeyAnswer {
    credential: Key,
}

#[derive(Deserialize)]
struct Key {
    access: String,
    secret: String,
    #[serde(default)]
    securitytoken: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.securitytoken.zeroize();
    }
}

impl Metadata {
    pub(crate) fn new(endpoint: Endpoint, http: Http) -> Metadata {
        Metadata {
            endpoint,
            http,
            missing: Vec::new(),
        }
    }

    /// The same where everything else was looked at, and had none.
    pub(crate) fn after(self, missing: Vec<String>) -> Metadata {
        Metadata { missing, ..self }
    }

    /// What a failure means after all that was looked at in vain.
    fn none_found(&self, error: Error) -> Error {
        if self.missing.is_empty() || error.ends_its_call() {
            return error.spent();
        }
        let mut missing = self.missing.clone();
        missing.push(error.message().to_owned());
        chain::none_found(&missing)
    }

    fn send(
        &self,
        wire: &Wire<'_>,
        method: Method,
        segments: &[&str],
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, Error> {
        let _aside = wire.call.aside(Some(PATIENCE));
        let outgoing = Outgoing {
            method,
            ..Outgoing::get(self.endpoint.url(segments, &[])?, header.as_slice())
        };
        self.http
            .send(wire.call, &outgoing, &|_| Ok(()))
            .map_err(|e| self.unreachable(e))
    }

    fn unreachable(&self, error: Error) -> Error {
        if error.ends_its_call() {
            return error;
        }
        let place = self.endpoint.origin();
        error.amend(|message| {
            format!(
                "the metadata service at {place} cannot be reached ({message}); \
                 it is there on instances in the cloud alone"
            )
        })
    }

    fn read(&self, wire: &Wire<'_>, answer: &mut Answer) -> Result<Zeroizing<Vec<u8>>, Error> {
        let _aside = wire.call.aside(Some(PATIENCE));
        let bytes = answer
            .read_document(ANSWER_LIMIT)
            .map_err(|e| self.unreachable(e))?;
        memory::probe_document(bytes.len())?;
        Ok(bytes)
    }

    /// Whether it refuses a key because the instance has no agency: with 404, or
    /// with 401 and a text about it.
    fn has_no_agency(&self, wire: &Wire<'_>, answer: &mut Answer) -> Result<bool, Error> {
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer.status() == StatusCode::NOT_FOUND);
        }
        let _aside = wire.call.aside(Some(PATIENCE));
        let said = answer.read_service_error()?.text.message.unwrap_or_default();
        Ok(said.to_ascii_lowercase().contains("agency"))
    }

    fn fetch(&self, wire: &Wire<'_>) -> Result<Grant, Error> {
        let unexpected = |answer: &Answer, what: &str| {
            let place = self.endpoint.origin();
            answer.explain(Error::new(
                Status::UnexpectedResponse,
                format!(
                    "the metadata service at {place} answered HTTP {} {what}",
                    answer.status().as_u16()
                ),
            ))
        };
        let ttl = HeaderValue::from_static(TTL);
        let path = ["meta-data", "latest", "api", "token"];
        let mut answer = self.send(wire, Method::PUT, &path, Some((TOKEN_TTL, ttl)))?;
        let token = match answer.status() {
            StatusCode::OK => {
                let token = self.read(wire, &mut answer)?;
                let header = secret::header(token.trim_ascii(), Status::UnexpectedResponse, "token");
                Some(header.map_err(|_| unexpected(&answer, "and a token that no header can carry"))?)
            }
            // Older ones give keys without.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::SERVICE_UNAVAILABLE => None,
            _ => return Err(unexpected(&answer, "when asked for a token")),
        };
        let path = ["openstack", "latest", "securitykey"];
        let mut answer = self.send(wire, Method::GET, &path, token.map(|token| (TOKEN, token)))?;
        if self.has_no_agency(wire, &mut answer)? {
            return Err(Error::argument(
                Status::NotConfigured,
                "credentials",
                "this instance has no agency, so its metadata service has no access key for it",
            ));
        }
        if answer.status() != StatusCode::OK {
            return Err(unexpected(&answer, "when asked for an access key"));
        }
        let parsed = serde_json::from_slice::<Object<KeyAnswer>>(&self.read(wire, &mut answer)?);
        // What is wrong with it may be said with a part of it.
        let key = parsed
            .map_err(|_| unexpected(&answer, "and a document that holds no access key"))?
            .0
            .credential;
        let token = key.securitytoken.as_deref().map(str::as_bytes);
        let access_key = AccessKey::new(key.access.as_bytes(), key.secret.as_bytes(), token)
            .map_err(|_| unexpected(&answer, "and an access key that is malformed"))?;
        let now = answer.date().unwrap_or_else(SystemTime::now);
        let life = key.expires_at.as_deref().and_then(|date| remaining(date, now));
        Ok(Grant::new(access_key)
            .named(Some(masked(&key.access)))
            .living(life))
    }
}

impl Grantor for Metadata {
    fn ask(&self, wire: &Wire<'_>, _: bool, ticket: Ticket) {
        match self.fetch(wire) {
            Ok(grant) => ticket.grant(grant),
            Err(e) => ticket.fail(self.none_found(e)),
        }
    }

    fn origin(&self) -> Origin {
        Origin::Metadata(self.endpoint.origin())
    }
}
