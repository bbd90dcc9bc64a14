//! Which calls a question is about. Owns the conditions, what they are in the numbers of a database, and
//! the place in a list; knows nothing of what is asked.
//!
//! Invariant: what a user typed is compared or bound, and never becomes SQL text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Map, Value};

use super::group::KeyValue;
use super::kind::{CLASS, Fact, Kind, Kinds, fact};
use super::layout::{KEY_BITS, LATEST_MS};
use crate::pricing::CostSource;
use crate::record::{CallId, Outcome, Record};
use crate::units::Timestamp;
use crate::usage::UsageSource;

/// Calls that meet every condition given; the default is all calls.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    pub user: Option<String>,
    pub session: Option<String>,
    pub operation: Option<String>,
    pub provider: Option<String>,
    pub upstream: Option<String>,
    /// The served model, or the requested one where the provider did not say.
    pub model: Option<String>,
    pub endpoint: Option<String>,
    pub usage_source: Option<UsageSource>,
    pub cost_source: Option<CostSource>,
    pub price_id: Option<String>,
    pub key_fingerprint: Option<String>,
    pub outcome: Option<Outcome>,
    pub status: Option<u16>,
    pub finish_reason: Option<String>,
    pub error: Option<String>,
    /// Names and values of metadata; numbers and booleans as JSON writes them.
    pub metadata: Vec<(String, String)>,
}

/// A place in a list of calls, newest first: after this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub created_at: Timestamp,
    pub id: CallId,
}

/// Whether calls of a kind pass a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    No,
    /// The rows have what decides.
    Maybe,
    Yes,
}

/// A filter in the numbers of one database.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    filter: &'a Filter,
    /// Of the moments asked for, in milliseconds.
    pub(super) window: Range<i64>,
    pub(super) user: Option<u32>,
    pub(super) session: Option<i64>,
    /// By the kinds' numbers.
    kinds: Vec<Match>,
}

impl Filter {
    /// The facts that the filter names, a bit each.
    fn facts(&self) -> u32 {
        let named = [
            (1 << fact::OPERATION, self.operation.is_some()),
            (1 << fact::PROVIDER, self.provider.is_some()),
            (1 << fact::UPSTREAM, self.upstream.is_some()),
            (1 << fact::MODEL | 1 << fact::MODEL_REQUESTED, self.model.is_some()),
            (1 << fact::ENDPOINT, self.endpoint.is_some()),
            (1 << fact::USAGE_SOURCE, self.usage_source.is_some()),
            (1 << fact::COST_SOURCE, self.cost_source.is_some()),
            (1 << fact::PRICE_ID, self.price_id.is_some()),
            (1 << fact::KEY_FINGERPRINT, self.key_fingerprint.is_some()),
            (1 << fact::OUTCOME, self.outcome.is_some()),
            (1 << fact::STATUS, self.status.is_some()),
            (1 << fact::FINISH_REASON, self.finish_reason.is_some()),
            (1 << fact::ERROR, self.error.is_some()),
            (1 << fact::METADATA, !self.metadata.is_empty()),
        ];
        named.iter().filter(|(_, is_named)| *is_named).fold(0, |all, (fact, _)| all | fact)
    }

    /// Looks up what the filter names; nothing where no call can pass.
    pub(super) fn select(
        &self,
        connection: &Connection,
        kinds: &Kinds,
    ) -> rusqlite::Result<Option<Selection<'_>>> {
        let number = |table: &str, name: &str| {
            let sql = format!("SELECT id FROM {table} WHERE name = ?");
            connection.prepare_cached(&sql)?.query_row([name], |row| row.get(0)).optional()
        };
        let user: Option<Option<u32>> =
            self.user.as_deref().map(|name| number("users", name)).transpose()?;
        let session: Option<Option<u32>> =
            self.session.as_deref().map(|name| number("sessions", name)).transpose()?;
        if user == Some(None) || session == Some(None) {
            return Ok(None);
        }
        let mut matches = Vec::new();
        for (id, kind) in kinds.iter() {
            matches.resize(usize::try_from(id).unwrap_or_default(), Match::No);
            matches.push(self.matches(|place| kind.fact(place).map(Cow::Borrowed)));
        }
        let since = self.since.map_or(0, Timestamp::millis).max(0);
        let end = LATEST_MS + 1;
        let until = self.until.map_or(end, Timestamp::millis).min(end);
        Ok(Some(Selection {
            filter: self,
            window: since..until.max(since),
            user: user.flatten(),
            session: session.flatten().map(i64::from),
            kinds: matches,
        }))
    }

    /// Whether a call passes.
    pub(super) fn passes(&self, record: &Record) -> bool {
        let is =
            |wanted: &Option<String>, name: &Option<String>| wanted.is_none() || wanted == name;
        let fact = |place| Some(Cow::Owned(Fact::of(record, place).into()));
        self.since.is_none_or(|since| record.created_at >= since)
            && self.until.is_none_or(|until| record.created_at < until)
            && is(&self.user, &record.user)
            && is(&self.session, &record.session)
            && self.matches(fact) == Match::Yes
    }

    /// Whether the facts pass; a fact may be unknown.
    fn matches<'f>(&self, fact: impl Fn(usize) -> Option<Cow<'f, KeyValue>>) -> Match {
        let source = self.usage_source.map(|source| source.as_str().to_owned());
        let cost_source = self.cost_source.map(|source| source.as_str().to_owned());
        let outcome = self.outcome.map(|outcome| outcome.as_str().to_owned());
        let plain = [
            (fact::OPERATION, &self.operation),
            (fact::PROVIDER, &self.provider),
            (fact::UPSTREAM, &self.upstream),
            (fact::ENDPOINT, &self.endpoint),
            (fact::USAGE_SOURCE, &source),
            (fact::COST_SOURCE, &cost_source),
            (fact::PRICE_ID, &self.price_id),
            (fact::KEY_FINGERPRINT, &self.key_fingerprint),
            (fact::OUTCOME, &outcome),
            (fact::FINISH_REASON, &self.finish_reason),
            (fact::ERROR, &self.error),
        ];
        let is = |known: Option<Cow<'f, KeyValue>>, wanted: &str| match known.as_deref() {
            None => Match::Maybe,
            Some(KeyValue::Text(text)) if text == wanted => Match::Yes,
            Some(_) => Match::No,
        };
        let plain = plain
            .into_iter()
            .filter_map(|(place, wanted)| Some(is(fact(place), wanted.as_deref()?)));
        let model = self.model.as_deref().map(|wanted| is(model_of(&fact), wanted));
        let metadata = self.metadata.iter().map(|(name, wanted)| {
            let known = fact(fact::METADATA).map(|all| Cow::Owned(member(&all, name)));
            is(known, wanted)
        });
        let status = self.status.map(|wanted| match fact(fact::STATUS).as_deref() {
            None => Match::Maybe,
            Some(KeyValue::Number(status)) if *status == i64::from(wanted) => Match::Yes,
            Some(_) => Match::No,
        });
        let mut all = plain.chain(model).chain(status).chain(metadata);
        all.try_fold(Match::Yes, |so_far, one| match one {
            Match::No => Err(Match::No),
            Match::Maybe => Ok(Match::Maybe),
            Match::Yes => Ok(so_far),
        })
        .unwrap_or_else(|no| no)
    }
}

impl Selection<'_> {
    pub(super) fn of(&self, kind: u32) -> Match {
        let place = usize::try_from(kind).unwrap_or(usize::MAX);
        self.kinds.get(place).copied().unwrap_or(Match::No)
    }

    /// Whether a row passes of which the kind says that it may.
    pub(super) fn passes(&self, kind: &Kind, own: Option<&Map<String, Value>>) -> bool {
        self.filter.matches(|place| Some(Cow::Owned(kind.fact_of(place, own)))) == Match::Yes
    }

    /// Whether a call passes.
    pub(super) fn lets(&self, record: &Record) -> bool {
        self.filter.passes(record)
    }

    /// The kinds of which calls pass, or may.
    pub(super) fn kinds(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.kinds).filter(|(_, one)| **one != Match::No).map(|(id, _)| id)
    }

    /// Whether all kinds pass.
    pub(super) fn has_all_kinds(&self) -> bool {
        self.filter.facts() == 0
    }

    /// Whether classes of kinds tell which pass.
    pub(super) fn is_told_by_classes(&self) -> bool {
        self.filter.facts() & !CLASS == 0
    }

    /// Whether kinds tell all that the filter asks about them.
    pub(super) fn is_decided(&self) -> bool {
        !self.kinds.contains(&Match::Maybe)
    }

    /// The keys of the window.
    pub(super) fn keys(&self) -> Range<i64> {
        self.window.start << KEY_BITS..self.window.end << KEY_BITS
    }
}

/// The model that a call is counted under: the served one, else the requested one. Nothing where a
/// fact that decides is unknown.
pub(super) fn model_of<'f>(
    fact: impl Fn(usize) -> Option<Cow<'f, KeyValue>>,
) -> Option<Cow<'f, KeyValue>> {
    let served = fact(fact::MODEL)?;
    if *served == KeyValue::Absent { fact(fact::MODEL_REQUESTED) } else { Some(served) }
}

/// A member of a metadata object as text: strings as they are, others as JSON writes them.
pub(super) fn member(metadata: &KeyValue, name: &str) -> KeyValue {
    let KeyValue::Text(text) = metadata else { return KeyValue::Absent };
    let members: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    match members.get(name) {
        None | Some(Value::Null) => KeyValue::Absent,
        Some(Value::String(text)) => KeyValue::Text(text.clone()),
        Some(other) => KeyValue::Text(other.to_string()),
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_at.millis(), self.id)
    }
}

/// A text that is not a cursor of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCursor;

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cursor: give the next_cursor of the page before, as it is")
    }
}

impl std::error::Error for BadCursor {}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        let (time, id) = text.split_once('.').ok_or(BadCursor)?;
        Ok(Cursor {
            created_at: Timestamp::from_millis(time.parse().map_err(|_| BadCursor)?),
            id: id.parse().map_err(|_| BadCursor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back() {
        let cursor = Cursor { created_at: Timestamp::from_millis(1234), id: CallId::new() };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "1234", "1234.", "x.y"] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor));
        }
    }
}
