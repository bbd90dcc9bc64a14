//! Ollama's own API and LM Studio's.
//!
//! Sources: Ollama's API reference (`/api/chat`, `/api/generate`, `/api/embed`): the counts stand at
//! the top of the object or line with `done: true`; `prompt_eval_count` is left out when 0. LM Studio's
//! REST reference: `stats`.

use crate::framing::{Members, Value};

use super::value::{count, plus};
use crate::usage::Usage;

const COUNTERS: [&str; 6] = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
];

/// The counters of a document, as an object of their own, if it has a count.
pub(super) fn counters(document: &Value) -> Option<Value> {
    count(document, "prompt_eval_count").or_else(|| count(document, "eval_count"))?;
    let counters: Members = COUNTERS
        .iter()
        .filter_map(|name| Some(((*name).into(), document.get(name)?.clone())))
        .collect();
    Some(Value::Object(counters))
}

pub(super) fn usage(counters: &Value) -> Usage {
    let input = count(counters, "prompt_eval_count");
    let output = count(counters, "eval_count");
    Usage { input, output, total: plus(input, output), ..Usage::default() }
}

/// True if these are the statistics of LM Studio's own API, not those that its `/api/v0` sends beside
/// OpenAI's usage.
pub(super) fn is_stats(stats: &Value) -> bool {
    count(stats, "total_output_tokens").is_some()
}

pub(super) fn stats_usage(stats: &Value) -> Usage {
    let input = count(stats, "input_tokens");
    let output = count(stats, "total_output_tokens");
    let reasoning = count(stats, "reasoning_output_tokens");
    Usage { input, output, reasoning, total: plus(input, output), ..Usage::default() }
}
