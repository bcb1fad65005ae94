//! Where credentials come from.

use std::ffi::CStr;
use std::fmt;
use std::path::PathBuf;

/// The official SDKs' environment variable for the id of an access key.
pub(super) const ACCESS_KEY_VARIABLE: &str = "HUAWEICLOUD_SDK_AK";

/// Where credentials came from.
#[derive(Clone, Debug)]
pub(crate) enum CredentialSource {
    Token,
    AccessKey,
    TokenProvider,
    User {
        user: String,
        iam: String,
    },
    Environment,
    Profile(PathBuf),
    Metadata(String),
    Oidc {
        agency: String,
        sts: String,
    },
    Federation {
        provider: String,
        iam: String,
    },
    PodIdentity(String),
    Agency {
        agency: String,
        base: Box<CredentialSource>,
    },
}

impl CredentialSource {
    /// Returns the name of the source in the ABI.
    pub(crate) fn name(&self) -> &'static CStr {
        match self {
            CredentialSource::Token => c"token",
            CredentialSource::AccessKey => c"access_key",
            CredentialSource::TokenProvider => c"token_provider",
            CredentialSource::User { .. } => c"iam_user",
            CredentialSource::Environment => c"environment",
            CredentialSource::Profile(_) => c"profile",
            CredentialSource::Metadata(_) => c"metadata",
            CredentialSource::Oidc { .. } => c"oidc",
            CredentialSource::Federation { .. } => c"federation",
            CredentialSource::PodIdentity(_) => c"pod_identity",
            CredentialSource::Agency { .. } => c"agency",
        }
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialSource::Token => f.write_str("the token that was set"),
            CredentialSource::AccessKey => f.write_str("the access key that was set"),
            CredentialSource::TokenProvider => f.write_str("the token provider"),
            CredentialSource::User { user, iam } => write!(f, "the IAM user {user}, by a login at {iam}"),
            CredentialSource::Environment => {
                write!(f, "the access key of the environment ({})", ACCESS_KEY_VARIABLE)
            }
            CredentialSource::Profile(path) => write!(f, "the access key of the file {}", path.display()),
            CredentialSource::Metadata(origin) => {
                write!(f, "the instance's agency, by its metadata service at {origin}")
            }
            CredentialSource::Oidc { agency, sts } => {
                write!(f, "the agency {agency} for an OIDC token, by STS at {sts}")
            }
            CredentialSource::Federation { provider, iam } => {
                write!(f, "a token of the identity provider {provider}, by IAM at {iam}")
            }
            CredentialSource::PodIdentity(origin) => {
                write!(f, "the pod's agency, by the pod identity agent at {origin}")
            }
            CredentialSource::Agency { agency, base } => write!(f, "the agency {agency}, for {base}"),
        }
    }
}

/// Which sources to search for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceSelector {
    Default,
    Environment,
    Profile,
    Metadata,
    Oidc,
    Federation,
    PodIdentity,
}

impl SourceSelector {
    pub(crate) fn parse(name: &str) -> Option<SourceSelector> {
        Some(match name {
            "default" => SourceSelector::Default,
            "environment" => SourceSelector::Environment,
            "profile" => SourceSelector::Profile,
            "metadata" => SourceSelector::Metadata,
            "oidc" => SourceSelector::Oidc,
            "federation" => SourceSelector::Federation,
            "pod_identity" => SourceSelector::PodIdentity,
            _ => return None,
        })
    }
}
