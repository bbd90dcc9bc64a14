//! The ledger: every call one row, whatever happens. A journal takes a line when a call opens and
//! one when it closes; a thread moves them into a database; readers answer from there.
//!
//! | file | owns |
//! | --- | --- |
//! | `journal` | the writing end of the journal, and the queue for when it cannot be written |
//! | `unsynced` | lines that may not be on the disk yet, and who waits for that |
//! | `keeper`, `shouts` | the thread that syncs and tries again; what the log says meanwhile |
//! | `handover` | lines that were written and need not be read, in memory |
//! | `tail` | the reading end |
//! | `feed`, `store` | from the journal into the database, each call once; the SQL for it |
//! | `fault`, `health`, `disk` | what can keep rows from arriving; how the ledger is doing; room that is left |
//! | `watch` | who hears of each call once it is there |
//! | `held` | calls whose figures are about to be amended |
//! | `charged` | usage that providers hand out again, charged once |
//! | `writer` | the thread that feeds, its pace, and what it does about faults |
//! | `load` | records in bulk, without a journal |
//! | `made_up` | which ledgers are of calls that nobody made |
//! | `import` | what rows and journal lines from elsewhere mean, and their way into a ledger |
//! | `backup` | a copy of one moment, while others write |
//! | `doctor` | whether rows, sums and journal agree, and making them agree again |
//! | `recover` | a damaged database made anew |
//! | `reprice`, `audit` | other costs in rows that are there; what they were, and why they changed |
//! | `retention` | rows that are too old |
//! | `schema`, `layout`, `upgrade` | the database file; its tables; what former versions wrote |
//! | `kind`, `names`, `packed` | what repeats from call to call, kept once |
//! | `keys` | the keys of new rows |
//! | `row`, `rows` | a record as a row; rows added and replaced, and the sums with them |
//! | `postings` | which rows are of a kind, a user, a session |
//! | `rollup`, `sketch` | sums by half hour, kind and user; durations in buckets |
//! | `filter`, `scan`, `group`, `totals`, `sort` | which calls, the way to them, by what, how much, in which order |
//! | `breakdown`, `query` | totals from sums or rows; the questions |
//!
//! Invariant: nothing on the path of a call fails or waits because of the ledger, unless it is configured
//! so: [`OnFailure::Refuse`], [`JournalSync::Call`].

mod audit;
mod backup;
mod breakdown;
mod charged;
mod disk;
pub mod doctor;
mod fault;
mod feed;
mod filter;
mod group;
mod handover;
mod health;
mod held;
mod import;
mod journal;
mod keeper;
mod keys;
mod kind;
mod layout;
mod load;
mod made_up;
mod names;
mod packed;
mod postings;
mod query;
mod recover;
mod reprice;
mod retention;
mod rollup;
mod row;
mod rows;
mod scan;
mod schema;
mod shouts;
mod sketch;
mod sort;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod totals;
mod unsynced;
mod upgrade;
mod watch;
mod writer;

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use audit::{Plan, Repricing, RepricingState, repricings};
pub use backup::{BackedUp, BackupStage, backup};
pub use filter::{BadCursor, Cursor, Filter};
pub use group::{GroupKey, UnknownKey};
pub use health::{Health, Problem, Word};
pub use import::{Import, ImportError, Imported};
pub use keeper::Kept;
pub use kind::Counts;
pub use load::{Loaded, Loader};
pub use made_up::{is_made_up, mark_made_up};
pub use query::{
    AttemptTotals, Breakdowns, Page, QueryError, Reader, SessionReport, Stats, StatsQuery,
    UserReport,
};
pub use recover::{Recovered, Saved, Way, recover};
pub use reprice::{RepriceError, Repricer, Undone};
pub use rollup::Recorded;
pub use row::COLUMNS;
pub use sort::{Order, SortKey, UnknownSort};
pub use totals::{Group, Totals};
pub use unsynced::JournalSync;
pub use watch::Watcher;

use fault::FeedError;
pub use feed::OpenCalls;
use feed::{Feed, Keep};
use journal::{Journal, Line};
use watch::Watchers;
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
    /// Days that rows are kept; their sums stay. `None`: for ever.
    pub retention_days: Option<u32>,
    pub journal_sync: JournalSync,
    pub on_failure: OnFailure,
}

impl Settings {
    /// What holds where nothing is configured but the database's place.
    pub fn of(database: impl Into<PathBuf>) -> Settings {
        Settings {
            database: database.into(),
            journal_days: 7,
            retention_days: None,
            journal_sync: JournalSync::default(),
            on_failure: OnFailure::default(),
        }
    }
}

/// What becomes of new calls while the journal cannot be written. While it can, nothing is lost and
/// nothing refused, whatever state the database is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// They pass, and their records wait in memory.
    #[default]
    Serve,
    /// They are refused before they are sent.
    Refuse,
}

/// Why a call was refused.
#[derive(Clone, Debug)]
pub struct Unrecordable(String);

impl fmt::Display for Unrecordable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal cannot be written: {}", self.0)
    }
}

impl std::error::Error for Unrecordable {}

/// The handle on a ledger; clones share it. Dropping the last one writes out what is left.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    database: PathBuf,
    journal: Arc<Journal>,
    writer: Writer,
    reader: Reader,
    on_failure: OnFailure,
    is_over: AtomicBool,
    _locks: [Lock; 2],
}

impl Ledger {
    /// Opens or creates the database and the journal beside it, takes in what the journal holds,
    /// and closes as `interrupted` the calls that the last stop cut off. If the database is sound
    /// but cannot be written just now, or the journal is long, that goes on in the background.
    pub fn open(settings: &Settings) -> Result<Ledger, OpenError> {
        Ledger::watched(settings, Vec::new())
    }

    /// The same; the watchers hear of each call that comes into the ledger from now on.
    pub fn watched(
        settings: &Settings,
        watchers: Vec<Box<dyn Watcher>>,
    ) -> Result<Ledger, OpenError> {
        let database = resolve(&settings.database)?;
        let directory = database.with_file_name("journal");
        schema::inspect(&database)?;
        make_directory(&directory).map_err(|error| OpenError::io(&directory, error))?;
        let locks = [
            Lock::take(&with_suffix(&database, ".lock"), &database)?,
            Lock::of_journal(&directory, &database)?,
        ];
        upgrade::if_old(&database)?;
        let connection = schema::open_writer(&database)?;
        let journal = Journal::open(directory.clone());
        let journal = journal.and_then(|journal| journal.synced(settings.journal_sync));
        let journal = Arc::new(journal.map_err(|error| OpenError::io(&directory, error))?);
        let Settings { journal_days, retention_days, .. } = *settings;
        let (path, keep) = (database.clone(), Keep { journal_days, retention_days });
        let feed = Feed::new(connection, path, Arc::clone(&journal), keep, true);
        let feed = feed.map_err(|error| OpenError::feed(&database, error))?;
        let mut feed = feed.watched(Watchers::new(watchers));
        let fault = feed.first_pass(CATCH_UP).err();
        let writer = Writer::start(feed, Arc::clone(&journal), fault.as_ref());
        let writer = writer.map_err(|error| OpenError::io(&database, error))?;
        keeper::start(&journal).map_err(|error| OpenError::io(&directory, error))?;
        let reader = Reader::new(&database);
        Ok(Ledger(Arc::new(Inner {
            database,
            journal,
            writer,
            reader,
            on_failure: settings.on_failure,
            is_over: AtomicBool::new(false),
            _locks: locks,
        })))
    }

    /// Notes that a call is about to be sent, with what is known so far; or says why it must not be,
    /// where it is configured that calls which cannot be recorded are refused.
    pub fn admit(&self, record: &Record) -> Result<(), Unrecordable> {
        match self.0.on_failure {
            OnFailure::Serve => self.opened(record),
            OnFailure::Refuse => {
                self.0.journal.admit(record).map_err(Unrecordable)?;
                self.0.writer.ring();
            }
        }
        Ok(())
    }

    /// Notes that a call has opened that nothing can keep from being sent any more.
    pub fn opened(&self, record: &Record) {
        self.0.journal.append(&Line::Open(record));
        self.0.writer.ring();
    }

    /// Notes that a call has closed. When this returns, a crash of this process cannot take the
    /// record any more (unless the journal cannot be written: see [`Ledger::health`]).
    pub fn closed(&self, record: &Record) {
        self.close(record.clone());
    }

    /// The same; the end of the call's answer waits for what is returned. The record goes to the ledger's
    /// thread as it is.
    pub fn close(&self, record: impl Into<Box<Record>>) -> Kept {
        let number = self.0.journal.append_close(record.into());
        self.0.writer.ring();
        Kept::new(&self.0.journal, number)
    }

    /// [`Ledger::closed`] for a record that [`Ledger::amended`] is about to replace. Its row is kept back
    /// for that, for a quarter of a second; should nothing come, or a crash, the row is as it is here.
    pub fn closed_for_now(&self, record: &Record) {
        self.close_for_now(record.clone());
    }

    /// The same; the end of the call's answer waits for what is returned.
    pub fn close_for_now(&self, record: impl Into<Box<Record>>) -> Kept {
        let number = self.0.journal.append_provisional(record.into());
        self.0.writer.ring();
        Kept::new(&self.0.journal, number)
    }

    /// Puts a record in the place of the one with its id, charges and all; a record that was never
    /// closed is added. As safe from a crash as [`Ledger::closed`].
    pub fn amended(&self, record: &Record) {
        self.amend(record.clone());
    }

    /// The same. The record goes to the ledger's thread as it is.
    pub fn amend(&self, record: impl Into<Box<Record>>) {
        self.0.journal.append_amend(record.into());
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

    /// The calls that are open now; nothing if that cannot be told in time. Blocks: not for runtime threads.
    pub fn open_calls(&self, timeout: Duration) -> Option<OpenCalls> {
        self.0.writer.open_calls(timeout)
    }

    /// For questions.
    pub fn reader(&self) -> Reader {
        self.0.reader.clone()
    }

    pub fn health(&self) -> Health {
        let (report, trouble) = (self.0.writer.report(), self.0.journal.trouble());
        let is_refusing = trouble.error.is_some() && self.0.on_failure == OnFailure::Refuse;
        let journal = trouble.error.map(|error| Problem::journal(&error, is_refusing));
        let mut problems: Vec<Problem> = journal.into_iter().chain(report.problem).collect();
        if report.finished && problems.is_empty() {
            problems.push(Problem::new(Word::LedgerStopped, "the ledger is stopped"));
        }
        Health {
            problems,
            warnings: health::warnings(trouble.dropped, &report.refused, report.disk_free),
            is_refusing,
            refused_calls: trouble.refused,
            journal_lag_bytes: report.lag,
            journal_lag: report.behind_since.map(|since| since.elapsed()).unwrap_or_default(),
            waiting_lines: trouble.waiting,
            waiting_bytes: trouble.waiting_bytes,
            dropped_lines: trouble.dropped,
            unreadable_lines: report.unreadable,
            rows: report.stored.rows,
            commits: report.stored.commits,
            syncs: trouble.syncs,
            disk_free_bytes: report.disk_free,
        }
    }

    /// Moves what is left into the database and ends the threads; false if that takes too long, in
    /// which case the journal keeps it for the next start. Blocks. No calls may follow.
    pub fn shutdown(&self, timeout: Duration) -> bool {
        self.0.shutdown(timeout)
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

impl Inner {
    /// What waits in memory first, for the journal keeps the rest: a quarter of the time to go there, and
    /// then it may go straight into the database.
    fn shutdown(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        keeper::settle(&self.journal, Instant::now() + timeout / 4);
        let left = || deadline.saturating_duration_since(Instant::now()).max(timeout / 8);
        let is_done = self.writer.stop(left());
        self.journal.close(left());
        if !self.is_over.swap(true, Ordering::AcqRel) {
            self.say_what_is_lost();
        }
        is_done
    }

    fn say_what_is_lost(&self) {
        let trouble = self.journal.trouble();
        let (waiting, dropped) = (trouble.waiting, trouble.dropped);
        if waiting > 0 || dropped > 0 {
            let error = trouble.error.unwrap_or_default();
            tracing::error!(
                lost = waiting as u64 + dropped,
                waiting,
                dropped,
                %error,
                "RECORDS LOST: lines that could not be written to the journal until now are gone"
            );
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !*self.is_over.get_mut() {
            self.shutdown(LAST_ROWS);
        }
    }
}

/// Why a ledger could not be opened. Every message names the file.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    InUse { path: PathBuf, by: Option<u32> },
    /// The journal beside it is that of another database.
    OthersJournal { path: PathBuf, of: PathBuf },
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
            FeedError::NotReopened(error) => error,
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
            OpenError::OthersJournal { path, of } => write!(
                f,
                "{} holds the calls of {}; keep each ledger in a directory of its own",
                path.display(),
                of.display()
            ),
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
        Lock::take_for(path, what, "")
    }

    /// The lock of a journal, which also says whose it is.
    fn of_journal(directory: &Path, database: &Path) -> Result<Lock, OpenError> {
        let path = directory.join(".lock");
        // In use is the better reason of the two.
        if let Err(error @ OpenError::InUse { .. }) = Lock::try_only(&path, directory) {
            return Err(error);
        }
        refuse_others(directory, database)?;
        let name = database.file_name().unwrap_or_default().to_string_lossy();
        // Lines of JSON, as all lines of a journal's directory.
        Lock::take_for(&path, directory, &serde_json::json!(name).to_string())
    }

    /// Whether the lock could be had.
    fn try_only(path: &Path, what: &Path) -> Result<(), OpenError> {
        match File::open(path) {
            Ok(mut file) => Lock::have(&mut file, path, what),
            Err(_) => Ok(()),
        }
    }

    fn have(file: &mut File, path: &Path, what: &Path) -> Result<(), OpenError> {
        match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let by = text.lines().next().and_then(|line| line.trim().parse().ok());
                Err(OpenError::InUse { path: what.to_owned(), by })
            }
            Err(TryLockError::Error(error)) => Err(OpenError::io(path, error)),
        }
    }

    fn take_for(path: &Path, what: &Path, whose: &str) -> Result<Lock, OpenError> {
        let failed = |error| OpenError::io(path, error);
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(failed)?;
        Lock::have(&mut file, path, what)?;
        // For the other one's message, and for whoever comes next; it may fail (on a full disk, say).
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}\n{whose}", std::process::id()));
        Ok(Lock { _file: file })
    }
}

/// Makes a directory of the ledger's, which is for its owner alone.
fn make_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Whether a process records into a ledger just now.
pub fn is_served(database: &Path) -> bool {
    let Ok(database) = database.canonicalize() else { return false };
    File::open(with_suffix(&database, ".lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether a path names one of a ledger's files: the database with what belongs to it, or the journal.
pub fn owns(database: &Path, path: &Path) -> bool {
    let same = |file: &Path| match (fs::metadata(file), fs::metadata(path)) {
        (Ok(one), Ok(other)) => tail::same_file(&one, &other),
        _ => false,
    };
    let journal = database.with_file_name("journal");
    let files = ["", "-wal", "-shm", ".lock"].map(|suffix| with_suffix(database, suffix));
    let days = journal::days(&journal).unwrap_or_default().into_iter().map(|(_, path)| path);
    files.iter().any(|file| same(file) || file == path)
        || same(&journal.join(".lock"))
        || days.into_iter().any(|day| same(&day))
}

/// Refuses the journal of another database which is there: its calls would go to this one, and be missing
/// in the other.
fn refuse_others(directory: &Path, database: &Path) -> Result<(), OpenError> {
    let others = |of| OpenError::OthersJournal { path: directory.to_owned(), of };
    owner(directory, database).map_or(Ok(()), |of| Err(others(of)))
}

/// The other database that a journal belongs to, if that is there: the journal's lock names the one that
/// last had it.
fn owner(directory: &Path, database: &Path) -> Option<PathBuf> {
    let lock = fs::read_to_string(directory.join(".lock")).ok()?;
    let name: String = serde_json::from_str(lock.lines().nth(1)?).ok()?;
    let owner = database.with_file_name(&name);
    (!name.is_empty() && owner != database && owner.exists()).then_some(owner)
}

/// Bytes of the journal that are not in the database while no process is there to move them: what a
/// crash left, until the next start. Reports from the database alone do not show them. 0 where it
/// cannot be told.
pub fn left_behind(database: &Path) -> u64 {
    let Ok(database) = database.canonicalize() else { return 0 };
    let is_served = is_served(&database);
    let read = schema::open_reader(&database).and_then(|reader| store::progress(&reader));
    let (false, Ok(read)) = (is_served, read) else { return 0 };
    if owner(&database.with_file_name("journal"), &database).is_some() {
        return 0;
    }
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
