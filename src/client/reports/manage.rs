//! Creates and deletes reports.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use ::http::Method;
use serde::{Deserialize, Serialize};

use crate::client::arguments::{PROJECT_OR_INSTANCE_ID, check_id, check_project};
use crate::client::document;
use crate::client::download::report::ReportRequest;
use crate::client::inner::ClientInner;
use crate::client::value::{Value, option_value, unhandled};
use crate::error::{Error, Status};
use crate::http::{Call, Endpoint, ErrorContext, JSON, Object, Request, Response};
use crate::memory;
use crate::operation::ActiveOperation;
use crate::tables::OptionSet;

/// For the calls about a template; those about a report are about no template.
pub(super) const TEMPLATE_CONTEXT: ErrorContext = ErrorContext {
    server: "the service",
    not_found: (
        "knows no such instance or template",
        "; check the project, instance and template ids",
    ),
};

const REPORT_CONTEXT: ErrorContext = ErrorContext {
    server: "the service",
    not_found: (
        "knows no such instance or report",
        "; check the project, instance and report ids",
    ),
};

/// The spec of a report to create. Times are texts in the service's notation.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct ReportSpec(BTreeMap<&'static str, String>);

impl ReportSpec {
    /// Sets any option by its key; template_id, start_time and end_time are required.
    pub fn set(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        match option_value(OptionSet::ReportSpec, key, value.as_ref())? {
            (key, Value::Text(text)) => self.0.insert(key, text.to_owned()),
            (key, _) => return Err(unhandled(key)),
        };
        Ok(())
    }

    /// Returns the value of an option, or an empty text if it is not set.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }
}

/// A report to create, and its instance: CreateAuditReport, `POST
/// /v1/{project_id}/audit/{instance_id}/reports/create`.
#[derive(Clone, Debug)]
pub(crate) struct NewReport {
    pub(crate) project: Option<String>,
    pub(crate) instance: String,
    pub(crate) spec: ReportSpec,
}

/// The service's response: the word success, failed or fail.
#[derive(Deserialize)]
struct ActionResponse {
    #[serde(alias = "status")]
    result: Option<String>,
}

impl NewReport {
    /// Checks the ids, and that the spec is complete.
    pub(crate) fn new(project: Option<&str>, instance: &str, spec: &ReportSpec) -> Result<NewReport, Error> {
        check_project(project)?;
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        let mut options = OptionSet::ReportSpec.options();
        if let Some(missing) = options.find(|option| option.required && spec.get(option.key()).is_empty()) {
            return Err(Error::argument(
                Status::NotConfigured,
                missing.key(),
                "is missing in the report spec",
            ));
        }
        Ok(NewReport {
            project: project.map(str::to_owned),
            instance: instance.to_owned(),
            spec: spec.clone(),
        })
    }
}

impl ClientInner {
    /// Creates a report. The service does not return its id.
    pub(crate) fn create_report(
        &self,
        report: &NewReport,
        active: Option<ActiveOperation>,
    ) -> Result<(), Error> {
        self.run(active, "creation of a report".into(), |active| {
            self.with_call(&active, |call| {
                let project = self.project(call, report.project.as_deref())?;
                self.create_in(call, &project, report)
            })
        })
    }

    pub(crate) fn create_in(&self, call: &Arc<Call>, project: &str, report: &NewReport) -> Result<(), Error> {
        let body = serde_json::to_vec(&report.spec)
            .map_err(|e| Error::new(Status::Internal, format!("failed to serialize the request: {e}")))?;
        let segments = ["v1", project, "audit", &report.instance, "reports", "create"];
        let unknown = "the report may have been created nevertheless: look for it in the list";
        self.post_once(call, project, &segments, &body, "creation", unknown)
    }

    /// Posts a request that is not sent again once the service may have acted on it.
    /// `unknown` says what to do then.
    pub(super) fn post_once(
        &self,
        call: &Arc<Call>,
        project: &str,
        segments: &[&str],
        body: &[u8],
        action: &str,
        unknown: &str,
    ) -> Result<(), Error> {
        // Not through `fetch`, which retries after errors that are not safe to retry
        // here.
        self.retry(&call.operation().overrides()).run(call, || {
            let sent = self.send(call, Some(project), |endpoint| {
                Ok(Request {
                    method: Method::POST,
                    body,
                    idempotent: false,
                    ..Request::get(endpoint.url(segments, &[])?, &JSON)
                })
            });
            sent.and_then(|mut response| check_result(&mut response, action, &TEMPLATE_CONTEXT))
                .map_err(|e| without_unsafe_retry(e, unknown))
        })
    }

    /// Deletes a report: DeleteAuditReport,
    /// `DELETE /v1/{project_id}/audit/{instance_id}/reports/{id}`.
    pub(crate) fn delete_report(
        &self,
        project: Option<&str>,
        instance: &str,
        id: &str,
        active: Option<ActiveOperation>,
    ) -> Result<(), Error> {
        let request = ReportRequest::new(project, instance, id, None)?;
        let mut subject = request.subject();
        subject.text = format!("deletion of {}", subject.text);
        self.run(active, subject, |active| {
            self.with_call(&active, |call| {
                let project = self.project(call, project)?;
                let segments = ["v1", &project, "audit", instance, "reports", id];
                // Whether an earlier attempt may have deleted it, and its response was
                // lost.
                let maybe_deleted = Cell::new(false);
                let request = |endpoint: &Endpoint| {
                    Ok(Request {
                        method: Method::DELETE,
                        ..Request::get(endpoint.url(&segments, &[])?, &JSON)
                    })
                };
                self.retry(&call.operation().overrides()).run(call, || {
                    let outcome = self
                        .send(call, Some(&project), request)
                        .and_then(|mut response| check_result(&mut response, "deletion", &REPORT_CONTEXT));
                    match outcome {
                        Err(e) if e.status() == Status::NotFound && maybe_deleted.get() => Ok(()),
                        Err(e) => {
                            maybe_deleted.set(maybe_deleted.get() || outcome_unknown(&e));
                            Err(e)
                        }
                        Ok(()) => Ok(()),
                    }
                })
            })
        })
    }
}

/// Excludes retries if the service may have done what the request asked, such as create a
/// report, which could then be created twice.
fn without_unsafe_retry(error: Error, unknown: &str) -> Error {
    match error.status() {
        Status::Resolve | Status::Connect | Status::ConnectTimeout | Status::Throttled => error,
        _ if matches!(error.http_status(), Some(503)) => error,
        // Marked as permanent, so that programs do not retry it either.
        _ if outcome_unknown(&error) => error
            .permanent()
            .with_message(|message| format!("{message}; {unknown}")),
        _ => error.no_retry(),
    }
}

/// Whether the request may have succeeded at the service in spite of this error.
fn outcome_unknown(error: &Error) -> bool {
    match error.status() {
        Status::ConnectionLost | Status::Stalled | Status::TotalTimeout | Status::Truncated => true,
        _ => matches!(error.http_status(), Some(500 | 502 | 504)),
    }
}

fn check_result(response: &mut Response, action: &str, context: &ErrorContext) -> Result<(), Error> {
    let bytes = document::read(response, context)?;
    if bytes.trim_ascii().is_empty() {
        return Ok(());
    }
    memory::probe_document(bytes.len())?;
    let outcome = serde_json::from_slice::<Object<ActionResponse>>(&bytes)
        .map_err(|e| document::malformed(response, "response", e))?;
    match outcome.0.result {
        Some(word) if word.eq_ignore_ascii_case("success") => Ok(()),
        Some(word)
            if ["failed", "fail"]
                .iter()
                .any(|fail| word.eq_ignore_ascii_case(fail)) =>
        {
            Err(response.with_context(Error::new(
                Status::Rejected,
                format!("the service reported that the {action} failed, without a reason"),
            )))
        }
        _ => Err(document::malformed(
            response,
            "response",
            "its result is neither success nor failed",
        )),
    }
}
