//! The two calls to IAM: fetch a token with a user's password, and find a project's id by
//! its name.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ::http::StatusCode;
use ::http::header::HeaderName;
use serde::Deserialize;
use serde::de::{self, Deserializer as _};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::exchange::{Exchange, RESPONSE_LIMIT, is_refusal, json, refused, with_server};
use super::{
    CallbackProvider, Completion, CredentialSource, Credentials, RequestContext, SingleFlight, Token,
    TokenFetcher, TokenProvider, expiry,
};
use crate::error::{Error, Status};
use crate::http::{Endpoint, ErrorContext, JSON, Object, Request, Response, Retry};
use crate::memory;
use crate::message;

const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");

const ERROR_CONTEXT: ErrorContext = ErrorContext {
    server: "IAM",
    not_found: ("knows no such resource", "; is the IAM endpoint right?"),
};

/// The project that a token is for.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    ProjectId(String),
    /// A region's own project has the region's name.
    Region(String),
}

/// Logs in to IAM with the name and password of a user.
pub(crate) struct Login {
    pub(crate) endpoint: Endpoint,
    pub(crate) user: String,
    pub(crate) password: Zeroizing<String>,
    pub(crate) domain: String,
    pub(crate) scope: Scope,
    pub(crate) mfa: Option<Mfa>,
}

/// The second factor of a login: passcodes of the user's virtual MFA device.
pub(crate) struct Mfa {
    user_id: String,
    provider: CallbackProvider,
    /// Whether IAM refused the last login.
    refused: AtomicBool,
}

impl Mfa {
    pub(crate) fn new(user_id: String, provider: Arc<TokenProvider>) -> Mfa {
        Mfa {
            user_id,
            provider: CallbackProvider::for_passcodes(provider),
            refused: AtomicBool::new(false),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, ***)", self.user)
    }
}

#[derive(Default, Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: TokenFacts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenFacts {
    expires_at: Option<String>,
    project: Option<ProjectItem>,
}

#[derive(Deserialize)]
struct ProjectItem {
    id: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Projects<'a> {
    #[serde(borrow)]
    projects: &'a RawValue,
}

/// Collects the ids of the projects with a name from a JSON list. Two are enough to know
/// that the name is ambiguous.
struct ProjectsNamed<'a>(&'a str);

impl<'de> de::Visitor<'de> for ProjectsNamed<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of projects")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
        let mut ids = Vec::new();
        while let Some(project) = seq.next_element::<ProjectItem>()? {
            if project.name == self.0 && ids.len() < 2 {
                ids.push(project.id);
            }
        }
        Ok(ids)
    }
}

impl Login {
    fn body(&self, passcode: Option<&str>) -> Zeroizing<Vec<u8>> {
        let mut texts: Vec<&str> = vec![&self.user, &self.password, &self.domain];
        let (method, totp) = match (&self.mfa, passcode) {
            (Some(mfa), Some(passcode)) => {
                texts.extend([mfa.user_id.as_str(), passcode]);
                (r#","totp""#, r#","totp":{"user":{"id":?,"passcode":?}}"#)
            }
            _ => ("", ""),
        };
        let (key, project) = match &self.scope {
            Scope::ProjectId(id) => ("id", id),
            Scope::Region(name) => ("name", name),
        };
        texts.push(project);
        let template = format!(
            r#"{{"auth":{{"identity":{{"methods":["password"{method}],"password":{{"user":{{"name":?,"password":?,"domain":{{"name":?}}}}}}{totp}}},"scope":{{"project":{{"{key}":?}}}}}}}}"#
        );
        json(&template, &texts)
    }

    /// Asks the caller for a passcode. `refused` tells whether IAM refused the last login.
    fn passcode(
        &self,
        context: &RequestContext<'_>,
        mfa: &Mfa,
        refused: bool,
    ) -> Result<Zeroizing<String>, Error> {
        // Of this login alone: a passcode is valid once, and is wiped after use.
        let passcode = SingleFlight::new().get(
            context.call,
            |_: &Credentials| false,
            |completion| mfa.provider.fetch(context, refused, completion),
        )?;
        Ok(Zeroizing::new(passcode.token().unwrap_or_default().to_owned()))
    }

    fn log_in(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        let mut secrets = vec![self.password.clone()];
        if let Some(mfa) = &self.mfa {
            let refused = mfa.refused.swap(false, Ordering::Relaxed);
            secrets.push(self.passcode(context, mfa, refused)?);
        }
        let passcode = secrets.get(1).map(|passcode| passcode.as_str());
        let _auxiliary = context.call.auxiliary_request(None);
        let once = Retry::new(1, Duration::ZERO);
        // KeystoneCreateUserTokenByPassword, and KeystoneCreateUserTokenByPasswordAndMfa
        Exchange {
            segments: &["v3", "auth", "tokens"],
            query: &[("nocatalog", "true")],
            body: self.body(passcode),
            secrets: &secrets,
            retry: passcode.map_or(context.retry, |_| once),
            repeatable: passcode.is_none(),
            ..Exchange::new(context, &self.endpoint)
        }
        .send(context, &|response| self.read(response))
        // A passcode is shorter than what is redacted everywhere.
        .map_err(|e| match passcode {
            Some(passcode) => e.map_text(|text| text.replace(passcode, "***")),
            None => e,
        })
    }

    fn login_refused(&self, error: Error) -> Error {
        let what = format!("the login of the user {}", self.user);
        let advice = match self.mfa {
            None => "the user, password, domain, and the region or project",
            Some(_) => "the passcode, the user and its id, password, domain, and the region or project",
        };
        refused(error, "IAM", &what, advice)
    }

    fn read(&self, response: &mut Response) -> Result<Credentials, Error> {
        Ok(subject_token(response)?.with_name(Some(self.user.clone())))
    }
}

/// Reads a token of IAM from a response.
pub(super) fn subject_token(response: &mut Response) -> Result<Credentials, Error> {
    let token = match response.take_secret_header(SUBJECT_TOKEN)? {
        Some(token) => Token::new(&token).map_err(|e| e.message().to_owned()),
        None => Err("it has no X-Subject-Token header".to_owned()),
    };
    let token = token.map_err(|e| {
        response.with_context(Error::new(
            Status::UnexpectedResponse,
            format!("IAM's response to the login has no usable token: {e}; is the IAM endpoint right?"),
        ))
    })?;
    let bytes = response.read_document(RESPONSE_LIMIT)?;
    memory::probe_document(bytes.len())?;
    // The other facts are optional: the token is sufficient.
    let facts = serde_json::from_slice::<TokenResponse>(&bytes)
        .unwrap_or_default()
        .token;
    let now = response.date().unwrap_or_else(SystemTime::now);
    Ok(Credentials::from(token)
        .with_project(facts.project.map(|project| project.id))
        .with_lifetime(
            facts
                .expires_at
                .and_then(|expires| expiry::remaining(&expires, now)),
        ))
}

impl TokenFetcher for Login {
    fn fetch(&self, context: &RequestContext<'_>, _: bool, completion: Completion<Credentials>) {
        match (self.log_in(context), &self.mfa) {
            (Err(e), None) if is_refusal(&e) => completion.reject(self.login_refused(e)),
            // Another passcode may be right.
            (Err(e), Some(mfa)) if is_refusal(&e) => {
                mfa.refused.store(true, Ordering::Relaxed);
                completion.complete(Err(self.login_refused(e).no_retry()));
            }
            (result, _) => completion.complete(result.map_err(Error::no_retry)),
        }
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::User {
            user: self.user.clone(),
            iam: self.endpoint.origin(),
        }
    }
}

/// Asks IAM for the id of the project with a name. The list of all projects needs a
/// permission; that of the caller's own projects needs none, but has no filter.
pub(crate) fn find_project(
    context: &RequestContext<'_>,
    endpoint: &Endpoint,
    name: &str,
    credentials: &Credentials,
) -> Result<String, Error> {
    let ids = projects_named(
        context,
        endpoint,
        (&["v3", "projects"], &[("name", name)]),
        name,
        credentials,
    )
    .or_else(|e| match e.status() {
        Status::Forbidden => projects_named(
            context,
            endpoint,
            (&["v3", "auth", "projects"], &[]),
            name,
            credentials,
        ),
        _ => Err(e),
    })?;
    let mut ids = ids.into_iter();
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(Error::argument(
            Status::NotConfigured,
            "project",
            format_args!(
                "is not set, and IAM has no project named {name}; set {}",
                message::name("project_id")
            ),
        )),
        (Some(_), Some(_)) => Err(Error::argument(
            Status::NotConfigured,
            "project",
            format_args!(
                "is not set, and IAM has several projects named {name}; set {} to the id of one",
                message::name("project_id")
            ),
        )),
    }
}

/// Returns the ids of the projects with a name in a list of IAM, at most two.
fn projects_named(
    context: &RequestContext<'_>,
    endpoint: &Endpoint,
    (path, query): (&[&str], &[(&str, &str)]),
    name: &str,
    credentials: &Credentials,
) -> Result<Vec<String>, Error> {
    let request = Request::get(endpoint.url(path, query)?, &JSON);
    let attempt = || {
        let mut response = context
            .http
            .send(context.call, &request, &|request| credentials.sign(request, None))?;
        if response.status() != StatusCode::OK {
            return Err(response.read_error(&ERROR_CONTEXT)?);
        }
        let bytes = response.read_document(RESPONSE_LIMIT)?;
        memory::probe_document(bytes.len())?;
        let projects = serde_json::from_slice::<Object<Projects<'_>>>(&bytes).and_then(|found| {
            Deserializer::from_str(found.0.projects.get()).deserialize_seq(ProjectsNamed(name))
        });
        projects.map_err(|e| {
            response.with_context(Error::new(
                Status::UnexpectedResponse,
                format!("IAM's list of projects is malformed: {e}"),
            ))
        })
    };
    context
        .retry
        .run(context.call, attempt)
        .map_err(|e| with_server("IAM", endpoint, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(scope: Scope) -> Login {
        Login {
            endpoint: Endpoint::parse("https://iam.example.com", "iam_endpoint").expect("a URL"),
            user: "u".into(),
            password: Zeroizing::new("p\"\\ü".into()),
            domain: "d".into(),
            scope,
            mfa: None,
        }
    }

    #[test]
    fn login_body_matches_iam_documentation() {
        for (scope, project) in [
            (Scope::Region("cn-north-4".into()), r#"{"name":"cn-north-4"}"#),
            (Scope::ProjectId("abc".into()), r#"{"id":"abc"}"#),
        ] {
            let body = login(scope).body(None);
            let expected = format!(
                r#"{{"auth":{{"identity":{{"methods":["password"],"password":{{"user":{{"name":"u","password":"p\"\\ü","domain":{{"name":"d"}}}}}}}},"scope":{{"project":{project}}}}}}}"#
            );
            assert_eq!(String::from_utf8_lossy(&body), expected);
        }
        let mut login = login(Scope::Region("r".into()));
        login.mfa = Some(Mfa::new("id".into(), Arc::new(drop)));
        assert_eq!(
            String::from_utf8_lossy(&login.body(Some("123456"))),
            r#"{"auth":{"identity":{"methods":["password","totp"],"password":{"user":{"name":"u","password":"p\"\\ü","domain":{"name":"d"}}},"totp":{"user":{"id":"id","passcode":"123456"}}},"scope":{"project":{"name":"r"}}}}"#
        );
    }

    #[test]
    fn debug_output_of_login_hides_password() {
        assert_eq!(format!("{:?}", login(Scope::Region("r".into()))), "Login(u, ***)");
    }
}
