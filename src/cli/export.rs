//! `tokenmeter export`: the calls of a ledger as a file.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::array::ArrayOf;
use super::draft::{Draft, is_database};
use super::filters::{FilterArgs, WindowArgs};
use super::progress::Bar;
use super::recent;
use super::sheet::for_people;
use super::source::{Source, wrong_parameter};
use super::{Failure, Query, SourceArgs, push};
use crate::admin::export::{Export, ExportError};
use crate::config;
use crate::ledger::{self, Filter, Reader, StatsQuery};
use crate::units::Timestamp;

/// How long the bar's total may take to count: without it there is a bar too.
const COUNTING: Duration = Duration::from_secs(2);

/// What is read of an answer at a time.
const PIECE_BYTES: usize = 64 << 10;

/// All calls as a file
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tokenmeter export -o calls.csv                      all calls, for a spreadsheet
  tokenmeter export --format jsonl --days 30 --user ann | jq .cost_usd
  tokenmeter export --url https://meter.example.org --since 2026-10-01 --until 2026-11-01 -o october.csv

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct ExportArgs {
    #[command(flatten)]
    pub source: SourceArgs,

    #[command(flatten)]
    pub window: WindowArgs,

    #[command(flatten)]
    pub filters: FilterArgs,

    /// The form of the file
    #[arg(long, value_enum, default_value_t)]
    pub format: FormatArg,

    /// Write to this file, which appears when it is whole [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// For spreadsheets
    #[default]
    Csv,
    /// A JSON object on each line
    Jsonl,
    /// One JSON array of all calls
    Json,
    /// What `recent` shows of each call, for people
    Table,
}

impl ExportArgs {
    /// The parameters of `GET /admin/export`.
    pub fn query(&self) -> Query {
        let mut query = Query::new();
        let format = match self.format {
            FormatArg::Csv => "csv",
            FormatArg::Jsonl | FormatArg::Json | FormatArg::Table => "jsonl",
        };
        push(&mut query, "format", Some(format));
        query.extend(self.calls());
        query
    }

    /// Which calls.
    fn calls(&self) -> Query {
        let mut query = Query::new();
        self.window.add_to(&mut query);
        self.filters.add_to(&mut query);
        query
    }
}

/// Exports; says what was written where that is not stdout.
pub(super) fn run(args: &ExportArgs) -> Result<String, Failure> {
    let source = Source::of(&args.source)?;
    let Some(path) = &args.output else {
        let out = io::stdout().lock();
        // A bar between the rows would be neither.
        let is_quiet = out.is_terminal();
        return match write_as(args, &source, out, is_quiet) {
            Ok(_) => Ok(String::new()),
            // Whoever stopped reading has seen enough.
            Err(Broken::Written(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(String::new())
            }
            Err(broken) => Err(broken.into_failure("stdout")),
        };
    };
    refuse_ledger(path, &args.source)?;
    let shown = path.display().to_string();
    let named = |error: io::Error| Failure::Failed(format!("{shown}: {error}"));
    // A pipe or a device has no place beside it, and is written as it goes.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let out = fs::OpenOptions::new().write(true).open(path).map_err(named)?;
        write_as(args, &source, out, false).map_err(|broken| broken.into_failure(&shown))?;
        return Ok(String::new());
    }
    let mut draft = Draft::of(path).map_err(named)?;
    let done = write_as(args, &source, &mut draft, false);
    let calls = done.map_err(|broken| broken.into_failure(&shown))?;
    draft.publish().map_err(named)?;
    let bytes = for_people(&fs::metadata(path).map_err(named)?.len().into());
    Ok(match calls {
        Some(calls) => format!("{shown}: {} calls, {bytes} bytes\n", for_people(&calls.into())),
        None => format!("{shown}: {bytes} bytes\n"),
    })
}

/// Why an export is not whole.
enum Broken {
    Failed(Failure),
    Written(io::Error),
}

impl Broken {
    fn into_failure(self, to: &str) -> Failure {
        match self {
            Broken::Failed(failure) => failure,
            Broken::Written(error) => Failure::Failed(format!("writing to {to}: {error}")),
        }
    }
}

/// Answers how many calls were written, where that is known.
fn write_as(
    args: &ExportArgs,
    source: &Source,
    mut out: impl Write,
    is_quiet: bool,
) -> Result<Option<u64>, Broken> {
    match args.format {
        FormatArg::Csv | FormatArg::Jsonl => write(source, &args.query(), out, is_quiet),
        FormatArg::Json => {
            let mut array = ArrayOf::new(out);
            let calls = write(source, &args.query(), &mut array, is_quiet)?;
            array.finish().map_err(Broken::Written)?;
            Ok(calls)
        }
        FormatArg::Table => {
            let table = recent::all(source, &args.calls(), &args.window.zone());
            let (table, calls) = table.map_err(Broken::Failed)?;
            out.write_all(table.as_bytes()).map_err(Broken::Written)?;
            Ok(Some(calls))
        }
    }
}

/// The same, in a form that the ledger knows.
fn write(
    source: &Source,
    query: &Query,
    mut out: impl Write,
    is_quiet: bool,
) -> Result<Option<u64>, Broken> {
    match source {
        Source::Database(reader) => {
            let export = Export::question(query, Timestamp::now());
            let export = export.map_err(|wrong| Broken::Failed(wrong_parameter(&wrong)))?;
            let bar = if is_quiet || !Bar::is_wanted() {
                Bar::hidden()
            } else {
                Bar::of_calls(count(reader, &export.filter))
            };
            let mut calls = 0;
            let written = export.write(reader, out, || {
                calls += 1;
                bar.add(1);
            });
            match written.and_then(|mut out| Ok(out.flush()?)) {
                Ok(()) => Ok(Some(calls)),
                Err(ExportError::Write(error)) => Err(Broken::Written(error)),
                Err(error) => Err(Broken::Failed(Failure::Failed(error.to_string()))),
            }
        }
        Source::Admin(remote) => {
            let mut answer = remote.download("/admin/export", query).map_err(Broken::Failed)?;
            let bar = if is_quiet { Bar::hidden() } else { Bar::of_bytes(None) };
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                let read = answer.read(&mut piece).map_err(|error| {
                    let why = format!("the export broke off, and is not whole: {error}");
                    Broken::Failed(Failure::Failed(why))
                })?;
                if read == 0 {
                    break;
                }
                out.write_all(&piece[..read]).map_err(Broken::Written)?;
                bar.add(read as u64);
            }
            out.flush().map_err(Broken::Written)?;
            Ok(None)
        }
    }
}

/// How many calls there will be, unless that takes too long to find out.
fn count(reader: &Reader, filter: &Filter) -> Option<u64> {
    let query = StatsQuery { filter: filter.clone(), ..StatsQuery::default() };
    let stats = reader.with_time_limit(COUNTING).stats(&query).ok()?;
    serde_json::to_value(stats.totals).ok()?["requests"].as_u64()
}

/// A slip of the hand must not cost the ledger, whichever one it is.
pub(super) fn refuse_ledger(path: &Path, source: &SourceArgs) -> Result<(), Failure> {
    let ours = config::database(&source.flags());
    let is_ours = ours.is_ok_and(|database| ledger::owns(&database, path));
    if is_ours || is_database(path) {
        let why =
            format!("{} is part of a ledger or a database; name another file", path.display());
        return Err(Failure::Usage(format!("--output: {why}")));
    }
    Ok(())
}
