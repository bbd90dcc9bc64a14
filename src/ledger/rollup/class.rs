//! The packs by class, made from those by kind. Owns what they must hold; keeping them up as calls
//! come is the seal's affair.
//!
//! Invariant: nothing here commits.

use std::collections::HashMap;

use rusqlite::Connection;

use super::check::load;
use super::pack::{Entries, Key, Level};
use super::{DAYS_PER_SPAN, SHARDS, SLOTS_PER_DAY};

/// The class of each kind; of one that is not there, itself.
#[derive(Debug)]
pub(super) struct Classes(HashMap<u32, u32>);

impl Classes {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Classes> {
        let mut select = connection.prepare("SELECT id, class FROM kinds")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>().map(Classes)
    }

    /// What the packs by class of a shard must hold that are about one span: those of its days, of itself,
    /// and of everybody those of its slots.
    pub(super) fn expected(
        &self,
        connection: &Connection,
        shard: u32,
        span: i64,
    ) -> rusqlite::Result<Vec<(Key, Entries)>> {
        let mut whole = Entries::new();
        let mut packs = Vec::new();
        let days = span * DAYS_PER_SPAN..(span + 1) * DAYS_PER_SPAN;
        for start in days.clone() {
            let entries = self.mapped(connection, Key { level: Level::Day, shard, start })?;
            for (place, sums) in &entries {
                whole.entry(*place).or_default().merge(sums);
            }
            packs.push((Key { level: Level::ClassDay, shard, start }, entries));
        }
        if shard == 0 {
            for start in days.start * SLOTS_PER_DAY..days.end * SLOTS_PER_DAY {
                let entries = self.mapped(connection, Key { level: Level::Slot, shard, start })?;
                packs.push((Key { level: Level::ClassSlot, shard, start }, entries));
            }
        }
        packs.push((Key { level: Level::ClassSpan, shard, start: span }, whole));
        for (_, entries) in &mut packs {
            entries.retain(|_, sums| !sums.is_zero());
        }
        Ok(packs)
    }

    /// What a pack has, by class. One that cannot be read has nothing, and is spoken of by itself.
    fn mapped(&self, connection: &Connection, key: Key) -> rusqlite::Result<Entries> {
        let (mut by_kind, mut by_class) = (Entries::new(), Entries::new());
        let _ = load(connection, key, &mut by_kind)?;
        for ((user, kind), sums) in by_kind {
            let class = self.0.get(&kind).copied().unwrap_or(kind);
            by_class.entry((user, class)).or_default().merge(&sums);
        }
        Ok(by_class)
    }
}

/// Makes the packs by class again, from a day on.
pub(super) fn derive(connection: &Connection, from_day: i64) -> rusqlite::Result<()> {
    let classes = Classes::read(connection)?;
    let first = from_day.div_euclid(DAYS_PER_SPAN);
    for shard in 0..=SHARDS {
        Key { level: Level::ClassSpan, shard, start: first }.delete_from_here(connection)?;
        let start = first.saturating_mul(DAYS_PER_SPAN);
        Key { level: Level::ClassDay, shard, start }.delete_from_here(connection)?;
        let start = start.saturating_mul(SLOTS_PER_DAY);
        Key { level: Level::ClassSlot, shard, start }.delete_from_here(connection)?;
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
