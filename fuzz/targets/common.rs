//! What the targets have in common: bytes cut into pieces, and a sink that notes what it is given.

use tokenmeter::framing::{Sink, Text};

/// The first byte says how the rest is cut; then what is left.
pub fn cut(data: &[u8]) -> Option<(u8, &[u8])> {
    let (how, rest) = data.split_first()?;
    Some((*how, rest))
}

/// Calls with one piece of the bytes after the other: pieces of 1 to 16 bytes, or growing ones.
pub fn in_pieces(how: u8, mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
    let mut length = usize::from(how & 15) + 1;
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        take(piece);
        bytes = rest;
        length += usize::from(how >> 4);
    }
}

/// What was given, in its order; pieces of one text as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Noted(Vec<(String, Vec<u8>)>);

impl Sink for Noted {
    fn document(&mut self, json: &[u8]) {
        self.0.push(("document".to_owned(), json.to_vec()));
    }

    fn text(&mut self, text: &Text<'_>) {
        let key = format!("{:?}", (text.slot, text.outer, text.inner, text.is_json));
        match self.0.last_mut() {
            Some((last, so_far)) if *last == key => so_far.extend_from_slice(text.bytes),
            _ => self.0.push((key, text.bytes.to_vec())),
        }
    }

    fn left_out(&mut self) {
        self.0.push(("left out".to_owned(), Vec::new()));
    }

    fn end_of_message(&mut self) {
        self.0.push(("end of message".to_owned(), Vec::new()));
    }

    fn done(&mut self) {
        self.0.push(("done".to_owned(), Vec::new()));
    }

    fn exception(&mut self, name: &str) {
        self.0.push(("exception".to_owned(), name.as_bytes().to_vec()));
    }
}

/// Content types that lead to different framers.
pub const TYPES: [Option<&str>; 5] = [
    Some("application/json"),
    Some("text/event-stream"),
    Some("application/x-ndjson"),
    Some("application/vnd.amazon.eventstream"),
    Some("text/plain"),
];
