//! AWS event streams into documents. Owns the binary frame (total length, header length, checksum;
//! headers; payload; checksum) as the Smithy specification of `vnd.amazon.eventstream` gives it; the
//! payload goes to the JSON scanner as it comes. Checksums are the client's to check.
//!
//! A `chunk` event's payload is `{"bytes":"…"}` with the model's own event inside as base64; that is
//! what is given then.

use std::fmt;

use super::Sink;
use super::json::{Scanner, Selection};

const PRELUDE: usize = 12;
const CHECKSUM: u32 = 4;

/// Bytes of a frame that are neither headers nor payload.
const OVERHEAD: u32 = 16;

/// Bytes of a frame's headers that are kept; real ones take about a hundred.
const MAX_HEADERS: usize = 1024;

/// The member that holds a chunk's event.
const BYTES_MEMBER: &[u8] = b"\"bytes\":\"";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Prelude,
    Headers {
        left: u32,
        payload: u32,
    },
    Payload {
        left: u32,
    },
    Checksum {
        left: u32,
    },
    /// Lengths that cannot be: the stream is not what it says it is.
    Broken,
}

/// The reader of one AWS event stream.
pub struct EventStream {
    state: State,
    /// The prelude or the headers so far.
    head: Vec<u8>,
    is_chunk: bool,
    scanner: Scanner,
    chunk: Chunk,
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("state", &self.state).finish_non_exhaustive()
    }
}

impl EventStream {
    pub fn new(selection: &'static Selection) -> EventStream {
        EventStream {
            state: State::Prelude,
            head: Vec::new(),
            is_chunk: false,
            scanner: Scanner::new(selection),
            chunk: Chunk::default(),
        }
    }

    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.step(rest, sink);
            rest = &rest[taken..];
        }
    }

    fn step(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> usize {
        let available = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match self.state {
            State::Prelude => {
                let taken = bytes.len().min(PRELUDE - self.head.len());
                self.head.extend_from_slice(&bytes[..taken]);
                if self.head.len() == PRELUDE {
                    self.end_prelude(sink);
                }
                taken
            }
            State::Headers { left, payload } => {
                let taken = left.min(available);
                let room = MAX_HEADERS.saturating_sub(self.head.len());
                self.head.extend_from_slice(&bytes[..(taken as usize).min(room)]);
                self.state = State::Headers { left: left - taken, payload };
                if taken == left {
                    self.end_headers(payload, sink);
                }
                taken as usize
            }
            State::Payload { left } => {
                let taken = left.min(available);
                self.payload(&bytes[..taken as usize], sink);
                self.state = if taken == left {
                    State::Checksum { left: CHECKSUM }
                } else {
                    State::Payload { left: left - taken }
                };
                taken as usize
            }
            State::Checksum { left } => {
                let taken = left.min(available);
                self.state = if taken == left {
                    State::Prelude
                } else {
                    State::Checksum { left: left - taken }
                };
                taken as usize
            }
            State::Broken => bytes.len(),
        }
    }

    fn end_prelude(&mut self, sink: &mut dyn Sink) {
        let number = |at: usize| {
            self.head[at..at + 4].iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte))
        };
        let (total, headers) = (number(0), number(4));
        let payload = total.checked_sub(OVERHEAD).and_then(|rest| rest.checked_sub(headers));
        self.head.clear();
        match payload {
            None => self.state = State::Broken,
            Some(payload) if headers == 0 => self.end_headers(payload, sink),
            Some(payload) => self.state = State::Headers { left: headers, payload },
        }
    }

    fn end_headers(&mut self, payload: u32, sink: &mut dyn Sink) {
        self.is_chunk = false;
        for (name, value) in Headers(&self.head) {
            match name {
                b":event-type" => self.is_chunk = value == b"chunk",
                b":exception-type" | b":error-code" => {
                    sink.exception(&String::from_utf8_lossy(value));
                }
                _ => {}
            }
        }
        self.head.clear();
        self.scanner.reset();
        self.chunk = Chunk::default();
        self.state = if payload == 0 {
            State::Checksum { left: CHECKSUM }
        } else {
            State::Payload { left: payload }
        };
    }

    fn payload(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        if self.is_chunk {
            self.chunk.push(bytes, &mut |decoded| self.scanner.push(decoded, sink));
        } else {
            self.scanner.push(bytes, sink);
        }
    }
}

/// The headers of one frame: name, and value where it is a string (type 7). A header of another type
/// ends the walk unless its length is known.
struct Headers<'a>(&'a [u8]);

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_len, rest) = self.0.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
        let (kind, rest) = rest.split_first()?;
        let (len, rest) = match kind {
            0 | 1 => (0, rest),
            2 => (1, rest),
            3 => (2, rest),
            4 => (4, rest),
            5 | 8 => (8, rest),
            9 => (16, rest),
            _ => {
                let (len, rest) = rest.split_at_checked(2)?;
                (usize::from(u16::from_be_bytes([len[0], len[1]])), rest)
            }
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((name, if *kind == 7 { value } else { b"" }))
    }
}

/// Finds `"bytes":"` in a chunk's payload and decodes the base64 text behind it, piece by piece.
#[derive(Debug, Default)]
struct Chunk {
    /// How much of [`BYTES_MEMBER`] has matched.
    matched: usize,
    finished: bool,
    /// Up to four base64 digits not decoded yet.
    bits: u32,
    digits: u8,
}

impl Chunk {
    fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        const PIECE: usize = 512;
        let mut decoded = [0_u8; PIECE];
        let mut len = 0;
        for byte in bytes {
            if self.finished {
                break;
            }
            if self.matched < BYTES_MEMBER.len() {
                self.match_member(*byte);
                continue;
            }
            if len + 3 > PIECE {
                out(&decoded[..len]);
                len = 0;
            }
            len += self.digit(*byte, &mut decoded[len..]);
        }
        out(&decoded[..len]);
    }

    /// No proper prefix of the member reappears within it but its first quote.
    fn match_member(&mut self, byte: u8) {
        if byte == BYTES_MEMBER[self.matched] {
            self.matched += 1;
        } else if !(byte.is_ascii_whitespace() && self.matched > 6) {
            self.matched = usize::from(byte == b'"');
        }
    }

    /// Takes one base64 digit and says how many bytes it completed.
    fn digit(&mut self, byte: u8, out: &mut [u8]) -> usize {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'\\' => return 0,
            _ => return self.finish(out),
        };
        self.bits = self.bits << 6 | u32::from(value);
        self.digits += 1;
        if self.digits < 4 {
            return 0;
        }
        out[..3].copy_from_slice(&self.bits.to_be_bytes()[1..]);
        (self.bits, self.digits) = (0, 0);
        3
    }

    /// The text is over, at its padding or its quote: what digits are left give one byte or two.
    fn finish(&mut self, out: &mut [u8]) -> usize {
        self.finished = true;
        let bytes = usize::from(self.digits).saturating_sub(1);
        let bits = self.bits << (6 * (4 - u32::from(self.digits.min(4))));
        out[..bytes].copy_from_slice(&bits.to_be_bytes()[1..=bytes]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Keep;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    static ASKED: Selection = Selection(&[("n", Keep::Scalar)]);

    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        documents: Vec<String>,
        exceptions: Vec<String>,
    }

    impl Sink for Seen {
        fn document(&mut self, json: &[u8]) {
            self.documents.push(String::from_utf8(json.to_vec()).unwrap());
        }

        fn exception(&mut self, name: &str) {
            self.exceptions.push(name.to_owned());
        }
    }

    fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(u8::try_from(name.len()).unwrap());
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
        let total = PRELUDE + head.len() + payload.len() + 4;
        [&length(total)[..], &length(head.len()), &[0; 4], &head, payload.as_bytes(), &[0; 4]]
            .concat()
    }

    fn read(bytes: &[u8]) -> Seen {
        let read = |cut: usize| {
            let (mut stream, mut seen) = (EventStream::new(&ASKED), Seen::default());
            stream.push(&bytes[..cut], &mut seen);
            stream.push(&bytes[cut..], &mut seen);
            seen
        };
        let whole = read(bytes.len());
        for cut in 0..bytes.len() {
            assert_eq!(read(cut), whole, "cut at {cut}");
        }
        whole
    }

    #[test]
    fn payloads_and_the_events_inside_chunks_are_read() {
        let plain = frame(&[(":event-type", "metadata")], r#"{"n":1}"#);
        let chunks = ["{\"n\":2}", "{\"n\":22}", "{\"n\":222}"].map(|event| {
            let payload = format!(r#"{{"bytes" : "{}","p":"ab"}}"#, STANDARD.encode(event));
            frame(
                &[(":event-type", "chunk"), (":message-type", "event")],
                &payload.replace(' ', ""),
            )
        });
        let seen = read(&[plain, chunks.concat()].concat());
        assert_eq!(seen.documents, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":22}"#, r#"{"n":222}"#]);
    }

    #[test]
    fn an_exception_is_named() {
        let seen = read(&frame(&[(":exception-type", "throttlingException")], "{}"));
        assert_eq!(seen.exceptions, ["throttlingException"]);
    }

    #[test]
    fn impossible_lengths_end_the_reading() {
        assert_eq!(read(&[0; 64]), Seen::default());
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\nnot what it says"), Seen::default());
    }
}
