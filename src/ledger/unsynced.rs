//! Lines that are in the journal's file and perhaps not yet on the disk. Owns what a round of syncing
//! covers, who waits for it, and the copies from which lines are written again should it fail; knows
//! neither threads nor where files are.
//!
//! A sync that fails may be the only one to say so: the kernel then takes the pages for clean, and the
//! next one succeeds without having written them. So nothing that the failed one was to cover is
//! believed to be on the disk: it is written again, from memory.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// When what was written is brought to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalSync {
    /// When the operating system sees fit.
    #[default]
    None,
    /// Every second.
    Interval,
    /// Before a call's answer ends, and every second.
    Call,
}

/// The longest that a line waits for a round.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Copies that make a round due before its time.
const SOON_BYTES: usize = 8 << 20;

/// A round that takes longer counts as a fault: nobody knows whether it will ever end.
pub(super) const STALLED: Duration = Duration::from_secs(5);

/// How a file is brought to the disk: `fdatasync`, or a test's own.
pub(super) type SyncFile = fn(&File) -> io::Result<()>;

#[derive(Debug)]
pub(super) struct Unsynced {
    mode: JournalSync,
    /// The handles that were written through: an error of the disk is told to those only that were open
    /// when it happened.
    files: Vec<Arc<File>>,
    has_new_file: bool,
    /// Copies, oldest first; the last one is the line numbered `written`.
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Copies given up because there were too many.
    forgotten: u64,
    /// Lines are numbered from one. Up to `synced`, nobody waits any more; somebody waits for `wanted`.
    written: u64,
    synced: u64,
    wanted: u64,
    since: Option<Instant>,
    running: Option<Instant>,
    rounds: u64,
    waiters: BTreeMap<u64, Waker>,
}

/// What is to be brought to the disk at once.
#[derive(Debug)]
pub(super) struct Round {
    files: Vec<Arc<File>>,
    has_new_file: bool,
    upto: u64,
}

/// What a failed round leaves.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) lines: VecDeque<Vec<u8>>,
    pub(super) bytes: usize,
    /// Lines of which there is no copy.
    pub(super) forgotten: u64,
    pub(super) waiters: Vec<Waker>,
}

impl Unsynced {
    pub(super) fn new(mode: JournalSync) -> Unsynced {
        Unsynced {
            mode,
            files: Vec::new(),
            has_new_file: false,
            lines: VecDeque::new(),
            bytes: 0,
            forgotten: 0,
            written: 0,
            synced: 0,
            wanted: 0,
            since: None,
            running: None,
            rounds: 0,
            waiters: BTreeMap::new(),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.mode != JournalSync::None
    }

    /// Another file was opened, and perhaps made.
    pub(super) fn opened(&mut self) {
        self.has_new_file = true;
    }

    /// A line was written. Its number where an answer is to wait for it. At most `limit` bytes of copies
    /// are kept.
    pub(super) fn wrote(
        &mut self,
        file: &Arc<File>,
        line: Vec<u8>,
        ends_a_call: bool,
        limit: usize,
    ) -> Option<u64> {
        if !self.is_on() {
            return None;
        }
        if self.files.last().is_none_or(|last| !Arc::ptr_eq(last, file)) {
            self.files.push(Arc::clone(file));
        }
        self.since.get_or_insert_with(Instant::now);
        self.written += 1;
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > limit {
            let Some(line) = self.lines.pop_front() else { break };
            self.bytes -= line.len();
            self.forgotten += 1;
        }
        let waits = ends_a_call && self.mode == JournalSync::Call;
        if waits {
            self.wanted = self.written;
        }
        waits.then_some(self.written)
    }

    /// Bytes of copies.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the next round is due; nothing while there is nothing to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        let is_urgent = self.wanted > self.synced || self.bytes > SOON_BYTES;
        Some(if is_urgent { since } else { since + INTERVAL })
    }

    pub(super) fn begin(&mut self) -> Round {
        self.since = None;
        self.running = Some(Instant::now());
        Round {
            files: mem::take(&mut self.files),
            has_new_file: mem::take(&mut self.has_new_file),
            upto: self.written,
        }
    }

    /// A round has succeeded: who may go on.
    pub(super) fn done(&mut self, round: &Round) -> Vec<Waker> {
        self.running = None;
        self.rounds += 1;
        self.synced = self.synced.max(round.upto);
        // What was given up was older than what is left, and is safe with it.
        let left = usize::try_from(self.written - self.synced).unwrap_or(usize::MAX);
        while self.lines.len() > left {
            let Some(line) = self.lines.pop_front() else { break };
            self.bytes -= line.len();
        }
        self.forgotten = (left as u64).saturating_sub(self.lines.len() as u64);
        let later = self.waiters.split_off(&(self.synced + 1));
        mem::replace(&mut self.waiters, later).into_values().collect()
    }

    /// A round has failed: all that was written since the last good one is in doubt. Nobody waits any
    /// longer, because calls do not fail with the disk.
    pub(super) fn failed(&mut self) -> Failed {
        self.running = None;
        self.since = None;
        self.files.clear();
        self.has_new_file = true;
        self.synced = self.written;
        Failed {
            lines: mem::take(&mut self.lines),
            bytes: mem::take(&mut self.bytes),
            forgotten: mem::take(&mut self.forgotten),
            waiters: mem::take(&mut self.waiters).into_values().collect(),
        }
    }

    /// True if nobody need wait for a line any more; else `waker` is called when that is so.
    pub(super) fn is_synced(&mut self, number: u64, waker: &Waker) -> bool {
        if number <= self.synced {
            return true;
        }
        self.waiters.insert(number, waker.clone());
        false
    }

    pub(super) fn is_clean(&self) -> bool {
        self.synced == self.written
    }

    /// How long the disk has been silent, where that is too long.
    pub(super) fn stalled(&self) -> Option<Duration> {
        self.running.map(|since| since.elapsed()).filter(|elapsed| *elapsed > STALLED)
    }

    /// Good rounds so far.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }
}

impl Round {
    /// Waits for the disk.
    pub(super) fn sync(&self, directory: &Path, sync_file: SyncFile) -> io::Result<()> {
        self.files.iter().try_for_each(|file| sync_file(file))?;
        if self.has_new_file { sync_directory(directory) } else { Ok(()) }
    }
}

/// Brings the names of new files to the disk, where the platform can.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    fn unsynced(mode: JournalSync) -> (Unsynced, Arc<File>) {
        (Unsynced::new(mode), Arc::new(tempfile::tempfile().unwrap()))
    }

    #[test]
    fn without_syncing_nothing_is_kept_and_nobody_waits() {
        let (mut unsynced, file) = unsynced(JournalSync::None);
        assert_eq!(unsynced.wrote(&file, vec![0; 9], true, LIMIT), None);
        assert!(unsynced.due().is_none() && unsynced.is_clean() && unsynced.bytes() == 0);
    }

    #[test]
    fn a_round_covers_what_was_written_before_it_began() {
        let (mut unsynced, file) = unsynced(JournalSync::Call);
        assert_eq!(unsynced.wrote(&file, vec![0; 9], false, LIMIT), None);
        assert!(unsynced.due().unwrap() > Instant::now());
        assert_eq!(unsynced.wrote(&file, vec![0; 9], true, LIMIT), Some(2));
        assert!(unsynced.due().unwrap() <= Instant::now());
        let round = unsynced.begin();
        assert!(unsynced.due().is_none());
        assert_eq!(unsynced.wrote(&file, vec![0; 7], true, LIMIT), Some(3));
        let waker = Waker::noop();
        assert!(!unsynced.is_synced(2, waker) && !unsynced.is_synced(3, waker));
        assert_eq!(unsynced.done(&round).len(), 1);
        assert!(unsynced.is_synced(2, waker) && !unsynced.is_synced(3, waker));
        assert_eq!((unsynced.bytes(), unsynced.is_clean()), (7, false));
        assert!(unsynced.due().unwrap() <= Instant::now());
        let round = unsynced.begin();
        assert_eq!((round.files.len(), round.upto), (1, 3));
        assert_eq!(unsynced.done(&round).len(), 1);
        assert!(unsynced.is_clean() && unsynced.bytes() == 0);
    }

    #[test]
    fn what_a_failed_round_leaves_is_all_since_the_last_good_one() {
        let (mut unsynced, file) = unsynced(JournalSync::Interval);
        unsynced.wrote(&file, vec![0], false, LIMIT);
        let round = unsynced.begin();
        unsynced.done(&round);
        unsynced.wrote(&file, vec![1], false, LIMIT);
        let _failing = unsynced.begin();
        unsynced.wrote(&file, vec![2], false, LIMIT);
        let failed = unsynced.failed();
        assert_eq!((failed.lines, failed.forgotten), (VecDeque::from([vec![1], vec![2]]), 0));
        assert!(unsynced.is_clean() && unsynced.due().is_none());
    }

    #[test]
    fn copies_are_bounded_and_the_missing_ones_counted() {
        let (mut unsynced, file) = unsynced(JournalSync::Interval);
        for _ in 0..13 {
            unsynced.wrote(&file, vec![0; 10], false, LIMIT);
        }
        let round = unsynced.begin();
        unsynced.wrote(&file, vec![0; 10], false, LIMIT);
        assert_eq!((unsynced.bytes(), unsynced.forgotten), (100, 4));
        unsynced.done(&round);
        assert_eq!((unsynced.bytes(), unsynced.forgotten), (10, 0));
        for _ in 0..13 {
            unsynced.wrote(&file, vec![0; 10], false, LIMIT);
        }
        let failed = unsynced.failed();
        assert_eq!((failed.lines.len(), failed.forgotten, failed.bytes), (10, 4, 100));
    }
}
