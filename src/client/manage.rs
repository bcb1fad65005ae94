//! Creating and deleting reports.

use std::cell::Cell;
use std::sync::Arc;

use ::http::Method;
use serde::{Deserialize, Serialize};

use super::arguments::{PROJECT_OR_INSTANCE_ID, check_id, check_project};
use super::context::Client;
use super::document;
use super::pages::JSON;
use super::report::ReportRequest;
use crate::error::{Error, Status};
use crate::http::{Answer, Asked, Call, Endpoint, Object, Outgoing};
use crate::operation::Running;

const ASKED: Asked = Asked {
    who: "the service",
    missing: (
        "knows no such instance or report",
        "; check the project, instance, template and report ids",
    ),
};

/// More than any time or list of ids has, in bytes.
const LONGEST_TEXT: usize = 4096;

/// What to create: CreateAuditReport,
/// `POST /v1/{project_id}/audit/{instance_id}/reports/create`. Times are the
/// service's texts.
#[derive(Clone, Debug, Serialize)]
pub struct NewReport {
    #[serde(skip)]
    pub(super) project: Option<String>,
    #[serde(skip)]
    pub(super) instance: String,
    #[serde(rename = "template_id")]
    pub(super) template: String,
    pub(super) start_time: String,
    pub(super) end_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    db_ids: Option<String>,
}

/// What the service answers: a word.
#[derive(Deserialize)]
struct Outcome {
    #[serde(alias = "status")]
    result: Option<String>,
}

impl NewReport {
    /// Checks the ids and texts.
    pub fn new(
        project: Option<&str>,
        instance: &str,
        template: &str,
        times: [&str; 2],
        dates: [Option<&str>; 2],
        db_ids: Option<&str>,
    ) -> Result<NewReport, Error> {
        check_project(project)?;
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        check_id(template, "template_id", 1..=64)?;
        let text = |parameter, text: &str| {
            if (1..=LONGEST_TEXT).contains(&text.len()) && !text.chars().any(char::is_control) {
                return Ok(text.to_owned());
            }
            Err(Error::argument(
                Status::InvalidValue,
                parameter,
                format_args!("must have 1 to {LONGEST_TEXT} bytes and no control characters"),
            ))
        };
        let optional = |parameter, value: Option<&str>| value.map(|v| text(parameter, v)).transpose();
        Ok(NewReport {
            project: project.map(str::to_owned),
            instance: instance.to_owned(),
            template: template.to_owned(),
            start_time: text("start_time", times[0])?,
            end_time: text("end_time", times[1])?,
            start_date: optional("start_date", dates[0])?,
            end_date: optional("end_date", dates[1])?,
            db_ids: optional("db_ids", db_ids)?,
        })
    }
}

impl Client {
    /// Creates a report. The service gives no id of it.
    pub fn create_report(&self, report: &NewReport, running: Option<Running>) -> Result<(), Error> {
        self.run(running, "creation of a report".into(), |running| {
            self.alone(&running, |call| {
                let project = self.project(call, report.project.as_deref())?;
                self.create_in(call, &project, report)
            })
        })
    }

    pub(super) fn create_in(&self, call: &Arc<Call>, project: &str, report: &NewReport) -> Result<(), Error> {
        let body = serde_json::to_vec(report)
            .map_err(|e| Error::new(Status::Internal, format!("a request that is no JSON: {e}")))?;
        let segments = ["v1", project, "audit", &report.instance, "reports", "create"];
        // Not through `ask`, which would mend more than is safe here.
        self.retry(&call.operation().overrides()).run(call, || {
            let sent = self.send(call, Some(project), |endpoint| {
                Ok(Outgoing {
                    method: Method::POST,
                    body: &body,
                    repeatable: false,
                    ..Outgoing::get(endpoint.url(&segments, &[])?, &JSON)
                })
            });
            sent.and_then(|mut answer| done(&mut answer, "creation"))
                .map_err(once_only)
        })
    }

    /// Deletes a report: DeleteAuditReport,
    /// `DELETE /v1/{project_id}/audit/{instance_id}/reports/{id}`.
    pub fn delete_report(
        &self,
        project: Option<&str>,
        instance: &str,
        id: &str,
        running: Option<Running>,
    ) -> Result<(), Error> {
        let request = ReportRequest::new(project, instance, id, None)?;
        let mut subject = request.subject();
        subject.text = format!("deletion of {}", subject.text);
        self.run(running, subject, |running| {
            self.alone(&running, |call| {
                let project = self.project(call, project)?;
                let segments = ["v1", &project, "audit", instance, "reports", id];
                // Whether an attempt may have deleted it whose answer got lost.
                let maybe = Cell::new(false);
                let outgoing = |endpoint: &Endpoint| {
                    Ok(Outgoing {
                        method: Method::DELETE,
                        ..Outgoing::get(endpoint.url(&segments, &[])?, &[])
                    })
                };
                self.retry(&call.operation().overrides()).run(call, || {
                    let outcome = self
                        .send(call, Some(&project), outgoing)
                        .and_then(|mut answer| done(&mut answer, "deletion"));
                    match outcome {
                        Err(e) if e.status() == Status::NotFound && maybe.get() => Ok(()),
                        Err(e) => {
                            maybe.set(maybe.get() || may_be_done(&e));
                            Err(e)
                        }
                        Ok(()) => Ok(()),
                    }
                })
            })
        })
    }
}

/// A failure after which nobody knows whether the service has created the
/// report is none to repeat: there might be two.
fn once_only(error: Error) -> Error {
    match error.status() {
        Status::Resolve | Status::Connect | Status::ConnectTimeout | Status::Throttled => error,
        _ if matches!(error.http_status(), Some(503)) => error,
        // Nor for a program that repeats what can be repeated.
        _ if may_be_done(&error) => error.lasting().amend(|message| {
            format!("{message}; the report may have been created all the same: look for it in the list")
        }),
        _ => error.spent(),
    }
}

/// Whether the service may have done what this failed to tell.
fn may_be_done(error: &Error) -> bool {
    match error.status() {
        Status::ConnectionLost | Status::Stalled | Status::TotalTimeout | Status::Truncated => true,
        _ => matches!(error.http_status(), Some(500 | 502 | 504)),
    }
}

fn done(answer: &mut Answer, what: &str) -> Result<(), Error> {
    let bytes = document::read(answer, &ASKED)?;
    if bytes.trim_ascii().is_empty() {
        return Ok(());
    }
    let outcome = serde_json::from_slice::<Object<Outcome>>(&bytes)
        .map_err(|e| document::malformed(answer, "answer", e))?;
    match outcome.0.result {
        Some(word) if word.eq_ignore_ascii_case("success") => Ok(()),
        Some(word) if word.eq_ignore_ascii_case("failed") => Err(answer.explain(Error::new(
            Status::NotDone,
            format!("the service answered that the {what} failed, and not why"),
        ))),
        _ => Err(document::malformed(
            answer,
            "answer",
            "it says neither success nor failed",
        )),
    }
}
