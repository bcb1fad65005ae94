//! The configuration file, with its named profiles.

use std::collections::BTreeMap;
use std::env;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use dbss::internal::os_message;
use serde::Deserialize;

use crate::failure::{Failure, LOCAL};
use crate::output::printable;
use crate::settings::variable;

/// The profile that counts where none is named.
const DEFAULT: &str = "default";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    /// The name of the profile to use where none is named.
    profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// What a profile sets, under the names of the flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub project: Option<String>,
    pub instance: Option<String>,
    pub locale: Option<String>,
    pub output: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    /// A value of the option of this name, such as default, environment or profile.
    pub credentials: Option<String>,
    #[serde(default)]
    pub json: bool,
    #[serde(default)]
    pub set: BTreeMap<String, Setting>,
}

/// The value of an option.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    Text(String),
    Number(i64),
    Boolean(bool),
}

impl Setting {
    pub fn text(&self) -> String {
        match self {
            Setting::Text(text) => text.clone(),
            Setting::Number(number) => number.to_string(),
            Setting::Boolean(boolean) => boolean.to_string(),
        }
    }
}

/// Where the configuration file is; none without a home directory.
pub fn path() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let directory = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(directory.join("dbss/config.toml"))
}

/// More than any real file has.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Reads a regular file of a bounded size. A pipe must not block the program.
fn read_file(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > LONGEST_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    let mut text = String::new();
    file.take(LONGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// What is wrong, without a value of the file, which may be a secret.
fn explain(message: &str) -> String {
    let expected = |text: &str| {
        let what = match text {
            text if text.starts_with("struct") || text == "a map" => "a table",
            "a string" | "path string" => "a text",
            "a boolean" => "true or false",
            _ => "something else",
        };
        format!("must be {what}")
    };
    let field = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split_once('`'));
    let is_name = |name: &str| name.len() <= 32 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match (field, message.rsplit_once("expected ")) {
        (Some((name, rest)), _) if is_name(name) => format!("unknown field `{name}`{rest}"),
        (Some((_, rest)), _) => format!("unknown field{rest}"),
        _ if message.contains("untagged enum") => "must be a text, a number or a boolean".to_owned(),
        (None, Some((_, what))) if message.starts_with("invalid type") => expected(what),
        _ if message.contains(['"', '`', '\'']) => "it is not valid TOML".to_owned(),
        _ => message.to_owned(),
    }
}

/// A path of the file: `~/` is the home directory.
fn with_home(path: Option<PathBuf>) -> Option<PathBuf> {
    let path = path?;
    let home = env::var_os("HOME").filter(|home| !home.is_empty());
    Some(match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path,
    })
}

/// The file, its name for messages, and whether it exists.
fn read() -> Result<(ConfigFile, String, bool), Failure> {
    let Some(path) = path() else {
        return Ok((ConfigFile::default(), "the configuration file".to_owned(), false));
    };
    let name = printable(&path.to_string_lossy()).into_owned();
    let text = match read_file(&path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok((ConfigFile::default(), name, false));
        }
        Err(e) if e.kind() == ErrorKind::InvalidData => {
            return Err(Failure::usage(format!("{name}: it is not UTF-8")));
        }
        Err(e) => {
            return Err(Failure::new(
                LOCAL,
                format!("cannot read {name}: {}", os_message(&e)),
            ));
        }
    };
    match toml::from_str(&text) {
        Ok(file) => Ok((file, name, true)),
        // Not the parser's own text: that quotes the line, which may hold a secret.
        Err(e) => {
            let line = e
                .span()
                .map_or(0, |span| text[..span.start].matches('\n').count())
                + 1;
            let failure = Failure::usage(format!(
                "{name}, line {line}: {}",
                printable(&explain(e.message()))
            ));
            let secret = ["token`", "secret_key`", "access_key`", "password`"];
            Err(
                match secret
                    .iter()
                    .any(|key| e.message().contains(&format!("unknown field `{key}")))
                {
                    true => failure.hint("a secret does not belong here; name its file with token_file"),
                    false => failure,
                },
            )
        }
    }
}

/// The profile of this name, or the one that counts without a name; with its name.
pub fn load(named: Option<String>) -> Result<(Profile, String), Failure> {
    let (mut file, path, exists) = read()?;
    let named = named.or_else(|| variable("DBSS_PROFILE")).or(file.profile.take());
    let name = named.clone().unwrap_or_else(|| DEFAULT.to_owned());
    match (file.profiles.remove(&name), named) {
        (Some(mut profile), _) => {
            for path in [&mut profile.output, &mut profile.ca_file, &mut profile.token_file] {
                *path = with_home(path.take());
            }
            Ok((profile, name))
        }
        (None, Some(_)) if !exists => Err(Failure::usage(format!(
            "there is no profile '{}': {path} does not exist",
            printable(&name)
        ))),
        (None, None) => Ok((Profile::default(), name)),
        (None, Some(_)) => {
            let known: Vec<_> = file.profiles.keys().map(|one| printable(one)).collect();
            let failure = Failure::usage(format!("{path} has no profile '{}'", printable(&name)));
            Err(match known.is_empty() {
                true => failure.hint("it would begin with the line [profiles.NAME]"),
                false => failure.hint(format!("there are: {}", known.join(", "))),
            })
        }
    }
}
