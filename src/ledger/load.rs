//! Records into the database without a journal: imports, demonstration data, migrations. Owns the size
//! of a batch; the statements are the store's.
//!
//! Invariant: a record whose id is there already changes nothing, so a load may be repeated.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::names::Names;
use super::store::{self, Applied, Change};
use super::{OpenError, rollup, schema, upgrade};
use crate::record::{CallId, Record};

/// Records in one transaction: enough to make its cost small, and few enough that a server beside
/// waits for its turn no longer than a moment.
const BATCH: usize = 2_000;

/// How long to wait for another process that is writing.
const BUSY: Duration = Duration::from_secs(30);

/// Adds records in bulk. A server may have the same ledger.
#[derive(Debug)]
pub struct Loader {
    connection: Connection,
    names: Names,
    batch: Vec<Change>,
    loaded: Loaded,
}

/// What became of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub added: u64,
    /// Were there already.
    pub present: u64,
    /// Older than the ledger keeps rows (`retention_days`); their sums may be there.
    pub too_old: u64,
}

impl Loader {
    /// Opens or creates the database.
    pub fn open(database: &Path) -> Result<Loader, OpenError> {
        if let Some(parent) = database.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|error| OpenError::io(parent, error))?;
        }
        let connection = match schema::open_writer(database) {
            Err(OpenError::TooOld { .. }) => {
                upgrade::if_old_and_idle(database)?;
                schema::open_writer(database)?
            }
            opened => opened?,
        };
        let failed = |error| OpenError::database(database, error);
        connection.busy_timeout(BUSY).map_err(failed)?;
        let (names, batch) = (Names::default(), Vec::with_capacity(BATCH));
        Ok(Loader { connection, names, batch, loaded: Loaded::default() })
    }

    /// Takes a record, which is in the database when this or a later call has committed.
    pub fn add(&mut self, record: Record) -> rusqlite::Result<()> {
        self.change(Change::Insert(Box::new(record)))
    }

    /// Leaves the sums as a crash would.
    #[cfg(test)]
    pub(super) fn without_seal(mut self) -> rusqlite::Result<()> {
        self.commit()
    }

    pub(super) fn change(&mut self, change: Change) -> rusqlite::Result<()> {
        self.batch.push(change);
        if self.batch.len() < BATCH { Ok(()) } else { self.commit() }
    }

    /// Commits what is left.
    pub fn finish(mut self) -> rusqlite::Result<Loaded> {
        self.commit()?;
        rollup::seal_all(&self.connection)?;
        Ok(self.loaded)
    }

    /// What has been committed so far.
    pub fn loaded(&self) -> Loaded {
        self.loaded
    }

    /// Whether a call has a row, committed or about to be.
    pub(super) fn has(&self, id: &CallId) -> rusqlite::Result<bool> {
        let waits = self.batch.iter().any(|change| change.call() == Some(id));
        if waits { Ok(true) } else { store::has_row(&self.connection, id) }
    }

    fn commit(&mut self) -> rusqlite::Result<()> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let names = &mut self.names;
        let added = store::apply(&transaction, names, &self.batch, &HashSet::new());
        let added = added.and_then(|added| transaction.commit().map(|()| added));
        let added = added.inspect_err(|_| names.forget())?;
        let Applied { written, too_old, .. } = added;
        self.loaded.added += written;
        self.loaded.too_old += too_old;
        self.loaded.present += self.batch.len() as u64 - written - too_old;
        self.batch.clear();
        Ok(())
    }
}
