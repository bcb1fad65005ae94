//! Requests that exchange one secret for other credentials: a login, an id token, an
//! agency.

use ::http::Method;
use ::http::header::{HeaderName, HeaderValue};
use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

use super::{Credentials, RequestContext};
use crate::error::Error;
use crate::http::{Endpoint, ErrorContext, Http, JSON, Request, Response, Retry};

/// The responses have a few kilobytes.
pub(super) const RESPONSE_LIMIT: usize = 1024 * 1024;

/// A request for credentials.
pub(super) struct Exchange<'a> {
    pub(super) http: &'a Http,
    /// What messages call the server.
    pub(super) server: &'static str,
    pub(super) endpoint: &'a Endpoint,
    pub(super) segments: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The secrets in the body.
    pub(super) secrets: &'a [Zeroizing<String>],
    /// The credentials that authenticate the request, if it needs any.
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) retry: Retry,
    /// Whether the server accepts the secrets a second time.
    pub(super) repeatable: bool,
}

impl<'a> Exchange<'a> {
    /// Returns the defaults, for a request to IAM.
    pub(super) fn new(context: &RequestContext<'a>, endpoint: &'a Endpoint) -> Exchange<'a> {
        Exchange {
            http: context.http,
            server: "IAM",
            endpoint,
            segments: &[],
            query: &[],
            header: None,
            body: Zeroizing::default(),
            secrets: &[],
            credentials: None,
            retry: context.retry,
            repeatable: true,
        }
    }

    /// Sends the request, with as many attempts as the call allows.
    pub(super) fn send(
        self,
        context: &RequestContext<'_>,
        read: &dyn Fn(&mut Response) -> Result<Credentials, Error>,
    ) -> Result<Credentials, Error> {
        let headers: Vec<_> = self.header.into_iter().chain(JSON.iter().cloned()).collect();
        let request = Request {
            method: Method::POST,
            url: self.endpoint.url(self.segments, self.query)?,
            headers: &headers,
            body: &self.body,
            idempotent: self.repeatable,
            secrets: self.secrets,
        };
        let attempt = || {
            let mut response = self.http.send(context.call, &request, &|request| {
                self.credentials
                    .map_or(Ok(()), |credentials| credentials.sign(request, None))
            })?;
            if !response.status().is_success() {
                return Err(response.read_error(&ErrorContext {
                    server: self.server,
                    not_found: ("knows no such resource", "; is its endpoint right?"),
                })?);
            }
            read(&mut response)
        };
        self.retry
            .run(context.call, attempt)
            .map_err(|e| with_server(self.server, self.endpoint, e))
    }
}

/// Adds to an error at which server it happened, unless the message already says so.
pub(super) fn with_server(server: &str, endpoint: &Endpoint, error: Error) -> Error {
    if error.is_end_of_call() || error.message().starts_with(server) {
        return error;
    }
    error.with_message(|message| format!("{server} at {}: {message}", endpoint.origin()))
}

/// Builds a JSON document: each `?` of the template becomes a text.
pub(super) fn json(template: &str, texts: &[&str]) -> Zeroizing<Vec<u8>> {
    // Allocated at its maximum size, because a growing vector leaves copies of the secrets.
    let escaped: usize = texts.iter().map(|text| 6 * text.len() + 2).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(template.len() + escaped));
    let mut parts = template.split('?');
    body.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for (part, text) in parts.zip(texts) {
        // Writing a text to memory cannot fail.
        let _ = serde_json::to_writer(&mut *body, text);
        body.extend_from_slice(part.as_bytes());
    }
    body
}

/// What a server refused last, so that it is not sent again.
#[derive(Default)]
pub(super) struct Refused(ArcSwapOption<([u8; 32], Error)>);

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refused")
    }
}

impl Refused {
    /// Makes an attempt with a secret, unless the server refused the same one before.
    /// `explain` changes the error of a refusal.
    pub(super) fn guard(
        &self,
        secret: &[u8],
        attempt: impl FnOnce() -> Result<Credentials, Error>,
        explain: impl FnOnce(Error) -> Error,
    ) -> Result<Credentials, Error> {
        let digest = Sha256::digest(secret).into();
        if let Some(refused) = self.0.load().as_deref().filter(|refused| refused.0 == digest) {
            return Err(refused.1.clone());
        }
        attempt().map_err(|e| {
            if !is_refusal(&e) {
                return e;
            }
            let e = explain(e).no_retry();
            self.0.store(Some(Arc::new((digest, e.clone()))));
            e
        })
    }
}

/// Whether the server would refuse the same request again. Repeated wrong ones can lock an
/// account.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error.http_status(), Some(400..=404))
}

/// Rewords a refusal: who refused what, why, and what to check.
pub(super) fn refused(error: Error, server: &str, what: &str, advice: &str) -> Error {
    let status = error.http_status().unwrap_or_default();
    let reason = error.service_message().unwrap_or("no reason given").to_owned();
    let id = error.request_id().map(|id| format!("; request id {id}"));
    error.with_message(|_| {
        format!(
            "{server} refused {what} (HTTP {status}): {}; check {advice}; this client does not send the same again{}",
            reason.trim_end_matches('.'),
            id.unwrap_or_default(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_json_are_escaped() {
        let body = json(r#"{"a":?,"b":[?,?]}"#, &["p\"\\ü\n", "?", ""]);
        assert_eq!(
            String::from_utf8_lossy(&body),
            "{\"a\":\"p\\\"\\\\ü\\n\",\"b\":[\"?\",\"\"]}"
        );
    }
}
