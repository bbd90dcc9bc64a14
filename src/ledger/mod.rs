//! The ledger: every call one row, whatever happens. A journal takes a line when a call opens and
//! one when it closes; a thread moves them into a database; readers answer from there.
//!
//! | file | owns |
//! | --- | --- |
//! | `journal` | the writing end of the journal, and the queue for when it cannot be written |
//! | `tail` | the reading end |
//! | `feed`, `store` | from the journal into the database, each call once; the SQL for it |
//! | `fault` | what can keep rows from arriving |
//! | `held` | calls whose figures are about to be amended |
//! | `charged` | usage that providers hand out again, charged once |
//! | `writer` | the thread that feeds, its pace, and what it does about faults |
//! | `load` | records in bulk, without a journal |
//! | `doctor` | whether rows, sums and journal agree, and making them agree again |
//! | `recover` | a damaged database made anew |
//! | `schema`, `row` | the tables; a record as a row |
//! | `filter`, `group`, `totals`, `sort`, `query` | which calls, by what, how much, in which order; the questions |
//!
//! Invariant: nothing on the path of a call fails or waits because of the ledger.

mod breakdown;
mod charged;
pub mod doctor;
mod fault;
mod feed;
mod filter;
mod group;
mod held;
mod journal;
mod kind;
mod layout;
mod load;
mod names;
mod packed;
mod query;
mod recover;
mod retention;
mod rollup;
mod row;
mod rows;
mod scan;
mod schema;
mod sketch;
mod sort;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod totals;
mod upgrade;
mod writer;

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use filter::{BadCursor, Cursor, Filter};
pub use group::{GroupKey, UnknownKey};
pub use load::{Loaded, Loader};
pub use query::{
    AttemptTotals, Page, QueryError, Reader, SessionReport, Stats, StatsQuery, UserReport,
};
pub use recover::{Recovered, Saved, Way, recover};
pub use row::COLUMNS;
pub use sort::{Order, SortKey, UnknownSort};
pub use totals::{Group, Totals};

use fault::FeedError;
use feed::Feed;
use journal::{Journal, Line};
use writer::Writer;

use crate::estimate::Calibration;
use crate::record::Record;

/// How long dropping the last handle waits for the last rows.
const LAST_ROWS: Duration = Duration::from_secs(5);

/// How long a start waits for what the journal holds. It is a matter of milliseconds, unless the
/// database is gone or the journal is all that is left of a bad day; then calls need not wait.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What a ledger needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub database: PathBuf,
    /// Days that a journal file is kept once it is wholly in the database.
    pub journal_days: u32,
}

/// The handle on a ledger; clones share it. Dropping the last one writes out what is left.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    database: PathBuf,
    journal: Arc<Journal>,
    writer: Writer,
    reader: Reader,
    _locks: [Lock; 2],
}

/// How the ledger is doing.
#[derive(Clone, Debug)]
pub struct Health {
    /// What is wrong; nothing while records reach the database.
    pub problem: Option<String>,
    /// Bytes of the journal that are not in the database yet.
    pub journal_lag_bytes: u64,
    /// Lines in memory because the journal cannot be written.
    pub waiting_lines: usize,
    /// Lines lost because that memory was full, since the start.
    pub dropped_lines: u64,
    /// Journal lines that could not be read (torn ones, mostly), since the start.
    pub unreadable_lines: u64,
}

impl Health {
    pub fn is_ok(&self) -> bool {
        self.problem.is_none()
    }
}

impl Ledger {
    /// Opens or creates the database and the journal beside it, takes in what the journal holds,
    /// and closes as `interrupted` the calls that the last stop cut off. If the database is sound
    /// but cannot be written just now, or the journal is long, that goes on in the background.
    pub fn open(settings: &Settings) -> Result<Ledger, OpenError> {
        let database = resolve(&settings.database)?;
        let directory = database.with_file_name("journal");
        schema::inspect(&database)?;
        fs::create_dir_all(&directory).map_err(|error| OpenError::io(&directory, error))?;
        let locks = [
            Lock::take(&with_suffix(&database, ".lock"), &database)?,
            Lock::take(&directory.join(".lock"), &directory)?,
        ];
        upgrade::if_old(&database)?;
        let connection = schema::open_writer(&database)?;
        let journal = Journal::open(directory.clone());
        let journal = Arc::new(journal.map_err(|error| OpenError::io(&directory, error))?);
        let (path, days) = (database.clone(), settings.journal_days);
        let feed = Feed::new(connection, path, Arc::clone(&journal), days, true);
        let mut feed = feed.map_err(|error| OpenError::feed(&database, error))?;
        let fault = feed.first_pass(CATCH_UP).err();
        let writer = Writer::start(feed, Arc::clone(&journal), fault.as_ref());
        let writer = writer.map_err(|error| OpenError::io(&database, error))?;
        let reader = Reader::new(&database);
        Ok(Ledger(Arc::new(Inner { database, journal, writer, reader, _locks: locks })))
    }

    /// Notes that a call has opened, with what is known so far.
    pub fn opened(&self, record: &Record) {
        self.0.journal.append(&Line::Open(record));
        self.0.writer.ring();
    }

    /// Notes that a call has closed. When this returns, a crash of this process cannot take the
    /// record any more (unless the journal cannot be written: see [`Ledger::health`]).
    pub fn closed(&self, record: &Record) {
        self.0.journal.append(&Line::Close(record));
        self.0.writer.ring();
    }

    /// The same for a record that [`Ledger::amended`] is about to replace. Its row is kept back for
    /// that, for a quarter of a second; should nothing come, or a crash, the row is as it is here.
    pub fn closed_for_now(&self, record: &Record) {
        self.0.journal.append(&Line::provisional(record));
        self.0.writer.ring();
    }

    /// Puts a record in the place of the one with its id, charges and all; a record that was never
    /// closed is added. As safe from a crash as [`Ledger::closed`].
    pub fn amended(&self, record: &Record) {
        self.0.journal.append(&Line::Amend(record));
        self.0.writer.ring();
    }

    /// Keeps what reported usage has taught about a model's estimates, in the place of what was known
    /// of them. Of the 10,000 learned last none is forgotten.
    pub fn learned(&self, calibration: &Calibration) {
        // What is not a number teaches nothing, and has no JSON.
        if calibration.bias.is_finite() && calibration.error.is_finite() {
            self.0.journal.append(&Line::Learned(calibration));
            self.0.writer.ring();
        }
    }

    /// What has been learned, for the start: nothing where it cannot be read. Blocks.
    pub fn calibrations(&self) -> Vec<Calibration> {
        self.reader().calibrations().unwrap_or_else(|error| {
            tracing::warn!(%error, "what was learned about estimates cannot be read");
            Vec::new()
        })
    }

    /// Waits until everything noted so far is in the database. Blocks: not for runtime threads.
    /// False when that is not so in time.
    pub fn sync(&self, timeout: Duration) -> bool {
        self.0.writer.sync(timeout)
    }

    /// For questions.
    pub fn reader(&self) -> Reader {
        self.0.reader.clone()
    }

    pub fn health(&self) -> Health {
        let (report, trouble) = (self.0.writer.report(), self.0.journal.trouble());
        let journal = trouble.error.map(|error| format!("the journal cannot be written: {error}"));
        let stopped = || report.finished.then(|| "the ledger is stopped".to_owned());
        Health {
            problem: journal.or(report.problem.clone()).or_else(stopped),
            journal_lag_bytes: report.lag,
            waiting_lines: trouble.waiting,
            dropped_lines: trouble.dropped,
            unreadable_lines: report.unreadable,
        }
    }

    /// Moves what is left into the database and ends the thread; false if that takes too long, in
    /// which case the journal keeps it for the next start. Blocks.
    pub fn shutdown(&self, timeout: Duration) -> bool {
        self.0.writer.stop(timeout)
    }

    /// Where the database is.
    pub fn database(&self) -> &Path {
        &self.0.database
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("database", &self.0.database).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.writer.stop(LAST_ROWS);
    }
}

/// Why a ledger could not be opened. Every message names the file.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    InUse { path: PathBuf, by: Option<u32> },
    /// Another program's database; left as it is.
    Foreign { path: PathBuf },
    /// Not a readable database; left as it is.
    Corrupt { path: PathBuf, reason: String },
    /// Written by a newer tokenmeter.
    TooNew { path: PathBuf, found: i32, known: i32 },
    /// Written by an older tokenmeter, and not upgraded yet.
    TooOld { path: PathBuf, found: i32 },
    /// A file or directory cannot be used.
    Io { path: PathBuf, source: io::Error },
    /// The database cannot be used.
    Database { path: PathBuf, source: rusqlite::Error },
}

impl OpenError {
    fn io(path: &Path, source: io::Error) -> OpenError {
        OpenError::Io { path: path.to_owned(), source }
    }

    fn database(path: &Path, source: rusqlite::Error) -> OpenError {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                OpenError::Corrupt { path, reason: source.to_string() }
            }
            _ => OpenError::Database { path, source },
        }
    }

    fn feed(path: &Path, error: FeedError) -> OpenError {
        match error {
            FeedError::Database(source) => OpenError::database(path, source),
            FeedError::Journal(source) => OpenError::io(path, source),
            FeedError::Replaced | FeedError::Unfinished => {
                OpenError::io(path, io::ErrorKind::NotFound.into())
            }
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { path, by } => {
                write!(f, "{} is in use by another tokenmeter", path.display())?;
                by.map_or(Ok(()), |process| write!(f, " (process {process})"))
            }
            OpenError::Foreign { path } => write!(
                f,
                "{} is a database, but not a tokenmeter ledger; it was left as it was",
                path.display()
            ),
            OpenError::Corrupt { path, reason } => {
                write!(
                    f,
                    "{} cannot be read: {reason}; it was left as it was. `tokenmeter serve --recover` \
                     saves what can be read of it, and keeps it beside",
                    path.display()
                )
            }
            OpenError::TooNew { path, found, known } => write!(
                f,
                "{} was written by a newer tokenmeter (schema {found}; this one knows {known})",
                path.display()
            ),
            OpenError::TooOld { path, found } => {
                write!(f, "{} was written by an older tokenmeter (schema {found})", path.display())
            }
            OpenError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            OpenError::Database { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { source, .. } => Some(source),
            OpenError::Database { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A lock on a file, held until dropped or the process is gone. The file stays: removing it would
/// let two processes lock two files of one name.
struct Lock {
    _file: File,
}

impl Lock {
    fn take(path: &Path, what: &Path) -> Result<Lock, OpenError> {
        let failed = |error| OpenError::io(path, error);
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let by = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::InUse { path: what.to_owned(), by });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only for the other one's message, so it may fail (on a full disk, say).
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
    }
}

/// Bytes of the journal that are not in the database while no process is there to move them: what a
/// crash left, until the next start. Reports from the database alone do not show them. 0 where it
/// cannot be told.
pub fn left_behind(database: &Path) -> u64 {
    let Ok(database) = database.canonicalize() else { return 0 };
    let is_served = File::open(with_suffix(&database, ".lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
    let read = schema::open_reader(&database).and_then(|reader| store::progress(&reader));
    let (false, Ok(read)) = (is_served, read) else { return 0 };
    let days = journal::days(&database.with_file_name("journal")).unwrap_or_default();
    let unread = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let length = fs::metadata(path).map_or(0, |found| found.len());
        length.saturating_sub(read.get(name).copied().unwrap_or_default())
    };
    days.iter().map(|(_, path)| unread(path)).sum()
}

/// The database's real path, so that two names of one file share journal and lock.
fn resolve(database: &Path) -> Result<PathBuf, OpenError> {
    let failed = |error| OpenError::io(database, error);
    if database.exists() {
        return database.canonicalize().map_err(failed);
    }
    let name = database.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let parent = database.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(failed)?;
    Ok(parent.canonicalize().map_err(failed)?.join(name))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
