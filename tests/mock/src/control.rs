//! The control address: commands and queries of the tests, in JSON.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Shared;
use crate::fault::{Fault, ListenerFault};
use crate::http::{Request, Response};
use crate::iam::IamSettings;
use crate::metadata::MetadataSettings;
use crate::net::lock;
use crate::service::Undocumented;
use crate::store::{Generation, NewInstances, NewReports, Paging, Shapes};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    id: Option<String>,
    ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deletions {
    after_lists: u64,
    ids: HashSet<String>,
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
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    access_key: String,
    secret_key: String,
}

/// Responds to a request to the control address.
pub(crate) fn respond(shared: &Shared, request: &Request) -> Response {
    match route(shared, request) {
        Ok(value) => Response::json(200, &value),
        Err((status, message)) => Response::json(status, &json!({"error": message})),
    }
}

/// Like [`respond`], for a test in this process.
pub(crate) fn act(shared: &Shared, method: &str, target: &str, body: &Value) -> Result<Value, String> {
    let request = Request::of(method, target, body.to_string());
    route(shared, &request).map_err(|(_, message)| message)
}

fn route(shared: &Shared, request: &Request) -> Result<Value, (u16, String)> {
    let bad = |message: String| (400, message);
    let report = only_parameter(request, "report").map_err(bad);
    match (request.method.as_str(), request.path()) {
        ("GET", "/state") => Ok(shared.state()),
        ("GET", "/requests") => Ok(json!(shared.request_log.requests(report?.as_deref()))),
        ("DELETE", "/requests") => {
            shared.request_log.clear();
            Ok(json!({}))
        }
        ("GET", "/connections") => Ok(json!(shared.request_log.connections())),
        ("POST", "/reports") => {
            let new = NewReports::from_json(body(request).map_err(bad)?).map_err(bad)?;
            // The lock ends before the description begins, which takes the hash of all bytes.
            let added = lock(&shared.store).add(&new);
            let added = added.map_err(|error| bad(error.to_string()))?;
            match (&added[..], new.count) {
                ([report], None) => Ok(report.to_json()),
                (reports, _) => {
                    let ids: Vec<&str> = reports.iter().map(|report| &*report.id).collect();
                    Ok(json!({"ids": ids}))
                }
            }
        }
        ("DELETE", "/reports") => remove(request, |id| lock(&shared.store).remove(id)).map_err(bad),
        ("POST", "/instances") => {
            let new: NewInstances = body(request).map_err(bad)?;
            let ids = lock(&shared.store).add_instances(&new);
            Ok(json!({"ids": ids.map_err(|error| bad(error.to_string()))?}))
        }
        ("DELETE", "/instances") => {
            remove(request, |id| lock(&shared.store).remove_instance(id)).map_err(bad)
        }
        ("POST", "/deletions") => {
            let Deletions { after_lists, ids } = body(request).map_err(bad)?;
            lock(&shared.store).delete_after(after_lists, ids);
            Ok(json!({}))
        }
        ("POST", "/generation") => {
            let generation: Generation = body(request).map_err(bad)?;
            let set = lock(&shared.store).set_generation(generation);
            set.map_err(|error| bad(error.to_string()))?;
            Ok(json!({}))
        }
        ("GET", "/made") => {
            let store = lock(&shared.store);
            let (own, foreign) = store.made();
            Ok(json!({"ids": own, "foreign": foreign}))
        }
        ("POST", "/shapes") => {
            let shapes: Shapes = body(request).map_err(bad)?;
            lock(&shared.store).set_shapes(shapes);
            Ok(json!({}))
        }
        ("POST", "/paging") => {
            let paging: Paging = body(request).map_err(bad)?;
            lock(&shared.store).set_paging(paging);
            Ok(json!({}))
        }
        ("POST", "/undocumented") => {
            let undocumented: Undocumented = body(request).map_err(bad)?;
            *lock(&shared.undocumented) = undocumented;
            Ok(json!({}))
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
        ("POST", "/keys") => {
            let NewKey {
                access_key,
                secret_key,
            } = body(request).map_err(bad)?;
            shared.keys.add(access_key, secret_key);
            Ok(json!({}))
        }
        ("POST", "/iam") => {
            let settings: IamSettings = body(request).map_err(bad)?;
            *lock(&shared.iam_settings) = settings;
            Ok(json!({}))
        }
        ("POST", "/projects") => {
            let NewProject { name, id } = body(request).map_err(bad)?;
            Ok(json!(shared.add_project(&name, id)))
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
            path @ ("/state" | "/requests" | "/connections" | "/reports" | "/versions" | "/instances"
            | "/deletions" | "/paging" | "/undocumented" | "/generation" | "/made" | "/shapes"
            | "/tokens" | "/keys" | "/iam" | "/projects" | "/metadata" | "/metadata/keys"
            | "/metadata/tokens" | "/faults" | "/listener_faults"),
        ) => Err((405, format!("{} {path}: no such method", request.method))),
        (_, path) => Err((404, format!("{path}: no such path"))),
    }
}

/// Removes one or several; of several, those that are there.
fn remove(request: &Request, mut remove: impl FnMut(&str) -> bool) -> Result<Value, String> {
    let removed = match body(request)? {
        Ids {
            id: Some(id),
            ids: None,
        } => match remove(&id) {
            true => 1,
            false => return Err("id: there is none of this id".to_owned()),
        },
        Ids {
            id: None,
            ids: Some(ids),
        } => ids.iter().filter(|id| remove(id)).count(),
        _ => return Err("body: either id or ids is needed".to_owned()),
    };
    Ok(json!({"removed": removed}))
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
