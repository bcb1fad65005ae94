//! The credentials of a configuration. The kind that was set last counts.

use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

use crate::client::value::option_value;
use crate::credentials::{
    AccessKey, Account, Agency, CachedProvider, CallbackProvider, CredentialSource, CredentialsProvider,
    Environment, KeyFetcher, Login, Mfa, Purpose, Scope, StaticProvider, Token, TokenProvider, find,
};
use crate::error::{Error, Status};
use crate::http::Endpoint;
use crate::message::name;
use crate::tables::OptionSet;
use zeroize::Zeroizing;

use super::credentials_option::{CredentialsOption, Keys, User};
use super::{Config, regions};

/// The official SDKs' environment variables for the endpoints of IAM and STS.
const IAM_ENDPOINT: &str = "HUAWEICLOUD_SDK_IAM_ENDPOINT";
const STS_ENDPOINT: &str = "HUAWEICLOUD_SDK_STS_ENDPOINT";

/// The credentials provider, and the IAM endpoint to use with it.
pub(crate) struct ResolvedCredentials {
    pub(crate) provider: Option<Arc<dyn CredentialsProvider>>,
    pub(crate) iam: Endpoint,
    /// Whether the provider may send requests by https, on the client's connections.
    pub(crate) uses_https: bool,
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
        // The id may be set first.
        let id = self.user().id.take();
        self.replace_credentials(CredentialsOption::User(User {
            name: Some(user.to_owned()),
            password: Some(Zeroizing::new(password.to_owned())),
            domain: Some(domain.to_owned()),
            id,
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

    /// Sets the function that provides the passcodes of the IAM user's MFA device. None
    /// removes it.
    pub fn set_passcode_provider(&mut self, provider: Option<Arc<TokenProvider>>) {
        let old = std::mem::replace(&mut self.passcode_provider, provider);
        self.discarded.extend(old.map(CredentialsOption::Provider));
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
        self.has_iam_user() || self.region.is_some() || self.agency.name.is_some()
    }

    /// Makes the configured credentials provider, if any.
    pub(crate) fn credentials(&self, environment: &Environment<'_>) -> Result<ResolvedCredentials, Error> {
        let endpoint = |purpose: Purpose<'_>| match purpose {
            Purpose::Iam(of_profile) => self.iam(environment, of_profile, true),
            Purpose::Sts => self.sts(environment),
        };
        let found = match &self.credentials {
            CredentialsOption::Find(selector) => Some(find(*selector, environment, &endpoint)?),
            _ => None,
        };
        let of_profile = found.as_ref().and_then(|found| found.iam_endpoint.as_deref());
        let iam = self.iam(environment, of_profile, self.uses_iam())?;
        let of_provider = found.as_ref().and_then(|found| found.endpoint.as_ref());
        let uses_https = self.uses_iam() && iam.is_https() || of_provider.is_some_and(Endpoint::is_https);
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
        Ok(ResolvedCredentials {
            provider: self.with_agency(provider, &iam)?,
            iam,
            uses_https,
        })
    }

    /// Returns the endpoint of IAM. `is_used` says whether a variable may name it: a wrong
    /// one does no harm where nothing needs IAM.
    fn iam(
        &self,
        environment: &Environment<'_>,
        of_profile: Option<&str>,
        is_used: bool,
    ) -> Result<Endpoint, Error> {
        let variable = (environment.variable)(IAM_ENDPOINT).filter(|value| !value.is_empty() && is_used);
        let (iam, parameter) = match (&self.iam_endpoint, of_profile, variable) {
            (Some(iam), _, _) => (iam.clone(), "iam_endpoint"),
            (None, Some(url), _) => (Endpoint::parse_service(url, "iam_endpoint")?, "iam_endpoint"),
            (None, None, Some(url)) => (endpoint_of(&url, IAM_ENDPOINT)?, IAM_ENDPOINT),
            (None, None, None) => (regions::iam(self.region.as_deref())?, "region"),
        };
        self.check_plaintext(&iam, parameter)?;
        Ok(iam)
    }

    /// Returns the endpoint of the security token service.
    fn sts(&self, environment: &Environment<'_>) -> Result<Endpoint, Error> {
        let variable = (environment.variable)(STS_ENDPOINT).filter(|value| !value.is_empty());
        let (sts, parameter) = match (&self.sts_endpoint, variable, &self.region) {
            (Some(sts), _, _) => (sts.clone(), "sts_endpoint"),
            (None, Some(url), _) => (endpoint_of(&url, STS_ENDPOINT)?, STS_ENDPOINT),
            (None, None, Some(region)) => (regions::sts(region)?, "region"),
            (None, None, None) => {
                return Err(Error::argument(
                    Status::NotConfigured,
                    "region",
                    format_args!(
                        "is missing: an OIDC token is exchanged at the region's STS; set {} or {}",
                        name("region"),
                        name("sts_endpoint")
                    ),
                ));
            }
        };
        self.check_plaintext(&sts, parameter)?;
        Ok(sts)
    }

    /// Makes the provider of the agency, if one is configured, for these credentials.
    fn with_agency(
        &self,
        provider: Option<Arc<dyn CredentialsProvider>>,
        iam: &Endpoint,
    ) -> Result<Option<Arc<dyn CredentialsProvider>>, Error> {
        let agency = &self.agency;
        let wrong = |key, what: fmt::Arguments<'_>| Err(Error::argument(Status::NotConfigured, key, what));
        let (name, account) = match (&agency.name, &agency.domain, &agency.domain_id) {
            (None, None, None) => return Ok(provider),
            (None, ..) => {
                return wrong(
                    "agency_name",
                    format_args!("is missing: the account of an agency is configured"),
                );
            }
            (Some(name), Some(account), None) => (name, Account::Name(account.clone())),
            (Some(name), None, Some(id)) => (name, Account::Id(id.clone())),
            (Some(_), None, None) => {
                return wrong(
                    "agency_domain",
                    format_args!(
                        "is missing: an agency needs its account, {} or {}",
                        name("agency_domain"),
                        name("agency_domain_id")
                    ),
                );
            }
            (Some(_), Some(_), Some(_)) => {
                return wrong(
                    "agency_domain_id",
                    format_args!(
                        "cannot be set together with {}: both are the account of the agency",
                        name("agency_domain")
                    ),
                );
            }
        };
        let Some(provider) = provider else {
            return Ok(None);
        };
        let seconds = agency.duration.as_secs();
        let agency = Agency::new(iam.clone(), name.clone(), account, seconds, provider);
        let fetcher = KeyFetcher::new(vec![Box::new(agency)]);
        Ok(Some(Arc::new(CachedProvider::new(fetcher))))
    }

    fn login(&self, user: &User, iam: &Endpoint) -> Result<Login, Error> {
        let missing = |key| {
            Error::argument(
                Status::NotConfigured,
                key,
                format_args!(
                    "is missing: an IAM user logs in with {}, {} and {}",
                    name("iam_user"),
                    name("iam_password"),
                    name("iam_domain")
                ),
            )
        };
        // With an agency the project is that of its account, and the user has another one.
        let project = self.project_id.as_ref().filter(|_| self.agency.name.is_none());
        let scope = match (project, &self.region) {
            (Some(id), _) => Scope::ProjectId(id.clone()),
            (None, Some(region)) => Scope::Region(region.clone()),
            (None, None) => {
                return Err(Error::argument(
                    Status::NotConfigured,
                    "region",
                    format_args!(
                        "is missing: a login needs a region or a project; set {} or {}",
                        name("region"),
                        name("project_id")
                    ),
                ));
            }
        };
        let mfa = match (&user.id, &self.passcode_provider) {
            (Some(id), Some(provider)) => Some(Mfa::new(id.clone(), Arc::clone(provider))),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Error::argument(
                    Status::NotConfigured,
                    "iam_user_id",
                    "is for a login with a passcode, which needs a passcode provider",
                ));
            }
            (None, Some(_)) => {
                return Err(Error::argument(
                    Status::NotConfigured,
                    "iam_user_id",
                    "is missing: IAM needs the user's id with a passcode",
                ));
            }
        };
        Ok(Login {
            endpoint: iam.clone(),
            user: user.name.clone().ok_or_else(|| missing("iam_user"))?,
            password: user.password.clone().ok_or_else(|| missing("iam_password"))?,
            domain: user.domain.clone().ok_or_else(|| missing("iam_domain"))?,
            scope,
            mfa,
        })
    }
}

fn endpoint_of(variable: &OsStr, name: &'static str) -> Result<Endpoint, Error> {
    Endpoint::parse_service(variable.to_string_lossy().trim(), name)
}
