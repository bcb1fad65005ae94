//! Finding out who the context is, and whether the service knows it.

use std::time::SystemTime;

use super::arguments::check_project;
use super::context::ClientInner;
use super::document;
use crate::error::Error;
use crate::http::{Asked, Outgoing};
use crate::operation::Running;

const ASKED: Asked = Asked {
    who: "the service",
    missing: ("knows no such project", "; check the region and the project"),
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
    pub(super) fn find_credentials(&self, running: Option<Running>) -> Result<Identity, Error> {
        self.run(running, "credentials".into(), |running| {
            self.alone(&running, |call| {
                let (origin, grant) = self.obtain(call)?;
                let project = self.own_project().map(str::to_owned);
                Ok(Identity {
                    source: origin.name().to_str().unwrap_or_default(),
                    description: origin.to_string(),
                    name: grant.name.clone(),
                    project: project.or_else(|| grant.project.clone()),
                    expires: grant.expires,
                })
            })
        })
    }

    /// Asks the service for an instance of the project: an answer means that it
    /// takes the credentials.
    pub(super) fn check(&self, project: Option<&str>, running: Option<Running>) -> Result<(), Error> {
        check_project(project)?;
        self.run(running, "check".into(), |running| {
            self.alone(&running, |call| {
                let project = self.project(call, project)?;
                self.ask(
                    call,
                    &project,
                    |endpoint| {
                        // ListAuditInstances: GET /v1/{project_id}/audit/instances
                        let segments = ["v1", &project, "audit", "instances"];
                        let url = endpoint.url(&segments, &[("offset", "0"), ("limit", "1")])?;
                        Ok(Outgoing::get(url, &[]))
                    },
                    |answer| document::read(answer, &ASKED).map(drop),
                )
            })
        })
    }
}
