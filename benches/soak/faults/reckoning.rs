//! The reckoning: rows are read once they can no longer change, each is held against its call, and both are forgotten.
//! Owns the counts and the complaints; memory is that of the calls of a minute.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokenmeter::ledger::{Filter, Reader, StatsQuery};
use tokenmeter::record::Record;
use tokenmeter::units::Timestamp;

use super::book::{Book, Ending, Entry};
use super::law::{Case, Told};
use super::plan::{Client, Plan, Provider};

/// After this long a call has ended, whatever happened to it, and its row stands.
const SETTLED: Duration = Duration::from_secs(50);

/// After this long more, whatever a client sent has been read by tokenmeter.
const READ: Duration = Duration::from_secs(10);

const PAGE: usize = 1000;
const PATIENCE: Duration = Duration::from_mins(1);

/// Complaints that are printed.
const COMPLAINTS: usize = 20;

pub(super) struct Reckoning {
    seed: u64,
    database: PathBuf,
    /// Rows created before this have been read.
    until: Timestamp,
    rows: HashMap<u64, Vec<Record>>,
    counts: Counts,
}

/// What there was.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) rows: u64,
    /// At the provider, with all of their body.
    pub(super) wholes: u64,
    /// Answers that clients had to their end.
    pub(super) answers: u64,
    pub(super) complaints: u64,
    by_client: BTreeMap<Client, BTreeMap<String, u64>>,
    by_provider: BTreeMap<Provider, BTreeMap<String, u64>>,
    races: BTreeMap<&'static str, u64>,
}

impl Reckoning {
    pub(super) fn new(seed: u64, database: PathBuf) -> Reckoning {
        let (until, rows) = (Timestamp::from_millis(0), HashMap::new());
        Reckoning { seed, database, until, rows, counts: Counts::default() }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Judges the calls that ended a while ago.
    pub(super) fn go_on(&mut self, book: &Book) {
        let long_ago =
            |past: Duration| Timestamp::now().millis() - i64::try_from(past.as_millis()).unwrap();
        self.read(Timestamp::from_millis(long_ago(SETTLED)));
        if let Some(before) = Instant::now().checked_sub(SETTLED + READ) {
            self.judge(book, before);
        }
    }

    /// Judges all that are left; nothing may be over. To be called when nothing happens any more.
    pub(super) fn end(&mut self, book: &Book) {
        self.read(Timestamp::from_millis(Timestamp::now().millis() + 1000));
        self.judge(book, Instant::now());
        let strays = std::mem::take(&mut self.rows);
        for (number, rows) in strays {
            self.complain(&format!("rows of nobody's call {number}: {rows:?}"));
        }
        if book.rest() > 0 {
            self.complain(&format!("{} calls that no client made", book.rest()));
        }
        let all = self.reader().stats(&StatsQuery::default()).unwrap().totals.requests;
        if all != self.counts.rows {
            self.complain(&format!("{all} rows, of which {} have been read", self.counts.rows));
        }
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.database).unwrap().with_time_limit(PATIENCE)
    }

    fn read(&mut self, until: Timestamp) {
        let filter = Filter { since: Some(self.until), until: Some(until), ..Filter::default() };
        let (reader, mut cursor) = (self.reader(), None);
        loop {
            let page = reader.usage(&filter, PAGE, cursor.as_ref()).unwrap();
            for row in page.records {
                self.counts.rows += 1;
                let number = row.metadata.as_ref().and_then(|data| data.get("call")?.as_u64());
                match number {
                    Some(number) => self.rows.entry(number).or_default().push(row),
                    None => self.complain(&format!("a row without its mark: {row:?}")),
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        self.until = until;
    }

    fn judge(&mut self, book: &Book, before: Instant) {
        for (number, entry) in book.take_ended(before) {
            let rows = self.rows.remove(&number).unwrap_or_default();
            let plan = Plan::of(self.seed, number);
            if let Err(complaint) = self.one(book, plan, &entry, &rows) {
                let after = entry.had.as_ref().and_then(|had| had.after);
                let before = after.map(|number| Plan::of(self.seed, number));
                self.complain(&format!(
                    "call {number}: {complaint}\n  {plan:?}\n  {entry:?}\n  {rows:?}\n  before it: {before:?}"
                ));
            }
        }
    }

    fn one(
        &mut self,
        book: &Book,
        plan: Plan,
        entry: &Entry,
        rows: &[Record],
    ) -> Result<(), String> {
        let had = entry.had.as_ref().ok_or("nobody made it")?;
        self.counts.calls += 1;
        self.counts.wholes += u64::from(entry.got.wholes);
        self.counts.answers += u64::from(had.ending == Ending::Whole && had.own.is_none());
        let (killed, refused) = (book.was_killed(had), book.was_refused(had));
        let case = Case { plan, entry, had, rows, killed, refused };
        let Told { outcome, race } = case.judge()?;
        if let Some(race) = race {
            *self.counts.races.entry(race).or_default() += 1;
        }
        let of = self.counts.by_client.entry(had.did).or_default();
        *of.entry(outcome.clone()).or_default() += 1;
        if entry.got.heads > 0 {
            let of = self.counts.by_provider.entry(plan.provider).or_default();
            *of.entry(outcome).or_default() += 1;
        }
        Ok(())
    }

    fn complain(&mut self, complaint: &str) {
        self.counts.complaints += 1;
        if self.counts.complaints <= COMPLAINTS as u64 {
            println!("BROKEN {complaint}");
        }
    }
}

impl Counts {
    /// What was done, how often, and what it came to.
    pub(super) fn print(&self) {
        let line = |name: String, outcomes: &BTreeMap<String, u64>| {
            let all: u64 = outcomes.values().sum();
            let mut list: Vec<_> = outcomes.iter().collect();
            list.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let list: Vec<_> = list.iter().map(|(name, count)| format!("{count} {name}")).collect();
            println!("{name:<16} {all:>9}  {}", list.join(", "));
        };
        println!("\nwhat clients did");
        self.by_client.iter().for_each(|(did, outcomes)| line(format!("{did:?}"), outcomes));
        println!("\nwhat the provider did with what came to it");
        self.by_provider.iter().for_each(|(did, outcomes)| line(format!("{did:?}"), outcomes));
        println!("\nraces, of which either end is right");
        self.races.iter().for_each(|(race, count)| println!("{count:>9}  {race}"));
    }
}
