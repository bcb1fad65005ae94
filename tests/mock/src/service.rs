//! What the services answer to a request, and of the DBSS itself who may make it, and downloads.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::calls::{Call, Kind, Service};
use crate::credentials::{Caller, NotAuthentic, authenticate};
use crate::fault::Fault;
use crate::http::{Body, Request, Response};
use crate::net::lock;
use crate::range::{self, RequestedRange};
use crate::report::{Locale, ReportInfo};
use crate::request_log::{Listener, Recorded, Sent};
use crate::{Shared, iam, management, metadata};

pub(crate) const BAD_REQUEST: &str = "DBSS.10000001";

/// What is sent for a request.
pub(crate) struct Reply {
    /// None where something else is sent in its place.
    pub(crate) response: Option<Response>,
    pub(crate) fault: Fault,
    pub(crate) sent: Sent,
}

/// Decides what happens to a request and writes it down.
pub(crate) fn respond(shared: &Shared, listener: Listener, request: &Request) -> Reply {
    let service = Service::at(listener);
    let call = Call::of(service, request.path());
    let fault = call
        .as_ref()
        .and_then(|call| lock(&shared.faults).take(call.subject()));
    let response = match (&call, &fault) {
        (None, _) => Some(no_such_path(service)),
        (Some(call), None) => Some(ordinary(shared, request, call)),
        (Some(call), Some(fault)) => fault_response(shared, request, call, fault),
    };
    let status = response.as_ref().map(|response| response.status);
    let recorded = Recorded::new(listener, request, status, call.as_ref().map(Call::subject));
    Reply {
        response,
        fault: fault.unwrap_or_default(),
        sent: shared.request_log.record(recorded),
    }
}

fn fault_response(shared: &Shared, request: &Request, call: &Call, fault: &Fault) -> Option<Response> {
    let performed = fault.perform.then(|| ordinary(shared, request, call));
    if fault.instead().is_some() {
        return None;
    }
    Some(fault.response(|| match (performed, call.row.kind) {
        (Some(performed), _) => performed,
        (None, Kind::Download) => content(shared, request, call.id(), fault),
        (None, _) => ordinary(shared, request, call),
    }))
}

fn no_such_path(service: Service) -> Response {
    match service {
        Service::Dbss => no_such_api(),
        Service::Iam => iam::error(404, "Not Found", "The resource could not be found."),
        Service::Metadata => metadata::text(404, "404 Not Found"),
    }
}

fn ordinary(shared: &Shared, request: &Request, call: &Call) -> Response {
    let row = call.row;
    let response = match (row.service, row.kind) {
        (Service::Iam, kind) => iam::respond(shared, request, kind, row.method),
        (Service::Metadata, kind) => return metadata::respond(shared, request, kind, row.method),
        (Service::Dbss, Kind::Download) => download(shared, request, call),
        (Service::Dbss, _) => management::respond(shared, request, call),
    };
    response.unwrap_or_else(|refusal| *refusal)
}

/// Why a call is refused.
pub(crate) type Refusal = Box<Response>;

/// Who makes a call; or why they may not.
pub(crate) fn admit(shared: &Shared, request: &Request, call: &Call) -> Result<Caller, Refusal> {
    const PREFIX: &str = "Incorrect IAM authentication information: ";
    if request.method != call.row.method {
        // The gateway has one code for both, and one status.
        return Err(Box::new(no_such_api()));
    }
    let caller = authenticate(shared, request, Some(call.project())).map_err(|error| {
        let message = match error {
            NotAuthentic::Missing => "neither x-auth-token nor authorization",
            NotAuthentic::Token => "decrypt token fail",
            NotAuthentic::Signature(ref message) => message,
        };
        Box::new(gateway_error(401, "APIG.0301", &format!("{PREFIX}{message}")))
    })?;
    match call.malformed_id() {
        Some(name) => {
            let message = format!("Invalid request parameter {name}");
            Err(Box::new(Response::error(400, "DBSS.10020021", &message)))
        }
        None => Ok(caller),
    }
}

/// Checks that the project is the caller's. Which error else is, is not documented; 403 is for
/// what the caller may not do, in the documented form, without a code, because none is documented.
pub(crate) fn allow(shared: &Shared, caller: &Caller, call: &Call) -> Result<(), Refusal> {
    let of_another = caller.project.as_ref().is_some_and(|own| own != call.project());
    if !of_another && call.project() == shared.identity["project_id"] {
        return Ok(());
    }
    let action = call.row.action;
    let body = json!({
        "error_msg": format!("Policy doesn't allow dbss:auditInstance:{action} to be performed."),
        "encoded_authorization_message": crate::random_hex(48),
        "details": [{"error_msg": "No identity-based policy allows the action."}],
    });
    Err(Box::new(Response::json(403, &body)))
}

fn download(shared: &Shared, request: &Request, call: &Call) -> Result<Response, Refusal> {
    let bad = |message: &str| Box::new(Response::error(400, BAD_REQUEST, message));
    let caller = admit(shared, request, call)?;
    let locale = locale(request).ok_or_else(|| bad("Invalid or duplicate request parameter local"))?;
    allow(shared, &caller, call)?;
    let found = lock(&shared.store).download(call.instance(), call.id());
    match found {
        None => Err(Box::new(not_found())),
        Some((_, false)) => Err(bad("The report is not generated yet")),
        Some((report, true)) => Ok(serve(request, &report, locale, &Fault::default())),
    }
}

/// The response of a fault that leaves the body alone: the report, whoever asks and however.
fn content(shared: &Shared, request: &Request, report: &str, fault: &Fault) -> Response {
    let found = lock(&shared.store).report(report);
    let locale = locale(request).unwrap_or(Locale::EnUs);
    found.map_or_else(not_found, |report| serve(request, &report, locale, fault))
}

/// The report or the part of it that is asked for.
fn serve(request: &Request, report: &ReportInfo, locale: Locale, fault: &Fault) -> Response {
    let size = report.size(locale);
    let weak = if fault.weak_etag { "W/" } else { "" };
    let tag = (!fault.no_etag).then(|| format!("{weak}{}", report.etag(locale)));
    // A range is one of the bytes as they are sent, and those of gzip are not known beforehand.
    let by_range = fault.ranges != Some(false) && !fault.gzip;
    let part = match by_range {
        true => range::requested_range(request, size, tag.as_deref()),
        false => RequestedRange::Whole,
    };
    let (status, start, len) = match part {
        RequestedRange::Whole => (200, 0, size),
        RequestedRange::Bytes { first, last } => (206, first, last - first + 1),
        RequestedRange::Unsatisfiable => {
            return Response::new(416)
                .header("Accept-Ranges", "bytes")
                .header("Content-Range", format!("bytes */{size}"));
        }
    };
    let mut response = Response::new(status).with_body(Body::Report {
        report: report.clone(),
        locale,
        start,
        len,
    });
    if status == 206 {
        let truth = || format!("bytes {start}-{}/{size}", start + len - 1);
        let range = fault.content_range.clone().unwrap_or_else(truth);
        response = response.header("Content-Range", range);
    }
    if by_range {
        response = response.header("Accept-Ranges", "bytes");
    }
    if let Some(tag) = tag {
        response = response.header("ETag", tag);
    }
    let (kind, extension) = report.format.names();
    let mut disposition = format!("attachment; filename=\"audit-report.{extension}\"");
    if locale == Locale::ZhCn {
        let name = utf8_percent_encode("审计报告", NON_ALPHANUMERIC);
        disposition += &format!("; filename*=UTF-8''{name}.{extension}");
    }
    response
        .header("Content-Type", kind)
        .header("Content-Disposition", disposition)
}

/// The language that is asked for, once or not at all.
fn locale(request: &Request) -> Option<Locale> {
    let pairs = request.pairs();
    let mut values = pairs.iter().filter(|pair| pair.0 == "local").map(|pair| &pair.1);
    match (values.next(), values.next()) {
        (None, _) => Some(Locale::EnUs),
        (Some(value), None) => value.parse().ok(),
        _ => None,
    }
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

pub(crate) fn not_found() -> Response {
    Response::error(404, "DBSS.10021004", "The resource does not exist")
}

/// The gateway's answer to a path or method that it does not know.
pub(crate) fn no_such_api() -> Response {
    let message = "The API does not exist or has not been published in the environment.";
    gateway_error(404, "APIG.0101", message)
}
