//! What gives temporary access keys for other secrets: STS and IAM for the tokens of an
//! identity provider, IAM for an agency, the pod identity agent for a pod's token.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::Shared;
use crate::credentials::{announced, authenticate, random_token, timestamp};
use crate::http::{Request, Response};
use crate::iam::{coded, error, subject_token, traced};
use crate::net::lock;

type Refusal = Box<Response>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Oidc {
    provider_urn: String,
    agency_urn: String,
    agency_session_name: String,
    id_token: String,
    duration_seconds: u64,
    #[serde(default)]
    #[allow(dead_code)]
    policy: Option<String>,
    #[serde(default)]
    #[allow(dead_code)]
    policy_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<A> {
    auth: A,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdTokenAuth {
    id_token: Id,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyAuth {
    identity: KeyIdentity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyIdentity {
    methods: Vec<String>,
    token: Option<TokenWithDuration>,
    assume_role: Option<Agency>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenWithDuration {
    id: String,
    duration_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Agency {
    agency_name: String,
    domain_name: Option<String>,
    domain_id: Option<String>,
    duration_seconds: u64,
}

/// `AssumeAgencyWithOIDC` of STS.
pub(crate) fn oidc(shared: &Shared, request: &Request) -> Result<Response, Refusal> {
    let body: Oidc = body(request)?;
    let identity = &shared.identity;
    let known = (&*identity.provider_urn, &*identity.agency_urn);
    if (&*body.provider_urn, &*body.agency_urn) != known || body.agency_session_name.is_empty() {
        return Err(Box::new(coded(
            404,
            "PAP5.0012",
            "The provider or the agency does not exist.",
        )));
    }
    if !is_valid(shared, &body.id_token) {
        return Err(Box::new(coded(
            400,
            "STS5.0005",
            "The id token is invalid or has expired.",
        )));
    }
    check_duration(body.duration_seconds, 43_200)?;
    let key = key(shared);
    Ok(traced(Response::json(
        200,
        &json!({
            "assumed_agency": {"urn": identity.agency_urn, "id": "a"},
            "credentials": {
                "access_key_id": key["access"],
                "secret_access_key": key["secret"],
                "security_token": key["securitytoken"],
                "expiration": key["expires_at"],
            },
        }),
    )))
}

/// IAM's own token for that of an identity provider.
pub(crate) fn id_token(shared: &Shared, request: &Request) -> Result<Response, Refusal> {
    let body: Body<IdTokenAuth> = body(request)?;
    if request.header("X-Idp-Id") != Some(shared.identity.idp_id.as_bytes()) {
        return Err(Box::new(error(
            404,
            "Not Found",
            "The identity provider does not exist.",
        )));
    }
    if !is_valid(shared, &body.auth.id_token.id) {
        return Err(Box::new(error(
            401,
            "Unauthorized",
            "The id token is invalid or has expired.",
        )));
    }
    let token = subject_token(shared, None);
    let day = OffsetDateTime::now_utc() + time::Duration::DAY;
    let body = json!({"token": {
        "expires_at": timestamp(day),
        "methods": ["mapped"],
        "user": {"name": "FederationUser"},
    }});
    Ok(traced(Response::json(201, &body)).header("X-Subject-Token", token))
}

/// A temporary key, for a token or for an agency.
pub(crate) fn key_of_iam(shared: &Shared, request: &Request) -> Result<Response, Refusal> {
    let Body {
        auth: KeyAuth { identity },
    } = body(request)?;
    match (identity.token, identity.assume_role) {
        (Some(token), None) if identity.methods == ["token"] => {
            check_duration(token.duration_seconds, 86_400)?;
            if !shared.tokens.is_valid(&token.id) {
                return Err(Box::new(error(401, "Unauthorized", "The token must be updated")));
            }
        }
        (None, Some(agency)) if identity.methods == ["assume_role"] => {
            check_duration(agency.duration_seconds, 86_400)?;
            if authenticate(shared, request, None).is_err() {
                return Err(Box::new(coded(401, "IAM.0101", "The credentials are wrong.")));
            }
            let identity = &shared.identity;
            let account = match (&agency.domain_name, &agency.domain_id) {
                (Some(name), None) => *name == identity.agency_domain,
                (None, Some(id)) => *id == identity.agency_domain_id,
                _ => false,
            };
            if agency.agency_name != identity.agency || !account {
                return Err(Box::new(error(
                    403,
                    "Forbidden",
                    "You are not authorized to perform the requested action.",
                )));
            }
        }
        _ => return Err(Box::new(coded(400, "IAM.0011", "The methods are wrong."))),
    }
    Ok(traced(Response::json(201, &json!({"credential": key(shared)}))))
}

/// A temporary key for a pod.
pub(crate) fn pod(shared: &Shared, request: &Request) -> Response {
    if request.header("Authorization") != Some(shared.identity.pod_token.as_bytes()) {
        return Response::json(
            401,
            &json!({"error_code": "PI.0401", "error_msg": "The token is invalid or has expired."}),
        );
    }
    let key = key(shared);
    Response::json(
        200,
        &json!({
            "credentials": {
                "accessKeyId": key["access"],
                "secretAccessKey": key["secret"],
                "securityToken": key["securitytoken"],
                "expiration": key["expires_at"],
            },
        }),
    )
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    let malformed = |message: String| Box::new(coded(400, "IAM.0011", &message));
    // The SDK for Go sends some of these bodies without a type.
    if request.header("Content-Type").is_some() && !request.is_json() {
        return Err(malformed("The Content-Type is not application/json.".to_owned()));
    }
    serde_json::from_slice(&request.body)
        .map_err(|error| malformed(format!("Request body is invalid: {error}.")))
}

fn check_duration(seconds: u64, longest: u64) -> Result<(), Refusal> {
    if (900..=longest).contains(&seconds) {
        return Ok(());
    }
    Err(Box::new(coded(
        400,
        "IAM.0011",
        "duration_seconds is out of range.",
    )))
}

fn is_valid(shared: &Shared, id_token: &str) -> bool {
    let settings = lock(&shared.iam_settings);
    id_token == settings.id_token.as_ref().unwrap_or(&shared.identity.id_token)
}

fn key(shared: &Shared) -> Value {
    let settings = lock(&shared.iam_settings).clone();
    let end = announced(settings.key_lifetime_ms, settings.announced_key_lifetime_ms);
    shared
        .keys
        .issue(Duration::from_millis(settings.key_lifetime_ms), end)
}

/// An id token in the form of a JWT, as long as those of Kubernetes.
pub(crate) fn random_id_token() -> String {
    let part = |bytes| random_token(bytes).replace(['+', '/', '='], "x");
    format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", part(600), part(256))
}
