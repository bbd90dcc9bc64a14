//! The thread that keeps the journal: brings lines to the disk and, while they cannot be written, tries
//! again whether or not calls come. Owns the pace and what is said in the log; the lines are the
//! journal's.
//!
//! Invariant: only this thread waits for the disk. Whoever records a call never does.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::journal::{Journal, Task};
use super::shouts::{Shout, Shouts};

/// How often the last lines are tried again while tokenmeter stops.
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// A panic is a fault of ours, and may come again at once.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// Starts the thread. It ends with [`Journal::close`].
pub(super) fn start(journal: &Arc<Journal>) -> std::io::Result<()> {
    let journal = Arc::clone(journal);
    let mut shouts = Shouts::default();
    thread::Builder::new().name("journal".into()).spawn(move || {
        while catch_unwind(AssertUnwindSafe(|| turn(&journal, &mut shouts))).unwrap_or_else(|_| {
            tracing::error!("the journal's thread has stumbled and goes on");
            thread::sleep(PAUSE_AFTER_PANIC);
            true
        }) {}
        journal.closed();
    })?;
    Ok(())
}

/// Waits for the next thing to do, and does it. False at the end.
fn turn(journal: &Journal, shouts: &mut Shouts) -> bool {
    match journal.next_task() {
        Task::Sync => journal.sync(),
        Task::Retry => {
            shout(journal, shouts);
            journal.retry();
            shout(journal, shouts);
        }
        Task::Stop => return false,
    }
    true
}

fn shout(journal: &Journal, shouts: &mut Shouts) {
    let trouble = journal.trouble();
    let error = trouble.error.as_deref().unwrap_or_default();
    let (waiting, dropped, refused) = (trouble.waiting, trouble.dropped, trouble.refused);
    while let Some(shout) = shouts.next(Instant::now(), trouble.error.is_some(), dropped) {
        match shout {
            Shout::Begun => {
                tracing::error!(%error, "cannot write the journal; records wait in memory");
            }
            Shout::GoesOn => tracing::error!(
                %error,
                waiting,
                dropped,
                refused,
                "the journal still cannot be written"
            ),
            Shout::Lost(lost) => tracing::error!(
                lost,
                dropped,
                "RECORDS LOST: the journal cannot be written, and its queue in memory is full"
            ),
            Shout::Over => tracing::info!(dropped, refused, "the journal can be written again"),
        }
    }
}

/// Tries until the deadline to write what waits in memory, for it goes with the process.
pub(super) fn settle(journal: &Journal, deadline: Instant) {
    while !journal.retry() && Instant::now() < deadline {
        thread::sleep(LAST_PAUSE);
    }
}

/// Whether what a call's closing line says is as safe as `journal_sync` asks for. The end of the call's
/// answer waits for it.
#[derive(Default)]
pub struct Kept(Option<(Arc<Journal>, u64)>);

impl Kept {
    pub(super) fn new(journal: &Arc<Journal>, number: Option<u64>) -> Kept {
        Kept(number.map(|number| (Arc::clone(journal), number)))
    }

    /// Resolves when the line is safe, or when the disk has failed: then it waits in memory to be written
    /// again, and nobody waits for it.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waits =
            |(journal, number): &(Arc<Journal>, u64)| !journal.is_synced(*number, cx.waker());
        if self.0.as_ref().is_some_and(waits) {
            return Poll::Pending;
        }
        self.0 = None;
        Poll::Ready(())
    }

    /// Known to be safe.
    pub fn is_safe(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.0.as_ref().map(|(_, number)| number)).finish()
    }
}
