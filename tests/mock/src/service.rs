//! The services: which path is which call, and of the DBSS itself who may make it, and what it
//! answers.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use crate::credentials::{Caller, NotAuthentic, authenticate};
use crate::fault::{Action, Fault, Script};
use crate::http::{Body, Request, Response, decode};
use crate::net::lock;
use crate::range::{self, RequestedRange};
use crate::report::{Locale, ReportInfo};
use crate::request_log::{Listener, Recorded, Sent};
use crate::store::ReportLookup;
use crate::{Shared, iam, management, metadata};

const NOT_AUTHENTIC: &str = "APIG.0301";
const NO_SUCH_API: &str = "APIG.0101";
pub(crate) const BAD_REQUEST: &str = "DBSS.10000001";
pub(crate) const INTERNAL: &str = "DBSS.11000000";
const BAD_ID: &str = "DBSS.10020021";
const NOT_FOUND: &str = "DBSS.10021004";

/// What the service does where its documents say nothing. What is left out of the JSON is as it
/// was at first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Undocumented {
    pub(crate) unfinished: Unfinished,
    pub(crate) forbidden_code: Option<String>,
    pub(crate) ranges: bool,
    pub(crate) etag: Etag,
    pub(crate) content_type: bool,
    pub(crate) content_disposition: bool,
    pub(crate) long_headers: bool,
}

impl Default for Undocumented {
    fn default() -> Self {
        Undocumented {
            unfinished: Unfinished::default(),
            forbidden_code: None,
            ranges: true,
            etag: Etag::default(),
            content_type: true,
            content_disposition: true,
            long_headers: false,
        }
    }
}

/// An answer to the download of a report that is not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unfinished {
    #[default]
    BadRequest,
    NotFound,
    Empty,
}

/// The `ETag` of a download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Etag {
    #[default]
    Strong,
    Weak,
    None,
}

/// Which service is behind a listener.
#[derive(Clone, Copy)]
enum Service {
    Dbss,
    Iam,
    Metadata,
}

impl Service {
    fn at(listener: Listener) -> Service {
        match listener {
            Listener::Iam | Listener::IamHttps => Service::Iam,
            Listener::Metadata => Service::Metadata,
            _ => Service::Dbss,
        }
    }
}

/// The calls the services know, with the ids of their paths, decoded.
enum Call {
    Download {
        project: String,
        instance: String,
        report: String,
    },
    Manage(management::Call),
    Iam(iam::Call),
    Metadata(metadata::Call),
}

impl Call {
    fn of(service: Service, path: &str) -> Option<Call> {
        match service {
            Service::Dbss => Call::of_dbss(path),
            Service::Iam => iam::Call::of(path).map(Call::Iam),
            Service::Metadata => metadata::Call::of(path).map(Call::Metadata),
        }
    }

    fn of_dbss(path: &str) -> Option<Call> {
        let segments: Vec<&str> = path.split('/').collect();
        match segments[..] {
            [
                "",
                "v1",
                project,
                "audit",
                instance,
                "reports",
                report,
                "download",
            ] => Some(Call::Download {
                project: decode(project),
                instance: decode(instance),
                report: decode(report),
            }),
            _ => management::Call::of(&segments).map(Call::Manage),
        }
    }

    /// What faults wait for and the request log shows: a report's id, or the name of the call.
    fn subject(&self) -> &str {
        match self {
            Call::Download { report, .. } => report,
            Call::Manage(call) => call.name(),
            Call::Iam(call) => call.name(),
            Call::Metadata(call) => call.name(),
        }
    }
}

/// Decides what happens to a request and writes it down.
pub(crate) fn respond(
    shared: &Shared,
    listener: Listener,
    connection: u64,
    request: &Request,
) -> (Script, Sent) {
    let service = Service::at(listener);
    let call = Call::of(service, request.path());
    let script = match &call {
        Some(call) => check_request(shared, request, call),
        None => Script::from(no_such_path(service)),
    };
    let status = match &script.act {
        Action::Response(response) => Some(response.0.status),
        _ => None,
    };
    let subject = call.as_ref().map(Call::subject);
    let mut recorded = Recorded::new(listener, connection, request, status, subject);
    if !matches!(call, None | Some(Call::Download { .. })) {
        recorded = recorded.with_body(request);
    }
    let sent = shared.request_log.record(recorded);
    (script, sent)
}

fn check_request(shared: &Shared, request: &Request, call: &Call) -> Script {
    let authorised = || authorised(shared, request, call);
    let fault = lock(&shared.faults).take(call.subject(), authorised);
    match (fault, call) {
        (Some(fault), Call::Download { report, .. }) => {
            fault.script(|| content(shared, request, report, &fault))
        }
        (Some(fault), _) => {
            let performed = fault.perform.then(|| ordinary(shared, request, call));
            fault.script(|| performed.unwrap_or_else(|| ordinary(shared, request, call)))
        }
        (None, _) => Script::from(ordinary(shared, request, call)),
    }
}

fn authorised(shared: &Shared, request: &Request, call: &Call) -> bool {
    match call {
        Call::Download { project, .. } => authenticate(shared, request, Some(project)).is_ok(),
        Call::Manage(call) => authenticate(shared, request, Some(call.project())).is_ok(),
        Call::Iam(call) => iam::authorised(shared, request, *call),
        Call::Metadata(call) => metadata::authorised(shared, request, *call),
    }
}

fn no_such_path(service: Service) -> Response {
    match service {
        Service::Dbss => no_such_api(),
        Service::Iam => iam::no_such_path(),
        Service::Metadata => metadata::no_such_path(),
    }
}

fn ordinary(shared: &Shared, request: &Request, call: &Call) -> Response {
    match call {
        Call::Download {
            project,
            instance,
            report,
        } => match admit(shared, request, "GET", project) {
            Ok(caller) => download(shared, request, &caller, project, instance, report),
            Err(refusal) => *refusal,
        },
        Call::Manage(call) => management::respond(shared, request, call),
        Call::Iam(call) => iam::respond(shared, request, *call),
        Call::Metadata(call) => metadata::respond(shared, request, *call),
    }
}

/// Who makes a call; or why they may not.
pub(crate) fn admit(
    shared: &Shared,
    request: &Request,
    method: &str,
    project: &str,
) -> Result<Caller, Box<Response>> {
    const PREFIX: &str = "Incorrect IAM authentication information: ";
    if request.method != method {
        // The gateway has one code for both, and one status.
        return Err(Box::new(no_such_api()));
    }
    authenticate(shared, request, Some(project)).map_err(|error| {
        let message = match error {
            NotAuthentic::Missing => "neither x-auth-token nor authorization",
            NotAuthentic::Token => "decrypt token fail",
            NotAuthentic::Signature(ref message) => message,
        };
        Box::new(gateway_error(401, NOT_AUTHENTIC, &format!("{PREFIX}{message}")))
    })
}

fn download(
    shared: &Shared,
    request: &Request,
    caller: &Caller,
    project: &str,
    instance: &str,
    report: &str,
) -> Response {
    let ids = [
        ("project_id", project, 32),
        ("instance_id", instance, 32),
        ("id", report, 16),
    ];
    if let Err(refusal) = check_ids(&ids) {
        return *refusal;
    }
    let locale = match locale(request) {
        Ok(locale) => locale,
        Err(message) => return service_error(400, BAD_REQUEST, message),
    };
    if is_foreign(shared, caller, project) {
        return forbidden(shared, "dbss:auditInstance:downloadReport");
    }
    let found = lock(&shared.store).download(instance, report);
    match found {
        ReportLookup::Ready(report) => serve(shared, request, &report, locale, &Fault::none()),
        ReportLookup::NotReady => match lock(&shared.undocumented).unfinished {
            Unfinished::BadRequest => service_error(400, BAD_REQUEST, "The report is not generated yet"),
            Unfinished::NotFound => not_found(),
            Unfinished::Empty => Response::new(200),
        },
        ReportLookup::Unknown => not_found(),
    }
}

/// Whether a project is none of the caller's. Which error that is, is not documented; 403 is for
/// what the caller may not do.
pub(crate) fn is_foreign(shared: &Shared, caller: &Caller, project: &str) -> bool {
    let of_another = caller.project.as_ref().is_some_and(|own| own != project);
    of_another || project != shared.identity.project_id
}

/// The response of a fault that leaves the body alone: the report, whoever asks and however.
fn content(shared: &Shared, request: &Request, report: &str, fault: &Fault) -> Response {
    match shared.report(report) {
        Some(report) => {
            let locale = locale(request).unwrap_or(Locale::EnUs);
            serve(shared, request, &report, locale, fault)
        }
        None => not_found(),
    }
}

/// The report or the part of it that is asked for; the default fault is none.
fn serve(shared: &Shared, request: &Request, report: &ReportInfo, locale: Locale, fault: &Fault) -> Response {
    let undocumented = lock(&shared.undocumented).clone();
    let size = report.size(locale);
    let tag = match (report.etag(locale), undocumented.etag) {
        (_, Etag::None) => None,
        _ if fault.no_etag => None,
        (strong, Etag::Strong) if !fault.weak_etag => Some(strong.to_owned()),
        (strong, _) => Some(format!("W/{strong}")),
    };
    // A range is one of the bytes as they are sent, and those of gzip are not known beforehand.
    let by_range = undocumented.ranges && fault.ranges && !fault.gzip;
    let part = match by_range {
        true => range::requested_range(request, size, tag.as_deref()),
        false => RequestedRange::Whole,
    };
    let body = |start, len| Body::Report {
        report: report.clone(),
        locale,
        start,
        len,
    };
    let mut response = match part {
        RequestedRange::Whole => Response::new(200).with_body(body(0, size)),
        RequestedRange::Bytes { first, last } => {
            let truth = || format!("bytes {first}-{last}/{size}");
            let shifted = i128::from(first) + i128::from(fault.range_shift);
            let start = shifted.rem_euclid(i128::from(size)) as u64;
            Response::new(206)
                .header("Content-Range", fault.content_range.clone().unwrap_or_else(truth))
                .with_body(body(start, last - first + 1))
        }
        RequestedRange::Unsatisfiable => {
            return Response::new(416)
                .header("Accept-Ranges", "bytes")
                .header("Content-Range", format!("bytes */{size}"));
        }
    };
    if by_range {
        response = response.header("Accept-Ranges", "bytes");
    }
    if let Some(tag) = tag {
        response = response.header("ETag", tag);
    }
    let extension = report.format.extension();
    let mut disposition = format!("attachment; filename=\"audit-report.{extension}\"");
    if locale == Locale::ZhCn {
        let name = utf8_percent_encode("审计报告", NON_ALPHANUMERIC);
        disposition += &format!("; filename*=UTF-8''{name}.{extension}");
    }
    if undocumented.content_type {
        response = response.header("Content-Type", report.format.media_type());
    }
    if undocumented.content_disposition {
        response = response.header("Content-Disposition", disposition);
    }
    response
}

fn locale(request: &Request) -> Result<Locale, &'static str> {
    let pairs = request.pairs();
    let mut values = pairs.iter().filter(|pair| pair.0 == "local").map(|pair| &pair.1);
    match (values.next(), values.next()) {
        (None, _) => Ok(Locale::EnUs),
        (Some(value), None) => Locale::of(value).ok_or("Invalid request parameter local"),
        _ => Err("Duplicate request parameter local"),
    }
}

/// Checks ids, each with its name and its least length.
pub(crate) fn check_ids(ids: &[(&str, &str, usize)]) -> Result<(), Box<Response>> {
    match ids.iter().find(|(_, id, least)| !well_formed(id, *least)) {
        Some((name, ..)) => {
            let message = format!("Invalid request parameter {name}");
            Err(Box::new(service_error(400, BAD_ID, &message)))
        }
        None => Ok(()),
    }
}

fn well_formed(id: &str, least: usize) -> bool {
    (least..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// An error in the shape of the gateway in front of the service.
pub(crate) fn gateway_error(status: u16, code: &str, message: &str) -> Response {
    let response = Response::new(status);
    let body = json!({
        "error_msg": message,
        "error_code": code,
        "request_id": response.request_id,
    });
    response.with_json(&body)
}

pub(crate) fn service_error(status: u16, code: &str, message: &str) -> Response {
    Response::json(status, &json!({"error_code": code, "error_msg": message}))
}

pub(crate) fn not_found() -> Response {
    service_error(404, NOT_FOUND, "The resource does not exist")
}

/// The gateway's answer to a path or method that it does not know.
pub(crate) fn no_such_api() -> Response {
    gateway_error(
        404,
        NO_SUCH_API,
        "The API does not exist or has not been published in the environment.",
    )
}

/// 403 in the documented form of errors, without a code, because none is documented.
pub(crate) fn forbidden(shared: &Shared, action: &str) -> Response {
    let mut body = json!({
        "error_msg": format!("Policy doesn't allow {action} to be performed."),
        "encoded_authorization_message": crate::random_hex(48),
        "details": [{"error_msg": "No identity-based policy allows the action."}],
    });
    if let Some(code) = &lock(&shared.undocumented).forbidden_code {
        body["error_code"] = json!(code);
    }
    Response::json(403, &body)
}
