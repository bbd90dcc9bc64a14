//! The thread that owns the write connection: when it works, when it rests, what it does about
//! faults. Owns the pace; knows neither lines nor rows.
//!
//! Invariant: whoever records a call pays at most one wake-up per batch, and never waits for it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::disk;
use super::fault::FeedError;
use super::feed::{self, Feed, OpenCalls, Stored};
use super::health::{Problem, Word};
use super::journal::Journal;

/// How long lines gather before they are moved together. The journal already keeps them, and
/// [`Writer::sync`] cuts the wait short for whoever wants to see them, so this is only about cost:
/// one transaction per row is ten times dearer than one per hundred.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// The same when so many lines come that a batch is much work: of a larger one, calls share more of the
/// pages that are written.
const LARGE_BATCH_INTERVAL: Duration = Duration::from_millis(300);
const MUCH_WORK: Duration = Duration::from_millis(5);

/// The same when so many come that not all of them could wait in memory for so long: what is read from the
/// file again costs more than small batches do.
const TOO_MUCH_WORK: Duration = Duration::from_millis(150);

/// The same while somebody waits for calls whose amendments have not come yet.
const AWAITED_INTERVAL: Duration = Duration::from_millis(5);

/// The longest rest without work: how often changes by others are noticed.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Pauses between attempts while the database cannot be written: doubling from the first to the
/// last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often the room on the disk is looked at.
const DISK_INTERVAL: Duration = Duration::from_secs(1);

/// The handle on the thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
}

/// What the thread has to say about itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// Why nothing arrives in the database; nothing while all is well.
    pub(super) problem: Option<Problem>,
    pub(super) lag: u64,
    /// Since when there has been a lag.
    pub(super) behind_since: Option<Instant>,
    pub(super) unreadable: u64,
    pub(super) stored: Stored,
    /// The files of the journal that have what the database refused.
    pub(super) refused: BTreeSet<String>,
    pub(super) disk_free: Option<u64>,
    pub(super) finished: bool,
}

struct Shared {
    journal: Arc<Journal>,
    /// True while the thread rests without an end in sight, so that a new line must wake it.
    idle: AtomicBool,
    thread: OnceLock<Thread>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Tickets drawn by [`Writer::sync`]; the last for which the journal has been read, and when;
    /// the last that has been served, when all that was read is in the database.
    wanted: u64,
    read: u64,
    read_at: Option<Instant>,
    served: u64,
    /// Tickets drawn by [`Writer::open_calls`], the last that has been answered, and the answer.
    asked: u64,
    answered: u64,
    open: OpenCalls,
    stop: bool,
    report: Report,
}

impl Writer {
    /// Starts the thread on a feed that may have run into a fault already.
    pub(super) fn start(
        feed: Feed,
        journal: Arc<Journal>,
        fault: Option<&FeedError>,
    ) -> std::io::Result<Writer> {
        let shared = Arc::new(Shared {
            journal,
            idle: AtomicBool::new(false),
            thread: OnceLock::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        if let Some(fault) = fault {
            shared.fail(fault, feed.lag(), Instant::now());
        }
        let run = Arc::clone(&shared);
        let thread = thread::Builder::new().name("ledger".into()).spawn(move || {
            // Even a panic must not leave anyone waiting for a thread that is gone.
            let _finish = Finish(&run);
            work(feed, &run);
        })?;
        // Set once, right here.
        let _ = shared.thread.set(thread.thread().clone());
        Ok(Writer { shared })
    }

    /// Says that a line was appended.
    pub(super) fn ring(&self) {
        if self.shared.idle.load(Ordering::SeqCst) && self.shared.idle.swap(false, Ordering::SeqCst)
        {
            self.shared.wake();
        }
    }

    /// Waits until everything appended before is in the database; false when it is not in time.
    pub(super) fn sync(&self, timeout: Duration) -> bool {
        let mut state = self.shared.lock();
        state.wanted += 1;
        let ticket = state.wanted;
        self.shared.wake();
        let waiting = |state: &mut State| state.served < ticket && !state.report.finished;
        let waited = self.shared.changed.wait_timeout_while(state, timeout, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.served >= ticket
    }

    /// The calls that are open, as far as the journal tells by now; nothing if that takes too long.
    pub(super) fn open_calls(&self, timeout: Duration) -> Option<OpenCalls> {
        let mut state = self.shared.lock();
        state.asked += 1;
        let ticket = state.asked;
        self.shared.wake();
        let waiting = |state: &mut State| state.answered < ticket && !state.report.finished;
        let waited = self.shared.changed.wait_timeout_while(state, timeout, waiting);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        (state.answered >= ticket).then(|| state.open.clone())
    }

    pub(super) fn report(&self) -> Report {
        self.shared.lock().report.clone()
    }

    /// Asks for a last pass and the end; false when that is not reached in time.
    pub(super) fn stop(&self, timeout: Duration) -> bool {
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.wake();
        let running = |state: &mut State| !state.report.finished;
        let waited = self.shared.changed.wait_timeout_while(state, timeout, running);
        waited.unwrap_or_else(PoisonError::into_inner).0.report.finished
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// A pass that `began` then has moved all that the journal held then.
    fn succeed(&self, ticket: u64, feed: &Feed, began: Instant) {
        let mut state = self.lock();
        if self.journal.trouble().waiting == 0 {
            // One after the other: those who come later must not make the first wait.
            if state.read == state.served && ticket > state.read {
                (state.read, state.read_at) = (ticket, Some(Instant::now()));
            }
            if feed.held().oldest().is_none_or(|since| Some(since) > state.read_at) {
                state.served = state.read;
            }
        }
        if state.report.problem.take().is_some() {
            tracing::info!("the database is written again");
        }
        state.report.lag = feed.lag();
        state.report.behind_since = (state.report.lag > 0).then_some(began);
        state.report.unreadable = feed.unreadable();
        state.report.stored = feed.stored();
        if state.report.refused != *feed.refused() {
            state.report.refused.clone_from(feed.refused());
        }
        self.changed.notify_all();
    }

    /// Nothing arrives in the database, all that was written before `since` being in it.
    fn fail(&self, error: &FeedError, lag: u64, since: Instant) {
        let mut state = self.lock();
        // Once per spell; the pauses are short.
        if matches!(error, FeedError::Unfinished) {
            tracing::warn!(bytes = lag, "{error}; reports are incomplete until that is done");
        } else if state.report.problem.is_none() {
            tracing::error!(%error, "cannot write the database; records wait in the journal");
        }
        state.report.problem = Some(error.problem());
        state.report.lag = lag;
        state.report.behind_since.get_or_insert(since);
    }

    /// Tells whoever has asked which calls are open.
    fn tell_open(&self, feed: &Feed) {
        let asked = {
            let state = self.lock();
            if state.asked == state.answered {
                return;
            }
            state.asked
        };
        let open = feed.open_calls();
        let mut state = self.lock();
        (state.open, state.answered) = (open, asked);
        self.changed.notify_all();
    }

    fn look_at_disk(&self, database: &Path) {
        let directories = [database.parent(), Some(self.journal.directory())];
        let free = directories.into_iter().flatten().filter_map(disk::free).min();
        self.lock().report.disk_free = free;
    }
}

fn work(mut feed: Feed, shared: &Shared) {
    let mut pause = FIRST_PAUSE;
    let (mut last_good, mut looked) = (Instant::now(), None);
    loop {
        if looked.is_none_or(|last: Instant| last.elapsed() > DISK_INTERVAL) {
            shared.look_at_disk(feed.database());
            looked = Some(Instant::now());
        }
        let (ticket, stopping) = {
            let state = shared.lock();
            (state.wanted, state.stop)
        };
        let taken = shared.journal.taken();
        if stopping {
            feed.hurry();
        }
        let began = Instant::now();
        let passed = feed.pass();
        shared.tell_open(&feed);
        match passed {
            Ok(()) => {
                shared.succeed(ticket, &feed, began);
                (last_good, pause) = (began, FIRST_PAUSE);
                if shared.journal.trouble().waiting > 0 {
                    if !stopping {
                        // The journal's thread writes them in its own time.
                        rest(FIRST_PAUSE, || shared.lock().stop);
                        continue;
                    }
                    if feed.rescue().is_err() {
                        rest(FIRST_PAUSE, || false);
                        continue;
                    }
                }
            }
            Err(error) => {
                shared.fail(&error, feed.lag(), last_good);
                if matches!(error, FeedError::Replaced) {
                    match feed::reopen(&feed) {
                        Ok(anew) => feed = anew,
                        Err(error) => shared.fail(&error, feed.lag(), last_good),
                    }
                }
                // What waits in memory is nowhere else, so it is worth waiting for as long as there is.
                if stopping && shared.journal.trouble().waiting == 0 {
                    break;
                }
                rest(pause, || !stopping && shared.lock().stop);
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        }
        if stopping {
            break;
        }
        let work = began.elapsed();
        idle(shared, taken, feed.held().due());
        let pace = match work {
            _ if is_awaited(shared) => AWAITED_INTERVAL,
            work if work > TOO_MUCH_WORK => BATCH_INTERVAL,
            work if work > MUCH_WORK => LARGE_BATCH_INTERVAL,
            _ => BATCH_INTERVAL,
        };
        rest(pace, || is_urgent(shared));
    }
    feed.close();
}

/// Rests until a line is appended, unless one has been since `taken` were counted, or until something
/// is `due`.
fn idle(shared: &Shared, taken: u64, due: Option<Duration>) {
    shared.idle.store(true, Ordering::SeqCst);
    // In this order: either this sees the new line, or the one who appends it sees `idle`.
    if shared.journal.taken() == taken && !is_urgent(shared) {
        thread::park_timeout(due.unwrap_or(IDLE_INTERVAL).min(IDLE_INTERVAL));
    }
    shared.idle.store(false, Ordering::SeqCst);
}

fn is_urgent(shared: &Shared) -> bool {
    let state = shared.lock();
    let is_wanted = state.wanted > state.served && state.read == state.served;
    state.stop || is_wanted || state.asked > state.answered
}

/// Whether somebody waits for what has been read and is kept back.
fn is_awaited(shared: &Shared) -> bool {
    let state = shared.lock();
    state.read > state.served
}

fn rest(length: Duration, is_over: impl Fn() -> bool) {
    let end = Instant::now() + length;
    while !is_over() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.report.finished = true;
        if thread::panicking() {
            let problem = "the ledger's writer thread has failed; records wait in the journal";
            state.report.problem = Some(Problem::new(Word::LedgerFailed, problem));
            tracing::error!("{problem} until the next start");
        }
        self.0.changed.notify_all();
    }
}
