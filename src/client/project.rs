//! Finds the default project of calls.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::arguments::{PROJECT_OR_INSTANCE_ID, check_id};
use crate::credentials::{
    Completion, Credentials, CredentialsProvider, RequestContext, SingleFlight, find_project,
    with_credential_retry,
};
use crate::error::{Error, Status};
use crate::http::Endpoint;
use crate::log::{Level, LogRecord};
use crate::message::name;

/// Finds the project: the configured one, else that of the credentials, else the one with
/// the region's name, which is looked up at IAM.
pub(super) struct ProjectLookup {
    configured: Option<String>,
    region: Option<String>,
    iam: Endpoint,
    /// The cached result of the look-up at IAM.
    found: ArcSwap<SingleFlight<String>>,
}

impl ProjectLookup {
    pub(super) fn new(configured: Option<String>, region: Option<String>, iam: Endpoint) -> ProjectLookup {
        ProjectLookup {
            configured,
            region,
            iam,
            found: ArcSwap::from_pointee(SingleFlight::new()),
        }
    }

    /// Returns the project that the client was configured with.
    pub(super) fn configured(&self) -> Option<&str> {
        self.configured.as_deref()
    }

    /// Clears the cached result, because new credentials may belong to another account.
    pub(super) fn reset(&self) {
        self.found.store(Arc::new(SingleFlight::new()));
    }

    pub(super) fn find(
        &self,
        provider: &dyn CredentialsProvider,
        context: &RequestContext<'_>,
    ) -> Result<String, Error> {
        let project = with_credential_retry(
            provider,
            context,
            |credentials| match &credentials.project {
                Some(project) => Ok(project.clone()),
                None => self.look_up_at_iam(context, credentials),
            },
            |result| matches!(result, Err(e) if e.status() == Status::Unauthenticated),
        )?;
        check_id(&project, "project", PROJECT_OR_INSTANCE_ID)?;
        Ok(project)
    }

    fn look_up_at_iam(
        &self,
        context: &RequestContext<'_>,
        credentials: &Credentials,
    ) -> Result<String, Error> {
        let Some(region) = &self.region else {
            return Err(Error::argument(
                Status::NotConfigured,
                "project",
                format_args!(
                    "is not set, and there is no region whose project could be looked up; set {} or {}",
                    name("project_id"),
                    name("region")
                ),
            ));
        };
        let fetch = |completion: Completion<String>| {
            let _auxiliary = context.call.auxiliary_request(None);
            (context.log)(Level::Info, &|| {
                let iam = self.iam.origin();
                LogRecord::new(format!("looking up the project of the region {region} at {iam}"))
            });
            let found = find_project(context, &self.iam, region, credentials);
            if found.is_ok() {
                credentials.accept();
            }
            completion.complete(found.map_err(Error::no_retry));
        };
        let found = self.found.load_full();
        let id = found.get(context.call, |_| true, fetch)?;
        Ok(String::clone(&id))
    }
}
