//! Anthropic's Messages, wherever they are spoken: the API itself, Azure, Vertex, Bedrock, OpenRouter
//! and the compatibility endpoints of other makers.
//!
//! Source: Anthropic's API reference ("Messages", "Streaming", "Prompt caching"). The prompt is
//! `input_tokens` + `cache_creation_input_tokens` + `cache_read_input_tokens`; `output_tokens`
//! includes thinking.

use super::value::{count, elements, object, plus, text};
use crate::framing::{Members, Value, put};
use crate::usage::Usage;

/// True if this is a usage object of the dialect: its cache fields are its own, and OpenAI's names
/// are absent (Doubleword sends both).
pub(super) fn is_usage(usage: &Value) -> bool {
    usage.get("prompt_tokens").is_none()
        && (usage.get("cache_creation_input_tokens").is_some()
            || usage.get("cache_read_input_tokens").is_some())
}

/// Lays the last `message_delta`'s figures over those of `message_start`: each member that is present
/// and not null wins. They are cumulative, never added.
pub(super) fn lay_over(start: Option<Value>, delta: &Value) -> Value {
    let mut merged = match start {
        Some(Value::Object(start)) => start,
        _ => Members::new(),
    };
    if let Value::Object(delta) = delta {
        for (name, value) in delta.iter().filter(|(_, value)| !value.is_null()) {
            put(&mut merged, name, value.clone());
        }
    }
    Value::Object(merged)
}

/// Normalises a usage object; with it the passes that another model made (an advisor's), which stand
/// outside its figures.
pub(super) fn usage(usage: &Value) -> (Usage, Vec<(String, Usage)>) {
    let of_type = |kind| passes_of_type(usage, kind);
    // A compaction pass stands outside the top level; the sum over the passes is what is billed.
    let mut read = if has_compaction(usage) {
        let mut sum = Usage::default();
        of_type("message").chain(of_type("compaction")).for_each(|pass| sum.add(&one_pass(pass)));
        sum
    } else {
        one_pass(usage)
    };
    read.reasoning = object(usage, "output_tokens_details")
        .and_then(|details| count(details, "thinking_tokens"));
    read.web_searches =
        object(usage, "server_tool_use").and_then(|tools| count(tools, "web_search_requests"));
    let side = of_type("advisor_message")
        .filter_map(|pass| Some((text(pass, "model")?.to_owned(), one_pass(pass))))
        .collect();
    (read, side)
}

/// True if a pass compacted the context.
pub(super) fn has_compaction(usage: &Value) -> bool {
    passes_of_type(usage, "compaction").next().is_some()
}

fn passes_of_type<'a>(usage: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    elements(usage, "iterations").iter().filter(move |pass| text(pass, "type") == Some(kind))
}

fn one_pass(usage: &Value) -> Usage {
    let written = object(usage, "cache_creation");
    let cache_read = count(usage, "cache_read_input_tokens");
    let cache_write = count(usage, "cache_creation_input_tokens");
    let input = plus(plus(count(usage, "input_tokens"), cache_read), cache_write);
    let output = count(usage, "output_tokens");
    Usage {
        input,
        cache_read,
        cache_write,
        cache_write_1h: written.and_then(|written| count(written, "ephemeral_1h_input_tokens")),
        output,
        total: plus(input, output),
        ..Usage::default()
    }
}
