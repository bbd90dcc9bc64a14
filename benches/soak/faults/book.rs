//! What is known of the calls that have not been reckoned with: what their clients had, what the provider got.
//! Owns that memory is bounded: a call is taken out when it is judged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::plan::Client;

/// How long a call may go on when its client has left: what it sent is read, and its answer.
const GOES_ON: Duration = Duration::from_secs(6);

/// How much of a request was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sent {
    #[default]
    Nothing,
    PartOfHead,
    PartOfBody,
    Whole,
}

/// How an answer ended for its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Ending {
    /// There was none.
    #[default]
    None,
    /// Whole, and every byte right.
    Whole,
    /// Broken off, and right as far as it came.
    Cut,
    /// The client did not wait for its end.
    Left,
    /// What must not be.
    Wrong(String),
}

/// A call as its client saw it.
#[derive(Clone, Debug)]
pub(super) struct Had {
    pub(super) did: Client,
    pub(super) sent: Sent,
    /// `x-tokenmeter-id`.
    pub(super) id: Option<String>,
    pub(super) status: Option<u16>,
    /// `x-tokenmeter-error`.
    pub(super) own: Option<String>,
    pub(super) ending: Ending,
    /// The call before it on its connection.
    pub(super) after: Option<u64>,
    pub(super) since: Instant,
    pub(super) until: Instant,
}

impl Had {
    pub(super) fn new(did: Client) -> Had {
        let now = Instant::now();
        Had {
            did,
            sent: Sent::Nothing,
            id: None,
            status: None,
            own: None,
            ending: Ending::None,
            after: None,
            since: now,
            until: now,
        }
    }
}

/// How far the provider's answer was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrote {
    #[default]
    Nothing,
    Part,
    Whole,
}

/// A call as the provider saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Got {
    pub(super) heads: u32,
    /// Requests with all of their body.
    pub(super) wholes: u32,
    pub(super) wrote: Wrote,
    /// The request was not what the client sent.
    pub(super) wrong: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) had: Option<Had>,
    pub(super) got: Got,
}

/// What both sides write down.
#[derive(Default)]
pub(super) struct Book {
    entries: Mutex<BTreeMap<u64, Entry>>,
    /// Stretches of time when nobody listened at the provider's or tokenmeter was down, newest last.
    refusing: Mutex<VecDeque<(Instant, Instant)>>,
    killed: Mutex<VecDeque<(Instant, Instant)>>,
}

impl Book {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn had(&self, number: u64, had: Had) {
        self.entries().entry(number).or_default().had = Some(had);
    }

    pub(super) fn got(&self, number: u64, note: impl FnOnce(&mut Got)) {
        note(&mut self.entries().entry(number).or_default().got);
    }

    /// Calls that ended before this moment, out of the book.
    pub(super) fn take_ended(&self, before: Instant) -> BTreeMap<u64, Entry> {
        let mut entries = self.entries();
        let is_over = |entry: &Entry| entry.had.as_ref().is_some_and(|had| had.until < before);
        entries.extract_if(.., |_, entry| is_over(entry)).collect()
    }

    /// What was never sent by any client, after the end.
    pub(super) fn rest(&self) -> usize {
        self.entries().len()
    }

    pub(super) fn refused(&self, since: Instant) {
        note(&self.refusing, since);
    }

    pub(super) fn killed(&self, since: Instant) {
        note(&self.killed, since);
    }

    pub(super) fn was_refused(&self, had: &Had) -> bool {
        overlaps(&self.refusing, had)
    }

    pub(super) fn was_killed(&self, had: &Had) -> bool {
        overlaps(&self.killed, had)
    }
}

fn note(stretches: &Mutex<VecDeque<(Instant, Instant)>>, since: Instant) {
    let mut stretches = stretches.lock().unwrap_or_else(PoisonError::into_inner);
    stretches.push_back((since, Instant::now()));
    if stretches.len() > 1000 {
        stretches.pop_front();
    }
}

fn overlaps(stretches: &Mutex<VecDeque<(Instant, Instant)>>, had: &Had) -> bool {
    let lasts = if had.did.stays() { Duration::ZERO } else { GOES_ON };
    let stretches = stretches.lock().unwrap_or_else(PoisonError::into_inner);
    stretches.iter().any(|(since, until)| had.since <= *until && *since <= had.until + lasts)
}
