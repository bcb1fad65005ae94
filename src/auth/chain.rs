//! Where the official SDKs look for credentials, and in their order: the
//! environment, the profile file, the instance's metadata service. The names
//! are theirs too.

use std::ffi::{CStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{AccessKey, Fixed, Grant, Metadata, Renewing, Source, masked, profile};
use crate::error::{Error, Status};
use crate::log::Level;

const AK: &str = "HUAWEICLOUD_SDK_AK";
const SK: &str = "HUAWEICLOUD_SDK_SK";
const SECURITY_TOKEN: &str = "HUAWEICLOUD_SDK_SECURITY_TOKEN";
const PROJECT_ID: &str = "HUAWEICLOUD_SDK_PROJECT_ID";

/// Where credentials came from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Token,
    AccessKey,
    TokenProvider,
    User { user: String, iam: String },
    Environment,
    Profile(PathBuf),
    Metadata(String),
}

impl Origin {
    /// The name that the ABI has for it.
    pub(crate) fn name(&self) -> &'static CStr {
        match self {
            Origin::Token => c"token",
            Origin::AccessKey => c"access_key",
            Origin::TokenProvider => c"token_provider",
            Origin::User { .. } => c"iam_user",
            Origin::Environment => c"environment",
            Origin::Profile(_) => c"profile",
            Origin::Metadata(_) => c"metadata",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Token => f.write_str("the token that was set"),
            Origin::AccessKey => f.write_str("the access key that was set"),
            Origin::TokenProvider => f.write_str("the token provider"),
            Origin::User { user, iam } => write!(f, "the IAM user {user}, by a login at {iam}"),
            Origin::Environment => write!(f, "the access key of the environment ({AK})"),
            Origin::Profile(path) => write!(f, "the access key of the file {}", path.display()),
            Origin::Metadata(place) => write!(f, "the instance's agency, by its metadata service at {place}"),
        }
    }
}

/// Which of them to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Default,
    Environment,
    Profile,
    Metadata,
}

impl Which {
    pub(crate) fn parse(name: &str) -> Option<Which> {
        Some(match name {
            "default" => Which::Default,
            "environment" => Which::Environment,
            "profile" => Which::Profile,
            "metadata" => Which::Metadata,
            _ => return None,
        })
    }
}

/// What there is to look at.
pub(crate) struct Surroundings<'a> {
    pub(crate) environment: &'a dyn Fn(&str) -> Option<OsString>,
    pub(crate) log: &'a dyn Fn(Level, &dyn Fn() -> String),
    pub(crate) metadata: &'a dyn Fn() -> Result<Metadata, Error>,
}

/// Credentials that were found, and what stood beside them.
pub(crate) struct Found {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) iam_endpoint: Option<String>,
}

/// Looks for credentials. What is there and wrong is an error, not passed over:
/// who wrote it means it to be used.
pub(crate) fn find(which: Which, surroundings: &Surroundings<'_>) -> Result<Found, Error> {
    let mut missing = Vec::new();
    if matches!(which, Which::Default | Which::Environment) {
        match from_environment(surroundings.environment)? {
            Some(found) => return Ok(found),
            None => missing.push(format!("{AK} and {SK} are not set")),
        }
    }
    if matches!(which, Which::Default | Which::Profile) {
        match from_profile(surroundings)? {
            Ok(found) => return Ok(found),
            Err(why) => missing.push(why),
        }
    }
    if matches!(which, Which::Environment | Which::Profile) {
        return Err(none_found(&missing));
    }
    Ok(Found {
        source: Arc::new(Renewing::new((surroundings.metadata)()?.after(missing))),
        iam_endpoint: None,
    })
}

pub(super) fn none_found(missing: &[String]) -> Error {
    Error::argument(
        Status::NotConfigured,
        "credentials",
        format_args!("none were found: {}", missing.join("; ")),
    )
}

fn from_environment(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Found>, Error> {
    // Empty counts as absent, as for the SDKs.
    let get = |name| {
        environment(name)
            .map(|value| Zeroizing::new(value.as_bytes().to_vec()))
            .filter(|value| !value.is_empty())
    };
    let half = |missing, other| {
        Err(Error::argument(
            Status::InvalidCredentials,
            missing,
            format_args!("is not set, and {other} is; one is nothing without the other"),
        ))
    };
    let (ak, sk) = match (get(AK), get(SK)) {
        (Some(ak), Some(sk)) => (ak, sk),
        (None, None) => return Ok(None),
        (Some(_), None) => return half(SK, AK),
        (None, Some(_)) => return half(AK, SK),
    };
    let security_token = get(SECURITY_TOKEN);
    let key = AccessKey::new(&ak, &sk, security_token.as_deref().map(Vec::as_slice)).map_err(|e| {
        let variable = match e.parameter() {
            Some("access_key") => AK,
            Some("secret_key") => SK,
            _ => SECURITY_TOKEN,
        };
        e.found_in(Status::InvalidCredentials, variable)
    })?;
    let project = get(PROJECT_ID).map(|id| String::from_utf8_lossy(&id).into_owned());
    let grant = Grant::new(key)
        .named(Some(masked(&String::from_utf8_lossy(&ak))))
        .for_project(project);
    Ok(Some(Found {
        source: Arc::new(Fixed::new(grant, Origin::Environment)),
        iam_endpoint: None,
    }))
}

/// What the profile file has; a reason where there is none.
fn from_profile(surroundings: &Surroundings<'_>) -> Result<Result<Found, String>, Error> {
    let Some((path, named)) = profile::path(surroundings.environment) else {
        return Ok(Err("there is no home directory to look for a profile in".into()));
    };
    let Some(loaded) = profile::read(&path)? else {
        let shown = path.display();
        if named {
            return Err(Error::argument(
                Status::InvalidCredentials,
                "HUAWEICLOUD_SDK_CREDENTIALS_FILE",
                format_args!("names {shown}, and there is no such file"),
            ));
        }
        return Ok(Err(format!("there is no file {shown}")));
    };
    if loaded.readable_by_others {
        (surroundings.log)(Level::Warning, &|| {
            format!(
                "{} can be read by others on this machine, and holds a secret key; chmod 600 would keep it from them",
                path.display()
            )
        });
    }
    let profile = loaded.profile;
    let key = AccessKey::new(
        profile.access_key.as_bytes(),
        profile.secret_key.as_bytes(),
        profile.security_token.as_ref().map(|token| token.as_bytes()),
    )?;
    let grant = Grant::new(key)
        .named(Some(masked(&profile.access_key)))
        .for_project(profile.project_id.clone());
    Ok(Ok(Found {
        source: Arc::new(Fixed::new(grant, Origin::Profile(path))),
        iam_endpoint: profile.iam_endpoint.clone(),
    }))
}
