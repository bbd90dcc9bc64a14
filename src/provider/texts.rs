//! Which kind a text of a document is, and to which choice it belongs. Owns the numbers by which the
//! selection marks texts; what the dialects mean by their fields is said there.
//!
//! Texts come before the document that they stand in, so they wait for it.

use std::fmt;

use crate::framing::Value;

use super::generated::{Generated, Kind, MAX_KEPT};
use super::value::{count, text};
use crate::framing::Text;

/// The numbers that the selection gives to texts.
pub(super) mod slot {
    pub(in crate::provider) const CONTENT: u8 = 0;
    pub(in crate::provider) const REFUSAL: u8 = 1;
    pub(in crate::provider) const REASONING: u8 = 2;
    /// Reasoning that may stand beside [`REASONING`], saying the same.
    pub(in crate::provider) const REASONING_TOO: u8 = 3;
    pub(in crate::provider) const SUMMARY: u8 = 4;
    pub(in crate::provider) const TOOL_NAME: u8 = 5;
    pub(in crate::provider) const TOOL_ARGUMENTS: u8 = 6;
    /// `delta` of an event, whose type says what it is.
    pub(in crate::provider) const DELTA: u8 = 7;
    /// `item.name` of an event.
    pub(in crate::provider) const ITEM_NAME: u8 = 8;
    /// A text in an output item, whose type says what it is.
    pub(in crate::provider) const ITEM_TEXT: u8 = 9;
    /// A text in a Gemini part, which may be a thought.
    pub(in crate::provider) const PART: u8 = 10;
    /// A text at the top of a document, which may be an event that repeats what came before.
    pub(in crate::provider) const TOP_TEXT: u8 = 11;
    /// A text in a part of a Gemini Live turn, which may be a thought.
    pub(in crate::provider) const LIVE_PART: u8 = 12;
    /// Reasoning in blocks, which may stand beside either of the two, saying the same.
    pub(in crate::provider) const REASONING_BLOCK: u8 = 13;
    /// A choice's text, which may stand beside [`CONTENT`], saying the same.
    pub(in crate::provider) const CONTENT_TOO: u8 = 14;
    /// Added: the text is the whole of what deltas may have brought already.
    pub(in crate::provider) const WHOLE: u8 = 0x80;
}

/// A text of the document at hand.
#[derive(Debug)]
struct Waiting {
    slot: u8,
    outer: u32,
    inner: u32,
    is_json: bool,
    /// Where it ends in [`Texts::bytes`]; it begins where the one before ends.
    end: usize,
    beyond: u64,
}

impl Waiting {
    fn place(&self) -> Place {
        (self.slot, self.outer, self.inner, self.is_json)
    }
}

/// Bytes of memory kept from one document to the next: sessions are long, and mostly silent.
const MAX_IDLE: usize = 64 * 1024;

/// Texts of a document that are remembered until the next: events have one or two.
const MAX_BEFORE: usize = 64;

/// The texts of one answer, or of several that come over one connection.
#[derive(Default)]
pub(super) struct Texts {
    waiting: Vec<Waiting>,
    bytes: Vec<u8>,
    /// The document at hand has texts that were not looked at.
    has_left_out: bool,
    generated: Generated,
    has_deltas: bool,
    /// What became of the texts of the document before.
    before: Before,
}

/// What the texts of a document were: those of the next are the same where it says the same.
#[derive(Debug, Default)]
struct Before {
    /// It begins something new.
    closes: bool,
    texts: Vec<(Place, Option<(u32, Kind)>)>,
}

/// Where a text stands: its slot, its elements of the outer and the inner array, whether it is JSON.
type Place = (u8, u32, u32, bool);

/// Tells how much there is, never what.
impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes wait, {:?}", self.bytes.len(), self.generated)
    }
}

impl Texts {
    pub(super) fn generated(&self) -> &Generated {
        &self.generated
    }

    pub(super) fn take_generated(&mut self) -> Generated {
        std::mem::take(&mut self.generated)
    }

    /// Takes a piece of a text of the document that is being read.
    pub(super) fn push(&mut self, text: &Text<'_>) {
        let key = (text.slot, text.outer, text.inner, text.is_json);
        let goes_on = self
            .waiting
            .last()
            .is_some_and(|last| (last.slot, last.outer, last.inner, last.is_json) == key);
        if !goes_on {
            let end = self.bytes.len();
            let (slot, outer, inner, is_json) = key;
            self.waiting.push(Waiting { slot, outer, inner, is_json, end, beyond: 0 });
        }
        let Some(last) = self.waiting.last_mut() else { return };
        if last.beyond == 0 && self.bytes.len() + text.bytes.len() <= MAX_KEPT {
            self.bytes.extend_from_slice(text.bytes);
            last.end = self.bytes.len();
        } else {
            last.beyond += text.bytes.len() as u64;
        }
    }

    /// Of the document that is being read, some texts will not be shown.
    pub(super) fn left_out(&mut self) {
        self.has_left_out = true;
    }

    /// The document in which the waiting texts stood is complete; `Null` if it broke off.
    pub(super) fn document(&mut self, document: &Value) {
        let mut generated = self.take_generated();
        self.give(document, &mut generated);
        self.generated = generated;
    }

    /// The same, where the document says what the one before said, texts apart.
    pub(super) fn document_again(&mut self, document: &Value) {
        let places = self.waiting.iter().map(Waiting::place);
        if self.has_left_out || !places.eq(self.before.texts.iter().map(|(place, _)| *place)) {
            return self.document(document);
        }
        if self.before.closes {
            self.generated.close();
        }
        let mut begin = 0;
        for (one, (_, became)) in self.waiting.iter().zip(&self.before.texts) {
            if let Some((choice, kind)) = *became {
                self.generated.push(choice, kind, &self.bytes[begin..one.end], one.is_json);
                self.generated.skip(choice, kind, one.beyond);
            }
            begin = one.end;
        }
        self.forget();
    }

    /// The same, where the document belongs to one of several answers.
    pub(super) fn give(&mut self, document: &Value, generated: &mut Generated) {
        self.before.texts.clear();
        self.before.closes = text(document, "type").is_some_and(|kind| {
            kind == "content_block_start" || kind == "response.output_item.added"
        });
        if self.before.closes {
            generated.close();
        }
        self.has_deltas |= document
            .get("choices")
            .and_then(|choices| choices.at(0))
            .is_some_and(|choice| choice.get("delta").is_some());
        if self.has_left_out {
            generated.note_left_out();
        }
        let mut begin = 0;
        for at in 0..self.waiting.len() {
            let one = &self.waiting[at];
            let (end, beyond, is_json) = (one.end, one.beyond, one.is_json);
            let place = one.place();
            let became = self.kind(one, document).map(|kind| (choice(document, place.1), kind));
            self.before.texts.push((place, became));
            if let Some((choice, kind)) = became {
                generated.push(choice, kind, &self.bytes[begin..end], is_json);
                generated.skip(choice, kind, beyond);
            }
            begin = end;
        }
        if self.before.texts.len() > MAX_BEFORE {
            self.before.texts = Vec::new();
        }
        self.forget();
    }

    /// The document in which the waiting texts stood belongs to no answer.
    pub(super) fn forget(&mut self) {
        self.has_left_out = false;
        self.waiting.clear();
        self.waiting.shrink_to(MAX_IDLE / size_of::<Waiting>());
        self.bytes.clear();
        self.bytes.shrink_to(MAX_IDLE);
    }

    /// What a text is; nothing if it repeats another.
    fn kind(&self, one: &Waiting, document: &Value) -> Option<Kind> {
        let of_event = text(document, "type").unwrap_or_default();
        if one.slot & slot::WHOLE != 0 && self.has_deltas {
            return None;
        }
        match one.slot & !slot::WHOLE {
            slot::REFUSAL => Some(Kind::Refusal),
            slot::REASONING => Some(Kind::Reasoning),
            slot::REASONING_TOO => {
                let same = |other: &Waiting| {
                    other.slot & !slot::WHOLE == slot::REASONING && other.outer == one.outer
                };
                (!self.waiting.iter().any(same)).then_some(Kind::Reasoning)
            }
            slot::REASONING_BLOCK => {
                let same = |other: &Waiting| {
                    matches!(other.slot & !slot::WHOLE, slot::REASONING | slot::REASONING_TOO)
                        && other.outer == one.outer
                };
                (!self.waiting.iter().any(same)).then_some(Kind::Reasoning)
            }
            // Together's completions as a stream have both.
            slot::CONTENT_TOO => {
                let same = |other: &Waiting| {
                    other.slot & !slot::WHOLE == slot::CONTENT && other.outer == one.outer
                };
                (!self.waiting.iter().any(same)).then_some(Kind::Content)
            }
            slot::SUMMARY => Some(Kind::ReasoningSummary),
            slot::TOOL_NAME => Some(Kind::ToolName),
            slot::TOOL_ARGUMENTS => Some(Kind::ToolArguments),
            slot::DELTA => delta_kind(of_event),
            slot::ITEM_NAME => (of_event == "response.output_item.added").then_some(Kind::ToolName),
            slot::ITEM_TEXT => {
                let items = document.get("output").or_else(|| document.get("steps"));
                let item = items.and_then(|items| items.at(one.outer as usize));
                match item.and_then(|item| text(item, "type")) {
                    Some("reasoning") => Some(Kind::Reasoning),
                    Some("thought") => Some(Kind::ReasoningSummary),
                    _ => Some(Kind::Content),
                }
            }
            slot::PART => {
                let candidate = document.get("candidates").and_then(|c| c.at(one.outer as usize));
                Some(part_kind(candidate.and_then(|c| c.get("content")), one.inner))
            }
            slot::LIVE_PART => {
                let turn = document.get("serverContent").and_then(|it| it.get("modelTurn"));
                Some(part_kind(turn, one.outer))
            }
            slot::TOP_TEXT if of_event.starts_with("response.") => None,
            slot::TOP_TEXT if of_event.rsplit('.').next() == Some("done") => None,
            slot::TOP_TEXT if of_event.starts_with("reasoning") => Some(Kind::Reasoning),
            _ => Some(Kind::Content),
        }
    }
}

/// What the `delta` of an event of the Responses API (or of its kin) is.
fn delta_kind(of_event: &str) -> Option<Kind> {
    Some(match of_event {
        "response.refusal.delta" => Kind::Refusal,
        "response.reasoning_text.delta" | "response.reasoning.delta" => Kind::Reasoning,
        "response.reasoning_summary_text.delta" | "response.reasoning_summary.delta" => {
            Kind::ReasoningSummary
        }
        "response.function_call_arguments.delta"
        | "response.custom_tool_call_input.delta"
        | "response.mcp_call_arguments.delta"
        | "response.code_interpreter_call_code.delta" => Kind::ToolArguments,
        "response.audio.delta" | "response.output_audio.delta" | "speech.audio.delta" => {
            return None;
        }
        _ => Kind::Content,
    })
}

/// What a Gemini part is. A thought is a summary: the thoughts themselves are longer.
fn part_kind(content: Option<&Value>, at: u32) -> Kind {
    let part = content.and_then(|content| content.get("parts")?.at(at as usize));
    let is_thought = part.and_then(|part| part.get("thought")) == Some(&Value::Bool(true));
    if is_thought { Kind::ReasoningSummary } else { Kind::Content }
}

/// The index of the choice that an element belongs to. Other arrays than those of choices hold parts
/// of one answer.
fn choice(document: &Value, outer: u32) -> u32 {
    let choices = document.get("choices").or_else(|| document.get("candidates"));
    let Some(choices) = choices else { return 0 };
    let index = choices.at(outer as usize).and_then(|choice| count(choice, "index"));
    index.and_then(|index| u32::try_from(index).ok()).unwrap_or(outer)
}

#[cfg(test)]
mod tests {
    use crate::framing::{Framer, Scanner, Sse};
    use crate::provider::{RESPONSE, Reader};

    /// The texts of an answer, which must be the same for every way of cutting it in two.
    fn texts(body: &str) -> Vec<String> {
        let read = |cut: usize| {
            let mut reader = Reader::new();
            let mut framer = if body.starts_with('{') {
                Framer::Json(Scanner::new(&RESPONSE))
            } else {
                Framer::Sse(Sse::new(&RESPONSE))
            };
            framer.push(&body.as_bytes()[..cut], &mut reader);
            framer.push(&body.as_bytes()[cut..], &mut reader);
            reader.ended();
            let one =
                |s: &crate::provider::Segment| format!("{}{:?}:{}", s.choice, s.kind, s.text());
            reader.generated().segments().iter().map(one).collect::<Vec<_>>()
        };
        let whole = read(body.len());
        (0..body.len()).for_each(|cut| assert_eq!(read(cut), whole, "cut at {cut}"));
        whole
    }

    fn stream(events: &[&str]) -> String {
        let lines = events.iter().flat_map(|event| ["data: ", *event, "\n\n"]);
        lines.collect()
    }

    #[test]
    fn chat_completions_whole_and_as_a_stream() {
        let whole = r#"{"choices":[{"index":1,"message":{"content":"a\u00e9","reasoning":"r",
            "reasoning_content":"r","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}},
            {"message":{"refusal":"no"},"index":0}]}"#;
        let expected =
            ["1Content:aé", "1Reasoning:r", "1ToolName:f", "1ToolArguments:{}", "0Refusal:no"];
        assert_eq!(texts(whole), expected);
        let events = stream(&[
            r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"c"},"message":{"content":"aac"}}]}"#,
        ]);
        assert_eq!(texts(&events), ["0Content:aac", "1Content:b"]);
        let both = stream(&[
            r#"{"choices":[{"index":0,"text":"a","delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"index":0,"text":"b","delta":{"content":"b"}}]}"#,
        ]);
        assert_eq!(texts(&both), ["0Content:ab"]);
    }

    #[test]
    fn reasoning_that_stands_twice_counts_once() {
        let beside =
            r#"{"choices":[{"message":{"reasoning":"r","reasoning_details":[{"text":"r"}]}}]}"#;
        assert_eq!(texts(beside), ["0Reasoning:r"]);
        let alone = stream(&[
            r#"{"choices":[{"delta":{"content":"","reasoning_details":[{"text":"r"}]}}]}"#,
            r#"{"choices":[{"delta":{"content":"","reasoning_details":[{"text":"s"}]}}]}"#,
        ]);
        assert_eq!(texts(&alone), ["0Reasoning:rs"]);
    }

    #[test]
    fn messages_whole_and_as_a_stream() {
        let whole = r#"{"type":"message","content":[{"type":"thinking","thinking":"t","signature":"s"},
            {"type":"text","text":"a"},{"type":"tool_use","name":"f","input":{"x":1}}]}"#;
        assert_eq!(
            texts(whole),
            ["0Reasoning:t", "0Content:a", "0ToolName:f", r#"0ToolArguments:{"x":1}"#]
        );
        let events = stream(&[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}"#,
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{\"x"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"\":1}"}}"#,
        ]);
        assert_eq!(texts(&events), ["0Content:ab", "0ToolName:f", r#"0ToolArguments:{"x":1}"#]);
    }

    #[test]
    fn responses_whole_and_as_a_stream() {
        let whole = r#"{"object":"response","text":{"format":{"type":"text"}},"output":[
            {"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"content":[{"text":"r"}]},
            {"type":"message","content":[{"type":"output_text","text":"a"}]},
            {"type":"function_call","name":"f","arguments":"{}"}]}"#;
        assert_eq!(
            texts(whole),
            [
                "0ReasoningSummary:s",
                "0Reasoning:r",
                "0Content:a",
                "0ToolName:f",
                "0ToolArguments:{}"
            ]
        );
        let events = stream(&[
            r#"{"type":"response.output_text.delta","delta":"a"}"#,
            r#"{"delta":"b","type":"response.output_text.delta"}"#,
            r#"{"type":"response.output_text.done","text":"ab"}"#,
            r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#,
            r#"{"type":"response.function_call_arguments.delta","delta":"{}"}"#,
            r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"f"}}"#,
            r#"{"type":"response.completed","response":{"output":[{"content":[{"text":"ab"}]}]}}"#,
        ]);
        assert_eq!(texts(&events), ["0Content:ab", "0ToolName:f", "0ToolArguments:{}"]);
    }

    #[test]
    fn the_other_dialects() {
        for (body, expected) in [
            (
                r#"{"candidates":[{"content":{"parts":[{"text":"t","thought":true},{"text":"a"},
                {"functionCall":{"name":"f","args":{"x":1}}}]}}]}"#,
                vec![
                    "0ReasoningSummary:t",
                    "0Content:a",
                    "0ToolName:f",
                    r#"0ToolArguments:{"x":1}"#,
                ],
            ),
            (
                r#"{"message":{"content":"a","thinking":"t","tool_calls":[{"function":{"name":"f",
                "arguments":{"x":1}}}]},"done":false}"#,
                vec!["0Content:a", "0Reasoning:t", "0ToolName:f", r#"0ToolArguments:{"x":1}"#],
            ),
            (r#"{"response":"a","thinking":"t"}"#, vec!["0Content:a", "0Reasoning:t"]),
            (
                r#"{"output":{"message":{"content":[{"text":"a"},{"toolUse":{"name":"f","input":{}}}]}}}"#,
                vec!["0Content:a", "0ToolName:f", "0ToolArguments:{}"],
            ),
            (r#"{"contentBlockIndex":0,"delta":{"text":"a"}}"#, vec!["0Content:a"]),
            (
                r#"{"type":"content-delta","delta":{"message":{"content":{"text":"a"}}}}"#,
                vec!["0Content:a"],
            ),
            (
                r#"{"steps":[{"type":"thought"},{"type":"model_output","content":[{"text":"a"}]}]}"#,
                vec!["0Content:a"],
            ),
        ] {
            assert_eq!(texts(body), expected, "{body}");
        }
    }

    #[test]
    fn a_body_that_breaks_off_keeps_what_has_come() {
        let body = br#"{"choices":[{"index":0,"message":{"content":"It broke o"#;
        let mut reader = Reader::new();
        Framer::Json(Scanner::new(&RESPONSE)).push(body, &mut reader);
        reader.ended();
        assert_eq!(reader.generated().segments()[0].text(), "It broke o");
    }

    #[test]
    fn answers_beyond_what_is_read_of_an_array_were_not_missed() {
        let body = |choices: usize| {
            let choices: Vec<_> =
                (0..choices).map(|at| format!(r#"{{"index":{at},"text":"a"}}"#)).collect();
            format!(r#"{{"choices":[{}]}}"#, choices.join(","))
        };
        for (choices, has_left_out) in [(128, false), (200, true)] {
            let mut reader = Reader::new();
            Framer::Json(Scanner::new(&RESPONSE)).push(body(choices).as_bytes(), &mut reader);
            assert_eq!(reader.generated().segments().len(), 128);
            assert_eq!(reader.generated().has_left_out(), has_left_out);
        }
    }

    #[test]
    fn what_is_printed_of_a_reader_had_the_text_in_it() {
        let mut reader = Reader::new();
        let body = br#"{"choices":[{"message":{"content":"Swordfish"}}]}{"content":"Swordfi"#;
        Framer::Json(Scanner::new(&RESPONSE)).push(body, &mut reader);
        let printed = format!("{reader:?}");
        assert!(!printed.contains("Sword") && !printed.contains("83"), "{printed}");
        assert!(printed.contains("7 bytes wait"), "{printed}");
    }
}
