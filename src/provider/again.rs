//! A usage object that was kept, read again without the answer that it stood in. Owns which dialects an
//! object may be of; each dialect's own file says what its figures mean.
//!
//! Invariant: what [`super::Reader`] made of an object is among the readings that are tried.

use crate::framing::Value;

use super::reader::Reading;
use super::value::{count, text};
use super::{anthropic, bedrock, cohere, gemini, ollama, openai};
use crate::usage::Usage;

/// The likeliest reading of a usage object (`usage_json` of a row) whose figures are the right ones. Of
/// what stood beside the object in the answer (model, finish reason, id) it knows nothing.
pub fn read_again(raw: &Value, is_right: impl Fn(&Usage) -> bool) -> Option<Reading> {
    readings(raw).into_iter().find(|reading| is_right(&reading.usage))
}

/// True if some reading of the object tells of something that no column of a row holds.
pub fn tells_more_than_columns(raw: &Value) -> bool {
    readings(raw).iter().any(|reading| {
        let Usage { cache_write_1h, video_input, cache_read_audio, cache_read_image, .. } =
            reading.usage;
        let hidden = [
            cache_write_1h,
            video_input,
            cache_read_audio,
            cache_read_image,
            reading.usage.web_searches,
            reading.usage.audio_input_ms,
        ];
        let counts = hidden.into_iter().flatten().any(|count| count > 0);
        counts || !reading.side.is_empty() || reading.several_turns || reading.speed.is_some()
    })
}

/// Every reading that the object may have had, in the order in which [`super::Reader`] tries shapes.
fn readings(raw: &Value) -> Vec<Reading> {
    let mut all = Vec::new();
    let mut add = |usage| all.push(Reading { usage, ..Reading::default() });
    let has = |names: &[&str]| names.iter().any(|name| count(raw, name).is_some());
    if gemini::is_usage(raw) {
        add(gemini::usage(raw));
    }
    if gemini::is_interaction_usage(raw) {
        add(gemini::interaction_usage(raw));
    }
    if bedrock::is_usage(raw) {
        add(bedrock::usage(raw));
    }
    if bedrock::HEADERS.iter().any(|(_, name)| count(raw, name).is_some()) {
        add(bedrock::metrics_usage(raw));
    }
    if let Some(counts) = bedrock::invoke_counts(raw) {
        add(bedrock::invoke_usage(&counts));
    }
    if cohere::is_usage(raw) {
        add(cohere::usage(raw));
    }
    if has(&["prompt_eval_count", "eval_count"]) {
        add(ollama::usage(raw));
    }
    if ollama::is_stats(raw) {
        add(ollama::stats_usage(raw));
    }
    let of_anthropic =
        if has(&["input_tokens", "output_tokens"]) { anthropic(raw) } else { vec![] };
    let of_openai = if openai::is_usage(raw) { openai(raw) } else { vec![] };
    // A plain object of Anthropic's looks like one of the Responses API.
    let is_anthropic = anthropic::is_usage(raw)
        || ["iterations", "speed"].iter().any(|name| raw.get(name).is_some());
    let both = if is_anthropic { [of_anthropic, of_openai] } else { [of_openai, of_anthropic] };
    all.extend(both.into_iter().flatten());
    for reading in &mut all {
        reading.cost = openai::cost(raw);
    }
    all
}

/// As a whole, and as the start of a message, whose output is provisional.
fn anthropic(raw: &Value) -> Vec<Reading> {
    let (usage, side) = anthropic::usage(raw);
    let start = Usage { output: None, total: None, ..usage.clone() };
    let reading = |usage| Reading {
        usage,
        side: side.clone(),
        several_turns: anthropic::has_compaction(raw),
        speed: text(raw, "speed").filter(|speed| *speed != "standard").map(str::to_owned),
        ..Reading::default()
    };
    vec![reading(usage), reading(start)]
}

/// With and without choices beside it.
fn openai(raw: &Value) -> Vec<Reading> {
    let reading =
        |generates| Reading { usage: openai::usage(raw, generates), ..Reading::default() };
    vec![reading(true), reading(false)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_figure_that_the_columns_hold_decides_between_two_readings() {
        // Thoughts stand in the total only, if there were choices.
        let raw = json!({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 10}).into();
        for output in [5, 2] {
            let reading = read_again(&raw, |usage| usage.output == Some(output)).unwrap();
            assert_eq!((reading.usage.input, reading.usage.total), (Some(5), Some(10)));
        }
        assert!(read_again(&raw, |usage| usage.output == Some(7)).is_none());
        assert!(!tells_more_than_columns(&raw));
    }

    #[test]
    fn what_no_column_holds_is_found_again() {
        let raw = json!({
            "input_tokens": 10, "output_tokens": 4, "cache_creation_input_tokens": 6,
            "cache_creation": {"ephemeral_1h_input_tokens": 6}, "speed": "fast",
            "server_tool_use": {"web_search_requests": 2},
            "iterations": [{"type": "advisor_message", "model": "m", "input_tokens": 3}],
        })
        .into();
        let reading = read_again(&raw, |usage| usage.total == Some(20)).unwrap();
        assert_eq!(reading.usage.cache_write_1h, Some(6));
        assert_eq!(reading.usage.web_searches, Some(2));
        assert_eq!(reading.speed.as_deref(), Some("fast"));
        assert_eq!(reading.side.len(), 1);
        assert!(tells_more_than_columns(&raw));
        // The start of a message that was cut off: its output is not known.
        assert!(read_again(&raw, |usage| usage.output.is_none()).is_some());
    }

    #[test]
    fn what_is_no_usage_has_no_reading() {
        for raw in [json!({}), json!([1]), json!({"tokens": 5}), json!({"totalTokenCount": 5})] {
            assert!(read_again(&raw.clone().into(), |_| true).is_none(), "{raw}");
        }
    }
}
