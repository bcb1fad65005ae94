//! Errors of the library in the words of the command line, with a hint for the likely
//! mistake.

use dbss::internal::KNOWN_REGIONS;
use dbss::internal::tables::{OPTIONS, OptionSet};
use dbss::{Error, Status};

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

/// The flag that sets an option, or the variable of a secret.
fn setter(key: &str, set_keys: &[String]) -> String {
    if key == "iam_password" {
        return "DBSS_IAM_PASSWORD".to_owned();
    }
    match flag(key) {
        Some(flag) if !set_keys.iter().any(|set| set == key) => flag.to_owned(),
        _ => format!("--set {key}"),
    }
}

/// A message with flags for the keys of options. Only keys of several words: others may
/// be plain English.
fn with_flags(message: &str, set_keys: &[String]) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(is_part) {
        let (before, word) = rest.split_at(start);
        let (word, after) = word.split_at(word.find(|c| !is_part(c)).unwrap_or(word.len()));
        text += before;
        let known = word.contains('_') && OPTIONS.iter().any(|row| row.key() == word);
        match known {
            true => text += &setter(word, set_keys),
            false => text += word,
        }
        rest = after;
    }
    text + rest
}

/// A message of the log in the words of the command line.
pub fn logged(message: &str, set_keys: &[String]) -> String {
    with_flags(&plain(message), set_keys)
}

/// A message without the names of statuses and the numbers of errors of the system, and
/// with seconds, as flags have.
fn plain(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(" (") {
        let (before, parens) = rest.split_at(start);
        let end = parens.find(')').map_or(parens.len(), |end| end + 1);
        let (parens, after) = parens.split_at(end);
        let inner = parens[2..].trim_end_matches(')');
        text += before;
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        match (inner.strip_prefix("os error "), inner.strip_suffix(" ms")) {
            (Some(number), _) if is_number(number) => {}
            _ if inner.starts_with("DBSS_ERR_") => {}
            (_, Some(ms)) if is_number(ms) => {
                let seconds = ms.parse::<f64>().unwrap_or_default() / 1000.0;
                text += &format!(" ({seconds} s)");
            }
            // Parentheses may be within: only the first is taken.
            _ => {
                text += " (";
                rest = &rest[start + 2..];
                continue;
            }
        }
        rest = after;
    }
    text + rest
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
fn parameter_name(name: &str) -> &str {
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
        Status::InvalidToken => settings.token_hint.map(str::to_owned),
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
            let key = settings
                .set_keys
                .iter()
                .find(|key| OptionSet::Config.find(key).is_none())?;
            let known = OptionSet::Config.options().map(|row| row.key());
            Some(match nearest(key, known) {
                Some(near) => format!("did you mean {near}? 'dbss options' lists the keys"),
                None => "'dbss options' lists the keys".to_owned(),
            })
        }
        Status::FileExists => Some("use --force to replace it, or --output for another name".to_owned()),
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

/// Which key is unknown, and who sets it.
fn unknown_key(message: String, settings: &Settings) -> String {
    let unknown = settings
        .set_keys
        .iter()
        .find(|key| OptionSet::Config.find(key).is_none());
    match unknown {
        Some(key) if settings.is_set_by_profile(key) => {
            format!(
                "the profile sets the option '{}', which does not exist",
                printable(key)
            )
        }
        Some(key) => format!("--set: there is no option '{}'", printable(key)),
        None => message,
    }
}

/// What a failure of the library means on the command line.
pub fn explain(error: Error, settings: &Settings) -> Failure {
    let message = plain(error.message());
    let message = message.as_str();
    let parameter = error
        .parameter()
        .filter(|name| message.starts_with(&format!("{name}: ")));
    let message = match parameter {
        // What the library says is for who has no flags.
        Some("project") if message.contains("there is no region") => {
            "--project is not set, and there is no region whose project could be looked up; give \
             --project or --region"
                .to_owned()
        }
        Some(name) => {
            let what = &message[name.len()..];
            let known = flag(name).is_some() || OPTIONS.iter().any(|row| row.key() == name);
            let secret = matches!(
                name,
                "token" | "access_key" | "secret_key" | "security_token" | "credentials"
            );
            let name = match known && !secret {
                true => setter(name, &settings.set_keys),
                false => name.to_owned(),
            };
            name + &with_flags(what, &settings.set_keys)
        }
        None => match error.status() {
            Status::Cancelled => "cancelled".to_owned(),
            // The hint names the flags.
            Status::FileExists => {
                let what = message.split("; allow replacing it").next();
                what.unwrap_or(message).to_owned()
            }
            _ => with_flags(message, &settings.set_keys),
        },
    };
    let message = match error.status() {
        Status::UnknownKey => unknown_key(message, settings),
        _ => message,
    };
    let mut failure = Failure::new(exit_code(error.status()), message);
    let parameter = parameter.map(parameter_name);
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
