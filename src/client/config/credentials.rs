//! The credentials of a configuration. The kind that was set last counts.

use std::sync::Arc;

use crate::client::value::option_value;
use crate::credentials::{
    AccessKey, CachedProvider, CallbackProvider, CredentialSource, CredentialsProvider, Environment, Login,
    Scope, StaticProvider, Token, TokenProvider, find,
};
use crate::error::{Error, Status};
use crate::http::Endpoint;
use crate::tables::OptionSet;
use zeroize::Zeroizing;

use super::credentials_option::{CredentialsOption, Keys, User};
use super::{Config, regions};

/// The official SDKs' environment variable for the endpoint of IAM.
const IAM_ENDPOINT: &str = "HUAWEICLOUD_SDK_IAM_ENDPOINT";

/// The credentials provider, and the IAM endpoint to use with it.
pub(crate) struct ResolvedCredentials {
    pub(crate) provider: Option<Arc<dyn CredentialsProvider>>,
    pub(crate) iam: Endpoint,
}

impl Config {
    /// Sets the token and replaces other credentials.
    pub fn set_token(&mut self, token: &[u8]) -> Result<(), Error> {
        let token = Token::new(token)?;
        self.replace_credentials(CredentialsOption::Token(token));
        Ok(())
    }

    /// Sets the access key and replaces other credentials.
    pub fn set_access_key(
        &mut self,
        access_key: &[u8],
        secret_key: &[u8],
        security_token: Option<&[u8]>,
    ) -> Result<(), Error> {
        AccessKey::new(access_key, secret_key, security_token)?;
        self.replace_credentials(CredentialsOption::AccessKey(Keys {
            access_key: Some(access_key.to_vec()),
            secret_key: Some(Zeroizing::new(secret_key.to_vec())),
            security_token: security_token.map(|token| Zeroizing::new(token.to_vec())),
        }));
        Ok(())
    }

    /// Sets the IAM user who logs in, and replaces other credentials.
    pub fn set_iam_user(&mut self, user: &str, password: &str, domain: &str) -> Result<(), Error> {
        for (parameter, key, value) in [
            ("user", "iam_user", user),
            ("password", "iam_password", password),
            ("domain", "iam_domain", domain),
        ] {
            option_value(OptionSet::Config, key, value.as_bytes()).map_err(|e| {
                let status = e.status();
                e.with_parameter(status, parameter)
            })?;
        }
        self.replace_credentials(CredentialsOption::User(User {
            name: Some(user.to_owned()),
            password: Some(Zeroizing::new(password.to_owned())),
            domain: Some(domain.to_owned()),
        }));
        Ok(())
    }

    /// Sets the token provider and replaces other credentials. None removes the provider.
    pub fn set_token_provider(&mut self, provider: Option<Arc<TokenProvider>>) {
        match provider {
            Some(provider) => self.replace_credentials(CredentialsOption::Provider(provider)),
            None if matches!(self.credentials, CredentialsOption::Provider(_)) => {
                self.replace_credentials(CredentialsOption::None)
            }
            None => {}
        }
    }

    pub(super) fn replace_credentials(&mut self, credentials: CredentialsOption) {
        let old = std::mem::replace(&mut self.credentials, credentials);
        self.discarded.push(old);
    }

    /// Takes the replaced credentials, so that the caller drops them without holding a
    /// lock.
    pub fn take_discarded(&mut self) -> impl Sized + use<> {
        std::mem::take(&mut self.discarded)
    }

    pub(super) fn keys(&mut self) -> &mut Keys {
        if !matches!(self.credentials, CredentialsOption::AccessKey(_)) {
            self.replace_credentials(CredentialsOption::AccessKey(Keys::default()));
        }
        match &mut self.credentials {
            CredentialsOption::AccessKey(keys) => keys,
            _ => unreachable!("the variant was set above"),
        }
    }

    pub(super) fn user(&mut self) -> &mut User {
        if !matches!(self.credentials, CredentialsOption::User(_)) {
            self.replace_credentials(CredentialsOption::User(User::default()));
        }
        match &mut self.credentials {
            CredentialsOption::User(user) => user,
            _ => unreachable!("the variant was set above"),
        }
    }

    /// Whether the credentials are those of an IAM user.
    pub(super) fn has_iam_user(&self) -> bool {
        matches!(self.credentials, CredentialsOption::User(_))
    }

    /// Whether calls may use IAM, for a login or to look up the region's project.
    pub(crate) fn uses_iam(&self) -> bool {
        self.has_iam_user() || self.region.is_some()
    }

    /// Makes the configured credentials provider, if any.
    pub(crate) fn credentials(&self, environment: &Environment<'_>) -> Result<ResolvedCredentials, Error> {
        let found = match &self.credentials {
            CredentialsOption::Find(selector) => Some(find(*selector, environment)?),
            _ => None,
        };
        let profile_endpoint = found.as_ref().and_then(|found| found.iam_endpoint.as_deref());
        let variable =
            (environment.variable)(IAM_ENDPOINT).filter(|value| !value.is_empty() && self.uses_iam());
        let (iam, parameter) = match (&self.iam_endpoint, profile_endpoint, variable) {
            (Some(iam), _, _) => (iam.clone(), "iam_endpoint"),
            (None, Some(url), _) => (
                Endpoint::parse(&regions::with_scheme(url), "iam_endpoint")?,
                "iam_endpoint",
            ),
            (None, None, Some(url)) => (
                Endpoint::parse(&regions::with_scheme(url.to_string_lossy().trim()), IAM_ENDPOINT)?,
                IAM_ENDPOINT,
            ),
            (None, None, None) => (regions::iam(self.region.as_deref())?, "region"),
        };
        self.check_plaintext(&iam, parameter)?;
        let provider: Option<Arc<dyn CredentialsProvider>> = match &self.credentials {
            CredentialsOption::None => None,
            CredentialsOption::Token(token) => Some(Arc::new(StaticProvider::new(
                token.clone().into(),
                CredentialSource::Token,
            ))),
            CredentialsOption::AccessKey(keys) => Some(Arc::new(keys.provider()?)),
            CredentialsOption::User(user) => Some(Arc::new(CachedProvider::new(self.login(user, &iam)?))),
            CredentialsOption::Provider(provider) => Some(Arc::new(CachedProvider::new(
                CallbackProvider::new(Arc::clone(provider)),
            ))),
            CredentialsOption::Find(_) => found.map(|found| found.provider),
        };
        Ok(ResolvedCredentials { provider, iam })
    }

    fn login(&self, user: &User, iam: &Endpoint) -> Result<Login, Error> {
        let missing = |key| {
            Error::argument(
                Status::NotConfigured,
                key,
                "is missing: an IAM user logs in with iam_user, iam_password and iam_domain",
            )
        };
        let scope = match (&self.project_id, &self.region) {
            (Some(id), _) => Scope::ProjectId(id.clone()),
            (None, Some(region)) => Scope::Region(region.clone()),
            (None, None) => {
                return Err(Error::argument(
                    Status::NotConfigured,
                    "region",
                    "is missing: a login needs a region or a project_id; set one of them",
                ));
            }
        };
        Ok(Login {
            endpoint: iam.clone(),
            user: user.name.clone().ok_or_else(|| missing("iam_user"))?,
            password: user.password.clone().ok_or_else(|| missing("iam_password"))?,
            domain: user.domain.clone().ok_or_else(|| missing("iam_domain"))?,
            scope,
        })
    }
}
