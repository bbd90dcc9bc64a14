//! Questions to the ledger, typed, and their answers. Owns the reading connections and their time
//! limit; knows nothing of HTTP or terminals.
//!
//! Invariant: readers cannot write, and no question runs for ever.

use std::fmt;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use jiff::tz::TimeZone;
use rusqlite::{Connection, InterruptHandle, OptionalExtension};
use serde::Serialize;

use super::breakdown::Breakdown;
use super::filter::{Cursor, Filter};
use super::group::{GroupKey, Groups, KeyValue, named};
use super::kind::Kinds;
use super::layout::{KEY_BITS, LATEST_MS};
use super::scan::Scan;
use super::sort::{Order, SortKey, sorted};
use super::tail::same_file;
use super::totals::{Group, Tally, Totals};
use super::{OpenError, schema, store, upgrade};
use crate::estimate::Calibration;
use crate::record::{CallId, Record};
use crate::units::Timestamp;

/// How long a question may take. Long enough for a scan of tens of millions of calls; a dashboard
/// left open must not keep a core busy for longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Up to so many calls, an answer is made from their rows in any case: percentiles are exact then.
const FEW: usize = 1000;

/// Connections kept for the next question.
const IDLE_CONNECTIONS: usize = 4;

/// How often a question past its time is interrupted again: an interruption between two of its
/// statements would miss both.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);

/// Answers questions from read-only connections; clones share them. Its methods block.
#[derive(Clone)]
pub struct Reader(Arc<Pool>);

struct Pool {
    path: PathBuf,
    time_limit: Duration,
    /// Up to how many calls are read one by one.
    few: usize,
    idle: Mutex<Vec<Opened>>,
}

struct Opened {
    connection: Connection,
    /// As far as they were needed.
    kinds: Kinds,
    /// The file as it was opened: if another stands there now, this one answers from the past.
    identity: fs::Metadata,
}

/// Totals of the calls that pass a filter, and of the groups that they fall into.
#[derive(Clone, Debug)]
pub struct StatsQuery {
    pub filter: Filter,
    /// None: totals only.
    pub group_by: Vec<GroupKey>,
    /// Whose hours, days, weeks and months.
    pub zone: TimeZone,
    /// Default: by key where a time is a key, else by `total_tokens`.
    pub sort: Option<SortKey>,
    /// Default: keys ascending, figures descending.
    pub order: Option<Order>,
    pub limit: Option<usize>,
    pub offset: usize,
}

impl Default for StatsQuery {
    fn default() -> StatsQuery {
        StatsQuery {
            filter: Filter::default(),
            group_by: Vec::new(),
            zone: TimeZone::UTC,
            sort: None,
            order: None,
            limit: None,
            offset: 0,
        }
    }
}

/// The answer to a [`StatsQuery`].
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    pub totals: Totals,
    pub groups: Vec<Group>,
    /// The offset of the groups that the limit left out.
    pub next_offset: Option<usize>,
    /// Set where the answer needed rows that have been deleted (`retention_days`): it counts calls from
    /// this moment on only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_since: Option<Timestamp>,
}

/// Calls, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    pub records: Vec<Record>,
    /// Where the next page starts; nothing at the end.
    pub next_cursor: Option<Cursor>,
}

/// One session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionReport {
    pub totals: Totals,
    pub by_model: Vec<Group>,
    pub by_operation: Vec<Group>,
    /// In the order of their numbers; calls without one come first.
    pub attempts: Vec<AttemptTotals>,
    pub first_call: Timestamp,
    pub last_call: Timestamp,
    /// Set where older rows have been deleted (`retention_days`), which the session may have had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_since: Option<Timestamp>,
}

/// One attempt within a session.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptTotals {
    pub attempt: Option<i64>,
    #[serde(flatten)]
    pub totals: Totals,
    pub first_call: Timestamp,
    pub last_call: Timestamp,
    pub models: Vec<String>,
    pub finish_reasons: Vec<String>,
}

/// One user.
#[derive(Clone, Debug, Serialize)]
pub struct UserReport {
    pub totals: Totals,
    pub by_model: Vec<Group>,
    pub by_operation: Vec<Group>,
    pub by_day: Vec<Group>,
    /// Nothing where rows that old are gone.
    pub last_activity: Option<Timestamp>,
    /// As in [`Stats`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_since: Option<Timestamp>,
}

/// Several breakdowns of the same calls.
#[derive(Clone, Debug)]
pub struct Breakdowns {
    pub totals: Totals,
    /// For each grouping its groups: by key where a time is a key, else by tokens, descending.
    pub groupings: Vec<Vec<Group>>,
    /// As in [`Stats`].
    pub rows_since: Option<Timestamp>,
}

/// Why a question has no answer.
#[derive(Debug)]
pub enum QueryError {
    /// The time limit.
    TooSlow(Duration),
    /// The limit on groups.
    TooManyGroups(usize),
    /// The system has no thread to spare for watching the time.
    Overloaded(std::io::Error),
    Database(rusqlite::Error),
}

impl Reader {
    /// For a database that another process may be writing to, or nobody.
    pub fn open(path: &Path) -> Result<Reader, OpenError> {
        let found = fs::metadata(path).map_err(|error| OpenError::io(path, error))?;
        if found.len() == 0 {
            let reason = "it is empty".to_owned();
            return Err(OpenError::Corrupt { path: path.to_owned(), reason });
        }
        schema::inspect(path)?;
        let reader = Reader::new(path);
        let open = || {
            let opened = reader.0.take().map_err(|error| OpenError::database(path, error))?;
            schema::check_version(&opened.connection, path).map(|()| opened)
        };
        let opened = match open() {
            Err(OpenError::TooOld { .. }) => {
                upgrade::if_old_and_idle(path)?;
                open()?
            }
            opened => opened?,
        };
        reader.0.put_back(opened);
        Ok(reader)
    }

    pub(super) fn new(path: &Path) -> Reader {
        let (path, idle) = (path.to_owned(), Mutex::default());
        Reader(Arc::new(Pool { path, time_limit: TIME_LIMIT, few: FEW, idle }))
    }

    /// The same reader, to which no calls are few.
    #[cfg(test)]
    pub(super) fn by_sums(&self) -> Reader {
        let (path, idle) = (self.0.path.clone(), Mutex::default());
        Reader(Arc::new(Pool { path, time_limit: TIME_LIMIT, few: 0, idle }))
    }

    /// The same reader with another time limit.
    pub fn with_time_limit(&self, time_limit: Duration) -> Reader {
        let (path, idle) = (self.0.path.clone(), Mutex::default());
        Reader(Arc::new(Pool { path, time_limit, few: self.0.few, idle }))
    }

    pub fn stats(&self, query: &StatsQuery) -> Result<Stats, QueryError> {
        // The totals are those of all groups: adding them up is cheaper than counting each call twice.
        let groupings = [query.group_by.clone()];
        let ([groups], rows_since) = self.fold(&query.filter, &groupings, &query.zone)?;
        let mut all = Tally::default();
        for tally in groups.values() {
            all.merge(tally);
        }
        let totals = all.totals();
        if query.group_by.is_empty() {
            return Ok(Stats { totals, groups: Vec::new(), next_offset: None, rows_since });
        }
        let groups = sorted(groups, query.sort_key(), query.order);
        let end = query.limit.map_or(groups.len(), |limit| query.offset.saturating_add(limit));
        let next_offset = (end < groups.len()).then_some(end);
        let shown = end.saturating_sub(query.offset);
        let shown = groups.into_iter().skip(query.offset).take(shown);
        let groups = shown.map(|(key, totals)| group(&query.group_by, key, totals)).collect();
        Ok(Stats { totals, groups, next_offset, rows_since })
    }

    /// Totals and several breakdowns at once: the calls are read as often as one needs it that needs it
    /// most. So those by user or by time are better asked for apart from the others.
    pub fn breakdowns(
        &self,
        filter: &Filter,
        groupings: &[Vec<GroupKey>],
        zone: &TimeZone,
    ) -> Result<Breakdowns, QueryError> {
        let asked: Vec<_> = [vec![]].into_iter().chain(groupings.iter().cloned()).collect();
        let (folded, rows_since) = self.fold_all(filter, &asked, zone)?;
        let mut folded = folded.into_iter();
        let all = folded.next().and_then(|mut all| all.remove(&vec![]));
        let in_order = |(keys, groups): (&Vec<GroupKey>, Groups)| {
            let timed = keys.iter().any(GroupKey::is_time);
            let sort = if timed { SortKey::Key } else { SortKey::TotalTokens };
            let groups = sorted(groups, sort, None).into_iter();
            groups.map(|(key, totals)| group(keys, key, totals)).collect()
        };
        Ok(Breakdowns {
            totals: all.unwrap_or_default().totals(),
            groupings: groupings.iter().zip(folded).map(in_order).collect(),
            rows_since,
        })
    }

    /// The names that calls' metadata have, in order, so many at most. Of metadata of very many values,
    /// the first thousand tell.
    pub fn metadata_names(&self, most: usize) -> Result<Vec<String>, QueryError> {
        self.ask(|_, kinds| Ok(kinds.metadata_names(most).into_iter().collect()))
    }

    /// A page of calls, newest first, after `cursor`.
    pub fn usage(
        &self,
        filter: &Filter,
        limit: usize,
        cursor: Option<&Cursor>,
    ) -> Result<Page, QueryError> {
        let mut records = self.ask(|connection, kinds| {
            let Some(selection) = filter.select(connection, kinds)? else { return Ok(Vec::new()) };
            let mut keys = selection.keys();
            if let Some(cursor) = cursor {
                keys.end = keys.end.min(key_of(connection, cursor)?);
            }
            let scan = Scan { connection, kinds, selection: &selection };
            // One more than asked for tells whether there is a next page.
            let found = scan.newest(keys, limit.saturating_add(1))?;
            let records = found.into_iter().map(|key| scan.record(key));
            Ok(records.collect::<rusqlite::Result<Vec<Record>>>()?)
        })?;
        let more = records.len() > limit;
        records.truncate(limit);
        let last = records.last().filter(|_| more);
        let next_cursor = last.map(|last| Cursor { created_at: last.created_at, id: last.id });
        Ok(Page { records, next_cursor })
    }

    /// Shows every call that passes a filter to `see`, oldest first, in constant memory and without a
    /// time limit, until it answers `Break`. All are from one moment: what arrives meanwhile is not
    /// among them.
    pub fn each(
        &self,
        filter: &Filter,
        mut see: impl FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), QueryError> {
        let mut opened = self.0.take()?;
        let connection = opened.connection.unchecked_transaction()?;
        opened.kinds.refresh(&connection)?;
        let Some(selection) = filter.select(&connection, &opened.kinds)? else { return Ok(()) };
        let (connection, kinds) = (&*connection, &opened.kinds);
        Scan { connection, kinds, selection: &selection }.records(&mut see)
    }

    /// One call.
    pub fn one(&self, id: &CallId) -> Result<Option<Record>, QueryError> {
        self.ask(|connection, _| Ok(store::record(connection, id)?))
    }

    /// What reported usage has taught about estimates, by provider, model and side.
    pub fn calibrations(&self) -> Result<Vec<Calibration>, QueryError> {
        self.ask(|connection, _| Ok(store::calibrations(connection)?))
    }

    /// One session; nothing if no call belongs to it.
    pub fn session(&self, name: &str) -> Result<Option<SessionReport>, QueryError> {
        use GroupKey::{Attempt, FinishReason, Model, Operation};
        let filter = Filter { session: Some(name.to_owned()), ..Filter::default() };
        let groupings = [
            vec![],
            vec![Model],
            vec![Operation],
            vec![Attempt],
            vec![Attempt, Model],
            vec![Attempt, FinishReason],
        ];
        let (folded, rows_since) = self.fold(&filter, &groupings, &TimeZone::UTC)?;
        let [mut all, models, operations, attempts, attempt_models, attempt_reasons] = folded;
        let Some(all) = all.remove(&vec![]) else { return Ok(None) };
        let mut attempts: Vec<_> = attempts.into_iter().collect();
        attempts.sort_by(|one, other| one.0.cmp(&other.0));
        let attempt = |(key, tally): (Vec<KeyValue>, Tally)| AttemptTotals {
            attempt: match key[..] {
                [KeyValue::Number(number)] => Some(number),
                _ => None,
            },
            totals: tally.totals(),
            first_call: tally.first().unwrap_or(Timestamp::from_millis(0)),
            last_call: tally.last().unwrap_or(Timestamp::from_millis(0)),
            models: second_parts(&attempt_models, &key),
            finish_reasons: second_parts(&attempt_reasons, &key),
        };
        Ok(Some(SessionReport {
            attempts: attempts.into_iter().map(attempt).collect(),
            by_model: by_tokens(Model, models),
            by_operation: by_tokens(Operation, operations),
            first_call: all.first().unwrap_or(Timestamp::from_millis(0)),
            last_call: all.last().unwrap_or(Timestamp::from_millis(0)),
            totals: all.totals(),
            rows_since,
        }))
    }

    /// All users by tokens, descending, with calls that name no user as one of them.
    pub fn users(&self, filter: &Filter) -> Result<Vec<Group>, QueryError> {
        let ([users], _) = self.fold(filter, &[vec![GroupKey::User]], &TimeZone::UTC)?;
        Ok(by_tokens(GroupKey::User, users))
    }

    /// One user, within a filter; nothing if no call belongs to them. Days are those of `zone`.
    pub fn user(
        &self,
        name: &str,
        filter: &Filter,
        zone: &TimeZone,
    ) -> Result<Option<UserReport>, QueryError> {
        use GroupKey::{Day, Model, Operation};
        let filter = Filter { user: Some(name.to_owned()), ..filter.clone() };
        let groupings = [vec![], vec![Model], vec![Operation], vec![Day]];
        let ([mut all, models, operations, days], rows_since) =
            self.fold(&filter, &groupings, zone)?;
        let Some(all) = all.remove(&vec![]) else { return Ok(None) };
        let newest = self.usage(&filter, 1, None)?.records.pop();
        let last_activity = newest.map(|call| call.created_at);
        let days = sorted(days, SortKey::Key, None).into_iter();
        Ok(Some(UserReport {
            by_model: by_tokens(Model, models),
            by_operation: by_tokens(Operation, operations),
            by_day: days.map(|(key, totals)| group(&[Day], key, totals)).collect(),
            last_activity,
            rows_since,
            totals: all.totals(),
        }))
    }

    /// Reads the calls that pass a filter once, into several groupings.
    fn fold<const N: usize>(
        &self,
        filter: &Filter,
        groupings: &[Vec<GroupKey>; N],
        zone: &TimeZone,
    ) -> Result<([Groups; N], Option<Timestamp>), QueryError> {
        let (groups, rows_since) = self.fold_all(filter, groupings, zone)?;
        let mut groups = groups.into_iter();
        Ok((std::array::from_fn(|_| groups.next().unwrap_or_default()), rows_since))
    }

    fn fold_all(
        &self,
        filter: &Filter,
        groupings: &[Vec<GroupKey>],
        zone: &TimeZone,
    ) -> Result<(Vec<Groups>, Option<Timestamp>), QueryError> {
        let few = self.0.few;
        let broken = self.ask(|connection, kinds| {
            Breakdown { connection, kinds, filter, groupings, zone, few }.read()
        })?;
        Ok((broken.groups, broken.rows_since))
    }

    /// Puts a question to a connection, which is interrupted when the time is up.
    fn ask<T>(
        &self,
        question: impl FnOnce(&Connection, &Kinds) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let limit = self.0.time_limit;
        let mut opened = self.0.take()?;
        let handle = opened.connection.get_interrupt_handle();
        let (done, wait) = mpsc::channel::<()>();
        let answer = thread::scope(|scope| {
            let watch = thread::Builder::new().name("ledger-clock".into());
            watch
                .spawn_scoped(scope, move || interrupt_after(limit, &handle, &wait))
                .map_err(QueryError::Overloaded)?;
            let answer = opened.answer(question);
            drop(done);
            answer
        });
        match answer {
            Err(QueryError::Database(error))
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) =>
            {
                return Err(QueryError::TooSlow(limit));
            }
            Err(_) => {}
            Ok(_) => self.0.put_back(opened),
        }
        answer
    }
}

impl Opened {
    /// All that a question reads is from one moment.
    fn answer<T>(
        &mut self,
        question: impl FnOnce(&Connection, &Kinds) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let moment = self.connection.unchecked_transaction()?;
        self.kinds.refresh(&moment)?;
        question(&moment, &self.kinds)
    }
}

/// Where a page begins: behind the call that the cursor names, or behind its time if it is gone.
fn key_of(connection: &Connection, cursor: &Cursor) -> rusqlite::Result<i64> {
    let mut find = connection.prepare_cached("SELECT key FROM calls WHERE id = ?")?;
    let key = find.query_row([cursor.id.into_bytes()], |row| row.get(0)).optional()?;
    let millis = cursor.created_at.millis().clamp(0, LATEST_MS);
    Ok(key.unwrap_or(millis << KEY_BITS))
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Pool {
    fn take(&self) -> rusqlite::Result<Opened> {
        let named = fs::metadata(&self.path).ok();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let (Some(opened), Some(named)) = (idle, &named)
            && same_file(&opened.identity, named)
        {
            return Ok(opened);
        }
        let connection = schema::open_reader(&self.path)?;
        let identity = named
            .or_else(|| fs::metadata(&self.path).ok())
            .ok_or_else(|| rusqlite::Error::InvalidPath(self.path.clone()))?;
        Ok(Opened { connection, kinds: Kinds::default(), identity })
    }

    fn put_back(&self, opened: Opened) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(opened);
        }
    }
}

impl StatsQuery {
    fn sort_key(&self) -> SortKey {
        let timed = self.group_by.iter().any(GroupKey::is_time);
        self.sort.unwrap_or(if timed { SortKey::Key } else { SortKey::TotalTokens })
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryError::TooSlow(limit) => write!(
                f,
                "the question took longer than {} s; narrow the window or the filters",
                limit.as_secs()
            ),
            QueryError::TooManyGroups(limit) => write!(
                f,
                "more than {limit} groups; narrow the window or the filters, or group by less"
            ),
            QueryError::Overloaded(error) => write!(f, "no thread for the question: {error}"),
            QueryError::Database(error) => write!(f, "reading the database: {error}"),
        }
    }
}

impl std::error::Error for QueryError {}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> QueryError {
        QueryError::Database(error)
    }
}

fn group(keys: &[GroupKey], values: Vec<KeyValue>, totals: Totals) -> Group {
    Group { key: named(keys, values), totals }
}

fn by_tokens(key: GroupKey, groups: Groups) -> Vec<Group> {
    let keys = [key];
    let sorted = sorted(groups, SortKey::TotalTokens, None).into_iter();
    sorted.map(|(key, totals)| group(&keys, key, totals)).collect()
}

/// Of groups by two keys: the texts of the second where the first is `first`.
fn second_parts(groups: &Groups, first: &[KeyValue]) -> Vec<String> {
    let matching = groups.keys().filter(|key| key.starts_with(first));
    let mut texts: Vec<String> = matching
        .filter_map(|key| match key.last() {
            Some(KeyValue::Text(text)) => Some(text.clone()),
            _ => None,
        })
        .collect();
    texts.sort_unstable();
    texts
}

fn interrupt_after(limit: Duration, handle: &InterruptHandle, wait: &mpsc::Receiver<()>) {
    let mut pause = limit;
    while wait.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
        handle.interrupt();
        pause = INTERRUPT_AGAIN;
    }
}
