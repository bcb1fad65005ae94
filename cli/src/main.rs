//! The command dbss: audit reports of Huawei Cloud's Database Security Service.
//!
//! | file | what |
//! | --- | --- |
//! | `args.rs` | the command line |
//! | `profile.rs` | the configuration file |
//! | `settings.rs` | what flags, environment and profile say together; the client |
//! | `commands.rs`, `mirror.rs` | the subcommands |
//! | `output.rs` | standard output: JSON, tables |
//! | `screen.rs` | standard error meanwhile: progress, the log |
//! | `failure.rs`, `hints.rs` | errors, exit codes, hints |
//! | `system.rs` | closed standard streams, signals |

#![deny(unsafe_code)]
// See system.rs. The tests have a main of their own.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code))]

mod args;
mod commands;
mod failure;
mod hints;
mod mirror;
mod output;
mod profile;
mod prompt;
mod screen;
mod settings;
mod system;

use std::ffi::OsString;

use args::{Cli, Command, CommonArgs};
use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use failure::{DONE, Failure, USAGE, remember_words, without_long_words, write_stderr};
use output::{Output, object};
use serde_json::Value;
use settings::Settings;

/// Flags that there are not, for secrets: they are refused without being printed.
const SECRET_FLAGS: &[&str] = &[
    "--token",
    "--access-key",
    "--secret-key",
    "--security-token",
    "--password",
];

fn refuse_secrets(words: &[OsString]) -> Result<(), Failure> {
    for word in words.iter().skip(1).map(|word| word.to_string_lossy()) {
        let name = word.split('=').next().unwrap_or_default();
        if word == "--" {
            break;
        }
        if let Some(flag) = SECRET_FLAGS.iter().find(|flag| **flag == name) {
            return Err(settings::secret_on_command_line(flag));
        }
    }
    Ok(())
}

/// What is wrong with the command line, in the form of all other errors.
fn usage_failure(error: &clap::Error, words: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ").trim_end();
    let text = text.replace("\n  tip: ", "\n  hint: ");
    let failure = Failure::usage(text);
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word))
            if error.kind() == ErrorKind::UnknownArgument
                && (is_like_id(word) || is_letter(word) && words.iter().any(is_hyphenated_id)) =>
        {
            failure.hint(ID_NEEDS_FLAG)
        }
        _ => failure,
    }
}

const ID_NEEDS_FLAG: &str = "a report's id is given with --report";

fn is_like_id(word: &str) -> bool {
    let is_part = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    word.len() >= 16 && word.bytes().all(is_part) && !word.starts_with("--")
}

/// Whether it is a flag of one letter, maybe the first of an id that begins with a hyphen.
fn is_letter(word: &str) -> bool {
    word.len() == 2 && !word.starts_with("--")
}

fn is_hyphenated_id(word: &OsString) -> bool {
    word.to_str()
        .is_some_and(|word| word.starts_with('-') && is_like_id(word))
}

fn asks_for_help(word: &OsString) -> bool {
    ["-h", "--help", "-V", "--version"].iter().any(|one| word == one)
}

fn parse(words: &[OsString]) -> Result<Result<Command, u8>, Failure> {
    refuse_secrets(words)?;
    let error = match args::parser(words).try_get_matches_from(words) {
        Ok(matches) => match Cli::from_arg_matches(&matches) {
            Ok(cli) => return Ok(Ok(cli.command)),
            Err(e) => e,
        },
        Err(e) => e,
    };
    match error.kind() {
        // An id such as -hytjeZgBBt8O6JSx, whose flag is missing, asks for nothing: a
        // script must not take it for done.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion if !words.iter().any(asks_for_help) => {
            Err(Failure::usage("-h or -V was found within a longer argument").hint(ID_NEEDS_FLAG))
        }
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Output::open()?.write(&error.render().to_string())?;
            Ok(Err(DONE))
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            write_stderr(&error.render().to_string());
            Ok(Err(USAGE))
        }
        _ => Err(usage_failure(&error, words)),
    }
}

/// Runs what connects to the service; with --json, a failure is printed there too.
fn with_settings(
    common: CommonArgs,
    run: impl FnOnce(&mut Settings) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let mut json = common.json;
    let outcome = Settings::new(common).and_then(|mut settings| {
        json = settings.json;
        if json {
            // Where nothing can be printed, nothing is done either.
            Output::open()?;
        }
        run(&mut settings)
    });
    if let Err(failure) = &outcome
        && json
    {
        let mut fields = object("error", [("exit_code", failure.code.into())]);
        let message = without_long_words(&failure.message);
        match &failure.error {
            Some(error) => fields.extend(mirror::error_json(error, message)),
            None => fields.extend([("message".to_owned(), Value::from(message))]),
        }
        // What cannot be written there is on standard error.
        let _ = Output::open().and_then(|mut output| output.json(&fields));
    }
    outcome
}

fn run_command(command: Command) -> Result<u8, Failure> {
    /// Takes the arguments that all have, without copying the rest.
    macro_rules! connected {
        ($args:ident, $run:path) => {{
            let (common, rest) = split($args, |args| &mut args.common);
            with_settings(common, |settings| $run(settings, rest).map(|()| DONE))
        }};
    }
    match command {
        Command::Download(args) => connected!(args, commands::download),
        Command::Check(args) => connected!(args, commands::check),
        Command::Instances(args) => connected!(args, commands::instances),
        Command::Reports(args) => connected!(args, commands::reports),
        Command::Templates(args) => connected!(args, commands::templates),
        Command::Databases(args) => connected!(args, commands::databases),
        Command::Schedule(args) => connected!(args, commands::schedule),
        Command::Generate(args) => connected!(args, commands::generate),
        Command::Delete(args) => connected!(args, commands::delete),
        Command::Mirror(args) => {
            let (common, args) = split(args, |args| &mut args.common);
            with_settings(common, |settings| mirror::mirror(settings, &args))
        }
        Command::Options(args) => commands::options(&args).map(|()| DONE),
        Command::Completions(args) => commands::completions(&args).map(|()| DONE),
        Command::Man(args) => commands::man(&args).map(|()| DONE),
    }
}

/// The common arguments, taken out of a subcommand's.
fn split<T>(mut args: T, common: impl FnOnce(&mut T) -> &mut CommonArgs) -> (CommonArgs, T) {
    let taken = std::mem::take(common(&mut args));
    (taken, args)
}

/// Runs the program with its command line; returns the exit code.
fn run(words: &[OsString]) -> u8 {
    remember_words(words);
    let outcome = parse(words).and_then(|parsed| match parsed {
        Ok(command) => run_command(command),
        Err(code) => Ok(code),
    });
    outcome.unwrap_or_else(|failure| {
        failure.print();
        failure.code
    })
}
