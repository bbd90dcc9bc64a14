//! What a month will come to, from what its days and those before came to. Owns the method; knows
//! nothing of where days come from.
//!
//! Working days and weekends differ, so a day to come is expected to cost what the last few of its
//! weekday did, or what days usually did where one of its kind tells nothing. How far days were from that
//! before tells the range, and so does how few days a mean is made of.

use jiff::civil::{Date, Weekday};
use jiff::{ToSpan, Zoned};
use rust_decimal::{Decimal, MathematicalOps};

use crate::units::Usd;

/// Whole days that must be known before anything is said.
const LEAST_DAYS: usize = 3;

/// Days of one weekday that its own mean needs.
const LEAST_OF_WEEKDAY: usize = 2;

/// Days that count: weekdays are means of up to so many weeks.
const WEEKS: i64 = 5;

/// Four of five sums fall within so many standard deviations, if days are independent.
const FOUR_OF_FIVE: Decimal = Decimal::from_parts(128, 0, 0, false, 2);

/// What one day came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub day: Date,
    pub cost: Usd,
}

/// What a month will come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// So far.
    pub spent: Usd,
    /// By the end of the month.
    pub expected: Usd,
    /// Four of five times the end is between these, neither of them below `spent`.
    pub low: Usd,
    pub high: Usd,
    /// The whole days that it is made of.
    pub days: usize,
}

/// The forecast for the month of `now`, in its time zone, from days in order. Days that are not named
/// cost nothing, but those before the first were not there yet. Nothing where too few are known.
pub fn forecast(days: &[Spent], now: &Zoned) -> Option<Forecast> {
    let today = now.date();
    let month = today.first_of_month();
    let whole = whole_days(days, today)?;
    let means = Means::of(&whole)?;
    let spent = sum(days.iter().filter(|s| s.day >= month && s.day <= today).map(Spent::amount))?;
    let to_come = to_come(now)?;
    let expected = sum_of(to_come.iter().map(|(day, part)| means.of_day(*day).checked_mul(*part)))?;
    let variance = means.variance(&whole)?.checked_mul(means.spread(&to_come)?)?;
    let range = variance.sqrt()?.checked_mul(FOUR_OF_FIVE)?;
    let end = |to_come: Decimal| {
        let end = spent.checked_add(to_come.max(Decimal::ZERO))?;
        Some(Usd::new(end.round_dp(9)))
    };
    Some(Forecast {
        spent: Usd::new(spent),
        expected: end(expected)?,
        low: end(expected.checked_sub(range)?)?,
        high: end(expected.checked_add(range)?)?,
        days: whole.len(),
    })
}

impl Spent {
    fn amount(&self) -> Decimal {
        self.cost.decimal()
    }
}

/// The days before today that are known from their first hour to their last; nothing where they are too few.
fn whole_days(days: &[Spent], today: Date) -> Option<Vec<(Weekday, Decimal)>> {
    let earliest = today.checked_sub((7 * WEEKS).days()).ok()?;
    let first = days.first()?.day;
    // Calls may have begun at any hour of the first day, so it may be a small part of one.
    let from = if first > earliest { first.tomorrow().ok()? } else { earliest };
    let cost = |day: Date| sum(days.iter().filter(|spent| spent.day == day).map(Spent::amount));
    let whole = from.series(1.day()).take_while(|day| *day < today);
    let whole: Option<Vec<_>> =
        whole.map(|day| cost(day).map(|cost| (day.weekday(), cost))).collect();
    whole.filter(|whole| whole.len() >= LEAST_DAYS)
}

/// The days of the month that are still to come, and how much of each: of today only what is left.
fn to_come(now: &Zoned) -> Option<Vec<(Weekday, Decimal)>> {
    let today = now.date();
    let mut days = vec![(today.weekday(), left_of_day(now)?)];
    let mut day = today.tomorrow().ok()?;
    while day.month() == today.month() {
        days.push((day.weekday(), Decimal::ONE));
        day = day.tomorrow().ok()?;
    }
    Some(days)
}

/// A mean, and of how many days.
#[derive(Clone, Copy, Debug)]
struct Mean {
    cost: Decimal,
    days: usize,
}

impl Mean {
    fn of(costs: &[Decimal]) -> Option<Mean> {
        let cost = sum(costs.iter().copied())?.checked_div(costs.len().into())?;
        Some(Mean { cost, days: costs.len() })
    }
}

/// What days cost: each weekday by itself where it is known twice, or else as all days do. One day would
/// be its own mean, and look as if nothing about it could vary.
#[derive(Debug)]
struct Means {
    /// From Monday on.
    weekdays: [Option<Mean>; 7],
    usual: Mean,
}

impl Means {
    fn of(whole: &[(Weekday, Decimal)]) -> Option<Means> {
        let all: Vec<Decimal> = whole.iter().map(|(_, cost)| *cost).collect();
        let mut weekdays = [None; 7];
        for (place, mean) in weekdays.iter_mut().enumerate() {
            let own = whole.iter().filter(|(day, _)| place_of(*day) == place);
            let own: Vec<Decimal> = own.map(|(_, cost)| *cost).collect();
            if own.len() >= LEAST_OF_WEEKDAY {
                *mean = Some(Mean::of(&own)?);
            }
        }
        Some(Means { weekdays, usual: Mean::of(&all)? })
    }

    fn own(&self, day: Weekday) -> Option<Mean> {
        self.weekdays.get(place_of(day)).copied().flatten()
    }

    fn of_day(&self, day: Weekday) -> Decimal {
        self.own(day).unwrap_or(self.usual).cost
    }

    /// How far days are from what is expected of them, squared. Every mean that was fitted to the days
    /// has taken one of them.
    fn variance(&self, whole: &[(Weekday, Decimal)]) -> Option<Decimal> {
        let squares = whole.iter().map(|(day, cost)| {
            let off = cost.checked_sub(self.of_day(*day))?;
            off.checked_mul(off)
        });
        let is_usual_used = whole.iter().any(|(day, _)| self.own(*day).is_none());
        let fitted = self.weekdays.iter().flatten().count() + usize::from(is_usual_used);
        let freedom = whole.len().saturating_sub(fitted).max(1);
        sum_of(squares)?.checked_div(freedom.into())
    }

    /// How many times the variance of one day the sum of these has: once for each, and what the means
    /// that stand for them are themselves off by, which is the same for all days of a mean.
    fn spread(&self, to_come: &[(Weekday, Decimal)]) -> Option<Decimal> {
        let parts = |is_meant: &dyn Fn(Weekday) -> bool| {
            sum(to_come.iter().filter(|(day, _)| is_meant(*day)).map(|(_, part)| *part))
        };
        let off = |mean: Mean, parts: Decimal| {
            parts.checked_mul(parts)?.checked_div(Decimal::from(mean.days))
        };
        let mut spread = parts(&|_| true)?;
        for (place, mean) in self.weekdays.iter().enumerate() {
            if let Some(mean) = *mean {
                spread += off(mean, parts(&|day| place_of(day) == place)?)?;
            }
        }
        spread.checked_add(off(self.usual, parts(&|day| self.own(day).is_none())?)?)
    }
}

fn place_of(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or_default()
}

fn sum(amounts: impl IntoIterator<Item = Decimal>) -> Option<Decimal> {
    sum_of(amounts.into_iter().map(Some))
}

/// Nothing where a part is nothing, or no number is large enough.
fn sum_of(amounts: impl IntoIterator<Item = Option<Decimal>>) -> Option<Decimal> {
    amounts.into_iter().try_fold(Decimal::ZERO, |sum, amount| sum.checked_add(amount?))
}

/// How much of its day a moment has before it, from 1 to 0.
fn left_of_day(now: &Zoned) -> Option<Decimal> {
    let end = now.tomorrow().ok()?.start_of_day().ok()?;
    let start = now.start_of_day().ok()?;
    let millis = |from: &Zoned, to: &Zoned| {
        Decimal::from(to.timestamp().as_millisecond() - from.timestamp().as_millisecond())
    };
    millis(now, &end).checked_div(millis(&start, &end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn days(from: &str, costs: &[i64]) -> Vec<Spent> {
        let series = day(from).series(1.day());
        let spent = |(day, cost): (Date, &i64)| Spent { day, cost: Usd::new(Decimal::from(*cost)) };
        series.zip(costs).map(spent).collect()
    }

    fn usd(amount: i64) -> Usd {
        Usd::new(Decimal::from(amount))
    }

    #[test]
    fn an_even_month_ends_where_it_must() {
        let now: Zoned = "2026-11-11T00:00:00[Europe/Berlin]".parse().unwrap();
        let found = forecast(&days("2026-10-20", &[2; 22]), &now).unwrap();
        // Ten days of November are over, twenty to come.
        assert_eq!((found.spent, found.expected), (usd(20), usd(60)));
        assert_eq!((found.low, found.high), (usd(60), usd(60)));
    }

    #[test]
    fn weekends_are_weekends() {
        // A Sunday, two weeks of Mondays to Sundays; then a Monday, the 16th.
        let now: Zoned = "2026-11-16T00:00:00[UTC]".parse().unwrap();
        let week = [10, 10, 10, 10, 10, 0, 0];
        let found =
            forecast(&days("2026-11-01", &[&[0][..], &week, &week].concat()), &now).unwrap();
        // Fifteen days are left: the 16th to the 30th, eleven of them working days.
        assert_eq!(found.expected, usd(100 + 110));
        assert_eq!(found.high, found.expected);
    }

    #[test]
    fn what_varies_has_a_range() {
        let now: Zoned = "2026-11-29T12:00:00[UTC]".parse().unwrap();
        let costs: Vec<i64> = (0..28).map(|at| if at % 2 == 0 { 5 } else { 15 }).collect();
        let found = forecast(&days("2026-11-01", &costs), &now).unwrap();
        assert!(found.low < found.expected && found.expected < found.high, "{found:?}");
        assert!(found.low >= found.spent);
        assert_eq!(found.spent, usd(280));
    }

    #[test]
    fn little_is_known_of_the_first_days() {
        let now: Zoned = "2026-11-03T12:00:00[UTC]".parse().unwrap();
        assert_eq!(forecast(&[], &now), None);
        assert_eq!(forecast(&days("2026-11-01", &[1, 1]), &now), None);
        assert_eq!(forecast(&days("2026-10-31", &[1, 1, 1]), &now), None);
        assert!(forecast(&days("2026-10-30", &[1, 1, 1, 1]), &now).is_some());
    }

    #[test]
    fn a_weekday_that_was_once_is_not_certain() {
        let now: Zoned = "2026-11-06T00:00:00[UTC]".parse().unwrap();
        // Five whole days, each the only one of its weekday: of a mean of 8.
        let found = forecast(&days("2026-10-31", &[9, 10, 2, 14, 3, 11]), &now).unwrap();
        assert_eq!((found.days, found.spent, found.expected), (5, usd(40), usd(40 + 25 * 8)));
        assert!(found.low < found.expected && found.expected < found.high, "{found:?}");
        // Of ten days, three weekdays are known twice: what four others differ by counts.
        let now: Zoned = "2026-11-12T00:00:00[UTC]".parse().unwrap();
        let costs = [9, 10, 2, 14, 3, 11, 6, 7, 10, 2, 14];
        let varied = forecast(&days("2026-11-01", &costs), &now).unwrap();
        assert!(varied.high.decimal() - varied.expected.decimal() > Decimal::TEN, "{varied:?}");
    }

    #[test]
    fn few_days_say_less_than_many() {
        let now: Zoned = "2026-11-10T00:00:00[UTC]".parse().unwrap();
        let width = |from: &str, count: usize| {
            let costs: Vec<i64> =
                (0..count).map(|at| if at / 7 % 2 == 0 { 5 } else { 15 }).collect();
            let found = forecast(&days(from, &costs), &now).unwrap();
            assert_eq!(found.days, count - 1);
            found.high.decimal() - found.expected.decimal()
        };
        assert!(width("2026-10-26", 15) > width("2026-10-12", 29));
    }

    #[test]
    fn the_day_that_calls_began_is_no_whole_one() {
        let now: Zoned = "2026-11-06T00:00:00[UTC]".parse().unwrap();
        let found = forecast(&days("2026-11-02", &[1, 10, 10, 10]), &now).unwrap();
        assert_eq!((found.days, found.spent, found.expected), (3, usd(31), usd(31 + 25 * 10)));
        // Five weeks ago they had begun before.
        let found = forecast(&days("2026-10-02", &[10; 35]), &now).unwrap();
        assert_eq!((found.days, found.low), (35, usd(50 + 25 * 10)));
    }
}
