//! What a request says about itself. Owns which members of a request's body are read: model, whether
//! a stream or the background is asked for, who the caller is. Never a word of the prompt.

use crate::framing::Value;

use super::selection::REQUEST;
use super::value::{object, text};
use crate::framing::{Coding, Decoder, Framed, Framer, Sink};

/// Decoded bytes read of one compressed request: what a client can make a worker do for nothing.
const MAX_DECODED: u64 = 16 * 1024 * 1024;

/// What was read of a request's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    pub model: Option<String>,
    pub stream: bool,
    /// The answer is made apart from this call, and can be fetched when it is there.
    pub background: bool,
    /// `safety_identifier`, `user`, or Anthropic's `metadata.user_id`.
    pub user: Option<String>,
}

impl Sink for RequestFacts {
    fn document(&mut self, json: &[u8]) {
        let Some(document) = Value::parse(json) else { return };
        let metadata = object(&document, "metadata");
        self.model = text(&document, "model").map(str::to_owned);
        self.stream = document.get("stream") == Some(&Value::Bool(true));
        self.background = document.get("background") == Some(&Value::Bool(true));
        self.user = text(&document, "safety_identifier")
            .or_else(|| text(&document, "user"))
            .or_else(|| text(metadata?, "user_id"))
            .map(str::to_owned);
    }
}

/// Reads a request's body as it streams by.
#[derive(Debug)]
pub enum RequestReader {
    Body(Box<Decoder<RequestFacts>>),
    Form {
        field: FormField,
        facts: RequestFacts,
    },
    /// A body that holds nothing to be read.
    Opaque,
}

impl RequestReader {
    /// A reader for a body of this `content-type` and `content-encoding`, empty where absent.
    pub fn new(content_type: &str, content_encoding: &str) -> RequestReader {
        let content_type = content_type.trim_start().to_ascii_lowercase();
        // Few providers take compressed requests, and those gzip.
        let coding = Coding::of_header(content_encoding)
            .filter(|coding| matches!(coding, Coding::Identity | Coding::Gzip));
        if content_type.starts_with("multipart/form-data") && coding == Some(Coding::Identity) {
            let (field, facts) = Default::default();
            return RequestReader::Form { field, facts };
        }
        let decoder = coding.and_then(|coding| {
            // Whatever the type says (curl's default is a form), a bracket begins JSON.
            let framer = Framer::Undecided { selection: &REQUEST, may_be_events: false };
            let body = Framed::new(framer, RequestFacts::default()).at_most(MAX_DECODED);
            Decoder::new(coding, body).ok()
        });
        decoder.map_or(RequestReader::Opaque, |decoder| RequestReader::Body(Box::new(decoder)))
    }

    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            RequestReader::Body(decoder) => {
                if decoder.push(bytes).is_err() {
                    *self = RequestReader::Opaque;
                }
            }
            RequestReader::Form { field, facts } => {
                if facts.model.is_none() {
                    facts.model = field.push(bytes);
                }
            }
            RequestReader::Opaque => {}
        }
    }

    pub fn facts(&self) -> RequestFacts {
        match self {
            RequestReader::Body(decoder) => decoder.sink().cloned().unwrap_or_default(),
            RequestReader::Form { facts, .. } => facts.clone(),
            RequestReader::Opaque => RequestFacts::default(),
        }
    }
}

/// Finds the form field `model` in a multipart body (audio, images) as it streams by.
#[derive(Debug, Default)]
pub struct FormField {
    at: At,
    value: Vec<u8>,
}

/// Where in a form the reader is.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Looking for the field's name, of which so much has matched.
    Name(usize),
    /// In the rest of the part's head, of whose end so much has matched.
    Head(usize),
    Value,
}

impl Default for At {
    fn default() -> At {
        At::Name(0)
    }
}

impl FormField {
    const NAME: &[u8] = b"name=\"model\"";

    const HEAD_END: &[u8] = b"\r\n\r\n";

    /// Longest value that is taken for a model's name.
    const MAX_VALUE: usize = 256;

    /// The value, once its end has been seen.
    fn push(&mut self, bytes: &[u8]) -> Option<String> {
        for byte in bytes {
            self.at = match self.at {
                // Neither text has its first byte where a match could begin anew within it, but for
                // the line ends, which `next_match` minds.
                At::Name(matched) => match next_match(Self::NAME, matched, *byte) {
                    matched if matched == Self::NAME.len() => At::Head(0),
                    matched => At::Name(matched),
                },
                At::Head(matched) => match next_match(Self::HEAD_END, matched, *byte) {
                    matched if matched == Self::HEAD_END.len() => At::Value,
                    matched => At::Head(matched),
                },
                At::Value if *byte == b'\r' || self.value.len() == Self::MAX_VALUE => {
                    self.at = At::Name(0);
                    let value = std::mem::take(&mut self.value);
                    return String::from_utf8(value).ok().filter(|value| !value.is_empty());
                }
                At::Value => {
                    self.value.push(*byte);
                    At::Value
                }
            };
        }
        None
    }
}

/// How much of a text has matched after one more byte.
fn next_match(text: &[u8], matched: usize, byte: u8) -> usize {
    if byte == text[matched] { matched + 1 } else { usize::from(byte == text[0]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(content_type: &str, body: &[u8], cut: usize) -> RequestFacts {
        let mut reader = RequestReader::new(content_type, "");
        body.chunks(cut).for_each(|piece| reader.push(piece));
        reader.facts()
    }

    #[test]
    fn json_bodies_tell_model_stream_and_user() {
        let body = br#"{"messages":[{"role":"user","content":"\"model\":\"no\""}],"model":"gpt-5",
            "stream":true,"user":"u1"}"#;
        for cut in 1..body.len() {
            let facts = facts("application/json", body, cut);
            assert_eq!(facts.model.as_deref(), Some("gpt-5"));
            assert!(facts.stream);
            assert_eq!(facts.user.as_deref(), Some("u1"));
        }
    }

    #[test]
    fn only_true_asks_for_the_background() {
        let background = |body: &[u8]| facts("application/json", body, 5).background;
        assert!(background(br#"{"background":true,"stream":true}"#));
        // Of an image, it is what is behind it.
        for body in ["{}", r#"{"background":false}"#, r#"{"background":"transparent"}"#] {
            assert!(!background(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn anthropic_names_the_user_in_metadata() {
        let facts = facts("application/json", br#"{"metadata":{"user_id":"u2"}}"#, 7);
        assert_eq!(facts.user.as_deref(), Some("u2"));
    }

    #[test]
    fn forms_tell_the_model_whatever_else_the_part_s_head_says() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\
            Content-Type: text/plain\r\n\r\nwhisper-1\r\n--x--";
        for cut in 1..body.len() {
            let facts = facts("multipart/form-data; boundary=x", body, cut);
            assert_eq!(facts.model.as_deref(), Some("whisper-1"));
        }
    }

    #[test]
    fn forms_tell_the_model() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\
            nname=\"mo\r\n--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x--";
        for cut in 1..body.len() {
            let facts = facts("multipart/form-data; boundary=x", body, cut);
            assert_eq!(facts.model.as_deref(), Some("whisper-1"));
        }
    }
}
