//! The options of a configuration, an operation, a report spec and a mirror.

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
    /// A day, such as 2026-11-24.
    Day,
    /// One of some words.
    Choice,
}

impl Kind {
    /// The name that `dbss_option_type` gives.
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

/// What has options.
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
}

impl OptionSet {
    /// Every set.
    pub const ALL: &'static [OptionSet] = &[
        OptionSet::Config,
        OptionSet::Operation,
        OptionSet::ReportSpec,
        OptionSet::Mirror,
    ];

    /// Its name in descriptions.
    pub const fn name(self) -> &'static str {
        match self {
            OptionSet::Config => "config",
            OptionSet::Operation => "operation",
            OptionSet::ReportSpec => "report_spec",
            OptionSet::Mirror => "mirror",
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
    /// The smallest value of a number, or the least length of a text in bytes;
    /// -1 where there is none.
    pub minimum: i64,
    /// The largest value of a number, or the greatest length of a text in bytes;
    /// -1 where there is none.
    pub maximum: i64,
    /// Whether "-1", no limit, is a value too.
    pub allows_none: bool,
    /// The words of a choice, joined by commas.
    pub choices: Option<&'static CStr>,
    /// Whether nothing can be done without it.
    pub required: bool,
    /// The status of a value that is wrong.
    pub status: Status,
    /// What it does, without its range and default.
    pub help: &'static CStr,
    /// What has it.
    pub sets: &'static [OptionSet],
    default: Option<&'static CStr>,
}

impl OptionRow {
    /// Its key.
    pub fn key(&self) -> &'static str {
        self.key.to_str().unwrap_or_default()
    }

    /// Its value in a set where it was not set, in the form of its kind; none
    /// where it is unset then. An operation takes that of its context.
    pub fn default(&self, set: OptionSet) -> Option<&'static CStr> {
        self.default.filter(|_| set != OptionSet::Operation)
    }

    /// Its choices.
    pub fn choices(&self) -> impl Iterator<Item = &'static str> {
        let words = self.choices.and_then(|words| words.to_str().ok());
        words.into_iter().flat_map(|words| words.split(','))
    }

    /// What its value can be, in words such as "1 to 1000"; none where the kind
    /// says it all.
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

    const fn wrong_is(mut self, status: Status) -> OptionRow {
        self.status = status;
        self
    }
}

/// The lengths of the ids of projects and instances, in characters, from the
/// service's page of DownloadAuditReport.
pub const PROJECT_OR_INSTANCE_ID: RangeInclusive<usize> = 32..=64;

/// The longest region's name.
pub const LONGEST_REGION: usize = 63;

/// The longest token: a request must fit a connection's output buffer, which is
/// larger than this. Real tokens have a few kilobytes, some tens of them with a
/// long catalogue.
pub const LONGEST_TOKEN: usize = 96 * 1024;

/// Far more than any access key or secret key has.
pub const LONGEST_KEY: usize = 1024;

/// The longest name of a report that can be looked for, in bytes.
pub const LONGEST_NAME: usize = 256;

/// More than any user's or account's name or password has, in bytes.
const LONGEST_LOGIN: usize = 1024;

/// More than any time or list of ids has, in bytes.
const LONGEST_TEXT: usize = 4096;

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

/// An option that a context has and each call may have for itself.
const fn per_call(key: &'static CStr, kind: Kind, range: (i64, i64), help: &'static CStr) -> OptionRow {
    OptionRow::new(&[OptionSet::Config, OptionSet::Operation], key, kind, range, help)
}

const fn spec(key: &'static CStr, kind: Kind, range: (i64, i64), help: &'static CStr) -> OptionRow {
    OptionRow::new(&[OptionSet::ReportSpec], key, kind, range, help)
}

const fn mirror(key: &'static CStr, kind: Kind, range: (i64, i64), help: &'static CStr) -> OptionRow {
    OptionRow::new(&[OptionSet::Mirror], key, kind, range, help)
}

/// Every option, in the order in which descriptions list them.
pub static OPTIONS: &[OptionRow] = &[
    config(
        c"region",
        Kind::Text,
        up_to(LONGEST_REGION),
        c"The region, such as cn-north-4; the endpoint and the project follow from it, unless they are set too. a-z, 0-9 and \"-\".",
    )
    .wrong_is(Status::InvalidEndpoint),
    config(
        c"endpoint",
        Kind::Url,
        NOT_EMPTY,
        c"The URL at which the service responds, or up to 16, separated by commas, in the order of preference; it outranks the region's.",
    ),
    config(
        c"project_id",
        Kind::Id,
        length(&PROJECT_OR_INSTANCE_ID),
        c"The id of the project for calls that are given none. Without it, that of the credentials, or the one of the region's name, looked up once.",
    ),
    config(
        c"token",
        Kind::Secret,
        up_to(LONGEST_TOKEN),
        c"The IAM token that is sent with each request, in place of other credentials. Visible ASCII characters.",
    )
    .wrong_is(Status::InvalidToken),
    config(
        c"access_key",
        Kind::Secret,
        up_to(LONGEST_KEY),
        c"The access key (AK) with which each request is signed, in place of other credentials; it needs \"secret_key\". Visible ASCII characters.",
    )
    .wrong_is(Status::InvalidAccessKey),
    config(
        c"secret_key",
        Kind::Secret,
        up_to(LONGEST_KEY),
        c"The secret (SK) of \"access_key\". Visible ASCII characters.",
    )
    .wrong_is(Status::InvalidAccessKey),
    config(
        c"security_token",
        Kind::Secret,
        up_to(LONGEST_TOKEN),
        c"The security token of a temporary \"access_key\". Visible ASCII characters.",
    )
    .wrong_is(Status::InvalidAccessKey),
    config(
        c"iam_user",
        Kind::Text,
        up_to(LONGEST_LOGIN),
        c"The IAM user who logs in for a token, in place of other credentials; it needs \"iam_password\" and \"iam_domain\".",
    ),
    config(
        c"iam_password",
        Kind::Secret,
        up_to(LONGEST_LOGIN),
        c"The password of \"iam_user\".",
    ),
    config(
        c"iam_domain",
        Kind::Text,
        up_to(LONGEST_LOGIN),
        c"The name of the account of \"iam_user\".",
    ),
    config(
        c"credentials",
        Kind::Choice,
        NO_RANGE,
        c"Where to find credentials, in place of setting them: environment (HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN, _PROJECT_ID), profile (the section [basic] of ~/.huaweicloud/credentials, or of the file that HUAWEICLOUD_SDK_CREDENTIALS_FILE names), metadata (the temporary key of the instance's agency), or default, which is the three in this order.",
    )
    .one_of(c"default,environment,profile,metadata"),
    config(
        c"iam_endpoint",
        Kind::Url,
        NOT_EMPTY,
        c"The URL at which IAM responds, for logins and for looking up a project. Without it that of the profile, else that of the variable HUAWEICLOUD_SDK_IAM_ENDPOINT, else the region's own, else https://iam.myhuaweicloud.com.",
    ),
    config(
        c"metadata_endpoint",
        Kind::Url,
        NOT_EMPTY,
        c"The URL at which the instance's metadata service responds, if not http://169.254.169.254.",
    ),
    config(
        c"ca_file",
        Kind::Path,
        NOT_EMPTY,
        c"A PEM file of the certificates to trust, in place of the system's and of the built-in ones.",
    ),
    per_call(
        c"connect_timeout_ms",
        Kind::Milliseconds,
        (1, DAY_MS),
        c"The longest time until a connection stands: name look-up, TCP and TLS together.",
    )
    .or_no_limit()
    .defaults_to(c"10000"),
    per_call(
        c"stall_timeout_ms",
        Kind::Milliseconds,
        (1, DAY_MS),
        c"The longest time without a byte in or out.",
    )
    .or_no_limit()
    .defaults_to(c"60000"),
    per_call(
        c"total_timeout_ms",
        Kind::Milliseconds,
        (1, 30 * DAY_MS),
        c"The longest time for a whole call.",
    )
    .or_no_limit()
    .defaults_to(c"-1"),
    per_call(
        c"max_attempts",
        Kind::Number,
        (1, 1000),
        c"How many attempts a call makes when the connection fails or breaks, or the service responds with 429, 500, 502, 503 or 504; counted anew after an attempt that brought 1 MiB. 1 is for no retries.",
    )
    .defaults_to(c"3"),
    config(
        c"max_retry_after_ms",
        Kind::Milliseconds,
        (0, DAY_MS),
        c"The longest wait that the service may ask for (Retry-After) before another attempt; where it asks for more, the call fails at once.",
    )
    .defaults_to(c"60000"),
    config(
        c"allow_plaintext",
        Kind::Boolean,
        NO_RANGE,
        c"Whether an endpoint on another host may be plain http, which shows the token and the report to the network.",
    )
    .defaults_to(c"false"),
    config(
        c"allow_close_delimited",
        Kind::Boolean,
        NO_RANGE,
        c"Whether a body over plain http may end by nothing but the end of the connection; then nobody can tell whether it is whole.",
    )
    .defaults_to(c"false"),
    config(
        c"follow_redirects",
        Kind::Boolean,
        NO_RANGE,
        c"Whether up to 5 redirects are followed; credentials never go to another origin, nor a request from https to plain http.",
    )
    .defaults_to(c"false"),
    config(
        c"proxy",
        Kind::Secret,
        NOT_EMPTY,
        c"The URL of an HTTP proxy, such as http://user:password@proxy.example.com:3128, through which all connections are tunnelled (CONNECT).",
    )
    .wrong_is(Status::InvalidEndpoint),
    config(
        c"proxy_from_environment",
        Kind::Boolean,
        NO_RANGE,
        c"Whether the proxy is taken from https_proxy, http_proxy, all_proxy and no_proxy (upper case too, but for HTTP_PROXY) when the context is made.",
    )
    .defaults_to(c"false"),
    per_call(
        c"file_mode",
        Kind::Mode,
        (0o600, 0o777),
        c"The permissions of a saved file in octal digits, whatever the umask is; the owner can always read and write.",
    )
    .defaults_to(c"600"),
    per_call(
        c"max_memory_bytes",
        Kind::Bytes,
        (1, i64::MAX),
        c"The largest report that a call takes into memory.",
    )
    .defaults_to(c"1073741824"),
    per_call(
        c"wait_timeout_ms",
        Kind::Milliseconds,
        (1, 30 * DAY_MS),
        c"The longest time to wait for a report that the service makes.",
    )
    .or_no_limit()
    .defaults_to(c"3600000"),
    per_call(
        c"poll_interval_ms",
        Kind::Milliseconds,
        (1, DAY_MS),
        c"How long to wait before a report that is being made is looked at again; half as long again each time, up to 30 s or this where it is more, and varied by a fifth.",
    )
    .defaults_to(c"2000"),
    per_call(
        c"interruptible",
        Kind::Boolean,
        NO_RANGE,
        c"Whether a signal that the program handles may end a call. dbss_operation_set_interrupt() sets who decides; without it every handled signal does.",
    )
    .defaults_to(c"false"),
    config(
        c"log_level",
        Kind::Choice,
        NO_RANGE,
        c"Which records the log callback receives: those of this level and the ones that matter more.",
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
        c"The id of the template to make the report from.",
    )
    .required(),
    spec(
        c"start_time",
        Kind::Text,
        up_to(LONGEST_TEXT),
        c"When the range that the report covers begins: text in the form that the service takes, such as 2026-11-24 00:00:00, which is passed on as it is.",
    )
    .required(),
    spec(
        c"end_time",
        Kind::Text,
        up_to(LONGEST_TEXT),
        c"When the range that the report covers ends; text as for \"start_time\".",
    )
    .required(),
    spec(
        c"start_date",
        Kind::Text,
        up_to(LONGEST_TEXT),
        c"The day on which the range begins; text as for \"start_time\".",
    ),
    spec(
        c"end_date",
        Kind::Text,
        up_to(LONGEST_TEXT),
        c"The day on which the range ends; text as for \"start_time\".",
    ),
    spec(
        c"db_ids",
        Kind::Text,
        up_to(LONGEST_TEXT),
        c"The ids of the databases that the report covers, joined by commas; by default all.",
    ),
    mirror(
        c"instance",
        Kind::Id,
        length(&PROJECT_OR_INSTANCE_ID),
        c"The id of the one audit instance to mirror; by default all.",
    ),
    mirror(
        c"since",
        Kind::Day,
        NO_RANGE,
        c"The first day on which the range of a report may begin, such as 2026-11-24. A report that tells no day is taken.",
    ),
    mirror(
        c"until",
        Kind::Day,
        NO_RANGE,
        c"The last day on which the range of a report may begin.",
    ),
    mirror(
        c"type",
        Kind::Text,
        up_to(LONGEST_NAME),
        c"The type of the reports, such as AUDIT_REPORT_DAY.",
    ),
    mirror(
        c"template",
        Kind::Text,
        up_to(LONGEST_NAME),
        c"The template_type of the reports.",
    ),
    mirror(
        c"name",
        Kind::Text,
        up_to(LONGEST_NAME),
        c"A name that the service is asked to look for.",
    ),
    mirror(
        c"locale",
        Kind::Choice,
        NO_RANGE,
        c"The language of the reports; by default the service's choice. Each language is a report of its own in the archive.",
    )
    .one_of(c"en-us,zh-cn")
    .wrong_is(Status::InvalidLocale),
    mirror(
        c"utc_offset",
        Kind::Text,
        (1, 6),
        c"The offset from UTC of the days that reports are of, such as +08:00, for \"since\" and \"until\", the periods without a report and the directories of years. Times that name no offset are taken for UTC.",
    )
    .defaults_to(c"+00:00"),
    mirror(
        c"parallel",
        Kind::Number,
        (1, 16),
        c"How many reports are downloaded at once.",
    )
    .defaults_to(c"4"),
    mirror(
        c"verify",
        Kind::Boolean,
        NO_RANGE,
        c"Whether the files that are there are read and compared with the manifest; one that differs is downloaded again, and replaced when the new one is whole.",
    )
    .defaults_to(c"false"),
];
