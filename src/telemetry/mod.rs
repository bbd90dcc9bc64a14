//! What monitoring is told: figures of all calls since the start, in memory. Owns which calls are counted
//! together, and that this stays few; knows no format in which figures are shown.
//!
//! | file | owns |
//! | --- | --- |
//! | `label` | by what calls may be told apart |
//! | `sets` | label sets, few of them however many values callers send |
//! | `calls` | figures of what is in the ledger, by label set |
//! | `histogram` | how often something took how long |
//! | `live` | what each worker is doing just now, and what never gets a row |
//!
//! Two kinds of figures. What the ledger has (calls, tokens, cost, durations) is counted on its thread once
//! it has it, so that metrics and reports agree. What happens just now (open calls, failures of upstreams, our
//! own time) each worker counts for itself, so that it can be seen while the ledger is in trouble.
//!
//! Invariant: memory and output are bounded whatever callers and providers send.

mod calls;
mod histogram;
mod label;
mod live;
mod sets;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use calls::{CallFigures, Calls, Latency, Told};
pub use histogram::{Buckets, Histogram};
pub use label::{Label, UnknownLabel};
pub use live::{Live, LiveFigures, OpenCall, UpstreamFigures};

use crate::ledger::Watcher;
use crate::record::Record;

/// What a telemetry needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By what calls are told apart.
    pub labels: Vec<Label>,
    /// Label sets at most; what comes later is counted under `other`.
    pub sets: usize,
    /// The upstreams' names, in the order of their indexes.
    pub upstreams: Vec<String>,
}

/// The handle on all figures; clones share them.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    upstreams: Vec<String>,
    calls: Mutex<Calls>,
    live: Mutex<Vec<Arc<Live>>>,
}

impl Telemetry {
    pub fn new(settings: Settings) -> Telemetry {
        let Settings { labels, sets, upstreams } = settings;
        let calls = Mutex::new(Calls::new(labels, sets));
        Telemetry(Arc::new(Inner { upstreams, calls, live: Mutex::default() }))
    }

    /// For the ledger: what counts its calls.
    pub fn watcher(&self) -> Box<dyn Watcher> {
        Box::new(Counting(self.clone()))
    }

    /// For one worker: what it counts in.
    pub fn worker(&self) -> Arc<Live> {
        let live = Arc::new(Live::new(self.0.upstreams.len()));
        lock(&self.0.live).push(Arc::clone(&live));
        live
    }

    /// What the ledger has by now, by label set: a copy, because whoever reads it takes longer than the
    /// ledger's thread should wait.
    pub fn calls(&self) -> Calls {
        lock(&self.0.calls).clone()
    }

    /// What all workers are doing and have done.
    pub fn live(&self) -> LiveFigures {
        let mut all = LiveFigures::new(&self.0.upstreams);
        for live in lock(&self.0.live).iter() {
            live.add_to(&mut all);
        }
        all
    }
}

/// Counts what it hears from the ledger.
#[derive(Debug)]
struct Counting(Telemetry);

impl Watcher for Counting {
    fn recorded(&mut self, record: &Record) {
        lock(&self.0.0.calls).recorded(record);
    }

    fn corrected(&mut self, before: &Record, after: &Record) {
        lock(&self.0.0.calls).corrected(before, after);
    }
}

/// Whoever panicked while counting has left figures that are good enough to go on with.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
