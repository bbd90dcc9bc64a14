//! A copy of a ledger's database of one moment, while others write. Owns how it is taken and proved;
//! what the file is called and when it appears is decided elsewhere.
//!
//! SQLite's backup interface copies page by page, so that the copy is the same database, row numbers
//! and all, and can be watched on its way. One read transaction around all of it keeps the moment: without,
//! every write by the server would make the copy begin anew. `VACUUM INTO` would make a smaller file, but
//! it writes everything anew, row numbers included, and says nothing until it is done.
//!
//! Invariant: the ledger itself is only read.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{OpenError, schema};

/// Pages between two looks at how far it is: 4 MiB of them.
const STEP_PAGES: i32 = 1024;

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupStage {
    Copying {
        pages: u64,
        of: u64,
    },
    /// All is copied, and the copy is read whole.
    Checking,
}

/// A backup that was read whole and found sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    pub rows: u64,
    pub bytes: u64,
}

/// Copies a ledger into an empty file, checks the copy and puts it on the disk. The file needs no other
/// beside it, and has the ledger's permissions. Blocks.
pub fn backup(
    database: &Path,
    into: &Path,
    mut see: impl FnMut(BackupStage),
) -> Result<BackedUp, OpenError> {
    let from = open(database)?;
    let failed = |error| OpenError::database(into, error);
    let mut copy = empty(into).map_err(failed)?;
    copy_pages(&from, &mut copy, &mut see).map_err(failed)?;
    // The moment is over: the server may shorten its log again.
    drop(from);
    see(BackupStage::Checking);
    let rows = check(&copy, into)?;
    copy.close().map_err(|(_, error)| failed(error))?;
    let on_disk = || {
        fs::set_permissions(into, fs::metadata(database)?.permissions())?;
        let file = File::open(into)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    };
    let bytes = on_disk().map_err(|error| OpenError::io(into, error))?;
    Ok(BackedUp { rows, bytes })
}

/// Opens the ledger at one moment, which lasts as long as the connection.
fn open(database: &Path) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::database(database, error);
    fs::metadata(database).map_err(|error| OpenError::io(database, error))?;
    schema::inspect(database)?;
    let from = schema::open_reader(database).map_err(failed)?;
    schema::check_version(&from, database)?;
    from.execute_batch("BEGIN").map_err(failed)?;
    // Only reading begins the transaction.
    let begins = "SELECT count(*) FROM main.sqlite_schema";
    let tables: i64 = from.query_row(begins, [], |row| row.get(0)).map_err(failed)?;
    if tables == 0 {
        let reason = "it is empty".to_owned();
        return Err(OpenError::Corrupt { path: database.to_owned(), reason });
    }
    Ok(from)
}

/// Nobody sees the copy before it is whole, so it needs neither a journal nor a disk that keeps up.
fn empty(into: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(into, flags)?;
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    Ok(copy)
}

fn copy_pages(
    from: &Connection,
    copy: &mut Connection,
    see: &mut impl FnMut(BackupStage),
) -> rusqlite::Result<()> {
    let backup = Backup::new(from, copy)?;
    loop {
        let step = backup.step(STEP_PAGES)?;
        let progress = backup.progress();
        let count = |pages: i32| u64::try_from(pages).unwrap_or_default();
        let of = count(progress.pagecount);
        see(BackupStage::Copying { pages: of - count(progress.remaining), of });
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Nobody else has either database: the one is read, the other unknown.
            _ => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, None));
            }
        }
    }
}

/// Reads the copy whole; answers how many calls are in it.
fn check(copy: &Connection, into: &Path) -> Result<u64, OpenError> {
    let failed = |error| OpenError::database(into, error);
    // The ledger's own mode wants two files beside it, which a copy on a shelf does not have. The next
    // start sets the mode again.
    let mode: String =
        copy.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).map_err(failed)?;
    let found: String =
        copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if found != "ok" || mode != "delete" {
        let reason = format!("the copy is not sound: {found}");
        return Err(OpenError::Corrupt { path: into.to_owned(), reason });
    }
    let rows = copy.query_row("SELECT count(*) FROM token_usage", [], |row| row.get::<_, i64>(0));
    rows.map(|rows| u64::try_from(rows).unwrap_or_default()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::ledger::Loader;
    use crate::ledger::row::tests::call;
    use crate::record::Record;

    /// So long that a few hundred are more than one step.
    fn bulky(n: i64) -> Record {
        let usage = format!("{{\"padding\":\"{}\"}}", "x".repeat(20_000));
        Record { usage_json: Some(RawValue::from_string(usage).unwrap()), ..call(n) }
    }

    fn load(database: &Path, numbers: std::ops::Range<i64>) {
        let mut loader = Loader::open(database).unwrap();
        numbers.for_each(|n| loader.add(bulky(n)).unwrap());
        loader.finish().unwrap();
    }

    #[test]
    fn what_is_written_meanwhile_is_not_in_the_copy_and_does_not_make_it_begin_anew() {
        let home = tempfile::tempdir().unwrap();
        let (database, copy) = (home.path().join("some.db"), home.path().join("copy.db"));
        load(&database, 0..600);
        File::create(&copy).unwrap();
        let (mut stages, mut before) = (0, 0);
        let done = backup(&database, &copy, |stage| {
            if let BackupStage::Copying { pages, of } = stage {
                assert!(pages > before && pages <= of, "{pages} after {before}");
                before = pages;
                stages += 1;
                load(&database, stages * 1000..stages * 1000 + 10);
            }
        });
        assert_eq!(done.unwrap().rows, 600);
        assert!(stages > 2, "{stages}");
        // Nothing but the file is needed, not even a place to write to.
        let names = fs::read_dir(home.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("copy.db-")));
        assert!(crate::ledger::Reader::open(&copy).is_ok());
    }
}
