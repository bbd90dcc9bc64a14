//! The questions that can be asked, from parameters, and their answers as JSON. Owns the shapes of the
//! answers and the limits on their size; knows nothing of HTTP or terminals, which both ask here.
//!
//! Invariant: the same question has the same answer wherever it is asked.

use std::ops::RangeInclusive;

use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::params::{BadParameter, Pairs, Params, Window};
use crate::estimate::Calibration;
use crate::ledger::{COLUMNS, Cursor, Filter, GroupKey, QueryError, Reader, StatsQuery, Totals};
use crate::record::{CallId, Record};
use crate::units::Timestamp;

/// The window of totals where none is given.
const DEFAULT_DAYS: u64 = 7;

/// Groups in one answer, some 7 MB of them; `next_offset` tells when there are more.
pub(super) const GROUPS: RangeInclusive<u64> = 1..=10_000;

/// Rows in one answer; `next_cursor` leads on.
pub const ROWS: RangeInclusive<u64> = 1..=1000;

const DEFAULT_ROWS: usize = 20;

/// A question to the ledger, checked.
#[derive(Clone, Debug)]
pub enum Question {
    /// Totals and breakdowns.
    Stats {
        window: Window,
        query: StatsQuery,
    },
    /// The newest calls.
    Usage {
        filter: Filter,
        limit: usize,
        cursor: Option<Cursor>,
    },
    Call(CallId),
    Session(String),
    /// All users, by tokens unless another order is asked for.
    Users {
        window: Window,
        query: StatsQuery,
    },
    User {
        name: String,
        window: Window,
        filter: Filter,
        zone: TimeZone,
    },
    /// What reported usage has taught about the estimates of each model.
    Estimates,
}

impl Question {
    pub fn stats(pairs: &Pairs, now: Timestamp) -> Result<Question, BadParameter> {
        let mut params = Params::new(pairs)?;
        let group_by = params.group_by()?;
        let (window, query) = totals(params, group_by, now)?;
        Ok(Question::Stats { window, query })
    }

    pub fn users(pairs: &Pairs, now: Timestamp) -> Result<Question, BadParameter> {
        let (window, query) = totals(Params::new(pairs)?, vec![GroupKey::User], now)?;
        Ok(Question::Users { window, query })
    }

    pub fn usage(pairs: &Pairs, now: Timestamp) -> Result<Question, BadParameter> {
        let mut params = Params::new(pairs)?;
        let zone = params.zone()?;
        let window = params.window(&zone, now, None)?;
        let filter = within(window, params.filter()?);
        let limit = params.count("limit", ROWS)?.unwrap_or(DEFAULT_ROWS);
        let cursor = params.parsed("cursor")?;
        params.finish()?;
        Ok(Question::Usage { filter, limit, cursor })
    }

    pub fn user(name: String, pairs: &Pairs, now: Timestamp) -> Result<Question, BadParameter> {
        let mut params = Params::new(pairs)?;
        let zone = params.zone()?;
        let window = params.window(&zone, now, Some(DEFAULT_DAYS))?;
        let filter = within(window, params.filter_but_user()?);
        params.finish()?;
        Ok(Question::User { name, window: shown(window, now), filter, zone })
    }

    pub fn call(id: CallId, pairs: &Pairs) -> Result<Question, BadParameter> {
        Params::new(pairs)?.finish()?;
        Ok(Question::Call(id))
    }

    pub fn session(name: String, pairs: &Pairs) -> Result<Question, BadParameter> {
        Params::new(pairs)?.finish()?;
        Ok(Question::Session(name))
    }

    pub fn estimates(pairs: &Pairs) -> Result<Question, BadParameter> {
        Params::new(pairs)?.finish()?;
        Ok(Question::Estimates)
    }

    /// Asks the ledger; nothing where what the question names does not exist. Blocks.
    pub fn answer(&self, reader: &Reader) -> Result<Option<Value>, QueryError> {
        match self {
            Question::Stats { window, query } => {
                let stats = reader.stats(query)?;
                Ok(Some(put_first([("window", json(window))], json(&stats))))
            }
            Question::Usage { filter, limit, cursor } => {
                let page = reader.usage(filter, *limit, cursor.as_ref())?;
                let records: Vec<Value> = page.records.iter().map(row).collect();
                let next_cursor = page.next_cursor.map(|cursor| cursor.to_string());
                Ok(Some(json!({"records": records, "next_cursor": next_cursor})))
            }
            Question::Call(id) => Ok(reader.one(id)?.as_ref().map(row)),
            Question::Session(name) => {
                let report = reader.session(name)?;
                Ok(report.map(|report| put_first([("session", json(name))], json(&report))))
            }
            Question::Users { window, query } => users(*window, query, reader).map(Some),
            Question::User { name, window, filter, zone } => {
                user(name, *window, filter, zone, reader)
            }
            Question::Estimates => {
                let learned = reader.calibrations()?.into_iter();
                Ok(Some(json!({"estimates": learned.map(estimates_of).collect::<Vec<_>>()})))
            }
        }
    }
}

/// How good the estimates of a model are. How they are corrected is of no use to anybody else.
fn estimates_of(learned: Calibration) -> Value {
    let Calibration { provider, model, side, samples, bias, error, corrections: _ } = learned;
    json!({
        "provider": provider, "model": model, "side": side, "samples": samples,
        "bias": rounded(bias), "error": rounded(error),
    })
}

/// What is common to the questions for totals.
fn totals(
    mut params: Params<'_>,
    group_by: Vec<GroupKey>,
    now: Timestamp,
) -> Result<(Window, StatsQuery), BadParameter> {
    let zone = params.zone()?;
    let window = params.window(&zone, now, Some(DEFAULT_DAYS))?;
    let query = StatsQuery {
        filter: within(window, params.filter()?),
        group_by,
        zone,
        sort: params.parsed("sort")?,
        order: params.order()?,
        limit: Some(params.count("limit", GROUPS)?.unwrap_or(usize::MAX).min(most_groups())),
        offset: params.count("offset", 0..=u64::MAX)?.unwrap_or_default(),
    };
    params.finish()?;
    Ok((shown(window, now), query))
}

fn most_groups() -> usize {
    usize::try_from(*GROUPS.end()).unwrap_or(usize::MAX)
}

fn within(window: Window, filter: Filter) -> Filter {
    Filter { since: window.since, until: window.until, ..filter }
}

/// A window without an end reaches up to the answer.
fn shown(window: Window, now: Timestamp) -> Window {
    Window { until: window.until.or(Some(now)), ..window }
}

fn users(window: Window, query: &StatsQuery, reader: &Reader) -> Result<Value, QueryError> {
    let stats = reader.stats(query)?;
    let user = |group: &crate::ledger::Group| {
        let name = group.key.get("user").cloned().unwrap_or_default();
        put_first([("user", name)], json(&group.totals))
    };
    Ok(json!({
        "window": window,
        "totals": stats.totals,
        "users": stats.groups.iter().map(user).collect::<Vec<_>>(),
        "next_offset": stats.next_offset,
    }))
}

/// A user whose calls are all outside the window is still a user.
fn user(
    name: &str,
    window: Window,
    filter: &Filter,
    zone: &TimeZone,
    reader: &Reader,
) -> Result<Option<Value>, QueryError> {
    let all = Filter { user: Some(name.to_owned()), ..Filter::default() };
    let newest = reader.usage(&all, 1, None)?.records.pop();
    let report = match reader.user(name, filter, zone)? {
        Some(report) => json(&report),
        None if newest.is_none() => return Ok(None),
        None => json!({
            "totals": Totals::default(), "by_model": [], "by_operation": [], "by_day": [],
        }),
    };
    let mut answer = put_first([("user", json(name)), ("window", json(window))], report);
    answer["last_activity"] = json(newest.map(|call| call.created_at));
    Ok(Some(answer))
}

/// A share with as many digits as anyone can use.
fn rounded(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}

/// A call with every column of the ledger; null is unknown.
pub fn row(record: &Record) -> Value {
    let object = |record: &Record| match serde_json::to_value(record) {
        Ok(Value::Object(known)) => Some(known),
        _ => None,
    };
    // A usage object nested too deeply to be read must not take the rest of the row with it.
    let without = || object(&Record { usage_json: None, ..record.clone() });
    let mut known = object(record).or_else(without).unwrap_or_default();
    let column = |name: &str| (name.to_owned(), known.remove(name).unwrap_or_default());
    Value::Object(COLUMNS.into_iter().map(column).collect())
}

/// The answers' types are made of names, numbers and texts, which cannot fail to be JSON.
fn json(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn put_first<const N: usize>(first: [(&str, Value); N], rest: Value) -> Value {
    let mut all: Map<String, Value> =
        first.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let Value::Object(rest) = rest {
        all.extend(rest);
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::params::pairs;
    use super::*;

    /// Words that mean something, so that what is tried reaches further than noise does.
    fn word() -> impl Strategy<Value = String> {
        let known = [
            "days",
            "since",
            "until",
            "tz",
            "user",
            "metadata.",
            "metadata.a",
            "group_by",
            "sort",
            "limit",
            "cursor",
            "7",
            "0",
            "2026-11-21",
            "2026-11-21T09:30:00Z",
            "-9999-01-01",
            "9999-12-31T23:59:59Z",
            "user,day",
            "Europe/Berlin",
            "%",
            "%ff",
            "+",
            "&",
            "=",
            ",",
        ];
        prop_oneof![4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,3}"]
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_a_question_or_blamed_by_name(
            words in proptest::collection::vec(word(), 0..12),
            separators in proptest::collection::vec(proptest::sample::select(vec!["=", "&", ""]), 12),
        ) {
            let query: String =
                words.iter().zip(separators).flat_map(|(word, separator)| [word, separator]).collect();
            let now = Timestamp::from_millis(1_795_253_400_000);
            let asked = pairs(&query).and_then(|pairs| {
                Question::usage(&pairs, now)?;
                Question::user("ann".to_owned(), &pairs, now)?;
                Question::stats(&pairs, now)
            });
            if let Err(wrong) = asked {
                prop_assert!(!wrong.message.is_empty());
            }
        }
    }
}
