//! DownloadAuditReport, by the service's own page:
//! `GET /v1/{project_id}/audit/{instance_id}/reports/{id}/download?local={locale}`.

use ::http::header::LOCATION;
use ::http::{StatusCode, Uri};

use super::arguments::{PROJECT_OR_INSTANCE_ID, REPORT_ID, check_id, parse_locale};
use crate::error::{Error, Status, printable};
use crate::http::{Answer, Endpoint, ServiceError};

/// How much of the service's words a message quotes, so that its request id
/// still fits behind them.
const QUOTE_LIMIT: usize = 400;

/// A report, by checked ids, and the language to have it in.
#[derive(Clone, Debug)]
pub(crate) struct ReportRequest {
    project: String,
    instance: String,
    id: String,
    locale: Option<&'static str>,
}

impl ReportRequest {
    /// Checks the ids and the locale.
    pub fn new(
        project: &str,
        instance: &str,
        id: &str,
        locale: Option<&str>,
    ) -> Result<ReportRequest, Error> {
        check_id(project, "project", PROJECT_OR_INSTANCE_ID)?;
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        check_id(id, "id", REPORT_ID)?;
        Ok(ReportRequest {
            project: project.to_owned(),
            instance: instance.to_owned(),
            id: id.to_owned(),
            locale: locale.map(parse_locale).transpose()?,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn url(&self, endpoint: &Endpoint) -> Result<Uri, Error> {
        let segments = [
            "v1",
            &self.project,
            "audit",
            &self.instance,
            "reports",
            &self.id,
            "download",
        ];
        // The parameter is `local` on the wire, not `locale`.
        let query = self.locale.map(|locale| ("local", locale));
        endpoint.url(&segments, query.as_slice())
    }
}

/// Lets a 200 pass that may be a report, and a 206 where a part was asked for;
/// anything else is an error.
pub(super) fn expect_report(answer: &mut Answer, part: bool) -> Result<(), Error> {
    let status = answer.status();
    if status == StatusCode::OK || part && status == StatusCode::PARTIAL_CONTENT {
        return answer.refuse_encoding();
    }
    if status.is_client_error() || status.is_server_error() {
        let said = answer.read_service_error();
        return Err(refused(answer, said));
    }
    if status.is_redirection() {
        let origin = answer
            .header(LOCATION)
            .and_then(|location| location.parse::<::http::Uri>().ok())
            .and_then(|uri| Some(format!(" to {}://{}", uri.scheme_str()?, uri.host()?)))
            .unwrap_or_default();
        return Err(answer.explain(Error::new(
            Status::Redirected,
            format!(
                "the service redirected{origin} (HTTP {}), and redirects are not followed; is the endpoint right?",
                status.as_u16()
            ),
        )));
    }
    Err(answer.explain(Error::new(
        Status::UnexpectedAnswer,
        format!(
            "the service answered HTTP {}, which this call does not have",
            status.as_u16()
        ),
    )))
}

/// Whether what came so far can be the beginning of a JSON object.
pub(super) fn may_be_json(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    matches!(head.trim_ascii_start().first(), None | Some(b'{'))
}

/// An error if a whole body of status 200 is empty or a JSON object.
pub(super) fn refuse_document(answer: &Answer, body: &[u8]) -> Result<(), Error> {
    let unexpected = |what: &str| Err(answer.explain(Error::new(Status::UnexpectedAnswer, what)));
    if body.is_empty() {
        return unexpected("the service answered with success and an empty body, which is no report");
    }
    let said = answer.service_error(body);
    if said.is_error_object {
        return Err(refused(answer, said));
    }
    let json = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok() {
        return unexpected("the service answered with a JSON document in place of a report");
    }
    Ok(())
}

/// The error for what the service said.
fn refused(answer: &Answer, said: ServiceError) -> Error {
    let mut text = said.text;
    text.request_id = answer.request_id().or(text.request_id);

    let http_status = answer.status().as_u16();
    let status = classify(http_status, text.code.as_deref());
    let (what, then) = match status {
        Status::BadRequest => ("refused the request as malformed", ""),
        Status::Unauthenticated => ("refused the token", "; get a new one, for this region"),
        Status::Forbidden => (
            "does not allow this with these credentials",
            "; check their permissions and the project",
        ),
        Status::NotFound => (
            "knows no such report",
            "; check the project, instance and report ids",
        ),
        Status::Throttled => ("asks for fewer requests", "; try again later"),
        Status::ServerError => ("failed", "; try again later"),
        _ => ("reported an error", ""),
    };
    let mut message = format!("the service {what} (HTTP {http_status}");
    if let Some(code) = &text.code {
        message += &format!(", {code}");
    }
    message.push(')');
    if let Some(words) = &text.message {
        let words = words.trim().trim_end_matches('.');
        message += &format!(": {}", printable(words, QUOTE_LIMIT));
    }
    message += then;
    if let Some(id) = &text.request_id {
        message += &format!("; request id {id}");
    }
    Error::new(status, message)
        .with_service(http_status, text)
        .with_retry_after(answer.retry_after())
}

/// The status of a refusal: by its HTTP status, and for an error that came
/// under HTTP 200 by its code, from the service's page of error codes.
fn classify(http_status: u16, code: Option<&str>) -> Status {
    match (http_status, code) {
        (400, _) => Status::BadRequest,
        (401, _) => Status::Unauthenticated,
        (403, _) => Status::Forbidden,
        (404, _) => Status::NotFound,
        (429, _) => Status::Throttled,
        (500..=599, _) => Status::ServerError,
        (200, Some("DBSS.10000001" | "DBSS.10020101" | "DBSS.10020102" | "DBSS.10020021")) => {
            Status::BadRequest
        }
        (200, Some("DBSS.10020100" | "APIG.0301")) => Status::Unauthenticated,
        (200, Some("DBSS.10021004")) => Status::NotFound,
        (200, Some("APIG.0308")) => Status::Throttled,
        (200, Some("DBSS.11000000")) => Status::ServerError,
        _ => Status::Service,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_as_an_object_is_held_back() {
        for head in [&b""[..], b" \r\n", b"{", b" {\"a\"", b"\xef\xbb\xbf{"] {
            assert!(may_be_json(head));
        }
        for head in [&b"%PDF-1.7"[..], b"PK\x03\x04", b"[", b"<html>", b"\x00{", b"x{"] {
            assert!(!may_be_json(head));
        }
    }
}
