//! What an answer costs besides its text: the token that ends it, channels, calls of tools. All
//! measured on recorded answers with their reported counts (2023 to 2026), most of them exact to the
//! token on every answer seen; what was reasoned and not shown is never guessed.

use super::generation::{Generation, api_asked, generation, is_router};
use super::{bare, counted_in_old_vocabulary, is_old};
use crate::estimate::prompt::{Api, Prompt, ToolChoice};
use crate::estimate::{Encoding, Estimate, Method, Subject, Unseen};
use crate::provider::{Generated, Kind, Segment};

/// What routers raise limits to.
const LEAST_LIMIT: u64 = 16;

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
    if generation == Generation::Base || subject.endpoint == "completions" {
        let texts = generated.segments().iter();
        estimate.tokens = texts.map(|segment| text(encoding, segment)).sum();
        if is_old(&name) {
            estimate.tokens = counted_in_old_vocabulary(estimate.tokens);
            (estimate.error, estimate.method) = (0.1, Method::Ratio);
        }
    } else {
        let frame = frame(subject, generation, &name, prompt);
        let segments = by_choice(generated);
        for segments in segments.chunk_by(|one, next| one.choice == next.choice) {
            estimate.tokens += answer(encoding, &frame, prompt, segments, &mut estimate.error);
        }
    }
    let may_reason = prompt.is_none_or(|prompt| prompt.effort != Some("none"));
    if may_reason && matches!(generation, Generation::O | Generation::Gpt5) {
        estimate.unseen.push(Unseen::Reasoning);
        estimate.error = estimate.error.max(0.3);
    }
    // A limit holds for each choice. Routers raise it where a provider asks for more (recorded: 16).
    let least = if is_router(subject.provider) { LEAST_LIMIT } else { 1 };
    if let Some(most) = prompt.and_then(|prompt| prompt.most).map(|most| most.max(least)) {
        estimate.tokens = estimate.tokens.min(most.saturating_mul(distinct(generated)));
    }
    if generated.segments().iter().any(|segment| segment.beyond > 0) {
        estimate.unseen.push(Unseen::Length);
        estimate.error = estimate.error.max(0.1);
    }
    estimate
}

/// The segments of each choice one after the other, in the order in which they came.
fn by_choice(generated: &Generated) -> Vec<&Segment> {
    let mut segments: Vec<&Segment> = generated.segments().iter().collect();
    segments.sort_by_key(|segment| segment.choice);
    segments
}

/// The choices of which something was seen, at least one.
fn distinct(generated: &Generated) -> u64 {
    let segments = by_choice(generated);
    segments.chunk_by(|one, next| one.choice == next.choice).count().max(1) as u64
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
    let others = matches!(subject.provider, "azure" | "copilot") || name.starts_with("gpt-4.5");
    let end = u64::from(api == Api::Responses || others || is_session);
    let has_tools = prompt
        .is_some_and(|prompt| !prompt.tools.is_empty() && prompt.tool_choice != ToolChoice::None);
    match generation {
        Generation::Gpt5 => {
            let codex = if name.contains("codex") { 2 } else { 0 };
            let text = 3 + end + codex;
            let text = if name.contains("-chat") { 10 } else { text };
            let is_first = name == "gpt-5" || name.starts_with("gpt-5-");
            let call = match api {
                Api::Chat => 15 + end,
                _ if is_first || codex > 0 => 12,
                _ => 10,
            };
            Frame { text, structured: 7 + codex, call, parallel: 14, chosen: None }
        }
        Generation::O if name.starts_with("computer-use") => {
            Frame { text: 2, structured: 2, call: 8, parallel: 10, chosen: None }
        }
        Generation::O => {
            let text = match api {
                Api::Responses => 6,
                _ if name.starts_with("o4") => 12,
                _ => 10,
            };
            Frame { text, structured: text, call: 12, parallel: 14, chosen: None }
        }
        _ => {
            let text = end + u64::from(has_tools) + u64::from(is_session);
            // GPT-4 of June 2023, which knew functions but no tools.
            let call = if name.contains("0613") { 3 } else { 6 + end };
            // With tools, a schema makes the answer say its channel (one recorded answer).
            let structured = if has_tools { text + 4 } else { text };
            Frame { text, structured, call, parallel: 10 + end, chosen: Some(end) }
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
        tokens += u64::from(texts.iter().any(|text| text.kind == Kind::Refusal));
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
            tokens + calls_at_once(encoding, frame, &names, &arguments)
        }
    }
}

/// Several calls are written as one of `multi_tool_use.parallel`. In some answers a call's arguments
/// stand before its name.
fn calls_at_once(
    encoding: Encoding,
    frame: &Frame,
    names: &[&Segment],
    arguments: &[&Segment],
) -> u64 {
    let mut text = String::from(r#"{"tool_uses":["#);
    for (at, name) in names.iter().enumerate() {
        text.push_str(if at > 0 { "," } else { "" });
        text.push_str(r#"{"recipient_name":"functions."#);
        text.push_str(&name.text());
        text.push_str(r#"","parameters":"#);
        if let Some(arguments) = arguments.get(at) {
            text.push_str(&arguments.text());
        }
        text.push('}');
    }
    text.push_str("]}");
    let beyond: u64 = arguments.iter().map(|segment| segment.beyond).sum();
    // Blanks between the arguments' words were as freely spent around them.
    let blanks = if text.contains("\": ") { SPACED } else { 0 };
    (encoding.count(&text) + beyond / BYTES_PER_TOKEN + frame.parallel).saturating_sub(blanks)
}

/// Tokens that calls at once take less where the model wrote blanks (one recorded answer).
const SPACED: u64 = 5;

/// Bytes of a token, of text that was not kept.
const BYTES_PER_TOKEN: u64 = 4;

fn text(encoding: Encoding, segment: &Segment) -> u64 {
    encoding.count(&segment.text()) + segment.beyond / BYTES_PER_TOKEN
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::estimate::{answer, output};

    fn generated(pieces: &[(Kind, &str)]) -> Generated {
        let mut generated = Generated::default();
        for (kind, text) in pieces {
            generated.push(0, *kind, text.as_bytes(), false);
        }
        generated
    }

    fn subject<'a>(provider: &'a str, endpoint: &'a str, model: &'a str) -> Subject<'a> {
        Subject { provider, endpoint, model }
    }

    #[test]
    fn what_ends_an_answer_counts_where_the_host_counts_it() {
        let hello = generated(&[(Kind::Content, "Hello world")]);
        let cases = [
            ("openai", "chat.completions", "gpt-4o", 2),
            ("azure", "chat.completions", "gpt-4o", 3),
            ("openai", "responses", "gpt-4o", 3),
            ("openai", "chat.completions", "gpt-5.6-sol", 5),
            ("openai", "responses", "gpt-5.6-sol", 6),
            ("openai", "completions", "gpt-3.5-turbo-instruct", 2),
        ];
        for (provider, endpoint, model, tokens) in cases {
            let estimate = output(&subject(provider, endpoint, model), &hello).unwrap();
            assert_eq!(estimate.tokens, tokens, "{provider} {endpoint} {model}");
            let reasons = model.starts_with("gpt-5");
            assert_eq!(estimate.unseen.contains(&Unseen::Reasoning), reasons);
        }
    }

    /// Recorded: 10 tokens at Azure, where the call was forced.
    #[test]
    fn a_call_that_was_forced_does_not_name_its_tool() {
        let call = generated(&[(Kind::ToolName, "add"), (Kind::ToolArguments, r#"{"a":2,"b":3}"#)]);
        let subject = subject("azure", "chat.completions", "gpt-4.1-nano");
        let tool = json!({"type": "function", "function": {"name": "add"}});
        let forced = json!({"messages": [], "tools": [tool], "tool_choice": tool});
        let free = json!({"messages": [], "tools": [tool]});
        let tokens = |request| answer(&subject, Some(request), &call, None).unwrap().tokens;
        assert_eq!(tokens(&forced), 10);
        assert_eq!(tokens(&free), 9 + 2 + 7);
    }

    /// Recorded: 58 tokens, the arguments before the names.
    #[test]
    fn calls_at_once_are_one_call() {
        let first = r#"{\"confidence\": 0.9, \"sentiment\": 1}"#;
        let second = r#"{\"confidence\": 0.8, \"sentiment\": -1}"#;
        let calls = generated(&[
            (Kind::ToolArguments, first),
            (Kind::ToolName, "submit"),
            (Kind::ToolArguments, second),
            (Kind::ToolName, "submit"),
        ]);
        let subject = subject("copilot", "chat.completions", "gpt-4o-mini");
        assert_eq!(output(&subject, &calls).unwrap().tokens, 58);
    }

    #[test]
    fn choices_whose_pieces_come_by_turns_are_each_counted_whole() {
        let mut by_turns = Generated::default();
        for (choice, text) in [(1, "Hel"), (0, "Hel"), (1, "lo"), (0, "lo world"), (1, " world")] {
            by_turns.push(choice, Kind::Content, text.as_bytes(), false);
        }
        let hello = generated(&[(Kind::Content, "Hello world")]);
        let subject = subject("azure", "chat.completions", "gpt-4o");
        let tokens = |generated| output(&subject, generated).unwrap().tokens;
        assert_eq!(tokens(&by_turns), 2 * tokens(&hello));
    }

    #[test]
    fn an_answer_is_no_longer_than_allowed() {
        let hello = generated(&[(Kind::Content, "Hello world")]);
        let subject = subject("azure", "chat.completions", "gpt-4o");
        let request = json!({"messages": [], "max_tokens": 1});
        assert_eq!(answer(&subject, Some(&request), &hello, None).unwrap().tokens, 1);
    }
}
