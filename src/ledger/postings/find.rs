//! The keys of a kind, a user, a session. Owns which blocks are looked into, and in which order; knows no row.
//!
//! Invariant: of the rows within the range, the keys of all that are wanted are found, and perhaps others.

use std::ops::Range;

use rusqlite::{Connection, params};

use super::block::place;
use super::chunk::{self, Damaged, Group};
use super::{Posting, Sort};

/// Kinds that are looked up one by one in a block; for more, all lists between the first and the last are gone
/// through.
const ONE_BY_ONE: usize = 16;

/// What is wanted.
#[derive(Clone, Copy)]
pub(in crate::ledger) enum By<'a> {
    /// Of any of these kinds, which are in order.
    Kinds(&'a [u32]),
    /// Of a user, and of kinds that pass.
    User(u32, &'a dyn Fn(u32) -> bool),
    Session(i64),
}

/// Looks for keys within a range.
pub(in crate::ledger) struct Finder<'a> {
    connection: &'a Connection,
    by: By<'a>,
    range: Range<i64>,
    /// What is in no block.
    found: Vec<i64>,
    /// Those that are left, with the last key of each, which is in ascending order.
    blocks: Vec<(i64, i64)>,
}

impl<'a> Finder<'a> {
    pub(in crate::ledger) fn new(
        connection: &'a Connection,
        by: By<'a>,
        range: &Range<i64>,
    ) -> rusqlite::Result<Finder<'a>> {
        let Range { start, end } = *range;
        let mut blocks = connection.prepare_cached(
            "SELECT last, id FROM posting_block WHERE last >= ?1 AND first < ?2 ORDER BY last",
        )?;
        let blocks = blocks.query_map([start, end], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let blocks = blocks.collect::<rusqlite::Result<_>>()?;
        let range = range.clone();
        let mut finder = Finder { connection, by, range, found: Vec::new(), blocks };
        finder.look_at_new()?;
        Ok(finder)
    }

    /// All keys, in their order, each once.
    pub(in crate::ledger) fn all(mut self) -> rusqlite::Result<Vec<i64>> {
        while let Some((_, block)) = self.blocks.pop() {
            self.look_into(block)?;
        }
        self.found.sort_unstable();
        self.found.dedup();
        Ok(self.found)
    }

    /// The newest keys that are what is wanted, newest first.
    pub(in crate::ledger) fn newest<E: From<rusqlite::Error>>(
        mut self,
        wanted: usize,
        mut is_it: impl FnMut(i64) -> Result<bool, E>,
    ) -> Result<Vec<i64>, E> {
        self.found.sort_unstable();
        let mut newest = Vec::new();
        let mut before = None;
        while newest.len() < wanted {
            match (self.found.last().copied(), self.blocks.last().copied()) {
                (None, None) => break,
                // Nothing in any block is newer.
                (Some(key), last) if last.is_none_or(|(last, _)| last < key) => {
                    self.found.pop();
                    if before.replace(key) != Some(key) && is_it(key)? {
                        newest.push(key);
                    }
                }
                (_, Some((_, block))) => {
                    self.blocks.pop();
                    self.look_into(block)?;
                    self.found.sort_unstable();
                }
                (Some(_), None) => {}
            }
        }
        Ok(newest)
    }

    fn look_at_new(&mut self) -> rusqlite::Result<()> {
        let mut new = self.connection.prepare_cached("SELECT postings FROM posting_new")?;
        let mut rows = new.query([])?;
        let (by, range, found) = (self.by, &self.range, &mut self.found);
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(0)?.as_blob().map_err(|_| Damaged)?;
            chunk::each(bytes, &mut |posting| {
                if range.contains(&posting.key) && by.wants(&posting) {
                    found.push(posting.key);
                }
            })?;
        }
        // Of these it is not said what they are.
        let sql = "SELECT key FROM posting_loose WHERE key >= ? AND key < ?";
        let mut loose = self.connection.prepare_cached(sql)?;
        let mut keys = loose.query([range.start, range.end])?;
        while let Some(key) = keys.next()? {
            found.push(key.get(0)?);
        }
        Ok(())
    }

    fn look_into(&mut self, block: i64) -> rusqlite::Result<()> {
        let (by, range, found) = (self.by, &self.range, &mut self.found);
        let mut take = |group: &Group<'_>| {
            group.each(&mut |key| {
                if range.contains(&key) {
                    found.push(key);
                }
            })
        };
        match by {
            By::Session(session) => {
                let session = session.unsigned_abs();
                of_value(self.connection, block, Sort::Session, session, &mut take)
            }
            By::User(user, passes) => {
                of_value(self.connection, block, Sort::User, user.into(), &mut |group| {
                    if passes(group.kind) { take(group) } else { Ok(()) }
                })
            }
            By::Kinds(kinds) if kinds.len() <= ONE_BY_ONE => kinds.iter().try_for_each(|kind| {
                of_value(self.connection, block, Sort::Kind, u64::from(*kind), &mut take)
            }),
            By::Kinds(kinds) => each_chunk(self.connection, block, Sort::Kind, &mut |chunk| {
                chunk::groups(Sort::Kind, chunk, &mut |group| {
                    let kind = u32::try_from(group.value).map_err(|_| Damaged)?;
                    if kinds.binary_search(&kind).is_ok() {
                        take(group)?;
                    }
                    Ok(true)
                })
            }),
        }
    }
}

impl By<'_> {
    fn wants(&self, posting: &Posting) -> bool {
        match self {
            By::Kinds(kinds) => kinds.binary_search(&posting.kind).is_ok(),
            By::User(user, passes) => posting.user == *user && passes(posting.kind),
            By::Session(session) => posting.session == *session,
        }
    }
}

/// Shows the groups of one value.
fn of_value(
    connection: &Connection,
    block: i64,
    sort: Sort,
    value: u64,
    see: &mut dyn FnMut(&Group<'_>) -> Result<(), Damaged>,
) -> rusqlite::Result<()> {
    let mut find = connection.prepare_cached(
        "SELECT chunk FROM posting_chunk WHERE place >= ? AND place <= ?
         ORDER BY place DESC LIMIT 1",
    )?;
    let mut rows = find.query(params![place(block, sort, 0), place(block, sort, value)])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let chunk = row.get_ref(0)?.as_blob().map_err(|_| Damaged)?;
    chunk::groups(sort, chunk, &mut |group| {
        if group.value == value {
            see(group)?;
        }
        Ok(group.value <= value)
    })?;
    Ok(())
}

/// Shows the chunks of a block in their order.
pub(super) fn each_chunk(
    connection: &Connection,
    block: i64,
    sort: Sort,
    see: &mut dyn FnMut(&[u8]) -> Result<(), Damaged>,
) -> rusqlite::Result<()> {
    let sql = "SELECT chunk FROM posting_chunk WHERE place >= ? AND place <= ? ORDER BY place";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([place(block, sort, 0), place(block, sort, u64::MAX)])?;
    while let Some(row) = rows.next()? {
        see(row.get_ref(0)?.as_blob().map_err(|_| Damaged)?)?;
    }
    Ok(())
}
