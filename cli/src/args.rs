//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use dbss::internal::tables::OptionSet;

/// The exit codes of all subcommands. README.md has the same table.
pub const EXIT_CODES: &str = r"    0  success
    1  internal error of dbss
    2  wrong usage, argument or configuration
    3  the credentials were rejected, or do not allow this (HTTP 401, 403)
    4  there is no such project, instance, template or report (HTTP 404)
    5  the service failed, refused, or was not ready in time
    6  the network failed
    7  a local file, memory or another resource failed; also if the file exists
   10  mirror: nothing was new (only with --detect-nothing-new, else 0)
   11  mirror: some reports failed to download; the others are there
   12  mirror: another mirror uses the directory
  130  cancelled, by Ctrl-C for example";

const CREDENTIALS: &str = r"  The first of these that is present is used:
  - the token in the file of --token-file
  - --set iam_user= and --set iam_domain= (a login with the password in
    DBSS_IAM_PASSWORD; with --set iam_user_id= also a passcode, of
    DBSS_IAM_PASSCODE or asked for on the terminal), or --credentials
  - the token in DBSS_TOKEN, or DBSS_CREDENTIALS, which is as --credentials
  - token_file or credentials of the profile
  - what the official SDKs find, in this order:
    oidc: an agency for an OIDC token (HUAWEICLOUD_OIDC_PROVIDER_URN,
      HUAWEICLOUD_OIDC_AGENCY_URN, and HUAWEICLOUD_OIDC_TOKEN_FILE or
      HUAWEICLOUD_OIDC_ID_TOKEN)
    environment: a federated identity (HUAWEICLOUD_SDK_IDP_ID and
      HUAWEICLOUD_SDK_ID_TOKEN_FILE), else the access key of
      HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK (and
      HUAWEICLOUD_SDK_SECURITY_TOKEN), with HUAWEICLOUD_SDK_PROJECT_ID
    profile: the file that HUAWEICLOUD_SDK_CREDENTIALS_FILE names, else
      ~/.huaweicloud/credentials
    metadata: the temporary key of the agency of this machine (a cloud server)
    pod_identity: that of the agency of this pod
      (HC_CONTAINER_CREDENTIALS_FULL_URI and
      HC_CONTAINER_AUTHORIZATION_TOKEN_FILE)

  --credentials NAME uses only one of them; federation is the federated identity
  of the environment or the profile. --set agency_name= and agency_domain=
  assume an agency of another account with these credentials. No flag takes a
  secret, because everybody on the machine can read command lines.";

const CONFIGURATION: &str = r"  A flag overrides its environment variable, which overrides the profile of the
  file $XDG_CONFIG_HOME/dbss/config.toml, by default ~/.config/dbss/config.toml.
  An empty variable counts as unset.";

/// The sections at the end of a command's help and man page, with their titles.
pub fn sections(command: &clap::Command) -> Vec<(&'static str, String)> {
    let mut sections = Vec::new();
    if let Some(examples) = examples(command.get_name()) {
        sections.push(("Examples", examples.to_owned()));
    }
    let connects = command.get_arguments().any(|arg| arg.get_id() == "region");
    if connects || command.get_name() == "dbss" {
        sections.push(("Credentials", CREDENTIALS.to_owned()));
        sections.push(("Configuration", CONFIGURATION.to_owned()));
        sections.push(("Exit codes", EXIT_CODES.to_owned()));
    }
    sections
}

fn examples(command: &str) -> Option<&'static str> {
    Some(match command {
        "download" => {
            r"  dbss download --region cn-north-4 --instance ID --report ID
  dbss download --report ID -o november.pdf --force
  dbss download --report ID -o - | lpr"
        }
        "generate" => {
            r"  dbss generate --instance ID --template ID --start-time '2026-11-23 00:00:00' \
      --end-time '2026-11-24 00:00:00' -o ."
        }
        "mirror" => {
            r"  dbss mirror /srv/audit --since 2026-01-01 --gaps
  dbss mirror /srv/audit --quiet --success-file /run/dbss-mirror.json   # for cron"
        }
        "schedule" => {
            r"  dbss schedule --instance ID --template ID
  dbss schedule --template ID --status OFF
  dbss schedule --template ID --status ON --frequency AUDIT_REPORT_DAY --db-ids ID,ID"
        }
        "completions" => {
            r"  dbss completions bash > ~/.local/share/bash-completion/completions/dbss
  dbss completions zsh > ~/.zfunc/_dbss      # any directory of $fpath
  dbss completions fish > ~/.config/fish/completions/dbss.fish"
        }
        _ => return None,
    })
}

/// Audit reports of Huawei Cloud's Database Security Service (DBSS).
///
/// Downloads audit reports, lists and generates them, and keeps a local archive of them.
#[derive(Debug, Parser)]
#[command(
    name = "dbss",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "'dbss COMMAND -h' prints the options of a command, and --help everything about it."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Download(Download),
    Check(Check),
    Instances(Instances),
    Reports(Reports),
    Templates(Templates),
    Databases(Databases),
    Schedule(Schedule),
    Generate(Generate),
    Delete(Delete),
    Mirror(Mirror),
    Options(Options),
    Completions(Completions),
    #[command(hide = true)]
    Man(Man),
}

/// Download an audit report
///
/// The report appears under its name only when it is complete and on the disk. An existing
/// file is kept, unless --force is given. Interrupted transfers are resumed.
#[derive(Debug, Args)]
pub struct Download {
    #[command(flatten)]
    pub instance: InstanceArgs,
    #[command(flatten)]
    pub report: ReportArgs,
    #[command(flatten)]
    pub saving: SavingArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Check the credentials, and print where they come from
///
/// Prints which credentials are found, and whether the service accepts them. Downloads and
/// changes nothing.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub common: CommonArgs,
}

/// List the audit instances
///
/// Prints a table on a terminal, and tab-separated values to a pipe. --json prints each
/// instance as the service sent it.
#[derive(Debug, Args)]
pub struct Instances {
    #[command(flatten)]
    pub common: CommonArgs,
}

/// List the audit reports of an instance
///
/// Prints a table on a terminal, and tab-separated values to a pipe. --json prints each
/// report as the service sent it.
#[derive(Debug, Args)]
pub struct Reports {
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// Only reports with this in their name
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// List the templates from which reports are generated
///
/// Prints a table on a terminal, and tab-separated values to a pipe. --json prints each
/// template as the service sent it.
#[derive(Debug, Args)]
pub struct Templates {
    #[command(flatten)]
    pub instance: InstanceArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// List the databases that an instance audits
///
/// --db-ids takes their ids. Prints a table on a terminal, and tab-separated values to a
/// pipe. --json prints each database as the service sent it.
#[derive(Debug, Args)]
pub struct Databases {
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// Only databases with this status: ON or OFF
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Show or change the schedule of a template
///
/// Prints the schedule on which the service generates reports from the template. The flags
/// that begin with "Set" change it first; values without a flag stay as they are.
#[derive(Debug, Args)]
pub struct Schedule {
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The template; see 'dbss templates'
    #[arg(long, value_name = "ID", required = true)]
    pub template: String,
    #[command(flatten)]
    pub changes: ScheduleArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// Set whether the service generates reports: ON or OFF
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Set the frequency: DAY, WEEK, MONTH, YEAR or REAL_TIME
    #[arg(long, value_name = "FREQUENCY")]
    pub frequency: Option<String>,
    /// Set the format of the reports: ZIP or PDF
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Set the scheduling mode, passed to the service as it is
    #[arg(long, value_name = "MODE", hide_short_help = true)]
    pub mode: Option<String>,
    /// Set the start time, such as '2026-11-24 00:00:00'
    #[arg(long, value_name = "TIME")]
    pub start_time: Option<String>,
    /// Set whether the service sends a notification: ON or OFF
    #[arg(long, value_name = "STATUS")]
    pub notice: Option<String>,
    /// Set the URN of the topic of SMN (Simple Message Notification); empty for none
    #[arg(long, value_name = "URN")]
    pub topic_urn: Option<String>,
    /// Set the ids of the databases in the reports, separated by commas; empty for all
    #[arg(long, value_name = "IDS")]
    pub db_ids: Option<String>,
}

/// Have the service generate a report, and wait for it
///
/// Prints the id of the report when it is ready. With --output it is downloaded too. If the
/// command is interrupted, the report stays at the service: 'dbss reports' lists it.
#[derive(Debug, Args)]
pub struct Generate {
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The template of the report; see 'dbss templates'
    #[arg(long, value_name = "ID", required = true)]
    pub template: String,
    /// The start of the time range of the report, such as '2026-11-24 00:00:00'
    #[arg(long, value_name = "TIME", required = true)]
    pub start_time: String,
    /// The end of the time range
    #[arg(long, value_name = "TIME", required = true)]
    pub end_time: String,
    /// The first day of the range, passed to the service as it is
    #[arg(long, value_name = "DATE", hide_short_help = true)]
    pub start_date: Option<String>,
    /// The last day of the range, passed to the service as it is
    #[arg(long, value_name = "DATE", hide_short_help = true)]
    pub end_date: Option<String>,
    /// The ids of the databases in the report, separated by commas [default: all]
    #[arg(long, value_name = "IDS")]
    pub db_ids: Option<String>,
    /// The maximum time to wait for the report, in seconds, or none [default: 3600]
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none("wait_timeout_ms"))]
    pub wait_timeout: Option<Limit>,
    /// The first interval for asking whether it is ready, in seconds; it grows [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds("poll_interval_ms"), hide_short_help = true)]
    pub poll_interval: Option<Limit>,
    #[command(flatten)]
    pub saving: SavingArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Delete a report at the service
///
/// This cannot be undone. On a terminal the command asks first; elsewhere it needs --yes.
/// The variable DBSS_REPORT_ID is ignored, so that no report is deleted by mistake.
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The report
    #[arg(long, value_name = "ID", required = true)]
    pub report: String,
    /// Delete without asking
    #[arg(long, short = 'y')]
    pub yes: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Update a local archive of all reports
///
/// Downloads every report that is ready and not in the archive yet, several in parallel, and
/// deletes nothing. It is safe to run again, also after it was killed: a report appears only
/// when it is complete. The archive has a manifest (manifest.jsonl) and checksums
/// (SHA256SUMS).
#[derive(Debug, Args)]
pub struct Mirror {
    /// The directory of the archive; it is created if it does not exist
    #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
    /// The audit instance [env: DBSS_INSTANCE_ID] [default: all]
    #[arg(long, value_name = "ID")]
    pub instance: Option<String>,
    /// Only reports whose time range starts on this day or later, such as 2026-11-24
    #[arg(long, value_name = "DAY")]
    pub since: Option<String>,
    /// Only reports whose time range starts on this day or earlier
    #[arg(long, value_name = "DAY")]
    pub until: Option<String>,
    /// The offset of these days from UTC, such as +08:00 [default: UTC]
    #[arg(long, value_name = "OFFSET", hide_short_help = true)]
    pub utc_offset: Option<String>,
    /// Only reports of this type: DAY, WEEK, MONTH, YEAR or REAL_TIME
    #[arg(long, value_name = "TYPE")]
    pub r#type: Option<String>,
    /// Only reports of this template_type, such as SOX
    #[arg(long, value_name = "TYPE", hide_short_help = true)]
    pub template_type: Option<String>,
    /// Only reports with this in their name
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    #[command(flatten)]
    pub locale: LocaleArgs,
    /// The number of parallel downloads, 1 to 16 [default: 4]
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    pub parallel: Option<String>,
    /// Read existing files, and download again those that differ from the manifest
    #[arg(long)]
    pub verify: bool,
    /// Print the days, weeks and months without a report
    ///
    /// From --since to --until, without these from the first to the last report.
    #[arg(long)]
    pub gaps: bool,
    /// A file for monitoring, replaced by each run without failures
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub success_file: Option<PathBuf>,
    /// Exit with code 10 if nothing was new
    #[arg(long)]
    pub detect_nothing_new: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// List the keys of --set
///
/// Each key is printed with its type, default, meaning and range. Run it to see the keys:
/// this text does not list them.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Print the completions of a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Write the man pages
#[derive(Debug, Args)]
pub struct Man {
    /// The directory for them
    #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct InstanceArgs {
    /// The audit instance; see 'dbss instances' [env: DBSS_INSTANCE_ID]
    #[arg(long, value_name = "ID")]
    pub instance: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The report; see 'dbss reports' [env: DBSS_REPORT_ID]
    #[arg(long, value_name = "ID")]
    pub report: Option<String>,
}

#[derive(Debug, Args)]
pub struct LocaleArgs {
    /// The language: en-us or zh-cn [env: DBSS_LOCALE]
    #[arg(long, value_name = "LOCALE")]
    pub locale: Option<String>,
}

#[derive(Debug, Args)]
pub struct SavingArgs {
    #[command(flatten)]
    pub locale: LocaleArgs,
    /// Where to save it: a file, a directory, or - for standard output
    ///
    /// A directory must exist; in it the file has the report's own name. 'download' saves in
    /// the current directory without this flag, or where the variable DBSS_OUTPUT says.
    #[arg(long, short, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, short)]
    pub force: bool,
}

#[derive(Debug, Default, Args)]
pub struct CommonArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Print only results and errors
    ///
    /// No progress, warnings, headings or summary.
    #[arg(long, short)]
    pub quiet: bool,
    /// Print log messages too
    #[arg(long, short)]
    pub verbose: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// The profile of the configuration file [env: DBSS_PROFILE]
    ///
    /// Without both, the one that the key 'profile' of the file names, else 'default'. The
    /// file is $XDG_CONFIG_HOME/dbss/config.toml, by default ~/.config/dbss/config.toml.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// The region, such as cn-north-4 [env: DBSS_REGION]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// The project [env: DBSS_PROJECT_ID] [default: that of the credentials or region]
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
    /// A file with the IAM token; - is standard input [env: DBSS_TOKEN, the token itself]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// The only source of credentials [env: DBSS_CREDENTIALS] [default: default]
    ///
    /// One of default, oidc, environment, federation, profile, metadata and pod_identity.
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "token_file",
        hide_short_help = true
    )]
    pub credentials: Option<String>,
    /// The URL of the service, instead of the region's [env: DBSS_ENDPOINT]
    ///
    /// Up to 16 URLs, separated by commas, in the order of preference.
    #[arg(long, value_name = "URL", hide_short_help = true)]
    pub endpoint: Option<String>,
    /// The certificates to trust (PEM) [env: DBSS_CA_FILE] [default: the system's]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, hide_short_help = true)]
    pub ca_file: Option<PathBuf>,
    /// The maximum time to connect, in seconds, or none [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none("connect_timeout_ms"), hide_short_help = true)]
    pub connect_timeout: Option<Limit>,
    /// The maximum time without a byte sent or received, in seconds, or none [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none("stall_timeout_ms"), hide_short_help = true)]
    pub stall_timeout: Option<Limit>,
    /// The maximum time for a whole call, in seconds, or none [default: none]
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none("total_timeout_ms"), hide_short_help = true)]
    pub total_timeout: Option<Limit>,
    /// The maximum number of attempts when the network or the service fails [default: 3]
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    pub max_attempts: Option<String>,
    /// Allow plain http to another host, which shows the token to the network
    #[arg(long, hide_short_help = true)]
    pub allow_plaintext: bool,
    /// Follow redirects of the service
    #[arg(long, hide_short_help = true)]
    pub follow_redirects: bool,
    /// Use the proxy of https_proxy, http_proxy, all_proxy and no_proxy
    #[arg(long, hide_short_help = true)]
    pub proxy_from_environment: bool,
    /// Set any other option; 'dbss options' lists the keys; repeatable
    #[arg(long, value_name = "KEY=VALUE", hide_short_help = true)]
    pub set: Vec<String>,
}

/// A limit of time in the form of an option's value: milliseconds, -1 for none.
#[derive(Clone, Debug)]
pub struct Limit(pub String);

/// The seconds that a flag takes for an option in milliseconds.
fn parse_seconds(text: &str, key: &str) -> Result<Limit, String> {
    let seconds: f64 = text.parse().unwrap_or(f64::NAN);
    let ms = (seconds * 1000.0).ceil();
    let row = OptionSet::Config.find(key);
    let most = row.and_then(|row| u32::try_from(row.maximum / 1000).ok());
    let most = most.unwrap_or_default();
    if !(ms >= 1.0 && seconds <= f64::from(most)) {
        return Err(format!(
            "must be a number of seconds greater than 0, at most {most}"
        ));
    }
    Ok(Limit(format!("{ms:.0}")))
}

fn seconds(key: &'static str) -> ValueParser {
    ValueParser::new(move |text: &str| parse_seconds(text, key))
}

fn seconds_or_none(key: &'static str) -> ValueParser {
    ValueParser::new(move |text: &str| match text {
        "none" => Ok(Limit("-1".to_owned())),
        _ => parse_seconds(text, key).map_err(|why| format!("{why}, or none")),
    })
}

/// The description of the command line that begins with these words: all of it, or, to
/// start sooner, only of the subcommand that they name.
pub fn parser(words: &[OsString]) -> clap::Command {
    let Some(name) = words.get(1).and_then(|word| word.to_str()) else {
        return command();
    };
    let augment = match name {
        "download" => Download::augment_args,
        "check" => Check::augment_args,
        "instances" => Instances::augment_args,
        "reports" => Reports::augment_args,
        "templates" => Templates::augment_args,
        "databases" => Databases::augment_args,
        "schedule" => Schedule::augment_args,
        "generate" => Generate::augment_args,
        "delete" => Delete::augment_args,
        "mirror" => Mirror::augment_args,
        _ => return command(),
    };
    let subcommand = augment(clap::Command::new(name.to_owned()));
    settings(clap::Command::new("dbss")).subcommand(finish(subcommand))
}

fn settings(top: clap::Command) -> clap::Command {
    top.version(concat!(
        env!("CARGO_PKG_VERSION"),
        " (libdbss ",
        env!("CARGO_PKG_VERSION"),
        ")"
    ))
    .max_term_width(100)
    .disable_help_subcommand(true)
}

/// The command line's description, for completions and man pages.
pub fn command() -> clap::Command {
    let top = settings(Cli::command());
    let names: Vec<_> = top
        .get_subcommands()
        .map(|one| one.get_name().to_owned())
        .collect();
    let top = with_sections(top);
    names
        .into_iter()
        .fold(top, |top, name| top.mut_subcommand(name, finish))
}

/// The same without what is hidden, for completions.
pub fn public_command() -> clap::Command {
    let all = command();
    let shown = all.get_subcommands().filter(|one| !one.is_hide_set()).cloned();
    let shown: Vec<_> = shown.collect();
    settings(clap::Command::new("dbss")).subcommands(shown)
}

fn with_sections(command: clap::Command) -> clap::Command {
    let sections = sections(&command);
    if sections.is_empty() {
        return command;
    }
    let texts: Vec<_> = sections
        .iter()
        .map(|(title, text)| format!("{title}:\n{text}"))
        .collect();
    command.after_long_help(texts.join("\n\n"))
}

/// What all subcommands have in common.
fn finish(command: clap::Command) -> clap::Command {
    let mut command = with_sections(command);
    if command.get_arguments().any(|arg| arg.get_id() == "region") {
        let more = format!(
            "'dbss {} --help' shows all options, credentials and exit codes.",
            command.get_name()
        );
        command = command.after_help(more);
    }
    // A script that deletes must not lose one of two reports.
    let overrides = command.get_name() != "delete";
    command
        .args_override_self(overrides)
        // Ids and file names may begin with a hyphen.
        .mut_args(|arg| {
            let takes_value = arg.get_action().takes_values() && !arg.is_positional();
            let arg = arg.allow_hyphen_values(takes_value);
            // Shells complete names of files only where a file is meant.
            match arg.get_value_hint() {
                ValueHint::Unknown => arg.value_hint(ValueHint::Other),
                _ => arg,
            }
        })
}
