//! The builder of a client.

use std::sync::Arc;
use std::time::Duration;

use super::Client;
use crate::client::config::Config;
use crate::credentials::TokenRequest;
use crate::error::Error;
use crate::log::LogRecord;

/// Makes a [`Client`].
///
/// Each setter checks its value immediately, and [`ClientBuilder::build`] returns the
/// first error. A region or an endpoint is required, and credentials before the first
/// call. The credentials that were set last count.
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
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    config: Config,
    failure: Option<Error>,
}

/// Formats a limit as an option's value: -1 for no limit. Rounds up to whole
/// milliseconds.
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

    /// The region, such as `cn-north-4`: 1 to 63 characters of a-z, 0-9 and `-`. Regions
    /// that this library does not know are accepted too.
    ///
    /// Unless an endpoint is set too, it is determined when the client is made, as in the
    /// official SDKs: from the variable HUAWEICLOUD_SDK_REGION_DBSS_{REGION} (upper case,
    /// `_` for `-`); else from the service DBSS in the regions file
    /// (HUAWEICLOUD_SDK_REGIONS_FILE, or ~/.huaweicloud/regions.yaml); else it is
    /// `https://dbss.{region}.myhuaweicloud.com`. If no project is set, the project with
    /// the region's name is looked up.
    pub fn region(self, region: &str) -> ClientBuilder {
        self.set(|config| config.set_region(region))
    }

    /// The URL of the service, instead of the region's: https or http, with a host and
    /// optionally a port and a path.
    ///
    /// It may have up to 16 URLs, separated by commas, in the order of preference. If one
    /// cannot be reached, the next is tried, and used from then on. Plain http to a host
    /// other than this machine also needs the option `allow_plaintext`.
    pub fn endpoint(self, endpoint: &str) -> ClientBuilder {
        self.set(|config| config.set_endpoint(endpoint))
    }

    /// The default project of calls: see [`Client::with_project`].
    pub fn project_id(self, project: &str) -> ClientBuilder {
        self.option("project_id", project)
    }

    /// An IAM token that is sent with each request, instead of other credentials: 1 to
    /// 98304 visible ASCII characters. Tokens are valid for 24 hours:
    /// [`Client::set_token`] replaces it later.
    pub fn token(self, token: impl AsRef<[u8]>) -> ClientBuilder {
        self.set(|config| config.set_token(token.as_ref()))
    }

    /// An access key (AK and SK) that signs each request, instead of other credentials. A
    /// temporary key also has a security token. AK and SK have 1 to 1024 visible ASCII
    /// characters, the security token up to 98304.
    ///
    /// After a rejected signature the request is not retried, because five wrong ones in
    /// a row lock a key for five minutes.
    pub fn access_key(
        self,
        access_key: impl AsRef<[u8]>,
        secret_key: impl AsRef<[u8]>,
        security_token: Option<&[u8]>,
    ) -> ClientBuilder {
        self.set(|config| config.set_access_key(access_key.as_ref(), secret_key.as_ref(), security_token))
    }

    /// An IAM user who logs in for a token, instead of other credentials. The domain is
    /// the account's name. The first call that needs the token logs in for all threads,
    /// and the token is refreshed before it expires. After IAM rejects a login it is not
    /// repeated, because several wrong ones lock a user.
    pub fn iam_user(self, user: &str, password: &str, domain: &str) -> ClientBuilder {
        self.set(|config| config.set_iam_user(user, password, domain))
    }

    /// The passcodes of the MFA device of [`ClientBuilder::iam_user`], whose id IAM needs
    /// for them. The function is called before each login, on the thread of the call that
    /// needs it, and completes the request with the passcode. It may also pass the request
    /// to another thread and return, as a [token provider](ClientBuilder::token_provider).
    ///
    /// A passcode is sent once and then wiped; after a failed login the next call asks for
    /// another one, and logs in again: a wrong password is sent again. [`TokenRequest::is_after_refusal`] tells whether IAM refused the last
    /// login.
    pub fn passcode_provider(
        self,
        user_id: &str,
        provider: impl Fn(TokenRequest) + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.option("iam_user_id", user_id).set(|config| {
            config.set_passcode_provider(Some(Arc::new(provider)));
            Ok(())
        })
    }

    /// Where to find credentials, as in the official SDKs, instead of setting them:
    /// `oidc`, `environment`, `profile`, `metadata`, `pod_identity`, or `default`, which
    /// tries these in this order; `federation` uses only the federated identity of the
    /// environment or the profile. The C option `credentials` lists their variables. The
    /// search runs when the client is made.
    pub fn credentials(self, source: &str) -> ClientBuilder {
        self.option("credentials", source)
    }

    /// An agency to assume with the other credentials: its name, and the name of its
    /// account. The options `agency_domain_id` and `agency_duration_ms` set the account by
    /// its id, and how long each key is valid. Calls then use the agency's temporary keys,
    /// which are refreshed before they expire, and the projects of its account.
    pub fn agency(self, name: &str, domain: &str) -> ClientBuilder {
        self.option("agency_name", name).option("agency_domain", domain)
    }

    /// A function that provides tokens, instead of other credentials. It is called when
    /// the first call needs a token, before a token expires, and after the service
    /// rejected it.
    ///
    /// Only one request is pending at a time, and all calls wait for its result. The
    /// function runs on the thread of one of the calls, which cannot be cancelled until
    /// it returns. It may also pass the request to another thread and return.
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

    /// A function that receives the log records. Without one nothing is logged.
    ///
    /// It runs on the threads of the calls, possibly on several at once, with no lock
    /// held. Records of a mirror's own threads are passed to it on the thread of the
    /// call.
    pub fn log(self, log: impl Fn(&LogRecord) + Send + Sync + 'static) -> ClientBuilder {
        self.set(|config| {
            drop(config.set_log(Some(Arc::new(log))));
            Ok(())
        })
    }

    /// The maximum time to connect: name look-up, TCP and TLS together. 1 ms to a day,
    /// default 10 s; none for no limit.
    pub fn connect_timeout(self, limit: Option<Duration>) -> ClientBuilder {
        self.option("connect_timeout_ms", milliseconds(limit))
    }

    /// The maximum time without a byte sent or received. 1 ms to a day, default 60 s;
    /// none for no limit.
    pub fn stall_timeout(self, limit: Option<Duration>) -> ClientBuilder {
        self.option("stall_timeout_ms", milliseconds(limit))
    }

    /// The maximum time for a whole call. 1 ms to 30 days; none, the default, for no
    /// limit.
    pub fn total_timeout(self, limit: Option<Duration>) -> ClientBuilder {
        self.option("total_timeout_ms", milliseconds(limit))
    }

    /// The maximum time to wait until the service has generated a report. 1 ms to 30
    /// days, default an hour; none for no limit.
    pub fn wait_timeout(self, limit: Option<Duration>) -> ClientBuilder {
        self.option("wait_timeout_ms", milliseconds(limit))
    }

    /// The maximum number of attempts of a call when the connection fails or breaks, or
    /// the service returns 429, 500, 502, 503 or 504. The count restarts after an attempt
    /// that received 1 MiB. 1 to 1000, default 3; 1 for no retries.
    pub fn max_attempts(self, attempts: u32) -> ClientBuilder {
        self.option("max_attempts", attempts.to_string())
    }

    /// Sets any option by its key, with its value as text. This includes the options
    /// above and those without a setter, such as `ca_file`, `proxy`,
    /// `proxy_from_environment`, `follow_redirects`, `allow_plaintext`, `file_mode`,
    /// `max_memory_bytes`, `poll_interval_ms` and `interruptible`.
    ///
    /// The options are those of the C function `dbss_config_set`, whose documentation has
    /// their defaults and ranges. Times are in milliseconds and sizes in bytes, both in
    /// decimal digits. `-1` means no limit for options that allow it. A boolean is `true`
    /// or `false`.
    pub fn option(self, key: &str, value: impl AsRef<[u8]>) -> ClientBuilder {
        self.set(|config| config.set(key, value.as_ref()))
    }

    /// Makes the client. It sends no request, but reads files and the environment: the
    /// trusted certificates (those of the option `ca_file` if it is set, else the
    /// system's, else the built-in ones); the endpoint of a region, from the environment
    /// and the regions file, unless an endpoint is set; and the credentials, if they are
    /// to be found.
    pub fn build(self) -> Result<Client, Error> {
        match self.failure {
            Some(e) => Err(e),
            None => Client::new(self.config),
        }
    }
}
