//! OpenAI's own models, whose vocabularies are public. Owns what a prompt and an answer of theirs
//! cost; the constants are in `generation`, tools in `tools`, pictures in `image`.
//!
//! Errors stated are those that the benchmark finds (`cargo bench --bench estimates`).

mod generation;
mod image;
mod output;
mod tools;

pub(super) use output::output;
pub(super) use tools::render;

use std::borrow::Cow;

use serde_json::Value;

use self::generation::{Frame, Generation, api_asked, frame, generation};
use crate::estimate::prompt::{Api, Message, Part, Prompt, Schema, ToolCall, ToolChoice};
use crate::estimate::{Encoding, Estimate, Method, Subject, Unseen};

/// Tokens that a second of sound costs.
const AUDIO_PER_SECOND: f64 = 10.0;

/// Tokens of the models before `davinci-002` for each of `cl100k`: a smaller vocabulary.
const OLD_VOCABULARY: f64 = 1.15;

/// Counts by one vocabulary, for one request.
struct Counter<'a> {
    encoding: Encoding,
    frame: Frame,
    generation: Generation,
    /// The model's name, without a maker's prefix.
    name: &'a str,
    image: u64,
    audio: u64,
    error: f64,
}

pub(super) fn input(subject: &Subject<'_>, encoding: Encoding, prompt: &Prompt<'_>) -> Estimate {
    let name = bare(subject.model);
    let generation = generation(&name);
    let api = api_asked(subject.provider, prompt.api, generation, &name);
    let frame = frame(generation, api, &name);
    let (image, audio, error) = (0, 0, 0.01);
    let mut counter = Counter { encoding, frame, generation, name: &name, image, audio, error };
    let tokens = match prompt.api {
        Api::Completion | Api::Embedding => {
            let texts = prompt.messages.iter().flat_map(|message| &message.parts);
            let text = texts.map(|part| counter.part(part)).sum::<u64>();
            counter.in_old_vocabulary(text) + prompt.token_ids
        }
        Api::Chat | Api::Responses => counter.chat(prompt),
    };
    let method = if is_old(&name) { Method::Ratio } else { Method::Bpe };
    let error = prompt.unseen.iter().map(|unseen| error_of(*unseen)).fold(counter.error, f64::max);
    let (image, audio, unseen) = (counter.image, counter.audio, prompt.unseen.clone());
    Estimate { tokens, image, audio, error, method, unseen }
}

/// The error to be expected where something was not seen.
fn error_of(unseen: Unseen) -> f64 {
    match unseen {
        Unseen::Reasoning | Unseen::Media => 0.3,
        Unseen::History | Unseen::ServerTools | Unseen::Request => 0.5,
        Unseen::Length | Unseen::Rest => 0.1,
        Unseen::Answer => 1.0,
    }
}

/// A model's name without a maker's or a router's prefix or suffix, in lower case.
fn bare(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let name = name.strip_prefix("openai.").unwrap_or(&name).to_owned();
    match name.split_once(':') {
        // What `davinci-002` and `babbage-002` call themselves.
        Some((base, "2023-07-21-v2")) => format!("{base}-002"),
        Some((base, _)) => base.to_owned(),
        None => name,
    }
}

/// Models whose vocabulary is not embedded: those before `davinci-002` and `babbage-002`.
fn is_old(name: &str) -> bool {
    let olds = ["ada", "babbage", "curie", "davinci"];
    let starts = ["text-ada", "text-babbage", "text-curie", "text-davinci", "code-davinci"];
    olds.contains(&name) || starts.iter().any(|start| name.starts_with(start))
}

impl Counter<'_> {
    fn chat(&mut self, prompt: &Prompt<'_>) -> u64 {
        let mut tokens = self.frame.primer;
        tokens += prompt.messages.iter().map(|message| self.message(message)).sum::<u64>();
        if self.generation == Generation::Search {
            return tokens;
        }
        if !prompt.tools.is_empty() {
            self.expect(0.02);
            let has_system =
                prompt.messages.iter().any(|m| matches!(m.role, "system" | "developer"));
            let frame = &self.frame;
            tokens += if has_system { frame.tools_with_system } else { frame.tools_alone };
            tokens += self.encoding.count(&render(&prompt.tools));
            let described = prompt.tools[0].description.is_some_and(|text| !text.is_empty());
            // Recorded on two dozen calls, without a reason seen.
            if self.generation == Generation::Gpt5 && !described {
                tokens -= 1;
            }
        }
        if let (ToolChoice::Named, Some(chosen)) = (prompt.tool_choice, prompt.chosen)
            && let Some(around) = self.frame.chosen
        {
            tokens += around + self.function(chosen);
        }
        tokens
            + prompt
                .schema
                .as_ref()
                .map_or(0, |schema| self.schema(schema, !prompt.tools.is_empty()))
    }

    fn message(&mut self, message: &Message<'_>) -> u64 {
        let mut tokens = message.parts.iter().map(|part| self.part(part)).sum::<u64>();
        if self.generation == Generation::Search {
            return tokens;
        }
        if !message.tool_calls.is_empty() {
            self.expect(0.02);
            return tokens + self.calls(&message.tool_calls);
        }
        let role = if message.is_tool_result { "tool" } else { message.role };
        tokens += self.frame.message + self.encoding.count(role);
        if role == "assistant" {
            tokens += self.frame.channel;
        }
        if let Some(name) = message.name.filter(|_| !message.is_tool_result) {
            tokens += self.encoding.count(name);
            tokens = if self.generation == Generation::First { tokens - 1 } else { tokens + 1 };
        }
        tokens
    }

    /// Earlier calls of tools. Their arguments are shown without blanks, and several calls of one
    /// message as one call of a tool that makes them at once.
    fn calls(&self, calls: &[ToolCall<'_>]) -> u64 {
        if let (Some((around, less)), true) = (self.frame.parallel, calls.len() > 1) {
            let one = |call: &ToolCall<'_>| {
                let arguments = compact(&call.arguments);
                format!(
                    r#"{{"recipient_name":"functions.{}","parameters":{arguments}}}"#,
                    call.name
                )
            };
            let texts: Vec<String> = calls.iter().map(one).collect();
            let text = format!(r#"{{"tool_uses":[{}]}}"#, texts.join(","));
            let names = calls.iter().filter(|_| self.frame.named_results);
            let names: u64 = names.map(|call| self.function(call.name)).sum();
            return (self.encoding.count(&text) + names + around)
                .saturating_sub(less * calls.len() as u64);
        }
        let one = |call: &ToolCall<'_>| {
            let arguments = self.encoding.count(&compact(&call.arguments));
            let names = self.encoding.count(call.name) + self.function(call.name);
            arguments + names + self.frame.call
        };
        calls.iter().map(one).sum()
    }

    fn function(&self, name: &str) -> u64 {
        self.encoding.count(&format!("functions.{name}"))
    }

    fn part(&mut self, part: &Part<'_>) -> u64 {
        match part {
            Part::Text(text) => self.encoding.count(text),
            Part::Reasoning(text) => self.encoding.count(text),
            // Another maker's, of which OpenAI's models see nothing.
            Part::Signature { .. } => 0,
            Part::Image(image) => {
                let tokens = image::tokens(self.name, image);
                self.expect(0.05);
                self.image += tokens;
                tokens
            }
            Part::Audio { seconds, .. } => {
                let tokens =
                    seconds.map_or(0, |seconds| whole((seconds * AUDIO_PER_SECOND).round()));
                self.expect(0.1);
                self.audio += tokens;
                tokens
            }
            Part::Document(document) => {
                self.expect(0.3);
                document.text.as_deref().map_or(0, |text| self.encoding.count(text))
            }
        }
    }

    /// A schema is shown as JSON, without what says nothing about the answer's content.
    fn schema(&mut self, schema: &Schema<'_>, has_tools: bool) -> u64 {
        self.expect(0.05);
        let mut text = String::new();
        write_schema(&mut text, schema.schema, false, 0);
        let words = [schema.name, schema.description];
        let words: u64 = words.iter().flatten().map(|word| self.encoding.count(word)).sum();
        let around = if has_tools { self.frame.schema } else { self.frame.schema_alone };
        around + words + self.encoding.count(&text)
    }

    fn expect(&mut self, error: f64) {
        self.error = self.error.max(error);
    }

    fn in_old_vocabulary(&mut self, tokens: u64) -> u64 {
        if !is_old(self.name) {
            return tokens;
        }
        self.expect(0.1);
        counted_in_old_vocabulary(tokens)
    }
}

#[allow(clippy::cast_precision_loss)]
fn counted_in_old_vocabulary(tokens: u64) -> u64 {
    whole((tokens as f64 * OLD_VOCABULARY).round())
}

/// JSON without blanks between its words; what is no JSON stays.
fn compact(arguments: &str) -> Cow<'_, str> {
    serde_json::from_str::<Value>(arguments)
        .map_or(Cow::Borrowed(arguments), |value| Cow::Owned(value.to_string()))
}

/// Levels of a schema that are written.
const MAX_DEPTH: usize = 64;

/// Members that are not shown (recorded).
const UNSHOWN: [&str; 6] =
    ["additionalProperties", "$schema", "required", "format", "minimum", "maximum"];

/// Writes a schema, or with `are_names` an object whose members are named by the client.
fn write_schema(text: &mut String, schema: &Value, are_names: bool, depth: usize) {
    match schema {
        Value::Object(members) if depth < MAX_DEPTH => {
            text.push('{');
            let shown = |name: &str| are_names || !UNSHOWN.contains(&name);
            let shown = members.iter().filter(|(name, _)| shown(name));
            for (at, (name, value)) in shown.enumerate() {
                text.push_str(if at > 0 { ",\"" } else { "\"" });
                text.push_str(name);
                text.push_str("\":");
                let names = !are_names && matches!(name.as_str(), "properties" | "$defs");
                write_schema(text, value, names, depth + 1);
            }
            text.push('}');
        }
        Value::Array(elements) if depth < MAX_DEPTH => {
            text.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_schema(text, element, false, depth + 1);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// A float that is no more than some millions, as a count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(value: f64) -> u64 {
    value.ceil() as u64
}
