// The options of a configuration, as data. `build.rs` includes this file too:
// the header's list of options is made from it.

use std::ffi::CStr;

/// The form of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// A URL.
    Url,
    /// Text that is never shown and wiped after use.
    Secret,
    /// A file's path, as bytes.
    Path,
    /// A duration.
    Milliseconds,
    /// A size.
    Bytes,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Number,
    /// A file's permissions, in octal digits.
    Mode,
}

impl Kind {
    /// The name that `dbss_config_key_type` gives.
    pub const fn name(self) -> &'static CStr {
        match self {
            Kind::Text => c"text",
            Kind::Url => c"url",
            Kind::Secret => c"secret",
            Kind::Path => c"path",
            Kind::Milliseconds => c"milliseconds",
            Kind::Bytes => c"bytes",
            Kind::Boolean => c"boolean",
            Kind::Number => c"number",
            Kind::Mode => c"mode",
        }
    }
}

/// One option: what `dbss_config_set` takes and the `dbss_config_key_*`
/// functions tell.
pub struct Option {
    /// Its key.
    pub key: &'static CStr,
    /// The form of its value.
    pub kind: Kind,
    /// Its default in that form; none where it is unset.
    pub default: std::option::Option<&'static CStr>,
    /// What it does, with its range.
    pub help: &'static CStr,
}

const fn option(
    key: &'static CStr,
    kind: Kind,
    default: std::option::Option<&'static CStr>,
    help: &'static CStr,
) -> Option {
    Option {
        key,
        kind,
        default,
        help,
    }
}

/// Every option, in the order in which the header lists them.
pub static OPTIONS: &[Option] = &[
    option(
        c"region",
        Kind::Text,
        None,
        c"as dbss_config_set_region()",
    ),
    option(
        c"endpoint",
        Kind::Url,
        None,
        c"as dbss_config_set_endpoint()",
    ),
    option(
        c"project_id",
        Kind::Text,
        None,
        c"The id of the project for calls that are given none, 32 to 64 characters. Without it, that of the credentials, or the one of the region's name, looked up once.",
    ),
    option(
        c"token",
        Kind::Secret,
        None,
        c"as dbss_config_set_token()",
    ),
    option(
        c"access_key",
        Kind::Secret,
        None,
        c"the first of dbss_config_set_access_key()",
    ),
    option(
        c"secret_key",
        Kind::Secret,
        None,
        c"the second of dbss_config_set_access_key()",
    ),
    option(
        c"security_token",
        Kind::Secret,
        None,
        c"the third of dbss_config_set_access_key()",
    ),
    option(
        c"iam_user",
        Kind::Text,
        None,
        c"the first of dbss_config_set_iam_user()",
    ),
    option(
        c"iam_password",
        Kind::Secret,
        None,
        c"the second of dbss_config_set_iam_user()",
    ),
    option(
        c"iam_domain",
        Kind::Text,
        None,
        c"the third of dbss_config_set_iam_user()",
    ),
    option(
        c"credentials",
        Kind::Text,
        None,
        c"Where to find credentials, in place of setting them: environment (HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN, _PROJECT_ID), profile (the section [basic] of ~/.huaweicloud/credentials, or of the file that HUAWEICLOUD_SDK_CREDENTIALS_FILE names), metadata (the temporary key of the instance's agency), or default, which is the three in this order.",
    ),
    option(
        c"iam_endpoint",
        Kind::Url,
        None,
        c"Where IAM answers, for logins and for looking up a project. Without it that of the profile, else https://iam.{region}.myhuaweicloud.com, else https://iam.myhuaweicloud.com.",
    ),
    option(
        c"metadata_endpoint",
        Kind::Url,
        None,
        c"Where the instance's metadata service answers, if not at http://169.254.169.254.",
    ),
    option(
        c"ca_file",
        Kind::Path,
        None,
        c"A PEM file of the certificates to trust, in place of the system's and of the built-in ones.",
    ),
    option(
        c"connect_timeout_ms",
        Kind::Milliseconds,
        Some(c"10000"),
        c"The longest time until a connection stands: name look-up, TCP and TLS together. 1 to 86400000, or -1 for no limit.",
    ),
    option(
        c"stall_timeout_ms",
        Kind::Milliseconds,
        Some(c"60000"),
        c"The longest time without a byte in or out. 1 to 86400000, or -1 for no limit.",
    ),
    option(
        c"total_timeout_ms",
        Kind::Milliseconds,
        Some(c"-1"),
        c"The longest time for a whole call. 1 to 2592000000 (30 days), or -1 for no limit.",
    ),
    option(
        c"max_attempts",
        Kind::Number,
        Some(c"3"),
        c"How many attempts a call makes when the connection fails or breaks, or the service answers 429, 500, 502, 503 or 504; counted anew after an attempt that brought 1 MiB. 1 to 1000; 1 for no retries.",
    ),
    option(
        c"max_retry_after_ms",
        Kind::Milliseconds,
        Some(c"60000"),
        c"The longest wait that the service may ask for (Retry-After) before another attempt; where it asks for more, the call fails at once. 0 to 86400000.",
    ),
    option(
        c"allow_plaintext",
        Kind::Boolean,
        Some(c"false"),
        c"Whether an endpoint on another host may be plain http, which shows the token and the report to the network.",
    ),
    option(
        c"allow_unframed",
        Kind::Boolean,
        Some(c"false"),
        c"Whether a body over plain http may end by nothing but the end of the connection; then nobody can tell whether it is whole.",
    ),
    option(
        c"follow_redirects",
        Kind::Boolean,
        Some(c"false"),
        c"Whether up to 5 redirects are followed; credentials never go to another origin, nor a request from https to plain http.",
    ),
    option(
        c"proxy",
        Kind::Secret,
        None,
        c"The URL of an HTTP proxy, such as http://user:password@proxy.example.com:3128, through which all connections are tunnelled (CONNECT).",
    ),
    option(
        c"proxy_from_environment",
        Kind::Boolean,
        Some(c"false"),
        c"Whether the proxy is taken from https_proxy, http_proxy, all_proxy and no_proxy (upper case too, but for HTTP_PROXY) when the context is made.",
    ),
    option(
        c"file_mode",
        Kind::Mode,
        Some(c"600"),
        c"The permissions of a saved file in octal digits, whatever the umask is. 0 to 777, and the owner can read and write.",
    ),
    option(
        c"max_memory_bytes",
        Kind::Bytes,
        Some(c"1073741824"),
        c"The largest report that a call takes into memory. 1 to 9223372036854775807.",
    ),
    option(
        c"wait_timeout_ms",
        Kind::Milliseconds,
        Some(c"3600000"),
        c"The longest time to wait for a report that the service makes. 1 to 2592000000 (30 days), or -1 for no limit.",
    ),
    option(
        c"poll_interval_ms",
        Kind::Milliseconds,
        Some(c"2000"),
        c"How long to wait before a report that is being made is looked at again; half as long again each time, up to 30 s or this where it is more, and varied by a fifth. 1 to 86400000.",
    ),
    option(
        c"user_agent_suffix",
        Kind::Text,
        None,
        c"Text after \"libdbss/VERSION\" in the User-Agent header, such as a program's name and version. 1 to 256 visible ASCII characters and spaces.",
    ),
];
