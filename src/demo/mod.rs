//! Calls that nobody made: what the ledger of a company of some thousand people looks like, for
//! demonstrations and measurements.
//!
//! | file | owns |
//! | --- | --- |
//! | `cast`, `models` | who calls for what; what answers |
//! | `clock` | the rhythm of days, weeks and months |
//! | `session` | what the calls of a session have in common |
//! | `call`, `ending` | how one call goes, and how it ends |
//! | `account`, `wording` | what it used and costs; the usage object in the provider's words |
//! | `random` | chance |
//! | `stage` | the same company as callers of a proxy, and a provider that answers them |
//!
//! Invariant: the same [`Settings`] give the same calls; every row could be one that the proxy wrote. The
//! company, who is there and in which team, is the same for every seed.

mod account;
mod call;
mod cast;
mod clock;
mod ending;
mod models;
mod random;
mod session;
pub mod stage;
#[cfg(test)]
mod tests;
mod wording;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use cast::{JOBS, Operation, PEOPLE};
use clock::{Clock, NIGHT, OFFICE};
use random::{Dice, real};
use session::{Plan, Session, Staff};

use crate::pricing::PriceBook;
use crate::record::{CallId, Record};
use crate::units::Timestamp;

/// Of so many calls, one is made by a job.
const CALLS_PER_JOB_CALL: u64 = 6;

/// What calls to make.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    /// Exactly so many.
    pub calls: u64,
    /// All begin from this moment on,
    pub since: Timestamp,
    /// and before this one, which is later.
    pub until: Timestamp,
    /// How many people there are, of which not all need have made a call.
    pub users: usize,
    /// Where they work.
    pub zone: TimeZone,
}

/// Gives calls in the order in which they end, as a ledger gets them; so they begin nearly in order.
#[derive(Debug)]
pub struct Demo {
    prices: Arc<PriceBook>,
    staff: Staff,
    dice: Dice,
    ids: Ids,
    until: i64,
    people: Shift,
    jobs: Shift,
    /// Sessions that have calls left, by the time of the next one.
    sessions: BinaryHeap<Due<Box<Session>>>,
    /// Calls that have begun, by their end.
    running: BinaryHeap<Due<Box<Record>>>,
    begun: u64,
    left: u64,
}

/// Sessions of one kind that are yet to begin.
#[derive(Debug)]
struct Shift {
    among: &'static [(u64, &'static Operation)],
    plans: Dice,
    clock: Clock,
    jitter: Dice,
    sessions: u64,
    begun: u64,
    calls_left: u64,
    /// When the next one begins.
    next: Option<i64>,
}

/// Something at its time; in a heap, the earliest is on top, and the first of those of one time.
#[derive(Debug)]
struct Due<T> {
    at: i64,
    order: u64,
    what: T,
}

/// Ids as tokenmeter gives them, which ascend within a millisecond.
#[derive(Debug, Default)]
struct Ids {
    at: i64,
    counter: u64,
}

impl Demo {
    /// Calls priced by this table, of which the built-in one knows most models. A window that is empty
    /// or runs backwards is taken for one of a millisecond.
    pub fn new(settings: &Settings, prices: Arc<PriceBook>) -> Demo {
        let since = settings.since.millis();
        let until = settings.until.millis().max(since + 1);
        let window = [since, until].map(Timestamp::from_millis);
        let of = |stream| Dice::new(settings.seed, stream);
        let job_calls = settings.calls / CALLS_PER_JOB_CALL;
        let shift = |among, calls, rhythm, stream| {
            let clock = Clock::new(window, rhythm, &settings.zone, &mut of(stream));
            Shift::new(among, calls, clock, [of(stream + 1), of(stream + 2)])
        };
        Demo {
            prices,
            staff: Staff::of_company(settings.users),
            dice: of(1),
            ids: Ids::default(),
            until,
            people: shift(&PEOPLE, settings.calls - job_calls, &OFFICE, 2),
            jobs: shift(&JOBS, job_calls, &NIGHT, 5),
            sessions: BinaryHeap::new(),
            running: BinaryHeap::new(),
            begun: 0,
            left: settings.calls,
        }
    }

    /// When the next call begins.
    fn next_at(&self) -> Option<i64> {
        let session = self.sessions.peek().map(|due| due.at);
        [session, self.people.next, self.jobs.next].into_iter().flatten().min()
    }

    /// Makes the call that begins at `at`, and puts it among those that run.
    fn begin(&mut self, at: i64) {
        let mut session = match self.sessions.peek() {
            Some(due) if due.at == at => self.sessions.pop().expect("it has been looked at").what,
            _ => {
                let is_job = self.jobs.next == Some(at);
                let shift = if is_job { &mut self.jobs } else { &mut self.people };
                let (plan, progress) = shift.begin();
                let span = [at, self.until];
                Box::new(Session::begin(plan, &self.staff, span, progress, &mut self.dice))
            }
        };
        let id = self.ids.next(at, &mut self.dice);
        let record = call::call(id, at, &mut session, &self.prices, &mut self.dice);
        let took = i64::try_from(record.duration_ms.unwrap_or_default()).unwrap_or_default();
        let ended = at + took;
        self.begun += 1;
        self.running.push(Due { at: ended, order: self.begun, what: Box::new(record) });
        if let Some(at) = session.next_at(ended, &mut self.dice) {
            self.sessions.push(Due { at, order: self.begun, what: session });
        }
    }
}

impl Iterator for Demo {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            let ended = self.running.peek().map(|due| due.at);
            match (ended, self.next_at()) {
                (Some(ended), Some(at)) if at < ended => self.begin(at),
                (None, Some(at)) => self.begin(at),
                (None, None) => return None,
                (Some(_), _) => {
                    self.left -= 1;
                    return self.running.pop().map(|due| *due.what);
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl Shift {
    fn new(
        among: &'static [(u64, &'static Operation)],
        calls: u64,
        clock: Clock,
        [plans, jitter]: [Dice; 2],
    ) -> Shift {
        // The plans are drawn twice: once to learn how many sessions there are, so that they can be
        // spread over the window.
        let (mut drawn, mut sessions, mut planned) = (plans.clone(), 0, 0);
        while planned < calls {
            planned += Plan::draw(among, &mut drawn).calls;
            sessions += 1;
        }
        let mut shift = Shift {
            among,
            plans,
            clock,
            jitter,
            sessions,
            begun: 0,
            calls_left: calls,
            next: None,
        };
        shift.look_ahead();
        shift
    }

    /// The next session's plan, and what share of them all began before.
    fn begin(&mut self) -> (Plan, f64) {
        let mut plan = Plan::draw(self.among, &mut self.plans);
        plan.calls = plan.calls.min(self.calls_left);
        self.calls_left -= plan.calls;
        let progress = real(self.begun) / real(self.sessions);
        self.begun += 1;
        self.look_ahead();
        (plan, progress)
    }

    fn look_ahead(&mut self) {
        self.next = (self.begun < self.sessions).then(|| {
            let share = (real(self.begun) + self.jitter.share()) / real(self.sessions);
            self.clock.moment(share)
        });
    }
}

impl Ids {
    /// A `UUIDv7`: 48 bits of time, a counter of 42 that begins anywhere in its lower half, 32 of chance.
    fn next(&mut self, at: i64, dice: &mut Dice) -> CallId {
        let bits = dice.bits();
        if at == self.at {
            self.counter += 1;
        } else {
            (self.at, self.counter) = (at, dice.bits() >> 23);
        }
        let time = u128::from(at.unsigned_abs() & 0xffff_ffff_ffff);
        let (high, low) = (u128::from(self.counter >> 30), u128::from(self.counter & 0x3fff_ffff));
        let id = time << 80 | 7 << 76 | high << 64 | 2 << 62 | low << 32 | u128::from(bits >> 32);
        CallId::from_bytes(id.to_be_bytes())
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Due<T>) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Due<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Due<T>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Due<T> {}
