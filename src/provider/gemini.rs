//! Google's Gemini, by its own API and on Vertex, and the Interactions API.
//!
//! Source: the Gemini API reference, `UsageMetadata`. Thoughts stand outside the candidates, the
//! prompts of tool use outside the prompt: total = prompt + tool use + candidates + thoughts.

use crate::framing::Value;

use super::value::{count, elements, plus, text};
use crate::usage::Usage;

/// Normalises `usageMetadata`. A figure that is left out is 0 where the total is given, but what the
/// provider does not break down stays unknown.
pub(super) fn usage(metadata: &Value) -> Usage {
    let tokens = |name: &str| count(metadata, name);
    let input = plus(tokens("promptTokenCount"), tokens("toolUsePromptTokenCount"));
    let reasoning = tokens("thoughtsTokenCount");
    let candidates = tokens("candidatesTokenCount").or_else(|| tokens("responseTokenCount"));
    let output = plus(candidates, reasoning);
    Usage {
        input,
        cache_read: tokens("cachedContentTokenCount"),
        audio_input: of_modality(metadata, "promptTokensDetails", "AUDIO"),
        image_input: of_modality(metadata, "promptTokensDetails", "IMAGE"),
        video_input: of_modality(metadata, "promptTokensDetails", "VIDEO"),
        cache_read_audio: of_modality(metadata, "cacheTokensDetails", "AUDIO"),
        cache_read_image: of_modality(metadata, "cacheTokensDetails", "IMAGE"),
        output,
        reasoning,
        audio_output: of_modality(metadata, "candidatesTokensDetails", "AUDIO")
            .or_else(|| of_modality(metadata, "responseTokensDetails", "AUDIO")),
        image_output: of_modality(metadata, "candidatesTokensDetails", "IMAGE")
            .or_else(|| of_modality(metadata, "responseTokensDetails", "IMAGE")),
        total: plus(input, output),
        ..Usage::default()
    }
}

/// True if the figures are of a call. A stored prompt (`cachedContents`) reports its size as a total
/// alone, which no call does.
pub(super) fn is_usage(metadata: &Value) -> bool {
    ["promptTokenCount", "candidatesTokenCount", "responseTokenCount", "thoughtsTokenCount"]
        .iter()
        .any(|name| count(metadata, name).is_some())
}

fn of_modality(metadata: &Value, details: &str, modality: &str) -> Option<u64> {
    elements(metadata, details)
        .iter()
        .filter(|entry| text(entry, "modality").is_some_and(|m| m.eq_ignore_ascii_case(modality)))
        .fold(None, |sum, entry| plus(sum, count(entry, "tokenCount").or(Some(0))))
}

/// True if this is the usage object of an interaction.
pub(super) fn is_interaction_usage(usage: &Value) -> bool {
    count(usage, "total_input_tokens").is_some() || count(usage, "total_output_tokens").is_some()
}

/// Normalises an interaction's usage: thoughts and tool use stand outside input and output.
pub(super) fn interaction_usage(usage: &Value) -> Usage {
    let tokens = |name: &str| count(usage, name);
    let input = plus(tokens("total_input_tokens"), tokens("total_tool_use_tokens"));
    let reasoning = tokens("total_thought_tokens");
    let output = plus(tokens("total_output_tokens"), reasoning);
    Usage {
        input,
        cache_read: tokens("total_cached_tokens"),
        output,
        reasoning,
        total: plus(input, output),
        ..Usage::default()
    }
}
