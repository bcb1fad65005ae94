//! The subcommand mirror.

use std::fs::Permissions;
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use dbss::Error;
use dbss::internal::os_message;
use dbss::internal::tables::OptionSet;
use dbss::mirror::{Failure as MirrorFailure, MirrorError, MirrorOptions, MirrorResult};
use serde_json::{Map, Value};

use crate::args::Mirror;
use crate::commands::{finish, report_type};
use crate::failure::{CANCELLED, DONE, Failure, LOCAL, NOTHING_NEW, PARTIAL, write_stderr};
use crate::hints;
use crate::output::{Output, object, printable};
use crate::screen::{ProgressKind, Screen};
use crate::settings::Settings;
use crate::system;

fn options_of(settings: &mut Settings, args: &Mirror) -> Result<MirrorOptions, Failure> {
    let mut options = MirrorOptions::default();
    let values = [
        ("instance", settings.instance(args.instance.clone())),
        ("since", args.since.clone()),
        ("until", args.until.clone()),
        ("utc_offset", args.utc_offset.clone()),
        ("type", args.r#type.clone().map(report_type)),
        ("template", args.template_type.clone()),
        ("name", args.name.clone()),
        ("locale", settings.locale(args.locale.locale.clone())),
        ("parallel", args.parallel.clone()),
        ("verify", args.verify.then(|| "true".to_owned())),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            options.set(key, value).map_err(|e| settings.explain(e))?;
        }
    }
    Ok(options)
}

/// Warns of a type that no report may have: it may be new, or mistyped, and then nothing
/// would be downloaded without a word.
fn warn_of_unknown_type(kind: &str) {
    let known = OptionSet::Schedule.find("frequency");
    let known: Vec<_> = known.iter().flat_map(|row| row.choices()).collect();
    if !known.contains(&report_type(kind.to_owned()).as_str()) {
        let known = known.join(", ").replace("AUDIT_REPORT_", "");
        write_stderr(&format!(
            "dbss: warning: --type: '{}' is none of the types that dbss knows: {known}\n",
            printable(kind)
        ));
    }
}

/// The counts, with the time.
fn summary(result: &MirrorResult) -> Map<String, Value> {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut summary = object("mirror", [("time", time.into())]);
    let counts = result
        .counts
        .named()
        .map(|(name, count)| (name.to_owned(), count.into()));
    summary.extend(counts);
    summary.insert("gaps".to_owned(), result.gaps.len().into());
    summary
}

fn failure_json(failure: &MirrorFailure, set_keys: &[String]) -> Map<String, Value> {
    let id = Some(failure.id.as_str()).filter(|id| !id.is_empty());
    let mut fields = object(
        "failure",
        [("instance", failure.instance.as_str().into()), ("id", id.into())],
    );
    fields.extend(error_json(
        &failure.error,
        hints::message(&failure.error, set_keys),
    ));
    fields
}

/// The fields of an error, with its message in the words of the command line.
pub fn error_json(error: &Error, message: String) -> Map<String, Value> {
    let details = error.details().iter().map(|detail| {
        let fields = [
            ("code", detail.code.as_deref().into()),
            ("message", detail.message.as_deref().into()),
        ];
        Value::Object(
            fields
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect(),
        )
    });
    let fields: [(&str, Value); 6] = [
        ("status", (error.status() as i32).into()),
        ("status_name", error.status().name().into()),
        ("message", message.into()),
        ("service_code", error.service_code().into()),
        ("request_id", error.request_id().into()),
        ("details", details.collect::<Vec<_>>().into()),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Refuses a success file that would replace something else: only a regular file outside of
/// the archive is replaced.
fn check_success_file(path: &Path, archive: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let path = printable(&path.to_string_lossy()).into_owned();
        Err(Failure::new(LOCAL, format!("--success-file: {path} {why}")))
    };
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() => return refuse("is not a regular file"),
        _ => {}
    }
    let directory = directory_of(path).canonicalize();
    let directory = directory.map_err(|e| cannot_write(path, &e))?;
    match archive.canonicalize() {
        Ok(archive) if directory.starts_with(&archive) => {
            refuse("is inside the archive; choose another directory")
        }
        _ => system::check_writable(&directory).map_err(|e| cannot_write(path, &e)),
    }
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::new(LOCAL, format!("cannot write {path}: {}", os_message(error)))
}

/// Replaces the file in one step, so that nobody ever sees a part of it. It is for
/// monitoring, so anybody may read it as far as the umask lets them.
fn write_success(path: &Path, result: &MirrorResult) -> Result<(), Failure> {
    let text = serde_json::to_string(&summary(result)).unwrap_or_default() + "\n";
    let written = tempfile::Builder::new()
        .prefix(".dbss-")
        .suffix(".part")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory_of(path))
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path).map(drop).map_err(|e| e.error)
        });
    written.map_err(|e| cannot_write(path, &e))
}

/// Prints how it went, also where it went only so far.
fn print_result(settings: &Settings, args: &Mirror, result: &MirrorResult) -> Result<(), Failure> {
    let mut output = Output::open()?;
    if settings.json {
        for failure in &result.failures {
            output.json(&failure_json(failure, &settings.set_keys))?;
        }
        for gap in result.gaps.iter().filter(|_| args.gaps) {
            let fields = [
                ("instance", gap.instance.as_str().into()),
                ("type", gap.kind.as_str().into()),
                ("period", gap.period.as_str().into()),
            ];
            output.json(&object("gap", fields))?;
        }
        return output.json(&summary(result));
    }
    let on_terminal = io::stdout().is_terminal();
    let mut text = String::new();
    if !settings.quiet {
        for (name, count) in result.counts.named() {
            text += &match on_terminal {
                true => format!("{name:10}  {count}\n"),
                false => format!("{name}\t{count}\n"),
            };
        }
    }
    if args.gaps {
        let separator = if on_terminal { "  " } else { "\t" };
        for gap in &result.gaps {
            let cells = [
                "gap",
                &gap.period,
                &printable(&gap.kind),
                &printable(&gap.instance),
            ];
            text += &cells.join(separator);
            text.push('\n');
        }
    }
    output.write(&text)
}

pub fn mirror(settings: &mut Settings, args: &Mirror) -> Result<u8, Failure> {
    let options = options_of(settings, args)?;
    if let Some(kind) = args.r#type.as_ref().filter(|_| !settings.quiet) {
        warn_of_unknown_type(kind);
    }
    if let Some(path) = &args.success_file {
        check_success_file(path, &args.directory)?;
    }
    let prints = settings.json || args.gaps || !settings.quiet;
    if prints {
        Output::open()?;
    }
    let screen = Screen::new(settings);
    let session = settings.connect(&screen, &[])?;
    let outcome = screen
        .show_progress(&session.operation, ProgressKind::Mirror)
        .map_err(|error| (error, None))
        .and_then(|()| {
            let outcome = session.client.mirror(&args.directory, &options);
            outcome.map_err(|MirrorError { error, result, .. }| (error, result))
        });
    let (result, error) = match outcome {
        Ok(result) => (Some(result), None),
        Err((error, result)) => (result.map(|result| *result), Some(error)),
    };
    let outcome = error.map_or(Ok(()), Err);
    let mut failed = finish(&screen, settings, outcome).err();
    if let Some(failure) = &mut failed {
        if let (PARTIAL, Some(result)) = (failure.code, &result) {
            // Each failure is printed below.
            failure.message = result.what_failed();
        }
        failure.print();
        failure.printed = true;
        if failure.code == CANCELLED {
            write_stderr("  hint: the archive has the complete reports; run the command again to continue\n");
        }
    }
    if let Some(result) = &result {
        for failure in &result.failures {
            // It has no id where an instance's list failed.
            let about = if failure.id.is_empty() {
                &failure.instance
            } else {
                &failure.id
            };
            let explained = settings.explain(failure.error.clone());
            Failure {
                message: format!("{}: {}", printable(about), explained.message),
                hints: Vec::new(),
                ..explained
            }
            .print();
        }
        if prints {
            let written = print_result(settings, args, result);
            if failed.is_none() {
                written?;
            }
        }
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    let result = result.unwrap_or_default();
    if let Some(path) = &args.success_file {
        write_success(path, &result)?;
    }
    let nothing_new = result.counts.downloaded == 0 && result.counts.repaired == 0;
    Ok(match args.detect_nothing_new && nothing_new {
        true => NOTHING_NEW,
        false => DONE,
    })
}
