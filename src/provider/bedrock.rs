//! Amazon Bedrock: Converse, and the shapes and headers of Invoke that belong to no other dialect.
//!
//! Source: the Bedrock runtime API reference (`TokenUsage`). Cache reads and writes stand outside
//! `inputTokens` and inside `totalTokens`.

use crate::framing::{Members, Value};

use super::value::{count, elements, first_count, plus};
use crate::usage::Usage;

/// True for the usage object of Converse and of Nova's Invoke.
pub(super) fn is_usage(usage: &Value) -> bool {
    count(usage, "inputTokens").is_some() || count(usage, "outputTokens").is_some()
}

/// Normalises Converse's usage object. Older SDK names end in `Count`.
pub(super) fn usage(usage: &Value) -> Usage {
    from_parts(
        count(usage, "inputTokens"),
        first_count(usage, &["cacheReadInputTokens", "cacheReadInputTokenCount"]),
        first_count(usage, &["cacheWriteInputTokens", "cacheWriteInputTokenCount"]),
        count(usage, "outputTokens"),
    )
}

/// Normalises `amazon-bedrock-invocationMetrics`, which stands in the last chunk of an Invoke stream.
pub(super) fn metrics_usage(metrics: &Value) -> Usage {
    from_parts(
        count(metrics, "inputTokenCount"),
        count(metrics, "cacheReadInputTokenCount"),
        count(metrics, "cacheWriteInputTokenCount"),
        count(metrics, "outputTokenCount"),
    )
}

fn from_parts(
    uncached: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
) -> Usage {
    let input = plus(plus(uncached, cache_read), cache_write);
    Usage { input, cache_read, cache_write, output, total: plus(input, output), ..Usage::default() }
}

/// The members of a document that hold Titan's (`inputTextTokenCount`, `results[].tokenCount`) or
/// Llama's counts (`prompt_token_count`, `generation_token_count`).
pub(super) fn invoke_counts(document: &Value) -> Option<Value> {
    let titan = ["inputTextTokenCount", "results"];
    let llama = ["prompt_token_count", "generation_token_count"];
    let names = if count(document, titan[0]).is_some() {
        titan
    } else {
        llama.iter().all(|name| count(document, name).is_some()).then_some(llama)?
    };
    let counts: Members = names
        .iter()
        .filter_map(|name| Some(((*name).into(), document.get(name)?.clone())))
        .collect();
    Some(Value::Object(counts))
}

pub(super) fn invoke_usage(counts: &Value) -> Usage {
    let generated = elements(counts, "results")
        .iter()
        .fold(None, |sum, result| plus(sum, count(result, "tokenCount")));
    let input = first_count(counts, &["inputTextTokenCount", "prompt_token_count"]);
    from_parts(input, None, None, generated.or_else(|| count(counts, "generation_token_count")))
}

/// The counts that Bedrock puts into headers of whole Invoke answers; for some models (Claude 2,
/// Cohere, AI21, Mistral) they are the only figures.
pub(super) const HEADERS: [(&str, &str); 4] = [
    ("x-amzn-bedrock-input-token-count", "inputTokenCount"),
    ("x-amzn-bedrock-output-token-count", "outputTokenCount"),
    ("x-amzn-bedrock-cache-read-input-token-count", "cacheReadInputTokenCount"),
    ("x-amzn-bedrock-cache-write-input-token-count", "cacheWriteInputTokenCount"),
];
