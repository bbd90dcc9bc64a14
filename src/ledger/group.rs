//! What calls are grouped by. Owns the keys, the calendar that puts a moment into an hour, day, week
//! or month, and the folding of calls into groups; knows neither filters nor where calls are read.
//!
//! Invariant: every call falls into exactly one group of a grouping; an absent value is a value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use rusqlite::Connection;
use serde_json::{Map, Value};

use super::filter::{member, model_of};
use super::kind::{Counts, Kind, Kinds, fact};
use super::query::QueryError;
use super::totals::Tally;
use crate::units::Timestamp;

/// Groups in one answer, some 100 MB of them. More than that is a question for an export.
const GROUPS: usize = 100_000;

/// Something that calls can be grouped by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupKey {
    User,
    /// The served model, or the requested one where the provider did not say.
    Model,
    Operation,
    Session,
    Attempt,
    Provider,
    Upstream,
    Endpoint,
    FinishReason,
    /// Where the tokens come from.
    UsageSource,
    /// Where the cost comes from.
    CostSource,
    /// The entry of the price table that applied.
    PriceId,
    /// What stands for the key that the client sent.
    KeyFingerprint,
    Outcome,
    /// Of HTTP.
    Status,
    Error,
    /// Which try of a client library's own this was.
    Retry,
    /// `2026-11-21T09:00:00+01:00`
    Hour,
    /// `2026-11-21`
    Day,
    /// `2026-W47`, as ISO 8601 counts weeks
    Week,
    /// `2026-11`
    Month,
    Metadata(String),
}

const PLAIN: [(GroupKey, &str); 21] = [
    (GroupKey::User, "user"),
    (GroupKey::Model, "model"),
    (GroupKey::Operation, "operation"),
    (GroupKey::Session, "session"),
    (GroupKey::Attempt, "attempt"),
    (GroupKey::Provider, "provider"),
    (GroupKey::Upstream, "upstream"),
    (GroupKey::Endpoint, "endpoint"),
    (GroupKey::FinishReason, "finish_reason"),
    (GroupKey::UsageSource, "usage_source"),
    (GroupKey::CostSource, "cost_source"),
    (GroupKey::PriceId, "price_id"),
    (GroupKey::KeyFingerprint, "key_fingerprint"),
    (GroupKey::Outcome, "outcome"),
    (GroupKey::Status, "status"),
    (GroupKey::Error, "error"),
    (GroupKey::Retry, "retry"),
    (GroupKey::Hour, "hour"),
    (GroupKey::Day, "day"),
    (GroupKey::Week, "week"),
    (GroupKey::Month, "month"),
];

impl GroupKey {
    pub fn is_time(&self) -> bool {
        matches!(self, GroupKey::Hour | GroupKey::Day | GroupKey::Week | GroupKey::Month)
    }

    /// The facts of a kind that the key comes from, a bit each.
    pub(super) fn facts(&self) -> u32 {
        match self {
            GroupKey::Model => 1 << fact::MODEL | 1 << fact::MODEL_REQUESTED,
            GroupKey::Operation => 1 << fact::OPERATION,
            GroupKey::Attempt => 1 << fact::ATTEMPT,
            GroupKey::Provider => 1 << fact::PROVIDER,
            GroupKey::Upstream => 1 << fact::UPSTREAM,
            GroupKey::Endpoint => 1 << fact::ENDPOINT,
            GroupKey::FinishReason => 1 << fact::FINISH_REASON,
            GroupKey::UsageSource => 1 << fact::USAGE_SOURCE,
            GroupKey::CostSource => 1 << fact::COST_SOURCE,
            GroupKey::PriceId => 1 << fact::PRICE_ID,
            GroupKey::KeyFingerprint => 1 << fact::KEY_FINGERPRINT,
            GroupKey::Outcome => 1 << fact::OUTCOME,
            GroupKey::Status => 1 << fact::STATUS,
            GroupKey::Error => 1 << fact::ERROR,
            GroupKey::Retry => 1 << fact::RETRY,
            GroupKey::Metadata(_) => 1 << fact::METADATA,
            _ => 0,
        }
    }

    /// The key's value, of one that comes from facts.
    fn value<'f>(&self, known: impl Fn(usize) -> Option<Cow<'f, KeyValue>>) -> KeyValue {
        let value = match self {
            GroupKey::Model => model_of(known),
            GroupKey::Metadata(name) => {
                known(fact::METADATA).map(|all| Cow::Owned(member(&all, name)))
            }
            _ => known(usize::try_from(self.facts().trailing_zeros()).unwrap_or_default()),
        };
        value.map_or(KeyValue::Absent, Cow::into_owned)
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, PLAIN.iter().find(|(key, _)| key == self)) {
            (GroupKey::Metadata(name), _) => write!(f, "metadata.{name}"),
            (_, Some((_, name))) => f.write_str(name),
            (_, None) => Err(fmt::Error),
        }
    }
}

/// A word that is no [`GroupKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey(String);

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot group by `{}`; possible are ", self.0)?;
        PLAIN.iter().try_for_each(|(_, name)| write!(f, "{name}, "))?;
        f.write_str("metadata.NAME")
    }
}

impl std::error::Error for UnknownKey {}

impl FromStr for GroupKey {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<GroupKey, UnknownKey> {
        if let Some(name) = text.strip_prefix("metadata.").filter(|name| !name.is_empty()) {
            return Ok(GroupKey::Metadata(name.to_owned()));
        }
        let found = PLAIN.iter().find(|(_, name)| *name == text);
        found.map(|(key, _)| key.clone()).ok_or_else(|| UnknownKey(text.to_owned()))
    }
}

/// A key's value in one group. Ordered as a person would: absent first, then numbers, then texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum KeyValue {
    Absent,
    Number(i64),
    Text(String),
}

impl From<KeyValue> for Value {
    fn from(value: KeyValue) -> Value {
        match value {
            KeyValue::Absent => Value::Null,
            KeyValue::Number(number) => number.into(),
            KeyValue::Text(text) => text.into(),
        }
    }
}

/// The groups of one grouping.
pub(super) type Groups = HashMap<Vec<KeyValue>, Tally>;

/// Where a call, or many of one kind, belong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// In milliseconds; of many calls, that of any.
    pub(super) at: i64,
    pub(super) kind: u32,
    /// 0 is none.
    pub(super) user: u32,
    pub(super) session: i64,
    /// The facts that the row has itself.
    pub(super) own: Option<&'a Map<String, Value>>,
}

/// Folds calls into several groupings at once, so that an answer with many breakdowns reads them once.
/// Values are numbers until the end: only the groups' names are ever looked up.
pub(super) struct Fold<'k> {
    kinds: &'k Kinds,
    keys: Vec<Key>,
    calendar: Calendar,
    is_timed: bool,
    groupings: Vec<Grouping>,
    parts: Vec<u32>,
}

/// A key, and the values that it has had so far.
struct Key {
    by: GroupKey,
    /// The facts that it comes from, a bit each.
    facts: u32,
    values: Vec<KeyValue>,
    numbers: HashMap<KeyValue, u32>,
    /// The number of each kind's value, or of each user's or session's whose own number is small;
    /// [`UNKNOWN`] before it is asked for.
    dense: Vec<u32>,
    /// Of users and sessions: the number of each one's value here.
    by_id: HashMap<i64, u32>,
    /// Of times: the number of the last page.
    last: usize,
}

const UNKNOWN: u32 = u32::MAX;

/// Groups that are made for very many calls each: some 10 KB then, once they have any.
const WIDE: usize = 4096;

/// Users and sessions with smaller numbers are found without a hash.
const DENSE: usize = 1 << 20;

struct Grouping {
    /// Which of the fold's keys.
    keys: Vec<usize>,
    index: HashMap<Box<[u32]>, usize>,
    /// The same for one key: by the value's number.
    plain: Vec<usize>,
    groups: Vec<(Box<[u32]>, Tally)>,
}

impl<'k> Fold<'k> {
    pub(super) fn new(groupings: &[Vec<GroupKey>], zone: TimeZone, kinds: &'k Kinds) -> Fold<'k> {
        let mut fold = Fold {
            kinds,
            keys: Vec::new(),
            calendar: Calendar::new(zone),
            is_timed: groupings.iter().flatten().any(GroupKey::is_time),
            groupings: Vec::new(),
            parts: Vec::new(),
        };
        for grouping in groupings {
            let keys = grouping.iter().map(|key| fold.place(key)).collect();
            fold.groupings.push(Grouping {
                keys,
                index: HashMap::new(),
                plain: Vec::new(),
                groups: Vec::new(),
            });
        }
        fold
    }

    /// The group of each grouping that a place belongs to, given to `tally`.
    pub(super) fn add(
        &mut self,
        place: &Place<'_>,
        mut tally: impl FnMut(&mut Tally, Counts),
    ) -> Result<(), QueryError> {
        let Some(kind) = self.kinds.get(place.kind) else { return Ok(()) };
        if self.is_timed {
            self.calendar.turn_to(place.at);
        }
        self.parts.clear();
        for key in &mut self.keys {
            let part = match key.by {
                GroupKey::User => key.of_id(place.user.into()),
                GroupKey::Session => key.of_id(place.session),
                _ if key.by.is_time() => key.of_page(self.calendar.page(&key.by)),
                _ => key.of_kind(place.kind, kind, place.own),
            };
            self.parts.push(part);
        }
        for grouping in &mut self.groupings {
            tally(grouping.tally(&self.parts)?, kind.counts);
        }
        Ok(())
    }

    /// Whether a page of the calendar that is asked for turns within a span of time.
    pub(super) fn turns_within(&mut self, span: Range<i64>) -> bool {
        let timed = || self.keys.iter().map(|key| &key.by).filter(|key| key.is_time());
        if !self.is_timed || self.calendar.holds(&span) {
            return false;
        }
        self.calendar.turn_to(span.start);
        if self.calendar.holds(&span) {
            return false;
        }
        let first: Vec<String> = timed().map(|key| self.calendar.page(key).to_owned()).collect();
        self.calendar.turn_to(span.end - 1);
        !timed().zip(&first).all(|(key, first)| self.calendar.page(key) == first)
    }

    /// The groups of each grouping, in the order in which they were asked for, with the names of users
    /// and sessions. Some may have no calls any more.
    pub(super) fn finish(mut self, connection: &Connection) -> rusqlite::Result<Vec<Groups>> {
        for key in &mut self.keys {
            match key.by {
                GroupKey::User => key.look_up(connection, "users")?,
                GroupKey::Session => key.look_up(connection, "sessions")?,
                _ => {}
            }
        }
        let keys = &self.keys;
        let named = |grouping: Grouping| {
            let name = |(parts, tally): (Box<[u32]>, Tally)| {
                let parts = grouping.keys.iter().zip(parts);
                let value = |(key, part): (&usize, u32)| {
                    let part = usize::try_from(part).unwrap_or(usize::MAX);
                    keys[*key].values.get(part).cloned().unwrap_or(KeyValue::Absent)
                };
                (parts.map(value).collect(), tally)
            };
            grouping.groups.into_iter().map(name).collect()
        };
        Ok(self.groupings.into_iter().map(named).collect())
    }

    fn place(&mut self, key: &GroupKey) -> usize {
        self.keys.iter().position(|known| known.by == *key).unwrap_or_else(|| {
            self.keys.push(Key::new(key.clone()));
            self.keys.len() - 1
        })
    }
}

impl Key {
    fn new(by: GroupKey) -> Key {
        let facts = by.facts();
        let (values, numbers, by_id) = (Vec::new(), HashMap::new(), HashMap::new());
        Key { by, facts, values, numbers, dense: Vec::new(), by_id, last: 0 }
    }

    /// The number of a value.
    fn number(&mut self, value: KeyValue) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).unwrap_or(UNKNOWN - 1);
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    /// The number of a user or a session, whose names are looked up at the end.
    fn of_id(&mut self, id: i64) -> u32 {
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        if let Some(number) = self.dense.get(place).filter(|number| **number != UNKNOWN) {
            return *number;
        }
        let number = self.of_other_id(id);
        if place < DENSE {
            if self.dense.len() <= place {
                self.dense.resize(place + 1, UNKNOWN);
            }
            self.dense[place] = number;
        }
        number
    }

    fn of_other_id(&mut self, id: i64) -> u32 {
        let (values, next) = (&mut self.values, self.by_id.len());
        *self.by_id.entry(id).or_insert_with(|| {
            values.push(if id == 0 { KeyValue::Absent } else { KeyValue::Number(id) });
            u32::try_from(next).unwrap_or(UNKNOWN - 1)
        })
    }

    /// The number of a page of the calendar: mostly that of the call before.
    fn of_page(&mut self, page: &str) -> u32 {
        if !matches!(self.values.get(self.last), Some(KeyValue::Text(last)) if last == page) {
            let number = self.number(KeyValue::Text(page.to_owned()));
            self.last = usize::try_from(number).unwrap_or_default();
        }
        u32::try_from(self.last).unwrap_or(UNKNOWN - 1)
    }

    fn of_kind(&mut self, id: u32, kind: &Kind, own: Option<&Map<String, Value>>) -> u32 {
        if kind.is_varied(self.facts) {
            let value = self.by.value(|place| Some(Cow::Owned(kind.fact_of(place, own))));
            return self.number(value);
        }
        let at = usize::try_from(id).unwrap_or_default();
        if let Some(number) = self.dense.get(at).filter(|number| **number != UNKNOWN) {
            return *number;
        }
        let value = self.by.value(|place| kind.fact(place).map(Cow::Borrowed));
        let number = self.number(value);
        if self.dense.len() <= at {
            self.dense.resize(at + 1, UNKNOWN);
        }
        self.dense[at] = number;
        number
    }

    fn look_up(&mut self, connection: &Connection, table: &str) -> rusqlite::Result<()> {
        let sql = format!("SELECT name FROM {table} WHERE id = ?");
        let mut name = connection.prepare_cached(&sql)?;
        for value in &mut self.values {
            if let KeyValue::Number(id) = *value {
                *value = KeyValue::Text(name.query_row([id], |row| row.get(0))?);
            }
        }
        Ok(())
    }
}

impl Grouping {
    fn tally(&mut self, parts: &[u32]) -> Result<&mut Tally, QueryError> {
        let next = self.groups.len();
        let place = match self.keys[..] {
            [] => 0,
            [key] => {
                let value = usize::try_from(parts[key]).unwrap_or_default();
                if self.plain.len() <= value {
                    self.plain.resize(value + 1, usize::MAX);
                }
                let place = self.plain[value];
                self.plain[value] = if place == usize::MAX { next } else { place };
                self.plain[value]
            }
            _ => {
                let own: Box<[u32]> = self.keys.iter().map(|key| parts[*key]).collect();
                *self.index.entry(own).or_insert(next)
            }
        };
        if place == next {
            if next == GROUPS {
                return Err(QueryError::TooManyGroups(GROUPS));
            }
            let own = self.keys.iter().map(|key| parts[*key]).collect();
            let tally = if next < WIDE { Tally::wide() } else { Tally::default() };
            self.groups.push((own, tally));
        }
        Ok(&mut self.groups[place].1)
    }
}

/// The names of a moment's hour, day, week and month in a time zone. Rows come nearly in order, so
/// it keeps the page it is open at.
struct Calendar {
    zone: TimeZone,
    hours: Range<i64>,
    days: Range<i64>,
    hour: String,
    day: String,
    week: String,
    month: String,
}

impl Calendar {
    fn new(zone: TimeZone) -> Calendar {
        let (hour, day, week, month) = Default::default();
        Calendar { zone, hours: 0..0, days: 0..0, hour, day, week, month }
    }

    fn page(&self, key: &GroupKey) -> &str {
        match key {
            GroupKey::Hour => &self.hour,
            GroupKey::Week => &self.week,
            GroupKey::Month => &self.month,
            _ => &self.day,
        }
    }

    /// Whether a span of time is on the pages that it is open at.
    fn holds(&self, span: &Range<i64>) -> bool {
        let holds = |page: &Range<i64>| page.start <= span.start && span.end <= page.end;
        holds(&self.hours) && holds(&self.days)
    }

    fn turn_to(&mut self, millis: i64) {
        if self.hours.contains(&millis) && self.days.contains(&millis) {
            return;
        }
        let zoned = Timestamp::from_millis(millis).calendar().to_zoned(self.zone.clone());
        let date = zoned.date();
        let week = date.iso_week_date();
        self.days = day(&zoned).unwrap_or(millis..millis + 1);
        self.day = date.to_string();
        self.week = format!("{:04}-W{:02}", week.year(), week.week());
        self.month = format!("{:04}-{:02}", date.year(), date.month());
        self.turn_hour(&zoned, millis);
    }

    /// An hour begins when the clock on the wall shows a whole one; the offset tells apart the two
    /// that have the same name when clocks are set back.
    fn turn_hour(&mut self, zoned: &Zoned, millis: i64) {
        let offset = zoned.offset();
        let into = i64::from(zoned.minute()) * 60_000
            + i64::from(zoned.second()) * 1000
            + i64::from(zoned.millisecond());
        let (start, end) = (millis - into, millis - into + 3_600_000);
        let offset_at = |millis| self.zone.to_offset(Timestamp::from_millis(millis).calendar());
        // Where the offset changes within the hour, nothing is kept for the next row.
        let is_even = offset_at(start) == offset && offset_at(end - 1) == offset;
        self.hours = if is_even { start..end } else { millis..millis + 1 };
        let seconds = offset.seconds();
        let sign = if seconds < 0 { '-' } else { '+' };
        let minutes = seconds.abs() / 60;
        let (date, hour) = (zoned.date(), zoned.hour());
        self.hour = format!("{date}T{hour:02}:00:00{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    }
}

/// From the first moment of a day to the first of the next, however long it is.
fn day(zoned: &Zoned) -> Option<Range<i64>> {
    let start = zoned.start_of_day().ok()?;
    let next = zoned.date().checked_add(1.day()).ok()?.to_zoned(zoned.time_zone().clone()).ok()?;
    let next = next.start_of_day().ok()?;
    Some(start.timestamp().as_millisecond()..next.timestamp().as_millisecond())
}

/// Names and values, as an answer shows them.
pub(super) fn named(keys: &[GroupKey], values: Vec<KeyValue>) -> Map<String, Value> {
    keys.iter().map(ToString::to_string).zip(values.into_iter().map(Value::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(zone: &str, moments: &[&str]) -> Vec<[String; 4]> {
        let mut calendar = Calendar::new(TimeZone::get(zone).unwrap());
        let mut name = |moment: &&str| {
            calendar.turn_to(moment.parse::<Timestamp>().unwrap().millis());
            [GroupKey::Hour, GroupKey::Day, GroupKey::Week, GroupKey::Month]
                .map(|key| calendar.page(&key).to_owned())
        };
        moments.iter().map(&mut name).collect()
    }

    #[test]
    fn the_day_is_the_callers() {
        let [berlin] = &names("Europe/Berlin", &["2026-11-21T23:30:00Z"])[..] else { panic!() };
        assert_eq!(berlin, &["2026-11-22T00:00:00+01:00", "2026-11-22", "2026-W47", "2026-11"]);
        let [la] = &names("America/Los_Angeles", &["2027-01-01T07:59:59.999Z"])[..] else {
            panic!()
        };
        assert_eq!(la, &["2026-12-31T23:00:00-08:00", "2026-12-31", "2026-W53", "2026-12"]);
    }

    #[test]
    fn hours_are_told_apart_when_clocks_are_set_back() {
        let moments = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"];
        let hours: Vec<_> =
            names("Europe/Berlin", &moments).into_iter().map(|[hour, ..]| hour).collect();
        let expected = ["02:00:00+02:00", "02:00:00+01:00", "03:00:00+01:00"];
        assert_eq!(hours, expected.map(|hour| format!("2026-10-25T{hour}")));
    }

    #[test]
    fn half_hours_of_offset_and_of_daylight_saving() {
        let [india] = &names("Asia/Kolkata", &["2026-11-21T09:40:00Z"])[..] else { panic!() };
        assert_eq!(india[0], "2026-11-21T15:00:00+05:30");
        // Lord Howe's clocks go back by half an hour at 02:00, 15:00 UTC.
        let howe = names("Australia/Lord_Howe", &["2026-04-04T14:50:00Z", "2026-04-04T15:10:00Z"]);
        assert_eq!(howe[0][0], "2026-04-05T01:00:00+11:00");
        assert_eq!(howe[1][0], "2026-04-05T01:00:00+10:30");
    }

    #[test]
    fn the_page_kept_open_gives_the_same_names() {
        let moments: Vec<String> = (0..2000)
            .map(|step| {
                let start = 1_774_738_800_000; // an hour before the European change of 2026-03-29
                Timestamp::from_millis(start + step * 137_000).to_string()
            })
            .collect();
        let moments: Vec<&str> = moments.iter().map(String::as_str).collect();
        let together = names("Europe/Berlin", &moments);
        for (moment, expected) in moments.iter().zip(&together) {
            assert_eq!(&names("Europe/Berlin", &[moment])[0], expected, "{moment}");
        }
    }

    #[test]
    fn keys_read_back_and_others_are_named() {
        for (key, name) in PLAIN {
            assert_eq!(name.parse(), Ok(key.clone()));
            assert_eq!(key.to_string(), name);
        }
        assert_eq!("metadata.a.b".parse(), Ok(GroupKey::Metadata("a.b".to_owned())));
        for wrong in ["", "metadata.", "id; DROP TABLE token_usage"] {
            assert!(wrong.parse::<GroupKey>().is_err(), "{wrong}");
        }
    }
}
