//! The database file: whether it is ours, its tables, its connections. Owns the schema and its
//! migrations; knows nothing of journals or queries.
//!
//! Invariant: a file that is not a sound ledger of a known version is never written to.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::OpenError;

/// `tokm`: marks the file as a ledger in the database header (`PRAGMA application_id`), so that
/// nobody else's database is ever taken for one.
const APPLICATION_ID: i32 = 0x746f_6b6d;

/// How long the writer waits for a lock inside one call. Beyond it the feed backs off by itself and
/// can be stopped between two attempts.
const WRITER_BUSY: Duration = Duration::from_secs(1);

/// How long a reader waits for a lock. In WAL mode that only happens while the file is recovered.
const READER_BUSY: Duration = Duration::from_secs(2);

/// Each step takes the schema one version up; `PRAGMA user_version` counts them. A step that has
/// landed is never edited.
const MIGRATIONS: [&str; 3] = [
    // Rows keep SQLite's own row number: with text ids as the clustering key every secondary index
    // would repeat 36 bytes per row, and inner pages would hold whole rows. Windows go by
    // `created_at` rather than by id, because an id's clock never runs backwards and a computer's
    // may. The other two indexes cost nothing for calls without the tag.
    "CREATE TABLE token_usage (
        id TEXT NOT NULL PRIMARY KEY,
        created_at INTEGER NOT NULL,
        upstream TEXT NOT NULL,
        provider TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        method TEXT NOT NULL,
        path TEXT NOT NULL,
        model_requested TEXT,
        model TEXT,
        user TEXT,
        session TEXT,
        operation TEXT,
        attempt INTEGER,
        metadata TEXT,
        key_id TEXT,
        input_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        audio_input_tokens INTEGER,
        image_input_tokens INTEGER,
        output_tokens INTEGER,
        reasoning_tokens INTEGER,
        audio_output_tokens INTEGER,
        image_output_tokens INTEGER,
        total_tokens INTEGER,
        usage_source TEXT NOT NULL,
        cost_usd INTEGER,
        cost_source TEXT NOT NULL,
        computed_cost_usd INTEGER,
        price_id TEXT,
        status INTEGER,
        streaming INTEGER NOT NULL,
        finish_reason TEXT,
        outcome TEXT NOT NULL,
        error TEXT,
        retry INTEGER,
        upstream_request_id TEXT,
        service_tier TEXT,
        duration_ms INTEGER,
        time_to_first_byte_ms INTEGER,
        time_to_first_token_ms INTEGER,
        usage_json TEXT
    ) STRICT;
    CREATE INDEX token_usage_by_time ON token_usage (created_at);
    CREATE INDEX token_usage_by_user ON token_usage (user, created_at) WHERE user IS NOT NULL;
    CREATE INDEX token_usage_by_session ON token_usage (session) WHERE session IS NOT NULL;
    CREATE TABLE open_calls (
        id TEXT NOT NULL PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE journal_progress (
        file TEXT NOT NULL PRIMARY KEY,
        offset INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;",
    // One byte each in a row that has none of them.
    "ALTER TABLE token_usage ADD COLUMN estimate TEXT;
    ALTER TABLE token_usage ADD COLUMN stream_usage TEXT;
    ALTER TABLE token_usage ADD COLUMN charged_by TEXT;
    CREATE TABLE charged (
        key BLOB NOT NULL PRIMARY KEY,
        call_id BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE estimate_calibration (
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        side TEXT NOT NULL,
        samples INTEGER NOT NULL,
        bias REAL NOT NULL,
        error REAL NOT NULL,
        corrections TEXT NOT NULL,
        learned_at INTEGER NOT NULL,
        PRIMARY KEY (provider, model, side)
    ) STRICT, WITHOUT ROWID;",
    super::audit::TABLES,
];

/// Makes a ledger of version 1 read like one of today, for reports that come before the first start
/// of the new program. The views are the connection's own; the file stays as it is.
const READ_VERSION_1: &str = "
    CREATE TEMP VIEW token_usage AS
        SELECT rowid AS rowid, *, NULL AS estimate, NULL AS stream_usage, NULL AS charged_by
        FROM main.token_usage;
    CREATE TEMP VIEW estimate_calibration AS
        SELECT '' AS provider, '' AS model, '' AS side, 0 AS samples, 0.0 AS bias, 0.0 AS error,
            '{}' AS corrections
        WHERE 0;";

/// The newest schema version that this program knows.
#[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation)] // a handful of steps
const VERSION: i32 = MIGRATIONS.len() as i32;

/// Opens the one connection that writes, creating and migrating the file as needed.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    inspect(path)?;
    let connection = connect(path).map_err(|error| OpenError::database(path, error))?;
    check_version(&connection, path)?;
    // Migrations come before WAL mode, so that the mark of a new ledger stands in the file itself.
    migrate(&connection).map_err(|error| OpenError::database(path, error))?;
    tune(&connection).map_err(|error| OpenError::database(path, error))?;
    Ok(connection)
}

/// Opens a connection that can only read. The file must be there.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READER_BUSY)?;
    if version(&connection)? == 1 {
        connection.execute_batch(READ_VERSION_1)?;
    }
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

/// Refuses what a newer program wrote: it may mean something else than it says here.
pub(super) fn check_version(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found = version(connection).map_err(|error| OpenError::database(path, error))?;
    if found > VERSION {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known: VERSION });
    }
    Ok(())
}

/// Takes the schema to [`VERSION`], step by step, each step whole or not at all.
pub(super) fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let found = version(connection)?;
    for (step, sql) in (1_i32..).zip(MIGRATIONS).filter(|(step, _)| *step > found) {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             PRAGMA application_id = {APPLICATION_ID};
             {sql}
             PRAGMA user_version = {step};
             COMMIT;"
        ))?;
    }
    Ok(())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(WRITER_BUSY)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

fn tune(connection: &Connection) -> rusqlite::Result<()> {
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
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA foreign_keys = OFF;
         PRAGMA trusted_schema = OFF;",
    )
}

fn version(connection: &Connection) -> rusqlite::Result<i32> {
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
    fn the_table_has_the_columns_that_rows_are_written_to() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        migrate(&connection).unwrap();
        let statement = connection.prepare("SELECT * FROM token_usage").unwrap();
        assert!(statement.column_names().eq(COLUMNS));
        assert_eq!(version(&connection).unwrap(), VERSION);
    }

    #[test]
    fn a_ledger_of_the_version_before_is_read_as_it_is_and_then_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.db");
        let old = Connection::open(&path).unwrap();
        let mark = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;");
        old.execute_batch(&format!("{mark} {}", MIGRATIONS[0])).unwrap();
        let id = crate::record::CallId::new();
        let insert = "INSERT INTO token_usage (id, created_at, upstream, provider, endpoint, method, \
            path, usage_source, cost_source, streaming, outcome) \
            VALUES (?, 7, 'u', 'p', 'e', 'POST', '/', 'none', 'none', 0, 'completed')";
        old.execute(insert, [id.to_string()]).unwrap();
        drop(old);
        let ask = || {
            let reader = crate::ledger::Reader::open(&path).unwrap();
            assert!(reader.calibrations().unwrap().is_empty());
            let cursor = crate::ledger::Cursor {
                created_at: crate::units::Timestamp::from_millis(8),
                id: crate::record::CallId::new(),
            };
            let page = reader.usage(&crate::ledger::Filter::default(), 9, Some(&cursor)).unwrap();
            assert_eq!(page.records.len(), 1);
            let query = crate::ledger::StatsQuery::default();
            assert_eq!(reader.stats(&query).unwrap().totals.requests, 1);
            reader.one(&id).unwrap().unwrap().created_at.millis()
        };
        assert_eq!(ask(), 7);
        drop(open_writer(&path).unwrap());
        assert_eq!(ask(), 7);
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
