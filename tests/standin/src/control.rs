//! The control address: what the tests tell the stand-in and ask of it, in JSON.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Shared;
use crate::fault::{Fault, ListenerFault};
use crate::http::{Answer, Request};
use crate::iam::IamSettings;
use crate::metadata::MetadataSettings;
use crate::net::lock;
use crate::report::Format;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewReport {
    id: Option<String>,
    name: Option<String>,
    format: Format,
    size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewVersion {
    report: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    token: Option<String>,
    #[serde(default)]
    issued: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProject {
    name: String,
}

/// Answers a request to the control address.
pub(crate) fn respond(shared: &Shared, request: &Request) -> Answer {
    match route(shared, request) {
        Ok(value) => Answer::json(200, &value),
        Err((status, message)) => Answer::json(status, &json!({"error": message})),
    }
}

fn route(shared: &Shared, request: &Request) -> Result<Value, (u16, String)> {
    let bad = |message: String| (400, message);
    let report = only_parameter(request, "report").map_err(bad);
    match (request.method.as_str(), request.path()) {
        ("GET", "/state") => Ok(shared.state()),
        ("GET", "/requests") => Ok(json!(shared.journal.requests(report?.as_deref()))),
        ("DELETE", "/requests") => {
            shared.journal.clear();
            Ok(json!({}))
        }
        ("GET", "/connections") => Ok(json!(shared.journal.connections())),
        ("POST", "/reports") => {
            let new: NewReport = body(request).map_err(bad)?;
            shared
                .add_report(new.id, new.name, new.format, new.size)
                .map(|report| report.to_json())
                .map_err(|error| bad(error.to_string()))
        }
        ("POST", "/versions") => {
            let NewVersion { report } = body(request).map_err(bad)?;
            shared
                .new_version(&report)
                .map(|report| report.to_json())
                .ok_or_else(|| bad("report: there is no such report".to_owned()))
        }
        ("POST", "/tokens") => {
            let Token { token } = body(request).map_err(bad)?;
            Ok(json!({"tokens": shared.tokens.add(&token)}))
        }
        ("DELETE", "/tokens") => {
            let Revoked { token, issued } = body(request).map_err(bad)?;
            let left = match (token, issued) {
                (Some(token), false) => shared.tokens.revoke(&token).ok_or("token: not a valid one"),
                (None, true) => Ok(shared.tokens.revoke_issued()),
                _ => Err("body: either a token or issued true is needed"),
            };
            let left = left.map_err(|message| bad(message.to_owned()))?;
            Ok(json!({"tokens": left}))
        }
        ("POST", "/iam") => {
            let settings: IamSettings = body(request).map_err(bad)?;
            *lock(&shared.iam_settings) = settings;
            Ok(json!({}))
        }
        ("POST", "/projects") => {
            let NewProject { name } = body(request).map_err(bad)?;
            Ok(json!(shared.add_project(&name)))
        }
        ("DELETE", "/projects") => {
            lock(&shared.projects).truncate(1);
            Ok(json!({}))
        }
        ("POST", "/metadata") => {
            let settings: MetadataSettings = body(request).map_err(bad)?;
            *lock(&shared.metadata_settings) = settings;
            Ok(json!({}))
        }
        ("DELETE", "/metadata/keys") => Ok(json!({"revoked": shared.keys.revoke()})),
        ("DELETE", "/metadata/tokens") => {
            lock(&shared.sessions).clear();
            Ok(json!({}))
        }
        ("POST", "/faults") => {
            let (report, fault) = fault(request).map_err(bad)?;
            shared
                .add_fault(&report, fault)
                .map_err(|error| bad(error.to_string()))?;
            Ok(json!({}))
        }
        ("DELETE", "/faults") => {
            lock(&shared.faults).clear(report?.as_deref());
            Ok(json!({}))
        }
        ("POST", "/listener_faults") => {
            let fault: ListenerFault = body(request).map_err(bad)?;
            shared
                .add_listener_fault(fault)
                .map_err(|error| bad(error.to_string()))?;
            Ok(json!({}))
        }
        ("DELETE", "/listener_faults") => {
            lock(&shared.listener_faults).clear();
            Ok(json!({}))
        }
        (
            _,
            path @ ("/state" | "/requests" | "/connections" | "/reports" | "/versions" | "/tokens" | "/iam"
            | "/projects" | "/metadata" | "/metadata/keys" | "/metadata/tokens" | "/faults"
            | "/listener_faults"),
        ) => Err((405, format!("{} {path}: no such method", request.method))),
        (_, path) => Err((404, format!("{path}: no such path"))),
    }
}

fn only_parameter(request: &Request, name: &str) -> Result<Option<String>, String> {
    match &request.pairs()[..] {
        [] => Ok(None),
        [(given, value)] if given == name => Ok(Some(value.clone())),
        _ => Err(format!("query: only {name} is known")),
    }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, String> {
    serde_json::from_slice(&request.body).map_err(|error| format!("body: {error}"))
}

fn fault(request: &Request) -> Result<(String, Fault), String> {
    let mut value: Value = body(request)?;
    let report = value
        .as_object_mut()
        .ok_or("body: not an object")?
        .remove("report");
    let Some(Value::String(report)) = report else {
        return Err("report: an id, \"*\" or the name of a call is needed".to_owned());
    };
    let fault = Fault::from_json(value).map_err(|error| error.to_string())?;
    Ok((report, fault))
}
