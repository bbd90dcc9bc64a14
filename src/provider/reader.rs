//! From documents to what a call used. Owns the order in which shapes are tried and what a later
//! document changes about an earlier one; each dialect's own file says what its figures mean.
//!
//! Invariant: the same documents give the same reading however the body was cut, and every document
//! may be given twice in a row without changing it.

use std::fmt;

use crate::framing::{Members, Value};

use super::generated::Generated;
use super::texts::Texts;
use super::value::{count, has_number, has_odd_count, object, text};
use super::{anthropic, bedrock, cohere, gemini, ollama, openai};
use crate::framing::{Sink, Text};
use crate::units::Usd;
use crate::usage::Usage;

/// The header in which a LiteLLM proxy states a call's cost, in dollars.
const LITELLM_COST: &str = "x-litellm-response-cost";

/// Models whose side passes are added up over a batch's results.
const MAX_SIDE_MODELS: usize = 32;

/// Lines of a batch's results that are told apart: Anthropic's largest batches.
pub(super) const MAX_LINES: usize = 100_000;

/// True for headers that [`Reader::read_headers`] may ask for.
pub fn is_read_header(name: &str) -> bool {
    // All of them begin so, as few others do.
    name.starts_with("x-")
        && (name == LITELLM_COST || bedrock::HEADERS.iter().any(|(header, _)| *header == name))
}

/// What an answer said about itself.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub usage: Usage,
    /// The usage object as sent, if there was one with a number in it.
    pub usage_json: Option<Value>,
    /// A usage object whose figures are no numbers at all: nothing is reported by it, and it is kept to show
    /// what was said.
    pub odd_usage: Option<Value>,
    /// What passes of other models used, outside `usage`.
    pub side: Vec<(String, Usage)>,
    pub model: Option<String>,
    pub finish_reason: Option<String>,
    pub service_tier: Option<String>,
    /// The answer's own id, where no header names the request.
    pub id: Option<String>,
    /// What the provider says it charges.
    pub cost: Option<Usd>,
    /// The machine-readable word of an error that the answer holds.
    pub error: Option<String>,
    /// What was paid for besides the tier: Anthropic's `fast`.
    pub speed: Option<String>,
    /// The figures are those of a batch's results: the sum of its lines.
    pub batch: bool,
    /// The lines of a batch's results, up to 100,000.
    pub lines: Vec<BatchLine>,
    /// The id of the object that stated the usage: the provider may hand it out again under this id.
    pub usage_id: Option<String>,
    /// `usage` adds up several turns of which each was priced by itself.
    pub several_turns: bool,
    /// The last event of the stream has been seen: clients hang up here.
    pub finished: bool,
    /// Something that the model generated has been seen in a stream.
    pub generated: bool,
}

/// A line of a batch's results: one call, answered later.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLine {
    /// The provider's id of the answer or of the line, else the client's own of the request.
    pub id: String,
    pub model: Option<String>,
    pub usage: Usage,
    pub side: Vec<(String, Usage)>,
}

/// Reads the documents of one answer.
#[derive(Default)]
pub struct Reader {
    reading: Reading,
    /// The document before, as the scanner gave it: most of a stream's events say the same.
    last: Vec<u8>,
    /// Anthropic's figures so far, `message_start`'s under those of the deltas.
    message_usage: Option<Value>,
    texts: Texts,
    /// What the document before was, once parsed.
    last_document: Value,
}

/// Tells how much has been read, never what.
impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("usage", &self.reading.usage)
            .field("texts", &self.texts)
            .finish_non_exhaustive()
    }
}

impl Sink for Reader {
    fn document(&mut self, json: &[u8]) {
        if self.last == json {
            self.texts.document_again(&self.last_document);
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(json);
        let document = Value::parse(json).unwrap_or_default();
        self.read(&document);
        self.last_document = document;
        self.texts.document(&self.last_document);
    }

    fn text(&mut self, text: &Text<'_>) {
        self.texts.push(text);
    }

    fn left_out(&mut self) {
        self.texts.left_out();
    }

    fn done(&mut self) {
        self.reading.finished = true;
    }

    fn exception(&mut self, name: &str) {
        self.reading.error = Some(name.to_owned());
    }
}

impl Reader {
    pub fn new() -> Reader {
        Reader::default()
    }

    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// The text of the answer, as far as it could be seen.
    pub fn generated(&self) -> &Generated {
        self.texts.generated()
    }

    /// Hands the text of the answer over.
    pub fn take_generated(&mut self) -> Generated {
        self.texts.take_generated()
    }

    /// Nothing more comes: what stands in a document that broke off counts too.
    pub fn ended(&mut self) {
        self.texts.document(&Value::Null);
    }

    /// Reads what headers say and the body did not: LiteLLM's cost, Bedrock's token counts.
    pub fn read_headers<'a>(&mut self, header: impl Fn(&str) -> Option<&'a str>) {
        if self.reading.cost.is_none() {
            self.reading.cost = header(LITELLM_COST).and_then(|cost| cost.parse().ok());
        }
        if self.reading.usage_json.is_some() {
            return;
        }
        let counts: Members = bedrock::HEADERS
            .iter()
            .filter_map(|(name, count)| {
                Some(((*count).into(), Value::from(header(name)?.parse::<u64>().ok()?)))
            })
            .collect();
        if !counts.is_empty() {
            let counts = Value::Object(counts);
            let usage = bedrock::metrics_usage(&counts);
            self.report(usage, counts);
        }
    }

    fn read(&mut self, document: &Value) {
        if document.get("custom_id").is_some() {
            self.batch_line(document);
            return;
        }
        self.identity(document);
        let kind = text(document, "type").or_else(|| text(document, "event_type"));
        match kind.unwrap_or_default() {
            "message_start" => self.message_start(document),
            "message_delta" => self.message_delta(document),
            "message_stop" => self.message_stop(),
            "message-end" => self.cohere_end(document.get("delta")),
            kind if kind.starts_with("response.") => self.response_event(kind, document),
            kind if kind.starts_with("interaction.") => self.interaction(kind, document),
            "chat.end" => self.stats(document.get("result").unwrap_or(&Value::Null)),
            kind => {
                if kind.contains("delta") {
                    self.reading.generated = true;
                }
                // Audio ends its streams so: `transcript.text.done`, `speech.audio.done`.
                let last = kind.rsplit('.').next() == Some("done");
                self.reading.finished |= last && document.get("usage").is_some();
                self.whole(document);
            }
        }
        self.note_generated(document);
        self.error(document);
    }

    /// A document that is no event of a named type: each shape at its documented place.
    fn whole(&mut self, document: &Value) {
        if let Some(usage) = object(document, "usage") {
            self.usage(usage, document);
        }
        let of_groq = object(document, "x_groq").and_then(|groq| object(groq, "usage"));
        if let Some(usage) = of_groq.filter(|usage| has_number(usage)) {
            self.report(openai::usage(usage, true), usage.clone());
        }
        if let Some(metadata) = object(document, "usageMetadata") {
            self.gemini(metadata);
        }
        if let Some(meta) = object(document, "meta").filter(|meta| cohere::is_usage(meta)) {
            self.report(cohere::usage(meta), meta.clone());
        }
        if let Some(response) = object(document, "response") {
            self.cohere_end(Some(response));
        }
        if let Some(counters) = ollama::counters(document) {
            self.report(ollama::usage(&counters), counters);
        }
        if let Some(counts) = bedrock::invoke_counts(document) {
            self.report(bedrock::invoke_usage(&counts), counts);
        }
        self.stats(document);
        self.invocation_metrics(document);
        self.finish(document);
    }

    /// `usage` at the top of a document.
    fn usage(&mut self, usage: &Value, document: &Value) {
        // A batch job repeats the sum of its lines at every look.
        if !has_number(usage) && !cohere::is_usage(usage)
            || text(document, "object") == Some("batch")
        {
            if has_odd_count(usage) {
                self.reading.odd_usage = Some(usage.clone());
            }
            return;
        }
        if gemini::is_interaction_usage(usage) {
            self.report(gemini::interaction_usage(usage), usage.clone());
        } else if bedrock::is_usage(usage) {
            self.report(bedrock::usage(usage), usage.clone());
        } else if cohere::is_usage(usage) {
            self.report(cohere::usage(usage), usage.clone());
        } else if anthropic::is_usage(usage) || text(document, "type") == Some("message") {
            self.anthropic(usage.clone());
        } else if openai::is_usage(usage) {
            let generates = document.get("choices").is_some();
            self.report(openai::usage(usage, generates), usage.clone());
        }
    }

    fn report(&mut self, usage: Usage, raw: Value) {
        self.reading.usage = usage;
        self.reading.usage_id.clone_from(&self.reading.id);
        if let Some(tier) = text(&raw, "service_tier") {
            self.reading.service_tier = Some(tier.to_owned());
        }
        if let Some(cost) = openai::cost(&raw) {
            self.reading.cost = Some(cost);
        }
        self.reading.usage_json = Some(raw);
    }

    // --- Anthropic ---

    fn anthropic(&mut self, raw: Value) {
        let (usage, side) = anthropic::usage(&raw);
        self.reading.side = side;
        self.reading.several_turns = anthropic::has_compaction(&raw);
        self.reading.speed = text(&raw, "speed").filter(|s| *s != "standard").map(str::to_owned);
        self.report(usage, raw);
    }

    fn message_start(&mut self, document: &Value) {
        let Some(message) = object(document, "message") else { return };
        self.identity(message);
        if let Some(usage) = object(message, "usage").filter(|usage| has_number(usage)) {
            self.message_usage = Some(usage.clone());
            self.anthropic(usage.clone());
            // The output stated here is provisional (1, or 0 with other makers): until a delta gives
            // the real one it is unknown.
            self.reading.usage.output = None;
            self.reading.usage.total = None;
        }
    }

    /// No delta has given the output: then what the start said was not provisional.
    fn message_stop(&mut self) {
        self.reading.finished = true;
        if self.reading.usage.output.is_none()
            && let Some(usage) = self.message_usage.clone()
        {
            self.anthropic(usage);
        }
    }

    fn message_delta(&mut self, document: &Value) {
        if let Some(reason) = object(document, "delta").and_then(|d| text(d, "stop_reason")) {
            self.reading.finish_reason = Some(reason.to_owned());
        }
        if let Some(delta) = object(document, "usage") {
            let merged = anthropic::lay_over(self.message_usage.take(), delta);
            self.message_usage = Some(merged.clone());
            self.anthropic(merged);
        }
    }

    // --- OpenAI Responses ---

    fn response_event(&mut self, kind: &str, document: &Value) {
        self.reading.generated |= kind.rsplit('.').next() == Some("delta");
        let Some(response) = object(document, "response") else { return };
        self.identity(response);
        self.error(response);
        if let Some(usage) = object(response, "usage").filter(|usage| openai::is_usage(usage)) {
            self.report(openai::usage(usage, false), usage.clone());
        }
        let last = ["response.completed", "response.incomplete", "response.failed"];
        if last.contains(&kind) || kind == "response.cancelled" || kind == "response.done" {
            self.reading.finished = kind != "response.done";
            self.reading.finish_reason = openai::response_finish(response).map(str::to_owned);
        }
    }

    // --- Gemini ---

    /// Provisional before the end: the last object with figures counts, as a whole.
    fn gemini(&mut self, metadata: &Value) {
        if gemini::is_usage(metadata) {
            self.report(gemini::usage(metadata), metadata.clone());
        }
        if let Some(tier) = text(metadata, "serviceTier") {
            self.reading.service_tier = Some(tier.to_owned());
        }
    }

    fn interaction(&mut self, kind: &str, document: &Value) {
        let Some(interaction) = object(document, "interaction") else { return };
        self.identity(interaction);
        if let Some(usage) = object(interaction, "usage").filter(|usage| has_number(usage)) {
            self.report(gemini::interaction_usage(usage), usage.clone());
        }
        if kind == "interaction.completed" {
            self.reading.finish_reason = text(interaction, "status").map(str::to_owned);
        }
    }

    // --- Cohere ---

    /// What version 2's `message-end` has in `delta`, version 1's `stream-end` in `response`.
    fn cohere_end(&mut self, end: Option<&Value>) {
        let Some(end) = end else { return };
        let usage = object(end, "usage").or_else(|| object(end, "meta"));
        if let Some(usage) = usage.filter(|usage| cohere::is_usage(usage)) {
            self.report(cohere::usage(usage), usage.clone());
        }
        if let Some(reason) = text(end, "finish_reason") {
            self.reading.finish_reason = Some(reason.to_owned());
        }
        if end.get("error").is_some() {
            self.reading.error = Some(text(end, "error_type").unwrap_or("error").to_owned());
        }
    }

    // --- local servers, Bedrock ---

    fn stats(&mut self, document: &Value) {
        if let Some(stats) = object(document, "stats").filter(|stats| ollama::is_stats(stats)) {
            self.report(ollama::stats_usage(stats), stats.clone());
            if let Some(model) = text(document, "model_instance_id") {
                self.reading.model = Some(model.to_owned());
            }
        }
    }

    fn invocation_metrics(&mut self, document: &Value) {
        let metrics = object(document, "amazon-bedrock-invocationMetrics");
        // Claude's own events say more than the metrics that follow them.
        if let Some(metrics) = metrics.filter(|_| self.message_usage.is_none()) {
            self.report(bedrock::metrics_usage(metrics), metrics.clone());
        }
    }

    // --- batches ---

    /// A line of a batch's output file: the figures of all lines are added up.
    fn batch_line(&mut self, line: &Value) {
        let mut one = Reader::new();
        if let Some(body) = object(line, "response").and_then(|response| object(response, "body")) {
            one.read(body);
        }
        if let Some(message) = object(line, "result").and_then(|result| object(result, "message")) {
            one.read(message);
        }
        let one = one.reading;
        if one.usage_json.is_some() {
            self.reading.usage.add(&one.usage);
            self.add_line(line, &one);
            one.side.iter().for_each(|(model, usage)| self.add_side(model, usage));
            self.reading.usage_json = one.usage_json;
            self.reading.model = one.model.or(self.reading.model.take());
            self.reading.batch = true;
        }
    }

    fn add_line(&mut self, line: &Value, one: &Reading) {
        let lines = &mut self.reading.lines;
        let line_id = || ["id", "custom_id"].iter().find_map(|name| text(line, name));
        let id = one.usage_id.as_deref().or_else(line_id);
        if let Some(id) = id.filter(|_| lines.len() < MAX_LINES) {
            let (id, model) = (id.to_owned(), one.model.clone());
            lines.push(BatchLine { id, model, usage: one.usage.clone(), side: one.side.clone() });
        }
    }

    /// Adds up by model. A file that names ever new ones is no batch's.
    fn add_side(&mut self, model: &str, usage: &Usage) {
        let side = &mut self.reading.side;
        if let Some((_, sum)) = side.iter_mut().find(|(known, _)| known == model) {
            sum.add(usage);
        } else if side.len() < MAX_SIDE_MODELS {
            side.push((model.to_owned(), usage.clone()));
        }
    }

    // --- what stands beside the usage ---

    fn identity(&mut self, document: &Value) {
        for name in ["model", "modelVersion"] {
            if let Some(model) = text(document, name) {
                self.reading.model = Some(model.to_owned());
            }
        }
        for name in ["id", "responseId"] {
            if let Some(id) = text(document, name) {
                self.reading.id = Some(id.to_owned());
            }
        }
        if let Some(tier) = text(document, "service_tier") {
            self.reading.service_tier = Some(tier.to_owned());
        }
    }

    /// The finish reason, at the place of each dialect.
    fn finish(&mut self, document: &Value) {
        let candidate = document.get("candidates").and_then(|candidates| candidates.at(0));
        // Vertex can be asked for numbers instead of words.
        if let Some(number) = candidate.and_then(|candidate| count(candidate, "finishReason")) {
            self.reading.finish_reason = Some(number.to_string());
        }
        let blocked = object(document, "promptFeedback").and_then(|f| text(f, "blockReason"));
        let by_status = || match text(document, "object")? {
            "response" => openai::response_finish(document),
            "thread.run" | "interaction" => text(document, "status"),
            _ => None,
        };
        let reason = openai::finish_reason(document)
            .or_else(|| text(document, "stop_reason"))
            .or_else(|| text(document, "stopReason"))
            .or_else(|| text(document, "finish_reason"))
            .or_else(|| text(document, "done_reason"))
            .or_else(|| text(candidate?, "finishReason"))
            .or(blocked)
            .or_else(by_status);
        // An empty reason (Snowflake) does not replace one that says something.
        let known = self.reading.finish_reason.is_some();
        if let Some(reason) = reason.filter(|reason| !(reason.is_empty() && known)) {
            self.reading.finish_reason = Some(reason.to_owned());
        }
        if document.get("done") == Some(&Value::Bool(true)) {
            self.reading.finished = true;
        }
    }

    fn note_generated(&mut self, document: &Value) {
        let choice = || {
            let choice = document.get("choices")?.at(0)?;
            choice.get("delta").or_else(|| choice.get("text"))
        };
        let candidate = || document.get("candidates")?.at(0)?.get("content");
        let message = || {
            let message = object(document, "message")?;
            ["content", "thinking", "tool_calls"].iter().find_map(|name| message.get(name))
        };
        let plain = || {
            document.get("text").or_else(|| document.get("generation")).or_else(|| {
                document.get("response").filter(|response| **response == Value::Bool(true))
            })
        };
        if choice().or_else(candidate).or_else(message).or_else(plain).is_some()
            || document.get("contentBlockIndex").is_some()
        {
            self.reading.generated = true;
        }
    }

    /// An error at the top, in a choice, or in an event: its code, else its type, else `error`.
    fn error(&mut self, document: &Value) {
        let in_choice = || document.get("choices")?.at(0)?.get("error");
        let error = document.get("error").or_else(in_choice);
        // A Responses error event and Mistral's errors are the error themselves.
        let is_error = ["type", "object"].iter().any(|name| text(document, name) == Some("error"));
        let Some(error) = error.or(is_error.then_some(document)) else { return };
        let word = text(error, "code")
            .or_else(|| text(error, "type").filter(|kind| *kind != "error"))
            .or_else(|| text(error, "status"))
            .map(str::to_owned)
            .or_else(|| count(error, "code").map(|code| code.to_string()))
            .unwrap_or_else(|| "error".to_owned());
        self.reading.error = Some(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Framer, Scanner};
    use crate::provider::RESPONSE;

    fn read(documents: &[&str]) -> Reading {
        let mut reader = Reader::new();
        let mut framer = Framer::Json(Scanner::new(&RESPONSE));
        for document in documents {
            framer.push(document.as_bytes(), &mut reader);
        }
        reader.reading().clone()
    }

    const START: &str = r#"{"type":"message_start","message":{"model":"claude","usage":
        {"input_tokens":9,"output_tokens":1}}}"#;

    #[test]
    fn the_output_that_a_message_starts_with_is_provisional() {
        let cut = read(&[START]);
        assert_eq!((cut.usage.input, cut.usage.output, cut.usage.total), (Some(9), None, None));
        let delta = r#"{"type":"message_delta","usage":{"output_tokens":5}}"#;
        assert_eq!(read(&[START, delta]).usage.total, Some(14));
        // Should no delta say otherwise by the end, it was not provisional.
        assert_eq!(read(&[START, r#"{"type":"message_stop"}"#]).usage.output, Some(1));
    }

    #[test]
    fn an_error_is_named_by_its_code_its_type_or_not_at_all() {
        let cases = [
            (r#"{"error":{"message":"m","type":"t","code":"c"}}"#, "c"),
            (r#"{"error":{"message":"m","type":"t","code":null}}"#, "t"),
            (r#"{"error":{"message":"m","code":429}}"#, "429"),
            (r#"{"error":{"message":"m","type":null,"code":null}}"#, "error"),
            (r#"{"error":"text"}"#, "error"),
            (r#"{"type":"error","error":{"type":"overloaded_error"}}"#, "overloaded_error"),
            (r#"{"type":"error","code":"server_error","message":"m"}"#, "server_error"),
            (r#"{"choices":[{"finish_reason":"error","error":{"code":502}}]}"#, "502"),
        ];
        for (document, word) in cases {
            assert_eq!(read(&[document]).error.as_deref(), Some(word), "{document}");
        }
        assert_eq!(read(&[r#"{"error":null,"choices":[]}"#]).error, None);
    }

    #[test]
    fn a_usage_object_without_a_number_is_none() {
        for document in [
            r#"{"usage":{}}"#,
            r#"{"usage":{"prompt_tokens":null}}"#,
            r#"{"x_groq":{"usage":{}}}"#,
            r#"{"type":"message_start","message":{"usage":{}}}"#,
            r#"{"event_type":"interaction.completed","interaction":{"usage":{}}}"#,
            r#"{"usageMetadata":{"trafficType":"ON_DEMAND"}}"#,
            r#"{"object":"batch","usage":{"input_tokens":5}}"#,
        ] {
            assert!(read(&[document]).usage_json.is_none(), "{document}");
        }
    }

    #[test]
    fn a_batch_adds_up_its_lines_and_keeps_few_models_beside_them() {
        let lines: Vec<String> = (0..100)
            .map(|n| {
                format!(
                    r#"{{"custom_id":"c{n}","result":{{"message":{{"type":"message","usage":{{
                    "input_tokens":2,"output_tokens":1,"iterations":[{{"type":"advisor_message",
                    "model":"m{}","input_tokens":3,"output_tokens":1}}]}}}}}}}}"#,
                    n % 50
                )
            })
            .collect();
        let reading = read(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((reading.usage.input, reading.usage.output), (Some(200), Some(100)));
        assert!(reading.batch);
        assert_eq!(reading.side.len(), MAX_SIDE_MODELS);
        assert_eq!(
            reading.side[0],
            (
                "m0".to_owned(),
                Usage { input: Some(6), output: Some(2), total: Some(8), ..Usage::default() }
            )
        );
    }

    #[test]
    fn figures_that_are_no_numbers_are_shown_and_not_read() {
        for figure in ["\"12\"", "true", "{}", "[1]"] {
            let document = format!("{{\"usage\":{{\"prompt_tokens\":{figure}}}}}");
            let reading = read(&[&document]);
            assert_eq!((reading.usage, reading.usage_json), (Usage::default(), None), "{document}");
            assert!(reading.odd_usage.is_some(), "{document}");
        }
        for usual in ["{}", "{\"prompt_tokens\":null}", "{\"tier\":\"a\"}"] {
            let document = format!("{{\"usage\":{usual}}}");
            assert_eq!(read(&[&document]).odd_usage, None, "{document}");
        }
    }

    #[test]
    fn a_usage_key_elsewhere_is_not_read() {
        let document = r#"{"answer":{"usage":{"prompt_tokens":5}},"data":[{"usage":{"total_tokens":5}}],
            "tool_usage":{"image_gen":{"input_tokens":5}},"text":"\"usage\":{\"input_tokens\":5}"}"#;
        assert!(read(&[document]).usage_json.is_none());
    }
}
