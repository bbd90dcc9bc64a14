//! The journal's writing end: one line when a call opens, one when it closes, now and then one more.
//! Owns the files' names, the form of a line, and the queue of lines that could not be written; never
//! reads a line.
//!
//! Invariant: appending never waits for anything but one `write(2)`, and fails only for an opening that
//! may be refused. A line is in the file, or in the queue, or counted as dropped and shouted about.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::handover::{Handed, Handover, Said, Segment};
use super::make_directory;
use super::tail::same_file;
use super::unsynced::{JournalSync, SyncFile, Unsynced, sync_directory};
use crate::estimate::Calibration;
use crate::record::{self, Record};
use crate::units::Timestamp;

/// Memory for lines that cannot be written and for copies of lines that are not on the disk yet, about
/// 100,000 closes. Past it closes are dropped.
const WAITING_BYTES: usize = 64 << 20;

/// Past this much, opens are dropped: an open only matters if a crash follows, and a crash would
/// take the queue with it. And what was learned can be learned again.
const WAITING_BYTES_WITH_OPENS: usize = WAITING_BYTES / 4;

/// How many waiting lines are written before callers are let in again.
const RETRIED_AT_ONCE: usize = 256;

/// Pauses between attempts while the journal cannot be written: doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is written to find out whether writing works where no line waits: blank lines, as long together
/// as lines are, because a disk that is nearly full may still take a byte.
const PROBE: [u8; 4096] = [b'\n'; 4096];

/// Room for a line as most are.
const LINE_GUESS: usize = 1536;

const DAY_MS: i64 = 86_400_000;

/// No line is longer. A call that fetched the results of a batch has a charge for each of its
/// requests: 100,000 of them are some 15 MB, written while no other call can append.
pub(super) const LINE_BYTES: usize = 64 << 20;

/// A line as it is written: an object with one member, of the name of what it is.
pub(super) enum Line<'a> {
    Open(&'a Record),
    Close(&'a Record),
    /// What takes the place of a record that closed before.
    Amend(&'a Record),
    Learned(&'a Calibration),
    /// Closed, with an [`Line::Amend`] about to follow: a second member, `provisional`, says so.
    Provisional(&'a Record),
}

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// It can be done without, should there be no room for it.
    MayGo,
    EndsACall,
    Amends,
}

impl Purpose {
    fn of(line: &Line<'_>) -> Purpose {
        match line {
            Line::Open(_) | Line::Learned(_) => Purpose::MayGo,
            Line::Close(_) | Line::Provisional(_) => Purpose::EndsACall,
            Line::Amend(_) => Purpose::Amends,
        }
    }
}

/// What there is to say about lines that are not in the file, or not on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    pub(super) waiting: usize,
    pub(super) waiting_bytes: usize,
    pub(super) dropped: u64,
    /// Calls that were not let in, since the start.
    pub(super) refused: u64,
    /// Why nothing can be written; nothing while writing works.
    pub(super) error: Option<String>,
    /// Rounds of syncing, since the start.
    pub(super) syncs: u64,
}

/// What the journal's thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Sync,
    Retry,
    Stop,
}

/// The journal of one ledger.
pub(super) struct Journal {
    directory: PathBuf,
    sync_file: SyncFile,
    out: Mutex<Out>,
    /// Says that the journal's thread has something to do, or has ended.
    bell: Condvar,
    /// Lines taken so far, so that the reader can tell cheaply whether there is anything new.
    taken: AtomicU64,
    /// Grows whenever another file is written to, so that the reader knows when to look for it.
    files: AtomicU64,
}

struct Out {
    day: i64,
    file: Option<Arc<File>>,
    /// How long the file is; nobody else writes to it.
    end: u64,
    /// The file ends in the middle of a line, which a newline must end before the next.
    torn: bool,
    /// What was written, for whoever would have to read it otherwise.
    handover: Handover,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    dropped: u64,
    refused: u64,
    /// Why nothing can be written. While there is something, new lines join the queue, and the journal's
    /// thread alone tries.
    fault: Option<Fault>,
    unsynced: Unsynced,
    /// How often another file was opened.
    files: u64,
    keeper: Keeper,
}

struct Fault {
    error: String,
    /// The disk did not take what the file had taken.
    of_sync: bool,
    next_try: Instant,
    pause: Duration,
}

/// What is known of the journal's thread.
#[derive(Debug, PartialEq, Eq)]
enum Keeper {
    Awake,
    AsleepUntil(Option<Instant>),
    Stopping,
    Gone,
}

impl Journal {
    /// Creates the directory and ends what a crash left torn.
    pub(super) fn open(directory: PathBuf) -> io::Result<Journal> {
        make_directory(&directory)?;
        for (_, path) in days(&directory)? {
            // A torn line whose only missing byte is the newline is whole again after this.
            if let Ok((mut file, true)) = open_for_append(&path) {
                let ended = file.write_all(b"\n");
                tracing::warn!(file = %path.display(), ok = ended.is_ok(), "ended a torn line");
            }
        }
        let out = Out {
            day: i64::MIN,
            file: None,
            end: 0,
            torn: false,
            handover: Handover::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            dropped: 0,
            refused: 0,
            fault: None,
            unsynced: Unsynced::new(JournalSync::None),
            files: 0,
            keeper: Keeper::Awake,
        };
        Ok(Journal {
            directory,
            sync_file: File::sync_data,
            out: Mutex::new(out),
            bell: Condvar::new(),
            taken: AtomicU64::new(0),
            files: AtomicU64::new(0),
        })
    }

    /// Has lines brought to the disk, and begins with those of a process that has crashed.
    pub(super) fn synced(self, mode: JournalSync) -> io::Result<Journal> {
        if mode != JournalSync::None {
            for (_, path) in days(&self.directory)? {
                File::open(&path)?.sync_data()?;
            }
            sync_directory(&self.directory)?;
            self.directory.parent().map_or(Ok(()), sync_directory)?;
        }
        self.lock().unsynced = Unsynced::new(mode);
        Ok(self)
    }

    /// Takes a line. Serialises outside the lock.
    pub(super) fn append(&self, line: &Line<'_>) {
        let Ok(bytes) = self.encode(line) else { return };
        let said = match line {
            Line::Open(record) => Some(Said::Open(record.id)),
            _ => None,
        };
        self.take(bytes, Purpose::of(line), said);
    }

    /// Takes the line of a call that has closed. Its number where the end of the call's answer is to wait
    /// until it is on the disk.
    pub(super) fn append_close(&self, record: Box<Record>) -> Option<u64> {
        let bytes = self.encode(&Line::Close(&record)).ok()?;
        self.take(bytes, Purpose::EndsACall, Some(Said::Close(record)))
    }

    /// The same for a record that an amendment is about to replace.
    pub(super) fn append_provisional(&self, record: Box<Record>) -> Option<u64> {
        let bytes = self.encode(&Line::Provisional(&record)).ok()?;
        self.take(bytes, Purpose::EndsACall, Some(Said::Provisional(record)))
    }

    /// Takes the line of a record that takes another's place.
    pub(super) fn append_amend(&self, record: Box<Record>) {
        if let Ok(bytes) = self.encode(&Line::Amend(&record)) {
            self.take(bytes, Purpose::Amends, Some(Said::Amend(record)));
        }
    }

    fn take(&self, bytes: Vec<u8>, purpose: Purpose, said: Option<Said>) -> Option<u64> {
        let mut out = self.lock();
        let (number, left) = out.append(&self.directory, bytes, purpose, said);
        self.took(out);
        // What nobody takes over is freed without the lock.
        drop(left);
        number
    }

    /// What has been written since the last asking, or as much of it as there was room for.
    pub(super) fn handed(&self) -> Vec<Segment> {
        let room = Vec::with_capacity(self.lock().handover.len());
        self.lock().handover.take(room)
    }

    /// Takes the opening line of a call that is not to be sent without it: it is in the file, or it is
    /// nowhere and this says why.
    pub(super) fn admit(&self, record: &Record) -> Result<(), String> {
        let bytes = self.encode(&Line::Open(record)).map_err(|error| error.to_string())?;
        let length = bytes.len();
        let mut out = self.lock();
        let admitted = match out.obstacle() {
            Some(why) => Err(why),
            None => out.write(&self.directory, bytes, false).map(drop).map_err(|(error, _)| {
                out.fail(&error, false);
                error.to_string()
            }),
        };
        match admitted {
            Ok(()) => drop(out.hand_over(length, Said::Open(record.id))),
            Err(_) => out.refused += 1,
        }
        self.took(out);
        admitted
    }

    /// Ends an appending: tells whoever has to do with it.
    fn took(&self, mut out: MutexGuard<'_, Out>) {
        if let Keeper::AsleepUntil(until) = out.keeper
            && out.due().is_some_and(|due| until.is_none_or(|until| due < until))
        {
            out.keeper = Keeper::Awake;
            self.bell.notify_all();
        }
        self.files.store(out.files, Ordering::Relaxed);
        drop(out);
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    fn encode(&self, line: &Line<'_>) -> serde_json::Result<Vec<u8>> {
        encode_within(line, LINE_BYTES).inspect_err(|error| {
            self.lock().dropped += 1;
            tracing::error!(%error, "a record cannot be written as JSON and is lost");
        })
    }

    /// Waits for something to do. For the journal's thread.
    pub(super) fn next_task(&self) -> Task {
        let mut out = self.lock();
        loop {
            let now = Instant::now();
            let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
            if out.keeper == Keeper::Stopping {
                return if out.unsynced.is_clean() { Task::Stop } else { Task::Sync };
            }
            out.keeper = Keeper::Awake;
            if is_due(out.unsynced.due()) {
                return Task::Sync;
            }
            let due = out.due();
            if is_due(due) {
                return Task::Retry;
            }
            out.keeper = Keeper::AsleepUntil(due);
            out = match due {
                Some(due) => {
                    let waited = self.bell.wait_timeout(out, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.bell.wait(out).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Brings to the disk what has been written so far. For the journal's thread.
    pub(super) fn sync(&self) {
        let round = self.lock().unsynced.begin();
        let synced = round.sync(&self.directory, self.sync_file);
        let mut out = self.lock();
        let waiters = match synced {
            Ok(()) => out.unsynced.done(&round),
            Err(error) => out.fail_sync(&error),
        };
        drop(out);
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Tries to write what waits, and finds out whether lines can be written where none waits. True if
    /// they can.
    pub(super) fn retry(&self) -> bool {
        if !self.is_proven() {
            return false;
        }
        loop {
            let mut out = self.lock();
            let written = out.write_waiting(&self.directory, RETRIED_AT_ONCE);
            self.files.store(out.files, Ordering::Relaxed);
            if !written {
                return false;
            }
            if out.waiting.is_empty() {
                out.fault = None;
                return true;
            }
        }
    }

    /// Whether it is worth while to write what waits. After a fault of the disk a byte must reach it
    /// first, or every attempt would leave another copy of all that waits.
    fn is_proven(&self) -> bool {
        let mut out = self.lock();
        let Some(fault) = &out.fault else { return true };
        let probe = match (fault.of_sync, out.waiting.is_empty()) {
            (true, _) => &PROBE[..1],
            (false, true) => &PROBE[..],
            (false, false) => return true,
        };
        let file = match out.put(&self.directory, probe) {
            Ok(file) => file,
            Err(error) => {
                out.fail(&error, false);
                return false;
            }
        };
        if !out.unsynced.is_on() {
            return true;
        }
        drop(out);
        let synced = (self.sync_file)(&file);
        let mut out = self.lock();
        if let Some(fault) = &mut out.fault {
            fault.of_sync = false;
        }
        synced.map_err(|error| out.fail(&error, true)).is_ok()
    }

    /// Whether nobody need wait for a line any more; if not, `waker` is called when that is so.
    pub(super) fn is_synced(&self, number: u64, waker: &Waker) -> bool {
        self.lock().unsynced.is_synced(number, waker)
    }

    /// Ends the journal's thread when it has brought everything to the disk, and waits for that.
    pub(super) fn close(&self, timeout: Duration) {
        let mut out = self.lock();
        if out.keeper == Keeper::Gone {
            return;
        }
        out.keeper = Keeper::Stopping;
        self.bell.notify_all();
        let running = |out: &mut Out| out.keeper != Keeper::Gone;
        drop(self.bell.wait_timeout_while(out, timeout, running));
    }

    /// The journal's thread has ended.
    pub(super) fn closed(&self) {
        self.lock().keeper = Keeper::Gone;
        self.bell.notify_all();
    }

    /// The lines that wait. For the end, when the file cannot take them any more.
    pub(super) fn waiting(&self) -> Vec<u8> {
        self.lock().waiting.iter().flatten().copied().collect()
    }

    /// Lets go of the lines that wait, because they are kept elsewhere.
    pub(super) fn forget_waiting(&self) {
        let mut out = self.lock();
        out.waiting.clear();
        out.waiting_bytes = 0;
    }

    /// Whether the file that is written to, if any, is still the one that its path names.
    pub(super) fn is_current(&self) -> bool {
        let (file, day) = match &*self.lock() {
            Out { file: Some(file), day, .. } => (Arc::clone(file), *day),
            _ => return true,
        };
        match (file.metadata(), fs::metadata(self.directory.join(file_name(day)))) {
            (Ok(mine), Ok(named)) => same_file(&mine, &named),
            _ => false,
        }
    }

    /// Lets go of the current file, so that the next line goes to the one that its path names then. It
    /// is given away with its path, since what was written to it may be found nowhere else.
    pub(super) fn reopen(&self) -> Option<(PathBuf, File)> {
        let mut out = self.lock();
        let path = self.directory.join(file_name(out.day));
        let file = out.file.take()?.try_clone();
        file.ok().map(|file| (path, file))
    }

    /// Writes an opening that was read, and is in no file any more, once more.
    pub(super) fn open_again(&self, line: &str) {
        let mut out = self.lock();
        out.append(&self.directory, format!("{line}\n").into_bytes(), Purpose::MayGo, None);
        self.took(out);
    }

    pub(super) fn trouble(&self) -> Trouble {
        let out = self.lock();
        Trouble {
            waiting: out.waiting.len(),
            waiting_bytes: out.waiting_bytes,
            dropped: out.dropped,
            refused: out.refused,
            error: out.obstacle(),
            syncs: out.unsynced.rounds(),
        }
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    pub(super) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A panic elsewhere cannot leave `Out` in a state worth refusing.
    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out {
    /// The line's number where an answer is to wait for the disk, and what it says where nobody takes that
    /// over.
    fn append(
        &mut self,
        directory: &Path,
        line: Vec<u8>,
        purpose: Purpose,
        said: Option<Said>,
    ) -> (Option<u64>, Option<Said>) {
        if self.fault.is_some() {
            self.wait(line, purpose);
            return (None, said);
        }
        let length = line.len();
        match self.write(directory, line, purpose == Purpose::EndsACall) {
            Ok(number) => (number, said.and_then(|said| self.hand_over(length, said))),
            Err((error, line)) => {
                self.fail(&error, false);
                self.wait(line, purpose);
                (None, said)
            }
        }
    }

    /// Hands over what the last line says, which is so long; gives it back where there is no room.
    fn hand_over(&mut self, length: usize, said: Said) -> Option<Said> {
        let Some(file) = &self.file else { return Some(said) };
        let from = self.end.saturating_sub(length as u64);
        let left = self.handover.note(file, Handed { from, to: self.end, said });
        left.map(|handed| handed.said)
    }

    fn wait(&mut self, line: Vec<u8>, purpose: Purpose) {
        let may_go = purpose == Purpose::MayGo;
        let limit = if may_go { WAITING_BYTES_WITH_OPENS } else { WAITING_BYTES };
        if self.waiting_bytes + self.unsynced.bytes() + line.len() <= limit {
            self.waiting_bytes += line.len();
            self.waiting.push_back(line);
        } else {
            self.dropped += 1;
        }
    }

    /// False when that fails.
    fn write_waiting(&mut self, directory: &Path, at_most: usize) -> bool {
        for _ in 0..at_most {
            let Some(line) = self.waiting.pop_front() else { break };
            let length = line.len();
            // The end of an answer that had to wait for this line has gone down long since.
            if let Err((error, line)) = self.write(directory, line, false) {
                self.waiting.push_front(line);
                self.fail(&error, false);
                return false;
            }
            self.waiting_bytes -= length;
        }
        true
    }

    /// Why no line is taken that must be written.
    fn obstacle(&self) -> Option<String> {
        let stalled = || {
            let seconds = self.unsynced.stalled()?.as_secs();
            Some(format!("the disk has not answered for {seconds} s"))
        };
        self.fault.as_ref().map(|fault| fault.error.clone()).or_else(stalled)
    }

    /// When the journal's thread has something to do.
    fn due(&self) -> Option<Instant> {
        let retry = self.fault.as_ref().map(|fault| fault.next_try);
        [retry, self.unsynced.due()].into_iter().flatten().min()
    }

    fn fail(&mut self, error: &io::Error, of_sync: bool) {
        // The next attempt opens the file anew: the fault may lie in this handle, and opening
        // finds out whether the last line is torn.
        self.file = None;
        let before = self.fault.take();
        let pause = before.as_ref().map_or(FIRST_PAUSE, |fault| fault.pause);
        self.fault = Some(Fault {
            error: error.to_string(),
            of_sync: of_sync || before.is_some_and(|fault| fault.of_sync),
            next_try: Instant::now() + pause,
            pause: (pause * 2).min(LONGEST_PAUSE),
        });
    }

    /// What was to be on the disk joins the queue, before what waits already, to be written again.
    fn fail_sync(&mut self, error: &io::Error) -> Vec<Waker> {
        let failed = self.unsynced.failed();
        // They may be on the disk, but who knows.
        self.dropped += failed.forgotten;
        self.waiting_bytes += failed.bytes;
        let later = mem::replace(&mut self.waiting, failed.lines);
        self.waiting.extend(later);
        self.fail(error, true);
        failed.waiters
    }

    /// Writes a line, or gives it back. Its number where an answer is to wait for the disk.
    fn write(
        &mut self,
        directory: &Path,
        line: Vec<u8>,
        ends_a_call: bool,
    ) -> Result<Option<u64>, (io::Error, Vec<u8>)> {
        match self.put(directory, &line) {
            Ok(file) => {
                let limit = WAITING_BYTES.saturating_sub(self.waiting_bytes);
                Ok(self.unsynced.wrote(&file, line, ends_a_call, limit))
            }
            Err(error) => Err((error, line)),
        }
    }

    /// One `write(2)` into the file of the day.
    fn put(&mut self, directory: &Path, bytes: &[u8]) -> io::Result<Arc<File>> {
        let day = Timestamp::now().millis().div_euclid(DAY_MS);
        let file = match &self.file {
            Some(file) if self.day == day => Arc::clone(file),
            _ => {
                let (file, torn) = open_for_append(&directory.join(file_name(day)))?;
                self.end = file.metadata()?.len();
                let file = Arc::new(file);
                (self.day, self.torn, self.file) = (day, torn, Some(Arc::clone(&file)));
                self.files += 1;
                self.unsynced.opened();
                file
            }
        };
        if self.torn {
            write_whole(&file, &[b"\n", bytes].concat())?;
        } else {
            write_whole(&file, bytes)?;
        }
        self.end += u64::from(self.torn) + bytes.len() as u64;
        self.torn = false;
        Ok(file)
    }
}

/// The journal's files in a directory, oldest first. Files of other names are not ours.
pub(super) fn days(directory: &Path) -> io::Result<Vec<(Date, PathBuf)>> {
    let mut days = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if let Some(day) = path.file_name().and_then(|name| day_of(name.to_str()?)) {
            days.push((day, path));
        }
    }
    days.sort_unstable();
    Ok(days)
}

pub(super) fn day_of(name: &str) -> Option<Date> {
    let text = name.strip_suffix(".jsonl")?;
    if text.len() == 10 { text.parse().ok() } else { None }
}

fn file_name(day: i64) -> String {
    let moment = Timestamp::from_millis(day.saturating_mul(DAY_MS)).calendar();
    format!("{}.jsonl", moment.to_zoned(TimeZone::UTC).date())
}

/// Also tells whether the last line is torn.
fn open_for_append(path: &Path) -> io::Result<(File, bool)> {
    let open = || OpenOptions::new().read(true).append(true).create(true).open(path);
    let mut file = match (open(), path.parent()) {
        // Somebody removed the directory: the journal matters more than why.
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(parent)?;
            open()?
        }
        (opened, _) => opened?,
    };
    let mut last = *b"\n";
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    Ok((file, last != *b"\n"))
}

/// A short write is a failure: what it left is taken back, or else ended by a newline later, and the line
/// written whole.
fn write_whole(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    loop {
        match file.write(bytes) {
            Ok(written) if written == bytes.len() => return Ok(()),
            Ok(written) => {
                take_back(file, bytes, written)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Cuts off what was written of a line. Without its end it has not been read, so nobody misses it; blank
/// lines may have been.
fn take_back(file: &File, bytes: &[u8], written: usize) -> io::Result<()> {
    if bytes.ends_with(b"\n\n") {
        return Ok(());
    }
    let now = file.metadata()?.len();
    file.set_len(now.saturating_sub(written as u64))
}

/// A line that would be too long to be read goes without its charges: a row that counts again what it
/// fetched again is better than none.
fn encode_within(line: &Line<'_>, limit: usize) -> serde_json::Result<Vec<u8>> {
    let bytes = encode(line)?;
    let record = match line {
        Line::Close(record) | Line::Amend(record) | Line::Provisional(record) => *record,
        Line::Open(_) | Line::Learned(_) => return Ok(bytes),
    };
    let charges = record.charges.len();
    if bytes.len() <= limit || charges == 0 {
        return Ok(bytes);
    }
    tracing::warn!(id = %record.id, charges, "charges are too many to be kept");
    let bare = Record { charges: Vec::new(), ..record.clone() };
    encode(&match line {
        Line::Amend(_) => Line::Amend(&bare),
        Line::Provisional(_) => Line::Provisional(&bare),
        _ => Line::Close(&bare),
    })
}

pub(super) fn encode(line: &Line<'_>) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(LINE_GUESS);
    let mut around = |before: &str, record, after: &str| {
        bytes.extend_from_slice(before.as_bytes());
        record::json::write(record, &mut bytes)?;
        bytes.extend_from_slice(after.as_bytes());
        Ok(())
    };
    match line {
        Line::Open(record) => around("{\"open\":", record, "}"),
        Line::Close(record) => around("{\"close\":", record, "}"),
        Line::Amend(record) => around("{\"amend\":", record, "}"),
        Line::Provisional(record) => around("{\"close\":", record, ",\"provisional\":true}"),
        Line::Learned(learned) => {
            bytes.extend_from_slice(b"{\"learned\":");
            serde_json::to_writer(&mut bytes, learned)?;
            bytes.push(b'}');
            Ok(())
        }
    }?;
    // A provider's usage object may be spread over lines. In valid JSON a newline byte only ever
    // stands between tokens, where a space means the same.
    while let Some(at) = memchr::memchr(b'\n', &bytes) {
        bytes[at] = b' ';
    }
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::tests::call;

    fn lines(directory: &Path) -> Vec<String> {
        let files = days(directory).unwrap();
        let read = |(_, path): &(Date, PathBuf)| fs::read_to_string(path).unwrap();
        files.iter().flat_map(|f| read(f).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn a_line_is_one_line_whatever_the_provider_sent() {
        let mut record = call(0);
        let spread = "{\n  \"prompt_tokens\": 3\n}".to_owned();
        record.usage_json = Some(serde_json::value::RawValue::from_string(spread).unwrap());
        record.error = Some("two\nlines".to_owned());
        let text = String::from_utf8(encode(&Line::Close(&record)).unwrap()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.ends_with("}\n") && text.contains(r"two\nlines"));
    }

    #[test]
    fn a_row_matters_more_than_what_it_is_charged_for() {
        let mut record = call(0);
        let (usage, cost_usd) = (crate::usage::Usage::default(), None);
        record.charges.push(record::Charge { key: "k".repeat(99), fetched: true, usage, cost_usd });
        let whole = encode_within(&Line::Amend(&record), LINE_BYTES).unwrap();
        assert_eq!(encode_within(&Line::Amend(&record), whole.len()).unwrap(), whole);
        let bare = encode_within(&Line::Amend(&record), whole.len() - 1).unwrap();
        assert!(bare.starts_with(br#"{"amend":{"id":"#) && bare.len() < whole.len() - 99);
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let today = Timestamp::now().millis().div_euclid(DAY_MS);
        fs::write(directory.path().join(file_name(today)), r#"{"close":{"id""#).unwrap();
        let journal = Journal::open(directory.path().to_owned()).unwrap();
        journal.append(&Line::Open(&call(0)));
        let lines = lines(directory.path());
        assert_eq!(lines[0], r#"{"close":{"id""#);
        assert!(lines[1].starts_with(r#"{"open":{"id":"#));
    }

    #[test]
    fn lines_that_cannot_be_written_wait_and_are_written_later() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("journal");
        let journal = Journal::open(directory.clone()).unwrap();
        // A file where the directory was: nothing can be opened in it.
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "").unwrap();
        for _ in 0..1000 {
            journal.append(&Line::Close(&call(0)));
        }
        let trouble = journal.trouble();
        assert_eq!((trouble.waiting, trouble.dropped), (1000, 0));
        assert!(trouble.error.is_some());
        fs::remove_file(&directory).unwrap();
        journal.append(&Line::Close(&call(0)));
        journal.retry();
        assert_eq!(lines(&directory).len(), 1001);
        let trouble = journal.trouble();
        assert!(trouble.waiting == 0 && trouble.error.is_none());
    }

    #[test]
    fn the_queue_is_bounded_and_what_it_drops_is_counted() {
        let mut record = call(0);
        record.error = Some("x".repeat(1 << 20));
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("journal");
        let journal = Journal::open(directory.clone()).unwrap();
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "").unwrap();
        for _ in 0..20 {
            journal.append(&Line::Open(&record));
        }
        assert_eq!(journal.trouble().waiting, 15);
        for _ in 0..60 {
            journal.append(&Line::Close(&record));
        }
        assert_eq!((journal.trouble().waiting, journal.trouble().dropped), (63, 17));
    }

    fn with_a_file_for_a_directory(home: &tempfile::TempDir) -> (PathBuf, Journal) {
        let directory = home.path().join("journal");
        let journal = Journal::open(directory.clone()).unwrap();
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "").unwrap();
        (directory, journal)
    }

    #[test]
    fn an_opening_that_cannot_be_written_is_refused_and_is_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let (directory, journal) = with_a_file_for_a_directory(&home);
        for _ in 0..2 {
            assert!(!journal.admit(&call(1)).unwrap_err().is_empty());
        }
        let trouble = journal.trouble();
        assert_eq!((trouble.waiting, trouble.refused), (0, 2));
        assert!(!journal.retry());
        fs::remove_file(&directory).unwrap();
        // Nothing waits that could show it, and yet the end of the fault is found.
        assert!(journal.retry() && journal.trouble().error.is_none());
        journal.admit(&call(2)).unwrap();
        let lines = lines(&directory);
        let written: Vec<_> = lines.iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(written.len(), 1);
        assert!(written[0].contains(&call(2).id.to_string()[..8]), "{written:?}");
    }

    #[test]
    fn a_line_that_fits_in_part_only_leaves_no_part() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "whole\n{\"open\"").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        take_back(&file, b"{\"open\":{}}\n", 7).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\n");
        // The reader may have passed these.
        take_back(&file, &PROBE, 3).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\n");
    }

    fn broken_disk(_: &File) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(5))
    }

    #[test]
    fn what_a_failed_sync_was_to_cover_is_written_again() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("journal");
        let journal = Journal::open(directory.clone()).unwrap();
        let mut journal = journal.synced(JournalSync::Call).unwrap();
        journal.append(&Line::Open(&call(1)));
        journal.sync();
        journal.sync_file = broken_disk;
        let number = journal.append_close(Box::new(call(1))).unwrap();
        assert!(!journal.is_synced(number, Waker::noop()));
        journal.sync();
        // Nobody waits for a disk that is broken.
        assert!(journal.is_synced(number, Waker::noop()));
        journal.append(&Line::Close(&call(2)));
        assert_eq!((journal.trouble().waiting, journal.trouble().syncs), (2, 1));
        assert!(journal.admit(&call(3)).unwrap_err().contains("os error 5"));
        let before = lines(&directory).len();
        for _ in 0..5 {
            assert!(!journal.retry());
        }
        // Attempts in vain leave blank lines, not copies.
        assert!(lines(&directory)[before..].iter().all(String::is_empty));
        journal.sync_file = File::sync_data;
        assert!(journal.retry() && journal.trouble().error.is_none());
        let lines = lines(&directory);
        let whole: Vec<_> = lines.iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[1], whole[2]);
        journal.sync();
        assert_eq!(journal.trouble().syncs, 2);
    }
}
