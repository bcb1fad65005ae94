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

    pub(super) fn project(&self) -> &str {
        &self.project
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
        let said = answer.read_service_error()?;
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

/// `body` from its first character on.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(body)
        .trim_ascii_start()
}

/// Whether what came so far can be the beginning of JSON or of a page.
pub(super) fn may_be_document(head: &[u8]) -> bool {
    matches!(without_mark(head).first(), None | Some(b'{' | b'[' | b'<'))
}

/// An error if the first part of a body of status 200, or all of it where it
/// has `ended`, is no report: empty, an error, another document, a page.
pub(super) fn refuse_document(answer: &Answer, body: &[u8], ended: bool) -> Result<(), Error> {
    let unexpected = |what: &str| Err(answer.explain(Error::new(Status::UnexpectedAnswer, what)));
    let text = without_mark(body);
    let begins = |with: &[u8]| {
        text.get(..with.len())
            .is_some_and(|t| t.eq_ignore_ascii_case(with))
    };
    if begins(b"<!doctype html") || begins(b"<html") {
        return unexpected("the answer is a web page in place of a report; is the endpoint right?");
    }
    if !ended {
        return Ok(());
    }
    if text.is_empty() {
        return unexpected("the service answered with success and an empty body, which is no report");
    }
    let said = answer.service_error(body);
    if said.is_error_object {
        return Err(refused(answer, said));
    }
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    if may_be_document(text) && is_json {
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
        Status::Unauthenticated => (
            "refused the credentials",
            "; they may be expired, wrong, or of another region",
        ),
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
    fn only_what_begins_as_a_document_is_held_back() {
        for head in [
            &b""[..],
            b" \r\n",
            b"{",
            b" {\"a\"",
            b"\xef\xbb\xbf{",
            b"[1",
            b"\n<html>",
        ] {
            assert!(may_be_document(head));
        }
        for head in [&b"%PDF-1.7"[..], b"PK\x03\x04", b"\x00{", b"x{", b"12"] {
            assert!(!may_be_document(head));
        }
    }
}
