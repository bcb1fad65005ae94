//! An agency of another account: its temporary key, for the credentials of an account that
//! it trusts.

use std::sync::Arc;

use super::exchange::{Exchange, Refused, json, refused};
use super::temporary_key::{KeySource, read};
use super::{CredentialSource, Credentials, CredentialsProvider, RequestContext, with_credential_retry};
use crate::error::{Error, Status};
use crate::http::Endpoint;

/// The account of an agency.
#[derive(Clone, Debug)]
pub(crate) enum Account {
    Name(String),
    Id(String),
}

/// An agency, and the credentials that may assume it.
#[derive(Debug)]
pub(crate) struct Agency {
    pub(crate) endpoint: Endpoint,
    pub(crate) name: String,
    pub(crate) account: Account,
    pub(crate) duration_seconds: u64,
    pub(crate) provider: Arc<dyn CredentialsProvider>,
    refused: Refused,
}

impl Agency {
    pub(crate) fn new(
        endpoint: Endpoint,
        name: String,
        account: Account,
        duration_seconds: u64,
        provider: Arc<dyn CredentialsProvider>,
    ) -> Agency {
        Agency {
            endpoint,
            name,
            account,
            duration_seconds,
            provider,
            refused: Refused::default(),
        }
    }

    fn assume(&self, context: &RequestContext<'_>, credentials: &Credentials) -> Result<Credentials, Error> {
        let _auxiliary = context.call.auxiliary_request(None);
        let (key, account) = match &self.account {
            Account::Name(name) => ("domain_name", name),
            Account::Id(id) => ("domain_id", id),
        };
        let template = format!(
            r#"{{"auth":{{"identity":{{"methods":["assume_role"],"assume_role":{{"agency_name":?,"{key}":?,"duration_seconds":{}}}}}}}}}"#,
            self.duration_seconds
        );
        // CreateTemporaryAccessKeyByAgency
        let exchange = || {
            Exchange {
                segments: &["v3.0", "OS-CREDENTIAL", "securitytokens"],
                body: json(&template, &[&self.name, account]),
                credentials: Some(credentials),
                ..Exchange::new(context, &self.endpoint)
            }
            .send(context, &|response| read(response, "IAM"))
        };
        let key = self.refused.guard(&credentials.fingerprint(), exchange, |e| {
            let what = format!("the agency {} of the account {account}", self.name);
            refused(
                e,
                "IAM",
                &what,
                "the agency, the account, and the credentials for it",
            )
        });
        if key.is_ok() {
            credentials.accept();
        }
        key
    }
}

impl KeySource for Agency {
    fn obtain(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        with_credential_retry(
            self.provider.as_ref(),
            context,
            |credentials| self.assume(context, credentials),
            |result| matches!(result, Err(e) if e.status() == Status::Unauthenticated),
        )
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::Agency {
            agency: self.name.clone(),
            base: Box::new(self.provider.source()),
        }
    }
}
