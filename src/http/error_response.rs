//! Makes the error for a response that is not a success.

use ::http::StatusCode;
use ::http::header::LOCATION;

use super::response::Response;
use super::service_codes::{self, ServiceCode};
use super::service_error::ServiceError;
use crate::error::{Error, Status};
use crate::text::sanitize;

/// How many bytes of the service's message are quoted, so that the request id still
/// fits behind it.
const QUOTE_LIMIT: usize = 400;

/// What an error message calls the server, and what HTTP 404 means.
pub(crate) struct ErrorContext {
    pub(crate) server: &'static str,
    /// What HTTP 404 means, and advice.
    pub(crate) not_found: (&'static str, &'static str),
}

/// A location without user information, query and fragment: a signed one has secrets there.
fn without_secrets(location: &str) -> String {
    let shown = &location[..location.find(['?', '#']).unwrap_or(location.len())];
    let Some(start) = shown.find("//").map(|found| found + 2) else {
        return shown.to_owned();
    };
    let (scheme, rest) = shown.split_at(start);
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}{}", &rest[host..])
}

impl Response {
    /// Reads the body of a response that is not a success and makes its error. Fails only
    /// if the call is cancelled or there is not enough memory.
    pub(crate) fn read_error(&mut self, context: &ErrorContext) -> Result<Error, Error> {
        let status = self.status();
        let server = context.server;
        if status.is_client_error() || status.is_server_error() {
            let service_error = self.read_service_error()?;
            return Ok(self.error_from(service_error, context));
        }
        if status.is_redirection() {
            let target = self.header(LOCATION);
            let origin = target
                .as_deref()
                .and_then(|location| location.parse::<::http::Uri>().ok())
                .and_then(|uri| {
                    let port = uri.port_u16().map_or(String::new(), |port| format!(":{port}"));
                    Some(format!(" to {}://{}{port}", uri.scheme_str()?, uri.host()?))
                })
                .unwrap_or_default();
            let redirected = Error::new(
                Status::Redirected,
                format!(
                    "{server} redirected{origin} (HTTP {}), and {}; is the endpoint right?",
                    status.as_u16(),
                    self.redirect_failure()
                ),
            );
            let target = target.as_deref().map(without_secrets);
            return Ok(self.with_context(redirected.with_redirect_target(target)));
        }
        Ok(self.with_context(Error::new(
            Status::UnexpectedResponse,
            format!(
                "{server} responded with HTTP {}, which is not expected for this call",
                status.as_u16()
            ),
        )))
    }

    /// Makes the error for an error body.
    pub(crate) fn error_from(&self, service_error: ServiceError, context: &ErrorContext) -> Error {
        let mut text = service_error.text;
        text.request_id = self.request_id().or(text.request_id);

        let http_status = self.status().as_u16();
        let known = text.code.as_deref();
        let known = known.and_then(|code| service_codes::find(code, http_status));
        let status = classify(http_status, known);
        let (what, advice) = match status {
            Status::BadRequest => ("refused the request as malformed", ""),
            Status::Unauthenticated => (
                "refused the credentials",
                "; they may be expired, wrong, or of another region",
            ),
            Status::Forbidden => (
                "does not allow this with these credentials",
                "; check their permissions and the project",
            ),
            Status::NotFound => context.not_found,
            Status::Throttled => ("asks for fewer requests", "; try again later"),
            Status::ServerError => ("failed", "; try again later"),
            _ => ("reported an error", ""),
        };
        let (what, advice) = match known {
            Some(known) if !known.what.is_empty() => (known.what, known.advice),
            _ => (what, advice),
        };
        let mut message = format!("{} {what} (HTTP {http_status}", context.server);
        if let Some(code) = &text.code {
            message += &format!(", {code}");
        }
        message.push(')');
        if let Some(quote) = &text.message {
            let quote = quote.trim().trim_end_matches('.');
            message += &format!(": {}", sanitize(quote, QUOTE_LIMIT));
        }
        let clock = self
            .clock_difference()
            .filter(|_| matches!(status, Status::Unauthenticated | Status::Forbidden));
        if clock.is_none() || status == Status::Forbidden {
            message += advice;
        }
        if let Some(difference) = clock {
            message += &format!(
                "; {difference}, and signatures are valid for 15 minutes; correct this machine's clock"
            );
        }
        if let Some(id) = &text.request_id {
            message += &format!("; request id {id}");
        }
        Error::new(status, message)
            .with_service(http_status, text)
            .with_retry_after(self.retry_after())
    }
}

/// Returns the status for an HTTP status, or, for an error with HTTP 200, for the HTTP
/// status that its code is documented with.
fn classify(http_status: u16, known: Option<&ServiceCode>) -> Status {
    match StatusCode::from_u16(http_status) {
        Ok(StatusCode::BAD_REQUEST) => Status::BadRequest,
        Ok(StatusCode::UNAUTHORIZED) => Status::Unauthenticated,
        Ok(StatusCode::FORBIDDEN) => Status::Forbidden,
        Ok(StatusCode::NOT_FOUND) => Status::NotFound,
        Ok(StatusCode::TOO_MANY_REQUESTS) => Status::Throttled,
        Ok(status) if status.is_server_error() => Status::ServerError,
        Ok(StatusCode::OK) => match known {
            Some(known) => classify(known.http_status, None),
            None => Status::Service,
        },
        _ => Status::Service,
    }
}
