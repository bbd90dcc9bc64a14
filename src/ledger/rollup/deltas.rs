//! What one transaction adds to the sums and takes back. Owns writing live rows; knows no packs.
//!
//! Invariant: a flush is part of the transaction that changes the records themselves, so that neither
//! is ever without the other.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::codec;
use super::sums::Sums;
use super::{shard_of, slot_of};
use crate::record::Record;

/// A live row's key: slot, shard, user, kind.
type Key = (i64, u32, u32, u32);

/// Changes to the sums that are not in the database yet.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Deltas(HashMap<Key, Sums, RandomState>);

impl Deltas {
    /// Counts a call of a user (0 for none) and kind.
    pub(in crate::ledger) fn add(&mut self, user: u32, kind: u32, record: &Record) {
        self.sums(user, kind, record).add(record);
    }

    /// Takes back a call that was counted. All three must be as they were then.
    pub(in crate::ledger) fn remove(&mut self, user: u32, kind: u32, record: &Record) {
        self.sums(user, kind, record).remove(record);
    }

    /// How many slots, users and kinds are changed: some 400 bytes of memory each.
    #[cfg(test)]
    pub(in crate::ledger) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets everything, for the next transaction.
    #[cfg(test)]
    pub(in crate::ledger) fn clear(&mut self) {
        self.0.clear();
    }

    /// Puts the changes into the database. They stay here, should the transaction have to be repeated.
    pub(in crate::ledger) fn flush(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut select = transaction.prepare_cached(
            "SELECT sums FROM rollup_live WHERE slot = ? AND shard = ? AND user = ? AND kind = ?",
        )?;
        let mut put = transaction.prepare_cached(
            "INSERT OR REPLACE INTO rollup_live (slot, shard, user, kind, sums)
             VALUES (?, ?, ?, ?, ?)",
        )?;
        let mut delete = transaction.prepare_cached(
            "DELETE FROM rollup_live WHERE slot = ? AND shard = ? AND user = ? AND kind = ?",
        )?;
        let changed = self.0.iter().filter(|(_, sums)| !sums.is_zero());
        let mut changed: Vec<(&Key, &Sums)> = changed.collect();
        changed.sort_unstable_by_key(|(key, _)| **key);
        let mut bytes = Vec::new();
        for (key, sums) in changed {
            let found = select.query_row(*key, |row| {
                let mut merged = sums.clone();
                let there = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                if codec::add_to(there, &mut merged).is_err() {
                    // Rows must not wait for ever because sums, which can be made again, are damaged.
                    tracing::error!(
                        slot = key.0,
                        "sums are damaged; `tokenmeter doctor` mends them"
                    );
                    merged.clone_from(sums);
                }
                Ok(merged)
            });
            let merged = found.optional()?;
            let sums = merged.as_ref().unwrap_or(sums);
            if sums.is_zero() {
                delete.execute(*key)?;
                continue;
            }
            bytes.clear();
            codec::put(&mut bytes, sums);
            let (slot, shard, user, kind) = *key;
            put.execute((slot, shard, user, kind, &bytes[..]))?;
        }
        Ok(())
    }

    fn sums(&mut self, user: u32, kind: u32, record: &Record) -> &mut Sums {
        let slot = slot_of(record.created_at.millis());
        self.0.entry((slot, shard_of(user), user, kind)).or_default()
    }
}

/// Forgets all sums, so that they can be made again from the records.
pub(in crate::ledger) fn clear(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM rollup_live; DELETE FROM rollup_pack;")
}
