//! IAM: tokens for a password, and which projects there are.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::credentials::{self, NotAuthentic, authenticate, timestamp};
use crate::exchange;
use crate::http::{Request, Response};
use crate::net::lock;
use crate::{Shared, random_hex};

const MALFORMED: &str = "IAM.0011";
const WRONG_SIGNATURE: &str = "IAM.0101";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Tokens,
    Projects,
    AuthProjects,
    Domains,
    IdToken,
    Keys,
    Oidc,
}

impl Call {
    pub(crate) fn of(path: &str) -> Option<Call> {
        match path {
            "/v3/auth/tokens" => Some(Call::Tokens),
            "/v3/projects" => Some(Call::Projects),
            "/v3/auth/projects" => Some(Call::AuthProjects),
            "/v3/auth/domains" => Some(Call::Domains),
            "/v3.0/OS-AUTH/id-token/tokens" => Some(Call::IdToken),
            "/v3.0/OS-CREDENTIAL/securitytokens" => Some(Call::Keys),
            "/v5/agencies/assume-with-oidc" => Some(Call::Oidc),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Call::Tokens => "@iam.tokens",
            Call::Projects => "@iam.projects",
            Call::AuthProjects => "@iam.auth_projects",
            Call::Domains => "@iam.domains",
            Call::IdToken => "@iam.id_token",
            Call::Keys => "@iam.keys",
            Call::Oidc => "@sts.oidc",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Call::Tokens | Call::IdToken | Call::Keys | Call::Oidc => "POST",
            Call::Projects | Call::AuthProjects | Call::Domains => "GET",
        }
    }
}

/// How long tokens last. What is left out of the JSON is as it was at first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IamSettings {
    pub(crate) token_lifetime_ms: u64,
    pub(crate) announced_lifetime_ms: Option<i64>,
    pub(crate) key_lifetime_ms: u64,
    pub(crate) announced_key_lifetime_ms: Option<i64>,
    pub(crate) id_token: Option<String>,
    pub(crate) passcodes: Option<Vec<String>>,
    pub(crate) may_list_projects: bool,
}

impl Default for IamSettings {
    fn default() -> Self {
        IamSettings {
            token_lifetime_ms: DAY_MS,
            announced_lifetime_ms: None,
            key_lifetime_ms: DAY_MS,
            announced_key_lifetime_ms: None,
            id_token: None,
            passcodes: None,
            may_list_projects: true,
        }
    }
}

/// A project IAM knows. All but the first have no instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    auth: Auth,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    identity: Identity,
    scope: Scope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    methods: Vec<String>,
    password: Password,
    totp: Option<Totp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Totp {
    user: TotpUser,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TotpUser {
    id: String,
    passcode: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Password {
    user: User,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    password: String,
    domain: Domain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Domain {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    project: Wanted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Wanted {
    Name(String),
    Id(String),
}

/// What the service answers where no fault waits.
pub(crate) fn respond(shared: &Shared, request: &Request, call: Call) -> Response {
    if request.method != call.method() {
        return error(405, "Method Not Allowed", "The method is not allowed.").header("Allow", call.method());
    }
    let response = match call {
        Call::Tokens => log_in(shared, request).map(|project| issue(shared, request, &project)),
        Call::Projects => admit(shared, request).and_then(|()| projects(shared, request)),
        Call::AuthProjects => admit(shared, request).map(|()| list_projects(shared, None)),
        Call::Domains => admit(shared, request).map(|()| domains(shared)),
        Call::IdToken => exchange::id_token(shared, request),
        Call::Keys => exchange::key_of_iam(shared, request),
        Call::Oidc => exchange::oidc(shared, request),
    };
    response.unwrap_or_else(|refusal| *refusal)
}

/// Whether whoever asks is let in.
pub(crate) fn authorised(shared: &Shared, request: &Request, call: Call) -> bool {
    match call {
        Call::Tokens => log_in(shared, request).is_ok(),
        Call::IdToken => exchange::id_token(shared, request).is_ok(),
        Call::Keys => exchange::key_of_iam(shared, request).is_ok(),
        Call::Oidc => exchange::oidc(shared, request).is_ok(),
        Call::Projects | Call::AuthProjects | Call::Domains => admit(shared, request).is_ok(),
    }
}

pub(crate) fn no_such_path() -> Response {
    error(404, "Not Found", "The resource could not be found.")
}

fn log_in(shared: &Shared, request: &Request) -> Result<Project, Box<Response>> {
    let malformed = |message: String| Box::new(coded(400, MALFORMED, &message));
    if !request.is_json() {
        return Err(malformed("The Content-Type is not application/json.".to_owned()));
    }
    let Body { auth } = serde_json::from_slice(&request.body)
        .map_err(|error| malformed(format!("Request body is invalid: {error}.")))?;
    let totp = auth.identity.totp;
    let methods: &[&str] = match totp {
        None => &["password"],
        Some(_) => &["password", "totp"],
    };
    if auth.identity.methods != methods {
        return Err(malformed(format!("The methods are not {methods:?}.")));
    }
    let identity = &shared.identity;
    let user = auth.identity.password.user;
    let known = (&*identity.user, &*identity.password, &*identity.domain);
    let unauthorized = |message: &str| Box::new(error(401, "Unauthorized", message));
    if (&*user.name, &*user.password, &*user.domain.name) != known {
        return Err(unauthorized("The username or password is wrong."));
    }
    if let Some(passcodes) = &mut lock(&shared.iam_settings).passcodes {
        let Some(totp) = totp else {
            return Err(unauthorized("A passcode of the MFA device is needed."));
        };
        let known = passcodes.iter().position(|code| *code == totp.user.passcode);
        match known.filter(|_| totp.user.id == identity.user_id) {
            Some(at) => drop(passcodes.remove(at)),
            None => {
                let message = format!("The passcode {} is wrong.", totp.user.passcode);
                return Err(unauthorized(&message));
            }
        }
    }
    let project = lock(&shared.projects)
        .iter()
        .find(|project| match &auth.scope.project {
            Wanted::Name(name) => *name == project.name,
            Wanted::Id(id) => *id == project.id,
        })
        .cloned();
    project.ok_or_else(|| unauthorized("The project does not exist."))
}

fn issue(shared: &Shared, request: &Request, project: &Project) -> Response {
    let token = subject_token(shared, Some(&project.id));
    let settings = lock(&shared.iam_settings).clone();
    let end = credentials::announced(settings.token_lifetime_ms, settings.announced_lifetime_ms);
    let domain = domain(shared);
    let mut body = json!({
        "token": {
            "expires_at": timestamp(end),
            "issued_at": timestamp(OffsetDateTime::now_utc()),
            "methods": ["password"],
            "project": {"id": project.id, "name": project.name, "domain": domain},
            "user": {
                "id": shared.identity.user_id,
                "name": shared.identity.user,
                "domain": domain,
                "password_expires_at": "",
            },
            "roles": [{"id": "0", "name": "te_admin"}],
        },
    });
    if !request.pairs().iter().any(|pair| pair.0 == "nocatalog") {
        body["token"]["catalog"] = catalog(shared, project);
    }
    traced(Response::json(201, &body)).header("X-Subject-Token", token)
}

/// Makes a token; without a project it is for none in particular.
pub(crate) fn subject_token(shared: &Shared, project: Option<&str>) -> String {
    // Real tokens are CMS messages in base64, most of them about this long.
    let token = format!("MII{}", credentials::random_token(1500));
    let lifetime = lock(&shared.iam_settings).token_lifetime_ms;
    let lifetime = std::time::Duration::from_millis(lifetime);
    shared.tokens.issue(&token, project, lifetime);
    token
}

fn catalog(shared: &Shared, project: &Project) -> Value {
    let url = &shared.urls[&crate::Listener::Https];
    json!([{
        "id": random_hex(16),
        "name": "dbss",
        "type": "dbss",
        "endpoints": [{
            "id": random_hex(16),
            "interface": "public",
            "region": project.name,
            "region_id": project.name,
            "url": format!("{url}/v1/{}", project.id),
        }],
    }])
}

fn admit(shared: &Shared, request: &Request) -> Result<(), Box<Response>> {
    let refusal = match authenticate(shared, request, None) {
        Ok(_) => return Ok(()),
        Err(NotAuthentic::Missing) => error(
            401,
            "Unauthorized",
            "The request you have made requires authentication.",
        ),
        Err(NotAuthentic::Token) => error(401, "Unauthorized", "The token must be updated"),
        Err(NotAuthentic::Signature(message)) => coded(401, WRONG_SIGNATURE, &message),
    };
    Err(Box::new(refusal))
}

/// The projects of the domain, for which a permission is needed.
fn projects(shared: &Shared, request: &Request) -> Result<Response, Box<Response>> {
    if !lock(&shared.iam_settings).may_list_projects {
        let message = "You are not authorized to perform the requested action: identity:list_projects";
        return Err(Box::new(error(403, "Forbidden", message)));
    }
    let name = request.pairs().into_iter().find(|pair| pair.0 == "name");
    Ok(list_projects(
        shared,
        name.as_ref().map(|(_, name)| name.as_str()),
    ))
}

fn list_projects(shared: &Shared, name: Option<&str>) -> Response {
    let domain = &shared.identity.domain_id;
    let projects: Vec<Value> = lock(&shared.projects)
        .iter()
        .filter(|project| name.is_none_or(|name| name == project.name))
        .map(|project| {
            json!({
                "id": project.id,
                "name": project.name,
                "domain_id": domain,
                "parent_id": domain,
                "enabled": true,
                "is_domain": false,
                "description": "",
                "links": {"self": format!("https://iam.example/v3/projects/{}", project.id)},
            })
        })
        .collect();
    listing("projects", projects)
}

fn domains(shared: &Shared) -> Response {
    let mut domain = domain(shared);
    domain["enabled"] = json!(true);
    domain["description"] = json!("");
    listing("domains", vec![domain])
}

fn listing(name: &str, items: Vec<Value>) -> Response {
    let links = json!({
        "self": format!("https://iam.example/v3/{name}"),
        "previous": null,
        "next": null,
    });
    traced(Response::json(200, &json!({name: items, "links": links})))
}

fn domain(shared: &Shared) -> Value {
    json!({"id": shared.identity.domain_id, "name": shared.identity.domain})
}

pub(crate) fn error(status: u16, title: &str, message: &str) -> Response {
    let body = json!({"error": {"code": status, "message": message, "title": title}});
    traced(Response::json(status, &body))
}

pub(crate) fn coded(status: u16, code: &str, message: &str) -> Response {
    traced(Response::json(
        status,
        &json!({"error_code": code, "error_msg": message}),
    ))
}

pub(crate) fn traced(response: Response) -> Response {
    response.header("X-IAM-Trace-Id", format!("token_mock_null_{}", random_hex(16)))
}
