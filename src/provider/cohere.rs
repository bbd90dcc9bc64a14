//! Cohere's own API, versions 1 and 2.
//!
//! Source: Cohere's API reference. `tokens` is what the model read and wrote, with the preamble and
//! the template; `billed_units` is what is charged, less. The ledger shows `tokens`, as for every
//! other provider; the billed units stay in the raw usage. Images stand outside
//! `tokens.input_tokens`.

use crate::framing::Value;

use super::value::{count, first_count, object, plus};
use crate::usage::Usage;

/// True for version 2's `usage` and version 1's `meta`, where they count tokens (rerank counts search
/// units, image embeddings images).
pub(super) fn is_usage(usage: &Value) -> bool {
    ["tokens", "billed_units"].iter().filter_map(|name| object(usage, name)).any(|units| {
        first_count(units, &["input_tokens", "output_tokens", "image_tokens"]).is_some()
    })
}

pub(super) fn usage(usage: &Value) -> Usage {
    let Some(tokens) = object(usage, "tokens").or_else(|| object(usage, "billed_units")) else {
        return Usage::default();
    };
    let images = count(tokens, "image_tokens");
    let input = plus(count(tokens, "input_tokens"), images);
    let output = count(tokens, "output_tokens");
    Usage {
        input,
        cache_read: count(usage, "cached_tokens"),
        image_input: images,
        output,
        reasoning: count(tokens, "reasoning_tokens"),
        total: plus(input, output),
        ..Usage::default()
    }
}
