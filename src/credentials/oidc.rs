//! An agency for the token of an OpenID Connect provider, from the security token service.

use super::exchange::{Exchange, Refused, json, refused};
use super::id_token::IdToken;
use super::temporary_key::{KeySource, read};
use super::{CredentialSource, Credentials, RequestContext};
use crate::error::Error;
use crate::http::Endpoint;

const SERVER: &str = "STS";

/// The parameters of AssumeAgencyWithOIDC. None of them is secret, but the token.
#[derive(Debug)]
pub(super) struct Oidc {
    pub(super) endpoint: Endpoint,
    pub(super) provider_urn: String,
    pub(super) agency_urn: String,
    pub(super) session_name: String,
    pub(super) duration_seconds: u64,
    pub(super) policy: Option<String>,
    pub(super) policy_ids: Vec<String>,
    pub(super) id_token: IdToken,
    pub(super) refused: Refused,
}

impl Oidc {
    fn template(&self) -> String {
        let policy = self.policy.as_ref().map_or("", |_| r#","policy":?"#);
        let ids = match vec!["?"; self.policy_ids.len()].join(",") {
            ids if ids.is_empty() => ids,
            ids => format!(r#","policy_ids":[{ids}]"#),
        };
        format!(
            r#"{{"provider_urn":?,"agency_urn":?,"agency_session_name":?,"id_token":?,"duration_seconds":{}{policy}{ids}}}"#,
            self.duration_seconds
        )
    }
}

impl KeySource for Oidc {
    fn obtain(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        let _auxiliary = context.call.auxiliary_request(None);
        let token = self.id_token.read()?;
        let mut texts: Vec<&str> = vec![&self.provider_urn, &self.agency_urn, &self.session_name, &token];
        texts.extend(self.policy.as_deref());
        texts.extend(self.policy_ids.iter().map(String::as_str));
        let exchange = || {
            // AssumeAgencyWithOIDC
            Exchange {
                server: SERVER,
                segments: &["v5", "agencies", "assume-with-oidc"],
                body: json(&self.template(), &texts),
                secrets: std::slice::from_ref(&token),
                ..Exchange::new(context, &self.endpoint)
            }
            .send(context, &|response| read(response, SERVER))
        };
        self.refused.guard(token.as_bytes(), exchange, |e| {
            let what = format!("{} for the agency {}", self.id_token, self.agency_urn);
            refused(
                e,
                SERVER,
                &what,
                "whether the token has expired, the provider and the agency",
            )
        })
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::Oidc {
            agency: self.agency_urn.clone(),
            sts: self.endpoint.origin(),
        }
    }
}
