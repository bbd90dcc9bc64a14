//! The pages of the viewer's calendar that a window has: hours, days, weeks or months, those without calls
//! included. Owns their names, which are the ledger's own, and their ends.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, ISOWeekDate, Weekday};
use jiff::tz::TimeZone;
use jiff::{RoundMode, ToSpan, Unit, Zoned, ZonedRound};

use super::table;
use super::window::{local, of};
use crate::ledger::{Group, GroupKey};
use crate::units::Timestamp;

/// Pages of one window at most. Whoever asks takes a coarser step for more; only months of more than three
/// centuries with calls have none, and of those it is the newest.
const PAGES: u16 = 4000;

const HOUR_MS: i64 = 3_600_000;

/// How long a bar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Hour,
    Day,
    Week,
    Month,
}

pub(super) const STEPS: [Step; 4] = [Step::Hour, Step::Day, Step::Week, Step::Month];

/// A page of the calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// As the ledger names it.
    pub(super) key: String,
    pub(super) label: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Step {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Step::Hour => "hour",
            Step::Day => "day",
            Step::Week => "week",
            Step::Month => "month",
        }
    }

    pub(super) fn key(self) -> GroupKey {
        match self {
            Step::Hour => GroupKey::Hour,
            Step::Day => GroupKey::Day,
            Step::Week => GroupKey::Week,
            Step::Month => GroupKey::Month,
        }
    }

    /// None is shorter.
    pub(super) fn least_ms(self) -> i64 {
        match self {
            Step::Hour => HOUR_MS,
            Step::Day => 23 * HOUR_MS,
            Step::Week => 7 * 24 * HOUR_MS - HOUR_MS,
            Step::Month => 28 * 24 * HOUR_MS - HOUR_MS,
        }
    }

    pub(super) fn coarser(self) -> Option<Step> {
        STEPS.into_iter().skip_while(|known| *known != self).nth(1)
    }

    /// What suits a span: hours for less than four days, days for half a year, weeks for some three years.
    pub(super) fn of(length_ms: i64) -> Step {
        match length_ms / (24 * HOUR_MS) {
            ..4 => Step::Hour,
            4..=190 => Step::Day,
            191..=1000 => Step::Week,
            _ => Step::Month,
        }
    }
}

/// A word that names no step, or no measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) text: String,
    pub(super) possible: &'static str,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no `{}` here; possible are {}", self.text, self.possible)
    }
}

impl FromStr for Step {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Step, Unknown> {
        let unknown = || Unknown { text: text.to_owned(), possible: "hour, day, week and month" };
        STEPS.into_iter().find(|step| step.as_str() == text).ok_or_else(unknown)
    }
}

/// The beginning of the page that a group is of.
pub(super) fn beginning_of(step: Step, zone: &TimeZone, group: &Group) -> Option<Timestamp> {
    let named = table::value_of(&step.key(), &group.key)?;
    let text = match step {
        Step::Hour => return named.parse().ok(),
        Step::Day => named,
        Step::Week => {
            let (year, week) = named.split_once("-W")?;
            let (year, week) = (year.parse().ok()?, week.parse().ok()?);
            let monday = Weekday::Monday;
            ISOWeekDate::new(year, week, monday).ok()?.date().to_string()
        }
        Step::Month => format!("{named}-01"),
    };
    let date: Date = text.parse().ok()?;
    date.to_zoned(zone.clone()).ok().map(of)
}

/// The pages from one moment up to another, in order; of very many the last.
pub(super) fn pages(step: Step, zone: &TimeZone, since: Timestamp, until: Timestamp) -> Vec<Page> {
    let mut pages = Vec::new();
    let longest = step.least_ms() * i64::from(PAGES - 1);
    let since = since.max(Timestamp::from_millis(until.millis().saturating_sub(longest)));
    let Some(mut start) = beginning(step, &local(zone, since)) else { return pages };
    while of(&start) < until {
        let Some(next) = next(step, &start) else { break };
        let format = match step {
            Step::Hour => "%e %b %H:%M",
            Step::Day => "%a %e %b",
            Step::Week => "%G week %V",
            Step::Month => "%b %Y",
        };
        let key = match step {
            Step::Hour => start.strftime("%Y-%m-%dT%H:00:00%:z").to_string(),
            Step::Day => start.strftime("%Y-%m-%d").to_string(),
            Step::Week => start.strftime("%G-W%V").to_string(),
            Step::Month => start.strftime("%Y-%m").to_string(),
        };
        pages.push(Page {
            key,
            label: start.strftime(format).to_string().trim().to_owned(),
            start: of(&start),
            end: of(&next),
        });
        start = next;
    }
    pages
}

fn beginning(step: Step, at: &Zoned) -> Option<Zoned> {
    let zone = at.time_zone().clone();
    match step {
        Step::Hour => at.round(ZonedRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc)).ok(),
        Step::Day => at.start_of_day().ok(),
        Step::Week => {
            let days = i64::from(at.weekday().to_monday_zero_offset());
            at.date().checked_sub(days.days()).ok()?.to_zoned(zone).ok()
        }
        Step::Month => at.date().first_of_month().to_zoned(zone).ok(),
    }
}

fn next(step: Step, at: &Zoned) -> Option<Zoned> {
    let zone = at.time_zone().clone();
    let days = match step {
        Step::Hour => return at.checked_add(1.hour()).ok(),
        Step::Day => 1.day(),
        Step::Week => 7.days(),
        Step::Month => 1.month(),
    };
    at.date().checked_add(days).ok()?.to_zoned(zone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Totals;

    fn keys(step: Step, zone: &str, since: &str, until: &str) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let pages = pages(step, &zone, since.parse().unwrap(), until.parse().unwrap());
        for pair in pages.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
        }
        pages.into_iter().map(|page| page.key).collect()
    }

    #[test]
    fn pages_are_named_as_the_ledger_names_them() {
        assert_eq!(
            keys(Step::Hour, "Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T01:30:00Z"),
            ["2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]
        );
        assert_eq!(
            keys(Step::Hour, "Asia/Kolkata", "2026-11-21T09:40:00Z", "2026-11-21T09:50:00Z"),
            ["2026-11-21T15:00:00+05:30"]
        );
        assert_eq!(
            keys(Step::Day, "America/New_York", "2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z"),
            ["2026-03-07", "2026-03-08", "2026-03-09"]
        );
        assert_eq!(
            keys(Step::Week, "UTC", "2026-12-31T12:00:00Z", "2027-01-05T00:00:00Z"),
            ["2026-W53", "2027-W01"]
        );
        assert_eq!(
            keys(Step::Month, "UTC", "2026-12-31T12:00:00Z", "2027-01-05T00:00:00Z"),
            ["2026-12", "2027-01"]
        );
    }

    #[test]
    fn of_too_many_pages_the_newest_are_there() {
        let months = keys(Step::Month, "UTC", "0001-01-01T00:00:00Z", "2026-11-21T00:00:00Z");
        assert!(months.len() > 3000 && months.len() <= 4000, "{}", months.len());
        assert_eq!(months.last().unwrap(), "2026-11");
        let hours = keys(Step::Hour, "UTC", "2020-01-01T00:00:00Z", "2026-11-21T00:30:00Z");
        assert_eq!(
            (hours.len(), hours.last().unwrap().as_str()),
            (4000, "2026-11-21T00:00:00+00:00")
        );
    }

    #[test]
    fn a_window_without_a_beginning_begins_with_its_first_page() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let begins = |step: Step, named: &str| {
            let key = serde_json::json!({ step.key().to_string(): named });
            let serde_json::Value::Object(key) = key else { panic!() };
            let group = Group { key, totals: Totals::default() };
            beginning_of(step, &zone, &group).unwrap().to_string()
        };
        assert_eq!(begins(Step::Day, "2026-11-21"), "2026-11-20T23:00:00.000Z");
        assert_eq!(begins(Step::Week, "2026-W47"), "2026-11-15T23:00:00.000Z");
        assert_eq!(begins(Step::Month, "2026-11"), "2026-10-31T23:00:00.000Z");
        assert_eq!(begins(Step::Hour, "2026-11-21T09:00:00+01:00"), "2026-11-21T08:00:00.000Z");
    }
}
