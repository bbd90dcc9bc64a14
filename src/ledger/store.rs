//! The statements that the feed runs in the database. Owns their SQL; decides nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Deref;
use std::sync::LazyLock;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};

use super::layout::{FROM_CALLS, columns};
use super::names::Names;
use super::rows::{Replaced, Rows};
use super::tail::{self, Tail};
use super::{charged, row};
use crate::estimate::Calibration;
use crate::record::{CallId, Record};
use crate::units::Timestamp;

/// Calibrations that are kept: more than there are models in the price table.
const CALIBRATIONS: i64 = 10_000;

/// What a batch does to the database, in the order of the journal.
#[derive(Debug)]
pub(super) enum Change {
    /// Adds a row, unless it is there.
    Insert(Box<Record>),
    /// Adds a row, or takes the place of the one that is there.
    Replace(Box<Record>),
    Learn(Calibration),
}

impl Change {
    /// Whose row it is.
    pub(super) fn call(&self) -> Option<&CallId> {
        match self {
            Change::Insert(record) | Change::Replace(record) => Some(&record.id),
            Change::Learn(_) => None,
        }
    }
}

/// What changes came to.
#[derive(Debug, Default)]
pub(super) struct Applied<'c> {
    /// Rows added or replaced.
    pub(super) written: u64,
    /// Rows older than rows are kept.
    pub(super) too_old: u64,
    /// Changes that the database refuses, whatever else is in the transaction.
    pub(super) refused: u64,
    /// The calls that have a row now and had none, as it says them.
    pub(super) added: Vec<Added<'c>>,
    /// The rows that say something else than before.
    pub(super) replaced: Vec<Replaced>,
}

/// A record as its row is. Small, because a transaction has many.
#[derive(Debug)]
pub(super) enum Added<'c> {
    AsItCame(&'c Record),
    Changed(Box<Record>),
}

impl Deref for Added<'_> {
    type Target = Record;

    fn deref(&self) -> &Record {
        match self {
            Added::AsItCame(record) => record,
            Added::Changed(record) => record,
        }
    }
}

/// Does what the changes ask for.
pub(super) fn apply<'c>(
    transaction: &Transaction<'_>,
    names: &mut Names,
    changes: &'c [Change],
    stored_open: &HashSet<CallId>,
) -> rusqlite::Result<Applied<'c>> {
    let mut delete = transaction.prepare_cached("DELETE FROM open_calls WHERE id = ?")?;
    let mut rows = Rows::new(transaction, names)?;
    let (mut learned, mut written) = (false, 0);
    let mut added = Vec::with_capacity(changes.len());
    for change in changes {
        match change {
            // A row that is there stays as it is: what is inserted again claims nothing.
            Change::Insert(record) if !record.charges.is_empty() && rows.has(&record.id)? => {}
            Change::Insert(record) => {
                let record = charged_once(&mut rows, record)?;
                if rows.insert(&record)? {
                    written += 1;
                    added.push(record);
                }
            }
            Change::Replace(record) => {
                let record = charged_once(&mut rows, record)?;
                written += 1;
                if rows.replace(&record)? {
                    added.push(record);
                }
            }
            Change::Learn(calibration) => {
                learn(transaction, calibration)?;
                learned = true;
            }
        }
        if let Some(id) = change.call().filter(|id| stored_open.contains(id)) {
            delete.execute([id.to_string()])?;
        }
    }
    let (too_old, replaced) = rows.finish()?;
    if learned {
        forget_oldest(transaction)?;
    }
    Ok(Applied { written, too_old, refused: 0, added, replaced })
}

/// The record without what another row is charged for.
fn charged_once<'c>(rows: &mut Rows<'_>, record: &'c Record) -> rusqlite::Result<Added<'c>> {
    let changed = charged::once(rows, record)?;
    Ok(changed.map_or(Added::AsItCame(record), |changed| Added::Changed(Box::new(changed))))
}

/// The same, each change by itself: what the database refuses is left out, and told, so that it does not
/// keep all others waiting. Much dearer.
pub(super) fn apply_each<'c>(
    transaction: &Transaction<'_>,
    names: &mut Names,
    changes: &'c [Change],
    stored_open: &HashSet<CallId>,
) -> rusqlite::Result<Applied<'c>> {
    let mut all = Applied::default();
    for change in changes {
        transaction.execute_batch("SAVEPOINT change")?;
        match apply(transaction, names, std::slice::from_ref(change), stored_open) {
            Ok(one) => {
                all.written += one.written;
                all.too_old += one.too_old;
                all.added.extend(one.added);
                all.replaced.extend(one.replaced);
            }
            Err(error) if is_refusal(&error) => {
                transaction.execute_batch("ROLLBACK TO change")?;
                names.forget();
                all.refused += 1;
                let call = change.call().map(CallId::to_string).unwrap_or_default();
                tracing::error!(call, %error, "the database refuses a row; only the journal has it");
                // It has closed all the same: the next start must not take it for one that was cut off.
                transaction.execute("DELETE FROM open_calls WHERE id = ?", [call])?;
            }
            Err(error) => return Err(error),
        }
        transaction.execute_batch("RELEASE change")?;
    }
    Ok(all)
}

/// Whether an error is about what is written, and not about where.
pub(super) fn is_refusal(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
        ),
        // A row in the place of which it would stand, or it itself, cannot be read or written.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::ToSqlConversionFailure(_) => true,
        _ => false,
    }
}

/// The name under which the journal's files stand that have rows which the database refused.
const REFUSED: &str = "refused";

/// Remembers which journal file has what the database refused, so that it is not deleted.
pub(super) fn note_refused(
    transaction: &Transaction<'_>,
    files: &BTreeSet<String>,
) -> rusqlite::Result<()> {
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let sql = "INSERT OR REPLACE INTO ledger_state (name, value) VALUES (?, ?)";
    transaction.execute(sql, (REFUSED, files.join("\n"))).map(drop)
}

/// The journal's files that have rows which the database refused.
pub(super) fn refused_files(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let sql = "SELECT value FROM ledger_state WHERE name = ?";
    let files: Option<String> =
        connection.query_row(sql, [REFUSED], |row| row.get(0)).optional()?;
    Ok(files.iter().flat_map(|files| files.lines()).map(str::to_owned).collect())
}

/// For when all that was refused has been added after all.
pub(super) fn forget_refused(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM ledger_state WHERE name = ?", [REFUSED]).map(drop)
}

fn learn(transaction: &Transaction<'_>, learned: &Calibration) -> rusqlite::Result<()> {
    let mut store = transaction.prepare_cached(
        "INSERT INTO estimate_calibration
            (provider, model, side, samples, bias, error, corrections, learned_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (provider, model, side) DO UPDATE SET samples = excluded.samples,
            bias = excluded.bias, error = excluded.error, corrections = excluded.corrections,
            learned_at = excluded.learned_at",
    )?;
    let Calibration { provider, model, side, samples, bias, error, corrections } = learned;
    let samples = i64::try_from(*samples).unwrap_or(i64::MAX);
    let corrections = serde_json::to_string(corrections)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let (side, now) = (side.as_str(), Timestamp::now().millis());
    let values = params![provider, model, side, samples, bias, error, corrections, now];
    store.execute(values).map(drop)
}

/// Keeps the [`CALIBRATIONS`] that were learned last.
fn forget_oldest(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM estimate_calibration";
    let kept: i64 = transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    if kept > CALIBRATIONS {
        let mut forget = transaction.prepare_cached(
            "DELETE FROM estimate_calibration WHERE (provider, model, side) IN (
                SELECT provider, model, side FROM estimate_calibration
                ORDER BY learned_at DESC, samples DESC LIMIT -1 OFFSET ?)",
        )?;
        forget.execute([CALIBRATIONS])?;
    }
    Ok(())
}

/// What reported usage has taught, by provider, model and side.
pub(super) fn calibrations(connection: &Connection) -> rusqlite::Result<Vec<Calibration>> {
    let mut statement = connection.prepare_cached(
        "SELECT provider, model, side, samples, bias, error, corrections FROM estimate_calibration
         ORDER BY provider, model, side",
    )?;
    let rows = statement.query_map([], |row| {
        // A word that is none of ours is not worth failing for.
        let Ok(side) = row::word(row.get_ref(2)?.as_str()?) else { return Ok(None) };
        let samples = u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default();
        let (provider, model) = (row.get(0)?, row.get(1)?);
        let (bias, error) = (row.get(4)?, row.get(5)?);
        let corrections = serde_json::from_str(row.get_ref(6)?.as_str()?).unwrap_or_default();
        Ok(Some(Calibration { provider, model, side, samples, bias, error, corrections }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

pub(super) fn insert_opens(
    transaction: &Transaction<'_>,
    opens: &[(CallId, impl AsRef<str>)],
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO open_calls (id, record) SELECT ?1, ?2
         WHERE NOT EXISTS (SELECT 1 FROM calls WHERE id = ?3) ON CONFLICT (id) DO NOTHING",
    )?;
    for (id, line) in opens {
        if let Some(record) = tail::opening(line.as_ref()) {
            insert.execute(params![id.to_string(), record.get(), id.into_bytes()])?;
        }
    }
    Ok(())
}

pub(super) fn store_progress(
    transaction: &Transaction<'_>,
    tails: &[Tail],
    is_open: impl Fn(&CallId) -> bool,
) -> rusqlite::Result<()> {
    let mut store = transaction.prepare_cached(
        "INSERT INTO journal_progress (file, offset) VALUES (?1, ?2)
         ON CONFLICT (file) DO UPDATE SET offset = excluded.offset",
    )?;
    for tail in tails {
        let safe = tail.safe(&is_open);
        if safe != tail.stored {
            store.execute(params![tail.name(), i64::try_from(safe).unwrap_or(i64::MAX)])?;
        }
    }
    Ok(())
}

/// How far each journal file has been read.
pub(super) fn progress(connection: &Connection) -> rusqlite::Result<HashMap<String, u64>> {
    let mut statement = connection.prepare("SELECT file, offset FROM journal_progress")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    rows.map(|row| row.map(|(file, at)| (file, u64::try_from(at).unwrap_or_default()))).collect()
}

pub(super) fn forget_progress(connection: &Connection, file: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM journal_progress WHERE file = ?", [file]).map(drop)
}

/// The openings stored: each call's id and its record as JSON.
pub(super) fn open_calls(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare("SELECT id, record FROM open_calls")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The oldest openings stored, as JSON.
pub(super) fn open_calls_at_most(
    connection: &Connection,
    most: usize,
) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT record FROM open_calls ORDER BY id LIMIT ?";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get(0))?;
    rows.collect()
}

/// One call.
pub(super) fn record(connection: &Connection, id: &CallId) -> rusqlite::Result<Option<Record>> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {} {FROM_CALLS} WHERE calls.id = ?", columns()));
    let mut statement = connection.prepare_cached(&SQL)?;
    statement.query_row([id.into_bytes()], row::read).optional()
}

pub(super) fn has_row(connection: &Connection, id: &CallId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM calls WHERE id = ?")?.exists([id.into_bytes()])
}

/// Whether all of the write-ahead log is in the database file now.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, log, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && log == moved)
    })
}
