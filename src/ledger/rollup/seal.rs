//! Moves finished half hours from live rows into packs. Owns how much is moved at once.
//!
//! Rows are taken in the order in which they stand, and each goes into its nine packs at once: of its
//! user's shard and of everybody, by slot and by day, and by class. So a seal may stop anywhere, and packs of days
//! are whole at any time.
//!
//! Invariant: a row leaves the live rows in the transaction that puts it into all its packs.

use std::borrow::Cow;
use std::collections::btree_map::Entry::Vacant;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::codec;
use super::pack::{Entries, Key, Level, Place};
use super::slot_of;
use crate::units::Timestamp;

/// What one transaction may cost: bytes of packs that are written anew, and what else there is to do
/// expressed in such bytes. Keeps whoever wants to write waiting for some 50 ms.
const BUDGET: usize = 4 << 20;

/// A live row costs as much as this many bytes.
const ROW: usize = 400;

/// And a pack, besides those that it has.
const PACK: usize = 1_600;

/// Rows that are moved at least, however large their packs: live rows must become fewer.
const LEAST: usize = 1_000;

/// Slots before that of now that stay live, because calls that began in them are still ending.
const RECENT: i64 = 1;

/// Seals slots that ended a while before `now_slot`, in a transaction of its own, which is kept short;
/// answers whether more is left.
pub(in crate::ledger) fn seal(connection: &Connection, now_slot: i64) -> rusqlite::Result<bool> {
    if !is_due(connection, now_slot)? {
        return Ok(false);
    }
    let behavior = TransactionBehavior::Immediate;
    let transaction = Transaction::new_unchecked(connection, behavior)?;
    let more = step(&transaction, now_slot, BUDGET, LEAST)?;
    transaction.commit()?;
    Ok(more)
}

/// Seals all that has ended by now, in transactions that are kept short.
pub(in crate::ledger) fn seal_all(connection: &Connection) -> rusqlite::Result<()> {
    let now = slot_of(Timestamp::now().millis());
    while seal(connection, now)? {}
    Ok(())
}

fn is_due(connection: &Connection, now_slot: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM rollup_live WHERE slot < ?";
    connection.prepare_cached(sql)?.exists([now_slot.saturating_sub(RECENT)])
}

/// Moves rows until that costs `budget`, and at least so many; answers whether more is left.
pub(super) fn step(
    transaction: &Transaction<'_>,
    now_slot: i64,
    budget: usize,
    at_least: usize,
) -> rusqlite::Result<bool> {
    let mut moved = Moved::default();
    let (mut cost, mut count, mut last, mut more) = (0, 0, None, false);
    let mut select = transaction.prepare_cached(
        "SELECT slot, shard, user, kind, sums, coalesce(class, kind)
         FROM rollup_live LEFT JOIN kinds ON kinds.id = kind WHERE slot < ?
         ORDER BY slot, shard, user, kind",
    )?;
    let mut rows = select.query([now_slot.saturating_sub(RECENT)])?;
    while let Some(row) = rows.next()? {
        if cost >= budget && count >= at_least {
            more = true;
            break;
        }
        let (slot, shard, user, kind) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let sums = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        for key in moved.take(slot, (user, kind), row.get(5)?, sums)? {
            cost += PACK + key.length(transaction)?;
        }
        cost += ROW;
        last = Some((slot, shard, user, kind));
        count += 1;
    }
    drop(rows);
    let Some(last): Option<(i64, u32, u32, u32)> = last else { return Ok(false) };
    moved.put(transaction)?;
    let mut delete = transaction.prepare_cached(
        "DELETE FROM rollup_live WHERE (slot, shard, user, kind) <= (?, ?, ?, ?)",
    )?;
    delete.execute(last)?;
    Ok(more)
}

/// What is moved, on its way into packs.
#[derive(Default)]
struct Moved {
    /// Users' slots, of which all other packs are made.
    slots: BTreeMap<Key, Entries>,
    /// The packs that will be written.
    keys: BTreeSet<Key>,
    classes: HashMap<u32, u32, RandomState>,
}

/// Packs to be written. Those of a day that has one slot of what is moved, as it mostly is, are those of the slot.
type Packs<'a> = BTreeMap<Key, Cow<'a, Entries>>;

impl Moved {
    /// Takes a live row; answers the packs that it is the first of.
    fn take(
        &mut self,
        slot: i64,
        place: Place,
        class: u32,
        sums: &[u8],
    ) -> rusqlite::Result<Vec<Key>> {
        let (user, kind) = place;
        self.classes.insert(kind, class);
        let keys = Key::all_of(slot, user);
        let [of_user, ..] = keys;
        let is_new = !self.slots.contains_key(&of_user);
        codec::add_to(sums, self.slots.entry(of_user).or_default().entry(place).or_default())?;
        if !is_new {
            return Ok(Vec::new());
        }
        Ok(keys.into_iter().filter(|key| self.keys.insert(*key)).collect())
    }

    /// Adds all of it to its packs, in the order of their table.
    fn put(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let of_class =
            |(user, kind): Place| (user, self.classes.get(&kind).copied().unwrap_or(kind));
        let of_all = |(_, kind): Place| (0, kind);
        let slots: Packs<'_> =
            self.slots.iter().map(|(key, entries)| (*key, Cow::Borrowed(entries))).collect();
        let days = gathered(&slots, |key| key.at(Level::Day), None);
        let class_days = gathered(&days, |key| key.at(Level::ClassDay), Some(&of_class));
        let class_spans = gathered(&class_days, |key| key.at(Level::ClassSpan), None);
        let all_slots = gathered(&slots, |key| Key { shard: 0, ..key }, Some(&of_all));
        let all_days = gathered(&all_slots, |key| key.at(Level::Day), None);
        let all_class_slots = gathered(&all_slots, |key| key.at(Level::ClassSlot), Some(&of_class));
        let all_class_days = gathered(&all_class_slots, |key| key.at(Level::ClassDay), None);
        let all_class_spans = gathered(&all_class_days, |key| key.at(Level::ClassSpan), None);
        let users = [&slots, &days, &class_days, &class_spans];
        let all = [&all_slots, &all_days, &all_class_slots, &all_class_days, &all_class_spans];
        let mut packs: Vec<(&Key, &Cow<'_, Entries>)> =
            users.into_iter().chain(all).flatten().collect();
        packs.sort_unstable_by_key(|(key, _)| **key);
        let mut out = Vec::new();
        packs.into_iter().try_for_each(|(key, entries)| key.add(transaction, entries, &mut out))
    }
}

/// Packs of other keys made of packs, with other places where there is a rule for that.
fn gathered<'a>(
    packs: &'a Packs<'_>,
    key: impl Fn(Key) -> Key,
    place: Option<&dyn Fn(Place) -> Place>,
) -> Packs<'a> {
    let mut all = Packs::new();
    for (of, entries) in packs {
        let gathered = all.entry(key(*of));
        if let (Vacant(_), None) = (&gathered, place) {
            gathered.or_insert(Cow::Borrowed(&**entries));
            continue;
        }
        let gathered = gathered.or_default().to_mut();
        for (from, sums) in &**entries {
            gathered.entry(place.map_or(*from, |place| place(*from))).or_default().merge(sums);
        }
    }
    all
}
