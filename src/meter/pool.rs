//! The threads on which estimates are made. Owns how many there are and how much may wait for them.
//!
//! Invariant: handing a job over never waits. A job that does not fit is given back undone.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thread_priority::{ThreadPriority, set_current_thread_priority};

/// Jobs that may wait. What they hold is bounded by the budget of captured prompts.
const MAX_WAITING: usize = 4096;

/// How often a pool that is to finish is looked at.
const FINISH_INTERVAL: Duration = Duration::from_millis(2);

type Job = Box<dyn FnOnce() + Send>;

pub(super) struct Pool {
    jobs: Mutex<Option<SyncSender<Job>>>,
    counted: Arc<Counted>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What has become of jobs.
#[derive(Debug, Default)]
struct Counted {
    waiting: AtomicUsize,
    left_undone: AtomicU64,
}

impl Pool {
    /// One thread for every four cores, of the lowest priority: calls come first.
    pub(super) fn new() -> Pool {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (sender, receiver) = sync_channel::<Job>(MAX_WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        let counted = Arc::<Counted>::default();
        let threads = (0..cores.div_ceil(4))
            .filter_map(|index| {
                let (receiver, counted) = (Arc::clone(&receiver), Arc::clone(&counted));
                let name = format!("estimate-{index}");
                let spawned =
                    thread::Builder::new().name(name).spawn(move || work(&receiver, &counted));
                spawned
                    .inspect_err(|error| tracing::error!(%error, "no thread to estimate on"))
                    .ok()
            })
            .collect();
        Pool { jobs: Mutex::new(Some(sender)), counted, threads: Mutex::new(threads) }
    }

    /// Hands a job over; false if it has to be left undone.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.counted.waiting.fetch_add(1, Ordering::Relaxed);
        let taken = jobs.as_ref().is_some_and(|jobs| jobs.try_send(Box::new(job)).is_ok());
        if !taken {
            self.counted.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counted.left_undone.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Jobs that wait or are being done.
    pub(super) fn waiting(&self) -> usize {
        self.counted.waiting.load(Ordering::Relaxed)
    }

    /// Jobs that were given back undone, since the start.
    pub(super) fn left_undone(&self) -> u64 {
        self.counted.left_undone.load(Ordering::Relaxed)
    }

    /// Takes no more jobs and lets those that wait be done, for no longer than `most`.
    pub(super) fn finish(&self, most: Duration) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Instant::now() + most;
        while threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= deadline {
                tracing::warn!("estimates are left unfinished; rough ones stand in their place");
                return;
            }
            thread::sleep(FINISH_INTERVAL);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, counted: &Counted) {
    if let Err(error) = set_current_thread_priority(ThreadPriority::Min) {
        tracing::debug!(?error, "estimates run at the priority of calls");
    }
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if super::guarded(job).is_none() {
            tracing::error!("an estimate could not be made; a rough one stands in its place");
        }
        counted.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_that_was_taken_is_done_even_if_one_panics() {
        let pool = Pool::new();
        let done = Arc::new(AtomicUsize::new(0));
        assert!(pool.run(|| panic!("on purpose, in a test")));
        for _ in 0..100 {
            let done = Arc::clone(&done);
            assert!(pool.run(move || {
                done.fetch_add(1, Ordering::Relaxed);
            }));
        }
        pool.finish(Duration::from_mins(1));
        assert_eq!(done.load(Ordering::Relaxed), 100);
        assert!(!pool.run(|| {}));
    }
}
