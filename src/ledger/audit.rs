//! What is remembered of changed costs: each repricing, and each row that it changed, as it was and as
//! it became. Owns the two tables and their SQL; changes no row of a call.
//!
//! Invariant: what a row was before the first change of a repricing stays written down.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::query::Reader;
use super::reprice::RepriceError;
use super::{OpenError, row, schema};
use crate::record::{CallId, Record, RowCost};
use crate::units::{Timestamp, Usd};

/// `repricing`: each time that costs were recomputed. `repriced_row`: what changed in which row;
/// `put_back` is 1 once it has been taken back.
pub(super) const TABLES: &str = "CREATE TABLE repricing (
        id INTEGER NOT NULL PRIMARY KEY,
        at INTEGER NOT NULL,
        prices TEXT NOT NULL,
        prices_sha256 TEXT NOT NULL,
        question TEXT NOT NULL,
        version TEXT NOT NULL,
        state TEXT NOT NULL,
        rows_seen INTEGER NOT NULL,
        rows_changed INTEGER NOT NULL,
        rows_put_back INTEGER NOT NULL,
        cost_before INTEGER NOT NULL,
        cost_after INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE repriced_row (
        repricing INTEGER NOT NULL,
        call_id TEXT NOT NULL,
        old_cost_usd INTEGER,
        old_computed_cost_usd INTEGER,
        old_cost_source TEXT NOT NULL,
        old_price_id TEXT,
        new_cost_usd INTEGER,
        new_computed_cost_usd INTEGER,
        new_cost_source TEXT NOT NULL,
        new_price_id TEXT,
        put_back INTEGER NOT NULL,
        PRIMARY KEY (repricing, call_id)
    ) STRICT, WITHOUT ROWID;";

/// What is remembered of why costs change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The price table: its file, or that it was the built-in one.
    pub prices: String,
    pub prices_sha256: String,
    /// Window and filters, as their owner writes them.
    pub question: String,
    /// Of the program.
    pub version: String,
}

/// One time that costs were recomputed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repricing {
    pub id: i64,
    pub at: Timestamp,
    pub plan: Plan,
    pub state: RepricingState,
    pub rows_seen: u64,
    pub rows_changed: u64,
    /// Of those that changed, as they were once taken back.
    pub rows_put_back: u64,
    /// `cost_usd` of the rows that changed.
    pub cost_before: Usd,
    pub cost_after: Usd,
}

/// How far a repricing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepricingState {
    /// Under way, or cut off.
    Running,
    Done,
    Undone,
}

impl RepricingState {
    const ALL: [RepricingState; 3] =
        [RepricingState::Running, RepricingState::Done, RepricingState::Undone];

    pub fn as_str(self) -> &'static str {
        match self {
            RepricingState::Running => "running",
            RepricingState::Done => "done",
            RepricingState::Undone => "undone",
        }
    }
}

/// What a repricing changed in one row.
pub(super) struct ChangedRow {
    pub(super) call: CallId,
    pub(super) old: RowCost,
    pub(super) new: RowCost,
}

/// All repricings of a ledger, the newest first.
pub fn repricings(database: &Path) -> Result<Vec<Repricing>, OpenError> {
    Reader::open(database)?;
    let all = || {
        let connection = schema::open_reader(database)?;
        let sql = format!("SELECT {REPRICING} FROM repricing ORDER BY id DESC");
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map([], read)?;
        rows.collect::<rusqlite::Result<Vec<Repricing>>>()
    };
    all().map_err(|error| OpenError::database(database, error))
}

/// The columns of `repricing`, in the order in which [`read`] reads them.
const REPRICING: &str = "id, at, prices, prices_sha256, question, version, state, rows_seen, \
     rows_changed, rows_put_back, cost_before, cost_after";

fn read(row: &Row<'_>) -> rusqlite::Result<Repricing> {
    let count = |at| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or_default());
    Ok(Repricing {
        id: row.get(0)?,
        at: Timestamp::from_millis(row.get(1)?),
        plan: Plan {
            prices: row.get(2)?,
            prices_sha256: row.get(3)?,
            question: row.get(4)?,
            version: row.get(5)?,
        },
        state: state_of(row.get_ref(6)?.as_str()?),
        rows_seen: count(7)?,
        rows_changed: count(8)?,
        rows_put_back: count(9)?,
        cost_before: Usd::from_nanos(row.get(10)?),
        cost_after: Usd::from_nanos(row.get(11)?),
    })
}

/// What nobody finished cannot be relied on.
fn state_of(word: &str) -> RepricingState {
    let known = RepricingState::ALL.into_iter().find(|state| state.as_str() == word);
    known.unwrap_or(RepricingState::Running)
}

pub(super) fn find(connection: &Connection, id: i64) -> Result<Repricing, RepriceError> {
    let sql = format!("SELECT {REPRICING} FROM repricing WHERE id = ?");
    let found = connection.query_row(&sql, [id], read).optional()?;
    found.ok_or(RepriceError::Unknown(id))
}

pub(super) fn state(connection: &Connection, id: i64) -> rusqlite::Result<RepricingState> {
    let mut statement = connection.prepare_cached("SELECT state FROM repricing WHERE id = ?")?;
    statement.query_row([id], |row| Ok(state_of(row.get_ref(0)?.as_str()?)))
}

/// Remembers what a row was and is. Should the repricing have been taken back in part and taken up
/// again, what it was at first stays.
pub(super) fn note(
    transaction: &Transaction<'_>,
    id: i64,
    record: &Record,
    new: &RowCost,
) -> rusqlite::Result<()> {
    let old = record.cost();
    let nanos = |cost: Option<Usd>| cost.map(Usd::nanos);
    let mut statement = transaction.prepare_cached(
        "INSERT INTO repriced_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
         ON CONFLICT (repricing, call_id) DO UPDATE SET put_back = 0,
            new_cost_usd = excluded.new_cost_usd,
            new_computed_cost_usd = excluded.new_computed_cost_usd,
            new_cost_source = excluded.new_cost_source, new_price_id = excluded.new_price_id",
    )?;
    statement.execute(params![
        id,
        record.id.to_string(),
        nanos(old.cost_usd),
        nanos(old.computed_cost_usd),
        old.cost_source.as_str(),
        old.price_id,
        nanos(new.cost_usd),
        nanos(new.computed_cost_usd),
        new.cost_source.as_str(),
        new.price_id,
    ])?;
    Ok(())
}

/// The next rows that a repricing has changed and that have not been put back.
pub(super) fn changed_rows(
    connection: &Connection,
    id: i64,
    after: &str,
    limit: usize,
) -> rusqlite::Result<Vec<ChangedRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT call_id, old_cost_usd, old_computed_cost_usd, old_cost_source, old_price_id,
            new_cost_usd, new_computed_cost_usd, new_cost_source, new_price_id
         FROM repriced_row WHERE repricing = ? AND call_id > ? AND put_back = 0
         ORDER BY call_id LIMIT ?",
    )?;
    let rows = statement.query_map(params![id, after, count(limit)], |row| {
        let call = row.get_ref(0)?.as_str()?.parse();
        let call = call.map_err(|error| unreadable(0, error))?;
        Ok(ChangedRow { call, old: cost(row, 1)?, new: cost(row, 5)? })
    })?;
    rows.collect()
}

/// The four columns of a cost, from this one on.
fn cost(row: &Row<'_>, at: usize) -> rusqlite::Result<RowCost> {
    let usd = |at| row.get::<_, Option<i64>>(at).map(|nanos| nanos.map(Usd::from_nanos));
    let source = row::word(row.get_ref(at + 2)?.as_str()?);
    Ok(RowCost {
        cost_usd: usd(at)?,
        computed_cost_usd: usd(at + 1)?,
        cost_source: source.map_err(|error| unreadable(at + 2, error))?,
        price_id: row.get(at + 3)?,
    })
}

/// The newest later repricing that has changed the same call and was not taken back there.
pub(super) fn later(
    connection: &Connection,
    id: i64,
    call: &CallId,
) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT max(id) FROM repricing WHERE id > ?1 AND EXISTS (SELECT 1 FROM repriced_row
            WHERE repricing = repricing.id AND call_id = ?2 AND put_back = 0)",
    )?;
    statement.query_row(params![id, call.to_string()], |row| row.get(0))
}

pub(super) fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    let error = Box::new(error);
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
}
