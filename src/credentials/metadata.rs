//! The temporary access key of a cloud instance, from the metadata service that every
//! instance can reach.

use std::time::Duration;

use ::http::header::{HeaderName, HeaderValue};
use ::http::{Method, StatusCode};
use zeroize::Zeroizing;

use super::exchange::RESPONSE_LIMIT;
use super::temporary_key::{self, KeySource};
use super::{CredentialSource, Credentials, RequestContext, secret};
use crate::error::{Error, Status};
use crate::http::{Endpoint, Http, Request, Response};
use crate::memory;

const TOKEN_TTL: HeaderName = HeaderName::from_static("x-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-metadata-token");

/// The requested lifetime of the session token in seconds, that of the official SDKs.
const TTL: &str = "21600";

/// The metadata service is link-local: it responds quickly or does not exist.
const TIMEOUT: Duration = Duration::from_millis(if cfg!(fuzzing) { 30_000 } else { 1500 });

/// The metadata service.
#[derive(Debug)]
pub(crate) struct Metadata {
    endpoint: Endpoint,
    /// Separate connections, which use no proxy.
    http: Http,
}

impl Metadata {
    pub(crate) fn new(endpoint: Endpoint, http: Http) -> Metadata {
        Metadata { endpoint, http }
    }

    fn send(
        &self,
        context: &RequestContext<'_>,
        method: Method,
        segments: &[&str],
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Response, Error> {
        let _auxiliary = context.call.auxiliary_request(Some(TIMEOUT));
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
        let origin = self.endpoint.origin();
        error.with_message(|message| {
            format!(
                "the metadata service at {origin} cannot be reached ({message}); it exists only on cloud instances"
            )
        })
    }

    fn read(
        &self,
        context: &RequestContext<'_>,
        response: &mut Response,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let _auxiliary = context.call.auxiliary_request(Some(TIMEOUT));
        let bytes = response
            .read_document(RESPONSE_LIMIT)
            .map_err(|e| self.unreachable(e))?;
        memory::probe_document(bytes.len())?;
        Ok(bytes)
    }

    /// Whether the service has no key because the instance has no agency. It reports this
    /// with 404, or with 401 and a message about the agency.
    fn has_no_agency(&self, context: &RequestContext<'_>, response: &mut Response) -> Result<bool, Error> {
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response.status() == StatusCode::NOT_FOUND);
        }
        let _auxiliary = context.call.auxiliary_request(Some(TIMEOUT));
        let message = response.read_service_error()?.text.message.unwrap_or_default();
        Ok(message.to_ascii_lowercase().contains("agency"))
    }
}

impl KeySource for Metadata {
    fn obtain(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        let unexpected = |response: &Response, what: &str| {
            let origin = self.endpoint.origin();
            response.with_context(Error::new(
                Status::UnexpectedResponse,
                format!(
                    "the metadata service at {origin} returned HTTP {} {what}",
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
                Some(
                    header
                        .map_err(|_| unexpected(&response, "and a token that is not a valid header value"))?,
                )
            }
            // Older metadata services need no token.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::SERVICE_UNAVAILABLE => None,
            _ => return Err(unexpected(&response, "to a request for a token")),
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
            return Err(unexpected(&response, "to a request for an access key"));
        }
        let _auxiliary = context.call.auxiliary_request(Some(TIMEOUT));
        let server = format!("the metadata service at {}", self.endpoint.origin());
        temporary_key::read(&mut response, &server).map_err(|e| match e.status() {
            Status::UnexpectedResponse => e,
            _ => self.unreachable(e),
        })
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::Metadata(self.endpoint.origin())
    }
}
