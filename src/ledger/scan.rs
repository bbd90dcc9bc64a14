//! The rows that pass a filter, by the cheapest way to them. Owns the SQL for that and the choice of a
//! way; knows nothing of what is done with the rows.
//!
//! Few of many calls are found through `postings`: those of a session, of a user's kinds that pass, or of the
//! kinds that pass, without reading any other. They say where a row may be; whether it is there and passes is
//! looked at in the row.
//!
//! Invariant: each row that passes is shown once.

use std::ops::{ControlFlow, Range};
use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde_json::{Map, Value};

use super::filter::{Match, Selection};
use super::group::Place;
use super::kind::Kinds;
use super::layout::{FROM_CALLS, KEY_BITS, columns, columns_without_own};
use super::postings::{By, Finder};
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
    /// Through the kinds that pass: where few of the window's calls do.
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
            Ok(())
        })
    }

    /// The keys of the newest calls that pass, up to `limit` of them, newest first.
    pub(super) fn newest(&self, keys: Range<i64>, limit: usize) -> Result<Vec<i64>, QueryError> {
        let mut found = Vec::new();
        if self.selection.session.is_none() {
            if self.selection.user.is_none() && self.selection.has_all_kinds() {
                self.look_at_newest(&keys, None, limit, &mut found)?;
                return Ok(found);
            }
            let below = self.look_at_newest(&keys, Some(PROBE), limit, &mut found)?;
            if found.len() >= limit || below <= keys.start {
                return Ok(found);
            }
            return self.listed(&(keys.start..below), |finder| {
                found.extend(finder.newest(limit - found.len(), |key| self.passes_row(key))?);
                Ok(found)
            });
        }
        self.listed(&keys, |finder| finder.newest(limit, |key| self.passes_row(key)))
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
        if selection.session.is_some() {
            return self.records_listed(see);
        }
        let select = format!("SELECT {}, calls.kind {FROM_CALLS}", columns());
        let mut all = format!("{select} WHERE calls.key >= ? AND calls.key < ?");
        let keys = selection.keys();
        let mut values = vec![keys.start, keys.end];
        if let Some(user) = selection.user {
            all.push_str(" AND calls.user = ?");
            values.push(user.into());
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

    /// Those of a session: they are few.
    fn records_listed(
        &self,
        see: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), QueryError> {
        for key in self.listed(&self.selection.keys(), |finder| Ok(finder.all()?))? {
            if self.passes_row(key)? && see(self.record(key)?).is_break() {
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
        see: &mut dyn FnMut(&Row<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let Selection { user, session, .. } = *self.selection;
        if user.is_none() && session.is_none() && way == Way::Time {
            let sql = format!("{select} NOT INDEXED WHERE key >= ?1 AND key < ?2");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([keys.start, keys.end])?;
            while let Some(row) = rows.next()? {
                see(row)?;
            }
            return Ok(());
        }
        let sql = format!(
            "{select} WHERE key = ?1 AND (?2 IS NULL OR user = ?2) AND (?3 IS NULL OR session = ?3)"
        );
        let mut one = self.connection.prepare_cached(&sql)?;
        for key in self.listed(keys, |finder| Ok(finder.all()?))? {
            let mut rows = one.query((key, user, session))?;
            if let Some(row) = rows.next()? {
                see(row)?;
            }
        }
        Ok(())
    }

    /// Does something with the lists that have all that pass.
    fn listed(
        &self,
        keys: &Range<i64>,
        find: impl FnOnce(Finder<'_>) -> Result<Vec<i64>, QueryError>,
    ) -> Result<Vec<i64>, QueryError> {
        let (kinds, may_pass);
        let by = match (self.selection.session, self.selection.user) {
            (Some(session), _) => By::Session(session),
            (None, Some(user)) => {
                may_pass = |kind| self.selection.of(kind) != Match::No;
                By::User(user, &may_pass)
            }
            (None, None) => {
                kinds = self.selection.kinds().collect::<Vec<u32>>();
                By::Kinds(&kinds)
            }
        };
        find(Finder::new(self.connection, by, keys)?)
    }

    /// Looks at the newest rows, at all or so many. Answers below which key nothing was looked at.
    fn look_at_newest(
        &self,
        keys: &Range<i64>,
        most: Option<usize>,
        limit: usize,
        found: &mut Vec<i64>,
    ) -> Result<i64, QueryError> {
        let sql = "SELECT key, kind, own, user FROM calls NOT INDEXED
            WHERE key >= ?1 AND key < ?2 ORDER BY key DESC LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let at_most = most.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX));
        let mut rows = statement.query([keys.start, keys.end, at_most])?;
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
        Ok(if most.is_none_or(|most| seen < most) { keys.start } else { below })
    }

    /// Whether there is a row that passes.
    fn passes_row(&self, key: i64) -> Result<bool, QueryError> {
        let Selection { user, session, .. } = *self.selection;
        let mut find = self.connection.prepare_cached(
            "SELECT kind, own FROM calls
             WHERE key = ?1 AND (?2 IS NULL OR user = ?2) AND (?3 IS NULL OR session = ?3)",
        )?;
        let mut rows = find.query((key, user, session))?;
        match rows.next()? {
            Some(row) => Ok(self.passes(row.get(0)?, own(row, 1)?.as_ref())),
            None => Ok(false),
        }
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

/// The facts that a row has itself.
fn own(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Map<String, Value>>> {
    let own = row.get_ref(column)?.as_str_or_null()?;
    Ok(own.and_then(|own| serde_json::from_str(own).ok()))
}
