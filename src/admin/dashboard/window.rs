//! The span of time that a page is about, and the one it is compared with. Owns their names and their
//! ends; knows nothing of pages.
//!
//! A span of the calendar is compared with the same part of the one before (this month up to now with the
//! last one up to the same moment), any other with the span of the same length before it.

use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

use super::super::params::{BadParameter, Pairs, Params, Window};
use crate::units::Timestamp;

const DAY_MS: i64 = 86_400_000;

const DEFAULT_DAYS: u32 = 7;

/// A span of time, by its name where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Today,
    /// So many times 24 hours, up to now.
    Days(u32),
    Month,
    LastMonth,
    All,
    /// As it was typed, and what that is.
    Custom {
        since: Option<String>,
        until: Option<String>,
        window: Window,
    },
}

impl Default for Span {
    fn default() -> Span {
        Span::Days(DEFAULT_DAYS)
    }
}

/// The spans that are offered.
pub(super) const OFFERED: [Span; 8] = [
    Span::Today,
    Span::Days(1),
    Span::Days(7),
    Span::Days(30),
    Span::Month,
    Span::LastMonth,
    Span::Days(90),
    Span::All,
];

impl Span {
    pub(super) fn read(
        params: &mut Params<'_>,
        pairs: &Pairs,
        zone: &TimeZone,
        now: Timestamp,
    ) -> Result<Span, BadParameter> {
        let word = params.text("window")?;
        let text = |name: &str| {
            pairs.iter().find(|(known, _)| known == name).map(|(_, text)| text.clone())
        };
        let window = params.window(zone, now, Some(DEFAULT_DAYS.into()))?;
        let (days, since, until) = (text("days"), text("since"), text("until"));
        let Some(word) = word else {
            if since.is_some() || until.is_some() {
                return Ok(Span::Custom { since, until, window });
            }
            let days = days.and_then(|days| days.parse().ok());
            return Ok(days.map_or_else(Span::default, Span::Days));
        };
        for (name, given) in [("days", days), ("since", since), ("until", until)] {
            if given.is_some() {
                let message = format!("`{name}` and `window` say two things; give one of them");
                return Err(BadParameter::new(name, message));
            }
        }
        match word {
            "today" => Ok(Span::Today),
            "month" => Ok(Span::Month),
            "last_month" => Ok(Span::LastMonth),
            "all" => Ok(Span::All),
            other => Err(BadParameter::new(
                "window",
                format!("`window` is `{other}`, but must be today, month, last_month or all"),
            )),
        }
    }

    /// The parameters that say it.
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        match self {
            Span::Days(DEFAULT_DAYS) => Vec::new(),
            Span::Days(days) => vec![("days", days.to_string())],
            Span::Today => vec![("window", "today".to_owned())],
            Span::Month => vec![("window", "month".to_owned())],
            Span::LastMonth => vec![("window", "last_month".to_owned())],
            Span::All => vec![("window", "all".to_owned())],
            Span::Custom { since, until, .. } => {
                let since = since.clone().map(|since| ("since", since));
                since.into_iter().chain(until.clone().map(|until| ("until", until))).collect()
            }
        }
    }

    /// Whether it is said by a date, which begins at another moment in each zone.
    pub(super) fn has_date(&self) -> bool {
        let is_date = |text: &String| !text.contains(['T', 't', ' ']);
        match self {
            Span::Custom { since, until, .. } => [since, until].into_iter().flatten().any(is_date),
            _ => false,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Span::Today => "Today".to_owned(),
            Span::Days(1) => "24 h".to_owned(),
            Span::Days(days) => format!("{days} days"),
            Span::Month => "This month".to_owned(),
            Span::LastMonth => "Last month".to_owned(),
            Span::All => "All time".to_owned(),
            Span::Custom { .. } => "Custom".to_owned(),
        }
    }

    /// One that ends now has no end, so that a call of this moment is in it.
    pub(super) fn window(&self, zone: &TimeZone, now: Timestamp) -> Window {
        let local = local(zone, now);
        let open = |since: Option<Timestamp>| Window { since, until: None };
        match self {
            Span::Today => open(local.start_of_day().ok().map(of)),
            Span::Days(days) => open(Some(back(now, *days))),
            Span::Month => open(month(&local, 0)),
            Span::LastMonth => Window { since: month(&local, 1), until: month(&local, 0) },
            Span::All => open(None),
            Span::Custom { window, .. } => *window,
        }
    }

    /// Nothing where there is no before.
    pub(super) fn before(&self, zone: &TimeZone, now: Timestamp) -> Option<Window> {
        let local = local(zone, now);
        let between = |since: Option<Timestamp>, until: Option<Timestamp>| {
            (since < until).then_some(Window { since, until })
        };
        match self {
            Span::Today => {
                let then = local.checked_sub(1.day()).ok()?;
                between(Some(of(then.start_of_day().ok()?)), Some(of(then)))
            }
            Span::Days(days) => {
                let until = back(now, *days);
                between(Some(back(until, *days)), Some(until))
            }
            Span::Month => {
                let then = of(local.checked_sub(1.month()).ok()?);
                between(month(&local, 1), Some(then).min(month(&local, 0)))
            }
            Span::LastMonth => between(month(&local, 2), month(&local, 1)),
            Span::All => None,
            Span::Custom { window: Window { since, until }, .. } => {
                let since = (*since)?;
                // What is to come is no part of it yet.
                let until = until.map_or(now, |until| until.min(now));
                let length = until.millis().checked_sub(since.millis())?;
                let start = Timestamp::from_millis(since.millis().checked_sub(length)?);
                between(Some(start), Some(since))
            }
        }
    }
}

pub(super) fn local(zone: &TimeZone, at: Timestamp) -> Zoned {
    at.calendar().to_zoned(zone.clone())
}

pub(super) fn of(zoned: impl std::borrow::Borrow<Zoned>) -> Timestamp {
    zoned.borrow().timestamp().into()
}

fn back(from: Timestamp, days: u32) -> Timestamp {
    Timestamp::from_millis(from.millis().saturating_sub(i64::from(days) * DAY_MS))
}

/// The first moment of a month, so many before this one.
fn month(local: &Zoned, before: i32) -> Option<Timestamp> {
    let first = local.date().first_of_month().checked_sub(before.months()).ok()?;
    first.to_zoned(local.time_zone().clone()).ok().map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(span: &Span, zone: &str, now: &str) -> [String; 4] {
        let (zone, now) = (TimeZone::get(zone).unwrap(), now.parse().unwrap());
        let window = span.window(&zone, now);
        let before = span.before(&zone, now).unwrap_or(Window { since: None, until: None });
        [window.since, window.until, before.since, before.until]
            .map(|time| time.map_or_else(String::new, |time| time.to_string()))
    }

    #[test]
    fn calendars_are_compared_with_the_same_part_of_the_one_before() {
        let now = "2026-03-31T12:00:00.000Z";
        assert_eq!(
            spans(&Span::Month, "UTC", now),
            [
                "2026-03-01T00:00:00.000Z",
                "",
                "2026-02-01T00:00:00.000Z",
                "2026-02-28T12:00:00.000Z"
            ]
        );
        assert_eq!(
            spans(&Span::LastMonth, "Europe/Berlin", now),
            [
                "2026-01-31T23:00:00.000Z",
                "2026-02-28T23:00:00.000Z",
                "2025-12-31T23:00:00.000Z",
                "2026-01-31T23:00:00.000Z"
            ]
        );
        // The day after the clocks were set forward.
        assert_eq!(
            spans(&Span::Today, "Europe/Berlin", "2026-03-30T10:00:00.000Z"),
            [
                "2026-03-29T22:00:00.000Z",
                "",
                "2026-03-28T23:00:00.000Z",
                "2026-03-29T10:00:00.000Z"
            ]
        );
    }

    #[test]
    fn others_are_compared_with_the_span_of_the_same_length() {
        let now = "2026-03-31T12:00:00.000Z";
        assert_eq!(
            spans(&Span::Days(7), "UTC", now),
            [
                "2026-03-24T12:00:00.000Z",
                "",
                "2026-03-17T12:00:00.000Z",
                "2026-03-24T12:00:00.000Z"
            ]
        );
        assert_eq!(spans(&Span::All, "UTC", now), ["", "", "", ""]);
        let [since, until] = ["2026-03-02T00:00:00.000Z", "2026-03-04T00:00:00.000Z"];
        let window = Window { since: since.parse().ok(), until: until.parse().ok() };
        let custom = Span::Custom { since: None, until: None, window };
        assert_eq!(spans(&custom, "UTC", now)[2..], ["2026-02-28T00:00:00.000Z", since]);
    }

    #[test]
    fn of_a_window_that_ends_in_the_future_what_is_past_is_compared() {
        let now = "2026-03-31T12:00:00.000Z";
        let before = |since: &str, until: &str| {
            let window = Window { since: since.parse().ok(), until: until.parse().ok() };
            let custom = Span::Custom { since: None, until: None, window };
            spans(&custom, "UTC", now)[2..].to_vec()
        };
        let [since, until] = ["2026-03-31T00:00:00.000Z", "2026-04-30T00:00:00.000Z"];
        assert_eq!(before(since, until), ["2026-03-30T12:00:00.000Z", since]);
        assert_eq!(before(now, until), ["", ""]);
        assert_eq!(before("2026-04-01T00:00:00.000Z", until), ["", ""]);
    }
}
