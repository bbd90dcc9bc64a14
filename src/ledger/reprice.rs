//! Other costs in rows that are there: what they were, what they are, who changed them. Owns the batches; what a
//! row ought to cost is the caller's to say, and what is remembered of it is `audit`'s.
//!
//! Invariant: only the four columns of the cost change, and in the transaction that changes a row
//! stands what it was before, so that every change can be taken back.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::audit::{
    ChangedRow, Plan, Repricing, RepricingState, changed_rows, count, find, later, note, state,
};
use super::filter::Filter;
use super::names::Names;
use super::postings;
use super::query::{QueryError, Reader};
use super::store::{self, Change};
use super::{OpenError, schema};
use crate::record::{CallId, Record, RowCost};
use crate::units::{Timestamp, Usd};

/// Rows that are changed in one transaction: few enough that a server beside waits for its turn no
/// longer than a moment.
const BATCH: usize = 500;

/// Rows that are looked at without a pause. What is read meanwhile keeps the write-ahead log from being
/// taken up again.
const LOOK: usize = 20_000;

/// Changed rows after which it pays to tidy up.
const MANY: u64 = 10_000;

/// How long to wait for another process that is writing.
const BUSY: Duration = Duration::from_secs(30);

/// Calls that are named where a repricing could not be taken back.
const NAMED: usize = 10;

/// What became of a repricing that was to be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Rows that are as they were.
    pub put_back: u64,
    /// Rows that are not there any more.
    pub gone: u64,
    /// Rows that something else has changed since, which stay as they are.
    pub changed_since: u64,
    /// Some of these, and the later repricing that changed them.
    pub examples: Vec<(CallId, Option<i64>)>,
}

/// Why costs could not be changed.
#[derive(Debug)]
pub enum RepriceError {
    /// Another one has not come to its end.
    Unfinished(i64),
    /// There is none of that number.
    Unknown(i64),
    /// It has come to its end.
    Finished(i64),
    /// It was begun with another price table or program: these.
    OtherPrices {
        id: i64,
        prices: String,
        version: String,
    },
    Query(QueryError),
    Database(rusqlite::Error),
}

/// Calls as they were, with what was found for them.
type Judged<K> = Vec<(Record, Result<RowCost, K>)>;

/// Changes the cost of rows. A server may have the same ledger.
#[derive(Debug)]
pub struct Repricer {
    connection: Connection,
    reader: Reader,
}

impl Repricer {
    /// For a database that is there.
    pub fn open(database: &Path) -> Result<Repricer, OpenError> {
        let reader = Reader::open(database)?;
        let connection = schema::open_writer(database)?;
        let failed = |error| OpenError::database(database, error);
        connection.busy_timeout(BUSY).map_err(failed)?;
        Ok(Repricer { connection, reader })
    }

    /// Notes that a repricing begins, which no other one may that has not come to its end.
    pub fn begin(&mut self, plan: &Plan) -> Result<Repricing, RepriceError> {
        let transaction = immediate(&mut self.connection)?;
        let sql = "SELECT id FROM repricing WHERE state = 'running'";
        let other: Option<i64> = transaction.query_row(sql, [], |row| row.get(0)).optional()?;
        if let Some(other) = other {
            return Err(RepriceError::Unfinished(other));
        }
        let Plan { prices, prices_sha256, question, version } = plan;
        transaction.execute(
            "INSERT INTO repricing (at, prices, prices_sha256, question, version, state, rows_seen,
                rows_changed, rows_put_back, cost_before, cost_after)
             VALUES (?, ?, ?, ?, ?, 'running', 0, 0, 0, 0, 0)",
            params![Timestamp::now().millis(), prices, prices_sha256, question, version],
        )?;
        let id = transaction.last_insert_rowid();
        transaction.commit()?;
        find(&self.connection, id)
    }

    /// Takes up a repricing that was cut off. Prices and program must be those that it began with.
    pub fn take_up(
        &mut self,
        id: i64,
        prices_sha256: &str,
        version: &str,
    ) -> Result<Repricing, RepriceError> {
        let found = find(&self.connection, id)?;
        if found.state != RepricingState::Running {
            return Err(RepriceError::Finished(id));
        }
        if found.plan.prices_sha256 != prices_sha256 || found.plan.version != version {
            let Plan { prices, version, .. } = found.plan;
            return Err(RepriceError::OtherPrices { id, prices, version });
        }
        // All is looked at again; what has been changed stays as it is.
        self.connection.execute("UPDATE repricing SET rows_seen = 0 WHERE id = ?", [id])?;
        find(&self.connection, id)
    }

    /// Gives every call that passes the filter the cost that `judge` finds for it; one for which it has
    /// none stays as it is. Each call is told of once, as it was before, with what was found.
    ///
    /// A call is judged again when it is about to change: it may have been amended meanwhile.
    pub fn run<K>(
        &mut self,
        id: i64,
        filter: &Filter,
        judge: impl Fn(&Record) -> Result<RowCost, K>,
        mut tell: impl FnMut(&Record, &Result<RowCost, K>),
    ) -> Result<Repricing, RepriceError> {
        let mut place = Place { since: filter.since, ..Place::default() };
        loop {
            let mut found = Vec::new();
            let mut seen = 0;
            let from_here = Filter { since: place.since, ..filter.clone() };
            self.reader.each(&from_here, |record| {
                if !place.advance(&record) {
                    return ControlFlow::Continue(());
                }
                seen += 1;
                let verdict = judge(&record);
                if verdict.as_ref().is_ok_and(|cost| *cost != record.cost()) {
                    found.push(record.id);
                } else {
                    tell(&record, &verdict);
                }
                let is_enough = found.len() == BATCH || seen == LOOK;
                if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            let is_last = found.len() < BATCH && seen < LOOK;
            let began = Instant::now();
            for (record, verdict) in self.change(id, &found, seen, &judge, is_last)? {
                tell(&record, &verdict);
            }
            if is_last {
                let found = find(&self.connection, id)?;
                self.tidy(found.rows_changed)?;
                return Ok(found);
            }
            // Others get as much time to write as this took.
            thread::sleep(began.elapsed());
        }
    }

    /// One batch. Answers the calls as they were, with what was found for them.
    fn change<K>(
        &mut self,
        id: i64,
        calls: &[CallId],
        seen: usize,
        judge: impl Fn(&Record) -> Result<RowCost, K>,
        is_last: bool,
    ) -> Result<Judged<K>, RepriceError> {
        let transaction = immediate(&mut self.connection)?;
        if state(&transaction, id)? != RepricingState::Running {
            return Err(RepriceError::Finished(id));
        }
        let mut told = Vec::with_capacity(calls.len());
        let mut changes = Vec::with_capacity(calls.len());
        let (mut before, mut after) = (Usd::ZERO, Usd::ZERO);
        for call in calls {
            let Some(record) = store::record(&transaction, call)? else { continue };
            let verdict = judge(&record);
            if let Ok(cost) = &verdict
                && *cost != record.cost()
            {
                note(&transaction, id, &record, cost)?;
                before += record.cost_usd.unwrap_or_default();
                after += cost.cost_usd.unwrap_or_default();
                let mut other = record.clone();
                other.set_cost(cost.clone());
                changes.push(Change::Replace(Box::new(other)));
            }
            told.push((record, verdict));
        }
        apply(&transaction, &changes)?;
        transaction
            .prepare_cached(
                "UPDATE repricing SET rows_seen = rows_seen + ?2, rows_changed = rows_changed + ?3,
                cost_before = cost_before + ?4, cost_after = cost_after + ?5,
                state = iif(?6, 'done', state)
             WHERE id = ?1",
            )?
            .execute(params![
                id,
                count(seen),
                count(changes.len()),
                before.nanos(),
                after.nanos(),
                is_last
            ])?;
        transaction.commit()?;
        Ok(told)
    }

    /// Of very many calls that have another cost, the lists by which they were found before are taken out.
    fn tidy(&mut self, changed: u64) -> Result<(), RepriceError> {
        if changed < MANY {
            return Ok(());
        }
        let mut below = i64::MAX;
        loop {
            let began = Instant::now();
            let transaction = immediate(&mut self.connection)?;
            let Some(block) = postings::tidy(&transaction, below)? else { return Ok(()) };
            transaction.commit()?;
            below = block;
            thread::sleep(began.elapsed());
        }
    }

    /// Puts every row back as it was, but for those that something else has changed since.
    pub fn undo(&mut self, id: i64) -> Result<Undone, RepriceError> {
        find(&self.connection, id)?;
        let mut undone = Undone::default();
        let mut after = String::new();
        loop {
            let began = Instant::now();
            let transaction = immediate(&mut self.connection)?;
            let rows = changed_rows(&transaction, id, &after, BATCH)?;
            let is_last = rows.len() < BATCH;
            let before = undone.put_back;
            let mut changes = Vec::with_capacity(rows.len());
            for row in &rows {
                changes.extend(put_back(&transaction, id, row, &mut undone)?);
            }
            apply(&transaction, &changes)?;
            transaction.execute(
                "UPDATE repricing SET rows_put_back = rows_put_back + ?2,
                    state = iif(?3, 'undone', state)
                 WHERE id = ?1",
                params![id, i64::try_from(undone.put_back - before).unwrap_or(i64::MAX), is_last],
            )?;
            transaction.commit()?;
            let Some(last) = rows.into_iter().next_back().filter(|_| !is_last) else {
                self.tidy(undone.put_back)?;
                return Ok(undone);
            };
            after = last.call.to_string();
            thread::sleep(began.elapsed());
        }
    }
}

/// How far a walk through the calls by time has come.
#[derive(Debug, Default)]
struct Place {
    since: Option<Timestamp>,
    /// Those of that moment that have been looked at.
    seen: HashSet<CallId>,
}

impl Place {
    /// False where the call has been looked at before.
    fn advance(&mut self, record: &Record) -> bool {
        if self.since != Some(record.created_at) {
            self.since = Some(record.created_at);
            self.seen.clear();
        }
        self.seen.insert(record.id)
    }
}

/// The names are read anew each time: a few thousand rows are not worth remembering them.
fn apply(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    store::apply(transaction, &mut Names::default(), changes, &HashSet::new()).map(drop)
}

fn immediate(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// The change that puts a row back, if there is one to be made.
fn put_back(
    transaction: &Transaction<'_>,
    id: i64,
    changed: &ChangedRow,
    undone: &mut Undone,
) -> rusqlite::Result<Option<Change>> {
    let Some(mut record) = store::record(transaction, &changed.call)? else {
        undone.gone += 1;
        return Ok(None);
    };
    let later = later(transaction, id, &changed.call)?;
    let is_as_it_was = record.cost() == changed.old;
    if later.is_some() || !is_as_it_was && record.cost() != changed.new {
        undone.changed_since += 1;
        if undone.examples.len() < NAMED {
            undone.examples.push((changed.call, later));
        }
        return Ok(None);
    }
    undone.put_back += 1;
    let mut mark = transaction.prepare_cached(
        "UPDATE repriced_row SET put_back = 1 WHERE repricing = ? AND call_id = ?",
    )?;
    mark.execute(params![id, changed.call.to_string()])?;
    if is_as_it_was {
        return Ok(None);
    }
    record.set_cost(changed.old.clone());
    Ok(Some(Change::Replace(Box::new(record))))
}

impl fmt::Display for RepriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepriceError::Unfinished(id) => write!(
                f,
                "repricing {id} is under way or was cut off; finish it with --resume {id}, or take \
                 it back with --undo {id}"
            ),
            RepriceError::Unknown(id) => {
                write!(f, "there is no repricing {id}; --list shows them")
            }
            RepriceError::Finished(id) => write!(f, "repricing {id} has come to its end"),
            RepriceError::OtherPrices { id, prices, version } => write!(
                f,
                "repricing {id} was begun with other prices ({prices}, as they were, with version \
                 {version}); finish it with these, or take it back with --undo {id}"
            ),
            RepriceError::Query(error) => error.fmt(f),
            RepriceError::Database(error) => write!(f, "changing the database: {error}"),
        }
    }
}

impl std::error::Error for RepriceError {}

impl From<rusqlite::Error> for RepriceError {
    fn from(error: rusqlite::Error) -> RepriceError {
        RepriceError::Database(error)
    }
}

impl From<QueryError> for RepriceError {
    fn from(error: QueryError) -> RepriceError {
        RepriceError::Query(error)
    }
}
