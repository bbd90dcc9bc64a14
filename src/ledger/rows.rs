//! Rows as they are written, within one transaction: added, replaced, and what follows from that. Owns
//! that sums keep step with rows; knows nothing of the journal.
//!
//! Invariant: whatever is done to a row here is done to the sums in the same transaction.

use std::borrow::Cow;
use std::sync::LazyLock;

use rusqlite::{CachedStatement, OptionalExtension, Transaction};

use super::layout::{FROM_CALLS, KEY_BITS, columns};
use super::names::Names;
use super::postings::{self, Posting};
use super::retention;
use super::rollup::Deltas;
use super::row::{self, Texts};
use crate::record::{CallId, Record};
use crate::units::Timestamp;

/// One transaction's rows.
pub(super) struct Rows<'t> {
    pub(super) transaction: &'t Transaction<'t>,
    names: &'t mut Names,
    deltas: Deltas,
    /// What rows can be found by that are new, or are something else than before.
    postings: Vec<Posting>,
    /// Prepared once, not looked up for each row.
    insert: CachedStatement<'t>,
    /// Older rows are gone, and their sums are there.
    since: Option<Timestamp>,
    /// Rows that were older.
    too_old: u64,
    /// Rows that took another's place.
    replaced: Vec<Replaced>,
}

/// A row as it was and as it is, the latter light: a batch's charges can be megabytes, and many rows wait for
/// the end of their transaction.
#[derive(Debug)]
pub(super) struct Replaced {
    pub(super) before: Record,
    pub(super) after: Record,
}

/// A row that is there.
struct Present {
    key: i64,
    kind: u32,
    user: u32,
    session: i64,
    record: Record,
}

impl<'t> Rows<'t> {
    pub(super) fn new(
        transaction: &'t Transaction<'t>,
        names: &'t mut Names,
    ) -> rusqlite::Result<Rows<'t>> {
        names.refresh(transaction)?;
        let since = retention::rows_since(transaction)?;
        let insert = transaction.prepare_cached(row::insert_sql())?;
        let (deltas, postings, replaced) = (Deltas::default(), Vec::new(), Vec::new());
        Ok(Rows { transaction, names, deltas, postings, insert, since, too_old: 0, replaced })
    }

    /// Adds a row, unless its id is there already or it is older than rows are kept; whether it was
    /// added.
    pub(super) fn insert(&mut self, record: &Record) -> rusqlite::Result<bool> {
        if self.is_gone(record) {
            self.too_old += 1;
            return Ok(false);
        }
        let key = self.names.keys.next(self.transaction, record.created_at)?;
        let posting = self.put(key, record)?;
        self.postings.extend(posting);
        Ok(posting.is_some())
    }

    /// Adds a row, or puts it in the place of the one with its id; whether it was added.
    pub(super) fn replace(&mut self, record: &Record) -> rusqlite::Result<bool> {
        let Some(present) = self.present(&record.id)? else { return self.insert(record) };
        self.deltas.remove(present.user, present.kind, &present.record);
        let Present { key, kind, user, session, .. } = present;
        let before = Posting { key, kind, user, session };
        let mut delete = self.transaction.prepare_cached("DELETE FROM calls WHERE key = ?")?;
        delete.execute([present.key])?;
        let same_time = present.key >> KEY_BITS == record.created_at.millis();
        let key = if same_time {
            present.key
        } else {
            self.names.keys.next(self.transaction, record.created_at)?
        };
        let posting = self.put(key, record)?;
        self.postings.extend(posting.filter(|posting| *posting != before));
        self.replaced.push(Replaced { before: present.record, after: record.light() });
        Ok(false)
    }

    /// Changes a row that is there; nothing if it is not.
    pub(super) fn change(
        &mut self,
        id: &CallId,
        change: impl FnOnce(&mut Record),
    ) -> rusqlite::Result<Option<Timestamp>> {
        let Some(mut present) = self.present(id)? else { return Ok(None) };
        change(&mut present.record);
        self.replace(&present.record)?;
        Ok(Some(present.record.created_at))
    }

    pub(super) fn has(&self, id: &CallId) -> rusqlite::Result<bool> {
        self.transaction
            .prepare_cached("SELECT 1 FROM calls WHERE id = ?")?
            .exists([id.into_bytes()])
    }

    fn is_gone(&self, record: &Record) -> bool {
        self.since.is_some_and(|since| record.created_at < since)
    }

    /// Whether a call had a row that has been deleted for its age.
    pub(super) fn is_retired(&self, id: &CallId) -> rusqlite::Result<bool> {
        // An id begins with its time, in 48 bits.
        let mut time = [0; 8];
        time[2..].copy_from_slice(&id.into_bytes()[..6]);
        let began = Timestamp::from_millis(i64::from_be_bytes(time));
        Ok(self.since.is_some_and(|since| began < since) && !self.has(id)?)
    }

    /// Brings the sums up to what was done. Answers how many rows were too old to be added, and which took
    /// another's place, in that order.
    pub(super) fn finish(self) -> rusqlite::Result<(u64, Vec<Replaced>)> {
        self.deltas.flush(self.transaction)?;
        postings::add(self.transaction, &self.postings)?;
        let Rows { too_old, replaced, .. } = self;
        Ok((too_old, replaced))
    }

    fn present(&self, id: &CallId) -> rusqlite::Result<Option<Present>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let columns = columns();
            format!(
                "SELECT {columns}, calls.key, calls.kind, calls.user, calls.session
                 {FROM_CALLS} WHERE calls.id = ?"
            )
        });
        let behind = row::WIDTH;
        let mut statement = self.transaction.prepare_cached(&SQL)?;
        let found = statement.query_row([id.into_bytes()], |found| {
            Ok(Present {
                key: found.get(behind)?,
                kind: found.get(behind + 1)?,
                user: found.get::<_, Option<u32>>(behind + 2)?.unwrap_or_default(),
                session: found.get::<_, Option<i64>>(behind + 3)?.unwrap_or_default(),
                record: row::read(found)?,
            })
        });
        found.optional()
    }

    /// What the row can be found by, if it was added.
    fn put(&mut self, key: i64, record: &Record) -> rusqlite::Result<Option<Posting>> {
        let record = &*dated(record, key);
        let place = self.names.place(self.transaction, record)?;
        let texts = Texts::of(record, place.kind, self.names, self.transaction)?;
        row::bind(&mut self.insert, key, record, &place, &texts)?;
        if self.insert.raw_execute()? != 1 {
            return Ok(None);
        }
        let user = place.user.unwrap_or_default();
        self.deltas.add(user, place.kind, record);
        let session = place.session.unwrap_or_default();
        Ok(Some(Posting { key, kind: place.kind, user, session }))
    }
}

/// The record with the time that its key has, as it will be read back: sums must be those of its row.
fn dated(record: &Record, key: i64) -> Cow<'_, Record> {
    let created_at = Timestamp::from_millis(key >> KEY_BITS);
    if record.created_at == created_at {
        return Cow::Borrowed(record);
    }
    Cow::Owned(Record { created_at, ..record.clone() })
}
