//! What a month will come to, from what its days and those before came to. Owns the method; knows
//! nothing of where days come from.
//!
//! Working days and weekends differ, so a day to come is expected to cost what the last few of its
//! weekday did. How far days were from that before tells the range.

use jiff::civil::{Date, Weekday};
use jiff::{ToSpan, Zoned};
use rust_decimal::{Decimal, MathematicalOps};

use crate::units::Usd;

/// Whole days that must be known before anything is said.
const LEAST_DAYS: usize = 3;

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
    let from = days.first()?.day.max(today.checked_sub((7 * WEEKS).days()).ok()?);
    let cost = |day: Date| -> Decimal {
        days.iter().filter(|spent| spent.day == day).map(|spent| spent.cost.decimal()).sum()
    };
    let whole: Vec<(Weekday, Decimal)> = from
        .series(1.day())
        .take_while(|day| *day < today)
        .map(|day| (day.weekday(), cost(day)))
        .collect();
    if whole.len() < LEAST_DAYS {
        return None;
    }
    let mean = |of: &mut dyn Iterator<Item = Decimal>| -> Option<Decimal> {
        let (sum, count) =
            of.fold((Decimal::ZERO, 0), |(sum, count), cost| (sum + cost, count + 1));
        sum.checked_div(Decimal::from(count))
    };
    let usual = mean(&mut whole.iter().map(|(_, cost)| *cost))?;
    let expected = |day: Weekday| {
        mean(&mut whole.iter().filter(|(of, _)| *of == day).map(|(_, cost)| *cost)).unwrap_or(usual)
    };
    let spent: Decimal =
        days.iter().filter(|s| s.day >= month && s.day <= today).map(|s| s.cost.decimal()).sum();
    // Of today only what is left of it is still to come.
    let left = left_of_day(now)?;
    let mut to_come = expected(today.weekday()) * left;
    let mut days_to_come = left;
    let mut day = today.tomorrow().ok()?;
    while day.month() == today.month() {
        to_come += expected(day.weekday());
        days_to_come += Decimal::ONE;
        day = day.tomorrow().ok()?;
    }
    let squares = whole
        .iter()
        .map(|(day, cost)| (*cost - expected(*day)).checked_mul(*cost - expected(*day)));
    let freedom = whole.len().saturating_sub(7.min(whole.len() / 2)).max(1);
    let variance = squares.sum::<Option<Decimal>>()?.checked_div(Decimal::from(freedom))?;
    let range = variance.checked_mul(days_to_come)?.sqrt()?.checked_mul(FOUR_OF_FIVE)?;
    let end = |to_come: Decimal| Usd::new((spent + to_come.max(Decimal::ZERO)).round_dp(9));
    Some(Forecast {
        spent: Usd::new(spent),
        expected: end(to_come),
        low: end(to_come - range),
        high: end(to_come + range),
        days: whole.len(),
    })
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
        // Two weeks of Mondays to Sundays; then a Monday, the 16th.
        let now: Zoned = "2026-11-16T00:00:00[UTC]".parse().unwrap();
        let week = [10, 10, 10, 10, 10, 0, 0];
        let found = forecast(&days("2026-11-02", &[week, week].concat()), &now).unwrap();
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
        assert!(forecast(&days("2026-10-31", &[1, 1, 1]), &now).is_some());
    }
}
