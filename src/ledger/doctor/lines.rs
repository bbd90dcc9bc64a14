//! The journal against the rows: which lines a row may be as, and what became of calls that opened.
//! Owns what may legitimately differ; changes nothing but in [`refill`].
//!
//! A row may be what any state of its lines was, from what the database says it has read on: the first
//! close, or the last amendment before some point. Three things besides are no fault: what another call is
//! charged for, costs that were recomputed (`repriced_row` names the row), and rows that are gone because
//! they are too old.
//!
//! Invariant: memory is bounded by the calls that are open, or differ, at one time.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Transaction};

use super::finding::{Check, Finding};
use super::{Watch, journal_files};
use crate::ledger::layout::{FROM_CALLS, LATEST_MS, columns};
use crate::ledger::names::Names;
use crate::ledger::store::{self, Change};
use crate::ledger::tail::{Entry, Tail};
use crate::ledger::{charged, retention, row};
use crate::record::{CallId, Record};
use crate::units::{Timestamp, Usd};

/// Calls that are looked at a second time, line by line; what is beyond counts as it was met.
const SECOND_LOOKS: usize = 100_000;

/// How far a call's id and the beginning of its row may be apart.
const SLACK_MS: i64 = 3_600_000;

/// Changes in one go.
const BATCH: usize = 2_000;

/// What the look at the journal came to.
pub(super) struct Examined {
    pub(super) lines: u64,
    pub(super) unread_bytes: u64,
    pub(super) unreadable_lines: u64,
    pub(super) findings: Vec<Finding>,
}

impl Examined {
    /// Where not even the progress can be read.
    pub(super) fn unreadable(error: &rusqlite::Error) -> Examined {
        let mut progress = Finding::new(Check::Progress);
        progress.failed(error);
        let findings = vec![progress];
        Examined { lines: 0, unread_bytes: 0, unreadable_lines: 0, findings }
    }
}

/// Compares the journal with the rows, as they are in this transaction.
pub(super) fn examine(
    connection: &Connection,
    directory: &Path,
    progress: &HashMap<String, u64>,
    watch: &mut Watch<'_>,
) -> Examined {
    let mut look = Look::new(connection);
    let mut journal = Finding::new(Check::Journal);
    match look.run(directory, progress, watch) {
        Ok(wrong) => {
            for id in &look.missing {
                journal.note(|| format!("{id} has no row"));
            }
            for id in wrong.keys() {
                journal.note(|| format!("{id} has other figures"));
            }
        }
        Err(stuck) => journal.failed(&stuck),
    }
    let mut open_calls = Finding::new(Check::OpenCalls);
    for id in &look.open {
        open_calls.note(|| format!("{id} has opened, and nothing more is known of it"));
    }
    if let Err(error) = check_open_calls(connection, &mut open_calls) {
        open_calls.failed(&error);
    }
    let mut charged = Finding::new(Check::Charged);
    if let Err(error) = check_charged(connection, look.since, &mut charged) {
        charged.failed(&error);
    }
    Examined {
        lines: look.lines,
        unread_bytes: look.unread_bytes,
        unreadable_lines: look.unreadable_lines,
        findings: vec![journal, look.progress, open_calls, charged],
    }
}

/// What the ledger cannot be read or written for.
#[derive(Debug)]
pub(in crate::ledger) enum Stuck {
    Database(rusqlite::Error),
    Journal(io::Error),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stuck::Database(error) => error.fmt(f),
            Stuck::Journal(error) => write!(f, "reading the journal: {error}"),
        }
    }
}

impl From<rusqlite::Error> for Stuck {
    fn from(error: rusqlite::Error) -> Stuck {
        Stuck::Database(error)
    }
}

impl From<io::Error> for Stuck {
    fn from(error: io::Error) -> Stuck {
        Stuck::Journal(error)
    }
}

/// A pass over the journal beside the rows.
struct Look<'c> {
    connection: &'c Connection,
    rows: Lookup<'c>,
    since: Option<Timestamp>,
    lines: u64,
    unread_bytes: u64,
    unreadable_lines: u64,
    progress: Finding,
    /// Calls that have no row although their lines have been read.
    missing: HashSet<CallId>,
    /// Calls whose row is not as one of their lines, as far as has been read.
    differing: HashSet<CallId>,
    /// Calls that opened in lines that have been read, and of which nothing is known since.
    open: HashSet<CallId>,
}

/// A call's lines, one after the other.
#[derive(Debug, Default)]
struct History {
    now: Option<Record>,
    /// Whether the row is as the call was at some point that it may be at.
    agrees: bool,
    /// What is now has been compared.
    compared: bool,
}

impl<'c> Look<'c> {
    fn new(connection: &'c Connection) -> Look<'c> {
        Look {
            connection,
            rows: Lookup::new(connection),
            since: None,
            lines: 0,
            unread_bytes: 0,
            unreadable_lines: 0,
            progress: Finding::new(Check::Progress),
            missing: HashSet::new(),
            differing: HashSet::new(),
            open: HashSet::new(),
        }
    }

    /// Answers the calls whose row is wrong, with what it should be.
    fn run(
        &mut self,
        directory: &Path,
        progress: &HashMap<String, u64>,
        watch: &mut Watch<'_>,
    ) -> Result<HashMap<CallId, Record>, Stuck> {
        self.since = retention::rows_since(self.connection)?;
        let files = Files::open(directory)?;
        for (name, length, at) in files.read_to(progress) {
            if at.is_none() {
                self.progress.note(|| format!("{name}: no line ends at {}", progress[&name]));
            }
            self.unread_bytes += length.saturating_sub(at.unwrap_or_default());
        }
        let mut lines = 0;
        let unreadable = files.each(progress, watch, &mut |is_read, entry| {
            lines += 1;
            self.see(is_read, entry)
        })?;
        (self.lines, self.unreadable_lines) = (lines, unreadable);
        if self.differing.is_empty() {
            return Ok(HashMap::new());
        }
        self.look_again(directory, progress, watch)
    }

    fn see(&mut self, is_read: bool, entry: Entry) -> Result<(), Stuck> {
        let (record, is_amended) = match entry {
            Entry::Open { id, .. } => {
                if is_read && !self.is_gone(began(&id)) && !self.is_known(&id)? {
                    self.open.insert(id);
                }
                return Ok(());
            }
            Entry::Close(record) | Entry::Provisional { record, .. } => (record, false),
            Entry::Amend(record) => (record, true),
            Entry::Learned(_) => return Ok(()),
        };
        self.open.remove(&record.id);
        if self.is_gone(record.created_at) {
            return Ok(());
        }
        match self.rows.find(&record.id)? {
            Found::Nothing if is_read => drop(self.missing.insert(record.id)),
            Found::Nothing => {}
            Found::Row(row) if self.rows.agree(&row, &record)? => {
                if is_amended || !is_read {
                    self.differing.remove(&record.id);
                }
            }
            Found::Row(_) | Found::Unreadable => drop(self.differing.insert(record.id)),
        }
        Ok(())
    }

    /// Line by line, for the calls that were not as one of their lines.
    fn look_again(
        &mut self,
        directory: &Path,
        progress: &HashMap<String, u64>,
        watch: &mut Watch<'_>,
    ) -> Result<HashMap<CallId, Record>, Stuck> {
        let looked_at: HashSet<CallId> =
            self.differing.iter().copied().take(SECOND_LOOKS).collect();
        let mut histories: HashMap<CallId, History> = HashMap::new();
        let files = Files::open(directory)?;
        files.each(progress, watch, &mut |is_read, entry| {
            let (record, is_amended) = match entry {
                Entry::Close(record) | Entry::Provisional { record, .. } => (record, false),
                Entry::Amend(record) => (record, true),
                Entry::Open { .. } | Entry::Learned(_) => return Ok(()),
            };
            if !looked_at.contains(&record.id) {
                return Ok(());
            }
            let id = record.id;
            let history = histories.entry(id).or_default();
            if is_read {
                // The row must be at least as far as this.
                history.agrees = false;
            } else if !history.compared {
                history.compare(&self.rows, &id)?;
            }
            if is_amended || history.now.is_none() {
                history.now = Some(*record);
            }
            history.compared = false;
            if is_read { Ok(()) } else { history.compare(&self.rows, &id) }
        })?;
        let mut wrong = HashMap::new();
        for (id, mut history) in histories {
            if !history.compared {
                history.compare(&self.rows, &id)?;
            }
            if let (false, Some(now)) = (history.agrees, history.now) {
                wrong.insert(id, now);
            }
        }
        Ok(wrong)
    }

    fn is_gone(&self, began: Timestamp) -> bool {
        self.since.is_some_and(|since| began < since)
    }

    /// Whether a call that has opened has a row, or is kept among the open calls.
    fn is_known(&self, id: &CallId) -> rusqlite::Result<bool> {
        if store::has_row(self.connection, id)? {
            return Ok(true);
        }
        let sql = "SELECT 1 FROM open_calls WHERE id = ?";
        self.connection.prepare_cached(sql)?.exists([id.to_string()])
    }
}

impl History {
    fn compare(&mut self, rows: &Lookup<'_>, id: &CallId) -> Result<(), Stuck> {
        self.compared = true;
        if let Some(now) = &self.now
            && let Found::Row(row) = rows.find(id)?
        {
            self.agrees |= rows.agree(&row, now)?;
        }
        Ok(())
    }
}

/// Finds rows, and knows what they may be.
struct Lookup<'c> {
    connection: &'c Connection,
    /// Calls whose costs were recomputed, once they were asked for.
    repriced: OnceCell<HashSet<CallId>>,
}

enum Found {
    Nothing,
    /// It is there, and no record.
    Unreadable,
    Row(Box<Record>),
}

impl<'c> Lookup<'c> {
    fn new(connection: &'c Connection) -> Lookup<'c> {
        Lookup { connection, repriced: OnceCell::new() }
    }

    fn find(&self, id: &CallId) -> rusqlite::Result<Found> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {} {FROM_CALLS} WHERE calls.id = ?", columns()));
        let mut statement = self.connection.prepare_cached(&SQL)?;
        let mut rows = statement.query([id.into_bytes()])?;
        Ok(match rows.next()? {
            None => Found::Nothing,
            Some(row) => {
                row::read(row).map_or(Found::Unreadable, |record| Found::Row(Box::new(record)))
            }
        })
    }

    /// Whether a row is as this line of its call makes it.
    fn agree(&self, row: &Record, line: &Record) -> rusqlite::Result<bool> {
        let mut expected = stored(line);
        if same(&expected, row) {
            return Ok(true);
        }
        if let Some(by) = row.charged_by {
            charged::blank(&mut expected, Some(by));
        } else if line.charges.len() > 1 {
            take_less(&mut expected, row);
        }
        if self.is_repriced(&row.id)? {
            keep_costs(&mut expected, row);
        }
        Ok(same(&expected, row))
    }

    fn is_repriced(&self, id: &CallId) -> rusqlite::Result<bool> {
        if self.repriced.get().is_none() {
            let _ = self.repriced.set(repriced(self.connection)?);
        }
        Ok(self.repriced.get().is_some_and(|calls| calls.contains(id)))
    }
}

/// A record as its row has it.
fn stored(record: &Record) -> Record {
    let mut row = Record { charges: Vec::new(), trace: None, ..record.clone() };
    let moment = row.created_at.millis().clamp(0, LATEST_MS);
    row.created_at = Timestamp::from_millis(moment);
    let counts = [
        &mut row.input_tokens,
        &mut row.cache_read_tokens,
        &mut row.cache_write_tokens,
        &mut row.audio_input_tokens,
        &mut row.image_input_tokens,
        &mut row.output_tokens,
        &mut row.reasoning_tokens,
        &mut row.audio_output_tokens,
        &mut row.image_output_tokens,
        &mut row.total_tokens,
        &mut row.duration_ms,
        &mut row.time_to_first_byte_ms,
        &mut row.time_to_first_token_ms,
    ];
    for count in counts {
        *count = count.map(|count| count.min(i64::MAX.unsigned_abs()));
    }
    row.cost_usd = row.cost_usd.map(Usd::rounded);
    row.computed_cost_usd = row.computed_cost_usd.map(Usd::rounded);
    row
}

/// What others are charged for may be missing from a row whose call has several charges.
fn take_less(line: &mut Record, row: &Record) {
    let counts = [
        (&mut line.input_tokens, row.input_tokens),
        (&mut line.cache_read_tokens, row.cache_read_tokens),
        (&mut line.cache_write_tokens, row.cache_write_tokens),
        (&mut line.audio_input_tokens, row.audio_input_tokens),
        (&mut line.image_input_tokens, row.image_input_tokens),
        (&mut line.output_tokens, row.output_tokens),
        (&mut line.reasoning_tokens, row.reasoning_tokens),
        (&mut line.audio_output_tokens, row.audio_output_tokens),
        (&mut line.image_output_tokens, row.image_output_tokens),
        (&mut line.total_tokens, row.total_tokens),
    ];
    for (line, row) in counts {
        if row <= *line {
            *line = row;
        }
    }
    for (line, row) in
        [(&mut line.cost_usd, row.cost_usd), (&mut line.computed_cost_usd, row.computed_cost_usd)]
    {
        if row <= *line {
            *line = row;
        }
    }
}

fn keep_costs(line: &mut Record, row: &Record) {
    line.cost_usd = row.cost_usd;
    line.computed_cost_usd = row.computed_cost_usd;
    line.cost_source = row.cost_source;
    line.price_id.clone_from(&row.price_id);
}

/// By their JSON, which has everything. What has none is no record that was ever written.
fn same(one: &Record, other: &Record) -> bool {
    match (serde_json::to_vec(one), serde_json::to_vec(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The calls that the audit of repricings names, where there is one.
fn repriced(connection: &Connection) -> rusqlite::Result<HashSet<CallId>> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'repriced_row'";
    if !connection.prepare(table)?.exists([])? {
        return Ok(HashSet::new());
    }
    let mut statement = connection.prepare("SELECT call_id FROM repriced_row")?;
    let mut rows = statement.query([])?;
    let mut calls = HashSet::new();
    while let Some(row) = rows.next()? {
        calls.extend(match row.get_ref(0)? {
            ValueRef::Text(text) => std::str::from_utf8(text).ok().and_then(|id| id.parse().ok()),
            ValueRef::Blob(id) => id.try_into().ok().map(CallId::from_bytes),
            _ => None,
        });
    }
    Ok(calls)
}

/// A moment before a call's row began, by its id, which is made when the call opens.
fn began(id: &CallId) -> Timestamp {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.into_bytes()[..6]);
    Timestamp::from_millis(i64::from_be_bytes(millis).saturating_sub(SLACK_MS))
}

/// The journal's files.
struct Files(Vec<Tail>);

impl Files {
    fn open(directory: &Path) -> io::Result<Files> {
        let days = journal_files(directory)?.into_iter();
        let tails = days.filter_map(|(day, path)| {
            let opened = Tail::open(day, &path, &HashMap::new());
            // Deleted between two moments, as old days are.
            let is_gone =
                opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            (!is_gone).then_some(opened)
        });
        tails.collect::<io::Result<_>>().map(Files)
    }

    /// Name, length, and how far it has been read; nothing where that is no place in the file.
    fn read_to(&self, progress: &HashMap<String, u64>) -> Vec<(String, u64, Option<u64>)> {
        let of = |tail: &Tail| {
            let read = match progress.get(&tail.name()) {
                None => Some(0),
                Some(at) => tail.ends_a_line(*at).unwrap_or(false).then_some(*at),
            };
            (tail.name(), tail.len().unwrap_or_default(), read)
        };
        self.0.iter().map(of).collect()
    }

    /// Shows every line, as far as the files reach now, and whether the database says that it has been
    /// read. Answers how many could not be read.
    fn each(
        mut self,
        progress: &HashMap<String, u64>,
        watch: &mut Watch<'_>,
        see: &mut dyn FnMut(bool, Entry) -> Result<(), Stuck>,
    ) -> Result<u64, Stuck> {
        let places = self.read_to(progress);
        let total = places.iter().map(|(_, length, _)| length).sum();
        let (mut done, mut unreadable) = (0, 0);
        for (tail, (_, length, read)) in self.0.iter_mut().zip(places) {
            // Progress that is no place in the file says nothing.
            for (end, is_read) in [(read.unwrap_or_default(), true), (length, false)] {
                while let Some(stretch) = tail.next(end)? {
                    unreadable += stretch.unreadable;
                    done += stretch.bytes;
                    stretch.entries.into_iter().try_for_each(|entry| see(is_read, entry))?;
                    watch("reading the journal", done, total);
                }
            }
        }
        Ok(unreadable)
    }
}

/// Openings that are kept although the call has its row, or that say nothing.
fn check_open_calls(connection: &Connection, found: &mut Finding) -> rusqlite::Result<()> {
    for (id, record) in store::open_calls(connection)? {
        match serde_json::from_str::<Record>(&record) {
            Err(error) => found.note(|| format!("{id} is open and cannot be read: {error}")),
            Ok(record) if store::has_row(connection, &record.id)? => {
                found.note(|| format!("{id} is open, and has a row"));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Calls that are charged for others and have no row. Those whose rows are too old are no fault.
fn check_charged(
    connection: &Connection,
    since: Option<Timestamp>,
    found: &mut Finding,
) -> rusqlite::Result<()> {
    let sql = "SELECT call_id FROM charged WHERE length(call_id) < 16
        OR NOT EXISTS (SELECT 1 FROM calls WHERE id = substr(call_id, 1, 16))";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let holder = row.get_ref(0)?.as_blob().unwrap_or_default().first_chunk();
        let holder = holder.map(|id| CallId::from_bytes(*id));
        if holder.is_none_or(|id| since.is_none_or(|since| began(&id) >= since)) {
            found.note(|| match holder {
                Some(id) => format!("{id} is charged for others and has no row"),
                None => "a holder is no id".to_owned(),
            });
        }
    }
    Ok(())
}

/// Deletes the openings and the holders that the checks complain of.
pub(in crate::ledger) fn clear_left_over(connection: &Connection) -> rusqlite::Result<()> {
    for (id, record) in store::open_calls(connection)? {
        let record = serde_json::from_str::<Record>(&record);
        let is_left_over = match &record {
            Err(_) => true,
            Ok(record) => store::has_row(connection, &record.id)?,
        };
        if is_left_over {
            connection.execute("DELETE FROM open_calls WHERE id = ?", [id])?;
        }
    }
    let since = retention::rows_since(connection)?;
    let oldest = since.map_or(0, |since| since.millis().max(0).saturating_add(SLACK_MS));
    let oldest = oldest.to_be_bytes()[2..].to_vec();
    let sql = "DELETE FROM charged WHERE length(call_id) < 16 OR (substr(call_id, 1, 6) >= ?
        AND NOT EXISTS (SELECT 1 FROM calls WHERE id = substr(call_id, 1, 16)))";
    connection.execute(sql, [oldest]).map(drop)
}

/// What the journal gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ledger) struct Refilled {
    pub(in crate::ledger) added: u64,
    pub(in crate::ledger) replaced: u64,
}

/// Reads the whole journal: rows that are missing or unreadable are added, those that are not as their
/// last line are replaced, costs that were recomputed stay. Calls that are open at its end become open
/// calls, and the progress is its end. Sums are as good as they were: whoever asks for this makes them
/// again.
pub(in crate::ledger) fn refill(
    transaction: &Transaction<'_>,
    directory: &Path,
    watch: &mut Watch<'_>,
) -> Result<Refilled, Stuck> {
    let since = retention::rows_since(transaction)?;
    let learns = store::calibrations(transaction)?.is_empty();
    let mut refill = Refill {
        transaction,
        learns,
        rows: Lookup::new(transaction),
        names: Names::default(),
        since,
        batch: Vec::new(),
        ids: HashSet::new(),
        open: HashMap::new(),
        refilled: Refilled::default(),
    };
    let nothing = HashMap::new();
    Files::open(directory)?.each(&nothing, watch, &mut |_, entry| refill.take(entry))?;
    refill.flush()?;
    let mut whole = HashMap::new();
    for mut tail in Files::open(directory)?.0 {
        let end = tail.len()?;
        while tail.next(end)?.is_some() {}
        whole.insert(tail.name(), tail.read);
    }
    let wrong = Look::new(transaction).run(directory, &whole, watch)?;
    for record in wrong.into_values() {
        refill.replace(Box::new(record))?;
    }
    refill.flush()?;
    // Had the database refused any again, this would have failed.
    store::forget_refused(transaction)?;
    let open: Vec<(CallId, Box<str>)> = refill.open.into_iter().collect();
    store::insert_opens(transaction, &open)?;
    transaction.execute("DELETE FROM journal_progress", [])?;
    for (file, at) in whole {
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        transaction.execute("INSERT INTO journal_progress VALUES (?, ?)", (file, at))?;
    }
    Ok(refill.refilled)
}

struct Refill<'t> {
    transaction: &'t Transaction<'t>,
    /// Nothing was known of estimates before.
    learns: bool,
    rows: Lookup<'t>,
    names: Names,
    since: Option<Timestamp>,
    batch: Vec<Change>,
    /// Whose changes wait in the batch.
    ids: HashSet<CallId>,
    open: HashMap<CallId, Box<str>>,
    refilled: Refilled,
}

impl Refill<'_> {
    fn take(&mut self, entry: Entry) -> Result<(), Stuck> {
        let is_gone = |began: Timestamp| self.since.is_some_and(|since| began < since);
        match entry {
            Entry::Open { id, .. } if is_gone(began(&id)) => {}
            Entry::Open { id, line, .. } => {
                self.open.extend(line.map(|line| (id, line)));
            }
            Entry::Close(record) | Entry::Provisional { record, .. } => {
                self.open.remove(&record.id);
                if !is_gone(record.created_at) {
                    self.add(record)?;
                }
            }
            Entry::Amend(record) => {
                self.open.remove(&record.id);
                if !is_gone(record.created_at) {
                    self.replace(record)?;
                }
            }
            // What is known of estimates was learned later, unless nothing is.
            Entry::Learned(calibration) if self.learns => {
                self.push(Change::Learn(calibration))?;
            }
            Entry::Learned(_) => {}
        }
        Ok(())
    }

    fn add(&mut self, record: Box<Record>) -> Result<(), Stuck> {
        if self.ids.contains(&record.id) {
            return Ok(());
        }
        match self.rows.find(&record.id)? {
            Found::Row(_) => return Ok(()),
            Found::Unreadable => self.delete(&record.id)?,
            Found::Nothing => {}
        }
        self.refilled.added += 1;
        self.push(Change::Insert(record))
    }

    fn replace(&mut self, mut record: Box<Record>) -> Result<(), Stuck> {
        if self.ids.contains(&record.id) {
            self.flush()?;
        }
        match self.rows.find(&record.id)? {
            Found::Row(row) if self.rows.agree(&row, &record)? => return Ok(()),
            Found::Row(row) => {
                if self.rows.is_repriced(&row.id)? {
                    keep_costs(&mut record, &row);
                }
                self.refilled.replaced += 1;
            }
            Found::Unreadable => {
                self.delete(&record.id)?;
                self.refilled.added += 1;
            }
            Found::Nothing => self.refilled.added += 1,
        }
        self.push(Change::Replace(record))
    }

    fn delete(&self, id: &CallId) -> rusqlite::Result<()> {
        let mut delete = self.transaction.prepare_cached("DELETE FROM calls WHERE id = ?")?;
        delete.execute([id.into_bytes()]).map(drop)
    }

    fn push(&mut self, change: Change) -> Result<(), Stuck> {
        self.ids.extend(change.call().copied());
        self.batch.push(change);
        if self.batch.len() < BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Stuck> {
        store::apply(self.transaction, &mut self.names, &self.batch, &HashSet::new())?;
        self.batch.clear();
        self.ids.clear();
        Ok(())
    }
}
