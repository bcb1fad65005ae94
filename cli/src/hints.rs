//! Errors of the library in the words of the command line, with a hint for the likely
//! mistake.

use dbss::internal::KNOWN_REGIONS;
use dbss::internal::tables::{OPTIONS, OptionSet};
use dbss::{Error, LogRecord, PartKind, Status};

use crate::failure::{Failure, exit_code};
use crate::output::printable;
use crate::profile;
use crate::settings::Settings;

/// The flags for the library's parameters and options.
const FLAGS: &[(&str, &str)] = &[
    ("allow_plaintext", "--allow-plaintext"),
    ("ca_file", "--ca-file"),
    ("connect_timeout_ms", "--connect-timeout"),
    ("db_ids", "--db-ids"),
    ("directory", "DIRECTORY"),
    ("end_date", "--end-date"),
    ("end_time", "--end-time"),
    ("endpoint", "--endpoint"),
    ("follow_redirects", "--follow-redirects"),
    ("format", "--format"),
    ("frequency", "--frequency"),
    ("id", "--report"),
    ("instance", "--instance"),
    ("key", "--set"),
    ("locale", "--locale"),
    ("max_attempts", "--max-attempts"),
    ("mode", "--mode"),
    ("name", "--name"),
    ("notice", "--notice"),
    ("parallel", "--parallel"),
    ("poll_interval_ms", "--poll-interval"),
    ("project", "--project"),
    ("project_id", "--project"),
    ("proxy_from_environment", "--proxy-from-environment"),
    ("region", "--region"),
    ("report", "--report"),
    ("since", "--since"),
    ("stall_timeout_ms", "--stall-timeout"),
    ("start_date", "--start-date"),
    ("start_time", "--start-time"),
    ("status", "--status"),
    ("template", "--template-type"),
    ("template_id", "--template"),
    ("topic_urn", "--topic-urn"),
    ("total_timeout_ms", "--total-timeout"),
    ("type", "--type"),
    ("until", "--until"),
    ("utc_offset", "--utc-offset"),
    ("wait_timeout_ms", "--wait-timeout"),
];

/// The flag for a parameter or an option.
pub fn flag(key: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(name, _)| *name == key).map(|(_, flag)| *flag)
}

/// What the command does where an option needs something that has no flag.
pub fn note(key: &str) -> Option<&'static str> {
    match key {
        "iam_user" => Some("The command takes the password from the variable DBSS_IAM_PASSWORD."),
        "iam_user_id" => {
            Some("The command takes the passcode from the variable DBSS_IAM_PASSCODE, or asks for it.")
        }
        _ => None,
    }
}

/// What a parameter or an option is called on the command line: the flag that sets it, or
/// the variable of a secret.
fn setter(key: &str, set_keys: &[String]) -> String {
    let is_set = |key: &str| set_keys.iter().any(|set| set == key);
    match (key, flag(key)) {
        ("iam_password", _) => "DBSS_IAM_PASSWORD".to_owned(),
        ("token" | "access_key" | "secret_key" | "security_token" | "credentials", _) => key.to_owned(),
        (_, Some(flag)) if !is_set(key) => flag.to_owned(),
        _ if OPTIONS.iter().any(|row| row.key() == key) => format!("--set {key}"),
        _ => key.to_owned(),
    }
}

/// The message of an error, with the flags and units of the command line.
pub fn message(error: &Error, set_keys: &[String]) -> String {
    let is_unknown_key = error.status() == Status::UnknownKey;
    let mut text = String::with_capacity(error.message().len());
    error.parts(|kind, part| match kind {
        // What was perhaps meant is another key.
        PartKind::Name if is_unknown_key && part != "key" => text += part,
        PartKind::Name => text += &setter(part, set_keys),
        PartKind::Duration => match part.strip_suffix(" ms").and_then(|ms| ms.parse::<f64>().ok()) {
            Some(ms) => text += &format!("{} s", ms / 1000.0),
            // A bound of a value for --set.
            None => text += part,
        },
        PartKind::Replace => text += "use --force",
        _ => text += part,
    });
    text
}

/// The message of a record of the log, with those of the error that it is about.
pub fn logged(record: &LogRecord, set_keys: &[String]) -> String {
    match &record.error {
        Some(error) => record.message.replace(error.message(), &message(error, set_keys)),
        None => record.message.clone(),
    }
}

/// The known word that is nearest, if it is near.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known
        .into_iter()
        .map(|one| (strsim::damerau_levenshtein(word, one), one));
    let (distance, one) = scored.min()?;
    (distance > 0 && distance <= 2.max(word.len() / 4)).then_some(one)
}

/// What is wrong with a token, as far as its form tells.
pub fn token(token: &[u8]) -> Option<&'static str> {
    if token.is_empty() {
        return Some("the token is empty");
    }
    if token.ends_with(b"\n") || token.ends_with(b"\r") {
        return Some("the token ends with a line end: a file may have one, a variable none");
    }
    if token.contains(&b'\n') {
        return Some("there is a line end in the token: it must be one line, as X-Subject-Token has it");
    }
    if token.starts_with(b"{") {
        return Some("this is JSON: the token is in the response's header X-Subject-Token, not in its body");
    }
    if token.first() == Some(&b'"') || token.starts_with(b"X-Subject-Token") {
        return Some("give the token alone, without quotes or the header's name");
    }
    if token.contains(&b' ') {
        return Some("there is a space in the token");
    }
    None
}

fn id_hint(parameter: &str, value: &str) -> Option<String> {
    let count = value.chars().count();
    if value.contains(['\n', '\r']) {
        return Some("there is a line end in it".to_owned());
    }
    if value.contains(char::is_whitespace) {
        return Some("there is a space in it: is it a name in place of an id?".to_owned());
    }
    // The message says how many characters it has.
    match (parameter, count) {
        ("project", _) if KNOWN_REGIONS.contains(&value) => {
            Some("this is a region: give it with --region, and leave --project out".to_owned())
        }
        ("project" | "instance", 16..=31) => {
            Some("the id of a report is as long: --report takes that".to_owned())
        }
        ("instance", _) => Some("'dbss instances' lists the ids".to_owned()),
        ("id", _) => Some("'dbss reports' lists the ids".to_owned()),
        ("template_id", _) => Some("'dbss templates' lists the ids".to_owned()),
        _ => None,
    }
}

fn region_hint(settings: &Settings) -> Option<String> {
    let region = &settings.sourced.get("region")?.value;
    if settings.sourced.contains_key("endpoint") || KNOWN_REGIONS.contains(&region.as_str()) {
        return None;
    }
    let region = printable(region);
    Some(match nearest(&region, KNOWN_REGIONS.iter().copied()) {
        Some(near) => format!("'{region}' is no region that dbss knows; did you mean {near}?"),
        None => format!("'{region}' is no region that dbss knows, such as cn-north-4"),
    })
}

fn config_path() -> String {
    let path = profile::path().unwrap_or_else(|| "~/.config/dbss/config.toml".into());
    printable(&path.to_string_lossy()).into_owned()
}

/// The name under which a value is remembered.
pub fn parameter_name(name: &'static str) -> &'static str {
    match name {
        "project_id" => "project",
        _ => name,
    }
}

/// The likely mistake.
fn hint(error: &Error, settings: &Settings) -> Option<String> {
    let name = error.parameter().map(parameter_name);
    let given = name.and_then(|name| settings.sourced.get(name));
    match error.status() {
        Status::InvalidId => id_hint(name?, &given?.value),
        Status::InvalidToken => {
            let source = settings.token_source.as_ref();
            let from = source.map(|source| format!("the token is that of {source}"));
            let hints: Vec<_> = settings
                .token_hint
                .map(str::to_owned)
                .into_iter()
                .chain(from)
                .collect();
            (!hints.is_empty()).then(|| hints.join("; "))
        }
        Status::Resolve => region_hint(settings),
        Status::NotConfigured
            if !["region", "endpoint"]
                .iter()
                .any(|name| settings.sourced.contains_key(name)) =>
        {
            Some(format!(
                "give --region or DBSS_REGION, such as cn-north-4, or a profile in {}",
                config_path()
            ))
        }
        Status::UnknownKey => {
            let is_unknown = |key: &&String| OptionSet::Config.find(key).is_none();
            let unknown = settings.set_keys.iter().find(is_unknown);
            let from_profile = unknown.is_some_and(|key| settings.is_set_by_profile(key));
            let source = if from_profile { "the profile sets it; " } else { "" };
            match unknown.and_then(|key| Some((key, flag(key)?))) {
                Some((key, flag)) => Some(format!("{source}{key} is no key but a flag: {flag}")),
                None => Some(format!("{source}'dbss options' lists the keys")),
            }
        }
        Status::NotFound if error.parameter() == Some("template_id") => {
            Some("'dbss templates' lists the ids".to_owned())
        }
        Status::Unauthenticated => settings.token_hint.map(str::to_owned).or_else(|| {
            match (&settings.token_source, settings.is_check) {
                (Some(source), _) => Some(format!(
                    "the token is that of {source}; a token is valid for 24 hours"
                )),
                (None, false) => Some("'dbss check' shows which credentials are used".to_owned()),
                (None, true) => None,
            }
        }),
        Status::Redirected => Some("use --follow-redirects to follow it".to_owned()),
        _ => None,
    }
}

/// What a failure of the library means on the command line.
pub fn explain(error: Error, settings: &Settings) -> Failure {
    let message = match error.status() {
        Status::Cancelled => "cancelled".to_owned(),
        _ => message(&error, &settings.set_keys),
    };
    let mut failure = Failure::new(exit_code(error.status()), message);
    let parameter = error.parameter().map(parameter_name);
    if let Some(source) = parameter
        .and_then(|name| settings.sourced.get(name))
        .and_then(|sourced| sourced.source.as_ref())
    {
        failure = failure.hint(format!("the value is from {source}"));
    }
    if let Some(hint) = hint(&error, settings) {
        failure = failure.hint(hint);
    }
    failure.error = Some(error);
    failure
}
