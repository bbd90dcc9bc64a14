//! Users' packs by class, made from the packs of days. Owns what they must hold; keeping them up as calls
//! come is the seal's affair.
//!
//! Invariant: nothing here commits.

use std::collections::HashMap;

use rusqlite::Connection;

use super::check::load;
use super::pack::{Entries, Key, Level};
use super::{DAYS_PER_SPAN, SHARDS};

/// The class of each kind; of one that is not there, itself.
#[derive(Debug)]
pub(super) struct Classes(HashMap<u32, u32>);

impl Classes {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Classes> {
        let mut select = connection.prepare("SELECT id, class FROM kinds")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>().map(Classes)
    }

    /// What the packs by class of a shard's days of one span must hold, and at the end that of the span
    /// itself.
    pub(super) fn expected(
        &self,
        connection: &Connection,
        shard: u32,
        span: i64,
    ) -> rusqlite::Result<Vec<(Key, Entries)>> {
        let mut whole = Entries::new();
        let mut packs = Vec::new();
        for start in span * DAYS_PER_SPAN..(span + 1) * DAYS_PER_SPAN {
            let (mut day, mut entries) = (Entries::new(), Entries::new());
            // One that cannot be read adds nothing, and is spoken of by itself.
            let _ = load(connection, Key { level: Level::Day, shard, start }, &mut day)?;
            for ((user, kind), sums) in day {
                let class = self.0.get(&kind).copied().unwrap_or(kind);
                entries.entry((user, class)).or_default().merge(&sums);
                whole.entry((user, class)).or_default().merge(&sums);
            }
            packs.push((Key { level: Level::ClassDay, shard, start }, entries));
        }
        packs.push((Key { level: Level::ClassSpan, shard, start: span }, whole));
        for (_, entries) in &mut packs {
            entries.retain(|_, sums| !sums.is_zero());
        }
        Ok(packs)
    }
}

/// Makes the packs by class again, from a day on.
pub(super) fn derive(connection: &Connection, from_day: i64) -> rusqlite::Result<()> {
    let classes = Classes::read(connection)?;
    let first = from_day.div_euclid(DAYS_PER_SPAN);
    for shard in 1..=SHARDS {
        Key { level: Level::ClassSpan, shard, start: first }.delete_from_here(connection)?;
        let start = first.saturating_mul(DAYS_PER_SPAN);
        Key { level: Level::ClassDay, shard, start }.delete_from_here(connection)?;
        let mut span = first;
        while let Some(day) =
            Key::next(connection, Level::Day, shard, span.saturating_mul(DAYS_PER_SPAN)..i64::MAX)?
        {
            span = day.div_euclid(DAYS_PER_SPAN);
            derive_span(connection, &classes, shard, span)?;
            span += 1;
        }
    }
    Ok(())
}

/// Makes a shard's packs of one span again.
pub(super) fn derive_span(
    connection: &Connection,
    classes: &Classes,
    shard: u32,
    span: i64,
) -> rusqlite::Result<()> {
    for (key, entries) in classes.expected(connection, shard, span)? {
        key.replace(connection, &entries)?;
    }
    Ok(())
}
