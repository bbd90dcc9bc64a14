//! Names of sessions whose rows are all gone. Owns finding out which those are; knows not why rows go.
//!
//! Invariant: a session that a row has keeps its name.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::Sort;
use super::chunk::{self, Damaged};
use super::find::each_chunk;

/// Takes out of these sessions those that have no row, given a key below which there are none; all others stay.
pub(in crate::ledger) fn forget(
    connection: &Connection,
    mut candidates: BTreeSet<i64>,
    floor: i64,
) -> rusqlite::Result<()> {
    let mut new = connection.prepare_cached("SELECT postings FROM posting_new")?;
    let mut rows = new.query([])?;
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(0)?.as_blob().map_err(|_| Damaged)?;
        chunk::each(bytes, &mut |posting| {
            if posting.key >= floor {
                candidates.remove(&posting.session);
            }
        })?;
    }
    // Changed by hand: what they are now is in the rows.
    let mut loose = connection.prepare_cached(
        "SELECT session FROM posting_loose JOIN calls USING (key) WHERE session IS NOT NULL",
    )?;
    let mut rows = loose.query([])?;
    while let Some(row) = rows.next()? {
        candidates.remove(&row.get(0)?);
    }
    // The newest first: they say most of who is still there.
    let mut blocks = connection
        .prepare_cached("SELECT id FROM posting_block WHERE last >= ? ORDER BY last DESC")?;
    let mut blocks = blocks.query([floor])?;
    while let Some(block) = blocks.next()?
        && !candidates.is_empty()
    {
        each_chunk(connection, block.get(0)?, Sort::Session, &mut |chunk| {
            chunk::groups(Sort::Session, chunk, &mut |group| {
                let session = group.value.cast_signed();
                if candidates.contains(&session) {
                    let mut is_left = false;
                    group.each(&mut |key| is_left |= key >= floor)?;
                    if is_left {
                        candidates.remove(&session);
                    }
                }
                Ok(true)
            })
        })?;
    }
    let mut delete = connection.prepare_cached("DELETE FROM sessions WHERE id = ?")?;
    candidates.iter().try_for_each(|session| delete.execute([session]).map(drop))
}
