//! The configuration of a client: every option, checked when it is set.

pub(crate) mod credentials;
mod credentials_option;
pub(crate) mod regions;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::client::arguments::{SanitizedChar, utf8};
use crate::client::value::{Value, option_value, unhandled};
use crate::credentials::{AccessKey, SourceSelector, TokenProvider};
use crate::error::{Error, Status};
use crate::http::{Endpoint, Limits, Proxy};
use crate::log::{Level, Log, LogFn};
use crate::message::{duration, given, name};
use crate::operation::Overrides;
use crate::tables::{MAX_REGION_LENGTH, OptionSet};
use credentials_option::{AgencyOption, CredentialsOption};
use zeroize::Zeroizing;

/// The configuration of a client. `dbss_config_set` documents the options.
#[derive(Clone)]
pub struct Config {
    region: Option<String>,
    endpoints: Vec<Endpoint>,
    iam_endpoint: Option<Endpoint>,
    sts_endpoint: Option<Endpoint>,
    metadata_endpoint: Option<Endpoint>,
    pub(crate) project_id: Option<String>,
    credentials: CredentialsOption,
    agency: AgencyOption,
    passcode_provider: Option<Arc<TokenProvider>>,
    /// Replaced credentials. They may hold functions of the caller, which must not be
    /// dropped while the configuration is locked.
    discarded: Vec<CredentialsOption>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) limits: Limits,
    pub(crate) allow_plaintext: bool,
    pub(crate) allow_close_delimited: bool,
    pub(crate) follow_redirects: bool,
    pub(crate) max_memory: u64,
    pub(crate) max_attempts: u32,
    pub(crate) max_retry_after: Duration,
    pub(crate) file_mode: u32,
    pub(crate) wait_timeout: Option<Duration>,
    pub(crate) poll_interval: Duration,
    pub(crate) interruptible: bool,
    pub(crate) log_level: Level,
    pub(crate) user_agent_suffix: Option<String>,
    pub(crate) log: Option<Arc<Log>>,
    proxy: Option<Proxy>,
    proxy_from_environment: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("region", &self.region)
            .field("endpoints", &self.endpoints)
            .field("iam_endpoint", &self.iam_endpoint)
            .field("sts_endpoint", &self.sts_endpoint)
            .field("metadata_endpoint", &self.metadata_endpoint)
            .field("project_id", &self.project_id)
            .field("credentials", &self.credentials)
            .field("agency", &self.agency)
            .field("ca_file", &self.ca_file)
            .field("limits", &self.limits)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("allow_close_delimited", &self.allow_close_delimited)
            .field("follow_redirects", &self.follow_redirects)
            .field("max_memory", &self.max_memory)
            .field("max_attempts", &self.max_attempts)
            .field("max_retry_after", &self.max_retry_after)
            .field("file_mode", &self.file_mode)
            .field("wait_timeout", &self.wait_timeout)
            .field("poll_interval", &self.poll_interval)
            .field("interruptible", &self.interruptible)
            .field("log_level", &self.log_level)
            .field("user_agent_suffix", &self.user_agent_suffix)
            .field("proxy", &self.proxy)
            .field("proxy_from_environment", &self.proxy_from_environment)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Config {
        let mut config = Config {
            region: None,
            endpoints: Vec::new(),
            iam_endpoint: None,
            sts_endpoint: None,
            metadata_endpoint: None,
            project_id: None,
            credentials: CredentialsOption::None,
            agency: AgencyOption::default(),
            passcode_provider: None,
            discarded: Vec::new(),
            ca_file: None,
            limits: Limits::default(),
            allow_plaintext: false,
            allow_close_delimited: false,
            follow_redirects: false,
            max_memory: 0,
            max_attempts: 0,
            max_retry_after: Duration::ZERO,
            file_mode: 0,
            wait_timeout: None,
            poll_interval: Duration::ZERO,
            interruptible: false,
            log_level: Level::Debug,
            user_agent_suffix: None,
            log: None,
            proxy: None,
            proxy_from_environment: false,
        };
        // The defaults come from the table, so that they always match the documentation.
        for option in OptionSet::Config.options() {
            if let Some(value) = option.default(OptionSet::Config) {
                config
                    .set(option.key(), value.to_bytes())
                    .expect("the default of an option is valid");
            }
        }
        config
    }
}

impl Config {
    /// Sets the region.
    pub fn set_region(&mut self, region: &str) -> Result<(), Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edge = region.starts_with('-') || region.ends_with('-');
        if region.is_empty() || region.len() > MAX_REGION_LENGTH || edge || !region.chars().all(allowed) {
            return Err(Error::argument(
                Status::InvalidEndpoint,
                "region",
                format_args!(
                    "must be 1 to {MAX_REGION_LENGTH} characters of a-z, 0-9 and '-', such as cn-north-4, but is {}",
                    given(region.escape_debug())
                ),
            ));
        }
        self.region = Some(region.to_owned());
        Ok(())
    }

    /// Sets one or more URLs of the service, separated by commas, in the order of
    /// preference.
    pub fn set_endpoint(&mut self, endpoints: &str) -> Result<(), Error> {
        let parsed: Vec<Endpoint> = endpoints
            .split(',')
            .map(|url| Endpoint::parse_service(url.trim_matches(' '), "endpoint"))
            .collect::<Result<_, _>>()?;
        if parsed.len() > regions::MAX_ENDPOINTS {
            return Err(Error::argument(
                Status::InvalidEndpoint,
                "endpoint",
                format_args!(
                    "must have at most {} URLs, but has {}",
                    regions::MAX_ENDPOINTS,
                    parsed.len()
                ),
            ));
        }
        self.endpoints = parsed;
        Ok(())
    }

    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Sets any option by its key.
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        match option_value(OptionSet::Config, key, value)? {
            ("region", Value::Text(region)) => self.set_region(region)?,
            ("endpoint", Value::Text(urls)) => self.set_endpoint(urls)?,
            ("token", Value::Bytes(token)) => self.set_token(token)?,
            ("access_key", Value::Bytes(value)) => {
                AccessKey::new(value, b"-", None)?;
                self.keys().access_key = Some(value.to_vec());
            }
            ("secret_key", Value::Bytes(value)) => {
                AccessKey::new(b"-", value, None)?;
                self.keys().secret_key = Some(Zeroizing::new(value.to_vec()));
            }
            ("security_token", Value::Bytes(value)) => {
                AccessKey::new(b"-", b"-", Some(value))?;
                self.keys().security_token = Some(Zeroizing::new(value.to_vec()));
            }
            ("iam_user", Value::Text(name)) => self.user().name = Some(name.to_owned()),
            (key @ "iam_password", Value::Bytes(password)) => {
                let password = utf8(password, key)?;
                self.user().password = Some(Zeroizing::new(password.to_owned()));
            }
            ("iam_domain", Value::Text(name)) => self.user().domain = Some(name.to_owned()),
            ("iam_user_id", Value::Text(id)) => self.user().id = Some(id.to_owned()),
            ("agency_name", Value::Text(name)) => self.agency.name = Some(name.to_owned()),
            ("agency_domain", Value::Text(name)) => self.agency.domain = Some(name.to_owned()),
            ("agency_domain_id", Value::Text(id)) => self.agency.domain_id = Some(id.to_owned()),
            ("agency_duration_ms", Value::Time(Some(given))) if given.subsec_nanos() != 0 => {
                let what = format_args!("must be whole seconds, but is {}", duration(given));
                return Err(Error::argument(Status::InvalidValue, "agency_duration_ms", what));
            }
            ("agency_duration_ms", Value::Time(Some(duration))) => self.agency.duration = duration,
            (key @ "credentials", Value::Choice(name)) => {
                let selector = SourceSelector::parse(name).ok_or_else(|| unhandled(key))?;
                self.replace_credentials(CredentialsOption::Find(selector));
            }
            (key @ "log_level", Value::Choice(name)) => {
                self.log_level = Level::parse(name).ok_or_else(|| unhandled(key))?;
            }
            ("project_id", Value::Text(id)) => self.project_id = Some(id.to_owned()),
            (key @ "iam_endpoint", Value::Text(url)) => {
                self.iam_endpoint = Some(Endpoint::parse_service(url, key)?)
            }
            (key @ "sts_endpoint", Value::Text(url)) => {
                self.sts_endpoint = Some(Endpoint::parse_service(url, key)?)
            }
            (key @ "metadata_endpoint", Value::Text(url)) => {
                self.metadata_endpoint = Some(Endpoint::parse(url, key)?);
            }
            ("ca_file", Value::Bytes(path)) => self.ca_file = Some(PathBuf::from(OsStr::from_bytes(path))),
            ("max_retry_after_ms", Value::Time(Some(longest))) => self.max_retry_after = longest,
            ("allow_plaintext", Value::Flag(allow)) => self.allow_plaintext = allow,
            ("allow_close_delimited", Value::Flag(allow)) => self.allow_close_delimited = allow,
            ("follow_redirects", Value::Flag(follow)) => self.follow_redirects = follow,
            (key @ "proxy", Value::Bytes(url)) => self.proxy = Some(Proxy::parse(utf8(url, key)?, key)?),
            ("proxy_from_environment", Value::Flag(read)) => self.proxy_from_environment = read,
            (key @ "user_agent_suffix", Value::Text(suffix)) => {
                self.user_agent_suffix = Some(user_agent_suffix(key, suffix)?);
            }
            (key, value) => {
                let mut own = Overrides::default();
                override_with(&mut own, key, value)?;
                self.limits.connect = own.connect_timeout.unwrap_or(self.limits.connect);
                self.limits.stall = own.stall_timeout.unwrap_or(self.limits.stall);
                self.limits.total = own.total_timeout.unwrap_or(self.limits.total);
                self.max_attempts = own.max_attempts.unwrap_or(self.max_attempts);
                self.max_memory = own.max_memory.unwrap_or(self.max_memory);
                self.file_mode = own.file_mode.unwrap_or(self.file_mode);
                self.wait_timeout = own.wait_timeout.unwrap_or(self.wait_timeout);
                self.poll_interval = own.poll_interval.unwrap_or(self.poll_interval);
                self.interruptible = own.interruptible.unwrap_or(self.interruptible);
            }
        }
        Ok(())
    }

    /// Sets or clears the log callback.
    pub fn set_log(&mut self, log: Option<Arc<Log>>) -> Option<Arc<Log>> {
        std::mem::replace(&mut self.log, log)
    }

    /// Returns the proxy to use. Reads the environment if configured.
    pub(crate) fn proxy(&self, https: bool) -> Result<Option<Proxy>, Error> {
        if self.proxy.is_some() || !self.proxy_from_environment {
            return Ok(self.proxy.clone());
        }
        Proxy::from_environment(https, |name| std::env::var(name).ok())
    }

    /// Returns the endpoints of the service, in the order of preference.
    pub(crate) fn endpoints(
        &self,
        environment: &dyn Fn(&str) -> Option<OsString>,
        log: &LogFn<'_>,
    ) -> Result<Vec<Endpoint>, Error> {
        let endpoints = match (&self.endpoints[..], &self.region) {
            ([_, ..], _) => self.endpoints.clone(),
            ([], Some(region)) => {
                let (endpoints, from) = regions::endpoints(region, environment)?;
                log(Level::Info, &|| {
                    let first = endpoints[0].origin();
                    format!("the region {region} is at {first} ({from})").into()
                });
                endpoints
            }
            ([], None) => {
                return Err(Error::new(
                    Status::NotConfigured,
                    "neither an endpoint nor a region is configured; set one of them",
                ));
            }
        };
        for endpoint in &endpoints {
            self.check_plaintext(endpoint, "endpoint")?;
        }
        Ok(endpoints)
    }

    /// Returns the endpoint of the instance's metadata service.
    pub(crate) fn metadata_endpoint(&self) -> Result<Endpoint, Error> {
        let Some(endpoint) = &self.metadata_endpoint else {
            return Endpoint::parse("http://169.254.169.254", "metadata_endpoint");
        };
        if metadata_address(endpoint).is_none() {
            self.check_plaintext(endpoint, "metadata_endpoint")?;
        }
        Ok(endpoint.clone())
    }

    fn check_plaintext(&self, endpoint: &Endpoint, parameter: &'static str) -> Result<(), Error> {
        if endpoint.is_https() || endpoint.is_loopback() || self.allow_plaintext {
            return Ok(());
        }
        Err(Error::argument(
            Status::PlaintextRefused,
            parameter,
            format_args!(
                "is plain http on another host, which would expose credentials and the report to the network; use https, or set {}",
                name("allow_plaintext")
            ),
        ))
    }
}

/// Returns the address of a metadata service to which its own requests may go in plain
/// http: one on the same link, or in the same private network.
pub(crate) fn metadata_address(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.link_local_address().or(endpoint.private_address())
}

/// Sets an option that each call may override.
pub(crate) fn set_override(overrides: &mut Overrides, key: &str, value: &[u8]) -> Result<(), Error> {
    let (key, value) = option_value(OptionSet::Operation, key, value)?;
    override_with(overrides, key, value)
}

fn override_with(overrides: &mut Overrides, key: &'static str, value: Value<'_>) -> Result<(), Error> {
    match (key, value) {
        ("connect_timeout_ms", Value::Time(limit)) => overrides.connect_timeout = Some(limit),
        ("stall_timeout_ms", Value::Time(limit)) => overrides.stall_timeout = Some(limit),
        ("total_timeout_ms", Value::Time(limit)) => overrides.total_timeout = Some(limit),
        ("max_attempts", Value::Number(count)) => {
            overrides.max_attempts = Some(u32::try_from(count).unwrap_or(u32::MAX));
        }
        ("max_memory_bytes", Value::Number(size)) => overrides.max_memory = Some(size),
        ("file_mode", Value::Mode(mode)) => overrides.file_mode = Some(mode),
        ("wait_timeout_ms", Value::Time(limit)) => overrides.wait_timeout = Some(limit),
        ("poll_interval_ms", Value::Time(Some(interval))) => overrides.poll_interval = Some(interval),
        ("interruptible", Value::Flag(interruptible)) => overrides.interruptible = Some(interruptible),
        (key, _) => return Err(unhandled(key)),
    }
    Ok(())
}

fn user_agent_suffix(key: &'static str, value: &str) -> Result<String, Error> {
    let invalid = |what: fmt::Arguments<'_>| Error::argument(Status::InvalidValue, key, what);
    if let Some(c) = value.chars().find(|c| !(' '..='~').contains(c)) {
        return Err(invalid(format_args!(
            "must be visible ASCII characters and spaces, but has {}",
            SanitizedChar(c)
        )));
    }
    if value.trim().is_empty() {
        return Err(invalid(format_args!("must not be only spaces")));
    }
    Ok(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Kind;

    fn sample(kind: Kind, key: &str) -> &'static [u8] {
        match (kind, key) {
            (_, "region") => b"cn-north-4",
            (_, "proxy") => b"http://u:p@proxy.example:3128",
            (Kind::Text, _) => b"nightly-job/2",
            (Kind::Id, _) => b"0123456789abcdef0123456789abcdef",
            (Kind::Url, _) => b"https://dbss.example.com",
            (Kind::Secret, _) => b"secret",
            (Kind::Path, _) => b"/etc/\xff",
            (Kind::Milliseconds, _) => b"86400000",
            (Kind::Bytes, _) => b"1",
            (Kind::Boolean, _) => b"true",
            (Kind::Number, _) => b"7",
            (Kind::Mode, _) => b"640",
            (_, "log_level") => b"error",
            (Kind::Choice, _) => b"default",
            (Kind::Day, _) => b"2026-11-24",
        }
    }

    #[test]
    fn every_option_in_table_changes_configuration() {
        let before = format!("{:?}", Config::default());
        for option in OptionSet::Config.options() {
            let key = option.key();
            let mut config = Config::default();
            config.set(key, sample(option.kind, key)).expect(key);
            assert_ne!(format!("{config:?}"), before, "{key}");
        }
    }

    #[test]
    fn invalid_value_error_names_option_and_changes_nothing() {
        for (key, value) in [
            ("region", &b"CN-NORTH-4"[..]),
            ("region", b"a/b"),
            ("region", b"-a"),
            ("endpoint", b"https://a.example,"),
            ("iam_endpoint", b"ftp://iam.example.com"),
            ("iam_password", b"\xff"),
            ("connect_timeout_ms", b"0"),
            ("proxy", b"socks5://x:1"),
            ("user_agent_suffix", b"a\r\nX-Evil: 1"),
            ("user_agent_suffix", b"  "),
            ("user_agent_suffix", "ü".as_bytes()),
        ] {
            let mut config = Config::default();
            let error = config.set(key, value).expect_err(key);
            assert_eq!(error.parameter(), Some(key));
            assert!(error.message().starts_with(key), "{error}");
            assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        }
    }

    #[test]
    fn plain_http_to_other_host_is_refused_unless_allowed() {
        let status = |endpoint: &str, allow: &[u8]| {
            let mut config = Config::default();
            config.set_endpoint(endpoint).expect(endpoint);
            config.set("allow_plaintext", allow).expect("a boolean");
            config
                .endpoints(&|_| None, &|_, _| ())
                .map(|_| ())
                .map_err(|e| e.status())
        };
        assert_eq!(status("http://127.0.0.1:8080", b"false"), Ok(()));
        assert_eq!(status("http://[::1]:8080", b"false"), Ok(()));
        assert_eq!(status("http://localhost", b"false"), Ok(()));
        assert_eq!(
            status("http://dbss.example.com", b"false"),
            Err(Status::PlaintextRefused)
        );
        assert_eq!(
            status("http://127.0.0.1.example.com", b"false"),
            Err(Status::PlaintextRefused)
        );
        assert_eq!(status("http://dbss.example.com", b"true"), Ok(()));
        assert_eq!(status("https://dbss.example.com", b"false"), Ok(()));
    }

    #[test]
    fn endpoint_takes_precedence_over_region() {
        let origins = |config: &Config| -> Result<Vec<String>, Error> {
            let endpoints = config.endpoints(&|_| None, &|_, _| ())?;
            Ok(endpoints.iter().map(Endpoint::origin).collect())
        };
        let mut config = Config::default();
        let error = origins(&config).expect_err("nothing");
        assert_eq!(error.status(), Status::NotConfigured);
        config.set_region("xx-nowhere-9").expect("an unknown region");
        assert_eq!(
            origins(&config).expect("a region"),
            ["https://dbss.xx-nowhere-9.myhuaweicloud.com"]
        );
        config
            .set_endpoint("https://private.example:8443/dbss/, https://second.example")
            .expect("URLs");
        assert_eq!(
            origins(&config).expect("URLs"),
            ["https://private.example:8443", "https://second.example"]
        );
    }

    #[test]
    fn debug_output_of_config_hides_secrets() {
        let mut config = Config::default();
        for set in [
            |c: &mut Config| c.set_token(b"very-secret"),
            |c: &mut Config| c.set_access_key(b"very-secret", b"very-secret", Some(b"very-secret")),
            |c: &mut Config| c.set_iam_user("user", "very-secret", "domain"),
        ] {
            set(&mut config).expect("credentials");
            assert!(!format!("{config:?}").contains("very-secret"));
        }
    }
}
