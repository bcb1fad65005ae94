//! The configuration of a context: every option, checked when it is set.

use std::ffi::OsStr;
use std::fmt;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::arguments::{Shown, utf8};
use super::log::Log;
use super::options::OPTIONS;
use crate::auth::{AccessKey, Credential, Token};
use crate::error::{Error, Status};
use crate::http::{Endpoint, Limits, Proxy};
use crate::operation::Overrides;
use zeroize::Zeroizing;

const DAY_MS: u64 = 86_400_000;

/// What [`super::Context::new`] is made from. See `dbss_config_set` for what
/// each option means.
#[derive(Clone)]
pub struct Config {
    region: Option<String>,
    endpoint: Option<Endpoint>,
    token: Option<Token>,
    access_key: Option<Vec<u8>>,
    secret_key: Option<Zeroizing<Vec<u8>>>,
    security_token: Option<Zeroizing<Vec<u8>>>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) limits: Limits,
    pub(super) allow_plaintext: bool,
    pub(super) allow_unframed: bool,
    pub(super) follow_redirects: bool,
    pub(super) max_memory: u64,
    pub(super) max_attempts: u32,
    pub(super) max_retry_after: Duration,
    pub(super) file_mode: u32,
    pub(super) user_agent_suffix: Option<String>,
    pub(super) log: Option<Arc<dyn Log>>,
    proxy: Option<Proxy>,
    proxy_from_environment: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token)
            .field("access_key", &self.access_key.as_ref().map(|_| "***"))
            .field("secret_key", &self.secret_key.as_ref().map(|_| "***"))
            .field("security_token", &self.security_token.as_ref().map(|_| "***"))
            .field("ca_file", &self.ca_file)
            .field("limits", &self.limits)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("allow_unframed", &self.allow_unframed)
            .field("follow_redirects", &self.follow_redirects)
            .field("max_memory", &self.max_memory)
            .field("max_attempts", &self.max_attempts)
            .field("max_retry_after", &self.max_retry_after)
            .field("file_mode", &self.file_mode)
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
            endpoint: None,
            token: None,
            access_key: None,
            secret_key: None,
            security_token: None,
            ca_file: None,
            limits: Limits::default(),
            allow_plaintext: false,
            allow_unframed: false,
            follow_redirects: false,
            max_memory: 0,
            max_attempts: 0,
            max_retry_after: Duration::ZERO,
            file_mode: 0,
            user_agent_suffix: None,
            log: None,
            proxy: None,
            proxy_from_environment: false,
        };
        // The table's defaults are the defaults: what is documented is what is.
        for option in OPTIONS {
            if let (Ok(key), Some(value)) = (option.key.to_str(), option.default) {
                config
                    .set(key, value.to_bytes())
                    .expect("the default of an option is a value of it");
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
        if region.is_empty() || region.len() > 63 || edge || !region.chars().all(allowed) {
            return Err(Error::argument(
                Status::InvalidEndpoint,
                "region",
                format_args!(
                    "must be 1 to 63 characters of a-z, 0-9 and '-', such as cn-north-4, and is \"{}\"",
                    region.escape_debug()
                ),
            ));
        }
        self.region = Some(region.to_owned());
        Ok(())
    }

    /// Sets the service's URL.
    pub fn set_endpoint(&mut self, endpoint: &str) -> Result<(), Error> {
        self.endpoint = Some(Endpoint::parse(endpoint, "endpoint")?);
        Ok(())
    }

    /// Sets the token, in place of an access key.
    pub fn set_token(&mut self, token: &[u8]) -> Result<(), Error> {
        self.token = Some(Token::new(token)?);
        self.access_key = None;
        self.secret_key = None;
        self.security_token = None;
        Ok(())
    }

    /// Sets the access key, in place of a token.
    pub fn set_access_key(
        &mut self,
        access_key: &[u8],
        secret_key: &[u8],
        security_token: Option<&[u8]>,
    ) -> Result<(), Error> {
        AccessKey::new(access_key, secret_key, security_token)?;
        self.token = None;
        self.access_key = Some(access_key.to_vec());
        self.secret_key = Some(Zeroizing::new(secret_key.to_vec()));
        self.security_token = security_token.map(|token| Zeroizing::new(token.to_vec()));
        Ok(())
    }

    /// What proves to the service who calls, as far as it is configured.
    pub(super) fn credential(&self) -> Result<Option<Arc<dyn Credential>>, Error> {
        let missing = |key, other| {
            Error::argument(
                Status::NotConfigured,
                key,
                format_args!("is missing: {other} is configured, and one is nothing without the other"),
            )
        };
        if let Some(token) = &self.token {
            return Ok(Some(Arc::new(token.clone())));
        }
        match (&self.access_key, &self.secret_key) {
            (Some(id), Some(key)) => {
                let token = self.security_token.as_ref().map(|token| token.as_slice());
                Ok(Some(Arc::new(AccessKey::new(id, key, token)?)))
            }
            (Some(_), None) => Err(missing("secret_key", "access_key")),
            (None, Some(_)) => Err(missing("access_key", "secret_key")),
            (None, None) if self.security_token.is_some() => Err(missing("access_key", "security_token")),
            (None, None) => Ok(None),
        }
    }

    /// Sets any option by its key.
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        // The table's key has the lifetime that an error's parameter needs.
        let known = OPTIONS.iter().filter_map(|o| o.key.to_str().ok());
        let Some(key) = known.into_iter().find(|k| *k == key) else {
            return Err(Error::argument(
                Status::UnknownKey,
                "key",
                format_args!("there is no option \"{}\"", key.escape_debug()),
            ));
        };
        match key {
            "region" => self.set_region(utf8(value, key)?)?,
            "endpoint" => self.set_endpoint(utf8(value, key)?)?,
            "token" => self.set_token(value)?,
            "access_key" => {
                AccessKey::new(value, b"-", None)?;
                self.token = None;
                self.access_key = Some(value.to_vec());
            }
            "secret_key" => {
                AccessKey::new(b"-", value, None)?;
                self.token = None;
                self.secret_key = Some(Zeroizing::new(value.to_vec()));
            }
            "security_token" => {
                AccessKey::new(b"-", b"-", Some(value))?;
                self.token = None;
                self.security_token = Some(Zeroizing::new(value.to_vec()));
            }
            "ca_file" => {
                if value.is_empty() {
                    return Err(invalid(key, "must name a file"));
                }
                self.ca_file = Some(PathBuf::from(OsStr::from_bytes(value)));
            }
            "max_retry_after_ms" => {
                self.max_retry_after = Duration::from_millis(number(key, value, 0..=DAY_MS)?);
            }
            "allow_plaintext" => self.allow_plaintext = boolean(key, value)?,
            "allow_unframed" => self.allow_unframed = boolean(key, value)?,
            "follow_redirects" => self.follow_redirects = boolean(key, value)?,
            "proxy" => self.proxy = Some(Proxy::parse(utf8(value, key)?, key)?),
            "proxy_from_environment" => self.proxy_from_environment = boolean(key, value)?,
            "user_agent_suffix" => self.user_agent_suffix = Some(user_agent_suffix(key, value)?),
            _ => {
                let mut own = Overrides::default();
                set_override(&mut own, key, value)?;
                self.limits.connect = own.connect_timeout.unwrap_or(self.limits.connect);
                self.limits.stall = own.stall_timeout.unwrap_or(self.limits.stall);
                self.limits.total = own.total_timeout.unwrap_or(self.limits.total);
                self.max_attempts = own.max_attempts.unwrap_or(self.max_attempts);
                self.max_memory = own.max_memory.unwrap_or(self.max_memory);
                self.file_mode = own.file_mode.unwrap_or(self.file_mode);
            }
        }
        Ok(())
    }

    /// Sets or clears the log callback.
    pub fn set_log(&mut self, log: Option<Arc<dyn Log>>) -> Option<Arc<dyn Log>> {
        std::mem::replace(&mut self.log, log)
    }

    /// The proxy to go through; the environment is read now.
    pub(super) fn proxy(&self, https: bool) -> Result<Option<Proxy>, Error> {
        if self.proxy.is_some() || !self.proxy_from_environment {
            return Ok(self.proxy.clone());
        }
        Proxy::from_environment(https, |name| std::env::var(name).ok())
    }

    /// Where the service answers.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Error> {
        let endpoint = match (&self.endpoint, &self.region) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) => Endpoint::of_region(region)?,
            (None, None) => {
                return Err(Error::new(
                    Status::NotConfigured,
                    "neither an endpoint nor a region is configured; set one of them",
                ));
            }
        };
        if !endpoint.is_https() && !endpoint.is_loopback() && !self.allow_plaintext {
            return Err(Error::argument(
                Status::PlaintextRefused,
                "endpoint",
                "is plain http on another host, which would show the token and the report to the network; \
                 use https, or set allow_plaintext",
            ));
        }
        Ok(endpoint)
    }
}

/// Sets an option that a context has and each call may have for itself.
pub(crate) fn set_override(overrides: &mut Overrides, key: &str, value: &[u8]) -> Result<(), Error> {
    match key {
        "connect_timeout_ms" => {
            overrides.connect_timeout = Some(limit("connect_timeout_ms", value, 1..=DAY_MS)?);
        }
        "stall_timeout_ms" => {
            overrides.stall_timeout = Some(limit("stall_timeout_ms", value, 1..=DAY_MS)?);
        }
        "total_timeout_ms" => {
            overrides.total_timeout = Some(limit("total_timeout_ms", value, 1..=30 * DAY_MS)?);
        }
        "max_attempts" => {
            overrides.max_attempts = Some(number("max_attempts", value, 1..=1000)? as u32);
        }
        "max_memory_bytes" => {
            overrides.max_memory = Some(number("max_memory_bytes", value, 1..=i64::MAX as u64)?);
        }
        "file_mode" => overrides.file_mode = Some(mode("file_mode", value)?),
        _ => {
            return Err(Error::argument(
                Status::UnknownKey,
                "key",
                format_args!("a call has no option \"{}\"", key.escape_debug()),
            ));
        }
    }
    Ok(())
}

fn mode(key: &'static str, value: &[u8]) -> Result<u32, Error> {
    std::str::from_utf8(value)
        .ok()
        .filter(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|v| u32::from_str_radix(v, 8).ok())
        .filter(|mode| *mode <= 0o777 && mode & 0o600 == 0o600)
        .ok_or_else(|| {
            invalid(
                key,
                format_args!(
                    "must be octal digits that let the owner read and write, such as 600 or 640, and is \"{}\"",
                    value.escape_ascii()
                ),
            )
        })
}

fn invalid(key: &'static str, what: impl fmt::Display) -> Error {
    Error::argument(Status::InvalidValue, key, what)
}

fn boolean(key: &'static str, value: &[u8]) -> Result<bool, Error> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(invalid(
            key,
            format_args!("must be true or false, and is \"{}\"", value.escape_ascii()),
        )),
    }
}

fn number(key: &'static str, value: &[u8], range: RangeInclusive<u64>) -> Result<u64, Error> {
    let digits = std::str::from_utf8(value)
        .ok()
        // `parse` would take a sign.
        .filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|v| v.parse().ok())
        .filter(|n| range.contains(n))
        .ok_or_else(|| {
            invalid(
                key,
                format_args!(
                    "must be a whole number from {} to {}, and is \"{}\"",
                    range.start(),
                    range.end(),
                    value.escape_ascii()
                ),
            )
        })
}

fn limit(key: &'static str, value: &[u8], range: RangeInclusive<u64>) -> Result<Option<Duration>, Error> {
    match value {
        b"-1" => Ok(None),
        _ => number(key, value, range).map(|ms| Some(Duration::from_millis(ms))),
    }
}

fn user_agent_suffix(key: &'static str, value: &[u8]) -> Result<String, Error> {
    let value = utf8(value, key)?;
    if let Some(c) = value.chars().find(|c| !(' '..='~').contains(c)) {
        return Err(invalid(
            key,
            format_args!(
                "must be visible ASCII characters and spaces, and has {}",
                Shown(c)
            ),
        ));
    }
    if value.trim().is_empty() || value.len() > 256 {
        return Err(invalid(
            key,
            format_args!("must have 1 to 256 characters, and has {}", value.trim().len()),
        ));
    }
    Ok(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Kind;

    fn sample(kind: Kind, key: &str) -> &'static [u8] {
        match (kind, key) {
            (_, "region") => b"cn-north-4",
            (Kind::Text, _) => b"nightly-job/2",
            (Kind::Url, _) => b"https://dbss.example.com",
            (_, "proxy") => b"http://u:p@proxy.example:3128",
            (Kind::Secret, _) => b"secret",
            (Kind::Path, _) => b"/etc/\xff",
            (Kind::Milliseconds, _) => b"86400000",
            (Kind::Bytes, _) => b"1",
            (Kind::Boolean, _) => b"true",
            (Kind::Number, _) => b"7",
            (Kind::Mode, _) => b"640",
        }
    }

    #[test]
    fn every_option_of_the_table_can_be_set_and_changes_the_configuration() {
        let before = format!("{:?}", Config::default());
        for option in OPTIONS {
            let key = option.key.to_str().expect("keys are ASCII");
            let mut config = Config::default();
            config.set(key, sample(option.kind, key)).expect(key);
            assert_ne!(format!("{config:?}"), before, "{key}");
        }
    }

    #[test]
    fn a_wrong_value_is_refused_by_name_and_leaves_the_option_as_it_was() {
        for (key, value) in [
            ("region", &b"CN-NORTH-4"[..]),
            ("region", b"a/b"),
            ("region", b"-a"),
            ("ca_file", b""),
            ("connect_timeout_ms", b"0"),
            ("connect_timeout_ms", b"+5"),
            ("connect_timeout_ms", b"1e3"),
            ("connect_timeout_ms", b"86400001"),
            ("connect_timeout_ms", b""),
            ("stall_timeout_ms", b"-2"),
            ("total_timeout_ms", b"99999999999999999999"),
            ("allow_plaintext", b"yes"),
            ("max_attempts", b"0"),
            ("max_retry_after_ms", b"-1"),
            ("file_mode", b"400"),
            ("file_mode", b"1777"),
            ("file_mode", b"68"),
            ("proxy", b"socks5://x:1"),
            ("max_memory_bytes", b"-1"),
            ("max_memory_bytes", b"0"),
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
        let error = Config::default().set("no_such", b"1").expect_err("unknown");
        assert_eq!(error.status(), Status::UnknownKey);
        assert!(error.message().contains("no_such"));
    }

    #[test]
    fn plain_http_is_for_this_machine_unless_allowed() {
        let status = |endpoint: &str, allow: &[u8]| {
            let mut config = Config::default();
            config.set_endpoint(endpoint).expect(endpoint);
            config.set("allow_plaintext", allow).expect("a boolean");
            config.endpoint().map(|_| ()).map_err(|e| e.status())
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
    fn the_endpoint_outranks_the_region() {
        let mut config = Config::default();
        assert_eq!(
            config.endpoint().expect_err("nothing").status(),
            Status::NotConfigured
        );
        config.set_region("xx-nowhere-9").expect("an unknown region");
        let endpoint = config.endpoint().expect("a region");
        assert_eq!(endpoint.origin(), "https://dbss.xx-nowhere-9.myhuaweicloud.com");
        config
            .set_endpoint("https://private.example:8443/dbss/")
            .expect("a URL");
        assert_eq!(
            config.endpoint().expect("a URL").origin(),
            "https://private.example:8443"
        );
    }

    #[test]
    fn debug_output_hides_the_token() {
        let mut config = Config::default();
        config.set_token(b"very-secret-token").expect("a token");
        assert!(!format!("{config:?}").contains("very-secret"));
    }
}
