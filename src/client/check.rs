//! Finding out who the context is, and whether the service knows it.

use std::time::SystemTime;

use super::arguments::check_project;
use super::document;
use super::inner::ClientInner;
use crate::error::Error;
use crate::http::{ErrorContext, Request};
use crate::operation::ActiveOperation;

const ERROR_CONTEXT: ErrorContext = ErrorContext {
    server: "the service",
    not_found: ("knows no such project", "; check the region and the project"),
};

/// Credentials that were found; none of it is secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Identity {
    /// Where they are from: token, access_key, token_provider, iam_user,
    /// environment, profile or metadata. Newer versions may have more.
    pub source: &'static str,
    /// The same in words, with the variable, file or address.
    pub description: String,
    /// Whose they are: the user's name, or the access key with its middle left out;
    /// none where they do not tell.
    pub name: Option<String>,
    /// The id of the project of calls that are given none, as far as it is known
    /// without looking it up.
    pub project: Option<String>,
    /// When they expire, where that is known and they do.
    pub expires: Option<SystemTime>,
}

impl ClientInner {
    /// Finds the credentials, as a call would.
    pub(super) fn find_credentials(&self, active: Option<ActiveOperation>) -> Result<Identity, Error> {
        self.run(active, "credentials".into(), |active| {
            self.run_request(&active, |call| {
                let (source, credentials) = self.credentials(call)?;
                let project = self.project.configured().map(str::to_owned);
                Ok(Identity {
                    source: source.name().to_str().unwrap_or_default(),
                    description: source.to_string(),
                    name: credentials.name.clone(),
                    project: project.or_else(|| credentials.project.clone()),
                    expires: credentials.expires,
                })
            })
        })
    }

    /// Asks the service for an instance of the project: a response means that it
    /// takes the credentials.
    pub(super) fn check(&self, project: Option<&str>, active: Option<ActiveOperation>) -> Result<(), Error> {
        check_project(project)?;
        self.run(active, "check".into(), |active| {
            self.run_request(&active, |call| {
                let project = self.project(call, project)?;
                self.fetch(
                    call,
                    &project,
                    |endpoint| {
                        // ListAuditInstances: GET /v1/{project_id}/audit/instances
                        let segments = ["v1", &project, "audit", "instances"];
                        let url = endpoint.url(&segments, &[("offset", "0"), ("limit", "1")])?;
                        Ok(Request::get(url, &[]))
                    },
                    |response| document::read(response, &ERROR_CONTEXT).map(drop),
                )
            })
        })
    }
}
