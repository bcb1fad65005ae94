//! The control address: commands and queries of the tests, in JSON.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Shared;
use crate::fault::Fault;
use crate::http::{Request, Response};
use crate::net::lock;
use crate::store::NewReports;

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
    /// Puts the settings of the body in the place of others.
    fn set<T: DeserializeOwned>(request: &Request, place: &mut T) -> Result<Value, String> {
        *place = body(request)?;
        Ok(json!({}))
    }
    let store = || lock(&shared.store);
    let done = || Ok(json!({}));
    Some(match (request.method.as_str(), request.path()) {
        ("GET", "/state") => Ok(shared.state()),
        ("GET", "/requests") => {
            only_parameter(request, "report").map(|of| json!(shared.request_log.requests(of.as_deref())))
        }
        ("DELETE", "/requests") => {
            shared.request_log.clear();
            done()
        }
        ("GET", "/connections") => Ok(json!(shared.request_log.connections())),
        ("POST", "/reports") => add_reports(shared, request),
        ("DELETE", "/reports") => remove(request, |id| store().remove(id)),
        ("POST", "/instances") => {
            body(request).and_then(|new| Ok(json!({"ids": store().add_instances(&new)?})))
        }
        ("DELETE", "/instances") => remove(request, |id| store().remove_instance(id)),
        ("POST", "/deletions") => body(request).map(|Deletions { after_lists, ids }| {
            store().delete_after(after_lists, ids);
            json!({})
        }),
        ("POST", "/generation") => body(request)
            .and_then(|it| store().set_generation(it))
            .and_then(|()| done()),
        ("GET", "/made") => {
            let store = store();
            let (own, foreign) = store.made();
            Ok(json!({"ids": own, "foreign": foreign}))
        }
        ("POST", "/shapes") => body(request).and_then(|it| {
            store().set_shapes(it);
            done()
        }),
        ("POST", "/paging") => body(request).and_then(|it| {
            store().set_paging(it);
            done()
        }),
        ("POST", "/undocumented") => set(request, &mut *lock(&shared.undocumented)),
        ("POST", "/versions") => body(request).and_then(|NewVersion { report }| {
            let new = shared.new_version(&report).map(|report| report.to_json());
            new.ok_or_else(|| "report: there is no such report".to_owned())
        }),
        ("POST", "/tokens") => {
            body(request).map(|Token { token }| json!({"tokens": shared.tokens.add(&token)}))
        }
        ("DELETE", "/tokens") => body(request).and_then(|revoked| {
            let left = match revoked {
                Revoked {
                    token: Some(token),
                    issued: false,
                } => shared.tokens.revoke(&token),
                Revoked {
                    token: None,
                    issued: true,
                } => Some(shared.tokens.revoke_issued()),
                _ => None,
            };
            let left = left.ok_or("body: either a valid token or issued true is needed")?;
            Ok(json!({"tokens": left}))
        }),
        ("POST", "/keys") => body(request).and_then(
            |NewKey {
                 access_key,
                 secret_key,
             }| {
                shared.keys.add(access_key, secret_key);
                done()
            },
        ),
        ("POST", "/iam") => set(request, &mut *lock(&shared.iam_settings)),
        ("POST", "/projects") => {
            body(request).map(|NewProject { name, id }| json!(shared.add_project(&name, id)))
        }
        ("DELETE", "/projects") => {
            lock(&shared.projects).truncate(1);
            done()
        }
        ("POST", "/metadata") => set(request, &mut *lock(&shared.metadata_settings)),
        ("DELETE", "/metadata/keys") => Ok(json!({"revoked": shared.keys.revoke()})),
        ("DELETE", "/metadata/tokens") => {
            lock(&shared.sessions).clear();
            done()
        }
        ("POST", "/faults") => fault(request)
            .and_then(|(report, fault)| shared.add_fault(&report, fault))
            .and_then(|()| done()),
        ("DELETE", "/faults") => only_parameter(request, "report").and_then(|of| {
            lock(&shared.faults).clear(of.as_deref());
            done()
        }),
        ("POST", "/listener_faults") => body(request)
            .and_then(|fault| shared.add_listener_fault(fault))
            .and_then(|()| done()),
        ("DELETE", "/listener_faults") => {
            lock(&shared.listener_faults).clear();
            done()
        }
        _ => return None,
    })
}

fn add_reports(shared: &Shared, request: &Request) -> Result<Value, String> {
    let new = NewReports::from_json(body(request)?)?;
    // The lock ends before the description begins, which takes the hash of all bytes.
    let added = lock(&shared.store).add(&new)?;
    if let ([report], None) = (&added[..], new.count) {
        return Ok(report.to_json());
    }
    let ids: Vec<&str> = added.iter().map(|report| &*report.id).collect();
    Ok(json!({"ids": ids}))
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
    let fault = Fault::from_json(value)?;
    Ok((report, fault))
}
