//! The database as a file: its pages, its schema, its marks. Owns what a ledger must have; reads no call.

use rusqlite::Connection;

use super::finding::{Check, Finding};
use super::{Depth, Watch};
use crate::ledger::schema;

/// Lines that `SQLite` is asked for at most.
const COMPLAINTS: u32 = 1000;

pub(in crate::ledger) fn examine(
    connection: &Connection,
    depth: Depth,
    watch: &mut Watch<'_>,
) -> Vec<Finding> {
    watch("checking the file", 0, 0);
    let mut file = Finding::new(Check::File);
    if let Err(error) = pages(connection, depth, &mut file) {
        file.failed(&error);
    }
    let mut marks = Finding::new(Check::Schema);
    match differences(connection) {
        Ok(found) => {
            for one in found {
                marks.note(|| format!("{} {}", one.what, one.name));
            }
        }
        Err(error) => marks.failed(&error),
    }
    if let Err(error) = check_marks(connection, &mut marks) {
        marks.failed(&error);
    }
    vec![file, marks]
}

fn pages(connection: &Connection, depth: Depth, found: &mut Finding) -> rusqlite::Result<()> {
    let check = if depth.deep { "integrity_check" } else { "quick_check" };
    let mut statement = connection.prepare(&format!("PRAGMA {check}({COMPLAINTS})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            for line in said.lines() {
                found.note(|| line.to_owned());
            }
        }
    }
    Ok(())
}

fn check_marks(connection: &Connection, found: &mut Finding) -> rusqlite::Result<()> {
    let mark: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if mark != schema::APPLICATION_ID {
        found.note(|| format!("the mark of a ledger is {mark:#x}"));
    }
    let version = schema::version(connection)?;
    if version != schema::VERSION {
        found.note(|| format!("the schema is {version}, not {}", schema::VERSION));
    }
    Ok(())
}

/// Something of the schema that is not as it must be.
#[derive(Debug)]
pub(super) struct Difference {
    /// `there is no` or `another`.
    what: &'static str,
    pub(super) kind: String,
    pub(super) name: String,
    /// The SQL that makes it.
    pub(super) sql: String,
    pub(super) is_missing: bool,
}

/// What a new ledger has that this one has not. What this one has besides is its owner's affair.
pub(super) fn differences(connection: &Connection) -> rusqlite::Result<Vec<Difference>> {
    let model = Connection::open_in_memory()?;
    schema::create(&model)?;
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
    let mut expected = model.prepare(sql)?;
    let mut present = connection.prepare("SELECT sql FROM sqlite_schema WHERE name = ?")?;
    let mut found = Vec::new();
    let mut rows = expected.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let mut there = present.query([&name])?;
        let there: Option<String> = there.next()?.map(|row| row.get(0)).transpose()?;
        let is_missing = there.is_none();
        if there.is_none_or(|there| words(&there) != words(&sql)) {
            let what = if is_missing { "there is no" } else { "another" };
            found.push(Difference { what, kind, name, sql, is_missing });
        }
    }
    Ok(found)
}

/// SQL without its layout.
fn words(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}
