//! A value that is like the one before. Owns telling whether two values differ only in what nothing is kept of
//! but its presence, so that the second need not be scanned: its document is the first's. Nearly all events
//! of a stream are so, and differ in the words that they bring, in their numbers, in blanks.
//!
//! Invariant: whoever is given a value by its template is given what scanning it would give.

use super::{Sink, Text};

/// Longer values are not remembered.
const MAX_VALUE: usize = 4096;

/// Places that may differ. Events of OpenAI's Responses have five, of chats four to six.
const MAX_HOLES: usize = 16;

/// Values one after the other that may be unlike the one before, until none is compared any more.
const PATIENCE: u8 = 16;

/// A value, where it may differ, and the document that it came to.
#[derive(Debug, Default)]
pub(super) struct Template {
    value: Vec<u8>,
    holes: Vec<Hole>,
    document: Vec<u8>,
    /// What is noted is that of a value scanned from its first byte to its last.
    is_whole: bool,
    misses: u8,
}

/// A place that may differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: Kind,
}

/// What stands in a hole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A string's content.
    String {
        /// The document says whether there is something in it.
        presence: bool,
        /// It is shown as this text.
        text: Option<Text<'static>>,
    },
    /// A number, `true`, `false` or `null` of which nothing is kept.
    Literal,
}

impl Hole {
    /// How much of `rest`, whose first byte is the hole's first, is in the hole. Nothing, if the document
    /// would be another.
    fn fill(&self, rest: &[u8]) -> Option<usize> {
        match self.kind {
            Kind::String { presence, .. } => {
                let length = content(rest)?;
                let same = !presence || (length == 0) == (self.to == self.from);
                same.then_some(length)
            }
            Kind::Literal if matches!(rest.first()?, b'"' | b'{' | b'[') => None,
            Kind::Literal => {
                rest.iter().position(|byte| ends_literal(*byte)).filter(|length| *length > 0)
            }
        }
    }
}

impl Template {
    /// Gives a value to the sink, if it is like the one that is noted.
    pub(super) fn give(&mut self, value: &[u8], sink: &mut dyn Sink) -> bool {
        let Some(found) = self.compare(value) else { return false };
        self.misses = 0;
        for (hole, (from, to)) in self.holes.iter().zip(found) {
            if let Kind::String { text: Some(text), .. } = hole.kind
                && from < to
            {
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
        let (mut own, mut at, mut in_string) = (0, 0, false);
        for (hole, place) in self.holes.iter().zip(&mut found) {
            at += common(&self.value[own..hole.from], &value[at..], in_string)?;
            let length = hole.fill(&value[at..])?;
            *place = (at, at + length);
            (own, at) = (hole.to, at + length);
            in_string = matches!(hole.kind, Kind::String { .. });
        }
        at += common(&self.value[own..], &value[at..], in_string)?;
        value[at..].trim_ascii_start().is_empty().then_some(found)
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

    /// Notes a place of the value.
    pub(super) fn note(&mut self, hole: Hole) {
        self.holes.push(hole);
    }

    /// Notes the document that the value has come to, in exchange for room for the next.
    pub(super) fn finish(&mut self, document: &mut Vec<u8>) {
        // A second document of one value is none of a template's.
        self.is_whole = self.document.is_empty() && self.holes.len() <= MAX_HOLES;
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

/// How much of `rest` says the same as `own`, which has no holes.
fn common(own: &[u8], rest: &[u8], in_string: bool) -> Option<usize> {
    if rest.starts_with(own) {
        return Some(own.len());
    }
    common_but_for_blanks(own, rest, in_string)
}

/// The same where blanks differ between tokens: Anthropic pads its events with them.
fn common_but_for_blanks(own: &[u8], rest: &[u8], mut in_string: bool) -> Option<usize> {
    let (mut i, mut j) = (0, 0);
    while let Some(byte) = own.get(i) {
        let Some(other) = rest.get(j) else {
            let blank = !in_string && own[i..].trim_ascii_start().is_empty();
            return blank.then_some(j);
        };
        if byte == other {
            // What is escaped ends no string.
            if in_string && *byte == b'\\' && i + 1 < own.len() {
                (i, j) = (i + 1, j + 1);
                if own[i] != *rest.get(j)? {
                    return None;
                }
            } else if *byte == b'"' {
                in_string = !in_string;
            }
            (i, j) = (i + 1, j + 1);
        } else if in_string {
            return None;
        } else if byte.is_ascii_whitespace() {
            i += 1;
        } else if other.is_ascii_whitespace()
            && (separates(*byte) || i > 0 && separates(own[i - 1]))
        {
            j += 1;
        } else {
            return None;
        }
    }
    Some(j)
}

/// True of what no literal goes beyond.
fn separates(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':') || byte.is_ascii_whitespace()
}

/// True of what ends a literal that is skipped.
pub(super) fn ends_literal(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']')
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

    /// Whether the second value is given without a scan, and as scanning gives it.
    fn is_like(first: &str, second: &str) -> bool {
        let mut scanner = Scanner::new(&ASKED);
        let (mut given, mut wanted) = (Given::default(), Given::default());
        scanner.push_whole(first.as_bytes(), &mut Given::default());
        scanner.push_whole(second.as_bytes(), &mut given);
        Scanner::new(&ASKED).push(second.as_bytes(), &mut wanted);
        assert_eq!(given, wanted, "{first} {second}");
        scanner.was_spared()
    }

    #[test]
    fn numbers_of_which_nothing_is_kept_may_differ() {
        assert!(is_like(r#"{"number":9,"id":1}"#, r#"{"number":10,"id":1}"#));
        assert!(is_like(r#"{"id":1,"number":null}"#, r#"{"id":1,"number":-0.5e3}"#));
        assert!(!is_like(r#"{"number":9}"#, r#"{"number":"9"}"#));
        assert!(!is_like(r#"{"number":9}"#, r#"{"number":}"#));
        assert!(!is_like(r#"{"seen":9}"#, r#"{"seen":null}"#));
        assert!(!is_like(r#"{"id":9}"#, r#"{"id":8}"#));
    }

    #[test]
    fn blanks_may_differ_outside_strings() {
        assert!(is_like(r#"{"id":"a b","pad":"a"}"#, r#"{ "id" : "a b","pad":"b"   } "#));
        assert!(is_like(r#"{ "id" : "a b","pad":"a"   } "#, r#"{"id":"a b","pad":"b"}"#));
        assert!(is_like(r#"{"id":"\" b","pad":"a" }"#, r#"{"id":"\" b","pad":"b"  }"#));
        assert!(!is_like(r#"{"id":"a b","pad":"a"}"#, r#"{"id":"ab","pad":"b" }"#));
        assert!(!is_like(r#"{"id":"ab","pad":"a"}"#, r#"{"id":"a b","pad":"b" }"#));
        assert!(!is_like(r#"{"id":12,"pad":"a"}"#, r#"{"id":1 2,"pad":"b" }"#));
        assert!(!is_like(r#"{"pad":"a"}"#, r#"{"pad":"a"} 1"#));
    }

    #[test]
    fn a_text_that_is_an_object_is_shown_each_time() {
        assert!(!is_like(r#"{"args":{"a":"b"}}"#, r#"{"args":{"a":"b"}}"#));
        assert!(is_like(r#"{"args":"a"}"#, r#"{"args":"b"}"#));
    }

    #[test]
    fn a_string_without_content_stays_so() {
        let (first, second) =
            (r#"{"seen":"","list":[{"text":"a"}]}"#, r#"{"seen":"","list":[{"text":"b"}]}"#);
        assert!(is_like(first, second));
        assert!(!is_like(first, r#"{"seen":"x","list":[{"text":"b"}]}"#));
        assert!(!is_like(second, r#"{"seen":"","list":[{"text":""}]}"#));
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
                (0..5_usize, "[ab\"\\\\]{0,3}", "[ab\\\\]{0,2}", 0..3_u8, "[ 1a,]{0,2}"), 1..12,
            )
        ) {
            let line = |(shape, one, other, number, odd): (usize, String, String, u8, String)| {
                match shape {
                    0 => format!(
                        r#"{{"id":{number},"list":[{{"text":"{one}"}},{{"text":"{other}"}}]}}"#
                    ),
                    1 => format!(r#"{{"seen":"{one}","pad":"{other}","id":{number}}}"#),
                    2 => format!(r#"{{"n":{number}{odd},"seen":"{other}"{odd}}}{odd}"#),
                    3 => format!(r#"{{"args":{{"a":"{other}"}},"pad":"{one}"}}"#),
                    _ => format!(r#"{{"args":"{one}","list":[{{"kind":"{other}","text":"x"}}]}}"#),
                }
            };
            let lines: Vec<String> = lines.into_iter().map(line).collect();
            let (whole, cut) = given(&lines);
            prop_assert_eq!(whole, cut);
        }
    }
}
