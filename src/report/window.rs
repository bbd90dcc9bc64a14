//! The span of time that a report is about. Owns how it is called, the window before it, and the steps
//! that its trend is drawn in; knows nothing of calls.
//!
//! Invariant: windows are half open, and every moment of one falls into exactly one of its steps.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{RoundMode, SignedDuration, ToSpan, Unit, Zoned, ZonedRound};

use crate::units::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// A trend by the hour for at most so many days, by the day, by the week; beyond, by the month.
const HOURLY_DAYS: i64 = 2;
const DAILY_DAYS: i64 = 92;
const WEEKLY_DAYS: i64 = 731;

/// From `since` on, before `until`, in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub since: Timestamp,
    pub until: Timestamp,
    pub zone: TimeZone,
}

/// What a trend is drawn in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Hour,
    Day,
    Week,
    Month,
}

/// One step of a trend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// As answers that are grouped by the step name it.
    pub key: String,
    /// For an axis.
    pub label: String,
    /// For a table.
    pub name: String,
    /// Its first moment, of what is within the window.
    pub since: Timestamp,
}

/// The window before another, as long as what has passed of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    pub window: Window,
    /// As in "compared with …".
    pub name: String,
}

impl Window {
    /// The month of a day.
    pub fn month(day: Date, zone: &TimeZone) -> Option<Window> {
        let first = day.first_of_month();
        let next = first.checked_add(1.month()).ok()?;
        Some(Window {
            since: midnight(first, zone)?,
            until: midnight(next, zone)?,
            zone: zone.clone(),
        })
    }

    /// The last month that is over.
    pub fn last_month(now: Timestamp, zone: &TimeZone) -> Option<Window> {
        let today = now.calendar().to_zoned(zone.clone()).date();
        Window::month(today.first_of_month().yesterday().ok()?, zone)
    }

    /// Whether it is the month that `now` is in.
    pub fn is_month_of(&self, now: Timestamp) -> bool {
        Window::month(self.zoned(now).date(), &self.zone).as_ref() == Some(self)
    }

    pub fn zoned(&self, moment: Timestamp) -> Zoned {
        moment.calendar().to_zoned(self.zone.clone())
    }

    /// The name of its time zone.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// What people call it: `October 2026`, `1 to 14 October 2026`.
    pub fn name(&self) -> String {
        if let Some((first, months)) = self.months() {
            let last = first.checked_add((months - 1).months()).unwrap_or(first);
            return match months {
                1 => first.strftime("%B %Y").to_string(),
                12 if first.month() == 1 => first.strftime("%Y").to_string(),
                _ => format!("{} to {}", first.strftime("%B %Y"), last.strftime("%B %Y")),
            };
        }
        if let Some((first, end)) = self.days() {
            let last = end.yesterday().unwrap_or(end);
            let form = match () {
                () if first == last => return first.strftime("%-d %B %Y").to_string(),
                () if first.first_of_month() == last.first_of_month() => "%-d",
                () if first.year() == last.year() => "%-d %B",
                () => "%-d %B %Y",
            };
            return format!("{} to {}", first.strftime(form), last.strftime("%-d %B %Y"));
        }
        let moment = |at| self.zoned(at).strftime("%-d %B %Y %H:%M").to_string();
        format!("{} to {}", moment(self.since), moment(self.until))
    }

    /// The window before, of the same length: months before months, days before days. Of a window that
    /// is not over it has as much as has passed, so that like is compared with like.
    pub fn before(&self, now: Timestamp) -> Option<Before> {
        let (since, whole) = if let Some((first, months)) = self.months() {
            let since = midnight(first.checked_sub(months.months()).ok()?, &self.zone)?;
            (since, Window { since, until: self.since, zone: self.zone.clone() })
        } else if let Some((first, end)) = self.days() {
            let back = first.until(end).ok()?;
            let since = midnight(first.checked_sub(back).ok()?, &self.zone)?;
            (since, Window { since, until: self.since, zone: self.zone.clone() })
        } else {
            let length = self.until.millis() - self.since.millis();
            let since = Timestamp::from_millis(self.since.millis() - length);
            (since, Window { since, until: self.since, zone: self.zone.clone() })
        };
        let name = whole.name();
        if now >= self.until {
            return Some(Before { window: whole, name });
        }
        let passed = now.millis() - self.since.millis();
        let until = Timestamp::from_millis(since.millis().saturating_add(passed)).min(self.since);
        let name = format!("the same part of {name}");
        Some(Before { window: Window { until, ..whole }, name })
    }

    pub fn step(&self) -> Step {
        let days = (self.until.millis() - self.since.millis() + DAY_MS / 2) / DAY_MS;
        match days {
            days if days <= HOURLY_DAYS => Step::Hour,
            days if days <= DAILY_DAYS => Step::Day,
            days if days <= WEEKLY_DAYS => Step::Week,
            _ => Step::Month,
        }
    }

    /// The steps of the window, in order.
    pub fn buckets(&self) -> Vec<Bucket> {
        let step = self.step();
        let mut at = self.zoned(self.since);
        let mut buckets: Vec<Bucket> = Vec::new();
        while Timestamp::from(at.timestamp()) < self.until {
            let bucket = step.bucket(&at);
            if buckets.last().is_none_or(|last| last.key != bucket.key) {
                buckets.push(bucket);
            }
            let Some(next) = step.after(&at) else { break };
            at = next;
        }
        buckets
    }

    /// The first month and how many, of a window of whole months.
    fn months(&self) -> Option<(Date, i32)> {
        let (first, end) = self.days()?;
        let months = (i32::from(end.year()) - i32::from(first.year())) * 12
            + i32::from(end.month())
            - i32::from(first.month());
        (first.day() == 1 && end.day() == 1 && months > 0).then_some((first, months))
    }

    /// The first day and the one after the last, of a window of whole days.
    fn days(&self) -> Option<(Date, Date)> {
        let whole = |at: Timestamp| {
            let zoned = self.zoned(at);
            (zoned.start_of_day().ok()? == zoned).then(|| zoned.date())
        };
        Some((whole(self.since)?, whole(self.until)?)).filter(|(first, end)| first < end)
    }
}

impl Step {
    /// As questions group by it.
    pub fn key(self) -> &'static str {
        match self {
            Step::Hour => "hour",
            Step::Day => "day",
            Step::Week => "week",
            Step::Month => "month",
        }
    }

    fn bucket(self, at: &Zoned) -> Bucket {
        let date = at.date();
        let text = |form: &str| at.strftime(form).to_string();
        let since = at.timestamp().into();
        match self {
            Step::Hour => Bucket {
                key: text("%Y-%m-%dT%H:00:00%:z"),
                label: text("%-d %b %H:00"),
                name: text("%a %-d %b, %H:00"),
                since,
            },
            Step::Day => Bucket {
                key: date.to_string(),
                label: text("%-d %b"),
                name: text("%a %-d %b %Y"),
                since,
            },
            Step::Week => {
                let week = date.iso_week_date();
                let monday =
                    date.checked_sub(i32::from(date.weekday().to_monday_zero_offset()).days());
                let monday = monday.unwrap_or(date);
                Bucket {
                    key: format!("{:04}-W{:02}", week.year(), week.week()),
                    label: monday.strftime("%-d %b").to_string(),
                    name: monday.strftime("Week of %-d %b %Y").to_string(),
                    since,
                }
            }
            Step::Month => {
                Bucket { key: text("%Y-%m"), label: text("%b %Y"), name: text("%B %Y"), since }
            }
        }
    }

    /// A moment of the step after that of `at`, its first as a rule.
    fn after(self, at: &Zoned) -> Option<Zoned> {
        let day = |date: Date| date.to_zoned(at.time_zone().clone()).ok();
        let date = at.date();
        match self {
            // The clock on the wall may be set forth or back within the hour.
            Step::Hour => {
                let half =
                    ZonedRound::new().smallest(Unit::Minute).increment(30).mode(RoundMode::Trunc);
                at.round(half).ok()?.checked_add(SignedDuration::from_mins(30)).ok()
            }
            Step::Day => day(date.tomorrow().ok()?),
            Step::Week => {
                let left = 7 - i32::from(date.weekday().to_monday_zero_offset());
                day(date.checked_add(left.days()).ok()?)
            }
            Step::Month => day(date.first_of_month().checked_add(1.month()).ok()?),
        }
    }
}

/// The first moment of a day.
pub fn midnight(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    day.to_zoned(zone.clone()).ok().map(|midnight| midnight.timestamp().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(since: &str, until: &str, zone: &str) -> Window {
        let zone = TimeZone::get(zone).unwrap();
        let moment = |text: &str| match text.parse::<Date>() {
            Ok(day) if text.len() == 10 => midnight(day, &zone).unwrap(),
            _ => text.parse().unwrap(),
        };
        Window { since: moment(since), until: moment(until), zone: zone.clone() }
    }

    #[test]
    fn windows_are_called_what_people_call_them() {
        let cases = [
            ("2026-10-01", "2026-11-01", "October 2026"),
            ("2026-10-01", "2027-01-01", "October 2026 to December 2026"),
            ("2026-01-01", "2027-01-01", "2026"),
            ("2026-10-01", "2026-10-15", "1 to 14 October 2026"),
            ("2026-09-28", "2026-10-05", "28 September to 4 October 2026"),
            ("2026-12-31", "2027-01-02", "31 December 2026 to 1 January 2027"),
            ("2026-10-03", "2026-10-04", "3 October 2026"),
            (
                "2026-10-01T06:30:00Z",
                "2026-10-02T06:30:00Z",
                "1 October 2026 08:30 to 2 October 2026 08:30",
            ),
        ];
        for (since, until, name) in cases {
            assert_eq!(window(since, until, "Europe/Berlin").name(), name);
        }
        let now = "2026-11-01T00:30:00+01:00".parse().unwrap();
        let last = |zone: &str| Window::last_month(now, &TimeZone::get(zone).unwrap()).unwrap();
        assert_eq!(last("Europe/Berlin").name(), "October 2026");
        assert_eq!(last("UTC").name(), "September 2026");
    }

    #[test]
    fn months_are_compared_with_months_and_days_with_days() {
        let later = "2027-06-01T00:00:00Z".parse().unwrap();
        let before = |since, until| window(since, until, "Europe/Berlin").before(later).unwrap();
        assert_eq!(before("2026-10-01", "2026-11-01").name, "September 2026");
        // The clocks were set back in October.
        assert_eq!(before("2026-10-26", "2026-11-02").name, "19 to 25 October 2026");
        let hours = before("2026-10-02T06:30:00Z", "2026-10-02T07:30:00Z").window;
        assert_eq!(hours.since.to_string(), "2026-10-02T05:30:00.000Z");
        assert_eq!(hours.until.to_string(), "2026-10-02T06:30:00.000Z");
    }

    #[test]
    fn of_a_window_that_is_not_over_like_is_compared_with_like() {
        let now = "2026-11-08T12:00:00Z".parse().unwrap();
        let month = window("2026-11-01", "2026-12-01", "UTC");
        assert!(month.is_month_of(now));
        let before = month.before(now).unwrap();
        assert_eq!(before.name, "the same part of October 2026");
        assert_eq!(before.window.until.to_string(), "2026-10-08T12:00:00.000Z");
        // The month before is shorter.
        let now = "2027-03-31T12:00:00Z".parse().unwrap();
        let march = window("2027-03-01", "2027-04-01", "UTC");
        assert_eq!(march.before(now).unwrap().window.until, march.since);
    }

    #[test]
    fn trends_have_no_gaps() {
        let buckets = |since, until, zone| window(since, until, zone).buckets();
        let days = buckets("2026-10-01", "2026-11-01", "Europe/Berlin");
        assert_eq!(days.len(), 31);
        assert_eq!(days[0].key, "2026-10-01");
        assert_eq!(days[30].name, "Sat 31 Oct 2026");
        // Clocks were set back, and by half an hour at the other end of the world.
        let hours = buckets("2026-10-25", "2026-10-26", "Europe/Berlin");
        assert_eq!(hours.len(), 25);
        assert_eq!(hours[3].key, "2026-10-25T02:00:00+01:00");
        let howe = buckets("2026-04-05", "2026-04-06", "Australia/Lord_Howe");
        assert_eq!(howe[1].key, "2026-04-05T01:00:00+11:00");
        assert_eq!(howe[2].key, "2026-04-05T01:00:00+10:30");
        assert_eq!(buckets("2026-11-20T23:40:00Z", "2026-11-21T00:10:00Z", "UTC").len(), 2);
        let weeks = buckets("2026-01-01", "2027-01-01", "UTC");
        assert_eq!((weeks[0].key.as_str(), weeks.len()), ("2026-W01", 53));
        let months = buckets("2020-01-15", "2026-01-15", "UTC");
        assert_eq!((months[72].key.as_str(), months.len()), ("2026-01", 73));
    }
}
