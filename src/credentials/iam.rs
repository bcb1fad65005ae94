//! The two calls to IAM: fetch a token with a user's password, and find a project's id by
//! its name.

use std::fmt;
use std::time::SystemTime;

use ::http::header::HeaderName;
use ::http::{Method, StatusCode};
use serde::de::{self, Deserializer as _};
use serde::{Deserialize, Serialize};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{Completion, CredentialSource, Credentials, RequestContext, Token, TokenFetcher, expiry};
use crate::error::{Error, Status};
use crate::http::{Endpoint, ErrorContext, JSON, Object, Request, Response};
use crate::memory;

const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");

/// A token response without the catalogue has a few kilobytes, a list of projects by name
/// not much more.
const RESPONSE_LIMIT: usize = 1024 * 1024;

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
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, ***)", self.user)
    }
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct User<'a> {
    name: &'a str,
    password: &'a str,
    domain: Named<'a>,
}

#[derive(Serialize)]
struct Password<'a> {
    user: User<'a>,
}

#[derive(Serialize)]
struct Identity<'a> {
    methods: [&'static str; 1],
    password: Password<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Project<'a> {
    Id(&'a str),
    Name(&'a str),
}

#[derive(Serialize)]
struct ProjectScope<'a> {
    project: Project<'a>,
}

#[derive(Serialize)]
struct Auth<'a> {
    identity: Identity<'a>,
    scope: ProjectScope<'a>,
}

#[derive(Serialize)]
struct AuthRequest<'a> {
    auth: Auth<'a>,
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
    fn body(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        // Allocated at its maximum size, because a growing vector leaves copies of the
        // password.
        let max_escaped = 6 * (self.user.len() + self.password.len() + self.domain.len());
        let mut body = Zeroizing::new(Vec::with_capacity(max_escaped + 1024));
        let request = AuthRequest {
            auth: Auth {
                identity: Identity {
                    methods: ["password"],
                    password: Password {
                        user: User {
                            name: &self.user,
                            password: &self.password,
                            domain: Named { name: &self.domain },
                        },
                    },
                },
                scope: ProjectScope {
                    project: match &self.scope {
                        Scope::ProjectId(id) => Project::Id(id),
                        Scope::Region(name) => Project::Name(name),
                    },
                },
            },
        };
        serde_json::to_writer(&mut *body, &request)
            .map_err(|e| Error::new(Status::Internal, format!("failed to serialize the login: {e}")))?;
        Ok(body)
    }

    fn log_in(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        let body = self.body()?;
        let request = Request {
            method: Method::POST,
            url: self
                .endpoint
                .url(&["v3", "auth", "tokens"], &[("nocatalog", "true")])?,
            headers: &JSON,
            body: &body,
            idempotent: true,
            secrets: std::slice::from_ref(&self.password),
        };
        let attempt = || {
            let mut response = context.http.send(context.call, &request, &|_| Ok(()))?;
            if response.status() != StatusCode::CREATED {
                return Err(response.read_error(&ERROR_CONTEXT)?);
            }
            self.read(&mut response)
        };
        context
            .retry
            .run(context.call, attempt)
            .map_err(|e| with_iam_context(&self.endpoint, e))
    }

    fn login_rejected(&self, error: Error) -> Error {
        let status = error.http_status().unwrap_or_default();
        let reason = error.service_message().unwrap_or("no reason given").to_owned();
        let id = error.request_id().map(|id| format!("; request id {id}"));
        error.with_message(|_| {
            format!(
                "IAM refused the login of the user {} (HTTP {status}): {}; check the user, password, domain, and the region or project; this client does not send them again{}",
                self.user,
                reason.trim_end_matches('.'),
                id.unwrap_or_default(),
            )
        })
    }

    fn read(&self, response: &mut Response) -> Result<Credentials, Error> {
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
            .with_name(Some(self.user.clone()))
            .with_project(facts.project.map(|project| project.id))
            .with_lifetime(
                facts
                    .expires_at
                    .and_then(|expires| expiry::remaining(&expires, now)),
            ))
    }
}

/// Adds to an error that it happened at IAM, unless the message already says so.
fn with_iam_context(endpoint: &Endpoint, error: Error) -> Error {
    if error.is_end_of_call() || error.message().starts_with("IAM") {
        return error;
    }
    error.with_message(|message| format!("IAM at {}: {message}", endpoint.origin()))
}

impl TokenFetcher for Login {
    fn fetch(&self, context: &RequestContext<'_>, _: bool, completion: Completion<Credentials>) {
        let _auxiliary = context.call.auxiliary_request(None);
        match self.log_in(context) {
            // IAM would reject the same login again, and repeated wrong passwords lock a
            // user's account.
            Err(e) if matches!(e.http_status(), Some(400..=404)) => completion.reject(self.login_rejected(e)),
            result => completion.complete(result.map_err(Error::no_retry)),
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
            format_args!("is not set, and IAM has no project named {name}; set the project's id"),
        )),
        (Some(_), Some(_)) => Err(Error::argument(
            Status::NotConfigured,
            "project",
            format_args!("is not set, and IAM has several projects named {name}; set the id of one"),
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
        .map_err(|e| with_iam_context(endpoint, e))
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
        }
    }

    #[test]
    fn login_body_matches_iam_documentation() {
        for (scope, project) in [
            (Scope::Region("cn-north-4".into()), r#"{"name":"cn-north-4"}"#),
            (Scope::ProjectId("abc".into()), r#"{"id":"abc"}"#),
        ] {
            let body = login(scope).body().expect("a body");
            let expected = format!(
                r#"{{"auth":{{"identity":{{"methods":["password"],"password":{{"user":{{"name":"u","password":"p\"\\ü","domain":{{"name":"d"}}}}}}}},"scope":{{"project":{project}}}}}}}"#
            );
            assert_eq!(String::from_utf8_lossy(&body), expected);
        }
    }

    #[test]
    fn debug_output_of_login_hides_password() {
        assert_eq!(format!("{:?}", login(Scope::Region("r".into()))), "Login(u, ***)");
    }
}
