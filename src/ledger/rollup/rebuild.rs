//! Sums made again: from the calls themselves, in the order of time, or from other sums where the calls
//! are gone. Owns writing whole packs at once; knows neither rows nor why this is done.
//!
//! Invariant: nothing here commits: who asks for it does, so that sums are never half made.

use rusqlite::Connection;

use super::check::{Disagreement, load};
use super::class::{Classes, derive, derive_span};
use super::pack::{Entries, Key, Level};
use super::{DAYS_PER_SPAN, SHARDS, SLOTS_PER_DAY, clear, shard_of, slot_of};
use crate::record::Record;

/// Takes calls in the order of time. Memory is bounded by what a day has of users and kinds.
#[derive(Debug)]
pub(in crate::ledger) struct Rebuild<'c> {
    connection: &'c Connection,
    /// The first day that is made again.
    since: i64,
    slot: i64,
    of_slot: Entries,
    of_day: Entries,
    out: Vec<u8>,
}

impl<'c> Rebuild<'c> {
    /// Forgets the sums from a slot on, or all of them, to take the calls since then.
    pub(in crate::ledger) fn since(
        connection: &'c Connection,
        slot: Option<i64>,
    ) -> rusqlite::Result<Rebuild<'c>> {
        let (of_slot, of_day, out) = (Entries::new(), Entries::new(), Vec::new());
        let since = slot.map_or(i64::MIN, |slot| slot.div_euclid(SLOTS_PER_DAY));
        let mut rebuild = Rebuild { connection, since, slot: i64::MIN, of_slot, of_day, out };
        let Some(slot) = slot else {
            clear(connection)?;
            return Ok(rebuild);
        };
        let day = since;
        connection.execute("DELETE FROM rollup_live WHERE slot >= ?", [slot])?;
        for shard in 0..=SHARDS {
            Key { level: Level::Slot, shard, start: slot }.delete_from_here(connection)?;
            Key { level: Level::Day, shard, start: day }.delete_from_here(connection)?;
        }
        // What that day has before.
        rebuild.slot = slot;
        for start in day * SLOTS_PER_DAY..slot {
            for shard in 1..=SHARDS {
                let key = Key { level: Level::Slot, shard, start };
                // One that cannot be read adds nothing, and is spoken of by `disagreements`.
                let _ = load(connection, key, &mut rebuild.of_day)?;
            }
        }
        Ok(rebuild)
    }

    /// Counts a call of a user (0 for none) and kind.
    pub(in crate::ledger) fn add(
        &mut self,
        user: u32,
        kind: u32,
        record: &Record,
    ) -> rusqlite::Result<()> {
        let slot = slot_of(record.created_at.millis());
        if slot != self.slot {
            self.end_slot()?;
            if slot.div_euclid(SLOTS_PER_DAY) != self.slot.div_euclid(SLOTS_PER_DAY) {
                self.end_day()?;
            }
            self.slot = slot;
        }
        self.of_slot.entry((user, kind)).or_default().add(record);
        Ok(())
    }

    pub(in crate::ledger) fn finish(mut self) -> rusqlite::Result<()> {
        self.end_slot()?;
        self.end_day()?;
        derive(self.connection, self.since)
    }

    fn end_slot(&mut self) -> rusqlite::Result<()> {
        let entries = std::mem::take(&mut self.of_slot);
        put(self.connection, Level::Slot, self.slot, &entries, &mut self.out)?;
        for (place, sums) in entries {
            self.of_day.entry(place).or_default().merge(&sums);
        }
        Ok(())
    }

    fn end_day(&mut self) -> rusqlite::Result<()> {
        let entries = std::mem::take(&mut self.of_day);
        let day = self.slot.div_euclid(SLOTS_PER_DAY);
        put(self.connection, Level::Day, day, &entries, &mut self.out)
    }
}

/// Writes the packs of one time, where there are none.
fn put(
    connection: &Connection,
    level: Level,
    start: i64,
    entries: &Entries,
    out: &mut Vec<u8>,
) -> rusqlite::Result<()> {
    let mut shards: Vec<Entries> = (0..=SHARDS).map(|_| Entries::new()).collect();
    for ((user, kind), sums) in entries {
        shards[shard_of(*user) as usize].insert((*user, *kind), sums.clone());
        shards[0].entry((0, *kind)).or_default().merge(sums);
    }
    for (shard, entries) in (0..).zip(&shards).filter(|(_, entries)| !entries.is_empty()) {
        Key { level, shard, start }.add(connection, entries, out)?;
    }
    Ok(())
}

/// Makes a pack again from the packs that must agree with it; false where those do not tell. Users' packs
/// of slots come first, because all others are made of them.
pub(in crate::ledger) fn mend(
    connection: &Connection,
    wrong: Disagreement,
) -> rusqlite::Result<bool> {
    let key = wrong.key();
    let day = wrong.slot.div_euclid(SLOTS_PER_DAY);
    let slots = day * SLOTS_PER_DAY..(day + 1) * SLOTS_PER_DAY;
    let mut entries = Entries::new();
    let mut sources = Vec::new();
    match (key.level, key.shard) {
        (Level::Slot, 0) => {
            sources.extend((1..=SHARDS).map(|shard| Key { shard, ..key }));
        }
        (Level::Slot, shard) => {
            let whole = Key { level: Level::Day, shard, start: day };
            let others = slots.filter(|slot| *slot != key.start);
            let others = others.map(|start| Key { start, ..key });
            return mend_from_day(connection, key, whole, others);
        }
        (Level::Day, 0) => sources.extend(slots.flat_map(|start| {
            (1..=SHARDS).map(move |shard| Key { level: Level::Slot, shard, start })
        })),
        (Level::Day, shard) => {
            sources.extend(slots.map(|start| Key { level: Level::Slot, shard, start }));
        }
        (Level::ClassSlot | Level::ClassDay | Level::ClassSpan, shard) => {
            let classes = Classes::read(connection)?;
            let span = day.div_euclid(DAYS_PER_SPAN);
            return derive_span(connection, &classes, shard, span).map(|()| true);
        }
    }
    for source in sources {
        let mut part = Entries::new();
        if load(connection, source, &mut part)?.is_err() {
            return Ok(false);
        }
        for ((user, kind), sums) in part {
            let user = if key.shard == 0 { 0 } else { user };
            entries.entry((user, kind)).or_default().merge(&sums);
        }
    }
    key.replace(connection, &entries).map(|()| true)
}

/// A slot of a shard is what its day has and the day's other slots have not.
fn mend_from_day(
    connection: &Connection,
    key: Key,
    whole: Key,
    others: impl Iterator<Item = Key>,
) -> rusqlite::Result<bool> {
    let mut entries = Entries::new();
    if load(connection, whole, &mut entries)?.is_err() || entries.is_empty() {
        return Ok(false);
    }
    for other in others {
        let mut part = Entries::new();
        if load(connection, other, &mut part)?.is_err() {
            return Ok(false);
        }
        for (place, sums) in &part {
            entries.entry(*place).or_default().take(sums);
        }
    }
    // A day that has less than its slots is wrong itself, and no slot that is there is empty.
    let is_less = entries.values().any(|sums| sums.requests() < 0);
    if is_less || entries.values().all(super::sums::Sums::is_zero) {
        return Ok(false);
    }
    key.replace(connection, &entries).map(|()| true)
}
