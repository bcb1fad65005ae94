//! What gives temporary access keys for other secrets: STS and IAM for the tokens of an
//! identity provider, IAM for an agency, the pod identity agent for a pod's token.

use serde_json::{Value, json};

use crate::Shared;
use crate::credentials::{Lifetime, authenticate, random_token};
use crate::http::{Fields, Request, Response};
use crate::iam::{body, coded, error, subject_token, traced};
use crate::net::lock;
use crate::service::Refusal;

const OIDC: &str =
    "provider_urn agency_urn agency_session_name id_token duration_seconds# policy? policy_ids[]?";
const TOKEN: &str = "auth.identity.token";
const AGENCY: &str = "auth.identity.assume_role";

/// `AssumeAgencyWithOIDC` of STS.
pub(crate) fn oidc(shared: &Shared, request: &Request) -> Result<Response, Refusal> {
    let body = body(request, OIDC, false)?;
    let own = &shared.identity;
    let known = ["provider_urn", "agency_urn"]
        .iter()
        .all(|name| body.text(name) == own[name]);
    if !known || body.text("agency_session_name").is_empty() {
        return Err(coded(
            404,
            "PAP5.0012",
            "The provider or the agency does not exist.",
        ));
    }
    if !is_valid(shared, body.text("id_token")) {
        return Err(coded(400, "STS5.0005", "The id token is invalid or has expired."));
    }
    check_duration(&body, "duration_seconds", 43_200)?;
    let key = key(shared);
    let body = json!({
        "assumed_agency": {"urn": own["agency_urn"], "id": "a"},
        "credentials": {
            "access_key_id": key["access"],
            "secret_access_key": key["secret"],
            "security_token": key["securitytoken"],
            "expiration": key["expires_at"],
        },
    });
    Ok(traced(Response::json(200, &body)))
}

/// IAM's own token for that of an identity provider.
pub(crate) fn id_token(shared: &Shared, request: &Request) -> Result<Response, Refusal> {
    let body = body(request, "auth.id_token.id", false)?;
    if request.header("X-Idp-Id") != Some(shared.identity["idp_id"].as_bytes()) {
        let message = "The identity provider does not exist.";
        return Err(Box::new(error(404, "Not Found", message)));
    }
    if !is_valid(shared, body.text("auth.id_token.id")) {
        let message = "The id token is invalid or has expired.";
        return Err(Box::new(error(401, "Unauthorized", message)));
    }
    let token = subject_token(shared, None);
    let body = json!({"token": {
        "expires_at": Lifetime::new(None, None).announced(),
        "methods": ["mapped"],
        "user": {"name": "FederationUser"},
    }});
    Ok(traced(Response::json(201, &body)).header("X-Subject-Token", token))
}

/// A temporary key, for a token or for an agency.
pub(crate) fn key_of_iam(shared: &Shared, request: &Request) -> Result<Response, Refusal> {
    let known = format!(
        "auth.identity.methods[] {TOKEN}.id? {TOKEN}.duration_seconds#? {AGENCY}.agency_name? \
        {AGENCY}.domain_name? {AGENCY}.domain_id? {AGENCY}.duration_seconds#?"
    );
    let body = body(request, &known, false)?;
    let methods = body.get("auth.identity.methods");
    let agency = |name| body.optional(&format!("{AGENCY}.{name}"));
    if let Some(token) = body.optional(&format!("{TOKEN}.id"))
        && methods == Some(&json!(["token"]))
    {
        check_duration(&body, &format!("{TOKEN}.duration_seconds"), 86_400)?;
        if shared.tokens.find(token).is_none() {
            return Err(Box::new(error(401, "Unauthorized", "The token must be updated")));
        }
    } else if let Some(name) = agency("agency_name")
        && methods == Some(&json!(["assume_role"]))
    {
        check_duration(&body, &format!("{AGENCY}.duration_seconds"), 86_400)?;
        if authenticate(shared, request, None).is_err() {
            return Err(coded(401, "IAM.0101", "The credentials are wrong."));
        }
        let own = &shared.identity;
        let account = [agency("domain_name"), agency("domain_id")];
        let by_name = account == [Some(&*own["agency_domain"]), None];
        let by_id = account == [None, Some(&*own["agency_domain_id"])];
        if name != own["agency"] || !(by_name || by_id) {
            let message = "You are not authorized to perform the requested action.";
            return Err(Box::new(error(403, "Forbidden", message)));
        }
    } else {
        return Err(coded(400, "IAM.0011", "The methods are wrong."));
    }
    Ok(traced(Response::json(201, &json!({"credential": key(shared)}))))
}

/// A temporary key for a pod.
pub(crate) fn pod(shared: &Shared, request: &Request) -> Response {
    if request.header("Authorization") != Some(shared.identity["pod_token"].as_bytes()) {
        return Response::error(401, "PI.0401", "The token is invalid or has expired.");
    }
    let key = key(shared);
    let credentials = json!({
        "accessKeyId": key["access"],
        "secretAccessKey": key["secret"],
        "securityToken": key["securitytoken"],
        "expiration": key["expires_at"],
    });
    Response::json(200, &json!({"credentials": credentials}))
}

fn check_duration(body: &Fields, name: &str, longest: u64) -> Result<(), Refusal> {
    match (900..=longest).contains(&body.number(name)) {
        true => Ok(()),
        false => Err(coded(400, "IAM.0011", "duration_seconds is out of range.")),
    }
}

fn is_valid(shared: &Shared, id_token: &str) -> bool {
    let settings = lock(&shared.iam_settings);
    id_token == settings.id_token.as_ref().unwrap_or(&shared.identity["id_token"])
}

fn key(shared: &Shared) -> Value {
    let settings = lock(&shared.iam_settings).clone();
    let lifetime = Lifetime::new(settings.key_lifetime_ms, settings.announced_key_lifetime_ms);
    shared.keys.issue(&lifetime)
}

/// An id token in the form of a JWT, as long as those of Kubernetes.
pub(crate) fn random_id_token() -> String {
    let part = |bytes| random_token(bytes).replace(['+', '/', '='], "x");
    format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", part(600), part(256))
}
