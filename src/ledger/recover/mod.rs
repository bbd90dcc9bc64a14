//! A damaged database: what can be read of it into a new one, the rest from the journal. Owns the order of
//! that, and the moment when the new file takes the old one's place.
//!
//! | file | owns |
//! | --- | --- |
//! | `salvage` | reading a table around what is broken |
//! | `graft` | a first page for a file whose own is broken |
//! | `patch` | stand-ins for names that are lost |
//!
//! Invariant: until the new file is whole and on disk, the damaged one stands under its name; afterwards it
//! stays beside it, under a name that says so. It is read, and never written to.

mod graft;
mod patch;
mod salvage;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::doctor::{self, Depth, Stuck, Watch};
use super::{OpenError, journal, postings, resolve, schema, upgrade, with_suffix};
use crate::record::CallId;
use crate::units::Timestamp;
use salvage::Salvaged;

/// What a recovery came to.
#[derive(Clone, Debug)]
pub enum Recovered {
    /// There was nothing to do: the file is sound, or there is none.
    Sound {
        path: PathBuf,
    },
    Saved(Saved),
}

/// What was saved of a damaged database, and what was not.
#[derive(Clone, Debug)]
pub struct Saved {
    pub path: PathBuf,
    /// Where the damaged file is now.
    pub kept: PathBuf,
    pub way: Way,
    /// Rows read from the damaged file.
    pub rows: u64,
    /// Rows that only the journal had.
    pub refilled: u64,
    /// Rows that the journal has with other figures, which are taken.
    pub replaced: u64,
    /// Rows that the damaged file names in an index, and that are nowhere.
    pub lost: u64,
    /// Rows of which nothing sensible could be read.
    pub dropped: u64,
    /// Rows with stand-ins for names that are lost.
    pub patched: u64,
    /// Stretches of tables that could not be read.
    pub gaps: Vec<String>,
}

/// How the damaged file could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As it is.
    Tables,
    /// With the first page of a new ledger in the place of its own.
    Grafted,
    /// Not at all: the new database has what the journal has.
    JournalAlone,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recovered::Sound { path } => {
                write!(f, "{} is not damaged; it was left as it is", path.display())
            }
            Recovered::Saved(saved) => saved.fmt(f),
        }
    }
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, kept) = (self.path.display(), self.kept.display());
        writeln!(f, "{path} was damaged and has been made anew; the damaged file is {kept}")?;
        match self.way {
            Way::Tables => {}
            Way::Grafted => {
                writeln!(f, "its first page was broken, and that of a new ledger read instead")?;
            }
            Way::JournalAlone => writeln!(
                f,
                "nothing of it could be read: older calls than the journal has are not in the new one"
            )?,
        }
        write!(f, "{} rows saved, {} from the journal", self.rows, self.refilled)?;
        if self.replaced > 0 {
            write!(f, ", {} put right by it", self.replaced)?;
        }
        if self.patched > 0 {
            write!(f, "\n{} rows name what is lost: they have stand-ins", self.patched)?;
        }
        if self.dropped > 0 {
            write!(f, "\n{} rows were too damaged to be kept", self.dropped)?;
        }
        match (self.lost, self.gaps.is_empty()) {
            (0, true) if self.way != Way::JournalAlone => {
                write!(f, "\nno row is known to be lost")?;
            }
            (0, _) => {}
            (lost, _) => write!(f, "\n{lost} rows are known to be lost")?,
        }
        self.gaps.iter().try_for_each(|gap| write!(f, "\nnot readable: {gap}"))
    }
}

/// Makes a damaged database anew. Needs the ledger for itself; leaves a sound one alone.
pub fn recover(database: &Path, watch: &mut Watch<'_>) -> Result<Recovered, OpenError> {
    let path = resolve(database)?;
    if fs::metadata(&path).map_or(0, |found| found.len()) == 0 {
        return Ok(Recovered::Sound { path });
    }
    let _locks = doctor::locks(&path)?;
    if is_sound(&path, watch)? {
        return Ok(Recovered::Sound { path });
    }
    let new = with_suffix(&path, ".recovering");
    let grafted = with_suffix(&path, ".recovering-source");
    for left_over in [&new, &grafted] {
        upgrade::clear(left_over).map_err(|error| OpenError::io(left_over, error))?;
    }
    upgrade::alike(&path, &new).map_err(|error| OpenError::io(&new, error))?;
    let made = make(&path, &new, &grafted, watch);
    upgrade::clear(&grafted).map_err(|error| OpenError::io(&grafted, error))?;
    if made.is_err() {
        upgrade::clear(&new).map_err(|error| OpenError::io(&new, error))?;
    }
    let mut saved = made?;
    saved.kept = swap(&path, &new).map_err(|error| OpenError::io(&path, error))?;
    Ok(Recovered::Saved(saved))
}

fn is_sound(path: &Path, watch: &mut Watch<'_>) -> Result<bool, OpenError> {
    match schema::inspect(path) {
        Err(OpenError::Corrupt { .. }) => return Ok(false),
        inspected => inspected?,
    }
    let checked = schema::open_reader(path).map_err(|error| OpenError::database(path, error));
    let checked = checked.and_then(|reader| {
        schema::check_version(&reader, path)?;
        Ok(doctor::file(&reader, Depth::default(), watch))
    });
    match checked {
        Ok(findings) => Ok(findings.iter().all(|finding| finding.count == 0)),
        Err(OpenError::Corrupt { .. }) => Ok(false),
        Err(OpenError::TooOld { .. }) if is_whole(path) => Ok(true),
        Err(OpenError::TooOld { found, .. }) => Err(OpenError::Corrupt {
            path: path.to_owned(),
            reason: format!("it has the old schema {found}, which cannot be recovered"),
        }),
        Err(error) => Err(error),
    }
}

/// Of a ledger with an old schema.
fn is_whole(path: &Path) -> bool {
    let said = schema::open_reader(path).and_then(|reader| {
        reader.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    });
    said.is_ok_and(|said| said == "ok")
}

fn make(
    path: &Path,
    new: &Path,
    grafted: &Path,
    watch: &mut Watch<'_>,
) -> Result<Saved, OpenError> {
    let directory = path.with_file_name("journal");
    let failed = |error| OpenError::database(new, error);
    let mut connection = schema::connect(new).map_err(failed)?;
    // Nobody else has the file, and it is made anew after a crash.
    let fast = "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY";
    connection.execute_batch(fast).map_err(failed)?;
    schema::create(&connection).map_err(failed)?;
    let (way, source) = match open(path) {
        Some(source) => (Way::Tables, Some(source)),
        None => match graft::onto_copy(path, grafted)
            .and_then(|copied| copied.then(|| open(grafted)).flatten())
        {
            Some(source) => (Way::Grafted, Some(source)),
            None => (Way::JournalAlone, None),
        },
    };
    let days = journal::days(&directory).map_err(|error| OpenError::io(&directory, error))?;
    if source.is_none() && days.is_empty() {
        let reason = "nothing of a ledger can be found in it, and there is no journal".to_owned();
        return Err(OpenError::Corrupt { path: path.to_owned(), reason });
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = transaction.map_err(failed)?;
    let salvaged = match &source {
        Some(source) => salvage::all(source, &transaction, watch).map_err(failed)?,
        None => Salvaged::default(),
    };
    let stuck = |stuck| match stuck {
        Stuck::Database(error) => OpenError::database(new, error),
        Stuck::Journal(error) => OpenError::io(&directory, error),
    };
    let refilled = doctor::refill(&transaction, &directory, watch).map_err(stuck)?;
    let patched = patch::names(&transaction).map_err(failed)?;
    let dropped = patch::drop_unreadable(&transaction, watch).map_err(failed)?;
    // What is lost is charged for nothing any more.
    doctor::clear_left_over(&transaction).map_err(failed)?;
    postings::rebuild(&transaction).map_err(failed)?;
    doctor::remake_sums(&transaction, watch).map_err(stuck)?;
    let lost = count_missing(&transaction, &salvaged.missing).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    File::open(new).and_then(|file| file.sync_all()).map_err(|error| OpenError::io(new, error))?;
    let reader = schema::open_reader(new).map_err(failed)?;
    let findings = doctor::file(&reader, Depth::default(), watch);
    if let Some(finding) = findings.iter().find(|finding| finding.count > 0) {
        let reason = finding.examples.join("; ");
        return Err(OpenError::Corrupt { path: new.to_owned(), reason });
    }
    Ok(Saved {
        path: path.to_owned(),
        kept: PathBuf::new(),
        way,
        rows: salvaged.rows,
        refilled: refilled.added,
        replaced: refilled.replaced,
        lost,
        dropped: dropped + salvaged.rejected,
        patched,
        gaps: salvaged.gaps,
    })
}

/// Opens a file that may be damaged; nothing where its schema cannot be read.
fn open(path: &Path) -> Option<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        // Lets SQLite read a file that is shorter than its header says.
        connection.execute_batch("PRAGMA writable_schema = ON; PRAGMA query_only = ON")?;
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'calls'";
        let tables: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        Ok((tables == 1).then_some(connection))
    });
    opened.ok().flatten()
}

fn count_missing(connection: &Connection, missing: &[CallId]) -> rusqlite::Result<u64> {
    let mut find = connection.prepare("SELECT 1 FROM calls WHERE id = ?")?;
    let mut lost = 0;
    for id in missing {
        let found: Option<i64> = find.query_row([id.into_bytes()], |row| row.get(0)).optional()?;
        lost += u64::from(found.is_none());
    }
    Ok(lost)
}

/// Puts the new file in the place of the damaged one, which gets a name of its own first, with its log.
fn swap(path: &Path, new: &Path) -> io::Result<PathBuf> {
    let now = Timestamp::now().calendar().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut kept = with_suffix(path, &format!(".damaged-{now}"));
    let mut number = 1;
    while kept.exists() {
        number += 1;
        kept = with_suffix(path, &format!(".damaged-{now}-{number}"));
    }
    for suffix in ["", "-wal"] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(&kept, suffix));
        match fs::hard_link(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => {
                fs::copy(&from, &to)?;
                File::open(&to)?.sync_all()?;
            }
            Ok(()) => {}
        }
    }
    // The log is that of the damaged file, and would be taken for the new one's. A crash between these
    // two steps leaves the damaged file in its place, and its log under the other name.
    for suffix in ["-wal", "-shm"] {
        match fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(new, path)?;
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(kept)
}
