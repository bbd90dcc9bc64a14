//! What a worker is doing just now, and what it has seen that may never get a row. Owns these figures; each
//! worker has its own, so that no two threads write the same.
//!
//! All is read by others at any time and need not be of one moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::histogram::{Buckets, Histogram};
use super::lock;

/// The classes of statuses that are counted: 1xx to 5xx.
const CLASSES: usize = 5;

/// One worker's figures.
#[derive(Debug)]
pub struct Live {
    upstreams: Box<[Upstream]>,
    /// Errors of tokenmeter's own, by code.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    own: Box<[AtomicU64]>,
    own_nanos: AtomicU64,
}

#[derive(Debug, Default)]
struct Upstream {
    opened: AtomicU64,
    closed: AtomicU64,
    connections: AtomicU64,
    by_class: [AtomicU64; CLASSES],
    /// How the upstream has failed. Rarely touched.
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

/// A call that is open for as long as this exists.
#[derive(Debug)]
pub struct OpenCall {
    live: Arc<Live>,
    upstream: usize,
}

/// What all workers come to.
#[derive(Clone, Debug)]
pub struct LiveFigures {
    /// In the order of their indexes.
    pub upstreams: Vec<UpstreamFigures>,
    /// Errors of tokenmeter's own that clients were sent, by code.
    pub refused: BTreeMap<&'static str, u64>,
    /// tokenmeter's own time of each call.
    pub own: Histogram,
}

/// What one upstream comes to.
#[derive(Clone, Debug, Default)]
pub struct UpstreamFigures {
    pub name: String,
    /// Calls that have been begun since the start.
    pub calls: u64,
    /// Calls that are open now.
    pub open: u64,
    /// Connections that were opened to it.
    pub connections: u64,
    /// Answers by the first digit of their status.
    pub answers: [u64; CLASSES],
    /// Calls that it failed, by the row's word for how.
    pub failures: BTreeMap<&'static str, u64>,
}

impl Live {
    pub(super) fn new(upstreams: usize) -> Live {
        let places = Buckets::Own.bounds().len() + 1;
        Live {
            upstreams: (0..upstreams).map(|_| Upstream::default()).collect(),
            refused: Mutex::default(),
            own: (0..places).map(|_| AtomicU64::new(0)).collect(),
            own_nanos: AtomicU64::new(0),
        }
    }

    /// A call to an upstream begins.
    pub fn open(self: &Arc<Self>, upstream: usize) -> OpenCall {
        count(&self.upstreams[upstream].opened);
        OpenCall { live: Arc::clone(self), upstream }
    }

    /// A connection to an upstream has been opened.
    pub fn connected(&self, upstream: usize) {
        count(&self.upstreams[upstream].connections);
    }

    /// A client was sent an error of tokenmeter's own.
    pub fn refused(&self, code: &'static str) {
        *lock(&self.refused).entry(code).or_default() += 1;
    }

    pub(super) fn add_to(&self, all: &mut LiveFigures) {
        for (one, sum) in self.upstreams.iter().zip(&mut all.upstreams) {
            // First what has closed, so that no more calls seem closed than opened.
            let closed = one.closed.load(Ordering::Acquire);
            let opened = one.opened.load(Ordering::Acquire);
            sum.calls += opened;
            sum.open += opened.saturating_sub(closed);
            sum.connections += one.connections.load(Ordering::Relaxed);
            for (count, sum) in one.by_class.iter().zip(&mut sum.answers) {
                *sum += count.load(Ordering::Relaxed);
            }
            merge(&one.failures, &mut sum.failures);
        }
        merge(&self.refused, &mut all.refused);
        for (count, sum) in self.own.iter().zip(&mut all.own.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        all.own.sum += Duration::from_nanos(self.own_nanos.load(Ordering::Relaxed)).as_secs_f64();
    }
}

impl OpenCall {
    /// The upstream has answered.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(counted) = self.upstream().by_class.get(class) {
            count(counted);
        }
    }

    /// The upstream has failed; `how` is the row's word for it.
    pub fn failed(&self, how: &'static str) {
        *lock(&self.upstream().failures).entry(how).or_default() += 1;
    }

    /// What of the call's time was tokenmeter's own.
    pub fn took(&self, own: Duration) {
        count(&self.live.own[Buckets::Own.place(own.as_secs_f64())]);
        let nanos = u64::try_from(own.as_nanos()).unwrap_or(u64::MAX);
        self.live.own_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn upstream(&self) -> &Upstream {
        &self.live.upstreams[self.upstream]
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.upstream().closed.fetch_add(1, Ordering::Release);
    }
}

impl LiveFigures {
    pub(super) fn new(upstreams: &[String]) -> LiveFigures {
        let named = |name: &String| UpstreamFigures { name: name.clone(), ..Default::default() };
        LiveFigures {
            upstreams: upstreams.iter().map(named).collect(),
            refused: BTreeMap::new(),
            own: Histogram::new(Buckets::Own),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn merge(counts: &Mutex<BTreeMap<&'static str, u64>>, sums: &mut BTreeMap<&'static str, u64>) {
    for (word, count) in lock(counts).iter() {
        *sums.entry(word).or_default() += count;
    }
}
