//! What a client is made from.

use std::sync::Arc;
use std::time::Duration;

use super::Client;
use crate::client::config::Config;
use crate::credentials::TokenRequest;
use crate::error::Error;
use crate::log::LogRecord;

/// Makes a [`Client`].
///
/// Each setter checks its value at once; the first that is wrong is what
/// [`ClientBuilder::build`] fails with. A region or an endpoint is required, and
/// credentials by the first call. Of credentials those count that were set last.
///
/// ```
/// use std::time::Duration;
/// use dbss::{Client, Level};
///
/// # fn main() -> Result<(), dbss::Error> {
/// let client = Client::builder()
///     .region("cn-north-4")
///     .access_key("HPUA0123456789ABCDEF", "the-secret-key", None)
///     .total_timeout(Some(Duration::from_secs(600)))
///     .option("user_agent_suffix", "nightly-job/2")
///     .log(|record| {
///         if record.level <= Level::Warning {
///             eprintln!("{}", record.message);
///         }
///     })
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder makes nothing before its `build`"]
pub struct ClientBuilder {
    config: Config,
    failure: Option<Error>,
}

/// A limit in the form of an option's value: -1 is none. Part of a millisecond
/// counts as a whole one.
pub(super) fn milliseconds(limit: Option<Duration>) -> String {
    limit.map_or("-1".to_owned(), |limit| {
        limit.as_nanos().div_ceil(1_000_000).to_string()
    })
}

impl ClientBuilder {
    fn set(mut self, change: impl FnOnce(&mut Config) -> Result<(), Error>) -> ClientBuilder {
        if let Err(e) = change(&mut self.config) {
            self.failure.get_or_insert(e);
        }
        self
    }

    /// The region, such as `cn-north-4`: 1 to 63 characters of a-z, 0-9 and `-`. One
    /// that this library has never heard of is as good as any.
    ///
    /// The endpoint is then, unless one is set too, and as for the official SDKs: what
    /// the variable HUAWEICLOUD_SDK_REGION_DBSS_{REGION} (upper case, `_` for `-`)
    /// says when the client is made; else what the regions file
    /// (HUAWEICLOUD_SDK_REGIONS_FILE, or ~/.huaweicloud/regions.yaml) has for the
    /// service DBSS; else `https://dbss.{region}.myhuaweicloud.com`. The region's name
    /// is also that of the project that is looked up where none is given.
    pub fn region(self, region: &str) -> ClientBuilder {
        self.set(|config| config.set_region(region))
    }

    /// The URL at which the service answers, in place of the region's: https, or
    /// http, with a host, and maybe a port and a path.
    ///
    /// It may be up to 16 URLs, separated by commas, in the order of preference:
    /// where one cannot be reached the next is tried, and used from then on. Plain
    /// http to a host other than this machine also needs the option
    /// `allow_plaintext`.
    pub fn endpoint(self, endpoint: &str) -> ClientBuilder {
        self.set(|config| config.set_endpoint(endpoint))
    }

    /// The project of calls that are given none: see [`Client::with_project`].
    pub fn project_id(self, project: &str) -> ClientBuilder {
        self.option("project_id", project)
    }

    /// An IAM token that is sent with each request, in place of other credentials: 1
    /// to 98304 visible ASCII characters. Tokens live 24 hours:
    /// [`Client::set_token`] replaces it later.
    pub fn token(self, token: impl AsRef<[u8]>) -> ClientBuilder {
        self.set(|config| config.set_token(token.as_ref()))
    }

    /// An access key (AK and SK) with which each request is signed, in place of other
    /// credentials; with the security token of a temporary one. Each has 1 to 1024
    /// visible ASCII characters, the last up to 98304.
    ///
    /// A refused signature is never tried again: five wrong ones in a row lock a key
    /// for five minutes.
    pub fn access_key(
        self,
        access_key: impl AsRef<[u8]>,
        secret_key: impl AsRef<[u8]>,
        security_token: Option<&[u8]>,
    ) -> ClientBuilder {
        self.set(|config| config.set_access_key(access_key.as_ref(), secret_key.as_ref(), security_token))
    }

    /// An IAM user who logs in for a token, in place of other credentials; the domain
    /// is the account's name. The login is made by the first call that needs it, for
    /// all threads, and renewed before it expires. A login that IAM has refused is
    /// not made again, since several wrong ones lock a user.
    pub fn iam_user(self, user: &str, password: &str, domain: &str) -> ClientBuilder {
        self.set(|config| config.set_iam_user(user, password, domain))
    }

    /// Where to find credentials, as the official SDKs do, in place of setting them:
    /// `environment`, `profile`, `metadata`, or `default`, which is the three in this
    /// order. They are looked for when the client is made.
    pub fn credentials(self, place: &str) -> ClientBuilder {
        self.option("credentials", place)
    }

    /// A function that gives tokens, in place of other credentials: asked by the
    /// first call that needs one, before the last one expires, and after the service
    /// has refused it.
    ///
    /// One request is under way at a time, for all calls that wait for its response. The
    /// function runs on the thread of one of the calls, which cannot be cancelled
    /// until it returns; it may also hand the request to another thread and return.
    ///
    /// ```
    /// # fn token_of_the_vault() -> Result<String, std::io::Error> { unimplemented!() }
    /// let builder = dbss::Client::builder().token_provider(|request| {
    ///     let _ = match token_of_the_vault() {
    ///         Ok(token) => request.set(token, None),
    ///         Err(e) => request.fail(&e.to_string()),
    ///     };
    /// });
    /// ```
    pub fn token_provider(self, provider: impl Fn(TokenRequest) + Send + Sync + 'static) -> ClientBuilder {
        self.set(|config| {
            config.set_token_provider(Some(Arc::new(provider)));
            Ok(())
        })
    }

    /// A function that takes the records of the log. Without one nothing is logged
    /// anywhere.
    ///
    /// It runs on the threads of the calls, on several at once, with no lock held;
    /// what a mirror's own threads tell is told on the thread of the call.
    pub fn log(self, log: impl Fn(&LogRecord) + Send + Sync + 'static) -> ClientBuilder {
        self.set(|config| {
            drop(config.set_log(Some(Arc::new(log))));
            Ok(())
        })
    }

    /// The longest time until a connection stands: name look-up, TCP and TLS
    /// together. 1 ms to a day, default 10 s; none for no limit.
    pub fn connect_timeout(self, limit: Option<Duration>) -> ClientBuilder {
        self.option("connect_timeout_ms", milliseconds(limit))
    }

    /// The longest time without a byte in or out. 1 ms to a day, default 60 s; none
    /// for no limit.
    pub fn stall_timeout(self, limit: Option<Duration>) -> ClientBuilder {
        self.option("stall_timeout_ms", milliseconds(limit))
    }

    /// The longest time for a whole call. 1 ms to 30 days; none, the default, for no
    /// limit.
    pub fn total_timeout(self, limit: Option<Duration>) -> ClientBuilder {
        self.option("total_timeout_ms", milliseconds(limit))
    }

    /// The longest time to wait for a report that the service makes. 1 ms to 30 days,
    /// default an hour; none for no limit.
    pub fn wait_timeout(self, limit: Option<Duration>) -> ClientBuilder {
        self.option("wait_timeout_ms", milliseconds(limit))
    }

    /// How many attempts a call makes when the connection fails or breaks, or the
    /// service answers 429, 500, 502, 503 or 504; counted anew after an attempt that
    /// brought 1 MiB. 1 to 1000, default 3; 1 for no retries.
    pub fn max_attempts(self, attempts: u32) -> ClientBuilder {
        self.option("max_attempts", attempts.to_string())
    }

    /// Any option by its key, with its value as text: those above, and the ones that
    /// have no setter of their own, such as `ca_file`, `proxy`,
    /// `proxy_from_environment`, `follow_redirects`, `allow_plaintext`,
    /// `file_mode`, `max_memory_bytes`, `poll_interval_ms` and `interruptible`.
    ///
    /// They are those of the C function `dbss_config_set`, where their defaults and
    /// ranges stand. Times are in milliseconds and sizes in bytes, both in decimal
    /// digits; `-1` is no limit where an option has that; a boolean is `true` or
    /// `false`.
    pub fn option(self, key: &str, value: impl AsRef<[u8]>) -> ClientBuilder {
        self.set(|config| config.set(key, value.as_ref()))
    }

    /// Makes the client. No request is sent, but files and the environment are read
    /// now: the trusted certificates (those of the option `ca_file` where that is set,
    /// else the system's, else the ones built in); for a region without an endpoint,
    /// what the environment and the regions file say of it; the credentials that are
    /// to be found.
    pub fn build(self) -> Result<Client, Error> {
        match self.failure {
            Some(e) => Err(e),
            None => Client::new(self.config),
        }
    }
}
