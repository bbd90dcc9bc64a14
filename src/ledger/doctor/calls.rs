//! The rows one by one in the order of time, what they name, and the sums against them. Owns that walk;
//! knows no journal.
//!
//! Invariant: memory is bounded by what half an hour has of users and kinds, and a bit for each name.

use std::collections::BTreeMap;
use std::ops::Range;

use rusqlite::{Connection, Row};

use super::Watch;
use super::finding::{Check, Finding};
use super::names::{self, Numbers};
use crate::ledger::layout::{FROM_CALLS, KEY_BITS, LATEST_MS, columns};
use crate::ledger::postings;
use crate::ledger::rollup::{self, Disagreement, SLOT_MS, Sums};
use crate::ledger::{retention, row};
use crate::record::{CallId, Record};
use crate::units::Timestamp;

/// How often a long walk says how far it is.
const SAY: u64 = 10_000;

/// What the walk came to.
pub(super) struct Walked {
    pub(super) rows: u64,
    pub(super) findings: Vec<Finding>,
}

/// A row as the walk meets it.
pub(super) struct Met {
    pub(super) key: i64,
    pub(super) kind: u32,
    pub(super) user: u32,
    pub(super) record: rusqlite::Result<Record>,
}

/// Shows every row with a key of at least `from`, in the order of time.
pub(super) fn each(
    connection: &Connection,
    from: i64,
    watch: &mut Watch<'_>,
    see: &mut dyn FnMut(&Row<'_>, &Met) -> rusqlite::Result<()>,
) -> rusqlite::Result<u64> {
    // Only to say how far it is.
    let total = count(connection, "calls").unwrap_or_default();
    let sql = format!(
        "SELECT {}, calls.key, calls.kind, calls.user, kinds.id, users.id, calls.session,
            sessions.id, calls.path, calls.usage_shape, calls.estimate_shape, calls.id
         {FROM_CALLS} WHERE calls.key >= ? ORDER BY calls.key",
        columns()
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([from])?;
    let mut seen = 0_u64;
    while let Some(found) = rows.next()? {
        let behind = row::WIDTH;
        let met = Met {
            key: found.get(behind)?,
            // A number that none of ours could be is as good as one that does not exist.
            kind: found.get(behind + 1).unwrap_or_default(),
            user: found.get::<_, Option<u32>>(behind + 2).ok().flatten().unwrap_or_default(),
            record: row::read(found),
        };
        see(found, &met)?;
        seen += 1;
        if seen.is_multiple_of(SAY) {
            watch("reading rows", seen, total);
        }
    }
    watch("reading rows", seen, total);
    Ok(seen)
}

fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM {table}");
    let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(super) fn examine(connection: &Connection, watch: &mut Watch<'_>) -> Walked {
    let mut walk = Walk::new(connection);
    let rows = walk.run(watch).unwrap_or_else(|error| {
        walk.rows.failed(&error);
        walk.met
    });
    if let Err(error) = check_ids(connection, rows, &mut walk.ids) {
        walk.ids.failed(&error);
    }
    let mut packs = Finding::new(Check::Packs);
    watch("comparing sums", 0, 0);
    if let Err(error) = check_packs(connection, &mut packs) {
        packs.failed(&error);
    }
    let mut lists = Finding::new(Check::Postings);
    watch("looking for each call", 0, 0);
    let looked = postings::examine(connection, &mut |said| lists.note(|| said));
    if let Err(error) = looked {
        lists.failed(&error);
    }
    let Walk { kinds, numbers, rows: unreadable, ids, sums, .. } = walk;
    Walked { rows, findings: vec![kinds, numbers, unreadable, ids, sums, packs, lists] }
}

struct Walk<'c> {
    connection: &'c Connection,
    tables: Tables,
    met: u64,
    kinds: Finding,
    numbers: Finding,
    rows: Finding,
    ids: Finding,
    sums: Finding,
    /// The half hour that is being added up.
    slot: i64,
    of_slot: BTreeMap<(u32, u32), Sums>,
    /// A row of it could not be read, so that nobody knows what it comes to.
    is_vague: bool,
}

/// What rows name by a number.
#[derive(Default)]
struct Tables {
    kinds: Numbers,
    users: Numbers,
    paths: Numbers,
    shapes: Numbers,
}

impl Tables {
    fn read(connection: &Connection) -> rusqlite::Result<Tables> {
        Ok(Tables {
            kinds: Numbers::read(connection, "kinds")?,
            users: Numbers::read(connection, "users")?,
            paths: Numbers::read(connection, "paths")?,
            shapes: Numbers::read(connection, "shapes")?,
        })
    }
}

impl<'c> Walk<'c> {
    fn new(connection: &'c Connection) -> Walk<'c> {
        Walk {
            connection,
            tables: Tables::default(),
            met: 0,
            kinds: Finding::new(Check::Kinds),
            numbers: Finding::new(Check::Numbers),
            rows: Finding::new(Check::Rows),
            ids: Finding::new(Check::Ids),
            sums: Finding::new(Check::Sums),
            slot: i64::MIN,
            of_slot: BTreeMap::new(),
            is_vague: false,
        }
    }

    fn run(&mut self, watch: &mut Watch<'_>) -> rusqlite::Result<u64> {
        if let Err(error) = names::check_kinds(self.connection, &mut self.kinds) {
            self.kinds.failed(&error);
        }
        self.tables = Tables::read(self.connection)?;
        let since = retention::rows_since(self.connection)?;
        let first = since.map_or(i64::MIN, |since| rollup::slot_of(since.millis()));
        self.slot = first;
        // What stands before is on its way out, and its sums stay as they are.
        let from = since.map_or(i64::MIN, |since| since.millis() << KEY_BITS);
        let connection = self.connection;
        each(connection, from, watch, &mut |row, met| {
            self.see(row, met);
            Ok(())
        })?;
        self.compare_slot();
        self.compare_without_rows(self.slot.saturating_add(1)..i64::MAX);
        self.check_old(first);
        count(connection, "calls NOT INDEXED")
    }

    fn see(&mut self, row: &Row<'_>, met: &Met) {
        self.met += 1;
        let slot = rollup::slot_of(met.key >> KEY_BITS);
        if slot != self.slot {
            self.compare_slot();
            self.compare_without_rows(self.slot.saturating_add(1)..slot);
            self.slot = slot;
        }
        if !(0..=LATEST_MS).contains(&(met.key >> KEY_BITS)) {
            self.ids.note(|| format!("the key {} is no time", met.key));
        }
        self.check_numbers(row, met);
        match &met.record {
            Ok(record) => self.of_slot.entry((met.user, met.kind)).or_default().add(record),
            Err(error) => {
                self.is_vague = true;
                self.rows.note(|| format!("{}: {error}", named(row, met.key)));
            }
        }
    }

    fn check_numbers(&mut self, row: &Row<'_>, met: &Met) {
        let behind = row::WIDTH + 3;
        let number = |at: usize| row.get::<_, Option<i64>>(behind + at).ok().flatten();
        let mut missing = Vec::new();
        if number(0).is_none() {
            missing.push(format!("kind {}", met.kind));
        }
        if met.user != 0 && number(1).is_none() {
            missing.push(format!("user {}", met.user));
        }
        if let (Some(session), None) = (number(2), number(3)) {
            missing.push(format!("session {session}"));
        }
        if let Some(path) = number(4).filter(|path| !self.tables.paths.has(*path)) {
            missing.push(format!("path {path}"));
        }
        for shape in [number(5), number(6)].into_iter().flatten() {
            if !self.tables.shapes.has(shape) {
                missing.push(format!("shape {shape}"));
            }
        }
        for what in missing {
            self.numbers.note(|| format!("{}: there is no {what}", named(row, met.key)));
        }
    }

    /// The half hour's rows against its sums.
    fn compare_slot(&mut self) {
        let mut of_rows = std::mem::take(&mut self.of_slot);
        let is_vague = std::mem::take(&mut self.is_vague);
        if self.slot == i64::MIN || is_vague {
            return;
        }
        let (slot, found) = (self.slot, &mut self.sums);
        let compared =
            rollup::truth(self.connection, slot..slot + 1, &mut |_, user, kind, sums| {
                let of_rows = of_rows.remove(&(user, kind)).unwrap_or_default();
                if of_rows != *sums {
                    found.note(|| difference(slot, user, kind, sums, &of_rows));
                }
                Ok(())
            });
        if let Err(error) = compared {
            found.note(|| format!("{}: {error}", time(slot)));
            return;
        }
        of_rows.retain(|_, sums| !sums.is_zero());
        for ((user, kind), of_rows) in of_rows {
            found.note(|| difference(slot, user, kind, &Sums::default(), &of_rows));
        }
    }

    /// Half hours that have no row must have no sums.
    fn compare_without_rows(&mut self, slots: Range<i64>) {
        let found = &mut self.sums;
        let none = Sums::default();
        let compared = rollup::truth(self.connection, slots, &mut |slot, user, kind, sums| {
            found.note(|| difference(slot, user, kind, sums, &none));
            Ok(())
        });
        if let Err(error) = compared {
            found.failed(&error);
        }
    }

    /// Sums whose rows are gone: their kinds and users must exist, and nothing else can be said.
    fn check_old(&mut self, first: i64) {
        let (found, tables) = (&mut self.numbers, &self.tables);
        let read = rollup::truth(self.connection, i64::MIN..first, &mut |slot, user, kind, _| {
            if !tables.kinds.has(kind.into()) {
                found.note(|| format!("the sums of {}: there is no kind {kind}", time(slot)));
            }
            if user != 0 && !tables.users.has(user.into()) {
                found.note(|| format!("the sums of {}: there is no user {user}", time(slot)));
            }
            Ok(())
        });
        if let Err(error) = read {
            self.sums.failed(&error);
        }
    }
}

fn difference(slot: i64, user: u32, kind: u32, sums: &Sums, rows: &Sums) -> String {
    let figures = |sums: &Sums| {
        let tokens = sums.tokens().last().copied().unwrap_or_default();
        format!("{} calls, {tokens} tokens, {} nano-dollars", sums.requests(), sums.nanos())
    };
    let (at, said, is) = (time(slot), figures(sums), figures(rows));
    format!("{at}, user {user}, kind {kind}: sums say {said}, rows say {is}")
}

fn time(slot: i64) -> Timestamp {
    Timestamp::from_millis(slot.saturating_mul(SLOT_MS))
}

/// A row by its id, or by its key where it has none.
fn named(row: &Row<'_>, key: i64) -> String {
    let id: Option<[u8; 16]> = row.get(row::WIDTH + 10).ok();
    id.map_or_else(|| format!("key {key}"), |id| CallId::from_bytes(id).to_string())
}

/// Ids in the order of their index: as many as there are rows, and no two the same.
fn check_ids(connection: &Connection, rows: u64, found: &mut Finding) -> rusqlite::Result<()> {
    let sql = "SELECT id FROM calls INDEXED BY calls_by_id ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let mut ids = statement.query([])?;
    let (mut last, mut count) = ([0; 16], 0_u64);
    while let Some(row) = ids.next()? {
        let id = row.get_ref(0)?.as_blob().unwrap_or_default();
        match <[u8; 16]>::try_from(id) {
            Ok(id) if count > 0 && id == last => {
                found.note(|| format!("{} is there twice", CallId::from_bytes(id)));
            }
            Ok(id) => last = id,
            Err(_) => found.note(|| format!("an id has {} bytes", id.len())),
        }
        count += 1;
    }
    if count != rows {
        found.note(|| format!("there are {rows} rows and {count} ids"));
    }
    Ok(())
}

fn check_packs(connection: &Connection, found: &mut Finding) -> rusqlite::Result<()> {
    rollup::disagreements(connection, &mut |wrong: Disagreement| {
        found.note(|| {
            let what = if wrong.is_damaged { "cannot be read" } else { "differs from its parts" };
            let of = if wrong.is_day() { "day" } else { "half hour" };
            format!("{of} {}, shard {}: {what}", time(wrong.slot), wrong.shard)
        });
    })?;
    let misplaced = rollup::misplaced(connection)?;
    for _ in 0..misplaced {
        found.note(|| "a sum stands where nobody looks for its user".to_owned());
    }
    Ok(())
}
