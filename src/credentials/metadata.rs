//! The temporary access key of the machine's own role, from the metadata
//! service that every instance in the cloud can reach.

use std::time::{Duration, SystemTime};

use ::http::header::{HeaderName, HeaderValue};
use ::http::{Method, StatusCode};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::{
    AccessKey, Completion, CredentialSource, Credentials, RequestContext, TokenFetcher, expiry, masked,
    none_found, secret,
};
use crate::error::{Error, Status};
use crate::http::{Endpoint, Http, Object, Request, Response};
use crate::memory;

const TOKEN_TTL: HeaderName = HeaderName::from_static("x-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-metadata-token");

/// How long the token is to be good that the next request needs.
const TTL: &str = "60";

/// It is next door, or it is not there. The first of the two requests tells.
const PATIENCE: Duration = Duration::from_millis(1500);

const RESPONSE_LIMIT: usize = 256 * 1024;

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
struct KeyResponse {
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
        if self.missing.is_empty() || error.is_end_of_call() {
            return error.no_retry();
        }
        let mut missing = self.missing.clone();
        missing.push(error.message().to_owned());
        none_found(&missing)
    }

    fn send(
        &self,
        context: &RequestContext<'_>,
        method: Method,
        segments: &[&str],
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Response, Error> {
        let _auxiliary = context.call.auxiliary_request(Some(PATIENCE));
        let request = Request {
            method,
            ..Request::get(self.endpoint.url(segments, &[])?, header.as_slice())
        };
        self.http
            .send(context.call, &request, &|_| Ok(()))
            .map_err(|e| self.unreachable(e))
    }

    fn unreachable(&self, error: Error) -> Error {
        if error.is_end_of_call() {
            return error;
        }
        let place = self.endpoint.origin();
        error.with_message(|message| {
            format!(
                "the metadata service at {place} cannot be reached ({message}); \
                 it is there on instances in the cloud alone"
            )
        })
    }

    fn read(
        &self,
        context: &RequestContext<'_>,
        response: &mut Response,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let _auxiliary = context.call.auxiliary_request(Some(PATIENCE));
        let bytes = response
            .read_document(RESPONSE_LIMIT)
            .map_err(|e| self.unreachable(e))?;
        memory::probe_document(bytes.len())?;
        Ok(bytes)
    }

    /// Whether it refuses a key because the instance has no agency: with 404, or
    /// with 401 and a text about it.
    fn has_no_agency(&self, context: &RequestContext<'_>, response: &mut Response) -> Result<bool, Error> {
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response.status() == StatusCode::NOT_FOUND);
        }
        let _auxiliary = context.call.auxiliary_request(Some(PATIENCE));
        let said = response.read_service_error()?.text.message.unwrap_or_default();
        Ok(said.to_ascii_lowercase().contains("agency"))
    }

    fn access_key(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        let unexpected = |response: &Response, what: &str| {
            let place = self.endpoint.origin();
            response.with_context(Error::new(
                Status::UnexpectedResponse,
                format!(
                    "the metadata service at {place} answered HTTP {} {what}",
                    response.status().as_u16()
                ),
            ))
        };
        let ttl = HeaderValue::from_static(TTL);
        let path = ["meta-data", "latest", "api", "token"];
        let mut response = self.send(context, Method::PUT, &path, Some((TOKEN_TTL, ttl)))?;
        let token = match response.status() {
            StatusCode::OK => {
                let token = self.read(context, &mut response)?;
                let header = secret::header(token.trim_ascii(), Status::UnexpectedResponse, "token");
                Some(header.map_err(|_| unexpected(&response, "and a token that no header can carry"))?)
            }
            // Older ones give keys without.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::SERVICE_UNAVAILABLE => None,
            _ => return Err(unexpected(&response, "when asked for a token")),
        };
        let path = ["openstack", "latest", "securitykey"];
        let mut response = self.send(context, Method::GET, &path, token.map(|token| (TOKEN, token)))?;
        if self.has_no_agency(context, &mut response)? {
            return Err(Error::argument(
                Status::NotConfigured,
                "credentials",
                "this instance has no agency, so its metadata service has no access key for it",
            ));
        }
        if response.status() != StatusCode::OK {
            return Err(unexpected(&response, "when asked for an access key"));
        }
        let parsed = serde_json::from_slice::<Object<KeyResponse>>(&self.read(context, &mut response)?);
        // What is wrong with it may be said with a part of it.
        let key = parsed
            .map_err(|_| unexpected(&response, "and a document that holds no access key"))?
            .0
            .credential;
        let token = key.securitytoken.as_deref().map(str::as_bytes);
        let access_key = AccessKey::new(key.access.as_bytes(), key.secret.as_bytes(), token)
            .map_err(|_| unexpected(&response, "and an access key that is malformed"))?;
        let now = response.date().unwrap_or_else(SystemTime::now);
        let life = key
            .expires_at
            .as_deref()
            .and_then(|date| expiry::remaining(date, now));
        Ok(Credentials::from(access_key)
            .with_name(Some(masked(&key.access)))
            .with_lifetime(life))
    }
}

impl TokenFetcher for Metadata {
    fn fetch(&self, context: &RequestContext<'_>, _: bool, completion: Completion<Credentials>) {
        let key = self.access_key(context);
        completion.complete(key.map_err(|e| self.none_found(e)));
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::Metadata(self.endpoint.origin())
    }
}
