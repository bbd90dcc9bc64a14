//! Writing postings: what is new, then blocks of it; and all of them anew. Owns when a block is full; knows no
//! question.
//!
//! Invariant: nothing here commits. A posting leaves `posting_new` in the transaction that puts it into a block.

use rusqlite::{Connection, OptionalExtension, params};

use super::chunk;
use super::find::each_chunk;
use super::{Entry, Posting, Sort};

/// Postings in a block. Questions look into each block of their time once, and through all that is in none yet.
pub(super) const BLOCK: usize = 32_768;

/// Postings in one row of `posting_new`, about: it is written again when more come.
const ROW: i64 = 512;

/// Rows changed by hand that go into one block.
const LOOSE: u32 = 32_768;

/// How a place is made: the block, two bits for the sort, the value.
const VALUE_BITS: u32 = 36;
const BLOCK_BITS: u32 = VALUE_BITS + 2;

/// Remembers what rows can be found by.
pub(in crate::ledger) fn add(
    connection: &Connection,
    postings: &[Posting],
) -> rusqlite::Result<()> {
    add_in_blocks(connection, postings, BLOCK)
}

pub(super) fn add_in_blocks(
    connection: &Connection,
    postings: &[Posting],
    block: usize,
) -> rusqlite::Result<()> {
    if postings.is_empty() {
        return Ok(());
    }
    let mut sql = connection
        .prepare_cached("SELECT coalesce(sum(count), 0), coalesce(max(id), 0) FROM posting_new")?;
    let (count, last): (u32, i64) = sql.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if count as usize + postings.len() < block {
        return append(connection, last, postings);
    }
    let mut all = postings.to_vec();
    take_new(connection, &mut all)?;
    take_loose(connection, &mut all)?;
    all.sort_unstable();
    all.dedup();
    for part in all.chunks(block * 2) {
        write(connection, part)?;
    }
    Ok(())
}

/// Behind what is new, in its last row unless that is long.
fn append(connection: &Connection, last: i64, postings: &[Posting]) -> rusqlite::Result<()> {
    let mut find = connection
        .prepare_cached("SELECT count, postings FROM posting_new WHERE id = ?1 AND count < ?2")?;
    let found = find.query_row([last, ROW], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)));
    let (mut count, mut bytes, mut id) = (0, Vec::new(), last + 1);
    if let Some(found) = found.optional()? {
        ((count, bytes), id) = (found, last);
    }
    if chunk::append(&mut bytes, postings).is_err() {
        // Rows must not wait for what can be made again: another row, and the readers complain.
        (count, bytes, id) = (0, Vec::new(), last + 1);
        chunk::append(&mut bytes, postings)?;
    }
    count += i64::try_from(postings.len()).unwrap_or(i64::MAX);
    let mut put =
        connection.prepare_cached("INSERT OR REPLACE INTO posting_new VALUES (?, ?, ?)")?;
    put.execute(params![id, count, bytes]).map(drop)
}

/// Takes out what is new; what cannot be read stays, and readers complain of it.
fn take_new(connection: &Connection, all: &mut Vec<Posting>) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached("SELECT id, postings FROM posting_new")?;
    let mut delete = connection.prepare_cached("DELETE FROM posting_new WHERE id = ?")?;
    let (mut rows, mut ids) = (select.query([])?, Vec::new());
    while let Some(row) = rows.next()? {
        let before = all.len();
        let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
        match chunk::each(bytes, &mut |posting| all.push(posting)) {
            Ok(()) => ids.push(row.get(0)?),
            Err(damaged) => {
                all.truncate(before);
                tracing::error!("{damaged}");
            }
        }
    }
    ids.iter().try_for_each(|id: &i64| delete.execute([id]).map(drop))
}

/// Takes out what was changed by hand, as it is now.
fn take_loose(connection: &Connection, all: &mut Vec<Posting>) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT posting_loose.key, kind, user, session
         FROM posting_loose LEFT JOIN calls USING (key) LIMIT ?",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM posting_loose WHERE key = ?")?;
    let (mut rows, mut keys) = (select.query([LOOSE])?, Vec::new());
    while let Some(row) = rows.next()? {
        keys.push(row.get::<_, i64>(0)?);
        // What nobody can be, and is all the same, is found by no list, as if the lists were made anew.
        if row.get_ref(1)? != rusqlite::types::ValueRef::Null
            && let Ok(posting) = posting(row)
        {
            all.push(posting);
        }
    }
    keys.iter().try_for_each(|key| delete.execute([key]).map(drop))
}

/// Of a row of key, kind, user and session.
fn posting(row: &rusqlite::Row<'_>) -> rusqlite::Result<Posting> {
    Ok(Posting {
        key: row.get(0)?,
        kind: row.get(1)?,
        user: row.get::<_, Option<u32>>(2)?.unwrap_or_default(),
        session: row.get::<_, Option<i64>>(3)?.unwrap_or_default(),
    })
}

/// Writes postings, which are in the order of their keys, as a block of their own.
fn write(connection: &Connection, postings: &[Posting]) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (postings.first(), postings.last()) else { return Ok(()) };
    let mut insert = connection
        .prepare_cached("INSERT INTO posting_block (first, last) VALUES (?, ?) RETURNING id")?;
    let block: i64 = insert.query_row([first.key, last.key], |row| row.get(0))?;
    let mut put = connection.prepare_cached("INSERT INTO posting_chunk VALUES (?, ?)")?;
    let mut entries: Vec<Entry> = Vec::with_capacity(postings.len());
    for sort in Sort::ALL {
        entries.clear();
        entries.extend(postings.iter().filter_map(|posting| sort.entry(posting)));
        entries.sort_unstable();
        chunk::write(sort, first.key, &entries, |value, chunk| {
            put.execute(params![place(block, sort, value), chunk]).map(drop)
        })?;
    }
    Ok(())
}

/// Where the chunk stands that begins with a value.
pub(super) fn place(block: i64, sort: Sort, value: u64) -> i64 {
    let most = (1 << VALUE_BITS) - 1;
    block << BLOCK_BITS | (sort as i64) << VALUE_BITS | value.min(most).cast_signed()
}

/// Forgets blocks of which all keys are below one that no row is below.
pub(in crate::ledger) fn drop_before(connection: &Connection, key: i64) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached("SELECT id FROM posting_block WHERE last < ?")?;
    let gone =
        select.query_map([key], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    gone.into_iter().try_for_each(|block| forget(connection, block))
}

fn forget(connection: &Connection, block: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM posting_chunk WHERE place >= ?1 AND place < ?2")?
        .execute([place(block, Sort::Kind, 0), place(block + 1, Sort::Kind, 0)])?;
    connection.prepare_cached("DELETE FROM posting_block WHERE id = ?")?.execute([block]).map(drop)
}

/// Makes all postings again from the rows.
pub(in crate::ledger) fn rebuild(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DELETE FROM posting_new; DELETE FROM posting_block; DELETE FROM posting_chunk;
         DELETE FROM posting_loose;",
    )?;
    let sql = "SELECT key, kind, user, session FROM calls NOT INDEXED ORDER BY key";
    let mut select = connection.prepare(sql)?;
    let (mut rows, mut block) = (select.query([])?, Vec::with_capacity(BLOCK));
    while let Some(row) = rows.next()? {
        // What nobody can be, nobody looks for.
        let Ok(posting) = posting(row) else { continue };
        block.push(posting);
        if block.len() == BLOCK {
            write(connection, &block)?;
            block.clear();
        }
    }
    write(connection, &block)
}

/// Writes the newest block below another one again without what no row says any more; answers which that was. For
/// after very many rows have been replaced.
pub(in crate::ledger) fn tidy(
    connection: &Connection,
    below: i64,
) -> rusqlite::Result<Option<i64>> {
    let mut next = connection.prepare_cached("SELECT max(id) FROM posting_block WHERE id < ?")?;
    let Some(block) = next.query_row([below], |row| row.get(0))? else { return Ok(None) };
    let mut listed = Vec::new();
    each_chunk(connection, block, Sort::Kind, &mut |chunk| {
        chunk::groups(Sort::Kind, chunk, &mut |group| {
            group.each(&mut |key| listed.push((key, group.value)))?;
            Ok(true)
        })
    })?;
    listed.sort_unstable();
    let mut find =
        connection.prepare_cached("SELECT key, kind, user, session FROM calls WHERE key = ?")?;
    let mut left = Vec::with_capacity(listed.len());
    for (key, kind) in &listed {
        let found = find.query_row([key], posting).optional()?;
        left.extend(found.filter(|found| u64::from(found.kind) == *kind));
    }
    // Less than a quarter is not worth it.
    if left.len() * 4 <= listed.len() * 3 {
        forget(connection, block)?;
        write(connection, &left)?;
    }
    Ok(Some(block))
}
