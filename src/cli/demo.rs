//! `tokenmeter demo`: fills a ledger with calls that nobody made, to look around in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;

use super::Failure;
use crate::admin::params::moment;
use crate::demo::{Demo, Settings};
use crate::ledger::{self, Loaded, Loader, Reader, StatsQuery};
use crate::pricing::PriceBook;
use crate::record::Record;
use crate::units::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// Calls between two looks at the progress bar.
const STEP: u64 = 1_000;

/// Fill a ledger with made-up calls of a made-up company
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// The database file to make
    #[arg(long, value_name = "FILE")]
    pub database: PathBuf,

    /// So many calls
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub calls: u64,

    /// Made within so many days
    #[arg(long, value_name = "D", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,

    /// The end of these days: 2026-11-01 or 2026-11-01T09:30:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// By so many people
    #[arg(long, value_name = "N", default_value_t = 2_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,

    /// Where they work, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub tz: String,

    /// The same number gives the same calls again [default: any]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// Also into a ledger that has calls
    #[arg(long)]
    pub add: bool,
}

impl DemoArgs {
    /// What was typed, as what is to be made.
    fn settings(&self) -> Result<Settings, Failure> {
        let wrong = |flag: &str, text: &str, expected: &str| {
            Failure::Usage(format!("--{flag}: `{text}` is not {expected}"))
        };
        let zone = TimeZone::get(&self.tz);
        let zone = zone.map_err(|_| wrong("tz", &self.tz, "a time zone such as Europe/Berlin"))?;
        let until = match &self.until {
            Some(text) => moment(text, &zone)
                .ok_or_else(|| wrong("until", text, "a time such as 2026-11-01"))?,
            None => Timestamp::now(),
        };
        let seed = self.seed.map_or_else(any_seed, Ok)?;
        Ok(Settings {
            seed,
            calls: self.calls,
            since: Timestamp::from_millis(until.millis() - i64::from(self.days) * DAY_MS),
            until,
            users: usize::try_from(self.users).unwrap_or(usize::MAX),
            zone,
        })
    }
}

/// What was made, and how to look at it.
pub(super) fn run(args: &DemoArgs) -> Result<String, Failure> {
    let settings = args.settings()?;
    let database = &args.database;
    let has_calls = has_calls(database)?;
    if has_calls && !args.add {
        // Made-up calls among real ones could not be told apart again.
        return Err(Failure::Failed(format!(
            "{} has calls already; name another file, or say --add to put made-up ones among them",
            database.display()
        )));
    }
    if !has_calls {
        let marked = ledger::mark_made_up(database);
        marked.map_err(|error| Failure::Failed(error.to_string()))?;
    }
    let bar = bar(settings.calls);
    let made = (0_u64..).zip(Demo::new(&settings, Arc::new(PriceBook::builtin())));
    let done = load(
        database,
        made.map(|(made, record)| {
            if made % STEP == 0 {
                bar.set_position(made);
            }
            record
        }),
    )?;
    bar.finish_and_clear();
    let size = std::fs::metadata(database).map_err(|error| failed(database, &error))?.len();
    Ok(told(&settings, done.added, size, database))
}

/// Puts calls into a ledger.
pub(super) fn load(
    database: &Path,
    records: impl Iterator<Item = Record>,
) -> Result<Loaded, Failure> {
    let mut loader = Loader::open(database).map_err(|error| Failure::Failed(error.to_string()))?;
    for record in records {
        loader.add(record).map_err(|error| failed(database, &error))?;
    }
    loader.finish().map_err(|error| failed(database, &error))
}

/// Whether somebody's calls are in a ledger or in the journal beside it.
pub(super) fn has_calls(database: &Path) -> Result<bool, Failure> {
    if std::fs::metadata(database).map_or(0, |found| found.len()) == 0 {
        return Ok(false);
    }
    let reader = Reader::open(database).map_err(|error| Failure::Failed(error.to_string()))?;
    // Of calls that were deleted for their age, sums are left.
    let stats = reader.stats(&StatsQuery::default());
    let stats = stats.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(stats.totals.requests > 0 || ledger::left_behind(database) > 0)
}

/// A seed that no other call has.
pub(super) fn any_seed() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::Failed(format!("no chance to be had: {error}")))
}

fn failed(database: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("{}: {error}", database.display()))
}

/// On a terminal only.
fn bar(calls: u64) -> ProgressBar {
    const FORM: &str = "{wide_bar} {human_pos} of {human_len} calls, {eta} left";
    let style = ProgressStyle::with_template(FORM).expect("a sound template");
    ProgressBar::new(calls).with_style(style)
}

fn told(settings: &Settings, added: u64, size: u64, database: &Path) -> String {
    let Settings { seed, calls, since, until, users, zone } = settings;
    let there = calls - added;
    let again = if there > 0 { format!(" ({there} were there already)") } else { String::new() };
    let (file, zone) = (database.display(), zone.iana_name().unwrap_or("UTC"));
    format!(
        "{added} calls of up to {users} people{again}, from {since} to {until}, in {file} ({} MB)\n\
         The same again: --seed {seed} --until {until}\n\n\
         tokenmeter stats --database {file} --since {since} --by operation,model\n\
         tokenmeter recent --database {file} --since {since} --tz {zone}\n\
         tokenmeter serve --database {file}\n",
        size.div_ceil(1_000_000),
    )
}
