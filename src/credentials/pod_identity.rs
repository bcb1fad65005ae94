//! The temporary key of a pod, from the agent on its node.

use std::time::Duration;

use ::http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::exchange::{Exchange, Refused, refused};
use super::id_token::IdToken;
use super::temporary_key::{KeySource, read};
use super::{CredentialSource, Credentials, RequestContext, secret};
use crate::error::{Error, Status};
use crate::http::{Endpoint, Http};

const SERVER: &str = "the pod identity agent";

/// The agent is on the same node: it responds quickly. That of the official SDKs.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The agent, and the pod's token for it.
#[derive(Debug)]
pub(super) struct PodIdentity {
    pub(super) endpoint: Endpoint,
    /// Whether its URL ends with a slash, which an [`Endpoint`] leaves out.
    pub(super) ends_with_slash: bool,
    /// Separate connections: the rules for plain http are others.
    pub(super) http: Http,
    pub(super) token: IdToken,
    pub(super) refused: Refused,
}

impl KeySource for PodIdentity {
    fn obtain(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        let _auxiliary = context.call.auxiliary_request(Some(TIMEOUT));
        let token = self.token.read()?;
        let exchange = || {
            let header = secret::header(token.as_bytes(), Status::InvalidCredentials, "token")?;
            Exchange {
                http: &self.http,
                server: SERVER,
                segments: if self.ends_with_slash { &[""] } else { &[] },
                header: Some((AUTHORIZATION, header)),
                body: Zeroizing::new(b"{}".to_vec()),
                ..Exchange::new(context, &self.endpoint)
            }
            .send(context, &|response| read(response, SERVER))
        };
        self.refused.guard(token.as_bytes(), exchange, |e| {
            refused(
                e,
                SERVER,
                &self.token.to_string(),
                "the token and the pod's agency",
            )
        })
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::PodIdentity(self.endpoint.origin())
    }
}
