//! Models of other makers: text by the nearest published vocabulary, and what the chat template adds.
//! Owns the counting; the facts of each family stand in `template.rs`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::printed::printed_tool;
use super::round;
use super::template::{Template, template};
use crate::estimate::measure::real;
use crate::estimate::prompt::{Api, Image, Message, Part, Prompt, ToolCall, ToolChoice};
use crate::estimate::{Estimate, Method, Subject, Unseen};
use crate::provider::{Generated, Kind};

/// An image, where the family's rule is not known: recorded ones cost 30 to 700.
const IMAGE: f64 = 400.0;

/// Larger pictures are made smaller before they are read.
const MAX_SIDE: u32 = 1540;

/// A page of a PDF, and the bytes that a page takes in those that were recorded.
const PAGE: f64 = 1500.0;
const PAGE_BYTES: u64 = 60_000;

/// What DeepSeek's V4 is told where it may think as long as it likes: 25 requests, all the same; some
/// that ask for thinking without an effort were counted without.
const DEEPSEEK_EFFORT: f64 = 79.0;

pub(super) fn input(subject: &Subject<'_>, prompt: &Prompt<'_>) -> Estimate {
    let provider = if prompt.bare { "" } else { subject.provider };
    let template = template(provider, subject.model);
    let mut tally = Tally::default();
    if prompt.api == Api::Chat || prompt.api == Api::Responses {
        tally.tokens += template.start + effort(subject.model, prompt);
        if !prompt.messages.iter().any(is_system) {
            tally.tokens += template.no_system;
        }
        if prompt.schema.is_none() && !prompt.json_object {
            tally.tokens += template.unformatted;
        }
    }
    let turn = turn(&prompt.messages);
    if prompt.messages.iter().any(is_document) {
        tally.tokens += template.documents;
    }
    if !prompt.tools.is_empty() {
        let is_result = |at: usize| prompt.messages.get(at).is_some_and(|one| one.is_tool_result);
        let ends = (0..prompt.messages.len()).filter(|at| is_result(*at) && !is_result(at + 1));
        tally.tokens += template.results * real(ends.count() as u64);
    }
    for (at, message) in prompt.messages.iter().enumerate() {
        tally.message(&template, prompt.api, message, at >= turn);
    }
    tally.tools(&template, prompt);
    if let Some(schema) = prompt.schema.as_ref().filter(|_| template.schema > 0.0) {
        tally.tokens += template.schema + template.weights.text(&schema.schema.to_string());
    }
    let mut unseen = prompt.unseen.clone();
    unseen.sort_unstable();
    unseen.dedup();
    Estimate {
        tokens: round(tally.tokens + tally.image + tally.audio) + prompt.token_ids,
        image: round(tally.image),
        audio: round(tally.audio),
        error: error(prompt, &tally),
        method: Method::Ratio,
        unseen,
    }
}

pub(super) fn output(
    subject: &Subject<'_>,
    prompt: Option<&Prompt<'_>>,
    generated: &Generated,
) -> Estimate {
    let template = template(subject.provider, subject.model);
    let mut tokens = 0.0;
    let mut unseen = Vec::new();
    let (mut shown, mut summed) = (false, false);
    let calls = generated.segments().iter().filter(|one| one.kind == Kind::ToolName).count() as u64;
    tokens += template.again * real(calls.saturating_sub(1));
    let is_source = |message: &Message<'_>| is_document(message) || message.is_tool_result;
    if prompt.is_some_and(|prompt| prompt.messages.iter().any(is_source)) && calls == 0 {
        tokens += template.cited;
    }
    // Cohere puts a plan of its own before a call that it enforces.
    let planned = subject.provider == "cohere"
        && calls > 0
        && prompt.is_some_and(|prompt| prompt.tool_choice == ToolChoice::Any);
    for segment in generated.segments() {
        let text = segment.text();
        tokens += match segment.kind {
            Kind::ReasoningSummary => {
                summed = true;
                0.0
            }
            Kind::ToolName => template.called + template.weights.text(&text),
            Kind::ToolArguments => {
                template.argument * arguments(&text) + template.weights.text(&text)
            }
            Kind::Reasoning => {
                shown = true;
                template.weights.text(&text)
            }
            Kind::Content if planned => 0.0,
            Kind::Content | Kind::Refusal => template.weights.text(&text),
        };
        tokens += real(segment.beyond) / 4.0;
    }
    tokens += choices(generated) * if shown { template.reasoned } else { template.answer };
    if summed || (hides_reasoning(subject.model) && !shown) {
        unseen.push(Unseen::Reasoning);
    }
    if generated.segments().iter().any(|segment| segment.beyond > 0) {
        unseen.push(Unseen::Length);
    }
    // Short answers are a token or two off.
    let error: f64 = if calls > 0 { 0.12 } else { 0.06 };
    let error = error.max(1.5 / tokens.max(1.5));
    Estimate { tokens: round(tokens), image: 0, audio: 0, error, method: Method::Ratio, unseen }
}

/// How many answers there are, each with its own end.
fn choices(generated: &Generated) -> f64 {
    let choices: BTreeSet<u32> = generated.segments().iter().map(|one| one.choice).collect();
    real(choices.len() as u64)
}

/// Models that reason, bill for it and show none of it.
fn hides_reasoning(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    let grok = name.contains("grok-4") && !name.contains("non-reasoning");
    grok || name.contains("grok-code")
        || name.contains("sonar-reasoning")
        || name.contains("nova-2")
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tokens: f64,
    image: f64,
    audio: f64,
}

impl Tally {
    fn message(&mut self, template: &Template, api: Api, message: &Message<'_>, current: bool) {
        let raw = api == Api::Completion;
        let text = |text: &str| {
            if raw { raw_text(template, text) } else { template.weights.text(text) }
        };
        if matches!(api, Api::Chat | Api::Responses) {
            self.tokens += match message.role {
                _ if message.is_tool_result => template.result,
                "system" | "developer" => template.system,
                "assistant" => template.assistant,
                _ => template.user,
            };
        }
        if matches!(api, Api::Embedding | Api::Completion) {
            self.tokens += template.text;
        }
        for part in &message.parts {
            match part {
                Part::Text(words) => {
                    let dropped =
                        template.drops_reasoning && message.role == "assistant" && !current;
                    self.tokens += text(if dropped { without_reasoning(words) } else { words });
                }
                // Most templates keep the reasoning of the turn that goes on and drop what is older.
                Part::Reasoning(words)
                    if template.reads_reasoning && (current || !template.drops_reasoning) =>
                {
                    self.tokens += text(words);
                }
                Part::Reasoning(_) | Part::Signature { .. } => {}
                Part::Image(image) => self.image += picture(template, image),
                Part::Audio { seconds, bytes } => {
                    // Voxtral: 12.5 tokens a second; uncompressed speech has 32 kB a second.
                    self.audio += 12.5 * seconds.unwrap_or(real(*bytes) / 32_000.0);
                }
                Part::Document(document) => {
                    if let Some(words) = &document.text {
                        self.tokens += text(words);
                    } else {
                        let pages = document.pages.map(u64::from);
                        let pages = pages.unwrap_or(1 + document.bytes / PAGE_BYTES);
                        self.image += PAGE * real(pages);
                    }
                }
            }
        }
        self.tokens += message.tool_calls.iter().map(|made| call(template, made)).sum::<f64>();
        self.tokens += message.name.map_or(0.0, text);
    }

    fn tools(&mut self, template: &Template, prompt: &Prompt<'_>) {
        let off = prompt.tool_choice == ToolChoice::None && !template.always || prompt.tools_unseen;
        if prompt.tools.is_empty() || off {
            return;
        }
        let named = prompt.tool_choice == ToolChoice::Named;
        self.tokens += if named { template.tools_named } else { template.tools };
        if template.typescript {
            self.tokens += template.weights.text(&super::openai::render(&prompt.tools));
            return;
        }
        for tool in &prompt.tools {
            let json = printed_tool(tool);
            self.tokens += template.tool + template.tool_json * template.weights.text(&json);
        }
    }
}

/// Squares of so many pixels, and one mark a row.
fn picture(template: &Template, image: &Image<'_>) -> f64 {
    match image.size {
        Some((width, height)) if template.square > 0 => {
            let columns = width.min(MAX_SIDE).div_ceil(template.square);
            let rows = height.min(MAX_SIDE).div_ceil(template.square);
            f64::from(rows) * f64::from(columns + 1)
        }
        Some(_) => IMAGE,
        None => 0.0,
    }
}

fn call(template: &Template, call: &ToolCall<'_>) -> f64 {
    template.call
        + template.weights.text(call.name)
        + template.weights.text(&call.arguments)
        + template.argument * arguments(&call.arguments)
}

/// The number of arguments of a call.
pub(super) fn arguments(json: &str) -> f64 {
    let Ok(Value::Object(members)) = serde_json::from_str(json) else { return 0.0 };
    real(members.len() as u64)
}

fn is_document(message: &Message<'_>) -> bool {
    message.role == "document"
}

/// A text to be continued may hold the template's own marks, each of which is one token.
fn raw_text(template: &Template, text: &str) -> f64 {
    let mut tokens = 0.0;
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("<|") {
        let name = behind.split_once("|>").filter(|(name, _)| is_mark(name));
        let Some((_, behind)) = name else { break };
        tokens += template.weights.text(before) + 1.0;
        rest = behind;
    }
    tokens + template.weights.text(rest)
}

fn is_mark(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_system(message: &Message<'_>) -> bool {
    matches!(message.role, "system" | "developer")
}

/// Where the turn begins that goes on: behind the last message that a person wrote.
pub(super) fn turn(messages: &[Message<'_>]) -> usize {
    let by_person = |message: &Message<'_>| message.role == "user" && !message.is_tool_result;
    messages.iter().rposition(by_person).map_or(0, |at| at + 1)
}

/// A text without the reasoning that a model put before it, in tags.
fn without_reasoning(text: &str) -> &str {
    text.split_once("</think>").map_or(text, |(_, rest)| rest.trim_start())
}

/// Asked for with high effort, or for thinking without a limit to the effort.
fn effort(model: &str, prompt: &Prompt<'_>) -> f64 {
    let told = matches!(prompt.effort, Some("high" | "max" | "xhigh" | "enabled"))
        || prompt.api == Api::Responses;
    if told && model.contains("deepseek-v4") { DEEPSEEK_EFFORT } else { 0.0 }
}

/// By class: media, tools, plain text. Set by hand above the medians of most families, not fitted.
fn error(prompt: &Prompt<'_>, tally: &Tally) -> f64 {
    let share: f64 = match (tally.image + tally.audio > 0.0, prompt.tools.is_empty()) {
        (true, _) => 0.4,
        (false, false) => 0.1,
        (false, true) => 0.06,
    };
    // Short ones are a token or two off.
    share.max(1.5 / tally.tokens.max(1.5))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::estimate;

    #[test]
    fn marks_of_the_template_in_a_raw_prompt_are_one_token_each() {
        let subject = Subject {
            provider: "bedrock",
            endpoint: "bedrock.invoke",
            model: "meta.llama3-8b-instruct-v1:0",
        };
        let tokens = |prompt: &str| {
            estimate::input(&subject, &json!({"prompt": prompt, "max_gen_len": 9})).unwrap().tokens
        };
        assert_eq!(tokens("<|start_header_id|>user<|end_header_id|>") - tokens("user"), 2);
        assert!(tokens("a <| b") > 2);
    }

    #[test]
    fn each_choice_has_its_own_end() {
        let subject =
            Subject { provider: "mistral", endpoint: "chat.completions", model: "mistral-small" };
        let mut generated = Generated::default();
        generated.push(0, Kind::Content, b"Yes", false);
        assert_eq!(estimate::output(&subject, &generated).unwrap().tokens, 2);
        generated.push(1, Kind::Content, b"Yes", false);
        assert_eq!(estimate::output(&subject, &generated).unwrap().tokens, 4);
    }

    #[test]
    fn a_short_answer_may_be_a_token_or_two_off() {
        let subject = Subject { provider: "groq", endpoint: "chat.completions", model: "llama3" };
        let mut generated = Generated::default();
        generated.push(0, Kind::Content, b"Yes", false);
        assert!(estimate::output(&subject, &generated).unwrap().error > 0.7);
    }
}
