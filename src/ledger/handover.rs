//! Lines that the journal has written and the ledger's thread has not taken yet, as what they say instead of
//! as text, so that they need not be read again. Owns how many there may be and where each stands; the file
//! stays the truth.
//!
//! Invariant: what is handed over is what reading the line from its place would give. Whatever is not here
//! (too much, written again after a fault, of a former process) is read from the file.

use std::fs::File;
use std::mem;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::journal::{Line, encode};
use super::layout::LATEST_MS;
use super::tail::{self, Entry};
use crate::record::{CallId, Record};

/// Lines that wait at most, and the memory that they may take. What comes when there are more is read from
/// the file.
const LINES: usize = 50_000;
const BYTES: usize = 32 << 20;

/// Longer lines are read from the file: they are rare, and their records large.
const LONGEST: u64 = 64 << 10;

/// What a record is in memory besides its texts, which are in its line too.
const RECORD_BYTES: usize = size_of::<Record>() + 256;

/// What waits, in the order in which it was written.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Of files that were written to before.
    before: Vec<Segment>,
    file: Option<Arc<File>>,
    lines: Vec<Handed>,
    count: usize,
    bytes: usize,
}

/// Lines of one file. Its handle is held, so that no other file can be taken for it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<File>,
    pub(super) lines: Vec<Handed>,
}

/// A line, where it begins and where the next one may.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) said: Said,
}

/// What a line says that was written.
#[derive(Debug)]
pub(super) enum Said {
    Open(CallId),
    Close(Box<Record>),
    Provisional(Box<Record>),
    Amend(Box<Record>),
}

impl Handover {
    /// Takes note of a line that stands in a file; gives it back where there is no room. Called with the
    /// journal's lock held: a push, and nothing is freed.
    pub(super) fn note(&mut self, file: &Arc<File>, line: Handed) -> Option<Handed> {
        let length = line.to.saturating_sub(line.from);
        let bytes = line.said.bytes(length);
        if length > LONGEST || self.count >= LINES || self.bytes + bytes > BYTES {
            return Some(line);
        }
        if self.file.as_ref().is_none_or(|current| !Arc::ptr_eq(current, file)) {
            let ended = self.file.replace(Arc::clone(file));
            let lines = mem::take(&mut self.lines);
            self.before.extend(ended.map(|file| Segment { file, lines }));
        }
        self.count += 1;
        self.bytes += bytes;
        self.lines.push(line);
        None
    }

    /// How many lines wait of the file that is written to.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Takes all of it out; `room` is for the next lines.
    pub(super) fn take(&mut self, room: Vec<Handed>) -> Vec<Segment> {
        (self.count, self.bytes) = (0, 0);
        let mut segments = mem::take(&mut self.before);
        if let Some(file) = self.file.clone() {
            segments.push(Segment { file, lines: mem::replace(&mut self.lines, room) });
        }
        segments
    }
}

impl Said {
    /// How much memory it takes, about, of a line of that length.
    fn bytes(&self, length: u64) -> usize {
        let texts = match self {
            Said::Open(_) => 0,
            // Allocations are rounded up, and metadata are a map.
            _ => RECORD_BYTES + usize::try_from(length).unwrap_or(usize::MAX / 4) * 3 / 2,
        };
        size_of::<Handed>() + texts
    }

    /// What reading the line that begins `at` a place would give; nothing where it could not be read.
    pub(super) fn entry(self, at: u64) -> Option<Entry> {
        Some(match self {
            Said::Open(id) => Entry::Open { id, at, line: None },
            Said::Close(record) => Entry::Close(as_read(record)?),
            Said::Provisional(record) => Entry::Provisional { at, record: as_read(record)? },
            Said::Amend(record) => Entry::Amend(as_read(record)?),
        })
    }
}

/// The record as its line reads.
fn as_read(mut record: Box<Record>) -> Option<Box<Record>> {
    if is_odd(&record) {
        let line = encode(&Line::Close(&record)).ok()?;
        let text = std::str::from_utf8(&line).ok()?;
        return match tail::said(text.trim_end_matches('\n'), 0) {
            Ok(Some(Entry::Close(record))) => Some(record),
            _ => None,
        };
    }
    if let Some(usage) = record.usage_json.as_deref().map(RawValue::get)
        && usage.contains('\n')
    {
        record.usage_json = Some(RawValue::from_string(usage.replace('\n', " ")).ok()?);
    }
    if let Some(note) = &record.estimate {
        // The last digit of a number may come back as another one.
        record.estimate = Some(serde_json::from_str(&serde_json::to_string(note).ok()?).ok()?);
    }
    Some(record)
}

/// Whether a record may read back differently somewhere else than in its usage object and its estimate.
fn is_odd(record: &Record) -> bool {
    !(0..=LATEST_MS).contains(&record.created_at.millis())
        || record.metadata.as_ref().is_some_and(has_odd_value)
}

fn has_odd_value(metadata: &Map<String, Value>) -> bool {
    metadata.values().any(|value| match value {
        Value::Null | Value::Bool(_) | Value::String(_) => false,
        Value::Number(number) => !number.as_str().bytes().all(|byte| byte.is_ascii_digit()),
        Value::Array(_) | Value::Object(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::row::tests::{any_record, call};
    use crate::record::{Charge, EstimateNote, EstimatedSide};
    use crate::units::Timestamp;

    type Say = fn(Box<Record>) -> Said;

    /// What each sort of line reads as must be what is handed over.
    fn assert_reads_alike(record: &Record) {
        let sorts: [(Line<'_>, Say); 3] = [
            (Line::Close(record), Said::Close),
            (Line::Provisional(record), Said::Provisional),
            (Line::Amend(record), Said::Amend),
        ];
        for (line, say) in sorts {
            let stretch = tail::parse(&encode(&line).unwrap(), 7);
            let read = stretch.entries.into_iter().next();
            let handed = say(Box::new(record.clone())).entry(7);
            assert_eq!(format!("{handed:?}"), format!("{read:?}"));
            assert!(read.is_some() || stretch.unreadable == 1);
        }
    }

    proptest! {
        #[test]
        fn what_is_handed_over_is_what_would_be_read(record in any_record(), odd in any::<i64>()) {
            assert_reads_alike(&record);
            let created_at = Timestamp::from_millis(odd);
            let error = f64::from_bits(odd.unsigned_abs());
            let side = EstimatedSide { method: crate::estimate::Method::Bpe, error };
            let estimate = Some(EstimateNote { input: Some(side), ..EstimateNote::default() });
            assert_reads_alike(&Record { created_at, estimate, ..record });
        }
    }

    #[test]
    fn what_a_line_says_in_other_words_is_handed_over_in_those() {
        let mut record = call(5);
        let spread = "{\n  \"prompt_tokens\": 3\n}".to_owned();
        record.usage_json = Some(RawValue::from_string(spread).unwrap());
        let usage = crate::usage::Usage { input: Some(3), ..Default::default() };
        let cost_usd = Some("0.00100".parse().unwrap());
        let key = "resp_\u{1}\n".to_owned();
        record.charges.push(Charge { key, fetched: true, usage, cost_usd });
        for metadata in [r#"{"a":1e5,"b":-0.50}"#, r#"{"a":{"b":[1E+3,{"c":null}]}}"#] {
            record.metadata = serde_json::from_str(metadata).unwrap();
            assert_reads_alike(&record);
        }
        // Deeper than JSON is read.
        let mut deep = Value::Null;
        (0..200).for_each(|_| deep = Value::Array(vec![mem::take(&mut deep)]));
        record.metadata = Some(Map::from_iter([("deep".to_owned(), deep)]));
        assert_reads_alike(&record);
    }

    #[test]
    fn what_waits_is_bounded_and_begins_anew_with_another_file() {
        let file = || Arc::new(tempfile::tempfile().unwrap());
        let (one, other) = (file(), file());
        let mut handover = Handover::default();
        let note = |handover: &mut Handover, file, from, said| {
            handover.note(file, Handed { from, to: from + 500, said }).is_none()
        };
        let id = call(1).id;
        assert!(note(&mut handover, &one, 0, Said::Open(id)));
        assert!(note(&mut handover, &other, 0, Said::Open(id)));
        let segments = handover.take(Vec::new());
        assert_eq!(segments.iter().map(|one| one.lines.len()).collect::<Vec<_>>(), [1, 1]);
        assert!(Arc::ptr_eq(&segments[1].file, &other));
        let taken =
            (0..LINES as u64 + 9).filter(|at| note(&mut handover, &one, *at, Said::Open(id)));
        assert_eq!(taken.count(), LINES);
        handover.take(Vec::new());
        let close = || Said::Close(Box::new(call(1)));
        let taken = (0..LINES as u64).filter(|at| note(&mut handover, &one, *at, close())).count();
        assert!((5_000..LINES).contains(&taken), "{taken}");
        let long = Handed { from: 0, to: LONGEST + 1, said: Said::Open(id) };
        assert!(Handover::default().note(&one, long).is_some());
    }
}
