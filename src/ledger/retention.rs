//! Rows that are too old, taken out while their sums stay. Owns since when there are rows.
//!
//! Invariant: a moment is in `rows_since` before the first row older than it is deleted.

use rusqlite::{Connection, OptionalExtension};

use crate::units::Timestamp;

/// Since when there are rows, where older ones have been deleted: the beginning of a half hour.
pub(super) fn rows_since(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT value FROM ledger_state WHERE name = 'rows_since'";
    let mut find = connection.prepare_cached(sql)?;
    let since: Option<i64> = find.query_row([], |row| row.get(0)).optional()?;
    Ok(since.map(Timestamp::from_millis))
}
