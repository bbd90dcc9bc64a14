//! From the journal into the database. Owns the write connection, how far each file has been read,
//! and the calls that have opened and not yet closed; knows nothing of threads and pauses.
//!
//! Invariant: what the database says has been read is in it, in the same transaction. So reading may
//! stop anywhere, start over anywhere, and still give every call one row.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use jiff::{Span, tz::TimeZone};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::fault::FeedError;
use super::held::Held;
use super::journal::{self, Journal};
use super::names::Names;
use super::retention::Retention;
use super::store::{self, Change};
use super::tail::{self, Entry, Opening, Stretch, Tail, same_file};
use super::watch::Watchers;
use super::{rollup, schema};
use crate::record::{CallId, Outcome, Record};
use crate::units::Timestamp;

/// A call that is open for longer has its opening stored in the database. Most calls are over by
/// then and never cost more than their one row; until then a restart reads on from the opening.
const OPEN_IN_MEMORY: Duration = Duration::from_secs(10);

/// The same for when there are very many.
const OPEN_IN_MEMORY_AT_MOST: usize = 100_000;

/// How often the directory and the database file are looked at for changes by others.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How often old days are looked for.
const EXPIRE: Duration = Duration::from_mins(10);

/// How often sums are looked at that could be sealed.
const SEAL: Duration = Duration::from_secs(10);

/// What the ledger says of a call that a stop or a crash cut off.
const INTERRUPTED: &str = "tokenmeter stopped before the call ended";

pub(super) struct Feed {
    connection: Connection,
    names: Names,
    database: PathBuf,
    /// The database file as it was opened.
    identity: fs::Metadata,
    journal: Arc<Journal>,
    keep: Keep,
    retention: Retention,
    tails: Vec<Tail>,
    /// What was read and is not in the database yet. It stays here until it is.
    pending: Option<Batch>,
    /// Calls whose figures are about to be amended. They count as open.
    held: Held,
    /// Calls that have opened: where the opening line of each stands.
    open: HashMap<CallId, Opening, RandomState>,
    /// Calls whose opening is in the table `open_calls`.
    stored_open: HashSet<CallId>,
    /// While what a former process left is being read: where each file ended when this one began.
    leftovers: Option<HashMap<PathBuf, u64>>,
    deadline: Option<Instant>,
    open_in_memory: Duration,
    files_seen: u64,
    looked_around: Instant,
    expired: Option<Instant>,
    sealed: Instant,
    unreadable: u64,
    stored: Stored,
    /// The files of the journal that have what the database refused: they are kept.
    refused: BTreeSet<String>,
    /// As far as each file had been read into the database that was here before.
    again: HashMap<PathBuf, u64>,
    watchers: Watchers,
}

/// What has gone into the database since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stored {
    pub(super) rows: u64,
    pub(super) commits: u64,
}

/// Calls that have begun and not ended.
#[derive(Clone, Debug, Default)]
pub struct OpenCalls {
    /// How many there are.
    pub all: usize,
    /// As they began, the oldest first; of very many only the oldest.
    pub oldest: Vec<Record>,
}

/// Open calls that are told one by one at most.
const OPEN_TOLD: usize = 1000;

/// How long things are kept, in days.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// Journal files that are wholly in the database.
    pub(super) journal_days: u32,
    /// Rows; `None`: for ever.
    pub(super) retention_days: Option<u32>,
}

/// What goes into the database in one transaction.
#[derive(Debug, Default)]
struct Batch {
    changes: Vec<Change>,
    /// The journal's file that it is from.
    file: Option<String>,
    /// How long it is there.
    bytes: u64,
    /// Read a second time, into a database that took the place of the one that had it.
    is_again: bool,
}

/// A way to do what changes ask for.
type Apply = for<'c> fn(
    &Transaction<'_>,
    &mut Names,
    &'c [Change],
    &HashSet<CallId>,
) -> rusqlite::Result<store::Applied<'c>>;

impl Feed {
    /// Takes up reading where the database says it stopped. With `settle`, whatever the journal
    /// holds now was left by a former process, and calls still open at its end were cut off.
    pub(super) fn new(
        connection: Connection,
        database: PathBuf,
        journal: Arc<Journal>,
        keep: Keep,
        settle: bool,
    ) -> Result<Feed, FeedError> {
        let identity = fs::metadata(&database).map_err(FeedError::Journal)?;
        let stored = store::open_calls(&connection)?;
        let mut feed = Feed {
            stored_open: stored.iter().filter_map(|(id, _)| id.parse().ok()).collect(),
            connection,
            names: Names::default(),
            database,
            identity,
            retention: Retention::new(keep.retention_days),
            keep,
            tails: Vec::new(),
            pending: None,
            held: Held::default(),
            open: HashMap::default(),
            leftovers: None,
            deadline: None,
            open_in_memory: OPEN_IN_MEMORY,
            files_seen: journal.files(),
            journal,
            looked_around: Instant::now(),
            expired: None,
            sealed: Instant::now(),
            unreadable: 0,
            stored: Stored::default(),
            refused: BTreeSet::new(),
            again: HashMap::new(),
            watchers: Watchers::default(),
        };
        feed.refused = store::refused_files(&feed.connection)?;
        let progress = store::progress(&feed.connection)?;
        feed.find_files(&progress)?;
        feed.miss_files(&progress);
        if settle {
            let ends = feed.tails.iter().map(|tail| Ok((tail.path.clone(), tail.len()?)));
            feed.leftovers = Some(ends.collect::<io::Result<_>>()?);
        }
        Ok(feed)
    }

    /// Tells these of all calls from now on.
    pub(super) fn watched(mut self, watchers: Watchers) -> Feed {
        self.watchers = watchers;
        self
    }

    /// The first pass, which has a former process's journal before it and a caller behind it.
    pub(super) fn first_pass(&mut self, patience: Duration) -> Result<(), FeedError> {
        self.deadline = Some(Instant::now() + patience);
        let done = self.pass();
        self.deadline = None;
        done
    }

    /// Moves all that the journal holds by now into the database.
    pub(super) fn pass(&mut self) -> Result<(), FeedError> {
        self.commit_pending()?;
        if self.leftovers.is_some() {
            self.read_all()?;
            self.settle()?;
        }
        self.look_around()?;
        self.read_all()?;
        let overdue: Vec<_> = self.held.overdue().map(Change::Insert).collect();
        if !overdue.is_empty() || self.has_aged() {
            self.pending = Some(Batch { changes: overdue, ..Batch::default() });
            self.commit_pending()?;
        }
        self.seal()?;
        self.retention.step(&self.connection, &mut self.names, Timestamp::now())?;
        self.expire()
    }

    /// Moves sums of half hours that have passed into packs: a little each time, so that rows need not
    /// wait.
    fn seal(&mut self) -> Result<(), FeedError> {
        if self.sealed.elapsed() < SEAL {
            return Ok(());
        }
        let now = rollup::slot_of(Timestamp::now().millis());
        match rollup::seal(&self.connection, now) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.sealed = Instant::now();
                Ok(())
            }
            // Rows must not wait because sums, which can be made again, are damaged.
            Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => {
                tracing::error!(%error, "sums stay unsealed; `tokenmeter doctor` mends them");
                self.sealed = Instant::now();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts what waits for the journal straight into the database. For the end, when all calls have
    /// closed and nothing is appended any more.
    pub(super) fn rescue(&mut self) -> Result<(), FeedError> {
        self.commit_pending()?;
        let waiting = tail::parse(&self.journal.waiting(), 0);
        let changes = waiting.entries.into_iter().filter_map(|entry| match entry {
            Entry::Close(record) | Entry::Provisional { record, .. } => {
                Some(Change::Insert(record))
            }
            Entry::Amend(record) => Some(Change::Replace(record)),
            Entry::Learned(calibration) => Some(Change::Learn(calibration)),
            Entry::Open { .. } => None,
        });
        let changes: Vec<Change> = changes.collect();
        // Whoever has a row is no longer open, whatever the journal says of it.
        for id in changes.iter().filter_map(Change::call) {
            self.open.remove(id);
        }
        self.pending = Some(Batch { changes, ..Batch::default() });
        self.commit_pending()?;
        self.journal.forget_waiting();
        Ok(())
    }

    /// The calls that are open, as far as the journal has been read.
    pub(super) fn open_calls(&self) -> OpenCalls {
        let all = self.open.len() + self.stored_open.len();
        let mut opened: Vec<(&CallId, &Opening)> = self.open.iter().collect();
        // An id begins with its time.
        opened.sort_unstable_by_key(|(id, _)| **id);
        let stored =
            store::open_calls_at_most(&self.connection, OPEN_TOLD).unwrap_or_else(|error| {
                tracing::debug!(%error, "stored openings cannot be read");
                Vec::new()
            });
        let read = opened.into_iter().take(OPEN_TOLD).filter_map(|(id, place)| {
            let line = place.line(id).ok().flatten()?;
            serde_json::from_str(tail::opening(&line)?.get()).ok()
        });
        let stored = stored.iter().filter_map(|record| serde_json::from_str(record).ok());
        let mut oldest: Vec<Record> = stored.chain(read).collect();
        oldest.sort_by_key(|record| record.id);
        oldest.truncate(OPEN_TOLD);
        OpenCalls { all, oldest }
    }

    /// Calls that are kept back for their amendments.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Waits for no amendment any more.
    pub(super) fn hurry(&mut self) {
        self.held.hurry();
    }

    /// Bytes of the journal that are not in the database yet.
    pub(super) fn lag(&self) -> u64 {
        let behind = |tail: &Tail| tail.len().unwrap_or_default().saturating_sub(tail.read);
        let unread: u64 = self.tails.iter().map(behind).sum();
        unread + self.pending.as_ref().map_or(0, |batch| batch.bytes)
    }

    /// Lines that said nothing, or nothing that the database takes, since the start.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// What has gone into the database, since the start.
    pub(super) fn stored(&self) -> Stored {
        self.stored
    }

    /// The files of the journal that have what the database refused.
    pub(super) fn refused(&self) -> &BTreeSet<String> {
        &self.refused
    }

    /// Everything into the database file itself. For the end.
    pub(super) fn close(self) {
        let done = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = done.and_then(|()| self.connection.close().map_err(|(_, e)| e)) {
            tracing::warn!(%error, "closing the database");
        }
    }

    fn read_all(&mut self) -> Result<(), FeedError> {
        let end = |tail: &Tail| match &self.leftovers {
            Some(ends) => Ok(ends.get(&tail.path).copied().unwrap_or_default()),
            // What arrives while this runs is for the next pass, or it might never end.
            None => tail.len(),
        };
        let ends = self.tails.iter().map(end).collect::<io::Result<Vec<u64>>>()?;
        if self.leftovers.is_none() {
            self.take_handed();
        }
        for (at, end) in ends.into_iter().enumerate() {
            while let Some(stretch) = self.tails[at].next(end)? {
                self.take(at, stretch);
                self.commit_pending()?;
                if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    return Err(FeedError::Unfinished);
                }
            }
        }
        Ok(())
    }

    /// Gives each file what the journal hands over of it; a file that is not known yet will be read.
    fn take_handed(&mut self) {
        if self.tails.iter().any(Tail::has_handed) {
            return;
        }
        for segment in self.journal.handed() {
            if let Some(tail) = self.tails.iter_mut().find(|tail| tail.reads(&segment.file)) {
                tail.hand(segment.lines);
            }
        }
    }

    fn take(&mut self, at: usize, stretch: Stretch) {
        if stretch.unreadable > 0 {
            self.unreadable += stretch.unreadable;
            let file = self.tails[at].path.display();
            tracing::warn!(%file, lines = stretch.unreadable, "skipped unreadable journal lines");
        }
        let now = Instant::now();
        let entries = stretch.entries.into_iter();
        let changes: Vec<Change> = entries.filter_map(|one| self.change(at, one, now)).collect();
        // Openings alone need no transaction: the journal keeps them as well as the database would.
        if !changes.is_empty() {
            let tail = &self.tails[at];
            let file = Some(tail.name());
            let is_again = self.again.get(&tail.path).is_some_and(|end| tail.read <= *end);
            self.pending = Some(Batch { changes, file, bytes: stretch.bytes, is_again });
        }
    }

    /// What an entry asks to be done in the database now.
    fn change(&mut self, file: usize, entry: Entry, now: Instant) -> Option<Change> {
        match entry {
            Entry::Open { id, at, .. } => {
                let tail = &mut self.tails[file];
                tail.opens.push_back((at, id, now));
                self.open.insert(id, tail.place(at));
                None
            }
            // What a former process left provisional stands, until its amendment is read.
            Entry::Provisional { at, record } if self.leftovers.is_none() => {
                self.open.remove(&record.id);
                self.tails[file].opens.push_back((at, record.id, now));
                self.held.keep(record, now);
                None
            }
            Entry::Close(record) | Entry::Provisional { record, .. } => {
                self.open.remove(&record.id);
                Some(Change::Insert(record))
            }
            Entry::Amend(record) => {
                self.open.remove(&record.id);
                self.held.amended(&record.id);
                Some(Change::Replace(record))
            }
            Entry::Learned(calibration) => Some(Change::Learn(calibration)),
        }
    }

    /// Puts what was read into the database; if that refuses a change, all but that.
    fn commit_pending(&mut self) -> Result<(), FeedError> {
        match self.commit_by(store::apply) {
            Err(FeedError::Database(error)) if store::is_refusal(&error) => {
                self.commit_by(store::apply_each)
            }
            done => done,
        }
    }

    fn commit_by(&mut self, apply: Apply) -> Result<(), FeedError> {
        let Some(batch) = &self.pending else { return Ok(()) };
        let aged = aged(&self.tails, &mut self.open, self.open_in_memory);
        let lines = match lines(aged.iter().map(|(id, place)| (*id, place))) {
            Ok(lines) => lines,
            Err(error) => {
                self.open.extend(aged);
                return Err(error.into());
            }
        };
        let mut refused = self.refused.clone();
        let committed = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let committed = committed.and_then(|transaction| {
            let names = &mut self.names;
            let rows = apply(&transaction, names, &batch.changes, &self.stored_open)?;
            if rows.refused > 0 {
                refused.extend(batch.file.clone());
                store::note_refused(&transaction, &refused)?;
            }
            store::insert_opens(&transaction, &lines)?;
            let (open, held) = (&self.open, &self.held);
            let is_open = |id: &CallId| open.contains_key(id) || held.contains(id);
            store::store_progress(&transaction, &self.tails, is_open)?;
            transaction.commit().map(|()| rows)
        });
        match committed {
            Ok(rows) => {
                self.stored.rows += rows.written;
                self.stored.commits += 1;
                if !batch.is_again {
                    self.watchers.tell(&rows.added, &rows.replaced);
                }
                self.unreadable += rows.refused;
                self.refused = refused;
            }
            Err(error) => {
                self.names.forget();
                // Back to memory with what could not be stored.
                self.open.extend(aged);
                return Err(error.into());
            }
        }
        for id in batch.changes.iter().filter_map(Change::call) {
            self.stored_open.remove(id);
        }
        self.stored_open.extend(aged.into_iter().map(|(id, _)| id));
        self.pending = None;
        let (open, held) = (&self.open, &self.held);
        let is_open = |id: &CallId| open.contains_key(id) || held.contains(id);
        for tail in &mut self.tails {
            tail.forget(is_open);
            tail.stored = tail.safe(is_open);
        }
        Ok(())
    }

    fn has_aged(&self) -> bool {
        let old = |tail: &Tail| {
            let mut opens = tail.opens.iter();
            let first = opens.find(|(_, id, _)| self.open.contains_key(id));
            first.is_some_and(|(.., since)| since.elapsed() > self.open_in_memory)
        };
        self.open.len() > OPEN_IN_MEMORY_AT_MOST || self.tails.iter().any(old)
    }

    /// Closes what a former process left open, in the journal, so that the journal stays the truth.
    fn settle(&mut self) -> Result<(), FeedError> {
        let stored = store::open_calls(&self.connection)?;
        let stored = stored.iter().map(|(_, record)| serde_json::from_str(record));
        let read = lines(self.open.iter().map(|(id, place)| (*id, place)))?;
        let read = read.iter().filter_map(|(_, line)| tail::opening(line));
        let read = read.map(|record| serde_json::from_str::<Record>(record.get()));
        let mut left: Vec<Record> = read
            .chain(stored)
            .filter_map(|record| {
                record.inspect_err(|error| tracing::error!(%error, "an opening is lost")).ok()
            })
            .collect();
        left.sort_by_key(|record| record.id);
        left.dedup_by_key(|record| record.id);
        let mut interrupted = 0;
        for mut record in left {
            // A row without its close line in sight: the journal was tampered with, the row stands.
            if store::has_row(&self.connection, &record.id)? {
                continue;
            }
            record.outcome = Outcome::Interrupted;
            record.error.get_or_insert_with(|| INTERRUPTED.to_owned());
            self.journal.append_close(Box::new(record));
            interrupted += 1;
        }
        if interrupted > 0 {
            tracing::warn!(calls = interrupted, "calls had been cut off by the last stop");
        }
        self.leftovers = None;
        Ok(())
    }

    fn look_around(&mut self) -> Result<(), FeedError> {
        let files = self.journal.files();
        if files == self.files_seen && self.looked_around.elapsed() < LOOK_AROUND {
            return Ok(());
        }
        let named = fs::metadata(&self.database);
        if !named.is_ok_and(|named| same_file(&named, &self.identity)) {
            return Err(FeedError::Replaced);
        }
        self.drop_removed()?;
        self.find_files(&HashMap::new())?;
        (self.files_seen, self.looked_around) = (files, Instant::now());
        Ok(())
    }

    /// Finishes files that were removed while in use. What is written to such a file would be gone
    /// with the process, so the journal starts another, and the calls that are open begin there anew.
    fn drop_removed(&mut self) -> Result<(), FeedError> {
        if self.journal.is_current() && self.tails.iter().all(Tail::is_current) {
            return Ok(());
        }
        tracing::warn!("a journal file was removed while in use; starting another");
        if let Some((path, file)) = self.journal.reopen()
            && !self.tails.iter().any(|tail| tail.reads(&file))
            && let Some(day) = path.file_name().and_then(|name| journal::day_of(name.to_str()?))
        {
            // Removed before it was ever found.
            self.tails.push(Tail::of(day, &path, file));
        }
        self.read_all()?;
        // What such a file says of a call is kept nowhere else, so no row waits for its amendment.
        let held: Vec<_> = self.held.release().map(Change::Insert).collect();
        if !held.is_empty() {
            self.pending = Some(Batch { changes: held, ..Batch::default() });
            self.commit_pending()?;
        }
        for removed in self.tails.iter().filter(|tail| !tail.is_current()) {
            store::forget_progress(&self.connection, &removed.name())?;
        }
        for removed in self.tails.extract_if(.., |tail| !tail.is_current()) {
            let open = removed.opens.iter().filter_map(|(_, id, _)| self.open.get_key_value(id));
            for (_, line) in lines(open.map(|(id, place)| (*id, place)))? {
                self.journal.open_again(&line);
            }
        }
        Ok(())
    }

    /// Takes up files not known yet. Only those that were there at the start have been read before;
    /// a name that appears later is another file, whatever the database says of a former one.
    fn find_files(&mut self, progress: &HashMap<String, u64>) -> Result<(), FeedError> {
        let days = match journal::days(self.journal.directory()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            days => days?,
        };
        for (day, path) in days {
            if self.tails.iter().all(|tail| tail.path != path) {
                self.tails.push(Tail::open(day, &path, progress)?);
            }
        }
        self.tails.sort_by_key(|tail| tail.day);
        Ok(())
    }

    /// Tells of files that were being read and are gone: a day is only forgotten once it is wholly in
    /// this database, so the files were lost, or this is a copy from before that. Their names may come
    /// again, after a clock has gone back, and then the progress would be that of another file.
    fn miss_files(&self, progress: &HashMap<String, u64>) {
        let is_there = |name: &String| self.tails.iter().any(|tail| tail.name() == *name);
        for (file, read) in progress.iter().filter(|(file, _)| !is_there(file)) {
            tracing::warn!(
                file,
                read,
                "a journal file is gone; calls that only it had are missing"
            );
            // Where that cannot be written now, it is told again at the next start.
            let _ = store::forget_progress(&self.connection, file);
        }
    }

    /// Deletes days that are wholly in the database, and old enough. A mere commit is not enough: a
    /// power cut may take the last ones, so the rows must have reached the database file itself.
    fn expire(&mut self) -> Result<(), FeedError> {
        if self.expired.is_some_and(|last| last.elapsed() < EXPIRE) || self.pending.is_some() {
            return Ok(());
        }
        self.expired = Some(Instant::now());
        let today = Timestamp::now().calendar().to_zoned(TimeZone::UTC).date();
        let keep = Span::new().try_days(i64::from(self.keep.journal_days)).unwrap_or_default();
        let Ok(oldest) = today.checked_sub(keep) else { return Ok(()) };
        let is_due = |tail: &Tail| {
            tail.day < oldest
                && !self.refused.contains(&tail.name())
                && tail.len().is_ok_and(|len| len == tail.read && len == tail.stored)
        };
        if !self.tails.iter().any(is_due) || !store::checkpoint(&self.connection)? {
            return Ok(());
        }
        // The file first: a file without progress would merely be read again, while progress without
        // a file could be taken for that of another.
        let deleted = self.tails.extract_if(.., |tail| {
            is_due(tail)
                && fs::remove_file(&tail.path)
                    .inspect_err(
                        |error| tracing::warn!(file = tail.name(), %error, "cannot delete"),
                    )
                    .is_ok()
        });
        for tail in deleted {
            tracing::info!(file = tail.name(), "journal day deleted");
            store::forget_progress(&self.connection, &tail.name())?;
        }
        Ok(())
    }
}

/// The lines of openings, those that are there.
fn lines<'a>(
    openings: impl IntoIterator<Item = (CallId, &'a Opening)>,
) -> io::Result<Vec<(CallId, String)>> {
    let read = |(id, place): (CallId, &Opening)| {
        place.line(&id).transpose().map(|line| line.map(|line| (id, line)))
    };
    openings.into_iter().filter_map(read).collect()
}

/// Takes out of memory the openings that should be stored by now.
fn aged(
    tails: &[Tail],
    open: &mut HashMap<CallId, Opening, RandomState>,
    in_memory: Duration,
) -> Vec<(CallId, Opening)> {
    let mut aged = Vec::new();
    for tail in tails {
        for (_, id, since) in &tail.opens {
            if since.elapsed() < in_memory && open.len() <= OPEN_IN_MEMORY_AT_MOST {
                break;
            }
            aged.extend(open.remove_entry(id));
        }
    }
    aged
}

/// Opens the database anew, after it was removed or replaced: the journal fills what it still can.
pub(super) fn reopen(from: &Feed) -> Result<Feed, FeedError> {
    let opened = schema::open_writer(&from.database);
    let connection = opened.map_err(FeedError::NotReopened)?;
    let (database, journal) = (from.database.clone(), Arc::clone(&from.journal));
    let feed = Feed::new(connection, database, journal, from.keep, false)?;
    let again = from.tails.iter().map(|tail| (tail.path.clone(), tail.read)).collect();
    let watchers = from.watchers.clone();
    Ok(Feed { stored: from.stored, unreadable: from.unreadable, again, watchers, ..feed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::journal::Line;
    use crate::ledger::row::tests::call;

    fn feed(home: &tempfile::TempDir, settle: bool) -> (Feed, Arc<Journal>) {
        let database = home.path().join("tokenmeter.db");
        let journal = Arc::new(Journal::open(home.path().join("journal")).unwrap());
        let connection = schema::open_writer(&database).unwrap();
        let keep = Keep { journal_days: 7, retention_days: None };
        let feed = Feed::new(connection, database, Arc::clone(&journal), keep, settle).unwrap();
        (feed, journal)
    }

    fn count(feed: &Feed, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        feed.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_call_open_for_long_moves_to_the_database_and_out_again() {
        let home = tempfile::tempdir().unwrap();
        let (mut feed, journal) = feed(&home, true);
        feed.pass().unwrap();
        feed.open_in_memory = Duration::ZERO;
        let mut record = call(1);
        record.metadata = serde_json::from_str(r#"{"n": 1.50}"#).unwrap();
        journal.append(&Line::Open(&record));
        feed.pass().unwrap();
        assert_eq!((count(&feed, "open_calls"), count(&feed, "token_usage")), (1, 0));
        assert!(feed.open.is_empty() && feed.tails[0].stored == feed.tails[0].read);
        journal.append(&Line::Close(&record));
        feed.pass().unwrap();
        assert_eq!((count(&feed, "open_calls"), count(&feed, "token_usage")), (0, 1));
    }

    #[test]
    fn open_calls_survive_in_memory_and_in_the_database_alike() {
        for in_memory in [Duration::ZERO, Duration::MAX] {
            let home = tempfile::tempdir().unwrap();
            let (mut first, journal) = feed(&home, true);
            first.open_in_memory = in_memory;
            for n in 0..3 {
                let record = call(n);
                journal.append(&Line::Open(&record));
                if n != 1 {
                    journal.append(&Line::Close(&record));
                }
                first.pass().unwrap();
            }
            assert_eq!(count(&first, "token_usage"), 2);
            drop((first, journal));
            let (mut second, _) = feed(&home, true);
            second.pass().unwrap();
            assert_eq!((count(&second, "token_usage"), count(&second, "open_calls")), (3, 0));
            let sql = "SELECT count(*) FROM token_usage WHERE outcome = 'interrupted'";
            assert_eq!(second.connection.query_row(sql, [], |row| row.get(0)), Ok(1));
        }
    }

    fn journal_file(home: &tempfile::TempDir) -> PathBuf {
        journal::days(&home.path().join("journal")).unwrap().pop().unwrap().1
    }

    #[test]
    fn what_was_handed_over_is_not_read_again() {
        let home = tempfile::tempdir().unwrap();
        let (mut feed, journal) = feed(&home, true);
        feed.pass().unwrap();
        for n in 0..9 {
            let record = call(n);
            journal.append(&Line::Open(&record));
            journal.append_close(Box::new(record));
        }
        let length = usize::try_from(fs::metadata(journal_file(&home)).unwrap().len()).unwrap();
        fs::write(journal_file(&home), vec![b'\n'; length]).unwrap();
        feed.pass().unwrap();
        assert_eq!((count(&feed, "calls"), feed.lag(), feed.unreadable), (9, 0, 0));
    }

    #[test]
    fn lines_that_were_not_handed_over_are_read_in_their_place() {
        let home = tempfile::tempdir().unwrap();
        let (mut feed, journal) = feed(&home, true);
        feed.pass().unwrap();
        let mut calls: Vec<Record> = (0..60).map(call).collect();
        for (n, record) in calls.iter_mut().enumerate() {
            journal.append(&Line::Open(record));
            record.input_tokens = Some(n as u64);
            match n % 5 {
                0 => drop(journal.append_close(Box::new(record.clone()))),
                1 => journal.append(&Line::Close(record)),
                2 => {
                    journal.append(&Line::Close(&call(0)));
                    journal.append_amend(Box::new(record.clone()));
                }
                3 => {
                    // A crash of somebody who writes here too, or a probe after a fault.
                    let file = fs::OpenOptions::new().append(true).open(journal_file(&home));
                    io::Write::write_all(&mut file.unwrap(), b"\n\n{torn\n").unwrap();
                    drop(journal.reopen());
                    journal.append_close(Box::new(record.clone()));
                }
                _ => {
                    drop(journal.handed());
                    let _ = journal.append_provisional(Box::new(record.clone()));
                    journal.append_amend(Box::new(record.clone()));
                }
            }
            if n % 7 == 0 {
                feed.pass().unwrap();
            }
        }
        feed.pass().unwrap();
        assert_eq!((count(&feed, "calls"), feed.lag(), feed.unreadable), (72, 0, 12));
        for record in &calls {
            let row = store::record(&feed.connection, &record.id).unwrap();
            assert_eq!(row.unwrap().input_tokens, record.input_tokens);
        }
        assert!(feed.open.is_empty());
    }

    #[test]
    fn what_is_kept_back_for_its_amendment_survives_a_crash() {
        for in_memory in [Duration::ZERO, Duration::MAX] {
            let home = tempfile::tempdir().unwrap();
            let (mut first, journal) = feed(&home, true);
            first.pass().unwrap();
            first.open_in_memory = in_memory;
            first.held.wait_for_ever();
            let (record, running) = (call(1), call(2));
            journal.append(&Line::Open(&record));
            first.pass().unwrap();
            journal.append(&Line::Provisional(&record));
            journal.append(&Line::Open(&running));
            journal.append(&Line::Close(&call(3)));
            first.pass().unwrap();
            assert_eq!(count(&first, "token_usage"), 1);
            assert!(first.tails[0].stored < first.tails[0].read);
            drop((first, journal));
            let (mut second, journal) = feed(&home, true);
            second.pass().unwrap();
            assert_eq!(count(&second, "token_usage"), 3);
            let outcome = || {
                let sql = "SELECT outcome FROM token_usage WHERE id = ?";
                let id = record.id.to_string();
                second.connection.query_row(sql, [id], |row| row.get::<_, String>(0)).unwrap()
            };
            assert_eq!(outcome(), "completed");
            drop(journal);
        }
    }

    #[test]
    fn a_large_backlog_is_finished_in_the_background() {
        let home = tempfile::tempdir().unwrap();
        let (backlog, journal) = feed(&home, true);
        drop(backlog);
        (0..20).for_each(|n| journal.append(&Line::Close(&call(n))));
        let cut_off = call(99);
        journal.append(&Line::Open(&cut_off));
        let (mut feed, journal) = feed(&home, true);
        assert!(matches!(feed.first_pass(Duration::ZERO), Err(FeedError::Unfinished)));
        journal.append(&Line::Open(&call(100)));
        feed.pass().unwrap();
        // The interrupted one, and not the one that opened since.
        assert_eq!(count(&feed, "token_usage"), 21);
    }
}
