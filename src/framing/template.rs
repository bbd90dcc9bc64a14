//! A value that is like the one before. Owns telling whether two values differ only within strings of which
//! nothing but their presence is kept, so that the second need not be scanned: its document is the first's.
//! Nearly all events of a stream are so, and differ in the words that they bring.
//!
//! Invariant: whoever is given a value by its template is given what scanning it would give.

use super::{Sink, Text};

/// Longer values are not remembered.
const MAX_VALUE: usize = 4096;

/// Strings that may differ. Real events have one or two.
const MAX_HOLES: usize = 8;

/// Values one after the other that may be unlike the one before, until none is compared any more.
const PATIENCE: u8 = 16;

/// A value, where its strings stand that may differ, and the document that it came to.
#[derive(Debug, Default)]
pub(super) struct Template {
    value: Vec<u8>,
    holes: Vec<Hole>,
    document: Vec<u8>,
    /// What is noted is that of a value scanned from its first byte to its last.
    is_whole: bool,
    misses: u8,
}

/// A string's content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The document says whether there is something in it.
    pub(super) presence: bool,
    /// It is shown as this text.
    pub(super) text: Option<Text<'static>>,
}

impl Template {
    /// Gives a value to the sink, if it is like the one that is noted.
    pub(super) fn give(&mut self, value: &[u8], sink: &mut dyn Sink) -> bool {
        let Some(found) = self.compare(value) else { return false };
        self.misses = 0;
        for (hole, (from, to)) in self.holes.iter().zip(found) {
            if let Some(text) = hole.text {
                sink.text(&Text { bytes: &value[from..to], ..text });
            }
        }
        sink.document(&self.document);
        true
    }

    /// Where a value has what the holes have; nothing if it is not like the one that is noted.
    fn compare(&self, value: &[u8]) -> Option<[(usize, usize); MAX_HOLES]> {
        if !self.is_whole {
            return None;
        }
        let mut found = [(0, 0); MAX_HOLES];
        let (mut own, mut at) = (0, 0);
        for (hole, place) in self.holes.iter().zip(&mut found) {
            let same = &self.value[own..hole.from];
            let rest = value[at..].strip_prefix(same)?;
            at += same.len();
            let length = content(rest)?;
            if hole.presence && length == 0 {
                return None;
            }
            *place = (at, at + length);
            (own, at) = (hole.to, at + length);
        }
        (self.value[own..] == value[at..]).then_some(found)
    }

    /// Begins to note a value that is about to be scanned; whether it is worth while.
    pub(super) fn begin(&mut self, value: &[u8]) -> bool {
        self.is_whole = false;
        self.misses = self.misses.saturating_add(1);
        if self.misses > PATIENCE || value.len() > MAX_VALUE {
            return false;
        }
        self.holes.clear();
        self.document.clear();
        self.value.clear();
        self.value.extend_from_slice(value);
        true
    }

    /// Notes a string of the value.
    pub(super) fn note(&mut self, hole: Hole) {
        self.holes.push(hole);
    }

    /// Notes the document that the value has come to, in exchange for room for the next.
    pub(super) fn finish(&mut self, document: &mut Vec<u8>) {
        // A second document of one value is none of a template's.
        self.is_whole = self.document.is_empty() && self.holes.len() <= MAX_HOLES;
        // A string that was empty and is none of the document may be there another time.
        self.is_whole &= self.holes.iter().all(|hole| !hole.presence || hole.to > hole.from);
        std::mem::swap(&mut self.document, document);
    }

    /// The value before was like the one that is noted.
    #[cfg(test)]
    pub(super) fn has_served(&self) -> bool {
        self.is_whole && self.misses == 0
    }

    /// What was scanned is none to be noted after all.
    pub(super) fn spoil(&mut self) {
        self.is_whole = false;
    }
}

/// How long a string's content is, whose first byte is the first of `rest`.
fn content(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', rest.get(at..)?)?;
        if rest[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framing::{Keep, Lines, Scanner, Selection};

    static DELTA: Selection = Selection(&[("text", Keep::Text(1)), ("kind", Keep::Scalar)]);
    static ASKED: Selection = Selection(&[
        ("id", Keep::Scalar),
        ("list", Keep::Members(&DELTA)),
        ("seen", Keep::Presence),
        ("args", Keep::Json(2)),
    ]);

    /// What is given, in its order; pieces of one text as one.
    #[derive(Debug, Default, PartialEq)]
    struct Given(Vec<(String, String)>);

    impl Sink for Given {
        fn document(&mut self, json: &[u8]) {
            self.0.push(("document".to_owned(), String::from_utf8(json.to_vec()).unwrap()));
        }

        fn text(&mut self, text: &Text<'_>) {
            let key = format!("{:?}", (text.slot, text.outer, text.inner, text.is_json));
            let piece = String::from_utf8_lossy(text.bytes).into_owned();
            match self.0.last_mut() {
                Some((last, so_far)) if *last == key => so_far.push_str(&piece),
                _ => self.0.push((key, piece)),
            }
        }

        fn left_out(&mut self) {
            self.0.push(("left out".to_owned(), String::new()));
        }
    }

    /// What lines give, whole and byte by byte.
    fn given(lines: &[String]) -> (Given, Given) {
        let (mut whole, mut reader) = (Given::default(), Lines::new(&ASKED));
        for line in lines {
            reader.push(format!("{line}\n").as_bytes(), &mut whole);
        }
        let (mut cut, mut reader) = (Given::default(), Lines::new(&ASKED));
        for byte in lines.iter().flat_map(|line| line.bytes().chain([b'\n'])) {
            reader.push(&[byte], &mut cut);
        }
        (whole, cut)
    }

    fn check(lines: &[&str]) -> Given {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let (whole, cut) = given(&lines);
        assert_eq!(whole, cut, "{lines:?}");
        whole
    }

    #[test]
    fn what_differs_in_words_only_is_given_without_a_scan() {
        let mut scanner = Scanner::new(&ASKED);
        let mut given = Given::default();
        for word in ["a", "b\\\"c", "d"] {
            let line = format!(r#"{{"id":1,"pad":"{word}{word}","list":[{{"text":"{word}"}}]}}"#);
            scanner.push_whole(line.as_bytes(), &mut given);
        }
        assert!(scanner.was_spared(), "{given:?}");
        scanner.push_whole(br#"{"id":2}"#, &mut Given::default());
        assert!(!scanner.was_spared());
        assert_eq!(given.0.len(), 6, "{given:?}");
        assert_eq!(given.0[2].1, "b\\\"c");
        assert_eq!(given.0[5], given.0[1]);
    }

    #[test]
    fn what_differs_in_more_is_scanned() {
        let given = check(&[
            r#"{"id":1,"list":[{"text":"a"}]}"#,
            r#"{"id":1,"list":[{"text":""}]}"#,
            r#"{"id":1,"list":[{"text":"b"}]}"#,
            r#"{"id":2,"list":[{"text":"b"}]}"#,
            r#"{"id":2,"list":[{"text":"b","kind":"k"}]}"#,
            r#"{"id":2,"list":[{"text":"c","kind":"l"}]}"#,
            r#"{"id":2,"list":[{"text":"c"},{"text":"d"}]}"#,
            r#"{"id":2,"list":[{"text":"e"},{"text":"f"}]}"#,
            r#"{"id":2,"list":[{"text":"e"},{"text":"f"}]} x"#,
            r#"{"seen":"","args":{"a":"b"}}"#,
            r#"{"seen":"s","args":{"a":"b"}}"#,
            r#"{"seen":"s","args":{"a":"c"}}"#,
            r#"{"id":1}{"id":2}"#,
            r#"{"id":1}{"id":2}"#,
            "[DONE]",
            "",
            r#"{"id":1,"pad":"a"#,
            r#"{"id":1,"pad":"ab"}"#,
        ]);
        assert!(given.0.len() > 20, "{given:?}");
    }

    proptest! {
        #[test]
        fn whole_lines_give_what_they_give_byte_by_byte(
            lines in proptest::collection::vec(
                (0..3_usize, "[ab\"\\\\]{0,3}", "[ab\\\\]{0,2}", 0..3_u8), 1..12,
            )
        ) {
            let line = |(shape, one, other, number): (usize, String, String, u8)| match shape {
                0 => format!(r#"{{"id":{number},"list":[{{"text":"{one}"}},{{"text":"{other}"}}]}}"#),
                1 => format!(r#"{{"seen":"{one}","pad":"{other}","id":{number}}}"#),
                _ => format!(r#"{{"args":"{one}","list":[{{"kind":"{other}","text":"x"}}]}}"#),
            };
            let lines: Vec<String> = lines.into_iter().map(line).collect();
            let (whole, cut) = given(&lines);
            prop_assert_eq!(whole, cut);
        }
    }
}
