//! Server-sent events that are changed on their way. Owns which bytes wait and which pass: an event
//! whose data is a JSON object waits until it is whole and is then kept, dropped or kept without a
//! part; all else passes at once, byte by byte as it came. Knows no field of the JSON.
//!
//! Invariant: the bytes that come out are the bytes that went in, but for what the judge takes out,
//! however the bytes are cut.

use std::fmt;
use std::ops::Range;

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// All its bytes go, the empty line that ends it included.
    Drop,
    /// These bytes of its data go.
    Without(Range<usize>),
}

/// Bytes of an event that wait at most; what is longer passes as it is.
const MAX_HELD: usize = 1 << 20;

/// The fields that may stand beside the data of an event that waits.
const FIELDS: [&[u8]; 4] = [b"data:", b"event:", b"id:", b"retry:"];

const MARK: &[u8] = b"\xEF\xBB\xBF";

/// What is done with the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Hold,
    /// To the end of the line: a comment.
    PassLine,
    /// To the empty line that ends the event.
    PassEvent,
}

/// Where a LF goes that belongs to the CR before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cr {
    No,
    Held,
    Passed,
    Dropped,
}

/// What a line that is not complete, or is, may be.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Nothing that matters, or not yet known to be.
    Open,
    /// Data that begin so far into the line.
    Data(usize),
    Comment,
    /// The event is none that waits.
    Other,
}

/// Takes events out of a stream.
pub struct EventFilter {
    judge: fn(&[u8]) -> Verdict,
    mode: Mode,
    cr: Cr,
    held: Vec<u8>,
    /// Where the line at hand begins in `held`.
    line: usize,
    /// Up to here, where that lies within the line's value, the value is known to be blank.
    looked: usize,
    line_is_empty: bool,
    is_first_line: bool,
    /// The values of the held event's data lines.
    data: Vec<Range<usize>>,
}

impl EventFilter {
    /// `judge` is shown the data of each event whose data could be a JSON object.
    pub fn new(judge: fn(&[u8]) -> Verdict) -> EventFilter {
        EventFilter {
            judge,
            mode: Mode::Hold,
            cr: Cr::No,
            held: Vec::new(),
            line: 0,
            looked: 0,
            line_is_empty: true,
            is_first_line: true,
            data: Vec::new(),
        }
    }

    /// Takes bytes in and gives those that pass.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = &rest[self.rest_of_line_end(rest[0], &mut out)..];
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            self.part_of_line(&rest[..end], &mut out);
            if let Some(line_end) = rest.get(end) {
                self.line_end(*line_end, &mut out);
                rest = &rest[end + 1..];
            } else {
                break;
            }
        }
        out
    }

    /// The stream has ended: what waited, unless it is an event that goes.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.line < self.held.len() {
            self.note_data();
        }
        self.decide(&mut out);
        out
    }

    /// True if something waits.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// A LF behind a CR goes where the CR went; 1 if the byte is such a one.
    fn rest_of_line_end(&mut self, byte: u8, out: &mut Vec<u8>) -> usize {
        let cr = std::mem::replace(&mut self.cr, Cr::No);
        if cr == Cr::No || byte != b'\n' {
            return 0;
        }
        match cr {
            Cr::Held => {
                self.held.push(byte);
                self.line = self.held.len();
            }
            Cr::Passed => out.push(byte),
            Cr::Dropped | Cr::No => {}
        }
        1
    }

    fn part_of_line(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if part.is_empty() {
            return;
        }
        self.line_is_empty = false;
        if self.mode != Mode::Hold {
            out.extend_from_slice(part);
            return;
        }
        self.held.extend_from_slice(part);
        match self.look(false) {
            Line::Comment if self.line == 0 => self.pass(Mode::PassLine, out),
            Line::Other => self.pass(Mode::PassEvent, out),
            _ if self.held.len() > MAX_HELD => self.pass(Mode::PassEvent, out),
            _ => {}
        }
    }

    fn line_end(&mut self, byte: u8, out: &mut Vec<u8>) {
        let is_event_end = std::mem::replace(&mut self.line_is_empty, true);
        self.cr = Cr::No;
        let (mode, mut went) = (self.mode, Cr::Passed);
        match mode {
            Mode::Hold if is_event_end && self.held.is_empty() => out.push(byte),
            Mode::Hold if is_event_end => {
                self.held.push(byte);
                if self.decide(out) {
                    went = Cr::Dropped;
                }
            }
            Mode::Hold if self.look(true) == Line::Other => {
                self.pass(Mode::PassEvent, out);
                out.push(byte);
            }
            Mode::Hold => {
                self.note_data();
                self.held.push(byte);
                self.line = self.held.len();
                went = Cr::Held;
            }
            Mode::PassLine => {
                out.push(byte);
                self.mode = Mode::Hold;
            }
            Mode::PassEvent => {
                out.push(byte);
                if is_event_end {
                    self.mode = Mode::Hold;
                }
            }
        }
        if byte == b'\r' {
            self.cr = went;
        }
        self.is_first_line = false;
    }

    /// What the line at hand is, as far as it is there. Looks at no blank twice.
    fn look(&mut self, is_complete: bool) -> Line {
        let line = &self.held[self.line..];
        let (mark, line) = match line.strip_prefix(MARK) {
            Some(line) if self.is_first_line => (MARK.len(), line),
            _ if self.is_first_line && MARK.starts_with(line) => return Line::Open,
            _ => (0, line),
        };
        if line.first() == Some(&b':') {
            return Line::Comment;
        }
        let Some(field) = FIELDS.iter().find(|field| line.starts_with(field)) else {
            let may_be = !is_complete && FIELDS.iter().any(|field| field.starts_with(line));
            return if may_be { Line::Open } else { Line::Other };
        };
        if *field != FIELDS[0] {
            return Line::Open;
        }
        let value = &line[field.len()..];
        let space = usize::from(value.first() == Some(&b' '));
        // Only the first line of the data says whether they are an object.
        let value_begins = self.held.len() - value.len();
        let looked = self.looked.max(value_begins);
        let rest = &self.held[looked..];
        let blanks = rest.iter().position(|byte| !byte.is_ascii_whitespace());
        let first = blanks.map(|blanks| rest[blanks]);
        self.looked = looked + blanks.unwrap_or(rest.len());
        match first {
            Some(b'{') => {}
            None if !is_complete => {}
            _ if self.data.is_empty() => return Line::Other,
            _ => {}
        }
        Line::Data(mark + field.len() + space)
    }

    /// Remembers where the data of the line at hand stand, if it has any.
    fn note_data(&mut self) {
        if let Line::Data(begin) = self.look(true) {
            self.data.push(self.line + begin..self.held.len());
        }
    }

    fn pass(&mut self, mode: Mode, out: &mut Vec<u8>) {
        self.mode = mode;
        self.let_go(out);
    }

    fn let_go(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.forget();
    }

    fn forget(&mut self) {
        self.held.clear();
        self.data.clear();
        (self.line, self.looked) = (0, 0);
    }

    /// The event that waits is whole. True if it was dropped.
    fn decide(&mut self, out: &mut Vec<u8>) -> bool {
        match self.verdict() {
            Verdict::Keep => {}
            Verdict::Drop => {
                self.forget();
                return true;
            }
            // Of data in several lines, which nobody sends, places are not kept apart.
            Verdict::Without(_) if self.data.len() > 1 => {}
            Verdict::Without(part) => {
                let base = self.data.first().map_or(0, |data| data.start);
                self.held.drain(base + part.start..base + part.end);
            }
        }
        self.let_go(out);
        false
    }

    fn verdict(&self) -> Verdict {
        match self.data.as_slice() {
            [] => Verdict::Keep,
            [data] => (self.judge)(&self.held[data.clone()]),
            lines => {
                let lines: Vec<&[u8]> = lines.iter().map(|data| &self.held[data.clone()]).collect();
                (self.judge)(&lines.join(&b'\n'))
            }
        }
    }
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFilter").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(data: &[u8]) -> Verdict {
        match data {
            br#"{"drop":1}"# | b"{\"drop\":\n1}" => Verdict::Drop,
            data => match data.windows(4).position(|four| four == b"DROP") {
                Some(at) => Verdict::Without(at..at + 4),
                None => Verdict::Keep,
            },
        }
    }

    /// The stream's text with `|` for a line's end, in every line end and every two cuts.
    #[track_caller]
    fn check(stream: &str, expected: &str) {
        for end in ["\n", "\r\n", "\r"] {
            let (stream, expected) = (stream.replace('|', end), expected.replace('|', end));
            let bytes = stream.as_bytes();
            for first in 0..=bytes.len() {
                for second in (first..=bytes.len()).step_by(if bytes.len() > 150 { 7 } else { 1 }) {
                    let mut filter = EventFilter::new(judge);
                    let mut out = Vec::new();
                    for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                        out.extend(filter.push(piece));
                    }
                    out.extend(filter.finish());
                    let out = String::from_utf8(out).unwrap();
                    assert_eq!(out, expected, "{end:?} cut at {first} and {second}");
                    assert!(!filter.holds());
                }
            }
        }
    }

    #[test]
    fn an_event_that_is_dropped_goes_with_its_empty_line() {
        check(
            "data: {\"a\":1}||data: {\"drop\":1}||data: [DONE]||",
            "data: {\"a\":1}||data: [DONE]||",
        );
        check("data:{\"drop\":1}||", "");
        check("data:{\"drop\":1}||||data: x||", "||data: x||");
        check("event: e|data: {\"drop\":1}|id: 7||: c||", ": c||");
        check("data: {\"drop\":|data: 1}||x", "x");
    }

    #[test]
    fn an_event_loses_only_what_the_judge_takes() {
        check("data: {\"a\":DROP1}||data: {}||", "data: {\"a\":1}||data: {}||");
        check("id: 1|data: {DROP}|id: 2||", "id: 1|data: {}|id: 2||");
    }

    #[test]
    fn all_else_passes() {
        for stream in [
            "",
            "|",
            "||||",
            ": DROP||",
            ": DROP|data: {\"a\":1}|: c||",
            "data: DROP||data: [\"DROP\"]||",
            "data: [DONE]||",
            "data||data:||data: ||",
            "dat||event: DROP|foo: {DROP}|data: {DROP}||",
            "error: {DROP}|data: {\"drop\":1}||",
            "data: {\"a\":1}",
            "data: {\"a\":1}|",
            "da",
            "{\"drop\":1}",
            "data: {DROP|data: DROP}||",
        ] {
            check(stream, stream);
        }
        check("\u{feff}data: {\"a\":DROP1}||", "\u{feff}data: {\"a\":1}||");
        check(": c|data: {\"drop\":1}||data: x||", ": c|data: x||");
    }

    #[test]
    fn what_a_stream_ends_with_is_judged_without_its_empty_line() {
        check("data: x||data: {\"drop\":1}", "data: x||");
        check("data: x||data: {\"drop\":1}|", "data: x||");
    }

    #[test]
    fn what_cannot_be_an_object_does_not_wait_for_its_line() {
        for stream in [": c", "data: [", "data: x", "x", "event: a\nx", "error: {", "data\n"] {
            let mut filter = EventFilter::new(judge);
            assert_eq!(filter.push(stream.as_bytes()), stream.as_bytes(), "{stream}");
        }
        for stream in ["d", "data:", "data: ", "data: {", "event: a\nid", "\u{feff}da"] {
            let mut filter = EventFilter::new(judge);
            assert_eq!(filter.push(stream.as_bytes()), b"", "{stream}");
            assert!(filter.holds());
        }
    }

    #[test]
    fn a_whole_event_does_not_wait_for_a_line_feed() {
        let mut filter = EventFilter::new(judge);
        assert_eq!(filter.push(b"data: {}\r\n\r"), b"data: {}\r\n\r");
        assert_eq!(filter.push(b"\ndata: {"), b"\n");
    }

    #[test]
    fn an_event_that_is_too_long_passes_and_the_next_is_judged() {
        let long = format!("data: {{\"a\":\"{}\"}}\n\n", "DROP".repeat(MAX_HELD / 4 + 1));
        let mut filter = EventFilter::new(judge);
        let mut out = Vec::new();
        for piece in long.as_bytes().chunks(1000) {
            out.extend(filter.push(piece));
            assert!(filter.held.len() <= MAX_HELD + 1000);
        }
        assert!(out == long.as_bytes());
        assert_eq!(filter.push(b"data: {\"drop\":1}\n\ndata: x\n\n"), b"data: x\n\n");
    }

    /// Looked at from the line's beginning for each byte, this took the better part of an hour.
    #[test]
    fn blanks_that_came_byte_by_byte_were_looked_at_again_for_each() {
        let mut filter = EventFilter::new(judge);
        let line = [b"data:".as_slice(), &vec![b' '; MAX_HELD - 64], b"{\"drop\":1}\n\n"].concat();
        let mut out = Vec::new();
        line.chunks(1).for_each(|byte| out.extend(filter.push(byte)));
        assert!(out == line);
        assert_eq!(filter.push(b"data: {\"drop\":1}\n\ndata: x\n\n"), b"data: x\n\n");
    }
}
