//! Ledgers of calls that nobody made, told from real ones by a mark in the file, which goes where the file
//! goes. Owns the mark; who sets it, and who asks, is others' business.

use std::path::Path;

use rusqlite::OptionalExtension;

use super::{OpenError, schema};

const MARK: &str = "made_up";

/// Whether a ledger, which is there, was marked as one of made-up calls.
pub fn is_made_up(database: &Path) -> Result<bool, OpenError> {
    let failed = |error| OpenError::database(database, error);
    let connection = schema::open_reader(database).map_err(failed)?;
    let sql = "SELECT 1 FROM ledger_state WHERE name = ?";
    let mark = connection.query_row(sql, [MARK], |_| Ok(())).optional();
    mark.map(|mark| mark.is_some()).map_err(failed)
}

/// Marks a ledger, and makes it where it is not there, as one of made-up calls.
pub fn mark_made_up(database: &Path) -> Result<(), OpenError> {
    let connection = schema::open_writer(&super::resolve(database)?)?;
    let sql = "INSERT OR IGNORE INTO ledger_state (name, value) VALUES (?, 1)";
    let marked = connection.execute(sql, [MARK]);
    marked.map(|_| ()).map_err(|error| OpenError::database(database, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let [path, moved] = ["a.db", "b.db"].map(|name| directory.path().join(name));
        drop(schema::open_writer(&path).unwrap());
        assert!(!is_made_up(&path).unwrap());
        mark_made_up(&path).unwrap();
        mark_made_up(&path).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        assert!(is_made_up(&moved).unwrap());
        assert!(is_made_up(&path).is_err());
    }
}
