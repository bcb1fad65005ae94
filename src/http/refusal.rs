//! The error for an answer that is not the one that was asked for.

use ::http::StatusCode;
use ::http::header::LOCATION;

use super::answer::Answer;
use super::service_error::ServiceError;
use crate::error::{Error, Status, printable};

/// How much of the service's words a message quotes, so that its request id
/// still fits behind them.
const QUOTE_LIMIT: usize = 400;

/// Who was asked for what, in words for a message.
pub(crate) struct Asked {
    pub(crate) who: &'static str,
    /// What is the matter when it is not there (HTTP 404), and what to do.
    pub(crate) missing: (&'static str, &'static str),
}

impl Answer {
    /// The error for this answer, whose status is not the one hoped for. Fails
    /// only if the call is cancelled while it is read.
    pub(crate) fn refusal(&mut self, asked: &Asked) -> Result<Error, Error> {
        let status = self.status();
        let who = asked.who;
        if status.is_client_error() || status.is_server_error() {
            let said = self.read_service_error()?;
            return Ok(self.refused(said, asked));
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
                    "{who} redirected{origin} (HTTP {}), and {}; is the endpoint right?",
                    status.as_u16(),
                    self.why_not_followed()
                ),
            );
            return Ok(self.explain(redirected.with_redirect_target(target)));
        }
        Ok(self.explain(Error::new(
            Status::UnexpectedResponse,
            format!(
                "{who} answered HTTP {}, which this call does not have",
                status.as_u16()
            ),
        )))
    }

    /// The error for what was said.
    pub(crate) fn refused(&self, said: ServiceError, asked: &Asked) -> Error {
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
            Status::NotFound => asked.missing,
            Status::Throttled => ("asks for fewer requests", "; try again later"),
            Status::ServerError => ("failed", "; try again later"),
            _ => ("reported an error", ""),
        };
        let mut message = format!("{} {what} (HTTP {http_status}", asked.who);
        if let Some(code) = &text.code {
            message += &format!(", {code}");
        }
        message.push(')');
        if let Some(words) = &text.message {
            let words = words.trim().trim_end_matches('.');
            message += &format!(": {}", printable(words, QUOTE_LIMIT));
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
