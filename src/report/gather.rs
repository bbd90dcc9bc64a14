//! What a report is made from: the questions it asks, and what it keeps of the answers. Owns which
//! figures a report has; knows neither where answers come from nor how they are shown.
//!
//! Invariant: every breakdown adds up to the whole of its own answer, and where calls came in between two
//! answers, so that wholes differ, it is asked again or said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use jiff::ToSpan;
use serde_json::Value;

use super::sums::{Group, Sums};
use super::window::{Before, Bucket, Window, midnight};
use crate::figures::{Forecast, Spent, forecast};
use crate::units::Timestamp;

/// Groups of a breakdown that are shown; the others are one row.
const GROUPS: usize = 25;

/// The same of sessions, of which there are very many.
const SESSIONS: usize = 10;

/// Groups that are asked for, to know how many there are: as many as an answer can have.
const COUNTED: usize = 10_000;

/// What breakdowns there are, unless others are asked for.
const KEYS: [&str; 4] = ["user", "model", "operation", "provider"];

/// The newest calls, which are looked through for metadata; breakdowns of so many of its names, if they
/// have so many values, and a tenth of those calls.
const SAMPLE: usize = 1000;
const METADATA_KEYS: usize = 2;
const METADATA_VALUES: std::ops::RangeInclusive<usize> = 2..=50;

/// Days before the month that its forecast looks at.
const DAYS_BEFORE: i64 = 35;

/// So many times all is asked, until no call has come in between.
const TRIES: usize = 3;

/// Names and texts, as the admin API takes them.
pub type Pairs = Vec<(String, String)>;

/// The figures of each step of a window.
pub(super) type Trend = Vec<(Bucket, Sums)>;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Totals and groups, `GET /admin/stats`.
    Totals,
    /// The newest calls, `GET /admin/usage`.
    Calls,
}

/// What a report is to be about.
#[derive(Clone, Debug)]
pub struct Wish {
    pub window: Window,
    /// Conditions on the calls, besides the window.
    pub filters: Pairs,
    /// Breakdowns in place of the usual ones.
    pub by: Vec<String>,
    pub made: Timestamp,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    pub whole: Sums,
    pub before: Option<(Before, Sums)>,
    pub trend: Trend,
    pub forecast: Option<Forecast>,
    pub breakdowns: Vec<Breakdown>,
    /// Answers that would have needed calls that are deleted, and from when on there are some.
    pub rows_since: BTreeMap<String, String>,
    /// Calls came in meanwhile, so that not all totals are the same.
    pub is_uneven: bool,
}

/// The whole by something that calls have in common.
#[derive(Clone, Debug)]
pub struct Breakdown {
    pub key: String,
    pub whole: Sums,
    /// The largest.
    pub groups: Vec<Group>,
    pub others: Option<Others>,
    /// It is of all calls of the window, none of which are deleted.
    pub is_whole: bool,
    /// Why there is nothing.
    pub failed: Option<String>,
}

/// The groups that are not shown.
#[derive(Clone, Debug)]
pub struct Others {
    pub count: usize,
    /// There are more than were counted.
    pub and_more: bool,
    pub sums: Sums,
}

/// Why there is no report.
#[derive(Debug)]
pub enum Broken<E> {
    /// A question had no answer.
    Asking(E),
    /// An answer was not what it should be.
    Answer(String),
}

impl<E> From<serde_json::Error> for Broken<E> {
    fn from(error: serde_json::Error) -> Broken<E> {
        Broken::Answer(error.to_string())
    }
}

/// Asks all that a report needs to know.
pub fn gather<E: fmt::Display>(
    wish: &Wish,
    ask: impl FnMut(Asked, &Pairs) -> Result<Value, E>,
) -> Result<Found, Broken<E>> {
    let mut asking = Asking { wish, ask };
    let mut found = asking.all()?;
    for _ in 1..TRIES {
        if !found.is_uneven {
            break;
        }
        found = asking.all()?;
    }
    Ok(found)
}

/// The beginning of the month that has the first call of all that a wish is about, whose own window need
/// not have a beginning; nothing where there is no call.
pub fn beginning<E: fmt::Display>(
    wish: &Wish,
    ask: impl FnMut(Asked, &Pairs) -> Result<Value, E>,
) -> Result<Option<Timestamp>, Broken<E>> {
    let mut asking = Asking { wish, ask };
    let mut pairs = wish.filters.clone();
    let until = wish.window.until.to_string();
    let zone = wish.window.zone_name();
    let question =
        [("until", &*until), ("tz", zone), ("group_by", "month"), ("sort", "key"), ("limit", "1")];
    pairs.extend(question.map(|(name, text)| (name.to_owned(), text.to_owned())));
    let answer = asking.answer(Asked::Totals, &pairs)?;
    let month = answer["groups"][0]["key"]["month"].as_str();
    let day = month.and_then(|month| format!("{month}-01").parse().ok());
    Ok(day.and_then(|day| midnight(day, &wish.window.zone)))
}

struct Asking<'w, A> {
    wish: &'w Wish,
    ask: A,
}

/// An answer to a question for groups.
struct Grouped {
    whole: Sums,
    groups: Vec<Value>,
    and_more: bool,
    rows_since: Option<String>,
}

impl<E: fmt::Display, A: FnMut(Asked, &Pairs) -> Result<Value, E>> Asking<'_, A> {
    fn all(&mut self) -> Result<Found, Broken<E>> {
        let wish = self.wish;
        let mut rows_since = BTreeMap::new();
        let totals = self.totals(&wish.window)?;
        let whole = totals.whole;
        rows_since.extend(totals.rows_since.map(|since| ("totals".to_owned(), since)));
        let before = match wish.window.before(wish.made) {
            Some(before) => {
                let totals = self.totals(&before.window)?;
                let label = "the comparison with the window before".to_owned();
                rows_since.extend(totals.rows_since.map(|since| (label, since)));
                Some((before, totals.whole))
            }
            None => None,
        };
        let (trend, mut is_uneven) = self.trend(&whole, &mut rows_since)?;
        let by_cost = whole.cost_usd.decimal() > rust_decimal::Decimal::ZERO;
        let mut breakdowns = Vec::new();
        for (key, shown) in self.keys()? {
            let breakdown = self.breakdown(key, shown, by_cost, &mut rows_since)?;
            is_uneven |= breakdown.is_whole && !is_same(&breakdown.whole, &whole);
            // Where no call says anything there is nothing to see, unless somebody wants to.
            let tells_apart = breakdown.groups.iter().any(|group| group.name.is_some());
            if tells_apart || breakdown.failed.is_some() || !wish.by.is_empty() {
                breakdowns.push(breakdown);
            }
        }
        let forecast = self.forecast()?;
        Ok(Found { whole, before, trend, forecast, breakdowns, rows_since, is_uneven })
    }

    /// What to break down by, and how many groups to show.
    fn keys(&mut self) -> Result<Vec<(String, usize)>, Broken<E>> {
        let shown = |key: String| {
            let shown = if key == "session" { SESSIONS } else { GROUPS };
            (key, shown)
        };
        if !self.wish.by.is_empty() {
            return Ok(self.wish.by.iter().cloned().map(shown).collect());
        }
        let mut keys: Vec<String> = KEYS.map(str::to_owned).into();
        keys.extend(self.metadata_keys()?);
        keys.push("session".to_owned());
        // What all calls have in common by the filters tells nothing.
        keys.retain(|key| !self.wish.filters.iter().any(|(name, _)| name == key));
        Ok(keys.into_iter().map(shown).collect())
    }

    /// Names of metadata that tell calls apart, such as a team: those that many of the newest calls have,
    /// with few values.
    fn metadata_keys(&mut self) -> Result<Vec<String>, Broken<E>> {
        let mut pairs = self.within(&self.wish.window);
        pairs.retain(|(name, _)| name != "tz");
        pairs.push(("limit".to_owned(), SAMPLE.to_string()));
        let answer = self.answer(Asked::Calls, &pairs)?;
        let records = answer["records"].as_array().map_or(&[][..], Vec::as_slice);
        let mut values: BTreeMap<&str, (usize, BTreeSet<String>)> = BTreeMap::new();
        for metadata in records.iter().filter_map(|record| record["metadata"].as_object()) {
            for (name, value) in metadata {
                let (calls, of) = values.entry(name).or_default();
                *calls += 1;
                of.insert(value.to_string());
            }
        }
        values.retain(|_, (calls, of)| {
            *calls * 10 >= records.len()
                && METADATA_VALUES.contains(&of.len())
                && of.len() * 4 <= *calls
        });
        let mut names: Vec<(&str, usize)> =
            values.iter().map(|(name, (calls, _))| (*name, *calls)).collect();
        names.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        let names = names.into_iter().take(METADATA_KEYS);
        Ok(names.map(|(name, _)| format!("metadata.{name}")).collect())
    }

    fn totals(&mut self, window: &Window) -> Result<Grouped, Broken<E>> {
        let pairs = self.within(window);
        self.grouped(&pairs)
    }

    /// The trend, and whether it is of other calls than the whole.
    fn trend(
        &mut self,
        whole: &Sums,
        rows_since: &mut BTreeMap<String, String>,
    ) -> Result<(Trend, bool), Broken<E>> {
        let window = &self.wish.window;
        let key = window.step().key();
        let answer = self.groups(window, key, "key")?;
        let is_uneven = answer.rows_since.is_none() && !is_same(&answer.whole, whole);
        rows_since.extend(answer.rows_since.map(|since| ("the trend".to_owned(), since)));
        let mut known: HashMap<String, Sums> = HashMap::new();
        for group in &answer.groups {
            let group = Group::read(group, key)?;
            known.insert(group.name.unwrap_or_default(), group.sums);
        }
        let steps = window.buckets();
        let trend = steps.into_iter().map(|bucket| {
            let sums = known.remove(&bucket.key).unwrap_or_default();
            (bucket, sums)
        });
        let mut trend: Trend = trend.collect();
        // Calls of a clock that was ahead: none may be missing.
        let mut late: Vec<(String, Sums)> = known.into_iter().collect();
        late.sort_by(|one, other| one.0.cmp(&other.0));
        trend.extend(late.into_iter().map(|(key, sums)| {
            (Bucket { label: key.clone(), name: key.clone(), key, since: window.since }, sums)
        }));
        Ok((trend, is_uneven))
    }

    fn breakdown(
        &mut self,
        key: String,
        shown: usize,
        by_cost: bool,
        rows_since: &mut BTreeMap<String, String>,
    ) -> Result<Breakdown, Broken<E>> {
        let sort = if by_cost { "cost_usd" } else { "total_tokens" };
        let answer = match self.groups(&self.wish.window, &key, sort) {
            Ok(answer) => answer,
            // As where there are more groups than can be counted: the others are worth having.
            Err(Broken::Asking(error)) => {
                let failed = Some(error.to_string());
                let (whole, groups) = Default::default();
                return Ok(Breakdown { key, whole, groups, others: None, is_whole: false, failed });
            }
            Err(broken) => return Err(broken),
        };
        let is_whole = answer.rows_since.is_none();
        rows_since.extend(answer.rows_since.map(|since| (format!("the figures by {key}"), since)));
        // One row in place of one row saves nothing.
        let count = answer.groups.len();
        let shown = if count == shown + 1 { count } else { shown.min(count) };
        let read = answer.groups[..shown].iter().map(|group| Group::read(group, &key));
        let groups = read.collect::<Result<Vec<Group>, _>>()?;
        let rest = groups.iter().fold(answer.whole.clone(), |rest, group| rest.less(&group.sums));
        let others = (count > shown || answer.and_more).then_some(Others {
            count: count - shown,
            and_more: answer.and_more,
            sums: rest,
        });
        Ok(Breakdown { key, whole: answer.whole, groups, others, is_whole, failed: None })
    }

    /// For a month that is not over.
    fn forecast(&mut self) -> Result<Option<Forecast>, Broken<E>> {
        let Wish { window, made, .. } = self.wish;
        let first = window.zoned(window.since).date();
        let from = first.checked_sub(DAYS_BEFORE.days()).ok();
        let since = from.and_then(|from| midnight(from, &window.zone));
        let (true, Some(since)) = (window.is_month_of(*made), since) else { return Ok(None) };
        let answer =
            self.groups(&Window { since, until: *made, zone: window.zone.clone() }, "day", "key")?;
        let mut days = Vec::new();
        for group in &answer.groups {
            let group = Group::read(group, "day")?;
            if let Some(day) = group.name.and_then(|name| name.parse().ok()) {
                days.push(Spent { day, cost: group.sums.cost_usd });
            }
        }
        Ok(forecast(&days, &window.zoned(*made)))
    }

    fn groups(&mut self, window: &Window, key: &str, sort: &str) -> Result<Grouped, Broken<E>> {
        let mut pairs = self.within(window);
        let (order, limit) = (if sort == "key" { "asc" } else { "desc" }, COUNTED.to_string());
        let question = [("group_by", key), ("sort", sort), ("order", order), ("limit", &*limit)];
        pairs.extend(question.map(|(name, text)| (name.to_owned(), text.to_owned())));
        self.grouped(&pairs)
    }

    fn grouped(&mut self, pairs: &Pairs) -> Result<Grouped, Broken<E>> {
        let mut answer = self.answer(Asked::Totals, pairs)?;
        let groups = match answer["groups"].take() {
            Value::Array(groups) => groups,
            _ => Vec::new(),
        };
        Ok(Grouped {
            whole: Sums::read(&answer["totals"])?,
            groups,
            and_more: !answer["next_offset"].is_null(),
            rows_since: answer["rows_since"].as_str().map(str::to_owned),
        })
    }

    fn answer(&mut self, asked: Asked, pairs: &Pairs) -> Result<Value, Broken<E>> {
        (self.ask)(asked, pairs).map_err(Broken::Asking)
    }

    fn within(&self, window: &Window) -> Pairs {
        let mut pairs = self.wish.filters.clone();
        pairs.push(("since".to_owned(), window.since.to_string()));
        pairs.push(("until".to_owned(), window.until.to_string()));
        pairs.push(("tz".to_owned(), window.zone_name().to_owned()));
        pairs
    }
}

/// Whether two totals are of the same calls. How long these took at most is not exact.
fn is_same(one: &Sums, other: &Sums) -> bool {
    one.requests == other.requests
        && one.total_tokens == other.total_tokens
        && one.cost_usd == other.cost_usd
}
