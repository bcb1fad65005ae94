//! What the flags, the environment and the profile say together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use dbss::internal::os_message;
use dbss::internal::tables::{Kind, OptionRow, OptionSet};
use dbss::{Client, ClientBuilder, Error, Operation};
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::args::{CommonArgs, ConnectionArgs, Limit};
use crate::failure::{Failure, LOCAL, USAGE};
use crate::hints;
use crate::output::printable;
use crate::profile::{self, Profile};
use crate::prompt;
use crate::screen::Screen;
use crate::system::{self, variable_os};

/// The longest token that the library accepts.
const LONGEST_TOKEN: usize = 96 * 1024;

/// The same as text; what is not UTF-8 is refused later, as any wrong value.
pub fn variable(name: &str) -> Option<String> {
    variable_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// A value, and who set it.
#[derive(Clone, Debug)]
pub struct Sourced {
    pub value: String,
    /// None for a flag.
    pub source: Option<String>,
}

/// The settings of a command.
pub struct Settings {
    pub json: bool,
    /// Whether the flag --json was given, and not only the profile's key.
    pub has_json_flag: bool,
    pub quiet: bool,
    pub verbose: bool,
    profile: Profile,
    profile_name: String,
    connection: ConnectionArgs,
    /// What was set, by the library's name for it, for hints.
    pub sourced: BTreeMap<&'static str, Sourced>,
    /// The keys that --set has.
    pub set_keys: Vec<String>,
    /// What is wrong with the token, as far as its form tells.
    pub token_hint: Option<&'static str>,
    /// Where the token is from, if there is one.
    pub token_source: Option<String>,
    /// Whether the command is `check`.
    pub is_check: bool,
}

impl Settings {
    pub fn new(common: CommonArgs) -> Result<Settings, Failure> {
        let (profile, profile_name) = profile::load(common.connection.profile.clone())?;
        Ok(Settings {
            json: common.json || profile.json,
            has_json_flag: common.json,
            quiet: common.quiet,
            verbose: common.verbose,
            profile,
            profile_name,
            connection: common.connection,
            sourced: BTreeMap::new(),
            set_keys: Vec::new(),
            token_hint: None,
            token_source: None,
            is_check: false,
        })
    }

    /// A flag's value, else the variable's, else the profile's; remembers which.
    fn resolve(
        &mut self,
        name: &'static str,
        flag: Option<String>,
        variable_name: &str,
        of_profile: impl FnOnce(&Profile) -> Option<String>,
    ) -> Option<String> {
        let of_variable = || {
            Some((
                variable(variable_name)?,
                Some(format!("the variable {variable_name}")),
            ))
        };
        let profile = || Some((of_profile(&self.profile)?, Some(self.profile_source())));
        let (value, source) = flag
            .map(|value| (value, None))
            .or_else(of_variable)
            .or_else(profile)?;
        let sourced = Sourced {
            value: value.clone(),
            source,
        };
        self.sourced.insert(name, sourced);
        Some(value)
    }

    pub fn instance(&mut self, flag: Option<String>) -> Option<String> {
        self.resolve("instance", flag, "DBSS_INSTANCE_ID", |profile| {
            profile.instance.clone()
        })
    }

    /// The instance of a command that cannot do without.
    pub fn required_instance(&mut self, flag: Option<String>) -> Result<String, Failure> {
        self.instance(flag).ok_or_else(|| {
            Failure::usage("--instance ID (or DBSS_INSTANCE_ID) is required")
                .hint("'dbss instances' lists the ids")
        })
    }

    pub fn report(&mut self, flag: Option<String>) -> Result<String, Failure> {
        self.resolve("id", flag, "DBSS_REPORT_ID", |_| None)
            .ok_or_else(|| {
                Failure::usage("--report ID (or DBSS_REPORT_ID) is required")
                    .hint("'dbss reports' lists the ids")
            })
    }

    /// Remembers a value that only a flag can set.
    pub fn flag(&mut self, name: &'static str, value: &str) {
        self.remember(name, value, None);
    }

    fn remember(&mut self, name: &'static str, value: &str, source: Option<String>) {
        let value = value.to_owned();
        self.sourced.insert(name, Sourced { value, source });
    }

    fn profile_source(&self) -> String {
        format!("the profile '{}'", self.profile_name)
    }

    /// Whether the profile has this key in its table `set`.
    pub fn is_set_by_profile(&self, key: &str) -> bool {
        self.profile.set.contains_key(key)
    }

    pub fn locale(&mut self, flag: Option<String>) -> Option<String> {
        self.resolve("locale", flag, "DBSS_LOCALE", |profile| profile.locale.clone())
    }

    pub fn output(&self, flag: Option<PathBuf>) -> PathBuf {
        flag.or_else(|| variable_os("DBSS_OUTPUT").map(PathBuf::from))
            .or_else(|| self.profile.output.clone())
            .unwrap_or_else(|| PathBuf::from("."))
    }

    /// The project that calls are about.
    pub fn project(&mut self) -> Option<String> {
        let flag = self.connection.project.clone();
        self.resolve("project", flag, "DBSS_PROJECT_ID", |profile| {
            profile.project.clone()
        })
    }

    /// What a failure of the library means here.
    pub fn explain(&self, error: Error) -> Failure {
        hints::explain(error, self)
    }

    /// Makes the client. From here on signals cancel the operation.
    pub fn connect(&mut self, screen: &Arc<Screen>, more: &[(&str, String)]) -> Result<Session, Failure> {
        let operation = Operation::new();
        system::cancel_on_signals(&operation);
        let mut builder = self.builder()?;
        for (key, value) in more {
            builder = builder.option(key, value);
        }
        let shown = Arc::clone(screen);
        let set_keys = self.set_keys.clone();
        let builder = builder.log(move |record| shown.log(record, &hints::logged(record, &set_keys)));
        let client = builder.build().map_err(|e| self.explain(e))?;
        Ok(Session {
            client: client.with_operation(&operation),
            operation,
            project: self.sourced.get("project").map(|project| project.value.clone()),
        })
    }

    fn builder(&mut self) -> Result<ClientBuilder, Failure> {
        let mut builder = Client::builder();
        let of_profile: Vec<_> = self
            .profile
            .set
            .iter()
            .map(|(key, value)| (key.clone(), value.text()))
            .collect();
        // First, as what variables and flags set overrides it.
        for (key, value) in &of_profile {
            if is_secret(key) {
                return Err(Failure::usage(format!(
                    "the profile '{}': {key} is a secret",
                    self.profile_name
                ))
                .hint("it does not belong into this file; name the token's file with token_file"));
            }
            builder = self.set(builder, key, value, Some(self.profile_source()));
        }
        let connection = &self.connection;
        let (region, endpoint) = (connection.region.clone(), connection.endpoint.clone());
        let ca_file = connection.ca_file.clone();
        if let Some(region) = self.resolve("region", region, "DBSS_REGION", |profile| profile.region.clone())
        {
            builder = builder.region(&region);
        }
        let endpoint = self.resolve("endpoint", endpoint, "DBSS_ENDPOINT", |profile| {
            profile.endpoint.clone()
        });
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint(&endpoint);
        }
        if let Some(project) = self.project() {
            builder = builder.option("project_id", project);
        }
        let of_variable = variable_os("DBSS_CA_FILE").map(PathBuf::from);
        let from_profile = ca_file.is_none() && of_variable.is_none();
        let ca_file = ca_file.or(of_variable).or_else(|| self.profile.ca_file.clone());
        if let Some(path) = &ca_file {
            let source = from_profile.then(|| self.profile_source());
            self.remember("ca_file", &path.to_string_lossy(), source);
            builder = builder.option("ca_file", path.as_os_str().as_bytes());
        }
        let connection = &self.connection;
        let of_flags: Vec<_> = connection
            .set
            .iter()
            .map(|setting| split(setting))
            .collect::<Result<_, _>>()?;

        // Of the credentials that are set the last count.
        let token_flag = connection.token_file.clone();
        let credentials_flag = connection.credentials.clone();
        if token_flag.is_none() && credentials_flag.is_none() {
            builder = self.found_credentials(builder)?;
        }
        let mut set = of_profile.iter().chain(&of_flags).rev();
        let user_id = set
            .find(|(key, _)| key == "iam_user_id")
            .map(|(_, value)| value.clone());
        let connection = &self.connection;
        for (key, limit) in [
            ("connect_timeout_ms", &connection.connect_timeout),
            ("stall_timeout_ms", &connection.stall_timeout),
            ("total_timeout_ms", &connection.total_timeout),
        ] {
            if let Some(Limit(limit)) = limit {
                builder = builder.option(key, limit);
                self.set_keys.retain(|set| set != key);
            }
        }
        if let Some(attempts) = &connection.max_attempts {
            builder = builder.option("max_attempts", attempts);
            self.set_keys.retain(|set| set != "max_attempts");
        }
        for (key, given) in [
            ("allow_plaintext", connection.allow_plaintext),
            ("follow_redirects", connection.follow_redirects),
            ("proxy_from_environment", connection.proxy_from_environment),
        ] {
            if given {
                builder = builder.option(key, "true");
            }
        }
        for (key, value) in of_flags {
            if is_secret(&key) {
                return Err(secret_on_command_line(&format!("--set {key}")));
            }
            builder = self.set(builder, &key, &value, None);
        }
        if self.set_keys.iter().any(|key| key == "iam_user")
            && let Some(password) = variable_os("DBSS_IAM_PASSWORD")
        {
            let password = Zeroizing::new(password.into_vec());
            builder = builder.option("iam_password", &*password);
        }
        if let Some(id) = user_id {
            builder = builder.passcode_provider(&id, prompt::provide_passcode);
        }
        if let Some(name) = credentials_flag {
            self.flag("credentials", &name);
            builder = builder.credentials(&name);
        }
        match token_flag {
            Some(path) => self.token_of_file(builder, &path),
            None => Ok(builder),
        }
    }

    fn set(
        &mut self,
        builder: ClientBuilder,
        key: &str,
        value: &str,
        source: Option<String>,
    ) -> ClientBuilder {
        if let Some(row) = OptionSet::Config.find(key) {
            self.remember(hints::parameter_name(row.key()), value, source);
        }
        self.set_keys.push(key.to_owned());
        builder.option(key, value)
    }

    /// The credentials of the environment, else of the profile, else the default.
    fn found_credentials(&mut self, builder: ClientBuilder) -> Result<ClientBuilder, Failure> {
        if let Some(token) = variable_os("DBSS_TOKEN") {
            let token = Zeroizing::new(token.into_vec());
            self.token_hint = hints::token(&token);
            self.token_source = Some("the variable DBSS_TOKEN".to_owned());
            return Ok(builder.token(&*token));
        }
        if let Some(name) = variable("DBSS_CREDENTIALS") {
            return Ok(builder.credentials(&name));
        }
        match (self.profile.token_file.clone(), &self.profile.credentials) {
            (Some(path), None) => self.token_of_file(builder, &path),
            (None, None)
                if ["credentials", "iam_user"]
                    .iter()
                    .any(|key| self.is_set_by_profile(key)) =>
            {
                Ok(builder)
            }
            (None, place) => Ok(builder.credentials(place.as_deref().unwrap_or("default"))),
            (Some(_), Some(_)) => Err(Failure::usage(format!(
                "the profile '{}': token_file and credentials exclude each other",
                self.profile_name
            ))),
        }
    }

    /// The token of a file, without one line end at its end.
    fn token_of_file(&mut self, builder: ClientBuilder, path: &Path) -> Result<ClientBuilder, Failure> {
        let name = path.to_string_lossy();
        let name = if name == "-" {
            "standard input".into()
        } else {
            name
        };
        let token = read_token(path).map_err(|e| match e {
            ReadError::Cancelled => Failure::interrupted(),
            ReadError::TooLong => Failure::new(
                USAGE,
                format!("the token in {name} is longer than {LONGEST_TOKEN} bytes"),
            )
            .hint("is this the file with the token alone?"),
            ReadError::Io(e) => {
                let why = match e.raw_os_error() {
                    // As opened in place of a closed one.
                    Some(libc::EBADF) => "it is closed".to_owned(),
                    _ => os_message(&e),
                };
                Failure::new(LOCAL, format!("cannot read the token from {name}: {why}"))
            }
        })?;
        let mut end = token.len();
        for byte in [b'\n', b'\r'] {
            if end > 0 && token[end - 1] == byte {
                end -= 1;
            }
        }
        let token = &token[..end];
        self.token_hint = hints::token(token);
        self.token_source = Some(printable(&name).into_owned());
        Ok(builder.token(token))
    }
}

enum ReadError {
    Cancelled,
    TooLong,
    Io(io::Error),
}

/// Reads a token. Not by std's buffers, which would keep a copy.
fn read_token(path: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let mut file = loop {
        let opened = match path.as_os_str() == "-" {
            true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            false => system::open(path),
        };
        match opened {
            Ok(file) => break file,
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(ReadError::Io(e)),
            Err(_) if system::is_cancelled() => return Err(ReadError::Cancelled),
            Err(_) => {}
        }
    };
    // With a line end, and one byte more to see that it is too long.
    let mut token = Zeroizing::new(vec![0; LONGEST_TOKEN + 3]);
    let mut len = 0;
    while len < token.len() {
        match file.read(&mut token[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {
                if system::is_cancelled() {
                    return Err(ReadError::Cancelled);
                }
            }
            Err(e) => return Err(ReadError::Io(e)),
        }
    }
    if len == token.len() {
        return Err(ReadError::TooLong);
    }
    token.truncate(len);
    Ok(token)
}

/// The parts of KEY=VALUE.
fn split(setting: &str) -> Result<(String, String), Failure> {
    let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
    if is_secret(key) {
        return Err(secret_on_command_line(&format!("--set {key}")));
    }
    if !setting.contains('=') {
        return Err(Failure::usage(format!("--set {setting}: must be KEY=VALUE")));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn is_secret(key: &str) -> bool {
    OptionSet::Config
        .find(key)
        .is_some_and(|row: &OptionRow| row.kind == Kind::Secret)
}

/// The error for a secret on the command line, which everybody on the machine can read.
pub fn secret_on_command_line(flag: &str) -> Failure {
    Failure::usage(format!(
        "{flag}: a secret on the command line could be read by everybody on this machine"
    ))
    .hint(
        "for a token use --token-file or DBSS_TOKEN; for an access key HUAWEICLOUD_SDK_AK and \
         HUAWEICLOUD_SDK_SK, or ~/.huaweicloud/credentials; for a password DBSS_IAM_PASSWORD; for \
         a proxy --proxy-from-environment",
    )
}

/// A client, and the operation that its calls run under.
pub struct Session {
    pub client: Client,
    pub operation: Arc<Operation>,
    pub project: Option<String>,
}
