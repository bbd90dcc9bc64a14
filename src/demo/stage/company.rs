//! Which call comes next on the stage, and how it is meant to go. Owns the sessions that are open, and
//! the pace; knows nothing of HTTP.
//!
//! Invariant: the calls of a session come one after another.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use crate::demo::call;
use crate::demo::cast::{JOBS, PEOPLE};
use crate::demo::models::Model;
use crate::demo::random::{Dice, real};
use crate::demo::session::{Plan, Session, Staff};
use crate::demo::{Due, Ids};
use crate::pricing::PriceBook;
use crate::record::{Outcome, Record};

/// Of so many sessions, one is a job's.
const SESSIONS_PER_JOB: u64 = 8;

/// Calls a second at first, while somebody looks for the first time,
const FIRST_PACE: f64 = 3.0;

/// for so long; then half as many after each half-life, down to the last pace. A demo that is left alone
/// must not bury the month before it.
const FIRST_MINUTES: f64 = 3.0;
const HALF_LIFE_MINUTES: f64 = 5.0;
const LAST_PACE: f64 = 0.2;

/// Sessions last as long as they like.
const LONG_MS: i64 = 30 * 86_400_000;

/// Everybody who calls, and what they are at.
#[derive(Debug)]
pub(super) struct Company {
    prices: Arc<PriceBook>,
    staff: Staff,
    pub(super) dice: Dice,
    ids: Ids,
    /// Sessions that wait for their next call, by its time.
    waiting: BinaryHeap<Due<Box<Session>>>,
    begun: u64,
}

/// A call to be made.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) session: Box<Session>,
    pub(super) model: &'static Model,
    /// The row that it would have if the month before had it.
    pub(super) record: Record,
}

impl Company {
    pub(super) fn new(users: usize, prices: Arc<PriceBook>, seed: u64) -> Company {
        Company {
            prices,
            staff: Staff::of_company(users),
            dice: Dice::new(seed, 1),
            ids: Ids::default(),
            waiting: BinaryHeap::new(),
            begun: 0,
        }
    }

    /// How long until the next call, so long after the first.
    pub(super) fn pause(&mut self, played: Duration) -> Duration {
        let even = -(1.0 - self.dice.share()).ln();
        Duration::from_secs_f64(even / pace(played))
    }

    /// The call that comes at a moment: the next of a session that waits, or else the first of a new one.
    pub(super) fn next(&mut self, now: i64) -> Part {
        let is_due = self.waiting.peek().is_some_and(|due| due.at <= now);
        let due = if is_due { self.waiting.pop() } else { None };
        let mut session = due.map_or_else(|| self.begin(now), |due| due.what);
        loop {
            let id = self.ids.next(now, &mut self.dice);
            let record = call::call(id, now, &mut session, &self.prices, &mut self.dice);
            // Nobody can script a stop of the proxy.
            if record.outcome != Outcome::Interrupted {
                return Part { model: session.model, session, record };
            }
        }
    }

    /// Takes back a session whose call has ended.
    pub(super) fn ended(&mut self, mut session: Box<Session>, now: i64) {
        if let Some(at) = session.next_at(now, &mut self.dice) {
            self.begun += 1;
            self.waiting.push(Due { at, order: self.begun, what: session });
        }
    }

    fn begin(&mut self, now: i64) -> Box<Session> {
        let among = if self.dice.below(SESSIONS_PER_JOB) == 0 { &JOBS[..] } else { &PEOPLE[..] };
        let plan = Plan::draw(among, &mut self.dice);
        Box::new(Session::begin(plan, &self.staff, [now, now + LONG_MS], 1.0, &mut self.dice))
    }
}

/// Calls a second.
fn pace(played: Duration) -> f64 {
    let minutes = real(played.as_secs()) / 60.0;
    let half_lives = (minutes - FIRST_MINUTES).max(0.0) / HALF_LIFE_MINUTES;
    (FIRST_PACE * 0.5_f64.powf(half_lives)).max(LAST_PACE)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn it_begins_lively_and_settles() {
        let at = |minutes: u64| pace(Duration::from_secs(minutes * 60));
        assert!((at(0) - 3.0).abs() < 1e-9 && (at(8) - 1.5).abs() < 1e-9);
        assert!((at(600) - 0.2).abs() < 1e-9);
        let calls: f64 = (0..60).map(|minute| at(minute) * 60.0).sum();
        assert!((1_500.0..3_500.0).contains(&calls), "{calls} in the first hour");
    }

    #[test]
    fn calls_of_a_session_follow_one_another() {
        let mut company = Company::new(50, Arc::new(PriceBook::builtin()), 7);
        let (mut now, mut sessions) = (1_790_000_000_000, HashMap::<String, u64>::new());
        for _ in 0..600 {
            now += 400;
            let part = company.next(now);
            assert_eq!(part.record.created_at.millis(), now);
            if let Some(name) = &part.session.name {
                *sessions.entry(name.clone()).or_default() += 1;
            }
            company.ended(part.session, now + 300);
        }
        assert!(sessions.len() > 20 && sessions.values().any(|calls| *calls > 3), "{sessions:?}");
    }
}
