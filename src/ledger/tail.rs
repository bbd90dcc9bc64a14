//! The journal's reading end: one file, read from where the last reading stopped. Owns what is a
//! whole line and what a line says; knows neither the writing end nor the database.
//!
//! Invariant: only what ends with a newline is read, each byte once.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::handover::Handed;
use super::journal;
use crate::estimate::Calibration;
use crate::record::{CallId, Record};

/// How much is read at a time, and so what one transaction holds: some thousand calls. The more, the
/// fewer pages are written for a call.
const CHUNK_BYTES: u64 = 16 << 20;

/// What is longer than a line of ours is skipped like any other rubbish.
const LINE_BYTES: u64 = journal::LINE_BYTES as u64;

/// Stands for progress that the database has not been told, or told of another file.
const NOT_STORED: u64 = u64::MAX;

/// What a stretch of a journal file says.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// In the order of the file.
    pub(super) entries: Vec<Entry>,
    /// Lines that say nothing: torn by a full disk or a crash, or not ours.
    pub(super) unreadable: u64,
    /// How long it is in the file.
    pub(super) bytes: u64,
}

/// What a line says.
#[derive(Debug)]
pub(super) enum Entry {
    /// A call opened: where the line stands, and the whole of it where it was read.
    Open {
        id: CallId,
        at: u64,
        line: Option<Box<str>>,
    },
    Close(Box<Record>),
    /// Closed with figures that an `Amend` is about to replace: where the line stands.
    Provisional {
        at: u64,
        record: Box<Record>,
    },
    Amend(Box<Record>),
    Learned(Calibration),
}

/// One file of the journal.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) day: Date,
    pub(super) path: PathBuf,
    file: Arc<File>,
    /// What need not be read, in order.
    handed: VecDeque<Handed>,
    /// How far it has been read.
    pub(super) read: u64,
    /// How far the database knows that it has been read.
    pub(super) stored: u64,
    /// Openings that were read, in order, until they are known to be closed or kept elsewhere.
    pub(super) opens: VecDeque<(u64, CallId, Instant)>,
}

/// Where a call's opening stands. The file can be read as long as anybody has this.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    file: Arc<File>,
    at: u64,
}

/// Members that are not known are no reason to lose the ones that are.
#[derive(Deserialize)]
struct Line {
    open: Option<Head>,
    close: Option<Box<Record>>,
    #[serde(default)]
    provisional: bool,
    amend: Option<Box<Record>>,
    learned: Option<Calibration>,
}

#[derive(Deserialize)]
struct Head {
    id: CallId,
}

/// The record of an `{"open": …}` line. Only asked for when a call is open for long: most openings
/// are forgotten when the close arrives, and reading an id is cheaper than reading a record.
pub(super) fn opening(line: &str) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct OpenLine<'a> {
        #[serde(borrow)]
        open: &'a RawValue,
    }
    serde_json::from_str::<OpenLine<'_>>(line).ok().map(|line| line.open)
}

impl Tail {
    /// Opens a file that has been read as far as `progress` says of its name. If that cannot be (the
    /// file is shorter, or no line ends there, so it is another file than the one that was read),
    /// reading starts over: rows that are there already are not added twice.
    pub(super) fn open(
        day: Date,
        path: &Path,
        progress: &HashMap<String, u64>,
    ) -> io::Result<Tail> {
        let mut tail = Tail::of(day, path, File::open(path)?);
        if let Some(stored) = progress.get(&tail.name()) {
            if tail.ends_a_line(*stored)? {
                (tail.read, tail.stored) = (*stored, *stored);
            } else {
                tracing::warn!(file = tail.name(), "another journal than before; reading it anew");
            }
        }
        Ok(tail)
    }

    /// A file that is open already and has not been read.
    pub(super) fn of(day: Date, path: &Path, file: File) -> Tail {
        Tail {
            day,
            path: path.to_owned(),
            file: Arc::new(file),
            handed: VecDeque::new(),
            read: 0,
            stored: NOT_STORED,
            opens: VecDeque::new(),
        }
    }

    /// What the journal says of lines of this file, so that they need not be read.
    pub(super) fn hand(&mut self, lines: Vec<Handed>) {
        if self.handed.is_empty() {
            self.handed = lines.into();
        } else {
            self.handed.extend(lines);
        }
    }

    /// Whether some of what was handed over is left.
    pub(super) fn has_handed(&self) -> bool {
        !self.handed.is_empty()
    }

    /// The place of an opening.
    pub(super) fn place(&self, at: u64) -> Opening {
        Opening { file: Arc::clone(&self.file), at }
    }

    /// Whether this reads that file.
    pub(super) fn reads(&self, other: &File) -> bool {
        match (self.file.metadata(), other.metadata()) {
            (Ok(mine), Ok(other)) => same_file(&mine, &other),
            _ => false,
        }
    }

    /// The name of the file, by which the database knows it.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    /// Whether the path still names the file that is open here.
    pub(super) fn is_current(&self) -> bool {
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(mine), Ok(named)) => same_file(&mine, &named),
            _ => false,
        }
    }

    /// Goes on, at most up to `end` or the end of what was handed over; nothing when no whole line is left
    /// there.
    pub(super) fn next(&mut self, end: u64) -> io::Result<Option<Stretch>> {
        if let Some(stretch) = self.next_handed() {
            return Ok(Some(stretch));
        }
        let Some(next) = self.handed.front().map(|line| line.from) else {
            return self.read_on(end);
        };
        // Lines that nobody could hand over stand before it.
        let between = self.read_on(next)?;
        if between.is_none() {
            // Somebody else has changed the file.
            self.handed.clear();
            return self.read_on(end);
        }
        Ok(between)
    }

    /// What was handed over of the lines that come next.
    fn next_handed(&mut self) -> Option<Stretch> {
        while self.handed.pop_front_if(|line| line.from < self.read).is_some() {}
        let mut stretch = Stretch::default();
        while let Some(line) = self.handed.pop_front_if(|line| line.from == self.read) {
            stretch.bytes += line.to - line.from;
            self.read = line.to;
            match line.said.entry(line.from) {
                Some(entry) => stretch.entries.push(entry),
                None => stretch.unreadable += 1,
            }
        }
        (stretch.bytes > 0).then_some(stretch)
    }

    fn read_on(&mut self, end: u64) -> io::Result<Option<Stretch>> {
        let mut want = CHUNK_BYTES;
        loop {
            let bytes = self.bytes(want.min(end.saturating_sub(self.read)))?;
            let length = bytes.len() as u64;
            // Behind a line that took more than a chunk to find its end, the next read goes on.
            let newline = if want > CHUNK_BYTES {
                memchr::memchr(b'\n', &bytes)
            } else {
                memchr::memrchr(b'\n', &bytes)
            };
            if let Some(last) = newline {
                let mut stretch = parse(&bytes[..=last], self.read);
                stretch.bytes = last as u64 + 1;
                self.read += stretch.bytes;
                return Ok(Some(stretch));
            }
            if length < want {
                return Ok(None);
            }
            if length >= LINE_BYTES {
                self.read += length;
                return Ok(Some(Stretch { unreadable: 1, ..Stretch::default() }));
            }
            want = (want * 4).min(LINE_BYTES);
        }
    }

    /// Whether a line ends at a place, or the file begins there.
    pub(super) fn ends_a_line(&self, at: u64) -> io::Result<bool> {
        ends_a_line(&self.file, at)
    }

    /// How far the file may be called read if `is_open` tells which calls would be forgotten in a
    /// crash: up to the first opening among them.
    pub(super) fn safe(&self, is_open: impl Fn(&CallId) -> bool) -> u64 {
        let first = self.opens.iter().find(|(_, id, _)| is_open(id));
        first.map_or(self.read, |(at, ..)| *at)
    }

    /// Forgets the openings before the first that is still open.
    pub(super) fn forget(&mut self, is_open: impl Fn(&CallId) -> bool) {
        while self.opens.front().is_some_and(|(_, id, _)| !is_open(id)) {
            self.opens.pop_front();
        }
    }

    fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(self.read))?;
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Opening {
    /// The line; nothing where it is not there any more.
    pub(super) fn line(&self, of: &CallId) -> io::Result<Option<String>> {
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(self.at))?;
        let mut line = String::new();
        match BufReader::new(file.take(LINE_BYTES)).read_line(&mut line) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
            read => drop(read),
        }
        line.truncate(line.trim_end_matches('\n').len());
        let is_it = matches!(entry(&line, self.at), Some(Entry::Open { id, .. }) if id == *of);
        if !is_it {
            tracing::error!(id = %of, "the opening of a call is not in the journal any more");
        }
        Ok(is_it.then_some(line))
    }
}

/// Whether two files are the same one, where the platform tells.
pub(super) fn same_file(one: &Metadata, other: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }
    #[cfg(not(unix))]
    {
        one.created().ok() == other.created().ok()
    }
}

fn ends_a_line(mut file: &File, at: u64) -> io::Result<bool> {
    if at == 0 {
        return Ok(true);
    }
    if file.metadata()?.len() < at {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(at - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The id of an opening, taken from where the writing end puts it: half of all lines are openings
/// that nothing else is ever asked of, and parsing them whole would cost a quarter of the feed.
fn opened_id(line: &str) -> Option<CallId> {
    let rest = line.strip_prefix(r#"{"open":{"id":""#).filter(|rest| rest.ends_with("}}"))?;
    rest.split_once('"')?.0.parse().ok()
}

/// What lines say that stand at `start`.
pub(super) fn parse(bytes: &[u8], start: u64) -> Stretch {
    let mut stretch = Stretch::default();
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[from..end];
        let at = start + from as u64;
        from = end + 1;
        if line.is_empty() {
            continue;
        }
        let Ok(text) = std::str::from_utf8(line) else {
            stretch.unreadable += 1;
            continue;
        };
        match entry(text, at) {
            Some(entry) => stretch.entries.push(entry),
            None => stretch.unreadable += 1,
        }
    }
    stretch
}

fn entry(text: &str, at: u64) -> Option<Entry> {
    if let Some(id) = opened_id(text) {
        return Some(Entry::Open { id, at, line: Some(text.into()) });
    }
    said(text, at).ok().flatten()
}

/// What a line says, read whole; nothing where it says nothing that is known here.
pub(super) fn said(text: &str, at: u64) -> serde_json::Result<Option<Entry>> {
    let line: Line = serde_json::from_str(text)?;
    Ok(match line {
        Line { close: Some(record), provisional: false, .. } => Some(Entry::Close(record)),
        Line { close: Some(record), .. } => Some(Entry::Provisional { at, record }),
        Line { amend: Some(record), .. } => Some(Entry::Amend(record)),
        Line { learned: Some(calibration), .. } => Some(Entry::Learned(calibration)),
        Line { open: Some(Head { id }), .. } => {
            Some(Entry::Open { id, at, line: Some(text.into()) })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &str, stored: u64) -> (tempfile::NamedTempFile, Tail) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let name = file.path().file_name().unwrap().to_string_lossy().into_owned();
        let progress = HashMap::from([(name, stored)]);
        let tail = Tail::open(Date::constant(2026, 11, 21), file.path(), &progress).unwrap();
        (file, tail)
    }

    #[test]
    fn only_whole_lines_are_read() {
        let (file, mut tail) = tail("rubbish\n\n{\"open\":{\"id\"", 0);
        assert_eq!(tail.next(u64::MAX).unwrap().unwrap().unreadable, 1);
        assert_eq!(tail.read, 9);
        assert!(tail.next(u64::MAX).unwrap().is_none());
        std::fs::write(file.path(), "rubbish\n\n{\"open\":{\"id\"torn\n").unwrap();
        assert_eq!(tail.next(u64::MAX).unwrap().unwrap().unreadable, 1);
    }

    #[test]
    fn a_line_longer_than_a_chunk_is_read_and_an_endless_one_is_skipped() {
        let chunk = usize::try_from(CHUNK_BYTES).unwrap();
        let (_file, mut long) = tail(&format!("{}\n", "x".repeat(2 * chunk)), 0);
        assert_eq!(long.next(u64::MAX).unwrap().unwrap().unreadable, 1);
        let short = format!("{}\n", "x".repeat(9));
        let (_file, mut followed) = tail(&format!("{}\n{short}{short}", "x".repeat(chunk)), 0);
        assert_eq!(followed.next(u64::MAX).unwrap().unwrap().bytes, CHUNK_BYTES + 1);
        assert_eq!(followed.next(u64::MAX).unwrap().unwrap().bytes, 20);
        let limit = usize::try_from(LINE_BYTES).unwrap();
        let (_file, mut endless) = tail(&"x".repeat(limit + chunk), 0);
        while endless.next(u64::MAX).unwrap().is_some() {}
        assert_eq!(endless.read, LINE_BYTES);
    }

    #[test]
    fn another_file_under_the_same_name_is_read_from_its_start() {
        let (_file, other) = tail("abc\ndef\n", 5);
        assert_eq!(other.read, 0);
        let (_file, shorter) = tail("abc\n", 50);
        assert_eq!(shorter.read, 0);
        let (_file, same) = tail("abc\ndef\n", 4);
        assert_eq!(same.read, 4);
    }
}
