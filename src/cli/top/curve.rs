//! What calls cost in an hour, as it went up and down. Owns the points; knows nothing of how they are drawn.
//!
//! A point is the cost of the minute before it. The first ones are told from the newest calls, as far back as
//! these reach, the others from what was asked since.

use std::collections::VecDeque;

use super::super::Query;
use super::ask::{MINUTE_MS, Seen, Wish};
use super::figures::{Call, per_hour};
use crate::units::{Timestamp, Usd};

/// Between two points.
pub(super) const STEP_MS: i64 = 5_000;

/// Points that are remembered, for the widest of screens.
const POINTS: usize = 400;

#[derive(Clone, Debug, Default)]
pub(super) struct Curve {
    /// The newest last.
    points: VecDeque<(Timestamp, Usd)>,
    /// The filters of the calls that it is about.
    of: Option<Query>,
}

impl Curve {
    pub(super) fn is_of(&self, filters: &Query) -> bool {
        self.of.as_ref() == Some(filters)
    }

    /// The newest last.
    pub(super) fn points(&self) -> impl DoubleEndedIterator<Item = Usd> + '_ {
        self.points.iter().map(|(_, cost)| *cost)
    }

    pub(super) fn add(&mut self, wish: &Wish, at: Timestamp, seen: &Seen) {
        if !self.is_of(&wish.filters) {
            self.points = history(&seen.calls, at);
            self.of = Some(wish.filters.clone());
        }
        let cost = per_hour(seen.minute.cost, MINUTE_MS);
        match self.points.back_mut() {
            Some((last, point)) if at.millis() - last.millis() < STEP_MS => *point = cost,
            _ => self.points.push_back((at, cost)),
        }
        while self.points.len() > POINTS {
            self.points.pop_front();
        }
    }
}

/// Up to now, as far back as the calls reach.
fn history(calls: &[Call], now: Timestamp) -> VecDeque<(Timestamp, Usd)> {
    let Some(oldest) = calls.last().map(|call| call.at.millis()) else { return VecDeque::new() };
    let points = i64::try_from(POINTS).unwrap_or(i64::MAX);
    let mut curve = VecDeque::new();
    for back in (1..points).rev() {
        let end = now.millis() - back * STEP_MS;
        let start = end - MINUTE_MS;
        if start < oldest {
            continue;
        }
        let within = calls.iter().filter(|call| (start..end).contains(&call.at.millis()));
        let cost = within.filter_map(|call| call.cost).fold(Usd::ZERO, |sum, cost| sum + cost);
        curve.push_back((Timestamp::from_millis(end), per_hour(cost, MINUTE_MS)));
    }
    curve
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::tests::seen;

    fn wish(user: &str) -> Wish {
        Wish {
            filters: vec![("user".to_owned(), user.to_owned())],
            by: "model".to_owned(),
            window_ms: 300_000,
            sort: "cost_usd",
            with_history: true,
        }
    }

    #[test]
    fn it_reaches_back_as_far_as_calls_do_and_goes_on_in_steps() {
        let now = 1_795_253_400_000;
        let mut curve = Curve::default();
        curve.add(&wish("ann"), Timestamp::from_millis(now), &seen());
        // Calls of 199 s, a minute for the first point, and the one that was asked.
        let points: Vec<Usd> = curve.points().collect();
        assert_eq!(points.len(), 28);
        // A call a second, of $0.00421 each.
        assert!(points[..27].iter().all(|cost| *cost == "15.156".parse().unwrap()), "{points:?}");
        curve.add(&wish("ann"), Timestamp::from_millis(now + STEP_MS - 1), &seen());
        assert_eq!(curve.points().count(), 28, "too early for a point");
        // The last point moves on with what was asked, and does not stay where it began.
        curve.add(&wish("ann"), Timestamp::from_millis(now + STEP_MS), &seen());
        assert_eq!(curve.points().count(), 29);
        assert!(curve.is_of(&wish("ann").filters) && !curve.is_of(&wish("bob").filters));
        for step in 2..1_000 {
            curve.add(&wish("ann"), Timestamp::from_millis(now + step * STEP_MS), &seen());
        }
        assert_eq!(curve.points().count(), POINTS);
    }
}
