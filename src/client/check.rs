//! Finding out who the context is, and whether the service knows it.

use std::ffi::CStr;
use std::time::SystemTime;

use super::arguments::check_project;
use super::context::Client;
use super::document;
use crate::error::Error;
use crate::http::{Asked, Outgoing};
use crate::operation::Running;

const ASKED: Asked = Asked {
    who: "the service",
    missing: ("knows no such project", "; check the region and the project"),
};

/// Credentials that were found; none of it is secret.
#[derive(Debug)]
pub struct Identity {
    /// The name of their source.
    pub source: &'static CStr,
    /// Their source in words.
    pub description: String,
    /// The user, or a masked access key.
    pub name: Option<String>,
    /// The project of calls that are given none.
    pub project: Option<String>,
    /// When they expire.
    pub expires: Option<SystemTime>,
}

impl Client {
    /// Finds the credentials, as a call would.
    pub fn find_credentials(&self, running: Option<Running>) -> Result<Identity, Error> {
        self.run(running, "credentials".into(), |running| {
            self.alone(&running, |call| {
                let (origin, grant) = self.obtain(call)?;
                let project = self.own_project().map(str::to_owned);
                Ok(Identity {
                    source: origin.name(),
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
    pub fn check(&self, project: Option<&str>, running: Option<Running>) -> Result<(), Error> {
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
