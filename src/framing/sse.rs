//! Server-sent events into documents. Owns the line grammar of `text/event-stream`; the data itself
//! goes to the JSON scanner as it comes.
//!
//! Invariant: a document is given as soon as its last byte is seen, so that an answer's last event is
//! known before the frame that carries it is passed on.
//!
//! Read tolerantly (all seen from real providers): LF, CRLF or a lone CR ends a line; one space after
//! the colon or none; comments; a byte-order mark; no empty line at the end; llama.cpp's field
//! `error`, which carries JSON like `data`.

use super::Sink;
use super::json::{Scanner, Selection};

/// What ends a stream of the OpenAI dialect.
const DONE: &[u8] = b"[DONE]";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a line's field name, of which this much has matched a name that is read.
    Field,
    /// After the colon of a field that is read: one space may follow.
    Space,
    /// In the value of a field that is read.
    Data,
    /// In a line that does not matter.
    Ignore,
}

/// The reader of one event stream.
#[derive(Debug)]
pub struct Sse {
    scanner: Scanner,
    state: State,
    /// The field name so far; a longer one is none that is read.
    field: [u8; 5],
    field_len: usize,
    /// Nothing has been seen of the line at hand.
    line_is_empty: bool,
    /// Nothing has been seen of the value of the line at hand.
    value_begins: bool,
    /// The byte before was a CR that ended a line: a LF now belongs to it.
    after_cr: bool,
    /// How much of [`DONE`] the event's data has matched; `None` once it cannot.
    done: Option<usize>,
    has_begun: bool,
    /// Bytes of a byte-order mark seen at the very start; `None` once past it.
    mark: Option<usize>,
}

impl Sse {
    pub fn new(selection: &'static Selection) -> Sse {
        Sse {
            scanner: Scanner::new(selection),
            state: State::Field,
            field: [0; 5],
            field_len: 0,
            line_is_empty: true,
            value_begins: false,
            after_cr: false,
            done: Some(0),
            has_begun: false,
            mark: Some(0),
        }
    }

    /// True once a field that is read, or a comment, shows that these are events.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        let mut rest = self.skip_mark(bytes);
        while let Some(byte) = rest.first() {
            let taken = match self.state {
                State::Ignore => self.ignore(rest),
                State::Data => self.data(rest, sink),
                State::Space => {
                    self.state = State::Data;
                    self.value_begins = true;
                    usize::from(*byte == b' ')
                }
                State::Field => {
                    self.field(*byte);
                    1
                }
            };
            rest = &rest[taken..];
        }
    }

    fn skip_mark<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        let mut rest = bytes;
        while let (Some(seen), Some(byte)) = (self.mark, rest.first()) {
            if MARK.get(seen) == Some(byte) {
                self.mark = Some(seen + 1);
                rest = &rest[1..];
            } else {
                self.mark = None;
            }
        }
        rest
    }

    fn field(&mut self, byte: u8) {
        if std::mem::take(&mut self.after_cr) && byte == b'\n' {
            return;
        }
        match byte {
            b'\n' | b'\r' => return self.end_line(byte),
            b':' => {
                let name = &self.field[..self.field_len];
                let read = name == b"data" || name == b"error";
                self.has_begun |= read || name.is_empty() || name == b"event";
                self.state = if read { State::Space } else { State::Ignore };
            }
            _ if self.field_len < self.field.len() => {
                self.field[self.field_len] = byte;
                self.field_len += 1;
            }
            _ => self.state = State::Ignore,
        }
        self.line_is_empty = false;
    }

    fn ignore(&mut self, bytes: &[u8]) -> usize {
        match memchr::memchr2(b'\n', b'\r', bytes) {
            None => bytes.len(),
            Some(at) => {
                self.end_line(bytes[at]);
                at + 1
            }
        }
    }

    fn data(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> usize {
        let end = memchr::memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
        self.look_for_done(&bytes[..end], sink);
        let begins = std::mem::take(&mut self.value_begins);
        if end == bytes.len() {
            self.scanner.push(bytes, sink);
            return end;
        }
        if begins {
            self.scanner.push_whole(&bytes[..end], sink);
        } else {
            self.scanner.push(&bytes[..end], sink);
        }
        // Several data lines are one value, joined by a line feed.
        self.scanner.push(b"\n", sink);
        self.done = None;
        self.end_line(bytes[end]);
        end + 1
    }

    fn look_for_done(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        for byte in bytes {
            let Some(matched) = self.done else { return };
            self.done = (DONE.get(matched) == Some(byte)).then_some(matched + 1);
            if self.done == Some(DONE.len()) {
                self.done = None;
                sink.done();
            }
        }
    }

    /// An empty line ends the event.
    fn end_line(&mut self, end: u8) {
        if self.line_is_empty {
            self.scanner.reset();
            self.done = Some(0);
        }
        self.after_cr = end == b'\r';
        self.line_is_empty = true;
        self.field_len = 0;
        self.state = State::Field;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Keep;

    static ASKED: Selection = Selection(&[("n", Keep::Scalar)]);

    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        documents: Vec<String>,
        done: usize,
    }

    impl Sink for Seen {
        fn document(&mut self, json: &[u8]) {
            self.documents.push(String::from_utf8(json.to_vec()).unwrap());
        }

        fn done(&mut self) {
            self.done += 1;
        }
    }

    fn read(text: &str) -> Seen {
        let read = |cut: usize| {
            let (mut sse, mut seen) = (Sse::new(&ASKED), Seen::default());
            sse.push(&text.as_bytes()[..cut], &mut seen);
            sse.push(&text.as_bytes()[cut..], &mut seen);
            seen
        };
        let whole = read(text.len());
        for cut in 0..text.len() {
            assert_eq!(read(cut), whole, "cut at {cut}");
        }
        whole
    }

    #[test]
    fn every_line_end_is_read() {
        for end in ["\n", "\r\n", "\r"] {
            let text =
                "\u{feff}: comment||event: x|data: {\"n\":1}||data:{\"n\":2}|id: 3||data: [DONE]||";
            let seen = read(&text.replace('|', end));
            assert_eq!(seen.documents, [r#"{"n":1}"#, r#"{"n":2}"#], "{end:?}");
            assert_eq!(seen.done, 1);
        }
    }

    #[test]
    fn data_lines_of_one_event_are_joined() {
        for end in ["\n", "\r\n", "\r"] {
            let seen = read(&"data: {\"n\":|data: 1}||".replace('|', end));
            assert_eq!(seen.documents, [r#"{"n":1}"#], "{end:?}");
        }
    }

    #[test]
    fn a_document_is_given_before_its_line_has_ended() {
        assert_eq!(read("data: {\"n\":1}").documents.len(), 1);
        assert_eq!(read("data: [DONE]").done, 1);
    }

    #[test]
    fn llama_cpp_s_error_field_is_read_like_data() {
        assert_eq!(read("error: {\"n\":1}\n\n").documents, [r#"{"n":1}"#]);
    }

    #[test]
    fn a_broken_event_does_not_harm_the_next() {
        let seen = read("data: {\"n\":\n\ndata: {\"n\":2}\n\nfoo\ndata\n\ndata: {\"n\":3}\n\n");
        assert_eq!(seen.documents, [r#"{"n":2}"#, r#"{"n":3}"#]);
    }

    #[test]
    fn done_counts_only_as_the_whole_beginning_of_the_data() {
        assert_eq!(read("data: {\"n\":\"[DONE]\"}\n\ndata: [DON\n\n: [DONE]\n\n").done, 0);
    }
}
