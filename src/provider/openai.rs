//! OpenAI's dialect, which most providers speak: chat completions, completions, Responses, embeddings,
//! images, audio, rerank, and the variations that each provider adds.
//!
//! Sources: OpenAI's API reference; the variations are wire facts seen in recorded traffic, named
//! where they are read.

use crate::framing::Value;

use super::value::{count, decimal, elements, first_count, object, plus, text, usd};
use crate::units::Usd;
use crate::usage::Usage;

/// True if this is a usage object of the dialect.
pub(super) fn is_usage(usage: &Value) -> bool {
    const FIELDS: [&str; 9] = [
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cost",
        "cost_in_usd_ticks",
        "seconds",
        "prompt_audio_seconds",
    ];
    FIELDS.iter().any(|name| usage.get(name).is_some_and(|v| v.is_number() || v.is_object()))
}

/// Where others than OpenAI put the cached tokens: Together, `DeepSeek`, Mistral, and Databricks and
/// Doubleword, who repeat Anthropic's.
const CACHED_BESIDE_THE_TOTALS: [&str; 4] =
    ["cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens", "cache_read_input_tokens"];

/// Normalises a usage object. `generates`: the answer holds choices, so that tokens which stand in
/// the total only were generated.
pub(super) fn usage(usage: &Value, generates: bool) -> Usage {
    let nothing = Value::Null;
    let input_details = first_object(
        usage,
        &["prompt_tokens_details", "input_tokens_details", "input_token_details"],
    )
    .unwrap_or(&nothing);
    let output_details = first_object(
        usage,
        &["completion_tokens_details", "output_tokens_details", "output_token_details"],
    )
    .unwrap_or(&nothing);
    let mut read = Usage {
        input: first_count(usage, &["prompt_tokens", "input_tokens"]),
        cache_read: count(input_details, "cached_tokens")
            .or_else(|| first_count(usage, &CACHED_BESIDE_THE_TOTALS)),
        // Databricks and Doubleword put Anthropic's cache fields beside OpenAI's.
        cache_write: count(input_details, "cache_write_tokens")
            .or_else(|| count(usage, "cache_creation_input_tokens")),
        audio_input: count(input_details, "audio_tokens"),
        image_input: count(input_details, "image_tokens"),
        video_input: count(input_details, "video_tokens"),
        output: first_count(usage, &["completion_tokens", "output_tokens"]),
        // Copilot and Perplexity put `reasoning_tokens` beside the totals.
        reasoning: count(output_details, "reasoning_tokens")
            .or_else(|| count(usage, "reasoning_tokens")),
        audio_output: count(output_details, "audio_tokens"),
        image_output: count(output_details, "image_tokens"),
        total: count(usage, "total_tokens"),
        web_searches: web_searches(usage),
        audio_input_ms: audio_millis(usage),
        ..Usage::default()
    };
    if let Some(cached) = object(input_details, "cached_tokens_details") {
        read.cache_read_audio = count(cached, "audio_tokens");
        read.cache_read_image = count(cached, "image_tokens");
    }
    include_what_stands_outside(&mut read, generates);
    read
}

/// Moves into input and output what the provider counts beside them. Only an equation proves it: the
/// total that the provider gives.
fn include_what_stands_outside(read: &mut Usage, generates: bool) {
    // Grok on Azure, not streamed, leaves cached tokens out of the prompt and of the total: only
    // visible where they exceed it.
    if let (Some(input), Some(cached)) = (read.input, read.cache_read)
        && cached > input
    {
        read.input = Some(input + cached);
        read.total = plus(read.input, read.output);
        return;
    }
    let known = plus(read.input, read.output);
    let (Some(known), Some(total)) = (known, read.total) else {
        read.total = read.total.or(known);
        return;
    };
    let outside = total.saturating_sub(known);
    if outside == 0 {
        read.total = Some(known);
    } else if read.reasoning == Some(outside) {
        // xAI's chat completions: total = prompt + completion + reasoning.
        read.output = plus(read.output, read.reasoning);
    } else if read.audio_input == Some(outside) {
        // Mistral's voxtral: total = prompt + audio + completion.
        read.input = plus(read.input, read.audio_input);
    } else if generates {
        // Gemini's OpenAI face: thoughts stand in the total only.
        read.output = plus(read.output, Some(outside));
    }
}

fn first_object<'a>(usage: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| object(usage, name))
}

/// OpenRouter counts the searches of its server tools, Perplexity its own.
fn web_searches(usage: &Value) -> Option<u64> {
    first_object(usage, &["server_tool_use_details", "server_tool_use"])
        .and_then(|tools| count(tools, "web_search_requests"))
        .or_else(|| count(usage, "num_search_queries"))
}

/// whisper-1 reports `{"type":"duration","seconds":6}`, Mistral `prompt_audio_seconds`.
fn audio_millis(usage: &Value) -> Option<u64> {
    let by_duration = || decimal(usage, "seconds");
    let seconds = decimal(usage, "prompt_audio_seconds").or_else(by_duration)?;
    seconds.checked_mul(1000.into()).and_then(|millis| u64::try_from(millis.round()).ok())
}

/// What the provider says the call costs, in dollars.
pub(super) fn cost(usage: &Value) -> Option<Usd> {
    // xAI: ten billion ticks to the dollar.
    const TICKS_SCALE: u32 = 10;
    if let Some(ticks) = decimal(usage, "cost_in_usd_ticks") {
        let scale = rust_decimal::Decimal::new(1, TICKS_SCALE);
        return ticks.checked_mul(scale).map(Usd::new);
    }
    // Perplexity: an object. OpenRouter, Vercel, Avian: a number. `estimated_cost`, which some behind
    // Hugging Face's router send, is not what they bill.
    object(usage, "cost").and_then(|cost| usd(cost, "total_cost")).or_else(|| usd(usage, "cost"))
}

/// The first choice's finish reason.
pub(super) fn finish_reason(document: &Value) -> Option<&str> {
    let choices = elements(document, "choices");
    let first = choices.iter().find(|choice| count(choice, "index").unwrap_or(0) == 0)?;
    first.get("finish_reason")?.as_str()
}

/// The word for how a Responses object ended: why it is incomplete, else its status.
pub(super) fn response_finish(response: &Value) -> Option<&str> {
    object(response, "incomplete_details")
        .and_then(|details| text(details, "reason"))
        .or_else(|| text(response, "status"))
}
