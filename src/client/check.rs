//! Finds the client's credentials, and checks whether the service accepts them.

use std::time::SystemTime;

use super::arguments::check_project;
use super::inner::ClientInner;
use super::reports::list::List;
use crate::error::Error;
use crate::http::{Endpoint, JSON, Request};
use crate::operation::ActiveOperation;

/// A description of credentials without their secrets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Identity {
    /// Where they come from: token, access_key, token_provider, iam_user, environment,
    /// profile, metadata, oidc, federation, pod_identity or agency. Newer versions may add
    /// more.
    pub source: &'static str,
    /// A description of the source, with the variable, file or address.
    pub description: String,
    /// The user's name, or the access key with its middle masked. None if it is not
    /// known.
    pub name: Option<String>,
    /// The id of the default project of calls, if it is known without a look-up.
    pub project: Option<String>,
    /// When they expire. None if they do not, or if it is not known.
    pub expires: Option<SystemTime>,
}

impl ClientInner {
    /// Finds the credentials in the same way as a call.
    pub(super) fn find_credentials(&self, active: Option<ActiveOperation>) -> Result<Identity, Error> {
        self.run(active, "credentials".into(), |active| {
            self.with_call(&active, |call| {
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

    /// Checks whether the service accepts the credentials, by listing one instance of the
    /// project.
    pub(super) fn check(&self, project: Option<&str>, active: Option<ActiveOperation>) -> Result<(), Error> {
        check_project(project)?;
        self.run(active, "check".into(), |active| {
            self.with_call(&active, |call| {
                let project = self.project(call, project)?;
                let request = |endpoint: &Endpoint, version| {
                    let url = List::Instances.url(endpoint, &project, 0, 1, version)?;
                    Ok(Request::get(url, &JSON))
                };
                // A response that is no list, such as a web page, is not the service's.
                self.fetch_instances(call, &project, request, |response| {
                    List::Instances.read(response).map(drop)
                })
            })
        })
    }
}
