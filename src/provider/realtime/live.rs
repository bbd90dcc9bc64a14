//! Gemini Live (`BidiGenerateContent`). Owns where a turn begins and ends: its messages have no ids,
//! and its figures may come before, with or after the word that the turn is complete.

use crate::framing::Value;

use super::Session;
use crate::provider::RequestFacts;
use crate::provider::gemini;
use crate::provider::value::{object, text};

impl Session {
    /// A client's message. What is said in `realtimeInput` begins no turn: the provider decides when
    /// the speaker has finished.
    pub(super) fn live_asks(&mut self, message: &Value) {
        if let Some(model) = object(message, "setup").and_then(|setup| text(setup, "model")) {
            // `models/NAME`, on Vertex `projects/…/models/NAME`.
            let name = model.rsplit_once("models/").map_or(model, |(_, name)| name);
            self.model_asked = Some(name.to_owned());
        }
        let content = ["clientContent", "client_content"];
        let is_asked = content
            .iter()
            .filter_map(|name| object(message, name))
            .any(|content| is_true(content, "turnComplete") || is_true(content, "turn_complete"));
        let is_told = ["toolResponse", "tool_response"].iter().any(|it| message.get(it).is_some());
        if is_asked || is_told {
            self.end_those_over();
            self.live_turn(false);
        }
    }

    /// A provider's message.
    pub(super) fn live_answers(&mut self, message: &Value) {
        let content = object(message, "serverContent").unwrap_or(&Value::Null);
        let speaks = content.get("modelTurn").is_some()
            || content.get("outputTranscription").is_some()
            || message.get("toolCall").is_some();
        if speaks {
            self.end_those_over();
            if let Some(at) = self.live_turn(true) {
                self.answers(at);
                self.generates(at);
                self.speaks(at, message);
                if has_media(content) {
                    self.turns[at].generated.note_media();
                }
            }
        }
        let usage = object(message, "usageMetadata").filter(|usage| gemini::is_usage(usage));
        if let Some(usage) = usage
            && let Some(at) = self.live_turn(true)
        {
            self.answers(at);
            let reading = &mut self.turns[at].reading;
            reading.usage = gemini::usage(usage);
            reading.usage_json = Some(usage.clone());
            let model = text(message, "modelVersion").map(str::to_owned);
            reading.model = model.or(reading.model.take());
            let tier = text(usage, "serviceTier").map(str::to_owned);
            reading.service_tier = tier.or(reading.service_tier.take());
        }
        if let Some(open) = self.turns.first_mut() {
            if is_true(content, "interrupted") {
                open.reading.finish_reason = Some("interrupted".to_owned());
            }
            let is_over = open.is_over || is_true(content, "turnComplete");
            if is_over && open.reading.usage_json.is_some() {
                self.end(0);
            } else if is_over && !open.is_over {
                self.over(0);
            }
        }
    }

    /// The turn at hand, which begins if there is none.
    fn live_turn(&mut self, by_provider: bool) -> Option<usize> {
        if self.turns.is_empty() {
            let facts = RequestFacts { model: self.model_asked.clone(), ..RequestFacts::default() };
            self.begin(facts)?.is_answered = by_provider;
        }
        Some(0)
    }
}

/// Audio stands in parts of its own.
fn has_media(content: &Value) -> bool {
    let parts = object(content, "modelTurn").and_then(|turn| turn.get("parts")?.as_array());
    parts.is_some_and(|parts| parts.iter().any(|part| part.get("inlineData").is_some()))
}

fn is_true(object: &Value, name: &str) -> bool {
    object.get(name) == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use crate::provider::realtime::tests::{heard, play};

    const SETUP: &str = r#">{"setup":{"model":"models/gemini-live"}}"#;
    const ASK: &str =
        r#">{"clientContent":{"turns":[{"parts":[{"text":"secret"}]}],"turnComplete":true}}"#;
    const SPEAKS: &str = r#"<{"serverContent":{"modelTurn":{"parts":[{"text":"secret"}]}}}"#;
    const COMPLETE: &str = r#"<{"serverContent":{"turnComplete":true}}"#;
    const USAGE: &str = r#"<{"usageMetadata":{"promptTokenCount":5,"responseTokenCount":2,
        "thoughtsTokenCount":1,"totalTokenCount":7}}"#;
    const MODEL: &str = "0 begins gemini-live";

    #[test]
    fn the_figures_may_come_before_with_or_after_the_end_of_the_turn() {
        let both = r#"<{"serverContent":{"turnComplete":true},"usageMetadata":{"promptTokenCount":5,
            "responseTokenCount":3}}"#;
        let begun = [MODEL, "0 answers", "0 generates"];
        let told = play(&[SETUP, ASK, SPEAKS, SPEAKS, both]);
        assert_eq!(told, [begun.as_slice(), &["0 ends 5+3"]].concat());
        let told = play(&[SETUP, ASK, SPEAKS, USAGE, COMPLETE]);
        assert_eq!(told, [begun.as_slice(), &["0 ends 5+3"]].concat());
        let told = play(&[SETUP, ASK, SPEAKS, COMPLETE, USAGE]);
        assert_eq!(told, [begun.as_slice(), &["0 over", "0 ends 5+3"]].concat());
        // Or not at all.
        let told = play(&[SETUP, ASK, SPEAKS, COMPLETE, ASK]);
        assert_eq!(told[3..], ["0 over", "0 ends", "1 begins gemini-live"]);
    }

    #[test]
    fn a_spoken_turn_begins_when_the_provider_answers() {
        let heard = r#">{"realtimeInput":{"audio":{"data":"AAAA"}}}"#;
        let interrupted = r#"<{"serverContent":{"interrupted":true}}"#;
        let told = play(&[SETUP, heard, SPEAKS, interrupted, COMPLETE, USAGE]);
        let ended = ["0 over interrupted", "0 ends interrupted 5+3"];
        assert_eq!(told, [[MODEL, "0 generates"], ended].concat());
    }

    #[test]
    fn a_tool_s_answer_goes_on_with_the_turn_that_called_it() {
        let told = play(&[
            SETUP,
            r#">{"client_content":{"turn_complete":true}}"#,
            r#"<{"toolCall":{"functionCalls":[{"name":"f"}]}}"#,
            r#">{"toolResponse":{"functionResponses":[{"name":"f"}]}}"#,
            SPEAKS,
            USAGE,
            COMPLETE,
        ]);
        assert_eq!(told, [MODEL, "0 answers", "0 generates", "0 ends 5+3"]);
    }

    #[test]
    fn what_is_generated_goes_to_its_turn() {
        let part = |part: &str| {
            format!(r#"<{{"serverContent":{{"modelTurn":{{"parts":[{{{part}}}]}}}}}}"#)
        };
        let told = heard(&[
            SETUP,
            ASK,
            &part(r#""thought":true,"text":"Hm.""#),
            &part(r#""text":"Hel""#),
            &part(r#""text":"lo""#),
            &part(r#""inlineData":{"mimeType":"audio/pcm","data":"AAAA"}"#),
            r#"<{"serverContent":{"outputTranscription":{"text":"!"}}}"#,
            r#"<{"serverContent":{"inputTranscription":{"text":"heard"}}}"#,
            r#"<{"toolCall":{"functionCalls":[{"name":"f","args":{"x":1}}]}}"#,
            USAGE,
            COMPLETE,
            r#"<{"serverContent":{"modelTurn":{"parts":[{"text":"a"},{"text":"b"}]}}}"#,
        ]);
        let first =
            r#"0 ReasoningSummary:Hm. Content:Hello! ToolName:f ToolArguments:{"x":1} media"#;
        assert_eq!(told, [first, "1 Content:ab"]);
    }

    #[test]
    fn figures_of_no_turn_are_not_lost() {
        assert_eq!(play(&[SETUP, USAGE, COMPLETE]), [MODEL, "0 ends 5+3"]);
    }
}
