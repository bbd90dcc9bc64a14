//! Google's Gemini. Text counts like cl100k but for numbers, of which every digit is a token: 40
//! recorded prompts of plain text are exact or 1 off, 33 answers have a median error of 2.6 %. Roles and
//! turns cost nothing; nor, since 2.5, does a schema that the answer has to follow.

use super::open::turn;
use super::printed::compact;
use super::{at_least, round};
use crate::estimate::measure::{Weights, real};
use crate::estimate::prompt::{Api, Image, Part, Prompt, Tool};
use crate::estimate::{Encoding, Estimate, Method, Subject, Unseen};
use crate::provider::{Generated, Kind};

/// The vocabulary of Gemini and of Gemma.
pub(super) const WEIGHTS: Weights =
    Weights { foreign: 1.0, ..Weights::like(Encoding::Cl100k, 1.0).digits(1.33) };

/// Google's own API counts the mark that begins a prompt with these (6 requests; its cloud does not).
const OPENED: [&str; 2] = ["2.5-flash-lite", "2.5-flash-image"];

/// Per character of a thought that a request hands back sealed, with Gemini 3 (70 requests: 0.18 to
/// 0.21), and with 2.5 (12 requests: 0 to 0.16).
const SEALED: f64 = 0.2;
const SEALED_2_5: f64 = 0.1;

/// Around a function call and around its response (2.5 and later; 30 requests: 8 to 10).
const FUNCTION: f64 = 9.0;
/// Around a function call in an answer.
const CALLED: f64 = 7.0;

/// The names in a function's result that a router made of a chat's (5 requests, of two routers).
const WRAPPED: f64 = 4.0;

/// Per token of a function's JSON (60 requests: 0.9 to 1.2).
const TOOL_JSON: f64 = 1.05;
/// Once, where functions are offered to Gemini 3; and for one without parameters.
const OFFERED_3: f64 = 8.0;
const EMPTY_3: f64 = 8.0;

/// One picture, or one tile of a larger one.
const PICTURE: f64 = 258.0;
/// One picture of Gemini 3, by resolution.
const PICTURE_3: [f64; 3] = [280.0, 560.0, 1095.0];

/// Bytes of a PDF's page in those that were recorded.
const PAGE_BYTES: u64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Generation {
    /// 1.0 to 2.0: of a function only its words count.
    Two,
    TwoFive,
    Three,
}

impl Generation {
    fn of(model: &str) -> Generation {
        let name = model.to_ascii_lowercase();
        let has = |part: &str| name.contains(part);
        if has("gemini-1") || has("gemini-2.0") || has("gemini-pro") {
            Generation::Two
        } else if has("gemini-2") {
            Generation::TwoFive
        } else {
            Generation::Three
        }
    }
}

pub(super) fn input(subject: &Subject<'_>, prompt: &Prompt<'_>) -> Estimate {
    let generation = match prompt.api {
        // Pictures to be embedded cost what they did before 3.
        Api::Embedding => Generation::TwoFive,
        _ => Generation::of(subject.model),
    };
    let functions = counting(subject, generation);
    let (mut tokens, mut image, mut audio) = (0.0, 0.0, 0.0);
    let mut has_files = false;
    let current = turn(&prompt.messages);
    for (at, message) in prompt.messages.iter().enumerate() {
        for part in &message.parts {
            match part {
                Part::Text(result) if message.is_tool_result && functions == Generation::Two => {
                    tokens += value_words(result);
                }
                Part::Text(written) => tokens += words(written),
                // Thoughts of turns that have ended are forgotten.
                Part::Signature { bytes } if at >= current => {
                    let sealed = if generation == Generation::Three { SEALED } else { SEALED_2_5 };
                    tokens += sealed * real(*bytes);
                }
                // What a model thought is not taken back as text either.
                Part::Signature { .. } | Part::Reasoning(_) => {}
                Part::Image(found) => image += picture(found, generation),
                Part::Audio { seconds, bytes } => {
                    let rate = if generation == Generation::Three { 25.0 } else { 32.0 };
                    audio += rate * seconds.unwrap_or(real(*bytes) / 16_000.0);
                }
                Part::Document(document) => {
                    if let Some(written) = &document.text {
                        tokens += words(written);
                    } else {
                        has_files = true;
                        let pages = document.pages.map(u64::from);
                        let pages = pages.unwrap_or(1 + document.bytes / PAGE_BYTES);
                        let each = if generation == Generation::Three { 523.0 } else { 258.0 };
                        image += each * real(pages);
                    }
                }
            }
        }
        for call in &message.tool_calls {
            tokens += match functions {
                Generation::Two => name(call.name) + value_words(&call.arguments),
                _ => words(call.name) + words(&call.arguments) + FUNCTION,
            };
        }
        if message.is_tool_result {
            tokens += match functions {
                Generation::Two => message.name.map_or(0.0, name) + wrapped(subject),
                _ => FUNCTION + message.name.map_or(0.0, words),
            };
        }
    }
    tokens += prompt.tools.iter().map(|offered| tool(offered, functions)).sum::<f64>();
    if functions == Generation::Three && !prompt.tools.is_empty() {
        tokens += OFFERED_3;
    }
    if let Some(schema) = prompt.schema.as_ref().filter(|_| generation == Generation::Two) {
        tokens += schema_words(schema.schema);
    }
    let name = subject.model.to_ascii_lowercase();
    if subject.provider == "google" && OPENED.iter().any(|model| name.contains(model)) {
        tokens += 1.0;
    }
    let error = match (prompt.tools.is_empty(), has_files || audio > 0.0) {
        (_, true) => 0.3,
        (true, _) => 0.03,
        (false, _) => 0.08,
    };
    let tokens = tokens + image + audio;
    Estimate {
        tokens: round(tokens) + prompt.token_ids,
        image: round(image),
        audio: round(audio),
        error: at_least(error, tokens),
        method: Method::Ratio,
        unseen: prompt.unseen.clone(),
    }
}

pub(super) fn output(
    subject: &Subject<'_>,
    prompt: Option<&Prompt<'_>>,
    generated: &Generated,
) -> Estimate {
    let generation = Generation::of(subject.model);
    let off = prompt.is_some_and(|prompt| prompt.effort == Some("disabled"));
    let mut tokens = 0.0;
    let mut unseen = Vec::new();
    // They think unless told not to; the light ones of 2.5 only if told to.
    if generation > Generation::Two && !subject.model.contains("2.5-flash-lite") && !off {
        unseen.push(Unseen::Reasoning);
    }
    for segment in generated.segments() {
        let text = segment.text();
        tokens += real(segment.beyond) / 4.0;
        tokens += match segment.kind {
            Kind::ToolName if generation > Generation::Two => CALLED + words(&text),
            Kind::ToolName => name(&text),
            // What is shown of thoughts is a summary.
            Kind::ReasoningSummary | Kind::Reasoning => 0.0,
            Kind::ToolArguments if generation == Generation::Two => value_words(&text),
            Kind::ToolArguments => words(&compact(&text)),
            _ => words(&text),
        };
        if segment.beyond > 0 && !unseen.contains(&Unseen::Length) {
            unseen.push(Unseen::Length);
        }
    }
    Estimate {
        tokens: round(tokens),
        image: 0,
        audio: 0,
        error: at_least(0.05, tokens),
        method: Method::Ratio,
        unseen,
    }
}

/// How functions are counted. Google's cloud, and routers that use it, count 2.5's by the words only.
fn counting(subject: &Subject<'_>, generation: Generation) -> Generation {
    match (subject.provider, generation) {
        ("vertex" | "vercel-gateway", Generation::TwoFive | Generation::Three)
        | ("openrouter", Generation::TwoFive) => Generation::Two,
        _ => generation,
    }
}

/// Routers that translate chats name the tool in a result, and put the text under a name of its own.
fn wrapped(subject: &Subject<'_>) -> f64 {
    if matches!(subject.provider, "vercel-gateway" | "openrouter") { WRAPPED } else { 0.0 }
}

/// A text. A newline behind a mark is a token of its own, which cl100k takes together (16 answers).
fn words(text: &str) -> f64 {
    let bytes = text.as_bytes();
    let is_end = |pair: &&[u8]| pair[0].is_ascii_punctuation() && pair[1] == b'\n';
    let ends = bytes.windows(2).filter(is_end).count();
    WEIGHTS.text(text) + real(ends as u64)
}

/// A name of which every underscore is a token of its own (before 2.5, 12 requests and 8 answers).
fn name(text: &str) -> f64 {
    words(&text.replace('_', " _ "))
}

/// The words of JSON without its marks: before 2.5 arguments and results count no more than that.
fn value_words(json: &str) -> f64 {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(json) else { return words(json) };
    let mut tokens = 0.0;
    let mut open = vec![&value];
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Object(members) => {
                tokens += members.keys().map(|key| name(key)).sum::<f64>();
                open.extend(members.values());
            }
            serde_json::Value::Array(items) => open.extend(items),
            serde_json::Value::String(text) => tokens += words(text),
            serde_json::Value::Null => {}
            other => tokens += words(&other.to_string()),
        }
    }
    tokens
}

/// A function's declaration: before 2.5 only the words of its schema, since then all of its JSON.
fn tool(tool: &Tool<'_>, generation: Generation) -> f64 {
    if generation == Generation::Two {
        let mut tokens = name(tool.name) + tool.description.map_or(0.0, words);
        tokens += tool.parameters.map_or(0.0, schema_words);
        return tokens;
    }
    let json = serde_json::json!({
        "name": tool.name,
        "description": tool.description.unwrap_or_default(),
        "parameters": tool.parameters,
    });
    if generation == Generation::Three && tool.parameters.is_none_or(is_empty) {
        return words(tool.name) + tool.description.map_or(0.0, words) + EMPTY_3;
    }
    TOOL_JSON * words(&json.to_string())
}

/// True of a schema without a property.
fn is_empty(schema: &serde_json::Value) -> bool {
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    properties.is_none_or(serde_json::Map::is_empty)
}

/// The words of a schema: its properties' names and all descriptions and choices.
fn schema_words(schema: &serde_json::Value) -> f64 {
    let mut tokens = 0.0;
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        let Some(members) = schema.as_object() else { continue };
        for (name, value) in members {
            match (name.as_str(), value) {
                ("properties", serde_json::Value::Object(properties)) => {
                    for (name, property) in properties {
                        tokens += words(name) + 2.0;
                        open.push(property);
                    }
                }
                ("description" | "title", serde_json::Value::String(text)) => {
                    tokens += words(text);
                }
                ("enum" | "propertyOrdering", serde_json::Value::Array(choices)) => {
                    tokens += choices.iter().map(|choice| words(&choice.to_string())).sum::<f64>();
                }
                ("items", items) => open.push(items),
                _ => {}
            }
        }
    }
    tokens
}

/// 2.0 cuts what is larger than 384 pixels into tiles of two thirds of the shorter side, within 256 and
/// 768, and adds one for the whole; 2.5 and 3 count one picture, whatever its size.
fn picture(image: &Image<'_>, generation: Generation) -> f64 {
    let low = image.detail.is_some_and(|detail| detail.to_ascii_lowercase().ends_with("low"));
    let medium = image.detail.is_some_and(|detail| detail.to_ascii_lowercase().ends_with("medium"));
    match (generation, image.size) {
        (Generation::Three, _) => {
            PICTURE_3[if low {
                0
            } else if medium {
                1
            } else {
                2
            }]
        }
        (_, _) if low => 64.0,
        (Generation::Two, Some((width, height))) if width.max(height) > 384 => {
            let (width, height) = (f64::from(width), f64::from(height));
            let tile = (width.min(height) / 1.5).clamp(256.0, 768.0);
            PICTURE * (1.0 + (width / tile).ceil() * (height / tile).ceil())
        }
        _ => PICTURE,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::estimate::input;

    fn count(model: &str, request: &serde_json::Value) -> u64 {
        let subject = Subject { provider: "google", endpoint: "gemini.generateContent", model };
        input(&subject, request).unwrap().tokens
    }

    #[test]
    fn plain_text_costs_its_words_alone() {
        let request = json!({"contents": [{"role": "user", "parts": [{"text": "What is the capital of France?"}]}]});
        // Recorded: 7.
        assert_eq!(count("gemini-2.5-flash", &request), 7);
    }

    #[test]
    fn a_newline_behind_a_mark_is_a_token() {
        // Recorded: 8, of "The capital of France is Paris." with its newline.
        assert!((words("The capital of France is Paris.\n") - 8.0).abs() < 1e-9);
        assert!((words("Hi.\n") - 3.0).abs() < 1e-9);
    }

    #[test]
    fn calls_cost_their_words_before_2_5() {
        let call = |tool: &str, arguments: &str| name(tool) + value_words(arguments);
        // Recorded: 9 and 7.
        let boston = call("get_current_weather", r#"{"location":"Boston, MA"}"#);
        assert!((boston - 9.0).abs() < 1e-9);
        assert!((call("get_weather", r#"{"location":"Paris, France"}"#) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn pictures_are_tiles_before_2_5_and_one_sum_after() {
        let image = |width, height| Image { size: Some((width, height)), detail: None };
        let tiles = |width, height| picture(&image(width, height), Generation::Two) / PICTURE;
        assert!((tiles(300, 200) - 1.0).abs() < 1e-9);
        assert!((tiles(540, 360) - 7.0).abs() < 1e-9);
        assert!((tiles(3008, 2000) - 13.0).abs() < 1e-9);
        assert!((picture(&image(3008, 2000), Generation::TwoFive) - PICTURE).abs() < 1e-9);
    }
}
