//! The options of a configuration, an operation, a report spec, a mirror and the changes
//! of a schedule.

use std::ffi::CStr;
use std::ops::RangeInclusive;

use super::statuses::Status;

/// The form of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// An id of the service.
    Id,
    /// A URL.
    Url,
    /// Text that is never shown, and is wiped after use.
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
    /// A day, such as 2026-11-24.
    Day,
    /// One of some words.
    Choice,
}

impl Kind {
    /// Returns the name for `dbss_option_type`.
    pub const fn name(self) -> &'static CStr {
        match self {
            Kind::Text => c"text",
            Kind::Id => c"id",
            Kind::Url => c"url",
            Kind::Secret => c"secret",
            Kind::Path => c"path",
            Kind::Milliseconds => c"milliseconds",
            Kind::Bytes => c"bytes",
            Kind::Boolean => c"boolean",
            Kind::Number => c"number",
            Kind::Mode => c"mode",
            Kind::Day => c"day",
            Kind::Choice => c"choice",
        }
    }
}

/// The objects that have options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum OptionSet {
    /// `dbss_config_set`.
    Config = 1,
    /// `dbss_operation_set`.
    Operation = 2,
    /// `dbss_report_spec_set`.
    ReportSpec = 3,
    /// `dbss_mirror_options_set`.
    Mirror = 4,
    /// `dbss_schedule_changes_set`.
    Schedule = 5,
}

impl OptionSet {
    /// Every set.
    pub const ALL: &'static [OptionSet] = &[
        OptionSet::Config,
        OptionSet::Operation,
        OptionSet::ReportSpec,
        OptionSet::Mirror,
        OptionSet::Schedule,
    ];

    /// Its name in descriptions.
    pub const fn name(self) -> &'static str {
        match self {
            OptionSet::Config => "config",
            OptionSet::Operation => "operation",
            OptionSet::ReportSpec => "report_spec",
            OptionSet::Mirror => "mirror",
            OptionSet::Schedule => "schedule",
        }
    }

    /// The set with this value.
    pub fn from_value(value: i32) -> Option<OptionSet> {
        OptionSet::ALL.iter().copied().find(|set| *set as i32 == value)
    }

    /// Its options, in the order of the table.
    pub fn options(self) -> impl Iterator<Item = &'static OptionRow> {
        OPTIONS.iter().filter(move |row| row.sets.contains(&self))
    }

    /// The option with this key.
    pub fn find(self, key: &str) -> Option<&'static OptionRow> {
        self.options().find(|row| row.key.to_bytes() == key.as_bytes())
    }
}

/// One option.
pub struct OptionRow {
    /// Its key.
    pub key: &'static CStr,
    /// The form of its value.
    pub kind: Kind,
    /// The minimum of a number, or the minimum length of a text in bytes; -1 if there is
    /// none.
    pub minimum: i64,
    /// The maximum of a number, or the maximum length of a text in bytes; -1 if there is
    /// none.
    pub maximum: i64,
    /// Whether "-1", for no limit, is also accepted.
    pub allows_none: bool,
    /// The words of a choice, separated by commas.
    pub choices: Option<&'static CStr>,
    /// Whether it must be set.
    pub required: bool,
    /// The status of an invalid value.
    pub status: Status,
    /// A description, without its range and default.
    pub help: &'static CStr,
    /// The sets that have it.
    pub sets: &'static [OptionSet],
    default: Option<&'static CStr>,
}

impl OptionRow {
    /// Its key.
    pub fn key(&self) -> &'static str {
        self.key.to_str().unwrap_or_default()
    }

    /// Returns its default in a set, in the format of its kind. None if it is unset by
    /// default. The options of an operation default to the context's.
    pub fn default(&self, set: OptionSet) -> Option<&'static CStr> {
        self.default.filter(|_| set != OptionSet::Operation)
    }

    /// Its choices.
    pub fn choices(&self) -> impl Iterator<Item = &'static str> {
        let words = self.choices.and_then(|words| words.to_str().ok());
        words.into_iter().flat_map(|words| words.split(','))
    }

    /// Describes the range of its values, such as "1 to 1000". None if the kind is
    /// sufficient.
    pub fn range(&self) -> Option<String> {
        let (minimum, maximum) = (self.minimum, self.maximum);
        let none = if self.allows_none {
            ", or -1 for no limit"
        } else {
            ""
        };
        match self.kind {
            Kind::Choice => Some(self.choices().collect::<Vec<_>>().join(", ")),
            Kind::Boolean | Kind::Day => None,
            _ if maximum < 0 => None,
            Kind::Mode => Some(format!("{minimum:o} to {maximum:o}")),
            Kind::Number | Kind::Milliseconds | Kind::Bytes => Some(format!("{minimum} to {maximum}{none}")),
            Kind::Id => Some(format!("{minimum} to {maximum} characters")),
            Kind::Text | Kind::Url | Kind::Secret | Kind::Path => {
                Some(format!("{minimum} to {maximum} bytes"))
            }
        }
    }

    const fn new(
        sets: &'static [OptionSet],
        key: &'static CStr,
        kind: Kind,
        (minimum, maximum): (i64, i64),
        help: &'static CStr,
    ) -> OptionRow {
        OptionRow {
            key,
            kind,
            minimum,
            maximum,
            allows_none: false,
            choices: None,
            required: false,
            status: match kind {
                Kind::Id => Status::InvalidId,
                Kind::Url => Status::InvalidEndpoint,
                _ => Status::InvalidValue,
            },
            help,
            sets,
            default: None,
        }
    }

    const fn defaults_to(mut self, default: &'static CStr) -> OptionRow {
        self.default = Some(default);
        self
    }

    const fn or_no_limit(mut self) -> OptionRow {
        self.allows_none = true;
        self
    }

    const fn one_of(mut self, choices: &'static CStr) -> OptionRow {
        self.choices = Some(choices);
        self
    }

    const fn required(mut self) -> OptionRow {
        self.required = true;
        self
    }

    const fn invalid_status(mut self, status: Status) -> OptionRow {
        self.status = status;
        self
    }
}

/// The lengths of the ids of projects and instances, in characters, from the
/// documentation of DownloadAuditReport.
pub const PROJECT_OR_INSTANCE_ID: RangeInclusive<usize> = 32..=64;

/// The maximum length of a region's name.
pub const MAX_REGION_LENGTH: usize = 63;

/// The maximum length of a token. A request must fit into a connection's output buffer,
/// which is larger than this. Real tokens have a few kilobytes, or some tens of kilobytes
/// with a long catalogue.
pub const MAX_TOKEN_LENGTH: usize = 96 * 1024;

/// The maximum length of an access key or secret key, far more than real keys have.
pub const MAX_KEY_LENGTH: usize = 1024;

/// The maximum length of a report's name to filter by, in bytes.
pub const MAX_NAME_LENGTH: usize = 256;

/// The maximum length of the name or password of a user or account, in bytes.
const MAX_LOGIN_LENGTH: usize = 1024;

/// The maximum length of a time or a list of ids, in bytes.
const MAX_TEXT_LENGTH: usize = 4096;

const DAY_MS: i64 = 86_400_000;

const NO_RANGE: (i64, i64) = (-1, -1);
const NOT_EMPTY: (i64, i64) = (1, -1);

const fn up_to(longest: usize) -> (i64, i64) {
    (1, longest as i64)
}

const fn length(range: &RangeInclusive<usize>) -> (i64, i64) {
    (*range.start() as i64, *range.end() as i64)
}

const fn config(key: &'static CStr, kind: Kind, range: (i64, i64), help: &'static CStr) -> OptionRow {
    OptionRow::new(&[OptionSet::Config], key, kind, range, help)
}

/// An option of a context that each call may override.
const fn per_call(key: &'static CStr, kind: Kind, range: (i64, i64), help: &'static CStr) -> OptionRow {
    OptionRow::new(&[OptionSet::Config, OptionSet::Operation], key, kind, range, help)
}

const fn spec(key: &'static CStr, kind: Kind, range: (i64, i64), help: &'static CStr) -> OptionRow {
    OptionRow::new(&[OptionSet::ReportSpec], key, kind, range, help)
}

const fn mirror(key: &'static CStr, kind: Kind, range: (i64, i64), help: &'static CStr) -> OptionRow {
    OptionRow::new(&[OptionSet::Mirror], key, kind, range, help)
}

const fn schedule(key: &'static CStr, kind: Kind, range: (i64, i64), help: &'static CStr) -> OptionRow {
    OptionRow::new(&[OptionSet::Schedule], key, kind, range, help)
}

/// Every option, in the order in which descriptions list them.
pub static OPTIONS: &[OptionRow] = &[
    config(
        c"region",
        Kind::Text,
        up_to(MAX_REGION_LENGTH),
        c"The region, such as cn-north-4. It determines the endpoint and the project, unless they are set too. a-z, 0-9 and \"-\".",
    )
    .invalid_status(Status::InvalidEndpoint),
    config(
        c"endpoint",
        Kind::Url,
        NOT_EMPTY,
        c"The URL of the service, or up to 16, separated by commas, in the order of preference. It takes precedence over the region's. Without a scheme it is https.",
    ),
    config(
        c"project_id",
        Kind::Id,
        length(&PROJECT_OR_INSTANCE_ID),
        c"The id of the default project of calls. Without it, that of the credentials, or the one with the region's name, which is looked up once.",
    ),
    config(
        c"token",
        Kind::Secret,
        up_to(MAX_TOKEN_LENGTH),
        c"The IAM token that is sent with each request, instead of other credentials. Visible ASCII characters.",
    )
    .invalid_status(Status::InvalidToken),
    config(
        c"access_key",
        Kind::Secret,
        up_to(MAX_KEY_LENGTH),
        c"The access key (AK) that signs each request, instead of other credentials. It needs \"secret_key\". Visible ASCII characters.",
    )
    .invalid_status(Status::InvalidAccessKey),
    config(
        c"secret_key",
        Kind::Secret,
        up_to(MAX_KEY_LENGTH),
        c"The secret (SK) of \"access_key\". Visible ASCII characters.",
    )
    .invalid_status(Status::InvalidAccessKey),
    config(
        c"security_token",
        Kind::Secret,
        up_to(MAX_TOKEN_LENGTH),
        c"The security token of a temporary \"access_key\". Visible ASCII characters.",
    )
    .invalid_status(Status::InvalidAccessKey),
    config(
        c"iam_user",
        Kind::Text,
        up_to(MAX_LOGIN_LENGTH),
        c"The IAM user who logs in for a token, instead of other credentials. It needs \"iam_password\" and \"iam_domain\".",
    ),
    config(
        c"iam_password",
        Kind::Secret,
        up_to(MAX_LOGIN_LENGTH),
        c"The password of \"iam_user\".",
    ),
    config(
        c"iam_domain",
        Kind::Text,
        up_to(MAX_LOGIN_LENGTH),
        c"The name of the account of \"iam_user\".",
    ),
    config(
        c"iam_user_id",
        Kind::Text,
        up_to(MAX_LOGIN_LENGTH),
        c"The id of \"iam_user\", for a login with a passcode of its MFA device. It needs a passcode provider.",
    ),
    config(
        c"agency_name",
        Kind::Text,
        up_to(MAX_LOGIN_LENGTH),
        c"The agency to assume with the other credentials. Calls then use its temporary keys, and the projects of its account. It needs \"agency_domain\" or \"agency_domain_id\".",
    ),
    config(
        c"agency_domain",
        Kind::Text,
        up_to(MAX_LOGIN_LENGTH),
        c"The name of the account of \"agency_name\".",
    ),
    config(
        c"agency_domain_id",
        Kind::Text,
        up_to(MAX_LOGIN_LENGTH),
        c"The id of the account of \"agency_name\", instead of its name.",
    ),
    config(
        c"agency_duration_ms",
        Kind::Milliseconds,
        (900_000, DAY_MS),
        c"How long a temporary key of \"agency_name\" is valid, a whole number of seconds. It is refreshed before it expires.",
    )
    .defaults_to(c"3600000"),
    config(
        c"credentials",
        Kind::Choice,
        NO_RANGE,
        c"Where to find credentials, instead of setting them: oidc (an agency for the token of an OIDC provider: HUAWEICLOUD_OIDC_PROVIDER_URN, _AGENCY_URN, _ID_TOKEN or _TOKEN_FILE, _SESSION_NAME, _DURATION_SECONDS, _POLICY, _POLICY_IDS), environment (HUAWEICLOUD_SDK_IDP_ID and _ID_TOKEN_FILE for a federated identity, else HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN; with _PROJECT_ID), profile (the section [basic] of ~/.huaweicloud/credentials, or of the file that HUAWEICLOUD_SDK_CREDENTIALS_FILE names), metadata (the temporary key of the agency of this machine, a cloud server), pod_identity (the key of a pod's agency: HC_CONTAINER_CREDENTIALS_FULL_URI, HC_CONTAINER_AUTHORIZATION_TOKEN_FILE), or default, which tries these in this order. federation uses only the federated identity of the environment or the profile. The names are those of the official SDKs.",
    )
    .one_of(c"default,oidc,environment,federation,profile,metadata,pod_identity"),
    config(
        c"iam_endpoint",
        Kind::Url,
        NOT_EMPTY,
        c"The URL of IAM, for logins and for looking up a project. Without it, that of the profile, else that of the variable HUAWEICLOUD_SDK_IAM_ENDPOINT, else the region's own, else https://iam.myhuaweicloud.com.",
    ),
    config(
        c"sts_endpoint",
        Kind::Url,
        NOT_EMPTY,
        c"The URL of STS, for \"credentials\" by OIDC. Without it, that of the variable HUAWEICLOUD_SDK_STS_ENDPOINT, else the region's.",
    ),
    config(
        c"metadata_endpoint",
        Kind::Url,
        NOT_EMPTY,
        c"The URL of this machine's metadata service, if it is not http://169.254.169.254. Plain http may go to a link-local or private address, for this service alone.",
    ),
    config(
        c"ca_file",
        Kind::Path,
        NOT_EMPTY,
        c"A PEM file of the certificates to trust, instead of the system's and the built-in ones.",
    ),
    per_call(
        c"connect_timeout_ms",
        Kind::Milliseconds,
        (1, DAY_MS),
        c"The maximum time to connect: name look-up, TCP and TLS together.",
    )
    .or_no_limit()
    .defaults_to(c"10000"),
    per_call(
        c"stall_timeout_ms",
        Kind::Milliseconds,
        (1, DAY_MS),
        c"The maximum time without a byte sent or received.",
    )
    .or_no_limit()
    .defaults_to(c"60000"),
    per_call(
        c"total_timeout_ms",
        Kind::Milliseconds,
        (1, 30 * DAY_MS),
        c"The maximum time for a whole call.",
    )
    .or_no_limit()
    .defaults_to(c"-1"),
    per_call(
        c"max_attempts",
        Kind::Number,
        (1, 1000),
        c"The maximum number of attempts of a call when the connection fails or breaks, or the service returns 429, 500, 502, 503 or 504. The count restarts after an attempt that received 1 MiB beyond what earlier attempts had reached. Between attempts the call waits as long as the service asks (Retry-After), else a random time: up to 250 ms, doubled with each failure, up to 10 s. 1 means no retries.",
    )
    .defaults_to(c"3"),
    config(
        c"max_retry_after_ms",
        Kind::Milliseconds,
        (0, DAY_MS),
        c"The maximum wait before another attempt that the service may request (Retry-After). If it requests more, the call fails immediately.",
    )
    .defaults_to(c"60000"),
    config(
        c"allow_plaintext",
        Kind::Boolean,
        NO_RANGE,
        c"Whether an endpoint on another host may be plain http, which exposes the token and the report to the network.",
    )
    .defaults_to(c"false"),
    config(
        c"allow_close_delimited",
        Kind::Boolean,
        NO_RANGE,
        c"Whether a body over plain http may be delimited only by the end of the connection. Then it cannot be checked whether it is complete.",
    )
    .defaults_to(c"false"),
    config(
        c"follow_redirects",
        Kind::Boolean,
        NO_RANGE,
        c"Whether up to 5 redirects are followed. Credentials are never sent to another origin, and no request goes from https to plain http.",
    )
    .defaults_to(c"false"),
    config(
        c"proxy",
        Kind::Secret,
        NOT_EMPTY,
        c"The URL of an HTTP proxy, such as http://user:password@proxy.example.com:3128, through which all connections are tunnelled (CONNECT). Without a scheme it is http.",
    )
    .invalid_status(Status::InvalidEndpoint),
    config(
        c"proxy_from_environment",
        Kind::Boolean,
        NO_RANGE,
        c"Whether the proxy is taken from https_proxy, http_proxy, all_proxy and no_proxy (also in upper case, except HTTP_PROXY) when the context is made.",
    )
    .defaults_to(c"false"),
    per_call(
        c"file_mode",
        Kind::Mode,
        (0o600, 0o777),
        c"The permissions of a saved file, independent of the umask. The owner can always read and write.",
    )
    .defaults_to(c"600"),
    per_call(
        c"max_memory_bytes",
        Kind::Bytes,
        (1, i64::MAX),
        c"The maximum size of a report that is downloaded into memory.",
    )
    .defaults_to(c"1073741824"),
    per_call(
        c"wait_timeout_ms",
        Kind::Milliseconds,
        (1, 30 * DAY_MS),
        c"The maximum time to wait until the service has generated a report.",
    )
    .or_no_limit()
    .defaults_to(c"3600000"),
    per_call(
        c"poll_interval_ms",
        Kind::Milliseconds,
        (1, DAY_MS),
        c"The initial interval for polling a report that is being generated. It grows by half each time, up to 30 s or this value if that is larger, and varies randomly by a fifth.",
    )
    .defaults_to(c"2000"),
    per_call(
        c"interruptible",
        Kind::Boolean,
        NO_RANGE,
        c"Whether a signal that the program handles may end a call. dbss_operation_set_interrupt() sets the function that decides; without it every handled signal ends the call.",
    )
    .defaults_to(c"false"),
    config(
        c"log_level",
        Kind::Choice,
        NO_RANGE,
        c"Which records the log callback receives: those of this level and the more important ones.",
    )
    .one_of(c"error,warning,info,debug")
    .defaults_to(c"debug"),
    config(
        c"user_agent_suffix",
        Kind::Text,
        (1, 256),
        c"Text after \"libdbss/VERSION\" in the User-Agent header, such as a program's name and version. Visible ASCII characters and spaces.",
    ),
    spec(
        c"template_id",
        Kind::Id,
        (1, 64),
        c"The id of the template for the report.",
    )
    .required(),
    spec(
        c"start_time",
        Kind::Text,
        up_to(MAX_TEXT_LENGTH),
        c"The beginning of the report's time range: text in the service's notation, such as 2026-11-24 00:00:00, which is sent unchanged.",
    )
    .required(),
    spec(
        c"end_time",
        Kind::Text,
        up_to(MAX_TEXT_LENGTH),
        c"The end of the report's time range; text as for \"start_time\".",
    )
    .required(),
    spec(
        c"start_date",
        Kind::Text,
        up_to(MAX_TEXT_LENGTH),
        c"The day on which the range begins; text as for \"start_time\".",
    ),
    spec(
        c"end_date",
        Kind::Text,
        up_to(MAX_TEXT_LENGTH),
        c"The day on which the range ends; text as for \"start_time\".",
    ),
    spec(
        c"db_ids",
        Kind::Text,
        up_to(MAX_TEXT_LENGTH),
        c"The ids of the databases that the report covers, separated by commas; by default all.",
    ),
    mirror(
        c"instance",
        Kind::Id,
        length(&PROJECT_OR_INSTANCE_ID),
        c"The id of the only audit instance to mirror; by default all.",
    ),
    mirror(
        c"since",
        Kind::Day,
        NO_RANGE,
        c"The first day on which the time range of a report may begin, such as 2026-11-24. Reports without a date are included.",
    ),
    mirror(
        c"until",
        Kind::Day,
        NO_RANGE,
        c"The last day on which the time range of a report may begin.",
    ),
    mirror(
        c"type",
        Kind::Text,
        up_to(MAX_NAME_LENGTH),
        c"The type of the reports, such as AUDIT_REPORT_DAY.",
    ),
    mirror(
        c"template",
        Kind::Text,
        up_to(MAX_NAME_LENGTH),
        c"The template_type of the reports.",
    ),
    mirror(
        c"name",
        Kind::Text,
        up_to(MAX_NAME_LENGTH),
        c"A part of the name of the reports, as the service searches.",
    ),
    mirror(
        c"locale",
        Kind::Choice,
        NO_RANGE,
        c"The language of the reports; by default the service's choice. Each language of a report is a separate report in the archive.",
    )
    .one_of(c"en-us,zh-cn")
    .invalid_status(Status::InvalidLocale),
    mirror(
        c"utc_offset",
        Kind::Text,
        (1, 6),
        c"The offset from UTC that determines the day of a report, such as +08:00, for \"since\" and \"until\", the periods without a report and the directories of years. Times without an offset are UTC.",
    )
    .defaults_to(c"+00:00"),
    mirror(
        c"parallel",
        Kind::Number,
        (1, 16),
        c"The number of parallel downloads.",
    )
    .defaults_to(c"4"),
    mirror(
        c"verify",
        Kind::Boolean,
        NO_RANGE,
        c"Whether existing files are read and compared with the manifest. Without it only the sizes are compared. A file that differs is downloaded again, and replaced when the new one is complete.",
    )
    .defaults_to(c"false"),
    schedule(
        c"status",
        Kind::Choice,
        NO_RANGE,
        c"Whether the service generates reports on this schedule.",
    )
    .one_of(c"ON,OFF"),
    schedule(
        c"frequency",
        Kind::Choice,
        NO_RANGE,
        c"How often it generates a report.",
    )
    .one_of(c"AUDIT_REPORT_DAY,AUDIT_REPORT_WEEK,AUDIT_REPORT_MONTH,AUDIT_REPORT_YEAR,AUDIT_REPORT_REAL_TIME"),
    schedule(
        c"format",
        Kind::Choice,
        NO_RANGE,
        c"The format of the reports.",
    )
    .one_of(c"ZIP,PDF"),
    schedule(
        c"mode",
        Kind::Text,
        up_to(MAX_TEXT_LENGTH),
        c"The mode of scheduling: a word of the service, which does not document the words.",
    ),
    schedule(
        c"start_time",
        Kind::Text,
        up_to(MAX_TEXT_LENGTH),
        c"When the schedule begins: text in the service's notation, which is sent unchanged.",
    ),
    schedule(
        c"notice",
        Kind::Choice,
        NO_RANGE,
        c"Whether the service sends a notification when a report is ready.",
    )
    .one_of(c"ON,OFF"),
    schedule(
        c"topic_urn",
        Kind::Text,
        (0, MAX_TEXT_LENGTH as i64),
        c"The URN of the topic of SMN (Simple Message Notification) that receives the notifications; empty for none.",
    ),
    schedule(
        c"db_ids",
        Kind::Text,
        (0, MAX_TEXT_LENGTH as i64),
        c"The ids of the databases that the reports cover, separated by commas; empty for all.",
    ),
];
