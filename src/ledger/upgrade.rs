//! From the schemas of former versions to today's: all that a ledger holds, written into a new file that
//! takes the old one's place. Owns what former schemas looked like; knows nothing of the journal.
//!
//! Invariant: until the new file is whole and on disk, the old one stands under its name, untouched; and
//! afterwards it stays beside it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::names::Names;
use super::rows::Rows;
use super::tail::same_file;
use super::{Lock, OpenError, postings, rollup, row, schema, with_suffix};

/// The first version with today's tables.
const NARROW: i32 = 3;

/// In the place of which there are postings.
const FORMER_INDEXES: [&str; 3] = ["calls_by_kind", "calls_by_session", "calls_by_user"];

/// Rows in one transaction.
const BATCH: usize = 10_000;

/// How often a long upgrade says how far it is.
const SAY: u64 = 500_000;

/// Brings a ledger that nobody has open up to date, if it is an old one.
pub(super) fn if_old(path: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::database(path, error);
    if fs::metadata(path).map_or(0, |found| found.len()) == 0 {
        return Ok(());
    }
    schema::inspect(path)?;
    let old = schema::connect(path).map_err(failed)?;
    let version = schema::version(&old).map_err(failed)?;
    if !(1..schema::VERSION).contains(&version) {
        return Ok(());
    }
    // What its log holds into the file, which is then all there is.
    old.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
    let table = if version < NARROW { "token_usage" } else { "calls" };
    let sql = format!("SELECT count(*) FROM {table}");
    let rows: i64 = old.query_row(&sql, [], |row| row.get(0)).map_err(failed)?;
    tracing::warn!(file = %path.display(), schema = version, rows, "bringing the ledger up to date");
    let new = with_suffix(path, ".upgrade");
    clear(&new).and_then(|()| alike(path, &new)).map_err(|error| OpenError::io(&new, error))?;
    if version < NARROW {
        copy(&old, version, &new).map_err(|error| OpenError::database(&new, error))?;
        drop(old);
    } else {
        drop(old);
        let copied = copy_tables(path, &new).map_err(|error| OpenError::database(&new, error));
        if let Err(error) = copied {
            // Half a copy must not keep the disk full for whoever is asked next.
            let _ = clear(&new);
            return Err(error);
        }
    }
    let kept = swap(path, &new, version).map_err(|error| OpenError::io(path, error))?;
    tracing::warn!(rows, kept = %kept.display(), "the ledger is up to date; the old file is kept");
    Ok(())
}

/// The same for a ledger that a server may have open; then it is in use by an older tokenmeter.
pub(super) fn if_old_and_idle(path: &Path) -> Result<(), OpenError> {
    let _lock = Lock::take(&with_suffix(path, ".lock"), path)?;
    if_old(path)
}

fn copy(old: &Connection, version: i32, new: &Path) -> rusqlite::Result<()> {
    let mut connection = schema::connect(new)?;
    // Nobody else has the file, and it is made anew after a crash.
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY")?;
    schema::create(&connection)?;
    copy_rows(old, version, &mut connection)?;
    rollup::seal_all(&connection)?;
    let source = old.path().unwrap_or_default();
    connection.execute("ATTACH DATABASE ? AS old", [source])?;
    let later = "INSERT INTO charged SELECT key, call_id FROM old.charged;
        INSERT INTO estimate_calibration (provider, model, side, samples, bias, error, corrections,
            learned_at)
        SELECT provider, model, side, samples, bias, error, corrections, learned_at
        FROM old.estimate_calibration;";
    connection.execute_batch(&format!(
        "BEGIN;
        INSERT INTO open_calls SELECT id, record FROM old.open_calls;
        INSERT INTO journal_progress SELECT file, offset FROM old.journal_progress;
        {}
        COMMIT;
        DETACH DATABASE old;",
        if version < 2 { "" } else { later }
    ))?;
    connection.close().map_err(|(_, error)| error)
}

/// Copies a ledger that has today's tables into a new one, table by table, so that it is as a new one is: the
/// room of what it has not any more is given back, and `recover` finds its tables where it expects them.
fn copy_tables(path: &Path, new: &Path) -> rusqlite::Result<()> {
    let connection = schema::connect(new)?;
    // Nobody else has the file, and it is made anew after a crash.
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY")?;
    schema::create(&connection)?;
    // A name that is changed on its way would be that of a new, empty file.
    let name = path.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(path.to_owned()))?;
    connection.execute("ATTACH DATABASE ? AS old", [name])?;
    let made = |kind: &str, of: &str| -> rusqlite::Result<Vec<(String, String)>> {
        let sql = format!(
            "SELECT name, sql FROM {of}.sqlite_schema WHERE type {kind} AND sql IS NOT NULL
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
        );
        let mut statement = connection.prepare(&sql)?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let ours: BTreeSet<String> = made("<> ''", "main")?.into_iter().map(|(name, _)| name).collect();
    let transaction = connection.unchecked_transaction()?;
    for (table, sql) in made("= 'table'", "old")? {
        // What its owner has added stays.
        if !ours.contains(&table) {
            connection.execute_batch(&sql)?;
        }
        let columns = columns(&connection, &table)?;
        let table = quoted(&table);
        connection.execute_batch(&format!(
            "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM old.{table}"
        ))?;
    }
    for (name, sql) in made("<> 'table'", "old")? {
        let is_theirs = !ours.contains(&name) && !FORMER_INDEXES.contains(&name.as_str());
        if is_theirs && let Err(error) = connection.execute_batch(&sql) {
            tracing::warn!(name, %error, "what was added to the ledger cannot be added again");
        }
    }
    postings::rebuild(&transaction)?;
    transaction.commit()?;
    connection.execute_batch("DETACH DATABASE old")?;
    connection.close().map_err(|(_, error)| error)
}

/// The columns that a table has in the old file, for a list in SQL.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let sql = "SELECT name FROM pragma_table_info(?, 'old')";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
    let names: Vec<String> =
        names.map(|name| Ok(quoted(&name?))).collect::<rusqlite::Result<_>>()?;
    Ok(names.join(", "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn copy_rows(old: &Connection, version: i32, new: &mut Connection) -> rusqlite::Result<()> {
    // Version 2 added the last three. Their JSON texts had no shapes.
    let columns = row::COLUMNS.map(|name| match name {
        "estimate" if version < 2 => "NULL, NULL",
        "stream_usage" | "charged_by" if version < 2 => "NULL",
        "key_fingerprint" => "NULL",
        // What somebody broke by hand is not worth a row.
        "usage_json" => "NULL, iif(json_valid(usage_json), usage_json, NULL)",
        "estimate" => "NULL, iif(json_valid(estimate), estimate, NULL)",
        "metadata" => "iif(json_valid(metadata), metadata, NULL)",
        name => name,
    });
    let sql = format!("SELECT {} FROM token_usage ORDER BY created_at, rowid", columns.join(", "));
    let mut statement = old.prepare(&sql)?;
    let mut records = statement.query_map([], |row| {
        let id = row.get_ref(0)?.as_str().unwrap_or_default().to_owned();
        Ok(row::read(row).map_err(|error| (id, error)))
    })?;
    let (mut names, mut done) = (Names::default(), 0_u64);
    loop {
        let transaction = new.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut rows, mut batch) = (Rows::new(&transaction, &mut names)?, 0);
        for record in records.by_ref().take(BATCH) {
            batch += 1;
            match record? {
                Ok(record) => drop(rows.insert(&record)?),
                Err((id, error)) => {
                    tracing::error!(id, %error, "a row cannot be read; only the old file has it");
                }
            }
        }
        rows.finish()?;
        transaction.commit()?;
        if batch == 0 {
            return Ok(());
        }
        done += batch;
        if done % SAY < batch {
            tracing::info!(rows = done, "bringing the ledger up to date");
        }
    }
}

/// Keeps the old file under another name and gives its own to the new one. Answers the other name.
fn swap(path: &Path, new: &Path, version: i32) -> io::Result<PathBuf> {
    File::open(new)?.sync_all()?;
    // It belongs to the old file, and was emptied: with the new one it would be damage.
    for suffix in ["-wal", "-shm"] {
        let companion = with_suffix(path, suffix);
        match fs::metadata(&companion) {
            Ok(found) if suffix == "-wal" && found.len() > 0 => {
                return Err(io::Error::other("another program is using the database"));
            }
            Ok(_) => fs::remove_file(&companion)?,
            Err(_) => {}
        }
    }
    let kept = keep(path, version)?;
    fs::rename(new, path)?;
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(kept)
}

/// Gives the old file a second name.
fn keep(path: &Path, version: i32) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let again = if number == 0 { String::new() } else { format!("-{number}") };
        let kept = with_suffix(path, &format!(".schema-{version}{again}"));
        match fs::metadata(&kept) {
            // An upgrade before this one got no further.
            Ok(there) if same_file(&there, &fs::metadata(path)?) => return Ok(kept),
            Ok(_) => number += 1,
            Err(_) => {
                if fs::hard_link(path, &kept).is_err() {
                    fs::copy(path, &kept)?;
                    File::open(&kept)?.sync_all()?;
                }
                return Ok(kept);
            }
        }
    }
}

/// Makes an empty file that the same people may read and write.
pub(super) fn alike(old: &Path, new: &Path) -> io::Result<()> {
    let found = fs::metadata(old)?;
    let made = File::create_new(new)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let own = made.metadata()?;
        if (own.uid(), own.gid()) != (found.uid(), found.gid()) {
            fchown(&made, Some(found.uid()), Some(found.gid()))?;
        }
    }
    made.set_permissions(found.permissions())
}

/// Removes what an upgrade before this one left.
pub(super) fn clear(new: &Path) -> io::Result<()> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        match fs::remove_file(with_suffix(new, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Filter, Reader, StatsQuery};
    use crate::units::Timestamp;

    /// What version 1 wrote, what version 2 added, and what version 3 wrote.
    const VERSION_1: &str = include_str!("../../tests/ledgers/schema-1.sql");
    const VERSION_2: &str = include_str!("../../tests/ledgers/schema-2.sql");
    const VERSION_3: &str = include_str!("../../tests/ledgers/schema-3.sql");

    fn old(path: &Path, version: i32) -> Connection {
        let old = Connection::open(path).unwrap();
        let id = schema::APPLICATION_ID;
        let mark = format!("PRAGMA journal_mode = WAL; PRAGMA application_id = {id};");
        old.execute_batch(&format!("{mark} {VERSION_1}")).unwrap();
        if version > 1 {
            old.execute_batch(VERSION_2).unwrap();
        }
        old.pragma_update(None, "user_version", version).unwrap();
        let insert = "INSERT INTO token_usage (id, created_at, upstream, provider, endpoint, method, \
            path, user, usage_source, cost_source, cost_usd, streaming, outcome, usage_json) VALUES \
            (?, ?, 'u', 'p', 'e', 'POST', '/', 'ann', 'none', 'none', 5, 0, 'completed', '{\"a\": 1}')";
        for at in 0..5 {
            let id = crate::record::CallId::new().to_string();
            old.execute(insert, rusqlite::params![id, at]).unwrap();
        }
        old.execute("INSERT INTO journal_progress VALUES ('2026-11-21.jsonl', 77)", []).unwrap();
        old
    }

    #[test]
    fn every_schema_that_ever_was_is_brought_up_to_date_and_kept() {
        for version in 1..NARROW {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("old.db");
            drop(old(&path, version));
            let before = fs::read(&path).unwrap();
            // A report does it as well as a server.
            let reader = Reader::open(&path).unwrap();
            let page = reader.usage(&Filter::default(), 9, None).unwrap();
            assert_eq!(page.records.len(), 5);
            let newest = &page.records[0];
            assert_eq!(newest.created_at, Timestamp::from_millis(4));
            assert_eq!(newest.user.as_deref(), Some("ann"));
            assert_eq!(newest.usage_json.as_ref().unwrap().get(), "{\"a\": 1}");
            let kept = with_suffix(&path, &format!(".schema-{version}"));
            assert_eq!(fs::read(kept).unwrap(), before);
            let new = schema::open_writer(&path).unwrap();
            let progress = super::super::store::progress(&new).unwrap();
            assert_eq!(progress["2026-11-21.jsonl"], 77);
        }
    }

    #[test]
    fn a_ledger_with_indexes_gets_postings() {
        let four = VERSION_3.replace(
            "CREATE INDEX calls_by_user ON calls (user, kind)",
            "CREATE INDEX calls_by_user ON calls (key >> 43, user, kind)",
        );
        assert_ne!(four, VERSION_3);
        gets_postings(3, VERSION_3);
        gets_postings(4, &four);
    }

    /// Calls of former kinds and those of today that have no key are of the same kinds.
    #[test]
    fn a_ledger_without_fingerprints_of_keys_gets_room_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.db");
        let add = |at: std::ops::Range<i64>| {
            let mut load = crate::ledger::Loader::open(&path).unwrap();
            at.for_each(|at| load.add(row::tests::call(at)).unwrap());
            load.finish().unwrap();
        };
        add(0..5);
        let old = Connection::open(&path).unwrap();
        old.execute_batch(
            "DROP VIEW token_usage; ALTER TABLE kinds DROP COLUMN key_fingerprint;
            CREATE VIEW token_usage AS SELECT key FROM calls; PRAGMA user_version = 5;",
        )
        .unwrap();
        let kinds = |connection: &Connection| -> i64 {
            connection.query_row("SELECT count(*) FROM kinds", [], |row| row.get(0)).unwrap()
        };
        let before = kinds(&old);
        drop(old);
        add(5..9);
        let reader = Reader::open(&path).unwrap();
        let records = reader.usage(&Filter::default(), 99, None).unwrap().records;
        assert_eq!(records.len(), 9);
        assert!(records.iter().all(|record| record.key_fingerprint.is_none()));
        assert_eq!(reader.stats(&StatsQuery::default()).unwrap().totals.requests, 9);
        let new = schema::open_writer(&path).unwrap();
        assert_eq!(kinds(&new), before);
        postings::examine(&new, &mut |said| panic!("{said}")).unwrap();
    }

    fn gets_postings(version: i32, text: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL").unwrap();
        old.execute_batch(text).unwrap();
        // What its owner has added.
        let theirs = "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (7);
            CREATE INDEX theirs_too ON calls (total_tokens)";
        old.execute_batch(theirs).unwrap();
        old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", version).unwrap();
        drop(old);
        let before = fs::read(&path).unwrap();
        let reader = Reader::open(&path).unwrap();
        let user = Some("ada.abbott@northwind.example".to_owned());
        let theirs = Filter { user, ..Filter::default() };
        assert_eq!(reader.usage(&Filter::default(), 9, None).unwrap().records.len(), 5);
        let stats = reader.stats(&StatsQuery { filter: theirs.clone(), ..StatsQuery::default() });
        let calls = stats.unwrap().totals.requests;
        assert_eq!(reader.usage(&theirs, 9, None).unwrap().records.len() as u64, calls);
        assert!((1..5).contains(&calls), "{calls}");
        assert_eq!(fs::read(with_suffix(&path, &format!(".schema-{version}"))).unwrap(), before);
        let new = schema::open_writer(&path).unwrap();
        let x: i64 = new.query_row("SELECT x FROM theirs", [], |row| row.get(0)).unwrap();
        assert_eq!(x, 7);
        assert_eq!(new.execute("DROP INDEX theirs_too", []).unwrap(), 0);
        postings::examine(&new, &mut |said| panic!("{said}")).unwrap();
        assert_eq!(super::super::store::progress(&new).unwrap()["2026-11-21.jsonl"], 77);
        let definition = |connection: &Connection| -> Vec<String> {
            let sql = "SELECT sql FROM sqlite_schema WHERE name LIKE 'calls%' ORDER BY name";
            let mut all = connection.prepare(sql).unwrap();
            all.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let fresh = schema::open_writer(&directory.path().join("new.db")).unwrap();
        assert_eq!(definition(&new), definition(&fresh));
    }

    #[test]
    fn an_upgrade_that_was_cut_off_is_done_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.db");
        drop(old(&path, 2));
        fs::write(with_suffix(&path, ".upgrade"), "half").unwrap();
        fs::hard_link(&path, with_suffix(&path, ".schema-2")).unwrap();
        if_old(&path).unwrap();
        assert_eq!(schema::version(&Connection::open(&path).unwrap()).unwrap(), schema::VERSION);
        assert!(!with_suffix(&path, ".schema-2-1").exists());
        assert!(!with_suffix(&path, ".upgrade").exists());
    }

    #[test]
    fn a_row_that_cannot_be_read_is_in_the_old_file_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.db");
        let broken = old(&path, 2);
        broken.execute("UPDATE token_usage SET id = 'rubbish' WHERE created_at = 3", []).unwrap();
        broken.execute("UPDATE token_usage SET usage_json = '{' WHERE created_at = 2", []).unwrap();
        drop(broken);
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, private).unwrap();
        let before = fs::read(&path).unwrap();
        if_old(&path).unwrap();
        assert_eq!(fs::read(with_suffix(&path, ".schema-2")).unwrap(), before);
        let page = Reader::open(&path).unwrap().usage(&Filter::default(), 9, None).unwrap();
        assert_eq!(page.records.len(), 4);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
