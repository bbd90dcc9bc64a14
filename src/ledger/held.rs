//! Calls that have closed with figures which are about to be amended. Owns how long the rows of such
//! calls are kept back, so that a reader meets only the figures that stay; knows no file and no
//! database.
//!
//! Invariant: what is kept here is in the journal, and counts as unread there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::record::{CallId, Record};

/// How long an amendment is waited for. With the time for which lines gather, that is a quarter of a
/// second; without an amendment, the provisional row stands.
const PATIENCE: Duration = Duration::from_millis(150);

/// The calls kept back, and since when.
#[derive(Debug)]
pub(super) struct Held {
    calls: HashMap<CallId, (Box<Record>, Instant), RandomState>,
    patience: Duration,
}

impl Default for Held {
    fn default() -> Held {
        Held { calls: HashMap::default(), patience: PATIENCE }
    }
}

impl Held {
    pub(super) fn keep(&mut self, record: Box<Record>, now: Instant) {
        self.calls.insert(record.id, (record, now));
    }

    /// Lets go of a call whose amendment has come.
    pub(super) fn amended(&mut self, id: &CallId) {
        self.calls.remove(id);
    }

    pub(super) fn contains(&self, id: &CallId) -> bool {
        self.calls.contains_key(id)
    }

    /// Takes out the calls that have waited for long enough.
    pub(super) fn overdue(&mut self) -> impl Iterator<Item = Box<Record>> {
        let patience = self.patience;
        let overdue = self.calls.extract_if(move |_, (_, since)| since.elapsed() >= patience);
        overdue.map(|(_, (record, _))| record)
    }

    /// Takes out all of them.
    pub(super) fn release(&mut self) -> impl Iterator<Item = Box<Record>> {
        self.calls.drain().map(|(_, (record, _))| record)
    }

    /// Since when the call that has waited longest does.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.calls.values().map(|(_, since)| *since).min()
    }

    /// How long until the next one is overdue.
    pub(super) fn due(&self) -> Option<Duration> {
        self.oldest().map(|since| self.patience.saturating_sub(since.elapsed()))
    }

    /// From now on nothing is waited for.
    pub(super) fn hurry(&mut self) {
        self.patience = Duration::ZERO;
    }

    #[cfg(test)]
    pub(super) fn wait_for_ever(&mut self) {
        self.patience = Duration::MAX;
    }
}
