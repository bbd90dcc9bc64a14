//! Whether rows, sums and journal agree, and making them agree again. Owns the order of the checks and
//! what is said of them; prints nothing.
//!
//! | file | owns |
//! | --- | --- |
//! | `finding` | what a check is called, and what it found |
//! | `file` | the database as a file, its tables and marks |
//! | `names` | which numbers of names and kinds there are |
//! | `calls` | the rows one by one, and the sums against them |
//! | `lines` | the journal against the rows, and what may differ between the two |
//! | `mend` | what can be derived, derived again |
//!
//! A look is one reading transaction: the database of one moment, also while a server records. The
//! journal is read after it and so knows more, never less; what lies behind the progress that the
//! database tells is not there yet, which is no fault.
//!
//! Invariant: without the ledger's locks nothing is written; with them, all that is mended is mended in
//! one transaction.

mod calls;
mod file;
mod finding;
mod lines;
mod mend;
mod names;

use std::path::{Path, PathBuf};

use rusqlite::Connection;

pub use finding::{Check, Finding};

pub(super) use file::examine as file;
pub(super) use lines::{Stuck, clear_left_over, refill};
pub(super) use mend::sums as remake_sums;

use calls::Walked;

use super::{Lock, OpenError, journal, resolve, schema, store, with_suffix};

/// Says how far a long look is: what is looked at, and how many of how many; 0 of 0 where that cannot be
/// told.
pub type Watch<'w> = dyn FnMut(&'static str, u64, u64) + 'w;

/// How closely to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depth {
    /// Compare every index with its table too.
    pub deep: bool,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Examination {
    pub database: PathBuf,
    /// A server has the ledger.
    pub served: bool,
    pub rows: u64,
    /// Lines of the journal that were compared with rows.
    pub lines: u64,
    /// Bytes of the journal that the database has not been told to be read. No fault.
    pub unread_bytes: u64,
    /// Torn lines, mostly, which cost nothing but themselves. No fault.
    pub unreadable_lines: u64,
    /// Every check that was made, in their order.
    pub findings: Vec<Finding>,
}

/// What was made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Rows that the journal had and the database had not.
    pub added: u64,
    /// Rows that the journal has with other figures.
    pub replaced: u64,
    /// Calls that are in the sums now.
    pub counted: u64,
}

impl Examination {
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.count == 0)
    }

    /// How much of a check's kind is wrong.
    pub fn count(&self, check: Check) -> u64 {
        let of = self.findings.iter().filter(|finding| finding.check == check);
        of.map(|finding| finding.count).sum()
    }
}

/// Looks at a ledger, which a server may have, and changes nothing.
pub fn examine(
    database: &Path,
    depth: Depth,
    watch: &mut Watch<'_>,
) -> Result<Examination, OpenError> {
    let database = existing(database)?;
    schema::inspect(&database)?;
    let failed = |error| OpenError::database(&database, error);
    let mut connection = schema::open_reader(&database).map_err(failed)?;
    schema::check_version(&connection, &database)?;
    let transaction = connection.transaction().map_err(failed)?;
    // A transaction begins with its first reading.
    let progress = store::progress(&transaction);
    let served = is_served(&database);
    let mut findings = file::examine(&transaction, depth, watch);
    let Walked { rows, findings: found } = calls::examine(&transaction, watch);
    findings.extend(found);
    let directory = database.with_file_name("journal");
    let mut journal = match progress {
        Ok(progress) => lines::examine(&transaction, &directory, &progress, watch),
        Err(error) => lines::Examined::unreadable(&error),
    };
    findings.append(&mut journal.findings);
    Ok(Examination {
        served,
        rows,
        lines: journal.lines,
        unread_bytes: journal.unread_bytes,
        unreadable_lines: journal.unreadable_lines,
        findings,
        database,
    })
}

/// Makes again what can be derived: rows from the journal, sums from rows, what is left of open calls.
/// Needs the ledger for itself.
pub fn repair(examined: &Examination, watch: &mut Watch<'_>) -> Result<Mended, OpenError> {
    // An index can be made again. What else is wrong with a file is only made worse by writing to it.
    let broken = examined.findings.iter().find(|finding| finding.check == Check::File);
    let is_about_index = |said: &String| said.contains("index");
    if let Some(said) =
        broken.and_then(|file| file.examples.iter().find(|said| !is_about_index(said)))
    {
        return Err(OpenError::Corrupt { path: examined.database.clone(), reason: said.clone() });
    }
    alone(&examined.database, |connection, directory| {
        mend::all(connection, directory, examined, watch)
    })
}

/// Makes the sums again from the rows. Needs the ledger for itself.
pub fn rebuild_sums(database: &Path, watch: &mut Watch<'_>) -> Result<Mended, OpenError> {
    let database = existing(database)?;
    alone(&database, |connection, _| {
        Ok(Mended { counted: mend::sums(connection, watch)?, ..Mended::default() })
    })
}

/// Does something in one transaction that nobody else can disturb.
fn alone<T>(
    database: &Path,
    act: impl FnOnce(&rusqlite::Transaction<'_>, &Path) -> Result<T, Stuck>,
) -> Result<T, OpenError> {
    let directory = database.with_file_name("journal");
    let _locks = locks(database)?;
    let mut connection = schema::open_writer(database)?;
    let failed = |error| OpenError::database(database, error);
    let behavior = rusqlite::TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior).map_err(failed)?;
    let done = act(&transaction, &directory).map_err(|stuck| match stuck {
        Stuck::Database(error) => failed(error),
        Stuck::Journal(error) => OpenError::io(&directory, error),
    })?;
    transaction.commit().map_err(failed)?;
    let close = |connection: Connection| {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)
    };
    close(connection).map_err(failed)?;
    Ok(done)
}

/// Both locks of a ledger, in the order in which a server takes them.
pub(super) fn locks(database: &Path) -> Result<[Lock; 2], OpenError> {
    let directory = database.with_file_name("journal");
    std::fs::create_dir_all(&directory).map_err(|error| OpenError::io(&directory, error))?;
    Ok([
        Lock::take(&with_suffix(database, ".lock"), database)?,
        Lock::of_journal(&directory, database)?,
    ])
}

fn existing(database: &Path) -> Result<PathBuf, OpenError> {
    std::fs::metadata(database).map_err(|error| OpenError::io(database, error))?;
    resolve(database)
}

/// Whether another process holds the ledger's lock just now.
fn is_served(database: &Path) -> bool {
    std::fs::File::open(with_suffix(database, ".lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// The journal's files with their lengths, oldest first; none where there is no journal.
fn journal_files(directory: &Path) -> std::io::Result<Vec<(jiff::civil::Date, PathBuf)>> {
    match journal::days(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        days => days,
    }
}
