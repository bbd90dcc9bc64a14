//! What an answer costs besides its text: the token that ends it, channels, calls of tools. All
//! measured on recorded answers with their reported counts (2023 to 2026), most of them exact to the
//! token on every answer seen; what was reasoned and not shown is never guessed.

use super::generation::{Generation, api_asked, generation};
use super::{bare, counted_in_old_vocabulary, is_old};
use crate::estimate::prompt::{Api, Prompt, ToolChoice};
use crate::estimate::{Encoding, Estimate, Method, Subject, Unseen};
use crate::provider::{Generated, Kind, Segment};

/// A session's text has one token more around it, whether OpenAI or Azure serves it (recorded).
const REALTIME: &str = "realtime";

/// Tokens around an answer.
struct Frame {
    /// Besides a text.
    text: u64,
    /// Besides a text that has to follow a schema.
    structured: u64,
    /// Besides a call's arguments and `functions.NAME`.
    call: u64,
    /// Around several calls, which are written as one.
    parallel: u64,
    /// Besides the arguments of a tool that had to be called; `None` where that changes nothing.
    chosen: Option<u64>,
}

pub(in crate::estimate::family) fn output(
    subject: &Subject<'_>,
    encoding: Encoding,
    prompt: Option<&Prompt<'_>>,
    generated: &Generated,
) -> Estimate {
    let name = bare(subject.model);
    let generation = generation(&name);
    let mut estimate = Estimate {
        tokens: 0,
        image: 0,
        audio: 0,
        error: 0.01,
        method: Method::Bpe,
        unseen: Vec::new(),
    };
    let choices = choices(generated);
    if generation == Generation::Base || subject.endpoint == "completions" {
        let texts = generated.segments().iter();
        estimate.tokens = texts.map(|segment| text(encoding, segment)).sum();
        if is_old(&name) {
            estimate.tokens = counted_in_old_vocabulary(estimate.tokens);
            (estimate.error, estimate.method) = (0.1, Method::Ratio);
        }
    } else {
        let frame = frame(subject, generation, &name, prompt);
        for choice in choices {
            let segments = generated.segments().iter().filter(|s| s.choice == choice);
            let segments: Vec<&Segment> = segments.collect();
            estimate.tokens += answer(encoding, &frame, prompt, &segments, &mut estimate.error);
        }
    }
    if matches!(generation, Generation::O | Generation::Gpt5) {
        estimate.unseen.push(Unseen::Reasoning);
        estimate.error = estimate.error.max(0.3);
    }
    if let Some(most) = prompt.and_then(|prompt| prompt.most) {
        // A limit holds for each choice.
        estimate.tokens = estimate.tokens.min(most.saturating_mul(distinct(generated)));
    }
    if generated.segments().iter().any(|segment| segment.beyond > 0) {
        estimate.unseen.push(Unseen::Length);
        estimate.error = estimate.error.max(0.1);
    }
    estimate
}

/// The choices of which something was seen, at least one.
fn choices(generated: &Generated) -> Vec<u32> {
    let mut choices: Vec<u32> = generated.segments().iter().map(|s| s.choice).collect();
    choices.sort_unstable();
    choices.dedup();
    choices
}

fn distinct(generated: &Generated) -> u64 {
    choices(generated).len().max(1) as u64
}

fn frame(
    subject: &Subject<'_>,
    generation: Generation,
    name: &str,
    prompt: Option<&Prompt<'_>>,
) -> Frame {
    let asked = if subject.endpoint == "responses" { Api::Responses } else { Api::Chat };
    let api = api_asked(subject.provider, asked, generation, name);
    // OpenAI's chat completions do not count the token that ends an answer; its Responses API and
    // other hosts do.
    let is_session = subject.endpoint == REALTIME;
    let ends = api == Api::Responses || matches!(subject.provider, "azure" | "copilot");
    let end = u64::from(ends || is_session);
    let has_tools = prompt.is_some_and(|prompt| {
        !prompt.tools.is_empty() || prompt.messages.iter().any(|m| !m.tool_calls.is_empty())
    });
    match generation {
        Generation::Gpt5 => {
            let codex = if name.contains("codex") { 2 } else { 0 };
            let text = 3 + end + codex;
            let text = if name.contains("-chat") { 10 } else { text };
            Frame { text, structured: text + 4, call: 10 + codex, parallel: 14, chosen: None }
        }
        Generation::O => Frame { text: 10, structured: 10, call: 14, parallel: 14, chosen: None },
        _ => {
            let text = end + u64::from(has_tools) + u64::from(is_session);
            // GPT-4 of June 2023, which knew functions but no tools.
            let call = if name.contains("0613") { 3 } else { 6 + end };
            Frame { text, structured: text, call, parallel: 10, chosen: Some(end) }
        }
    }
}

fn answer(
    encoding: Encoding,
    frame: &Frame,
    prompt: Option<&Prompt<'_>>,
    segments: &[&Segment],
    error: &mut f64,
) -> u64 {
    let of =
        |kinds: &[Kind]| segments.iter().filter(|s| kinds.contains(&s.kind)).copied().collect();
    let texts: Vec<&Segment> = of(&[Kind::Content, Kind::Refusal, Kind::Reasoning]);
    let names: Vec<&Segment> = of(&[Kind::ToolName]);
    let arguments: Vec<&Segment> = of(&[Kind::ToolArguments]);
    let counted = |list: &[&Segment]| list.iter().map(|s| text(encoding, s)).sum::<u64>();
    let mut tokens = counted(&texts);
    if !texts.is_empty() {
        let structured = prompt.is_some_and(|prompt| prompt.schema.is_some());
        tokens += if structured { frame.structured } else { frame.text };
    }
    match names.as_slice() {
        [] => tokens + counted(&arguments),
        [name] => {
            let arguments = counted(&arguments);
            let is_chosen = prompt.is_some_and(|p| p.tool_choice == ToolChoice::Named);
            if let Some(chosen) = frame.chosen.filter(|_| is_chosen) {
                return tokens + arguments + chosen;
            }
            let name = encoding.count(&format!("functions.{}", name.text()));
            tokens + arguments + name + frame.call
        }
        _ => {
            *error = error.max(0.05);
            tokens + calls_at_once(encoding, frame, segments)
        }
    }
}

/// Several calls are written as one of `multi_tool_use.parallel`.
fn calls_at_once(encoding: Encoding, frame: &Frame, segments: &[&Segment]) -> u64 {
    let mut text = String::from(r#"{"tool_uses":["#);
    let mut first = true;
    for segment in segments {
        match segment.kind {
            Kind::ToolName => {
                text.push_str(if first { "" } else { "}," });
                first = false;
                text.push_str(r#"{"recipient_name":"functions."#);
                text.push_str(&segment.text());
                text.push_str(r#"","parameters":"#);
            }
            Kind::ToolArguments => text.push_str(&segment.text()),
            _ => {}
        }
    }
    text.push_str("}]}");
    let beyond: u64 = segments.iter().map(|segment| segment.beyond).sum();
    encoding.count(&text) + beyond / BYTES_PER_TOKEN + frame.parallel
}

/// Bytes of a token, of text that was not kept.
const BYTES_PER_TOKEN: u64 = 4;

fn text(encoding: Encoding, segment: &Segment) -> u64 {
    encoding.count(&segment.text()) + segment.beyond / BYTES_PER_TOKEN
}
