//! An answer as it is given: head, pieces, and when each goes. Owns its timing and its framing on the
//! wire; what the pieces say is the dialect's.
//!
//! Invariant: pieces go in the order of their times, none before the head.

use bytes::Bytes;
use serde_json::Value;

use super::cue::{Cue, Ending};
use super::text;

/// Tokens in one event: fewer would look no better, and cost time.
const AT_ONCE: u64 = 3;

/// An answer, ready to be given.
#[derive(Clone, Debug)]
pub(super) struct Play {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    /// When the head goes, after the request has come.
    pub(super) head_ms: u64,
    pub(super) beats: Vec<Beat>,
    pub(super) ending: Ending,
}

/// A piece, and when it goes.
#[derive(Clone, Debug)]
pub(super) struct Beat {
    pub(super) at_ms: u64,
    pub(super) bytes: Bytes,
}

/// How the documents of a stream stand in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Events,
    Lines,
    Array,
}

/// A stream that is being written.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    cue: &'a Cue,
    form: Form,
    beats: Vec<Beat>,
}

impl Play {
    /// A JSON document at once.
    pub(super) fn whole(cue: &Cue, document: &Value) -> Play {
        let beat = Beat { at_ms: cue.last_ms, bytes: document.to_string().into() };
        Play {
            status: cue.status,
            content_type: "application/json",
            headers: Vec::new(),
            head_ms: cue.last_ms,
            beats: vec![beat],
            ending: cue.ending,
        }
    }
}

impl<'a> Stream<'a> {
    pub(super) fn new(cue: &'a Cue, form: Form) -> Stream<'a> {
        Stream { cue, form, beats: Vec::new() }
    }

    /// When the last piece goes.
    pub(super) fn last_ms(&self) -> u64 {
        self.cue.last_ms
    }

    /// A document; `name` is that of its event, where events have names.
    pub(super) fn say(&mut self, at_ms: u64, name: Option<&str>, document: &Value) {
        let text = match (self.form, name) {
            (Form::Events, Some(name)) => format!("event: {name}\ndata: {document}\n\n"),
            (Form::Events, None) => format!("data: {document}\n\n"),
            (Form::Lines, _) => format!("{document}\n"),
            (Form::Array, _) if self.beats.is_empty() => format!("[{document}"),
            (Form::Array, _) => format!(",\n{document}"),
        };
        self.push(at_ms, text);
    }

    pub(super) fn push(&mut self, at_ms: u64, text: String) {
        self.beats.push(Beat { at_ms, bytes: text.into() });
    }

    /// The text of the answer, piece by piece, each at its time.
    pub(super) fn texts(&mut self, mut say: impl FnMut(&mut Stream<'a>, u64, &str)) {
        let Cue { first_ms, last_ms, .. } = *self.cue;
        let pieces = text::pieces(self.cue.from, self.cue.said, AT_ONCE);
        let count = pieces.len() as u64;
        for (at, piece) in (1_u64..).zip(&pieces) {
            say(self, first_ms + (last_ms - first_ms) * at / count, piece);
        }
    }

    /// Whether the answer comes to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.cue.ending == Ending::Whole
    }

    pub(super) fn play(mut self) -> Play {
        if self.form == Form::Array && self.is_whole() {
            self.push(self.last_ms(), "]".to_owned());
        }
        Play {
            status: self.cue.status,
            content_type: match self.form {
                Form::Events => "text/event-stream; charset=utf-8",
                Form::Lines => "application/x-ndjson",
                Form::Array => "application/json",
            },
            headers: Vec::new(),
            // Servers say that they have begun when they have nearly something to say.
            head_ms: self.cue.first_ms - self.cue.first_ms / 8,
            beats: self.beats,
            ending: self.cue.ending,
        }
    }
}
