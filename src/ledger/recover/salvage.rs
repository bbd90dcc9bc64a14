//! Tables of a damaged database, read around what is broken. Owns how the ends of a broken stretch are
//! found; knows what no column means but a call's id and key.
//!
//! A table is read from its beginning until that fails, then from its end. What is between is halved, and
//! each half read alike, until halves give nothing any more. An index has a copy of some columns: of names
//! that is all there is to know, and of calls it says which are missing.
//!
//! Invariant: numbers stay what they were, so that whatever is saved still means what it did.

use rusqlite::types::Value;
use rusqlite::{Connection, Error, ErrorCode, Row, Transaction, params_from_iter};

use super::super::doctor::Watch;
use super::super::layout::KEY_BITS;
use super::super::postings;
use crate::record::CallId;
use crate::units::Timestamp;

/// Halvings that may give nothing before a stretch is given up: 256 attempts.
const BARREN: u32 = 8;

/// Tables that are made again from others, or from the journal.
const MADE_AGAIN: [&str; 1] = ["journal_progress"];

/// Whether a table is one of those.
fn is_made_again(name: &str) -> bool {
    MADE_AGAIN.contains(&name) || postings::NAMES.contains(&name)
}

/// Sums, of which only those are needed whose rows are gone.
const SUMS: [&str; 2] = ["rollup_live", "rollup_pack"];

/// Names, which their indexes have too.
const NAMES: [&str; 4] = ["users", "sessions", "paths", "shapes"];

/// How often a long copy says how far it is.
const SAY: u64 = 10_000;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// Of the table `calls`.
    pub(super) rows: u64,
    /// Of these, which no ledger can have.
    pub(super) rejected: u64,
    /// Calls that an index names and the table does not give.
    pub(super) missing: Vec<CallId>,
    /// Stretches that could not be read, in words.
    pub(super) gaps: Vec<String>,
}

/// Copies all that can be read.
pub(super) fn all(
    source: &Connection,
    new: &Transaction<'_>,
    watch: &mut Watch<'_>,
) -> rusqlite::Result<Salvaged> {
    let mut salvaged = Salvaged::default();
    make_other_tables(source, new)?;
    let mut names = tables(new)?;
    // What decides about the others first.
    names.sort_by_key(|name| name != "ledger_state");
    for name in names.iter().filter(|name| !is_made_again(name)) {
        if SUMS.contains(&name.as_str()) && super::super::retention::rows_since(new)?.is_none() {
            continue;
        }
        let Some(table) = Table::of(source, new, name)? else {
            salvaged.gaps.push(format!("{name}: it is not there"));
            continue;
        };
        let mut copy = Copy::new(source, new, &table, watch);
        copy.all()?;
        let (rows, rejected, gaps) = (copy.rows, copy.rejected, copy.gaps);
        if copy.has_hole {
            salvaged.gaps.push(format!("{name}: somewhere in the middle"));
        }
        if name == "calls" {
            (salvaged.rows, salvaged.rejected) = (rows, rejected);
        }
        salvaged.gaps.extend(gaps.into_iter().map(|(low, high)| match name.as_str() {
            "calls" => format!("calls, from {} to {}", time(low), time(high)),
            name => format!("{name}, from number {low} to {high}"),
        }));
    }
    for name in NAMES {
        names_from_index(source, new, name)?;
    }
    second_chance(source, new, &mut salvaged)?;
    Ok(salvaged)
}

/// Tables that a newer or another program added: they are kept as well.
fn make_other_tables(source: &Connection, new: &Connection) -> rusqlite::Result<()> {
    let known = tables(new)?;
    let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL
        AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = source.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = readable(rows.next())?.flatten() {
        let (name, sql): (String, String) = (row.get(0)?, row.get(1)?);
        if !known.contains(&name) {
            // What is no SQL any more is not worth failing for.
            let _ = new.execute_batch(&sql);
        }
    }
    Ok(())
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'
        AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// A table, and the order in which it can be read.
struct Table {
    name: String,
    columns: Vec<String>,
    /// The columns of its key; none where rows have a number.
    key: Vec<String>,
}

impl Table {
    /// Nothing where the damaged file has no such table.
    fn of(source: &Connection, new: &Connection, name: &str) -> rusqlite::Result<Option<Table>> {
        let mut statement =
            new.prepare("SELECT name, pk FROM pragma_table_info(?) ORDER BY pk, cid")?;
        let columns: Vec<(String, i64)> = statement
            .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let has_number = new.prepare(&format!("SELECT rowid FROM \"{name}\"")).is_ok();
        let key = columns.iter().filter(|(_, place)| !has_number && *place > 0);
        let key = key.map(|(column, _)| column.clone()).collect();
        let columns: Vec<String> = columns.into_iter().map(|(column, _)| column).collect();
        let table = Table { name: name.to_owned(), columns, key };
        Ok(source.prepare(&table.select("", "")).is_ok().then_some(table))
    }

    fn list(columns: &[String], behind: &str) -> String {
        let quoted: Vec<String> =
            columns.iter().map(|column| format!("\"{column}\"{behind}")).collect();
        quoted.join(", ")
    }

    fn select(&self, condition: &str, order: &str) -> String {
        let number = if self.key.is_empty() { ", rowid" } else { "" };
        let (columns, name) = (Table::list(&self.columns, ""), &self.name);
        // Never by an index: it may be broken too.
        format!("SELECT {columns}{number} FROM \"{name}\" NOT INDEXED {condition} {order}")
    }

    fn insert(&self) -> String {
        let places = vec!["?"; self.columns.len()].join(", ");
        let (columns, name) = (Table::list(&self.columns, ""), &self.name);
        format!("INSERT OR IGNORE INTO \"{name}\" ({columns}) VALUES ({places})")
    }
}

/// A reading that met something broken is over; any other error is one.
fn readable<T>(read: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_broken(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_broken(error: &Error) -> bool {
    let broken = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase, ErrorCode::SystemIoFailure];
    error.sqlite_error_code().is_some_and(|code| broken.contains(&code))
}

/// How far a reading came.
struct Reached {
    /// The number of the last row.
    last: Option<i64>,
    is_whole: bool,
}

struct Copy<'a, 'w> {
    source: &'a Connection,
    new: &'a Transaction<'a>,
    table: &'a Table,
    watch: &'a mut Watch<'w>,
    rows: u64,
    rejected: u64,
    /// Numbers of the first and the last row that could be there.
    gaps: Vec<(i64, i64)>,
    /// A table without numbers could be read neither up nor down to its other end.
    has_hole: bool,
}

impl<'a, 'w> Copy<'a, 'w> {
    fn new(
        source: &'a Connection,
        new: &'a Transaction<'a>,
        table: &'a Table,
        watch: &'a mut Watch<'w>,
    ) -> Copy<'a, 'w> {
        Copy { source, new, table, watch, rows: 0, rejected: 0, gaps: Vec::new(), has_hole: false }
    }

    fn all(&mut self) -> rusqlite::Result<()> {
        if self.table.key.is_empty() {
            return self.stretch(i64::MIN, i64::MAX, 0);
        }
        for behind in ["", " DESC"] {
            let order = format!("ORDER BY {}", Table::list(&self.table.key, behind));
            if self.read(&self.table.select("", &order), &[])?.is_whole {
                return Ok(());
            }
        }
        self.has_hole = true;
        Ok(())
    }

    /// Reads the rows whose numbers are in a range, both ends included.
    fn stretch(&mut self, first: i64, last: i64, barren: u32) -> rusqlite::Result<()> {
        let condition = "WHERE rowid BETWEEN ? AND ?";
        let up = self.table.select(condition, "ORDER BY rowid");
        let reached = self.read(&up, &[first, last])?;
        if reached.is_whole {
            return Ok(());
        }
        let low = reached.last.map_or(first, |last| last.saturating_add(1));
        let down = self.table.select(condition, "ORDER BY rowid DESC");
        let back = self.read(&down, &[low, last])?;
        let high = back.last.map_or(last, |first| first.saturating_sub(1));
        if back.is_whole || low > high {
            return Ok(());
        }
        let is_barren = reached.last.is_none() && back.last.is_none();
        let barren = if is_barren { barren + 1 } else { 0 };
        if barren > BARREN || low == high {
            self.note_gap(low, high);
            return Ok(());
        }
        // Rounded down, or two neighbours around 0 would never be parted.
        let middle = low + high.wrapping_sub(low).cast_unsigned().div_euclid(2).cast_signed();
        self.stretch(low, middle, barren)?;
        self.stretch(middle + 1, high, barren)
    }

    /// Neighbouring stretches are one.
    fn note_gap(&mut self, low: i64, high: i64) {
        match self.gaps.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(low) => *end = high,
            _ => self.gaps.push((low, high)),
        }
    }

    fn read(&mut self, sql: &str, values: &[i64]) -> rusqlite::Result<Reached> {
        let mut reached = Reached { last: None, is_whole: false };
        let Some(mut statement) = readable(self.source.prepare_cached(sql))? else {
            return Ok(reached);
        };
        let mut insert = self.new.prepare_cached(&self.table.insert())?;
        let mut rows = statement.query(params_from_iter(values))?;
        let width = self.table.columns.len();
        while let Some(next) = readable(rows.next())? {
            let Some(row) = next else {
                reached.is_whole = true;
                return Ok(reached);
            };
            if self.table.key.is_empty() {
                let number = row.get(width)?;
                // Pages that are not there read as zeros, and give rows that nobody asked for.
                if values.first().is_some_and(|first| number < *first)
                    || values.last().is_some_and(|last| number > *last)
                {
                    return Ok(reached);
                }
                reached.last = Some(number);
            }
            match put(&mut insert, row, width) {
                Ok(added) => self.rows += added,
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    self.rejected += 1;
                }
                Err(error) => return Err(error),
            }
            if self.rows.is_multiple_of(SAY) {
                (self.watch)("saving what can be read", self.rows, 0);
            }
        }
        Ok(reached)
    }
}

/// When the call of a key began.
fn time(key: i64) -> Timestamp {
    Timestamp::from_millis(key >> KEY_BITS)
}

fn put(insert: &mut rusqlite::Statement<'_>, row: &Row<'_>, width: usize) -> rusqlite::Result<u64> {
    let values: Vec<Value> =
        (0..width).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?;
    insert.execute(params_from_iter(values)).map(|added| added as u64)
}

/// What the table does not give any more, from the index on its names.
fn names_from_index(source: &Connection, new: &Connection, table: &str) -> rusqlite::Result<()> {
    let mut insert =
        new.prepare(&format!("INSERT OR IGNORE INTO {table} (id, name) VALUES (?, ?)"))?;
    for order in ["", "DESC"] {
        let sql = format!(
            "SELECT id, name FROM {table} INDEXED BY sqlite_autoindex_{table}_1 ORDER BY name {order}"
        );
        let Ok(mut statement) = source.prepare(&sql) else { return Ok(()) };
        let mut rows = statement.query([])?;
        while let Some(next) = readable(rows.next())? {
            let Some(row) = next else { return Ok(()) };
            if let (Ok(id), Ok(name)) = (row.get::<_, i64>(0), row.get::<_, String>(1)) {
                insert.execute((id, name))?;
            }
        }
    }
    Ok(())
}

/// Asks for every call that the index names and that was not met, one by one.
fn second_chance(
    source: &Connection,
    new: &Transaction<'_>,
    salvaged: &mut Salvaged,
) -> rusqlite::Result<()> {
    let Some(table) = Table::of(source, new, "calls")? else { return Ok(()) };
    let mut insert = new.prepare(&table.insert())?;
    let mut has = new.prepare("SELECT 1 FROM calls WHERE id = ?")?;
    let mut one = source.prepare(&table.select("WHERE rowid = ?", ""))?;
    for order in ["", "DESC"] {
        let sql = format!("SELECT id, key FROM calls INDEXED BY calls_by_id ORDER BY id {order}");
        let Ok(mut statement) = source.prepare(&sql) else { return Ok(()) };
        let mut rows = statement.query([])?;
        while let Some(next) = readable(rows.next())? {
            let Some(row) = next else { return Ok(()) };
            let (Ok(id), Ok(key)) = (row.get::<_, [u8; 16]>(0), row.get::<_, i64>(1)) else {
                continue;
            };
            if has.exists([id])? {
                continue;
            }
            let mut found = one.query([key])?;
            match readable(found.next())? {
                Some(Some(row)) if put(&mut insert, row, table.columns.len()).is_ok() => {
                    salvaged.rows += 1;
                }
                _ => salvaged.missing.push(CallId::from_bytes(id)),
            }
        }
    }
    salvaged.missing.sort_unstable();
    salvaged.missing.dedup();
    Ok(())
}
