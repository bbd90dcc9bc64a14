//! Bytes into documents. Owns how JSON values, server-sent events, JSON lines, AWS event streams and
//! WebSocket messages are framed and how bodies are encoded; knows no provider and no field's meaning.
//!
//! Every framer is fed the body piece by piece, however it was cut, and gives the same documents for
//! every way of cutting. Memory is bounded whatever the body holds: of a document only what a
//! [`Selection`] asks for is kept, up to [`json::MAX_KEPT`] bytes. Nothing here fails: what cannot be
//! read is skipped.

mod aws;
mod edit;
mod encoding;
pub mod json;
pub mod members;
mod sse;
mod template;
mod value;
mod websocket;

use std::fmt;
use std::io::{self, Write};

pub use aws::EventStream;
pub use edit::{EventFilter, Verdict};
pub use encoding::{Coding, Decoder};
pub use json::{Keep, Lines, Scanner, Selection};
pub use sse::Sse;
pub use value::{Members, Value, put, quote};
pub use websocket::{Extensions, Sender, WebSocket};

/// Where framers put what they find.
pub trait Sink {
    /// One JSON value (an SSE event's data, a line, an element of a top-level array, a whole body),
    /// reduced to what the selection asks for.
    fn document(&mut self, json: &[u8]);

    /// A piece of a text that the selection asks to be shown, before the document that it stands in.
    fn text(&mut self, _text: &Text<'_>) {}

    /// A text was not looked at, or may not have been: it stood beyond a limit. Told once a document,
    /// before it.
    fn left_out(&mut self) {}

    /// A WebSocket message has ended: texts that no document followed belong to none.
    fn end_of_message(&mut self) {}

    /// The stream said that it is over (`data: [DONE]`).
    fn done(&mut self) {}

    /// The stream broke off with an error of this name (AWS event streams).
    fn exception(&mut self, _name: &str) {}
}

/// A piece of a text within a document.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Which text it is, by the number that the selection gives it.
    pub slot: u8,
    /// Where it stands in the outermost array around it, as the reduced document counts.
    pub outer: u32,
    /// Where it stands in the innermost, if that is another one.
    pub inner: u32,
    /// The bytes are JSON. Otherwise they stand as within a JSON string, escapes and all.
    pub is_json: bool,
    pub bytes: &'a [u8],
}

/// A framer for one body.
pub enum Framer {
    /// One JSON value, or several, or an array whose elements are the documents.
    Json(Scanner),
    /// A JSON value a line; a broken line does not harm the next.
    JsonLines(Lines),
    /// Server-sent events.
    Sse(Sse),
    /// `application/vnd.amazon.eventstream`.
    EventStream(EventStream),
    /// The first byte that is not blank will tell: a bracket begins JSON, anything else events or,
    /// where events cannot be, nothing that is read.
    Undecided { selection: &'static Selection, may_be_events: bool },
    /// Text, audio, images.
    Opaque,
}

impl Framer {
    /// The framer for a content type.
    ///
    /// Types that do not say or are known to lie are decided by the first byte: an absent one (the
    /// Codex backend streams so), `text/event-stream` (Gemini labels an error's plain JSON so),
    /// `application/json` (OpenAI labelled streams so in 2023) and those that are not read (`DeepSeek`
    /// sends errors as `application/octet-stream`).
    pub fn for_content_type(value: Option<&str>, selection: &'static Selection) -> Framer {
        let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/vnd.amazon.eventstream" => {
                Framer::EventStream(EventStream::new(selection))
            }
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonl"
            | "application/jsonlines"
            | "application/x-jsonlines"
            | "application/stream+json" => Framer::JsonLines(Lines::new(selection)),
            "application/json" | "text/event-stream" | "" => {
                Framer::Undecided { selection, may_be_events: true }
            }
            _ => Framer::Undecided { selection, may_be_events: false },
        }
    }

    /// True if the body comes event by event or line by line.
    pub fn is_stream(&self) -> bool {
        match self {
            Framer::JsonLines(_) | Framer::EventStream(_) => true,
            Framer::Sse(sse) => sse.has_begun(),
            Framer::Json(scanner) => scanner.is_many(),
            Framer::Undecided { .. } | Framer::Opaque => false,
        }
    }

    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        let mut bytes = bytes;
        if let Framer::Undecided { selection, may_be_events } = self {
            let Some(first) = bytes.iter().position(|b| !b.is_ascii_whitespace()) else { return };
            // Blanks that come alone are not seen by what follows, so none are.
            bytes = &bytes[first..];
            *self = match bytes[0] {
                b'{' | b'[' => Framer::Json(Scanner::new(selection)),
                _ if *may_be_events => Framer::Sse(Sse::new(selection)),
                _ => Framer::Opaque,
            };
        }
        match self {
            Framer::Json(scanner) => scanner.push(bytes, sink),
            Framer::JsonLines(lines) => lines.push(bytes, sink),
            Framer::Sse(sse) => sse.push(bytes, sink),
            Framer::EventStream(stream) => stream.push(bytes, sink),
            Framer::Undecided { .. } | Framer::Opaque => {}
        }
    }
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Framer::Json(_) => "Framer::Json",
            Framer::JsonLines(_) => "Framer::JsonLines",
            Framer::Sse(_) => "Framer::Sse",
            Framer::EventStream(_) => "Framer::EventStream",
            Framer::Undecided { .. } => "Framer::Undecided",
            Framer::Opaque => "Framer::Opaque",
        })
    }
}

/// A framer and its sink as one [`Write`], so that decoders can write into it. Refuses more than
/// [`Framed::MAX_DECODED`] bytes, which ends the decoding, never the call.
#[derive(Debug)]
pub struct Framed<S> {
    framer: Framer,
    pub sink: S,
    taken: u64,
    most: u64,
}

impl<S: Sink> Framed<S> {
    /// Decoded bytes read of one body: far above any real answer, far below what a compression bomb
    /// would cost.
    pub const MAX_DECODED: u64 = 256 * 1024 * 1024;

    pub fn new(framer: Framer, sink: S) -> Framed<S> {
        Framed { framer, sink, taken: 0, most: Self::MAX_DECODED }
    }

    /// Reads no more than so many decoded bytes.
    pub fn at_most(mut self, most: u64) -> Framed<S> {
        self.most = most;
        self
    }

    /// True if the body comes event by event, line by line or element by element.
    pub fn is_stream(&self) -> bool {
        self.framer.is_stream()
    }

    /// Feeds bytes that were not encoded: any number of them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.framer.push(bytes, &mut self.sink);
    }
}

impl<S: Sink> Write for Framed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        if self.taken > self.most {
            return Err(io::Error::other("decoded body too large to be read"));
        }
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
