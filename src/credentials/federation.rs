//! Federated identities: IAM exchanges the token of an identity provider for its own, and
//! that for a temporary key.

use ::http::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::exchange::{Exchange, Refused, json, refused};
use super::id_token::IdToken;
use super::temporary_key::{KeySource, read};
use super::{CredentialSource, Credentials, RequestContext, iam};
use crate::error::{Error, Status};
use crate::http::Endpoint;

const IDP_ID: HeaderName = HeaderName::from_static("x-idp-id");

/// The requested lifetime of the key in seconds, that of the official SDKs.
const DURATION_SECONDS: u32 = 6 * 60 * 60;

/// An identity provider that IAM knows, and a token of it.
#[derive(Debug)]
pub(super) struct Federation {
    endpoint: Endpoint,
    idp_id: HeaderValue,
    id_token: IdToken,
    refused: Refused,
}

impl Federation {
    pub(super) fn new(
        endpoint: Endpoint,
        idp_id: &str,
        id_token: IdToken,
        parameter: &'static str,
    ) -> Result<Federation, Error> {
        let idp_id = HeaderValue::from_str(idp_id).map_err(|_| {
            Error::argument(
                Status::InvalidCredentials,
                parameter,
                "has characters that the id of an identity provider cannot have",
            )
        })?;
        Ok(Federation {
            endpoint,
            idp_id,
            id_token,
            refused: Refused::default(),
        })
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(self.idp_id.as_bytes()).into_owned()
    }

    fn exchange(
        &self,
        context: &RequestContext<'_>,
        id_token: &Zeroizing<String>,
    ) -> Result<Credentials, Error> {
        // KeystoneCreateUnscopedTokenWithIdToken
        let token = Exchange {
            segments: &["v3.0", "OS-AUTH", "id-token", "tokens"],
            header: Some((IDP_ID, self.idp_id.clone())),
            body: json(r#"{"auth":{"id_token":{"id":?}}}"#, &[id_token]),
            secrets: std::slice::from_ref(id_token),
            ..Exchange::new(context, &self.endpoint)
        }
        .send(context, &iam::subject_token)?;
        let token = Zeroizing::new(token.token().unwrap_or_default().to_owned());
        // CreateTemporaryAccessKeyByToken
        let template = format!(
            r#"{{"auth":{{"identity":{{"methods":["token"],"token":{{"id":?,"duration_seconds":{DURATION_SECONDS}}}}}}}}}"#
        );
        Exchange {
            segments: &["v3.0", "OS-CREDENTIAL", "securitytokens"],
            body: json(&template, &[&token]),
            secrets: std::slice::from_ref(&token),
            ..Exchange::new(context, &self.endpoint)
        }
        .send(context, &|response| read(response, "IAM"))
    }
}

impl KeySource for Federation {
    fn obtain(&self, context: &RequestContext<'_>) -> Result<Credentials, Error> {
        let _auxiliary = context.call.auxiliary_request(None);
        let token = self.id_token.read()?;
        self.refused.guard(
            token.as_bytes(),
            || self.exchange(context, &token),
            |e| {
                let what = format!("{} of the identity provider {}", self.id_token, self.name());
                refused(
                    e,
                    "IAM",
                    &what,
                    "whether the token has expired, and the identity provider",
                )
            },
        )
    }

    fn source(&self) -> CredentialSource {
        CredentialSource::Federation {
            provider: self.name(),
            iam: self.endpoint.origin(),
        }
    }
}
