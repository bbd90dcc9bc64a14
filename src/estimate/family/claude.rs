//! Anthropic's Claude. Its vocabulary is not public: text is o200k's count and charges for long words,
//! numbers, accents and emoji, fitted to 198 recorded texts of Claude 3 to 4.6 (median error 4.4 %, most
//! of them shorter than 100 tokens) and 25 of the larger vocabulary that came with 4.7 (median 2 %).

use std::borrow::Cow;

use serde_json::Value;

use super::open::turn;
use super::{at_least, printed, round};
use crate::estimate::measure::{Weights, real};
use crate::estimate::prompt::{Api, Image, Message, Part, Prompt, Tool, ToolChoice};
use crate::estimate::{Encoding, Estimate, Method, Subject, Unseen};
use crate::provider::{Generated, Kind};

/// Claude 2 to 4.6.
const OLDER: Weights = Weights {
    foreign: 1.3,
    number: 0.48,
    long: 0.16,
    accent: 1.4,
    capital: 0.0,
    symbol: 2.0,
    ..Weights::like(Encoding::O200k, 1.0)
};

/// Per word of a sentence in capitals, which are cut smaller (2 texts, 0.58 and 0.75).
const CAPITALS: f64 = 0.6;
/// Fewer words than these in a row are names and abbreviations.
const SENTENCE: u32 = 3;

/// Since 4.7: more tokens for the same text.
const NEWER: Weights = Weights { ratio: 1.08, long: 0.85, symbol: 0.0, ..OLDER };

/// A turn, and the reply's beginning: `u` 7, `uau` 15 and `ua` 7 on 60 requests.
const TURN: f64 = 4.0;
const REPLY: f64 = 3.0;

/// What Claude 2 has more around a conversation, around a prompt in one text, and at an answer's end
/// (8 requests).
const CLAUDE_2: f64 = 2.0;
const CLAUDE_2_PROMPT: f64 = 2.0;
const CLAUDE_2_END: f64 = 1.0;

/// What `thinking` adds: 35 requests, all within 2.
const THINKING: f64 = 29.0;
/// What adaptive thinking adds in 4.6.
const ADAPTIVE: f64 = 17.0;

/// Around each tool, and per token of its JSON that is no description, beside the prompt that tools bring (`tools`).
/// 176 requests with tools: median error 1.6 %, 95th percentile 24 %; some 4.5 ones got 4.0's prompt.
const TOOL: f64 = 8.0;
const TOOL_JSON: f64 = 1.3;

/// A schema that the answer has to follow (10 requests, within 8).
const SCHEMA: f64 = 140.0;
/// The same with models before 4.5, whatever the schema (3 requests: 31 to 41).
const EARLY_SCHEMA: f64 = 34.0;

/// An answer's end. A tool call is written as tags: the first of an answer, each further one, each
/// argument, and per token of the arguments (some 65 answers).
const END: f64 = 3.0;
/// A number that begins the answer; years do not (15 answers).
const NUMBER_FIRST: f64 = 1.0;
/// Around thinking that is shown (20 answers: 5 to 13).
const THOUGHT: f64 = 9.0;
const FIRST_CALL: f64 = 36.0;
const EARLY_CALL: f64 = 21.0;
const FURTHER_CALL: f64 = 23.0;
const FORCED_CALL: f64 = 12.0;
const ARGUMENT: f64 = 14.0;
const ARGUMENT_JSON: f64 = 0.6;
const NESTED_JSON: f64 = 0.9;

/// In the request: a call with its result, and each further pair of the same turn.
const PAIR: f64 = 44.0;
const FURTHER_PAIR: f64 = 57.0;

/// A page of a PDF: its picture and its text.
const PAGE: f64 = 1650.0;
const PAGE_BYTES: u64 = 60_000;

/// What of a model's name decides.
#[derive(Clone, Copy, Debug)]
struct Model {
    weights: Weights,
    /// The prompt that offering tools adds; more, where one of them has to be called.
    tools: f64,
    forced: f64,
    adaptive: f64,
    newer: bool,
    /// Begins the first call of an answer.
    first_call: f64,
    /// Claude 2 and Instant.
    second: bool,
    /// What 4.7 reads more where it may not think (2 requests).
    unthinking: f64,
}

impl Model {
    /// The fixed prompts agree with Anthropic's own table where that still lists the model.
    fn of(name: &str) -> Model {
        let name = name.to_ascii_lowercase().replace('.', "-");
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        let newer = has(&["4-7", "4-8", "4-9", "opus-5", "sonnet-5", "haiku-5", "fable", "mythos"])
            // A date ends like a version: claude-opus-4-20250514.
            && !has(&["-4-7-sonnet"]);
        let (tools, forced) = if has(&["opus-4-7"]) {
            (675.0, 80.0)
        } else if newer {
            (330.0, 80.0)
        } else if has(&["4-5", "4-6"]) {
            (496.0, 97.0)
        } else if has(&["3-opus"]) {
            (530.0, -249.0)
        } else if has(&["3-sonnet"]) {
            (159.0, 76.0)
        } else if has(&["3-haiku", "3-5-haiku"]) {
            (262.0, 76.0)
        } else if has(&["3-5-sonnet-20240620"]) {
            (287.0, 0.0)
        } else {
            (314.0, 9.0)
        };
        let weights = if newer { NEWER } else { OLDER };
        let adaptive = if newer { 0.0 } else { ADAPTIVE };
        let first_call = if has(&["3-haiku", "3-sonnet"]) { EARLY_CALL } else { FIRST_CALL };
        let unthinking = if has(&["opus-4-7"]) { 36.0 } else { 0.0 };
        let second = has(&["claude-2", "claude-v2", "claude-instant"]);
        Model { weights, tools, forced, adaptive, newer, first_call, second, unthinking }
    }

    fn text(&self, text: &str) -> f64 {
        self.weights.text(text) + CAPITALS * f64::from(words_in_capitals(text))
    }
}

pub(super) fn input(subject: &Subject<'_>, prompt: &Prompt<'_>) -> Estimate {
    let model = Model::of(subject.model);
    let text = |text: &str| model.text(text);
    let mut tokens = match prompt.api {
        Api::Completion if model.second => CLAUDE_2_PROMPT,
        _ if model.second => CLAUDE_2,
        _ => 0.0,
    };
    if prompt.api != Api::Completion {
        tokens += turns(&prompt.messages);
        tokens += match (prompt.thinking, prompt.effort) {
            (true, Some("adaptive")) => model.adaptive,
            (true, _) if !model.newer => THINKING,
            (false, _) => model.unthinking,
            _ => 0.0,
        };
    }
    let current = turn(&prompt.messages);
    let (mut image, mut pages) = (0.0, 0.0);
    for (at, message) in prompt.messages.iter().enumerate() {
        for part in &message.parts {
            match part {
                Part::Text(words) => tokens += text(words),
                // Thinking of a turn that has ended is taken out by the API.
                Part::Reasoning(words) if at >= current => tokens += text(words),
                Part::Reasoning(_) | Part::Signature { .. } | Part::Audio { .. } => {}
                Part::Image(found) => image += picture(found, model.newer),
                Part::Document(document) => {
                    if let Some(words) = &document.text {
                        tokens += 40.0 + text(words);
                    } else {
                        let count = document.pages.map(u64::from);
                        let count = count.unwrap_or(1 + document.bytes / PAGE_BYTES);
                        pages += PAGE * real(count);
                    }
                }
            }
        }
        tokens += calls(&model, message);
    }
    tokens += tools(&model, subject, prompt);
    let error = match (prompt.tools.is_empty(), image > 0.0, pages > 0.0) {
        (_, _, true) => 0.4,
        (true, false, _) => 0.06,
        _ => 0.08,
    };
    let tokens = tokens + image + pages;
    Estimate {
        tokens: round(tokens),
        image: round(image + pages),
        audio: 0,
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
    let model = Model::of(subject.model);
    let named = prompt.is_some_and(|prompt| prompt.tool_choice == ToolChoice::Named);
    let mut tokens = if generated.segments().is_empty() { 0.0 } else { END };
    if model.second && tokens > 0.0 {
        tokens += CLAUDE_2_END;
    }
    let first = generated.segments().first().filter(|first| first.kind == Kind::Content);
    if first.is_some_and(|first| begins_with_number(&first.text())) {
        tokens += NUMBER_FIRST;
    }
    let (mut made, mut shown, mut unseen) = (0_u32, false, Vec::new());
    let by_tool = prompt.is_some_and(|prompt| prompt.schema.is_some())
        && matches!(subject.provider, "databricks" | "snowflake");
    for segment in generated.segments() {
        let text = segment.text();
        tokens += real(segment.beyond) / 4.0;
        tokens += match segment.kind {
            Kind::ToolName => {
                made += 1;
                match made {
                    // The call that has to be made is begun by the API.
                    1 if named => FORCED_CALL,
                    1 => model.first_call,
                    _ => FURTHER_CALL,
                }
            }
            Kind::ToolArguments => written_call(&model, &text),
            Kind::Reasoning => {
                let first = if std::mem::replace(&mut shown, true) { 0.0 } else { THOUGHT };
                first + model.text(&text)
            }
            Kind::ReasoningSummary => 0.0,
            Kind::Content if by_tool => FORCED_CALL + written_call(&model, &text),
            Kind::Content | Kind::Refusal => model.text(&text),
        };
        if segment.beyond > 0 {
            unseen.push(Unseen::Length);
        }
    }
    // The newer models show a summary of their thinking, or nothing of it; Opus 4 and Sonnet 4 a summary
    // of long thinking.
    if model.newer || shown {
        unseen.insert(0, Unseen::Reasoning);
    }
    unseen.dedup();
    let error = if made > 0 { 0.08 } else { 0.06 };
    let error = at_least(error, tokens);
    Estimate { tokens: round(tokens), image: 0, audio: 0, error, method: Method::Ratio, unseen }
}

fn begins_with_number(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (1..=3).contains(&digits)
}

/// The words of a text that stand in sentences of capitals.
fn words_in_capitals(text: &str) -> u32 {
    let (mut words, mut row) = (0, 0);
    for word in text.split_ascii_whitespace() {
        let mut letters = word.chars().filter(|letter| letter.is_alphabetic()).peekable();
        if letters.peek().is_some() && letters.all(char::is_uppercase) {
            row += 1;
            words += match row {
                ..SENTENCE => 0,
                SENTENCE => SENTENCE,
                _ => 1,
            };
        } else {
            row = 0;
        }
    }
    words
}

/// What marks the turns. Messages of one side that follow each other are one turn; the system prompt
/// has no marks; an assistant's turn at the end is continued.
fn turns(messages: &[Message<'_>]) -> f64 {
    let mut last = None;
    let mut tokens = 0.0;
    for message in messages {
        let side = match message.role {
            "system" | "developer" => continue,
            "assistant" => "assistant",
            _ => "user",
        };
        if last != Some(side) {
            tokens += TURN;
            last = Some(side);
        }
    }
    tokens + if last == Some("assistant") { REPLY - TURN } else { REPLY }
}

fn calls(model: &Model, message: &Message<'_>) -> f64 {
    let mut tokens = 0.0;
    for (at, call) in message.tool_calls.iter().enumerate() {
        tokens += if at == 0 { PAIR } else { FURTHER_PAIR };
        tokens += written_call(model, &call.arguments);
    }
    tokens
}

/// A call's arguments. One that is an object or a list stands in its tag as JSON.
fn written_call(model: &Model, arguments: &str) -> f64 {
    let mut tokens = ARGUMENT_JSON * model.text(arguments);
    let Ok(Value::Object(members)) = serde_json::from_str(arguments) else { return tokens };
    for value in members.values() {
        tokens += ARGUMENT;
        if value.is_object() || value.is_array() {
            tokens += NESTED_JSON * model.text(&value.to_string());
        }
    }
    tokens
}

fn tools(model: &Model, subject: &Subject<'_>, prompt: &Prompt<'_>) -> f64 {
    let mut tokens = 0.0;
    if !prompt.tools.is_empty() {
        tokens += model.tools;
        tokens += match prompt.tool_choice {
            ToolChoice::Any | ToolChoice::Named => model.forced,
            ToolChoice::Auto | ToolChoice::None => 0.0,
        };
    }
    for tool in &prompt.tools {
        let described = tool.parameters.map(printed::descriptions).unwrap_or_default();
        let words =
            tool.description.map_or(0.0, |words| model.text(words)) + model.text(&described);
        let all = model.text(&json(tool));
        tokens += TOOL + words + TOOL_JSON * (all - words).max(0.0);
    }
    if let Some(schema) = &prompt.schema {
        let cost = model.text(&written(schema.schema));
        tokens += match subject.provider {
            // These make the schema a tool that has to be called.
            "databricks" | "snowflake" => model.tools + model.forced + TOOL + TOOL_JSON * cost,
            // Models before 4.5 are only held to it by force.
            _ if model.tools < 330.0 => EARLY_SCHEMA,
            _ => SCHEMA + cost,
        };
    }
    tokens
}

/// Converse takes the schema as text.
fn written(schema: &Value) -> Cow<'_, str> {
    match schema {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// A tool as the API takes it.
fn json(tool: &Tool<'_>) -> String {
    serde_json::json!({
        "name": tool.name,
        "description": tool.description.unwrap_or_default(),
        "input_schema": tool.parameters,
    })
    .to_string()
}

/// Around a picture.
const PICTURE: f64 = 3.0;

/// Width times height by 750, once the picture fits: 1,568 pixels at most on the long side and about
/// 1,600 tokens; since 4.7, 2,576 and 4,800 (Anthropic's vision guide; four pictures recorded, 1 %).
fn picture(image: &Image<'_>, newer: bool) -> f64 {
    let (side, most) = if newer { (2576.0, 4800.0) } else { (1568.0, 1600.0) };
    let Some((width, height)) = image.size else { return 0.0 };
    let (width, height) = (f64::from(width), f64::from(height));
    let scale = (side / width.max(height).max(1.0)).min(1.0);
    PICTURE + (width * height * scale * scale / 750.0).ceil().clamp(1.0, most)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::estimate::input;

    fn count(model: &str, request: &Value) -> u64 {
        let subject = Subject { provider: "anthropic", endpoint: "messages", model };
        input(&subject, request).unwrap().tokens
    }

    #[test]
    fn a_question_costs_its_text_and_seven() {
        let request =
            json!({"messages": [{"role": "user", "content": "What is the capital of France?"}]});
        // Recorded: 14.
        assert_eq!(count("claude-sonnet-4-5-20250929", &request), 14);
    }

    #[test]
    fn thinking_adds_its_own() {
        let request = json!({"thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [{"role": "user", "content": "What is the capital of France?"}]});
        // Recorded: 43.
        assert_eq!(count("claude-sonnet-4-5-20250929", &request), 43);
    }

    #[test]
    fn sentences_in_capitals_cost_more_than_names() {
        assert_eq!(words_in_capitals("Use it, AND ONLY USE UPPERCASE."), 4);
        assert_eq!(words_in_capitals("the HTTP API of NASA"), 0);
    }

    #[test]
    fn a_number_alone_is_two_tokens_and_the_end() {
        let answer = |text: &str| {
            let mut generated = Generated::default();
            generated.push(0, Kind::Content, text.as_bytes(), false);
            let model = "claude-sonnet-4-5-20250929";
            let subject = Subject { provider: "anthropic", endpoint: "messages", model };
            output(&subject, None, &generated).tokens
        };
        // Recorded: 5 and 4.
        assert_eq!((answer("2"), answer("Hi")), (5, 4));
    }

    #[test]
    fn pictures_are_fitted_before_they_are_counted() {
        let picture = |width, height, newer| {
            picture(&Image { size: Some((width, height)), detail: None }, newer)
        };
        assert!((picture(800, 440, false) - 473.0).abs() < 1e-9);
        assert!((picture(4000, 3000, false) - 1603.0).abs() < 1e-9);
        assert!(picture(4000, 3000, true) > 4000.0);
        assert!((picture(0, 0, true) - 4.0).abs() < 1e-9);
    }
}
