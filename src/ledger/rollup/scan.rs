//! Reading sums. Owns which packs answer a question; decides nothing about what is done with them.
//!
//! Invariant: every call in the range counts exactly once, whatever is sealed.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::mpsc::{self, TrySendError};
use std::thread;

use rusqlite::{Connection, OptionalExtension};

use super::codec;
use super::pack::{Key, Level, Place, Reading};
use super::sums::Sums;
use super::{DAYS_PER_SPAN, SLOTS_PER_DAY, shard_of};

/// Beyond any slot of a timestamp.
const FOREVER: Range<i64> = -(1 << 46)..1 << 46;

/// Whose calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Users {
    /// Everybody's; they are shown as user 0.
    Together,
    /// Everybody's, each for themselves.
    Each,
    One(u32),
}

/// How exactly the time must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Grain {
    /// The slot is that of the calls.
    Slot,
    /// The slot is in the UTC day of the calls.
    Day,
    /// The slot says nothing.
    Any,
}

/// Sums as they stand in the database.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct SumsRef<'a>(&'a [u8]);

impl SumsRef<'_> {
    /// Adds them to others, which are good for nothing if that fails.
    #[inline]
    pub(in crate::ledger) fn add_to(self, sums: &mut Sums) -> rusqlite::Result<()> {
        Ok(codec::add_to(self.0, sums)?)
    }
}

/// Takes slot, user, kind and sums. May come several times with the same three, and may then come
/// with less than nothing, if rows were amended after they were sealed: only all of it together says
/// something.
pub(in crate::ledger) type Visit<'v> =
    dyn FnMut(i64, u32, u32, SumsRef<'_>) -> rusqlite::Result<()> + 'v;

/// Shows the sums of some slots and of the kinds that are asked for. With `by_class`, any kind of a class
/// may stand for others of it. For one state of the database it must run in a transaction.
pub(in crate::ledger) fn scan(
    connection: &Connection,
    slots: Range<i64>,
    users: Users,
    grain: Grain,
    by_class: bool,
    kinds: &dyn Fn(u32) -> bool,
    visit: &mut Visit<'_>,
) -> rusqlite::Result<()> {
    let slots = slots.start.max(FOREVER.start)..slots.end.min(FOREVER.end);
    if slots.is_empty() {
        return Ok(());
    }
    let shards = match users {
        Users::Together => 0..=0,
        Users::Each => 1..=super::SHARDS,
        Users::One(user) => shard_of(user)..=shard_of(user),
    };
    let ladder = ladder(&slots, users, grain, by_class);
    for shard in shards {
        for (level, starts) in &ladder {
            Key::each(connection, *level, shard, starts.clone(), &mut |key, pack| {
                entries(key.first_slot(), pack, users, kinds, visit)
            })?;
        }
    }
    match users {
        Users::One(user) => live_of(connection, slots, user, kinds, visit),
        Users::Together => live(connection, slots, |_| 0, kinds, visit),
        Users::Each => live(connection, slots, |user| user, kinds, visit),
    }
}

/// The sums of everybody, each for themselves, whenever their calls were: as [`scan`] with [`Users::Each`]
/// and [`Grain::Any`], but with two threads, each with a visitor of its own, because there is most to add up.
/// A visitor gets all of a user's packs; live rows go to the first.
pub(in crate::ledger) fn scan_each<V: Send>(
    connection: &Connection,
    slots: Range<i64>,
    by_class: bool,
    kinds: &(dyn Fn(u32) -> bool + Sync),
    visitors: &mut [V; 2],
    visit: &(dyn Fn(&mut V, u32, u32, SumsRef<'_>) -> rusqlite::Result<()> + Sync),
) -> rusqlite::Result<()> {
    let slots = slots.start.max(FOREVER.start)..slots.end.min(FOREVER.end);
    if slots.is_empty() {
        return Ok(());
    }
    let [first, second] = visitors;
    let ladder = ladder(&slots, Users::Each, Grain::Any, by_class);
    let show = |visitor: &mut V, packs: &[Vec<u8>]| {
        packs.iter().try_for_each(|pack| {
            entries(0, pack, Users::Each, kinds, &mut |_, user, kind, sums| {
                visit(visitor, user, kind, sums)
            })
        })
    };
    thread::scope(|scope| {
        // One waits while one is worked on.
        let (give, take) = mpsc::sync_channel::<Vec<Vec<u8>>>(1);
        let show = &show;
        let work = move || take.iter().try_for_each(|packs| show(second, &packs));
        // Without another thread, this one does it all.
        let other =
            thread::Builder::new().name("ledger-sums".into()).spawn_scoped(scope, work).ok();
        for shard in 1..=super::SHARDS {
            let mut packs = Vec::new();
            for (level, starts) in &ladder {
                Key::each(connection, *level, shard, starts.clone(), &mut |_, pack| {
                    packs.push(pack.to_vec());
                    Ok(())
                })?;
            }
            // Whoever is free; what the other one failed at, it tells in the end.
            if let Err(TrySendError::Full(packs) | TrySendError::Disconnected(packs)) =
                give.try_send(packs)
            {
                show(first, &packs)?;
            }
        }
        drop(give);
        let done = other.map(thread::ScopedJoinHandle::join);
        done.map_or(Ok(()), |done| done.unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    live(connection, slots, |user| user, kinds, &mut |_, user, kind, sums| {
        visit(first, user, kind, sums)
    })
}

/// The packs of a shard that tell of some slots, the fewest that do: their levels, and which of each.
fn ladder(
    slots: &Range<i64>,
    users: Users,
    grain: Grain,
    by_class: bool,
) -> Vec<(Level, Range<i64>)> {
    let slot = match users {
        Users::Together if by_class => Level::ClassSlot,
        _ => Level::Slot,
    };
    let days = within(slots, SLOTS_PER_DAY);
    let around_days = around(slots, &days, SLOTS_PER_DAY).filter(|_| grain != Grain::Slot);
    let Some([before, after]) = around_days else { return vec![(slot, slots.clone())] };
    let mut ladder = vec![(slot, before), (slot, after)];
    let day = if by_class { Level::ClassDay } else { Level::Day };
    let spans = within(&days, DAYS_PER_SPAN);
    match around(&days, &spans, DAYS_PER_SPAN) {
        Some([before, after]) if by_class && grain == Grain::Any => {
            ladder.extend([(day, before), (Level::ClassSpan, spans), (day, after)]);
        }
        _ => ladder.push((day, days)),
    }
    ladder
}

/// The units of `length` that are wholly in a range.
fn within(range: &Range<i64>, length: i64) -> Range<i64> {
    let first = range.start.div_euclid(length) + i64::from(range.start.rem_euclid(length) != 0);
    first..range.end.div_euclid(length)
}

/// What is left of a range before and after some units of it; nothing where there are no units.
fn around(range: &Range<i64>, units: &Range<i64>, length: i64) -> Option<[Range<i64>; 2]> {
    let [start, end] = [units.start, units.end].map(|unit| unit * length);
    (!units.is_empty()).then_some([range.start..start, end..range.end])
}

/// Shows the entries of a pack that are asked for.
fn entries(
    slot: i64,
    pack: &[u8],
    users: Users,
    kinds: &dyn Fn(u32) -> bool,
    visit: &mut Visit<'_>,
) -> rusqlite::Result<()> {
    for entry in Reading::open(pack)? {
        let entry = entry?;
        if let Users::One(user) = users
            && entry.user != user
        {
            if entry.user > user {
                break;
            }
            continue;
        }
        if kinds(entry.kind) {
            visit(slot, entry.user, entry.kind, SumsRef(entry.sums))?;
        }
    }
    Ok(())
}

fn live(
    connection: &Connection,
    slots: Range<i64>,
    shown: fn(u32) -> u32,
    kinds: &dyn Fn(u32) -> bool,
    visit: &mut Visit<'_>,
) -> rusqlite::Result<()> {
    each_live(connection, slots, &mut |slot, (user, kind), sums| {
        if kinds(kind) { visit(slot, shown(user), kind, SumsRef(sums)) } else { Ok(()) }
    })
}

/// One user's live rows, slot by slot: other users' are not read.
fn live_of(
    connection: &Connection,
    slots: Range<i64>,
    user: u32,
    kinds: &dyn Fn(u32) -> bool,
    visit: &mut Visit<'_>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT kind, sums FROM rollup_live WHERE slot = ? AND shard = ? AND user = ?",
    )?;
    let mut from = slots.start;
    while let Some(slot) = next_live(connection, from..slots.end)? {
        let mut rows = select.query((slot, shard_of(user), user))?;
        while let Some(row) = rows.next()? {
            let kind = row.get(0)?;
            if kinds(kind) {
                let sums = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                visit(slot, user, kind, SumsRef(sums))?;
            }
        }
        from = slot + 1;
    }
    Ok(())
}

/// Takes a live row's slot, user and kind, and sums.
pub(super) type VisitLive<'v> = dyn FnMut(i64, Place, &[u8]) -> rusqlite::Result<()> + 'v;

/// Shows live rows in their order.
pub(super) fn each_live(
    connection: &Connection,
    slots: Range<i64>,
    visit: &mut VisitLive<'_>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT slot, user, kind, sums FROM rollup_live WHERE slot >= ? AND slot < ?
         ORDER BY slot, shard, user, kind",
    )?;
    let mut rows = select.query([slots.start, slots.end])?;
    while let Some(row) = rows.next()? {
        let sums = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
        visit(row.get(0)?, (row.get(1)?, row.get(2)?), sums)?;
    }
    Ok(())
}

/// The first slot with live rows in a range.
pub(super) fn next_live(
    connection: &Connection,
    slots: Range<i64>,
) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached(
        "SELECT slot FROM rollup_live WHERE slot >= ? AND slot < ? ORDER BY slot LIMIT 1",
    )?;
    select.query_row([slots.start, slots.end], |row| row.get(0)).optional()
}
