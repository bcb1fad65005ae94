//! Finds credentials in the places where the official SDKs look, in the same order: the
//! environment, the profile file, the instance's metadata service. The variable names are
//! those of the SDKs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::source::ACCESS_KEY_VARIABLE as AK;
use super::{
    AccessKey, CachedProvider, CredentialSource, Credentials, CredentialsProvider, Metadata, SourceSelector,
    StaticProvider, masked, none_found, profile,
};
use crate::error::{Error, Status};
use crate::log::{Level, LogFn};

const SK: &str = "HUAWEICLOUD_SDK_SK";
const SECURITY_TOKEN: &str = "HUAWEICLOUD_SDK_SECURITY_TOKEN";
const PROJECT_ID: &str = "HUAWEICLOUD_SDK_PROJECT_ID";

/// The inputs of the search.
pub(crate) struct Environment<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(crate) log: &'a LogFn<'a>,
    pub(crate) metadata: &'a dyn Fn() -> Result<Metadata, Error>,
}

/// The provider that was found, and the address of IAM if the profile has one.
pub(crate) struct FoundCredentials {
    pub(crate) provider: Arc<dyn CredentialsProvider>,
    pub(crate) iam_endpoint: Option<String>,
}

/// Finds credentials. Credentials that are present but invalid are an error and are not
/// skipped, because the user meant them to be used.
pub(crate) fn find(
    selector: SourceSelector,
    environment: &Environment<'_>,
) -> Result<FoundCredentials, Error> {
    let mut missing = Vec::new();
    if matches!(selector, SourceSelector::Default | SourceSelector::Environment) {
        match from_environment(environment.variable)? {
            Some(found) => return Ok(found),
            None => missing.push(format!("{AK} and {SK} are not set")),
        }
    }
    if matches!(selector, SourceSelector::Default | SourceSelector::Profile) {
        match from_profile(environment)? {
            Ok(found) => return Ok(found),
            Err(why) => missing.push(why),
        }
    }
    if matches!(selector, SourceSelector::Environment | SourceSelector::Profile) {
        return Err(none_found(&missing));
    }
    Ok(FoundCredentials {
        provider: Arc::new(CachedProvider::new(
            (environment.metadata)()?.with_missing(missing),
        )),
        iam_endpoint: None,
    })
}

fn from_environment(
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<FoundCredentials>, Error> {
    // An empty variable counts as missing, as in the SDKs.
    let get = |name| {
        environment(name)
            .map(|value| Zeroizing::new(value.as_bytes().to_vec()))
            .filter(|value| !value.is_empty())
    };
    let incomplete = |missing, other| {
        Err(Error::argument(
            Status::InvalidCredentials,
            missing,
            format_args!("is not set, but {other} is; set both"),
        ))
    };
    let (ak, sk) = match (get(AK), get(SK)) {
        (Some(ak), Some(sk)) => (ak, sk),
        (None, None) => return Ok(None),
        (Some(_), None) => return incomplete(SK, AK),
        (None, Some(_)) => return incomplete(AK, SK),
    };
    let security_token = get(SECURITY_TOKEN);
    let key = AccessKey::new(&ak, &sk, security_token.as_deref().map(Vec::as_slice)).map_err(|e| {
        let variable = match e.parameter() {
            Some("access_key") => AK,
            Some("secret_key") => SK,
            _ => SECURITY_TOKEN,
        };
        e.with_parameter(Status::InvalidCredentials, variable)
    })?;
    let project = get(PROJECT_ID).map(|id| String::from_utf8_lossy(&id).into_owned());
    let credentials = Credentials::from(key)
        .with_name(Some(masked(&String::from_utf8_lossy(&ak))))
        .with_project(project);
    Ok(Some(FoundCredentials {
        provider: Arc::new(StaticProvider::new(credentials, CredentialSource::Environment)),
        iam_endpoint: None,
    }))
}

/// Reads the credentials of the profile file. The inner error is the reason why there is
/// no file.
fn from_profile(environment: &Environment<'_>) -> Result<Result<FoundCredentials, String>, Error> {
    let Some((path, named)) = profile::path(environment.variable) else {
        return Ok(Err("there is no home directory that could have a profile".into()));
    };
    let Some(loaded) = profile::read(&path)? else {
        let shown = path.display();
        if named {
            return Err(Error::argument(
                Status::InvalidCredentials,
                "HUAWEICLOUD_SDK_CREDENTIALS_FILE",
                format_args!("names {shown}, which does not exist"),
            ));
        }
        return Ok(Err(format!("there is no file {shown}")));
    };
    if loaded.readable_by_others {
        (environment.log)(Level::Warning, &|| {
            format!(
                "{} contains a secret key and is readable by other users; protect it with chmod 600",
                path.display()
            )
            .into()
        });
    }
    let profile = loaded.profile;
    let key = AccessKey::new(
        profile.access_key.as_bytes(),
        profile.secret_key.as_bytes(),
        profile.security_token.as_ref().map(|token| token.as_bytes()),
    )?;
    let credentials = Credentials::from(key)
        .with_name(Some(masked(&profile.access_key)))
        .with_project(profile.project_id.clone());
    Ok(Ok(FoundCredentials {
        provider: Arc::new(StaticProvider::new(credentials, CredentialSource::Profile(path))),
        iam_endpoint: profile.iam_endpoint.clone(),
    }))
}
