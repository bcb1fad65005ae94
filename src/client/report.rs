//! DownloadAuditReport, by the service's own page:
//! `GET /v1/{project_id}/audit/{instance_id}/reports/{id}/download?local={locale}`.

use ::http::{StatusCode, Uri};

use super::arguments::{PROJECT_OR_INSTANCE_ID, REPORT_ID, check_id, check_project};
use super::context::Subject;
use crate::error::{Error, Status};
use crate::http::{Answer, Asked, Endpoint};

const ASKED: Asked = Asked {
    who: "the service",
    missing: (
        "knows no such report",
        "; check the project, instance and report ids",
    ),
};

/// A report, by checked ids, and the language to have it in.
#[derive(Clone, Debug)]
pub(crate) struct ReportRequest {
    /// None for the context's own.
    project: Option<String>,
    instance: String,
    id: String,
    locale: Option<&'static str>,
}

impl ReportRequest {
    /// Checks the ids.
    pub(super) fn new(
        project: Option<&str>,
        instance: &str,
        id: &str,
        locale: Option<&'static str>,
    ) -> Result<ReportRequest, Error> {
        check_project(project)?;
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        check_id(id, "id", REPORT_ID)?;
        Ok(ReportRequest {
            project: project.map(str::to_owned),
            instance: instance.to_owned(),
            id: id.to_owned(),
            locale,
        })
    }

    pub(super) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// What a log calls it.
    pub(super) fn subject(&self) -> Subject {
        Subject {
            text: format!("report {}", self.id),
            report_id: Some(self.id.clone()),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn url(&self, endpoint: &Endpoint, project: &str) -> Result<Uri, Error> {
        let segments = [
            "v1",
            project,
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
    Err(answer.refusal(&ASKED)?)
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
    let unexpected = |what: &str| Err(answer.explain(Error::new(Status::UnexpectedResponse, what)));
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
        return Err(answer.refused(said, &ASKED));
    }
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    if may_be_document(text) && is_json {
        return unexpected("the service answered with a JSON document in place of a report");
    }
    Ok(())
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
