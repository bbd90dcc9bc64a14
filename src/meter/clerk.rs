//! Writes down what the threads that estimate have found. Owns a thread of its own, of the priority that
//! calls have: one of the lowest could be left waiting with the journal's lock in its hand, and all calls
//! behind it.

use std::fmt;
use std::sync::mpsc::{Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::estimate::Calibration;
use crate::ledger::Ledger;
use crate::record::Record;

/// Entries that may wait. The threads that estimate wait when there are more; calls never do.
const MAX_WAITING: usize = 1024;

/// How often a queue that is full is looked at by who wants to finish.
const FINISH_INTERVAL: Duration = Duration::from_millis(2);

pub(super) struct Clerk(SyncSender<Entry>);

enum Entry {
    Amended(Box<Record>),
    Learned(Box<Calibration>),
    /// Everything before this has been written when it is answered.
    Finish(Sender<()>),
}

impl Clerk {
    pub(super) fn new(ledger: Ledger) -> Clerk {
        let (sender, entries) = sync_channel(MAX_WAITING);
        let spawned = thread::Builder::new().name("clerk".to_owned()).spawn(move || {
            for entry in entries {
                let written = super::guarded(|| match entry {
                    Entry::Amended(record) => ledger.amend(record),
                    Entry::Learned(calibration) => ledger.learned(&calibration),
                    Entry::Finish(done) => drop(done.send(())),
                });
                if written.is_none() {
                    tracing::error!("an estimate could not be written down; a rough one stands");
                }
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to write estimates down; rough ones stand");
        }
        Clerk(sender)
    }

    pub(super) fn amend(&self, record: Box<Record>) {
        self.write(Entry::Amended(record));
    }

    pub(super) fn learn(&self, calibration: Calibration) {
        self.write(Entry::Learned(Box::new(calibration)));
    }

    /// Waits until everything has been written, for no longer than `most`.
    pub(super) fn finish(&self, most: Duration) {
        let deadline = Instant::now() + most;
        let (done, is_done) = channel();
        let mut last = Entry::Finish(done);
        while let Err(TrySendError::Full(entry)) = self.0.try_send(last) {
            last = entry;
            if Instant::now() >= deadline {
                break;
            }
            thread::sleep(FINISH_INTERVAL);
        }
        if is_done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            tracing::warn!("estimates are left unwritten; rough ones stand in their place");
        }
    }

    /// Without its thread there is nobody to write: rough estimates stand.
    fn write(&self, entry: Entry) {
        drop(self.0.send(entry));
    }
}

impl fmt::Debug for Clerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clerk")
    }
}
