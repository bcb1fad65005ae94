//! The configuration file, with its named profiles.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::Deserialize;

use crate::failure::{Failure, LOCAL};
use crate::output::{os_message, printable};
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

fn read() -> Result<(ConfigFile, String), Failure> {
    let Some(path) = path() else {
        return Ok((ConfigFile::default(), "the configuration file".to_owned()));
    };
    let name = printable(&path.to_string_lossy()).into_owned();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok((ConfigFile::default(), name));
        }
        Err(e) => {
            return Err(Failure::new(
                LOCAL,
                format!("cannot read {name}: {}", os_message(&e)),
            ));
        }
    };
    match toml::from_str(&text) {
        Ok(file) => Ok((file, name)),
        // Not the library's own text: that quotes the line, which may hold a secret.
        Err(e) => {
            let line = e
                .span()
                .map_or(0, |span| text[..span.start].matches('\n').count())
                + 1;
            let failure = Failure::usage(format!("{name}, line {line}: {}", printable(e.message())));
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
    let (mut file, path) = read()?;
    let named = named.or_else(|| variable("DBSS_PROFILE")).or(file.profile.take());
    let name = named.clone().unwrap_or_else(|| DEFAULT.to_owned());
    match (file.profiles.remove(&name), named) {
        (Some(profile), _) => Ok((profile, name)),
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
