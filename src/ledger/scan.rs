//! The rows that pass a filter, by the cheapest way to them. Owns the SQL for that and the choice of an
//! index; knows nothing of what is done with the rows.
//!
//! The index of kinds is in the order of time within each, so that calls which many filters name together
//! are found by asking each kind that passes, without reading those that do not. That of users is parted
//! by time ([`SPAN_BITS`]) and then goes by user and kind: it is asked part by part, and in each only for the
//! kinds that the user has there.
//!
//! Invariant: each row that passes is shown once.

use std::ops::{ControlFlow, Range};
use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};
use serde_json::{Map, Value};

use super::filter::{Match, Selection};
use super::group::Place;
use super::kind::Kinds;
use super::layout::{FROM_CALLS, KEY_BITS, SPAN_BITS, columns, columns_without_own};
use super::query::QueryError;
use super::row;
use super::totals::{FIGURES, Figures};
use crate::record::Record;

/// Rows that are looked at one after the other, newest first, before the kinds are asked.
const PROBE: usize = 2_000;

/// How rows are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In the order of time, all of the window.
    Time,
    /// Kind by kind: where few of the window's calls pass.
    Kinds,
}

/// Reads one database within one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a> {
    pub(super) connection: &'a Connection,
    pub(super) kinds: &'a Kinds,
    pub(super) selection: &'a Selection<'a>,
}

impl Scan<'_> {
    /// Shows the figures of each call of `keys` that passes.
    pub(super) fn figures(
        &self,
        keys: &Range<i64>,
        way: Way,
        see: &mut dyn FnMut(&Place<'_>, &Figures) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let select = format!("SELECT key, kind, user, session, own, {FIGURES} FROM calls");
        self.each(&select, keys, way, &mut |row| {
            let own = own(row, 4)?;
            let place = Place {
                at: row.get::<_, i64>(0)? >> KEY_BITS,
                kind: row.get(1)?,
                user: row.get::<_, Option<u32>>(2)?.unwrap_or_default(),
                session: row.get::<_, Option<i64>>(3)?.unwrap_or_default(),
                own: own.as_ref(),
            };
            if self.passes(place.kind, place.own)
                && let Some(kind) = self.kinds.get(place.kind)
            {
                see(&place, &Figures::read(row, 5, kind.counts)?)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The keys of the newest calls that pass, up to `limit` of them, newest first.
    pub(super) fn newest(&self, keys: Range<i64>, limit: usize) -> Result<Vec<i64>, QueryError> {
        let Range { start, end } = keys;
        let mut found = Vec::new();
        if let Some(session) = self.selection.session {
            let user = self.selection.user;
            let sql = "SELECT key, kind, own, user FROM calls INDEXED BY calls_by_session
                WHERE session = ?1 AND key >= ?2 AND key < ?3 ORDER BY key DESC";
            let is_theirs = |row: &Row<'_>| -> rusqlite::Result<bool> {
                Ok(user.is_none() || row.get::<_, Option<u32>>(3)? == user)
            };
            self.collect(sql, &[&session, &start, &end], limit, &mut found, &is_theirs)?;
            return Ok(found);
        }
        let user = self.selection.user;
        if user.is_none() && self.selection.has_all_kinds() {
            let sql = "SELECT key, kind, own FROM calls WHERE key >= ?1 AND key < ?2
                ORDER BY key DESC";
            self.collect(sql, &[&start, &end], limit, &mut found, &|_| Ok(true))?;
            return Ok(found);
        }
        let below = self.probe(start..end, limit, &mut found)?;
        if found.len() < limit && below > start {
            self.by_kind(start..below, limit - found.len(), &mut found)?;
        }
        Ok(found)
    }

    /// One call by its key.
    pub(super) fn record(&self, key: i64) -> rusqlite::Result<Record> {
        static PLAIN: LazyLock<String> = LazyLock::new(|| {
            let columns = columns_without_own();
            format!("SELECT {columns} {FROM_CALLS} WHERE calls.key = ? AND calls.own IS NULL")
        });
        static WITH_OWN: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {} {FROM_CALLS} WHERE calls.key = ?", columns()));
        let read = |sql: &str| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row([key], row::read).optional()
        };
        if let Some(record) = read(&PLAIN)? {
            return Ok(record);
        }
        read(&WITH_OWN)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// Shows every call of the window that passes, oldest first.
    pub(super) fn records(
        &self,
        see: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), QueryError> {
        let selection = self.selection;
        let select = format!("SELECT {}, calls.kind {FROM_CALLS}", columns());
        let mut all = format!("{select} WHERE calls.key >= ? AND calls.key < ?");
        let keys = selection.keys();
        let mut values = vec![keys.start, keys.end];
        // The plus keeps to the order of time, where an index has another: sorting would take memory.
        for (column, value) in
            [("+calls.user", selection.user.map(i64::from)), ("calls.session", selection.session)]
        {
            if let Some(value) = value {
                all.extend([" AND ", column, " = ?"]);
                values.push(value);
            }
        }
        all.push_str(" ORDER BY calls.key");
        let mut statement = self.connection.prepare_cached(&all)?;
        let mut rows = statement.query(params_from_iter(&values))?;
        while let Some(found) = rows.next()? {
            let one = selection.of(found.get(row::WIDTH)?);
            if one == Match::No {
                continue;
            }
            let record = row::read(found)?;
            if (one == Match::Yes || selection.lets(&record)) && see(record).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn each(
        &self,
        select: &str,
        keys: &Range<i64>,
        way: Way,
        see: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>, QueryError>,
    ) -> Result<(), QueryError> {
        let selection = self.selection;
        let ask = |condition: &str, values: &[&dyn ToSql], see: &mut dyn FnMut(&Row<'_>) -> _| {
            let sql = format!("{select} {condition}");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query(values)?;
            while let Some(row) = rows.next()? {
                if let ControlFlow::Break(()) = see(row)? {
                    break;
                }
            }
            Ok::<_, QueryError>(())
        };
        let (start, end) = (keys.start, keys.end);
        match (selection.session, selection.user, way) {
            (Some(session), user, _) => {
                let condition = "INDEXED BY calls_by_session
                    WHERE session = ?1 AND key >= ?2 AND key < ?3 AND (?4 IS NULL OR user = ?4)";
                ask(condition, &[&session, &start, &end, &user], see)
            }
            (None, Some(user), _) => {
                let condition = format!("INDEXED BY calls_by_user WHERE {}", *OF_USER);
                self.spans(keys)?.into_iter().try_for_each(|span| {
                    self.kinds_of(user, span)?.into_iter().try_for_each(|kind| {
                        ask(&condition, &[&span, &user, &kind, &start, &end], see)
                    })
                })
            }
            (None, None, Way::Kinds) => selection.kinds().try_for_each(|kind| {
                let condition =
                    "INDEXED BY calls_by_kind WHERE kind = ?1 AND key >= ?2 AND key < ?3";
                ask(condition, &[&kind, &start, &end], see)
            }),
            (None, None, Way::Time) => {
                ask("NOT INDEXED WHERE key >= ?1 AND key < ?2", &[&start, &end], see)
            }
        }
    }

    /// Collects keys of rows that begin with key, kind and own.
    fn collect(
        &self,
        sql: &str,
        values: &[&dyn ToSql],
        limit: usize,
        found: &mut Vec<i64>,
        also: &dyn Fn(&Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<(), QueryError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            if self.passes(row.get(1)?, own(row, 2)?.as_ref()) && also(row)? {
                found.push(row.get(0)?);
            }
        }
        Ok(())
    }

    /// Looks at the newest rows of all. Answers below which key nothing was looked at.
    fn probe(
        &self,
        keys: Range<i64>,
        limit: usize,
        found: &mut Vec<i64>,
    ) -> Result<i64, QueryError> {
        let sql = "SELECT key, kind, own, user FROM calls NOT INDEXED
            WHERE key >= ?1 AND key < ?2 ORDER BY key DESC LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let most = i64::try_from(PROBE).unwrap_or(i64::MAX);
        let mut rows = statement.query([keys.start, keys.end, most])?;
        let (mut seen, mut below, user) = (0, keys.start, self.selection.user);
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            (seen, below) = (seen + 1, row.get(0)?);
            let is_theirs = user.is_none() || row.get::<_, Option<u32>>(3)? == user;
            if is_theirs && self.passes(row.get(1)?, own(row, 2)?.as_ref()) {
                found.push(below);
            }
        }
        Ok(if seen < PROBE { keys.start } else { below })
    }

    /// Finds the newest by kinds, of a user from the latest part of the index on.
    fn by_kind(
        &self,
        keys: Range<i64>,
        wanted: usize,
        found: &mut Vec<i64>,
    ) -> Result<(), QueryError> {
        let Some(user) = self.selection.user else {
            let kinds = self.selection.kinds().collect();
            found.extend(self.newest_of(kinds, &OfKind { keys: &keys }, wanted)?);
            return Ok(());
        };
        let enough = found.len() + wanted;
        for span in self.spans(&keys)?.into_iter().rev() {
            let kinds = self.kinds_of(user, span)?;
            let place = OfUser { user, span, keys: &keys };
            found.extend(self.newest_of(kinds, &place, enough - found.len())?);
            if found.len() >= enough {
                break;
            }
        }
        Ok(())
    }

    /// Asks kinds for their newest, and keeps the newest of all. Kinds are asked in the order of their
    /// newest call, until no kind that is left can have one that counts.
    fn newest_of(
        &self,
        kinds: Vec<u32>,
        place: &dyn KindPlace,
        wanted: usize,
    ) -> Result<Vec<i64>, QueryError> {
        let newest = format!("SELECT max(key) {}", place.condition());
        let mut newest = self.connection.prepare_cached(&newest)?;
        let mut heads = Vec::new();
        for kind in kinds {
            let head: Option<i64> = newest.query_row(&*place.values(&kind), |row| row.get(0))?;
            heads.extend(head.map(|head| (head, kind)));
        }
        heads.sort_unstable_by(|one, other| other.cmp(one));
        let all = format!("SELECT key {} ORDER BY key DESC", place.condition());
        let mut rows = self.connection.prepare_cached(&all)?;
        let mut best: Vec<i64> = Vec::new();
        for (head, kind) in heads {
            let last = best.get(wanted.saturating_sub(1)).copied();
            if last.is_some_and(|last| last > head) {
                break;
            }
            let mut keys = rows.query(&*place.values(&kind))?;
            let mut taken = 0;
            while taken < wanted
                && let Some(row) = keys.next()?
            {
                let key = row.get(0)?;
                if last.is_some_and(|last| last > key) {
                    break;
                }
                if self.selection.of(kind) == Match::Yes || self.passes_row(key)? {
                    best.push(key);
                    taken += 1;
                }
            }
            best.sort_unstable_by(|one, other| other.cmp(one));
            best.truncate(wanted);
        }
        Ok(best)
    }

    /// Whether a row passes, of a kind that does not tell.
    fn passes_row(&self, key: i64) -> rusqlite::Result<bool> {
        let mut find =
            self.connection.prepare_cached("SELECT kind, own FROM calls WHERE key = ?")?;
        find.query_row([key], |row| Ok(self.passes(row.get(0)?, own(row, 1)?.as_ref())))
    }

    /// The parts of the index by user that calls of these keys are in. Others are not even looked at: one
    /// call of a clock that was wrong by decades has thousands between itself and the next.
    fn spans(&self, keys: &Range<i64>) -> rusqlite::Result<Vec<i64>> {
        let sql = "SELECT key FROM calls WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1";
        let mut next = self.connection.prepare_cached(sql)?;
        let (mut spans, mut from) = (Vec::new(), keys.start);
        while let Some(key) =
            next.query_row([from, keys.end], |row| row.get::<_, i64>(0)).optional()?
        {
            let span = key >> SPAN_BITS;
            spans.push(span);
            from = (span + 1) << SPAN_BITS;
        }
        Ok(spans)
    }

    /// The kinds of a user's calls in a part of the index that pass, or may: most users have few.
    fn kinds_of(&self, user: u32, span: i64) -> rusqlite::Result<Vec<u32>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT kind FROM calls INDEXED BY calls_by_user
                 WHERE key >> {SPAN_BITS} = ?1 AND user = ?2 AND kind > ?3 ORDER BY kind LIMIT 1"
            )
        });
        let mut next = self.connection.prepare_cached(&SQL)?;
        let (mut kinds, mut last) = (Vec::new(), -1_i64);
        while let Some(kind) =
            next.query_row(params![span, user, last], |row| row.get(0)).optional()?
        {
            kinds.extend(Some(kind).filter(|kind| self.selection.of(*kind) != Match::No));
            last = kind.into();
        }
        Ok(kinds)
    }

    fn passes(&self, kind: u32, own: Option<&Map<String, Value>>) -> bool {
        match self.selection.of(kind) {
            Match::No => false,
            Match::Yes => true,
            Match::Maybe => {
                self.kinds.get(kind).is_some_and(|kind| self.selection.passes(kind, own))
            }
        }
    }
}

/// Where the calls of one kind stand in the order of time.
trait KindPlace {
    /// SQL behind the columns that are wanted.
    fn condition(&self) -> &'static str;

    fn values<'a>(&'a self, kind: &'a u32) -> Vec<&'a dyn ToSql>;
}

struct OfKind<'a> {
    keys: &'a Range<i64>,
}

impl KindPlace for OfKind<'_> {
    fn condition(&self) -> &'static str {
        "FROM calls INDEXED BY calls_by_kind WHERE kind = ?1 AND key >= ?2 AND key < ?3"
    }

    fn values<'a>(&'a self, kind: &'a u32) -> Vec<&'a dyn ToSql> {
        vec![kind, &self.keys.start, &self.keys.end]
    }
}

struct OfUser<'a> {
    user: u32,
    span: i64,
    keys: &'a Range<i64>,
}

impl KindPlace for OfUser<'_> {
    fn condition(&self) -> &'static str {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("FROM calls INDEXED BY calls_by_user WHERE {}", *OF_USER));
        &SQL
    }

    fn values<'a>(&'a self, kind: &'a u32) -> Vec<&'a dyn ToSql> {
        vec![&self.span, &self.user, kind, &self.keys.start, &self.keys.end]
    }
}

/// Calls of a part of the index by user, of one user and kind, within a range of keys.
static OF_USER: LazyLock<String> = LazyLock::new(|| {
    format!("key >> {SPAN_BITS} = ?1 AND user = ?2 AND kind = ?3 AND key >= ?4 AND key < ?5")
});

/// The facts that a row has itself.
fn own(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Map<String, Value>>> {
    let own = row.get_ref(column)?.as_str_or_null()?;
    Ok(own.and_then(|own| serde_json::from_str(own).ok()))
}
