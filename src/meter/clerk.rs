//! Writes down what the threads that estimate have found. Owns a thread of its own, of the priority that
//! calls have: one of the lowest could be left waiting with the journal's lock in its hand, and all calls
//! behind it.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::estimate::Calibration;
use crate::ledger::Ledger;
use crate::record::Record;

pub(super) struct Clerk(Sender<Entry>);

enum Entry {
    Amended(Box<Record>),
    Learned(Box<Calibration>),
    /// Everything before this has been written when it is answered.
    Finish(Sender<()>),
}

impl Clerk {
    pub(super) fn new(ledger: Ledger) -> Clerk {
        let (sender, entries) = channel();
        let spawned = thread::Builder::new().name("clerk".to_owned()).spawn(move || {
            for entry in entries {
                let written = super::guarded(|| match entry {
                    Entry::Amended(record) => ledger.amended(&record),
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

    pub(super) fn amend(&self, record: Record) {
        self.write(Entry::Amended(Box::new(record)));
    }

    pub(super) fn learn(&self, calibration: Calibration) {
        self.write(Entry::Learned(Box::new(calibration)));
    }

    /// Waits until everything has been written, for no longer than `most`.
    pub(super) fn finish(&self, most: Duration) {
        let (done, is_done) = channel();
        self.write(Entry::Finish(done));
        if is_done.recv_timeout(most).is_err() {
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
