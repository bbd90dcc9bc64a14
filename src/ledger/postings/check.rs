//! Whether each row can be found by what it is. Owns that comparison; says nothing to people.
//!
//! Invariant: memory is bounded by the postings of so many rows as a block has.

use std::ops::Range;

use rusqlite::Connection;

use super::block::BLOCK;
use super::chunk::{self, Damaged};
use super::find::each_chunk;
use super::{Entry, Posting, Sort};

/// What is listed of some rows.
#[derive(Default)]
struct Listed {
    by: [Vec<Entry>; 3],
    loose: Vec<i64>,
}

/// Tells of every row that its kind, user or session does not lead to, by its key, and of lists that cannot be
/// read, by their block.
pub(in crate::ledger) fn examine(
    connection: &Connection,
    tell: &mut dyn FnMut(String),
) -> rusqlite::Result<()> {
    let sql = "SELECT key, kind, user, session FROM calls NOT INDEXED ORDER BY key";
    let mut select = connection.prepare(sql)?;
    let (mut rows, mut some) = (select.query([])?, Vec::with_capacity(BLOCK));
    while let Some(row) = rows.next()? {
        // Numbers that none of ours could be are another check's affair.
        let (Ok(kind), Ok(user), Ok(session)) = (row.get(1), row.get(2), row.get(3)) else {
            continue;
        };
        let (user, session): (Option<u32>, Option<i64>) = (user, session);
        let (user, session) = (user.unwrap_or_default(), session.unwrap_or_default());
        some.push(Posting { key: row.get(0)?, kind, user, session });
        if some.len() == BLOCK {
            compare(connection, &some, tell)?;
            some.clear();
        }
    }
    compare(connection, &some, tell)
}

fn compare(
    connection: &Connection,
    rows: &[Posting],
    tell: &mut dyn FnMut(String),
) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    let listed = Listed::read(connection, first.key..last.key.saturating_add(1), tell)?;
    for row in rows {
        if let Some(sort) = listed.lacks(row) {
            let by = match sort {
                Sort::Kind => "kind",
                Sort::User => "user",
                Sort::Session => "session",
            };
            tell(format!("the call of key {} is not found by its {by}", row.key));
        }
    }
    Ok(())
}

impl Listed {
    fn read(
        connection: &Connection,
        keys: Range<i64>,
        tell: &mut dyn FnMut(String),
    ) -> rusqlite::Result<Listed> {
        let mut listed = Listed::default();
        let mut new = connection.prepare_cached("SELECT id, postings FROM posting_new")?;
        let mut rows = new.query([])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
            let read = chunk::each(bytes, &mut |posting| {
                if keys.contains(&posting.key) {
                    listed.put(&posting);
                }
            });
            if read.is_err() {
                let id: i64 = row.get(0)?;
                tell(format!("what is new ({id}) cannot be read"));
            }
        }
        let sql = "SELECT id FROM posting_block WHERE last >= ? AND first < ?";
        let mut blocks = connection.prepare_cached(sql)?;
        let mut blocks = blocks.query([keys.start, keys.end])?;
        while let Some(block) = blocks.next()? {
            let block = block.get(0)?;
            for sort in Sort::ALL {
                each_chunk(connection, block, sort, &mut |chunk| {
                    if listed.put_chunk(sort, chunk, &keys).is_err() {
                        tell(format!("a list of block {block} cannot be read"));
                    }
                    Ok(())
                })?;
            }
        }
        let sql = "SELECT key FROM posting_loose WHERE key >= ? AND key < ? ORDER BY key";
        let mut loose = connection.prepare_cached(sql)?;
        let loose = loose.query_map([keys.start, keys.end], |row| row.get(0))?;
        listed.loose = loose.collect::<rusqlite::Result<_>>()?;
        listed.by.iter_mut().for_each(|entries| entries.sort_unstable());
        Ok(listed)
    }

    fn put(&mut self, posting: &Posting) {
        for (entries, sort) in self.by.iter_mut().zip(Sort::ALL) {
            entries.extend(sort.entry(posting));
        }
    }

    fn put_chunk(&mut self, sort: Sort, chunk: &[u8], keys: &Range<i64>) -> Result<(), Damaged> {
        let entries = &mut self.by[sort as usize];
        chunk::groups(sort, chunk, &mut |group| {
            group.each(&mut |key| {
                if keys.contains(&key) {
                    entries.push((group.value, group.kind, key));
                }
            })?;
            Ok(true)
        })
    }

    /// By what a row is not found.
    fn lacks(&self, row: &Posting) -> Option<Sort> {
        if self.loose.binary_search(&row.key).is_ok() {
            return None;
        }
        let is_there =
            |sort: Sort, entry: &Entry| self.by[sort as usize].binary_search(entry).is_ok();
        let mut wanted = Sort::ALL.into_iter().filter_map(|sort| Some((sort, sort.entry(row)?)));
        wanted.find(|(sort, entry)| !is_there(*sort, entry)).map(|(sort, _)| sort)
    }
}
