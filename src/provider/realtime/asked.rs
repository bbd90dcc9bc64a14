//! What a response over a WebSocket is asked with, to be counted should the provider not count it.
//! Owns how the members of a `response.create` that cost tokens are put together again; reads none.
//!
//! Invariant: bounded. Held in memory until the response is settled, never written anywhere.

use std::fmt;

use crate::framing::Text;

/// Bytes kept of one message: more than most context windows hold as text. Of what lies beyond only
/// the length is kept.
const MAX_KEPT: usize = 4 * 1024 * 1024;

/// The numbers that the selection gives to members, by which [`NAMES`] has them.
pub(super) mod member {
    pub(in crate::provider) const INPUT: u8 = 0;
    pub(in crate::provider) const INSTRUCTIONS: u8 = 1;
    pub(in crate::provider) const TOOLS: u8 = 2;
    pub(in crate::provider) const TOOL_CHOICE: u8 = 3;
    pub(in crate::provider) const TEXT: u8 = 4;
    pub(in crate::provider) const REASONING: u8 = 5;
    pub(in crate::provider) const PROMPT: u8 = 6;
}

const NAMES: [&str; 7] =
    ["input", "instructions", "tools", "tool_choice", "text", "reasoning", "prompt"];

/// The members of a request that cost tokens, as a JSON object of their own.
#[derive(Clone, Default)]
pub struct Asked {
    json: Vec<u8>,
    beyond: u64,
    /// The member at hand, and whether it is JSON rather than the inside of a string.
    at: Option<(u8, bool)>,
}

/// Tells how much there is, never what.
impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes asked with", self.json.len() as u64 + self.beyond)
    }
}

impl Asked {
    /// The object, of which [`Asked::beyond`] bytes may be missing at the end.
    pub fn into_json(mut self) -> Vec<u8> {
        self.end_member();
        if self.beyond == 0 {
            self.json.push(b'}');
        }
        self.json
    }

    /// Bytes that were not kept.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    pub(super) fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// Takes a piece of a member.
    pub(super) fn push(&mut self, text: &Text<'_>) {
        let Some(name) = NAMES.get(usize::from(text.slot)) else { return };
        if self.at != Some((text.slot, text.is_json)) {
            self.end_member();
            let begins = if self.json.is_empty() { "{" } else { "," };
            let quote = if text.is_json { "" } else { "\"" };
            self.keep(format!("{begins}\"{name}\":{quote}").as_bytes());
            self.at = Some((text.slot, text.is_json));
        }
        self.keep(text.bytes);
    }

    fn end_member(&mut self) {
        if let Some((_, false)) = self.at.take() {
            self.keep(b"\"");
        }
    }

    /// Once something was left out, all that follows is.
    fn keep(&mut self, bytes: &[u8]) {
        if self.beyond == 0 && self.json.len() + bytes.len() <= MAX_KEPT {
            self.json.extend_from_slice(bytes);
        } else {
            self.beyond += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::framing::{Scanner, Sink};
    use crate::provider::realtime::FROM_CLIENT;

    #[derive(Default)]
    struct Kept(Asked);

    impl Sink for Kept {
        fn document(&mut self, _: &[u8]) {}

        fn text(&mut self, text: &Text<'_>) {
            self.0.push(text);
        }
    }

    #[test]
    fn what_costs_tokens_is_put_together_again_however_it_was_cut() {
        let message = r#"{"model":"m","input":[{"content":"a\"b"},[]],"metadata":{"input":"no"},
            "instructions":"c\"d","tools":[],"text":{"format":{}},"type":"response.create"}"#;
        let expected = json!({"input": [{"content": "a\"b"}, []], "instructions": "c\"d",
            "tools": [], "text": {"format": {}}});
        for cut in 0..message.len() {
            let (mut scanner, mut kept) = (Scanner::new(&FROM_CLIENT), Kept::default());
            scanner.push(&message.as_bytes()[..cut], &mut kept);
            scanner.push(&message.as_bytes()[cut..], &mut kept);
            let json = kept.0.into_json();
            assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_is_counted() {
        let mut asked = Asked::default();
        let piece = vec![b'x'; 1024 * 1024];
        let text = Text { slot: member::INPUT, outer: 0, inner: 0, is_json: false, bytes: &piece };
        (0..6).for_each(|_| asked.push(&text));
        let beyond = asked.beyond();
        let json = asked.into_json();
        assert!(json.len() <= MAX_KEPT && json.starts_with(br#"{"input":"xx"#));
        assert_eq!(json.len() as u64 + beyond, 6 * 1024 * 1024 + br#"{"input":""#.len() as u64);
    }
}
