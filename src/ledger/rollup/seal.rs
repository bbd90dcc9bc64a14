//! Moves finished half hours from live rows into packs. Owns how much is moved at once.
//!
//! Rows are taken in the order in which they stand, and each goes into its nine packs at once: of its
//! user's shard and of everybody, by slot and by day, and by class. So a seal may stop anywhere, and packs of days
//! are whole at any time.
//!
//! Invariant: a row leaves the live rows in the transaction that puts it into all its packs.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::codec;
use super::pack::{Entries, Key};
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
    let mut packs: BTreeMap<Key, Entries> = BTreeMap::new();
    let (mut cost, mut moved, mut last, mut more) = (0, 0, None, false);
    let mut select = transaction.prepare_cached(
        "SELECT slot, shard, user, kind, sums, coalesce(class, kind)
         FROM rollup_live LEFT JOIN kinds ON kinds.id = kind WHERE slot < ?
         ORDER BY slot, shard, user, kind",
    )?;
    let mut rows = select.query([now_slot.saturating_sub(RECENT)])?;
    while let Some(row) = rows.next()? {
        if cost >= budget && moved >= at_least {
            more = true;
            break;
        }
        let (slot, shard, user, kind) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let sums = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        for (key, place) in Key::all_of(slot, user, kind, row.get(5)?) {
            if !packs.contains_key(&key) {
                cost += PACK + key.length(transaction)?;
            }
            let entries = packs.entry(key).or_default();
            codec::add_to(sums, entries.entry(place).or_default())?;
        }
        cost += ROW;
        last = Some((slot, shard, user, kind));
        moved += 1;
    }
    drop(rows);
    let Some(last): Option<(i64, u32, u32, u32)> = last else { return Ok(false) };
    let mut out = Vec::new();
    packs.iter().try_for_each(|(key, entries)| key.add(transaction, entries, &mut out))?;
    let mut delete = transaction.prepare_cached(
        "DELETE FROM rollup_live WHERE (slot, shard, user, kind) <= (?, ?, ?, ?)",
    )?;
    delete.execute(last)?;
    Ok(more)
}
