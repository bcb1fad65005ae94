//! The error for a response without success.

use ::http::StatusCode;
use ::http::header::LOCATION;

use super::response::Response;
use super::service_error::ServiceError;
use crate::error::{Error, Status};
use crate::text::sanitize;

/// How much of the service's words a message quotes, so that its request id
/// still fits behind them.
const QUOTE_LIMIT: usize = 400;

/// The words of a message about a response.
pub(crate) struct ErrorContext {
    pub(crate) server: &'static str,
    /// What HTTP 404 means, and what to do.
    pub(crate) not_found: (&'static str, &'static str),
}

impl Response {
    /// Reads the body of a response without success and makes its error. Fails only if
    /// the call is cancelled meanwhile.
    pub(crate) fn read_error(&mut self, context: &ErrorContext) -> Result<Error, Error> {
        let status = self.status();
        let server = context.server;
        if status.is_client_error() || status.is_server_error() {
            let said = self.read_service_error()?;
            return Ok(self.error_from(said, context));
        }
        if status.is_redirection() {
            let target = self.header(LOCATION);
            let origin = target
                .as_deref()
                .and_then(|location| location.parse::<::http::Uri>().ok())
                .and_then(|uri| Some(format!(" to {}://{}", uri.scheme_str()?, uri.host()?)))
                .unwrap_or_default();
            let redirected = Error::new(
                Status::Redirected,
                format!(
                    "{server} redirected{origin} (HTTP {}), and {}; is the endpoint right?",
                    status.as_u16(),
                    self.redirect_failure()
                ),
            );
            return Ok(self.with_context(redirected.with_redirect_target(target)));
        }
        Ok(self.with_context(Error::new(
            Status::UnexpectedResponse,
            format!(
                "{server} answered HTTP {}, which this call does not have",
                status.as_u16()
            ),
        )))
    }

    /// The error for an error body.
    pub(crate) fn error_from(&self, said: ServiceError, context: &ErrorContext) -> Error {
        let mut text = said.text;
        text.request_id = self.request_id().or(text.request_id);

        let http_status = self.status().as_u16();
        let status = classify(http_status, text.code.as_deref());
        let (what, then) = match status {
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
        let mut message = format!("{} {what} (HTTP {http_status}", context.server);
        if let Some(code) = &text.code {
            message += &format!(", {code}");
        }
        message.push(')');
        if let Some(words) = &text.message {
            let words = words.trim().trim_end_matches('.');
            message += &format!(": {}", sanitize(words, QUOTE_LIMIT));
        }
        let clock = self
            .clock_difference()
            .filter(|_| matches!(status, Status::Unauthenticated | Status::Forbidden));
        if clock.is_none() || status == Status::Forbidden {
            message += then;
        }
        if let Some(difference) = clock {
            message += &format!("; {difference}, and signatures are good for 15 minutes: set it");
        }
        if let Some(id) = &text.request_id {
            message += &format!("; request id {id}");
        }
        Error::new(status, message)
            .with_service(http_status, text)
            .with_retry_after(self.retry_after())
    }
}

/// The status of a refusal: by its HTTP status, and for an error that came
/// under HTTP 200 by its code, from the service's page of error codes.
fn classify(http_status: u16, code: Option<&str>) -> Status {
    match StatusCode::from_u16(http_status) {
        Ok(StatusCode::BAD_REQUEST) => Status::BadRequest,
        Ok(StatusCode::UNAUTHORIZED) => Status::Unauthenticated,
        Ok(StatusCode::FORBIDDEN) => Status::Forbidden,
        Ok(StatusCode::NOT_FOUND) => Status::NotFound,
        Ok(StatusCode::TOO_MANY_REQUESTS) => Status::Throttled,
        Ok(status) if status.is_server_error() => Status::ServerError,
        Ok(StatusCode::OK) => match code {
            Some("DBSS.10000001" | "DBSS.10020101" | "DBSS.10020102" | "DBSS.10020021") => Status::BadRequest,
            Some("DBSS.10020100" | "APIG.0301") => Status::Unauthenticated,
            Some("DBSS.10021004") => Status::NotFound,
            Some("APIG.0308") => Status::Throttled,
            Some("DBSS.11000000") => Status::ServerError,
            _ => Status::Service,
        },
        _ => Status::Service,
    }
}
