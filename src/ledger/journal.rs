//! The journal's writing end: one line when a call opens, one when it closes, now and then one more.
//! Owns the files' names, the form of a line, and the queue of lines that could not be written; never
//! reads a line.
//!
//! Invariant: appending never fails and never waits for anything but one `write(2)`. A line is in
//! the file, or in the queue, or counted as dropped and shouted about.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::tail::same_file;
use crate::estimate::Calibration;
use crate::record::Record;
use crate::units::Timestamp;

/// Memory for lines that cannot be written, about 100,000 closes. Past it closes are dropped.
const WAITING_BYTES: usize = 64 << 20;

/// Past this much, opens are dropped: an open only matters if a crash follows, and a crash would
/// take the queue with it. And what was learned can be learned again.
const WAITING_BYTES_WITH_OPENS: usize = WAITING_BYTES / 4;

/// How many waiting lines a caller writes besides its own when a fault ends; the writer thread does
/// the rest, as no call should pay for the others.
const RETRIED_BY_A_CALL: usize = 16;

/// How many waiting lines the writer thread writes before it lets the callers in again.
const RETRIED_AT_ONCE: usize = 256;

const DAY_MS: i64 = 86_400_000;

/// No line is longer. A call that fetched the results of a batch has a charge for each of its
/// requests: 100,000 of them are some 15 MB, written while no other call can append.
pub(super) const LINE_BYTES: usize = 64 << 20;

/// A line as it is written.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line<'a> {
    Open(&'a Record),
    Close(&'a Record),
    /// What takes the place of a record that closed before.
    Amend(&'a Record),
    Learned(&'a Calibration),
    /// Closed, with an [`Line::Amend`] about to follow.
    #[serde(untagged)]
    Provisional(Provisional<'a>),
}

/// A close line with a second member.
#[derive(Serialize)]
pub(super) struct Provisional<'a> {
    close: &'a Record,
    provisional: bool,
}

impl<'a> Line<'a> {
    pub(super) fn provisional(record: &'a Record) -> Line<'a> {
        Line::Provisional(Provisional { close: record, provisional: true })
    }
}

/// What there is to say about lines that are not in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    pub(super) waiting: usize,
    pub(super) dropped: u64,
    /// Why the last attempt to write failed; nothing while writing works.
    pub(super) error: Option<String>,
}

/// The journal of one ledger.
pub(super) struct Journal {
    directory: PathBuf,
    out: Mutex<Out>,
    /// Lines taken so far, so that the reader can tell cheaply whether there is anything new.
    taken: AtomicU64,
    /// Grows whenever another file is written to, so that the reader knows when to look for it.
    files: AtomicU64,
}

struct Out {
    day: i64,
    file: Option<File>,
    /// The file ends in the middle of a line, which a newline must end before the next.
    torn: bool,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    dropped: u64,
    error: Option<String>,
}

impl Journal {
    /// Creates the directory and ends what a crash left torn.
    pub(super) fn open(directory: PathBuf) -> io::Result<Journal> {
        fs::create_dir_all(&directory)?;
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
            torn: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            dropped: 0,
            error: None,
        };
        Ok(Journal {
            directory,
            out: Mutex::new(out),
            taken: AtomicU64::new(0),
            files: AtomicU64::new(0),
        })
    }

    /// Takes a line. Serialises outside the lock.
    pub(super) fn append(&self, line: &Line<'_>) {
        let bytes = match encode_within(line, LINE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.lock().dropped += 1;
                tracing::error!(%error, "a record cannot be written as JSON and is lost");
                return;
            }
        };
        let mut out = self.lock();
        let may_go = matches!(line, Line::Open(_) | Line::Learned(_));
        let files = out.append(&self.directory, bytes, may_go);
        drop(out);
        self.files.fetch_add(files, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    /// Tries to write what waits. For the writer thread.
    pub(super) fn retry(&self) {
        loop {
            let mut out = self.lock();
            let before = out.waiting.len();
            let files = out.retry(&self.directory, RETRIED_AT_ONCE);
            let after = out.waiting.len();
            drop(out);
            self.files.fetch_add(files, Ordering::Relaxed);
            if after == 0 || after == before {
                return;
            }
        }
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
        out.error = None;
    }

    /// Whether what is written goes to a file that can be found. One that nobody writes to yet can.
    pub(super) fn is_current(&self) -> bool {
        let out = self.lock();
        let Some(file) = &out.file else { return true };
        let named = fs::metadata(self.directory.join(file_name(out.day)));
        matches!((file.metadata(), named), (Ok(mine), Ok(named)) if same_file(&mine, &named))
    }

    /// Lets go of the current file, so that the next line goes to the one that its path names then. It
    /// is given away with its path, since what was written to it may be found nowhere else.
    pub(super) fn reopen(&self) -> Option<(PathBuf, File)> {
        let mut out = self.lock();
        let path = self.directory.join(file_name(out.day));
        out.file.take().map(|file| (path, file))
    }

    /// Writes an opening that was read, and is in no file any more, once more.
    pub(super) fn open_again(&self, line: &str) {
        let files = self.lock().append(&self.directory, format!("{line}\n").into_bytes(), true);
        self.files.fetch_add(files, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn trouble(&self) -> Trouble {
        let out = self.lock();
        Trouble { waiting: out.waiting.len(), dropped: out.dropped, error: out.error.clone() }
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
    /// Answers how many times another file was opened.
    fn append(&mut self, directory: &Path, line: Vec<u8>, may_go: bool) -> u64 {
        if !self.waiting.is_empty() {
            self.wait(line, may_go);
            return self.retry(directory, RETRIED_BY_A_CALL);
        }
        match self.write(directory, &line) {
            Ok(files) => files,
            Err(error) => {
                self.fail(&error);
                self.wait(line, may_go);
                0
            }
        }
    }

    fn wait(&mut self, line: Vec<u8>, may_go: bool) {
        let limit = if may_go { WAITING_BYTES_WITH_OPENS } else { WAITING_BYTES };
        if self.waiting_bytes + line.len() <= limit {
            self.waiting_bytes += line.len();
            self.waiting.push_back(line);
            return;
        }
        self.dropped += 1;
        // Every power of two: often enough to be heard, not so often as to fill the disk again.
        if self.dropped.is_power_of_two() {
            let dropped = self.dropped;
            tracing::error!(
                dropped,
                "RECORDS LOST: the journal cannot be written, its queue is full"
            );
        }
    }

    fn retry(&mut self, directory: &Path, at_most: usize) -> u64 {
        let mut files = 0;
        for _ in 0..at_most {
            let Some(line) = self.waiting.pop_front() else { break };
            match self.write(directory, &line) {
                Ok(opened) => files += opened,
                Err(error) => {
                    self.waiting.push_front(line);
                    self.fail(&error);
                    return files;
                }
            }
            self.waiting_bytes -= line.len();
        }
        if self.waiting.is_empty() && self.error.take().is_some() {
            tracing::info!(dropped = self.dropped, "the journal can be written again");
        }
        files
    }

    fn fail(&mut self, error: &io::Error) {
        // The next attempt opens the file anew: the fault may lie in this handle, and opening
        // finds out whether the last line is torn.
        self.file = None;
        if self.error.is_none() {
            tracing::error!(%error, "cannot write the journal; records wait in memory");
        }
        self.error = Some(error.to_string());
    }

    /// One `write(2)` for one line, into the file of the day.
    fn write(&mut self, directory: &Path, line: &[u8]) -> io::Result<u64> {
        let day = Timestamp::now().millis().div_euclid(DAY_MS);
        let mut files = 0;
        let file = match &mut self.file {
            Some(file) if self.day == day => file,
            slot => {
                let (file, torn) = open_for_append(&directory.join(file_name(day)))?;
                (self.day, self.torn) = (day, torn);
                files = 1;
                slot.insert(file)
            }
        };
        if self.torn {
            write_whole(file, &[b"\n", line].concat())?;
        } else {
            write_whole(file, line)?;
        }
        self.torn = false;
        Ok(files)
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
            fs::create_dir_all(parent)?;
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

/// A short write is a failure: what it left is ended by a newline later and the line written whole.
fn write_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    loop {
        match file.write(bytes) {
            Ok(written) if written == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::StorageFull.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A line that would be too long to be read goes without its charges: a row that counts again what it
/// fetched again is better than none.
fn encode_within(line: &Line<'_>, limit: usize) -> serde_json::Result<Vec<u8>> {
    let bytes = encode(line)?;
    let record = match line {
        Line::Close(record) | Line::Amend(record) => *record,
        Line::Provisional(line) => line.close,
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
        Line::Provisional(_) => Line::provisional(&bare),
        _ => Line::Close(&bare),
    })
}

fn encode(line: &Line<'_>) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    serde_json::to_writer(&mut bytes, line)?;
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
        record.charges.push(crate::record::Charge {
            key: "k".repeat(99),
            fetched: true,
            usage,
            cost_usd,
        });
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
}
