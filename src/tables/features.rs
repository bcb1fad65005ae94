//! The features of this build.

use std::ffi::CStr;

/// One feature.
pub struct FeatureRow {
    /// The name, for `dbss_has_feature`.
    pub name: &'static CStr,
    /// A description.
    pub help: &'static CStr,
}

const fn feature(name: &'static CStr, help: &'static CStr) -> FeatureRow {
    FeatureRow { name, help }
}

/// Every feature.
pub static FEATURES: &[FeatureRow] = &[
    feature(c"download", c"Reports into memory."),
    feature(c"token", c"A fixed IAM token."),
    feature(c"https", c"TLS 1.2 and 1.3."),
    feature(
        c"file",
        c"Reports to files, directories, descriptors and callbacks.",
    ),
    feature(c"stream", c"Reports that the caller reads in parts."),
    feature(
        c"operation",
        c"Options, progress, cancellation and result of a single call.",
    ),
    feature(c"resume", c"Retries, and resumption of broken transfers."),
    feature(c"log", c"A log callback."),
    feature(c"redirect", c"Following redirects, if enabled."),
    feature(c"proxy", c"HTTP proxies."),
    feature(c"access_key", c"AK/SK signatures."),
    feature(c"iam_user", c"Logins of IAM users."),
    feature(c"token_provider", c"Tokens that a callback provides."),
    feature(
        c"credentials",
        c"Finding credentials in the same places as the official SDKs.",
    ),
    feature(c"oidc", c"Agencies for the token of an OIDC provider."),
    feature(c"federation", c"Federated identities."),
    feature(c"pod_identity", c"The agencies of pods."),
    feature(c"agency", c"Agencies of other accounts."),
    feature(c"passcode", c"Logins with the passcode of an MFA device."),
    feature(c"project", c"Looking up the default project."),
    feature(c"endpoints", c"Several endpoints, and endpoints of regions."),
    feature(c"list", c"Lists of instances, reports and templates."),
    feature(c"manage", c"Creating, waiting for and deleting reports."),
    feature(c"databases", c"Lists of databases."),
    feature(c"schedule", c"Showing and changing the schedules of templates."),
    feature(c"mirror", c"A local archive of reports."),
    feature(c"close", c"Closing contexts and streams without freeing them."),
    feature(c"interrupt", c"Ending calls by handled signals."),
];
