//! DownloadAuditReport, from the service's documentation: `GET
//! /v1/{project_id}/audit/{instance_id}/reports/{id}/download?local={locale}`.

use ::http::{StatusCode, Uri};

use crate::client::arguments::{PROJECT_OR_INSTANCE_ID, REPORT_ID, check_id, check_project};
use crate::client::download::format::Format;
use crate::client::run::Subject;
use crate::error::Error;
use crate::http::{Endpoint, ErrorContext, Response, ServiceError};

const ERROR_CONTEXT: ErrorContext = ErrorContext {
    server: "the service",
    not_found: (
        "knows no such report",
        "; check the project, instance and report ids",
    ),
};

/// A report to download, with checked ids, and its language.
#[derive(Clone, Debug)]
pub(crate) struct ReportRequest {
    /// None for the client's default.
    project: Option<String>,
    instance: String,
    id: String,
    locale: Option<&'static str>,
    only_known_formats: bool,
}

impl ReportRequest {
    /// Checks the ids.
    pub(crate) fn new(
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
            only_known_formats: false,
        })
    }

    /// Sets whether the report is known to be a PDF or a ZIP archive.
    pub(crate) fn of_known_format(self, only_known_formats: bool) -> ReportRequest {
        ReportRequest {
            only_known_formats,
            ..self
        }
    }

    pub(crate) fn only_known_formats(&self) -> bool {
        self.only_known_formats
    }

    pub(crate) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// Returns the subject for log records.
    pub(in crate::client) fn subject(&self) -> Subject {
        Subject {
            text: format!("report {}", self.id),
            report_id: Some(self.id.clone()),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn url(&self, endpoint: &Endpoint, project: &str) -> Result<Uri, Error> {
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

/// Accepts a 200, and a 206 if a part was requested. Returns an error for any other
/// response.
pub(crate) fn expect_report(response: &mut Response, part: bool) -> Result<(), Error> {
    let status = response.status();
    if status == StatusCode::OK || part && status == StatusCode::PARTIAL_CONTENT {
        return response.check_encoding();
    }
    Err(response.read_error(&ERROR_CONTEXT)?)
}

/// Returns the error for an error object with status 200.
pub(crate) fn error_object(response: &Response, service_error: ServiceError) -> Error {
    response.error_from(service_error, &ERROR_CONTEXT)
}

/// The properties of a report, from the header and the first bytes of its response.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReportInfo {
    /// The size in bytes that the service announced. None if it did not.
    pub size: Option<u64>,
    /// The format, determined from the first bytes.
    pub format: Format,
    /// A safe file name: one path component, not hidden. It comes from the header
    /// Content-Disposition. If that is missing or not UTF-8, it is made of the report's
    /// id and format.
    pub filename: String,
    /// The header Content-Type.
    pub content_type: Option<String>,
    /// The service's id of the request (header X-Request-Id).
    pub request_id: Option<String>,
    /// When the service responded, by its own clock, unchanged (header Date).
    pub date: Option<String>,
}
