//! Rows and journal lines from elsewhere, on their way into a ledger. Owns what a journal's lines mean
//! there, and what is counted; files and their forms are others' affair.
//!
//! A journal tells of a call in several lines. An amendment takes the place of the provisional close
//! before it, which waits for that to the end; an opening without a close is a call that was cut off,
//! or one that goes on, which only its owner knows.
//!
//! Invariant: a row that is in the ledger stays as it is, so an import may be repeated.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use rusqlite::Connection;

use super::load::{Loaded, Loader};
use super::tail::{self, Entry};
use super::{OpenError, Reader, retention, schema, store};
use crate::record::{CallId, Record};
use crate::units::Timestamp;

/// Takes in rows and lines, in their order.
#[derive(Debug)]
pub struct Import {
    into: Target,
    /// Closed with figures that an amendment is about to replace.
    held: HashMap<CallId, Box<Record>>,
    open: HashMap<CallId, Box<Record>>,
    learned: u64,
}

#[derive(Debug)]
enum Target {
    Ledger(Box<Loader>),
    Nowhere(Rehearsal),
}

/// What became of it all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub added: u64,
    /// Were in the ledger already, or came twice.
    pub present: u64,
    /// Older than the ledger keeps rows.
    pub too_old: u64,
    /// Calls that have an opening, no close, and no row in the ledger.
    pub unfinished: u64,
    /// Lines about what estimates have learned, which are not taken.
    pub learned: u64,
}

/// Why something is not taken in.
#[derive(Debug)]
pub enum ImportError {
    /// The line cannot be read, or says nothing of a call; the next one may.
    Unreadable(Option<serde_json::Error>),
    Database(rusqlite::Error),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Unreadable(Some(error)) => error.fmt(f),
            ImportError::Unreadable(None) => f.write_str("this says nothing of a call"),
            ImportError::Database(error) => write!(f, "writing the database: {error}"),
        }
    }
}

impl std::error::Error for ImportError {}

impl From<rusqlite::Error> for ImportError {
    fn from(error: rusqlite::Error) -> ImportError {
        ImportError::Database(error)
    }
}

impl Import {
    /// Into a ledger, which is made if it is not there.
    pub fn open(database: &Path) -> Result<Import, OpenError> {
        Ok(Import::new(Target::Ledger(Box::new(Loader::open(database)?))))
    }

    /// Only counts; nothing is written or made.
    pub fn rehearse(database: &Path) -> Result<Import, OpenError> {
        let (mut connection, mut since) = (None, None);
        if database.exists() {
            Reader::open(database)?;
            let opened = schema::open_reader(database);
            let opened = opened.and_then(|reader| Ok((retention::rows_since(&reader)?, reader)));
            let opened = opened.map_err(|error| OpenError::database(database, error))?;
            (since, connection) = (opened.0, Some(opened.1));
        }
        let (seen, loaded) = (HashSet::new(), Loaded::default());
        Ok(Import::new(Target::Nowhere(Rehearsal { connection, since, seen, loaded })))
    }

    fn new(into: Target) -> Import {
        Import { into, held: HashMap::new(), open: HashMap::new(), learned: 0 }
    }

    /// Takes a row.
    pub fn row(&mut self, record: Record) -> rusqlite::Result<()> {
        self.into.add(record)
    }

    /// Takes a line of a journal.
    pub fn line(&mut self, text: &str) -> Result<(), ImportError> {
        let unreadable = |error| ImportError::Unreadable(Some(error));
        match tail::said(text, 0).map_err(unreadable)? {
            Some(Entry::Open { id, .. }) => {
                let opening =
                    tail::opening(text).map(|opening| serde_json::from_str(opening.get()));
                if let Some(record) = opening.transpose().map_err(unreadable)? {
                    self.open.insert(id, record);
                }
            }
            Some(Entry::Close(record)) => {
                self.open.remove(&record.id);
                self.into.add(*record)?;
            }
            Some(Entry::Provisional { record, .. }) => {
                self.open.remove(&record.id);
                self.held.insert(record.id, record);
            }
            Some(Entry::Amend(record)) => {
                self.open.remove(&record.id);
                self.held.remove(&record.id);
                self.into.add(*record)?;
            }
            Some(Entry::Learned(_)) => self.learned += 1,
            None => return Err(ImportError::Unreadable(None)),
        }
        Ok(())
    }

    /// Rows added and present so far, of those that are committed.
    pub fn so_far(&self) -> Loaded {
        match &self.into {
            Target::Ledger(loader) => loader.loaded(),
            Target::Nowhere(rehearsal) => rehearsal.loaded,
        }
    }

    /// Adds what waited: provisional rows without an amendment as they are and, where that is wanted,
    /// calls without a close as `interrupted`.
    pub fn finish(mut self, interrupted: bool) -> rusqlite::Result<Imported> {
        for record in by_time(std::mem::take(&mut self.held)) {
            self.into.add(record)?;
        }
        let mut unfinished = 0;
        for record in by_time(std::mem::take(&mut self.open)) {
            if self.into.has(&record.id)? {
                continue;
            }
            unfinished += 1;
            if interrupted {
                self.into.add(record)?;
            }
        }
        let Loaded { added, present, too_old } = match self.into {
            Target::Ledger(loader) => loader.finish()?,
            Target::Nowhere(rehearsal) => rehearsal.loaded,
        };
        Ok(Imported { added, present, too_old, unfinished, learned: self.learned })
    }
}

impl Target {
    fn add(&mut self, record: Record) -> rusqlite::Result<()> {
        match self {
            Target::Ledger(loader) => loader.add(record),
            Target::Nowhere(rehearsal) => rehearsal.add(&record),
        }
    }

    fn has(&self, id: &CallId) -> rusqlite::Result<bool> {
        match self {
            Target::Ledger(loader) => loader.has(id),
            Target::Nowhere(rehearsal) => rehearsal.has(id),
        }
    }
}

fn by_time(records: HashMap<CallId, Box<Record>>) -> Vec<Record> {
    let mut records: Vec<Record> = records.into_values().map(|record| *record).collect();
    records.sort_unstable_by_key(|record| (record.created_at, record.id));
    records
}

/// Counts what an import would do. Remembers 16 bytes for each call.
#[derive(Debug)]
struct Rehearsal {
    /// None: there is no ledger yet.
    connection: Option<Connection>,
    /// Since when it keeps rows.
    since: Option<Timestamp>,
    seen: HashSet<CallId>,
    loaded: Loaded,
}

impl Rehearsal {
    fn add(&mut self, record: &Record) -> rusqlite::Result<()> {
        if self.has(&record.id)? {
            self.loaded.present += 1;
        } else if self.since.is_some_and(|since| record.created_at < since) {
            self.loaded.too_old += 1;
        } else {
            self.seen.insert(record.id);
            self.loaded.added += 1;
        }
        Ok(())
    }

    fn has(&self, id: &CallId) -> rusqlite::Result<bool> {
        let is_stored = |connection| store::has_row(connection, id);
        Ok(self.seen.contains(id) || self.connection.as_ref().map_or(Ok(false), is_stored)?)
    }
}
