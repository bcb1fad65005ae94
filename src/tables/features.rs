//! What this build can do.

use std::ffi::CStr;

/// One feature.
pub struct FeatureRow {
    /// The name that `dbss_has_feature` takes.
    pub name: &'static CStr,
    /// What it is.
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
    feature(c"stream", c"Reports that the caller reads part by part."),
    feature(
        c"operation",
        c"Options, progress, cancel and result of a single call.",
    ),
    feature(c"resume", c"Retries, and resumption of broken transfers."),
    feature(c"log", c"A log callback."),
    feature(c"redirect", c"Redirects are followed on request."),
    feature(c"proxy", c"HTTP proxies."),
    feature(c"access_key", c"AK/SK signatures."),
    feature(c"iam_user", c"Logins of IAM users."),
    feature(c"token_provider", c"Tokens that a callback gives."),
    feature(
        c"credentials",
        c"Credentials found where the official SDKs find them.",
    ),
    feature(c"project", c"The project is found where none is given."),
    feature(c"endpoints", c"Several endpoints, and those of regions."),
    feature(c"list", c"Lists of instances, reports and templates."),
    feature(c"manage", c"Reports are created, awaited and deleted."),
    feature(c"mirror", c"A local archive of reports."),
    feature(
        c"close",
        c"Contexts and streams are closed apart from being freed.",
    ),
    feature(c"interrupt", c"A handled signal may end a call."),
];
