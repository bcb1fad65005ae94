//! IAM: tokens for a password, and which projects there are.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::calls::Kind;
use crate::credentials::{Lifetime, NotAuthentic, authenticate, random_token};
use crate::exchange;
use crate::http::{Fields, Request, Response};
use crate::net::lock;
use crate::service::Refusal;
use crate::{Shared, random_hex};

const LOGIN: &str = "auth.identity.methods[] auth.identity.password.user.name \
    auth.identity.password.user.password auth.identity.password.user.domain.name \
    auth.identity.totp.user.id? auth.identity.totp.user.passcode? \
    auth.scope.project.name? auth.scope.project.id?";

/// How long tokens last. What is left out of the JSON is as it was at first.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IamSettings {
    token_lifetime_ms: Option<u64>,
    announced_lifetime_ms: Option<i64>,
    pub(crate) key_lifetime_ms: Option<u64>,
    pub(crate) announced_key_lifetime_ms: Option<i64>,
    pub(crate) id_token: Option<String>,
    passcodes: Option<Vec<String>>,
    may_list_projects: Option<bool>,
}

/// A project IAM knows. All but the first have no instances.
#[derive(Clone, Serialize)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// What the service answers where no fault waits.
pub(crate) fn respond(
    shared: &Shared,
    request: &Request,
    kind: Kind,
    method: &str,
) -> Result<Response, Refusal> {
    if request.method != method {
        return Ok(error(405, "Method Not Allowed", "The method is not allowed.").header("Allow", method));
    }
    match kind {
        Kind::Tokens => log_in(shared, request),
        Kind::IdToken => exchange::id_token(shared, request),
        Kind::Keys => exchange::key_of_iam(shared, request),
        Kind::Oidc => exchange::oidc(shared, request),
        _ => {
            admit(shared, request)?;
            match kind {
                Kind::Projects => projects(shared, request),
                Kind::AuthProjects => Ok(list_projects(shared, None)),
                _ => Ok(listing("domains", vec![domain(shared)])),
            }
        }
    }
}

/// The body of a request, in JSON; some SDKs send some of them without a type.
pub(crate) fn body(request: &Request, known: &str, needs_type: bool) -> Result<Fields, Refusal> {
    let typed = needs_type || request.header("Content-Type").is_some();
    let malformed = |message: &str| coded(400, "IAM.0011", message);
    if typed && !request.is_json() {
        return Err(malformed("The Content-Type is not application/json."));
    }
    let fields = request.fields(known);
    fields.map_err(|error| malformed(&format!("Request body is invalid: {error}.")))
}

fn log_in(shared: &Shared, request: &Request) -> Result<Response, Refusal> {
    let body = body(request, LOGIN, true)?;
    let passcode = body.optional("auth.identity.totp.user.passcode");
    let methods = match passcode {
        None => json!(["password"]),
        Some(_) => json!(["password", "totp"]),
    };
    if body.get("auth.identity.methods") != Some(&methods) {
        return Err(coded(400, "IAM.0011", &format!("The methods are not {methods}.")));
    }
    let unauthorized = |message: &str| Box::new(error(401, "Unauthorized", message));
    let own = &shared.identity;
    let names = [
        ("name", "user"),
        ("password", "password"),
        ("domain.name", "domain"),
    ];
    let given = |name| body.text(&format!("auth.identity.password.user.{name}"));
    if names.iter().any(|(name, known)| given(name) != own[known]) {
        return Err(unauthorized("The username or password is wrong."));
    }
    if let Some(passcodes) = &mut lock(&shared.iam_settings).passcodes {
        let given = passcode.ok_or_else(|| unauthorized("A passcode of the MFA device is needed."))?;
        let known = passcodes.iter().position(|code| code == given);
        let own = body.text("auth.identity.totp.user.id") == own["user_id"];
        match known.filter(|_| own) {
            Some(at) => drop(passcodes.remove(at)),
            None => return Err(unauthorized(&format!("The passcode {given} is wrong."))),
        }
    }
    let wanted = [
        body.optional("auth.scope.project.name"),
        body.optional("auth.scope.project.id"),
    ];
    let project = lock(&shared.projects)
        .iter()
        .find(|project| wanted == [Some(&*project.name), None] || wanted == [None, Some(&*project.id)])
        .cloned();
    let project = project.ok_or_else(|| unauthorized("The project does not exist."))?;
    let token = subject_token(shared, Some(&project.id));
    let settings = lock(&shared.iam_settings).clone();
    let lifetime = Lifetime::new(settings.token_lifetime_ms, settings.announced_lifetime_ms);
    let domain = domain(shared);
    let body = json!({"token": {
        "expires_at": lifetime.announced(),
        "issued_at": Lifetime::new(Some(0), None).announced(),
        "methods": methods,
        "project": {"id": project.id, "name": project.name, "domain": domain},
        "user": {"id": own["user_id"], "name": own["user"], "domain": domain, "password_expires_at": ""},
        "roles": [{"id": "0", "name": "te_admin"}],
    }});
    Ok(traced(Response::json(201, &body)).header("X-Subject-Token", token))
}

/// Makes a token; without a project it is for none in particular.
pub(crate) fn subject_token(shared: &Shared, project: Option<&str>) -> String {
    // Real tokens are CMS messages in base64, most of them about this long.
    let token = format!("MII{}", random_token(1500));
    let lifetime = Lifetime::new(lock(&shared.iam_settings).token_lifetime_ms, None);
    shared.tokens.issue(&token, project, &lifetime);
    token
}

fn admit(shared: &Shared, request: &Request) -> Result<(), Refusal> {
    let refusal = match authenticate(shared, request, None) {
        Ok(_) => return Ok(()),
        Err(NotAuthentic::Missing) => {
            let message = "The request you have made requires authentication.";
            Box::new(error(401, "Unauthorized", message))
        }
        Err(NotAuthentic::Token) => Box::new(error(401, "Unauthorized", "The token must be updated")),
        Err(NotAuthentic::Signature(message)) => coded(401, "IAM.0101", &message),
    };
    Err(refusal)
}

/// The projects of the domain, for which a permission is needed.
fn projects(shared: &Shared, request: &Request) -> Result<Response, Refusal> {
    if lock(&shared.iam_settings).may_list_projects == Some(false) {
        let message = "You are not authorized to perform the requested action: identity:list_projects";
        return Err(Box::new(error(403, "Forbidden", message)));
    }
    let name = request.pairs().into_iter().find(|pair| pair.0 == "name");
    Ok(list_projects(shared, name.as_ref().map(|(_, name)| &**name)))
}

fn list_projects(shared: &Shared, name: Option<&str>) -> Response {
    let domain = &shared.identity["domain_id"];
    let projects = lock(&shared.projects);
    let of_name = projects
        .iter()
        .filter(|project| name.is_none_or(|name| name == project.name));
    let item = |project: &Project| {
        json!({
            "id": project.id, "name": project.name, "domain_id": domain, "parent_id": domain,
            "enabled": true, "is_domain": false, "description": "",
            "links": {"self": format!("https://iam.example/v3/projects/{}", project.id)},
        })
    };
    listing("projects", of_name.map(item).collect())
}

fn listing(name: &str, items: Vec<Value>) -> Response {
    let own = format!("https://iam.example/v3/{name}");
    let links = json!({"self": own, "previous": null, "next": null});
    traced(Response::json(200, &json!({name: items, "links": links})))
}

fn domain(shared: &Shared) -> Value {
    let own = &shared.identity;
    json!({"id": own["domain_id"], "name": own["domain"], "enabled": true, "description": ""})
}

pub(crate) fn error(status: u16, title: &str, message: &str) -> Response {
    let body = json!({"error": {"code": status, "message": message, "title": title}});
    traced(Response::json(status, &body))
}

pub(crate) fn coded(status: u16, code: &str, message: &str) -> Refusal {
    Box::new(traced(Response::error(status, code, message)))
}

pub(crate) fn traced(response: Response) -> Response {
    response.header("X-IAM-Trace-Id", format!("token_mock_null_{}", random_hex(16)))
}
