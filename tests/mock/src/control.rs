//! The control address: commands and queries of the tests, in JSON.

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Shared;
use crate::http::{Request, Response};
use crate::net::lock;

/// Responds to a request to the control address.
pub(crate) fn respond(shared: &Shared, request: &Request) -> Response {
    match route(shared, request) {
        Some(Ok(value)) => Response::json(200, &value),
        Some(Err(message)) => Response::json(400, &json!({"error": message})),
        None => Response::json(404, &json!({"error": "no such request"})),
    }
}

/// Like [`respond`], for a test in this process.
pub(crate) fn act(shared: &Shared, method: &str, target: &str, body: &Value) -> Result<Value, String> {
    let request = Request::of(method, target, body.to_string());
    route(shared, &request).unwrap_or_else(|| Err("no such request".to_owned()))
}

/// The result, or none where there is no such path, or no such method of it.
fn route(shared: &Shared, request: &Request) -> Option<Result<Value, String>> {
    let result = match (request.method.as_str(), request.path()) {
        ("GET", "/state") => Ok(shared.state()),
        ("GET", "/requests") => {
            only_report(request).map(|of| json!(shared.request_log.requests(of.as_deref())))
        }
        ("GET", "/connections") => Ok(shared.request_log.connections()),
        ("POST", "/reports") => add_reports(shared, request),
        ("DELETE", "/reports") => {
            ids(request).map(|ids| json!({"removed": lock(&shared.store).remove(&ids)}))
        }
        ("POST", "/instances") => {
            body(request).and_then(|new| Ok(json!({"ids": lock(&shared.store).add_instances(&new)?})))
        }
        ("DELETE", "/instances") => {
            ids(request).map(|ids| json!({"removed": lock(&shared.store).remove_instances(&ids)}))
        }
        ("GET", "/made") => Ok(lock(&shared.store).made()),
        ("POST", "/versions") => request.fields("report").and_then(|body| {
            let new = lock(&shared.store).new_version(body.text("report"))?;
            Ok(new.to_json())
        }),
        ("POST", "/projects") => {
            body(request).map(|NewProject { name, id }| json!(shared.add_project(name, id)))
        }
        _ => return set(shared, request).map(|set| set.map(|()| json!({}))),
    };
    Some(result)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProject {
    name: String,
    id: Option<String>,
}

/// One token, or with `issued` every token that IAM has issued.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    token: Option<String>,
    #[serde(default, rename = "issued")]
    _issued: bool,
}

/// What returns nothing. Settings are set as a whole.
fn set(shared: &Shared, request: &Request) -> Option<Result<(), String>> {
    fn replace<T: DeserializeOwned>(place: &mut T, request: &Request) -> Result<(), String> {
        *place = body(request)?;
        Ok(())
    }
    let store = || lock(&shared.store);
    Some(match (request.method.as_str(), request.path()) {
        ("DELETE", "/requests") => {
            shared.request_log.clear();
            Ok(())
        }
        ("POST", "/deletions") => request.fields("after_lists# ids[]").and_then(|body| {
            store().delete_after(body.number("after_lists"), list(body.get("ids"))?);
            Ok(())
        }),
        ("POST", "/generation") => body(request).and_then(|it| store().set_generation(it)),
        ("POST", "/shapes") => replace(&mut store().shapes, request),
        ("POST", "/paging") => body(request).map(|it| store().set_paging(it)),
        ("POST", "/undocumented") => replace(&mut *lock(&shared.undocumented), request),
        ("POST", "/iam") => replace(&mut *lock(&shared.iam_settings), request),
        ("POST", "/metadata") => replace(&mut *lock(&shared.metadata_settings), request),
        ("POST", "/tokens") => request
            .fields("token")
            .map(|body| shared.tokens.add(body.text("token"))),
        ("DELETE", "/tokens") => {
            body(request).map(|Revoked { token, .. }| shared.tokens.revoke(token.as_deref()))
        }
        ("POST", "/keys") => request
            .fields("access_key secret_key")
            .map(|body| shared.keys.add(body.text("access_key"), body.text("secret_key"))),
        ("DELETE", "/metadata/keys") => {
            shared.keys.revoke();
            Ok(())
        }
        ("DELETE", "/projects") => {
            lock(&shared.projects).truncate(1);
            Ok(())
        }
        ("POST", "/faults") => body(request).and_then(|fault| lock(&shared.faults).add(fault)),
        ("DELETE", "/faults") => only_report(request).map(|of| {
            lock(&shared.faults).clear(of.as_deref());
            shared.stop.wake();
        }),
        ("POST", "/listener_faults") => body(request).map(|fault| lock(&shared.listener_faults).add(fault)),
        ("DELETE", "/listener_faults") => {
            lock(&shared.listener_faults).clear();
            Ok(())
        }
        _ => return None,
    })
}

fn add_reports(shared: &Shared, request: &Request) -> Result<Value, String> {
    let new = body(request)?;
    // The lock ends before the description begins, which takes the hash of all bytes.
    let added = lock(&shared.store).add(&new)?;
    if let ([report], None) = (&added[..], new.count) {
        return Ok(report.to_json());
    }
    let ids: Vec<&str> = added.iter().map(|report| &*report.id).collect();
    Ok(json!({"ids": ids}))
}

fn ids(request: &Request) -> Result<HashSet<String>, String> {
    let body = request.fields("id? ids[]?")?;
    match body.optional("id") {
        Some(id) => Ok(HashSet::from([id.to_owned()])),
        None => list(body.get("ids")),
    }
}

fn list(value: Option<&Value>) -> Result<HashSet<String>, String> {
    serde_json::from_value(json!(value)).map_err(|error| format!("body: {error}"))
}

fn only_report(request: &Request) -> Result<Option<String>, String> {
    match &request.pairs()[..] {
        [] => Ok(None),
        [(given, value)] if given == "report" => Ok(Some(value.clone())),
        _ => Err("query: only report is known".to_owned()),
    }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, String> {
    serde_json::from_slice(&request.body).map_err(|error| format!("body: {error}"))
}
