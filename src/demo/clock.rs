//! When calls come: by the hours of a working day, the days of a week, and more from month to month.
//! Owns the rhythm; knows nothing of calls.
//!
//! Invariant: later shares are never earlier moments, and every moment lies within the window.

use jiff::tz::TimeZone;

use super::random::{Dice, millis, real};
use crate::units::Timestamp;

const HOUR_MS: i64 = 3_600_000;

/// How busy each hour of a day is.
pub(super) type Rhythm = [f64; 24];

/// People at work, and some who cannot stop.
pub(super) const OFFICE: Rhythm = [
    0.06, 0.04, 0.03, 0.02, 0.02, 0.05, 0.14, 0.38, 0.80, 1.00, 1.05, 0.95, 0.68, 0.86, 1.00, 1.02,
    0.94, 0.74, 0.46, 0.34, 0.32, 0.27, 0.18, 0.11,
];

/// Jobs that run when the machines have time.
pub(super) const NIGHT: Rhythm = [
    0.60, 1.00, 1.10, 0.90, 0.50, 0.30, 0.20, 0.20, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25,
    0.25, 0.20, 0.20, 0.20, 0.20, 0.25, 0.35, 0.45,
];

/// Saturdays and Sundays, compared with the other days.
const WEEKEND: f64 = 0.24;

/// By how much a month has more than the month before, as a share.
const GROWTH_A_MONTH: f64 = 0.12;

/// Turns shares of all that happens into moments.
#[derive(Debug)]
pub(super) struct Clock {
    since: i64,
    until: i64,
    /// What share of all has happened when each hour ends.
    ends: Vec<f64>,
    /// The hour of the last share.
    at: usize,
}

impl Clock {
    /// The window is not empty.
    pub(super) fn new(
        [since, until]: [Timestamp; 2],
        rhythm: &Rhythm,
        zone: &TimeZone,
        dice: &mut Dice,
    ) -> Clock {
        let [since, until] = [since.millis(), until.millis()];
        let mut sum = 0.0;
        let mut ends = Vec::new();
        let mut start = since;
        while start < until {
            let length = HOUR_MS.min(until - start);
            let local = Timestamp::from_millis(start).calendar().to_zoned(zone.clone());
            let hour = usize::try_from(local.hour()).unwrap_or_default();
            let is_weekend = local.weekday().to_monday_zero_offset() >= 5;
            let day = if is_weekend { WEEKEND } else { 1.0 };
            let months = span(start - since) / (30.0 * 24.0 * span(HOUR_MS));
            let noise = 0.85 + 0.3 * dice.share();
            let growth = (GROWTH_A_MONTH * months).exp();
            sum += rhythm[hour] * day * growth * noise * span(length) / span(HOUR_MS);
            ends.push(sum);
            start += length;
        }
        for end in &mut ends {
            *end /= sum;
        }
        Clock { since, until, ends, at: 0 }
    }

    /// When this share of all has happened. Shares come in ascending order.
    pub(super) fn moment(&mut self, share: f64) -> i64 {
        while self.at + 1 < self.ends.len() && self.ends[self.at] <= share {
            self.at += 1;
        }
        let begin = if self.at == 0 { 0.0 } else { self.ends[self.at - 1] };
        let within = ((share - begin) / (self.ends[self.at] - begin)).clamp(0.0, 1.0);
        let start = self.since + i64::try_from(self.at).unwrap_or_default() * HOUR_MS;
        let length = HOUR_MS.min(self.until - start);
        start + millis(span(length) * within).min(length - 1)
    }
}

fn span(millis: i64) -> f64 {
    real(millis.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_ascend_stay_within_and_follow_the_day() {
        let [since, until] =
            ["2026-10-20T10:30:00Z", "2026-11-21T09:10:00Z"].map(|text| text.parse().unwrap());
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let mut clock = Clock::new([since, until], &OFFICE, &zone, &mut Dice::new(1, 1));
        let moments: Vec<i64> = (0..5000).map(|at| clock.moment(real(at) / 5000.0)).collect();
        assert!(moments.is_sorted());
        let window = since.millis()..until.millis();
        assert!(moments.iter().all(|moment| window.contains(moment)));
        let local =
            |moment: &i64| Timestamp::from_millis(*moment).calendar().to_zoned(zone.clone());
        let at_work = moments.iter().filter(|moment| (8..18).contains(&local(moment).hour()));
        assert!(at_work.count() > 3500);
        let weekend =
            moments.iter().filter(|moment| local(moment).weekday().to_monday_zero_offset() >= 5);
        assert!((300..700).contains(&weekend.count()));
    }

    #[test]
    fn a_window_of_a_second_is_a_window() {
        let window = [0, 1000].map(Timestamp::from_millis);
        let mut clock = Clock::new(window, &NIGHT, &TimeZone::UTC, &mut Dice::new(1, 1));
        assert_eq!([0.0, 0.5, 1.0].map(|share| clock.moment(share)), [0, 500, 999]);
    }
}
