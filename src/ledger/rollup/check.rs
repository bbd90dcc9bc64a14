//! Whether the sums are what they should be, for `doctor`. Owns reading them in full, and comparing
//! packs that must agree; knows no records.
//!
//! Invariant: memory is bounded by a day of one shard, or a slot of all.

use std::ops::Range;

use rusqlite::Connection;

use super::class::Classes;
use super::codec::{self, Damaged};
use super::pack::{Entries, Key, Level, Reading};
use super::scan::{each_live, next_live};
use super::sums::Sums;
use super::{DAYS_PER_SPAN, SHARDS, SLOTS_PER_DAY};

/// A pack that does not have what the packs of single slots and users come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Disagreement {
    pub(super) level: Level,
    /// 0 has everybody.
    pub(in crate::ledger) shard: u32,
    /// The slot, or the day's first.
    pub(in crate::ledger) slot: i64,
    /// It cannot be read at all.
    pub(in crate::ledger) is_damaged: bool,
}

impl Disagreement {
    fn of(key: Key, is_damaged: bool) -> Disagreement {
        let Key { level, shard, .. } = key;
        Disagreement { level, shard, slot: key.first_slot(), is_damaged }
    }

    /// Of a UTC day, or of several; else of a slot.
    pub(in crate::ledger) fn is_day(&self) -> bool {
        !matches!(self.level, Level::Slot | Level::ClassSlot)
    }

    /// In which order packs are mended: each is made of those before it.
    pub(in crate::ledger) fn order(&self) -> impl Ord + use<> {
        (self.level, self.shard == 0)
    }

    pub(super) fn key(self) -> Key {
        let day = self.slot.div_euclid(SLOTS_PER_DAY);
        let start = match self.level {
            Level::Slot | Level::ClassSlot => self.slot,
            Level::Day | Level::ClassDay => day,
            Level::ClassSpan => day.div_euclid(DAYS_PER_SPAN),
        };
        Key { level: self.level, shard: self.shard, start }
    }
}

/// Shows the sums of a range of slots: slot, user, kind and what all that is known of them comes to,
/// in order and each once. What comes to nothing is left out.
pub(in crate::ledger) fn truth(
    connection: &Connection,
    slots: Range<i64>,
    visit: &mut dyn FnMut(i64, u32, u32, &Sums) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut from = slots.start;
    while from < slots.end {
        // A slot pack of a user has a companion of everybody, or else `disagreements` says so.
        let sealed = Key::next(connection, Level::Slot, 0, from..slots.end)?;
        let live = next_live(connection, from..slots.end)?;
        let Some(slot) = sealed.into_iter().chain(live).min() else { break };
        let mut entries = Entries::new();
        for shard in 1..=SHARDS {
            load(connection, Key { level: Level::Slot, shard, start: slot }, &mut entries)??;
        }
        each_live(connection, slot..slot + 1, &mut |_, place, sums| {
            Ok(codec::add_to(sums, entries.entry(place).or_default())?)
        })?;
        for ((user, kind), sums) in entries.iter().filter(|(_, sums)| !sums.is_zero()) {
            visit(slot, *user, *kind, sums)?;
        }
        from = slot + 1;
    }
    Ok(())
}

/// Shows the packs that do not agree with the slot packs of the users (those of everybody, and those
/// of days), and those that cannot be read.
pub(in crate::ledger) fn disagreements(
    connection: &Connection,
    visit: &mut dyn FnMut(Disagreement),
) -> rusqlite::Result<()> {
    let classes = Classes::read(connection)?;
    let (mut from, mut checked) = (i64::MIN, None);
    while let Some(day) = next_day(connection, from)? {
        check_day(connection, day, visit)?;
        let span = day.div_euclid(DAYS_PER_SPAN);
        if checked != Some(span) {
            check_span(connection, &classes, span, visit)?;
            checked = Some(span);
        }
        from = day + 1;
    }
    Ok(())
}

fn check_span(
    connection: &Connection,
    classes: &Classes,
    span: i64,
    visit: &mut dyn FnMut(Disagreement),
) -> rusqlite::Result<()> {
    for shard in 0..=SHARDS {
        for (key, expected) in classes.expected(connection, shard, span)? {
            let mut found = Entries::new();
            let is_damaged = load(connection, key, &mut found)?.is_err();
            if is_damaged || found != expected {
                visit(Disagreement::of(key, is_damaged));
            }
        }
    }
    Ok(())
}

/// Live rows that stand where nobody looks for their user.
pub(in crate::ledger) fn misplaced(connection: &Connection) -> rusqlite::Result<u32> {
    let sql = "SELECT count(*) FROM rollup_live WHERE shard <> user % ? + 1";
    connection.query_row(sql, [SHARDS], |row| row.get(0))
}

/// The first day from another one on that any pack is about.
fn next_day(connection: &Connection, from: i64) -> rusqlite::Result<Option<i64>> {
    let mut found: Option<i64> = None;
    for shard in 0..=SHARDS {
        let day = Key::next(connection, Level::Day, shard, from..i64::MAX)?;
        let slots = from.saturating_mul(SLOTS_PER_DAY)..i64::MAX;
        let slot = Key::next(connection, Level::Slot, shard, slots)?;
        let slot = slot.map(|slot| slot.div_euclid(SLOTS_PER_DAY));
        let class = Key::next(connection, Level::ClassDay, shard, from..i64::MAX)?;
        found = found.into_iter().chain(day).chain(slot).chain(class).min();
    }
    Ok(found)
}

fn check_day(
    connection: &Connection,
    day: i64,
    visit: &mut dyn FnMut(Disagreement),
) -> rusqlite::Result<()> {
    let slots = day * SLOTS_PER_DAY..(day + 1) * SLOTS_PER_DAY;
    let mut expect = |level, shard, start, expected: &mut Entries| -> rusqlite::Result<()> {
        let (key, mut found) = (Key { level, shard, start }, Entries::new());
        let is_damaged = load(connection, key, &mut found)?.is_err();
        expected.retain(|_, sums| !sums.is_zero());
        if is_damaged || found != *expected {
            visit(Disagreement::of(key, is_damaged));
        }
        Ok(())
    };
    let (mut everybody, mut damaged) = (Entries::new(), Vec::new());
    let mut by_slot: Vec<Entries> = slots.clone().map(|_| Entries::new()).collect();
    for shard in 1..=SHARDS {
        let mut whole = Entries::new();
        for (slot, together) in slots.clone().zip(&mut by_slot) {
            let (key, mut entries) =
                (Key { level: Level::Slot, shard, start: slot }, Entries::new());
            if load(connection, key, &mut entries)?.is_err() {
                damaged.push(Disagreement::of(key, true));
                continue;
            }
            for ((user, kind), sums) in entries {
                together.entry((0, kind)).or_default().merge(&sums);
                everybody.entry((0, kind)).or_default().merge(&sums);
                whole.entry((user, kind)).or_default().merge(&sums);
            }
        }
        expect(Level::Day, shard, day, &mut whole)?;
    }
    for (slot, together) in slots.zip(&mut by_slot) {
        expect(Level::Slot, 0, slot, together)?;
    }
    expect(Level::Day, 0, day, &mut everybody)?;
    damaged.into_iter().for_each(visit);
    Ok(())
}

/// Adds what a pack has; nothing of one that cannot be read.
pub(super) fn load(
    connection: &Connection,
    key: Key,
    to: &mut Entries,
) -> rusqlite::Result<Result<(), Damaged>> {
    let Some(pack) = key.load(connection)? else { return Ok(Ok(())) };
    let mut read = Entries::new();
    let done = Reading::open(&pack).and_then(|entries| {
        for entry in entries {
            let entry = entry?;
            codec::add_to(entry.sums, read.entry((entry.user, entry.kind)).or_default())?;
        }
        Ok(())
    });
    if done.is_ok() {
        for (place, sums) in &read {
            to.entry(*place).or_default().merge(sums);
        }
    }
    Ok(done)
}
