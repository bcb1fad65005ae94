//! The kinds of credentials that a configuration can have.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::credentials::{
    AccessKey, CredentialSource, Credentials, SourceSelector, StaticProvider, Token, TokenProvider, masked,
};
use crate::error::{Error, Status};
use crate::message::name;
use zeroize::Zeroizing;

/// The configured credentials. The kind that was set last counts.
#[derive(Clone, Default)]
pub(super) enum CredentialsOption {
    #[default]
    None,
    Token(Token),
    AccessKey(Keys),
    User(User),
    Provider(Arc<TokenProvider>),
    Find(SourceSelector),
}

/// An access key, possibly incomplete.
#[derive(Clone, Default)]
pub(super) struct Keys {
    pub(super) access_key: Option<Vec<u8>>,
    pub(super) secret_key: Option<Zeroizing<Vec<u8>>>,
    pub(super) security_token: Option<Zeroizing<Vec<u8>>>,
}

/// An agency of another account, possibly incomplete.
#[derive(Clone, Debug, Default)]
pub(super) struct AgencyOption {
    pub(super) name: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) domain_id: Option<String>,
    pub(super) duration: Duration,
}

/// An IAM user, possibly incomplete.
#[derive(Clone, Default)]
pub(super) struct User {
    pub(super) name: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
    pub(super) domain: Option<String>,
    pub(super) id: Option<String>,
}

impl fmt::Debug for CredentialsOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |set| if set { "***" } else { "none" };
        match self {
            CredentialsOption::None => f.write_str("None"),
            CredentialsOption::Token(token) => write!(f, "{token:?}"),
            CredentialsOption::AccessKey(keys) => write!(
                f,
                "AccessKey({}, {}, {})",
                set(keys.access_key.is_some()),
                set(keys.secret_key.is_some()),
                set(keys.security_token.is_some())
            ),
            CredentialsOption::User(user) => {
                let password = set(user.password.is_some());
                write!(
                    f,
                    "User({:?}, {password}, {:?}, {:?})",
                    user.name, user.domain, user.id
                )
            }
            CredentialsOption::Provider(_) => f.write_str("Provider"),
            CredentialsOption::Find(selector) => write!(f, "Find({selector:?})"),
        }
    }
}

impl Keys {
    pub(super) fn provider(&self) -> Result<StaticProvider, Error> {
        let missing = |key, other| {
            Error::argument(
                Status::NotConfigured,
                key,
                format_args!("is missing: {} is configured and needs it", name(other)),
            )
        };
        let (id, key) = match (&self.access_key, &self.secret_key) {
            (Some(id), Some(key)) => (id, key),
            (Some(_), None) => return Err(missing("secret_key", "access_key")),
            (None, Some(_)) => return Err(missing("access_key", "secret_key")),
            (None, None) => return Err(missing("access_key", "security_token")),
        };
        let token = self.security_token.as_ref().map(|token| token.as_slice());
        let name = masked(&String::from_utf8_lossy(id));
        let credentials = Credentials::from(AccessKey::new(id, key, token)?).with_name(Some(name));
        Ok(StaticProvider::new(credentials, CredentialSource::AccessKey))
    }
}
