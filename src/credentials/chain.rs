//! Finds credentials in the places where the official SDKs look, in the same order: the
//! token of an OIDC provider, the environment, the profile file, the instance's metadata
//! service, the pod identity agent. The variable names are those of the SDKs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::exchange::Refused;
use super::federation::Federation;
use super::id_token::IdToken;
use super::oidc::Oidc;
use super::pod_identity::PodIdentity;
use super::profile::{Found, Identity};
use super::source::ACCESS_KEY_VARIABLE as AK;
use super::temporary_key::KeySource;
use super::{
    AccessKey, CachedProvider, CredentialSource, Credentials, CredentialsProvider, KeyFetcher, Metadata,
    SourceSelector, StaticProvider, masked, none_found, profile,
};
use crate::error::{Error, Status};
use crate::http::{Endpoint, Http};
use crate::log::{Level, LogFn};

const SK: &str = "HUAWEICLOUD_SDK_SK";
const SECURITY_TOKEN: &str = "HUAWEICLOUD_SDK_SECURITY_TOKEN";
const PROJECT_ID: &str = "HUAWEICLOUD_SDK_PROJECT_ID";
const IDP_ID: &str = "HUAWEICLOUD_SDK_IDP_ID";
const ID_TOKEN_FILE: &str = "HUAWEICLOUD_SDK_ID_TOKEN_FILE";
const OIDC_PROVIDER: &str = "HUAWEICLOUD_OIDC_PROVIDER_URN";
const OIDC_AGENCY: &str = "HUAWEICLOUD_OIDC_AGENCY_URN";
const OIDC_TOKEN: &str = "HUAWEICLOUD_OIDC_ID_TOKEN";
const OIDC_TOKEN_FILE: &str = "HUAWEICLOUD_OIDC_TOKEN_FILE";
const OIDC_SESSION: &str = "HUAWEICLOUD_OIDC_SESSION_NAME";
const OIDC_DURATION: &str = "HUAWEICLOUD_OIDC_DURATION_SECONDS";
const OIDC_POLICY: &str = "HUAWEICLOUD_OIDC_POLICY";
const OIDC_POLICY_IDS: &str = "HUAWEICLOUD_OIDC_POLICY_IDS";
const POD_URI: &str = "HC_CONTAINER_CREDENTIALS_FULL_URI";
const POD_TOKEN_FILE: &str = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// The defaults of the official SDKs.
const DEFAULT_SESSION: &str = "oidc-sts-session";
const DEFAULT_DURATION: &str = "3600";

/// What an endpoint is used for, beside the service itself.
#[derive(Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// IAM, whose endpoint a profile may have.
    Iam(Option<&'a str>),
    Sts,
}

/// The inputs of the search.
pub(crate) struct Environment<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(crate) log: &'a LogFn<'a>,
    pub(crate) metadata: &'a dyn Fn() -> Result<Metadata, Error>,
    /// Makes the client for the pod identity agent.
    pub(crate) agent: &'a dyn Fn(&Endpoint) -> Result<Http, Error>,
}

/// Finds the endpoint for a purpose.
pub(crate) type FindEndpoint<'a> = dyn Fn(Purpose<'_>) -> Result<Endpoint, Error> + 'a;

/// The provider that was found.
pub(crate) struct FoundCredentials {
    pub(crate) provider: Arc<dyn CredentialsProvider>,
    /// The address of IAM, if the profile has one.
    pub(crate) iam_endpoint: Option<String>,
    /// The endpoint that the provider uses on the client's connections, if any.
    pub(crate) endpoint: Option<Endpoint>,
}

impl FoundCredentials {
    fn fixed(credentials: Credentials, source: CredentialSource) -> FoundCredentials {
        FoundCredentials {
            provider: Arc::new(StaticProvider::new(credentials, source)),
            iam_endpoint: None,
            endpoint: None,
        }
    }

    fn fetched(fetcher: KeyFetcher, endpoint: Option<Endpoint>) -> FoundCredentials {
        FoundCredentials {
            provider: Arc::new(CachedProvider::new(fetcher)),
            iam_endpoint: None,
            endpoint,
        }
    }
}

/// Finds credentials. Credentials that are present but invalid are an error and are not
/// skipped, because the user meant them to be used.
pub(crate) fn find(
    selector: SourceSelector,
    environment: &Environment<'_>,
    endpoint: &FindEndpoint<'_>,
) -> Result<FoundCredentials, Error> {
    use SourceSelector as Selector;
    let variables = Variables(environment.variable);
    let wanted = |sources: &[SourceSelector]| selector == Selector::Default || sources.contains(&selector);
    let mut missing = Vec::new();
    if wanted(&[Selector::Oidc]) {
        match from_oidc(&variables, endpoint)? {
            Some(found) => return Ok(found),
            None => missing.push(format!("{OIDC_PROVIDER} and {OIDC_AGENCY} are not set")),
        }
    }
    let with_key = selector != Selector::Federation;
    if wanted(&[Selector::Environment, Selector::Federation]) {
        match from_environment(&variables, endpoint, with_key)? {
            Some(found) => return Ok(found),
            None if with_key => missing.push(format!("{AK} and {SK} are not set")),
            None => missing.push(format!("{IDP_ID} and {ID_TOKEN_FILE} are not set")),
        }
    }
    if wanted(&[Selector::Profile, Selector::Federation]) {
        match from_profile(environment, endpoint, with_key)? {
            Ok(found) => return Ok(found),
            Err(why) => missing.push(why),
        }
    }
    let mut sources: Vec<Box<dyn KeySource>> = Vec::new();
    if wanted(&[Selector::Metadata]) {
        sources.push(Box::new((environment.metadata)()?));
    }
    if wanted(&[Selector::PodIdentity]) {
        match from_pod(&variables, environment)? {
            Some(pod) => sources.push(Box::new(pod)),
            None if selector == Selector::Default => {}
            None => missing.push(format!("{POD_URI} and {POD_TOKEN_FILE} are not set")),
        }
    }
    if sources.is_empty() {
        return Err(none_found(&missing));
    }
    Ok(FoundCredentials::fetched(
        KeyFetcher::new(sources).with_missing(missing),
        None,
    ))
}

/// The variables of the environment. An empty one counts as missing, as in the SDKs.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn bytes(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        (self.0)(name)
            .map(|value| Zeroizing::new(value.as_bytes().to_vec()))
            .filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.0)(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// Returns a value that is not secret.
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name)
            .filter(|value| !value.is_empty())
            .map(|value| value.to_string_lossy().into_owned())
    }
}

fn incomplete(missing: &'static str, other: &str) -> Error {
    Error::argument(
        Status::InvalidCredentials,
        missing,
        format_args!("is not set, but {other} is; set both"),
    )
}

fn from_oidc(
    variables: &Variables<'_>,
    endpoint: &FindEndpoint<'_>,
) -> Result<Option<FoundCredentials>, Error> {
    let file = variables.path(OIDC_TOKEN_FILE).map(|path| IdToken::File {
        path,
        parameter: OIDC_TOKEN_FILE,
    });
    let value = variables.bytes(OIDC_TOKEN);
    let (provider_urn, agency_urn, id_token) = match (
        variables.text(OIDC_PROVIDER),
        variables.text(OIDC_AGENCY),
        value,
        file,
    ) {
        (Some(provider), Some(agency), Some(value), _) => {
            (provider, agency, IdToken::of_value(&value, OIDC_TOKEN)?)
        }
        (Some(provider), Some(agency), None, Some(file)) => (provider, agency, file),
        (None, None, None, None) => return Ok(None),
        (Some(_), None, ..) => return Err(incomplete(OIDC_AGENCY, OIDC_PROVIDER)),
        (Some(_), Some(_), None, None) => return Err(incomplete(OIDC_TOKEN_FILE, OIDC_PROVIDER)),
        (None, Some(_), ..) => return Err(incomplete(OIDC_PROVIDER, OIDC_AGENCY)),
        (None, None, Some(_), _) => return Err(incomplete(OIDC_PROVIDER, OIDC_TOKEN)),
        (None, None, None, Some(_)) => return Err(incomplete(OIDC_PROVIDER, OIDC_TOKEN_FILE)),
    };
    let duration = variables.text(OIDC_DURATION);
    let duration_seconds = duration
        .as_deref()
        .unwrap_or(DEFAULT_DURATION)
        .parse()
        .ok()
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| {
            Error::argument(
                Status::InvalidCredentials,
                OIDC_DURATION,
                "must be a whole number of seconds",
            )
        })?;
    let policy_ids = variables.text(OIDC_POLICY_IDS).unwrap_or_default();
    let policy_ids = policy_ids.split(',').map(str::trim).filter(|id| !id.is_empty());
    let sts = endpoint(Purpose::Sts)?;
    let oidc = Oidc {
        endpoint: sts.clone(),
        provider_urn,
        agency_urn,
        session_name: variables.text(OIDC_SESSION).unwrap_or(DEFAULT_SESSION.to_owned()),
        duration_seconds,
        policy: variables.text(OIDC_POLICY),
        policy_ids: policy_ids.map(str::to_owned).collect(),
        id_token,
        refused: Refused::default(),
    };
    let fetcher = KeyFetcher::new(vec![Box::new(oidc)]).with_project(variables.text(PROJECT_ID));
    Ok(Some(FoundCredentials::fetched(fetcher, Some(sts))))
}

fn federated(
    (idp_id, idp_parameter): (&str, &'static str),
    (path, parameter): (PathBuf, &'static str),
    project: Option<String>,
    iam: Endpoint,
) -> Result<FoundCredentials, Error> {
    let id_token = IdToken::File { path, parameter };
    let federation = Federation::new(iam.clone(), idp_id, id_token, idp_parameter)?;
    let fetcher = KeyFetcher::new(vec![Box::new(federation)]).with_project(project);
    Ok(FoundCredentials::fetched(fetcher, Some(iam)))
}

fn from_pod(variables: &Variables<'_>, environment: &Environment<'_>) -> Result<Option<PodIdentity>, Error> {
    let (uri, path) = match (variables.text(POD_URI), variables.path(POD_TOKEN_FILE)) {
        (Some(uri), Some(path)) => (uri, path),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(incomplete(POD_TOKEN_FILE, POD_URI)),
        (None, Some(_)) => return Err(incomplete(POD_URI, POD_TOKEN_FILE)),
    };
    let endpoint = Endpoint::parse(&uri, POD_URI)?;
    if !endpoint.is_https() && !endpoint.is_loopback() && endpoint.link_local_address().is_none() {
        return Err(Error::argument(
            Status::PlaintextRefused,
            POD_URI,
            "is plain http on another host, which would expose credentials to the network; use https, or a \
             loopback or link-local address",
        ));
    }
    Ok(Some(PodIdentity {
        http: (environment.agent)(&endpoint)?,
        endpoint,
        ends_with_slash: uri.ends_with('/'),
        token: IdToken::File {
            path,
            parameter: POD_TOKEN_FILE,
        },
        refused: Refused::default(),
    }))
}

/// Finds a federated identity, or an access key if `with_key` is true.
fn from_environment(
    variables: &Variables<'_>,
    endpoint: &FindEndpoint<'_>,
    with_key: bool,
) -> Result<Option<FoundCredentials>, Error> {
    let (ak, sk) = (
        variables.bytes(AK).filter(|_| with_key),
        variables.bytes(SK).filter(|_| with_key),
    );
    let project = variables.text(PROJECT_ID);
    let (ak, sk) = match (variables.text(IDP_ID), variables.path(ID_TOKEN_FILE), ak, sk) {
        (Some(idp_id), Some(path), ..) => {
            let iam = endpoint(Purpose::Iam(None))?;
            return federated((&idp_id, IDP_ID), (path, ID_TOKEN_FILE), project, iam).map(Some);
        }
        (_, _, Some(ak), Some(sk)) => (ak, sk),
        (_, _, Some(_), None) => return Err(incomplete(SK, AK)),
        (_, _, None, Some(_)) => return Err(incomplete(AK, SK)),
        (Some(_), None, ..) => return Err(incomplete(ID_TOKEN_FILE, IDP_ID)),
        (None, Some(_), ..) => return Err(incomplete(IDP_ID, ID_TOKEN_FILE)),
        (None, None, None, None) => return Ok(None),
    };
    let security_token = variables.bytes(SECURITY_TOKEN);
    let key = AccessKey::new(&ak, &sk, security_token.as_deref().map(Vec::as_slice)).map_err(|e| {
        let variable = match e.parameter() {
            Some("access_key") => AK,
            Some("secret_key") => SK,
            _ => SECURITY_TOKEN,
        };
        e.with_parameter(Status::InvalidCredentials, variable)
    })?;
    let credentials = Credentials::from(key)
        .with_name(Some(masked(&String::from_utf8_lossy(&ak))))
        .with_project(project);
    Ok(Some(FoundCredentials::fixed(
        credentials,
        CredentialSource::Environment,
    )))
}

/// Reads the credentials of the profile file. The inner error is the reason why it has
/// none.
fn from_profile(
    environment: &Environment<'_>,
    endpoint: &FindEndpoint<'_>,
    with_key: bool,
) -> Result<Result<FoundCredentials, String>, Error> {
    let Some((path, named)) = profile::path(environment.variable) else {
        return Ok(Err("there is no home directory that could have a profile".into()));
    };
    let shown = path.display();
    let loaded = match profile::read(&path)? {
        Found::Profile(loaded) => loaded,
        Found::OnlyGlobal => return Ok(Err(format!("{shown} has no section [basic]"))),
        Found::Nothing if named => {
            return Err(Error::argument(
                Status::InvalidCredentials,
                "HUAWEICLOUD_SDK_CREDENTIALS_FILE",
                format_args!("names {shown}, which does not exist"),
            ));
        }
        Found::Nothing => return Ok(Err(format!("there is no file {shown}"))),
    };
    let profile = loaded.profile;
    if loaded.readable_by_others && matches!(profile.identity, Identity::Key { .. }) {
        (environment.log)(Level::Warning, &|| {
            format!(
                "{} contains a secret key and is readable by other users; protect it with chmod 600",
                path.display()
            )
            .into()
        });
    }
    let project = profile.project_id.clone();
    let mut found = match &profile.identity {
        Identity::Federation {
            idp_id,
            id_token_file,
        } => {
            let iam = endpoint(Purpose::Iam(profile.iam_endpoint.as_deref()))?;
            let file = (PathBuf::from(id_token_file), "id_token_file");
            federated((idp_id, "idp_id"), file, project, iam)?
        }
        Identity::Key { .. } if !with_key => {
            return Ok(Err(format!("{} has no idp_id and id_token_file", path.display())));
        }
        Identity::Key {
            access_key,
            secret_key,
            security_token,
        } => {
            let token = security_token.as_ref().map(|token| token.as_bytes());
            let key = AccessKey::new(access_key.as_bytes(), secret_key.as_bytes(), token)?;
            let credentials = Credentials::from(key)
                .with_name(Some(masked(access_key)))
                .with_project(project);
            FoundCredentials::fixed(credentials, CredentialSource::Profile(path))
        }
    };
    found.iam_endpoint = profile.iam_endpoint;
    Ok(Ok(found))
}
