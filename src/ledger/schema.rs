//! The database file: whether it is ours, its tables, its connections. Owns the schema and its
//! migrations; knows nothing of journals or queries.
//!
//! Invariant: a file that is not a sound ledger of a known version is never written to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{OpenError, audit, layout, postings, rollup};

/// `tokm`: marks the file as a ledger in the database header (`PRAGMA application_id`), so that
/// nobody else's database is ever taken for one.
pub(super) const APPLICATION_ID: i32 = 0x746f_6b6d;

/// How long the writer waits for a lock inside one call. Beyond it the feed backs off by itself and
/// can be stopped between two attempts.
const WRITER_BUSY: Duration = Duration::from_secs(1);

/// How long a reader waits for a lock. In WAL mode that only happens while the file is recovered.
const READER_BUSY: Duration = Duration::from_secs(2);

/// More statements than there are, so that each is prepared once.
const STATEMENTS: usize = 128;

/// The schema that this program writes (`PRAGMA user_version`). Versions 1 and 2 had one wide table;
/// 3 and 4 found calls by indexes, where there are postings now; 5 had no fingerprints of keys. `upgrade` reads
/// them.
pub(super) const VERSION: i32 = 6;

/// Opens the one connection that writes, creating and migrating the file as needed.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    inspect(path)?;
    let connection = connect(path).map_err(|error| OpenError::database(path, error))?;
    check_version(&connection, path)?;
    let failed = |error| OpenError::database(path, error);
    // Before WAL mode, so that the mark of a new ledger stands in the file itself.
    if version(&connection).map_err(failed)? == 0 {
        create(&connection).map_err(failed)?;
    }
    tune(&connection).map_err(failed)?;
    Ok(connection)
}

/// Opens a connection that can only read. The file must be there.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READER_BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Says what is wrong with a file that is no sound ledger, reading it without `SQLite`, which could
/// change it. A file that is absent or empty is fine: it is about to become a ledger.
pub(super) fn inspect(path: &Path) -> Result<(), OpenError> {
    let corrupt =
        |reason: &str| OpenError::Corrupt { path: path.to_owned(), reason: reason.to_owned() };
    let Some((header, length)) = header(path).map_err(|error| OpenError::io(path, error))? else {
        return Ok(());
    };
    if length < header.len() as u64 || !header.starts_with(b"SQLite format 3\0") {
        return Err(corrupt("it is not an SQLite database"));
    }
    if field(&header, 68) != APPLICATION_ID.unsigned_abs() {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    // Offsets from "Database File Format": page size 16, change counter 24, size in pages 28, and
    // at 92 the change counter for which that size is valid.
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let size_is_valid = field(&header, 24) == field(&header, 92);
    // A crash while the write-ahead log was moved into the file may have written the header first;
    // with the log there, nothing is missing.
    let log = std::fs::metadata(super::with_suffix(path, "-wal")).map_or(0, |log| log.len());
    if log == 0 && size_is_valid && length < page_size * u64::from(field(&header, 28)) {
        return Err(corrupt("it is shorter than its header says"));
    }
    Ok(())
}

/// Refuses what a newer program wrote: it may mean something else than it says here. And what an older
/// one wrote and nobody has upgraded.
pub(super) fn check_version(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found = version(connection).map_err(|error| OpenError::database(path, error))?;
    if found > VERSION {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known: VERSION });
    }
    if (1..VERSION).contains(&found) {
        return Err(OpenError::TooOld { path: path.to_owned(), found });
    }
    Ok(())
}

/// Makes the tables of a new ledger, all or none.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    // Only before the first table: pages that become free can be given back a few at a time.
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         PRAGMA application_id = {APPLICATION_ID};
         {}
         {}
         {}
         {}
         PRAGMA user_version = {VERSION};
         COMMIT;",
        layout::tables(),
        rollup::TABLES,
        audit::TABLES,
        postings::TABLES,
    ))
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // A new ledger is for its owner alone, as what SQLite puts beside it is then too. Where this fails, SQLite
    // says why.
    let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(WRITER_BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

pub(super) fn tune(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "PRAGMA journal_mode = WAL";
    let mode: String = connection.query_row(sql, [], |row| row.get(0))?;
    // SQLite answers with the mode it kept when it cannot do as asked.
    if !mode.eq_ignore_ascii_case("wal") {
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        let text = format!("the file system does not support WAL mode (it stays {mode})");
        return Err(rusqlite::Error::SqliteFailure(error, Some(text)));
    }
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL;
         PRAGMA wal_autocheckpoint = 32000;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -65536;
         PRAGMA foreign_keys = OFF;
         PRAGMA trusted_schema = OFF;",
    )
}

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The first 100 bytes and the length of a file; nothing if it is absent or empty.
fn header(path: &Path) -> io::Result<Option<([u8; 100], u64)>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let mut header = [0; 100];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ if length == 0 => Ok(None),
        _ => Ok(Some((header, length))),
    }
}

fn field(header: &[u8; 100], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::COLUMNS;

    #[test]
    fn the_bundled_library_has_the_wal_reset_fix() {
        assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
    }

    #[test]
    fn the_view_has_the_columns_that_rows_are_read_from() {
        let connection = Connection::open_in_memory().unwrap();
        create(&connection).unwrap();
        let statement = connection.prepare("SELECT * FROM token_usage").unwrap();
        assert!(statement.column_names().eq(COLUMNS));
        assert_eq!(version(&connection).unwrap(), VERSION);
    }

    #[test]
    fn rows_can_be_changed_and_taken_out_by_hand() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("by hand.db");
        let mut load = crate::ledger::Loader::open(&path).unwrap();
        for at in [5, 5, 6] {
            load.add(crate::ledger::row::tests::call(at)).unwrap();
        }
        load.finish().unwrap();
        let hand = Connection::open(&path).unwrap();
        let run = |sql: &str| hand.execute(sql, []);
        let count = |sql: &str| hand.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let one = "id = (SELECT max(id) FROM token_usage WHERE created_at = 5)";
        run(&format!("UPDATE token_usage SET user = 'ann', cost_usd = 7 WHERE {one}")).unwrap();
        assert_eq!(count("SELECT count(*) FROM token_usage WHERE user = 'ann'"), 1);
        assert_eq!(count("SELECT sum(cost_usd) FROM token_usage"), 7);
        assert!(run("UPDATE token_usage SET outcome = 'refused'").is_err());
        run(&format!("DELETE FROM token_usage WHERE {one}")).unwrap();
        assert_eq!(count("SELECT count(*) FROM token_usage"), 2);
        assert_eq!(count("SELECT count(*) FROM token_usage WHERE user = 'ann'"), 0);
    }

    #[test]
    fn foreign_and_broken_files_are_named_and_left_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.db");
        let foreign = Connection::open(&path).unwrap();
        foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
        drop(foreign);
        let sound = std::fs::read(&path).unwrap();

        let ours = directory.path().join("ours.db");
        drop(open_writer(&ours).unwrap());
        let mut short = std::fs::read(&ours).unwrap();
        short.truncate(short.len() - 4096);

        for bytes in [sound, short, b"hello".to_vec(), vec![0; 5000]] {
            std::fs::write(&path, &bytes).unwrap();
            let error = open_writer(&path).unwrap_err().to_string();
            assert!(error.contains("some.db"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_newer_ledger_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.db");
        open_writer(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(open_writer(&path), Err(OpenError::TooNew { found: 99, .. })));
    }
}
