//! What `serve --demo` does besides serving: a ledger of its own, the calls of the last two months in it,
//! a scripted provider in every upstream's place and a company that keeps calling. Owns where the demo's
//! data are, and that they never get among real calls.
//!
//! Invariant: a ledger that has calls and is not marked as made up is left as it is.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use jiff::tz::TimeZone;

use super::Failure;
use super::demo::{any_seed, has_calls, load};
use super::progress::Bar;
use crate::app::{App, price_table};
use crate::config::{Clients, Config};
use crate::demo::stage::{Playing, Scene, Stage};
use crate::demo::{Demo, Settings};
use crate::ledger::{self, Filter, OpenError, Reader, StatsQuery};
use crate::pricing::PriceBook;
use crate::units::Timestamp;

/// A directory of its own, because a ledger's journal and token lie beside it; and the usual name, so that
/// reports need no flag there.
pub(super) const PLACE: &str = "tokenmeter-demo/tokenmeter.db";

/// Two months, so that the last one can be compared with the one before.
const DAYS: i64 = 62;
const DAY_MS: i64 = 86_400_000;

/// How many people work there.
const USERS: usize = 240;

/// A gap that nobody sees.
const SHORT_MS: i64 = 5 * 60_000;

/// Said where upstreams were configured.
const REPLACED: &str = "The scripted provider stands in for the configured upstreams, too.\n";

/// Calls between two looks at the progress bar.
const STEP: u64 = 1_000;

#[derive(Args, Clone, Debug)]
pub struct DemoFlags {
    #[arg(
        long,
        help = "Try it without a key: made-up calls of two months, and a scripted provider that answers \
                more of them; keeps its data in tokenmeter-demo"
    )]
    pub demo: bool,

    /// So many made-up calls in the two months
    #[arg(long, value_name = "N", default_value_t = 150_000, hide = true, requires = "demo",
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub demo_calls: u64,
}

/// A demo that is being prepared.
#[derive(Debug)]
pub(super) struct Demonstration {
    stage: Stage,
    calls: u64,
    seed: u64,
    prices: Arc<PriceBook>,
    /// Whether upstreams were configured that are not called now.
    replaces: bool,
}

impl Demonstration {
    /// Puts the scripted provider in the place of all upstreams; refuses a ledger that is not a demo's.
    pub(super) fn prepare(
        args: &DemoFlags,
        config: &mut Config,
    ) -> Result<Demonstration, Box<dyn Error>> {
        refuse_real_calls(&config.database)?;
        let stage = Stage::new()?;
        let replaces = config.upstreams.values().any(|upstream| upstream.configured);
        stage.direct(config);
        // The public lists are not where the scripted provider is, and nobody's file of prices is to change.
        config.price_updates = None;
        // The made-up company speaks plain HTTP, from here, and its keys are made up too.
        config.tls = None;
        config.clients = Clients::default();
        // They are to be looked at, all of them.
        config.retention_days = None;
        let prices = price_table(config.pricing.as_ref())?.book;
        let (calls, seed) = (args.demo_calls, any_seed()?);
        Ok(Demonstration { stage, calls, seed, prices, replaces })
    }

    /// Makes the calls of the two months, or of what has passed since the last one that is there.
    pub(super) fn fill(&self, database: &Path) -> Result<(), Failure> {
        let failed = |error: OpenError| Failure::Failed(error.to_string());
        ledger::mark_made_up(database).map_err(failed)?;
        let until = Timestamp::now();
        let last = last_call(database)?;
        if last.is_some_and(|last| until.millis() - last.millis() < SHORT_MS) {
            return Ok(());
        }
        let settings = Settings {
            seed: self.seed,
            calls: self.calls,
            since: Timestamp::from_millis(until.millis() - DAYS * DAY_MS),
            until,
            users: USERS,
            zone: TimeZone::system(),
        };
        let bar = Bar::of_calls(Some(self.calls));
        bar.say("made up for the demo");
        // All are made, so that those of a gap keep the rhythm of the whole.
        let made = (1_u64..).zip(Demo::new(&settings, Arc::clone(&self.prices)));
        let missing = made.filter_map(|(made, record)| {
            if made % STEP == 0 {
                bar.add(STEP);
            }
            last.is_none_or(|last| record.created_at > last).then_some(record)
        });
        load(database, missing).map(|_| ())
    }

    /// Lets provider and company begin.
    pub(super) fn begin(self, app: &App, config: &Config) -> io::Result<Playing> {
        self.stage.begin(Scene {
            proxy: app.address()?,
            tags: config.tags.clone(),
            default_upstream: config.default_upstream.clone(),
            prices: self.prices,
            users: USERS,
            seed: self.seed,
        })
    }

    /// What is shown here, and where it is.
    pub(super) fn banner(&self, app: &App, config: &Config) -> Result<String, Box<dyn Error>> {
        let url = app.url()?;
        let database = config.database.display();
        let stats = Reader::open(&config.database)?.stats(&StatsQuery::default())?;
        let calls = crate::figures::exact(stats.totals.requests);
        let replaced = if self.replaces { REPLACED } else { "" };
        let lines = [
            format!("tokenmeter listens on {url}\n"),
            format!(
                "This is a demo: a made-up company of {USERS} people calls a scripted provider."
            ),
            format!("No call leaves this machine, and no key is needed.\n{replaced}"),
            format!("  made-up calls  {calls}, and more all the time"),
            format!("  data           {database}"),
            format!("  reports        tokenmeter stats --database {database} --by operation"),
            format!("  your own call  base URL {url}/v1, any key; scripted as well\n"),
            format!("dashboard (logs in once): {}\n", app.login_link()?),
        ];
        Ok(lines.join("\n"))
    }
}

/// Calls that somebody has made must not get among made-up ones: nobody could tell them apart again.
fn refuse_real_calls(database: &Path) -> Result<(), Failure> {
    let failed = |error: OpenError| Failure::Failed(error.to_string());
    if !has_calls(database)? || ledger::is_made_up(database).map_err(failed)? {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{0} has calls that are not a demo's; leave out --database, and the demo keeps its own in {PLACE}, \
         or name a file in another directory",
        database.display()
    )))
}

/// When the newest call began.
fn last_call(database: &Path) -> Result<Option<Timestamp>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let reader = Reader::open(database).map_err(|error| failed(&error))?;
    let page = reader.usage(&Filter::default(), 1, None).map_err(|error| failed(&error))?;
    Ok(page.records.first().map(|record| record.created_at))
}
