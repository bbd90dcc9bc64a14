//! The command line: what can be typed, one file for each command. The only room that prints.
//!
//! Results go to stdout and everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
//! which is clap's own.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::Style;
use clap::{Args, Parser, Subcommand};

use crate::config::Flags;
use terminal::{ColorArg, ERROR, has_colours};

mod array;
pub mod backup;
pub mod check;
mod columns;
pub mod completions;
pub mod demo;
pub mod demonstration;
mod difference;
pub mod doctor;
mod draft;
pub mod export;
pub mod filters;
pub mod fingerprint;
pub mod health;
pub mod import;
mod log;
pub mod man;
pub mod prices;
mod progress;
pub mod recent;
mod remote;
pub mod report;
pub mod reprice;
pub mod serve;
pub mod sheet;
pub mod source;
pub mod stats;
mod terminal;
pub mod top;
mod visible;

/// A transparent reverse proxy for LLM APIs that meters, prices and records every call.
#[derive(Debug, Parser)]
#[command(
    name = "tokenmeter",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Results go to stdout, everything else to stderr. Tables are as wide as the \
                        terminal, or as COLUMNS says, and in pipes as wide as they must be.\n\n\
                        Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub struct Cli {
    /// When to print in colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub color: ColorArg,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(serve::RunArgs),
    Stats(stats::StatsArgs),
    Recent(recent::RecentArgs),
    Top(top::TopArgs),
    Report(report::ReportArgs),
    Prices(prices::PricesArgs),
    Reprice(reprice::RepriceArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Backup(backup::BackupArgs),
    Check(check::CheckArgs),
    Doctor(doctor::DoctorArgs),
    Health(health::HealthArgs),
    Fingerprint(fingerprint::FingerprintArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Where the configuration and the ledger are, for commands that read them.
#[derive(Args, Clone, Debug, Default)]
pub struct SourceArgs {
    /// Configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The ledger's database file [default: tokenmeter.db]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,

    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "database"],
          help = "Ask the tokenmeter that runs there, such as http://localhost:4100 \
                  [env: TOKENMETER_URL]")]
    pub url: Option<String>,

    #[arg(
        long,
        value_name = "TOKEN",
        help = "Its admin token [env: TOKENMETER_ADMIN_TOKEN, or TOKENMETER_ADMIN_TOKEN_FILE]"
    )]
    pub token: Option<String>,
}

impl SourceArgs {
    pub fn flags(&self) -> Flags {
        Flags { config: self.config.clone(), database: self.database.clone(), ..Flags::default() }
    }
}

/// Which ledger, for commands that work on the files themselves.
#[derive(Args, Clone, Debug, Default)]
pub struct LedgerArgs {
    /// Configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The ledger's database file [default: tokenmeter.db]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,
}

impl LedgerArgs {
    pub fn flags(&self) -> Flags {
        Flags { config: self.config.clone(), database: self.database.clone(), ..Flags::default() }
    }
}

/// Why a command has not done what it was asked to, and whose fault that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be done.
    Failed(String),
    /// What was typed makes no sense.
    Usage(String),
    /// It was done, and the answer is that something is wrong: a result, and a code of failure.
    Found(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Failed(message) | Failure::Usage(message) | Failure::Found(message)) = self;
        f.write_str(message)
    }
}

impl std::error::Error for Failure {}

/// Does what was typed.
pub fn run(cli: &Cli) -> ExitCode {
    cli.color.choose();
    let done = match &cli.command {
        Command::Serve(args) => match serve::run(args) {
            Ok(()) => Ok(String::new()),
            Err(error) => Err(Failure::Failed(error.to_string())),
        },
        Command::Stats(args) => stats::run(args),
        Command::Recent(args) => recent::run(args),
        Command::Top(args) => top::run(args),
        Command::Report(args) => report::run(args),
        Command::Prices(args) => prices::run(args),
        Command::Reprice(args) => reprice::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Health(args) => health::run(args),
        Command::Fingerprint(args) => fingerprint::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    };
    let (message, code) = match done.and_then(|text| print(&text)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Found(report)) => {
            // The report is the result, and the code says what it says.
            let _ = print(&report);
            return ExitCode::FAILURE;
        }
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::Usage(message)) => (message, 2),
    };
    complain(&message);
    ExitCode::from(code)
}

/// The result to stdout. Whoever stopped reading has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("writing the result: {error}")))
        }
        _ => Ok(()),
    }
}

/// To stderr, line by line; where that is closed there is nobody to tell.
fn complain(message: &str) {
    let mut err = io::stderr().lock();
    let style = if has_colours(&err) { ERROR } else { Style::new() };
    for line in message.lines() {
        // It may quote what somebody elsewhere said.
        let _ = writeln!(err, "{style}tokenmeter:{style:#} {}", visible::visible(line));
    }
}

/// Parameters of the admin API, by its own names: a report asks the same question wherever the answer
/// comes from, and one reader of parameters checks it.
pub type Query = Vec<(String, String)>;

/// Adds what was given.
fn push(query: &mut Query, name: &str, value: Option<impl ToString>) {
    if let Some(value) = value {
        query.push((name.to_owned(), value.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    fn pairs(query: &Query) -> String {
        let pairs: Vec<String> =
            query.iter().map(|(name, text)| format!("{name}={text}")).collect();
        pairs.join("&")
    }

    #[test]
    fn the_definition_is_sound_and_every_command_is_explained() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments().filter(|arg| arg.get_id() != "help") {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
        }
    }

    #[test]
    fn serve_hands_its_flags_on_as_typed() {
        let Command::Serve(args) =
            parse("tokenmeter serve --config c.toml --listen 4100 --database d --pricing p")
                .unwrap()
        else {
            panic!("not serve")
        };
        let flags = args.flags();
        assert_eq!(flags.config, Some("c.toml".into()));
        assert_eq!(flags.listen.as_deref(), Some("4100"));
        assert_eq!(flags.database.as_deref(), Some("d"));
        assert_eq!(flags.pricing.as_deref(), Some("p"));
    }

    #[test]
    fn stats_asks_in_the_admin_api_s_words() {
        let line = "tokenmeter stats --days 30 --by user,model --by metadata.team --user ann \
                    --usage-source estimated --metadata subject=maths=1 --sort cost_usd --order desc \
                    --limit 5 --tz Europe/Berlin";
        let Command::Stats(args) = parse(line).unwrap() else { panic!("not stats") };
        assert_eq!(
            pairs(&args.query()),
            "days=30&tz=Europe/Berlin&user=ann&usage_source=estimated&metadata.subject=maths=1&\
             group_by=user,model,metadata.team&sort=cost_usd&order=desc&limit=5"
        );
        let Command::Stats(args) = parse("tokenmeter stats").unwrap() else { panic!("not stats") };
        assert_eq!(pairs(&args.query()), "");
    }

    #[test]
    fn recent_takes_the_same_filters() {
        let line = "tokenmeter recent --outcome client_closed --status 429 --finish-reason length \
                    --error upstream_timeout --price-id openai/gpt-4o --cost-source priced \
                    --upstream up --endpoint messages --provider p --operation o --session s";
        let Command::Recent(args) = parse(line).unwrap() else { panic!("not recent") };
        assert_eq!(
            pairs(&args.query()),
            "session=s&operation=o&provider=p&upstream=up&endpoint=messages&cost_source=priced&\
             outcome=client_closed&status=429&finish_reason=length&error=upstream_timeout&\
             price_id=openai/gpt-4o&limit=20"
        );
        let Command::Recent(args) =
            parse("tokenmeter recent --limit 3 --since 2026-11-01 --model gpt-4o").unwrap()
        else {
            panic!("not recent")
        };
        assert_eq!(pairs(&args.query()), "since=2026-11-01&model=gpt-4o&limit=3");
    }

    #[test]
    fn what_contradicts_itself_is_wrong_usage() {
        let wrong = [
            "tokenmeter",
            "tokenmeter stats --days 7 --since 2026-11-01",
            "tokenmeter stats --days 0",
            "tokenmeter stats --format xml",
            "tokenmeter recent --metadata subject",
            "tokenmeter recent --limit 0",
            "tokenmeter recent --status 99",
            "tokenmeter recent --outcome failed",
            "tokenmeter stats --color blue",
            "tokenmeter top --window 5",
            "tokenmeter top --interval 1ms",
            "tokenmeter top --by colour",
            "tokenmeter top --window 1h --days 2",
            "tokenmeter top --format json",
            "tokenmeter completions tcsh",
            "tokenmeter report --month 2026-10 --days 7",
            "tokenmeter report --by colour",
            "tokenmeter demo",
            "tokenmeter demo --database d --calls 0",
            "tokenmeter serve --demo-calls 5",
        ];
        for line in wrong {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
