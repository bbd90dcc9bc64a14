//! Rows that are too old, taken out while their sums stay, and the room they took given back. Owns since
//! when there are rows, and the pace; knows nothing of threads.
//!
//! Invariant: a moment is in `rows_since` before the first row older than it is deleted, and no row
//! older than it is added again: its sums are there already.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::layout::KEY_BITS;
use super::names::Names;
use super::postings;
use super::rollup::{SLOT_MS, slot_of};
use crate::units::Timestamp;

/// How often rows are looked for that have become too old.
const LOOK: Duration = Duration::from_mins(1);

/// How long rows are deleted in one step: recording waits for it. To forget sessions takes longer, because the
/// lists of all are read; that is done once for all rows that have gone, or once for each [`SESSIONS`] of them.
const STEP: Duration = Duration::from_millis(20);

/// Rows deleted in one transaction.
const ROWS: u32 = 200;

/// Charges looked at in one step, and how long they are kept at least: providers hand answers out for
/// thirty days, and a row that is gone cannot be charged instead.
const CHARGES: u32 = 500;
const CHARGES_DAYS: u32 = 60;

/// Stands in `ledger_state` while rows are gone whose sessions' names may have to go too.
const LEFT: &str = "thinned";

/// Sessions that are held in memory, or looked at in one step: of more of them, all are looked at, part by part.
const SESSIONS: u16 = 50_000;

/// Pages given back in one step, once so many are free that inserts will not use them soon.
const PAGES: u32 = 64;
const FREE_PAGES: i64 = 4_000;

const DAY_MS: i64 = 86_400_000;

/// Deletes what is too old, a little at a time.
#[derive(Debug)]
pub(super) struct Retention {
    /// `None`: rows stay for ever.
    days: Option<u32>,
    looked: Option<Instant>,
    /// How far the charges have been looked at, and whether that was to the end.
    charges: Option<Vec<u8>>,
    swept: bool,
    /// Sessions that have lost rows, and perhaps their last; nothing where no row has gone.
    thinned: Option<BTreeSet<i64>>,
    /// Behind which session to go on where all are looked at, because a process before has left some, or
    /// because they are too many; nothing where none are left.
    left: Option<i64>,
    has_begun: bool,
    /// [`SESSIONS`].
    sessions: u16,
}

impl Retention {
    pub(super) fn new(days: Option<u32>) -> Retention {
        Retention {
            days,
            looked: None,
            charges: None,
            swept: false,
            thinned: None,
            left: None,
            has_begun: false,
            sessions: SESSIONS,
        }
    }

    /// Does a little of what there is to do; answers whether more is left.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        names: &mut Names,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let Some(days) = self.days else { return Ok(false) };
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(false);
        }
        let floor = |days: u32| slot_of(now.millis() - i64::from(days) * DAY_MS).max(0) * SLOT_MS;
        if !self.has_begun {
            self.left = is_left(connection)?.then_some(0);
            self.has_begun = true;
        }
        let begun = Instant::now();
        loop {
            let is_more_to_delete = delete_rows(connection, &mut self.thinned, floor(days))?;
            let held = self.thinned.as_ref().map_or(0, BTreeSet::len);
            if held > usize::from(self.sessions) {
                (self.thinned, self.left) = (None, Some(0));
            }
            if !is_more_to_delete {
                break;
            }
            if begun.elapsed() > STEP {
                return Ok(true);
            }
        }
        if let Some(from) = self.left {
            let (key, is_last) = (floor(days) << KEY_BITS, self.thinned.is_none());
            self.left = forget_left(connection, from, self.sessions, key, is_last)?;
            names.forget_sessions();
            return Ok(true);
        }
        if let Some(thinned) = self.thinned.take() {
            forget_lists(connection, thinned, floor(days) << KEY_BITS, true)?;
            names.forget_sessions();
            return Ok(true);
        }
        if !self.swept {
            let before = floor(days.max(CHARGES_DAYS));
            let from = self.charges.take().unwrap_or_default();
            self.charges = forget_charges(connection, before, &from)?;
            self.swept = self.charges.is_none();
            return Ok(true);
        }
        if give_back(connection, FREE_PAGES)? {
            return Ok(true);
        }
        (self.looked, self.swept) = (Some(Instant::now()), false);
        Ok(false)
    }
}

/// Since when there are rows, where older ones have been deleted: the beginning of a half hour.
pub(super) fn rows_since(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT value FROM ledger_state WHERE name = 'rows_since'";
    let mut find = connection.prepare_cached(sql)?;
    let since: Option<i64> = find.query_row([], |row| row.get(0)).optional()?;
    Ok(since.map(Timestamp::from_millis))
}

/// Deletes some rows older than a moment; answers whether there may be more.
fn delete_rows(
    connection: &Connection,
    thinned: &mut Option<BTreeSet<i64>>,
    floor: i64,
) -> rusqlite::Result<bool> {
    let oldest = connection
        .prepare_cached("SELECT min(key) FROM calls")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))?;
    if oldest.is_none_or(|oldest| oldest >> KEY_BITS >= floor) {
        return Ok(false);
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction
        .prepare_cached(
            "INSERT INTO ledger_state (name, value) VALUES ('rows_since', ?1)
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        )?
        .execute([floor])?;
    // Should this process end before the names of their sessions are looked at.
    transaction
        .prepare_cached("INSERT OR IGNORE INTO ledger_state (name, value) VALUES (?, 1)")?
        .execute([LEFT])?;
    let deleted = {
        let mut delete = transaction.prepare_cached(
            "DELETE FROM calls WHERE key IN
                (SELECT key FROM calls WHERE key < ?1 ORDER BY key LIMIT ?2) RETURNING session",
        )?;
        let mut rows = delete.query(params![floor << KEY_BITS, ROWS])?;
        let mut deleted = 0;
        while let Some(row) = rows.next()? {
            thinned.get_or_insert_default().extend(row.get::<_, Option<i64>>(0)?);
            deleted += 1;
        }
        deleted
    };
    transaction.commit()?;
    Ok(deleted == ROWS)
}

/// Whether rows were deleted and the names of their sessions not looked at.
fn is_left(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare("SELECT 1 FROM ledger_state WHERE name = ?")?.exists([LEFT])
}

/// Looks at the names of the next `most` sessions; answers where to go on, or nothing at the end. `is_last`: then
/// none are left to look at.
fn forget_left(
    connection: &Connection,
    from: i64,
    most: u16,
    floor: i64,
    is_last: bool,
) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT id FROM sessions WHERE id > ? ORDER BY id LIMIT ?";
    let mut select = connection.prepare(sql)?;
    let some = select.query_map(params![from, most], |row| row.get(0))?;
    let some: BTreeSet<i64> = some.collect::<rusqlite::Result<_>>()?;
    let last = some.last().copied();
    forget_lists(connection, some, floor, last.is_none() && is_last)?;
    Ok(last)
}

/// Forgets what only rows below a key had: lists that lead nowhere, and the names of these sessions. Users stay,
/// because sums name them.
fn forget_lists(
    connection: &Connection,
    sessions: BTreeSet<i64>,
    floor: i64,
    is_all: bool,
) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    postings::drop_before(&transaction, floor)?;
    match postings::forget_sessions(&transaction, sessions, floor) {
        // Rows must not wait because lists, which can be made again, are damaged.
        Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => tracing::error!("{error}"),
        forgotten => forgotten?,
    }
    if is_all {
        transaction.execute("DELETE FROM ledger_state WHERE name = ?", [LEFT])?;
    }
    transaction.commit()
}

/// Forgets charges of calls that began before a moment, from a key on; answers where to go on, or
/// nothing at the end.
fn forget_charges(
    connection: &Connection,
    before: i64,
    from: &[u8],
) -> rusqlite::Result<Option<Vec<u8>>> {
    // An id begins with its time, in 48 bits.
    let [_, _, floor @ ..] = before.max(0).to_be_bytes();
    let mut select = connection
        .prepare_cached("SELECT key, call_id FROM charged WHERE key > ?1 ORDER BY key LIMIT ?2")?;
    let mut rows = select.query(params![from, CHARGES])?;
    let (mut old, mut last, mut seen) = (Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        let key: Vec<u8> = row.get(0)?;
        if row.get_ref(1)?.as_blob()? < &floor[..] {
            old.push(key.clone());
        }
        (last, seen) = (Some(key), seen + 1);
    }
    drop(rows);
    if !old.is_empty() {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let mut delete = transaction.prepare_cached("DELETE FROM charged WHERE key = ?")?;
        for key in old {
            delete.execute([key])?;
        }
        drop(delete);
        transaction.commit()?;
    }
    Ok(last.filter(|_| seen == CHARGES))
}

/// Gives some free pages back to the file system, but for `spare` of them; answers whether there are more to give.
fn give_back(connection: &Connection, spare: i64) -> rusqlite::Result<bool> {
    let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free <= spare {
        return Ok(false);
    }
    // It gives back a page a step.
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut pages = vacuum.query([])?;
    while pages.next()?.is_some() {}
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::tests::call;
    use crate::ledger::{Loader, schema};

    #[test]
    fn sessions_whose_rows_went_before_a_crash_are_forgotten_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenmeter.db");
        let mut load = Loader::open(&path).unwrap();
        let now = Timestamp::now();
        for (at, session) in [(1, "old"), (2, "both"), (now.millis(), "both"), (3, "gone")] {
            let mut record = call(at);
            record.session = Some(session.to_owned());
            load.add(record).unwrap();
        }
        load.finish().unwrap();
        let connection = schema::open_writer(&path).unwrap();
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert!(!delete_rows(&connection, &mut None, DAY_MS).unwrap());
        let sessions = "SELECT count(*) FROM sessions";
        assert_eq!((count("SELECT count(*) FROM calls"), count(sessions)), (1, 3));
        let mut retention = Retention::new(Some(1));
        while retention.step(&connection, &mut Names::default(), now).unwrap() {}
        assert_eq!(count(sessions), 1);
        assert!(!is_left(&connection).unwrap());
    }

    #[test]
    fn more_sessions_than_are_held_are_forgotten_part_by_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenmeter.db");
        let mut load = Loader::open(&path).unwrap();
        let now = Timestamp::now();
        for at in 0..500 {
            let mut record = call(at);
            record.session = Some(format!("session {at}"));
            load.add(record).unwrap();
        }
        for session in ["session 7", "of today"] {
            let mut record = call(now.millis());
            record.session = Some(session.to_owned());
            load.add(record).unwrap();
        }
        load.finish().unwrap();
        let connection = schema::open_writer(&path).unwrap();
        let mut retention = Retention { sessions: 20, ..Retention::new(Some(1)) };
        let (mut most, mut parts) = (0, 0);
        while retention.step(&connection, &mut Names::default(), now).unwrap() {
            most = most.max(retention.thinned.as_ref().map_or(0, BTreeSet::len));
            parts += u32::from(retention.left.is_some_and(|from| from > 0));
        }
        assert!(most <= 20, "{most}");
        assert!(parts > 20, "{parts}");
        let mut names = connection.prepare("SELECT name FROM sessions ORDER BY id").unwrap();
        let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let names: Vec<_> = names.map(Result::unwrap).collect();
        assert_eq!(names, ["session 7", "of today"]);
        assert!(!is_left(&connection).unwrap());
    }

    #[test]
    fn the_room_of_deleted_rows_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenmeter.db");
        let mut load = Loader::open(&path).unwrap();
        for at in 0..3000 {
            load.add(call(at)).unwrap();
        }
        load.finish().unwrap();
        let connection = schema::open_writer(&path).unwrap();
        let pages = || -> i64 {
            connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
        };
        let before = pages();
        while delete_rows(&connection, &mut None, DAY_MS).unwrap() {}
        assert_eq!(pages(), before);
        while give_back(&connection, 10).unwrap() {}
        assert!(pages() < before / 2, "{} of {before}", pages());
    }
}
