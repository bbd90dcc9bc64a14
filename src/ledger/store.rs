//! The statements that the feed runs in the database. Owns their SQL; decides nothing.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Transaction, params};

use super::row;
use super::tail::{self, Tail};
use crate::record::{CallId, Record};

pub(super) fn insert_closes(
    transaction: &Transaction<'_>,
    closes: &[Record],
    stored_open: &HashSet<CallId>,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(&row::insert_sql())?;
    let mut delete = transaction.prepare_cached("DELETE FROM open_calls WHERE id = ?")?;
    for record in closes {
        row::bind(&mut insert, record)?;
        insert.raw_execute()?;
        if stored_open.contains(&record.id) {
            delete.execute([record.id.to_string()])?;
        }
    }
    Ok(())
}

pub(super) fn insert_opens(
    transaction: &Transaction<'_>,
    opens: &[(CallId, Box<str>)],
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO open_calls (id, record) SELECT ?1, ?2
         WHERE NOT EXISTS (SELECT 1 FROM token_usage WHERE id = ?1) ON CONFLICT (id) DO NOTHING",
    )?;
    for (id, line) in opens {
        if let Some(record) = tail::opening(line) {
            insert.execute(params![id.to_string(), record.get()])?;
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

pub(super) fn has_row(connection: &Connection, id: &CallId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM token_usage WHERE id = ?")?.exists([id.to_string()])
}

/// Whether all of the write-ahead log is in the database file now.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, log, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && log == moved)
    })
}
