//! The subcommands.

use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use clap::ValueHint;
use clap::builder::Resettable;
use dbss::internal::tables::{Kind, OptionRow, OptionSet};
use dbss::internal::{check_output, os_message};
use dbss::{Error, Item, Items, Locale, Overwrite, Report, ReportSpec, ScheduleChanges, Status};
use serde_json::Value;

use crate::args::{
    self, Check, Completions, Databases, Delete, Download, Generate, Instances, Man, Options, Reports,
    SavingArgs, Schedule, Templates,
};
use crate::failure::{CANCELLED, Failure, LOCAL, NOT_FOUND, REFUSED, USAGE, write_stderr};
use crate::hints;
use crate::output::{
    Column, DATABASES, INSTANCES, Output, REPORTS, SCHEDULE, TEMPLATES, object, print_list, printable, wrap,
};
use crate::prompt;
use crate::screen::{ProgressKind, Screen};
use crate::settings::{Session, Settings};

type CommandResult = Result<(), Failure>;

/// Takes the progress away after a call, and explains its failure.
pub fn finish<T>(screen: &Screen, settings: &Settings, outcome: Result<T, Error>) -> Result<T, Failure> {
    screen.clear();
    outcome.map_err(|e| settings.explain(e))
}

/// Where a report goes.
struct Target<'a> {
    saving: &'a SavingArgs,
    output: &'a Path,
}

impl Target<'_> {
    fn is_stdout(&self) -> bool {
        self.output.as_os_str() == "-"
    }

    fn is_directory(&self) -> bool {
        self.output.as_os_str().as_bytes().ends_with(b"/") || self.output.is_dir()
    }

    fn overwrite(&self) -> Overwrite {
        match self.saving.force {
            true => Overwrite::Yes,
            false => Overwrite::No,
        }
    }

    /// Checks what would fail later, before any request.
    fn check(&self, settings: &mut Settings) -> CommandResult {
        if self.is_stdout() {
            if io::stdout().is_terminal() {
                return Err(Failure::usage("--output -: standard output is a terminal")
                    .hint("use --output FILE, or a pipe"));
            }
            // The flag overrides the profile.
            settings.json &= settings.has_json_flag;
            if settings.json {
                return Err(Failure::usage(
                    "--json and --output - exclude each other: both are for standard output",
                ));
            }
            Output::open()?;
        }
        Ok(())
    }

    /// Checks the path too, for a download that comes after a long wait.
    fn check_early(&self, settings: &mut Settings) -> CommandResult {
        self.check(settings)?;
        if self.is_stdout() {
            return Ok(());
        }
        check_output(self.output, self.is_directory(), self.overwrite()).map_err(|e| settings.explain(e))
    }

    /// Downloads a report there, and says so.
    fn save(
        &self,
        settings: &Settings,
        screen: &Arc<Screen>,
        session: &Session,
        report: &Report,
    ) -> CommandResult {
        let overwrite = self.overwrite();
        let client = &session.client;
        let outcome = screen
            .show_progress(&session.operation, ProgressKind::Download)
            .and_then(|()| {
                if self.is_stdout() {
                    client.download_to_fd(report, io::stdout()).map(drop)
                } else if self.is_directory() {
                    client
                        .download_to_directory(report, self.output, overwrite)
                        .map(drop)
                } else {
                    client.download_to_file(report, self.output, overwrite).map(drop)
                }
            });
        finish(screen, settings, outcome)?;
        let operation = &session.operation;
        let (bytes, attempts) = (operation.received(), operation.attempts());
        let path = operation.path();
        let name = path.as_deref().unwrap_or(Path::new("-"));
        let name = name.strip_prefix("./").unwrap_or(name).to_string_lossy();
        if settings.json {
            return Output::open()?.json(&object(
                "download",
                [
                    ("path", name.as_ref().into()),
                    ("bytes", bytes.into()),
                    ("attempts", attempts.into()),
                    ("request_id", operation.request_id().into()),
                ],
            ));
        }
        if !settings.quiet {
            let tries = match attempts {
                0 | 1 => String::new(),
                _ => format!(", {attempts} attempts"),
            };
            write_stderr(&format!("saved {} ({bytes} bytes{tries})\n", printable(&name)));
        }
        Ok(())
    }
}

fn report_of(settings: &Settings, instance: &str, id: &str, locale: Option<&str>) -> Result<Report, Failure> {
    let report = Report::new(instance, id);
    Ok(match locale {
        Some(locale) => report.locale(locale.parse::<Locale>().map_err(|e| settings.explain(e))?),
        None => report,
    })
}

pub fn download(settings: &mut Settings, args: Download) -> CommandResult {
    let instance = settings.required_instance(args.instance.instance)?;
    let id = settings.report(args.report.report)?;
    let locale = settings.locale(args.saving.locale.locale.clone());
    let report = report_of(settings, &instance, &id, locale.as_deref())?;
    let output = settings.output(args.saving.output.clone());
    let target = Target {
        saving: &args.saving,
        output: &output,
    };
    target.check(settings)?;
    let screen = Screen::new(settings);
    let session = settings.connect(&screen, &[])?;
    target
        .save(settings, &screen, &session, &report)
        .map_err(|failure| match failure.code {
            CANCELLED if target.is_stdout() => {
                failure.hint("the beginning of the report may be in what was written to standard output")
            }
            _ => failure,
        })
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

pub fn check(settings: &mut Settings, _: Check) -> CommandResult {
    settings.is_check = true;
    let screen = Screen::new(settings);
    let session = settings.connect(&screen, &[])?;
    let found = session
        .client
        .find_credentials()
        .map_err(|e| settings.explain(e))?;
    let description = match &settings.token_source {
        Some(source) if found.source == "token" => format!("the token of {source}"),
        _ => found.description,
    };
    let project = session.project.clone().or(found.project);
    let expires = found.expires.map(rfc3339);
    let mut output = match settings.quiet && !settings.json {
        true => None,
        false => Some(Output::open()?),
    };
    if let Some(output) = output.as_mut().filter(|_| !settings.json) {
        let unknown = "not known";
        for (name, value) in [
            ("source", format!("{}, {description}", found.source).as_str()),
            ("who", found.name.as_deref().unwrap_or(unknown)),
            (
                "project",
                project
                    .as_deref()
                    .unwrap_or(match settings.sourced.contains_key("region") {
                        true => "looked up by the region's name",
                        false => unknown,
                    }),
            ),
            ("expires", expires.as_deref().unwrap_or(unknown)),
        ] {
            output.write(&format!("{name}: {}\n", printable(value)))?;
        }
    }
    let outcome = session.client.check();
    let accepted = match outcome.as_ref().map_err(Error::status) {
        Ok(()) => Some(true),
        Err(Status::Unauthenticated | Status::Forbidden) => Some(false),
        Err(_) => None,
    };
    if let Some(output) = &mut output {
        if settings.json {
            output.json(&object(
                "check",
                [
                    ("source", found.source.into()),
                    ("description", description.into()),
                    ("who", found.name.into()),
                    ("project", project.into()),
                    ("expires", expires.into()),
                    ("accepted", accepted.into()),
                ],
            ))?;
        } else {
            let word = accepted.map_or("not known", |yes| if yes { "yes" } else { "no" });
            output.write(&format!("accepted: {word}\n"))?;
        }
    }
    outcome.map_err(|e| settings.explain(e))
}

/// Prints a list: JSON as it comes, a table when all of it is there.
fn list(
    settings: &mut Settings,
    kind: &str,
    columns: &[Column],
    items: impl FnOnce(&Session) -> Items,
) -> CommandResult {
    let mut output = Output::open()?;
    let screen = Screen::new(settings);
    let session = settings.connect(&screen, &[])?;
    let mut found = Vec::new();
    for item in items(&session) {
        let item = item.map_err(|e| settings.explain(e))?;
        match settings.json {
            true => output.item(kind, &item)?,
            false => found.push(item),
        }
    }
    if settings.json {
        return Ok(());
    }
    print_items(settings, &mut output, columns, &found)
}

/// Prints items as a table.
fn print_items(
    settings: &Settings,
    output: &mut Output,
    columns: &[Column],
    items: &[Item],
) -> CommandResult {
    let left_out = print_list(output, columns, items, !settings.quiet)?;
    if !left_out.is_empty() && !settings.quiet {
        write_stderr(&format!(
            "dbss: a wider terminal, or --json, also shows {}\n",
            left_out.join(", ")
        ));
    }
    Ok(())
}

pub fn instances(settings: &mut Settings, _: Instances) -> CommandResult {
    list(settings, "instance", INSTANCES, |session| {
        session.client.instances()
    })
}

pub fn reports(settings: &mut Settings, args: Reports) -> CommandResult {
    let instance = settings.required_instance(args.instance.instance)?;
    list(settings, "report", REPORTS, |session| {
        let reports = session.client.reports(&instance);
        match &args.name {
            Some(name) => reports.name(name),
            None => reports,
        }
    })
}

pub fn templates(settings: &mut Settings, args: Templates) -> CommandResult {
    let instance = settings.required_instance(args.instance.instance)?;
    list(settings, "template", TEMPLATES, |session| {
        session.client.templates(&instance)
    })
}

pub fn databases(settings: &mut Settings, args: Databases) -> CommandResult {
    let instance = settings.required_instance(args.instance.instance)?;
    list(settings, "database", DATABASES, |session| {
        let databases = session.client.databases(&instance);
        match &args.status {
            Some(status) => databases.status(status),
            None => databases,
        }
    })
}

/// A report's type, also by its last word alone: DAY for AUDIT_REPORT_DAY.
pub fn report_type(word: String) -> String {
    let upper = word.to_ascii_uppercase();
    match upper.as_str() {
        "DAY" | "WEEK" | "MONTH" | "YEAR" | "REAL_TIME" => format!("AUDIT_REPORT_{upper}"),
        _ => word,
    }
}

pub fn schedule(settings: &mut Settings, args: Schedule) -> CommandResult {
    let instance = settings.required_instance(args.instance.instance)?;
    settings.flag("template_id", &args.template);
    let given = args.changes;
    let mut changes = None;
    for (key, value) in [
        ("status", given.status),
        ("frequency", given.frequency.map(report_type)),
        ("format", given.format),
        ("mode", given.mode),
        ("start_time", given.start_time),
        ("notice", given.notice),
        ("topic_urn", given.topic_urn),
        ("db_ids", given.db_ids),
    ] {
        if let Some(value) = value {
            let changes = changes.get_or_insert_with(ScheduleChanges::default);
            changes.set(key, value).map_err(|e| settings.explain(e))?;
        }
    }
    let mut output = Output::open()?;
    let screen = Screen::new(settings);
    let session = settings.connect(&screen, &[])?;
    let (client, template) = (&session.client, args.template.as_str());
    if let Some(changes) = &changes {
        let outcome = client.update_schedule(&instance, template, changes);
        finish(&screen, settings, outcome).map_err(|failure| match failure.code {
            CANCELLED => failure
                .hint("the service may have changed the schedule: the command without changes shows it"),
            _ => failure,
        })?;
    }
    let outcome = client.schedule(&instance, template);
    let found = finish(&screen, settings, outcome).map_err(|failure| match changes {
        Some(_) => failure.hint("the schedule was changed; only showing it failed"),
        None => failure,
    })?;
    match settings.json {
        true => output.item("schedule", &found),
        false => print_items(settings, &mut output, SCHEDULE, &[found]),
    }
}

fn spec_of(args: &Generate) -> Result<ReportSpec, Error> {
    let mut spec = ReportSpec::default();
    for (key, value) in [
        ("template_id", Some(&args.template)),
        ("start_time", Some(&args.start_time)),
        ("end_time", Some(&args.end_time)),
        ("start_date", args.start_date.as_ref()),
        ("end_date", args.end_date.as_ref()),
        ("db_ids", args.db_ids.as_ref()),
    ] {
        if let Some(value) = value {
            spec.set(key, value)?;
        }
    }
    Ok(spec)
}

/// The id of the report that was created before the failure, if it is known.
fn only_candidate(failure: &Failure) -> Option<String> {
    match failure.error.as_ref()?.candidates() {
        [id] => Some(id.clone()),
        _ => None,
    }
}

pub fn generate(settings: &mut Settings, args: Generate) -> CommandResult {
    let instance = settings.required_instance(args.instance.instance.clone())?;
    settings.flag("template_id", &args.template);
    let spec = spec_of(&args).map_err(|e| settings.explain(e))?;
    let target = args.saving.output.as_deref().map(|output| Target {
        saving: &args.saving,
        output,
    });
    let locale = match target {
        Some(_) => settings.locale(args.saving.locale.locale.clone()),
        None => args.saving.locale.locale.clone(),
    };
    // A wrong locale is refused before anything is made.
    report_of(settings, "", "", locale.as_deref())?;
    match &target {
        Some(target) => target.check_early(settings)?,
        None if args.saving.force => {
            return Err(Failure::usage("--force needs --output"));
        }
        None => {}
    }
    let mut output = Output::open()?;
    let screen = Screen::new(settings);
    let limits = [
        ("wait_timeout_ms", args.wait_timeout),
        ("poll_interval_ms", args.poll_interval),
    ];
    let more: Vec<_> = limits
        .into_iter()
        .filter_map(|(key, limit)| Some((key, limit?.0)))
        .collect();
    let session = settings.connect(&screen, &more)?;
    let outcome = screen
        .show_progress(&session.operation, ProgressKind::Generation)
        .and_then(|()| session.client.generate(&instance, &spec));
    let id = finish(&screen, settings, outcome).map_err(|failure| match failure.code {
        USAGE | REFUSED | NOT_FOUND if session.operation.percent().is_none() => failure,
        // Such as of the connection, before anything was to be generated.
        _ if failure.error.as_ref().is_some_and(Error::is_retryable) => failure,
        _ => {
            let hint = match only_candidate(&failure) {
                Some(id) => format!(
                    "when the report is ready: dbss download --instance {instance} --report {}",
                    printable(&id)
                ),
                None => format!(
                    "the service may have generated the report, or may still generate it: dbss reports --instance {instance}"
                ),
            };
            failure.hint(hint)
        }
    })?;
    let there = |failure: Failure| {
        failure.hint(format!(
            "the report is ready: dbss download --instance {instance} --report {}",
            printable(&id)
        ))
    };
    let to_stdout = target.as_ref().is_some_and(Target::is_stdout);
    if settings.json {
        let line = object("generated", [("id", id.as_str().into())]);
        output.json(&line).map_err(there)?;
    } else if !to_stdout {
        // Before the download, which may fail.
        output.write(&format!("{}\n", printable(&id))).map_err(there)?;
    } else if !settings.quiet {
        write_stderr(&format!("made {}\n", printable(&id)));
    }
    let Some(target) = target else {
        return Ok(());
    };
    let report = report_of(settings, &instance, &id, locale.as_deref())?;
    target.save(settings, &screen, &session, &report).map_err(there)
}

/// Asks the user whether to delete a report.
fn confirm(instance: &str, report: &str) -> CommandResult {
    let question = format!("Delete the report {report} of the instance {instance} for ever? [y/N] ");
    let Some(reply) = prompt::ask(&question) else {
        return Err(Failure::usage("there is nobody to ask whether to delete it").hint("use --yes"));
    };
    match reply.trim_ascii().to_ascii_lowercase().as_slice() {
        b"y" | b"yes" => Ok(()),
        _ => Err(Failure::new(CANCELLED, "nothing was deleted")),
    }
}

pub fn delete(settings: &mut Settings, args: Delete) -> CommandResult {
    let instance = settings.required_instance(args.instance.instance)?;
    settings.flag("id", &args.report);
    let screen = Screen::new(settings);
    // Before the question, which a signal may end.
    let session = settings.connect(&screen, &[])?;
    if !args.yes {
        confirm(&instance, &args.report)?;
    }
    let outcome = session.client.delete(&Report::new(&instance, &args.report));
    finish(&screen, settings, outcome).map_err(|failure| match failure.code {
        USAGE | REFUSED | NOT_FOUND => failure,
        _ => {
            failure.hint("the service may have deleted the report: 'dbss reports' shows whether it is there")
        }
    })?;
    if settings.json {
        return Output::open()
            .and_then(|mut output| output.json(&object("deleted", [("id", args.report.as_str().into())])))
            .map_err(|failure| failure.hint("the report was deleted"));
    }
    if !settings.quiet {
        write_stderr(&format!("deleted {}\n", printable(&args.report)));
    }
    Ok(())
}

/// The value of an option as JSON.
fn value_of(row: &OptionRow, text: &str) -> Value {
    match row.kind {
        Kind::Number | Kind::Milliseconds | Kind::Bytes => {
            text.parse::<i64>().map_or(text.into(), Value::from)
        }
        Kind::Boolean => (text == "true").into(),
        _ => text.into(),
    }
}

/// A text in lines of so many columns, indented.
fn paragraph(text: &str, width: usize) -> String {
    let lines = wrap(text, width.saturating_sub(4));
    lines.iter().map(|line| format!("    {line}\n")).collect()
}

/// Options of the library that change nothing for this program.
const WITHOUT_EFFECT: &[&str] = &["interruptible", "log_level", "max_memory_bytes"];

pub fn options(args: &Options) -> CommandResult {
    let mut output = Output::open()?;
    let width = crate::output::columns(io::stdout()).unwrap_or(80).clamp(20, 100);
    let shown = |row: &&OptionRow| row.kind != Kind::Secret && !WITHOUT_EFFECT.contains(&row.key());
    for row in OptionSet::Config.options().filter(shown) {
        let default = row.default(OptionSet::Config).and_then(|text| text.to_str().ok());
        let kind = row.kind.name().to_str().unwrap_or_default();
        let help = row.help.to_str().unwrap_or_default();
        if args.json {
            output.json(&object(
                "option",
                [
                    ("key", row.key().into()),
                    ("flag", hints::flag(row.key()).into()),
                    ("type", kind.into()),
                    ("default", default.map(|text| value_of(row, text)).into()),
                    ("minimum", Some(row.minimum).filter(|least| *least >= 0).into()),
                    ("maximum", Some(row.maximum).filter(|most| *most >= 0).into()),
                    ("allows_none", row.allows_none.into()),
                    (
                        "choices",
                        row.choices().map(Value::from).collect::<Vec<_>>().into(),
                    ),
                    ("help", help.into()),
                ],
            ))?;
            continue;
        }
        let mut text = format!("{} ({kind}, default {})\n", row.key(), default.unwrap_or("unset"));
        text += &paragraph(help, width);
        if let Some(range) = row.range() {
            let format = if row.kind == Kind::Mode {
                " in octal digits"
            } else {
                ""
            };
            text += &paragraph(&format!("{range}{format}"), width);
        }
        if let Some(note) = hints::note(row.key()) {
            text += &paragraph(note, width);
        }
        if let Some(flag) = hints::flag(row.key()) {
            let unit = match row.kind {
                Kind::Milliseconds => ", which takes seconds,",
                _ => "",
            };
            text += &paragraph(&format!("The flag {flag}{unit} sets it too."), width);
        }
        output.write(&text)?;
    }
    Ok(())
}

pub fn completions(args: &Completions) -> CommandResult {
    let mut script = Vec::new();
    let mut command = args::public_command();
    clap_complete::generate(args.shell, &mut command, "dbss", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == clap_complete::Shell::Fish {
        script += &fish_arguments(&command);
    }
    Output::open()?.write(&script)
}

/// What fish completes where there is no flag, which clap_complete leaves to its default:
/// all files.
fn fish_arguments(command: &clap::Command) -> String {
    let mut script = String::new();
    for one in command.get_subcommands() {
        let argument = one.get_positionals().next();
        let values: Vec<_> = argument
            .map(clap::Arg::get_possible_values)
            .unwrap_or_default()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect();
        let offered = match argument.map(clap::Arg::get_value_hint) {
            Some(ValueHint::DirPath) => r#" -a "(__fish_complete_directories)""#.to_owned(),
            Some(_) => format!(r#" -a "{}""#, values.join(" ")),
            None => String::new(),
        };
        let name = one.get_name();
        script += &format!("complete -c dbss -n \"__fish_dbss_using_subcommand {name}\" -f{offered}\n");
    }
    script
}

/// A text as it is, in the language of man pages.
fn verbatim(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = escaped.lines().map(|line| format!("\\&{line}\n"));
    format!(".nf\n{}.fi\n", lines.collect::<String>())
}

/// The man page of a command.
fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let sections = args::sections(command);
    // What -h leaves out is in the manual.
    let command = command
        .clone()
        .after_help(Resettable::Reset)
        .after_long_help(Resettable::Reset)
        .mut_args(|arg| arg.hide_short_help(false));
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("dbss ", env!("CARGO_PKG_VERSION")))
        .manual("Audit reports of DBSS")
        // A blank for the date, which only keeps its place.
        .date(" ")
        .render(&mut page)?;
    for (title, text) in sections {
        write!(page, ".SH {}\n{}", title.to_uppercase(), verbatim(&text))?;
    }
    Ok(page)
}

pub fn man(args: &Man) -> CommandResult {
    let mut command = args::command();
    command.build();
    let write = || {
        std::fs::create_dir_all(&args.directory)?;
        let subcommands = command.get_subcommands().filter(|one| !one.is_hide_set());
        for one in subcommands.chain([&command]) {
            let name = one.get_display_name().unwrap_or(one.get_name());
            std::fs::write(args.directory.join(format!("{name}.1")), page(one)?)?;
        }
        Ok(())
    };
    write().map_err(|e: io::Error| {
        let directory = args.directory.display();
        Failure::new(
            LOCAL,
            format!("cannot write the man pages to {directory}: {}", os_message(&e)),
        )
    })
}
