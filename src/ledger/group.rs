//! What calls are grouped by. Owns the keys, the calendar that puts a moment into an hour, day, week
//! or month, and the folding of rows into groups; knows neither filters nor connections.
//!
//! Invariant: every call falls into exactly one group of a grouping; an absent value is a value.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use rusqlite::Row;
use rusqlite::types::{Value as SqlValue, ValueRef};
use serde_json::{Map, Value};

use super::filter::{METADATA, MODEL};
use super::query::QueryError;
use super::totals::{FIGURE_COLUMNS, Figures, Tally};
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

const PLAIN: [(GroupKey, &str); 13] = [
    (GroupKey::User, "user"),
    (GroupKey::Model, "model"),
    (GroupKey::Operation, "operation"),
    (GroupKey::Session, "session"),
    (GroupKey::Attempt, "attempt"),
    (GroupKey::Provider, "provider"),
    (GroupKey::Upstream, "upstream"),
    (GroupKey::Endpoint, "endpoint"),
    (GroupKey::FinishReason, "finish_reason"),
    (GroupKey::Hour, "hour"),
    (GroupKey::Day, "day"),
    (GroupKey::Week, "week"),
    (GroupKey::Month, "month"),
];

impl GroupKey {
    pub fn is_time(&self) -> bool {
        matches!(self, GroupKey::Hour | GroupKey::Day | GroupKey::Week | GroupKey::Month)
    }

    /// The SQL that gives the key's value, unless that is made from the time of the call.
    fn sql(&self) -> Option<&'static str> {
        match self {
            GroupKey::Model => Some(MODEL),
            GroupKey::Metadata(_) => Some(METADATA),
            key if key.is_time() => None,
            key => PLAIN.iter().find(|(plain, _)| plain == key).map(|(_, name)| *name),
        }
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

/// Folds rows into several groupings at once, so that an answer with many breakdowns reads its
/// rows once.
pub(super) struct Fold {
    keys: Vec<GroupKey>,
    /// For each key, the column of the row that holds it, or nothing for times.
    columns: Vec<Option<usize>>,
    calendar: Calendar,
    groupings: Vec<Grouping>,
}

struct Grouping {
    /// Which of the fold's keys.
    keys: Vec<usize>,
    /// From the encoded key to the place in `groups`: a lookup allocates nothing.
    index: HashMap<Box<[u8]>, usize>,
    groups: Vec<(Vec<KeyValue>, Tally)>,
}

/// A key's value in a row, borrowed.
#[derive(Clone, Copy)]
enum Part<'a> {
    Absent,
    Number(i64),
    Text(&'a str),
}

impl Fold {
    pub(super) fn new(groupings: &[Vec<GroupKey>], zone: TimeZone) -> Fold {
        let mut fold = Fold {
            keys: Vec::new(),
            columns: Vec::new(),
            calendar: Calendar::new(zone),
            groupings: Vec::new(),
        };
        for grouping in groupings {
            let keys = grouping.iter().map(|key| fold.place(key)).collect();
            fold.groupings.push(Grouping { keys, index: HashMap::new(), groups: Vec::new() });
        }
        let columns = FIGURE_COLUMNS..;
        let mut columns = columns.into_iter();
        let column = |key: &GroupKey| key.sql().and_then(|_| columns.next());
        fold.columns = fold.keys.iter().map(column).collect();
        fold
    }

    /// The columns that rows must have after those of [`super::totals::FIGURES`], each with a comma
    /// before it, and the values of their parameters.
    pub(super) fn columns(&self) -> (String, Vec<SqlValue>) {
        let sql = self.keys.iter().filter_map(GroupKey::sql).map(|sql| format!(", {sql}"));
        let values = self.keys.iter().filter_map(|key| match key {
            GroupKey::Metadata(name) => Some(SqlValue::Text(name.clone())),
            _ => None,
        });
        (sql.collect(), values.collect())
    }

    pub(super) fn add(&mut self, row: &Row<'_>) -> Result<(), QueryError> {
        let figures = Figures::read(row)?;
        if self.keys.iter().any(GroupKey::is_time) {
            self.calendar.turn_to(figures.created_at);
        }
        let mut parts = Vec::with_capacity(self.keys.len());
        for (key, column) in self.keys.iter().zip(&self.columns) {
            parts.push(match column {
                Some(column) => part(row.get_ref(*column)?)?,
                None => Part::Text(self.calendar.page(key)),
            });
        }
        let mut encoded = Vec::new();
        for grouping in &mut self.groupings {
            grouping.tally(&parts, &mut encoded)?.add(&figures);
        }
        Ok(())
    }

    /// The groups of each grouping, in the order in which they were asked for.
    pub(super) fn finish(self) -> impl Iterator<Item = Groups> {
        self.groupings.into_iter().map(|grouping| grouping.groups.into_iter().collect())
    }

    fn place(&mut self, key: &GroupKey) -> usize {
        self.keys.iter().position(|known| known == key).unwrap_or_else(|| {
            self.keys.push(key.clone());
            self.keys.len() - 1
        })
    }
}

impl Grouping {
    fn tally(
        &mut self,
        parts: &[Part<'_>],
        encoded: &mut Vec<u8>,
    ) -> Result<&mut Tally, QueryError> {
        encoded.clear();
        self.keys.iter().for_each(|key| parts[*key].encode(encoded));
        let place = if let Some(place) = self.index.get(encoded.as_slice()) {
            *place
        } else {
            if self.groups.len() == GROUPS {
                return Err(QueryError::TooManyGroups(GROUPS));
            }
            let values = self.keys.iter().map(|key| parts[*key].value()).collect();
            self.index.insert(encoded.as_slice().into(), self.groups.len());
            self.groups.push((values, Tally::default()));
            self.groups.len() - 1
        };
        Ok(&mut self.groups[place].1)
    }
}

impl Part<'_> {
    /// Bytes that differ when the values do, whatever stands beside them.
    fn encode(self, to: &mut Vec<u8>) {
        match self {
            Part::Absent => to.push(0),
            Part::Number(number) => {
                to.push(1);
                to.extend(number.to_le_bytes());
            }
            Part::Text(text) => {
                to.push(2);
                to.extend(text.len().to_le_bytes());
                to.extend(text.as_bytes());
            }
        }
    }

    fn value(self) -> KeyValue {
        match self {
            Part::Absent => KeyValue::Absent,
            Part::Number(number) => KeyValue::Number(number),
            Part::Text(text) => KeyValue::Text(text.to_owned()),
        }
    }
}

fn part(value: ValueRef<'_>) -> Result<Part<'_>, QueryError> {
    Ok(match value {
        ValueRef::Integer(number) => Part::Number(number),
        ValueRef::Text(_) => Part::Text(value.as_str().map_err(rusqlite::Error::from)?),
        _ => Part::Absent,
    })
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
